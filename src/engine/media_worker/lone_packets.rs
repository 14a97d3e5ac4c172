//! When a socket need not be asked whether more waits behind a packet: the question costs a system call in each tick
//! of each session, and a peer that sends evenly has nothing there.

use crate::media::pace::TICK;
use crate::rtp::delay::DELAY_MS_MAX;
use std::time::Duration;

/// Ticks without a missing number after which none can come that is still to be played.
const WHOLE_TICKS: u8 = (DELAY_MS_MAX as u128 / TICK.as_millis() + 1) as u8;

/// A packet that came at most so long ago was not waited for: what came behind it was sent for the next tick.
const FRESH_MAX: Duration = Duration::from_millis(10);

/// What the tick before found in the socket.
#[derive(Clone, Copy, Debug)]
pub(super) struct LonePackets {
    /// The number of the peer's newest packet, where one holds a tick or more.
    newest: Option<u64>,
    /// It had just come, and nothing else had.
    was_alone: bool,
    /// Ticks since the last one after which a number before the newest was missing.
    whole_ticks: u8,
}

impl LonePackets {
    /// Nothing was read yet.
    pub(super) const NONE: Self = Self { newest: None, was_alone: false, whole_ticks: 0 };

    /// Whether the packet just read ends the reading of this tick. `waited`: for how long it was there, where the kernel
    /// said so; `newest`: the number of the peer's newest one now. All that was sent before it is here, or comes too late
    /// to be played; so nothing behind it is played before the next tick, which reads it with the time at which it came; and
    /// what a tick leaves waiting, the one behind that finds, since then a packet has waited long or is not alone.
    pub(super) fn is_last(&self, waited: Option<Duration>, newest: Option<u64>) -> bool {
        let is_fresh = waited.is_some_and(|waited| waited <= FRESH_MAX);
        let follows = self.newest.map(|before| before.wrapping_add(1));
        let is_whole = self.whole_ticks >= WHOLE_TICKS;
        is_fresh && is_whole && self.was_alone && newest.is_some() && newest == follows
    }

    /// The reading of a tick is over: so many datagrams were found.
    pub(super) fn note(&mut self, found: usize, newest: Option<u64>) {
        let further = newest.zip(self.newest).map(|(now, before)| now.wrapping_sub(before));
        let is_whole = further.is_some_and(|further| further <= found as u64);
        self.whole_ticks = if is_whole { self.whole_ticks.saturating_add(1) } else { 0 };
        self.was_alone = found == 1 && further == Some(1);
        self.newest = newest;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const JUST_NOW: Option<Duration> = Some(Duration::from_millis(2));

    /// After ticks that found so many datagrams, the newest of the peer's having this number, and a while before in which
    /// nothing was missing.
    fn after(ticks: &[(usize, Option<u64>)]) -> LonePackets {
        let mut lone = LonePackets::NONE;
        let first = ticks.first().and_then(|(_, newest)| *newest);
        (0..=WHOLE_TICKS).for_each(|_| lone.note(0, first.map(|first| first.wrapping_sub(1))));
        ticks.iter().for_each(|(found, newest)| lone.note(*found, *newest));
        lone
    }

    #[test]
    fn behind_the_next_packet_of_an_even_stream_nobody_looks() {
        let even = after(&[(1, Some(7)), (1, Some(8))]);
        assert!(even.is_last(JUST_NOW, Some(9)));
        assert!(even.is_last(Some(FRESH_MAX), Some(9)));
        let wrapped = after(&[(1, Some(u64::MAX))]);
        assert!(wrapped.is_last(JUST_NOW, Some(0)));
    }

    #[test]
    fn one_that_waited_or_whose_time_is_not_known_may_have_others_behind_it() {
        let even = after(&[(1, Some(7)), (1, Some(8))]);
        assert!(!even.is_last(Some(FRESH_MAX + Duration::from_nanos(1)), Some(9)));
        assert!(!even.is_last(None, Some(9)), "else a queue would stay where no time is told");
    }

    #[test]
    fn behind_one_out_of_its_turn_is_looked_for_those_before_it() {
        let even = after(&[(1, Some(7)), (1, Some(8))]);
        for newest in [None, Some(8), Some(10), Some(3)] {
            assert!(!even.is_last(JUST_NOW, newest), "{newest:?}");
        }
    }

    #[test]
    fn as_long_as_a_missing_packet_may_come_in_time_it_is_looked_for() {
        // The ninth is on its way, and may come right behind the eleventh.
        let behind_a_hole = after(&[(1, Some(7)), (1, Some(8)), (1, Some(10))]);
        assert!(!behind_a_hole.is_last(JUST_NOW, Some(11)));
        let mut later = after(&[(1, Some(8)), (1, Some(10)), (1, Some(11))]);
        assert!(!later.is_last(JUST_NOW, Some(12)));
        // The tick that found the eleventh was the first of them.
        let whole = 11 + u64::from(WHOLE_TICKS);
        for newest in 12..whole {
            assert!(!later.is_last(JUST_NOW, Some(newest)), "{newest}");
            later.note(1, Some(newest));
        }
        assert!(later.is_last(JUST_NOW, Some(whole)));
        // Two at once, and none in the next tick: a peer whose clock is another, with nothing missing.
        let drifting = after(&[(1, Some(7)), (2, Some(9)), (0, Some(9)), (1, Some(10))]);
        assert!(drifting.is_last(JUST_NOW, Some(11)));
    }

    #[test]
    fn all_is_read_after_a_tick_that_found_more_or_less_than_one_packet() {
        for (found, newest) in [(0, Some(8)), (2, Some(9)), (200, Some(9))] {
            let uneven = after(&[(1, Some(8)), (found, newest)]);
            assert!(!uneven.is_last(JUST_NOW, newest.map(|newest| newest + 1)), "{found}");
        }
        // A report, or a stranger's datagram, is no packet.
        assert!(!after(&[(1, Some(8)), (1, Some(8))]).is_last(JUST_NOW, Some(9)));
        // Nothing is known of the first ones, nor of packets that hold less than a tick.
        assert!(!after(&[]).is_last(JUST_NOW, Some(9)));
        assert!(!after(&[(1, None)]).is_last(JUST_NOW, None));
    }
}
