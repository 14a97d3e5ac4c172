//! Media threads that come too late for some ticks.

use super::Bridged;
use super::Received;
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
use crate::media::output::Port;
use crate::media::pace::Pace;
use crate::media::pace::Step;
use crate::media::pace::TICK;
use crate::media::pace::TICKS_MADE_UP_MAX;
use crate::media::setup::MediaRules;
use crate::media::setup::MediaSetup;
use crate::types::moment::Moment;
use crate::types::talk::Talk;
use std::collections::HashSet;
use std::collections::VecDeque;
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
fn ticks_left_out_while_an_agent_speaks_are_a_gap_of_the_nodes() {
    let mut scene = Scene::new(plan());
    assert_eq!(scene.agent.push_audio(&[LOUD; 8_000]), 8_000);
    scene.ticks(10);
    scene.session.skip(6);
    // What they would have been is in the packets' time.
    scene.now += TICK * 6;
    scene.ticks(20);
    let told = scene.events.iter().filter_map(|event| match event {
        MediaEvent::Talk(talk) => Some(*talk),
        _ => None,
    });
    let gap = Talk::Underrun { at_ms: 17 * 20, ms: 120, node_late: true };
    assert_eq!(told.collect::<Vec<_>>(), [gap]);
    assert_eq!(scene.session.statistics().underruns, 1);
    let packets = scene.rtp();
    let [.., before, after] = &packets[..11] else { panic!("{}", packets.len()) };
    assert_eq!(after.timestamp.wrapping_sub(before.timestamp), 7 * 160);
    assert!(after.payload.iter().all(|byte| *byte == LOUD), "it goes on where it was");
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
            scene.session.miss(ticks, &mut scene.out);
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
    scene.session.bridge(Bridged::new(own));
    talk(&mut scene, 100, &[(50, 12)]);
    let mut passed = 0;
    while other.hear(|_| ()).is_some() {
        passed += 1;
    }
    assert!(passed <= 8, "{passed}");
    assert_eq!(heard(&scene).len(), 100, "the agent's clock goes on beside a bridge");
}

/// A session whose thread gets the processor only now and then. Its peer and its agent are elsewhere, and are not kept
/// from talking.
struct Starved {
    scene: Scene,
    pace: Pace,
    talker: Talker,
    /// What the peer said and nobody has read, and when it arrived.
    waiting: VecDeque<(Moment, Vec<u8>)>,
    said: usize,
    /// Packets sent before each time the thread ran, and at the end.
    sent: Vec<usize>,
}

impl Starved {
    fn new() -> Self {
        let scene = Scene::new(plan());
        let (pace, talker) = (Pace::new(scene.now), Talker::new(super::tests::PEER, 7));
        Self { scene, pace, talker, waiting: VecDeque::new(), said: 0, sent: vec![0] }
    }

    /// The thread gets the processor `after` so long, and has it until nothing is left to do.
    fn runs_after(&mut self, after: Duration) {
        let (from, until) = (self.scene.now, self.scene.now + after);
        for ms in from.as_millis() + 1..=until.as_millis() {
            // 3 ms before each tick, and what the agent says beside.
            if ms % 20 == 17 {
                let bytes = self.talker.audio(&words(self.said));
                self.waiting.push_back((Moment::from_millis(ms), bytes));
                self.scene.agent.push_audio(&words(self.said));
                self.said += 1;
            }
        }
        self.scene.now = until;
        loop {
            match self.pace.step(until) {
                Step::Wait(_) => break,
                Step::Run { phase: 0, .. } => {
                    self.reads_until(until);
                    self.scene.session.tick(until, &mut self.scene.out);
                    self.scene.perform();
                }
                Step::Run { .. } => (),
                Step::Skip { ticks } => {
                    for before in (1..=ticks).rev() {
                        let due = until - Duration::from_millis(before * 20);
                        self.reads_until(due);
                        let since = ticks - before;
                        self.scene.session.hear_late(due, since, &mut self.scene.out);
                        self.scene.perform();
                    }
                    self.scene.session.skip(ticks);
                }
            }
        }
        let rtp = self.scene.sent.iter().filter(|sent| sent.port == Port::Rtp);
        self.sent.push(rtp.count());
    }

    fn reads_until(&mut self, until: Moment) {
        let source = self.talker.source;
        while let Some((at, bytes)) = self.waiting.pop_front_if(|(at, _)| *at <= until) {
            let received = Received { port: Port::Rtp, source, bytes: &bytes };
            self.scene.session.receive(at, &received, &mut self.scene.out);
        }
    }
}

#[test]
fn a_thread_kept_from_the_processor_keeps_the_pace_of_its_calls() {
    for stops_ms in [vec![5], vec![3, 17, 9, 40], vec![65, 5, 5], vec![90, 10], vec![5, 250, 5, 60]]
    {
        let mut starved = Starved::new();
        let began = starved.scene.now;
        starved.runs_after(TICK);
        let stops = stops_ms.iter().cycle().map(|ms| Duration::from_millis(*ms));
        for stop in stops {
            starved.runs_after(stop);
            if starved.scene.now.since(began) >= Duration::from_secs(20) {
                break;
            }
        }
        // What is left out in the end is told by the packet behind it.
        starved.runs_after(TICK);
        let scene = &starved.scene;
        let ticks = scene.now.since(began).as_millis() as u64 / 20 + 1;
        let figures = scene.session.statistics();
        let case = format!("{stops_ms:?}: {figures:?}");
        // Each tick is one packet more, or one that is left out: never a burst of more than is made up for.
        assert_eq!(figures.packets_out + figures.ticks_skipped, ticks, "{case}");
        assert_eq!(figures.ticks_skipped > 0, stops_ms.iter().any(|ms| *ms > 80), "{case}");
        let bursts = starved.sent.windows(2).map(|sent| (sent[1] - sent[0]) as u64);
        assert!(bursts.max() <= Some(TICKS_MADE_UP_MAX + 1), "{case}");
        // What is left out the time stamps leave out too, and the marker says so.
        let rtp = scene.rtp();
        let first = rtp.first().expect("it sent").timestamp;
        for pair in rtp.windows(2) {
            assert_eq!(pair[1].sequence, pair[0].sequence.wrapping_add(1), "{case}");
            let over = pair[1].timestamp.wrapping_sub(pair[0].timestamp);
            assert_eq!((over % 160, pair[1].marker), (0, over > 160), "{case}");
        }
        let last = rtp.last().expect("it sent").timestamp;
        assert_eq!(u64::from(last.wrapping_sub(first)) / 160, ticks - 1, "{case}");
        // The agent's clock is that of the call, and it hears what had arrived.
        let heard = heard(scene);
        assert_eq!(heard.len() as u64, ticks, "{case}");
        let all: HashSet<_> = (0..starved.said).map(words).collect();
        let known = heard.iter().filter(|frame| all.contains(*frame));
        assert!(known.count() * 100 >= starved.said * 90, "{case}");
        assert_eq!(figures.lost_in, 0, "{case}");
    }
}
