//! Carriers whose gateways fail in each way.

use crate::call_out::place;
use crate::carrier;
use crate::carrier::CALLED;
use crate::carrier::NUMBER;
use crate::carrier::answer;
use crate::carrier::calls;
use crate::carrier::carrier;
use crate::carrier::hear_bye;
use crate::carrier::key;
use crate::carrier::refuse;
use crate::carrier::shown;
use crate::carrier::steps;
use crate::node::Home;
use crate::node::Node;
use crate::phone::Phone;
use crate::phone::SILENCE;
use crate::rows;
use serde_json::json;
use tandem::store::api_keys::KeyRole;

/// A node with one carrier of two gateways.
async fn node() -> (Node, Phone, Phone, String) {
    let node = Home::new().start().await;
    let (first, second) = (carrier(&node, "127.0.0.9").await, carrier(&node, "127.0.0.10").await);
    let gateways = [first.local(), second.local()];
    let more =
        json!({"calls": {"no_reply_timeout_ms": 700}, "failover": {"gateway_cooldown_s": 1}});
    node.put(&[
        carrier::trunk(4, "127.0.0.9/32", &gateways, more.clone()),
        carrier::tenant(1, 4),
        // One whose first gateway nobody is behind.
        carrier::trunk(5, "127.0.0.8/32", &[nobody(), second.local()], more.clone()),
        carrier::trunk(6, "127.0.0.7/32", &gateways, more),
        rows::profile(2, 1, json!({"kind": "echo"})),
        rows::number(3, 1, 2, NUMBER),
    ])
    .await;
    let key = key(&node, 1, KeyRole::Operator).await;
    (node, first, second, key)
}

/// An address nobody listens at.
fn nobody() -> std::net::SocketAddr {
    let socket = std::net::UdpSocket::bind("127.0.0.11:0").unwrap();
    socket.local_addr().unwrap()
}

/// The second gateway has the call, and it is ended; its decision.
async fn second_takes(node: &Node, second: &mut Phone, call: &str, key: &str) -> String {
    answer(second).await;
    let path = calls(1, &format!("/{call}/hangup"));
    assert_eq!(node.post(&path, key, &json!({})).await.status, 202);
    hear_bye(second).await;
    let record = shown(node, 1, call, key).await;
    assert_eq!(record["cause"], "normal");
    // The record has the address that the last INVITE went to.
    let went_to = second.local();
    let sql = format!(
        "SELECT count(*) FROM calls \
         WHERE id = '{call}' AND source = '{went_to}' AND transport = 'udp'"
    );
    assert_eq!(node.count(&sql).await, 1);
    let steps = steps(&record);
    assert!(steps.contains("g1") && steps.contains("g2"), "{steps}");
    steps
}

#[tokio::test]
async fn another_gateway_is_tried_after_failures_of_the_gateway_and_no_other() {
    let (node, first, mut second, key) = node().await;
    let wish = json!({"to": CALLED, "from": NUMBER});

    // What the called party says is the answer.
    for (status, cause) in [
        ("486 Busy Here", "busy"),
        ("404 Not Found", "unknown_number"),
        ("603 Decline", "rejected"),
    ] {
        let call = place(&node, &key, wish.clone()).await;
        let invite = first.expect("INVITE ").await;
        refuse(&first, &invite, status, "").await;
        let record = shown(&node, 1, &call, &key).await;
        let told = status.get(..3).unwrap().parse::<u16>().unwrap();
        assert_eq!(record["sip_status"], told, "{cause}: {}", steps(&record));
        assert_eq!(record["status"], "failed", "{cause}");
        assert!(second.hear_within(SILENCE).await.is_none(), "{status}");
    }

    // Once it rang the call is with somebody.
    let call = place(&node, &key, wish.clone()).await;
    let invite = first.expect("INVITE ").await;
    first.respond(&invite, "180 Ringing", "", "").await;
    refuse(&first, &invite, "503 Service Unavailable", "").await;
    let record = shown(&node, 1, &call, &key).await;
    assert_eq!(record["sip_status"], 503, "{}", steps(&record));
    assert!(second.hear_within(SILENCE).await.is_none());

    // Nobody there.
    let mut unreachable = wish.clone();
    unreachable["trunk"] = json!("trunk-5");
    let call = place(&node, &key, unreachable).await;
    let steps = second_takes(&node, &mut second, &call, &key).await;
    // The network said so: nobody waited for an answer.
    assert!(steps.contains("cannot be reached") && !steps.contains("no reply"), "{steps}");
    let unreached = "sip_endpoint_events_total{what=\"request_unreached\"}";
    assert_eq!(node.metric(unreached).await, 1);

    // Silence: the gateway may still come back with something.
    let mut silent = wish.clone();
    silent["trunk"] = json!("trunk-6");
    let call = place(&node, &key, silent.clone()).await;
    first.expect("INVITE ").await;
    let steps = second_takes(&node, &mut second, &call, &key).await;
    assert!(steps.contains("no reply"), "{steps}");
    // It wakes up, and learns that nobody waits for it any more.
    let late = first.expect("INVITE ").await;
    first.respond(&late, "180 Ringing", "", "").await;
    let cancel = first.expect("CANCEL ").await;
    first.answer(&cancel, "200 OK").await;
    refuse(&first, &late, "487 Request Terminated", "").await;

    // A 503 that says for how long.
    let call = place(&node, &key, wish.clone()).await;
    let invite = first.expect("INVITE ").await;
    refuse(&first, &invite, "503 Service Unavailable", "Retry-After: 60\r\n").await;
    let steps = second_takes(&node, &mut second, &call, &key).await;
    assert!(steps.contains("503"), "{steps}");
    // It rests: the next call goes past it.
    let call = place(&node, &key, wish).await;
    answer(&mut second).await;
    let path = calls(1, &format!("/{call}/hangup"));
    assert_eq!(node.post(&path, &key, &json!({})).await.status, 202);
    hear_bye(&second).await;
    let heard = first.hear_within(SILENCE).await;
    assert!(heard.is_none(), "{heard:?}");
}

#[tokio::test]
async fn a_redirection_is_followed_to_a_number_that_may_be_called_and_no_other() {
    let more = json!({"calls": {"redirect_3xx": "follow_same_gateway"}});
    let (node, mut far, key) = crate::call_out::node(json!({"kind": "echo"}), more).await;
    let call = place(&node, &key, json!({"to": CALLED})).await;
    let invite = far.expect("INVITE ").await;
    let host = far.local();
    let elsewhere = format!("Contact: <sip:+15550177@{host}>\r\n");
    refuse(&far, &invite, "302 Moved Temporarily", &elsewhere).await;
    let again = far.expect("INVITE ").await;
    assert!(again.start.starts_with("INVITE sip:+15550177@"), "{again:?}");
    assert_ne!(again.header("call-id"), invite.header("call-id"));
    carrier::pick_up(&mut far, &again).await;
    let path = calls(1, &format!("/{call}/hangup"));
    assert_eq!(node.post(&path, &key, &json!({})).await.status, 202);
    hear_bye(&far).await;

    let call = place(&node, &key, json!({"to": CALLED})).await;
    let invite = far.expect("INVITE ").await;
    let premium = format!("Contact: <sip:+19005550177@{host}>\r\n");
    refuse(&far, &invite, "302 Moved Temporarily", &premium).await;
    let record = shown(&node, 1, &call, &key).await;
    assert_eq!(record["cause"], "redirect_refused", "{}", steps(&record));
    assert!(far.hear_within(SILENCE).await.is_none());
}
