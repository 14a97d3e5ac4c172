//! A peer that hangs up in the same breath as the call is answered, before any ACK.

use crate::call_out;
use crate::call_out::place;
use crate::carrier::CALLED;
use crate::carrier::NUMBER;
use crate::carrier::shown;
use crate::node::wait_for;
use crate::phone::Phone;
use serde_json::json;
use std::time::Duration;

/// Longer than two repetitions of an answer that nobody acknowledged.
const REPETITIONS: Duration = Duration::from_millis(1_800);

#[tokio::test]
async fn a_caller_that_hangs_up_without_an_ack_ends_the_call_and_the_repetition_of_its_answer() {
    let (node, _far, _) = call_out::node(json!({"kind": "echo"}), json!({})).await;
    let mut phone = Phone::new("127.0.0.9".parse().unwrap(), node.sip(), NUMBER).await;
    let offer = phone.sdp();
    let answer = phone.ask("INVITE", "", &offer).await;
    assert_eq!(answer.status(), 200, "{answer:?}");
    phone.confirm(&answer);
    phone.hang_up().await;
    let record = node.record(&phone.call_id).await;
    assert_eq!((record.cause.as_str(), record.ended_by.as_str()), ("normal", "caller"));
    let more = phone.hear_within(REPETITIONS).await;
    assert!(more.is_none(), "the call is over, and still {more:?}");
    // The ACK comes after all: it is nobody's.
    phone.acknowledge().await;
    assert!(phone.is_served().await);
    wait_for("nothing is left", async || (node.metric("calls_open").await == 0).then_some(()))
        .await;
}

#[tokio::test]
async fn a_carrier_that_answers_and_hangs_up_at_once_gets_its_ack_and_the_call_ends() {
    let (node, mut far, key) = call_out::node(json!({"kind": "echo"}), json!({})).await;
    let call = place(&node, &key, json!({"to": CALLED})).await;
    let invite = far.expect("INVITE ").await;
    far.take(&invite);
    // Both are on their way before our ACK can be.
    far.respond(&invite, "200 OK", "", &far.sdp()).await;
    let bye = far.request("BYE", "", "");
    far.send(bye).await;
    let (mut is_acknowledged, mut is_over) = (false, false);
    while !(is_acknowledged && is_over) {
        let heard = far.hear().await;
        is_acknowledged |= heard.start.starts_with("ACK ");
        is_over |= heard.status() == 200 && heard.header("cseq") == format!("{} BYE", far.cseq);
    }
    let record = shown(&node, 1, &call, &key).await;
    assert_eq!((&record["cause"], &record["ended_by"]), (&json!("normal"), &json!("caller")));
    wait_for("nothing is left", async || (node.metric("calls_open").await == 0).then_some(()))
        .await;
}
