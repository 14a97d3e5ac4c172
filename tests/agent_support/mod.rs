//! The two ends around an agent's task: a scripted agent behind a real socket, and the media of a
//! call played by hand.

#![allow(unreachable_pub, reason = "a module of test programs")]
#![expect(clippy::unwrap_used, reason = "a failed check may panic")]
#![expect(clippy::expect_used, reason = "a failed check may panic")]

use futures_util::SinkExt;
use futures_util::StreamExt;
use rustls::RootCertStore;
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use rustls::server::WebPkiClientVerifier;
use serde_json::Value;
use std::future::Future;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;
use tandem::agent::builtin::announce::Announcement;
use tandem::audio::link::AgentEnd;
use tandem::audio::link::FRAME_BYTES;
use tandem::audio::link::MediaEnd;
use tandem::audio::link::link;
use tandem::engine::agent_health::AgentHealth;
use tandem::engine::agent_task;
use tandem::engine::agent_task::AgentCall;
use tandem::engine::agent_task::AgentCounters;
use tandem::engine::agent_task::AgentEvent;
use tandem::engine::agent_task::AgentHandle;
use tandem::engine::agent_task::AgentSetup;
use tandem::engine::awaited::AwaitedAgents;
use tandem::engine::mailbox;
use tandem::net::websocket::TrustRoots;
use tandem::types::agent::Access;
use tandem::types::agent::AgentKind;
use tandem::types::agent::AgentSettings;
use tandem::types::agent::AnswerPolicy;
use tandem::types::agent::ClientIdentity;
use tandem::types::agent::TwilioAgent;
use tandem::types::agent_trouble::FaultWord;
use tandem::types::barge_in::BargeIn;
use tandem::types::fault_policy::FaultPolicy;
use tandem::types::header::CallVariables;
use tandem::types::id::CallId;
use tandem::types::id::TenantId;
use tandem::types::secret::Secret;
use tokio::io::AsyncRead;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWrite;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::task::yield_now;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::accept_hdr_async;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::ErrorResponse;
use tokio_tungstenite::tungstenite::handshake::server::Request;
use tokio_tungstenite::tungstenite::handshake::server::Response;
use tokio_tungstenite::tungstenite::http::HeaderMap;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::http::StatusCode;
use tokio_tungstenite::tungstenite::http::header::SEC_WEBSOCKET_PROTOCOL;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use uuid::Uuid;

/// A check that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long the agents of these checks may take to connect: a TLS handshake takes a while on a machine
/// that is busy, and only one check waits until this is over.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

pub async fn in_time<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("no {what} in time"))
}

/// An AI profile with `kind` and nothing special.
pub fn profile(kind: AgentKind) -> AgentSettings {
    let answer = AnswerPolicy::WhenReady;
    let barge_in = BargeIn::OFF;
    let faults = FaultPolicy::NONE;
    AgentSettings {
        kind,
        answer,
        barge_in,
        hangup_after: None,
        reinvite_after: None,
        faults,
        hold_music: None,
    }
}

/// Where scripted agents listen.
pub struct Server {
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
}

impl Server {
    pub async fn bind() -> Self {
        Self { listener: TcpListener::bind("127.0.0.1:0").await.unwrap(), tls: None }
    }

    /// A server on `wss://`, and its certificate in PEM, which nobody trusts yet.
    pub async fn bind_tls() -> (Self, String) {
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        let tls = Some(TlsAcceptor::from(Arc::new(config)));
        (Self { tls, ..Self::bind().await }, made.cert.pem())
    }

    /// A server on `wss://` that wants certificates; its own, and one with its key that it takes, in PEM.
    pub async fn bind_mutual_tls() -> (Self, String, ClientIdentity) {
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        let client = rcgen::generate_simple_self_signed(["tandem".to_owned()]).unwrap();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut clients = RootCertStore::empty();
        clients.add(client.cert.der().clone()).unwrap();
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(clients), Arc::clone(&provider));
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier.build().unwrap())
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        let tls = Some(TlsAcceptor::from(Arc::new(config)));
        let identity = ClientIdentity {
            certificates: Secret::new(client.cert.pem()),
            key: Secret::new(client.signing_key.serialize_pem()),
        };
        (Self { tls, ..Self::bind().await }, made.cert.pem(), identity)
    }

    pub fn url(&self, path: &str) -> String {
        let scheme = if self.tls.is_some() { "wss" } else { "ws" };
        format!("{scheme}://{}{path}", self.listener.local_addr().unwrap())
    }

    async fn socket(&self) -> TcpStream {
        in_time("connection", self.listener.accept()).await.unwrap().0
    }

    pub async fn accept(&self) -> ScriptedAgent {
        self.accept_as(None).await
    }

    /// The same of a server that takes nobody who does not offer `protocol`, which it selects.
    pub async fn accept_speaking(&self, protocol: &'static str) -> ScriptedAgent {
        self.accept_as(Some(protocol)).await
    }

    async fn accept_as(&self, protocol: Option<&'static str>) -> ScriptedAgent {
        let socket = self.socket().await;
        match &self.tls {
            None => Self::handshake(Box::new(socket), protocol).await,
            Some(tls) => {
                let socket = in_time("TLS", tls.accept(socket)).await.unwrap();
                Self::handshake(Box::new(socket), protocol).await
            }
        }
    }

    async fn handshake(socket: Box<dyn Wire>, protocol: Option<&'static str>) -> ScriptedAgent {
        let (mut path, mut headers) = (String::new(), HeaderMap::new());
        #[expect(clippy::result_large_err, reason = "the type is tungstenite's")]
        let look = |request: &Request, mut response: Response| {
            path = request.uri().to_string();
            headers.clone_from(request.headers());
            if let Some(protocol) = protocol {
                let protocol = HeaderValue::from_static(protocol);
                if request.headers().get(SEC_WEBSOCKET_PROTOCOL) != Some(&protocol) {
                    let mut refusal = ErrorResponse::new(Some("missing subprotocol".to_owned()));
                    *refusal.status_mut() = StatusCode::BAD_REQUEST;
                    return Err(refusal);
                }
                response.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, protocol);
            }
            Ok(response)
        };
        let stream = in_time("handshake", accept_hdr_async(socket, look)).await.unwrap();
        ScriptedAgent { stream, path, headers }
    }

    /// Takes a connection and says nothing until it is given up.
    pub async fn accept_and_ignore(&self) {
        let mut socket = self.socket().await;
        let mut bytes = Vec::new();
        in_time("end of the connection", socket.read_to_end(&mut bytes)).await.unwrap();
        assert!(bytes.starts_with(b"GET / HTTP/1.1"));
    }

    /// Takes a connection whose TLS the other side gives up.
    pub async fn refuse_tls(&self) {
        let socket = self.socket().await;
        let tls = self.tls.as_ref().expect("a server on wss");
        assert!(in_time("TLS", tls.accept(socket)).await.is_err(), "a stranger was trusted");
    }

    pub async fn refuse_with_403(&self) {
        let mut socket = self.socket().await;
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            request.push(in_time("request", socket.read_u8()).await.unwrap());
        }
        let answer = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n";
        socket.write_all(answer).await.unwrap();
    }
}

/// What a WebSocket runs over.
trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

/// An agent that does what the check says.
pub struct ScriptedAgent {
    stream: WebSocketStream<Box<dyn Wire>>,
    pub path: String,
    headers: HeaderMap,
}

impl ScriptedAgent {
    /// A header of the request that opened the WebSocket.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    pub async fn send(&mut self, text: &str) {
        self.send_message(Message::text(text)).await;
    }

    pub async fn send_message(&mut self, message: Message) {
        in_time("room to send", self.stream.send(message)).await.unwrap();
    }

    /// Sends what the other side may refuse to take; whether it did is not of interest.
    pub async fn try_send(&mut self, text: &str) {
        self.try_send_message(Message::text(text)).await;
    }

    /// The same with any message.
    pub async fn try_send_message(&mut self, message: Message) {
        drop(in_time("room to send", self.stream.send(message)).await);
    }

    /// Sends bytes as they are, past the protocol.
    pub async fn write_raw(&mut self, bytes: &[u8]) {
        in_time("room to write", self.stream.get_mut().write_all(bytes)).await.unwrap();
    }

    pub async fn message(&mut self) -> Message {
        in_time("message", self.stream.next()).await.expect("an open stream").unwrap()
    }

    pub async fn json(&mut self) -> Value {
        let message = self.message().await;
        serde_json::from_str(message.to_text().unwrap()).unwrap()
    }

    /// The names of the next marks, skipping everything else.
    pub async fn marks(&mut self, count: usize) -> Vec<String> {
        let mut names = Vec::new();
        while names.len() < count {
            let message = self.json().await;
            if message["event"] == "mark" {
                names.push(message["mark"]["name"].as_str().unwrap().to_owned());
            }
        }
        names
    }

    pub async fn close(&mut self, code: u16) {
        let frame = CloseFrame { code: code.into(), reason: "".into() };
        self.send_message(Message::Close(Some(frame))).await;
    }

    /// The code with which the other side closes, skipping everything before.
    pub async fn close_code(&mut self) -> Option<u16> {
        loop {
            if let Message::Close(frame) = self.message().await {
                return frame.map(|frame| u16::from(frame.code));
            }
        }
    }
}

/// A call with an agent: everything the agent's task sees of it.
pub struct Call {
    pub handle: AgentHandle,
    pub events: mailbox::Receiver<AgentEvent>,
    pub media: FakeMedia,
    /// The word that came with its last failure.
    pub why: Option<String>,
}

impl Call {
    pub fn start(url: &str) -> Self {
        Self::start_trusting(url, TrustRoots::native())
    }

    pub fn start_trusting(url: &str, roots: TrustRoots) -> Self {
        Self::start_as(url, roots, Access::default())
    }

    /// The same, with what proves who we are.
    pub fn start_as(url: &str, roots: TrustRoots, access: Access) -> Self {
        let settings = profile(AgentKind::Twilio(TwilioAgent {
            url: url.to_owned(),
            auth_token: Secret::new("token".to_owned()),
            parameters: vec![("mood".to_owned(), "good".to_owned())],
            access,
            connect_timeout: CONNECT_TIMEOUT,
        }));
        Self::start_all(settings, roots, false)
    }

    /// The same with keys that are not for the agent.
    pub fn start_without_keys(url: &str) -> Self {
        let settings = profile(AgentKind::Twilio(TwilioAgent {
            url: url.to_owned(),
            auth_token: Secret::default(),
            parameters: Vec::new(),
            access: Access::default(),
            connect_timeout: CONNECT_TIMEOUT,
        }));
        Self::start_all(settings, TrustRoots::native(), true)
    }

    pub fn start_with(settings: AgentSettings) -> Self {
        Self::start_all(settings, TrustRoots::native(), false)
    }

    fn start_all(settings: AgentSettings, roots: TrustRoots, keys_private: bool) -> Self {
        let call = AgentCall {
            call_id: CallId::from_uuid(Uuid::from_u128(1)),
            tenant: TenantId::from_uuid(Uuid::from_u128(2)),
            caller: "+15550111".to_owned(),
            dialled: "+15550100".parse().unwrap(),
            variables: CallVariables::default(),
            trace: None,
            before: None,
        };
        Self::with(|mut end, events| {
            if keys_private {
                end.keep_keys_private();
            }
            let awaited = AwaitedAgents::default();
            let health = AgentHealth::default();
            let next = false;
            let setup =
                AgentSetup { settings, call, end, roots, awaited, give_back: None, health, next };
            agent_task::start(setup, events)
        })
    }

    pub fn start_fallback() -> Self {
        let fallback = Announcement::Fallback;
        Self::with(|end, events| agent_task::start_announcement(fallback, end, events))
    }

    fn with(start: impl FnOnce(AgentEnd, mailbox::Sender<AgentEvent>) -> AgentHandle) -> Self {
        let (media_end, end) = link();
        let (events_in, events) = mailbox::bounded(16);
        let handle = start(end, events_in);
        handle.call_answered();
        Self { handle, events, media: FakeMedia::new(media_end), why: None }
    }

    /// A call whose agent is there, past the first two messages.
    pub async fn connected() -> (Self, ScriptedAgent) {
        let server = Server::bind().await;
        let mut call = Self::start(&server.url("/"));
        let mut agent = server.accept().await;
        assert_eq!(call.event().await, AgentEvent::Ready);
        assert_eq!(agent.json().await["event"], "connected");
        assert_eq!(agent.json().await["event"], "start");
        (call, agent)
    }

    /// The next event; the word of a failure goes to `why`.
    pub async fn event(&mut self) -> AgentEvent {
        let event = in_time("event", self.events.recv()).await.expect("a running task");
        self.without_why(event)
    }

    fn without_why(&mut self, event: AgentEvent) -> AgentEvent {
        let mut keep = |why: Option<FaultWord>| self.why = why.map(|why| why.to_string());
        match event {
            AgentEvent::Failed(cause, why) => {
                keep(why);
                AgentEvent::Failed(cause, None)
            }
            AgentEvent::Lost(cause, why) => {
                keep(why);
                AgentEvent::Lost(cause, None)
            }
            event => event,
        }
    }

    /// The next event of a call whose media goes on.
    pub async fn event_while_playing(&mut self) -> AgentEvent {
        let Self { events, media, .. } = &mut *self;
        let playing = async {
            loop {
                media.step();
                yield_now().await;
            }
        };
        let event = tokio::select! {
            event = in_time("event", events.recv()) => event.expect("a running task"),
            () = playing => unreachable!("it plays for ever"),
        };
        self.without_why(event)
    }

    /// Ends the call; what the agent's task has to say of it is returned, its last event.
    pub async fn end(self) -> AgentCounters {
        self.handle.end();
        counters(self.events).await
    }

    /// The last event of a task that ended by itself.
    pub async fn notes(self) -> AgentCounters {
        counters(self.events).await
    }
}

async fn counters(mut events: mailbox::Receiver<AgentEvent>) -> AgentCounters {
    let event = in_time("last event", events.recv()).await;
    let Some(AgentEvent::Notes(counters)) = event else { panic!("{event:?} is not the last") };
    assert_eq!(in_time("end of the task", events.recv()).await, None);
    *counters
}

/// The media thread's side of the link, without a clock.
pub struct FakeMedia {
    end: MediaEnd,
    epoch: u64,
    played: Vec<u8>,
    /// Samples played since the last clear.
    since_clear: u64,
    marks: usize,
}

impl FakeMedia {
    pub const fn new(end: MediaEnd) -> Self {
        Self { end, epoch: 0, played: Vec::new(), since_clear: 0, marks: 0 }
    }

    fn wake(&self) {
        self.end.take_waker().into_iter().for_each(Waker::wake);
    }

    /// 20 ms of the caller, all of this value.
    pub fn say(&mut self, value: u8) {
        assert!(self.end.push_frame(&[value; FRAME_BYTES]), "the agent's task does not keep up");
        self.wake();
    }

    pub fn press(&mut self, digit: char) {
        assert!(self.end.push_digit(digit));
        self.wake();
    }

    /// Plays until `bytes` were played, and returns them.
    pub async fn play(&mut self, bytes: usize) -> Vec<u8> {
        in_time("audio", async {
            while self.played.len() < bytes {
                self.step();
                yield_now().await;
            }
        })
        .await;
        self.played.drain(..bytes).collect()
    }

    /// Plays until so many marks were passed since the start.
    pub async fn play_marks(&mut self, marks: usize) {
        in_time("mark", async {
            while self.marks < marks {
                self.step();
                yield_now().await;
            }
        })
        .await;
    }

    /// Plays nothing until the queue stopped growing because it has its fill; returns its bytes.
    pub async fn wait_until_full(&mut self, full_bytes: u64) -> u64 {
        in_time("full queue", async {
            while self.end.queued_units() < full_bytes {
                // As in a real call, the caller's audio keeps the task awake.
                self.end.push_frame(&[0xff; FRAME_BYTES]);
                self.wake();
                yield_now().await;
            }
        })
        .await;
        self.end.queued_units()
    }

    /// The caller talks for so many frames, as fast as the agent's task listens. What finds no room is silence to it.
    pub async fn talk(&mut self, frames: u64) {
        in_time("ear", async {
            for _ in 0..frames {
                if !self.end.push_frame(&[0x55; FRAME_BYTES]) {
                    self.wake();
                    yield_now().await;
                }
            }
            self.wake();
        })
        .await;
    }

    /// Plays nothing until the queue is cleared, and answers that.
    pub async fn wait_for_clear(&mut self) {
        in_time("clear", async {
            while self.end.epoch() == self.epoch {
                self.wake();
                yield_now().await;
            }
        })
        .await;
        self.step();
    }

    /// What one tick does, without the limit of 20 ms.
    fn step(&mut self) {
        let epoch = self.end.epoch();
        while let Some(mut segment) = self.end.pop() {
            self.end.consumed(segment.bytes.len());
            if segment.epoch >= epoch {
                self.played.extend_from_slice(&segment.bytes);
                self.since_clear += segment.bytes.len() as u64;
                for (_, id) in &segment.marks {
                    assert!(self.end.push_mark(*id, 0));
                    self.marks += 1;
                }
                segment.forget_marks();
                if segment.finish {
                    assert!(self.end.push_drained());
                }
            }
            self.end.give_back(segment);
        }
        if epoch != self.epoch {
            self.epoch = epoch;
            let samples = std::mem::take(&mut self.since_clear);
            assert!(self.end.push_cleared(epoch, (0, samples)));
        }
        self.wake();
    }
}
