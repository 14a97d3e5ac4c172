//! Answers of DNS for as long as they hold, and a while longer for when DNS is down (RFC 8767).

use crate::sip::locate::Answer;
use crate::sip::locate::Question;
use crate::types::moment::Moment;
use std::collections::HashMap;
use std::time::Duration;

/// How long answers are kept.
#[derive(Clone, Copy, Debug)]
pub struct Keeping {
    /// Shortest and longest time of a good answer, whatever its TTL.
    pub good: (Duration, Duration),
    /// The same of "there is no such name" (RFC 2308).
    pub nothing: (Duration, Duration),
    /// How long a failure stands before DNS is asked again.
    pub failure: Duration,
    /// How long a good answer is used past its time while DNS fails.
    pub stale: Duration,
}

impl Default for Keeping {
    fn default() -> Self {
        Self {
            good: (Duration::from_secs(5), Duration::from_secs(86_400)),
            nothing: (Duration::from_secs(5), Duration::from_secs(900)),
            failure: Duration::from_secs(5),
            stale: Duration::from_secs(86_400),
        }
    }
}

/// What is known of a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Known {
    /// This holds.
    Fresh(Answer),
    /// This held; DNS is to be asked, and this used if it fails.
    Stale(Answer),
    /// Nothing.
    Unknown,
}

#[derive(Debug)]
struct Entry {
    answer: Answer,
    /// From then on DNS is asked again.
    fresh_until: Moment,
    usable_until: Moment,
    used: u64,
}

/// Answers by their question, bounded.
#[derive(Debug)]
pub(crate) struct Cache {
    entries: HashMap<Question, Entry>,
    keeping: Keeping,
    entries_max: usize,
    uses: u64,
}

impl Cache {
    pub(crate) fn new(keeping: Keeping, entries_max: usize) -> Self {
        Self { entries: HashMap::new(), keeping, entries_max, uses: 0 }
    }

    /// How long the answer holds that is known; `None` where none is.
    pub(crate) fn fresh_until(&self, question: &Question) -> Option<Moment> {
        self.entries.get(question).map(|entry| entry.fresh_until)
    }

    pub(crate) fn get(&mut self, now: Moment, question: &Question) -> Known {
        let Some(entry) = self.entries.get_mut(question) else { return Known::Unknown };
        self.uses += 1;
        entry.used = self.uses;
        if now < entry.fresh_until {
            Known::Fresh(entry.answer.clone())
        } else if now < entry.usable_until {
            Known::Stale(entry.answer.clone())
        } else {
            Known::Unknown
        }
    }

    /// Takes an answer with its TTL. A failure replaces no answer that can still be used; it only
    /// lets DNS rest.
    pub(crate) fn put(
        &mut self,
        now: Moment,
        question: Question,
        (answer, ttl): (Answer, Duration),
    ) {
        let keeping = self.keeping;
        if answer == Answer::Failed
            && let Some(entry) = self.entries.get_mut(&question)
            && now < entry.usable_until
        {
            entry.fresh_until = now + keeping.failure;
            return;
        }
        let clamp = |(least, most): (Duration, Duration)| ttl.max(least).min(most);
        let (fresh, stale) = match &answer {
            Answer::Failed => (keeping.failure, Duration::ZERO),
            Answer::Nothing => (clamp(keeping.nothing), Duration::ZERO),
            _ => (clamp(keeping.good), keeping.stale),
        };
        self.make_room(&question);
        self.uses += 1;
        let fresh_until = now + fresh;
        let entry =
            Entry { answer, fresh_until, usable_until: fresh_until + stale, used: self.uses };
        self.entries.insert(question, entry);
    }

    fn make_room(&mut self, question: &Question) {
        if self.entries.len() < self.entries_max || self.entries.contains_key(question) {
            return;
        }
        let oldest = self.entries.iter().min_by_key(|(_, entry)| entry.used);
        if let Some(oldest) = oldest.map(|(question, _)| question.clone()) {
            self.entries.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn question(name: &str) -> Question {
        Question::A(name.to_owned())
    }

    fn answer(last: u8) -> Answer {
        Answer::A(vec![Ipv4Addr::new(192, 0, 2, last)])
    }

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn cache() -> Cache {
        let keeping =
            Keeping { good: (s(5), s(100)), nothing: (s(5), s(50)), failure: s(2), stale: s(60) };
        Cache::new(keeping, 2)
    }

    #[test]
    fn an_answer_holds_for_its_ttl_within_bounds() {
        for (ttl, fresh) in [(0, 5), (30, 30), (1_000_000, 100)] {
            let (mut cache, start) = (cache(), Moment::from_nanos(0));
            cache.put(start, question("a"), (answer(1), s(ttl)));
            let just_before = start + s(fresh) - Duration::from_nanos(1);
            assert_eq!(cache.get(just_before, &question("a")), Known::Fresh(answer(1)), "{ttl}");
            assert_eq!(cache.get(start + s(fresh), &question("a")), Known::Stale(answer(1)));
            assert_eq!(cache.get(start + s(fresh + 60), &question("a")), Known::Unknown);
        }
    }

    #[test]
    fn a_failure_lets_an_old_answer_live_and_dns_rest() {
        let (mut cache, start) = (cache(), Moment::from_nanos(0));
        cache.put(start, question("a"), (answer(1), s(10)));
        let failed = start + s(20);
        cache.put(failed, question("a"), (Answer::Failed, s(0)));
        assert_eq!(cache.get(failed + s(1), &question("a")), Known::Fresh(answer(1)));
        assert_eq!(cache.get(failed + s(2), &question("a")), Known::Stale(answer(1)));
        // It does not live longer for being asked for.
        assert_eq!(cache.get(start + s(70), &question("a")), Known::Unknown);
        cache.put(failed, question("b"), (Answer::Failed, s(0)));
        assert_eq!(cache.get(failed + s(1), &question("b")), Known::Fresh(Answer::Failed));
        assert_eq!(cache.get(failed + s(2), &question("b")), Known::Unknown);
    }

    #[test]
    fn nothing_is_an_answer_that_is_never_stale() {
        let (mut cache, start) = (cache(), Moment::from_nanos(0));
        cache.put(start, question("a"), (Answer::Nothing, s(1_000)));
        assert_eq!(cache.get(start + s(49), &question("a")), Known::Fresh(Answer::Nothing));
        assert_eq!(cache.get(start + s(50), &question("a")), Known::Unknown);
    }

    #[test]
    fn the_answer_used_least_recently_makes_room() {
        let (mut cache, now) = (cache(), Moment::from_nanos(0));
        cache.put(now, question("a"), (answer(1), s(9)));
        cache.put(now, question("b"), (answer(2), s(9)));
        cache.get(now, &question("a"));
        cache.put(now, question("c"), (answer(3), s(9)));
        assert_eq!(cache.get(now, &question("b")), Known::Unknown);
        assert_eq!(cache.get(now, &question("a")), Known::Fresh(answer(1)));
        assert_eq!(cache.get(now, &question("c")), Known::Fresh(answer(3)));
    }
}
