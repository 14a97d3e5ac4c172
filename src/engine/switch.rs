//! What every shard and every call of a node shares.

use crate::cdr::CallReport;
use crate::engine::media_thread::MediaEngine;
use crate::engine::registry::Registry;
use crate::engine::trace::TraceLimits;
use crate::net::dns::Dns;
use crate::net::flow::Flows;
use crate::net::websocket::TrustRoots;
use crate::routing::table::RoutingTable;
use crate::types::name::ListenerName;
use arc_swap::ArcSwap;
use std::fmt;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;

/// Where call records go.
pub trait Ledger: Send + Sync {
    /// Takes a call's report: the record as it stands and the events since the last report. Does not
    /// block; the future resolves when the report is written, and may be dropped.
    fn report(&self, report: CallReport) -> Written;

    /// Takes a report that nobody waits for; it may be written a little later, with others. Does not
    /// block.
    fn report_later(&self, report: CallReport);
}

/// Resolves when a report is written, or when it is clear that it will not be soon.
pub type Written = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What a shard must know of a listener.
#[derive(Clone, Debug)]
pub struct SwitchListener {
    /// Its name.
    pub name: ListenerName,
    /// The address its media sockets are bound to.
    pub bind: IpAddr,
    /// The address peers are told to send media to.
    pub rtp_address: IpAddr,
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
}

impl fmt::Debug for Switch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Switch").field("listeners", &self.listeners).finish_non_exhaustive()
    }
}
