//! Call records, health, and what every answer has.

use crate::bench::Bench;
use crate::bench::check_error;
use crate::bench::check_field;
use crate::bench::ids;
use crate::http;
use crate::postgres;
use serde_json::Value;
use serde_json::json;
use std::sync::atomic::Ordering;

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
    // Nor is a key that opens all of them blamed where the path names none, as of an empty variable.
    for path in [path, "/api/v1/tenants//calls"] {
        check_error(&bench.get(path, Some(&bench.keys[2])).await, 404, "not_found");
    }
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
    for query in [
        "?limit=x",
        "?limit=0",
        "?limit=201",
        "?limit=9999",
        "?live=true&limit=0",
        "?cursor=x",
        "?from=yesterday",
        "?unknown=1",
        "?cause=normal&cause=busy",
    ] {
        let answer = bench.get(&format!("{path}{query}"), Some(&bench.keys[0])).await;
        check_error(&answer, 400, "bad_parameter");
    }
    for (query, field) in [
        ("cursor=x", "cursor"),
        ("limit=x", "limit"),
        ("limit=0", "limit"),
        ("from=yesterday", "from"),
        ("until=2026-01-31", "until"),
        ("live=yes", "live"),
        // A + that is not escaped is a space.
        ("caller=+15550177", "caller"),
        ("dialled=+15550100", "dialled"),
    ] {
        let answer = bench.get(&format!("{path}?{query}"), Some(&bench.keys[0])).await;
        check_field(&answer, 400, "bad_parameter", field);
    }
    check_error(&bench.get("/api/v1/nothing", None).await, 404, "not_found");
    let answer = http::request(bench.address, "DELETE", &path, &[]).await;
    check_error(&answer, 405, "method_not_allowed");
}

#[tokio::test]
async fn what_the_database_cannot_take_is_the_requests_fault_and_named() {
    let bench = Bench::new().await;
    let path = bench.path(0, "calls");
    let long_ago = "-009998-01-01T00:00:00Z";
    for (query, field) in [
        ("caller=%00".to_owned(), "caller"),
        ("dialled=%2B1555%00".to_owned(), "dialled"),
        ("cause=a%00b".to_owned(), "cause"),
        ("disposition=%00".to_owned(), "disposition"),
        (format!("from={long_ago}"), "from"),
        (format!("until={long_ago}"), "until"),
    ] {
        let answer = bench.get(&format!("{path}?{query}"), Some(&bench.keys[0])).await;
        check_field(&answer, 400, "invalid_value", field);
    }
    // The first year of our era is a time like any other.
    let page = bench.calls(bench.tenants[0], "?from=0001-01-01T00:00:00Z", &bench.keys[0]).await;
    assert!(ids(&page).is_empty());
    let hook = json!({"url": "https://hooks.example/"});
    let hook = bench.make(&bench.path(0, "webhooks"), 0, hook).await;
    let replay = bench.path(0, &format!("webhooks/{}/replay", hook["id"].as_str().unwrap()));
    let call = bench.call(bench.tenants[0], "+15557701").await;
    let turns = bench.path(0, &format!("calls/{call}/transcript"));
    let turn = json!({"seq": 0, "speaker": "caller", "text": "x", "at": long_ago});
    for (path, body, field) in [
        (&replay, json!({"from": long_ago}), "from"),
        (&replay, json!({"until": long_ago}), "until"),
        (&turns, json!({"turns": [turn]}), "turns.0.at"),
    ] {
        check_field(&bench.send(("POST", path), 0, &body).await, 400, "invalid_value", field);
    }
}

#[tokio::test]
async fn a_lost_database_is_a_503_with_advice() {
    let bench = Bench::new().await;
    bench.database.close().await;
    let path = format!("/api/v1/tenants/{}/calls", bench.tenants[0]);
    let answer = bench.get(&path, Some(&bench.keys[0])).await;
    check_error(&answer, 503, "database_unavailable");
    assert_eq!(answer.header("retry-after"), Some("5"));
    let path = bench.path(0, "numbers");
    let body = serde_json::json!({"first_number": "+15550100"});
    check_error(&bench.send(("POST", &path), 0, &body).await, 503, "database_unavailable");
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

#[tokio::test]
async fn what_cannot_be_noted_is_not_done_but_calls_can_be_hung_up() {
    let bench = Bench::with_full_audit_log().await;
    let call = bench.call(bench.tenants[0], "+15550177").await;
    for (name, code) in
        [("hold", "node_busy"), ("record/start", "node_busy"), ("hangup", "no_calls")]
    {
        let path = bench.path(0, &format!("calls/{call}/{name}"));
        let answer = bench.send(("POST", &path), 0, &json!({})).await;
        check_error(&answer, 503, code);
        assert_eq!(answer.header("retry-after").is_some(), code == "node_busy", "{name}");
    }
    let free = Bench::new().await;
    let path = free.path(0, &format!("calls/{call}/hold"));
    check_error(&free.send(("POST", &path), 0, &json!({})).await, 503, "no_calls");
}

#[tokio::test]
async fn each_filter_of_the_list_narrows_it_by_itself_and_with_the_others() {
    let bench = Bench::new().await;
    let [tenant, _] = bench.tenants;
    let mut made = Vec::new();
    for (place, caller) in ["+15557701", "+15557702", "+15557703"].into_iter().enumerate() {
        let id = bench.call(tenant, caller).await;
        // Each differs from the others in everything that a list goes by; its identity tells its time, too.
        let sql = format!(
            "UPDATE calls SET id = tandem_id_floor(at), arrived_at = at, ended_at = at, dialled = '+1555010{place}', \
                    cause = 'cause_{place}', disposition = 'filed_{place}' \
             FROM (SELECT timestamptz '2026-01-01 00:00Z' + interval '{place} days' AS at) t WHERE id = '{id}'"
        );
        postgres::execute(&bench.database, &format!("DELETE FROM call_events; {sql}"))
            .await
            .unwrap();
        let named = format!("SELECT id::text FROM calls WHERE cause = 'cause_{place}'");
        made.push(postgres::text(&bench.database, &named).await);
    }
    let list = async |query: &str| {
        let page = bench.calls(tenant, query, &bench.keys[0]).await;
        ids(&page).into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    let newest_first = [made[2].clone(), made[1].clone(), made[0].clone()];
    assert_eq!(list("").await, newest_first);
    for one in [
        "caller=%2B15557702",
        "dialled=%2B15550101",
        "cause=cause_1",
        "disposition=filed_1",
        "from=2026-01-02T00:00:00Z&until=2026-01-02T00:00:01Z",
    ] {
        assert_eq!(list(&format!("?{one}")).await, [made[1].clone()], "{one}");
        // Two that fit no call together.
        assert_eq!(list(&format!("?{one}&limit=1")).await, [made[1].clone()], "{one}");
        for other in ["cause=cause_0", "caller=%2B15557703"] {
            if one.split('=').next() != other.split('=').next() {
                assert_eq!(
                    list(&format!("?{one}&{other}")).await,
                    Vec::<String>::new(),
                    "{one}&{other}"
                );
            }
        }
    }
    assert_eq!(list("?from=2026-01-02T00:00:00Z").await, newest_first[..2]);
    assert_eq!(list("?until=2026-01-02T00:00:00Z").await, newest_first[2..]);
    assert_eq!(list(&format!("?cursor={}", made[2])).await, newest_first[1..]);
}
