//! What a profile says of how calls out try its gateways, on the wire.

use crate::call_out;
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
use crate::name_server::NameServer;
use crate::name_server::Says;
use crate::node::Home;
use crate::node::Node;
use crate::node::wait_for;
use crate::phone::Phone;
use crate::phone::SILENCE;
use crate::rows;
use serde_json::Value;
use serde_json::json;
use std::net::SocketAddr;
use tandem::store::api_keys::KeyRole;
use tokio::time::timeout;

/// A node with one carrier of two gateways.
async fn node(more: Value) -> (Node, Phone, Phone, String) {
    let node = Home::new().start().await;
    let (first, second) = (carrier(&node, "127.0.0.9").await, carrier(&node, "127.0.0.10").await);
    node.put(&[
        carrier::trunk(4, "127.0.0.9/32", &[first.local(), second.local()], more),
        carrier::tenant(1, 4),
        rows::profile(2, 1, json!({"kind": "echo"})),
        rows::number(3, 1, 2, NUMBER),
    ])
    .await;
    let key = key(&node, 1, KeyRole::Operator).await;
    (node, first, second, key)
}

fn wish() -> Value {
    json!({"to": CALLED, "from": NUMBER})
}

async fn hang_up(node: &Node, far: &Phone, call: &str, key: &str) {
    let path = calls(1, &format!("/{call}/hangup"));
    assert_eq!(node.post(&path, key, &json!({})).await.status, 202);
    hear_bye(far).await;
}

#[tokio::test]
async fn a_carrier_that_says_slower_rests_with_all_its_gateways() {
    let more = json!({"failover": {"throttle_match": ["(?i)cps limit"]}});
    let (node, first, second, key) = node(more).await;
    let call = place(&node, &key, wish()).await;
    let invite = first.expect("INVITE ").await;
    refuse(&first, &invite, "503 Trunk CPS limit exceeded", "Retry-After: 600\r\n").await;
    let record = shown(&node, 1, &call, &key).await;
    assert_eq!(record["sip_status"], 503, "{}", steps(&record));
    assert!(second.hear_within(SILENCE).await.is_none(), "{}", steps(&record));
    // Nor is anybody tried by the next call, while it rests.
    let refused = node.post(&calls(1, ""), &key, &wish()).await;
    assert_eq!((refused.status, refused.json()["code"].as_str()), (503, Some("no_gateway")));
    let resting = "SELECT count(*) FROM calls WHERE cause = 'no_gateway' \
                   AND decision::text LIKE '%g1 %' AND decision::text LIKE '%g2 %'";
    wait_for("the record", async || (node.count(resting).await == 1).then_some(())).await;
    assert!(first.hear_within(SILENCE).await.is_none());
}

#[tokio::test]
async fn a_carrier_of_whom_anything_was_heard_may_be_the_last_that_is_tried() {
    let more = json!({"failover": {"never_after": "100"}});
    let (node, first, second, key) = node(more).await;
    let call = place(&node, &key, wish()).await;
    let invite = first.expect("INVITE ").await;
    first.respond(&invite, "100 Trying", "", "").await;
    refuse(&first, &invite, "503 Service Unavailable", "").await;
    let record = shown(&node, 1, &call, &key).await;
    assert_eq!(record["sip_status"], 503, "{}", steps(&record));
    assert!(second.hear_within(SILENCE).await.is_none(), "{}", steps(&record));
}

#[tokio::test]
async fn a_carrier_that_only_rang_gives_way_where_early_media_alone_counts() {
    let more = json!({"failover": {"never_after": "early_media", "gateway_cooldown_s": 1}});
    let (node, first, mut second, key) = node(more).await;
    let call = place(&node, &key, wish()).await;
    let invite = first.expect("INVITE ").await;
    first.respond(&invite, "180 Ringing", "", "").await;
    refuse(&first, &invite, "503 Service Unavailable", "").await;
    answer(&mut second).await;
    hang_up(&node, &second, &call, &key).await;
    assert_eq!(shown(&node, 1, &call, &key).await["cause"], "normal");
}

#[tokio::test]
async fn one_address_of_a_carrier_gets_no_more_calls_a_second_than_it_takes() {
    let more = json!({"limits": {"cps_per_remote_ip": 1, "cps_overflow": "reject_503"}});
    let (node, first, second, key) = node(more).await;
    // What the called party says is no reason to try another gateway: only the pace of an address is.
    let busy = async {
        for _ in 0..1_000 {
            let invite = first.expect("INVITE ").await;
            first.respond(&invite, "486 Busy Here", "", "").await;
        }
    };
    let calling = async {
        for _ in 0..1_000 {
            tokio::join!(place(&node, &key, wish()), place(&node, &key, wish()));
        }
    };
    let invite = tokio::select! {
        invite = second.expect("INVITE ") => invite,
        () = busy => panic!("a thousand calls by one address"),
        () = calling => panic!("a thousand calls by one address"),
    };
    refuse(&second, &invite, "486 Busy Here", "").await;
    let sql = format!(
        "SELECT count(*) FROM calls WHERE source = '{}' AND cause = 'busy' \
         AND decision::text LIKE '%g1 of trunk-4%not sent: trunk_limit%'",
        second.local()
    );
    wait_for("the record", async || (node.count(&sql).await >= 1).then_some(())).await;
}

#[tokio::test]
async fn every_address_of_a_name_is_tried_in_turn() {
    let names = NameServer::start().await;
    names.says("both.test", Says::Addresses([[127, 0, 0, 31].into(), [127, 0, 0, 32].into()]));
    let node = Home::with("127.0.0.1:0", 100, &names.line()).start().await;
    let mut far = carrier(&node, "127.0.0.31").await;
    let port = far.local().port();
    let mut other = carrier(&node, "127.0.0.32").await;
    let same_port = SocketAddr::from(([127, 0, 0, 32], port));
    // The same port at either address; whoever comes first says nothing at all.
    other.socket = tokio::net::UdpSocket::bind(same_port).await.unwrap();
    let gateway = json!({"name": "both", "uri": format!("sip:both.test:{port}"), "dns": "a_all"});
    let more = json!({"outbound": {"gateway": [gateway]}, "calls": {"no_reply_timeout_ms": 700}});
    node.put(&[
        carrier::trunk(4, "127.0.0.31/32", &[], more),
        carrier::tenant(1, 4),
        rows::profile(2, 1, json!({"kind": "echo"})),
        rows::number(3, 1, 2, NUMBER),
    ])
    .await;
    let key = key(&node, 1, KeyRole::Operator).await;
    let call = place(&node, &key, wish()).await;
    let first_is_far = tokio::select! {
        invite = far.expect("INVITE ") => { drop(invite); true }
        invite = other.expect("INVITE ") => { drop(invite); false }
    };
    let next = if first_is_far { &mut other } else { &mut far };
    let invite = answer(next).await;
    assert!(invite.start.contains("@both.test"), "{invite:?}");
    hang_up(&node, next, &call, &key).await;
    assert_eq!(shown(&node, 1, &call, &key).await["cause"], "normal");
}

#[tokio::test]
async fn a_trunk_calls_from_the_address_and_the_interface_it_names() {
    let more = json!({"network": {"source_address": "127.0.0.77", "interface": "lo"}});
    let (node, mut far, key) = call_out::node(json!({"kind": "echo"}), more).await;
    let call = place(&node, &key, wish()).await;
    let peek = async {
        let mut buffer = [0; 16];
        far.socket.peek_from(&mut buffer).await.unwrap().1
    };
    let from = timeout(crate::phone::PATIENCE, peek).await.unwrap();
    assert_eq!(from.ip().to_string(), "127.0.0.77");
    // It answers there, and hears the rest from there.
    far.switch = from;
    answer(&mut far).await;
    let path = calls(1, &format!("/{call}/hangup"));
    assert_eq!(node.post(&path, &key, &json!({})).await.status, 202);
    let mut buffer = [0; 16];
    let peek = timeout(crate::phone::PATIENCE, far.socket.peek_from(&mut buffer));
    let (_, again) = peek.await.unwrap().unwrap();
    assert_eq!(again, from);
    hear_bye(&far).await;
    assert_eq!(shown(&node, 1, &call, &key).await["cause"], "normal");
}

#[tokio::test]
async fn keys_of_a_trunk_bear_identifiers_where_it_wants_them() {
    let more = json!({"srtp": {"policy": "required", "needs_tls_signalling": false,
                               "send_mki": true}});
    let (node, far, key) = call_out::node(json!({"kind": "echo"}), more).await;
    let call = place(&node, &key, wish()).await;
    let invite = far.expect("INVITE ").await;
    let keys: Vec<_> = invite.body.lines().filter(|line| line.starts_with("a=crypto:")).collect();
    assert!(!keys.is_empty(), "{invite:?}");
    for line in keys {
        // RFC 4568 §6.1: inline:key|MKI:length.
        let (_, mki) = line.rsplit_once('|').unwrap_or_else(|| panic!("no MKI: {line}"));
        let (value, length) = mki.split_once(':').unwrap_or_else(|| panic!("no MKI: {line}"));
        assert!(value.parse::<u32>().is_ok() && length.parse::<u8>().is_ok(), "{line}");
    }
    refuse(&far, &invite, "486 Busy Here", "").await;
    assert_eq!(shown(&node, 1, &call, &key).await["cause"], "busy");
}
