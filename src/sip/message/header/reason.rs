//! `Reason`: why a request or response was sent (RFC 3326).

use crate::sip::message::header::BadValue;
use crate::sip::message::lexis;
use crate::sip::message::param::Params;
use std::borrow::Cow;

/// One Reason entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reason<'a> {
    protocol: &'a [u8],
    params: Params<'a>,
}

impl<'a> Reason<'a> {
    /// Reads one entry.
    ///
    /// # Errors
    /// When it does not begin with a protocol.
    pub fn parse(entry: &'a [u8]) -> Result<Self, BadValue> {
        let (protocol, _) = lexis::cut(entry, b';');
        let params = Params::new(entry.get(protocol.len()..).unwrap_or(&[]));
        let protocol = lexis::trim(protocol);
        if lexis::is_token(protocol) { Ok(Self { protocol, params }) } else { Err(BadValue) }
    }

    /// The protocol: `Q.850`, `SIP` ...
    #[must_use]
    pub const fn protocol(&self) -> &'a [u8] {
        self.protocol
    }

    /// The cause.
    #[must_use]
    pub fn cause(&self) -> Option<u16> {
        let cause = lexis::number(self.params.get("cause")?)?;
        u16::try_from(cause).ok()
    }

    /// The Q.850 cause, where the protocol is Q.850 and the cause is one.
    #[must_use]
    pub fn q850(&self) -> Option<u8> {
        let cause = self.cause().filter(|_| self.protocol.eq_ignore_ascii_case(b"Q.850"))?;
        u8::try_from(cause).ok().filter(|cause| (1..=127).contains(cause))
    }

    /// The text without quotes.
    #[must_use]
    pub fn text(&self) -> Option<Cow<'a, [u8]>> {
        self.params.unquoted("text")
    }

    /// The value `Q.850;cause=N;text="..."`. `text` is ours: without quotes and line ends.
    #[must_use]
    pub fn q850_value(cause: u8, text: &str) -> String {
        format!("Q.850;cause={cause};text=\"{text}\"")
    }

    /// The value `SIP;cause=N;text="..."`. `text` is ours: without quotes and line ends.
    #[must_use]
    pub fn sip_value(status: u16, text: &str) -> String {
        format!("SIP;cause={status};text=\"{text}\"")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_q850_cause_is_read_back() {
        let value = Reason::q850_value(16, "Normal");
        let reason = Reason::parse(value.as_bytes()).unwrap();
        assert_eq!(reason.q850(), Some(16));
        assert_eq!(reason.text().as_deref(), Some(&b"Normal"[..]));
        assert_eq!(
            Reason::sip_value(200, "Call completed elsewhere"),
            "SIP;cause=200;text=\"Call completed elsewhere\""
        );
        let sip = Reason::parse(b"SIP ;cause=200 ;text=\"Call completed elsewhere\"").unwrap();
        assert_eq!((sip.cause(), sip.q850()), (Some(200), None));
        assert_eq!(Reason::parse(b"Q.850;cause=999").map(|r| r.q850()), Ok(None));
        assert_eq!(Reason::parse(b";cause=1"), Err(BadValue));
    }
}
