//! What agents do amiss is in the records of their calls: how often and what, and why nobody could be reached.

use crate::bot::BOT_HZ;
use crate::bot::Bot;
use crate::bot::Stream;
use crate::carrier::hear_bye;
use crate::node::Home;
use crate::node::Node;
use crate::node::PATIENCE;
use crate::node::wait_for;
use crate::phone::Phone;
use crate::rows;
use crate::talk;
use crate::talk::Talk;
use crate::web::Page;
use crate::web::Web;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures_util::SinkExt;
use serde_json::Value;
use serde_json::json;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;
use tokio_tungstenite::accept_async;
use tokio_tungstenite::tungstenite::Message;

const NUMBER: &str = "+15550130";

/// As much as the connection of an agent that reads nothing is to hold, in bytes.
const UNREAD_BYTES: usize = 2_048;
/// More of the caller than that, the kernel's side of it and what waits for an agent hold together, in packets.
const UNREAD_PACKETS: u64 = 400;

async fn node(agent: Value) -> Node {
    let config = "[webhooks]\nallow_http = true\nallow_networks = ['127.0.0.0/8']\n";
    let node = Home::with("127.0.0.1:0", 100, config).start().await;
    node.put(&[
        rows::tenant(1, 0),
        rows::trunk(2, "127.0.0.0/16"),
        rows::profile(3, 1, agent),
        rows::number(4, 1, 3, NUMBER),
    ])
    .await;
    node
}

fn twilio(url: &str) -> Value {
    json!({"kind": "twilio", "url": url, "connect_timeout_ms": 2_000, "reconnects": 0})
}

/// How many events of this name the call has of which this holds; `e` is the event, `c` the call.
async fn events(node: &Node, call: &str, name: &str, holds: &str) -> i64 {
    let sql = format!(
        "SELECT count(*) FROM call_events e JOIN calls c ON c.id = e.call_id WHERE \
         c.signalling_id = '{call}' AND e.name = '{name}' AND ({holds})"
    );
    node.count(&sql).await
}

/// Says something senseless of every kind, between which it is understood.
async fn talk_nonsense(stream: &mut Stream) {
    for text in ["{\"event\":", "[]", "{\"event\":7}"] {
        stream.send(text.to_owned()).await;
    }
    for media in ["{}", "{\"payload\":null}"] {
        stream.send(format!("{{\"event\":\"media\",\"media\":{media}}}")).await;
    }
    stream.send("{\"event\":\"media\",\"media\":{\"payload\":\"\\u00e9!\"}}".to_owned()).await;
    stream.send_binary(vec![0xff, 0x00, 0xfe]).await;
    for verb in ["dance", "playAudio", "start", "stop", "connected"] {
        stream.send(format!("{{\"event\":\"{verb}\"}}")).await;
    }
    // What has no name is a mark all the same, and comes back.
    for mark in ["{\"event\":\"mark\"}", "{\"event\":\"mark\",\"mark\":{\"name\":7}}"] {
        stream.send(mark.to_owned()).await;
    }
}

/// What [`talk_nonsense`] leaves in the record.
const NONSENSE: &str = "e.detail->'malformed' = '{\"json\": 3, \"payload\": 2, \"base64\": 1, \"binary\": 1}' \
     AND e.detail->>'unknown' = '5' AND e.detail->>'frames_dropped' = '0' \
     AND e.detail->>'errors' = '0' AND e.seq < (SELECT max(seq) FROM call_events o \
     WHERE o.call_id = e.call_id AND o.name = 'ended')";

#[tokio::test]
async fn nonsense_that_was_borne_is_in_the_record() {
    let bot = Bot::bind().await;
    let node = node(twilio(&bot.url())).await;
    let mut talk = Talk::dial(talk::plan(node.sip(), NUMBER));
    let mut stream = bot.accept().await;
    talk_nonsense(&mut stream).await;
    stream.say(1_000).await;
    stream.mark("end").await;
    stream.until_marks(3).await;
    assert_eq!(stream.marks, ["", "", "end"]);
    talk.hear(10).await;
    let summary = talk.hang_up().await;
    assert!(summary.heard.is_tone(BOT_HZ), "{:?}", summary.heard);
    let record = node.record(&summary.call_id).await;
    assert_eq!((record.cause.as_str(), record.agent_failure), ("normal", None));
    assert_eq!(events(&node, &summary.call_id, "agent_link", NONSENSE).await, 1);

    // Of one that does as it should there is nothing to tell.
    let mut talk = Talk::dial(talk::plan(node.sip(), NUMBER));
    let mut stream = bot.accept().await;
    stream.say(100).await;
    stream.mark("end").await;
    stream.until_marks(1).await;
    talk.hear(1).await;
    let summary = talk.hang_up().await;
    node.record(&summary.call_id).await;
    assert_eq!(events(&node, &summary.call_id, "agent_link", "true").await, 0);
}

#[tokio::test]
async fn the_nonsense_of_a_documents_stream_is_in_the_record_of_its_call() {
    let bot = Bot::bind().await;
    let web = Web::start().await;
    let stream = format!("<Connect><Stream url='{}'/></Connect>", bot.url());
    web.put("/voice", Page::twiml(&stream));
    let node = node(json!({"kind": "twiml", "url": web.url("/voice")})).await;
    // Once the stream ends before its call, once with it.
    for with_call in [false, true] {
        let mut phone = Phone::new("127.0.0.9".parse().unwrap(), node.sip(), NUMBER).await;
        let (answered, mut stream) = tokio::join!(phone.call(""), bot.accept());
        assert_eq!(answered.status(), 200);
        talk_nonsense(&mut stream).await;
        stream.until_marks(2).await;
        if with_call {
            assert_eq!(phone.ask("BYE", "", "").await.status(), 200);
            stream.until_closed().await;
        } else {
            stream.close(1000).await;
            hear_bye(&phone).await;
        }
        let call = &phone.call_id;
        node.record(call).await;
        assert_eq!(events(&node, call, "agent_link", NONSENSE).await, 1, "{with_call}");
    }
}

#[tokio::test]
async fn audio_that_an_agent_did_not_read_is_in_the_record() {
    let bot = Bot::bind().await;
    let node = node(twilio(&bot.url())).await;
    let listener = bot.into_listener();
    socket2::SockRef::from(&listener).set_recv_buffer_size(UNREAD_BYTES).unwrap();
    let mut talk = Talk::dial(talk::plan(node.sip(), NUMBER));
    let (socket, _) = timeout(PATIENCE, listener.accept()).await.unwrap().unwrap();
    let mut stream = accept_async(socket).await.unwrap();
    // It has something to say, and reads nothing.
    let payload = STANDARD.encode(vec![0x20; 160_000]);
    let media = json!({"event": "media", "media": {"payload": payload}});
    stream.send(Message::text(media.to_string())).await.unwrap();
    talk.hear(UNREAD_PACKETS).await;
    let summary = talk.hang_up().await;
    drop(stream);
    node.record(&summary.call_id).await;
    let lost = node.metric("agent_frames_dropped_total").await;
    assert!(lost > 0, "the connection took it all");
    let holds = format!("e.detail->>'frames_dropped' = '{lost}'");
    assert_eq!(events(&node, &summary.call_id, "agent_link", &holds).await, 1);
}

#[tokio::test]
async fn whoever_was_refused_by_an_agent_knows_by_which_status() {
    let bot = Bot::bind().await;
    let node = node(twilio(&bot.url())).await;
    let listener = bot.into_listener();
    let refuse = async {
        loop {
            let (mut socket, _) = timeout(PATIENCE, listener.accept()).await.unwrap().unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                request.push(socket.read_u8().await.unwrap());
            }
            let answer = b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n";
            socket.write_all(answer).await.unwrap();
        }
    };
    let talk = Talk::dial(talk::plan(node.sip(), NUMBER)).over();
    let summary = tokio::select! {
        summary = talk => summary,
        () = refuse => unreachable!("it goes on"),
    };
    let record = node.record(&summary.call_id).await;
    assert_eq!(record.agent_failure.as_deref(), Some("agent_unreachable"));
    let why = "e.detail = '{\"cause\": \"agent_unreachable\", \"why\": \"http_401\"}'";
    assert_eq!(events(&node, &summary.call_id, "agent_failed", why).await, 1);
}

#[tokio::test]
async fn how_a_connection_broke_is_in_the_record() {
    let bot = Bot::bind().await;
    let mut agent = twilio(&bot.url());
    agent["reconnects"] = json!(1);
    let node = node(agent).await;
    let mut talk = Talk::dial(talk::plan(node.sip(), NUMBER));
    let mut stream = bot.accept().await;
    stream.hear(5).await;
    stream.close(1011).await;
    let mut stream = bot.accept().await;
    stream.hear(5).await;
    talk.hear(5).await;
    let summary = talk.hang_up().await;
    node.record(&summary.call_id).await;
    let why = "e.detail = '{\"cause\": \"agent_lost\", \"why\": \"closed_1011\"}'";
    wait_for("it is told", async || {
        (events(&node, &summary.call_id, "agent_interrupted", why).await == 1).then_some(())
    })
    .await;
}

#[tokio::test]
async fn how_the_connection_of_a_documents_stream_broke_is_in_the_record() {
    let bot = Bot::bind().await;
    let mut web = Web::start().await;
    let stream =
        format!("<Connect><Stream url='{}' statusCallback='/stream'/></Connect>", bot.url());
    web.put("/voice", Page::twiml(&stream));
    let agent = json!({"kind": "twiml", "url": web.url("/voice"), "reconnects": 0});
    let node = node(agent).await;
    let mut phone = Phone::new("127.0.0.9".parse().unwrap(), node.sip(), NUMBER).await;
    let (answered, mut stream) = tokio::join!(phone.call(""), bot.accept());
    assert_eq!(answered.status(), 200);
    stream.hear(5).await;
    stream.close(1011).await;
    // The two are told beside each other.
    let told = loop {
        let told = web.asked("/stream").await;
        if told.value("StreamEvent") != "stream-started" {
            break told;
        }
    };
    assert_eq!(told.value("StreamEvent"), "stream-error", "{told:?}");
    assert_eq!(told.value("StreamError"), "agent_lost", "{told:?}");
    hear_bye(&phone).await;
    node.record(&phone.call_id).await;
    let why =
        "e.detail = '{\"what\": \"stream_failed\", \"detail\": \"agent_lost (closed_1011)\"}'";
    assert_eq!(events(&node, &phone.call_id, "script_noted", why).await, 1);
}
