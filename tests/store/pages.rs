//! Pages of calls among many: how they are found, and how fast.

use crate::postgres;
use crate::rows;
use jiff::Timestamp;
use sqlx::AssertSqlSafe;
use sqlx::PgConnection;
use tandem::store::calls;
use tandem::store::calls::CallFilter;
use tandem::store::database::Database;
use tandem::store::statements;
use tandem::types::id::TenantId;
use uuid::Uuid;

/// So many calls, one a second from the first of January on, of two tenants in turn.
async fn fill(database: &Database, tenants: [TenantId; 2], calls: u32) {
    let [a, b] = tenants;
    let sql = format!(
        "INSERT INTO calls (id, rev, tenant_id, direction, signalling_id, caller, dialled_text, decision, \
                            arrived_at, ended_at, cause) \
         SELECT (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || '7000' || '8000' || \
                 lpad(to_hex(n), 12, '0'))::uuid, \
                1, CASE n % 2 WHEN 0 THEN '{a}'::uuid ELSE '{b}'::uuid END, 'inbound', 'c' || n, '+15550111', \
                '+15550100', '[]', at, at + interval '1 minute', 'normal' \
         FROM (SELECT n, timestamptz '2026-01-01 00:00:00Z' + n * interval '1 second' AS at \
               FROM generate_series(1, {calls}) n) s"
    );
    postgres::execute(database, &sql).await.unwrap();
    postgres::execute(database, "ANALYZE calls").await.unwrap();
}

async fn tenants(database: &Database) -> [TenantId; 2] {
    [rows::tenant(database, "a").await, rows::tenant(database, "b").await]
}

/// How the role of the API finds a page of `tenant` within a stretch of time, behind a call.
async fn plan(connection: &mut PgConnection, tenant: TenantId) -> String {
    let sql = statements::all().into_iter().find(|sql| {
        sql.contains("FROM calls WHERE")
            && sql.contains("arrived_at >= ")
            && !sql.contains("caller = ")
    });
    let uuid = Uuid::nil();
    let explained = format!(
        "SET ROLE tandem_api; SELECT set_config('tandem.tenant_id', '{tenant}', false); \
         SET plan_cache_mode = force_custom_plan; PREPARE page AS {};",
        sql.unwrap()
    );
    sqlx::raw_sql(AssertSqlSafe(explained)).execute(&mut *connection).await.unwrap();
    let explain = format!(
        "EXPLAIN EXECUTE page('{tenant}', '2026-01-01 01:30Z', '{uuid}', '2026-01-01 01:00Z', \
         '2026-01-01 02:00Z', 51)"
    );
    let lines: Vec<String> =
        sqlx::query_scalar(AssertSqlSafe(explain)).fetch_all(&mut *connection).await.unwrap();
    lines.join("\n")
}

#[tokio::test]
async fn a_page_within_a_stretch_of_time_is_a_walk_along_an_index() {
    let database = postgres::database().await;
    let tenants = tenants(&database).await;
    fill(&database, tenants, 30_000).await;
    let mut connection = postgres::owner(&database).await;
    let plan = plan(&mut connection, tenants[0]).await;
    assert!(plan.contains("Index Scan using calls_page on calls"), "{plan}");
    assert!(plan.contains("Index Cond: ((tenant_id = "), "{plan}");
    for slow in ["Seq Scan", "Sort", "Bitmap"] {
        assert!(!plan.contains(slow), "{slow} in {plan}");
    }
}

#[tokio::test]
async fn pages_within_a_stretch_of_time_follow_each_other_without_gap_or_double() {
    let database = postgres::database().await;
    let tenants = tenants(&database).await;
    fill(&database, tenants, 400).await;
    let time = |text: &str| Some(text.parse::<Timestamp>().unwrap());
    let filter = CallFilter {
        from: time("2026-01-01T00:01:00Z"),
        until: time("2026-01-01T00:03:00Z"),
        ..CallFilter::default()
    };
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let page = calls::list(&database, tenants[0], &filter, after, 7).await.unwrap();
        seen.extend(page.calls.into_iter().map(|call| call.id));
        // The last call of a page may be deleted before the next page is asked for.
        if after.is_none() {
            let gone = format!("DELETE FROM calls WHERE id = '{}'", page.next.unwrap());
            postgres::execute(&database, &gone).await.unwrap();
        }
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(seen.len(), 60, "every second call of two minutes");
    assert!(seen.is_sorted_by(|a, b| a > b), "newest first");
}
