//! What calls out may use in a day, over restarts of the node.

use crate::call_out;
use crate::carrier::CALLED;
use crate::carrier::NUMBER;
use crate::carrier::calls;
use crate::carrier::hear_bye;
use crate::carrier::pick_up;
use crate::carrier::shown;
use crate::node::Node;
use crate::node::wait_for;
use serde_json::json;

/// What the node answers to one more call.
async fn one_more(node: &Node, key: &str) -> (u16, String) {
    let answer = node.post(&calls(1, ""), key, &json!({"to": CALLED, "from": NUMBER})).await;
    (answer.status, answer.json()["code"].as_str().unwrap_or_default().to_owned())
}

#[tokio::test]
async fn a_budget_that_was_spent_before_a_kill_is_spent_after_it() {
    let more = json!({"security": {
        "daily_spend": {"amount": 1.0, "currency": "USD"},
        "rates": [{"prefix": "+1555", "per_minute": 1.0, "increment_s": 60}],
    }});
    let (mut node, mut far, key) = call_out::node(json!({"kind": "echo"}), more).await;
    // A begun minute is paid whole, and takes all there is.
    let call = call_out::place(&node, &key, json!({"to": CALLED, "from": NUMBER})).await;
    let invite = far.expect("INVITE ").await;
    pick_up(&mut far, &invite).await;
    let path = calls(1, &format!("/{call}/hangup"));
    assert_eq!(node.post(&path, &key, &json!({})).await.status, 202);
    hear_bye(&far).await;
    shown(&node, 1, &call, &key).await;
    let spent = || (403, "budget_spent".to_owned());
    assert_eq!(one_more(&node, &key).await, spent());

    node.signal("KILL");
    node.ended().await;
    node.launch().await;
    wait_for("the budget goes on", async || (one_more(&node, &key).await == spent()).then_some(()))
        .await;
    assert!(node.log().contains("go on from before the start"));
}

#[tokio::test]
async fn a_running_call_ends_when_it_has_spent_the_budget() {
    // A unit a second, paid second by second, of which the day has two.
    let more = json!({"security": {
        "daily_spend": {"amount": 2.0, "currency": "USD"},
        "rates": [{"prefix": "+1555", "per_minute": 60.0, "increment_s": 1}],
    }});
    let (node, mut far, key) = call_out::node(json!({"kind": "echo"}), more).await;
    let call = call_out::place(&node, &key, json!({"to": CALLED, "from": NUMBER})).await;
    let invite = far.expect("INVITE ").await;
    pick_up(&mut far, &invite).await;
    let bye = hear_bye(&far).await;
    assert!(bye.header("reason").contains("text=\"budget_spent\""), "{bye:?}");
    let record = shown(&node, 1, &call, &key).await;
    assert_eq!((&record["cause"], &record["ended_by"]), (&json!("budget_spent"), &json!("switch")));
    assert!(record["duration_ms"].as_u64().unwrap() >= 1_000, "{record}");
    assert_eq!(one_more(&node, &key).await, (403, "budget_spent".to_owned()));
}
