//! The composition root: builds and wires every shell; readiness, reload and drain.

mod budgets;
mod certificates;
mod database;
mod http;
mod listeners;
mod memory;
mod news;
mod recordings;
mod retention;
mod said;
mod sip;
mod spans;
mod traces;
pub mod wake_pace;

use crate::api::EventHub;
use crate::clock;
use crate::config::Config;
use crate::config::node::NodeConfig;
use crate::config::otlp;
use crate::config::problem::Problems;
use crate::config::recordings::RecordingSettings;
use crate::engine::assets::Assets;
use crate::engine::gateways;
use crate::engine::keepalive;
use crate::engine::live::LiveFeed;
use crate::engine::media_thread::MediaConfig;
use crate::engine::media_thread::MediaEngine;
use crate::engine::media_watch;
use crate::engine::originate::CallControl;
use crate::engine::os;
use crate::engine::registrar;
use crate::engine::registry::Registry;
use crate::engine::shard_watch;
use crate::engine::shards::Shards;
use crate::engine::sip_shard::ShardHandle;
use crate::engine::source_names;
use crate::engine::speech::Speech;
use crate::engine::switch::Switch;
use crate::engine::trace::Traces;
use crate::net::bind::BindError;
use crate::net::dns::Dns;
use crate::net::dns::DnsLimits;
use crate::net::flow::FlowLimits;
use crate::net::flow::Flows;
use crate::net::http_client::HttpClient;
use crate::net::tls::TlsError;
use crate::net::websocket::TrustRoots;
use crate::recording::keys::RecordingKeys;
use crate::recording::note::Report;
use crate::recording::recorder::Recorder;
use crate::routing::table::Change;
use crate::routing::table::RoutingTable;
use crate::server::database::Persistence;
use crate::server::listeners::Bound;
use crate::server::listeners::Listening;
use crate::server::recordings::RecordingBook;
use crate::server::spans::SpanFeed;
use crate::server::traces::TraceWriter;
use crate::store::database::Database;
use crate::store::journal::JournalError;
use crate::store::migrate::SchemaError;
use crate::store::private_cluster::ClusterError;
use crate::types::cause::HangupCause;
use crate::types::name::ListenerName;
use crate::types::transport::Transport;
use crate::webhook::Deliverer;
use arc_swap::ArcSwap;
use futures_util::FutureExt;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::sync::OnceLock;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Why the node could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration is right but cannot be run.
    #[error("{0}")]
    Configuration(Problems),
    /// The private PostgreSQL did not start.
    #[error("the private database did not start")]
    Cluster(#[from] ClusterError),
    /// The database's address cannot be read.
    #[error("`database` cannot be used")]
    DatabaseAddress(#[source] crate::store::database::NotADatabaseAddress),
    /// The schema of the database does not fit this program.
    #[error("the database's schema does not fit")]
    Schema(#[from] SchemaError),
    /// A listening socket could not be opened.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The certificate of a listener cannot be used.
    #[error("listener `{listener}` cannot speak TLS")]
    Tls {
        /// The listener.
        listener: ListenerName,
        /// Why.
        source: TlsError,
    },
    /// The certificate of the API cannot be used.
    #[error("[http] cannot speak TLS")]
    HttpTls(#[source] TlsError),
    /// The HTTP address could not be bound.
    #[error("cannot listen on http {address}")]
    Http {
        /// The address asked for.
        address: SocketAddr,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// The journal of call records could not be opened.
    #[error("the journal of call records cannot be opened")]
    Journal(#[from] JournalError),
    /// The folder of recordings, or a thread that writes them, could not be had.
    #[error("recordings cannot be written to {dir}")]
    Recordings {
        /// The folder.
        dir: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// The media threads could not be started.
    #[error("the media threads did not start")]
    Media(#[source] io::Error),
    /// The system refused something else.
    #[error("the system refused to {what}")]
    System {
        /// What was asked of it.
        what: &'static str,
        /// What it says.
        #[source]
        source: io::Error,
    },
}

impl StartError {
    /// True when the operator must change the configuration: exit code 2.
    #[must_use]
    pub const fn is_configuration(&self) -> bool {
        match self {
            Self::Configuration(_)
            | Self::DatabaseAddress(_)
            | Self::Schema(_)
            | Self::Tls { .. }
            | Self::HttpTls(_) => true,
            Self::Cluster(error) => error.is_configuration(),
            Self::Bind(_)
            | Self::Http { .. }
            | Self::Journal(_)
            | Self::Recordings { .. }
            | Self::Media(_)
            | Self::System { .. } => false,
        }
    }
}

/// The addresses a running node is bound to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// SIP, by listener and transport.
    pub sip: Vec<(ListenerName, Transport, SocketAddr)>,
    /// HTTP.
    pub http: SocketAddr,
}

impl Addresses {
    /// The first SIP address of a transport.
    #[must_use]
    pub fn sip_over(&self, transport: Transport) -> Option<SocketAddr> {
        self.sip.iter().find(|(_, own, _)| *own == transport).map(|(_, _, address)| *address)
    }

    /// The JSON line printed when the node is ready.
    #[must_use]
    pub fn ready_line(&self) -> String {
        let sip: Vec<_> = self
            .sip
            .iter()
            .map(|(listener, transport, address)| {
                serde_json::json!({
                    "listener": listener.as_str(),
                    "transport": transport.as_str(),
                    "address": address,
                })
            })
            .collect();
        serde_json::json!({ "ready": true, "sip": sip, "http": self.http }).to_string()
    }
}

/// A running node.
pub struct Server {
    addresses: Addresses,
    switch: Arc<Switch>,
    persistence: Persistence,
    shards: Vec<ShardHandle>,
    draining: watch::Sender<bool>,
    listening: Listening,
    http: JoinHandle<()>,
    traces: JoinHandle<TraceWriter>,
    deliverer: JoinHandle<()>,
    exporter: JoinHandle<()>,
    recordings: JoinHandle<()>,
    registrar: JoinHandle<()>,
    stop: watch::Sender<bool>,
    drain_limit: Duration,
}

/// Prepares the database of a configuration and nothing else: what `demo` needs to seed it before
/// the node starts.
///
/// # Errors
/// See [`StartError`].
pub async fn prepare(config: &Config) -> Result<Prepared, StartError> {
    config.check_can_run().map_err(StartError::Configuration)?;
    Ok(Prepared(database::prepare(config).await?))
}

/// A database that is ready for a node.
pub struct Prepared(database::Prepared);

impl Prepared {
    /// The database.
    #[must_use]
    pub const fn database(&self) -> &Database {
        &self.0.database
    }
}

/// Starts a node.
///
/// # Errors
/// See [`StartError`]; nothing is left running.
pub async fn start(config: Config) -> Result<Server, StartError> {
    let prepared = prepare(&config).await?;
    start_on(config, prepared).await
}

/// Takes as many descriptors as the system gives; says where `ports` for RTP need more.
fn take_descriptors(ports: usize) {
    match os::raise_descriptor_limit() {
        Ok(limit) if limit < ports as u64 => {
            tracing::warn!(limit, ports, "fewer open files are allowed than media.ports has ports");
        }
        Ok(limit) => tracing::debug!(limit, "open files are allowed"),
        Err(error) => tracing::warn!(%error, "the limit of open files cannot be raised"),
    }
}

/// The programs that speak, where the machine has them.
fn speech(data_dir: &Path) -> Speech {
    let speech = Speech::find(&std::env::var("PATH").unwrap_or_default(), &data_dir.join("speech"));
    match speech.program() {
        Some(program) => tracing::debug!(program, "texts are spoken"),
        None => tracing::debug!("texts are not spoken: neither flite nor espeak-ng is installed"),
    }
    speech
}

/// The DNS servers of the configuration, else those of the system.
fn dns_of(servers: &[SocketAddr]) -> Dns {
    let limits = DnsLimits::default();
    if servers.is_empty() { Dns::of_system(limits) } else { Dns::of_servers(servers, limits) }
}

/// Starts a node on a prepared database.
///
/// # Errors
/// See [`StartError`].
pub async fn start_on(config: Config, prepared: Prepared) -> Result<Server, StartError> {
    let node = config.node().clone();
    take_descriptors(node.media.ports.len());
    let metrics = http::record_metrics();
    // Sockets first: a taken port shall not cost a migration.
    let bound = Bound::open(&node).await?;
    let table = Arc::new(ArcSwap::from_pointee(RoutingTable::new(Default::default())));
    let ((stop, stopping), (draining, drains)) = (watch::channel(false), watch::channel(false));
    let (table_changed, table_changes) = watch::channel(());
    let following = (Arc::clone(&table), table_changed, stopping.clone());
    let mut persistence =
        database::start(prepared.0, &config, following.0, following.1, following.2).await?;
    let media = start_media(&node)?;
    let ((recorder, recorded), (ended_calls, ended)) =
        (start_recorder(&node)?, traces::ended_calls());
    let (roots, spans, exporter) = trace_calls(&node, stopping.clone());
    let switch = Arc::new(Switch {
        table: Arc::clone(&table),
        registry: Registry::new(node.limits),
        media,
        ledger: persistence.ledger(ended_calls, spans),
        assets: Assets::in_folder(&node.data_dir.join("assets")),
        speech: speech(&node.data_dir),
        http: HttpClient::new(node.webhooks.reach.clone(), roots.clone()),
        public_url: node.http.public_url.clone(),
        recorder: Some(recorder.clone()),
        live: LiveFeed::default(),
        flows: Flows::new(FlowLimits::default()),
        dns: dns_of(&node.dns_servers),
        roots: roots.reaching(node.agents.clone()),
        listeners: bound.switch_listeners(&node),
        trace: sip::trace_limits(&node),
        sampling: node.otlp.as_ref().map(|otlp| otlp.sampling),
        shards: OnceLock::new(),
    });
    let (database, caught_up) = (persistence.database(), persistence.caught_up());
    budgets::restore(&switch, database, caught_up, stopping.clone()).await;
    let shards = sip::start_shards(&switch, &node, &bound, &drains);
    let gates = bound.gates(&node);
    let all = switch.shards.get_or_init(|| Shards::new(shards.clone())).clone();
    let (addresses, listening, socket) = bound.start(&switch, gates, all)?;
    follow_table(&switch, &persistence, &table_changes, (&drains, &stopping));
    let registrar = tokio::spawn(registrar::run(Arc::clone(&switch), table_changes, drains));
    tokio::spawn(listening.certificates().clone().watch(config.secrets(), stopping.clone()));
    tidy_up((&switch, &shards), persistence.database(), &stopping);
    let (kept, stored) = (Traces::new(&shards, Arc::clone(&switch.table)), persistence.database());
    let writer = traces::TraceWriter::new(ended, kept, stored.clone(), node.trace_keep);
    let traces = tokio::spawn(writer.run(stopping.clone()));
    let book = RecordingBook::new((recorder, recorded), persistence.database().clone());
    let recordings = tokio::spawn(book.run(stopping.clone()));
    let deliverer = tell_webhooks(&switch, &persistence, &node, stopping.clone());
    let events = follow_calls(&switch, &mut persistence, &shards, &stopping);
    let of = (&switch, &node, events);
    let http = http::serve((socket, metrics), of, &mut persistence, &shards, stopping);
    Ok(Server {
        addresses,
        switch,
        persistence,
        shards,
        draining,
        listening,
        http,
        traces,
        deliverer,
        exporter,
        recordings,
        registrar,
        stop,
        drain_limit: node.drain_limit,
    })
}

/// Whom peers are trusted by, where calls' spans go, and the task that posts them.
fn trace_calls(
    node: &NodeConfig,
    stopping: watch::Receiver<bool>,
) -> (TrustRoots, SpanFeed, JoinHandle<()>) {
    let roots = TrustRoots::native();
    let client = HttpClient::new(otlp::reach(), roots.clone());
    let (spans, exporter) = spans::start(node.otlp.as_ref(), client, stopping);
    (roots, spans, exporter)
}

/// Asks gateways for their life, callers' names for their addresses, and keeps ways through NATs open.
fn follow_table(
    switch: &Arc<Switch>,
    persistence: &Persistence,
    changes: &watch::Receiver<()>,
    (drains, stopping): (&watch::Receiver<bool>, &watch::Receiver<bool>),
) {
    tokio::spawn(gateways::watch(Arc::clone(switch), changes.clone(), drains.clone()));
    watch_source_names(switch, persistence, changes.clone(), stopping.clone());
    tokio::spawn(keepalive::run(Arc::clone(switch), changes.clone(), stopping.clone()));
}

fn start_media(node: &NodeConfig) -> Result<MediaEngine, StartError> {
    let config = MediaConfig {
        threads: node.media.threads.unwrap_or(0),
        realtime: node.media.realtime,
        ports: node.media.ports.clone(),
    };
    MediaEngine::start(config).map_err(StartError::Media)
}

/// The recorder, and what it tells.
fn start_recorder(node: &NodeConfig) -> Result<(Recorder, mpsc::Receiver<Report>), StartError> {
    let RecordingSettings { dir, keys } = &node.recordings;
    // Their form was checked with the configuration.
    let keys = RecordingKeys::new(keys).unwrap_or_default();
    let refused = |source| StartError::Recordings { dir: dir.clone(), source };
    Recorder::start(dir, keys).map_err(refused)
}

/// Gives memory back, watches who should run, and deletes what is over its time.
fn tidy_up(
    (switch, shards): (&Arc<Switch>, &[ShardHandle]),
    database: &Database,
    stopping: &watch::Receiver<bool>,
) {
    tokio::spawn(memory::watch(Arc::clone(switch), shards.to_vec(), stopping.clone()));
    tokio::spawn(media_watch::run(switch.media.clone(), stopping.clone()));
    shard_watch::start(shards.to_vec(), stopping.clone());
    tokio::spawn(retention::run(database.clone(), stopping.clone()));
}

/// Tells tenants of their calls, from the outbox.
fn tell_webhooks(
    switch: &Switch,
    persistence: &Persistence,
    node: &NodeConfig,
    stopping: watch::Receiver<bool>,
) -> JoinHandle<()> {
    let (database, roots) = (persistence.database().clone(), switch.roots.clone());
    let settings = (node.webhooks.clone(), switch.sampling);
    let deliverer = Deliverer::new(database, roots, persistence.composer(), settings, stopping);
    tokio::spawn(deliverer.run())
}

/// Whom to follow for what happens to calls, and for what is told of them late.
fn follow_calls(
    switch: &Arc<Switch>,
    persistence: &mut Persistence,
    shards: &[ShardHandle],
    stopping: &watch::Receiver<bool>,
) -> EventHub {
    let calls = CallControl::new(Arc::clone(switch));
    let events = EventHub::start(Some(calls), stopping.clone());
    let database = persistence.database().clone();
    tokio::spawn(events.clone().follow_others(database.clone(), persistence.node()));
    tokio::spawn(news::run(database, events.clone(), stopping.clone()));
    if let Some(erased) = persistence.erased() {
        let traces = Traces::new(shards, Arc::clone(&switch.table));
        tokio::spawn(news::forget(erased, (traces, events.clone())));
    }
    events
}

/// Keeps the addresses of the names that callers are known by in the routing table.
fn watch_source_names(
    switch: &Switch,
    persistence: &Persistence,
    table_changes: watch::Receiver<()>,
    stopping: watch::Receiver<bool>,
) {
    let writer = persistence.table_writer();
    let put = move |names| writer.apply(vec![Change::SourceNames(names)]);
    let of = (Arc::clone(&switch.table), switch.dns.clone());
    tokio::spawn(source_names::run(of, table_changes, stopping, put));
}

impl Server {
    /// What it is bound to.
    #[must_use]
    pub const fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// Its database.
    #[must_use]
    pub const fn database(&self) -> &Database {
        self.persistence.database()
    }

    /// Brings a new configuration into force as far as that goes without a restart: trunk profiles
    /// and the certificates of TLS listeners.
    /// Says in the log what needs one.
    pub fn reload(&self, config: &Config) {
        self.persistence.recompose(config);
        self.listening.certificates().reload(config);
        tracing::info!(
            "configuration reloaded: trunk profiles, certificates and sealing keys are in force; any other \
             change needs a restart"
        );
    }

    /// Takes no new call, lets running calls finish within the drain limit, then ends them and
    /// everything else. `hurry` cuts the waiting short: for calls, or for HTTP clients after them.
    pub async fn stop(self, hurry: impl Future<Output = ()>) {
        self.switch.registry.drain();
        self.draining.send_replace(true);
        let running = self.switch.registry.live();
        tracing::info!(running, limit_s = self.drain_limit.as_secs(), "draining");
        let limit = clock::instant(clock::now() + self.drain_limit).into();
        let mut hurry = pin!(hurry.fuse());
        tokio::select! {
            () = self.switch.registry.wait_until_empty() => (),
            () = tokio::time::sleep_until(limit) => (),
            () = &mut hurry => (),
        }
        if self.switch.registry.live() > 0 {
            tracing::warn!(left = self.switch.registry.live(), "ending the calls that are left");
            self.switch.registry.hang_up_all(HangupCause::Draining);
            let ended = self.switch.registry.wait_until_empty();
            if tokio::time::timeout(END_MAX, ended).await.is_err() {
                tracing::error!(left = self.switch.registry.live(), "calls did not end");
            }
        }
        // It began to take bindings away with the drain, and bounds itself.
        if self.registrar.await.is_err() {
            tracing::error!("the registrar's task panicked");
        }
        sip::settle(&self.shards).await;
        drop(self.listening);
        self.switch.flows.close_all();
        self.stop.send_replace(true);
        end_http(self.http, HTTP_END_MAX, hurry).await;
        // It bounds itself; what it did not get to is told after the next start.
        if self.deliverer.await.is_err() {
            tracing::error!("the task that tells webhooks panicked");
        }
        if self.exporter.await.is_err() {
            tracing::error!("the task that posts traces panicked");
        }
        // It bounds itself; what it did not get to has a note.
        if self.recordings.await.is_err() {
            tracing::error!("the task that stores recordings panicked");
        }
        let traces = self.traces;
        let last = async {
            match traces.await {
                Ok(writer) => writer.finish().await,
                Err(_) => tracing::error!("the task that stores signalling panicked"),
            }
        };
        self.persistence.stop(last).await;
        tracing::info!("stopped");
    }
}

/// Waits a while for the HTTP requests that are under way; no client holds up the end.
async fn end_http(mut http: JoinHandle<()>, most: Duration, hurry: impl Future<Output = ()>) {
    let ended = tokio::select! {
        ended = tokio::time::timeout(most, &mut http) => ended.ok(),
        () = hurry => None,
    };
    match ended {
        Some(Ok(())) => (),
        Some(Err(_)) => tracing::error!("the HTTP task panicked"),
        None => {
            tracing::warn!("HTTP requests under way are cut");
            http.abort();
            // It ends at its next breath, and its connections with it.
            drop(http.await);
        }
    }
}

/// How long HTTP requests under way may take to end.
const HTTP_END_MAX: Duration = Duration::from_secs(3);

/// How long the calls that are left may take to end, their records included.
const END_MAX: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::pending;
    use std::future::ready;
    use tokio::sync::oneshot;

    const FOR_EVER: Duration = Duration::from_secs(3_600);

    /// True when the end of HTTP is waited for in vain and then cut.
    async fn is_cut(most: Duration, hurry: impl Future<Output = ()>) -> bool {
        let (kept, dropped) = oneshot::channel::<()>();
        let http = tokio::spawn(async move {
            let _kept = kept;
            pending::<()>().await;
        });
        let ended = tokio::time::timeout(Duration::from_secs(20), end_http(http, most, hurry));
        ended.await.is_ok() && dropped.await.is_err()
    }

    #[tokio::test]
    async fn http_clients_are_cut_after_a_while_and_at_once_in_a_hurry() {
        assert!(is_cut(Duration::ZERO, pending()).await);
        assert!(is_cut(FOR_EVER, ready(())).await);
        end_http(tokio::spawn(ready(())), FOR_EVER, pending()).await;
    }
}
