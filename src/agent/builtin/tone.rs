//! `Tone`: a continuous tone, for measuring and for listening.

use crate::agent::builtin::BuiltIn;
use crate::agent::builtin::synthesis;
use crate::agent::session::Output;
use crate::audio::g711;
use crate::audio::tone;
use crate::types::codec::Law;
use bytes::Bytes;
use std::sync::OnceLock;

/// Samples of one piece: 100 ms.
const PIECE_SAMPLES: usize = 800;
const PIECES_PER_SECOND: u16 = 10;
/// Pieces queued ahead. A mark behind each tells when the next is due, so the tone follows the clock
/// of the media and needs no timer.
const PIECES_AHEAD: u32 = 2;

/// Turns in a piece of the highest tone that a profile may ask for.
const EVEN_TURNS_MAX: usize = 340;

/// A continuous tone.
#[derive(Debug)]
pub struct Tone {
    tone: tone::Tone,
    /// How many whole turns fit into a piece, where no part of one is left: then all pieces are the same.
    even_turns: Option<u16>,
    /// The last piece.
    piece: Bytes,
    pieces: u64,
}

impl Tone {
    /// A tone of `hz` Hz.
    #[must_use]
    pub fn new(hz: u16) -> Self {
        let tone = tone::Tone::new(hz, synthesis::AMPLITUDE);
        let is_even = hz.is_multiple_of(PIECES_PER_SECOND);
        let even_turns = is_even.then_some(hz / PIECES_PER_SECOND);
        Self { tone, even_turns, piece: Bytes::new(), pieces: 0 }
    }

    fn play_piece(&mut self, out: &mut Vec<Output>) {
        if self.piece.is_empty() || self.even_turns.is_none() {
            self.piece = match self.even_turns {
                Some(turns) => even_piece(turns, &mut self.tone),
                None => made(&mut self.tone),
            };
        }
        self.pieces += 1;
        out.push(Output::Play(self.piece.clone()));
        out.push(Output::Mark(self.pieces));
    }
}

/// The piece of a tone of which so many turns fit into one. Every call that hears it has the same one.
fn even_piece(turns: u16, tone: &mut tone::Tone) -> Bytes {
    static PIECES: [OnceLock<Bytes>; EVEN_TURNS_MAX + 1] =
        [const { OnceLock::new() }; EVEN_TURNS_MAX + 1];
    match PIECES.get(usize::from(turns)) {
        Some(known) => known.get_or_init(|| made(tone)).clone(),
        None => made(tone),
    }
}

/// The next piece.
fn made(tone: &mut tone::Tone) -> Bytes {
    let mut samples = [0; PIECE_SAMPLES];
    tone.fill(&mut samples);
    let mut piece = vec![0; PIECE_SAMPLES];
    g711::encode(Law::Mu, &samples, &mut piece);
    piece.into()
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
        for hz in [440, 443] {
            check_seams(hz);
        }
    }

    #[test]
    fn calls_share_a_piece_where_all_pieces_of_the_tone_are_the_same() {
        let first = |hz| {
            let mut out = Vec::new();
            Tone::new(hz).begin(&mut out);
            match out.into_iter().next() {
                Some(Output::Play(audio)) => audio,
                other => panic!("{other:?}"),
            }
        };
        for hz in [50, 440, 3_400] {
            let made = made(&mut tone::Tone::new(hz, synthesis::AMPLITUDE));
            assert_eq!(first(hz), made, "{hz} Hz");
            assert_eq!(first(hz).as_ptr(), first(hz).as_ptr(), "{hz} Hz");
        }
        let (one, other) = (first(443), first(443));
        assert_eq!(one, other);
        assert_ne!(one.as_ptr(), other.as_ptr());
    }

    fn check_seams(hz: u16) {
        let mut tone = Tone::new(hz);
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
        check_tone(&audio, hz);
    }
}
