//! `Target`: the SIP URI to call, and the way it names.

use crate::sip::message::uri::Uri;
use crate::types::transport::Transport;
use std::fmt;
use std::str::FromStr;

/// The port of SIP over UDP and TCP, and that over TLS (RFC 3261 §19.1.2).
const PORT: u16 = 5060;
const PORT_TLS: u16 = 5061;

/// A SIP URI that can be called.
#[derive(Clone, PartialEq, Eq)]
pub struct Target {
    uri: String,
    host: String,
    port: Option<u16>,
    /// `sips:`: nothing but TLS will do.
    is_secure: bool,
    transport: Transport,
}

/// The text is nothing that can be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotATarget {
    /// No SIP URI.
    #[error("write a SIP URI: sip:+15550101@127.0.0.1:5060")]
    NotAUri,
    /// `sips:` by something else than TLS.
    #[error("a sips: URI is called by tls alone")]
    NotSecure,
    /// `transport=` something else.
    #[error("the URI's transport is none of udp, tcp and tls")]
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
        match (self.port, self.transport) {
            (Some(port), _) => port,
            (None, Transport::Udp | Transport::Tcp) => PORT,
            (None, Transport::Tls) => PORT_TLS,
        }
    }

    /// The transport to reach it by.
    #[must_use]
    pub const fn transport(&self) -> Transport {
        self.transport
    }

    /// The same target by another transport; the Request-URI stays as it was written.
    ///
    /// # Errors
    ///
    /// When the URI is `sips:` and the transport is not TLS.
    pub fn by(mut self, transport: Transport) -> Result<Self, NotATarget> {
        if self.is_secure && transport != Transport::Tls {
            return Err(NotATarget::NotSecure);
        }
        self.transport = transport;
        Ok(self)
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
        let is_secure = parsed.is_secure();
        let transport = match parsed.params().get("transport") {
            None if is_secure => Transport::Tls,
            None => Transport::Udp,
            Some(name) if name.eq_ignore_ascii_case(b"udp") => Transport::Udp,
            // RFC 3261 §26.2.2: `sips:` by TCP is TLS.
            Some(name) if name.eq_ignore_ascii_case(b"tcp") && is_secure => Transport::Tls,
            Some(name) if name.eq_ignore_ascii_case(b"tcp") => Transport::Tcp,
            Some(name) if name.eq_ignore_ascii_case(b"tls") => Transport::Tls,
            Some(_) => return Err(NotATarget::Transport),
        };
        if is_secure && transport != Transport::Tls {
            return Err(NotATarget::NotSecure);
        }
        let host = String::from_utf8_lossy(parsed.host()).into_owned();
        let host = host.trim_matches(['[', ']']).to_owned();
        if host.is_empty() {
            return Err(NotATarget::NotAUri);
        }
        Ok(Self { host, port: parsed.port(), is_secure, transport, uri })
    }
}

impl fmt::Debug for Target {
    /// Without the user part: it is a telephone number.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Target({}:{} over {})", self.host, self.port(), self.transport)
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
            ("sips:a@sip.example.com", "sip.example.com", 5061, Transport::Tls),
            ("sips:a@127.0.0.1:5070;transport=tcp", "127.0.0.1", 5070, Transport::Tls),
            ("sip:a@127.0.0.1;transport=tls", "127.0.0.1", 5061, Transport::Tls),
        ] {
            let target: Target = text.parse().unwrap();
            assert_eq!((target.host(), target.port()), (host, port), "{text}");
            assert_eq!(target.transport(), transport, "{text}");
        }
        let target: Target = "+15550101@host".parse().unwrap();
        assert_eq!(target.uri(), "sip:+15550101@host");
        assert!(!format!("{target:?}").contains("15550101"));
        assert_eq!(target.by(Transport::Tls).unwrap().port(), 5061);
        let secure: Target = "sips:a@host".parse().unwrap();
        assert_eq!(secure.by(Transport::Tcp), Err(NotATarget::NotSecure));
    }

    #[test]
    fn what_cannot_be_called_is_no_target() {
        for (text, why) in [
            ("", NotATarget::NotAUri),
            ("sip:", NotATarget::NotAUri),
            ("sip:a b@host", NotATarget::NotAUri),
            ("sip:a@host\r\nX: y", NotATarget::NotAUri),
            ("sips:a@host;transport=udp", NotATarget::NotSecure),
            ("sip:a@host;transport=sctp", NotATarget::Transport),
        ] {
            assert_eq!(text.parse::<Target>().err(), Some(why), "{text:?}");
        }
    }
}
