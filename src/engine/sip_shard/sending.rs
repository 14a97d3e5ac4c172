//! What a shard sends, and what it does not: answers that would burden whoever may have sent nothing.

use crate::clock;
use crate::engine::sip_shard::Shard;
use crate::engine::sip_shard::counted;
use crate::net::end::FlowEnd;
use crate::net::flow::SendError;
use crate::sip::endpoint::event::Counter;
use crate::sip::endpoint::event::Input;
use crate::sip::endpoint::flow::Flow;
use crate::sip::endpoint::flow::FlowId;
use crate::sip::message::peek::CallIdPlace;
use crate::sip::trace::Way;
use crate::telemetry::metric;
use bytes::Bytes;

impl Shard {
    /// What cannot be sent now is lost; retransmission heals it where it matters.
    /// Gives what the endpoint must know of a connection: which it is that was taken, or that it is gone.
    pub(super) fn transmit(&self, flow: &Flow, bytes: Bytes) -> Option<Input> {
        let sent = self.switch.flows.send(flow, bytes.clone());
        let by = Flow { id: sent.unwrap_or(flow.id), ..*flow };
        self.note(Way::Out, &by, (&bytes, CallIdPlace::find(&bytes)));
        if sent.is_err() {
            metric::labelled(metric::Counter::SipMessagesUnsent, "flow").increment(1);
        }
        if !flow.transport.is_reliable() {
            return None;
        }
        match sent {
            to if !flow.id.is_socket() => Some(Input::Led { by: *flow, to: to.ok() }),
            // Its end is on its way here, behind what is said meanwhile.
            Err(SendError::Gone) => Some(self.gone(flow.id)),
            Ok(_) | Err(SendError::Full) => None,
        }
    }

    /// What the endpoint must know of a connection that there is no more, or that never was.
    pub(super) fn gone(&self, id: FlowId) -> Input {
        match self.switch.flows.why_closed(id) {
            Some(FlowEnd::Failed(_)) => Input::FlowFailed(id),
            Some(_) | None => Input::FlowClosed(id),
        }
    }

    /// Sends an answer that is longer than what came from who proved nothing, out of the bucket that challenges are sent from.
    pub(super) fn burden(&mut self, flow: &Flow, bytes: Bytes) {
        if self.switch.registry.may_challenge(clock::now(), flow.remote.ip()) {
            let told = self.transmit(flow, bytes);
            self.told.extend(told);
        } else {
            counted::count(Counter::RefusalWithheld);
        }
    }
}
