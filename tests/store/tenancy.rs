//! Tenants never see each other.

use crate::postgres;
use crate::rows;
use sqlx::AssertSqlSafe;
use sqlx::Connection;
use sqlx::PgConnection;
use tandem::clock;
use tandem::store::database::Database;
use tandem::types::id::TenantId;
use uuid::Uuid;

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

/// The statement that makes a row of `table`.
fn of(table: &'static str, columns: &str, values: &str) -> (&'static str, String) {
    (table, format!("INSERT INTO {table} ({columns}) VALUES ({values})"))
}

/// A row of every table of what tenants set up. Each time it is another.
fn rows_of_settings(t: TenantId) -> Vec<(&'static str, String)> {
    let id = clock::new_uuid();
    let number = format!("+1555{:07}", clock::random_u64() % 10_000_000);
    let named = "id, tenant_id, name";
    vec![
        of(
            "ai_profiles",
            &format!("{named}, system_prompt, agent"),
            &format!("'{id}', '{t}', '{id}', 'x', '{{}}'"),
        ),
        of("trunks", &format!("{named}, profile"), &format!("'{id}', '{t}', 't-{id}', 'generic'")),
        of(
            "phone_numbers",
            "id, tenant_id, first_number, last_number",
            &format!("'{id}', '{t}', '{number}', '{number}'"),
        ),
        of("routing_profiles", named, &format!("'{id}', '{t}', 'x'")),
        of("campaigns", named, &format!("'{id}', '{t}', '{id}'")),
        of(
            "api_keys",
            "id, tenant_id, role, hash",
            &format!("'{id}', '{t}', 'viewer', sha256('{id}')"),
        ),
        of("webhook_endpoints", "id, tenant_id, url", &format!("'{id}', '{t}', 'https://x.test'")),
    ]
}

/// The same of what happens.
fn rows_of_calls(
    t: TenantId,
    (call, endpoint, node): (Uuid, Uuid, Uuid),
) -> Vec<(&'static str, String)> {
    let id = clock::new_uuid();
    vec![
        of(
            "audit_log",
            "id, tenant_id, actor, action, subject",
            &format!("'{id}', '{t}', 'x', 'x', 'x'"),
        ),
        of(
            "call_events",
            "call_id, seq, tenant_id, at, name",
            &format!("'{call}', 7, '{t}', now(), 'x'"),
        ),
        of(
            "sip_messages",
            "call_id, seq, tenant_id, at, way, transport, local, remote, message",
            &format!("'{call}', 7, '{t}', now(), 'in', 'udp', 'x', 'x', 'x'"),
        ),
        of(
            "recordings",
            "id, tenant_id, call_id, folder, sample_rate, is_encrypted, started_at",
            &format!("'{id}', '{t}', '{call}', '{id}', 8000, false, now()"),
        ),
        of(
            "transcripts",
            "tenant_id, call_id, seq, speaker, text, at",
            &format!("'{t}', '{call}', 7, 'agent', 'x', now()"),
        ),
        of(
            "call_news",
            "tenant_id, call_id, name, detail",
            &format!("'{t}', '{call}', 'x', '{{}}'"),
        ),
        of(
            "idempotency_keys",
            "tenant_id, key, asked, call_id, busy_until",
            &format!("'{t}', '{id}', sha256(''), '{call}', now()"),
        ),
        of(
            "webhook_outbox",
            "endpoint_id, event_id, tenant_id, call_id, seq, type, at",
            &format!("'{endpoint}', '{id}', '{t}', '{call}', 7, 'x', now()"),
        ),
        of(
            "webhook_queues",
            "endpoint_id, call_id, tenant_id",
            &format!("'{endpoint}', '{call}', '{t}'"),
        ),
        of(
            "call_commands",
            "id, tenant_id, call_id, path, body, key_id, is_platform, role, request_id",
            &format!("'{id}', '{t}', '{call}', '/x', '', '{id}', false, 'operator', 'x'"),
        ),
        of("erasures", "id, node_id, tenant_id, digits", &format!("'{id}', '{node}', '{t}', '1'")),
        of(
            "sealed_erasures",
            "id, node_id, tenant_id, digits",
            &format!("'{id}', '{node}', '{t}', ''"),
        ),
    ]
}

fn rows_of(tenant: TenantId, of: (Uuid, Uuid, Uuid)) -> Vec<(&'static str, String)> {
    [rows_of_settings(tenant), rows_of_calls(tenant, of)].concat()
}

/// Gives both tenants a row of everything; the statements that would make another one of the second's.
async fn fill(database: &Database, tenants: [TenantId; 2]) -> Vec<(&'static str, String)> {
    let node = clock::new_uuid();
    postgres::execute(database, &format!("INSERT INTO nodes (id, name) VALUES ('{node}', '')"))
        .await
        .unwrap();
    let mut others = Vec::new();
    for tenant in tenants {
        let call = format!("SELECT id::text FROM calls WHERE tenant_id = '{tenant}'");
        let call = postgres::text(database, &call).await.parse().unwrap();
        let endpoint = clock::new_uuid();
        let sql = format!(
            "INSERT INTO webhook_endpoints (id, tenant_id, url) VALUES ('{endpoint}', '{tenant}', 'https://y.example')"
        );
        postgres::execute(database, &sql).await.unwrap();
        for (table, sql) in rows_of(tenant, (call, endpoint, node)) {
            let sql = format!("{sql} ON CONFLICT DO NOTHING");
            postgres::execute(database, &sql).await.unwrap_or_else(|why| panic!("{table}: {why}"));
        }
        others = rows_of(tenant, (call, endpoint, node));
    }
    others
}

#[tokio::test]
async fn in_every_table_with_tenants_each_has_rights_to_its_own_rows_alone() {
    let database = postgres::database().await;
    let [a, b] = two_tenants(&database).await;
    let inserts = fill(&database, [a, b]).await;
    let tables = "SELECT string_agg(c.relname, ' ' ORDER BY c.relname) FROM pg_class c \
         JOIN pg_attribute t ON t.attrelid = c.oid AND t.attname = 'tenant_id' WHERE c.relkind = 'r'";
    let tables = postgres::text(&database, tables).await;
    let mut connection = as_api(&database, Some(a)).await;
    let mut tried = [0; 4];
    for table in tables.split(' ') {
        let has = async |right: &str| {
            let sql = format!(
                "SELECT count(*) WHERE has_any_column_privilege('tandem_api', '{table}', '{right}')"
            );
            let sql = if right == "DELETE" { sql.replace("any_column", "table") } else { sql };
            postgres::count(&database, &sql).await == 1
        };
        let rows = async |of: &str| {
            postgres::count(
                &database,
                &format!("SELECT count(*) FROM {table} WHERE tenant_id {of}"),
            )
            .await
        };
        let own = rows(&format!("= '{a}'")).await;
        // A table that is made later is given a row of each above.
        assert!(own > 0 && rows(&format!("= '{b}'")).await > 0, "{table} has no rows to try");
        if has("SELECT").await {
            tried[0] += 1;
            assert_eq!(seen(&mut connection, table).await, own, "{table}");
        }
        if has("UPDATE").await {
            tried[1] += 1;
            let column = "SELECT column_name::text FROM information_schema.column_privileges \
                 WHERE grantee = 'tandem_api' AND privilege_type = 'UPDATE' AND table_name = ";
            let column = postgres::text(&database, &format!("{column}'{table}' LIMIT 1")).await;
            let update = format!("UPDATE {table} SET {column} = {column} WHERE tenant_id = '{b}'");
            assert_eq!(affected(&mut connection, &update).await, 0, "{table}");
        }
        if has("DELETE").await {
            tried[2] += 1;
            let delete = format!("DELETE FROM {table} WHERE tenant_id = '{b}'");
            assert_eq!(affected(&mut connection, &delete).await, 0, "{table}");
        }
        if has("INSERT").await {
            tried[3] += 1;
            let (_, insert) = inserts.iter().find(|(of, _)| *of == table).unwrap();
            assert_eq!(denied(&mut connection, insert).await, "42501", "{table}");
        }
    }
    // What the API may do at all: see nearly all, and write what tenants write.
    assert_eq!(tried, [15, 11, 8, 10], "the rights of tandem_api changed");
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
