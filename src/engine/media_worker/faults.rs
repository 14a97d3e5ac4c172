//! Faults of a media thread outside any session: they end its calls, and never it, unless it meets them again and again. A
//! fault in a session ends that one alone (`MediaThread::with`).

use crate::clock;
use crate::engine::fault_count::Faults;
use crate::engine::media_worker::COMMANDS_PER_PHASE_MAX;
use crate::engine::media_worker::Command;
use crate::engine::media_worker::Garbage;
use crate::engine::media_worker::Hosted;
use crate::engine::media_worker::MediaThread;
use crate::engine::media_worker::Worker;
use crate::media::event::MediaEvent;
use crate::media::pace::PHASES;
use crate::media::pace::TICK;
use std::panic::AssertUnwindSafe;
use std::panic::catch_unwind;
use std::sync::Arc;
use std::time::Duration;

/// Pause after a fault of a thread that is down.
const REST: Duration = Duration::from_secs(1);

/// The lives of a media thread until it is stopped: a fault ends one, and the next one begins with nothing of it but the
/// sessions that wait for their calls to close them.
pub(super) fn live(worker: &Arc<Worker>) {
    let (mut faults, mut before) = (Faults::default(), None);
    loop {
        let mut thread = MediaThread::new(Arc::clone(worker));
        let life = catch_unwind(AssertUnwindSafe(|| {
            if let Some(before) = before.take() {
                thread.take_over(before);
            }
            if worker.gauges.is_down() { thread.stay_down() } else { thread.run() }
        }));
        // One that was given up has no calls left, and another has its place.
        if life.is_ok() || worker.gauges.is_given_up() {
            return;
        }
        worker.gauges.met_fault();
        if worker.gauges.is_down() {
            std::thread::sleep(REST);
        } else if faults.add(clock::now()) {
            worker.gauges.goes_down();
        }
        before = Some(thread);
    }
}

impl MediaThread {
    /// Takes what is left of a life that met a fault. Who moved away is as well as ever, and is asked for here.
    pub(super) fn take_over(&mut self, before: Self) {
        let Self { slots, moved, closed, mut desk, .. } = before;
        (self.moved, self.closed) = (moved, closed);
        for mut hosted in slots.into_iter().flatten() {
            // This life has models and rooms for packets of its own.
            hosted.session.give_back(&mut desk.out);
            self.give_up(hosted);
        }
        // Agents that have something to hear do not wait for others.
        desk.sleepers.wake();
    }

    /// Keeps a session in which the fault may have left anything. It does nothing any more and its call is told so, which
    /// ends, and closes it: then it is read for its figures. One that did nothing before is let go, for the fault may be in
    /// keeping it.
    fn give_up(&mut self, mut hosted: Box<Hosted>) {
        if std::mem::replace(&mut hosted.failed, true) {
            return self.discard(Garbage::Session(hosted));
        }
        hosted.events.push(MediaEvent::Failed);
        let index = hosted.place.id().index;
        if let Some(phase) = self.phases.get_mut(hosted.phase) {
            phase.push(index);
        }
        if let Some(slot) = self.slots.get_mut(usize::from(index)) {
            *slot = Some(hosted);
        }
    }

    /// Runs no session any more, until it is stopped.
    fn stay_down(&mut self) {
        while !self.worker.is_stopped() {
            self.desk.read_clocks();
            self.worker.gauges.beat(self.desk.now);
            self.turn_away();
            std::thread::sleep(TICK);
        }
    }

    /// Takes nothing new. Sessions that were given up go back to their calls, and what is asked of those that moved from here
    /// is passed on to where they are.
    pub(super) fn turn_away(&mut self) {
        for _ in 0..COMMANDS_PER_PHASE_MAX {
            let Some(command) = self.worker.next_command() else { break };
            match self.pass_on(command) {
                Some(Command::Close(id, reply)) => self.close(id, reply),
                // Nothing here is in a hurry, and who waits for an answer learns that there is none.
                Some(refused) => drop(refused),
                None => (),
            }
        }
        // Those whose calls are gone without a word.
        for phase in 0..PHASES {
            self.run_phase(phase);
        }
        self.give_back();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::link::AgentEnd;
    use crate::audio::link::LinkEvent;
    use crate::audio::link::link;
    use crate::engine::fault_count::FAULTS_MAX;
    use crate::engine::media_events::MediaEvents;
    use crate::engine::media_thread::MediaConfig;
    use crate::engine::media_thread::MediaEngine;
    use crate::engine::media_thread::MediaId;
    use crate::engine::media_thread::MediaRefused;
    use crate::engine::media_thread::MediaSetup;
    use crate::engine::media_thread::PortChoice;
    use crate::media::statistics::MediaStatistics;
    use crate::net::rtp_socket::RtpSocket;
    use crate::sdp::MediaPlan;
    use std::net::IpAddr;
    use std::net::Ipv4Addr;
    use std::net::SocketAddr;
    use std::task::Poll;
    use std::task::Wake;
    use std::task::Waker;
    use tokio::sync::oneshot;
    use tokio::sync::oneshot::error::TryRecvError;
    use tokio::time::timeout;

    /// An address that no other test uses, so that ports never collide.
    const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 91, 9, 3));

    /// Far more than anything here takes, even on a machine that does much else.
    const PATIENCE: Duration = Duration::from_secs(60);

    /// The waker of an agent that no media thread can wake.
    struct Fatal;

    impl Wake for Fatal {
        fn wake(self: Arc<Self>) {
            let thread = std::thread::current();
            assert!(!thread.name().is_some_and(|name| name.starts_with("media-")), "on purpose");
        }
    }

    fn engine(threads: usize, ports: std::ops::RangeInclusive<u16>) -> MediaEngine {
        let config = MediaConfig { threads, realtime: false, ports };
        MediaEngine::start(config).expect("threads")
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

        /// Waits until it sent something.
        async fn talks(&self, engine: &MediaEngine) {
            let talks = async {
                while engine.statistics(self.id).await.is_none_or(|own| own.packets_out == 0) {}
            };
            timeout(PATIENCE, talks).await.expect("it sends");
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

        /// Waits until it is told that its session failed.
        async fn fails(&mut self) {
            let told = async {
                loop {
                    match self.events.recv().await {
                        Some(MediaEvent::Failed) => break,
                        Some(_) => (),
                        None => panic!("its session is gone, and its figures with it"),
                    }
                }
            };
            timeout(PATIENCE, told).await.expect("it is told");
        }

        /// Ends a life of its thread.
        async fn strike(&mut self) {
            let waker = Waker::from(Arc::new(Fatal));
            let fails = async {
                loop {
                    // A waker that comes while the one before is taken is woken here, and not kept.
                    self.agent.register(&waker);
                    if timeout(TICK * 5, self.fails()).await.is_ok() {
                        break;
                    }
                }
            };
            timeout(PATIENCE, fails).await.expect("its thread is struck");
        }

        /// Ends as a call does that was told so. Its figures, and that its port is free.
        async fn end(self, engine: &MediaEngine) -> MediaStatistics {
            drop(self.events);
            let figures = engine.close(self.id).await;
            assert!(RtpSocket::bind(self.at).is_ok(), "its port is still taken");
            figures
        }
    }

    #[tokio::test]
    async fn a_fault_of_a_thread_ends_its_calls_with_their_figures_and_no_call_behind_them() {
        let engine = engine(1, 22_140..=22_159);
        let mut one = Call::open(&engine).expect("room");
        let mut other = Call::open(&engine).expect("room");
        one.talks(&engine).await;
        other.talks(&engine).await;
        one.strike().await;
        other.fails().await;
        let health = engine.health(clock::now());
        assert_eq!((health.faults, health.down), (1, 0));
        // Silent until their calls end them, and no longer.
        assert_eq!(engine.load().sessions, 2);
        assert!(one.end(&engine).await.packets_out > 0);
        assert!(other.end(&engine).await.packets_out > 0);
        assert_eq!(engine.load().sessions, 0);
        let mut next = Call::open(&engine).expect("the thread lives");
        next.is_heard().await;
        next.talks(&engine).await;
        assert!(next.end(&engine).await.packets_out > 0);
    }

    #[tokio::test]
    async fn a_call_that_is_gone_when_its_thread_meets_a_fault_keeps_no_place() {
        let engine = engine(1, 22_160..=22_179);
        let mut one = Call::open(&engine).expect("room");
        let gone = Call::open(&engine).expect("room");
        gone.talks(&engine).await;
        one.strike().await;
        drop(gone);
        one.end(&engine).await;
        let empty = async {
            while engine.load().sessions > 0 {
                tokio::time::sleep(TICK).await;
            }
        };
        timeout(PATIENCE, empty).await.expect("its place is free");
    }

    #[tokio::test]
    async fn a_thread_that_meets_faults_again_and_again_stays_down_and_calls_are_refused() {
        let engine = engine(1, 22_180..=22_219);
        // A machine on which four of them take longer than a minute needs some more.
        for number in 1..=16 {
            let mut call = Call::open(&engine).expect("it lives");
            call.talks(&engine).await;
            call.strike().await;
            let health = engine.health(clock::now());
            // Of the last one as well.
            assert!(call.end(&engine).await.packets_out > 0);
            assert_eq!(health.faults, number);
            if health.down > 0 {
                assert!(number >= FAULTS_MAX as u64, "too early: {number}");
                break;
            }
        }
        assert!(matches!(Call::open(&engine), Err(MediaRefused::Down)));
        assert!(!engine.runs() && engine.health(clock::now()).refuses);
        assert_eq!(engine.load().sessions, 0);
    }

    #[tokio::test]
    async fn while_one_thread_is_down_calls_go_to_another() {
        let engine = engine(2, 22_220..=22_259);
        let [first, ..] = engine.workers() else { panic!("two") };
        first.gauges.goes_down();
        let mut calls = Vec::new();
        for _ in 0..4 {
            let mut call = Call::open(&engine).expect("one runs");
            assert_eq!(call.id.thread, 1);
            call.is_heard().await;
            calls.push(call);
        }
        assert_eq!((engine.health(clock::now()).down, engine.runs()), (1, true));
    }

    #[test]
    fn what_is_asked_of_a_thread_that_is_down_is_refused_and_nobody_waits() {
        let worker = Arc::new(Worker::new(0));
        let mut thread = MediaThread::new(Arc::clone(&worker));
        let id = worker.take_place().expect("free").id();
        let (reply, mut figures) = oneshot::channel();
        assert!(worker.commands.push(Command::Report(id, reply)).is_ok());
        let (reply, mut closed) = oneshot::channel();
        assert!(worker.commands.push(Command::Close(id, reply)).is_ok());
        thread.turn_away();
        while worker.garbage.pop().is_some() {}
        assert_eq!(figures.try_recv().err(), Some(TryRecvError::Closed));
        assert_eq!(closed.try_recv().err(), Some(TryRecvError::Closed));
    }
}
