//! Marking what a socket sends with a traffic class.

use socket2::SockRef;
use std::net::IpAddr;

/// Has the system write `dscp` (RFC 2474) into what `socket`, bound to `local`, sends; 0 leaves it be. A
/// network that marks nothing still carries calls, so a refusal is told in the log alone.
pub(crate) fn mark(socket: SockRef<'_>, local: IpAddr, dscp: u8) {
    if dscp > 0 {
        mark_anew(socket, local, dscp);
    }
}

/// The same for a socket that may have had another class before, which 0 takes from it.
pub(crate) fn mark_anew(socket: SockRef<'_>, local: IpAddr, dscp: u8) {
    // The two low bits of the octet are of congestion notification.
    let octet = u32::from(dscp) << 2;
    let marked = match local {
        IpAddr::V4(_) => socket.set_tos_v4(octet),
        IpAddr::V6(_) => socket.set_tclass_v6(octet),
    };
    if let Err(error) = marked {
        tracing::warn!(%error, dscp, "the system does not mark packets");
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use nix::sys::socket::ControlMessageOwned;
    use nix::sys::socket::MsgFlags;
    use nix::sys::socket::SockaddrStorage;
    use nix::sys::socket::recvmsg;
    use std::io::IoSliceMut;
    use std::net::SocketAddr;
    use std::net::UdpSocket;
    use std::os::fd::AsRawFd;
    use std::time::Duration;

    /// A socket that hears with which traffic class datagrams come.
    pub(crate) struct Listening(UdpSocket);

    impl Listening {
        pub(crate) fn at(address: SocketAddr) -> Self {
            let socket = UdpSocket::bind(address).unwrap();
            match address {
                SocketAddr::V4(_) => SockRef::from(&socket).set_recv_tos_v4(true).unwrap(),
                SocketAddr::V6(_) => SockRef::from(&socket).set_recv_tclass_v6(true).unwrap(),
            }
            socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            Self(socket)
        }

        pub(crate) fn local(&self) -> SocketAddr {
            self.0.local_addr().unwrap()
        }

        /// The class of the next datagram.
        pub(crate) fn class(&self) -> u8 {
            let (mut buffer, mut control) = ([0; 64], nix::cmsg_space!(i32));
            let mut parts = [IoSliceMut::new(&mut buffer)];
            let (fd, none) = (self.0.as_raw_fd(), MsgFlags::empty());
            let message =
                recvmsg::<SockaddrStorage>(fd, &mut parts, Some(&mut control), none).unwrap();
            let octet = message.cmsgs().unwrap().find_map(|control| match control {
                ControlMessageOwned::Ipv4Tos(octet) => Some(i32::from(octet)),
                ControlMessageOwned::Ipv6TClass(octet) => Some(octet),
                _ => None,
            });
            u8::try_from(octet.unwrap() >> 2).unwrap()
        }
    }
}
