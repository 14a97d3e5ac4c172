//! Transfers of running calls that an application asks for.

use crate::bot::Bot;
use crate::call_out;
use crate::carrier::CALLED;
use crate::carrier::NUMBER;
use crate::carrier::answer;
use crate::carrier::calls;
use crate::carrier::carrier;
use crate::carrier::hear_bye;
use crate::carrier::hears;
use crate::carrier::pick_up;
use crate::carrier::refuse;
use crate::node::Node;
use crate::node::wait_for;
use crate::phone::Phone;
use crate::rows;
use serde_json::Value;
use serde_json::json;

/// A caller who talks with an echo, and its call as the API names it.
pub(crate) async fn talking(node: &Node) -> (Phone, u16, String) {
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

pub(crate) async fn transfer(node: &Node, key: &str, call: &str, wish: Value) {
    let answer = node.post(&calls(1, &format!("/{call}/transfer")), key, &wish).await;
    assert_eq!(answer.status, 202, "{}", answer.body);
}

/// A caller whose bot asks for a transfer and closes its connection; the target is busy, before that or after it.
async fn next_bot_takes_over(is_at_once: bool) {
    let (first, second) = (Bot::bind().await, Bot::bind().await);
    let agent = |bot: &Bot| json!({"kind": "twilio", "url": bot.url()});
    let (node, target, key) = call_out::node(agent(&first), json!({})).await;
    let (own, next) = (rows::uuid(2), rows::uuid(5));
    let order = format!(
        "UPDATE ai_profiles SET fallback_profiles = ARRAY['{next}'::uuid] WHERE id = '{own}'"
    );
    node.put(&[rows::profile(5, 1, agent(&second)), order]).await;
    let ((mut phone, _, call), mut stream) = tokio::join!(talking(&node), first.accept());
    transfer(&node, &key, &call, json!({"to": CALLED})).await;
    let invite = target.expect("INVITE ").await;
    if is_at_once {
        refuse(&target, &invite, "486 Busy Here", "").await;
        stream.close(1000).await;
    } else {
        stream.close(1000).await;
        wait_for("the bot left", async || {
            let shown = node.read(&calls(1, &format!("/{call}")), &key).await;
            (shown["live"]["agent"] == "gone").then_some(())
        })
        .await;
        refuse(&target, &invite, "486 Busy Here", "").await;
    }
    let stream = second.accept().await;
    assert_eq!(stream.start["start"]["customParameters"]["tandem_resumed"], "takeover");
    phone.hang_up().await;
    let record = node.record(&phone.call_id).await;
    assert_eq!((record.cause.as_str(), record.has_fallback), ("normal", false));
    assert_eq!(record.agent_failure, None);
}

#[tokio::test]
async fn a_caller_whose_bot_left_comes_to_the_next_one_where_its_transfer_fails() {
    next_bot_takes_over(false).await;
}

#[tokio::test]
async fn a_caller_whose_bot_leaves_as_its_transfer_fails_comes_to_the_next_one() {
    next_bot_takes_over(true).await;
}

#[tokio::test]
async fn a_carrier_that_is_asked_to_transfer_does_it_or_leaves_the_caller_with_the_agent() {
    let (node, _gateway, key) = call_out::node(json!({"kind": "echo"}), json!({})).await;
    let (mut phone, _, call) = talking(&node).await;
    let path = calls(1, &format!("/{call}/transfer"));
    let wish = json!({"to": CALLED, "mode": "refer"});
    let answer = node.post(&path, &key, &wish).await;
    assert_eq!((answer.status, answer.json()["code"].as_str()), (409, Some("refer_not_allowed")));
    phone.hang_up().await;

    let more = json!({"calls": {"refer_out": "blind"}});
    let (node, _gateway, key) = call_out::node(json!({"kind": "echo"}), more).await;
    let (mut phone, port, call) = talking(&node).await;
    let path = calls(1, &format!("/{call}/transfer"));
    let denied = node.post(&path, &key, &json!({"to": "+4420555", "mode": "refer"})).await;
    assert_eq!((denied.status, denied.json()["code"].as_str()), (403, Some("destination_denied")));

    // The carrier declines.
    transfer(&node, &key, &call, wish.clone()).await;
    let refer = phone.expect("REFER ").await;
    assert!(refer.header("refer-to").contains(&format!("sip:{CALLED}@")), "{refer:?}");
    phone.answer(&refer, "603 Decline").await;
    hears((&phone, port), &phone, 0x71).await;

    // It tries, and the target is busy.
    transfer(&node, &key, &call, wish.clone()).await;
    let refer = phone.expect("REFER ").await;
    phone.answer(&refer, "202 Accepted").await;
    assert_eq!(notify(&mut phone, "active;expires=60", "100 Trying").await, 200);
    hears((&phone, port), &phone, 0x72).await;
    assert_eq!(notify(&mut phone, "terminated;reason=noresource", "486 Busy Here").await, 200);
    hears((&phone, port), &phone, 0x73).await;

    // It does it: the call goes on without us.
    transfer(&node, &key, &call, wish.clone()).await;
    let refer = phone.expect("REFER ").await;
    phone.answer(&refer, "202 Accepted").await;
    assert_eq!(notify(&mut phone, "terminated;reason=noresource", "200 OK").await, 200);
    hear_bye(&phone).await;
    assert_eq!(node.record(&phone.call_id).await.cause, "transferred");

    // Or hangs up before it says how that went.
    let (mut phone, _, call) = talking(&node).await;
    transfer(&node, &key, &call, wish).await;
    let refer = phone.expect("REFER ").await;
    phone.answer(&refer, "202 Accepted").await;
    phone.hang_up().await;
    node.record(&phone.call_id).await;
}

#[tokio::test]
async fn a_carrier_is_asked_for_a_number_as_a_call_to_it_has_it() {
    let more = json!({
        "calls": {"refer_out": "blind"},
        "outbound": {"user_phone": true, "request_host": "acme.pstn.test"},
        "numbers": {"outbound_called": [{"match": "^\\+1(\\d+)$", "to": "001${1}"}]},
    });
    let (node, mut far, key) = call_out::node(json!({"kind": "echo"}), more).await;
    let wish = json!({"to": CALLED, "mode": "refer"});
    let named = "<sip:0015550142@acme.pstn.test;user=phone>";

    let (mut phone, port, call) = talking(&node).await;
    transfer(&node, &key, &call, wish.clone()).await;
    let refer = phone.expect("REFER ").await;
    assert_eq!(refer.header("refer-to"), named, "of a call in");
    phone.answer(&refer, "603 Decline").await;
    hears((&phone, port), &phone, 0x71).await;
    phone.hang_up().await;

    let call = call_out::place(&node, &key, json!({"to": CALLED, "from": NUMBER})).await;
    let invite = far.expect("INVITE ").await;
    pick_up(&mut far, &invite).await;
    hears((&far, invite.audio_port()), &far, 0x72).await;
    transfer(&node, &key, &call, wish).await;
    let refer = far.expect("REFER ").await;
    assert_eq!(refer.header("refer-to"), named, "of a call out");
    far.answer(&refer, "603 Decline").await;
    hears((&far, invite.audio_port()), &far, 0x73).await;
    far.hang_up().await;
}

/// Tells how far the transfer got.
async fn notify(phone: &mut Phone, state: &str, line: &str) -> u16 {
    let headers = format!(
        "Event: refer\r\nSubscription-State: {state}\r\nContent-Type: message/sipfrag;version=2.0\r\n"
    );
    phone.ask("NOTIFY", &headers, &format!("SIP/2.0 {line}\r\n")).await.status()
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
