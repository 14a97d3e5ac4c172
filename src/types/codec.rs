//! Codecs, payload types and packet times.

use std::fmt;

/// A speech codec of calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Codec {
    /// G.711 µ-law, static payload type 0 (RFC 3551 §4.5.14).
    Pcmu,
    /// G.711 A-law, static payload type 8 (RFC 3551 §4.5.14).
    Pcma,
    /// G.722 at 64 kb/s, static payload type 9: audio at 16 kHz under a clock of 8 kHz (RFC 3551 §4.5.2).
    G722,
    /// Opus (RFC 6716), decoded and encoded at 16 kHz with one channel; always `opus/48000/2` (RFC 7587 §4.1).
    Opus,
    /// Linear audio of 16 bits at 16 kHz, the greater byte first (RFC 3551 §4.5.11).
    L16Wide,
    /// The same at 8 kHz.
    L16,
    /// G.729 with its annexes A and B, static payload type 18 (RFC 3551 §4.5.6). It passes between two legs as it
    /// came: nothing here decodes or encodes it.
    G729,
}

/// The two laws of G.711.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Law {
    /// µ-law.
    Mu,
    /// A-law.
    A,
}

impl Codec {
    /// All there are.
    pub const ALL: [Self; 7] =
        [Self::Pcmu, Self::Pcma, Self::G722, Self::Opus, Self::L16Wide, Self::L16, Self::G729];

    /// The law of G.711; `None`: it is another codec.
    #[must_use]
    pub const fn law(self) -> Option<Law> {
        match self {
            Self::Pcmu => Some(Law::Mu),
            Self::Pcma => Some(Law::A),
            Self::G722 | Self::Opus | Self::L16Wide | Self::L16 | Self::G729 => None,
        }
    }

    /// Whether its audio has 16,000 samples a second, and not 8,000.
    #[must_use]
    pub const fn is_wide(self) -> bool {
        match self {
            Self::Pcmu | Self::Pcma | Self::L16 | Self::G729 => false,
            Self::G722 | Self::Opus | Self::L16Wide => true,
        }
    }

    /// Whether its packets are decoded one by one; else each byte of one is 1/8000 s of audio, and may be parted from
    /// those beside it.
    #[must_use]
    pub const fn is_packed(self) -> bool {
        match self {
            Self::Pcmu | Self::Pcma | Self::G722 => false,
            Self::Opus | Self::L16Wide | Self::L16 | Self::G729 => true,
        }
    }

    /// Whether it is neither decoded nor encoded here, and can only go on to another leg of the same codec.
    #[must_use]
    pub const fn is_passed(self) -> bool {
        match self {
            Self::Pcmu | Self::Pcma | Self::G722 | Self::Opus | Self::L16Wide | Self::L16 => false,
            Self::G729 => true,
        }
    }

    /// What profiles, records and people call it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pcmu => "PCMU",
            Self::Pcma => "PCMA",
            Self::G722 => "G722",
            Self::Opus => "OPUS",
            Self::L16Wide => "L16_16K",
            Self::L16 => "L16_8K",
            Self::G729 => "G729",
        }
    }

    /// The encoding name of an `a=rtpmap` line.
    #[must_use]
    pub const fn encoding_name(self) -> &'static str {
        match self {
            Self::Pcmu | Self::Pcma | Self::G722 | Self::G729 => self.name(),
            Self::Opus => "opus",
            Self::L16Wide | Self::L16 => "L16",
        }
    }

    /// The RTP clock rate in Hz. Those of G.722 and Opus are not their sampling rates.
    #[must_use]
    pub const fn clock_rate(self) -> u32 {
        match self {
            Self::Pcmu | Self::Pcma | Self::G722 | Self::L16 | Self::G729 => 8_000,
            Self::L16Wide => 16_000,
            Self::Opus => 48_000,
        }
    }

    /// Units of its clock in one of 8 kHz.
    #[must_use]
    pub const fn clock_factor(self) -> u32 {
        self.clock_rate() / 8_000
    }

    /// The channels of an `a=rtpmap` line. Opus says 2 whatever it carries (RFC 7587 §4.1).
    #[must_use]
    pub const fn channels(self) -> u64 {
        match self {
            Self::Pcmu | Self::Pcma | Self::G722 | Self::L16Wide | Self::L16 | Self::G729 => 1,
            Self::Opus => 2,
        }
    }

    /// Its payload type in our offers: the static one (RFC 3551 table 4), else one of those to be assigned.
    #[must_use]
    pub const fn payload_type(self) -> PayloadType {
        match self {
            Self::Pcmu => PayloadType(0),
            Self::Pcma => PayloadType(8),
            Self::G722 => PayloadType(9),
            Self::Opus => PayloadType(111),
            Self::L16Wide => PayloadType(113),
            Self::L16 => PayloadType(114),
            Self::G729 => PayloadType(18),
        }
    }

    const fn is_static(self) -> bool {
        self.payload_type().0 < 96
    }

    /// The codec of a payload type that means the same everywhere (RFC 3551 table 4).
    #[must_use]
    pub fn of_static(payload_type: PayloadType) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|codec| codec.is_static() && codec.payload_type() == payload_type)
    }

    /// The longest packet that we send of it: one datagram holds it, and Opus has no frame of 30 ms (RFC 6716 §3.1).
    #[must_use]
    pub const fn fitting(self, ptime: Ptime) -> Ptime {
        match (self, ptime.0) {
            (Self::Opus, 30) => Ptime(20),
            (Self::L16Wide, 60) => Ptime(40),
            _ => ptime,
        }
    }

    /// The codec of a name, without case.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|codec| codec.name().eq_ignore_ascii_case(name))
    }

    /// The codec of an `a=rtpmap` line.
    #[must_use]
    pub fn from_encoding(name: &str, clock_rate: u64, channels: u64) -> Option<Self> {
        Self::ALL.into_iter().find(|codec| {
            codec.encoding_name().eq_ignore_ascii_case(name)
                && u64::from(codec.clock_rate()) == clock_rate
                && codec.channels() == channels
        })
    }
}

/// What a peer says of the Opus it wants to receive (RFC 7587 §6.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpusTerms {
    /// It makes use of in-band error correction.
    pub fec: bool,
    /// Most bits a second.
    pub bitrate_max: u32,
    /// Every packet is to be of the same length.
    pub constant: bool,
    /// It plays no more than 8 kHz have.
    pub narrow: bool,
}

impl Default for OpusTerms {
    fn default() -> Self {
        Self { fec: false, bitrate_max: u32::MAX, constant: false, narrow: false }
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// An RTP payload type, 0 to 127 (RFC 3550 §5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PayloadType(u8);

impl PayloadType {
    /// A payload type; `None` above 127.
    #[must_use]
    pub const fn new(value: u8) -> Option<Self> {
        if value < 128 { Some(Self(value)) } else { None }
    }

    /// The value, 0 to 127.
    #[must_use]
    pub const fn get(self) -> u8 {
        self.0
    }
}

impl fmt::Display for PayloadType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How much audio one RTP packet carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ptime(u8);

impl Ptime {
    /// 20 ms, the default of RFC 3551.
    pub const MS_20: Self = Self(20);

    /// A packet time Tandem sends: 10, 20, 30, 40 or 60 ms.
    #[must_use]
    pub const fn from_ms(ms: u8) -> Option<Self> {
        match ms {
            10 | 20 | 30 | 40 | 60 => Some(Self(ms)),
            _ => None,
        }
    }

    /// Milliseconds.
    #[must_use]
    pub const fn ms(self) -> u8 {
        self.0
    }

    /// Samples of one packet at `rate` Hz.
    #[must_use]
    pub const fn samples(self, rate: u32) -> u32 {
        rate / 1000 * self.0 as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_without_case() {
        for codec in Codec::ALL {
            assert_eq!(Codec::from_name(&codec.name().to_lowercase()), Some(codec));
            let encoding = codec.encoding_name();
            let rate = codec.clock_rate().into();
            assert_eq!(Codec::from_encoding(encoding, rate, codec.channels()), Some(codec));
            assert_eq!(Codec::from_encoding(encoding, rate + 1, codec.channels()), None);
            assert_eq!(Codec::from_encoding(encoding, rate, 3), None);
            let is_static = Codec::of_static(codec.payload_type()) == Some(codec);
            assert_eq!(is_static, codec.payload_type().get() < 96);
        }
        assert_eq!(Codec::from_name("G728"), None);
        assert_eq!(PayloadType::new(128), None);
        assert_eq!(Ptime::from_ms(30).map(|p| p.samples(8000)), Some(240));
        assert_eq!(Ptime::from_ms(25), None);
    }
}
