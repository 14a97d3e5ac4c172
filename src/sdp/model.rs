//! A session description as it came: its lines, in order and verbatim, and how to look things up.
#![warn(clippy::indexing_slicing)]

use std::fmt;
use std::ops::Range;

use crate::sdp::attribute::Connection;
use crate::sdp::attribute::RtpMap;
use crate::sdp::attribute::format_of;
use crate::sdp::attribute::number;
use crate::sdp::attribute::tokens;
use crate::sdp::attribute::trimmed;
use crate::sdp::attribute::trimmed_start;
use crate::sdp::crypto::is_secret;
use crate::sdp::plan::Direction;
use crate::types::codec::PayloadType;
use crate::types::limit::SDP_FORMATS_MAX;

/// A session description (RFC 8866). Nothing it says is lost: unknown lines, formats and attributes
/// stay as they came.
#[derive(Clone)]
pub struct SessionDescription {
    pub(super) text: Vec<u8>,
    pub(super) lines: Vec<Span>,
    /// Index of each `m=` line.
    pub(super) media: Vec<usize>,
}

/// Where a line's value is in the text.
#[derive(Clone)]
pub(super) struct Span {
    pub(super) kind: u8,
    pub(super) value: Range<usize>,
}

/// One line, such as `a=sendrecv`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Line<'a> {
    /// The letter before the equals sign.
    pub kind: u8,
    /// What follows it, without surrounding white space. Any bytes but CR and LF.
    pub value: &'a [u8],
}

/// The lines of the session level, or of one media description.
#[derive(Clone, Copy)]
pub struct Section<'a> {
    text: &'a [u8],
    spans: &'a [Span],
}

/// One media description: an `m=` line and what belongs to it.
#[derive(Clone, Copy)]
pub struct Media<'a> {
    /// `audio`, `video`, `image` ...
    pub kind: &'a [u8],
    /// The port; `None` when it is missing or no port number.
    pub port: Option<u16>,
    /// `RTP/AVP` and such; empty when missing.
    pub protocol: &'a [u8],
    /// The formats, as written.
    pub formats: &'a [u8],
    /// The lines below the `m=` line.
    pub section: Section<'a>,
    session: Section<'a>,
}

impl Media<'_> {
    /// Whether its writer asks to be told how well it is heard: `a=rtcp-xr` names what it wants, for a stream or for
    /// all of them (RFC 3611 §5.1).
    #[must_use]
    pub fn asks_metrics(&self) -> bool {
        let wants = |section: Section<'_>| {
            let value = section.attribute("rtcp-xr").unwrap_or_default();
            tokens(value).any(|word| word.eq_ignore_ascii_case(b"voip-metrics"))
        };
        wants(self.section) || wants(self.session)
    }
}

impl SessionDescription {
    /// Whether this was read from `body`.
    #[must_use]
    pub fn is_of(&self, body: &[u8]) -> bool {
        self.text == body
    }

    /// The lines before the first `m=`.
    #[must_use]
    pub fn session(&self) -> Section<'_> {
        self.section(0..self.media.first().copied().unwrap_or(self.lines.len()))
    }

    /// The media descriptions, in order.
    pub fn media(&self) -> impl Iterator<Item = Media<'_>> {
        let ends = self.media.iter().skip(1).copied().chain([self.lines.len()]);
        self.media.iter().zip(ends).map(|(start, end)| self.media_at(*start, end))
    }

    fn media_at(&self, start: usize, end: usize) -> Media<'_> {
        let heading = self.section(start..start + 1);
        let value = heading.lines().next().map_or(&[][..], |line| line.value);
        let (kind, rest) = token(value);
        let (port, rest) = token(rest);
        let (protocol, formats) = token(rest);
        let port = port.split(|byte| *byte == b'/').next().unwrap_or_default();
        Media {
            kind,
            port: number(port).and_then(|port| u16::try_from(port).ok()),
            protocol,
            formats: trimmed(formats),
            section: self.section(start + 1..end),
            session: self.session(),
        }
    }

    fn section(&self, range: Range<usize>) -> Section<'_> {
        Section { text: &self.text, spans: self.lines.get(range).unwrap_or_default() }
    }

    pub(super) fn all(&self) -> Section<'_> {
        self.section(0..self.lines.len())
    }
}

impl PartialEq for SessionDescription {
    fn eq(&self, other: &Self) -> bool {
        self.all().lines().eq(other.all().lines())
    }
}

impl Eq for SessionDescription {}

impl fmt::Debug for SessionDescription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.all().lines()).finish()
    }
}

impl fmt::Debug for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if is_secret(self.kind, self.value) {
            return write!(f, "{}=***", char::from(self.kind));
        }
        write!(f, "{}={}", char::from(self.kind), self.value.escape_ascii())
    }
}

impl<'a> Section<'a> {
    /// The lines, in order.
    pub fn lines(self) -> impl Iterator<Item = Line<'a>> {
        let text = self.text;
        self.spans.iter().map(move |span| Line {
            kind: span.kind,
            value: text.get(span.value.clone()).unwrap_or_default(),
        })
    }

    /// The values of the attribute `name`, in order; empty for a bare `a=name`.
    pub fn attributes(self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        self.lines().filter(|line| line.kind == b'a').filter_map(move |line| {
            // The name is compared before its end is looked for: most lines are others.
            let (found, rest) = trimmed_start(line.value).split_at_checked(name.len())?;
            if !found.eq_ignore_ascii_case(name.as_bytes()) {
                return None;
            }
            match trimmed_start(rest) {
                [] => Some(&[][..]),
                [b':', value @ ..] => Some(trimmed(value)),
                _ => None,
            }
        })
    }

    /// The first value of the attribute `name`.
    #[must_use]
    pub fn attribute(self, name: &str) -> Option<&'a [u8]> {
        self.attributes(name).next()
    }

    /// The direction attribute.
    #[must_use]
    pub fn direction(self) -> Option<Direction> {
        self.lines()
            .filter(|line| line.kind == b'a')
            .find_map(|line| Direction::from_name(line.value))
    }

    /// The first `c=` line.
    #[must_use]
    pub fn connection(self) -> Option<Connection> {
        self.lines().find(|line| line.kind == b'c').map(|line| Connection::read(line.value))
    }
}

impl<'a> Media<'a> {
    /// The formats, in order; at most [`SDP_FORMATS_MAX`].
    pub fn format_list(self) -> impl Iterator<Item = &'a [u8]> {
        tokens(self.formats).take(SDP_FORMATS_MAX)
    }

    /// Where media goes: the connection of this level, else of the session. `None` without any.
    #[must_use]
    pub fn connection(self) -> Option<Connection> {
        self.section.connection().or_else(|| self.session.connection())
    }

    /// The direction of this level, else of the session, else both ways (RFC 8866 §6.7).
    #[must_use]
    pub fn direction(self) -> Direction {
        let said = self.section.direction().or_else(|| self.session.direction());
        said.unwrap_or(Direction::SendReceive)
    }

    /// The first readable `a=rtpmap` of a payload type.
    #[must_use]
    pub fn rtpmap(self, payload_type: PayloadType) -> Option<RtpMap<'a>> {
        let is_of = |value: &&[u8]| format_of(value) == Some(payload_type);
        self.section.attributes("rtpmap").filter(is_of).find_map(RtpMap::read)
    }

    /// What follows the payload type in its `a=fmtp` line; empty without one.
    #[must_use]
    pub fn format_parameters(self, payload_type: PayloadType) -> &'a [u8] {
        let of_type = |value: &'a [u8]| {
            let (format, rest) = token(value);
            (number(format) == Some(payload_type.get().into())).then_some(rest)
        };
        self.section.attributes("fmtp").find_map(of_type).unwrap_or_default()
    }

    /// The number in `a=name:`, of this level, else of the session.
    #[must_use]
    pub fn number(self, name: &str) -> Option<u64> {
        let value = self.section.attribute(name).or_else(|| self.session.attribute(name))?;
        // Some write `20.0` or `20 ms`.
        number(value.split(|byte| !byte.is_ascii_digit()).next().unwrap_or_default())
    }
}

/// The first token of `value`, and the rest.
fn token(value: &[u8]) -> (&[u8], &[u8]) {
    let value = trimmed(value);
    let end = value.iter().position(|byte| matches!(byte, b' ' | b'\t' | 0)).unwrap_or(value.len());
    value.split_at_checked(end).unwrap_or((value, &[]))
}

#[cfg(test)]
mod tests {
    use crate::sdp::parse::parse;

    #[test]
    fn a_key_does_not_print() {
        let body = b"v=0\nk=clear:hush\nm=audio 4000 RTP/SAVP 0\na=crypto:1 X inline:hush|2^20\n";
        let shown = format!("{:?}", parse(body).unwrap());
        assert_eq!(shown, "[v=0, k=***, m=audio 4000 RTP/SAVP 0, a=***]");
    }
}
