//! What is kept of people: a number's personal data, exported and erased, and what goes by itself after a time.

use crate::clock;
use crate::store::api_keys::KeyHolder;
use crate::store::audit_log;
use crate::store::audit_log::Entry;
use crate::store::database::Database;
use crate::store::erasures;
use crate::store::erasures::Erasure;
use crate::store::resource::Fault;
use crate::telemetry::metric;
use crate::telemetry::metric::Counter;
use crate::types::id::CallId;
use crate::types::id::TenantId;
use crate::types::limit::EXPORT_STALL_S_MAX;
use crate::types::number::E164;
use futures_util::TryStreamExt;
use serde_json::Value;
use serde_json::json;
use sqlx::Postgres;
use sqlx::Transaction;
use std::io;
use std::time::Duration;
use tokio::sync::mpsc;
use uuid::Uuid;

/// Rows deleted at once: short transactions, between which others write.
const BATCH: i32 = 1_000;

/// How long an export waits for somebody to take a row: it keeps a connection meanwhile.
const STALL_MAX: Duration = Duration::from_secs(EXPORT_STALL_S_MAX);

/// What was deleted of one kind.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct Forgotten {
    /// The kind: `calls`, `refused`, `traces`, `audit`, `recordings`, `transcripts`.
    pub what: String,
    /// How many rows.
    pub deleted: i64,
}

/// A row of the export.
#[derive(Clone, Debug, PartialEq, sqlx::FromRow)]
pub struct ExportRow {
    /// Its table.
    pub of_table: String,
    /// Its values, by column.
    pub shown: Value,
}

/// What an export tells.
#[derive(Clone, Debug, PartialEq)]
pub enum Exported {
    /// A row.
    Row(ExportRow),
    /// That this was all. What ends without it is not whole.
    End,
}

/// Deletes a batch of what is over its tenants' time, and records of nobody that are older than so many days.
/// Nothing where another node is at it.
///
/// # Errors
///
/// When the database fails.
pub async fn forget_all_tenants(
    database: &Database,
    nobodys_days: u16,
) -> sqlx::Result<Vec<Forgotten>> {
    let days = i32::from(nobodys_days);
    sqlx::query_as(FORGET).bind(BATCH).bind(days).fetch_all(database.node()).await
}

/// Tells `rows` everything that happened to `tenant` in which `number` stands, row by row, those of a table behind each
/// other, and at last that this was all, or why not. That it was asked for is in the audit log before the
/// first. Ends early when nobody takes them any more, or not for [`EXPORT_STALL_S_MAX`].
pub async fn export(
    database: Database,
    (holder, tenant): (KeyHolder, TenantId),
    number: E164,
    rows: mpsc::Sender<sqlx::Result<Exported>>,
) {
    if let Err(error) = try_export(&database, (&holder, tenant), number, &rows).await {
        // Who finds no place for it misses the end, and sees by that that this was not all.
        drop(rows.try_send(Err(error)));
    }
}

/// Tells one thing; false when nobody wants it any more.
async fn tell(rows: &mpsc::Sender<sqlx::Result<Exported>>, told: Exported) -> sqlx::Result<bool> {
    match tokio::time::timeout(STALL_MAX, rows.send(Ok(told))).await {
        Ok(told) => Ok(told.is_ok()),
        Err(_) => {
            metric::counter(Counter::ApiResponsesStalled).increment(1);
            Err(sqlx::Error::Io(io::ErrorKind::TimedOut.into()))
        }
    }
}

async fn try_export(
    database: &Database,
    whose: (&KeyHolder, TenantId),
    number: E164,
    rows: &mpsc::Sender<sqlx::Result<Exported>>,
) -> sqlx::Result<()> {
    let mut transaction = database.begin_all_tenants().await?;
    note(&mut transaction, whose, "export", json!({})).await?;
    transaction.commit().await?;
    let mut transaction = database.begin_long().await?;
    let query = sqlx::query_as(EXPORT).bind(whose.1.uuid()).bind(digits_of(&number));
    let mut found = query.fetch(&mut *transaction);
    while let Some(row) = found.try_next().await? {
        if !tell(rows, Exported::Row(row)).await? {
            return Ok(());
        }
    }
    tell(rows, Exported::End).await.map(|_| ())
}

/// Takes `number` out of everything that happened to `tenant`; how many rows were changed or deleted, and the calls
/// in which it had a part: what is kept of them elsewhere has to go too.
///
/// # Errors
///
/// A conflict while a call with it runs or was just over, and where the tenant's own settings name it; when the
/// database fails.
pub async fn erase(
    database: &Database,
    (holder, tenant): (&KeyHolder, TenantId),
    number: E164,
) -> Result<(i64, Vec<CallId>), Fault> {
    let mut transaction = database.begin_long().await?;
    let digits = digits_of(&number);
    let conflict = |why: String| Fault::Conflict { field: Some("number"), why };
    let named: Vec<String> = sqlx::query_scalar(NAMED)
        .bind(tenant.uuid())
        .bind(digits)
        .fetch_all(&mut *transaction)
        .await?;
    if !named.is_empty() {
        let why = format!("the tenant's own settings name it: {}", named.join(", "));
        return Err(conflict(why));
    }
    let runs: bool = sqlx::query_scalar(RUNS)
        .bind(tenant.uuid())
        .bind(digits)
        .fetch_one(&mut *transaction)
        .await?;
    if runs {
        let why = "a call with it is in progress, or was a minute ago: its record is still written";
        return Err(conflict(why.to_owned()));
    }
    // First, for they are found by what is erased next.
    let calls: Vec<Uuid> = sqlx::query_scalar(CALLS)
        .bind(tenant.uuid())
        .bind(digits)
        .fetch_all(&mut *transaction)
        .await?;
    let rows = erase_rows(&mut transaction, tenant, digits).await?;
    let erasure = (clock::new_uuid(), tenant, digits);
    erasures::note(&mut transaction, erasure, &calls).await?;
    note(&mut transaction, (holder, tenant), "erase", json!({ "rows": rows })).await?;
    transaction.commit().await?;
    Ok((rows, calls.into_iter().map(CallId::from_uuid).collect()))
}

/// Erases what came into the database since a number was erased; false, and nothing is changed, while a call with it
/// runs or was just over.
///
/// # Errors
///
/// When the database fails.
pub(crate) async fn erase_again(database: &Database, erasure: &Erasure) -> sqlx::Result<bool> {
    let (tenant, digits) = (erasure.tenant, erasure.digits.as_str());
    let mut transaction = database.begin_long().await?;
    let runs: bool = sqlx::query_scalar(RUNS)
        .bind(tenant.uuid())
        .bind(digits)
        .fetch_one(&mut *transaction)
        .await?;
    if runs {
        return Ok(false);
    }
    let calls: Vec<Uuid> = sqlx::query_scalar(CALLS)
        .bind(tenant.uuid())
        .bind(digits)
        .fetch_all(&mut *transaction)
        .await?;
    let rows = erase_rows(&mut transaction, tenant, digits).await?;
    if !calls.is_empty() {
        erasures::note_late(&mut transaction, erasure.id, &calls).await?;
    }
    if rows > 0 {
        let entry = Entry {
            tenant: Some(tenant),
            key: None,
            action: "erase",
            subject: "personal data",
            subject_id: Some(clock::new_uuid()),
            detail: json!({ "rows": rows, "late": true }),
        };
        audit_log::note(&mut transaction, &entry).await?;
    }
    transaction.commit().await?;
    Ok(true)
}

async fn erase_rows(
    transaction: &mut Transaction<'_, Postgres>,
    tenant: TenantId,
    digits: &str,
) -> sqlx::Result<i64> {
    let mut rows = 0_i64;
    for statement in [ERASE_SAID, ERASE] {
        let query = sqlx::query_scalar(statement).bind(tenant.uuid()).bind(digits);
        let gone: i64 = query.fetch_one(&mut **transaction).await?;
        rows = rows.saturating_add(gone);
    }
    Ok(rows)
}

/// The digits of a number, without `+`: what is dialled may have another prefix.
fn digits_of(number: &E164) -> &str {
    number.as_str().trim_start_matches('+')
}

/// That it was done is logged; of which number, not.
async fn note(
    transaction: &mut Transaction<'_, Postgres>,
    (holder, tenant): (&KeyHolder, TenantId),
    action: &'static str,
    detail: Value,
) -> sqlx::Result<()> {
    let subject_id = Some(clock::new_uuid());
    let (tenant, key) = (Some(tenant), Some(holder.id));
    let entry = Entry { tenant, key, action, subject: "personal data", subject_id, detail };
    audit_log::note(transaction, &entry).await
}

pub(crate) const FORGET: &str = "SELECT what, deleted FROM tandem_forget($1, $2) \
     UNION ALL SELECT what, deleted FROM tandem_forget_said($1)";

pub(crate) const EXPORT: &str = "SELECT of_table, shown FROM tandem_export_rows($1, $2)";

pub(crate) const CALLS: &str = "SELECT tandem_calls_of_number($1, $2)";

pub(crate) const ERASE_SAID: &str = "SELECT tandem_erase_said($1, $2)";

pub(crate) const ERASE: &str = "SELECT tandem_erase_number($1, $2)";

pub(crate) const RUNS: &str = "SELECT EXISTS (SELECT FROM calls \
     WHERE (ended_at IS NULL OR ended_at > now() - interval '1 minute') \
       AND id IN (SELECT tandem_calls_of_number($1, $2)))";

/// The settings of the tenant that name the number.
pub(crate) const NAMED: &str = "SELECT 'numbers' FROM phone_numbers WHERE tenant_id = $1 \
       AND tandem_number_rank('+' || $2) \
           BETWEEN tandem_number_rank(first_number) AND tandem_number_rank(last_number) \
     UNION SELECT 'trunks' FROM trunks t WHERE tenant_id = $1 \
       AND t.overrides::text ~ tandem_number_pattern($2) \
     UNION SELECT 'ai_profiles' FROM ai_profiles p WHERE tenant_id = $1 \
       AND to_jsonb(p)::text ~ tandem_number_pattern($2) \
     UNION SELECT 'webhook_endpoints' FROM webhook_endpoints w WHERE tenant_id = $1 \
       AND to_jsonb(w)::text ~ tandem_number_pattern($2)";
