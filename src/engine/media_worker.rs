//! One media thread: its places, its commands, its loop.

mod ahead;
mod faults;
mod gauges;
mod guests;
mod hosted;
mod hushes;
mod idle_memory;
mod listeners;
mod lone_packets;
mod moving;
mod phase_moves;
mod phase_work;
mod places;
mod plans;
mod sleepers;
mod tapes;

pub(crate) use crate::engine::media_worker::gauges::Gauges;
pub(crate) use crate::engine::media_worker::guests::Admission;
pub(crate) use crate::engine::media_worker::hosted::Hosted;
pub(crate) use crate::engine::media_worker::moving::Leaving;
pub(crate) use crate::engine::media_worker::places::Place;
pub(crate) use crate::engine::media_worker::tapes::TapeCommand;

use crate::audio::bridge::BridgeEnd;
use crate::audio::link::MediaEnd;
use crate::audio::tape::TapeIn;
use crate::clock;
use crate::engine::media_events::Lifeline;
use crate::engine::media_thread::MediaId;
use crate::engine::media_worker::ahead::TURNS_AHEAD;
use crate::engine::media_worker::hosted::Desk;
use crate::engine::media_worker::moving::Moved;
use crate::engine::media_worker::phase_work::PhaseWork;
use crate::engine::media_worker::places::Places;
use crate::engine::os;
use crate::media::answering_machine::AnsweringMachineDetector;
use crate::media::equipment::Equipment;
use crate::media::event::MediaEvent;
use crate::media::listener::Listener;
use crate::media::pace::PHASES;
use crate::media::pace::Pace;
use crate::media::pace::Step;
use crate::media::session::Bridged;
use crate::media::session::Clip;
use crate::media::session::GuestGains;
use crate::media::setup::MediaRules;
use crate::media::statistics::MediaStatistics;
use crate::net::port_pool::RtpPorts;
use crate::net::rtp_socket::RtpSocket;
use crate::rtp::jitter::Luggage;
use crate::sdp::MediaPlan;
use crate::sdp::Offered;
use crate::types::limit::MEDIA_COMMANDS_MAX;
use crate::types::limit::MEDIA_SESSIONS_MAX;
use crate::types::limit::RTP_STRANGERS_PER_PHASE_MAX;
use crate::types::moment::Moment;
use crossbeam_queue::ArrayQueue;
use std::io;
use std::panic::AssertUnwindSafe;
use std::panic::catch_unwind;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::oneshot;

/// Commands carried out before a phase; the rest waits for the next one, 20 ms at most.
const COMMANDS_PER_PHASE_MAX: usize = 1_024;

/// Things waiting to be freed by a handle. Over it the thread frees them itself.
const GARBAGE_MAX: usize = 1_024;

/// Ticks a session outlives the reader of its events: its call is about to close it, or died.
const LEFT_TICKS_MAX: u32 = 250;

/// Time for hearing what came in ticks that were left out: who is late because there is too much to do must not get more.
const LATE_HEARING_MAX: Duration = Duration::from_millis(10);

/// What a handle asks of a media thread.
#[derive(Debug)]
pub(crate) enum Command {
    Open(Box<Hosted>),
    Leave(Box<Leaving>),
    Update(MediaId, Box<MediaPlan>, Equipment),
    Expect(MediaId, Option<Box<Offered>>, Equipment),
    Attach(MediaId, Box<MediaEnd>),
    StartPlayout(MediaId),
    Bridge(MediaId, Box<Bridged>),
    Unbridge(MediaId),
    Admit(MediaId, Box<Admission>),
    Regard(MediaId, usize, GuestGains),
    Dismiss(MediaId, usize),
    Exchange(MediaId, Box<MediaEnd>, oneshot::Sender<Box<MediaEnd>>),
    SendDigit(MediaId, char),
    KeyPressed(MediaId),
    Play(MediaId, Box<Clip>),
    StopPlaying(MediaId),
    Mute(MediaId, (bool, bool)),
    Listen(MediaId, Option<Box<Listener>>),
    Screen(MediaId, Box<AnsweringMachineDetector>),
    Tape(MediaId, TapeCommand),
    Report(MediaId, oneshot::Sender<MediaStatistics>),
    Rule(MediaId, Box<MediaRules>),
    Move(MediaId, Box<RtpPorts>),
    Close(MediaId, oneshot::Sender<Box<Hosted>>),
}

/// What a media thread is done with, to be freed elsewhere.
#[derive(Debug)]
#[expect(dead_code, reason = "the contents are there to be dropped")]
pub(crate) enum Garbage {
    Session(Box<Hosted>),
    Leaving(Box<Leaving>),
    Luggage(Luggage),
    Place(Place),
    Command(Command),
    Plan(Box<MediaPlan>),
    Offered(Box<Offered>),
    Equipment(Equipment),
    Rules(Box<MediaRules>),
    Ports(Box<RtpPorts>),
    Socket(RtpSocket),
    Link(Box<MediaEnd>),
    Bridge(Box<Bridged>),
    GuestsBridge(Box<BridgeEnd>),
    Admission(Box<Admission>),
    Clip(Box<Clip>),
    Listener(Box<Listener>),
    AnsweringMachine(Box<AnsweringMachineDetector>),
    Tape(Box<TapeIn>),
    LinkReply(oneshot::Sender<Box<MediaEnd>>),
    Reply(oneshot::Sender<Box<Hosted>>),
    ReportReply(oneshot::Sender<MediaStatistics>),
}

/// What a media thread and the handles share.
#[derive(Debug)]
pub(crate) struct Worker {
    number: u16,
    pub(crate) commands: ArrayQueue<Command>,
    /// Those that the thread has looked at already, in order: they come before the others. It alone puts them there.
    drawn: ArrayQueue<Command>,
    pub(crate) garbage: ArrayQueue<Garbage>,
    pub(crate) gauges: Gauges,
    places: Arc<Places>,
    /// Of the sessions that began here, by their places. The thread never locks them.
    lifelines: Mutex<Vec<Lifeline>>,
    stopped: AtomicBool,
}

impl Worker {
    pub(crate) fn new(number: u16) -> Self {
        Self {
            number,
            commands: ArrayQueue::new(MEDIA_COMMANDS_MAX),
            drawn: ArrayQueue::new(MEDIA_COMMANDS_MAX),
            garbage: ArrayQueue::new(GARBAGE_MAX),
            gauges: Gauges::new(clock::now()),
            places: Arc::default(),
            lifelines: Mutex::default(),
            stopped: AtomicBool::new(false),
        }
    }

    /// Which of the engine's it is.
    pub(crate) const fn number(&self) -> u16 {
        self.number
    }

    /// Asks the thread to end.
    pub(crate) fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
    }

    fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }

    /// A free place; `None` when all are taken.
    pub(crate) fn take_place(&self) -> Option<Place> {
        self.places.take(self.number)
    }

    /// Sessions of this thread, those just being closed included.
    pub(crate) fn sessions(&self) -> usize {
        self.places.taken()
    }

    /// Holds what the events of a session that begins here hang by.
    pub(crate) fn hold(&self, id: MediaId, lifeline: Lifeline) {
        let mut held = self.lifelines.lock().unwrap_or_else(PoisonError::into_inner);
        let index = usize::from(id.index);
        if held.len() <= index {
            held.resize_with(index + 1, Lifeline::default);
        }
        if let Some(place) = held.get_mut(index) {
            *place = lifeline;
        }
    }

    /// The thread hangs: nobody waits for it any more. What was asked of it will not be done.
    pub(crate) fn give_up(&self) {
        self.gauges.give_up();
        while let Some(command) = self.next_command() {
            drop(command);
        }
    }

    /// What was asked first of all that is still to be done.
    fn next_command(&self) -> Option<Command> {
        self.drawn.pop().or_else(|| self.commands.pop())
    }

    /// Ends the events of sessions that a thread which was given up has, or had: what is asked of those that moved from it
    /// finds nobody who passes it on.
    pub(crate) fn cut_off(&self, lost: u16) {
        let held = self.lifelines.lock().unwrap_or_else(PoisonError::into_inner);
        let is_own = self.number == lost;
        held.iter().for_each(|line| if is_own { line.cut() } else { line.cut_of(lost) });
    }

    /// Lets sessions move to another thread. Nothing happens where this one does not read its commands.
    pub(crate) fn ask_to_leave(&self, leaving: Leaving) {
        if self.commands.push(Command::Leave(Box::new(leaving))).is_err() {
            self.gauges.dropped();
        }
    }
}

/// Starts the thread of `worker`.
pub(crate) fn spawn(worker: Arc<Worker>, realtime: bool) -> io::Result<()> {
    let name = format!("media-{}", worker.number);
    std::thread::Builder::new().name(name).spawn(move || {
        if realtime && let Err(error) = os::set_realtime() {
            tracing::info!(%error, "media thread runs without real-time priority");
        }
        if let Err(error) = os::set_exact_timers() {
            tracing::debug!(%error, "media thread runs with coarse timers");
        }
        faults::live(&worker);
    })?;
    Ok(())
}

struct MediaThread {
    worker: Arc<Worker>,
    slots: Vec<Option<Box<Hosted>>>,
    /// Where sessions are that were here.
    moved: Vec<Option<Moved>>,
    /// The places of each phase, in no order.
    phases: [Vec<u16>; PHASES],
    phase_work: PhaseWork,
    /// Closed sessions on their way back to their calls. They go once a tick, together: each on its
    /// own would wake the runtime for itself.
    closed: Vec<(oneshot::Sender<Box<Hosted>>, Box<Hosted>)>,
    /// When memory that nobody has any more was looked for.
    idle_looked_at: Moment,
    desk: Desk,
}

impl MediaThread {
    fn new(worker: Arc<Worker>) -> Self {
        let slots = (0..MEDIA_SESSIONS_MAX).map(|_| None).collect();
        let moved = (0..MEDIA_SESSIONS_MAX).map(|_| None).collect();
        let phases = std::array::from_fn(|_| Vec::with_capacity(MEDIA_SESSIONS_MAX));
        let closed = Vec::with_capacity(COMMANDS_PER_PHASE_MAX);
        let (phase_work, desk) = (PhaseWork::default(), Desk::new());
        let idle_looked_at = desk.now;
        Self { worker, slots, moved, phases, phase_work, closed, idle_looked_at, desk }
    }

    fn run(&mut self) {
        let mut pace = Pace::new(clock::now());
        while !self.worker.is_stopped() && !self.worker.gauges.is_given_up() {
            self.desk.read_clocks();
            self.worker.gauges.beat(self.desk.now);
            pace.pass_idle(self.desk.now, |phase| self.sessions_in(phase) > 0);
            match pace.step(self.desk.now) {
                Step::Wait(until) => std::thread::sleep(until.since(clock::now())),
                Step::Run { phase, late } => self.turn(phase, late),
                Step::Skip { ticks } => self.skip(ticks),
            }
        }
        self.give_back();
    }

    /// Does what is asked, then runs a phase that comes so late.
    fn turn(&mut self, phase: usize, late: Duration) {
        let before = os::thread_time();
        (self.desk.due, self.desk.phase) = (self.desk.now - late, phase);
        self.command();
        let asked = os::thread_time();
        let sessions = self.run_phase(phase);
        self.phase_work.ran(phase, os::thread_time().saturating_sub(asked), sessions);
        if phase == 0 {
            self.give_back();
            self.return_idle();
        }
        let work = os::thread_time().saturating_sub(before);
        self.worker.gauges.phase_ran(work, late, sessions);
    }

    fn command(&mut self) {
        for _ in 0..COMMANDS_PER_PHASE_MAX {
            let Some(command) = self.worker.next_command() else { return };
            let Some(command) = self.pass_on(command) else { continue };
            let now = self.desk.now;
            match command {
                Command::Open(hosted) => self.open(hosted),
                Command::Leave(leaving) => self.let_leave(leaving),
                Command::Update(id, plan, with) => self.update(id, plan, with),
                Command::Expect(id, offered, with) => self.expect(id, offered, with),
                Command::Attach(id, mut end) => {
                    self.with(id, |hosted, _| hosted.session.attach(&mut end));
                    self.discard(Garbage::Link(end));
                }
                Command::StartPlayout(id) => {
                    self.with(id, |hosted, _| hosted.session.start_playout(now));
                }
                Command::Bridge(id, with) => self.bridge(id, with),
                Command::Unbridge(id) => {
                    let mut before = None;
                    self.with(id, |hosted, _| before = hosted.session.unbridge());
                    before.into_iter().for_each(|with| self.discard(Garbage::Bridge(with)));
                }
                Command::Admit(id, admission) => self.admit(id, admission),
                Command::Regard(id, place, gains) => self.regard(id, place, gains),
                Command::Dismiss(id, place) => self.dismiss(id, place),
                Command::Exchange(id, end, reply) => self.exchange(id, end, reply),
                Command::SendDigit(id, digit) => {
                    self.with(id, |hosted, _| {
                        // A key that cannot be sent is lost: nobody waits for it.
                        hosted.session.send_digit(digit);
                    });
                }
                Command::KeyPressed(id) => {
                    self.with(id, |hosted, _| hosted.session.key_pressed());
                }
                Command::Play(id, clip) => self.play(id, clip),
                Command::StopPlaying(id) => {
                    self.with(id, |hosted, _| hosted.session.stop_playing());
                }
                Command::Mute(id, (inward, outward)) => {
                    self.with(id, |hosted, _| hosted.session.mute(inward, outward));
                }
                Command::Listen(id, listener) => self.listen(id, listener),
                Command::Screen(id, machine) => self.screen(id, machine),
                Command::Tape(id, command) => self.tape(id, command),
                Command::Report(id, reply) => self.report(id, reply),
                Command::Rule(id, mut rules) => {
                    self.with(id, |hosted, _| {
                        hosted.ports.classify(rules.dscp);
                        hosted.session.rule(&mut rules);
                    });
                    self.discard(Garbage::Rules(rules));
                }
                Command::Move(id, mut ports) => {
                    self.with(id, |hosted, _| std::mem::swap(&mut hosted.ports, &mut ports));
                    self.discard(Garbage::Ports(ports));
                    self.settle_rtcp(id);
                }
                Command::Close(id, reply) => self.close(id, reply),
            }
        }
    }

    fn play(&mut self, id: MediaId, clip: Box<Clip>) {
        let mut left = Some(clip);
        self.with(id, |hosted, _| {
            left = left.take().and_then(|clip| hosted.session.play(clip));
        });
        left.into_iter().for_each(|clip| self.discard(Garbage::Clip(clip)));
    }

    fn report(&mut self, id: MediaId, reply: oneshot::Sender<MediaStatistics>) {
        let mut figures = None;
        self.with(id, |hosted, _| figures = Some(hosted.session.statistics()));
        match figures {
            // Who does not wait any more needs none.
            Some(figures) => drop(reply.send(figures)),
            None => self.discard(Garbage::ReportReply(reply)),
        }
    }

    fn exchange(
        &mut self,
        id: MediaId,
        mut end: Box<MediaEnd>,
        reply: oneshot::Sender<Box<MediaEnd>>,
    ) {
        let mut done = false;
        self.with(id, |hosted, _| {
            hosted.session.exchange(&mut end);
            done = true;
        });
        if !done {
            self.discard(Garbage::Link(end));
            self.discard(Garbage::LinkReply(reply));
        } else if let Err(unread) = reply.send(end) {
            self.discard(Garbage::Link(unread));
        }
    }

    fn sessions_in(&self, phase: usize) -> usize {
        self.phases.get(phase).map_or(0, Vec::len)
    }

    fn open(&mut self, mut hosted: Box<Hosted>) {
        let (phase, missed) = match hosted.came_after() {
            Some(last) => {
                hosted.rests = self.ticks_ahead(last);
                hosted.waits.begin_again();
                self.place_in_time(last)
            }
            None => (self.phase_work.place(|phase| self.sessions_in(phase)), 0),
        };
        hosted.phase = phase;
        let id = hosted.place.id();
        self.take_in(hosted);
        self.catch_up(id, missed);
    }

    /// Puts a session into its place and its phase.
    fn take_in(&mut self, mut hosted: Box<Hosted>) {
        let id = hosted.place.id();
        let index = id.index;
        hosted.events.is_with(id.thread);
        if let Some(luggage) = hosted.luggage.take() {
            hosted.session.arrive_with(&luggage, &mut self.desk.out);
            self.discard(Garbage::Luggage(luggage));
        }
        self.forget_moved(index);
        if let Some(phase) = self.phases.get_mut(hosted.phase) {
            phase.push(index);
        }
        let slot = self.slots.get_mut(usize::from(index));
        if let Some(mut left_over) = slot.and_then(|slot| slot.replace(hosted)) {
            left_over.session.give_back(&mut self.desk.out);
            self.discard(Garbage::Session(left_over));
        }
    }

    fn close(&mut self, id: MediaId, reply: oneshot::Sender<Box<Hosted>>) {
        self.say_goodbye(id);
        let Some(hosted) = self.remove(id) else {
            self.discard(Garbage::Reply(reply));
            return;
        };
        if self.closed.len() == self.closed.capacity() {
            self.give_back();
        }
        self.closed.push((reply, hosted));
    }

    /// Sends the sessions closed since the last time back to their calls.
    fn give_back(&mut self) {
        while let Some((reply, hosted)) = self.closed.pop() {
            if let Err(unread) = reply.send(hosted) {
                self.discard(Garbage::Session(unread));
            }
        }
    }

    fn say_goodbye(&mut self, id: MediaId) {
        self.with(id, |hosted, desk| {
            hosted.session.close(desk.now, &mut desk.out);
            hosted.perform(&mut desk.out);
        });
    }

    /// Takes a session out that has its last tick behind it.
    fn remove(&mut self, id: MediaId) -> Option<Box<Hosted>> {
        let mut hosted = self.take_out(id)?;
        hosted.session.give_back(&mut self.desk.out);
        Some(hosted)
    }

    /// The same of one that has what it was lent.
    fn take_out(&mut self, id: MediaId) -> Option<Box<Hosted>> {
        let slot = self.slots.get_mut(usize::from(id.index))?;
        let hosted = slot.take_if(|hosted| hosted.place.id() == id)?;
        let phase = self.phases.get_mut(hosted.phase)?;
        if let Some(at) = phase.iter().position(|index| *index == id.index) {
            phase.swap_remove(at);
        }
        Some(hosted)
    }

    /// Runs one tick of every session of a phase, then wakes their agents; returns how many there are.
    fn run_phase(&mut self, phase: usize) -> usize {
        let count = self.sessions_in(phase);
        let spills = self.phase_work.spills(phase, count);
        self.desk.strangers_left = RTP_STRANGERS_PER_PHASE_MAX;
        for at in (0..count + TURNS_AHEAD).rev() {
            self.fetch_ahead(phase, at);
            let Some(index) = self.phases.get(phase).and_then(|phase| phase.get(at)).copied()
            else {
                continue;
            };
            let slot = self.slots.get_mut(usize::from(index)).and_then(Option::as_deref_mut);
            let Some(hosted) = slot else { continue };
            let id = hosted.place.id();
            hosted.events.settle();
            hosted.left_ticks += u32::from(hosted.events.is_abandoned());
            if hosted.left_ticks > LEFT_TICKS_MAX {
                // Its call is gone without a word.
                self.say_goodbye(id);
                if let Some(hosted) = self.remove(id) {
                    self.discard(Garbage::Session(hosted));
                }
                continue;
            }
            let (mut earlier, mut waits) = (0, None);
            self.with(id, |hosted, desk| {
                hosted.tick_in_turn(desk);
                earlier = hosted.waits.judge();
                waits = hosted.waits.judge_again(desk.due);
            });
            self.hurry(id, earlier);
            if let Some(waits) = &waits {
                self.follow(id, waits);
            }
            if spills {
                self.make_room(id);
            }
        }
        self.desk.sleepers.wake();
        count
    }

    /// Leaves out ticks of all sessions. As long as there is time, they hear what came meanwhile.
    fn skip(&mut self, ticks: u64) {
        self.heed();
        self.worker.gauges.skipped(ticks);
        let until = self.desk.now + LATE_HEARING_MAX;
        for index in 0..self.slots.len() {
            let Some(Some(hosted)) = self.slots.get(index) else { continue };
            let (id, hears) = (hosted.place.id(), clock::now() < until);
            self.with(id, |hosted, desk| {
                let own = hosted.own_of(ticks);
                if own > 0 {
                    hosted.skip(own, hears, desk);
                }
            });
        }
        self.desk.sleepers.wake();
    }

    /// Does something to a session. A fault in it ends this session only.
    fn with(&mut self, id: MediaId, what: impl FnOnce(&mut Hosted, &mut Desk)) {
        let Some(Some(hosted)) = self.slots.get_mut(usize::from(id.index)) else { return };
        if hosted.place.id() != id || hosted.failed {
            return;
        }
        let desk = &mut self.desk;
        // What the fault leaves behind is only read again for its figures.
        if catch_unwind(AssertUnwindSafe(|| what(hosted, desk))).is_err() {
            hosted.failed = true;
            hosted.events.push(MediaEvent::Failed);
            desk.out.clear();
        }
    }

    fn discard(&self, garbage: Garbage) {
        if let Err(garbage) = self.worker.garbage.push(garbage) {
            drop(garbage);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::link::AgentEnd;
    use crate::audio::link::LinkEvent;
    use crate::audio::link::link;
    use crate::engine::media_events::MediaEvents;
    use crate::engine::media_events::media_events;
    use crate::engine::media_worker::phase_work::PHASE_FILL;
    use crate::media::pace::PHASE;
    use crate::media::pace::TICK;
    use crate::media::session::MediaSession;
    use crate::media::setup::MediaSetup;
    use crate::media::waits::Waits;
    use crate::net::port_pool::PortChoice;
    use crate::net::port_pool::PortPool;
    use crate::rtp::packet::HEADER_BYTES;
    use crate::sdp::Direction;
    use std::collections::VecDeque;
    use std::net::IpAddr;
    use std::net::Ipv4Addr;
    use std::task::Wake;
    use std::task::Waker;
    use tokio::sync::oneshot::error::TryRecvError;

    /// An address that no other test uses, so that ports never collide.
    const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 91, 9, 1));

    #[test]
    fn a_fault_ends_one_session_and_leaves_its_neighbour() {
        let worker = Arc::new(Worker::new(0));
        let pool = PortPool::new(22_000..=22_003, 1);
        let mut thread = MediaThread::new(Arc::clone(&worker));
        let mut calls = Vec::new();
        for seed in 0..2 {
            let (end, agent) = link();
            let (events_in, events) = media_events();
            let place = worker.take_place().expect("free");
            let id = place.id();
            let session = MediaSession::boxed(clock::now(), MediaSetup::new(None, seed), end);
            let ports = pool.reserve(ADDRESS, PortChoice::ANY).expect("free");
            thread.open(Box::new(Hosted::new(place, session, ports, events_in)));
            calls.push((id, agent, events));
        }
        let [(faulty, agent_one, events_one), (sound, agent_two, events_two)] =
            calls.as_mut_slice()
        else {
            panic!("two calls")
        };
        thread.with(*faulty, |_, _| panic!("a fault on purpose"));
        assert_eq!(events_one.try_recv(), Some(MediaEvent::Failed));
        for phase in 0..PHASES {
            thread.run_phase(phase);
        }
        assert_eq!(agent_one.next(), None);
        assert!(agent_two.next().is_some());
        assert_eq!(events_two.try_recv(), None);

        assert_eq!(worker.sessions(), 2);
        assert!(thread.remove(*faulty).is_some());
        assert!(thread.remove(*faulty).is_none());
        assert!(thread.remove(*sound).is_some());
        assert_eq!(worker.sessions(), 0);
        assert!(thread.phases.iter().all(Vec::is_empty));
    }

    /// A thread with sessions, and what keeps those open.
    fn thread_with(
        sessions: u64,
        ports: std::ops::RangeInclusive<u16>,
    ) -> (MediaThread, Vec<(AgentEnd, MediaEvents)>) {
        let worker = Arc::new(Worker::new(0));
        let pool = PortPool::new(ports, 1);
        let mut thread = MediaThread::new(Arc::clone(&worker));
        let calls = (0..sessions).map(|seed| {
            let (end, agent) = link();
            let (events_in, events) = media_events();
            let place = worker.take_place().expect("free");
            let session = MediaSession::boxed(clock::now(), MediaSetup::new(None, seed), end);
            let ports = pool.reserve(ADDRESS, PortChoice::ANY).expect("free");
            thread.open(Box::new(Hosted::new(place, session, ports, events_in)));
            (agent, events)
        });
        let calls = calls.collect();
        (thread, calls)
    }

    /// A session as a call opens it at `now`, and what the call has of it.
    fn session(
        worker: &Worker,
        now: Moment,
        seed: u64,
    ) -> (Box<Hosted>, (MediaId, AgentEnd, MediaEvents)) {
        let (end, agent) = link();
        let (events_in, events) = media_events();
        let place = worker.take_place().expect("free");
        let id = place.id();
        let plan = Some(MediaPlan::for_test((ADDRESS, 9_u16).into()));
        let setup = MediaSetup { playout_held: false, ..MediaSetup::new(plan, seed) };
        let session = MediaSession::boxed(now, setup, end);
        // A pool each: in virtual time no port rests.
        let ports =
            PortPool::new(22_100..=22_227, seed).reserve(ADDRESS, PortChoice::ANY).expect("free");
        (Box::new(Hosted::new(place, session, ports, events_in)), (id, agent, events))
    }

    /// Opens and closes calls in virtual time, one every 5 ms, each of which lasts for so many phases. Returns the packets
    /// that were sent in all.
    fn short_calls(calls: usize, lasting: usize) -> u64 {
        let worker = Arc::new(Worker::new(0));
        let mut thread = MediaThread::new(Arc::clone(&worker));
        let (mut open, mut closing) = (VecDeque::new(), Vec::new());
        let (mut closed, mut sent) = (0, 0);
        let ask = |command| assert!(worker.commands.push(command).is_ok(), "there is room");
        // Some turns more, for those that are on their way back.
        for number in 0..calls + lasting + PHASES {
            if number < calls {
                let (hosted, call) = session(&worker, thread.desk.now, number as u64);
                ask(Command::Open(hosted));
                open.push_back(call);
            }
            if number >= lasting
                && let Some((id, _agent, _events)) = open.pop_front()
            {
                let (reply, back) = oneshot::channel();
                ask(Command::Close(id, reply));
                closing.push(back);
            }
            thread.turn(number % PHASES, Duration::ZERO);
            thread.desk.now += PHASE;
            closing.retain_mut(|back| match back.try_recv() {
                Ok(hosted) => {
                    closed += 1;
                    sent += hosted.statistics().packets_out;
                    false
                }
                Err(TryRecvError::Empty) => true,
                Err(TryRecvError::Closed) => panic!("call {number} was not there"),
            });
        }
        assert_eq!((closed, closing.len()), (calls, 0));
        while worker.garbage.pop().is_some() {}
        assert_eq!(worker.sessions(), 0, "every place is free");
        assert!(thread.phases.iter().all(Vec::is_empty));
        assert!(thread.slots.iter().all(Option::is_none));
        // And the thread is as good as new.
        let (hosted, (_, mut agent, _events)) = session(&worker, thread.desk.now, 0);
        ask(Command::Open(hosted));
        for phase in 0..PHASES {
            thread.turn(phase, Duration::ZERO);
        }
        assert!(agent.next().is_some(), "the call behind them is heard");
        sent
    }

    #[test]
    fn thousands_of_short_calls_leave_a_thread_as_it_was() {
        short_calls(2_000, 0);
        short_calls(2_000, 1);
        let sent = short_calls(2_000, 3 * PHASES);
        assert!(sent >= 2_000 * 2, "each had ticks: {sent}");
    }

    #[test]
    fn thousands_of_short_calls_beside_a_long_one_leave_that_alone() {
        let worker = Arc::new(Worker::new(0));
        let mut thread = MediaThread::new(Arc::clone(&worker));
        let ask = |command| assert!(worker.commands.push(command).is_ok(), "there is room");
        let (hosted, (long, mut agent, _events)) = session(&worker, thread.desk.now, 0);
        ask(Command::Open(hosted));
        let (mut heard, ticks) = (0, 2_000);
        for tick in 0..ticks {
            let (hosted, (id, _agent, _events)) = session(&worker, thread.desk.now, tick);
            ask(Command::Open(hosted));
            thread.turn(0, Duration::ZERO);
            ask(Command::Close(id, oneshot::channel().0));
            for phase in 1..PHASES {
                thread.turn(phase, Duration::ZERO);
            }
            thread.desk.now += TICK;
            while worker.garbage.pop().is_some() {}
            heard += std::iter::from_fn(|| agent.next()).count() as u64;
        }
        assert_eq!(heard, ticks, "a frame each 20 ms");
        thread.give_back();
        while worker.garbage.pop().is_some() {}
        assert_eq!(worker.sessions(), 1);
        assert!(thread.remove(long).is_some_and(|hosted| !hosted.failed));
    }

    /// Agents, and how many of them had something to hear at each wake-up.
    struct Agents {
        ends: Mutex<Vec<AgentEnd>>,
        heard: Mutex<Vec<usize>>,
    }

    impl Wake for Agents {
        fn wake(self: Arc<Self>) {
            let mut ends = self.ends.lock().expect("nobody panicked");
            let heard = ends.iter_mut().filter_map(AgentEnd::next).count();
            self.heard.lock().expect("nobody panicked").push(heard);
        }
    }

    #[test]
    fn the_agents_of_a_phase_are_woken_once_each_and_together_when_all_can_hear() {
        let (mut thread, calls) = thread_with(3, 22_060..=22_065);
        let (ends, _events): (Vec<_>, Vec<_>) = calls.into_iter().unzip();
        let agents = Arc::new(Agents { ends: Mutex::new(ends), heard: Mutex::default() });
        let waker = Waker::from(Arc::clone(&agents));
        for end in agents.ends.lock().expect("nobody panicked").iter_mut() {
            end.register(&waker);
        }
        assert_eq!(thread.run_phase(0), 3);
        assert_eq!(*agents.heard.lock().expect("nobody panicked"), [3, 0, 0]);
        thread.run_phase(0);
        assert_eq!(agents.heard.lock().expect("nobody panicked").len(), 3, "nobody waits");
    }

    #[test]
    fn a_session_whose_packets_wait_long_is_ticked_earlier_from_then_on() {
        let (mut thread, _calls) = thread_with(3, 22_010..=22_015);
        let at = Moment::from_millis;
        let waits = |ms: u64| {
            let mut waits = Waits::new();
            (0..25).for_each(|_| waits.note(at(100 - ms), at(100)));
            waits
        };
        for (slot, wait_ms) in [(0, 12), (1, 2), (2, 7)] {
            let hosted = thread.slots[slot].as_mut().expect("a session");
            assert_eq!(hosted.phase, 0);
            hosted.waits = waits(wait_ms);
        }
        assert_eq!(thread.run_phase(0), 3);
        assert_eq!(thread.phases, [vec![1], vec![], vec![0], vec![2]]);
        let phases: Vec<_> = thread.slots.iter().flatten().map(|hosted| hosted.phase).collect();
        let ticks: Vec<_> = thread.slots.iter().flatten().map(|hosted| hosted.ticks).collect();
        assert_eq!((phases, ticks), (vec![2, 0, 3], vec![1, 1, 1]), "each had one tick");
        let counts: Vec<_> = (0..PHASES).map(|phase| thread.run_phase(phase)).collect();
        assert_eq!(counts, [1, 0, 1, 1]);
    }

    #[test]
    fn what_arrived_while_the_thread_was_stopped_is_heard_by_the_agent() {
        // As many as wait at once without a jitter buffer that leaves some out.
        const PACKETS: u8 = 5;
        let peer = std::net::UdpSocket::bind((ADDRESS, 0)).expect("a socket");
        let worker = Arc::new(Worker::new(0));
        let mut thread = MediaThread::new(Arc::clone(&worker));
        let pool = PortPool::new(22_030..=22_031, 1);
        let ports = pool.reserve(ADDRESS, PortChoice::ANY).expect("free");
        let (end, mut agent) = link();
        let (events_in, _events) = media_events();
        let place = worker.take_place().expect("free");
        let plan = MediaPlan::for_test(peer.local_addr().expect("bound"));
        let session = MediaSession::boxed(clock::now(), MediaSetup::new(Some(plan), 1), end);
        let to = (ADDRESS, ports.rtp_port);
        thread.open(Box::new(Hosted::new(place, session, ports, events_in)));
        for number in 0..PACKETS {
            let mut packet = vec![0x80, 0, 0, number];
            packet.extend((u32::from(number) * 160).to_be_bytes());
            packet.extend([0, 0, 0, 7]);
            assert_eq!(packet.len(), HEADER_BYTES);
            packet.extend([number; 160]);
            peer.send_to(&packet, to).expect("sent");
        }
        // The thread runs again when all of that is over.
        let ticks = u64::from(PACKETS) + 4;
        thread.desk.read_clocks();
        let stopped = TICK * u32::try_from(ticks).expect("few");
        thread.desk.now += stopped;
        thread.desk.wall += stopped;
        thread.skip(ticks);
        let heard: Vec<_> = std::iter::from_fn(|| agent.next()).collect();
        assert_eq!(heard.len() as u64, ticks, "its clock went on");
        for number in 0..PACKETS {
            let frame = LinkEvent::Audio([number; 160]);
            assert!(heard.contains(&frame), "packet {number} was not heard");
        }
    }

    #[test]
    fn a_datagram_that_waited_is_judged_by_its_arrival_and_not_by_its_reading() {
        let (mut thread, _calls) = thread_with(1, 22_032..=22_033);
        let peer = std::net::UdpSocket::bind((ADDRESS, 0)).expect("a socket");
        let at = peer.local_addr().expect("bound");
        let hosted = thread.slots[0].as_mut().expect("a session");
        let opened = clock::now();
        hosted.session.update(opened, &MediaPlan::for_test(at), &mut thread.desk.out);
        let to = hosted.ports.rtp().local_address().expect("bound");
        let mut packet = vec![0x80, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 7];
        packet.extend([0x33; 160]);
        peer.send_to(&packet, to).expect("sent");
        let arrived = clock::now();
        // The thread comes to it 400 ms later.
        let late = Duration::from_millis(400);
        thread.desk.read_clocks();
        thread.desk.now += late;
        thread.desk.wall += late;
        thread.run_phase(0);
        let hosted = thread.slots[0].as_ref().expect("a session");
        let first = hosted.statistics().first_packet_ms.expect("it was read");
        // The kernel's stamp may come from a coarser clock.
        let most = arrived.since(opened) + Duration::from_millis(40);
        assert!(u128::from(first) <= most.as_millis(), "{first} ms, not {most:?}");
    }

    /// One session, whose peer is at the first socket; a stranger has the other.
    fn scene_of_a_flood(port: u16) -> (MediaThread, impl Sized, [std::net::UdpSocket; 2]) {
        let (mut thread, calls) = thread_with(1, port..=port + 1);
        let sockets = [0, 1].map(|_| std::net::UdpSocket::bind((ADDRESS, 0)).expect("a socket"));
        let plan = MediaPlan::for_test(sockets[0].local_addr().expect("bound"));
        let hosted = thread.slots[0].as_mut().expect("a session");
        hosted.session.update(clock::now(), &plan, &mut thread.desk.out);
        let to = hosted.ports.rtp().local_address().expect("bound");
        sockets.iter().for_each(|socket| socket.connect(to).expect("a way"));
        (thread, calls, sockets)
    }

    fn packet(number: u16) -> Vec<u8> {
        let [high, low] = number.to_be_bytes();
        let mut packet = vec![0x80, 0, high, low];
        packet.extend((u32::from(number) * 160).to_be_bytes());
        packet.extend([0, 0, 0, 7]);
        packet.extend([0x33; 160]);
        packet
    }

    /// A tick in which ten thousand packets a second come from a stranger, and one from the peer behind them.
    fn flooded_tick(
        thread: &mut MediaThread,
        number: u16,
        [peer, stranger]: [&std::net::UdpSocket; 2],
    ) {
        for of_stranger in 0..200 {
            // Once the system keeps it out, it is told so.
            let _refused = stranger.send(&packet(number * 200 + of_stranger));
        }
        peer.send(&packet(number)).expect("sent");
        // Arrivals are those of the reading: the wall clock is not set.
        thread.desk.now += TICK;
        thread.desk.due = thread.desk.now;
        thread.run_phase(0);
    }

    fn figures(thread: &MediaThread) -> (MediaStatistics, Option<std::net::SocketAddr>) {
        let hosted = thread.slots[0].as_ref().expect("a session");
        (hosted.statistics(), hosted.kept_to.filter(|_| hosted.ports.keeps()))
    }

    #[test]
    fn a_flood_of_strangers_takes_no_packet_from_the_peer_and_is_kept_out_by_the_system() {
        let (mut thread, _calls, [peer, stranger]) = scene_of_a_flood(22_036);
        for number in 0..60 {
            flooded_tick(&mut thread, number, [&peer, &stranger]);
        }
        let (heard, kept_to) = figures(&thread);
        assert_eq!((heard.packets_in, heard.lost_in), (60, 0));
        assert_eq!(kept_to, peer.local_addr().ok());
        assert!((200..=400).contains(&heard.foreign), "those of a tick: {}", heard.foreign);
        // Silent, it may have moved: everybody can be heard again.
        thread.desk.now += Duration::from_millis(500);
        thread.run_phase(0);
        assert_eq!(figures(&thread).1, None);
        // And who signals another address is heard from there at once.
        for number in 60..70 {
            flooded_tick(&mut thread, number, [&peer, &stranger]);
        }
        assert!(figures(&thread).1.is_some());
        let plan = MediaPlan::for_test(stranger.local_addr().expect("bound"));
        let hosted = thread.slots[0].as_mut().expect("a session");
        hosted.session.update(thread.desk.now, &plan, &mut thread.desk.out);
        thread.run_phase(0);
        // So many packets from where it was are heard until then, and hide nothing for longer.
        (0..10).for_each(|number| flooded_tick(&mut thread, number, [&stranger, &peer]));
        let before = figures(&thread).0.packets_in;
        assert!((71..=210).contains(&before), "{before}");
        (10..15).for_each(|number| flooded_tick(&mut thread, number, [&stranger, &peer]));
        assert_eq!(figures(&thread).0.packets_in, before + 5);
    }

    #[test]
    fn a_flood_takes_no_packet_from_a_peer_that_was_learned_though_nobody_is_kept_out() {
        let (mut thread, _calls, [peer, stranger]) = scene_of_a_flood(22_050);
        // It says that it is somewhere else, as behind a NAT.
        let plan = MediaPlan::for_test("192.0.2.1:4000".parse().expect("an address"));
        let hosted = thread.slots[0].as_mut().expect("a session");
        hosted.session.update(clock::now(), &plan, &mut thread.desk.out);
        for number in 0..4 {
            peer.send(&packet(number)).expect("sent");
            thread.desk.now += TICK;
            thread.desk.due = thread.desk.now;
            thread.run_phase(0);
        }
        for number in 4..60 {
            flooded_tick(&mut thread, number, [&peer, &stranger]);
        }
        let (heard, kept_to) = figures(&thread);
        assert_eq!((heard.packets_in, heard.lost_in), (57, 0), "three proved who it is");
        assert_eq!((kept_to, heard.foreign), (None, 3 + 56 * 200));
    }

    #[test]
    fn the_phase_of_a_session_is_judged_by_its_peer_alone() {
        let (mut thread, _calls, [peer, stranger]) = scene_of_a_flood(22_052);
        // All waits 12 ms.
        let read = |thread: &mut MediaThread| {
            thread.desk.read_clocks();
            thread.desk.now += Duration::from_millis(12);
            thread.desk.wall += Duration::from_millis(12);
            thread.desk.due = thread.desk.now;
            for phase in 0..PHASES {
                thread.run_phase(phase);
            }
        };
        for number in 0..60 {
            stranger.send(&packet(number)).expect("sent");
            read(&mut thread);
        }
        assert_eq!(thread.phases[0], [0], "strangers move nobody");
        for number in 0..60 {
            peer.send(&packet(number)).expect("sent");
            read(&mut thread);
        }
        assert_eq!(thread.phases[0], [] as [u16; 0], "the peer does");
    }

    #[test]
    fn behind_the_packet_that_was_due_nobody_looks_and_what_is_there_is_heard_in_the_next_tick() {
        let (mut thread, _calls, [peer, _]) = scene_of_a_flood(22_058);
        let mut number = 0;
        let mut tick = |thread: &mut MediaThread, packets: u16| {
            for _ in 0..packets {
                peer.send(&packet(number)).expect("sent");
                number += 1;
            }
            thread.desk.read_clocks();
            thread.desk.due = thread.desk.now;
            for phase in 0..PHASES {
                thread.run_phase(phase);
            }
            figures(thread).0.packets_in
        };
        // A machine that stops for a moment lets packets wait: then all is read.
        let left_one = (0..1_000).any(|_| {
            for _ in 0..14 {
                tick(&mut thread, 1);
            }
            let before = tick(&mut thread, 1);
            let at_once = tick(&mut thread, 2) - before;
            assert_eq!(tick(&mut thread, 0) - before, 2, "nothing is lost");
            at_once == 1
        });
        assert!(left_one, "the socket was asked again each time");
    }

    #[test]
    fn a_key_is_ended_to_the_peer_before_another_plan_takes_its_stream() {
        let (mut thread, _calls, [peer, _]) = scene_of_a_flood(22_068);
        let now = thread.desk.now;
        let hosted = thread.slots[0].as_mut().expect("a session");
        let id = hosted.place.id();
        hosted.session.start_playout(now);
        assert!(hosted.session.send_digit('5'));
        for _ in 0..3 {
            thread.desk.now += TICK;
            for phase in 0..PHASES {
                thread.run_phase(phase);
            }
        }
        let at = peer.local_addr().expect("bound");
        let held = MediaPlan { direction: Direction::Inactive, ..MediaPlan::for_test(at) };
        thread.update(id, Box::new(held), Equipment::default());
        peer.set_nonblocking(true).expect("no waiting");
        let (mut datagram, mut ends) = ([0; 200], Vec::new());
        while let Ok(length) = peer.recv(&mut datagram) {
            if length == HEADER_BYTES + 4 && datagram[HEADER_BYTES + 1] & 0x80 != 0 {
                ends.push(datagram[HEADER_BYTES..length].to_vec());
            }
        }
        assert_eq!(ends, vec![vec![5, 0x8a, 1, 0xe0]; 3], "60 ms of it, three times");
    }

    #[test]
    fn nobody_moves_to_a_crowded_phase() {
        let (mut thread, _calls) = thread_with(1, 22_020..=22_021);
        let id = thread.slots[0].as_ref().expect("a session").place.id();
        thread.phases[3] = vec![9; 2 * PHASE_FILL];
        thread.hurry(id, 1);
        assert_eq!(thread.phases[0], [0], "it stays where it is");
        // Few of which each is much work are a crowd as well.
        thread.phases[1] = vec![9; 10];
        thread.phase_work.ran(1, Duration::from_millis(4), 10);
        thread.hurry(id, 3);
        assert_eq!(thread.phases[0], [0], "there, too");
        thread.hurry(id, 2);
        assert_eq!(thread.phases[2], [0]);
    }

    #[test]
    fn a_session_that_follows_its_packets_has_one_tick_in_each_period() {
        let (mut thread, _calls) = thread_with(1, 22_022..=22_023);
        let mut due = Moment::from_millis(100_000);
        // Ever later, then ever earlier, by one phase each time: through the end of a period too.
        for (wait_ms, phase) in
            [(19, 1), (19, 2), (19, 3), (19, 0), (7, 3), (7, 2), (7, 1), (7, 0), (12, 2), (12, 0)]
        {
            let hosted = thread.slots[0].as_mut().expect("a session");
            hosted.waits = Waits::for_test(due, Duration::from_millis(wait_ms));
            let before = hosted.ticks;
            for period in 1..=3 {
                for phase in 0..PHASES {
                    (thread.desk.now, thread.desk.due) = (due, due);
                    thread.run_phase(phase);
                    due += PHASE;
                }
                let hosted = thread.slots[0].as_ref().expect("a session");
                assert_eq!(hosted.ticks, before + period, "{wait_ms} {phase}");
            }
            assert_eq!(thread.phases[phase], [0], "{wait_ms}");
        }
    }

    #[test]
    fn a_session_follows_its_packets_to_no_crowded_phase() {
        let (mut thread, _calls) = thread_with(1, 22_024..=22_025);
        let due = Moment::from_millis(100_000);
        let run = |thread: &mut MediaThread, phase: usize| {
            let hosted = thread.slots[0].as_mut().expect("a session");
            hosted.waits = Waits::for_test(due, Duration::from_millis(19));
            (thread.desk.now, thread.desk.due) = (due, due);
            thread.run_phase(phase);
        };
        thread.phases[1] = vec![9; 2 * PHASE_FILL];
        run(&mut thread, 0);
        assert_eq!(thread.phases[2], [0], "the next best");
        for phase in [0, 1, 3] {
            thread.phases[phase] = vec![9; 10];
            thread.phase_work.ran(phase, Duration::from_millis(4), 10);
        }
        run(&mut thread, 2);
        assert_eq!(thread.phases[2], [0], "it stays where it is");
    }

    #[test]
    fn of_two_phases_that_are_as_good_a_session_goes_to_the_one_with_less_work() {
        let due = Moment::from_millis(100_000);
        for (busy, idle, ports) in [(3, 1, 22_250..=22_251), (1, 3, 22_252..=22_253)] {
            let (mut thread, _calls) = thread_with(1, ports);
            // Half of the packets would be found by a tick that is three phases earlier, and all by one that is one earlier.
            let mut waits = Waits::for_test(due, Duration::from_millis(19));
            for before in 1..=250 {
                let read = due - TICK * before;
                waits.note(read - Duration::from_millis(9), read);
            }
            thread.slots[0].as_mut().expect("a session").waits = waits;
            // Fewer, of which each is more work.
            thread.phases[busy] = vec![9; 10];
            thread.phase_work.ran(busy, Duration::from_millis(2), 10);
            thread.phases[idle].extend([9; 20]);
            thread.phase_work.ran(idle, Duration::from_micros(200), 20);
            (thread.desk.now, thread.desk.due) = (due, due);
            thread.run_phase(0);
            let sessions = [busy, idle].map(|phase| thread.phases[phase].len());
            assert_eq!(sessions, [10, 21], "{busy}");
        }
    }

    #[test]
    fn sessions_leave_a_phase_that_has_too_much_to_do_until_it_has_not() {
        let (mut thread, _calls) = thread_with(6, 22_230..=22_241);
        assert_eq!(thread.phases.each_ref().map(Vec::len), [6, 0, 0, 0]);
        let run = |thread: &mut MediaThread| {
            let due = Moment::from_millis(100_000);
            (thread.desk.now, thread.desk.due) = (due, due);
            thread.run_phase(0);
            thread.phases.each_ref().map(Vec::len)
        };
        thread.phase_work.ran(0, Duration::from_micros(3_900), 6);
        assert_eq!(run(&mut thread), [6, 0, 0, 0], "it is over in time");
        // As if each took 900 us from now on: four of them fit.
        (0..100).for_each(|_| thread.phase_work.ran(0, Duration::from_micros(5_400), 6));
        thread.phases[1] = vec![9; 4];
        thread.phases[3] = vec![9; 1];
        assert_eq!(run(&mut thread), [4, 4, 2, 1], "to those with the least work");
        assert_eq!(run(&mut thread), [4, 4, 2, 1], "and no more than have to");
    }

    #[test]
    fn an_identity_is_never_used_twice() {
        let worker = Worker::new(3);
        let first = worker.take_place().expect("free");
        let id = first.id();
        drop(first);
        let second = worker.take_place().expect("free").id();
        assert_eq!(id.index, second.index);
        assert_ne!(id, second);
        let all: Vec<_> = std::iter::from_fn(|| worker.take_place()).collect();
        assert_eq!(all.len(), MEDIA_SESSIONS_MAX);
    }
}
