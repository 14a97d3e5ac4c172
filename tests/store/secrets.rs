//! Sealed secrets under a new key.

use crate::postgres;
use crate::rows;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use tandem::store::database::Database;
use tandem::store::reseal;
use tandem::store::reseal::Resealed;
use tandem::store::seal::Sealer;
use tandem::types::secret::Secret;
use uuid::Uuid;

fn key(byte: u8) -> Secret<String> {
    Secret::new(STANDARD.encode([byte; 32]))
}

/// Puts a secret into a row, sealed by this.
async fn put(database: &Database, (table, row): (&str, Uuid), sealer: &Sealer, secret: &str) {
    let sealed = sealer.seal(row, "a", &Secret::new(secret.to_owned())).unwrap();
    let sql = format!("UPDATE {table} SET sealed = '{}' WHERE id = '{row}'", json!({"a": sealed}));
    postgres::execute(database, &sql).await.unwrap();
}

#[tokio::test]
async fn every_secret_comes_under_the_new_key_page_by_page_and_what_is_lost_is_told() {
    let database = postgres::database().await;
    let tenant = rows::tenant(&database, "a").await;
    let old = Sealer::new([&key(1)]).unwrap();
    let both = Sealer::new([&key(2), &key(1)]).unwrap();
    let new = Sealer::new([&key(2)]).unwrap();
    let stranger = Sealer::new([&key(3)]).unwrap();
    let mut trunks = Vec::new();
    // More than one page.
    for n in 0..130 {
        let row = rows::trunk(&database, Some(tenant), &format!("t-{n}")).await;
        put(&database, ("trunks", row), &old, &format!("secret {n}")).await;
        trunks.push(row);
    }
    let profile = rows::ai_profile(&database, tenant, r#"{"kind": "echo"}"#).await;
    put(&database, ("ai_profiles", profile), &stranger, "lost").await;

    let trial = reseal::table_all_tenants(&database, &both, ("trunks", true)).await.unwrap();
    assert_eq!(trial, Resealed { renewed: 130, ..Resealed::default() });
    let done = reseal::table_all_tenants(&database, &both, ("trunks", false)).await.unwrap();
    assert_eq!(done, Resealed { renewed: 130, ..Resealed::default() });
    // What is run again, as after a cut, finds nothing left.
    let again = reseal::table_all_tenants(&database, &both, ("trunks", false)).await.unwrap();
    assert_eq!(again, Resealed { current: 130, ..Resealed::default() });
    let lost = reseal::table_all_tenants(&database, &both, ("ai_profiles", false)).await.unwrap();
    assert_eq!(lost.lost, [(profile, "a".to_owned())]);
    assert_eq!((lost.renewed, lost.current), (0, 0));

    for (n, row) in trunks.into_iter().enumerate() {
        let sql = format!("SELECT sealed->>'a' FROM trunks WHERE id = '{row}'");
        let stored = postgres::text(&database, &sql).await;
        let opened = new.open(row, "a", &stored).expect("the new key alone opens it");
        assert_eq!(*opened.expose(), format!("secret {n}"));
    }
    let audit =
        "SELECT coalesce(sum((detail->>'secrets')::int), 0) FROM audit_log WHERE action = 'reseal'";
    assert_eq!(postgres::count(&database, audit).await, 130);
}

#[tokio::test]
async fn every_table_with_secrets_is_known_to_who_seals_them_again() {
    let database = postgres::database().await;
    let sql = "SELECT string_agg(table_name, ' ' ORDER BY table_name) FROM information_schema.columns \
               WHERE table_schema = 'public' AND column_name = 'sealed'";
    let mut known = reseal::TABLES;
    known.sort_unstable();
    assert_eq!(postgres::text(&database, sql).await, known.join(" "));
}
