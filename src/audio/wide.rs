//! `WideVoice`: what a leg needs whose codec has 16 kHz: its encoder and decoder, and the ways to and from 8 kHz.

use crate::audio::conceal::WidePast;
use crate::audio::frame::Encoded;
use crate::audio::frame::FRAME_SAMPLES;
use crate::audio::frame::Pcm;
use crate::audio::frame::WIDE_SAMPLES;
use crate::audio::frame::WidePcm;
use crate::audio::g711;
use crate::audio::g722;
use crate::audio::resample::Resampler;
use crate::audio::sound::Sound;
use crate::types::codec::Law;

/// The state of one leg of 16 kHz. Made where allocating does no harm; its use allocates nothing.
#[derive(Debug)]
pub struct WideVoice {
    decoder: g722::Decoder,
    encoder: g722::Encoder,
    heard_to_narrow: Resampler,
    heard_to_wide: Resampler,
    /// What came of the first of these last.
    narrowed: Pcm,
    said_to_narrow: Resampler,
    said_to_wide: Resampler,
    /// The last that was said was at 8 kHz.
    said_narrow: bool,
    scratch: Vec<i16>,
    /// Room for who conceals, while that hears 8 kHz.
    pub past: Option<Box<WidePast>>,
}

impl Default for WideVoice {
    fn default() -> Self {
        Self {
            decoder: g722::Decoder::default(),
            encoder: g722::Encoder::default(),
            heard_to_narrow: Resampler::down(2),
            heard_to_wide: Resampler::up(2),
            narrowed: [0; FRAME_SAMPLES],
            said_to_narrow: Resampler::down(2),
            said_to_wide: Resampler::up(2),
            said_narrow: false,
            scratch: Vec::with_capacity(WIDE_SAMPLES),
            past: Some(Box::default()),
        }
    }
}

impl WideVoice {
    /// Decodes what was received, two samples for each byte.
    pub fn decode(&mut self, bytes: &[u8], out: &mut [i16]) {
        self.decoder.decode(bytes, out);
    }

    /// What was heard, at 8 kHz: of every frame, one after the other.
    pub fn narrow(&mut self, heard: &WidePcm) -> Pcm {
        self.narrowed = resampled(&mut self.heard_to_narrow, heard, &mut self.scratch);
        self.narrowed
    }

    /// What was heard last, at 8 kHz.
    #[must_use]
    pub const fn narrowed(&self) -> &Pcm {
        &self.narrowed
    }

    /// What was heard at 8 kHz, at 16: of every frame, one after the other.
    pub fn widen_heard(&mut self, law: Law, heard: &Encoded) -> WidePcm {
        let mut narrow: Pcm = [0; FRAME_SAMPLES];
        g711::decode(law, heard, &mut narrow);
        resampled(&mut self.heard_to_wide, &narrow, &mut self.scratch)
    }

    /// What was heard at 8 kHz up to now was said long ago.
    pub fn forget_narrow(&mut self) {
        self.heard_to_wide.reset();
    }

    /// What is said, at 8 kHz: of every frame, one after the other.
    pub fn narrow_said(&mut self, said: &WidePcm) -> Pcm {
        resampled(&mut self.said_to_narrow, said, &mut self.scratch)
    }

    /// Encodes what is said, and gives it at 8 kHz too.
    pub fn encode(&mut self, said: &Sound) -> (Encoded, Pcm) {
        let (wide, narrow) = self.widen(said);
        let mut encoded = [0; FRAME_SAMPLES];
        self.encoder.encode(&wide, &mut encoded);
        (encoded, narrow)
    }

    /// What is said, at 16 kHz and at 8: of every frame, one after the other.
    pub fn widen(&mut self, said: &Sound) -> (WidePcm, Pcm) {
        match said {
            Sound::Law(law, frame) => {
                let mut narrow: Pcm = [0; FRAME_SAMPLES];
                g711::decode(*law, frame, &mut narrow);
                let wide = resampled(&mut self.said_to_wide, &narrow, &mut self.scratch);
                self.said_narrow = true;
                (wide, narrow)
            }
            Sound::Wide(wide) => {
                if std::mem::take(&mut self.said_narrow) {
                    // What is still under these filters was said long ago.
                    self.said_to_wide.reset();
                    self.said_to_narrow.reset();
                }
                (*wide, self.narrow_said(wide))
            }
        }
    }
}

fn resampled<const N: usize>(
    resampler: &mut Resampler,
    samples: &[i16],
    scratch: &mut Vec<i16>,
) -> [i16; N] {
    scratch.clear();
    resampler.push(samples, scratch);
    let mut out = [0; N];
    for (place, sample) in out.iter_mut().zip(&*scratch) {
        *place = *sample;
    }
    out
}
