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
    let raw = scanned.table.raw();
    let call_id = core.call_id.filter(|span| span.start() < span.end() && !has_nul(span.of(raw)));
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

/// True where a Via or Call-ID cannot be copied into an answer as it is: NUL is never written, and
/// the peer would not know its own value again. (In From and To it may be escaped: RFC 4475 §3.1.1.2.)
fn has_nul(value: &[u8]) -> bool {
    memchr(0, value).is_some()
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
        has_empty |=
            line.is_empty() || has_nul(line) || (entries <= commas && memchr(b'"', line).is_none());
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::SocketAddr;

    const CORE: &str = "Via: SIP/2.0/UDP h;branch=z9hG4bKx;rport\r\nMax-Forwards: 70\r\n\
        From: \"A\" <sip:a@b>;tag=f\r\nTo: <sip:c@d>\r\nCall-ID: id@h\r\nCSeq: 7 INVITE\r\n";

    fn source() -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 9], 5062))
    }

    /// An INVITE with `CORE`, in which `from` is replaced by `to`, and more lines.
    fn invite(from: &str, to: &str, more: &str) -> Vec<u8> {
        let core = format!("INVITE sip:c@d SIP/2.0\r\n{CORE}");
        assert!(core.contains(from), "nothing to replace");
        format!("{}{more}", core.replacen(from, to, 1)).into_bytes()
    }

    fn request(bytes: impl AsRef<[u8]>) -> Request {
        match parse(Bytes::copy_from_slice(bytes.as_ref())) {
            Ok(Message::Request(request)) => request,
            other => panic!("{other:?}"),
        }
    }

    /// What is wrong, and the first line of the answer; empty when there is none.
    fn refused(bytes: impl AsRef<[u8]>) -> (Malformed, String) {
        let error = match parse(Bytes::copy_from_slice(bytes.as_ref())) {
            Err(error) => error,
            Ok(message) => panic!("{message:?} must not parse"),
        };
        let answer = error.reply.map_or_else(Bytes::new, |reply| reply.answer(source()));
        let line = answer.split(|&byte| byte == b'\r').next().unwrap_or(&[]);
        (error.what, String::from_utf8_lossy(line).into_owned())
    }

    fn check_400(bytes: impl AsRef<[u8]>, what: Malformed) {
        assert_eq!(refused(bytes), (what, format!("SIP/2.0 400 {}", what.phrase())));
    }

    fn check_dropped(bytes: impl AsRef<[u8]>, what: Malformed) {
        assert_eq!(refused(bytes), (what, String::new()));
    }

    #[test]
    fn a_request_has_its_parts() {
        let more =
            "Content-Type: application/sdp\r\nX-Foo: 1\r\nx-foo: 2\r\nContent-Length: 3\r\n\r\nv=0";
        let request = request(invite("", "", more));
        assert_eq!(request.method, Method::Invite);
        assert_eq!(request.uri.host(), Some(&b"d"[..]));
        let headers = &request.headers;
        assert_eq!(headers.top_via().branch(), Some(&b"z9hG4bKx"[..]));
        assert_eq!(headers.from().tag(), Some(&b"f"[..]));
        assert_eq!(headers.to().tag(), None);
        assert_eq!(headers.call_id(), b"id@h");
        assert_eq!(headers.cseq().number, 7);
        assert_eq!(headers.max_forwards(), Some(70));
        assert!(headers.content_type().is_ok_and(|kind| kind.is_some_and(|kind| kind.is_sdp())));
        assert_eq!(headers.named("X-FOO").collect::<Vec<_>>(), [b"1", b"2"]);
        assert_eq!(request.body.as_ref(), b"v=0");
    }

    #[test]
    fn a_response_has_its_parts() {
        for (line, status, reason) in [
            ("SIP/2.0 200 OK", 200, "OK"),
            ("sip/2.0 183 Session Progress", 183, "Session Progress"),
            ("SIP/2.0 100 ", 100, ""),
            ("SIP/2.0 699", 699, ""),
        ] {
            match parse(format!("{line}\r\n{CORE}\r\n").into()) {
                Ok(Message::Response(response)) => {
                    assert_eq!(response.status, status);
                    assert_eq!(response.reason.as_ref(), reason.as_bytes());
                    assert_eq!(response.headers.cseq().method, Method::Invite);
                }
                other => panic!("{line}: {other:?}"),
            }
        }
    }

    #[test]
    fn an_unreadable_response_is_dropped() {
        for line in
            ["SIP/2.0 70000 X", "SIP/2.0 99 X", "SIP/2.0", "SIP/2.0  200 OK", "SIP/2.0 2e2 X"]
        {
            check_dropped(format!("{line}\r\n{CORE}\r\n"), Malformed::StatusLine);
        }
        check_dropped(format!("SIP/3.0 200 OK\r\n{CORE}\r\n"), Malformed::Version);
        let bad = format!("SIP/2.0 200 OK\r\n{CORE}Content-Length: 9\r\n\r\n");
        check_dropped(bad, Malformed::BodyIncomplete);
    }

    #[test]
    fn a_request_without_via_does_not_panic() {
        for via in ["", "Via:\r\n", "Via: x\r\n", "Via: SIP/2.0/UDP h:99999999\r\n", "V: ,,\r\n"] {
            let whole = "Via: SIP/2.0/UDP h;branch=z9hG4bKx;rport\r\n";
            check_dropped(invite(whole, via, "\r\n"), Malformed::Via);
        }
    }

    #[test]
    fn a_tel_uri_is_accepted_in_from_to_and_request_uri() {
        let text = "INVITE tel:+15550100 SIP/2.0\r\nv: SIP/2.0/UDP h\r\nf: <tel:+15550101>;tag=1\r\n\
            t: tel:+15550100;phone-context=x\r\ni: a\r\nCSeq: 1 INVITE\r\n\r\n";
        let request = request(text);
        assert_eq!(request.uri.user(), Some(&b"+15550100"[..]));
        assert_eq!(request.headers.from().uri().user(), Some(&b"+15550101"[..]));
        assert_eq!(request.headers.to().uri().user(), Some(&b"+15550100"[..]));
        assert_eq!(request.headers.to().param("phone-context"), Some(&b"x"[..]));
    }

    #[test]
    fn lf_only_line_ends_are_accepted() {
        let text = String::from_utf8(invite("", "", "l: 2\r\n\r\nab")).unwrap();
        let request = request(text.replace("\r\n", "\n"));
        assert_eq!(request.body.as_ref(), b"ab");
        assert_eq!(request.headers.call_id(), b"id@h");
    }

    #[test]
    fn a_lower_case_sip_version_is_accepted() {
        assert_eq!(request(invite("SIP/2.0\r", "sip/2.0\r", "\r\n")).method, Method::Invite);
    }

    #[test]
    fn another_sip_version_gets_505() {
        let bytes = invite("SIP/2.0\r", "SIP/7.0\r", "\r\n");
        assert_eq!(
            refused(bytes),
            (Malformed::Version, "SIP/2.0 505 Version Not Supported".to_owned())
        );
    }

    #[test]
    fn a_content_length_beyond_the_datagram_gets_400() {
        check_400(invite("", "", "Content-Length: 4\r\n\r\nabc"), Malformed::BodyIncomplete);
        check_400(invite("", "", "l: 4294967295\r\n\r\nabc"), Malformed::BodyIncomplete);
    }

    #[test]
    fn a_negative_or_overlong_content_length_gets_400() {
        for bad in ["-1", "", "abc", "0x10", "1 2"] {
            let lines = format!("Content-Length: {bad}\r\n\r\nabc");
            check_400(invite("", "", &lines), Malformed::ContentLength);
        }
        let lines = "Content-Length: 1180591620717411303424\r\n\r\nabc";
        check_400(invite("", "", lines), Malformed::BodyIncomplete);
    }

    #[test]
    fn an_absent_content_length_on_udp_means_the_rest() {
        assert_eq!(request(invite("", "", "\r\nabc\r\n\r\n")).body.as_ref(), b"abc\r\n\r\n");
    }

    #[test]
    fn what_is_behind_the_content_length_is_ignored() {
        assert_eq!(request(invite("", "", "l: 2\r\nl: 2\r\n\r\nabc")).body.as_ref(), b"ab");
        check_400(invite("", "", "l: 2\r\nl: 3\r\n\r\nabc"), Malformed::Repeated);
    }

    #[test]
    fn a_udp_message_of_9_kb_is_parsed() {
        let body = "x".repeat(9 * 1024);
        assert_eq!(request(invite("", "", &format!("\r\n{body}"))).body.len(), 9 * 1024);
        let body = "x".repeat(65_000);
        assert_eq!(request(invite("", "", &format!("\r\n{body}"))).body.len(), 65_000);
        check_dropped(invite("", "", &format!("\r\n{body}{body}")), Malformed::TooLong);
    }

    #[test]
    fn a_cseq_method_mismatch_gets_400() {
        check_400(invite("7 INVITE", "7 BYE", "\r\n"), Malformed::CSeqMethod);
        check_400(invite("7 INVITE", "7 ACK", "\r\n"), Malformed::CSeqMethod);
        check_400(invite("INVITE sip", "OPTIONS sip", "\r\n"), Malformed::CSeqMethod);
    }

    #[test]
    fn a_broken_ack_is_never_answered() {
        check_dropped(invite("INVITE sip", "ACK sip", "\r\n"), Malformed::CSeqMethod);
    }

    #[test]
    fn a_cseq_above_2_to_the_31_gets_400() {
        for bad in ["2147483648 INVITE", "4294967295 INVITE", "99999999999 INVITE", "INVITE", "1"] {
            check_400(invite("7 INVITE", bad, "\r\n"), Malformed::CSeq);
        }
    }

    #[test]
    fn a_repeated_from_gets_400() {
        for line in ["From: <sip:x@y>", "t: <sip:x@y>", "i: 2", "CSeq: 7 INVITE", "Max-Forwards: 9"]
        {
            check_400(invite("", "", &format!("{line}\r\n\r\n")), Malformed::Repeated);
        }
    }

    #[test]
    fn a_missing_core_header_is_dropped_for_want_of_an_answer() {
        for (line, what) in [
            ("From: \"A\" <sip:a@b>;tag=f\r\n", Malformed::From),
            ("To: <sip:c@d>\r\n", Malformed::To),
            ("Call-ID: id@h\r\n", Malformed::CallId),
            ("CSeq: 7 INVITE\r\n", Malformed::CSeq),
        ] {
            check_dropped(invite(line, "", "\r\n"), what);
        }
    }

    #[test]
    fn unreadable_core_headers_get_400() {
        check_400(invite("<sip:a@b>", "<sip:a@b", "\r\n"), Malformed::From);
        check_400(invite("\"A\"", "\"A", "\r\n"), Malformed::From);
        check_400(invite("<sip:c@d>", "<<<<<", "\r\n"), Malformed::To);
        check_400(invite("id@h", "", "\r\n"), Malformed::CallId);
        check_400(invite("id@h", "\0\0\u{1}", "\r\n"), Malformed::CallId);
        check_400(invite(": 70", ": 256", "\r\n"), Malformed::MaxForwards);
    }

    #[test]
    fn bad_request_lines_get_400() {
        for bad in [
            "INVITE  sip:c@d SIP/2.0",
            "INVITE sip:c@d  SIP/2.0",
            "INVITE sip:c@d SIP/2.0 ",
            "INVITE sip:c@d;x y SIP/2.0",
            "INVITE SIP/2.0",
        ] {
            check_400(invite("INVITE sip:c@d SIP/2.0", bad, "\r\n"), Malformed::RequestLine);
        }
        check_400(invite("INVITE sip:c@d", "INVITE <sip:c@d>", "\r\n"), Malformed::RequestUri);
        check_400(invite("INVITE sip:c@d", "INVITE sip:c@d:0", "\r\n"), Malformed::RequestUri);
        check_dropped(
            invite("INVITE sip:c@d SIP/2.0", "(x) sip:c SIP/2.0", "\r\n"),
            Malformed::RequestLine,
        );
        check_400(invite("INVITE sip:c@d SIP/2.0", "INVITE sip:c@d", "\r\n"), Malformed::NotSip);
    }

    #[test]
    fn limits_of_the_head_get_400() {
        let lines = "X: y\r\n".repeat(200);
        check_400(invite("", "", &format!("{lines}\r\n")), Malformed::TooManyHeaders);
        let long = "y".repeat(9_000);
        check_400(invite("", "", &format!("X: {long}\r\n\r\n")), Malformed::HeaderTooLong);
        let folded = "\r\n yyyyyyyyy".repeat(900);
        check_400(invite("", "", &format!("X: {folded}\r\n\r\n")), Malformed::HeaderTooLong);
        let vias = ",SIP/2.0/UDP h".repeat(100);
        check_400(invite(";rport", &vias, "\r\n"), Malformed::TooManyVias);
        let vias = ",SIP/2.0/UDP h".repeat(99);
        assert_eq!(request(invite(";rport", &vias, "\r\n")).headers.vias().count(), 100);
        check_400(invite("", "", "X: y\r\n"), Malformed::HeadNotEnded);
    }

    #[test]
    fn several_vias_on_one_line_or_many_are_the_same_list() {
        let one = request(invite(
            ";rport",
            ", SIP/2.0/TCP i;x=\",\" ,SIP/2.0/TLS j",
            "v: SIP/2.0/UDP k\r\n\r\n",
        ));
        let hosts: Vec<_> = one
            .headers
            .vias()
            .map(|via| via.map(|via| String::from_utf8_lossy(via.host()).into_owned()))
            .collect();
        assert_eq!(hosts, ["h", "i", "j", "k"].map(|host| Ok(host.to_owned())));
        let more = "Route: <sip:a;lr>, <sip:b,c@d;lr>\r\nROUTE: <sip:e>\r\n\r\n";
        let routes = request(invite("", "", more)).headers.routes().count();
        assert_eq!(routes, 3);
    }

    #[test]
    fn folded_and_compact_headers_are_read() {
        let text = "OPTIONS sip:c@d SIP/2.0\r\nv\t:\r\n SIP/2.0/UDP\r\n\th:5070\r\n ;branch=z9hG4bKf\r\n\
            f:\r\n \"A\r\n B\" <sip:a@b>\r\n ;tag=1\r\nT:sip:c@d\r\nI : \r\n x\r\ncseq: 1\r\n OPTIONS\r\n\
            k: timer,\r\n 100rel\r\nl: 0\r\n\r\n";
        let request = request(text);
        assert_eq!(request.headers.top_via().port(), Some(5070));
        assert_eq!(request.headers.top_via().branch(), Some(&b"z9hG4bKf"[..]));
        assert_eq!(request.headers.from().display().as_ref(), b"A   B");
        assert_eq!(request.headers.call_id(), b"x");
        let supported = request.headers.tokens(HeaderName::Supported);
        assert!(supported.has("100REL") && supported.has("timer") && !supported.has("path"));
    }

    #[test]
    fn bytes_that_are_no_utf_8_are_kept() {
        let mut bytes = invite("", "", "Subject: ");
        bytes.extend_from_slice(b"J\xfcrgen\r\n\r\n\xff\xfe\0");
        let request = request(&bytes);
        assert_eq!(request.headers.first(HeaderName::Subject), Some(&b"J\xfcrgen"[..]));
        assert_eq!(request.body.as_ref(), b"\xff\xfe\0");
    }

    #[test]
    fn what_is_not_sip_is_dropped() {
        let stun = b"\x00\x01\x00\x00\x21\x12\xa4\x42abcdefghijkl";
        check_dropped(stun, Malformed::NotSip);
        check_dropped([0; 500], Malformed::NotSip);
        check_dropped(b"", Malformed::Empty);
        check_dropped(b"\r\n\r\n", Malformed::Empty);
        check_dropped(b"GET / HTTP/1.1\r\n\r\n", Malformed::NotSip);
    }

    #[test]
    fn an_error_says_where_it_is() {
        let bytes = invite("7 INVITE", "x INVITE", "\r\n");
        let error = parse(Bytes::copy_from_slice(&bytes)).unwrap_err();
        assert!(bytes[error.offset..].starts_with(b"x INVITE"));
        assert_eq!(error.to_string(), format!("cseq at byte {}", error.offset));
    }
}
