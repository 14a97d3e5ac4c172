//! Connections that are counted, bounded and closed.

use super::*;

/// What a [`Collector`] saw.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    Message(Flow, Bytes),
    Closed(FlowId),
}

/// An ingress that keeps what it is given.
pub(crate) struct Collector(mpsc::Sender<Seen>);

impl Collector {
    pub(crate) fn new() -> (Self, mpsc::Receiver<Seen>) {
        let (sender, receiver) = mpsc::channel(1_000);
        (Self(sender), receiver)
    }

    pub(crate) fn connected() -> (Arc<dyn Ingress>, mpsc::Receiver<Seen>) {
        let (collector, receiver) = Self::new();
        (Arc::new(collector), receiver)
    }
}

impl Ingress for Collector {
    fn receive(&self, flow: Flow, message: Bytes) {
        self.0.try_send(Seen::Message(flow, message)).unwrap();
    }

    fn flow_closed(&self, id: FlowId) {
        self.0.try_send(Seen::Closed(id)).unwrap();
    }
}

fn remote(last: u8, port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, last], port))
}

fn peer(last: u8, port: u16, transport: Transport) -> Flow {
    let (local, remote) = (remote(1, 5060), remote(last, port));
    Flow { id: FlowId::ANY, listener: 0, transport, local, remote }
}

fn tcp(last: u8, port: u16) -> Flow {
    peer(last, port, Transport::Tcp)
}

#[test]
fn connections_are_bounded_in_all_and_by_address() {
    let limits = FlowLimits { flows_max: 3, flows_per_address_max: 2, ..FlowLimits::default() };
    let flows = Flows::new(limits);
    let first = flows.add_stream(tcp(1, 1)).unwrap();
    let _second = flows.add_stream(tcp(1, 2)).unwrap();
    assert!(flows.add_stream(tcp(1, 3)).is_none(), "two of one address");
    let _third = flows.add_stream(tcp(2, 1)).unwrap();
    assert!(flows.add_stream(tcp(3, 1)).is_none(), "three in all");
    flows.remove_stream(first.flow.id, FlowEnd::Told);
    flows.remove_stream(first.flow.id, FlowEnd::Told);
    assert_eq!(flows.streams_open(), 2);
    assert!(flows.add_stream(tcp(1, 4)).is_some());
}

#[test]
fn a_full_queue_asks_the_connection_to_close() {
    let flows = Flows::new(FlowLimits { queue_max: 1, ..FlowLimits::default() });
    let end = flows.add_stream(tcp(1, 9)).unwrap();
    let flow = end.flow;
    assert_eq!(flows.send(&flow, Bytes::from_static(b"a")), Ok(flow.id));
    assert_eq!(flows.send(&flow, Bytes::from_static(b"b")), Err(SendError::Full));
    flows.remove_stream(end.flow.id, FlowEnd::Idle);
    assert_eq!(flows.send(&flow, Bytes::from_static(b"c")), Err(SendError::Gone));
    assert_eq!(flows.why_closed(flow.id), Some(FlowEnd::Idle));
    let stray = Flow { transport: Transport::Udp, ..flow };
    assert_eq!(flows.send(&stray, Bytes::from_static(b"d")), Err(SendError::Gone));
}

#[test]
fn handshakes_of_peers_are_bounded_until_they_are_done() {
    let limits = FlowLimits { handshakes_max: 1, ..FlowLimits::default() };
    let flows = Flows::new(limits);
    let first = flows.add_stream(peer(1, 1, Transport::Tls)).unwrap();
    assert!(flows.add_stream(peer(2, 1, Transport::Tls)).is_none());
    assert!(flows.add_stream(peer(2, 1, Transport::Tcp)).is_some(), "no handshake");
    flows.secured(first.flow.id, None);
    let second = flows.add_stream(peer(2, 1, Transport::Tls)).unwrap();
    flows.remove_stream(second.flow.id, FlowEnd::PeerClosed);
    flows.remove_stream(first.flow.id, FlowEnd::PeerClosed);
    assert!(flows.add_stream(peer(3, 1, Transport::Tls)).is_some());
}
