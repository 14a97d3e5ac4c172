//! `PeerBoard`: which addresses of peers that are called by SIP addresses of their own rest after what became
//! of calls to them.

use crate::routing::gateway_addresses::GatewayAddress;
use crate::routing::gateway_addresses::GatewayAddresses;
use crate::routing::health::Availability;
use crate::routing::health::Input;
use crate::types::limit::RESTING_PEERS_MAX;
use crate::types::moment::Moment;
use std::collections::HashMap;
use std::time::Duration;

/// How long an address rests that failed and said nothing of how long. Shorter than for a carrier's: whoever
/// has just started an agent again calls it at once.
const COOLDOWN: Duration = Duration::from_secs(5);

/// What is remembered of peers, by the SIP address that they are called by. One it does not know counts as
/// ready.
#[derive(Debug, Default)]
pub struct PeerBoard(HashMap<Box<str>, GatewayAddresses>);

impl PeerBoard {
    /// A peer was looked up: it has these addresses. Says how each of them stands, in the same order.
    pub fn find(
        &mut self,
        now: Moment,
        peer: &str,
        found: Vec<GatewayAddress>,
    ) -> Vec<(GatewayAddress, Availability)> {
        let Some(known) = self.0.get_mut(peer) else {
            return found.into_iter().map(|address| (address, Availability::Ready)).collect();
        };
        let stand = |address: &GatewayAddress| (*address, known.availability(now, *address));
        let standing = found.iter().map(stand).collect();
        known.find(now, found);
        self.forget_idle(peer);
        standing
    }

    /// Has a call go to one address of a peer, if that takes it; how it stood before. Of several calls that found it ready
    /// for a trial while they asked DNS, one has it.
    pub fn take_address(
        &mut self,
        now: Moment,
        (peer, address): (&str, GatewayAddress),
    ) -> Availability {
        let Some(known) = self.0.get_mut(peer) else { return Availability::Ready };
        let state = known.availability(now, address);
        if state.takes_calls() {
            known.note(now, address, (Input::CallSent, COOLDOWN));
        }
        state
    }

    /// Notes what became of a call at an address of a peer.
    pub fn note(&mut self, now: Moment, (peer, address): (&str, GatewayAddress), input: Input) {
        if !self.0.contains_key(peer) {
            // Only failures are worth remembering.
            if !matches!(input, Input::CallFailed { .. } | Input::Throttled { .. }) {
                return;
            }
            self.make_room();
            self.0.insert(peer.into(), GatewayAddresses::default());
        }
        if let Some(known) = self.0.get_mut(peer) {
            known.note(now, address, (input, COOLDOWN));
        }
        self.forget_idle(peer);
    }

    fn forget_idle(&mut self, peer: &str) {
        if self.0.get(peer).is_some_and(GatewayAddresses::is_idle) {
            self.0.remove(peer);
        }
    }

    /// Over the bound the peer is forgotten whose rests end first.
    fn make_room(&mut self) {
        if self.0.len() < RESTING_PEERS_MAX {
            return;
        }
        let first = self.0.iter().min_by_key(|(_, known)| known.last_end());
        if let Some(first) = first.map(|(peer, _)| peer.clone()) {
            self.0.remove(&first);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::transport::Transport;
    use std::net::SocketAddr;

    const PEER: &str = "sip:bot@agent.example";
    const FAILED: Input = Input::CallFailed { retry_after: None };

    fn address(last: u8) -> GatewayAddress {
        let address = SocketAddr::from(([192, 0, 2, last], 5_060));
        GatewayAddress { address, transport: Transport::Udp }
    }

    fn second(s: u64) -> Moment {
        Moment::from_millis(s * 1_000)
    }

    fn states(board: &mut PeerBoard, at: u64, peer: &str) -> Vec<Availability> {
        let found = vec![address(1), address(2)];
        board.find(second(at), peer, found).into_iter().map(|(_, state)| state).collect()
    }

    #[test]
    fn an_address_of_an_agent_that_failed_rests_shortly_and_of_that_agent_alone() {
        let mut board = PeerBoard::default();
        let ready = [Availability::Ready, Availability::Ready];
        assert_eq!(states(&mut board, 1, PEER), ready);
        board.note(second(1), (PEER, address(1)), FAILED);
        let rests = [Availability::Cooling(second(6)), Availability::Ready];
        assert_eq!(states(&mut board, 2, PEER), rests);
        assert_eq!(states(&mut board, 2, "sip:other@agent.example"), ready);
        // One call tries it; until something is heard of that there is no other.
        assert_eq!(states(&mut board, 6, PEER), [Availability::Trial, Availability::Ready]);
        board.note(second(6), (PEER, address(1)), Input::CallSent);
        assert!(!states(&mut board, 7, PEER)[0].takes_calls());
        board.note(second(7), (PEER, address(1)), Input::CallLeft);
        assert_eq!(states(&mut board, 7, PEER)[0], Availability::Trial, "its caller hung up");
        board.note(second(7), (PEER, address(1)), Input::CallSent);
        board.note(second(8), (PEER, address(1)), Input::CallServed);
        assert_eq!(states(&mut board, 8, PEER), ready);
        assert!(board.0.is_empty());
    }

    #[test]
    fn of_calls_that_found_an_agent_ready_for_a_trial_one_goes_there() {
        let mut board = PeerBoard::default();
        board.note(second(1), (PEER, address(1)), FAILED);
        // Two ask DNS at once, and both hear that it is time for a trial.
        for _ in 0..2 {
            assert_eq!(states(&mut board, 6, PEER)[0], Availability::Trial);
        }
        let mut take = |at| board.take_address(second(at), (PEER, address(1)));
        assert_eq!(take(7), Availability::Trial);
        assert!(!take(7).takes_calls(), "the other has it");
        board.note(second(8), (PEER, address(1)), Input::CallLeft);
        assert_eq!(board.take_address(second(8), (PEER, address(1))), Availability::Trial);
        board.note(second(8), (PEER, address(1)), Input::CallServed);
        for _ in 0..2 {
            let state = board.take_address(second(9), (PEER, address(1)));
            assert_eq!(state, Availability::Ready, "nobody waits for anybody");
        }
    }

    #[test]
    fn an_agent_that_wants_fewer_calls_gets_none_for_as_long_as_it_says() {
        let mut board = PeerBoard::default();
        let retry_after = Some(Duration::from_secs(20));
        board.note(second(1), (PEER, address(1)), Input::Throttled { retry_after });
        assert_eq!(states(&mut board, 20, PEER)[0], Availability::Throttled(second(21)));
        assert_eq!(states(&mut board, 21, PEER)[0], Availability::Ready);
        assert!(board.0.is_empty(), "what is over is not kept");
    }

    #[test]
    fn of_many_agents_that_fail_the_newest_are_remembered() {
        let mut board = PeerBoard::default();
        for number in 0..=RESTING_PEERS_MAX {
            let peer = format!("sip:bot@{number}.example");
            let at = Moment::from_millis(number as u64);
            board.note(at, (&peer, address(1)), FAILED);
        }
        assert_eq!(board.0.len(), RESTING_PEERS_MAX);
        assert!(!board.0.contains_key("sip:bot@0.example"));
        board.note(second(2), (PEER, address(1)), Input::CallServed);
        assert!(!board.0.contains_key(PEER), "of who serves there is nothing to know");
    }
}
