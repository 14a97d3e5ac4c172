//! `RtpSocket`: a UDP socket for media, read without waiting from a media thread.

use socket2::Domain;
use socket2::Protocol;
use socket2::Socket;
use socket2::Type;
use std::io;
use std::net::SocketAddr;
use std::net::UdpSocket;

/// Room for a second of packets, so that a late media thread loses none.
const RECEIVE_BUFFER_BYTES: usize = 128 * 1024;

/// DSCP "expedited forwarding" in the octet of the IP header (RFC 3246, RFC 4594 §4.1).
const EXPEDITED_FORWARDING: u32 = 0xb8;

/// A UDP socket for media. Never waits.
#[derive(Debug)]
pub struct RtpSocket(UdpSocket);

impl RtpSocket {
    /// Binds `address`.
    ///
    /// # Errors
    /// As the system says: the port is taken, no descriptor is left, the address is not ours.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        // Both only make things better; a system that refuses them still carries calls.
        let _refused = socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES);
        let _refused = match address {
            SocketAddr::V4(_) => socket.set_tos_v4(EXPEDITED_FORWARDING),
            SocketAddr::V6(_) => socket.set_tclass_v6(EXPEDITED_FORWARDING),
        };
        Ok(Self(socket.into()))
    }

    /// Reads one datagram; `None` when none is waiting. A longer one than `buffer` is cut.
    pub fn receive(&self, buffer: &mut [u8]) -> Option<(usize, SocketAddr)> {
        loop {
            match self.0.recv_from(buffer) {
                Ok(received) => return Some(received),
                // An ICMP error about something we sent: it says nothing about what waits here.
                Err(error) if is_report_of_peer(&error) => {}
                Err(_) => return None,
            }
        }
    }

    /// Sends one datagram; false when the system did not take it.
    pub fn send(&self, bytes: &[u8], to: SocketAddr) -> bool {
        self.0.send_to(bytes, to).is_ok()
    }

    /// The bound address.
    ///
    /// # Errors
    /// As the system says.
    pub fn local_address(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

fn is_report_of_peer(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
    )
}
