//! The next sessions of a phase: while one has its tick, and mostly waits for the system, the processor fetches what
//! those need that come after it. Thousands of sessions are more than its cache holds for 20 ms.

use crate::engine::media_worker::Hosted;
use crate::engine::media_worker::MediaThread;
use crate::rtp::payloads::Payloads;
use crate::types::cache::fetch;

/// Turns before its own at which the first is fetched of a session.
pub(super) const TURNS_AHEAD: usize = 6;

/// What is fetched of a session. Each step finds by what the one before fetched where to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ahead {
    Hosted,
    Session,
    Rings,
    Places,
    Segment,
    Audio,
}

impl Ahead {
    /// What is fetched of the next session, of the one after it, and so on.
    const TURNS: [Self; TURNS_AHEAD] =
        [Self::Audio, Self::Segment, Self::Places, Self::Rings, Self::Session, Self::Hosted];
}

/// The places whose turn comes after that of place `at`, and what is fetched of each.
fn turns_after(at: usize) -> impl Iterator<Item = (usize, Ahead)> {
    (0..at).rev().zip(Ahead::TURNS)
}

impl MediaThread {
    /// Fetches of the sessions whose turn comes after that at place `at` of a phase, which is run from its end. Of the
    /// first ones that begins as many places before there are any.
    pub(super) fn fetch_ahead(&mut self, phase: usize, at: usize) {
        let Some(places) = self.phases.get(phase) else { return };
        let payloads = self.desk.out.payloads();
        for (next, ahead) in turns_after(at) {
            let slot = places.get(next).and_then(|index| self.slots.get_mut(usize::from(*index)));
            if let Some(Some(hosted)) = slot {
                hosted.fetch(ahead, payloads);
            }
        }
    }
}

impl Hosted {
    fn fetch(&mut self, ahead: Ahead, payloads: &Payloads) {
        match ahead {
            Ahead::Hosted => fetch(self),
            Ahead::Session => {
                self.events.fetch();
                self.session.fetch();
            }
            Ahead::Rings => self.session.fetch_rings(),
            Ahead::Places => self.session.fetch_places(payloads),
            Ahead::Segment => self.session.fetch_segment(),
            Ahead::Audio => self.session.fetch_audio(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_each_session_all_is_fetched_before_its_turn_and_each_step_after_the_one_it_follows() {
        let steps = [
            Ahead::Hosted,
            Ahead::Session,
            Ahead::Rings,
            Ahead::Places,
            Ahead::Segment,
            Ahead::Audio,
        ];
        for count in [1, 2, 6, 7, 50] {
            let mut fetched = vec![Vec::new(); count];
            for at in (0..count + TURNS_AHEAD).rev() {
                if let Some(own) = fetched.get(at) {
                    assert_eq!(*own, steps, "{at} of {count}");
                }
                for (next, ahead) in turns_after(at).filter(|(next, _)| *next < count) {
                    fetched[next].push(ahead);
                }
            }
            assert!(fetched.iter().all(|own| *own == steps), "none twice");
        }
    }
}
