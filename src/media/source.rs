//! Where media is believed to come from: learning the peer's address and locking on it, so that nobody
//! else can speak into a call or have it sent to him.

use crate::types::cache::fetch;
use crate::types::moment::Moment;
use ipnet::IpNet;
use std::net::SocketAddr;
use std::time::Duration;

/// Packets in sequence, of one stream, after which a source that was not signalled is believed.
const PROBATION_PACKETS: u8 = 4;

/// Least time over which they come: a burst proves nothing.
const PROBATION: Duration = Duration::from_millis(30);

/// After signalling, how long a source from anywhere may be learned where no addresses are listed.
const LEARNING: Duration = Duration::from_secs(5);

/// Silence of a source that was learned, since the peer signalled again, after which another may take over. Who has not
/// moved goes on speaking, or begins to after a hold.
const MOVED_AFTER: Duration = Duration::from_millis(500);

/// How long where a peer was, before it signalled another address, is not learned: until our answer is there, it sends
/// from where it was, and will not be there any more.
const LEFT: Duration = Duration::from_secs(1);

/// How long it is heard there: long enough to be learned after [`LEFT`] without a gap, where it stays after all.
const LEFT_HEARD: Duration = Duration::from_millis(1_250);

/// As many packets of it are heard there: one each 10 ms. What floods us from there must not hide where the peer is now.
const LEFT_PACKETS: u8 = 125;

/// Silence of the locked source after which a listed one may take over.
const SILENCE: Duration = Duration::from_secs(3);

/// Sources on probation at a time, so that a flood from one does not hide another.
const CANDIDATES: usize = 4;

/// The source of one media stream.
#[derive(Clone, Debug)]
pub struct SourceLock {
    signalled: Option<SocketAddr>,
    known: Known,
    symmetric: bool,
    candidates: [Option<Candidate>; CANDIDATES],
    /// Counts those there were.
    next_candidate: u8,
    /// Packets from where the peer was, since it signalled another address.
    left_packets: u8,
    learning_until: Moment,
    /// Between the two a source that was learned may turn out to have moved, once.
    moving_from: Moment,
    moving_until: Moment,
    changes: u32,
}

/// Where the peer is known to send from.
#[derive(Clone, Copy, Debug)]
enum Known {
    /// Nothing is known.
    Nowhere,
    /// There, and from there it was heard last then.
    Locked(SocketAddr, Moment),
    /// It was there, and signalled another address then: for a while what still comes from there is heard, and nothing
    /// is sent there.
    Left(SocketAddr, Moment),
}

#[derive(Clone, Copy, Debug)]
struct Candidate {
    address: SocketAddr,
    ssrc: u32,
    sequence: u16,
    packets: u8,
    since: Moment,
}

impl SourceLock {
    /// Believes nobody.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            signalled: None,
            known: Known::Nowhere,
            symmetric: true,
            candidates: [None; CANDIDATES],
            next_candidate: 0,
            left_packets: 0,
            learning_until: Moment::START,
            moving_from: Moment::START,
            moving_until: Moment::START,
            changes: 0,
        }
    }

    /// The peer said where its media is: an offer or an answer. The lock stays when that is where it
    /// was before (a hold, a refresh). But behind a NAT that can be said by a peer whose packets come from elsewhere from
    /// now on: while it `speaks`, one that falls silent where it was is followed, once. Where it is another address, what
    /// still comes from where the peer was is heard for a moment, until it comes from elsewhere.
    pub fn signal(&mut self, now: Moment, address: Option<SocketAddr>, speaks: bool) {
        self.candidates = [None; CANDIDATES];
        self.learning_until = now + LEARNING;
        self.moving_until = Moment::START;
        if address != self.signalled {
            self.signalled = address;
            self.left_packets = 0;
            self.known = match self.known {
                _ if address.is_none() => Known::Nowhere,
                Known::Locked(source, _) => Known::Left(source, now),
                Known::Nowhere | Known::Left(..) => self.known,
            };
        } else if speaks && self.locked().is_some() {
            (self.moving_from, self.moving_until) = (now, self.learning_until);
        }
    }

    /// Opens the time of learning once more: the call was answered.
    pub fn learn_again(&mut self, now: Moment) {
        self.learning_until = now + LEARNING;
    }

    /// Has the processor fetch what is read of a source that was locked: candidates are looked at only beside it.
    pub fn fetch(&self) {
        fetch(&self.signalled);
        fetch(&self.known);
    }

    /// The locked source.
    #[must_use]
    pub const fn locked(&self) -> Option<SocketAddr> {
        match self.known {
            Known::Locked(source, _) => Some(source),
            Known::Nowhere | Known::Left(..) => None,
        }
    }

    /// False: media goes to where the peer said, wherever its own comes from.
    pub const fn set_symmetric(&mut self, symmetric: bool) {
        self.symmetric = symmetric;
    }

    /// Where media goes: to the locked source, before that to the signalled one.
    #[must_use]
    pub fn destination(&self) -> Option<SocketAddr> {
        self.locked().filter(|_| self.symmetric).or(self.signalled)
    }

    /// Times a source took over from another one.
    #[must_use]
    pub const fn changes(&self) -> u32 {
        self.changes
    }

    /// Whether a packet from `source` can be believed at all; [`Self::judge`] decides when it is read.
    #[must_use]
    pub fn may_believe(&self, now: Moment, source: SocketAddr, allowed: &[IpNet]) -> bool {
        self.locked() == Some(source)
            || self.signalled == Some(source)
            || self.may_learn(now, source, allowed)
            || self.hears_left(now, source)
    }

    /// Whether a packet of the stream `ssrc` with this sequence number is believed. `allowed` are the
    /// networks listed for the peer.
    pub fn judge(
        &mut self,
        now: Moment,
        source: SocketAddr,
        (ssrc, sequence): (u32, u16),
        allowed: &[IpNet],
    ) -> bool {
        if self.locked() == Some(source) || self.signalled == Some(source) {
            self.lock(now, source);
            return true;
        }
        if self.may_learn(now, source, allowed) && self.proves(now, source, ssrc, sequence) {
            self.lock(now, source);
            return true;
        }
        let is_heard = self.hears_left(now, source);
        self.left_packets += u8::from(is_heard);
        is_heard
    }

    fn lock(&mut self, now: Moment, source: SocketAddr) {
        match self.known {
            Known::Locked(before, _) if before == source => {
                self.known = Known::Locked(source, now);
                return;
            }
            Known::Locked(..) => {
                self.changes += 1;
                self.moving_until = Moment::START;
            }
            // Where it was before: the other address that it signalled may yet come into use.
            Known::Left(before, _) if before == source => {
                (self.moving_from, self.moving_until) = (now, self.learning_until);
            }
            Known::Nowhere | Known::Left(..) => (),
        }
        self.candidates = [None; CANDIDATES];
        self.known = Known::Locked(source, now);
    }

    /// Whether a source is where the peer was until a moment ago, and may not yet know that we know.
    fn hears_left(&self, now: Moment, source: SocketAddr) -> bool {
        matches!(self.known, Known::Left(left, since)
            if left == source
                && now.since(since) < LEFT_HEARD
                && self.left_packets < LEFT_PACKETS)
    }

    fn may_learn(&self, now: Moment, source: SocketAddr, allowed: &[IpNet]) -> bool {
        let Some(signalled) = self.signalled else { return false };
        let host = source.ip();
        let listed = signalled.ip() == host || allowed.iter().any(|net| net.contains(&host));
        match self.known {
            Known::Left(left, since) if left == source && now.since(since) < LEFT => false,
            Known::Nowhere | Known::Left(..) => {
                listed || (allowed.is_empty() && now < self.learning_until)
            }
            Known::Locked(locked, heard) => {
                let silence = now.since(heard);
                let may_move = locked != signalled && now < self.moving_until;
                // Silence in a hold before says nothing.
                let moves = may_move && now.since(heard.max(self.moving_from)) >= MOVED_AFTER;
                (listed && (moves || silence >= SILENCE)) || (allowed.is_empty() && moves)
            }
        }
    }

    /// The source, where it is the signalled one and speaks: nobody may take over from it now.
    #[must_use]
    pub fn sole(&self, now: Moment) -> Option<SocketAddr> {
        match self.known {
            Known::Locked(locked, heard) => {
                (Some(locked) == self.signalled && now.since(heard) < MOVED_AFTER).then_some(locked)
            }
            Known::Nowhere | Known::Left(..) => None,
        }
    }

    /// Counts a packet of a source on probation; true when it has proved itself.
    fn proves(&mut self, now: Moment, address: SocketAddr, ssrc: u32, sequence: u16) -> bool {
        let known = self.candidates.iter_mut().flatten().find(|one| one.address == address);
        if let Some(candidate) = known {
            if candidate.ssrc != ssrc || candidate.sequence.wrapping_add(1) != sequence {
                *candidate = Candidate { address, ssrc, sequence, packets: 1, since: now };
                return false;
            }
            candidate.sequence = sequence;
            candidate.packets = candidate.packets.saturating_add(1);
            return candidate.packets >= PROBATION_PACKETS
                && now.since(candidate.since) >= PROBATION;
        }
        let fresh = Candidate { address, ssrc, sequence, packets: 1, since: now };
        if let Some(place) = self.candidates.get_mut(usize::from(self.next_candidate) % CANDIDATES)
        {
            *place = Some(fresh);
        }
        self.next_candidate = self.next_candidate.wrapping_add(1);
        false
    }
}

impl Default for SourceLock {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> SocketAddr {
        text.parse().expect("address")
    }

    struct Scene {
        lock: SourceLock,
        allowed: Vec<IpNet>,
        now_ms: u64,
    }

    impl Scene {
        fn new(allowed: &[&str]) -> Self {
            let mut lock = SourceLock::new();
            lock.signal(Moment::START, Some(at("192.0.2.1:4000")), true);
            let allowed = allowed.iter().map(|net| net.parse().expect("net")).collect();
            Self { lock, allowed, now_ms: 0 }
        }

        /// Sends `count` packets of a stream, 20 ms apart; returns how many were believed.
        fn send(&mut self, source: &str, count: u16) -> usize {
            let believed = (0..count).filter(|sequence| {
                self.now_ms += 20;
                let now = Moment::from_millis(self.now_ms);
                self.lock.judge(now, at(source), (7, *sequence), &self.allowed)
            });
            believed.count()
        }
    }

    #[test]
    fn the_signalled_source_is_believed_at_once_and_wins_over_a_learned_one() {
        let mut scene = Scene::new(&[]);
        assert_eq!(scene.send("198.51.100.1:9", 10), 7);
        assert_eq!(scene.lock.destination(), Some(at("198.51.100.1:9")));
        assert_eq!(scene.send("192.0.2.1:4000", 1), 1);
        assert_eq!(scene.lock.destination(), Some(at("192.0.2.1:4000")));
        assert_eq!(scene.send("198.51.100.1:9", 10), 0);
        assert_eq!(scene.lock.changes(), 1);
    }

    #[test]
    fn a_flood_from_where_the_peer_was_is_not_heard_for_long() {
        let mut scene = Scene::new(&[]);
        assert_eq!(scene.send("192.0.2.1:4000", 10), 10);
        let now = Moment::from_millis(scene.now_ms);
        scene.lock.signal(now, Some(at("192.0.2.1:5000")), true);
        let mut left = |sequence| scene.lock.judge(now, at("192.0.2.1:4000"), (7, sequence), &[]);
        let heard = (10..1_000).filter(|sequence| left(*sequence)).count();
        assert_eq!(heard, usize::from(LEFT_PACKETS));
        assert_eq!(scene.send("192.0.2.1:5000", 10), 10);
    }

    #[test]
    fn a_second_source_never_takes_over_while_the_first_speaks() {
        let mut scene = Scene::new(&["0.0.0.0/0"]);
        for _ in 0..100 {
            assert_eq!(scene.send("192.0.2.1:4000", 1), 1);
            assert_eq!(scene.send("192.0.2.1:4002", 10), 0);
        }
    }

    #[test]
    fn after_silence_a_listed_source_takes_over_and_an_unlisted_one_does_not() {
        let mut scene = Scene::new(&["203.0.113.0/24"]);
        assert_eq!(scene.send("192.0.2.1:4000", 1), 1);
        scene.now_ms += 3_000;
        assert_eq!(scene.send("198.51.100.1:9", 50), 0);
        assert_eq!(scene.send("203.0.113.9:5000", 10), 7);
        assert_eq!(scene.lock.destination(), Some(at("203.0.113.9:5000")));
    }

    #[test]
    fn a_stranger_is_only_learned_in_the_first_seconds() {
        let mut scene = Scene::new(&[]);
        scene.now_ms = 5_000;
        assert_eq!(scene.send("198.51.100.1:9", 100), 0);
        assert_eq!(scene.send("192.0.2.1:4002", 10), 7, "another port of the signalled address");
    }

    #[test]
    fn listed_networks_keep_strangers_out_from_the_start() {
        let mut scene = Scene::new(&["203.0.113.0/24"]);
        assert_eq!(scene.send("198.51.100.1:9", 100), 0);
        assert_eq!(scene.send("203.0.113.9:5000", 10), 7);
    }

    #[test]
    fn a_burst_or_a_broken_sequence_proves_nothing() {
        let mut scene = Scene::new(&[]);
        let now = Moment::from_millis(10);
        let source = at("198.51.100.1:9");
        assert!((0..30).all(|n| !scene.lock.judge(now, source, (7, n), &[])));
        let mut scene = Scene::new(&[]);
        for n in 0..30 {
            let now = Moment::from_millis(u64::from(n) * 20);
            assert!(!scene.lock.judge(now, source, (7, n * 2), &[]));
            assert!(!scene.lock.judge(now, at("198.51.100.1:11"), (u32::from(n), n), &[]));
        }
    }

    #[test]
    fn a_refresh_keeps_the_lock_and_a_new_address_loses_it() {
        let mut scene = Scene::new(&[]);
        assert_eq!(scene.send("192.0.2.1:4002", 10), 7);
        let now = Moment::from_millis(60_000);
        scene.lock.signal(now, Some(at("192.0.2.1:4000")), true);
        assert_eq!(scene.lock.destination(), Some(at("192.0.2.1:4002")));
        scene.lock.signal(now, Some(at("192.0.2.77:6000")), true);
        assert_eq!(scene.lock.destination(), Some(at("192.0.2.77:6000")));
        scene.lock.signal(now, None, true);
        assert_eq!(scene.lock.destination(), None);
    }

    /// A peer behind a NAT was learned, and signalled the same address again a minute later.
    fn refreshed(allowed: &[&str], speaks: bool) -> Scene {
        let mut scene = Scene::new(allowed);
        assert_eq!(scene.send("198.51.100.1:9", 10), 7);
        scene.now_ms = 60_000;
        let now = Moment::from_millis(scene.now_ms);
        assert!(scene.lock.judge(now, at("198.51.100.1:9"), (7, 10), &scene.allowed));
        scene.lock.signal(now, Some(at("192.0.2.1:4000")), speaks);
        scene
    }

    #[test]
    fn after_signalling_a_peer_behind_a_nat_that_moved_is_followed_once() {
        let mut scene = refreshed(&[], true);
        // Half a second of silence where it was, then four packets prove it.
        assert_eq!(scene.send("203.0.113.5:70", 40), 40 - 24 - 3);
        assert_eq!(scene.lock.destination(), Some(at("203.0.113.5:70")));
        assert_eq!(scene.lock.changes(), 1);
        scene.now_ms += 1_000;
        assert_eq!(scene.send("203.0.113.6:70", 20), 0, "once");
    }

    #[test]
    fn who_did_not_move_is_not_taken_over_from_by_a_refresh() {
        let mut scene = refreshed(&[], true);
        for number in 0..300 {
            assert_eq!(scene.send("203.0.113.5:70", 4), 0);
            let now = Moment::from_millis(scene.now_ms);
            assert!(scene.lock.judge(now, at("198.51.100.1:9"), (7, 11 + number), &[]));
        }
        let mut late = refreshed(&[], true);
        late.now_ms += 5_000;
        assert_eq!(late.send("203.0.113.5:70", 50), 0, "too late");
        let mut held = refreshed(&[], false);
        assert_eq!(held.send("203.0.113.5:70", 200), 0, "it said that it will be silent");
        // Whose own address is believed would have signalled another.
        let mut plain = Scene::new(&[]);
        assert_eq!(plain.send("192.0.2.1:4000", 1), 1);
        let now = Moment::from_millis(plain.now_ms);
        plain.lock.signal(now, Some(at("192.0.2.1:4000")), true);
        assert_eq!(plain.send("203.0.113.5:70", 200), 0);
        let listed = ["198.51.100.0/24", "203.0.113.0/24"];
        assert_eq!(refreshed(&listed, true).send("192.0.2.200:70", 200), 0);
        assert_eq!(refreshed(&listed, true).send("203.0.113.5:70", 40), 40 - 24 - 3);
    }

    #[test]
    fn silence_before_the_signalling_lets_nobody_take_over() {
        let mut scene = refreshed(&[], true);
        // A hold of a minute, in which nothing came, ends.
        scene.now_ms += 60_000;
        let now = Moment::from_millis(scene.now_ms);
        scene.lock.signal(now, Some(at("192.0.2.1:4000")), true);
        assert_eq!(scene.send("203.0.113.5:70", 24), 0);
        let now = Moment::from_millis(scene.now_ms);
        assert!(scene.lock.judge(now, at("198.51.100.1:9"), (7, 11), &[]));
        assert_eq!(scene.send("203.0.113.5:70", 24), 0, "the peer is there");
    }

    /// A peer behind a NAT was learned, and signalled another address a minute later.
    fn leaving(allowed: &[&str]) -> Scene {
        let mut scene = refreshed(allowed, true);
        scene.lock.signal(Moment::from_millis(scene.now_ms), Some(at("10.0.0.5:6000")), true);
        scene
    }

    #[test]
    fn who_leaves_is_heard_where_it_was_and_sent_nothing_there() {
        let mut scene = leaving(&[]);
        assert_eq!(scene.send("198.51.100.1:9", 40), 40, "our answer takes 0.8 s");
        assert_eq!(scene.lock.destination(), Some(at("10.0.0.5:6000")));
        assert_eq!(scene.send("198.51.100.1:12", 10), 7);
        assert_eq!(scene.lock.destination(), Some(at("198.51.100.1:12")));
        assert_eq!(scene.send("198.51.100.1:9", 100), 0, "it is elsewhere now");
        assert_eq!(scene.lock.changes(), 0, "nobody was taken over from");
        let mut plain = leaving(&[]);
        assert_eq!(plain.send("198.51.100.1:9", 10), 10);
        assert_eq!(plain.send("10.0.0.5:6000", 1), 1);
        assert_eq!(plain.send("198.51.100.1:9", 100), 0);
        assert_eq!(plain.lock.destination(), Some(at("10.0.0.5:6000")));
    }

    #[test]
    fn who_stays_where_it_was_is_learned_again_without_a_gap_and_followed_once_if_it_goes_late() {
        for allowed in [&[][..], &["198.51.100.0/24", "203.0.113.0/24"]] {
            let mut scene = leaving(allowed);
            assert_eq!(scene.send("198.51.100.1:9", 100), 100);
            assert_eq!(scene.lock.destination(), Some(at("198.51.100.1:9")));
            // Half a second of silence where it was, then four packets prove it.
            assert_eq!(scene.send("203.0.113.5:70", 40), 40 - 24 - 3);
            assert_eq!(scene.lock.destination(), Some(at("203.0.113.5:70")));
            scene.now_ms += 1_000;
            assert_eq!(scene.send("203.0.113.6:70", 20), 0, "once");
        }
    }

    #[test]
    fn where_a_peer_was_has_no_more_rights_than_any_place_once_it_had_time_to_leave() {
        let mut scene = leaving(&[]);
        scene.now_ms += 1_250;
        assert_eq!(scene.send("198.51.100.1:9", 10), 7);
        let mut late = leaving(&[]);
        late.now_ms += 5_000;
        assert_eq!(late.send("198.51.100.1:9", 100), 0);
        let mut listed = leaving(&["198.51.100.1/32"]);
        assert_eq!(listed.send("198.51.100.66:9", 100), 0, "nor have strangers more than before");
        let mut held = leaving(&[]);
        held.lock.signal(Moment::from_millis(held.now_ms), None, false);
        assert_eq!(held.send("198.51.100.1:9", 100), 0, "it wants nothing, and is heard nowhere");
    }

    #[test]
    fn a_signalled_source_that_speaks_is_the_only_one() {
        let mut scene = Scene::new(&[]);
        assert_eq!(scene.send("192.0.2.1:4000", 1), 1);
        let sole = |scene: &Scene, ms: u64| scene.lock.sole(Moment::from_millis(ms));
        assert_eq!(sole(&scene, 519), Some(at("192.0.2.1:4000")));
        assert_eq!(sole(&scene, 520), None, "it may have gone");
        let mut learned = Scene::new(&[]);
        assert_eq!(learned.send("198.51.100.1:9", 10), 7);
        assert_eq!(sole(&learned, 201), None, "the signalled one may yet come");
    }
}
