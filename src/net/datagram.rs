//! `DatagramSocket`: a UDP socket for SIP whose answers leave from the address that was asked.
//!
//! A socket bound to every address sends from whatever address the routing table prefers, which on a
//! machine with several is another than the peer wrote to: firewalls and peers drop such an answer. So
//! the kernel is asked where each datagram was sent to (`IP_PKTINFO`, `IPV6_RECVPKTINFO`), and told to
//! send the answer from there.
//!
//! The kernel also keeps what the network says of datagrams that did not arrive (`IP_RECVERR`): "nobody
//! listens there" need not be waited for.

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
use tokio::io::Ready;

/// Sends of one datagram: each may be failed once by what the network said of an earlier one.
const SENDS_MAX: usize = 4;
/// Room for the beginning of a datagram that did not arrive; networks quote no more (RFC 1812 §4.3.2.3).
pub(crate) const QUOTE_BYTES_MAX: usize = 1_280;
/// Destination unreachable, in ICMP and in ICMPv6.
const UNREACHABLE: [u8; 2] = [3, 1];

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
    /// Room for what the network said of a datagram of ours.
    errors: Vec<u8>,
}

/// A datagram of ours that did not arrive, as the network tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unreached {
    /// How much of its beginning is in the buffer.
    pub(crate) length: usize,
    /// Where it was to go.
    pub(crate) remote: SocketAddr,
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
        match socket.local_addr()? {
            SocketAddr::V4(_) => setsockopt(&socket, sockopt::Ipv4RecvErr, &true)?,
            SocketAddr::V6(_) => setsockopt(&socket, sockopt::Ipv6RecvErr, &true)?,
        }
        if is_wildcard {
            match socket.local_addr()? {
                SocketAddr::V4(_) => setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?,
                SocketAddr::V6(_) => setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?,
            }
        }
        let reader = tokio::net::UdpSocket::from_std(socket.try_clone()?)?;
        let control = is_wildcard.then(|| nix::cmsg_space!(libc::in6_pktinfo));
        let errors =
            nix::cmsg_space!(libc::in6_pktinfo, libc::sock_extended_err, libc::sockaddr_in6);
        Ok((Self { socket, is_wildcard }, DatagramReader { socket: reader, control, errors }))
    }

    /// Sends to `remote`, from `local` where the socket may send from several addresses. Does not wait.
    ///
    /// # Errors
    /// As the system says.
    pub(crate) fn send(&self, message: &[u8], local: IpAddr, remote: SocketAddr) -> io::Result<()> {
        // The system tells of a datagram that did not arrive by failing the next one, whoever that is for.
        for _ in 1..SENDS_MAX {
            match self.send_once(message, local, remote) {
                Err(error) if is_report(&error) => {}
                sent => return sent,
            }
        }
        self.send_once(message, local, remote)
    }

    fn send_once(&self, message: &[u8], local: IpAddr, remote: SocketAddr) -> io::Result<()> {
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
    /// Waits until there may be a datagram, or the fate of one of ours.
    ///
    /// # Errors
    /// When the socket cannot be waited for.
    pub(crate) async fn ready(&self) -> io::Result<Ready> {
        self.socket.ready(Interest::READABLE | Interest::ERROR).await
    }

    /// Reads what the network said of one datagram of ours; `None` for what is no end of the way there.
    ///
    /// # Errors
    /// `WouldBlock` when nothing was said, else as the system says.
    pub(crate) fn try_unreached(&mut self, buffer: &mut [u8]) -> io::Result<Option<Unreached>> {
        let (fd, control) = (self.socket.as_raw_fd(), &mut self.errors);
        self.socket.try_io(Interest::ERROR, || {
            let mut parts = [IoSliceMut::new(buffer)];
            let flags = MsgFlags::MSG_ERRQUEUE;
            let message = recvmsg::<SockaddrStorage>(fd, &mut parts, Some(control), flags)?;
            let remote = message.address.as_ref().and_then(address_of);
            let length = message.bytes;
            let is_end = message.cmsgs()?.any(|control| is_unreachable(&control));
            Ok(remote.filter(|_| is_end).map(|remote| Unreached { length, remote }))
        })
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

/// True for errors by which the system tells of an earlier datagram.
pub(crate) fn is_report(error: &io::Error) -> bool {
    let reports = [
        Errno::ECONNREFUSED,
        Errno::EHOSTUNREACH,
        Errno::ENETUNREACH,
        Errno::ENOPROTOOPT,
        Errno::EPROTO,
        Errno::EACCES,
        Errno::EMSGSIZE,
        Errno::EOPNOTSUPP,
    ];
    error.raw_os_error().is_some_and(|own| reports.contains(&Errno::from_raw(own)))
}

/// True for host, network, port or protocol unreachable; what a longer life or a shorter datagram would
/// have mended is none (RFC 3261 §18.4).
fn is_unreachable(control: &ControlMessageOwned) -> bool {
    let (ControlMessageOwned::Ipv4RecvErr(error, _) | ControlMessageOwned::Ipv6RecvErr(error, _)) =
        control
    else {
        return false;
    };
    let kind = match error.ee_origin {
        libc::SO_EE_ORIGIN_ICMP => UNREACHABLE[0],
        libc::SO_EE_ORIGIN_ICMP6 => UNREACHABLE[1],
        _ => return false,
    };
    error.ee_type == kind && Errno::from_raw(error.ee_errno.cast_signed()) != Errno::EMSGSIZE
}

fn address_of(address: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = address.as_sockaddr_in().map(|own| SocketAddrV4::from(*own).into());
    v4.or_else(|| address.as_sockaddr_in6().map(|own| SocketAddrV6::from(*own).into()))
}
