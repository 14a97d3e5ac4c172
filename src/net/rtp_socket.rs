//! `RtpSocket`: a UDP socket for media, read without waiting from a media thread.
//!
//! A media thread reads its sockets once in 20 ms. So the kernel stamps each datagram when it arrives:
//! jitter and round trips would be quantised to the tick otherwise. That needs `recvmsg`, which no safe
//! interface offers with its control messages.
//!
//! The system is asked without the C library's own functions in between: those make of each call one at
//! which the thread could be cancelled, and back, which no thread here ever is.
#![expect(unsafe_code, reason = "recvmsg with time stamps; each block says why it is sound")]

use crate::net::mark::mark_anew;
use crate::net::source::bind_interface;
use crate::types::transport::InterfaceName;
use socket2::Domain;
use socket2::Protocol;
use socket2::SockAddr;
use socket2::SockRef;
use socket2::Socket;
use socket2::Type;
use std::io;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;
use std::net::SocketAddr;
use std::net::SocketAddrV6;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;
use std::time::Duration;

/// Room for a second of packets, so that a late media thread loses none.
const RECEIVE_BUFFER_BYTES: usize = 128 * 1024;

/// A UDP socket for media. Never waits.
#[derive(Debug)]
pub struct RtpSocket(UdpSocket);

impl RtpSocket {
    /// Binds `address`.
    ///
    /// # Errors
    /// As the system says: the port is taken, no descriptor is left, the address is not ours.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        Self::bind_by(address, None)
    }

    /// Binds `address`, of one network interface where that is given.
    ///
    /// # Errors
    /// As [`Self::bind`], and where the system forbids it or has no such interface.
    pub fn bind_by(address: SocketAddr, interface: Option<&InterfaceName>) -> io::Result<Self> {
        let socket = Self::bind_for_reports(address, interface)?;
        // These only make things better; a system that refuses them still carries calls.
        let _refused = SockRef::from(&socket.0).set_recv_buffer_size(RECEIVE_BUFFER_BYTES);
        if address.is_ipv4() && socket.learns_ways() {
            let _refused = socket.keep_whole(true);
        }
        Ok(socket)
    }

    /// The same for RTCP: of reports, which come every few seconds, the system's own room holds many.
    ///
    /// # Errors
    /// As [`Self::bind_by`].
    pub fn bind_for_reports(
        address: SocketAddr,
        interface: Option<&InterfaceName>,
    ) -> io::Result<Self> {
        let kind = Type::DGRAM.nonblocking();
        let socket = Socket::new(Domain::for_address(address), kind, Some(Protocol::UDP))?;
        if address.is_ipv6() {
            // What goes to IPv4 has a socket of its own.
            socket.set_only_v6(true)?;
        }
        bind_interface(&socket, interface)?;
        socket.bind(&address.into())?;
        // A system that does not stamp them still carries calls.
        let _refused = set_option(&socket, libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, 1);
        Ok(Self(socket.into()))
    }

    /// Has the system send each datagram over IPv4 whole, and refuse those that are too long for their way, or send
    /// these in pieces as it does by itself. What is never cut needs no number by which pieces are found together
    /// (RFC 6864), and the system makes no other one: it takes it from a table of all ways, in memory that is far.
    fn keep_whole(&self, whole: bool) -> io::Result<()> {
        let how = if whole { libc::IP_PMTUDISC_DO } else { libc::IP_PMTUDISC_WANT };
        set_option(&self.0, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, how)
    }

    /// Whether the system learns how much ways over IPv4 carry, which is its default. One that is told not to
    /// (`ip_no_pmtu_disc`) may be told so because nobody tells it: what has to go whole could be lost for good.
    fn learns_ways(&self) -> bool {
        let how = option(&self.0, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER);
        how.is_ok_and(|how| how == libc::IP_PMTUDISC_WANT)
    }

    /// Has the system mark what is sent with the traffic class `dscp` (RFC 2474) from now on; 0: as it does by
    /// itself. `local` is where the socket is bound.
    pub fn classify(&self, local: IpAddr, dscp: u8) {
        mark_anew(SockRef::from(&self.0), local, dscp);
    }

    /// Reads one datagram; `None` when none is waiting. A longer one than `buffer` is cut.
    pub fn receive(&self, buffer: &mut [u8]) -> Option<Arrival> {
        loop {
            match receive_message(&self.0, buffer) {
                Ok(arrival) => return Some(arrival),
                // An ICMP error about something we sent: it says nothing about what waits here.
                Err(error) if is_report_of_peer(&error) => {}
                Err(_) => return None,
            }
        }
    }

    /// Sends one datagram; false when the system did not take it.
    pub fn send(&self, bytes: &[u8], to: SocketAddr) -> bool {
        match send_message(&self.0, bytes, to) {
            Ok(()) => true,
            // Longer than its way carries at once: from now on such ones go in pieces.
            Err(error) if to.is_ipv4() && error.raw_os_error() == Some(libc::EMSGSIZE) => {
                self.keep_whole(false).is_ok() && send_message(&self.0, bytes, to).is_ok()
            }
            // That was about one before.
            Err(error) if is_report_of_peer(&error) => send_message(&self.0, bytes, to).is_ok(),
            Err(_) => false,
        }
    }

    /// Has the system keep to `peer` and drop what others send, or nobody's any more (`None`). What waits already stays.
    /// False when it does not do that. Sending goes anywhere all the same. Only for a socket bound to an address and a port
    /// by number, and to no interface: the system would take back one that it chose, and the interface in any case.
    pub fn keep_to(&self, peer: Option<SocketAddr>) -> bool {
        match peer {
            Some(peer) => self.0.connect(peer).is_ok(),
            None => disconnect(&self.0).is_ok(),
        }
    }

    /// The network interface it is bound to.
    #[cfg(test)]
    pub(crate) fn interface(&self) -> Option<Vec<u8>> {
        SockRef::from(&self.0).device().expect("the system says")
    }

    /// The bound address.
    ///
    /// # Errors
    /// As the system says.
    pub fn local_address(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

/// A datagram that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// Its length in the buffer.
    pub length: usize,
    /// Where it came from.
    pub source: SocketAddr,
    /// When the kernel took it, on the system's wall clock since 1970; `None` if it does not say.
    pub stamp: Option<Duration>,
}

/// Room for one control message with a time stamp, aligned as the kernel writes it.
#[repr(C, align(8))]
struct Control([u8; 64]);

fn set_option(
    socket: &impl AsRawFd,
    level: libc::c_int,
    name: libc::c_int,
    value: libc::c_int,
) -> io::Result<()> {
    let length = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the pointer is to a live integer of the length given, which the call only reads; the
    // descriptor is open as long as `socket` is borrowed.
    let result = unsafe {
        libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const value).cast(), length)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn option(socket: &impl AsRawFd, level: libc::c_int, name: libc::c_int) -> io::Result<libc::c_int> {
    let mut value: libc::c_int = 0;
    let mut length = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: both pointers are to live integers, of which the second says how long the first is, beyond which the
    // kernel never writes; the descriptor is open as long as `socket` is borrowed.
    let result = unsafe {
        libc::getsockopt(socket.as_raw_fd(), level, name, (&raw mut value).cast(), &raw mut length)
    };
    if result == 0 { Ok(value) } else { Err(io::Error::last_os_error()) }
}

/// Undoes `connect`. The socket stays bound where it was bound by name.
fn disconnect(socket: &UdpSocket) -> io::Result<()> {
    let nobody =
        libc::sockaddr { sa_family: libc::AF_UNSPEC as libc::sa_family_t, sa_data: [0; 14] };
    let length = size_of::<libc::sockaddr>() as libc::socklen_t;
    // SAFETY: the pointer is to a live address of the length given, which the call only reads; the descriptor
    // is open as long as `socket` is borrowed.
    let result = unsafe { libc::connect(socket.as_raw_fd(), &raw const nobody, length) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn receive_message(socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<Arrival> {
    let mut name = [0_u8; size_of::<libc::sockaddr_in6>()];
    let mut control = Control([0; 64]);
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: a message header is made of integers and pointers, for which zero is a valid value.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_name = name.as_mut_ptr().cast();
    message.msg_namelen = name.len() as libc::socklen_t;
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.0.as_mut_ptr().cast();
    message.msg_controllen = control.0.len();
    let (descriptor, flags) = (libc::c_long::from(socket.as_raw_fd()), 0_usize);
    // SAFETY: every pointer in the header is to memory that lives until the end of this function and
    // is borrowed by nobody else, each with its true length, beyond which the kernel never writes.
    let length = unsafe { libc::syscall(libc::SYS_recvmsg, descriptor, &raw mut message, flags) };
    let Ok(length) = usize::try_from(length) else { return Err(io::Error::last_os_error()) };
    let written = control.0.get(..message.msg_controllen).unwrap_or_default();
    let source = address_of(&name).ok_or(io::ErrorKind::InvalidData)?;
    Ok(Arrival { length, source, stamp: stamp_of(written) })
}

fn send_message(socket: &UdpSocket, bytes: &[u8], to: SocketAddr) -> io::Result<()> {
    let to = SockAddr::from(to);
    let descriptor = libc::c_long::from(socket.as_raw_fd());
    let (flags, length) = (libc::c_long::from(libc::MSG_NOSIGNAL), to.len() as usize);
    // SAFETY: both pointers are to memory that is borrowed until the call is over, each with its true length,
    // which the kernel only reads.
    let sent = unsafe {
        libc::syscall(
            libc::SYS_sendto,
            descriptor,
            bytes.as_ptr(),
            bytes.len(),
            flags,
            to.as_ptr(),
            length,
        )
    };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Reads a `sockaddr_in` or `sockaddr_in6`.
fn address_of(name: &[u8; size_of::<libc::sockaddr_in6>()]) -> Option<SocketAddr> {
    let (family, rest) = name.split_first_chunk::<2>()?;
    let (port, rest) = rest.split_first_chunk::<2>()?;
    let port = u16::from_be_bytes(*port);
    match i32::from(u16::from_ne_bytes(*family)) {
        libc::AF_INET => {
            let octets = rest.first_chunk::<4>()?;
            Some(SocketAddr::from((Ipv4Addr::from(*octets), port)))
        }
        libc::AF_INET6 => {
            let (flow, rest) = rest.split_first_chunk::<4>()?;
            let (octets, rest) = rest.split_first_chunk::<16>()?;
            let scope = u32::from_ne_bytes(*rest.first_chunk::<4>()?);
            let flow = u32::from_be_bytes(*flow);
            Some(SocketAddrV6::new(Ipv6Addr::from(*octets), port, flow, scope).into())
        }
        _ => None,
    }
}

/// Reads the time stamp of a control message: its length, level and type, then a `timespec`.
fn stamp_of(control: &[u8]) -> Option<Duration> {
    let (_length, rest) = control.split_first_chunk::<{ size_of::<usize>() }>()?;
    let (level, rest) = rest.split_first_chunk::<4>()?;
    let (kind, rest) = rest.split_first_chunk::<4>()?;
    let stamp = (libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS);
    if (i32::from_ne_bytes(*level), i32::from_ne_bytes(*kind)) != stamp {
        return None;
    }
    let (seconds, rest) = rest.split_first_chunk::<{ size_of::<libc::time_t>() }>()?;
    let nanos = rest.first_chunk::<{ size_of::<libc::c_long>() }>()?;
    let seconds = u64::try_from(libc::time_t::from_ne_bytes(*seconds)).ok()?;
    let nanos = u32::try_from(libc::c_long::from_ne_bytes(*nanos)).ok()?;
    (nanos < 1_000_000_000).then(|| Duration::new(seconds, nanos))
}

/// Whether an ICMP message about a datagram before may have been the cause. Of a socket that keeps to a peer the system
/// reports all of them, each once, to whoever asks it for anything next.
fn is_report_of_peer(error: &io::Error) -> bool {
    /// Those that have no kind of their own, or one that says something else.
    const REPORTED: [libc::c_int; 7] = [
        libc::EMSGSIZE,
        libc::ENOPROTOOPT,
        libc::EOPNOTSUPP,
        libc::EHOSTDOWN,
        libc::ENONET,
        libc::EPROTO,
        libc::EACCES,
    ];
    let is_of_kind = matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
    );
    is_of_kind || error.raw_os_error().is_some_and(|code| REPORTED.contains(&code))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receive_soon(socket: &RtpSocket, buffer: &mut [u8]) -> Arrival {
        (0..10_000_000)
            .find_map(|_| socket.receive(buffer))
            .expect("a datagram over loopback arrives")
    }

    #[test]
    fn a_datagram_comes_with_its_source_and_time() {
        for host in ["127.91.10.1:0", "[::1]:0"] {
            let address: SocketAddr = host.parse().expect("address");
            // A machine without IPv6 has nothing to try here.
            let Ok(here) = RtpSocket::bind(address) else { continue };
            let there = RtpSocket::bind(address).expect("free");
            let mut buffer = [0; 8];
            assert_eq!(here.receive(&mut buffer), None);
            let before = crate::clock::wall_now().as_nanosecond();
            assert!(there.send(b"hello", here.local_address().expect("bound")));
            let arrival = receive_soon(&here, &mut buffer);
            let after = crate::clock::wall_now().as_nanosecond();
            assert_eq!(buffer.get(..arrival.length), Some(b"hello".as_slice()));
            assert_eq!(Ok(arrival.source), there.local_address().map_err(|_| ()));
            let stamp = arrival.stamp.expect("stamped").as_nanos().cast_signed();
            // The kernel's stamp may come from a coarser clock.
            assert!(before - 20_000_000 <= stamp && stamp <= after + 20_000_000);
        }
    }

    #[test]
    fn what_is_sent_has_its_traffic_class() {
        for host in ["127.91.10.1:0", "[::1]:0"] {
            let address: SocketAddr = host.parse().expect("address");
            let Ok(here) = RtpSocket::bind(address) else { continue };
            here.classify(address.ip(), 46);
            let peer = crate::net::mark::tests::Listening::at(address);
            assert!(here.send(b"hello", peer.local()));
            assert_eq!(peer.class(), 46);
        }
    }

    #[test]
    fn a_socket_that_keeps_to_a_peer_hears_nobody_else_until_it_is_opened_up() {
        for host in ["127.91.10.1:0", "[::1]:0"] {
            let address: SocketAddr = host.parse().expect("address");
            let Ok(any) = RtpSocket::bind(address) else { continue };
            let free = any.local_address().expect("bound");
            drop(any);
            let here = RtpSocket::bind(free).expect("it was free just now");
            let [peer, stranger] = [0, 1].map(|_| RtpSocket::bind(address).expect("free"));
            let at = |socket: &RtpSocket| socket.local_address().expect("bound");
            let mut buffer = [0; 8];
            let to = at(&here);
            for (kept_to, heard) in [(Some(at(&peer)), false), (None, true)] {
                assert!(here.keep_to(kept_to));
                assert_eq!(at(&here), to, "it stays where it is");
                // Refused by the system or not, sending goes on.
                assert!(stranger.send(b"one", to) && stranger.send(b"two", to));
                assert!(peer.send(b"hello", to));
                let sources: Vec<_> =
                    std::iter::from_fn(|| here.receive(&mut buffer)).map(|it| it.source).collect();
                assert!(sources.contains(&at(&peer)), "{sources:?}");
                assert_eq!(sources.contains(&at(&stranger)), heard, "{sources:?}");
                assert!(here.send(b"hello", at(&stranger)), "it is sent to all the same");
                assert_eq!(receive_soon(&stranger, &mut buffer).source, to);
            }
        }
    }

    #[test]
    fn a_longer_datagram_is_cut_to_the_buffer() {
        let address: SocketAddr = "127.91.10.1:0".parse().expect("address");
        let (here, there) =
            (RtpSocket::bind(address).expect("free"), RtpSocket::bind(address).expect("free"));
        assert!(there.send(&[7; 3_000], here.local_address().expect("bound")));
        let mut buffer = [0; 1_500];
        assert_eq!(receive_soon(&here, &mut buffer).length, 1_500);
        assert_eq!(buffer, [7; 1_500]);
    }

    #[test]
    fn media_have_room_for_a_second_and_reports_what_the_system_gives() {
        let address: SocketAddr = "127.91.10.1:0".parse().expect("address");
        let given = UdpSocket::bind(address).expect("free");
        let room = |socket: &UdpSocket| SockRef::from(socket).recv_buffer_size().expect("it says");
        let reports = RtpSocket::bind_for_reports(address, None).expect("free");
        assert_eq!(room(&reports.0), room(&given));
        let media = RtpSocket::bind(address).expect("free");
        assert!(room(&media.0) >= RECEIVE_BUFFER_BYTES, "{}", room(&media.0));
    }

    /// What the system does with datagrams that are too long for their way.
    fn handling(socket: &RtpSocket) -> libc::c_int {
        option(&socket.0, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER).expect("the system says")
    }

    #[test]
    fn media_go_whole_and_reports_as_the_system_sends_them() {
        let address: SocketAddr = "127.91.10.1:0".parse().expect("address");
        let media = RtpSocket::bind(address).expect("free");
        let given = RtpSocket(UdpSocket::bind(address).expect("free"));
        let whole = if given.learns_ways() { libc::IP_PMTUDISC_DO } else { handling(&given) };
        assert_eq!(handling(&media), whole);
        let reports = RtpSocket::bind_for_reports(address, None).expect("free");
        assert_eq!(handling(&reports), handling(&given));
    }

    /// Gives the calling thread a network of its own, where a datagram goes whole up to `bytes`. False where the
    /// system forbids it.
    fn enter_narrow_network(bytes: libc::c_int) -> bool {
        // SAFETY: it takes a number, and concerns the calling thread alone.
        if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
            return false;
        }
        let any = UdpSocket::bind("0.0.0.0:0").expect("free");
        // SAFETY: it is made of integers and a pointer, for which zero is a valid value.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        for (to, letter) in request.ifr_name.iter_mut().zip(*b"lo") {
            *to = letter as libc::c_char;
        }
        request.ifr_ifru.ifru_mtu = bytes;
        // SAFETY: the pointer is to a live request of the kind that is asked for, which the call only reads.
        let set = unsafe { libc::ioctl(any.as_raw_fd(), libc::SIOCSIFMTU, &raw const request) };
        request.ifr_ifru.ifru_flags = libc::IFF_UP as libc::c_short;
        // SAFETY: as above.
        let up = unsafe { libc::ioctl(any.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) };
        assert_eq!((set, up), (0, 0));
        true
    }

    #[test]
    fn what_is_too_long_for_its_way_goes_in_pieces() {
        let narrow = std::thread::spawn(|| {
            if !enter_narrow_network(600) {
                // A machine that lets nobody have such a way has nothing to try here.
                return;
            }
            let address: SocketAddr = "127.0.0.1:0".parse().expect("address");
            let [here, there] = [0, 1].map(|_| RtpSocket::bind(address).expect("free"));
            let to = here.local_address().expect("bound");
            let mut buffer = [0; 1_500];
            assert!(there.send(&[7; 500], to));
            assert_eq!(receive_soon(&here, &mut buffer).length, 500);
            assert_eq!(handling(&there), libc::IP_PMTUDISC_DO, "that went whole");
            for length in [1_400, 500, 1_292] {
                assert!(there.send(&vec![7; length], to));
                assert_eq!(receive_soon(&here, &mut buffer).length, length);
            }
            assert_eq!(handling(&there), libc::IP_PMTUDISC_WANT);
            assert_eq!(handling(&here), libc::IP_PMTUDISC_DO, "of another socket, another way");
        });
        narrow.join().expect("it goes well");
    }

    /// What a router says by ICMP (RFC 792) of a datagram from one port of 127.0.0.1 to another.
    fn report(kind: u8, code: u8, (from, to): (u16, u16)) -> Vec<u8> {
        let mut bytes = vec![kind, code, 0, 0, 0, 0];
        // So much the next way carries, where that is the trouble.
        bytes.extend_from_slice(&600_u16.to_be_bytes());
        bytes.extend_from_slice(&[0x45, 0, 0, 28, 0, 0, 0x40, 0, 64, 17, 0, 0]);
        bytes.extend_from_slice(&[127, 0, 0, 1, 127, 0, 0, 1]);
        for part in [from, to, 8, 0] {
            bytes.extend_from_slice(&part.to_be_bytes());
        }
        let words = bytes.as_chunks::<2>().0.iter().map(|word| u16::from_be_bytes(*word));
        let sum: u32 = words.map(u32::from).sum();
        let folded = (sum >> 16) + (sum & 0xffff);
        let check = !((folded + (folded >> 16)) as u16);
        bytes[2..4].copy_from_slice(&check.to_be_bytes());
        bytes
    }

    #[test]
    fn what_is_reported_of_a_datagram_before_keeps_no_other_from_being_read_or_sent() {
        let told = std::thread::spawn(|| {
            if !enter_narrow_network(600) {
                // A machine that lets nobody have such a network has nothing to try here.
                return;
            }
            let router = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4));
            let Ok(router) = router else { return };
            let address: SocketAddr = "127.0.0.1:0".parse().expect("address");
            let [here, there] = [0, 1].map(|_| RtpSocket::bind(address).expect("free"));
            let [own, peer] = [&here, &there].map(|socket| socket.local_address().expect("bound"));
            assert!(here.keep_to(Some(peer)));
            let mut buffer = [0; 100];
            // Its protocol, its port, its length, its host, twice, and its head.
            for (kind, code) in [(3, 2), (3, 3), (3, 4), (3, 7), (3, 8), (12, 0)] {
                let said = report(kind, code, (own.port(), peer.port()));
                let tell = || router.send_to(&said, &own.into()).expect("it is told");
                assert!(there.send(&[1], own));
                while here.0.peek(&mut buffer).is_err() {
                    std::thread::yield_now();
                }
                tell();
                let arrival = here.receive(&mut buffer).expect("it waits");
                assert_eq!(arrival.length, 1, "{kind} {code}");
                tell();
                assert!(here.send(&[2, 3], peer), "{kind} {code}");
                assert_eq!(receive_soon(&there, &mut buffer).length, 2);
            }
        });
        told.join().expect("it goes well");
    }

    #[test]
    fn where_nobody_tells_what_a_way_carries_nothing_has_to_go_whole() {
        let untold = std::thread::spawn(|| {
            // Of the network of this thread alone.
            let told_not_to_ask = "/proc/sys/net/ipv4/ip_no_pmtu_disc";
            if !enter_narrow_network(600) || std::fs::write(told_not_to_ask, "1").is_err() {
                // A machine that lets nobody have such a network has nothing to try here.
                return;
            }
            let address: SocketAddr = "127.0.0.1:0".parse().expect("address");
            let [here, there] = [0, 1].map(|_| RtpSocket::bind(address).expect("free"));
            let to = here.local_address().expect("bound");
            let mut buffer = [0; 1_500];
            for length in [500, 1_400] {
                assert_eq!(handling(&there), libc::IP_PMTUDISC_DONT);
                assert!(there.send(&vec![7; length], to));
                assert_eq!(receive_soon(&here, &mut buffer).length, length);
            }
        });
        untold.join().expect("it goes well");
    }

    #[test]
    fn odd_control_messages_have_no_stamp() {
        assert_eq!(stamp_of(&[]), None);
        for length in 0..64 {
            assert_eq!(stamp_of(&vec![0xff; length]), None);
        }
    }
}
