//! The records that sources left which no trunk lists.

use crate::store::database::Database;
use crate::store::time::Time;
use serde_json::Value;
use uuid::Uuid;

/// Such a record.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct RefusedSource {
    /// The record's identity.
    pub id: Uuid,
    /// When it came.
    pub(crate) at: Time,
    /// Address and port it came from.
    pub source: Option<String>,
    /// `udp`, `tcp` or `tls`.
    pub transport: Option<String>,
    /// The caller as claimed.
    pub caller: String,
    /// What was dialled, as it came.
    pub dialled: String,
    /// With what it was refused; `None`: nothing was answered.
    pub sip_status: Option<i16>,
    /// The steps of the decision.
    pub decision: Value,
}

/// The records of at most `limit` refused INVITEs before `after`, the newest first, and where the next page
/// begins.
///
/// # Errors
///
/// When the database fails.
pub async fn list(
    database: &Database,
    after: Option<Uuid>,
    limit: u32,
) -> sqlx::Result<(Vec<RefusedSource>, Option<Uuid>)> {
    let mut transaction = database.begin_all_tenants().await?;
    let mut rows: Vec<RefusedSource> = sqlx::query_as(LIST)
        .bind(after)
        .bind(i64::from(limit) + 1)
        .fetch_all(&mut *transaction)
        .await?;
    transaction.commit().await?;
    let is_full = rows.len() > limit as usize;
    rows.truncate(limit as usize);
    let next = rows.last().filter(|_| is_full).map(|row| row.id);
    Ok((rows, next))
}

/// Calls that reached no tenant stand together in the index of tenants.
pub(crate) const LIST: &str = "SELECT id, arrived_at AS at, source, transport, caller, \
         dialled_text AS dialled, sip_status, decision \
     FROM calls \
     WHERE tenant_id IS NULL AND cause = 'unknown_source' AND ($1::uuid IS NULL OR id < $1) \
     ORDER BY id DESC LIMIT $2";
