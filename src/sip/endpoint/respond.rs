//! Responses of ours.

use super::Context;
use super::Endpoint;
use super::event::Counter;
use super::event::DialogId;
use super::event::Refusal;
use super::flow::Flow;
use super::policy;
use super::request;
use super::request::Sender;
use crate::sip::invite::State;
use crate::sip::message::Request;
use crate::sip::message::header::retry_after::RetryAfter;
use crate::sip::message::header::session_expires::Refresher;
use crate::sip::message::name::HeaderName;
use crate::sip::message::write::ResponseWriter;
use crate::sip::session_timer::SessionAnswer;
use crate::sip::transaction::key::Tag;
use crate::types::cause::HangupCause;
use bytes::Bytes;

/// What a refusal written by the endpoint itself carries besides its status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extra<'a> {
    /// Nothing.
    None,
    /// `Allow`: 405 and 200 to OPTIONS.
    Allow,
    /// `Accept`: 415.
    Accept(&'a str),
    /// `Accept-Encoding` for 415 to an encoded body.
    AcceptEncoding,
    /// `Unsupported` with these option tags: 420.
    Unsupported(&'a [u8]),
    /// `Retry-After`, in seconds: 500 and 503.
    RetryAfter(u32),
    /// `Min-SE`, in seconds: 422.
    MinSe(u32),
    /// `Reason`, and `Warning` where it is of a description.
    Cause(HangupCause),
    /// `Reason` and `Retry-After` of a cause, the latter spread.
    Busy(HangupCause),
    /// What OPTIONS is asked for.
    Capabilities,
    /// `Recv-Info` without a package: 469.
    NoPackages,
}

impl Sender<'_> {
    /// A whole response that opens no dialog.
    pub(super) fn plain(
        &self,
        (request, flow): (&Request, Flow),
        status: u16,
        tag: Option<&[u8]>,
        extra: Extra<'_>,
    ) -> Bytes {
        let mut writer = ResponseWriter::to(request, flow.remote, status, tag);
        writer.header(HeaderName::Server, self.product);
        extra.write(&mut writer, (self, tag));
        writer.finish()
    }
}

impl Extra<'_> {
    fn write(self, writer: &mut ResponseWriter, (sender, tag): (&Sender<'_>, Option<&[u8]>)) {
        match self {
            Self::None => {}
            Self::Allow => {
                writer.header(HeaderName::Allow, sender.allow());
            }
            Self::Accept(kinds) => {
                writer.header(HeaderName::Accept, kinds);
            }
            Self::AcceptEncoding => {
                writer.header(HeaderName::AcceptEncoding, "identity");
            }
            Self::Unsupported(tags) => {
                writer.header(HeaderName::Unsupported, tags);
            }
            Self::RetryAfter(seconds) => {
                writer.number(HeaderName::RetryAfter, seconds);
            }
            Self::MinSe(seconds) => {
                writer.number(HeaderName::MinSe, seconds);
            }
            Self::Cause(cause) => {
                writer.header(HeaderName::Reason, request::reason_of(cause));
                sender.warn_in(writer, cause);
            }
            Self::Busy(cause) => {
                writer.header(HeaderName::Reason, request::reason_of(cause));
                if let Some(least_s) = cause.retry_after_s() {
                    let after = RetryAfter::spread(least_s, tag.unwrap_or_default());
                    writer.number(HeaderName::RetryAfter, after.delay_s);
                }
            }
            Self::Capabilities => {
                writer.header(HeaderName::Accept, request::SDP);
                sender.announce_in(writer);
            }
            Self::NoPackages => {
                writer.named("Recv-Info", "nil");
            }
        }
    }
}

/// A response that opens or refreshes a dialog.
#[derive(Clone, Copy)]
pub(super) struct Opening<'a> {
    pub(super) request: &'a Request,
    pub(super) flow: Flow,
    pub(super) tag: Tag,
    pub(super) contact: &'a Bytes,
    pub(super) session: SessionAnswer,
    /// Number of a reliable provisional response (RFC 3262).
    pub(super) rseq: Option<u32>,
}

impl Sender<'_> {
    /// `Supported` and `Allow`.
    fn announce_in(&self, writer: &mut ResponseWriter) {
        writer.header(HeaderName::Allow, self.allow());
        let supported = self.supported();
        if !supported.is_empty() {
            writer.header(HeaderName::Supported, supported);
        }
    }

    /// `Warning` where a description is refused: what of it is not to be had here, and no more (RFC 3261 §20.43).
    fn warn_in(&self, writer: &mut ResponseWriter, cause: HangupCause) {
        let (code, text) = match cause {
            HangupCause::SrtpMismatch => (302, "Incompatible transport protocol"),
            HangupCause::NoAudio => (304, "Media type not available"),
            HangupCause::NoCommonCodec => (305, "Incompatible media format"),
            HangupCause::BadSdp => (399, cause.text()),
            _ => return,
        };
        writer.header(HeaderName::Warning, format!("{code} {} \"{text}\"", self.host));
    }

    /// A 1xx above 100 or a 2xx to INVITE or UPDATE.
    pub(super) fn opening(&self, of: Opening<'_>, status: u16, body: Option<&Bytes>) -> Bytes {
        let Opening { request, flow, tag, contact, session, rseq } = of;
        let tag = tag.to_text();
        let mut writer = ResponseWriter::to(request, flow.remote, status, Some(&tag));
        writer.record_routes(request).header(HeaderName::Contact, contact);
        self.announce_in(&mut writer);
        if let SessionAnswer::Run(session) = session {
            // RFC 4028 §9: where the peer refreshes, it must know that it does.
            if session.refresher == Some(Refresher::Uac) {
                writer.header(HeaderName::Require, policy::TIMER);
            }
            writer.header(HeaderName::SessionExpires, session.to_value());
        }
        if let Some(rseq) = rseq {
            writer.header(HeaderName::Require, policy::RELIABLE).number(HeaderName::RSeq, rseq);
        }
        writer.header(HeaderName::Server, self.product);
        match body.filter(|body| !body.is_empty()) {
            Some(body) => writer.finish_with(request::SDP, body),
            None => writer.finish(),
        }
    }

    /// The refusal of an INVITE by the call.
    pub(super) fn refusal(
        &self,
        (request, flow): (&Request, Flow),
        tag: &[u8],
        refusal: &Refusal,
    ) -> Bytes {
        let mut writer = ResponseWriter::to(request, flow.remote, refusal.status, Some(tag));
        writer.header(HeaderName::Server, self.product);
        // A challenge refuses nothing yet: a reason would blame credentials nobody gave.
        if !matches!(refusal.status, 401 | 407) {
            writer.header(HeaderName::Reason, request::reason_of(refusal.cause));
        }
        if !refusal.is_passed_on {
            self.warn_in(&mut writer, refusal.cause);
        }
        if let Some(least_s) = refusal.retry_after_s {
            writer.number(HeaderName::RetryAfter, RetryAfter::spread(least_s, tag).delay_s);
        }
        for (name, value) in &refusal.headers {
            writer.named(name, value);
        }
        writer.finish()
    }
}

impl Endpoint {
    /// Answers without keeping anything: the request is answered the same way each time it comes
    /// (RFC 3261 §8.2.7).
    pub(super) fn answer_stateless(
        &self,
        cx: &mut Context<'_>,
        of: (&Request, Flow),
        status: u16,
        extra: Extra<'_>,
    ) {
        let (request, flow) = of;
        let tag = self.stateless_tag(request);
        let bytes = self.config.sender(flow).plain(of, status, Some(&tag), extra);
        cx.answer(flow, bytes);
    }

    /// Refuses a new INVITE once, by the tag its repetition would be answered with too, and forgets it.
    pub(super) fn refuse_once(
        &mut self,
        cx: &mut Context<'_>,
        dialog: DialogId,
        refusal: &Refusal,
        bytes_max: Option<usize>,
    ) -> Option<()> {
        let usage = self.usages.get(dialog.0)?;
        let State::Incoming(incoming) = &usage.state else { return None };
        if !(300..=699).contains(&refusal.status) {
            return None;
        }
        let (transaction, flow) = (incoming.transaction, usage.flow);
        let tag = self.stateless_tag(&incoming.request);
        let of = (incoming.request.as_ref(), flow);
        let bytes = self.config.sender(flow).refusal(of, &tag, refusal);
        if bytes_max.is_some_and(|most| bytes.len() > most) {
            cx.count(Counter::RefusalWithheld);
        } else {
            cx.count(Counter::RefusedOnce);
            cx.transmit(flow, bytes);
        }
        self.drop_transaction(transaction);
        self.forget(cx, dialog);
        Some(())
    }

    /// Whether an ACK is of an answer that was given without keeping anything.
    pub(super) fn is_of_stateless(&self, ack: &Request) -> bool {
        ack.headers.to().tag() == Some(self.stateless_tag(ack).as_slice())
    }

    /// Answers a request within its server transaction.
    pub(super) fn answer(
        &mut self,
        cx: &mut Context<'_>,
        (transaction, dialog): (u64, DialogId),
        (status, extra): (u16, Extra<'_>),
        of: (&Request, Flow),
    ) {
        let usage = self.usages.get(dialog.0);
        let tag = usage.map(|usage| usage.tag.to_text());
        let policy = usage.map_or(self.config.policy, |usage| usage.policy);
        let advertised = usage.and_then(|usage| usage.dialog()?.advertised());
        let sender = self.config.sender(of.1).at(advertised).under(policy);
        let bytes = sender.plain(of, status, tag.as_deref(), extra);
        self.respond(cx, transaction, status, bytes);
    }

    /// Counts a refusal and sends it without keeping anything.
    pub(super) fn refuse_stateless(
        &self,
        cx: &mut Context<'_>,
        of: (&Request, Flow),
        status: u16,
        extra: Extra<'_>,
    ) {
        cx.count(Counter::RefusedRequest);
        self.answer_stateless(cx, of, status, extra);
    }
}
