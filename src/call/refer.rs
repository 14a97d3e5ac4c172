//! A transfer by the near leg's carrier: asked for, watched, and undone when it does not happen.

use crate::call::Call;
use crate::call::State;
use crate::call::bridge::FarLeg;
use crate::call::dial::DialTarget;
use crate::call::event::CallEvent;
use crate::call::input::AgentOutput;
use crate::call::input::LegOutput;
use crate::call::input::Output;
use crate::call::news::AgentNews;
use crate::call::news::LineNews;
use crate::call::news::News;
use crate::call::side::LegSide;
use crate::call::timer::Timer;
use crate::call::transfer::TransferMode;
use crate::call::transfer::TransferNews;
use crate::types::cause::HangupCause;
use crate::types::cause::Party;
use crate::types::moment::Moment;
use std::time::Duration;

/// How long a carrier may say nothing of a transfer it was asked for.
const REFER_MAX: Duration = Duration::from_secs(30);
/// The carrier took the request; the target is yet to be heard of.
const ACCEPTED: u16 = 202;

/// A carrier was asked to transfer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Referring {
    /// The leg the near one is with meanwhile; `None`: the agent.
    pub(super) back: Option<FarLeg>,
    /// The target rings.
    ringing: bool,
}

impl Call {
    /// Asks the carrier. The near leg and who it is with hear each other until the carrier has done it.
    pub(super) fn refer(
        &mut self,
        now: Moment,
        target: DialTarget,
        back: Option<FarLeg>,
        out: &mut Vec<Output>,
    ) {
        self.near.ask(LegOutput::Refer(target), out);
        out.push(Output::Record(CallEvent::TransferBegun(TransferMode::Refer)));
        self.tell_agent(AgentOutput::TellTransfer(TransferNews::Begun), out);
        self.timers.set(Timer::ReferEnd, now + REFER_MAX);
        self.state = State::Referring(Referring { back, ringing: false });
    }

    pub(super) fn in_referring(
        &mut self,
        now: Moment,
        referring: Referring,
        news: News,
        out: &mut Vec<Output>,
    ) {
        match news {
            News::Near(LineNews::ReferProgressed(status)) => {
                self.refer_progressed(now, referring, status, out);
            }
            News::Near(LineNews::ReferFailed(status)) => {
                self.refer_failed(now, referring, HangupCause::of_refusal(status, None), out);
            }
            News::Near(LineNews::Ended { cause, by }) => {
                self.near_ended_in_referring(now, referring, (cause, by), out);
            }
            News::Near(news) => self.near_answered(now, news, out),
            News::Far(side, news) => self.far_in_referring(referring, side, &news, out),
            News::Agent(AgentNews::Ready) => self.tell_agent(AgentOutput::TellAnswered, out),
            News::HangUp { cause, by } => self.end(now, cause, by, out),
            News::Due(Timer::ReferEnd) => {
                self.refer_failed(now, referring, HangupCause::NoAnswer, out);
            }
            News::Due(timer) => self.due_answered(now, timer, out),
            // An agent that hangs up once it asked for the transfer does not take the caller with it.
            News::Agent(AgentNews::Lost(_) | AgentNews::HungUp | AgentNews::Played)
            | News::Begun
            | News::Transfer(_)
            | News::Confirmed
            // What was asked of a carrier cannot be taken back.
            | News::Withdrawn => (),
        }
    }

    fn refer_progressed(
        &mut self,
        now: Moment,
        referring: Referring,
        status: u16,
        out: &mut Vec<Output>,
    ) {
        match status {
            180..=199 => {
                self.timers.set(Timer::ReferEnd, now + self.setup.ring_max);
                self.state = State::Referring(Referring { ringing: true, ..referring });
            }
            100..=179 | ACCEPTED if referring.ringing => (),
            100..=179 | ACCEPTED => self.timers.set(Timer::ReferEnd, now + REFER_MAX),
            200..=299 => {
                self.refer_succeeded(out);
                self.end(now, HangupCause::Transferred, Party::Switch, out);
            }
            300..=699 => {
                self.refer_failed(now, referring, HangupCause::of_refusal(status, None), out)
            }
            _ => (),
        }
    }

    fn refer_succeeded(&self, out: &mut Vec<Output>) {
        out.push(Output::Record(CallEvent::TransferCompleted));
        self.tell_agent(AgentOutput::TellTransfer(TransferNews::Completed), out);
    }

    /// Some carriers hang up instead of telling that they are through. Where the target had rung the
    /// caller is taken to be with it; else it may as well have hung up itself.
    fn near_ended_in_referring(
        &mut self,
        now: Moment,
        referring: Referring,
        (cause, by): (HangupCause, Party),
        out: &mut Vec<Output>,
    ) {
        if referring.ringing && cause == HangupCause::Normal {
            self.refer_succeeded(out);
            self.wind_up(now, HangupCause::Transferred, by, out);
        } else {
            out.push(Output::Record(CallEvent::TransferFailed(cause)));
            self.wind_up(now, cause, by, out);
        }
    }

    fn far_in_referring(
        &mut self,
        referring: Referring,
        side: LegSide,
        news: &LineNews,
        out: &mut Vec<Output>,
    ) {
        if referring.back.is_none_or(|(back, _)| back != side) {
            return;
        }
        match news {
            LineNews::Ended { .. } => (),
            LineNews::Broken(cause) => self.drop_line(side, *cause, out),
            LineNews::Keyed(digit) => return self.pass_key(side, *digit, out),
            LineNews::Referred(_) => {
                if let Some(line) = self.line(side) {
                    line.decline(out);
                }
                return;
            }
            LineNews::Offered
            | LineNews::Ready
            | LineNews::Progressed { .. }
            | LineNews::Answered
            | LineNews::Acknowledged
            | LineNews::Heard
            | LineNews::Failed(_)
            | LineNews::Cancelled
            | LineNews::ReferProgressed(_)
            | LineNews::ReferFailed(_)
            | LineNews::Closed => return,
        }
        self.state = State::Referring(Referring { back: None, ..referring });
    }

    /// The carrier does not do it: we do, where that was asked for.
    fn refer_failed(
        &mut self,
        now: Moment,
        referring: Referring,
        cause: HangupCause,
        out: &mut Vec<Output>,
    ) {
        self.timers.stop(Timer::ReferEnd);
        let Some(request) = self.otherwise.take() else {
            return self.come_back(now, referring.back, cause, out);
        };
        out.push(Output::Record(CallEvent::TransferFailed(cause)));
        if !self.join(now, request, (TransferMode::Bridge, referring.back), out) {
            self.come_back(now, referring.back, HangupCause::Overload, out);
        }
    }
}
