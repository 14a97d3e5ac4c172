//! What calls out may use in a day, over restarts of the node.

use crate::call_out;
use crate::carrier;
use crate::carrier::CALLED;
use crate::carrier::NUMBER;
use crate::carrier::calls;
use crate::carrier::hear_bye;
use crate::carrier::pick_up;
use crate::carrier::shown;
use crate::node::Home;
use crate::node::Node;
use crate::node::wait_for;
use crate::phone::Phone;
use crate::rows;
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

/// A node that passes each call on by a trunk of which the day pays one minute, and its carrier.
async fn forwarding(more: serde_json::Value) -> (Node, Phone) {
    let node = Home::new().start().await;
    let far = carrier::carrier(&node, "127.0.0.9").await;
    node.put(&[
        carrier::trunk(4, "127.0.0.9/32", &[far.local()], more),
        carrier::tenant(1, 4),
        rows::profile(2, 1, json!({"kind": "forward", "to": CALLED})),
        rows::number(3, 1, 2, NUMBER),
    ])
    .await;
    (node, far)
}

async fn caller(node: &Node) -> Phone {
    let mut phone = Phone::new("127.0.0.9".parse().unwrap(), node.sip(), NUMBER).await;
    let offer = phone.sdp();
    let invite = phone.request("INVITE", "", &offer);
    phone.send(invite).await;
    phone
}

/// Whether a call is passed on; it is over afterwards.
async fn goes_on(node: &Node, far: &mut Phone) -> bool {
    let mut phone = caller(node).await;
    let invite = tokio::select! {
        invite = far.expect("INVITE ") => invite,
        _ = phone.outcome("INVITE") => return false,
    };
    pick_up(far, &invite).await;
    let ok = phone.outcome("INVITE").await;
    phone.confirm(&ok);
    phone.acknowledge().await;
    phone.hang_up().await;
    hear_bye(far).await;
    node.record(&phone.call_id).await;
    true
}

#[tokio::test]
async fn what_forwarded_legs_spent_before_a_kill_is_spent_after_it() {
    let (mut node, mut far) = forwarding(json!({"security": {
        "daily_spend": {"amount": 2.0, "currency": "USD"},
        "rates": [{"prefix": "+1555", "per_minute": 1.0, "increment_s": 60}],
    }}))
    .await;
    // Each takes a begun minute: the day has two.
    assert!(goes_on(&node, &mut far).await);
    node.signal("KILL");
    node.ended().await;
    node.launch().await;
    wait_for("the budget goes on", async || {
        node.log().contains("go on from before the start").then_some(())
    })
    .await;
    far.switch = node.sip();
    assert!(goes_on(&node, &mut far).await, "a minute is left");
    assert!(!goes_on(&node, &mut far).await, "the first counts after the restart, too");
}

#[tokio::test]
async fn a_running_call_ends_when_it_has_talked_the_minutes_of_its_day() {
    let more = json!({"security": {"daily_minutes": 1}});
    let (mut node, mut far, key) = call_out::node(json!({"kind": "echo"}), more).await;
    // Most of the minute was talked before, by records that a start reads.
    let call = call_out::place(&node, &key, json!({"to": CALLED, "from": NUMBER})).await;
    let invite = far.expect("INVITE ").await;
    pick_up(&mut far, &invite).await;
    let path = calls(1, &format!("/{call}/hangup"));
    assert_eq!(node.post(&path, &key, &json!({})).await.status, 202);
    hear_bye(&far).await;
    shown(&node, 1, &call, &key).await;
    let talked = format!("UPDATE calls SET duration_ms = 57000 WHERE id = '{call}'");
    crate::postgres::execute(&node.database(), &talked).await.unwrap();
    node.signal("KILL");
    node.ended().await;
    node.launch().await;
    wait_for("the budget goes on", async || {
        node.log().contains("go on from before the start").then_some(())
    })
    .await;
    far.switch = node.sip();
    let call = call_out::place(&node, &key, json!({"to": CALLED, "from": NUMBER})).await;
    let invite = far.expect("INVITE ").await;
    pick_up(&mut far, &invite).await;
    let bye = hear_bye(&far).await;
    assert!(bye.header("reason").contains("text=\"budget_spent\""), "{bye:?}");
    let record = shown(&node, 1, &call, &key).await;
    assert_eq!((&record["cause"], &record["ended_by"]), (&json!("budget_spent"), &json!("switch")));
    let lasted = record["duration_ms"].as_u64().unwrap();
    assert!((2_000..20_000).contains(&lasted), "{record}");
    assert_eq!(one_more(&node, &key).await, (403, "budget_spent".to_owned()));
}
