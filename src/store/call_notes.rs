//! What applications say of calls: disposition, outcome, summary, variables.

use crate::store::api_keys::KeyHolder;
use crate::store::api_keys::KeyScope;
use crate::store::audit_log;
use crate::store::audit_log::Entry;
use crate::store::database::Database;
use crate::types::id::CallId;
use crate::types::id::TenantId;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;
use sqlx::FromRow;

/// What is said of a call. Of each, `None` says nothing and leaves what was said before.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CallNotes {
    /// How it is filed: `sold`, `callback` ...; `Some(None)` clears it.
    pub disposition: Option<Option<String>>,
    /// What came of it.
    pub outcome: Option<Option<String>>,
    /// What was said.
    pub summary: Option<Option<String>>,
    /// Variables by name; null removes one.
    pub variables: Map<String, Value>,
}

#[derive(FromRow)]
struct Stored {
    disposition: Option<String>,
    outcome: Option<String>,
    summary: Option<String>,
    variables: Value,
}

/// Says something of a call of `tenant`, running or over; false when the database has no such call. The
/// change is in the audit log.
///
/// # Errors
///
/// When the database fails; then nothing is changed.
pub async fn put(
    (database, holder): (&Database, &KeyHolder),
    (tenant, call): (TenantId, CallId),
    notes: CallNotes,
) -> sqlx::Result<bool> {
    let mut transaction = match holder.scope {
        KeyScope::Tenant(_) => database.begin(tenant).await?,
        KeyScope::AllTenants => database.begin_all_tenants().await?,
    };
    let key = (call.uuid(), tenant.uuid());
    let before: Option<Stored> =
        sqlx::query_as(SELECT).bind(key.0).bind(key.1).fetch_optional(&mut *transaction).await?;
    let Some(before) = before else { return Ok(false) };
    let mut variables = match &before.variables {
        Value::Object(own) => own.clone(),
        _ => Map::new(),
    };
    for (name, value) in notes.variables {
        if value.is_null() {
            variables.remove(&name);
        } else {
            variables.insert(name, value);
        }
    }
    let after = Stored {
        disposition: notes.disposition.unwrap_or_else(|| before.disposition.clone()),
        outcome: notes.outcome.unwrap_or_else(|| before.outcome.clone()),
        summary: notes.summary.unwrap_or_else(|| before.summary.clone()),
        variables: Value::Object(variables),
    };
    sqlx::query(UPDATE)
        .bind(key.0)
        .bind(key.1)
        .bind(&after.disposition)
        .bind(&after.outcome)
        .bind(&after.summary)
        .bind(&after.variables)
        .execute(&mut *transaction)
        .await?;
    let entry = Entry {
        tenant: Some(tenant),
        key: Some(holder.id),
        action: "update",
        subject: "call",
        subject_id: Some(call.uuid()),
        detail: json!({ "before": before.view(), "after": after.view() }),
    };
    audit_log::note(&mut transaction, &entry).await?;
    transaction.commit().await?;
    Ok(true)
}

impl Stored {
    fn view(&self) -> Value {
        json!({
            "disposition": self.disposition,
            "outcome": self.outcome,
            "summary": self.summary,
            "variables": self.variables,
        })
    }
}

pub(crate) const SELECT: &str = "SELECT disposition, outcome, summary, variables FROM calls \
     WHERE id = $1 AND tenant_id = $2 FOR UPDATE";

pub(crate) const UPDATE: &str = "UPDATE calls SET disposition = $3, outcome = $4, summary = $5, variables = $6 \
     WHERE id = $1 AND tenant_id = $2";
