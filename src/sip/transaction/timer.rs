//! The timers of RFC 3261 table 4 and RFC 6026, and how long they run.

use crate::sip::endpoint::config::Timers;
use std::time::Duration;

/// A transaction timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Timer {
    /// INVITE request retransmission.
    A,
    /// INVITE without any response.
    B,
    /// Wait for repeated final responses other than 2xx, INVITE client.
    D,
    /// Other request retransmission.
    E,
    /// Other request without a final response.
    F,
    /// Final response retransmission, INVITE server.
    G,
    /// Wait for the ACK.
    H,
    /// Wait for repeated ACKs.
    I,
    /// Wait for repetitions of an answered request.
    J,
    /// Wait for repeated final responses.
    K,
    /// Wait for repetitions of an INVITE answered 2xx (RFC 6026).
    L,
    /// Wait for repeated 2xx, INVITE client (RFC 6026).
    M,
}

impl Timer {
    /// The place of the timer in its transaction. No machine runs two timers of one slot at a time.
    #[must_use]
    pub const fn slot(self) -> Slot {
        match self {
            Self::A | Self::E | Self::G => Slot::Retransmission,
            Self::B
            | Self::D
            | Self::F
            | Self::H
            | Self::I
            | Self::J
            | Self::K
            | Self::L
            | Self::M => Slot::Wait,
        }
    }
}

/// A place for one armed timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slot {
    /// The next retransmission.
    Retransmission,
    /// The end of the present wait.
    Wait,
}

/// How long a timer runs, in terms of the base values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// T1 doubled this many times.
    Doubled(u8),
    /// T1 doubled this many times, at most T2.
    Capped(u8),
    /// T2.
    T2,
    /// T4.
    T4,
    /// 64·T1.
    GiveUp,
    /// Timer D: more than 32 s.
    Long,
}

impl Length {
    /// The length with these base values.
    #[must_use]
    pub fn of(self, timers: Timers) -> Duration {
        match self {
            Self::Doubled(times) => doubled(timers.t1, times),
            Self::Capped(times) => doubled(timers.t1, times).min(timers.t2),
            Self::T2 => timers.t2,
            Self::T4 => timers.t4,
            Self::GiveUp => timers.give_up(),
            // RFC 3261 §17.1.1.2: more than 32 s, so longer than timer H of the peer.
            Self::Long => timers.give_up() + timers.t1,
        }
    }
}

/// `base` doubled `times` times; beyond 2^10 it grows no more.
fn doubled(base: Duration, times: u8) -> Duration {
    base * (1 << times.min(10))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_follow_from_t1_t2_and_t4() {
        let check = |length: Length, millis: u64| {
            assert_eq!(length.of(Timers::default()), Duration::from_millis(millis), "{length:?}");
        };
        check(Length::Doubled(0), 500);
        check(Length::Doubled(5), 16_000);
        check(Length::Capped(2), 2_000);
        check(Length::Capped(9), 4_000);
        check(Length::T2, 4_000);
        check(Length::T4, 5_000);
        check(Length::GiveUp, 32_000);
        assert!(Length::Long.of(Timers::default()) > Duration::from_secs(32));
    }

    #[test]
    fn a_retransmission_never_shares_its_slot_with_a_wait() {
        assert_eq!(Timer::G.slot(), Slot::Retransmission);
        assert_eq!(Timer::H.slot(), Slot::Wait);
    }
}
