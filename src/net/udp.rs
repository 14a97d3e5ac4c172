//! UDP listeners: binding, and the receive loops.

use crate::net::bind::BindError;
use crate::net::datagram;
use crate::net::datagram::DatagramReader;
use crate::net::datagram::DatagramSocket;
use crate::net::datagram::QUOTE_BYTES_MAX;
use crate::net::datagram::Received;
use crate::net::datagram::Unreached;
use crate::net::flow::Flows;
use crate::net::flow::Ingress;
use crate::net::mark::mark;
use crate::sip::endpoint::flow::Flow;
use crate::sip::endpoint::flow::FlowId;
use crate::telemetry::metric;
use crate::telemetry::metric::Counter;
use crate::types::limit::SIP_MESSAGE_BYTES_MAX;
use crate::types::transport::Transport;
use bytes::Bytes;
use socket2::Domain;
use socket2::Protocol;
use socket2::SockRef;
use socket2::Socket;
use socket2::Type;
use std::io;
use std::net::SocketAddr;
use std::net::UdpSocket;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::AbortHandle;

/// Room for a burst of datagrams, in bytes; the kernel gives less where its limit is lower.
const RECEIVE_BUFFER_BYTES: usize = 4 * 1024 * 1024;
/// Wait after an unexpected error of a socket, so that it cannot spin.
const ERROR_PAUSE: Duration = Duration::from_millis(50);
/// Datagrams taken from one socket before other tasks get their turn.
const READS_PER_TURN_MAX: usize = 64;

/// Bound sockets of one listener that do not receive yet.
#[derive(Debug)]
pub struct UdpBound {
    sockets: Vec<UdpSocket>,
    local: SocketAddr,
}

/// A running UDP listener; dropping it ends its receive loops.
#[derive(Debug)]
pub struct UdpListener {
    listener: u16,
    local: SocketAddr,
    ids: Vec<FlowId>,
    readers: Vec<AbortHandle>,
    flows: Flows,
}

/// Binds `sockets` sockets to `address`; port 0 takes a free port, the same for all of them.
///
/// # Errors
/// When the address cannot be had, [`BindError`] says why.
pub fn bind(address: SocketAddr, sockets: usize) -> Result<UdpBound, BindError> {
    let failed = |error| BindError::of(Transport::Udp, address, error);
    // The first is bound without SO_REUSEPORT: with it, a second program of the same user would
    // share the port, and take a part of the calls, instead of failing.
    let first = open(address, false).map_err(failed)?;
    let local = first.local_addr().map_err(failed)?;
    if sockets <= 1 {
        return Ok(UdpBound { sockets: vec![first], local });
    }
    drop(first);
    let sockets = (0..sockets).map(|_| open(local, true)).collect::<io::Result<Vec<_>>>();
    Ok(UdpBound { sockets: sockets.map_err(failed)?, local })
}

fn open(address: SocketAddr, shared: bool) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_port(shared)?;
    // Less room than asked for is no reason not to start.
    if let Err(error) = socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES) {
        tracing::debug!(%error, "the receive buffer stays at the system's default");
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}

impl UdpBound {
    /// The address bound, with its real port.
    #[must_use]
    pub const fn local(&self) -> SocketAddr {
        self.local
    }

    /// Starts receiving into `ingress`, and makes the sockets known to `flows`.
    ///
    /// # Errors
    /// When the operating system has no descriptors left.
    pub fn start(
        self,
        listener: u16,
        flows: &Flows,
        ingress: &Arc<dyn Ingress>,
    ) -> io::Result<UdpListener> {
        let flows = flows.clone();
        let (local, ids, readers) = (self.local, Vec::new(), Vec::new());
        let mut running = UdpListener { listener, local, ids, readers, flows };
        for socket in self.sockets {
            mark(SockRef::from(&socket), local.ip(), running.flows.class_of(listener));
            let (socket, reader) = DatagramSocket::split(socket)?;
            let id = running.flows.add_socket(socket, listener, local);
            let remote = running.local;
            let flow =
                Flow { id, listener, transport: Transport::Udp, local: running.local, remote };
            let task = tokio::spawn(receive(reader, flow, ingress.clone()));
            running.ids.push(id);
            running.readers.push(task.abort_handle());
        }
        Ok(running)
    }
}

impl UdpListener {
    /// The address bound.
    #[must_use]
    pub const fn local(&self) -> SocketAddr {
        self.local
    }

    /// The flow from this listener to `remote`, for requests of our own.
    #[must_use]
    pub fn flow_to(&self, remote: SocketAddr) -> Flow {
        let id = self.ids.first().copied().unwrap_or(FlowId::ANY);
        let (listener, local) = (self.listener, self.local);
        Flow { id, listener, transport: Transport::Udp, local, remote }
    }
}

impl Drop for UdpListener {
    fn drop(&mut self) {
        for reader in &self.readers {
            reader.abort();
        }
        for id in &self.ids {
            self.flows.remove_socket(*id);
        }
    }
}

pub(crate) async fn receive(mut socket: DatagramReader, flow: Flow, ingress: Arc<dyn Ingress>) {
    let mut buffer = vec![0; SIP_MESSAGE_BYTES_MAX + 1];
    let received = metric::counter(Counter::SipDatagramsReceived);
    loop {
        let Ok(ready) = socket.ready().await else {
            tokio::time::sleep(ERROR_PAUSE).await;
            continue;
        };
        if ready.is_error() {
            tell_unreached(&mut socket, &mut buffer, &*ingress);
        }
        let mut drained = false;
        for _ in 0..READS_PER_TURN_MAX {
            match socket.try_receive(&mut buffer) {
                Ok(Received { length, remote, local }) => {
                    received.increment(1);
                    // An empty datagram or a bare line end only keeps a NAT binding open.
                    let datagram = buffer.get(..length).unwrap_or(&[]);
                    if datagram.iter().any(|byte| !matches!(byte, b'\r' | b'\n')) {
                        let ip = local.unwrap_or(flow.local.ip());
                        let local = SocketAddr::new(ip, flow.local.port());
                        // A copy, so that a message kept for a call's life keeps only itself.
                        let message = Bytes::copy_from_slice(datagram);
                        ingress.receive(Flow { remote, local, ..flow }, message);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    drained = true;
                    break;
                }
                // What it tells of is in the queue of errors.
                Err(error) if datagram::is_report(&error) => {}
                Err(error) => {
                    tracing::debug!(local = %flow.local, %error, "a datagram could not be read");
                    tokio::time::sleep(ERROR_PAUSE).await;
                    break;
                }
            }
        }
        // The wait for the next datagram is a turn for others too, and costs no look at all sockets.
        if !drained {
            tokio::task::yield_now().await;
        }
    }
}

/// Tells of datagrams of ours that did not arrive.
fn tell_unreached(socket: &mut DatagramReader, buffer: &mut [u8], ingress: &dyn Ingress) {
    for _ in 0..READS_PER_TURN_MAX {
        let Some(room) = buffer.get_mut(..QUOTE_BYTES_MAX) else { return };
        match socket.try_unreached(room) {
            Ok(Some(Unreached { length, remote })) => {
                ingress.unreached(remote, buffer.get(..length).unwrap_or(&[]));
            }
            Ok(None) => {}
            Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::flow::FlowLimits;
    use crate::net::flow::tests::Collector;
    use crate::net::flow::tests::Seen;
    use tokio::sync::mpsc;

    fn anywhere() -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 0))
    }

    #[tokio::test]
    async fn a_datagram_comes_in_and_its_answer_goes_back() {
        let flows = Flows::new(FlowLimits::default());
        let (ingress, mut seen) = Collector::connected();
        let listener = bind(anywhere(), 2).unwrap().start(7, &flows, &ingress).unwrap();
        let peer = tokio::net::UdpSocket::bind(anywhere()).await.unwrap();
        for datagram in [&b""[..], b"\r\n\r\n", b"OPTIONS"] {
            peer.send_to(datagram, listener.local()).await.unwrap();
        }
        let Some(Seen::Message(flow, message)) = seen.recv().await else { panic!("no message") };
        assert_eq!(message, "OPTIONS", "keep-alives are not messages");
        assert_eq!((flow.listener, flow.remote), (7, peer.local_addr().unwrap()));
        flows.send(&flow, Bytes::from_static(b"SIP/2.0 200 OK")).unwrap();
        let mut buffer = [0; 64];
        let (len, from) = peer.recv_from(&mut buffer).await.unwrap();
        assert_eq!((&buffer[..len], from), (&b"SIP/2.0 200 OK"[..], listener.local()));
        drop(listener);
        assert!(flows.send(&flow, Bytes::new()).is_err(), "the socket is forgotten");
    }

    #[tokio::test]
    async fn several_sockets_share_the_port_and_the_senders() {
        let flows = Flows::new(FlowLimits::default());
        let (ingress, mut seen) = Collector::connected();
        let listener = bind(anywhere(), 4).unwrap().start(0, &flows, &ingress).unwrap();
        let mut sockets = std::collections::BTreeSet::new();
        // The kernel chooses by a hash: of so many senders not all get the same one.
        for _ in 0..64 {
            let peer = tokio::net::UdpSocket::bind(anywhere()).await.unwrap();
            peer.send_to(b"OPTIONS", listener.local()).await.unwrap();
            let Some(Seen::Message(flow, _)) = seen.recv().await else { panic!("no message") };
            sockets.insert(flow.id);
            flows.send(&flow, Bytes::from_static(b"SIP/2.0 200 OK")).unwrap();
            let (_, from) = peer.recv_from(&mut [0; 64]).await.unwrap();
            assert_eq!(from, listener.local());
        }
        assert!((2..=4).contains(&sockets.len()), "{sockets:?}");
    }

    #[tokio::test]
    async fn an_answer_leaves_from_the_address_that_was_asked() {
        for (every, here, peer) in [
            ("0.0.0.0:0", ["127.93.0.1", "127.93.0.2"], "127.93.0.3:0"),
            ("[::]:0", ["::1", "::1"], "[::1]:0"),
        ] {
            let flows = Flows::new(FlowLimits::default());
            let (ingress, mut seen) = Collector::connected();
            // A machine without IPv6 has nothing to try here.
            let Ok(bound) = bind(every.parse().unwrap(), 1) else { continue };
            let listener = bound.start(0, &flows, &ingress).unwrap();
            for asked in here.map(|ip| ip.parse().unwrap()) {
                let asked = SocketAddr::new(asked, listener.local().port());
                let peer = tokio::net::UdpSocket::bind(peer).await.unwrap();
                peer.send_to(b"OPTIONS", asked).await.unwrap();
                let Some(Seen::Message(flow, _)) = seen.recv().await else { panic!("no message") };
                assert_eq!((flow.local, flow.remote), (asked, peer.local_addr().unwrap()));
                flows.send(&flow, Bytes::from_static(b"SIP/2.0 200 OK")).unwrap();
                let (_, from) = peer.recv_from(&mut [0; 64]).await.unwrap();
                assert_eq!(from, asked);
            }
            // A request of our own leaves from where the system likes.
            let peer = tokio::net::UdpSocket::bind(peer).await.unwrap();
            let flow = listener.flow_to(peer.local_addr().unwrap());
            flows.send(&flow, Bytes::from_static(b"OPTIONS")).unwrap();
            let (_, from) = peer.recv_from(&mut [0; 64]).await.unwrap();
            assert_eq!(from.port(), listener.local().port());
        }
    }

    /// Keeps what comes, and what did not arrive.
    struct Fates(mpsc::Sender<(bool, SocketAddr, Bytes)>);

    impl Ingress for Fates {
        fn receive(&self, flow: Flow, message: Bytes) {
            self.0.try_send((true, flow.remote, message)).unwrap();
        }

        fn unreached(&self, remote: SocketAddr, quote: &[u8]) {
            self.0.try_send((false, remote, Bytes::copy_from_slice(quote))).unwrap();
        }

        fn flow_closed(&self, id: FlowId) {
            panic!("{id:?} closed");
        }
    }

    #[tokio::test]
    async fn a_datagram_nobody_takes_is_told_with_its_beginning_and_fails_no_other() {
        for (here, host) in
            [("127.0.0.1:0", "127.0.0.1"), ("0.0.0.0:0", "127.0.0.1"), ("[::1]:0", "::1")]
        {
            let flows = Flows::new(FlowLimits::default());
            let (sender, mut fates) = mpsc::channel(100);
            let ingress: Arc<dyn Ingress> = Arc::new(Fates(sender));
            // A machine without IPv6 has nothing to try here.
            let Ok(bound) = bind(here.parse().unwrap(), 1) else { continue };
            let listener = bound.start(0, &flows, &ingress).unwrap();
            let peer = tokio::net::UdpSocket::bind((host, 0)).await.unwrap();
            let gone = UdpSocket::bind((host, 0)).unwrap().local_addr().unwrap();
            let lost = Bytes::from(format!("OPTIONS {}", "x".repeat(3_000)));
            for _ in 0..20 {
                flows.send(&listener.flow_to(gone), lost.clone()).unwrap();
                // One that goes right behind it is not the one that pays.
                let to_peer = listener.flow_to(peer.local_addr().unwrap());
                flows.send(&to_peer, Bytes::from_static(b"OPTIONS")).unwrap();
                let (length, _) = peer.recv_from(&mut [0; 64]).await.unwrap();
                assert_eq!(length, 7);
                let (came, remote, quote) = fates.recv().await.unwrap();
                assert_eq!((came, remote), (false, gone), "{here}");
                assert!(lost.starts_with(&quote) && quote.len() > 100, "{here}: {quote:?}");
            }
            let at = SocketAddr::new(host.parse().unwrap(), listener.local().port());
            peer.send_to(b"BYE", at).await.unwrap();
            let (came, _, message) = fates.recv().await.unwrap();
            assert_eq!((came, &message[..]), (true, &b"BYE"[..]), "the socket goes on");
        }
    }

    #[tokio::test]
    async fn what_a_listener_sends_has_its_traffic_class() {
        for host in ["127.0.0.1:0", "[::1]:0"] {
            let here: SocketAddr = host.parse().unwrap();
            let flows = Flows::new(FlowLimits::default());
            flows.classify(3, 24);
            let (ingress, _seen) = Collector::connected();
            let Ok(bound) = bind(here, 1) else { continue };
            let listener = bound.start(3, &flows, &ingress).unwrap();
            let peer = crate::net::mark::tests::Listening::at(here);
            let flow = listener.flow_to(peer.local());
            flows.send(&flow, Bytes::from_static(b"OPTIONS")).unwrap();
            assert_eq!(peer.class(), 24);
        }
    }

    #[tokio::test]
    async fn a_taken_port_is_named_even_when_it_is_shared() {
        let flows = Flows::new(FlowLimits::default());
        let (ingress, _seen) = Collector::connected();
        let listener = bind(anywhere(), 2).unwrap().start(0, &flows, &ingress).unwrap();
        for sockets in [1, 2] {
            let refused = bind(listener.local(), sockets).unwrap_err().to_string();
            let address = listener.local();
            let expected = format!("udp {address} is in use by another program");
            assert!(refused.starts_with(&expected), "{refused}");
        }
        let foreign = SocketAddr::from(([192, 0, 2, 1], 5060));
        let refused = bind(foreign, 1).unwrap_err().to_string();
        assert!(refused.contains("no address 192.0.2.1:5060"), "{refused}");
    }
}
