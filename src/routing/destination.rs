//! Destinations: which numbers may be called out, and what a minute to them costs.

use crate::types::number::E164;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// The beginning of numbers: `+` and up to 15 digits; `+` alone is every number.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Prefix(String);

/// The text is no prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a prefix is + and digits, as in \"+44\"")]
pub struct NotAPrefix;

impl Prefix {
    /// True when `number` begins with it.
    #[must_use]
    pub fn covers(&self, number: E164) -> bool {
        number.as_str().starts_with(&self.0)
    }

    /// The prefix with its `+`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Prefix {
    type Err = NotAPrefix;

    fn from_str(text: &str) -> Result<Self, NotAPrefix> {
        let digits = text.strip_prefix('+').ok_or(NotAPrefix)?;
        let good = digits.len() <= 15
            && !digits.starts_with('0')
            && digits.bytes().all(|b| b.is_ascii_digit());
        if good { Ok(Self(text.to_owned())) } else { Err(NotAPrefix) }
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The longest prefix of a list that covers `number`.
fn longest(list: &[Prefix], number: E164) -> Option<&Prefix> {
    list.iter().filter(|prefix| prefix.covers(number)).max_by_key(|prefix| prefix.0.len())
}

/// An allow list and a deny list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Destinations {
    /// What may be called. Empty: nothing.
    pub allow: Vec<Prefix>,
    /// What may not, although a shorter prefix allows it.
    pub deny: Vec<Prefix>,
}

/// What lists say of a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judgement<'a> {
    /// By this prefix.
    Allowed(&'a Prefix),
    /// By this prefix.
    Denied(&'a Prefix),
    /// No prefix covers it, so it is denied.
    Unlisted,
}

impl Judgement<'_> {
    /// True when the number may be called.
    #[must_use]
    pub const fn is_allowed(&self) -> bool {
        matches!(self, Self::Allowed(_))
    }
}

impl fmt::Display for Judgement<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Allowed(prefix) => write!(f, "allowed by {prefix}"),
            Self::Denied(prefix) => write!(f, "denied by {prefix}"),
            Self::Unlisted => f.write_str("on no allow list"),
        }
    }
}

impl Destinations {
    /// The longest prefix of both lists decides; of equal ones, the denial.
    #[must_use]
    pub fn judge(&self, number: E164) -> Judgement<'_> {
        match (longest(&self.allow, number), longest(&self.deny, number)) {
            (Some(allow), Some(deny)) if deny.0.len() >= allow.0.len() => Judgement::Denied(deny),
            (Some(allow), _) => Judgement::Allowed(allow),
            (None, Some(deny)) => Judgement::Denied(deny),
            (None, None) => Judgement::Unlisted,
        }
    }
}

/// Money in millionths of a unit of some currency.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Micros(pub u64);

impl Micros {
    /// The sum, at most the largest value.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl fmt::Display for Micros {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:04}", self.0 / 1_000_000, self.0 % 1_000_000 / 100)
    }
}

/// What a minute to some numbers costs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rate {
    /// The numbers.
    pub prefix: Prefix,
    /// The price of a minute.
    pub per_minute: Micros,
    /// What is begun is paid whole: 60 s with most carriers.
    pub increment: Duration,
}

impl Rate {
    /// The price of a call of this length.
    #[must_use]
    pub fn cost(&self, duration: Duration) -> Micros {
        let step = self.increment.as_millis().max(1);
        let paid = duration.as_millis().div_ceil(step).saturating_mul(step);
        let micros = u128::from(self.per_minute.0).saturating_mul(paid).div_ceil(60_000);
        Micros(u64::try_from(micros).unwrap_or(u64::MAX))
    }
}

/// The rate of the longest prefix that covers `number`.
#[must_use]
pub fn rate_of(rates: &[Rate], number: E164) -> Option<&Rate> {
    rates.iter().filter(|rate| rate.prefix.covers(number)).max_by_key(|rate| rate.prefix.0.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(texts: &[&str]) -> Vec<Prefix> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn number(text: &str) -> E164 {
        text.parse().unwrap()
    }

    #[test]
    fn nothing_may_be_called_that_is_not_listed() {
        let none = Destinations::default();
        assert_eq!(none.judge(number("+15550100")), Judgement::Unlisted);
        let some = Destinations { allow: list(&["+1", "+44"]), deny: Vec::new() };
        assert!(some.judge(number("+15550100")).is_allowed());
        assert!(!some.judge(number("+4930123456")).is_allowed());
    }

    #[test]
    fn the_longest_prefix_decides_and_a_denial_wins_a_tie() {
        let lists = Destinations {
            allow: list(&["+1", "+1900555", "+91"]),
            deny: list(&["+1900", "+91", "+8816"]),
        };
        for (dialled, expected) in [
            ("+15550100", "allowed by +1"),
            ("+19005001234", "denied by +1900"),
            ("+19005551234", "allowed by +1900555"),
            ("+919876543210", "denied by +91"),
            ("+881612345678", "denied by +8816"),
            ("+8821234567", "on no allow list"),
        ] {
            assert_eq!(lists.judge(number(dialled)).to_string(), expected, "{dialled}");
        }
    }

    #[test]
    fn a_lone_plus_is_every_number() {
        let all = Destinations { allow: list(&["+"]), deny: list(&["+1900"]) };
        assert!(all.judge(number("+8821234567")).is_allowed());
        assert!(!all.judge(number("+19005551234")).is_allowed());
        for bad in ["", "44", "+0", "+44x", "+1234567890123456"] {
            assert!(bad.parse::<Prefix>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_begun_increment_is_paid_whole() {
        let rate = |prefix: &str, per_minute, seconds| Rate {
            prefix: prefix.parse().unwrap(),
            per_minute: Micros(per_minute),
            increment: Duration::from_secs(seconds),
        };
        let minute = rate("+1", 13_000, 60);
        let cost = |rate: &Rate, ms| rate.cost(Duration::from_millis(ms)).0;
        assert_eq!([0, 1, 60_000, 60_001].map(|ms| cost(&minute, ms)), [0, 13_000, 13_000, 26_000]);
        let second = rate("+1", 60_000, 1);
        assert_eq!([1, 1_000, 1_500].map(|ms| cost(&second, ms)), [1_000, 1_000, 2_000]);
        assert_eq!(rate("+1", u64::MAX, 60).cost(Duration::from_secs(u64::MAX)).0, u64::MAX);
        let rates = [minute, rate("+1900", 5_000_000, 60), rate("+", 900_000, 60)];
        let price = |n: &str| rate_of(&rates, number(n)).map(|rate| rate.per_minute.0);
        assert_eq!(price("+19005551234"), Some(5_000_000));
        assert_eq!(price("+15550100"), Some(13_000));
        assert_eq!(price("+4412345678"), Some(900_000));
        assert_eq!(Micros(1_234_567).to_string(), "1.2345");
    }
}
