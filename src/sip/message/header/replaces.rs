//! `Replaces`: the dialog a new call takes the place of (RFC 3891).

use crate::sip::message::header::BadValue;
use crate::sip::message::lexis;
use crate::sip::message::param::Params;
use crate::sip::message::uri::Uri;
use crate::sip::message::uri::decode;
use bytes::Bytes;
use std::fmt::Write as _;

/// A Replaces value. Tags are those of the receiver's view: To is its own.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Replaces {
    /// Call-ID of the dialog.
    pub call_id: Bytes,
    /// Tag of the party that receives this header.
    pub to_tag: Bytes,
    /// Tag of its peer.
    pub from_tag: Bytes,
    /// Only a dialog that is not answered yet is meant.
    pub is_early_only: bool,
}

impl Replaces {
    /// Reads the value of the header field.
    ///
    /// # Errors
    /// When the Call-ID or one of the tags is missing.
    pub fn parse(value: &[u8]) -> Result<Self, BadValue> {
        let (call_id, _) = lexis::cut(value, b';');
        let params = Params::new(value.get(call_id.len()..).unwrap_or(&[]));
        let call_id = lexis::trim(call_id);
        let tag = |name| params.get(name).filter(|tag: &&[u8]| !tag.is_empty()).ok_or(BadValue);
        if call_id.is_empty() {
            return Err(BadValue);
        }
        Ok(Self {
            call_id: Bytes::copy_from_slice(call_id),
            to_tag: Bytes::copy_from_slice(tag("to-tag")?),
            from_tag: Bytes::copy_from_slice(tag("from-tag")?),
            is_early_only: params.has("early-only"),
        })
    }

    /// Reads the Replaces header embedded in the URI of a Refer-To.
    #[must_use]
    pub fn of_refer_to(uri: &Uri) -> Option<Self> {
        let Uri::Sip(uri) = uri else { return None };
        uri.headers().split(|&byte| byte == b'&').find_map(|header| {
            let (name, value) = lexis::cut(header, b'=');
            let is_replaces = name.eq_ignore_ascii_case(b"Replaces");
            value.filter(|_| is_replaces).and_then(|value| Self::parse(&decode(value)).ok())
        })
    }

    /// The value as it is written.
    #[must_use]
    pub fn to_value(&self) -> Vec<u8> {
        let mut value = self.call_id.to_vec();
        for (name, tag) in [(";to-tag=", &self.to_tag), (";from-tag=", &self.from_tag)] {
            value.extend_from_slice(name.as_bytes());
            value.extend_from_slice(tag);
        }
        if self.is_early_only {
            value.extend_from_slice(b";early-only");
        }
        value
    }

    /// The header as part of a URI in a Refer-To: `?Replaces=` with everything escaped that a URI
    /// header may not hold (RFC 3261 §25.1).
    #[must_use]
    pub fn to_uri_header(&self) -> String {
        let mut text = "?Replaces=".to_owned();
        for byte in self.to_value() {
            if byte.is_ascii_alphanumeric() || b"-_.!~*'()".contains(&byte) {
                text.push(char::from(byte));
            } else {
                // Writing to a String cannot fail.
                write!(text, "%{byte:02X}").unwrap_or_default();
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Replaces {
        Replaces {
            call_id: Bytes::from_static(b"425928@bobster.example.org"),
            to_tag: Bytes::from_static(b"7743"),
            from_tag: Bytes::from_static(b"6472"),
            is_early_only: false,
        }
    }

    #[test]
    fn the_example_of_rfc_3891_is_read() {
        let value = b"425928@bobster.example.org;to-tag=7743;from-tag=6472";
        assert_eq!(Replaces::parse(value), Ok(sample()));
        let early = Replaces::parse(b"a ; from-tag=1 ;to-tag=2; early-only").unwrap();
        assert!(early.is_early_only && early.to_tag == "2");
        for bad in ["", ";to-tag=1;from-tag=2", "a;to-tag=1", "a;from-tag=1;to-tag="] {
            assert_eq!(Replaces::parse(bad.as_bytes()), Err(BadValue), "{bad}");
        }
    }

    #[test]
    fn a_replaces_in_a_refer_to_is_escaped_and_read_back() {
        let text = format!("sip:bob@example.org{}", sample().to_uri_header());
        assert!(
            text.ends_with(
                "?Replaces=425928%40bobster.example.org%3Bto-tag%3D7743%3Bfrom-tag%3D6472"
            )
        );
        let uri = Uri::from_text(&text).unwrap();
        assert_eq!(Replaces::of_refer_to(&uri), Some(sample()));
        let other =
            Uri::from_text("sip:bob@example.org?Subject=x&replaces=a%3Bto-tag%3D1").unwrap();
        assert_eq!(Replaces::of_refer_to(&other), None);
    }
}
