//! What is heard of a peer that changes its codec, before it can know of the change and after.

use super::hearing_tests::heard;
use super::hearing_tests::rms;
use super::tests::PEER;
use super::tests::Scene;
use super::tests::Talker;
use super::tests::plan;
use super::*;
use crate::audio::frame::FRAME_SAMPLES;
use crate::audio::g711;
use crate::audio::tone::Tone;
use crate::audio::tone::share_at;
use crate::types::codec::PayloadType;

fn a_law() -> MediaPlan {
    MediaPlan {
        codec: Codec::Pcma,
        send_payload_type: Codec::Pcma.payload_type(),
        receive_payload_type: Codec::Pcma.payload_type(),
        ..plan()
    }
}

/// The peer takes up another codec, so many ticks `late`.
fn change(late: usize) {
    let mut scene = Scene::new(plan());
    let (mut talker, mut tone) = (Talker::new(PEER, 7), Tone::new(400, 8_000));
    for tick in 0..60 {
        let (codec, kind) = if tick < 30 + late { (Codec::Pcmu, 0) } else { (Codec::Pcma, 8) };
        if tick == 30 {
            scene.session.update(scene.now, &a_law(), &mut scene.out);
        }
        let mut payload = [0; FRAME_SAMPLES];
        g711::encode(codec.law().unwrap(), &tone.frame(), &mut payload);
        let bytes = talker.packet(kind, &payload);
        talker.timestamp = talker.timestamp.wrapping_add(160);
        scene.receive(&talker, &bytes);
        scene.tick();
    }
    let statistics = scene.session.statistics();
    assert_eq!((statistics.concealed, statistics.unexpected, statistics.lost_in), (0, 0, 0));
    for (tick, frame) in heard(&scene).iter().enumerate().skip(5) {
        assert!(share_at(frame, 400) > 0.98 && rms(frame) > 5_000.0, "{tick}: {}", rms(frame));
    }
}

#[test]
fn another_codec_is_taken_up_without_a_gap_also_by_a_peer_that_is_told_later() {
    for late in [0, 1, 10, 25] {
        change(late);
    }
}

#[test]
fn the_codec_before_is_heard_for_a_time_and_in_the_same_stream_alone() {
    let mut scene = Scene::new(plan());
    let mut talker = Talker::new(PEER, 7);
    scene.talk(&mut talker, 50);
    scene.session.update(scene.now, &a_law(), &mut scene.out);
    scene.talk(&mut talker, 100);
    // A refresh changes nothing of it.
    scene.session.update(scene.now, &a_law(), &mut scene.out);
    scene.talk(&mut talker, 150);
    assert_eq!(scene.session.statistics().unexpected, 0);
    scene.talk(&mut talker, 50);
    assert_eq!(scene.session.statistics().unexpected, 50, "5 s are over");
    for (ssrc, unexpected) in [(7, 11), (8, 60)] {
        let mut scene = Scene::new(plan());
        let mut talker = Talker::new(PEER, 7);
        scene.talk(&mut talker, 50);
        scene.session.update(scene.now, &a_law(), &mut scene.out);
        let bytes = talker.packet(8, &[super::tests::LOUD; 160]);
        talker.timestamp = talker.timestamp.wrapping_add(160);
        scene.receive(&talker, &bytes);
        scene.tick();
        talker.ssrc = ssrc;
        scene.talk(&mut talker, 60);
        assert_eq!(scene.session.statistics().unexpected, unexpected, "it knows of the new one");
    }
}

#[test]
fn keys_under_the_number_before_are_heard_and_last_as_long() {
    let number = PayloadType::new(110);
    let (before, clock) = (Codec::Opus, 48_000);
    let opus = MediaPlan {
        codec: before,
        send_payload_type: before.payload_type(),
        receive_payload_type: before.payload_type(),
        dtmf_receive: number,
        dtmf_clock: clock,
        ..plan()
    };
    for (kind, clock) in [(110, clock), (101, 8_000)] {
        let mut scene = Scene::new(opus.clone());
        scene.session.update(scene.now, &plan(), &mut scene.out);
        let mut talker = Talker::new(PEER, 7);
        for tick in 1..=6_u8 {
            let [high, low] = (u16::from(tick) * (clock / 50) as u16).to_be_bytes();
            let bytes = talker.packet(kind, &[5, u8::from(tick == 6) << 7 | 10, high, low]);
            scene.receive(&talker, &bytes);
            scene.tick();
        }
        let keys = scene
            .count(|event| matches!(event, MediaEvent::Digit { digit: '5', duration_ms: 120 }));
        assert_eq!((keys, scene.session.statistics().digits), (1, 1), "{kind}");
    }
}
