//! Keeps a routing table in step with the database.

use crate::routing::table::Change;
use crate::store::ai_profiles;
use crate::store::ai_profiles::AiProfileRow;
use crate::store::call_commands;
use crate::store::campaigns;
use crate::store::campaigns::CampaignRow;
use crate::store::database::Database;
use crate::store::database::within;
use crate::store::erasures;
use crate::store::erasures::Erasing;
use crate::store::erasures::Erasure;
use crate::store::key_file;
use crate::store::key_ring::KeyRing;
use crate::store::node_key::NodeKey;
use crate::store::numbers;
use crate::store::numbers::NumberRow;
use crate::store::routing_profiles;
use crate::store::routing_profiles::RoutingProfileRow;
use crate::store::snapshot;
use crate::store::snapshot::Composer;
use crate::store::snapshot::Known;
use crate::store::snapshot::RowFault;
use crate::store::table_file;
use crate::store::tenants;
use crate::store::tenants::TenantRow;
use crate::store::trunks;
use crate::store::trunks::TrunkRow;
use crate::types::id::AiProfileId;
use crate::types::id::CallId;
use crate::types::id::CampaignId;
use crate::types::id::NodeId;
use crate::types::id::NumberId;
use crate::types::id::RoutingProfileId;
use crate::types::id::TenantId;
use crate::types::id::TrunkId;
use sqlx::postgres::PgListener;
use std::collections::BTreeMap;
use std::collections::HashSet;
use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::sync::watch;
use tokio::time::Interval;
use tokio::time::MissedTickBehavior;
use uuid::Uuid;

/// The channel of the triggers' notifications.
pub(crate) const CHANNEL: &str = "tandem_routing";
/// The channel on which nodes hear of calls whose data are erased: their identities, with commas between.
pub(crate) const ERASED: &str = "tandem_erased";
/// All that is listened to.
const CHANNELS: [&str; 4] = [CHANNEL, ERASED, erasures::CHANNEL, call_commands::CHANNEL];
/// Commands of other nodes that wait to be looked at.
const COMMANDED_WAITING: usize = 256;
/// Such news that wait: it is taken at once.
const ERASED_WAITING: usize = 64;
/// Changes are read this often without a notification too: a connection can die silently.
const POLL: Duration = Duration::from_secs(5);
/// Longest wait for the database to say that it is there, for what changed, and for all there is.
const ANSWER_MAX: Duration = Duration::from_secs(5);
const READ_MAX: Duration = Duration::from_secs(70);
const READ_ALL_MAX: Duration = Duration::from_secs(300);
/// Pause after the database failed; the first is short, for most failures are restarts.
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(2);
/// The routing table's file is written at most this often.
const FILE_PAUSE: Duration = Duration::from_secs(60);
/// Old changes are deleted this often.
const PRUNE_PAUSE: Duration = Duration::from_secs(3600);
/// Changes read at once.
const BATCH: i64 = 1000;

/// Follows the changes of a database. Made by [`follow`].
#[derive(Debug)]
pub struct Follower<S> {
    database: Database,
    composer: watch::Receiver<Composer>,
    table_file: Option<PathBuf>,
    /// Up to which change the sink is in step; `None`: everything has to be read.
    seq: Option<i64>,
    status: Arc<FollowStatus>,
    keys: Arc<KeyRing>,
    /// Whether the keys were read since the node lost sight of them.
    keys_are_read: bool,
    sink: S,
    file_is_old: bool,
    /// The trunks of the database as they were read last.
    trunk_rows: BTreeMap<Uuid, TrunkRow>,
    /// The trunks that are profile files.
    file_trunks: Vec<TrunkId>,
    /// Who wants to know of calls whose data are erased.
    erased: Option<mpsc::Sender<Vec<CallId>>>,
    /// Who does what other nodes are asked of calls.
    commanded: Option<mpsc::Sender<(TenantId, CallId)>>,
    /// Who erases what this node keeps, and which erasures that was told of.
    erasing: Option<Erasing>,
}

struct Tickers {
    poll: Interval,
    file: Interval,
    prune: Interval,
}

/// Whether a node is in step with its database.
#[derive(Debug, Default)]
pub struct FollowStatus {
    in_step: AtomicBool,
    changes: AtomicU64,
    faults: AtomicU64,
}

impl FollowStatus {
    /// True while the database answers and every change it showed is in force.
    #[must_use]
    pub fn is_in_step(&self) -> bool {
        self.in_step.load(Ordering::Relaxed)
    }

    /// Changes brought into force since the start.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.changes.load(Ordering::Relaxed)
    }

    /// Rows left out since the start because routing cannot use them.
    #[must_use]
    pub fn faults(&self) -> u64 {
        self.faults.load(Ordering::Relaxed)
    }
}

/// Prepares to follow `database` from what is `known` of it (see [`snapshot::Snapshot::split`]) and to hand
/// batches of changes to `sink`, which brings them into force. A new value in `composer` (a configuration
/// reload) makes all trunks anew at once, those of the database from their rows as they were read last, and
/// reads everything anew as soon as the database answers. With a `table_file`, that file is kept up to date.
pub fn follow<S: FnMut(Vec<Change>)>(
    database: Database,
    composer: watch::Receiver<Composer>,
    table_file: Option<PathBuf>,
    known: impl Into<Known>,
    sink: S,
) -> Follower<S> {
    let Known { seq, trunk_rows } = known.into();
    let trunk_rows = trunk_rows.into_iter().map(|row| (row.id, row)).collect();
    let file_trunks = composer.borrow().file_trunks.iter().map(|trunk| trunk.id).collect();
    // A table that came from the file need not be written back before something changed.
    let file_is_old = seq.is_some();
    let status = Arc::<FollowStatus>::default();
    let key_file = table_file.as_ref().map(|file| file.with_file_name(key_file::NAME));
    let keys = Arc::new(KeyRing::new(Arc::clone(&status), key_file));
    Follower {
        database,
        composer,
        table_file,
        seq,
        status,
        keys,
        keys_are_read: false,
        sink,
        file_is_old,
        trunk_rows,
        file_trunks,
        erased: None,
        commanded: None,
        erasing: None,
    }
}

impl<S: FnMut(Vec<Change>)> Follower<S> {
    /// Whether it is in step; lives on while it runs.
    #[must_use]
    pub fn status(&self) -> Arc<FollowStatus> {
        Arc::clone(&self.status)
    }

    /// The calls whose data are erased, by whatever node, from when it runs on and as long as it is connected: what
    /// is kept of them in memory has to go.
    #[must_use]
    pub fn erased(&mut self) -> mpsc::Receiver<Vec<CallId>> {
        let (erased, told) = mpsc::channel(ERASED_WAITING);
        self.erased = Some(erased);
        told
    }

    /// The calls of which something is asked at whatever node, as long as it is connected.
    #[must_use]
    pub fn commanded(&mut self) -> mpsc::Receiver<(TenantId, CallId)> {
        let (commanded, told) = mpsc::channel(COMMANDED_WAITING);
        self.commanded = Some(commanded);
        told
    }

    /// What `node` has to erase of what it keeps itself, also what it was told to while it was cut off; each once in
    /// the life of this process; `key` opens it. `is_new`: there was no such node before this start.
    #[must_use]
    pub fn erasures(
        &mut self,
        (node, is_new): (NodeId, bool),
        key: NodeKey,
    ) -> mpsc::Receiver<Erasure> {
        let (told, erasures) = mpsc::channel(ERASED_WAITING);
        self.erasing = Some(Erasing::new((node, is_new), key, told));
        erasures
    }

    /// The keys of the API as they were read last; lives on while it runs.
    #[must_use]
    pub fn keys(&self) -> Arc<KeyRing> {
        Arc::clone(&self.keys)
    }

    /// Follows until `stop` turns true or is dropped, then writes the file a last time.
    pub async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let mut pause = RETRY_FIRST;
        let mut tickers =
            Tickers { poll: ticker(POLL), file: ticker(FILE_PAUSE), prune: ticker(PRUNE_PAUSE) };
        let mut reloads = self.composer.clone();
        loop {
            let failed = tokio::select! {
                () = stopped(&mut stop) => break,
                Ok(()) = reloads.changed() => {
                    self.recompose();
                    continue;
                }
                failed = self.listen(&mut tickers, &mut pause) => failed,
            };
            if self.status.in_step.swap(false, Ordering::Relaxed) || pause == RETRY_FIRST {
                tracing::warn!(error = %failed, "database lost; routing goes on from memory");
            }
            tokio::select! {
                () = stopped(&mut stop) => break,
                Ok(()) = reloads.changed() => self.recompose(),
                () = tokio::time::sleep(pause) => {}
            }
            pause = (pause * 2).min(RETRY_MAX);
        }
        self.write_file().await;
    }

    /// Follows over one connection, until it fails.
    async fn listen(&mut self, tickers: &mut Tickers, pause: &mut Duration) -> sqlx::Error {
        match self.try_listen(tickers, pause).await {
            Ok(never) => match never {},
            Err(error) => error,
        }
    }

    async fn try_listen(
        &mut self,
        tickers: &mut Tickers,
        pause: &mut Duration,
    ) -> sqlx::Result<Infallible> {
        let node = self.database.node();
        let mut listener = within(ANSWER_MAX, PgListener::connect_with(node)).await?;
        // Reconnecting is done here, so that what was missed is read after listening began again.
        listener.eager_reconnect(false);
        within(ANSWER_MAX, listener.listen_all(CHANNELS)).await?;
        // Before all else: what is erased from now on is noted for this node.
        self.register().await?;
        self.catch_up().await?;
        self.tell_erasures().await?;
        loop {
            tokio::select! {
                notification = listener.try_recv() => match notification? {
                    Some(told) if told.channel() == ERASED => self.tell_erased(told.payload()).await,
                    Some(told) if told.channel() == call_commands::CHANNEL => {
                        self.tell_commanded(told.payload());
                    }
                    Some(told) if told.channel() == erasures::CHANNEL => {
                        self.tell_erasures().await?;
                    }
                    Some(_) => self.catch_up().await?,
                    None => return Err(sqlx::Error::PoolClosed),
                },
                _ = tickers.poll.tick() => {
                    self.catch_up().await?;
                    self.tell_erasures().await?;
                    within(READ_MAX, call_commands::forget_old(&self.database)).await?;
                }
                _ = tickers.file.tick() => self.write_file().await,
                _ = tickers.prune.tick() => {
                    let prune = sqlx::query(PRUNE).execute(self.database.node());
                    within(READ_MAX, prune).await?;
                    self.register().await?;
                    within(READ_MAX, erasures::forget_lost_nodes(&self.database)).await?;
                }
            }
            *pause = RETRY_FIRST;
        }
    }

    async fn register(&mut self) -> sqlx::Result<()> {
        let Some(erasing) = &mut self.erasing else { return Ok(()) };
        within(ANSWER_MAX, erasing.register(&self.database)).await
    }

    async fn tell_erasures(&mut self) -> sqlx::Result<()> {
        let Some(erasing) = &mut self.erasing else { return Ok(()) };
        for calls in within(ANSWER_MAX, erasing.tell(&self.database)).await? {
            if let Some(erased) = &self.erased {
                drop(erased.send(calls).await);
            }
        }
        Ok(())
    }

    /// One that finds no room is not done, and whoever asked is told so.
    fn tell_commanded(&self, told: &str) {
        let key = told
            .split_once(' ')
            .and_then(|(tenant, call)| Some((tenant.parse().ok()?, call.parse().ok()?)));
        if let (Some(commanded), Some(key)) = (&self.commanded, key) {
            let is_told = commanded.try_send(key).is_ok();
            tracing::debug!(is_told, "something is asked of a call");
        }
    }

    async fn tell_erased(&self, calls: &str) {
        let calls = calls.split(',').filter_map(|id| id.parse().ok()).collect();
        if let Some(erased) = &self.erased {
            // At the end of the node nobody listens any more.
            drop(erased.send(calls).await);
        }
    }

    /// Reads and brings into force everything after `seq`.
    async fn catch_up(&mut self) -> sqlx::Result<()> {
        loop {
            let Some(seq) = self.seq else {
                within(READ_ALL_MAX, self.read_all()).await?;
                break;
            };
            // Asked every few seconds: by this the node learns that its database hangs.
            let span = sqlx::query_as(SPAN).fetch_one(self.database.node());
            let (oldest, newest): (i64, i64) = within(ANSWER_MAX, span).await?;
            // Fewer changes than we have seen: the database was restored. A gap before the oldest:
            // what we missed was pruned.
            if newest < seq || (newest > seq && oldest > seq + 1) {
                self.seq = None;
                continue;
            }
            let after = sqlx::query_as(AFTER).bind(seq).bind(BATCH);
            let rows: Vec<ChangeRow> =
                within(READ_MAX, after.fetch_all(self.database.node())).await?;
            let Some(last) = rows.last().map(|row| row.seq) else { break };
            // A key falls with its tenant.
            let of_keys = |row: &ChangeRow| ["api_key", "tenant"].contains(&row.kind.as_str());
            self.keys_are_read &= !rows.iter().any(of_keys);
            self.read_keys().await?;
            if rows.iter().any(|row| row.kind == "resync") {
                self.seq = None;
                continue;
            }
            within(READ_MAX, self.bring(&rows)).await?;
            self.seq = Some(last);
        }
        self.read_keys().await?;
        if !self.status.in_step.swap(true, Ordering::Relaxed) {
            tracing::info!("routing table in step with the database");
        }
        Ok(())
    }

    async fn read_keys(&mut self) -> sqlx::Result<()> {
        if !self.keys_are_read {
            within(READ_MAX, self.keys.read(&self.database)).await?;
            self.keys_are_read = true;
        }
        self.keys.write_file().await;
        Ok(())
    }

    /// Makes every trunk anew, whether or not the database answers.
    fn recompose(&mut self) {
        let composer = self.composer.borrow().clone();
        // What else depends on profiles and secrets is read with everything.
        self.seq = None;
        let (mut changes, mut faults) = (Vec::new(), Vec::new());
        let files: Vec<TrunkId> = composer.file_trunks.iter().map(|trunk| trunk.id).collect();
        let gone = self.file_trunks.iter().filter(|id| !files.contains(id));
        changes.extend(gone.copied().map(Change::TrunkGone));
        let file_trunks = composer.file_trunks.iter().cloned();
        changes.extend(file_trunks.map(|trunk| Change::Trunk(Box::new(trunk))));
        for row in self.trunk_rows.values() {
            let change = |trunk| Change::Trunk(Box::new(trunk));
            take(row.trunk(&composer), &mut faults, &mut changes, change);
        }
        self.file_trunks = files;
        self.note_faults(&faults);
        self.hand_over(changes);
    }

    async fn read_all(&mut self) -> sqlx::Result<()> {
        let composer = self.composer.borrow_and_update().clone();
        let snapshot = snapshot::load_all_tenants(&self.database, &composer).await?;
        self.keys_are_read = false;
        self.note_faults(&snapshot.faults);
        let (contents, known) = snapshot.split();
        self.seq = known.seq;
        self.trunk_rows = known.trunk_rows.into_iter().map(|row| (row.id, row)).collect();
        self.hand_over(vec![Change::Replace(Box::new(contents))]);
        Ok(())
    }

    async fn bring(&mut self, rows: &[ChangeRow]) -> sqlx::Result<()> {
        let composer = self.composer.borrow().clone();
        let mut changes = Vec::with_capacity(rows.len());
        let mut faults = Vec::new();
        let mut tenant_ids = ids_of(rows, "tenant");
        let profile_ids = ids_of(rows, "ai_profile");
        let found: Vec<AiProfileRow> = self.some(ai_profiles::SOME, &profile_ids).await?;
        let mut gone: HashSet<Uuid> = profile_ids.into_iter().collect();
        for row in found {
            gone.remove(&row.id);
            // Which profile is the default stands in the tenant.
            tenant_ids.push(row.tenant_id);
            take(row.ai_profile(&composer), &mut faults, &mut changes, |profile| {
                Change::AiProfile(Box::new(profile))
            });
        }
        let gone_profiles = gone.into_iter().map(AiProfileId::from_uuid).map(Change::AiProfileGone);
        changes.extend(gone_profiles);

        let found: Vec<TenantRow> = self.some(tenants::SOME, &tenant_ids).await?;
        let mut gone: HashSet<Uuid> = tenant_ids.into_iter().collect();
        for row in found {
            gone.remove(&row.id);
            take(row.tenant(), &mut faults, &mut changes, Change::Tenant);
        }
        changes.extend(gone.into_iter().map(TenantId::from_uuid).map(Change::TenantGone));

        let trunk_ids = ids_of(rows, "trunk");
        let found: Vec<TrunkRow> = self.some(trunks::SOME, &trunk_ids).await?;
        let mut gone: HashSet<Uuid> = trunk_ids.into_iter().collect();
        for row in found {
            gone.remove(&row.id);
            take(row.trunk(&composer), &mut faults, &mut changes, |trunk| {
                Change::Trunk(Box::new(trunk))
            });
            self.trunk_rows.insert(row.id, row);
        }
        for id in &gone {
            self.trunk_rows.remove(id);
        }
        changes.extend(gone.into_iter().map(TrunkId::from_uuid).map(Change::TrunkGone));
        self.routing_profiles(rows, &mut changes).await?;
        self.campaigns(rows, &mut faults, &mut changes).await?;
        self.numbers(rows, &mut faults, &mut changes).await?;

        self.note_faults(&faults);
        // Changes of keys change nothing of routing.
        if !changes.is_empty() {
            self.hand_over(changes);
        }
        Ok(())
    }

    async fn routing_profiles(
        &self,
        rows: &[ChangeRow],
        changes: &mut Vec<Change>,
    ) -> sqlx::Result<()> {
        let ids = ids_of(rows, "routing_profile");
        let found: Vec<RoutingProfileRow> = self.some(routing_profiles::SOME, &ids).await?;
        let mut gone: HashSet<Uuid> = ids.into_iter().collect();
        for row in found {
            gone.remove(&row.id);
            changes.push(Change::RoutingProfile(row.routing_profile()));
        }
        let gone = gone.into_iter().map(RoutingProfileId::from_uuid);
        changes.extend(gone.map(Change::RoutingProfileGone));
        Ok(())
    }

    async fn campaigns(
        &self,
        rows: &[ChangeRow],
        faults: &mut Vec<RowFault>,
        changes: &mut Vec<Change>,
    ) -> sqlx::Result<()> {
        let ids = ids_of(rows, "campaign");
        let found: Vec<CampaignRow> = self.some(campaigns::SOME, &ids).await?;
        let mut gone: HashSet<Uuid> = ids.into_iter().collect();
        for row in found {
            gone.remove(&row.id);
            take(row.campaign(), faults, changes, Change::Campaign);
        }
        changes.extend(gone.into_iter().map(CampaignId::from_uuid).map(Change::CampaignGone));
        Ok(())
    }

    async fn numbers(
        &self,
        rows: &[ChangeRow],
        faults: &mut Vec<RowFault>,
        changes: &mut Vec<Change>,
    ) -> sqlx::Result<()> {
        let ids = ids_of(rows, "number");
        let found: Vec<NumberRow> = self.some(numbers::SOME, &ids).await?;
        let mut gone: HashSet<Uuid> = ids.into_iter().collect();
        for row in &found {
            gone.remove(&row.id);
        }
        // What went goes first: its number may be another row's by now.
        changes.extend(gone.into_iter().map(NumberId::from_uuid).map(Change::NumberGone));
        for row in found {
            take(row.number(), faults, changes, Change::Number);
        }
        Ok(())
    }

    async fn some<R>(&self, query: &'static str, ids: &[Uuid]) -> sqlx::Result<Vec<R>>
    where
        R: for<'r> sqlx::FromRow<'r, sqlx::postgres::PgRow> + Send + Unpin,
    {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        sqlx::query_as(query).bind(ids).fetch_all(self.database.node()).await
    }

    fn hand_over(&mut self, changes: Vec<Change>) {
        let count = u64::try_from(changes.len()).unwrap_or(u64::MAX);
        self.status.changes.fetch_add(count, Ordering::Relaxed);
        self.file_is_old = true;
        (self.sink)(changes);
    }

    fn note_faults(&self, faults: &[RowFault]) {
        for fault in faults {
            tracing::error!(%fault, "a row is left out of the routing table");
            self.status.faults.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Writes the file if something changed since; a failure is tried again at the next turn.
    async fn write_file(&mut self) {
        let Some(path) = self.table_file.as_deref().filter(|_| self.file_is_old) else { return };
        let written = tokio::time::timeout(FILE_PAUSE, table_file::write(path, &self.database));
        match written.await {
            Ok(Ok(())) => self.file_is_old = false,
            Ok(Err(error)) => tracing::warn!(%error, "routing table file not written"),
            Err(_) => tracing::warn!("routing table file not written: it takes too long"),
        }
    }
}

/// Resolves when the node is to stop.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    // A sender that is gone cannot tell any more: that counts as a stop.
    drop(stop.wait_for(|stop| *stop).await);
}

fn ticker(period: Duration) -> Interval {
    let mut ticker = tokio::time::interval(period);
    ticker.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticker
}

fn ids_of(rows: &[ChangeRow], kind: &str) -> Vec<Uuid> {
    let unique: HashSet<Uuid> =
        rows.iter().filter(|row| row.kind == kind).filter_map(|row| row.row_id).collect();
    unique.into_iter().collect()
}

/// A row that turned unusable keeps its old form in force, as a wrong configuration file does.
fn take<T>(
    read: Result<T, RowFault>,
    faults: &mut Vec<RowFault>,
    changes: &mut Vec<Change>,
    change: impl FnOnce(T) -> Change,
) {
    match read {
        Ok(thing) => changes.push(change(thing)),
        Err(fault) => faults.push(fault),
    }
}

#[derive(Debug, sqlx::FromRow)]
struct ChangeRow {
    seq: i64,
    kind: String,
    row_id: Option<Uuid>,
}

pub(crate) const SPAN: &str =
    "SELECT coalesce(min(seq), 0), coalesce(max(seq), 0) FROM routing_changes";
pub(crate) const AFTER: &str =
    "SELECT seq, kind, row_id FROM routing_changes WHERE seq > $1 ORDER BY seq LIMIT $2";
/// The newest change always stays: it tells a restored database from one that merely rests.
pub(crate) const PRUNE: &str = "DELETE FROM routing_changes \
     WHERE changed_at < now() - interval '1 day' AND seq < (SELECT max(seq) FROM routing_changes)";
