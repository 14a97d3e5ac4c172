//! Wiring of everything that outlives a call: database, routing table, journal.

use crate::cdr::CallReport;
use crate::config::Config;
use crate::config::node::Database as Choice;
use crate::config::secret::LocalSecrets;
use crate::engine::switch::Ledger;
use crate::engine::switch::SaidTurn;
use crate::engine::switch::Written;
use crate::routing::table::Change;
use crate::routing::table::RoutingTable;
use crate::server::StartError;
use crate::server::said;
use crate::server::said::SaidTurns;
use crate::server::said::SaidWriter;
use crate::server::spans::SpanFeed;
use crate::server::traces::EndedCalls;
use crate::store::audit_queue::AuditQueue;
use crate::store::changes;
use crate::store::changes::FollowStatus;
use crate::store::database::Database;
use crate::store::journal::Journal;
use crate::store::key_ring::KeyRing;
use crate::store::leftovers;
use crate::store::migrate;
use crate::store::migrate::SchemaError;
use crate::store::node_identity;
use crate::store::node_key::NodeKey;
use crate::store::private_cluster::ClusterError;
use crate::store::private_cluster::Durability;
use crate::store::private_cluster::PrivateCluster;
use crate::store::seal::Sealer;
use crate::store::snapshot;
use crate::store::snapshot::Composer;
use crate::store::snapshot::Snapshot;
use crate::store::table_file;
use crate::store::upload::Uploader;
use crate::telemetry::metric;
use crate::telemetry::metric::Counter;
use crate::telemetry::metric::Gauge;
use crate::types::id::CallId;
use crate::types::id::NodeId;
use crate::types::id::TenantId;
use crate::types::secret::Secret;
use arc_swap::ArcSwap;
use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// How long a database may take to answer at the start before the node goes on without it.
const START_PATIENCE: Duration = Duration::from_secs(5);
/// How long a call waits for its first record to be in the journal's file: a full disk stops no call.
const WRITE_PATIENCE: Duration = Duration::from_millis(200);
/// How long the journal may take for its last records at the end.
const JOURNAL_CLOSE_MAX: Duration = Duration::from_secs(5);
/// How long the last records may take to reach the database; they are in the journal anyway.
const UPLOAD_MAX: Duration = Duration::from_secs(5);
/// Longest wait, at the end, for what else is written to the database.
const LAST_MAX: Duration = Duration::from_secs(3);
/// Longest wait, at the end, for connections to the database to close.
const CLOSE_MAX: Duration = Duration::from_secs(3);
/// How often a private database is looked after.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// The same of one that does not start again, at last: each time it adds to logs, perhaps on a disk that is full.
const LOOK_RARELY: Duration = Duration::from_secs(60);
/// Entries of the audit log that wait for the database, in the data directory.
const AUDIT_FILE: &str = "audit-waiting.jsonl";
/// The journal's directory, in the data directory.
const JOURNAL_DIR: &str = "journal";

/// A database that is ready for the node.
pub(super) struct Prepared {
    pub(super) database: Database,
    cluster: OwnCluster,
}

/// The private cluster of the node, if it has one. It ends with the node, and also when the node's
/// start fails: a program that did not start leaves no PostgreSQL behind.
struct OwnCluster(Option<Arc<PrivateCluster>>);

impl OwnCluster {
    /// Starts the cluster again whenever its process was killed, until it is stopped. Nobody else would:
    /// calls and their records wait for it.
    fn look_after(&self) {
        let Some(looked_after) = self.0.as_ref().map(Arc::downgrade) else { return };
        tokio::spawn(async move {
            let mut pause = LOOK_EVERY;
            loop {
                tokio::time::sleep(pause).await;
                let Some(cluster) = looked_after.upgrade() else { return };
                let revive = move || cluster.revive(Durability::Safe);
                let Ok(revived) = tokio::task::spawn_blocking(revive).await else {
                    tracing::error!("looking after the private database panicked");
                    continue;
                };
                pause = pause_after(&revived, pause);
                match revived {
                    Ok(false) => (),
                    Ok(true) => {
                        tracing::warn!("the private database was killed; it is started again");
                    }
                    Err(error) => {
                        tracing::error!(%error, "the private database was killed and does not start");
                    }
                }
            }
        });
    }

    async fn stop(mut self) {
        let Some(cluster) = self.0.take() else { return };
        match tokio::task::spawn_blocking(move || cluster.end()).await {
            Ok(stopped) => note_stop(stopped),
            Err(_) => tracing::error!("stopping the private database panicked"),
        }
    }
}

impl Drop for OwnCluster {
    /// Blocks; but whose start failed has nothing else to do.
    fn drop(&mut self) {
        if let Some(cluster) = self.0.take() {
            note_stop(cluster.end());
        }
    }
}

/// How long it takes until a private database is looked after again, which was after this `pause`.
fn pause_after(revived: &Result<bool, ClusterError>, pause: Duration) -> Duration {
    match revived {
        Ok(_) => LOOK_EVERY,
        Err(_) => LOOK_RARELY.min(2 * pause),
    }
}

fn note_stop(stopped: Result<(), ClusterError>) {
    if let Err(error) = stopped {
        tracing::error!(%error, "the private database did not stop");
    }
}

/// Everything that outlives a call.
pub(super) struct Persistence {
    database: Database,
    writer: TableWriter,
    cluster: OwnCluster,
    composer: watch::Sender<Composer>,
    follow: Arc<FollowStatus>,
    keys: Arc<KeyRing>,
    journal: Arc<Journal>,
    follower: JoinHandle<()>,
    uploader: JoinHandle<()>,
    upload_stop: watch::Sender<bool>,
    caught_up: watch::Receiver<bool>,
    said: SaidTurns,
    said_writer: SaidWriter,
    audit: AuditQueue,
    audit_writer: JoinHandle<()>,
    node: NodeId,
    /// Told of calls whose data are erased; gone once somebody took it.
    erased: Option<mpsc::Receiver<Vec<CallId>>>,
    /// Told of calls of which something is asked; the same.
    commanded: Option<mpsc::Receiver<(TenantId, CallId)>>,
}

/// Starts the private cluster or finds the configured database, and brings its schema up to date
/// where that is ours to do.
pub(super) async fn prepare(config: &Config) -> Result<Prepared, StartError> {
    let node = config.node();
    match &node.database {
        Some(Choice::Url(url)) => prepare_given(url).await,
        Some(Choice::Private) | None => prepare_private(node.data_dir.clone()).await,
    }
}

async fn prepare_private(data_dir: PathBuf) -> Result<Prepared, StartError> {
    let start = move || PrivateCluster::start(&data_dir, Durability::Safe);
    let started = tokio::task::spawn_blocking(start).await;
    let cluster = match started {
        Ok(cluster) => cluster?,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    };
    let database = cluster.database();
    let cluster = OwnCluster(Some(Arc::new(cluster)));
    migrate::apply(&database).await?;
    cluster.look_after();
    Ok(Prepared { database, cluster })
}

/// A database of the operator's is not changed behind their back: `tandem migrate` does that.
async fn prepare_given(url: &Secret<String>) -> Result<Prepared, StartError> {
    let database = Database::at(url.expose()).map_err(StartError::DatabaseAddress)?;
    match tokio::time::timeout(START_PATIENCE, migrate::check(&database)).await {
        Ok(Ok(())) => (),
        Ok(Err(SchemaError::Away(error))) => {
            tracing::warn!(%error, "the database does not answer; starting without it");
        }
        Ok(Err(error)) => return Err(error.into()),
        Err(_) => tracing::warn!("the database does not answer in time; starting without it"),
    }
    Ok(Prepared { database, cluster: OwnCluster(None) })
}

/// Loads the routing table, opens the journal, and follows and uploads from now on. `changed` is told of
/// each change of `table`.
pub(super) async fn start(
    prepared: Prepared,
    config: &Config,
    table: Arc<ArcSwap<RoutingTable>>,
    changed: watch::Sender<()>,
    stopping: watch::Receiver<bool>,
) -> Result<Persistence, StartError> {
    let Prepared { database, cluster } = prepared;
    let data_dir = &config.node().data_dir;
    let composer = composer_of(config);
    let table_file = data_dir.join(table_file::NAME);
    let snapshot = load(&database, &composer, &table_file).await;
    for fault in &snapshot.faults {
        tracing::error!(%fault, "left out of the routing table");
    }
    let (contents, known) = snapshot.split();
    table.store(Arc::new(RoutingTable::new(contents)));
    metric::set(Gauge::RoutingNumbers, table.load().len() as f64);
    let (composer_in, composers) = watch::channel(composer);
    let writer = TableWriter(Arc::new(Writing { table, changed, turn: Mutex::default() }));
    let own = writer.clone();
    let sink = move |changes: Vec<Change>| own.apply(changes);
    let mut follower = changes::follow(database.clone(), composers, Some(table_file), known, sink);
    let (follow, keys, erased) = (follower.status(), follower.keys(), follower.erased());
    let dir = data_dir.join(JOURNAL_DIR);
    let opened = tokio::task::spawn_blocking(move || Journal::open(&dir)).await;
    let journal = match opened {
        Ok(journal) => Arc::new(journal?),
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    };
    let of_node = data_dir.clone();
    let own = move || Ok::<_, io::Error>((node_identity::of(&of_node)?, NodeKey::of(&of_node)?));
    let (identity, key) = match tokio::task::spawn_blocking(own).await {
        Ok(own) => own.map_err(|source| StartError::System {
            what: "read or write the node's identity and key in its data directory",
            source,
        })?,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    };
    let (erasures, commanded) = (follower.erasures(identity, key), follower.commanded());
    tokio::spawn(leftovers::erase(Arc::clone(&journal), database.clone(), erasures));
    let (upload_stop, upload_stopping) = watch::channel(false);
    let uploader = Uploader::new(&journal, database.clone(), identity.0);
    let caught_up = uploader.caught_up();
    let (said, said_writer) = said::start(database.clone());
    let (audit, audit_writer) =
        AuditQueue::start(database.clone(), Some(data_dir.join(AUDIT_FILE)), stopping.clone());
    Ok(Persistence {
        database,
        writer,
        cluster,
        composer: composer_in,
        follow,
        keys,
        journal,
        follower: tokio::spawn(follower.run(stopping)),
        uploader: tokio::spawn(uploader.run(upload_stopping)),
        upload_stop,
        caught_up,
        said,
        said_writer,
        audit,
        audit_writer,
        node: identity.0,
        erased: Some(erased),
        commanded: Some(commanded),
    })
}

/// The routing table as the database has it, else as its file has it, else the trunks of profile files.
async fn load(database: &Database, composer: &Composer, file: &Path) -> Snapshot {
    let loading = snapshot::load_all_tenants(database, composer);
    match tokio::time::timeout(START_PATIENCE, loading).await {
        Ok(Ok(snapshot)) => return snapshot,
        Ok(Err(error)) => {
            tracing::warn!(%error, "the routing table cannot be read from the database")
        }
        Err(_) => tracing::warn!("the database does not answer: no routing table from it"),
    }
    match table_file::read(file, composer) {
        Ok(snapshot) => {
            tracing::warn!(file = %file.display(), "routing from the table's file");
            snapshot
        }
        Err(error) => {
            tracing::error!(
                %error,
                "no routing table: until the database answers, calls of trunks that are profile files \
                 are refused with 503, and all others are strangers' calls"
            );
            Snapshot::of_files(composer)
        }
    }
}

/// Changes the routing table, one at a time, and tells of it. Cheap to clone.
#[derive(Clone)]
pub(super) struct TableWriter(Arc<Writing>);

struct Writing {
    table: Arc<ArcSwap<RoutingTable>>,
    changed: watch::Sender<()>,
    turn: Mutex<()>,
}

impl TableWriter {
    /// Brings changes into force.
    pub(super) fn apply(&self, changes: Vec<Change>) {
        let Writing { table, changed, turn } = &*self.0;
        // Nothing is kept under the lock that a panic could leave half done.
        let turn = turn.lock().unwrap_or_else(PoisonError::into_inner);
        let mut next = RoutingTable::clone(&table.load());
        for change in changes {
            metric::counter(Counter::RoutingChanges).increment(1);
            if next.apply(change).is_err() {
                tracing::error!("the routing table is full; a change is not in force");
            }
        }
        metric::set(Gauge::RoutingNumbers, next.len() as f64);
        table.store(Arc::new(next));
        drop(turn);
        changed.send_replace(());
    }
}

/// What seals the secrets of rows. Its keys were checked with the configuration.
fn sealer(config: &Config) -> Sealer {
    Sealer::new(&config.node().seal_keys).unwrap_or_default()
}

fn composer_of(config: &Config) -> Composer {
    Composer {
        profiles: config.profiles().clone(),
        secrets: Arc::new(LocalSecrets::new(std::env::vars(), None)),
        sealer: sealer(config),
        file_trunks: config.trunks().to_vec(),
    }
}

impl Persistence {
    pub(super) const fn database(&self) -> &Database {
        &self.database
    }

    /// Turns true once all records of before this start are in the database.
    pub(super) fn caught_up(&self) -> watch::Receiver<bool> {
        self.caught_up.clone()
    }

    /// Which node this is.
    pub(super) const fn node(&self) -> NodeId {
        self.node
    }

    /// What makes rows usable, as the newest configuration has it.
    pub(super) fn composer(&self) -> watch::Receiver<Composer> {
        self.composer.subscribe()
    }

    pub(super) fn table_writer(&self) -> TableWriter {
        self.writer.clone()
    }

    pub(super) fn follow_status(&self) -> Arc<FollowStatus> {
        Arc::clone(&self.follow)
    }

    /// Where it is told which calls' data are erased, by whatever node. Once.
    pub(super) const fn erased(&mut self) -> Option<mpsc::Receiver<Vec<CallId>>> {
        self.erased.take()
    }

    /// Where it is told of which calls something is asked, at whatever node. Once.
    pub(super) const fn commanded(&mut self) -> Option<mpsc::Receiver<(TenantId, CallId)>> {
        self.commanded.take()
    }

    /// What notes who steered calls.
    pub(super) fn audit(&self) -> AuditQueue {
        self.audit.clone()
    }

    /// The keys of the API.
    pub(super) fn keys(&self) -> Arc<KeyRing> {
        Arc::clone(&self.keys)
    }

    pub(super) fn journal(&self) -> Arc<Journal> {
        Arc::clone(&self.journal)
    }

    /// Where calls report; their ends are told to `ended`, their spans to `spans`.
    pub(super) fn ledger(&self, ended: EndedCalls, spans: SpanFeed) -> Arc<dyn Ledger> {
        let (journal, said) = (Arc::clone(&self.journal), self.said.clone());
        Arc::new(JournalLedger { journal, ended, spans, said })
    }

    pub(super) fn recompose(&self, config: &Config) {
        self.composer.send_replace(composer_of(config));
    }

    /// Flushes the journal, uploads what can be uploaded, does `last` with the database, and stops a
    /// private cluster. The stop signal was given before.
    pub(super) async fn stop(self, last: impl Future<Output = ()>) {
        if !self.journal.close(JOURNAL_CLOSE_MAX).await {
            tracing::error!("the journal did not take the last records in time");
        }
        let mut uploader = self.uploader;
        if tokio::time::timeout(UPLOAD_MAX, &mut uploader).await.is_err() {
            tracing::warn!("call records wait in the journal for the next start");
            self.upload_stop.send_replace(true);
        }
        // It bounds itself.
        self.said_writer.finish().await;
        // It bounds itself, too.
        if self.audit_writer.await.is_err() {
            tracing::error!("the task that writes the audit log panicked");
        }
        if tokio::time::timeout(LAST_MAX, last).await.is_err() {
            tracing::warn!("the signalling of the last calls is not stored");
        }
        match tokio::time::timeout(CLOSE_MAX, self.follower).await {
            Ok(Ok(())) => (),
            Ok(Err(_)) => tracing::error!("the task that follows the database panicked"),
            Err(_) => tracing::warn!("the task that follows the database did not end"),
        }
        if tokio::time::timeout(CLOSE_MAX, self.database.close()).await.is_err() {
            tracing::warn!("connections to the database did not close");
        }
        self.cluster.stop().await;
    }
}

struct JournalLedger {
    journal: Arc<Journal>,
    ended: EndedCalls,
    spans: SpanFeed,
    said: SaidTurns,
}

impl JournalLedger {
    fn note(&self, report: &CallReport) {
        metric::counter(Counter::RecordsJournalled).increment(1);
        self.spans.note(report);
        if report.record.is_closed() {
            self.ended.note(report.record.id, report.record.route.trunk);
        }
    }
}

impl Ledger for JournalLedger {
    fn report(&self, report: CallReport) -> Written {
        self.note(&report);
        let written = self.journal.write(report);
        Box::pin(async move {
            if !written.within(WRITE_PATIENCE).await {
                tracing::debug!("a call goes on before its record is in the journal");
            }
        })
    }

    fn report_later(&self, report: CallReport) {
        self.note(&report);
        self.journal.write_later(report);
    }

    fn said(&self, turn: SaidTurn) {
        self.said.tell(turn);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_private_database_that_does_not_start_is_tried_less_and_less_often() {
        let failed = || Err(ClusterError::NoAccount);
        let mut pause = LOOK_EVERY;
        let pauses = [(); 7].map(|()| {
            pause = pause_after(&failed(), pause);
            pause.as_secs()
        });
        assert_eq!(pauses, [4, 8, 16, 32, 60, 60, 60]);
        for back in [true, false] {
            assert_eq!(pause_after(&Ok(back), pause), LOOK_EVERY);
        }
    }
}
