//! TCP listeners and connections: accepting within bounds, reading by frames, writing from a queue.

use crate::clock;
use crate::net::bind::BindError;
use crate::net::flow::FlowLimits;
use crate::net::flow::Flows;
use crate::net::flow::Ingress;
use crate::net::flow::StreamEnd;
use crate::sip::endpoint::flow::Flow;
use crate::sip::framing::Frame;
use crate::sip::framing::Framer;
use crate::sip::framing::PONG;
use crate::telemetry::metric;
use crate::telemetry::metric::Counter;
use crate::types::transport::Transport;
use bytes::Bytes;
use socket2::Domain;
use socket2::Protocol;
use socket2::SockRef;
use socket2::Socket;
use socket2::TcpKeepalive;
use socket2::Type;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedReadHalf;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::timeout;
use tokio::time::timeout_at;

/// Connections waiting to be accepted.
const BACKLOG: i32 = 1_024;
/// Bytes read at once.
const READ_BYTES: usize = 4_096;
/// Messages written in one go are gathered up to this many bytes.
const WRITE_BYTES: usize = 16_384;
/// First and longest wait after a failed accept: without descriptors it fails again at once.
const ACCEPT_PAUSE_MIN: Duration = Duration::from_millis(50);
const ACCEPT_PAUSE_MAX: Duration = Duration::from_secs(1);
/// Silence after which the operating system asks whether the peer still lives.
const KEEPALIVE: Duration = Duration::from_secs(60);
/// Wait for what is queued to be written after the peer has closed its side.
const LINGER: Duration = Duration::from_secs(1);

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
    open().map_err(|error| BindError::of(Transport::Tcp, address, error))
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
        let socket = tokio::net::TcpListener::from_std(self.socket)?;
        let (flows, ingress) = (flows.clone(), ingress.clone());
        let task = tokio::spawn(accept(socket, Plug { listener, flows, ingress }));
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

/// Opens a connection to `remote` and returns its flow.
///
/// # Errors
/// When the peer cannot be reached within `patience`, or the bounds of `flows` are reached.
pub async fn connect(
    remote: SocketAddr,
    listener: u16,
    flows: &Flows,
    ingress: &Arc<dyn Ingress>,
    patience: Duration,
) -> io::Result<Flow> {
    let stream = timeout(patience, TcpStream::connect(remote)).await??;
    adopt(stream, listener, flows, ingress)
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
    plug.adopt(stream, remote)?.ok_or_else(busy)
}

/// What a connection is plugged into.
#[derive(Clone)]
struct Plug {
    listener: u16,
    flows: Flows,
    ingress: Arc<dyn Ingress>,
}

impl Plug {
    /// Gives `stream` a flow and a task; `None` when a bound is reached, which closes it.
    fn adopt(&self, stream: TcpStream, remote: SocketAddr) -> io::Result<Option<Flow>> {
        let local = stream.local_addr()?;
        stream.set_nodelay(true)?;
        SockRef::from(&stream).set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE))?;
        let Some(end) = self.flows.add_stream(remote) else { return Ok(None) };
        let (id, listener) = (end.id, self.listener);
        let flow = Flow { id, listener, transport: Transport::Tcp, local, remote };
        tokio::spawn(serve(stream, flow, end, self.clone()));
        Ok(Some(flow))
    }
}

async fn accept(socket: tokio::net::TcpListener, plug: Plug) {
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
        if !plug.ingress.admits(plug.listener, remote.ip(), Transport::Tcp) {
            metric::count(Counter::SipFlowsRefused, "unknown_source");
            continue;
        }
        match plug.adopt(stream, remote) {
            Ok(Some(_)) => metric::count(Counter::SipFlowsOpened, "tcp"),
            Ok(None) => metric::count(Counter::SipFlowsRefused, "limit"),
            Err(error) => tracing::debug!(%remote, %error, "a SIP connection was lost at once"),
        }
    }
}

/// Why a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    PeerClosed,
    Garbage,
    MessageTimeout,
    Idle,
    WriteTimeout,
    Broken,
    Told,
}

impl End {
    const fn as_str(self) -> &'static str {
        match self {
            Self::PeerClosed => "peer_closed",
            Self::Garbage => "garbage",
            Self::MessageTimeout => "message_timeout",
            Self::Idle => "idle",
            Self::WriteTimeout => "write_timeout",
            Self::Broken => "broken",
            Self::Told => "closed_by_us",
        }
    }
}

async fn serve(stream: TcpStream, flow: Flow, end: StreamEnd, plug: Plug) {
    let (read_half, write_half) = stream.into_split();
    let limits = *plug.flows.limits();
    let closing = end.closing;
    let mut writer = std::pin::pin!(write(write_half, end.queue, limits.write_timeout));
    let why = tokio::select! {
        why = read(read_half, flow, &plug, &limits) => why,
        why = &mut writer => why,
        () = closing.notified() => End::Told,
    };
    // Forgetting the flow ends the writer's queue; what is queued by then may still go out.
    plug.flows.remove_stream(flow.id);
    if matches!(why, End::PeerClosed | End::Garbage) {
        // Its outcome does not matter any more: the flow is closed either way.
        drop(timeout(LINGER, writer).await);
    }
    plug.ingress.flow_closed(flow.id);
    metric::count(Counter::SipFlowsClosed, why.as_str());
    tracing::debug!(remote = %flow.remote, why = why.as_str(), "a SIP connection ended");
}

async fn read(mut half: OwnedReadHalf, flow: Flow, plug: &Plug, limits: &FlowLimits) -> End {
    let mut framer = Framer::new();
    let mut buffer = [0; READ_BYTES];
    let mut spoken = false;
    // A message, begun or awaited for the first time, has a fixed deadline: bytes that trickle in
    // do not move it.
    let mut message_deadline = Some(clock::now() + limits.message_timeout);
    loop {
        let idle_deadline = clock::now() + limits.idle_timeout;
        let deadline = message_deadline.unwrap_or(idle_deadline).min(idle_deadline);
        let wait = timeout_at(clock::instant(deadline).into(), half.read(&mut buffer));
        let bytes = match wait.await {
            Err(_) if message_deadline.is_some() => return End::MessageTimeout,
            Err(_) => return End::Idle,
            Ok(Err(_)) => return End::Broken,
            Ok(Ok(0)) => return End::PeerClosed,
            Ok(Ok(len)) => buffer.get(..len).unwrap_or(&[]),
        };
        framer.push(bytes);
        loop {
            match framer.next() {
                Ok(None) => break,
                Ok(Some(Frame::Message(message))) => {
                    plug.ingress.receive(flow, message);
                    spoken = true;
                    message_deadline = None;
                }
                Ok(Some(Frame::Ping)) => {
                    spoken = true;
                    message_deadline = None;
                    if plug.flows.send(&flow, Bytes::from_static(PONG)).is_err() {
                        return End::Told;
                    }
                }
                Err(error) => {
                    metric::count(Counter::SipStreamsUnframed, "tcp");
                    if let Some(answer) = error.answer(flow.remote)
                        && plug.flows.send(&flow, answer).is_err()
                    {
                        metric::count(Counter::SipMessagesUnsent, "closing");
                    }
                    return End::Garbage;
                }
            }
        }
        if framer.is_within_message() || !spoken {
            message_deadline.get_or_insert(clock::now() + limits.message_timeout);
        } else {
            message_deadline = None;
        }
    }
}

async fn write(mut half: OwnedWriteHalf, mut queue: mpsc::Receiver<Bytes>, wait: Duration) -> End {
    let mut gathered = Vec::new();
    while let Some(first) = queue.recv().await {
        gathered.clear();
        gathered.extend_from_slice(&first);
        while gathered.len() < WRITE_BYTES
            && let Ok(next) = queue.try_recv()
        {
            gathered.extend_from_slice(&next);
        }
        match timeout(wait, half.write_all(&gathered)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return End::Broken,
            Err(_) => return End::WriteTimeout,
        }
    }
    End::Told
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::flow::SendError;
    use crate::net::flow::tests::Collector;
    use crate::net::flow::tests::Seen;
    use crate::sip::endpoint::flow::FlowId;

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

    #[tokio::test]
    async fn a_message_that_trickles_in_has_a_deadline() {
        let message_timeout = Duration::from_millis(100);
        let mut bench = Bench::new(FlowLimits { message_timeout, ..FlowLimits::default() });
        let mut slow = bench.peer().await;
        let _silent = bench.peer().await;
        slow.write_all(OPTIONS).await.unwrap();
        let (flow, _) = bench.message().await;
        slow.write_all(b"OPT").await.unwrap();
        let ended = [bench.closed().await, bench.closed().await];
        assert!(ended.contains(&flow.id), "the slow and the silent one are closed");
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
        let remote = bench.listener.local();
        let patience = Duration::from_secs(5);
        let flow = connect(remote, 0, &bench.flows, &bench.ingress, patience).await.unwrap();
        bench.flows.send(&flow, Bytes::from_static(OPTIONS)).unwrap();
        let (accepted, message) = bench.message().await;
        assert_eq!(message, OPTIONS);
        assert_eq!(accepted.remote, flow.local);
        bench.flows.send(&accepted, Bytes::from_static(OPTIONS)).unwrap();
        assert_eq!(bench.message().await.0, flow);
    }
}
