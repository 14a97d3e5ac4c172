//! What is written to an agent: short messages past the library, while nothing waits, and the rest by it.

use crate::engine::agent_task::connection::Connection;
use crate::engine::agent_task::connection::Wire;
use crate::net::websocket;
use crate::net::websocket::FRAMED_BYTES_MAX;
use crate::net::websocket::Kind;
use bytes::Bytes;
use futures_util::Sink;
use std::pin::Pin;
use tokio_tungstenite::tungstenite;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::Utf8Bytes;
use tokio_tungstenite::tungstenite::protocol::Role;

impl Connection {
    /// Sends a message; a connection without messages sends bytes, and no text.
    pub(in crate::engine::agent_task) fn send(&mut self, kind: Kind, message: Bytes) {
        let is_short = message.len() <= FRAMED_BYTES_MAX;
        let append = |room: &mut Vec<u8>| {
            room.extend_from_slice(&message);
            true
        };
        if is_short && self.write_past(kind, append) {
            return;
        }
        match kind {
            Kind::Binary => self.write(Message::Binary(message)),
            // The encoders write nothing but UTF-8.
            Kind::Text => {
                if let Ok(text) = Utf8Bytes::try_from(message) {
                    self.write(Message::Text(text));
                }
            }
        }
    }

    /// Sends the short text that `fill` appends to a buffer. Nothing is sent, which is said, where it has none or where
    /// something has to be written before it.
    pub(in crate::engine::agent_task) fn send_text(
        &mut self,
        fill: impl FnOnce(&mut Vec<u8>) -> bool,
    ) -> bool {
        self.write_past(Kind::Text, fill)
    }

    /// Only while nothing waits does the library hold nothing that would go before it.
    fn write_past(&mut self, kind: Kind, fill: impl FnOnce(&mut Vec<u8>) -> bool) -> bool {
        if self.dirty || self.left {
            return false;
        }
        let (client, server) = ((kind, Role::Client), (kind, Role::Server));
        // What is below the others may keep something back until it is flushed.
        let (taken, keeps_back) = match &mut self.wire {
            Wire::WebSocket(stream) => {
                (websocket::write_past(stream.get_mut(), client, fill), false)
            }
            Wire::Secure(stream) => (websocket::write_past(stream.get_mut(), client, fill), true),
            Wire::Came(stream) => (websocket::write_past(stream.get_mut(), server, fill), true),
            Wire::Tcp(..) => return false,
        };
        let Some(is_taken) = taken else { return false };
        self.dirty = keeps_back || !is_taken;
        true
    }

    /// Has the library send a message.
    pub(in crate::engine::agent_task) fn write(&mut self, message: Message) {
        self.dirty = true;
        let is_taken = match &mut self.wire {
            Wire::WebSocket(stream) => start_send(stream, message),
            Wire::Secure(stream) => start_send(stream.as_mut(), message),
            Wire::Came(stream) => start_send(stream.as_mut(), message),
            // Without messages there is nothing but bytes.
            Wire::Tcp(_, waiting, _) => {
                if let Message::Binary(bytes) = message {
                    waiting.extend_from_slice(&bytes);
                }
                true
            }
        };
        self.answers |= !is_taken;
    }
}

/// Whether it was taken, though perhaps not written yet.
fn start_send(
    stream: &mut (impl Sink<Message, Error = tungstenite::Error> + Unpin),
    message: Message,
) -> bool {
    // What is wrong with a broken connection is found out by reading from it.
    match Pin::new(stream).start_send(message) {
        Ok(()) => true,
        Err(error) => {
            tracing::trace!(%error, "not sent to the agent");
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::agent_task::connection::Heard;
    use crate::net::websocket::TrustRoots;
    use futures_util::SinkExt;
    use futures_util::StreamExt;
    use std::future::poll_fn;
    use std::task::Poll;
    use std::time::Duration;
    use tokio::net::TcpListener;
    use tokio::net::TcpStream;
    use tokio::time::timeout;
    use tokio_tungstenite::WebSocketStream;
    use tokio_tungstenite::accept_async;

    /// A connection over `ws://`, and its agent.
    async fn connected() -> (Connection, WebSocketStream<TcpStream>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("ws://{}/", listener.local_addr().unwrap());
        let roots = TrustRoots::native();
        let accept = async {
            let (socket, _) = listener.accept().await.unwrap();
            accept_async(socket).await.unwrap()
        };
        let dial = websocket::connect(&url, &[], (&roots, None));
        let (stream, agent) = tokio::join!(dial, accept);
        (Connection::new(Wire::from(stream.unwrap())), agent)
    }

    fn no_text(text: &str) {
        panic!("{text} is not expected")
    }

    async fn heard(connection: &mut Connection) -> Heard {
        let next = poll_fn(|cx| connection.poll(false, cx, no_text));
        timeout(Duration::from_secs(20), next).await.expect("it has something to say")
    }

    async fn next(agent: &mut WebSocketStream<TcpStream>) -> Option<Message> {
        let next = timeout(Duration::from_secs(20), agent.next()).await;
        next.expect("something was sent").map(Result::unwrap)
    }

    fn say(connection: &mut Connection, text: &str) -> bool {
        connection.send_text(|room| {
            room.extend_from_slice(text.as_bytes());
            true
        })
    }

    /// The message of this number: now one for the library, now one of bytes, mostly a short text.
    fn message(number: usize) -> (Kind, Bytes) {
        let digits = number.to_string();
        match number % 10 {
            3 => (Kind::Text, digits.repeat(FRAMED_BYTES_MAX + 1).into()),
            6 => (Kind::Binary, digits.repeat(40).into()),
            _ => (Kind::Text, digits.repeat(400).into()),
        }
    }

    #[tokio::test]
    async fn a_message_that_the_network_takes_leaves_nothing_to_be_done() {
        let (mut connection, mut agent) = connected().await;
        assert!(say(&mut connection, "one"));
        assert!(!connection.dirty, "it is all written");
        assert!(!connection.send_text(|_| false), "there is none");
        connection.send(Kind::Binary, Bytes::from_static(b"two"));
        connection.send(Kind::Text, Bytes::new());
        assert!(!connection.dirty);
        // One that is the library's goes before all that comes behind it.
        connection.write(Message::Ping(Bytes::new()));
        assert!(!say(&mut connection, "three"), "something may wait");
        connection.send(Kind::Text, Bytes::from_static(b"three"));
        assert!(poll_fn(|cx| Poll::Ready(connection.poll(true, cx, no_text))).await.is_pending());
        assert!(say(&mut connection, "four"), "nothing does any more");
        for expected in [
            Message::text("one"),
            Message::binary(&b"two"[..]),
            Message::text(""),
            Message::Ping(Bytes::new()),
            Message::text("three"),
            Message::text("four"),
        ] {
            assert_eq!(next(&mut agent).await, Some(expected));
        }
    }

    #[tokio::test]
    async fn whatever_way_messages_go_they_come_in_order_though_the_network_takes_no_more() {
        let (mut connection, mut agent) = connected().await;
        let mut sent = 0;
        let mut send_next = |connection: &mut Connection| {
            let (kind, bytes) = message(sent);
            connection.send(kind, bytes);
            sent += 1;
            assert!(sent < 10_000, "nobody reads, and all is taken");
        };
        loop {
            send_next(&mut connection);
            match poll_fn(|cx| Poll::Ready(connection.poll(false, cx, no_text))).await {
                Poll::Ready(Heard::Blocked) => break,
                Poll::Ready(_) => panic!("nothing was said"),
                // What it may take of the runtime at once is to be no matter here.
                Poll::Pending => tokio::task::yield_now().await,
            }
        }
        for _ in 0..20 {
            send_next(&mut connection);
        }
        let mut is_ready = false;
        let drive = async {
            loop {
                match heard(&mut connection).await {
                    Heard::Ready => is_ready = true,
                    Heard::Message(Message::Ping(_)) | Heard::Blocked => (),
                    Heard::Message(Message::Text(_)) => break,
                    Heard::Message(_) | Heard::Given | Heard::Waits | Heard::Ended(..) => {
                        panic!("it was not said")
                    }
                }
            }
        };
        let read = async {
            agent.send(Message::Ping("p".into())).await.unwrap();
            for number in 0..sent {
                let expected = match message(number) {
                    (Kind::Binary, bytes) => Message::Binary(bytes),
                    (Kind::Text, bytes) => Message::Text(bytes.try_into().unwrap()),
                };
                assert_eq!(next(&mut agent).await, Some(expected), "{number} of {sent}");
            }
            assert_eq!(next(&mut agent).await, Some(Message::Pong("p".into())));
            agent.send(Message::text("all of it")).await.unwrap();
        };
        tokio::join!(drive, read);
        assert!(is_ready && !connection.dirty && !connection.blocked);
        assert!(say(&mut connection, "the next"));
        assert_eq!(next(&mut agent).await, Some(Message::text("the next")));
    }

    #[tokio::test]
    async fn behind_a_goodbye_nothing_is_sent() {
        let (mut connection, mut agent) = connected().await;
        agent.close(None).await.unwrap();
        let Heard::Message(Message::Close(_)) = heard(&mut connection).await else {
            panic!("no goodbye")
        };
        for _ in 0..2 {
            assert!(!say(&mut connection, "late"));
            connection.send(Kind::Text, Bytes::from_static(b"late"));
            assert!(
                poll_fn(|cx| Poll::Ready(connection.poll(true, cx, no_text))).await.is_pending()
            );
        }
        assert!(matches!(next(&mut agent).await, Some(Message::Close(_))));
        assert_eq!(next(&mut agent).await, None);
    }

    #[tokio::test]
    async fn what_waits_when_nobody_needs_the_connection_goes_before_its_goodbye() {
        let (mut connection, mut agent) = connected().await;
        let (mut sent, waits) = (0, "x".repeat(4_000));
        while say(&mut connection, &waits) {
            sent += 1;
            assert!(sent < 10_000, "nobody reads, and all is taken");
            // What it may take of the runtime at once is to be no matter here.
            tokio::task::yield_now().await;
        }
        let read = async move {
            for _ in 0..sent {
                assert_eq!(next(&mut agent).await, Some(Message::text(waits.as_str())));
            }
            assert!(matches!(next(&mut agent).await, Some(Message::Close(_))));
            drop(agent);
        };
        tokio::join!(connection.close(), read);
    }
}
