//! Secrets of trunks and agents: given, sealed, used, never shown.

use crate::bench::Bench;
use crate::bench::check_field;
use crate::postgres;
use serde_json::Value;
use serde_json::json;
use tandem::store::api_keys::KeyRole;
use tandem::store::api_keys::KeyScope;
use tandem::store::seal::Sealer;
use tandem::store::snapshot;

const A: usize = 0;

/// A trunk whose carrier answers to a password.
fn trunk() -> Value {
    let digest = json!({
        "mode": "required", "username": "u", "password_ref": "sealed:carrier", "realm": "r"
    });
    json!({
        "name": "t", "profile": "generic",
        "overrides": {"inbound": {"source_cidrs": ["192.0.2.1"], "digest": digest}},
        "secrets": {"carrier": "hunter2"}
    })
}

#[tokio::test]
async fn a_secret_is_used_for_calls_and_shown_nowhere() {
    let bench = Bench::new().await;
    let path = bench.path(0, "trunks");
    let answer = bench.send(("POST", &path), A, &trunk()).await;
    assert_eq!(answer.status, 201, "{}", answer.body);
    let made = answer.json();
    assert_eq!(made["secrets"], json!(["carrier"]));
    let item = format!("{path}/{}", made["id"].as_str().unwrap());
    for path in [path.clone(), item.clone(), bench.path(0, "audit-log")] {
        let shown = bench.read(&path, A).await.to_string();
        assert!(!shown.contains("hunter2") && !shown.contains("\"1."), "{path}: {shown}");
    }
    let stored = postgres::text(&bench.database, "SELECT sealed::text FROM trunks").await;
    assert!(stored.contains("carrier") && !stored.contains("hunter2"), "{stored}");

    let composer = bench.composing.borrow().clone();
    let snapshot = snapshot::load_all_tenants(&bench.database, &composer).await.unwrap();
    assert!(snapshot.faults.is_empty(), "{:?}", snapshot.faults);
    let digest = snapshot.contents.trunks[0].digest.clone().unwrap();
    assert_eq!(digest.password.expose(), "hunter2");

    // Another change keeps it; null takes it away, but not while it is needed.
    let answer = bench.send(("PATCH", &item), A, &json!({"enabled": true})).await;
    assert_eq!(answer.json()["secrets"], json!(["carrier"]), "{}", answer.body);
    let answer = bench.send(("PATCH", &item), A, &json!({"secrets": {"carrier": null}})).await;
    check_field(&answer, 400, "invalid_value", "overrides.inbound.digest.password_ref");
    let answer = bench.send(("PATCH", &item), A, &json!({"secrets": {"carrier": "new"}})).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let snapshot = snapshot::load_all_tenants(&bench.database, &composer).await.unwrap();
    let digest = snapshot.contents.trunks[0].digest.clone().unwrap();
    assert_eq!(digest.password.expose(), "new");
    let log = bench.read(&bench.path(0, "audit-log?action=update"), A).await;
    assert_eq!(log["entries"][0]["detail"]["secrets"], "changed");
}

#[tokio::test]
async fn an_agent_has_secrets_too() {
    let bench = Bench::new().await;
    let path = bench.path(0, "ai-profiles");
    let agent = json!({"kind": "twilio", "url": "ws://bot", "auth_token_ref": "sealed:token"});
    let body = json!({
        "name": "x", "system_prompt": "You answer.", "agent": agent, "secrets": {"token": "t"}
    });
    let made = bench.make(&path, A, body.clone()).await;
    assert_eq!(made["secrets"], json!(["token"]));
    let mut foreign = body;
    foreign["name"] = json!("y");
    foreign["agent"]["auth_token_ref"] = json!("env:CARRIER");
    let answer = bench.send(("POST", &path), A, &foreign).await;
    check_field(&answer, 400, "invalid_value", "agent.auth_token_ref");
    let answer = bench.send(("POST", &path), 2, &foreign).await;
    assert_eq!(answer.status, 201, "the platform may name what is the node's: {}", answer.body);
}

#[tokio::test]
async fn without_a_key_to_seal_with_a_secret_is_not_taken() {
    let bench = Bench::new().await;
    bench.composing.send_modify(|composer| composer.sealer = Sealer::default());
    let answer = bench.send(("POST", &bench.path(0, "trunks")), A, &trunk()).await;
    check_field(&answer, 409, "conflict", "secrets");
    assert_eq!(postgres::count(&bench.database, "SELECT count(*) FROM trunks").await, 0);
}

#[tokio::test]
async fn an_operator_has_a_secret_told_nowhere_but_where_an_admin_did() {
    let bench = Bench::new().await;
    let path = bench.path(0, "ai-profiles");
    let hook = |url: &str| json!({"url": url, "secret_ref": "sealed:hook"});
    let agent = json!({
        "kind": "chan_websocket", "url": "wss://bot.example/a?b=c", "bearer_token_ref": "sealed:token"
    });
    let profile = json!({
        "name": "p", "system_prompt": "x", "agent": agent, "answer_webhook": hook("https://crm.example/who"),
        "secrets": {"token": "hunter2", "hook": "hunter3", "spare": "hunter4"}
    });
    let made = bench.make(&path, A, profile).await;
    let item = format!("{path}/{}", made["id"].as_str().unwrap());
    let operator = bench.key(KeyScope::Tenant(bench.tenants[0]), KeyRole::Operator).await;
    let change = async |change: Value| {
        let headers =
            [("x-api-key", operator.clone()), ("content-type", "application/json".to_owned())];
        crate::http::request_as(bench.address, ("PATCH", &item), &headers, &change.to_string())
            .await
    };
    // The place stays: another path, another manner.
    for good in [
        json!({"agent": {"url": "wss://bot.example/other"}}),
        json!({"agent": {"connect_timeout_ms": 4000}}),
        json!({"answer_webhook": {"url": "https://crm.example/else"}}),
        json!({"name": "q"}),
    ] {
        let answer = change(good.clone()).await;
        assert_eq!(answer.status, 200, "{good}: {}", answer.body);
    }
    for bad in [
        json!({"agent": {"url": "wss://mine.example/a"}}),
        json!({"agent": {"url": "wss://bot.example:444/a"}}),
        json!({"agent": {"url": "wss://mine@bot.example/a"}}),
        json!({"agent": {"bearer_token_ref": "sealed:spare"}}),
        json!({"agent": {"kind": "sip", "uri": "sips:a@mine.example", "username": "u", "url": null,
                         "bearer_token_ref": null, "password_ref": "sealed:token"}}),
        json!({"agent": {"url": "wss://mine.example/a"}, "secrets": {"spare": "x"}}),
        json!({"answer_webhook": {"url": "https://mine.example/who"}}),
    ] {
        check_field(&change(bad.clone()).await, 400, "invalid_value", "secrets");
    }
    // Nor in two steps.
    let without =
        change(json!({"agent": {"url": "wss://mine.example/a", "bearer_token_ref": null}})).await;
    assert_eq!(without.status, 200, "{}", without.body);
    let again = change(json!({"agent": {"bearer_token_ref": "sealed:token"}})).await;
    check_field(&again, 400, "invalid_value", "secrets");
    let own = json!({"agent": {"bearer_token_ref": "sealed:token"}, "secrets": {"token": "own"}});
    let own = change(own).await;
    assert_eq!(own.status, 200, "{}", own.body);
    let moved = json!({"agent": {"url": "wss://other.example/a"}});
    check_field(&change(moved.clone()).await, 400, "invalid_value", "secrets");
    let by_admin = bench.send(("PATCH", &item), A, &moved).await;
    assert_eq!(by_admin.status, 200, "{}", by_admin.body);
}
