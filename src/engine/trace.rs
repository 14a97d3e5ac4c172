//! Where the signalling of calls is looked up: each shard keeps that of its own dialogs.

use crate::clock;
use crate::engine::shards::Shards;
use crate::engine::sip_shard::ShardHandle;
use crate::routing::table::RoutingTable;
use crate::sip::endpoint::flow::Flow;
use crate::sip::message::peek::CallIdPlace;
pub(super) use crate::sip::trace::End;
pub use crate::sip::trace::Trace;
use crate::sip::trace::TraceBook;
pub use crate::sip::trace::TracedMessage;
pub use crate::sip::trace::Way;
use crate::sip::trace::ladder;
use crate::sip::trace::pcap;
use crate::types::id::CallId;
use crate::types::id::TrunkId;
use crate::types::moment::Moment;
use arc_swap::ArcSwap;
use bytes::Bytes;
use jiff::Timestamp;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

/// How much signalling a node keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceLimits {
    /// Bytes of one shard; 0 keeps nothing.
    pub shard_bytes_max: usize,
    /// How long a dialog is kept after its last message, and after the end of its call.
    pub life: Duration,
}

#[cfg(test)]
impl TraceLimits {
    /// Nothing is kept.
    pub(super) const NONE: Self = Self { shard_bytes_max: 0, life: Duration::ZERO };
}

/// The book of one shard. The shard alone writes; a lock is held for one message, or for one call's
/// copy.
#[derive(Clone, Debug)]
pub(super) struct ShardTrace(Arc<Mutex<TraceBook>>);

impl ShardTrace {
    pub(super) fn new(limits: TraceLimits) -> Self {
        Self(Arc::new(Mutex::new(TraceBook::new(limits.shard_bytes_max, limits.life))))
    }

    fn lock(&self) -> MutexGuard<'_, TraceBook> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn note(
        &self,
        now: Moment,
        way: Way,
        flow: &Flow,
        (bytes, call_id): (&Bytes, CallIdPlace),
    ) {
        let Some(call_id) = call_id.of(bytes) else { return };
        let Flow { transport, local, remote, .. } = *flow;
        let message =
            TracedMessage { at: now, way, transport, local, remote, bytes: bytes.clone() };
        self.lock().note(call_id, &message);
    }

    /// Forgets what has outlived its time. Returns how many dialogs are kept.
    pub(super) fn forget_outlived(&self, now: Moment) -> usize {
        self.lock().forget_outlived(now)
    }

    fn begin_call(&self, call: CallId) {
        self.lock().begin_call(call);
    }

    fn end_call(&self, now: Moment, call: CallId) {
        self.lock().end_call(now, call);
    }

    /// `secrets` names headers of the leg whose values are secrets.
    pub(super) fn link(&self, leg: (CallId, End), call_id: &[u8], secrets: &Arc<[Box<str>]>) {
        self.lock().link(leg, call_id, secrets);
    }
}

/// A call begins: its legs may be in any shard, and what is kept of them stays until its end.
pub(super) fn begin_call(shards: Option<&Shards>, call: CallId) {
    for shard in shards.into_iter().flat_map(Shards::all) {
        shard.trace().begin_call(call);
    }
}

/// A call is over.
pub(super) fn end_call(shards: Option<&Shards>, call: CallId) {
    for shard in shards.into_iter().flat_map(Shards::all) {
        shard.trace().end_call(clock::now(), call);
    }
}

/// A call's signalling as text for people.
#[must_use]
pub fn ladder(trace: &Trace) -> String {
    ladder::draw(trace)
}

/// A call's signalling as a capture file; its moments count from `start`.
#[must_use]
pub fn pcap(trace: &Trace, start: Timestamp) -> Vec<u8> {
    let start = start.as_nanosecond();
    pcap::write(trace, Duration::from_nanos(u64::try_from(start).unwrap_or(0)))
}

/// The books of all shards.
#[derive(Clone)]
pub struct Traces {
    shards: Vec<ShardTrace>,
    table: Arc<ArcSwap<RoutingTable>>,
}

impl Traces {
    /// The books of `shards`; which headers are secrets is read from the trunks in force.
    #[must_use]
    pub fn new(shards: &[ShardHandle], table: Arc<ArcSwap<RoutingTable>>) -> Self {
        Self { shards: shards.iter().map(|shard| shard.trace().clone()).collect(), table }
    }

    /// Whether the signalling of a trunk's calls is to be stored.
    #[must_use]
    pub fn are_stored_of(&self, trunk: Option<TrunkId>) -> bool {
        let table = self.table.load();
        trunk.and_then(|id| table.trunk(id)).is_none_or(|trunk| trunk.stores_traces)
    }

    /// Forgets the signalling of a call.
    pub fn forget(&self, call: CallId) {
        for shard in &self.shards {
            shard.lock().forget_call(call);
        }
    }

    /// The signalling of a call as far as this node still has it and its life is not over, in the order of
    /// time, secrets masked.
    #[must_use]
    pub fn of_call(&self, call: CallId) -> Trace {
        let now = clock::now();
        let table = self.table.load();
        let secrets = table.secret_headers();
        let mut whole = Trace::default();
        for shard in &self.shards {
            let part = shard.lock().of_call(now, call, secrets);
            whole.left_out += part.left_out;
            whole.messages.extend(part.messages);
        }
        // A call's legs may be in several shards.
        whole.messages.sort_by_key(|message| message.at);
        whole
    }
}
