//! What a jitter buffer says of a network that stops, and of a peer that pauses, in virtual time.

use super::alone::Alone;
use super::*;
use crate::types::codec::PayloadType;
use crate::types::random::Random;

const TICK: Duration = Duration::from_millis(20);

/// A peer and a network that may hold back, or lose, what it says.
struct Line {
    buffer: Alone,
    tick: u32,
    sequence: u16,
    timestamp: u32,
    held: Vec<(u16, u32)>,
    /// Frames that were given out as missing.
    missing: u64,
}

impl Line {
    fn new() -> Self {
        let config = JitterConfig { depth_ms: 40, codec: Codec::Pcmu };
        Self {
            buffer: Alone::new(config),
            tick: 0,
            sequence: 65_400,
            timestamp: u32::MAX - 9_000,
            held: Vec::new(),
            missing: 0,
        }
    }

    fn now(&self) -> Moment {
        Moment::from_millis(1_000) + TICK * self.tick
    }

    fn push(&mut self, sequence: u16, timestamp: u32, content: Content) {
        let packet = RtpPacket {
            marker: false,
            payload_type: PayloadType::new(0).unwrap(),
            sequence,
            timestamp,
            ssrc: 1,
            payload: &[9; 160],
        };
        self.buffer.push(self.now(), &packet, content);
    }

    /// The next packet, as it is said.
    fn said(&mut self) -> (u16, u32) {
        let said = (self.sequence, self.timestamp);
        self.sequence = self.sequence.wrapping_add(1);
        self.timestamp = self.timestamp.wrapping_add(160);
        said
    }

    fn play(&mut self) {
        let now = self.now();
        self.missing += u64::from(self.buffer.pop(now) == Frame::Missing);
        self.tick += 1;
    }

    /// The peer talks.
    fn talk(&mut self, ticks: u32) {
        for _ in 0..ticks {
            for (sequence, timestamp) in std::mem::take(&mut self.held) {
                self.push(sequence, timestamp, Content::Audio);
            }
            let (sequence, timestamp) = self.said();
            self.push(sequence, timestamp, Content::Audio);
            self.play();
        }
    }

    /// The peer talks, and the network holds it all back.
    fn stall(&mut self, ticks: u32) {
        for _ in 0..ticks {
            let said = self.said();
            self.held.push(said);
            self.play();
        }
    }

    /// The peer talks, and the network loses it all.
    fn lose(&mut self, ticks: u32) {
        for _ in 0..ticks {
            self.said();
            self.play();
        }
    }

    /// The peer says nothing. Its clock may stop meanwhile.
    fn pause(&mut self, ticks: u32, clock_stops: bool) {
        for _ in 0..ticks {
            let step = if clock_stops { 0 } else { 160 };
            self.timestamp = self.timestamp.wrapping_add(step);
            self.play();
        }
    }

    fn missing_frames(&self) -> u64 {
        self.buffer.statistics().missing_samples.div_ceil(160)
    }
}

#[test]
fn what_a_stall_held_back_was_not_heard_in_time_though_all_of_it_came() {
    for ticks in [3, 5, 8, 9, 10, 11, 15, 30, 49, 60, 250] {
        let mut line = Line::new();
        line.talk(200);
        line.stall(ticks);
        // Sound comes without a pause, so that delay is taken back by cutting it.
        line.talk(400);
        let statistics = line.buffer.statistics();
        assert_eq!((statistics.lost, statistics.duplicate), (0, 0), "{ticks}");
        let unheard = statistics.late + statistics.discarded;
        // One or two frames waited in the buffer; what delay is left in the end is cut too.
        let expected = u64::from(ticks) - 2..=u64::from(ticks) + 2;
        assert!(expected.contains(&unheard), "{ticks}: {statistics:?}");
        let spread = line.buffer.spread();
        let missing = (f64::from(spread.density) * f64::from(spread.packets)).round() as u64;
        assert_eq!(missing, unheard, "{ticks}: {spread:?}");
        assert!(spread.burst_packets + 3.0 >= ticks as f32, "{ticks}: one burst, {spread:?}");
        // After a second nobody expects more of it.
        let made_up = u64::from(ticks.min(50)) - 2..=u64::from(ticks.min(50));
        assert!(made_up.contains(&line.missing_frames()), "{ticks}: {statistics:?}");
        assert_eq!(line.missing_frames(), line.missing, "{ticks}: it was concealed");
    }
}

#[test]
fn a_pause_that_nobody_announced_is_neither_late_nor_concealed() {
    for clock_stops in [false, true] {
        for ticks in [3, 8, 20, 60, 600] {
            let mut line = Line::new();
            line.talk(200);
            for _ in 0..3 {
                line.pause(ticks, clock_stops);
                // A sender whose clock stands still for less than 200 ms cannot be told from a stall.
                line.talk(100);
            }
            let statistics = line.buffer.statistics();
            assert_eq!(statistics.lost, 0);
            if clock_stops && ticks < 10 {
                continue;
            }
            assert_eq!((statistics.late, statistics.discarded), (0, 0), "{ticks} {clock_stops}");
            assert_eq!(statistics.missing_samples, 0, "{ticks} {clock_stops}");
            assert!(line.buffer.spread().density < 1e-9);
        }
    }
}

#[test]
fn a_clock_that_stands_still_each_second_is_no_network_that_stops() {
    for ticks in [10, 12, 20] {
        let mut line = Line::new();
        line.talk(200);
        for _ in 0..20 {
            line.pause(ticks, true);
            line.talk(50 - ticks);
        }
        let statistics = line.buffer.statistics();
        assert_eq!(line.buffer.target_ms(), 20, "{ticks}: {statistics:?}");
        assert!(line.buffer.level_ms() <= 40, "{ticks}: {}", line.buffer.level_ms());
        assert_eq!((statistics.missing_samples, statistics.late), (0, 0), "{ticks}");
    }
}

#[test]
fn a_network_that_loses_all_for_a_while_is_told_by_loss_alone() {
    for ticks in [1, 5, 40, 250] {
        let mut line = Line::new();
        line.talk(200);
        line.lose(ticks);
        line.talk(100);
        let statistics = line.buffer.statistics();
        assert_eq!(statistics.lost, u64::from(ticks));
        assert_eq!((statistics.late, statistics.discarded), (0, 0), "{ticks}");
        // The doubt of its first second ends with the next packet.
        assert_eq!(line.missing_frames(), line.missing, "{ticks}: {statistics:?}");
        assert!(line.missing_frames() + 2 >= u64::from(ticks.min(50)), "{ticks}: {statistics:?}");
    }
}

#[test]
fn where_a_stream_ended_nothing_was_concealed() {
    let mut line = Line::new();
    line.talk(100);
    line.lose(3_000);
    let statistics = line.buffer.statistics();
    assert_eq!((statistics.missing_samples, line.missing), (0, 50), "{statistics:?}");
    let out = statistics.played_samples + statistics.quiet_samples;
    assert_eq!(out, 3_100 * 160);
}

#[test]
fn a_pause_that_was_announced_goes_on_until_there_is_audio_again() {
    let mut line = Line::new();
    line.talk(100);
    let (sequence, timestamp) = line.said();
    line.push(sequence, timestamp, Content::Noise);
    line.play();
    for _ in 0..3_000 {
        let now = line.now();
        assert_ne!(line.buffer.pop(now), Frame::Empty);
        line.tick += 1;
        line.timestamp = line.timestamp.wrapping_add(160);
    }
    // A key in the pause does not end it.
    let (sequence, timestamp) = line.said();
    line.push(sequence, timestamp, Content::Other);
    for _ in 0..100 {
        let now = line.now();
        assert_ne!(line.buffer.pop(now), Frame::Empty);
        line.tick += 1;
    }
    line.timestamp = line.timestamp.wrapping_add(100 * 160);
    line.talk(50);
    line.pause(60, false);
    let now = line.now();
    assert_eq!(line.buffer.pop(now), Frame::Empty, "now it says nothing of a pause");
    let statistics = line.buffer.statistics();
    assert_eq!((statistics.lost, statistics.late), (0, 0), "{statistics:?}");
}

#[test]
fn over_any_network_what_was_made_up_for_is_what_was_not_heard_in_time() {
    for seed in 0..60 {
        let mut random = Random::from_seed(seed);
        let mut line = Line::new();
        let mut stalled = 0;
        for _ in 0..40 {
            line.talk(100 + random.below(200) as u32);
            let ticks = 1 + random.below(45) as u32;
            match random.below(3) {
                0 => line.stall(ticks),
                1 => line.lose(ticks),
                _ => line.pause(ticks, false),
            }
            stalled += u64::from(ticks);
        }
        line.talk(400);
        let statistics = line.buffer.statistics();
        let told = statistics.lost + statistics.late + statistics.discarded;
        let made_up = line.missing_frames();
        // Each time it is so to a frame or two, for what waited in the buffer and delay that was taken back.
        assert!(
            told.abs_diff(made_up) <= 80,
            "{seed}: {told} {made_up} of {stalled} {statistics:?}"
        );
    }
}
