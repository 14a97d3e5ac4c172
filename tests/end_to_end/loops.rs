//! Calls that come back to us: who passes them back makes calls of its own of them, with hops anew.

use crate::carrier;
use crate::carrier::CALLED;
use crate::carrier::NUMBER;
use crate::carrier::carrier;
use crate::carrier::refuse;
use crate::node::Home;
use crate::node::Node;
use crate::phone::Heard;
use crate::phone::Phone;
use crate::rows;
use serde_json::Value;
use serde_json::json;

const CALLER: &str = "127.0.0.2";
const CARRIER: &str = "127.0.0.9";
/// The number that goes on with [`CALLED`] too.
const OTHER: &str = "+15550111";

/// A node whose numbers are forwarded by a carrier.
async fn node(more: Value) -> (Node, Phone) {
    let node = Home::new().start().await;
    let far = carrier(&node, CARRIER).await;
    node.put(&[
        rows::trunk(4, &format!("{CALLER}/32")),
        carrier::trunk(5, &format!("{CARRIER}/32"), &[far.local()], more),
        carrier::tenant(1, 5),
        rows::profile(2, 1, json!({"kind": "forward", "to": CALLED})),
        rows::number(3, 1, 2, NUMBER),
        rows::number(13, 1, 2, OTHER),
    ])
    .await;
    (node, far)
}

/// Calls `number` from `local`, with these headers.
async fn dial(node: &Node, local: &str, number: &str, headers: &str) -> Phone {
    let mut phone = Phone::new(local.parse().unwrap(), node.sip(), number).await;
    let offer = phone.sdp();
    let invite = phone.request("INVITE", headers, &offer);
    assert!(invite.contains("Max-Forwards: 70\r\n"), "{invite}");
    phone.send(invite).await;
    phone
}

/// What a switch in between copies of an INVITE into the one it makes of it.
fn copied(invite: &Heard, name: &str) -> String {
    invite.all(name).iter().map(|value| format!("{name}: {value}\r\n")).collect()
}

/// A call was refused as one in a circle, and its record says why.
async fn is_a_circle(node: &Node, phone: &Phone, words: &str) {
    let refusal = phone.outcome("INVITE").await;
    assert_eq!(refusal.status(), 482, "{refusal:?}");
    assert_eq!(refusal.header("reason"), "Q.850;cause=25;text=\"loop\"");
    let record = node.record(&phone.call_id).await;
    assert_eq!(record.cause, "loop");
    let sql = format!(
        "SELECT count(*) FROM calls WHERE signalling_id = '{}' AND decision::text LIKE '%{words}%'",
        phone.call_id
    );
    assert_eq!(node.count(&sql).await, 1, "{words}");
}

#[tokio::test]
async fn a_call_may_be_passed_back_once_and_in_a_circle_is_refused_as_is_who_called() {
    let (node, far) = node(json!({})).await;
    let phone = dial(&node, CALLER, NUMBER, "").await;
    let first = far.expect("INVITE ").await;
    let trail = copied(&first, "x-tandem-trail");
    assert!(!trail.is_empty() && !trail.contains("5550110"), "{first:?}");
    // To another number of ours it may go: nothing says that it does not end there.
    let other = dial(&node, CARRIER, OTHER, &trail).await;
    let second = far.expect("INVITE ").await;
    let longer = copied(&second, "x-tandem-trail");
    assert!(longer.len() > trail.len(), "{longer}");
    // From there somebody passes the caller back to the first: that is no circle yet.
    let back = dial(&node, CARRIER, NUMBER, &longer).await;
    let third = far.expect("INVITE ").await;
    let again = dial(&node, CARRIER, NUMBER, &copied(&third, "x-tandem-trail")).await;
    is_a_circle(&node, &again, "2 times before, and is back").await;
    // Each of the calls before it ends with what the next one was told.
    refuse(&far, &third, "482 Loop Detected", "").await;
    is_refused(&back).await;
    refuse(&far, &second, "482 Loop Detected", "").await;
    is_refused(&other).await;
    refuse(&far, &first, "482 Loop Detected", "").await;
    is_refused(&phone).await;
    assert_eq!(node.record(&phone.call_id).await.cause, "loop");
}

async fn is_refused(phone: &Phone) {
    let refusal = phone.outcome("INVITE").await;
    assert_eq!(refusal.status(), 482, "{refusal:?}");
}

#[tokio::test]
async fn a_call_that_comes_back_with_its_diversions_alone_is_refused_before_it_goes_round_again() {
    let more = json!({"caller_id": {"diversion": "generate"}, "headers": {"trail": false}});
    let (node, far) = node(more).await;
    let mut kept = String::new();
    let mut calls = vec![dial(&node, CALLER, NUMBER, "").await];
    for round in 1..=2 {
        let invite = far.expect("INVITE ").await;
        assert!(invite.all("x-tandem-trail").is_empty(), "{invite:?}");
        kept = copied(&invite, "diversion");
        assert!(kept.contains(&format!(";counter={round}")), "{kept}");
        calls.push(dial(&node, CARRIER, NUMBER, &kept).await);
    }
    let last = calls.pop().unwrap();
    is_a_circle(&node, &last, "diverted the call 2 times already").await;
    assert!(kept.contains(NUMBER), "{kept}");
}
