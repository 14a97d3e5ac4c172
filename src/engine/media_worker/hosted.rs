//! A session with its sockets on a media thread: what arrives, its ticks, and the ticks that came too late.

use crate::clock;
use crate::engine::media_events::MediaEventsIn;
use crate::engine::media_worker::Place;
use crate::engine::media_worker::lone_packets::LonePackets;
use crate::engine::media_worker::sleepers::Sleepers;
use crate::media::output::Port;
use crate::media::output::Taken;
use crate::media::output::TickOutput;
use crate::media::pace::TICK;
use crate::media::session::LATE_TICKS_HEARD_MAX;
use crate::media::session::MediaSession;
use crate::media::session::Received;
use crate::media::statistics::MediaStatistics;
use crate::media::waits::Waits;
use crate::net::port_pool::RtpPorts;
use crate::net::rtp_socket::RtpSocket;
use crate::rtp::jitter::Luggage;
use crate::types::limit::MEDIA_SESSIONS_MAX;
use crate::types::limit::RTP_PACKET_BYTES_MAX;
use crate::types::limit::RTP_READS_PER_TICK_MAX;
use crate::types::limit::RTP_STRANGERS_PER_PHASE_MAX;
use crate::types::limit::RTP_STRANGERS_PER_TICK_MAX;
use crate::types::limit::VOICE_MODELS_MAX;
use crate::types::moment::Moment;
use std::net::SocketAddr;
use std::time::Duration;

/// Reports come every few seconds and bear the kernel's time stamp: they can wait 100 ms.
const TICKS_PER_RTCP_READ: u32 = 5;

/// Datagrams of strangers in a tick from which they are kept out, 6,400 a second: fewer leave room enough where the
/// peer's wait for us, and are counted.
const FLOOD: usize = RTP_STRANGERS_PER_TICK_MAX / 2;

/// Longest time a datagram is believed to have waited for us.
const ARRIVAL_AGE_MAX: Duration = Duration::from_secs(1);

/// A session with all that belongs to it on a thread.
#[derive(Debug)]
pub(crate) struct Hosted {
    /// By pointer, as it was made: it is most of what lies here.
    pub(super) session: Box<MediaSession>,
    pub(super) ports: RtpPorts,
    pub(super) events: MediaEventsIn,
    pub(super) place: Place,
    /// Its place at the thread where it was before.
    pub(super) before: Option<Place>,
    /// What waited there to be heard, until it is here.
    pub(super) luggage: Option<Luggage>,
    /// When its last tick was due, run or left out.
    pub(super) last_due: Option<Moment>,
    /// Ticks of its thread that are not its own: it had those at the thread before, which was ahead.
    pub(super) rests: u32,
    /// Whom its socket of RTP keeps to, while it does.
    pub(super) kept_to: Option<SocketAddr>,
    pub(super) phase: usize,
    pub(super) waits: Waits,
    lone: LonePackets,
    pub(super) failed: bool,
    pub(super) ticks: u32,
    /// Ticks for which nobody has read its events.
    pub(super) left_ticks: u32,
}

impl Hosted {
    pub(crate) const fn new(
        place: Place,
        session: Box<MediaSession>,
        ports: RtpPorts,
        events: MediaEventsIn,
    ) -> Self {
        let waits = Waits::new();
        let (phase, failed, ticks, left_ticks) = (0, false, 0, 0);
        let (before, luggage, last_due, kept_to, rests) = (None, None, None, None, 0);
        Self {
            session,
            ports,
            events,
            place,
            before,
            luggage,
            last_due,
            rests,
            kept_to,
            phase,
            waits,
            lone: LonePackets::NONE,
            failed,
            ticks,
            left_ticks,
        }
    }

    pub(crate) fn statistics(&self) -> MediaStatistics {
        self.session.statistics()
    }

    /// Reads what arrived, then runs one tick.
    pub(super) fn tick(&mut self, desk: &mut Desk) {
        self.receive(Port::Rtp, desk);
        if self.ticks.is_multiple_of(TICKS_PER_RTCP_READ) {
            self.receive(Port::Rtcp, desk);
        }
        self.ticks = self.ticks.wrapping_add(1);
        self.last_due = Some(desk.due);
        self.session.tick(desk.now, &mut desk.out);
        self.perform(&mut desk.out);
        desk.sleepers.add(self.session.take_agents_waker());
    }

    /// Reads what arrived, then runs one tick, unless it had that one elsewhere.
    pub(super) fn tick_in_turn(&mut self, desk: &mut Desk) {
        match self.rests.checked_sub(1) {
            Some(rests) => self.rests = rests,
            None => self.tick(desk),
        }
    }

    /// The same for `ticks` that are over: what is left of them is its own.
    pub(super) fn own_of(&mut self, ticks: u64) -> u64 {
        let elsewhere = u64::from(self.rests).min(ticks);
        self.rests = self.rests.saturating_sub(u32::try_from(elsewhere).unwrap_or(u32::MAX));
        ticks - elsewhere
    }

    /// Leaves out `ticks` that are over: nothing is sent for them. What had arrived by each is heard in its turn,
    /// `hears`, or left out as well.
    pub(super) fn skip(&mut self, ticks: u64, hears: bool, desk: &mut Desk) {
        let mut newest = Moment::START;
        for before in (1..=ticks.min(LATE_TICKS_HEARD_MAX)).rev() {
            if !hears {
                self.session.miss(ticks - before, &mut desk.out);
                continue;
            }
            let due = desk.now - TICK * u32::try_from(before).unwrap_or(0);
            self.receive_until(due, &mut newest, desk);
            self.session.hear_late(due, ticks - before, &mut desk.out);
            self.perform(&mut desk.out);
        }
        self.session.skip(ticks);
        self.lone = LonePackets::NONE;
        desk.sleepers.add(self.session.take_agents_waker());
        let left_out = TICK * u32::try_from(ticks).unwrap_or(u32::MAX);
        self.last_due = self.last_due.map(|last| last + left_out);
    }

    fn receive(&mut self, port: Port, desk: &mut Desk) {
        let mut reads = Reads::default();
        while reads.may_go_on(desk)
            && let Some(read) = self.receive_one(port, desk)
        {
            reads.count(read.taken, desk);
            if read.taken == Taken::Media {
                if read.waited.is_some() {
                    self.waits.note(read.at, desk.due);
                }
                if self.lone.is_last(read.waited, self.session.newest_of_ticks()) {
                    break;
                }
            }
        }
        if port == Port::Rtp {
            self.lone.note(reads.peers + reads.strangers, self.session.newest_of_ticks());
            self.shield(&reads, desk.now);
        }
    }

    /// Has the system drop what strangers send while it comes in numbers: their datagrams would leave no room for the
    /// peer's where those wait for us. Only while it is certain whose are the peer's.
    fn shield(&mut self, reads: &Reads, now: Moment) {
        let sole = self.session.sole_source(now);
        match (self.ports.keeps(), sole) {
            (true, sole) if sole != self.kept_to => self.ports.keep_to(None),
            (false, Some(_)) if reads.strangers >= FLOOD => {
                self.kept_to = sole;
                self.ports.keep_to(sole);
            }
            (true | false, Some(_) | None) => (),
        }
    }

    /// Reads what arrived up to `until`, and one packet more: only then is it known. `newest` is when the last one
    /// came.
    fn receive_until(&mut self, until: Moment, newest: &mut Moment, desk: &mut Desk) {
        let mut reads = Reads::default();
        while *newest <= until
            && reads.may_go_on(desk)
            && let Some(read) = self.receive_one(Port::Rtp, desk)
        {
            reads.count(read.taken, desk);
            *newest = read.at;
        }
    }

    /// Takes the next datagram. `None`: there is none.
    fn receive_one(&mut self, port: Port, desk: &mut Desk) -> Option<Read> {
        let arrival = self.socket(port)?.receive(&mut desk.datagram)?;
        let bytes = desk.datagram.get(..arrival.length)?;
        let waited = desk.age_of(arrival.stamp);
        let at = desk.now - waited.unwrap_or(Duration::ZERO);
        let datagram = Received { port, source: arrival.source, bytes };
        let taken = self.session.receive(at, &datagram, &mut desk.out);
        Some(Read { at, waited, taken })
    }

    const fn socket(&self, port: Port) -> Option<&RtpSocket> {
        match port {
            Port::Rtp => Some(self.ports.rtp()),
            Port::Rtcp => self.ports.rtcp(),
        }
    }

    pub(super) fn perform(&mut self, out: &mut TickOutput) {
        for (port, to, bytes) in out.transmits() {
            // A datagram the system does not take is lost like any other on its way.
            self.socket(port).map(|socket| socket.send(bytes, to));
        }
        for event in out.events() {
            self.events.push(*event);
        }
        out.clear();
    }
}

/// A datagram that was read.
struct Read {
    /// When it arrived.
    at: Moment,
    /// How long ago that was, where the kernel's stamp tells.
    waited: Option<Duration>,
    taken: Taken,
}

/// Datagrams that were read from a socket in a tick. Those of strangers take nothing from what the peer's may be.
#[derive(Default)]
struct Reads {
    peers: usize,
    strangers: usize,
}

impl Reads {
    const fn may_go_on(&self, desk: &Desk) -> bool {
        let for_strangers = if desk.strangers_left == 0 {
            RTP_READS_PER_TICK_MAX
        } else {
            RTP_STRANGERS_PER_TICK_MAX
        };
        self.peers < RTP_READS_PER_TICK_MAX && self.strangers < for_strangers
    }

    const fn count(&mut self, taken: Taken, desk: &mut Desk) {
        match taken {
            Taken::Media | Taken::Report => self.peers += 1,
            Taken::Refused => {
                self.strangers += 1;
                desk.strangers_left = desk.strangers_left.saturating_sub(1);
            }
        }
    }
}

/// What a thread works with, used again for every session.
pub(super) struct Desk {
    pub(super) now: Moment,
    /// When the phase was to begin.
    pub(super) due: Moment,
    /// Which it is.
    pub(super) phase: usize,
    /// The same on the wall clock, since 1970: stamps of the kernel are read by the difference.
    pub(super) wall: Duration,
    datagram: [u8; RTP_PACKET_BYTES_MAX],
    /// Datagrams of strangers that may still be read in this phase.
    pub(super) strangers_left: usize,
    pub(super) out: TickOutput,
    /// The agents of the sessions that had their tick, or left it out.
    pub(super) sleepers: Sleepers,
}

impl Desk {
    pub(super) fn new() -> Self {
        Self {
            now: clock::now(),
            due: Moment::START,
            phase: 0,
            wall: Duration::ZERO,
            datagram: [0; RTP_PACKET_BYTES_MAX],
            strangers_left: RTP_STRANGERS_PER_PHASE_MAX,
            out: TickOutput::for_sessions(MEDIA_SESSIONS_MAX, VOICE_MODELS_MAX),
            sleepers: Sleepers::new(),
        }
    }

    pub(super) fn read_clocks(&mut self) {
        self.now = clock::now();
        let wall = clock::wall_now().as_nanosecond();
        self.wall = Duration::from_nanos(u64::try_from(wall).unwrap_or(0));
    }

    /// How long a datagram waited, as far as its stamp is credible: a step of the wall clock is not.
    fn age_of(&self, stamp: Option<Duration>) -> Option<Duration> {
        let age = stamp.and_then(|stamp| self.wall.checked_sub(stamp));
        age.filter(|age| *age <= ARRIVAL_AGE_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_of_a_clock_that_was_set_is_not_believed() {
        let mut desk = Desk::new();
        desk.now = Moment::from_millis(10_000);
        desk.wall = Duration::from_secs(1_000_000);
        let ago = |ms: i64| {
            let wall = desk.wall.as_millis() as i64 - ms;
            desk.age_of(Some(Duration::from_millis(wall as u64)))
        };
        assert_eq!(ago(18), Some(Duration::from_millis(18)));
        assert_eq!(ago(1_000), Some(Duration::from_secs(1)));
        for unlikely in [1_001, 3_600_000, -5] {
            assert_eq!(ago(unlikely), None, "{unlikely}");
        }
        assert_eq!(desk.age_of(None), None);
    }
}
