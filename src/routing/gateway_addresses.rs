//! `GatewayAddresses`: which of the addresses of one gateway rest after what became of calls to them.

use crate::routing::health::Availability;
use crate::routing::health::Input;
use crate::routing::rest::Rest;
use crate::types::limit::GATEWAY_RESTS_MAX;
use crate::types::moment::Moment;
use crate::types::transport::Transport;
use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

/// One of the addresses that DNS has for a gateway (RFC 3263 §4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GatewayAddress {
    /// Where it is.
    pub address: SocketAddr,
    /// How it is reached.
    pub transport: Transport,
}

impl fmt::Display for GatewayAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} over {}", self.address, self.transport)
    }
}

/// The addresses of one gateway.
#[derive(Debug, Default)]
pub(super) struct GatewayAddresses {
    /// All that it had when it was looked up last.
    found: Vec<GatewayAddress>,
    /// Those of which something is remembered.
    rests: BTreeMap<GatewayAddress, Rest>,
}

impl GatewayAddresses {
    /// The gateway was looked up: it has these. What is known of others is kept while they rest, since
    /// DNS may name them again.
    pub(super) fn find(&mut self, now: Moment, found: Vec<GatewayAddress>) {
        self.rests.retain(|address, rest| {
            rest.settle(now);
            *rest != Rest::None && (found.contains(address) || rest.availability(now).rests())
        });
        self.found = found;
    }

    /// All that it had when it was looked up last.
    pub(super) fn all(&self) -> &[GatewayAddress] {
        &self.found
    }

    /// Whether an address may be given calls.
    pub(super) fn availability(&self, now: Moment, address: GatewayAddress) -> Availability {
        self.rests.get(&address).copied().unwrap_or_default().availability(now)
    }

    /// Notes what became of a call, or of a probe, at an address. What is no news of an address is left alone.
    pub(super) fn note(
        &mut self,
        now: Moment,
        address: GatewayAddress,
        (input, cooldown): (Input, Duration),
    ) {
        match input {
            Input::CallSent => {
                if self.availability(now, address) == Availability::Trial {
                    self.rest_of(address).call_sent(now);
                }
            }
            Input::CallServed => {
                if let Some(rest) = self.rests.get_mut(&address) {
                    rest.call_served();
                }
            }
            Input::CallLeft => {
                if let Some(rest) = self.rests.get_mut(&address) {
                    rest.call_left();
                }
            }
            Input::CallFailed { retry_after } => {
                self.rest_of(address).cool(now, retry_after.unwrap_or(cooldown));
            }
            Input::Throttled { retry_after } => {
                self.rest_of(address).throttle(now, retry_after.unwrap_or(cooldown));
            }
            Input::Started
            | Input::ProbeBegun
            | Input::ProbeAnswered { .. }
            | Input::ProbeFailed
            | Input::ProbeUnsent
            | Input::DeadlineReached => {}
        }
        self.rests.retain(|_, rest| *rest != Rest::None);
    }

    fn rest_of(&mut self, address: GatewayAddress) -> &mut Rest {
        if self.rests.len() >= GATEWAY_RESTS_MAX && !self.rests.contains_key(&address) {
            let first = self.rests.iter().min_by_key(|(_, rest)| rest.end());
            if let Some(first) = first.map(|(first, _)| *first) {
                self.rests.remove(&first);
            }
        }
        self.rests.entry(address).or_default()
    }

    /// Until when no address takes a call; `None`: one does. Of a gateway that was never looked up `address`
    /// is all that is known.
    pub(super) fn all_rest_until(&self, now: Moment, address: GatewayAddress) -> Option<Moment> {
        let known = if self.found.contains(&address) {
            self.found.as_slice()
        } else {
            std::slice::from_ref(&address)
        };
        let ends = known.iter().map(|address| match self.availability(now, *address) {
            Availability::Cooling(until) | Availability::Throttled(until) => Some(until),
            Availability::Ready | Availability::Trial | Availability::Down => None,
        });
        ends.collect::<Option<Vec<_>>>()?.into_iter().min()
    }

    /// Whether nothing is remembered.
    pub(super) fn is_idle(&self) -> bool {
        self.rests.is_empty()
    }

    /// When the last of the rests ends, or ended.
    pub(super) fn last_end(&self) -> Option<Moment> {
        self.rests.values().filter_map(|rest| rest.end()).max()
    }

    /// Those that are not ready, with how they stand.
    pub(super) fn unready(
        &self,
        now: Moment,
    ) -> impl Iterator<Item = (GatewayAddress, Availability)> {
        let all = self.rests.iter().map(move |(address, rest)| (*address, rest.availability(now)));
        all.filter(|(_, state)| *state != Availability::Ready)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COOLDOWN: Duration = Duration::from_secs(30);
    const FAILED: (Input, Duration) = (Input::CallFailed { retry_after: None }, COOLDOWN);

    fn address(last: u8) -> GatewayAddress {
        let address = SocketAddr::from(([192, 0, 2, last], 5_060));
        GatewayAddress { address, transport: Transport::Udp }
    }

    fn second(s: u64) -> Moment {
        Moment::from_millis(s * 1_000)
    }

    #[test]
    fn an_address_rests_by_itself_and_is_tried_by_one_call_before_all_go_there() {
        let mut addresses = GatewayAddresses::default();
        addresses.find(second(0), vec![address(1), address(2)]);
        addresses.note(second(1), address(1), FAILED);
        assert_eq!(
            addresses.availability(second(2), address(1)),
            Availability::Cooling(second(31))
        );
        assert_eq!(addresses.availability(second(2), address(2)), Availability::Ready);
        assert_eq!(addresses.unready(second(2)).count(), 1);
        assert_eq!(addresses.all_rest_until(second(2), address(1)), None);
        assert_eq!(addresses.availability(second(31), address(1)), Availability::Trial);
        addresses.note(second(31), address(1), (Input::CallSent, COOLDOWN));
        assert!(!addresses.availability(second(31), address(1)).takes_calls());
        addresses.note(second(32), address(1), (Input::CallServed, COOLDOWN));
        assert_eq!(addresses.availability(second(32), address(1)), Availability::Ready);
        assert!(addresses.rests.is_empty());
    }

    #[test]
    fn when_all_addresses_rest_the_first_that_is_ready_again_ends_it() {
        let mut addresses = GatewayAddresses::default();
        addresses.find(second(0), vec![address(1), address(2)]);
        addresses.note(second(1), address(1), FAILED);
        let wish = Some(Duration::from_secs(5));
        addresses.note(second(2), address(2), (Input::Throttled { retry_after: wish }, COOLDOWN));
        assert_eq!(addresses.all_rest_until(second(3), address(2)), Some(second(7)));
        assert_eq!(addresses.all_rest_until(second(7), address(2)), None);
        // The same address by another transport is another one.
        let tcp = GatewayAddress { transport: Transport::Tcp, ..address(1) };
        assert_eq!(addresses.availability(second(3), tcp), Availability::Ready);
        // One that DNS does not name is all that is known.
        addresses.note(second(3), tcp, FAILED);
        assert_eq!(addresses.all_rest_until(second(4), tcp), Some(second(33)));
    }

    #[test]
    fn what_dns_names_no_more_is_forgotten_once_its_rest_is_over_and_little_is_kept_of_much() {
        let mut addresses = GatewayAddresses::default();
        addresses.find(second(0), vec![address(1)]);
        addresses.note(second(1), address(1), FAILED);
        addresses.find(second(2), vec![address(2)]);
        assert!(addresses.availability(second(2), address(1)).rests(), "DNS may name it again");
        addresses.find(second(31), vec![address(2)]);
        assert!(addresses.rests.is_empty());
        for last in 0..=u8::MAX {
            let at = second(40 + u64::from(last) / 16);
            addresses.note(at, address(last), FAILED);
        }
        assert_eq!(addresses.rests.len(), GATEWAY_RESTS_MAX);
        assert!(addresses.rests.contains_key(&address(u8::MAX)), "the newest is known");
    }
}
