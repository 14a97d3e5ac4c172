//! Recordings and the database: what became of each is stored, and the files of those that are gone are removed.

use crate::clock;
use crate::recording::note::Report;
use crate::recording::recorder::Recorder;
use crate::store::database;
use crate::store::database::Database;
use crate::store::recordings;
use crate::store::recordings::RecordingEnd;
use crate::store::recordings::StoredRecording;
use crate::types::id::RecordingId;
use crate::types::limit::RECORDING_REPORTS_MAX;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::sync::watch;

/// How long is waited after the database failed.
const RETRY: Duration = Duration::from_secs(2);
/// How often is looked for files whose recordings are gone.
const SWEEP: Duration = Duration::from_secs(60);
/// How long, at the end, the last recordings are waited for.
const LAST_MAX: Duration = Duration::from_secs(3);
/// How often, at the end, is looked whether they are closed.
const LAST_PERIOD: Duration = Duration::from_millis(50);

/// Carries what becomes of recordings into the database.
pub(super) struct RecordingBook {
    recorder: Recorder,
    database: Database,
    news: mpsc::Receiver<Report>,
    /// What the database does not have yet.
    waiting: BTreeMap<RecordingId, Report>,
}

impl RecordingBook {
    pub(super) fn new(
        (recorder, news): (Recorder, mpsc::Receiver<Report>),
        database: Database,
    ) -> Self {
        Self { recorder, database, news, waiting: BTreeMap::new() }
    }

    /// Works until `stop` turns true; then the last recordings are waited for.
    pub(super) async fn run(mut self, mut stop: watch::Receiver<bool>) {
        self.recover().await;
        let mut sweep = clock::now();
        loop {
            let all_stored = self.store().await;
            if clock::now() >= sweep {
                sweep = clock::now() + SWEEP;
                self.sweep().await;
            }
            let pause = if all_stored { SWEEP } else { RETRY };
            tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => break,
                report = self.news.recv() => match report {
                    Some(report) => self.take(report),
                    None => break,
                },
                () = tokio::time::sleep(pause) => {}
            }
        }
        let last = async {
            while self.recorder.running() > 0 {
                tokio::time::sleep(LAST_PERIOD).await;
            }
            self.store().await
        };
        if !matches!(tokio::time::timeout(LAST_MAX, last).await, Ok(true)) {
            tracing::warn!("the database hears of the last recordings after the next start");
        }
    }

    /// Closes what was left behind by a kill.
    async fn recover(&mut self) {
        let recorder = self.recorder.clone();
        let recovered = tokio::task::spawn_blocking(move || {
            let mut reports = Vec::new();
            recorder.recover(|report| reports.push(report));
            reports
        });
        match recovered.await {
            Ok(reports) => reports.into_iter().for_each(|report| self.take(report)),
            Err(_) => tracing::error!("the recordings of before this start cannot be closed"),
        }
    }

    /// An end is not taken back by a birth that comes late. Beyond the bound the note on the disk tells it.
    fn take(&mut self, report: Report) {
        let id = report.birth.of().id;
        let known = self.waiting.get(&id);
        let is_old = known.is_some_and(|known| known.end.is_some());
        if !is_old && (known.is_some() || self.waiting.len() < RECORDING_REPORTS_MAX) {
            self.waiting.insert(id, report);
        }
    }

    /// Stores all that waits; false when the database failed.
    async fn store(&mut self) -> bool {
        while let Ok(report) = self.news.try_recv() {
            self.take(report);
        }
        while let Some((id, report)) = self.waiting.first_key_value() {
            let id = *id;
            let stored = recordings::put_all_tenants(&self.database, &row(report)).await;
            if let Err(error) = stored {
                tracing::debug!(%error, "a recording is not in the database yet");
                if !database::is_refusal(&error) {
                    return false;
                }
                // It will not have it: its tenant is gone.
                tracing::warn!(recording = %id, %error, "the database refuses a recording");
            }
            let has_ended = report.end.is_some();
            self.waiting.remove(&id);
            if has_ended {
                let recorder = self.recorder.clone();
                drop(tokio::task::spawn_blocking(move || recorder.forget_note(id)).await);
            }
        }
        true
    }

    /// Removes files whose recordings are gone.
    async fn sweep(&self) {
        loop {
            let folder = self.recorder.folder_id();
            let gone = match recordings::removed_all_tenants(&self.database, folder).await {
                Ok(gone) if gone.is_empty() => return,
                Ok(gone) => gone,
                Err(error) => {
                    tracing::debug!(%error, "it is not known which recordings are gone");
                    return;
                }
            };
            let recorder = self.recorder.clone();
            let remove = move || -> Vec<RecordingId> {
                let removed = |(id, tenant): &(RecordingId, _)| {
                    let done = recorder.delete(*tenant, *id);
                    done.inspect_err(|error| tracing::warn!(%error, "a recording's file stays"))
                        .is_ok()
                };
                gone.into_iter().filter(removed).map(|(id, _)| id).collect()
            };
            let removed = tokio::task::spawn_blocking(remove).await.unwrap_or_default();
            let forgotten = recordings::forget_removed_all_tenants(&self.database, &removed).await;
            if removed.is_empty() || forgotten.is_err() {
                return;
            }
        }
    }
}

fn row(report: &Report) -> StoredRecording {
    let birth = &report.birth;
    StoredRecording {
        of: birth.of(),
        folder: birth.folder,
        sample_rate: birth.hz,
        is_encrypted: birth.is_encrypted,
        started_at: birth.started_at,
        end: report.end.as_ref().map(|end| RecordingEnd {
            status: end.status.as_str(),
            why: end.why.clone().filter(|why| !why.is_empty()),
            ended_at: end.ended_at,
            duration_ms: end.duration_ms,
            data_bytes: end.data_bytes,
            sha256: end.sha256.clone(),
            lost_ms: end.lost_ms,
            markers: serde_json::to_value(&end.markers).unwrap_or_default(),
        }),
    }
}
