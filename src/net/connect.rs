//! Ways of our own: connections that are opened or used again, and UDP sockets by source address.

use crate::clock;
use crate::net::bind::SourceError;
use crate::net::datagram::DatagramSocket;
use crate::net::end::ConnectFailure;
use crate::net::end::FlowEnd;
use crate::net::flow::Flows;
use crate::net::flow::Side;
use crate::net::flow::State;
use crate::net::flow::Stream;
use crate::net::flow::StreamEnd;
use crate::net::mark::mark;
use crate::net::source;
use crate::net::stream;
use crate::net::stream::Plug;
use crate::net::udp;
use crate::sip::endpoint::flow::Flow;
use crate::sip::endpoint::flow::FlowId;
use crate::telemetry::metric;
use crate::telemetry::metric::Counter;
use crate::types::limit::SIP_SOURCE_SOCKETS_MAX;
use crate::types::tls::TlsSettings;
use crate::types::transport::InterfaceName;
use crate::types::transport::LocalEnd;
use crate::types::transport::Transport;
use socket2::SockRef;
use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpSocket;
use tokio::net::TcpStream;
use tokio::task::AbortHandle;
use tokio::time::timeout_at;

/// Where requests of ours go, and how they get there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// The transport.
    pub transport: Transport,
    /// The address.
    pub remote: SocketAddr,
    /// Index of the listener that our Via and Contact name.
    pub listener: u16,
    /// From where we send.
    pub local: LocalEnd,
    /// Whom we expect there; needed for TLS, ignored elsewhere.
    pub tls: Option<TlsTo>,
    /// Interval of keep-alive pings on a connection that we open (RFC 5626 §4.4.1); `None`: none. Of several that
    /// use one connection the shortest counts.
    pub keepalive: Option<Duration>,
    /// How long a connection that is opened for this may take, if less than the node's bound.
    pub connect_within: Option<Duration>,
}

/// Whom we expect at the other end of TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsTo {
    /// The domain its certificate must prove, before any DNS: that of the trunk (RFC 5922 §4).
    pub server_name: String,
    /// How it is verified and what we show.
    pub settings: Arc<TlsSettings>,
}

impl TlsTo {
    /// True when what one proves is proof for the other.
    fn same(one: Option<&Self>, other: Option<&Self>) -> bool {
        match (one, other) {
            (None, None) => true,
            (Some(one), Some(other)) => {
                one.server_name.eq_ignore_ascii_case(&other.server_name)
                    && (Arc::ptr_eq(&one.settings, &other.settings)
                        || one.settings == other.settings)
            }
            (None, Some(_)) | (Some(_), None) => false,
        }
    }
}

/// No way could be had; nothing was begun.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// A bound on connections or sockets is reached.
    #[error("too many open connections")]
    TooMany,
    /// The node is shutting down, or not up yet.
    #[error("nobody takes what would come back")]
    NotAttached,
    /// The listener has no UDP socket for addresses of that family.
    #[error("the listener has no UDP socket that can send to {0}")]
    NoSocket(SocketAddr),
    /// TLS was asked for without saying whom to trust.
    #[error("TLS needs a server name and settings")]
    NoTls,
    /// The local address or interface cannot be used.
    #[error(transparent)]
    Source(#[from] SourceError),
}

impl Destination {
    /// A destination by the routing table, without TLS.
    #[must_use]
    pub const fn plain(transport: Transport, remote: SocketAddr, listener: u16) -> Self {
        Self {
            transport,
            remote,
            listener,
            local: LocalEnd { address: None, interface: None },
            tls: None,
            keepalive: None,
            connect_within: None,
        }
    }

    /// The same peer by TCP, for a request that is too long for UDP (RFC 3261 §18.1.1).
    #[must_use]
    pub fn by_tcp(&self) -> Self {
        Self { transport: Transport::Tcp, tls: None, ..self.clone() }
    }

    fn key(&self) -> Key {
        Key {
            transport: self.transport,
            remote: self.remote,
            listener: self.listener,
            local: self.local.clone(),
            server_name: self.tls.as_ref().map(|to| to.server_name.to_ascii_lowercase()),
        }
    }

    /// The address to bind: the one given, else any of the family, and any port.
    pub(crate) fn bind_address(&self) -> SocketAddr {
        let any = match self.remote {
            SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        SocketAddr::new(self.local.address.unwrap_or(any), 0)
    }
}

/// What connections must have in common to be one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    transport: Transport,
    remote: SocketAddr,
    listener: u16,
    local: LocalEnd,
    server_name: Option<String>,
}

/// The ways of requests of our own.
#[derive(Debug, Default)]
pub(crate) struct Ways {
    /// Connections that we opened or are opening. Trunks that differ in their TLS settings alone
    /// share an entry, never a connection.
    streams: HashMap<Key, Vec<FlowId>>,
    listeners: Vec<ListenerSocket>,
    sockets: HashMap<(u16, LocalEnd), OwnSocket>,
}

#[derive(Debug)]
struct ListenerSocket {
    listener: u16,
    id: FlowId,
    local: SocketAddr,
}

/// A UDP socket for one source address; its reader ends with it.
#[derive(Debug)]
struct OwnSocket {
    id: FlowId,
    local: SocketAddr,
    reader: AbortHandle,
}

impl Drop for OwnSocket {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

impl Ways {
    pub(crate) fn add_listener_socket(&mut self, listener: u16, id: FlowId, local: SocketAddr) {
        self.listeners.push(ListenerSocket { listener, id, local });
    }

    /// The interface by which what a socket of ours sends leaves, where it is bound to one.
    pub(crate) fn interface_of(&self, id: FlowId) -> Option<InterfaceName> {
        let own = self.sockets.iter().find(|(_, socket)| socket.id == id);
        own.and_then(|((_, local), _)| local.interface.clone())
    }

    pub(crate) fn forget_socket(&mut self, id: FlowId) {
        self.listeners.retain(|socket| socket.id != id);
    }

    pub(crate) fn forget_stream(&mut self, id: FlowId, stream: &Stream) {
        let Side::Ours(to, _) = &stream.side else { return };
        let key = to.key();
        if let Some(ids) = self.streams.get_mut(&key) {
            ids.retain(|own| *own != id);
            if ids.is_empty() {
                self.streams.remove(&key);
            }
        }
    }

    pub(crate) fn close_sockets(&mut self) -> Vec<FlowId> {
        self.sockets.drain().map(|(_, socket)| socket.id).collect()
    }

    /// The listener's socket that sends from where `to` wants, if there is one.
    fn listener_socket(&self, to: &Destination) -> Option<Flow> {
        if to.local.interface.is_some() {
            return None;
        }
        let fits = |socket: &&ListenerSocket| match to.local.address {
            None => socket.listener == to.listener && socket.local.is_ipv4() == to.remote.is_ipv4(),
            // A listener on just this address sends from it, and names itself rightly.
            Some(address) => socket.local.ip() == address,
        };
        let best = |socket: &&ListenerSocket| usize::from(socket.listener != to.listener);
        let socket = self.listeners.iter().filter(fits).min_by_key(best)?;
        Some(Flow {
            id: socket.id,
            listener: socket.listener,
            transport: Transport::Udp,
            local: socket.local,
            remote: to.remote,
        })
    }

    fn own_socket(&self, to: &Destination) -> Option<Flow> {
        let socket = self.sockets.get(&(to.listener, to.local.clone()))?;
        (socket.local.is_ipv4() == to.remote.is_ipv4()).then_some(Flow {
            id: socket.id,
            listener: to.listener,
            transport: Transport::Udp,
            local: socket.local,
            remote: to.remote,
        })
    }
}

impl State {
    /// A connection that `to` may go by; it is pinged as often as that wants from now on.
    fn reusable(&self, to: &Destination, key: &Key) -> Option<Flow> {
        let ids = self.ways.streams.get(key).into_iter().flatten();
        let own = ids.filter_map(|id| self.streams.get(id)).find(|stream| match &stream.side {
            Side::Ours(other, _) => TlsTo::same(other.tls.as_ref(), to.tls.as_ref()),
            Side::Peer => false,
        })?;
        own.side.hasten(to.keepalive);
        Some(own.flow)
    }
}

impl Flows {
    /// How a connection that we opened got to its peer: where that listens, and what it had to prove. `None` for one
    /// that a peer opened, and for one that is gone.
    #[must_use]
    pub fn destination_of(&self, id: FlowId) -> Option<Arc<Destination>> {
        match &self.read().streams.get(&id)?.side {
            Side::Ours(to, _) => Some(Arc::clone(to)),
            Side::Peer => None,
        }
    }

    /// The way to `to`: the one there is, or a new one. Nothing waits: a connection is opened behind
    /// the flow, messages sent meanwhile are queued, and if it fails [`flow_closed`](crate::net::flow::Ingress::flow_closed) is
    /// called and [`Flows::why_closed`] knows why.
    ///
    /// # Errors
    /// [`ConnectError`]: nothing was begun.
    pub fn connect(&self, to: &Destination) -> Result<Flow, ConnectError> {
        match to.transport {
            Transport::Udp => self.datagrams_to(to),
            Transport::Tcp => self.stream_to(&Destination { tls: None, ..to.clone() }),
            Transport::Tls if to.tls.is_none() => Err(ConnectError::NoTls),
            Transport::Tls => self.stream_to(to),
        }
    }

    fn stream_to(&self, to: &Destination) -> Result<Flow, ConnectError> {
        let key = to.key();
        if let Some(flow) = self.read().reusable(to, &key) {
            return Ok(flow);
        }
        let ingress = self.ingress().ok_or(ConnectError::NotAttached)?;
        let socket = source::stream_socket(to.bind_address(), to.local.interface.as_ref())?;
        mark(SockRef::from(&socket), to.bind_address().ip(), self.class_of(to.listener));
        let to = Arc::new(to.clone());
        let flow = Flow {
            id: FlowId::ANY,
            listener: to.listener,
            transport: to.transport,
            local: to.bind_address(),
            remote: to.remote,
        };
        let mut state = self.write();
        // Another may have begun it meanwhile.
        if let Some(flow) = state.reusable(&to, &key) {
            return Ok(flow);
        }
        let local = local_end(&socket, &to);
        let end = self.add_own(&mut state, (flow, local), Arc::clone(&to))?;
        state.ways.streams.entry(key).or_default().push(end.flow.id);
        drop(state);
        let flow = end.flow;
        let plug = Plug { listener: flow.listener, flows: self.clone(), ingress };
        tokio::spawn(open(socket, to, end, plug));
        Ok(flow)
    }

    fn datagrams_to(&self, to: &Destination) -> Result<Flow, ConnectError> {
        let found =
            |state: &State| state.ways.listener_socket(to).or_else(|| state.ways.own_socket(to));
        if let Some(flow) = found(&self.read()) {
            return Ok(flow);
        }
        if to.local.is_any() {
            return Err(ConnectError::NoSocket(to.remote));
        }
        let ingress = self.ingress().ok_or(ConnectError::NotAttached)?;
        let mut state = self.write();
        if let Some(flow) = found(&state) {
            return Ok(flow);
        }
        if state.ways.sockets.len() >= SIP_SOURCE_SOCKETS_MAX {
            return Err(ConnectError::TooMany);
        }
        // The listener's port, where it can be had: some carriers know us by it.
        let own = |socket: &&ListenerSocket| socket.listener == to.listener;
        let port = state.ways.listeners.iter().find(own).map_or(0, |socket| socket.local.port());
        let at = to.bind_address();
        let socket = source::datagram_socket(at, port, to.local.interface.as_ref())?;
        let failed =
            |error: io::Error| SourceError::of(at.ip(), to.local.interface.as_ref(), error);
        let local = socket.local_addr().map_err(failed)?;
        mark(SockRef::from(&socket), at.ip(), state.class_of(to.listener));
        let (socket, reader) = DatagramSocket::split(socket).map_err(failed)?;
        let id = self.mint();
        state.sockets.insert(id, Arc::new(socket));
        let (listener, transport, remote) = (to.listener, Transport::Udp, to.remote);
        let flow = Flow { id, listener, transport, local, remote };
        let reader = tokio::spawn(udp::receive(reader, flow, ingress)).abort_handle();
        let socket = OwnSocket { id, local, reader };
        state.ways.sockets.insert((to.listener, to.local.clone()), socket);
        Ok(flow)
    }
}

/// From where a connection goes that is about to be opened.
fn local_end(socket: &TcpSocket, to: &Destination) -> SocketAddr {
    let bound = socket.local_addr().unwrap_or_else(|_| to.bind_address());
    if !bound.ip().is_unspecified() {
        return bound;
    }
    let address = source::departure(to.remote, to.local.interface.as_ref());
    SocketAddr::new(address.unwrap_or(bound.ip()), bound.port())
}

/// Opens a connection of ours and serves it.
async fn open(socket: TcpSocket, to: Arc<Destination>, end: StreamEnd, plug: Plug) {
    let failure = tokio::select! {
        opened = stream::guarded(begin(socket, &to, end.flow.id, &plug.flows)) => match opened {
            Ok(Ok(Opened::Plain(stream))) => {
                metric::count(Counter::SipFlowsOpened, "tcp");
                let (read_half, write_half) = stream.into_split();
                return stream::serve((read_half, write_half), end, plug).await;
            }
            Ok(Ok(Opened::Secure(stream))) => {
                metric::count(Counter::SipFlowsOpened, "tls");
                let halves = tokio::io::split(*stream);
                return stream::serve(halves, end, plug).await;
            }
            Ok(Err(failure)) => FlowEnd::Failed(failure),
            Err(fault) => fault,
        },
        () = end.closing.notified() => FlowEnd::Told,
    };
    fail(&to, &end, failure, &plug);
}

fn fail(to: &Destination, end: &StreamEnd, why: FlowEnd, plug: &Plug) {
    plug.flows.remove_stream(end.flow.id, why);
    plug.ingress.flow_closed(end.flow.id);
    metric::count(Counter::SipConnectsFailed, why.as_str());
    tracing::debug!(remote = %to.remote, transport = %to.transport, why = why.as_str(),
        "a SIP connection could not be opened");
}

enum Opened {
    Plain(TcpStream),
    Secure(Box<tokio_rustls::client::TlsStream<TcpStream>>),
}

async fn begin(
    socket: TcpSocket,
    to: &Destination,
    id: FlowId,
    flows: &Flows,
) -> Result<Opened, ConnectFailure> {
    let most = flows.limits().connect_timeout;
    let within = to.connect_within.map_or(most, |within| within.min(most));
    let deadline = clock::instant(clock::now() + within).into();
    let connected = timeout_at(deadline, socket.connect(to.remote)).await;
    let stream = connected.map_err(|_| ConnectFailure::TimedOut)?.map_err(|error| sort(&error))?;
    stream::prepare(&stream).map_err(|_| ConnectFailure::Local)?;
    let Some(tls) = &to.tls else { return Ok(Opened::Plain(stream)) };
    let (stream, names) = flows.tls().handshake(tls, stream, flows.limits()).await?;
    flows.secured(id, names);
    Ok(Opened::Secure(Box::new(stream)))
}

fn sort(error: &io::Error) -> ConnectFailure {
    match error.kind() {
        io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset => {
            ConnectFailure::Refused
        }
        io::ErrorKind::TimedOut => ConnectFailure::TimedOut,
        io::ErrorKind::AddrInUse | io::ErrorKind::AddrNotAvailable => ConnectFailure::Local,
        _ => ConnectFailure::Unreachable,
    }
}

#[cfg(test)]
mod tests;
