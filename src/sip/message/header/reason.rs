//! `Reason`: why a request or response was sent (RFC 3326).

use crate::sip::message::header::BadValue;
use crate::sip::message::lexis;
use crate::sip::message::param::Params;
use crate::types::peer_reason::PeerReason;
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

    /// What of it is kept and passed on; `None` where nothing was said that could be.
    #[must_use]
    pub fn told(&self) -> Option<PeerReason> {
        PeerReason::new(self.protocol, self.cause(), self.text().as_deref())
    }

    /// The value that says what a peer said.
    #[must_use]
    pub fn value_of(reason: &PeerReason) -> String {
        let cause = reason.cause().map(|cause| format!(";cause={cause}")).unwrap_or_default();
        let text = reason.text().map(|text| format!(";text=\"{text}\"")).unwrap_or_default();
        format!("{}{cause}{text}", reason.protocol())
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

    #[test]
    fn what_a_peer_said_is_written_again_and_no_garbage_with_it() {
        for (came, goes) in [
            (
                r#"Q.850;cause=41;text="Temporary failure""#,
                r#"Q.850;cause=41;text="Temporary failure""#,
            ),
            ("Q.850 ; cause=41", "Q.850;cause=41"),
            (r#"Q.850;text="a\"b\\c";cause=31"#, r#"Q.850;cause=31;text="abc""#),
            ("Q.850;cause=38;text=\"a\r\nVia: b\"", r#"Q.850;cause=38;text="aVia: b""#),
        ] {
            let told = Reason::parse(came.as_bytes()).unwrap().told().unwrap();
            assert_eq!(Reason::value_of(&told), goes, "{came}");
        }
        for nothing in ["Q.850", "Q.850;cause=x", "Q.850;cause=70000"] {
            assert_eq!(Reason::parse(nothing.as_bytes()).unwrap().told(), None, "{nothing}");
        }
    }
}
