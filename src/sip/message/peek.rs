//! Cheap looks at a message before it is parsed: its kind, and its Call-ID for the choice of a shard.

use crate::sip::message::lexis;
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
    let mut rest = skip_line_ends(datagram);
    loop {
        rest = rest.get(memchr(b'\n', rest)? + 1..)?;
        if let [b'\n', ..] | [b'\r', b'\n', ..] = rest {
            return None;
        }
        if !matches!(rest.first(), Some(b'i' | b'I' | b'c' | b'C')) {
            continue;
        }
        let name_len = rest.iter().position(|&byte| !lexis::is_token_byte(byte))?;
        let (name, after) = rest.split_at_checked(name_len)?;
        if !name.eq_ignore_ascii_case(b"i") && !name.eq_ignore_ascii_case(b"call-id") {
            continue;
        }
        if let [b':', value @ ..] = after.trim_ascii_start() {
            let value = lexis::trim(value.get(..value_len(value))?);
            return (!value.is_empty()).then_some(value);
        }
    }
}

/// Up to the end of the line, continuations included.
fn value_len(text: &[u8]) -> usize {
    let mut from = 0;
    while let Some(found) = text.get(from..).and_then(|rest| memchr(b'\n', rest)) {
        let next = from + found + 1;
        if !text.get(next).is_some_and(|&byte| lexis::is_space(byte)) {
            return from + found;
        }
        from = next;
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
        ] {
            assert_eq!(call_id_of(text.as_bytes()), Some(&b"a@b"[..]), "{text:?}");
        }
        for text in ["", "i: a", "X\r\n\r\ni: a\r\n", "X\r\ni:\r\n\r\n", "X\r\nIdentity: a\r\n\r\n"]
        {
            assert_eq!(call_id_of(text.as_bytes()), None, "{text:?}");
        }
    }
}
