//! Calls out that a person or a machine answers: the switch finds out which.

use crate::call_out;
use crate::call_out::place;
use crate::carrier::CALLED;
use crate::carrier::NUMBER;
use crate::carrier::answer;
use crate::carrier::shown;
use crate::phone::Phone;
use crate::rtp::FRAME;
use crate::rtp::Stream;
use serde_json::Value;
use serde_json::json;
use std::net::SocketAddr;
use std::time::Duration;
use tandem::audio::g711;
use tandem::audio::tone::Tone;
use tandem::types::codec::Law;
use tokio::time::MissedTickBehavior;
use tokio::time::interval;

const GREETING: &[u8] = include_bytes!("../../src/agent/builtin/prompts/message.ulaw");
const WORD: &[u8] = include_bytes!("../../src/agent/builtin/prompts/there.ulaw");

/// So much silence in mu-law.
fn quiet(ms: usize) -> Vec<u8> {
    vec![0xFF; ms * 8]
}

fn beep(hz: u16, ms: usize) -> Vec<u8> {
    let mut sine = Tone::new(hz, 8_000);
    let mut all = Vec::new();
    for _ in 0..ms / 20 {
        let mut coded = [0; FRAME];
        g711::encode(Law::Mu, &sine.frame(), &mut coded);
        all.extend(coded);
    }
    all
}

/// Says this to where the switch takes the media of a leg, at its pace.
async fn say(phone: &Phone, port: u16, sound: &[u8]) {
    let switch = SocketAddr::new(phone.switch.ip(), port);
    let mut stream = Stream::new(77, 0);
    let mut beat = interval(Duration::from_millis(20));
    beat.set_missed_tick_behavior(MissedTickBehavior::Burst);
    for frame in sound.chunks_exact(FRAME) {
        beat.tick().await;
        let mut packet = stream.next();
        packet.truncate(packet.len() - FRAME);
        packet.extend(frame);
        phone.media.send_to(&packet, switch).await.unwrap();
    }
}

/// What the switch found out about who answered with this.
async fn answered_with(sound: &[u8], more: Value) -> Vec<Value> {
    let (node, mut far, key) = call_out::node(json!({"kind": "echo"}), json!({})).await;
    let mut wish = json!({"to": CALLED, "from": NUMBER});
    crate::carrier::merge(&mut wish, more);
    let call = place(&node, &key, wish).await;
    let invite = answer(&mut far).await;
    say(&far, invite.audio_port(), sound).await;
    far.hang_up().await;
    let record = shown(&node, 1, &call, &key).await;
    let events = record["events"].as_array().unwrap();
    for verdict in events.iter().filter(|it| it["detail"]["final"] == true) {
        let answerer = verdict["detail"]["answerer"].as_str().unwrap();
        let counted = node.metric(&format!("answerers_total{{answerer=\"{answerer}\"}}")).await;
        assert_eq!(counted, 1, "{answerer}");
    }
    let told = ["answerer", "beep", "greeting_over"];
    events.iter().filter(|it| told.iter().any(|name| it["name"] == *name)).cloned().collect()
}

#[tokio::test]
async fn a_machine_is_told_from_a_person_and_its_beep_found() {
    let greeting = [&quiet(400), GREETING, &quiet(300), GREETING, &quiet(500), &beep(1_000, 400)];
    let sound = [greeting.concat(), quiet(600)].concat();
    let told = answered_with(&sound, json!({"machine_detection": true})).await;
    let names: Vec<_> = told.iter().map(|it| it["name"].as_str().unwrap()).collect();
    assert_eq!(names.last_chunk(), Some(&["beep", "greeting_over"]), "{told:?}");
    let verdict = told.iter().find(|it| it["detail"]["final"] == true).unwrap();
    assert_eq!(verdict["detail"]["answerer"], "machine", "{told:?}");
    let beep = &told[told.len() - 2]["detail"];
    assert_eq!(beep["hz"], 1_000, "{told:?}");
    assert_eq!(told[told.len() - 1]["detail"]["beeped"], true);
}

#[tokio::test]
async fn a_person_is_one_and_who_was_not_asked_about_is_not_judged() {
    let sound = [&quiet(400), WORD, &quiet(2_200)].concat();
    let told = answered_with(&sound, json!({"machine_detection": true})).await;
    let last = told.last().expect("a verdict");
    assert_eq!(last["detail"]["answerer"], "human", "{told:?}");
    assert_eq!(last["detail"]["final"], true, "{told:?}");
    let told = answered_with(&sound, json!({})).await;
    assert_eq!(told, [] as [Value; 0]);
}
