//! `Tone`: a continuous tone, for measuring and for listening.

use crate::agent::builtin::BuiltIn;
use crate::agent::builtin::synthesis;
use crate::agent::session::Output;
use crate::audio::g711;
use crate::audio::tone;
use crate::types::codec::Codec;
use bytes::BytesMut;

/// Samples of one piece: 100 ms.
const PIECE_SAMPLES: usize = 800;
/// Pieces queued ahead. A mark behind each tells when the next is due, so the tone follows the clock
/// of the media and needs no timer.
const PIECES_AHEAD: u32 = 2;

/// A continuous tone.
#[derive(Debug)]
pub struct Tone {
    tone: tone::Tone,
    pieces: u64,
    buffer: BytesMut,
}

impl Tone {
    /// A tone of `hz` Hz.
    #[must_use]
    pub fn new(hz: u16) -> Self {
        let tone = tone::Tone::new(hz, synthesis::AMPLITUDE);
        Self { tone, pieces: 0, buffer: BytesMut::new() }
    }

    fn play_piece(&mut self, out: &mut Vec<Output>) {
        let mut samples = [0; PIECE_SAMPLES];
        self.tone.fill(&mut samples);
        self.buffer.resize(PIECE_SAMPLES, 0);
        g711::encode(Codec::Pcmu, &samples, &mut self.buffer);
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
    use crate::agent::builtin::synthesis::tests::check_tone;

    #[test]
    fn the_tone_goes_on_without_a_seam_as_long_as_it_is_played() {
        let mut tone = Tone::new(440);
        let mut out = Vec::new();
        tone.begin(&mut out);
        assert_eq!(out.len(), 4, "two pieces and their marks, until one was played");
        for id in 1..=20 {
            tone.mark_played(id, &mut out);
        }
        let pieces = out.iter().filter_map(|output| match output {
            Output::Play(audio) => Some(audio.to_vec()),
            _ => None,
        });
        let audio: Vec<u8> = pieces.flatten().collect();
        assert_eq!(audio.len(), 22 * PIECE_SAMPLES);
        // A step of the phase at a seam would spread the power.
        check_tone(&audio, 440);
    }
}
