//! The entry for fuzzing: parses, touches every typed header, writes an answer.

use crate::sip::message::Message;
use crate::sip::message::Response;
use crate::sip::message::headers::Headers;
use crate::sip::message::name::HeaderName;
use crate::sip::message::parse;
use crate::sip::message::peek;
use crate::sip::message::reply;
use crate::sip::message::uri::Uri;
use crate::sip::message::write::ResponseWriter;
use crate::sip::message::write::ends_lines_with_crlf;
use crate::sip::multipart;
use crate::sip::register::Input;
use crate::sip::register::Output;
use crate::sip::register::Registration;
use crate::sip::register::RegistrationPolicy;
use crate::types::moment::Moment;
use bytes::Bytes;
use std::hint::black_box;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::time::Duration;

/// Feeds `data` to everything that reads messages and checks what always holds: no panic, and what we
/// answer can itself be read.
pub fn exercise(data: &[u8]) {
    let source = SocketAddr::from((Ipv4Addr::LOCALHOST, 5060));
    black_box(peek::call_id_of(data));
    if let Some(answer) = reply::overload_reply(data, source, 1) {
        check_answer(&answer);
    }
    match parse(Bytes::copy_from_slice(data)) {
        Ok(message) => {
            touch(message.headers());
            match message {
                Message::Request(request) => {
                    let headers = &request.headers;
                    open_body(headers.first(HeaderName::ContentType), &request.body);
                    let mut writer = ResponseWriter::to(&request, source, 200, Some(b"tag"));
                    writer.record_routes(&request);
                    check_answer(&writer.finish_with("application/sdp", &request.body));
                }
                Message::Response(response) if response.status >= 200 => register(&response),
                Message::Response(_) => {}
            }
        }
        Err(error) => {
            if let Some(reply) = error.reply {
                check_answer_lines(&reply.answer(source));
            }
        }
    }
}

/// Takes `data` for a URI: no panic, and nothing read in it that would break out of its place.
///
/// # Panics
///
/// When one of these promises is broken.
pub fn exercise_uri(data: &[u8]) {
    let Ok(uri) = Uri::parse(Bytes::copy_from_slice(data)) else { return };
    assert!(uri == uri.detached(), "{}", data.escape_ascii());
    assert!(uri.as_bytes() == data, "{}", data.escape_ascii());
    for part in [uri.user(), uri.host(), Some(uri.scheme()), uri.param("transport")] {
        let breaks = part.unwrap_or(&[]).iter().any(|byte| matches!(byte, b'\r' | b'\n' | b'>'));
        assert!(!breaks, "{}", data.escape_ascii());
    }
    let mut read = uri.user_decoded().map_or(0, |user| user.len());
    read += uri.user_params().iter().count() + uri.params().iter().count();
    read += usize::from(uri.port().is_some() && uri.is_secure() && uri.is_telephone());
    black_box(read);
}

/// Takes the first line of `data` for a Content-Type and the rest for a body: no panic, and no part that
/// is not in the body.
///
/// # Panics
///
/// When one of these promises is broken.
pub fn exercise_multipart(data: &[u8]) {
    let end = memchr::memchr(b'\n', data).unwrap_or(data.len());
    let (content_type, body) = data.split_at_checked(end).unwrap_or((data, &[]));
    let body = Bytes::copy_from_slice(body.get(1..).unwrap_or(&[]));
    open_body(Some(content_type), &body);
    for part in multipart::parts(content_type, &body).unwrap_or_default() {
        black_box((part.is("application", "sdp"), part.is_required()));
        assert!(part.body.len() <= body.len(), "a part from nowhere");
    }
}

/// Reads every typed header.
fn touch(headers: &Headers) {
    let mut read = headers.call_id().len();
    read += headers.vias().count() + headers.contacts().count() + headers.reasons().count();
    for (name, text, _) in headers.table().iter() {
        read += headers.addresses(name).flatten().map(|found| found.display().len()).sum::<usize>();
        read += str::from_utf8(text).map_or(0, |text| headers.named(text).count());
        read += usize::from(headers.tokens(name).has("timer"));
    }
    read += usize::from(headers.content_type().is_ok());
    read += usize::from(headers.session_expires().is_ok() && headers.min_se().is_ok());
    read += usize::from(headers.retry_after().is_ok() && headers.rack().is_ok());
    read += usize::from(headers.replaces().is_ok() && headers.refer_to().is_ok());
    read += headers.from().uri().user_decoded().map_or(0, |user| user.len());
    read += headers.to().uri().user_params().iter().count();
    black_box(read);
}

/// Takes a body apart; a description is a part of it.
fn open_body(content_type: Option<&[u8]>, body: &Bytes) {
    if let Ok(Some(description)) = multipart::session_description(content_type, body) {
        assert!(description.len() <= body.len(), "a description from nowhere");
    }
}

/// Takes a response as a registrar's: whatever it says, something is planned and nothing hot.
fn register(response: &Response) {
    let policy = RegistrationPolicy {
        expires: Duration::from_secs(3_600),
        refresh_percent: 80,
        retry: vec![Duration::from_secs(30)],
        forbidden_retry: Duration::from_secs(900),
        start_within: Duration::ZERO,
        contact_user: "pilot".to_owned(),
    };
    let mut registration = Registration::new(policy, 1);
    let (now, mut out) = (Moment::START, Vec::new());
    for input in [Input::Started, Input::DeadlineReached, Input::Answered(response)] {
        registration.handle(now, &input, &mut out);
    }
    let asks = out.iter().filter(|output| matches!(output, Output::Register { .. })).count();
    assert!(asks <= 2, "one response caused {asks} requests");
    let waits = registration.deadline().is_none_or(|deadline| deadline > now);
    assert!(waits, "the next request is due at once");
}

/// An answer to a readable request is readable.
fn check_answer(answer: &Bytes) {
    check_answer_lines(answer);
    assert!(parse(answer.clone()).is_ok(), "{}", answer.escape_ascii());
}

/// An answer has only CRLF line ends in its head.
fn check_answer_lines(answer: &Bytes) {
    let end = memchr::memmem::find(answer, b"\r\n\r\n").unwrap_or(answer.len());
    assert!(ends_lines_with_crlf(answer.get(..end).unwrap_or(&[])), "{}", answer.escape_ascii());
}
