//! Challenged INVITEs: a challenge and the INVITE that answers it are one attempt with one record.
//!
//! Challenges are stateless, so a late copy of the first INVITE is challenged again, whatever became of the call:
//! a Call-ID that was settled keeps its place for so long, and a copy begins no attempt of its own.

use crate::types::limit::SIP_CHALLENGES_MAX;
use crate::types::moment::Moment;
use std::collections::BTreeMap;
use std::collections::HashMap;
use std::time::Duration;

/// How long a caller has to come back with credentials: 64·T1 (RFC 3261 §17.1.1.2).
pub(super) const ANSWER_MAX: Duration = Duration::from_secs(32);

/// Attempts that were challenged and not taken up again, by Call-ID; `T` is what a record needs.
#[derive(Debug)]
pub(super) struct Challenges<T> {
    waiting: HashMap<Box<[u8]>, Waiting<T>>,
    /// Oldest first.
    due: BTreeMap<(Moment, u64), Box<[u8]>>,
    count: u64,
}

/// One challenged attempt.
#[derive(Debug)]
struct Waiting<T> {
    place: (Moment, u64),
    /// `None`: its caller came back.
    attempt: Option<T>,
}

impl<T> Challenges<T> {
    pub(super) fn new() -> Self {
        Self { waiting: HashMap::new(), due: BTreeMap::new(), count: 0 }
    }

    /// Keeps an attempt until its caller comes back. In a full table the oldest place is freed for it, and
    /// the attempt given up and returned that waited there. One whose caller came back before is not kept.
    pub(super) fn keep(&mut self, now: Moment, call_id: &[u8], attempt: T) -> Option<T> {
        if self.is_settled(call_id) {
            return None;
        }
        self.put(now, call_id, Some(attempt))
    }

    /// Whether the caller of `call_id` came back, so that what comes without credentials is a late copy.
    pub(super) fn is_settled(&self, call_id: &[u8]) -> bool {
        self.waiting.get(call_id).is_some_and(|waiting| waiting.attempt.is_none())
    }

    /// The attempt of `call_id` was taken up again and has its own end now: no copy of its first INVITE
    /// begins another.
    pub(super) fn settle(&mut self, now: Moment, call_id: &[u8]) -> Option<T> {
        self.put(now, call_id, None)
    }

    fn put(&mut self, now: Moment, call_id: &[u8], attempt: Option<T>) -> Option<T> {
        let needs_place =
            self.waiting.len() >= SIP_CHALLENGES_MAX && !self.waiting.contains_key(call_id);
        let oldest = if needs_place { self.pop_place() } else { None };
        self.count += 1;
        let place = (now + ANSWER_MAX, self.count);
        self.due.insert(place, call_id.into());
        let before = self.waiting.insert(call_id.into(), Waiting { place, attempt });
        let before = before.and_then(|before| {
            self.due.remove(&before.place);
            before.attempt
        });
        before.or(oldest)
    }

    /// Frees the oldest place, mostly that of one that was settled: then nobody is given up.
    fn pop_place(&mut self) -> Option<T> {
        let (_, call_id) = self.due.pop_first()?;
        self.waiting.remove(&call_id)?.attempt
    }

    /// The attempt that `call_id` takes up again.
    pub(super) fn take(&mut self, call_id: &[u8]) -> Option<T> {
        let attempt = self.waiting.get_mut(call_id)?.attempt.take()?;
        if let Some(waiting) = self.waiting.remove(call_id) {
            self.due.remove(&waiting.place);
        }
        Some(attempt)
    }

    /// When the next attempt is given up.
    pub(super) fn deadline(&self) -> Option<Moment> {
        self.due.first_key_value().map(|((at, _), _)| *at)
    }

    /// The next attempt whose caller did not come back in time.
    pub(super) fn pop_due(&mut self, now: Moment) -> Option<T> {
        loop {
            let first = self.due.first_entry()?;
            if first.key().0 > now {
                return None;
            }
            let call_id = first.remove();
            let waiting = self.waiting.remove(&call_id);
            if let Some(attempt) = waiting.and_then(|waiting| waiting.attempt) {
                return Some(attempt);
            }
        }
    }

    /// All attempts, the oldest first, however long they have waited. Their places stay, as those of settled ones do:
    /// no late copy of an INVITE begins another attempt.
    pub(super) fn give_up_all(&mut self) -> Vec<T> {
        let waiting = &mut self.waiting;
        let attempts = self.due.values().map(|call_id| waiting.get_mut(call_id)?.attempt.take());
        attempts.flatten().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LATER: Moment = Moment::from_millis(1_000);

    #[test]
    fn an_attempt_taken_up_again_is_not_given_up() {
        let mut challenges = Challenges::new();
        assert_eq!(challenges.keep(Moment::START, b"a", 1), None);
        assert_eq!(challenges.keep(LATER, b"b", 2), None);
        assert_eq!(challenges.deadline(), Some(Moment::START + ANSWER_MAX));
        assert_eq!(challenges.take(b"a"), Some(1));
        assert_eq!(challenges.take(b"a"), None);
        assert_eq!(challenges.deadline(), Some(LATER + ANSWER_MAX));
        assert_eq!(challenges.pop_due(Moment::START + ANSWER_MAX), None);
        assert_eq!(challenges.pop_due(LATER + ANSWER_MAX), Some(2));
        assert_eq!((challenges.deadline(), challenges.give_up_all()), (None, vec![]));
    }

    #[test]
    fn a_full_table_gives_up_the_oldest() {
        let mut challenges = Challenges::new();
        for number in 0..SIP_CHALLENGES_MAX {
            assert_eq!(challenges.keep(Moment::START, &number.to_be_bytes(), number), None);
        }
        assert_eq!(challenges.keep(LATER, b"one more", 0), Some(0));
        assert_eq!(challenges.pop_due(Moment::START + ANSWER_MAX), Some(1));
        assert_eq!(challenges.waiting.len(), challenges.due.len());
        assert_eq!(challenges.waiting.len(), SIP_CHALLENGES_MAX - 1);
    }

    #[test]
    fn a_full_table_frees_one_place_whoever_waits_there() {
        let mut challenges = Challenges::<usize>::new();
        assert_eq!(challenges.settle(Moment::START, b"settled"), None);
        for number in 1..SIP_CHALLENGES_MAX {
            assert_eq!(challenges.keep(Moment::START, &number.to_be_bytes(), number), None);
        }
        // Who has a place needs no other.
        assert_eq!(challenges.settle(LATER, b"settled"), None);
        assert!(challenges.is_settled(b"settled"));
        assert_eq!(challenges.waiting.len(), SIP_CHALLENGES_MAX);
        assert_eq!(challenges.keep(LATER, b"one more", 0), Some(1));
        let mut challenges = Challenges::<usize>::new();
        assert_eq!(challenges.settle(Moment::START, b"settled"), None);
        for number in 1..SIP_CHALLENGES_MAX {
            assert_eq!(challenges.keep(Moment::START, &number.to_be_bytes(), number), None);
        }
        assert_eq!(challenges.keep(LATER, b"one more", 0), None);
        assert!(!challenges.is_settled(b"settled"));
        assert_eq!(challenges.give_up_all().len(), SIP_CHALLENGES_MAX);
    }

    #[test]
    fn a_copy_of_an_invite_whose_caller_came_back_begins_no_attempt() {
        let mut challenges = Challenges::new();
        challenges.keep(Moment::START, b"a", 1);
        challenges.keep(Moment::START, b"b", 2);
        assert_eq!(challenges.take(b"a"), Some(1));
        assert_eq!(challenges.settle(LATER, b"a"), None);
        assert_eq!((challenges.take(b"a"), challenges.keep(LATER, b"a", 3)), (None, None));
        assert_eq!(challenges.take(b"a"), None);
        // The settled one stands in nobody's way, and is forgotten in its turn.
        assert_eq!(challenges.pop_due(LATER + ANSWER_MAX), Some(2));
        assert_eq!((challenges.pop_due(LATER + ANSWER_MAX), challenges.deadline()), (None, None));
        assert_eq!(challenges.waiting.len(), 0);
        challenges.keep(LATER, b"a", 4);
        assert_eq!(challenges.give_up_all(), [4]);
    }

    #[test]
    fn who_is_given_up_before_its_time_keeps_its_place_and_so_does_who_came_back() {
        let mut challenges = Challenges::new();
        challenges.keep(Moment::START, b"a", 1);
        challenges.keep(Moment::START, b"b", 2);
        challenges.settle(LATER, b"c");
        assert_eq!(challenges.give_up_all(), [1, 2]);
        for call_id in [b"a", b"b", b"c"] {
            assert!(challenges.is_settled(call_id));
            assert_eq!(
                (challenges.take(call_id), challenges.keep(LATER, call_id, 3)),
                (None, None)
            );
        }
        assert_eq!((challenges.give_up_all(), challenges.waiting.len()), (vec![], 3));
        assert_eq!(challenges.pop_due(LATER + ANSWER_MAX), None);
        assert_eq!((challenges.waiting.len(), challenges.deadline()), (0, None));
    }

    #[test]
    fn a_call_id_waits_once() {
        let mut challenges = Challenges::new();
        challenges.keep(Moment::START, b"a", 1);
        assert_eq!(challenges.keep(LATER, b"a", 2), Some(1));
        assert_eq!(challenges.give_up_all(), [2]);
    }
}
