//! `Uri`: SIP, SIPS, tel and any other URI, wherever one may stand (RFC 3261 §19.1, RFC 3966).

use crate::sip::message::lexis;
use crate::sip::message::param::Params;
use crate::sip::message::span::Span;
use crate::types::transport::Transport;
use bytes::Bytes;
use memchr::memchr;
use memchr::memchr2;
use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;

/// A URI. The bytes are kept, so it can be written exactly as it came.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum Uri {
    /// `sip:` or `sips:`.
    Sip(SipUri),
    /// `tel:` (RFC 3966).
    Tel(TelUri),
    /// Any other scheme, as received.
    Other(Bytes),
}

/// The text is no URI this code can read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a usable URI")]
pub struct NotAUri;

impl Uri {
    /// Reads a URI that has `text` to itself.
    ///
    /// # Errors
    /// When there is no scheme, or a sip, sips or tel URI breaks the grammar.
    pub fn parse(text: Bytes) -> Result<Self, NotAUri> {
        if text.len() > usize::from(u16::MAX) || breaks_out(&text) {
            return Err(NotAUri);
        }
        let (scheme, rest) = lexis::cut(&text, b':');
        let Some(rest) = rest else { return Err(NotAUri) };
        let start = text.len() - rest.len();
        if scheme.eq_ignore_ascii_case(b"sip") {
            SipUri::read(text, false, start).map(Self::Sip)
        } else if scheme.eq_ignore_ascii_case(b"sips") {
            SipUri::read(text, true, start).map(Self::Sip)
        } else if scheme.eq_ignore_ascii_case(b"tel") {
            TelUri::read(text, start).map(Self::Tel)
        } else if is_scheme(scheme) {
            Ok(Self::Other(text))
        } else {
            Err(NotAUri)
        }
    }

    /// Reads a URI from text of our own, copying it.
    ///
    /// # Errors
    /// As [`Uri::parse`].
    pub fn from_text(text: &str) -> Result<Self, NotAUri> {
        Self::parse(Bytes::copy_from_slice(text.as_bytes()))
    }

    /// The URI exactly as received.
    #[must_use]
    pub const fn as_bytes(&self) -> &Bytes {
        match self {
            Self::Sip(uri) => &uri.raw,
            Self::Tel(uri) => &uri.raw,
            Self::Other(raw) => raw,
        }
    }

    /// The scheme as received, without the colon.
    #[must_use]
    pub fn scheme(&self) -> &[u8] {
        lexis::cut(self.as_bytes(), b':').0
    }

    /// User part of a SIP URI without a password, or number of a tel URI; escapes are kept.
    #[must_use]
    pub fn user(&self) -> Option<&[u8]> {
        match self {
            Self::Sip(uri) => uri.user(),
            Self::Tel(uri) => Some(uri.number()),
            Self::Other(_) => None,
        }
    }

    /// User part or number with its `%xx` escapes resolved and without the parameters some carriers
    /// put into the user part (`;npdi;rn=...`, RFC 4694).
    #[must_use]
    pub fn user_decoded(&self) -> Option<Cow<'_, [u8]>> {
        self.user().map(|user| decode(lexis::cut(user, b';').0))
    }

    /// Parameters inside the user part of a SIP URI (`;rn=`, `;tgrp=`, `;phone-context=`), or all
    /// parameters of a tel URI.
    #[must_use]
    pub fn user_params(&self) -> Params<'_> {
        match self {
            Self::Sip(uri) => {
                let user = uri.user().unwrap_or(&[]);
                Params::new(memchr(b';', user).and_then(|at| user.get(at..)).unwrap_or(&[]))
            }
            Self::Tel(uri) => uri.params(),
            Self::Other(_) => Params::default(),
        }
    }

    /// Host of a SIP URI, with the brackets of an IPv6 address.
    #[must_use]
    pub fn host(&self) -> Option<&[u8]> {
        match self {
            Self::Sip(uri) => Some(uri.host()),
            Self::Tel(_) | Self::Other(_) => None,
        }
    }

    /// The address that stands for the host of a SIP URI, if it is one.
    #[must_use]
    pub fn address(&self) -> Option<IpAddr> {
        let host = std::str::from_utf8(self.host()?).ok()?;
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        bare.parse().ok()
    }

    /// The transport that a SIP URI asks for, where it is one of ours.
    #[must_use]
    pub fn transport(&self) -> Option<Transport> {
        let Self::Sip(uri) = self else { return None };
        if uri.secure {
            return Some(Transport::Tls);
        }
        std::str::from_utf8(uri.params().get("transport")?).ok()?.parse().ok()
    }

    /// Port of a SIP URI, when it is written there.
    #[must_use]
    pub const fn port(&self) -> Option<u16> {
        match self {
            Self::Sip(uri) => uri.port,
            Self::Tel(_) | Self::Other(_) => None,
        }
    }

    /// All parameters of a SIP or tel URI.
    #[must_use]
    pub fn params(&self) -> Params<'_> {
        match self {
            Self::Sip(uri) => uri.params(),
            Self::Tel(uri) => uri.params(),
            Self::Other(_) => Params::default(),
        }
    }

    /// The value of a parameter, as it stands; empty for one without `=`.
    #[must_use]
    pub fn param(&self, name: &str) -> Option<&[u8]> {
        self.params().get(name)
    }

    /// True for `sips:`.
    #[must_use]
    pub const fn is_secure(&self) -> bool {
        matches!(self, Self::Sip(uri) if uri.secure)
    }

    /// True for a `tel:` URI and for a SIP URI with `;user=phone`.
    #[must_use]
    pub fn is_telephone(&self) -> bool {
        match self {
            Self::Sip(_) => {
                self.param("user").is_some_and(|value| value.eq_ignore_ascii_case(b"phone"))
            }
            Self::Tel(_) => true,
            Self::Other(_) => false,
        }
    }

    /// The same URI in memory of its own, so that it does not keep a whole datagram alive.
    #[must_use]
    pub fn detached(&self) -> Self {
        let copy = |raw: &Bytes| Bytes::copy_from_slice(raw);
        match self {
            Self::Sip(uri) => Self::Sip(SipUri { raw: copy(&uri.raw), ..uri.clone() }),
            Self::Tel(uri) => Self::Tel(TelUri { raw: copy(&uri.raw), ..uri.clone() }),
            Self::Other(raw) => Self::Other(copy(raw)),
        }
    }
}

/// Has bytes that would break out of the place a URI is written to. All are looked at, so that many are at once: hardly
/// any URI has one.
fn breaks_out(text: &[u8]) -> bool {
    text.iter().fold(false, |found, &byte| {
        found | (byte <= b' ') | (byte == b'<') | (byte == b'>') | (byte == b'"') | (byte == 0x7f)
    })
}

fn is_scheme(text: &[u8]) -> bool {
    text.first().is_some_and(u8::is_ascii_alphabetic)
        && text.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'))
}

/// `text` with its `%xx` escapes resolved; wrong escapes stay as they are.
#[must_use]
pub fn decode(text: &[u8]) -> Cow<'_, [u8]> {
    if memchr(b'%', text).is_none() {
        return Cow::Borrowed(text);
    }
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        let escaped = match (byte, tail) {
            (b'%', [high, low, after @ ..]) => {
                hex(*high).and_then(|high| hex(*low).map(|low| (high * 16 + low, after)))
            }
            _ => None,
        };
        match escaped {
            Some((value, after)) => {
                plain.push(value);
                rest = after;
            }
            None => plain.push(byte),
        }
    }
    Cow::Owned(plain)
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

/// A `sip:` or `sips:` URI (RFC 3261 §19.1.1).
#[derive(Clone)]
pub struct SipUri {
    raw: Bytes,
    secure: bool,
    has_user: bool,
    port: Option<u16>,
    user: Span,
    host: Span,
    params: Span,
    headers: Span,
}

impl SipUri {
    fn read(raw: Bytes, secure: bool, start: usize) -> Result<Self, NotAUri> {
        let text = raw.get(start..).unwrap_or(&[]);
        // An @ in a user part is always escaped, so the first one ends it.
        let (userinfo, rest) = match memchr(b'@', text) {
            Some(at) => (text.get(..at), text.get(at + 1..).unwrap_or(&[])),
            None => (None, text),
        };
        let user = userinfo.map(|info| lexis::cut(info, b':').0);
        if user.is_some_and(<[u8]>::is_empty) {
            return Err(NotAUri);
        }
        let host_len = memchr2(b';', b'?', rest).unwrap_or(rest.len());
        let (sent, tail) = rest.split_at_checked(host_len).ok_or(NotAUri)?;
        let (host, port) = lexis::host_port(sent).ok_or(NotAUri)?;
        let params_len = memchr(b'?', tail).unwrap_or(tail.len());
        let (params, headers) = tail.split_at_checked(params_len).ok_or(NotAUri)?;
        let has_user = user.is_some();
        let user = user.map_or_else(Span::default, |user| Span::within(&raw, user));
        let host = Span::within(&raw, host);
        let params = Span::within(&raw, params);
        let headers = Span::within(&raw, headers.get(1..).unwrap_or(&[]));
        Ok(Self { raw, secure, has_user, port, user, host, params, headers })
    }

    /// True for `sips:`.
    #[must_use]
    pub const fn is_secure(&self) -> bool {
        self.secure
    }

    /// The user part without a password; escapes are kept.
    #[must_use]
    pub fn user(&self) -> Option<&[u8]> {
        self.has_user.then(|| self.user.of(&self.raw))
    }

    /// The host, with the brackets of an IPv6 address.
    #[must_use]
    pub fn host(&self) -> &[u8] {
        self.host.of(&self.raw)
    }

    /// The port, when it is written there.
    #[must_use]
    pub const fn port(&self) -> Option<u16> {
        self.port
    }

    /// The parameters after the host.
    #[must_use]
    pub fn params(&self) -> Params<'_> {
        Params::new(self.params.of(&self.raw))
    }

    /// The header part after `?`, escaped as it stands; empty when there is none.
    #[must_use]
    pub fn headers(&self) -> &[u8] {
        self.headers.of(&self.raw)
    }
}

impl PartialEq for SipUri {
    /// Byte for byte; not the equivalence of RFC 3261 §19.1.4.
    fn eq(&self, other: &Self) -> bool {
        self.raw == other.raw
    }
}

impl Eq for SipUri {}

impl std::hash::Hash for SipUri {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.raw.hash(state);
    }
}

/// A `tel:` URI (RFC 3966).
#[derive(Clone)]
pub struct TelUri {
    raw: Bytes,
    number: Span,
    params: Span,
}

impl TelUri {
    fn read(raw: Bytes, start: usize) -> Result<Self, NotAUri> {
        let text = raw.get(start..).unwrap_or(&[]);
        let number_len = memchr(b';', text).unwrap_or(text.len());
        let end = start + number_len;
        let is_number = |byte: &u8| {
            byte.is_ascii_hexdigit()
                || matches!(byte, b'+' | b'-' | b'.' | b'(' | b')' | b'*' | b'#' | b'%')
        };
        let number = text.get(..number_len).unwrap_or(&[]);
        if number.is_empty() || !number.iter().all(is_number) {
            return Err(NotAUri);
        }
        let (number, params) = (Span::new(start, end), Span::new(end, raw.len()));
        Ok(Self { raw, number, params })
    }

    /// The number as written, visual separators included.
    #[must_use]
    pub fn number(&self) -> &[u8] {
        self.number.of(&self.raw)
    }

    /// True for a global number: one that begins with `+`.
    #[must_use]
    pub fn is_global(&self) -> bool {
        self.number().first() == Some(&b'+')
    }

    /// The parameters: `phone-context`, `ext`, `isub`, `rn`, `npdi`, `tgrp` ...
    #[must_use]
    pub fn params(&self) -> Params<'_> {
        Params::new(self.params.of(&self.raw))
    }
}

impl PartialEq for TelUri {
    fn eq(&self, other: &Self) -> bool {
        self.raw == other.raw
    }
}

impl Eq for TelUri {}

impl std::hash::Hash for TelUri {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.raw.hash(state);
    }
}

impl fmt::Debug for Uri {
    /// Without user or number: `Debug` output ends in logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = self.scheme().escape_ascii();
        match self.host() {
            Some(host) => write!(f, "Uri({scheme}:…@{})", host.escape_ascii()),
            None => write!(f, "Uri({scheme}:…)"),
        }
    }
}

impl fmt::Debug for SipUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SipUri(…@{})", self.host().escape_ascii())
    }
}

impl fmt::Debug for TelUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TelUri(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uri(text: &str) -> Uri {
        Uri::from_text(text).unwrap_or_else(|_| panic!("{text} must parse"))
    }

    #[test]
    fn a_sip_uri_has_its_parts() {
        let uri =
            uri("sips:alice%23x;rn=+1:secret@[2001:db8::1]:5071;transport=TCP;lr?Subject=a%20b");
        assert_eq!(uri.scheme(), b"sips");
        assert!(uri.is_secure());
        assert_eq!(uri.user(), Some(&b"alice%23x;rn=+1"[..]));
        assert_eq!(uri.user_decoded().as_deref(), Some(&b"alice#x"[..]));
        assert_eq!(uri.user_params().get("rn"), Some(&b"+1"[..]));
        assert_eq!(uri.host(), Some(&b"[2001:db8::1]"[..]));
        assert_eq!(uri.port(), Some(5071));
        assert_eq!(uri.param("Transport"), Some(&b"TCP"[..]));
        assert_eq!(uri.param("lr"), Some(&b""[..]));
        assert!(matches!(&uri, Uri::Sip(sip) if sip.headers() == b"Subject=a%20b"));
    }

    #[test]
    fn the_smallest_sip_uri_has_a_host_only() {
        let uri = uri("SIP:a");
        assert_eq!((uri.user(), uri.host(), uri.port()), (None, Some(&b"a"[..]), None));
        assert!(!uri.is_secure() && !uri.is_telephone());
    }

    #[test]
    fn a_tel_uri_has_number_and_parameters() {
        let uri = uri("tel:+1-201-555-0123;phone-context=example.com");
        assert_eq!(uri.user(), Some(&b"+1-201-555-0123"[..]));
        assert_eq!(uri.param("phone-context"), Some(&b"example.com"[..]));
        assert!(uri.is_telephone() && uri.host().is_none());
        assert!(matches!(&uri, Uri::Tel(tel) if tel.is_global()));
    }

    #[test]
    fn other_schemes_are_kept() {
        let text = "urn:service:sos";
        assert_eq!(uri(text), Uri::Other(Bytes::from_static(b"urn:service:sos")));
        assert_eq!(uri(text).as_bytes().as_ref(), text.as_bytes());
    }

    #[test]
    fn no_byte_gets_into_a_uri_that_would_end_it() {
        for byte in 0..=u8::MAX {
            for place in [2, 20, 40] {
                let mut text = b"x:".to_vec();
                text.resize(place, b'a');
                text.push(byte);
                text.resize(48, b'a');
                let is_refused = matches!(byte, 0..=b' ' | b'<' | b'>' | b'"' | 0x7f);
                assert_eq!(Uri::parse(text.into()).is_err(), is_refused, "{byte} at {place}");
            }
        }
    }

    #[test]
    fn unreadable_uris_are_refused() {
        for bad in [
            "",
            "sip:",
            "sip:@host",
            "sip:a@",
            "sip:a@b:99999",
            "sip:a@b@c",
            "sip:a b@c",
            "<sip:a@b>",
            "sip:a@b c",
            "nothing",
            ":x",
            "1x:y",
            "tel:",
            "tel:abcx",
            "sip:a@[::1",
            "sip:a\"@b",
        ] {
            assert_eq!(Uri::from_text(bad), Err(NotAUri), "{bad:?}");
        }
    }

    #[test]
    fn uris_print_without_their_user() {
        assert_eq!(format!("{:?}", uri("sip:+15550100@h:5060")), "Uri(sip:…@h)");
        assert_eq!(format!("{:?}", uri("tel:+15550100")), "Uri(tel:…)");
    }

    #[test]
    fn wrong_escapes_stay() {
        assert_eq!(decode(b"a%2").as_ref(), b"a%2");
        assert_eq!(decode(b"%zz%41").as_ref(), b"%zzA");
    }
}
