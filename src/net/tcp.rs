//! TCP and TLS listeners: accepting within bounds.

use crate::net::bind::BindError;
use crate::net::connect::TlsTo;
use crate::net::end::ConnectFailure;
use crate::net::end::FlowEnd;
use crate::net::flow::Flows;
use crate::net::flow::Ingress;
use crate::net::flow::StreamEnd;
use crate::net::mark::mark;
use crate::net::stream;
use crate::net::stream::Plug;
use crate::net::tls::server::TlsServer;
use crate::sip::endpoint::flow::Flow;
use crate::sip::endpoint::flow::FlowId;
use crate::telemetry::metric;
use crate::telemetry::metric::Counter;
use crate::types::transport::Transport;
use socket2::Domain;
use socket2::Protocol;
use socket2::SockRef;
use socket2::Socket;
use socket2::Type;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::task::AbortHandle;

/// Connections waiting to be accepted.
const BACKLOG: i32 = 1_024;
/// First and longest wait after a failed accept: without descriptors it fails again at once.
const ACCEPT_PAUSE_MIN: Duration = Duration::from_millis(50);
const ACCEPT_PAUSE_MAX: Duration = Duration::from_secs(1);

/// A bound listener that does not accept yet.
#[derive(Debug)]
pub struct TcpBound {
    socket: std::net::TcpListener,
    local: SocketAddr,
}

/// A running TCP listener; dropping it ends accepting and leaves its connections open.
#[derive(Debug)]
pub struct TcpListener {
    local: SocketAddr,
    acceptor: AbortHandle,
}

/// Binds a listener to `address`; port 0 takes a free port.
///
/// # Errors
/// When the address cannot be had, [`BindError`] says why.
pub fn bind(address: SocketAddr) -> Result<TcpBound, BindError> {
    bind_for(Transport::Tcp, address)
}

/// The same for one of the stream transports, which the error names.
///
/// # Errors
/// When the address cannot be had, [`BindError`] says why.
pub fn bind_for(transport: Transport, address: SocketAddr) -> Result<TcpBound, BindError> {
    let open = || -> io::Result<TcpBound> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        // For TCP this only lets a restart pass over connections in TIME_WAIT.
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        let socket = std::net::TcpListener::from(socket);
        let local = socket.local_addr()?;
        Ok(TcpBound { socket, local })
    };
    open().map_err(|error| BindError::of(transport, address, error))
}

impl TcpBound {
    /// The address bound, with its real port.
    #[must_use]
    pub const fn local(&self) -> SocketAddr {
        self.local
    }

    /// Starts accepting; messages go to `ingress`, answers come through `flows`.
    ///
    /// # Errors
    /// When the operating system refuses to watch the socket.
    pub fn start(
        self,
        listener: u16,
        flows: &Flows,
        ingress: &Arc<dyn Ingress>,
    ) -> io::Result<TcpListener> {
        self.serve(listener, flows, ingress, Speaks::Tcp)
    }

    /// The same over TLS, with whatever certificate `server` has at the time.
    ///
    /// # Errors
    /// When the operating system refuses to watch the socket.
    pub fn start_tls(
        self,
        listener: u16,
        flows: &Flows,
        ingress: &Arc<dyn Ingress>,
        server: TlsServer,
    ) -> io::Result<TcpListener> {
        self.serve(listener, flows, ingress, Speaks::Tls(server))
    }

    fn serve(
        self,
        listener: u16,
        flows: &Flows,
        ingress: &Arc<dyn Ingress>,
        speaks: Speaks,
    ) -> io::Result<TcpListener> {
        let socket = tokio::net::TcpListener::from_std(self.socket)?;
        let (flows, ingress) = (flows.clone(), ingress.clone());
        let task = tokio::spawn(accept(socket, Plug { listener, flows, ingress }, speaks));
        Ok(TcpListener { local: self.local, acceptor: task.abort_handle() })
    }
}

impl TcpListener {
    /// The address bound.
    #[must_use]
    pub const fn local(&self) -> SocketAddr {
        self.local
    }
}

impl Drop for TcpListener {
    fn drop(&mut self) {
        self.acceptor.abort();
    }
}

/// What a listener speaks over its connections.
#[derive(Clone)]
enum Speaks {
    Tcp,
    Tls(TlsServer),
}

impl Speaks {
    const fn transport(&self) -> Transport {
        match self {
            Self::Tcp => Transport::Tcp,
            Self::Tls(_) => Transport::Tls,
        }
    }
}

/// Takes over a connection that is open, and returns its flow.
///
/// # Errors
/// When the connection is gone already, or the bounds of `flows` are reached.
pub fn adopt(
    stream: TcpStream,
    listener: u16,
    flows: &Flows,
    ingress: &Arc<dyn Ingress>,
) -> io::Result<Flow> {
    let remote = stream.peer_addr()?;
    let plug = Plug { listener, flows: flows.clone(), ingress: ingress.clone() };
    let busy = || io::Error::new(io::ErrorKind::QuotaExceeded, "too many open connections");
    welcome(stream, remote, &plug, &Speaks::Tcp)?.ok_or_else(busy)
}

/// Shakes hands as a client over a connection that is open, takes it over, and returns its flow.
///
/// # Errors
/// Why there is no TLS with the peer; `Local` also when the bounds of `flows` are reached.
pub async fn adopt_tls(
    stream: TcpStream,
    to: &TlsTo,
    plug: (u16, &Flows, &Arc<dyn Ingress>),
) -> Result<Flow, ConnectFailure> {
    let (listener, flows, ingress) = plug;
    let broken = |_| ConnectFailure::Local;
    let (local, remote) =
        (stream.local_addr().map_err(broken)?, stream.peer_addr().map_err(broken)?);
    stream::prepare(&stream).map_err(broken)?;
    let (stream, names) = flows.tls().handshake(to, stream, flows.limits()).await?;
    let flow = Flow { id: FlowId::ANY, listener, transport: Transport::Tls, local, remote };
    let end = flows.add_stream(flow).ok_or(ConnectFailure::Local)?;
    let flow = end.flow;
    flows.secured(flow.id, names);
    let plug = Plug { listener, flows: flows.clone(), ingress: ingress.clone() };
    tokio::spawn(stream::serve(tokio::io::split(stream), end, plug));
    Ok(flow)
}

/// Gives `stream` a flow and a task; `None` when a bound is reached, which closes it.
fn welcome(
    stream: TcpStream,
    remote: SocketAddr,
    plug: &Plug,
    speaks: &Speaks,
) -> io::Result<Option<Flow>> {
    let (local, transport) = (stream.local_addr()?, speaks.transport());
    stream::prepare(&stream)?;
    mark(SockRef::from(&stream), local.ip(), plug.flows.class_of(plug.listener));
    let flow = Flow { id: FlowId::ANY, listener: plug.listener, transport, local, remote };
    let Some(end) = plug.flows.add_stream(flow) else { return Ok(None) };
    let flow = end.flow;
    match speaks {
        Speaks::Tcp => {
            let halves = stream.into_split();
            tokio::spawn(stream::serve(halves, end, plug.clone()));
        }
        Speaks::Tls(server) => {
            tokio::spawn(secure(stream, server.clone(), end, plug.clone()));
        }
    }
    Ok(Some(flow))
}

/// The handshake of a peer, in a task of its own, then its messages.
async fn secure(stream: TcpStream, server: TlsServer, end: StreamEnd, plug: Plug) {
    let wait = plug.flows.limits().handshake_timeout;
    let secured = stream::guarded(async {
        tokio::select! {
            secured = server.handshake(stream, wait) => secured.map_err(FlowEnd::Failed),
            () = end.closing.notified() => Err(FlowEnd::Told),
        }
    });
    let secured = secured.await.flatten();
    match secured {
        Ok((stream, names)) => {
            plug.flows.secured(end.flow.id, names);
            stream::serve(tokio::io::split(stream), end, plug).await;
        }
        Err(why) => {
            plug.flows.remove_stream(end.flow.id, why);
            metric::count(Counter::SipHandshakesFailed, why.as_str());
            plug.ingress.unsecured(end.flow, why);
        }
    }
}

async fn accept(socket: tokio::net::TcpListener, plug: Plug, speaks: Speaks) {
    let transport = speaks.transport();
    let mut pause = ACCEPT_PAUSE_MIN;
    loop {
        let (stream, remote) = match socket.accept().await {
            Ok(accepted) => accepted,
            // The peer went away between its connect and our accept.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
            Err(error) => {
                metric::count(Counter::SipFlowsRefused, "accept_failed");
                if pause == ACCEPT_PAUSE_MIN {
                    tracing::warn!(%error, "SIP connections cannot be accepted; trying again");
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(ACCEPT_PAUSE_MAX);
                continue;
            }
        };
        pause = ACCEPT_PAUSE_MIN;
        if !plug.ingress.admits(plug.listener, remote.ip(), transport) {
            metric::count(Counter::SipFlowsRefused, "unknown_source");
            continue;
        }
        match welcome(stream, remote, &plug, &speaks) {
            Ok(Some(_)) => metric::count(Counter::SipFlowsOpened, transport.as_str()),
            Ok(None) => metric::count(Counter::SipFlowsRefused, "limit"),
            Err(error) => tracing::debug!(%remote, %error, "a SIP connection was lost at once"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::connect::Destination;
    use crate::net::flow::FlowLimits;
    use crate::net::flow::SendError;
    use crate::net::flow::tests::Collector;
    use crate::net::flow::tests::Seen;
    use crate::sip::framing::PONG;
    use bytes::Bytes;
    use tokio::io::AsyncReadExt;
    use tokio::io::AsyncWriteExt;
    use tokio::sync::mpsc;
    use tokio::time::timeout;

    const OPTIONS: &[u8] = b"OPTIONS sip:a@b SIP/2.0\r\nCall-ID: 1\r\nContent-Length: 0\r\n\r\n";

    struct Bench {
        flows: Flows,
        ingress: Arc<dyn Ingress>,
        seen: mpsc::Receiver<Seen>,
        listener: TcpListener,
    }

    impl Bench {
        fn new(limits: FlowLimits) -> Self {
            let flows = Flows::new(limits);
            let (ingress, seen) = Collector::connected();
            let bound = bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
            let listener = bound.start(3, &flows, &ingress).unwrap();
            Self { flows, ingress, seen, listener }
        }

        async fn peer(&self) -> TcpStream {
            TcpStream::connect(self.listener.local()).await.unwrap()
        }

        async fn message(&mut self) -> (Flow, Bytes) {
            match self.next().await {
                Seen::Message(flow, message) => (flow, message),
                Seen::Closed(id) => panic!("{id:?} closed"),
            }
        }

        async fn closed(&mut self) -> FlowId {
            match self.next().await {
                Seen::Closed(id) => id,
                Seen::Message(_, message) => panic!("{message:?}"),
            }
        }

        async fn next(&mut self) -> Seen {
            timeout(Duration::from_secs(10), self.seen.recv()).await.unwrap().unwrap()
        }
    }

    #[tokio::test]
    async fn messages_are_cut_from_the_stream_and_pings_answered() {
        let mut bench = Bench::new(FlowLimits::default());
        let mut peer = bench.peer().await;
        let (start, end) = OPTIONS.split_at(20);
        peer.write_all(b"\r\n\r\n").await.unwrap();
        peer.write_all(start).await.unwrap();
        let mut pong = [0; 2];
        peer.read_exact(&mut pong).await.unwrap();
        assert_eq!(&pong, PONG);
        peer.write_all(end).await.unwrap();
        let (flow, message) = bench.message().await;
        assert_eq!(message, OPTIONS);
        assert_eq!((flow.listener, flow.remote), (3, peer.local_addr().unwrap()));
        bench.flows.send(&flow, Bytes::from_static(b"answer")).unwrap();
        let mut answer = [0; 6];
        peer.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"answer");
        drop(peer);
        assert_eq!(bench.closed().await, flow.id);
        assert_eq!(bench.flows.send(&flow, Bytes::new()), Err(SendError::Gone));
    }

    #[tokio::test]
    async fn a_peer_that_does_not_read_loses_only_its_own_connection() {
        let mut bench = Bench::new(FlowLimits { queue_max: 8, ..FlowLimits::default() });
        let mut deaf = bench.peer().await;
        deaf.write_all(OPTIONS).await.unwrap();
        let (deaf_flow, _) = bench.message().await;
        let mut good = bench.peer().await;
        let big = Bytes::from(vec![b'x'; 1 << 20]);
        while bench.flows.send(&deaf_flow, big.clone()).is_ok() {
            tokio::task::yield_now().await;
        }
        good.write_all(OPTIONS).await.unwrap();
        let mut closed = false;
        for _ in 0..2 {
            match bench.next().await {
                Seen::Closed(id) => closed = id == deaf_flow.id,
                Seen::Message(flow, _) => {
                    bench.flows.send(&flow, Bytes::from_static(b"yes")).unwrap();
                }
            }
        }
        assert!(closed);
        let mut answer = [0; 3];
        good.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"yes");
    }

    #[tokio::test]
    async fn garbage_is_answered_where_possible_and_closed() {
        let mut bench = Bench::new(FlowLimits::default());
        let mut peer = bench.peer().await;
        peer.write_all(b"\x16\x03\x01 hello\r\n\r\n").await.unwrap();
        let mut rest = Vec::new();
        peer.read_to_end(&mut rest).await.unwrap();
        assert!(rest.is_empty(), "{rest:?}");
        bench.closed().await;
    }

    /// A switch with a fault, which hears of ends all the same.
    struct Faulty(mpsc::Sender<FlowId>);

    impl Ingress for Faulty {
        fn receive(&self, _: Flow, _: Bytes) {
            panic!("as a test wants it")
        }

        fn flow_closed(&self, id: FlowId) {
            self.0.try_send(id).unwrap();
        }
    }

    #[tokio::test]
    async fn a_fault_ends_its_connection_wholly_and_gives_its_place_to_the_next() {
        let flows = Flows::new(FlowLimits { flows_per_address_max: 1, ..FlowLimits::default() });
        let (closed, mut ends) = mpsc::channel(2);
        let ingress: Arc<dyn Ingress> = Arc::new(Faulty(closed));
        let bound = bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let listener = bound.start(3, &flows, &ingress).unwrap();
        for _ in 0..2 {
            let mut peer = TcpStream::connect(listener.local()).await.unwrap();
            peer.write_all(OPTIONS).await.unwrap();
            let id = timeout(Duration::from_secs(10), ends.recv()).await.unwrap().unwrap();
            assert_eq!(flows.why_closed(id), Some(FlowEnd::Fault));
            assert_eq!(flows.streams_open(), 0);
            assert_eq!(peer.read(&mut [0; 8]).await.unwrap_or(0), 0, "its peer is not told");
        }
    }

    #[tokio::test]
    async fn a_message_that_trickles_in_has_a_deadline() {
        let message_timeout = Duration::from_millis(100);
        let mut bench = Bench::new(FlowLimits { message_timeout, ..FlowLimits::default() });
        let mut slow = bench.peer().await;
        let _silent = bench.peer().await;
        slow.write_all(OPTIONS).await.unwrap();
        let (flow, _) = bench.message().await;
        slow.write_all(b"OPT").await.unwrap();
        // Bytes that go on coming move no deadline.
        let crumbs = async {
            loop {
                tokio::time::sleep(message_timeout / 5).await;
                // It may be closed by now.
                drop(slow.write_all(b"I").await);
            }
        };
        let ended = async { [bench.closed().await, bench.closed().await] };
        tokio::select! {
            ended = ended => {
                assert!(ended.contains(&flow.id), "the slow and the silent one are closed");
            }
            () = crumbs => {}
        }
    }

    #[tokio::test]
    async fn more_connections_of_one_address_than_allowed_are_closed_at_once() {
        let mut bench =
            Bench::new(FlowLimits { flows_per_address_max: 1, ..FlowLimits::default() });
        let mut first = bench.peer().await;
        first.write_all(OPTIONS).await.unwrap();
        bench.message().await;
        let mut second = bench.peer().await;
        assert_eq!(second.read(&mut [0; 8]).await.unwrap_or(0), 0);
        assert_eq!(bench.flows.streams_open(), 1);
    }

    #[tokio::test]
    async fn a_connection_of_our_own_carries_messages_both_ways() {
        let mut bench = Bench::new(FlowLimits::default());
        bench.flows.attach(&bench.ingress);
        let to = Destination::plain(Transport::Tcp, bench.listener.local(), 0);
        let flow = bench.flows.connect(&to).unwrap();
        // Sent before it is open: queued.
        bench.flows.send(&flow, Bytes::from_static(OPTIONS)).unwrap();
        let (accepted, message) = bench.message().await;
        assert_eq!(message, OPTIONS);
        bench.flows.send(&accepted, Bytes::from_static(OPTIONS)).unwrap();
        assert_eq!(bench.message().await.0, flow);
        assert!(bench.flows.is_ours(flow.id) && !bench.flows.is_ours(accepted.id));
    }
}
