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

/// Which voices are in the last 400 ms: the caller's, the bot's, the supervisor's. One that is not there is not
/// there at all.
fn voices(heard: &[i16]) -> [bool; 3] {
    let last = &heard[heard.len().saturating_sub(3_200)..];
    [CALLER_HZ, BOT_HZ, BOSS_HZ].map(|hz| {
        let share = share_at(last, hz);
        assert!(!(0.02..0.2).contains(&share), "{hz} Hz is neither there nor not: {share}");
        share > 0.2
    })
}

async fn command(node: &Node, key: &str, (call, name): (&str, &str), wish: Value) -> (u16, Value) {
    let answer = node.post(&calls(1, &format!("/{call}/{name}")), key, &wish).await;
    (answer.status, answer.json())
}

async fn live(node: &Node, call: &str, key: &str) -> Value {
    node.read(&calls(1, &format!("/{call}")), key).await["live"].clone()
}

/// All three talk for a second and a half.
async fn talk(caller: &mut Voice, boss: &mut Voice, bot: &mut Stream) -> [[bool; 3]; 3] {
    tokio::join!(caller.talk(75), boss.talk(75), bot.hear(70));
    [voices(&caller.heard), voices(bot.heard()), voices(&boss.heard)]
}

#[tokio::test]
async fn a_supervisor_hears_both_and_is_heard_by_whom_its_mode_says() {
    let bot = Bot::bind().await;
    let node = Home::new().start().await;
    let mut boss = carrier::carrier(&node, "127.0.0.9").await;
    let agent = json!({"kind": "twilio", "url": bot.url()});
    node.put(&[
        carrier::trunk(4, &format!("{CALLER}/32"), &[boss.local()], json!({})),
        carrier::tenant(1, 4),
        rows::profile(2, 1, agent),
        rows::number(3, 1, 2, NUMBER),
    ])
    .await;
    let operator = key(&node, 1, KeyRole::Operator).await;
    let viewer = key(&node, 1, KeyRole::Viewer).await;
    let mut phone = Phone::new(CALLER.parse().unwrap(), node.sip(), NUMBER).await;
    let offer = phone.sdp();
    let invite = phone.request("INVITE", "", &offer);
    phone.send(invite).await;
    let mut stream = bot.accept().await;
    let ok = phone.outcome("INVITE").await;
    assert_eq!(ok.status(), 200, "{ok:?}");
    phone.confirm(&ok);
    phone.acknowledge().await;
    let mut caller = Voice::new(phone, ok.audio_port(), CALLER_HZ);
    let running = node.read(&calls(1, "?live=true"), &operator).await;
    let call = running["calls"][0]["id"].as_str().unwrap().to_owned();

    let wish = json!({"uri": format!("sip:boss@{}", boss.local())});
    let (status, _) = command(&node, &viewer, (&call, "supervise"), wish.clone()).await;
    assert_eq!(status, 403);
    for (name, wish, code) in [
        ("supervise/mode", json!({"mode": "barge"}), "not_supervised"),
        ("supervise/stop", json!({}), "not_supervised"),
    ] {
        let (status, body) = command(&node, &operator, (&call, name), wish).await;
        assert_eq!((status, body["code"].as_str()), (409, Some(code)), "{body}");
    }
    for wish in [json!({}), json!({"to": "+15550142", "uri": "sip:x@y"}), json!({"uri": "http:x"})]
    {
        let (status, body) = command(&node, &operator, (&call, "supervise"), wish).await;
        assert_eq!(status, 400, "{body}");
    }
    // Who does not want to harms nobody.
    let (status, calling) = command(&node, &operator, (&call, "supervise"), wish.clone()).await;
    let expected = json!({"mode": "listen", "state": "calling"});
    assert_eq!((status, &calling["supervisor"]), (200, &expected), "{calling}");
    let invite = boss.expect("INVITE ").await;
    refuse(&boss, &invite, "486 Busy Here", "").await;
    wait_for("the supervisor is gone", async || {
        live(&node, &call, &operator).await["supervisor"].is_null().then_some(())
    })
    .await;

    let (status, _) = command(&node, &operator, (&call, "supervise"), wish.clone()).await;
    assert_eq!(status, 200);
    let invite = answer(&mut boss).await;
    assert!(invite.start.starts_with("INVITE sip:boss@"), "{}", invite.start);
    let mut boss = Voice::new(boss, invite.audio_port(), BOSS_HZ);
    wait_for("the supervisor is there", async || {
        (live(&node, &call, &operator).await["supervisor"]["state"] == "present").then_some(())
    })
    .await;
    let (status, body) = command(&node, &operator, (&call, "supervise"), wish).await;
    assert_eq!((status, body["code"].as_str()), (409, Some("already_supervised")), "{body}");

    stream.say(40_000).await;
    for (mode, caller_hears, bot_hears) in [
        ("listen", [false, true, false], [true, false, false]),
        ("whisper", [false, true, false], [true, false, true]),
        ("barge", [false, true, true], [true, false, true]),
        ("listen", [false, true, false], [true, false, false]),
    ] {
        let wish = json!({"mode": mode});
        let (status, standing) = command(&node, &operator, (&call, "supervise/mode"), wish).await;
        assert_eq!((status, &standing["supervisor"]["mode"]), (200, &json!(mode)));
        let heard = talk(&mut caller, &mut boss, &mut stream).await;
        assert_eq!(heard, [caller_hears, bot_hears, [true, true, false]], "{mode}");
    }
    let legs = live(&node, &call, &operator).await["legs"].clone();
    assert!(legs.as_array().unwrap().iter().any(|leg| leg["leg"] == "supervisor"), "{legs}");

    let (status, standing) = command(&node, &operator, (&call, "supervise/stop"), json!({})).await;
    assert_eq!((status, &standing["supervisor"]), (200, &Value::Null), "{standing}");
    hear_bye(&boss.phone).await;
    tokio::join!(caller.talk(60), stream.hear(50));
    let heard = [voices(&caller.heard), voices(stream.heard())];
    assert_eq!(heard, [[false, true, false], [true, false, false]], "the call goes on");

    caller.phone.hang_up().await;
    let record = shown(&node, 1, &call, &operator).await;
    assert_eq!((&record["cause"], &record["ended_by"]), (&json!("normal"), &json!("caller")));
    let told: Vec<_> = record["events"].as_array().unwrap().iter().collect();
    let modes = |name: &str| {
        let own = told.iter().filter(|event| event["name"] == name);
        own.map(|event| event["detail"]["mode"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(modes("supervision_begun"), [json!("listen")], "{told:?}");
    assert_eq!(
        modes("supervision_changed"),
        [json!("listen"), json!("whisper"), json!("barge"), json!("listen")]
    );
    assert_eq!(modes("supervision_ended").len(), 1);
    let audit = format!("/api/v1/tenants/{}/audit-log?subject_id={call}", rows::uuid(1));
    let admin = key(&node, 1, KeyRole::Admin).await;
    wait_for("what was done is noted", async || {
        let log = node.read(&audit, &admin).await;
        let actions: Vec<_> =
            log["entries"].as_array()?.iter().map(|entry| entry["action"].clone()).collect();
        let all = ["supervise", "change_supervision", "end_supervision"];
        all.iter().all(|action| actions.contains(&json!(action))).then_some(())
    })
    .await;
}
