//! Sessions whose ticks follow the packets of a peer with a clock of its own.

use super::Bridged;
use super::Received;
use super::tests::LOUD;
use super::tests::PEER;
use super::tests::Scene;
use super::tests::Talker;
use super::tests::at;
use super::tests::plan;
use crate::audio::bridge::BridgeEnd;
use crate::audio::bridge::BridgeItem;
use crate::audio::frame::WIDE_SAMPLES;
use crate::audio::link::LinkEvent;
use crate::audio::sound::Sound;
use crate::media::output::Port;
use crate::media::pace::PHASE;
use crate::media::pace::PHASES;
use crate::media::pace::TICK;
use crate::media::setup::MediaSetup;
use crate::media::waits::Waits;
use crate::sdp::MediaPlan;
use crate::types::codec::Codec;
use crate::types::codec::Law;
use crate::types::moment::Moment;
use std::time::Duration;

/// Periods of ten minutes.
const PERIODS: u64 = 30_000;
/// The agent speaks for a second of each three.
const AGENT_EVERY: u64 = 150;

/// Whether some of it is louder than comfort noise, of which each byte is one of the codes next to zero.
fn is_loud(byte: u8) -> bool {
    byte & 0x7f < 0x7c
}

fn is_word(event: &LinkEvent) -> bool {
    matches!(event, LinkEvent::Audio(frame) if frame.iter().any(|byte| is_loud(*byte)))
}

/// What the peer says in its packet of this number: words of 1.2 s with 0.4 s between them.
fn words(packet: u64) -> [u8; 160] {
    let is_silent = packet % 80 >= 60;
    std::array::from_fn(|n| if is_silent { 0xff } else { (1 + (packet as usize + n) % 100) as u8 })
}

/// A session, its place in the periods of a thread, and a peer whose clock is not that of the thread.
struct Line {
    scene: Scene,
    talker: Talker,
    began: Moment,
    phase: usize,
    waits: Waits,
    /// Time between two packets of the peer, and when the next one comes.
    step: Duration,
    next: Moment,
    packets: u64,
    waited: Duration,
    moves: usize,
    /// What the agent said that is no silence.
    said: Vec<u8>,
}

impl Line {
    fn new(step: Duration) -> Self {
        let scene = Scene::new(plan());
        let began = scene.now;
        Self {
            scene,
            talker: Talker::new(PEER, 7),
            began,
            phase: 0,
            waits: Waits::new(),
            step,
            next: began,
            packets: 0,
            waited: Duration::ZERO,
            moves: 0,
            said: Vec::new(),
        }
    }

    /// A tick with what came before it.
    fn tick(&mut self, due: Moment) {
        let source = self.talker.source;
        while self.next <= due {
            let bytes = self.talker.audio(&words(self.packets));
            let datagram = Received { port: Port::Rtp, source, bytes: &bytes };
            self.scene.session.receive(self.next, &datagram, &mut self.scene.out);
            self.waits.note(self.next, due);
            self.waited += due.since(self.next);
            self.packets += 1;
            self.next += self.step;
        }
        self.scene.now = due;
        self.scene.session.tick(due, &mut self.scene.out);
        self.scene.perform();
    }

    /// The tick of a period, and where that leads.
    fn period(&mut self, number: u64) {
        if number.is_multiple_of(AGENT_EVERY) {
            self.agent_speaks();
        }
        let begins = self.began + TICK * number as u32;
        let (due, from) = (begins + PHASE * self.phase as u32, self.phase);
        self.tick(due);
        let before = |earlier: usize| (from + PHASES - earlier) % PHASES;
        let first = self.waits.judge();
        self.phase = before(first);
        if first > 0 && self.phase > from {
            self.tick(begins + PHASE * self.phase as u32);
        }
        let told = self.waits.judge_again(due);
        let best = told.and_then(|waits| waits.best(|_| true, |_| 0)).map(before);
        if let Some(to) = best
            && self.scene.session.bears_phase(due, (from, to))
        {
            self.waits.moved(due);
            self.scene.session.beat_moved();
            (self.phase, self.moves) = (to, self.moves + 1);
        }
    }

    fn agent_speaks(&mut self) {
        let first = self.said.len();
        // Nothing has to fall away behind its last sample.
        let mut bytes: Vec<_> = (first..first + 7_999).map(|n| (1 + n % 100) as u8).collect();
        self.said.extend(&bytes);
        bytes.push(0xff);
        assert_eq!(self.scene.agent.push_audio(&bytes), bytes.len());
        assert!(self.scene.agent.finish());
    }
}

#[test]
fn ticks_follow_a_clock_that_drifts_by_200_ppm_and_nothing_is_lost_or_doubled() {
    for step_us in [19_996, 20_004] {
        let mut line = Line::new(Duration::from_micros(step_us));
        (0..PERIODS).for_each(|number| line.period(number));
        // It moves through 120 ms, and waits for silence where it is by more than a phase.
        assert!((22..=26).contains(&line.moves), "{step_us}: {}", line.moves);
        let mean_us = line.waited.as_micros() as u64 / line.packets;
        assert!(mean_us < 7_500, "{step_us}: {mean_us}");
        // What is sent: each packet follows on the one before, and the agent's samples on each other.
        let scene = &line.scene;
        let rtp = scene.rtp();
        assert!((PERIODS..=PERIODS + 1).contains(&(rtp.len() as u64)), "{step_us}: {}", rtp.len());
        for two in rtp.windows(2) {
            assert_eq!(two[1].sequence, two[0].sequence.wrapping_add(1), "{step_us}");
            assert_eq!(two[1].timestamp, two[0].timestamp.wrapping_add(160), "{step_us}");
            assert!(!two[1].marker, "{step_us}");
        }
        let sent = rtp.iter().flat_map(|packet| packet.payload).copied();
        let sent: Vec<_> = sent.filter(|byte| is_loud(*byte)).collect();
        assert!(sent == line.said, "{step_us}: {} of {}", sent.len(), line.said.len());
        // What is heard: all words, one frame for each period.
        assert_eq!(scene.frames(), rtp.len(), "{step_us}");
        let heard = scene.heard.iter().filter(|event| is_word(event)).count();
        let spoken = (0..line.packets).filter(|packet| packet % 80 < 60).count();
        assert!(heard + 4 >= spoken, "{step_us}: {heard} of {spoken}");
        let figures = scene.session.statistics();
        let unheard = (figures.lost_in, figures.late_in, figures.concealed);
        assert_eq!(unheard, (0, 0, 0), "{step_us}");
        assert!(figures.jitter_level_ms <= 60, "{step_us}: {}", figures.jitter_level_ms);
    }
}

#[test]
fn while_the_agent_speaks_a_tick_moves_by_one_phase_at_most() {
    let mut scene = Scene::new(plan());
    assert_eq!(scene.agent.push_audio(&[LOUD; 8_000]), 8_000);
    scene.ticks(10);
    let moves = [(0, 1), (1, 0), (0, 2), (3, 0), (0, 3)];
    let bears = |scene: &Scene| moves.map(|way| scene.session.bears_phase(scene.now, way));
    assert_eq!(bears(&scene), [true, true, false, false, false]);
    scene.ticks(60);
    assert_eq!(bears(&scene), [true; 5]);
}

#[test]
fn a_tick_comes_no_earlier_than_what_is_heard_bears() {
    let mut scene = Scene::new(plan());
    let mut talker = Talker::new(PEER, 7);
    // Each packet comes 3 ms before a tick, and one more than is played is there.
    let mut talk = |scene: &mut Scene, byte: u8, ticks: usize| {
        for _ in 0..ticks {
            let bytes = talker.audio(&[byte; 160]);
            let (at, source) = (scene.now + Duration::from_millis(17), talker.source);
            let datagram = Received { port: Port::Rtp, source, bytes: &bytes };
            scene.session.receive(at, &datagram, &mut scene.out);
            scene.tick();
        }
    };
    let bears = |scene: &Scene, way| scene.session.bears_phase(scene.now, way);
    talk(&mut scene, 0xff, 300);
    assert!(bears(&scene, (3, 0)), "in silence a frame is put in");
    talk(&mut scene, LOUD, 50);
    assert!(!bears(&scene, (3, 0)), "a word would have a gap");
    assert!(bears(&scene, (1, 0)) && bears(&scene, (0, 3)));
    assert_eq!(scene.session.statistics().concealed, 0);
    talk(&mut scene, 0xff, 50);
    assert!(bears(&scene, (3, 0)));
}

#[test]
fn behind_a_move_no_frame_is_left_out_for_how_long_packets_waited_before() {
    let setup = MediaSetup { playout_held: false, ..MediaSetup::new(Some(plan()), 1) };
    let mut scene = Scene::with(MediaSetup { jitter_depth_ms: 100, ..setup });
    let mut talker = Talker::new(PEER, 7);
    let is_too_long = (0..200).any(|_| {
        scene.talk(&mut talker, 1);
        scene.session.jitter.wants_less()
    });
    assert!(is_too_long, "what is said comes evenly");
    scene.session.beat_moved();
    assert!(!scene.session.jitter.wants_less());
}

#[test]
fn a_session_that_is_bridged_moves_while_both_are_silent() {
    let mut scene = Scene::new(plan());
    let mut talker = Talker::new(PEER, 7);
    let (own, mut other) = BridgeEnd::pair();
    scene.session.bridge(Bridged::new(own));
    let bears =
        |scene: &Scene| [(0, 1), (1, 0)].map(|way| scene.session.bears_phase(scene.now, way));
    scene.ticks(5);
    assert_eq!(bears(&scene), [true; 2]);
    assert!(other.say(BridgeItem::Audio(Sound::Law(Law::Mu, [LOUD; 160]))));
    scene.tick();
    assert_eq!(bears(&scene), [false; 2], "the other side speaks");
    scene.tick();
    assert_eq!(bears(&scene), [true; 2]);
    scene.talk(&mut talker, 20);
    assert_eq!(bears(&scene), [false; 2], "the peer does");
}

/// What goes out at 16 kHz is known in the same tick, as what does at 8 kHz is.
#[test]
fn a_session_of_16_khz_that_is_bridged_moves_while_both_are_silent_too() {
    let codec = Codec::G722;
    let mut scene = Scene::new(MediaPlan {
        codec,
        send_payload_type: codec.payload_type(),
        receive_payload_type: codec.payload_type(),
        ..MediaPlan::for_test(at(PEER))
    });
    let (own, mut other) = BridgeEnd::pair();
    scene.session.bridge(Bridged::new(own));
    let bears =
        |scene: &Scene| [(0, 1), (1, 0)].map(|way| scene.session.bears_phase(scene.now, way));
    scene.ticks(5);
    assert_eq!(bears(&scene), [true; 2]);
    for _ in 0..3 {
        let loud =
            std::array::from_fn::<_, WIDE_SAMPLES, _>(
                |n| if n / 8 % 2 == 0 { 8_000 } else { -8_000 },
            );
        assert!(other.say(BridgeItem::Audio(Sound::Wide(loud))));
        scene.tick();
        assert_eq!(bears(&scene), [false; 2], "the other side speaks");
    }
    scene.ticks(5);
    assert_eq!(bears(&scene), [true; 2]);
}

/// To the peer it is sound as a word is, and who looks for keys in it takes note of a gap.
#[test]
fn no_tick_moves_far_while_the_tone_of_a_key_sounds() {
    let mut scene = Scene::new(MediaPlan { dtmf_send: None, ..plan() });
    let moves = [(0, 1), (1, 0), (0, 3), (3, 0)];
    let bears = |scene: &Scene| moves.map(|way| scene.session.bears_phase(scene.now, way));
    scene.ticks(5);
    assert_eq!(bears(&scene), [true; 4]);
    assert!(scene.session.send_digit('5'));
    scene.ticks(2);
    assert_eq!(bears(&scene), [true, true, false, false]);
    scene.ticks(20);
    assert_eq!(bears(&scene), [true; 4]);
}
