//! What must be heard or recorded no more and was asked for while the thread stood still: it holds for all that is heard
//! late, for who asked was told that it is so.

use crate::engine::media_worker::Command;
use crate::engine::media_worker::Garbage;
use crate::engine::media_worker::MediaThread;
use crate::engine::media_worker::TapeCommand;
use std::sync::Arc;

impl MediaThread {
    /// Looks at all that is asked, and does ahead of its turn what hides something. It is done once more in its turn, so
    /// that what is asked behind it, to go on say, holds from then on and not for what is heard late.
    pub(super) fn heed(&mut self) {
        let worker = Arc::clone(&self.worker);
        // A session may have come here since those were looked at.
        let again = (0..worker.drawn.len()).map_while(|_| worker.drawn.pop());
        let has_room = || !worker.drawn.is_full();
        let new = std::iter::from_fn(|| has_room().then(|| worker.commands.pop()).flatten());
        for command in again.chain(new) {
            self.hush(&command);
            // There is room: nobody else puts anything there.
            if let Err(command) = worker.drawn.push(command) {
                self.discard(Garbage::Command(command));
            }
        }
    }

    fn hush(&mut self, command: &Command) {
        match command {
            Command::Mute(id, (true, _)) => {
                self.with(*id, |hosted, _| hosted.session.mute_inward());
            }
            Command::Tape(id, TapeCommand::Pause(true)) => {
                self.tape(*id, TapeCommand::Pause(true));
            }
            Command::Tape(id, TapeCommand::Stop) => self.tape(*id, TapeCommand::Stop),
            _ => (),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::link::AgentEnd;
    use crate::audio::link::LinkEvent;
    use crate::audio::link::link;
    use crate::audio::tape::TapeItem;
    use crate::audio::tape::TapeOut;
    use crate::audio::tape::TapeRate;
    use crate::audio::tape::tape;
    use crate::clock;
    use crate::engine::media_events::MediaEvents;
    use crate::engine::media_events::media_events;
    use crate::engine::media_thread::MediaId;
    use crate::engine::media_worker::Hosted;
    use crate::engine::media_worker::Worker;
    use crate::media::pace::PHASES;
    use crate::media::pace::TICK;
    use crate::media::session::MediaSession;
    use crate::media::setup::MediaSetup;
    use crate::net::port_pool::PortChoice;
    use crate::net::port_pool::PortPool;
    use crate::sdp::MediaPlan;
    use crate::types::limit::MEDIA_COMMANDS_MAX;
    use crossbeam_queue::ArrayQueue;
    use std::net::IpAddr;
    use std::net::Ipv4Addr;
    use std::net::SocketAddr;
    use std::net::UdpSocket;

    /// An address that no other test uses, so that ports never collide.
    const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 91, 9, 6));

    /// As many as wait at once without a jitter buffer that leaves some out.
    const PACKETS: u8 = 5;

    /// Ticks for which the thread stands still: the packets are over by then.
    const TICKS: u32 = 9;

    /// A recorded session whose thread stood still while its peer spoke, and heard that late.
    struct Stalled {
        thread: MediaThread,
        id: MediaId,
        tape: TapeOut,
        agent: AgentEnd,
        _events: MediaEvents,
    }

    impl Stalled {
        /// `asked` is what was asked of it meanwhile, in order.
        fn new(ports: u16, asked: impl FnOnce(MediaId) -> Vec<Command>) -> Self {
            let peer = UdpSocket::bind((ADDRESS, 0)).expect("a socket");
            let worker = Arc::new(Worker::new(0));
            let mut thread = MediaThread::new(Arc::clone(&worker));
            let pool = PortPool::new(ports..=ports + 1, 1);
            let ports = pool.reserve(ADDRESS, PortChoice::ANY).expect("free");
            let to = SocketAddr::new(ADDRESS, ports.rtp_port);
            let (end, agent) = link();
            let (events_in, events) = media_events();
            let place = worker.take_place().expect("free");
            let id = place.id();
            let plan = MediaPlan::for_test(peer.local_addr().expect("bound"));
            let setup = MediaSetup::new(Some(plan), 1);
            let session = MediaSession::boxed(clock::now(), setup, end);
            thread.open(Box::new(Hosted::new(place, session, ports, events_in)));
            let (into, out) = tape(TapeRate::Narrow);
            thread.tape(id, TapeCommand::Start(Box::new(into)));
            for number in 0..PACKETS {
                let mut packet = vec![0x80, 0, 0, number];
                packet.extend((u32::from(number) * 160).to_be_bytes());
                packet.extend([0, 0, 0, 7]);
                packet.extend([number; 160]);
                peer.send_to(&packet, to).expect("sent");
            }
            for command in asked(id) {
                assert!(worker.commands.push(command).is_ok(), "there is room");
            }
            thread.desk.read_clocks();
            thread.desk.now += TICK * TICKS;
            thread.desk.wall += TICK * TICKS;
            thread.skip(u64::from(TICKS));
            Self { thread, id, tape: out, agent, _events: events }
        }

        /// The packets that its agent heard.
        fn heard(&mut self) -> Vec<u8> {
            let frames: Vec<_> = std::iter::from_fn(|| self.agent.next()).collect();
            let is_heard = |number: &u8| frames.contains(&LinkEvent::Audio([*number; 160]));
            (0..PACKETS).filter(is_heard).collect()
        }

        /// What is new on its tape, sound as nothing but that.
        fn taped(&mut self) -> Vec<&'static str> {
            let items = std::iter::from_fn(|| self.tape.next_item());
            let named = items.map(|item| match item {
                TapeItem::Sound(_) => "sound",
                TapeItem::Gap { .. } => "gap",
                TapeItem::Paused(_) => "paused",
                TapeItem::Resumed(_) => "resumed",
            });
            let mut named: Vec<_> = named.collect();
            named.dedup();
            named
        }

        /// Does what was asked, in its turn, and one tick.
        fn goes_on(&mut self) {
            self.thread.command();
            self.thread.desk.now += TICK;
            for phase in 0..PHASES {
                self.thread.run_phase(phase);
            }
        }
    }

    const ALL: [u8; PACKETS as usize] = [0, 1, 2, 3, 4];

    fn pause(id: MediaId, paused: bool) -> Command {
        Command::Tape(id, TapeCommand::Pause(paused))
    }

    #[test]
    fn a_pause_that_was_asked_for_in_a_stall_holds_for_all_that_is_heard_late() {
        let mut stalled = Stalled::new(22_000, |_| Vec::new());
        assert_eq!((stalled.heard(), stalled.taped()), (ALL.to_vec(), vec!["sound", "gap"]));

        let mut stalled = Stalled::new(22_002, |id| vec![pause(id, true)]);
        assert_eq!((stalled.heard(), stalled.taped()), (ALL.to_vec(), vec!["paused"]));
        stalled.goes_on();
        assert_eq!(stalled.taped(), [""; 0], "and for what is heard then");
    }

    #[test]
    fn a_recording_that_goes_on_again_in_the_same_stall_does_so_behind_it() {
        let both = |id| vec![pause(id, true), pause(id, false)];
        let mut stalled = Stalled::new(22_004, both);
        assert_eq!(stalled.taped(), ["paused"]);
        stalled.goes_on();
        assert_eq!(stalled.taped().first(), Some(&"resumed"));
    }

    #[test]
    fn a_recording_that_was_ended_in_a_stall_has_nothing_that_is_heard_late() {
        let stop = |id| Command::Tape(id, TapeCommand::Stop);
        let mut stalled = Stalled::new(22_006, |id| vec![stop(id)]);
        assert_eq!(stalled.taped(), [""; 0]);
        assert!(stalled.tape.is_over());
        // One that begins behind it is not ended by it.
        let (into, mut next) = tape(TapeRate::Narrow);
        let start = |id| Command::Tape(id, TapeCommand::Start(Box::new(into)));
        let mut stalled = Stalled::new(22_008, |id| vec![stop(id), start(id)]);
        assert!(stalled.tape.is_over());
        stalled.goes_on();
        assert_eq!((next.is_over(), next.reached()), (false, 160));
        let mut items = std::iter::from_fn(|| next.next_item());
        assert!(items.all(|item| matches!(item, TapeItem::Sound(_))), "from its beginning on");
    }

    #[test]
    fn who_was_muted_in_a_stall_is_not_heard_late() {
        let mute = |id, inward| Command::Mute(id, (inward, false));
        let mut stalled = Stalled::new(22_010, |id| vec![mute(id, true), mute(id, false)]);
        assert_eq!(stalled.heard(), [0_u8; 0]);
        let mut stalled = Stalled::new(22_012, |id| vec![mute(id, false)]);
        assert_eq!(stalled.heard(), ALL);
    }

    #[test]
    fn what_was_looked_at_is_done_in_order_and_before_what_came_since() {
        let mut stalled = Stalled::new(22_014, |id| vec![pause(id, true), pause(id, false)]);
        let (worker, id) = (Arc::clone(&stalled.thread.worker), stalled.id);
        assert!(worker.commands.push(pause(id, true)).is_ok());
        stalled.thread.heed();
        assert_eq!((worker.drawn.len(), worker.commands.len()), (3, 0));
        stalled.goes_on();
        assert_eq!(stalled.taped(), ["paused"], "it was not resumed");
        // No more is looked at than there is room for, and nothing is lost.
        for _ in 0..2 {
            while worker.commands.push(Command::KeyPressed(id)).is_ok() {}
            stalled.thread.heed();
        }
        assert_eq!([&worker.drawn, &worker.commands].map(ArrayQueue::len), [MEDIA_COMMANDS_MAX; 2]);
        worker.give_up();
        assert!(worker.drawn.is_empty() && worker.commands.is_empty(), "nobody waits for them");
    }
}
