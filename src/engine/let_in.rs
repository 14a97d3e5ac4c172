//! `LetIn`: the INVITEs that were let in lately, or those that were not, so that a repetition of one is told from a new call.

use crate::sip::message::peek;
use crate::types::limit::SIP_LET_IN_MAX;
use crate::types::moment::Moment;
use std::hash::BuildHasher;
use std::hash::RandomState;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

/// How long an INVITE is repeated that nobody answers: 64 times T1 (RFC 3261 §17.1.1.2).
const REPEATED_FOR: Duration = Duration::from_secs(32);
/// Places that share a lock. Where all of them are taken, the INVITE that came first is forgotten.
const SHELF: usize = 8;

/// What is the same in every copy of an INVITE, and in no other one, in a few bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct InviteName(u64);

/// The INVITEs of the last seconds. All of its memory is there from the start.
#[derive(Debug)]
pub(super) struct LetIn {
    shelves: Box<[Mutex<[Place; SHELF]>]>,
    /// Keyed, so that nobody can make others be forgotten.
    hash: RandomState,
}

/// An INVITE, until it is repeated no more.
#[derive(Clone, Copy, Debug, Default)]
struct Place {
    name: InviteName,
    until: Moment,
}

impl Default for LetIn {
    fn default() -> Self {
        Self::with_places(SIP_LET_IN_MAX)
    }
}

impl LetIn {
    /// A book of so many INVITEs.
    pub(super) fn with_places(places: usize) -> Self {
        let shelves = (0..places.div_ceil(SHELF).max(1)).map(|_| Mutex::default()).collect();
        Self { shelves, hash: RandomState::new() }
    }

    /// The name of an INVITE with this Call-ID: by that, its first Via, which has the branch, and CSeq.
    pub(super) fn name_of(&self, invite: &[u8], call_id: &[u8]) -> InviteName {
        InviteName(self.hash.hash_one((call_id, peek::via_and_cseq_of(invite))))
    }

    /// Takes note that an INVITE was let in, or turned away, as the book has it.
    pub(super) fn add(&self, now: Moment, name: InviteName) {
        let Some(mut shelf) = self.shelf(name) else { return };
        // A copy that was let in too makes nothing longer: all of them come within the time of the first.
        if shelf.iter().any(|place| place.name == name && place.until > now) {
            return;
        }
        if let Some(place) = shelf.iter_mut().min_by_key(|place| place.until) {
            *place = Place { name, until: now + REPEATED_FOR };
        }
    }

    /// Whether an INVITE of this name was noted so lately that it may be repeated.
    pub(super) fn has(&self, now: Moment, name: InviteName) -> bool {
        let shelf = self.shelf(name);
        shelf.is_some_and(|shelf| shelf.iter().any(|place| place.name == name && place.until > now))
    }

    fn shelf(&self, name: InviteName) -> Option<MutexGuard<'_, [Place; SHELF]>> {
        let count = u64::try_from(self.shelves.len()).ok().filter(|count| *count > 0)?;
        let shelf = self.shelves.get(usize::try_from(name.0 % count).ok()?)?;
        // What is there is sound at any time.
        Some(shelf.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn invite(branch: &str, call_id: &str, cseq: u32) -> String {
        format!(
            "INVITE sip:b@h SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK{branch}\r\n\
             Via: SIP/2.0/UDP i;branch=z9hG4bK7\r\nTo: <sip:b@h>\r\nCall-ID: {call_id}\r\n\
             CSeq: {cseq} INVITE\r\n\r\n"
        )
    }

    fn name(all: &LetIn, (branch, call_id, cseq): (&str, &str, u32)) -> InviteName {
        all.name_of(invite(branch, call_id, cseq).as_bytes(), call_id.as_bytes())
    }

    #[test]
    fn a_copy_has_the_name_of_its_invite_and_no_other_one_has() {
        let all = LetIn::default();
        let own = name(&all, ("1", "x", 1));
        assert_eq!(name(&all, ("1", "x", 1)), own);
        for other in [("2", "x", 1), ("1", "y", 1), ("1", "x", 2)] {
            assert_ne!(name(&all, other), own, "{other:?}");
        }
    }

    #[test]
    fn an_invite_is_known_for_as_long_as_it_is_repeated() {
        let all = LetIn::default();
        let (own, start) = (name(&all, ("1", "x", 1)), Moment::from_millis(5_000));
        assert!(!all.has(start, own));
        all.add(start, own);
        assert!(!all.has(start, name(&all, ("2", "x", 1))));
        // Copies that are let in do not keep it.
        for second in 1..32 {
            let now = start + Duration::from_secs(second);
            assert!(all.has(now, own), "{second} s");
            all.add(now, own);
        }
        assert!(!all.has(start + REPEATED_FOR, own));
    }

    #[test]
    fn with_more_invites_than_places_the_first_ones_are_forgotten() {
        let all = LetIn::with_places(SHELF);
        let names: Vec<_> =
            (0..3 * SHELF as u32).map(|cseq| name(&all, ("1", "x", cseq))).collect();
        let mut now = Moment::START;
        for name in &names {
            now += Duration::from_millis(1);
            all.add(now, *name);
        }
        let (old, young) = names.split_at(2 * SHELF);
        assert!(old.iter().all(|name| !all.has(now, *name)));
        assert!(young.iter().all(|name| all.has(now, *name)));
    }
}
