//! What a call does in each of its states: one function a state, every input named.

use crate::call::AgentState;
use crate::call::Answered;
use crate::call::Call;
use crate::call::Ending;
use crate::call::FALLBACK_MAX;
use crate::call::RINGING;
use crate::call::State;
use crate::call::due;
use crate::call::event::CallEvent;
use crate::call::input::AgentInput;
use crate::call::input::AgentOutput;
use crate::call::input::Input;
use crate::call::input::LegInput;
use crate::call::input::LegOutput;
use crate::call::input::MediaInput;
use crate::call::input::MediaOutput;
use crate::call::input::Output;
use crate::call::side::LegSide;
use crate::types::cause::HangupCause;
use crate::types::cause::Party;
use crate::types::moment::Moment;
use bytes::Bytes;
use std::time::Duration;

impl Call {
    pub(super) fn in_idle(&mut self, input: Input, out: &mut Vec<Output>) {
        let Input::Leg(LegSide::Near, LegInput::Offered(offer)) = input else { return };
        // A hopeless offer is refused before anything is reserved for it.
        if let Some(Err(cause)) = offer.as_ref().map(|offer| self.leg.check(offer)) {
            return self.refuse(cause, out);
        }
        out.push(Output::Media(LegSide::Near, MediaOutput::Reserve));
        self.state = State::Reserving { offer };
    }

    pub(super) fn in_reserving(
        &mut self,
        now: Moment,
        offer: Option<Bytes>,
        input: Input,
        out: &mut Vec<Output>,
    ) {
        match input {
            Input::Media(LegSide::Near, MediaInput::Reserved(place)) => {
                self.leg.place(place);
                out.push(Output::Media(LegSide::Near, MediaOutput::Open));
            }
            // Not a moment earlier: a call whose media may still be refused must not be answered.
            Input::Media(LegSide::Near, MediaInput::Opened) => {
                self.agent = AgentState::Connecting;
                self.timers.ring_end = Some(now + self.setup.ring_max);
                let ring_min = self.ring_min();
                self.timers.answer = (!ring_min.is_zero()).then(|| now + ring_min);
                out.push(Output::Agent(AgentOutput::Start));
                self.state = State::Ringing { offer: offer.clone() };
                if self.may_answer() {
                    self.answer(now, offer.as_ref(), out);
                } else if self.setup.ringing {
                    out.push(Output::Leg(
                        LegSide::Near,
                        LegOutput::Progress { status: RINGING, body: None },
                    ));
                    out.push(Output::Record(CallEvent::Ringing));
                }
            }
            Input::Media(LegSide::Near, MediaInput::Refused(cause)) => self.refuse(cause, out),
            Input::Leg(LegSide::Near, LegInput::Cancelled) => {
                self.finish(HangupCause::CallerCancelled, Party::Caller, Duration::ZERO, out);
            }
            Input::Leg(LegSide::Near, LegInput::Ended { cause, by }) => {
                self.finish(cause, by, Duration::ZERO, out)
            }
            Input::HangupRequested { cause, .. } => self.refuse(cause, out),
            Input::Leg(..)
            | Input::Media(..)
            | Input::Agent(..)
            | Input::Begun
            | Input::TransferRequested(_)
            | Input::TransferConfirmed
            | Input::TransferWithdrawn
            | Input::HoldRequested(_)
            | Input::ResumeRequested(_)
            | Input::DeadlineReached => (),
        }
    }

    pub(super) fn in_ringing(
        &mut self,
        now: Moment,
        offer: Option<Bytes>,
        input: Input,
        out: &mut Vec<Output>,
    ) {
        match input {
            Input::Agent(AgentInput::Ready) => {
                self.agent = AgentState::Ready;
                out.push(Output::Record(CallEvent::AgentReady));
                if self.may_answer() {
                    self.answer(now, offer.as_ref(), out);
                }
            }
            // The caller shall hear why: the call is answered for the announcement.
            Input::Agent(AgentInput::Failed(cause)) | Input::Agent(AgentInput::Lost(cause)) => {
                self.answer(now, offer.as_ref(), out);
                if let State::Answered(answered) = self.state {
                    self.fall_back(now, answered, cause, out);
                }
            }
            Input::Agent(AgentInput::HungUp) => {
                self.agent = AgentState::Gone;
                self.refuse(HangupCause::Rejected, out);
            }
            Input::Leg(LegSide::Near, LegInput::Cancelled) => {
                let (cause, by) = (HangupCause::CallerCancelled, Party::Caller);
                self.wind_up(cause, by, Duration::ZERO, out);
            }
            Input::Leg(LegSide::Near, LegInput::Ended { cause, by }) => {
                self.wind_up(cause, by, Duration::ZERO, out)
            }
            Input::HangupRequested { cause, .. } => self.refuse(cause, out),
            Input::DeadlineReached => {
                if due(&mut self.timers.ring_end, now) {
                    return self.refuse(HangupCause::NoAnswer, out);
                }
                if due(&mut self.timers.answer, now) && self.may_answer() {
                    self.answer(now, offer.as_ref(), out);
                }
            }
            Input::Leg(..)
            | Input::Media(..)
            | Input::Agent(..)
            | Input::Begun
            | Input::TransferRequested(_)
            | Input::TransferConfirmed
            | Input::TransferWithdrawn
            | Input::HoldRequested(_)
            | Input::ResumeRequested(_) => (),
        }
    }

    pub(super) fn in_answered(
        &mut self,
        now: Moment,
        answered: Answered,
        input: Input,
        out: &mut Vec<Output>,
    ) {
        match input {
            Input::Leg(LegSide::Near, LegInput::Acknowledged(answer)) => {
                self.acknowledged(now, answered, answer, out)
            }
            Input::Leg(LegSide::Near, LegInput::Reoffered(offer)) => {
                self.reoffered(answered, offer, out)
            }
            Input::Leg(LegSide::Near, LegInput::ReofferAnswered(answer)) => {
                if let Some(Ok(())) = answer.as_ref().map(|answer| self.leg.accept(answer)) {
                    self.run_plan(out);
                }
            }
            Input::Media(LegSide::Near, MediaInput::FirstPacket) => {
                out.push(Output::Record(CallEvent::FirstMedia));
                self.start_playout(answered, out);
            }
            Input::Media(LegSide::Near, MediaInput::TimedOut) => {
                // A held caller owes us no media (RFC 3264 §8.4).
                if !self.held {
                    self.hang_up(now, HangupCause::MediaTimeout, Party::Switch, out);
                }
            }
            Input::Media(LegSide::Near, MediaInput::Digit(digit)) => {
                self.keys_in_media = true;
                out.push(Output::Record(CallEvent::Digit(digit)));
            }
            Input::Leg(LegSide::Near, LegInput::Digit(digit)) => {
                // Some peers tell each key twice: what the media carry counts.
                if self.setup.opening.terms().dtmf_info && !self.keys_in_media {
                    out.push(Output::Record(CallEvent::Digit(digit)));
                    out.push(Output::Agent(AgentOutput::TellDigit(digit)));
                }
            }
            Input::Agent(AgentInput::Ready) => {
                if self.agent == AgentState::Connecting {
                    self.agent = AgentState::Ready;
                    out.push(Output::Record(CallEvent::AgentReady));
                    out.push(Output::Agent(AgentOutput::TellAnswered));
                }
            }
            Input::Agent(AgentInput::Failed(cause)) | Input::Agent(AgentInput::Lost(cause)) => {
                if answered.fallback.is_none() {
                    self.fall_back(now, answered, cause, out);
                }
            }
            Input::Agent(AgentInput::HungUp) => {
                if answered.fallback.is_none() {
                    self.hang_up(now, HangupCause::Normal, Party::Agent, out);
                }
            }
            Input::Agent(AgentInput::FallbackPlayed) => {
                if let Some(cause) = answered.fallback {
                    self.hang_up(now, cause, Party::Switch, out);
                }
            }
            // The caller gave up while our answer was under way to it, and never got that.
            Input::Leg(LegSide::Near, LegInput::Cancelled) => {
                let (cause, by) = (HangupCause::CallerCancelled, Party::Caller);
                self.wind_up(cause, by, Duration::ZERO, out);
            }
            Input::Leg(LegSide::Near, LegInput::Ended { cause, by }) => {
                self.wind_up(cause, by, self.talked(now), out)
            }
            Input::HangupRequested { cause, by } => self.hang_up(now, cause, by, out),
            Input::DeadlineReached => self.answered_deadline(now, answered, out),
            Input::Leg(..)
            | Input::Media(..)
            | Input::Begun
            | Input::TransferRequested(_)
            | Input::TransferConfirmed
            | Input::TransferWithdrawn
            | Input::HoldRequested(_)
            | Input::ResumeRequested(_) => (),
        }
    }

    pub(super) fn in_ending(&mut self, ending: Ending, input: Input, out: &mut Vec<Output>) {
        let Ending { cause, by, duration } = ending;
        if let Input::Media(LegSide::Near, MediaInput::Closed(figures)) = input {
            if let Some(figures) = figures {
                out.push(Output::Record(CallEvent::Media(figures)));
            }
            self.finish(cause, by, duration, out);
        }
    }

    fn answered_deadline(&mut self, now: Moment, answered: Answered, out: &mut Vec<Output>) {
        if due(&mut self.timers.fallback_end, now) {
            let cause = answered.fallback.unwrap_or(HangupCause::AgentLost);
            return self.hang_up(now, cause, Party::Switch, out);
        }
        if due(&mut self.timers.hang_up, now) {
            return self.hang_up(now, HangupCause::Normal, Party::Switch, out);
        }
        if due(&mut self.timers.duration_end, now) {
            return self.hang_up(now, HangupCause::MaxDuration, Party::Switch, out);
        }
        if due(&mut self.timers.reoffer, now)
            && let Ok(offer) = self.leg.offer()
        {
            out.push(Output::Leg(LegSide::Near, LegOutput::Reoffer(offer)));
        }
    }

    fn acknowledged(
        &mut self,
        now: Moment,
        mut answered: Answered,
        answer: Option<Bytes>,
        out: &mut Vec<Output>,
    ) {
        if answered.offer_pending {
            answered.offer_pending = false;
            // RFC 3261 §13.2.2.4: the answer to an offer in a 2xx comes in the ACK.
            let taken = match answer {
                Some(answer) => self.leg.accept(&answer),
                None => Err(HangupCause::NoSdpAnswer),
            };
            if let Err(cause) = taken {
                return self.hang_up(now, cause, Party::Switch, out);
            }
            if !answered.acknowledged
                && let Some(plan) = self.leg.plan()
            {
                out.push(Output::Record(CallEvent::Answered(plan.codec)));
            }
            self.run_plan(out);
        }
        if !answered.acknowledged {
            answered.acknowledged = true;
            out.push(Output::Record(CallEvent::Acknowledged));
        }
        self.state = State::Answered(answered);
        self.start_playout(answered, out);
    }

    fn reoffered(&mut self, mut answered: Answered, offer: Option<Bytes>, out: &mut Vec<Output>) {
        let body = match &offer {
            Some(offer) => self.leg.answer(offer),
            None => self.leg.offer(),
        };
        match body {
            Ok(body) => {
                out.push(Output::Leg(LegSide::Near, LegOutput::AnswerReoffer(body)));
                answered.offer_pending = offer.is_none();
                self.state = State::Answered(answered);
                if offer.is_some() {
                    self.run_plan(out);
                }
            }
            Err(cause) => out.push(Output::Leg(LegSide::Near, LegOutput::RefuseReoffer(cause))),
        }
    }

    /// Puts the present agreement in force.
    fn run_plan(&mut self, out: &mut Vec<Output>) {
        if let Some(plan) = self.leg.plan() {
            out.push(Output::Media(LegSide::Near, MediaOutput::Update(plan.clone())));
        }
        self.note_hold(out);
    }

    /// The agent's first words wait until the caller can hear them.
    fn start_playout(&mut self, mut answered: Answered, out: &mut Vec<Output>) {
        if !answered.playing {
            answered.playing = true;
            self.state = State::Answered(answered);
            out.push(Output::Media(LegSide::Near, MediaOutput::StartPlayout));
        }
    }

    fn fall_back(
        &mut self,
        now: Moment,
        mut answered: Answered,
        cause: HangupCause,
        out: &mut Vec<Output>,
    ) {
        out.push(Output::Record(CallEvent::AgentFailed(cause)));
        match self.agent {
            AgentState::Absent | AgentState::Gone => (),
            AgentState::Connecting | AgentState::Ready => out.push(Output::Agent(AgentOutput::End)),
        }
        self.agent = AgentState::Gone;
        answered.fallback = Some(cause);
        self.timers.hang_up = None;
        self.timers.reoffer = None;
        self.timers.fallback_end = Some(now + FALLBACK_MAX);
        self.state = State::Answered(answered);
        out.push(Output::Agent(AgentOutput::StartFallback));
        out.push(Output::Record(CallEvent::FallbackStarted));
    }
}
