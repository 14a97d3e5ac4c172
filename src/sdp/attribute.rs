//! The values of lines that matter to us.
#![warn(clippy::indexing_slicing)]

use std::net::IpAddr;

use crate::types::codec::Codec;
use crate::types::codec::OpusTerms;
use crate::types::codec::PayloadType;

/// A `c=` line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connection {
    /// An address one can send to.
    Address(IpAddr),
    /// `0.0.0.0` or `::`, by which old devices say "hold" (RFC 3264 §8.4).
    Unspecified,
    /// A host name, a multicast address, or not readable: nothing is sent before the peer's media
    /// shows where it is.
    Unusable,
}

impl Connection {
    /// Reads the value of a `c=` line, or the address part of an `a=rtcp` one.
    pub(super) fn read(value: &[u8]) -> Self {
        let address =
            tokens(value).nth(2).and_then(|token| token.split(|byte| *byte == b'/').next());
        let parsed =
            address.and_then(|text| std::str::from_utf8(text).ok()?.parse::<IpAddr>().ok());
        match parsed {
            None => Self::Unusable,
            Some(address) if address.is_unspecified() => Self::Unspecified,
            Some(address) if address.is_multicast() || is_broadcast(address) => Self::Unusable,
            Some(address) => Self::Address(address),
        }
    }
}

fn is_broadcast(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_broadcast(),
        IpAddr::V6(_) => false,
    }
}

/// The value of an `a=rtpmap` line (RFC 8866 §6.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RtpMap<'a> {
    /// The format it explains.
    pub payload_type: PayloadType,
    /// The encoding name.
    pub name: &'a [u8],
    /// The clock rate in Hz; 8000 where it is left out.
    pub clock_rate: u64,
    /// The channels; 1 where they are left out.
    pub channels: u64,
}

impl<'a> RtpMap<'a> {
    pub(super) fn read(value: &'a [u8]) -> Option<Self> {
        let mut words = tokens(value);
        let payload_type = payload_type(words.next()?)?;
        let mut parts = words.next()?.split(|byte| *byte == b'/');
        let name = parts.next().filter(|name| !name.is_empty())?;
        let clock_rate = parts.next().map_or(Some(8000), number)?;
        let channels = parts.next().map_or(Some(1), number)?;
        Some(Self { payload_type, name, clock_rate, channels })
    }

    /// The codec it names, if it is one of ours.
    #[must_use]
    pub fn codec(&self) -> Option<Codec> {
        let name = std::str::from_utf8(self.name).ok()?;
        Codec::from_encoding(name, self.clock_rate, self.channels)
    }

    /// Whether it names telephone events with a clock of so many Hz (RFC 4733 §2.1).
    #[must_use]
    pub fn is_telephone_event(&self, clock_rate: u32) -> bool {
        self.name.eq_ignore_ascii_case(b"telephone-event")
            && self.clock_rate == u64::from(clock_rate)
    }
}

/// The format that an `a=rtpmap` line is about.
pub(super) fn format_of(value: &[u8]) -> Option<PayloadType> {
    payload_type(tokens(value).next()?)
}

/// What an `a=fmtp` line of Opus says (RFC 7587 §6.1). What is not readable is not said.
pub(super) fn opus_terms(value: &[u8]) -> OpusTerms {
    let mut terms = OpusTerms::default();
    for part in value.split(|byte| *byte == b';') {
        let mut words = part.splitn(2, |byte| *byte == b'=').map(trimmed);
        let (name, value) = (words.next().unwrap_or_default(), words.next().and_then(number));
        let Some(value) = value else { continue };
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        if is("useinbandfec") {
            terms.fec = value == 1;
        } else if is("cbr") {
            terms.constant = value == 1;
        } else if is("maxaveragebitrate") {
            terms.bitrate_max = u32::try_from(value).unwrap_or(u32::MAX);
        } else if is("maxplaybackrate") {
            terms.narrow = value <= 8_000;
        }
    }
    terms
}

/// Whether an `a=fmtp` line of G.729 allows frames of comfort noise: it does, unless it says no (RFC 4856 §2.1.9).
pub(super) fn annex_b(value: &[u8]) -> bool {
    value.split(|byte| *byte == b';').all(|part| {
        let mut words = part.splitn(2, |byte| *byte == b'=').map(trimmed);
        let is_annex_b = words.next().is_some_and(|name| name.eq_ignore_ascii_case(b"annexb"));
        !(is_annex_b && words.next().is_some_and(|value| value.eq_ignore_ascii_case(b"no")))
    })
}

/// The payload type a format stands for, if it is a number and one of RTP's.
pub(super) fn payload_type(format: &[u8]) -> Option<PayloadType> {
    number(format).and_then(|value| u8::try_from(value).ok()).and_then(PayloadType::new)
}

/// A decimal number without sign; `None` for anything else, and above 64 bits.
pub(super) fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_u64, |value, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        value.checked_mul(10)?.checked_add(digit)
    })
}

/// The words of a value. Besides blanks, NUL separates: C programs leave it behind.
pub(super) fn tokens(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| is_blank(*byte)).filter(|token| !token.is_empty())
}

/// The value without blanks around it.
pub(super) fn trimmed(value: &[u8]) -> &[u8] {
    let mut value = trimmed_start(value);
    while let [rest @ .., last] = value
        && is_blank(*last)
    {
        value = rest;
    }
    value
}

/// The value without blanks before it.
pub(super) fn trimmed_start(mut value: &[u8]) -> &[u8] {
    while let [first, rest @ ..] = value
        && is_blank(*first)
    {
        value = rest;
    }
    value
}

const fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_read_leniently() {
        let check = |value: &[u8], expected: Connection| {
            assert_eq!(Connection::read(value), expected, "{}", value.escape_ascii());
        };
        let address = Connection::Address("192.0.2.1".parse().unwrap());
        check(b"IN IP4 192.0.2.1", address);
        check(b"in\tip4  192.0.2.1/127/3\0", address);
        check(b"IN IP6 2001:db8::1", Connection::Address("2001:db8::1".parse().unwrap()));
        check(b"IN IP4 0.0.0.0", Connection::Unspecified);
        check(b"IN IP6 ::", Connection::Unspecified);
        check(b"IN IP4 224.2.1.1/127", Connection::Unusable);
        check(b"IN IP4 255.255.255.255", Connection::Unusable);
        check(b"IN IP4 media.example.com", Connection::Unusable);
        check(b"IN IP4 \xff\xfe", Connection::Unusable);
        check(b"192.0.2.1", Connection::Unusable);
        check(b"", Connection::Unusable);
    }

    #[test]
    fn what_opus_is_to_be_is_read_leniently() {
        let terms =
            opus_terms(b" maxplaybackrate=16000 ;useinbandfec=1;MaxAverageBitrate=20000;cbr=1");
        let all = OpusTerms { fec: true, bitrate_max: 20_000, constant: true, narrow: false };
        assert_eq!(terms, all);
        assert!(opus_terms(b"maxplaybackrate=8000").narrow);
        for nothing in
            [&b""[..], b"useinbandfec", b"useinbandfec=yes;=1;;", b"maxaveragebitrate=-1"]
        {
            assert_eq!(opus_terms(nothing), OpusTerms::default());
        }
        assert_eq!(opus_terms(b"maxaveragebitrate=99999999999").bitrate_max, u32::MAX);
    }

    #[test]
    fn rtpmaps_are_read_leniently() {
        let codec = |value: &[u8]| RtpMap::read(value).and_then(|map| map.codec());
        assert_eq!(codec(b"0 PCMU/8000"), Some(Codec::Pcmu));
        assert_eq!(codec(b"97   pcma/8000/1"), Some(Codec::Pcma));
        assert_eq!(codec(b"0 PCMU"), Some(Codec::Pcmu));
        assert_eq!(codec(b"107 OPUS/48000/2"), Some(Codec::Opus));
        assert_eq!(codec(b"107 opus/48000"), None);
        assert_eq!(codec(b"96 L16/16000"), Some(Codec::L16Wide));
        assert_eq!(codec(b"96 L16/8000/1"), Some(Codec::L16));
        assert_eq!(codec(b"96 L16/44100"), None);
        assert_eq!(codec(b"0 PCMU/16000"), None);
        assert_eq!(codec(b"0 PCMU/8000/2"), None);
        assert_eq!(codec(b"0 PCMU/99999999999999999999999"), None);
        assert_eq!(codec(b"128 PCMU/8000"), None);
        assert_eq!(codec(b"0"), None);
        assert_eq!(codec(b"0 /8000"), None);
        assert_eq!(codec(b"0 \xff/8000"), None);
    }
}
