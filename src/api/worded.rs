//! `Worded`: a connection on which what hyper refuses by itself, before there is a request, is answered in the form of
//! every other refusal.

use crate::clock;
use crate::telemetry::metric;
use crate::telemetry::metric::Counter;
use serde_json::json;
use std::io;
use std::io::IoSlice;
use std::pin::Pin;
use std::task::Context;
use std::task::Poll;
use std::task::ready;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::io::ReadBuf;

/// How hyper begins what it says by itself, the code of ours for it, and what is wrong.
const BARE: [(&[u8], &str, &str); 3] = [
    (b"HTTP/1.1 400 ", "bad_request", "this is no request of HTTP/1.1"),
    (b"HTTP/1.1 414 ", "address_too_long", "the address is longer than it may be"),
    (
        b"HTTP/1.1 431 ",
        "headers_too_large",
        "the headers are more, or longer, than they may be: 64 of them, 64 KiB together",
    ),
];
/// What every answer of ours has, and none of hyper's own.
const OURS: &[u8] = b"x-request-id: ";

/// The codes of such answers.
pub(super) fn codes() -> impl Iterator<Item = &'static str> {
    BARE.into_iter().map(|(_, code, _)| code)
}

/// The code of such an answer with this status.
pub(super) fn code_of(status: u16) -> Option<&'static str> {
    let status = format!("HTTP/1.1 {status} ");
    let found = BARE.into_iter().find(|(start, ..)| *start == status.as_bytes());
    found.map(|(_, code, _)| code)
}

/// Passes everything through but such answers.
#[derive(Debug)]
pub(super) struct Worded<S> {
    stream: S,
    /// What is said instead and was not taken yet.
    instead: Vec<u8>,
}

impl<S> Worded<S> {
    pub(super) const fn new(stream: S) -> Self {
        Self { stream, instead: Vec::new() }
    }
}

/// What is said instead of `head`, where that is an answer of hyper's own. It is whole: the connection closes with it.
fn instead_of(head: &[u8]) -> Option<Vec<u8>> {
    let (start, code, message) = BARE.into_iter().find(|(start, ..)| head.starts_with(start))?;
    let is_ours = head.windows(OURS.len()).any(|part| part.eq_ignore_ascii_case(OURS));
    if is_ours || !head.ends_with(b"\r\n\r\n") {
        return None;
    }
    let id = clock::new_uuid().to_string();
    metric::labelled(Counter::ApiRequests, "4xx").increment(1);
    tracing::debug!(request_id = %id, code, "a request was refused before it was one");
    let body = json!({ "code": code, "message": message, "request_id": id }).to_string();
    let status = String::from_utf8_lossy(start.get(9..12).unwrap_or_default()).into_owned();
    let reason = match code {
        "bad_request" => "Bad Request",
        "address_too_long" => "URI Too Long",
        _ => "Request Header Fields Too Large",
    };
    let text = format!(
        "HTTP/1.1 {status} {reason}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\
         x-request-id: {id}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
    Some(text.into_bytes())
}

impl<S: AsyncWrite + Unpin> Worded<S> {
    /// Sends what is said instead.
    fn poll_instead(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.instead.is_empty() {
            let taken = ready!(Pin::new(&mut self.stream).poll_write(context, &self.instead))?;
            if taken == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.instead.drain(..taken);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Worded<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Worded<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_instead(context))?;
        if let Some(instead) = instead_of(bytes) {
            self.instead = instead;
            return Poll::Ready(Ok(bytes.len()));
        }
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_instead(context))?;
        // An answer without a body is one piece.
        if let [head] = pieces
            && let Some(instead) = instead_of(head)
        {
            self.instead = instead;
            return Poll::Ready(Ok(head.len()));
        }
        Pin::new(&mut self.stream).poll_write_vectored(context, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_instead(context))?;
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_instead(context))?;
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_hyper_says_by_itself_is_said_in_other_words() {
        let bare = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\n\r\n";
        let text = String::from_utf8(instead_of(bare).unwrap()).unwrap();
        assert!(text.starts_with("HTTP/1.1 431 Request Header Fields Too Large\r\n"), "{text}");
        assert!(text.contains("\"code\":\"headers_too_large\""), "{text}");
        for ours in [
            &b"HTTP/1.1 400 Bad Request\r\nX-Request-Id: 7\r\ncontent-length: 0\r\n\r\n"[..],
            b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
            b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 2\r\n\r\n{}",
            b"HTTP/1.1 400 ",
            b"",
        ] {
            assert_eq!(instead_of(ours), None);
        }
    }
}
