//! The connection of an agent's task: how it is dialled, written to, read from and closed.

mod dialling;
mod writing;

use crate::agent::session::PeerClose;
use crate::net::websocket;
use crate::net::websocket::CameWebSocket;
use crate::net::websocket::Dialled;
use crate::net::websocket::SecureWebSocket;
use crate::net::websocket::WebSocket;
use crate::telemetry::metric;
use crate::telemetry::metric::Gauge;
use bytes::Buf;
use bytes::BytesMut;
use futures_util::Sink;
use futures_util::SinkExt;
use futures_util::Stream;
use futures_util::StreamExt;
use std::io;
use std::pin::Pin;
use std::task::Context;
use std::task::Poll;
use std::task::ready;
use std::time::Duration;
use tokio::io::AsyncRead;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWrite;
use tokio::io::AsyncWriteExt;
use tokio::io::ReadBuf;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

pub(super) use crate::engine::agent_task::connection::dialling::Dial;
pub(super) use crate::engine::agent_task::connection::dialling::Dialling;

/// How long a polite end of a connection may take once nobody needs it any more.
const CLOSE_WAIT: Duration = Duration::from_secs(2);

/// The word for a connection that ended without a goodbye.
const RESET: &str = "reset";

/// Bytes read at once from a connection without messages.
const READ_BYTES: usize = 4_096;

/// A message beyond so many bytes is a long one.
const LONG_BYTES: usize = 64 * 1_024;

/// Bytes of messages behind a long one after which the WebSocket reads into another buffer, with some to spare: what fits
/// behind it is as much as had come of it when its length was read.
const AFTER_LONG_BYTES: usize = 8_192;

/// After so many messages in a row that came alone the next is looked for as one: what is not is copied once more.
const ALONE_MIN: u8 = 8;

/// What a connection has to say.
pub(super) enum Heard {
    /// A message came.
    Message(Message),
    /// A short text came, which was given already.
    Given,
    /// It ended, for which this word stands where there is one.
    Ended(PeerClose, Option<&'static str>),
    /// The network takes no more.
    Blocked,
    /// It takes more again.
    Ready,
    /// Nothing is read of it until the node has room for what it says, or something is again.
    Waits,
}

/// An open connection.
pub(super) struct Connection {
    wire: Wire,
    /// Something that was written may wait to be taken by the network. Else the WebSocket holds nothing to be written.
    dirty: bool,
    /// The protocol may have an answer of its own among it, or a write failed.
    answers: bool,
    blocked: bool,
    /// The agent said its goodbye: the protocol answers it, behind which nothing goes (RFC 6455 §5.5.1).
    left: bool,
    /// A message was read, all of which is played or queued by the time the next is wanted.
    heard: bool,
    /// All that had come was read, but for the beginning of a message.
    drained: bool,
    /// Nothing is read until the node has room.
    waits: bool,
    /// So many messages in a row came alone and were short; the WebSocket holds nothing while this is not 0.
    alone: u8,
    /// A long message, and how much more is to be read before it is let go. tungstenite reads on where nobody keeps what it
    /// gave, so that the room of its longest message would be a connection's for good.
    long: Option<(Message, usize)>,
    _counted: Counted,
}

/// What it runs over.
#[expect(
    clippy::large_enum_variant,
    reason = "a connection is held by pointer, and most are the large one"
)]
enum Wire {
    WebSocket(WebSocket),
    /// The same over TLS.
    Secure(Box<SecureWebSocket>),
    /// The same, of an agent that dialled us.
    Came(Box<CameWebSocket>),
    /// With what is to be written, and where is read.
    Tcp(TcpStream, BytesMut, BytesMut),
}

/// An agent that is connected, as the metrics count it.
struct Counted;

impl Counted {
    fn new() -> Self {
        metric::gauge(Gauge::AgentsConnected).increment(1.0);
        Self
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        metric::gauge(Gauge::AgentsConnected).decrement(1.0);
    }
}

impl From<Dialled> for Wire {
    fn from(dialled: Dialled) -> Self {
        match dialled {
            Dialled::Plain(stream) => Self::WebSocket(stream),
            Dialled::Secure(stream) => Self::Secure(stream),
        }
    }
}

impl Connection {
    fn new(wire: Wire) -> Self {
        Self {
            wire,
            dirty: false,
            answers: false,
            blocked: false,
            left: false,
            heard: false,
            drained: false,
            waits: false,
            alone: 0,
            long: None,
            _counted: Counted::new(),
        }
    }

    /// Writes what waits and, unless the playout queue is `full`, reads one message. A text may be given to `hear`.
    pub(super) fn poll(
        &mut self,
        full: bool,
        cx: &mut Context<'_>,
        hear: impl FnOnce(&str),
    ) -> Poll<Heard> {
        if self.dirty {
            let written =
                if self.answers { self.wire.poll_flush(cx) } else { self.wire.poll_written(cx) };
            match written {
                Poll::Ready(Ok(())) => {
                    (self.dirty, self.answers) = (false, false);
                    if std::mem::take(&mut self.blocked) {
                        return Poll::Ready(Heard::Ready);
                    }
                }
                Poll::Ready(Err((close, word))) => {
                    return Poll::Ready(Heard::Ended(close, Some(word)));
                }
                Poll::Pending if !self.blocked => {
                    self.blocked = true;
                    return Poll::Ready(Heard::Blocked);
                }
                Poll::Pending => {}
            }
        }
        if full {
            return Poll::Pending;
        }
        if std::mem::take(&mut self.heard) {
            self.wire.done();
        }
        // Woken for a frame of the caller's, it mostly has nothing to read.
        if self.alone >= ALONE_MIN && self.long.is_none() {
            if ready!(self.wire.poll_alone(cx, hear)) {
                return Poll::Ready(Heard::Given);
            }
            self.alone = 0;
        } else if self.drained {
            ready!(self.wire.poll_readable(cx));
        }
        let next = self.wire.poll_next(cx);
        self.drained = next.is_pending() && !self.wire.pays();
        let waits = self.wire.waits();
        if std::mem::replace(&mut self.waits, waits) != waits && next.is_pending() {
            return Poll::Ready(Heard::Waits);
        }
        let heard = ready!(next);
        if let Heard::Message(message) = &heard {
            let was_alone = self.wire.was_alone(message);
            self.heard |= self.wire.came_out(message);
            self.drained = was_alone;
            self.alone = if was_alone { self.alone.saturating_add(1) } else { 0 };
            self.keep_long(message);
            // The protocol may have an answer of its own to flush.
            let answers = message.is_ping() || message.is_close();
            self.dirty |= answers;
            self.answers |= answers;
            self.left |= message.is_close();
        }
        Poll::Ready(heard)
    }

    /// Whether nothing is read until the node has room for it.
    pub(super) const fn waits(&self) -> bool {
        self.waits
    }

    /// Keeps a long message until another buffer is read into.
    fn keep_long(&mut self, message: &Message) {
        let length = message.len();
        if length > LONG_BYTES {
            self.long = Some((message.clone(), AFTER_LONG_BYTES));
        } else if let Some((_, left)) = &mut self.long {
            *left = left.saturating_sub(length);
            if *left == 0 {
                self.long = None;
            }
        }
    }

    /// Closes politely, within a limit: what was sent is flushed, the end is said, and the agent may
    /// answer it.
    pub(super) async fn close(self) {
        match timeout(CLOSE_WAIT, self.wire.farewell()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::trace!(%error, "the agent's connection did not close cleanly");
            }
            Err(_) => tracing::trace!("the agent's connection did not close in time"),
        }
    }
}

impl Wire {
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), (PeerClose, &'static str)>> {
        match self {
            Self::WebSocket(stream) => {
                Pin::new(stream).poll_flush(cx).map_err(|error| ended(&error))
            }
            Self::Secure(stream) => {
                Pin::new(stream.as_mut()).poll_flush(cx).map_err(|error| ended(&error))
            }
            Self::Came(stream) => {
                Pin::new(stream.as_mut()).poll_flush(cx).map_err(|error| ended(&error))
            }
            Self::Tcp(stream, waiting, _) => {
                while !waiting.is_empty() {
                    match ready!(Pin::new(&mut *stream).poll_write(cx, waiting)) {
                        Ok(0) | Err(_) => return Poll::Ready(Err((PeerClose::Dropped, RESET))),
                        Ok(written) => waiting.advance(written),
                    }
                }
                Poll::Ready(Ok(()))
            }
        }
    }

    /// The same where all that waits is what was given to it, or went past it. A plain WebSocket has written that to its
    /// socket, which keeps nothing back, unless the network took no more.
    fn poll_written(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), (PeerClose, &'static str)>> {
        match self {
            Self::WebSocket(stream) => {
                if ready!(stream.get_mut().poll_rest(cx)).is_err() {
                    return Poll::Ready(Err((PeerClose::Dropped, RESET)));
                }
                Pin::new(stream).poll_ready(cx).map_err(|error| ended(&error))
            }
            Self::Secure(_) | Self::Came(_) | Self::Tcp(..) => self.poll_flush(cx),
        }
    }

    /// Whether there may be something to read, where that can be told without reading.
    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        match self {
            Self::WebSocket(stream) => websocket::poll_readable(stream.get_ref().stream(), cx),
            Self::Secure(stream) => {
                websocket::poll_readable(stream.get_ref().stream().get_ref().0, cx)
            }
            Self::Came(_) | Self::Tcp(..) => Poll::Ready(()),
        }
    }

    /// Gives a short text to `hear` that came where nothing is begun, or leaves what came to [`Self::poll_next`].
    fn poll_alone(&mut self, cx: &mut Context<'_>, hear: impl FnOnce(&str)) -> Poll<bool> {
        match self {
            Self::WebSocket(stream) => websocket::poll_alone(stream.get_mut(), cx, hear),
            Self::Secure(_) | Self::Came(_) | Self::Tcp(..) => Poll::Ready(false),
        }
    }

    /// Whether `message`, which was read last, is short and all that had come, where that can be told.
    fn was_alone(&mut self, message: &Message) -> bool {
        match self {
            Self::WebSocket(stream) => websocket::was_alone(stream.get_mut(), message),
            Self::Secure(_) | Self::Came(_) | Self::Tcp(..) => false,
        }
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Heard> {
        match self {
            Self::WebSocket(stream) => Pin::new(stream).poll_next(cx).map(heard),
            Self::Secure(stream) => Pin::new(stream.as_mut()).poll_next(cx).map(heard),
            Self::Came(stream) => Pin::new(stream.as_mut()).poll_next(cx).map(heard),
            Self::Tcp(stream, _, buffer) => {
                buffer.resize(READ_BYTES, 0);
                let mut place = ReadBuf::new(buffer);
                let read = ready!(Pin::new(stream).poll_read(cx, &mut place));
                let count = place.filled().len();
                buffer.truncate(count);
                Poll::Ready(match read {
                    // Whoever shuts its side down has said all it wanted to say.
                    Ok(()) if count == 0 => Heard::Ended(PeerClose::Frame(None), None),
                    Ok(()) => Heard::Message(Message::Binary(buffer.split().freeze())),
                    Err(_) => Heard::Ended(PeerClose::Dropped, Some(RESET)),
                })
            }
        }
    }

    /// Whether it waits for something else than what its agent says.
    fn pays(&self) -> bool {
        match self {
            Self::WebSocket(stream) => stream.get_ref().pays(),
            Self::Secure(stream) => stream.get_ref().pays(),
            Self::Came(stream) => stream.get_ref().pays(),
            Self::Tcp(..) => false,
        }
    }

    /// Whether nothing is read until the node has room for it.
    fn waits(&self) -> bool {
        match self {
            Self::WebSocket(stream) => stream.get_ref().waits(),
            Self::Secure(stream) => stream.get_ref().waits(),
            Self::Came(stream) => stream.get_ref().waits(),
            Self::Tcp(..) => false,
        }
    }

    /// `message` was read. Says whether nothing is kept of what was read before it: what the protocol says for itself may come
    /// between the parts of another message (RFC 6455 §5.4).
    fn came_out(&mut self, message: &Message) -> bool {
        match self {
            Self::WebSocket(stream) => websocket::came_out(stream.get_mut(), message),
            Self::Secure(stream) => websocket::came_out(stream.get_mut(), message),
            Self::Came(stream) => websocket::came_out(stream.get_mut(), message),
            Self::Tcp(..) => true,
        }
    }

    /// What was read of messages is kept no more.
    fn done(&mut self) {
        match self {
            Self::WebSocket(stream) => stream.get_mut().done(),
            Self::Secure(stream) => stream.get_mut().done(),
            Self::Came(stream) => stream.get_mut().done(),
            Self::Tcp(..) => (),
        }
    }

    async fn farewell(self) -> Result<(), tungstenite::Error> {
        match self {
            Self::WebSocket(mut stream) => say_goodbye(&mut stream).await?,
            Self::Secure(mut stream) => say_goodbye(stream.as_mut()).await?,
            Self::Came(mut stream) => say_goodbye(stream.as_mut()).await?,
            Self::Tcp(mut stream, mut waiting, mut buffer) => {
                stream.write_all_buf(&mut waiting).await?;
                stream.shutdown().await?;
                // Closed with bytes unread, the connection would be reset, and what was written lost.
                loop {
                    buffer.clear();
                    if stream.read_buf(&mut buffer).await? == 0 {
                        break;
                    }
                }
            }
        }
        Ok(())
    }
}

fn heard(next: Option<Result<Message, tungstenite::Error>>) -> Heard {
    match next {
        Some(Ok(message)) => Heard::Message(message),
        Some(Err(error)) => {
            let (close, word) = ended(&error);
            Heard::Ended(close, Some(word))
        }
        None => Heard::Ended(PeerClose::Dropped, Some(RESET)),
    }
}

async fn say_goodbye<S>(stream: &mut S) -> Result<(), tungstenite::Error>
where
    S: Sink<Message, Error = tungstenite::Error>
        + Stream<Item = Result<Message, tungstenite::Error>>
        + Unpin,
{
    let frame = CloseFrame { code: CloseCode::Normal, reason: "".into() };
    stream.send(Message::Close(Some(frame))).await?;
    while let Some(message) = stream.next().await {
        message?;
    }
    Ok(())
}

fn ended(error: &tungstenite::Error) -> (PeerClose, &'static str) {
    match error {
        tungstenite::Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => {
            (PeerClose::Dropped, RESET)
        }
        tungstenite::Error::Io(error) if error.kind() == io::ErrorKind::OutOfMemory => {
            (PeerClose::Dropped, "message_too_slow")
        }
        tungstenite::Error::Capacity(_) => (PeerClose::Violated, "message_too_long"),
        tungstenite::Error::Utf8(_) => (PeerClose::Violated, "not_utf8"),
        tungstenite::Error::Protocol(_) | tungstenite::Error::AttackAttempt => {
            (PeerClose::Violated, "not_websocket")
        }
        _ => (PeerClose::Dropped, RESET),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::metered::MessageBudget;
    use crate::net::metered::Metered;
    use crate::net::metered::Terms;
    use crate::net::websocket::TrustRoots;
    use std::future::poll_fn;
    use tokio::net::TcpListener;
    use tokio_tungstenite::WebSocketStream;
    use tokio_tungstenite::accept_async;
    use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
    use tokio_tungstenite::tungstenite::protocol::Role;
    use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
    use tokio_tungstenite::tungstenite::protocol::frame::Frame;
    use tokio_tungstenite::tungstenite::protocol::frame::coding::Data;
    use tokio_tungstenite::tungstenite::protocol::frame::coding::OpCode;

    async fn hear(connection: &mut Connection) -> String {
        let mut given = None;
        let next =
            poll_fn(|cx| connection.poll(false, cx, |text| given = Some(format!("given: {text}"))));
        match timeout(Duration::from_secs(20), next).await.expect("it was sent") {
            Heard::Message(message) => message.into_text().unwrap().to_string(),
            Heard::Given => given.expect("it was given"),
            Heard::Ended(..) => "its end".to_owned(),
            Heard::Blocked | Heard::Ready => panic!("nothing was written"),
            Heard::Waits => panic!("there is room"),
        }
    }

    fn no_text(text: &str) {
        panic!("{text} is not expected")
    }

    async fn has_nothing_to_say(connection: &mut Connection) -> bool {
        poll_fn(|cx| Poll::Ready(connection.poll(false, cx, no_text).is_pending())).await
    }

    #[tokio::test]
    async fn messages_that_come_together_or_in_parts_are_heard_each_as_soon_as_it_is_whole() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("ws://{}/", listener.local_addr().unwrap());
        let roots = TrustRoots::native();
        let accept = async {
            let (socket, _) = listener.accept().await.unwrap();
            accept_async(socket).await.unwrap()
        };
        let dial = websocket::connect(&url, &[], (&roots, None));
        let (stream, agent) = tokio::join!(dial, accept);
        let mut connection = Connection::new(Wire::from(stream.unwrap()));
        let mut agent = agent.into_inner();
        assert!(has_nothing_to_say(&mut connection).await);
        // Texts of one letter, not masked (RFC 6455 §5.2), and the beginning of a third.
        agent.write_all(&[0x81, 1, b'a', 0x81, 1, b'b', 0x81]).await.unwrap();
        assert_eq!(hear(&mut connection).await, "a");
        assert_eq!(hear(&mut connection).await, "b");
        for _ in 0..3 {
            assert!(has_nothing_to_say(&mut connection).await);
        }
        agent.write_all(&[1, b'c']).await.unwrap();
        assert_eq!(hear(&mut connection).await, "c");
        assert!(has_nothing_to_say(&mut connection).await);
        drop(agent);
        assert_eq!(hear(&mut connection).await, "its end");
    }

    #[tokio::test]
    async fn what_comes_together_with_the_answer_to_the_handshake_is_heard() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("ws://{}/", listener.local_addr().unwrap());
        let roots = TrustRoots::native();
        let accept = async {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                socket.read_buf(&mut request).await.unwrap();
            }
            let request = String::from_utf8(request).unwrap();
            let key = (request.lines().filter_map(|line| line.split_once(": "))).find_map(
                |(name, key)| name.eq_ignore_ascii_case("sec-websocket-key").then_some(key),
            );
            let accepted = derive_accept_key(key.expect("it is asked for").as_bytes());
            let head = format!(
                "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                 Sec-WebSocket-Accept: {accepted}\r\n\r\n"
            );
            // More than the buffer of a WebSocket holds, a text of one letter, and the beginning of another.
            let long = "x".repeat(3_000);
            let said = [&[0x81, 126, 0x0b, 0xb8], long.as_bytes(), &[0x81, 1, b'a', 0x81]].concat();
            socket.write_all(&[head.as_bytes(), &said].concat()).await.unwrap();
            socket
        };
        let dial = websocket::connect(&url, &[], (&roots, None));
        let (stream, mut agent) = tokio::join!(dial, accept);
        let mut connection = Connection::new(Wire::from(stream.unwrap()));
        assert_eq!(hear(&mut connection).await, "x".repeat(3_000));
        assert_eq!(hear(&mut connection).await, "a");
        assert!(has_nothing_to_say(&mut connection).await);
        agent.write_all(&[1, b'b']).await.unwrap();
        assert_eq!(hear(&mut connection).await, "b");
        assert!(has_nothing_to_say(&mut connection).await);
    }

    #[tokio::test]
    async fn the_room_of_a_long_message_is_given_back_after_it() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("ws://{}/", listener.local_addr().unwrap());
        let roots = TrustRoots::native();
        let accept = async {
            let (socket, _) = listener.accept().await.unwrap();
            accept_async(socket).await.unwrap()
        };
        let dial = websocket::connect(&url, &[], (&roots, None));
        let (stream, agent) = tokio::join!(dial, accept);
        let (mut connection, mut agent) = (Connection::new(Wire::from(stream.unwrap())), agent);
        // Where in memory a message is that was sent.
        let mut place_of = async |length: usize| {
            let sent = agent.send(Message::text("x".repeat(length)));
            // None is read past the buffer this is about.
            connection.alone = 0;
            let next = poll_fn(|cx| connection.poll(false, cx, no_text));
            let next = timeout(Duration::from_secs(20), next);
            let (sent, heard) = tokio::join!(sent, next);
            sent.unwrap();
            let Heard::Message(Message::Text(text)) = heard.expect("it was sent") else {
                panic!("no text")
            };
            assert_eq!(text.len(), length);
            text.as_ptr().addr()
        };
        for length in [100_000, 3_000_000, 100_000] {
            let room = place_of(length).await;
            let room = room..room + length;
            let mut last = 0;
            for _ in 0..100 {
                last = place_of(300).await;
            }
            assert!(!room.contains(&last), "what is short lies where {length} bytes were");
        }
    }

    /// A connection that pays from `budget`, and its agent's end.
    async fn paying(budget: &'static MessageBudget) -> (Connection, WebSocketStream<TcpStream>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (near, far) = tokio::join!(TcpStream::connect(address), listener.accept());
        let config = Some(WebSocketConfig::default().read_buffer_size(4_096));
        let near = Metered::paying(near.unwrap(), budget);
        let near = WebSocketStream::from_raw_socket(near, Role::Client, config).await;
        let agent = WebSocketStream::from_raw_socket(far.unwrap().0, Role::Server, None).await;
        (Connection::new(Wire::WebSocket(near)), agent)
    }

    async fn next(connection: &mut Connection) -> Heard {
        let next = poll_fn(|cx| connection.poll(false, cx, no_text));
        timeout(Duration::from_secs(20), next).await.expect("it has something to say")
    }

    /// A budget in which there is little beside one that has its share.
    const fn small() -> MessageBudget {
        const MIB: usize = 1_024 * 1_024;
        let patience = Duration::from_secs(3_600);
        MessageBudget::of(Terms { most: MIB + MIB / 2, share: MIB / 2, patience })
    }

    #[tokio::test]
    async fn a_message_for_which_the_node_has_no_room_is_read_when_it_has() {
        static BUDGET: MessageBudget = small();
        static BYTES: [u8; 1_024 * 1_024] = [0; 1_024 * 1_024];
        let mut other = Metered::paying(&BYTES[..], &BUDGET);
        other.read_exact(&mut vec![0; 600_000]).await.unwrap();
        let (mut connection, mut agent) = paying(&BUDGET).await;
        let listen = async {
            assert!(matches!(next(&mut connection).await, Heard::Waits));
            assert!(connection.waits());
            assert!(has_nothing_to_say(&mut connection).await, "it is told once");
            drop(other);
            let message = loop {
                match next(&mut connection).await {
                    Heard::Waits => assert!(!connection.waits()),
                    Heard::Message(message) => break message,
                    Heard::Given | Heard::Ended(..) | Heard::Blocked | Heard::Ready => {
                        panic!("it was not said")
                    }
                }
            };
            assert_eq!(message.len(), 300_000);
            assert!(!connection.waits());
        };
        let (said, ()) = tokio::join!(agent.send(Message::text("x".repeat(300_000))), listen);
        said.unwrap();
        drop(connection);
        assert_eq!(BUDGET.state(), (0, 0));
    }

    #[tokio::test]
    async fn what_came_of_a_message_is_paid_for_though_a_ping_comes_between_its_parts() {
        static BUDGET: MessageBudget = small();
        let (mut connection, mut agent) = paying(&BUDGET).await;
        let part = |opcode, is_final| {
            Message::Frame(Frame::message(vec![b'x'; 100_000], OpCode::Data(opcode), is_final))
        };
        let say = async {
            agent.send(part(Data::Text, false)).await.unwrap();
            agent.send(Message::Ping("p".into())).await.unwrap();
            agent.send(part(Data::Continue, true)).await.unwrap();
        };
        let listen = async {
            assert!(matches!(next(&mut connection).await, Heard::Message(Message::Ping(_))));
            let Heard::Message(Message::Text(text)) = next(&mut connection).await else {
                panic!("it was said")
            };
            assert_eq!(text.len(), 200_000);
        };
        tokio::join!(say, listen);
        let (held, _) = BUDGET.state();
        assert!(held >= 200_000 - LONG_BYTES, "{held} bytes of it");
        assert!(has_nothing_to_say(&mut connection).await);
        assert_eq!(BUDGET.state(), (0, 0));
    }

    /// A connection and its agent's end, which was heard saying many short texts one by one.
    async fn after_many_short_texts() -> (Connection, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("ws://{}/", listener.local_addr().unwrap());
        let roots = TrustRoots::native();
        let accept = async {
            let (socket, _) = listener.accept().await.unwrap();
            accept_async(socket).await.unwrap()
        };
        let dial = websocket::connect(&url, &[], (&roots, None));
        let (stream, agent) = tokio::join!(dial, accept);
        let mut connection = Connection::new(Wire::from(stream.unwrap()));
        let mut agent = agent.into_inner();
        says_short_texts(&mut agent, &mut connection).await;
        (connection, agent)
    }

    async fn says_short_texts(agent: &mut TcpStream, connection: &mut Connection) {
        for number in 0..2 * ALONE_MIN {
            agent.write_all(&[0x81, 1, b'a' + number]).await.unwrap();
            let text = char::from(b'a' + number).to_string();
            let heard = hear(connection).await;
            let given = heard.strip_prefix("given: ");
            assert_eq!(given.unwrap_or(&heard), text);
            assert!(given.is_some() || number < ALONE_MIN);
            assert!(has_nothing_to_say(connection).await);
        }
    }

    #[tokio::test]
    async fn after_short_texts_all_else_is_heard_as_it_was() {
        let (mut connection, mut agent) = after_many_short_texts().await;
        // Two at once.
        agent.write_all(&[0x81, 1, b'A', 0x81, 1, b'B']).await.unwrap();
        assert_eq!(hear(&mut connection).await, "A");
        assert_eq!(hear(&mut connection).await, "B");
        assert!(has_nothing_to_say(&mut connection).await);
        // One in parts.
        says_short_texts(&mut agent, &mut connection).await;
        agent.write_all(&[0x81]).await.unwrap();
        for _ in 0..3 {
            assert!(has_nothing_to_say(&mut connection).await);
        }
        agent.write_all(&[1, b'C']).await.unwrap();
        assert_eq!(hear(&mut connection).await, "C");
        // One that is longer than is read past the library.
        says_short_texts(&mut agent, &mut connection).await;
        let long = "x".repeat(3_000);
        agent.write_all(&[&[0x81, 126, 0x0b, 0xb8], long.as_bytes()].concat()).await.unwrap();
        assert_eq!(hear(&mut connection).await, long);
        // A ping, which the library answers.
        says_short_texts(&mut agent, &mut connection).await;
        agent.write_all(&[0x89, 1, b'p']).await.unwrap();
        assert_eq!(hear(&mut connection).await, "p");
        // Though nothing more is read.
        let next = poll_fn(|cx| Poll::Ready(connection.poll(true, cx, no_text).is_pending()));
        assert!(next.await);
        let mut pong = [0; 7];
        agent.read_exact(&mut pong).await.unwrap();
        assert_eq!(pong[..2], [0x8a, 0x81]);
        // One in two frames, behind which it cannot be told any more where one begins.
        says_short_texts(&mut agent, &mut connection).await;
        agent.write_all(&[0x01, 1, b'D', 0x80, 1, b'E']).await.unwrap();
        assert_eq!(hear(&mut connection).await, "DE");
        for _ in 0..2 * ALONE_MIN {
            agent.write_all(&[0x81, 1, b'F']).await.unwrap();
            assert_eq!(hear(&mut connection).await, "F");
        }
        drop(agent);
        assert_eq!(hear(&mut connection).await, "its end");
    }

    #[tokio::test]
    async fn after_short_texts_an_end_is_an_end_and_a_violation_one() {
        let next = async |connection: &mut Connection| {
            let next = poll_fn(|cx| connection.poll(false, cx, no_text));
            match timeout(Duration::from_secs(20), next).await.expect("it was sent") {
                Heard::Ended(close, word) => (close, word),
                Heard::Message(_) | Heard::Given | Heard::Blocked | Heard::Ready | Heard::Waits => {
                    panic!("it goes on")
                }
            }
        };
        let (mut connection, agent) = after_many_short_texts().await;
        drop(agent);
        assert_eq!(next(&mut connection).await, (PeerClose::Dropped, Some(RESET)));
        let (mut connection, mut agent) = after_many_short_texts().await;
        agent.write_all(&[0x81, 1, 0xff]).await.unwrap();
        assert_eq!(next(&mut connection).await, (PeerClose::Violated, Some("not_utf8")));
        let (mut connection, mut agent) = after_many_short_texts().await;
        agent.write_all(&[0x81, 0x81, 0, 0, 0, 0, b'a']).await.unwrap();
        assert_eq!(next(&mut connection).await, (PeerClose::Violated, Some("not_websocket")));
    }

    #[tokio::test]
    async fn what_the_network_does_not_take_at_once_goes_when_it_does() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("ws://{}/", listener.local_addr().unwrap());
        let roots = TrustRoots::native();
        let accept = async {
            let (socket, _) = listener.accept().await.unwrap();
            accept_async(socket).await.unwrap()
        };
        let dial = websocket::connect(&url, &[], (&roots, None));
        let (stream, mut agent) = tokio::join!(dial, accept);
        let mut connection = Connection::new(Wire::from(stream.unwrap()));
        let text = |number: usize| number.to_string().repeat(3_000);
        let mut sent = 0;
        loop {
            connection.write(Message::text(text(sent)));
            sent += 1;
            assert!(sent < 10_000, "nobody reads, and all is taken");
            match poll_fn(|cx| Poll::Ready(connection.poll(false, cx, no_text))).await {
                Poll::Ready(Heard::Blocked) => break,
                Poll::Ready(_) => panic!("nothing was said"),
                // What it may take of the runtime at once is to be no matter here.
                Poll::Pending => tokio::task::yield_now().await,
            }
        }
        let read = async {
            for number in 0..sent {
                let message = agent.next().await.expect("it is open").unwrap();
                assert_eq!(message.into_text().unwrap().as_str(), text(number));
            }
        };
        let ready = poll_fn(|cx| connection.poll(false, cx, no_text));
        let ready = timeout(Duration::from_secs(20), ready);
        let (heard, ()) = tokio::join!(ready, read);
        assert!(matches!(heard, Ok(Heard::Ready)));
        assert!(!connection.dirty && !connection.blocked);
    }
}
