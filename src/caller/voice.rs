//! `Voice`: what the caller says, 20 ms at a time.

use crate::audio::frame::FRAME_SAMPLES;
use crate::audio::frame::Pcm;
use crate::audio::tone::Tone;

/// Peak of the tone: about -9 dBm0.
const TONE_PEAK: i16 = 8_000;

/// A source of audio that never ends.
#[derive(Clone, Debug)]
pub(super) enum Voice {
    /// Silence.
    Silent,
    /// A sine.
    Tone(Tone),
    /// Samples at 8 kHz, of which `at` are said; silence follows.
    Samples { samples: Vec<i16>, at: usize },
}

impl Voice {
    /// A sine of `hz`.
    pub(super) fn tone(hz: u16) -> Self {
        Self::Tone(Tone::new(hz, TONE_PEAK))
    }

    /// Samples at 8 kHz, once.
    pub(super) const fn samples(samples: Vec<i16>) -> Self {
        Self::Samples { samples, at: 0 }
    }

    /// The next 20 ms.
    pub(super) fn frame(&mut self) -> Pcm {
        match self {
            Self::Silent => [0; FRAME_SAMPLES],
            Self::Tone(tone) => tone.frame(),
            Self::Samples { samples, at } => {
                let mut frame = [0; FRAME_SAMPLES];
                let rest = samples.get(*at..).unwrap_or(&[]);
                for (slot, sample) in frame.iter_mut().zip(rest) {
                    *slot = *sample;
                }
                *at = (*at + FRAME_SAMPLES).min(samples.len());
                frame
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_said_once_and_then_there_is_silence() {
        let mut voice = Voice::samples(vec![7; 200]);
        assert_eq!(voice.frame(), [7; 160]);
        let second = voice.frame();
        assert_eq!((second[39], second[40]), (7, 0));
        assert_eq!(voice.frame(), [0; 160]);
    }
}
