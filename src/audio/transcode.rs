//! Audio between what a link carries, G.711 of the agent's law ([`AgentAudio::law`]) at 8 kHz or samples at 16 kHz, and what
//! an agent speaks.

use crate::audio::frame::Encoded;
use crate::audio::frame::FRAME_SAMPLES;
use crate::audio::frame::WidePcm;
use crate::audio::g711;
use crate::audio::link::WIDE_UNIT_BYTES;
use crate::audio::resample::Resampler;
use crate::audio::sound::Sound;
use crate::types::agent::AgentAudio;
use bytes::BufMut;
use bytes::BytesMut;

/// Samples that are turned at once: the rest of a long message follows.
const PIECE: usize = 4_096;

/// Turns caller audio into what an agent hears.
#[derive(Debug)]
pub struct ToAgent {
    format: AgentAudio,
    /// To the agent's rate from that of what was heard last, where they differ.
    resampler: Option<Resampler>,
    heard_wide: bool,
    samples: Vec<i16>,
}

impl ToAgent {
    /// Into `format`.
    #[must_use]
    pub fn new(format: AgentAudio) -> Self {
        let resampler = resampler(1, format.factor());
        Self { format, resampler, heard_wide: false, samples: Vec::new() }
    }

    /// Bytes of each frame.
    #[must_use]
    pub const fn frame_bytes(&self) -> usize {
        self.format.frame_bytes()
    }

    /// Appends 20 ms of the caller, of the agent's law, to `out`, in the agent's format.
    pub fn push(&mut self, frame: &Encoded, out: &mut BytesMut) {
        match self.format {
            AgentAudio::Ulaw | AgentAudio::Alaw => out.put_slice(frame),
            AgentAudio::L16 { .. } => {
                let mut narrow = [0; FRAME_SAMPLES];
                g711::decode(self.format.law(), frame, &mut narrow);
                self.put(&narrow, false, out);
            }
        }
    }

    /// The same of 20 ms at 16 kHz.
    pub fn push_wide(&mut self, wide: &WidePcm, out: &mut BytesMut) {
        match self.format {
            AgentAudio::Ulaw | AgentAudio::Alaw => {
                out.put_slice(&Sound::Wide(*wide).as_law(self.format.law()));
            }
            AgentAudio::L16 { .. } => self.put(wide, true, out),
        }
    }

    fn put(&mut self, samples: &[i16], wide: bool, out: &mut BytesMut) {
        if self.heard_wide != wide {
            self.heard_wide = wide;
            self.resampler = resampler(1 + usize::from(wide), self.format.factor());
        }
        match &mut self.resampler {
            None => put_samples(samples, out),
            Some(resampler) => {
                self.samples.clear();
                resampler.push(samples, &mut self.samples);
                put_samples(&self.samples, out);
            }
        }
    }
}

/// What makes `to` times 8 kHz of `from` times that; `None` where they are the same.
fn resampler(from: usize, to: usize) -> Option<Resampler> {
    (from != to).then(|| Resampler::between(from, to))
}

/// Turns what an agent says into what the link takes for the caller.
#[derive(Debug)]
pub struct FromAgent {
    format: AgentAudio,
    resampler: Option<Resampler>,
    /// The caller makes use of 16 kHz.
    wide: bool,
    /// The first byte of a sample whose second has not come yet.
    odd: Option<u8>,
    /// As the agent said it, and as the link takes it.
    said: Vec<i16>,
    turned: Vec<i16>,
}

impl FromAgent {
    /// Out of `format`.
    #[must_use]
    pub fn new(format: AgentAudio) -> Self {
        let resampler = resampler(format.factor(), 1);
        let (said, turned) = (Vec::new(), Vec::new());
        Self { format, resampler, wide: false, odd: None, said, turned }
    }

    /// Whether the caller makes use of 16 kHz. An agent of 8 kHz never says more.
    pub fn to_wide(&mut self, wide: bool) {
        let wide = wide && self.format.factor() > 1;
        if self.wide != wide {
            self.wide = wide;
            self.turned.clear();
            self.resampler = resampler(self.format.factor(), 1 + usize::from(wide));
        }
    }

    /// Whether what comes out is at 16 kHz, samples of 16 bits, and not G.711 of the agent's law.
    #[must_use]
    pub const fn is_wide(&self) -> bool {
        self.wide
    }

    /// Units of 8 kHz that so many bytes are which came out.
    #[must_use]
    pub const fn units(&self, bytes: usize) -> usize {
        if self.wide { bytes / WIDE_UNIT_BYTES } else { bytes }
    }

    /// Appends `bytes` of any number to `out`. What is half of a sample, or at 16 kHz of a pair, waits for its other
    /// half.
    pub fn push(&mut self, bytes: &[u8], out: &mut BytesMut) {
        match self.format {
            AgentAudio::Ulaw | AgentAudio::Alaw => out.extend_from_slice(bytes),
            AgentAudio::L16 { .. } => {
                let mut bytes = bytes;
                if let (Some(first), Some((second, rest))) = (self.odd, bytes.split_first()) {
                    self.odd = None;
                    self.said.push(i16::from_le_bytes([first, *second]));
                    bytes = rest;
                }
                for piece in bytes.chunks(2 * PIECE) {
                    let (pairs, odd) = piece.as_chunks::<2>();
                    self.said.extend(pairs.iter().map(|pair| i16::from_le_bytes(*pair)));
                    self.odd = odd.first().copied().or(self.odd);
                    self.turn(out);
                }
                self.turn(out);
            }
        }
    }

    fn turn(&mut self, out: &mut BytesMut) {
        match &mut self.resampler {
            None => self.turned.append(&mut self.said),
            Some(resampler) => {
                resampler.push(&self.said, &mut self.turned);
                self.said.clear();
            }
        }
        if self.wide {
            let whole = self.turned.len() & !1;
            put_samples(self.turned.get(..whole).unwrap_or_default(), out);
            self.turned.drain(..whole);
            return;
        }
        out.reserve(self.turned.len());
        for sample in self.turned.drain(..) {
            out.put_u8(g711::ulaw_encode(sample));
        }
    }

    /// Forgets half a sample and what is under the filter: what comes next has nothing to do with what came.
    pub fn reset(&mut self) {
        self.odd = None;
        self.turned.clear();
        if let Some(resampler) = &mut self.resampler {
            resampler.reset();
        }
    }
}

fn put_samples(samples: &[i16], out: &mut BytesMut) {
    out.reserve(2 * samples.len());
    for sample in samples {
        out.put_i16_le(*sample);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const L16: [AgentAudio; 3] = [
        AgentAudio::L16 { rate: 8_000 },
        AgentAudio::L16 { rate: 16_000 },
        AgentAudio::L16 { rate: 24_000 },
    ];

    fn tone() -> Vec<u8> {
        let wave = |n: u32| (6_000.0 * (f64::from(n) * 0.3).sin()) as i16;
        (0..1_600).map(|n| g711::ulaw_encode(wave(n))).collect()
    }

    fn there(format: AgentAudio) -> BytesMut {
        let mut to = ToAgent::new(format);
        let mut wire = BytesMut::new();
        for frame in tone().as_chunks::<FRAME_SAMPLES>().0 {
            to.push(frame, &mut wire);
        }
        wire
    }

    #[test]
    fn every_format_has_so_many_bytes_for_each_frame() {
        for (format, bytes) in [
            (AgentAudio::Ulaw, 160),
            (AgentAudio::Alaw, 160),
            (L16[0], 320),
            (L16[1], 640),
            (L16[2], 960),
        ] {
            assert_eq!(there(format).len(), 10 * bytes, "{format:?}");
            assert_eq!(format.frame_bytes(), bytes, "{format:?}");
        }
    }

    #[test]
    fn what_comes_back_is_what_was_said_in_pieces_of_any_size() {
        for format in [AgentAudio::Ulaw, AgentAudio::Alaw, L16[0], L16[1], L16[2]] {
            let wire = there(format);
            let mut whole = BytesMut::new();
            FromAgent::new(format).push(&wire, &mut whole);
            assert_eq!(whole.len(), tone().len(), "{format:?}");
            for size in [1, 3, 159, 161, 977] {
                let mut from = FromAgent::new(format);
                let mut back = BytesMut::new();
                for piece in wire.chunks(size) {
                    from.push(piece, &mut back);
                }
                assert!(back == whole, "{format:?} in pieces of {size}");
            }
        }
    }

    #[test]
    fn g711_goes_to_an_agent_of_it_and_comes_as_it_is() {
        for format in [AgentAudio::Ulaw, AgentAudio::Alaw] {
            let wire = there(format);
            assert_eq!(wire, tone(), "{format:?}");
            let mut same = BytesMut::new();
            FromAgent::new(format).push(&wire, &mut same);
            assert_eq!(same, tone(), "{format:?}");
        }
    }

    #[test]
    fn an_agent_of_16_khz_hears_a_wide_caller_as_it_is_and_one_of_24_khz_as_much() {
        let frames: Vec<WidePcm> = (0..50)
            .map(|frame| {
                std::array::from_fn(|n| {
                    (6_000.0 * (f64::from(frame * 320 + n as i32) * 2.0).sin()) as i16
                })
            })
            .collect();
        let heard = |format| {
            let (mut to, mut wire) = (ToAgent::new(format), BytesMut::new());
            frames.iter().for_each(|frame| to.push_wide(frame, &mut wire));
            assert_eq!(wire.len(), 50 * format.frame_bytes());
            wire
        };
        let bytes: Vec<u8> =
            frames.as_flattened().iter().flat_map(|sample| sample.to_le_bytes()).collect();
        assert_eq!(heard(L16[1]), bytes);
        for format in [L16[1], L16[2]] {
            let wire = heard(format);
            let mut whole = BytesMut::new();
            let mut from = FromAgent::new(format);
            from.to_wide(true);
            from.push(&wire, &mut whole);
            assert_eq!(whole.len(), bytes.len());
            let power = |bytes: &[u8]| -> f64 {
                let pairs = bytes.as_chunks::<2>().0.iter();
                pairs.map(|pair| f64::from(i16::from_le_bytes(*pair)).powi(2)).sum()
            };
            let kept = power(&whole) / power(&bytes);
            assert!((0.97..1.03).contains(&kept), "of 5.1 kHz: {kept}");
            for size in [1, 3, 159, 977] {
                let (mut from, mut back) = (FromAgent::new(format), BytesMut::new());
                from.to_wide(true);
                for piece in wire.chunks(size) {
                    from.push(piece, &mut back);
                    assert!(back.len().is_multiple_of(4), "whole pairs");
                }
                assert!(back == whole, "{format:?} in pieces of {size}");
            }
        }
    }

    #[test]
    fn an_agent_of_8_khz_stays_one_and_one_of_16_khz_follows_the_caller() {
        let mut narrow = FromAgent::new(L16[0]);
        narrow.to_wide(true);
        assert!(!narrow.is_wide());
        let (mut from, mut out) = (FromAgent::new(L16[1]), BytesMut::new());
        let said = [0x10; 640];
        for (wide, bytes) in [(false, 160), (true, 640), (false, 160)] {
            from.to_wide(wide);
            from.push(&said, &mut out);
            assert_eq!(out.split().len(), bytes);
        }
        let mut to = ToAgent::new(L16[1]);
        to.push(&[0xff; FRAME_SAMPLES], &mut out);
        to.push_wide(&[0; 320], &mut out);
        to.push(&[0xff; FRAME_SAMPLES], &mut out);
        assert_eq!(out.len(), 3 * 640);
    }

    #[test]
    fn an_odd_byte_before_a_reset_is_not_half_of_what_comes_after() {
        let mut from = FromAgent::new(L16[0]);
        let mut out = BytesMut::new();
        from.push(&[0x55], &mut out);
        from.reset();
        from.push(&1_000_i16.to_le_bytes(), &mut out);
        assert_eq!(&out[..], [g711::ulaw_encode(1_000)]);
    }
}
