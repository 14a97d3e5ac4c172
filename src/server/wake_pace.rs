//! How often the threads of the runtime wake.
//!
//! Each datagram and each frame of an agent would wake a thread of its own accord: on a system under load, most of the cost of a
//! small message is then the way from sleep to work and back. A thread that wakes too often rests a moment
//! before it sleeps, and finds in one turn what came meanwhile, as a network card does that moderates its interrupts.
//! A thread that wakes seldom is never held. While one rests it counts as awake: what comes waits for it though
//! others are idle, a millisecond at most; and of questions that follow one another each turn takes as long.

use crate::clock;
use crate::types::moment::Moment;
use std::cell::Cell;
use std::time::Duration;

/// How often a thread may wake in the long run is once in so long, and so long at most does it rest: what is late by it
/// (an answer to a request, a frame on its way to an agent) is so beside the 20 ms of a tick.
const PERIOD: Duration = Duration::from_millis(1);

/// How many times a thread may wake at once before it rests.
const BURST: u32 = 16;

thread_local! {
    static PACE: Cell<WakePace> = const { Cell::new(WakePace::new()) };
}

/// Holds a thread of the runtime that is about to sleep for as long as it shall rest.
pub fn rest_before_sleep() {
    let rest = PACE.with(|pace| {
        let (next, rest) = pace.get().sleep(clock::now());
        pace.set(next);
        rest
    });
    if !rest.is_zero() {
        std::thread::sleep(rest);
    }
}

/// Of one thread: when it would have slept next, had it woken once a [`PERIOD`] (the generic cell rate
/// algorithm of ITU-T I.371, annex A).
#[derive(Debug, Clone, Copy)]
struct WakePace {
    due: Moment,
}

impl WakePace {
    const fn new() -> Self {
        Self { due: Moment::from_nanos(0) }
    }

    /// The thread is about to sleep: how long it shall rest before, at most a [`PERIOD`].
    fn sleep(self, now: Moment) -> (Self, Duration) {
        let due = self.due.max(now);
        let rest = due.since(now).saturating_sub(PERIOD * BURST);
        (Self { due: due + PERIOD }, rest.min(PERIOD))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sleeps(pace: &mut WakePace, now: Moment) -> Duration {
        let (next, rest) = pace.sleep(now);
        *pace = next;
        rest
    }

    #[test]
    fn a_thread_that_wakes_seldom_never_rests() {
        let mut pace = WakePace::new();
        for turn in 0..10_000 {
            assert_eq!(
                sleeps(&mut pace, Moment::from_millis(50_000 + turn)),
                Duration::ZERO,
                "{turn}"
            );
        }
    }

    #[test]
    fn a_burst_is_free() {
        let mut pace = WakePace::new();
        for second in 0..10 {
            for turn in 0..16 {
                let now = Moment::from_millis(1_000 * second) + Duration::from_micros(10) * turn;
                assert_eq!(sleeps(&mut pace, now), Duration::ZERO, "{second} {turn}");
            }
        }
    }

    #[test]
    fn a_thread_that_wakes_all_the_time_wakes_once_a_millisecond() {
        let mut pace = WakePace::new();
        let (mut now, mut wakes) = (Moment::from_millis(7), 0);
        while now < Moment::from_millis(1_007) {
            let rest = sleeps(&mut pace, now);
            assert!(rest <= PERIOD, "{rest:?}");
            wakes += 1;
            // What it does takes 30 us, and something wakes it 20 us after it slept.
            now = now + rest + Duration::from_micros(50);
        }
        assert!((1_000..=1_020).contains(&wakes), "{wakes}");
    }

    #[test]
    fn work_that_takes_longer_than_the_period_leaves_no_rest_behind() {
        let mut pace = WakePace::new();
        let mut now = Moment::from_millis(7);
        for _ in 0..100 {
            now = now + sleeps(&mut pace, now) + Duration::from_micros(100);
        }
        for turn in 0..100 {
            now += Duration::from_millis(3);
            assert_eq!(sleeps(&mut pace, now), Duration::ZERO, "{turn}");
        }
    }
}
