//! Sealed secrets under a new key: what the old one sealed is opened and sealed again, page by page.
//!
//! What is done is done: a run that is cut off is begun again, and finds only what is left. A row that
//! somebody changes at the same moment is left to a further run.

use crate::store::audit_log;
use crate::store::audit_log::Entry;
use crate::store::database::Database;
use crate::store::seal::NoKey;
use crate::store::seal::Sealer;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;
use sqlx::AssertSqlSafe;
use uuid::Uuid;

/// Every table with a column `sealed`.
pub const TABLES: [&str; 3] = ["trunks", "ai_profiles", "webhook_endpoints"];
/// Rows of one transaction.
const PAGE: i64 = 100;

/// What became of the secrets of one table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resealed {
    /// Secrets that are under the new key.
    pub current: usize,
    /// Secrets that were sealed again, or would be.
    pub renewed: usize,
    /// Secrets of rows that were changed by somebody else meanwhile.
    pub missed: usize,
    /// Rows and names of secrets that no key of this node opens.
    pub lost: Vec<(Uuid, String)>,
}

/// Why secrets cannot be sealed again.
#[derive(Debug, thiserror::Error)]
pub enum ResealError {
    /// There is no key.
    #[error(transparent)]
    NoKey(#[from] NoKey),
    /// The database.
    #[error("the database does not take it; what was sealed again stays, run it again")]
    Database(#[from] sqlx::Error),
}

#[derive(sqlx::FromRow)]
struct SealedRow {
    id: Uuid,
    sealed: Value,
}

/// Seals all secrets of `table` again that are not under the newest key; with `is_trial` only counts them.
///
/// # Errors
///
/// [`ResealError`]; pages before it are done.
pub async fn table_all_tenants(
    database: &Database,
    sealer: &Sealer,
    (table, is_trial): (&'static str, bool),
) -> Result<Resealed, ResealError> {
    let mut done = Resealed::default();
    let mut after = Uuid::nil();
    loop {
        let mut transaction = database.node().begin().await?;
        let rows: Vec<SealedRow> = sqlx::query_as(AssertSqlSafe(select(table)))
            .bind(after)
            .bind(PAGE)
            .fetch_all(&mut *transaction)
            .await?;
        let Some(last) = rows.last() else { return Ok(done) };
        after = last.id;
        let before = done.renewed;
        for row in rows {
            let Some((renewed, count)) = reseal_row(sealer, &row, &mut done)? else { continue };
            if is_trial {
                done.renewed += count;
                continue;
            }
            let updated = sqlx::query(AssertSqlSafe(update(table)))
                .bind(row.id)
                .bind(&row.sealed)
                .bind(renewed)
                .execute(&mut *transaction)
                .await?;
            match updated.rows_affected() {
                0 => done.missed += count,
                _ => done.renewed += count,
            }
        }
        if done.renewed > before && !is_trial {
            let detail = json!({"secrets": done.renewed - before});
            let (tenant, key, subject_id) = (None, None, None);
            let entry = Entry { tenant, key, action: "reseal", subject: table, subject_id, detail };
            audit_log::note(&mut transaction, &entry).await?;
        }
        transaction.commit().await?;
    }
}

/// The secrets of a row under the newest key, and how many of them were not; `None`: all were, or are lost.
fn reseal_row(
    sealer: &Sealer,
    row: &SealedRow,
    done: &mut Resealed,
) -> Result<Option<(Value, usize)>, NoKey> {
    let none = Map::new();
    let mut renewed = row.sealed.as_object().unwrap_or(&none).clone();
    let mut count = 0;
    for (name, value) in &mut renewed {
        let text = value.as_str().unwrap_or_default();
        if sealer.is_newest(text) && sealer.open(row.id, name, text).is_some() {
            done.current += 1;
            continue;
        }
        match sealer.open(row.id, name, text) {
            Some(secret) => {
                *value = Value::String(sealer.seal(row.id, name, &secret)?);
                count += 1;
            }
            None => done.lost.push((row.id, name.clone())),
        }
    }
    Ok((count > 0).then_some((Value::Object(renewed), count)))
}

pub(crate) fn select(table: &str) -> String {
    format!(
        "SELECT id, sealed FROM {table} WHERE id > $1 AND sealed <> '{{}}' ORDER BY id LIMIT $2"
    )
}

pub(crate) fn update(table: &str) -> String {
    format!("UPDATE {table} SET sealed = $3 WHERE id = $1 AND sealed = $2")
}
