//! When a media thread runs which phase: an absolute beat that never drifts and says what to do when
//! the thread comes late.

use crate::types::moment::Moment;
use std::time::Duration;

/// The period of a session: it sends and plays this much each tick.
pub const TICK: Duration = Duration::from_millis(20);

/// Phases of a tick. Each session belongs to one, so that the work is spread over the period.
pub const PHASES: usize = 4;

/// The time between two phases.
pub const PHASE: Duration = Duration::from_millis(5);

/// Ticks that are made up for when the thread was late; more are left out.
pub const TICKS_MADE_UP_MAX: u64 = 3;

/// What the thread does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing until this moment.
    Wait(Moment),
    /// Run one tick of every session of the phase.
    Run {
        /// 0 to 3.
        phase: usize,
        /// How late it is.
        late: Duration,
    },
    /// Leave out so many ticks of every session.
    Skip {
        /// How many.
        ticks: u64,
    },
}

/// The beat of one media thread.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    epoch: Moment,
    /// Phases run or left out since the epoch.
    done: u64,
}

impl Pace {
    /// A beat whose first phase is due at `epoch`.
    #[must_use]
    pub const fn new(epoch: Moment) -> Self {
        Self { epoch, done: 0 }
    }

    /// Passes over the phases that lie ahead up to the next `busy` one, without running them: nobody
    /// need wake for them. The first phase of a tick is never passed over.
    pub fn pass_idle(&mut self, now: Moment, busy: impl Fn(usize) -> bool) {
        while now < self.due_at() && self.phase() != 0 && !busy(self.phase()) {
            self.done += 1;
        }
    }

    const fn phase(&self) -> usize {
        (self.done % PHASES as u64) as usize
    }

    const fn due_at(&self) -> Moment {
        Moment::from_nanos(self.epoch.as_nanos() + self.done * PHASE_NANOS)
    }

    /// What to do at `now`. A returned `Run` or `Skip` counts as done.
    ///
    /// What is due follows from the time since the epoch alone, so that the oversleeping of one wait
    /// never moves the next. A thread late by up to [`TICKS_MADE_UP_MAX`] ticks runs the phases it
    /// missed back to back; later than that it leaves out whole ticks, because the peer's jitter
    /// buffer would throw the burst away.
    pub fn step(&mut self, now: Moment) -> Step {
        let due_at = self.due_at();
        if now < due_at {
            return Step::Wait(due_at);
        }
        let late = now.since(due_at);
        let phases_late = u64::try_from(late.as_nanos() / PHASE.as_nanos()).unwrap_or(u64::MAX);
        let ticks_late = phases_late / PHASES as u64;
        if ticks_late > TICKS_MADE_UP_MAX {
            self.done += ticks_late * PHASES as u64;
            return Step::Skip { ticks: ticks_late };
        }
        let phase = self.phase();
        self.done += 1;
        Step::Run { phase, late }
    }
}

const PHASE_NANOS: u64 = PHASE.as_nanos() as u64;

#[cfg(test)]
mod tests {
    use super::*;

    fn runs(pace: &mut Pace, now: Moment) -> Vec<Step> {
        let mut steps = Vec::new();
        loop {
            match pace.step(now) {
                Step::Wait(_) => return steps,
                step => steps.push(step),
            }
        }
    }

    fn phases(pace: &mut Pace, now_ms: u64) -> Vec<usize> {
        let steps = runs(pace, Moment::from_millis(now_ms));
        let phase = |step: &Step| match step {
            Step::Run { phase, .. } => *phase,
            other => panic!("{other:?}"),
        };
        steps.iter().map(phase).collect()
    }

    #[test]
    fn phases_follow_each_other_every_five_milliseconds() {
        let mut pace = Pace::new(Moment::from_millis(100));
        assert_eq!(pace.step(Moment::from_millis(99)), Step::Wait(Moment::from_millis(100)));
        assert_eq!(phases(&mut pace, 100), [0]);
        assert!(phases(&mut pace, 104).is_empty());
        assert_eq!(phases(&mut pace, 107), [1], "being late does not move the next");
        assert_eq!(phases(&mut pace, 110), [2]);
        assert_eq!(pace.step(Moment::from_millis(111)), Step::Wait(Moment::from_millis(115)));
    }

    #[test]
    fn phases_nobody_needs_are_passed_over_but_the_first_of_a_tick_and_what_is_due() {
        let mut pace = Pace::new(Moment::from_millis(100));
        assert_eq!(phases(&mut pace, 100), [0]);
        let at = |ms| Moment::from_millis(ms);
        pace.pass_idle(at(101), |phase| phase == 2);
        assert_eq!(pace.step(at(101)), Step::Wait(at(110)));
        assert_eq!(phases(&mut pace, 110), [2]);
        pace.pass_idle(at(111), |_| false);
        assert_eq!(pace.step(at(111)), Step::Wait(at(120)), "commands are looked for each tick");
        // What is overdue may be a session's that was opened meanwhile.
        assert_eq!(phases(&mut pace, 120), [0]);
        pace.pass_idle(at(126), |_| false);
        assert_eq!(phases(&mut pace, 126), [1]);
    }

    #[test]
    fn up_to_three_missed_ticks_are_made_up() {
        let mut pace = Pace::new(Moment::START);
        assert_eq!(phases(&mut pace, 0), [0]);
        assert_eq!(phases(&mut pace, 65).len(), 13);
        assert_eq!(phases(&mut pace, 70), [2]);
    }

    #[test]
    fn beyond_that_whole_ticks_are_left_out_and_the_phase_stays() {
        let mut pace = Pace::new(Moment::START);
        assert_eq!(phases(&mut pace, 5), [0, 1]);
        let steps = runs(&mut pace, Moment::from_millis(5_012));
        assert_eq!(steps.first(), Some(&Step::Skip { ticks: 250 }));
        assert_eq!(steps.len(), 2);
        assert!(matches!(steps.last(), Some(Step::Run { phase: 2, .. })));
    }

    #[test]
    fn after_a_year_the_beat_still_holds() {
        let year_ms = 365 * 24 * 3_600 * 1_000;
        let mut pace = Pace { epoch: Moment::START, done: year_ms / 5 };
        assert_eq!(phases(&mut pace, year_ms), [0]);
        assert_eq!(
            pace.step(Moment::from_millis(year_ms)),
            Step::Wait(Moment::from_millis(year_ms + 5))
        );
    }
}
