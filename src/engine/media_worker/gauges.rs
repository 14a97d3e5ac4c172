//! What a media thread says of itself: its work, its lateness, and whether it can take more.

use crate::engine::media_thread::MediaLoad;
use crate::engine::media_watch::STALLED_AFTER;
use crate::media::pace::PHASE;
use crate::media::pace::TICK;
use crate::types::moment::Moment;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Averaged processor time of a phase above which new sessions are refused.
const PHASE_WORK_MAX: Duration = Duration::from_millis(4);

/// Averaged lateness of a phase above which new sessions are refused.
const LATENESS_MAX: Duration = Duration::from_millis(60);

/// Share of the time left out above which new sessions are refused. Who leaves out ticks is not late any more when it has
/// done so: a machine that lets a thread run for 10 ms of each 100 would look as if it kept up.
const LEFT_OUT_MAX: f64 = 1.0 / 3.0;

/// Time over which that share goes, in seconds: a single stop of less than 0.8 s refuses nobody.
const LEFT_OUT_OVER_S: f64 = 2.0;

/// Time over which goes what a thread has to do, in seconds.
const WORK_OVER_S: f64 = 0.3;

/// Averaged lateness of a phase above which no session moves here: it would come from its time to a later one.
const LATENESS_TO_MOVE_MAX: Duration = PHASE;

/// Figures of one thread, written by it and read by the handles.
#[derive(Debug, Default)]
pub(crate) struct Gauges {
    commands_dropped: AtomicU64,
    /// When the thread last looked what is due, in ns since the node's start.
    beat_nanos: AtomicU64,
    phase_work_nanos: AtomicU64,
    lateness_nanos: AtomicU64,
    late_phases: AtomicU64,
    skipped_ticks: AtomicU64,
    /// Share of the time that was left out.
    left_out: Fading,
    /// Processor time, in seconds.
    recent_work: Fading,
    ticks: AtomicU64,
    work_nanos: AtomicU64,
    faults: AtomicU64,
    down: AtomicBool,
    doubted: AtomicBool,
    given_up: AtomicBool,
}

impl Gauges {
    /// Those of a thread that is about to begin.
    pub(super) fn new(now: Moment) -> Self {
        let gauges = Self::default();
        gauges.beat(now);
        gauges
    }

    /// The thread is there.
    pub(crate) fn beat(&self, now: Moment) {
        self.beat_nanos.store(now.as_nanos(), Ordering::Relaxed);
    }

    /// When it was there last.
    pub(crate) fn last_beat(&self) -> Moment {
        Moment::from_nanos(self.beat_nanos.load(Ordering::Relaxed))
    }

    /// Whether it has not been there for long.
    pub(crate) fn is_stalled(&self, now: Moment) -> bool {
        now.since(self.last_beat()) > STALLED_AFTER
    }

    /// The thread met a fault outside any session.
    pub(super) fn met_fault(&self) {
        self.faults.fetch_add(1, Ordering::Relaxed);
    }

    /// Such faults since the start.
    pub(crate) fn faults(&self) -> u64 {
        self.faults.load(Ordering::Relaxed)
    }

    /// The thread runs no session any more.
    pub(super) fn goes_down(&self) {
        self.down.store(true, Ordering::Release);
    }

    /// Whether it runs none any more, for it met faults again and again.
    pub(crate) fn is_down(&self) -> bool {
        self.down.load(Ordering::Acquire)
    }

    /// It may hang, or does not any more.
    pub(crate) fn doubt(&self, may_hang: bool) {
        self.doubted.store(may_hang, Ordering::Relaxed);
    }

    /// Whether it may hang.
    pub(crate) fn is_doubted(&self) -> bool {
        self.doubted.load(Ordering::Relaxed)
    }

    /// It hangs, and nobody waits for it any more: should it go on, it ends.
    pub(super) fn give_up(&self) {
        self.given_up.store(true, Ordering::Release);
        self.goes_down();
    }

    /// Whether nobody waits for it any more.
    pub(crate) fn is_given_up(&self) -> bool {
        self.given_up.load(Ordering::Acquire)
    }

    /// A command found its queue full, and is lost.
    pub(crate) fn dropped(&self) {
        self.commands_dropped.fetch_add(1, Ordering::Relaxed);
    }

    /// Such commands since the start.
    pub(crate) fn commands_dropped(&self) -> u64 {
        self.commands_dropped.load(Ordering::Relaxed)
    }

    /// Processor time of a quarter of a period, averaged: as much in few phases as in all, if it is the same in each
    /// period.
    pub(crate) fn mean_work(&self) -> Duration {
        let share = self.recent_work.at(self.last_beat(), WORK_OVER_S) / WORK_OVER_S;
        Duration::try_from_secs_f64(share * PHASE.as_secs_f64()).unwrap_or_default()
    }

    /// Whether it comes late to what it has, however little that is.
    pub(crate) fn is_late(&self) -> bool {
        let lateness = Duration::from_nanos(self.lateness_nanos.load(Ordering::Relaxed));
        lateness > LATENESS_TO_MOVE_MAX || self.left_out() > LEFT_OUT_MAX
    }

    pub(crate) fn is_overloaded(&self) -> bool {
        let work = Duration::from_nanos(self.phase_work_nanos.load(Ordering::Relaxed));
        let lateness = Duration::from_nanos(self.lateness_nanos.load(Ordering::Relaxed));
        work > PHASE_WORK_MAX || lateness > LATENESS_MAX || self.left_out() > LEFT_OUT_MAX
    }

    /// Share of the time up to the last beat for which nothing was sent, the latest counting most.
    fn left_out(&self) -> f64 {
        self.left_out.at(self.last_beat(), LEFT_OUT_OVER_S)
    }

    pub(crate) fn add_to(&self, load: &mut MediaLoad) {
        let nanos = |gauge: &AtomicU64| Duration::from_nanos(gauge.load(Ordering::Relaxed));
        load.phase_work = load.phase_work.max(nanos(&self.phase_work_nanos));
        load.late_phases += self.late_phases.load(Ordering::Relaxed);
        load.skipped_ticks += self.skipped_ticks.load(Ordering::Relaxed);
        load.commands_dropped += self.commands_dropped();
        load.ticks += self.ticks.load(Ordering::Relaxed);
        load.work += nanos(&self.work_nanos);
    }

    pub(crate) fn phase_ran(&self, work: Duration, late: Duration, sessions: usize) {
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        average(&self.phase_work_nanos, nanos(work));
        average(&self.lateness_nanos, nanos(late));
        self.recent_work.add(self.last_beat(), WORK_OVER_S, work.as_secs_f64());
        self.work_nanos.fetch_add(nanos(work), Ordering::Relaxed);
        self.ticks.fetch_add(sessions as u64, Ordering::Relaxed);
        if late > PHASE {
            self.late_phases.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Ticks up to now were left out.
    pub(super) fn skipped(&self, ticks: u64) {
        self.skipped_ticks.fetch_add(ticks, Ordering::Relaxed);
        let over = TICK.saturating_mul(u32::try_from(ticks).unwrap_or(u32::MAX));
        let share = 1.0 - fading(over, LEFT_OUT_OVER_S);
        self.left_out.add(self.last_beat(), LEFT_OUT_OVER_S, share);
    }
}

/// A sum that fades, written by the thread alone: the latest counts most.
#[derive(Debug, Default)]
struct Fading {
    /// The bits of a number, as it was at the moment below.
    sum: AtomicU64,
    at_nanos: AtomicU64,
}

impl Fading {
    /// What it is now, where it fades over so many seconds.
    fn at(&self, now: Moment, over_s: f64) -> f64 {
        let at = Moment::from_nanos(self.at_nanos.load(Ordering::Relaxed));
        f64::from_bits(self.sum.load(Ordering::Relaxed)) * fading(now.since(at), over_s)
    }

    /// It is so much more now.
    fn add(&self, now: Moment, over_s: f64, more: f64) {
        let sum = self.at(now, over_s) + more;
        self.sum.store(sum.to_bits(), Ordering::Relaxed);
        self.at_nanos.store(now.as_nanos(), Ordering::Relaxed);
    }
}

/// What is left of a sum after such a time in which nothing was added, where it fades over so many seconds.
fn fading(after: Duration, over_s: f64) -> f64 {
    (-after.as_secs_f64() / over_s).exp()
}

/// Moves an average over about the last 64 values, a third of a second of phases.
fn average(gauge: &AtomicU64, value: u64) {
    let before = gauge.load(Ordering::Relaxed);
    gauge.store(before - before / 64 + value / 64, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::pace::Pace;
    use crate::media::pace::Step;

    /// A thread with little to do on a machine that lets it run only now and then. 1 ms passes with each turn of its loop.
    struct Starved {
        gauges: Gauges,
        pace: Pace,
        now: Moment,
        left_out: u64,
    }

    impl Starved {
        fn new() -> Self {
            let now = Moment::from_millis(1_000);
            let mut starved =
                Self { gauges: Gauges::new(now), pace: Pace::new(now), now, left_out: 0 };
            starved.run(1_000);
            starved
        }

        /// It runs for so long.
        fn run(&mut self, ms: u64) {
            for _ in 0..ms {
                self.gauges.beat(self.now);
                self.catch_up();
                self.now += Duration::from_millis(1);
            }
        }

        /// Another has the processor for so long.
        fn stop(&mut self, ms: u64) {
            self.now += Duration::from_millis(ms);
        }

        fn catch_up(&mut self) {
            loop {
                match self.pace.step(self.now) {
                    Step::Wait(_) => return,
                    Step::Run { late, .. } => {
                        self.gauges.phase_ran(Duration::from_micros(50), late, 1);
                    }
                    Step::Skip { ticks } => {
                        self.left_out += ticks;
                        self.gauges.skipped(ticks);
                    }
                }
            }
        }
    }

    #[test]
    fn a_thread_that_gets_too_little_of_the_processor_refuses_until_it_has_it_again() {
        // It runs and stands still in turn, and so much of the time it then leaves out, in hundredths.
        for (run_ms, stop_ms, left_out) in
            [(10, 90, 70..=90), (100, 100, 45..=55), (20, 480, 90..=96), (500, 1_500, 70..=75)]
        {
            let mut starved = Starved::new();
            let began = starved.now;
            let mut refused_after = None;
            while starved.now.since(began) < Duration::from_secs(10) {
                starved.stop(stop_ms);
                starved.run(run_ms);
                if refused_after.is_none() && starved.gauges.is_overloaded() {
                    refused_after = Some(starved.now.since(began));
                }
            }
            let refused_after = refused_after.expect("it refused");
            assert!(
                refused_after <= Duration::from_secs(4),
                "{run_ms} {stop_ms}: {refused_after:?}"
            );
            assert!(starved.gauges.is_overloaded(), "{run_ms} {stop_ms}: and goes on to do so");
            assert!(starved.gauges.is_late(), "{run_ms} {stop_ms}: nobody moves to it");
            let share = starved.left_out * 20 * 100 / 10_000;
            assert!(left_out.contains(&share), "{run_ms} {stop_ms}: {share}");
            starved.run(2_500);
            assert!(!starved.gauges.is_overloaded(), "{run_ms} {stop_ms}: it keeps up again");
        }
    }

    #[test]
    fn a_thread_that_makes_up_for_what_it_misses_or_stops_once_refuses_nobody() {
        for (run_ms, stop_ms) in [(10, 10), (40, 60), (900, 100), (5_000, 700)] {
            let mut starved = Starved::new();
            let began = starved.now;
            while starved.now.since(began) < Duration::from_secs(12) {
                starved.stop(stop_ms);
                starved.run(1);
                assert!(!starved.gauges.is_overloaded(), "{run_ms} {stop_ms}");
                starved.run(run_ms - 1);
            }
            assert_eq!(starved.left_out > 0, stop_ms > 80, "{run_ms} {stop_ms}");
        }
        // A machine that stood still for long is given a moment.
        let mut starved = Starved::new();
        starved.stop(5_000);
        starved.run(1);
        assert!(starved.gauges.is_overloaded());
        starved.run(2_500);
        assert!(!starved.gauges.is_overloaded());
    }

    #[test]
    fn a_thread_that_comes_late_refuses_until_it_keeps_up_again() {
        let gauges = Gauges::new(Moment::START);
        for _ in 0..300 {
            gauges.phase_ran(Duration::from_micros(500), Duration::from_millis(90), 1);
        }
        assert!(gauges.is_overloaded());
        for _ in 0..300 {
            gauges.phase_ran(Duration::from_micros(500), Duration::from_micros(100), 1);
        }
        assert!(!gauges.is_overloaded());
        for _ in 0..300 {
            gauges.phase_ran(Duration::from_micros(4_500), Duration::ZERO, 1);
        }
        assert!(gauges.is_overloaded(), "it has too much to do, though it is not late yet");
    }

    #[test]
    fn a_thread_that_comes_late_with_little_to_do_is_no_place_to_move_to() {
        let gauges = Gauges::new(Moment::START);
        assert!(!gauges.is_late());
        for (late_ms, is_late) in [(8, true), (1, false)] {
            for _ in 0..300 {
                gauges.phase_ran(Duration::from_micros(50), Duration::from_millis(late_ms), 1);
            }
            assert_eq!((gauges.is_late(), gauges.is_overloaded()), (is_late, false));
        }
    }

    #[test]
    fn a_thread_has_as_much_to_do_in_two_phases_as_in_four() {
        let busy = |micros: [u64; 4]| {
            let (gauges, mut now) = (Gauges::new(Moment::START), Moment::START);
            for _ in 0..100 {
                for work in micros {
                    now += PHASE;
                    gauges.beat(now);
                    // Who has nothing to do in a phase does not run it.
                    if work > 0 {
                        gauges.phase_ran(Duration::from_micros(work), Duration::ZERO, 1);
                    }
                }
            }
            (gauges, now)
        };
        for micros in [[1_000; 4], [2_000, 0, 2_000, 0], [0, 2_000, 2_000, 0], [4_000, 0, 0, 0]] {
            let (gauges, now) = busy(micros);
            let mean = gauges.mean_work().as_micros();
            assert!((930..=1_070).contains(&mean), "{micros:?}: {mean}");
            gauges.beat(now + Duration::from_secs(3));
            assert!(gauges.mean_work() < Duration::from_micros(1), "its calls are over");
        }
    }

    #[test]
    fn a_thread_without_a_beat_for_200_ms_stands_still() {
        let gauges = Gauges::new(Moment::from_millis(1_000));
        assert!(!gauges.is_stalled(Moment::from_millis(1_200)));
        assert!(gauges.is_stalled(Moment::from_millis(1_201)));
        gauges.beat(Moment::from_millis(1_201));
        assert!(!gauges.is_stalled(Moment::from_millis(1_300)));
    }
}
