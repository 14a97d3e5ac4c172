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
use crate::call::transfer::Undone;
use crate::types::cause::HangupCause;
use crate::types::cause::Party;
use crate::types::moment::Moment;
use std::time::Duration;

/// How long a carrier may say nothing of a transfer it was asked for.
const REFER_MAX: Duration = Duration::from_secs(30);
/// How long a carrier that has hung up the near leg may take to do the same with the leg it was to be
/// connected with. Whoever is on that hears nobody meanwhile.
const TAKE_MAX: Duration = Duration::from_secs(5);
/// The carrier took the request; the target is yet to be heard of.
const ACCEPTED: u16 = 202;

/// A carrier was asked to transfer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Referring {
    /// The leg the near one is with meanwhile; `None`: the agent.
    pub(super) back: Option<FarLeg>,
    /// The leg whose party the carrier shall connect the near one with; `None`: somebody who is not with
    /// us.
    pub(super) target: Option<LegSide>,
    /// The carrier has begun.
    accepted: bool,
    /// The target rings.
    ringing: bool,
    /// How the near leg ended, where it did.
    left: Option<(HangupCause, Party)>,
}

impl Referring {
    const fn new(back: Option<FarLeg>, target: Option<LegSide>) -> Self {
        Self { back, target, accepted: false, ringing: false, left: None }
    }

    /// True once the carrier hung up the leg whose party it connects the near one with: so it ends a leg
    /// that another takes the place of.
    const fn has_taken(&self) -> bool {
        self.accepted && self.target.is_some() && self.back.is_none()
    }
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
        self.tell_agent(AgentOutput::TellTransfer(TransferNews::Begun), out);
        self.asked(now, Referring::new(back, None), out);
    }

    /// Asks the carrier to connect the near leg with another that it has as well. They hear each other
    /// through us until it has; and as long as it is not done, the agent is kept for the near leg.
    pub(super) fn refer_to_leg(&mut self, now: Moment, target: LegSide, out: &mut Vec<Output>) {
        self.near.ask(LegOutput::ReferToLeg(target), out);
        self.asked(now, Referring::new(Some((target, false)), Some(target)), out);
    }

    fn asked(&mut self, now: Moment, referring: Referring, out: &mut Vec<Output>) {
        out.push(Output::Record(CallEvent::TransferBegun(TransferMode::Refer)));
        self.timers.set(Timer::ReferEnd, now + REFER_MAX);
        self.state = State::Referring(referring);
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
            News::Far(side, news) => self.far_in_referring(now, referring, (side, &news), out),
            News::Agent(AgentNews::Ready) => self.tell_agent(AgentOutput::TellAnswered, out),
            News::HangUp { cause, by } => self.end(now, cause, by, out),
            News::Due(Timer::ReferEnd) => match referring.left {
                Some((cause, by)) => self.left_for_good(now, (cause, by), out),
                None => self.refer_failed(now, referring, HangupCause::NoAnswer, out),
            },
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
        let referring = Referring { accepted: true, ..referring };
        match status {
            180..=199 => {
                self.timers.set(Timer::ReferEnd, now + self.setup.ring_max);
                self.state = State::Referring(Referring { ringing: true, ..referring });
            }
            100..=179 | ACCEPTED => {
                if !referring.ringing {
                    self.timers.set(Timer::ReferEnd, now + REFER_MAX);
                }
                self.state = State::Referring(referring);
            }
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
    /// caller is taken to be with it; else it may as well have hung up itself. A leg that the carrier may
    /// be about to take is left to it for a moment.
    fn near_ended_in_referring(
        &mut self,
        now: Moment,
        referring: Referring,
        (cause, by): (HangupCause, Party),
        out: &mut Vec<Output>,
    ) {
        let is_through = match referring.target {
            Some(_) => referring.has_taken(),
            None => referring.ringing,
        };
        if is_through && cause == HangupCause::Normal {
            self.refer_succeeded(out);
            self.wind_up(now, HangupCause::Transferred, by, out);
        } else if referring.accepted && referring.target.is_some() && cause == HangupCause::Normal {
            self.timers.set(Timer::ReferEnd, now + TAKE_MAX);
            self.state = State::Referring(Referring { left: Some((cause, by)), ..referring });
        } else {
            self.left_for_good(now, (cause, by), out);
        }
    }

    /// The near leg is over, and was not transferred.
    fn left_for_good(
        &mut self,
        now: Moment,
        (cause, by): (HangupCause, Party),
        out: &mut Vec<Output>,
    ) {
        out.push(Output::Record(CallEvent::TransferFailed(cause)));
        self.wind_up(now, cause, by, out);
    }

    /// Whoever the near leg is with is over, or presses a key.
    fn far_in_referring(
        &mut self,
        now: Moment,
        referring: Referring,
        (side, news): (LegSide, &LineNews),
        out: &mut Vec<Output>,
    ) {
        if referring.back.is_none_or(|(back, _)| back != side) {
            return;
        }
        match news {
            LineNews::Ended { .. } => (),
            LineNews::Broken(cause) => self.drop_line(side, *cause, out),
            LineNews::Keyed(digit) => return self.pass_key(side, *digit, out),
            LineNews::Referred(_) => return self.decline(side, out),
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
        let referring = Referring { back: None, ..referring };
        match referring.left {
            // What the carrier hung up last it has taken.
            Some((_, by)) if matches!(news, LineNews::Ended { .. }) => {
                self.refer_succeeded(out);
                self.wind_up(now, HangupCause::Transferred, by, out);
            }
            Some((cause, by)) => self.left_for_good(now, (cause, by), out),
            None => self.state = State::Referring(referring),
        }
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
        if let Some((target, _)) = referring.back.filter(|_| referring.target.is_some()) {
            // They hear each other already: so it stays.
            out.push(Output::Record(CallEvent::TransferFailed(cause)));
            out.push(Output::Record(CallEvent::TransferBegun(TransferMode::Bridge)));
            return self.transferred(target, out);
        }
        let Some(request) = self.otherwise.take() else {
            return self.come_back(now, referring.back, Undone::Failed(cause), out);
        };
        out.push(Output::Record(CallEvent::TransferFailed(cause)));
        if !self.join(now, request, (TransferMode::Bridge, referring.back), out) {
            let undone = Undone::Failed(HangupCause::Overload);
            self.come_back(now, referring.back, undone, out);
        }
    }
}
