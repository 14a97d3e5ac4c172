//! How long packets of a stream take on their way, and how long the first of them must wait for the last.
//!
//! Only differences are known: the quickest packet of the last seconds took no time, and each other one so
//! much longer. A histogram of that, which forgets, says how much delay nearly all packets need.
#![warn(clippy::indexing_slicing)]

use crate::types::moment::Moment;
use std::time::Duration;

/// Longest delay that is provided for, in ms. Who takes longer was not delayed but stopped.
pub const DELAY_MS_MAX: u16 = 200;

/// Width of a bin, in µs.
const BIN_US: i64 = 5_000;
const BINS: usize = DELAY_MS_MAX as usize / 5;
/// Share of packets that are to be in time.
const IN_TIME: f32 = 0.97;
/// Weight of a packet, once many have come: most of the memory is 5 s of 20 ms.
const WEIGHT: f32 = 1.0 / 256.0;
/// Packets after which an estimate is better than none.
const PACKETS_MIN: u32 = 50;
/// Packets between two looks at the histogram.
const LOOK_EVERY: u32 = 10;
/// Time over which one quickest packet is looked for.
const SPAN: Duration = Duration::from_millis(500);
/// Such times in memory: the clocks of both ends drift, and routes change.
const SPANS: usize = 8;
/// Packets in a row that were all stopped, after which it is the route that takes longer now.
const STOPPED_MAX: u32 = 10;
/// Packets behind a silence that are borne in mind until it is known what that was.
const KEPT: usize = 10;
/// Stalls that are longer than any delay count only where they come again within this time.
const AGAIN: Duration = Duration::from_secs(5);
/// Microseconds of a unit of the time stamp, at 8 kHz.
const UNIT_US: i64 = 125;
/// Where no quickest packet is known.
const UNKNOWN: i64 = i64::MAX;

/// Estimates the delay that a stream needs. For a clock of 8 kHz; allocates nothing.
#[derive(Clone, Debug)]
pub struct DelayEstimate {
    /// Share of packets by how much longer they took than the quickest.
    shares: [f32; BINS],
    /// The quickest packet of each of the last spans, in µs of an unknown zero; the first is running.
    quickest: [i64; SPANS],
    span_began: Moment,
    /// The time stamp of the last packet as sent, and counted on over the wrap.
    last: Option<(u32, i64)>,
    packets: u32,
    stopped: u32,
    needed_ms: Option<u16>,
    before: Option<Before>,
    /// When a stall was told that was longer than any delay.
    stalled: Option<Moment>,
}

/// The way as it was known before a silence, and how much longer packets behind that took by it.
#[derive(Clone, Debug)]
struct Before {
    /// When a packet with this time stamp arrives that is as quick as the quickest, in µs.
    expected: i64,
    timestamp: u32,
    /// The first packet behind the silence took longer than any delay.
    beyond: bool,
    kept: u8,
    bins: [u8; KEPT],
}

impl Before {
    fn keep(&mut self, arrival: Moment, timestamp: u32) -> Option<usize> {
        let expected = self.expected + units_since(self.timestamp, timestamp) * UNIT_US;
        let bin = bin_of(micros(arrival) - expected)?;
        if let Some(place) = self.bins.get_mut(usize::from(self.kept)) {
            *place = bin as u8;
            self.kept += 1;
        }
        Some(bin)
    }
}

impl Default for DelayEstimate {
    fn default() -> Self {
        Self {
            shares: [0.0; BINS],
            quickest: [UNKNOWN; SPANS],
            span_began: Moment::START,
            last: None,
            packets: 0,
            stopped: 0,
            needed_ms: None,
            before: None,
            stalled: None,
        }
    }
}

impl DelayEstimate {
    /// Another stream begins: its clock is another, the network is the same.
    pub fn begin(&mut self) {
        self.last = None;
        self.quickest = [UNKNOWN; SPANS];
        self.stopped = 0;
        self.before = None;
    }

    /// The packet with `timestamp` came at `arrival` behind a silence, and follows on what was before. If the clock of
    /// the peer stood still, a way begins of which nothing is known; if the network did, [`Self::resume`] is to say so.
    pub fn doubt(&mut self, arrival: Moment, timestamp: u32) {
        let base = self.base();
        let last = self.last.filter(|_| base != UNKNOWN);
        self.begin();
        self.before = last.map(|(last, counted)| {
            let expected = base + counted * UNIT_US;
            let mut before =
                Before { expected, timestamp: last, beyond: false, kept: 0, bins: [0; KEPT] };
            before.beyond = before.keep(arrival, timestamp).is_none();
            before
        });
    }

    /// It was the network that stopped: the way is the one before, and what was held back took so much longer. Not
    /// for a stall that was longer than any delay and alone. Returns whether it is so.
    pub fn resume(&mut self, now: Moment) -> bool {
        let Some(before) = self.before.take() else { return false };
        if before.beyond {
            let stalled = self.stalled.replace(now);
            if stalled.is_none_or(|stalled| now.since(stalled) >= AGAIN) {
                return false;
            }
        }
        let newest = self.last.map_or(before.timestamp, |(timestamp, _)| timestamp);
        self.last = Some((newest, units_since(before.timestamp, newest)));
        self.quickest = [UNKNOWN; SPANS];
        self.quickest[0] = before.expected;
        self.stopped = 0;
        for bin in before.bins.iter().take(before.kept.into()) {
            self.weigh((*bin).into());
        }
        true
    }

    /// Takes the packet with `timestamp` that arrived at `arrival`.
    pub fn observe(&mut self, arrival: Moment, timestamp: u32) {
        if let Some(before) = &mut self.before {
            before.keep(arrival, timestamp);
        }
        let counted = self.count_on(timestamp);
        if self.last.is_none_or(|(_, before)| counted > before) {
            self.last = Some((timestamp, counted));
        }
        let took = micros(arrival) - counted * UNIT_US;
        self.roll(arrival);
        let base = self.base();
        let longer = if base == UNKNOWN { 0 } else { took.saturating_sub(base).max(0) };
        let Some(bin) = bin_of(longer) else {
            self.stopped += 1;
            if self.stopped >= STOPPED_MAX {
                self.quickest = [UNKNOWN; SPANS];
                self.quickest[0] = took;
                self.stopped = 0;
            }
            return;
        };
        self.stopped = 0;
        self.quickest[0] = self.quickest[0].min(took);
        self.weigh(bin);
    }

    /// How long a packet that was as quick as the quickest waits when `clock` is played at `now`, in µs. `None`:
    /// not known yet.
    #[must_use]
    pub fn wait_us(&self, now: Moment, clock: u32) -> Option<i64> {
        let base = self.base();
        self.last?;
        (base != UNKNOWN).then(|| micros(now) - self.count_on(clock) * UNIT_US - base)
    }

    /// How long such a packet must wait, in ms, so that nearly all others are in time. `None`: too early to
    /// tell.
    #[must_use]
    pub const fn needed_ms(&self) -> Option<u16> {
        self.needed_ms
    }

    fn base(&self) -> i64 {
        self.quickest.iter().copied().fold(UNKNOWN, i64::min)
    }

    fn count_on(&self, timestamp: u32) -> i64 {
        self.last.map_or(0, |(last, counted)| counted + units_since(last, timestamp))
    }

    /// Begins new spans as time goes on. When the quickest packet is forgotten, what all others took longer
    /// is less.
    fn roll(&mut self, arrival: Moment) {
        if arrival.since(self.span_began) < SPAN {
            return;
        }
        let before = self.base();
        self.span_began = arrival;
        self.quickest.rotate_right(1);
        self.quickest[0] = UNKNOWN;
        let base = self.base();
        if before != UNKNOWN && base != UNKNOWN && base > before {
            let bins = usize::try_from((base - before) / BIN_US).unwrap_or(BINS).min(BINS);
            let less: f32 = self.shares.iter().take(bins).sum();
            self.shares.copy_within(bins.., 0);
            self.shares.iter_mut().rev().take(bins).for_each(|share| *share = 0.0);
            self.shares[0] += less;
        }
    }

    fn weigh(&mut self, bin: usize) {
        self.packets = self.packets.saturating_add(1);
        let weight = (1.0 / self.packets as f32).max(WEIGHT);
        for share in &mut self.shares {
            *share *= 1.0 - weight;
        }
        if let Some(share) = self.shares.get_mut(bin) {
            *share += weight;
        }
        if self.packets >= PACKETS_MIN && self.packets.is_multiple_of(LOOK_EVERY) {
            self.look();
        }
    }

    fn look(&mut self) {
        let mut sum = 0.0;
        let enough = |share: &f32| {
            sum += share;
            sum >= IN_TIME
        };
        let bin = self.shares.iter().position(enough).unwrap_or(BINS - 1);
        self.needed_ms = u16::try_from((bin as i64 + 1) * BIN_US / 1_000).ok();
    }
}

/// Where a packet is counted that took so much longer than the quickest; `None`: it was stopped.
fn bin_of(longer_us: i64) -> Option<usize> {
    usize::try_from(longer_us.max(0) / BIN_US).ok().filter(|bin| *bin < BINS)
}

/// How far `timestamp` is behind `last`, over the wrap.
fn units_since(last: u32, timestamp: u32) -> i64 {
    timestamp.wrapping_sub(last).cast_signed().into()
}

fn micros(moment: Moment) -> i64 {
    i64::try_from(moment.as_nanos() / 1_000).unwrap_or(i64::MAX / 2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::random::Random;

    /// Packets of 20 ms over a network that delays each by what `late_ms` says.
    struct Way {
        estimate: DelayEstimate,
        packets: u64,
    }

    impl Way {
        fn new() -> Self {
            Self { estimate: DelayEstimate::default(), packets: 0 }
        }

        fn pass(&mut self, packets: u64, mut late_ms: impl FnMut() -> u64) {
            for _ in 0..packets {
                let at = Moment::from_millis(10_000 + self.packets * 20 + late_ms());
                let timestamp = (u32::MAX - 5_000).wrapping_add(self.packets as u32 * 160);
                self.estimate.observe(at, timestamp);
                self.packets += 1;
            }
        }
    }

    impl Way {
        /// Packets that come at once behind a silence, which is told to be the network's once five of them came.
        /// Returns whether the way before is gone on with.
        fn silence(&mut self, packets: u64, is_networks: bool) -> bool {
            let mut resumes = false;
            let at = Moment::from_millis(10_000 + (self.packets + packets) * 20);
            for number in 0..packets {
                let timestamp = (u32::MAX - 5_000).wrapping_add(self.packets as u32 * 160);
                self.packets += 1;
                if number == 0 {
                    self.estimate.doubt(at, timestamp);
                    continue;
                }
                if number == 5 && is_networks {
                    resumes = self.estimate.resume(at);
                }
                self.estimate.observe(at, timestamp);
            }
            resumes
        }
    }

    #[test]
    fn a_silence_is_jitter_where_it_is_said_to_be_the_networks() {
        for is_networks in [false, true] {
            let mut way = Way::new();
            way.pass(500, || 0);
            for _ in 0..20 {
                assert_eq!(way.silence(9, is_networks), is_networks);
                way.pass(41, || 0);
            }
            let needed = way.estimate.needed_ms().expect("many packets");
            let expected = if is_networks { 155..=185 } else { 5..=5 };
            assert!(expected.contains(&needed), "{is_networks}: {needed}");
            // The way is the one it was: the quickest packet took no time.
            let clock = (u32::MAX - 5_000).wrapping_add(way.packets as u32 * 160);
            let now = Moment::from_millis(10_000 + way.packets * 20 + 35);
            assert_eq!(way.estimate.wait_us(now, clock), Some(35_000), "{is_networks}");
        }
    }

    #[test]
    fn a_stall_longer_than_any_delay_is_jitter_only_where_such_come_again() {
        let mut way = Way::new();
        way.pass(500, || 0);
        assert!(!way.silence(15, true), "alone");
        way.pass(300, || 0);
        assert_eq!(way.estimate.needed_ms(), Some(5));
        assert!(!way.silence(15, true), "six seconds later");
        way.pass(100, || 0);
        assert!(way.silence(15, true), "two seconds later");
        way.pass(10, || 0);
        let needed = way.estimate.needed_ms().expect("many packets");
        assert!((25..=200).contains(&needed), "{needed}");
        // Whoever begins anew knows nothing of it.
        way.estimate.begin();
        assert!(!way.estimate.resume(Moment::from_millis(900_000)));
    }

    #[test]
    fn an_even_stream_needs_one_bin() {
        let mut way = Way::new();
        way.pass(40, || 7);
        assert_eq!(way.estimate.needed_ms(), None);
        way.pass(60, || 7);
        assert_eq!(way.estimate.needed_ms(), Some(5));
        // The quickest waits as long as it is played after it came.
        let clock = (u32::MAX - 5_000).wrapping_add(99 * 160);
        let now = Moment::from_millis(10_000 + 99 * 20 + 7 + 35);
        assert_eq!(way.estimate.wait_us(now, clock), Some(35_000));
        assert_eq!(way.estimate.wait_us(now, clock.wrapping_add(160)), Some(15_000));
    }

    #[test]
    fn nearly_all_packets_are_in_time() {
        let mut random = Random::from_seed(1);
        let mut way = Way::new();
        way.pass(2_000, || random.below(60));
        let needed = way.estimate.needed_ms().expect("many packets");
        assert!((55..=65).contains(&needed), "{needed}");
        // One in a hundred is too few to wait for.
        way.pass(2_000, || if random.below(100) == 0 { 150 } else { 0 });
        let needed = way.estimate.needed_ms().expect("many packets");
        assert!(needed <= 10, "{needed}");
        way.pass(600, || if random.below(100) < 8 { 100 } else { 0 });
        let needed = way.estimate.needed_ms().expect("many packets");
        assert!((100..=105).contains(&needed), "{needed}");
    }

    #[test]
    fn a_stall_and_another_route_are_no_jitter() {
        let mut way = Way::new();
        way.pass(500, || 0);
        let mut left = 5_000;
        // What a network held for five seconds comes at once.
        way.pass(250, || {
            left -= 20;
            left
        });
        way.pass(500, || 0);
        assert_eq!(way.estimate.needed_ms(), Some(5), "after a stall");
        for route_ms in [400, 60, 0] {
            way.pass(1_000, || route_ms);
            let needed = way.estimate.needed_ms().expect("many packets");
            assert_eq!(needed, 5, "by a route of {route_ms} ms");
        }
    }

    #[test]
    fn drift_of_the_clock_of_a_peer_is_no_jitter() {
        for drift in [-1_i64, 1] {
            let mut way = Way::new();
            let mut late_us = 10_000_000_i64;
            for packet in 0..180_000_u32 {
                late_us += drift * 4;
                let at = u64::from(packet) * 20_000_000 + late_us as u64 * 1_000;
                way.estimate.observe(Moment::from_nanos(at), packet.wrapping_mul(160));
            }
            assert_eq!(way.estimate.needed_ms(), Some(5), "{drift}");
        }
    }
}
