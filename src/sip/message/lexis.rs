//! Character classes, trimming, numbers and comma lists of the SIP grammar (RFC 3261 §25.1).

use memchr::memchr;
use memchr::memchr3;

/// Bytes of a `token`.
const TOKEN: [bool; 256] = letters_digits_and(b"-.!%*_+`'~");

/// Bytes of a host name and of an IPv4 address.
const HOST: [bool; 256] = letters_digits_and(b".-_");

#[expect(clippy::indexing_slicing, reason = "the compiler evaluates it")]
const fn letters_digits_and(marks: &[u8]) -> [bool; 256] {
    let mut table = [false; 256];
    let mut at = 0;
    while at < 256 {
        let byte = at as u8;
        let mut found = byte.is_ascii_alphanumeric();
        let mut mark = 0;
        while mark < marks.len() {
            found = found || marks[mark] == byte;
            mark += 1;
        }
        table[at] = found;
        at += 1;
    }
    table
}

/// True for a byte of a `token`.
pub(crate) fn is_token_byte(byte: u8) -> bool {
    TOKEN.get(usize::from(byte)).copied().unwrap_or(false)
}

/// True for a `token` of at least one byte.
pub(crate) fn is_token(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(|&byte| is_token_byte(byte))
}

/// True for white space within a line.
pub(crate) const fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

/// `text` without white space (and stray CR) at both ends.
pub(crate) fn trim(text: &[u8]) -> &[u8] {
    text.trim_ascii()
}

/// The decimal number `text` is, nothing else around it; `None` when it is none or does not fit.
pub(crate) fn number(text: &[u8]) -> Option<u64> {
    if text.is_empty() || text.len() > 20 {
        return None;
    }
    text.iter().try_fold(0_u64, |sum, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        sum.checked_mul(10)?.checked_add(digit)
    })
}

/// The parts before and after the first `separator`, which belongs to neither.
pub(crate) fn cut(text: &[u8], separator: u8) -> (&[u8], Option<&[u8]>) {
    match memchr(separator, text) {
        Some(at) => (text.get(..at).unwrap_or(text), text.get(at + 1..)),
        None => (text, None),
    }
}

/// True for a host name, an IPv4 address or an IPv6 address in brackets.
///
/// Underscores pass: they occur in host names of carriers' laboratories.
pub(crate) fn is_host(text: &[u8]) -> bool {
    match text {
        [b'[', inner @ .., b']'] => {
            inner.len() >= 2
                && inner.iter().all(|b| b.is_ascii_hexdigit() || matches!(b, b':' | b'.' | b'%'))
        }
        [] => false,
        _ => text.iter().all(|&byte| HOST.get(usize::from(byte)).is_some_and(|fits| *fits)),
    }
}

/// Splits `host[:port]`. White space may stand around the colon; `None` when either is unreadable.
pub(crate) fn host_port(text: &[u8]) -> Option<(&[u8], Option<u16>)> {
    let host_len = match text.first()? {
        b'[' => memchr(b']', text)? + 1,
        _ => memchr(b':', text).unwrap_or(text.len()),
    };
    let (host, rest) = text.split_at_checked(host_len)?;
    let host = trim(host);
    if !is_host(host) {
        return None;
    }
    match trim(rest) {
        [] => Some((host, None)),
        [b':', port @ ..] => {
            let port = number(trim(port)).and_then(|port| u16::try_from(port).ok())?;
            (port != 0).then_some((host, Some(port)))
        }
        _ => None,
    }
}

/// The index of the closing quote of a quoted string whose opening quote is at `text[0]`.
pub(crate) fn quoted_end(text: &[u8]) -> Option<usize> {
    let mut escaped = true; // The opening quote itself does not close.
    for (at, &byte) in text.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return Some(at),
            _ => {}
        }
    }
    None
}

/// Index of the first `wanted` outside quoted strings and angle brackets.
pub(crate) fn top_level(text: &[u8], wanted: u8) -> Option<usize> {
    // Most values have neither quotes nor brackets before the byte, or do not have it at all.
    let first = memchr(wanted, text)?;
    let head = text.get(..first)?;
    if memchr3(b'"', b'<', b'\\', head).is_none() {
        return Some(first);
    }
    let mut at = 0;
    let mut bracketed = false;
    while let Some(&byte) = text.get(at) {
        match byte {
            b'"' if !bracketed => at += quoted_end(text.get(at..)?)?,
            _ if byte == wanted && !bracketed => return Some(at),
            b'<' => bracketed = true,
            b'>' => bracketed = false,
            _ => {}
        }
        at += 1;
    }
    None
}

/// The entries of a comma list, trimmed; empty ones are left out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct List<'a> {
    rest: Option<&'a [u8]>,
}

impl<'a> List<'a> {
    pub(crate) const fn new(value: &'a [u8]) -> Self {
        Self { rest: Some(value) }
    }
}

impl<'a> Iterator for List<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        loop {
            let text = self.rest?;
            let (entry, rest) = match top_level(text, b',') {
                Some(at) => (text.get(..at).unwrap_or(text), text.get(at + 1..)),
                None => (text, None),
            };
            self.rest = rest;
            let entry = trim(entry);
            if !entry.is_empty() {
                return Some(entry);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_split_at_top_level_commas_only() {
        let entries: Vec<&[u8]> =
            List::new(br#"<sip:a,b@c> , "x, \"y" <sip:d>;p="1,2",, sip:e"#).collect();
        assert_eq!(entries, [&b"<sip:a,b@c>"[..], br#""x, \"y" <sip:d>;p="1,2""#, b"sip:e"]);
    }

    #[test]
    fn hosts_and_ports_are_checked() {
        assert_eq!(host_port(b"a.b-c : 5060"), Some((&b"a.b-c"[..], Some(5060))));
        assert_eq!(host_port(b"[2001:db8::1]:5061"), Some((&b"[2001:db8::1]"[..], Some(5061))));
        assert_eq!(host_port(b"[::1]"), Some((&b"[::1]"[..], None)));
        for bad in ["", "a b", "a:99999999", "a:0", "a:", "[::1", "2001:db8::1", "a:b", "<a>"] {
            assert_eq!(host_port(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn numbers_have_digits_only_and_must_fit() {
        assert_eq!(number(b"0042"), Some(42));
        for bad in ["", "-1", "+1", "1 ", "1180591620717411303424", "4x"] {
            assert_eq!(number(bad.as_bytes()), None, "{bad}");
        }
    }
}
