//! `AuditQueue`: what was done with running calls, on its way into the audit log. Calls are steered while the database
//! is away; what was done meanwhile waits.

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
use serde_json::Value;
use std::sync::Arc;
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

/// An entry on its way. Its identity is its own, so that one that is sent twice is there once.
#[derive(Clone, Debug)]
struct Entry {
    id: Uuid,
    at: Timestamp,
    steered: Steered,
}

/// Takes entries into the audit log, in order, one at a time. Clones are handles to the same one.
#[derive(Clone, Debug)]
pub struct AuditQueue {
    database: Database,
    entries: mpsc::Sender<Box<Entry>>,
    waiting: Arc<AtomicUsize>,
}

impl AuditQueue {
    /// Starts it; it goes on until `stop` turns true, and then for three seconds with what waits. Needs a tokio
    /// runtime.
    #[must_use]
    pub fn start(database: Database, stop: watch::Receiver<bool>) -> (Self, JoinHandle<()>) {
        let (entries, queue) = mpsc::channel(AUDIT_WAITING_MAX);
        let waiting = Arc::<AtomicUsize>::default();
        let own = Self { database, entries, waiting };
        let writing =
            tokio::spawn(write_all(own.database.clone(), (queue, stop), Arc::clone(&own.waiting)));
        (own, writing)
    }

    /// Notes what was done. When this resolves it is stored, or the database did not take it within a second and it
    /// waits in memory.
    pub async fn note(&self, steered: Steered) {
        let entry = Entry { id: clock::new_uuid(), at: clock::wall_now(), steered };
        if self.waiting.load(Ordering::Acquire) == 0 {
            match database::within(NOTE_MAX, write(&self.database, &entry)).await {
                Ok(()) => return,
                Err(error) if database::is_refusal(&error) => return lose(&error),
                Err(error) => tracing::debug!(%error, "an entry of the audit log waits"),
            }
        }
        self.waiting.fetch_add(1, Ordering::AcqRel);
        if self.entries.try_send(Box::new(entry)).is_err() {
            self.waiting.fetch_sub(1, Ordering::AcqRel);
            lose(&sqlx::Error::PoolTimedOut);
        }
    }
}

fn lose(error: &sqlx::Error) {
    metric::counter(Counter::AuditEntriesLost).increment(1);
    tracing::error!(%error, "an entry of the audit log is lost");
}

async fn write_all(
    database: Database,
    (mut queue, mut stop): (mpsc::Receiver<Box<Entry>>, watch::Receiver<bool>),
    waiting: Arc<AtomicUsize>,
) {
    let work = async {
        while let Some(entry) = queue.recv().await {
            store(&database, &entry).await;
            waiting.fetch_sub(1, Ordering::AcqRel);
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
            let lost = waiting.load(Ordering::Acquire);
            metric::counter(Counter::AuditEntriesLost).increment(lost as u64);
            tracing::error!(lost, "entries of the audit log are lost: the database is away");
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
    let Entry { id, at, steered } = entry;
    sqlx::query(INSERT)
        .bind(id)
        .bind(steered.tenant.uuid())
        .bind(Time(*at))
        .bind(steered.key.uuid())
        .bind(steered.action)
        .bind(steered.call.uuid())
        .bind(&steered.detail)
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
                let queue = AuditQueue { database: nowhere, entries, waiting };
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
}
