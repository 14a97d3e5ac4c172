//! Flows: where received messages go, and the one place that sends on sockets and connections.

use crate::net::connect::ConnectError;
use crate::net::connect::Destination;
use crate::net::connect::Ways;
use crate::net::crowd::Crowd;
use crate::net::datagram::DatagramSocket;
use crate::net::departure::Departures;
use crate::net::end::FlowEnd;
use crate::net::end::FlowEnds;
use crate::net::tls::client::TlsClients;
use crate::net::way_back::WaysBack;
use crate::sip::endpoint::flow::Flow;
use crate::sip::endpoint::flow::FlowId;
use crate::sip::framing::FramingError;
use crate::types::id_map::IdMap;
use crate::types::limit::SIP_FLOW_QUEUE_MAX;
use crate::types::limit::SIP_FLOWS_MAX;
use crate::types::limit::SIP_FLOWS_OURS_MAX;
use crate::types::limit::SIP_FLOWS_PER_ADDRESS_MAX;
use crate::types::limit::SIP_HANDSHAKES_MAX;
use crate::types::limit::SIP_HANDSHAKES_PER_ADDRESS_MAX;
use crate::types::tls::CertificateNames;
use crate::types::transport::Transport;
use bytes::Bytes;
use std::collections::HashMap;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::PoisonError;
use std::sync::RwLock;
use std::sync::RwLockReadGuard;
use std::sync::RwLockWriteGuard;
use std::sync::Weak;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::sync::mpsc;
use tokio::sync::watch;

/// Takes what the sockets receive. Called from the readers: it must not block.
pub trait Ingress: Send + Sync + 'static {
    /// A datagram, or one whole message of a stream.
    fn receive(&self, flow: Flow, message: Bytes);

    /// A stream cannot be cut into messages any more and is being closed; what is left of the message
    /// at fault was answered, where `error` has an answer.
    fn unframed(&self, flow: Flow, error: &FramingError) {
        let _: (Flow, &FramingError) = (flow, error);
    }

    /// There is no TLS with a peer, whose connection is closed.
    fn unsecured(&self, flow: Flow, why: FlowEnd) {
        let _: (Flow, FlowEnd) = (flow, why);
    }

    /// A stream connection is gone, or could not be opened; nothing can be sent on it any more.
    /// [`Flows::why_closed`] says why.
    fn flow_closed(&self, id: FlowId);

    /// Whether a connection that has been silent for long is still needed: then it is not closed for that.
    fn needs(&self, flow: &Flow) -> bool {
        let _: &Flow = flow;
        false
    }

    /// A datagram of ours to `remote` did not arrive: `quote` is its beginning, as the network gives it
    /// back. Anybody may say so: it is worth what only who saw the datagram can know of it.
    fn unreached(&self, remote: SocketAddr, quote: &[u8]) {
        let _: (SocketAddr, &[u8]) = (remote, quote);
    }

    /// Whether `source` may open a stream connection at all. Called before anything is allocated
    /// for it.
    fn admits(&self, listener: u16, source: IpAddr, transport: Transport) -> bool {
        let _: (u16, IpAddr, Transport) = (listener, source, transport);
        true
    }
}

/// Bounds of stream connections.
#[derive(Clone, Copy, Debug)]
pub struct FlowLimits {
    /// Open connections of all peers. Over it: the new one is closed.
    pub flows_max: usize,
    /// Open connections that one peer address opened, and as many that we opened to it. Over it: the new one is closed, and
    /// [`ConnectError::TooMany`].
    pub flows_per_address_max: usize,
    /// Open connections that we opened. Over it: [`ConnectError::TooMany`].
    pub ours_max: usize,
    /// TLS handshakes of peers under way at once. Over it: the new connection is closed.
    pub handshakes_max: usize,
    /// TLS handshakes of one peer address under way at once. Over it: the new connection is closed.
    pub handshakes_per_address_max: usize,
    /// Messages waiting to be written to one connection. Over it: that connection is closed.
    pub queue_max: usize,
    /// Longest wait for a connection of ours to open, TLS not counted. Over it: closed.
    pub connect_timeout: Duration,
    /// Longest TLS handshake. Over it: closed.
    pub handshake_timeout: Duration,
    /// Longest wait for the rest of a message, and for the first one. Over it: closed.
    pub message_timeout: Duration,
    /// Longest silence of a connection that has spoken; answers to pings of ours are silence. Over it: closed,
    /// unless it is needed.
    pub idle_timeout: Duration,
    /// Longest wait for a peer to take one write. Over it: closed.
    pub write_timeout: Duration,
    /// Longest wait for the answer to a keep-alive of ours, where the peer has answered one before
    /// (RFC 5626 §4.4.1). Over it: closed.
    pub pong_timeout: Duration,
}

impl Default for FlowLimits {
    fn default() -> Self {
        Self {
            flows_max: SIP_FLOWS_MAX,
            flows_per_address_max: SIP_FLOWS_PER_ADDRESS_MAX,
            ours_max: SIP_FLOWS_OURS_MAX,
            handshakes_max: SIP_HANDSHAKES_MAX,
            handshakes_per_address_max: SIP_HANDSHAKES_PER_ADDRESS_MAX,
            queue_max: SIP_FLOW_QUEUE_MAX,
            // Carriers want the next address tried after 4 s without an answer.
            connect_timeout: Duration::from_secs(4),
            handshake_timeout: Duration::from_secs(5),
            message_timeout: Duration::from_secs(30),
            // Two session-timer intervals. Those that running calls need stay open longer; a dead peer
            // is found earlier, by TCP keep-alive.
            idle_timeout: Duration::from_secs(3_600),
            write_timeout: Duration::from_secs(10),
            pong_timeout: Duration::from_secs(10),
        }
    }
}

/// A message was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The socket or the connection's queue takes no more. A connection is closed by it.
    #[error("the flow takes no more")]
    Full,
    /// There is no such socket or connection, or the peer cannot be reached.
    #[error("the flow is gone")]
    Gone,
}

/// All flows of the node; cheap to clone. Sending never waits, and connecting never does.
#[derive(Clone, Debug)]
pub struct Flows(Arc<Shared>);

struct Shared {
    limits: FlowLimits,
    next: AtomicU64,
    state: RwLock<State>,
    /// What connections of our own are plugged into. Weak, since it holds the flows.
    ingress: OnceLock<Weak<dyn Ingress>>,
    tls: TlsClients,
    ways_back: WaysBack,
    departures: Departures,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Flows").field("limits", &self.limits).finish_non_exhaustive()
    }
}

#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) sockets: IdMap<FlowId, Arc<DatagramSocket>>,
    pub(crate) streams: IdMap<FlowId, Stream>,
    crowd: Crowd,
    ours: usize,
    /// Those of ours by where they lead.
    ours_by_address: Crowd,
    /// The traffic class of what each listener sends, where one is set.
    classes: HashMap<u16, u8>,
    /// The ways of requests of our own.
    pub(crate) ways: Ways,
    ends: FlowEnds,
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) flow: Flow,
    /// Our address as the peer sees it; that of the flow is where it was bound to.
    local: SocketAddr,
    queue: mpsc::Sender<Bytes>,
    closing: Arc<Notify>,
    pub(crate) side: Side,
    handshaking: bool,
    /// What the peer's certificate proved.
    pub(crate) names: Option<Arc<CertificateNames>>,
}

/// Who opened a connection.
#[derive(Clone, Debug)]
pub(crate) enum Side {
    Peer,
    /// With what its pings follow: the most eager of those that use it.
    Ours(Arc<Destination>, watch::Sender<Option<Duration>>),
}

impl Side {
    /// Somebody uses the connection who wants pings as often as this.
    pub(crate) fn hasten(&self, keepalive: Option<Duration>) {
        match (self, keepalive) {
            (Self::Ours(_, pace), Some(wanted)) if !wanted.is_zero() => {
                pace.send_if_modified(|every| {
                    let is_sooner = every.is_none_or(|every| wanted < every);
                    if is_sooner {
                        *every = keepalive;
                    }
                    is_sooner
                });
            }
            (Self::Peer | Self::Ours(..), _) => {}
        }
    }
}

/// What the task of a connection holds: its queue and the signal to close.
#[derive(Debug)]
pub(crate) struct StreamEnd {
    pub(crate) flow: Flow,
    pub(crate) queue: mpsc::Receiver<Bytes>,
    pub(crate) closing: Arc<Notify>,
    /// How often it is pinged; `None` for that of a peer.
    pub(crate) keepalive: Option<watch::Receiver<Option<Duration>>>,
}

impl State {
    /// The traffic class of what `listener` sends.
    pub(crate) fn class_of(&self, listener: u16) -> u8 {
        self.classes.get(&listener).copied().unwrap_or(0)
    }
}

impl Flows {
    /// No flows yet.
    #[must_use]
    pub fn new(limits: FlowLimits) -> Self {
        Self(Arc::new(Shared {
            limits,
            // Zero is left out, so that an id that was never set is noticed.
            next: AtomicU64::new(1),
            state: RwLock::default(),
            ingress: OnceLock::new(),
            tls: TlsClients::default(),
            ways_back: WaysBack::default(),
            departures: Departures::default(),
        }))
    }

    /// Sets where connections of our own bring what they receive; the first call counts. `ingress`
    /// is not kept alive by it.
    pub fn attach(&self, ingress: &Arc<dyn Ingress>) {
        self.0.ingress.get_or_init(|| Arc::downgrade(ingress));
    }

    /// Has the sockets and connections of `listener`, and those of ours that name it, send with the
    /// traffic class `dscp` (RFC 2474); 0 leaves it to the system. Before the listener starts.
    pub fn classify(&self, listener: u16, dscp: u8) {
        self.write().classes.insert(listener, dscp);
    }

    /// The traffic class of what `listener` sends.
    pub(crate) fn class_of(&self, listener: u16) -> u8 {
        self.read().class_of(listener)
    }

    /// The bounds in force.
    #[must_use]
    pub fn limits(&self) -> &FlowLimits {
        &self.0.limits
    }

    /// Sends one message, from any thread, without waiting.
    ///
    /// A stream flow that names no connection goes by one of ours that was set up by the terms of its
    /// [`WayBack`](crate::net::way_back::WayBack), opened where there is none. [`FlowId::ANY`] has no
    /// terms: over TCP it goes by the routing table, over TLS not at all, since nobody says whom to trust.
    ///
    /// Gives the socket or connection it went by, which may not be open yet: its end is the message's.
    ///
    /// # Errors
    /// [`SendError::Full`]: a datagram is lost, as the network may lose it; a connection is closed.
    /// [`SendError::Gone`]: there is no such flow.
    pub fn send(&self, flow: &Flow, message: Bytes) -> Result<FlowId, SendError> {
        let by = match flow.transport {
            Transport::Udp => {
                self.send_datagram(flow, &message)?;
                return Ok(flow.id);
            }
            Transport::Tcp | Transport::Tls if !flow.id.is_socket() => self.connection_for(flow)?,
            Transport::Tcp | Transport::Tls => flow.id,
        };
        self.send_on(by, message)?;
        Ok(by)
    }

    fn send_datagram(&self, flow: &Flow, message: &[u8]) -> Result<(), SendError> {
        let socket = self.read().sockets.get(&flow.id).cloned().ok_or(SendError::Gone)?;
        match socket.send(message, flow.local.ip(), flow.remote) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Err(SendError::Full),
            Err(error) => {
                tracing::debug!(remote = %flow.remote, %error, "a datagram could not be sent");
                Err(SendError::Gone)
            }
        }
    }

    fn send_on(&self, id: FlowId, message: Bytes) -> Result<(), SendError> {
        let state = self.read();
        let stream = state.streams.get(&id).ok_or(SendError::Gone)?;
        stream.queue.try_send(message).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => {
                stream.closing.notify_one();
                SendError::Full
            }
            mpsc::error::TrySendError::Closed(_) => SendError::Gone,
        })
    }

    /// What the certificate of a flow's peer proved, once its TLS handshake is done and its chain
    /// was verified. `None` on other flows, and for a peer that showed none.
    #[must_use]
    pub fn peer_names(&self, id: FlowId) -> Option<Arc<CertificateNames>> {
        self.read().streams.get(&id)?.names.clone()
    }

    /// Why a connection was closed, or was never open. The last thousand are remembered.
    #[must_use]
    pub fn why_closed(&self, id: FlowId) -> Option<FlowEnd> {
        self.read().ends.get(id)
    }

    /// True for a connection that we opened: what comes by it was asked for.
    #[must_use]
    pub fn is_ours(&self, id: FlowId) -> bool {
        let state = self.read();
        state.streams.get(&id).is_some_and(|stream| matches!(stream.side, Side::Ours(..)))
    }

    /// Closes a connection; its queue is not written out.
    pub fn close(&self, id: FlowId) {
        if let Some(stream) = self.read().streams.get(&id) {
            stream.closing.notify_one();
        }
    }

    /// Closes every connection, and every UDP socket that is no listener's.
    pub fn close_all(&self) {
        let mut state = self.write();
        for id in state.ways.close_sockets() {
            state.sockets.remove(&id);
        }
        for stream in state.streams.values() {
            stream.closing.notify_one();
        }
    }

    /// Open stream connections, those that are being opened included.
    #[must_use]
    pub fn streams_open(&self) -> usize {
        self.read().streams.len()
    }

    pub(crate) fn ways_back(&self) -> &WaysBack {
        &self.0.ways_back
    }

    pub(crate) fn departures(&self) -> &Departures {
        &self.0.departures
    }

    /// Our address on a connection, as its peer sees it.
    pub(crate) fn local_of_stream(&self, id: FlowId) -> Option<SocketAddr> {
        self.read().streams.get(&id).map(|stream| stream.local)
    }

    pub(crate) fn tls(&self) -> &TlsClients {
        &self.0.tls
    }

    pub(crate) fn ingress(&self) -> Option<Arc<dyn Ingress>> {
        self.0.ingress.get().and_then(Weak::upgrade)
    }

    /// Enters a UDP socket of a listener, bound to `local`.
    pub(crate) fn add_socket(
        &self,
        socket: DatagramSocket,
        listener: u16,
        local: SocketAddr,
    ) -> FlowId {
        let id = self.mint();
        let mut state = self.write();
        state.sockets.insert(id, Arc::new(socket));
        state.ways.add_listener_socket(listener, id, local);
        id
    }

    /// Forgets a UDP socket.
    pub(crate) fn remove_socket(&self, id: FlowId) {
        let mut state = self.write();
        state.sockets.remove(&id);
        state.ways.forget_socket(id);
    }

    /// Enters the connection of a peer, whose `flow` has no id yet; `None` when a bound would be
    /// passed.
    pub(crate) fn add_stream(&self, flow: Flow) -> Option<StreamEnd> {
        let limits = &self.0.limits;
        let mut state = self.write();
        let address = flow.remote.ip();
        let handshaking = flow.transport == Transport::Tls;
        if state.streams.len() >= limits.flows_max
            || !state.crowd.has_room(limits, address, handshaking)
        {
            return None;
        }
        state.crowd.enter(address, handshaking);
        Some(self.enter(&mut state, (flow, flow.local), Side::Peer, handshaking))
    }

    /// Enters a connection of our own, which its peer sees come from `local`.
    pub(crate) fn add_own(
        &self,
        state: &mut State,
        (flow, local): (Flow, SocketAddr),
        to: Arc<Destination>,
    ) -> Result<StreamEnd, ConnectError> {
        let limits = &self.0.limits;
        if state.ours >= limits.ours_max || state.streams.len() >= limits.flows_max {
            return Err(ConnectError::TooMany);
        }
        // Peers say at which ports they listen: one that names ever new ones takes no room from others.
        let address = flow.remote.ip();
        if !state.ours_by_address.has_room(limits, address, false) {
            return Err(ConnectError::TooMany);
        }
        state.ours_by_address.enter(address, false);
        state.ours += 1;
        let (pace, keepalive) = watch::channel(None);
        let side = Side::Ours(Arc::clone(&to), pace);
        side.hasten(to.keepalive);
        Ok(StreamEnd {
            keepalive: Some(keepalive),
            ..self.enter(state, (flow, local), side, false)
        })
    }

    fn enter(
        &self,
        state: &mut State,
        (flow, local): (Flow, SocketAddr),
        side: Side,
        handshaking: bool,
    ) -> StreamEnd {
        let flow = Flow { id: self.mint(), ..flow };
        let (sender, queue) = mpsc::channel(self.0.limits.queue_max);
        let closing = Arc::new(Notify::new());
        let stream = Stream {
            flow,
            local,
            queue: sender,
            closing: closing.clone(),
            side,
            handshaking,
            names: None,
        };
        state.streams.insert(flow.id, stream);
        StreamEnd { flow, queue, closing, keepalive: None }
    }

    /// The TLS handshake of a connection is done.
    pub(crate) fn secured(&self, id: FlowId, names: Option<CertificateNames>) {
        let mut state = self.write();
        let Some(stream) = state.streams.get_mut(&id) else { return };
        stream.names = names.map(Arc::new);
        let address = stream.flow.remote.ip();
        if std::mem::take(&mut stream.handshaking) {
            state.crowd.shaken(address);
        }
    }

    /// Forgets a connection; the queue of its writer ends.
    pub(crate) fn remove_stream(&self, id: FlowId, why: FlowEnd) {
        let mut state = self.write();
        let Some(stream) = state.streams.remove(&id) else { return };
        state.ends.remember(id, why);
        state.ways.forget_stream(id, &stream);
        let address = stream.flow.remote.ip();
        match stream.side {
            Side::Ours(..) => {
                state.ours -= 1;
                state.ours_by_address.leave(address, false);
            }
            Side::Peer => state.crowd.leave(address, stream.handshaking),
        }
    }

    pub(crate) fn mint(&self) -> FlowId {
        FlowId(self.0.next.fetch_add(1, Ordering::Relaxed))
    }

    // No code that can panic runs under the lock, so a poisoned one is still sound.
    pub(crate) fn read(&self) -> RwLockReadGuard<'_, State> {
        self.0.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.0.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}
#[cfg(test)]
pub(crate) mod tests;
