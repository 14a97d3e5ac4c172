//! `Via`: one hop a request took (RFC 3261 §20.42, RFC 3581).

use crate::sip::message::header::BadValue;
use crate::sip::message::lexis;
use crate::sip::message::param::Params;
use crate::sip::message::span::Span;
use crate::types::transport::Transport;
use bytes::Bytes;
use memchr::memchr;
use std::fmt;

/// One Via entry.
#[derive(Clone)]
pub struct Via {
    raw: Bytes,
    transport: Span,
    host: Span,
    port: Option<u16>,
    params: Span,
    branch: Option<Span>,
}

/// The magic cookie of RFC 3261 branches.
pub const BRANCH_COOKIE: &[u8] = b"z9hG4bK";

impl Via {
    /// Reads one entry, without anything around it.
    ///
    /// # Errors
    /// When protocol, host or port cannot be read.
    pub fn parse(raw: Bytes) -> Result<Self, BadValue> {
        let (transport, rest) = protocol(&raw).ok_or(BadValue)?;
        let sent_len = memchr(b';', rest).unwrap_or(rest.len());
        let (sent_by, params) = rest.split_at_checked(sent_len).ok_or(BadValue)?;
        let (host, port) = lexis::host_port(lexis::trim(sent_by)).ok_or(BadValue)?;
        let branch = Params::new(params).get("branch").filter(|branch| !branch.is_empty());
        let branch = branch.map(|branch| Span::within(&raw, branch));
        let (transport, host) = (Span::within(&raw, transport), Span::within(&raw, host));
        let params = Span::within(&raw, params);
        Ok(Self { raw, transport, host, port, params, branch })
    }

    /// The entry exactly as received.
    #[must_use]
    pub const fn as_bytes(&self) -> &Bytes {
        &self.raw
    }

    /// The transport token as received: `UDP`, `TCP`, `TLS`, `WSS` ...
    #[must_use]
    pub fn transport(&self) -> &[u8] {
        self.transport.of(&self.raw)
    }

    /// The host of sent-by, with the brackets of an IPv6 address.
    #[must_use]
    pub fn host(&self) -> &[u8] {
        self.host.of(&self.raw)
    }

    /// The port of sent-by, when it is written there.
    #[must_use]
    pub const fn port(&self) -> Option<u16> {
        self.port
    }

    /// The port of sent-by, else the default of its transport.
    #[must_use]
    pub fn port_or_default(&self) -> u16 {
        let secure = self.transport().eq_ignore_ascii_case(Transport::Tls.via_token().as_bytes());
        self.port.unwrap_or(if secure { 5061 } else { 5060 })
    }

    /// The branch; an empty one counts as none.
    #[must_use]
    pub fn branch(&self) -> Option<&[u8]> {
        self.branch.map(|branch| branch.of(&self.raw))
    }

    /// True when the branch was made by the rules of RFC 3261 and so identifies a transaction: the
    /// cookie and something behind it (RFC 4475 §3.2.1).
    #[must_use]
    pub fn has_cookie(&self) -> bool {
        let split = self.branch().and_then(|branch| branch.split_at_checked(BRANCH_COOKIE.len()));
        // Some peers change the case of the cookie.
        split.is_some_and(|(cookie, own)| {
            cookie.eq_ignore_ascii_case(BRANCH_COOKIE) && !own.is_empty()
        })
    }

    /// `None`: no `rport`; `Some(None)`: asked for; `Some(Some(port))`: filled in (RFC 3581 §3).
    #[must_use]
    pub fn rport(&self) -> Option<Option<u16>> {
        let value = self.param("rport")?;
        Some(lexis::number(value).and_then(|port| u16::try_from(port).ok()))
    }

    /// The address the entry was received from, as some hop wrote it.
    #[must_use]
    pub fn received(&self) -> Option<&[u8]> {
        self.param("received")
    }

    /// The value of a parameter.
    #[must_use]
    pub fn param(&self, name: &str) -> Option<&[u8]> {
        self.params().get(name)
    }

    /// All parameters.
    #[must_use]
    pub fn params(&self) -> Params<'_> {
        Params::new(self.params.of(&self.raw))
    }

    /// The part before the parameters: protocol and sent-by, as received.
    #[must_use]
    pub fn sent_protocol_and_by(&self) -> &[u8] {
        self.raw.get(..self.params.start()).filter(|part| !part.is_empty()).unwrap_or(&self.raw)
    }
}

impl PartialEq for Via {
    fn eq(&self, other: &Self) -> bool {
        self.raw == other.raw
    }
}

impl Eq for Via {}

impl fmt::Debug for Via {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Via({})", self.raw.escape_ascii())
    }
}

/// The transport token, and what follows it. White space may stand around the slashes.
fn protocol(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let (name, rest) = lexis::cut(text, b'/');
    let (version, rest) = lexis::cut(rest?, b'/');
    let rest = rest?.trim_ascii_start();
    let known = lexis::trim(name).eq_ignore_ascii_case(b"SIP") && lexis::trim(version) == b"2.0";
    let len = rest.iter().position(|&byte| lexis::is_space(byte))?;
    let (transport, rest) = rest.split_at_checked(len)?;
    (known && lexis::is_token(transport)).then_some((transport, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &'static str) -> Via {
        Via::parse(Bytes::from_static(text.as_bytes()))
            .unwrap_or_else(|_| panic!("{text} must parse"))
    }

    #[test]
    fn a_via_has_its_parts() {
        let via = read("SIP/2.0/UDP [2001:db8::9]:5070;branch=z9hG4bKx;rport;received=192.0.2.1");
        assert_eq!(via.transport(), b"UDP");
        assert_eq!(via.host(), b"[2001:db8::9]");
        assert_eq!(via.port(), Some(5070));
        assert_eq!(via.branch(), Some(&b"z9hG4bKx"[..]));
        assert!(via.has_cookie());
        assert_eq!(via.rport(), Some(None));
        assert_eq!(via.received(), Some(&b"192.0.2.1"[..]));
        assert_eq!(via.sent_protocol_and_by(), b"SIP/2.0/UDP [2001:db8::9]:5070");
    }

    #[test]
    fn white_space_around_slashes_and_colon_is_accepted() {
        let via = read("SIP  / 2.0\t/ TLS   host.example : 5071 ; branch = abc");
        assert_eq!(
            (via.transport(), via.host(), via.port()),
            (&b"TLS"[..], &b"host.example"[..], Some(5071))
        );
        assert_eq!(via.branch(), Some(&b"abc"[..]));
        assert!(!via.has_cookie());
        assert!(!read("SIP/2.0/UDP a;branch=z9hG4bK").has_cookie());
        assert_eq!(read("SIP/2.0/TLS a").port_or_default(), 5061);
        assert_eq!(read("SIP/2.0/UDP a;rport=77").rport(), Some(Some(77)));
        assert_eq!(read("SIP/2.0/UDP a").sent_protocol_and_by(), b"SIP/2.0/UDP a");
    }

    #[test]
    fn unreadable_vias_are_refused() {
        for bad in [
            "",
            "SIP/2.0/UDP",
            "SIP/2.0/UDP ",
            "SIP/2.0 host",
            "SIP/2.0/UDP host:99999999",
            "HTTP/1.1/TCP host",
            "SIP/3.0/UDP host",
            "SIP/2.0/U@P host",
            "SIP/2.0/UDP a b",
            ";;",
        ] {
            assert_eq!(Via::parse(Bytes::from_static(bad.as_bytes())), Err(BadValue), "{bad:?}");
        }
    }
}
