//! What a database whose host vanishes costs. A server that hangs is met by time-outs on what is asked; but where no
//! packet comes back at all, whoever waits for an answer without one waits as long as the kernel does: for ever, if all
//! that was asked had been acknowledged. The driver has no setting for that, so it is made on its sockets from outside.

use crate::types::limit::DATABASE_SILENCE_S_MAX;
use socket2::SockRef;
use socket2::TcpKeepalive;
use socket2::Type;
use std::fs;
use std::io;
use std::os::fd::BorrowedFd;
use std::os::fd::RawFd;
use std::time::Duration;

/// How often a connection that says nothing is asked whether it is still there.
const ASKED_EVERY: Duration = Duration::from_secs(5);

/// Bounds how long the peers of this process's TCP connections to `port` may be silent, where something is expected of
/// them: then the connection is cut, with an error for whoever waits. Blocks for as long as it takes to look at the
/// descriptors of the process.
pub(super) fn bound(port: u16) -> io::Result<()> {
    for entry in fs::read_dir("/proc/self/fd")? {
        let Some(number) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        bound_one(number, port)?;
    }
    Ok(())
}

#[expect(unsafe_code, reason = "the driver gives nobody its sockets")]
fn bound_one(number: RawFd, port: u16) -> io::Result<()> {
    // SAFETY: nothing is read, written or closed by it. Where its owner closed it meanwhile, the calls below fail or
    // meet another descriptor of this process: they change one that is a TCP connection to that port alone.
    let descriptor = unsafe { BorrowedFd::borrow_raw(number) };
    let socket = SockRef::from(&descriptor);
    let peer = socket.peer_addr().ok().and_then(|peer| peer.as_socket());
    if peer.is_none_or(|peer| peer.port() != port) || socket.r#type().ok() != Some(Type::STREAM) {
        return Ok(());
    }
    let silence = Duration::from_secs(DATABASE_SILENCE_S_MAX);
    let asked = TcpKeepalive::new().with_time(ASKED_EVERY).with_interval(ASKED_EVERY);
    socket.set_tcp_keepalive(&asked)?;
    socket.set_tcp_user_timeout(Some(silence))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::net::TcpStream;

    #[test]
    fn the_connections_to_that_port_alone_are_bounded() {
        let silence = |stream: &TcpStream| SockRef::from(stream).tcp_user_timeout().unwrap();
        let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let ports = listeners.each_ref().map(|listener| listener.local_addr().unwrap().port());
        let streams = ports.map(|port| TcpStream::connect(("127.0.0.1", port)).unwrap());
        bound(ports[0]).unwrap();
        assert_eq!(silence(&streams[0]), Some(Duration::from_secs(DATABASE_SILENCE_S_MAX)));
        assert!(SockRef::from(&streams[0]).keepalive().unwrap());
        assert_eq!(silence(&streams[1]), None);
        assert!(!SockRef::from(&streams[1]).keepalive().unwrap());
    }
}
