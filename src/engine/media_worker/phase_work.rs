//! In which phase of a media thread a session begins that may be in any: ten calls with Opus and SRTP are more work than
//! fifty between telephones.

use crate::media::pace::PHASES;
use std::time::Duration;

/// Sessions a phase gets before the next one is begun: a phase costs a wake-up, whatever it does.
pub(super) const PHASE_FILL: usize = 64;

/// Work of a phase from which the next one is begun, however few sessions it has: a fifth of its time.
const WORK_FILL: Duration = Duration::from_millis(1);

/// Work of a phase from which no session moves there: with more it would not be over when the next one is due.
const WORK_FULL: Duration = Duration::from_micros(3_500);

/// Work of a phase from which sessions leave it, where another has less: most would have their tick late. More than the one
/// above, so that none goes to and fro.
const WORK_SPILLS: Duration = Duration::from_millis(4);

/// Of so many runs of a phase the last one counts as one part.
const RUNS: u32 = 8;

/// What a session of each phase takes of the processor in a tick, in ns, as the mean of the phase's last runs; `None` before
/// its first one.
///
/// It follows from what was measured alone: a session that begins or ends changes the number by which it is multiplied, so
/// nothing adds up, however short sessions are.
#[derive(Debug, Default)]
pub(super) struct PhaseWork([Option<u32>; PHASES]);

impl PhaseWork {
    /// A phase of so many sessions ran, and took the processor for so long.
    pub(super) fn ran(&mut self, phase: usize, work: Duration, sessions: usize) {
        let Some(mean) = self.0.get_mut(phase) else { return };
        let Some(each) = work.as_nanos().checked_div(sessions as u128) else { return };
        let each = u32::try_from(each).unwrap_or(u32::MAX);
        *mean = Some(mean.map_or(each, |before| before - before / RUNS + each / RUNS));
    }

    /// The first phase that has room for more without being felt; else the one with the least to do, and of several that
    /// with the fewest sessions.
    pub(super) fn place(&self, sessions: impl Fn(usize) -> usize) -> usize {
        let work = |phase: &usize| self.work(*phase, sessions(*phase));
        let is_unfilled =
            |phase: &usize| sessions(*phase) < PHASE_FILL && work(phase) < nanos(WORK_FILL);
        let least = || (0..PHASES).min_by_key(|phase| (work(phase), sessions(*phase)));
        (0..PHASES).find(is_unfilled).or_else(least).unwrap_or(0)
    }

    /// Whether a phase with so many sessions has so much to do that no more may move there.
    pub(super) fn is_full(&self, phase: usize, sessions: usize) -> bool {
        self.work(phase, sessions) >= nanos(WORK_FULL)
    }

    /// Whether a phase with so many sessions has so much to do that some had better leave it.
    pub(super) fn spills(&self, phase: usize, sessions: usize) -> bool {
        self.work(phase, sessions) >= nanos(WORK_SPILLS)
    }

    /// What a phase with so many sessions takes, in ns.
    pub(super) fn work(&self, phase: usize, sessions: usize) -> u64 {
        let each = self.0.get(phase).copied().flatten().unwrap_or_else(|| self.usual());
        u64::from(each).saturating_mul(sessions as u64)
    }

    /// What a session takes as far as is known, in ns: that of a phase that did not run yet.
    fn usual(&self) -> u32 {
        let known = || self.0.iter().flatten().copied().map(u64::from);
        let mean = known().sum::<u64>().checked_div(known().count() as u64);
        mean.map_or(0, |mean| u32::try_from(mean).unwrap_or(u32::MAX))
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::limit::MEDIA_SESSIONS_MAX;

    /// What a session between telephones takes, and one with Opus.
    const PLAIN: Duration = Duration::from_micros(6);
    const OPUS: Duration = Duration::from_micros(150);

    /// The sessions of each phase, by kind, and what the thread knows of them.
    #[derive(Default)]
    struct Thread {
        work: PhaseWork,
        plain: [usize; PHASES],
        opus: [usize; PHASES],
    }

    impl Thread {
        fn with(plain: [usize; PHASES], opus: [usize; PHASES]) -> Self {
            Self { plain, opus, ..Self::default() }
        }

        fn sessions(&self) -> [usize; PHASES] {
            std::array::from_fn(|phase| self.plain[phase] + self.opus[phase])
        }

        fn place(&self) -> usize {
            let sessions = self.sessions();
            self.work.place(|phase| sessions[phase])
        }

        /// So many ticks of all phases.
        fn run(&mut self, ticks: usize) {
            let sessions = self.sessions();
            for _ in 0..ticks {
                for (phase, sessions) in sessions.into_iter().enumerate() {
                    let plain = PLAIN * self.plain[phase] as u32;
                    let work = plain + OPUS * self.opus[phase] as u32;
                    self.work.ran(phase, work, sessions);
                }
            }
        }
    }

    #[test]
    fn a_phase_is_filled_before_the_next_one_is_begun() {
        let mut thread = Thread::default();
        for begun in 0..4 * PHASE_FILL {
            thread.run(1);
            assert_eq!(thread.place(), begun / PHASE_FILL);
            thread.plain[begun / PHASE_FILL] += 1;
        }
    }

    #[test]
    fn a_phase_of_few_sessions_that_are_much_work_is_filled() {
        let mut thread = Thread::with([0; PHASES], [7, 0, 0, 0]);
        assert_eq!(thread.place(), 0, "nobody knows yet");
        thread.run(1);
        assert_eq!(thread.place(), 1, "more than a millisecond");
        thread.opus[0] = 6;
        thread.run(1);
        assert_eq!(thread.place(), 0, "less");
    }

    #[test]
    fn nobody_moves_to_a_phase_that_would_not_be_over_in_time() {
        let mut thread = Thread::with([0; PHASES], [23, 24, 0, 0]);
        let is_full =
            |thread: &Thread, phase: usize| thread.work.is_full(phase, thread.sessions()[phase]);
        assert!(!is_full(&thread, 1), "nobody knows yet");
        thread.run(1);
        assert_eq!([0, 1, 2].map(|phase| is_full(&thread, phase)), [false, true, false]);
    }

    #[test]
    fn a_session_that_is_much_work_sends_others_elsewhere_though_its_phase_has_the_fewest() {
        let mut thread = Thread::with([70, 80, 80, 80], [0; PHASES]);
        thread.run(20);
        assert_eq!(thread.place(), 0, "the fewest");
        thread.plain[0] -= 1;
        thread.opus[0] += 1;
        thread.run(20);
        assert_eq!(thread.place(), 1, "still the fewest, and more work");
        // When it is gone, they are as many as before, and less work.
        thread.opus[0] -= 1;
        thread.run(20);
        assert_eq!(thread.place(), 0);
    }

    #[test]
    fn sessions_that_begin_between_two_runs_are_spread() {
        // Known or not: hundreds begin at once, as many in each phase.
        for ticks in [0, 20] {
            let mut thread = Thread::with([70; PHASES], [0; PHASES]);
            thread.run(ticks);
            for _ in 0..400 {
                thread.plain[thread.place()] += 1;
            }
            assert_eq!(thread.plain, [170; PHASES], "after {ticks} ticks");
        }
        // A phase that did not run yet is not free of charge.
        let mut thread = Thread::with([200, 200, 200, 0], [0; PHASES]);
        thread.run(20);
        for _ in 0..400 {
            thread.plain[thread.place()] += 1;
        }
        assert_eq!(thread.plain, [250; PHASES]);
    }

    #[test]
    fn sessions_that_begin_and_end_leave_no_trace_however_many() {
        let mut thread = Thread::with([100; PHASES], [0; PHASES]);
        thread.run(20);
        let before = thread.work.0;
        for _ in 0..10_000 {
            let phase = thread.place();
            thread.plain[phase] += 1;
            thread.run(1);
            thread.plain[phase] -= 1;
        }
        assert_eq!(thread.work.0, before);
    }

    #[test]
    fn nothing_that_can_be_measured_is_too_much() {
        let mut work = PhaseWork::default();
        for measured in [Duration::MAX, Duration::ZERO, Duration::from_secs(5), Duration::MAX] {
            for sessions in [0, 1, MEDIA_SESSIONS_MAX, usize::MAX] {
                (0..100).for_each(|_| work.ran(0, measured, sessions));
                work.ran(PHASES, measured, sessions);
                for all in [0, 1, PHASE_FILL, MEDIA_SESSIONS_MAX, usize::MAX] {
                    assert!(work.place(|_| all) < PHASES);
                }
            }
        }
        (1..PHASES).for_each(|phase| work.ran(phase, PLAIN, 1));
        (0..100).for_each(|_| work.ran(0, Duration::MAX, 1));
        assert!(work.0[0].is_some_and(|each| each > u32::MAX / 2), "{work:?}");
        assert_eq!(work.place(|_| 100), 1);
    }

    #[test]
    fn the_mean_follows_the_runs_and_not_one_of_them() {
        let mut work = PhaseWork::default();
        let millis = Duration::from_millis;
        (0..100).for_each(|_| work.ran(2, millis(1), 100));
        assert_eq!(work.0[2], Some(10_000));
        work.ran(2, millis(5), 100);
        assert_eq!(work.0[2], Some(15_000), "an eighth of the way");
        (0..100).for_each(|_| work.ran(2, millis(5), 100));
        assert!(work.0[2].is_some_and(|each| (49_000..=50_000).contains(&each)), "{work:?}");
    }
}
