//! Opus (RFC 6716) at 16 kHz with one channel, by libopus. It allocates when it is made, and never afterwards.

use crate::types::codec::OpusTerms;

/// Samples in a second.
const HZ: u32 = 16_000;
/// How hard the encoder works, 0 to 10: more costs more than is heard of speech.
const COMPLEXITY: i32 = 5;
/// Bits a second, unless the peer wants fewer.
const BITRATE: u32 = 24_000;
/// The fewest that still carry speech (RFC 7587 §3.1.1).
const BITRATE_MIN: u32 = 6_000;
/// Loss that the encoder provides for at most, in percent: of more it would say everything twice.
const LOSS_MAX: u8 = 30;
/// What the decoder conceals is a multiple of this: 2.5 ms.
const STEP: usize = 40;

/// Makes samples of packets, and of what is known where one is missing.
#[derive(Debug)]
pub struct Decoder {
    inner: ::opus::Decoder,
}

impl Decoder {
    /// A decoder; `None`: there is no memory for it.
    #[must_use]
    pub fn new() -> Option<Self> {
        let inner = ::opus::Decoder::new(HZ, ::opus::Channels::Mono).ok()?;
        Some(Self { inner })
    }

    /// Decodes a packet to `out`; false: it is none, or of another length.
    pub fn decode(&mut self, packet: &[u8], out: &mut [i16]) -> bool {
        !packet.is_empty()
            && self.inner.decode(packet, out, false).is_ok_and(|made| made == out.len())
    }

    /// Decodes a packet of whatever length to the beginning of `out`; how many samples it has, or `None` if it is none.
    pub fn decode_whole(&mut self, packet: &[u8], out: &mut [i16]) -> Option<usize> {
        if packet.is_empty() {
            return None;
        }
        self.inner.decode(packet, out, false).ok()
    }

    /// Makes what is missing just before `next` of what that packet says of it. False where the length is none that
    /// can be made.
    pub fn recover(&mut self, next: &[u8], out: &mut [i16]) -> bool {
        let fits = !next.is_empty() && !out.is_empty() && out.len().is_multiple_of(STEP);
        fits && self.inner.decode(next, out, true).is_ok_and(|made| made == out.len())
    }

    /// Goes on with what was heard.
    pub fn conceal(&mut self, out: &mut [i16]) {
        let whole = out.len() / STEP * STEP;
        let (steps, rest) = out.split_at_mut_checked(whole).unwrap_or_default();
        self.go_on(steps);
        let mut last = [0; STEP];
        if !rest.is_empty() {
            self.go_on(&mut last);
        }
        for (to, sample) in rest.iter_mut().zip(last) {
            *to = sample;
        }
    }

    /// An empty packet is one that is missing. What fails leaves silence.
    fn go_on(&mut self, out: &mut [i16]) {
        if !out.is_empty() && self.inner.decode(&[], out, false).is_err() {
            out.fill(0);
        }
    }
}

/// Makes packets of samples.
#[derive(Debug)]
pub struct Encoder {
    inner: ::opus::Encoder,
    terms: OpusTerms,
    loss_percent: u8,
}

impl Encoder {
    /// An encoder for a peer that asks for nothing; `None`: there is no memory for it.
    #[must_use]
    pub fn new() -> Option<Self> {
        let voip = ::opus::Application::Voip;
        let mut inner = ::opus::Encoder::new(HZ, ::opus::Channels::Mono, voip).ok()?;
        inner.set_complexity(COMPLEXITY).ok()?;
        inner.set_signal(::opus::Signal::Voice).ok()?;
        let mut encoder = Self { inner, terms: OpusTerms::default(), loss_percent: 0 };
        encoder.put_in_force()?;
        Some(encoder)
    }

    /// Does what the peer asks for.
    pub fn set_terms(&mut self, terms: OpusTerms) {
        if terms != self.terms {
            self.terms = terms;
            // What the library does not take stays as it was: the peer understands that too.
            let _kept = self.put_in_force();
        }
    }

    /// The peer reports so much loss, in 1/256. It rises at once and falls by half with each report, as correction that
    /// comes and goes with every report would be there too late.
    pub fn loss_is(&mut self, fraction: u8) {
        let percent = (u16::from(fraction) * 100).div_ceil(256) as u8;
        let percent = percent.max(self.loss_percent / 2).min(LOSS_MAX);
        if percent != self.loss_percent {
            self.loss_percent = percent;
            let _kept = self.put_in_force();
        }
    }

    fn put_in_force(&mut self) -> Option<()> {
        let OpusTerms { fec, bitrate_max, constant, narrow } = self.terms;
        let bits = BITRATE.min(bitrate_max).max(BITRATE_MIN);
        self.inner.set_bitrate(::opus::Bitrate::Bits(bits.cast_signed())).ok()?;
        self.inner.set_vbr(!constant).ok()?;
        self.inner.set_inband_fec(fec).ok()?;
        let loss = if fec { i32::from(self.loss_percent) } else { 0 };
        self.inner.set_packet_loss_perc(loss).ok()?;
        let band = if narrow { ::opus::Bandwidth::Narrowband } else { ::opus::Bandwidth::Wideband };
        self.inner.set_max_bandwidth(band).ok()
    }

    /// Encodes 10, 20, 40 or 60 ms to `out`; how many bytes it takes, or `None` where that cannot be.
    pub fn encode(&mut self, samples: &[i16], out: &mut [u8]) -> Option<usize> {
        self.inner.encode(samples, out).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::voice::Voice;

    /// 20 ms each.
    fn packets(encoder: &mut Encoder, samples: &[i16]) -> Vec<Vec<u8>> {
        let encode = |frame: &[i16]| {
            let mut packet = vec![0; 1_275];
            let length = encoder.encode(frame, &mut packet).expect("it encodes");
            packet.truncate(length);
            packet
        };
        samples.chunks_exact(320).map(encode).collect()
    }

    fn wide_voice(samples: usize) -> Vec<i16> {
        let mut voice = Voice::new();
        let frames = (0..samples / 320).flat_map(|_| voice.frame());
        frames.flat_map(|sample| [sample; 2]).collect()
    }

    /// Bytes a second.
    fn rate(terms: OpusTerms, fraction: u8) -> usize {
        let mut encoder = Encoder::new().expect("an encoder");
        encoder.set_terms(terms);
        encoder.loss_is(fraction);
        packets(&mut encoder, &wide_voice(64_000)).iter().map(Vec::len).sum::<usize>() / 4
    }

    #[test]
    fn the_peer_says_how_much_may_be_sent() {
        let usual = rate(OpusTerms::default(), 0);
        assert!((1_500..3_300).contains(&usual), "{usual}");
        let little = rate(OpusTerms { bitrate_max: 10_000, ..OpusTerms::default() }, 0);
        assert!(little < 1_400, "{little}");
        assert!(rate(OpusTerms { bitrate_max: 1, ..OpusTerms::default() }, 0) > 500);
        let mut encoder = Encoder::new().expect("an encoder");
        encoder.set_terms(OpusTerms { constant: true, ..OpusTerms::default() });
        let packets = packets(&mut encoder, &wide_voice(16_000));
        assert!(packets.iter().all(|packet| packet.len() == 60), "24 kb/s in 20 ms");
    }

    /// Whether a packet of one frame of SILK says something of the one before: the second bit behind the first byte
    /// (RFC 6716 §4.2.3).
    fn says_more(packet: &[u8]) -> bool {
        packet[0] >> 3 < 16 && packet[1] & 0x40 != 0
    }

    #[test]
    fn correction_is_sent_where_the_peer_wants_it_and_loses_packets() {
        let fec = OpusTerms { fec: true, ..OpusTerms::default() };
        let recovered = |terms, fraction| {
            let mut encoder = Encoder::new().expect("an encoder");
            encoder.set_terms(terms);
            encoder.loss_is(fraction);
            let packets = packets(&mut encoder, &wide_voice(32_000));
            packets.iter().filter(|packet| says_more(packet)).count()
        };
        assert_eq!(recovered(fec, 0), 0);
        assert_eq!(recovered(OpusTerms::default(), 30), 0);
        assert!(recovered(fec, 30) > 50, "{}", recovered(fec, 30));
    }

    #[test]
    fn what_is_no_opus_changes_nothing() {
        let mut decoder = Decoder::new().expect("a decoder");
        let mut out = [7; 320];
        assert!(!decoder.decode(&[], &mut out));
        assert!(!decoder.decode(&[0xff; 3], &mut out));
        assert!(!decoder.recover(&[8, 1, 2], &mut out[..33]));
        decoder.conceal(&mut out[..33]);
    }
}
