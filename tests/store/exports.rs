//! Exports of a number's data whose readers do not read.

use crate::postgres;
use crate::rows;
use std::pin::pin;
use std::time::Duration;
use tandem::clock;
use tandem::store::api_keys;
use tandem::store::api_keys::KeyRole;
use tandem::store::api_keys::KeyScope;
use tandem::store::privacy;
use tandem::store::privacy::Exported;
use tandem::types::limit::EXPORT_STALL_S_MAX;
use tokio::sync::mpsc;
use tokio::time::timeout;

const NUMBER: &str = "+15550177";
/// Far longer than a reader is waited for.
const PATIENCE: Duration = Duration::from_secs(6 * EXPORT_STALL_S_MAX);

#[tokio::test]
async fn an_export_waits_for_its_reader_and_not_for_ever() {
    let database = postgres::database().await;
    let tenant = rows::tenant(&database, "a").await;
    let scope = KeyScope::Tenant(tenant);
    let made = api_keys::create(&database, scope, KeyRole::Admin, "", None).await.unwrap();
    let holder = api_keys::verify_all_tenants(&database, made.key.expose()).await.unwrap();
    let call = clock::new_call_id();
    let sql = format!(
        "INSERT INTO calls (id, rev, tenant_id, direction, signalling_id, caller, dialled_text, decision, arrived_at) \
         VALUES ('{call}', 3, '{tenant}', 'inbound', 'x', '{NUMBER}', 'x', '[]', now())"
    );
    postgres::execute(&database, &sql).await.unwrap();
    let sql = format!(
        "INSERT INTO call_events (call_id, seq, tenant_id, at, name) \
         SELECT '{call}', n, '{tenant}', now(), 'held' FROM generate_series(0, 2) n"
    );
    postgres::execute(&database, &sql).await.unwrap();

    // One row finds room; the next one waits for somebody who takes it.
    let (rows_in, mut rows) = mpsc::channel(1);
    let whose = (holder.unwrap(), tenant);
    let number = NUMBER.parse().unwrap();
    let mut exporting = pin!(privacy::export(database.clone(), whose, number, rows_in));
    let early = timeout(Duration::from_secs(1), exporting.as_mut()).await;
    assert!(early.is_err(), "a reader has some time");
    let ended = timeout(PATIENCE, exporting.as_mut()).await;
    assert!(ended.is_ok(), "it keeps its connection to the database");
    let first = rows.recv().await;
    assert!(matches!(&first, Some(Ok(Exported::Row(row))) if row.of_table == "calls"), "{first:?}");
    // That was not all: its end is missing.
    let next = rows.recv().await;
    assert!(next.is_none(), "{next:?}");
}
