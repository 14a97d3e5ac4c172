//! A short message on its way to an agent, made a frame where it is written down, past the library, which would have it as
//! a message of its own, copy that into a frame of its own and that into its buffer. The room for it is a thread's, and so is
//! mostly at hand; what a connection has of its own mostly is not.

use crate::clock;
use crate::net::websocket::short::LENGTH_IN_TWO;
use crate::net::websocket::short::TINY_BYTES_MAX;
use bytes::BufMut;
use std::cell::RefCell;
use tokio_tungstenite::tungstenite::protocol::Role;

/// The longest message that is written past the library, in bytes: so much a thread keeps room for, and a connection may
/// have to keep.
pub const FRAMED_BYTES_MAX: usize = 8_192;

/// Bytes of the longest head: of a frame that is masked, with its length in eight bytes (RFC 6455 §5.2).
const HEAD_BYTES_MAX: usize = 14;

/// Bytes of a masking key.
const KEY_BYTES: usize = 4;

/// Stands for a length in the next eight bytes.
const LENGTH_IN_EIGHT: u8 = 127;

/// The bit beside the length of a frame that is masked.
const MASKED: u8 = 0x80;

/// What a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// UTF-8.
    Text,
    /// Anything.
    Binary,
}

impl Kind {
    /// With what a frame begins that is a whole message (RFC 6455 §5.2).
    const fn first_byte(self) -> u8 {
        match self {
            Self::Text => 0x81,
            Self::Binary => 0x82,
        }
    }
}

/// Has `fill` append a message to the room of this thread, and gives it to `write` as one frame: masked where we are the
/// client (RFC 6455 §5.3). `None` where `fill` says that there is no message.
pub(super) fn framed<T>(
    (kind, role): (Kind, Role),
    fill: impl FnOnce(&mut Vec<u8>) -> bool,
    write: impl FnOnce(&[u8]) -> T,
) -> Option<T> {
    thread_local! {
        static ROOM: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    }
    ROOM.with_borrow_mut(|room| {
        room.clear();
        room.resize(HEAD_BYTES_MAX, 0);
        if !fill(room) {
            return None;
        }
        let key = (role == Role::Client).then(new_key);
        frame(room, kind, key).map(write)
    })
}

/// One that nobody can foretell (RFC 6455 §10.3).
fn new_key() -> [u8; KEY_BYTES] {
    let [key @ .., _, _, _, _] = clock::random_u64().to_ne_bytes();
    key
}

/// The frame of the message behind the room for its head.
fn frame(room: &mut [u8], kind: Kind, key: Option<[u8; KEY_BYTES]>) -> Option<&[u8]> {
    let (head, message) = room.split_first_chunk_mut::<HEAD_BYTES_MAX>()?;
    let begin = HEAD_BYTES_MAX.checked_sub(head_bytes(message.len(), key.is_some()))?;
    put_head(head.get_mut(begin..)?, kind.first_byte(), message.len(), key);
    if let Some(key) = key {
        mask(message, key);
    }
    room.get(begin..)
}

/// Bytes of the head of a message of `length` bytes.
const fn head_bytes(length: usize, is_masked: bool) -> usize {
    const SHORT_BYTES_MAX: usize = u16::MAX as usize;
    let of_length = if length <= TINY_BYTES_MAX {
        0
    } else if length <= SHORT_BYTES_MAX {
        2
    } else {
        8
    };
    2 + of_length + if is_masked { KEY_BYTES } else { 0 }
}

/// Fills `head`, which has [`head_bytes`].
fn put_head(mut head: &mut [u8], first: u8, length: usize, key: Option<[u8; KEY_BYTES]>) {
    let masked = if key.is_some() { MASKED } else { 0 };
    head.put_u8(first);
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(tiny), _) if length <= TINY_BYTES_MAX => head.put_u8(masked | tiny),
        (_, Ok(short)) => {
            head.put_u8(masked | LENGTH_IN_TWO);
            head.put_u16(short);
        }
        (_, Err(_)) => {
            head.put_u8(masked | LENGTH_IN_EIGHT);
            head.put_u64(length as u64);
        }
    }
    if let Some(key) = key {
        head.put_slice(&key);
    }
}

/// RFC 6455 §5.3. Four bytes at once, of which the compiler takes as many as the machine can.
fn mask(message: &mut [u8], key: [u8; KEY_BYTES]) {
    let (words, rest) = message.as_chunks_mut::<KEY_BYTES>();
    for word in words {
        *word = (u32::from_ne_bytes(*word) ^ u32::from_ne_bytes(key)).to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(key) {
        *byte ^= key;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::metered::Metered;
    use crate::net::websocket::config;
    use crate::net::websocket::write_past;
    use futures_util::Sink;
    use futures_util::Stream;
    use std::collections::HashSet;
    use std::future::poll_fn;
    use std::io;
    use std::io::Cursor;
    use std::pin::Pin;
    use std::task::Context;
    use std::task::Poll;
    use tokio::io::AsyncRead;
    use tokio::io::AsyncWrite;
    use tokio::io::ReadBuf;
    use tokio_tungstenite::WebSocketStream;
    use tokio_tungstenite::tungstenite;
    use tokio_tungstenite::tungstenite::Message;

    fn made(kind: Kind, role: Role, message: &[u8]) -> Vec<u8> {
        let fill = |room: &mut Vec<u8>| {
            room.extend_from_slice(message);
            true
        };
        framed((kind, role), fill, <[u8]>::to_vec).expect("there is one")
    }

    /// What the other side reads in `bytes`, by the library.
    fn read(bytes: &[u8], sent_by: Role) -> Vec<Message> {
        let reader = match sent_by {
            Role::Client => Role::Server,
            Role::Server => Role::Client,
        };
        let all = Cursor::new(bytes.to_vec());
        let mut socket = tungstenite::WebSocket::from_raw_socket(all, reader, None);
        let mut messages = Vec::new();
        loop {
            match socket.read() {
                Ok(message) => messages.push(message),
                Err(tungstenite::Error::Protocol(
                    tungstenite::error::ProtocolError::ResetWithoutClosingHandshake,
                )) => return messages,
                Err(error) => panic!("{error} behind {} messages", messages.len()),
            }
        }
    }

    #[test]
    fn a_frame_is_what_the_standard_says_and_the_library_reads() {
        let heads: [(usize, &[u8]); 7] = [
            (0, &[0]),
            (1, &[1]),
            (125, &[125]),
            (126, &[126, 0, 126]),
            (300, &[126, 1, 44]),
            (65_535, &[126, 0xff, 0xff]),
            (65_536, &[127, 0, 0, 0, 0, 0, 1, 0, 0]),
        ];
        for (length, of_length) in heads {
            let message: Vec<u8> = (0..length).map(|n| b'a' + (n % 23) as u8).collect();
            let text = String::from_utf8(message.clone()).unwrap();
            for (kind, first, same) in [
                (Kind::Text, 0x81, Message::text(text)),
                (Kind::Binary, 0x82, Message::binary(message.clone())),
            ] {
                let plain = made(kind, Role::Server, &message);
                assert_eq!(plain, [&[first][..], of_length, &message[..]].concat());
                assert_eq!(read(&plain, Role::Server), std::slice::from_ref(&same));
                let masked = made(kind, Role::Client, &message);
                let (head, rest) = masked.split_at(1 + of_length.len());
                let (key, rest) = rest.split_at(4);
                assert_eq!(head[0], first);
                assert_eq!(head[1], of_length[0] | 0x80);
                assert_eq!(head[2..], of_length[1..]);
                let clear: Vec<u8> =
                    rest.iter().zip(key.iter().cycle()).map(|(a, b)| a ^ b).collect();
                assert_eq!(clear, message);
                assert_eq!(read(&masked, Role::Client), [same]);
            }
        }
    }

    #[test]
    fn each_frame_has_a_key_of_its_own_in_the_same_room() {
        let frame = || {
            let fill = |room: &mut Vec<u8>| {
                room.extend_from_slice(&[0; 8]);
                true
            };
            let look = |frame: &[u8]| (frame.as_ptr().addr(), frame[2..6].to_vec());
            framed((Kind::Text, Role::Client), fill, look).expect("there is one")
        };
        let (rooms, keys): (HashSet<_>, HashSet<_>) = (0..16).map(|_| frame()).unzip();
        assert_eq!(keys.len(), 16, "one twice is as likely as 1 in 30 million");
        assert_eq!(rooms.len(), 1);
    }

    #[test]
    fn where_there_is_no_message_there_is_no_frame() {
        let written = framed((Kind::Text, Role::Client), |_| false, <[u8]>::to_vec);
        assert_eq!(written, None);
    }

    /// A network that takes so many bytes, then none once, and so on; and what comes over it.
    struct Trickle {
        at_once: usize,
        is_full: bool,
        taken: Vec<u8>,
        comes: Vec<u8>,
    }

    impl AsyncWrite for Trickle {
        fn poll_write(
            self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            let this = self.get_mut();
            this.is_full = !this.is_full;
            if !this.is_full {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            let count = bytes.len().min(this.at_once);
            this.taken.extend_from_slice(&bytes[..count]);
            Poll::Ready(Ok(count))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    impl AsyncRead for Trickle {
        fn poll_read(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            buf: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            let this = self.get_mut();
            if this.comes.is_empty() {
                return Poll::Pending;
            }
            buf.put_slice(&std::mem::take(&mut this.comes));
            Poll::Ready(Ok(()))
        }
    }

    /// What is sent in which a ping is answered while a part of a frame waits that went past the library.
    async fn sent_with_a_pong(role: Role, at_once: usize, texts: &[String; 3]) -> Vec<u8> {
        let comes = match role {
            Role::Client => vec![0x89, 1, b'p'],
            Role::Server => vec![0x89, 0x81, 0, 0, 0, 0, b'p'],
        };
        let network = Trickle { at_once, is_full: false, taken: Vec::new(), comes };
        let network = Metered::new(network);
        let mut socket = WebSocketStream::from_raw_socket(network, role, Some(config(512))).await;
        let past = |socket: &mut WebSocketStream<Metered<Trickle>>, text: &str| {
            let fill = |room: &mut Vec<u8>| {
                room.extend_from_slice(text.as_bytes());
                true
            };
            write_past(socket.get_mut(), (Kind::Text, role), fill).expect("there is one")
        };
        let frame_bytes = made(Kind::Text, role, texts[0].as_bytes()).len();
        assert_eq!(past(&mut socket, &texts[0]), at_once >= frame_bytes);
        let mut next =
            async || poll_fn(|cx| Poll::Ready(Pin::new(&mut socket).poll_next(cx))).await;
        let Poll::Ready(Some(Ok(Message::Ping(_)))) = next().await else { panic!("no ping") };
        // The library answers it, and waits for more.
        assert!(next().await.is_pending());
        Pin::new(&mut socket).start_send(Message::text(texts[1].as_str())).expect("it is kept");
        poll_fn(|cx| Pin::new(&mut socket).poll_flush(cx)).await.expect("it is taken in time");
        assert!(!past(&mut socket, &texts[2]), "it takes nothing just now");
        poll_fn(|cx| socket.get_mut().poll_rest(cx)).await.expect("it is taken in time");
        socket.get_ref().stream().taken.clone()
    }

    #[tokio::test]
    async fn nothing_is_lost_doubled_or_cut_into_by_a_pong_however_little_the_network_takes() {
        for role in [Role::Client, Role::Server] {
            for length in [0, 1, 140] {
                let texts = [1, 2, 3].map(|number| format!("{number}{}", "x".repeat(length)));
                for at_once in 1..length + 12 {
                    let bytes = sent_with_a_pong(role, at_once, &texts).await;
                    let [one, two, three] = texts.clone().map(Message::text);
                    let pong = Message::Pong("p".into());
                    assert_eq!(read(&bytes, role), [one, pong, two, three], "{at_once} at once");
                }
            }
        }
    }
}
