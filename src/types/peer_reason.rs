//! Why a peer ended its call, in its own words (RFC 3326): for records, and for the other leg's peer.

/// Longest name of a protocol that is kept, in bytes.
const PROTOCOL_BYTES_MAX: usize = 32;
/// Longest text that is kept, in characters.
const TEXT_CHARS_MAX: usize = 128;

/// What a peer gave for its reason, bounded and cleaned: the protocol is letters, digits, `.`, `-` and `_`, the text
/// has no quotes, backslashes or control characters. So it is safe in a record, and in a header as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerReason {
    protocol: Box<str>,
    cause: Option<u16>,
    text: Option<Box<str>>,
}

impl PeerReason {
    /// What is left of a reason that came so; `None` where its protocol is no word, or nothing else was said.
    #[must_use]
    pub fn new(protocol: &[u8], cause: Option<u16>, text: Option<&[u8]>) -> Option<Self> {
        let is_word =
            |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
        let is_kept = (1..=PROTOCOL_BYTES_MAX).contains(&protocol.len());
        if !is_kept || !protocol.iter().all(is_word) {
            return None;
        }
        let protocol = std::str::from_utf8(protocol).ok()?.into();
        let text = text.and_then(cleaned);
        (cause.is_some() || text.is_some()).then_some(Self { protocol, cause, text })
    }

    /// The protocol its cause is of: `Q.850`, `SIP` ...
    #[must_use]
    pub const fn protocol(&self) -> &str {
        &self.protocol
    }

    /// The cause, by the protocol.
    #[must_use]
    pub const fn cause(&self) -> Option<u16> {
        self.cause
    }

    /// The text.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        self.text.as_deref()
    }

    /// True of a cause of ITU-T Q.850, which means the same to every network.
    #[must_use]
    pub fn is_q850(&self) -> bool {
        let is_cause = self.cause.is_some_and(|cause| (1..=127).contains(&cause));
        is_cause && self.protocol.eq_ignore_ascii_case("Q.850")
    }

    /// True where another party has answered the call: whoever is rung for it has missed none (RFC 3326 §3.1; cause 26 of
    /// ITU-T Q.850, "non-selected user clearing").
    #[must_use]
    pub fn is_answered_elsewhere(&self) -> bool {
        let is_sip = self.protocol.eq_ignore_ascii_case("SIP");
        (is_sip && self.cause == Some(200)) || (self.is_q850() && self.cause == Some(26))
    }
}

/// The text without what could end a quoted string or a line; `None` where nothing is left.
fn cleaned(text: &[u8]) -> Option<Box<str>> {
    let text = String::from_utf8_lossy(text);
    let is_kept = |c: &char| !c.is_control() && !matches!(c, '"' | '\\');
    let kept: String = text.chars().filter(is_kept).take(TEXT_CHARS_MAX).collect();
    let kept = kept.trim();
    (!kept.is_empty()).then(|| kept.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_peer_says_is_kept_clean_and_short() {
        let reason = PeerReason::new(b"Q.850", Some(41), Some(b"Temporary failure")).unwrap();
        assert_eq!((reason.protocol(), reason.cause()), ("Q.850", Some(41)));
        assert_eq!(reason.text(), Some("Temporary failure"));
        assert!(reason.is_q850());
        let evil = b" a\"\r\nVia: x\\\0\xff\t ".as_slice();
        let reason = PeerReason::new(b"q.850", Some(16), Some(evil)).unwrap();
        assert_eq!(reason.text(), Some("aVia: x\u{fffd}"));
        let long = "\u{e9}".repeat(1_000);
        let reason = PeerReason::new(b"SIP", None, Some(long.as_bytes())).unwrap();
        assert_eq!(reason.text().map(|text| text.chars().count()), Some(TEXT_CHARS_MAX));
        for protocol in [b"".as_slice(), b"Q 850", b"Q.850\r\nVia", b"\xff", &[b'a'; 33]] {
            assert_eq!(PeerReason::new(protocol, Some(16), None), None, "{protocol:?}");
        }
        assert_eq!(PeerReason::new(b"Q.850", None, Some(b"\r\n\"")), None, "nothing was said");
    }

    #[test]
    fn a_cause_of_another_protocol_or_out_of_range_is_none_of_q850() {
        for (protocol, cause) in [("SIP", 41), ("Q.850", 0), ("Q.850", 128), ("Q.850", 1_000)] {
            let reason = PeerReason::new(protocol.as_bytes(), Some(cause), None).unwrap();
            assert!(!reason.is_q850(), "{protocol} {cause}");
        }
    }

    #[test]
    fn another_partys_answer_is_told_by_sip_and_by_q850() {
        for (protocol, cause, is_elsewhere) in [
            ("SIP", 200, true),
            ("sip", 200, true),
            ("Q.850", 26, true),
            ("SIP", 26, false),
            ("SIP", 487, false),
            ("Q.850", 16, false),
            ("Q.850", 200, false),
            ("X", 200, false),
        ] {
            let reason = PeerReason::new(protocol.as_bytes(), Some(cause), None).unwrap();
            assert_eq!(reason.is_answered_elsewhere(), is_elsewhere, "{protocol} {cause}");
        }
    }
}
