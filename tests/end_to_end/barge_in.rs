//! Callers who speak over their agents.

use crate::bot::BOT_HZ;
use crate::bot::Bot;
use crate::node::Home;
use crate::node::Node;
use crate::postgres;
use crate::rows;
use crate::talk;
use crate::talk::Talk;
use serde_json::Value;
use serde_json::json;
use std::f32::consts::TAU;
use std::path::Path;
use tandem::caller::CallPlan;
use tandem::caller::Speech;

const NUMBER: &str = "+15550121";

/// A caller who is silent, says "ah" for a time, and is silent again; all in ms.
pub(crate) fn write_caller(path: &Path, before: usize, voice: usize) {
    let (channels, bits_per_sample, sample_format) = (1, 16, hound::SampleFormat::Int);
    let spec = hound::WavSpec { channels, sample_rate: 8_000, bits_per_sample, sample_format };
    let mut wav = hound::WavWriter::create(path, spec).unwrap();
    for (ms, speaks) in [(before, false), (voice, true), (30_000, false)] {
        for n in 0..ms * 8 {
            wav.write_sample(sample_of_caller(n, speaks)).unwrap();
        }
    }
    wav.finalize().unwrap();
}

/// The `n`th sample of what it says while it speaks, or is silent.
pub(crate) fn sample_of_caller(n: usize, speaks: bool) -> i16 {
    if !speaks {
        return (n % 3) as i16 - 1;
    }
    let time = n as f32 / 8_000.0;
    let harmonics = (1..=12).map(|k| (TAU * 140.0 * k as f32 * time).sin() / k as f32);
    (harmonics.sum::<f32>() * 6_000.0) as i16
}

async fn node(barge_in: &str) -> (Node, Bot) {
    let bot = Bot::bind().await;
    let node = Home::new().start().await;
    let mut agent = json!({"kind": "twilio", "url": bot.url(), "barge_in": barge_in});
    if barge_in == "pause" {
        agent["barge_in_confirm_ms"] = json!(1_000);
    }
    node.put(&[
        rows::tenant(1, 0),
        rows::trunk(2, "127.0.0.1/32"),
        rows::profile(3, 1, agent),
        rows::number(4, 1, 3, NUMBER),
    ])
    .await;
    (node, bot)
}

fn plan(node: &Node, voice_ms: usize) -> CallPlan {
    let path = node.home.folder().join("caller.wav");
    write_caller(&path, 2_000, voice_ms);
    let mut plan = talk::plan(node.sip(), NUMBER);
    plan.speech = Speech::Wav(path);
    plan
}

/// What the events of this name say, in order.
async fn told(node: &Node, name: &str) -> Vec<Value> {
    let rows = format!(
        "SELECT coalesce(jsonb_agg(detail ORDER BY seq), '[]')::text FROM call_events WHERE name = '{name}'"
    );
    serde_json::from_str(&postgres::text(&node.database(), &rows).await).unwrap()
}

#[tokio::test]
async fn an_agent_is_interrupted_by_the_switch_told_so_and_heard_again_with_its_answer() {
    let (node, bot) = node("flush").await;
    let talk = Talk::dial(plan(&node, 1_500));
    let mut stream = bot.accept().await;
    stream.say(10_000).await;
    stream.mark("end").await;
    while stream.interrupted_at_ms.is_empty() {
        stream.hear(1).await;
    }
    stream.until_marks(1).await;
    // It never clears, and answers once the caller is silent for long.
    stream.hear(150).await;
    stream.say(400).await;
    stream.mark("answered").await;
    stream.until_marks(2).await;
    stream.hear(10).await;
    let summary = talk.hang_up().await;
    assert!(summary.heard.is_tone(BOT_HZ), "{:?}", summary.heard);
    let sound = summary.heard.sound.as_millis();
    let [heard_ms] = stream.interrupted_at_ms[..] else { panic!("{:?}", stream.interrupted_at_ms) };
    // What it was told is what was heard, beside the answer; what the jitter buffer of the caller left out
    // can be missing.
    let expected = u128::from(heard_ms) + 400;
    assert!(sound.abs_diff(expected) <= 100, "{sound} ms of sound for {heard_ms} and 400");
    assert!((1_000..5_000).contains(&heard_ms), "{heard_ms} of 10000");

    node.record(&summary.call_id).await;
    let barge_ins = told(&node, "barge_in").await;
    assert_eq!(barge_ins.len(), 1, "{barge_ins:?}");
    assert_eq!(barge_ins[0]["outcome"], "interrupted");
    assert_eq!(barge_ins[0]["heard_ms"], heard_ms);
    let turns = told(&node, "turn").await;
    assert_eq!(turns.len(), 1, "{turns:?}");
    let time = |name: &str| turns[0][name].as_u64().unwrap();
    assert!(time("stopped_ms") > barge_ins[0]["at_ms"].as_u64().unwrap(), "{turns:?}");
    assert!(time("stopped_ms") < time("first_byte_ms"), "{turns:?}");
    assert!(time("first_byte_ms") <= time("spoken_ms"), "{turns:?}");
    for name in [
        "barge_ins_total{outcome=\"interrupted\"}",
        "turn_gap_seconds_count",
        "agent_first_byte_seconds_count",
    ] {
        assert_eq!(node.metric(name).await, 1, "{name}");
    }
}

#[tokio::test]
async fn a_cough_pauses_an_agent_that_then_goes_on_where_it_was() {
    let (node, bot) = node("pause").await;
    let talk = Talk::dial(plan(&node, 300));
    let mut stream = bot.accept().await;
    stream.say(4_000).await;
    stream.mark("end").await;
    stream.until_marks(1).await;
    stream.hear(10).await;
    let summary = talk.hang_up().await;
    assert_eq!(stream.interrupted_at_ms, [0; 0], "nothing was lost, nothing is told");
    let sound = summary.heard.sound.as_millis();
    assert!(sound.abs_diff(4_000) <= 150, "{sound} of 4000 ms were heard");
    node.record(&summary.call_id).await;
    let barge_ins = told(&node, "barge_in").await;
    let outcomes: Vec<_> = barge_ins.iter().map(|it| it["outcome"].as_str().unwrap()).collect();
    assert_eq!(outcomes, ["resumed"], "{barge_ins:?}");
}

#[tokio::test]
async fn an_agent_that_listens_for_itself_is_told_nothing_and_goes_on() {
    let (node, bot) = node("off").await;
    let talk = Talk::dial(plan(&node, 1_000));
    let mut stream = bot.accept().await;
    stream.say(4_000).await;
    stream.mark("end").await;
    stream.until_marks(1).await;
    let summary = talk.hang_up().await;
    let sound = summary.heard.sound.as_millis();
    assert!(sound.abs_diff(4_000) <= 150, "{sound} of 4000 ms were heard");
    assert_eq!(stream.interrupted_at_ms, [0; 0]);
    node.record(&summary.call_id).await;
    assert_eq!(told(&node, "barge_in").await, [] as [Value; 0]);
}

#[tokio::test]
async fn an_agent_that_is_only_told_goes_on_and_loses_nothing() {
    let (node, bot) = node("notify").await;
    let talk = Talk::dial(plan(&node, 1_500));
    let mut stream = bot.accept().await;
    stream.say(5_000).await;
    stream.mark("end").await;
    stream.until_marks(1).await;
    stream.hear(10).await;
    let summary = talk.hang_up().await;
    let sound = summary.heard.sound.as_millis();
    assert!(sound.abs_diff(5_000) <= 150, "{sound} of 5000 ms were heard");
    let [heard_ms] = stream.interrupted_at_ms[..] else { panic!("{:?}", stream.interrupted_at_ms) };
    assert!((1_000..5_000).contains(&heard_ms), "{heard_ms} of 5000");
    node.record(&summary.call_id).await;
    let barge_ins = told(&node, "barge_in").await;
    assert_eq!(barge_ins.len(), 1, "{barge_ins:?}");
    assert_eq!(barge_ins[0]["outcome"], "told");
    assert_eq!(barge_ins[0]["heard_ms"], heard_ms);
    assert_eq!(node.metric("barge_ins_total{outcome=\"told\"}").await, 1);
}

#[tokio::test]
async fn a_gap_in_what_an_agent_says_is_told_with_whose_fault_it_is() {
    let (node, bot) = node("off").await;
    let talk = Talk::dial(talk::plan(node.sip(), NUMBER));
    let mut stream = bot.accept().await;
    let gaps = "agent_underruns_total{late=\"agent\"}";
    // On a busy machine it may take a few.
    while node.metric(gaps).await == 0 {
        stream.say(200).await;
        stream.hear(15).await;
    }
    // Nothing says that its reply is over: no mark, and no word of the caller. The first may end the last short one.
    let due = node.metric(gaps).await + 2;
    while node.metric(gaps).await < due {
        stream.say(200).await;
        stream.hear(60).await;
    }
    let summary = talk.hang_up().await;
    node.record(&summary.call_id).await;
    let told = told(&node, "underrun").await;
    assert!(!told.is_empty());
    assert!(told.iter().any(|gap| gap["late"] == "agent"), "{told:?}");
    let lengths = || told.iter().map(|gap| gap["ms"].as_u64().unwrap());
    assert!(lengths().all(|ms| (20..=3_000).contains(&ms)), "{told:?}");
    assert!(lengths().any(|ms| ms > 420), "{told:?}");
}
