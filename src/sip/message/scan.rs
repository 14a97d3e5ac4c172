//! The first pass over a message: finds its lines and names its headers, without judging values.

use crate::sip::message::error::Malformed;
use crate::sip::message::lexis;
use crate::sip::message::name::HeaderName;
use crate::sip::message::span::Span;
use crate::sip::message::table::HeaderTable;
use crate::sip::message::table::Line;
use crate::types::limit::SIP_HEADER_BYTES_MAX;
use crate::types::limit::SIP_HEADERS_MAX;
use crate::types::limit::SIP_MESSAGE_BYTES_MAX;
use bytes::Bytes;
use bytes::BytesMut;
use memchr::memchr;

/// What is wrong, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) offset: usize,
    pub(crate) what: Malformed,
}

/// Where the first line of each core header has its value.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Core {
    pub(crate) via: Option<Span>,
    pub(crate) from: Option<Span>,
    pub(crate) to: Option<Span>,
    pub(crate) call_id: Option<Span>,
    pub(crate) cseq: Option<Span>,
    pub(crate) max_forwards: Option<Span>,
    pub(crate) content_length: Option<Span>,
}

/// A message whose lines are known.
#[derive(Clone, Debug)]
pub(crate) struct Scanned {
    pub(crate) start_line: Span,
    pub(crate) table: HeaderTable,
    pub(crate) core: Core,
    /// Where the body begins.
    pub(crate) body_at: usize,
    /// The first fault met; the table holds what was read until then.
    pub(crate) fault: Option<Fault>,
}

/// Finds the lines of a message.
pub(crate) fn scan(datagram: Bytes) -> Result<Scanned, Fault> {
    if datagram.len() > SIP_MESSAGE_BYTES_MAX {
        return Err(Fault { offset: SIP_MESSAGE_BYTES_MAX, what: Malformed::TooLong });
    }
    // RFC 3261 §7.5: line ends before the start line are ignored.
    let lead = datagram.iter().position(|byte| !matches!(byte, b'\r' | b'\n'));
    let Some(lead) = lead else {
        return Err(Fault { offset: 0, what: Malformed::Empty });
    };
    let (scanned, folded) = read_lines(datagram, lead);
    if !folded {
        return Ok(scanned);
    }
    Ok(read_lines(unfold(scanned.table.raw(), lead), lead).0)
}

/// Reads line by line up to the empty one. The flag says that some line goes on in the next one, so
/// the message must be unfolded and read again.
fn read_lines(datagram: Bytes, lead: usize) -> (Scanned, bool) {
    let raw = datagram.clone();
    let mut scanned = Scanned {
        start_line: Span::default(),
        table: HeaderTable::new(datagram),
        core: Core::default(),
        body_at: raw.len(),
        fault: None,
    };
    let mut at = lead;
    loop {
        let Some(line) = line_at(&raw, at) else {
            scanned.fail(at, Malformed::HeadNotEnded);
            return (scanned, false);
        };
        if line.end == at {
            scanned.body_at = line.next;
            return (scanned, false);
        }
        if raw.get(line.next).is_some_and(|&byte| lexis::is_space(byte)) {
            return (scanned, true);
        }
        if at == lead {
            scanned.start_line = Span::new(at, line.end);
        } else if scanned.table.len() == SIP_HEADERS_MAX {
            scanned.fail(at, Malformed::TooManyHeaders);
            return (scanned, false);
        } else {
            scanned.take_line(&raw, at, line.end);
        }
        at = line.next;
    }
}

/// Where a line ends and where the next one begins.
struct LineEnd {
    end: usize,
    next: usize,
}

fn line_at(raw: &[u8], at: usize) -> Option<LineEnd> {
    let rest = raw.get(at..)?;
    let len = memchr(b'\n', rest)?;
    let has_cr = rest.get(..len)?.last() == Some(&b'\r');
    Some(LineEnd { end: at + len - usize::from(has_cr), next: at + len + 1 })
}

/// A copy in which the line ends before continuations are spaces, so that no offset moves.
fn unfold(raw: &[u8], lead: usize) -> Bytes {
    let mut copy = BytesMut::from(raw);
    let mut at = lead;
    while let Some(line) = line_at(raw, at) {
        if line.end == at {
            break;
        }
        at = line.next;
        if raw.get(at).is_some_and(|&byte| lexis::is_space(byte))
            && let Some(line_end) = copy.get_mut(line.end..line.next)
        {
            line_end.fill(b' ');
        }
    }
    copy.freeze()
}

impl Scanned {
    /// Notes a fault; the first one stays.
    pub(crate) fn fail(&mut self, offset: usize, what: Malformed) {
        self.fault = self.fault.or(Some(Fault { offset, what }));
    }

    /// Enters the header line `at..end`. One without a name is left out: it is no part of what is
    /// needed (RFC 3261 §8.2.2).
    fn take_line(&mut self, raw: &[u8], at: usize, end: usize) {
        if end - at > SIP_HEADER_BYTES_MAX {
            self.fail(at, Malformed::HeaderTooLong);
            return;
        }
        let line = raw.get(at..end).unwrap_or(&[]);
        let name_len =
            line.iter().position(|&byte| !lexis::is_token_byte(byte)).unwrap_or(line.len());
        let (name, rest) = line.split_at_checked(name_len).unwrap_or((line, &[]));
        let [b':', value @ ..] = rest.trim_ascii_start() else { return };
        if name.is_empty() {
            return;
        }
        let value = lexis::trim(value);
        let value_at = Span::within(raw, value);
        let entry = Line {
            name: HeaderName::from_bytes(name),
            name_text: Span::new(at, at + name_len),
            value: value_at,
        };
        self.table.push(entry);
        self.note_core(raw, at, entry);
    }

    fn note_core(&mut self, raw: &[u8], at: usize, line: Line) {
        let slot = match line.name {
            // Many lines of Via are one list.
            HeaderName::Via => {
                self.core.via.get_or_insert(line.value);
                return;
            }
            HeaderName::From => &mut self.core.from,
            HeaderName::To => &mut self.core.to,
            HeaderName::CallId => &mut self.core.call_id,
            HeaderName::CSeq => &mut self.core.cseq,
            HeaderName::MaxForwards => &mut self.core.max_forwards,
            HeaderName::ContentLength => &mut self.core.content_length,
            _ => return,
        };
        match *slot {
            None => *slot = Some(line.value),
            // The same length twice is no contradiction.
            Some(first)
                if line.name == HeaderName::ContentLength
                    && first.of(raw) == line.value.of(raw) => {}
            Some(_) => self.fail(at, Malformed::Repeated),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &'static [u8]) -> Scanned {
        scan(Bytes::from_static(text)).unwrap_or_else(|fault| panic!("{fault:?}"))
    }

    #[test]
    fn folded_lines_become_one_without_moving_a_byte() {
        let text = b"X sip:a SIP/2.0\r\nSubject: a\r\n b\n\t c\r\nFrom : x\r\n\r\nbody\r\n x";
        let scanned = read(text);
        assert_eq!(scanned.fault, None);
        assert_eq!(scanned.table.first(HeaderName::Subject), Some(&b"a   b \t c"[..]));
        assert_eq!(scanned.table.first(HeaderName::From), Some(&b"x"[..]));
        assert_eq!(scanned.table.raw().get(scanned.body_at..), Some(&b"body\r\n x"[..]));
    }

    #[test]
    fn the_first_fault_stays_and_lines_before_it_are_kept() {
        let scanned = read(b"X sip:a SIP/2.0\nTo: a\nTo: b\nFrom: c");
        assert_eq!(scanned.fault, Some(Fault { offset: 22, what: Malformed::Repeated }));
        assert_eq!(scanned.table.len(), 2);
        assert_eq!(read(b"\r\n\r\nX").fault.map(|f| f.what), Some(Malformed::HeadNotEnded));
    }

    #[test]
    fn nothing_but_line_ends_is_empty() {
        for text in [&b""[..], b"\r\n\r\n", b"\n"] {
            let fault = Fault { offset: 0, what: Malformed::Empty };
            assert_eq!(scan(Bytes::from_static(text)).err(), Some(fault));
        }
    }

    #[test]
    fn a_line_without_a_name_is_left_out() {
        let scanned = read(b"X sip:a SIP/2.0\n: x\nno colon\nq@:1\nK:\n\n");
        assert_eq!(scanned.fault, None);
        assert_eq!(scanned.table.len(), 1);
        assert_eq!(scanned.table.first(HeaderName::Supported), Some(&b""[..]));
    }
}
