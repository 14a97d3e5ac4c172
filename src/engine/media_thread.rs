//! The media engine: plain threads with an absolute beat that own the media sessions and their
//! sockets.
//!
//! A handle talks to a thread by a bounded queue of commands, which the thread reads every 5 ms. The
//! thread frees nothing: what it is done with goes back to the handles.

pub use crate::media::event::MediaEvent;
pub use crate::media::setup::MediaRules;
pub use crate::media::setup::MediaSetup;
pub use crate::media::statistics::MediaStatistics;
pub use crate::net::port_pool::NoPorts;
pub use crate::net::port_pool::PortChoice;
pub use crate::net::port_pool::RtpLocal;
pub use crate::net::port_pool::RtpPorts;

use crate::audio::bridge::BridgeEnd;
use crate::audio::bridge::MusicPlace;
use crate::audio::bridge::Waiting;
use crate::audio::link::MediaEnd;
use crate::audio::tape::TapeIn;
use crate::clock;
use crate::engine::media_events::MediaEvents;
use crate::engine::media_events::media_events;
use crate::engine::media_worker;
use crate::engine::media_worker::Admission;
use crate::engine::media_worker::Command;
use crate::engine::media_worker::Hosted;
use crate::engine::media_worker::TapeCommand;
use crate::engine::media_worker::Worker;
use crate::media::answering_machine::AnsweringMachineDetector;
use crate::media::equipment::Equipment;
use crate::media::listener::Listener;
use crate::media::session::Bridged;
use crate::media::session::Clip;
use crate::media::session::GuestGains;
use crate::media::session::MediaSession;
use crate::net::port_pool::PortPool;
use crate::sdp::MediaPlan;
use crate::sdp::Offered;
use crate::telemetry::metric;
use crate::telemetry::metric::Counter;
use crate::types::moment::Moment;
use std::io;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::OnceLock;
use std::time::Duration;

/// How the media engine is set up.
#[derive(Clone, Debug)]
pub struct MediaConfig {
    /// Media threads; 0: one for every two processors.
    pub threads: usize,
    /// Whether the threads ask for real-time priority. Refused, they run without and say so.
    pub realtime: bool,
    /// The RTP ports, RTCP included.
    pub ports: RangeInclusive<u16>,
}

/// More media threads than any machine has use for.
const THREADS_MAX: usize = 256;

/// Threads that take the place of such as hang. Where so many do, more would.
pub(super) const SPARES_MAX: usize = 4;

/// How long a thread may take to close a session before it is taken for stalled.
const CLOSE_MAX: Duration = Duration::from_secs(2);

/// A media session of the engine. Stays unique after the session is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MediaId {
    pub(crate) thread: u16,
    pub(crate) index: u16,
    pub(crate) generation: u32,
}

/// Why a session was not opened: the call gets 503.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MediaRefused {
    /// Every thread has as many sessions as it may.
    #[error("no media thread takes another session")]
    Full,
    /// The threads are at their limit of work or come late.
    #[error("the media threads are overloaded")]
    Overloaded,
    /// A thread does not read its commands.
    #[error("a media thread does not answer")]
    Stalled,
    /// Each thread met faults of ours again and again, or hangs, and stays down until the node is started anew.
    #[error("no media thread runs")]
    Down,
}

/// How busy the engine is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MediaLoad {
    /// Open sessions.
    pub sessions: usize,
    /// Processor time of a phase, averaged, of the busiest thread.
    pub phase_work: Duration,
    /// Phases that began more than a phase late, since the start.
    pub late_phases: u64,
    /// Ticks left out because a thread came too late, since the start.
    pub skipped_ticks: u64,
    /// Commands that were lost as too many waited for a thread, since the start.
    pub commands_dropped: u64,
    /// Ticks of sessions run, since the start.
    pub ticks: u64,
    /// Processor time all threads spent in phases, since the start.
    pub work: Duration,
    /// True while new sessions are refused.
    pub overloaded: bool,
}

impl MediaLoad {
    /// Sets the counters of what the threads did not do, or not in time.
    pub fn count(&self) {
        metric::counter(Counter::MediaTicksLate).absolute(self.late_phases);
        metric::counter(Counter::MediaTicksLeftOut).absolute(self.skipped_ticks);
        metric::counter(Counter::MediaCommandsDropped).absolute(self.commands_dropped);
    }
}

/// The media engine. Clones are handles to the same one; the threads end with the last.
#[derive(Clone, Debug)]
pub struct MediaEngine(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    workers: Vec<Arc<Worker>>,
    /// Those that took the place of others, in order.
    spares: [OnceLock<Arc<Worker>>; SPARES_MAX],
    realtime: bool,
    ports: Arc<PortPool>,
}

impl Inner {
    fn workers(&self) -> impl Iterator<Item = &Arc<Worker>> {
        self.workers.iter().chain(self.spares.iter().filter_map(OnceLock::get))
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.workers().for_each(|worker| worker.stop());
    }
}

impl MediaEngine {
    /// Starts the threads.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(config: MediaConfig) -> io::Result<Self> {
        let mut workers = Vec::new();
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = if config.threads == 0 { processors / 2 } else { config.threads };
        for number in 0..threads.clamp(1, THREADS_MAX) {
            let worker = Arc::new(Worker::new(number as u16));
            media_worker::spawn(Arc::clone(&worker), config.realtime)?;
            workers.push(worker);
        }
        let ports = PortPool::new(config.ports, clock::random_u64());
        let spares = std::array::from_fn(|_| OnceLock::new());
        let realtime = config.realtime;
        Ok(Self(Arc::new(Inner { workers, spares, realtime, ports })))
    }

    /// Starts a thread in the place of one that hangs. False when as many were started as may be.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub(super) fn start_spare(&self) -> io::Result<bool> {
        let mut spares = self.0.spares.iter().zip(self.0.workers.len()..);
        let unused = spares.find(|(spare, _)| spare.get().is_none());
        let Some((spare, number)) = unused else { return Ok(false) };
        let worker = Arc::new(Worker::new(number as u16));
        media_worker::spawn(Arc::clone(&worker), self.0.realtime)?;
        Ok(spare.set(worker).is_ok())
    }

    /// Binds a pair of RTP ports of `local`, one of `choice`. Dropping them gives them back.
    ///
    /// # Errors
    /// When none is free or the system gives no socket.
    pub fn reserve(
        &self,
        local: impl Into<RtpLocal>,
        choice: PortChoice<'_>,
    ) -> Result<RtpPorts, NoPorts> {
        self.collect_garbage();
        self.0.ports.reserve(local, choice)
    }

    /// Opens a session on the least loaded thread. Its first tick comes within 20 ms.
    ///
    /// Dropping the returned events closes the session; [`Self::close`] also gives its figures.
    ///
    /// # Errors
    /// When the threads take no further session.
    pub fn open(
        &self,
        mut ports: RtpPorts,
        setup: MediaSetup,
        end: MediaEnd,
    ) -> Result<(MediaId, MediaEvents), MediaRefused> {
        self.collect_garbage();
        let worker = self.least_loaded(clock::now())?;
        let place = worker.take_place().ok_or(MediaRefused::Full)?;
        let id = place.id();
        let (events_in, events) = media_events();
        events_in.is_with(id.thread);
        worker.hold(id, events.lifeline());
        let session = MediaSession::boxed(clock::now(), setup, end);
        drop(ports.part_rtcp(!session.muxes_rtcp()));
        let hosted = Box::new(Hosted::new(place, session, ports, events_in));
        if worker.commands.push(Command::Open(hosted)).is_err() {
            return Err(MediaRefused::Stalled);
        }
        // Whoever gives a thread up says so before it looks for sessions.
        if worker.gauges.is_given_up() {
            return Err(MediaRefused::Stalled);
        }
        Ok((id, events))
    }

    /// The thread for a new session: of those that keep up, the one with the fewest.
    fn least_loaded(&self, now: Moment) -> Result<&Arc<Worker>, MediaRefused> {
        if !self.runs() {
            return Err(MediaRefused::Down);
        }
        let mut able = self.0.workers().filter(|worker| takes_sessions(worker)).peekable();
        if able.peek().is_none() {
            return Err(MediaRefused::Overloaded);
        }
        // Where all stand still it is the machine, and may be over in a moment.
        let by = |worker: &&Arc<Worker>| (worker.gauges.is_stalled(now), worker.sessions());
        able.min_by_key(by).ok_or(MediaRefused::Full)
    }

    /// Whether new sessions are refused, since no thread runs and keeps up.
    pub(super) fn refuses(&self) -> bool {
        !self.0.workers().any(|worker| takes_sessions(worker))
    }

    /// Whether a thread runs: one that met faults again and again, or hangs, does so no more before the node is started
    /// anew.
    #[must_use]
    pub fn runs(&self) -> bool {
        self.0.workers().any(|worker| !worker.gauges.is_down())
    }

    /// Puts a new plan in force: an answer, a hold, a resume.
    pub fn update(&self, id: MediaId, plan: MediaPlan) {
        // What the plan needs is made here: the thread allocates nothing.
        let with = Equipment::of(&plan);
        self.command(id, Command::Update(id, Box::new(plan), with));
    }

    /// Lets be heard what the peer says by an offer of ours before its answer is here; `None`: nothing came of it.
    pub fn expect(&self, id: MediaId, offered: Option<Offered>) {
        let with = offered.as_ref().map(Equipment::of_offer).unwrap_or_default();
        self.command(id, Command::Expect(id, offered.map(Box::new), with));
    }

    /// Replaces the link to the agent; the old one reports `Closed` to its agent.
    pub fn attach(&self, id: MediaId, end: MediaEnd) {
        self.command(id, Command::Attach(id, Box::new(end)));
    }

    /// Lets the session send and the agent be heard: the caller confirmed the answer.
    pub fn start_playout(&self, id: MediaId) {
        self.command(id, Command::StartPlayout(id));
    }

    /// Lets the peers of two sessions hear each other, on whatever threads they are. Their agents, if
    /// any, hear silence meanwhile, and what they say is dropped. A bridge before is replaced.
    pub fn bridge(&self, one: MediaId, other: MediaId) {
        let (end_one, end_other) = BridgeEnd::pair();
        self.command(one, Command::Bridge(one, Bridged::new(end_one)));
        self.command(other, Command::Bridge(other, Bridged::new(end_other)));
    }

    /// Lets the peer of `listener` hear that of `speaker`, which hears comfort noise: early media.
    pub fn bridge_one_way(&self, speaker: MediaId, listener: MediaId) {
        let (end_speaker, end_listener) = BridgeEnd::one_way();
        self.command(speaker, Command::Bridge(speaker, Bridged::new(end_speaker)));
        self.command(listener, Command::Bridge(listener, Bridged::new(end_listener)));
    }

    /// Lets the peer wait: it is heard by nobody, and hears `waiting`.
    pub fn isolate(&self, id: MediaId, waiting: Waiting) {
        self.command(id, Command::Bridge(id, Bridged::new(BridgeEnd::nowhere(waiting))));
    }

    /// The same, and it hears what is in `music` again and again, as soon as it is there.
    pub fn isolate_with_music(&self, id: MediaId, music: MusicPlace) {
        self.command(id, Command::Bridge(id, Bridged::new(BridgeEnd::to_music(music))));
    }

    /// Lets the peer talk with its session's agent again. The other session of its bridge hears comfort
    /// noise until it is told something else.
    pub fn unbridge(&self, id: MediaId) {
        self.command(id, Command::Unbridge(id));
    }

    /// Lets the peer of `guest` take part in what `host` is about, as its guest number `place`: the peer there and
    /// whom that talks with go on as they are.
    pub fn admit(&self, host: MediaId, (place, guest): (usize, MediaId), gains: GuestGains) {
        let (own, theirs) = BridgeEnd::pair();
        let (end, guests) = (Some(Box::new(own)), Some(Box::default()));
        let admission = Admission { place, gains, end, guests };
        self.command(host, Command::Admit(host, Box::new(admission)));
        self.command(guest, Command::Bridge(guest, Bridged::new(theirs)));
    }

    /// Lets other gains hold for guest number `place` of a session.
    pub fn regard(&self, host: MediaId, place: usize, gains: GuestGains) {
        self.command(host, Command::Regard(host, place, gains));
    }

    /// Lets guest number `place` of a session go: it hears noise until it is told something else.
    pub fn dismiss(&self, host: MediaId, place: usize) {
        self.command(host, Command::Dismiss(host, place));
    }

    /// Replaces the link to the agent and gives the old one, whose agent notices nothing: so it can be
    /// attached to another session. `None` when the session is closed, or its thread stalled.
    pub async fn exchange(&self, id: MediaId, end: MediaEnd) -> Option<MediaEnd> {
        let (reply, exchanged) = tokio::sync::oneshot::channel();
        self.command(id, Command::Exchange(id, Box::new(end), reply));
        match tokio::time::timeout(CLOSE_MAX, exchanged).await {
            Ok(Ok(before)) => Some(*before),
            Ok(Err(_)) | Err(_) => None,
        }
    }

    /// Puts the rules of another trunk in force.
    pub fn rule(&self, id: MediaId, rules: MediaRules) {
        self.command(id, Command::Rule(id, Box::new(rules)));
    }

    /// Lets the session go on with other ports: nobody was told of those before.
    pub fn move_to(&self, id: MediaId, ports: RtpPorts) {
        self.command(id, Command::Move(id, Box::new(ports)));
    }

    /// Presses a key towards the peer (RFC 4733). Nothing happens where it takes no events.
    pub fn send_digit(&self, id: MediaId, digit: char) {
        self.command(id, Command::SendDigit(id, digit));
    }

    /// The peer pressed a key that its audio does not have.
    pub fn key_pressed(&self, id: MediaId) {
        self.command(id, Command::KeyPressed(id));
    }

    /// Lets the peer hear `clip` instead of whom it talks with.
    pub fn play(&self, id: MediaId, clip: Box<Clip>) {
        self.command(id, Command::Play(id, clip));
    }

    /// Lets the peer hear whom it talks with again.
    pub fn stop_playing(&self, id: MediaId) {
        self.command(id, Command::StopPlaying(id));
    }

    /// Lets silence be heard in place of the peer (`inward`), and by it (`outward`).
    pub fn mute(&self, id: MediaId, inward: bool, outward: bool) {
        self.command(id, Command::Mute(id, (inward, outward)));
    }

    /// Lets `listener` hear the peer beside its agent; `None`: nobody.
    pub fn listen(&self, id: MediaId, listener: Option<Box<Listener>>) {
        self.command(id, Command::Listen(id, listener));
    }

    /// Lets `machine` find out who answered, from now on.
    pub fn screen(&self, id: MediaId, machine: Box<AnsweringMachineDetector>) {
        self.command(id, Command::Screen(id, machine));
    }

    /// Puts what is heard and sent on `tape`.
    pub fn record(&self, id: MediaId, tape: Box<TapeIn>) {
        self.command(id, Command::Tape(id, TapeCommand::Start(tape)));
    }

    /// Puts nothing on the tape of a session, or goes on with it.
    pub fn pause_recording(&self, id: MediaId, paused: bool) {
        self.command(id, Command::Tape(id, TapeCommand::Pause(paused)));
    }

    /// Ends the tape of a session: its reader finds it over soon.
    pub fn stop_recording(&self, id: MediaId) {
        self.command(id, Command::Tape(id, TapeCommand::Stop));
    }

    /// The figures of a session as they are; `None` when it is closed, or its thread stalled.
    pub async fn statistics(&self, id: MediaId) -> Option<MediaStatistics> {
        let (reply, figures) = tokio::sync::oneshot::channel();
        self.command(id, Command::Report(id, reply));
        tokio::time::timeout(CLOSE_MAX, figures).await.ok()?.ok()
    }

    /// Closes the session, says goodbye by RTCP, frees its ports, and gives its last figures. Those of
    /// a session already closed are empty.
    pub async fn close(&self, id: MediaId) -> MediaStatistics {
        let (reply, closed) = tokio::sync::oneshot::channel();
        self.command(id, Command::Close(id, reply));
        match tokio::time::timeout(CLOSE_MAX, closed).await {
            Ok(Ok(hosted)) => hosted.statistics(),
            // Closed before, or the thread is stalled.
            Ok(Err(_)) | Err(_) => MediaStatistics::default(),
        }
    }

    /// How busy the engine is.
    #[must_use]
    pub fn load(&self) -> MediaLoad {
        self.collect_garbage();
        let mut load = MediaLoad::default();
        for worker in self.0.workers() {
            // Those of a thread that was given up ended with their calls.
            load.sessions += if worker.gauges.is_given_up() { 0 } else { worker.sessions() };
            worker.gauges.add_to(&mut load);
        }
        load.overloaded = self.refuses();
        load
    }

    /// A command that finds its queue full is lost, which is counted, and told once a second (`media_watch.rs`): the
    /// thread stood still for long. One that hangs is given up, and its calls end; one that goes on does so without what
    /// was lost. A session that was to be closed then ends by itself, when nobody has read its events for a while.
    fn command(&self, id: MediaId, command: Command) {
        let Some(worker) = self.worker(usize::from(id.thread)) else { return };
        if worker.gauges.is_given_up() {
            return;
        }
        if worker.commands.push(command).is_err() {
            worker.gauges.dropped();
        }
        self.collect_garbage();
    }

    /// The threads, as their handles see them, each in the place of its number.
    pub(super) fn each_worker(&self) -> impl Iterator<Item = &Arc<Worker>> {
        self.0.workers()
    }

    /// Thread number `number`.
    pub(super) fn worker(&self, number: usize) -> Option<&Arc<Worker>> {
        let spare = || self.0.spares.get(number.checked_sub(self.0.workers.len())?)?.get();
        self.0.workers.get(number).or_else(spare)
    }

    /// The threads that it was started with.
    #[cfg(test)]
    pub(super) fn workers(&self) -> &[Arc<Worker>] {
        &self.0.workers
    }

    /// Frees what the threads are done with.
    fn collect_garbage(&self) {
        for worker in self.0.workers() {
            while let Some(garbage) = worker.garbage.pop() {
                drop(garbage);
            }
        }
    }
}

/// Whether a thread runs and keeps up.
fn takes_sessions(worker: &Worker) -> bool {
    let gauges = &worker.gauges;
    !gauges.is_down() && !gauges.is_doubted() && !gauges.is_overloaded()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::link::AgentEnd;
    use crate::audio::link::LinkEvent;
    use crate::audio::link::link;
    use crate::audio::ringback::RingbackForm;
    use crate::net::rtp_socket::RtpSocket;
    use crate::types::limit::MEDIA_COMMANDS_MAX;
    use metrics_exporter_prometheus::PrometheusBuilder;
    use std::net::IpAddr;
    use std::net::SocketAddr;

    /// An address that no other test uses, so that ports never collide.
    const ADDRESS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(127, 91, 8, 1));

    /// Far more than anything here takes, even on a machine that does much else.
    const PATIENCE: Duration = Duration::from_secs(60);

    const LOUD: u8 = 0x10;

    fn engine(ports: RangeInclusive<u16>) -> MediaEngine {
        let config = MediaConfig { threads: 1, realtime: false, ports };
        MediaEngine::start(config).expect("threads")
    }

    fn setup(remote: SocketAddr) -> MediaSetup {
        MediaSetup::new(Some(MediaPlan::for_test(remote)), clock::random_u64())
    }

    async fn next(agent: &mut AgentEnd) -> LinkEvent {
        let event = std::future::poll_fn(|context| {
            agent.register(context.waker());
            agent.next().map_or(std::task::Poll::Pending, std::task::Poll::Ready)
        });
        tokio::time::timeout(PATIENCE, event).await.expect("an event in time")
    }

    async fn next_event(events: &mut MediaEvents) -> Option<MediaEvent> {
        tokio::time::timeout(PATIENCE, events.recv()).await.expect("an event in time")
    }

    /// An engine whose threads do nothing but what their gauges say.
    fn engine_of_gauges(threads: u16) -> MediaEngine {
        let workers = (0..threads).map(|number| Arc::new(Worker::new(number))).collect();
        let ports = PortPool::new(21_500..=21_501, 1);
        let spares = std::array::from_fn(|_| OnceLock::new());
        MediaEngine(Arc::new(Inner { workers, spares, realtime: false, ports }))
    }

    #[test]
    fn new_sessions_go_to_threads_that_run_and_keep_up_as_long_as_there_is_one() {
        let engine = engine_of_gauges(3);
        let [one, two, three] = engine.workers() else { panic!("three") };
        let now = clock::now() + Duration::from_secs(1);
        let chosen = || engine.least_loaded(now).map(|worker| worker.number());
        // None has a beat of this second: the machine stood still.
        assert_eq!(chosen(), Ok(0));
        assert_eq!(engine.health(now).stalled, 3);
        two.gauges.beat(now);
        three.gauges.beat(now);
        let places: Vec<_> = (0..5).map(|_| two.take_place().expect("free")).collect();
        assert_eq!(chosen(), Ok(2), "the first stands still, the second has more to do");
        let overload = |worker: &Worker| {
            (0..300).for_each(|_| {
                worker.gauges.phase_ran(Duration::from_micros(4_500), Duration::ZERO, 1);
            });
        };
        overload(three);
        assert_eq!(chosen(), Ok(1), "one too busy refuses nobody while another has room");
        assert_eq!((engine.load().overloaded, engine.health(now).refuses), (false, false));
        overload(two);
        overload(one);
        assert_eq!(chosen(), Err(MediaRefused::Overloaded));
        assert_eq!((engine.load().overloaded, engine.health(now).refuses), (true, true));
        drop(places);
    }

    /// The metrics, as they are shown.
    fn shown(engine: &MediaEngine) -> String {
        let recorder = PrometheusBuilder::new().build_recorder();
        metrics::with_local_recorder(&recorder, || engine.load().count());
        recorder.handle().render()
    }

    #[test]
    fn a_phase_that_begins_after_its_time_is_counted_at_whatever_thread() {
        let engine = engine_of_gauges(2);
        let late_ms = [0, 5, 6, 80];
        for (worker, late_ms) in engine.workers().iter().cycle().zip(late_ms.repeat(2)) {
            worker.gauges.phase_ran(Duration::ZERO, Duration::from_millis(late_ms), 1);
        }
        let text = shown(&engine);
        assert!(text.contains("media_ticks_late_total 4\n"), "{text}");
        assert!(text.contains("media_ticks_left_out_total 0\n"), "none was: {text}");
    }

    #[test]
    fn commands_that_find_no_room_are_counted() {
        let engine = engine_of_gauges(2);
        for thread in 0..2 {
            let id = MediaId { thread, index: 0, generation: 0 };
            (0..MEDIA_COMMANDS_MAX).for_each(|_| engine.key_pressed(id));
            assert_eq!(engine.load().commands_dropped, 3 * u64::from(thread), "there was room");
            (0..3).for_each(|_| engine.pause_recording(id, true));
        }
        assert_eq!(engine.health(clock::now()).commands_dropped, 6);
        let text = shown(&engine);
        assert!(text.contains("media_commands_dropped_total 6\n"), "{text}");
    }

    #[test]
    fn sessions_move_to_the_idlest_thread_that_comes_in_time() {
        let engine = engine_of_gauges(3);
        let [one, two, three] = engine.workers() else { panic!("three") };
        let now = clock::now();
        let run = |worker: &Worker, work_us: u64, late_ms: u64| {
            let (work, late) = (Duration::from_micros(work_us), Duration::from_millis(late_ms));
            (0..300).for_each(|_| worker.gauges.phase_ran(work, late, 1));
        };
        run(one, 2_500, 0);
        run(two, 500, 0);
        run(three, 50, 8);
        assert_eq!(engine.uneven(now), Some((0, 1)), "the third is late with little to do");
        run(three, 50, 0);
        assert_eq!(engine.uneven(now), Some((0, 2)));
        run(two, 2_400, 0);
        run(three, 2_400, 0);
        assert_eq!(engine.uneven(now), None);
    }

    #[tokio::test]
    async fn a_session_that_is_moved_is_the_same_for_who_has_its_identity() {
        let config = MediaConfig { threads: 2, realtime: false, ports: 21_600..=21_603 };
        let engine = MediaEngine::start(config).expect("threads");
        let ports = engine.reserve(ADDRESS, PortChoice::ANY).expect("free");
        let (id, mut events, mut agent) = open(&engine, ports, SocketAddr::new(ADDRESS, 9));
        engine.start_playout(id);
        let (from, to) = (usize::from(id.thread), 1 - usize::from(id.thread));
        engine.relieve(from, to, 1);
        // Its place at the first thread stays its own, and it has one at the other.
        for _ in 0..400 {
            assert!(engine.statistics(id).await.is_some(), "always answered");
            if engine.load().sessions == 1 {
                break;
            }
        }
        assert_eq!((engine.load().sessions, engine.workers()[to].sessions()), (1, 1));
        assert_eq!(agent.push_audio(&[LOUD; 1_600]), 1_600);
        assert!(agent.push_mark(3));
        while next(&mut agent).await != (LinkEvent::Mark { id: 3, played_ms: 200 }) {}
        assert!(engine.close(id).await.packets_out > 0);
        assert_eq!(next_event(&mut events).await, None);
        engine.collect_garbage();
        assert_eq!(engine.load().sessions, 0);
    }

    #[tokio::test]
    async fn two_sessions_talk_over_real_sockets() {
        let engine = engine(21_000..=21_099);
        let (ports_one, ports_two) = (
            engine.reserve(ADDRESS, PortChoice::ANY).expect("free"),
            engine.reserve(ADDRESS, PortChoice::ANY).expect("free"),
        );
        let one_at = SocketAddr::new(ADDRESS, ports_one.rtp_port);
        let two_at = SocketAddr::new(ADDRESS, ports_two.rtp_port);
        let ((end_one, mut agent_one), (end_two, mut agent_two)) = (link(), link());
        let (one, _events_one) =
            engine.open(ports_one, setup(two_at), end_one).expect("room for one");
        let (two, mut events_two) =
            engine.open(ports_two, setup(one_at), end_two).expect("room for another");
        assert_eq!(engine.load().sessions, 2);
        assert_eq!(agent_one.push_audio(&[LOUD; 8_000]), 8_000);
        assert!(agent_one.push_mark(5));
        engine.start_playout(one);

        let mut loud = 0;
        while loud < 10 {
            if let LinkEvent::Audio(frame) = next(&mut agent_two).await {
                loud += usize::from(frame.contains(&LOUD));
            }
        }
        assert_eq!(next_event(&mut events_two).await, Some(MediaEvent::FirstPacket));
        while next(&mut agent_one).await != (LinkEvent::Mark { id: 5, played_ms: 1_000 }) {}
        let statistics = engine.close(two).await;
        assert!(statistics.packets_in >= 10, "{statistics:?}");
        assert_eq!(next_event(&mut events_two).await, None);
        assert_eq!(engine.close(two).await, MediaStatistics::default(), "closed once");
        assert!(engine.close(one).await.packets_out >= 10);
        while next(&mut agent_one).await != LinkEvent::Closed {}
        assert_eq!(engine.load().sessions, 0);
    }

    #[tokio::test]
    async fn a_link_can_be_replaced_and_a_plan_changed_while_it_runs() {
        let engine = engine(21_100..=21_101);
        let ports = engine.reserve(ADDRESS, PortChoice::ANY).expect("free");
        let nowhere = SocketAddr::new(ADDRESS, 9);
        let (end, mut before) = link();
        let (id, _events) = engine.open(ports, setup(nowhere), end).expect("room");
        while !matches!(next(&mut before).await, LinkEvent::Audio(_)) {}
        let (end, mut after) = link();
        engine.attach(id, end);
        engine.update(id, MediaPlan::for_test(nowhere));
        while next(&mut before).await != LinkEvent::Closed {}
        assert!(matches!(next(&mut after).await, LinkEvent::Audio(_)));
        assert!(matches!(engine.reserve(ADDRESS, PortChoice::ANY), Err(NoPorts::Exhausted)));
    }

    #[tokio::test]
    async fn rtcp_that_shares_the_port_of_rtp_has_no_socket() {
        let engine = engine(21_400..=21_403);
        let (mut apart, nowhere) =
            (MediaPlan::for_test(SocketAddr::new(ADDRESS, 9)), SocketAddr::new(ADDRESS, 9));
        apart.rtcp_mux = false;
        let shared = MediaPlan { rtcp_mux: true, ..apart.clone() };
        let ports = engine.reserve(ADDRESS, PortChoice::ANY).expect("free");
        let at = SocketAddr::new(ADDRESS, ports.rtcp_port);
        let is_bound = || RtpSocket::bind(at).is_err();
        assert!(is_bound(), "what will be agreed on is not known yet");
        let plan = Some(shared.clone());
        let (id, _events) =
            engine.open(ports, MediaSetup { plan, ..setup(nowhere) }, link().0).expect("room");
        assert!(!is_bound(), "agreed before it was opened");
        for (plan, expected) in [(&apart, true), (&shared, false), (&apart, true)] {
            engine.update(id, plan.clone());
            let _done = engine.statistics(id).await;
            engine.collect_garbage();
            assert_eq!(is_bound(), expected);
        }
        // Other ports come with both of their sockets.
        engine.update(id, shared);
        let other = engine.reserve(ADDRESS, PortChoice::ANY).expect("free");
        let at = SocketAddr::new(ADDRESS, other.rtcp_port);
        engine.move_to(id, other);
        let _done = engine.statistics(id).await;
        engine.collect_garbage();
        assert!(RtpSocket::bind(at).is_ok());
    }

    /// Opens a session that talks to `remote`.
    fn open(
        engine: &MediaEngine,
        ports: RtpPorts,
        remote: SocketAddr,
    ) -> (MediaId, MediaEvents, AgentEnd) {
        let (end, agent) = link();
        let (id, events) = engine.open(ports, setup(remote), end).expect("room");
        (id, events, agent)
    }

    #[tokio::test]
    async fn peers_of_bridged_sessions_on_two_threads_hear_each_other() {
        let config = MediaConfig { threads: 2, realtime: false, ports: 21_300..=21_399 };
        let engine = MediaEngine::start(config).expect("threads");
        let reserve = || engine.reserve(ADDRESS, PortChoice::ANY).expect("free");
        let at = |ports: &RtpPorts| SocketAddr::new(ADDRESS, ports.rtp_port);
        // Two telephones, and the two legs they talk to.
        let [phone_one, leg_one, leg_two, phone_two] = std::array::from_fn(|_| reserve());
        let addresses = [&phone_one, &leg_one, &leg_two, &phone_two].map(at);
        let (one, _events_one, mut agent_one) = open(&engine, leg_one, addresses[0]);
        let (two, _events_two, _agent_two) = open(&engine, leg_two, addresses[3]);
        let (speaker, _events_speaker, mut voice) = open(&engine, phone_one, addresses[1]);
        let (listener, _events_listener, mut ear) = open(&engine, phone_two, addresses[2]);
        assert_ne!(one.thread, two.thread);
        engine.bridge(one, two);
        assert!(voice.push_audio(&[LOUD; 4_000]) == 4_000);
        for id in [one, two, speaker, listener] {
            engine.start_playout(id);
        }
        let mut loud = 0;
        while loud < 10 {
            if let LinkEvent::Audio(frame) = next(&mut ear).await {
                loud += usize::from(frame.contains(&LOUD));
            }
        }
        // The agent of the first leg is moved to another session, and notices nothing.
        let (fresh, _no_agent) = link();
        let moved = engine.exchange(one, fresh).await.expect("it was open");
        engine.attach(two, moved);
        engine.unbridge(two);
        engine.isolate(one, Waiting::Ringback(RingbackForm::of_country("IN")));
        assert_eq!(agent_one.push_audio(&[LOUD; 1_600]), 1_600);
        assert!(agent_one.push_mark(9));
        loop {
            match next(&mut agent_one).await {
                LinkEvent::Mark { id: 9, played_ms: 200 } => break,
                LinkEvent::Closed => panic!("the agent's link must go on"),
                _ => (),
            }
        }
        assert!(engine.close(one).await.packets_out > 0);
        let (late, _agent) = link();
        assert!(engine.exchange(one, late).await.is_none());
    }

    #[tokio::test]
    async fn a_session_ends_when_its_call_is_gone() {
        let engine = engine(21_200..=21_203);
        let ports = engine.reserve(ADDRESS, PortChoice::ANY).expect("free");
        let (end, mut agent) = link();
        let (_, events) =
            engine.open(ports, setup(SocketAddr::new(ADDRESS, 9)), end).expect("room");
        drop(events);
        while next(&mut agent).await != LinkEvent::Closed {}
        // Its place is free once a handle has freed what the thread is done with.
        while engine.load().sessions > 0 {
            tokio::task::yield_now().await;
        }
    }
}
