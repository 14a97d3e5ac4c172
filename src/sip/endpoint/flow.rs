//! `Flow`: the way a message came or shall go.

use crate::types::transport::Transport;
use std::net::SocketAddr;

/// Names a UDP listening socket or one stream connection; unique in the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FlowId(pub u64);

impl FlowId {
    /// Of a stream flow: any connection of ours to the flow's `remote`, to be opened where there is none.
    /// The endpoint uses it when the connection a dialog came by is gone and no way back is known. A shell
    /// that cannot connect drops the message; the transaction then times out.
    pub const ANY: Self = Self(u64::MAX);

    /// Ids from here on name no socket and no connection.
    const BACK: u64 = 1 << 63;

    /// A way back: the shell knows how the peer is to be reached once a connection to it is gone.
    #[must_use]
    pub const fn way_back(number: u64) -> Self {
        Self(Self::BACK | number)
    }

    /// True for a socket or a connection, which may be open or gone.
    #[must_use]
    pub const fn is_socket(self) -> bool {
        self.0 < Self::BACK
    }
}

/// The way a message came or shall go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Flow {
    /// UDP: the listening socket. Streams: the connection.
    pub id: FlowId,
    /// Index into [`EndpointConfig::listeners`](super::config::EndpointConfig::listeners).
    pub listener: u16,
    /// The transport of the listener.
    pub transport: Transport,
    /// Our address on this flow.
    pub local: SocketAddr,
    /// The peer's address on this flow.
    pub remote: SocketAddr,
}
