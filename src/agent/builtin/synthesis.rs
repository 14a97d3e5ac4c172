//! Melodies for the built-in agents, made in code: no recordings are shipped.

use crate::audio::frame::SAMPLES_PER_MS;
use crate::audio::g711;
use crate::audio::tone::Tone;
use bytes::Bytes;

/// Peak of every tone, of 32768: about -16 dBm0, like speech.
pub(super) const AMPLITUDE: i16 = 5_000;
/// A note rises and falls over this many samples (5 ms), so that it does not click.
const RAMP_SAMPLES: usize = 40;

/// One note of a melody.
#[derive(Clone, Copy, Debug)]
pub(super) struct Note {
    /// Frequency; 0 is a pause.
    pub(super) hz: u16,
    /// Length.
    pub(super) ms: usize,
}

/// The melody as µ-law.
pub(super) fn melody(notes: &[Note]) -> Bytes {
    notes.iter().flat_map(|note| play(*note)).collect::<Vec<u8>>().into()
}

fn play(note: Note) -> impl Iterator<Item = u8> {
    let samples = note.ms * SAMPLES_PER_MS;
    let mut tone = Tone::new(note.hz, AMPLITUDE);
    (0..samples).map(move |n| {
        let edge = n.min(samples - n).min(RAMP_SAMPLES);
        // Both factors are small: the product fits, and the quotient is no larger than the sample.
        let faded = i32::from(tone.sample()) * edge as i32 / RAMP_SAMPLES as i32;
        g711::ulaw_encode(faded as i16)
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::audio::tone::share_at;

    /// Checks that nearly all the power of `ulaw` lies at `hz`; for 0, that there is none.
    pub(in crate::agent::builtin) fn check_tone(ulaw: &[u8], hz: u16) {
        let samples: Vec<i16> = ulaw.iter().map(|byte| g711::ulaw_decode(*byte)).collect();
        if hz == 0 {
            assert!(samples.iter().all(|sample| sample.abs() < 50), "not silent");
        } else {
            let share = share_at(&samples, hz);
            assert!(share > 0.98, "{share} at {hz} Hz");
        }
    }

    #[test]
    fn a_note_has_its_frequency_and_a_pause_is_silent() {
        let audio = melody(&[Note { hz: 1_000, ms: 100 }, Note { hz: 0, ms: 100 }]);
        assert_eq!(audio.len(), 1_600);
        check_tone(&audio[40..760], 1_000);
        check_tone(&audio[800..], 0);
    }
}
