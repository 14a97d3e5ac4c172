//! Media threads that come too late for some ticks.

use super::late::LATE_TICKS_HEARD_MAX;
use super::tests::LOUD;
use super::tests::Scene;
use super::tests::Talker;
use super::tests::plan;
use crate::audio::link::LinkEvent;
use crate::audio::tape::TapeItem;
use crate::audio::tape::TapeRate;
use crate::audio::tape::TapeSide;
use crate::audio::tape::tape;
use crate::media::event::MediaEvent;
use crate::media::setup::MediaRules;
use crate::media::setup::MediaSetup;
use crate::types::talk::Talk;
use std::time::Duration;

/// What the peer says in its packet of this number: no two within a minute are the same.
fn words(packet: usize) -> [u8; 160] {
    std::array::from_fn(|n| (1 + (packet * 31 + n * 7 + packet / 100) % 100) as u8)
}

/// A peer talks for so many ticks, while the thread stops in some of them for others.
fn talk(scene: &mut Scene, ticks: usize, stops: &[(usize, usize)]) {
    let mut talker = Talker::new(super::tests::PEER, 7);
    let mut packet = 0;
    let mut say = |scene: &mut Scene| {
        let bytes = talker.audio(&words(packet));
        packet += 1;
        scene.receive(&talker, &bytes);
    };
    let mut at = 0;
    while at < ticks {
        if let Some((_, ticks)) = stops.iter().find(|(stop, _)| *stop == at) {
            for left in 0..*ticks {
                say(scene);
                scene.now += Duration::from_millis(20);
                scene.session.hear_late(scene.now, left as u64, &mut scene.out);
                // The agent's task goes on, as all others do.
                scene.perform();
            }
            scene.session.skip(*ticks as u64);
            at += ticks;
        }
        say(scene);
        scene.tick();
        at += 1;
    }
}

fn heard(scene: &Scene) -> Vec<[u8; 160]> {
    let frame = |event: &LinkEvent| match event {
        LinkEvent::Audio(frame) => Some(*frame),
        _ => None,
    };
    scene.heard.iter().filter_map(frame).collect()
}

#[test]
fn an_agent_hears_every_word_though_ticks_are_left_out() {
    let mut scene = Scene::new(plan());
    talk(&mut scene, 150, &[(20, 4), (50, 12), (90, LATE_TICKS_HEARD_MAX as usize)]);
    let heard = heard(&scene);
    assert_eq!(heard.len(), 150, "its clock is that of the call");
    let first = heard.iter().position(|frame| *frame == words(0)).expect("the first word");
    assert!(first <= 3, "{first}");
    for (packet, frame) in heard[first..].iter().enumerate() {
        assert_eq!(*frame, words(packet), "packet {packet}");
    }
    let statistics = scene.session.statistics();
    assert_eq!((statistics.late_in, statistics.concealed, statistics.frames_dropped), (0, 0, 0));
    assert_eq!(statistics.ticks_skipped, 48);
    assert_eq!(statistics.packets_out, 150 - 48, "the peer gets no burst");
}

#[test]
fn a_gap_in_what_an_agent_says_is_the_nodes_where_ticks_were_left_out_in_it() {
    let mut scene = Scene::new(plan());
    for is_late in [false, true, false] {
        assert_eq!(scene.agent.push_audio(&[LOUD; 960]), 960);
        // It is played, and more would have to be there.
        scene.ticks(12);
        if is_late {
            scene.session.skip(2);
        }
        assert_eq!(scene.agent.push_audio(&[LOUD; 960]), 960);
        scene.ticks(40);
    }
    let told = scene.events.iter().filter_map(|event| match event {
        MediaEvent::Talk(Talk::Underrun { node_late, .. }) => Some(*node_late),
        _ => None,
    });
    assert_eq!(told.collect::<Vec<_>>(), [false, true, false]);
}

#[test]
fn a_recording_has_what_was_said_in_ticks_left_out_where_it_belongs() {
    let mut scene = Scene::new(plan());
    let (into, mut out) = tape(TapeRate::Narrow);
    scene.session.record(Box::new(into));
    talk(&mut scene, 100, &[(50, 12)]);
    let mut places = Vec::new();
    let mut gaps = Vec::new();
    while let Some(item) = out.next_item() {
        match item {
            TapeItem::Sound(sound) if sound.side == TapeSide::Heard => {
                places.push(sound.at);
            }
            TapeItem::Gap { from, until } => gaps.push((from, until)),
            _ => (),
        }
    }
    assert_eq!(gaps, [(50 * 160, 62 * 160)], "nothing was sent");
    for pair in places.windows(2) {
        assert_eq!(pair[1] - pair[0], 160, "{places:?}");
    }
    assert!(places.len() >= 96, "{}", places.len());
}

#[test]
fn what_is_kept_back_is_recorded_where_it_was_heard_though_ticks_are_missed() {
    let [open, private] = [false, true].map(|keys_private| {
        let rules = MediaRules { keys_private, ..MediaRules::default() };
        let setup = MediaSetup { playout_held: false, rules, ..MediaSetup::new(Some(plan()), 1) };
        let mut scene = Scene::with(setup);
        let (into, mut out) = tape(TapeRate::Narrow);
        scene.session.record(Box::new(into));
        let mut talker = Talker::new(super::tests::PEER, 7);
        for _ in 0..50 {
            let bytes = talker.audio(&[0x20; 160]);
            scene.receive(&talker, &bytes);
            scene.tick();
        }
        for ticks in 0..12 {
            scene.now += Duration::from_millis(20);
            scene.session.miss(ticks);
        }
        scene.session.skip(12);
        let mut places = Vec::new();
        while let Some(item) = out.next_item() {
            if let TapeItem::Sound(sound) = item
                && sound.side == TapeSide::Heard
            {
                places.push(sound.at);
            }
        }
        places
    });
    assert!(open.len() >= 45, "{open:?}");
    assert_eq!(open, private);
}

#[test]
fn whom_the_peer_is_bridged_with_gets_no_burst() {
    let mut scene = Scene::new(plan());
    let (own, mut other) = crate::audio::bridge::BridgeEnd::pair();
    scene.session.bridge(Box::new(own));
    talk(&mut scene, 100, &[(50, 12)]);
    let mut passed = 0;
    while other.hear(|_| ()).is_some() {
        passed += 1;
    }
    assert!(passed <= 8, "{passed}");
    assert_eq!(heard(&scene).len(), 100, "the agent's clock goes on beside a bridge");
}
