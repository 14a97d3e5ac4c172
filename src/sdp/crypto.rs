//! `a=crypto` (RFC 4568): master keys in a session description.
#![warn(clippy::indexing_slicing)]

use crate::sdp::attribute::number;
use crate::sdp::attribute::tokens;
use crate::types::srtp::MKI_BYTES_MAX;
use crate::types::srtp::Mki;
use crate::types::srtp::SRTP_KEY_BYTES_MAX;
use crate::types::srtp::SRTP_PACKETS_MAX;
use crate::types::srtp::SrtpKey;
use crate::types::srtp::SrtpSuite;
use base64::Engine;
use base64::alphabet;
use base64::engine::DecodePaddingMode;
use base64::engine::GeneralPurpose;
use base64::engine::GeneralPurposeConfig;
use std::fmt;
use zeroize::Zeroizing;

/// Some peers leave the padding out.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Largest tag (RFC 4568 §9.1: nine digits).
const TAG_MAX: u64 = 999_999_999;

/// One `a=crypto` line: a key the peer will send with, if it is chosen.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct CryptoLine {
    /// By which an answer names it.
    pub(super) tag: u32,
    pub(super) key: SrtpKey,
}

impl CryptoLine {
    /// Reads the value of an `a=crypto` line; `None` for one we cannot or will not follow: another
    /// suite, several keys, a key derivation rate, or anything that leaves packets without
    /// encryption or authentication.
    pub(super) fn read(value: &[u8]) -> Option<Self> {
        let mut words = tokens(value);
        let tag = number(words.next()?).filter(|tag| *tag <= TAG_MAX)?;
        let suite = SrtpSuite::from_name(words.next()?)?;
        let key = read_key(suite, words.next()?)?;
        if !words.all(is_harmless) {
            return None;
        }
        Some(Self { tag: u32::try_from(tag).ok()?, key })
    }
}

/// Whether a session parameter (RFC 4568 §6.3) leaves everything as we do it: a window size is a hint,
/// a rate of 0 is the default, and what begins with a dash may be ignored. Whatever else is not
/// understood makes the line unusable.
fn is_harmless(parameter: &[u8]) -> bool {
    let upper = parameter.to_ascii_uppercase();
    parameter.starts_with(b"-") || upper.starts_with(b"WSH=") || upper == b"KDR=0"
}

/// Reads `inline:key|lifetime|mki:length` (RFC 4568 §6.1). Several keys would need their MKI to tell
/// them apart; nobody sends them, and none of them is taken.
fn read_key(suite: SrtpSuite, text: &[u8]) -> Option<SrtpKey> {
    let (method, inline) = text.split_at_checked(b"inline:".len())?;
    if !method.eq_ignore_ascii_case(b"inline:") || inline.contains(&b';') {
        return None;
    }
    let mut parts = inline.split(|byte| *byte == b'|');
    let mut bytes = Zeroizing::new([0; SRTP_KEY_BYTES_MAX + 3]);
    let length = BASE64.decode_slice(parts.next()?, bytes.as_mut_slice()).ok()?;
    let mut key = SrtpKey::new(suite, bytes.get(..length)?)?;
    let first = parts.next();
    let second = parts.next();
    if parts.next().is_some() {
        return None;
    }
    let (lifetime, mki) = match (first, second) {
        (Some(only), None) if only.contains(&b':') => (None, Some(only)),
        other => other,
    };
    key.lifetime = lifetime.map_or(Some(None), |text| read_lifetime(text).map(Some))?;
    key.mki = mki.map_or(Some(None), |text| read_mki(text).map(Some))?;
    Some(key)
}

/// `2^20` or a number, 1 to 2^48.
fn read_lifetime(text: &[u8]) -> Option<u64> {
    let packets = match text.strip_prefix(b"2^") {
        Some(exponent) => 1_u64.checked_shl(u32::try_from(number(exponent)?).ok()?)?,
        None => number(text)?,
    };
    (1..=SRTP_PACKETS_MAX).contains(&packets).then_some(packets)
}

/// `1:4`: the value, and the bytes it takes. A value above 32 bits is not understood.
fn read_mki(text: &[u8]) -> Option<Mki> {
    let at = text.iter().position(|byte| *byte == b':')?;
    let (value, length) = text.split_at_checked(at)?;
    let value = u32::try_from(number(value)?).ok()?;
    let length = u8::try_from(number(length.get(1..)?)?).ok()?;
    let least = u32::BITS.saturating_sub(value.leading_zeros()).div_ceil(8).max(1);
    let fits = usize::from(length) <= MKI_BYTES_MAX && u32::from(length) >= least;
    fits.then_some(Mki { value, length })
}

/// The value of an `a=crypto` line of ours. What it prints is a secret.
pub(super) struct Written<'a> {
    pub(super) tag: u32,
    pub(super) key: &'a SrtpKey,
}

impl fmt::Display for Written<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = Zeroizing::new([0; 4 * (SRTP_KEY_BYTES_MAX + 2) / 3]);
        // The room is enough for every suite.
        let length = BASE64.encode_slice(self.key.expose_both(), text.as_mut_slice()).unwrap_or(0);
        let inline = text.get(..length).and_then(|text| std::str::from_utf8(text).ok());
        write!(f, "{} {} inline:{}", self.tag, self.key.suite(), inline.unwrap_or_default())?;
        match self.key.lifetime {
            Some(packets) if packets.is_power_of_two() => write!(f, "|2^{}", packets.ilog2())?,
            Some(packets) => write!(f, "|{packets}")?,
            None => (),
        }
        match self.key.mki {
            Some(mki) => write!(f, "|{}:{}", mki.value, mki.length),
            None => Ok(()),
        }
    }
}

/// Whether a line holds a key: `a=crypto`, `a=key-mgmt` or `k=`.
pub(super) fn is_secret(kind: u8, value: &[u8]) -> bool {
    let name = value.split(|byte| *byte == b':').next().unwrap_or_default();
    let name = name.trim_ascii();
    kind == b'k'
        || (kind == b'a'
            && (name.eq_ignore_ascii_case(b"crypto") || name.eq_ignore_ascii_case(b"key-mgmt")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "d0RmdmcmVCspeEc3QGZiNWpVLFJhQX1cfHAwJSoj";

    fn read(value: &str) -> Option<CryptoLine> {
        CryptoLine::read(value.as_bytes())
    }

    #[test]
    fn the_examples_of_the_rfc_are_read() {
        let line = read(&format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}|2^20|1:32")).unwrap();
        assert_eq!((line.tag, line.key.suite()), (1, SrtpSuite::AesCm128HmacSha1_80));
        assert_eq!(line.key.lifetime, Some(1 << 20));
        assert_eq!(line.key.mki, Some(Mki { value: 1, length: 32 }));
        assert_eq!(line.key.expose_both(), b"wDfvg&T+)xG7@fb5jU,RaA}\\|p0%*#");
        let line = read(&format!("2 AES_CM_128_HMAC_SHA1_32 inline:{KEY}|2^20 WSH=128")).unwrap();
        assert_eq!((line.key.mki, line.key.lifetime), (None, Some(1 << 20)));
    }

    #[test]
    fn lifetime_and_identifier_may_stand_alone_or_be_left_out() {
        let parameters = |text: &str| {
            let line = read(&format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}{text}"))?;
            Some((line.key.lifetime, line.key.mki.map(|mki| (mki.value, mki.length))))
        };
        assert_eq!(parameters(""), Some((None, None)));
        assert_eq!(parameters("|2^48"), Some((Some(1 << 48), None)));
        assert_eq!(parameters("|1000"), Some((Some(1000), None)));
        assert_eq!(parameters("|255:1"), Some((None, Some((255, 1)))));
        assert_eq!(parameters("|2^31|65535:2"), Some((Some(1 << 31), Some((65535, 2)))));
        for odd in
            ["|2^49", "|0", "|x", "|2^", "|256:1", "|1:0", "|1:129", "|:", "|1:", "||", "|1|2|3"]
        {
            assert_eq!(parameters(odd), None, "{odd}");
        }
    }

    #[test]
    fn a_line_that_would_weaken_packets_is_not_taken() {
        let with = |parameter: &str| {
            read(&format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY} {parameter}")).is_some()
        };
        for fine in ["", "WSH=64", "KDR=0", "-x-vendor=7", "wsh=1024 -y"] {
            assert!(with(fine), "{fine}");
        }
        for not in [
            "UNENCRYPTED_SRTP",
            "UNENCRYPTED_SRTCP",
            "UNAUTHENTICATED_SRTP",
            "KDR=24",
            "FEC_ORDER=FEC_SRTP",
            "FEC_KEY=inline:x",
            "NEW_THING",
            "WSH=64 UNENCRYPTED_SRTCP",
        ] {
            assert!(!with(not), "{not}");
        }
    }

    #[test]
    fn a_key_must_have_the_length_of_its_suite() {
        let gcm = BASE64.encode([7; 28]);
        assert!(read(&format!("1 AEAD_AES_128_GCM inline:{gcm}")).is_some());
        assert!(
            read(&format!("1 aead_aes_128_gcm INLINE:{}", gcm.trim_end_matches('='))).is_some()
        );
        assert!(read(&format!("1 AEAD_AES_128_GCM inline:{KEY}")).is_none());
        assert!(read(&format!("1 AES_CM_128_HMAC_SHA1_80 inline:{gcm}")).is_none());
        assert!(read("1 AES_CM_128_HMAC_SHA1_80 inline:").is_none());
        assert!(read("1 AES_CM_128_HMAC_SHA1_80 inline:x").is_none());
        assert!(read(&format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}AAAA")).is_none());
    }

    #[test]
    fn a_line_of_another_form_is_passed_over() {
        for odd in [
            String::new(),
            "1".into(),
            "x AES_CM_128_HMAC_SHA1_80".into(),
            format!("1000000000 AES_CM_128_HMAC_SHA1_80 inline:{KEY}"),
            format!("1 F8_128_HMAC_SHA1_80 inline:{KEY}"),
            format!("1 AES_CM_128_HMAC_SHA1_80 uri:{KEY}"),
            format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}|1:1;inline:{KEY}|2:1"),
        ] {
            assert!(read(&odd).is_none(), "{odd}");
        }
    }

    #[test]
    fn what_we_write_is_read_back() {
        for suite in SrtpSuite::ALL {
            let mut key = SrtpKey::generate(suite, &[0x5a; SRTP_KEY_BYTES_MAX]);
            for (lifetime, mki) in [
                (None, None),
                (Some(1 << 31), None),
                (Some(999), Some(Mki { value: 1, length: 1 })),
            ] {
                (key.lifetime, key.mki) = (lifetime, mki);
                let text = Written { tag: 3, key: &key }.to_string();
                let line = read(&text).unwrap();
                assert_eq!((line.tag, &line.key), (3, &key), "{text}");
            }
        }
    }

    #[test]
    fn secrets_are_known_by_their_line() {
        for (line, secret) in [
            (&b"a=crypto:1 X inline:abc"[..], true),
            (b"a=CRYPTO :1", true),
            (b"a=key-mgmt:mikey AQ", true),
            (b"k=clear:abc", true),
            (b"a=cryptography", false),
            (b"a=rtpmap:0 PCMU/8000", false),
        ] {
            assert_eq!(is_secret(line[0], &line[2..]), secret, "{}", line.escape_ascii());
        }
    }
}
