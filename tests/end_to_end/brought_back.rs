//! Agents of other dialects than Media Streams whose connection breaks in a call: the call goes on, and they come back into
//! it knowing what was said.

use crate::bot::BOT_HZ;
use crate::carrier;
use crate::dialects;
use crate::dialects::NUMBER;
use crate::dialects::Server;
use crate::dialects::come;
use crate::dialects::listener;
use crate::dialects::tone;
use crate::next_hops;
use crate::node::Node;
use crate::node::PATIENCE;
use crate::node::wait_for;
use crate::talk;
use crate::talk::Talk;
use futures_util::SinkExt;
use futures_util::StreamExt;
use serde_json::Value;
use serde_json::json;
use tandem::caller::CallSummary;
use tandem::caller::EndedBy;
use tandem::store::api_keys::KeyRole;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::accept_async;
use tokio_tungstenite::tungstenite::Message;

/// Said before the connection broke, and after that.
const BEFORE_MS: usize = 300;
const AFTER_MS: usize = 1_000;

/// An agent of this kind that is dialled often enough for a busy machine, while its caller hears noise alone.
fn enduring(mut agent: Value) -> Value {
    (agent["reconnects"], agent["comfort"]) = (json!(5), json!("noise"));
    agent
}

/// The caller heard the agent before and after the break, until that hung up, and the record tells of it.
async fn check(node: &Node, summary: &CallSummary) {
    assert_eq!((summary.problem.as_ref(), summary.ended_by), (None, Some(EndedBy::FarEnd)));
    assert!(summary.heard.is_tone(BOT_HZ), "{:?}", summary.heard);
    let sound = summary.heard.sound.as_millis();
    assert!((1_100..1_500).contains(&sound), "{sound} ms of {BEFORE_MS} and {AFTER_MS}");
    let record = node.record(&summary.call_id).await;
    assert_eq!((record.cause.as_str(), record.ended_by.as_str()), ("normal", "agent"));
    assert!(record.agent_failure.is_none() && !record.has_fallback, "{record:?}");
    let events = "SELECT count(*) FROM call_events WHERE name = 'agent_resumed' OR \
                  (name = 'agent_interrupted' AND detail->>'cause' = 'agent_lost')";
    assert_eq!(node.count(events).await, 2);
    assert_eq!(node.metric("agents_resumed_total").await, 1);
}

#[tokio::test]
async fn a_realtime_server_whose_connection_breaks_is_given_what_was_said_and_goes_on() {
    let (listener, address) = listener().await;
    let agent = json!({"kind": "realtime", "url": format!("ws://{address}/?model=m")});
    let node = dialects::node(enduring(agent)).await;
    let talk = Talk::dial(talk::plan(node.sip(), NUMBER));
    let mut server = Server::accept(&listener).await;
    server.say(BEFORE_MS).await;
    server
        .send(json!({"type": "response.output_audio_transcript.done", "transcript": "Hello."}))
        .await;
    let caller = "conversation.item.input_audio_transcription.completed";
    server.send(json!({"type": caller, "transcript": "Who is there?"})).await;
    // What was not read of it might be lost with the connection.
    let turns = "SELECT count(*) FROM transcripts";
    wait_for("the transcript", async || (node.count(turns).await == 2).then_some(())).await;
    drop(server);
    let (mut server, told) = Server::accept_back(&listener).await;
    let turn = |event: &Value| {
        let item = &event["item"];
        (item["role"].clone(), item["content"][0]["text"].clone())
    };
    let expected = [(json!("assistant"), json!("Hello.")), (json!("user"), json!("Who is there?"))];
    assert_eq!(told.iter().map(turn).collect::<Vec<_>>(), expected, "{told:?}");
    timeout(PATIENCE, server.hear()).await.expect("the caller is heard again");
    server.say(AFTER_MS).await;
    server.call("c1", "end_call", json!({})).await;
    check(&node, &talk.over().await).await;
}

/// A bot of chan_websocket.
type Bot = WebSocketStream<TcpStream>;

/// What it is told next, past the caller's audio.
async fn told(bot: &mut Bot) -> Value {
    loop {
        let next = timeout(PATIENCE, bot.next()).await.expect("an event");
        if let Message::Text(text) = next.expect("an open socket").unwrap() {
            return serde_json::from_str(&text).unwrap();
        }
    }
}

async fn command(bot: &mut Bot, order: Value) {
    bot.send(Message::text(order.to_string())).await.unwrap();
}

/// It speaks until that was heard.
async fn speak(bot: &mut Bot, ms: usize) {
    bot.send(Message::Binary(tone(ms).into())).await.unwrap();
    command(bot, json!({"command": "MARK_MEDIA", "correlation_id": "end"})).await;
    while told(bot).await["event"] != "MEDIA_MARK_PROCESSED" {}
}

/// Its first connection: it speaks, writes down what was said, and dies, like a process that is killed; what it was told of
/// its call.
async fn talk_and_die(mut bot: Bot, node: &Node, (call, key): (&str, &str)) -> Value {
    let start = told(&mut bot).await;
    assert_eq!(start["event"], "MEDIA_START");
    assert!(start["channel_variables"]["tandem_resumed"].is_null(), "{start}");
    speak(&mut bot, BEFORE_MS).await;
    let turns = json!({"turns": [
        {"seq": 0, "speaker": "agent", "text": "Hello."},
        {"seq": 1, "speaker": "caller", "text": "Who is there?"},
    ]});
    let path = carrier::calls(1, &format!("/{call}/transcript"));
    assert_eq!(node.post(&path, key, &turns).await.status, 200);
    start
}

/// It is back, knows its call by what it was told `before` and what was said, speaks, and hangs up.
async fn go_on(bot: &mut Bot, start: &Value, before: &Value) {
    for name in ["connection_id", "channel_id"] {
        assert!(start[name].is_string() && start[name] == before[name], "another call: {start}");
    }
    let variables = &start["channel_variables"];
    assert_eq!(variables["tandem_resumed"], "reconnect");
    let said: Value =
        serde_json::from_str(variables["tandem_transcript"].as_str().unwrap()).unwrap();
    let expected = json!([
        {"speaker": "agent", "text": "Hello."},
        {"speaker": "caller", "text": "Who is there?"},
    ]);
    assert_eq!(said, expected);
    speak(bot, AFTER_MS).await;
    command(bot, json!({"command": "HANGUP"})).await;
}

/// Takes the next dial that is not given up meanwhile; what it says first.
async fn accept_back(listener: &TcpListener) -> (Bot, Value) {
    loop {
        let Some(mut bot) = dialects::accept_back(listener).await else { continue };
        if let Some(Ok(Message::Text(start))) = bot.next().await {
            return (bot, serde_json::from_str(&start).unwrap());
        }
    }
}

#[tokio::test]
async fn a_bot_of_asterisk_whose_connection_breaks_is_dialled_again_and_told_what_was_said() {
    let (listener, address) = listener().await;
    let agent = json!({"kind": "chan_websocket", "url": format!("ws://{address}/media")});
    let node = dialects::node(enduring(agent)).await;
    let key = carrier::key(&node, 1, KeyRole::Operator).await;
    let talk = Talk::dial(talk::plan(node.sip(), NUMBER));
    let (stream, _) = timeout(PATIENCE, listener.accept()).await.expect("a dial").unwrap();
    let bot = accept_async(stream).await.unwrap();
    let call = next_hops::the_call(&node, &key).await;
    let before = talk_and_die(bot, &node, (call.as_str(), key.as_str())).await;
    let (mut bot, start) = accept_back(&listener).await;
    go_on(&mut bot, &start, &before).await;
    check(&node, &talk.over().await).await;
}

/// Where the agent of the call is awaited, as the tenant was told last.
async fn awaited(node: &Node, (call, key): (&str, &str)) -> Option<String> {
    let shown = node.read(&carrier::calls(1, &format!("/{call}")), key).await;
    let mut events = shown["events"].as_array().unwrap().iter().rev();
    let last = events.find(|event| event["name"] == "agent_awaited")?;
    Some(last["detail"]["path"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn a_bot_of_asterisk_that_dials_the_node_is_told_anew_where_when_its_connection_breaks() {
    let agent = json!({"kind": "chan_websocket", "incoming": true, "connect_timeout_ms": 30_000});
    let node = dialects::node(enduring(agent)).await;
    let key = carrier::key(&node, 1, KeyRole::Operator).await;
    let talk = Talk::dial(talk::plan(node.sip(), NUMBER));
    let call = next_hops::the_call(&node, &key).await;
    let whose = (call.as_str(), key.as_str());
    let first = wait_for("where it is awaited", async || awaited(&node, whose).await).await;
    let bot = come(&node, &first).await.expect("it is awaited");
    let before = talk_and_die(bot, &node, whose).await;
    let mut bot = wait_for("a connection to come back by", async || {
        let path = awaited(&node, whose).await.filter(|path| *path != first)?;
        // It is awaited there for two seconds. Who is late is told the next.
        come(&node, &path).await.ok()
    })
    .await;
    let start = told(&mut bot).await;
    go_on(&mut bot, &start, &before).await;
    check(&node, &talk.over().await).await;
}
