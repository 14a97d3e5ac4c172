//! What calls out of the last days used, and legs that calls in went on to, for budgets after a restart.

use crate::routing::usage::PastCall;
use crate::routing::usage::Priced;
use crate::store::database::Database;
use crate::store::time::Time;
use crate::types::id::TenantId;
use crate::types::id::TrunkId;
use jiff::Timestamp;
use sqlx::FromRow;
use sqlx::Row;
use sqlx::postgres::PgRow;
use std::time::Duration;
use uuid::Builder;
use uuid::Uuid;

/// Answered calls out between two identities, the newest first. Identities are in order of time, so
/// this reads no more of the table than those days have. It is charged to the trunk of the INVITE last sent: that
/// it was planned by may have refused it.
pub(crate) const ENDED: &str = "SELECT c.id, c.tenant_id, coalesce((SELECT (o.detail->>'trunk')::uuid \
     FROM call_events o WHERE o.call_id = c.id AND o.name = 'sent' AND o.detail->>'leg' = 'near' \
     ORDER BY o.seq DESC LIMIT 1), c.trunk_ref) AS trunk_ref, c.dialled, c.ended_at, c.duration_ms FROM calls c \
     WHERE c.id >= $1 AND c.id < $2 AND c.direction = 'outbound' AND c.tenant_id IS NOT NULL \
     AND c.ended_at IS NOT NULL AND c.duration_ms > 0 ORDER BY c.id DESC LIMIT $3";

/// Answered legs between two identities that calls in went on to by trunks and that are over, the newest call first: from
/// the answer to the end of the leg, or of the call. The answer says what it is charged to, since several may have been
/// rung; where it does not, written by a node of before, the INVITE last sent for it.
pub(crate) const LEGS: &str = "SELECT a.call_id AS id, c.tenant_id, \
     (s.detail->>'trunk')::uuid AS trunk_ref, s.detail->>'rate' AS rate, \
     coalesce(e.at, c.ended_at) AS ended_at, \
     (extract(epoch FROM coalesce(e.at, c.ended_at) - a.at) * 1000)::bigint AS duration_ms \
     FROM call_events a JOIN calls c ON c.id = a.call_id \
     JOIN LATERAL (SELECT CASE WHEN a.detail ? 'trunk' THEN a.detail ELSE (SELECT o.detail FROM call_events o \
     WHERE o.call_id = a.call_id AND o.seq < a.seq AND o.name = 'sent' AND o.detail->>'leg' = a.detail->>'leg' \
     ORDER BY o.seq DESC LIMIT 1) END AS detail) s ON s.detail->>'trunk' IS NOT NULL \
     LEFT JOIN LATERAL (SELECT o.at FROM call_events o WHERE o.call_id = a.call_id AND o.seq > a.seq \
     AND o.name = 'leg_ended' AND o.detail->>'leg' = a.detail->>'leg' ORDER BY o.seq LIMIT 1) e ON true \
     WHERE a.name = 'leg_answered' AND a.call_id >= $1 AND a.call_id < $2 \
     AND c.tenant_id IS NOT NULL AND c.ended_at IS NOT NULL ORDER BY a.call_id DESC LIMIT $3";

/// The least identity of a call that began at `time` or later.
#[must_use]
pub fn first_id(time: Timestamp) -> Uuid {
    let millis = u64::try_from(time.as_millisecond()).unwrap_or(0);
    Builder::from_unix_timestamp_millis(millis, &[0; 10]).into_uuid()
}

/// The newest `limit` of the calls out that were answered and are over, with identities from `first` to
/// before `end`; and the end for those before them, `None` when there are no more.
///
/// # Errors
///
/// When the database fails.
pub async fn ended_all_tenants(
    database: &Database,
    (first, end): (Uuid, Uuid),
    limit: u32,
) -> sqlx::Result<(Vec<PastCall>, Option<Uuid>)> {
    page(database, ENDED, (first, end), limit).await
}

/// The same of legs that calls in went on to.
///
/// # Errors
///
/// When the database fails.
pub async fn legs_all_tenants(
    database: &Database,
    (first, end): (Uuid, Uuid),
    limit: u32,
) -> sqlx::Result<(Vec<PastCall>, Option<Uuid>)> {
    page(database, LEGS, (first, end), limit).await
}

async fn page(
    database: &Database,
    statement: &'static str,
    (first, end): (Uuid, Uuid),
    limit: u32,
) -> sqlx::Result<(Vec<PastCall>, Option<Uuid>)> {
    let rows: Vec<Ended> = sqlx::query_as(statement)
        .bind(first)
        .bind(end)
        .bind(i64::from(limit))
        .fetch_all(database.node())
        .await?;
    let is_full = rows.len() >= usize::try_from(limit).unwrap_or(usize::MAX);
    let rest = rows.last().filter(|_| is_full).map(|row| row.id);
    Ok((rows.into_iter().map(|row| row.call).collect(), rest))
}

struct Ended {
    id: Uuid,
    call: PastCall,
}

fn priced(row: &PgRow) -> sqlx::Result<Priced> {
    let read = |column| -> sqlx::Result<Option<String>> { row.try_get(column) };
    if row.try_column("rate").is_ok() {
        let prefix = read("rate")?.and_then(|prefix| prefix.parse().ok());
        return Ok(prefix.map_or(Priced::Free, Priced::Prefix));
    }
    let number = read("dialled")?.and_then(|dialled| dialled.parse().ok());
    Ok(number.map_or(Priced::Free, Priced::Number))
}

impl FromRow<'_, PgRow> for Ended {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        let trunk: Option<Uuid> = row.try_get("trunk_ref")?;
        let ended: Time = row.try_get("ended_at")?;
        let lasted: i64 = row.try_get("duration_ms")?;
        let call = PastCall {
            tenant: TenantId::from_uuid(row.try_get("tenant_id")?),
            trunk: trunk.map(TrunkId::from_uuid),
            priced: priced(row)?,
            ended: ended.0,
            lasted: Duration::from_millis(u64::try_from(lasted).unwrap_or(0)),
        };
        Ok(Self { id: row.try_get("id")?, call })
    }
}
