//! `Target`: the SIP URI to call, and the way it names.

use crate::sip::message::uri::Uri;
use crate::types::transport::Transport;
use std::fmt;
use std::str::FromStr;

/// The port of SIP over UDP and TCP (RFC 3261 §19.1.2).
const PORT: u16 = 5060;

/// A SIP URI that can be called.
#[derive(Clone, PartialEq, Eq)]
pub struct Target {
    uri: String,
    host: String,
    port: u16,
    transport: Transport,
}

/// The text is nothing that can be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotATarget {
    /// No SIP URI.
    #[error("write a SIP URI: sip:+15550101@127.0.0.1:5060")]
    NotAUri,
    /// `sips:` or `transport=tls`.
    #[error("SIP over TLS is not supported in this version")]
    Tls,
    /// `transport=` something else.
    #[error("the URI's transport is neither udp nor tcp")]
    Transport,
}

impl Target {
    /// The Request-URI.
    #[must_use]
    pub fn uri(&self) -> &str {
        &self.uri
    }

    /// The host to reach: a name or an address, the latter without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port to reach.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// The transport to reach it by.
    #[must_use]
    pub const fn transport(&self) -> Transport {
        self.transport
    }

    /// The same target by another transport; the Request-URI stays as it was written.
    #[must_use]
    pub fn by(mut self, transport: Transport) -> Self {
        self.transport = transport;
        self
    }
}

impl FromStr for Target {
    type Err = NotATarget;

    fn from_str(text: &str) -> Result<Self, NotATarget> {
        let is_plain = |text: &str| text.chars().all(|c| c.is_ascii_graphic());
        if !is_plain(text) {
            return Err(NotATarget::NotAUri);
        }
        let has_scheme = ["sip:", "sips:"].iter().any(|scheme| {
            text.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme))
        });
        let uri = if has_scheme { text.to_owned() } else { format!("sip:{text}") };
        let Ok(Uri::Sip(parsed)) = Uri::from_text(&uri) else { return Err(NotATarget::NotAUri) };
        let transport = match parsed.params().get("transport") {
            None => Transport::Udp,
            Some(name) if name.eq_ignore_ascii_case(b"udp") => Transport::Udp,
            Some(name) if name.eq_ignore_ascii_case(b"tcp") => Transport::Tcp,
            Some(name) if name.eq_ignore_ascii_case(b"tls") => return Err(NotATarget::Tls),
            Some(_) => return Err(NotATarget::Transport),
        };
        if parsed.is_secure() {
            return Err(NotATarget::Tls);
        }
        let host = String::from_utf8_lossy(parsed.host()).into_owned();
        let host = host.trim_matches(['[', ']']).to_owned();
        if host.is_empty() {
            return Err(NotATarget::NotAUri);
        }
        Ok(Self { host, port: parsed.port().unwrap_or(PORT), transport, uri })
    }
}

impl fmt::Debug for Target {
    /// Without the user part: it is a telephone number.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Target({}:{} over {})", self.host, self.port, self.transport)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_names_host_port_and_transport() {
        for (text, host, port, transport) in [
            ("sip:+15550101@127.0.0.1:5070", "127.0.0.1", 5070, Transport::Udp),
            ("+15550101@sip.example.com", "sip.example.com", 5060, Transport::Udp),
            ("sip:a@[::1]:5062;transport=TCP", "::1", 5062, Transport::Tcp),
            ("SIP:127.0.0.1", "127.0.0.1", 5060, Transport::Udp),
        ] {
            let target: Target = text.parse().unwrap();
            assert_eq!((target.host(), target.port()), (host, port), "{text}");
            assert_eq!(target.transport(), transport, "{text}");
        }
        let target: Target = "+15550101@host".parse().unwrap();
        assert_eq!(target.uri(), "sip:+15550101@host");
        assert!(!format!("{target:?}").contains("15550101"));
    }

    #[test]
    fn what_cannot_be_called_is_no_target() {
        for (text, why) in [
            ("", NotATarget::NotAUri),
            ("sip:", NotATarget::NotAUri),
            ("sip:a b@host", NotATarget::NotAUri),
            ("sip:a@host\r\nX: y", NotATarget::NotAUri),
            ("sips:a@host", NotATarget::Tls),
            ("sip:a@host;transport=tls", NotATarget::Tls),
            ("sip:a@host;transport=sctp", NotATarget::Transport),
        ] {
            assert_eq!(text.parse::<Target>().err(), Some(why), "{text:?}");
        }
    }
}
