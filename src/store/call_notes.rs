//! What applications say of calls: disposition, outcome, summary, variables.

use crate::store::api_keys::KeyHolder;
use crate::store::api_keys::KeyScope;
use crate::store::audit_log;
use crate::store::audit_log::Entry;
use crate::store::database::Database;
use crate::types::id::CallId;
use crate::types::id::TenantId;
use crate::types::limit::CALL_VARIABLES_MAX;
use aws_lc_rs::digest;
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

/// What became of something that is said of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Noted {
    /// It stands beside the record.
    Done,
    /// The database has no such call.
    NoCall,
    /// Somebody else said something meanwhile.
    Stale,
    /// It would have more variables than a call may have.
    Full,
}

/// The tag of what is said of a call: another one whenever that changed, and not when the call goes on.
#[must_use]
pub fn tag([disposition, outcome, summary]: [Option<&str>; 3], variables: &Value) -> String {
    let said = json!([disposition, outcome, summary, variables]).to_string();
    let digest = digest::digest(&digest::SHA256, said.as_bytes());
    digest.as_ref().iter().take(TAG_BYTES).map(|byte| format!("{byte:02x}")).collect()
}

const TAG_BYTES: usize = 12;

/// Says something of a call of `tenant`, running or over, where what was said of it before has one of the tags of
/// `expected`. A change is in the audit log.
///
/// # Errors
///
/// When the database fails; then nothing is changed.
pub async fn put(
    (database, holder): (&Database, &KeyHolder),
    (tenant, call): (TenantId, CallId),
    notes: CallNotes,
    expected: Option<&[String]>,
) -> sqlx::Result<Noted> {
    let mut transaction = match holder.scope {
        KeyScope::Tenant(_) => database.begin(tenant).await?,
        KeyScope::AllTenants => database.begin_all_tenants().await?,
    };
    let key = (call.uuid(), tenant.uuid());
    let before: Option<Stored> =
        sqlx::query_as(SELECT).bind(key.0).bind(key.1).fetch_optional(&mut *transaction).await?;
    let Some(before) = before else { return Ok(Noted::NoCall) };
    if expected.is_some_and(|expected| !expected.contains(&before.tag())) {
        return Ok(Noted::Stale);
    }
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
    // A row that has too many from before may lose some, and not win any.
    let most = before.variables.as_object().map_or(0, Map::len).max(CALL_VARIABLES_MAX);
    if variables.len() > most {
        return Ok(Noted::Full);
    }
    let after = Stored {
        disposition: notes.disposition.unwrap_or_else(|| before.disposition.clone()),
        outcome: notes.outcome.unwrap_or_else(|| before.outcome.clone()),
        summary: notes.summary.unwrap_or_else(|| before.summary.clone()),
        variables: Value::Object(variables),
    };
    // What says the same again is no change.
    if after.view() == before.view() {
        return Ok(Noted::Done);
    }
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
    Ok(Noted::Done)
}

impl Stored {
    fn tag(&self) -> String {
        let said = [&self.disposition, &self.outcome, &self.summary];
        tag(said.map(|text| text.as_deref()), &self.variables)
    }

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
