//! `TimerQueue`: armed timers in order of their time.

use crate::types::moment::Moment;
use std::collections::BTreeMap;
use std::num::NonZeroU64;

/// Names an armed timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Armed {
    at: Moment,
    /// Never 0, so that no more room is needed to say that a timer is not armed.
    sequence: NonZeroU64,
}

impl Armed {
    /// When it fires.
    pub(crate) const fn at(self) -> Moment {
        self.at
    }
}

/// Armed timers; arming and disarming cost O(log n), and nothing is left of a disarmed one.
#[derive(Debug)]
pub(crate) struct TimerQueue<T> {
    due: BTreeMap<Armed, T>,
    sequence: u64,
}

impl<T> TimerQueue<T> {
    pub(crate) const fn new() -> Self {
        Self { due: BTreeMap::new(), sequence: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.due.len()
    }

    pub(crate) fn deadline(&self) -> Option<Moment> {
        self.due.first_key_value().map(|(armed, _)| armed.at)
    }

    /// Arms the timer in `place`, in stead of the one there.
    pub(crate) fn arm(&mut self, place: &mut Option<Armed>, at: Moment, what: T) {
        self.disarm(place);
        let sequence = NonZeroU64::MIN.saturating_add(self.sequence);
        self.sequence += 1;
        let armed = Armed { at, sequence };
        self.due.insert(armed, what);
        *place = Some(armed);
    }

    pub(crate) fn disarm(&mut self, place: &mut Option<Armed>) {
        if let Some(armed) = place.take() {
            self.due.remove(&armed);
        }
    }

    /// Takes the first timer whose time has come.
    pub(crate) fn pop(&mut self, now: Moment) -> Option<T> {
        let first = self.due.first_entry()?;
        if first.key().at > now {
            return None;
        }
        Some(first.remove())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timers_fire_in_order_and_a_disarmed_one_is_gone() {
        let mut queue = TimerQueue::new();
        let (mut a, mut b, mut c) = (None, None, None);
        queue.arm(&mut a, Moment::from_millis(30), 'a');
        queue.arm(&mut b, Moment::from_millis(10), 'b');
        queue.arm(&mut c, Moment::from_millis(20), 'c');
        queue.arm(&mut a, Moment::from_millis(20), 'A');
        queue.disarm(&mut b);
        assert_eq!(queue.deadline(), Some(Moment::from_millis(20)));
        let now = Moment::from_millis(25);
        let fired: Vec<char> = std::iter::from_fn(|| queue.pop(now)).collect();
        assert_eq!(fired, ['c', 'A']);
        assert_eq!(queue.len(), 0);
    }
}
