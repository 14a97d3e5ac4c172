//! A tape made into stereo: the left channel is what was heard of the peer, the right what was sent to it,
//! both aligned to media time.

use crate::audio::g711;
use crate::audio::g722;
use crate::audio::opus;
use crate::audio::resample::Resampler;
use crate::audio::tape::TAPE_BYTES;
use crate::audio::tape::TapeForm;
use crate::audio::tape::TapeRate;
use crate::audio::tape::TapeSide;
use crate::audio::tape::TapeSound;

/// Bytes of a sample of both channels.
pub const STEREO_BYTES: usize = 4;

/// Samples of each channel that may still change.
const WINDOW: usize = 4_096;

/// Longest time of a packet: sound may come so long after the tick it belongs to, in ms.
const LATE_MS: u64 = 100;

/// Both channels of the part of a tape that may still change; what was before is written.
pub struct Mixdown {
    /// Of both channels in turn, where sample `at` is at `at % WINDOW`.
    window: Box<[[i16; 2]]>,
    /// The first sample that may still change.
    from: u64,
    late: u64,
    rate: TapeRate,
    /// What sound of another rate, or with a memory, is made into samples with, for each side.
    turners: Option<Box<[Turner; 2]>>,
}

/// Makes samples of one side of what cannot be read byte by byte.
struct Turner {
    g722: g722::Decoder,
    to_narrow: Resampler,
    to_wide: Resampler,
    samples: Vec<i16>,
    opus: Option<opus::Decoder>,
    /// Parts of a packet of Opus, and where it is.
    parts: Vec<u8>,
    parts_at: u64,
}

impl Turner {
    fn new() -> Self {
        Self {
            g722: g722::Decoder::default(),
            to_narrow: Resampler::down(2),
            to_wide: Resampler::up(2),
            samples: Vec::with_capacity(SAMPLES),
            opus: None,
            parts: Vec::new(),
            parts_at: 0,
        }
    }

    /// Turns samples of one rate into those of another.
    fn turn_to(&mut self, rate: TapeRate, own: TapeRate, samples: &[i16]) {
        match (own, rate) {
            (TapeRate::Narrow, TapeRate::Narrow) | (TapeRate::Wide, TapeRate::Wide) => {
                self.samples.extend_from_slice(samples);
            }
            (TapeRate::Wide, TapeRate::Narrow) => self.to_narrow.push(samples, &mut self.samples),
            (TapeRate::Narrow, TapeRate::Wide) => self.to_wide.push(samples, &mut self.samples),
        }
    }

    /// Keeps a part of a packet.
    fn keep(&mut self, sound: &TapeSound) {
        // What is left of one whose other parts found no room is none.
        if self.parts_at != sound.at || self.parts.len() >= SAMPLES {
            self.parts.clear();
        }
        self.parts_at = sound.at;
        self.parts.extend_from_slice(sound.bytes());
    }

    /// The samples of a packet whose parts are all there, at 16 kHz; none if it cannot be decoded.
    fn decode_opus(&mut self, wide: &mut [i16; SAMPLES]) -> usize {
        if self.opus.is_none() {
            self.opus = opus::Decoder::new();
        }
        let packet = std::mem::take(&mut self.parts);
        let count = self.opus.as_mut().and_then(|opus| opus.decode_whole(&packet, wide));
        self.parts = packet;
        self.parts.clear();
        count.unwrap_or(0)
    }
}

/// Most samples of a sound: 120 ms of Opus at 16 kHz.
const SAMPLES: usize = 1_920;

impl std::fmt::Debug for Mixdown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mixdown").field("from", &self.from).finish_non_exhaustive()
    }
}

impl Mixdown {
    /// One at the beginning of a tape.
    #[must_use]
    pub fn new(rate: TapeRate) -> Self {
        let late = u64::from(rate.hz()) * LATE_MS / 1_000;
        Self { window: vec![[0; 2]; WINDOW].into(), from: 0, late, rate, turners: None }
    }

    /// Samples of each channel that were given out.
    #[must_use]
    pub const fn written(&self) -> u64 {
        self.from
    }

    /// Takes sound. What it pushes out of the window goes to `sink`, as 16-bit samples of left and right in
    /// turn, the lesser byte first.
    pub fn take(&mut self, sound: &TapeSound, sink: &mut impl FnMut(&[u8])) {
        let channel = match sound.side {
            TapeSide::Heard => 0,
            TapeSide::Sent => 1,
        };
        let mut samples = [0; SAMPLES];
        let count = self.read(sound, channel, &mut samples);
        self.settle(sound.at, sink);
        for (at, sample) in (sound.at..).zip(samples.into_iter().take(count)) {
            // What comes later than a packet can is lost.
            if at >= self.from
                && let Some(place) =
                    self.window.get_mut(index(at)).and_then(|pair| pair.get_mut(channel))
            {
                *place = sample;
            }
        }
    }

    /// Makes samples of a sound; how many they are.
    fn read(&mut self, sound: &TapeSound, channel: usize, out: &mut [i16; SAMPLES]) -> usize {
        let (bytes, form) = (sound.bytes(), sound.form());
        let mut count = form.samples(bytes.len(), self.rate);
        match (form, self.rate) {
            (TapeForm::Linear, _) => {
                for (sample, pair) in out.iter_mut().zip(bytes.as_chunks::<2>().0) {
                    *sample = i16::from_le_bytes(*pair);
                }
            }
            (TapeForm::L16(own), rate) => {
                let mut samples = [0; TAPE_BYTES / 2];
                for (sample, pair) in samples.iter_mut().zip(bytes.as_chunks::<2>().0) {
                    *sample = i16::from_be_bytes(*pair);
                }
                let samples = samples.get(..bytes.len() / 2).unwrap_or_default();
                self.turn(channel, |turner| turner.turn_to(rate, own, samples), out);
            }
            (TapeForm::OpusPart, _) => self.turn(channel, |turner| turner.keep(sound), out),
            (TapeForm::Opus, rate) => {
                self.turn(
                    channel,
                    |turner| {
                        turner.keep(sound);
                        let mut wide = [0; SAMPLES];
                        let made = turner.decode_opus(&mut wide);
                        let wide = wide.get(..made).unwrap_or_default();
                        turner.turn_to(rate, TapeRate::Wide, wide);
                        count = turner.samples.len();
                    },
                    out,
                );
            }
            (TapeForm::Law(law), TapeRate::Narrow) => g711::decode(law, bytes, out),
            (TapeForm::Law(law), TapeRate::Wide) => {
                let mut narrow = [0; TAPE_BYTES];
                g711::decode(law, bytes, &mut narrow);
                let narrow = narrow.get(..bytes.len()).unwrap_or_default();
                self.turn(channel, |turner| turner.to_wide.push(narrow, &mut turner.samples), out);
            }
            (TapeForm::G722, rate) => self.turn(
                channel,
                |turner| {
                    let mut wide = [0; SAMPLES];
                    turner.g722.decode(bytes, &mut wide);
                    let wide = wide.get(..2 * bytes.len()).unwrap_or_default();
                    turner.turn_to(rate, TapeRate::Wide, wide);
                },
                out,
            ),
        }
        count
    }

    fn turn(&mut self, channel: usize, turn: impl FnOnce(&mut Turner), out: &mut [i16; SAMPLES]) {
        let turners = self.turners.get_or_insert_with(|| Box::new([Turner::new(), Turner::new()]));
        let Some(turner) = turners.get_mut(channel) else { return };
        turner.samples.clear();
        turn(turner);
        for (to, sample) in out.iter_mut().zip(&turner.samples) {
            *to = *sample;
        }
    }

    /// Gives out what cannot change any more once the session got to `reached`.
    pub fn settle(&mut self, reached: u64, sink: &mut impl FnMut(&[u8])) {
        self.finish(reached.saturating_sub(self.late), sink);
    }

    /// Gives out everything before `until`.
    pub fn finish(&mut self, until: u64, sink: &mut impl FnMut(&[u8])) {
        /// Samples given out at once.
        const PIECE: usize = 256;
        while self.from < until {
            let mut bytes = [[0; STEREO_BYTES]; PIECE];
            let count = usize::try_from(until - self.from).unwrap_or(PIECE).min(PIECE);
            for (at, out) in (self.from..).zip(bytes.iter_mut().take(count)) {
                if let Some(pair) = self.window.get_mut(index(at)) {
                    let [left, right] = std::mem::take(pair).map(i16::to_le_bytes);
                    *out = [left[0], left[1], right[0], right[1]];
                }
            }
            self.from += count as u64;
            sink(bytes.get(..count).unwrap_or_default().as_flattened());
        }
    }
}

const fn index(at: u64) -> usize {
    (at % WINDOW as u64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::tape::TapeIn;
    use crate::audio::tape::TapeItem;
    use crate::audio::tape::TapeOut;
    use crate::audio::tape::tape;

    fn linear(samples: impl Iterator<Item = i16>) -> Vec<u8> {
        samples.flat_map(i16::to_le_bytes).collect()
    }

    fn mix(into: TapeIn, out: &mut TapeOut) -> Vec<[i16; 2]> {
        drop(into);
        let mut bytes = Vec::new();
        let mut sink = |piece: &[u8]| bytes.extend_from_slice(piece);
        let mut mixdown = Mixdown::new(out.rate());
        while let Some(item) = out.next_item() {
            if let TapeItem::Sound(sound) = item {
                mixdown.take(&sound, &mut sink);
            }
        }
        mixdown.finish(out.reached(), &mut sink);
        assert_eq!(mixdown.written(), out.reached());
        let (quads, rest) = bytes.as_chunks::<4>();
        assert!(rest.is_empty());
        let pair =
            |[a, b, c, d]: &[u8; 4]| [i16::from_le_bytes([*a, *b]), i16::from_le_bytes([*c, *d])];
        quads.iter().map(pair).collect()
    }

    #[test]
    fn both_channels_are_aligned_whatever_the_packet_time() {
        let (mut into, mut out) = tape(TapeRate::Narrow);
        // Packets of 60 ms: the first tick's samples leave in the third.
        let said = |tick: i16| linear((0..480).map(move |n| n + 160 * (tick - 2)));
        for tick in 0..60_i16 {
            if tick % 3 == 2 {
                into.sound(TapeSide::Sent, -320, TapeForm::Linear, &said(tick));
            }
            let heard = linear((0..160).map(|n| -(n + 160 * tick)));
            into.sound(TapeSide::Heard, 0, TapeForm::Linear, &heard);
            into.pass();
        }
        let mixed = mix(into, &mut out);
        assert_eq!(mixed.len(), 60 * 160);
        for (at, [left, right]) in mixed.iter().enumerate() {
            assert_eq!((-i32::from(*left), i32::from(*right)), (at as i32, at as i32), "{at}");
        }
    }

    #[test]
    fn where_nothing_was_there_is_silence_and_the_rest_stays_in_place() {
        let (mut into, mut out) = tape(TapeRate::Wide);
        for tick in 0..200_i16 {
            // Ten ticks of two hundred are silent, then one of a hundred is.
            if !(50..60).contains(&tick) {
                let loud = linear((0..80).map(|_| 1 + tick));
                into.sound(TapeSide::Heard, 0, TapeForm::Linear, &loud);
            }
            into.pass();
            if tick == 100 {
                into.skip(100);
            }
        }
        let mixed = mix(into, &mut out);
        assert_eq!(mixed.len(), 300 * 320);
        for (at, [left, right]) in mixed.iter().enumerate() {
            let tick = at / 320;
            let tick = if tick > 200 {
                tick - 100
            } else if tick > 100 {
                1_000
            } else {
                tick
            };
            let silent = tick >= 200 || (50..60).contains(&tick) || at % 320 >= 80;
            let expected = if silent { 0 } else { 1 + tick as i16 };
            assert_eq!([*left, *right], [expected, 0], "{at}");
        }
    }
}
