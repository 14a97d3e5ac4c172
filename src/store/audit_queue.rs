//! `AuditQueue`: what was done with running calls, on its way into the audit log. Calls are steered while the database
//! is away; what was done meanwhile waits in memory and in a file, which the next start reads after a death.

use crate::clock;
use crate::store::database;
use crate::store::database::Database;
use crate::store::time::Time;
use crate::telemetry::metric;
use crate::telemetry::metric::Counter;
use crate::types::id::ApiKeyId;
use crate::types::id::CallId;
use crate::types::id::TenantId;
use crate::types::limit::AUDIT_WAITING_MAX;
use jiff::Timestamp;
use serde::Deserialize;
use serde::Serialize;
use serde_json::Value;
use std::fs;
use std::fs::OpenOptions;
use std::io;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use uuid::Uuid;

/// How long whoever steers a call waits for the entry to be stored: it is answered all the same.
const NOTE_MAX: Duration = Duration::from_secs(1);
/// Longest try of an entry that waits, and how long is waited after one that failed.
const WRITE_MAX: Duration = Duration::from_secs(5);
const RETRY: Duration = Duration::from_millis(500);
/// Longest wait, at the end, for what still waits.
const LAST_MAX: Duration = Duration::from_secs(3);

/// Something that was done with a call.
#[derive(Clone, Debug)]
pub struct Steered {
    /// Whose call it is.
    pub tenant: TenantId,
    /// By whose key; a call token is its maker's.
    pub key: ApiKeyId,
    /// What: `hold`, `transfer` ...
    pub action: &'static str,
    /// With which call.
    pub call: CallId,
    /// How it stood before and after, without anybody's number in full.
    pub detail: Value,
}

/// An entry on its way, as the file has it. Its identity is its own, so that one that is sent twice is there once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Entry {
    id: Uuid,
    at: Timestamp,
    tenant: Uuid,
    key: Uuid,
    action: String,
    call: Uuid,
    detail: Value,
}

impl Entry {
    fn of(steered: Steered) -> Self {
        Self {
            id: clock::new_uuid(),
            at: clock::wall_now(),
            tenant: steered.tenant.uuid(),
            key: steered.key.uuid(),
            action: steered.action.to_owned(),
            call: steered.call.uuid(),
            detail: steered.detail,
        }
    }
}

/// Takes entries into the audit log, in order, one at a time. Clones are handles to the same one.
#[derive(Clone, Debug)]
pub struct AuditQueue {
    database: Database,
    entries: mpsc::Sender<Box<Entry>>,
    waiting: Arc<AtomicUsize>,
    file: Option<Arc<WaitingFile>>,
}

impl AuditQueue {
    /// Starts it; it goes on until `stop` turns true, and then for three seconds with what waits. With a `file`, what
    /// waits is kept there as well, and what an earlier process left in it goes first. Needs a tokio runtime. Blocks for
    /// as long as the file is read.
    #[must_use]
    pub fn start(
        database: Database,
        file: Option<PathBuf>,
        stop: watch::Receiver<bool>,
    ) -> (Self, JoinHandle<()>) {
        let (entries, queue) = mpsc::channel(AUDIT_WAITING_MAX);
        let file = file.map(|path| Arc::new(WaitingFile::at(path, LINES_MAX)));
        let left = file.as_ref().map(|file| file.read()).unwrap_or_default();
        let waiting = Arc::new(AtomicUsize::new(left.len()));
        for entry in left {
            // There is room for as many as are read.
            drop(entries.try_send(Box::new(entry)));
        }
        let own = Self { database, entries, waiting, file };
        let writing = tokio::spawn(write_all(own.clone_for_writer(), queue, stop));
        (own, writing)
    }

    fn clone_for_writer(&self) -> Writing {
        let (database, file) = (self.database.clone(), self.file.clone());
        Writing { database, waiting: Arc::clone(&self.waiting), file }
    }

    /// Whether what is done next can be noted.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.waiting.load(Ordering::Acquire) < AUDIT_WAITING_MAX
    }

    /// Notes what was done. When this resolves it is stored, or the database did not take it within a second and it
    /// waits: in memory and, where the disk takes it, in the file.
    pub async fn note(&self, steered: Steered) {
        let entry = Entry::of(steered);
        if self.waiting.load(Ordering::Acquire) == 0 {
            match database::within(NOTE_MAX, write(&self.database, &entry)).await {
                Ok(()) => return,
                Err(error) if database::is_refusal(&error) => return lose(&error),
                Err(error) => tracing::debug!(%error, "an entry of the audit log waits"),
            }
        }
        if self.waiting.fetch_add(1, Ordering::AcqRel) >= AUDIT_WAITING_MAX {
            self.waiting.fetch_sub(1, Ordering::AcqRel);
            return lose(&sqlx::Error::PoolTimedOut);
        }
        if let Some(file) = self.file.clone() {
            let kept = entry.clone();
            let kept = tokio::task::spawn_blocking(move || file.add(&kept)).await;
            if let Ok(Err(error)) = kept {
                tracing::warn!(%error, "an entry of the audit log waits in memory alone");
            }
        }
        if self.entries.try_send(Box::new(entry)).is_err() {
            self.waiting.fetch_sub(1, Ordering::AcqRel);
            lose(&sqlx::Error::PoolTimedOut);
        }
    }
}

/// What the task that writes works with.
struct Writing {
    database: Database,
    waiting: Arc<AtomicUsize>,
    file: Option<Arc<WaitingFile>>,
}

impl Writing {
    /// An entry is done with. The file goes with the last that waits.
    async fn settle(&self) {
        let Some(file) = self.file.clone().filter(|_| self.waiting.load(Ordering::Acquire) == 1)
        else {
            self.waiting.fetch_sub(1, Ordering::AcqRel);
            return;
        };
        let waiting = Arc::clone(&self.waiting);
        let gone = tokio::task::spawn_blocking(move || file.clear_last(&waiting)).await;
        if let Ok(Err(error)) = gone {
            tracing::warn!(%error, "the file of entries that waited stays: they are sent again, and stored once");
        }
    }
}

/// Lines of the file over which those go that need not wait any longer. Of so many that came the first half is stored,
/// since no more than [`AUDIT_WAITING_MAX`] wait.
const LINES_MAX: usize = 2 * AUDIT_WAITING_MAX;

/// The file of entries that wait, a line each.
#[derive(Debug)]
struct WaitingFile {
    path: PathBuf,
    /// How many lines it has.
    lines: Mutex<usize>,
    lines_max: usize,
}

impl WaitingFile {
    const fn at(path: PathBuf, lines_max: usize) -> Self {
        Self { path, lines: Mutex::new(0), lines_max }
    }

    /// What an earlier process left. Lines that cannot be read, such as half of one, are left out.
    fn read(&self) -> Vec<Entry> {
        let text = match fs::read_to_string(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Vec::new(),
            Err(error) => {
                tracing::error!(%error, "entries of the audit log that waited cannot be read");
                return Vec::new();
            }
        };
        *self.lines.lock().unwrap_or_else(PoisonError::into_inner) = lines_of(&text).count();
        // Of more than may wait the first are stored already.
        let lines = lines_of(&text).rev().filter_map(|line| serde_json::from_str(line).ok());
        let mut waiting: Vec<Entry> = lines.take(AUDIT_WAITING_MAX).collect();
        waiting.reverse();
        waiting
    }

    /// Adds an entry, safe on the disk. Blocks.
    fn add(&self, entry: &Entry) -> io::Result<()> {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if *lines >= self.lines_max {
            *lines = self.keep_last(self.lines_max / 2)?;
        }
        // What was cut off before it, by a death or a full disk, does not take this one along.
        let line = format!("\n{}", serde_json::to_string(entry).map_err(io::Error::other)?);
        let mut options = OpenOptions::new();
        let mut file = options.append(true).create(true).mode(0o600).open(&self.path)?;
        file.write_all(line.as_bytes())?;
        *lines += 1;
        file.sync_data()
    }

    /// Takes the first lines out, while the last so many stay; how many there are then. A death in between costs none.
    fn keep_last(&self, many: usize) -> io::Result<usize> {
        let text = fs::read_to_string(&self.path)?;
        let before = lines_of(&text).count().saturating_sub(many);
        let kept: Vec<&str> = lines_of(&text).skip(before).collect();
        let beside = self.path.with_extension("new");
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
        file.write_all(kept.join("\n").as_bytes())?;
        file.sync_data()?;
        fs::rename(&beside, &self.path)?;
        Ok(kept.len())
    }

    /// Counts one that waited as done, and clears the file if it was the last. Blocks.
    fn clear_last(&self, waiting: &AtomicUsize) -> io::Result<()> {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        // Whoever counted itself meanwhile may be in the file already.
        if waiting.fetch_sub(1, Ordering::AcqRel) > 1 {
            return Ok(());
        }
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => *lines = 0,
        }
        Ok(())
    }
}

fn lines_of(text: &str) -> impl DoubleEndedIterator<Item = &str> {
    text.lines().filter(|line| !line.is_empty())
}

fn lose(error: &sqlx::Error) {
    metric::counter(Counter::AuditEntriesLost).increment(1);
    tracing::error!(%error, "an entry of the audit log is lost");
}

async fn write_all(
    writing: Writing,
    mut queue: mpsc::Receiver<Box<Entry>>,
    mut stop: watch::Receiver<bool>,
) {
    let waiting = &writing.waiting;
    let work = async {
        while let Some(entry) = queue.recv().await {
            store(&writing.database, &entry).await;
            writing.settle().await;
        }
    };
    let ending = async {
        drop(stop.wait_for(|stop| *stop).await);
        let empty = async {
            while waiting.load(Ordering::Acquire) > 0 {
                tokio::time::sleep(RETRY / 10).await;
            }
        };
        if tokio::time::timeout(LAST_MAX, empty).await.is_err() {
            let left = waiting.load(Ordering::Acquire);
            if writing.file.is_some() {
                tracing::warn!(left, "entries of the audit log wait for the next start");
            } else {
                metric::counter(Counter::AuditEntriesLost).increment(left as u64);
                tracing::error!(left, "entries of the audit log are lost: the database is away");
            }
        }
    };
    tokio::select! {
        () = work => {}
        () = ending => {}
    }
}

/// Stores an entry, however long the database is away.
async fn store(database: &Database, entry: &Entry) {
    loop {
        match database::within(WRITE_MAX, write(database, entry)).await {
            Ok(()) => return,
            Err(error) if database::is_refusal(&error) => return lose(&error),
            Err(_) => tokio::time::sleep(RETRY).await,
        }
    }
}

async fn write(database: &Database, entry: &Entry) -> sqlx::Result<()> {
    sqlx::query(INSERT)
        .bind(entry.id)
        .bind(entry.tenant)
        .bind(Time(entry.at))
        .bind(entry.key)
        .bind(&entry.action)
        .bind(entry.call)
        .bind(&entry.detail)
        .execute(database.node())
        .await?;
    Ok(())
}

/// A key that was deleted meanwhile did it all the same.
pub(crate) const INSERT: &str = "INSERT INTO audit_log \
         (id, tenant_id, at, api_key_id, actor, action, subject, subject_id, detail) \
     VALUES ($1, $2, $3, (SELECT id FROM api_keys WHERE id = $4), 'api', $5, 'call', $6, $7) \
     ON CONFLICT DO NOTHING";

#[cfg(test)]
mod tests {
    use super::*;
    use metrics_exporter_prometheus::PrometheusBuilder;
    use serde_json::json;

    #[test]
    fn what_finds_no_room_is_counted_as_lost() {
        let recorder = PrometheusBuilder::new().build_recorder();
        let handle = recorder.handle();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        metrics::with_local_recorder(&recorder, || {
            runtime.block_on(async {
                let nowhere = Database::at("postgres://nobody@127.0.0.1:1/nothing").unwrap();
                let (entries, _queue) = mpsc::channel(1);
                // Something waits already: nobody waits for the database.
                let waiting = Arc::new(AtomicUsize::new(1));
                let queue = AuditQueue { database: nowhere, entries, waiting, file: None };
                for _ in 0..3 {
                    queue
                        .note(Steered {
                            tenant: TenantId::from_uuid(clock::new_uuid()),
                            key: ApiKeyId::from_uuid(clock::new_uuid()),
                            action: "hold",
                            call: clock::new_call_id(),
                            detail: json!({}),
                        })
                        .await;
                }
            });
        });
        let text = handle.render();
        assert!(text.contains("audit_entries_lost_total 2"), "{text}");
    }

    #[test]
    fn what_waits_is_in_the_file_until_the_last_is_done_with() {
        let name = format!("tandem-audit-{:016x}", clock::random_u64());
        let file = WaitingFile::at(std::env::temp_dir().join(name), 4);
        assert!(file.read().is_empty());
        let entry = |action| {
            Entry::of(Steered {
                tenant: TenantId::from_uuid(clock::new_uuid()),
                key: ApiKeyId::from_uuid(clock::new_uuid()),
                action,
                call: clock::new_call_id(),
                detail: json!({"asked": {}}),
            })
        };
        let entries = ["hold", "resume"].map(entry);
        for entry in &entries {
            file.add(entry).unwrap();
        }
        // A death in the midst of a line costs that line.
        let mut whole = fs::read_to_string(&file.path).unwrap();
        whole.push_str("\n{\"id\":");
        fs::write(&file.path, whole).unwrap();
        assert_eq!(file.read(), entries);
        // And not the one that comes behind it.
        let later = entry("mute");
        file.add(&later).unwrap();
        assert_eq!(file.read(), [&entries[..], &[later]].concat());
        let waiting = AtomicUsize::new(2);
        file.clear_last(&waiting).unwrap();
        assert_eq!(file.read().len(), 3, "one waits still");
        file.clear_last(&waiting).unwrap();
        assert!(file.read().is_empty() && !file.path.exists());
    }

    #[test]
    fn the_file_keeps_the_last_of_what_came_and_grows_no_further() {
        let name = format!("tandem-audit-{:016x}", clock::random_u64());
        let file = WaitingFile::at(std::env::temp_dir().join(name), 4);
        let entries: Vec<_> = (0..11)
            .map(|_| {
                Entry::of(Steered {
                    tenant: TenantId::from_uuid(clock::new_uuid()),
                    key: ApiKeyId::from_uuid(clock::new_uuid()),
                    action: "hold",
                    call: clock::new_call_id(),
                    detail: json!({}),
                })
            })
            .collect();
        let mut most = 0;
        for (place, entry) in entries.iter().enumerate() {
            file.add(entry).unwrap();
            let kept = file.read();
            // The two before it, which may wait still, are there with it.
            let last = entries.get(place.saturating_sub(2)..=place).unwrap();
            assert!(kept.ends_with(last), "{place}: {}", kept.len());
            most = most.max(kept.len());
        }
        assert_eq!(most, 4);
        // A start goes on with the count of what an earlier one left.
        let later = WaitingFile::at(file.path.clone(), 4);
        later.read();
        assert_eq!(*later.lines.lock().unwrap(), file.read().len());
        later.clear_last(&AtomicUsize::new(1)).unwrap();
        assert_eq!(*later.lines.lock().unwrap(), 0);
    }

    #[tokio::test]
    async fn there_is_room_until_as_many_wait_as_may() {
        let nowhere = Database::at("postgres://nobody@127.0.0.1:1/nothing").unwrap();
        let waiting = Arc::new(AtomicUsize::new(AUDIT_WAITING_MAX - 1));
        let (entries, _queue) = mpsc::channel(1);
        let queue =
            AuditQueue { database: nowhere, entries, waiting: Arc::clone(&waiting), file: None };
        assert!(queue.has_room());
        waiting.fetch_add(1, Ordering::AcqRel);
        assert!(!queue.has_room());
    }
}
