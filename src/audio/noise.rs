//! Comfort noise: what a caller hears while nobody speaks, so that the line does not sound dead.

use crate::audio::frame::Encoded;
use crate::audio::frame::FRAME_SAMPLES;
use crate::types::random::Random;

/// Quiet white noise, about -60 dBm0, made as µ-law: each byte is one of the eight codes next to zero.
#[derive(Clone, Debug)]
pub struct Noise(Random);

impl Noise {
    /// Noise that follows from `seed`.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(Random::from_seed(seed))
    }

    /// The next frame, µ-law.
    pub fn frame(&mut self) -> Encoded {
        let mut frame = [0; FRAME_SAMPLES];
        for bytes in frame.as_chunks_mut::<8>().0 {
            // Sign and the two lowest steps at random, all else as in silence.
            *bytes = (self.0.next_u64() | 0x7c7c_7c7c_7c7c_7c7c).to_le_bytes();
        }
        frame
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::g711::ulaw_decode;

    #[test]
    fn it_is_quiet_has_no_offset_and_is_not_silent() {
        let mut noise = Noise::new(1);
        let samples: Vec<f64> =
            (0..100).flat_map(|_| noise.frame()).map(|byte| f64::from(ulaw_decode(byte))).collect();
        let mean = samples.iter().sum::<f64>() / samples.len() as f64;
        let power = samples.iter().map(|s| s * s).sum::<f64>() / samples.len() as f64;
        // 0 dBm0 is 3.14 dB below a full-scale sine (ITU-T G.711 §4): 16 140 rms.
        let level_dbm0 = 20.0 * (power.sqrt() / 16_140.0).log10();
        assert!((-62.0..-59.0).contains(&level_dbm0), "{level_dbm0}");
        assert!(mean.abs() < 1.0, "{mean}");
    }
}
