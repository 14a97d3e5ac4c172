//! An agent whose caller holds the call, or was put on hold, in virtual time.

use super::tests::LOUD;
use super::tests::Scene;
use super::tests::plan;
use super::*;
use crate::audio::bridge::BridgeEnd;
use crate::audio::bridge::Waiting;
use crate::audio::link::LinkEvent;
use crate::audio::link::link;
use crate::sdp::Direction;
use crate::types::talk::Talk;

/// What puts a caller on hold, and takes it back.
#[derive(Clone, Copy, Debug)]
enum Hold {
    ByCaller(Direction),
    ByApplication,
}

const HOLDS: [Hold; 3] = [
    Hold::ByCaller(Direction::Inactive),
    Hold::ByCaller(Direction::ReceiveOnly),
    Hold::ByApplication,
];

impl Hold {
    fn begin(self, scene: &mut Scene) {
        match self {
            Self::ByCaller(direction) => {
                let held = MediaPlan { direction, ..plan() };
                scene.session.update(scene.now, &held, &mut scene.out);
            }
            Self::ByApplication => {
                let end = BridgeEnd::nowhere(Waiting::Noise);
                scene.session.bridge(Bridged::new(end));
            }
        }
    }

    fn end(self, scene: &mut Scene) {
        match self {
            Self::ByCaller(_) => scene.session.update(scene.now, &plan(), &mut scene.out),
            Self::ByApplication => assert!(scene.session.unbridge().is_some()),
        }
    }
}

fn loud(scene: &Scene) -> usize {
    let bytes = |packet: &RtpPacket<'_>| packet.payload.iter().filter(|it| **it == LOUD).count();
    scene.rtp().iter().map(bytes).sum()
}

fn say(scene: &mut Scene, ms: usize, mark: u64) {
    assert_eq!(scene.agent.push_audio(&vec![LOUD; ms * 8]), ms * 8);
    assert!(scene.agent.push_mark(mark));
    scene.agent.finish();
}

fn told(scene: &Scene) -> Vec<LinkEvent> {
    let told = scene.heard.iter().filter(|event| !matches!(event, LinkEvent::Audio(_)));
    told.cloned().collect()
}

fn unheard(scene: &Scene) -> Vec<(u32, u32)> {
    let unheard = |event: &MediaEvent| match event {
        MediaEvent::Talk(Talk::Unheard { at_ms, heard_ms }) => Some((*at_ms, *heard_ms)),
        _ => None,
    };
    scene.events.iter().filter_map(unheard).collect()
}

#[test]
fn the_agent_and_the_record_know_what_was_heard_before_a_hold() {
    for hold in HOLDS {
        let mut scene = Scene::new(plan());
        say(&mut scene, 1_000, 1);
        scene.ticks(25);
        assert_eq!(loud(&scene), 500 * 8, "{hold:?}");
        hold.begin(&mut scene);
        scene.ticks(1);
        let mark = |id, played_ms| LinkEvent::Mark { id, played_ms };
        let whole = [mark(1, 500), LinkEvent::Unheard { heard_ms: 500 }, LinkEvent::Drained];
        assert_eq!(told(&scene), whole, "{hold:?}");
        scene.ticks(99);
        say(&mut scene, 300, 2);
        scene.ticks(50);
        let another = [mark(2, 0), LinkEvent::Unheard { heard_ms: 0 }, LinkEvent::Drained];
        assert_eq!(told(&scene)[3..], another, "{hold:?}");
        assert_eq!(unheard(&scene), [(520, 500), (2_520, 0)], "{hold:?}");
        hold.end(&mut scene);
        say(&mut scene, 200, 3);
        scene.ticks(20);
        assert_eq!(loud(&scene), 700 * 8, "{hold:?}");
        assert_eq!(told(&scene)[6..], [mark(3, 200), LinkEvent::Drained], "{hold:?}");
        assert_eq!(unheard(&scene).len(), 2, "{hold:?}");
    }
}

#[test]
fn who_takes_over_on_hold_is_heard_from_its_first_word_when_that_is_over() {
    for hold in HOLDS {
        let mut scene = Scene::new(plan());
        say(&mut scene, 100, 1);
        scene.ticks(20);
        hold.begin(&mut scene);
        scene.ticks(10);
        let (mut end, agent) = link();
        scene.session.attach(&mut end);
        scene.agent = agent;
        scene.heard.clear();
        scene.sent.clear();
        say(&mut scene, 400, 2);
        scene.ticks(500);
        assert_eq!((loud(&scene), told(&scene)), (0, Vec::new()), "{hold:?}");
        hold.end(&mut scene);
        scene.ticks(30);
        assert_eq!(loud(&scene), 400 * 8, "{hold:?}");
        let mark = LinkEvent::Mark { id: 2, played_ms: 400 };
        assert_eq!(told(&scene), [mark, LinkEvent::Drained], "{hold:?}");
        assert_eq!(unheard(&scene), [], "{hold:?}");
    }
}
