//! The agent of another profile in place of one that was not reached or is lost, or that gives way to it.

use crate::call::AgentState;
use crate::call::Call;
use crate::call::State;
use crate::call::bridge::Joining;
use crate::call::dial::DialTarget;
use crate::call::event::CallEvent;
use crate::call::input::AgentOutput;
use crate::call::input::Output;
use crate::call::setup::AgentTerms;
use crate::call::setup::Partner;
use crate::call::side::LegSide;
use crate::call::steer::Attach;
use crate::call::steer::Senseless;
use crate::call::timer::Timer;
use crate::routing::outbound::DiversionReason;
use crate::types::cause::HangupCause;
use crate::types::moment::Moment;

/// Whom the call is forwarded to, told why: since the one before was busy, did not answer or was not there.
fn forwarded_for(cause: HangupCause, mut partner: Partner) -> Partner {
    if let Partner::Forward(request) = &mut partner
        && let DialTarget::Number { reason, .. } = &mut request.target
    {
        *reason = match cause {
            HangupCause::Busy => DiversionReason::Busy,
            HangupCause::NoAnswer => DiversionReason::NoAnswer,
            _ => DiversionReason::Unavailable,
        };
    }
    partner
}

impl Call {
    /// Lets the next agent in order take over from one that is not to be had for `cause`; false where there is
    /// none any more. The near leg hears comfort audio until that one is there.
    pub(super) fn take_next(
        &mut self,
        now: Moment,
        cause: HangupCause,
        out: &mut Vec<Output>,
    ) -> bool {
        while let Some(next) = self.setup.fallbacks.pop_front() {
            if !self.is_handed_over() {
                self.unmute_next(out);
            } else if next.partner != Partner::Agent {
                // Nobody is dialled for who came in the near leg's place.
                continue;
            }
            out.push(Output::Record(CallEvent::AgentReplaced(next.profile)));
            out.push(Output::Agent(AgentOutput::TakeProfile(next.profile)));
            self.setup.agent = AgentTerms::of(&next.agent);
            self.setup.partner = forwarded_for(cause, next.partner);
            if self.reach_partner(now, out) {
                return true;
            }
            out.push(Output::Record(CallEvent::AgentFailed(HangupCause::Overload, None)));
        }
        false
    }

    /// The next agent, or else the announcement, in an answered call.
    pub(super) fn replace_or_announce(
        &mut self,
        now: Moment,
        cause: HangupCause,
        out: &mut Vec<Output>,
    ) {
        if !self.take_next(now, cause, out) {
            self.announce(now, cause, out);
        }
    }

    const fn is_handed_over(&self) -> bool {
        matches!(self.state, State::Handed(_))
    }

    /// Calls for whom the near leg shall talk with; false where no line is free for that.
    pub(super) fn reach_partner(&mut self, now: Moment, out: &mut Vec<Output>) -> bool {
        let is_answered = self.answered_at.is_some();
        self.timers.stop(Timer::TargetEnd);
        self.timers.stop(Timer::LeaveEnd);
        if is_answered {
            let hangup_after = self.setup.agent.hangup_after;
            self.timers.set(Timer::HangUp, hangup_after.map(|after| now + after));
        }
        match self.setup.partner.clone() {
            Partner::Agent => {
                self.agent = AgentState::Connecting;
                self.steered.attaching = true;
                out.push(Output::Agent(AgentOutput::Attach));
                if is_answered && !self.is_handed_over() {
                    self.state = State::Talking;
                }
            }
            // Whom the called party shall talk with is not rung before it is there.
            Partner::AgentLeg(_) | Partner::Forward(_) if self.state == State::Calling => {}
            Partner::AgentLeg(request) | Partner::Forward(request) => {
                let Some(side) = self.dial(now, request, out) else { return false };
                self.partner_side = side;
                self.pass_to(side);
                if is_answered {
                    self.state = State::Joining(Joining::partner(side));
                }
            }
        }
        true
    }

    /// The present agent, or the announcement in its place, gives way; the near leg hears comfort audio
    /// until the new one is there, or how far the call to it got.
    pub(super) fn attach(
        &mut self,
        now: Moment,
        attach: Attach,
        out: &mut Vec<Output>,
    ) -> Result<(), Senseless> {
        match self.state {
            State::Asking | State::Talking | State::Announcing(_) => (),
            State::Joining(_) | State::Bridged(..) if attach.takes_back => self.take_back(out),
            State::Idle
            | State::Opening
            | State::Calling
            | State::Joining(_)
            | State::Bridged(..)
            | State::Referring(_)
            | State::Consulting(_)
            | State::Handing(_)
            | State::Handed(_)
            | State::Ending(_)
            | State::Over => return Err(Senseless::NotWithAgent),
        }
        self.end_agent(out);
        self.unmute_next(out);
        // Who asked for it decided who speaks.
        self.timers.stop(Timer::AskEnd);
        self.timers.stop(Timer::FallbackEnd);
        self.setup.agent = AgentTerms::of(&attach.agent);
        self.setup.partner = attach.partner;
        self.setup.fallbacks = attach.fallbacks;
        let is_called = self.reach_partner(now, out);
        out.push(Output::Record(CallEvent::AgentAttached(attach.profile)));
        if !is_called {
            out.push(Output::Record(CallEvent::AgentFailed(HangupCause::Overload, None)));
            self.replace_or_announce(now, HangupCause::Overload, out);
        }
        Ok(())
    }

    /// Nobody else has the near leg's peer, or rings for it, any more.
    fn take_back(&mut self, out: &mut Vec<Output>) {
        if let State::Joining(joining) = self.state {
            if joining.is_withdrawable() {
                out.push(Output::Record(CallEvent::TransferWithdrawn));
            } else if joining.is_unproved() {
                out.push(Output::Record(CallEvent::TransferCompleted));
            }
        }
        self.timers.stop(Timer::TargetEnd);
        for side in [LegSide::Far, LegSide::Third] {
            self.drop_line(side, HangupCause::Normal, out);
        }
    }
}
