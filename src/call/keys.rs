//! Keys that we press, and whose peer hears them.

use crate::call::Call;
use crate::call::State;
use crate::call::consult::Consulting;
use crate::call::event::CallEvent;
use crate::call::handover::Handed;
use crate::call::handover::Handing;
use crate::call::input::Output;
use crate::call::side::LegSide;
use crate::call::steer::Order;
use crate::call::steer::Senseless;

impl Call {
    /// The leg whose peer the agent talks with: another than the near one while it consults somebody, and once it was
    /// handed over.
    #[must_use]
    pub const fn side_of_agent(&self) -> LegSide {
        match self.state {
            State::Consulting(Consulting { target, answered: true })
            | State::Handing(Handing { target, with: None, answered: true })
            | State::Handed(Handed { target, with: None, .. }) => target,
            State::Idle
            | State::Opening
            | State::Calling
            | State::Asking
            | State::Talking
            | State::Announcing(_)
            | State::Joining(_)
            | State::Bridged(..)
            | State::Referring(_)
            | State::Consulting(_)
            | State::Handing(_)
            | State::Handed(_)
            | State::Ending(_)
            | State::Over => LegSide::Near,
        }
    }

    /// Whether this is asked of whom the agent is with in the near leg's place: it is there though that may not be.
    pub(super) fn is_for_another(&self, order: &Order) -> bool {
        let is_far = matches!(order, Order::SendKeys { side: LegSide::Far | LegSide::Third, .. });
        is_far && self.side_of_agent() != LegSide::Near
    }

    pub(super) fn send_keys(
        &self,
        side: LegSide,
        keys: &str,
        out: &mut Vec<Output>,
    ) -> Result<(), Senseless> {
        let side = match (side, self.state, self.side_of_agent()) {
            (LegSide::Near, _, _) => LegSide::Near,
            (LegSide::Far | LegSide::Third, State::Bridged(far, _), _)
            | (LegSide::Far | LegSide::Third, _, far @ (LegSide::Far | LegSide::Third)) => far,
            (LegSide::Far | LegSide::Third | LegSide::Supervisor(_), _, _) => {
                return Err(Senseless::LegGone);
            }
        };
        let line = self.line(side).filter(|line| line.is_answered()).ok_or(Senseless::LegGone)?;
        if !line.takes_keys() {
            return Err(Senseless::NoKeys);
        }
        for key in keys.chars() {
            line.send_key(key, out);
        }
        let count = u32::try_from(keys.chars().count()).unwrap_or(u32::MAX);
        out.push(Output::Record(CallEvent::KeysSent { side, count }));
        Ok(())
    }
}
