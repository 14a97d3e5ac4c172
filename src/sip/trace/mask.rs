//! Takes secrets out of a message that people will read.

use crate::sip::message::name::HeaderName;
use bytes::Bytes;
use bytes::BytesMut;
use memchr::memchr;
use memchr::memchr2;

/// Fields of a digest that are no secrets: they say who asked for what.
const DIGEST_OPEN: [&[u8]; 6] = [b"username", b"realm", b"uri", b"algorithm", b"qop", b"nc"];

/// The headers that say where secrets are. They alone are looked for, which costs less than to tell all headers.
const TELLING: [HeaderName; 3] =
    [HeaderName::Authorization, HeaderName::ProxyAuthorization, HeaderName::ContentType];

/// The message with every secret replaced by as many `*`, so that lengths stay true: the
/// answers to challenges, keys in session descriptions, and the values of headers that `is_secret` names.
///
/// Head and body are read alike, and every line end that some parser takes is one, so that nothing which
/// works is shown because it was spelt oddly: a body may be multipart, with headers of its own.
///
/// It is changed in place where nobody else has it.
pub(super) fn masked(message: Bytes, is_secret: &dyn Fn(&[u8]) -> bool) -> Bytes {
    let mut text = BytesMut::from(message);
    let mut hides = Hide::Nothing;
    let mut after_bare_cr = false;
    let mut content = Content::default();
    let mut at = 0;
    while at < text.len() {
        let rest = text.get_mut(at..).unwrap_or(&mut []);
        let end = line_length(rest);
        let Some(line) = rest.get_mut(..end) else { break };
        at += end;
        // A folded line goes on with the value of the one before; a lone CR may be part of one.
        let is_folded = line.first().is_some_and(u8::is_ascii_whitespace)
            || (after_bare_cr && hides != Hide::Nothing);
        after_bare_cr = line.ends_with(b"\r");
        let heading = if is_folded { None } else { Heading::of(line) };
        if !is_folded {
            hides = heading.map_or(Hide::Nothing, |heading| heading.hides(line, is_secret));
        }
        mask_header(line, hides, heading);
        mask_body(line);
        if content.is_key(line, heading, is_folded) {
            stars(line);
        }
    }
    text.freeze()
}

/// What is known of the content that lines are of.
#[derive(Debug, Default)]
struct Content {
    /// The header at hand is Content-Type.
    names_type: bool,
    /// The type is that of keys which are pressed.
    is_keys: bool,
    /// The head is over.
    is_begun: bool,
}

impl Content {
    /// True for a line of `application/dtmf` or its like: the key that is pressed, and nothing that names it. A
    /// head that is over begins anew with the next part.
    fn is_key(&mut self, line: &[u8], heading: Option<Heading>, is_folded: bool) -> bool {
        if self.is_begun && !line.starts_with(b"--") {
            return true;
        }
        if self.is_begun || matches!(line, b"\r\n" | b"\n" | b"\r") {
            let is_begun = self.is_keys && !self.is_begun;
            *self = Self { is_begun, ..Self::default() };
            return false;
        }
        if !is_folded {
            let name = heading.map_or(HeaderName::Other, |heading| heading.name);
            self.names_type = name == HeaderName::ContentType;
        }
        if self.names_type {
            let value = heading.map_or(0, |heading| heading.colon + 1);
            self.is_keys = is_type_of_keys(line.get(value..).unwrap_or_default());
        }
        false
    }
}

/// The subtype is `dtmf`, whatever stands around it. `dtmf-relay` names what is a key.
fn is_type_of_keys(value: &[u8]) -> bool {
    let kind = value.split(|&byte| byte == b';').next().unwrap_or_default();
    let subtype = without_blanks(kind.rsplit(|&byte| byte == b'/').next().unwrap_or_default());
    subtype.eq_ignore_ascii_case(b"dtmf")
}

/// How long the first line is, its end included: CRLF, LF or CR.
fn line_length(text: &[u8]) -> usize {
    match memchr2(b'\r', b'\n', text) {
        Some(at) if text.get(at..at + 2) == Some(b"\r\n") => at + 2,
        Some(at) => at + 1,
        None => text.len(),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Hide {
    Nothing,
    Digest,
    Value,
}

/// The beginning of a line that may be a header's.
#[derive(Clone, Copy)]
struct Heading {
    /// Where its first colon is.
    colon: usize,
    /// What stands before it where that says something about secrets, else [`HeaderName::Other`].
    name: HeaderName,
}

impl Heading {
    fn of(line: &[u8]) -> Option<Self> {
        let colon = memchr(b':', line)?;
        let text = name_before(line, colon);
        // Most are told by their first letter.
        if !matches!(text.first(), Some(b'A' | b'a' | b'C' | b'c' | b'P' | b'p')) {
            return Some(Self { colon, name: HeaderName::Other });
        }
        let is_spelt = |name: &HeaderName| {
            text.eq_ignore_ascii_case(name.as_str().as_bytes())
                || text.eq_ignore_ascii_case(name.compact().as_bytes())
        };
        let name = TELLING.into_iter().find(is_spelt).unwrap_or(HeaderName::Other);
        Some(Self { colon, name })
    }

    fn hides(self, line: &[u8], is_secret: &dyn Fn(&[u8]) -> bool) -> Hide {
        if is_secret(name_before(line, self.colon)) {
            return Hide::Value;
        }
        match self.name {
            HeaderName::Authorization | HeaderName::ProxyAuthorization => Hide::Digest,
            _ => Hide::Nothing,
        }
    }
}

fn name_before(line: &[u8], colon: usize) -> &[u8] {
    line.get(..colon).unwrap_or_default().trim_ascii()
}

/// `heading` is none for a line that goes on with the one before.
fn mask_header(line: &mut [u8], hide: Hide, heading: Option<Heading>) {
    if hide == Hide::Nothing {
        return;
    }
    let value = heading.map_or(0, |heading| heading.colon + 1);
    let Some(value) = line.get_mut(value..) else { return };
    match hide {
        Hide::Nothing => (),
        Hide::Value => stars(value),
        Hide::Digest => mask_digest(value, heading.is_some()),
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

/// RFC 4568 §9.1: the key is what follows `inline:`. RFC 8866 §5.12: `k=` is a key as well. As widely as
/// the parser of session descriptions reads: in any case, with blanks and NULs around the names.
fn mask_body(line: &mut [u8]) {
    // Most lines are told by their first letter.
    if !matches!(after_blanks(line).first(), Some(b'A' | b'a' | b'K' | b'k' | b'S' | b's')) {
        return;
    }
    if let Some(at) = key_pressed(line) {
        return stars(line.get_mut(at..).unwrap_or(&mut []));
    }
    let Some((kind, value)) = attribute(line) else { return };
    let name = value.split(|&byte| byte == b':').next().unwrap_or_default();
    let name = without_blanks(name);
    let is_attribute = kind.eq_ignore_ascii_case(&b'a')
        && [&b"crypto"[..], b"key-mgmt"].iter().any(|key| name.eq_ignore_ascii_case(key));
    if !is_attribute && !kind.eq_ignore_ascii_case(&b'k') {
        return;
    }
    let value_at = line.len() - value.len();
    let inline = value.windows(7).position(|part| part.eq_ignore_ascii_case(b"inline:"));
    let from = match inline.filter(|_| is_attribute) {
        Some(at) => value_at + at + 7,
        None if is_attribute => {
            value.iter().position(|&byte| byte == b':').map_or(value_at, |at| value_at + at + 1)
        }
        None => value_at,
    };
    stars(line.get_mut(from..).unwrap_or(&mut []));
}

/// Where a line of `application/dtmf-relay` names the key that is pressed: of many it may be a card's number.
fn key_pressed(line: &[u8]) -> Option<usize> {
    let text = after_blanks(line);
    let (name, rest) = text.split_at_checked(b"signal".len())?;
    let is_key = name.eq_ignore_ascii_case(b"signal");
    let value = after_blanks(rest).strip_prefix(b"=").filter(|_| is_key)?;
    Some(line.len() - value.len())
}

/// The letter of a line of a session description, and what follows its equals sign to the line's end.
fn attribute(line: &[u8]) -> Option<(u8, &[u8])> {
    let (kind, rest) = after_blanks(line).split_first()?;
    Some((*kind, after_blanks(rest).strip_prefix(b"=")?))
}

fn after_blanks(text: &[u8]) -> &[u8] {
    let blanks = text.iter().take_while(|&&byte| is_blank(byte)).count();
    text.get(blanks..).unwrap_or_default()
}

fn without_blanks(text: &[u8]) -> &[u8] {
    let text = after_blanks(text);
    let end = text.iter().rposition(|&byte| !is_blank(byte)).map_or(0, |last| last + 1);
    text.get(..end).unwrap_or_default()
}

const fn is_blank(byte: u8) -> bool {
    byte == 0 || byte.is_ascii_whitespace()
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

    fn is_token(name: &[u8]) -> bool {
        name.eq_ignore_ascii_case(b"X-Trunk-Token")
    }

    #[track_caller]
    fn check(message: &str, expected: &str) {
        let masked = masked(Bytes::copy_from_slice(message.as_bytes()), &is_token);
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
    fn keys_that_are_pressed_are_hidden() {
        check(
            "INFO sip:h SIP/2.0\r\nSubject: Signal=5\r\n\r\nSignal=5\r\nDuration=160\r\n",
            "INFO sip:h SIP/2.0\r\nSubject: Signal=5\r\n\r\nSignal=*\r\nDuration=160\r\n",
        );
        check("X\r\n\r\n signal = #\n", "X\r\n\r\n signal = *\n");
    }

    #[test]
    fn keys_that_nothing_names_are_hidden_by_the_type_of_their_content() {
        for kind in [
            "Content-Type: application/dtmf",
            "content-type : Application/DTMF;charset=utf-8",
            "c: application/dtmf ",
            "Content-Type: application / dtmf",
            "Content-Type:\r\n application/dtmf",
            "Content-Type: audio/\r\n dtmf",
        ] {
            for end in ["\r\n", "\n", "\r"] {
                let head = format!("INFO sip:h SIP/2.0{end}{kind}{end}Content-Length: 1{end}{end}");
                check(&format!("{head}5"), &format!("{head}*"));
                check(&format!("{head}5{end}#"), &format!("{head}*{end}*"));
            }
        }
        check(
            "X\r\nContent-Type: multipart/mixed;boundary=p\r\n\r\n--p\r\nContent-Type: application/dtmf\r\n\r\n\
             5\r\n--p\r\nContent-Type: text/plain\r\n\r\n5\r\n--p--\r\n",
            "X\r\nContent-Type: multipart/mixed;boundary=p\r\n\r\n--p\r\nContent-Type: application/dtmf\r\n\r\n\
             *\r\n--p\r\nContent-Type: text/plain\r\n\r\n5\r\n--p--\r\n",
        );
        for other in ["Content-Type: text/plain", "X-Type: application/dtmf", "Subject: dtmf"] {
            let message = format!("X\r\n{other}\r\n\r\n5\r\n");
            check(&message, &message);
        }
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
    fn keys_are_hidden_in_every_spelling_that_works() {
        for line in
            ["A=crypto:", "a = crypto:", "a=CRYPTO:", "a=crypto :", "\0a=\0crypto:", " a=crypto:"]
        {
            for end in ["\r\n", "\n", "\r"] {
                let before = format!("X\r\n\r\nv=0{end}{line}1 AES_CM_128_HMAC_SHA1_80 ");
                let hidden = format!("{before}inline:******{end}a=sendrecv{end}");
                check(&format!("{before}inline:QUJDRA{end}a=sendrecv{end}"), &hidden);
            }
        }
        check("X\r\n\r\nK = clear:abc\rt=0 0\r", "X\r\n\r\nK = *********\rt=0 0\r");
        // A line of blanks is not the end of a head, nor does a head end what may be hidden.
        check(
            "X\r\nSubject: a\r\n \r\nX-Trunk-Token: b\r\n\r\n--part\r\nX-Trunk-Token: c\rd\r\n",
            "X\r\nSubject: a\r\n \r\nX-Trunk-Token: *\r\n\r\n--part\r\nX-Trunk-Token: *\r*\r\n",
        );
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
            assert_eq!(masked(Bytes::from_static(odd.as_bytes()), &is_token).len(), odd.len());
        }
        assert_eq!(&masked(Bytes::from_static(b"\xff\0\xfe"), &is_token)[..], b"\xff\0\xfe");
    }

    #[test]
    fn what_tells_of_secrets_begins_with_few_letters() {
        for name in TELLING.into_iter().flat_map(|name| [name.as_str(), name.compact()]) {
            for line in [format!("{name}: x"), format!("{}: x", name.to_lowercase())] {
                let heading = Heading::of(line.as_bytes());
                assert!(heading.is_some_and(|it| it.name != HeaderName::Other), "{line}");
            }
        }
    }

    #[test]
    fn what_others_have_stays_as_it_was() {
        let message = Bytes::copy_from_slice(b"X\r\nX-Trunk-Token: s3cret\r\n\r\n");
        let hidden = masked(message.clone(), &is_token);
        assert_eq!(&message[..], b"X\r\nX-Trunk-Token: s3cret\r\n\r\n");
        assert_eq!(&hidden[..], b"X\r\nX-Trunk-Token: ******\r\n\r\n");
        let place = message.as_ptr();
        assert_eq!(masked(message, &is_token).as_ptr(), place, "nobody else has it any more");
    }
}
