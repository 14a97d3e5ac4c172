//! The HTTP interface over real connections to a real PostgreSQL.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed check may panic")]

#[path = "support/http.rs"]
mod http;
#[path = "support/postgres.rs"]
mod postgres;

use crate::http::Answer;
use arc_swap::ArcSwap;
use serde_json::Value;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use tandem::api::Context;
use tandem::api::Readiness;
use tandem::clock;
use tandem::engine::registry::Registry;
use tandem::engine::trace::Traces;
use tandem::engine::trunk_states::TrunkStates;
use tandem::routing::admission::NodeLimits;
use tandem::routing::contents::Contents;
use tandem::routing::table::RoutingTable;
use tandem::routing::table::Trunk;
use tandem::store::api_keys;
use tandem::store::api_keys::KeyRole;
use tandem::store::api_keys::KeyScope;
use tandem::store::database::Database;
use tandem::types::id::TenantId;
use tandem::types::id::TrunkId;
use tokio::net::TcpListener;
use tokio::sync::watch;

/// The interface with two tenants, of which the first has three calls.
struct Bench {
    address: SocketAddr,
    database: Database,
    draining: Arc<AtomicBool>,
    tenants: [TenantId; 2],
    /// Keys of the first tenant, the second and the operator.
    keys: [String; 3],
    _stop: watch::Sender<bool>,
}

impl Bench {
    async fn new() -> Self {
        let database = postgres::database().await;
        let tenants = [tenant(&database, "a").await, tenant(&database, "b").await];
        let mut keys = Vec::new();
        for scope in
            [KeyScope::Tenant(tenants[0]), KeyScope::Tenant(tenants[1]), KeyScope::AllTenants]
        {
            let made = api_keys::create(&database, scope, KeyRole::Viewer, "", None).await.unwrap();
            keys.push(made.key.expose().clone());
        }
        let draining = Arc::new(AtomicBool::new(false));
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopping) = watch::channel(false);
        let flag = Arc::clone(&draining);
        let readiness = Arc::new(move || Readiness {
            draining: flag.load(Ordering::Relaxed),
            routing: true,
            database: true,
            journal: true,
            calls: 0,
        });
        let contents = Contents { trunks: trunks(tenants), ..Contents::default() };
        let table = Arc::new(ArcSwap::from_pointee(RoutingTable::new(contents)));
        let traces = Traces::new(&[], Arc::clone(&table));
        let trunks = TrunkStates::new(table, Registry::new(NodeLimits::default()));
        let context = Context {
            database: database.clone(),
            metrics: None,
            readiness,
            traces,
            trunks,
            calls: None,
        };
        tokio::spawn(tandem::api::serve(listener, context, stopping));
        let keys = keys.try_into().unwrap();
        Self { address, database, draining, tenants, keys, _stop: stop }
    }

    async fn call(&self, tenant: TenantId, caller: &str) -> String {
        let id = clock::new_call_id().to_string();
        let sql = format!(
            "INSERT INTO calls (id, rev, tenant_id, direction, signalling_id, caller, dialled_text, \
                                dialled, decision, arrived_at, ended_at, cause, sip_status) \
             VALUES ('{id}', 2, '{tenant}', 'inbound', 'x@y', '{caller}', '15550100', '+15550100', \
                     '[{{\"what\": \"trunk\", \"detail\": \"t\"}}]', now(), now(), 'normal', 200); \
             INSERT INTO call_events (call_id, seq, tenant_id, at, name) \
             VALUES ('{id}', 0, '{tenant}', now(), 'arrived'), ('{id}', 1, '{tenant}', now(), 'ended')"
        );
        postgres::execute(&self.database, &sql).await.unwrap();
        id
    }

    async fn get(&self, path: &str, key: Option<&str>) -> Answer {
        let header = key.map(|key| ("authorization", format!("Bearer {key}")));
        http::request(self.address, "GET", path, header.as_slice()).await
    }

    async fn calls(&self, tenant: TenantId, query: &str, key: &str) -> Value {
        let path = format!("/api/v1/tenants/{tenant}/calls{query}");
        let answer = self.get(&path, Some(key)).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        answer.json()
    }
}

/// A trunk of each tenant, and a shared one.
fn trunks(tenants: [TenantId; 2]) -> Vec<Trunk> {
    let owners = [Some(tenants[0]), Some(tenants[1]), None];
    let trunk = |(id, tenant)| {
        let id = TrunkId::from_uuid(uuid::Uuid::from_u128(id));
        Trunk { tenant, ..Trunk::new(id, format!("trunk-{id}"), Vec::new()) }
    };
    (1..).zip(owners).map(trunk).collect()
}

#[tokio::test]
async fn a_tenant_sees_its_own_trunks_and_the_operator_those_of_the_platform_too() {
    let bench = Bench::new().await;
    let path = format!("/api/v1/tenants/{}/trunks", bench.tenants[0]);
    for (key, expected) in [(0, vec![false]), (2, vec![false, true])] {
        let answer = bench.get(&path, Some(&bench.keys[key])).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        let json = answer.json();
        let trunks = json["trunks"].as_array().unwrap();
        let shared: Vec<_> = trunks.iter().map(|trunk| trunk["shared"] == true).collect();
        assert_eq!(shared, expected, "{json}");
        assert!(trunks.iter().all(|trunk| trunk["registration"].is_null()), "{json}");
    }
    check_error(&bench.get(&path, Some(&bench.keys[1])).await, 403, "forbidden");
    check_error(&bench.get(&path, None).await, 401, "unauthorized");
}

async fn tenant(database: &Database, name: &str) -> TenantId {
    let id = clock::new_uuid();
    let sql = format!("INSERT INTO tenants (id, name) VALUES ('{id}', '{name}')");
    postgres::execute(database, &sql).await.unwrap();
    TenantId::from_uuid(id)
}

fn ids(page: &Value) -> Vec<&str> {
    page["calls"].as_array().unwrap().iter().map(|call| call["id"].as_str().unwrap()).collect()
}

fn check_error(answer: &Answer, status: u16, code: &str) {
    assert_eq!((answer.status, answer.json()["code"].as_str()), (status, Some(code)));
    let body = answer.json();
    assert_eq!(body.as_object().unwrap().len(), 3, "code, message and request_id: {body}");
    assert_eq!(body["request_id"].as_str(), answer.header("x-request-id"));
}

#[tokio::test]
async fn a_tenant_reads_its_calls_newest_first_page_by_page() {
    let bench = Bench::new().await;
    let [tenant, _] = bench.tenants;
    let mut made = Vec::new();
    for caller in ["+15557701", "+15557702", "+15557703"] {
        made.push(bench.call(tenant, caller).await);
    }
    made.reverse();
    for key in [&bench.keys[0], &bench.keys[2]] {
        let page = bench.calls(tenant, "?limit=2", key).await;
        assert_eq!(ids(&page), made[..2]);
        let next = page["next"].as_str().unwrap();
        let page = bench.calls(tenant, &format!("?limit=2&cursor={next}"), key).await;
        assert_eq!((ids(&page), &page["next"]), (vec![made[2].as_str()], &Value::Null));
    }
    let page = bench.calls(tenant, "?caller=%2B15557702", &bench.keys[0]).await;
    assert_eq!(ids(&page), made[1..2]);
    let page = bench.calls(tenant, "?from=2999-01-01T00:00:00Z", &bench.keys[0]).await;
    assert!(ids(&page).is_empty());
}

#[tokio::test]
async fn a_call_is_shown_with_its_decision_and_events() {
    let bench = Bench::new().await;
    let [tenant, other] = bench.tenants;
    let call = bench.call(tenant, "+15557701").await;
    let path = format!("/api/v1/tenants/{tenant}/calls/{call}");
    let shown = bench.get(&path, Some(&bench.keys[0])).await.json();
    assert_eq!((shown["id"].as_str(), shown["cause"].as_str()), (Some(&*call), Some("normal")));
    assert_eq!(shown["decision"][0]["what"], "trunk");
    let events: Vec<_> = shown["events"].as_array().unwrap().iter().map(|e| &e["name"]).collect();
    assert_eq!(events, ["arrived", "ended"]);

    // The call exists, but not for this tenant.
    let path = format!("/api/v1/tenants/{other}/calls/{call}");
    check_error(&bench.get(&path, Some(&bench.keys[1])).await, 404, "not_found");
    check_error(&bench.get(&path, Some(&bench.keys[2])).await, 404, "not_found");
}

#[tokio::test]
async fn without_the_right_key_nothing_is_told() {
    let bench = Bench::new().await;
    let [tenant, other] = bench.tenants;
    bench.call(tenant, "+15557701").await;
    let path = format!("/api/v1/tenants/{tenant}/calls");
    check_error(&bench.get(&path, None).await, 401, "unauthorized");
    check_error(&bench.get(&path, Some("tdm_wrong")).await, 401, "unauthorized");
    check_error(&bench.get(&path, Some(&bench.keys[1])).await, 403, "forbidden");
    // A tenant that is not there looks like one of somebody else.
    let path = "/api/v1/tenants/nobody/calls";
    check_error(&bench.get(path, Some(&bench.keys[0])).await, 403, "forbidden");
    let page = bench.calls(other, "", &bench.keys[1]).await;
    assert!(ids(&page).is_empty(), "tenants never see each other");
    let own_header = [("x-api-key", bench.keys[0].clone())];
    let path = format!("/api/v1/tenants/{tenant}/calls");
    let answer = http::request(bench.address, "GET", &path, &own_header).await;
    assert_eq!(answer.status, 200);
}

#[tokio::test]
async fn requests_that_make_no_sense_are_answered_as_such() {
    let bench = Bench::new().await;
    let path = format!("/api/v1/tenants/{}/calls", bench.tenants[0]);
    for query in ["?limit=x", "?cursor=x", "?from=yesterday", "?unknown=1"] {
        let answer = bench.get(&format!("{path}{query}"), Some(&bench.keys[0])).await;
        check_error(&answer, 400, "bad_parameter");
    }
    check_error(&bench.get("/api/v1/nothing", None).await, 404, "not_found");
    let answer = http::request(bench.address, "DELETE", &path, &[]).await;
    check_error(&answer, 405, "method_not_allowed");
}

#[tokio::test]
async fn a_lost_database_is_a_503_with_advice() {
    let bench = Bench::new().await;
    bench.database.close().await;
    let path = format!("/api/v1/tenants/{}/calls", bench.tenants[0]);
    let answer = bench.get(&path, Some(&bench.keys[0])).await;
    check_error(&answer, 503, "database_unavailable");
    assert_eq!(answer.header("retry-after"), Some("5"));
    assert_eq!(bench.get("/healthz", None).await.status, 200, "the node itself lives");
}

#[tokio::test]
async fn a_draining_node_lives_and_is_not_ready() {
    let bench = Bench::new().await;
    assert_eq!(bench.get("/readyz", None).await.status, 200);
    bench.draining.store(true, Ordering::Relaxed);
    let answer = bench.get("/readyz", None).await;
    assert_eq!((answer.status, &answer.json()["draining"]), (503, &Value::Bool(true)));
    assert_eq!(bench.get("/healthz", None).await.status, 200);
}
