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
