//! Twilio Media Streams.

use crate::agent_support::Call;
use crate::agent_support::FakeMedia;
use crate::agent_support::Server;
use crate::agent_support::in_time;
use crate::agent_support::profile;
use crate::python;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::time::Duration;
use tandem::agent::builtin::announce::Announcement;
use tandem::audio::link::link;
use tandem::engine::agent_task::AgentEvent;
use tandem::net::websocket::TrustRoots;
use tandem::types::agent::Access;
use tandem::types::agent::AgentKind;
use tandem::types::cause::HangupCause;
use tandem::types::limit::AGENT_FRAMES_MAX;
use tandem::types::limit::AGENT_GARBAGE_MAX;
use tandem::types::limit::AGENT_MESSAGE_BYTES_MAX;
use tandem::types::limit::AGENT_OUTBOX_FRAMES_MAX;
use tandem::types::limit::AGENT_PLAYOUT_MS_MAX;
use tandem::types::secret::Secret;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::Data;
use tokio_tungstenite::tungstenite::protocol::frame::coding::OpCode;

fn media(audio: &[u8]) -> String {
    let payload = STANDARD.encode(audio);
    format!(r#"{{"event":"media","streamSid":"MZ0","media":{{"payload":"{payload}"}}}}"#)
}

fn mark(name: &str) -> String {
    format!(r#"{{"event":"mark","streamSid":"MZ0","mark":{{"name":"{name}"}}}}"#)
}

/// Audio in which every stretch differs.
fn speech(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|n| (n * 7 % 251) as u8).collect()
}

#[tokio::test]
async fn an_agent_hears_nothing_of_keys_that_are_not_for_it() {
    let server = Server::bind().await;
    let mut call = Call::start_without_keys(&server.url("/"));
    let mut agent = server.accept().await;
    assert_eq!(call.event().await, AgentEvent::Ready);
    assert_eq!(agent.json().await["event"], "connected");
    assert_eq!(agent.json().await["event"], "start");
    // Pressed in the media, and told by signalling.
    call.media.press('4');
    call.handle.digit('2');
    call.media.say(1);
    assert_eq!(agent.json().await["event"], "media");
    call.end().await;
    assert_eq!(agent.json().await["event"], "stop");
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "one conversation, told from its start to its end")]
async fn the_dialect_goes_message_by_message() {
    let server = Server::bind().await;
    let mut call = Call::start(&server.url("/ws?tenant=7"));
    let mut agent = server.accept().await;
    assert_eq!(agent.path, "/ws?tenant=7");
    let signature = tandem::agent::twilio::signature(
        &tandem::types::secret::Secret::new("token".to_owned()),
        &server.url("/ws?tenant=7"),
    );
    assert_eq!(agent.header("x-twilio-signature"), signature.as_deref());
    assert_eq!(call.event().await, AgentEvent::Ready);

    let connected = agent.json().await;
    let expected =
        serde_json::json!({"event": "connected", "protocol": "Call", "version": "1.0.0"});
    assert_eq!(connected, expected);
    let start = agent.json().await;
    let stream = "MZ00000000000000000000000000000001";
    assert_eq!(
        start,
        serde_json::json!({
            "event": "start", "sequenceNumber": "1", "streamSid": stream,
            "start": {
                "accountSid": "AC00000000000000000000000000000002", "streamSid": stream,
                "callSid": "CA00000000000000000000000000000001", "tracks": ["inbound"],
                "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
                "customParameters":
                    {"from_number": "+15550111", "to_number": "+15550100", "mood": "good"},
            },
        })
    );

    for n in 1..=3_u8 {
        call.media.say(n);
        assert_eq!(
            agent.json().await,
            serde_json::json!({
                "event": "media", "sequenceNumber": (n + 1).to_string(), "streamSid": stream,
                "media": {
                    "track": "inbound", "chunk": n.to_string(),
                    "timestamp": (u32::from(n) * 20).to_string(),
                    "payload": STANDARD.encode([n; 160]),
                },
            })
        );
    }
    call.media.press('#');
    assert_eq!(
        agent.json().await,
        serde_json::json!({
            "event": "dtmf", "sequenceNumber": "5", "streamSid": stream,
            "dtmf": {"track": "inbound_track", "digit": "#"},
        })
    );
    agent.send(&mark("my label")).await;
    call.media.play_marks(1).await;
    assert_eq!(
        agent.json().await,
        serde_json::json!({
            "event": "mark", "sequenceNumber": "6", "streamSid": stream,
            "mark": {"name": "my label"},
        })
    );
    let notes = call.end().await;
    assert_eq!((notes.frames_sent, notes.marks, notes.messages), (3, 1, 1));
    assert_eq!(
        agent.json().await,
        serde_json::json!({
            "event": "stop", "sequenceNumber": "7", "streamSid": stream,
            "stop": {
                "accountSid": "AC00000000000000000000000000000002",
                "callSid": "CA00000000000000000000000000000001",
            },
        })
    );
    assert_eq!(agent.close_code().await, Some(1000));
}

#[tokio::test]
async fn the_twilio_package_takes_the_signature_of_a_stream_for_one() {
    let server = Server::bind().await;
    let url = server.url("/ws?tenant=7");
    let mut call = Call::start(&url);
    let agent = server.accept().await;
    assert_eq!(call.event().await, AgentEvent::Ready);
    let signature = agent.header("x-twilio-signature").expect("a signature");
    let other = url.replace("tenant=7", "tenant=8");
    for (token, url, is_valid) in
        [("token", &url, true), ("token", &other, false), ("another", &url, false)]
    {
        let mut oracle = python::program("python");
        oracle.arg(python::script("twilio_signature.py")).args([token, url, signature]);
        let said = in_time("the package", oracle.output()).await.unwrap();
        let answer = String::from_utf8_lossy(&said.stdout);
        let expected = if is_valid { "True" } else { "False" };
        assert_eq!(answer.trim(), expected, "{url}: {}", String::from_utf8_lossy(&said.stderr));
    }
    call.end().await;
}

#[tokio::test]
async fn payloads_of_a_byte_and_of_two_seconds_are_played_as_they_came() {
    let (mut call, mut agent) = Call::connected().await;
    let audio = speech(17_000);
    let mut rest = audio.as_slice();
    for size in [1, 1, 1, 160, 16_000, 3, 834] {
        let (now, later) = rest.split_at(size);
        agent.send(&media(now)).await;
        rest = later;
    }
    assert_eq!(call.media.play(audio.len()).await, audio);
}

#[tokio::test]
async fn marks_come_back_in_order_and_all_at_once_after_a_clear() {
    let (mut call, mut agent) = Call::connected().await;
    agent.send(&media(&speech(320))).await;
    agent.send(&mark("one")).await;
    agent.send(&media(&speech(160))).await;
    agent.send(&mark("two")).await;
    assert_eq!(call.media.play(480).await.len(), 480);
    call.media.play_marks(2).await;
    assert_eq!(agent.marks(2).await, ["one", "two"]);

    agent.send(&media(&speech(8_000))).await;
    for name in ["three", "four", "five"] {
        agent.send(&mark(name)).await;
    }
    agent.send(r#"{"event":"clear","streamSid":"MZ0"}"#).await;
    // Nothing was played: the echoes need nobody's answer.
    assert_eq!(agent.marks(3).await, ["three", "four", "five"]);
    let said = vec![9; 160];
    agent.send(&media(&said)).await;
    agent.send(&mark("six")).await;
    assert_eq!(call.media.play(160).await, said, "what was cleared is never heard");
    call.media.play_marks(3).await;
    assert_eq!(agent.marks(1).await, ["six"], "and no mark comes twice");
}

#[tokio::test]
async fn some_garbage_and_unknown_events_are_borne() {
    let (mut call, mut agent) = Call::connected().await;
    for text in ["{", "[]", r#"{"event":"dance"}"#, r#"{"event":"media","media":{}}"#] {
        agent.send(text).await;
    }
    agent.send_message(Message::Binary(vec![0; 320].into())).await;
    agent.send(r#"{"event":"media","media":{"payload":"/w=="}}"#).await;
    assert_eq!(call.media.play(1).await, [0xff]);
    let notes = call.end().await;
    assert_eq!((notes.garbage.total(), notes.unknown, notes.audio_bytes), (4, 1, 1));
}

#[tokio::test]
async fn nothing_but_garbage_ends_the_link() {
    let (mut call, mut agent) = Call::connected().await;
    for _ in 0..AGENT_GARBAGE_MAX {
        agent.send("garbage").await;
    }
    assert_eq!(call.event().await, AgentEvent::Lost(HangupCause::AgentGarbage, None));
    assert_eq!(call.why.as_deref(), Some("json"));
    assert_eq!(call.notes().await.garbage.total(), AGENT_GARBAGE_MAX);
    assert_eq!(agent.close_code().await, Some(1000));
}

#[tokio::test]
async fn an_oversized_message_ends_the_link() {
    let (mut call, mut agent) = Call::connected().await;
    let huge = " ".repeat(AGENT_MESSAGE_BYTES_MAX + 1);
    let send = agent.try_send(&huge);
    let (_, event) = tokio::join!(send, call.event());
    assert_eq!(event, AgentEvent::Lost(HangupCause::AgentGarbage, None));
    assert_eq!(call.why.as_deref(), Some("message_too_long"));

    // Of a frame that says how long it will be nothing more is waited for.
    let (mut call, mut agent) = Call::connected().await;
    let length = (AGENT_MESSAGE_BYTES_MAX as u64 + 1).to_be_bytes();
    agent.write_raw(&[&[0x81, 127], &length[..]].concat()).await;
    assert_eq!(call.event().await, AgentEvent::Lost(HangupCause::AgentGarbage, None));
    assert_eq!(call.why.as_deref(), Some("message_too_long"));

    // In pieces it is as long, though none of them is.
    let (mut call, mut agent) = Call::connected().await;
    let pieces = async {
        for number in 0..=16 {
            let kind = if number == 0 { Data::Text } else { Data::Continue };
            let bytes = vec![b' '; AGENT_MESSAGE_BYTES_MAX / 16];
            let piece = Frame::message(bytes, OpCode::Data(kind), false);
            agent.try_send_message(Message::Frame(piece)).await;
        }
    };
    let ((), event) = tokio::join!(pieces, call.event());
    assert_eq!(event, AgentEvent::Lost(HangupCause::AgentGarbage, None));
    assert_eq!(call.why.as_deref(), Some("message_too_long"));
}

#[tokio::test]
async fn text_that_is_no_utf8_ends_the_link_and_is_told_of() {
    let (mut call, mut agent) = Call::connected().await;
    // A frame of text of one byte, not masked (RFC 6455 section 5.2).
    agent.write_raw(&[0x81, 1, 0xff]).await;
    assert_eq!(call.event().await, AgentEvent::Lost(HangupCause::AgentGarbage, None));
    assert_eq!(call.why.as_deref(), Some("not_utf8"));

    let (mut call, mut agent) = Call::connected().await;
    // The reserved bits mean nothing that was agreed on.
    agent.write_raw(&[0xf1, 1, b'x']).await;
    assert_eq!(call.event().await, AgentEvent::Lost(HangupCause::AgentGarbage, None));
    assert_eq!(call.why.as_deref(), Some("not_websocket"));
}

#[tokio::test]
async fn three_minutes_at_once_are_played_whole_and_never_queued_whole() {
    let (mut call, agent) = Call::connected().await;
    let audio = speech(3 * 60 * 8_000);
    let mut sender = agent;
    let sent = audio.clone();
    let sending = tokio::spawn(async move {
        for frame in sent.chunks(160) {
            sender.send(&media(frame)).await;
        }
        sender
    });
    let full = u64::from(AGENT_PLAYOUT_MS_MAX) * 8;
    // Up to 18 of the 128 segments that a link may have wait on the agent's side for a place of their own.
    let fullest = call.media.wait_until_full(full * 8 / 10).await;
    assert!(fullest <= full, "{fullest} bytes queued");
    assert!(!sending.is_finished(), "the agent is slowed down");
    assert!(call.media.play(audio.len()).await == audio, "not a byte is lost");
    sending.await.unwrap();
}

#[tokio::test]
async fn an_agent_that_never_reads_costs_its_own_audio_only() {
    let (mut call, agent) = Call::connected().await;
    let frames = 30_000;
    call.media.talk(frames).await;
    let notes = call.end().await;
    assert!(notes.frames_dropped > 0, "sockets cannot hold ten minutes");
    let known = notes.frames_sent + notes.frames_dropped;
    // What still waits at the end, in the ring and in the outbox, is neither.
    let waiting_max = (AGENT_OUTBOX_FRAMES_MAX + AGENT_FRAMES_MAX) as u64;
    assert!((frames - waiting_max..=frames).contains(&known), "{known} of {frames}");
    drop(agent);
}

#[tokio::test]
async fn a_polite_close_ends_the_call_after_the_last_words() {
    let (mut call, mut agent) = Call::connected().await;
    let words = speech(1_600);
    agent.send(&media(&words)).await;
    agent.close(1000).await;
    assert_eq!(call.media.play(words.len()).await, words);
    assert_eq!(call.event_while_playing().await, AgentEvent::HangupRequested);
}

#[tokio::test]
async fn any_other_end_is_a_loss() {
    let (mut call, mut agent) = Call::connected().await;
    agent.close(1011).await;
    assert_eq!(call.event().await, AgentEvent::Lost(HangupCause::AgentLost, None));
    assert_eq!(call.why.as_deref(), Some("closed_1011"));

    let (mut call, agent) = Call::connected().await;
    drop(agent);
    assert_eq!(call.event().await, AgentEvent::Lost(HangupCause::AgentLost, None));
    assert_eq!(call.why.as_deref(), Some("reset"));
    assert_eq!(call.notes().await.connects, 1);
}

#[tokio::test]
async fn a_refused_connection_is_tried_twice() {
    let server = Server::bind().await;
    let url = server.url("/");
    drop(server);
    let mut call = Call::start(&url);
    assert_eq!(call.event().await, AgentEvent::Failed(HangupCause::AgentUnreachable, None));
    assert_eq!(call.why.as_deref(), Some("connection_refused"));
    assert_eq!(call.notes().await.connects, 2);
}

#[tokio::test]
async fn an_agent_that_hangs_before_the_handshake_is_given_up() {
    let server = Server::bind().await;
    let mut call = Call::start(&server.url("/"));
    // The connections are accepted by the kernel and never answered.
    assert_eq!(call.event().await, AgentEvent::Failed(HangupCause::AgentUnreachable, None));
    assert_eq!(call.why.as_deref(), Some("timeout"));
    assert_eq!(call.notes().await.connects, 2);
}

#[tokio::test]
async fn an_agent_that_accepts_slowly_is_reached_by_the_second_dial() {
    let server = Server::bind().await;
    let mut call = Call::start(&server.url("/"));
    server.accept_and_ignore().await;
    let mut agent = server.accept().await;
    assert_eq!(call.event().await, AgentEvent::Ready);
    assert_eq!(agent.json().await["event"], "connected");
    assert_eq!(call.end().await.connects, 2);
}

#[tokio::test]
async fn an_agent_that_answers_http_403_is_not_reached() {
    let server = Server::bind().await;
    let mut call = Call::start(&server.url("/"));
    server.refuse_with_403().await;
    server.refuse_with_403().await;
    assert_eq!(call.event().await, AgentEvent::Failed(HangupCause::AgentUnreachable, None));
    assert_eq!(call.why.as_deref(), Some("http_403"));
}

#[tokio::test]
async fn the_end_of_the_media_or_of_the_call_stops_the_stream() {
    let (call, mut agent) = Call::connected().await;
    drop(call.media);
    assert_eq!(agent.json().await["event"], "stop");
    assert_eq!(agent.close_code().await, Some(1000));

    let (call, mut agent) = Call::connected().await;
    drop(call.handle);
    assert_eq!(agent.json().await["event"], "stop");
}

/// Another link is on its way when the one before ends, by way of whoever has the agent.
#[tokio::test]
async fn a_stream_whose_link_ends_before_another_came_goes_on_over_that() {
    let (call, mut agent) = Call::connected().await;
    drop(call.media);
    // Whatever the link tells is looked at before what the agent says.
    agent.send_message(Message::Ping(vec![1].into())).await;
    assert_eq!(agent.message().await, Message::Pong(vec![1].into()), "it was not stopped");
    let (media, end) = link();
    let mut media = FakeMedia::new(media);
    call.handle.relink(end);
    // For longer than it would wait for a link.
    let mut ticks = tokio::time::interval(Duration::from_millis(20));
    for n in 0..75_u8 {
        ticks.tick().await;
        media.say(n);
        assert_eq!(agent.json().await["media"]["payload"], STANDARD.encode([n; 160]));
    }
    drop(call.handle);
    assert_eq!(agent.json().await["event"], "stop");
}

#[tokio::test]
async fn an_agents_ping_is_answered() {
    let (_call, mut agent) = Call::connected().await;
    agent.send_message(Message::Ping(vec![1, 2, 3].into())).await;
    assert_eq!(agent.message().await, Message::Pong(vec![1, 2, 3].into()));
}

#[tokio::test]
async fn wss_works_with_a_certificate_from_a_file_and_with_no_other() {
    let (server, certificate) = Server::bind_tls().await;
    let file = std::env::temp_dir().join(format!("tandem-test-{}.pem", std::process::id()));
    std::fs::write(&file, certificate).unwrap();
    let roots = TrustRoots::with_file(&file).unwrap();
    std::fs::remove_file(&file).unwrap();
    assert!(TrustRoots::with_file(&file).is_err());

    let mut call = Call::start_trusting(&server.url("/"), roots);
    let mut agent = server.accept().await;
    assert_eq!(call.event().await, AgentEvent::Ready);
    assert_eq!(agent.json().await["event"], "connected");
    assert_eq!(agent.json().await["event"], "start");
    call.media.say(3);
    assert_eq!(agent.json().await["media"]["payload"], STANDARD.encode([3; 160]));
    let audio = speech(100_000);
    agent.send(&media(&audio)).await;
    assert!(call.media.play(audio.len()).await == audio);
    assert_eq!(call.end().await.frames_sent, 1);
    assert_eq!(agent.json().await["event"], "stop");
    assert_eq!(agent.close_code().await, Some(1000));

    let mut stranger = Call::start(&server.url("/"));
    let refuse = async {
        server.refuse_tls().await;
        server.refuse_tls().await;
    };
    let (event, ()) = tokio::join!(stranger.event(), refuse);
    assert_eq!(event, AgentEvent::Failed(HangupCause::AgentUnreachable, None));
    assert_eq!(stranger.why.as_deref(), Some("tls"));
}

#[tokio::test]
async fn an_agent_that_wants_a_certificate_is_shown_that_of_the_profile() {
    let (server, certificate, identity) = Server::bind_mutual_tls().await;
    let file = std::env::temp_dir().join(format!("tandem-mutual-{}.pem", std::process::id()));
    std::fs::write(&file, certificate).unwrap();
    let roots = TrustRoots::with_file(&file).unwrap();
    std::fs::remove_file(&file).unwrap();

    let bearer = Secret::new("known".to_owned());
    let access = Access { bearer, basic: None, identity: Some(identity) };
    let mut call = Call::start_as(&server.url("/"), roots.clone(), access);
    let mut agent = server.accept().await;
    assert_eq!(call.event().await, AgentEvent::Ready);
    assert_eq!(agent.header("authorization"), Some("Bearer known"));
    assert_eq!(agent.json().await["event"], "connected");
    call.end().await;

    let mut stranger = Call::start_trusting(&server.url("/"), roots);
    let refuse = async {
        server.refuse_tls().await;
        server.refuse_tls().await;
    };
    let (event, ()) = tokio::join!(stranger.event(), refuse);
    assert_eq!(event, AgentEvent::Failed(HangupCause::AgentUnreachable, None));
}

#[tokio::test]
async fn the_parrot_greets_and_ends_the_call_on_nine() {
    let mut call = Call::start_with(profile(AgentKind::Parrot));
    assert_eq!(call.event().await, AgentEvent::Ready);
    assert_eq!(call.media.play(8_000).await.len(), 8_000, "the greeting");
    call.media.play_marks(1).await;
    call.media.press('9');
    assert_eq!(call.event_while_playing().await, AgentEvent::HangupRequested);
}

#[tokio::test]
async fn the_built_in_echo_sends_the_caller_back() {
    let mut call = Call::start_with(profile(AgentKind::Echo));
    assert_eq!(call.event().await, AgentEvent::Ready);
    call.media.say(5);
    assert_eq!(call.media.play(160).await, [5; 160]);
}

#[tokio::test]
async fn the_announcements_are_played_and_then_the_call_is_ended() {
    let mut call = Call::start_with(profile(AgentKind::Announce));
    assert_eq!(call.event().await, AgentEvent::Ready);
    let expected = Announcement::Standard.audio();
    assert!(call.media.play(expected.len()).await == expected);
    assert_eq!(call.event_while_playing().await, AgentEvent::HangupRequested);

    let mut call = Call::start_fallback();
    assert_eq!(call.event().await, AgentEvent::Ready);
    let expected = Announcement::Fallback.audio();
    assert!(call.media.play(expected.len()).await == expected);
    assert_eq!(call.event_while_playing().await, AgentEvent::HangupRequested);
}
