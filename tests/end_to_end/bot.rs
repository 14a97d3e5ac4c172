//! A scripted agent that speaks the Media Streams dialect behind a real socket.

use crate::node::PATIENCE;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures_util::SinkExt;
use futures_util::StreamExt;
use serde_json::Value;
use serde_json::json;
use std::f32::consts::TAU;
use tandem::audio::g711;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::accept_async;
use tokio_tungstenite::accept_hdr_async;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::Request;
use tokio_tungstenite::tungstenite::handshake::server::Response;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;

/// What the bot says, in Hz.
pub(crate) const BOT_HZ: u16 = 660;
const RATE_HZ: f32 = 8_000.0;
const SAMPLES_PER_MS: usize = 8;
const LOUDNESS: f32 = 8_000.0;
/// 20 ms of audio.
const FRAME_SAMPLES: usize = 160;

/// Where bots listen.
pub(crate) struct Bot {
    listener: TcpListener,
}

impl Bot {
    pub(crate) async fn bind() -> Self {
        Self { listener: TcpListener::bind("127.0.0.1:0").await.unwrap() }
    }

    pub(crate) fn url(&self) -> String {
        format!("ws://{}/media", self.listener.local_addr().unwrap())
    }

    /// For one that is not to speak the dialect.
    pub(crate) fn into_listener(self) -> TcpListener {
        self.listener
    }

    /// Takes so many connections and drops them before a word is said.
    pub(crate) async fn turn_away(&self, count: usize) {
        for _ in 0..count {
            let accepted = timeout(PATIENCE, self.listener.accept()).await;
            drop(accepted.expect("a connection").unwrap());
        }
    }

    /// Takes the next stream whose connection is not given up already.
    pub(crate) async fn accept_back(&self) -> Stream {
        loop {
            let (socket, _) =
                timeout(PATIENCE, self.listener.accept()).await.expect("a connection").unwrap();
            let Ok(mut socket) = accept_async(socket).await else { continue };
            if let Some(Ok(Message::Text(_))) = socket.next().await {
                let mut stream = Stream::over(socket, None);
                stream.start = stream.json().await;
                return stream;
            }
        }
    }

    /// Takes the next stream, past its first two messages.
    pub(crate) async fn accept(&self) -> Stream {
        let accepted = timeout(PATIENCE, self.listener.accept()).await.expect("a connection");
        let mut traceparent = None;
        #[expect(clippy::result_large_err, reason = "the type is tungstenite's")]
        let note = |request: &Request, response: Response| {
            let value = request.headers().get("traceparent");
            traceparent = value.map(|value| value.to_str().unwrap().to_owned());
            Ok(response)
        };
        let socket = accept_hdr_async(accepted.unwrap().0, note).await.unwrap();
        let mut stream = Stream::over(socket, traceparent);
        let connected = stream.json().await;
        assert_eq!(connected["event"], "connected", "{connected}");
        stream.start = stream.json().await;
        assert_eq!(stream.start["event"], "start", "{}", stream.start);
        stream
    }
}

/// One call's stream, and what came by it.
pub(crate) struct Stream {
    socket: WebSocketStream<TcpStream>,
    /// The header of that name.
    pub(crate) traceparent: Option<String>,
    /// The message `start`.
    pub(crate) start: Value,
    /// The caller's audio.
    heard: Vec<i16>,
    /// Names of the marks that came back.
    pub(crate) marks: Vec<String>,
    /// Keys the caller pressed.
    pub(crate) keys: String,
    /// How much was heard of what it said each time the caller spoke over it.
    pub(crate) interrupted_at_ms: Vec<u64>,
    pub(crate) is_stopped: bool,
}

impl Stream {
    fn over(socket: WebSocketStream<TcpStream>, traceparent: Option<String>) -> Self {
        Self {
            socket,
            traceparent,
            start: Value::Null,
            heard: Vec::new(),
            marks: Vec::new(),
            keys: String::new(),
            interrupted_at_ms: Vec::new(),
            is_stopped: false,
        }
    }

    async fn json(&mut self) -> Value {
        let message = self.message().await;
        serde_json::from_str(message.to_text().unwrap()).unwrap()
    }

    async fn message(&mut self) -> Message {
        let next = timeout(PATIENCE, self.socket.next()).await;
        next.expect("a message").expect("an open stream").unwrap()
    }

    /// Takes the next message; the code of a close.
    async fn take(&mut self) -> Option<u16> {
        match self.message().await {
            Message::Text(text) => {
                let message: Value = serde_json::from_str(&text).unwrap();
                assert!(!self.is_stopped, "{message} after stop");
                match message["event"].as_str().unwrap() {
                    "media" => {
                        let payload =
                            STANDARD.decode(message["media"]["payload"].as_str().unwrap());
                        let samples = payload.unwrap().into_iter().map(g711::ulaw_decode);
                        self.heard.extend(samples);
                    }
                    "mark" => {
                        self.marks.push(message["mark"]["name"].as_str().unwrap().to_owned());
                    }
                    "dtmf" => self.keys += message["dtmf"]["digit"].as_str().unwrap(),
                    "bargeIn" => {
                        let heard_ms = message["bargeIn"]["heardMs"].as_str().unwrap();
                        self.interrupted_at_ms.push(heard_ms.parse().unwrap());
                    }
                    "stop" => self.is_stopped = true,
                    other => panic!("unknown event {other}"),
                }
                None
            }
            Message::Close(frame) => Some(frame.map_or(0, |frame| u16::from(frame.code))),
            _ => None,
        }
    }

    /// Listens to the caller for `frames` frames of 20 ms: the clock of a bot.
    pub(crate) async fn hear(&mut self, frames: usize) {
        let due = self.heard_frames() + frames;
        while self.heard_frames() < due {
            assert_eq!(self.take().await, None, "closed");
        }
    }

    pub(crate) fn heard_frames(&self) -> usize {
        self.heard.len() / FRAME_SAMPLES
    }

    /// All it heard of the caller, and of whoever speaks beside that.
    pub(crate) fn heard(&self) -> &[i16] {
        &self.heard
    }

    /// The frequency of the last half second, in Hz, by its zero crossings.
    pub(crate) fn heard_hz(&self) -> f32 {
        let window = SAMPLES_PER_MS * 500;
        let last = &self.heard[self.heard.len().saturating_sub(window)..];
        let crossings = last.windows(2).filter(|pair| pair[0] < 0 && pair[1] >= 0).count();
        crossings as f32 * RATE_HZ / last.len() as f32
    }

    /// The same until it is closed; whether it is not.
    pub(crate) async fn hears_on(&mut self, frames: usize) -> bool {
        let due = self.heard_frames() + frames;
        while self.heard_frames() < due {
            match self.socket.next().await {
                // Read by nobody, so that a hundred of them are no more work than they have to be.
                Some(Ok(Message::Text(text))) => {
                    if text.starts_with("{\"event\":\"media\"") {
                        self.heard.extend([0; FRAME_SAMPLES]);
                    }
                }
                Some(Ok(Message::Close(_)) | Err(_)) | None => return false,
                Some(Ok(_)) => {}
            }
        }
        true
    }

    /// Waits until `count` marks came back in all.
    pub(crate) async fn until_marks(&mut self, count: usize) {
        while self.marks.len() < count {
            assert_eq!(self.take().await, None, "closed");
        }
    }

    /// Waits for the end; the code of the close.
    pub(crate) async fn until_closed(&mut self) -> u16 {
        loop {
            if let Some(code) = self.take().await {
                return code;
            }
        }
    }

    pub(crate) async fn send(&mut self, text: String) {
        self.socket.send(Message::text(text)).await.unwrap();
    }

    /// Sends bytes where text is expected.
    pub(crate) async fn send_binary(&mut self, bytes: Vec<u8>) {
        self.socket.send(Message::Binary(bytes.into())).await.unwrap();
    }

    /// Sends what the other side may refuse to take.
    pub(crate) async fn try_send(&mut self, text: &str) {
        drop(self.socket.send(Message::text(text)).await);
    }

    async fn say_event(&mut self, event: &str, more: Value) {
        let mut message = json!({"event": event, "streamSid": self.start["streamSid"]});
        if !more.is_null() {
            message[event] = more;
        }
        self.send(message.to_string()).await;
    }

    /// Says the bot's tone.
    pub(crate) async fn say(&mut self, ms: usize) {
        let sample = |n: usize| (TAU * f32::from(BOT_HZ) * n as f32 / RATE_HZ).sin() * LOUDNESS;
        let audio: Vec<u8> =
            (0..ms * SAMPLES_PER_MS).map(|n| g711::ulaw_encode(sample(n) as i16)).collect();
        self.say_bytes(&audio).await;
    }

    /// Says this, µ-law.
    pub(crate) async fn say_bytes(&mut self, audio: &[u8]) {
        self.say_event("media", json!({"payload": STANDARD.encode(audio)})).await;
    }

    /// Says these one after the other, each in a message of its own, and all of them at once.
    pub(crate) async fn say_at_once(&mut self, pieces: &[&[u8]]) {
        for audio in pieces {
            let media = json!({"payload": STANDARD.encode(audio)});
            let text =
                json!({"event": "media", "streamSid": self.start["streamSid"], "media": media});
            self.socket.feed(Message::text(text.to_string())).await.unwrap();
        }
        self.socket.flush().await.unwrap();
    }

    pub(crate) async fn mark(&mut self, name: &str) {
        self.say_event("mark", json!({"name": name})).await;
    }

    pub(crate) async fn clear(&mut self) {
        self.say_event("clear", Value::Null).await;
    }

    pub(crate) async fn close(&mut self, code: u16) {
        let frame = CloseFrame { code: code.into(), reason: "".into() };
        self.socket.send(Message::Close(Some(frame))).await.unwrap();
    }
}
