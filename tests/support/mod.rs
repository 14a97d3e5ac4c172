//! What the tests of the SIP endpoint share: a scripted peer and a bad network, in virtual time.
#![allow(dead_code, reason = "each test program uses a part of it")]

pub(crate) mod network;
pub(crate) mod script;
pub(crate) mod solo;

use bytes::Bytes;
use std::net::SocketAddr;
use tandem::sip::endpoint::config::EndpointConfig;
use tandem::sip::endpoint::config::ListenerAddress;
use tandem::sip::endpoint::config::Timers;
use tandem::sip::endpoint::flow::Flow;
use tandem::sip::endpoint::flow::FlowId;
use tandem::sip::endpoint::policy::DialogPolicy;
use tandem::types::transport::Transport;

/// A session description, good enough for an endpoint that never reads one.
pub(crate) const SDP: &str = "v=0\r\no=- 1 1 IN IP4 192.0.2.9\r\ns=-\r\nc=IN IP4 192.0.2.9\r\nt=0 0\r\n\
    m=audio 4000 RTP/AVP 0\r\n";

/// The settings of an endpoint at `host`.
pub(crate) fn config(seed: u64, host: &str) -> EndpointConfig {
    EndpointConfig {
        seed,
        product: "Tandem".to_owned(),
        listeners: vec![ListenerAddress { host: host.to_owned(), port: 5060 }],
        timers: Timers::default(),
        policy: DialogPolicy::default(),
        takes_replaces: false,
    }
}

/// The way between us at 192.0.2.1 and the peer at 192.0.2.2.
pub(crate) fn flow(transport: Transport) -> Flow {
    between(transport, "192.0.2.1:5060", "192.0.2.2:5060")
}

/// The way between two addresses.
pub(crate) fn between(transport: Transport, local: &str, remote: &str) -> Flow {
    let (local, remote): (SocketAddr, SocketAddr) =
        (local.parse().unwrap(), remote.parse().unwrap());
    Flow { id: FlowId(1), listener: 0, transport, local, remote }
}

pub(crate) fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}
