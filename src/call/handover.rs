//! The near leg's peer wants somebody else in its place, with our agent or whom it is bridged with, and may.

use crate::call::AgentState;
use crate::call::Call;
use crate::call::State;
use crate::call::bridge::FarLeg;
use crate::call::bridge::PROOF;
use crate::call::bridge::too_soon;
use crate::call::dial::DialRequest;
use crate::call::dial::DialTarget;
use crate::call::dial::Joined;
use crate::call::event::CallEvent;
use crate::call::input::AgentOutput;
use crate::call::input::LegOutput;
use crate::call::input::Output;
use crate::call::news::AgentNews;
use crate::call::news::LineNews;
use crate::call::news::News;
use crate::call::side::LegSide;
use crate::call::talk::FALLBACK_MAX;
use crate::call::timer::Timer;
use crate::call::transfer::TransferMode;
use crate::call::transfer::Undone;
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
    /// With whom: the leg the near one is with; `None`: the agent.
    pub(super) with: Option<FarLeg>,
    /// It answered, and hears whom it is for; it has not yet proved that it stays.
    pub(super) answered: bool,
}

/// The near leg is over, and somebody else in its place.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Handed {
    /// Whose leg that is.
    pub(super) target: LegSide,
    /// With whom; `None`: the agent.
    pub(super) with: Option<LegSide>,
    /// The announcement is in the agent's place, and the call ends with it, for this cause.
    pub(super) ends_for: Option<HangupCause>,
}

impl Call {
    /// Dials whom the near leg's peer names. Until that answers, the near leg and whom it is with hear each
    /// other; the peer may hang up already, and is told how it goes if it does not.
    pub(super) fn hand_over(
        &mut self,
        now: Moment,
        mut request: Box<DialRequest>,
        with: Option<FarLeg>,
        out: &mut Vec<Output>,
    ) {
        if let DialTarget::Number { joined, .. } = &mut request.target {
            // The near leg leaves: what may be connected is judged by whom the target will be with.
            *joined = with.map_or(Joined::Agent, |(far, _)| Joined::Leg(far));
        }
        let is_there = with.is_some() || self.agent == AgentState::Ready;
        let dialled = if is_there { self.dial(now, request, out) } else { None };
        let Some(target) = dialled else {
            return self.near.decline(out);
        };
        self.near.ask(LegOutput::AcceptRefer, out);
        out.push(Output::Record(CallEvent::TransferBegun(TransferMode::Handover)));
        self.state = State::Handing(Handing { target, with, answered: false });
    }

    pub(super) fn in_handing(
        &mut self,
        now: Moment,
        handing: Handing,
        news: News,
        out: &mut Vec<Output>,
    ) {
        match news {
            // Some peers do not wait for the outcome. Their media stay until another has their place.
            News::Near(LineNews::Ended { .. }) => (),
            News::Near(news) => self.near_answered(now, news, out),
            News::Far(side, news) if side == handing.target => {
                self.target_in_handing(now, handing, news, out);
            }
            News::Far(side, news) => self.kept_in_handing(now, handing, (side, news), out),
            News::Agent(AgentNews::Lost(cause)) => self.handing_failed(now, handing, cause, out),
            News::Agent(AgentNews::HungUp) => {
                self.end(now, HangupCause::Normal, Party::Agent, out);
            }
            News::HangUp { cause, by } => self.end(now, cause, by, out),
            News::Withdrawn => {
                let why = (HangupCause::CallerCancelled, Undone::Withdrawn);
                self.handing_undone(now, handing, why, out);
            }
            News::Due(Timer::TargetEnd) if handing.answered => self.handed_over(handing, out),
            News::Due(Timer::TargetEnd) => {
                self.handing_failed(now, handing, HangupCause::NoAnswer, out);
            }
            News::Due(timer) => self.due_answered(now, timer, out),
            News::Begun
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
                self.start_playout(target, out);
                self.timers.set(Timer::TargetEnd, now + PROOF);
                self.state = State::Handing(Handing { answered: true, ..handing });
            }
            LineNews::Failed(cause) | LineNews::Broken(cause) => {
                self.handing_failed(now, handing, cause, out);
            }
            LineNews::Ended { cause, .. } => {
                self.handing_failed(now, handing, too_soon(cause), out);
            }
            LineNews::Keyed(digit) => self.pass_key(target, digit, out),
            LineNews::Referred(_) => self.decline(target, out),
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

    /// Whom the target is for: without that there is nothing to hand over.
    fn kept_in_handing(
        &mut self,
        now: Moment,
        handing: Handing,
        (side, news): (LegSide, LineNews),
        out: &mut Vec<Output>,
    ) {
        let Some(far) = handing.with.filter(|(far, _)| *far == side) else { return };
        let (cause, by) = match news {
            LineNews::Ended { cause, by } => (cause, by),
            LineNews::Broken(cause) => {
                self.drop_line(side, cause, out);
                (cause, Party::Switch)
            }
            LineNews::Keyed(digit) => return self.pass_key(side, digit, out),
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
        };
        self.timers.stop(Timer::TargetEnd);
        let status = self.not_done(handing.target, cause);
        self.drop_line(handing.target, cause, out);
        self.near.ask(LegOutput::NotifyRefer { status }, out);
        out.push(Output::Record(CallEvent::TransferFailed(cause)));
        if self.near.is_gone() {
            self.end(now, cause, by, out);
        } else {
            self.far_ended(now, far, (cause, by), out);
        }
    }

    fn handing_failed(
        &mut self,
        now: Moment,
        handing: Handing,
        cause: HangupCause,
        out: &mut Vec<Output>,
    ) {
        self.handing_undone(now, handing, (cause, Undone::Failed(cause)), out);
    }

    /// The near leg keeps whom it is with, or gets the next agent or the announcement where that is an agent
    /// that is gone; one that did not wait has nobody to keep.
    fn handing_undone(
        &mut self,
        now: Moment,
        handing: Handing,
        (cause, undone): (HangupCause, Undone),
        out: &mut Vec<Output>,
    ) {
        self.timers.stop(Timer::TargetEnd);
        let status = self.not_done(handing.target, cause);
        self.drop_line(handing.target, cause, out);
        self.near.ask(LegOutput::NotifyRefer { status }, out);
        out.push(Output::Record(undone.event()));
        match handing.with {
            _ if self.near.is_gone() => self.end(now, cause, Party::Switch, out),
            Some((far, is_agent)) => self.state = State::Bridged(far, is_agent),
            None if self.agent == AgentState::Ready => self.state = State::Talking,
            None => self.replace_or_announce(now, cause, out),
        }
    }

    /// The target stays: the near leg is not needed any more.
    fn handed_over(&mut self, handing: Handing, out: &mut Vec<Output>) {
        self.near.ask(LegOutput::NotifyRefer { status: OK }, out);
        self.near.hang_up(HangupCause::Transferred, out);
        self.near.close_media(out);
        out.push(Output::Record(CallEvent::TransferCompleted));
        let with = handing.with.map(|(far, _)| far);
        self.state = State::Handed(Handed { target: handing.target, with, ends_for: None });
    }

    /// The agent, or whom the near leg was with, is with whom it was handed over to.
    pub(super) fn in_handed(
        &mut self,
        now: Moment,
        handed: Handed,
        news: News,
        out: &mut Vec<Output>,
    ) {
        let is_left = |side| side == handed.target || handed.with == Some(side);
        match news {
            News::Far(side, LineNews::Ended { cause, by }) if is_left(side) => {
                self.end(now, cause, by, out);
            }
            News::Far(side, LineNews::Broken(cause)) if is_left(side) => {
                self.end(now, cause, Party::Switch, out);
            }
            News::Far(side, LineNews::Keyed(digit)) => self.pass_key(side, digit, out),
            News::Far(side, LineNews::Referred(_)) => self.decline(side, out),
            News::Agent(AgentNews::HungUp) => {
                self.end(now, HangupCause::Normal, Party::Agent, out);
            }
            News::Agent(AgentNews::Lost(cause)) => self.lost_in_handed(now, handed, cause, out),
            News::Agent(AgentNews::Ready) => self.tell_agent(AgentOutput::TellAnswered, out),
            News::Agent(AgentNews::Played) | News::Due(Timer::FallbackEnd) => {
                if let Some(cause) = handed.ends_for {
                    self.end(now, cause, Party::Switch, out);
                }
            }
            // Who is there now has no leg of ours that a carrier could be asked of.
            News::Transfer(_) => self.cannot_transfer(HangupCause::Policy, out),
            News::HangUp { cause, by } => self.end(now, cause, by, out),
            News::Due(timer) => self.due_answered(now, timer, out),
            News::Begun | News::Near(_) | News::Far(..) | News::Confirmed | News::Withdrawn => (),
        }
    }

    /// Whom it was with hears the next agent that has a link, or else the announcement.
    fn lost_in_handed(
        &mut self,
        now: Moment,
        handed: Handed,
        cause: HangupCause,
        out: &mut Vec<Output>,
    ) {
        if handed.with.is_some() {
            return self.end(now, cause, Party::Switch, out);
        }
        if self.take_next(now, cause, out) {
            return;
        }
        self.agent = AgentState::Announcing;
        self.timers.stop(Timer::HangUp);
        self.timers.set(Timer::FallbackEnd, now + FALLBACK_MAX);
        self.state = State::Handed(Handed { ends_for: Some(cause), ..handed });
        out.push(Output::Agent(AgentOutput::StartFallback));
        out.push(Output::Record(CallEvent::FallbackStarted));
    }
}
