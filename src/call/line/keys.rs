//! Keys of a peer that its signalling tells. Many peers tell each key twice, and then what the media carry counts.

use crate::types::limit::RELAYED_KEYS_MAX;
use crate::types::moment::Moment;
use smallvec::SmallVec;
use std::time::Duration;

/// How long the first keys that signalling tells wait for the media to tell them too: a tone is known for a key's after
/// 40 ms and what the jitter buffer holds, and an event may have been lost and come with the next packet.
const KEY_WAIT: Duration = Duration::from_millis(200);

/// Which of the keys that signalling tells take effect.
#[derive(Debug, Default)]
pub(super) struct SignalledKeys {
    /// The media carry the peer's keys.
    in_media: bool,
    /// A key came that they did not carry: none need wait any more.
    alone: bool,
    /// The peer may send telephone events.
    events: bool,
    /// What the media may yet tell.
    waiting: SmallVec<[char; 2]>,
    /// Until then.
    until: Option<Moment>,
}

impl SignalledKeys {
    /// The media tell a key: what waits is the same.
    pub(super) fn heard_in_media(&mut self) {
        self.in_media = true;
        self.forget();
    }

    /// Another device may be at the other end: how that tells keys is not known.
    pub(super) const fn begin_anew(&mut self) {
        self.in_media = false;
        self.alone = false;
    }

    /// Whether the peer may send telephone events from now on. One that may not any more has no other way than
    /// signalling.
    pub(super) const fn expect_events(&mut self, events: bool) {
        if self.events && !events {
            self.begin_anew();
        }
        self.events = events;
    }

    /// Takes a key that signalling tells; gives it back where it takes effect at once.
    pub(super) fn take(&mut self, now: Moment, digit: char) -> Option<char> {
        if self.in_media {
            return None;
        }
        if self.alone && self.waiting.is_empty() {
            return Some(digit);
        }
        if self.waiting.len() < RELAYED_KEYS_MAX {
            self.waiting.push(digit);
        }
        self.until = self.until.or(Some(now + KEY_WAIT));
        None
    }

    /// When what waits takes effect.
    pub(super) const fn until(&self) -> Option<Moment> {
        self.until
    }

    /// The first of what has waited long enough: the media do not carry it.
    pub(super) fn take_due(&mut self, now: Moment) -> Option<char> {
        if self.waiting.is_empty() || self.until.is_none_or(|until| now < until) {
            return None;
        }
        self.alone = true;
        let digit = self.waiting.remove(0);
        if self.waiting.is_empty() {
            self.until = None;
        }
        Some(digit)
    }

    /// What waits, where nothing else will be told of it.
    pub(super) fn take_all(&mut self) -> SmallVec<[char; 2]> {
        self.until = None;
        std::mem::take(&mut self.waiting)
    }

    /// Nobody is there for what waits.
    pub(super) fn forget(&mut self) {
        self.waiting.clear();
        self.until = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Moment = Moment::from_millis(1_100);
    const LATER: Moment = Moment::from_millis(1_200);
    const NOW: Moment = Moment::from_millis(1_000);

    #[test]
    fn keys_wait_in_their_order_for_the_media_until_one_came_alone() {
        let mut keys = SignalledKeys::default();
        assert_eq!((keys.take(NOW, '1'), keys.take(SOON, '2')), (None, None));
        assert_eq!((keys.until(), keys.take_due(SOON)), (Some(LATER), None));
        assert_eq!(keys.take_due(LATER), Some('1'));
        assert_eq!(keys.take(LATER, '3'), None, "behind the one that still waits");
        assert_eq!([keys.take_due(LATER), keys.take_due(LATER)], [Some('2'), Some('3')]);
        assert_eq!((keys.until(), keys.take_due(LATER)), (None, None));
        assert_eq!(keys.take(LATER, '4'), Some('4'), "the media carry none");
        // No more wait than can be passed on.
        keys.begin_anew();
        for _ in 0..100 {
            assert_eq!(keys.take(NOW, '5'), None);
        }
        let due = std::iter::from_fn(|| keys.take_due(LATER)).count();
        assert_eq!((due, keys.until()), (RELAYED_KEYS_MAX, None));
    }

    #[test]
    fn what_the_media_tell_too_takes_no_effect_until_another_may_be_there() {
        let mut keys = SignalledKeys::default();
        keys.expect_events(true);
        keys.take(NOW, '1');
        keys.heard_in_media();
        assert_eq!((keys.until(), keys.take_due(LATER), keys.take(LATER, '2')), (None, None, None));
        keys.expect_events(true);
        assert_eq!((keys.take(LATER, '2'), keys.until()), (None, None), "all is as it was");
        keys.expect_events(false);
        assert_eq!(keys.take(NOW, '3'), None);
        assert_eq!(keys.take_due(LATER), Some('3'));
        keys.heard_in_media();
        keys.expect_events(false);
        assert_eq!((keys.take(NOW, '4'), keys.until()), (None, None), "tones it sends tell them");
        keys.begin_anew();
        keys.take(NOW, '5');
        assert_eq!(keys.take_due(LATER), Some('5'));
    }
}
