//! `Contact`: where a party is reached, or all bindings at once (RFC 3261 §20.10).

use crate::sip::message::header::BadValue;
use crate::sip::message::header::name_addr::NameAddr;
use crate::sip::message::lexis;
use bytes::Bytes;

/// One Contact entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Contact {
    /// `*`: all bindings of a REGISTER.
    All,
    /// An address.
    Address(NameAddr),
}

impl Contact {
    /// Reads one entry.
    ///
    /// # Errors
    /// When it is neither `*` nor an address.
    pub fn parse(raw: Bytes) -> Result<Self, BadValue> {
        match raw.as_ref() {
            b"*" => Ok(Self::All),
            _ => NameAddr::parse(raw).map(Self::Address),
        }
    }

    /// Seconds of the `expires` parameter; values above 2^32 - 1 count as that (RFC 4475 §3.1.2.4).
    #[must_use]
    pub fn expires_s(&self) -> Option<u32> {
        let Self::Address(address) = self else { return None };
        let text = address.param("expires")?;
        if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
            return None;
        }
        Some(lexis::number(text).and_then(|s| u32::try_from(s).ok()).unwrap_or(u32::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_is_no_address() {
        assert_eq!(Contact::parse(Bytes::from_static(b"*")), Ok(Contact::All));
        assert_eq!(Contact::parse(Bytes::from_static(b"<<<<<")), Err(BadValue));
    }

    #[test]
    fn an_overlong_expires_is_the_longest() {
        let read = |text: &'static str| {
            Contact::parse(Bytes::from_static(text.as_bytes())).ok().and_then(|c| c.expires_s())
        };
        assert_eq!(read("<sip:a@b>;expires=280297596632815"), Some(u32::MAX));
        assert_eq!(read("<sip:a@b>;expires=60"), Some(60));
        assert_eq!(read("<sip:a@b>;expires=x"), None);
        assert_eq!(read("<sip:a@b>"), None);
    }
}
