//! Recordings: rows of `recordings`, whose audio is in files of nodes.

use crate::store::database::Database;
use crate::store::resource::Resource;
use crate::store::resource::field::Field;
use crate::store::resource::field::Given;
use crate::store::resource::field::Kind;
use crate::types::id::RecordingId;
use crate::types::id::TenantId;
use crate::types::recording::RecordingOf;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

/// Removed files that are told of at once.
const REMOVALS: i64 = 200;

/// Recordings as the API shows them.
pub const RECORDINGS: Resource = Resource {
    name: "recording",
    plural: "recordings",
    table: "recordings",
    fields: &[
        Field::new("tenant_id", Kind::Id, "Whose it is.").given(Given::Never),
        Field::new("call_id", Kind::Id, "The call.").given(Given::Never).filter(),
        Field::new(
            "status",
            Kind::Choice(&["recording", "ready", "failed", "interrupted"]),
            "`recording` while it is written; `failed` and `interrupted` (the node was killed) have what \
             was written by then.",
        )
        .given(Given::Never)
        .filter(),
        Field::new(
            "why",
            Kind::Text(1, 64),
            "Why it failed: disk_full, disk_error, too_long, fault, and after a kill file_missing, \
             file_changed or key_missing.",
        )
        .given(Given::Never)
        .nullable(),
        Field::new("sample_rate", Kind::Integer(1, 1_000_000), "Samples of each channel a second.")
            .given(Given::Never),
        Field::new("is_encrypted", Kind::Flag, "Whether its file is encrypted.").given(Given::Never),
        Field::new("started_at", Kind::Time, "When its first sample was.").given(Given::Never),
        Field::new("ended_at", Kind::Time, "When it ended.").given(Given::Never).nullable(),
        Field::new("duration_ms", Kind::Integer(0, i64::MAX), "Its length.")
            .given(Given::Never)
            .nullable(),
        Field::new(
            "data_bytes",
            Kind::Integer(0, i64::MAX),
            "Bytes of its samples; the WAV has 44 before them.",
        )
        .given(Given::Never)
        .nullable(),
        Field::new(
            "sha256",
            Kind::Text(0, 64),
            "SHA-256 of its samples, in hex: of the WAV without its first 44 bytes.",
        )
        .given(Given::Never)
        .nullable(),
        Field::new(
            "lost_ms",
            Kind::Integer(0, i64::MAX),
            "What of it is silent because a disk or a media thread came too late.",
        )
        .given(Given::Never)
        .nullable(),
        Field::new(
            "markers",
            Kind::Objects,
            "Places in it (`at_ms`) at which it was `paused`, `resumed`, or has a `gap` (`for_ms`).",
        )
        .given(Given::Never),
    ],
    exclusive: None,
    has_secrets: false,
    is_switchs: false,
    deactivates: None,
};

/// How a recording ended, as it is stored.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RecordingEnd {
    /// `ready`, `failed` or `interrupted`.
    pub status: &'static str,
    /// Why it failed.
    pub why: Option<String>,
    /// When.
    pub ended_at: Timestamp,
    /// Its length.
    pub duration_ms: u64,
    /// Bytes of its samples.
    pub data_bytes: u64,
    /// SHA-256 of them, in hex.
    pub sha256: String,
    /// What of it is lost.
    pub lost_ms: u64,
    /// Its markers.
    pub markers: Value,
}

/// A recording, as it is stored.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredRecording {
    /// Whose it is.
    pub of: RecordingOf,
    /// The folder with its file.
    pub folder: Uuid,
    /// Samples of each channel a second.
    pub sample_rate: u32,
    /// Whether its file is encrypted.
    pub is_encrypted: bool,
    /// When it began.
    pub started_at: Timestamp,
    /// Its end, once it has one.
    pub end: Option<RecordingEnd>,
}

#[derive(Serialize)]
struct Form<'a> {
    id: Uuid,
    tenant_id: Uuid,
    call_id: Uuid,
    folder: Uuid,
    sample_rate: u32,
    is_encrypted: bool,
    started_at: Timestamp,
    #[serde(flatten)]
    end: Option<&'a RecordingEnd>,
}

/// Stores what is known of a recording; one that has ended stays as it is. That it ended is told as an event of its
/// call, by the call or after it.
///
/// # Errors
/// When the database fails.
pub async fn put_all_tenants(database: &Database, recording: &StoredRecording) -> sqlx::Result<()> {
    let form = Form {
        id: recording.of.id.uuid(),
        tenant_id: recording.of.tenant.uuid(),
        call_id: recording.of.call.uuid(),
        folder: recording.folder,
        sample_rate: recording.sample_rate,
        is_encrypted: recording.is_encrypted,
        started_at: recording.started_at,
        end: recording.end.as_ref(),
    };
    let form = serde_json::to_value(form).map_err(|error| sqlx::Error::Encode(error.into()))?;
    sqlx::query(PUT).bind(form).execute(database.node()).await?;
    Ok(())
}

/// Where a recording of `tenant` is: its folder and status; `None`: there is no such one.
///
/// # Errors
/// When the database fails.
pub async fn find(
    database: &Database,
    tenant: TenantId,
    id: RecordingId,
) -> sqlx::Result<Option<(Uuid, String)>> {
    let mut transaction = database.begin(tenant).await?;
    let found = sqlx::query_as(FIND)
        .bind(id.uuid())
        .bind(tenant.uuid())
        .fetch_optional(&mut *transaction)
        .await?;
    transaction.commit().await?;
    Ok(found)
}

/// Files of a folder whose recordings are gone.
///
/// # Errors
/// When the database fails.
pub async fn removed_all_tenants(
    database: &Database,
    folder: Uuid,
) -> sqlx::Result<Vec<(RecordingId, TenantId)>> {
    let found: Vec<(Uuid, Uuid)> =
        sqlx::query_as(REMOVED).bind(folder).bind(REMOVALS).fetch_all(database.node()).await?;
    let read = |(id, owner)| (RecordingId::from_uuid(id), TenantId::from_uuid(owner));
    Ok(found.into_iter().map(read).collect())
}

/// Forgets files that were removed.
///
/// # Errors
/// When the database fails.
pub async fn forget_removed_all_tenants(
    database: &Database,
    ids: &[RecordingId],
) -> sqlx::Result<()> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.uuid()).collect();
    sqlx::query(FORGET_REMOVED).bind(ids).execute(database.node()).await?;
    Ok(())
}

/// Its end is news of its call in the same transaction.
pub(crate) const PUT: &str = "WITH put AS ( \
         INSERT INTO recordings (id, tenant_id, call_id, folder, status, why, \
             sample_rate, is_encrypted, started_at, ended_at, duration_ms, data_bytes, sha256, lost_ms, \
             markers) \
         SELECT r.id, r.tenant_id, r.call_id, r.folder, coalesce(r.status, 'recording'), r.why, \
             r.sample_rate, r.is_encrypted, r.started_at, r.ended_at, r.duration_ms, r.data_bytes, \
             r.sha256, r.lost_ms, coalesce(r.markers, '[]') \
         FROM jsonb_populate_record(NULL::recordings, $1) r \
         ON CONFLICT (id) DO UPDATE SET status = excluded.status, why = excluded.why, \
             ended_at = excluded.ended_at, duration_ms = excluded.duration_ms, \
             data_bytes = excluded.data_bytes, sha256 = excluded.sha256, lost_ms = excluded.lost_ms, \
             markers = excluded.markers \
         WHERE recordings.status = 'recording' \
         RETURNING id, tenant_id, call_id, status, why, duration_ms) \
     INSERT INTO call_news (tenant_id, call_id, name, detail) \
     SELECT p.tenant_id, p.call_id, \
         CASE p.status WHEN 'ready' THEN 'recording_ready' ELSE 'recording_failed' END, \
         CASE p.status WHEN 'ready' \
             THEN jsonb_build_object('recording_id', p.id, 'duration_ms', p.duration_ms) \
             ELSE jsonb_build_object('recording_id', p.id, 'why', coalesce(p.why, p.status)) END \
     FROM put p WHERE p.status <> 'recording'";

pub(crate) const FIND: &str =
    "SELECT folder, status FROM recordings WHERE id = $1 AND tenant_id = $2";

pub(crate) const REMOVED: &str =
    "SELECT id, owner FROM recording_removals WHERE folder = $1 ORDER BY at LIMIT $2";

pub(crate) const FORGET_REMOVED: &str = "DELETE FROM recording_removals WHERE id = ANY($1)";
