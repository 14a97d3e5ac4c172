//! Looks after the media threads: who stands still, who met a fault, who comes late, and who has far more to do than
//! another.

use crate::clock;
use crate::engine::media_hang::Hangs;
use crate::engine::media_thread::MediaEngine;
use crate::engine::media_worker::Gauges;
use crate::engine::media_worker::Leaving;
use crate::engine::media_worker::Worker;
use crate::telemetry::metric;
use crate::telemetry::metric::Counter;
use crate::telemetry::metric::Gauge;
use crate::types::moment::Moment;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

/// Time between two looks.
const PERIOD: Duration = Duration::from_millis(100);
/// Looks between two that may let sessions move.
const LOOKS_PER_BALANCE: u32 = 10;
/// Looks between two that may tell of lost commands: a second.
const LOOKS_PER_LOSS: u32 = 10;
/// A thread whose last beat is longer ago stands still.
pub(super) const STALLED_AFTER: Duration = Duration::from_millis(200);
/// Work of a thread, as a mean of the phases of a period, from which sessions are better off elsewhere.
const WORK_MIN: Duration = Duration::from_millis(1);
/// Sessions that move at once.
const MOVE_MAX: usize = 4;

/// How the threads are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MediaHealth {
    /// Threads that stand still.
    pub stalled: usize,
    /// Threads that met faults of ours again and again, or were given up, and take no sessions any more.
    pub down: usize,
    /// Faults of threads, outside any session, since the start. Each ended the calls of its thread.
    pub faults: u64,
    /// Commands that were lost as too many waited for a thread, since the start.
    pub commands_dropped: u64,
    /// New calls get 503, since all threads come late, have too much to do or are down.
    pub refuses: bool,
}

impl MediaEngine {
    /// How the threads are.
    #[must_use]
    pub fn health(&self, now: Moment) -> MediaHealth {
        let workers = || self.each_worker().map(|worker| &worker.gauges);
        let is_stalled = |gauges: &&Gauges| gauges.is_stalled(now) && !gauges.is_given_up();
        MediaHealth {
            stalled: workers().filter(is_stalled).count(),
            down: workers().filter(|gauges| gauges.is_down()).count(),
            faults: workers().map(Gauges::faults).sum(),
            commands_dropped: workers().map(Gauges::commands_dropped).sum(),
            refuses: self.refuses(),
        }
    }

    /// Lets up to `count` sessions move from one thread to another. Their calls notice nothing.
    pub fn relieve(&self, from: usize, to: usize, count: usize) {
        let (Some(from), Some(to)) = (self.worker(from), self.worker(to)) else { return };
        let places: Vec<_> = std::iter::from_fn(|| to.take_place()).take(count).collect();
        if !Arc::ptr_eq(from, to) && !places.is_empty() && !to.gauges.is_down() {
            from.ask_to_leave(Leaving::new(Arc::clone(to), places));
        }
    }

    /// The busiest thread, and the idlest that comes in time, where it is worth it to let sessions move.
    pub(super) fn uneven(&self, now: Moment) -> Option<(usize, usize)> {
        let runs = |worker: &&(usize, &Arc<Worker>)| {
            !worker.1.gauges.is_stalled(now) && !worker.1.gauges.is_down()
        };
        let work = |worker: &(usize, &Arc<Worker>)| worker.1.gauges.mean_work();
        let workers: Vec<_> = self.each_worker().enumerate().collect();
        let running = || workers.iter().filter(runs);
        let busiest = running().max_by_key(|worker| work(worker))?;
        let in_time = running().filter(|worker| !worker.1.gauges.is_late());
        let idlest = in_time.min_by_key(|worker| work(worker))?;
        is_worth_it(work(busiest), work(idlest)).then_some((busiest.0, idlest.0))
    }
}

/// Half as much again, and enough for it to be felt.
fn is_worth_it(busiest: Duration, idlest: Duration) -> bool {
    busiest >= WORK_MIN && busiest > idlest * 3 / 2
}

/// Looks until `stop` turns true or is dropped.
pub async fn run(media: MediaEngine, mut stop: watch::Receiver<bool>) {
    let mut period = tokio::time::interval(PERIOD);
    period.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut before, mut looks) = (MediaHealth::default(), 0_u32);
    let (mut hangs, mut losses) = (Hangs::default(), Losses::default());
    loop {
        tokio::select! {
            _ = period.tick() => (),
            _ = stop.wait_for(|stop| *stop) => return,
        }
        let now = clock::now();
        media.give_up_who_hangs(&mut hangs);
        let health = media.health(now);
        tell(before, health);
        before = health;
        looks = looks.wrapping_add(1);
        if let Some(lost) = losses.see(looks, health.commands_dropped) {
            tracing::error!(lost, "commands to media threads were lost: too many waited there");
        }
        if looks.is_multiple_of(LOOKS_PER_BALANCE)
            && let Some((from, to)) = media.uneven(now)
        {
            media.relieve(from, to, MOVE_MAX);
        }
    }
}

/// Lost commands that were told of.
#[derive(Debug, Default)]
struct Losses(u64);

impl Losses {
    /// At look number `look` so many were lost since the start. Returns those to be told now, once a second at most.
    fn see(&mut self, look: u32, lost: u64) -> Option<u64> {
        let news = lost.saturating_sub(self.0);
        if news == 0 || !look.is_multiple_of(LOOKS_PER_LOSS) {
            return None;
        }
        self.0 = lost;
        Some(news)
    }
}

/// Tells what changed.
fn tell(before: MediaHealth, now: MediaHealth) {
    metric::set(Gauge::MediaThreadsStalled, now.stalled as f64);
    metric::set(Gauge::MediaRefuses, f64::from(u8::from(now.refuses)));
    if now.stalled > before.stalled {
        tracing::error!(stalled = now.stalled, "media threads stand still: their calls are silent");
    } else if now.stalled < before.stalled {
        tracing::warn!(stalled = now.stalled, "a media thread goes on");
    }
    metric::set(Gauge::MediaThreadsDown, now.down as f64);
    let faults = now.faults.saturating_sub(before.faults);
    if faults > 0 {
        metric::counter(Counter::MediaThreadFaults).increment(faults);
        tracing::error!(faults, "a fault of a media thread ended the calls that it had");
    }
    if now.down > before.down {
        tracing::error!(
            down = now.down,
            "media threads met faults again and again, or hang, and take no calls before a restart"
        );
    }
    match (before.refuses, now.refuses) {
        (false, true) => tracing::warn!("no media thread runs in time: new calls get 503"),
        (true, false) => tracing::info!("media threads keep up: new calls are taken"),
        (false, false) | (true, true) => (),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::link::link;
    use crate::engine::media_thread::MediaConfig;
    use crate::engine::media_thread::MediaSetup;
    use crate::engine::media_thread::PortChoice;
    use crate::sdp::MediaPlan;
    use metrics_exporter_prometheus::PrometheusBuilder;
    use std::net::IpAddr;
    use std::net::SocketAddr;

    #[test]
    fn who_watches_is_told_how_many_stand_still_and_whether_calls_are_refused() {
        let recorder = PrometheusBuilder::new().build_recorder();
        let told = |health: MediaHealth, expected: [&str; 2]| {
            metrics::with_local_recorder(&recorder, || tell(MediaHealth::default(), health));
            let text = recorder.handle().render();
            assert!(expected.iter().all(|line| text.contains(line)), "{text}");
        };
        let bad = MediaHealth { stalled: 2, refuses: true, ..MediaHealth::default() };
        told(bad, ["media_threads_stalled 2", "media_refuses 1"]);
        told(MediaHealth::default(), ["media_threads_stalled 0", "media_refuses 0"]);
    }

    #[test]
    fn each_fault_of_a_thread_is_counted_once_and_those_that_are_down_are_told() {
        let recorder = PrometheusBuilder::new().build_recorder();
        let health = |faults, down| MediaHealth { faults, down, ..MediaHealth::default() };
        metrics::with_local_recorder(&recorder, || {
            tell(health(0, 0), health(3, 0));
            tell(health(3, 0), health(3, 0));
            tell(health(3, 0), health(4, 1));
        });
        let text = recorder.handle().render();
        for line in ["media_thread_faults_total 4", "media_threads_down 1"] {
            assert!(text.contains(line), "no {line} in {text}");
        }
    }

    #[test]
    fn lost_commands_are_told_once_each_and_once_a_second_at_most() {
        let mut losses = Losses::default();
        // At each look one more is lost, for 2.5 s; then none.
        let told = (1..=100_u32)
            .filter_map(|look| losses.see(look, u64::from(look.min(25))).map(|lost| (look, lost)));
        assert_eq!(told.collect::<Vec<_>>(), [(10, 10), (20, 10), (30, 5)]);
    }

    #[tokio::test]
    async fn a_session_leaves_a_thread_that_has_far_more_to_do_by_itself() {
        let config = MediaConfig { threads: 2, realtime: false, ports: 21_700..=21_703 };
        let media = MediaEngine::start(config).unwrap();
        let ports = media.reserve(IpAddr::from([127, 91, 8, 2]), PortChoice::ANY).unwrap();
        let nowhere = SocketAddr::from(([127, 91, 8, 2], 9));
        let setup = MediaSetup::new(Some(MediaPlan::for_test(nowhere)), 1);
        let (end, _agent) = link();
        let (id, _events) = media.open(ports, setup, end).unwrap();
        let (from, to) = (usize::from(id.thread), 1 - usize::from(id.thread));
        let (_stop, stopping) = watch::channel(false);
        let moved = async {
            while media.workers()[to].sessions() == 0 {
                // As if each of its phases took so long.
                let work = Duration::from_micros(3_500);
                (0..64).for_each(|_| {
                    media.workers()[from].gauges.phase_ran(work, Duration::ZERO, 0);
                });
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::select! {
            () = run(media.clone(), stopping) => unreachable!("it was not stopped"),
            moved = tokio::time::timeout(Duration::from_secs(60), moved) => moved.unwrap(),
        }
    }

    #[test]
    fn sessions_move_only_where_one_thread_has_far_more_to_do() {
        let micros = Duration::from_micros;
        assert!(is_worth_it(micros(1_600), micros(1_000)));
        assert!(is_worth_it(micros(1_000), micros(0)));
        assert!(!is_worth_it(micros(1_500), micros(1_000)));
        assert!(!is_worth_it(micros(900), micros(0)), "nobody feels it");
    }
}
