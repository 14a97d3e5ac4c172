//! Concealment of lost audio: the last frame once more, falling to silence.

use crate::audio::frame::Encoded;
use crate::audio::frame::FRAME_SAMPLES;
use crate::audio::frame::SILENCE;
use crate::audio::g711;
use crate::audio::mix::Mix;
use crate::types::codec::Codec;

/// Remembers the last frame. µ-law.
#[derive(Clone, Debug)]
pub struct Concealer {
    last: Encoded,
    /// The last frame may be repeated: it was heard just now.
    fresh: bool,
}

impl Default for Concealer {
    fn default() -> Self {
        Self { last: SILENCE, fresh: false }
    }
}

impl Concealer {
    /// A frame was received.
    pub const fn heard(&mut self, frame: &Encoded) {
        self.last = *frame;
        self.fresh = true;
    }

    /// A frame to put in the place of a lost one: 20 ms that fall away after a received frame, then
    /// silence.
    pub fn conceal(&mut self) -> Encoded {
        if !self.fresh {
            return SILENCE;
        }
        self.fresh = false;
        let mut linear = [0; FRAME_SAMPLES];
        g711::decode(Codec::Pcmu, &self.last, &mut linear);
        let mut mix = Mix::default();
        mix.add_falling(&linear, FRAME_SAMPLES);
        let mut frame = SILENCE;
        g711::encode(Codec::Pcmu, &mix.finish(), &mut frame);
        frame
    }

    /// The peer pauses: nothing is left to repeat.
    pub const fn paused(&mut self) {
        self.fresh = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::tone::Tone;
    use crate::audio::tone::share_at;

    #[test]
    fn one_lost_frame_falls_away_and_the_next_is_silent() {
        let mut tone = Tone::new(400, 10_000);
        let mut frame = SILENCE;
        g711::encode(Codec::Pcmu, &tone.frame(), &mut frame);
        let mut concealer = Concealer::default();
        assert_eq!(concealer.conceal(), SILENCE);
        concealer.heard(&frame);
        let mut concealed = [0; FRAME_SAMPLES];
        g711::decode(Codec::Pcmu, &concealer.conceal(), &mut concealed);
        assert!(share_at(&concealed, 400) > 0.7);
        let power = |part: &[i16]| part.iter().map(|s| i64::from(*s).pow(2)).sum::<i64>();
        assert!(power(&concealed[..80]) > 4 * power(&concealed[80..]));
        assert_eq!(concealer.conceal(), SILENCE);
    }
}
