//! `ContentType`: the media type of a body (RFC 3261 §20.15).

use crate::sip::message::header::BadValue;
use crate::sip::message::lexis;
use crate::sip::message::param::Params;

/// A media type with its parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContentType<'a> {
    kind: &'a [u8],
    subtype: &'a [u8],
    params: Params<'a>,
}

impl<'a> ContentType<'a> {
    /// Reads `type/subtype;params`.
    ///
    /// # Errors
    /// When there is no type and subtype.
    pub fn parse(value: &'a [u8]) -> Result<Self, BadValue> {
        let (media, _) = lexis::cut(value, b';');
        let params = Params::new(value.get(media.len()..).unwrap_or(&[]));
        let (kind, subtype) = lexis::cut(media, b'/');
        let kind = lexis::trim(kind);
        let subtype = lexis::trim(subtype.ok_or(BadValue)?);
        if lexis::is_token(kind) && lexis::is_token(subtype) {
            Ok(Self { kind, subtype, params })
        } else {
            Err(BadValue)
        }
    }

    /// True for this type and subtype, without case: `is("application", "sdp")`.
    #[must_use]
    pub const fn is(&self, kind: &str, subtype: &str) -> bool {
        self.kind.eq_ignore_ascii_case(kind.as_bytes())
            && self.subtype.eq_ignore_ascii_case(subtype.as_bytes())
    }

    /// True for `application/sdp`.
    #[must_use]
    pub const fn is_sdp(&self) -> bool {
        self.is("application", "sdp")
    }

    /// True for `multipart/...`.
    #[must_use]
    pub const fn is_multipart(&self) -> bool {
        self.kind.eq_ignore_ascii_case(b"multipart")
    }

    /// The parameters.
    #[must_use]
    pub const fn params(&self) -> Params<'a> {
        self.params
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_have_no_case() {
        let sdp = ContentType::parse(b"Application / SDP ;charset=utf-8").unwrap();
        assert!(sdp.is_sdp() && !sdp.is_multipart());
        assert_eq!(sdp.params().get("charset"), Some(&b"utf-8"[..]));
        assert!(ContentType::parse(b"multipart/mixed;boundary=x").unwrap().is_multipart());
        for bad in ["", "text", "/", "a/", "a b/c"] {
            assert_eq!(ContentType::parse(bad.as_bytes()), Err(BadValue), "{bad}");
        }
    }
}
