//! A leg that takes the place of the caller's (RFC 3891): its media, its dialog, and what becomes of the one before.

use crate::call::event::CallEvent;
use crate::call::input::Input;
use crate::call::input::LegInput;
use crate::call::input::Successor;
use crate::call::side::LegSide;
use crate::engine::call_task::Task;
use crate::engine::call_task::legs::Near;
use crate::engine::replacement::Replacement;
use crate::engine::sip_shard::CallLeg;
use crate::engine::srtp_terms::srtp_terms;
use crate::types::cause::HangupCause;
use bytes::Bytes;
use std::sync::Arc;

impl Task {
    /// Gives a leg that is to take the near one's place keys of its own, and by another listener a place for its media.
    pub(super) async fn placed(&mut self, mut by: Box<Successor>) -> Option<Input> {
        let flow = self.switch.registry.replacement_flow(self.id());
        match flow.map_or(Ok(None), |flow| self.hold_place(flow.listener, flow.remote.is_ipv6())) {
            Ok(place) => {
                by.place = place;
                let srtp = &self.route.trunk.media.srtp;
                by.srtp = flow.map(|flow| srtp_terms(srtp, flow.transport));
                Some(Input::Leg(LegSide::Near, LegInput::Replaced(by)))
            }
            Err(cause) => {
                self.refuse_replacement(cause).await;
                None
            }
        }
    }

    /// Answers the leg that takes the near one's place, and hangs that up.
    pub(super) async fn replace_near(&mut self, body: Bytes, turn: u8) {
        let registry = &self.switch.registry;
        let Some((replacement, inputs)) = registry.take_replacement(self.id()) else { return };
        let Replacement { shard, dialog, flow, .. } = *replacement;
        let trunk = Arc::clone(&self.route.trunk);
        let leg = CallLeg { call: inputs, side: LegSide::Near, turn, trunk };
        let Some(name) = shard.take_over(dialog, leg, body).await else {
            // Its peer gave up at this very moment: the leg before is still there.
            self.let_place_go();
            return self.leg(LegSide::Near, LegInput::ReplacementLost);
        };
        registry.name_dialog(self.id(), name);
        self.take_place(flow.listener, flow.remote.is_ipv6());
        self.note(CallEvent::Replaced(LegSide::Near));
        let before = std::mem::replace(&mut self.near, Near::Invited(shard, dialog));
        if let Near::Invited(shard, dialog) = before {
            shard.let_go(dialog, HangupCause::Transferred).await;
        }
    }

    pub(super) async fn refuse_replacement(&mut self, cause: HangupCause) {
        self.let_place_go();
        let taken = self.switch.registry.take_replacement(self.id());
        if let Some((replacement, _)) = taken {
            replacement.refuse(&self.switch, cause).await;
        }
    }
}
