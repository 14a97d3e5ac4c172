//! When to send RTCP (RFC 3550 §6.2, 6.3) for a session of two.

use std::time::Duration;

use crate::types::moment::Moment;
use crate::types::random::Random;

/// The nominal time between two reports.
const INTERVAL: Duration = Duration::from_secs(5);
/// RFC 3550 §6.3.1 divides by e - 3/2. In 1/100000.
const COMPENSATION: u64 = 121_828;

/// Says when the next report is due. The moments are random, so that calls which began together do not
/// report together.
#[derive(Clone, Debug)]
pub struct ReportSchedule {
    random: Random,
    next: Moment,
}

impl ReportSchedule {
    /// A schedule for a session that begins `now`; its first interval is half as long.
    #[must_use]
    pub fn new(now: Moment, seed: u64) -> Self {
        let mut schedule = Self { random: Random::from_seed(seed), next: now };
        let first = schedule.interval() / 2;
        schedule.next = now + first;
        schedule
    }

    /// Whether a report is due; if so, the next one is planned.
    pub fn is_due(&mut self, now: Moment) -> bool {
        if now < self.next {
            return false;
        }
        self.next = now + self.interval();
        true
    }

    /// When the next report is due.
    #[must_use]
    pub const fn next(&self) -> Moment {
        self.next
    }

    fn interval(&mut self) -> Duration {
        let nominal = INTERVAL.as_nanos() as u64;
        let spread = nominal / 2 + self.random.below(nominal + 1);
        Duration::from_nanos(spread / COMPENSATION * 100_000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_spread_around_the_compensated_mean() {
        let mut total = 0;
        let mut moments = std::collections::HashSet::new();
        for seed in 0..1000 {
            let start = Moment::from_millis(77);
            let mut schedule = ReportSchedule::new(start, seed);
            let first = schedule.next().since(start).as_millis();
            assert!((1026..=3078).contains(&first), "{first}");
            assert!(!schedule.is_due(schedule.next() - Duration::from_nanos(1)));
            let now = schedule.next();
            assert!(schedule.is_due(now));
            let second = schedule.next().since(now).as_millis();
            assert!((2052..=6157).contains(&second), "{second}");
            total += second;
            moments.insert(schedule.next());
        }
        assert!((3950..4250).contains(&(total / 1000)), "mean {}", total / 1000);
        assert!(moments.len() > 990);
    }
}
