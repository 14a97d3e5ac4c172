//! Framing of streams: messages by their Content-Length, and keep-alive pings (RFC 3261 §18.3,
//! RFC 5626 §3.5.1).
#![warn(clippy::indexing_slicing)]

use crate::sip::message::error::Malformed;
use crate::sip::message::peek;
use crate::sip::message::peek::FirstLine;
use crate::sip::message::reply::BadRequest;
use crate::types::limit::SIP_MESSAGE_BYTES_MAX;
use bytes::Buf;
use bytes::Bytes;
use bytes::BytesMut;
use memchr::memchr_iter;
use std::net::SocketAddr;

/// What a stream carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// One whole message.
    Message(Bytes),
    /// A double CRLF between messages, to be answered with [`PONG`].
    Ping,
}

/// Asks the peer of a stream whether it lives (RFC 5626 §3.5.1).
pub const PING: &[u8] = b"\r\n\r\n";
/// The answer to a ping.
pub const PONG: &[u8] = b"\r\n";

/// The stream cannot be cut into messages any more and must be closed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("stream cannot be framed: {what}")]
pub struct FramingError {
    /// Why.
    pub what: Malformed,
    /// The head of the message at fault, as far as it came.
    pub head: Bytes,
}

impl FramingError {
    /// The status of [`FramingError::answer`], if there is one.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        BadRequest::of_head(self.head.clone(), self.what).map(|reply| reply.status())
    }

    /// What to send before closing, when enough of a request came: 400 or 513.
    #[must_use]
    pub fn answer(&self, source: SocketAddr) -> Option<Bytes> {
        BadRequest::of_head(self.head.clone(), self.what).map(|reply| reply.answer(source))
    }
}

/// Cuts one stream into messages. It holds at most one message and what was pushed last.
#[derive(Debug, Default)]
pub struct Framer {
    buffer: BytesMut,
    /// Bytes of the buffer already searched for the end of the head.
    searched: usize,
    /// Length of the message at the front, once its head is complete.
    message_len: Option<usize>,
    broken: bool,
}

impl Framer {
    /// A framer at the start of a stream.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes what was read from the stream; [`Framer::next`] is called until it has no more.
    pub fn push(&mut self, bytes: &[u8]) {
        if !self.broken {
            self.buffer.extend_from_slice(bytes);
        }
    }

    /// The next frame; `None` when more bytes are needed.
    ///
    /// # Errors
    /// Once, when the stream cannot be framed; after that there is never another frame.
    #[expect(clippy::should_implement_trait, reason = "a framer goes on after None")]
    pub fn next(&mut self) -> Result<Option<Frame>, FramingError> {
        if self.message_len.is_none() {
            if self.skip_line_ends() {
                return Ok(Some(Frame::Ping));
            }
            // A peer that speaks something else, TLS as a rule, is not waited for.
            if self.buffer.first().is_some_and(|&byte| never_first(byte)) {
                return Err(self.fail(Malformed::NotSip, self.buffer.len()));
            }
            let Some(head_len) = self.head_len() else {
                return self.refuse_when(self.buffer.len() > SIP_MESSAGE_BYTES_MAX);
            };
            self.message_len = Some(self.judge_head(head_len)?);
        }
        let whole = self.message_len.filter(|&len| len <= self.buffer.len());
        let Some(len) = whole else { return Ok(None) };
        self.message_len = None;
        self.searched = 0;
        Ok(Some(Frame::Message(self.buffer.split_to(len).freeze())))
    }

    /// True when part of a message is waiting for its rest. Line ends are no part of one.
    #[must_use]
    pub fn is_within_message(&self) -> bool {
        self.buffer.iter().any(|byte| !matches!(byte, b'\r' | b'\n'))
    }

    /// Takes line ends from the front; true when they were a ping.
    fn skip_line_ends(&mut self) -> bool {
        loop {
            match self.buffer.as_ref() {
                [b'\r', b'\n', b'\r', b'\n', ..] => {
                    self.buffer.advance(4);
                    self.searched = 0;
                    return true;
                }
                // Perhaps the beginning of a ping.
                [b'\r'] | [b'\r', b'\n'] | [b'\r', b'\n', b'\r'] => return false,
                [b'\r' | b'\n', ..] => self.buffer.advance(1),
                _ => return false,
            }
            self.searched = 0;
        }
    }

    /// The length of the head with its empty line, once that came.
    fn head_len(&mut self) -> Option<usize> {
        let unread = self.buffer.get(self.searched..)?;
        for found in memchr_iter(b'\n', unread) {
            let at = self.searched + found;
            match self.buffer.get(at + 1..)? {
                [b'\n', ..] => return Some(at + 2),
                [b'\r', b'\n', ..] => return Some(at + 3),
                [] | [b'\r'] => {
                    self.searched = at;
                    return None;
                }
                _ => {}
            }
        }
        self.searched = self.buffer.len();
        None
    }

    /// The length of the message whose head is complete.
    fn judge_head(&mut self, head_len: usize) -> Result<usize, FramingError> {
        let head = self.buffer.get(..head_len).unwrap_or(&[]);
        if peek::first_line(head) == FirstLine::Nothing {
            return Err(self.fail(Malformed::NotSip, head_len));
        }
        let length = match peek::content_length_of(head) {
            Ok(Some(length)) => length,
            Ok(None) => return Err(self.fail(Malformed::NoContentLength, head_len)),
            Err(what) => return Err(self.fail(what, head_len)),
        };
        let len = usize::try_from(length).ok().and_then(|length| length.checked_add(head_len));
        len.filter(|&len| len <= SIP_MESSAGE_BYTES_MAX)
            .ok_or_else(|| self.fail(Malformed::TooLong, head_len))
    }

    fn refuse_when(&mut self, too_long: bool) -> Result<Option<Frame>, FramingError> {
        if too_long { Err(self.fail(Malformed::TooLong, self.buffer.len())) } else { Ok(None) }
    }

    /// Breaks the stream; `head_len` bytes are kept for an answer.
    fn fail(&mut self, what: Malformed, head_len: usize) -> FramingError {
        self.broken = true;
        let head = self.buffer.split_to(head_len.min(self.buffer.len())).freeze();
        self.buffer = BytesMut::new();
        self.searched = 0;
        FramingError { what, head }
    }
}

/// The entry for fuzzing: however the stream is cut into reads, the same frames come out. The first
/// byte of `data` chooses the cut.
pub fn exercise(data: &[u8]) {
    let Some((&cut, stream)) = data.split_first() else { return };
    let whole = frames_of(stream, stream.len().max(1));
    let pieces = frames_of(stream, usize::from(cut).max(1));
    assert!(whole == pieces, "the cut changes the frames");
}

fn frames_of(stream: &[u8], read_bytes: usize) -> (Vec<Frame>, bool) {
    let mut framer = Framer::new();
    let mut frames = Vec::new();
    for read in stream.chunks(read_bytes) {
        framer.push(read);
        loop {
            match framer.next() {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(_) => return (frames, true),
            }
        }
    }
    (frames, false)
}

/// True for bytes with which neither a method nor a status line begins (RFC 3261 §25.1).
const fn never_first(byte: u8) -> bool {
    !(byte.is_ascii_graphic() || matches!(byte, b'\r' | b'\n'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    const HEAD: &str = "OPTIONS sip:a SIP/2.0\r\nVia: SIP/2.0/TCP h;branch=z9hG4bKx\r\nFrom: <sip:a@b>;\
        tag=1\r\nTo: <sip:a>\r\nCall-ID: c\r\nCSeq: 1 OPTIONS\r\n";

    fn message(body: &str) -> String {
        format!("{HEAD}Content-Length: {}\r\n\r\n{body}", body.len())
    }

    fn frames(framer: &mut Framer) -> Vec<Frame> {
        std::iter::from_fn(|| framer.next().unwrap()).collect()
    }

    fn source() -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, 5060))
    }

    #[test]
    fn messages_and_pings_are_cut_the_same_in_any_pieces() {
        let (one, two) = (message("abc\r\n\r\ndef"), message(""));
        let lf_only = two.replace("\r\n", "\n");
        let stream = format!("{one}\r\n\r\n{two}\r\n{one}\r\n\r\n\r\n\r\n{lf_only}");
        let expected = [
            Frame::Message(one.clone().into()),
            Frame::Ping,
            Frame::Message(two.into()),
            Frame::Message(one.into()),
            Frame::Ping,
            Frame::Ping,
            Frame::Message(lf_only.into()),
        ];
        for size in [1, 2, 3, 7, 100, stream.len()] {
            let mut framer = Framer::new();
            let mut got = Vec::new();
            for piece in stream.as_bytes().chunks(size) {
                framer.push(piece);
                got.extend(frames(&mut framer));
            }
            assert_eq!(got, expected, "pieces of {size}");
            assert!(!framer.is_within_message());
        }
    }

    #[test]
    fn a_stream_message_without_content_length_gets_400_and_close() {
        let mut framer = Framer::new();
        framer.push(format!("{HEAD}\r\n").as_bytes());
        let error = framer.next().unwrap_err();
        assert_eq!(error.what, Malformed::NoContentLength);
        let answer = error.answer(source()).unwrap();
        assert!(answer.starts_with(b"SIP/2.0 400 Missing Content-Length\r\n"));
        framer.push(message("").as_bytes());
        assert_eq!(framer.next(), Ok(None), "a broken stream stays broken");
    }

    #[test]
    fn a_stream_message_above_64_kb_gets_513_and_close() {
        for length in ["65535", "4294967295", "1180591620717411303424"] {
            let mut framer = Framer::new();
            framer.push(format!("{HEAD}Content-Length: {length}\r\n\r\n").as_bytes());
            let error = framer.next().unwrap_err();
            assert_eq!(error.what, Malformed::TooLong, "{length}");
            assert!(error.answer(source()).unwrap().starts_with(b"SIP/2.0 513 "));
        }
        let mut framer = Framer::new();
        framer.push(&vec![b'x'; SIP_MESSAGE_BYTES_MAX + 1]);
        assert_eq!(framer.next().map_err(|error| error.what), Err(Malformed::TooLong));
    }

    #[test]
    fn what_is_not_sip_breaks_the_stream_without_an_answer() {
        let mut framer = Framer::new();
        framer.push(b"\x16\x03\x01\x02\x00\n\n");
        let error = framer.next().unwrap_err();
        assert_eq!((error.what, error.answer(source())), (Malformed::NotSip, None));
        let mut framer = Framer::new();
        framer.push(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n");
        assert_eq!(framer.next().unwrap_err().answer(source()), None);
    }

    #[test]
    fn a_negative_content_length_breaks_the_stream() {
        let mut framer = Framer::new();
        framer.push(format!("{HEAD}l: -1\r\n\r\n").as_bytes());
        assert_eq!(framer.next().map_err(|error| error.what), Err(Malformed::ContentLength));
    }
}
