//! `HeaderField` and `FieldValue`: header fields that others want in our messages, safe by type.

use crate::sip::message::lexis;
use crate::sip::message::name::HeaderName;
use crate::types::limit::SIP_HEADER_BYTES_MAX;
use std::fmt;

/// The value of a header field: text that cannot end its line. It has no CR, LF or NUL, and no more
/// bytes than a header line may have.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct FieldValue(Box<str>);

impl FieldValue {
    /// Checks `text`.
    ///
    /// # Errors
    /// [`BadField`] with CR, LF or NUL in it, or when it is too long for a header line.
    pub fn new(text: &str) -> Result<Self, BadField> {
        if text.len() > SIP_HEADER_BYTES_MAX || text.bytes().any(ends_a_line) {
            return Err(BadField);
        }
        Ok(Self(text.into()))
    }

    /// The text.
    #[must_use]
    pub const fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for FieldValue {
    /// Without the text: it may be a number or a name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FieldValue({} bytes)", self.0.len())
    }
}

impl AsRef<[u8]> for FieldValue {
    fn as_ref(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

const fn ends_a_line(byte: u8) -> bool {
    matches!(byte, b'\r' | b'\n' | 0)
}

/// The text cannot be a header field of one of our messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a header field that may be added")]
pub struct BadField;

/// A header field to be added to a message of ours. Its name is a token that the endpoint does not
/// write itself.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HeaderField {
    name: Box<str>,
    value: FieldValue,
}

impl HeaderField {
    /// Checks name and value.
    ///
    /// # Errors
    /// [`BadField`] when the name is no token, or one that makes the message (Via, From, Contact,
    /// Content-Length, Supported ...), or the value could end its line.
    pub fn new(name: &str, value: &str) -> Result<Self, BadField> {
        if !lexis::is_token(name.as_bytes()) || is_ours(HeaderName::from_bytes(name.as_bytes())) {
            return Err(BadField);
        }
        Ok(Self { name: name.into(), value: FieldValue::new(value)? })
    }

    /// The name as given.
    #[must_use]
    pub const fn name(&self) -> &str {
        &self.name
    }

    /// The value.
    #[must_use]
    pub const fn value(&self) -> &FieldValue {
        &self.value
    }
}

/// True for fields the endpoint alone writes.
const fn is_ours(name: HeaderName) -> bool {
    matches!(
        name,
        HeaderName::Via
            | HeaderName::From
            | HeaderName::To
            | HeaderName::CallId
            | HeaderName::CSeq
            | HeaderName::Contact
            | HeaderName::Route
            | HeaderName::RecordRoute
            | HeaderName::MaxForwards
            | HeaderName::ContentLength
            | HeaderName::ContentType
            | HeaderName::ContentEncoding
            | HeaderName::Require
            | HeaderName::ProxyRequire
            | HeaderName::Supported
            | HeaderName::Allow
            | HeaderName::SessionExpires
            | HeaderName::MinSe
            | HeaderName::RSeq
            | HeaderName::RAck
            | HeaderName::Authorization
            | HeaderName::ProxyAuthorization
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_could_end_a_line_becomes_a_value() {
        for bad in ["a\r\nVia: x", "a\nb", "a\rb", "a\0b"] {
            assert_eq!(FieldValue::new(bad), Err(BadField), "{bad:?}");
            assert_eq!(HeaderField::new("X-A", bad), Err(BadField), "{bad:?}");
        }
        assert_eq!(FieldValue::new(&"x".repeat(SIP_HEADER_BYTES_MAX + 1)), Err(BadField));
        assert_eq!(FieldValue::new("caf\u{e9}, \"x\"").map(|it| it.as_str().len()), Ok(10));
    }

    #[test]
    fn fields_that_make_the_message_cannot_be_added() {
        for name in ["Via", "v", "contact", "Content-Length", "l", "k", "To", "", "X A", "X:"] {
            assert_eq!(HeaderField::new(name, "1"), Err(BadField), "{name}");
        }
        let field = HeaderField::new("X-Tenant", "7").unwrap();
        assert_eq!((field.name(), field.value().as_str()), ("X-Tenant", "7"));
        assert!(!format!("{field:?}").contains("\"7\""));
    }
}
