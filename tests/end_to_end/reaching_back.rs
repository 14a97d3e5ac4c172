//! Peers that reach the switch, or are reached by it, by another way than the one the call was set up by.

use crate::call_out::place;
use crate::carrier;
use crate::carrier::CALLED;
use crate::carrier::NUMBER;
use crate::carrier::calls;
use crate::carrier::hear_bye;
use crate::carrier::key;
use crate::carrier::shown;
use crate::node::Home;
use crate::node::Node;
use crate::node::PATIENCE;
use crate::node::wait_for;
use crate::peer::Peer;
use crate::phone::Phone;
use crate::rows;
use serde_json::json;
use std::net::SocketAddr;
use std::sync::Arc;
use tandem::store::api_keys::KeyRole;
use tokio::net::TcpListener;
use tokio::net::TcpSocket;
use tokio::net::TcpStream;
use tokio::net::UdpSocket;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::server::TlsStream;

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

/// A listener with a certificate of its own, and that certificate.
async fn secure_listener() -> (TcpListener, TlsAcceptor, String) {
    let made = rcgen::generate_simple_self_signed([AGENT.to_owned()]).unwrap();
    let settings = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![made.cert.der().clone()],
            PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap(),
        )
        .unwrap();
    let listener = TcpListener::bind((AGENT, 0)).await.unwrap();
    (listener, TlsAcceptor::from(Arc::new(settings)), made.cert.pem())
}

async fn accept((listener, acceptor): (&TcpListener, &TlsAcceptor)) -> Peer<TlsStream<TcpStream>> {
    let (stream, _) = timeout(PATIENCE, listener.accept()).await.unwrap().unwrap();
    Peer::new(timeout(PATIENCE, acceptor.accept(stream)).await.unwrap().unwrap())
}

#[tokio::test]
async fn a_carrier_that_closed_its_tls_connection_is_hung_up_by_a_new_one() {
    let (listener, acceptor, certificate) = secure_listener().await;
    let address = listener.local_addr().unwrap();
    let home = Home::new();
    home.write("peer.pem", &certificate);
    let node = home.start().await;
    let secure = json!({
        "inbound": {"enabled": false},
        "outbound": {"gateway": [{"name": "sbc", "dns": "fixed",
                                  "uri": format!("sip:{address};transport=tls")}]},
        "tls": {"verify": "pin", "ca_file": "peer.pem"},
    });
    node.put(&[
        carrier::trunk(4, "127.0.0.9/32", &[], secure),
        carrier::tenant(1, 4),
        rows::profile(2, 1, json!({"kind": "tone"})),
        rows::number(3, 1, 2, NUMBER),
    ])
    .await;
    let key = key(&node, 1, KeyRole::Operator).await;
    let call = place(&node, &key, json!({"to": CALLED, "from": NUMBER})).await;
    let mut peer = accept((&listener, &acceptor)).await;
    let invite = peer.expect("INVITE ").await;
    let here = format!("Contact: <sip:gw@{address};transport=tls>\r\n");
    peer.answer(&invite, "200 OK", &here, SDP).await;
    peer.expect("ACK ").await;
    drop(peer);
    let path = calls(1, &format!("/{call}/hangup"));
    assert_eq!(node.post(&path, &key, &json!({})).await.status, 202);
    let mut peer = accept((&listener, &acceptor)).await;
    let bye = peer.expect("BYE ").await;
    assert_eq!(bye.header("call-id"), invite.header("call-id"));
    peer.answer(&bye, "200 OK", "", "").await;
    let record = shown(&node, 1, &call, &key).await;
    assert_eq!(record["cause"], "normal", "{record}");
}

#[tokio::test]
async fn a_record_route_of_another_host_is_followed_by_tls_to_who_proves_to_be_the_carrier() {
    let (listener, acceptor, certificate) = secure_listener().await;
    let address = listener.local_addr().unwrap();
    // It has the same certificate, which is not of its address.
    let behind = TcpListener::bind(("127.0.0.33", 0)).await.unwrap();
    let home = Home::new();
    home.write("peer.pem", &certificate);
    let node = home.start().await;
    let secure = json!({
        "inbound": {"enabled": false},
        "outbound": {"gateway": [{"name": "sbc", "dns": "fixed",
                                  "uri": format!("sip:{address};transport=tls")}]},
        "tls": {"verify": "pin", "ca_file": "peer.pem"},
    });
    node.put(&[
        carrier::trunk(4, "127.0.0.9/32", &[], secure),
        carrier::tenant(1, 4),
        rows::profile(2, 1, json!({"kind": "tone"})),
        rows::number(3, 1, 2, NUMBER),
    ])
    .await;
    let key = key(&node, 1, KeyRole::Operator).await;
    let call = place(&node, &key, json!({"to": CALLED, "from": NUMBER})).await;
    let mut peer = accept((&listener, &acceptor)).await;
    let invite = peer.expect("INVITE ").await;
    let route = format!("<sip:{};transport=tls;lr>", behind.local_addr().unwrap());
    let here = format!("Record-Route: {route}\r\nContact: <sip:gw@{address};transport=tls>\r\n");
    peer.answer(&invite, "200 OK", &here, SDP).await;
    let mut proxied = accept((&behind, &acceptor)).await;
    let ack = proxied.expect("ACK ").await;
    assert_eq!(ack.header("route"), route);
    let path = calls(1, &format!("/{call}/hangup"));
    assert_eq!(node.post(&path, &key, &json!({})).await.status, 202);
    let bye = proxied.expect("BYE ").await;
    proxied.answer(&bye, "200 OK", "", "").await;
    assert_eq!(shown(&node, 1, &call, &key).await["cause"], "normal");
}

#[tokio::test]
async fn a_bye_whose_new_connection_is_refused_waits_for_nobody() {
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
    drop((agent, listener));
    wait_for("the connection is seen to be gone", async || {
        (node.metric("sip_flows_open").await == 0).then_some(())
    })
    .await;
    phone.hang_up().await;
    wait_for("no dialog is left", async || (node.metric("sip_dialogs").await == 0).then_some(()))
        .await;
    // Nobody waited for an answer until a timer ended it.
    let waited = node.metric("sip_endpoint_events_total{what=\"request_timeout\"}").await;
    assert_eq!(waited, 0);
    wait_for("the new connection is counted", async || {
        let refused = node.metric("sip_connects_failed_total{why=\"refused\"}").await;
        (refused > 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_call_whose_connection_is_gone_and_whose_next_hop_is_no_name_ends_with_its_cause() {
    let listener = TcpListener::bind((AGENT, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (node, mut phone) = node(&format!("sip:bot@{address};transport=tcp")).await;
    let offer = phone.sdp();
    let invite = phone.request("INVITE", "", &offer);
    phone.send(invite).await;
    let (stream, _) = timeout(PATIENCE, listener.accept()).await.unwrap().unwrap();
    let mut agent = Peer::new(stream);
    let invite = agent.expect("INVITE ").await;
    let here = format!(
        "Contact: <sip:bot@{address};transport=tcp>\r\nRecord-Route: <sip:nowhere.invalid;lr>\r\n"
    );
    agent.answer(&invite, "200 OK", &here, SDP).await;
    agent.expect("ACK ").await;
    confirm(&mut phone).await;
    // Nobody is there any more, by this way or by another.
    drop((agent, listener));
    phone.hang_up().await;
    let record = node.record(&phone.call_id).await;
    assert_eq!((record.cause.as_str(), record.ended_by.as_str()), ("normal", "caller"));
    wait_for("no call is left", async || (node.metric("calls_open").await == 0).then_some(()))
        .await;
}
