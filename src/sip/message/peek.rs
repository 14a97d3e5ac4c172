//! Cheap looks at a message before it is parsed: its kind, and its Call-ID for the choice of a shard.

use crate::sip::message::error::Malformed;
use crate::sip::message::lexis;
use crate::sip::message::name::HeaderName;
use crate::sip::message::span::Span;
use memchr::memchr;

/// What the first line says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FirstLine {
    /// An INVITE.
    Invite,
    /// An ACK, which is never answered.
    Ack,
    /// Any other request.
    Request,
    /// A response.
    Response,
    /// Nothing of SIP: a keep-alive, STUN, garbage.
    Nothing,
}

/// The kind of a message by its first line alone.
#[must_use]
pub fn first_line(datagram: &[u8]) -> FirstLine {
    let text = skip_line_ends(datagram);
    if text.get(..4).is_some_and(|start| start.eq_ignore_ascii_case(b"SIP/")) {
        return FirstLine::Response;
    }
    let method_len = text.iter().position(|&byte| !lexis::is_token_byte(byte));
    let Some((method, [b' ', ..])) = method_len.and_then(|len| text.split_at_checked(len)) else {
        return FirstLine::Nothing;
    };
    match method {
        b"INVITE" => FirstLine::Invite,
        b"ACK" => FirstLine::Ack,
        b"" => FirstLine::Nothing,
        _ => FirstLine::Request,
    }
}

fn skip_line_ends(text: &[u8]) -> &[u8] {
    let start = text.iter().position(|byte| !matches!(byte, b'\r' | b'\n'));
    start.and_then(|start| text.get(start..)).unwrap_or(&[])
}

/// The value of the first Call-ID line, found without a full parse.
#[must_use]
pub fn call_id_of(datagram: &[u8]) -> Option<&[u8]> {
    let is_call_id = |name: &[u8]| match name.first() {
        Some(b'i' | b'I') => name.len() == 1,
        Some(b'c' | b'C') => name.eq_ignore_ascii_case(b"call-id"),
        _ => false,
    };
    let mut rest = skip_line_ends(datagram);
    loop {
        // This is done for every message more than once: most lines are told by their first letter.
        let end = memchr(b'\n', rest)?;
        rest = rest.get(end + 1..)?;
        match rest {
            [] | [b'\n', ..] | [b'\r', b'\n', ..] => return None,
            [b'i' | b'I' | b'c' | b'C', ..] => {}
            _ => continue,
        }
        let line = HeaderLines(rest).next_line()?;
        if let Some((_, value)) = field_of(line).filter(|(name, _)| is_call_id(name)) {
            return (!value.is_empty()).then_some(value);
        }
    }
}

/// Where the first Call-ID line of a message has its value: who hands a message on has looked for it already.
#[derive(Clone, Copy, Debug)]
pub struct CallIdPlace(Span);

impl CallIdPlace {
    /// Finds it, without a full parse.
    #[must_use]
    pub fn find(datagram: &[u8]) -> Self {
        let value = call_id_of(datagram).unwrap_or_default();
        Self(Span::within(datagram, value))
    }

    /// The value in that message; `None` where it has none.
    #[must_use]
    pub fn of(self, datagram: &[u8]) -> Option<&[u8]> {
        Some(self.0.of(datagram)).filter(|value| !value.is_empty())
    }
}

/// The value of the first CSeq line, found without a full parse.
#[must_use]
pub fn cseq_of(datagram: &[u8]) -> Option<&[u8]> {
    let mut lines = HeaderLines::of_message(datagram);
    lines.find(|(name, _)| name.eq_ignore_ascii_case(b"cseq")).map(|(_, value)| value)
}

/// The values of the first Via line, which has the branch, and of the first CSeq line, found without a full parse.
#[must_use]
pub fn via_and_cseq_of(datagram: &[u8]) -> (Option<&[u8]>, Option<&[u8]>) {
    let (mut via, mut cseq) = (None, None);
    for (name, value) in HeaderLines::of_message(datagram) {
        if name.eq_ignore_ascii_case(b"via") || name.eq_ignore_ascii_case(b"v") {
            via = via.or(Some(value));
        } else if name.eq_ignore_ascii_case(b"cseq") {
            cseq = cseq.or(Some(value));
        }
        if via.is_some() && cseq.is_some() {
            break;
        }
    }
    (via, cseq)
}

/// The value of the first User-Agent line, found without a full parse.
#[must_use]
pub fn user_agent_of(datagram: &[u8]) -> Option<&[u8]> {
    let mut lines = HeaderLines::of_message(datagram);
    let (_, value) = lines.find(|(name, _)| name.eq_ignore_ascii_case(b"user-agent"))?;
    (!value.is_empty()).then_some(value)
}

/// Content-Length as the head of a message gives it, found without a full parse.
///
/// # Errors
/// [`Malformed::ContentLength`] when it is no number, [`Malformed::Repeated`] when two differ.
pub fn content_length_of(datagram: &[u8]) -> Result<Option<u64>, Malformed> {
    let mut found: Option<&[u8]> = None;
    for (name, value) in HeaderLines::of_message(datagram) {
        if HeaderName::from_bytes(name) != HeaderName::ContentLength {
            continue;
        }
        if found.is_some_and(|earlier| earlier != value) {
            return Err(Malformed::Repeated);
        }
        found = Some(value);
    }
    let Some(value) = found else { return Ok(None) };
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return Err(Malformed::ContentLength);
    }
    Ok(Some(lexis::number(value).unwrap_or(u64::MAX)))
}

/// Names and values of header lines up to the empty line; continuations are part of the value.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HeaderLines<'a>(&'a [u8]);

impl<'a> HeaderLines<'a> {
    /// The header lines at the start of `text`.
    pub(crate) const fn new(text: &'a [u8]) -> Self {
        Self(text)
    }

    /// The header lines behind the start line of a message.
    pub(crate) fn of_message(datagram: &'a [u8]) -> Self {
        let text = skip_line_ends(datagram);
        let start = memchr(b'\n', text).map_or(text.len(), |end| end + 1);
        Self(text.get(start..).unwrap_or(&[]))
    }

    /// The next line with its continuations; `None` at the empty line.
    fn next_line(&mut self) -> Option<&'a [u8]> {
        if let [] | [b'\n', ..] | [b'\r', b'\n', ..] = self.0 {
            return None;
        }
        let (line, rest) = self.0.split_at_checked(line_len(self.0))?;
        self.0 = rest;
        Some(line)
    }

    /// What follows the lines read so far.
    pub(crate) const fn rest(&self) -> &'a [u8] {
        self.0
    }
}

impl<'a> Iterator for HeaderLines<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(field) = field_of(self.next_line()?) {
                return Some(field);
            }
        }
    }
}

/// Name and value of a header line; `None` of what is none.
fn field_of(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let name_len = line.iter().position(|&byte| !lexis::is_token_byte(byte)).unwrap_or(0);
    let (name, after) = line.split_at_checked(name_len)?;
    match (name_len > 0, after.trim_ascii_start()) {
        (true, [b':', value @ ..]) => Some((name, lexis::trim(value))),
        _ => None,
    }
}

/// Length of the first line with its continuations and its line end.
fn line_len(text: &[u8]) -> usize {
    let mut from = 0;
    while let Some(found) = text.get(from..).and_then(|rest| memchr(b'\n', rest)) {
        from += found + 1;
        if !text.get(from).is_some_and(|&byte| lexis::is_space(byte)) {
            return from;
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_tells_the_kind() {
        for (text, kind) in [
            ("INVITE sip:a SIP/2.0", FirstLine::Invite),
            ("\r\n\r\nACK sip:a SIP/2.0", FirstLine::Ack),
            ("BYE sip:a SIP/2.0", FirstLine::Request),
            ("invite sip:a SIP/2.0", FirstLine::Request),
            ("sip/2.0 200 OK", FirstLine::Response),
            ("\r\n\r\n", FirstLine::Nothing),
            ("", FirstLine::Nothing),
            (" INVITE", FirstLine::Nothing),
            ("\0\u{1}\0\0", FirstLine::Nothing),
        ] {
            assert_eq!(first_line(text.as_bytes()), kind, "{text:?}");
        }
    }

    #[test]
    fn the_call_id_is_found_in_every_spelling() {
        for text in [
            "X sip:a SIP/2.0\r\nContact: y\r\nCall-ID: a@b\r\n\r\n",
            "X sip:a SIP/2.0\ncALL-id \t:\ta@b\n\n",
            "\r\nX sip:a SIP/2.0\r\ni:a@b",
            "X sip:a SIP/2.0\r\nI:\r\n  a@b \r\nVia: z\r\n\r\n",
            "X sip:a SIP/2.0\r\n i: no\r\nCSeq: 1 X\r\n i: no\r\n\tCall-ID: no\r\ni: a@b\r\n\r\n",
        ] {
            let text = text.as_bytes();
            assert_eq!(call_id_of(text), Some(&b"a@b"[..]), "{}", text.escape_ascii());
            assert_eq!(CallIdPlace::find(text).of(text), call_id_of(text));
        }
        for text in ["", "i: a", "X\r\n\r\ni: a\r\n", "X\r\ni:\r\n\r\n", "X\r\nIdentity: a\r\n\r\n"]
        {
            let text = text.as_bytes();
            assert_eq!((call_id_of(text), CallIdPlace::find(text).of(text)), (None, None));
        }
    }

    #[test]
    fn the_first_via_and_cseq_are_found_in_every_spelling() {
        let read = |head: &'static str| via_and_cseq_of(head.as_bytes());
        let found = (Some(&b"one, two"[..]), Some(&b"1 X"[..]));
        assert_eq!(
            read("X sip:a SIP/2.0\r\nVia: one, two\r\nVia: three\r\nCSeq: 1 X\r\n\r\n"),
            found
        );
        assert_eq!(read("X sip:a SIP/2.0\r\ncseq : 1 X\r\nv:one, two\r\nCSeq: 2 X\r\n\r\n"), found);
        assert_eq!(read("X sip:a SIP/2.0\r\nTo: a\r\n\r\nVia: one\r\nCSeq: 1 X"), (None, None));
    }

    #[test]
    fn the_content_length_is_a_number_and_one() {
        let read = |text: &str| content_length_of(format!("X sip:a SIP/2.0\r\n{text}").as_bytes());
        assert_eq!(read("Content-Length: 5\r\nl: 5\r\n\r\nl: 9\r\n"), Ok(Some(5)));
        assert_eq!(read("\r\nl: 9\r\n"), Ok(None));
        assert_eq!(read("l:\r\n 7\r\n\r\n"), Ok(Some(7)));
        assert_eq!(read("l: 1180591620717411303424\r\n\r\n"), Ok(Some(u64::MAX)));
        assert_eq!(read("l: -1\r\n\r\n"), Err(Malformed::ContentLength));
        assert_eq!(read("l: 5\r\nl: 6\r\n\r\n"), Err(Malformed::Repeated));
    }
}
