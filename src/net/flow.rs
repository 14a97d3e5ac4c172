//! Flows: where received messages go, and the one place that sends on sockets and connections.

use crate::sip::endpoint::flow::Flow;
use crate::sip::endpoint::flow::FlowId;
use crate::types::limit::SIP_FLOW_QUEUE_MAX;
use crate::types::limit::SIP_FLOWS_MAX;
use crate::types::limit::SIP_FLOWS_PER_ADDRESS_MAX;
use crate::types::transport::Transport;
use bytes::Bytes;
use std::collections::HashMap;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::RwLock;
use std::sync::RwLockReadGuard;
use std::sync::RwLockWriteGuard;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::sync::mpsc;

/// Takes what the sockets receive. Called from the readers: it must not block.
pub trait Ingress: Send + Sync + 'static {
    /// A datagram, or one whole message of a stream.
    fn receive(&self, flow: Flow, message: Bytes);

    /// A stream connection is gone; nothing can be sent on it any more.
    fn flow_closed(&self, id: FlowId);

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
    /// Open connections of one peer address. Over it: the new one is closed.
    pub flows_per_address_max: usize,
    /// Messages waiting to be written to one connection. Over it: that connection is closed.
    pub queue_max: usize,
    /// Longest wait for the rest of a message, and for the first one. Over it: closed.
    pub message_timeout: Duration,
    /// Longest silence of a connection that has spoken. Over it: closed.
    pub idle_timeout: Duration,
    /// Longest wait for a peer to take one write. Over it: closed.
    pub write_timeout: Duration,
}

impl Default for FlowLimits {
    fn default() -> Self {
        Self {
            flows_max: SIP_FLOWS_MAX,
            flows_per_address_max: SIP_FLOWS_PER_ADDRESS_MAX,
            queue_max: SIP_FLOW_QUEUE_MAX,
            message_timeout: Duration::from_secs(30),
            // A connection must outlive the longest call without signalling: two session-timer
            // intervals. A dead peer is found earlier, by TCP keep-alive.
            idle_timeout: Duration::from_secs(3_600),
            write_timeout: Duration::from_secs(10),
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

/// All flows of the node; cheap to clone. Sending never waits.
#[derive(Clone, Debug)]
pub struct Flows(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    limits: FlowLimits,
    next: AtomicU64,
    state: RwLock<State>,
}

#[derive(Debug, Default)]
struct State {
    sockets: HashMap<FlowId, Arc<UdpSocket>>,
    streams: HashMap<FlowId, Stream>,
    /// The newest connection to each peer, for [`FlowId::ANY`].
    by_remote: HashMap<SocketAddr, FlowId>,
    per_address: HashMap<IpAddr, usize>,
}

#[derive(Debug)]
struct Stream {
    remote: SocketAddr,
    queue: mpsc::Sender<Bytes>,
    closing: Arc<Notify>,
}

/// What the task of a connection holds: its queue and the signal to close.
#[derive(Debug)]
pub(crate) struct StreamEnd {
    pub(crate) id: FlowId,
    pub(crate) queue: mpsc::Receiver<Bytes>,
    pub(crate) closing: Arc<Notify>,
}

impl Flows {
    /// No flows yet.
    #[must_use]
    pub fn new(limits: FlowLimits) -> Self {
        // Zero is left out, so that an id that was never set is noticed.
        let next = AtomicU64::new(1);
        Self(Arc::new(Shared { limits, next, state: RwLock::default() }))
    }

    /// The bounds in force.
    #[must_use]
    pub fn limits(&self) -> &FlowLimits {
        &self.0.limits
    }

    /// Sends one message, from any thread, without waiting.
    ///
    /// # Errors
    /// [`SendError::Full`]: a datagram is lost, as the network may lose it; a connection is closed.
    /// [`SendError::Gone`]: there is no such flow.
    pub fn send(&self, flow: &Flow, message: Bytes) -> Result<(), SendError> {
        match flow.transport {
            Transport::Udp => self.send_datagram(flow, &message),
            Transport::Tcp | Transport::Tls => self.send_on_stream(flow, message),
        }
    }

    fn send_datagram(&self, flow: &Flow, message: &[u8]) -> Result<(), SendError> {
        let socket = self.read().sockets.get(&flow.id).cloned().ok_or(SendError::Gone)?;
        match socket.send_to(message, flow.remote) {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Err(SendError::Full),
            Err(error) => {
                tracing::debug!(remote = %flow.remote, %error, "a datagram could not be sent");
                Err(SendError::Gone)
            }
        }
    }

    fn send_on_stream(&self, flow: &Flow, message: Bytes) -> Result<(), SendError> {
        let state = self.read();
        let id = if flow.id == FlowId::ANY {
            *state.by_remote.get(&flow.remote).ok_or(SendError::Gone)?
        } else {
            flow.id
        };
        let stream = state.streams.get(&id).ok_or(SendError::Gone)?;
        stream.queue.try_send(message).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => {
                stream.closing.notify_one();
                SendError::Full
            }
            mpsc::error::TrySendError::Closed(_) => SendError::Gone,
        })
    }

    /// Closes a connection; its queue is not written out.
    pub fn close(&self, id: FlowId) {
        if let Some(stream) = self.read().streams.get(&id) {
            stream.closing.notify_one();
        }
    }

    /// Closes every connection.
    pub fn close_all(&self) {
        for stream in self.read().streams.values() {
            stream.closing.notify_one();
        }
    }

    /// Open stream connections.
    #[must_use]
    pub fn streams_open(&self) -> usize {
        self.read().streams.len()
    }

    /// Enters a bound UDP socket.
    pub(crate) fn add_socket(&self, socket: UdpSocket) -> FlowId {
        let id = self.mint();
        self.write().sockets.insert(id, Arc::new(socket));
        id
    }

    /// Forgets a UDP socket.
    pub(crate) fn remove_socket(&self, id: FlowId) {
        self.write().sockets.remove(&id);
    }

    /// Enters a connection; `None` when a bound would be passed.
    pub(crate) fn add_stream(&self, remote: SocketAddr) -> Option<StreamEnd> {
        let mut state = self.write();
        let of_address = state.per_address.get(&remote.ip()).copied().unwrap_or(0);
        if state.streams.len() >= self.0.limits.flows_max
            || of_address >= self.0.limits.flows_per_address_max
        {
            return None;
        }
        let id = self.mint();
        let (sender, queue) = mpsc::channel(self.0.limits.queue_max);
        let closing = Arc::new(Notify::new());
        state.per_address.insert(remote.ip(), of_address + 1);
        state.by_remote.insert(remote, id);
        state.streams.insert(id, Stream { remote, queue: sender, closing: closing.clone() });
        Some(StreamEnd { id, queue, closing })
    }

    /// Forgets a connection; the queue of its writer ends.
    pub(crate) fn remove_stream(&self, id: FlowId) {
        let mut state = self.write();
        let Some(stream) = state.streams.remove(&id) else { return };
        if state.by_remote.get(&stream.remote) == Some(&id) {
            state.by_remote.remove(&stream.remote);
        }
        let address = stream.remote.ip();
        if let Some(count) = state.per_address.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                state.per_address.remove(&address);
            }
        }
    }

    fn mint(&self) -> FlowId {
        FlowId(self.0.next.fetch_add(1, Ordering::Relaxed))
    }

    // No code that can panic runs under the lock, so a poisoned one is still sound.
    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.0.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.0.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
pub(crate) mod tests {
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
        pub(crate) fn connected() -> (Arc<dyn Ingress>, mpsc::Receiver<Seen>) {
            let (sender, receiver) = mpsc::channel(1_000);
            (Arc::new(Self(sender)), receiver)
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

    #[test]
    fn connections_are_bounded_in_all_and_by_address() {
        let limits = FlowLimits { flows_max: 3, flows_per_address_max: 2, ..FlowLimits::default() };
        let flows = Flows::new(limits);
        let first = flows.add_stream(remote(1, 1)).unwrap();
        let _second = flows.add_stream(remote(1, 2)).unwrap();
        assert!(flows.add_stream(remote(1, 3)).is_none(), "two of one address");
        let _third = flows.add_stream(remote(2, 1)).unwrap();
        assert!(flows.add_stream(remote(3, 1)).is_none(), "three in all");
        flows.remove_stream(first.id);
        flows.remove_stream(first.id);
        assert_eq!(flows.streams_open(), 2);
        assert!(flows.add_stream(remote(1, 4)).is_some());
    }

    #[test]
    fn a_full_queue_asks_the_connection_to_close() {
        let flows = Flows::new(FlowLimits { queue_max: 1, ..FlowLimits::default() });
        let end = flows.add_stream(remote(1, 9)).unwrap();
        let flow = Flow {
            id: FlowId::ANY,
            listener: 0,
            transport: Transport::Tcp,
            local: remote(1, 5060),
            remote: remote(1, 9),
        };
        assert_eq!(flows.send(&flow, Bytes::from_static(b"a")), Ok(()));
        assert_eq!(flows.send(&flow, Bytes::from_static(b"b")), Err(SendError::Full));
        flows.remove_stream(end.id);
        assert_eq!(flows.send(&flow, Bytes::from_static(b"c")), Err(SendError::Gone));
        let stray = Flow { transport: Transport::Udp, ..flow };
        assert_eq!(flows.send(&stray, Bytes::from_static(b"d")), Err(SendError::Gone));
    }
}
