//! Transfers of running calls that an application asks for.

use crate::call_out;
use crate::carrier::CALLED;
use crate::carrier::NUMBER;
use crate::carrier::answer;
use crate::carrier::calls;
use crate::carrier::carrier;
use crate::carrier::hear_bye;
use crate::carrier::hears;
use crate::carrier::refuse;
use crate::node::Node;
use crate::node::wait_for;
use crate::phone::Phone;
use serde_json::Value;
use serde_json::json;

/// A caller who talks with an echo, and its call as the API names it.
async fn talking(node: &Node) -> (Phone, u16, String) {
    let mut phone = Phone::new("127.0.0.9".parse().unwrap(), node.sip(), NUMBER).await;
    let ok = phone.call("").await;
    let sql = format!("SELECT id::text FROM calls WHERE signalling_id = '{}'", phone.call_id);
    let call = wait_for("the record is stored", async || {
        let count = sql.replace("id::text", "count(*)");
        if node.count(&count).await == 0 {
            return None;
        }
        Some(crate::postgres::text(&node.database(), &sql).await)
    })
    .await;
    (phone, ok.audio_port(), call)
}

async fn transfer(node: &Node, key: &str, call: &str, wish: Value) {
    let answer = node.post(&calls(1, &format!("/{call}/transfer")), key, &wish).await;
    assert_eq!(answer.status, 202, "{}", answer.body);
}

#[tokio::test]
async fn a_caller_is_transferred_or_comes_back_to_the_agent_whatever_the_target_does() {
    let (node, mut target, key) = call_out::node(json!({"kind": "echo"}), json!({})).await;
    let (mut phone, port, call) = talking(&node).await;
    hears((&phone, port), &phone, 0x61).await;

    for wish in [
        json!({}),
        json!({"to": CALLED, "uri": "sip:a@127.0.0.1"}),
        json!({"mode": "confirm", "to": CALLED}),
        json!({"uri": "https://127.0.0.1"}),
    ] {
        let path = calls(1, &format!("/{call}/transfer"));
        assert_eq!(node.post(&path, &key, &wish).await.status, 400, "{wish}");
    }

    // Whoever does not want the call leaves the caller with the agent.
    for status in ["486 Busy Here", "603 Decline"] {
        transfer(&node, &key, &call, json!({"to": CALLED})).await;
        let invite = target.expect("INVITE ").await;
        refuse(&target, &invite, status, "").await;
        hears((&phone, port), &phone, 0x62).await;
    }

    // Given up while it rings.
    transfer(&node, &key, &call, json!({"to": CALLED})).await;
    let invite = target.expect("INVITE ").await;
    target.respond(&invite, "180 Ringing", "", "").await;
    transfer(&node, &key, &call, json!({"mode": "withdraw"})).await;
    let cancel = target.expect("CANCEL ").await;
    target.answer(&cancel, "200 OK").await;
    refuse(&target, &invite, "487 Request Terminated", "").await;
    hears((&phone, port), &phone, 0x63).await;

    // Bridged, by the address of a peer.
    let mut peer = carrier(&node, "127.0.0.12").await;
    transfer(&node, &key, &call, json!({"uri": format!("sip:desk@{}", peer.local())})).await;
    let invite = answer(&mut peer).await;
    hears((&phone, port), &peer, 0x64).await;
    hears((&peer, invite.audio_port()), &phone, 0x65).await;
    phone.hang_up().await;
    hear_bye(&peer).await;
    assert_eq!(node.record(&phone.call_id).await.cause, "normal");

    // The caller may hang up before the target answers.
    let (mut phone, _, call) = talking(&node).await;
    transfer(&node, &key, &call, json!({"to": CALLED, "mode": "bridge"})).await;
    let invite = target.expect("INVITE ").await;
    target.respond(&invite, "180 Ringing", "", "").await;
    phone.hang_up().await;
    let cancel = target.expect("CANCEL ").await;
    target.answer(&cancel, "200 OK").await;
    refuse(&target, &invite, "487 Request Terminated", "").await;

    // The agent speaks with the target first.
    let (phone, port, call) = talking(&node).await;
    transfer(&node, &key, &call, json!({"to": CALLED, "mode": "attended"})).await;
    let invite = answer(&mut target).await;
    hears((&target, invite.audio_port()), &target, 0x66).await;
    transfer(&node, &key, &call, json!({"mode": "confirm"})).await;
    hears((&phone, port), &target, 0x67).await;
    assert_eq!(target.ask("BYE", "", "").await.status(), 200);
    hear_bye(&phone).await;
}
