//! `SessionExpires` and `MinSe`: session timers (RFC 4028).

use crate::sip::message::header::BadValue;
use crate::sip::message::lexis;
use crate::sip::message::param::Params;

/// Who refreshes a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refresher {
    /// The side that sent the request.
    Uac,
    /// The side that answered it.
    Uas,
}

impl Refresher {
    /// The value of the `refresher` parameter.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Uac => "uac",
            Self::Uas => "uas",
        }
    }
}

/// A Session-Expires value (RFC 4028 §4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionExpires {
    /// Seconds.
    pub interval_s: u32,
    /// Who refreshes, when that is written.
    pub refresher: Option<Refresher>,
}

impl SessionExpires {
    /// Reads the value. An unknown refresher counts as none.
    ///
    /// # Errors
    /// When the interval is no number.
    pub fn parse(value: &[u8]) -> Result<Self, BadValue> {
        let (interval_s, params) = seconds(value)?;
        let refresher = params.get("refresher").and_then(|text| {
            [Refresher::Uac, Refresher::Uas]
                .into_iter()
                .find(|refresher| text.eq_ignore_ascii_case(refresher.as_str().as_bytes()))
        });
        Ok(Self { interval_s, refresher })
    }

    /// The value as it is written.
    #[must_use]
    pub fn to_value(self) -> String {
        match self.refresher {
            Some(refresher) => format!("{};refresher={}", self.interval_s, refresher.as_str()),
            None => self.interval_s.to_string(),
        }
    }
}

/// A Min-SE value (RFC 4028 §5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MinSe {
    /// Seconds.
    pub interval_s: u32,
}

impl MinSe {
    /// Reads the value.
    ///
    /// # Errors
    /// When the interval is no number.
    pub fn parse(value: &[u8]) -> Result<Self, BadValue> {
        seconds(value).map(|(interval_s, _)| Self { interval_s })
    }
}

/// A number of seconds and the parameters behind it; a number too large is the largest.
fn seconds(value: &[u8]) -> Result<(u32, Params<'_>), BadValue> {
    let (digits, _) = lexis::cut(value, b';');
    let params = Params::new(value.get(digits.len()..).unwrap_or(&[]));
    let digits = lexis::trim(digits);
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(BadValue);
    }
    let seconds = lexis::number(digits).and_then(|s| u32::try_from(s).ok()).unwrap_or(u32::MAX);
    Ok((seconds, params))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_refresher_is_read_without_case() {
        let read = |text: &str| SessionExpires::parse(text.as_bytes());
        let uac = SessionExpires { interval_s: 600, refresher: Some(Refresher::Uac) };
        assert_eq!(read("600;refresher=UAC"), Ok(uac));
        assert_eq!(uac.to_value(), "600;refresher=uac");
        assert_eq!(read("90 ;x=y").map(|s| s.refresher), Ok(None));
        assert_eq!(read("99999999999").map(|s| s.interval_s), Ok(u32::MAX));
        assert_eq!(read("soon"), Err(BadValue));
        assert_eq!(MinSe::parse(b"90"), Ok(MinSe { interval_s: 90 }));
    }
}
