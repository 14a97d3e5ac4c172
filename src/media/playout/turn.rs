//! Whether the caller waits for the agent to say something: it stopped speaking, and nothing of the agent is to be heard.

use crate::media::playout::Playout;

/// Whose turn it is to speak.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Turn {
    /// The caller waits for the agent.
    waits: bool,
    /// What the agent's task was told of that.
    told: bool,
}

impl Playout {
    /// The caller stopped speaking. Where something of the agent is played all the same, or is about to be, that counts as
    /// its answer: many agents go on, and then it is the caller's turn again.
    pub const fn caller_stopped(&mut self) {
        self.turn.waits = true;
    }

    /// Whether the caller waits for the agent, as far as is known.
    #[must_use]
    pub const fn caller_waits(&self) -> bool {
        self.turn.waits
    }

    /// Whatever the agent says next is owed to nobody.
    pub const fn nobody_waits(&mut self) {
        self.turn.waits = false;
    }

    /// Tells the agent's task whether the caller waits, where that changed; not while the agent is `held`, or anything of
    /// it is there.
    pub(super) fn tell_turn(&mut self, held: bool) {
        if self.turn.waits && (held || self.is_speaking() || self.queued_ms() > 0) {
            self.turn.waits = false;
        }
        let Turn { waits, told } = self.turn;
        if waits != told && self.end.push_caller_waits(waits) {
            self.turn.told = waits;
        }
    }

    /// The link goes to another session: nobody waits at this one.
    pub(super) fn leave_turn(&mut self) {
        self.nobody_waits();
        self.tell_turn(false);
        self.turn = Turn::default();
    }
}
