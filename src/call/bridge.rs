//! A call whose near leg is with another leg, or waits for one to be dialled.

use crate::call::AgentState;
use crate::call::Call;
use crate::call::State;
use crate::call::dial::DialRequest;
use crate::call::event::CallEvent;
use crate::call::input::AgentOutput;
use crate::call::input::LegOutput;
use crate::call::input::Output;
use crate::call::line::Line;
use crate::call::news::AgentNews;
use crate::call::news::LineNews;
use crate::call::news::News;
use crate::call::setup::Partner;
use crate::call::side::LegSide;
use crate::call::timer::Timer;
use crate::call::transfer::TransferMode;
use crate::call::transfer::TransferNews;
use crate::call::transfer::TransferRequest;
use crate::call::transfer::Undone;
use crate::types::cause::HangupCause;
use crate::types::cause::Party;
use crate::types::moment::Moment;
use std::time::Duration;

/// A target that hangs up sooner than this after its answer is a transfer that failed: the agent is
/// kept until then.
pub(super) const PROOF: Duration = Duration::from_secs(2);
/// Trying: a transfer that a peer asked for is under way.
const TRYING: u16 = 100;
/// Done: a transfer that a peer asked for succeeded.
const OK: u16 = 200;
/// Whom a transfer was about is not there any more.
const TEMPORARILY_UNAVAILABLE: u16 = 480;

/// A far leg, and whether it is the call's agent.
pub(super) type FarLeg = (LegSide, bool);

/// The near leg waits for another.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Joining {
    /// For which.
    pub(super) target: LegSide,
    /// The leg the near one was with before; `None`: the agent.
    back: Option<FarLeg>,
    /// By which transfer; `None`: it is the call's partner.
    mode: Option<TransferMode>,
    /// It answered, and they hear each other; it has not yet proved that it stays.
    pub(super) answered: bool,
}

impl Joining {
    /// True while it may be taken back.
    pub(super) const fn is_withdrawable(&self) -> bool {
        self.mode.is_some() && !self.answered
    }

    /// True of a transfer whose target has the near leg's peer, and has not yet proved that it stays.
    pub(super) const fn is_unproved(&self) -> bool {
        self.mode.is_some() && self.answered
    }

    /// True where nobody waits for it but the near leg's peer.
    pub(super) const fn is_for_partner(&self) -> bool {
        self.mode.is_none()
    }

    /// For the partner of the call.
    pub(super) const fn partner(target: LegSide) -> Self {
        Self { target, back: None, mode: None, answered: false }
    }

    /// For the target of an attended transfer whose agent did not wait for the answer.
    pub(super) const fn unattended(target: LegSide) -> Self {
        Self { target, back: None, mode: Some(TransferMode::Attended), answered: false }
    }
}

/// What who asked for a transfer is told when it failed; of one who was there and hung up, that it is not
/// there any more.
fn not_done(cause: HangupCause) -> u16 {
    match cause.sip_status() {
        status @ 300.. => status,
        _ => TEMPORARILY_UNAVAILABLE,
    }
}

impl Call {
    pub(super) fn begin_transfer(
        &mut self,
        now: Moment,
        request: TransferRequest,
        back: Option<FarLeg>,
        out: &mut Vec<Output>,
    ) {
        match request {
            TransferRequest::Refer { target, otherwise } => {
                self.otherwise = otherwise;
                self.refer(now, *target, back, out);
            }
            TransferRequest::Bridge(request) => {
                if !self.join(now, request, (TransferMode::Bridge, back), out) {
                    self.has_no_line(now, out);
                }
            }
            TransferRequest::Attended(request) => {
                if self.agent == AgentState::Ready && back.is_none() {
                    self.consult(now, request, out);
                } else {
                    self.cannot_transfer(HangupCause::Policy, out);
                }
            }
            TransferRequest::Dial(request) => {
                if self.agent != AgentState::Ready || back.is_some() {
                    self.cannot_transfer(HangupCause::Policy, out);
                } else if !self.join(now, request, (TransferMode::Dial, back), out) {
                    self.cannot_transfer(HangupCause::Overload, out);
                }
            }
        }
    }

    /// Dials the target of a transfer while the near leg waits; false when there is no line for it.
    pub(super) fn join(
        &mut self,
        now: Moment,
        request: Box<DialRequest>,
        (mode, back): (TransferMode, Option<FarLeg>),
        out: &mut Vec<Output>,
    ) -> bool {
        let Some(target) = self.dial(now, request, out) else {
            return false;
        };
        out.push(Output::Record(CallEvent::TransferBegun(mode)));
        self.tell_agent(AgentOutput::TellTransfer(TransferNews::Begun), out);
        self.state = State::Joining(Joining { target, back, mode: Some(mode), answered: false });
        true
    }

    /// Nothing changes by a transfer that cannot even begin.
    pub(super) fn cannot_transfer(&self, cause: HangupCause, out: &mut Vec<Output>) {
        out.push(Output::Record(CallEvent::TransferFailed(cause)));
        self.tell_agent(AgentOutput::TellTransfer(TransferNews::Failed(cause)), out);
    }

    /// There is no line for the target: the transfer fails as it begins.
    pub(super) fn has_no_line(&mut self, now: Moment, out: &mut Vec<Output>) {
        self.cannot_transfer(HangupCause::Overload, out);
        if self.state == State::Talking {
            self.expect_leaving(now, HangupCause::Overload);
        }
    }

    pub(super) fn in_joining(
        &mut self,
        now: Moment,
        joining: Joining,
        news: News,
        out: &mut Vec<Output>,
    ) {
        match news {
            News::Near(news) => {
                if joining.answered && self.near.is_gone() {
                    out.push(Output::Record(CallEvent::TransferCompleted));
                }
                self.near_answered(now, news, out);
            }
            News::Far(side, news) if side == joining.target => {
                self.target_in_joining(now, joining, news, out);
            }
            News::Far(side, news) => self.back_in_joining(joining, side, &news, out),
            News::Agent(AgentNews::Ready) => self.tell_agent(AgentOutput::TellAnswered, out),
            News::Withdrawn => {
                if joining.is_withdrawable() {
                    self.join_undone(now, joining, Undone::Withdrawn, out);
                }
            }
            News::HangUp { cause, by } => self.end(now, cause, by, out),
            News::Due(Timer::TargetEnd) => {
                if joining.answered {
                    self.join_proved(joining, out);
                } else {
                    self.join_failed(now, joining, HangupCause::NoAnswer, out);
                }
            }
            News::Due(timer) => self.due_answered(now, timer, out),
            // An agent that does not wait for the end of its transfer is not missed before that fails.
            News::Agent(AgentNews::Lost(_) | AgentNews::HungUp | AgentNews::Played)
            | News::Begun
            | News::Transfer(_)
            | News::Confirmed => (),
        }
    }

    fn target_in_joining(
        &mut self,
        now: Moment,
        joining: Joining,
        news: LineNews,
        out: &mut Vec<Output>,
    ) {
        match news {
            LineNews::Progressed { status, .. } => self.notify(joining, status, out),
            LineNews::Answered => self.join_answered(now, joining, out),
            LineNews::Failed(cause) | LineNews::Broken(cause) => {
                self.join_failed(now, joining, cause, out);
            }
            LineNews::Ended { cause, by } => match joining.mode {
                Some(_) => self.join_failed(now, joining, too_soon(cause), out),
                None => self.far_ended(now, (joining.target, false), (cause, by), out),
            },
            LineNews::Keyed(digit) => self.pass_key(joining.target, digit, out),
            LineNews::Referred(_) => self.decline(joining.target, out),
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

    /// The leg that shall be replaced waits; when it does not, there is no way back to it.
    fn back_in_joining(
        &mut self,
        joining: Joining,
        side: LegSide,
        news: &LineNews,
        out: &mut Vec<Output>,
    ) {
        if joining.back.is_none_or(|(back, _)| back != side) {
            return;
        }
        match news {
            LineNews::Ended { .. } => (),
            LineNews::Broken(cause) => self.drop_line(side, *cause, out),
            LineNews::Referred(_) => return self.decline(side, out),
            LineNews::Offered
            | LineNews::Ready
            | LineNews::Progressed { .. }
            | LineNews::Answered
            | LineNews::Acknowledged
            | LineNews::Heard
            | LineNews::Failed(_)
            | LineNews::Cancelled
            | LineNews::Keyed(_)
            | LineNews::ReferProgressed(_)
            | LineNews::ReferFailed(_)
            | LineNews::Closed => return,
        }
        self.state = State::Joining(Joining { back: None, ..joining });
    }

    fn join_answered(&mut self, now: Moment, joining: Joining, out: &mut Vec<Output>) {
        let target = joining.target;
        if joining.mode.is_none() {
            let is_agent = matches!(self.setup.partner, Partner::AgentLeg(_));
            return self.bridge(target, is_agent, out);
        }
        self.hold_no_longer(out);
        self.start_playout(target, out);
        out.push(Output::Record(CallEvent::Bridged(target)));
        if joining.mode == Some(TransferMode::Dial) {
            // The agent is kept however soon the target leaves.
            self.timers.stop(Timer::TargetEnd);
            self.tell_agent(AgentOutput::TellTransfer(TransferNews::Answered), out);
            self.state = State::Bridged(target, false);
            return;
        }
        self.timers.set(Timer::TargetEnd, now + PROOF);
        self.state = State::Joining(Joining { answered: true, ..joining });
    }

    /// The target stays: who was there before is not needed any more.
    fn join_proved(&mut self, joining: Joining, out: &mut Vec<Output>) {
        if let Some((back, _)) = joining.back {
            self.notify(joining, OK, out);
            self.drop_line(back, HangupCause::Transferred, out);
        }
        self.transferred(joining.target, out);
    }

    /// The near leg is with the target of the transfer, for good.
    pub(super) fn transferred(&mut self, target: LegSide, out: &mut Vec<Output>) {
        out.push(Output::Record(CallEvent::TransferCompleted));
        self.tell_agent(AgentOutput::TellTransfer(TransferNews::Completed), out);
        self.end_agent(out);
        self.timers.stop(Timer::HangUp);
        self.timers.stop(Timer::TargetEnd);
        self.state = State::Bridged(target, false);
    }

    fn join_failed(
        &mut self,
        now: Moment,
        joining: Joining,
        cause: HangupCause,
        out: &mut Vec<Output>,
    ) {
        self.join_undone(now, joining, Undone::Failed(cause), out);
    }

    fn join_undone(
        &mut self,
        now: Moment,
        joining: Joining,
        undone: Undone,
        out: &mut Vec<Output>,
    ) {
        let cause = undone.cause();
        let status = self.not_done(joining.target, cause);
        self.drop_line(joining.target, cause, out);
        self.notify(joining, status, out);
        if joining.mode.is_some() {
            self.come_back(now, joining.back, undone, out);
        } else {
            if matches!(self.setup.partner, Partner::AgentLeg(_)) {
                out.push(Output::Record(CallEvent::AgentFailed(cause, None)));
            }
            self.replace_or_announce(now, cause, out);
        }
    }

    /// The transfer came to nothing: the near leg goes back to whom it was with; where that is gone, the next agent takes
    /// over, or it hears why it cannot go on.
    pub(super) fn come_back(
        &mut self,
        now: Moment,
        back: Option<FarLeg>,
        undone: Undone,
        out: &mut Vec<Output>,
    ) {
        self.timers.stop(Timer::TargetEnd);
        self.timers.stop(Timer::ReferEnd);
        out.push(Output::Record(undone.event()));
        let there = |side| self.line(side).is_some_and(Line::is_answered);
        match (back, self.agent) {
            (Some((far, is_agent)), _) if there(far) => self.state = State::Bridged(far, is_agent),
            (_, AgentState::Connecting | AgentState::Ready) => {
                self.tell_agent(AgentOutput::TellTransfer(undone.news()), out);
                match undone {
                    // A script waits for whom it dialled, and hears what came of it.
                    Undone::Failed(cause) if !self.dials() => self.expect_leaving(now, cause),
                    Undone::Failed(_) | Undone::Withdrawn => self.timers.stop(Timer::LeaveEnd),
                }
                self.state = State::Talking;
            }
            (_, AgentState::Absent | AgentState::Announcing | AgentState::Gone) => {
                self.replace_or_announce(now, undone.cause(), out);
            }
        }
    }

    /// Whether the near leg waits for somebody its agent dialled, and waits for as well.
    const fn dials(&self) -> bool {
        matches!(self.state, State::Joining(Joining { mode: Some(TransferMode::Dial), .. }))
    }

    /// What is reported of a transfer to `target` that failed: the target's own final status, where it gave
    /// one (RFC 3515 §2.4.5).
    pub(super) fn not_done(&self, target: LegSide, cause: HangupCause) -> u16 {
        let own = self.line(target).and_then(Line::refused_with);
        own.filter(|status| *status >= 300).unwrap_or_else(|| not_done(cause))
    }

    /// Reports to the peer that asked for the transfer.
    fn notify(&self, joining: Joining, status: u16, out: &mut Vec<Output>) {
        if joining.mode == Some(TransferMode::Referred)
            && let Some(line) = joining.back.and_then(|(back, _)| self.line(back))
        {
            line.ask(LegOutput::NotifyRefer { status }, out);
        }
    }

    /// The near leg is with the partner of the call.
    pub(super) fn bridge(&mut self, far: LegSide, is_agent: bool, out: &mut Vec<Output>) {
        self.timers.stop(Timer::TargetEnd);
        self.start_playout(far, out);
        if is_agent {
            out.push(Output::Record(CallEvent::AgentReady));
        }
        out.push(Output::Record(CallEvent::Bridged(far)));
        self.state = State::Bridged(far, is_agent);
    }

    pub(super) fn in_bridged(
        &mut self,
        now: Moment,
        far: FarLeg,
        news: News,
        out: &mut Vec<Output>,
    ) {
        match news {
            News::Near(LineNews::Referred(request)) => {
                self.hand_over(now, request, Some(far), out);
            }
            News::Near(news) => self.near_answered(now, news, out),
            News::Far(side, news) if side == far.0 => self.far_in_bridged(now, far, news, out),
            News::Transfer(request) => self.begin_transfer(now, request, Some(far), out),
            News::HangUp { cause, by } => self.end(now, cause, by, out),
            News::Due(timer) => self.due_answered(now, timer, out),
            News::Withdrawn => {
                if self.is_dial() {
                    self.drop_line(far.0, HangupCause::Normal, out);
                    self.back_to_agent(out);
                }
            }
            News::Begun | News::Far(..) | News::Agent(_) | News::Confirmed => (),
        }
    }

    /// Whether the near leg is with a leg that its agent dialled and waits for: else an agent is gone by then.
    fn is_dial(&self) -> bool {
        self.agent == AgentState::Ready
    }

    /// The target of a dial is gone.
    fn back_to_agent(&mut self, out: &mut Vec<Output>) {
        out.push(Output::Record(CallEvent::TransferCompleted));
        self.tell_agent(AgentOutput::TellTransfer(TransferNews::Ended), out);
        self.state = State::Talking;
    }

    fn far_in_bridged(&mut self, now: Moment, far: FarLeg, news: LineNews, out: &mut Vec<Output>) {
        match news {
            LineNews::Ended { cause, by } => self.far_ended(now, far, (cause, by), out),
            LineNews::Broken(cause) => {
                self.drop_line(far.0, cause, out);
                self.far_ended(now, far, (cause, Party::Switch), out);
            }
            LineNews::Keyed(digit) => self.pass_key(far.0, digit, out),
            LineNews::Referred(request) => self.referred(now, far, request, out),
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
            | LineNews::Closed => (),
        }
    }

    /// The other leg hung up, which ends the call; an agent that is lost is an agent that failed.
    pub(super) fn far_ended(
        &mut self,
        now: Moment,
        (_, is_agent): FarLeg,
        (cause, by): (HangupCause, Party),
        out: &mut Vec<Output>,
    ) {
        if self.is_dial() {
            self.back_to_agent(out);
        } else if is_agent && cause != HangupCause::Normal {
            let lost = HangupCause::AgentLost;
            out.push(Output::Record(CallEvent::AgentFailed(lost, None)));
            self.replace_or_announce(now, lost, out);
        } else {
            self.end(now, cause, by, out);
        }
    }

    /// The other leg wants the near one connected with somebody else.
    fn referred(
        &mut self,
        now: Moment,
        far: FarLeg,
        request: Box<DialRequest>,
        out: &mut Vec<Output>,
    ) {
        let (side, _) = far;
        let has_room = self.far.is_none() || self.third.is_none();
        let Some(line) = self.line(side) else { return };
        if !has_room {
            return line.decline(out);
        }
        line.ask(LegOutput::AcceptRefer, out);
        line.ask(LegOutput::NotifyRefer { status: TRYING }, out);
        self.join(now, request, (TransferMode::Referred, Some(far)), out);
    }
}

/// The cause of a target that hung up right after its answer.
pub(super) fn too_soon(cause: HangupCause) -> HangupCause {
    if cause == HangupCause::Normal { HangupCause::Rejected } else { cause }
}
