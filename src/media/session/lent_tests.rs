//! The packets of a peer that wait to be heard, in rooms of others, in virtual time.

use super::tests::PEER;
use super::tests::Scene;
use super::tests::Talker;
use super::tests::plan;
use super::*;
use crate::sdp::Direction;

#[test]
fn packets_that_nobody_will_hear_go_back_and_at_the_end_change_no_figure() {
    let mut scene = Scene::new(plan());
    let mut talker = Talker::new(PEER, 7);
    let mut say = |scene: &mut Scene| {
        for _ in 0..10 {
            let bytes = talker.audio(&[0x33; 160]);
            scene.receive(&talker, &bytes);
            scene.tick();
        }
        scene.out.payloads().lent()
    };
    assert!((1..=4).contains(&say(&mut scene)));
    let held = MediaPlan { direction: Direction::Inactive, ..plan() };
    scene.session.update(scene.now, &held, &mut scene.out);
    assert_eq!(scene.out.payloads().lent(), 0);
    scene.session.update(scene.now, &plan(), &mut scene.out);
    assert!((1..=4).contains(&say(&mut scene)));
    let before = scene.session.statistics();
    scene.session.give_back(&mut scene.out);
    assert_eq!(scene.out.payloads().lent(), 0);
    let after = scene.session.statistics();
    let figures = |of: &MediaStatistics| (of.discarded_in, of.lost_in, of.late_in, of.concealed);
    assert_eq!(figures(&after), figures(&before));
}
