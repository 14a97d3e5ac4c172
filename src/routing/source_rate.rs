//! How much a source that has proved nothing may ask of us: token buckets for its address and for its network.

use crate::types::limit::SOURCE_BUCKETS_MAX;
use crate::types::moment::Moment;
use std::collections::HashMap;
use std::hash::RandomState;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;
use std::time::Duration;

/// How fast something may happen, and how much of it at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// So many a second in the long run.
    pub per_s: u32,
    /// So many at once after a pause.
    pub burst: u32,
}

/// What one address may do.
pub const ADDRESS_RATE: Rate = Rate { per_s: 5, burst: 10 };
/// What all addresses of an IPv4 /24 or an IPv6 /48 may do together.
pub const NETWORK_RATE: Rate = Rate { per_s: 25, burst: 50 };

/// Challenges an address may be sent while nobody there answers them; further ones only where they are no
/// longer than what came in its name.
pub const CHALLENGED_ADDRESS_RATE: Rate = Rate { per_s: 10, burst: 100 };
/// The same for all addresses of its network.
pub const CHALLENGED_NETWORK_RATE: Rate = Rate { per_s: 50, burst: 500 };

/// Buckets of the sources heard of lately. An IPv6 address counts as its /64: a host has all of it.
///
/// Bounded: with more sources than buckets those are forgotten that asked for nothing while half as many
/// others did. So a flood of forged addresses costs memory for so many only, and who goes on asking is
/// remembered through it.
#[derive(Debug)]
pub struct SourceRates {
    addresses: Buckets,
    networks: Buckets,
}

impl Default for SourceRates {
    fn default() -> Self {
        Self::new(ADDRESS_RATE, NETWORK_RATE)
    }
}

impl SourceRates {
    /// Buckets filled at these rates.
    #[must_use]
    pub fn new(address: Rate, network: Rate) -> Self {
        Self { addresses: Buckets::new(address), networks: Buckets::new(network) }
    }

    /// Takes a token for `source`; false when it, or its network, has none left.
    pub fn take(&mut self, now: Moment, source: IpAddr) -> bool {
        let source = source.to_canonical();
        // An address without tokens takes none of its network's: its neighbours keep theirs.
        self.addresses.take(now, host(source)) && self.networks.take(now, network(source))
    }

    /// Gives a token of `source` back: what it was spent for turned out well.
    pub fn give_back(&mut self, source: IpAddr) {
        let source = source.to_canonical();
        self.addresses.give_back(host(source));
        self.networks.give_back(network(source));
    }
}

/// The address whose bucket a host shares with nobody else.
fn host(source: IpAddr) -> IpAddr {
    match source {
        IpAddr::V4(_) => source,
        IpAddr::V6(address) => masked(address, 64),
    }
}

fn network(source: IpAddr) -> IpAddr {
    match source {
        IpAddr::V4(address) => {
            let [a, b, c, _] = address.octets();
            IpAddr::V4(Ipv4Addr::new(a, b, c, 0))
        }
        IpAddr::V6(address) => masked(address, 48),
    }
}

fn masked(address: Ipv6Addr, bits: u32) -> IpAddr {
    let mask = u128::MAX.checked_shl(128 - bits).unwrap_or(u128::MAX);
    IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & mask))
}

/// Thousandths of a token, so that slow rates lose nothing to rounding.
const TOKEN: u64 = 1_000;

/// Two generations: who asks is in the young one, and when that is full it takes the place of the old one,
/// whose sources asked for nothing since it was young. So making room is no work, however many there are.
#[derive(Debug)]
struct Buckets {
    rate: Rate,
    /// Keyed by a random state: nobody can choose addresses that collide.
    young: HashMap<IpAddr, Bucket, RandomState>,
    old: HashMap<IpAddr, Bucket, RandomState>,
}

/// Buckets of a generation.
const GENERATION_MAX: usize = SOURCE_BUCKETS_MAX / 2;

#[derive(Clone, Copy, Debug)]
struct Bucket {
    /// In thousandths, as of `at`, which lags by less than a millisecond.
    tokens: u64,
    at: Moment,
}

impl Buckets {
    fn new(rate: Rate) -> Self {
        Self { rate, young: HashMap::default(), old: HashMap::default() }
    }

    fn take(&mut self, now: Moment, source: IpAddr) -> bool {
        let rate = self.rate;
        if !self.young.contains_key(&source) {
            let fresh = Bucket { tokens: u64::from(rate.burst) * TOKEN, at: now };
            let known = self.old.remove(&source).unwrap_or(fresh);
            if self.young.len() >= GENERATION_MAX {
                self.old = std::mem::take(&mut self.young);
            }
            self.young.insert(source, known);
        }
        let Some(bucket) = self.young.get_mut(&source) else { return false };
        bucket.fill(now, rate);
        let Some(left) = bucket.tokens.checked_sub(TOKEN) else { return false };
        bucket.tokens = left;
        true
    }

    /// Whose bucket was forgotten has a full one.
    fn give_back(&mut self, source: IpAddr) {
        let bucket = self.young.get_mut(&source).or_else(|| self.old.get_mut(&source));
        if let Some(bucket) = bucket {
            let most = u64::from(self.rate.burst) * TOKEN;
            bucket.tokens = bucket.tokens.saturating_add(TOKEN).min(most);
        }
    }
}

impl Bucket {
    /// Credits what came in until `now`, by whole milliseconds: what is left of one counts the next time, or who
    /// asks more often than once in one would never be credited anything.
    fn fill(&mut self, now: Moment, rate: Rate) {
        let millis = u64::try_from(now.since(self.at).as_millis()).unwrap_or(u64::MAX);
        let (most, more) =
            (u64::from(rate.burst) * TOKEN, millis.saturating_mul(u64::from(rate.per_s)));
        self.tokens = self.tokens.saturating_add(more).min(most);
        self.at = if self.tokens == most { now } else { self.at + Duration::from_millis(millis) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v4(last: u8) -> IpAddr {
        IpAddr::V4(Ipv4Addr::new(192, 0, 2, last))
    }

    /// How many of `tries` at one moment are let through.
    fn let_through(rates: &mut SourceRates, now: Moment, source: IpAddr, tries: u32) -> u32 {
        (0..tries).map(|_| u32::from(rates.take(now, source))).sum()
    }

    #[test]
    fn what_was_given_back_is_there_again_and_no_more() {
        let mut rates = SourceRates::new(ADDRESS_RATE, NETWORK_RATE);
        // Each is given back: no end to them, for the network neither.
        for _ in 0..1_000 {
            assert!(rates.take(Moment::START, v4(1)));
            rates.give_back(v4(1));
        }
        assert_eq!(let_through(&mut rates, Moment::START, v4(1), 100), 10);
        rates.give_back(v4(1));
        rates.give_back(v4(2));
        assert_eq!(let_through(&mut rates, Moment::START, v4(1), 100), 1);
        for _ in 0..100 {
            rates.give_back(v4(1));
        }
        assert_eq!(let_through(&mut rates, Moment::START, v4(1), 100), 10, "a bucket has its size");
    }

    #[test]
    fn who_is_asked_for_thousands_of_times_a_second_has_its_rate_all_the_same() {
        for gap_micros in [1, 300, 999, 1_000, 1_900] {
            let (mut rates, mut now) = (SourceRates::default(), Moment::START);
            let (mut let_in, end) = (0, Moment::START + Duration::from_secs(3));
            while now < end {
                let_in += let_through(&mut rates, now, v4(1), 1);
                now += Duration::from_micros(gap_micros);
            }
            assert!((10 + 14..=10 + 15).contains(&let_in), "{let_in} at gaps of {gap_micros} us");
        }
    }

    #[test]
    fn a_burst_passes_and_then_the_rate() {
        let mut rates = SourceRates::default();
        let mut now = Moment::START;
        assert_eq!(let_through(&mut rates, now, v4(1), 100), 10);
        now += Duration::from_secs(1);
        assert_eq!(let_through(&mut rates, now, v4(1), 100), 5);
        now += Duration::from_millis(199);
        assert_eq!(let_through(&mut rates, now, v4(1), 100), 0);
        now += Duration::from_millis(1);
        assert_eq!(let_through(&mut rates, now, v4(1), 100), 1);
        now += Duration::from_secs(3_600);
        assert_eq!(let_through(&mut rates, now, v4(1), 100), 10);
    }

    #[test]
    fn a_network_of_many_hosts_shares_one_bucket_and_another_network_has_its_own() {
        let mut rates = SourceRates::default();
        let all: u32 =
            (1..=200).map(|last| let_through(&mut rates, Moment::START, v4(last), 10)).sum();
        assert_eq!(all, 50);
        let neighbour = IpAddr::V4(Ipv4Addr::new(192, 0, 3, 1));
        assert!(rates.take(Moment::START, neighbour));
    }

    #[test]
    fn an_address_that_floods_leaves_its_network_the_rest() {
        let mut rates = SourceRates::default();
        assert_eq!(let_through(&mut rates, Moment::START, v4(1), 10_000), 10);
        assert_eq!(let_through(&mut rates, Moment::START, v4(2), 10), 10);
    }

    #[test]
    fn an_ipv6_host_is_its_slash_64_however_many_addresses_it_takes() {
        let mut rates = SourceRates::default();
        let passed: u32 = (0..1_000_u128)
            .map(|low| {
                let address = Ipv6Addr::from_bits((0x2001_0db8_u128 << 96) | low);
                let_through(&mut rates, Moment::START, IpAddr::V6(address), 1)
            })
            .sum();
        assert_eq!(passed, 10);
        let other = Ipv6Addr::from_bits((0x2001_0db8_u128 << 96) | (1_u128 << 64));
        assert!(rates.take(Moment::START, IpAddr::V6(other)), "the next /64 of the same /48");
    }

    #[test]
    fn a_mapped_ipv4_address_is_the_ipv4_address() {
        let mut rates = SourceRates::default();
        let_through(&mut rates, Moment::START, v4(1), 10);
        let mapped = IpAddr::V6(Ipv4Addr::new(192, 0, 2, 1).to_ipv6_mapped());
        assert!(!rates.take(Moment::START, mapped));
    }

    #[test]
    fn forged_addresses_without_end_take_bounded_memory_and_let_nobody_start_anew() {
        let mut buckets = Buckets::new(ADDRESS_RATE);
        let mut now = Moment::START;
        let flooder = v4(9);
        while buckets.take(now, flooder) {}
        let mut passed = 0_u32;
        for number in 0..300_000_u32 {
            now += Duration::from_micros(10);
            assert!(buckets.take(now, IpAddr::V4(Ipv4Addr::from_bits(number))), "a fresh one");
            assert!(buckets.young.len() + buckets.old.len() <= SOURCE_BUCKETS_MAX);
            if number % 1_000 == 0 {
                passed += u32::from(buckets.take(now, flooder));
            }
        }
        // Three seconds at five a second.
        assert!((14..=15).contains(&passed), "{passed}");
        // Who falls silent is forgotten no sooner than after as many others as a generation has.
        let quiet = v4(8);
        while buckets.take(now, quiet) {}
        for number in 0..GENERATION_MAX as u32 {
            buckets.take(now, IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 | number)));
        }
        assert!(!buckets.take(now, quiet));
    }
}
