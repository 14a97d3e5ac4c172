//! Callers by TCP: answered by another connection than the one they called by, and hung up where their route leads.

use crate::carrier;
use crate::carrier::NUMBER;
use crate::carrier::calls;
use crate::carrier::hear_bye;
use crate::carrier::key;
use crate::next_hops::the_call;
use crate::node::Home;
use crate::node::Node;
use crate::node::PATIENCE;
use crate::peer::Peer;
use crate::phone::Heard;
use crate::phone::Phone;
use crate::rows;
use serde_json::Value;
use serde_json::json;
use std::net::SocketAddr;
use tandem::store::api_keys::KeyRole;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::net::TcpSocket;
use tokio::net::TcpStream;
use tokio::time::timeout;

const CALLER: &str = "127.0.0.2";
/// Where the agent is, and where a proxy is that wants to see the whole dialog. No trunk lists them.
const AGENT: &str = "127.0.0.9";
const PROXY: &str = "127.0.0.33";
const CALL_ID: &str = "by-tcp@127.0.0.2";
const SDP: &str = "v=0\r\no=- 1 1 IN IP4 127.0.0.2\r\ns=-\r\nc=IN IP4 127.0.0.2\r\nt=0 0\r\n\
                   m=audio 9998 RTP/AVP 0\r\n";

/// A caller by TCP, and where it says that it listens.
struct Caller {
    peer: Peer<TcpStream>,
    listener: TcpListener,
}

impl Caller {
    async fn new(node: &Node) -> Self {
        let listener = TcpListener::bind((CALLER, 0)).await.unwrap();
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::new(CALLER.parse().unwrap(), 0)).unwrap();
        let connecting = socket.connect(node.listener("public", "tcp"));
        let stream = timeout(PATIENCE, connecting).await.unwrap().unwrap();
        Self { peer: Peer::new(stream), listener }
    }

    async fn say(&mut self, (method, cseq): (&str, u32), to: &str, (headers, body): (&str, &str)) {
        let here = self.listener.local_addr().unwrap();
        let kind = if body.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
        let request = format!(
            "{method} sip:{NUMBER}@127.0.0.1 SIP/2.0\r\n\
             Via: SIP/2.0/TCP {here};branch=z9hG4bK-{method}-{cseq}\r\nMax-Forwards: 70\r\n\
             From: <sip:+15550123@{CALLER}>;tag=there\r\nTo: {to}\r\nCall-ID: {CALL_ID}\r\n\
             CSeq: {cseq} {method}\r\nContact: <sip:caller@{here};transport=tcp>\r\n{headers}{kind}\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        self.peer.stream.write_all(request.as_bytes()).await.unwrap();
    }

    async fn call(&mut self, headers: &str) {
        self.say(("INVITE", 1), &format!("<sip:{NUMBER}@127.0.0.1>"), (headers, SDP)).await;
    }

    async fn acknowledge(&mut self, ok: &Heard) {
        self.say(("ACK", 1), ok.header("to"), ("", "")).await;
    }
}

async fn accept(listener: &TcpListener) -> Peer<TcpStream> {
    let (stream, _) = timeout(PATIENCE, listener.accept()).await.expect("a connection").unwrap();
    Peer::new(stream)
}

/// A node that takes calls by TCP from [`CALLER`] for this profile.
async fn node(profile: Value) -> Node {
    let node = Home::new().start().await;
    let by_tcp = json!({"inbound": {"transports": ["tcp"]}, "outbound": {"enabled": false}});
    node.put(&[
        carrier::trunk(4, &format!("{CALLER}/32"), &[], by_tcp),
        carrier::tenant(1, 4),
        rows::profile(2, 1, profile),
        rows::number(3, 1, 2, NUMBER),
    ])
    .await;
    node
}

#[tokio::test]
async fn a_caller_whose_connection_closes_while_it_rings_is_answered_by_a_new_one() {
    let mut agent =
        Phone::new(AGENT.parse().unwrap(), "127.0.0.1:5060".parse().unwrap(), NUMBER).await;
    let node = node(json!({"kind": "sip", "uri": format!("sip:bot@{}", agent.local())})).await;
    agent.switch = node.sip();
    let mut caller = Caller::new(&node).await;
    caller.call("").await;
    let invite = agent.expect("INVITE ").await;
    agent.take(&invite);
    agent.respond(&invite, "180 Ringing", "", "").await;
    caller.peer.expect("SIP/2.0 18").await;
    caller.peer.stream.shutdown().await.unwrap();
    // What was said last shows that there is a way.
    caller.peer = accept(&caller.listener).await;
    caller.peer.expect("SIP/2.0 18").await;
    let here = format!("Contact: <sip:bot@{}>\r\n", agent.local());
    agent.respond(&invite, "200 OK", &here, &agent.sdp()).await;
    agent.expect("ACK ").await;
    let ok = caller.peer.expect("SIP/2.0 200").await;
    caller.acknowledge(&ok).await;
    caller.say(("BYE", 2), ok.header("to"), ("", "")).await;
    caller.peer.expect("SIP/2.0 200").await;
    hear_bye(&agent).await;
    let record = node.record(CALL_ID).await;
    assert!(record.is_answered);
    assert_eq!((record.cause.as_str(), record.ended_by.as_str()), ("normal", "caller"));
}

#[tokio::test]
async fn a_caller_that_is_nowhere_any_more_while_it_rings_ends_its_call() {
    let mut agent =
        Phone::new(AGENT.parse().unwrap(), "127.0.0.1:5060".parse().unwrap(), NUMBER).await;
    let node = node(json!({"kind": "sip", "uri": format!("sip:bot@{}", agent.local())})).await;
    agent.switch = node.sip();
    let mut caller = Caller::new(&node).await;
    caller.call("").await;
    let invite = agent.expect("INVITE ").await;
    agent.take(&invite);
    agent.respond(&invite, "180 Ringing", "", "").await;
    caller.peer.expect("SIP/2.0 18").await;
    drop(caller);
    let cancel = agent.expect("CANCEL ").await;
    agent.answer(&cancel, "200 OK").await;
    agent.respond(&invite, "487 Request Terminated", "", "").await;
    let record = node.record(CALL_ID).await;
    assert_eq!((record.cause.as_str(), record.is_answered), ("peer_timeout", false));
}

#[tokio::test]
async fn a_caller_by_tcp_is_hung_up_where_its_record_route_leads() {
    let node = node(json!({"kind": "echo"})).await;
    let proxy = TcpListener::bind((PROXY, 0)).await.unwrap();
    let route = format!("<sip:{};transport=tcp;lr>", proxy.local_addr().unwrap());
    let mut caller = Caller::new(&node).await;
    caller.call(&format!("Record-Route: {route}\r\n")).await;
    let ok = caller.peer.expect("SIP/2.0 200").await;
    assert_eq!(ok.header("record-route"), route);
    caller.acknowledge(&ok).await;
    let key = key(&node, 1, KeyRole::Operator).await;
    let call = the_call(&node, &key).await;
    let path = calls(1, &format!("/{call}/hangup"));
    assert_eq!(node.post(&path, &key, &json!({})).await.status, 202);
    let mut proxied = accept(&proxy).await;
    let bye = proxied.expect("BYE ").await;
    assert_eq!(bye.header("route"), route);
    proxied.answer(&bye, "200 OK", "", "").await;
    assert_eq!(node.record(CALL_ID).await.cause, "normal");
}
