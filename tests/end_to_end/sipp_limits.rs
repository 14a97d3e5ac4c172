//! Calls out that are too many, with SIPp as the carrier that counts them.

use crate::call_out::place;
use crate::carrier::CALLED;
use crate::carrier::NUMBER;
use crate::carrier::calls;
use crate::node::Node;
use crate::node::wait_for;
use crate::sipp_carrier::Gateway;
use crate::sipp_carrier::by_udp;
use crate::sipp_carrier::dial;
use crate::sipp_carrier::in_order;
use crate::sipp_carrier::node;
use crate::sipp_carrier::outcome;
use crate::sipp_carrier::trunk;
use serde_json::json;

/// Waits until a call is answered.
async fn answered(node: &Node, call: &str) {
    let sql = format!("SELECT count(*) FROM calls WHERE id = '{call}' AND answered_at IS NOT NULL");
    wait_for("the answer", async || (node.count(&sql).await == 1).then_some(())).await;
}

async fn hang_up(node: &Node, key: &str, call: &str) {
    let path = calls(1, &format!("/{call}/hangup"));
    assert_eq!(node.post(&path, key, &json!({})).await.status, 202);
}

/// The record of the call that was refused for this cause.
async fn refused_with(node: &Node, cause: &str) {
    let sql = format!(
        "SELECT count(*) FROM calls WHERE cause = '{cause}' AND sip_status = 503 \
         AND jsonb_array_length(decision) > 0"
    );
    wait_for(cause, async || (node.count(&sql).await == 1).then_some(())).await;
}

#[tokio::test]
async fn calls_out_wait_for_their_turn_or_are_refused_as_the_trunk_says() {
    let patient = Gateway::new("carrier-answers", 4).await;
    let strict = Gateway::new("carrier-answers", 1).await;
    let limits = |overflow: &str, queue_ms: u32| json!({"limits": {"cps_out": 1, "cps_overflow": overflow, "queue_ms": queue_ms}});
    let (node, key) = node(vec![
        trunk(4, in_order(&[by_udp(patient.address)]), limits("queue", 3_500)),
        trunk(5, in_order(&[by_udp(strict.address)]), limits("reject_503", 3_500)),
    ])
    .await;
    let wish = |trunk: &str| json!({"to": CALLED, "from": NUMBER, "trunk": trunk});
    let mut waiting = Vec::new();
    for _ in 0..4 {
        waiting.push(place(&node, &key, wish("trunk-4")).await);
    }
    for call in &waiting {
        let (record, steps) = outcome(&node, &key, call).await;
        assert_eq!(record["cause"], "normal", "{steps}");
    }
    // Each went a second after the one before it, so the last three after the first was asked for.
    let spread = "SELECT count(*) FROM calls \
                  HAVING max(answered_at) - min(arrived_at) >= interval '2.9 s'";
    assert_eq!(node.count(spread).await, 4);
    patient.finishes().await;

    let wish = wish("trunk-5");
    let path = calls(1, "");
    // The second is refused where it is asked for or, where the first is not on its way yet, a little
    // later: its record says the same.
    let answers = tokio::join!(node.post(&path, &key, &wish), node.post(&path, &key, &wish));
    assert!([answers.0, answers.1].iter().all(|answer| matches!(answer.status, 201 | 429)));
    refused_with(&node, "trunk_limit").await;
    strict.finishes().await;
}

#[tokio::test]
async fn channels_and_calls_to_one_number_are_limited_and_given_back() {
    let narrow = Gateway::new("carrier-holds", 2).await;
    let wide = Gateway::new("carrier-holds", 1).await;
    let gateways = in_order(&[by_udp(narrow.address), by_udp(wide.address)]);
    let mut limited = gateways.clone();
    limited[0]["channels"] = json!(1);
    let rated = Gateway::new("carrier-answers", 2).await;
    let rate = json!({"security": {"max_calls_per_destination_per_min": 2}});
    let (node, key) = node(vec![
        trunk(4, limited, json!({"limits": {"channels_out": 2}})),
        trunk(5, in_order(&[by_udp(rated.address)]), rate),
    ])
    .await;
    // One for the first gateway, one for the second, and none for the trunk.
    let first = dial(&node, &key, 4).await;
    answered(&node, &first).await;
    let second = dial(&node, &key, 4).await;
    answered(&node, &second).await;
    let wish = json!({"to": CALLED, "from": NUMBER, "trunk": "trunk-4"});
    let third = node.post(&calls(1, ""), &key, &wish).await;
    assert_eq!((third.status, third.json()["code"].as_str()), (429, Some("trunk_limit")));
    refused_with(&node, "trunk_limit").await;
    hang_up(&node, &key, &second).await;
    let steps = outcome(&node, &key, &second).await.1;
    assert!(steps.contains("try: 1: g1") && steps.contains("try: 2: g2"), "{steps}");
    wide.finishes().await;
    hang_up(&node, &key, &first).await;
    outcome(&node, &key, &first).await;
    // The gateway's channel is free once the call is wholly over.
    let again = wait_for("a free channel", async || {
        let answer = node.post(&calls(1, ""), &key, &wish).await;
        answer.json()["id"].as_str().map(str::to_owned)
    })
    .await;
    answered(&node, &again).await;
    hang_up(&node, &key, &again).await;
    assert_eq!(outcome(&node, &key, &again).await.0["cause"], "normal");
    narrow.finishes().await;

    for _ in 0..2 {
        let call = dial(&node, &key, 5).await;
        assert_eq!(outcome(&node, &key, &call).await.0["cause"], "normal");
    }
    rated.finishes().await;
    let wish = json!({"to": CALLED, "from": NUMBER, "trunk": "trunk-5"});
    let refused = node.post(&calls(1, ""), &key, &wish).await;
    assert_eq!((refused.status, refused.json()["code"].as_str()), (429, Some("destination_limit")));
    let sql = "SELECT count(*) FROM calls WHERE cause = 'destination_limit' AND sip_status = 503 \
               AND decision::text LIKE '%called 2 times within a minute already%'";
    wait_for("the record", async || (node.count(sql).await == 1).then_some(())).await;
}
