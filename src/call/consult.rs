//! An attended transfer: the agent speaks with the target while the near leg waits.

use crate::call::Call;
use crate::call::State;
use crate::call::bridge::Joining;
use crate::call::bridge::too_soon;
use crate::call::dial::DialRequest;
use crate::call::event::CallEvent;
use crate::call::input::AgentOutput;
use crate::call::input::Output;
use crate::call::line::Line;
use crate::call::news::AgentNews;
use crate::call::news::LineNews;
use crate::call::news::News;
use crate::call::side::LegSide;
use crate::call::timer::Timer;
use crate::call::transfer::TransferMode;
use crate::call::transfer::TransferNews;
use crate::call::transfer::Undone;
use crate::types::cause::HangupCause;
use crate::types::moment::Moment;

/// The agent dials or speaks with a target.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Consulting {
    /// With which.
    pub(super) target: LegSide,
    /// It answered, and hears the agent.
    pub(super) answered: bool,
}

impl Call {
    /// Dials the target of an attended transfer.
    pub(super) fn consult(
        &mut self,
        now: Moment,
        request: Box<DialRequest>,
        out: &mut Vec<Output>,
    ) {
        let Some(target) = self.dial(now, request, out) else {
            return self.has_no_line(now, out);
        };
        out.push(Output::Record(CallEvent::TransferBegun(TransferMode::Attended)));
        self.tell_agent(AgentOutput::TellTransfer(TransferNews::Begun), out);
        self.state = State::Consulting(Consulting { target, answered: false });
    }

    pub(super) fn in_consulting(
        &mut self,
        now: Moment,
        consulting: Consulting,
        news: News,
        out: &mut Vec<Output>,
    ) {
        match news {
            News::Near(news) => self.near_answered(now, news, out),
            News::Far(side, news) if side == consulting.target => {
                self.target_in_consulting(now, consulting, news, out);
            }
            // The target knows nothing yet of who comes: where somebody takes over, that one sees to the near leg.
            News::Agent(AgentNews::Lost(cause))
                if !consulting.answered && !self.setup.fallbacks.is_empty() =>
            {
                self.consulting_failed(now, consulting, cause, out);
            }
            // An agent that is gone leaves the near leg with the target, as one that hangs up does.
            News::Agent(AgentNews::Lost(_) | AgentNews::HungUp) | News::Confirmed => {
                self.leave(now, consulting, out);
            }
            News::Withdrawn => self.consulting_undone(now, consulting, Undone::Withdrawn, out),
            News::HangUp { cause, by } => self.end(now, cause, by, out),
            News::Due(Timer::TargetEnd) => {
                self.consulting_failed(now, consulting, HangupCause::NoAnswer, out);
            }
            News::Due(timer) => self.due_answered(now, timer, out),
            News::Begun
            | News::Far(..)
            | News::Agent(AgentNews::Ready | AgentNews::Played)
            | News::Transfer(_) => (),
        }
    }

    fn target_in_consulting(
        &mut self,
        now: Moment,
        consulting: Consulting,
        news: LineNews,
        out: &mut Vec<Output>,
    ) {
        let target = consulting.target;
        match news {
            LineNews::Answered => {
                self.timers.stop(Timer::TargetEnd);
                self.start_playout(target, out);
                self.tell_agent(AgentOutput::TellTransfer(TransferNews::Consulting), out);
                self.state = State::Consulting(Consulting { answered: true, ..consulting });
            }
            LineNews::Failed(cause) | LineNews::Broken(cause) => {
                self.consulting_failed(now, consulting, cause, out);
            }
            LineNews::Ended { cause, .. } => {
                self.consulting_failed(now, consulting, too_soon(cause), out);
            }
            LineNews::Keyed(digit) => self.pass_key(target, digit, out),
            LineNews::Referred(_) => self.decline(target, out),
            LineNews::Offered
            | LineNews::Ready
            | LineNews::Progressed { .. }
            | LineNews::Acknowledged
            | LineNews::Heard
            | LineNews::Cancelled
            | LineNews::ReferProgressed(_)
            | LineNews::ReferFailed(_)
            | LineNews::Closed => (),
        }
    }

    /// The agent is through: the near leg comes to the target, or waits for it. Where one carrier has
    /// both of them, it may take us out of between.
    fn leave(&mut self, now: Moment, consulting: Consulting, out: &mut Vec<Output>) {
        let target = consulting.target;
        if !consulting.answered {
            self.state = State::Joining(Joining::unattended(target));
            return;
        }
        self.hold_no_longer(out);
        out.push(Output::Record(CallEvent::Bridged(target)));
        let carrier = self.line(target).and_then(Line::joined_by);
        if carrier.is_some() && carrier == self.near.joined_by() {
            self.refer_to_leg(now, target, out);
        } else {
            self.transferred(target, out);
        }
    }

    fn consulting_failed(
        &mut self,
        now: Moment,
        consulting: Consulting,
        cause: HangupCause,
        out: &mut Vec<Output>,
    ) {
        self.consulting_undone(now, consulting, Undone::Failed(cause), out);
    }

    fn consulting_undone(
        &mut self,
        now: Moment,
        consulting: Consulting,
        undone: Undone,
        out: &mut Vec<Output>,
    ) {
        self.drop_line(consulting.target, undone.cause(), out);
        self.come_back(now, None, undone, out);
    }
}
