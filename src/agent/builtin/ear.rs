//! `Ear`: tells a caller's voice from a quiet or evenly noisy line, by level alone.

use crate::agent::builtin::synthesis;
use crate::audio::link::FRAME_BYTES;

/// Mean level, of 32768, below which nothing counts as voice: about -42 dBm0.
const LEVEL_MIN: f32 = 200.0;
/// How many times louder than the line's noise a voice is: 12 dB.
const OVER_NOISE: f32 = 4.0;
/// The noise is taken to rise by so much with each frame: an even sound is noise after half a minute.
const NOISE_RISE: f32 = 1.003;
/// What the first frame may set as the noise: a caller may speak at once.
const FIRST_NOISE_MAX: f32 = 100.0;
/// The least noise, so that it can rise.
const NOISE_MIN: f32 = 4.0;

/// Follows the noise of one line.
#[derive(Debug, Default)]
pub(super) struct Ear {
    noise: Option<f32>,
}

impl Ear {
    /// True when this frame, µ-law, holds voice.
    pub(super) fn hears_voice(&mut self, frame: &[u8; FRAME_BYTES]) -> bool {
        let sum: i32 = frame.iter().map(|byte| i32::from(synthesis::decode(*byte)).abs()).sum();
        let level = sum as f32 / FRAME_BYTES as f32;
        let noise = match self.noise {
            None => level.min(FIRST_NOISE_MAX),
            Some(noise) => level.min(noise * NOISE_RISE),
        };
        let noise = noise.max(NOISE_MIN);
        self.noise = Some(noise);
        level > LEVEL_MIN.max(noise * OVER_NOISE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::BytesMut;

    fn tone(loud: bool) -> [u8; FRAME_BYTES] {
        let mut audio = BytesMut::new();
        synthesis::tone(if loud { 300 } else { 0 }, 0, FRAME_BYTES as u32, &mut audio);
        audio.as_ref().try_into().unwrap()
    }

    #[test]
    fn a_voice_is_heard_from_the_first_frame_and_silence_is_not() {
        let mut ear = Ear::default();
        assert!(ear.hears_voice(&tone(true)));
        assert!(!ear.hears_voice(&tone(false)));
        assert!(ear.hears_voice(&tone(true)));
    }

    #[test]
    fn an_even_sound_is_noise_in_the_end() {
        let mut ear = Ear::default();
        let heard = (0..3_000).take_while(|_| ear.hears_voice(&tone(true))).count();
        // Longer than any turn may be said without a pause for breath.
        assert!((500..2_500).contains(&heard), "{heard} frames");
    }
}
