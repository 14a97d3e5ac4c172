//! When the ticks of a session may move to another phase of its thread: where nobody hears it.
//!
//! A session has one tick in each period of its thread, in whatever phase: so it sends and gives as much as always, and
//! whom it talks with, over a bridge as well, is neither ahead of it nor behind. The tick that moves comes up to 15 ms
//! earlier or later than 20 ms after the one before, once; packets keep their numbers and time stamps.

use crate::media::pace::PHASE;
use crate::media::pace::TICK;
use crate::media::session::MediaSession;
use crate::types::moment::Moment;

impl MediaSession {
    /// Whether the ticks of the session may move `from` one phase of its thread `to` another, behind the one that was due at
    /// `due`.
    ///
    /// A peer bears 5 ms without noticing; of more its jitter buffer has to take note, which nobody hears while it hears
    /// nothing. What the peer said waits so much shorter or longer in our own: what is too much goes in silence as always;
    /// too little may not be in the middle of a word, and in silence is made up for at once. To whoever is bridged with
    /// the session, or is a guest of it, a frame may be missing once.
    #[must_use]
    pub fn bears_phase(&self, due: Moment, (from, to): (usize, usize)) -> bool {
        let phases = from.abs_diff(to);
        let is_shared = self.bridged.is_some() || self.has_guests();
        if (is_shared || phases > 1) && !self.says_nothing(is_shared) {
            return false;
        }
        if self.hears_nothing() {
            return true;
        }
        let next = due + TICK - PHASE * phases as u32;
        !is_shared && (to > from || !self.jitter.wants_more(next))
    }

    /// The ticks of the session move: what was seen of how long the peer's packets wait holds no longer.
    pub const fn beat_moved(&mut self) {
        self.jitter.beat_moved();
    }

    /// Whether the peer heard nothing in the last tick, as far as that is known here: of a codec that only passes it is
    /// not. Where the agent is the only one who speaks, what it said must be played to its end too.
    fn says_nothing(&self, is_shared: bool) -> bool {
        let is_known =
            if is_shared { !self.codec().is_passed() } else { !self.playout.is_speaking() };
        is_known && !self.says()
    }

    /// Whether nothing was heard of the peer in the last tick.
    fn hears_nothing(&self) -> bool {
        let is_passed = self.jitter.codec_given().is_passed();
        let passage = self.passage.as_ref().filter(|_| is_passed);
        passage.map_or_else(|| self.concealer.was_quiet(), |passage| passage.was_pause())
    }
}
