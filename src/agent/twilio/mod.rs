//! Twilio Media Streams, bidirectional: JSON over a WebSocket which we, the switch, dial.

#![warn(clippy::indexing_slicing)]

pub mod decode;
pub mod dialect;
pub mod encode;
mod exercise;
mod payload;

pub use crate::agent::twilio::exercise::exercise;

use crate::types::secret::Secret;
use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// The header that proves to the agent who dials.
pub const SIGNATURE_HEADER: &str = "x-twilio-signature";

/// The value of [`SIGNATURE_HEADER`]: base64 of HMAC-SHA1 over `url`, exactly as dialled, under
/// `auth_token`. `None` for an empty token: no signature is sent.
#[must_use]
pub fn signature(auth_token: &Secret<String>, url: &str) -> Option<String> {
    if auth_token.expose().is_empty() {
        return None;
    }
    // Not our choice of hash: every existing agent checks this one.
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, auth_token.expose().as_bytes());
    Some(STANDARD.encode(hmac::sign(&key, url.as_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(token: &str, url: &str, expected: Option<&str>) {
        assert_eq!(signature(&Secret::new(token.to_owned()), url).as_deref(), expected);
    }

    #[test]
    fn the_signature_is_over_the_url_exactly_as_dialled() {
        // Computed with Python's hmac module.
        let url = "wss://agent.example.com/ws?a=b";
        check("12345", url, Some(EXPECTED));
        check("", url, None);
        assert_ne!(
            signature(&Secret::new("12345".to_owned()), "wss://agent.example.com:443/ws?a=b"),
            Some(EXPECTED.to_owned())
        );
    }

    const EXPECTED: &str = "plnwdPXavsvxvAI26UdCQAh01Cw=";
}
