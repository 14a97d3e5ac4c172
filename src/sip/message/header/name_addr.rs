//! `NameAddr`: display name, URI and parameters, as in From, To, Contact, Route, Refer-To, Diversion
//! and P-Asserted-Identity (RFC 3261 §20.10).

use crate::sip::message::header::BadValue;
use crate::sip::message::lexis;
use crate::sip::message::param;
use crate::sip::message::param::Params;
use crate::sip::message::span::Span;
use crate::sip::message::uri::Uri;
use bytes::Bytes;
use memchr::memchr;
use std::borrow::Cow;
use std::fmt;

/// An address with an optional display name.
#[derive(Clone)]
pub struct NameAddr {
    raw: Bytes,
    display: Span,
    uri: Uri,
    params: Span,
    tag: Option<Span>,
}

impl NameAddr {
    /// Reads one entry: `"Name" <uri>;params`, `Name <uri>;params`, `<uri>` or `uri;params`.
    ///
    /// Without angle brackets everything from the first `;` on belongs to the header, not to the URI
    /// (RFC 3261 §20).
    ///
    /// # Errors
    /// When quotes or brackets are not closed, or the URI cannot be read.
    pub fn parse(raw: Bytes) -> Result<Self, BadValue> {
        let open = lexis::top_level(&raw, b'<');
        let (display, uri, params) = match open {
            Some(open) => bracketed(&raw, open)?,
            None => bare(&raw)?,
        };
        let uri = Uri::parse(raw.slice(uri.start()..uri.end())).map_err(|_| BadValue)?;
        let found = Params::new(params.of(&raw)).get("tag").filter(|tag| !tag.is_empty());
        let tag = found.map(|tag| Span::within(&raw, tag));
        Ok(Self { raw, display, uri, params, tag })
    }

    /// The entry exactly as received.
    #[must_use]
    pub const fn as_bytes(&self) -> &Bytes {
        &self.raw
    }

    /// The display name without quotes and escapes; empty when there is none. Not always UTF-8.
    #[must_use]
    pub fn display(&self) -> Cow<'_, [u8]> {
        param::unquote(self.display.of(&self.raw))
    }

    /// The URI.
    #[must_use]
    pub const fn uri(&self) -> &Uri {
        &self.uri
    }

    /// The parameters of the header value, not of the URI.
    #[must_use]
    pub fn params(&self) -> Params<'_> {
        Params::new(self.params.of(&self.raw))
    }

    /// The value of a parameter of the header value.
    #[must_use]
    pub fn param(&self, name: &str) -> Option<&[u8]> {
        self.params().get(name)
    }

    /// The tag (RFC 3261 §19.3); an empty one counts as none.
    #[must_use]
    pub fn tag(&self) -> Option<&[u8]> {
        self.tag.map(|tag| tag.of(&self.raw))
    }

    /// The same value in memory of its own, so that it does not keep a whole datagram alive.
    #[must_use]
    pub fn detached(&self) -> Self {
        // The spans are relative to `raw`, so they stay true; the URI gets a slice of the copy.
        let raw = Bytes::copy_from_slice(&self.raw);
        Self { uri: self.uri.detached(), raw, ..self.clone() }
    }
}

impl PartialEq for NameAddr {
    fn eq(&self, other: &Self) -> bool {
        self.raw == other.raw
    }
}

impl Eq for NameAddr {}

impl fmt::Debug for NameAddr {
    /// Without name and number: `Debug` output ends in logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NameAddr").field("uri", &self.uri).finish_non_exhaustive()
    }
}

type Parts = (Span, Span, Span);

/// The parts of a value whose URI stands in brackets, the first at `open`.
fn bracketed(raw: &[u8], open: usize) -> Result<Parts, BadValue> {
    let display = lexis::trim(raw.get(..open).ok_or(BadValue)?);
    if display.first() == Some(&b'"') && lexis::quoted_end(display) != Some(display.len() - 1) {
        return Err(BadValue);
    }
    let inside = raw.get(open + 1..).ok_or(BadValue)?;
    let close = memchr(b'>', inside).ok_or(BadValue)?;
    let uri = lexis::trim(inside.get(..close).ok_or(BadValue)?);
    let params = lexis::trim(inside.get(close + 1..).unwrap_or(&[]));
    if !matches!(params.first(), None | Some(b';')) {
        return Err(BadValue);
    }
    Ok((Span::within(raw, display), Span::within(raw, uri), Span::within(raw, params)))
}

/// The parts of a value that is a URI without brackets. A quote never closed ends here too: its
/// bracket is not at top level, and no URI begins with a quote.
fn bare(raw: &[u8]) -> Result<Parts, BadValue> {
    let (uri, _) = lexis::cut(raw, b';');
    let params = raw.get(uri.len()..).ok_or(BadValue)?;
    Ok((
        Span::default(),
        Span::within(raw, lexis::trim(uri)),
        Span::within(raw, lexis::trim(params)),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &'static [u8]) -> NameAddr {
        NameAddr::parse(Bytes::from_static(text))
            .unwrap_or_else(|_| panic!("{} must parse", text.escape_ascii()))
    }

    #[test]
    fn escaped_quotes_in_a_display_name_parse() {
        let address = read(br#""A \"B\" \\ <x>; , C" <sip:a@b;tag=no>;tag=yes"#);
        assert_eq!(address.display().as_ref(), br#"A "B" \ <x>; , C"#);
        assert_eq!(address.uri().host(), Some(&b"b"[..]));
        assert_eq!(address.tag(), Some(&b"yes"[..]));
    }

    #[test]
    fn a_latin_1_display_name_is_kept_as_bytes() {
        let address = read(b"\"J\xfcrgen\" <sip:j@b>");
        assert_eq!(address.display().as_ref(), b"J\xfcrgen");
        assert_eq!(address.as_bytes().as_ref(), b"\"J\xfcrgen\" <sip:j@b>");
    }

    #[test]
    fn without_brackets_parameters_belong_to_the_header() {
        let address = read(b"sip:a@b;tag=x;transport=tcp");
        assert_eq!(address.uri().param("transport"), None);
        assert_eq!(address.tag(), Some(&b"x"[..]));
        assert_eq!(address.param("transport"), Some(&b"tcp"[..]));
        assert_eq!(read(b"Some One<sip:a@b>").display().as_ref(), b"Some One");
        assert_eq!(read(b"tel:+1555;tag=9").uri().user(), Some(&b"+1555"[..]));
    }

    #[test]
    fn broken_addresses_are_refused() {
        for bad in [
            &b""[..],
            b"<<<<<",
            b"<sip:a@b",
            b"\"A <sip:a@b>",
            b"sip:a@b>",
            b"<sip:a@b>x=1",
            b"*",
            b"A B",
            b"\"A\" sip:a@b",
            b"\"A\" x <sip:a@b>",
        ] {
            let read = NameAddr::parse(Bytes::from_static(bad));
            assert_eq!(read, Err(BadValue), "{}", bad.escape_ascii());
        }
    }

    #[test]
    fn a_detached_address_has_the_same_parts() {
        let address = read(b"\"X\" <sip:a@b:5070>;tag=t").detached();
        assert_eq!(address.uri().port(), Some(5070));
        assert_eq!(address.tag(), Some(&b"t"[..]));
        assert_eq!(address.display().as_ref(), b"X");
    }
}
