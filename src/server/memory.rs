//! Gives memory back to the system after a rush: the allocator keeps what was freed for the next one.

use crate::engine::os;
use crate::engine::sip_shard::ShardHandle;
use crate::engine::switch::Switch;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::MissedTickBehavior;

/// Time between two looks.
const PERIOD: Duration = Duration::from_secs(5);
/// Looks in a row that must find the rush over: what comes in waves needs its memory again.
const LOOKS: u32 = 3;
/// A smaller rush is not worth the walk through the heap.
const RUSH_MIN: usize = 64;

/// Looks until `stop` turns true or is dropped.
pub(super) async fn watch(
    switch: Arc<Switch>,
    shards: Vec<ShardHandle>,
    mut stop: watch::Receiver<bool>,
) {
    let mut period = tokio::time::interval(PERIOD);
    period.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut tide = Tide::default();
    loop {
        tokio::select! {
            _ = period.tick() => (),
            _ = stop.wait_for(|stop| *stop) => return,
        }
        let transactions = shards.iter().map(|shard| shard.gauges().transactions);
        if tide.has_ebbed(switch.registry.live() + transactions.sum::<usize>())
            && spawn_blocking(os::return_memory).await.is_err()
        {
            tracing::error!("giving memory back panicked");
        }
    }
}

/// How many calls and transactions there were, and are.
#[derive(Debug, Default)]
struct Tide {
    highest: usize,
    low_looks: u32,
}

impl Tide {
    /// True once after a rush: for some looks no more than half of it was there.
    fn has_ebbed(&mut self, now: usize) -> bool {
        self.highest = self.highest.max(now);
        let low = self.highest >= RUSH_MIN && now <= self.highest / 2;
        self.low_looks = if low { self.low_looks + 1 } else { 0 };
        let ebbed = self.low_looks >= LOOKS;
        if ebbed {
            *self = Self { highest: now, low_looks: 0 };
        }
        ebbed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_given_back_once_after_a_rush_and_not_in_one() {
        let mut tide = Tide::default();
        for now in [10, 500, 900, 300, 600, 400, 440] {
            assert!(!tide.has_ebbed(now), "{now}");
        }
        assert!(tide.has_ebbed(200));
        for now in [150, 110, 101, 101, 150] {
            assert!(!tide.has_ebbed(now), "{now}");
        }
        assert!(!tide.has_ebbed(0));
        assert!(!tide.has_ebbed(0));
        assert!(tide.has_ebbed(0));
        assert!(!(0..100).any(|_| tide.has_ebbed(RUSH_MIN - 1)));
    }
}
