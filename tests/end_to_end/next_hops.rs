//! Where requests of the switch go: by TCP when they are too long for a datagram, and to the next hop that a
//! Record-Route names, whatever the call itself came by.

use crate::call_out;
use crate::call_out::place;
use crate::carrier;
use crate::carrier::CALLED;
use crate::carrier::NUMBER;
use crate::carrier::calls;
use crate::carrier::hear_bye;
use crate::carrier::key;
use crate::carrier::pick_up;
use crate::carrier::shown;
use crate::carrier::steps;
use crate::name_server::NameServer;
use crate::name_server::Says;
use crate::node::Home;
use crate::node::Node;
use crate::node::PATIENCE;
use crate::node::wait_for;
use crate::peer::Peer;
use crate::phone::Phone;
use crate::rows;
use serde_json::Value;
use serde_json::json;
use socket2::Domain;
use socket2::Socket;
use socket2::Type;
use std::net::IpAddr;
use std::net::SocketAddr;
use tandem::store::api_keys::KeyRole;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::net::UdpSocket;
use tokio::time::timeout;

const CALLER: &str = "127.0.0.2";
const FAR: &str = "127.0.0.9";
/// Where a proxy is that wants to see the whole dialog. No trunk lists it.
const PROXY: &str = "127.0.0.33";

/// A TCP listener and a UDP socket at the same port.
async fn both_at(host: &str) -> (TcpListener, UdpSocket) {
    let host: IpAddr = host.parse().unwrap();
    for _ in 0..50 {
        let listener = TcpListener::bind((host, 0)).await.unwrap();
        if let Ok(socket) = UdpSocket::bind(listener.local_addr().unwrap()).await {
            return (listener, socket);
        }
    }
    panic!("no port is free for both");
}

async fn accept(listener: &TcpListener) -> Peer<TcpStream> {
    let (stream, _) = timeout(PATIENCE, listener.accept()).await.expect("a connection").unwrap();
    Peer::new(stream)
}

/// What trunks say of long requests. Every INVITE with a description is longer than this, and no BYE.
fn long(oversize: &str, transports: &[&str]) -> Value {
    json!({"network": {"udp_max_bytes": 650, "udp_oversize": oversize},
           "inbound": {"transports": transports}})
}

/// A node whose number is answered, and whose carrier is at [`CALLER`].
async fn node(names: &str, mut more: Value) -> (Node, String) {
    carrier::merge(&mut more, json!({"outbound": {"enabled": false}}));
    let node = Home::with("127.0.0.1:0", 100, names).start().await;
    node.put(&[
        carrier::trunk(4, &format!("{CALLER}/32"), &[], more),
        carrier::tenant(1, 4),
        rows::profile(2, 1, json!({"kind": "echo"})),
        rows::number(3, 1, 2, NUMBER),
    ])
    .await;
    let key = key(&node, 1, KeyRole::Operator).await;
    (node, key)
}

/// The one call there is.
pub(crate) async fn the_call(node: &Node, key: &str) -> String {
    wait_for("the call is stored", async || {
        let list = node.read(&calls(1, ""), key).await;
        Some(list["calls"][0]["id"].as_str()?.to_owned())
    })
    .await
}

async fn order(node: &Node, key: &str, call: &str, name: &str) {
    let answer = node.post(&calls(1, &format!("/{call}/{name}")), key, &json!({})).await;
    assert!(matches!(answer.status, 200 | 202), "{name}: {} {}", answer.status, answer.body);
}

#[tokio::test]
async fn a_long_invite_takes_its_whole_call_to_tcp() {
    let node = Home::new().start().await;
    let (listener, silent) = both_at(FAR).await;
    let address = listener.local_addr().unwrap();
    node.put(&[
        carrier::trunk(4, "127.0.0.9/32", &[address], long("tcp", &["udp"])),
        carrier::tenant(1, 4),
        rows::profile(2, 1, json!({"kind": "echo"})),
        rows::number(3, 1, 2, NUMBER),
    ])
    .await;
    let key = key(&node, 1, KeyRole::Operator).await;
    let call = place(&node, &key, json!({"to": CALLED, "from": NUMBER})).await;
    let mut far = accept(&listener).await;
    let invite = far.expect("INVITE ").await;
    assert!(invite.header("via").starts_with("SIP/2.0/TCP "), "{invite:?}");
    assert!(invite.header("contact").contains(";transport=tcp"), "{invite:?}");
    let here = format!("Contact: <sip:gw@{address};transport=tcp>\r\n");
    let media = Phone::new(FAR.parse().unwrap(), node.sip(), CALLED).await;
    far.answer(&invite, "200 OK", &here, &media.sdp()).await;
    far.expect("ACK ").await;
    order(&node, &key, &call, "hold").await;
    let again = far.expect("INVITE ").await;
    far.answer(&again, "200 OK", &here, &format!("{}a=recvonly\r\n", media.sdp())).await;
    far.expect("ACK ").await;
    order(&node, &key, &call, "hangup").await;
    let bye = far.expect("BYE ").await;
    far.answer(&bye, "200 OK", "", "").await;
    let record = shown(&node, 1, &call, &key).await;
    assert_eq!(record["transport"], "tcp", "{record}");
    let mut buffer = [0; 16];
    assert!(silent.try_recv_from(&mut buffer).is_err(), "something came as a datagram");
}

#[tokio::test]
async fn a_long_invite_to_who_takes_no_tcp_comes_as_a_datagram_after_all() {
    let (node, mut far, key) = call_out::node(json!({"kind": "echo"}), long("tcp", &["udp"])).await;
    let call = place(&node, &key, json!({"to": CALLED, "from": NUMBER})).await;
    let invite = far.expect("INVITE ").await;
    assert!(invite.header("via").starts_with("SIP/2.0/UDP "), "{invite:?}");
    pick_up(&mut far, &invite).await;
    order(&node, &key, &call, "hangup").await;
    hear_bye(&far).await;
    let steps = steps(&shown(&node, 1, &call, &key).await);
    assert!(steps.contains("answered"), "{steps}");
}

/// A TCP port that says nothing to who knocks, as behind a firewall: its queue of connections is full, and the
/// kernel drops what would begin another.
fn deaf(at: SocketAddr) -> Vec<Socket> {
    let socket = || Socket::new(Domain::for_address(at), Type::STREAM, None).unwrap();
    let listener = socket();
    listener.bind(&at.into()).unwrap();
    listener.listen(0).unwrap();
    let waiting = (0..4).map(|_| {
        let waiting = socket();
        waiting.set_nonblocking(true).unwrap();
        // Those that found room are open, the others knock on.
        drop(waiting.connect(&at.into()));
        waiting
    });
    waiting.collect::<Vec<_>>().into_iter().chain([listener]).collect()
}

#[tokio::test]
async fn a_long_invite_to_who_never_opens_tcp_comes_as_a_datagram_before_that_counts_as_silent() {
    let (node, mut far, key) = call_out::node(json!({"kind": "echo"}), long("tcp", &["udp"])).await;
    let _deaf = deaf(far.local());
    let call = place(&node, &key, json!({"to": CALLED, "from": NUMBER})).await;
    let invite = far.expect("INVITE ").await;
    assert!(invite.header("via").starts_with("SIP/2.0/UDP "), "{invite:?}");
    pick_up(&mut far, &invite).await;
    order(&node, &key, &call, "hangup").await;
    hear_bye(&far).await;
    let failed = "sip_connects_failed_total{why=\"connect_timeout\"}";
    assert_eq!(node.metric(failed).await, 1, "it was not refused, nor opened");
    let steps = steps(&shown(&node, 1, &call, &key).await);
    assert!(steps.contains("answered") && !steps.contains("no reply"), "{steps}");
}

#[tokio::test]
async fn a_gateway_that_never_opens_its_connection_is_left_for_the_next_in_its_time() {
    let closed = std::net::TcpListener::bind((FAR, 0)).unwrap().local_addr().unwrap();
    let _deaf = deaf(closed);
    let node = Home::new().start().await;
    let mut far = carrier::carrier(&node, FAR).await;
    let gateways = json!([
        {"name": "deaf", "uri": format!("sip:{closed};transport=tcp"), "dns": "fixed", "priority": 1},
        {"name": "well", "uri": format!("sip:{}", far.local()), "dns": "fixed", "priority": 2},
    ]);
    node.put(&[
        carrier::trunk(4, "127.0.0.9/32", &[], json!({"outbound": {"gateway": gateways}})),
        carrier::tenant(1, 4),
        rows::profile(2, 1, json!({"kind": "echo"})),
        rows::number(3, 1, 2, NUMBER),
    ])
    .await;
    let key = key(&node, 1, KeyRole::Operator).await;
    let call = place(&node, &key, json!({"to": CALLED, "from": NUMBER})).await;
    let invite = far.expect("INVITE ").await;
    pick_up(&mut far, &invite).await;
    order(&node, &key, &call, "hangup").await;
    hear_bye(&far).await;
    let failed = "sip_connects_failed_total{why=\"connect_timeout\"}";
    wait_for("the connection is given up", async || (node.metric(failed).await == 1).then_some(()))
        .await;
    let steps = steps(&shown(&node, 1, &call, &key).await);
    assert!(steps.contains("1: deaf") && steps.contains("2: well"), "{steps}");
}

#[tokio::test]
async fn a_long_reinvite_of_a_call_by_udp_goes_by_tcp_where_that_is_taken() {
    let (node, key) = node("", long("compact", &["udp", "tcp"])).await;
    let (listener, socket) = both_at(CALLER).await;
    let mut phone = Phone::new(CALLER.parse().unwrap(), node.sip(), NUMBER).await;
    phone.socket = socket;
    phone.call("").await;
    let call = the_call(&node, &key).await;
    order(&node, &key, &call, "hold").await;
    let mut by_tcp = accept(&listener).await;
    let invite = by_tcp.expect("INVITE ").await;
    assert!(invite.header("via").starts_with("SIP/2.0/TCP "), "{invite:?}");
    assert!(invite.body.contains("a=sendonly"), "{invite:?}");
    let here = format!("Contact: <sip:phone@{}>\r\n", phone.local());
    by_tcp.answer(&invite, "200 OK", &here, &format!("{}a=recvonly\r\n", phone.sdp())).await;
    // What is short goes on as it was.
    phone.expect("ACK ").await;
    drop(by_tcp);
    order(&node, &key, &call, "hangup").await;
    hear_bye(&phone).await;
    let record = shown(&node, 1, &call, &key).await;
    assert_eq!((&record["cause"], &record["ended_by"]), (&json!("normal"), &json!("operator")));
}

#[tokio::test]
async fn a_long_reinvite_comes_as_a_datagram_to_who_refuses_tcp() {
    let (node, key) = node("", long("tcp", &["udp"])).await;
    let mut phone = Phone::new(CALLER.parse().unwrap(), node.sip(), NUMBER).await;
    phone.call("").await;
    let call = the_call(&node, &key).await;
    order(&node, &key, &call, "hold").await;
    let invite = phone.expect("INVITE ").await;
    assert!(invite.header("via").starts_with("SIP/2.0/UDP "), "{invite:?}");
    phone.answer_with(&invite, "200 OK", &format!("{}a=recvonly\r\n", phone.sdp())).await;
    phone.expect("ACK ").await;
    phone.hang_up().await;
}

#[tokio::test]
async fn what_is_too_long_for_udp_where_nothing_else_is_allowed_says_so() {
    let (node, far, key) = call_out::node(json!({"kind": "echo"}), long("compact", &["udp"])).await;
    let call = place(&node, &key, json!({"to": CALLED, "from": NUMBER})).await;
    let record = shown(&node, 1, &call, &key).await;
    let steps = steps(&record);
    assert!(steps.contains("too long for UDP, and nothing else is allowed"), "{steps}");
    assert!(record["times"]["answered"].is_null(), "{record}");

    let mut phone = Phone::new(FAR.parse().unwrap(), node.sip(), NUMBER).await;
    phone.call("").await;
    let running = wait_for("the call is stored", async || {
        let list = node.read(&calls(1, ""), &key).await;
        let mut ids = list["calls"].as_array()?.iter().filter_map(|call| call["id"].as_str());
        Some(ids.find(|id| *id != call)?.to_owned())
    })
    .await;
    order(&node, &key, &running, "hold").await;
    let refused = "sip_endpoint_events_total{what=\"request_too_long\"}";
    wait_for("it is counted", async || (node.metric(refused).await == 2).then_some(())).await;
    // The call itself goes on, and ends.
    phone.hang_up().await;
    let mut buffer = [0; 16];
    assert!(far.socket.try_recv_from(&mut buffer).is_err(), "something was sent");
}

#[tokio::test]
async fn a_record_route_with_a_name_is_followed_to_where_dns_says() {
    let names = NameServer::start().await;
    names.says("proxy.test", Says::Address(PROXY.parse().unwrap()));
    let (node, key) = node(&names.line(), json!({})).await;
    let proxy = carrier::carrier(&node, PROXY).await;
    let mut phone = Phone::new(CALLER.parse().unwrap(), node.sip(), NUMBER).await;
    let route = format!("<sip:proxy.test:{};lr>", proxy.local().port());
    phone.call(&format!("Record-Route: {route}\r\n")).await;
    let call = the_call(&node, &key).await;
    order(&node, &key, &call, "hold").await;
    let invite = proxy.expect("INVITE ").await;
    assert_eq!(invite.header("route"), route);
    let answer = |description: &str| {
        let headers =
            format!("Contact: <sip:phone@{}>\r\nContent-Type: application/sdp\r\n", phone.local());
        Phone::response(&invite, "200 OK", &headers)
            .replace("Content-Length: 0", &format!("Content-Length: {}", description.len()))
            + description
    };
    proxy.send(answer(&format!("{}a=recvonly\r\n", phone.sdp()))).await;
    proxy.expect("ACK ").await;
    let asked = names.asked("proxy.test");
    assert!(asked > 0);
    // No more questions for what is known; and the proxy's own answers are heard.
    order(&node, &key, &call, "hangup").await;
    hear_bye(&proxy).await;
    assert_eq!(names.asked("proxy.test"), asked);
    assert_eq!(shown(&node, 1, &call, &key).await["cause"], "normal");
    let mut buffer = [0; 2_048];
    // Repeated responses may have come, but no request.
    while let Ok((length, _)) = phone.socket.try_recv_from(&mut buffer) {
        assert!(buffer[..length].starts_with(b"SIP/2.0 "), "the proxy was passed by");
    }
}

#[tokio::test]
async fn a_record_route_whose_name_is_none_leads_back_to_the_caller() {
    let names = NameServer::start().await;
    let (node, key) = node(&names.line(), json!({})).await;
    let mut phone = Phone::new(CALLER.parse().unwrap(), node.sip(), NUMBER).await;
    phone.call("Record-Route: <sip:inside.test;lr>\r\n").await;
    let call = the_call(&node, &key).await;
    order(&node, &key, &call, "hangup").await;
    let bye = hear_bye(&phone).await;
    assert_eq!(bye.header("route"), "<sip:inside.test;lr>");
    assert_eq!(shown(&node, 1, &call, &key).await["cause"], "normal");
}

#[tokio::test]
async fn a_record_route_that_asks_for_tcp_gets_it_in_a_call_by_udp() {
    let (node, key) = node("", json!({})).await;
    let listener = TcpListener::bind((PROXY, 0)).await.unwrap();
    let proxy: SocketAddr = listener.local_addr().unwrap();
    let mut phone = Phone::new(CALLER.parse().unwrap(), node.sip(), NUMBER).await;
    phone.call(&format!("Record-Route: <sip:{proxy};transport=tcp;lr>\r\n")).await;
    let call = the_call(&node, &key).await;
    order(&node, &key, &call, "hangup").await;
    let mut proxied = accept(&listener).await;
    // From the address that its peers know the switch by.
    assert_eq!(proxied.stream.peer_addr().unwrap().ip(), node.sip().ip());
    let bye = proxied.expect("BYE ").await;
    assert!(bye.header("via").starts_with("SIP/2.0/TCP "), "{bye:?}");
    proxied.answer(&bye, "200 OK", "", "").await;
    assert_eq!(shown(&node, 1, &call, &key).await["cause"], "normal");
}

#[tokio::test]
async fn a_record_route_of_another_host_gets_ack_and_bye_in_a_call_by_tcp() {
    let node = Home::new().start().await;
    let balancer = TcpListener::bind((FAR, 0)).await.unwrap();
    let behind = TcpListener::bind((PROXY, 0)).await.unwrap();
    let (address, proxy) = (balancer.local_addr().unwrap(), behind.local_addr().unwrap());
    let gateway =
        json!({"name": "lb", "dns": "fixed", "uri": format!("sip:{address};transport=tcp")});
    node.put(&[
        carrier::trunk(4, &format!("{FAR}/32"), &[], json!({"outbound": {"gateway": [gateway]}})),
        carrier::tenant(1, 4),
        rows::profile(2, 1, json!({"kind": "echo"})),
        rows::number(3, 1, 2, NUMBER),
    ])
    .await;
    let key = key(&node, 1, KeyRole::Operator).await;
    let call = place(&node, &key, json!({"to": CALLED, "from": NUMBER})).await;
    let mut far = accept(&balancer).await;
    let invite = far.expect("INVITE ").await;
    let route = format!("<sip:{proxy};transport=tcp;lr>");
    let here = format!("Record-Route: {route}\r\nContact: <sip:gw@{address};transport=tcp>\r\n");
    let media = Phone::new(FAR.parse().unwrap(), node.sip(), CALLED).await;
    far.answer(&invite, "200 OK", &here, &media.sdp()).await;
    let mut proxied = accept(&behind).await;
    let ack = proxied.expect("ACK ").await;
    assert_eq!(ack.header("route"), route);
    order(&node, &key, &call, "hangup").await;
    let bye = proxied.expect("BYE ").await;
    assert_eq!(bye.header("route"), route);
    proxied.answer(&bye, "200 OK", "", "").await;
    assert_eq!(shown(&node, 1, &call, &key).await["cause"], "normal");
    let mut passed = [0; 2_048];
    let length = far.stream.try_read(&mut passed).unwrap_or(0);
    let passed = String::from_utf8_lossy(&passed[..length]);
    assert!(!passed.contains("ACK ") && !passed.contains("BYE "), "{passed}");
}

#[tokio::test]
async fn a_carrier_behind_a_name_gets_its_ack_and_its_bye_there() {
    let names = NameServer::start().await;
    names.says("sbc.test", Says::Address(PROXY.parse().unwrap()));
    let node = Home::with("127.0.0.1:0", 100, &names.line()).start().await;
    let (far, behind) = (carrier::carrier(&node, FAR).await, carrier::carrier(&node, PROXY).await);
    node.put(&[
        carrier::trunk(4, &format!("{FAR}/32"), &[far.local()], json!({})),
        carrier::tenant(1, 4),
        rows::profile(2, 1, json!({"kind": "echo"})),
        rows::number(3, 1, 2, NUMBER),
    ])
    .await;
    let key = key(&node, 1, KeyRole::Operator).await;
    let call = place(&node, &key, json!({"to": CALLED, "from": NUMBER})).await;
    let invite = far.expect("INVITE ").await;
    let contact = format!("Contact: <sip:gw@sbc.test:{}>\r\n", behind.local().port());
    far.respond(&invite, "200 OK", &contact, &far.sdp()).await;
    let ack = behind.expect("ACK ").await;
    assert!(ack.start.starts_with("ACK sip:gw@sbc.test:"), "{ack:?}");
    order(&node, &key, &call, "hangup").await;
    hear_bye(&behind).await;
    assert_eq!(shown(&node, 1, &call, &key).await["cause"], "normal");
}
