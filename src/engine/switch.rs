//! What every shard and every call of a node shares.

use crate::cdr::CallReport;
use crate::clock;
use crate::engine::assets::Assets;
use crate::engine::live::LiveFeed;
use crate::engine::media_thread::MediaEngine;
use crate::engine::registry::Registry;
use crate::engine::shards::Shards;
use crate::engine::sip_shard::ShardHandle;
use crate::engine::speech::Speech;
use crate::engine::trace::TraceLimits;
use crate::net::dns::Dns;
use crate::net::flow::Flows;
use crate::net::http_client::HttpClient;
use crate::net::websocket::TrustRoots;
use crate::recording::recorder::Recorder;
use crate::routing::table::RoutingTable;
use crate::routing::trunk::Trunk;
use crate::sip::endpoint::outbound::OutboundInvite;
use crate::sip::message::field::FieldValue;
use crate::types::id::CallId;
use crate::types::id::TenantId;
use crate::types::moment::Moment;
use crate::types::name::ListenerName;
use crate::types::trace_context::Sampling;
use crate::types::transport::Transport;
use arc_swap::ArcSwap;
use std::fmt;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::OnceLock;

/// Where call records go.
pub trait Ledger: Send + Sync {
    /// Takes a call's report: the record as it stands and the events since the last report. Does not
    /// block; the future resolves when the report is written, and may be dropped.
    fn report(&self, report: CallReport) -> Written;

    /// Takes a report that nobody waits for; it may be written a little later, with others. Does not
    /// block.
    fn report_later(&self, report: CallReport);

    /// Takes something that was said. Does not block. A ledger that keeps no transcripts lets it go.
    fn said(&self, turn: SaidTurn) {
        tracing::trace!(call = %turn.call, "what was said is not kept");
    }
}

/// Something that was said in a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SaidTurn {
    /// Whose call it is.
    pub tenant: TenantId,
    /// The call.
    pub call: CallId,
    /// Its number in the call, from 0.
    pub seq: u32,
    /// By the agent; else by the caller.
    pub by_agent: bool,
    /// What.
    pub text: String,
    /// When.
    pub at: Moment,
    /// The same from the call's answer, in ms; `None` before it.
    pub at_ms: Option<u64>,
}

/// Resolves when a report is written, or when it is clear that it will not be soon.
pub type Written = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What a shard must know of a listener.
#[derive(Clone, Debug)]
pub struct SwitchListener {
    /// Its name.
    pub name: ListenerName,
    /// The host that peers are told to find it at.
    pub sip_host: String,
    /// The address its media sockets are bound to.
    pub bind: IpAddr,
    /// The address peers are told to send media to.
    pub rtp_address: IpAddr,
    /// What it takes connections and datagrams by.
    pub transports: Vec<Transport>,
}

/// What every shard and every call of a node shares.
pub struct Switch {
    /// The routing table in force.
    pub table: Arc<ArcSwap<RoutingTable>>,
    /// Running calls and admission.
    pub registry: Arc<Registry>,
    /// The media threads.
    pub media: MediaEngine,
    /// Where call records go.
    pub ledger: Arc<dyn Ledger>,
    /// What calls may be played.
    pub assets: Assets,
    /// Speaks texts.
    pub speech: Speech,
    /// Asks web servers of tenants.
    pub http: HttpClient,
    /// Where the API is reached from outside, without a slash at its end; empty: addresses of it are paths.
    pub public_url: String,
    /// Who records calls; `None`: nobody can.
    pub recorder: Option<Recorder>,
    /// What happens to calls, for all who want to know.
    pub live: LiveFeed,
    /// Where SIP messages go.
    pub flows: Flows,
    /// Where the addresses of gateways come from.
    pub dns: Dns,
    /// Whom agents are trusted by on `wss://`.
    pub roots: TrustRoots,
    /// The listeners, by their index in flows.
    pub listeners: Vec<SwitchListener>,
    /// How much signalling is kept.
    pub trace: TraceLimits,
    /// Which calls are traced; `None`: there is no collector, and agents are told of no trace.
    pub sampling: Option<Sampling>,
    /// The shards, once they run.
    pub shards: OnceLock<Shards>,
}

impl Switch {
    /// The shard for a call of ours, whose Call-ID is made for it; `None` before shards run.
    pub(super) fn shard_for(&self, invite: &mut OutboundInvite) -> Option<ShardHandle> {
        let (call_id, shard) = self.new_call_id()?;
        invite.call_id = Some(call_id);
        Some(shard)
    }

    /// A new Call-ID, and the shard it belongs to; `None` before shards run.
    pub(super) fn new_call_id(&self) -> Option<(FieldValue, ShardHandle)> {
        let call_id = FieldValue::new(&clock::new_uuid().to_string()).ok()?;
        let shard = self.shards.get()?.of_call_id(call_id.as_ref())?.clone();
        Some((call_id, shard))
    }

    /// The listener that our requests by a trunk over `transport` name; where the trunk says nothing,
    /// the first that a peer can reach by that, else the first.
    pub(super) fn listener_for(&self, trunk: Option<&Arc<Trunk>>, transport: Transport) -> u16 {
        let wanted = trunk.and_then(|trunk| trunk.listener.as_ref());
        let named = wanted.and_then(|name| self.listeners.iter().position(|own| own.name == *name));
        let fitting = || self.listeners.iter().position(|own| own.transports.contains(&transport));
        u16::try_from(named.or_else(fitting).unwrap_or(0)).unwrap_or(0)
    }
}

impl fmt::Debug for Switch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Switch").field("listeners", &self.listeners).finish_non_exhaustive()
    }
}
