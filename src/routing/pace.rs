//! `Pace`: when the last calls began, so that no second holds more of them than it may.

use crate::types::moment::Moment;
use std::collections::VecDeque;
use std::time::Duration;

/// The second in which calls that come to us are counted.
pub(super) const SECOND: Duration = Duration::from_secs(1);
/// The second in which calls that we place are counted. The carrier counts where they arrive, and one
/// may have been faster on its way than the one before it: by no more than this is longer.
pub(super) const SECOND_OF_CARRIER: Duration = Duration::from_millis(1_020);

/// When the last calls began or will begin. Whatever second is looked at, full or not: no more than
/// the limit begin within it. A bucket that is full and refills evenly would let twice as many begin.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// In order; no more than the limit.
    begun: VecDeque<Moment>,
}

impl Pace {
    /// One without a call.
    pub(super) const fn new() -> Self {
        Self { begun: VecDeque::new() }
    }

    /// When the next call may begin: now, or later. `most` in a `second`; 0 is no limit.
    pub(super) fn turn(&self, now: Moment, most: u32, second: Duration) -> Moment {
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        // Beside the next call, a second may hold one less: those after this one.
        let last = self.begun.len().checked_sub(most).and_then(|at| self.begun.get(at));
        match last {
            Some(last) if most > 0 => now.max(*last + second),
            Some(_) | None => now,
        }
    }

    /// A call begins at `start`, no sooner than its turn.
    pub(super) fn take(&mut self, now: Moment, start: Moment, (most, second): (u32, Duration)) {
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        if most == 0 {
            return self.begun.clear();
        }
        while self.begun.len() >= most
            || self.begun.front().is_some_and(|first| *first + second <= now)
        {
            // Of as many as may be, only the oldest can be older than a second at that turn.
            self.begun.pop_front();
        }
        // One that another limit holds up may have begun later.
        let place = self.begun.partition_point(|begun| *begun <= start);
        self.begun.insert(place, start);
    }

    /// True when it knows nothing that matters any more.
    pub(super) fn is_over(&self, now: Moment, second: Duration) -> bool {
        self.begun.back().is_none_or(|last| *last + second <= now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::random::Random;

    /// Calls that come at random, most of them in crowds; those that would wait too long are refused.
    fn starts(seed: u64, most: u32, second: Duration, patience: Duration) -> (Vec<Moment>, u32) {
        let mut random = Random::from_seed(seed);
        let (mut pace, mut now, mut refused) = (Pace::new(), Moment::from_millis(10_000), 0);
        let mut starts = Vec::new();
        for _ in 0..1_500 {
            if random.below(4) == 0 {
                now += Duration::from_micros(random.below(6_000_000 / u64::from(most)));
            }
            // Another limit may hold a call up further.
            let held_up = Duration::from_millis(random.below(3) * random.below(400));
            let turn = pace.turn(now, most, second);
            let within = starts.iter().filter(|at: &&Moment| now.since(**at) < second).count();
            let within = u32::try_from(within).unwrap();
            assert!(turn == now || within >= most, "a call waits though there is room");
            if turn.since(now) > patience {
                refused += 1;
                continue;
            }
            pace.take(now, turn + held_up, (most, second));
            starts.push(turn + held_up);
        }
        starts.sort();
        (starts, refused)
    }

    #[test]
    fn no_second_holds_more_calls_than_the_limit_however_they_come() {
        for (seed, most) in [(1, 1), (2, 2), (3, 3), (4, 5), (5, 20), (6, 100)] {
            for (second, patience) in
                [(SECOND, Duration::ZERO), (SECOND_OF_CARRIER, Duration::from_secs(3))]
            {
                let (starts, refused) = starts(seed, most, second, patience);
                let apart = usize::try_from(most).unwrap();
                for (first, beyond) in starts.iter().zip(starts.iter().skip(apart)) {
                    assert!(beyond.since(*first) >= second, "{most}: {first} and {beyond}");
                }
                assert!(refused > 0, "{most}: the limit was never met");
            }
        }
    }

    #[test]
    fn without_a_limit_nothing_is_remembered() {
        let mut pace = Pace::new();
        for _ in 0..10 {
            assert_eq!(pace.turn(Moment::START, 0, SECOND), Moment::START);
            pace.take(Moment::START, Moment::START, (0, SECOND));
        }
        assert!(pace.begun.is_empty());
    }

    #[test]
    fn a_limit_that_changes_holds_from_the_next_call_on() {
        let (mut pace, now) = (Pace::new(), Moment::from_millis(5_000));
        for _ in 0..4 {
            assert_eq!(pace.turn(now, 4, SECOND), now);
            pace.take(now, now, (4, SECOND));
        }
        assert_eq!(pace.turn(now, 2, SECOND), now + SECOND);
        assert_eq!(pace.turn(now, 5, SECOND), now);
        assert!(!pace.is_over(now, SECOND));
        assert!(pace.is_over(now + SECOND, SECOND));
    }
}
