//! The fields of a challenge or of credentials: `Digest name=value, name="value"` (RFC 7235 §2.1).

use crate::sip::message::header::BadValue;
use crate::sip::message::lexis;
use crate::sip::message::lexis::List;

/// The parameters of a Digest challenge or of Digest credentials. Quoted values are given as they
/// stand between the quotes, as they go into the hashes.
#[derive(Clone, Copy, Debug)]
pub struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    /// Reads a header value.
    ///
    /// # Errors
    /// When the scheme is not Digest.
    pub fn parse(value: &'a [u8]) -> Result<Self, BadValue> {
        const SCHEME: &[u8] = b"Digest";
        let (scheme, rest) = value.split_at_checked(SCHEME.len()).ok_or(BadValue)?;
        let is_digest = scheme.eq_ignore_ascii_case(SCHEME)
            && rest.first().is_some_and(|&byte| lexis::is_space(byte));
        if is_digest { Ok(Self(rest)) } else { Err(BadValue) }
    }

    /// The value of `name`, without its quotes.
    #[must_use]
    pub fn get(self, name: &str) -> Option<&'a [u8]> {
        List::new(self.0).find_map(|field| {
            let (found, value) = lexis::cut(field, b'=');
            let is_it = lexis::trim(found).eq_ignore_ascii_case(name.as_bytes());
            match lexis::trim(value.filter(|_| is_it)?) {
                [b'"', inner @ .., b'"'] => Some(inner),
                plain => Some(plain),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_around_quoted_commas() {
        let value = br#"dIGEST realm="a, b=\"c\"" ,nonce=n1,QOP = "auth,auth-int",opaque="""#;
        let fields = Fields::parse(value).unwrap();
        assert_eq!(fields.get("realm"), Some(&br#"a, b=\"c\""#[..]));
        assert_eq!(fields.get("nonce"), Some(&b"n1"[..]));
        assert_eq!(fields.get("qop"), Some(&b"auth,auth-int"[..]));
        assert_eq!(fields.get("opaque"), Some(&b""[..]));
        assert_eq!(fields.get("stale"), None);
    }

    #[test]
    fn other_schemes_are_no_digest() {
        for bad in ["", "Basic x", "Digest", "Digestx a=b", "Bearer realm=\"x\""] {
            assert!(Fields::parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
