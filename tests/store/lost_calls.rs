//! Calls of nodes that do not come back, and of one that does after all.

use crate::journal::answer;
use crate::journal::finish;
use crate::journal::opened;
use crate::journal::until;
use crate::journal::write;
use crate::postgres;
use crate::postgres::Scratch;
use crate::rows;
use sqlx::AssertSqlSafe;
use std::path::Path;
use tandem::cdr::CallLog;
use tandem::clock;
use tandem::store::calls;
use tandem::store::database::Database;
use tandem::store::journal::Journal;
use tandem::store::lost_calls;
use tandem::store::statements;
use tandem::store::upload::Uploader;
use tandem::types::id::CallId;
use tandem::types::id::NodeId;
use tandem::types::id::TenantId;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// A node that carries its records into the database.
struct Node {
    id: NodeId,
    journal: Journal,
    stop: watch::Sender<bool>,
    uploader: JoinHandle<()>,
}

impl Node {
    async fn start(database: &Database, dir: &Path) -> Self {
        let id = clock::new_node_id();
        let sql = format!("INSERT INTO nodes (id, name) VALUES ('{id}', '')");
        postgres::execute(database, &sql).await.unwrap();
        let journal = Journal::open(&dir.join(id.to_string())).unwrap();
        let (stop, stopping) = watch::channel(false);
        let uploader = Uploader::new(&journal, database.clone(), id);
        Self { id, stop, uploader: tokio::spawn(uploader.run(stopping)), journal }
    }

    /// Writes what is new of a call, and waits until the database has it.
    async fn tell(&self, log: &mut CallLog) -> CallId {
        let before = self.journal.health().uploaded();
        let id = write(&self.journal, log).await;
        until(|| self.journal.health().uploaded() > before).await;
        id
    }

    async fn end(self) {
        self.stop.send_replace(true);
        self.uploader.await.unwrap();
    }
}

async fn see(database: &Database, node: NodeId, ago: &str) {
    let sql = format!("UPDATE nodes SET seen_at = now() - interval '{ago}' WHERE id = '{node}'");
    postgres::execute(database, &sql).await.unwrap();
}

/// How a call ended, and the names of its events.
async fn told(database: &Database, tenant: TenantId, id: CallId) -> (Option<String>, Vec<String>) {
    let (call, events) = calls::get(database, tenant, id).await.unwrap().unwrap();
    let places: Vec<_> = events.iter().map(|event| event.seq).collect();
    assert_eq!(places, (0..).take(places.len()).collect::<Vec<_>>());
    (call.cause, events.into_iter().map(|event| event.name).collect())
}

#[tokio::test]
async fn calls_of_a_node_that_was_not_seen_for_a_day_are_closed_until_it_says_otherwise() {
    let database = postgres::database().await;
    let tenant = rows::tenant(&database, "a").await;
    let hook = format!(
        "INSERT INTO webhook_endpoints (id, tenant_id, url) VALUES ('{}', '{tenant}', 'https://y.example')",
        clock::new_uuid()
    );
    postgres::execute(&database, &hook).await.unwrap();
    let scratch = Scratch::new();
    let lost = Node::start(&database, scratch.path()).await;
    let seen = Node::start(&database, scratch.path()).await;
    let (mut of_lost, mut of_seen) = (opened(Some(tenant)), opened(Some(tenant)));
    answer(&mut of_lost);
    let (cut, goes_on) = (lost.tell(&mut of_lost).await, seen.tell(&mut of_seen).await);
    // Records of a version that names no node: one may still run.
    let nobodys = async |days: u32| {
        let id = clock::new_call_id();
        let sql = format!(
            "INSERT INTO calls (id, rev, tenant_id, direction, signalling_id, caller, dialled_text, decision, arrived_at) \
             VALUES ('{id}', 0, '{tenant}', 'inbound', 'x', 'x', 'x', '[]', now() - interval '{days} days')"
        );
        postgres::execute(&database, &sql).await.unwrap();
        id
    };
    let (old, younger) = (nobodys(9).await, nobodys(7).await);
    let close = async || lost_calls::close_all_tenants(&database).await.unwrap();
    let open = async || {
        postgres::count(&database, "SELECT count(*) FROM calls WHERE ended_at IS NULL").await
    };

    see(&database, lost.id, "23 hours").await;
    assert_eq!((close().await, open().await), (0, 4));
    see(&database, lost.id, "25 hours").await;
    assert_eq!((close().await, close().await, close().await, open().await), (2, 0, 0, 2));
    for id in [goes_on, younger] {
        assert_eq!(told(&database, tenant, id).await.0, None);
    }
    assert_eq!(told(&database, tenant, old).await.0.as_deref(), Some("interrupted"));
    let (cause, events) = told(&database, tenant, cut).await;
    assert_eq!(cause.as_deref(), Some("interrupted"));
    assert_eq!(events, ["arrived", "decided", "answered", "ended"]);
    let (call, _) = calls::get(&database, tenant, cut).await.unwrap().unwrap();
    assert_eq!((call.ended_by.as_deref(), call.times.ended), (Some("switch"), call.times.answered));
    let waiting = async |of: &str| {
        let sql = format!(
            "SELECT count(*) FROM webhook_outbox WHERE call_id = '{cut}' AND type = '{of}'"
        );
        postgres::count(&database, &sql).await
    };
    assert_eq!((waiting("call.ended").await, waiting("call.record_written").await), (1, 1));

    // The node was only cut off, and so was nobody in the call.
    finish(&mut of_lost);
    lost.tell(&mut of_lost).await;
    let (cause, events) = told(&database, tenant, cut).await;
    assert_eq!(cause.as_deref(), Some("normal"));
    assert_eq!(events, ["arrived", "decided", "answered", "media", "ended"]);
    assert_eq!((waiting("call.ended").await, waiting("call.record_written").await), (1, 1));
    // It is lost again: what names no node is over by now.
    let sql =
        format!("UPDATE calls SET arrived_at = now() - interval '9 days' WHERE id = '{younger}'");
    postgres::execute(&database, &sql).await.unwrap();
    assert_eq!(close().await, 0, "nothing is looked for twice");
    see(&database, lost.id, "10 days").await;
    let sql = "UPDATE nodes SET calls_closed_at = now() - interval '8 days' WHERE calls_closed_at IS NOT NULL";
    postgres::execute(&database, sql).await.unwrap();
    assert_eq!((close().await, open().await), (1, 1));
    assert_eq!(told(&database, tenant, goes_on).await.0, None);
    lost.end().await;
    seen.end().await;
}

#[tokio::test]
async fn calls_that_are_over_are_not_read_to_find_those_of_lost_nodes() {
    let database = postgres::database().await;
    let mut connection = postgres::owner(&database).await;
    let sql = statements::all().into_iter().find(|sql| sql.starts_with("WITH lost AS")).unwrap();
    // On a few rows only what cannot be helped is slow.
    let prepare = format!("SET enable_seqscan = off; PREPARE closing AS {sql}");
    sqlx::raw_sql(AssertSqlSafe(prepare)).execute(&mut connection).await.unwrap();
    let explain = "EXPLAIN EXECUTE closing(500, 'interrupted', 31, 480, 'switch')";
    let lines: Vec<String> = sqlx::query_scalar(explain).fetch_all(&mut connection).await.unwrap();
    let plan = lines.join("\n");
    assert!(plan.contains("calls_open"), "{plan}");
}
