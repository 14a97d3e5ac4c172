//! Peers that reach the switch, or are reached by it, by another way than the one the call was set up by.

use crate::carrier;
use crate::carrier::NUMBER;
use crate::carrier::hear_bye;
use crate::node::Home;
use crate::node::Node;
use crate::node::PATIENCE;
use crate::peer::Peer;
use crate::phone::Phone;
use crate::rows;
use serde_json::json;
use std::net::SocketAddr;
use tokio::net::TcpListener;
use tokio::net::TcpSocket;
use tokio::net::TcpStream;
use tokio::net::UdpSocket;
use tokio::time::timeout;

const CALLER: &str = "127.0.0.2";
/// Where the agent is called. No trunk lists it.
const AGENT: &str = "127.0.0.9";
const SDP: &str = "v=0\r\no=- 1 1 IN IP4 127.0.0.9\r\ns=-\r\nc=IN IP4 127.0.0.9\r\nt=0 0\r\n\
                   m=audio 9998 RTP/AVP 0\r\n";

/// A node whose number has an agent at a SIP address, and who calls that number.
async fn node(uri: &str) -> (Node, Phone) {
    let node = Home::new().start().await;
    node.put(&[
        carrier::trunk(4, &format!("{CALLER}/32"), &[], json!({"outbound": {"enabled": false}})),
        carrier::tenant(1, 4),
        rows::profile(2, 1, json!({"kind": "sip", "uri": uri})),
        rows::number(3, 1, 2, NUMBER),
    ])
    .await;
    let phone = Phone::new(CALLER.parse().unwrap(), node.sip(), NUMBER).await;
    (node, phone)
}

/// A connection from where the agent is to the switch, as a peer opens one that does not use ours again.
async fn connection_of_its_own(to: SocketAddr) -> Peer<TcpStream> {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::new(AGENT.parse().unwrap(), 0)).unwrap();
    Peer::new(timeout(PATIENCE, socket.connect(to)).await.unwrap().unwrap())
}

async fn confirm(phone: &mut Phone) {
    let ok = phone.outcome("INVITE").await;
    assert_eq!(ok.status(), 200, "{ok:?}");
    phone.confirm(&ok);
    phone.acknowledge().await;
}

#[tokio::test]
async fn an_agent_that_was_called_may_hang_up_by_a_connection_of_its_own() {
    let listener = TcpListener::bind((AGENT, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (node, mut phone) = node(&format!("sip:bot@{address};transport=tcp")).await;
    let offer = phone.sdp();
    let invite = phone.request("INVITE", "", &offer);
    phone.send(invite).await;
    let (stream, _) = timeout(PATIENCE, listener.accept()).await.unwrap().unwrap();
    let mut agent = Peer::new(stream);
    let invite = agent.expect("INVITE ").await;
    let here = format!("Contact: <sip:bot@{address};transport=tcp>\r\n");
    agent.answer(&invite, "200 OK", &here, SDP).await;
    agent.expect("ACK ").await;
    confirm(&mut phone).await;

    let mut back = connection_of_its_own(node.listener("public", "tcp")).await;
    back.ask(&invite, &format!("TCP {address}"), "BYE", 1).await;
    back.expect("SIP/2.0 200").await;
    hear_bye(&phone).await;
    let record = node.record(&phone.call_id).await;
    assert_eq!((record.cause.as_str(), record.ended_by.as_str()), ("normal", "far"));
}

#[tokio::test]
async fn an_agent_may_hang_up_from_the_address_that_its_contact_names() {
    let called = UdpSocket::bind((AGENT, 0)).await.unwrap();
    let (node, mut phone) = node(&format!("sip:bot@{}", called.local_addr().unwrap())).await;
    let mut agent = Phone::new(AGENT.parse().unwrap(), node.sip(), NUMBER).await;
    agent.socket = called;
    let offer = phone.sdp();
    let invite = phone.request("INVITE", "", &offer);
    phone.send(invite).await;
    let invite = agent.expect("INVITE ").await;
    agent.take(&invite);
    // What answers is not what goes on with the call.
    let behind = UdpSocket::bind("127.0.0.7:0").await.unwrap();
    let contact = format!("Contact: <sip:bot@{}>\r\n", behind.local_addr().unwrap());
    agent.respond(&invite, "200 OK", &contact, &agent.sdp()).await;
    agent.socket = behind;
    agent.expect("ACK ").await;
    confirm(&mut phone).await;
    assert_eq!(agent.ask("BYE", "", "").await.status(), 200);
    hear_bye(&phone).await;
}
