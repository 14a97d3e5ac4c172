//! Telephone numbers and addresses that a call goes on to: what a leg to one has of the call, and whether it may be
//! called at all.

use crate::call::dial::DialRequest;
use crate::call::dial::DialTarget;
use crate::call::dial::Joined;
use crate::call::event::CallEvent;
use crate::call::input::Input;
use crate::call::side::LegSide;
use crate::call::transfer::TransferRequest;
use crate::clock;
use crate::engine::call_task::Task;
use crate::engine::call_task::legs::Near;
use crate::engine::dial;
use crate::engine::way;
use crate::routing::outbound::DiversionReason;
use crate::routing::outbound::Forwarding;
use crate::routing::outbound::OutboundRequest;
use crate::routing::trunk::Trunk;
use crate::types::cause::HangupCause;
use crate::types::id::TrunkId;
use crate::types::number::E164;
use crate::types::peer::PeerUri;
use std::sync::Arc;

/// A number that a leg goes to; see [`DialTarget::Number`].
pub(super) struct CalledNumber {
    pub(super) to: E164,
    pub(super) from: Option<E164>,
    pub(super) trunk: Option<TrunkId>,
    pub(super) reason: DiversionReason,
    pub(super) joined: Joined,
}

impl Task {
    /// How a leg to a number is asked for.
    pub(super) fn request_to(
        &mut self,
        side: LegSide,
        number: CalledNumber,
    ) -> Result<OutboundRequest, HangupCause> {
        let CalledNumber { to, from, trunk, reason, joined } = number;
        let to = to.as_str().parse().map_err(|_| HangupCause::NotANumber)?;
        let mut request = OutboundRequest::new(self.route.tenant.id, to);
        request.from = from;
        request.trunk = trunk;
        request.within = self.own_number();
        if matches!(side, LegSide::Supervisor(_)) {
            // It is no party of the call: who calls there, and what came with it, is not passed on.
            request.call_id = self.id().to_string();
            request.hops_left = Some(self.route.hops_left);
            request.trail = self.route.trail.to_value();
        } else {
            self.pass_on(&mut request, reason);
        }
        request.joined_to = self.trunk_of(joined);
        Ok(request)
    }

    /// Says why whoever an application wants transferred to, or to supervise, cannot be called, as far as that is known
    /// before: the record has the steps, as it has those of what is refused later.
    pub(super) fn check_called(
        &mut self,
        side: LegSide,
        request: &DialRequest,
    ) -> Result<(), HangupCause> {
        let number = match request.target {
            DialTarget::Number { to, from, trunk, reason, joined } => {
                CalledNumber { to, from, trunk, reason, joined }
            }
            DialTarget::Uri { ref uri, .. } => return self.check_address(uri),
        };
        let request = self.request_to(side, number)?;
        let table = self.switch.table.load();
        let judged = self.switch.registry.judge_out(clock::now(), &table, request);
        judged.map_err(|refusal| {
            let cause = refusal.cause;
            self.note(CallEvent::Attempted(refusal.decision));
            cause
        })
    }

    /// The same of a SIP address. A name is judged by the addresses it leads to, which are looked up when it is called.
    fn check_address(&mut self, uri: &PeerUri) -> Result<(), HangupCause> {
        let Some(at) = way::address_of(uri.as_str()) else { return Ok(()) };
        let judged = dial::judge(&self.switch, (at, self.route.tenant.id));
        judged.map_err(|(cause, steps)| {
            if !steps.steps().is_empty() {
                self.note(CallEvent::Attempted(steps));
            }
            cause
        })
    }

    /// The same of a transfer that is begun by us. What a carrier does is judged where it is asked for.
    pub(super) fn check_target(&mut self, input: &Input) -> Result<(), HangupCause> {
        match input {
            Input::TransferRequested(
                TransferRequest::Bridge(request)
                | TransferRequest::Attended(request)
                | TransferRequest::Dial(request),
            ) => self.check_called(LegSide::Far, request),
            _ => Ok(()),
        }
    }

    /// The number of ours that the call is with: the one that was called, or calls.
    fn own_number(&self) -> Option<E164> {
        match self.near {
            Near::Invited(..) => Some(self.route.dialled),
            Near::Dialled(_) => self.route.caller.parse().ok(),
        }
    }

    /// What a leg that this call goes on to by a trunk has of the near leg.
    fn pass_on(&self, request: &mut OutboundRequest, reason: DiversionReason) {
        request.call_id = self.id().to_string();
        request.hops_left = Some(self.route.hops_left);
        request.trail = self.route.trail.to_value();
        request.variables = self.route.variables.clone();
        if matches!(self.near, Near::Dialled(_)) {
            return;
        }
        let passing = self.route.passing.as_deref();
        request.anonymous = self.route.withheld;
        request.headers = passing.map(|passing| passing.headers().to_vec()).unwrap_or_default();
        request.forwarding = Some(Forwarding {
            caller: self.route.caller.parse().ok(),
            dialled: self.route.dialled,
            reason,
            diversion: passing.and_then(|passing| passing.diversion.clone()),
            history: passing.and_then(|passing| passing.history.clone()),
            diverted: passing.map_or(0, |passing| passing.diverted),
        });
    }

    /// The trunk by which the media come of whom a new leg is to talk with; `None`: of nobody's telephone.
    fn trunk_of(&mut self, joined: Joined) -> Option<Arc<Trunk>> {
        match joined {
            Joined::Agent => None,
            Joined::Leg(LegSide::Near) => {
                let of_media = self.media.trunk.as_ref();
                let moved = of_media.filter(|_| matches!(self.near, Near::Dialled(_)));
                Some(Arc::clone(moved.unwrap_or(&self.route.trunk)))
            }
            Joined::Leg(side @ (LegSide::Far | LegSide::Third | LegSide::Supervisor(_))) => {
                self.others.as_mut()?.slot(side).trunk.clone()
            }
        }
    }
}
