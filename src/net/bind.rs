//! Binding listening sockets, with errors an operator can act on.

use crate::types::transport::InterfaceName;
use crate::types::transport::Transport;
use std::io;
use std::net::IpAddr;
use std::net::SocketAddr;

/// A listening socket could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Another socket has the address.
    #[error("{transport} {address} is in use by another program; stop it, or give another address")]
    InUse {
        /// The transport asked for.
        transport: Transport,
        /// The address asked for.
        address: SocketAddr,
    },
    /// The address is not of this machine.
    #[error("this machine has no address {address} to listen on for {transport}")]
    NoSuchAddress {
        /// The transport asked for.
        transport: Transport,
        /// The address asked for.
        address: SocketAddr,
    },
    /// The operating system forbids it.
    #[error("no permission to listen on {transport} {address}; ports below 1024 need a privilege")]
    Forbidden {
        /// The transport asked for.
        transport: Transport,
        /// The address asked for.
        address: SocketAddr,
    },
    /// Anything else.
    #[error("cannot listen on {transport} {address}")]
    Failed {
        /// The transport asked for.
        transport: Transport,
        /// The address asked for.
        address: SocketAddr,
        /// What the operating system said.
        source: io::Error,
    },
}

impl BindError {
    /// Sorts what the operating system said.
    pub(crate) fn of(transport: Transport, address: SocketAddr, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::AddrInUse => Self::InUse { transport, address },
            io::ErrorKind::AddrNotAvailable => Self::NoSuchAddress { transport, address },
            io::ErrorKind::PermissionDenied => Self::Forbidden { transport, address },
            _ => Self::Failed { transport, address, source },
        }
    }
}

/// A socket cannot send from where a trunk wants it to.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The address is not of this machine.
    #[error("this machine has no address {0} to send from")]
    NoSuchAddress(IpAddr),
    /// There is no such interface.
    #[error("this machine has no network interface {0}")]
    NoSuchInterface(InterfaceName),
    /// The operating system forbids binding to an interface.
    #[error("no permission to bind to network interface {0}; it needs CAP_NET_RAW, or root")]
    Forbidden(InterfaceName),
    /// Anything else.
    #[error("cannot open a socket that sends from {address}")]
    Failed {
        /// The local address.
        address: IpAddr,
        /// What the operating system said.
        source: io::Error,
    },
}

impl SourceError {
    /// Sorts what the operating system said.
    pub(crate) fn of(
        address: IpAddr,
        interface: Option<&InterfaceName>,
        source: io::Error,
    ) -> Self {
        match (source.kind(), source.raw_os_error(), interface) {
            (io::ErrorKind::PermissionDenied, _, Some(name)) => Self::Forbidden(name.clone()),
            (_, Some(libc::ENODEV), Some(name)) => Self::NoSuchInterface(name.clone()),
            (io::ErrorKind::AddrNotAvailable, ..) => Self::NoSuchAddress(address),
            _ => Self::Failed { address, source },
        }
    }
}
