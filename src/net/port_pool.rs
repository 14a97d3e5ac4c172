//! The pool of RTP ports: an even port for RTP and the next one for RTCP, chosen at random.

use crate::clock;
use crate::net::rtp_socket::RtpSocket;
use crate::types::kept_ports::KeptPorts;
use crate::types::moment::Moment;
use crate::types::random::Random;
use crate::types::transport::InterfaceName;
use std::collections::HashMap;
use std::collections::VecDeque;
use std::io;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

/// How long a returned pair rests, so that late packets of the call before reach nobody.
pub const QUARANTINE: Duration = Duration::from_secs(5);

/// Pairs tried in one reservation when other programs hold ports of the range.
const ATTEMPTS_MAX: usize = 64;

/// Pairs looked at by chance before all are, for one to which no trunk keeps.
const LOOKS_MAX: usize = 16;

/// Where media sockets are bound.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RtpLocal {
    /// The local address; may be the wildcard.
    pub address: IpAddr,
    /// The network interface that packets keep to; `None`: any.
    pub interface: Option<InterfaceName>,
}

impl From<IpAddr> for RtpLocal {
    fn from(address: IpAddr) -> Self {
        Self { address, interface: None }
    }
}

/// What no trunk keeps to.
static UNKEPT: KeptPorts = KeptPorts::NONE;

/// The pairs that a leg may have.
#[derive(Clone, Copy, Debug)]
pub enum PortChoice<'a> {
    /// Those that lie in this range as a whole.
    Within(&'a RangeInclusive<u16>),
    /// All, but those to which a trunk keeps only where no others are free: its calls may have no others.
    Beside(&'a KeptPorts),
}

impl PortChoice<'static> {
    /// All alike.
    pub const ANY: Self = Self::Beside(&UNKEPT);
}

impl<'a> PortChoice<'a> {
    /// Those `within` a range, where that is given, and else those beside what is `kept`.
    #[must_use]
    pub fn new(within: Option<&'a RangeInclusive<u16>>, kept: &'a KeptPorts) -> Self {
        within.map_or(Self::Beside(kept), Self::Within)
    }
}

/// A pool of port pairs for each local address.
#[derive(Debug)]
pub struct PortPool {
    range: RangeInclusive<u16>,
    quarantine: Duration,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    random: Random,
    addresses: HashMap<RtpLocal, Pairs>,
}

/// The even ports of one address.
#[derive(Debug, Default)]
struct Pairs {
    free: Vec<u16>,
    resting: VecDeque<(Moment, u16)>,
}

impl PortPool {
    /// A pool over `range`, whose choices follow from `seed`.
    #[must_use]
    pub fn new(range: RangeInclusive<u16>, seed: u64) -> Arc<Self> {
        Self::with_quarantine(range, seed, QUARANTINE)
    }

    fn with_quarantine(range: RangeInclusive<u16>, seed: u64, quarantine: Duration) -> Arc<Self> {
        let state = State { random: Random::from_seed(seed), addresses: HashMap::new() };
        Arc::new(Self { range, quarantine, state: Mutex::new(state) })
    }

    /// Binds a pair of `local`, one of `choice`.
    ///
    /// # Errors
    /// When no pair is free, or the system gives no socket.
    pub fn reserve(
        self: &Arc<Self>,
        local: impl Into<RtpLocal>,
        choice: PortChoice<'_>,
    ) -> Result<RtpPorts, NoPorts> {
        let local = local.into();
        for _ in 0..ATTEMPTS_MAX {
            let even = self.take(&local, choice).ok_or(NoPorts::Exhausted)?;
            let bound = bind_pair(&local, even);
            let local = local.clone();
            let lease = Lease { pool: Arc::clone(self), local, even, used: false };
            match bound {
                Ok((rtp, rtcp)) => return Ok(RtpPorts::new(rtp, rtcp, lease)),
                // Another program's: it rests like a used one.
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => lease.rest(),
                Err(error) => {
                    drop(lease);
                    return Err(NoPorts::Refused(error));
                }
            }
        }
        Err(NoPorts::Exhausted)
    }

    fn take(&self, local: &RtpLocal, choice: PortChoice<'_>) -> Option<u16> {
        let now = clock::now();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let State { random, addresses } = &mut *state;
        if !addresses.contains_key(local) {
            let pairs = Pairs { free: even_ports(&self.range), resting: VecDeque::new() };
            addresses.insert(local.clone(), pairs);
        }
        let pairs = addresses.get_mut(local)?;
        while let Some((_, even)) = pairs.resting.pop_front_if(|(until, _)| *until <= now) {
            pairs.free.push(even);
        }
        let chosen = match choice {
            PortChoice::Within(range) => {
                one_of(&pairs.free, random, |even| range.contains(&even) && even < *range.end())
            }
            PortChoice::Beside(kept) => one_beside(&pairs.free, random, kept),
        };
        chosen.map(|chosen| pairs.free.swap_remove(chosen))
    }

    fn give_back(&self, local: &RtpLocal, even: u16, used: bool) {
        let now = clock::now();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(pairs) = state.addresses.get_mut(local) else { return };
        if used {
            pairs.resting.push_back((now + self.quarantine, even));
        } else {
            pairs.free.push(even);
        }
    }
}

/// Where a pair is in `free`, of those that are `fit`.
fn one_of(free: &[u16], random: &mut Random, fit: impl Fn(u16) -> bool) -> Option<usize> {
    let fit = free.iter().enumerate().filter(|(_, even)| fit(**even));
    let nth = random.below(fit.clone().count() as u64) as usize;
    fit.map(|(index, _)| index).nth(nth)
}

/// Where a pair is in `free`, of those that are not `kept` if there is one. Mostly a few looks find it in however long
/// a list.
fn one_beside(free: &[u16], random: &mut Random, kept: &KeptPorts) -> Option<usize> {
    let is_kept = |even: u16| kept.contains(even) || kept.contains(even + 1);
    for _ in 0..LOOKS_MAX {
        let chosen = random.below(free.len() as u64) as usize;
        if !is_kept(*free.get(chosen)?) {
            return Some(chosen);
        }
    }
    one_of(free, random, |even| !is_kept(even)).or_else(|| one_of(free, random, |_| true))
}

/// The even ports of `range` whose successor is in it too.
fn even_ports(range: &RangeInclusive<u16>) -> Vec<u16> {
    let last = *range.end();
    range.clone().filter(|port| port % 2 == 0 && *port > 0 && *port < last).collect()
}

fn bind_pair(local: &RtpLocal, even: u16) -> io::Result<(RtpSocket, RtpSocket)> {
    let RtpLocal { address, interface } = local;
    let (at, by) = (|port| SocketAddr::new(*address, port), interface.as_ref());
    let rtp = RtpSocket::bind_by(at(even), by)?;
    let rtcp = RtpSocket::bind_for_reports(at(even + 1), by)?;
    Ok((rtp, rtcp))
}

/// A bound pair of ports. Dropping it closes the sockets; the pair then rests before it is used again.
#[derive(Debug)]
pub struct RtpPorts {
    /// The RTP port, even.
    pub rtp_port: u16,
    /// The RTCP port, the next one.
    pub rtcp_port: u16,
    /// The local address; may be the wildcard.
    pub address: IpAddr,
    // Closed before the lease gives the pair back: fields drop in this order.
    rtp: RtpSocket,
    rtcp: Option<RtpSocket>,
    /// The traffic class of what both send.
    dscp: u8,
    /// The socket of RTP gets the packets of one peer alone.
    keeps: bool,
    lease: Lease,
}

impl RtpPorts {
    fn new(rtp: RtpSocket, rtcp: RtpSocket, mut lease: Lease) -> Self {
        lease.used = true;
        let (address, even) = (lease.local.address, lease.even);
        let (rtp_port, rtcp_port, rtcp) = (even, even + 1, Some(rtcp));
        Self { rtp_port, rtcp_port, address, rtp, rtcp, dscp: 0, keeps: false, lease }
    }

    /// Has the system mark what both send with the traffic class `dscp` (RFC 2474) from now on; 0: as it does by
    /// itself.
    pub fn classify(&mut self, dscp: u8) {
        if std::mem::replace(&mut self.dscp, dscp) == dscp {
            return;
        }
        for socket in [Some(&self.rtp), self.rtcp.as_ref()].into_iter().flatten() {
            socket.classify(self.address, dscp);
        }
    }

    /// Leaves RTCP its own port, or takes its socket away where it shares RTP's (RFC 5761): a descriptor
    /// less for each such call. The pair stays ours as a whole. The socket comes back, for who may close it.
    ///
    /// One that was taken is bound anew. Where the system gives none, no report is sent or read: a call
    /// does without.
    #[must_use = "closing a socket takes its time"]
    pub fn part_rtcp(&mut self, apart: bool) -> Option<RtpSocket> {
        if !apart {
            return self.rtcp.take();
        }
        if self.rtcp.is_none() {
            let interface = self.lease.local.interface.as_ref();
            let address = SocketAddr::new(self.address, self.rtcp_port);
            self.rtcp = RtpSocket::bind_for_reports(address, interface).ok();
            self.rtcp.iter().for_each(|socket| socket.classify(self.address, self.dscp));
        }
        None
    }

    /// Has the system drop what others than `peer` send to the socket of RTP, or nothing any more (`None`). One that is bound
    /// to every address stays open: the system would have to choose one of them. So does one that is bound to an
    /// interface, which the system forgets with the peer.
    pub fn keep_to(&mut self, peer: Option<SocketAddr>) {
        let may = !self.address.is_unspecified() && self.lease.local.interface.is_none();
        if may && self.rtp.keep_to(peer) {
            self.keeps = peer.is_some();
        }
    }

    /// Whether the socket of RTP gets the packets of one peer alone.
    #[must_use]
    pub const fn keeps(&self) -> bool {
        self.keeps
    }

    /// The socket of RTP.
    #[must_use]
    pub const fn rtp(&self) -> &RtpSocket {
        &self.rtp
    }

    /// The socket of RTCP, while it has one of its own.
    #[must_use]
    pub const fn rtcp(&self) -> Option<&RtpSocket> {
        self.rtcp.as_ref()
    }
}

/// Why there are no RTP ports: the call gets 503.
#[derive(Debug, thiserror::Error)]
pub enum NoPorts {
    /// Every pair of the range is in use, resting, or taken by another program.
    #[error("no RTP ports are free")]
    Exhausted,
    /// The system gives no socket: no descriptors are left, or the address is not this machine's.
    #[error("the system gives no socket for RTP")]
    Refused(#[source] io::Error),
}

/// The right to a pair; given back when dropped.
#[derive(Debug)]
struct Lease {
    pool: Arc<PortPool>,
    local: RtpLocal,
    even: u16,
    /// Packets may still come to it.
    used: bool,
}

impl Lease {
    fn rest(mut self) {
        self.used = true;
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.pool.give_back(&self.local, self.even, self.used);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::mark::tests::Listening;

    /// An address that no other test uses, so that ports never collide.
    const ADDRESS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(127, 91, 7, 1));

    #[test]
    fn pairs_are_even_and_odd_and_inside_the_range() {
        assert_eq!(even_ports(&(20_000..=20_005)), [20_000, 20_002, 20_004]);
        assert_eq!(even_ports(&(20_001..=20_004)), [20_002]);
        assert!(even_ports(&(20_000..=20_000)).is_empty());
        assert_eq!(even_ports(&(65_532..=65_535)), [65_532, 65_534]);
    }

    #[test]
    fn an_exhausted_range_is_refused_and_comes_back_after_its_rest() {
        let pool = PortPool::with_quarantine(20_000..=20_019, 1, Duration::ZERO);
        let held: Vec<_> =
            (0..10).map(|_| pool.reserve(ADDRESS, PortChoice::ANY).expect("free")).collect();
        let mut ports: Vec<u16> = held.iter().map(|ports| ports.rtp_port).collect();
        assert!(!ports.is_sorted(), "ports are chosen at random");
        ports.sort_unstable();
        assert_eq!(ports, even_ports(&(20_000..=20_019)));
        assert!(held.iter().all(|ports| ports.rtcp_port == ports.rtp_port + 1));
        assert!(matches!(pool.reserve(ADDRESS, PortChoice::ANY), Err(NoPorts::Exhausted)));
        drop(held);
        assert!(pool.reserve(ADDRESS, PortChoice::ANY).is_ok());
    }

    #[test]
    fn a_part_of_the_range_is_kept_to_and_exhausted_by_itself() {
        let pool = PortPool::new(20_400..=20_439, 1);
        let part = 20_411..=20_417;
        let held: Vec<_> = (0..3)
            .map(|_| pool.reserve(ADDRESS, PortChoice::Within(&part)).expect("free"))
            .collect();
        let mut ports: Vec<u16> = held.iter().map(|ports| ports.rtp_port).collect();
        ports.sort_unstable();
        assert_eq!(ports, [20_412, 20_414, 20_416]);
        assert!(matches!(
            pool.reserve(ADDRESS, PortChoice::Within(&part)),
            Err(NoPorts::Exhausted)
        ));
        assert!(matches!(
            pool.reserve(ADDRESS, PortChoice::Within(&(30_000..=30_009))),
            Err(NoPorts::Exhausted)
        ));
        assert!(pool.reserve(ADDRESS, PortChoice::ANY).is_ok(), "the rest is free");
    }

    #[test]
    fn what_a_trunk_keeps_to_is_left_to_it_while_others_are_free() {
        let part = 20_812..=20_817;
        let kept = KeptPorts::new([part.clone(), 20_831..=20_900].into_iter());
        for seed in 1..=50 {
            let pool = PortPool::with_quarantine(20_800..=20_839, seed, Duration::ZERO);
            let local = RtpLocal::from(ADDRESS);
            let take = |choice| pool.take(&local, choice);
            // Six pairs, three that are kept, six, one whose second port is kept, and four that are.
            let mut beside: Vec<_> =
                (0..12).filter_map(|_| take(PortChoice::Beside(&kept))).collect();
            beside.sort_unstable();
            assert_eq!(beside[..6], [20_800, 20_802, 20_804, 20_806, 20_808, 20_810], "{seed}");
            assert_eq!(beside[6..], [20_818, 20_820, 20_822, 20_824, 20_826, 20_828], "{seed}");
            assert!(take(PortChoice::Within(&part)).is_some_and(|even| part.contains(&even)));
            // Whoever finds no others has one of these.
            let rest: Vec<_> = (0..8).filter_map(|_| take(PortChoice::Beside(&kept))).collect();
            assert_eq!(rest.len(), 7, "{seed}");
            assert_eq!(take(PortChoice::Within(&part)), None, "{seed}");
            assert_eq!(take(PortChoice::ANY), None, "{seed}");
        }
    }

    #[test]
    fn a_returned_pair_rests() {
        let pool = PortPool::with_quarantine(20_100..=20_101, 1, Duration::from_secs(3_600));
        drop(pool.reserve(ADDRESS, PortChoice::ANY).expect("free"));
        assert!(matches!(pool.reserve(ADDRESS, PortChoice::ANY), Err(NoPorts::Exhausted)));
    }

    #[test]
    fn a_port_of_another_program_is_passed_over() {
        let taken = RtpSocket::bind(SocketAddr::new(ADDRESS, 20_203)).expect("free");
        let pool = PortPool::new(20_200..=20_205, 1);
        let one = pool.reserve(ADDRESS, PortChoice::ANY).expect("free");
        let two = pool.reserve(ADDRESS, PortChoice::ANY).expect("free");
        assert_eq!([one.rtp_port, two.rtp_port].iter().min(), Some(&20_200));
        assert_eq!([one.rtp_port, two.rtp_port].iter().max(), Some(&20_204));
        assert!(matches!(pool.reserve(ADDRESS, PortChoice::ANY), Err(NoPorts::Exhausted)));
        assert!(taken.local_address().is_ok());
    }

    #[test]
    fn ports_of_an_interface_are_bound_to_it_and_those_of_none_cost_no_pair() {
        let pool = PortPool::new(20_500..=20_501, 1);
        let by = |name: &str| RtpLocal { address: ADDRESS, interface: name.parse().ok() };
        let held = pool.reserve(by("lo"), PortChoice::ANY).expect("every machine has one");
        assert_eq!(held.rtp().interface().as_deref(), Some(&b"lo"[..]));
        assert_eq!(held.rtcp().and_then(RtpSocket::interface).as_deref(), Some(&b"lo"[..]));
        // The same ports are another's for the rest of the machine.
        assert!(matches!(pool.reserve(ADDRESS, PortChoice::ANY), Err(NoPorts::Exhausted)));
        assert!(matches!(pool.reserve(by("none-such"), PortChoice::ANY), Err(NoPorts::Refused(_))));
        assert_eq!(pool.take(&by("none-such"), PortChoice::ANY), Some(20_500));
    }

    #[test]
    fn who_is_bound_to_an_interface_stays_so_and_keeps_to_no_peer() {
        let pool = PortPool::new(20_600..=20_603, 1);
        let peer = Some(SocketAddr::new(ADDRESS, 9));
        for (interface, keeps) in [(None, true), (Some("lo"), false)] {
            let interface = interface.and_then(|name| name.parse().ok());
            let local = RtpLocal { address: ADDRESS, interface };
            let mut ports = pool.reserve(local, PortChoice::ANY).expect("free");
            let before = ports.rtp().interface();
            ports.keep_to(peer);
            assert_eq!(ports.keeps(), keeps);
            ports.keep_to(None);
            assert!(!ports.keeps());
            assert_eq!(ports.rtp().interface(), before);
        }
    }

    #[test]
    fn what_both_ports_send_has_the_class_that_was_said_last() {
        let pool = PortPool::new(20_700..=20_701, 1);
        let mut ports = pool.reserve(ADDRESS, PortChoice::ANY).expect("free");
        let peer = Listening::at(SocketAddr::new(ADDRESS, 0));
        let class_of = |socket: Option<&RtpSocket>| {
            assert!(socket.is_some_and(|socket| socket.send(b"hello", peer.local())));
            peer.class()
        };
        ports.classify(46);
        assert_eq!([class_of(Some(ports.rtp())), class_of(ports.rtcp())], [46, 46]);
        // RTCP shares the port of RTP for a while, then has its own again.
        drop(ports.part_rtcp(false));
        assert!(ports.part_rtcp(true).is_none());
        assert_eq!(class_of(ports.rtcp()), 46);
        // The leg goes on by a trunk that wants another class, or none.
        for class in [34, 0] {
            ports.classify(class);
            assert_eq!([class_of(Some(ports.rtp())), class_of(ports.rtcp())], [class; 2]);
        }
    }

    #[test]
    fn an_address_of_another_machine_costs_no_pair() {
        let pool = PortPool::new(20_300..=20_301, 1);
        let elsewhere = IpAddr::from([192, 0, 2, 1]);
        assert!(matches!(pool.reserve(elsewhere, PortChoice::ANY), Err(NoPorts::Refused(_))));
        assert_eq!(pool.take(&elsewhere.into(), PortChoice::ANY), Some(20_300));
    }
}
