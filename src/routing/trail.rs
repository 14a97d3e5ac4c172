//! `Trail`: the numbers of ours that a call came through before, so that one that goes in a circle ends.
//!
//! Each leg that a call goes on to is a call of its own for whoever passes it back to us: another Call-ID,
//! and often Max-Forwards anew. What survives is what such switches copy: headers that they do not know, and
//! who diverted the call.

use crate::routing::identify::Attempt;
use crate::routing::numbers::Rewritten;
use crate::routing::numbers::dial_text;
use crate::routing::trunk::Trunk;
use crate::types::header::FieldValue;
use crate::types::limit::DIVERSIONS_MAX;
use crate::types::limit::NUMBER_RETURNS_MAX;
use crate::types::limit::TRAIL_MARKS_MAX;
use crate::types::number::E164;
use smallvec::SmallVec;
use std::fmt::Write;
use std::hash::BuildHasher;
use std::hash::RandomState;

/// The header that carries it. Nobody else may write it.
pub const TRAIL_HEADER: &str = "X-Tandem-Trail";

/// What the marks of a node are made with. Each has its own, so that a mark says nothing of a number to who
/// does not know it, and nobody can forge one.
#[derive(Clone, Debug, Default)]
pub struct TrailKey(RandomState);

impl TrailKey {
    fn mark(&self, number: E164) -> u64 {
        self.0.hash_one(number.as_str())
    }
}

/// The marks of the numbers that a call came through, of this node and of others, the first one first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trail(SmallVec<[u64; 2]>);

impl Trail {
    /// Reads the header; what is no mark is passed over.
    fn parse(value: &[u8]) -> Self {
        let text = std::str::from_utf8(value).unwrap_or_default();
        let mark = |text: &str| u64::from_str_radix(text.trim(), 16).ok();
        Self(text.split(',').filter_map(mark).take(TRAIL_MARKS_MAX).collect())
    }

    /// The value of the header; `None` of a call that came through no number.
    #[must_use]
    pub fn to_value(&self) -> Option<FieldValue> {
        let mut text = String::new();
        for mark in &self.0 {
            let comma = if text.is_empty() { "" } else { ", " };
            // Writing to a String does not fail.
            let _written = write!(text, "{comma}{mark:016x}");
        }
        text.parse().ok().filter(|_| !text.is_empty())
    }
}

/// Who sent a call on, by a Diversion entry.
#[derive(Clone, Copy, Debug)]
pub struct Diverted<'a> {
    /// The user part of its URI.
    pub user: &'a [u8],
    /// How many diversions the entry stands for (RFC 5806): 1 where it says nothing.
    pub times: u32,
}

/// The trail of a call to `dialled` from there on.
///
/// # Errors
/// In words, why it goes in a circle: it came through this number twice before, or through more than a call may. Once
/// is none: whoever was called passed the call back to where it came from.
pub(crate) fn follow(trunk: &Trunk, attempt: &Attempt<'_>, dialled: E164) -> Result<Trail, String> {
    let mut trail = attempt.first(TRAIL_HEADER).map(Trail::parse).unwrap_or_default();
    let mark = attempt.trail_key.mark(dialled);
    let times = trail.0.iter().filter(|own| **own == mark).count();
    if u32::try_from(times).is_ok_and(|times| times >= NUMBER_RETURNS_MAX) {
        return Err(format!("the call went on from {dialled} {times} times before, and is back"));
    }
    if trail.0.len() >= TRAIL_MARKS_MAX {
        return Err(format!("the call went on {TRAIL_MARKS_MAX} times already"));
    }
    let all = attempt.diverted.iter().fold(0_u32, |sum, by| sum.saturating_add(by.times));
    if all > DIVERSIONS_MAX {
        return Err(format!("the call was diverted {all} times"));
    }
    let is_dialled = |user: &[u8]| is_number(trunk, user, dialled);
    let own = attempt.diverted.iter().filter(|by| is_dialled(by.user));
    let by_it = own.fold(0_u32, |sum, by| sum.saturating_add(by.times));
    let through_it = times_through(attempt.history, is_dialled);
    let returns = by_it.max(through_it);
    if returns >= NUMBER_RETURNS_MAX {
        return Err(format!("{dialled} diverted the call {returns} times already"));
    }
    trail.0.push(mark);
    Ok(trail)
}

/// How often a history went on from the number. Entries of one number in a row are one visit, in which only
/// hosts changed; the last visit is where the call goes, if the history ends with it (RFC 7044 §10.3).
fn times_through(history: &[&[u8]], is_dialled: impl Fn(&[u8]) -> bool) -> u32 {
    let (mut visits, mut is_there) = (0_u32, false);
    for user in history {
        let was_there = std::mem::replace(&mut is_there, is_dialled(user));
        if is_there && !was_there {
            visits = visits.saturating_add(1);
        }
    }
    visits.saturating_sub(u32::from(is_there))
}

/// Carriers write a number that diverts as they write called or calling ones.
pub(crate) fn is_number(trunk: &Trunk, user: &[u8], number: E164) -> bool {
    let Some(text) = dial_text(user) else { return false };
    let means = |rewritten| matches!(rewritten, Rewritten::Number(meant) if meant == number);
    means(trunk.called.rewrite(&text).0) || means(trunk.calling.rewrite(&text).0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing::identify::Proof;
    use crate::routing::outbound::tests::trunk_id;
    use crate::types::name::ListenerName;
    use crate::types::transport::Transport;
    use std::net::Ipv4Addr;

    const OWN: &str = "+15550100";
    const OTHER: &str = "+15550101";

    /// What a call to `dialled` brings.
    #[derive(Clone, Default)]
    struct Brought<'a> {
        trail: Option<String>,
        diverted: Vec<(&'a str, u32)>,
        history: Vec<&'a str>,
    }

    fn followed(key: &TrailKey, brought: &Brought<'_>, dialled: &str) -> Result<Trail, String> {
        let listener: ListenerName = "public".parse().unwrap();
        let diverted: Vec<_> = brought
            .diverted
            .iter()
            .map(|(user, times)| Diverted { user: user.as_bytes(), times: *times })
            .collect();
        let history: Vec<_> = brought.history.iter().map(|user| user.as_bytes()).collect();
        let header = |name: &str, nth: usize| {
            let own = brought.trail.as_deref().filter(|_| name == TRAIL_HEADER && nth == 0);
            own.map(str::as_bytes)
        };
        let attempt = Attempt {
            listener: &listener,
            source: Ipv4Addr::LOCALHOST.into(),
            transport: Transport::Udp,
            certificate: None,
            own_host: "",
            request_host: &[],
            request_user: dialled.as_bytes(),
            to_user: &[],
            diversion_user: &[],
            called_party_user: &[],
            caller_user: &[],
            diverted: &diverted,
            history: &history,
            trail_key: key,
            header: &header,
            proof: &|_| Proof::Absent,
        };
        let trunk = Trunk::new(trunk_id(1), "carrier", Vec::new());
        follow(&trunk, &attempt, dialled.parse().unwrap())
    }

    fn value(trail: &Trail) -> Option<String> {
        Some(trail.to_value()?.as_str().to_owned())
    }

    #[test]
    fn a_call_may_come_back_once_to_a_number_it_went_on_from_and_no_oftener() {
        let (key, elsewhere) = (TrailKey::default(), TrailKey::default());
        let first = followed(&key, &Brought::default(), OWN).unwrap();
        let came = |trail: &Trail| Brought { trail: value(trail), ..Brought::default() };
        // Somebody passes the caller back, at once or by another number of ours; not again. Also behind what
        // other nodes wrote.
        let second = followed(&key, &came(&first), OTHER).unwrap();
        let by_other = followed(&elsewhere, &came(&first), OWN).unwrap();
        assert_eq!(by_other.0.len(), 2, "another node has another mark");
        for trail in [&first, &second, &by_other] {
            let back = followed(&key, &came(trail), OWN).unwrap();
            let words = followed(&key, &came(&back), OWN).unwrap_err();
            assert!(words.contains("2 times before, and is back"), "{words}");
            let other = followed(&key, &came(&back), OTHER);
            assert!(other.is_ok(), "{other:?}");
        }
        assert!(!value(&first).unwrap().contains("5550100"));
    }

    #[test]
    fn a_trail_has_an_end_and_what_is_no_mark_is_passed_over() {
        let mut trail = Trail::default();
        assert_eq!(trail.to_value(), None);
        for _ in 0..TRAIL_MARKS_MAX {
            let brought = Brought { trail: value(&trail), ..Brought::default() };
            trail = followed(&TrailKey::default(), &brought, OWN).unwrap();
        }
        let brought = Brought { trail: value(&trail), ..Brought::default() };
        assert!(followed(&TrailKey::default(), &brought, OWN).is_err());
        let garbage = Trail::parse(b"zz, 1f,, ffffffffffffffff, 1ffffffffffffffff, \xff");
        assert_eq!(garbage, Trail::default());
        let garbage = Trail::parse(b"zz, 1f,, ffffffffffffffff, 1ffffffffffffffff");
        assert_eq!(value(&garbage).unwrap(), "000000000000001f, ffffffffffffffff");
        assert_eq!(Trail::parse(&b"1,".repeat(9_999)).0.len(), TRAIL_MARKS_MAX);
    }

    #[test]
    fn a_number_that_diverted_a_call_as_often_as_it_may_gets_it_no_more() {
        let check = |diverted: &[(&str, u32)], history: &[&str], is_circle: bool| {
            let (diverted, history) = (diverted.to_vec(), history.to_vec());
            let brought = Brought { trail: None, diverted, history };
            let outcome = followed(&TrailKey::default(), &brought, OWN);
            let (diverted, history) = (&brought.diverted, &brought.history);
            assert_eq!(outcome.is_err(), is_circle, "{diverted:?} {history:?} {outcome:?}");
        };
        // Twilio names the number that is called as who diverted each call.
        check(&[(OWN, 1)], &[], false);
        check(&[(OWN, 1), (OTHER, 1), (OWN, 1)], &[], true);
        check(&[(OWN, 2)], &[], true);
        check(&[(OTHER, 9), ("+15550199", 1)], &[], false);
        check(&[(OTHER, 9), ("+15550199", 2)], &[], true);
        check(&[(OTHER, u32::MAX), (OTHER, u32::MAX)], &[], true);
        check(&[("", 1), ("anonymous", 1)], &["", "anonymous"], false);
        // A history ends with where the call goes, or does not.
        check(&[], &[OWN, OTHER, OWN], false);
        check(&[], &[OWN, OTHER, OWN, OTHER], true);
        check(&[], &[OWN, OTHER, OWN, OTHER, OWN], true);
        // A call that only goes from host to host.
        check(&[], &[OWN, OWN, OWN, OWN], false);
        check(&[], &[OWN, OWN, OWN, OTHER], false);
    }
}
