//! Codecs, payload types and packet times.

use std::fmt;

/// A speech codec Tandem can decode and encode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Codec {
    /// G.711 µ-law, static payload type 0 (RFC 3551 §4.5.14).
    Pcmu,
    /// G.711 A-law, static payload type 8 (RFC 3551 §4.5.14).
    Pcma,
    /// G.722 at 64 kb/s, static payload type 9: audio at 16 kHz under a clock of 8 kHz (RFC 3551 §4.5.2).
    G722,
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
    pub const ALL: [Self; 3] = [Self::Pcmu, Self::Pcma, Self::G722];

    /// The law of G.711; `None`: it is another codec.
    #[must_use]
    pub const fn law(self) -> Option<Law> {
        match self {
            Self::Pcmu => Some(Law::Mu),
            Self::Pcma => Some(Law::A),
            Self::G722 => None,
        }
    }

    /// Whether its audio has 16,000 samples a second, and not 8,000.
    #[must_use]
    pub const fn is_wide(self) -> bool {
        match self {
            Self::Pcmu | Self::Pcma => false,
            Self::G722 => true,
        }
    }

    /// The encoding name of an `a=rtpmap` line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pcmu => "PCMU",
            Self::Pcma => "PCMA",
            Self::G722 => "G722",
        }
    }

    /// The RTP clock rate in Hz. That of G.722 is not its sampling rate.
    #[must_use]
    pub const fn clock_rate(self) -> u32 {
        match self {
            Self::Pcmu | Self::Pcma | Self::G722 => 8000,
        }
    }

    /// The static payload type (RFC 3551 table 4).
    #[must_use]
    pub const fn static_payload_type(self) -> PayloadType {
        match self {
            Self::Pcmu => PayloadType(0),
            Self::Pcma => PayloadType(8),
            Self::G722 => PayloadType(9),
        }
    }

    /// The codec of an encoding name, without case.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|codec| codec.name().eq_ignore_ascii_case(name))
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
            assert_eq!(codec.is_wide(), codec.law().is_none());
        }
        assert_eq!(Codec::from_name("G729"), None);
        assert_eq!(PayloadType::new(128), None);
        assert_eq!(Ptime::from_ms(30).map(|p| p.samples(8000)), Some(240));
        assert_eq!(Ptime::from_ms(25), None);
    }
}
