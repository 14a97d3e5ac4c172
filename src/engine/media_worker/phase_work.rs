//! What each phase of a media thread takes of the processor, so that a session which may be in any goes where there is
//! least to do: ten calls with Opus and SRTP are more work than fifty between telephones.

use crate::media::pace::PHASES;
use std::time::Duration;

/// Of so many runs of a phase the last one counts as one part.
const RUNS: u32 = 8;

/// The work of each phase, as the mean of its last runs.
#[derive(Debug, Default)]
pub(super) struct PhaseWork([Duration; PHASES]);

impl PhaseWork {
    /// A phase ran, and took the processor for so long.
    pub(super) fn ran(&mut self, phase: usize, work: Duration) {
        if let Some(mean) = self.0.get_mut(phase) {
            *mean = *mean / RUNS * (RUNS - 1) + work / RUNS;
        }
    }

    /// A session begins in a phase, beside `others` in all of them. What it takes is not known before it ran: until then
    /// it counts as the others do.
    pub(super) fn begins(&mut self, phase: usize, others: usize) {
        let all: Duration = self.0.iter().sum();
        let share = all.checked_div(u32::try_from(others).unwrap_or(u32::MAX));
        if let (Some(mean), Some(share)) = (self.0.get_mut(phase), share) {
            *mean += share;
        }
    }

    /// The phase in which there is least to do; of several, that with the fewest sessions. One without any is never run, so
    /// what it took before says nothing.
    pub(super) fn least(&self, sessions: impl Fn(usize) -> usize) -> usize {
        let work = |phase: usize| match sessions(phase) {
            0 => (Duration::ZERO, 0),
            count => (self.0.get(phase).copied().unwrap_or_default(), count),
        };
        (0..PHASES).min_by_key(|phase| work(*phase)).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn who_may_go_anywhere_goes_where_there_is_least_to_do() {
        let mut work = PhaseWork::default();
        let sessions = |phase: usize| [20, 70, 70, 70][phase];
        assert_eq!(work.least(sessions), 0, "the fewest, as long as nothing is known");
        for _ in 0..100 {
            (0..PHASES).for_each(|phase| work.ran(phase, [3 * MS, MS, 2 * MS, 2 * MS][phase]));
        }
        assert_eq!(work.least(sessions), 1, "few sessions may be much work");
        // A quarter of all sessions later it is no longer the one.
        let of_all = 230;
        for others in 0..of_all / 4 {
            work.begins(1, of_all + others);
        }
        assert_eq!(work.least(sessions), 2);
        work.begins(0, 0);
        assert_eq!(work.least(|phase| [0, 1, 1, 1][phase]), 0, "an empty one takes nothing");
    }

    #[test]
    fn what_a_phase_takes_follows_its_runs_and_not_one_of_them() {
        let mut work = PhaseWork::default();
        (0..100).for_each(|_| (0..PHASES).for_each(|phase| work.ran(phase, MS)));
        work.ran(2, 5 * MS);
        assert!(work.0[2] > MS && work.0[2] < 2 * MS, "{work:?}");
        (0..100).for_each(|_| work.ran(2, 5 * MS));
        assert!(work.0[2] > 4 * MS, "{work:?}");
    }
}
