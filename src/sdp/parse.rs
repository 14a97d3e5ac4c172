//! From bytes to a session description, whatever they look like.
#![warn(clippy::indexing_slicing)]

use crate::sdp::attribute::trimmed;
use crate::sdp::attribute::trimmed_start;
use crate::sdp::model::SessionDescription;
use crate::sdp::model::Span;
use crate::types::limit::SDP_LINES_MAX;
use crate::types::limit::SDP_MEDIA_MAX;

/// A body that cannot be a session description.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{kind} at byte {offset}")]
pub struct ParseError {
    /// Where in the body.
    pub offset: usize,
    /// What is wrong.
    pub kind: ParseErrorKind,
}

/// What is wrong with a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseErrorKind {
    /// Not one line of the form `x=...`.
    #[error("no line of a session description")]
    NoLines,
    /// More media descriptions than we answer.
    #[error("too many media descriptions")]
    TooManyMedia,
}

/// Reads a body.
///
/// Lines may end in CRLF, LF or CR; blank ones, blanks and NULs around values, missing lines, lines in
/// the wrong order and bytes that are no UTF-8 do no harm. A line that has no equals sign after its
/// letter is left out, and so is what comes after [`SDP_LINES_MAX`] lines.
///
/// # Errors
/// When there is no line at all, or more than [`SDP_MEDIA_MAX`] media descriptions.
pub fn parse(body: &[u8]) -> Result<SessionDescription, ParseError> {
    let mut lines = Vec::with_capacity(24);
    let mut media = Vec::new();
    let mut offset = 0;
    for raw in body.split(|byte| matches!(byte, b'\r' | b'\n')) {
        if let Some(span) = read_line(raw, offset) {
            if lines.len() == SDP_LINES_MAX {
                break;
            }
            if span.kind == b'm' {
                if media.len() == SDP_MEDIA_MAX {
                    return Err(ParseError { offset, kind: ParseErrorKind::TooManyMedia });
                }
                media.push(lines.len());
            }
            lines.push(span);
        }
        offset += raw.len() + 1;
    }
    if lines.is_empty() {
        return Err(ParseError { offset: 0, kind: ParseErrorKind::NoLines });
    }
    Ok(SessionDescription { text: body.to_vec(), lines, media })
}

/// The span of one line, whose first byte is at `offset`.
fn read_line(raw: &[u8], offset: usize) -> Option<Span> {
    let (kind, rest) = trimmed_start(raw).split_first()?;
    if !kind.is_ascii_alphabetic() {
        return None;
    }
    let value = trimmed_start(trimmed_start(rest).strip_prefix(b"=")?);
    let start = offset + (raw.len() - value.len());
    let end = start + trimmed(value).len();
    Some(Span { kind: kind.to_ascii_lowercase(), value: start..end })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Parses and compares the lines that were kept.
    fn check(body: &[u8], expected: &[&str]) {
        let parsed = parse(body).unwrap();
        let lines: Vec<String> = parsed.all().lines().map(|line| format!("{line:?}")).collect();
        assert_eq!(lines, expected, "{}", body.escape_ascii());
    }

    #[test]
    fn line_ends_and_blanks_are_taken_as_they_come() {
        check(b"v=0\r\ns=-\r\n", &["v=0", "s=-"]);
        check(b"v=0\ns=-\n", &["v=0", "s=-"]);
        check(b"v=0\rs=-", &["v=0", "s=-"]);
        check(b"\r\n\r\n v = 0 \r\n\r\n\ts=\0-\0\0", &["v=0", "s=-"]);
        check(b"v=0\r\nnonsense\r\n=x\r\ns=\r\n9=1\r\n\0\0\0", &["v=0", "s="]);
        check(b"s=\xff\x00\xfe\n", &["s=\\xff\\x00\\xfe"]);
    }

    #[test]
    fn only_a_body_without_lines_or_with_too_many_streams_is_refused() {
        for body in [&b""[..], b"\r\n", b"garbage", b"\0\0\0", b"{\"v\":0}"] {
            assert_eq!(parse(body).unwrap_err().kind, ParseErrorKind::NoLines);
        }
        let stream = "m=audio 0 RTP/AVP 0\n";
        assert!(parse(stream.repeat(SDP_MEDIA_MAX).as_bytes()).is_ok());
        let error = parse(stream.repeat(SDP_MEDIA_MAX + 1).as_bytes()).unwrap_err();
        let offset = SDP_MEDIA_MAX * stream.len();
        assert_eq!(error, ParseError { offset, kind: ParseErrorKind::TooManyMedia });
    }

    #[test]
    fn lines_past_the_limit_are_left_out() {
        let body = "a=x\n".repeat(SDP_LINES_MAX + 10);
        assert_eq!(parse(body.as_bytes()).unwrap().lines.len(), SDP_LINES_MAX);
    }

    #[test]
    fn lines_belong_to_the_stream_above_them() {
        let body = b"v=0\na=session\nm=audio 1 RTP/AVP 0\na=one\nm=image 2/4 udptl t38\na=two\n";
        let parsed = parse(body).unwrap();
        assert!(parsed.session().attribute("session").is_some());
        assert!(parsed.session().attribute("one").is_none());
        let media: Vec<_> = parsed.media().collect();
        assert_eq!(media.len(), 2);
        assert!(media[0].section.attribute("one").is_some());
        assert!(media[0].section.attribute("two").is_none());
        assert_eq!(media[1].kind, b"image");
        assert_eq!(media[1].port, Some(2));
        assert_eq!(media[1].protocol, b"udptl");
        assert_eq!(media[1].format_list().collect::<Vec<_>>(), [b"t38"]);
    }

    #[test]
    fn an_m_line_may_lack_anything() {
        let parsed =
            parse(b"m=\nm=audio\nm=audio x RTP/AVP\nm=audio 65536 RTP/AVP 0 \xff").unwrap();
        let media: Vec<_> = parsed.media().collect();
        assert!(media[0].kind.is_empty() && media[0].port.is_none());
        assert!(media[1].protocol.is_empty());
        assert!(media[2].port.is_none() && media[2].format_list().next().is_none());
        assert!(media[3].port.is_none());
        assert_eq!(media[3].format_list().nth(1), Some(&b"\xff"[..]));
    }

    proptest! {
        #[test]
        fn any_bytes_are_parsed_or_refused(body in proptest::collection::vec(any::<u8>(), 0..400)) {
            crate::sdp::exercise(&body);
        }

        #[test]
        fn parse_of_write_is_identity(body in "([a-z ]=[ -~\t]{0,20}(\r\n|\n|\r)){0,20}") {
            if let Ok(parsed) = parse(body.as_bytes()) {
                prop_assert_eq!(parse(&parsed.write()), Ok(parsed));
            }
        }
    }
}
