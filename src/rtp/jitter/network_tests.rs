//! A jitter buffer over networks that delay, stall and lose, with a peer that speaks and pauses, in virtual time.

use super::alone::Alone;
use super::*;
use crate::types::codec::PayloadType;
use crate::types::codec::Ptime;
use crate::types::random::Random;

/// A byte for each 1/8000 s, linear samples of both rates, and frames of any length. What only passes through is not
/// heard here.
const CODECS: [Codec; 5] = [Codec::Pcmu, Codec::G722, Codec::L16, Codec::L16Wide, Codec::Opus];
/// Where the time stamps of a peer begin, so that they wrap soon.
const FIRST_STAMP: u32 = u32::MAX - 70_000;

/// A peer, a network and whoever plays what comes.
struct Line {
    codec: Codec,
    buffer: Alone,
    random: Random,
    /// Packets on their way: when they come, in µs, their number and time stamp.
    flying: Vec<(u64, u16, u32, Vec<u8>)>,
    now_us: u64,
    next_us: u64,
    sequence: u16,
    sent_samples: u32,
    ptime_ms: u32,
    /// Time of a packet on the clock of the peer is so many millionths longer.
    slower_ppm: i64,
    /// The peer never pauses.
    steady: bool,
    /// What was played last was silence of the peer.
    was_silent: bool,
    /// Where the decoder of packets is, in samples of the peer; `None`: it does not know.
    decoded: Option<u32>,
    heard: Heard,
}

/// What was played.
#[derive(Default)]
struct Heard {
    ticks: u32,
    missing: u32,
    /// Of the last sample heard, how long ago it was said, in ms.
    delay_ms: f64,
    delay_max_ms: f64,
}

/// One byte of speech tells its place in 240 samples; silence is 255.
fn byte_of(sample: u32, steady: bool) -> u8 {
    // Words of 1.2 s with 0.4 s between them.
    let silent = !steady && sample / 160 % 80 >= 60;
    if silent { 0xff } else { (sample % 240) as u8 }
}

impl Line {
    fn new() -> Self {
        Self::of(Codec::Pcmu)
    }

    fn of(codec: Codec) -> Self {
        let mut buffer = Alone::new(JitterConfig { depth_ms: 40, codec });
        if codec.is_packed() {
            buffer.equip(JitterRoom::default());
        }
        Self {
            codec,
            buffer,
            random: Random::from_seed(11),
            flying: Vec::new(),
            now_us: 1_000_000,
            next_us: 1_000_000,
            sequence: 65_000,
            sent_samples: 0,
            ptime_ms: 20,
            slower_ppm: 0,
            steady: false,
            was_silent: false,
            decoded: None,
            heard: Heard::default(),
        }
    }

    fn run(&mut self, seconds: u64, mut late_us: impl FnMut(&mut Random) -> Option<u64>) {
        for _ in 0..seconds * 50 {
            self.tick(&mut late_us);
        }
    }

    /// A network that stops for `stall_ms` at the beginning of each of `every_s` seconds, and lets all go at once then.
    fn stalls(&mut self, seconds: u64, every_s: u64, stall_ms: u64) {
        for _ in 0..seconds * 50 {
            let (mut said_us, step_us) = (self.next_us, u64::from(self.ptime_ms) * 1_000);
            self.tick(&mut |_| {
                let since_us = said_us % (every_s * 1_000_000);
                said_us += step_us;
                Some(5_000 + (stall_ms * 1_000).saturating_sub(since_us))
            });
        }
    }

    /// 20 ms. `late_us` says how long the next packet takes; `None`: it never comes.
    fn tick(&mut self, late_us: &mut impl FnMut(&mut Random) -> Option<u64>) {
        self.now_us += 20_000;
        while self.next_us <= self.now_us {
            let samples = self.ptime_ms * 8;
            let first = self.sent_samples;
            let payload = self.payload(first, samples);
            if let Some(late) = late_us(&mut self.random) {
                let units = first.wrapping_mul(self.codec.clock_factor());
                let timestamp = FIRST_STAMP.wrapping_add(units);
                self.flying.push((self.next_us + late, self.sequence, timestamp, payload));
            }
            self.sequence = self.sequence.wrapping_add(1);
            self.sent_samples += samples;
            let micros = i64::from(self.ptime_ms) * (1_000_000 + self.slower_ppm) / 1_000;
            self.next_us += micros as u64;
        }
        self.flying.sort_by_key(|packet| packet.0);
        while self.flying.first().is_some_and(|packet| packet.0 <= self.now_us) {
            let (at, sequence, timestamp, payload) = self.flying.remove(0);
            let packet = RtpPacket {
                marker: false,
                payload_type: PayloadType::new(0).unwrap(),
                sequence,
                timestamp,
                ssrc: 1,
                payload: &payload,
            };
            self.buffer.push(Moment::from_nanos(at * 1_000), &packet, Content::Audio);
        }
        self.play();
    }

    /// What a session does: in silence the delay may change.
    fn play(&mut self) {
        let now = Moment::from_nanos(self.now_us * 1_000);
        self.heard.ticks += 1;
        if self.was_silent && self.buffer.wants_more(now) {
            self.buffer.stretch();
            return;
        }
        let silent = match self.buffer.pop(now) {
            Frame::Audio(audio) => audio.iter().all(|byte| *byte == 0xff),
            Frame::Missing => {
                self.heard.missing += 1;
                false
            }
            Frame::Mixed(..) | Frame::Quiet | Frame::Empty => false,
        };
        let silent = self.unpacked().unwrap_or(silent);
        if silent && self.buffer.wants_less() {
            let _silence = self.buffer.instead();
            self.unpacked();
        }
        self.was_silent = silent;
        let last = self.given_up_to();
        let said_us = u64::from(last) * 125 * (1_000_000 + self.slower_ppm) as u64 / 1_000_000;
        self.heard.delay_ms = (self.now_us as f64 - 1_000_000.0 - said_us as f64) / 1_000.0 + 20.0;
        self.heard.delay_max_ms = self.heard.delay_max_ms.max(self.heard.delay_ms);
    }

    /// The sample of the peer that is given out next.
    fn given_up_to(&self) -> u32 {
        self.buffer.clock.wrapping_sub(FIRST_STAMP / self.codec.clock_factor())
    }

    /// A packet of `samples` at 8 kHz from `first` on. One that is decoded as a whole ends with where it begins.
    fn payload(&self, first: u32, samples: u32) -> Vec<u8> {
        let length = match self.codec {
            Codec::Pcmu | Codec::Pcma | Codec::G722 => {
                return (first..first + samples).map(|at| byte_of(at, self.steady)).collect();
            }
            Codec::L16 => samples * 2,
            Codec::L16Wide => samples * 4,
            Codec::Opus => 5,
            Codec::G729 => samples / 8,
        };
        let mut payload = vec![0; length as usize];
        let (head, place) = payload.split_at_mut(length as usize - 4);
        place.copy_from_slice(&first.to_be_bytes());
        if self.codec == Codec::Opus {
            // A single frame (RFC 6716 §3.1).
            let length = [80, 160, 320, 480].iter().position(|it| *it == samples).unwrap();
            head[0] = (length as u8) << 3;
        }
        payload
    }

    /// Does what a decoder of packets has to do for the frame just given, each sample of which must be the one whose
    /// time it is. Whether all of it was silence of the peer; `None`: its codec is none of those.
    fn unpacked(&mut self) -> Option<bool> {
        let desk = self.buffer.desk()?;
        let (mut silent, mut played) = (true, 0);
        for step in desk.steps() {
            match step {
                Step::Packet { bytes, .. } => {
                    let place = desk.bytes(bytes).last_chunk().expect("four bytes");
                    self.decoded = Some(u32::from_be_bytes(*place));
                }
                Step::Play(units) => {
                    let (units, steady) = (u32::from(*units), self.steady);
                    let is_silent =
                        |first| (first..first + units).all(|at| byte_of(at, steady) == 0xff);
                    silent &= self.decoded.is_some_and(is_silent);
                    played += units;
                    self.decoded = self.decoded.map(|first| first + units);
                }
                Step::Drop(units) => {
                    self.decoded = self.decoded.map(|first| first + u32::from(*units));
                }
                Step::Missing { .. } | Step::Quiet(_) => {}
                Step::Forget => self.decoded = None,
            }
        }
        if let (Some(decoded), Some(Step::Play(_))) = (self.decoded, desk.steps().last()) {
            assert_eq!(decoded, self.given_up_to(), "{}", self.codec);
        }
        Some(silent && played == FRAME_SAMPLES)
    }

    fn dropped_ms(&self) -> u64 {
        self.buffer.statistics().dropped_samples / 8
    }
}

/// Some codecs have no packets so long.
fn has_packets_of(codec: Codec, ms: u32) -> bool {
    let ptime = u8::try_from(ms).ok().and_then(Ptime::from_ms);
    ptime.is_some_and(|ptime| codec.fitting(ptime) == ptime)
}

#[test]
fn an_even_network_ends_at_the_least_delay_and_loses_nothing() {
    let mut line = Line::new();
    line.run(10, |_| Some(7_000));
    assert_eq!(line.buffer.target_ms(), 20);
    assert!((20.0..62.0).contains(&line.heard.delay_ms), "{}", line.heard.delay_ms);
    let statistics = line.buffer.statistics();
    assert_eq!((statistics.lost, statistics.late, line.heard.missing), (0, 0, 0));
}

#[test]
fn jitter_grows_the_delay_at_once_and_calm_shrinks_it_slowly() {
    let mut line = Line::new();
    line.run(5, |_| Some(5_000));
    let calm_ms = line.heard.delay_ms;
    line.run(10, |random| Some(5_000 + random.below(80_000)));
    let (before, missing) = (line.buffer.statistics(), line.heard.missing);
    line.run(20, |random| Some(5_000 + random.below(80_000)));
    let after = line.buffer.statistics();
    assert!(after.late - before.late <= 30, "of 1000: {before:?} {after:?}");
    assert!(line.heard.missing - missing <= 40, "{} {missing}", line.heard.missing);
    assert!(line.heard.delay_ms >= 75.0, "{}", line.heard.delay_ms);
    line.run(30, |_| Some(5_000));
    assert!(line.heard.delay_ms <= calm_ms + 1.0, "{calm_ms} {}", line.heard.delay_ms);
    let lost = line.buffer.statistics().lost;
    assert_eq!(lost, after.lost, "nothing is lost by shrinking");
}

#[test]
fn in_sound_that_never_pauses_the_delay_grows_where_a_packet_is_missing_anyway() {
    let mut line = Line { steady: true, ..Line::new() };
    line.run(5, |_| Some(5_000));
    // One in ten takes another way, and others are there in its time: nothing ever runs dry.
    let mut slow = |random: &mut Random| Some(if random.below(10) == 0 { 125_000 } else { 5_000 });
    line.run(10, &mut slow);
    let before = line.buffer.statistics();
    line.run(20, &mut slow);
    let after = line.buffer.statistics();
    assert!(after.late - before.late <= 10, "of 1000: {before:?} {after:?}");
}

#[test]
fn after_a_blackout_of_5_s_the_delay_is_back_at_its_least_within_3_s() {
    for codec in CODECS {
        for (steady, held) in [(false, false), (false, true), (true, false), (true, true)] {
            let mut line = Line { steady, ..Line::of(codec) };
            line.run(10, |_| Some(5_000));
            let least_ms = line.heard.delay_ms;
            // Either all is lost, or it comes at once in the end.
            let mut left = 5_000_000;
            line.run(5, |_| {
                left -= 20_000;
                held.then_some(5_000 + left)
            });
            line.run(3, |_| Some(5_000));
            let (after_ms, case) = (line.heard.delay_ms, format!("{codec} {steady} {held}"));
            assert!(after_ms <= least_ms + 1.0, "{case}: {least_ms} {after_ms}");
            let missing = line.heard.missing;
            line.run(10, |_| Some(5_000));
            assert_eq!(line.heard.missing, missing, "{case}");
            assert!(line.heard.delay_ms <= least_ms + 1.0, "{case}");
        }
    }
}

#[test]
fn stalls_that_come_each_second_grow_the_delay_as_far_as_it_may() {
    CODECS.into_iter().for_each(stalls_each_second_grow_the_delay);
}

fn stalls_each_second_grow_the_delay(codec: Codec) {
    for (ptime_ms, steady) in [(10, false), (20, false), (20, true), (30, true), (60, false)] {
        if !has_packets_of(codec, ptime_ms) {
            continue;
        }
        for stall_ms in [120, 160, 180, 190, 200, 220] {
            let mut line = Line { steady, ptime_ms, ..Line::of(codec) };
            line.run(5, |_| Some(5_000));
            line.stalls(10, 1, stall_ms);
            let (missing, before) = (line.heard.missing, line.buffer.statistics());
            line.stalls(10, 1, stall_ms);
            let (missing, after) = (line.heard.missing - missing, line.buffer.statistics());
            let case = format!("{codec} {ptime_ms} {steady} {stall_ms}: {after:?}");
            // Of 200 ms a second, at most a frame: more only of what is longer than any delay.
            let most = if stall_ms < 200 { 10 } else { 20 };
            assert!(missing <= most, "{missing} of {case}");
            let unheard = after.late + after.discarded - before.late - before.discarded;
            let unheard_ms = unheard * u64::from(ptime_ms);
            assert!(unheard_ms <= u64::from(most) * 20 + 60, "{unheard_ms} of {case}");
            let target_ms = u64::from(line.buffer.target_ms());
            assert!((90..=200).contains(&target_ms), "{target_ms} {case}");
            assert!(line.heard.delay_ms <= 250.0, "{} {case}", line.heard.delay_ms);
            // Where they end, it shrinks slowly: by packets, of which there are fewer if they are long.
            line.run(u64::from(ptime_ms.max(20)) / 2, |_| Some(5_000));
            assert!(line.heard.delay_ms <= 62.0, "{} {case}", line.heard.delay_ms);
            assert_eq!(line.buffer.statistics().lost, 0, "{case}");
        }
    }
}

#[test]
fn after_loss_disorder_and_bursts_of_it_the_delay_is_back_at_its_least_within_3_s() {
    // In hundredths: packets that are lost, that are the first of eight lost in a row, and that others overtake.
    for (lost, bursts, overtaken) in
        [(1, 0, 0), (5, 0, 0), (20, 0, 0), (0, 2, 0), (0, 0, 3), (5, 1, 2)]
    {
        for steady in [false, true] {
            let mut line = Line { steady, ..Line::new() };
            line.run(10, |_| Some(5_000));
            // A frame in the buffer and one that is played; what never pauses is not cut for a frame more.
            let least_ms = if steady { 60.0 } else { 40.0 };
            assert!(line.heard.delay_ms <= least_ms);
            let mut left = 0;
            line.run(10, |random| {
                if left == 0 && random.below(100) < bursts {
                    left = 8;
                }
                let in_burst = left > 0;
                left -= u64::from(in_burst);
                let is_lost = in_burst || random.below(100) < lost;
                let late_us = if random.below(100) < overtaken { 45_000 } else { 5_000 };
                (!is_lost).then_some(late_us)
            });
            let during = line.buffer.statistics();
            line.run(3, |_| Some(5_000));
            let case = format!("{lost} {bursts} {overtaken} {steady}: {during:?}");
            assert!(
                line.heard.delay_ms <= least_ms + 1.0,
                "{} {least_ms} {case}",
                line.heard.delay_ms
            );
            let missing = line.heard.missing;
            line.run(10, |_| Some(5_000));
            assert_eq!(line.heard.missing, missing, "{case}");
            assert_eq!(during.lost > 0, lost + bursts > 0, "{case}");
        }
    }
}

#[test]
fn after_a_single_stall_the_delay_is_back_at_its_least_within_3_s() {
    CODECS.into_iter().for_each(after_a_single_stall_the_delay_is_back);
}

fn after_a_single_stall_the_delay_is_back(codec: Codec) {
    for (ptime_ms, steady) in [(10, false), (20, false), (20, true), (60, false), (60, true)] {
        if !has_packets_of(codec, ptime_ms) {
            continue;
        }
        for stall_ms in [60, 100, 160, 180, 190, 220, 300, 1_000] {
            let mut line = Line { steady, ptime_ms, ..Line::of(codec) };
            // The first stall would begin at the tenth second.
            line.run(8, |_| Some(5_000));
            let least_ms = line.heard.delay_ms;
            line.stalls(3, 10, stall_ms);
            line.run(2, |_| Some(5_000));
            let after_ms = line.heard.delay_ms;
            let case = format!("{codec} {ptime_ms} {steady} {stall_ms}");
            assert!(after_ms <= least_ms + 1.0, "{case}: {least_ms} {after_ms}");
            let missing = line.heard.missing;
            line.run(10, |_| Some(5_000));
            assert_eq!(line.heard.missing, missing, "{case}");
        }
    }
}

#[test]
fn a_clock_that_drifts_by_200_ppm_for_an_hour_drops_no_speech_and_adds_no_delay() {
    drifts(&[(Codec::Pcmu, -200), (Codec::Pcmu, 200)]);
}

#[test]
fn a_drift_of_200_ppm_for_an_hour_drops_no_speech_of_g722() {
    drifts(&[(Codec::G722, -200), (Codec::G722, 200)]);
}

#[test]
fn a_drift_of_200_ppm_for_an_hour_drops_no_speech_of_opus() {
    drifts(&[(Codec::Opus, -200), (Codec::Opus, 200)]);
}

#[test]
fn a_drift_of_200_ppm_for_an_hour_drops_no_speech_of_linear_audio() {
    drifts(&[(Codec::L16, 200), (Codec::L16Wide, -200)]);
}

fn drifts(cases: &[(Codec, i64)]) {
    for (codec, slower_ppm) in cases {
        let mut line = Line { slower_ppm: *slower_ppm, ..Line::of(*codec) };
        line.run(10, |_| Some(5_000));
        line.heard.delay_max_ms = 0.0;
        line.run(3_590, |random| Some(5_000 + random.below(3_000)));
        let (statistics, case) = (line.buffer.statistics(), format!("{codec} {slower_ppm}"));
        assert_eq!((statistics.lost, statistics.late), (0, 0), "{case}");
        assert_eq!(line.heard.missing, 0, "{case}: {statistics:?}");
        assert!(line.heard.delay_max_ms <= 70.0, "{case}: {}", line.heard.delay_max_ms);
        // 720 ms, a frame at a time, and what the beginning had too much.
        let (less, more) = (line.dropped_ms(), statistics.stretched_samples / 8);
        let (expected, other) = if *slower_ppm < 0 { (less, more) } else { (more, less) };
        assert!((680..=780).contains(&expected) && other <= 40, "{case}: {less} {more}");
    }
}

#[test]
fn music_that_never_pauses_is_cut_seldom_and_adds_no_delay() {
    let mut line = Line { slower_ppm: -200, steady: true, ..Line::new() };
    line.run(600, |_| Some(5_000));
    assert!(line.heard.delay_ms <= 70.0, "{}", line.heard.delay_ms);
    assert!((100..=160).contains(&line.dropped_ms()), "{}", line.dropped_ms());
    assert_eq!(line.heard.missing, 0);
    // What was cut out nobody heard, and each cut is a packet.
    let statistics = line.buffer.statistics();
    assert_eq!((statistics.discarded * 20, statistics.late), (line.dropped_ms(), 0));
}

#[test]
fn the_packet_time_may_change_in_a_call() {
    let mut line = Line::new();
    for ptime_ms in [20, 60, 10, 30, 40, 20] {
        line.ptime_ms = ptime_ms;
        line.run(10, |random| Some(5_000 + random.below(2_000)));
        let statistics = line.buffer.statistics();
        assert_eq!((statistics.lost, statistics.late), (0, 0), "{ptime_ms}");
        let limit = 65.0 + f64::from(ptime_ms);
        assert!(line.heard.delay_ms <= limit, "{ptime_ms}: {}", line.heard.delay_ms);
    }
    // Longer packets come later: at most one frame each time it grew.
    assert!(line.heard.missing <= 8, "{}", line.heard.missing);
}

#[test]
fn a_network_gone_mad_neither_stops_the_clock_nor_grows_the_delay_beyond_its_limit() {
    for seed in 0..40 {
        let mut line = Line { random: Random::from_seed(seed), ..Line::new() };
        for _ in 0..20 {
            let (loss, wobble) = (line.random.below(30), 1 + line.random.below(400_000));
            let base = line.random.below(300_000);
            line.run(2, |random| (random.below(100) >= loss).then(|| base + random.below(wobble)));
        }
        line.run(25, |_| Some(5_000));
        let statistics = line.buffer.statistics();
        let out = statistics.played_samples + statistics.missing_samples + statistics.quiet_samples;
        assert_eq!(out, u64::from(line.heard.ticks) * 160);
        assert!(line.heard.delay_ms <= 90.0, "{seed}: {}", line.heard.delay_ms);
    }
}
