//! What every shard and every call of a node shares.

use crate::cdr::CallReport;
use crate::clock;
use crate::engine::assets::Assets;
use crate::engine::live::LiveFeed;
use crate::engine::media_thread::MediaEngine;
use crate::engine::media_thread::NoPorts;
use crate::engine::media_thread::PortChoice;
use crate::engine::media_thread::RtpLocal;
use crate::engine::media_thread::RtpPorts;
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
use std::ops::RangeInclusive;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::OnceLock;

/// Call-IDs that are made until one belongs to a shard that runs: with half of the shards gone it takes two on average.
const CALL_IDS_MAX: usize = 256;

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
    /// The listeners, by their index in flows; calls share them.
    pub listeners: Vec<Arc<SwitchListener>>,
    /// How much signalling is kept.
    pub trace: TraceLimits,
    /// Which calls are traced; `None`: there is no collector, and agents are told of no trace.
    pub sampling: Option<Sampling>,
    /// The shards, once they run.
    pub shards: OnceLock<Shards>,
}

impl Switch {
    /// The shard for a call of ours, whose Call-ID is made for it; `None` before shards run, and when none does.
    pub(super) fn shard_for(&self, invite: &mut OutboundInvite) -> Option<ShardHandle> {
        let (call_id, shard) = self.new_call_id()?;
        invite.call_id = Some(call_id);
        Some(shard)
    }

    /// A new Call-ID, and the shard it belongs to, which is one that runs: of what one that is gone, or hangs, is told
    /// nothing comes, and the peer would count as silent. `None` before shards run, and when none does.
    pub(super) fn new_call_id(&self) -> Option<(FieldValue, ShardHandle)> {
        let shards = self.shards.get()?;
        (0..CALL_IDS_MAX).find_map(|_| {
            let call_id = FieldValue::new(&clock::new_uuid().to_string()).ok()?;
            let shard = shards.of_call_id(call_id.as_ref())?;
            shard.serves().then(|| (call_id, shard.clone()))
        })
    }

    /// Binds a pair of RTP ports of `local` for a leg: within those that its trunk keeps to, or beside those of all
    /// trunks that do.
    pub(super) fn reserve_ports(
        &self,
        local: RtpLocal,
        within: Option<&RangeInclusive<u16>>,
    ) -> Result<RtpPorts, NoPorts> {
        let table = self.table.load();
        self.media.reserve(local, PortChoice::new(within, table.kept_ports()))
    }

    /// The listener that our requests by a trunk over `transport` name, to a peer at `to` where that is
    /// known.
    pub(super) fn listener_for(
        &self,
        trunk: Option<&Arc<Trunk>>,
        transport: Transport,
        to: Option<IpAddr>,
    ) -> u16 {
        let name = trunk.and_then(|trunk| trunk.listener.as_ref());
        u16::try_from(choose_listener(&self.listeners, name, transport, to)).unwrap_or(0)
    }

    /// The listener of this index; `None` where there is none, which no flow names.
    pub(super) fn listener(&self, index: u16) -> Option<&Arc<SwitchListener>> {
        self.listeners.get(usize::from(index))
    }
}

/// The index of the listener with this name; where none is given, or it is gone, of the first that a peer
/// at `to` can reach by `transport`, else of the first that it can reach by that at all, else the first.
fn choose_listener(
    all: &[Arc<SwitchListener>],
    name: Option<&ListenerName>,
    transport: Transport,
    to: Option<IpAddr>,
) -> usize {
    let first = |fits: &dyn Fn(&SwitchListener) -> bool| all.iter().position(|own| fits(own));
    let named = name.and_then(|name| first(&|own| own.name == *name));
    let speaks = |own: &SwitchListener| own.transports.contains(&transport);
    let is_near = |own: &SwitchListener| to.is_none_or(|to| own.bind.is_ipv4() == to.is_ipv4());
    let reachable = || first(&|own| speaks(own) && is_near(own)).or_else(|| first(&speaks));
    named.or_else(reachable).unwrap_or(0)
}

impl fmt::Debug for Switch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Switch").field("listeners", &self.listeners).finish_non_exhaustive()
    }
}

#[cfg(test)]
pub(in crate::engine) mod tests {
    use super::*;
    use crate::engine::media_thread::MediaConfig;
    use crate::net::dns::DnsLimits;
    use crate::net::flow::FlowLimits;
    use crate::routing::admission::NodeLimits;
    use crate::routing::contents::Contents;
    use crate::types::reach::Reach;
    use std::ops::RangeInclusive;
    use std::path::Path;

    /// A switch that listens nowhere, and whose calls are told to `ledger`.
    pub(in crate::engine) fn idle(ledger: Arc<dyn Ledger>, ports: RangeInclusive<u16>) -> Switch {
        let media = MediaConfig { threads: 1, realtime: false, ports };
        Switch {
            public_url: String::new(),
            recorder: None,
            speech: Speech::find("", Path::new("speech")),
            http: HttpClient::new(Reach::default(), TrustRoots::native()),
            table: Arc::new(ArcSwap::from_pointee(RoutingTable::new(Contents::default()))),
            registry: Registry::new(NodeLimits::default()),
            media: MediaEngine::start(media).expect("a thread"),
            ledger,
            assets: Assets::in_folder(Path::new("assets")),
            live: LiveFeed::default(),
            flows: Flows::new(FlowLimits::default()),
            dns: Dns::of_system(DnsLimits::default()),
            roots: TrustRoots::native(),
            listeners: Vec::new(),
            trace: TraceLimits::NONE,
            sampling: None,
            shards: OnceLock::new(),
        }
    }

    /// A ledger that keeps nothing.
    pub(in crate::engine) struct Nobody;

    impl Ledger for Nobody {
        fn report(&self, _: CallReport) -> Written {
            Box::pin(std::future::ready(()))
        }

        fn report_later(&self, _: CallReport) {}
    }

    #[test]
    fn what_we_begin_ourselves_goes_by_a_shard_that_runs() {
        let switch = idle(Arc::new(Nobody), 21_330..=21_333);
        assert!(switch.new_call_id().is_none(), "there is no shard yet");
        let (first, in_first) = ShardHandle::by_hand();
        let (second, in_second) = ShardHandle::by_hand();
        let (third, _hangs) = ShardHandle::by_hand();
        third.set_hung(true);
        switch.shards.set(Shards::new(vec![first, second, third.clone()])).unwrap();
        drop(in_first);
        for _ in 0..100 {
            let (call_id, shard) = switch.new_call_id().expect("the second runs");
            assert!(shard.serves());
            let own = switch.shards.get().and_then(|all| all.of_call_id(call_id.as_ref()));
            assert!(own.is_some_and(ShardHandle::serves), "what is answered finds it");
        }
        drop(in_second);
        assert!(switch.new_call_id().is_none(), "none runs");
        third.set_hung(false);
        assert!(switch.new_call_id().is_some(), "it goes on");
    }

    fn listener(name: &str, bind: &str, transports: &[Transport]) -> Arc<SwitchListener> {
        let bind: IpAddr = bind.parse().unwrap();
        Arc::new(SwitchListener {
            name: name.parse().unwrap(),
            sip_host: bind.to_string(),
            bind,
            rtp_address: bind,
            transports: transports.to_vec(),
        })
    }

    #[test]
    fn requests_name_the_listener_of_their_trunk_or_the_first_their_peer_can_reach() {
        let datagrams = [Transport::Udp, Transport::Tcp];
        let all = [
            listener("public", "192.0.2.1", &datagrams),
            listener("tls", "192.0.2.1", &[Transport::Tls]),
            listener("private", "10.1.1.2", &datagrams),
            listener("six", "2001:db8::1", &datagrams),
        ];
        let check = |name: &str, transport, to: &str, expected: &str| {
            let name = name.parse().ok();
            let index = choose_listener(&all, name.as_ref(), transport, to.parse().ok());
            assert_eq!(all[index].name.as_str(), expected, "{name:?} {transport} {to}");
        };
        check("private", Transport::Udp, "198.51.100.7", "private");
        check("private", Transport::Tls, "", "private");
        check("gone", Transport::Tls, "198.51.100.7", "tls");
        check("", Transport::Udp, "198.51.100.7", "public");
        check("", Transport::Tcp, "2001:db8::7", "six");
        check("", Transport::Udp, "", "public");
        // Nobody there speaks TLS over IPv6: who has a connection is reached all the same.
        check("", Transport::Tls, "2001:db8::7", "tls");
        check("six", Transport::Udp, "198.51.100.7", "six");
        assert_eq!(choose_listener(&all[..1], None, Transport::Tls, None), 0);
    }
}
