//! Where a telephone takes RTP: every datagram that is read is held against the rules of `stream_rules`, and one that
//! breaks them fails the test that reads it.

#[path = "agreed.rs"]
pub mod agreed;
#[path = "stream_rules.rs"]
pub mod stream_rules;

use agreed::Side;
use nix::cmsg_space;
use nix::sys::socket::ControlMessageOwned;
use nix::sys::socket::MsgFlags;
use nix::sys::socket::SockaddrStorage;
use nix::sys::socket::recvmsg;
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::RxqOvfl;
use std::io;
use std::io::ErrorKind;
use std::io::IoSliceMut;
use std::net::SocketAddr;
use std::ops::Deref;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use stream_rules::Streams;
use tokio::io::Interest;
use tokio::net::UdpSocket;

/// A datagram that was read.
#[derive(Clone, Copy, Debug)]
pub struct Datagram {
    pub length: usize,
    pub from: SocketAddr,
    /// Its type of service, where the socket was asked to tell it.
    pub service: Option<u8>,
    /// Datagrams that the socket had dropped, in all, for want of room when this one came.
    dropped: u32,
}

/// A socket for RTP of the switch. Whatever else it is used for, it is as the socket itself.
#[derive(Debug)]
pub struct Media {
    socket: UdpSocket,
    streams: Arc<Mutex<Streams>>,
}

/// The same for a thread of its own. While there is one, nobody should read from the other.
#[derive(Debug)]
pub struct ThreadMedia {
    socket: std::net::UdpSocket,
    streams: Arc<Mutex<Streams>>,
}

impl Media {
    /// Checks what comes to this socket, of which nothing was read yet.
    ///
    /// # Panics
    ///
    /// When the system does not count what a socket drops.
    #[must_use]
    pub fn new(socket: UdpSocket) -> Self {
        Self::with(socket, Arc::default())
    }

    fn with(socket: UdpSocket, streams: Arc<Mutex<Streams>>) -> Self {
        setsockopt(&socket, RxqOvfl, &1).unwrap();
        Self { socket, streams }
    }

    /// Checks what comes here as what goes on from there: a description says that media comes here now. What waits there
    /// is checked first; what still comes there is missed.
    ///
    /// # Panics
    ///
    /// When the switch should not have sent so what waits there.
    #[must_use]
    pub fn instead_of(socket: UdpSocket, before: &Self) -> Self {
        check_rest(&before.socket, &before.streams);
        let streams = Arc::clone(&before.streams);
        streams.lock().unwrap_or_else(PoisonError::into_inner).moved();
        Self::with(socket, streams)
    }

    /// What comes here, for a thread that reads without a runtime.
    ///
    /// # Panics
    ///
    /// When the system gives no other handle of the socket.
    #[must_use]
    pub fn for_thread(&self) -> ThreadMedia {
        let socket: std::net::UdpSocket =
            socket2::SockRef::from(&self.socket).try_clone().unwrap().into();
        socket.set_nonblocking(false).unwrap();
        ThreadMedia { socket, streams: Arc::clone(&self.streams) }
    }

    /// Takes a message of the telephone or the switch: what was agreed follows from them.
    pub fn signalled(&self, side: Side, message: &str) {
        let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        streams.signalled(side, message);
    }

    /// Somebody else was sent the next stream before: its first packet here need not be marked.
    pub fn allow_joining(&self) {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner).allow_joining();
    }

    /// The network of this test loses packets.
    pub fn allow_loss(&self) {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner).allow_loss();
    }

    /// The next datagram.
    ///
    /// # Errors
    ///
    /// As of the socket.
    ///
    /// # Panics
    ///
    /// When the switch should not have sent it so.
    pub async fn receive(&self, buffer: &mut [u8]) -> io::Result<Datagram> {
        let read = || read(&self.socket, buffer, MsgFlags::empty());
        let datagram = self.socket.async_io(Interest::READABLE, read).await?;
        hold(&self.streams, &datagram, buffer);
        Ok(datagram)
    }

    /// The next datagram, and where it came from.
    ///
    /// # Errors
    ///
    /// As of the socket.
    pub async fn recv_from(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        let datagram = self.receive(buffer).await?;
        Ok((datagram.length, datagram.from))
    }

    /// The next datagram.
    ///
    /// # Errors
    ///
    /// As of the socket.
    pub async fn recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(self.receive(buffer).await?.length)
    }

    /// The next datagram, if there is one.
    ///
    /// # Errors
    ///
    /// As of the socket.
    pub fn try_recv_from(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        let read = || read(&self.socket, buffer, MsgFlags::empty());
        let datagram = self.socket.try_io(Interest::READABLE, read)?;
        hold(&self.streams, &datagram, buffer);
        Ok((datagram.length, datagram.from))
    }
}

impl Drop for Media {
    /// Checks what nobody has read: who does not listen is to be sent what is right all the same. Where a thread has it
    /// too, or what goes on does so at another socket, whoever is last does that.
    fn drop(&mut self) {
        if !std::thread::panicking() && Arc::strong_count(&self.streams) == 1 {
            check_rest(&self.socket, &self.streams);
        }
    }
}

impl Deref for Media {
    type Target = UdpSocket;

    fn deref(&self) -> &UdpSocket {
        &self.socket
    }
}

impl ThreadMedia {
    /// The next datagram, and where it came from.
    ///
    /// # Errors
    ///
    /// As of the socket.
    ///
    /// # Panics
    ///
    /// When the switch should not have sent it so.
    pub fn recv_from(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        let datagram = read(&self.socket, buffer, MsgFlags::empty())?;
        hold(&self.streams, &datagram, buffer);
        Ok((datagram.length, datagram.from))
    }

    /// The next datagram.
    ///
    /// # Errors
    ///
    /// As of the socket.
    pub fn recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(self.recv_from(buffer)?.0)
    }
}

impl Drop for ThreadMedia {
    /// As for [`Media`]: the thread that fails so is to be joined.
    fn drop(&mut self) {
        if !std::thread::panicking() && Arc::strong_count(&self.streams) == 1 {
            check_rest(&self.socket, &self.streams);
        }
    }
}

impl Deref for ThreadMedia {
    type Target = std::net::UdpSocket;

    fn deref(&self) -> &std::net::UdpSocket {
        &self.socket
    }
}

/// Checks what waits to be read.
fn check_rest(socket: &impl AsRawFd, streams: &Mutex<Streams>) {
    streams.lock().unwrap_or_else(PoisonError::into_inner).read_late();
    let mut buffer = [0; 2_048];
    while let Ok(datagram) = read(socket, &mut buffer, MsgFlags::MSG_DONTWAIT) {
        hold(streams, &datagram, &buffer);
    }
}

fn hold(streams: &Mutex<Streams>, datagram: &Datagram, buffer: &[u8]) {
    let bytes = buffer.get(..datagram.length).unwrap_or(buffer);
    let verdict = {
        let mut streams = streams.lock().unwrap_or_else(PoisonError::into_inner);
        streams.check(datagram.from, bytes, datagram.dropped)
    };
    if let Err(wrong) = verdict {
        panic!("{wrong}");
    }
}

fn read(socket: &impl AsRawFd, buffer: &mut [u8], flags: MsgFlags) -> io::Result<Datagram> {
    let mut control = cmsg_space!(u32, u8);
    let mut parts = [IoSliceMut::new(buffer)];
    let fd = socket.as_raw_fd();
    let message = recvmsg::<SockaddrStorage>(fd, &mut parts, Some(&mut control), flags)?;
    let from = message.address.and_then(|address| {
        let four = address.as_sockaddr_in().map(|four| SocketAddr::V4((*four).into()));
        four.or_else(|| address.as_sockaddr_in6().map(|six| SocketAddr::V6((*six).into())))
    });
    let mut datagram = Datagram {
        length: message.bytes,
        from: from.ok_or(ErrorKind::InvalidData)?,
        service: None,
        dropped: 0,
    };
    for control in message.cmsgs()? {
        match control {
            ControlMessageOwned::RxqOvfl(dropped) => datagram.dropped = dropped,
            ControlMessageOwned::Ipv4Tos(service) => datagram.service = Some(service),
            _ => {}
        }
    }
    Ok(datagram)
}

#[cfg(test)]
#[path = "media_tests.rs"]
mod tests;
