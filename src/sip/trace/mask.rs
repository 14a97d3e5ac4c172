//! Takes secrets out of a message that people will read.

use crate::sip::message::name::HeaderName;
use bytes::Bytes;
use bytes::BytesMut;

/// Fields of a digest that are no secrets: they say who asked for what.
const DIGEST_OPEN: [&[u8]; 6] = [b"username", b"realm", b"uri", b"algorithm", b"qop", b"nc"];

/// A copy of `message` with every secret replaced by as many `*`, so that lengths stay true: the
/// answers to challenges, keys in session descriptions, and the values of `secret_headers`.
pub(super) fn masked(message: &[u8], secret_headers: &[&str]) -> Bytes {
    let mut text = BytesMut::from(message);
    let mut in_head = true;
    let mut hides_next = Hide::Nothing;
    let mut at = 0;
    while at < text.len() {
        let rest = text.get_mut(at..).unwrap_or(&mut []);
        let end = rest.iter().position(|&byte| byte == b'\n').map_or(rest.len(), |end| end + 1);
        let Some(line) = rest.get_mut(..end) else { break };
        at += end;
        if in_head && line.trim_ascii().is_empty() {
            in_head = false;
        } else if in_head {
            // A folded line goes on with the value of the one before.
            if !line.first().is_some_and(u8::is_ascii_whitespace) {
                hides_next = hide_of(line, secret_headers);
            }
            mask_header(line, hides_next);
        } else {
            mask_body(line);
        }
    }
    text.freeze()
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Hide {
    Nothing,
    Digest,
    Value,
}

fn hide_of(line: &[u8], secret_headers: &[&str]) -> Hide {
    let Some(colon) = line.iter().position(|&byte| byte == b':') else { return Hide::Nothing };
    let name = line.get(..colon).unwrap_or(&[]).trim_ascii();
    if secret_headers.iter().any(|secret| name.eq_ignore_ascii_case(secret.as_bytes())) {
        return Hide::Value;
    }
    match HeaderName::from_bytes(name) {
        HeaderName::Authorization | HeaderName::ProxyAuthorization => Hide::Digest,
        _ => Hide::Nothing,
    }
}

fn mask_header(line: &mut [u8], hide: Hide) {
    let is_folded = line.first().is_some_and(u8::is_ascii_whitespace);
    let colon = line.iter().position(|&byte| byte == b':').filter(|_| !is_folded);
    let Some(value) = line.get_mut(colon.map_or(0, |colon| colon + 1)..) else { return };
    match hide {
        Hide::Nothing => (),
        Hide::Value => stars(value),
        Hide::Digest => mask_digest(value, !is_folded),
    }
}

/// Hides every field but those known to be open; a scheme other than Digest is hidden whole.
fn mask_digest(value: &mut [u8], has_scheme: bool) {
    let skip = value.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
    let is_digest = value.get(skip..skip + 7).is_some_and(|s| s.eq_ignore_ascii_case(b"digest "));
    if has_scheme && !is_digest {
        return stars(value);
    }
    let start = if has_scheme { skip + 7 } else { 0 };
    let Some(fields) = value.get_mut(start..) else { return };
    let mut quoted = false;
    for field in fields.split_mut(|&byte| {
        quoted ^= byte == b'"';
        byte == b',' && !quoted
    }) {
        let Some(equals) = field.iter().position(|&byte| byte == b'=') else { continue };
        let (name, value) = field.split_at_mut(equals + 1);
        let name = name.strip_suffix(b"=").unwrap_or(&[]).trim_ascii();
        if !DIGEST_OPEN.iter().any(|open| name.eq_ignore_ascii_case(open)) {
            stars(value);
        }
    }
}

/// RFC 4568 §9.1: the key is what follows `inline:`. RFC 8866 §5.12: `k=` is a key as well.
fn mask_body(line: &mut [u8]) {
    if line.starts_with(b"k=") {
        return stars(line.get_mut(2..).unwrap_or(&mut []));
    }
    let is_key_line = line.starts_with(b"a=crypto:") || line.starts_with(b"a=key-mgmt:");
    if !is_key_line {
        return;
    }
    let inline = line.windows(7).position(|part| part.eq_ignore_ascii_case(b"inline:"));
    let from = match inline {
        Some(at) => at + 7,
        None => line.iter().position(|&byte| byte == b':').map_or(0, |colon| colon + 1),
    };
    stars(line.get_mut(from..).unwrap_or(&mut []));
}

/// White space stays, so that lines still end where they did.
fn stars(text: &mut [u8]) {
    for byte in text.iter_mut().filter(|byte| !byte.is_ascii_whitespace() && **byte != b'"') {
        *byte = b'*';
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(message: &str, expected: &str) {
        let masked = masked(message.as_bytes(), &["X-Trunk-Token"]);
        assert_eq!(String::from_utf8_lossy(&masked), expected);
        assert_eq!(masked.len(), message.len());
    }

    #[test]
    fn a_digest_shows_who_asked_and_hides_the_answer() {
        check(
            "REGISTER sip:h SIP/2.0\r\nAuthorization: Digest username=\"u\", realm=\"r,s\", \
             nonce=\"abc\", response=\"0f\",\r\n cnonce=\"zz\", nc=00000001\r\nFrom: <sip:a@b>\r\n\r\n",
            "REGISTER sip:h SIP/2.0\r\nAuthorization: Digest username=\"u\", realm=\"r,s\", \
             nonce=\"***\", response=\"**\",\r\n cnonce=\"**\", nc=00000001\r\nFrom: <sip:a@b>\r\n\r\n",
        );
        check(
            "X\r\nproxy-authorization : Basic dXNlcg==\r\n\r\n",
            "X\r\nproxy-authorization : ***** ********\r\n\r\n",
        );
    }

    #[test]
    fn secret_headers_are_hidden_with_their_folded_lines() {
        check(
            "X\r\nx-trunk-token: s3cret\r\n more\r\nX-Other: seen\r\n\r\n",
            "X\r\nx-trunk-token: ******\r\n ****\r\nX-Other: seen\r\n\r\n",
        );
    }

    #[test]
    fn keys_in_a_session_description_are_hidden() {
        check(
            "X\r\n\r\nm=audio 1 RTP/SAVP 0\r\na=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:QUJD|2^20\r\nk=clear:abc\r\n",
            "X\r\n\r\nm=audio 1 RTP/SAVP 0\r\na=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:*********\r\nk=*********\r\n",
        );
        check("X\r\n\r\na=crypto:1 odd key\r\n", "X\r\n\r\na=crypto:* *** ***\r\n");
    }

    #[test]
    fn anything_may_be_masked_without_a_panic() {
        for odd in [
            "",
            "\n",
            ":",
            "Authorization",
            "Authorization:",
            "Authorization: Digest",
            "a\r\n\r\nk=",
        ] {
            assert_eq!(masked(odd.as_bytes(), &[]).len(), odd.len());
        }
        assert_eq!(&masked(b"\xff\0\xfe", &[])[..], b"\xff\0\xfe");
    }
}
