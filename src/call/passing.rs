//! Codecs that only pass from leg to leg: both legs that talk have such a codec, or neither.
//!
//! A far leg is offered it where the near one's peer offered it, and the near one answers with what the far one chose.
//! As soon as somebody else is to hear or to be heard, or one of the two changes its codec, the other one is offered codecs
//! that everybody has.

use crate::call::Call;
use crate::call::State;
use crate::call::input::AudioPath;
use crate::call::input::Output;
use crate::call::leg::Passing;
use crate::call::line::Line;
use crate::call::record::Recording;
use crate::call::setup::Origin;
use crate::call::setup::Partner;
use crate::call::side::LegSide;
use crate::types::cause::HangupCause;
use crate::types::cause::Party;
use crate::types::moment::Moment;

/// What an offer is judged by before anybody was dialled: another leg may have the codec too.
const TO_BE_SEEN: Passing = Passing::May { annex_b: true };

impl Call {
    /// Whether a caller's offer of nothing but such a codec is hopeless depends on whom it is to talk with.
    pub(super) const fn expect_passing(&mut self) {
        if matches!(self.setup.origin, Origin::Inbound) && self.has_partner_leg() {
            self.near.expect_passing(TO_BE_SEEN);
        }
    }

    /// A partner's leg may have what the caller offered.
    pub(super) fn pass_to(&mut self, side: LegSide) {
        let passing = self.near.passing_offered();
        if let Some(line) = self.line_mut(side) {
            line.expect_passing(passing);
        }
    }

    /// Lets each leg agree on such a codec that talks with one that has it, and no other leg.
    pub(super) fn match_codecs(&mut self, out: &mut Vec<Output>) {
        if self.state == State::Idle {
            return;
        }
        let pair = self.passing_pair();
        let near_passes = self.near.passes().is_some();
        let near_may = near_passes || !self.near.is_answered();
        let chosen = pair.and_then(|side| self.line(side)).and_then(Line::passes);
        self.near.allow_passing(only(chosen.filter(|_| near_may)), out);
        if pair.is_none() && near_passes {
            // One after the other: where the near one keeps to it, the two talk on.
            return;
        }
        for side in [LegSide::Far, LegSide::Third] {
            let may = pair == Some(side) && near_may;
            let Some(line) = self.line_mut(side) else { continue };
            if line.is_answered() || !may {
                line.allow_passing(only(line.passes().filter(|_| may)), out);
            }
        }
    }

    /// Ends a call of which one side is left with a codec that the other has not.
    pub(super) fn end_if_apart(&mut self, now: Moment, out: &mut Vec<Output>) {
        let (far, sticks) = match self.wanted_path() {
            AudioPath::Bridge(side) => {
                let far = self.line(side);
                (far.and_then(Line::passes), far.is_some_and(Line::sticks))
            }
            AudioPath::Agent(LegSide::Near) => (None, false),
            AudioPath::Agent(_)
            | AudioPath::Others
            | AudioPath::Early(_)
            | AudioPath::Waiting(_)
            | AudioPath::Apart => return,
        };
        let is_apart = self.near.passes().is_some() != far.is_some();
        if is_apart && (sticks || self.near.sticks()) {
            self.end(now, HangupCause::NoCommonCodec, Party::Switch, out);
        }
    }

    /// The far leg that may have such a codec together with the near one: nobody else hears them, or is heard.
    fn passing_pair(&self) -> Option<LegSide> {
        let side = match self.state {
            State::Opening if self.has_partner_leg() => self.partner_side,
            State::Joining(joining) if joining.is_for_partner() => joining.target,
            State::Bridged(far, _) => far,
            State::Idle
            | State::Opening
            | State::Calling
            | State::Asking
            | State::Talking
            | State::Announcing(_)
            | State::Joining(_)
            | State::Referring(_)
            | State::Consulting(_)
            | State::Handing(_)
            | State::Handed(_)
            | State::Ending(_)
            | State::Over => return None,
        };
        let is_alone = self.supervisors.is_empty()
            && self.steered.recording == Recording::Off
            && !self.steered.plays();
        is_alone.then_some(side)
    }

    const fn has_partner_leg(&self) -> bool {
        match self.setup.partner {
            Partner::AgentLeg(_) | Partner::Forward(_) => true,
            Partner::Agent => false,
        }
    }
}

const fn only(chosen: Option<bool>) -> Passing {
    match chosen {
        Some(annex_b) => Passing::Only { annex_b },
        None => Passing::Never,
    }
}
