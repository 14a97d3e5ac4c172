//! Sockets that send from a given address or by a given network interface.

use crate::net::bind::SourceError;
use crate::types::transport::InterfaceName;
use socket2::Domain;
use socket2::Protocol;
use socket2::Socket;
use socket2::Type;
use std::io;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::net::UdpSocket;
use tokio::net::TcpSocket;

/// A TCP socket that will connect from `at` by `interface`.
pub(crate) fn stream_socket(
    at: SocketAddr,
    interface: Option<&InterfaceName>,
) -> Result<TcpSocket, SourceError> {
    let open = || -> io::Result<TcpSocket> {
        let socket = Socket::new(Domain::for_address(at), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        bind_interface(&socket, interface)?;
        // Its port is known from now on, also where the system chooses the address.
        socket.bind(&at.into())?;
        Ok(TcpSocket::from_std_stream(socket.into()))
    };
    open().map_err(|error| SourceError::of(at.ip(), interface, error))
}

/// A UDP socket bound to `at`; to `port` of it, where that can be had.
pub(crate) fn datagram_socket(
    at: SocketAddr,
    port: u16,
    interface: Option<&InterfaceName>,
) -> Result<UdpSocket, SourceError> {
    let open = |port: u16| -> io::Result<UdpSocket> {
        let socket = Socket::new(Domain::for_address(at), Type::DGRAM, Some(Protocol::UDP))?;
        if at.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        socket.set_nonblocking(true)?;
        // Beside the sockets of a listener on every address, which share their port too.
        socket.set_reuse_port(port != 0)?;
        bind_interface(&socket, interface)?;
        socket.bind(&SocketAddr::new(at.ip(), port).into())?;
        Ok(socket.into())
    };
    let taken = |error: &io::Error| error.kind() == io::ErrorKind::AddrInUse;
    match open(port) {
        Err(error) if port != 0 && taken(&error) => open(0),
        other => other,
    }
    .map_err(|error| SourceError::of(at.ip(), interface, error))
}

/// The address from which the system sends to `remote` by `interface`; `None` where there is no way to it.
/// Nothing is sent for that.
pub(crate) fn departure(remote: SocketAddr, interface: Option<&InterfaceName>) -> Option<IpAddr> {
    let socket = Socket::new(Domain::for_address(remote), Type::DGRAM, Some(Protocol::UDP)).ok()?;
    bind_interface(&socket, interface).ok()?;
    socket.connect(&remote.into()).ok()?;
    let local = socket.local_addr().ok()?.as_socket()?.ip();
    (!local.is_unspecified()).then_some(local)
}

/// Has packets leave and arrive by `interface` alone.
pub(crate) fn bind_interface(socket: &Socket, interface: Option<&InterfaceName>) -> io::Result<()> {
    match interface {
        #[cfg(target_os = "linux")]
        Some(name) => socket.bind_device(Some(name.as_str().as_bytes())),
        #[cfg(not(target_os = "linux"))]
        Some(_) => Err(io::ErrorKind::Unsupported.into()),
        None => Ok(()),
    }
}
