//! The call: its legs, its agent, and the order of events between them. Never says SIP.

pub mod dial;
pub mod event;
pub mod input;
pub mod leg;
pub mod setup;
pub mod side;
mod state;
pub mod transfer;

use crate::call::event::CallEvent;
use crate::call::input::AgentOutput;
use crate::call::input::Input;
use crate::call::input::LegOutput;
use crate::call::input::MediaOutput;
use crate::call::input::Output;
use crate::call::leg::Leg;
use crate::call::setup::CallSetup;
use crate::call::side::LegSide;
use crate::sdp::Capabilities;
use crate::types::agent::AnswerPolicy;
use crate::types::cause::HangupCause;
use crate::types::cause::Party;
use crate::types::moment::Moment;
use bytes::Bytes;
use std::time::Duration;

/// The status by which a caller is told that it rings.
const RINGING: u16 = 180;
/// The longest a fallback announcement may take before the call is ended without it.
const FALLBACK_MAX: Duration = Duration::from_secs(20);

/// One call between a caller and an agent.
#[derive(Debug)]
pub struct Call {
    setup: CallSetup,
    state: State,
    leg: Leg,
    timers: Timers,
    agent: AgentState,
    answered_at: Option<Moment>,
    held: bool,
    keys_in_media: bool,
}

/// Where the call stands.
#[derive(Clone, Debug, PartialEq)]
enum State {
    /// Nothing happened yet.
    Idle,
    /// Waiting for ports, then for the media session on them.
    Reserving { offer: Option<Bytes> },
    /// The caller hears ringing while the agent connects.
    Ringing { offer: Option<Bytes> },
    /// Answered.
    Answered(Answered),
    /// Waiting for the media to close.
    Ending(Ending),
    /// Over.
    Over,
}

/// How a call ends.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Ending {
    cause: HangupCause,
    by: Party,
    duration: Duration,
}

/// What is open within an answered call.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Answered {
    /// The caller confirmed the answer.
    acknowledged: bool,
    /// An offer of ours waits for its answer in an acknowledgement.
    offer_pending: bool,
    /// The agent's audio may be heard.
    playing: bool,
    /// Why the fallback announcement plays, if it does: the cause the call will end with.
    fallback: Option<HangupCause>,
}

/// Where the agent stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AgentState {
    Absent,
    Connecting,
    Ready,
    Gone,
}

/// What the call waits for.
#[derive(Clone, Copy, Debug, Default)]
struct Timers {
    answer: Option<Moment>,
    ring_end: Option<Moment>,
    hang_up: Option<Moment>,
    duration_end: Option<Moment>,
    reoffer: Option<Moment>,
    fallback_end: Option<Moment>,
}

impl Timers {
    fn next(&self) -> Option<Moment> {
        [
            self.answer,
            self.ring_end,
            self.hang_up,
            self.duration_end,
            self.reoffer,
            self.fallback_end,
        ]
        .into_iter()
        .flatten()
        .min()
    }
}

/// Takes a timer that is due.
fn due(timer: &mut Option<Moment>, now: Moment) -> bool {
    timer.take_if(|at| *at <= now).is_some()
}

impl Call {
    /// A call to which nothing has happened yet.
    #[must_use]
    pub fn new(setup: CallSetup) -> Self {
        let terms = setup.opening.terms();
        let offered = Capabilities {
            codecs: terms.codecs_offered.clone(),
            srtp: terms.srtp_offered.clone(),
            ..terms.capabilities.clone()
        };
        let leg = Leg::new(terms.capabilities.clone(), offered, terms.session_id);
        Self {
            setup,
            state: State::Idle,
            leg,
            timers: Timers::default(),
            agent: AgentState::Absent,
            answered_at: None,
            held: false,
            keys_in_media: false,
        }
    }

    /// Applies `input` and appends what must be done to `out`. Total: an input that makes no sense
    /// in the present state changes nothing.
    pub fn handle(&mut self, now: Moment, input: Input, out: &mut Vec<Output>) {
        match self.state.clone() {
            State::Idle => self.in_idle(input, out),
            State::Reserving { offer } => self.in_reserving(now, offer, input, out),
            State::Ringing { offer } => self.in_ringing(now, offer, input, out),
            State::Answered(answered) => self.in_answered(now, answered, input, out),
            State::Ending(ending) => self.in_ending(ending, input, out),
            State::Over => (),
        }
    }

    /// The next moment at which the call wants [`Input::DeadlineReached`].
    #[must_use]
    pub fn deadline(&self) -> Option<Moment> {
        match self.state {
            State::Idle | State::Reserving { .. } | State::Ending(_) | State::Over => None,
            State::Ringing { .. } | State::Answered(_) => self.timers.next(),
        }
    }

    /// True once nothing follows any more.
    #[must_use]
    pub const fn is_over(&self) -> bool {
        matches!(self.state, State::Over)
    }

    /// True from our answer on.
    #[must_use]
    pub const fn is_answered(&self) -> bool {
        self.answered_at.is_some()
    }

    /// Answers the caller; without an offer of its own it gets ours.
    fn answer(&mut self, now: Moment, offer: Option<&Bytes>, out: &mut Vec<Output>) {
        let body = match offer {
            Some(offer) => self.leg.answer(offer),
            None => self.leg.offer(),
        };
        let body = match body {
            Ok(body) => body,
            Err(cause) => return self.refuse(cause, out),
        };
        self.answered_at = Some(now);
        self.timers = Timers {
            hang_up: self.setup.agent.hangup_after.map(|after| now + after),
            duration_end: Some(now + self.setup.duration_max),
            reoffer: self.setup.agent.reinvite_after.map(|after| now + after),
            ..Timers::default()
        };
        out.push(Output::Leg(LegSide::Near, LegOutput::Answer(body)));
        if let Some(plan) = self.leg.plan() {
            out.push(Output::Record(CallEvent::Answered(plan.codec)));
            out.push(Output::Media(LegSide::Near, MediaOutput::Update(plan.clone())));
        }
        if self.agent == AgentState::Ready {
            out.push(Output::Agent(AgentOutput::TellAnswered));
        }
        self.state = State::Answered(Answered {
            acknowledged: false,
            offer_pending: offer.is_none(),
            playing: false,
            fallback: None,
        });
    }

    /// Refuses a call that was not answered, and closes what was opened for it.
    fn refuse(&mut self, cause: HangupCause, out: &mut Vec<Output>) {
        let status = self.setup.response_map.status(cause);
        out.push(Output::Leg(LegSide::Near, LegOutput::Refuse { cause, status }));
        out.push(Output::Record(CallEvent::Refused { cause, status }));
        self.wind_up(cause, Party::Switch, Duration::ZERO, out);
    }

    /// Ends an answered call from our side.
    fn hang_up(&mut self, now: Moment, cause: HangupCause, by: Party, out: &mut Vec<Output>) {
        out.push(Output::Leg(LegSide::Near, LegOutput::HangUp(cause)));
        self.wind_up(cause, by, self.talked(now), out);
    }

    /// Closes agent and media; the call is over once the media's figures are in.
    fn wind_up(
        &mut self,
        cause: HangupCause,
        by: Party,
        duration: Duration,
        out: &mut Vec<Output>,
    ) {
        match self.agent {
            AgentState::Absent | AgentState::Gone => (),
            AgentState::Connecting | AgentState::Ready => out.push(Output::Agent(AgentOutput::End)),
        }
        self.agent = AgentState::Gone;
        let media_is_open = match self.state {
            State::Idle | State::Reserving { .. } => false,
            State::Ringing { .. } | State::Answered(_) => true,
            State::Ending(_) | State::Over => return,
        };
        if media_is_open {
            out.push(Output::Media(LegSide::Near, MediaOutput::Close));
            self.state = State::Ending(Ending { cause, by, duration });
        } else {
            self.finish(cause, by, duration, out);
        }
    }

    fn finish(&mut self, cause: HangupCause, by: Party, duration: Duration, out: &mut Vec<Output>) {
        out.push(Output::Record(CallEvent::Ended { cause, by, duration }));
        out.push(Output::Finish);
        self.state = State::Over;
    }

    fn talked(&self, now: Moment) -> Duration {
        self.answered_at.map_or(Duration::ZERO, |answered| now.since(answered))
    }

    /// Notes a change between held and not held.
    fn note_hold(&mut self, out: &mut Vec<Output>) {
        let held = self.leg.is_held();
        if held != self.held {
            self.held = held;
            let event = if held { CallEvent::Held } else { CallEvent::Resumed };
            out.push(Output::Record(event));
        }
    }

    /// True when the agent's state and the profile's policy allow the answer.
    fn may_answer(&self) -> bool {
        let ready = match self.setup.agent.answer {
            AnswerPolicy::Immediate => true,
            AnswerPolicy::WhenReady | AnswerPolicy::After(_) => self.agent == AgentState::Ready,
        };
        ready && self.timers.answer.is_none()
    }

    /// How long it rings at least.
    fn ring_min(&self) -> Duration {
        match self.setup.agent.answer {
            AnswerPolicy::Immediate | AnswerPolicy::WhenReady => self.setup.answer_delay,
            AnswerPolicy::After(after) => after.max(self.setup.answer_delay),
        }
    }
}

#[cfg(test)]
mod tests;
