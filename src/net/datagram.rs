//! `DatagramSocket`: a UDP socket for SIP whose answers leave from the address that was asked.
//!
//! A socket bound to every address sends from whatever address the routing table prefers, which on a
//! machine with several is another than the peer wrote to: firewalls and peers drop such an answer. So
//! the kernel is asked where each datagram was sent to (`IP_PKTINFO`, `IPV6_RECVPKTINFO`), and told to
//! send the answer from there.

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::ControlMessage;
use nix::sys::socket::ControlMessageOwned;
use nix::sys::socket::MsgFlags;
use nix::sys::socket::SockaddrStorage;
use nix::sys::socket::recvmsg;
use nix::sys::socket::sendmsg;
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt;
use std::io;
use std::io::IoSlice;
use std::io::IoSliceMut;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;
use std::net::SocketAddr;
use std::net::SocketAddrV4;
use std::net::SocketAddrV6;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;
use tokio::io::Interest;

/// The sending side.
#[derive(Debug)]
pub(crate) struct DatagramSocket {
    socket: UdpSocket,
    /// Bound to every address.
    is_wildcard: bool,
}

/// The receiving side.
#[derive(Debug)]
pub(crate) struct DatagramReader {
    socket: tokio::net::UdpSocket,
    /// Room for what the kernel says of a datagram; `None` where the socket has one address.
    control: Option<Vec<u8>>,
}

/// A datagram that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Received {
    /// Its length in the buffer.
    pub(crate) length: usize,
    /// Where it came from.
    pub(crate) remote: SocketAddr,
    /// The address of ours it was sent to; `None`: the one the socket is bound to.
    pub(crate) local: Option<IpAddr>,
}

impl DatagramSocket {
    /// Takes a bound socket, and gives its two sides.
    ///
    /// # Errors
    /// As the system says: no descriptor is left.
    pub(crate) fn split(socket: UdpSocket) -> io::Result<(Self, DatagramReader)> {
        let is_wildcard = socket.local_addr()?.ip().is_unspecified();
        if is_wildcard {
            match socket.local_addr()? {
                SocketAddr::V4(_) => setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?,
                SocketAddr::V6(_) => setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?,
            }
        }
        let reader = tokio::net::UdpSocket::from_std(socket.try_clone()?)?;
        let control = is_wildcard.then(|| nix::cmsg_space!(libc::in6_pktinfo));
        Ok((Self { socket, is_wildcard }, DatagramReader { socket: reader, control }))
    }

    /// Sends to `remote`, from `local` where the socket may send from several addresses. Does not wait.
    ///
    /// # Errors
    /// As the system says.
    pub(crate) fn send(&self, message: &[u8], local: IpAddr, remote: SocketAddr) -> io::Result<()> {
        if !self.is_wildcard || local.is_unspecified() {
            return self.socket.send_to(message, remote).map(drop);
        }
        let (fd, to) = (self.socket.as_raw_fd(), SockaddrStorage::from(remote));
        let (parts, flags) = ([IoSlice::new(message)], MsgFlags::empty());
        let sent = match local {
            IpAddr::V4(local) => {
                let info = info_v4(local);
                sendmsg(fd, &parts, &[ControlMessage::Ipv4PacketInfo(&info)], flags, Some(&to))
            }
            IpAddr::V6(local) => {
                let info = info_v6(local);
                sendmsg(fd, &parts, &[ControlMessage::Ipv6PacketInfo(&info)], flags, Some(&to))
            }
        };
        Ok(sent.map(drop)?)
    }
}

impl DatagramReader {
    /// Waits until there may be a datagram.
    ///
    /// # Errors
    /// When the socket cannot be waited for.
    pub(crate) async fn readable(&self) -> io::Result<()> {
        self.socket.readable().await
    }

    /// Reads one datagram; a longer one than `buffer` is cut.
    ///
    /// # Errors
    /// `WouldBlock` when none is waiting, else as the system says.
    pub(crate) fn try_receive(&mut self, buffer: &mut [u8]) -> io::Result<Received> {
        let Some(control) = &mut self.control else {
            let (length, remote) = self.socket.try_recv_from(buffer)?;
            return Ok(Received { length, remote, local: None });
        };
        let fd = self.socket.as_raw_fd();
        self.socket.try_io(Interest::READABLE, || {
            let mut parts = [IoSliceMut::new(buffer)];
            let flags = MsgFlags::empty();
            let message = recvmsg::<SockaddrStorage>(fd, &mut parts, Some(control), flags)?;
            let remote = message.address.as_ref().and_then(address_of);
            let local = message.cmsgs()?.find_map(|control| destination_of(&control));
            let length = message.bytes;
            Ok(Received { length, remote: remote.ok_or(Errno::EINVAL)?, local })
        })
    }
}

fn info_v4(local: Ipv4Addr) -> libc::in_pktinfo {
    libc::in_pktinfo {
        ipi_ifindex: 0,
        ipi_spec_dst: libc::in_addr { s_addr: u32::from_ne_bytes(local.octets()) },
        ipi_addr: libc::in_addr { s_addr: 0 },
    }
}

const fn info_v6(local: Ipv6Addr) -> libc::in6_pktinfo {
    let ipi6_addr = libc::in6_addr { s6_addr: local.octets() };
    libc::in6_pktinfo { ipi6_addr, ipi6_ifindex: 0 }
}

/// The address of ours an answer has to come from.
fn destination_of(control: &ControlMessageOwned) -> Option<IpAddr> {
    match control {
        // Where the datagram was sent to all of a network this is ours on it.
        ControlMessageOwned::Ipv4PacketInfo(info) => {
            Some(Ipv4Addr::from(info.ipi_spec_dst.s_addr.to_ne_bytes()).into())
        }
        ControlMessageOwned::Ipv6PacketInfo(info) => Some(Ipv6Addr::from(info.ipi6_addr.s6_addr))
            .filter(|ip| !ip.is_multicast())
            .map(Into::into),
        _ => None,
    }
}

fn address_of(address: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = address.as_sockaddr_in().map(|own| SocketAddrV4::from(*own).into());
    v4.or_else(|| address.as_sockaddr_in6().map(|own| SocketAddrV6::from(*own).into()))
}
