//! The audit log: who changed what.

use crate::clock;
use crate::store::resource::Resource;
use crate::store::resource::field::Field;
use crate::store::resource::field::Given;
use crate::store::resource::field::Kind;
use crate::types::id::ApiKeyId;
use crate::types::id::TenantId;
use serde_json::Value;
use sqlx::PgConnection;
use uuid::Uuid;

/// A change.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// Whose things changed; `None`: the operator's.
    pub(crate) tenant: Option<TenantId>,
    /// By whose key; `None`: the program itself, by its command line.
    pub(crate) key: Option<ApiKeyId>,
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
        .bind(entry.key.map(ApiKeyId::uuid))
        .bind(entry.key.map_or("tandem", |_| "api"))
        .bind(entry.action)
        .bind(entry.subject)
        .bind(entry.subject_id)
        .bind(&entry.detail)
        .execute(connection)
        .await?;
    Ok(())
}

pub(crate) const INSERT: &str = "INSERT INTO audit_log \
         (id, tenant_id, api_key_id, actor, action, subject, subject_id, detail) \
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";

/// The log, as clients read it.
pub const AUDIT_LOG: Resource = Resource {
    name: "audit log entry",
    plural: "entries",
    table: "audit_log",
    fields: &[
        Field::new("tenant_id", Kind::Id, "Whose things changed; null: the platform's.")
            .given(Given::Never)
            .nullable(),
        Field::new("at", Kind::Time, "When.").given(Given::Never),
        Field::new("api_key_id", Kind::Id, "By whose key; null: by a program, or the key is gone.")
            .given(Given::Never)
            .nullable()
            .filter(),
        Field::new("actor", Kind::Text(1, 200), "`api`, or the program that did it.")
            .given(Given::Never),
        Field::new("action", Kind::Text(1, 200), "What was done: `create`, `update`, `delete` ...")
            .given(Given::Never)
            .filter(),
        Field::new("subject", Kind::Text(1, 200), "To what kind of thing.")
            .given(Given::Never)
            .filter(),
        Field::new("subject_id", Kind::Id, "To which.").given(Given::Never).nullable().filter(),
        Field::new(
            "detail",
            Kind::Object,
            "The thing `before` and `after`; secrets are not in it.",
        )
        .given(Given::Never),
    ],
    exclusive: None,
    has_secrets: false,
    is_switchs: false,
    deactivates: None,
};
