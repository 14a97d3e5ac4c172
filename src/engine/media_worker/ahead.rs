//! The next sessions of a phase: while one has its tick, and mostly waits for the system, the processor fetches what
//! those need that come after it. Thousands of sessions are more than its cache holds for 20 ms.

use crate::engine::media_worker::Hosted;
use crate::engine::media_worker::MediaThread;
use crate::types::cache::fetch;

/// What is fetched of a session. Each step finds by what the one before fetched where to look.
#[derive(Clone, Copy)]
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
    const TURNS: [Self; 6] =
        [Self::Audio, Self::Segment, Self::Places, Self::Rings, Self::Session, Self::Hosted];
}

impl MediaThread {
    /// Fetches of the sessions whose turn comes after that at place `at` of a phase, which is run from its end.
    pub(super) fn fetch_ahead(&mut self, phase: usize, at: usize) {
        let next = self.phases.get(phase).and_then(|phase| phase.get(..at)).unwrap_or_default();
        for (index, ahead) in next.iter().rev().zip(Ahead::TURNS) {
            if let Some(Some(hosted)) = self.slots.get_mut(usize::from(*index)) {
                hosted.fetch(ahead);
            }
        }
    }
}

impl Hosted {
    fn fetch(&mut self, ahead: Ahead) {
        match ahead {
            Ahead::Hosted => fetch(self),
            Ahead::Session => {
                self.events.fetch();
                self.session.fetch();
            }
            Ahead::Rings => self.session.fetch_rings(),
            Ahead::Places => self.session.fetch_places(),
            Ahead::Segment => self.session.fetch_segment(),
            Ahead::Audio => self.session.fetch_audio(),
        }
    }
}
