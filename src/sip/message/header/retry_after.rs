//! `RetryAfter`: when the peer may be tried again (RFC 3261 §20.33).

use crate::sip::message::header::BadValue;
use crate::sip::message::lexis;

/// Seconds until the peer may be tried again; comment and `duration` are read over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryAfter {
    /// Seconds.
    pub delay_s: u32,
}

impl RetryAfter {
    /// Reads the value.
    ///
    /// # Errors
    /// When it does not begin with a number.
    pub fn parse(value: &[u8]) -> Result<Self, BadValue> {
        let len = value.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(value.len());
        let (digits, rest) = value.split_at_checked(len).ok_or(BadValue)?;
        if !matches!(lexis::trim(rest).first(), None | Some(b'(' | b';')) {
            return Err(BadValue);
        }
        let delay_s = lexis::number(digits).and_then(|s| u32::try_from(s).ok()).ok_or(BadValue)?;
        Ok(Self { delay_s })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_parameters_are_read_over() {
        for (text, delay_s) in [("5", 5), ("18000;duration=3600", 18_000), ("120 (busy)", 120)] {
            assert_eq!(RetryAfter::parse(text.as_bytes()), Ok(RetryAfter { delay_s }), "{text}");
        }
        for bad in ["", "soon", "-1", "5x", "99999999999"] {
            assert_eq!(RetryAfter::parse(bad.as_bytes()), Err(BadValue), "{bad}");
        }
    }
}
