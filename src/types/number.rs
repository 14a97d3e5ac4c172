//! Telephone numbers: what was dialled (`DialString`) and what it means (`E164`).

use std::fmt;
use std::str::FromStr;

/// A number in the international form: `+`, a country code without leading zero, at most 15 digits
/// (ITU-T E.164). Only parsing builds one.
///
/// ```
/// use tandem::types::number::E164;
/// let number: E164 = "+15550100".parse().unwrap();
/// assert_eq!(number.as_str(), "+15550100");
/// assert_eq!(number.redacted().to_string(), "+15…00");
/// assert!("15550100".parse::<E164>().is_err());
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct E164 {
    /// `+` and the digits; `len` bytes are in use.
    text: [u8; Self::LEN_MAX],
    len: u8,
}

/// Why a text is not an E.164 number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum E164Error {
    /// The text does not begin with `+`.
    #[error("an E.164 number begins with +")]
    NoPlus,
    /// The first digit after `+` is zero.
    #[error("a country code does not begin with 0")]
    LeadingZero,
    /// Fewer than 3 or more than 15 digits.
    #[error("an E.164 number has 3 to 15 digits")]
    Length,
    /// Something other than a digit.
    #[error("an E.164 number has only digits after the +")]
    NotADigit,
}

impl E164 {
    /// `+` and 15 digits.
    const LEN_MAX: usize = 16;
    const DIGITS_MIN: usize = 3;

    /// The number with its `+`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // Only ASCII was ever stored, so this never falls back.
        std::str::from_utf8(self.text.get(..usize::from(self.len)).unwrap_or(&[])).unwrap_or("")
    }

    /// The digits as an integer, for ordered comparison within ranges of equal length.
    #[must_use]
    pub fn as_u64(&self) -> u64 {
        self.as_str().bytes().skip(1).fold(0, |n, digit| n * 10 + u64::from(digit - b'0'))
    }

    /// How many digits follow the `+`.
    #[must_use]
    pub fn digits(&self) -> usize {
        usize::from(self.len).saturating_sub(1)
    }

    /// The number for logs: its ends only.
    #[must_use]
    pub fn redacted(&self) -> Redacted<'_> {
        Redacted(self.as_str())
    }
}

impl FromStr for E164 {
    type Err = E164Error;

    fn from_str(text: &str) -> Result<Self, E164Error> {
        let digits = text.strip_prefix('+').ok_or(E164Error::NoPlus)?;
        if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(E164Error::NotADigit);
        }
        if digits.starts_with('0') {
            return Err(E164Error::LeadingZero);
        }
        if digits.len() < Self::DIGITS_MIN || text.len() > Self::LEN_MAX {
            return Err(E164Error::Length);
        }
        let mut stored = [0; Self::LEN_MAX];
        for (slot, byte) in stored.iter_mut().zip(text.bytes()) {
            *slot = byte;
        }
        let len = u8::try_from(text.len()).map_err(|_| E164Error::Length)?;
        Ok(Self { text: stored, len })
    }
}

impl PartialOrd for E164 {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for E164 {
    /// Shorter numbers first, then by value: the order of number ranges.
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.len.cmp(&other.len).then_with(|| self.text.cmp(&other.text))
    }
}

impl fmt::Display for E164 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for E164 {
    /// Redacted: `Debug` output ends in logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "E164({})", self.redacted())
    }
}

/// What a peer dialled or claims to call from: printable, at most [`DialString::LEN_MAX`] bytes, not
/// yet judged to be a number.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct DialString(String);

/// The text cannot be a dial string.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a dial string has 1 to {} printable characters", DialString::LEN_MAX)]
pub struct NotADialString;

impl DialString {
    /// The longest dial string, in bytes.
    pub const LEN_MAX: usize = 128;

    /// The text as dialled.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The text for logs: its ends only.
    #[must_use]
    pub fn redacted(&self) -> Redacted<'_> {
        Redacted(&self.0)
    }
}

impl FromStr for DialString {
    type Err = NotADialString;

    fn from_str(text: &str) -> Result<Self, NotADialString> {
        let printable = text.chars().all(|c| !c.is_control());
        if text.is_empty() || text.len() > Self::LEN_MAX || !printable {
            return Err(NotADialString);
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for DialString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for DialString {
    /// Redacted: `Debug` output ends in logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DialString({})", self.redacted())
    }
}

/// Prints a number's first three and last two characters only.
#[derive(Clone, Copy, Debug)]
pub struct Redacted<'a>(&'a str);

impl fmt::Display for Redacted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.0.chars().count();
        if count <= 5 {
            return f.write_str("…");
        }
        let head: String = self.0.chars().take(3).collect();
        let tail: String = self.0.chars().skip(count - 2).collect();
        write!(f, "{head}…{tail}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_international_form_is_a_number() {
        assert_eq!("+918068167005".parse::<E164>().map(|n| n.digits()), Ok(12));
        assert_eq!("08068167005".parse::<E164>(), Err(E164Error::NoPlus));
        assert_eq!("+0806816700".parse::<E164>(), Err(E164Error::LeadingZero));
        assert_eq!("+12".parse::<E164>(), Err(E164Error::Length));
        assert_eq!("+1234567890123456".parse::<E164>(), Err(E164Error::Length));
        assert_eq!("+1555O100".parse::<E164>(), Err(E164Error::NotADigit));
    }

    #[test]
    fn numbers_order_by_length_then_value() {
        let short: E164 = "+999".parse().unwrap();
        let long: E164 = "+1000".parse().unwrap();
        assert!(short < long);
        assert_eq!(long.as_u64(), 1000);
    }

    #[test]
    fn numbers_print_redacted_in_debug() {
        let number: E164 = "+15550100".parse().unwrap();
        assert_eq!(format!("{number:?}"), "E164(+15…00)");
        let dialled: DialString = "0044 20".parse().unwrap();
        assert_eq!(format!("{dialled:?}"), "DialString(004…20)");
        assert!("a\r\nb".parse::<DialString>().is_err());
    }
}
