//! How trunks are reached, and how they are told we are reached.

use crate::call_out;
use crate::call_out::place;
use crate::carrier::CALLED;
use crate::carrier::NUMBER;
use crate::carrier::calls;
use crate::carrier::hear_bye;
use crate::carrier::pick_up;
use crate::phone::Phone;
use serde_json::json;

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
