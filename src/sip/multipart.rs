//! Multipart bodies: finds the session description among ISUP, PIDF and other parts (RFC 5621,
//! RFC 2046 §5.1, RFC 3204).
#![warn(clippy::indexing_slicing)]

use crate::sip::message::header::content_type::ContentType;
use crate::sip::message::name::HeaderName;
use crate::sip::message::param::Params;
use crate::sip::message::param::unquote;
use crate::sip::message::peek::HeaderLines;
use crate::types::limit::SIP_MULTIPART_DEPTH_MAX;
use crate::types::limit::SIP_MULTIPART_PARTS_MAX;
use bytes::Bytes;
use memchr::memchr;
use memchr::memmem;

/// One leaf of a multipart body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Content-Type as written; `text/plain` where there was none (RFC 2046 §5.2).
    pub content_type: Bytes,
    /// Content-Disposition as written; empty where there was none.
    pub disposition: Bytes,
    /// The content.
    pub body: Bytes,
}

impl Part {
    /// True for this media type.
    #[must_use]
    pub fn is(&self, kind: &str, subtype: &str) -> bool {
        ContentType::parse(&self.content_type).is_ok_and(|found| found.is(kind, subtype))
    }

    /// True when the sender says in so many words that the part must be understood.
    #[must_use]
    pub fn is_required(&self) -> bool {
        let at = memchr(b';', &self.disposition).unwrap_or(self.disposition.len());
        let params = Params::new(self.disposition.get(at..).unwrap_or(&[]));
        params.unquoted("handling").is_some_and(|value| value.eq_ignore_ascii_case(b"required"))
    }
}

/// The body cannot be used; the answer is 415.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MultipartError {
    /// The Content-Type cannot be read.
    #[error("Content-Type cannot be read")]
    ContentType,
    /// A multipart type without boundary.
    #[error("multipart body without a boundary")]
    NoBoundary,
    /// Multipart within multipart, too often.
    #[error("multipart body nested too deeply")]
    TooDeep,
    /// Too many parts.
    #[error("multipart body of too many parts")]
    TooManyParts,
    /// A part of unknown type that must be understood.
    #[error("a required part of unknown type")]
    RequiredPart,
    /// A type that carries no session description.
    #[error("a body without a session description")]
    NoDescription,
}

/// The session description of a body: the body itself, or the first such part.
///
/// An empty body has none. ISUP and QSIG parts are tolerated even where they are required.
///
/// # Errors
/// [`MultipartError`], to be answered 415.
pub fn session_description(
    content_type: Option<&[u8]>,
    body: &Bytes,
) -> Result<Option<Bytes>, MultipartError> {
    if body.is_empty() {
        return Ok(None);
    }
    // RFC 3261 §20.15: a body without a type cannot be understood.
    let value = content_type.ok_or(MultipartError::ContentType)?;
    let kind = ContentType::parse(value).map_err(|_| MultipartError::ContentType)?;
    if kind.is_sdp() {
        return Ok(Some(body.clone()));
    }
    if !kind.is_multipart() {
        return Err(MultipartError::NoDescription);
    }
    let parts = parts(value, body)?;
    let is_known = |part: &Part| {
        part.is("application", "sdp")
            || part.is("application", "isup")
            || part.is("application", "qsig")
    };
    if parts.iter().any(|part| part.is_required() && !is_known(part)) {
        return Err(MultipartError::RequiredPart);
    }
    let description = parts.into_iter().find(|part| part.is("application", "sdp"));
    description.map(|part| Some(part.body)).ok_or(MultipartError::NoDescription)
}

/// The leaves of a multipart body, in order.
///
/// # Errors
/// When a boundary is missing, or depth or number go beyond the limits.
pub fn parts(content_type: &[u8], body: &Bytes) -> Result<Vec<Part>, MultipartError> {
    let mut found = Vec::new();
    collect(content_type, body, 1, &mut found)?;
    Ok(found)
}

fn collect(
    content_type: &[u8],
    body: &Bytes,
    depth: usize,
    found: &mut Vec<Part>,
) -> Result<(), MultipartError> {
    if depth > SIP_MULTIPART_DEPTH_MAX {
        return Err(MultipartError::TooDeep);
    }
    let kind = ContentType::parse(content_type).map_err(|_| MultipartError::ContentType)?;
    let boundary = kind.params().get("boundary").map(unquote);
    let boundary = boundary.filter(|text| !text.is_empty()).ok_or(MultipartError::NoBoundary)?;
    let delimiter = [b"--", boundary.as_ref()].concat();
    let mut cutter = Cutter { rest: body, delimiter: &delimiter };
    cutter.skip_preamble();
    while let Some(text) = cutter.next_part() {
        let part = read_part(body, text);
        if found.len() == SIP_MULTIPART_PARTS_MAX {
            return Err(MultipartError::TooManyParts);
        }
        match ContentType::parse(&part.content_type) {
            Ok(kind) if kind.is_multipart() => {
                collect(&part.content_type, &part.body, depth + 1, found)?;
            }
            _ => found.push(part),
        }
    }
    Ok(())
}

fn read_part(whole: &Bytes, text: &[u8]) -> Part {
    let mut content_type = Bytes::from_static(b"text/plain");
    let mut disposition = Bytes::new();
    let mut lines = HeaderLines::new(text);
    for (name, value) in lines.by_ref() {
        match HeaderName::from_bytes(name) {
            HeaderName::ContentType => content_type = whole.slice_ref(value),
            HeaderName::ContentDisposition => disposition = whole.slice_ref(value),
            _ => {}
        }
    }
    let body = match lines.rest() {
        [b'\r', b'\n', body @ ..] | [b'\n', body @ ..] => body,
        body => body,
    };
    Part { content_type, disposition, body: whole.slice_ref(body) }
}

/// Cuts a body at its delimiter lines.
struct Cutter<'a> {
    rest: &'a [u8],
    delimiter: &'a [u8],
}

impl<'a> Cutter<'a> {
    fn skip_preamble(&mut self) {
        match self.find() {
            Some((_, after)) => self.rest = after,
            None => self.rest = &[],
        }
    }

    /// The next part, whose delimiter line was read before; `None` after the last one.
    fn next_part(&mut self) -> Option<&'a [u8]> {
        // Behind a delimiter: two hyphens close the body, else the line ends.
        if self.rest.is_empty() || self.rest.starts_with(b"--") {
            return None;
        }
        let start = memchr(b'\n', self.rest)? + 1;
        self.rest = self.rest.get(start..)?;
        // A body cut off before its last delimiter ends with the datagram.
        let (part, after) = self.find().unwrap_or((self.rest, &[]));
        self.rest = after;
        Some(part)
    }

    /// What is before the next delimiter, without the line end that belongs to it, and behind it.
    fn find(&self) -> Option<(&'a [u8], &'a [u8])> {
        for at in memmem::find_iter(self.rest, self.delimiter) {
            let before = self.rest.get(..at)?;
            let after = self.rest.get(at + self.delimiter.len()..)?;
            let ends = matches!(after, [] | [b'-', b'-', ..] | [b' ' | b'\t' | b'\r' | b'\n', ..]);
            match before {
                _ if !ends => {}
                [] => return Some((&[], after)),
                [part @ .., b'\r', b'\n'] | [part @ .., b'\n'] => return Some((part, after)),
                _ => {}
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TYPE: &[u8] = b"multipart/mixed; boundary=\"b 1\"";

    fn description(body: &str) -> Result<Option<Bytes>, MultipartError> {
        session_description(Some(TYPE), &Bytes::copy_from_slice(body.as_bytes()))
    }

    #[test]
    fn sdp_is_found_beside_isup() {
        let body = "preamble\r\n--b 1\r\nContent-Type: application/ISUP;version=itu-t92+\r\n\
            Content-Disposition: signal;handling=required\r\n\r\n\u{1}\u{2}--b 1\u{3}\r\n--b 1  \r\n\
            content-type : application/SDP\r\n\r\nv=0\r\no=-\r\n\r\n--b 1--\r\nepilogue";
        assert_eq!(description(body), Ok(Some(Bytes::from_static(b"v=0\r\no=-\r\n"))));
        let parts = parts(TYPE, &Bytes::copy_from_slice(body.as_bytes())).unwrap();
        assert_eq!(parts.len(), 2);
        assert!(parts[0].is("application", "isup") && parts[0].is_required());
        assert_eq!(parts[0].body.as_ref(), b"\x01\x02--b 1\x03");
    }

    #[test]
    fn bare_lf_and_a_missing_last_delimiter_are_accepted() {
        let body = "--b 1\nContent-Type: text/plain\n\nx\n--b 1\nc: application/sdp\n\nv=0\n";
        assert_eq!(description(body), Ok(Some(Bytes::from_static(b"v=0\n"))));
    }

    #[test]
    fn a_part_may_be_multipart_down_to_depth_3() {
        let nest = |inner: &str, boundary: &str| {
            format!(
                "--{boundary}\r\nContent-Type: multipart/mixed;boundary={boundary}x\r\n\r\n\
                {inner}\r\n--{boundary}--\r\n"
            )
        };
        let sdp = |boundary: &str| {
            format!("--{boundary}\r\nContent-Type: application/sdp\r\n\r\nv=0\r\n--{boundary}--")
        };
        let read = |body: String| {
            session_description(Some(b"multipart/mixed;boundary=b"), &Bytes::from(body))
        };
        let found = Ok(Some(Bytes::from_static(b"v=0")));
        assert_eq!(read(nest(&nest(&sdp("bxx"), "bx"), "b")), found);
        let too_deep = nest(&nest(&nest(&sdp("bxxx"), "bxx"), "bx"), "b");
        assert_eq!(read(too_deep), Err(MultipartError::TooDeep));
    }

    #[test]
    fn unusable_bodies_are_refused() {
        let body = Bytes::from_static(b"--b\r\n\r\nx\r\n--b--");
        let read = |kind: Option<&[u8]>| session_description(kind, &body);
        assert_eq!(read(None), Err(MultipartError::ContentType));
        assert_eq!(read(Some(b"sdp")), Err(MultipartError::ContentType));
        assert_eq!(read(Some(b"text/html")), Err(MultipartError::NoDescription));
        assert_eq!(read(Some(b"multipart/mixed")), Err(MultipartError::NoBoundary));
        assert_eq!(read(Some(b"multipart/mixed;boundary=b")), Err(MultipartError::NoDescription));
        assert_eq!(session_description(None, &Bytes::new()), Ok(None));
        assert_eq!(read(Some(b"application/sdp")), Ok(Some(body.clone())));
        let many = "--b 1\r\n\r\nx\r\n".repeat(SIP_MULTIPART_PARTS_MAX + 1);
        assert_eq!(description(&many), Err(MultipartError::TooManyParts));
    }

    #[test]
    fn a_required_part_of_unknown_type_is_refused() {
        let part = |handling: &str| {
            format!(
                "--b 1\r\nContent-Type: application/pidf+xml\r\nContent-Disposition: render;\
                handling={handling}\r\n\r\n<x/>\r\n--b 1\r\nContent-Type: application/sdp\r\n\r\n\
                v=0\r\n--b 1--\r\n"
            )
        };
        assert_eq!(description(&part("required")), Err(MultipartError::RequiredPart));
        assert_eq!(description(&part("optional")), Ok(Some(Bytes::from_static(b"v=0"))));
    }
}
