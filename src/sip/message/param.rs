//! `Params`: the `;name=value` tail of a URI or header value.

use crate::sip::message::lexis;
use memchr::memchr2;
use std::borrow::Cow;

/// A list of `;name=value` parameters, read where it lies. Names have no case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Params<'a>(&'a [u8]);

impl<'a> Params<'a> {
    /// The parameters in `text`, which begins with `;` or is empty.
    #[must_use]
    pub const fn new(text: &'a [u8]) -> Self {
        Self(text)
    }

    /// The value of `name` as it stands, quotes included; empty for a parameter without `=`.
    #[must_use]
    pub fn get(self, name: &str) -> Option<&'a [u8]> {
        self.iter()
            .find(|(found, _)| found.eq_ignore_ascii_case(name.as_bytes()))
            .map(|(_, value)| value.unwrap_or(&[]))
    }

    /// The value of `name` without its quotes and escapes.
    #[must_use]
    pub fn unquoted(self, name: &str) -> Option<Cow<'a, [u8]>> {
        self.get(name).map(unquote)
    }

    /// True when `name` is there, with or without a value.
    #[must_use]
    pub fn has(self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// All parameters in order; empty ones are left out.
    #[must_use]
    pub const fn iter(self) -> ParamsIter<'a> {
        ParamsIter(self.0)
    }

    /// The text of all parameters, from the first `;` on.
    #[must_use]
    pub const fn as_bytes(self) -> &'a [u8] {
        self.0
    }
}

impl<'a> IntoIterator for Params<'a> {
    type Item = (&'a [u8], Option<&'a [u8]>);
    type IntoIter = ParamsIter<'a>;

    fn into_iter(self) -> ParamsIter<'a> {
        self.iter()
    }
}

/// Iterates over names and values.
#[derive(Clone, Copy, Debug)]
pub struct ParamsIter<'a>(&'a [u8]);

impl<'a> Iterator for ParamsIter<'a> {
    type Item = (&'a [u8], Option<&'a [u8]>);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let text = match self.0 {
                [] => return None,
                [b';', rest @ ..] => rest,
                text => text,
            };
            let end = separator(text);
            let (param, rest) = text.split_at_checked(end).unwrap_or((text, &[]));
            self.0 = rest;
            let (name, value) = lexis::cut(param, b'=');
            let name = lexis::trim(name);
            if !name.is_empty() {
                return Some((name, value.map(lexis::trim)));
            }
        }
    }
}

/// Index of the first `;` outside quotes, else the length.
fn separator(text: &[u8]) -> usize {
    let mut from = 0;
    while let Some(found) = text.get(from..).and_then(|rest| memchr2(b';', b'"', rest)) {
        let at = from + found;
        let rest = text.get(at..).unwrap_or(&[]);
        if rest.first() == Some(&b';') {
            return at;
        }
        match lexis::quoted_end(rest) {
            Some(len) => from = at + len + 1,
            None => return text.len(),
        }
    }
    text.len()
}

/// `text` without enclosing quotes and with its escapes resolved; unquoted text stays as it is.
#[must_use]
pub fn unquote(text: &[u8]) -> Cow<'_, [u8]> {
    let [b'"', inner @ .., b'"'] = text else { return Cow::Borrowed(text) };
    if !inner.contains(&b'\\') {
        return Cow::Borrowed(inner);
    }
    let mut plain = Vec::with_capacity(inner.len());
    let mut bytes = inner.iter();
    while let Some(&byte) = bytes.next() {
        match byte {
            b'\\' => plain.extend(bytes.next()),
            _ => plain.push(byte),
        }
    }
    Cow::Owned(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_found_without_case_and_around_quotes() {
        let params = Params::new(br#";Tag = a1 ;lr; x="1;2\";3";;y="#);
        assert_eq!(params.get("tag"), Some(&b"a1"[..]));
        assert_eq!(params.get("LR"), Some(&b""[..]));
        assert_eq!(params.unquoted("x").as_deref(), Some(&br#"1;2";3"#[..]));
        assert_eq!(params.get("y"), Some(&b""[..]));
        assert!(!params.has("z"));
        assert_eq!(params.iter().count(), 4);
    }

    #[test]
    fn an_unclosed_quote_takes_the_rest() {
        let params = Params::new(br#";a="b;c;d=e"#);
        assert_eq!(params.get("a"), Some(&br#""b;c;d=e"#[..]));
        assert!(!params.has("d"));
    }
}
