//! `RetryAfter`: when the peer may be tried again (RFC 3261 §20.33).

use crate::sip::message::header::BadValue;
use crate::sip::message::lexis;
use crate::types::random::Random;

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

    /// A time from `least_s` to twice that, in seconds, for the refusal with this To-tag. Whoever is turned away in
    /// the same moment comes back at moments of its own; a repeated request gets the same answer (RFC 3261 §8.2.7).
    #[must_use]
    pub fn spread(least_s: u32, tag: &[u8]) -> Self {
        let seed = tag.iter().fold(0_u64, |seed, &byte| {
            Random::from_seed(seed.wrapping_add(u64::from(byte))).next_u64()
        });
        let more = Random::from_seed(seed).below(u64::from(least_s).saturating_add(1));
        Self { delay_s: least_s.saturating_add(u32::try_from(more).unwrap_or(0)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn who_is_turned_away_together_comes_back_apart_and_never_early() {
        for least_s in [0, 2, 5, 60] {
            let told = || {
                let tags = (0..2_000).map(|call| format!("{call:016x}"));
                tags.map(move |tag| RetryAfter::spread(least_s, tag.as_bytes()).delay_s)
            };
            let met: BTreeSet<u32> = told().collect();
            let all: BTreeSet<u32> = (least_s..=2 * least_s).collect();
            assert_eq!(met, all);
            assert!(told().eq(told()), "the same for a repetition");
        }
        assert_eq!(RetryAfter::spread(u32::MAX, b"a").delay_s, u32::MAX);
    }

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
