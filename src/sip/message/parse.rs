//! Bytes to messages: the second pass, which judges the start line and the core headers.

use crate::sip::message::Message;
use crate::sip::message::Request;
use crate::sip::message::Response;
use crate::sip::message::error::Malformed;
use crate::sip::message::error::ParseError;
use crate::sip::message::header::cseq::CSeq;
use crate::sip::message::header::name_addr::NameAddr;
use crate::sip::message::header::via::Via;
use crate::sip::message::headers::Headers;
use crate::sip::message::lexis;
use crate::sip::message::lexis::List;
use crate::sip::message::method::Method;
use crate::sip::message::name::HeaderName;
use crate::sip::message::reply::BadRequest;
use crate::sip::message::scan::Fault;
use crate::sip::message::scan::Scanned;
use crate::sip::message::scan::scan;
use crate::sip::message::span::Span;
use crate::sip::message::status;
use crate::sip::message::table::HeaderTable;
use crate::sip::message::uri::Uri;
use crate::types::limit::SIP_VIAS_MAX;
use bytes::Bytes;
use memchr::memchr;
use memchr::memmem;
use memchr::memrchr;

/// Reads one datagram, or one message framed from a stream.
///
/// Without Content-Length the body is the rest; with a smaller one the rest is ignored (RFC 3261
/// §18.3). Folded lines, bare LF, compact names, any case of `SIP/2.0` and bytes that are no UTF-8
/// are accepted.
///
/// # Errors
/// [`ParseError`] says where and what; for a request that still can be answered it carries the means.
pub fn parse(datagram: Bytes) -> Result<Message, ParseError> {
    let scanned = scan(datagram).map_err(|Fault { offset, what }| ParseError {
        offset,
        what,
        reply: None,
    })?;
    match judge(&scanned) {
        Ok(parts) => Ok(assemble(scanned.table, parts)),
        Err(fault) => Err(refuse(scanned, fault)),
    }
}

enum Start {
    Request(Method, Uri),
    Response(u16, Bytes),
}

/// What is judged of a message besides its table.
struct Parts {
    start: Start,
    top_via: Via,
    from: NameAddr,
    to: NameAddr,
    call_id: Span,
    cseq: CSeq,
    max_forwards: Option<u8>,
    body: Bytes,
}

fn assemble(table: HeaderTable, parts: Parts) -> Message {
    let Parts { start, top_via, from, to, call_id, cseq, max_forwards, body } = parts;
    let headers = Headers { table, top_via, from, to, call_id, cseq, max_forwards };
    match start {
        Start::Request(method, uri) => Message::Request(Request { method, uri, headers, body }),
        Start::Response(status, reason) => {
            Message::Response(Response { status, reason, headers, body })
        }
    }
}

/// The error for a fault, with the means of an answer where there are any.
fn refuse(scanned: Scanned, fault: Fault) -> ParseError {
    let Fault { offset, what } = fault;
    ParseError { offset, what, reply: BadRequest::of(scanned, what).map(Box::new) }
}

fn judge(scanned: &Scanned) -> Result<Parts, Fault> {
    let start = start_line(scanned)?;
    if let Some(fault) = scanned.fault {
        return Err(fault);
    }
    let core = &scanned.core;
    let top_via = top_via(scanned)?;
    let from = typed(scanned, core.from, Malformed::From, NameAddr::parse)?;
    let to = typed(scanned, core.to, Malformed::To, NameAddr::parse)?;
    let call_id = core.call_id.filter(|span| span.start() < span.end());
    let call_id = call_id.ok_or_else(|| missing(scanned, Malformed::CallId))?;
    let cseq = typed(scanned, core.cseq, Malformed::CSeq, |value| CSeq::parse(&value))?;
    if let Start::Request(method, _) = &start
        && *method != cseq.method
    {
        let offset = core.cseq.map_or(0, Span::start);
        return Err(Fault { offset, what: Malformed::CSeqMethod });
    }
    let max_forwards = core.max_forwards.map(|span| max_forwards(scanned, span)).transpose()?;
    let body = body(scanned)?;
    Ok(Parts { start, top_via, from, to, call_id, cseq, max_forwards, body })
}

fn missing(scanned: &Scanned, what: Malformed) -> Fault {
    Fault { offset: scanned.body_at, what }
}

/// Reads the value at `span` with `read`.
fn typed<T, E>(
    scanned: &Scanned,
    span: Option<Span>,
    what: Malformed,
    read: impl FnOnce(Bytes) -> Result<T, E>,
) -> Result<T, Fault> {
    let span = span.ok_or_else(|| missing(scanned, what))?;
    read(scanned.table.slice(span)).map_err(|_| Fault { offset: span.start(), what })
}

fn start_line(scanned: &Scanned) -> Result<Start, Fault> {
    let line = scanned.table.slice(scanned.start_line);
    let offset = scanned.start_line.start();
    let fault = |what| Fault { offset, what };
    if line.get(..4).is_some_and(|start| start.eq_ignore_ascii_case(b"SIP/")) {
        return status_line(&line).map_err(fault);
    }
    let last = memrchr(b' ', &line).unwrap_or(0);
    let version = line.get(last + 1..).unwrap_or(&[]);
    if !is_version_2(version) {
        return Err(fault(if version.to_ascii_uppercase().starts_with(b"SIP/") {
            Malformed::Version
        } else if memmem::find(&line, b"SIP/").is_some() {
            Malformed::RequestLine
        } else {
            Malformed::NotSip
        }));
    }
    // Exactly one space on each side: RFC 4475 §3.1.2.9 allows to refuse anything else.
    let first = memchr(b' ', &line).filter(|&first| first < last);
    let first = first.ok_or_else(|| fault(Malformed::RequestLine))?;
    let method = line.slice(..first);
    let uri = line.slice(first + 1..last);
    if !lexis::is_token(&method) || uri.is_empty() || uri.iter().any(|&b| lexis::is_space(b)) {
        return Err(fault(Malformed::RequestLine));
    }
    let uri = Uri::parse(uri);
    let uri = uri.map_err(|_| Fault { offset: offset + first + 1, what: Malformed::RequestUri })?;
    Ok(Start::Request(Method::from_bytes(&method), uri))
}

fn is_version_2(text: &[u8]) -> bool {
    text.eq_ignore_ascii_case(b"SIP/2.0")
}

/// Reads `SIP/2.0 200 OK`; the reason phrase may be empty and its space missing.
fn status_line(line: &Bytes) -> Result<Start, Malformed> {
    let (version, rest) = lexis::cut(line, b' ');
    let (code, reason) = lexis::cut(rest.ok_or(Malformed::StatusLine)?, b' ');
    if !is_version_2(version) {
        return Err(Malformed::Version);
    }
    let code = Some(code).filter(|code| code.len() == 3).and_then(lexis::number);
    let code = code.and_then(|code| u16::try_from(code).ok()).filter(|&c| status::is_status(c));
    let code = code.ok_or(Malformed::StatusLine)?;
    Ok(Start::Response(code, line.slice_ref(reason.unwrap_or(&[]))))
}

/// The topmost Via, after all entries were counted.
fn top_via(scanned: &Scanned) -> Result<Via, Fault> {
    let span = scanned.core.via.ok_or_else(|| missing(scanned, Malformed::Via))?;
    let fault = |what| Fault { offset: span.start(), what };
    let mut count = 0;
    let mut has_empty = false;
    for line in scanned.table.lines(HeaderName::Via) {
        let commas = memchr::memchr_iter(b',', line).count();
        let entries = if commas == 0 { 1 } else { List::new(line).count() };
        // Fewer entries than commas allow is right only for commas within quotes.
        has_empty |= line.is_empty() || (entries <= commas && memchr(b'"', line).is_none());
        count += entries;
    }
    if count > SIP_VIAS_MAX {
        return Err(fault(Malformed::TooManyVias));
    }
    if has_empty {
        return Err(fault(Malformed::Via));
    }
    first_via(&scanned.table, span).ok_or_else(|| fault(Malformed::Via))
}

/// The first entry of the Via line at `span`, when it can be read.
pub(crate) fn first_via(table: &HeaderTable, span: Span) -> Option<Via> {
    let line = table.slice(span);
    let entry = List::new(&line).next()?;
    Via::parse(line.slice_ref(entry)).ok()
}

fn max_forwards(scanned: &Scanned, span: Span) -> Result<u8, Fault> {
    let value = lexis::number(span.of(scanned.table.raw()));
    let value = value.and_then(|value| u8::try_from(value).ok());
    value.ok_or(Fault { offset: span.start(), what: Malformed::MaxForwards })
}

/// The body by Content-Length (RFC 3261 §18.3).
fn body(scanned: &Scanned) -> Result<Bytes, Fault> {
    let rest = scanned.table.raw().slice(scanned.body_at..);
    let Some(span) = scanned.core.content_length else { return Ok(rest) };
    let fault = |what| Fault { offset: span.start(), what };
    let text = span.of(scanned.table.raw());
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return Err(fault(Malformed::ContentLength));
    }
    let length = lexis::number(text).and_then(|length| usize::try_from(length).ok());
    match length.filter(|&length| length <= rest.len()) {
        Some(length) => Ok(rest.slice(..length)),
        None => Err(fault(Malformed::BodyIncomplete)),
    }
}
