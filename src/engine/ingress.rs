//! What the sockets received goes to its shard; strangers and floods end here, before any parse.

use crate::clock;
use crate::engine::registry::Registry;
use crate::engine::sip_shard::ShardHandle;
use crate::engine::switch::Switch;
use crate::net::flow::Flows;
use crate::net::flow::Ingress;
use crate::routing::identify::knows_source;
use crate::routing::table::RoutingTable;
use crate::sip::endpoint::flow::Flow;
use crate::sip::endpoint::flow::FlowId;
use crate::sip::message::peek;
use crate::sip::message::peek::FirstLine;
use crate::sip::message::reply;
use crate::telemetry::metric;
use crate::telemetry::metric::Counter;
use crate::types::cause::HangupCause;
use crate::types::name::ListenerName;
use crate::types::transport::Transport;
use arc_swap::ArcSwap;
use bytes::Bytes;
use std::hash::BuildHasher;
use std::hash::RandomState;
use std::net::IpAddr;
use std::sync::Arc;

/// What becomes of messages from sources no trunk knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stranger {
    /// Nothing is sent.
    Silence,
    /// 403 to each request but ACK.
    Refuse,
}

/// A listener as the gate sees it.
#[derive(Clone, Debug)]
pub struct Gate {
    /// Its name.
    pub name: ListenerName,
    /// What strangers get.
    pub stranger: Stranger,
}

/// Hands messages to the shards.
pub struct Dispatcher {
    table: Arc<ArcSwap<RoutingTable>>,
    gates: Vec<Gate>,
    shards: Vec<ShardHandle>,
    flows: Flows,
    registry: Arc<Registry>,
    /// Keyed, so that nobody can aim a flood at one shard.
    hash: RandomState,
}

impl Dispatcher {
    /// A dispatcher over `shards`; `gates` are the listeners by their index in flows.
    #[must_use]
    pub fn new(switch: &Switch, gates: Vec<Gate>, shards: Vec<ShardHandle>) -> Self {
        Self {
            table: Arc::clone(&switch.table),
            gates,
            shards,
            flows: switch.flows.clone(),
            registry: Arc::clone(&switch.registry),
            hash: RandomState::new(),
        }
    }

    fn knows(&self, listener: u16, source: IpAddr, transport: Transport) -> bool {
        let gate = self.gates.get(usize::from(listener));
        gate.is_some_and(|gate| knows_source(&self.table.load(), &gate.name, source, transport))
    }

    fn shard_of(&self, call_id: &[u8]) -> Option<&ShardHandle> {
        let count = u64::try_from(self.shards.len()).ok().filter(|count| *count > 0)?;
        let index = usize::try_from(self.hash.hash_one(call_id) % count).ok()?;
        self.shards.get(index)
    }

    /// A source no trunk lists.
    fn turn_away(&self, flow: &Flow, message: &Bytes) {
        metric::counter(Counter::SipRequestsUnknownSource).increment(1);
        let gate = self.gates.get(usize::from(flow.listener));
        if gate.is_some_and(|gate| gate.stranger == Stranger::Refuse)
            && let Some(answer) = reply::stranger_reply(message, flow.remote)
        {
            self.send(flow, answer);
        }
    }

    fn shed(&self, flow: &Flow, message: &Bytes) {
        metric::labelled(Counter::SipRequestsShed, "shard_queue").increment(1);
        let retry = HangupCause::Overload.retry_after_s().unwrap_or(1);
        if let Some(answer) = reply::overload_reply(message, flow.remote, retry) {
            self.send(flow, answer);
        }
    }

    fn send(&self, flow: &Flow, answer: Bytes) {
        if self.flows.send(flow, answer).is_err() {
            metric::labelled(Counter::SipMessagesUnsent, "flow").increment(1);
        }
    }
}

impl Ingress for Dispatcher {
    fn receive(&self, flow: Flow, message: Bytes) {
        if !self.knows(flow.listener, flow.remote.ip(), flow.transport)
            && !self.registry.has_calls_from(clock::now(), flow.remote.ip())
        {
            return self.turn_away(&flow, &message);
        }
        // A message without Call-ID can be no call's; any shard may answer what is wrong with it.
        let call_id = peek::call_id_of(&message).unwrap_or_default();
        let Some(shard) = self.shard_of(call_id) else { return };
        let is_invite = peek::first_line(&message) == FirstLine::Invite;
        if is_invite && shard.is_crowded() {
            return self.shed(&flow, &message);
        }
        if shard.receive(flow, message.clone()).is_err() {
            if is_invite {
                self.shed(&flow, &message);
            }
            metric::labelled(Counter::SipMessagesDropped, "shard_queue").increment(1);
        }
    }

    fn flow_closed(&self, id: FlowId) {
        for shard in &self.shards {
            shard.flow_closed(id);
        }
    }

    fn admits(&self, listener: u16, source: IpAddr, transport: Transport) -> bool {
        self.knows(listener, source, transport)
    }
}
