//! What was heard of the peer, kept back for a moment where its keys are private: a tone is only known for a key's
//! when it has sounded for a while, and then nothing of it has been heard or recorded yet.

use crate::audio::frame::Encoded;
use crate::audio::frame::SILENCE;
use crate::audio::sound::Sound;

/// Ticks for which it is kept back: 60 ms. Two blocks of the key ear that a tone fills end 38 ms after its beginning at
/// the latest; the third frame is for one it does not fill well.
pub(super) const LOOK_BACK_TICKS: usize = 3;

/// 20 ms of the peer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kept {
    /// As µ-law.
    pub(super) frame: Encoded,
    /// As it came, or was made; `None`: there was nothing.
    pub(super) original: Option<Sound>,
    /// It is beside a key.
    pub(super) hidden: bool,
    /// It was heard while nothing was to be recorded.
    pub(super) untaped: bool,
    /// It came beside the event of a key, which is told instead of it.
    pub(super) beside_event: bool,
}

impl Kept {
    pub(super) const NOTHING: Self =
        Self { frame: SILENCE, original: None, hidden: false, untaped: false, beside_event: false };
}

/// Keeps the last frames of the peer.
#[derive(Debug)]
pub(super) struct LookBack {
    /// The oldest is first.
    frames: [Kept; LOOK_BACK_TICKS],
    /// The frame before was beside a key: too little of the tone may go on in the next one to be known for it.
    was_hidden: bool,
}

impl Default for LookBack {
    fn default() -> Self {
        Self { frames: [Kept::NOTHING; LOOK_BACK_TICKS], was_hidden: false }
    }
}

impl LookBack {
    /// Takes the newest frame and gives the oldest. Where the newest is beside a key, all that is kept is, and the
    /// frame that follows it.
    pub(super) fn pass(&mut self, mut newest: Kept) -> Kept {
        if newest.hidden {
            self.frames.iter_mut().for_each(|kept| kept.hidden = true);
        }
        newest.hidden |= std::mem::replace(&mut self.was_hidden, newest.hidden);
        let [oldest, rest @ ..] = self.frames;
        let [one, two] = rest;
        self.frames = [one, two, newest];
        oldest
    }

    /// Whether anything that is kept is beside a key.
    pub(super) fn hides(&self) -> bool {
        self.frames.iter().any(|kept| kept.hidden)
    }

    /// What is kept was heard while nothing was to be recorded.
    pub(super) fn untape(&mut self) {
        self.frames.iter_mut().for_each(|kept| kept.untaped = true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_for_a_key_hides_what_was_heard_before_it_and_one_frame_after() {
        let mut look_back = LookBack::default();
        let mut hidden = Vec::new();
        for tick in 0..12_u8 {
            let kept = Kept { frame: [tick; 160], hidden: (5..7).contains(&tick), ..Kept::NOTHING };
            let oldest = look_back.pass(kept);
            if tick >= 3 {
                assert_eq!(oldest.frame, [tick - 3; 160]);
                hidden.push(oldest.hidden);
            }
        }
        let expected = [false, false, true, true, true, true, true, true, false];
        assert_eq!(hidden, expected, "from 60 ms before the fifth to the one behind the sixth");
    }
}
