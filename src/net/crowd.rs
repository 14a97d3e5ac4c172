//! `Crowd`: how many connections and handshakes peers have, each and together.

use crate::net::flow::FlowLimits;
use std::collections::HashMap;
use std::net::IpAddr;

/// What the connections that peers opened take, or those that we opened to them.
#[derive(Debug, Default)]
pub(crate) struct Crowd {
    of_address: HashMap<IpAddr, OfAddress>,
    handshakes: usize,
}

#[derive(Debug, Default)]
struct OfAddress {
    open: usize,
    handshakes: usize,
}

impl Crowd {
    /// True when there is room for one more connection of `address`. Whoever only connects must not hold off the
    /// handshakes of everybody else.
    pub(crate) fn has_room(&self, limits: &FlowLimits, address: IpAddr, handshaking: bool) -> bool {
        let none = OfAddress::default();
        let own = self.of_address.get(&address).unwrap_or(&none);
        let is_full = self.handshakes >= limits.handshakes_max
            || own.handshakes >= limits.handshakes_per_address_max;
        own.open < limits.flows_per_address_max && !(handshaking && is_full)
    }

    /// A connection is open, or its handshake begins.
    pub(crate) fn enter(&mut self, address: IpAddr, handshaking: bool) {
        let own = self.of_address.entry(address).or_default();
        own.open += 1;
        own.handshakes += usize::from(handshaking);
        self.handshakes += usize::from(handshaking);
    }

    /// The handshake of a connection is done.
    pub(crate) fn shaken(&mut self, address: IpAddr) {
        self.handshakes -= 1;
        if let Some(own) = self.of_address.get_mut(&address) {
            own.handshakes -= 1;
        }
    }

    /// A connection is gone.
    pub(crate) fn leave(&mut self, address: IpAddr, handshaking: bool) {
        if handshaking {
            self.shaken(address);
        }
        let Some(own) = self.of_address.get_mut(&address) else { return };
        own.open -= 1;
        if own.open == 0 {
            self.of_address.remove(&address);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_holds_off_no_handshakes_of_others() {
        let limits = FlowLimits { handshakes_per_address_max: 2, ..FlowLimits::default() };
        let [one, two] = [1, 2].map(|last| IpAddr::from([192, 0, 2, last]));
        let mut crowd = Crowd::default();
        crowd.enter(one, true);
        crowd.enter(one, true);
        assert!(!crowd.has_room(&limits, one, true));
        assert!(crowd.has_room(&limits, one, false), "no handshake");
        assert!(crowd.has_room(&limits, two, true), "another address");
        crowd.shaken(one);
        assert!(crowd.has_room(&limits, one, true));
        crowd.enter(one, true);
        crowd.leave(one, false);
        assert!(!crowd.has_room(&limits, one, true), "the handshake of that one was done");
        crowd.leave(one, true);
        assert!(crowd.has_room(&limits, one, true));
        crowd.leave(one, true);
        assert!(crowd.of_address.is_empty() && crowd.handshakes == 0);
    }
}
