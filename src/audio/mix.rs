//! Mixing: sums in 32 bits, cut to 16 once at the end, so that the order of the sources never matters.

use crate::audio::frame::FRAME_SAMPLES;
use crate::audio::frame::Pcm;

/// Full volume of a gain.
pub const UNITY: i32 = 1 << 15;

/// A sum of sources over one frame.
#[derive(Clone, Debug)]
pub struct Mix([i32; FRAME_SAMPLES]);

impl Default for Mix {
    fn default() -> Self {
        Self([0; FRAME_SAMPLES])
    }
}

impl Mix {
    /// Adds a source as it is.
    pub fn add(&mut self, source: &Pcm) {
        for (sum, sample) in self.0.iter_mut().zip(source) {
            *sum += i32::from(*sample);
        }
    }

    /// Adds the front of a source while its gain falls from full to nothing over `samples`.
    pub fn add_falling(&mut self, source: &[i16], samples: usize) {
        let steps = samples.clamp(1, FRAME_SAMPLES) as i32;
        let gains = (0..steps).rev().map(|step| UNITY / steps * step);
        for ((sum, sample), gain) in self.0.iter_mut().zip(source).zip(gains) {
            *sum += (i32::from(*sample) * gain) >> 15;
        }
    }

    /// The mixed frame.
    #[must_use]
    pub fn finish(&self) -> Pcm {
        let mut frame = [0; FRAME_SAMPLES];
        for (sample, sum) in frame.iter_mut().zip(&self.0) {
            *sample = (*sum).clamp(i32::from(i16::MIN), i32::from(i16::MAX)) as i16;
        }
        frame
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_overflows_in_between_is_right_in_the_end() {
        let mut mix = Mix::default();
        for source in [[30_000; FRAME_SAMPLES], [30_000; FRAME_SAMPLES], [-30_000; FRAME_SAMPLES]] {
            mix.add(&source);
        }
        assert_eq!(mix.finish(), [30_000; FRAME_SAMPLES]);
        mix.add(&[i16::MAX; FRAME_SAMPLES]);
        assert_eq!(mix.finish(), [i16::MAX; FRAME_SAMPLES]);
    }

    #[test]
    fn a_falling_source_never_rises_and_ends() {
        let mut mix = Mix::default();
        mix.add_falling(&[10_000; 40], 40);
        let frame = mix.finish();
        assert!(frame.is_sorted_by(|a, b| a >= b));
        assert!(frame[0] > 9_500 && frame[0] < 10_000 && frame[38] > 0);
        assert_eq!(frame[39..], [0; 121]);
    }
}
