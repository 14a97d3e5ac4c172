//! Servers of the Realtime protocol.

#![expect(clippy::unwrap_used, reason = "a failed check may panic")]

use crate::agent_support::Call;
use crate::agent_support::ScriptedAgent;
use crate::agent_support::Server;
use crate::agent_support::in_time;
use crate::agent_support::profile;
use crate::python;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use serde_json::json;
use std::process::Stdio;
use std::time::Duration;
use tandem::agent::dialect::Act;
use tandem::agent::dialect::Dialect;
use tandem::agent::dialect::Message;
use tandem::agent::dialect::News;
use tandem::agent::realtime::dialect::Realtime;
use tandem::agent::session::Said;
use tandem::agent::story::Continuation;
use tandem::agent::story::Past;
use tandem::agent::story::Story;
use tandem::engine::agent_task::AgentEvent;
use tandem::types::agent::Access;
use tandem::types::agent::AgentAudio;
use tandem::types::agent::AgentKind;
use tandem::types::agent::RealtimeAgent;
use tandem::types::agent_trouble::FaultWord;
use tandem::types::cause::HangupCause;
use tandem::types::limit::AGENT_GARBAGE_MAX;
use tandem::types::secret::Secret;
use tokio::io::AsyncWriteExt;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

fn agent(url: &str) -> RealtimeAgent {
    RealtimeAgent {
        url: url.to_owned(),
        access: Access::default(),
        api_key: Secret::new("sk-test".to_owned()),
        is_bearer: true,
        is_beta: false,
        audio: AgentAudio::Ulaw,
        instructions: "Be brief.".to_owned(),
        voice: Some("marin".to_owned()),
        greets: true,
        transcription_model: Some("whisper-1".to_owned()),
        turn_detection: None,
        tools: ["end_call", "transfer_call", "send_dtmf"].map(str::to_owned).to_vec(),
        transfer_to: vec!["+15550142".to_owned()],
        connect_timeout: CONNECT_TIMEOUT,
    }
}

fn kind(agent: RealtimeAgent) -> AgentKind {
    AgentKind::Realtime(Box::new(agent))
}

async fn send(server: &mut ScriptedAgent, event: Value) {
    server.send(&event.to_string()).await;
}

/// A session past its greeting.
async fn session() -> (Call, ScriptedAgent) {
    let listener = Server::bind().await;
    let mut call = Call::start_with(profile(kind(agent(&listener.url("/v1/realtime?model=m")))));
    let mut server = listener.accept().await;
    assert_eq!(server.path, "/v1/realtime?model=m");
    assert_eq!(server.header("authorization"), Some("Bearer sk-test"));
    assert_eq!(server.header("openai-beta"), None);
    send(&mut server, json!({"type": "session.created", "session": {}})).await;
    assert_eq!(server.json().await["type"], "session.update");
    send(&mut server, json!({"type": "session.updated", "session": {}})).await;
    assert_eq!(call.event().await, AgentEvent::Ready);
    assert_eq!(server.json().await, json!({"type": "response.create"}), "it speaks first");
    (call, server)
}

async fn delta(server: &mut ScriptedAgent, item: &str, audio: &[u8]) {
    let event = json!({
        "type": "response.output_audio.delta", "response_id": "r", "item_id": item,
        "output_index": 0, "content_index": 0, "delta": STANDARD.encode(audio),
    });
    send(server, event).await;
}

/// A model that calls a function and ends its answer.
async fn function(server: &mut ScriptedAgent, call: &str, name: &str, arguments: &Value) {
    function_told(server, call, name, arguments).await;
    send(server, json!({"type": "response.done", "response": {"status": "completed"}})).await;
}

async fn function_told(server: &mut ScriptedAgent, call: &str, name: &str, arguments: &Value) {
    let item = json!({
        "type": "function_call", "id": "f", "call_id": call, "name": name,
        "arguments": arguments.to_string(),
    });
    send(server, json!({"type": "response.output_item.done", "item": item})).await;
    // The same again in another event, as servers have it.
    let done = json!({
        "type": "response.function_call_arguments.done", "call_id": call, "name": name,
        "arguments": arguments.to_string(),
    });
    send(server, done).await;
}

#[tokio::test]
async fn mu_law_goes_straight_through_both_ways() {
    let (mut call, mut server) = session().await;
    call.media.say(7);
    let heard = server.json().await;
    assert_eq!(heard["type"], "input_audio_buffer.append");
    assert_eq!(heard["audio"], STANDARD.encode([7; 160]));
    let audio: Vec<u8> = (0..12_345).map(|n| (n % 251) as u8).collect();
    for piece in audio.chunks(1_001) {
        delta(&mut server, "i1", piece).await;
    }
    assert_eq!(call.media.play(audio.len()).await, audio);
}

#[tokio::test]
async fn an_interrupted_item_is_cut_where_it_was_heard_and_its_late_audio_is_dropped() {
    let (mut call, mut server) = session().await;
    delta(&mut server, "first", &[1; 1_600]).await;
    assert_eq!(call.media.play(1_600).await, [1; 1_600]);
    delta(&mut server, "second", &[2; 800]).await;
    assert_eq!(call.media.play(800).await, [2; 800]);
    delta(&mut server, "second", &[2; 8_000]).await;
    delta(&mut server, "third", &[3; 8_000]).await;
    send(
        &mut server,
        json!({"type": "input_audio_buffer.speech_started", "audio_start_ms": 1, "item_id": "u"}),
    )
    .await;
    call.media.wait_for_clear().await;
    let cut = |item: &str, ms: u64| {
        json!({
            "type": "conversation.item.truncate", "item_id": item, "content_index": 0,
            "audio_end_ms": ms,
        })
    };
    assert_eq!(server.json().await, cut("second", 100));
    assert_eq!(server.json().await, cut("third", 0));
    delta(&mut server, "third", &[3; 800]).await;
    delta(&mut server, "fourth", &[4; 160]).await;
    assert_eq!(call.media.play(160).await, [4; 160], "late audio of the third is not heard");
}

#[tokio::test]
async fn the_call_ends_once_the_goodbye_was_played() {
    let (mut call, mut server) = session().await;
    send(&mut server, json!({"type": "response.created", "response": {}})).await;
    function(&mut server, "c1", "end_call", &json!({})).await;
    delta(&mut server, "bye", &[5; 1_600]).await;
    assert_eq!(call.event_while_playing().await, AgentEvent::HangupRequested);
}

#[tokio::test]
async fn functions_are_asked_for_and_their_outcome_is_told() {
    let (mut call, mut server) = session().await;
    send(&mut server, json!({"type": "response.created", "response": {}})).await;
    delta(&mut server, "i", &[5; 1_600]).await;
    function(&mut server, "c1", "transfer_call", &json!({"to": "+15550142"})).await;
    let wanted = AgentEvent::TransferRequested("+15550142".to_owned());
    assert_eq!(call.event_while_playing().await, wanted);
    call.handle.answer(Err("transfer_under_way"));
    let output = server.json().await;
    assert_eq!(output["item"]["call_id"], "c1");
    assert_eq!(output["item"]["output"], json!({"error": "transfer_under_way"}).to_string());
    assert_eq!(server.json().await["type"], "response.create");

    function(&mut server, "c2", "send_dtmf", &json!({"digits": "12#"})).await;
    assert_eq!(call.event_while_playing().await, AgentEvent::DigitsRequested("12#".to_owned()));
    call.handle.answer(Ok(()));
    assert_eq!(server.json().await["item"]["output"], json!({"status": "done"}).to_string());
    assert_eq!(server.json().await["type"], "response.create", "the model has the word");

    call.handle.transfer_failed(HangupCause::Busy);
    let told = server.json().await["item"]["content"][0]["text"].clone();
    assert!(told.as_str().unwrap().contains("Busy"), "{told}");
    assert_eq!(server.json().await["type"], "response.create");
    // One that an application withdrew did not fail.
    call.handle.transfer_failed(HangupCause::Normal);
    let told = server.json().await["item"]["content"][0]["text"].clone();
    assert!(told.as_str().unwrap().contains("withdrawn"), "{told}");
}

#[tokio::test]
async fn what_the_profile_does_not_allow_is_refused_to_the_model() {
    let (_call, mut server) = session().await;
    send(&mut server, json!({"type": "response.created", "response": {}})).await;
    for (name, arguments) in [
        ("transfer_call", json!({"to": "+15550199"})),
        ("transfer_call", json!({"to": "sip:evil@example.com"})),
        ("transfer_call", json!({})),
        ("send_dtmf", json!({"digits": 5})),
        ("format_disk", json!({})),
    ] {
        let call = format!("c-{name}-{arguments}");
        function_told(&mut server, &call, name, &arguments).await;
        // The answer that the call is part of is still being made: another would be refused.
        let output = server.json().await;
        let text = output["item"]["output"].as_str().unwrap();
        assert!(text.contains("error"), "{name} {arguments}: {output}");
    }
    send(&mut server, json!({"type": "response.done", "response": {"status": "completed"}})).await;
    assert_eq!(server.json().await["type"], "response.create");
}

#[tokio::test]
async fn words_of_both_sides_and_keys_are_told() {
    let (mut call, mut server) = session().await;
    send(
        &mut server,
        json!({"type": "response.output_audio_transcript.done", "transcript": "Hello."}),
    )
    .await;
    let said = |event: AgentEvent| match event {
        AgentEvent::Said(said) => (said.by_agent, said.text),
        other => panic!("{other:?}"),
    };
    assert_eq!(said(call.event().await), (true, "Hello.".to_owned()));
    let caller = "conversation.item.input_audio_transcription.completed";
    send(&mut server, json!({"type": caller, "item_id": "u", "transcript": "é".repeat(5_000)}))
        .await;
    let (by_agent, text) = said(call.event().await);
    assert!(!by_agent && text.chars().count() == 2_000, "{} characters", text.chars().count());
    call.media.press('5');
    let told = server.json().await["item"]["content"][0]["text"].clone();
    assert_eq!(told, "The caller pressed 5 on the telephone keypad.");
    assert_eq!(server.json().await["type"], "response.create");
}

#[tokio::test]
async fn a_server_that_refuses_the_session_is_not_reached() {
    let listener = Server::bind().await;
    let mut call = Call::start_with(profile(kind(agent(&listener.url("/")))));
    for _ in 0..2 {
        let mut server = listener.accept().await;
        let error = json!({"type": "error", "error": {"code": "invalid_api_key", "message": "no"}});
        send(&mut server, error).await;
    }
    assert_eq!(call.event().await, AgentEvent::Failed(HangupCause::AgentUnreachable, None));
    assert_eq!(call.why.as_deref(), Some("invalid_api_key"));
    let notes = call.notes().await;
    let last = notes.last_error.map(|error| error.to_string());
    assert_eq!((notes.errors, last.as_deref()), (2, Some("invalid_api_key")));
}

#[tokio::test]
async fn a_bad_server_harms_nobody() {
    let (mut call, mut server) = session().await;
    for text in ["{", "", "[]", "\u{0}", r#"{"type":"response.output_audio.delta"}"#] {
        server.send(text).await;
    }
    delta(&mut server, "i", &[]).await;
    send(&mut server, json!({"type": "response.output_audio.delta", "item_id": "i", "delta": "?"}))
        .await;
    for _ in 0..1_000 {
        send(&mut server, json!({"type": "input_audio_buffer.speech_started"})).await;
        delta(&mut server, "x", &[1]).await;
    }
    send(&mut server, json!({"type": "rate_limits.updated"})).await;
    send(&mut server, json!({"type": "dance"})).await;
    let error = json!({"type": "server_error", "code": null, "message": "of its own"});
    send(&mut server, json!({"type": "error", "error": error})).await;
    delta(&mut server, "last", &[9]).await;
    in_time("the last byte", async { while call.media.play(1).await != [9] {} }).await;
    let notes = call.end().await;
    let garbage = notes.garbage;
    assert_eq!((garbage.json, garbage.payload, garbage.base64), (4, 1, 1), "{notes:?}");
    let told = notes.last_error.as_ref().map(FaultWord::as_str);
    assert_eq!((notes.unknown, notes.errors, told), (1, 1, Some("server_error")));

    let (mut call, mut server) = session().await;
    for _ in 0..AGENT_GARBAGE_MAX {
        server.send("{").await;
    }
    assert_eq!(call.event().await, AgentEvent::Lost(HangupCause::AgentGarbage, None));

    let (mut call, mut server) = session().await;
    server.close(1000).await;
    let lost = AgentEvent::Lost(HangupCause::AgentLost, None);
    assert_eq!(call.event().await, lost, "a session that ends is not the end of the call");
    assert_eq!(call.why.as_deref(), Some("closed_1000"));
}

#[tokio::test]
async fn a_beta_server_is_spoken_to_in_its_names() {
    let listener = Server::bind().await;
    let mut beta = agent(&listener.url("/"));
    (beta.is_beta, beta.is_bearer, beta.audio) = (true, false, AgentAudio::Alaw);
    let mut call = Call::start_with(profile(kind(beta)));
    let mut server = listener.accept().await;
    assert_eq!(server.header("openai-beta"), Some("realtime=v1"));
    assert_eq!((server.header("api-key"), server.header("authorization")), (Some("sk-test"), None));
    send(&mut server, json!({"type": "session.created"})).await;
    let update = server.json().await;
    let session = &update["session"];
    assert_eq!(session["input_audio_format"], "g711_alaw");
    assert_eq!(session["modalities"], json!(["text", "audio"]));
    assert_eq!(session["type"], Value::Null);
    send(&mut server, json!({"type": "session.updated"})).await;
    assert_eq!(call.event().await, AgentEvent::Ready);
    let silence = tandem::audio::g711::alaw_encode(0);
    send(&mut server, json!({"type": "response.audio.delta", "item_id": "i", "delta": STANDARD.encode([silence; 80])})).await;
    assert_eq!(call.media.play(80).await.len(), 80);
}

/// Everything that a session ever sends.
fn all_messages(agent: &RealtimeAgent) -> Vec<String> {
    let mut realtime = Realtime::new(agent, true);
    let mut acts = Vec::new();
    // It comes into a call that another led, and its caller had the last word or it had.
    let mut story = Story::default();
    for (by_agent, text) in [(false, "Hello?"), (true, "Good day.")] {
        story.add(Said { by_agent, text: text.to_owned() });
    }
    realtime.open(Some(Past { how: Continuation::TookOver, story: &story }), &mut acts);
    let mut hear = |event: Value| realtime.text(event.to_string().as_bytes(), &mut acts).unwrap();
    hear(json!({"type": "session.created"}));
    hear(json!({"type": "session.updated"}));
    hear(json!({"type": "response.created"}));
    hear(json!({"type": "response.audio.delta", "item_id": "i", "delta": "AAAAAAAAAAAAAAAA"}));
    hear(json!({"type": "input_audio_buffer.speech_started"}));
    for (call, name, arguments) in [
        ("a", "send_dtmf", r#"{"digits":"1"}"#),
        ("b", "send_dtmf", r#"{"digits":"2"}"#),
        ("c", "no", "{}"),
    ] {
        hear(json!({"type": "response.output_item.done", "item":
            {"type": "function_call", "call_id": call, "name": name, "arguments": arguments}}));
    }
    hear(json!({"type": "response.done"}));
    for news in [
        News::Cleared(0),
        News::BargeIn(0),
        News::Unheard(0),
        News::Audio(&[0xff; 160]),
        News::Digit('5'),
        News::Answer(Ok(())),
        News::Answer(Err("no_keys")),
        News::TransferFailed(HangupCause::Busy),
        News::Ended,
    ] {
        realtime.tell(news, &mut acts);
    }
    let text = |act: Act| match act {
        Act::Send(Message::Text(text)) => Some(String::from_utf8(text.to_vec()).unwrap()),
        _ => None,
    };
    acts.into_iter().filter_map(text).collect()
}

/// Everything that sessions of this form send, whatever their settings.
fn messages_of(is_beta: bool) -> Vec<String> {
    let mut messages = Vec::new();
    let semantic = json!({"type": "semantic_vad", "eagerness": "low", "interrupt_response": false});
    for (audio, turn) in [
        (AgentAudio::Ulaw, None),
        (AgentAudio::Alaw, Some(semantic)),
        (AgentAudio::L16 { rate: 24_000 }, None),
    ] {
        let mut plain = agent("ws://x/");
        plain.is_beta = is_beta;
        plain.audio = audio;
        plain.turn_detection = turn;
        if audio == AgentAudio::Alaw {
            plain.voice = None;
            plain.transcription_model = None;
            plain.transfer_to = Vec::new();
        }
        messages.extend(all_messages(&plain));
    }
    messages
}

/// What the package makes of messages of this form: how many it takes, where that is all, and why not.
async fn judged(messages: &[String], form: Option<&str>) -> (String, String) {
    let mut oracle = python::program("python")
        .arg(python::script("realtime_types.py"))
        .args(form)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = oracle.stdin.take().unwrap();
    // One that it does not take ends it, and then it reads no more.
    drop(input.write_all((messages.join("\n") + "\n").as_bytes()).await);
    drop(input);
    let output = oracle.wait_with_output().await.unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    (text(&output.stdout), text(&output.stderr))
}

#[tokio::test]
async fn every_message_is_one_of_the_openai_packages() {
    let beta = Some("beta");
    for (is_beta, own, other) in [(false, None, beta), (true, beta, None)] {
        let messages = messages_of(is_beta);
        let kinds: std::collections::BTreeSet<String> = messages
            .iter()
            .map(|text| serde_json::from_str::<Value>(text).unwrap()["type"].to_string())
            .collect();
        assert_eq!(kinds.len(), 6, "{kinds:?}");
        let (taken, why) = judged(&messages, own).await;
        assert_eq!(taken, messages.len().to_string(), "{is_beta}: {why}");
        // The two are told apart.
        let (taken, why) = judged(&messages, other).await;
        assert!(taken.is_empty() && !why.is_empty(), "{is_beta}: {taken}");
    }
}
