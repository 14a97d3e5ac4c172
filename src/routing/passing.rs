//! `Passing`: what comes with a call in and may go on with it to another leg.

use crate::routing::trunk::Trunk;
use crate::types::header::FieldName;
use crate::types::header::FieldValue;
use crate::types::header::NameGlob;
use crate::types::limit::EXTRA_HEADERS_MAX;
use crate::types::limit::PASSING_BYTES_MAX;

/// Headers of a trust domain (RFC 5727 §4): who asserts, charges or places a caller there is believed only
/// there.
const PRIVATE: &str = "P-";

/// What comes with a call in and may go on with it to another leg. Nothing in it says who calls: that is
/// the affair of each trunk's caller-ID policy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Passing {
    /// Its Diversion entries (RFC 5806).
    pub diversion: Option<FieldValue>,
    /// Its History-Info entries (RFC 7044).
    pub history: Option<History>,
    /// How many diversions the entries stand for.
    pub diverted: u32,
    /// Other headers, each name once.
    headers: Vec<(FieldName, FieldValue)>,
}

/// The History-Info entries that came with a call (RFC 7044).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct History {
    /// All of them, in order, as they came.
    pub entries: FieldValue,
    /// The user part of the last, which is where the call was sent, if all before us wrote that down.
    pub last_user: Box<[u8]>,
    /// Its `index`; `None` where it has none that can be read.
    pub last_index: Option<Box<str>>,
}

impl History {
    /// The entries, the last of which has this user part and this `index` parameter.
    #[must_use]
    pub fn new(entries: FieldValue, last_user: &[u8], last_index: Option<&[u8]>) -> Self {
        let index = last_index.and_then(|index| std::str::from_utf8(index).ok()).map(str::trim);
        let is_number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        let index = index.filter(|index| index.split('.').all(is_number));
        Self { entries, last_user: last_user.into(), last_index: index.map(Box::from) }
    }

    /// The text of them all and of what we add: that the call was at `own`, unless the last entry says so, and
    /// goes on to `next`, a URI with its parameters. `is_own` tells whether a user part names the number of ours.
    /// `None` where there is nothing to number ours after (RFC 7044 §10.3).
    #[must_use]
    pub fn extended(
        &self,
        own: &str,
        next: &str,
        is_own: impl Fn(&[u8]) -> bool,
    ) -> Option<String> {
        let (entries, last) = (self.entries.as_str(), self.last_index.as_deref()?);
        if is_own(&self.last_user) {
            return Some(format!("{entries}, {next};index={last}.1;mp={last}"));
        }
        Some(format!("{entries}, {own};index={last}.1, {next};index={last}.1.1;mp={last}.1"))
    }
}

impl Passing {
    /// What has been so far, and no other header.
    #[must_use]
    pub fn new((diversion, diverted): (Option<FieldValue>, u32), history: Option<History>) -> Self {
        Self { diversion, history, diverted, headers: Vec::new() }
    }

    /// Takes a header of a call that came by `trunk`, unless no other leg may ever have it: headers the
    /// switch writes itself and those of a trust domain, the secrets by which the trunk is known, and what
    /// its carrier says about the caller's attestation. What is no single line of text is left out, and
    /// what is over the bound.
    pub fn take(&mut self, trunk: &Trunk, name: &[u8], value: &[u8]) {
        let name = std::str::from_utf8(name).ok().and_then(|name| name.parse::<FieldName>().ok());
        // Most names are the switch's own: their values are not read.
        let Some(name) = name else { return };
        let Ok(value) = FieldValue::from_bytes(value) else { return };
        let same = |other: &str| name.as_str().eq_ignore_ascii_case(other);
        let is_private = name
            .as_str()
            .get(..PRIVATE.len())
            .is_some_and(|head| head.eq_ignore_ascii_case(PRIVATE));
        let is_secret = trunk.required_headers.iter().any(|(own, _)| same(own));
        let is_claim = trunk.headers.verstat.as_deref().is_some_and(same);
        let is_known = self.headers.iter().any(|(known, _)| same(known.as_str()));
        let length =
            |(name, value): &(FieldName, FieldValue)| name.as_str().len() + value.as_str().len();
        let bytes: usize = self.headers.iter().map(length).sum();
        let is_full = self.headers.len() >= EXTRA_HEADERS_MAX
            || bytes + name.as_str().len() + value.as_str().len() > PASSING_BYTES_MAX;
        if !(is_private || is_secret || is_claim || is_known || is_full) {
            self.headers.push((name, value));
        }
    }

    /// Those of its other headers that are to be passed on.
    pub fn passed<'a>(
        &'a self,
        names: &'a [NameGlob],
    ) -> impl Iterator<Item = &'a (FieldName, FieldValue)> {
        let is_named = move |name: &FieldName| names.iter().any(|own| own.covers(name.as_str()));
        self.headers.iter().filter(move |(name, _)| is_named(name))
    }

    /// All of its other headers.
    #[must_use]
    pub fn headers(&self) -> &[(FieldName, FieldValue)] {
        &self.headers
    }

    /// True when nothing came that could go on.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.diversion.is_none()
            && self.history.is_none()
            && self.diverted == 0
            && self.headers.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing::outbound::tests::trunk_id;
    use crate::types::secret::Secret;
    use proptest::prelude::any;
    use proptest::prop_assert;
    use proptest::proptest;

    fn trunk() -> Trunk {
        let mut trunk = Trunk::new(trunk_id(1), "carrier", Vec::new());
        trunk.required_headers = vec![("X-Token".to_owned(), Secret::new("s3cret".to_owned()))];
        trunk.headers.verstat = Some("X-VerStat".to_owned());
        trunk
    }

    fn names(passing: &Passing, globs: &[&str]) -> Vec<String> {
        let globs: Vec<_> = globs.iter().filter_map(|text| NameGlob::parse(text)).collect();
        passing.passed(&globs).map(|(name, value)| format!("{name}: {}", value.as_str())).collect()
    }

    #[test]
    fn what_names_the_caller_proves_the_trunk_or_steers_the_dialog_goes_nowhere() {
        let trunk = trunk();
        let mut passing = Passing::default();
        for name in [
            "P-Asserted-Identity",
            "P-Charge-Info",
            "p-visited-network-id",
            "Remote-Party-ID",
            "Identity",
            "Privacy",
            "Diversion",
            "Via",
            "v",
            "x-token",
            "X-VERSTAT",
            "x-tandem-trail",
        ] {
            passing.take(&trunk, name.as_bytes(), b"<sip:+15550199@evil.example>");
        }
        assert!(passing.is_empty(), "{passing:?}");
        passing.take(&trunk, b"X-Call", b"one");
        passing.take(&trunk, b"x-call", b"two");
        passing.take(&trunk, b"User-to-User", b"00aa;encoding=hex");
        passing.take(&trunk, b"X-Bad", b"a\r\nVia: b");
        assert_eq!(names(&passing, &["x-*"]), ["X-Call: one"]);
        assert_eq!(names(&passing, &["user-to-user"]), ["User-to-User: 00aa;encoding=hex"]);
        assert!(names(&passing, &[]).is_empty());
    }

    #[test]
    fn a_call_brings_no_more_headers_than_a_request_of_ours_may_carry() {
        let mut passing = Passing::default();
        for n in 0..EXTRA_HEADERS_MAX + 5 {
            passing.take(&trunk(), format!("X-{n}x").as_bytes(), b"1");
        }
        assert_eq!(passing.headers().len(), EXTRA_HEADERS_MAX);
        let mut passing = Passing::default();
        for name in ["X-A", "X-B", "X-C", "X-D", "X-E"] {
            passing.take(&trunk(), name.as_bytes(), &[b'x'; 1_000]);
        }
        assert_eq!(names(&passing, &["X-*"]).len(), PASSING_BYTES_MAX / 1_003);
    }

    proptest! {
        #[test]
        fn no_header_of_a_peer_panics_or_begins_another_line(
            name in any::<Vec<u8>>(),
            value in any::<Vec<u8>>(),
        ) {
            let mut passing = Passing::default();
            passing.take(&trunk(), &name, &value);
            for (_, value) in passing.headers() {
                prop_assert!(!value.as_str().contains(['\r', '\n', '\0']));
            }
        }
    }
}
