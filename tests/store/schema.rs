//! What the schema refuses, and that every statement fits it.

use crate::postgres;
use crate::rows;
use sqlx::AssertSqlSafe;
use sqlx::Connection;
use sqlx::Executor;
use sqlx::PgConnection;
use sqlx::SqlSafeStr;
use tandem::clock;
use tandem::store::migrate;
use tandem::store::migrate::SchemaError;
use tandem::store::statements;
use tandem::types::id::TenantId;

/// The SQLSTATE with which the database refuses `sql`, and the constraint it names.
async fn refusal(database: &tandem::store::database::Database, sql: &str) -> (String, String) {
    let error = postgres::execute(database, sql).await.expect_err(sql);
    let error = error.into_database_error().unwrap();
    let constraint = error.constraint().unwrap_or_default().to_owned();
    (error.code().unwrap().into_owned(), constraint)
}

const CHECK: &str = "23514";
const NOT_NULL: &str = "23502";
const UNIQUE: &str = "23505";
const FOREIGN_KEY: &str = "23503";
const EXCLUSION: &str = "23P01";

#[tokio::test]
async fn every_statement_fits_the_schema() {
    let database = postgres::database().await;
    let mut connection = postgres::owner(&database).await;
    let all = statements::all();
    assert!(all.len() > 25, "{}", all.len());
    for sql in all {
        let prepared = connection.prepare(AssertSqlSafe(sql.clone()).into_sql_str()).await;
        assert!(prepared.is_ok(), "{sql}: {:?}", prepared.err());
    }
}

#[tokio::test]
async fn numbers_are_e164_and_in_order() {
    let database = postgres::database().await;
    let tenant = rows::tenant(&database, "a").await;
    for (first, last) in [
        ("15550100", "15550100"),
        ("+05550100", "+05550100"),
        ("+12", "+12"),
        ("+1234567890123456", "+1234567890123456"),
        ("+1555x100", "+1555x100"),
        ("+15550199", "+15550100"),
        ("+1555010", "+15550199"),
    ] {
        let (code, _) = refusal(&database, &rows::insert_number(tenant, first, last)).await;
        assert_eq!(code, CHECK, "{first} to {last}");
    }
    rows::number(&database, tenant, "+999").await;
    rows::number(&database, tenant, "+123456789012345").await;
}

#[tokio::test]
async fn a_number_belongs_to_one_tenant_alone_or_in_a_range() {
    let database = postgres::database().await;
    let a = rows::tenant(&database, "a").await;
    let b = rows::tenant(&database, "b").await;
    postgres::execute(&database, &rows::insert_number(a, "+15550100", "+15550199")).await.unwrap();
    for (first, last) in [
        ("+15550150", "+15550150"),
        ("+15550100", "+15550199"),
        ("+15550199", "+15550200"),
        ("+15550000", "+15559999"),
    ] {
        for tenant in [a, b] {
            let (code, constraint) =
                refusal(&database, &rows::insert_number(tenant, first, last)).await;
            assert_eq!(
                (code.as_str(), constraint.as_str()),
                (EXCLUSION, "phone_numbers_no_overlap")
            );
        }
    }
    // Neighbours, and numbers of another length with the same beginning, are others.
    for number in ["+15550099", "+15550200", "+155501500", "+1555015"] {
        rows::number(&database, b, number).await;
    }
}

#[tokio::test]
async fn a_tenant_has_one_default_profile() {
    let database = postgres::database().await;
    let a = rows::tenant(&database, "a").await;
    let b = rows::tenant(&database, "b").await;
    for tenant in [a, a, b] {
        rows::ai_profile(&database, tenant, r#"{"kind": "echo"}"#).await;
    }
    let one = "UPDATE ai_profiles SET is_default = true WHERE id = \
               (SELECT id FROM ai_profiles WHERE NOT is_default AND tenant_id = '$' LIMIT 1)";
    for tenant in [a, b] {
        postgres::execute(&database, &one.replace('$', &tenant.to_string())).await.unwrap();
    }
    let (code, constraint) = refusal(&database, &one.replace('$', &a.to_string())).await;
    assert_eq!((code.as_str(), constraint.as_str()), (UNIQUE, "ai_profiles_one_default"));
}

#[tokio::test]
async fn who_takes_over_from_a_profile_is_another_of_its_tenant_given_once() {
    let database = postgres::database().await;
    let a = rows::tenant(&database, "a").await;
    let b = rows::tenant(&database, "b").await;
    let mut own = Vec::new();
    for _ in 0..6 {
        own.push(rows::ai_profile(&database, a, r#"{"kind": "echo"}"#).await);
    }
    let foreign = rows::ai_profile(&database, b, r#"{"kind": "echo"}"#).await;
    let set = |ids: &[uuid::Uuid]| {
        let ids: Vec<String> = ids.iter().map(|id| format!("'{id}'::uuid")).collect();
        let first = own.first().unwrap();
        format!(
            "UPDATE ai_profiles SET fallback_profiles = ARRAY[{}] WHERE id = '{first}'",
            ids.join(",")
        )
    };
    for (ids, expected) in [
        (vec![own[0]], "ai_profiles_fallback_self"),
        (vec![foreign], "ai_profiles_fallback_known"),
        (vec![clock::new_uuid()], "ai_profiles_fallback_known"),
        (vec![own[1], own[1]], "ai_profiles_fallback_known"),
        (own[1..].to_vec(), "ai_profiles_fallback_max"),
    ] {
        let (code, constraint) = refusal(&database, &set(&ids)).await;
        assert_eq!((code.as_str(), constraint.as_str()), (CHECK, expected));
    }
    postgres::execute(&database, &set(&own[1..5])).await.unwrap();
    // Two may take over from each other: only the list of the profile that was called counts.
    let back = format!(
        "UPDATE ai_profiles SET fallback_profiles = ARRAY['{}'::uuid] WHERE id = '{}'",
        own[0], own[1]
    );
    postgres::execute(&database, &back).await.unwrap();
    // Who is deleted takes over from nobody, and the others keep their order.
    let gone = format!("DELETE FROM ai_profiles WHERE id = '{}'", own[2]);
    postgres::execute(&database, &gone).await.unwrap();
    let left = format!(
        "SELECT array_to_string(fallback_profiles, ' ') FROM ai_profiles WHERE id = '{}'",
        own[0]
    );
    let expected = [own[1], own[3], own[4]].map(|id| id.to_string()).join(" ");
    assert_eq!(postgres::text(&database, &left).await, expected);
    postgres::execute(&database, &format!("DELETE FROM tenants WHERE id = '{a}'")).await.unwrap();
}

#[tokio::test]
async fn profiles_tenants_and_trunks_are_checked() {
    let database = postgres::database().await;
    let a = rows::tenant(&database, "a").await;
    let profile = |columns: &str, values: &str| {
        let id = clock::new_uuid();
        format!(
            "INSERT INTO ai_profiles (id, tenant_id, name{columns}) VALUES ('{id}', '{a}', 'x'{values})"
        )
    };
    for (sql, expected) in [
        (profile(", system_prompt, agent", ", '', '{}'"), CHECK),
        (profile(", system_prompt, agent", ", '  ', '{}'"), CHECK),
        (profile(", agent", ", '{}'"), NOT_NULL),
        (profile(", system_prompt, agent", ", 'x', '[]'"), CHECK),
        (profile(", system_prompt, agent, role", ", 'x', '{}', 'king'"), CHECK),
        ("UPDATE tenants SET status = 'asleep'".to_owned(), CHECK),
        ("UPDATE tenants SET plan = 'free'".to_owned(), CHECK),
        ("UPDATE tenants SET calls_max = -1".to_owned(), CHECK),
        (format!("INSERT INTO tenants (id, name) VALUES ('{}', 'a')", clock::new_uuid()), UNIQUE),
        (
            format!(
                "INSERT INTO trunks (id, name, profile) VALUES ('{}', 'A b', 'generic')",
                clock::new_uuid()
            ),
            CHECK,
        ),
        (
            rows::insert_number(TenantId::from_uuid(clock::new_uuid()), "+15550100", "+15550100"),
            FOREIGN_KEY,
        ),
    ] {
        assert_eq!(refusal(&database, &sql).await.0, expected, "{sql}");
    }
}

#[tokio::test]
async fn a_number_uses_profiles_and_trunks_of_its_own_tenant_only() {
    let database = postgres::database().await;
    let a = rows::tenant(&database, "a").await;
    let b = rows::tenant(&database, "b").await;
    let profile_of_b = rows::ai_profile(&database, b, "{}").await;
    let trunk_of_b = rows::trunk(&database, Some(b), "b").await;
    let shared = rows::trunk(&database, None, "shared").await;
    rows::number(&database, a, "+15550100").await;
    let set = |column: &str, id| format!("UPDATE phone_numbers SET {column} = '{id}'");
    let (code, _) = refusal(&database, &set("ai_profile_id", profile_of_b)).await;
    assert_eq!(code, FOREIGN_KEY);
    let (code, constraint) = refusal(&database, &set("trunk_id", trunk_of_b)).await;
    assert_eq!((code.as_str(), constraint.as_str()), (CHECK, "phone_numbers_trunk_tenant"));
    postgres::execute(&database, &set("trunk_id", shared)).await.unwrap();
}

#[tokio::test]
async fn calls_go_out_by_trunks_and_profiles_of_their_own_tenant_only() {
    let database = postgres::database().await;
    let (one, two) = (rows::tenant(&database, "a").await, rows::tenant(&database, "b").await);
    rows::number(&database, one, "+15550100").await;
    let foreign = rows::trunk(&database, Some(two), "theirs").await;
    let own = rows::trunk(&database, Some(one), "ours").await;
    let profile = |tenant: &str, trunk: uuid::Uuid| {
        format!(
            "INSERT INTO routing_profiles (id, tenant_id, name, outbound_trunk_id) \
             VALUES ('{}', {tenant}, 'x', '{trunk}')",
            tandem::clock::new_uuid()
        )
    };
    let trunk = ("23514".to_owned(), "outbound_trunk_tenant".to_owned());
    for sql in [
        format!("UPDATE tenants SET outbound_trunk_id = '{foreign}' WHERE id = '{one}'"),
        format!("UPDATE phone_numbers SET outbound_trunk_id = '{foreign}'"),
        profile(&format!("'{one}'"), foreign),
        // A shared profile leads to shared trunks.
        profile("NULL", foreign),
    ] {
        assert_eq!(refusal(&database, &sql).await, trunk, "{sql}");
    }
    postgres::execute(&database, &profile(&format!("'{two}'"), foreign)).await.unwrap();
    let sql = "UPDATE phone_numbers SET routing_profile_id = (SELECT id FROM routing_profiles)";
    let refused = refusal(&database, sql).await;
    assert_eq!(refused, ("23514".to_owned(), "routing_profile_tenant".to_owned()));
    let sql = format!("UPDATE tenants SET outbound_trunk_id = '{own}' WHERE id = '{one}'");
    postgres::execute(&database, &sql).await.unwrap();
    for bad in ["{44}", "{+0}", "{+44x}", "{NULL}"] {
        let sql = format!("UPDATE tenants SET allow_destinations = '{bad}'");
        assert_eq!(refusal(&database, &sql).await.0, "23514", "{bad}");
    }
    for good in ["{}", "{+}", "{+1,+91}"] {
        let sql = format!("UPDATE tenants SET allow_destinations = '{good}'");
        postgres::execute(&database, &sql).await.unwrap();
    }
}

#[tokio::test]
async fn a_trunk_in_use_is_given_to_no_other_tenant() {
    let database = postgres::database().await;
    let (a, b) = (rows::tenant(&database, "a").await, rows::tenant(&database, "b").await);
    let trunk = rows::trunk(&database, Some(a), "t").await;
    rows::number(&database, a, "+15550100").await;
    let profile = format!(
        "INSERT INTO routing_profiles (id, tenant_id, name) VALUES ('{}', '{a}', 'x')",
        tandem::clock::new_uuid()
    );
    postgres::execute(&database, &profile).await.unwrap();
    let give = format!("UPDATE trunks SET tenant_id = '{b}'");
    let take_back = format!("UPDATE trunks SET tenant_id = '{a}'");
    for (table, column) in [
        ("phone_numbers", "trunk_id"),
        ("phone_numbers", "outbound_trunk_id"),
        ("tenants", "outbound_trunk_id"),
        ("routing_profiles", "outbound_trunk_id"),
        ("routing_profiles", "inbound_trunk_id"),
    ] {
        let used = if table == "tenants" { format!(" WHERE id = '{a}'") } else { String::new() };
        let set = |value: &str| format!("UPDATE {table} SET {column} = {value}{used}");
        postgres::execute(&database, &set(&format!("'{trunk}'"))).await.unwrap();
        let refused = refusal(&database, &give).await;
        assert_eq!(refused, (CHECK.to_owned(), "trunk_in_use".to_owned()), "{table}.{column}");
        // All may use a shared one, its old tenant too.
        postgres::execute(&database, "UPDATE trunks SET tenant_id = NULL").await.unwrap();
        postgres::execute(&database, &take_back).await.unwrap();
        postgres::execute(&database, &set("NULL")).await.unwrap();
    }
    postgres::execute(&database, &give).await.unwrap();

    let bind = "UPDATE phone_numbers SET routing_profile_id = (SELECT id FROM routing_profiles)";
    postgres::execute(&database, bind).await.unwrap();
    let give = format!("UPDATE routing_profiles SET tenant_id = '{b}'");
    let refused = refusal(&database, &give).await;
    assert_eq!(refused, (CHECK.to_owned(), "routing_profile_in_use".to_owned()));
}

#[tokio::test]
async fn what_a_number_refers_to_may_go() {
    let database = postgres::database().await;
    let a = rows::tenant(&database, "a").await;
    let profile = rows::ai_profile(&database, a, "{}").await;
    let trunk = rows::trunk(&database, Some(a), "t").await;
    rows::number(&database, a, "+15550100").await;
    let set = format!("UPDATE phone_numbers SET ai_profile_id = '{profile}', trunk_id = '{trunk}'");
    postgres::execute(&database, &set).await.unwrap();
    postgres::execute(&database, "DELETE FROM ai_profiles; DELETE FROM trunks").await.unwrap();
    let left = "SELECT count(*) FROM phone_numbers WHERE ai_profile_id IS NULL AND trunk_id IS NULL \
                AND tenant_id IS NOT NULL";
    assert_eq!(postgres::count(&database, left).await, 1);
}

#[tokio::test]
async fn every_table_of_tenants_has_an_index_and_forced_row_security() {
    let database = postgres::database().await;
    let without_index = "SELECT count(*) FROM pg_class c \
         JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'tenant_id' \
         WHERE c.relkind = 'r' AND NOT EXISTS (SELECT FROM pg_index i \
             WHERE i.indrelid = c.oid AND i.indkey[0] = a.attnum)";
    assert_eq!(postgres::count(&database, without_index).await, 0);
    let unforced = "SELECT count(*) FROM pg_class c \
         WHERE c.relkind = 'r' AND NOT (c.relrowsecurity AND c.relforcerowsecurity) \
           AND (c.relname = 'tenants' OR EXISTS (SELECT FROM pg_attribute a \
                WHERE a.attrelid = c.oid AND a.attname = 'tenant_id'))";
    assert_eq!(postgres::count(&database, unforced).await, 0);
    // One names a tenant by another name, and is the switch's alone.
    let removals = "SELECT count(*) FROM unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) AS may \
                    WHERE has_table_privilege('tandem_api', 'recording_removals', may)";
    assert_eq!(postgres::count(&database, removals).await, 0);
    let tables = "SELECT count(*) FROM pg_class WHERE relforcerowsecurity";
    assert!(postgres::count(&database, tables).await >= 15);
}

#[tokio::test]
async fn a_changed_migration_is_noticed_and_a_missing_one_named() {
    let database = postgres::database().await;
    migrate::check(&database).await.unwrap();
    migrate::apply(&database).await.unwrap();
    // A later binary has migrated: this one runs on.
    let later = "INSERT INTO _sqlx_migrations \
         (version, description, success, checksum, execution_time) VALUES (9999, 'x', true, '', 0)";
    postgres::execute(&database, later).await.unwrap();
    migrate::apply(&database).await.unwrap();
    let alter = "UPDATE _sqlx_migrations SET checksum = '\\x00' WHERE version = 2";
    postgres::execute(&database, alter).await.unwrap();
    assert!(matches!(migrate::apply(&database).await, Err(SchemaError::Altered(2))));
    assert!(matches!(migrate::check(&database).await, Err(SchemaError::Altered(2))));
    postgres::execute(&database, "DELETE FROM _sqlx_migrations").await.unwrap();
    assert!(matches!(migrate::check(&database).await, Err(SchemaError::Behind(1))));
}

#[tokio::test]
async fn a_migration_needs_no_superuser() {
    let options = postgres::cluster().options("postgres");
    let mut connection = PgConnection::connect_with(&options).await.unwrap();
    let prepare = "CREATE ROLE plain LOGIN CREATEROLE; CREATE DATABASE plain OWNER plain";
    for sql in prepare.split("; ") {
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
    }
    let grant = "GRANT tandem_api, tandem_node TO plain WITH ADMIN OPTION";
    sqlx::raw_sql(grant).execute(&mut connection).await.unwrap();
    let options = postgres::cluster().options("plain").username("plain");
    let database = tandem::store::database::Database::new(options);
    migrate::apply(&database).await.unwrap();
    // The switch's role sees the rows, and the triggers of the owner work.
    let directory = postgres::Scratch::new();
    tandem::store::demo::seed(&database, directory.path()).await.unwrap();
    let changes = "SELECT count(*) FROM routing_changes";
    assert!(postgres::count(&database, changes).await >= 21);
    let loaded = tandem::store::snapshot::load_all_tenants(&database, &rows::composer()).await;
    assert_eq!(loaded.unwrap().contents.numbers.len(), 11);
    let trunk = "SET ROLE tandem_node; UPDATE trunks SET tenant_id = \
         (SELECT id FROM tenants WHERE status = 'suspended'); \
         UPDATE phone_numbers SET trunk_id = (SELECT id FROM trunks LIMIT 1)";
    let (code, constraint) = refusal(&database, trunk).await;
    assert_eq!((code.as_str(), constraint.as_str()), (CHECK, "phone_numbers_trunk_tenant"));
    let bound = "SET ROLE tandem_node; UPDATE trunks SET tenant_id = NULL; \
         UPDATE phone_numbers SET trunk_id = (SELECT id FROM trunks LIMIT 1); \
         UPDATE trunks SET tenant_id = (SELECT id FROM tenants WHERE status = 'suspended')";
    let (code, constraint) = refusal(&database, bound).await;
    assert_eq!((code.as_str(), constraint.as_str()), (CHECK, "trunk_in_use"));
}
