//! Calls with agents of other dialects than Media Streams: what such an agent wants of its call, and how it gets
//! there.

use crate::bot::BOT_HZ;
use crate::call_out;
use crate::carrier;
use crate::carrier::CALLED;
use crate::carrier::answer;
use crate::carrier::hear_bye;
use crate::node::Home;
use crate::node::Node;
use crate::node::PATIENCE;
use crate::node::wait_for;
use crate::postgres;
use crate::rows;
use crate::sipp_carrier::Gateway;
use crate::steering::packet;
use crate::talk;
use crate::talk::CALLER_HZ;
use crate::talk::Talk;
use crate::transfers::talking;
use crate::transfers::transfer;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures_util::SinkExt;
use futures_util::StreamExt;
use serde_json::Value;
use serde_json::json;
use std::collections::HashSet;
use std::f32::consts::TAU;
use std::net::SocketAddr;
use tandem::audio::g711;
use tandem::caller::EndedBy;
use tandem::store::api_keys::KeyRole;
use tandem::types::codec::Codec;
use tandem::types::codec::Law;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::accept_async;
use tokio_tungstenite::accept_hdr_async;
use tokio_tungstenite::client_async;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::handshake::server::Request;
use tokio_tungstenite::tungstenite::handshake::server::Response;
use uuid::Uuid;

pub(crate) const NUMBER: &str = "+15550131";

pub(crate) async fn node(agent: Value) -> Node {
    let node = Home::new().start().await;
    node.put(&[
        rows::tenant(1, 0),
        rows::trunk(2, "127.0.0.1/32"),
        rows::profile(3, 1, agent),
        rows::number(4, 1, 3, NUMBER),
    ])
    .await;
    node
}

/// The bot's tone, µ-law.
pub(crate) fn tone(ms: usize) -> Vec<u8> {
    let sample = |n: usize| (TAU * f32::from(BOT_HZ) * n as f32 / 8_000.0).sin() * 8_000.0;
    (0..ms * 8).map(|n| g711::ulaw_encode(sample(n) as i16)).collect()
}

/// A scripted Realtime server.
pub(crate) struct Server {
    socket: WebSocketStream<TcpStream>,
}

impl Server {
    pub(crate) async fn accept(listener: &TcpListener) -> Self {
        let (stream, _) = timeout(PATIENCE, listener.accept()).await.expect("a dial").unwrap();
        let mut server = Self { socket: accept_async(stream).await.unwrap() };
        server.send(json!({"type": "session.created"})).await;
        let update = server.event().await;
        assert_eq!(update["session"]["instructions"], "You answer.", "the profile's prompt");
        server.send(json!({"type": "session.updated"})).await;
        assert_eq!(server.event().await["type"], "response.create");
        server.send(json!({"type": "response.created"})).await;
        server
    }

    /// The same of one that is dialled again in a call; what it is told of that before it is to speak.
    pub(crate) async fn accept_back(listener: &TcpListener) -> (Self, Vec<Value>) {
        loop {
            let Some(mut socket) = accept_back(listener).await else { continue };
            let created = json!({"type": "session.created"}).to_string();
            // A dial that was given up is followed by another.
            if socket.send(Message::text(created)).await.is_err() {
                continue;
            }
            let Some(Ok(Message::Text(_))) = socket.next().await else { continue };
            let mut server = Self { socket };
            server.send(json!({"type": "session.updated"})).await;
            let mut told = Vec::new();
            loop {
                let event = server.event().await;
                if event["type"] == "response.create" {
                    server.send(json!({"type": "response.created"})).await;
                    return (server, told);
                }
                told.push(event);
            }
        }
    }

    pub(crate) async fn send(&mut self, event: Value) {
        self.socket.send(Message::text(event.to_string())).await.unwrap();
    }

    /// The next event, past the caller's audio.
    async fn event(&mut self) -> Value {
        loop {
            let next = timeout(PATIENCE, self.socket.next()).await.expect("an event");
            if let Message::Text(text) = next.expect("an open socket").unwrap() {
                let event: Value = serde_json::from_str(&text).unwrap();
                if event["type"] != "input_audio_buffer.append" {
                    return event;
                }
            }
        }
    }

    /// The next of the caller's audio.
    pub(crate) async fn hear(&mut self) -> Vec<u8> {
        loop {
            let next = self.socket.next().await;
            if let Message::Text(text) = next.expect("an open socket").unwrap() {
                let event: Value = serde_json::from_str(&text).unwrap();
                if let Some(audio) = event["audio"].as_str() {
                    return STANDARD.decode(audio).unwrap();
                }
            }
        }
    }

    pub(crate) async fn say(&mut self, ms: usize) {
        let delta = STANDARD.encode(tone(ms));
        self.send(json!({"type": "response.output_audio.delta", "item_id": "i", "delta": delta}))
            .await;
    }

    pub(crate) async fn call(&mut self, id: &str, name: &str, arguments: Value) {
        let item = json!({
            "type": "function_call", "call_id": id, "name": name,
            "arguments": arguments.to_string(),
        });
        self.send(json!({"type": "response.output_item.done", "item": item})).await;
        self.send(json!({"type": "response.done"})).await;
    }

    /// What the function of this id came to.
    async fn output(&mut self, id: &str) -> String {
        loop {
            let event = self.event().await;
            if event["item"]["call_id"] == id {
                return event["item"]["output"].as_str().unwrap().to_owned();
            }
        }
    }
}

pub(crate) async fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// Takes a dial that says that the call was led before by a connection that broke; `None`: it was given up meanwhile.
pub(crate) async fn accept_back(listener: &TcpListener) -> Option<WebSocketStream<TcpStream>> {
    let (stream, _) = timeout(PATIENCE, listener.accept()).await.expect("a dial").unwrap();
    let mut resumed = None;
    #[expect(clippy::result_large_err, reason = "the type is tungstenite's")]
    let note = |request: &Request, response: Response| {
        let value = request.headers().get("x-tandem-resumed");
        resumed = value.map(|value| value.to_str().unwrap().to_owned());
        Ok(response)
    };
    let socket = accept_hdr_async(stream, note).await.ok()?;
    assert_eq!(resumed.as_deref(), Some("reconnect"));
    Some(socket)
}

/// A code of A-law as it is after a way by µ-law.
fn by_way_of_ulaw(code: u8) -> u8 {
    let mut code = [code];
    g711::to_ulaw(Law::A, &mut code);
    g711::from_ulaw(Law::A, &mut code);
    code[0]
}

#[tokio::test]
async fn a_model_of_alaw_hears_a_caller_of_alaw_as_it_came() {
    let (listener, address) = listener().await;
    let url = format!("ws://{address}/?model=m");
    let node = node(json!({"kind": "realtime", "url": url, "audio": "alaw"})).await;
    let mut plan = talk::plan(node.sip(), NUMBER);
    plan.codecs = vec![Codec::Pcma];
    let talk = Talk::dial(plan);
    let mut server = Server::accept(&listener).await;
    let detour: HashSet<u8> = (0..=u8::MAX).map(by_way_of_ulaw).collect();
    assert_eq!(detour.len(), 256 - 16);
    timeout(PATIENCE, async {
        while server.hear().await.iter().all(|code| detour.contains(code)) {}
    })
    .await
    .expect("codes that are lost by way of mu-law");
    talk.hang_up().await;
}

#[tokio::test]
async fn a_model_presses_keys_says_goodbye_and_its_words_are_the_transcript() {
    let (listener, address) = listener().await;
    let agent = json!({"kind": "realtime", "url": format!("ws://{address}/?model=m")});
    let node = node(agent).await;
    let talk = Talk::dial(talk::plan(node.sip(), NUMBER));
    let mut server = Server::accept(&listener).await;
    server
        .send(json!({"type": "response.output_audio_transcript.done", "transcript": "Hello."}))
        .await;
    let caller = "conversation.item.input_audio_transcription.completed";
    server.send(json!({"type": caller, "transcript": "Goodbye."})).await;
    server.say(500).await;
    server.call("c1", "send_dtmf", json!({"digits": "12#"})).await;
    assert_eq!(server.output("c1").await, json!({"status": "done"}).to_string());
    server.call("c2", "send_dtmf", json!({"digits": "no keys"})).await;
    assert_eq!(server.output("c2").await, json!({"error": "no_keys"}).to_string());
    server.say(1_000).await;
    server.call("c3", "end_call", json!({})).await;
    let summary = talk.over().await;
    assert_eq!((summary.problem.as_ref(), summary.ended_by), (None, Some(EndedBy::FarEnd)));
    assert_eq!(summary.digits_heard, "12#");
    // Three keys, 200 ms each, take the place of some of the goodbye; the rest of it is heard before the end.
    assert!(summary.heard.sound.as_millis() >= 800, "{:?}", summary.heard);
    let record = node.record(&summary.call_id).await;
    assert_eq!((record.cause.as_str(), record.ended_by.as_str()), ("normal", "agent"));
    let turns = "SELECT count(*) FROM transcripts WHERE \
                 (seq, speaker, text) IN ((0, 'agent', 'Hello.'), (1, 'caller', 'Goodbye.'))";
    wait_for("the transcript", async || (node.count(turns).await == 2).then_some(())).await;
    let asked = "SELECT count(*) FROM call_events WHERE name = 'agent_asked' AND \
                 (detail->>'refused' IS NULL OR detail->>'refused' = 'no_keys')";
    wait_for("both wishes", async || (node.count(asked).await == 2).then_some(())).await;
}

#[tokio::test]
async fn a_model_presses_keys_for_whom_it_consults_and_not_for_the_caller_who_waits() {
    let (listener, address) = listener().await;
    let agent = json!({"kind": "realtime", "url": format!("ws://{address}/?model=m")});
    let (node, mut target, key) = call_out::node(agent, json!({})).await;
    let ((mut phone, _, call), mut server) =
        tokio::join!(talking(&node), Server::accept(&listener));
    transfer(&node, &key, &call, json!({"to": CALLED, "mode": "attended"})).await;
    answer(&mut target).await;
    server.call("c1", "send_dtmf", json!({"digits": "4"})).await;
    assert_eq!(server.output("c1").await, json!({"status": "done"}).to_string());
    let pressed = async {
        loop {
            let (kind, event) = packet(&target).await;
            if kind == 101 {
                break event[0];
            }
        }
    };
    assert_eq!(timeout(PATIENCE, pressed).await.expect("the key"), 4);
    phone.hang_up().await;
    hear_bye(&target).await;
    node.record(&phone.call_id).await;
    let legs = "SELECT string_agg(detail->>'leg', ' ') FROM call_events WHERE name = 'keys_sent'";
    assert_eq!(postgres::text(&node.database(), legs).await, "far");
}

#[tokio::test]
async fn words_that_the_database_refuses_are_counted_and_hold_up_no_others() {
    let (listener, address) = listener().await;
    let node = node(json!({"kind": "realtime", "url": format!("ws://{address}/?model=m")})).await;
    let refuse = "ALTER TABLE transcripts ADD CONSTRAINT whimsical CHECK (text <> 'Hello.')";
    postgres::execute(&node.database(), refuse).await.unwrap();
    let talk = Talk::dial(talk::plan(node.sip(), NUMBER));
    let mut server = Server::accept(&listener).await;
    for text in ["Hello.", "Good day."] {
        let said = json!({"type": "response.output_audio_transcript.done", "transcript": text});
        server.send(said).await;
    }
    let stored = "SELECT count(*) FROM transcripts WHERE text = 'Good day.'";
    wait_for("the others", async || (node.count(stored).await == 1).then_some(())).await;
    assert_eq!(node.metric("transcript_turns_lost_total").await, 1);
    assert_eq!(talk.hang_up().await.problem, None);
}

#[tokio::test]
async fn a_model_puts_the_caller_through() {
    let (listener, address) = listener().await;
    let node = node(json!({"kind": "realtime", "url": format!("ws://{address}/")})).await;
    let mut desk = carrier::carrier(&node, "127.0.0.12").await;
    let uri = format!("sip:desk@{}", desk.local());
    let agent = json!({
        "kind": "realtime", "url": format!("ws://{address}/"), "transfer_to": [uri],
    });
    let narrowed =
        format!("UPDATE ai_profiles SET agent = '{agent}' WHERE id = '{}'", rows::uuid(3));
    node.put(&[narrowed]).await;
    let talk = Talk::dial(talk::plan(node.sip(), NUMBER));
    let mut server = Server::accept(&listener).await;
    server.say(300).await;
    server.call("c0", "transfer_call", json!({"to": "sip:elsewhere@127.0.0.1"})).await;
    assert!(server.output("c0").await.contains("error"), "only where the profile allows");
    server.call("c1", "transfer_call", json!({"to": uri})).await;
    assert_eq!(server.output("c1").await, json!({"status": "done"}).to_string());
    carrier::answer(&mut desk).await;
    wait_for("the bridge", async || event(&node, "bridged").await).await;
    talk.hang_up().await;
}

/// What an event of the only call says, as soon as the tenant is told of it.
async fn event(node: &Node, name: &str) -> Option<Value> {
    if node.count("SELECT count(*) FROM calls").await == 0 {
        return None;
    }
    let call = postgres::text(&node.database(), "SELECT id::text FROM calls").await;
    let key = carrier::key(node, 1, KeyRole::Viewer).await;
    let shown = node.read(&carrier::calls(1, &format!("/{call}")), &key).await;
    let mut events = shown["events"].as_array().unwrap().iter();
    events.find(|event| event["name"] == name).map(|event| event["detail"].clone())
}

/// A bot that dials the node, as Asterisk's do.
pub(crate) async fn come(node: &Node, path: &str) -> Result<WebSocketStream<TcpStream>, u16> {
    let stream = TcpStream::connect(node.http()).await.unwrap();
    let mut request = format!("ws://{}{path}", node.http()).into_client_request().unwrap();
    request.headers_mut().insert("sec-websocket-protocol", "media".parse().unwrap());
    match client_async(request, stream).await {
        Ok((socket, response)) => {
            assert_eq!(response.headers()["sec-websocket-protocol"], "media");
            Ok(socket)
        }
        Err(tokio_tungstenite::tungstenite::Error::Http(response)) => {
            Err(response.status().as_u16())
        }
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test]
async fn a_bot_of_asterisk_dials_the_node_and_talks() {
    let agent = json!({"kind": "chan_websocket", "incoming": true, "connect_timeout_ms": 30_000});
    let node = node(agent).await;
    assert_eq!(come(&node, "/media/0123456789abcdef0123456789abcdef").await.err(), Some(404));
    let mut talk = Talk::dial(talk::plan(node.sip(), NUMBER));
    // What the tenant is told of the call.
    let told = wait_for("the id of the connection", async || event(&node, "agent_awaited").await);
    let path = told.await["path"].as_str().unwrap().to_owned();
    let mut bot = come(&node, &path).await.expect("it is awaited");
    assert_eq!(come(&node, &path).await.err(), Some(404), "an id is good once");
    let start = timeout(PATIENCE, bot.next()).await.unwrap().unwrap().unwrap();
    assert!(start.to_text().unwrap().contains("MEDIA_START"), "{start}");
    talk.hear(20).await;
    bot.send(Message::Binary(tone(1_000).into())).await.unwrap();
    bot.send(Message::text(r#"{"command":"MARK_MEDIA","correlation_id":"end"}"#)).await.unwrap();
    loop {
        let next = timeout(PATIENCE, bot.next()).await.expect("a message").unwrap().unwrap();
        if next.is_text() && next.to_text().unwrap().contains("MEDIA_MARK_PROCESSED") {
            break;
        }
    }
    bot.send(Message::text(r#"{"command":"HANGUP"}"#)).await.unwrap();
    let summary = talk.over().await;
    assert_eq!((summary.problem.as_ref(), summary.ended_by), (None, Some(EndedBy::FarEnd)));
    assert!(summary.heard.is_tone(BOT_HZ), "{:?}", summary.heard);
}

/// Types of packets of AudioSocket.
const HANG_UP: u8 = 0x00;
const ID: u8 = 0x01;
const KEY: u8 = 0x03;
const AUDIO: u8 = 0x10;

/// A bot at the other end of AudioSocket.
struct Packets(TcpStream);

impl Packets {
    /// The next packet: its type and its payload.
    async fn read(&mut self) -> (u8, Vec<u8>) {
        let mut header = [0; 3];
        timeout(PATIENCE, self.0.read_exact(&mut header)).await.expect("a packet").unwrap();
        let mut payload = vec![0; usize::from(u16::from_be_bytes([header[1], header[2]]))];
        timeout(PATIENCE, self.0.read_exact(&mut payload)).await.expect("all of it").unwrap();
        (header[0], payload)
    }

    async fn write(&mut self, kind: u8, payload: &[u8]) {
        let [high, low] = u16::try_from(payload.len()).unwrap().to_be_bytes();
        let header = [kind, high, low];
        self.0.write_all(&[&header[..], payload].concat()).await.unwrap();
    }

    /// Hears so many frames of 20 ms of the caller; the keys it pressed meanwhile are put behind `keys`.
    async fn hear(&mut self, frames: usize, keys: &mut String) -> Vec<i16> {
        let mut samples = Vec::new();
        while samples.len() < frames * 160 {
            match self.read().await {
                (AUDIO, payload) => {
                    let (pairs, _) = payload.as_chunks::<2>();
                    samples.extend(pairs.iter().map(|pair| i16::from_le_bytes(*pair)));
                }
                (KEY, payload) => keys.push(char::from(payload[0])),
                other => panic!("neither audio nor a key: {other:?}"),
            }
        }
        samples
    }
}

#[tokio::test]
async fn a_bot_of_audiosocket_hears_its_caller_and_the_keys_talks_and_hangs_up() {
    let (listener, address) = listener().await;
    let node = node(json!({"kind": "audiosocket", "address": address.to_string()})).await;
    let mut plan = talk::plan(node.sip(), NUMBER);
    plan.digits = "5#".to_owned();
    let talk = Talk::dial(plan);
    let (stream, _) = timeout(PATIENCE, listener.accept()).await.expect("a dial").unwrap();
    let mut bot = Packets(stream);
    let (kind, id) = bot.read().await;
    let call = Uuid::from_slice(&id).expect("the call");
    assert_eq!(kind, ID);
    let mut keys = String::new();
    timeout(PATIENCE, async {
        while keys.len() < 2 {
            bot.hear(1, &mut keys).await;
        }
    })
    .await
    .expect("two keys");
    // While a key is pressed there is no tone.
    let heard = bot.hear(75, &mut keys).await;
    let last = &heard[heard.len() - 4_000..];
    let rises = last.windows(2).filter(|pair| pair[0] < 0 && pair[1] >= 0).count();
    assert!((2 * rises).abs_diff(usize::from(CALLER_HZ)) <= 10, "{rises} waves in half a second");
    assert_eq!(keys, "5#");
    let said = tone(1_000).into_iter().flat_map(|code| g711::ulaw_decode(code).to_le_bytes());
    for frame in said.collect::<Vec<_>>().chunks(320) {
        bot.write(AUDIO, frame).await;
    }
    bot.write(HANG_UP, &[]).await;
    // It hears on until its last word was played.
    let end = loop {
        let packet = bot.read().await;
        if packet.0 != AUDIO {
            break packet;
        }
    };
    assert_eq!(end, (HANG_UP, Vec::new()));
    assert_eq!(timeout(PATIENCE, bot.0.read(&mut [0])).await.expect("its close").unwrap(), 0);
    let summary = talk.over().await;
    assert_eq!((summary.problem.as_ref(), summary.ended_by), (None, Some(EndedBy::FarEnd)));
    assert!(summary.heard.is_tone(BOT_HZ), "{:?}", summary.heard);
    let sound = summary.heard.sound;
    assert!((900..1_200).contains(&sound.as_millis()), "heard {sound:?} of 1 s");
    let record = node.record(&summary.call_id).await;
    assert_eq!((record.cause.as_str(), record.ended_by.as_str()), ("normal", "agent"));
    assert_eq!((record.digits, record.agent_failure), (2, None));
    let own = format!("SELECT count(*) FROM calls WHERE id = '{call}'");
    assert_eq!(node.count(&own).await, 1, "by the id it was told");
}

#[tokio::test]
async fn an_agent_in_a_network_that_is_not_allowed_is_not_dialled() {
    let (listener, address) = listener().await;
    let mut home = Home::new();
    home.set("TANDEM_AGENTS_ALLOW_NETWORKS", "192.0.2.0/24");
    let node = home.start().await;
    // By a name too, whose addresses are judged.
    let url = format!("ws://localhost:{}/", address.port());
    node.put(&[
        rows::tenant(1, 0),
        rows::trunk(2, "127.0.0.1/32"),
        rows::profile(3, 1, json!({"kind": "twilio", "url": url})),
        rows::number(4, 1, 3, NUMBER),
    ])
    .await;
    let summary = Talk::dial(talk::plan(node.sip(), NUMBER)).over().await;
    let record = node.record(&summary.call_id).await;
    assert_eq!(record.agent_failure.as_deref(), Some("agent_forbidden"));
    let dialled = timeout(std::time::Duration::ZERO, listener.accept()).await;
    assert!(dialled.is_err(), "it was dialled");
}

#[tokio::test]
async fn an_agent_behind_sip_that_asks_who_calls_is_told_by_digest() {
    // One knows the password of this node, the other does not.
    for (password, is_known) in [("open sesame", true), ("wrong", false)] {
        let sipp = Gateway::new("agent-challenges", 1).await;
        let home = Home::new();
        home.write("password", password);
        let node = home.start().await;
        node.put(&[
            rows::tenant(1, 0),
            rows::trunk(2, "127.0.0.1/32"),
            rows::profile(
                3,
                1,
                json!({"kind": "sip", "uri": format!("sip:bot@{}", sipp.address),
                       "username": "tandem", "password_ref": "file:password"}),
            ),
            rows::number(4, 1, 3, NUMBER),
        ])
        .await;
        let summary = Talk::dial(talk::plan(node.sip(), NUMBER)).over().await;
        sipp.finishes().await;
        let record = node.record(&summary.call_id).await;
        if is_known {
            assert_eq!(
                (record.cause.as_str(), record.has_fallback),
                ("normal", false),
                "{record:?}"
            );
        } else {
            assert!(record.agent_failure.is_some() && record.has_fallback, "{record:?}");
        }
    }
}
