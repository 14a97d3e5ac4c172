//! A call whose near leg is with its agent, or with the announcement in the agent's place.

use crate::call::AgentState;
use crate::call::Call;
use crate::call::State;
use crate::call::event::CallEvent;
use crate::call::input::AgentOutput;
use crate::call::input::Output;
use crate::call::news::AgentNews;
use crate::call::news::LineNews;
use crate::call::news::News;
use crate::call::side::LegSide;
use crate::call::timer::Timer;
use crate::types::cause::HangupCause;
use crate::types::cause::Party;
use crate::types::moment::Moment;
use std::time::Duration;

/// The longest a fallback announcement may take before the call is ended without it.
pub(super) const FALLBACK_MAX: Duration = Duration::from_secs(20);

impl Call {
    pub(super) fn in_talking(&mut self, now: Moment, news: News, out: &mut Vec<Output>) {
        match news {
            News::Near(LineNews::Referred(request)) => self.hand_over(now, request, None, out),
            News::Near(news) => self.near_answered(now, news, out),
            News::Agent(AgentNews::Ready) => self.tell_agent(AgentOutput::TellAnswered, out),
            News::Agent(AgentNews::Lost(cause)) => self.replace_or_announce(now, cause, out),
            News::Agent(AgentNews::HungUp) => match self.leaves_for() {
                Some(cause) => self.replace_or_announce(now, cause, out),
                None => self.end(now, HangupCause::Normal, Party::Agent, out),
            },
            News::Transfer(request) => self.begin_transfer(now, request, None, out),
            News::HangUp { cause, by } => self.end(now, cause, by, out),
            News::Due(timer) => self.due_answered(now, timer, out),
            News::Begun
            | News::Far(..)
            | News::Agent(AgentNews::Played)
            | News::Confirmed
            | News::Withdrawn => (),
        }
    }

    pub(super) fn in_announcing(
        &mut self,
        now: Moment,
        cause: HangupCause,
        news: News,
        out: &mut Vec<Output>,
    ) {
        match news {
            News::Near(news) => self.near_answered(now, news, out),
            News::Agent(AgentNews::Played) | News::Due(Timer::FallbackEnd) => {
                self.end(now, cause, Party::Switch, out);
            }
            News::HangUp { cause, by } => self.end(now, cause, by, out),
            News::Due(timer) => self.due_answered(now, timer, out),
            News::Begun
            | News::Far(..)
            | News::Agent(AgentNews::Ready | AgentNews::Lost(_) | AgentNews::HungUp)
            | News::Transfer(_)
            | News::Confirmed
            | News::Withdrawn => (),
        }
    }

    /// The announcement takes the agent's place, and the call ends with it, for this cause.
    pub(super) fn announce(&mut self, now: Moment, cause: HangupCause, out: &mut Vec<Output>) {
        self.end_agent(out);
        self.make_audible(out);
        self.timers.stop(Timer::HangUp);
        self.timers.stop(Timer::Reoffer);
        self.timers.stop(Timer::TargetEnd);
        self.timers.set(Timer::FallbackEnd, now + FALLBACK_MAX);
        self.state = State::Announcing(cause);
        self.start_announcement(out);
    }

    /// Has the announcement begin that waits, where it does: for the end of a hold in which nothing may be sent.
    pub(super) fn start_announcement(&mut self, out: &mut Vec<Output>) {
        let waits = matches!(self.state, State::Announcing(_)) && self.agent == AgentState::Gone;
        if waits && !self.near.comes_back_unheard() {
            self.agent = AgentState::Announcing;
            out.push(Output::Agent(AgentOutput::StartFallback));
            out.push(Output::Record(CallEvent::FallbackStarted));
        }
    }

    /// What the near leg does once it is answered is the same whomever it is with.
    pub(super) fn near_answered(&mut self, now: Moment, news: LineNews, out: &mut Vec<Output>) {
        match news {
            // The first words wait until the caller can hear them: for this, and its first packet, which the media
            // take account of themselves.
            LineNews::Acknowledged => self.near.start_playout(out),
            LineNews::Broken(cause) => self.end(now, cause, Party::Switch, out),
            LineNews::Ended { cause, by } => self.wind_up(now, cause, by, out),
            LineNews::Cancelled => {
                // It never talked: nothing is counted as time of the call.
                self.answered_at = Some(now);
                let (cause, by) = (HangupCause::CallerCancelled, Party::Caller);
                self.wind_up(now, cause, by, out);
            }
            LineNews::Keyed(digit) => self.pass_key(LegSide::Near, digit, out),
            // Only who talks with somebody, and may, hands over.
            LineNews::Referred(_) => self.near.decline(out),
            LineNews::Offered
            | LineNews::Ready
            | LineNews::Progressed { .. }
            | LineNews::Answered
            | LineNews::Failed(_)
            | LineNews::Heard
            | LineNews::ReferProgressed(_)
            | LineNews::ReferFailed(_)
            | LineNews::Closed => (),
        }
    }

    /// What is due in an answered call whomever the near leg is with.
    pub(super) fn due_answered(&mut self, now: Moment, timer: Timer, out: &mut Vec<Output>) {
        match timer {
            Timer::HangUp => self.end(now, HangupCause::Normal, Party::Switch, out),
            Timer::DurationEnd => self.end(now, HangupCause::MaxDuration, Party::Switch, out),
            Timer::Reoffer => self.near.reoffer(out),
            Timer::CloseEnd
            | Timer::RingEnd
            | Timer::AnswerMin
            | Timer::AskEnd
            | Timer::FallbackEnd
            | Timer::TargetEnd
            | Timer::ReferEnd
            | Timer::LeaveEnd
            | Timer::SupervisorEnd(_) => (),
        }
    }
}
