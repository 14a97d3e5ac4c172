//! A line that is answered: new offers both ways, hold, keys, transfers, its end.

use crate::call::dial::KeyWay;
use crate::call::event::CallEvent;
use crate::call::input::LegInput;
use crate::call::input::LegOutput;
use crate::call::input::MediaOutput;
use crate::call::input::Output;
use crate::call::input::Successor;
use crate::call::leg::Passing;
use crate::call::line::Before;
use crate::call::line::Line;
use crate::call::line::Session;
use crate::call::line::Stage;
use crate::call::news::LineNews;
use crate::call::side::LegSide;
use crate::types::cause::HangupCause;
use crate::types::cause::Party;
use crate::types::moment::Moment;
use bytes::Bytes;
use std::time::Duration;

/// How often an offer that was refused is made anew before that is the last word.
const REOFFERS_MAX: u8 = 5;
/// The same while nothing of the leg can be heard or said, since it keeps a codec that only passes from leg to leg
/// and the other one has left it: six seconds of silence, not a minute, before the call ends for that.
const REOFFERS_UNHEARD_MAX: u8 = 2;
/// How long the first of these waits; each further one waits twice as long.
const REOFFER_WAIT: Duration = Duration::from_secs(2);

impl Line {
    pub(super) fn while_answered(
        &mut self,
        (now, session): (Moment, Session),
        input: LegInput,
        out: &mut Vec<Output>,
    ) -> Option<LineNews> {
        match input {
            LegInput::Acknowledged(answer) => self.acknowledged(session, answer, out),
            LegInput::Reoffered(offer) => {
                self.reoffered(session, offer.as_ref(), out);
                None
            }
            LegInput::ReofferAnswered(answer) => {
                if session.reoffering {
                    self.reoffer_answered((now, session), answer.as_ref(), out);
                }
                None
            }
            LegInput::ReofferRefused { status, has_waited } => {
                if session.reoffering {
                    // Another offer is under way, or the peer has a trouble that may pass.
                    let may_pass = matches!(status, 491 | 500 | 503);
                    let why = (HangupCause::of_refusal(status, None), may_pass);
                    self.reoffer_refused((now, session), why, out);
                    if has_waited && self.reoffers_at().is_some() {
                        self.reoffer(out);
                    }
                }
                None
            }
            LegInput::Refreshed(answer) => {
                self.refreshed(session, &answer, out);
                None
            }
            LegInput::Digit(digit) => self.key_signalled(now, digit, out),
            LegInput::ReferProgressed { status } => Some(LineNews::ReferProgressed(status)),
            LegInput::ReferFailed { status } => Some(LineNews::ReferFailed(status)),
            LegInput::Referred(request) => {
                if self.transfers {
                    return Some(LineNews::Referred(request));
                }
                self.decline(out);
                None
            }
            LegInput::Replaced(by) => {
                self.replaced(session, &by, out);
                None
            }
            LegInput::ReplacementLost => {
                self.not_replaced(out);
                None
            }
            // The caller gave up while our answer was under way to it, and never got that.
            LegInput::Cancelled => {
                self.stage = Stage::Gone;
                Some(LineNews::Cancelled)
            }
            LegInput::Ended { cause, by } => Some(self.ended(cause, by, out)),
            LegInput::DialFailed { cause, .. } => Some(self.ended(cause, Party::Switch, out)),
            LegInput::Offered(_)
            | LegInput::Explained(_)
            | LegInput::OfferWanted { .. }
            | LegInput::Progressed { .. }
            | LegInput::Answered(_) => None,
        }
    }

    fn acknowledged(
        &mut self,
        mut session: Session,
        answer: Option<Bytes>,
        out: &mut Vec<Output>,
    ) -> Option<LineNews> {
        let first = !session.acknowledged;
        if session.offer_pending {
            session.offer_pending = false;
            // RFC 3261 §13.2.2.4: the answer to an offer in a 2xx comes in the ACK.
            let taken = match answer {
                Some(answer) => self.leg.accept(&answer),
                None => Err(HangupCause::NoSdpAnswer),
            };
            if let Err(cause) = taken {
                return Some(LineNews::Broken(cause));
            }
            if first {
                self.note_answer(out);
            }
            self.run_plan(out);
        }
        session.acknowledged = true;
        if let Some(aside) = &mut self.aside {
            aside.before = None;
        }
        self.stage = Stage::Answered(session);
        if session.reoffer_wanted {
            self.reoffer(out);
        }
        if first && self.side == LegSide::Near {
            out.push(Output::Record(CallEvent::Acknowledged));
        }
        first.then_some(LineNews::Acknowledged)
    }

    /// Only this line is concerned by a new offer: a change of address, of codec or a hold is answered
    /// here, and the other line keeps what it has.
    fn reoffered(&mut self, mut session: Session, offer: Option<&Bytes>, out: &mut Vec<Output>) {
        let body = match offer {
            Some(offer) => self.leg.answer(offer),
            None => self.leg.offer(),
        };
        match body {
            Ok(body) => {
                self.say(LegOutput::AnswerReoffer(body), out);
                session.offer_pending = offer.is_none();
                self.stage = Stage::Answered(session);
                match offer {
                    Some(_) => self.run_plan(out),
                    None => self.expect(out),
                }
            }
            Err(cause) => self.refuse_reoffer(cause, out),
        }
    }

    /// Refuses a new offer of the peer's: what was agreed stays in force.
    pub(super) fn refuse_reoffer(&self, cause: HangupCause, out: &mut Vec<Output>) {
        self.say(LegOutput::RefuseReoffer(cause), out);
        out.push(Output::Record(CallEvent::ReofferRefused { side: self.side, cause }));
    }

    fn reoffer_answered(
        &mut self,
        (now, mut session): (Moment, Session),
        answer: Option<&Bytes>,
        out: &mut Vec<Output>,
    ) {
        let taken = match answer {
            Some(answer) => self.leg.accept(answer),
            None => Err(HangupCause::NoSdpAnswer),
        };
        if let Err(cause) = taken {
            return self.reoffer_refused((now, session), (cause, false), out);
        }
        session.reoffering = false;
        session.refusals = 0;
        self.stage = Stage::Answered(session);
        self.run_plan(out);
        if session.reoffer_wanted {
            self.reoffer(out);
        } else {
            self.sticks = self.leg.passing() == Passing::Never && self.leg.passes().is_some();
        }
    }

    /// What the peer has to know is told again later, or it would stay on hold for ever; of what it will not
    /// know at all the record says so.
    fn reoffer_refused(
        &mut self,
        (now, mut session): (Moment, Session),
        (cause, may_pass): (HangupCause, bool),
        out: &mut Vec<Output>,
    ) {
        self.expect_no_more(out);
        let is_wanted = session.reoffer_wanted || may_pass || self.leg.owes_direction();
        session.reoffering = false;
        let must_leave = self.leg.passing() == Passing::Never && self.leg.passes().is_some();
        let most = if must_leave { REOFFERS_UNHEARD_MAX } else { REOFFERS_MAX };
        session.reoffer_wanted = is_wanted && session.refusals < most;
        if session.reoffer_wanted {
            session.again_at = Some(now + REOFFER_WAIT * (1 << session.refusals));
            session.refusals += 1;
        } else {
            session.refusals = 0;
            self.sticks = must_leave;
            out.push(Output::Record(CallEvent::ReofferRefused { side: self.side, cause }));
        }
        self.stage = Stage::Answered(session);
    }

    /// The peer answers what it was told before: mostly as before, but it may have moved.
    fn refreshed(&mut self, session: Session, answer: &[u8], out: &mut Vec<Output>) {
        let before = self.leg.plan().cloned();
        // What waits for its acknowledgement is newer.
        let is_taken = !session.offer_pending && self.leg.accept_again(answer).is_ok();
        if is_taken && before.as_ref() != self.leg.plan() {
            self.run_plan(out);
        }
    }

    /// Another leg of the same peer comes in place of this one: what it is refused leaves this one as
    /// it was.
    fn replaced(&mut self, session: Session, by: &Successor, out: &mut Vec<Output>) {
        let Successor { offer, place, srtp } = by;
        let (offer, place) = (offer.as_ref(), *place);
        let leg = self.leg.clone();
        if let Some(place) = place {
            self.leg.place(place);
        }
        if let Some((answers, offers)) = srtp {
            self.leg.protect(answers.clone(), offers.clone());
        }
        let body = match offer {
            Some(offer) => self.leg.answer(offer),
            None => self.leg.offer(),
        };
        match body {
            Ok(body) => {
                let aside = self.aside.get_or_insert_default();
                aside.before = Some(Box::new(Before { leg, session, turn: self.turn }));
                aside.keys.begin_anew();
                self.turn_last = self.turn_last.wrapping_add(1);
                self.turn = self.turn_last;
                self.say(LegOutput::AnswerReplacement { body, turn: self.turn }, out);
                let offer_pending = offer.is_none();
                self.stage = Stage::Answered(Session { offer_pending, ..Session::default() });
                if !offer_pending {
                    self.run_plan(out);
                }
            }
            Err(cause) => {
                self.leg = leg;
                self.say(LegOutput::RefuseReplacement(cause), out);
            }
        }
    }

    /// Whoever was to take it over is not there: the peer it has hears nothing of that.
    fn not_replaced(&mut self, out: &mut Vec<Output>) {
        if let Some(before) = self.aside.as_mut().and_then(|aside| aside.before.take()) {
            let Before { leg, session, turn } = *before;
            (self.leg, self.turn) = (leg, turn);
            self.stage = Stage::Answered(session);
            self.run_plan(out);
            if session.reoffer_wanted {
                self.reoffer(out);
            }
        }
    }

    fn key_signalled(
        &mut self,
        now: Moment,
        digit: char,
        out: &mut Vec<Output>,
    ) -> Option<LineNews> {
        if !self.dtmf_info {
            return None;
        }
        let digit = self.signalled_keys().take(now, digit)?;
        self.note_key(digit, out);
        Some(LineNews::Keyed(digit))
    }

    /// Gives a key to the peer.
    pub(in crate::call) fn send_key(&self, digit: char, out: &mut Vec<Output>) {
        match self.keys {
            _ if !self.is_answered() => (),
            KeyWay::Media => self.run(MediaOutput::SendDigit(digit), out),
            KeyWay::Signalling { duration_ms } => {
                self.say(LegOutput::SendKey { digit, duration_ms }, out);
            }
        }
    }

    /// Gives the peer a key that the media of the other side carried: unless it is told by signalling,
    /// its own media did that.
    pub(in crate::call) fn relay_key(&self, digit: char, out: &mut Vec<Output>) {
        match self.keys {
            KeyWay::Media => (),
            KeyWay::Signalling { .. } => self.send_key(digit, out),
        }
    }

    fn ended(&mut self, cause: HangupCause, by: Party, out: &mut Vec<Output>) -> LineNews {
        self.stage = Stage::Gone;
        self.note_last_keys(out);
        self.note_end(cause, by, out);
        LineNews::Ended { cause, by }
    }

    /// Puts the present agreement in force.
    pub(super) fn run_plan(&mut self, out: &mut Vec<Output>) {
        if let Some(plan) = self.leg.plan() {
            self.run(MediaOutput::Update(plan.clone()), out);
        }
        let held = self.leg.is_held() && !self.holding;
        if held != self.held {
            self.held = held;
            if self.side == LegSide::Near && self.is_answered() {
                let event = if held { CallEvent::Held } else { CallEvent::Resumed };
                out.push(Output::Record(event));
            }
        }
    }

    pub(super) fn note_answer(&self, out: &mut Vec<Output>) {
        let codec = self.leg.plan().map(|plan| plan.codec);
        match (self.side, codec) {
            (LegSide::Near, Some(codec)) => out.push(Output::Record(CallEvent::Answered(codec))),
            (LegSide::Near, None) => (),
            (side @ (LegSide::Far | LegSide::Third | LegSide::Supervisor(_)), codec) => {
                // Who knows of trunks adds what it is charged to.
                out.push(Output::Record(CallEvent::LegAnswered { side, codec, charged: None }));
            }
        }
    }

    pub(super) fn note_end(&self, cause: HangupCause, by: Party, out: &mut Vec<Output>) {
        match self.side {
            // Its end is the call's.
            LegSide::Near => (),
            side @ (LegSide::Far | LegSide::Third | LegSide::Supervisor(_)) => {
                out.push(Output::Record(CallEvent::LegEnded { side, cause, by }));
            }
        }
    }

    pub(super) fn note_key(&self, digit: char, out: &mut Vec<Output>) {
        if self.side == LegSide::Near {
            out.push(Output::Record(CallEvent::Digit(digit)));
        }
    }
}
