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

/// Packets after which a session's phase is judged: half a second of them.
const PACKETS_JUDGED: u32 = 25;
/// Of those, so many may come too late for the earlier tick: the jitter buffer bears that.
const LATE_MAX: usize = 2;

/// How long the packets of a session wait for its tick, to find the phase in which they wait least.
///
/// Where a tick falls in the 20 ms between two packets is chance, and all the audio is that much later.
/// The least waits count: by so much the tick can be earlier and still find the packets. It is judged
/// once, for a peer whose clock drifts would pay for each further move with a gap.
#[derive(Clone, Copy, Debug)]
pub struct Waits {
    /// In order.
    least: [Duration; LATE_MAX + 1],
    packets: u32,
    judged: bool,
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
        Self { least: [Duration::MAX; LATE_MAX + 1], packets: 0, judged: false }
    }

    /// A packet came at `arrival` and was read by the tick that was due at `due`. One that came after
    /// that, and was found because the tick ran late, is counted as one that waited for the next.
    pub fn note(&mut self, arrival: Moment, due: Moment) {
        if self.judged {
            return;
        }
        let after = Duration::from_nanos(arrival.since(due).as_nanos() as u64 % TICK_NANOS);
        let mut wait = if arrival > due { TICK - after } else { due.since(arrival) };
        for least in &mut self.least {
            if wait < *least {
                std::mem::swap(&mut wait, least);
            }
        }
        self.packets = self.packets.saturating_add(1);
    }

    /// By how many phases the tick could be earlier, 0 to 3: once, when enough packets were seen.
    pub fn judge(&mut self) -> usize {
        if self.judged || self.packets < PACKETS_JUDGED {
            return 0;
        }
        self.judged = true;
        let [.., wait] = self.least;
        (0..PHASES).rev().find(|phases| wait > PHASE * *phases as u32).unwrap_or(0)
    }
}

const TICK_NANOS: u64 = TICK.as_nanos() as u64;
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
    fn a_tick_moves_once_as_far_as_the_packets_are_still_found() {
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
