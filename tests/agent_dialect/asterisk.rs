//! Agents of Asterisk: chan_websocket and AudioSocket.

#![expect(clippy::unwrap_used, reason = "a failed check may panic")]

use crate::agent_support::Call;
use crate::agent_support::FakeMedia;
use crate::agent_support::ScriptedAgent;
use crate::agent_support::Server;
use crate::agent_support::in_time;
use crate::agent_support::profile;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use serde_json::json;
use std::time::Duration;
use tandem::audio::g711;
use tandem::audio::link::link;
use tandem::audio::link::link_of;
use tandem::engine::agent_task::AgentEvent;
use tandem::types::agent::Access;
use tandem::types::agent::AgentAudio;
use tandem::types::agent::AgentKind;
use tandem::types::agent::AudioSocketAgent;
use tandem::types::agent::ChanWebsocketAgent;
use tandem::types::agent::ControlForm;
use tandem::types::cause::HangupCause;
use tandem::types::codec::Law;
use tandem::types::limit::AGENT_GARBAGE_MAX;
use tandem::types::limit::AGENT_MESSAGE_BYTES_MAX;
use tandem::types::limit::AGENT_PLAYOUT_MS_MAX;
use tandem::types::peer::Credentials;
use tandem::types::secret::Secret;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

fn bot(url: String, access: Access) -> ChanWebsocketAgent {
    ChanWebsocketAgent {
        url: Some(url),
        access,
        audio: AgentAudio::Ulaw,
        control: ControlForm::Json,
        parameters: Vec::new(),
        connect_timeout: CONNECT_TIMEOUT,
    }
}

/// A call with a bot that selects no subprotocol.
async fn channel(audio: AgentAudio, control: ControlForm) -> (Call, ScriptedAgent, String) {
    let server = Server::bind().await;
    let bearer = Secret::new("let-me-in".to_owned());
    let access = Access { bearer, ..Access::default() };
    let bot = ChanWebsocketAgent { audio, control, ..bot(server.url("/media"), access) };
    let mut call = Call::start_with(profile(AgentKind::ChanWebsocket(bot)));
    let mut agent = server.accept().await;
    assert_eq!(agent.header("authorization"), Some("Bearer let-me-in"));
    assert_eq!(agent.header("sec-websocket-protocol"), Some("media"), "it is offered all the same");
    let start = agent.message().await.into_text().unwrap().to_string();
    assert_eq!(call.event().await, AgentEvent::Ready);
    (call, agent, start)
}

async fn ulaw() -> (Call, ScriptedAgent) {
    let (call, agent, _) = channel(AgentAudio::Ulaw, ControlForm::Json).await;
    (call, agent)
}

fn command(word: &str, id: &str) -> String {
    json!({"command": word, "correlation_id": id}).to_string()
}

/// The next event, past the caller's audio.
async fn event(agent: &mut ScriptedAgent) -> Value {
    loop {
        if let Message::Text(text) = agent.message().await {
            return serde_json::from_str(&text).unwrap();
        }
    }
}

/// A tone whose samples are those that µ-law has.
fn samples(count: usize) -> Vec<i16> {
    let wave = |n: usize| (6_000.0 * (n as f64 * 0.3).sin()) as i16;
    (0..count).map(|n| g711::ulaw_decode(g711::ulaw_encode(wave(n)))).collect()
}

fn as_ulaw(samples: &[i16]) -> Vec<u8> {
    samples.iter().map(|sample| g711::ulaw_encode(*sample)).collect()
}

fn as_l16(samples: &[i16]) -> Vec<u8> {
    samples.iter().flat_map(|sample| sample.to_le_bytes()).collect()
}

#[tokio::test]
async fn a_channel_carries_audio_both_ways_in_its_format() {
    let (mut call, mut agent, start) =
        channel(AgentAudio::L16 { rate: 8_000 }, ControlForm::Json).await;
    let start: Value = serde_json::from_str(&start).unwrap();
    assert_eq!((&start["event"], &start["format"]), (&json!("MEDIA_START"), &json!("slin")));
    assert_eq!(start["channel_variables"]["to_number"], "+15550100");
    call.media.say(0x21);
    let expected = as_l16(&[g711::ulaw_decode(0x21); 160]);
    assert_eq!(agent.message().await, Message::Binary(expected.into()));
    let said = samples(4_000);
    // Odd bytes too.
    for piece in as_l16(&said).chunks(777) {
        agent.send_message(Message::Binary(piece.to_vec().into())).await;
    }
    assert_eq!(call.media.play(4_000).await, as_ulaw(&said));
    call.media.press('7');
    let key = event(&mut agent).await;
    assert_eq!((&key["event"], &key["digit"]), (&json!("DTMF_END"), &json!("7")));
}

#[tokio::test]
async fn a_server_that_wants_an_account_and_takes_its_subprotocol_alone_takes_us() {
    let server = Server::bind().await;
    let password = Secret::new("media:pässword".to_owned());
    let account = Credentials { username: "medianame".to_owned(), password };
    let access = Access { basic: Some(account), ..Access::default() };
    let bot = bot(server.url("/media"), access);
    let mut call = Call::start_with(profile(AgentKind::ChanWebsocket(bot)));
    let mut agent = server.accept_speaking("media").await;
    let told = format!("Basic {}", STANDARD.encode("medianame:media:pässword"));
    assert_eq!(agent.header("authorization"), Some(told.as_str()));
    assert_eq!(event(&mut agent).await["event"], "MEDIA_START");
    assert_eq!(call.event().await, AgentEvent::Ready);
    agent.send_message(Message::Binary(vec![7; 160].into())).await;
    assert_eq!(call.media.play(160).await, [7; 160]);
}

#[tokio::test]
async fn a_channel_of_words_is_spoken_to_in_words() {
    let (mut call, mut agent, start) = channel(AgentAudio::Alaw, ControlForm::Plain).await;
    assert!(start.starts_with("MEDIA_START connection_id:"), "{start}");
    assert!(start.contains(" format:alaw optimal_frame_size:160 ptime:20"), "{start}");
    agent.send("MARK_MEDIA here").await;
    call.media.play_marks(1).await;
    assert_eq!(agent.message().await, Message::text("MEDIA_MARK_PROCESSED here"));
}

#[tokio::test]
async fn a_bot_of_a_law_on_links_of_ulaw_is_heard_and_hears_turned() {
    let (mut call, mut agent, _) = channel(AgentAudio::Alaw, ControlForm::Plain).await;
    let mut turned = [0x10];
    g711::to_ulaw(Law::A, &mut turned);
    agent.send_message(Message::Binary(vec![0x10; 160].into())).await;
    assert_eq!(call.media.play(160).await, [turned[0]; 160]);
    call.media.say(turned[0]);
    assert_eq!(agent.message().await, Message::Binary(vec![0x10; 160].into()));
    // Which goes on over the next link.
    let (media, end) = link();
    call.handle.relink(end);
    let _before = std::mem::replace(&mut call.media, FakeMedia::new(media));
    agent.send_message(Message::Binary(vec![0x10; 160].into())).await;
    assert_eq!(call.media.play(160).await, [turned[0]; 160]);
}

#[tokio::test]
async fn a_bot_of_a_law_has_every_code_as_it_is_over_a_link_of_that() {
    let (mut call, mut agent, _) = channel(AgentAudio::Alaw, ControlForm::Plain).await;
    let (media, end) = link_of(Law::A);
    call.handle.relink(end);
    let _before = std::mem::replace(&mut call.media, FakeMedia::new(media));
    let codes: Vec<u8> = (0..=u8::MAX).collect();
    agent.send_message(Message::Binary(codes.clone().into())).await;
    assert_eq!(call.media.play(256).await, codes);
    for code in codes {
        call.media.say(code);
        assert_eq!(agent.message().await, Message::Binary(vec![code; 160].into()));
    }
}

#[tokio::test]
async fn marks_follow_what_was_played_and_a_flush_takes_them_along() {
    let (mut call, mut agent) = ulaw().await;
    agent.send_message(Message::Binary(vec![1; 800].into())).await;
    agent.send(&command("MARK_MEDIA", "one")).await;
    assert_eq!(call.media.play(800).await, [1; 800]);
    call.media.play_marks(1).await;
    let played = event(&mut agent).await;
    assert_eq!(played["event"], "MEDIA_MARK_PROCESSED");
    assert_eq!(played["correlation_id"], "one");
    agent.send_message(Message::Binary(vec![2; 80_000].into())).await;
    agent.send(&command("MARK_MEDIA", "two")).await;
    agent.send(&command("FLUSH_MEDIA", "")).await;
    agent.send_message(Message::Binary(vec![3; 160].into())).await;
    agent.send(&command("MARK_MEDIA", "three")).await;
    assert_eq!(call.media.play(160).await, [3; 160], "what was flushed is never heard");
    call.media.play_marks(2).await;
    assert_eq!(event(&mut agent).await["correlation_id"], "three", "nothing is said of two");
}

#[tokio::test]
async fn a_flush_ends_the_wait_for_an_empty_queue() {
    let (mut call, mut agent) = ulaw().await;
    agent.send_message(Message::Binary(vec![2; 80_000].into())).await;
    agent.send(&command("REPORT_QUEUE_DRAINED", "")).await;
    agent.send(&command("GET_STATUS", "")).await;
    let status = event(&mut agent).await;
    assert_eq!((&status["event"], &status["queue_length"]), (&json!("STATUS"), &json!(500)));
    agent.send(&command("FLUSH_MEDIA", "")).await;
    call.media.wait_for_clear().await;
    assert_eq!(event(&mut agent).await["event"], "QUEUE_DRAINED");
}

#[tokio::test]
async fn an_agent_that_sends_too_fast_is_told_and_slowed_down_and_loses_nothing() {
    let (mut call, mut agent) = ulaw().await;
    let seconds = 90;
    let audio: Vec<u8> = (0..seconds * 8_000).map(|n| (n * 7 % 251) as u8).collect();
    let sent = audio.clone();
    let sending = tokio::spawn(async move {
        for piece in sent.chunks(8_000) {
            agent.send_message(Message::Binary(piece.to_vec().into())).await;
        }
        agent
    });
    let full = u64::from(AGENT_PLAYOUT_MS_MAX) * 8;
    let fullest = call.media.wait_until_full(full * 9 / 10).await;
    assert!(fullest <= full, "{fullest} bytes queued");
    assert!(call.media.play(audio.len()).await == audio, "not a byte is lost");
    let mut agent = sending.await.unwrap();
    agent.send(&command("REPORT_QUEUE_DRAINED", "")).await;
    let mut told = Vec::new();
    loop {
        match event(&mut agent).await["event"].as_str().unwrap() {
            "QUEUE_DRAINED" => break,
            other => told.push(other.to_owned()),
        }
    }
    // As often as it was too fast again.
    let pairs = told.chunks(2).filter(|pair| *pair == ["MEDIA_XOFF", "MEDIA_XON"]);
    assert!(pairs.count() * 2 == told.len() && !told.is_empty(), "{told:?}");
}

#[tokio::test]
async fn a_channel_hangs_up_by_command_and_after_its_words_by_closing() {
    let (mut call, mut agent) = ulaw().await;
    agent.send(&command("HANGUP", "")).await;
    assert_eq!(call.event().await, AgentEvent::HangupRequested);
    let (mut call, mut agent) = ulaw().await;
    agent.send_message(Message::Binary(vec![9; 1_600].into())).await;
    agent.close(1000).await;
    assert_eq!(call.media.play(1_600).await, [9; 1_600]);
    assert_eq!(call.event_while_playing().await, AgentEvent::HangupRequested);
}

#[tokio::test]
async fn a_bad_channel_harms_nobody() {
    let (mut call, mut agent) = ulaw().await;
    agent.send_message(Message::Binary(vec![].into())).await;
    agent.send(&command("MARK_MEDIA", "")).await;
    for text in ["{", "", "[]", "\u{0}", r#"{"command":null}"#] {
        agent.send(text).await;
    }
    for _ in 0..1_000 {
        agent.send(r#"{"command":"DANCE"}"#).await;
    }
    // Last, so that all before it was heard once this is played.
    for byte in 0..1_000_u32 {
        agent.send_message(Message::Binary(vec![byte as u8].into())).await;
    }
    let expected: Vec<u8> = (0..1_000_u32).map(|byte| byte as u8).collect();
    assert_eq!(call.media.play(1_000).await, expected);
    let notes = call.end().await;
    assert_eq!((notes.garbage.json, notes.unknown, notes.marks), (5, 1_000, 1));

    let (mut call, mut agent) = ulaw().await;
    for _ in 0..AGENT_GARBAGE_MAX {
        agent.send("{").await;
    }
    assert_eq!(call.event().await, AgentEvent::Lost(HangupCause::AgentGarbage, None));

    let (mut call, mut agent) = ulaw().await;
    let huge = Message::Binary(vec![0; AGENT_MESSAGE_BYTES_MAX + 1].into());
    let (_, event) = tokio::join!(agent.try_send_message(huge), call.event());
    assert_eq!(event, AgentEvent::Lost(HangupCause::AgentGarbage, None));
}

#[tokio::test]
async fn a_channel_that_never_reads_costs_its_own_audio_only() {
    let (mut call, agent) = ulaw().await;
    call.media.talk(30_000).await;
    let notes = call.end().await;
    assert!(notes.frames_dropped > 0, "sockets cannot hold ten minutes");
    drop(agent);
}

/// An AudioSocket agent's end.
struct Packets(TcpStream);

impl Packets {
    async fn read(&mut self) -> (u8, Vec<u8>) {
        let mut header = [0; 3];
        in_time("packet", self.0.read_exact(&mut header)).await.unwrap();
        let mut payload = vec![0; usize::from(u16::from_be_bytes([header[1], header[2]]))];
        in_time("payload", self.0.read_exact(&mut payload)).await.unwrap();
        (header[0], payload)
    }

    async fn write(&mut self, kind: u8, payload: &[u8]) {
        let mut packet = vec![kind];
        packet.extend((payload.len() as u16).to_be_bytes());
        packet.extend(payload);
        in_time("room", self.0.write_all(&packet)).await.unwrap();
    }
}

async fn audio_socket() -> (Call, Packets) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut call = Call::start_with(profile(AgentKind::AudioSocket(AudioSocketAgent {
        address: listener.local_addr().unwrap().to_string(),
        rate: 8_000,
        connect_timeout: CONNECT_TIMEOUT,
    })));
    let (socket, _) = in_time("connection", listener.accept()).await.unwrap();
    let mut packets = Packets(socket);
    let (kind, id) = packets.read().await;
    assert_eq!((kind, id.len(), id[15]), (1, 16, 1), "the call's id");
    assert_eq!(call.event().await, AgentEvent::Ready);
    (call, packets)
}

#[tokio::test]
async fn an_audio_socket_carries_audio_keys_and_the_end() {
    let (mut call, mut agent) = audio_socket().await;
    call.media.say(0x21);
    assert_eq!(agent.read().await, (0x10, as_l16(&[g711::ulaw_decode(0x21); 160])));
    call.media.press('#');
    assert_eq!(agent.read().await, (3, b"#".to_vec()));
    let said = samples(3_000);
    for piece in as_l16(&said).chunks(321) {
        agent.write(0x10, piece).await;
    }
    assert_eq!(call.media.play(3_000).await, as_ulaw(&said));
    call.end().await;
    assert_eq!(agent.read().await, (0, Vec::new()));
    assert_eq!(in_time("end", agent.0.read(&mut [0; 8])).await.unwrap(), 0);
}

#[tokio::test]
async fn an_audio_socket_ends_the_call_after_its_last_words() {
    for says_so in [true, false] {
        let (mut call, mut agent) = audio_socket().await;
        let said = samples(1_600);
        agent.write(0x10, &as_l16(&said)).await;
        if says_so {
            agent.write(0, &[]).await;
        }
        agent.0.shutdown().await.unwrap();
        assert_eq!(call.media.play(1_600).await, as_ulaw(&said));
        assert_eq!(call.event_while_playing().await, AgentEvent::HangupRequested);
    }
}

#[tokio::test]
async fn a_bad_audio_socket_harms_nobody() {
    let (mut call, mut agent) = audio_socket().await;
    // Half a header, and the rest later; strange packets in between.
    agent.0.write_all(&[0x10, 0]).await.unwrap();
    agent.0.write_all(&[2, 0, 0]).await.unwrap();
    for _ in 0..10 {
        agent.write(0x42, &[7; 50]).await;
    }
    agent.write(0x10, &[0, 0]).await;
    assert_eq!(call.media.play(2).await, [0xff; 2]);
    let notes = call.end().await;
    assert_eq!(notes.garbage.binary, 10);

    let (mut call, mut agent) = audio_socket().await;
    for _ in 0..AGENT_GARBAGE_MAX {
        agent.write(0x42, &[]).await;
    }
    assert_eq!(call.event().await, AgentEvent::Lost(HangupCause::AgentGarbage, None));
}

#[tokio::test]
async fn an_audio_socket_that_never_reads_costs_its_own_audio_only() {
    let (mut call, agent) = audio_socket().await;
    call.media.talk(30_000).await;
    let notes = call.end().await;
    assert!(notes.frames_dropped > 0, "sockets cannot hold ten minutes");
    drop(agent);
}

#[tokio::test]
async fn an_audio_socket_that_is_closed_within_a_packet_is_lost() {
    for begun in [[0x10].as_slice(), &[0x10, 1, 0x40, 0, 0]] {
        let (mut call, mut agent) = audio_socket().await;
        agent.0.write_all(begun).await.unwrap();
        agent.0.shutdown().await.unwrap();
        assert_eq!(call.event().await, AgentEvent::Lost(HangupCause::AgentLost, None));
    }
}

#[tokio::test]
async fn an_audio_socket_that_is_reset_is_lost() {
    let (mut call, agent) = audio_socket().await;
    // Closed with bytes of ours unread and no time to linger: a reset.
    socket2::SockRef::from(&agent.0).set_linger(Some(Duration::ZERO)).unwrap();
    drop(agent);
    assert_eq!(call.event().await, AgentEvent::Lost(HangupCause::AgentLost, None));
    assert_eq!(call.why.as_deref(), Some("reset"));
}
