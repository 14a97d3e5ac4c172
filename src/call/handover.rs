//! The near leg's peer wants somebody else connected with our agent in its place, and may.

use crate::call::AgentState;
use crate::call::Call;
use crate::call::State;
use crate::call::bridge::PROOF;
use crate::call::bridge::too_soon;
use crate::call::dial::DialRequest;
use crate::call::event::CallEvent;
use crate::call::input::LegOutput;
use crate::call::input::Output;
use crate::call::news::AgentNews;
use crate::call::news::LineNews;
use crate::call::news::News;
use crate::call::side::LegSide;
use crate::call::timer::Timer;
use crate::call::transfer::TransferMode;
use crate::types::cause::HangupCause;
use crate::types::cause::Party;
use crate::types::moment::Moment;

/// Done: the transfer that the peer asked for succeeded.
const OK: u16 = 200;

/// Somebody is dialled who shall take the near leg's place.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Handing {
    /// Whose leg that is.
    pub(super) target: LegSide,
    /// It answered, and hears the agent; it has not yet proved that it stays.
    pub(super) answered: bool,
}

impl Call {
    /// Dials whom the near leg's peer names. Until that answers, near leg and agent hear each other; the
    /// peer may hang up already, and is told how it goes if it does not.
    pub(super) fn hand_over(
        &mut self,
        now: Moment,
        request: Box<DialRequest>,
        out: &mut Vec<Output>,
    ) {
        let dialled =
            if self.agent == AgentState::Ready { self.dial(now, request, out) } else { None };
        let Some(target) = dialled else {
            return self.near.decline(out);
        };
        self.near.ask(LegOutput::AcceptRefer, out);
        out.push(Output::Record(CallEvent::TransferBegun(TransferMode::Handover)));
        self.state = State::Handing(Handing { target, answered: false });
    }

    pub(super) fn in_handing(
        &mut self,
        now: Moment,
        handing: Handing,
        news: News,
        out: &mut Vec<Output>,
    ) {
        match news {
            // Some peers do not wait for the outcome. Their media stay until the agent has another's.
            News::Near(LineNews::Ended { .. }) => (),
            News::Near(news) => self.near_answered(now, news, out),
            News::Far(side, news) if side == handing.target => {
                self.target_in_handing(now, handing, news, out);
            }
            News::Agent(AgentNews::Lost(cause)) => {
                self.drop_line(handing.target, cause, out);
                self.handing_failed(now, cause, out);
            }
            News::Agent(AgentNews::HungUp) => {
                self.end(now, HangupCause::Normal, Party::Agent, out);
            }
            News::HangUp { cause, by } => self.end(now, cause, by, out),
            News::Withdrawn => {
                let cause = HangupCause::CallerCancelled;
                self.drop_line(handing.target, cause, out);
                self.handing_failed(now, cause, out);
            }
            News::Due(Timer::TargetEnd) if handing.answered => {
                self.handed_over(handing.target, out);
            }
            News::Due(Timer::TargetEnd) => {
                self.drop_line(handing.target, HangupCause::NoAnswer, out);
                self.handing_failed(now, HangupCause::NoAnswer, out);
            }
            News::Due(timer) => self.due_answered(now, timer, out),
            News::Begun
            | News::Far(..)
            | News::Agent(AgentNews::Ready | AgentNews::Played)
            | News::Transfer(_)
            | News::Confirmed => (),
        }
    }

    fn target_in_handing(
        &mut self,
        now: Moment,
        handing: Handing,
        news: LineNews,
        out: &mut Vec<Output>,
    ) {
        let target = handing.target;
        match news {
            LineNews::Progressed { status, .. } => {
                self.near.ask(LegOutput::NotifyRefer { status }, out);
            }
            LineNews::Answered => {
                if let Some(line) = self.line_mut(target) {
                    line.start_playout(out);
                }
                self.timers.set(Timer::TargetEnd, now + PROOF);
                self.state = State::Handing(Handing { answered: true, ..handing });
            }
            LineNews::Failed(cause) | LineNews::Broken(cause) => {
                self.drop_line(target, cause, out);
                self.handing_failed(now, cause, out);
            }
            LineNews::Ended { cause, .. } => self.handing_failed(now, too_soon(cause), out),
            LineNews::Keyed(digit) => self.pass_key(target, digit, out),
            LineNews::Referred(_) => {
                if let Some(line) = self.line(target) {
                    line.decline(out);
                }
            }
            LineNews::Offered
            | LineNews::Ready
            | LineNews::Acknowledged
            | LineNews::Heard
            | LineNews::Cancelled
            | LineNews::ReferProgressed(_)
            | LineNews::ReferFailed(_)
            | LineNews::Closed => (),
        }
    }

    /// The near leg keeps the agent, or the announcement where that is gone; one that did not wait has
    /// nobody to keep.
    fn handing_failed(&mut self, now: Moment, cause: HangupCause, out: &mut Vec<Output>) {
        self.timers.stop(Timer::TargetEnd);
        self.near.ask(LegOutput::NotifyRefer { status: cause.sip_status().max(300) }, out);
        out.push(Output::Record(CallEvent::TransferFailed(cause)));
        if self.near.is_gone() {
            self.end(now, cause, Party::Switch, out);
        } else if self.agent == AgentState::Ready {
            self.state = State::Talking;
        } else {
            self.announce(now, cause, out);
        }
    }

    /// The target stays: the near leg is not needed any more.
    fn handed_over(&mut self, target: LegSide, out: &mut Vec<Output>) {
        self.near.ask(LegOutput::NotifyRefer { status: OK }, out);
        self.near.hang_up(HangupCause::Transferred, out);
        self.near.close_media(out);
        out.push(Output::Record(CallEvent::TransferCompleted));
        self.state = State::Handed(target);
    }

    /// The agent is with whom it was handed over to.
    pub(super) fn in_handed(
        &mut self,
        now: Moment,
        target: LegSide,
        news: News,
        out: &mut Vec<Output>,
    ) {
        match news {
            News::Far(side, LineNews::Ended { cause, by }) if side == target => {
                self.end(now, cause, by, out);
            }
            News::Far(side, LineNews::Broken(cause)) if side == target => {
                self.end(now, cause, Party::Switch, out);
            }
            News::Far(side, LineNews::Keyed(digit)) if side == target => {
                self.pass_key(side, digit, out);
            }
            News::Far(side, LineNews::Referred(_)) => {
                if let Some(line) = self.line(side) {
                    line.decline(out);
                }
            }
            News::Agent(AgentNews::HungUp) => {
                self.end(now, HangupCause::Normal, Party::Agent, out);
            }
            News::Agent(AgentNews::Lost(cause)) => self.end(now, cause, Party::Switch, out),
            // Who is there now has no leg of ours that a carrier could be asked of.
            News::Transfer(_) => self.cannot_transfer(HangupCause::Policy, out),
            News::HangUp { cause, by } => self.end(now, cause, by, out),
            News::Due(timer) => self.due_answered(now, timer, out),
            News::Begun
            | News::Near(_)
            | News::Far(..)
            | News::Agent(AgentNews::Ready | AgentNews::Played)
            | News::Confirmed
            | News::Withdrawn => (),
        }
    }
}
