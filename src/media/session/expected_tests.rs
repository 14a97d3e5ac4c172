//! What is heard of a peer by an offer of ours, before its answer is here.

use super::hearing_tests::heard;
use super::packed_tests::Other;
use super::packed_tests::plan as plan_of;
use super::tests::LOUD;
use super::tests::PEER;
use super::tests::STRANGER;
use super::tests::Scene;
use super::tests::Talker;
use super::tests::at;
use super::tests::plan;
use super::*;
use crate::audio::g711;
use crate::audio::tone::Tone;
use crate::media::equipment::Equipment;
use crate::sdp::AnswerOrder;
use crate::sdp::Capabilities;
use crate::sdp::Direction;
use crate::sdp::Offered;
use crate::sdp::SrtpTerms;
use crate::types::codec::PayloadType;
use crate::types::codec::Ptime;

/// We offer these codecs.
fn offer(scene: &mut Scene, codecs: &[Codec]) {
    let caps = Capabilities {
        codecs: codecs.to_vec(),
        order: AnswerOrder::Remote,
        dtmf: PayloadType::new(101),
        dtmf_flash: false,
        ptime: Ptime::MS_20,
        ptime_max: Ptime::MS_20,
        rtcp_mux: false,
        asks_metrics: false,
        single_codec: false,
        annex_b: false,
        srtp: SrtpTerms::default(),
    };
    let agreed = scene.session.plan.as_ref().expect("a plan");
    let offered = Offered::of(&caps, Direction::SendReceive, agreed).expect("something new");
    let mut with = Equipment::of_offer(&offered);
    scene.session.expect(Some(&offered), &mut with, &mut scene.out);
}

/// We offer all codecs, and 200 ms later the peer takes up another one; its answer comes `late` ticks after that.
fn taken_up(from: Codec, to: Codec, keeps_ssrc: bool, late: usize) -> Scene {
    let mut scene = Scene::new(plan_of(from));
    let mut talker = Talker::new(PEER, 7);
    let (mut sung, mut said) = (Tone::new(500, 8_000), Tone::new(700, 8_000));
    let mut other = Other::new(from);
    for tick in 0..100 {
        if tick == 40 {
            offer(&mut scene, &Codec::ALL);
        }
        if tick == 50 {
            other = Other::new(to);
            if !keeps_ssrc {
                (talker.ssrc, talker.timestamp, talker.sequence) = (8, 99, 77);
            }
        }
        if tick == 50 + late {
            scene.session.update(scene.now, &plan_of(to), &mut scene.out);
        }
        scene.agent.push_audio(&said.frame().map(g711::ulaw_encode));
        let mut wide = [0; 320];
        sung.fill(&mut wide);
        let bytes = other.packet(&mut talker, &wide);
        scene.receive(&talker, &bytes);
        scene.tick();
    }
    let statistics = scene.session.statistics();
    let wrong = (statistics.unexpected, statistics.discarded_in, statistics.lost_in);
    assert_eq!(wrong, (0, 0, 0), "{from} {to} {keeps_ssrc} {late}");
    assert_eq!(statistics.concealed, 0, "{from} {to} {keeps_ssrc} {late}");
    for (tick, packet) in scene.rtp().iter().enumerate() {
        let codec = if tick < 50 + late { from } else { to };
        assert_eq!(packet.payload_type, codec.payload_type(), "{from} {to} {late}: {tick}");
    }
    scene
}

#[test]
fn a_codec_of_our_offer_is_heard_before_its_answer_as_it_would_be_after_it() {
    for (from, to) in [
        (Codec::Pcmu, Codec::Pcma),
        (Codec::Pcmu, Codec::G722),
        (Codec::G722, Codec::Opus),
        (Codec::Opus, Codec::Pcma),
        (Codec::Pcma, Codec::L16Wide),
    ] {
        for keeps_ssrc in [true, from.clock_rate() == to.clock_rate()] {
            let in_time = heard(&taken_up(from, to, keeps_ssrc, 0));
            assert_eq!(in_time.len(), 100);
            for late in [1, 10, 25] {
                let before_answer = heard(&taken_up(from, to, keeps_ssrc, late));
                assert!(before_answer == in_time, "{from} {to} {keeps_ssrc} {late}");
            }
        }
    }
}

#[test]
fn by_an_offer_nobody_is_heard_who_was_not_before_and_nothing_once_it_is_answered() {
    let mut scene = Scene::new(plan());
    let mut talker = Talker::new(PEER, 7);
    scene.talk(&mut talker, 50);
    offer(&mut scene, &[Codec::Pcmu, Codec::Pcma]);
    let mut stranger = Talker::new(STRANGER, 9);
    for _ in 0..50 {
        let bytes = stranger.packet(8, &[LOUD; 160]);
        stranger.timestamp = stranger.timestamp.wrapping_add(160);
        scene.receive(&stranger, &bytes);
        scene.tick();
    }
    let statistics = scene.session.statistics();
    assert_eq!((statistics.foreign, statistics.packets_in), (50, 50));
    assert!(scene.sent.iter().all(|sent| sent.port == Port::Rtcp || sent.to == at(PEER)));
    scene.session.update(scene.now, &plan(), &mut scene.out);
    for _ in 0..10 {
        let bytes = talker.packet(8, &[LOUD; 160]);
        scene.receive(&talker, &bytes);
    }
    assert_eq!(scene.session.statistics().unexpected, 10, "it is not what was agreed");
}

/// A peer on hold is offered the end of that, and answers `late` ticks after; it speaks all the time.
fn taken_back(late: usize) -> Scene {
    let mut scene = Scene::new(MediaPlan { direction: Direction::SendOnly, ..plan() });
    let mut talker = Talker::new(PEER, 7);
    scene.talk(&mut talker, 20);
    assert_eq!(scene.loud_frames(), 0);
    offer(&mut scene, &[Codec::Pcmu]);
    for tick in 0..50 {
        if tick == late {
            scene.session.update(scene.now, &plan(), &mut scene.out);
        }
        scene.talk(&mut talker, 1);
    }
    scene
}

#[test]
fn who_is_taken_back_from_hold_is_heard_before_its_answer() {
    let in_time = taken_back(0);
    assert!(in_time.loud_frames() > 45);
    for late in [1, 10, 25] {
        assert!(heard(&taken_back(late)) == heard(&in_time), "{late}");
    }
}

#[test]
fn of_an_offer_that_is_refused_nothing_is_heard_any_more_or_later() {
    let mut scene = Scene::new(MediaPlan { direction: Direction::SendOnly, ..plan() });
    let mut talker = Talker::new(PEER, 7);
    offer(&mut scene, &[Codec::Pcmu]);
    scene.talk(&mut talker, 20);
    let loud = scene.loud_frames();
    assert!(loud > 15, "{loud}");
    scene.session.expect(None, &mut Equipment::default(), &mut scene.out);
    scene.talk(&mut talker, 20);
    scene.session.update(scene.now, &plan(), &mut scene.out);
    scene.ticks(10);
    assert_eq!(scene.loud_frames(), loud);
}

#[test]
fn keys_are_heard_that_our_offer_has_a_number_for() {
    let deaf = MediaPlan { dtmf_send: None, dtmf_receive: None, ..plan() };
    let mut scene = Scene::new(deaf);
    offer(&mut scene, &[Codec::Pcmu]);
    let mut talker = Talker::new(PEER, 7);
    for tick in 1..=6_u16 {
        let bytes = talker.event(5, tick * 160, tick == 6);
        scene.receive(&talker, &bytes);
        scene.tick();
    }
    let keys =
        scene.count(|event| matches!(event, MediaEvent::Digit { digit: '5', duration_ms: 120 }));
    assert_eq!((keys, scene.session.statistics().digits), (1, 1));
}

#[test]
fn what_an_offer_needed_and_its_answer_does_not_is_given_back_unless_it_was_used() {
    for is_used in [false, true] {
        let mut scene = Scene::new(plan());
        offer(&mut scene, &Codec::ALL);
        assert!(scene.session.is_equipped_for(Codec::Opus));
        assert!(!scene.session.takes_wide(), "it is there to hear alone");
        if is_used {
            let mut talker = Talker::new(PEER, 7);
            let bytes = Other::new(Codec::G722).packet(&mut talker, &[0; 320]);
            scene.receive(&talker, &bytes);
        }
        let mut with = Equipment::of(&plan());
        scene.session.return_spare(&plan(), &mut with);
        scene.session.update(scene.now, &plan(), &mut scene.out);
        assert_eq!(with.is_empty(), is_used);
        for codec in [Codec::G722, Codec::Opus] {
            assert_eq!(scene.session.is_equipped_for(codec), is_used, "{codec}");
        }
    }
    let mut scene = Scene::new(plan());
    offer(&mut scene, &Codec::ALL);
    let agreed = plan_of(Codec::Opus);
    let mut with = Equipment::of(&agreed);
    scene.session.equip(&mut with);
    scene.session.return_spare(&agreed, &mut with);
    scene.session.update(scene.now, &agreed, &mut scene.out);
    assert!(scene.session.is_equipped_for(Codec::Opus) && scene.session.takes_wide());
}
