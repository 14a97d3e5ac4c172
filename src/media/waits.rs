//! How long the packets of a session wait for the tick that reads them, and in which phase of its thread they would wait
//! least.
//!
//! Where a tick falls in the 20 ms between two packets is chance, and all the audio is that much later. So the phase is
//! judged as soon as some packets came, and then again and again: a peer whose clock is wrong by 200 millionths moves
//! through all 20 ms in 100 s.
#![warn(clippy::indexing_slicing)]

use crate::media::pace::PHASE;
use crate::media::pace::PHASES;
use crate::media::pace::TICK;
use crate::types::moment::Moment;
use std::time::Duration;

/// Packets after which a session's phase is judged first: half a second of them.
const PACKETS_JUDGED: u32 = 25;
/// Of those, so many may come too late for the earlier tick: the jitter buffer bears that.
const LATE_MAX: usize = 2;

/// For so long packets are looked at before the phase is judged again.
const SPAN: Duration = Duration::from_secs(4);
/// Fewer packets tell nothing: it is looked at more of them.
const SPAN_PACKETS_MIN: u64 = 50;
/// For so long after a move nothing is looked at: behind the first one, which comes before, no session follows its packets
/// more often than every 10 s.
const REST: Duration = Duration::from_secs(6);
/// A phase is better where packets would wait less by more than this, in µs: half of what the next phase makes to a peer
/// that sends evenly, and four times what chance makes to one whose packets may come at any time.
const BETTER_US: u32 = 2_500;
/// Phases in which packets wait as long but for this are as good, in µs.
const EVEN_US: u32 = 1_000;

const TICK_NANOS: u64 = TICK.as_nanos() as u64;
const TICK_US: u64 = TICK.as_micros() as u64;
const PHASE_US: u64 = PHASE.as_micros() as u64;

/// How long the packets of a session wait for its tick.
#[derive(Clone, Copy, Debug)]
pub struct Waits {
    first: First,
    span: Span,
    /// What the last span told, where a phase is better by that.
    told: Option<MeanWaits>,
}

impl Default for Waits {
    fn default() -> Self {
        Self::new()
    }
}

impl Waits {
    /// Nothing was seen yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { first: First::NOTHING, span: Span::beginning(None), told: None }
    }

    /// A packet came at `arrival` and was read by the tick that was due at `due`. One that came after
    /// that, and was found because the tick ran late, is counted as one that waited for the next.
    pub fn note(&mut self, arrival: Moment, due: Moment) {
        let after = Duration::from_nanos(arrival.since(due).as_nanos() as u64 % TICK_NANOS);
        let wait = if arrival > due { TICK - after } else { due.since(arrival) };
        if self.first.judged {
            self.span.note(wait, due);
        } else {
            self.first.note(wait);
        }
    }

    /// By how many phases the tick could be earlier, 0 to 3: once, when the first packets were seen.
    pub fn judge(&mut self) -> usize {
        self.first.judge()
    }

    /// How long packets wait in each phase, once enough were seen since the tick that was `due` moved last: as long as
    /// that holds, and where another phase is better.
    pub fn judge_again(&mut self, due: Moment) -> Option<MeanWaits> {
        if let Some(waits) = self.span.end(due) {
            self.told = Some(waits).filter(|waits| waits.best(|_| true, |_| 0).is_some());
        }
        self.told
    }

    /// The tick that was due at `due` was the last one of its phase.
    pub fn moved(&mut self, due: Moment) {
        (self.span, self.told) = (Span::beginning(Some(due + REST)), None);
    }

    /// The session has its ticks at another thread from now on: what was seen before holds no longer.
    pub const fn begin_again(&mut self) {
        if !self.first.judged {
            self.first = First::NOTHING;
        }
        (self.span, self.told) = (Span::beginning(None), None);
    }

    /// Those of a session whose packets waited for so long in each period of the 5 s before `until`.
    #[cfg(test)]
    #[must_use]
    pub(crate) fn for_test(until: Moment, wait: Duration) -> Self {
        let mut waits = Self::new();
        (0..PACKETS_JUDGED).for_each(|_| waits.note(until - wait, until));
        waits.judge();
        for before in (1..=250).rev() {
            let due = until - TICK * before;
            waits.note(due - wait, due);
        }
        waits
    }
}

/// The first packets. The least waits count: by so much the tick can be earlier and still find the packets.
#[derive(Clone, Copy, Debug)]
struct First {
    /// In order.
    least: [Duration; LATE_MAX + 1],
    packets: u32,
    judged: bool,
}

impl First {
    const NOTHING: Self = Self { least: [Duration::MAX; LATE_MAX + 1], packets: 0, judged: false };

    fn note(&mut self, mut wait: Duration) {
        for least in &mut self.least {
            if wait < *least {
                std::mem::swap(&mut wait, least);
            }
        }
        self.packets = self.packets.saturating_add(1);
    }

    fn judge(&mut self) -> usize {
        if self.judged || self.packets < PACKETS_JUDGED {
            return 0;
        }
        self.judged = true;
        let [.., wait] = self.least;
        (0..PHASES).rev().find(|phases| wait > PHASE * *phases as u32).unwrap_or(0)
    }
}

/// Packets of some seconds.
#[derive(Clone, Copy, Debug)]
struct Span {
    /// `None`: with the next packet.
    begins: Option<Moment>,
    /// Packets, by how many whole phases they waited.
    packets: [u32; PHASES],
    /// How long all of them did together, in µs.
    waited_us: u64,
}

impl Span {
    const fn beginning(begins: Option<Moment>) -> Self {
        Self { begins, packets: [0; PHASES], waited_us: 0 }
    }

    fn note(&mut self, wait: Duration, due: Moment) {
        if due < *self.begins.get_or_insert(due) {
            return;
        }
        // One that a tick left to the next waited for longer than that.
        let wait_us = u64::try_from(wait.as_micros()).unwrap_or(0) % TICK_US;
        let phases = usize::try_from(wait_us / PHASE_US).unwrap_or(0);
        if let Some(packets) = self.packets.get_mut(phases) {
            *packets = packets.saturating_add(1);
            self.waited_us = self.waited_us.saturating_add(wait_us);
        }
    }

    /// What it tells when it is over; the next one begins then.
    fn end(&mut self, due: Moment) -> Option<MeanWaits> {
        if due.since(self.begins?) < SPAN || self.first(PHASES) < SPAN_PACKETS_MIN {
            return None;
        }
        let waits = MeanWaits(std::array::from_fn(|earlier| self.mean_us(earlier)));
        *self = Self::beginning(Some(due));
        Some(waits)
    }

    /// Packets that waited for less than so many phases.
    fn first(&self, phases: usize) -> u64 {
        self.packets.iter().take(phases).copied().map(u64::from).sum()
    }

    /// How long packets would have waited for a tick so many phases earlier, on the mean: less by that, but those which
    /// would have missed it wait for the next one.
    fn mean_us(&self, earlier: usize) -> u32 {
        let all = self.first(PHASES);
        let more = self.first(earlier).saturating_mul(TICK_US);
        let less = all.saturating_mul(PHASE_US).saturating_mul(earlier as u64);
        let waited = self.waited_us.saturating_add(more).saturating_sub(less);
        u32::try_from(waited.checked_div(all).unwrap_or(0)).unwrap_or(u32::MAX)
    }
}

/// How long packets wait for the tick of each phase on the mean, in µs: by how many phases that is earlier than the one
/// which a session has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MeanWaits([u32; PHASES]);

impl MeanWaits {
    /// By how many phases earlier, 1 to 3, the tick is in which they wait least, of those phases that `may` be; of some
    /// that are as good the one with the least `work`. `None`: in none of them much less than now.
    pub fn best(&self, may: impl Fn(usize) -> bool, work: impl Fn(usize) -> u64) -> Option<usize> {
        let [now, ..] = self.0;
        let is_better = |at: usize, wait: u32| wait.saturating_add(BETTER_US) < now && may(at);
        let waits = || self.0.iter().copied().enumerate();
        let better = waits().filter(|(at, wait)| is_better(*at, *wait));
        let most = better.map(|(_, wait)| wait).min()?.saturating_add(EVEN_US);
        let even = waits().filter(|(at, wait)| *wait <= most && is_better(*at, *wait));
        even.min_by_key(|(at, wait)| (work(*at), *wait)).map(|(at, _)| at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::random::Random;

    const HOUR: u64 = 3_600 * 50;

    /// Packets in turn so long before the due tick; less than 0: after it.
    fn noted(before_ms: [i64; 5]) -> Waits {
        let mut waits = Waits::new();
        for before in before_ms.iter().cycle().take(PACKETS_JUDGED as usize) {
            assert_eq!(waits.judge(), 0, "too early to say");
            let arrival = Moment::from_millis((1_000 - before) as u64);
            waits.note(arrival, Moment::from_millis(1_000));
        }
        waits
    }

    #[test]
    fn a_tick_is_first_earlier_as_far_as_the_packets_are_still_found() {
        for (before_ms, expected) in [
            ([19, 18, 19, 18, 17], 3),
            ([16, 15, 16, 16, 16], 2),
            ([11, 19, 11, 15, 12], 2),
            ([6, 6, 6, 7, 8], 1),
            ([5, 19, 8, 7, 6], 0),
            // Around the tick itself: some just before it, some just after the one before.
            ([0, 19, 1, 18, 0], 0),
            // Found only because the tick ran late.
            ([-3, 17, -2, 18, -25], 2),
        ] {
            let mut waits = noted(before_ms);
            assert_eq!(waits.judge(), expected, "{before_ms:?}");
            for _ in 0..100 {
                waits.note(Moment::from_millis(981), Moment::from_millis(1_000));
                assert_eq!(waits.judge(), 0, "judged once");
            }
        }
    }

    #[test]
    fn two_late_packets_keep_no_session_where_it_is() {
        for (late, expected) in [(2, 3), (3, 0)] {
            let mut waits = Waits::new();
            for packet in 0..PACKETS_JUDGED {
                let wait = if packet < late { 1 } else { 18 };
                waits.note(Moment::from_millis(1_000 - wait), Moment::from_millis(1_000));
            }
            assert_eq!(waits.judge(), expected);
        }
    }

    /// A packet in each tick of a session that was judged first, from `from_ms` on, each of which waited for as long as
    /// `wait_ms` says of its number. What is told of them, and when.
    fn told(
        waits: &mut Waits,
        from_ms: u64,
        wait_ms: impl Fn(u64) -> u64,
    ) -> Option<(u64, MeanWaits)> {
        (0..1_000).find_map(|number| {
            let due_ms = from_ms + number * 20;
            let due = Moment::from_millis(due_ms);
            waits.note(due - Duration::from_millis(wait_ms(number)), due);
            waits.judge_again(due).map(|waits| (due_ms, waits))
        })
    }

    fn judged() -> Waits {
        let mut waits = noted([3; 5]);
        assert_eq!(waits.judge(), 0);
        waits
    }

    #[test]
    fn of_each_phase_is_told_how_long_packets_would_wait() {
        let (at_ms, waits) = told(&mut judged(), 10_000, |_| 12).expect("another is better");
        assert_eq!((at_ms, waits), (14_000, MeanWaits([12_000, 7_000, 2_000, 17_000])));
        assert_eq!(waits.best(|_| true, |_| 0), Some(2));
        // Every fourth would miss a tick that is earlier, and wait for the next.
        let (_, waits) =
            told(&mut judged(), 10_000, |n| if n % 4 == 0 { 1 } else { 19 }).expect("the same");
        let [now, _, _, later] = waits.0;
        assert!((14_400..14_600).contains(&now) && (4_450..4_600).contains(&later), "{waits:?}");
        assert_eq!(waits.best(|_| true, |_| 0), Some(3), "5 ms later");
    }

    #[test]
    fn what_is_better_by_less_than_half_a_phase_is_no_better() {
        assert_eq!(told(&mut judged(), 0, |_| 4), None);
        // Of a peer with packets of 30 ms each second one waits 10 ms longer, whatever the phase.
        assert_eq!(told(&mut judged(), 0, |n| if n % 2 == 0 { 2 } else { 12 }), None);
        let (_, waits) =
            told(&mut judged(), 10_000, |n| if n % 2 == 0 { 7 } else { 17 }).expect("less");
        let [now, earlier, ..] = waits.0;
        assert!((11_900..12_100).contains(&now) && (6_900..7_100).contains(&earlier), "{waits:?}");
    }

    #[test]
    fn a_phase_that_may_not_be_gives_way_to_the_next_best_and_work_breaks_ties() {
        let waits = MeanWaits([19_000, 14_000, 9_000, 4_000]);
        let best = |may: [bool; PHASES]| waits.best(|at| may[at], |_| 0);
        assert_eq!(best([true; PHASES]), Some(3));
        assert_eq!(best([true, true, true, false]), Some(2));
        assert_eq!(best([true, true, false, false]), Some(1));
        assert_eq!(best([true, false, false, false]), None);
        let work = [0, 9, 1, 5];
        assert_eq!(waits.best(|_| true, |at| work[at]), Some(3), "work alone moves nobody");
        let even = MeanWaits([12_000, 7_000, 12_000, 7_900]);
        assert_eq!(even.best(|_| true, |at| work[at]), Some(3));
        assert_eq!(even.best(|_| true, |_| 1), Some(1), "the least wait");
        let uneven = MeanWaits([12_000, 6_800, 12_000, 7_900]);
        assert_eq!(uneven.best(|_| true, |at| work[at]), Some(1));
    }

    #[test]
    fn after_a_move_nothing_is_told_for_ten_seconds_and_at_another_thread_nothing_of_before() {
        let mut waits = judged();
        assert!(told(&mut waits, 0, |_| 19).is_some());
        waits.moved(Moment::from_millis(20_000));
        assert_eq!(waits.judge_again(Moment::from_millis(20_000)), None);
        let (at_ms, _) = told(&mut waits, 20_020, |_| 19).expect("again");
        assert_eq!(at_ms, 30_000);
        waits.begin_again();
        assert_eq!(waits.judge_again(Moment::from_millis(40_000)), None);
        let (at_ms, _) = told(&mut waits, 50_000, |_| 19).expect("again");
        assert_eq!(at_ms, 54_000);
        // Half of the first packets there, half here: neither tells.
        let mut waits = Waits::new();
        for _ in 0..2 {
            waits.begin_again();
            let due = Moment::from_millis(1_000);
            (1..PACKETS_JUDGED).for_each(|_| waits.note(due - Duration::from_millis(19), due));
            assert_eq!(waits.judge(), 0);
        }
    }

    #[test]
    fn few_packets_are_looked_at_for_longer() {
        let mut waits = judged();
        let second = |number: u64| Moment::from_millis(number * 1_000);
        let told = (0..60).find(|number| {
            waits.note(second(*number) - Duration::from_millis(19), second(*number));
            waits.judge_again(second(*number)).is_some()
        });
        assert_eq!(told, Some(SPAN_PACKETS_MIN - 1));
    }

    /// How a session was ticked.
    #[derive(Debug, Default)]
    struct Course {
        packets: u64,
        waited: Duration,
        /// When it moved, in periods.
        moves: Vec<u64>,
    }

    /// Ticks a session in the phase that follows its packets, one of which is sent every `step` and is `late` by so many µs.
    fn follow(periods: u64, step: Duration, mut late: impl FnMut() -> u64) -> Course {
        let (mut waits, mut course, mut phase) = (Waits::new(), Course::default(), 0);
        let mut sent = Moment::from_millis(1_000);
        let mut flying = Vec::new();
        for period in 0..periods {
            let due = Moment::from_millis(1_000 + period * 20) + PHASE * phase as u32;
            while sent <= due {
                flying.push(sent + Duration::from_micros(late()));
                sent += step;
            }
            flying.retain(|arrival| {
                if *arrival <= due {
                    waits.note(*arrival, due);
                    course.packets += 1;
                    course.waited += due.since(*arrival);
                }
                *arrival > due
            });
            let first = waits.judge();
            let again = waits.judge_again(due).and_then(|told| told.best(|_| true, |_| 0));
            if let Some(earlier) = again {
                course.moves.push(period);
                waits.moved(due);
                phase = (phase + PHASES - earlier) % PHASES;
            }
            phase = (phase + PHASES - first) % PHASES;
        }
        course
    }

    #[test]
    fn packets_of_a_peer_that_drifts_for_an_hour_wait_no_longer_than_those_of_another() {
        for step_us in [19_996, 20_004] {
            let mut random = Random::from_seed(step_us);
            let course = follow(HOUR, Duration::from_micros(step_us), || random.below(1_000));
            let mean_us = course.waited.as_micros() as u64 / course.packets;
            assert!(mean_us < PHASE_US + u64::from(BETTER_US), "{step_us}: {mean_us}");
            // It moves through 720 ms.
            let moves = course.moves.len();
            assert!((140..=148).contains(&moves), "{step_us}: {moves}");
            let least = course.moves.windows(2).map(|two| two[1] - two[0]).min();
            assert!(least >= Some(15 * 50), "{step_us}: {least:?}");
        }
    }

    #[test]
    fn who_has_30_ms_of_jitter_does_not_go_to_and_fro() {
        for seed in 0..5 {
            let mut random = Random::from_seed(seed);
            let course = follow(HOUR, TICK, || random.below(30_000));
            assert!(course.moves.len() <= 3, "{seed}: {:?}", course.moves);
        }
    }

    #[test]
    fn who_is_at_a_boundary_moves_once_at_most() {
        // Its packets come around the time of a tick, at any of the phases.
        for phase in 0..PHASES as u64 {
            let mut random = Random::from_seed(phase);
            let course = follow(HOUR / 6, TICK, || phase * PHASE_US + 19_000 + random.below(2_000));
            assert!(course.moves.len() <= 1, "{phase}: {:?}", course.moves);
            let mean_us = course.waited.as_micros() as u64 / course.packets;
            assert!(mean_us < PHASE_US + u64::from(BETTER_US), "{phase}: {mean_us}");
        }
    }
}
