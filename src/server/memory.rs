//! Gives memory back to the system after a rush: the allocator keeps what was freed for the next one.

use crate::engine::os;
use crate::engine::sip_shard::ShardHandle;
use crate::engine::switch::Switch;
use std::iter::repeat_with;
use std::ops::Range;
use std::sync::Arc;
use std::thread::Builder;
use std::thread::JoinHandle;
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
/// Sizes of the small blocks that glibc keeps for each thread by itself, one of each 16 bytes.
const SMALL_BYTES: Range<usize> = 24..1_040;
/// How many of each it keeps.
const SMALL_EACH: usize = 7;

/// Looks until `stop` turns true or is dropped.
pub(super) async fn watch(
    switch: Arc<Switch>,
    shards: Vec<ShardHandle>,
    mut stop: watch::Receiver<bool>,
) {
    let mut period = tokio::time::interval(PERIOD);
    period.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut calls, mut traces) = (Tide::default(), Tide::default());
    loop {
        tokio::select! {
            _ = period.tick() => (),
            _ = stop.wait_for(|stop| *stop) => return,
        }
        let transactions = shards.iter().map(|shard| shard.gauges().transactions);
        let are_over = calls.has_ebbed(switch.registry.live() + transactions.sum::<usize>());
        // What is kept of a rush goes long after it, when perhaps no message comes any more that would forget it.
        let kept = shards.iter().map(ShardHandle::forget_outlived_traces).sum();
        if traces.has_ebbed(kept) || are_over {
            let blocks = kept_by_thread();
            if spawn_blocking(move || return_memory(blocks)).await.is_err() {
                tracing::error!("giving memory back panicked");
            }
        }
    }
}

/// The small blocks that the allocator keeps for this thread, and new ones in the place of those it has not. Freed by a
/// call here and there, each holds a page of the system's when all around it is free again.
fn kept_by_thread() -> Vec<Vec<u8>> {
    let sizes = SMALL_BYTES.step_by(16);
    let mut blocks = Vec::with_capacity(sizes.len() * SMALL_EACH);
    for bytes in sizes {
        blocks.extend(repeat_with(|| Vec::with_capacity(bytes)).take(SMALL_EACH));
    }
    blocks
}

/// Gives memory back to the system, these blocks with it: freed by a thread that ends, they are kept for none.
fn return_memory(blocks: Vec<Vec<u8>>) {
    let freeing = Builder::new().name("memory".to_owned()).spawn(move || drop(blocks));
    match freeing.map(JoinHandle::join) {
        Ok(Ok(())) => (),
        Ok(Err(_)) | Err(_) => tracing::warn!("small blocks of memory are kept"),
    }
    os::return_memory();
}

/// How many calls and transactions, or dialogs whose signalling is kept, there were, and are.
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
    fn a_block_of_each_size_that_a_thread_keeps_is_given_back() {
        let blocks = kept_by_thread();
        // Sizes of glibc's blocks, which begin with 8 bytes of its own: 32 to 1,040.
        for size in (32..=1_040).step_by(16) {
            let of_size = |block: &&Vec<u8>| (block.capacity() + 8).next_multiple_of(16) == size;
            assert_eq!(blocks.iter().filter(of_size).count(), SMALL_EACH, "{size}");
        }
        return_memory(blocks);
    }

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
