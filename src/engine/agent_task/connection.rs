//! The connection of an agent's task: how it is dialled, written to, read from and closed.

use crate::agent::session::AgentCall;
use crate::agent::session::PeerClose;
use crate::agent::twilio;
use crate::net::websocket;
use crate::net::websocket::ConnectError;
use crate::net::websocket::TrustRoots;
use crate::net::websocket::WebSocket;
use crate::telemetry::metric;
use crate::telemetry::metric::Gauge;
use crate::types::agent::AgentKind;
use crate::types::agent::AgentSettings;
use futures_util::Sink;
use futures_util::SinkExt;
use futures_util::Stream;
use futures_util::StreamExt;
use std::future::Future;
use std::pin::Pin;
use std::task::Context;
use std::task::Poll;
use std::time::Duration;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

/// How long a polite end of a WebSocket may take once nobody needs it any more.
const CLOSE_WAIT: Duration = Duration::from_secs(2);

/// Tells an agent in which trace its call is (W3C Trace Context §3.2).
const TRACE_HEADER: &str = "traceparent";

/// How the agent is dialled.
pub(super) struct Dialling {
    url: String,
    headers: Vec<(&'static str, String)>,
    roots: TrustRoots,
}

impl Dialling {
    pub(super) fn new(settings: &AgentSettings, call: &AgentCall, roots: TrustRoots) -> Self {
        let trace = call.trace.map(|trace| (TRACE_HEADER, trace.to_string()));
        let AgentKind::Twilio(agent) = &settings.kind else {
            return Self::none();
        };
        let signature = twilio::signature(&agent.auth_token, &agent.url);
        let signature = signature.map(|value| (twilio::SIGNATURE_HEADER, value));
        let headers = signature.into_iter().chain(trace).collect();
        Self { url: agent.url.clone(), headers, roots }
    }

    /// Of an agent that is not dialled.
    pub(super) fn none() -> Self {
        Self { url: String::new(), headers: Vec::new(), roots: TrustRoots::native() }
    }

    pub(super) fn dial(&self) -> Dial {
        let (url, headers) = (self.url.clone(), self.headers.clone());
        let roots = self.roots.clone();
        Box::pin(async move { websocket::connect(&url, &headers, &roots).await })
    }
}

pub(super) type Dial = Pin<Box<dyn Future<Output = Result<WebSocket, ConnectError>> + Send>>;

/// What a connection has to say.
pub(super) enum Heard {
    /// A message came.
    Message(Message),
    /// It ended.
    Ended(PeerClose),
    /// The network takes no more.
    Blocked,
    /// It takes more again.
    Ready,
}

/// An open connection.
pub(super) struct Connection {
    stream: WebSocket,
    /// Something was written since the last complete flush.
    dirty: bool,
    blocked: bool,
    _counted: Counted,
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

impl Connection {
    pub(super) fn new(stream: WebSocket) -> Self {
        Self { stream, dirty: false, blocked: false, _counted: Counted::new() }
    }

    pub(super) fn write(&mut self, message: Message) {
        self.dirty = true;
        // What is wrong with a broken connection is found out by reading from it.
        if let Err(error) = Pin::new(&mut self.stream).start_send(message) {
            tracing::trace!(%error, "not sent to the agent");
        }
    }

    /// Writes what waits and, unless the playout queue is `full`, reads one message.
    pub(super) fn poll(&mut self, full: bool, cx: &mut Context<'_>) -> Poll<Heard> {
        if self.dirty {
            match Pin::new(&mut self.stream).poll_flush(cx) {
                Poll::Ready(Ok(())) => {
                    self.dirty = false;
                    if std::mem::take(&mut self.blocked) {
                        return Poll::Ready(Heard::Ready);
                    }
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Heard::Ended(ended(&error))),
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
        match Pin::new(&mut self.stream).poll_next(cx) {
            Poll::Ready(Some(Ok(message))) => {
                // The protocol may have an answer of its own to flush.
                self.dirty |= message.is_ping() || message.is_close();
                Poll::Ready(Heard::Message(message))
            }
            Poll::Ready(Some(Err(error))) => Poll::Ready(Heard::Ended(ended(&error))),
            Poll::Ready(None) => Poll::Ready(Heard::Ended(PeerClose::Dropped)),
            Poll::Pending => Poll::Pending,
        }
    }

    /// Closes politely, within a limit: what was sent is flushed, the close frame goes out, and the
    /// agent may answer it.
    pub(super) async fn close(mut self) {
        let farewell = async {
            let frame = CloseFrame { code: CloseCode::Normal, reason: "".into() };
            self.stream.send(Message::Close(Some(frame))).await?;
            while let Some(message) = self.stream.next().await {
                message?;
            }
            Ok::<(), tungstenite::Error>(())
        };
        match timeout(CLOSE_WAIT, farewell).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::trace!(%error, "the agent's WebSocket did not close cleanly");
            }
            Err(_) => tracing::trace!("the agent's WebSocket did not close in time"),
        }
    }
}

fn ended(error: &tungstenite::Error) -> PeerClose {
    match error {
        tungstenite::Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => {
            PeerClose::Dropped
        }
        tungstenite::Error::Protocol(_)
        | tungstenite::Error::Capacity(_)
        | tungstenite::Error::Utf8(_)
        | tungstenite::Error::AttackAttempt => PeerClose::Violated,
        _ => PeerClose::Dropped,
    }
}
