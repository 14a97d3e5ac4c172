//! How trunks are reached, and how they are told we are reached.

use crate::call_out;
use crate::call_out::place;
use crate::carrier::CALLED;
use crate::carrier::NUMBER;
use crate::carrier::calls;
use crate::carrier::hear_bye;
use crate::carrier::pick_up;
use crate::node::wait_for;
use crate::phone::PATIENCE;
use crate::phone::Phone;
use serde_json::json;
use tokio::time::timeout;

#[tokio::test]
async fn a_carrier_is_told_the_address_of_the_trunk_in_calls_both_ways() {
    let more = json!({"network": {"advertise_sip": "sbc.example:5066"}});
    let (node, mut far, key) = call_out::node(json!({"kind": "echo"}), more).await;
    let call = place(&node, &key, json!({"to": CALLED})).await;
    let invite = far.expect("INVITE ").await;
    let via = "SIP/2.0/UDP sbc.example:5066;";
    assert!(invite.header("via").starts_with(via), "{invite:?}");
    assert!(invite.header("contact").contains("@sbc.example:5066>"), "{invite:?}");
    pick_up(&mut far, &invite).await;
    assert_eq!(
        node.post(&calls(1, &format!("/{call}/hangup")), &key, &json!({})).await.status,
        202
    );
    assert!(hear_bye(&far).await.header("via").starts_with(via));

    let mut caller = Phone::new("127.0.0.9".parse().unwrap(), node.sip(), NUMBER).await;
    let answer = caller.call("").await;
    assert_eq!(answer.header("contact"), format!("<sip:{NUMBER}@sbc.example:5066>"));
    caller.acknowledge().await;
}

#[tokio::test]
async fn a_gateway_hears_from_the_socket_of_the_trunk_while_it_is_silent() {
    let more = json!({"network": {"keepalive": {"udp_s": 1}}});
    let (node, far, _) = call_out::node(json!({"kind": "echo"}), more).await;
    for _ in 0..2 {
        let mut buffer = [0; 64];
        let heard = timeout(PATIENCE, far.socket.recv_from(&mut buffer)).await.unwrap();
        let (length, from) = heard.unwrap();
        assert_eq!((&buffer[..length], from), (&b"\r\n\r\n"[..], node.sip()));
    }
    let sent = "sip_keepalives_total{outcome=\"sent\"}";
    wait_for("they are counted", async || (node.metric(sent).await >= 2).then_some(())).await;
}
