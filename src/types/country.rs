//! Countries with their numbering plans: whose number one is, and what a number written nationally means.

mod plans;

use crate::types::country::plans::COUNTRIES;
use crate::types::country::plans::PREFIXES;
use crate::types::number::E164;
use std::fmt;
use std::str::FromStr;

/// Fewest digits that all national numbers of a country have of which one is taken without the digits that lead the
/// national form: where there are shorter ones, it may be a number of one town.
const BARE_COUNTRY_MIN: u32 = 9;
/// Fewest digits of a number that nothing leads: a shorter one may be a service or an extension.
const BARE_DIGITS_MIN: usize = 8;
/// The longest prefix of `PREFIXES`, in digits.
const PREFIX_DIGITS_MAX: usize = 7;

/// A country whose numbering is known, by its two letters in ISO 3166.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Country(&'static str);

/// How the numbers of a country are written.
#[derive(Debug)]
struct Numbering {
    /// Its two letters.
    name: &'static str,
    /// The country code of ITU-T E.164.
    code: &'static str,
    /// What stands before a number within the country; empty: nothing.
    trunk_prefix: &'static str,
    /// What stands before a number of another country.
    international_prefix: &'static str,
    /// Bit `n`: numbers of `n` digits behind the country code are given to people.
    lengths: u32,
}

/// The two letters are no country's whose numbering is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no country whose numbering is known")]
pub struct UnknownCountry;

impl Country {
    /// Its two letters.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        self.0
    }

    /// The country of a number; `None` where it is no single country's. Where countries share a code, what is
    /// known of their areas decides, else the number is the largest one's.
    #[must_use]
    pub fn of(number: E164) -> Option<Self> {
        let digits = number.as_str().get(1..)?;
        (1..=PREFIX_DIGITS_MAX.min(digits.len())).rev().find_map(|count| {
            let start = digits.get(..count)?;
            let at = PREFIXES.binary_search_by_key(&start, |(prefix, _)| prefix).ok()?;
            PREFIXES.get(at).map(|(_, name)| Self(name))
        })
    }

    /// The number that `text`, digits without separators, means to who dials it in this country: with the prefix
    /// of calls abroad, in the national form, or as it stands where all national numbers are long.
    #[must_use]
    pub fn read(self, text: &str) -> Option<E164> {
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let plan = self.numbering()?;
        if let Some(abroad) = text.strip_prefix(plan.international_prefix) {
            let number: E164 = format!("+{abroad}").parse().ok()?;
            return Self::of(number).map(|_| number);
        }
        let prefix = Some(plan.trunk_prefix).filter(|prefix| !prefix.is_empty());
        let led = prefix.and_then(|prefix| text.strip_prefix(prefix));
        let led = led.filter(|rest| plan.has(rest));
        let national = led.or_else(|| Some(text).filter(|text| plan.is_bare(text)))?;
        format!("+{}{national}", plan.code).parse().ok()
    }

    fn numbering(self) -> Option<&'static Numbering> {
        let at = COUNTRIES.binary_search_by_key(&self.0, |country| country.name).ok()?;
        COUNTRIES.get(at)
    }
}

impl Numbering {
    fn has(&self, national: &str) -> bool {
        national.len() < 32 && self.lengths & (1 << national.len()) != 0
    }

    fn is_bare(&self, text: &str) -> bool {
        let is_long = self.lengths.trailing_zeros() >= BARE_COUNTRY_MIN;
        let may_be = is_long || self.trunk_prefix.is_empty();
        may_be && text.len() >= BARE_DIGITS_MIN && self.has(text)
    }
}

impl FromStr for Country {
    type Err = UnknownCountry;

    fn from_str(text: &str) -> Result<Self, UnknownCountry> {
        let at = COUNTRIES.binary_search_by_key(&text, |country| country.name);
        let found = at.ok().and_then(|at| COUNTRIES.get(at));
        found.map(|country| Self(country.name)).ok_or(UnknownCountry)
    }
}

impl fmt::Display for Country {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl fmt::Debug for Country {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Country({})", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(country: &str, text: &str) -> Option<String> {
        let country: Country = country.parse().unwrap();
        country.read(text).map(|number| number.to_string())
    }

    fn of(number: &str) -> Option<&'static str> {
        Country::of(number.parse().unwrap()).map(Country::as_str)
    }

    #[test]
    fn a_number_is_its_countrys_also_where_countries_share_a_code() {
        for (number, country) in [
            ("+442079460042", "GB"),
            ("+441481960194", "GG"),
            ("+918068167005", "IN"),
            ("+12025550100", "US"),
            ("+14165550100", "CA"),
            ("+18765550100", "JM"),
            ("+77015550100", "KZ"),
            ("+74955550100", "RU"),
            ("+390655501000", "IT"),
            ("+4930901820", "DE"),
        ] {
            assert_eq!(of(number), Some(country), "{number}");
        }
        // An area that is nobody's yet is the largest country's of its code; a code that is no country's, nobody's.
        assert_eq!((of("+15550100"), of("+88216550100")), (Some("US"), None));
    }

    #[test]
    fn a_number_in_the_national_form_is_read_as_in_its_country() {
        for (country, text, number) in [
            ("GB", "02079460042", Some("+442079460042")),
            ("GB", "00442079460042", Some("+442079460042")),
            ("GB", "0012025550100", Some("+12025550100")),
            ("GB", "2079460042", Some("+442079460042")),
            ("IN", "08068167005", Some("+918068167005")),
            ("IN", "8068167005", Some("+918068167005")),
            ("US", "12025550100", Some("+12025550100")),
            ("US", "2025550100", Some("+12025550100")),
            ("US", "011442079460042", Some("+442079460042")),
            ("IT", "0655501000", Some("+390655501000")),
            ("DE", "030901820", Some("+4930901820")),
            ("ES", "912345678", Some("+34912345678")),
            ("RU", "84955550100", Some("+74955550100")),
            ("HU", "0613456789", Some("+3613456789")),
        ] {
            assert_eq!(read(country, text).as_deref(), number, "{country} {text}");
        }
    }

    #[test]
    fn what_may_be_a_town_a_service_or_an_extension_is_no_number() {
        for (country, text) in [
            ("GB", "112"),
            ("GB", "1001"),
            ("DE", "901820"),
            ("DE", "1001"),
            ("US", "911"),
            ("US", "5550100"),
            ("IN", "1001"),
            ("IT", "100200"),
            ("GB", "0020"),
            ("GB", "00"),
            ("GB", ""),
            ("GB", "+442079460042"),
            ("GB", "020 79460042"),
            ("GB", "0207946004211111"),
        ] {
            assert_eq!(read(country, text), None, "{country} {text}");
        }
    }

    #[test]
    fn the_tables_are_in_the_order_they_are_searched_by() {
        assert!(COUNTRIES.is_sorted_by(|a, b| a.name < b.name));
        assert!(PREFIXES.is_sorted_by(|a, b| a.0 < b.0));
        for (prefix, name) in PREFIXES {
            let country: Country = name.parse().expect("a country of the other table");
            let code = country.numbering().map_or("", |plan| plan.code);
            assert!(
                prefix.len() <= PREFIX_DIGITS_MAX && prefix.starts_with(code),
                "{prefix} {name}"
            );
        }
        for country in COUNTRIES {
            assert!(
                country.lengths != 0 && !country.international_prefix.is_empty(),
                "{country:?}"
            );
        }
    }
}
