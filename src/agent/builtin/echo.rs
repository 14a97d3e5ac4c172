//! `Echo`: sends the caller's audio back at once.

use crate::agent::builtin::BuiltIn;
use crate::agent::session::Output;
use crate::audio::link::FRAME_BYTES;
use bytes::BytesMut;

/// Frames between two marks.
const FRAMES_PER_MARK: u64 = 4;
/// Frames sent back and not yet played above which new ones are skipped, so that audio which came
/// while playout was held does not delay the echo for the rest of the call.
const FRAMES_WAITING_MAX: u64 = 12;

/// Sends the caller's audio back.
#[derive(Debug, Default)]
pub struct Echo {
    /// Frames sent back.
    sent: u64,
    /// Of these, known to have been played.
    played: u64,
    buffer: BytesMut,
}

impl Echo {
    /// An echo that has heard nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

impl BuiltIn for Echo {
    fn begin(&mut self, _out: &mut Vec<Output>) {}

    fn hear(&mut self, frame: &[u8; FRAME_BYTES], out: &mut Vec<Output>) {
        if self.sent.saturating_sub(self.played) >= FRAMES_WAITING_MAX {
            return;
        }
        self.buffer.extend_from_slice(frame);
        out.push(Output::Play(self.buffer.split().freeze()));
        self.sent += 1;
        if self.sent.is_multiple_of(FRAMES_PER_MARK) {
            // The mark's identity is the count it stands for.
            out.push(Output::Mark(self.sent));
        }
    }

    fn mark_played(&mut self, id: u64, _out: &mut Vec<Output>) {
        self.played = self.played.max(id.min(self.sent));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_frame_comes_back_as_it_was() {
        let mut echo = Echo::new();
        let mut out = Vec::new();
        for value in 0..40_u8 {
            echo.hear(&[value; FRAME_BYTES], &mut out);
            let Some(Output::Play(audio)) = out.first() else { panic!("no audio") };
            assert_eq!(audio.as_ref(), [value; FRAME_BYTES]);
            if let Some(Output::Mark(id)) = out.get(1) {
                echo.mark_played(*id, &mut Vec::new());
            }
            out.clear();
        }
    }

    #[test]
    fn audio_heard_while_nothing_is_played_does_not_pile_up() {
        let mut echo = Echo::new();
        let mut out = Vec::new();
        for _ in 0..500 {
            echo.hear(&[1; FRAME_BYTES], &mut out);
        }
        let frames = out.iter().filter(|o| matches!(o, Output::Play(_))).count();
        assert_eq!(frames as u64, FRAMES_WAITING_MAX);
        echo.mark_played(4, &mut Vec::new());
        out.clear();
        echo.hear(&[1; FRAME_BYTES], &mut out);
        assert!(!out.is_empty(), "the echo goes on once something was played");
    }
}
