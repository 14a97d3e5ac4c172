//! Traces show both ends of a conversation as they are on the wire, whatever the listener is bound to.

use crate::call_out::place;
use crate::carrier;
use crate::carrier::CALLED;
use crate::carrier::NUMBER;
use crate::carrier::calls;
use crate::carrier::key;
use crate::carrier::shown;
use crate::node::Home;
use crate::node::PATIENCE;
use crate::peer::Peer;
use crate::phone::Phone;
use crate::rows;
use serde_json::Value;
use serde_json::json;
use std::net::SocketAddr;
use tandem::store::api_keys::KeyRole;
use tokio::net::TcpListener;
use tokio::time::timeout;

const FAR: &str = "127.0.0.9";

/// Ways and our addresses of the messages that went by a transport.
fn own_addresses(trace: &Value, transport: &str) -> Vec<(String, String)> {
    let messages = trace["messages"].as_array().unwrap().iter();
    let text = |message: &Value, key: &str| message[key].as_str().unwrap().to_owned();
    let mut found: Vec<_> = messages
        .filter(|message| message["transport"] == transport)
        .map(|message| (text(message, "way"), text(message, "local")))
        .collect();
    found.sort();
    found.dedup();
    found
}

#[tokio::test]
async fn a_call_out_by_a_listener_on_every_address_is_traced_with_the_one_its_carrier_sees() {
    let told = "advertise_sip = \"127.0.0.1:5060\"\nadvertise_rtp = \"127.0.0.1\"\n";
    let node = Home::with("0.0.0.0:0", 100, told).start().await;
    let here = SocketAddr::from(([127, 0, 0, 1], node.sip().port()));
    let first = Phone::new(FAR.parse().unwrap(), here, CALLED).await;
    let second = TcpListener::bind((FAR, 0)).await.unwrap();
    let by_tcp = format!("sip:{};transport=tcp", second.local_addr().unwrap());
    let gateways = json!({"outbound": {"gateway": [
        {"name": "g1", "uri": format!("sip:{}", first.local()), "dns": "fixed", "priority": 1},
        {"name": "g2", "uri": by_tcp, "dns": "fixed", "priority": 2},
    ]}});
    node.put(&[
        carrier::trunk(4, "127.0.0.9/32", &[], gateways),
        carrier::tenant(1, 4),
        rows::profile(2, 1, json!({"kind": "echo"})),
        rows::number(3, 1, 2, NUMBER),
    ])
    .await;
    let key = key(&node, 1, KeyRole::Operator).await;

    let call = place(&node, &key, json!({"to": CALLED, "from": NUMBER})).await;
    let invite = first.expect("INVITE ").await;
    first.respond(&invite, "503 Service Unavailable", "", "").await;
    let (stream, from) = timeout(PATIENCE, second.accept()).await.expect("a connection").unwrap();
    let mut second = Peer::new(stream);
    let invite = second.expect("INVITE ").await;
    second.answer(&invite, "486 Busy Here", "", "").await;
    second.expect("ACK ").await;
    shown(&node, 1, &call, &key).await;

    let trace = node.read(&calls(1, &format!("/{call}/trace")), &key).await;
    for (transport, address) in [("udp", here), ("tcp", from)] {
        let both = ["in", "out"].map(|way| (way.to_owned(), address.to_string()));
        assert_eq!(own_addresses(&trace, transport), both, "{trace}");
    }
}
