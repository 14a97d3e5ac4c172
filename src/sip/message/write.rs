//! Messages to bytes. CR, LF and NUL of values never reach the wire.

use crate::sip::message::Request;
use crate::sip::message::header::via::Via;
use crate::sip::message::lexis;
use crate::sip::message::method::Method;
use crate::sip::message::name::HeaderName;
use crate::sip::message::span::Span;
use crate::sip::message::status;
use crate::sip::message::table::HeaderTable;
use crate::sip::message::uri::Uri;
use crate::types::decimal::Decimal;
use crate::types::transport::Transport;
use bytes::BufMut;
use bytes::Bytes;
use bytes::BytesMut;
use memchr::memchr;
use memchr::memchr_iter;
use memchr::memchr3_iter;
use memchr::memmem;
use std::fmt::Write as _;
use std::net::SocketAddr;

/// A first guess at the size of a head, in bytes.
const HEAD_BYTES: usize = 768;

/// Builds a request.
#[derive(Debug)]
pub struct RequestWriter {
    head: Head,
}

impl RequestWriter {
    /// Begins with the request line.
    #[must_use]
    pub fn new(method: &Method, uri: &Uri) -> Self {
        let mut head = Head::new();
        head.value(method.as_bytes());
        head.out.put_u8(b' ');
        head.value(uri.as_bytes());
        head.out.put_slice(b" SIP/2.0\r\n");
        Self { head }
    }

    /// Our own Via. It always asks for `rport` (RFC 3581).
    pub fn via(&mut self, transport: Transport, host: &str, port: u16, branch: &[u8]) -> &mut Self {
        self.head.name(HeaderName::Via);
        self.head.text("SIP/2.0/");
        self.head.text(transport.via_token());
        self.head.text(" ");
        self.head.value(host.as_bytes());
        self.head.number_after(":", u64::from(port));
        self.head.text(";branch=");
        self.head.value(branch);
        self.head.text(";rport\r\n");
        self
    }

    /// A header of a known name.
    pub fn header(&mut self, name: HeaderName, value: impl AsRef<[u8]>) -> &mut Self {
        self.head.known(name, value.as_ref());
        self
    }

    /// A header of any other name; nothing is written when `name` is no token.
    pub fn named(&mut self, name: &str, value: impl AsRef<[u8]>) -> &mut Self {
        self.head.header(name.as_bytes(), value.as_ref());
        self
    }

    /// A header with a number.
    pub fn number(&mut self, name: HeaderName, value: u32) -> &mut Self {
        self.head.number(name, value);
        self
    }

    /// CSeq.
    pub fn cseq(&mut self, number: u32, method: &Method) -> &mut Self {
        self.head.cseq(number, method);
        self
    }

    /// From or To: `address`, which has no tag yet, and the tag, where there is one.
    pub fn tagged(&mut self, name: HeaderName, address: &[u8], tag: Option<&[u8]>) -> &mut Self {
        self.head.tagged(name, address, tag);
        self
    }

    /// Every line of `name`, as it stands in another message.
    pub fn copy(&mut self, table: &HeaderTable, name: HeaderName) -> &mut Self {
        self.head.copy(table, name);
        self
    }

    /// Ends the request without a body.
    #[must_use]
    pub fn finish(self) -> Bytes {
        self.head.finish(None)
    }

    /// Ends the request with a body.
    #[must_use]
    pub fn finish_with(self, content_type: &str, body: &[u8]) -> Bytes {
        self.head.finish(Some((content_type, body)))
    }
}

/// Builds a response.
#[derive(Debug)]
pub struct ResponseWriter {
    head: Head,
}

impl ResponseWriter {
    /// Begins a response to `request`, which came from `source`: Via (the top one completed with
    /// `received` and `rport`, RFC 3261 §18.2.1 and RFC 3581 §4), From, To, Call-ID and CSeq.
    ///
    /// `to_tag` is added where To has no tag; every response above 100 needs one.
    #[must_use]
    pub fn to(request: &Request, source: SocketAddr, status: u16, to_tag: Option<&[u8]>) -> Self {
        let reason = status::reason_phrase(status);
        Self::with_reason(request, source, (status, reason.as_bytes()), to_tag)
    }

    /// As [`ResponseWriter::to`], with a reason phrase of the caller's.
    #[must_use]
    pub fn with_reason(
        request: &Request,
        source: SocketAddr,
        (status, reason): (u16, &[u8]),
        to_tag: Option<&[u8]>,
    ) -> Self {
        let headers = &request.headers;
        let to_tag = to_tag.filter(|_| headers.to().tag().is_none());
        let origin = Origin { table: headers.table(), top_via: headers.top_via(), source };
        Self::begin(&origin, status, reason, to_tag)
    }

    pub(crate) fn begin(
        origin: &Origin<'_>,
        status: u16,
        reason: &[u8],
        to_tag: Option<&[u8]>,
    ) -> Self {
        let mut head = Head::new();
        head.number_after("SIP/2.0 ", u64::from(status));
        head.text(" ");
        head.value(reason);
        head.text("\r\n");
        head.vias(origin);
        head.first(origin.table, HeaderName::From);
        let to = origin.table.first(HeaderName::To).unwrap_or(&[]);
        head.tagged(HeaderName::To, to, to_tag);
        head.first(origin.table, HeaderName::CallId);
        head.first(origin.table, HeaderName::CSeq);
        Self { head }
    }

    /// Copies Record-Route in order, as a response that forms a dialog must (RFC 3261 §12.1.1).
    pub fn record_routes(&mut self, request: &Request) -> &mut Self {
        self.head.copy(request.headers.table(), HeaderName::RecordRoute);
        self
    }

    /// A header of a known name.
    pub fn header(&mut self, name: HeaderName, value: impl AsRef<[u8]>) -> &mut Self {
        self.head.known(name, value.as_ref());
        self
    }

    /// A header of any other name; nothing is written when `name` is no token.
    pub fn named(&mut self, name: &str, value: impl AsRef<[u8]>) -> &mut Self {
        self.head.header(name.as_bytes(), value.as_ref());
        self
    }

    /// A header with a number.
    pub fn number(&mut self, name: HeaderName, value: u32) -> &mut Self {
        self.head.number(name, value);
        self
    }

    /// Ends the response without a body.
    #[must_use]
    pub fn finish(self) -> Bytes {
        self.head.finish(None)
    }

    /// Ends the response with a body.
    #[must_use]
    pub fn finish_with(self, content_type: &str, body: &[u8]) -> Bytes {
        self.head.finish(Some((content_type, body)))
    }
}

/// What a response is made from.
pub(crate) struct Origin<'a> {
    pub(crate) table: &'a HeaderTable,
    pub(crate) top_via: &'a Via,
    pub(crate) source: SocketAddr,
}

/// A head under construction.
#[derive(Debug)]
struct Head {
    out: BytesMut,
}

impl Head {
    fn new() -> Self {
        Self { out: BytesMut::with_capacity(HEAD_BYTES) }
    }

    /// Text of our own.
    fn text(&mut self, text: &str) {
        self.out.put_slice(text.as_bytes());
    }

    /// A value from elsewhere: what could end its line becomes a space.
    fn value(&mut self, value: &[u8]) {
        let start = self.out.len();
        self.out.put_slice(value);
        for at in memchr3_iter(b'\r', b'\n', 0, value) {
            if let Some(byte) = self.out.get_mut(start + at) {
                *byte = b' ';
            }
        }
    }

    fn number_after(&mut self, before: &str, number: u64) {
        self.text(before);
        self.out.put_slice(Decimal::of(number).as_bytes());
    }

    fn name(&mut self, name: HeaderName) {
        self.text(name.as_str());
        self.text(": ");
    }

    fn known(&mut self, name: HeaderName, value: &[u8]) {
        self.name(name);
        self.value(value);
        self.text("\r\n");
    }

    fn header(&mut self, name: &[u8], value: &[u8]) {
        if !lexis::is_token(name) {
            return;
        }
        self.out.put_slice(name);
        self.text(": ");
        self.value(value);
        self.text("\r\n");
    }

    fn number(&mut self, name: HeaderName, value: u32) {
        self.name(name);
        self.number_after("", u64::from(value));
        self.text("\r\n");
    }

    fn cseq(&mut self, number: u32, method: &Method) {
        self.number_after("CSeq: ", u64::from(number));
        self.text(" ");
        self.value(method.as_bytes());
        self.text("\r\n");
    }

    fn tagged(&mut self, name: HeaderName, address: &[u8], tag: Option<&[u8]>) {
        self.name(name);
        self.value(address);
        if let Some(tag) = tag {
            self.text(";tag=");
            self.value(tag);
        }
        self.text("\r\n");
    }

    fn first(&mut self, table: &HeaderTable, name: HeaderName) {
        if let Some(value) = table.first(name) {
            self.known(name, value);
        }
    }

    fn copy(&mut self, table: &HeaderTable, name: HeaderName) {
        for value in table.lines(name) {
            self.known(name, value);
        }
    }

    /// All Via lines as they came, but for the top entry.
    fn vias(&mut self, origin: &Origin<'_>) {
        let mut lines = origin.table.lines(HeaderName::Via);
        if let Some(first) = lines.next() {
            self.text("Via: ");
            self.completed_via(origin);
            let top = Span::within(first, origin.top_via.as_bytes());
            self.value(first.get(top.end()..).unwrap_or(&[]));
            self.text("\r\n");
        }
        // A line with nothing to read in it names no hop, and would make the answer unreadable.
        for line in lines.filter(|line| line.iter().any(u8::is_ascii_graphic)) {
            self.header(b"Via", line);
        }
    }

    fn completed_via(&mut self, origin: &Origin<'_>) {
        let via = origin.top_via;
        let host = via.host();
        let ip = origin.source.ip().to_canonical();
        let bare = host.strip_prefix(b"[").and_then(|host| host.strip_suffix(b"]")).unwrap_or(host);
        let is_from_there = || std::str::from_utf8(bare).is_ok_and(|text| text.parse() == Ok(ip));
        let mut rport = false;
        self.value(via.sent_protocol_and_by());
        for (name, value) in via.params() {
            let is_rport = name.eq_ignore_ascii_case(b"rport");
            rport |= is_rport;
            if is_rport || name.eq_ignore_ascii_case(b"received") {
                continue;
            }
            self.text(";");
            self.value(name);
            if let Some(value) = value {
                self.text("=");
                self.value(value);
            }
        }
        if rport || !is_from_there() {
            // Writing to a BytesMut cannot fail.
            write!(self.out, ";received={ip}").unwrap_or_default();
        }
        if rport {
            self.number_after(";rport=", u64::from(origin.source.port()));
        }
    }

    fn finish(mut self, body: Option<(&str, &[u8])>) -> Bytes {
        let body = body.map_or(&[][..], |(content_type, body)| {
            self.known(HeaderName::ContentType, content_type.as_bytes());
            body
        });
        self.name(HeaderName::ContentLength);
        self.number_after("", body.len() as u64);
        self.text("\r\n\r\n");
        self.out.put_slice(body);
        self.out.freeze()
    }
}

/// A request that [`RequestWriter`] wrote, once more for `transport`, which its Via then names (RFC 3261
/// §18.1.1); with short header names and without `User-Agent` where `is_compact`.
#[must_use]
pub fn rewritten(request: &Bytes, transport: Transport, is_compact: bool) -> Bytes {
    let end = memmem::find(request, b"\r\n\r\n").unwrap_or(request.len());
    let (head, rest) = request.split_at_checked(end).unwrap_or((request, &[]));
    let mut out = BytesMut::with_capacity(request.len() + 1);
    let mut is_via_next = true;
    for (number, line) in head.split(|&byte| byte == b'\n').enumerate() {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let (name, value) = match memchr(b':', line) {
            Some(at) if number > 0 => line.split_at_checked(at).unwrap_or((line, &[])),
            Some(_) | None => (&[][..], line),
        };
        let known = HeaderName::from_bytes(name);
        if is_compact && known == HeaderName::UserAgent {
            continue;
        }
        if number > 0 {
            out.put_slice(b"\r\n");
        }
        let is_shorter = is_compact && !known.compact().is_empty();
        out.put_slice(if is_shorter { known.compact().as_bytes() } else { name });
        let is_top_via = known == HeaderName::Via && std::mem::take(&mut is_via_next);
        match value.strip_prefix(b": SIP/2.0/".as_slice()).filter(|_| is_top_via) {
            Some(sent) => {
                out.put_slice(b": SIP/2.0/");
                out.put_slice(transport.via_token().as_bytes());
                out.put_slice(memchr(b' ', sent).and_then(|at| sent.get(at..)).unwrap_or(sent));
            }
            None => out.put_slice(value),
        }
    }
    out.put_slice(rest);
    out.freeze()
}

/// True when `bytes` has no line that is neither ended by CRLF nor part of a body; used by tests and
/// the fuzz entry.
pub(crate) fn ends_lines_with_crlf(head: &[u8]) -> bool {
    memchr_iter(b'\n', head).all(|at| at > 0 && head.get(at - 1) == Some(&b'\r'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sip::message::Message;
    use crate::sip::message::parse;

    fn request(via: &str) -> Request {
        let text = format!(
            "INVITE sip:c@d SIP/2.0\r\n{via}\r\nf: <sip:a@b>;tag=1\r\nt: \"C\" <sip:c@d>\r\n\
            i: x\r\nCSeq: 1 INVITE\r\nRecord-Route: <sip:r1;lr>, <sip:r2;lr>\r\n\
            Record-Route: <sip:r3;lr>\r\n\r\n"
        );
        match parse(text.into()) {
            Ok(Message::Request(request)) => request,
            other => panic!("{other:?}"),
        }
    }

    fn respond(via: &str, source: &str) -> String {
        let source = source.parse().unwrap();
        let bytes = ResponseWriter::to(&request(via), source, 180, Some(b"t1")).finish();
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    #[test]
    fn a_response_copies_what_it_must() {
        let text = respond("v: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKa", "192.0.2.1:5060");
        assert_eq!(
            text,
            "SIP/2.0 180 Ringing\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKa\r\n\
            From: <sip:a@b>;tag=1\r\nTo: \"C\" <sip:c@d>;tag=t1\r\nCall-ID: x\r\n\
            CSeq: 1 INVITE\r\nContent-Length: 0\r\n\r\n"
        );
    }

    #[test]
    fn only_the_top_via_gets_received_and_rport() {
        let check = |via: &str, source: &str, expected: &str| {
            let text = respond(via, source);
            let vias: Vec<_> = text.lines().filter(|line| line.starts_with("Via")).collect();
            assert_eq!(vias.join("|"), expected);
        };
        check(
            "v: SIP/2.0/UDP 10.0.0.1:5080;rport;branch=b;received=1.1.1.1, SIP/2.0/UDP q;rport",
            "192.0.2.1:5062",
            "Via: SIP/2.0/UDP 10.0.0.1:5080;branch=b;received=192.0.2.1;rport=5062, SIP/2.0/UDP q;rport",
        );
        check(
            "v: SIP/2.0/UDP h;branch=b\r\nv: SIP/2.0/UDP q;rport",
            "192.0.2.1:5062",
            "Via: SIP/2.0/UDP h;branch=b;received=192.0.2.1|Via: SIP/2.0/UDP q;rport",
        );
        check(
            "v: SIP/2.0/UDP 192.0.2.1;rport=9;branch=b",
            "192.0.2.1:5062",
            "Via: SIP/2.0/UDP 192.0.2.1;branch=b;received=192.0.2.1;rport=5062",
        );
        check(
            "v: SIP/2.0/TCP [2001:db8::1];branch=b",
            "[2001:db8::1]:5062",
            "Via: SIP/2.0/TCP [2001:db8::1];branch=b",
        );
        check(
            "v: SIP/2.0/UDP 192.0.2.1;branch=b",
            "[::ffff:192.0.2.1]:5060",
            "Via: SIP/2.0/UDP 192.0.2.1;branch=b",
        );
    }

    #[test]
    fn a_dialog_forming_response_copies_record_route_in_order() {
        let request = request("v: SIP/2.0/UDP h");
        let source = "192.0.2.1:1".parse().unwrap();
        let mut writer = ResponseWriter::to(&request, source, 200, Some(b"t"));
        writer.record_routes(&request).header(HeaderName::Contact, "<sip:us>");
        let Ok(Message::Response(response)) = parse(writer.finish_with("application/sdp", b"v=0"))
        else {
            panic!("must parse")
        };
        let routes: Vec<_> = response.headers.all(HeaderName::RecordRoute).collect();
        assert_eq!(routes, [b"<sip:r1;lr>", b"<sip:r2;lr>", b"<sip:r3;lr>"]);
        assert_eq!(response.body.as_ref(), b"v=0");
        assert_eq!(response.headers.to().tag(), Some(&b"t"[..]));
    }

    #[test]
    fn our_via_always_asks_for_rport() {
        let uri = Uri::from_text("sip:a@b").unwrap();
        let mut writer = RequestWriter::new(&Method::Options, &uri);
        writer.via(Transport::Udp, "192.0.2.1", 5060, b"z9hG4bKy");
        let text = writer.finish();
        assert!(text.starts_with(
            b"OPTIONS sip:a@b SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bKy;rport\r\n"
        ));
        assert!(text.ends_with(b"\r\nContent-Length: 0\r\n\r\n"));
    }

    #[test]
    fn line_ends_and_nul_of_values_never_reach_the_wire() {
        let uri = Uri::from_text("sip:a@b").unwrap();
        let mut writer = RequestWriter::new(&Method::Info, &uri);
        writer.header(HeaderName::Subject, b"a\r\nX-Evil: 1\0");
        writer.named("X-Name\r\nX-Evil", "2").named("", "3").named("X-Good", "4\n5");
        writer.tagged(HeaderName::To, b"<sip:x>", Some(b"t\r\nX-Evil: 6"));
        let text = String::from_utf8(writer.finish().to_vec()).unwrap();
        assert_eq!(
            text,
            "INFO sip:a@b SIP/2.0\r\nSubject: a  X-Evil: 1 \r\nX-Good: 4 5\r\n\
            To: <sip:x>;tag=t  X-Evil: 6\r\nContent-Length: 0\r\n\r\n"
        );
    }

    #[test]
    fn a_request_of_ours_is_written_for_another_transport_and_shorter() {
        let text = "INVITE sip:v:x@h;a=User-Agent: SIP/2.0\r\nVia: SIP/2.0/UDP h:5060;branch=z9hG4bK1;rport\r\n\
            From: <sip:a@b>;tag=1\r\nTo: <sip:c@d>\r\nCall-ID: x\r\nCSeq: 1 INVITE\r\n\
            X-Via: SIP/2.0/UDP q\r\nVia: SIP/2.0/UDP q\r\nUser-Agent: t\r\nContent-Length: 17\r\n\r\n\
            Via: SIP/2.0/UDP z";
        let written = |transport, is_compact| {
            let bytes = rewritten(&Bytes::from_static(text.as_bytes()), transport, is_compact);
            String::from_utf8(bytes.to_vec()).unwrap()
        };
        assert_eq!(written(Transport::Udp, false), text);
        let tcp = text.replacen("Via: SIP/2.0/UDP h", "Via: SIP/2.0/TCP h", 1);
        assert_eq!(written(Transport::Tcp, false), tcp);
        assert_eq!(
            written(Transport::Tls, true),
            "INVITE sip:v:x@h;a=User-Agent: SIP/2.0\r\nv: SIP/2.0/TLS h:5060;branch=z9hG4bK1;rport\r\n\
            f: <sip:a@b>;tag=1\r\nt: <sip:c@d>\r\ni: x\r\nCSeq: 1 INVITE\r\n\
            X-Via: SIP/2.0/UDP q\r\nv: SIP/2.0/UDP q\r\nl: 17\r\n\r\nVia: SIP/2.0/UDP z"
        );
        // What is no request of ours comes to no harm.
        for odd in ["", "\r\n\r\n", "x", "Via: SIP/2.0/UDP"] {
            assert_eq!(rewritten(&Bytes::from(odd), Transport::Tcp, true), odd);
        }
    }
}
