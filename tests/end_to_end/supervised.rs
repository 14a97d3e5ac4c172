//! Supervisors of calls, as everybody in the call hears it.

use crate::bot::BOT_HZ;
use crate::bot::Bot;
use crate::bot::Stream;
use crate::carrier;
use crate::carrier::NUMBER;
use crate::carrier::answer;
use crate::carrier::calls;
use crate::carrier::hear_bye;
use crate::carrier::key;
use crate::carrier::refuse;
use crate::carrier::shown;
use crate::node::Home;
use crate::node::Node;
use crate::node::wait_for;
use crate::phone::Phone;
use crate::rows;
use serde_json::Value;
use serde_json::json;
use std::net::SocketAddr;
use std::time::Duration;
use tandem::audio::g711;
use tandem::audio::tone::Tone;
use tandem::audio::tone::share_at;
use tandem::store::api_keys::KeyRole;
use tandem::types::codec::Law;
use tokio::time::MissedTickBehavior;
use tokio::time::interval;

const CALLER: &str = "127.0.0.2";
const CALLER_HZ: u16 = 1_150;
const BOSS_HZ: u16 = 1_900;
const COLLEAGUE_HZ: u16 = 2_600;

/// Somebody who says a tone all the time and listens.
struct Voice {
    phone: Phone,
    switch: SocketAddr,
    tone: Tone,
    sequence: u16,
    heard: Vec<i16>,
}

impl Voice {
    fn new(phone: Phone, port: u16, hz: u16) -> Self {
        let switch = SocketAddr::new(phone.switch.ip(), port);
        Self { phone, switch, tone: Tone::new(hz, 8_000), sequence: 0, heard: Vec::new() }
    }

    /// Says so many frames, and hears what comes meanwhile.
    async fn talk(&mut self, frames: usize) {
        let Self { phone, switch, tone, sequence, heard } = self;
        let say = async {
            let mut beat = interval(Duration::from_millis(20));
            beat.set_missed_tick_behavior(MissedTickBehavior::Burst);
            for _ in 0..frames {
                beat.tick().await;
                let mut payload = [0; 160];
                g711::encode(Law::Mu, &tone.frame(), &mut payload);
                let mut packet = vec![0x80, 0];
                packet.extend(sequence.to_be_bytes());
                packet.extend((u32::from(*sequence) * 160).to_be_bytes());
                packet.extend([0, 0, 0, 7]);
                packet.extend(payload);
                *sequence += 1;
                drop(phone.media.send_to(&packet, *switch).await);
            }
        };
        let hear = async {
            let mut buffer = [0; 2_048];
            loop {
                let (length, _) = phone.media.recv_from(&mut buffer).await.unwrap();
                if length > 12 && buffer[1] & 0x7f == 0 {
                    heard.extend(buffer[12..length].iter().map(|byte| g711::ulaw_decode(*byte)));
                }
            }
        };
        tokio::select! {
            () = say => (),
            () = hear => (),
        }
    }
}

/// Which voices are in the last 400 ms: the caller's, the bot's, the supervisor's.
fn voices(heard: &[i16]) -> [bool; 3] {
    voices_of([CALLER_HZ, BOT_HZ, BOSS_HZ], heard)
}

/// Which of these are. One that is not there is not there at all.
fn voices_of<const COUNT: usize>(all: [u16; COUNT], heard: &[i16]) -> [bool; COUNT] {
    let last = &heard[heard.len().saturating_sub(3_200)..];
    all.map(|hz| {
        let share = share_at(last, hz);
        assert!(!(0.02..0.2).contains(&share), "{hz} Hz is neither there nor not: {share}");
        share > 0.2
    })
}

/// All three talk for a second and a half.
async fn talk(caller: &mut Voice, boss: &mut Voice, bot: &mut Stream) -> [[bool; 3]; 3] {
    tokio::join!(caller.talk(75), boss.talk(75), bot.hear(70));
    [voices(&caller.heard), voices(bot.heard()), voices(&boss.heard)]
}

/// A call of a caller with a bot, and two who may hear it.
struct Call {
    node: Node,
    operator: String,
    id: String,
    caller: Voice,
    boss: Phone,
    colleague: Phone,
    bot: Stream,
}

impl Call {
    async fn begin() -> Self {
        let bot = Bot::bind().await;
        let node = Home::new().start().await;
        let boss = carrier::carrier(&node, "127.0.0.9").await;
        let colleague = carrier::carrier(&node, "127.0.0.7").await;
        let agent = json!({"kind": "twilio", "url": bot.url()});
        let gateways = [boss.local(), colleague.local()];
        node.put(&[
            carrier::trunk(4, &format!("{CALLER}/32"), &gateways, json!({})),
            carrier::tenant(1, 4),
            rows::profile(2, 1, agent),
            rows::number(3, 1, 2, NUMBER),
        ])
        .await;
        let operator = key(&node, 1, KeyRole::Operator).await;
        let mut phone = Phone::new(CALLER.parse().unwrap(), node.sip(), NUMBER).await;
        let offer = phone.sdp();
        let invite = phone.request("INVITE", "", &offer);
        phone.send(invite).await;
        let bot = bot.accept().await;
        let ok = phone.outcome("INVITE").await;
        assert_eq!(ok.status(), 200, "{ok:?}");
        phone.confirm(&ok);
        phone.acknowledge().await;
        let caller = Voice::new(phone, ok.audio_port(), CALLER_HZ);
        let running = node.read(&calls(1, "?live=true"), &operator).await;
        let id = running["calls"][0]["id"].as_str().unwrap().to_owned();
        Self { node, operator, id, caller, boss, colleague, bot }
    }

    async fn ask(&self, name: &str, wish: Value) -> (u16, Value) {
        self.ask_as(&self.operator, name, wish).await
    }

    async fn ask_as(&self, key: &str, name: &str, wish: Value) -> (u16, Value) {
        let path = calls(1, &format!("/{}/{name}", self.id));
        let answer = self.node.post(&path, key, &wish).await;
        (answer.status, answer.json())
    }

    async fn refused(&self, name: &str, wish: Value, code: &str) {
        let (status, body) = self.ask(name, wish).await;
        assert_eq!((status, body["code"].as_str()), (409, Some(code)), "{body}");
    }

    async fn live(&self) -> Value {
        self.node.read(&calls(1, &format!("/{}", self.id)), &self.operator).await["live"].clone()
    }

    /// The wish for the supervisor.
    fn wish(&self) -> Value {
        json!({"uri": format!("sip:boss@{}", self.boss.local())})
    }

    /// A colleague is called beside the supervisor, and joins the talk.
    async fn join(&mut self) -> u16 {
        let uri = format!("sip:colleague@{}", self.colleague.local());
        let (status, asked) = self.ask("supervise", json!({"uri": uri, "mode": "barge"})).await;
        assert_eq!(status, 200, "{asked}");
        let expected = json!({"leg": "supervisor_2", "mode": "barge", "state": "calling"});
        assert_eq!(asked["supervisor"], expected, "the answer says which one it is: {asked}");
        assert_eq!(asked["supervisors"].as_array().map(Vec::len), Some(2), "{asked}");
        let invite = answer(&mut self.colleague).await;
        assert!(invite.start.starts_with("INVITE sip:colleague@"), "{}", invite.start);
        wait_for("the colleague is there", async || {
            (self.live().await["supervisors"][1]["state"] == "present").then_some(())
        })
        .await;
        invite.audio_port()
    }

    /// With two of them it has to be said who is meant, and that has to be one of them.
    async fn needs_names(&self) {
        self.refused("supervise/mode", json!({"mode": "barge"}), "supervisor_not_named").await;
        self.refused("supervise/stop", json!({}), "supervisor_not_named").await;
        self.refused("supervise/stop", json!({"leg": "supervisor_3"}), "not_supervised").await;
        let (status, body) = self.ask("supervise/stop", json!({"leg": "far"})).await;
        assert_eq!((status, &body["field"]), (400, &json!("leg")), "{body}");
    }

    /// The supervisor is called and answers.
    async fn supervise(&mut self) -> u16 {
        let (status, body) = self.ask("supervise", self.wish()).await;
        assert_eq!(status, 200, "{body}");
        let invite = answer(&mut self.boss).await;
        assert!(invite.start.starts_with("INVITE sip:boss@"), "{}", invite.start);
        wait_for("the supervisor is there", async || {
            (self.live().await["supervisor"]["state"] == "present").then_some(())
        })
        .await;
        invite.audio_port()
    }
}

#[tokio::test]
async fn a_supervisor_hears_both_and_is_heard_by_whom_its_mode_says() {
    let mut call = Call::begin().await;
    let port = call.supervise().await;
    call.bot.say(40_000).await;
    let Call { node, operator, id, mut caller, boss, mut bot, .. } = call;
    let mut boss = Voice::new(boss, port, BOSS_HZ);
    let path = |name: &str| calls(1, &format!("/{id}/{name}"));
    for (mode, caller_hears, bot_hears) in [
        ("listen", [false, true, false], [true, false, false]),
        ("whisper", [false, true, false], [true, false, true]),
        ("barge", [false, true, true], [true, false, true]),
        ("listen", [false, true, false], [true, false, false]),
    ] {
        let changed = node.post(&path("supervise/mode"), &operator, &json!({"mode": mode})).await;
        assert_eq!(changed.json()["supervisor"]["mode"], mode, "{}", changed.body);
        let heard = talk(&mut caller, &mut boss, &mut bot).await;
        assert_eq!(heard, [caller_hears, bot_hears, [true, true, false]], "{mode}");
    }
    let live = node.read(&calls(1, &format!("/{id}")), &operator).await["live"].clone();
    let mut legs = live["legs"].as_array().unwrap().iter();
    assert!(legs.any(|leg| leg["leg"] == "supervisor"), "{live}");

    let stopped = node.post(&path("supervise/stop"), &operator, &json!({})).await;
    assert_eq!((stopped.status, &stopped.json()["supervisor"]), (200, &Value::Null));
    hear_bye(&boss.phone).await;
    tokio::join!(caller.talk(60), bot.hear(50));
    let heard = [voices(&caller.heard), voices(bot.heard())];
    assert_eq!(heard, [[false, true, false], [true, false, false]], "the call goes on");
    caller.phone.hang_up().await;
    recorded(&node, &id, &operator).await;
}

/// Who of a call of four hears what of all that is said, in the last 400 ms: the caller, the bot, the boss and the
/// colleague.
async fn all_talk(voices: [&mut Voice; 3], bot: &mut Stream) -> [[bool; 4]; 4] {
    let [caller, boss, colleague] = voices;
    tokio::join!(caller.talk(75), boss.talk(75), colleague.talk(75), bot.hear(70));
    [&caller.heard[..], bot.heard(), &boss.heard, &colleague.heard]
        .map(|heard| voices_of([CALLER_HZ, BOT_HZ, BOSS_HZ, COLLEAGUE_HZ], heard))
}

#[tokio::test]
async fn a_supervisor_listens_while_a_colleague_talks_and_stays_when_that_leaves() {
    let mut call = Call::begin().await;
    let boss_port = call.supervise().await;
    let colleague_port = call.join().await;
    call.needs_names().await;
    call.bot.say(40_000).await;
    let Call { node, operator, id, mut caller, boss, colleague, mut bot } = call;
    let mut boss = Voice::new(boss, boss_port, BOSS_HZ);
    let mut colleague = Voice::new(colleague, colleague_port, COLLEAGUE_HZ);
    let path = |name: &str| calls(1, &format!("/{id}{name}"));
    let heard = all_talk([&mut caller, &mut boss, &mut colleague], &mut bot).await;
    let expected = [
        [false, true, false, true],
        [true, false, false, true],
        [true, true, false, true],
        [true, true, false, false],
    ];
    assert_eq!(heard, expected, "the boss listens to all three");
    let whisper = json!({"leg": "supervisor", "mode": "whisper"});
    let changed = node.post(&path("/supervise/mode"), &operator, &whisper).await;
    let expected = json!({"leg": "supervisor", "mode": "whisper", "state": "present"});
    assert_eq!(changed.json()["supervisor"], expected, "{}", changed.body);
    let heard = all_talk([&mut caller, &mut boss, &mut colleague], &mut bot).await;
    let expected = [
        [false, true, false, true],
        [true, false, true, true],
        [true, true, false, true],
        [true, true, false, false],
    ];
    assert_eq!(heard, expected, "what the boss whispers is for the bot alone");

    // The colleague goes: the boss goes on hearing the other two, and needs no name any more.
    let stop = json!({"leg": "supervisor_2"});
    let stopped = node.post(&path("/supervise/stop"), &operator, &stop).await;
    assert_eq!(stopped.status, 200, "{}", stopped.body);
    assert_eq!(stopped.json()["supervisors"].as_array().map(Vec::len), Some(1));
    hear_bye(&colleague.phone).await;
    let changed = node.post(&path("/supervise/mode"), &operator, &json!({"mode": "barge"})).await;
    assert_eq!(changed.json()["supervisor"]["leg"], "supervisor", "{}", changed.body);
    let heard = talk(&mut caller, &mut boss, &mut bot).await;
    assert_eq!(heard, [[false, true, true], [true, false, true], [true, true, false]]);
    caller.phone.hang_up().await;
    hear_bye(&boss.phone).await;
    let record = shown(&node, 1, &id, &operator).await;
    let expected = [
        "begun supervisor",
        "begun supervisor_2",
        "changed supervisor",
        "ended supervisor_2",
        "changed supervisor",
        "ended supervisor",
    ];
    assert_eq!(supervision_of(&record), expected);
}

/// What happened to which supervisor.
fn supervision_of(record: &Value) -> Vec<String> {
    let told = record["events"].as_array().unwrap().iter();
    let of_them = told.filter_map(|event| {
        let step = event["name"].as_str()?.strip_prefix("supervision_")?;
        Some(format!("{step} {}", event["detail"]["leg"].as_str()?))
    });
    of_them.collect()
}

/// Whom the caller talks with may be a human on another leg: what is whispered reaches that one alone.
#[tokio::test]
async fn a_supervisor_whispers_to_a_human_agent_and_the_caller_hears_nothing_of_it() {
    let node = Home::new().start().await;
    let mut boss = carrier::carrier(&node, "127.0.0.9").await;
    let mut desk = carrier::carrier(&node, "127.0.0.8").await;
    let agent = json!({"kind": "sip", "uri": format!("sip:desk@{}", desk.local())});
    let gateways = [boss.local(), desk.local()];
    node.put(&[
        carrier::trunk(4, &format!("{CALLER}/32"), &gateways, json!({})),
        carrier::tenant(1, 4),
        rows::profile(2, 1, agent),
        rows::number(3, 1, 2, NUMBER),
    ])
    .await;
    let operator = key(&node, 1, KeyRole::Operator).await;
    let mut phone = Phone::new(CALLER.parse().unwrap(), node.sip(), NUMBER).await;
    let offer = phone.sdp();
    let invite = phone.request("INVITE", "", &offer);
    phone.send(invite).await;
    let to_desk = answer(&mut desk).await;
    assert!(to_desk.start.starts_with("INVITE sip:desk@"), "{}", to_desk.start);
    let ok = phone.outcome("INVITE").await;
    assert_eq!(ok.status(), 200, "{ok:?}");
    phone.confirm(&ok);
    phone.acknowledge().await;
    let running = node.read(&calls(1, "?live=true"), &operator).await;
    let id = running["calls"][0]["id"].as_str().unwrap().to_owned();
    let path = |name: &str| calls(1, &format!("/{id}{name}"));

    let wish = json!({"uri": format!("sip:boss@{}", boss.local()), "mode": "whisper"});
    let asked = node.post(&path("/supervise"), &operator, &wish).await;
    assert_eq!(asked.status, 200, "{}", asked.body);
    let to_boss = answer(&mut boss).await;
    wait_for("the supervisor is there", async || {
        let call = node.read(&path(""), &operator).await;
        (call["live"]["supervisor"]["state"] == "present").then_some(())
    })
    .await;
    let mut caller = Voice::new(phone, ok.audio_port(), CALLER_HZ);
    // The desk has the voice that a bot has elsewhere.
    let mut desk = Voice::new(desk, to_desk.audio_port(), BOT_HZ);
    let mut boss = Voice::new(boss, to_boss.audio_port(), BOSS_HZ);
    for (mode, caller_hears, desk_hears) in [
        ("whisper", [false, true, false], [true, false, true]),
        ("listen", [false, true, false], [true, false, false]),
        ("barge", [false, true, true], [true, false, true]),
        ("whisper", [false, true, false], [true, false, true]),
    ] {
        let changed = node.post(&path("/supervise/mode"), &operator, &json!({"mode": mode})).await;
        assert_eq!(changed.json()["supervisor"]["mode"], mode, "{}", changed.body);
        tokio::join!(caller.talk(75), desk.talk(75), boss.talk(75));
        let heard = [&caller, &desk, &boss].map(|voice| voices(&voice.heard));
        assert_eq!(heard, [caller_hears, desk_hears, [true, true, false]], "{mode}");
    }
    caller.phone.hang_up().await;
    hear_bye(&desk.phone).await;
    hear_bye(&boss.phone).await;
    let record = shown(&node, 1, &id, &operator).await;
    assert_eq!((&record["cause"], &record["ended_by"]), (&json!("normal"), &json!("caller")));
}

/// What happened is in the record, and who wanted it in the audit log.
async fn recorded(node: &Node, id: &str, operator: &str) {
    let record = shown(node, 1, id, operator).await;
    assert_eq!((&record["cause"], &record["ended_by"]), (&json!("normal"), &json!("caller")));
    let told = record["events"].as_array().unwrap();
    let modes = |name: &str| {
        let own = told.iter().filter(|event| event["name"] == name);
        own.map(|event| event["detail"]["mode"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(modes("supervision_begun"), [json!("listen")], "{told:?}");
    let changes = ["listen", "whisper", "barge", "listen"].map(|mode| json!(mode));
    assert_eq!(modes("supervision_changed"), changes);
    assert_eq!(modes("supervision_ended").len(), 1);
    let audit = format!("/api/v1/tenants/{}/audit-log?subject_id={id}", rows::uuid(1));
    let admin = key(node, 1, KeyRole::Admin).await;
    wait_for("what was done is noted", async || {
        let log = node.read(&audit, &admin).await;
        let entries = log["entries"].as_array()?;
        let actions: Vec<_> = entries.iter().map(|entry| entry["action"].clone()).collect();
        let all = ["supervise", "change_supervision", "end_supervision"];
        all.iter().all(|action| actions.contains(&json!(action))).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_supervisor_that_is_busy_or_makes_no_sense_leaves_the_call_as_it_was() {
    let mut call = Call::begin().await;
    let viewer = key(&call.node, 1, KeyRole::Viewer).await;
    assert_eq!(call.ask_as(&viewer, "supervise", call.wish()).await.0, 403);
    call.refused("supervise/mode", json!({"mode": "barge"}), "not_supervised").await;
    call.refused("supervise/stop", json!({}), "not_supervised").await;
    for wish in [json!({}), json!({"to": "+15550142", "uri": "sip:x@y"}), json!({"uri": "http:x"})]
    {
        let (status, body) = call.ask("supervise", wish).await;
        assert_eq!(status, 400, "{body}");
    }
    let (status, calling) = call.ask("supervise", call.wish()).await;
    let expected = json!({"leg": "supervisor", "mode": "listen", "state": "calling"});
    assert_eq!((status, &calling["supervisor"]), (200, &expected), "{calling}");
    assert_eq!(calling["supervisors"], json!([expected]), "{calling}");
    let invite = call.boss.expect("INVITE ").await;
    refuse(&call.boss, &invite, "486 Busy Here", "").await;
    wait_for("the supervisor is gone", async || {
        call.live().await["supervisor"].is_null().then_some(())
    })
    .await;
    // The next one is there when the caller hangs up, and goes with it.
    call.supervise().await;
    call.bot.hear(20).await;
    call.caller.phone.hang_up().await;
    hear_bye(&call.boss).await;
    let record = shown(&call.node, 1, &call.id, &call.operator).await;
    let told: Vec<_> = record["events"].as_array().unwrap().iter().collect();
    let of_supervisor = |event: &&&Value| event["detail"]["leg"] == "supervisor";
    let names: Vec<_> = told.iter().filter(of_supervisor).map(|event| &event["name"]).collect();
    for name in ["leg_failed", "leg_answered", "leg_ended", "leg_media"] {
        assert!(names.contains(&&json!(name)), "{name}: {told:?}");
    }
    assert_eq!(record["cause"], "normal");
}

/// A telephone that answers late that it was hung up ends nobody who has its seat by then.
#[tokio::test]
async fn a_colleague_stays_whose_seat_was_that_of_a_supervisor_that_takes_its_bye_late() {
    let mut call = Call::begin().await;
    call.supervise().await;
    let (status, stopped) = call.ask("supervise/stop", json!({})).await;
    assert_eq!((status, &stopped["supervisors"]), (200, &json!([])), "{stopped}");
    let bye = call.boss.expect("BYE ").await;
    wait_for("the supervisor's media are closed", async || {
        let shown = call.node.read(&calls(1, &format!("/{}", call.id)), &call.operator).await;
        let events = shown["events"].as_array()?.clone();
        events.iter().any(|event| event["name"] == "leg_media").then_some(())
    })
    .await;
    let uri = format!("sip:colleague@{}", call.colleague.local());
    let (status, asked) = call.ask("supervise", json!({"uri": uri, "mode": "barge"})).await;
    let expected = json!({"leg": "supervisor", "mode": "barge", "state": "calling"});
    assert_eq!((status, &asked["supervisor"]), (200, &expected), "the seat is free: {asked}");
    let port = answer(&mut call.colleague).await.audio_port();
    let present = json!([{"leg": "supervisor", "mode": "barge", "state": "present"}]);
    wait_for("the colleague is there", async || {
        (call.live().await["supervisors"] == present).then_some(())
    })
    .await;
    call.boss.answer(&bye, "200 OK").await;
    call.bot.say(40_000).await;
    let Call { node, operator, id, mut caller, colleague, mut bot, .. } = call;
    let mut colleague = Voice::new(colleague, port, BOSS_HZ);
    let heard = talk(&mut caller, &mut colleague, &mut bot).await;
    assert_eq!(heard, [[false, true, true], [true, false, true], [true, true, false]]);
    let live = node.read(&calls(1, &format!("/{id}")), &operator).await["live"].clone();
    assert_eq!(live["supervisors"], present, "{live}");
    caller.phone.hang_up().await;
    hear_bye(&colleague.phone).await;
    let record = shown(&node, 1, &id, &operator).await;
    let expected = ["begun", "ended", "begun", "ended"].map(|step| format!("{step} supervisor"));
    assert_eq!(supervision_of(&record), expected);
}
