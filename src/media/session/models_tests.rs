//! The models that know voices, lent to those who hear a peer in virtual time.

use super::tests::PEER;
use super::tests::Scene;
use super::tests::Talker;
use super::tests::plan;
use super::*;
use crate::audio::bridge::BridgeEnd;
use crate::audio::frame::Pcm;
use crate::audio::g711;
use crate::audio::tone::Tone;
use crate::audio::voice::Voice;
use crate::media::listener::Listener;
use crate::types::answering_machine::Answerer;
use crate::types::answering_machine::AnswererEvent;
use crate::types::barge_in::BargeIn;
use crate::types::talk::Talk;

fn encoded(linear: &Pcm) -> Encoded {
    let mut frame = SILENCE;
    g711::encode(Law::Mu, linear, &mut frame);
    frame
}

#[test]
fn models_are_lent_to_who_hears_the_peer_and_go_back_when_it_is_bridged_or_leaves() {
    let mut scene = Scene::new(plan());
    scene.session.listen_with(Some(Box::new(Listener::new(BargeIn::OFF))));
    assert!(scene.session.screen_with(Box::default()).is_none());
    let (mut talker, mut voice) = (Talker::new(PEER, 7), Voice::new());
    let mut say = |scene: &mut Scene, ticks: usize| {
        for _ in 0..ticks {
            let bytes = talker.audio(&encoded(&voice.frame()));
            scene.receive(&talker, &bytes);
            scene.tick();
        }
    };
    say(&mut scene, 25);
    assert_eq!(scene.out.models().lent(), 2);
    let (end, _other) = BridgeEnd::pair();
    assert!(scene.session.bridge(Bridged::new(end)).is_none());
    say(&mut scene, 1);
    assert_eq!(scene.out.models().lent(), 1, "its listener hears nothing");
    scene.session.give_back_models(scene.out.models());
    assert_eq!(scene.out.models().lent(), 0);
}

#[test]
fn all_that_is_found_out_at_once_about_who_answered_is_told() {
    let mut scene = Scene::new(plan());
    assert!(scene.session.screen_with(Box::default()).is_none());
    let (mut talker, mut beep) = (Talker::new(PEER, 7), Tone::new(1_000, 6_000));
    for _ in 0..25 {
        let bytes = talker.audio(&encoded(&beep.frame()));
        scene.receive(&talker, &bytes);
        scene.tick();
    }
    let told = scene.events.iter().filter_map(|event| match event {
        MediaEvent::Talk(Talk::Answerer(event)) => Some(*event),
        _ => None,
    });
    let told: Vec<_> = told.collect();
    let [first, AnswererEvent::Beep { .. }, AnswererEvent::GreetingOver { beeped: true, .. }] =
        told[..]
    else {
        panic!("{told:?}")
    };
    let is_machine = |event: AnswererEvent| {
        matches!(event, AnswererEvent::Seems { answerer: Answerer::Machine, is_final: true, .. })
    };
    assert!(is_machine(first), "{told:?}");
    assert_eq!(scene.out.models().lent(), 0, "it needs none any more");
}
