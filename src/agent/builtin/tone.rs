//! `Tone`: a continuous tone, for measuring and for listening.

use crate::agent::builtin::BuiltIn;
use crate::agent::builtin::synthesis;
use crate::agent::session::Output;
use bytes::BytesMut;

/// Samples of one piece: 200 ms.
const PIECE_SAMPLES: u32 = 1_600;
/// Samples after which any tone of whole Hz repeats: one second.
const PERIOD_SAMPLES: u32 = 8_000;
/// Pieces queued ahead. A mark behind each tells when the next is due, so the tone follows the clock
/// of the media and needs no timer.
const PIECES_AHEAD: u32 = 2;

/// A continuous tone.
#[derive(Debug)]
pub struct Tone {
    hz: u16,
    offset: u32,
    pieces: u64,
    buffer: BytesMut,
}

impl Tone {
    /// A tone of `hz` Hz.
    #[must_use]
    pub fn new(hz: u16) -> Self {
        Self { hz, offset: 0, pieces: 0, buffer: BytesMut::new() }
    }

    fn play_piece(&mut self, out: &mut Vec<Output>) {
        synthesis::tone(self.hz, self.offset, PIECE_SAMPLES, &mut self.buffer);
        self.offset = (self.offset + PIECE_SAMPLES) % PERIOD_SAMPLES;
        self.pieces += 1;
        out.push(Output::Play(self.buffer.split().freeze()));
        out.push(Output::Mark(self.pieces));
    }
}

impl BuiltIn for Tone {
    fn begin(&mut self, out: &mut Vec<Output>) {
        for _ in 0..PIECES_AHEAD {
            self.play_piece(out);
        }
    }

    fn mark_played(&mut self, _id: u64, out: &mut Vec<Output>) {
        self.play_piece(out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::builtin::synthesis::tests::loudest_hz;

    #[test]
    fn the_tone_goes_on_without_a_seam_as_long_as_it_is_played() {
        let mut tone = Tone::new(440);
        let mut out = Vec::new();
        tone.begin(&mut out);
        for id in 1..=20 {
            tone.mark_played(id, &mut out);
        }
        let audio: Vec<u8> = out
            .iter()
            .filter_map(|output| match output {
                Output::Play(audio) => Some(audio.to_vec()),
                _ => None,
            })
            .flatten()
            .collect();
        let mut whole = BytesMut::new();
        synthesis::tone(440, 0, PIECE_SAMPLES * 22, &mut whole);
        assert_eq!(audio, whole.to_vec());
        assert_eq!(loudest_hz(&audio[1_500..3_100]), 440);
    }
}
