//! A SIP peer that no trunk describes: its address, and who we are to it.

use crate::types::limit::PEER_URI_BYTES_MAX;
use crate::types::secret::Secret;
use std::fmt;
use std::str::FromStr;

/// The user and password for a peer that asks for them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// User name.
    pub username: String,
    /// Password.
    pub password: Secret<String>,
}

/// The address of a peer as text: visible ASCII without quotes and angle brackets. Whether it can be
/// dialled is found out by who dials.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct PeerUri(String);

/// The text cannot be the address of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an address has 1 to {PEER_URI_BYTES_MAX} visible ASCII characters without \" < >")]
pub struct NotAPeerUri;

impl PeerUri {
    /// The address itself.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for PeerUri {
    type Err = NotAPeerUri;

    fn from_str(text: &str) -> Result<Self, NotAPeerUri> {
        let fits = (1..=PEER_URI_BYTES_MAX).contains(&text.len());
        let clean = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'<' | b'>');
        if fits && text.bytes().all(clean) { Ok(Self(text.to_owned())) } else { Err(NotAPeerUri) }
    }
}

impl fmt::Debug for PeerUri {
    /// Its host only: the user part may be a number, its parameters a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let after_user = self.0.rsplit_once('@').map_or("", |(_, host)| host);
        let host = after_user.split([';', '?']).next().unwrap_or_default();
        write!(f, "PeerUri(…{host})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_could_end_its_header_is_none() {
        assert!("sip:agent@host.example;transport=tls".parse::<PeerUri>().is_ok());
        for bad in ["", "sip:a@b\r\nX: y", "sip:a@b>", "sip:a b@c", "sip:ä@b"] {
            assert_eq!(bad.parse::<PeerUri>(), Err(NotAPeerUri), "{bad:?}");
        }
    }

    #[test]
    fn an_address_prints_without_its_user_and_parameters() {
        let uri: PeerUri = "sip:+15550100@host.example;token=hunter2".parse().unwrap();
        assert_eq!(format!("{uri:?}"), "PeerUri(…host.example)");
    }
}
