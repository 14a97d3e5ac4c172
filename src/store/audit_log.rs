//! The audit log: who changed what.

use crate::clock;
use crate::types::id::TenantId;
use serde_json::Value;
use sqlx::PgConnection;
use uuid::Uuid;

/// A change that the program made itself, by its command line.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// Whose things changed; `None`: the operator's.
    pub(crate) tenant: Option<TenantId>,
    /// What was done: `create`, `revoke` ...
    pub(crate) action: &'static str,
    /// To what kind of thing.
    pub(crate) subject: &'static str,
    /// To which.
    pub(crate) subject_id: Option<Uuid>,
    /// Its particulars, without secrets.
    pub(crate) detail: Value,
}

/// Writes `entry` within the transaction of the change itself: neither is there without the other.
pub(crate) async fn note(connection: &mut PgConnection, entry: &Entry) -> sqlx::Result<()> {
    sqlx::query(INSERT)
        .bind(clock::new_uuid())
        .bind(entry.tenant.map(TenantId::uuid))
        .bind(entry.action)
        .bind(entry.subject)
        .bind(entry.subject_id)
        .bind(&entry.detail)
        .execute(connection)
        .await?;
    Ok(())
}

pub(crate) const INSERT: &str = "INSERT INTO audit_log (id, tenant_id, actor, action, subject, subject_id, detail) \
     VALUES ($1, $2, 'tandem', $3, $4, $5, $6)";
