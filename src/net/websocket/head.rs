//! `ToHead`: a connection during its handshake, read up to the end of the answer's head and no further. What the agent
//! sent behind that is kept, so that the buffer of the handshake need not live on as that of the WebSocket.

use std::io;
use std::pin::Pin;
use std::task::Context;
use std::task::Poll;
use std::task::ready;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::io::ReadBuf;

/// A connection, each read of which ends where the head of an HTTP message may: behind an empty line.
#[derive(Debug)]
pub(super) struct ToHead<S> {
    stream: S,
    line: Line,
    /// Read, and not given yet.
    beyond: Vec<u8>,
}

/// Where in a line the last byte was. Lines end with LF, before which a CR may stand (RFC 9112 §2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Line {
    Within,
    Begun,
    /// Nothing but a CR is in it.
    Return,
}

impl Line {
    const fn then(self, byte: u8) -> Self {
        match (self, byte) {
            (Self::Within | Self::Begun | Self::Return, b'\n') => Self::Begun,
            (Self::Begun, b'\r') => Self::Return,
            (Self::Within | Self::Begun | Self::Return, _) => Self::Within,
        }
    }

    /// Bytes up to the end of the first empty line in `bytes`, where it is among them.
    fn end_in(&mut self, bytes: &[u8]) -> Option<usize> {
        (1..).zip(bytes).find_map(|(count, byte)| {
            let is_empty = *byte == b'\n' && *self != Self::Within;
            *self = self.then(*byte);
            is_empty.then_some(count)
        })
    }
}

impl<S> ToHead<S> {
    pub(super) const fn new(stream: S) -> Self {
        Self { stream, line: Line::Within, beyond: Vec::new() }
    }

    /// The connection, and what came behind the head.
    pub(super) fn into_parts(self) -> (S, Vec<u8>) {
        (self.stream, self.beyond)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for ToHead<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        if this.beyond.is_empty() {
            ready!(Pin::new(&mut this.stream).poll_read(cx, buf))?;
        } else {
            // The head is longer than it seemed: an empty line before it is none of it.
            let count = this.beyond.len().min(buf.remaining());
            let later = this.beyond.split_off(count);
            buf.put_slice(&this.beyond);
            this.beyond = later;
        }
        let come = buf.filled().get(before..).unwrap_or_default();
        if let Some(end) = this.line.end_in(come) {
            let later = come.get(end..).unwrap_or_default();
            this.beyond.splice(..0, later.iter().copied());
            buf.set_filled(before + end);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for ToHead<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt;

    /// What each read gives, into room for so many bytes, of what comes at once.
    async fn reads(bytes: &[u8], room: usize) -> Vec<Vec<u8>> {
        let (mut stream, mut buffer) = (ToHead::new(bytes), vec![0; room]);
        let mut all = Vec::new();
        loop {
            let count = stream.read(&mut buffer).await.expect("it is all there");
            if count == 0 {
                return all;
            }
            all.push(buffer[..count].to_vec());
        }
    }

    #[tokio::test]
    async fn a_read_ends_behind_the_head_and_what_comes_then_is_kept() {
        for head in ["HTTP/1.1 101 Yes\r\nA: b\r\n\r\n", "HTTP/1.1 101 Yes\nA: b\n\n", "a\n\r\n"] {
            let mut stream = [head.as_bytes(), b"\x81\x01a\r\n\r\nb"].concat();
            let mut to_head = ToHead::new(stream.as_slice());
            let mut buffer = [0; 100];
            let count = to_head.read(&mut buffer).await.expect("it is all there");
            assert_eq!(&buffer[..count], head.as_bytes());
            let (rest, beyond) = to_head.into_parts();
            assert_eq!((rest, beyond), (&b""[..], b"\x81\x01a\r\n\r\nb".to_vec()));
            // Nothing is kept of what has not come yet.
            stream.truncate(head.len());
            let mut to_head = ToHead::new(stream.as_slice());
            assert_eq!(to_head.read(&mut buffer).await.expect("it is there"), head.len());
            assert_eq!(to_head.into_parts().1, b"");
        }
    }

    #[tokio::test]
    async fn whoever_reads_on_gets_every_byte_in_its_order_in_whatever_pieces() {
        let bytes = b"\r\n\r\nHTTP/1.1 101 Yes\r\nA: \r\n b\r\r\n\r\n\x81\n\n\nend";
        assert_eq!(reads(bytes, 100).await.concat(), bytes);
        assert_eq!(reads(bytes, 100).await[0], b"\r\n\r\n");
        for room in 1..bytes.len() {
            assert_eq!(reads(bytes, room).await.concat(), bytes, "{room}");
        }
    }
}
