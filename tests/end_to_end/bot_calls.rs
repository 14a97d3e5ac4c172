//! Calls with an agent that works.

use crate::bot::BOT_HZ;
use crate::bot::Bot;
use crate::node::Home;
use crate::node::Record;
use crate::rows;
use crate::talk;
use crate::talk::CALLER;
use crate::talk::CALLER_HZ;
use crate::talk::Peer;
use crate::talk::Talk;
use serde_json::json;
use std::time::Duration;
use tandem::caller::EndedBy;
use tandem::clock;

const NUMBER: &str = "+15550120";
/// A change is told by a notification; without one it is only seen at the next poll, 5 s later.
const IN_FORCE_MAX: Duration = Duration::from_secs(3);

#[tokio::test]
async fn a_bot_behind_a_number_that_is_new_talks_listens_and_learns_of_the_end() {
    let bot = Bot::bind().await;
    let node = Home::new().start().await;
    node.put(&[rows::tenant(1, 0), rows::trunk(2, "127.0.0.1/32")]).await;
    let peer = Peer::at("127.0.0.1", node.sip()).await;
    assert_eq!(peer.invite(NUMBER).await.refusal(), (404, "unknown_number", false));
    let agent = json!({"kind": "twilio", "url": bot.url(), "parameters": {"mood": "good"}});
    let begun = clock::now();
    node.put(&[rows::profile(3, 1, agent), rows::number(4, 1, 3, NUMBER)]).await;
    assert!(clock::now().since(begun) < IN_FORCE_MAX, "the new number was in force late");

    let mut plan = talk::plan(node.sip(), NUMBER);
    plan.digits = "5".to_owned();
    let mut talk = Talk::dial(plan);
    let mut stream = bot.accept().await;
    let parameters = json!({"from_number": CALLER, "to_number": NUMBER, "mood": "good"});
    assert_eq!(stream.start["start"]["customParameters"], parameters);

    stream.hear(75).await;
    let heard = stream.heard_hz();
    assert!((heard - f32::from(CALLER_HZ)).abs() < 10.0, "the bot hears {heard} Hz");

    let begun = stream.heard_frames();
    for name in ["one", "two", "three"] {
        stream.say(200).await;
        stream.mark(name).await;
    }
    stream.until_marks(3).await;
    assert_eq!(stream.marks, ["one", "two", "three"]);
    let frames = stream.heard_frames() - begun;
    assert!(frames >= 25, "600 ms were played within {frames} frames");

    stream.say(20_000).await;
    stream.mark("cleared").await;
    // The caller's frames may reach the bot late and at once; the caller's own clock is the tick.
    talk.hear(40).await;
    stream.hear(25).await;
    assert_eq!(stream.marks.len(), 3, "a mark behind 20 s of audio came back at once");
    stream.clear().await;
    stream.until_marks(4).await;
    assert_eq!(stream.marks[3], "cleared");
    stream.hear(100).await;

    let summary = talk.hang_up().await;
    assert_eq!(stream.until_closed().await, 1000);
    assert!(stream.is_stopped, "closed without stop");
    assert_eq!(stream.keys, "5");

    assert_eq!((summary.problem.as_ref(), summary.ended_by), (None, Some(EndedBy::Us)));
    assert!(summary.heard.is_tone(BOT_HZ), "the caller heard {:?}", summary.heard);
    // 0.6 s, and some more until the clear; the 2 s after it are silent.
    let sound = summary.heard.sound;
    assert!((900..2_000).contains(&sound.as_millis()), "the caller heard sound for {sound:?}");

    let record = node.record(&summary.call_id).await;
    let (packets_in, packets_out) = (record.packets_in.unwrap(), record.packets_out.unwrap());
    assert!(packets_in > 100 && packets_out > 100, "{packets_in} in, {packets_out} out");
    let expected = Record {
        cause: "normal".to_owned(),
        ended_by: "caller".to_owned(),
        agent_failure: None,
        has_fallback: false,
        is_answered: true,
        codec: Some("PCMU".to_owned()),
        digits: 1,
        packets_in: Some(packets_in),
        packets_out: Some(packets_out),
    };
    assert_eq!(record, expected);
}

#[tokio::test]
async fn every_call_moves_the_metrics_by_one() {
    let node = Home::new().start().await;
    node.put(&[
        rows::tenant(1, 0),
        rows::trunk(2, "127.0.0.1/32"),
        rows::profile(3, 1, json!({"kind": "tone"})),
        rows::number(4, 1, 3, NUMBER),
    ])
    .await;
    let figures = async || {
        let mut all = Vec::new();
        for name in [
            "calls_received_total",
            "calls_answered_total",
            "calls_ended_total{cause=\"normal\"}",
            "calls_refused_total{cause=\"unknown_number\"}",
            "call_setup_seconds_count{direction=\"inbound\"}",
            "call_faults_total",
        ] {
            all.push(node.metric(name).await);
        }
        all
    };
    assert_eq!(figures().await, [0, 0, 0, 0, 0, 0]);
    let mut talk = Talk::answered(talk::plan(node.sip(), NUMBER)).await;
    talk.hear(50).await;
    assert_eq!(figures().await, [1, 1, 0, 0, 1, 0]);
    let summary = talk.hang_up().await;
    assert_eq!(summary.problem, None);
    node.record(&summary.call_id).await;
    assert_eq!(figures().await, [1, 1, 1, 0, 1, 0]);
    let peer = Peer::at("127.0.0.1", node.sip()).await;
    assert_eq!(peer.invite("+15550121").await.status(), 404);
    assert_eq!(figures().await, [2, 1, 1, 1, 1, 0]);
    let (packets_in, packets_out) = (
        node.metric("media_packets_received_total").await,
        node.metric("media_packets_sent_total").await,
    );
    assert!(packets_in >= 25 && packets_out >= 50, "{packets_in} in, {packets_out} out");
}
