//! Comfort noise: what a caller hears while nobody speaks, so that the line does not sound dead.

use crate::audio::frame::Encoded;
use crate::audio::frame::FRAME_SAMPLES;
use crate::types::codec::Law;
use crate::types::random::Random;

/// Quiet white noise, about -60 dBm0, made as G.711: each byte is one of the codes next to zero, of which that takes eight
/// of µ-law and four of A-law.
#[derive(Clone, Debug)]
pub struct Noise(Random);

impl Noise {
    /// Noise that follows from `seed`.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(Random::from_seed(seed))
    }

    /// The next frame, of this law.
    pub fn frame(&mut self, law: Law) -> Encoded {
        let mut frame = [0; FRAME_SAMPLES];
        for bytes in frame.as_chunks_mut::<8>().0 {
            let drawn = self.0.next_u64();
            // The sign and the lowest bits of the step at random, all else as in silence.
            let codes = match law {
                Law::Mu => drawn | 0x7c7c_7c7c_7c7c_7c7c,
                Law::A => (drawn | 0x7e7e_7e7e_7e7e_7e7e) & 0xd5d5_d5d5_d5d5_d5d5,
            };
            *bytes = codes.to_le_bytes();
        }
        frame
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::g711;

    #[test]
    fn it_is_quiet_has_no_offset_and_is_not_silent() {
        for law in [Law::Mu, Law::A] {
            let mut noise = Noise::new(1);
            let frames = (0..100).flat_map(|_| noise.frame(law));
            let samples: Vec<f64> = frames.map(|byte| f64::from(g711::sample(law, byte))).collect();
            let mean = samples.iter().sum::<f64>() / samples.len() as f64;
            let power = samples.iter().map(|s| s * s).sum::<f64>() / samples.len() as f64;
            // 0 dBm0 is 3.14 dB below a full-scale sine (ITU-T G.711 §4): 16 140 rms.
            let level_dbm0 = 20.0 * (power.sqrt() / 16_140.0).log10();
            assert!((-62.0..-59.0).contains(&level_dbm0), "{law:?}: {level_dbm0}");
            assert!(mean.abs() < 1.0, "{law:?}: {mean}");
        }
    }
}
