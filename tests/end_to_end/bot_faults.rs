//! Calls with an agent that is not there, goes away, or talks nonsense.

use crate::barge_in::write_caller;
use crate::bot::BOT_HZ;
use crate::bot::Bot;
use crate::carrier;
use crate::next_hops;
use crate::node::Home;
use crate::node::Node;
use crate::node::PATIENCE;
use crate::node::wait_for;
use crate::rows;
use crate::talk;
use crate::talk::Talk;
use serde_json::Value;
use serde_json::json;
use std::time::Duration;
use tandem::caller::CallSummary;
use tandem::caller::EndedBy;
use tandem::caller::Speech;
use tandem::store::api_keys::KeyRole;
use tokio::net::TcpListener;
use tokio::time::timeout;

const NUMBER: &str = "+15550130";
/// The announcement is the special information tone, twice; this much of it is surely heard.
const ANNOUNCED_MIN: Duration = Duration::from_millis(1_500);

async fn node(url: &str) -> Node {
    let agent = json!({"kind": "twilio", "url": url, "connect_timeout_ms": 500, "reconnects": 0});
    node_of(agent).await
}

async fn node_of(agent: Value) -> Node {
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

/// The caller heard the announcement, was hung up on with a reason, and the record has the cause.
async fn check_fallback(node: &Node, summary: &CallSummary, cause: &str) {
    assert_eq!((summary.problem.as_ref(), summary.ended_by), (None, Some(EndedBy::FarEnd)));
    assert!(summary.heard.sound >= ANNOUNCED_MIN, "the caller heard {:?}", summary.heard);
    assert!(!summary.heard.is_tone(BOT_HZ), "the caller heard the agent: {:?}", summary.heard);
    let reason = summary.bye_reason.as_deref().unwrap_or_default();
    assert!(reason.starts_with("Q.850;cause="), "{reason}");
    assert!(reason.ends_with(&format!("text=\"{cause}\"")), "{reason}");
    let record = node.record(&summary.call_id).await;
    assert_eq!((record.cause.as_str(), record.ended_by.as_str()), (cause, "switch"));
    assert_eq!(record.agent_failure.as_deref(), Some(cause));
    assert!(record.has_fallback && record.is_answered, "{record:?}");
    let failures = format!("agents_failed_total{{cause=\"{cause}\"}}");
    assert_eq!(node.metric(&failures).await, 1);
}

#[tokio::test]
async fn an_agent_that_refuses_is_replaced_by_the_announcement() {
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let node = node(&format!("ws://{nobody}/")).await;
    let summary = Talk::dial(talk::plan(node.sip(), NUMBER)).over().await;
    check_fallback(&node, &summary, "agent_unreachable").await;
}

#[tokio::test]
async fn an_agent_that_hangs_is_replaced_by_the_announcement() {
    // The system takes the connection; nobody reads from it.
    let hanging = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let node = node(&format!("ws://{}/", hanging.local_addr().unwrap())).await;
    let summary = Talk::dial(talk::plan(node.sip(), NUMBER)).over().await;
    check_fallback(&node, &summary, "agent_unreachable").await;
}

#[tokio::test]
async fn an_agent_that_breaks_off_is_replaced_by_the_announcement() {
    let bot = Bot::bind().await;
    let node = node(&bot.url()).await;
    let talk = Talk::dial(talk::plan(node.sip(), NUMBER));
    let mut stream = bot.accept().await;
    stream.hear(50).await;
    // What it had still to say is not played before the announcement.
    stream.say(20_000).await;
    stream.close(1011).await;
    check_fallback(&node, &talk.over().await, "agent_lost").await;
}

/// The bot of a caller on hold, or whom the application muted, breaks off: nobody else would take the caller back.
#[tokio::test]
async fn the_announcement_reaches_a_caller_who_was_put_on_hold() {
    let bot = Bot::bind().await;
    let node = node(&bot.url()).await;
    let key = carrier::key(&node, 1, KeyRole::Operator).await;
    let talk = Talk::dial(talk::plan(node.sip(), NUMBER));
    let mut stream = bot.accept().await;
    stream.hear(50).await;
    let call = next_hops::the_call(&node, &key).await;
    for (order, body) in [("hold", json!({})), ("mute", json!({"party": "agent"}))] {
        let path = carrier::calls(1, &format!("/{call}/{order}"));
        let answer = node.post(&path, &key, &body).await;
        assert_eq!(answer.status, 200, "{order}: {}", answer.body);
    }
    stream.hear(20).await;
    stream.close(1011).await;
    check_fallback(&node, &talk.over().await, "agent_lost").await;
    let record = carrier::shown(&node, 1, &call, &key).await;
    let events = record["events"].as_array().unwrap();
    let place = |name: &str| events.iter().position(|event| event["name"] == name);
    assert!(place("hold_begun") < place("hold_ended"), "{events:?}");
    assert!(place("muted") < place("unmuted"), "{events:?}");
}

#[tokio::test]
async fn an_agent_that_talks_nonsense_is_replaced_by_the_announcement() {
    let bot = Bot::bind().await;
    let node = node(&bot.url()).await;
    let talk = Talk::dial(talk::plan(node.sip(), NUMBER));
    let mut stream = bot.accept().await;
    stream.hear(10).await;
    for _ in 0..100 {
        stream.try_send("{\"event\":").await;
    }
    check_fallback(&node, &talk.over().await, "agent_garbage").await;
    wait_for("the nonsense is counted", async || {
        let counted = node.metric("agent_messages_malformed_total{what=\"json\"}").await;
        (counted == 100).then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_agent_that_closes_in_order_ends_the_call_after_its_last_words() {
    let bot = Bot::bind().await;
    let node = node(&bot.url()).await;
    let talk = Talk::dial(talk::plan(node.sip(), NUMBER));
    let mut stream = bot.accept().await;
    stream.hear(10).await;
    stream.say(1_500).await;
    stream.close(1000).await;
    let summary = talk.over().await;
    assert_eq!((summary.problem.as_ref(), summary.ended_by), (None, Some(EndedBy::FarEnd)));
    assert!(summary.heard.is_tone(BOT_HZ), "{:?}", summary.heard);
    let sound = summary.heard.sound;
    assert!((1_400..1_700).contains(&sound.as_millis()), "heard {sound:?} of 1.5 s");
    let record = node.record(&summary.call_id).await;
    assert_eq!((record.cause.as_str(), record.ended_by.as_str()), ("normal", "agent"));
    assert!(!record.has_fallback && record.agent_failure.is_none(), "{record:?}");
}

/// A node whose number is answered by `first`, with the agent of `second` behind it.
async fn node_with_next(first: &str, second: &str) -> Node {
    with_next(node(first).await, second).await
}

async fn with_next(node: Node, second: &str) -> Node {
    let (own, next) = (rows::uuid(3), rows::uuid(5));
    node.put(&[
        rows::profile(5, 1, json!({"kind": "twilio", "url": second})),
        format!(
            "UPDATE ai_profiles SET fallback_profiles = ARRAY['{next}'::uuid] WHERE id = '{own}'"
        ),
    ])
    .await;
    node
}

/// The caller talked with the second agent, and the record says how it came to that.
async fn check_next(node: &Node, summary: &CallSummary, cause: &str) {
    assert_eq!(summary.problem, None);
    assert!(summary.heard.is_tone(BOT_HZ), "the caller heard {:?}", summary.heard);
    let record = node.record(&summary.call_id).await;
    assert_eq!((record.cause.as_str(), record.ended_by.as_str()), ("normal", "caller"));
    assert_eq!(record.agent_failure.as_deref(), Some(cause));
    assert!(!record.has_fallback && record.is_answered, "{record:?}");
    let next = rows::uuid(5);
    let profile = format!(
        "SELECT count(*) FROM calls c JOIN call_events e ON e.call_id = c.id \
         WHERE c.ai_profile_id = '{next}' AND e.name = 'agent_replaced' \
         AND e.detail->>'ai_profile_id' = '{next}'"
    );
    assert_eq!(node.count(&profile).await, 1);
    assert_eq!(node.metric("agents_replaced_total").await, 1);
}

#[tokio::test]
async fn an_agent_that_is_not_reached_is_replaced_by_the_next_while_it_rings() {
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let bot = Bot::bind().await;
    let node = node_with_next(&format!("ws://{nobody}/"), &bot.url()).await;
    let mut talk = Talk::dial(talk::plan(node.sip(), NUMBER));
    let mut stream = bot.accept().await;
    stream.say(1_500).await;
    stream.mark("said").await;
    stream.until_marks(1).await;
    talk.hear(10).await;
    check_next(&node, &talk.hang_up().await, "agent_unreachable").await;
}

#[tokio::test]
async fn an_agent_that_is_lost_in_a_call_is_replaced_by_the_next() {
    let (first, second) = (Bot::bind().await, Bot::bind().await);
    let node = node_with_next(&first.url(), &second.url()).await;
    let mut talk = Talk::dial(talk::plan(node.sip(), NUMBER));
    let mut lost = first.accept().await;
    lost.hear(25).await;
    lost.close(1011).await;
    let mut stream = second.accept().await;
    stream.say(1_500).await;
    stream.mark("said").await;
    stream.until_marks(1).await;
    talk.hear(10).await;
    check_next(&node, &talk.hang_up().await, "agent_lost").await;
}

#[tokio::test]
async fn an_agent_that_freezes_after_its_first_words_is_replaced_once_its_caller_has_waited() {
    let (first, second) = (Bot::bind().await, Bot::bind().await);
    let limit =
        json!({"kind": "twilio", "url": first.url(), "reconnects": 0, "silence_limit_ms": 1_000});
    let node = with_next(node_of(limit).await, &second.url()).await;
    // It is silent for longer than the agent may be, and then speaks for longer than that.
    let path = node.home.folder().join("caller.wav");
    write_caller(&path, 2_000, 1_500);
    let mut plan = talk::plan(node.sip(), NUMBER);
    plan.speech = Speech::Wav(path);
    let mut talk = Talk::dial(plan);
    let mut frozen = first.accept().await;
    frozen.say(300).await;
    frozen.mark("said").await;
    frozen.until_marks(1).await;
    // It goes on reading, so that its connection lives, and says nothing any more.
    let listens = tokio::spawn(async move {
        frozen.until_closed().await;
        frozen.heard_frames()
    });
    let mut stream = second.accept().await;
    stream.say(1_500).await;
    stream.mark("said").await;
    stream.until_marks(1).await;
    talk.hear(10).await;
    check_next(&node, &talk.hang_up().await, "agent_silent").await;
    let heard = timeout(PATIENCE, listens).await.expect("it was let go").unwrap();
    // 3.5 s, and a second of patience.
    assert!((225..500).contains(&heard), "{heard} frames");
}

#[tokio::test]
async fn after_the_last_agent_the_caller_hears_the_announcement() {
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let url = format!("ws://{nobody}/");
    let node = node_with_next(&url, &url).await;
    let summary = Talk::dial(talk::plan(node.sip(), NUMBER)).over().await;
    assert!(summary.heard.sound >= ANNOUNCED_MIN, "the caller heard {:?}", summary.heard);
    let record = node.record(&summary.call_id).await;
    assert_eq!(record.cause, "agent_unreachable");
    assert!(record.has_fallback, "{record:?}");
}
