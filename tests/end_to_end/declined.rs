//! INVITEs that the SIP endpoint settles by itself: each leaves a record that says why.

use crate::node::Home;
use crate::node::Node;
use crate::node::PATIENCE;
use crate::node::wait_for;
use crate::rows;
use serde_json::json;
use std::net::SocketAddr;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::net::UdpSocket;
use tokio::time::timeout;

const NUMBER: &str = "+15550160";
const CALLER: &str = "+15557703";

/// An INVITE of a carrier, before anything is wrong with it.
fn invite(local: SocketAddr, call: &str) -> String {
    format!(
        "INVITE sip:{NUMBER}@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP {local};branch=z9hG4bK{call}\r\n\
         Max-Forwards: 70\r\nFrom: <sip:{CALLER}@{local}>;tag=f{call}\r\nTo: <sip:{NUMBER}@127.0.0.1>\r\n\
         Call-ID: {call}@declined\r\nCSeq: 1 INVITE\r\nContact: <sip:{local}>\r\n\
         Content-Length: 0\r\n\r\n"
    )
}

/// Sends what is wrong until the final response to it, and not to another, is there; its status.
async fn send(socket: &UdpSocket, node: &Node, text: &str) -> u16 {
    let mut buffer = vec![0; 65_536];
    socket.send_to(text.as_bytes(), node.sip()).await.unwrap();
    let branch = text.split_once("branch=").and_then(|(_, rest)| rest.lines().next()).unwrap();
    let answer = async {
        loop {
            let length = socket.recv(&mut buffer).await.unwrap();
            let text = String::from_utf8_lossy(&buffer[..length]);
            let status = text.split(' ').nth(1).and_then(|status| status.parse().ok());
            let status = status.filter(|_| text.contains(&format!("branch={branch}")));
            if let Some(status) = status.filter(|status| *status >= 200) {
                return status;
            }
        }
    };
    timeout(PATIENCE, answer).await.expect("it is answered")
}

/// Waits until the record of a call is there with this status, cause and reason.
async fn recorded(node: &Node, call: &str, of: &str, why: &str) {
    let found = format!(
        "SELECT count(*) FROM calls WHERE signalling_id = '{call}@declined' AND {of} \
         AND decision::text LIKE '%{why}%' AND ended_by = 'switch' AND tenant_id IS NULL \
         AND caller = '{CALLER}'"
    );
    wait_for(&found, async || (node.count(&found).await == 1).then_some(())).await;
}

async fn node() -> Node {
    let node = Home::new().start().await;
    node.put(&[
        rows::tenant(1, 0),
        rows::trunk(2, "127.0.0.1/32"),
        rows::profile(3, 1, json!({"kind": "tone"})),
        rows::number(4, 1, 3, NUMBER),
    ])
    .await;
    node
}

#[tokio::test]
async fn an_invite_that_breaks_a_rule_leaves_a_record_that_says_which() {
    let node = node().await;
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let local = socket.local_addr().unwrap();
    let body = "Content-Type: text/plain\r\nContent-Length: 2\r\n\r\nhi";
    for (call, status, (from, to), why) in [
        ("a", 400, ("Contact:", "X-Contact:"), "Contact is missing"),
        ("b", 400, ("CSeq: 1", "CSeq: one"), "Bad CSeq, at byte"),
        ("c", 415, ("Content-Length: 0\r\n\r\n", body), "type of its body"),
        ("d", 416, ("INVITE sip:", "INVITE urn:"), "neither sip: nor tel:"),
        ("e", 420, ("Max-Forwards", "Require: x-new\r\nMax-Forwards"), "not served: x-new"),
        ("f", 481, ("127.0.0.1>\r\n", "127.0.0.1>;tag=gone\r\n"), "of a call that is not here"),
        ("g", 483, ("Max-Forwards: 70", "Max-Forwards: 0"), "Max-Forwards is 0"),
        ("h", 505, ("SIP/2.0\r\nVia", "SIP/3.0\r\nVia"), "Version Not Supported"),
    ] {
        let text = invite(local, call).replacen(from, to, 1);
        assert_eq!(send(&socket, &node, &text).await, status, "{text}");
        // It comes again, as if our answer had been lost, and is still one attempt.
        assert_eq!(send(&socket, &node, &text).await, status, "{text}");
        let dialled = if status == 416 { "" } else { NUMBER };
        let of = format!("sip_status = {status} AND dialled_text = '{dialled}'");
        recorded(&node, call, &of, why).await;
    }
}

#[tokio::test]
async fn an_invite_that_comes_by_two_ways_leaves_the_record_of_its_call_and_one_of_the_copy() {
    let node = node().await;
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let local = socket.local_addr().unwrap();
    let first = invite(local, "m");
    socket.send_to(first.as_bytes(), node.sip()).await.unwrap();
    let other = first.replacen("branch=z9hG4bKm", "branch=z9hG4bKother", 1);
    assert_eq!(send(&socket, &node, &other).await, 482);
    recorded(&node, "m", "sip_status = 482 AND cause = 'loop'", "by another way").await;
}

#[tokio::test]
async fn an_invite_on_a_stream_that_cannot_be_cut_leaves_a_record() {
    let node = node().await;
    let mut stream = TcpStream::connect(node.listener("public", "tcp")).await.unwrap();
    let text = invite(stream.local_addr().unwrap(), "s");
    let text = text.replacen("Content-Length: 0", "Content-Length: 99999999", 1);
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut answer = String::new();
    timeout(PATIENCE, stream.read_to_string(&mut answer)).await.expect("it closes").unwrap();
    assert!(answer.starts_with("SIP/2.0 513 "), "{answer}");
    recorded(&node, "s", "sip_status = 513 AND transport = 'tcp'", "connection is closed").await;
}
