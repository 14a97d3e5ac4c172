//! Transcripts: what was said in calls, turn by turn.

use crate::store::api_keys::KeyHolder;
use crate::store::api_keys::KeyScope;
use crate::store::audit_log;
use crate::store::audit_log::Entry;
use crate::store::database::Database;
use crate::store::live_events;
use crate::store::live_events::Added;
use crate::store::live_events::ToldEvent;
use crate::store::time::Time;
use crate::types::id::CallId;
use crate::types::id::TenantId;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;
use serde_json::json;
use sqlx::FromRow;
use sqlx::PgConnection;
use sqlx::Row;
use sqlx::postgres::PgRow;
use uuid::Uuid;

/// Something that was said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Turn {
    /// Its number in the call.
    pub seq: u32,
    /// `caller`, `agent` or `other`.
    pub speaker: String,
    /// What was said.
    pub text: String,
    /// When.
    pub at: Timestamp,
    /// The same from the call's answer, in ms, where it was given so.
    pub at_ms: Option<u64>,
    /// Whether it stays as it is.
    #[serde(rename = "is_final")]
    pub is_final: bool,
}

impl FromRow<'_, PgRow> for Turn {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        let Time(at) = row.try_get("at")?;
        let at_ms: Option<i64> = row.try_get("at_ms")?;
        let seq: i32 = row.try_get("seq")?;
        Ok(Self {
            seq: u32::try_from(seq).unwrap_or(0),
            speaker: row.try_get("speaker")?,
            text: row.try_get("text")?,
            at,
            at_ms: at_ms.and_then(|ms| u64::try_from(ms).ok()),
            is_final: row.try_get("is_final")?,
        })
    }
}

/// The transcript of a call, in short.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overview {
    /// The call.
    pub call: CallId,
    /// Its turns.
    pub turns: i64,
    /// When the first was.
    pub first_at: Timestamp,
    /// When the last was.
    pub last_at: Timestamp,
}

impl FromRow<'_, PgRow> for Overview {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        let (Time(first_at), Time(last_at)) = (row.try_get("first_at")?, row.try_get("last_at")?);
        let call: Uuid = row.try_get("call_id")?;
        let turns = row.try_get("turns")?;
        Ok(Self { call: CallId::from_uuid(call), turns, first_at, last_at })
    }
}

/// The least and the greatest number of turns.
#[must_use]
pub fn span(turns: &[Turn]) -> (u32, u32) {
    let numbers = || turns.iter().map(|turn| turn.seq);
    (numbers().min().unwrap_or_default(), numbers().max().unwrap_or_default())
}

/// Stores turns of a call of `tenant` that runs; how many were new or took the place of one that was not final. One
/// that is final stays as it is, so whoever sends turns twice changes nothing; of a call whose data were erased none is
/// stored. That they came is told as an event of
/// the call, by the call or after it. With somebody `by` whose key it was it stands in the audit log.
///
/// # Errors
/// When the database fails; then none is stored.
pub async fn put(
    (database, by): (&Database, Option<&KeyHolder>),
    (tenant, call): (TenantId, CallId),
    turns: &[Turn],
) -> sqlx::Result<u64> {
    let numbers = span(turns);
    let news = detail(numbers);
    let turns = serde_json::to_value(turns).map_err(|error| sqlx::Error::Encode(error.into()))?;
    let mut transaction = database.begin(tenant).await?;
    let done = sqlx::query(PUT)
        .bind(tenant.uuid())
        .bind(call.uuid())
        .bind(turns)
        .execute(&mut *transaction)
        .await?;
    if done.rows_affected() > 0 {
        sqlx::query(ADD_NEWS)
            .bind(tenant.uuid())
            .bind(call.uuid())
            .bind(ADDED)
            .bind(news)
            .execute(&mut *transaction)
            .await?;
        note_added(&mut transaction, by, (tenant, call), (numbers, done.rows_affected())).await?;
    }
    transaction.commit().await?;
    Ok(done.rows_affected())
}

/// The event that tells of turns.
const ADDED: &str = "transcript_added";

fn detail((first, last): (u32, u32)) -> Value {
    json!({"first": first, "last": last})
}

/// Notes in the audit log which turns somebody added; not what was said, and nothing of what the switch itself heard.
async fn note_added(
    connection: &mut PgConnection,
    by: Option<&KeyHolder>,
    (tenant, call): (TenantId, CallId),
    ((first, last), stored): ((u32, u32), u64),
) -> sqlx::Result<()> {
    let Some(holder) = by else { return Ok(()) };
    let entry = Entry {
        tenant: Some(tenant),
        key: Some(holder.id),
        action: "add",
        subject: "transcript",
        subject_id: Some(call.uuid()),
        detail: json!({ "turns": stored, "first": first, "last": last }),
    };
    audit_log::note(connection, &entry).await
}

/// What became of what was said of a call that is over.
#[derive(Debug)]
pub enum AfterEnd {
    /// The call's record is not closed yet; nothing was changed.
    NotOver,
    /// So many turns were stored, and this event tells so.
    Stored(u64, Option<ToldEvent>),
}

/// The same for a call that is over: where anything was stored, an event is added to the call with it.
///
/// # Errors
/// When the database fails; then nothing is changed.
pub async fn put_after_end(
    (database, by): (&Database, &KeyHolder),
    key: (TenantId, CallId),
    turns: &[Turn],
) -> sqlx::Result<AfterEnd> {
    let numbers = span(turns);
    let event = (ADDED, detail(numbers));
    // The role of the API adds no events; each statement names the tenant.
    let mut transaction = database.begin_all_tenants().await?;
    let turns = serde_json::to_value(turns).map_err(|error| sqlx::Error::Encode(error.into()))?;
    let put = sqlx::query(PUT).bind(key.0.uuid()).bind(key.1.uuid()).bind(turns);
    let stored = put.execute(&mut *transaction).await?.rows_affected();
    if stored == 0 {
        return Ok(AfterEnd::Stored(0, None));
    }
    match live_events::add_after_end(&mut transaction, key, event).await? {
        Added::NotOver => Ok(AfterEnd::NotOver),
        Added::Told(told) => {
            note_added(&mut transaction, Some(by), key, (numbers, stored)).await?;
            transaction.commit().await?;
            Ok(AfterEnd::Stored(stored, told))
        }
    }
}

/// Turns of a call of `tenant` whose numbers are from `from` on, in order.
///
/// # Errors
/// When the database fails.
pub async fn get(
    database: &Database,
    (tenant, call): (TenantId, CallId),
    (from, limit): (u32, u32),
) -> sqlx::Result<Vec<Turn>> {
    let mut transaction = database.begin(tenant).await?;
    let turns = sqlx::query_as(GET)
        .bind(tenant.uuid())
        .bind(call.uuid())
        .bind(i64::from(from))
        .bind(i64::from(limit))
        .fetch_all(&mut *transaction)
        .await?;
    transaction.commit().await?;
    Ok(turns)
}

/// The transcripts of `tenant` in short, those of the newest calls first.
///
/// # Errors
/// When the database fails.
pub async fn list(
    database: &Database,
    tenant: TenantId,
    (after, limit): (Option<CallId>, u32),
) -> sqlx::Result<Vec<Overview>> {
    let mut transaction = database.begin(tenant).await?;
    let found = sqlx::query_as(LIST)
        .bind(tenant.uuid())
        .bind(after.map(CallId::uuid))
        .bind(i64::from(limit))
        .fetch_all(&mut *transaction)
        .await?;
    transaction.commit().await?;
    Ok(found)
}

/// What became of a deletion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deleted {
    /// It is gone.
    Done,
    /// There was none.
    Nothing,
    /// Turns came meanwhile.
    Stale,
}

/// The tag of a call's transcript: another one whenever turns came or gave way to others; `None`: there is none.
///
/// # Errors
/// When the database fails.
pub async fn tag(
    database: &Database,
    (tenant, call): (TenantId, CallId),
) -> sqlx::Result<Option<String>> {
    let mut transaction = database.begin(tenant).await?;
    let tag = sqlx::query_scalar(TAG)
        .bind(tenant.uuid())
        .bind(call.uuid())
        .fetch_one(&mut *transaction)
        .await?;
    transaction.commit().await?;
    Ok(tag)
}

/// Deletes the transcript of a call of `tenant`, where it has one of the tags of `expected`. The change is in the
/// audit log.
///
/// # Errors
/// When the database fails.
pub async fn delete(
    (database, holder): (&Database, &KeyHolder),
    (tenant, call): (TenantId, CallId),
    expected: Option<&[String]>,
) -> sqlx::Result<Deleted> {
    let mut transaction = match holder.scope {
        KeyScope::Tenant(_) => database.begin(tenant).await?,
        KeyScope::AllTenants => database.begin_all_tenants().await?,
    };
    let (tag, turns): (Option<String>, i64) = sqlx::query_as(DELETE)
        .bind(tenant.uuid())
        .bind(call.uuid())
        .fetch_one(&mut *transaction)
        .await?;
    let Some(tag) = tag else { return Ok(Deleted::Nothing) };
    // What was deleted unseen comes back with the end of the transaction.
    if expected.is_some_and(|expected| !expected.contains(&tag)) {
        return Ok(Deleted::Stale);
    }
    let entry = Entry {
        tenant: Some(tenant),
        key: Some(holder.id),
        action: "delete",
        subject: "transcript",
        subject_id: Some(call.uuid()),
        detail: json!({ "turns": turns }),
    };
    audit_log::note(&mut transaction, &entry).await?;
    transaction.commit().await?;
    Ok(Deleted::Done)
}

pub(crate) const PUT: &str = "INSERT INTO transcripts \
         (tenant_id, call_id, seq, speaker, text, at, at_ms, is_final) \
     SELECT $1, $2, t.seq, t.speaker, t.text, t.at, t.at_ms, t.is_final \
     FROM jsonb_populate_recordset(NULL::transcripts, $3) t WHERE NOT tandem_is_erased($2) \
     ON CONFLICT (tenant_id, call_id, seq) DO UPDATE SET speaker = excluded.speaker, \
         text = excluded.text, at = excluded.at, at_ms = excluded.at_ms, is_final = excluded.is_final \
     WHERE NOT transcripts.is_final";

pub(crate) const ADD_NEWS: &str =
    "INSERT INTO call_news (tenant_id, call_id, name, detail) VALUES ($1, $2, $3, $4)";

pub(crate) const GET: &str = "SELECT seq, speaker, text, at, at_ms, is_final FROM transcripts \
     WHERE tenant_id = $1 AND call_id = $2 AND seq >= $3 ORDER BY seq LIMIT $4";

pub(crate) const LIST: &str = "SELECT call_id, count(*) AS turns, min(at) AS first_at, max(at) AS last_at \
     FROM transcripts WHERE tenant_id = $1 AND ($2::uuid IS NULL OR call_id < $2) \
     GROUP BY call_id ORDER BY call_id DESC LIMIT $3";

pub(crate) const TAG: &str = "SELECT md5(string_agg(seq || ' ' || xmin, ',' ORDER BY seq)) \
     FROM transcripts WHERE tenant_id = $1 AND call_id = $2";

pub(crate) const DELETE: &str = "WITH gone AS (DELETE FROM transcripts \
         WHERE tenant_id = $1 AND call_id = $2 RETURNING seq, xmin) \
     SELECT md5(string_agg(seq || ' ' || xmin, ',' ORDER BY seq)), count(*) FROM gone";
