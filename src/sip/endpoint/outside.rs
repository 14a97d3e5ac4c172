//! Requests of ours outside dialogs: OPTIONS that ask whether somebody is there, REGISTER, any other.

use super::Context;
use super::Due;
use super::Endpoint;
use super::event::Event;
use super::outbound::MAX_FORWARDS;
use super::outbound::OutboundRequest;
use super::outbound::Probe;
use super::request;
use super::timers::Armed;
use super::told::RequestAnswer;
use super::told::RequestOutcome;
use super::transact::Purpose;
use super::transact::Upward;
use crate::sip::digest::client::Credentials;
use crate::sip::message::Response;
use crate::sip::message::header::name_addr::NameAddr;
use crate::sip::message::method::Method;
use crate::sip::message::name::HeaderName;
use crate::sip::message::uri::Uri;
use crate::sip::transaction::Class;
use crate::sip::transaction::key::Branch;
use crate::sip::transaction::key::ClientKey;
use crate::sip::transaction::key::Kind;
use crate::sip::transaction::key::Tag;
use crate::types::limit::SIP_CSEQ_MAX;
use crate::types::limit::SIP_REQUESTS_MAX;
use crate::types::limit::SIP_TRANSACTIONS_MAX;
use crate::types::moment::Moment;
use crate::types::transport::DatagramRule;
use bytes::Bytes;
use std::sync::Arc;

/// A request outside dialogs that waits for its answer.
#[derive(Debug)]
pub(super) struct Outside {
    request: OutboundRequest,
    uri: Uri,
    call_id: Bytes,
    tag: Tag,
    is_probe: bool,
    began: Moment,
    timer: Option<Armed>,
}

impl Endpoint {
    pub(super) fn probe(&mut self, cx: &mut Context<'_>, probe: Probe) {
        let request = OutboundRequest {
            routes: probe.routes,
            from: probe.from,
            call_id: probe.call_id,
            patience: probe.patience,
            contact_user: Some(String::new()),
            ..OutboundRequest::new(probe.token, probe.flow, Method::Options, &probe.uri)
        };
        self.ask_outside(cx, request, true);
    }

    pub(super) fn ask_outside(
        &mut self,
        cx: &mut Context<'_>,
        request: OutboundRequest,
        is_probe: bool,
    ) {
        let tag = Tag::new(&mut self.random);
        let call_id = match &request.call_id {
            Some(given) => Bytes::copy_from_slice(given.as_ref()),
            None => self.new_call_id(),
        };
        let uri = Uri::from_text(&request.uri).unwrap_or(Uri::Other(Bytes::new()));
        let patience = request.patience.min(self.config.timers.give_up());
        let fault = self.outside_fault(&request);
        let began = cx.now;
        let outside = Outside { request, uri, call_id, tag, is_probe, began, timer: None };
        if let Some(outcome) = fault {
            return tell(cx, outside, outcome);
        }
        let place = self.outside.insert(outside);
        if let Some(outside) = self.outside.get_mut(place) {
            self.timers.arm(&mut outside.timer, cx.now + patience, Due::Outside(place));
        }
        self.send_outside(cx, place, &[]);
    }

    fn outside_fault(&self, request: &OutboundRequest) -> Option<RequestOutcome> {
        let has_own_command = match request.method {
            Method::Invite | Method::Ack | Method::Cancel | Method::Bye | Method::Prack => true,
            Method::Options
            | Method::Register
            | Method::Info
            | Method::Update
            | Method::Refer
            | Method::Notify
            | Method::Subscribe
            | Method::Message
            | Method::Publish
            | Method::Other(_) => false,
        };
        let uris = [&request.uri, &request.from, &request.to];
        let mut uris = uris.into_iter().chain(&request.routes);
        let contact = request.contact.as_ref();
        let is_readable = uris.all(|uri| request::is_uri(uri))
            && request.call_id.as_ref().is_none_or(request::is_call_id)
            && request.cseq <= SIP_CSEQ_MAX
            && request.contact_user.as_deref().is_none_or(is_user)
            && contact.is_none_or(|contact| {
                let bytes = Bytes::copy_from_slice(contact.as_ref());
                contact.as_str() == "*" || NameAddr::parse(bytes).is_ok()
            });
        if has_own_command || !is_readable {
            return Some(RequestOutcome::Unwritable);
        }
        let is_full = self.outside.len() >= SIP_REQUESTS_MAX
            || self.transactions.len() >= SIP_TRANSACTIONS_MAX;
        is_full.then_some(RequestOutcome::Full)
    }

    /// Sends the request in a transaction of its own.
    fn send_outside(&mut self, cx: &mut Context<'_>, place: u64, given: &[Credentials]) {
        let branch = Branch::new(&mut self.random);
        let Some(outside) = self.outside.get_mut(place) else { return };
        let (flow, uri) = (outside.request.flow, outside.uri.as_bytes().clone());
        let fresh = match outside.request.digest.as_mut() {
            Some(digest) if given.is_empty() => digest.authorize(&outside.request.method, &uri),
            Some(_) | None => Vec::new(),
        };
        let credentials = if given.is_empty() { &fresh } else { given };
        let sender = self.config.sender(flow).at(outside.request.advertised.as_deref());
        let bytes = outside.write(&sender, branch, credentials);
        let key = ClientKey { branch, kind: Kind::Other };
        let of = (None, Purpose::Outside(place));
        if self.begin_client(cx, key, of, (flow.into(), bytes)).is_none() {
            self.outside_over(cx, place, RequestOutcome::Unwritable);
        }
    }

    pub(super) fn outside_rule(&self, place: u64) -> DatagramRule {
        let outside = self.outside.get(place);
        outside.map_or_else(DatagramRule::default, |outside| outside.request.datagrams)
    }

    pub(super) fn outside_answered(
        &mut self,
        cx: &mut Context<'_>,
        place: u64,
        response: Response,
    ) {
        let Some(outside) = self.outside.get_mut(place) else { return };
        if Class::of(response.status) == Class::Provisional {
            return;
        }
        if let Some(digest) = outside.request.digest.as_mut() {
            let (method, uri) = (&outside.request.method, outside.uri.as_bytes());
            let is_challenge = matches!(response.status, 401 | 407);
            if is_challenge && let Ok(given) = digest.answer(&response.headers, method, uri) {
                outside.request.cseq = outside.request.cseq.saturating_add(1).min(SIP_CSEQ_MAX);
                return self.send_outside(cx, place, &given);
            }
            digest.accept(&response.headers);
        }
        self.outside_over(cx, place, RequestOutcome::Answered(Arc::new(response)));
    }

    pub(super) fn outside_failed(&mut self, cx: &mut Context<'_>, place: u64, upward: Upward) {
        match upward {
            Upward::Deliver => {}
            Upward::TimedOut => self.outside_over(cx, place, RequestOutcome::TimedOut),
            Upward::Unreachable => self.outside_over(cx, place, RequestOutcome::Unreachable),
        }
    }

    /// Tells the outcome. A transaction still open goes on by itself until its own timers end it.
    pub(super) fn outside_over(
        &mut self,
        cx: &mut Context<'_>,
        place: u64,
        outcome: RequestOutcome,
    ) {
        let Some(mut outside) = self.outside.remove(place) else { return };
        self.timers.disarm(&mut outside.timer);
        tell(cx, outside, outcome);
    }
}

/// True for what may be the user part of our Contact; none is.
fn is_user(text: &str) -> bool {
    text.is_empty() || request::is_uri(&format!("sip:{text}@h"))
}

fn tell(cx: &mut Context<'_>, outside: Outside, outcome: RequestOutcome) {
    let OutboundRequest { token, cseq, digest, .. } = outside.request;
    let took = cx.now.since(outside.began);
    if outside.is_probe {
        return cx.event(Event::Probed { token, status: outcome.status(), took });
    }
    let answer = Box::new(RequestAnswer { outcome, cseq, digest, took });
    cx.event(Event::RequestAnswered { token, answer });
}

impl Outside {
    fn write(
        &self,
        sender: &request::Sender<'_>,
        branch: Branch,
        credentials: &[Credentials],
    ) -> Bytes {
        let request = &self.request;
        let branch = branch.to_text();
        let mut writer = sender.begin(&request.method, &self.uri, &branch, MAX_FORWARDS);
        for route in &request.routes {
            writer.header(HeaderName::Route, format!("<{route}>"));
        }
        let from = format!("<{}>", request.from);
        writer
            .tagged(HeaderName::From, from.as_bytes(), Some(&self.tag.to_text()))
            .header(HeaderName::To, format!("<{}>", request.to))
            .header(HeaderName::CallId, &self.call_id)
            .cseq(request.cseq, &request.method);
        if let Some(contact) = &request.contact {
            writer.header(HeaderName::Contact, contact);
        } else if let Some(user) = &request.contact_user {
            writer.header(HeaderName::Contact, sender.contact(user.as_bytes()));
        }
        if request.method == Method::Options {
            writer.header(HeaderName::Accept, request::SDP);
        }
        sender.announce(&mut writer);
        if request.supports_path {
            writer.header(HeaderName::Supported, "path");
        }
        for field in &request.headers {
            writer.named(field.name(), field.value());
        }
        request::credentials(&mut writer, credentials);
        writer.header(HeaderName::UserAgent, sender.product);
        match &request.body {
            Some((content_type, body)) => writer.finish_with(content_type.as_str(), body),
            None => writer.finish(),
        }
    }
}
