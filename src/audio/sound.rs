//! `Sound`: 20 ms of one voice, in the form in which it goes from one party to the other.

use crate::audio::frame::Encoded;
use crate::audio::frame::FRAME_SAMPLES;
use crate::audio::frame::SILENCE;
use crate::audio::frame::WIDE_SAMPLES;
use crate::audio::frame::WidePcm;
use crate::audio::g711;
use crate::types::codec::Law;

/// Samples up to this are not heard: noise of -50 dBm0 has few above.
pub const FAINT: u16 = 160;

/// 20 ms of one voice. What came as G.711 stays as it came, so that it costs nothing and loses nothing on its way
/// to a leg of the same law.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(
    clippy::large_enum_variant,
    reason = "it goes through rings, and nothing may allocate for it"
)]
pub enum Sound {
    /// G.711 at 8 kHz.
    Law(Law, Encoded),
    /// Linear at 16 kHz.
    Wide(WidePcm),
}

impl Sound {
    /// 20 ms of nothing.
    pub const SILENCE: Self = Self::Law(Law::Mu, SILENCE);

    /// As samples at 16 kHz. Of what is at 8 kHz each sample is doubled: for the one frame in which sound of both rates
    /// meets.
    #[must_use]
    pub fn widened(&self) -> WidePcm {
        let mut doubled = [0; WIDE_SAMPLES];
        match self {
            Self::Wide(wide) => return *wide,
            Self::Law(law, frame) => {
                let mut linear = [0; FRAME_SAMPLES];
                g711::decode(*law, frame, &mut linear);
                for (pair, sample) in doubled.as_chunks_mut::<2>().0.iter_mut().zip(linear) {
                    *pair = [sample; 2];
                }
            }
        }
        doubled
    }

    /// As G.711 of a law. Of what is at 16 kHz each two samples are made one: for legs that change their codec
    /// while such sound is on its way to them; who knows that it will be heard at 8 kHz filters it.
    #[must_use]
    pub fn as_law(&self, law: Law) -> Encoded {
        match self {
            Self::Law(from, frame) => {
                let mut frame = *frame;
                g711::convert(*from, law, &mut frame);
                frame
            }
            Self::Wide(wide) => {
                let mut linear = [0; FRAME_SAMPLES];
                for (sample, [one, two]) in linear.iter_mut().zip(wide.as_chunks::<2>().0) {
                    *sample = one.midpoint(*two);
                }
                let mut frame = SILENCE;
                g711::encode(law, &linear, &mut frame);
                frame
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn g711_of_the_same_law_is_not_touched_and_other_sound_keeps_its_level() {
        let frame: Encoded = std::array::from_fn(|n| n as u8);
        assert_eq!(Sound::Law(Law::A, frame).as_law(Law::A), frame);
        let loud = Sound::Law(Law::A, [g711::alaw_encode(4_000); FRAME_SAMPLES]);
        assert_eq!(loud.as_law(Law::Mu), [g711::ulaw_encode(4_000); FRAME_SAMPLES]);
        let wide = Sound::Wide([4_000; WIDE_SAMPLES]).as_law(Law::Mu);
        assert_eq!(wide, [g711::ulaw_encode(4_000); FRAME_SAMPLES]);
        assert_eq!(Sound::Law(Law::Mu, wide).widened(), [g711::ulaw_decode(wide[0]); WIDE_SAMPLES]);
    }
}
