//! Sessions that move to another media thread, with sockets, rings and all.
//!
//! Who holds a session's identity notices nothing: its first thread keeps the place and passes on, in order, what is still
//! asked there. So nobody has to be told, and no lock says where a session is. A session moves once.

use crate::engine::media_thread::MediaId;
use crate::engine::media_worker::Command;
use crate::engine::media_worker::Garbage;
use crate::engine::media_worker::Hosted;
use crate::engine::media_worker::MediaThread;
use crate::engine::media_worker::Place;
use crate::engine::media_worker::Worker;
use crate::media::pace::PHASE;
use crate::media::pace::PHASES;
use crate::media::pace::TICK;
use crate::media::pace::TICKS_MADE_UP_MAX;
use crate::rtp::jitter::Luggage;
use crate::types::moment::Moment;
use std::sync::Arc;

/// Sessions that are to leave a thread, as many as there are places for them at another.
#[derive(Debug)]
pub(crate) struct Leaving {
    to: Arc<Worker>,
    places: Vec<Place>,
    /// For what waits in them to be heard: as much.
    luggage: Vec<Luggage>,
}

impl Leaving {
    pub(crate) fn new(to: Arc<Worker>, places: Vec<Place>) -> Self {
        let luggage = places.iter().map(|_| Luggage::default()).collect();
        Self { to, places, luggage }
    }
}

/// Where a session is that was here.
#[derive(Debug)]
pub(super) struct Moved {
    id: MediaId,
    to: Arc<Worker>,
    there: MediaId,
}

impl MediaThread {
    /// Lets sessions of the fullest phases go to another thread. What finds nobody that may, goes back; and all, where that
    /// thread was given up meanwhile: nobody would ever end the calls of those that come to it.
    pub(super) fn let_leave(&mut self, mut leaving: Box<Leaving>) {
        while !leaving.to.gauges.is_down()
            && !leaving.places.is_empty()
            && let Some(id) = self.next_to_leave()
            && let Some(place) = leaving.places.pop()
            && let Some(luggage) = leaving.luggage.pop()
        {
            self.leave(id, (place, luggage), &leaving.to);
        }
        self.discard(Garbage::Leaving(leaving));
    }

    fn next_to_leave(&self) -> Option<MediaId> {
        let may = |index: &u16| {
            let hosted = self.slots.get(usize::from(*index))?.as_deref()?;
            (hosted.before.is_none() && !hosted.failed).then(|| hosted.place.id())
        };
        let fullest = self.phases.iter().max_by_key(|phase| phase.len())?;
        let others = self.phases.iter().flatten();
        fullest.iter().chain(others).find_map(may)
    }

    fn leave(&mut self, id: MediaId, (place, mut luggage): (Place, Luggage), to: &Arc<Worker>) {
        let Some(mut hosted) = self.take_out(id) else { return };
        hosted.session.leave_with(&mut luggage, &mut self.desk.out);
        hosted.luggage = Some(luggage);
        let there = place.id();
        let mut before = std::mem::replace(&mut hosted.place, place);
        // The other thread may close it at once.
        before.passes_on();
        hosted.before = Some(before);
        hosted.events.is_with(there.thread);
        match to.commands.push(Command::Open(hosted)) {
            Ok(()) => {
                if let Some(slot) = self.moved.get_mut(usize::from(id.index)) {
                    *slot = Some(Moved { id, to: Arc::clone(to), there });
                }
            }
            // It stays, in its phase: the other thread does not read its commands.
            Err(Command::Open(mut hosted)) => {
                if let Some(mut place) = hosted.before.take() {
                    place.stays();
                    let unused = std::mem::replace(&mut hosted.place, place);
                    self.discard(Garbage::Place(unused));
                }
                self.take_in(hosted);
            }
            Err(other) => self.discard(Garbage::Command(other)),
        }
    }

    /// Passes on what is about a session that moved; gives back what is not.
    pub(super) fn pass_on(&mut self, mut command: Command) -> Option<Command> {
        let Some(id) = command.about() else { return Some(command) };
        let place = self.moved.get_mut(usize::from(id.index));
        let Some(moved) = place.and_then(|place| place.as_mut()).filter(|moved| moved.id == *id)
        else {
            return Some(command);
        };
        *id = moved.there;
        if let Err(command) = moved.to.commands.push(command) {
            // It is as if this thread's own queue had been full.
            self.worker.gauges.dropped();
            self.discard(Garbage::Command(command));
        }
        None
    }

    /// A session that is new here has nothing to do with one that was.
    pub(super) fn forget_moved(&mut self, index: u16) {
        if let Some(place) = self.moved.get_mut(usize::from(index)) {
            *place = None;
        }
    }

    /// By how many ticks, begun ones too, a session whose last one was due at `last` is ahead of this thread, which
    /// comes late.
    pub(super) fn ticks_ahead(&self, last: Moment) -> u32 {
        let ahead = last.since(self.desk.due).as_nanos().div_ceil(TICK.as_nanos());
        u32::try_from(ahead).unwrap_or(0)
    }

    /// The phase that keeps nearest to the beat of a session whose last tick was due at `last`, at another thread; and
    /// ticks that passed on its way.
    pub(super) fn place_in_time(&self, last: Moment) -> (usize, u64) {
        let due = self.desk.due + TICK * self.ticks_ahead(last);
        let gap = |later: usize| (due + PHASE * later as u32).since(last);
        let ticks = |later: usize| ((gap(later) + TICK / 2).as_nanos() / TICK.as_nanos()).max(1);
        let apart = |later: &usize| {
            gap(*later).as_nanos().abs_diff(ticks(*later).saturating_mul(TICK.as_nanos()))
        };
        let later = (0..PHASES).min_by_key(apart).unwrap_or(0);
        let missed = u64::try_from(ticks(later) - 1).unwrap_or(u64::MAX);
        ((self.desk.phase + later) % PHASES, missed)
    }

    /// Makes up for ticks that passed while a session was on its way, or leaves them out, as the beat does.
    pub(super) fn catch_up(&mut self, id: MediaId, ticks: u64) {
        if ticks > 0 {
            self.heed();
        }
        if ticks > TICKS_MADE_UP_MAX {
            return self.with(id, |hosted, desk| hosted.skip(ticks, true, desk));
        }
        for _ in 0..ticks {
            self.with(id, |hosted, desk| hosted.tick(desk));
        }
    }
}

impl Command {
    /// Which session it is about; `None`: one that it brings, or several.
    const fn about(&mut self) -> Option<&mut MediaId> {
        match self {
            Self::Open(_) | Self::Leave(_) => None,
            Self::Update(id, ..)
            | Self::Expect(id, ..)
            | Self::Attach(id, _)
            | Self::StartPlayout(id)
            | Self::Bridge(id, _)
            | Self::Unbridge(id)
            | Self::Admit(id, _)
            | Self::Regard(id, ..)
            | Self::Dismiss(id, _)
            | Self::Exchange(id, ..)
            | Self::SendDigit(id, _)
            | Self::KeyPressed(id)
            | Self::Play(id, _)
            | Self::StopPlaying(id)
            | Self::Mute(id, _)
            | Self::Listen(id, _)
            | Self::Screen(id, _)
            | Self::Tape(id, _)
            | Self::Report(id, _)
            | Self::Rule(id, _)
            | Self::Move(id, _)
            | Self::Close(id, _) => Some(id),
        }
    }
}

impl Hosted {
    /// Whether it came from another thread, and goes on from its last tick there.
    pub(super) const fn came_after(&self) -> Option<Moment> {
        if self.before.is_some() { self.last_due } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::link::AgentEnd;
    use crate::audio::link::link;
    use crate::audio::tape::TapeItem;
    use crate::audio::tape::TapeRate;
    use crate::audio::tape::tape;
    use crate::clock;
    use crate::engine::media_events::MediaEvents;
    use crate::engine::media_events::media_events;
    use crate::engine::media_worker::TapeCommand;
    use crate::media::listener::Listener;
    use crate::media::session::MediaSession;
    use crate::media::setup::MediaSetup;
    use crate::media::waits::Waits;
    use crate::net::port_pool::PortChoice;
    use crate::net::port_pool::PortPool;
    use crate::rtp::packet::RtpPacket;
    use crate::sdp::MediaPlan;
    use crate::types::barge_in::BargeIn;
    use crate::types::random::Random;
    use std::net::IpAddr;
    use std::net::Ipv4Addr;
    use std::net::SocketAddr;
    use std::net::UdpSocket;
    use std::time::Duration;
    use tokio::sync::oneshot;

    /// An address that no other test uses, so that ports never collide.
    const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 91, 9, 2));

    /// Two threads that are turned by hand, and a session of the first.
    struct Pair {
        threads: [MediaThread; 2],
        now: Moment,
        id: MediaId,
        /// Where it hears its peer.
        port: u16,
        peer: UdpSocket,
        call: (AgentEnd, MediaEvents),
    }

    impl Pair {
        fn new(ports: std::ops::RangeInclusive<u16>) -> Self {
            let mut threads = [0, 1].map(|number| MediaThread::new(Arc::new(Worker::new(number))));
            let peer = UdpSocket::bind((ADDRESS, 0)).expect("a socket");
            peer.set_nonblocking(true).expect("a socket");
            let at: SocketAddr = peer.local_addr().expect("bound");
            let (end, agent) = link();
            let (events_in, events) = media_events();
            let place = threads[0].worker.take_place().expect("free");
            let id = place.id();
            let setup = MediaSetup {
                playout_held: false,
                ..MediaSetup::new(Some(MediaPlan::for_test(at)), 7)
            };
            let now = clock::now();
            let session = MediaSession::boxed(now, setup, end);
            let reserved = PortPool::new(ports, 1).reserve(ADDRESS, PortChoice::ANY).expect("free");
            let port = reserved.rtp().local_address().expect("bound").port();
            threads[0].open(Box::new(Hosted::new(place, session, reserved, events_in)));
            Self { threads, now, id, port, peer, call: (agent, events) }
        }

        /// 20 ms of both, phase by phase.
        fn tick(&mut self) {
            for phase in 0..PHASES {
                for thread in &mut self.threads {
                    (thread.desk.now, thread.desk.due) = (self.now, self.now);
                    thread.desk.phase = phase;
                    thread.command();
                    thread.run_phase(phase);
                }
                self.now += PHASE;
            }
        }

        fn ask(&self, command: Command) {
            assert!(self.threads[0].worker.commands.push(command).is_ok());
        }

        fn move_over(&self) {
            let to = Arc::clone(&self.threads[1].worker);
            let places = vec![to.take_place().expect("free")];
            self.threads[0].worker.ask_to_leave(Leaving::new(to, places));
        }

        /// Models that are lent at either thread.
        fn lent(&mut self) -> [usize; 2] {
            [0, 1].map(|at| self.threads[at].desk.out.models().lent())
        }

        /// Rooms for packets that are lent at either thread.
        fn rooms(&mut self) -> [usize; 2] {
            [0, 1].map(|at| self.threads[at].desk.out.payloads().lent())
        }

        /// A peer that hisses like a consonant, as loud as a shout, or is silent, packet by packet. The models that were lent
        /// after each.
        fn hear(&mut self, numbers: std::ops::Range<u16>, hisses: bool) -> Vec<[usize; 2]> {
            let mut random = Random::from_seed(u64::from(numbers.start));
            let to = SocketAddr::new(ADDRESS, self.port);
            let heard = numbers.map(|number| {
                let [high, low] = number.to_be_bytes();
                let mut packet = vec![0x80, 0, high, low];
                packet.extend((u32::from(number) * 160).to_be_bytes());
                packet.extend([0, 0, 0, 7]);
                let sound = (0..160).map(|_| if hisses { random.below(256) as u8 } else { 0xff });
                packet.extend(sound);
                self.peer.send_to(&packet, to).expect("sent");
                self.tick();
                self.lent()
            });
            heard.collect()
        }

        fn is_listened_to(&self) {
            let listener = Box::new(Listener::new(BargeIn::OFF));
            self.ask(Command::Listen(self.id, Some(listener)));
        }

        fn taken(&self) -> [usize; 2] {
            [0, 1].map(|at| self.threads[at].phases.iter().map(Vec::len).sum())
        }

        /// Number and time stamp of each packet that the peer got.
        fn packets(&self) -> Vec<(u16, u32, u32)> {
            let mut bytes = [0; 2_048];
            let next = || {
                let (length, _) = self.peer.recv_from(&mut bytes).ok()?;
                let packet = RtpPacket::parse(&bytes[..length]).expect("a packet");
                Some((packet.sequence, packet.timestamp, packet.ssrc))
            };
            std::iter::from_fn(next).collect()
        }
    }

    #[test]
    fn a_session_goes_on_at_another_thread_packet_by_packet() {
        let mut pair = Pair::new(22_040..=22_041);
        (0..10).for_each(|_| pair.tick());
        assert_eq!(pair.taken(), [1, 0]);
        pair.move_over();
        (0..10).for_each(|_| pair.tick());
        assert_eq!(pair.taken(), [0, 1], "it is there");
        assert_eq!([0, 1].map(|at| pair.threads[at].worker.sessions()), [0, 1], "and nowhere else");
        let packets = pair.packets();
        assert!((19..=21).contains(&packets.len()), "{}", packets.len());
        for two in packets.windows(2) {
            assert_eq!(two[1].0.wrapping_sub(two[0].0), 1, "none is missing or doubled");
            assert_eq!((two[1].1.wrapping_sub(two[0].1), two[1].2), (160, two[0].2));
        }
        // It moves once.
        let to = Arc::clone(&pair.threads[0].worker);
        let places = vec![to.take_place().expect("free")];
        pair.threads[1].worker.ask_to_leave(Leaving::new(to, places));
        pair.tick();
        assert_eq!(pair.taken(), [0, 1]);
    }

    #[test]
    fn what_the_peer_sends_meanwhile_is_heard_there_and_a_recording_goes_on() {
        let mut pair = Pair::new(22_054..=22_055);
        let (into, mut out) = tape(TapeRate::Narrow);
        pair.ask(Command::Tape(pair.id, TapeCommand::Start(Box::new(into))));
        let hosted = pair.threads[0].slots[0].as_ref().expect("a session");
        let to = hosted.ports.rtp().local_address().expect("bound");
        for number in 0..30_u16 {
            if number == 10 {
                pair.move_over();
            }
            let [high, low] = number.to_be_bytes();
            let mut packet = vec![0x80, 0, high, low];
            packet.extend((u32::from(number) * 160).to_be_bytes());
            packet.extend([0, 0, 0, 7]);
            packet.extend([0x33; 160]);
            pair.peer.send_to(&packet, to).expect("sent");
            pair.tick();
        }
        assert_eq!(pair.taken(), [0, 1]);
        let (reply, mut figures) = oneshot::channel();
        pair.ask(Command::Report(pair.id, reply));
        pair.tick();
        let figures = figures.try_recv().expect("answered");
        assert_eq!((figures.packets_in, figures.lost_in), (30, 0));
        let items: Vec<_> = std::iter::from_fn(|| out.next_item()).collect();
        assert!(items.iter().all(|item| matches!(item, TapeItem::Sound(_))), "{items:?}");
        assert_eq!(out.reached(), 31 * 160, "no tick is missing");
    }

    #[test]
    fn a_session_whose_caller_speaks_leaves_its_model_behind_and_is_lent_another() {
        let mut pair = Pair::new(22_074..=22_075);
        pair.is_listened_to();
        let before = pair.hear(0..20, true);
        assert_eq!(before.last(), Some(&[1, 0]));
        pair.move_over();
        let there = pair.hear(20..40, true);
        assert_eq!(pair.taken(), [0, 1]);
        assert_eq!(there.last(), Some(&[0, 1]));
        let silent = pair.hear(40..140, false);
        assert_eq!(silent.last(), Some(&[0, 0]), "nobody speaks");
        let all = [before, there, silent].concat();
        assert!(all.iter().all(|lent| lent.iter().sum::<usize>() <= 1), "{all:?}");
        let made = pair.threads.map(|mut thread| thread.desk.out.models().made());
        assert_eq!(made, [1, 1]);
    }

    #[test]
    fn packets_that_wait_to_be_heard_go_along_and_no_room_for_them_stays_lent() {
        let mut pair = Pair::new(22_082..=22_083);
        pair.hear(0..20, true);
        let [here, there] = pair.rooms();
        assert!((1..=4).contains(&here) && there == 0, "{here} {there}");
        pair.move_over();
        pair.hear(20..21, true);
        assert_eq!(pair.taken(), [0, 1]);
        let [here, there] = pair.rooms();
        assert!((1..=4).contains(&there) && here == 0, "{here} {there}");
        pair.hear(21..40, true);
        let (reply, mut figures) = oneshot::channel();
        pair.ask(Command::Report(pair.id, reply));
        pair.tick();
        let figures = figures.try_recv().expect("answered");
        assert_eq!((figures.packets_in, figures.discarded_in, figures.concealed), (40, 0, 0));
        let (reply, _closed) = oneshot::channel();
        pair.ask(Command::Close(pair.id, reply));
        pair.tick();
        assert_eq!((pair.taken(), pair.rooms()), ([0, 0], [0, 0]));
    }

    #[test]
    fn a_model_goes_back_with_who_listened_and_with_its_session() {
        let mut pair = Pair::new(22_076..=22_077);
        pair.is_listened_to();
        assert_eq!(pair.hear(0..20, true).last(), Some(&[1, 0]));
        pair.ask(Command::Listen(pair.id, None));
        pair.tick();
        assert_eq!(pair.lent(), [0, 0]);
        pair.is_listened_to();
        assert_eq!(pair.hear(21..40, true).last(), Some(&[1, 0]));
        let (reply, _closed) = oneshot::channel();
        pair.ask(Command::Close(pair.id, reply));
        pair.tick();
        assert_eq!(pair.lent(), [0, 0]);
    }

    #[test]
    fn who_had_a_model_when_its_thread_met_a_fault_gives_back_none_of_the_next_life() {
        let mut pair = Pair::new(22_078..=22_079);
        pair.is_listened_to();
        assert_eq!(pair.hear(0..20, true).last(), Some(&[1, 0]));
        let worker = Arc::clone(&pair.threads[0].worker);
        let before = std::mem::replace(&mut pair.threads[0], MediaThread::new(worker));
        pair.threads[0].take_over(before);
        let other = pair.threads[0].desk.out.models().lend();
        let (reply, _closed) = oneshot::channel();
        pair.ask(Command::Close(pair.id, reply));
        pair.tick();
        assert_eq!((pair.taken(), pair.lent()), ([0, 0], [1, 0]));
        assert!(other.is_some());
    }

    #[test]
    fn a_pause_that_comes_behind_a_session_holds_for_the_ticks_that_are_made_up_for() {
        let sounds_there = |ports, pauses: bool| {
            let mut pair = Pair::new(ports);
            let (into, mut out) = tape(TapeRate::Narrow);
            pair.ask(Command::Tape(pair.id, TapeCommand::Start(Box::new(into))));
            let hosted = pair.threads[0].slots[0].as_ref().expect("a session");
            let to = hosted.ports.rtp().local_address().expect("bound");
            let say = |pair: &Pair, number: u8| {
                let mut packet = vec![0x80, 0, 0, number];
                packet.extend((u32::from(number) * 160).to_be_bytes());
                packet.extend([0, 0, 0, 7]);
                packet.extend([0x33; 160]);
                pair.peer.send_to(&packet, to).expect("sent");
            };
            for number in 0..5 {
                say(&pair, number);
                pair.tick();
            }
            while out.next_item().is_some() {}
            pair.move_over();
            if pauses {
                pair.ask(Command::Tape(pair.id, TapeCommand::Pause(true)));
            }
            let [first, _] = &mut pair.threads;
            (first.desk.now, first.desk.due, first.desk.phase) = (pair.now, pair.now, 0);
            first.command();
            (5..8).for_each(|number| say(&pair, number));
            pair.now += TICK * 3;
            let [_, second] = &mut pair.threads;
            (second.desk.now, second.desk.due, second.desk.phase) = (pair.now, pair.now, 0);
            second.command();
            assert_eq!(pair.taken(), [0, 1]);
            let items = std::iter::from_fn(|| out.next_item());
            items.filter(|item| matches!(item, TapeItem::Sound(_))).count()
        };
        assert!(sounds_there(22_070..=22_071, false) > 0, "else it is recorded");
        assert_eq!(sounds_there(22_072..=22_073, true), 0);
    }

    #[test]
    fn who_asks_at_its_first_thread_is_answered_by_the_one_where_it_is() {
        let mut pair = Pair::new(22_042..=22_043);
        pair.tick();
        pair.move_over();
        // Asked before it is gone, while it is under way, and when it is there.
        let (reply, mut figures) = oneshot::channel();
        pair.ask(Command::Report(pair.id, reply));
        (0..5).for_each(|_| pair.tick());
        let figures = figures.try_recv().expect("answered");
        assert!(figures.packets_out > 0);
        let (reply, mut closed) = oneshot::channel();
        pair.ask(Command::Close(pair.id, reply));
        pair.tick();
        pair.threads.iter_mut().for_each(MediaThread::give_back);
        let hosted = closed.try_recv().expect("closed");
        assert!(hosted.statistics().packets_out >= 5);
        assert_eq!(pair.taken(), [0, 0]);
        drop(hosted);
        for thread in &pair.threads {
            while thread.worker.garbage.pop().is_some() {}
            assert_eq!(thread.worker.sessions(), 0, "both places are free");
        }
    }

    #[test]
    fn who_moved_is_asked_for_at_a_thread_that_met_a_fault_and_at_one_that_is_down() {
        let mut pair = Pair::new(22_064..=22_065);
        pair.tick();
        pair.move_over();
        (0..5).for_each(|_| pair.tick());
        let worker = Arc::clone(&pair.threads[0].worker);
        let before = std::mem::replace(&mut pair.threads[0], MediaThread::new(worker));
        pair.threads[0].take_over(before);
        let (reply, mut figures) = oneshot::channel();
        pair.ask(Command::Report(pair.id, reply));
        pair.tick();
        assert!(figures.try_recv().expect("answered").packets_out > 0);
        let (reply, mut closed) = oneshot::channel();
        pair.ask(Command::Close(pair.id, reply));
        pair.threads[0].turn_away();
        pair.tick();
        pair.threads[1].give_back();
        assert!(closed.try_recv().is_ok(), "closed where it is");
        assert_eq!(pair.taken(), [0, 0]);
        assert_eq!(pair.call.1.try_recv(), None, "nothing failed");
    }

    #[test]
    fn a_thread_that_reads_no_commands_gets_nobody() {
        let mut pair = Pair::new(22_044..=22_045);
        pair.tick();
        let other = Arc::clone(&pair.threads[1].worker);
        while other.commands.push(Command::StartPlayout(pair.id)).is_ok() {}
        pair.move_over();
        let [one, _] = &mut pair.threads;
        one.hurry(pair.id, 2);
        one.desk.now += Duration::from_millis(5);
        one.command();
        let phases = one.phases.each_ref().map(Vec::len);
        assert_eq!(phases, [0, 0, 1, 0], "its peer hears no gap");
        assert_eq!(pair.taken(), [1, 0], "it stays where it is heard");
        while pair.threads[0].worker.garbage.pop().is_some() {}
        assert_eq!((pair.threads[0].worker.sessions(), other.sessions()), (1, 0));
    }

    #[test]
    fn a_thread_that_was_given_up_meanwhile_gets_nobody() {
        let mut pair = Pair::new(22_066..=22_067);
        pair.tick();
        pair.move_over();
        pair.threads[1].worker.give_up();
        pair.tick();
        assert_eq!(pair.taken(), [1, 0], "it stays where it is heard");
        while pair.threads[0].worker.garbage.pop().is_some() {}
        assert_eq!([0, 1].map(|at| pair.threads[at].worker.sessions()), [1, 0]);
    }

    #[test]
    fn the_beat_is_kept_as_near_as_phases_allow_and_ticks_on_the_way_are_counted() {
        let pair = Pair::new(22_046..=22_047);
        let [_, mut thread] = pair.threads;
        thread.desk.phase = 2;
        thread.desk.due = Moment::from_millis(1_000);
        let at = |ms: u64| thread.place_in_time(Moment::from_millis(ms));
        // Due at once; in 5, 10 and 15 ms; and no later.
        assert_eq!([at(980), at(985), at(990), at(995)], [(2, 0), (3, 0), (0, 0), (1, 0)]);
        assert_eq!([at(987), at(999)], [(3, 0), (1, 0)], "nearest to it");
        // Over since long: at the next time of its own beat.
        assert_eq!([at(960), at(955), at(900)], [(2, 1), (1, 2), (2, 4)]);
    }

    #[test]
    fn who_comes_to_a_thread_that_is_late_is_not_ahead_of_its_time() {
        let mut pair = Pair::new(22_056..=22_057);
        (0..5).for_each(|_| pair.tick());
        pair.move_over();
        let [first, second] = &mut pair.threads;
        (first.desk.now, first.desk.due, first.desk.phase) = (pair.now, pair.now, 0);
        first.command();
        // Phases of 50 ms that are over, and the one that is due, back to back.
        let mut due = pair.now - PHASE * 10;
        for phase in (0..PHASES).cycle().take(11) {
            (second.desk.now, second.desk.due, second.desk.phase) = (pair.now, due, phase);
            second.command();
            second.run_phase(phase);
            due += PHASE;
        }
        assert_eq!(pair.packets().len(), 5 + 1, "one for each 20 ms");
        assert_eq!(pair.taken(), [0, 1]);
        let hosted = pair.threads[1].slots.iter().flatten().next().expect("a session");
        assert_eq!((hosted.rests, hosted.last_due), (0, Some(pair.now)));
    }

    #[test]
    fn ticks_that_pass_while_a_session_moves_are_made_up_for() {
        let mut pair = Pair::new(22_048..=22_049);
        (0..5).for_each(|_| pair.tick());
        pair.move_over();
        let [first, second] = &mut pair.threads;
        (first.desk.now, first.desk.due, first.desk.phase) = (pair.now, pair.now, 0);
        first.command();
        first.run_phase(0);
        // The other thread comes to it when three ticks are over.
        pair.now += TICK * 3;
        (second.desk.now, second.desk.due, second.desk.phase) = (pair.now, pair.now, 0);
        second.command();
        second.run_phase(0);
        let packets = pair.packets();
        assert_eq!(packets.len(), 5 + 4, "one for each 20 ms");
        let heard = std::iter::from_fn(|| pair.call.0.next()).count();
        assert_eq!(heard, 5 + 4, "the agent's clock went on");
    }

    #[test]
    fn the_phase_of_a_session_is_judged_anew_at_another_thread() {
        let mut pair = Pair::new(22_080..=22_081);
        let waited = Duration::from_millis(19);
        pair.now += Duration::from_secs(100);
        pair.tick();
        let hosted = pair.threads[0].slots[0].as_mut().expect("a session");
        hosted.waits = Waits::for_test(pair.now, waited);
        pair.move_over();
        pair.tick();
        let phases = |pair: &Pair| pair.threads[1].phases.each_ref().map(Vec::len);
        assert_eq!((pair.taken(), phases(&pair)), ([0, 1], [1, 0, 0, 0]), "nothing is known yet");
        let mut packets = pair.packets();
        for _ in 0..210 {
            let hosted = pair.threads[1].slots[0].as_mut().expect("a session");
            hosted.waits.note(pair.now - waited, pair.now);
            pair.tick();
            packets.extend(pair.packets());
        }
        assert_eq!(phases(&pair), [0, 1, 0, 0]);
        assert_eq!(packets.len(), 212, "one for each 20 ms");
        for two in packets.windows(2) {
            assert_eq!(two[1].0.wrapping_sub(two[0].0), 1, "none is missing or doubled");
            assert_eq!(two[1].1.wrapping_sub(two[0].1), 160);
        }
    }
}
