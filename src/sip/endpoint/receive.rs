//! What came from the network: to its transaction, to its dialog, or to a new call.

use super::Context;
use super::Endpoint;
use super::event::Body;
use super::event::Counter;
use super::event::DialogId;
use super::event::Event;
use super::flow::Flow;
use super::respond::Extra;
use super::told::Declined;
use super::transact::Machine;
use super::transact::Purpose;
use super::transact::Told;
use super::transact::Upward;
use crate::sip::invite::State;
use crate::sip::message::Message;
use crate::sip::message::Request;
use crate::sip::message::Response;
use crate::sip::message::header::reason::Reason;
use crate::sip::message::headers::Headers;
use crate::sip::message::method::Method;
use crate::sip::message::name::HeaderName;
use crate::sip::message::parse;
use crate::sip::message::peek;
use crate::sip::message::peek::FirstLine;
use crate::sip::multipart;
use crate::sip::transaction::invite_client;
use crate::sip::transaction::key::ClientKey;
use crate::sip::transaction::key::ServerKey;
use crate::sip::transaction::key::Tag;
use crate::types::cause::HangupCause;
use bytes::Bytes;
use std::net::SocketAddr;

impl Endpoint {
    pub(super) fn receive(&mut self, cx: &mut Context<'_>, flow: Flow, message: Bytes) {
        match parse(message.clone()) {
            Ok(Message::Request(request)) => match request.method {
                Method::Ack => self.ack(cx, flow, &request),
                Method::Cancel => self.cancel(cx, flow, &request),
                _ => self.request(cx, flow, request),
            },
            Ok(Message::Response(response)) => self.response(cx, response),
            Err(error) => {
                cx.count(Counter::Malformed(error.what));
                let status = error.reply.as_ref().map(|reply| reply.status());
                if let Some(reply) = &error.reply {
                    cx.answer(flow, reply.answer(flow.remote));
                }
                if peek::first_line(&message) == FirstLine::Invite {
                    let cause = HangupCause::ProtocolError;
                    let why = format!("{}, at byte {}", error.what.phrase(), error.offset).into();
                    let declined = Declined { flow, message, status, cause, why };
                    cx.event(Event::Declined(Box::new(declined)));
                }
            }
        }
    }

    fn request(&mut self, cx: &mut Context<'_>, flow: Flow, request: Request) {
        if let Some(&id) = self.servers.get(&ServerKey::of(&request)) {
            self.came_again(id, flow);
            self.turn(cx, id, Told::Repeated);
        } else if request.headers.to().tag().is_some() {
            self.request_within(cx, flow, request);
        } else {
            self.request_outside(cx, flow, request);
        }
    }

    /// ACK to a refusal ends its transaction; ACK to a 2xx belongs to the dialog.
    fn ack(&mut self, cx: &mut Context<'_>, flow: Flow, request: &Request) {
        if let Some(&id) = self.servers.get(&ServerKey::of(request)) {
            let upward = self.turn(cx, id, Told::Ack);
            if upward != Some(Upward::Deliver) {
                return;
            }
        }
        match self.dialog_of(&request.headers) {
            Some(dialog) => self.acknowledged(cx, flow, dialog, request),
            None if self.is_of_stateless(request) => {}
            None => cx.count(Counter::StrayAck),
        }
    }

    /// CANCEL is settled here, whatever the call is doing (RFC 3261 §9.2).
    fn cancel(&mut self, cx: &mut Context<'_>, flow: Flow, request: &Request) {
        let of = (request, flow);
        let found = self.servers.get(&ServerKey::of_invite(request)).copied();
        let Some(transaction) = found.and_then(|id| self.transactions.get(id)) else {
            cx.count(Counter::StrayCancel);
            self.answer_stateless(cx, of, 481, Extra::None);
            return;
        };
        let tag = match &transaction.machine {
            Machine::InviteServer { tag, .. } => tag.to_text(),
            Machine::Server { .. } | Machine::InviteClient { .. } | Machine::Client { .. } => {
                return;
            }
        };
        let owner = transaction.owner;
        if let Some(id) = found {
            self.came_again(id, flow);
        }
        let bytes = self.config.sender(flow).plain(of, 200, Some(&tag), Extra::None);
        cx.transmit(flow, bytes);
        let Some(dialog) = owner else { return };
        match self.usages.get(dialog.0).map(|usage| &usage.state) {
            Some(State::Incoming(_)) => {
                self.refuse_incoming(cx, dialog, 487, HangupCause::CallerCancelled);
                let reason = reason_of_cancel(&request.headers);
                cx.event(Event::Cancelled { dialog, reason });
                self.forget(cx, dialog);
            }
            Some(State::Confirmed(_)) => self.cancel_reinvite(cx, dialog, found),
            Some(State::Calling(_) | State::Leaving(_)) | None => {}
        }
    }

    /// A CANCEL of a re-INVITE that the call has not answered yet: the session stays as it was, and
    /// the call's answer comes too late.
    fn cancel_reinvite(&mut self, cx: &mut Context<'_>, dialog: DialogId, cancelled: Option<u64>) {
        let Some(usage) = self.usages.get_mut(dialog.0) else { return };
        let Some(asked) = usage.asked.take_if(|asked| Some(asked.transaction) == cancelled) else {
            return;
        };
        let flow = usage.flow;
        let cause = Extra::Cause(HangupCause::CallerCancelled);
        self.answer(cx, (asked.transaction, dialog), (487, cause), (&asked.request, flow));
    }

    fn response(&mut self, cx: &mut Context<'_>, response: Response) {
        let found = ClientKey::of(&response).and_then(|key| self.clients.get(&key).copied());
        let Some(id) = found else {
            cx.count(Counter::StrayResponse);
            return;
        };
        let Some((owner, purpose)) = self.client(id) else { return };
        if self.turn(cx, id, Told::Response(&response)) != Some(Upward::Deliver) {
            return;
        }
        if let Purpose::Outside(place) = purpose {
            self.outside_answered(cx, place, response);
        } else if let Some(dialog) = owner {
            self.answered(cx, (dialog, purpose, id), response);
        }
    }

    /// The dialog a request with these headers is of.
    pub(super) fn dialog_of(&self, headers: &Headers) -> Option<DialogId> {
        let tag = Tag::parse(headers.to().tag()?)?;
        let id = *self.tags.get(&tag)?;
        let usage = self.usages.get(id.0)?;
        let is_ours = match &usage.state {
            State::Calling(calling) => calling.call_id == headers.call_id(),
            State::Incoming(_) | State::Confirmed(_) | State::Leaving(_) => {
                usage.dialog().is_some_and(|dialog| dialog.holds_request(headers))
            }
        };
        is_ours.then_some(id)
    }

    /// A request did not arrive: what it was to begin fails at once. Within a dialog repetition goes on,
    /// since a peer that starts anew is no reason to end a call.
    pub(super) fn unreached(&mut self, cx: &mut Context<'_>, remote: SocketAddr, key: ClientKey) {
        let Some(&id) = self.clients.get(&key) else { return };
        let client = self.client(id);
        let Some((transaction, (_, purpose))) = self.transactions.get(id).zip(client) else {
            return;
        };
        let is_unheard = match &transaction.machine {
            Machine::InviteClient { machine, .. } => {
                machine.state() == invite_client::State::Calling && purpose == Purpose::Invite
            }
            Machine::Client { .. } => matches!(purpose, Purpose::Outside(_)),
            Machine::InviteServer { .. } | Machine::Server { .. } => false,
        };
        let is_datagram = !transaction.flow.transport.is_reliable();
        if is_unheard && is_datagram && transaction.flow.remote == remote {
            cx.count(Counter::RequestUnreached);
            let upward = self.cut(cx, id);
            self.failed(cx, client, (id, upward));
        }
    }
}

/// The session description of a message, if it has one; an unusable body counts as none.
pub(super) fn description(headers: &Headers, body: &Bytes) -> Option<Body> {
    let content_type = headers.first(HeaderName::ContentType);
    let bytes = multipart::session_description(content_type, body).ok()??;
    // The call keeps it for long: not the whole datagram with it.
    let bytes = Bytes::copy_from_slice(&bytes);
    Some(Body { content_type: Bytes::from_static(super::request::SDP.as_bytes()), bytes })
}

/// Whether a message has one.
pub(super) fn is_described(headers: &Headers, body: &Bytes) -> bool {
    let content_type = headers.first(HeaderName::ContentType);
    matches!(multipart::session_description(content_type, body), Ok(Some(_)))
}

/// The value of `Reason`, if there is one; of several that with a cause of Q.850, else the first.
pub(super) fn reason_value(headers: &Headers) -> Option<Bytes> {
    let is_q850 = |entry: &&[u8]| Reason::parse(entry).is_ok_and(|reason| reason.q850().is_some());
    let best = headers.all(HeaderName::Reason).find(is_q850);
    best.or_else(|| headers.all(HeaderName::Reason).next()).map(Bytes::copy_from_slice)
}

/// The same of a CANCEL: that which says that another party has answered comes first (RFC 3326 §3.1), since a cause of Q.850
/// beside it may say no more than 16.
fn reason_of_cancel(headers: &Headers) -> Option<Bytes> {
    let is_elsewhere = |entry: &&[u8]| {
        let told = Reason::parse(entry).ok().and_then(|reason| reason.told());
        told.is_some_and(|reason| reason.is_answered_elsewhere())
    };
    let best = headers.all(HeaderName::Reason).find(is_elsewhere);
    best.map(Bytes::copy_from_slice).or_else(|| reason_value(headers))
}
