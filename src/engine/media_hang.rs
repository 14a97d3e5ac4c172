//! Media threads that hang: nothing ends a thread from outside, but its calls need not wait for it, nor new ones.
//!
//! A thread that does nothing while this process runs will do nothing more. It is given up: its calls learn that nothing
//! more comes and end, and another thread takes its place, a few times. Its sockets stay bound, so that nobody gets their
//! ports; should it go on after all, it ends, and they are closed.

use crate::engine::media_thread::MediaEngine;
use crate::telemetry::metric;
use crate::telemetry::metric::Counter;
use crate::types::moment::Moment;

/// Looks in a row at which a thread has not done anything, after which it hangs: 5 s. While this process stands still
/// nobody looks, and where it gets little of the processor a look comes as seldom as the thread.
const HUNG_LOOKS: u32 = 50;

/// The same after which it gets no new calls: 1 s.
const DOUBTED_LOOKS: u32 = 10;

/// What was seen of each media thread: its last beat, and at how many looks that was the same.
#[derive(Debug, Default)]
pub(super) struct Hangs(Vec<(Moment, u32)>);

impl Hangs {
    /// One more look at thread number `number`, whose last beat was then. At so many before it was the same.
    fn see(&mut self, number: usize, beat: Moment) -> u32 {
        if self.0.len() <= number {
            self.0.resize(number + 1, (Moment::START, 0));
        }
        let Some((last, looks)) = self.0.get_mut(number) else { return 0 };
        let is_same = std::mem::replace(last, beat) == beat;
        *looks = if is_same { looks.saturating_add(1) } else { 0 };
        *looks
    }
}

impl MediaEngine {
    /// Looks at each thread, and gives those up that hang.
    pub(super) fn give_up_who_hangs(&self, hangs: &mut Hangs) {
        let mut hung = Vec::new();
        for (number, worker) in self.each_worker().enumerate() {
            if !worker.gauges.is_given_up() {
                let looks = hangs.see(number, worker.gauges.last_beat());
                worker.gauges.doubt(looks >= DOUBTED_LOOKS);
                if looks >= HUNG_LOOKS {
                    hung.push(number);
                }
            }
        }
        hung.into_iter().for_each(|number| self.give_up(number));
    }

    /// Ends the calls of a thread without it, and starts another in its place.
    fn give_up(&self, number: usize) {
        let Some(lost) = self.worker(number) else { return };
        metric::counter(Counter::MediaThreadsHung).increment(1);
        // First, so that new calls are refused at no time.
        match self.start_spare() {
            Ok(true) => {
                tracing::error!(
                    number,
                    "a media thread hangs: its calls end, another takes its place"
                );
            }
            Ok(false) => {
                tracing::error!(
                    number,
                    "a media thread hangs: its calls end, and too many did for another"
                );
            }
            Err(error) => {
                tracing::error!(number, %error, "a media thread hangs: its calls end, and there is no other");
            }
        }
        lost.give_up();
        for worker in self.each_worker() {
            worker.cut_off(lost.number());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::link::AgentEnd;
    use crate::audio::link::LinkEvent;
    use crate::audio::link::link;
    use crate::clock;
    use crate::engine::media_events::MediaEvents;
    use crate::engine::media_thread::MediaConfig;
    use crate::engine::media_thread::MediaId;
    use crate::engine::media_thread::MediaRefused;
    use crate::engine::media_thread::MediaSetup;
    use crate::engine::media_thread::PortChoice;
    use crate::engine::media_thread::SPARES_MAX;
    use crate::media::pace::TICK;
    use crate::net::rtp_socket::RtpSocket;
    use crate::sdp::MediaPlan;
    use metrics_exporter_prometheus::PrometheusBuilder;
    use std::net::IpAddr;
    use std::net::Ipv4Addr;
    use std::net::SocketAddr;
    use std::ops::RangeInclusive;
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;
    use std::sync::atomic::Ordering;
    use std::task::Poll;
    use std::task::Wake;
    use std::task::Waker;
    use std::time::Duration;
    use tokio::time::timeout;

    /// An address that no other test uses, so that ports never collide.
    const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 91, 9, 5));

    /// Far more than anything here takes, even on a machine that does much else.
    const PATIENCE: Duration = Duration::from_secs(60);

    /// The waker of an agent that no media thread gets past until it is let go.
    #[derive(Default)]
    struct Stuck {
        is_met: AtomicBool,
        is_over: AtomicBool,
    }

    impl Wake for Stuck {
        fn wake(self: Arc<Self>) {
            if std::thread::current().name().is_some_and(|name| name.starts_with("media-")) {
                self.is_met.store(true, Ordering::Release);
                while !self.is_over.load(Ordering::Acquire) {
                    std::thread::sleep(TICK);
                }
            }
        }
    }

    fn engine(threads: usize, ports: RangeInclusive<u16>) -> MediaEngine {
        MediaEngine::start(MediaConfig { threads, realtime: false, ports }).expect("threads")
    }

    /// A call's hold on its session.
    struct Call {
        id: MediaId,
        /// Where its socket of RTP is.
        at: SocketAddr,
        events: MediaEvents,
        agent: AgentEnd,
    }

    impl Call {
        fn open(engine: &MediaEngine) -> Result<Self, MediaRefused> {
            let ports = engine.reserve(ADDRESS, PortChoice::ANY).expect("free");
            let at = SocketAddr::new(ADDRESS, ports.rtp_port);
            let plan = Some(MediaPlan::for_test(SocketAddr::new(ADDRESS, 9)));
            let setup = MediaSetup { playout_held: false, ..MediaSetup::new(plan, 1) };
            let (end, agent) = link();
            let (id, events) = engine.open(ports, setup, end)?;
            Ok(Self { id, at, events, agent })
        }

        /// Lets its agent hear something.
        async fn is_heard(&mut self) {
            let agent = &mut self.agent;
            let heard = std::future::poll_fn(|context| {
                agent.register(context.waker());
                match agent.next() {
                    Some(LinkEvent::Audio(_)) => Poll::Ready(()),
                    Some(other) => panic!("{other:?}"),
                    None => Poll::Pending,
                }
            });
            timeout(PATIENCE, heard).await.expect("audio");
        }

        /// Waits until nothing more comes from its session.
        async fn ends(&mut self) {
            let ends = async { while self.events.recv().await.is_some() {} };
            timeout(PATIENCE, ends).await.expect("its session ends");
        }

        /// Lets its thread hang until `stuck` lets go of it.
        async fn hangs(&mut self, stuck: &Arc<Stuck>) {
            let waker = Waker::from(Arc::clone(stuck));
            let hangs = async {
                while !stuck.is_met.load(Ordering::Acquire) {
                    // A waker that comes while the one before is taken is woken here, and not kept.
                    self.agent.register(&waker);
                    tokio::time::sleep(TICK).await;
                }
            };
            timeout(PATIENCE, hangs).await.expect("its thread hangs");
        }
    }

    #[tokio::test]
    async fn calls_of_a_thread_that_hangs_end_and_new_ones_have_another_at_once() {
        let engine = engine(1, 22_300..=22_339);
        let mut calls = [(); 2].map(|()| Call::open(&engine).expect("room"));
        let [one, other] = &mut calls;
        one.is_heard().await;
        other.is_heard().await;
        let stuck = Arc::new(Stuck::default());
        one.hangs(&stuck).await;
        let recorder = PrometheusBuilder::new().build_recorder();
        let mut hangs = Hangs::default();
        metrics::with_local_recorder(&recorder, || {
            let mut look = |times| (0..times).for_each(|_| engine.give_up_who_hangs(&mut hangs));
            look(DOUBTED_LOOKS);
            assert!(!engine.health(clock::now()).refuses, "a moment is nothing");
            look(1);
            assert!(engine.health(clock::now()).refuses, "who calls now would hear nothing");
            assert!(matches!(Call::open(&engine), Err(MediaRefused::Overloaded)));
            look(HUNG_LOOKS - DOUBTED_LOOKS - 1);
            assert_eq!(engine.health(clock::now()).down, 0, "it may go on yet");
            look(1);
        });
        let told = recorder.handle().render();
        assert!(told.contains("media_threads_hung_total 1"), "{told}");
        one.ends().await;
        other.ends().await;
        let health = engine.health(clock::now());
        assert_eq!((health.down, engine.runs(), engine.load().sessions), (1, true, 0));
        // What is asked about them is answered, and by nobody who hangs.
        assert_eq!(engine.statistics(one.id).await, None);
        let mut next = Call::open(&engine).expect("another took its place");
        assert_eq!(next.id.thread, 1);
        next.is_heard().await;
        assert!(RtpSocket::bind(one.at).is_err(), "nobody else gets its port");
        // It goes on: what it has is closed, and it ends.
        stuck.is_over.store(true, Ordering::Release);
        for call in &calls {
            let free = async {
                while RtpSocket::bind(call.at).is_err() {
                    tokio::time::sleep(TICK).await;
                }
            };
            timeout(PATIENCE, free).await.expect("its port is free");
        }
        next.is_heard().await;
        assert!(engine.close(next.id).await.packets_out > 0);
    }

    #[tokio::test]
    async fn who_moved_ends_with_its_old_thread_and_with_its_new_one_and_others_go_on() {
        for (ports, is_old) in [(22_340..=22_359, true), (22_360..=22_379, false)] {
            let engine = engine(2, ports);
            let mut calls = [(); 2].map(|()| Call::open(&engine).expect("room"));
            let [moving, beside] = &mut calls;
            moving.is_heard().await;
            beside.is_heard().await;
            let (old, new) = (usize::from(moving.id.thread), usize::from(beside.id.thread));
            assert_ne!(old, new);
            engine.relieve(old, new, 1);
            let moves = async {
                // At the new one its place counts from before it begins to move.
                while engine.workers()[old].sessions() > 0 {
                    tokio::time::sleep(TICK).await;
                }
            };
            timeout(PATIENCE, moves).await.expect("it moves");
            moving.is_heard().await;
            let mut stays = if is_old {
                engine.give_up(old);
                moving.ends().await;
                let [_, beside] = calls;
                beside
            } else {
                let third = Call::open(&engine).expect("room");
                assert_eq!(usize::from(third.id.thread), old, "it has the fewest");
                engine.give_up(new);
                for call in &mut calls {
                    call.ends().await;
                }
                third
            };
            stays.is_heard().await;
            assert!(engine.close(stays.id).await.packets_out > 0, "it is steered as ever");
        }
    }

    #[tokio::test]
    async fn so_many_threads_take_the_place_of_others_and_then_calls_are_refused() {
        let engine = engine(1, 22_380..=22_399);
        for number in 0..=SPARES_MAX {
            let mut call = Call::open(&engine).expect("one runs");
            assert_eq!(usize::from(call.id.thread), number);
            call.is_heard().await;
            engine.give_up(number);
            call.ends().await;
        }
        assert!(matches!(Call::open(&engine), Err(MediaRefused::Down)));
        assert!(!engine.runs() && engine.health(clock::now()).refuses);
    }

    #[test]
    fn looks_at_which_a_thread_did_nothing_are_counted_until_it_does_something() {
        let at = Moment::from_millis;
        let mut hangs = Hangs::default();
        for look in 0..4 * HUNG_LOOKS {
            // One goes on, one stops once for 40 looks, one stops for ever.
            let stops_once = look.min(10).max(look.saturating_sub(39));
            assert_eq!(hangs.see(0, at(1_000 + u64::from(look))), 0);
            assert!(hangs.see(1, at(1_000 + u64::from(stops_once))) < 40);
            assert_eq!(hangs.see(2, at(1_000)), look);
        }
        assert_eq!(hangs.see(2, at(1_001)), 0, "it goes on");
    }
}
