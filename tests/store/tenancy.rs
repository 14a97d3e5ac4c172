//! Tenants never see each other.

use crate::postgres;
use crate::rows;
use sqlx::AssertSqlSafe;
use sqlx::Connection;
use sqlx::PgConnection;
use tandem::store::database::Database;
use tandem::types::id::TenantId;

/// A connection as the API's: role `tandem_api`, speaking for `tenant`.
async fn as_api(database: &Database, tenant: Option<TenantId>) -> PgConnection {
    let options = database.owner_options().clone().options([("role", "tandem_api")]);
    let mut connection = PgConnection::connect_with(&options).await.unwrap();
    if let Some(tenant) = tenant {
        let set = format!("SET tandem.tenant_id = '{tenant}'");
        sqlx::raw_sql(AssertSqlSafe(set)).execute(&mut connection).await.unwrap();
    }
    connection
}

async fn seen(connection: &mut PgConnection, table: &str) -> i64 {
    let count = format!("SELECT count(*) FROM {table}");
    sqlx::query_scalar(AssertSqlSafe(count)).fetch_one(connection).await.unwrap()
}

async fn affected(connection: &mut PgConnection, sql: &str) -> u64 {
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(connection).await.unwrap().rows_affected()
}

async fn denied(connection: &mut PgConnection, sql: &str) -> String {
    let error = sqlx::raw_sql(AssertSqlSafe(sql)).execute(connection).await.expect_err(sql);
    error.into_database_error().unwrap().code().unwrap().into_owned()
}

/// Two tenants with one row of everything each.
async fn two_tenants(database: &Database) -> [TenantId; 2] {
    let mut tenants = Vec::new();
    for (name, number) in [("a", "+15550100"), ("b", "+15550200")] {
        let tenant = rows::tenant(database, name).await;
        rows::ai_profile(database, tenant, "{}").await;
        rows::trunk(database, Some(tenant), name).await;
        rows::number(database, tenant, number).await;
        let id = tandem::clock::new_uuid();
        let sql = format!(
            "INSERT INTO calls (id, rev, tenant_id, direction, signalling_id, caller, dialled_text, \
                 decision, arrived_at) \
             VALUES ('{id}', 1, '{tenant}', 'inbound', 'x', '', 'x', '[]', now()); \
             INSERT INTO call_events (call_id, seq, tenant_id, at, name) \
             VALUES ('{id}', 0, '{tenant}', now(), 'arrived'); \
             INSERT INTO audit_log (id, tenant_id, actor, action, subject) \
             VALUES ('{id}', '{tenant}', 'test', 'made', 'call')"
        );
        postgres::execute(database, &sql).await.unwrap();
        tenants.push(tenant);
    }
    rows::trunk(database, None, "shared").await;
    [tenants[0], tenants[1]]
}

const TABLES: [&str; 7] =
    ["tenants", "ai_profiles", "trunks", "phone_numbers", "calls", "call_events", "audit_log"];

#[tokio::test]
async fn a_tenant_sees_its_own_rows_alone() {
    let database = postgres::database().await;
    let [a, _] = two_tenants(&database).await;
    let mut connection = as_api(&database, Some(a)).await;
    for table in TABLES {
        assert_eq!(seen(&mut connection, table).await, 1, "{table}");
    }
}

#[tokio::test]
async fn without_a_tenant_nothing_is_seen() {
    let database = postgres::database().await;
    two_tenants(&database).await;
    let mut connection = as_api(&database, None).await;
    for table in TABLES {
        assert_eq!(seen(&mut connection, table).await, 0, "{table}");
    }
}

#[tokio::test]
async fn a_tenant_cannot_write_into_another() {
    let database = postgres::database().await;
    let [a, b] = two_tenants(&database).await;
    let mut connection = as_api(&database, Some(a)).await;
    for table in ["ai_profiles", "trunks", "phone_numbers"] {
        let of_b = format!("UPDATE {table} SET updated_at = now() WHERE tenant_id = '{b}'");
        assert_eq!(affected(&mut connection, &of_b).await, 0, "{table}");
        let delete = format!("DELETE FROM {table} WHERE tenant_id = '{b}'");
        assert_eq!(affected(&mut connection, &delete).await, 0, "{table}");
        let give = format!("UPDATE {table} SET tenant_id = '{b}'");
        assert_eq!(denied(&mut connection, &give).await, "42501", "{table}");
    }
    let insert = rows::insert_number(b, "+15550300", "+15550300");
    assert_eq!(denied(&mut connection, &insert).await, "42501");
    assert_eq!(affected(&mut connection, "UPDATE phone_numbers SET label = 'mine'").await, 1);
}

#[tokio::test]
async fn the_api_cannot_touch_what_is_not_its_business() {
    let database = postgres::database().await;
    let [a, _] = two_tenants(&database).await;
    let mut connection = as_api(&database, Some(a)).await;
    for sql in [
        "UPDATE tenants SET calls_max = 0",
        "UPDATE calls SET caller = ''",
        "DELETE FROM call_events",
        "SELECT hash FROM api_keys",
        "DELETE FROM audit_log",
        "INSERT INTO routing_changes (kind) VALUES ('resync')",
        "SELECT tandem_note_change('number', '{}')",
        "TRUNCATE phone_numbers",
        "SELECT * FROM nodes",
        "ALTER TABLE calls NO FORCE ROW LEVEL SECURITY",
        "DROP POLICY tenant ON calls",
    ] {
        assert_eq!(denied(&mut connection, sql).await, "42501", "{sql}");
    }
}

#[tokio::test]
async fn the_roles_own_nothing_and_bypass_nothing() {
    let database = postgres::database().await;
    let owned = "SELECT count(*) FROM pg_shdepend d JOIN pg_roles r ON r.oid = d.refobjid \
         WHERE d.deptype = 'o' AND r.rolname IN ('tandem_api', 'tandem_node')";
    assert_eq!(postgres::count(&database, owned).await, 0);
    let strong = "SELECT count(*) FROM pg_roles WHERE rolname IN ('tandem_api', 'tandem_node') \
         AND (rolsuper OR rolbypassrls OR rolcreaterole OR rolcreatedb OR rolcanlogin)";
    assert_eq!(postgres::count(&database, strong).await, 0);
}
