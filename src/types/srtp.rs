//! SRTP as signalling and media share it: suites, policies, and master keys that never print.

use std::fmt;
use zeroize::Zeroizing;

/// Bytes of the longest master key with its salt.
pub const SRTP_KEY_BYTES_MAX: usize = 30;

/// Packets a master key may protect at most (RFC 3711 §9.2).
pub const SRTP_PACKETS_MAX: u64 = 1 << 48;

/// How packets are encrypted and authenticated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SrtpSuite {
    /// AES in counter mode, tag of 80 bits (RFC 4568 §6.2.1): every peer has it.
    AesCm128HmacSha1_80,
    /// The same with a tag of 32 bits on RTP; RTCP keeps 80 (RFC 4568 §6.2.2).
    AesCm128HmacSha1_32,
    /// AES in Galois counter mode (RFC 7714 §14.2).
    AeadAes128Gcm,
}

impl SrtpSuite {
    /// Every suite.
    pub const ALL: [Self; 3] =
        [Self::AesCm128HmacSha1_80, Self::AesCm128HmacSha1_32, Self::AeadAes128Gcm];

    /// The name of session descriptions and configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AesCm128HmacSha1_80 => "AES_CM_128_HMAC_SHA1_80",
            Self::AesCm128HmacSha1_32 => "AES_CM_128_HMAC_SHA1_32",
            Self::AeadAes128Gcm => "AEAD_AES_128_GCM",
        }
    }

    /// The suite of a name, without case.
    #[must_use]
    pub fn from_name(name: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|suite| suite.as_str().as_bytes().eq_ignore_ascii_case(name))
    }

    /// Bytes of its master key.
    #[must_use]
    pub const fn key_bytes(self) -> usize {
        16
    }

    /// Bytes of its master salt.
    #[must_use]
    pub const fn salt_bytes(self) -> usize {
        match self {
            Self::AesCm128HmacSha1_80 | Self::AesCm128HmacSha1_32 => 14,
            Self::AeadAes128Gcm => 12,
        }
    }

    /// Bytes that protection adds to an RTP packet, without an MKI.
    #[must_use]
    pub const fn rtp_overhead(self) -> usize {
        match self {
            Self::AesCm128HmacSha1_80 => 10,
            Self::AesCm128HmacSha1_32 => 4,
            Self::AeadAes128Gcm => 16,
        }
    }

    /// Bytes that protection adds to an RTCP packet, the index included, without an MKI.
    #[must_use]
    pub const fn rtcp_overhead(self) -> usize {
        match self {
            Self::AesCm128HmacSha1_80 | Self::AesCm128HmacSha1_32 => 14,
            Self::AeadAes128Gcm => 20,
        }
    }
}

impl fmt::Display for SrtpSuite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Whether a trunk's media is encrypted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SrtpPolicy {
    /// Never; an offer of nothing but SRTP is refused.
    #[default]
    Off,
    /// Where the peer wants it.
    Optional,
    /// Always; an offer without it is refused.
    Required,
}

/// Bytes of the longest master key identifier (RFC 4568 §6.1).
pub const MKI_BYTES_MAX: usize = 128;

/// A master key identifier (RFC 3711 §3.1): bytes in each packet that name its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mki {
    /// The identifier.
    pub value: u32,
    /// The bytes it takes in a packet, 1 to 128.
    pub length: u8,
}

impl Mki {
    /// Its byte at `index` in a packet.
    fn byte(self, index: usize) -> u8 {
        let from_end = usize::from(self.length).saturating_sub(index + 1);
        let bytes = self.value.to_le_bytes();
        bytes.get(from_end).copied().unwrap_or(0)
    }

    /// Its bytes in a packet.
    pub fn bytes(self) -> impl Iterator<Item = u8> {
        (0..usize::from(self.length)).map(move |index| self.byte(index))
    }
}

/// A master key with its salt, as one side of a call sends with it. `Debug` shows the suite alone, and
/// the bytes are wiped when it is dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct SrtpKey {
    suite: SrtpSuite,
    bytes: Zeroizing<[u8; SRTP_KEY_BYTES_MAX]>,
    /// Names the key in each packet; `None`: packets bear none.
    pub mki: Option<Mki>,
    /// RTP packets the key may protect, where its owner said so.
    pub lifetime: Option<u64>,
}

impl SrtpKey {
    /// A key of `suite`; `None` when `bytes` is not exactly a master key and its salt.
    #[must_use]
    pub fn new(suite: SrtpSuite, bytes: &[u8]) -> Option<Self> {
        if bytes.len() != suite.key_bytes() + suite.salt_bytes() {
            return None;
        }
        let mut key = Zeroizing::new([0; SRTP_KEY_BYTES_MAX]);
        key.iter_mut().zip(bytes).for_each(|(to, byte)| *to = *byte);
        Some(Self { suite, bytes: key, mki: None, lifetime: None })
    }

    /// A key of `suite` from `random`, which must come from the system's random source.
    #[must_use]
    pub fn generate(suite: SrtpSuite, random: &[u8; SRTP_KEY_BYTES_MAX]) -> Self {
        let mut bytes = Zeroizing::new(*random);
        for unused in bytes.iter_mut().skip(suite.key_bytes() + suite.salt_bytes()) {
            *unused = 0;
        }
        Self { suite, bytes, mki: None, lifetime: None }
    }

    /// How it is used.
    #[must_use]
    pub const fn suite(&self) -> SrtpSuite {
        self.suite
    }

    /// The master key; the name makes each use easy to find.
    #[must_use]
    pub fn expose_key(&self) -> &[u8] {
        self.bytes.get(..self.suite.key_bytes()).unwrap_or_default()
    }

    /// The master salt.
    #[must_use]
    pub fn expose_salt(&self) -> &[u8] {
        let start = self.suite.key_bytes();
        self.bytes.get(start..start + self.suite.salt_bytes()).unwrap_or_default()
    }

    /// Key and salt in a row, as session descriptions have them.
    #[must_use]
    pub fn expose_both(&self) -> &[u8] {
        self.bytes.get(..self.suite.key_bytes() + self.suite.salt_bytes()).unwrap_or_default()
    }
}

impl fmt::Debug for SrtpKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SrtpKey({} ***)", self.suite)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_does_not_print() {
        let key = SrtpKey::new(SrtpSuite::AesCm128HmacSha1_80, &[0xab; 30]).unwrap();
        assert_eq!(format!("{key:?}"), "SrtpKey(AES_CM_128_HMAC_SHA1_80 ***)");
        assert_eq!((key.expose_key(), key.expose_salt()), (&[0xab; 16][..], &[0xab; 14][..]));
    }

    #[test]
    fn a_key_has_the_length_of_its_suite() {
        for suite in SrtpSuite::ALL {
            let exact = suite.key_bytes() + suite.salt_bytes();
            for length in 0..64 {
                let key = SrtpKey::new(suite, &vec![1; length]);
                assert_eq!(key.is_some(), length == exact, "{suite} {length}");
            }
            let made = SrtpKey::generate(suite, &[7; SRTP_KEY_BYTES_MAX]);
            assert_eq!(Some(made), SrtpKey::new(suite, &vec![7; exact]));
            assert_eq!(SrtpSuite::from_name(suite.as_str().as_bytes()), Some(suite));
        }
    }

    #[test]
    fn an_mki_is_written_in_its_length() {
        let bytes = |value, length| Mki { value, length }.bytes().collect::<Vec<u8>>();
        assert_eq!(bytes(1, 1), [1]);
        assert_eq!(bytes(1, 4), [0, 0, 0, 1]);
        assert_eq!(bytes(0x0102_0304, 6), [0, 0, 1, 2, 3, 4]);
    }
}
