//! Agents that die in calls, and agents that are not called because they do: callers are looked after.

use crate::bot::BOT_HZ;
use crate::bot::Bot;
use crate::bot::Stream;
use crate::carrier;
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
use serde_json::Value;
use serde_json::json;
use std::collections::BTreeMap;
use std::io::Write;
use std::process::Stdio;
use tandem::audio::g711;
use tandem::audio::tone::share_at;
use tandem::store::api_keys::KeyRole;
use tandem::types::codec::Law;
use tokio::io::AsyncBufReadExt;
use tokio::io::BufReader;
use tokio::io::Lines;
use tokio::process::Child;
use tokio::process::ChildStdout;
use tokio::process::Command;
use tokio::time::timeout;

const NUMBER: &str = "+15550132";
/// Failures in a row after which an agent is not called for a while.
const FAILURES: usize = 5;
/// Set for a process that is a bot, and nothing else.
const IS_BOT: &str = "TANDEM_TEST_IS_BOT";
const CALLS: usize = 50;
/// Packets without a sound between an agent's last word and what the caller hears instead: 200 ms. A busy machine adds
/// to that, so the best of some calls must keep to it.
const QUIET_MAX: u32 = 10;
const QUIET_TRIES: usize = 6;
/// The same of one call, whatever else the machine does.
const QUIET_BUSY_MAX: u32 = 50;
/// What ITU-T E.180 recommends for ringing, in Hz.
const RING_HZ: u16 = 425;

/// A node whose number is answered by `first`, with the agent of `second` behind it.
async fn node(first: Value, second: Value, rtp_ports: u16) -> Node {
    node_with((first, second), rtp_ports, "").await
}

/// The same, with more in its configuration.
async fn node_with((first, second): (Value, Value), rtp_ports: u16, config: &str) -> Node {
    let node = Home::with("127.0.0.1:0", rtp_ports, config).start().await;
    let (own, next) = (rows::uuid(3), rows::uuid(5));
    node.put(&[
        rows::tenant(1, 0),
        rows::trunk(2, "127.0.0.0/16"),
        rows::profile(3, 1, first),
        rows::profile(5, 1, second),
        rows::number(4, 1, 3, NUMBER),
    ])
    .await;
    let order = format!(
        "UPDATE ai_profiles SET fallback_profiles = ARRAY['{next}'::uuid] WHERE id = '{own}'"
    );
    node.put(&[order]).await;
    node
}

fn twilio(url: &str) -> Value {
    json!({"kind": "twilio", "url": url})
}

/// How the agent of the first profile stands.
async fn endpoint(node: &Node, key: &str) -> Value {
    let path = format!("/api/v1/tenants/{}/agent-endpoints", rows::uuid(1));
    let shown = node.read(&path, key).await;
    let mut agents = shown["agents"].as_array().unwrap().iter();
    let own = rows::uuid(3).to_string();
    agents.find(|agent| agent["ai_profile_id"] == own.as_str()).unwrap().clone()
}

async fn until_state(node: &Node, key: &str, state: &str) -> Value {
    wait_for(state, async || {
        let endpoint = endpoint(node, key).await;
        (endpoint["state"] == state).then_some(endpoint)
    })
    .await
}

#[tokio::test]
async fn an_agent_that_fails_is_left_out_for_a_while_and_taken_back_once_a_call_succeeds() {
    let (first, second) = (Bot::bind().await, Bot::bind().await);
    let node =
        node(twilio(&format!("{}?token=secret", first.url())), twilio(&second.url()), 100).await;
    let key = carrier::key(&node, 1, KeyRole::Viewer).await;
    assert_eq!(endpoint(&node, &key).await["state"], "closed");
    for _ in 0..FAILURES {
        let mut talk = Talk::dial(talk::plan(node.sip(), NUMBER));
        first.turn_away(2).await;
        let stream = second.accept().await;
        assert_eq!(stream.start["start"]["customParameters"]["tandem_resumed"], "takeover");
        talk.hear(5).await;
        let summary = talk.hang_up().await;
        let record = node.record(&summary.call_id).await;
        assert_eq!(record.agent_failure.as_deref(), Some("agent_unreachable"));
    }
    let shown = endpoint(&node, &key).await;
    assert_ne!(shown["state"], "closed", "{shown}");
    assert_eq!(shown["endpoint"], first.url(), "without what may be secret");
    assert_eq!(
        (&shown["failures_in_a_row"], &shown["last_failure"]),
        (&json!(FAILURES), &json!("agent_unreachable"))
    );
    assert_eq!(node.metric("agent_circuits_opened_total").await, 1);

    // The next call tries whether it is back; a second one beside that does not.
    until_state(&node, &key, "half_open").await;
    wait_for("the gauge", async || {
        (node.metric("agent_circuits{state=\"half_open\"}").await == 1).then_some(())
    })
    .await;
    let trial = Talk::dial(talk::plan(node.sip(), NUMBER));
    let mut stream = first.accept().await;
    let mut beside = Talk::dial(talk::plan(node.sip(), NUMBER));
    second.accept().await;
    beside.hear(5).await;
    let summary = beside.hang_up().await;
    let record = node.record(&summary.call_id).await;
    assert_eq!(record.agent_failure.as_deref(), Some("agent_circuit_open"), "{record:?}");
    assert!(record.is_answered && !record.has_fallback, "{record:?}");
    assert_eq!(node.metric("agents_skipped_total").await, 1);
    stream.say(200).await;
    let shown = until_state(&node, &key, "closed").await;
    assert_eq!(shown["failures_in_a_row"], 0);
    let profile = format!("/api/v1/tenants/{}/ai-profiles/{}", rows::uuid(1), rows::uuid(3));
    assert_eq!(node.read(&profile, &key).await["agent_endpoint"]["state"], "closed");
    let summary = trial.hang_up().await;
    assert_eq!(node.record(&summary.call_id).await.agent_failure, None);
}

#[tokio::test]
async fn a_web_server_that_fails_is_not_waited_for_by_every_caller() {
    const REACH: &str = "[webhooks]\nallow_http = true\nallow_networks = ['127.0.0.0/8']\n";
    const VOICE: &str = "/voice?token=secret";
    let (web, second) = (Web::start().await, Bot::bind().await);
    let agents = (json!({"kind": "twiml", "url": web.url(VOICE)}), twilio(&second.url()));
    let node = node_with(agents, 100, REACH).await;
    let key = carrier::key(&node, 1, KeyRole::Viewer).await;
    assert_eq!(endpoint(&node, &key).await["state"], "closed");
    web.put(VOICE, Page::HangUp);
    let mut talks = Vec::new();
    for _ in 0..FAILURES {
        let mut talk = Talk::dial(talk::plan(node.sip(), NUMBER));
        let stream = second.accept().await;
        talk.hear(5).await;
        talks.push((talk, stream));
    }
    // Another would be kept waiting by it now.
    web.put(VOICE, Page::Silence);
    let mut next = Talk::dial(talk::plan(node.sip(), NUMBER));
    let _stream = second.accept().await;
    next.hear(5).await;
    let summary = next.hang_up().await;
    let record = node.record(&summary.call_id).await;
    assert_eq!(record.agent_failure.as_deref(), Some("agent_circuit_open"), "{record:?}");
    assert_eq!(node.metric("agents_skipped_total").await, 1);
    assert_eq!(node.metric("agent_circuits_opened_total").await, 1);
    for (talk, _stream) in talks {
        let summary = talk.hang_up().await;
        let record = node.record(&summary.call_id).await;
        assert_eq!(record.agent_failure.as_deref(), Some("agent_unreachable"));
    }
    let shown = endpoint(&node, &key).await;
    assert_eq!(shown["endpoint"], web.url("/voice"), "without what may be secret");
    assert_eq!(shown["failures_in_a_row"], json!(FAILURES));
    // One call tries whether it is back.
    until_state(&node, &key, "half_open").await;
    web.put(VOICE, Page::twiml("<Play>/sound.ulaw</Play><Pause length='60'/>"));
    web.put("/sound.ulaw", Page::of("audio/basic", [0x2a; 4_000]));
    let mut talk = Talk::dial(talk::plan(node.sip(), NUMBER));
    talk.hear(5).await;
    assert_eq!(until_state(&node, &key, "closed").await["failures_in_a_row"], 0);
    let summary = talk.hang_up().await;
    assert_eq!(node.record(&summary.call_id).await.agent_failure, None);
}

#[tokio::test]
async fn an_agent_behind_sip_that_fails_is_left_out_and_taken_back_like_any_other() {
    let second = Bot::bind().await;
    // Its address is known only once the node is.
    let node = node(json!({"kind": "echo"}), twilio(&second.url()), 100).await;
    let mut bot = carrier::carrier(&node, "127.0.0.8").await;
    let agent = json!({"kind": "sip", "uri": format!("sip:bot@{};x=secret", bot.local())});
    let own = rows::uuid(3);
    node.put(&[format!("UPDATE ai_profiles SET agent = '{agent}' WHERE id = '{own}'")]).await;
    let key = carrier::key(&node, 1, KeyRole::Viewer).await;
    for _ in 0..FAILURES {
        let mut talk = Talk::dial(talk::plan(node.sip(), NUMBER));
        let invite = bot.expect("INVITE ").await;
        carrier::refuse(&bot, &invite, "500 Server Internal Error", "").await;
        let _stream = second.accept().await;
        talk.hear(5).await;
        talk.hang_up().await;
    }
    let shown = endpoint(&node, &key).await;
    assert_ne!(shown["state"], "closed", "{shown}");
    assert_eq!(shown["endpoint"], format!("sip:bot@{}", bot.local()));
    assert_eq!(
        (&shown["failures_in_a_row"], &shown["last_failure"]),
        (&json!(FAILURES), &json!("agent_unreachable"))
    );
    assert_eq!(node.metric("agent_circuits_opened_total").await, 1);
    // One call tries whether it is back, and beside that no other does.
    until_state(&node, &key, "half_open").await;
    let trial = Talk::dial(talk::plan(node.sip(), NUMBER));
    let invite = bot.expect("INVITE ").await;
    let mut beside = Talk::dial(talk::plan(node.sip(), NUMBER));
    let _stream = second.accept().await;
    beside.hear(5).await;
    let summary = beside.hang_up().await;
    let record = node.record(&summary.call_id).await;
    assert_eq!(record.agent_failure.as_deref(), Some("agent_circuit_open"), "{record:?}");
    assert_eq!(node.metric("agents_skipped_total").await, 1);
    carrier::pick_up(&mut bot, &invite).await;
    let shown = until_state(&node, &key, "closed").await;
    assert_eq!(shown["failures_in_a_row"], 0);
    let hung_up = trial.hang_up();
    let (summary, _) = tokio::join!(hung_up, carrier::hear_bye(&bot));
    assert_eq!(node.record(&summary.call_id).await.agent_failure, None);
}

/// Audio of packets, as they come, with their sequence numbers and time stamps.
async fn frame(phone: &Phone) -> (u16, u32, [i16; 160]) {
    let mut packet = [0; 2_048];
    let heard = timeout(PATIENCE, phone.media.recv_from(&mut packet)).await;
    let (length, _) = heard.expect("audio").unwrap();
    let mut linear = [0; 160];
    g711::decode(Law::Mu, &packet[12..length], &mut linear);
    let timestamp = u32::from_be_bytes([packet[4], packet[5], packet[6], packet[7]]);
    (u16::from_be_bytes([packet[2], packet[3]]), timestamp, linear)
}

/// Listens until it hears a tone of this frequency.
async fn until_tone(phone: &Phone, hz: u16) {
    // What came before is not of interest, and may have overflown.
    phone.drain_media_now().await;
    let mut before = None;
    for _ in 0..1_000 {
        let (sequence, _, audio) = frame(phone).await;
        let expected = before.map_or(sequence, |before: u16| before.wrapping_add(1));
        assert_eq!(sequence, expected, "the audio never stops");
        before = Some(sequence);
        let is_loud = audio.iter().any(|sample| sample.unsigned_abs() > 1_000);
        if is_loud && share_at(&audio, hz) > 0.8 {
            return;
        }
    }
    panic!("no tone of {hz} Hz");
}

#[tokio::test]
async fn a_caller_whose_agent_breaks_off_hears_comfort_and_then_the_same_agent_again() {
    let (first, second) = (Bot::bind().await, Bot::bind().await);
    let mut agent = twilio(&first.url());
    agent["reconnects"] = json!(5);
    let node = node(agent, twilio(&second.url()), 100).await;
    let mut phone = Phone::new([127, 0, 0, 9].into(), node.sip(), NUMBER).await;
    let (_, mut stream) = tokio::join!(phone.call(""), first.accept());
    let sid = stream.start["start"]["callSid"].clone();
    stream.say(2_000).await;
    until_tone(&phone, BOT_HZ).await;
    stream.mark("said").await;
    stream.until_marks(1).await;
    // Without a word, like a process that is killed. Within 200 ms, as virtual time shows; here machines are
    // busy, but it comes before the agent does.
    drop(stream);
    until_tone(&phone, RING_HZ).await;
    let mut again = first.accept_back().await;
    assert_eq!(again.start["start"]["callSid"], sid, "the same call");
    assert_eq!(again.start["start"]["customParameters"]["tandem_resumed"], "reconnect");
    again.say(2_000).await;
    until_tone(&phone, BOT_HZ).await;
    phone.hang_up().await;
    let record = node.record(&phone.call_id).await;
    assert_eq!((record.cause.as_str(), record.ended_by.as_str()), ("normal", "caller"));
    assert!(record.agent_failure.is_none() && !record.has_fallback, "{record:?}");
    let events = "SELECT count(*) FROM call_events WHERE name = 'agent_resumed' OR \
                  (name = 'agent_interrupted' AND detail->>'cause' = 'agent_lost')";
    assert_eq!(node.count(events).await, 2);
    assert_eq!(node.metric("agents_resumed_total").await, 1);
    assert_eq!(node.metric("agents_interrupted_total{cause=\"agent_lost\"}").await, 1);
}

#[tokio::test]
async fn what_a_bot_wrote_down_of_its_call_is_told_to_it_when_it_is_back_and_to_the_next() {
    let (first, second) = (Bot::bind().await, Bot::bind().await);
    let mut agent = twilio(&first.url());
    (agent["reconnects"], agent["reconnect_pause_ms"]) = (json!(1), json!(100));
    let node = node(agent, twilio(&second.url()), 100).await;
    let key = carrier::key(&node, 1, KeyRole::Operator).await;
    let mut phone = Phone::new([127, 0, 0, 9].into(), node.sip(), NUMBER).await;
    let (_, stream) = tokio::join!(phone.call(""), first.accept());
    let sid = stream.start["start"]["callSid"].as_str().unwrap().to_owned();
    let path = carrier::calls(1, &format!("/{}/transcript", sid.strip_prefix("CA").unwrap()));
    // Words that are not final may be others in the end, and others than the two are nobody the agent knows.
    let turns = json!({"turns": [
        {"seq": 0, "speaker": "agent", "text": "Hello."},
        {"seq": 1, "speaker": "caller", "text": "I", "final": false},
        {"seq": 2, "speaker": "other", "text": "Static."},
    ]});
    assert_eq!(node.post(&path, &key, &turns).await.status, 200);
    let turns = json!({"turns": [{"seq": 1, "speaker": "caller", "text": "I am \"A\"."}]});
    assert_eq!(node.post(&path, &key, &turns).await.status, 200);
    let told = json!([
        {"speaker": "agent", "text": "Hello."}, {"speaker": "caller", "text": "I am \"A\"."},
    ]);
    let transcript = |stream: &Stream, how: &str| {
        let parameters = &stream.start["start"]["customParameters"];
        assert_eq!(parameters["tandem_resumed"], how);
        let text = parameters["tandem_transcript"].as_str().unwrap_or_default();
        serde_json::from_str::<Value>(text).unwrap_or_default()
    };
    drop(stream);
    let again = first.accept_back().await;
    assert_eq!(transcript(&again, "reconnect"), told);
    drop((again, first));
    let next = second.accept().await;
    assert_eq!(transcript(&next, "takeover"), told);
    phone.hang_up().await;
}

/// A bot in a process of its own.
struct Program {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Program {
    /// Starts one; where it listens.
    async fn start() -> (Self, String) {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["endurance::a_bot_in_a_process_of_its_own", "--exact", "--nocapture"])
            .env(IS_BOT, "1")
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut program = Self { child, lines };
        let url = program.said("BOT ").await;
        (program, url)
    }

    /// What stands behind `word` in the next line that has it.
    async fn said(&mut self, word: &str) -> String {
        loop {
            let line = timeout(PATIENCE, self.lines.next_line()).await.expect("a line");
            let line = line.unwrap().expect("it runs");
            if let Some((_, said)) = line.split_once(word) {
                return said.trim().to_owned();
            }
        }
    }

    /// Waits until it speaks in all calls; how it came into how many.
    async fn speaks_in_all(&mut self) -> BTreeMap<String, usize> {
        let mut calls = BTreeMap::new();
        for _ in 0..CALLS {
            *calls.entry(self.said("SPEAKS ").await).or_default() += 1;
        }
        calls
    }
}

/// Not a check but the bot of one: it speaks without an end in every call, until it is killed.
#[tokio::test]
async fn a_bot_in_a_process_of_its_own() {
    if std::env::var_os(IS_BOT).is_none() {
        return;
    }
    let bot = Bot::bind().await;
    println!("\nBOT {}", bot.url());
    loop {
        let mut stream = bot.accept().await;
        tokio::spawn(async move {
            let how = &stream.start["start"]["customParameters"]["tandem_resumed"];
            let how = how.as_str().unwrap_or("first").to_owned();
            stream.say(1_000).await;
            println!("SPEAKS {how}");
            drop(std::io::stdout().flush());
            while stream.hears_on(50).await {
                stream.say(1_000).await;
            }
        });
    }
}

/// Packets without a sound that the caller hears between the last word of an agent and the ringing that comforts it, by
/// their time stamps: also what was not sent is counted.
async fn quiet_before_comfort(phone: &Phone) -> u32 {
    let (mut last_word, mut before) = (None, None);
    loop {
        let (sequence, timestamp, audio) = frame(phone).await;
        let expected = before.map_or(sequence, |before: u16| before.wrapping_add(1));
        assert_eq!(sequence, expected, "the audio never stops");
        before = Some(sequence);
        let is_loud = audio.iter().any(|sample| sample.unsigned_abs() > 1_000);
        if is_loud && share_at(&audio, RING_HZ) > 0.8 {
            let last_word: u32 = last_word.expect("the agent is heard first");
            return timestamp.wrapping_sub(last_word) / 160 - 1;
        }
        if is_loud || last_word.is_none() {
            last_word = Some(timestamp);
        }
        let quiet = timestamp.wrapping_sub(last_word.unwrap_or(timestamp)) / 160;
        assert!(quiet <= QUIET_BUSY_MAX, "nothing but silence");
    }
}

#[tokio::test]
async fn comfort_comes_within_200_ms_of_the_last_word_of_an_agent_that_breaks_off() {
    let (first, second) = (Bot::bind().await, Bot::bind().await);
    let mut agent = twilio(&first.url());
    agent["reconnects"] = json!(5);
    agent["reconnect_pause_ms"] = json!(5_000);
    // It is dialled again in vain, for longer than what is listened to.
    agent["connect_timeout_ms"] = json!(20_000);
    let node = node(agent, twilio(&second.url()), 100).await;
    let mut least = u32::MAX;
    for _ in 0..QUIET_TRIES {
        let mut phone = Phone::new([127, 0, 0, 9].into(), node.sip(), NUMBER).await;
        let (_, mut stream) = tokio::join!(phone.call(""), first.accept());
        stream.say(600).await;
        until_tone(&phone, BOT_HZ).await;
        stream.mark("said").await;
        stream.until_marks(1).await;
        drop(stream);
        least = least.min(quiet_before_comfort(&phone).await);
        phone.hang_up().await;
        if least <= QUIET_MAX {
            return;
        }
        // The dial that is under way is not of the next call.
        first.turn_away(1).await;
    }
    panic!("never less than {least} packets of silence");
}

#[tokio::test]
async fn comfort_follows_the_last_word_of_an_agent_that_is_killed_and_the_audio_never_stops() {
    let (mut program, url) = Program::start().await;
    let second = Bot::bind().await;
    let mut agent = twilio(&url);
    // The dials of the present agent last longer than what is listened to.
    agent["reconnects"] = json!(5);
    agent["reconnect_pause_ms"] = json!(5_000);
    let node = node(agent, twilio(&second.url()), 100).await;
    let mut phone = Phone::new([127, 0, 0, 9].into(), node.sip(), NUMBER).await;
    tokio::join!(phone.call(""), program.said("SPEAKS "));
    until_tone(&phone, BOT_HZ).await;
    program.child.kill().await.unwrap();
    let quiet = quiet_before_comfort(&phone).await;
    assert!(quiet <= QUIET_BUSY_MAX, "{quiet} packets of silence");
    phone.hang_up().await;
    let events = "SELECT count(*) FROM call_events WHERE name = 'agent_interrupted'";
    wait_for("the record", async || (node.count(events).await == 1).then_some(())).await;
}

#[tokio::test]
async fn fifty_calls_whose_agent_is_killed_in_mid_sentence_all_go_on_with_the_next() {
    let (mut first, first_url) = Program::start().await;
    let (mut second, second_url) = Program::start().await;
    let node = node(twilio(&first_url), twilio(&second_url), 400).await;
    let mut phones = Vec::new();
    for _ in 0..CALLS {
        let mut phone = Phone::new([127, 0, 0, 9].into(), node.sip(), NUMBER).await;
        phone.call("").await;
        phone.hear_media(1).await;
        phones.push(phone);
    }
    assert_eq!(first.speaks_in_all().await, [("first".to_owned(), CALLS)].into());
    first.child.start_kill().unwrap();
    first.child.wait().await.unwrap();
    assert_eq!(second.speaks_in_all().await, [("takeover".to_owned(), CALLS)].into());
    for phone in &mut phones {
        phone.drain_media_now().await;
        phone.hear_media(5).await;
        phone.hang_up().await;
    }
    for phone in &phones {
        let record = node.record(&phone.call_id).await;
        assert_eq!((record.cause.as_str(), record.ended_by.as_str()), ("normal", "caller"));
        assert_eq!(record.agent_failure.as_deref(), Some("agent_lost"), "{record:?}");
        assert!(!record.has_fallback, "{record:?}");
    }
    let next = rows::uuid(5);
    let replaced = format!(
        "SELECT count(*) FROM calls c JOIN call_events e ON e.call_id = c.id \
         WHERE c.ai_profile_id = '{next}' AND e.name = 'agent_replaced'"
    );
    assert_eq!(node.count(&replaced).await, CALLS as i64);
}
