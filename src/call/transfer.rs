//! Transfers: what may be asked for, and what is told about one.

use crate::call::AgentState;
use crate::call::Call;
use crate::call::State;
use crate::call::dial::DialRequest;
use crate::call::dial::DialTarget;
use crate::call::event::CallEvent;
use crate::call::input::Input;
use crate::call::steer::Senseless;
use crate::call::timer::Timer;
use crate::types::cause::HangupCause;
use crate::types::moment::Moment;
use std::time::Duration;

/// How long after it failed a transfer may be taken for one that is under way, by an agent that is not told.
const LEAVE_MAX: Duration = Duration::from_secs(2);

/// How and to whom a call shall be transferred.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TransferRequest {
    /// The near leg's carrier shall connect it with `target` and take us out of the call.
    Refer {
        /// With whom.
        target: Box<DialTarget>,
        /// Dialled by us when the carrier does not do it; `None`: back to the agent at once.
        otherwise: Option<Box<DialRequest>>,
    },
    /// We dial the target, and bridge it with the near leg once it answers.
    Bridge(Box<DialRequest>),
    /// We dial the target; the agent speaks with it while the near leg waits, until
    /// `Input::TransferConfirmed` bridges them or `Input::TransferWithdrawn` hangs the target up.
    Attended(Box<DialRequest>),
    /// We dial the target and bridge it with the near leg, which the agent has back once the target is gone.
    Dial(Box<DialRequest>),
}

impl TransferRequest {
    /// Its mode.
    #[must_use]
    pub const fn mode(&self) -> TransferMode {
        match self {
            Self::Refer { .. } => TransferMode::Refer,
            Self::Bridge(_) => TransferMode::Bridge,
            Self::Attended(_) => TransferMode::Attended,
            Self::Dial(_) => TransferMode::Dial,
        }
    }
}

/// How a call is transferred.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransferMode {
    /// By the carrier.
    Refer,
    /// Dialled and bridged by us.
    Bridge,
    /// Dialled by us; the agent speaks with the target first.
    Attended,
    /// Dialled and bridged by us because the peer of a far leg asked for it.
    Referred,
    /// Dialled and bridged by us until the target is gone; the agent waits for that.
    Dial,
    /// Dialled by us to take the near leg's place with the agent, because its peer asked for it.
    Handover,
}

impl TransferMode {
    /// The spelling of records.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Refer => "refer",
            Self::Bridge => "bridge",
            Self::Attended => "attended",
            Self::Referred => "referred",
            Self::Dial => "dial",
            Self::Handover => "handover",
        }
    }
}

/// What the agent is told of a transfer. After `Completed` it is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransferNews {
    /// It began; unless the carrier does it, the near leg does not hear the agent from now on.
    Begun,
    /// The target answered and hears the agent; the near leg waits.
    Consulting,
    /// The target of a dial answered; it has the near leg until one of them is gone.
    Answered,
    /// The target of a dial is gone; the near leg hears the agent again.
    Ended,
    /// It failed for this cause; the near leg hears the agent again.
    Failed(HangupCause),
    /// It was withdrawn; the near leg hears the agent again.
    Withdrawn,
    /// The near leg is with the target.
    Completed,
}

/// How a transfer came to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Undone {
    /// It failed for this cause.
    Failed(HangupCause),
    /// Whoever wanted it wants it no more.
    Withdrawn,
}

impl Undone {
    /// Why legs are hung up by it.
    pub(super) const fn cause(self) -> HangupCause {
        match self {
            Self::Failed(cause) => cause,
            Self::Withdrawn => HangupCause::Normal,
        }
    }

    /// What the record has of it.
    pub(super) const fn event(self) -> CallEvent {
        match self {
            Self::Failed(cause) => CallEvent::TransferFailed(cause),
            Self::Withdrawn => CallEvent::TransferWithdrawn,
        }
    }

    /// What the agent is told of it.
    pub(super) const fn news(self) -> TransferNews {
        match self {
            Self::Failed(cause) => TransferNews::Failed(cause),
            Self::Withdrawn => TransferNews::Withdrawn,
        }
    }
}

impl Call {
    /// Whether what is asked of transfers makes sense at this moment. Other inputs always do.
    ///
    /// # Errors
    /// What stands against it.
    pub fn check_transfer(&self, input: &Input) -> Result<(), Senseless> {
        match input {
            Input::TransferRequested(request) => self.check_begin(request.mode()),
            Input::TransferConfirmed => match self.state {
                State::Consulting(_) => Ok(()),
                State::Idle
                | State::Opening
                | State::Calling
                | State::Asking
                | State::Talking
                | State::Announcing(_)
                | State::Joining(_)
                | State::Bridged(..)
                | State::Referring(_)
                | State::Handing(_)
                | State::Handed(_)
                | State::Ending(_)
                | State::Over => Err(Senseless::NoConsultation),
            },
            Input::TransferWithdrawn => match self.state {
                State::Consulting(_) | State::Handing(_) => Ok(()),
                State::Joining(joining) if joining.is_withdrawable() => Ok(()),
                State::Idle
                | State::Opening
                | State::Calling
                | State::Asking
                | State::Talking
                | State::Announcing(_)
                | State::Joining(_)
                | State::Bridged(..)
                | State::Referring(_)
                | State::Handed(_)
                | State::Ending(_)
                | State::Over => Err(Senseless::NoTransfer),
            },
            Input::Begun
            | Input::Leg(..)
            | Input::LegOf { .. }
            | Input::Media(..)
            | Input::Agent(_)
            | Input::Asked(_)
            | Input::HangupRequested { .. }
            | Input::HoldRequested(_)
            | Input::ResumeRequested(_)
            | Input::DeadlineReached => Ok(()),
        }
    }

    /// A transfer failed, and may have done so at once. An agent that asks for one and leaves counts on it to be under
    /// way: for a moment its leaving is no wish to end the call, unless it is one that was told.
    pub(super) fn expect_leaving(&mut self, now: Moment, cause: HangupCause) {
        if self.agent == AgentState::Ready && !self.setup.agent.hears_of_failures {
            self.steered.failed_for = Some(cause);
            self.timers.set(Timer::LeaveEnd, now + LEAVE_MAX);
        }
    }

    /// Why the transfer failed for which the agent leaves at this moment; `None`: it wants the call ended.
    pub(super) fn leaves_for(&mut self) -> Option<HangupCause> {
        let is_expected = self.timers.is_set(Timer::LeaveEnd);
        self.timers.stop(Timer::LeaveEnd);
        self.steered.failed_for.take().filter(|_| is_expected)
    }

    fn check_begin(&self, mode: TransferMode) -> Result<(), Senseless> {
        let needs_agent = matches!(mode, TransferMode::Attended | TransferMode::Dial);
        match self.state {
            State::Idle | State::Opening | State::Calling => Err(Senseless::NotAnswered),
            State::Talking if needs_agent && self.agent != AgentState::Ready => {
                Err(Senseless::NotWithAgent)
            }
            State::Talking => Ok(()),
            State::Bridged(..) if needs_agent => Err(Senseless::NotWithAgent),
            State::Bridged(..) => Ok(()),
            State::Asking | State::Announcing(_) => Err(Senseless::NotWithAgent),
            State::Joining(_) | State::Referring(_) | State::Consulting(_) | State::Handing(_) => {
                Err(Senseless::Transferring)
            }
            State::Handed(_) => Err(Senseless::LegGone),
            State::Ending(_) | State::Over => Err(Senseless::Over),
        }
    }
}
