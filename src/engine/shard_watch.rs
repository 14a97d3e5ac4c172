//! Looks after the SIP shards: who hangs. Nothing ends a task that never waits, but whoever runs the node is told of it, and new
//! calls go elsewhere. It has a thread of its own: such a task may have the only one of the runtime.

use crate::engine::sip_shard::ShardHandle;
use crate::telemetry::metric;
use crate::telemetry::metric::Gauge;
use std::time::Duration;
use tokio::sync::watch;

/// Time between two looks.
const PERIOD: Duration = Duration::from_millis(500);

/// Looks in a row at which a shard has not turned since the one before, after which it hangs: 2 s. While this process stands
/// still nobody looks.
const HUNG_LOOKS: u32 = 4;

/// What was seen of a shard: how many turns it had made, and at how many looks it was as many.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    turns: Option<u64>,
    looks: u32,
}

impl Seen {
    /// One more look. True: it hangs.
    fn look(&mut self, shard: &ShardHandle) -> bool {
        let turns = shard.turns();
        if self.turns.replace(turns) == Some(turns) {
            self.looks = self.looks.saturating_add(1);
        } else {
            self.looks = 0;
            // One that has nothing to do has something now.
            shard.ask_to_turn();
        }
        // Of one that is down another says so.
        self.looks >= HUNG_LOOKS && shard.is_running()
    }
}

/// Starts the thread that looks until whoever holds the other end of `running` drops it. Nobody waits for it: it has nothing to
/// bring to an end.
pub fn start(shards: Vec<ShardHandle>, running: watch::Receiver<bool>) {
    start_every(PERIOD, shards, running);
}

fn start_every(period: Duration, shards: Vec<ShardHandle>, running: watch::Receiver<bool>) {
    let watching = move || {
        let mut seen = vec![Seen::default(); shards.len()];
        // What is said there changes nothing: in a drain, and while the rest ends, calls go on.
        while running.has_changed().is_ok() {
            look(&shards, &mut seen);
            std::thread::sleep(period);
        }
    };
    let thread = std::thread::Builder::new().name("shard-watch".to_owned()).spawn(watching);
    if let Err(error) = thread {
        tracing::error!(%error, "nobody sees whether a SIP shard hangs");
    }
}

/// Looks at each shard, and tells what is another than before.
fn look(shards: &[ShardHandle], seen: &mut [Seen]) {
    let mut hung = 0_u32;
    for (number, (shard, seen)) in shards.iter().zip(seen).enumerate() {
        let hangs = seen.look(shard);
        hung += u32::from(hangs);
        match (shard.set_hung(hangs), hangs) {
            (false, true) => tracing::error!(
                number,
                "a SIP shard hangs: nobody serves its calls, and new ones for it get 503"
            ),
            (true, false) => tracing::warn!(number, "a SIP shard does not hang any more"),
            (false, false) | (true, true) => (),
        }
    }
    metric::set(Gauge::SipShardsHung, f64::from(hung));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;
    use crate::engine::sip_shard::lives::Node;
    use crate::types::limit::SIP_SHARD_QUEUE_MAX;
    use metrics_exporter_prometheus::PrometheusBuilder;
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;
    use std::sync::atomic::Ordering;
    use tokio::runtime::Builder;

    #[test]
    fn a_shard_that_does_not_turn_for_2_s_hangs_until_it_does() {
        let recorder = PrometheusBuilder::new().build_recorder();
        // One has nothing to do, the queue of the other is full.
        let (idle, _kept) = ShardHandle::clogged(0);
        let (full, _kept_too) = ShardHandle::clogged(SIP_SHARD_QUEUE_MAX);
        let shards = [idle.clone(), full.clone()];
        let mut seen = [Seen::default(); 2];
        let mut looks = |times| {
            metrics::with_local_recorder(&recorder, || {
                (0..times).for_each(|_| look(&shards, &mut seen));
            });
            (recorder.handle().render(), [&idle, &full].map(ShardHandle::is_hung))
        };
        let (text, hung) = looks(HUNG_LOOKS);
        assert!(text.contains("sip_shards_hung 0") && hung == [false; 2], "{hung:?} {text}");
        let (text, hung) = looks(1);
        assert!(text.contains("sip_shards_hung 2") && hung == [true; 2], "{hung:?} {text}");
        assert!(idle.is_running() && idle.is_crowded() && !idle.serves());
        full.note_turn();
        let (text, hung) = looks(1);
        assert!(text.contains("sip_shards_hung 1") && hung == [true, false], "{hung:?} {text}");
        assert!(full.serves());
    }

    #[tokio::test]
    async fn a_shard_that_has_nothing_to_do_does_not_hang() {
        let node = Node::start(22_400..=22_403).await;
        let shard = node.shard();
        let mut seen = [Seen::default()];
        for _ in 0..10 * HUNG_LOOKS {
            look(std::slice::from_ref(shard), &mut seen);
            assert!(shard.serves());
            // The shard has this thread until it waits again.
            for _ in 0..8 {
                tokio::task::yield_now().await;
            }
        }
        assert_eq!(seen.map(|seen| seen.looks), [0], "it turns whenever it is asked to");
    }

    /// Waits for it on this thread. False: it does not come, however slow the machine is.
    fn comes(what: impl Fn() -> bool) -> bool {
        let until = clock::now() + Duration::from_secs(60);
        while !what() {
            if clock::now() > until {
                return false;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        true
    }

    #[test]
    fn a_shard_that_has_the_only_thread_of_the_runtime_is_seen_all_the_same_also_in_a_drain() {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        // What it spawns runs on the worker, which is not this thread.
        let node = runtime.block_on(Node::start(22_412..=22_415));
        let _inside = runtime.enter();
        let shard = node.shard().clone();
        let (stop, stopping) = watch::channel(false);
        start_every(Duration::from_millis(5), vec![shard.clone()], stopping);
        let (spins, over) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let (begun, ends) = (Arc::clone(&spins), Arc::clone(&over));
        runtime.spawn(async move {
            begun.store(true, Ordering::Relaxed);
            while !ends.load(Ordering::Relaxed) {
                std::hint::spin_loop();
            }
        });
        let hangs = comes(|| spins.load(Ordering::Relaxed)) && comes(|| shard.is_hung());
        stop.send_replace(true);
        over.store(true, Ordering::Relaxed);
        let goes_on = comes(|| !shard.is_hung());
        drop(node);
        assert!(hangs && goes_on, "{hangs} {goes_on}");
    }
}
