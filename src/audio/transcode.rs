//! Audio between the telephone's µ-law at 8 kHz and what an agent speaks.

use crate::audio::frame::Encoded;
use crate::audio::frame::FRAME_SAMPLES;
use crate::audio::g711;
use crate::audio::resample::Resampler;
use crate::types::agent::AgentAudio;
use crate::types::codec::Codec;
use bytes::BufMut;
use bytes::BytesMut;

/// Bytes of µ-law, or samples, that are turned at once: the rest of a long message follows.
const PIECE: usize = 4_096;

/// Turns caller audio into what an agent hears.
#[derive(Debug)]
pub struct ToAgent {
    format: AgentAudio,
    resampler: Option<Resampler>,
    samples: Vec<i16>,
}

impl ToAgent {
    /// Into `format`.
    #[must_use]
    pub fn new(format: AgentAudio) -> Self {
        let factor = format.factor();
        let resampler = (factor > 1).then(|| Resampler::up(factor));
        Self { format, resampler, samples: Vec::new() }
    }

    /// Bytes of each frame.
    #[must_use]
    pub const fn frame_bytes(&self) -> usize {
        self.format.frame_bytes()
    }

    /// Appends 20 ms of the caller, µ-law, to `out`, in the agent's format.
    pub fn push(&mut self, ulaw: &Encoded, out: &mut BytesMut) {
        match self.format {
            AgentAudio::Ulaw => out.put_slice(ulaw),
            AgentAudio::Alaw => {
                let mut alaw = *ulaw;
                g711::from_ulaw(Codec::Pcma, &mut alaw);
                out.put_slice(&alaw);
            }
            AgentAudio::L16 { .. } => {
                let mut narrow = [0; FRAME_SAMPLES];
                g711::decode(Codec::Pcmu, ulaw, &mut narrow);
                match &mut self.resampler {
                    None => put_samples(&narrow, out),
                    Some(resampler) => {
                        self.samples.clear();
                        resampler.push(&narrow, &mut self.samples);
                        put_samples(&self.samples, out);
                    }
                }
            }
        }
    }
}

/// Turns what an agent says into µ-law for the caller.
#[derive(Debug)]
pub struct FromAgent {
    format: AgentAudio,
    resampler: Option<Resampler>,
    /// The first byte of a sample whose second has not come yet.
    odd: Option<u8>,
    wide: Vec<i16>,
    narrow: Vec<i16>,
}

impl FromAgent {
    /// Out of `format`.
    #[must_use]
    pub fn new(format: AgentAudio) -> Self {
        let factor = format.factor();
        let resampler = (factor > 1).then(|| Resampler::down(factor));
        Self { format, resampler, odd: None, wide: Vec::new(), narrow: Vec::new() }
    }

    /// Appends `bytes` of any number to `out`, as µ-law. Half a sample waits for its other half.
    pub fn push(&mut self, bytes: &[u8], out: &mut BytesMut) {
        match self.format {
            AgentAudio::Ulaw => out.extend_from_slice(bytes),
            AgentAudio::Alaw => {
                let begin = out.len();
                out.extend_from_slice(bytes);
                g711::to_ulaw(Codec::Pcma, out.get_mut(begin..).unwrap_or_default());
            }
            AgentAudio::L16 { .. } => {
                let mut bytes = bytes;
                if let (Some(first), Some((second, rest))) = (self.odd, bytes.split_first()) {
                    self.odd = None;
                    self.wide.push(i16::from_le_bytes([first, *second]));
                    bytes = rest;
                }
                for piece in bytes.chunks(2 * PIECE) {
                    let (pairs, odd) = piece.as_chunks::<2>();
                    self.wide.extend(pairs.iter().map(|pair| i16::from_le_bytes(*pair)));
                    self.odd = odd.first().copied().or(self.odd);
                    self.turn(out);
                }
                self.turn(out);
            }
        }
    }

    fn turn(&mut self, out: &mut BytesMut) {
        let samples = match &mut self.resampler {
            None => &mut self.wide,
            Some(resampler) => {
                self.narrow.clear();
                resampler.push(&self.wide, &mut self.narrow);
                self.wide.clear();
                &mut self.narrow
            }
        };
        out.reserve(samples.len());
        for sample in &*samples {
            out.put_u8(g711::ulaw_encode(*sample));
        }
        samples.clear();
    }

    /// Forgets half a sample and what is under the filter: what comes next has nothing to do with what came.
    pub fn reset(&mut self) {
        self.odd = None;
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
        let mut same = BytesMut::new();
        FromAgent::new(AgentAudio::Ulaw).push(&there(AgentAudio::Ulaw), &mut same);
        assert_eq!(same, tone());
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
