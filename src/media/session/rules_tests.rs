//! What the rules of a trunk change about a session.

use super::tests::PEER;
use super::tests::PEER_RTCP;
use super::tests::Scene;
use super::tests::Sent;
use super::tests::Talker;
use super::tests::at;
use super::tests::plan;
use super::*;
use crate::audio::bridge::BridgeEnd;
use crate::audio::bridge::BridgeItem;
use crate::audio::bridge::BridgeKey;
use crate::rtp::rtcp::COMPOUND_BYTES_MAX;
use crate::rtp::rtcp::Report;
use crate::rtp::rtcp::ReportBlock;

/// A session by these rules.
fn scene(rules: MediaRules) -> Scene {
    Scene::with(MediaSetup { rules, playout_held: false, ..MediaSetup::new(Some(plan()), 1) })
}

/// Lengths of the events that were sent, in units of 8 kHz, each with the packets of audio after it.
fn keys(scene: &Scene) -> Vec<(u16, usize)> {
    let mut keys: Vec<(u16, usize)> = Vec::new();
    for packet in scene.rtp() {
        let [_, flags, high, low] = *packet.payload else {
            keys.iter_mut().last().into_iter().for_each(|(_, audio)| *audio += 1);
            continue;
        };
        if flags & 0x80 != 0 && keys.last().is_none_or(|(_, audio)| *audio > 0) {
            keys.push((u16::from_be_bytes([high, low]), 0));
        }
    }
    keys
}

#[test]
fn keys_are_as_long_as_the_trunk_says_and_as_far_apart() {
    for (key_ms, key_gap_ms, units, gap) in [(120, 80, 960, 4), (200, 160, 1_600, 8)] {
        let mut scene = scene(MediaRules { key_ms, key_gap_ms, ..MediaRules::default() });
        assert!(scene.session.send_digit('1') && scene.session.send_digit('2'));
        scene.ticks(60);
        let keys = keys(&scene);
        assert_eq!((keys.len(), keys[0], keys[1].0), (2, (units, gap), units), "{key_ms}");
    }
}

#[test]
fn a_peer_that_is_told_keys_by_signalling_gets_neither_events_nor_tones() {
    for keys_signalled in [false, true] {
        for takes_events in [false, true] {
            let mut scene = scene(MediaRules { keys_signalled, ..MediaRules::default() });
            let mut plan = plan();
            plan.dtmf_send = plan.dtmf_send.filter(|_| takes_events);
            scene.session.update(scene.now, &plan, &mut scene.out);
            let (mut speaker, listener) = BridgeEnd::one_way();
            drop(scene.session.bridge(Bridged::new(listener)));
            for samples in (160..1_600).step_by(160) {
                let key = BridgeKey { press: 1, digit: '5', samples, released: false };
                speaker.say(BridgeItem::Key(key));
                scene.tick();
            }
            let events = scene.rtp().iter().filter(|packet| packet.payload.len() == 4).count();
            let loud = |byte: &u8| (0x90..=0xb0).contains(byte) || (0x10..=0x30).contains(byte);
            let packets = scene.rtp();
            let audio = packets.iter().filter(|packet| packet.payload.len() == 160);
            let tones = audio.filter(|packet| packet.payload.iter().any(loud)).count();
            let expected = (!keys_signalled && takes_events, !keys_signalled && !takes_events);
            assert_eq!((events > 0, tones > 0), expected);
        }
    }
}

#[test]
fn media_goes_where_the_description_says_whatever_its_own_source_where_the_trunk_wants_it() {
    const ELSEWHERE: &str = "192.0.2.1:4002";
    for (symmetric, to) in [(true, ELSEWHERE), (false, PEER)] {
        let mut scene = scene(MediaRules { symmetric, ..MediaRules::default() });
        scene.talk(&mut Talker::new(ELSEWHERE, 7), 20);
        assert!(scene.loud_frames() > 10, "it is heard all the same");
        scene.sent.clear();
        scene.ticks(5);
        assert!(scene.sent.iter().all(|sent| sent.to == at(to)), "symmetric: {symmetric}");
        assert_eq!(scene.rtp().len(), 5);
    }
}

#[test]
fn without_rtcp_what_comes_is_counted_and_not_read() {
    for (rtcp, lost, unexpected) in [(true, Some(7), 0), (false, None, 1)] {
        let mut scene = scene(MediaRules { rtcp, ..MediaRules::default() });
        scene.ticks(10);
        let ssrc = scene.session.sender.ssrc();
        let block = ReportBlock { ssrc, cumulative_lost: 7, ..Default::default() };
        let report =
            Report { ssrc: 1, sender: None, block: Some(block), cname: b"x", metrics: None };
        let mut bytes = [0; COMPOUND_BYTES_MAX];
        let length = report.write(&mut bytes).expect("room");
        scene.receive_at(Port::Rtcp, at(PEER_RTCP), &bytes[..length]);
        let figures = scene.session.statistics();
        assert_eq!((figures.lost_out, figures.unexpected), (lost, unexpected));
    }
}

#[test]
fn other_rules_are_in_force_from_the_next_tick_on() {
    let mut scene = scene(MediaRules::default());
    scene.talk(&mut Talker::new("192.0.2.1:4002", 7), 20);
    let listed = vec!["203.0.113.0/24".parse().expect("a network")];
    let mut rules = MediaRules { symmetric: false, allowed: listed, ..MediaRules::default() };
    scene.session.rule(&mut rules);
    assert_eq!(rules, MediaRules::default(), "those before are given back");
    scene.sent.clear();
    scene.ticks(3);
    assert!(scene.sent.iter().all(|sent| sent.to == at(PEER)));
}

#[test]
fn a_peer_behind_a_nat_that_moved_is_heard_again_once_it_has_signalled() {
    let mut scene = scene(MediaRules::default());
    scene.talk(&mut Talker::new("198.51.100.7:9000", 7), 500);
    let mut moved = Talker::new("198.51.100.99:2000", 8);
    let heard = scene.loud_frames();
    assert!(heard > 400);
    scene.talk(&mut moved, 200);
    assert!(scene.loud_frames() < heard + 10, "nothing was signalled");
    scene.session.update(scene.now, &plan(), &mut scene.out);
    scene.sent.clear();
    scene.talk(&mut moved, 20);
    assert!(scene.loud_frames() < heard + 10, "who has not moved has half a second to speak");
    scene.talk(&mut moved, 60);
    assert!(scene.loud_frames() > heard + 30);
    assert_eq!(scene.sent.last().expect("sent").to, at("198.51.100.99:2000"));
    assert_eq!(scene.session.statistics().relatched, 1);
}

#[test]
fn a_peer_behind_a_nat_that_signals_another_address_is_heard_on_and_followed_there() {
    let (before, after, signalled) = ("198.51.100.7:9000", "198.51.100.7:9002", "10.0.0.5:6000");
    let to_media = |sent: &&Sent| sent.port == Port::Rtp;
    for moves in [true, false] {
        let mut scene = scene(MediaRules::default());
        let mut talker = Talker::new(before, 7);
        scene.talk(&mut talker, 200);
        let (heard, foreign) = (scene.loud_frames(), scene.session.statistics().foreign);
        let moved = MediaPlan { remote: Some(at(signalled)), ..plan() };
        scene.session.update(scene.now, &moved, &mut scene.out);
        scene.sent.clear();
        // It goes on where it was until it has our answer.
        scene.talk(&mut talker, 6);
        assert_eq!(scene.session.statistics().foreign, foreign);
        assert_eq!(scene.loud_frames(), heard + 6);
        if moves {
            scene.talk(&mut Talker::new(after, 8), 50);
            assert!(scene.loud_frames() >= heard + 45, "{}", scene.loud_frames() - heard);
        } else {
            scene.ticks(50);
        }
        assert!(scene.sent.iter().all(|sent| sent.to != at(before)), "who has left gets nothing");
        let last = scene.sent.iter().rfind(to_media).expect("sent");
        assert_eq!(last.to, at(if moves { after } else { signalled }));
        let first = scene.sent.iter().find(to_media).expect("sent");
        assert_eq!(first.to, at(signalled));
    }
}

#[test]
fn who_is_sent_to_from_now_on_is_told_that_a_stream_begins() {
    let mut scene = scene(MediaRules::default());
    scene.ticks(50);
    let elsewhere = "192.0.2.77:6000";
    for (to, marks) in [(PEER, 0), (elsewhere, 1), (elsewhere, 0), (PEER, 1)] {
        scene.sent.clear();
        scene.session.update(
            scene.now,
            &MediaPlan { remote: Some(at(to)), ..plan() },
            &mut scene.out,
        );
        scene.ticks(5);
        assert!(scene.sent.iter().all(|sent| sent.port == Port::Rtcp || sent.to == at(to)), "{to}");
        let rtp = scene.rtp();
        assert_eq!(rtp.len(), 5);
        assert_eq!(rtp.iter().filter(|packet| packet.marker).count(), marks, "{to}");
        assert_eq!(rtp[0].marker, marks == 1, "{to}");
        assert_eq!(rtp[4].timestamp.wrapping_sub(rtp[0].timestamp), 4 * 160, "no time went by");
    }
}
