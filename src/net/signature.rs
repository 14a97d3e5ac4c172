//! The signature of what is posted to URLs of tenants: HMAC-SHA256 over the time and the body.

use crate::types::secret::Secret;
use aws_lc_rs::hmac;
use jiff::Timestamp;

/// The header that holds it.
pub const HEADER: &str = "tandem-signature";

/// `t=SECONDS,v1=HEX`, with a further `v1` for each further secret: HMAC-SHA256 of the seconds since 1970, a
/// dot and the body. The key is the secret's text as it was shown.
#[must_use]
pub fn sign(at: Timestamp, body: &[u8], secrets: &[Secret<String>]) -> String {
    let mut text = format!("t={}", at.as_second());
    for secret in secrets {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.expose().as_bytes());
        let mut context = hmac::Context::with_key(&key);
        context.update(at.as_second().to_string().as_bytes());
        context.update(b".");
        context.update(body);
        text.push_str(",v1=");
        text.extend(context.sign().as_ref().iter().flat_map(|byte| {
            [byte >> 4, byte & 15]
                .map(|digit| char::from_digit(u32::from(digit), 16).unwrap_or('0'))
        }));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_the_hmac_of_time_and_body_for_each_secret() {
        let at = Timestamp::from_second(1_700_000_000).unwrap();
        let [a, b] = ["whsec_a", "whsec_b"].map(|text| Secret::new(text.to_owned()));
        // printf '1700000000.{"id":1}' | openssl dgst -sha256 -hmac whsec_a
        let expected =
            "t=1700000000,v1=8c8e247421de0b76bf97607e630fe462de82132f873d78a74c81d7cee02ffbdf";
        assert_eq!(sign(at, br#"{"id":1}"#, std::slice::from_ref(&a)), expected);
        let both = sign(at, br#"{"id":1}"#, &[a, b]);
        assert!(both.starts_with(expected) && both.matches(",v1=").count() == 2, "{both}");
        assert_eq!(sign(at, b"", &[]), "t=1700000000");
    }
}
