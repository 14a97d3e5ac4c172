//! The interface of a node that lost its PostgreSQL: calls are steered, nothing is half written.

use crate::call_out::node;
use crate::call_out::place;
use crate::carrier;
use crate::carrier::CALLED;
use crate::carrier::NUMBER;
use crate::carrier::answer;
use crate::carrier::calls;
use crate::carrier::hear_bye;
use crate::http;
use crate::node::Node;
use crate::node::wait_for;
use crate::postgres;
use crate::rows;
use serde_json::Value;
use serde_json::json;
use sqlx::Connection;
use sqlx::PgConnection;
use tandem::store::api_keys;
use tandem::store::api_keys::KeyRole;
use tandem::store::api_keys::KeyScope;
use tandem::types::id::TenantId;

/// In the data directory: the process of the node's PostgreSQL, and more.
const PROCESS_FILE: &str = "postgres/postmaster.pid";

/// The process of the node's PostgreSQL, if it says one.
fn process(node: &Node) -> Option<String> {
    let text = std::fs::read_to_string(node.home.data_dir().join(PROCESS_FILE)).ok()?;
    text.lines().next().map(str::to_owned)
}

/// Sends the node's PostgreSQL a signal; returns its process.
fn signal(node: &Node, signal: &str) -> String {
    let process = process(node).unwrap();
    let sent = std::process::Command::new("kill").args([signal, &process]).status();
    assert!(sent.unwrap().success());
    process
}

/// Stops the node's PostgreSQL, and waits until the node has noticed.
async fn lose_database(node: &Node) {
    signal(node, "-INT");
    let file = node.home.data_dir().join(PROCESS_FILE);
    wait_for("PostgreSQL has stopped", async || (!file.exists()).then_some(())).await;
    wait_for("the node has noticed", async || {
        (node.get("/readyz").await.json()["database"] == false).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_private_database_that_is_killed_is_started_again() {
    let (node, _far, _key) = node(json!({"kind": "echo"}), json!({})).await;
    let database = node.database();
    let killed = signal(&node, "-KILL");
    wait_for("PostgreSQL runs again", async || process(&node).filter(|process| *process != killed))
        .await;
    let options = database.owner_options();
    wait_for("it takes connections", async || PgConnection::connect_with(options).await.ok()).await;
    wait_for("the node is back at it", async || {
        (node.get("/readyz").await.json()["database"] == true).then_some(())
    })
    .await;
    assert_eq!(node.count("SELECT count(*) FROM tenants").await, 1);
}

#[tokio::test]
async fn without_its_database_the_api_steers_calls_and_writes_nothing() {
    let (mut node, mut far, key) = node(json!({"kind": "echo"}), json!({})).await;
    let scope = KeyScope::Tenant(TenantId::from_uuid(rows::uuid(1)));
    let database = node.database();
    let made = api_keys::create(&database, scope, KeyRole::Admin, "gone", None).await.unwrap();
    let revoked = made.key.expose().clone();
    let all = node.operator_key().await;
    assert!(api_keys::revoke(&database, scope, made.id).await.unwrap());
    // What is in force after the keys: the node has seen those.
    node.put(&["UPDATE tenants SET cps_max = 77".to_owned()]).await;
    let call = place(&node, &key, json!({"to": CALLED, "from": NUMBER})).await;
    answer(&mut far).await;
    lose_database(&node).await;

    let states = node.read("/api/v1/trunk-states", &all).await;
    assert_eq!(states["trunks"][0]["calls"], 1, "{states}");
    let numbers = format!("/api/v1/tenants/{}/numbers", rows::uuid(1));
    let number = json!({"first_number": "+15550177"});
    for (path, key) in [(&numbers, &key), (&numbers, &revoked)] {
        let answer = node.post(path, key, &number).await;
        assert!([403, 503].contains(&answer.status), "{}", answer.body);
    }
    let profile = json!({"name": "x", "system_prompt": "x", "agent": {"kind": "echo"}});
    let profiles = format!("/api/v1/tenants/{}/ai-profiles", rows::uuid(1));
    let refused = node.post(&profiles, &key, &profile).await;
    assert_eq!(refused.json()["code"], "database_unavailable", "{}", refused.body);
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("5")));
    // A revoked key opens nothing, though it is the database that knows it.
    let hang_up = calls(1, &format!("/{call}/hangup"));
    let answer = node.post(&hang_up, &revoked, &Value::Null).await;
    assert_eq!(answer.json()["code"], "database_unavailable", "{}", answer.body);
    let unknown = http::request(node.http(), "POST", &hang_up, &[("x-api-key", "x".into())]).await;
    assert_eq!(unknown.status, 401, "{}", unknown.body);
    let done = node.post(&hang_up, &key, &Value::Null).await;
    assert_eq!(done.status, 202, "{}", done.body);
    hear_bye(&far).await;
    let another = place(&node, &key, json!({"to": CALLED, "from": NUMBER})).await;
    let invite = far.expect("INVITE ").await;
    carrier::refuse(&far, &invite, "486 Busy Here", "").await;

    node.signal("TERM");
    assert!(node.ended().await.success());
    let cluster = node.home.cluster();
    let database = cluster.database();
    let sql = "SELECT (SELECT count(*) FROM ai_profiles) + (SELECT count(*) FROM phone_numbers)";
    assert_eq!(postgres::count(&database, sql).await, 2);
    drop(database);
    cluster.stop().unwrap();
    // Both calls are told of as soon as the database is back.
    node.launch().await;
    let (first, second) = (call.clone(), another.clone());
    for call in [call, another] {
        let record = carrier::shown(&node, 1, &call, &key).await;
        assert_eq!(record["tenant_id"], rows::uuid(1).to_string(), "{record}");
    }
    // And so is what was done meanwhile, though the process that did it is gone.
    for (action, of) in [("hangup", &first), ("create", &second)] {
        let done = format!(
            "SELECT count(*) FROM audit_log WHERE action = '{action}' AND subject_id = '{of}' \
             AND api_key_id IS NOT NULL"
        );
        wait_for("the command stands in the audit log", async || {
            (node.count(&done).await == 1).then_some(())
        })
        .await;
    }
    assert!(!node.home.data_dir().join("audit-waiting.jsonl").exists(), "all is stored");
}
