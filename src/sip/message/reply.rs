//! Answers without state: 400 and the like to what cannot be parsed, 503 when there is no room.

use crate::sip::message::Message;
use crate::sip::message::Request;
use crate::sip::message::error::Malformed;
use crate::sip::message::header::name_addr::NameAddr;
use crate::sip::message::header::reason::Reason;
use crate::sip::message::header::retry_after::RetryAfter;
use crate::sip::message::header::via::Via;
use crate::sip::message::method::Method;
use crate::sip::message::name::HeaderName;
use crate::sip::message::parse::first_via;
use crate::sip::message::parse::parse;
use crate::sip::message::peek;
use crate::sip::message::peek::FirstLine;
use crate::sip::message::scan::Scanned;
use crate::sip::message::scan::scan;
use crate::sip::message::table::HeaderTable;
use crate::sip::message::write::Origin;
use crate::sip::message::write::ResponseWriter;
use crate::types::cause::HangupCause;
use bytes::Bytes;
use std::net::SocketAddr;

/// A malformed request of which enough is left to answer it.
#[derive(Clone, Debug)]
pub struct BadRequest {
    table: HeaderTable,
    top_via: Via,
    what: Malformed,
}

impl BadRequest {
    /// What is left of a request; `None` for responses, for ACK, and when Via cannot be read or From,
    /// To, Call-ID or CSeq is missing.
    pub(crate) fn of(scanned: Scanned, what: Malformed) -> Option<Self> {
        let line = scanned.table.slice(scanned.start_line);
        match peek::first_line(&line) {
            FirstLine::Invite | FirstLine::Request => {}
            FirstLine::Ack | FirstLine::Response | FirstLine::Nothing => return None,
        }
        let core = &scanned.core;
        if core.from.is_none() || core.to.is_none() || core.call_id.is_none() {
            return None;
        }
        core.cseq?;
        let top_via = first_via(&scanned.table, core.via?)?;
        Some(Self { table: scanned.table, top_via, what })
    }

    /// What is left of a request of which only the head could be framed.
    #[must_use]
    pub fn of_head(head: Bytes, what: Malformed) -> Option<Self> {
        scan(head).ok().and_then(|scanned| Self::of(scanned, what))
    }

    /// The status to answer with: 400, 505 or 513.
    #[must_use]
    pub const fn status(&self) -> u16 {
        self.what.status()
    }

    /// The header lines that were read before the fault.
    #[must_use]
    pub const fn table(&self) -> &HeaderTable {
        &self.table
    }

    /// The answer, for the address the request came from. Its To-tag follows from the request, so a
    /// repeated request gets the same answer.
    #[must_use]
    pub fn answer(&self, source: SocketAddr) -> Bytes {
        let origin = Origin { table: &self.table, top_via: &self.top_via, source };
        let tag = stateless_tag(&self.table);
        let to_tag = (!has_tag(&self.table)).then_some(tag.as_bytes());
        ResponseWriter::begin(&origin, self.status(), self.what.phrase().as_bytes(), to_tag)
            .finish()
    }
}

/// True when To has a tag, also where it cannot be read otherwise.
fn has_tag(table: &HeaderTable) -> bool {
    let to = table.first(HeaderName::To).unwrap_or(&[]);
    match NameAddr::parse(Bytes::copy_from_slice(to)) {
        Ok(to) => to.tag().is_some(),
        Err(_) => to.windows(5).any(|part| part.eq_ignore_ascii_case(b";tag=")),
    }
}

/// A To-tag that is the same for each copy of a request (RFC 3261 §8.2.7).
fn stateless_tag(table: &HeaderTable) -> String {
    const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    let names = [HeaderName::Via, HeaderName::CallId, HeaderName::From, HeaderName::CSeq];
    let bytes = names.iter().filter_map(|&name| table.first(name)).flatten();
    let hash = bytes.fold(OFFSET, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(PRIME));
    format!("{hash:016x}")
}

/// 503 with Retry-After to a new INVITE, for when there is no room to keep anything of it; from `retry_after_s` on,
/// [spread](RetryAfter::spread).
///
/// `None` for everything else: requests within a dialog, other methods, and what cannot be parsed.
#[must_use]
pub fn overload_reply(datagram: &[u8], source: SocketAddr, retry_after_s: u32) -> Option<Bytes> {
    if peek::first_line(datagram) != FirstLine::Invite {
        return None;
    }
    let request = request_of(datagram)?;
    if request.method != Method::Invite || request.headers.to().tag().is_some() {
        return None;
    }
    Some(overloaded(&request, source, retry_after_s))
}

/// The answer to any request but ACK where nobody is left who knows of its dialog: 481 within one and to a CANCEL
/// (RFC 3261 §12.2.2, §9.2), so that the peer ends what we cannot; to any other the 503 of [`overload_reply`].
///
/// `None` for everything else, and what cannot be parsed.
#[must_use]
pub fn gone_reply(datagram: &[u8], source: SocketAddr, retry_after_s: u32) -> Option<Bytes> {
    match peek::first_line(datagram) {
        FirstLine::Invite | FirstLine::Request => {}
        FirstLine::Ack | FirstLine::Response | FirstLine::Nothing => return None,
    }
    let request = request_of(datagram)?;
    if request.headers.to().tag().is_some() || request.method == Method::Cancel {
        return Some(stateless(&request, source, HangupCause::UnknownDialog).finish());
    }
    Some(overloaded(&request, source, retry_after_s))
}

/// The 503 of [`overload_reply`] to OPTIONS outside a dialog, by which a peer asks whether we take its calls; `None` for
/// everything else.
#[must_use]
pub fn probe_reply(datagram: &[u8], source: SocketAddr, retry_after_s: u32) -> Option<Bytes> {
    if peek::first_line(datagram) != FirstLine::Request {
        return None;
    }
    let request = request_of(datagram)?;
    let is_probe = request.method == Method::Options && request.headers.to().tag().is_none();
    is_probe.then(|| overloaded(&request, source, retry_after_s))
}

fn overloaded(request: &Request, source: SocketAddr, retry_after_s: u32) -> Bytes {
    let mut writer = stateless(request, source, HangupCause::Overload);
    let after =
        RetryAfter::spread(retry_after_s, stateless_tag(request.headers.table()).as_bytes());
    writer.number(HeaderName::RetryAfter, after.delay_s);
    writer.finish()
}

/// Whether this may be an INVITE that begins a dialog: one of a dialog can be read and says so.
#[must_use]
pub fn may_begin_dialog(datagram: &[u8]) -> bool {
    let is_within = |request: Request| request.headers.to().tag().is_some();
    peek::first_line(datagram) == FirstLine::Invite && !request_of(datagram).is_some_and(is_within)
}

/// 403 to any request but ACK, for a listener that refuses strangers aloud.
#[must_use]
pub fn stranger_reply(datagram: &[u8], source: SocketAddr) -> Option<Bytes> {
    match peek::first_line(datagram) {
        FirstLine::Invite | FirstLine::Request => {
            let request = request_of(datagram)?;
            Some(stateless(&request, source, HangupCause::UnknownSource).finish())
        }
        FirstLine::Ack | FirstLine::Response | FirstLine::Nothing => None,
    }
}

fn request_of(datagram: &[u8]) -> Option<Request> {
    match parse(Bytes::copy_from_slice(datagram)) {
        Ok(Message::Request(request)) => Some(request),
        Ok(Message::Response(_)) | Err(_) => None,
    }
}

fn stateless(request: &Request, source: SocketAddr, cause: HangupCause) -> ResponseWriter {
    let tag = stateless_tag(request.headers.table());
    let to_tag = request.headers.to().tag().is_none().then_some(tag.as_bytes());
    let mut writer = ResponseWriter::to(request, source, cause.sip_status(), to_tag);
    writer.header(HeaderName::Reason, Reason::q850_value(cause.q850(), cause.code()));
    writer
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(method: &str, to: &str) -> String {
        format!(
            "{method} sip:c@d SIP/2.0\r\nVia: SIP/2.0/UDP h;rport\r\nFrom: <sip:a@b>;tag=1\r\n\
            To: {to}\r\nCall-ID: x\r\nCSeq: 1 {method}\r\n\r\n"
        )
    }

    fn source() -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 1], 5062))
    }

    #[test]
    fn only_a_new_invite_gets_a_stateless_503() {
        let reply = |text: String| overload_reply(text.as_bytes(), source(), 2);
        let answer = reply(text("INVITE", "<sip:c@d>")).unwrap();
        assert!(
            answer.starts_with(b"SIP/2.0 503 Service Unavailable\r\nVia: SIP/2.0/UDP h;received=")
        );
        let Ok(Message::Response(response)) = parse(answer.clone()) else { panic!("must parse") };
        assert!(response.headers.to().tag().is_some());
        let after = response.headers.retry_after().unwrap().unwrap();
        assert!((2..=4).contains(&after.delay_s), "{after:?}");
        assert_eq!(reply(text("INVITE", "<sip:c@d>")), Some(answer), "a copy gets the same answer");
        assert_eq!(reply(text("INVITE", "<sip:c@d>;tag=2")), None);
        assert_eq!(reply(text("BYE", "<sip:c@d>;tag=2")), None);
        assert_eq!(reply(text("OPTIONS", "<sip:c@d>")), None);
        assert_eq!(reply("INVITE sip:c@d SIP/2.0\r\n\r\n".to_owned()), None);
    }

    #[test]
    fn who_speaks_of_a_dialog_that_nobody_knows_gets_481_and_any_other_503() {
        let status = |method: &str, to: &str| {
            let answer = gone_reply(text(method, to).as_bytes(), source(), 2)?;
            let Ok(Message::Response(response)) = parse(answer) else { panic!("must parse") };
            let after = response.headers.retry_after().unwrap();
            assert_eq!(after.is_some(), response.status == 503);
            Some(response.status)
        };
        for method in ["BYE", "INVITE", "UPDATE", "OPTIONS"] {
            assert_eq!(status(method, "<sip:c@d>;tag=2"), Some(481), "{method}");
        }
        assert_eq!(status("CANCEL", "<sip:c@d>"), Some(481));
        for method in ["INVITE", "OPTIONS", "REGISTER"] {
            assert_eq!(status(method, "<sip:c@d>"), Some(503), "{method}");
        }
        assert_eq!(status("ACK", "<sip:c@d>;tag=2"), None);
        let response = b"SIP/2.0 200 OK\r\n\r\n";
        assert_eq!(gone_reply(response, source(), 2), None);
    }

    #[test]
    fn an_invite_that_names_no_dialog_may_begin_one() {
        let begins = |text: &str| may_begin_dialog(text.as_bytes());
        assert!(begins(&text("INVITE", "<sip:c@d>")) && begins("INVITE sip:c@d SIP/2.0\r\n\r\n"));
        for other in [
            text("INVITE", "<sip:c@d>;tag=2"),
            text("BYE", "<sip:c@d>"),
            text("ACK", "<sip:c@d>;tag=2"),
            "SIP/2.0 200 OK\r\n\r\n".to_owned(),
            String::new(),
        ] {
            assert!(!begins(&other), "{other}");
        }
    }

    #[test]
    fn an_answer_to_a_bad_request_has_one_to_tag() {
        let answer = |to: &str| {
            let bytes = text("INVITE", to).replace("CSeq: 1", "CSeq: x");
            let error = parse(bytes.into()).unwrap_err();
            String::from_utf8(error.reply.unwrap().answer(source()).to_vec()).unwrap()
        };
        for (to, tags) in [("<sip:c@d>", 1), ("<sip:c@d>;tag=9", 1), ("<<<<<;TAG=9", 1), ("\"x", 1)]
        {
            let answer = answer(to);
            let line = answer.lines().find(|line| line.starts_with("To: ")).unwrap();
            assert_eq!(line.to_lowercase().matches(";tag=").count(), tags, "{line}");
            assert!(answer.contains("\r\nCSeq: x INVITE\r\n"));
        }
    }
}
