//! The least that answers a call over UDP: the floor of the machine for what a call costs, to run beside the switch.
//!
//! Each INVITE gets 100, 180 and 200 with a description, each BYE 200, by copying lines; two sockets are opened and closed for
//! each call, as its media would. Nothing is parsed, checked, repeated or remembered.
//!
//!     cargo run --release --example bare_responder -- 127.0.0.1:5080

#![allow(clippy::print_stdout, reason = "a program for terminals")]

use std::io;
use std::net::SocketAddr;
use std::net::UdpSocket;

const SDP: &str = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n\
                   m=audio 4000 RTP/AVP 0\r\n";
/// What a response repeats of its request (RFC 3261 section 8.2.6.2).
const COPIED: [&str; 5] = ["via:", "from:", "to:", "call-id:", "cseq:"];

fn main() -> io::Result<()> {
    let at = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:5080".to_owned());
    let socket = UdpSocket::bind(&at)?;
    println!("answers at {}", socket.local_addr()?);
    let mut request = vec![0; 65_535];
    let mut response = String::with_capacity(4_096);
    loop {
        let (length, peer) = socket.recv_from(&mut request)?;
        let Some(text) = request.get(..length).and_then(|bytes| str::from_utf8(bytes).ok()) else {
            continue;
        };
        let mut answer = |status: &str, body: &str| {
            write(&mut response, status, text, socket.local_addr()?, body);
            socket.send_to(response.as_bytes(), peer).map(|_| ())
        };
        if text.starts_with("INVITE ") {
            answer("100 Trying", "")?;
            answer("180 Ringing", "")?;
            for _ in 0..2 {
                drop(UdpSocket::bind(SocketAddr::new(peer.ip(), 0)));
            }
            answer("200 OK", SDP)?;
        } else if text.starts_with("BYE ") {
            answer("200 OK", "")?;
        }
    }
}

fn write(response: &mut String, status: &str, request: &str, contact: SocketAddr, body: &str) {
    response.clear();
    response.extend(["SIP/2.0 ", status, "\r\n"]);
    for line in request.split("\r\n").skip(1).take_while(|line| !line.is_empty()) {
        let is = |name: &&str| {
            line.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name))
        };
        let Some(name) = COPIED.iter().find(|name| is(name)) else { continue };
        let needs_tag = *name == "to:" && !line.contains(";tag=");
        response.extend([line, if needs_tag { ";tag=bare" } else { "" }, "\r\n"]);
    }
    response.push_str(&format!(
        "Contact: <sip:{contact}>\r\nContent-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    ));
}
