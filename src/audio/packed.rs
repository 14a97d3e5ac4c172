//! `PackedVoice`: what a leg needs whose codec is decoded packet by packet: Opus and linear audio.

use crate::audio::opus;
use crate::types::codec::Codec;
use crate::types::codec::OpusTerms;
use crate::types::limit::RTP_PACKED_BYTES_MAX;

/// Samples of the longest packet: 120 ms at 16 kHz.
const STASH: usize = 1_920;
/// Samples that may wait until a packet is full: 60 ms at 16 kHz, and a frame.
const WAITING: usize = 1_280;
/// Samples after which the decoder has nothing more to go on with: 120 ms.
const CONCEALED_MAX: usize = 1_920;

/// Who fills the place of what is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filled {
    /// It is filled.
    Decoder,
    /// The codec knows nothing of what is missing.
    Nobody,
    /// It has been missing for so long that nothing is left to go on with.
    Faded,
}

/// Opus both ways.
#[derive(Debug)]
pub struct OpusVoice {
    decoder: opus::Decoder,
    encoder: opus::Encoder,
}

impl OpusVoice {
    /// `None`: there is no memory for it.
    #[must_use]
    pub fn new() -> Option<Box<Self>> {
        let (decoder, encoder) = (opus::Decoder::new()?, opus::Encoder::new()?);
        Some(Box::new(Self { decoder, encoder }))
    }
}

/// The state of one leg. Made where allocating does no harm; its use allocates nothing.
#[derive(Debug)]
pub struct PackedVoice {
    opus: Option<Box<OpusVoice>>,
    /// What was decoded and not yet heard.
    stash: [i16; STASH],
    at: usize,
    end: usize,
    /// It was made of what the next packet says.
    recovered: bool,
    /// Samples in a row that nothing is known of.
    concealed: usize,
    waiting: [i16; WAITING],
    waits: usize,
}

impl PackedVoice {
    /// What `codec` needs.
    #[must_use]
    pub fn new(codec: Codec) -> Self {
        Self {
            opus: if codec == Codec::Opus { OpusVoice::new() } else { None },
            stash: [0; STASH],
            at: 0,
            end: 0,
            recovered: false,
            concealed: 0,
            waiting: [0; WAITING],
            waits: 0,
        }
    }

    /// Whether audio of `codec` can be decoded and encoded.
    #[must_use]
    pub const fn speaks(&self, codec: Codec) -> bool {
        match codec {
            Codec::Opus => self.opus.is_some(),
            Codec::L16 | Codec::L16Wide => true,
            Codec::Pcmu | Codec::Pcma | Codec::G722 | Codec::G729 => false,
        }
    }

    /// Takes what `other` has and this has not.
    pub fn complete(&mut self, other: &mut Self) {
        if self.opus.is_none() {
            self.opus = other.opus.take();
        }
    }

    /// Opus is sent by these terms.
    pub fn set_terms(&mut self, terms: OpusTerms) {
        if let Some(opus) = &mut self.opus {
            opus.encoder.set_terms(terms);
        }
    }

    /// The peer reports so much loss, in 1/256.
    pub fn loss_is(&mut self, fraction: u8) {
        if let Some(opus) = &mut self.opus {
            opus.encoder.loss_is(fraction);
        }
    }

    /// A packet begins, of so many samples.
    pub fn begin(&mut self, codec: Codec, payload: &[u8], samples: usize) {
        self.forget();
        let Some(place) = self.stash.get_mut(..samples) else { return };
        match (codec, &mut self.opus) {
            (Codec::Opus, Some(opus)) => {
                if !opus.decoder.decode(payload, place) {
                    opus.decoder.conceal(place);
                }
            }
            (Codec::L16 | Codec::L16Wide, _) => {
                for (sample, pair) in place.iter_mut().zip(payload.as_chunks::<2>().0) {
                    *sample = i16::from_be_bytes(*pair);
                }
            }
            (Codec::Opus | Codec::Pcmu | Codec::Pcma | Codec::G722 | Codec::G729, _) => {
                place.fill(0);
            }
        }
        self.end = samples;
        self.concealed = 0;
    }

    /// The next samples of what was begun. What is not there is silent.
    pub fn take(&mut self, out: &mut [i16]) {
        let stashed = self.stash.get(self.at..self.end).unwrap_or_default();
        let mut rest = stashed.iter();
        for place in out.iter_mut() {
            *place = rest.next().copied().unwrap_or(0);
        }
        self.leave_out(out.len());
    }

    /// So many samples of what was begun are not heard.
    pub fn leave_out(&mut self, samples: usize) {
        self.at = (self.at + samples).min(self.end);
    }

    /// What was begun is not gone on with.
    pub const fn forget(&mut self) {
        (self.at, self.end, self.recovered) = (0, 0, false);
    }

    /// Fills the place of what is missing, of `next` if it is the packet behind the hole: so many samples lie before
    /// that, and it is so long itself.
    pub fn fill(
        &mut self,
        codec: Codec,
        next: Option<(&[u8], usize, usize)>,
        out: &mut [i16],
    ) -> Filled {
        let Some(opus) = self.opus.as_mut().filter(|_| codec == Codec::Opus) else {
            self.forget();
            return Filled::Nobody;
        };
        if self.recovered && self.end - self.at >= out.len() {
            self.take(out);
            return Filled::Decoder;
        }
        // A packet says something of as much as it is long itself.
        if let Some((next, gap, length)) = next
            && gap <= length
            && gap >= out.len()
            && let Some(place) = self.stash.get_mut(..gap)
            && opus.decoder.recover(next, place)
        {
            (self.at, self.end, self.recovered) = (0, gap, true);
            self.concealed = 0;
            self.take(out);
            return Filled::Decoder;
        }
        self.recovered = false;
        (self.at, self.end) = (0, 0);
        if self.concealed >= CONCEALED_MAX {
            return Filled::Faded;
        }
        self.concealed += out.len();
        opus.decoder.conceal(out);
        Filled::Decoder
    }

    /// Samples that wait until a packet is full.
    #[must_use]
    pub const fn waits(&self) -> usize {
        self.waits
    }

    /// What waits is not sent.
    pub const fn forget_waiting(&mut self) {
        self.waits = 0;
    }

    /// Takes what is said.
    pub fn say(&mut self, samples: &[i16]) {
        let free = self.waiting.iter_mut().skip(self.waits);
        for (place, sample) in free.zip(samples) {
            *place = *sample;
        }
        self.waits = (self.waits + samples.len()).min(WAITING);
    }

    /// Makes the next packet of so many samples, if they wait. How long its payload is; 0: it could not be made, and
    /// its time goes by without it.
    pub fn packet(
        &mut self,
        codec: Codec,
        samples: usize,
        out: &mut [u8; RTP_PACKED_BYTES_MAX],
    ) -> Option<usize> {
        let full =
            self.waiting.get(..self.waits)?.get(..samples).filter(|full| !full.is_empty())?;
        let length = match (codec, &mut self.opus) {
            (Codec::Opus, Some(opus)) => opus.encoder.encode(full, out).unwrap_or(0),
            (Codec::L16 | Codec::L16Wide, _) => {
                for (pair, sample) in out.as_chunks_mut::<2>().0.iter_mut().zip(full) {
                    *pair = sample.to_be_bytes();
                }
                (2 * full.len()).min(out.len())
            }
            (Codec::Opus | Codec::Pcmu | Codec::Pcma | Codec::G722 | Codec::G729, _) => 0,
        };
        self.waiting.copy_within(samples..self.waits, 0);
        self.waits -= samples;
        Some(length)
    }
}

/// What a fuzzer does with bytes: each piece after a byte with its length and one with what becomes of it.
pub fn exercise(mut data: &[u8]) {
    let mut voice = PackedVoice::new(Codec::Opus);
    let mut out = [0; 320];
    while let [length, does, rest @ ..] = data {
        let (payload, rest) = rest.split_at_checked(usize::from(*length)).unwrap_or((rest, &[]));
        let codec = if does & 1 == 0 { Codec::Opus } else { Codec::L16Wide };
        let samples = usize::from(does >> 4) * 160;
        match does >> 1 & 3 {
            0 => voice.begin(codec, payload, samples),
            1 => voice.take(&mut out),
            2 => voice.leave_out(samples),
            _ => {
                voice.fill(codec, Some((payload, samples, 320)), &mut out);
            }
        }
        data = rest;
    }
    voice.say(&out);
    let mut packet = [0; RTP_PACKED_BYTES_MAX];
    let made = voice.packet(Codec::Opus, 320, &mut packet);
    assert!(made.is_some_and(|length| length <= RTP_PACKED_BYTES_MAX), "20 ms are a packet");
    assert_eq!(voice.waits(), 0, "and nothing is left");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn linear_audio_comes_out_as_it_went_in() {
        let mut voice = PackedVoice::new(Codec::L16Wide);
        let said: Vec<i16> = (0..640).map(|n| n * 51 - 16_000).collect();
        let mut bytes = [0; RTP_PACKED_BYTES_MAX];
        voice.say(&said[..320]);
        assert_eq!(voice.packet(Codec::L16Wide, 640, &mut bytes), None, "a packet of 40 ms");
        voice.say(&said[320..]);
        assert_eq!(voice.packet(Codec::L16Wide, 640, &mut bytes), Some(1_280));
        assert_eq!(bytes[..2], said[0].to_be_bytes(), "the greater byte first");
        voice.begin(Codec::L16Wide, &bytes, 640);
        let mut heard = [0; 500];
        voice.take(&mut heard);
        assert_eq!(heard, said[..500]);
        voice.leave_out(40);
        let mut rest = [1; 200];
        voice.take(&mut rest);
        assert_eq!((&rest[..100], &rest[100..]), (&said[540..], &[0; 100][..]));
        assert_eq!(voice.fill(Codec::L16Wide, None, &mut rest), Filled::Nobody);
        assert!(!voice.speaks(Codec::Opus));
    }

    #[test]
    fn a_long_loss_fades() {
        let mut voice = PackedVoice::new(Codec::Opus);
        let mut out = [0; 320];
        let filled: Vec<_> = (0..8).map(|_| voice.fill(Codec::Opus, None, &mut out)).collect();
        assert_eq!(filled[..6], [Filled::Decoder; 6]);
        assert_eq!(filled[6..], [Filled::Faded; 2]);
    }

    #[test]
    fn any_bytes_are_borne() {
        let mut random = crate::types::random::Random::from_seed(3);
        for _ in 0..300 {
            let data: Vec<u8> = (0..random.below(600)).map(|_| random.next_u32() as u8).collect();
            exercise(&data);
        }
    }
}
