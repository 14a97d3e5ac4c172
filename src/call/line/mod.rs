//! One line of a call: the signalling of its leg, offer and answer, and its media.

mod dialling;
mod early;
mod keys;
mod media;
mod session;

use crate::call::dial::DialRequest;
use crate::call::dial::KeyWay;
use crate::call::dial::LegTerms;
use crate::call::event::CallEvent;
use crate::call::input::LegInput;
use crate::call::input::LegOutput;
use crate::call::input::MediaOutput;
use crate::call::input::Output;
use crate::call::leg::Leg;
use crate::call::leg::Passing;
use crate::call::leg::Place;
use crate::call::line::keys::SignalledKeys;
use crate::call::news::LineNews;
use crate::call::side::LegSide;
use crate::routing::signalling::Progress;
use crate::sdp::Direction;
use crate::sdp::MediaPlan;
use crate::types::cause::HangupCause;
use crate::types::cause::Party;
use crate::types::id::TrunkId;
use crate::types::moment::Moment;
use bytes::Bytes;

/// Session Progress: what comes with early media.
const SESSION_PROGRESS: u16 = 183;
/// Decline: the answer to a peer that may not ask for somebody else.
const DECLINE: u16 = 603;

/// One line of a call.
#[derive(Debug)]
pub(super) struct Line {
    side: LegSide,
    leg: Leg,
    place: Option<Place>,
    stage: Stage,
    media: MediaStage,
    dtmf_info: bool,
    delayed_offer: bool,
    transfers: bool,
    joined_by: Option<TrunkId>,
    hold: Direction,
    progress: Progress,
    keys: KeyWay,
    /// The peer holds us.
    held: bool,
    /// We hold the peer.
    holding: bool,
    playing: bool,
    /// Which of its dialogs it is.
    turn: u8,
    /// The last of them that was answered.
    turn_last: u8,
    aside: Option<Box<Aside>>,
    /// The offer of the party dialled that we answered before it took the call.
    moved: Option<Bytes>,
    /// With what the party dialled refused.
    refused_with: Option<u16>,
    /// Its peer keeps to a codec that it shall not have any more.
    sticks: bool,
}

/// What few lines have.
#[derive(Debug, Default)]
struct Aside {
    /// What it was before the present dialog, until that is known to be there.
    before: Option<Box<Before>>,
    keys: SignalledKeys,
}

/// A line before another dialog took it over.
#[derive(Debug)]
struct Before {
    leg: Leg,
    session: Session,
    turn: u8,
}

/// Where the signalling of a line stands.
#[derive(Debug)]
enum Stage {
    /// Nothing happened yet.
    Idle,
    /// A carrier calls by it.
    Offered { offer: Option<Bytes>, told: Option<u16>, audible: bool },
    /// It is dialled as soon as its media runs.
    Preparing(Box<DialRequest>),
    /// It is dialled.
    Dialling(Early),
    /// It is answered.
    Answered(Session),
    /// It is over for its peer or for us.
    Gone,
}

/// What can be heard of a party that did not answer yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Early {
    /// Its early media.
    audible: bool,
    /// That it rings, by a tone of ours.
    rings: bool,
}

/// What is pending on an answered line.
#[derive(Clone, Copy, Debug, Default)]
struct Session {
    /// The peer has our answer, or we have the peer's.
    acknowledged: bool,
    /// An offer of ours waits for its answer in an acknowledgement.
    offer_pending: bool,
    /// A new offer of ours waits for its answer.
    reoffering: bool,
    /// Another one shall follow.
    reoffer_wanted: bool,
    /// How many in a row were refused.
    refusals: u8,
    /// When the one refused last is made anew.
    again_at: Option<Moment>,
}

/// Where the media of a line stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum MediaStage {
    Closed,
    Reserving,
    Opening,
    Open,
    Closing,
}

impl Line {
    /// A line by which a carrier may call.
    pub(super) fn inbound(side: LegSide, terms: &LegTerms) -> Self {
        Self::new(side, terms, Stage::Idle)
    }

    /// A line that is dialled as soon as [`Self::reserve`] led to media.
    pub(super) fn outbound(side: LegSide, request: Box<DialRequest>) -> Self {
        let terms = request.terms.clone();
        Self::new(side, &terms, Stage::Preparing(request))
    }

    fn new(side: LegSide, terms: &LegTerms, stage: Stage) -> Self {
        Self {
            side,
            leg: Leg::of(terms),
            place: None,
            stage,
            media: MediaStage::Closed,
            dtmf_info: terms.dtmf_info,
            delayed_offer: terms.delayed_offer,
            transfers: terms.transfers,
            joined_by: terms.joined_by,
            hold: terms.hold,
            progress: terms.progress,
            keys: terms.keys,
            held: false,
            holding: false,
            playing: false,
            turn: 0,
            turn_last: 0,
            aside: None,
            moved: None,
            refused_with: None,
            sticks: false,
        }
    }

    /// The final status of the party dialled, where it gave one and did not take the call.
    pub(super) const fn refused_with(&self) -> Option<u16> {
        self.refused_with
    }

    /// What its answers and offers may hold from now on, as long as nothing is agreed.
    pub(super) const fn expect_passing(&mut self, passing: Passing) {
        self.leg.pass(passing);
    }

    /// What a leg may have that is to talk with the caller of this one.
    pub(super) fn passing_offered(&self) -> Passing {
        match &self.stage {
            Stage::Offered { offer: Some(offer), .. } => self.leg.passing_of(offer),
            Stage::Offered { offer: None, .. }
            | Stage::Idle
            | Stage::Preparing(_)
            | Stage::Dialling(_)
            | Stage::Answered(_)
            | Stage::Gone => Passing::Never,
        }
    }

    /// Whether a codec is agreed on that only passes: with frames of noise or without.
    pub(super) fn passes(&self) -> Option<bool> {
        self.leg.passes().filter(|_| !self.is_gone())
    }

    /// Whether its peer keeps to such a codec, though it was offered others.
    pub(super) const fn sticks(&self) -> bool {
        self.sticks
    }

    /// Such a codec may be agreed on, or not any more: then its peer is offered others.
    pub(super) fn allow_passing(&mut self, passing: Passing, out: &mut Vec<Output>) {
        if self.leg.passing() == passing {
            return;
        }
        self.leg.pass(passing);
        if passing == Passing::Never && self.leg.passes().is_some() {
            self.reoffer(out);
        }
    }

    /// Which of its dialogs it is, where others took it over.
    pub(super) const fn turn(&self) -> u8 {
        self.turn
    }

    /// True while the early media of the party dialled can be heard.
    pub(super) const fn is_audible(&self) -> bool {
        matches!(self.stage, Stage::Dialling(Early { audible: true, .. }))
    }

    /// True while a caller shall hear that the party dialled rings.
    pub(super) const fn rings(&self) -> bool {
        matches!(self.stage, Stage::Dialling(Early { rings: true, .. }))
    }

    /// True while the caller was promised early media.
    pub(super) const fn hears_early(&self) -> bool {
        matches!(self.stage, Stage::Offered { audible: true, .. })
    }

    pub(super) const fn is_answered(&self) -> bool {
        matches!(self.stage, Stage::Answered(_))
    }

    pub(super) const fn is_gone(&self) -> bool {
        matches!(self.stage, Stage::Gone)
    }

    /// True while a caller waits for our answer.
    pub(super) const fn is_offered(&self) -> bool {
        matches!(self.stage, Stage::Offered { .. })
    }

    /// True when no media is open and none will be.
    pub(super) fn is_closed(&self) -> bool {
        self.media == MediaStage::Closed
    }

    /// The trunk whose carrier may be asked to connect its peer with another's.
    pub(super) const fn joined_by(&self) -> Option<TrunkId> {
        self.joined_by
    }

    /// True while we hold the peer.
    pub(super) const fn is_holding(&self) -> bool {
        self.holding
    }

    /// True while the peer holds us.
    pub(super) const fn is_held(&self) -> bool {
        self.held
    }

    /// True where there is a way of keys to the peer: events, tones where it takes none, or signalling.
    pub(super) fn takes_keys(&self) -> bool {
        let hears = |plan: &MediaPlan| plan.dtmf_send.is_some() || !plan.codec.is_passed();
        match self.keys {
            KeyWay::Media => self.leg.plan().is_some_and(hears),
            KeyWay::Signalling { .. } => true,
        }
    }

    fn say(&self, output: LegOutput, out: &mut Vec<Output>) {
        out.push(Output::Leg(self.side, output));
    }

    fn run(&self, output: MediaOutput, out: &mut Vec<Output>) {
        out.push(Output::Media(self.side, output));
    }

    /// Asks for media.
    pub(super) fn reserve(&mut self, out: &mut Vec<Output>) {
        if self.media == MediaStage::Closed {
            self.media = MediaStage::Reserving;
            self.run(MediaOutput::Reserve, out);
        }
    }

    /// Lets be heard what was held back.
    pub(super) fn start_playout(&mut self, out: &mut Vec<Output>) {
        if !self.playing {
            self.playing = true;
            self.run(MediaOutput::StartPlayout, out);
        }
    }

    /// Closes the media if any was asked for.
    pub(super) fn close_media(&mut self, out: &mut Vec<Output>) {
        match self.media {
            MediaStage::Reserving | MediaStage::Opening | MediaStage::Open => {
                self.media = MediaStage::Closing;
                self.run(MediaOutput::Close, out);
            }
            MediaStage::Closed | MediaStage::Closing => (),
        }
    }

    /// Tells a caller how far its call got. Early media is promised where the caller made an offer; once
    /// it was, a bare progress takes nothing back.
    pub(super) fn progress(&mut self, status: u16, with_media: bool, out: &mut Vec<Output>) {
        let Stage::Offered { offer, told, audible } = &mut self.stage else { return };
        if *audible {
            return;
        }
        let promise = offer.as_ref().filter(|_| with_media);
        let body = promise.and_then(|offer| self.leg.answer(offer).ok());
        let status = if body.is_some() { SESSION_PROGRESS } else { status };
        if *told == Some(status) {
            return;
        }
        if told.is_none() {
            out.push(Output::Record(CallEvent::Ringing));
        }
        *told = Some(status);
        *audible = body.is_some();
        let audible = *audible;
        self.say(LegOutput::Progress { status, body }, out);
        if audible {
            self.run_plan(out);
            self.start_playout(out);
        }
    }

    /// Answers the caller; without an offer of its own it gets ours.
    ///
    /// # Errors
    /// What is wrong with the offer; nothing was said then.
    pub(super) fn answer(&mut self, out: &mut Vec<Output>) -> Result<(), HangupCause> {
        let Stage::Offered { offer, .. } = &self.stage else {
            return Err(HangupCause::SwitchFault);
        };
        let offer_pending = offer.is_none();
        let body = match offer {
            Some(offer) => self.leg.answer(offer)?,
            None => self.leg.offer()?,
        };
        self.say(LegOutput::Answer(body), out);
        self.stage = Stage::Answered(Session { offer_pending, ..Session::default() });
        if !offer_pending {
            self.note_answer(out);
            self.run_plan(out);
        }
        Ok(())
    }

    /// Refuses the caller; `is_theirs` where somebody whom it was to be connected with does.
    pub(super) fn refuse(
        &mut self,
        (cause, status): (HangupCause, u16),
        is_theirs: bool,
        out: &mut Vec<Output>,
    ) {
        self.stage = Stage::Gone;
        self.say(LegOutput::Refuse { cause, status, is_theirs }, out);
        out.push(Output::Record(CallEvent::Refused { cause, status }));
    }

    /// Ends the line from our side, in whatever stage it is.
    pub(super) fn hang_up(&mut self, cause: HangupCause, out: &mut Vec<Output>) {
        match std::mem::replace(&mut self.stage, Stage::Gone) {
            Stage::Dialling(_) | Stage::Offered { .. } => {
                self.say(LegOutput::HangUp(cause), out);
            }
            Stage::Answered(_) => {
                self.say(LegOutput::HangUp(cause), out);
                self.note_last_keys(out);
                self.note_end(cause, Party::Switch, out);
            }
            Stage::Idle | Stage::Preparing(_) | Stage::Gone => (),
        }
    }

    /// Asks the carrier for a transfer, or reports on one of its own.
    pub(super) fn ask(&self, output: LegOutput, out: &mut Vec<Output>) {
        if self.is_answered() {
            self.say(output, out);
        }
    }

    /// Refuses the peer's wish for somebody else.
    pub(super) fn decline(&self, out: &mut Vec<Output>) {
        self.say(LegOutput::RefuseRefer { status: DECLINE }, out);
        out.push(Output::Record(CallEvent::TransferRefused(self.side)));
    }

    /// Holds the peer, or takes it back.
    pub(super) fn hold(&mut self, holding: bool, out: &mut Vec<Output>) {
        if self.is_answered() && self.holding != holding {
            self.holding = holding;
            let direction = if holding { self.hold } else { Direction::SendReceive };
            self.leg.direct(direction);
            if let Stage::Answered(session) = &mut self.stage {
                session.refusals = 0;
            }
            self.reoffer(out);
        }
    }

    /// Offers anew, as soon as no other offer is under way.
    pub(super) fn reoffer(&mut self, out: &mut Vec<Output>) {
        let Stage::Answered(session) = &mut self.stage else { return };
        session.again_at = None;
        if session.reoffering || session.offer_pending || !session.acknowledged {
            session.reoffer_wanted = true;
        } else if let Ok(offer) = self.leg.offer() {
            session.reoffering = true;
            session.reoffer_wanted = false;
            self.say(LegOutput::Reoffer(offer), out);
            self.expect(out);
        }
    }

    /// True while the peer may be yet to agree to the end of a hold in which nothing is sent: it hears nothing before.
    pub(super) const fn comes_back_unheard(&self) -> bool {
        match &self.stage {
            Stage::Answered(session) => {
                let offers =
                    session.reoffering || session.reoffer_wanted || session.again_at.is_some();
                offers && !self.hold.sends()
            }
            Stage::Idle
            | Stage::Offered { .. }
            | Stage::Preparing(_)
            | Stage::Dialling(_)
            | Stage::Gone => false,
        }
    }

    /// When an offer that was refused is made anew.
    pub(super) const fn reoffers_at(&self) -> Option<Moment> {
        match &self.stage {
            Stage::Answered(session) => session.again_at,
            Stage::Idle
            | Stage::Offered { .. }
            | Stage::Preparing(_)
            | Stage::Dialling(_)
            | Stage::Gone => None,
        }
    }

    /// Makes an offer anew that was refused, once it is time.
    pub(super) fn reoffer_due(&mut self, now: Moment, out: &mut Vec<Output>) {
        if self.reoffers_at().is_some_and(|at| at <= now) {
            self.reoffer(out);
        }
    }

    /// Which keys of the peer take effect that its signalling tells.
    fn signalled_keys(&mut self) -> &mut SignalledKeys {
        let events = self.leg.plan().is_some_and(|plan| plan.dtmf_receive.is_some());
        let keys = &mut self.aside.get_or_insert_default().keys;
        keys.expect_events(events);
        keys
    }

    /// When keys that signalling told take effect, unless the media tell them before.
    pub(super) fn keys_due_at(&self) -> Option<Moment> {
        let aside = self.aside.as_ref().filter(|_| self.is_answered())?;
        aside.keys.until()
    }

    /// Has the record name the keys that still wait where the peer is gone: they change nothing any more.
    fn note_last_keys(&mut self, out: &mut Vec<Output>) {
        let Some(aside) = &mut self.aside else { return };
        for digit in aside.keys.take_all() {
            self.note_key(digit, out);
        }
    }

    /// The next key that signalling told and the media did not in time. To be asked until there is none.
    pub(super) fn key_due(&mut self, now: Moment, out: &mut Vec<Output>) -> Option<LineNews> {
        let is_answered = self.is_answered();
        let keys = &mut self.aside.as_mut()?.keys;
        if !is_answered {
            keys.forget();
        }
        let digit = keys.take_due(now)?;
        self.note_key(digit, out);
        Some(LineNews::Keyed(digit))
    }

    /// Takes what happened to the signalling.
    pub(super) fn signalled(
        &mut self,
        now: Moment,
        input: LegInput,
        out: &mut Vec<Output>,
    ) -> Option<LineNews> {
        match self.stage {
            Stage::Idle => self.while_idle(input),
            Stage::Offered { .. } => self.while_offered(input, out),
            Stage::Preparing(_) | Stage::Gone => self.while_silent(&input, out),
            Stage::Dialling(early) => self.while_dialling(early, input, out),
            Stage::Answered(session) => self.while_answered((now, session), input, out),
        }
    }

    fn while_idle(&mut self, input: LegInput) -> Option<LineNews> {
        let LegInput::Offered(offer) = input else { return None };
        // A hopeless offer is refused before anything is reserved for it.
        let check = offer.as_ref().map_or(Ok(()), |offer| self.leg.check(offer));
        self.stage = Stage::Offered { offer, told: None, audible: false };
        Some(check.err().map_or(LineNews::Offered, LineNews::Broken))
    }

    fn while_offered(&mut self, input: LegInput, out: &mut Vec<Output>) -> Option<LineNews> {
        match input {
            LegInput::Cancelled => {
                self.stage = Stage::Gone;
                Some(LineNews::Cancelled)
            }
            LegInput::Ended { cause, by } => {
                self.stage = Stage::Gone;
                Some(LineNews::Ended { cause, by })
            }
            LegInput::Reoffered(offer) => {
                self.reoffered_unanswered(offer, out);
                None
            }
            LegInput::Referred(_) => {
                self.decline(out);
                None
            }
            // RFC 3891 §3: only who began an early dialog may be told to give it up.
            LegInput::Replaced(..) => {
                self.say(LegOutput::RefuseReplacement(HangupCause::UnknownDialog), out);
                None
            }
            LegInput::Offered(_)
            | LegInput::Acknowledged(_)
            | LegInput::OfferWanted { .. }
            | LegInput::Progressed { .. }
            | LegInput::Answered(_)
            | LegInput::DialFailed { .. }
            | LegInput::ReofferAnswered(_)
            | LegInput::ReofferRefused { .. }
            | LegInput::Refreshed(_)
            | LegInput::Digit(_)
            | LegInput::Explained(_)
            | LegInput::ReplacementLost
            | LegInput::ReferProgressed { .. }
            | LegInput::ReferFailed { .. } => None,
        }
    }

    /// A line that has no peer yet, or none any more: only an answer that crossed our hang-up matters,
    /// and who would come in its place.
    fn while_silent(&self, input: &LegInput, out: &mut Vec<Output>) -> Option<LineNews> {
        if matches!(input, LegInput::Answered(_)) {
            self.say(LegOutput::HangUp(HangupCause::Normal), out);
        } else if matches!(input, LegInput::Replaced(..)) {
            self.say(LegOutput::RefuseReplacement(HangupCause::UnknownDialog), out);
        }
        None
    }
}
