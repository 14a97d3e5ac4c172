//! Deliveries of one endpoint, as its tenant sees them, and their replay.

use crate::store::api_keys::KeyHolder;
use crate::store::audit_log;
use crate::store::audit_log::Entry;
use crate::store::database::Database;
use crate::store::resource;
use crate::store::resource::Fault;
use crate::store::time::Time;
use crate::store::webhooks::WEBHOOKS;
use crate::store::webhooks::time;
use crate::types::id::TenantId;
use jiff::Timestamp;
use serde_json::json;
use sqlx::FromRow;
use sqlx::PgConnection;
use sqlx::Row as _;
use sqlx::postgres::PgRow;
use uuid::Uuid;

/// Most deliveries that one request replays.
pub const REPLAY_MAX: i64 = 10_000;

/// One event and how far it was told.
#[derive(Clone, Debug, PartialEq)]
pub struct Delivery {
    /// The event.
    pub event: Uuid,
    /// Its call.
    pub call: Uuid,
    /// Its place in the call.
    pub seq: i32,
    /// What it is called.
    pub kind: String,
    /// When it happened.
    pub at: Timestamp,
    /// `pending`, `delivered` or `dead`.
    pub state: String,
    /// How often it was tried.
    pub attempts: i32,
    /// The status of the last answer.
    pub last_status: Option<i16>,
    /// Why the last attempt failed.
    pub last_error: Option<String>,
    /// When it was last tried.
    pub last_attempt: Option<Timestamp>,
    /// When it is tried again.
    pub next_attempt: Option<Timestamp>,
}

impl FromRow<'_, PgRow> for Delivery {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        Ok(Self {
            event: row.try_get("event_id")?,
            call: row.try_get("call_id")?,
            seq: row.try_get("seq")?,
            kind: row.try_get("type")?,
            at: row.try_get::<Time, _>("at")?.0,
            state: row.try_get("state")?,
            attempts: row.try_get("attempts")?,
            last_status: row.try_get("last_status")?,
            last_error: row.try_get("last_error")?,
            last_attempt: time(row, "last_attempt_at")?,
            next_attempt: time(row, "due_at")?,
        })
    }
}

/// Which deliveries are wanted.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// In this state.
    pub state: Option<String>,
    /// Of this call.
    pub call: Option<Uuid>,
    /// After this one, in the order of lists.
    pub after: Option<Uuid>,
    /// So many at most.
    pub limit: i64,
}

/// Deliveries of an endpoint, the newest event first.
///
/// # Errors
///
/// When the endpoint is not the tenant's, or the database fails.
pub async fn list(
    (database, holder): (&Database, &KeyHolder),
    (tenant, endpoint): (TenantId, Uuid),
    wanted: &Wanted,
) -> Result<Vec<Delivery>, Fault> {
    let mut transaction = resource::begin(database, holder, &WEBHOOKS).await?;
    check_there(&mut transaction, tenant, endpoint).await?;
    let found = sqlx::query_as(LIST)
        .bind(endpoint)
        .bind(tenant.uuid())
        .bind(&wanted.state)
        .bind(wanted.call)
        .bind(wanted.after)
        .bind(wanted.limit)
        .fetch_all(&mut *transaction)
        .await?;
    transaction.commit().await?;
    Ok(found)
}

pub(crate) const LIST: &str = "SELECT o.event_id, o.call_id, o.seq, o.type, o.at, o.state, o.attempts, \
         o.last_status, o.last_error, o.last_attempt_at, \
         CASE WHEN o.state = 'pending' THEN q.due_at END AS due_at \
     FROM webhook_outbox o \
     LEFT JOIN webhook_queues q ON q.endpoint_id = o.endpoint_id AND q.call_id = o.call_id \
     WHERE o.endpoint_id = $1 AND o.tenant_id = $2 AND ($3::text IS NULL OR o.state = $3) \
         AND ($4::uuid IS NULL OR o.call_id = $4) AND ($5::uuid IS NULL OR o.event_id < $5) \
     ORDER BY o.event_id DESC LIMIT $6";

/// What shall be told again.
#[derive(Clone, Debug, Default)]
pub struct Replay {
    /// These events.
    pub events: Option<Vec<Uuid>>,
    /// Those in this state, `dead` or `delivered`.
    pub state: Option<String>,
    /// Those that happened then or later.
    pub from: Option<Timestamp>,
    /// Those that happened before.
    pub until: Option<Timestamp>,
}

/// Tells events once more, the oldest [`REPLAY_MAX`] of them; answers how many. Each keeps its identity, and
/// those of one call their order.
///
/// # Errors
///
/// When the endpoint is not the tenant's, or the database fails.
pub async fn replay(
    (database, holder): (&Database, &KeyHolder),
    (tenant, endpoint): (TenantId, Uuid),
    replay: &Replay,
) -> Result<i64, Fault> {
    let mut transaction = resource::begin(database, holder, &WEBHOOKS).await?;
    check_there(&mut transaction, tenant, endpoint).await?;
    let again: i64 = sqlx::query_scalar(REPLAY)
        .bind(endpoint)
        .bind(tenant.uuid())
        .bind(&replay.events)
        .bind(&replay.state)
        .bind(replay.from.map(Time))
        .bind(replay.until.map(Time))
        .bind(REPLAY_MAX)
        .fetch_one(&mut *transaction)
        .await?;
    let entry = Entry {
        tenant: Some(tenant),
        key: Some(holder.id),
        action: "replay",
        subject: WEBHOOKS.name,
        subject_id: Some(endpoint),
        detail: json!({"events": again}),
    };
    audit_log::note(&mut transaction, &entry).await?;
    transaction.commit().await?;
    Ok(again)
}

pub(crate) const REPLAY: &str = "WITH again AS ( \
         UPDATE webhook_outbox SET state = 'pending', attempts = 0, settled_at = NULL \
         WHERE (endpoint_id, event_id) IN ( \
             SELECT o.endpoint_id, o.event_id FROM webhook_outbox o \
             WHERE o.endpoint_id = $1 AND o.tenant_id = $2 AND o.state <> 'pending' \
                 AND ($3::uuid[] IS NULL OR o.event_id = ANY($3)) \
                 AND ($4::text IS NULL OR o.state = $4) \
                 AND ($5::timestamptz IS NULL OR o.at >= $5) \
                 AND ($6::timestamptz IS NULL OR o.at < $6) \
             ORDER BY o.event_id LIMIT $7) \
         RETURNING endpoint_id, call_id, tenant_id), \
     queued AS ( \
         INSERT INTO webhook_queues (endpoint_id, call_id, tenant_id) \
         SELECT DISTINCT a.endpoint_id, a.call_id, a.tenant_id FROM again a ORDER BY 2 \
         ON CONFLICT (endpoint_id, call_id) DO UPDATE SET due_at = \
             CASE WHEN webhook_queues.lease IS NULL THEN now() ELSE webhook_queues.due_at END) \
     SELECT count(*) FROM again";

/// An endpoint of somebody else is answered like one that is not there.
async fn check_there(
    connection: &mut PgConnection,
    tenant: TenantId,
    endpoint: Uuid,
) -> Result<(), Fault> {
    let found = sqlx::query(THERE).bind(endpoint).bind(tenant.uuid());
    match found.fetch_optional(connection).await? {
        Some(_) => Ok(()),
        None => Err(Fault::Missing(WEBHOOKS.name)),
    }
}

pub(crate) const THERE: &str = "SELECT 1 FROM webhook_endpoints WHERE id = $1 AND tenant_id = $2";
