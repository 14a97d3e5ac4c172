//! What applications do with running calls, as the other end hears it; and calls that are placed once.

use crate::bot::Bot;
use crate::call_out;
use crate::call_out::place;
use crate::carrier::CALLED;
use crate::carrier::NUMBER;
use crate::carrier::answer;
use crate::carrier::calls;
use crate::carrier::hear_bye;
use crate::carrier::hears;
use crate::carrier::key;
use crate::carrier::pick_up;
use crate::carrier::shown;
use crate::http;
use crate::http::Answer;
use crate::node::Node;
use crate::node::wait_for;
use crate::phone::Heard;
use crate::phone::PATIENCE;
use crate::phone::Phone;
use crate::postgres;
use crate::rows;
use crate::rtp::Stream;
use crate::rtp::audio;
use serde_json::Value;
use serde_json::json;
use std::net::SocketAddr;
use tandem::audio::g711::ulaw_decode;
use tandem::audio::tone::share_at;
use tandem::store::api_keys::KeyRole;
use tokio::time::timeout;

const SILENCE: u8 = 0xff;
/// What the sounds of these tests are made of.
pub(crate) const SOUND: u8 = 0x2a;

/// What a command is answered with.
async fn ask(node: &Node, key: &str, (call, name): (&str, &str), body: Value) -> Answer {
    node.post(&calls(1, &format!("/{call}/{name}")), key, &body).await
}

pub(crate) async fn done(node: &Node, key: &str, what: (&str, &str), body: Value) -> Value {
    let answer = ask(node, key, what, body).await;
    assert_eq!(answer.status, 200, "{what:?}: {}", answer.body);
    answer.json()
}

async fn refused(node: &Node, key: &str, what: (&str, &str), body: Value) -> (u16, String) {
    let answer = ask(node, key, what, body).await;
    (answer.status, answer.json()["code"].as_str().unwrap_or_default().to_owned())
}

fn is(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}

/// The next packet of media: its payload type without the marker, and what it carries.
pub(crate) async fn packet(phone: &Phone) -> (u8, Vec<u8>) {
    let mut buffer = [0; 2_048];
    let heard = timeout(PATIENCE, phone.media.recv_from(&mut buffer)).await;
    let length = heard.expect("media in time").unwrap().0;
    (buffer[1] & 0x7f, audio(&buffer[..length]).to_vec())
}

/// Listens until so many packets in a row are `level` from end to end.
pub(crate) async fn hears_only(phone: &Phone, level: u8, packets: usize) {
    let begun = async {
        let mut row = 0;
        while row < packets {
            let (kind, payload) = packet(phone).await;
            let fits = kind == 0 && !payload.is_empty() && payload.iter().all(|b| *b == level);
            row = if fits { row + 1 } else { 0 };
        }
    };
    assert!(timeout(PATIENCE * 3, begun).await.is_ok(), "{level:#x} is not heard");
}

/// Talks all the time while `script` runs.
async fn while_saying(phone: &Phone, port: u16, level: u8, script: impl Future<Output = ()>) {
    let switch = SocketAddr::new(phone.switch.ip(), port);
    let mut stream = Stream::new(0x51ee, level);
    tokio::select! {
        () = stream.send(&phone.media, switch, (60_000, 1)) => panic!("it took 20 minutes"),
        () = script => (),
    }
}

/// Answers a new offer within the call with a description of this direction.
pub(crate) async fn agree(phone: &Phone, offered: &str, answered: &str) -> Heard {
    let invite = phone.expect("INVITE ").await;
    assert!(invite.body.contains(offered), "{invite:?}");
    phone.answer_with(&invite, "200 OK", &format!("{}{answered}\r\n", phone.sdp())).await;
    phone.expect("ACK ").await;
    invite
}

#[tokio::test]
async fn a_caller_is_put_on_hold_and_taken_back_by_new_offers() {
    let (node, mut far, key) = call_out::node(json!({"kind": "echo"}), json!({})).await;
    let call = place(&node, &key, json!({"to": CALLED, "from": NUMBER})).await;
    let invite = far.expect("INVITE ").await;
    far.respond(&invite, "180 Ringing", "", "").await;
    assert_eq!(refused(&node, &key, (&call, "hold"), json!({})).await, is(409, "not_answered"));
    pick_up(&mut far, &invite).await;
    hears((&far, invite.audio_port()), &far, 0x51).await;

    let held = done(&node, &key, (&call, "hold"), json!({})).await;
    assert_eq!((&held["on_hold"], &held["state"]), (&json!(true), &json!("answered")), "{held}");
    agree(&far, "a=sendonly", "a=recvonly").await;
    assert_eq!(refused(&node, &key, (&call, "hold"), json!({})).await, is(409, "already_on_hold"));
    let shown = node.read(&calls(1, &format!("/{call}")), &key).await;
    assert_eq!(shown["live"]["on_hold"], true, "{shown}");

    assert_eq!(done(&node, &key, (&call, "resume"), json!({})).await["on_hold"], false);
    agree(&far, "a=sendrecv", "a=sendrecv").await;
    hears((&far, invite.audio_port()), &far, 0x52).await;
    assert_eq!(refused(&node, &key, (&call, "resume"), json!({})).await, is(409, "not_on_hold"));
    far.hang_up().await;
    crate::carrier::shown(&node, 1, &call, &key).await;
    for name in ["hold", "resume", "play/stop", "hangup"] {
        assert_eq!(refused(&node, &key, (&call, name), json!({})).await, is(409, "call_over"));
    }
    let wish = json!({"to": CALLED});
    assert_eq!(refused(&node, &key, (&call, "transfer"), wish).await, is(409, "call_over"));
}

#[tokio::test]
async fn who_is_on_hold_hears_the_music_of_its_profile_as_long_as_it_waits() {
    let agent = json!({"kind": "echo", "hold_music": "moments.ulaw"});
    let (node, mut far, key) = call_out::node(agent, json!({})).await;
    let folder = node.home.data_dir().join("assets");
    std::fs::create_dir_all(&folder).unwrap();
    // A second of it, and heard for longer.
    std::fs::write(folder.join("moments.ulaw"), vec![SOUND; 8_000]).unwrap();
    let call = place(&node, &key, json!({"to": CALLED, "from": NUMBER})).await;
    let invite = answer(&mut far).await;
    hears((&far, invite.audio_port()), &far, 0x51).await;
    done(&node, &key, (&call, "hold"), json!({})).await;
    agree(&far, "a=sendonly", "a=recvonly").await;
    hears_only(&far, SOUND, 120).await;
    done(&node, &key, (&call, "resume"), json!({})).await;
    agree(&far, "a=sendrecv", "a=sendrecv").await;
    hears((&far, invite.audio_port()), &far, 0x52).await;
    // Without the file it hears noise, and nothing else is different.
    std::fs::remove_file(folder.join("moments.ulaw")).unwrap();
    done(&node, &key, (&call, "hold"), json!({})).await;
    agree(&far, "a=sendonly", "a=recvonly").await;
    done(&node, &key, (&call, "resume"), json!({})).await;
    agree(&far, "a=sendrecv", "a=sendrecv").await;
    hears((&far, invite.audio_port()), &far, 0x53).await;
    far.hang_up().await;
}

#[tokio::test]
async fn a_muted_side_is_silence_for_the_other_until_it_is_heard_again() {
    let (node, mut far, key) = call_out::node(json!({"kind": "echo"}), json!({})).await;
    let call = place(&node, &key, json!({"to": CALLED, "from": NUMBER})).await;
    let port = answer(&mut far).await.audio_port();
    while_saying(&far, port, 0x53, async {
        for party in ["caller", "agent"] {
            hears_only(&far, 0x53, 5).await;
            let muted = done(&node, &key, (&call, "mute"), json!({"party": party})).await;
            assert_eq!(muted[format!("{party}_muted")], true, "{muted}");
            hears_only(&far, SILENCE, 10).await;
            let again = refused(&node, &key, (&call, "mute"), json!({"party": party})).await;
            assert_eq!(again, is(409, "already_muted"));
            done(&node, &key, (&call, "unmute"), json!({"party": party})).await;
        }
        hears_only(&far, 0x53, 5).await;
    })
    .await;
    let again = refused(&node, &key, (&call, "unmute"), json!({"party": "agent"})).await;
    assert_eq!(again, is(409, "not_muted"));
    far.hang_up().await;
}

#[tokio::test]
async fn a_sound_is_heard_instead_of_the_agent_until_its_end_or_its_stop() {
    let (node, mut far, key) = call_out::node(json!({"kind": "echo"}), json!({})).await;
    let folder = node.home.data_dir().join("assets");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("beep.ulaw"), vec![SOUND; 16_000]).unwrap();
    let call = place(&node, &key, json!({"to": CALLED, "from": NUMBER})).await;
    let port = answer(&mut far).await.audio_port();
    let path = calls(1, &format!("/{call}"));
    while_saying(&far, port, 0x54, async {
        hears_only(&far, 0x54, 5).await;
        let playing = done(&node, &key, (&call, "play"), json!({"asset": "beep.ulaw"})).await;
        assert_eq!(playing["playing"], "beep.ulaw", "{playing}");
        hears_only(&far, SOUND, 10).await;
        let ended = |whole: bool| json!({"whole": whole});
        let ends = async |whole: bool| {
            wait_for("the end of the sound", async || {
                let shown = node.read(&path, &key).await;
                let events = shown["events"].as_array().unwrap().clone();
                let is_it = |e: &Value| e["name"] == "play_ended" && e["detail"] == ended(whole);
                (shown["live"]["playing"].is_null() && events.iter().any(is_it)).then_some(())
            })
            .await;
        };
        ends(true).await;
        hears_only(&far, 0x54, 5).await;
        let wish = json!({"asset": "beep.ulaw", "repeat": 1000});
        done(&node, &key, (&call, "play"), wish).await;
        hears_only(&far, SOUND, 10).await;
        done(&node, &key, (&call, "play/stop"), json!({})).await;
        ends(false).await;
        hears_only(&far, 0x54, 5).await;
    })
    .await;
    let what = (call.as_str(), "play");
    for wish in [
        json!({"asset": "../beep.ulaw"}),
        json!({"asset": "none.wav"}),
        json!({"asset": "beep.ulaw", "repeat": 0}),
        json!({"asset": "http://127.0.0.1/beep.wav"}),
    ] {
        assert_eq!(refused(&node, &key, what, wish).await, is(400, "invalid_value"));
    }
    let stop = (call.as_str(), "play/stop");
    assert_eq!(refused(&node, &key, stop, json!({})).await, is(409, "nothing_plays"));
    far.hang_up().await;
}

/// An RTP packet of the end of a key (RFC 4733 §2.3).
fn key_packet(event: u8, sequence: u16) -> Vec<u8> {
    let mut packet = vec![0x80, 101];
    packet.extend(sequence.to_be_bytes());
    packet.extend(8_000_u32.to_be_bytes());
    packet.extend(0x0077_u32.to_be_bytes());
    packet.extend([event, 0x80 | 10, 0x03, 0x20]);
    packet
}

#[tokio::test]
async fn keys_go_out_as_telephone_events_and_those_that_come_are_listed() {
    let (node, mut far, key) = call_out::node(json!({"kind": "echo"}), json!({})).await;
    let call = place(&node, &key, json!({"to": CALLED, "from": NUMBER})).await;
    let port = answer(&mut far).await.audio_port();
    hears((&far, port), &far, 0x55).await;
    done(&node, &key, (&call, "dtmf"), json!({"digits": "42#"})).await;
    let mut keys = Vec::new();
    while keys.len() < 3 {
        let (kind, payload) = packet(&far).await;
        // The last packets of each key say so, three times.
        if kind == 101 && payload[1] & 0x80 != 0 && keys.last() != Some(&payload[0]) {
            keys.push(payload[0]);
        }
    }
    assert_eq!(keys, [4, 2, 11]);
    for bad in [json!({"digits": ""}), json!({"digits": "12x"}), json!({"digits": "1".repeat(33)})]
    {
        let what = (call.as_str(), "dtmf");
        assert_eq!(refused(&node, &key, what, bad).await, is(400, "invalid_value"));
    }
    let far_leg = json!({"digits": "1", "leg": "far"});
    assert_eq!(refused(&node, &key, (&call, "dtmf"), far_leg).await, is(409, "leg_gone"));

    let path = calls(1, &format!("/{call}"));
    let switch = SocketAddr::new(far.switch.ip(), port);
    let mut sequence = 9_000;
    let shown_live = wait_for("the key is listed", async || {
        far.media.send_to(&key_packet(7, sequence), switch).await.unwrap();
        sequence += 1;
        let shown = node.read(&path, &key).await;
        (shown["dtmf"][0]["digit"] == "7").then_some(shown)
    })
    .await;
    let live = &shown_live["live"];
    assert_eq!((&live["phase"], &live["agent"]), (&json!("with_agent"), &json!("ready")), "{live}");
    let leg = &live["legs"][0];
    assert!(leg["packets_in"].as_u64().unwrap() > 0, "{live}");
    assert!(leg["mos_in"].as_f64().unwrap() > 3.0, "{live}");
    assert!(leg["quality"]["in"]["mos_lq"].as_f64().unwrap() > 3.0, "{live}");
    // The echo was heard.
    assert!(leg["played_ms"].as_u64().unwrap() >= 20, "{live}");
    while_saying(&far, port, 0x56, async {
        wait_for("audio waits in the jitter buffer", async || {
            let shown = node.read(&path, &key).await;
            (shown["live"]["legs"][0]["jitter_buffer_ms"].as_u64()? > 0).then_some(())
        })
        .await;
    })
    .await;
    far.hang_up().await;
    let record = shown(&node, 1, &call, &key).await;
    assert_eq!((&record["dtmf"][0]["digit"], &record["live"]), (&json!("7"), &Value::Null));
}

#[tokio::test]
async fn who_takes_no_events_hears_tones() {
    let (node, mut far, key) = call_out::node(json!({"kind": "echo"}), json!({})).await;
    let call = place(&node, &key, json!({"to": CALLED, "from": NUMBER})).await;
    let invite = far.expect("INVITE ").await;
    far.take(&invite);
    let deaf = far.sdp().replace(" 101\r\n", "\r\n");
    let deaf = deaf.replace("a=rtpmap:101 telephone-event/8000\r\n", "");
    far.respond(&invite, "200 OK", "", &deaf).await;
    far.expect("ACK ").await;
    hears((&far, invite.audio_port()), &far, 0x55).await;
    done(&node, &key, (&call, "dtmf"), json!({"digits": "4"})).await;
    let tone = async {
        loop {
            let (kind, payload) = packet(&far).await;
            let sound: Vec<i16> = payload.into_iter().map(ulaw_decode).collect();
            if kind == 0 && [770, 1_209].iter().all(|hz| share_at(&sound, *hz) > 0.3) {
                return;
            }
        }
    };
    assert!(timeout(PATIENCE, tone).await.is_ok(), "the tones of the key");
    far.hang_up().await;
    let record = shown(&node, 1, &call, &key).await;
    let events = record["events"].as_array().unwrap();
    assert!(events.iter().any(|event| event["name"] == "keys_sent"), "{record}");
}

#[tokio::test]
async fn another_agent_takes_over_with_the_variables_of_the_call() {
    let [first, second] = [Bot::bind().await, Bot::bind().await];
    let agent = |bot: &Bot| json!({"kind": "twilio", "url": bot.url()});
    let (node, mut far, key) = call_out::node(agent(&first), json!({})).await;
    node.put(&[rows::profile(5, 1, agent(&second))]).await;
    let wish = json!({"to": CALLED, "from": NUMBER, "variables": {"lead_id": "L-77"}});
    let call = place(&node, &key, wish).await;
    let invite = far.expect("INVITE ").await;
    far.respond(&invite, "180 Ringing", "", "").await;
    let mut one = first.accept().await;
    assert_eq!(one.start["start"]["customParameters"]["lead_id"], "L-77");
    pick_up(&mut far, &invite).await;
    let profile = rows::uuid(5).to_string();
    let wish = json!({"ai_profile_id": profile});
    let attached = done(&node, &key, (&call, "attach"), wish.clone()).await;
    assert_eq!(
        (&attached["ai_profile_id"], &attached["phase"]),
        (&json!(profile), &json!("with_agent"))
    );
    assert_eq!(one.until_closed().await, 1000);
    assert!(one.is_stopped, "it is told");
    let mut two = second.accept().await;
    assert_eq!(two.start["start"]["customParameters"]["lead_id"], "L-77");
    wait_for("the new agent is there", async || {
        let shown = node.read(&calls(1, &format!("/{call}")), &key).await;
        (shown["live"]["agent"] == "ready").then_some(())
    })
    .await;
    // Longer than anybody looks for it, and cut off once it was seen.
    two.say(20_000).await;
    wait_for("what it says waits to be played", async || {
        let shown = node.read(&calls(1, &format!("/{call}")), &key).await;
        (shown["live"]["legs"][0]["playout_queue_ms"].as_u64()? > 0).then_some(())
    })
    .await;
    two.clear().await;
    two.say(400).await;
    two.mark("said").await;
    two.until_marks(1).await;
    for (id, status) in [(rows::uuid(99).to_string(), 400), ("x".to_owned(), 400)] {
        let wish = json!({"ai_profile_id": id});
        assert_eq!(ask(&node, &key, (&call, "attach"), wish).await.status, status);
    }
    far.hang_up().await;
    assert_eq!(two.until_closed().await, 1000);
    let record = shown(&node, 1, &call, &key).await;
    assert_eq!(
        (&record["ai_profile_id"], &record["variables"]["lead_id"]),
        (&json!(profile), &json!("L-77"))
    );
}

#[tokio::test]
async fn what_is_said_of_a_call_stays_beside_its_record() {
    let (node, mut far, key_of_one) = call_out::node(json!({"kind": "echo"}), json!({})).await;
    let wish = json!({"to": CALLED, "from": NUMBER, "variables": {"lead_id": "L-1", "lang": "en"}});
    let call = place(&node, &key_of_one, wish).await;
    answer(&mut far).await;
    let path = calls(1, &format!("/{call}"));
    let patch = async |body: Value| {
        let headers = [("authorization", format!("Bearer {key_of_one}"))];
        http::request_with(node.http(), ("PATCH", &path), &headers, &body.to_string()).await
    };
    let during =
        patch(json!({"disposition": "sold", "variables": {"lead_id": "L-2", "lang": null}})).await;
    assert_eq!(during.status, 200, "{}", during.body);
    assert_eq!(during.json()["live"]["variables"]["lead_id"], "L-2");
    assert_eq!(during.json()["live"]["variables"], json!({"lead_id": "L-2"}), "none is left over");
    far.hang_up().await;
    let record = shown(&node, 1, &call, &key_of_one).await;
    assert_eq!(
        (&record["disposition"], &record["variables"]),
        (&json!("sold"), &json!({"lead_id": "L-2"}))
    );
    let after =
        patch(json!({"summary": "They want two.", "outcome": "order", "disposition": null})).await;
    let after = after.json();
    assert_eq!((&after["summary"], &after["outcome"]), (&json!("They want two."), &json!("order")));
    assert_eq!(after["disposition"], Value::Null);
    for bad in [
        json!({"summary": ""}),
        json!({"disposition": "x".repeat(65)}),
        json!({"variables": {"Not a name": "x"}}),
        json!({"variables": {"x": 1}}),
        json!({"cause": "normal"}),
    ] {
        assert_eq!(patch(bad.clone()).await.status, 400, "{bad}");
    }
    let page = node.read(&calls(1, "?disposition=sold"), &key_of_one).await;
    assert_eq!(page["calls"], json!([]));
    let log = "SELECT count(*) FROM audit_log WHERE subject = 'call' AND action = 'update'";
    assert_eq!(node.count(log).await, 2);
}

#[tokio::test]
async fn a_running_call_has_so_many_variables_and_a_change_that_brings_more_is_refused_whole() {
    let (node, mut far, operator) = call_out::node(json!({"kind": "echo"}), json!({})).await;
    let variables: Value = (0..64).map(|n| (format!("n{n}"), json!("x"))).collect();
    let wish = json!({"to": CALLED, "from": NUMBER, "variables": variables});
    let call = place(&node, &operator, wish).await;
    answer(&mut far).await;
    let path = calls(1, &format!("/{call}"));
    let patch = async |variables: Value| {
        let headers = [("authorization", format!("Bearer {operator}"))];
        let body = json!({"disposition": "sold", "variables": variables}).to_string();
        http::request_with(node.http(), ("PATCH", &path), &headers, &body).await
    };
    let refused = patch(json!({"n0": "y", "more": "x"})).await;
    assert_eq!(refused.status, 400, "{}", refused.body);
    let (code, field) = (&refused.json()["code"], &refused.json()["field"]);
    assert_eq!((code, field), (&json!("invalid_value"), &json!("variables")));
    let shown = node.read(&path, &operator).await;
    assert_eq!((&shown["live"]["variables"], &shown["disposition"]), (&variables, &Value::Null));
    // One goes, so that another has room, in the record and for whoever speaks next.
    let changed = patch(json!({"n0": null, "more": "x"})).await;
    assert_eq!(changed.status, 200, "{}", changed.body);
    let mut expected = variables;
    expected.as_object_mut().unwrap().remove("n0");
    expected["more"] = json!("x");
    let changed = changed.json();
    assert_eq!((&changed["variables"], &changed["live"]["variables"]), (&expected, &expected));
    far.hang_up().await;
}

/// Places a call by a request that names itself.
async fn place_as(node: &Node, key: &str, name: &str, wish: &Value) -> Answer {
    let headers =
        [("authorization", format!("Bearer {key}")), ("idempotency-key", name.to_owned())];
    http::request_with(node.http(), ("POST", &calls(1, "")), &headers, &wish.to_string()).await
}

#[tokio::test]
async fn the_same_request_places_one_call_at_once_later_and_after_a_restart() {
    let (mut node, mut far, key) = call_out::node(json!({"kind": "echo"}), json!({})).await;
    let wish = json!({"to": CALLED, "from": NUMBER});
    let asked = (0..8).map(|_| place_as(&node, &key, "lead-7", &wish));
    let answers = futures_util::future::join_all(asked).await;
    let id = answers[0].json()["id"].as_str().unwrap().to_owned();
    for answer in &answers {
        assert_eq!(answer.status, 201, "{}", answer.body);
        assert_eq!(answer.json(), json!({"id": id, "state": "initiated"}));
    }
    let replayed = answers.iter().filter(|a| a.header("idempotency-replayed").is_some()).count();
    assert_eq!(replayed, 7);
    answer(&mut far).await;
    far.hang_up().await;
    shown(&node, 1, &id, &key).await;
    let other = place_as(&node, &key, "lead-7", &json!({"to": CALLED})).await;
    let code = other.json()["code"].as_str().unwrap().to_owned();
    assert_eq!((other.status, code), is(422, "idempotency_key_reused"));
    node.signal("TERM");
    node.ended().await;
    node.launch().await;
    let again = place_as(&node, &key, "lead-7", &wish).await;
    assert_eq!((again.status, again.json()["id"].as_str()), (201, Some(&*id)), "{}", again.body);
    let outbound = "SELECT count(*) FROM calls WHERE direction = 'outbound'";
    assert_eq!(node.count(outbound).await, 1);
}

#[tokio::test]
async fn a_request_that_comes_again_is_answered_with_its_call_whatever_was_configured_since() {
    let (node, mut far, key) = call_out::node(json!({"kind": "echo"}), json!({})).await;
    let wish = json!({"to": CALLED, "from": NUMBER, "trunk": "trunk-4"});
    let first = place_as(&node, &key, "lead-9", &wish).await;
    assert_eq!(first.status, 201, "{}", first.body);
    answer(&mut far).await;
    far.hang_up().await;
    let rename = "UPDATE trunks SET name = 'another'";
    postgres::execute(&node.database(), rename).await.unwrap();
    let explain = format!("/api/v1/tenants/{}/explain", rows::uuid(1));
    let question =
        json!({"direction": "outbound", "to": CALLED, "from": NUMBER, "trunk": "trunk-4"});
    wait_for("the trunk has its new name", async || {
        (node.post(&explain, &key, &question).await.status == 400).then_some(())
    })
    .await;
    let again = place_as(&node, &key, "lead-9", &wish).await;
    assert_eq!((again.status, &again.json()["id"]), (201, &first.json()["id"]), "{}", again.body);
    // A new one is judged by what is configured, and may be sent again.
    for _ in 0..2 {
        let refused = place_as(&node, &key, "lead-10", &wish).await;
        let field = refused.json()["field"].clone();
        assert_eq!((refused.status, field), (400, json!("trunk")), "{}", refused.body);
    }
    let names = "UPDATE trunks SET name = 'trunk-4'";
    postgres::execute(&node.database(), names).await.unwrap();
    wait_for("the trunk has its old name", async || {
        (node.post(&explain, &key, &question).await.status == 200).then_some(())
    })
    .await;
    let placed = place_as(&node, &key, "lead-10", &wish).await;
    assert_eq!(placed.status, 201, "{}", placed.body);
    answer(&mut far).await;
    far.hang_up().await;
}

#[tokio::test]
async fn a_request_that_a_crash_left_behind_goes_on_with_its_call() {
    let (node, mut far, key) = call_out::node(json!({"kind": "echo"}), json!({})).await;
    let wish = json!({"from": NUMBER, "to": CALLED});
    // Refused, and forgotten: it may be sent again.
    let denied = json!({"from": NUMBER, "to": "+4420555"});
    for _ in 0..2 {
        let answer = place_as(&node, &key, "denied", &denied).await;
        assert_eq!((answer.status, answer.header("idempotency-replayed")), (403, None));
    }
    let (tenant, call) = (rows::uuid(1), rows::uuid(70));
    let body = wish.to_string();
    let row = format!(
        "INSERT INTO idempotency_keys (tenant_id, key, asked, call_id, busy_until, node_id) VALUES \
         ('{tenant}', 'crashed', sha256('{body}'), '{call}', now() - interval '1 second', (SELECT id FROM nodes))"
    );
    postgres::execute(&node.database(), &row).await.unwrap();
    let answer = place_as(&node, &key, "crashed", &wish).await;
    assert_eq!((answer.status, answer.json()["id"].as_str()), (201, Some(&*call.to_string())));
    crate::carrier::answer(&mut far).await;
    far.hang_up().await;
    shown(&node, 1, &call.to_string(), &key).await;
}

#[tokio::test]
async fn a_request_places_one_call_while_nothing_of_it_reaches_the_database_and_at_whatever_node() {
    let (node, mut far, key) = call_out::node(json!({"kind": "echo"}), json!({})).await;
    let wish = json!({"from": NUMBER, "to": CALLED});
    // Neither the answer nor the record is stored.
    let deaf = "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
                    RAISE EXCEPTION 'no space' USING ERRCODE = 'disk_full'; END $$; \
                CREATE TRIGGER full_disk BEFORE UPDATE OF status ON idempotency_keys \
                    FOR EACH ROW EXECUTE FUNCTION full_disk(); \
                CREATE TRIGGER full_disk BEFORE INSERT OR UPDATE ON calls \
                    FOR EACH ROW EXECUTE FUNCTION full_disk()";
    postgres::execute(&node.database(), deaf).await.unwrap();
    let first = place_as(&node, &key, "lead-8", &wish).await;
    assert_eq!(first.status, 201, "{}", first.body);
    answer(&mut far).await;
    far.hang_up().await;
    wait_for("the call is over", async || (node.metric("calls_active").await == 0).then_some(()))
        .await;
    let later = "UPDATE idempotency_keys SET busy_until = now() - interval '1 hour'";
    postgres::execute(&node.database(), later).await.unwrap();
    let again = place_as(&node, &key, "lead-8", &wish).await;
    assert_eq!((again.status, &again.json()["id"]), (201, &first.json()["id"]), "{}", again.body);
    assert_eq!(node.metric("calls_active").await, 0, "nobody is called twice");
    // Another node may have placed it: this one does not.
    let elsewhere = "UPDATE idempotency_keys SET busy_until = now() - interval '1 hour', \
                     node_id = gen_random_uuid()";
    postgres::execute(&node.database(), elsewhere).await.unwrap();
    let refused = place_as(&node, &key, "lead-8", &wish).await;
    let code = refused.json()["code"].as_str().unwrap().to_owned();
    assert_eq!((refused.status, code), is(409, "idempotency_key_unsettled"));
    // Until the call's record tells.
    let heard = "DROP TRIGGER full_disk ON calls";
    postgres::execute(&node.database(), heard).await.unwrap();
    shown(&node, 1, first.json()["id"].as_str().unwrap(), &key).await;
    let told = place_as(&node, &key, "lead-8", &wish).await;
    assert_eq!((told.status, &told.json()["id"]), (201, &first.json()["id"]), "{}", told.body);
    let outbound = "SELECT count(*) FROM calls WHERE direction = 'outbound'";
    assert_eq!(node.count(outbound).await, 1);
}

#[tokio::test]
async fn a_call_is_placed_with_an_agent_and_an_end_of_its_own() {
    let bot = Bot::bind().await;
    let (node, mut far, key) = call_out::node(json!({"kind": "echo"}), json!({})).await;
    let agent = json!({"kind": "twilio", "url": bot.url()});
    let wish =
        json!({"to": CALLED, "from": NUMBER, "agent": agent, "max_duration_s": 1, "record": true});
    let call = place(&node, &key, wish).await;
    let invite = far.expect("INVITE ").await;
    far.respond(&invite, "180 Ringing", "", "").await;
    let _stream = bot.accept().await;
    pick_up(&mut far, &invite).await;
    hear_bye(&far).await;
    let record = shown(&node, 1, &call, &key).await;
    assert_eq!(record["cause"], "max_duration");
    let events = record["events"].as_array().unwrap();
    let has = |name: &str| events.iter().any(|event| event["name"] == name);
    assert!(has("recording_started") && has("recording_stopped"), "{events:?}");
    for (field, value) in [
        ("max_duration_s", json!(0)),
        ("agent", json!({"kind": "twilio"})),
        ("agent", json!({"kind": "twilio", "url": bot.url(), "auth_token_ref": "env:HOME"})),
        ("variables", json!({"A": "x"})),
    ] {
        let mut wish = json!({"to": CALLED, "from": NUMBER});
        wish[field] = value;
        let answer = node.post(&calls(1, ""), &key, &wish).await;
        assert_eq!(answer.json()["code"], "invalid_value", "{wish}: {}", answer.body);
    }
}

#[tokio::test]
async fn nobody_steers_what_is_not_theirs_or_without_the_role() {
    let (node, mut far, operator) = call_out::node(json!({"kind": "echo"}), json!({})).await;
    node.put(&[rows::tenant(8, 0)]).await;
    let viewer = key(&node, 1, KeyRole::Viewer).await;
    let other = key(&node, 8, KeyRole::Operator).await;
    let call = place(&node, &operator, json!({"to": CALLED, "from": NUMBER})).await;
    answer(&mut far).await;
    let what = (call.as_str(), "hold");
    assert_eq!(refused(&node, &viewer, what, json!({})).await, is(403, "role_too_low"));
    assert_eq!(refused(&node, &other, what, json!({})).await, is(403, "forbidden"));
    // By its own path the call is not there.
    let path = calls(8, &format!("/{call}/hold"));
    assert_eq!(node.post(&path, &other, &json!({})).await.status, 404);
    let nobody = rows::uuid(9).to_string();
    assert_eq!(refused(&node, &operator, (&nobody, "hold"), json!({})).await, is(404, "not_found"));
    far.hang_up().await;
}
