//! What calls out of the last days used, for budgets after a restart.

use crate::routing::usage::PastCall;
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
/// this reads no more of the table than those days have.
pub(crate) const ENDED: &str = "SELECT id, tenant_id, trunk_ref, dialled, ended_at, duration_ms FROM calls \
     WHERE id >= $1 AND id < $2 AND direction = 'outbound' AND tenant_id IS NOT NULL \
     AND ended_at IS NOT NULL AND duration_ms > 0 ORDER BY id DESC LIMIT $3";

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
    let rows: Vec<Ended> = sqlx::query_as(ENDED)
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

impl FromRow<'_, PgRow> for Ended {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        let trunk: Option<Uuid> = row.try_get("trunk_ref")?;
        let dialled: Option<String> = row.try_get("dialled")?;
        let ended: Time = row.try_get("ended_at")?;
        let lasted: i64 = row.try_get("duration_ms")?;
        let call = PastCall {
            tenant: TenantId::from_uuid(row.try_get("tenant_id")?),
            trunk: trunk.map(TrunkId::from_uuid),
            dialled: dialled.and_then(|dialled| dialled.parse().ok()),
            ended: ended.0,
            lasted: Duration::from_millis(u64::try_from(lasted).unwrap_or(0)),
        };
        Ok(Self { id: row.try_get("id")?, call })
    }
}
