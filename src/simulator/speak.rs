//! Requests of a carrier's own: it calls us, changes the call, probes us, and hangs up.

use crate::simulator::carrier::ALLOWED;
use crate::simulator::carrier::Carrier;
use crate::simulator::carrier::Dialog;
use crate::simulator::carrier::FIRST_CSEQ;
use crate::simulator::description::Description;
use crate::simulator::description::Seen;
use crate::simulator::judge::text;
use crate::simulator::model::DidPlace;
use crate::simulator::way::recorded;
use crate::sip::digest::client::Account;
use crate::sip::digest::client::Client;
use crate::sip::message::Response;
use crate::sip::message::method::Method;
use crate::sip::message::name::HeaderName;
use crate::types::moment::Moment;
use bytes::Bytes;
use std::net::SocketAddr;

/// A call of the carrier's to us.
#[derive(Clone, Debug)]
pub struct CallIn<'a> {
    /// From which of its addresses.
    pub edge: SocketAddr,
    /// The number it calls, as E.164.
    pub called: &'a str,
    /// Who calls, as E.164; `None`: withheld.
    pub caller: Option<&'a str>,
    /// It makes the offer; otherwise we do.
    pub offers: bool,
    /// Header lines it always writes for us.
    pub headers: &'a [(String, String)],
    /// More of them, whole lines.
    pub more: &'a [&'a str],
}

impl Carrier {
    /// Calls us.
    pub fn call(&mut self, now: Moment, call: &CallIn<'_>) {
        let model = self.model();
        let (serial, edge) = (self.serial(), call.edge);
        let host = self.subscription().address;
        let number = model.called_in.write(call.called);
        let (user, to) = match model.did_in {
            DidPlace::RequestUri | DidPlace::AlsoDiversion => (number.clone(), number.clone()),
            // A registered trunk is called at its Contact; who was dialled stands elsewhere.
            DidPlace::CalledParty => ("trunk".to_owned(), "trunk".to_owned()),
        };
        let caller = call.caller.map_or("anonymous".to_owned(), |c| model.caller_in.write(c));
        let from = format!("<sip:{caller}@carrier.example>;tag=caller{serial}");
        let target = format!("sip:{user}@{host}:5060");
        // One that may be challenged counts from one less, so that the call begins with the same in the end.
        let first = FIRST_CSEQ - u32::from(self.subscription().given.is_some());
        let remote = format!("<sip:{to}@{host}>");
        let description = Description::offer(self.subscription().media, self.subscription().suite);
        let dialog = Dialog {
            call_id: format!("carrier-{serial}"),
            local: from,
            remote,
            target,
            cseq: first,
            edge,
            is_caller: true,
            acked: false,
            asked_by: (!call.offers).then_some(first),
            opening: Vec::new(),
            description: description.clone(),
            routes: Vec::new(),
        };
        let mut lines: Vec<String> =
            call.headers.iter().map(|(name, value)| format!("{name}: {value}")).collect();
        match model.did_in {
            DidPlace::RequestUri => {}
            DidPlace::AlsoDiversion => {
                lines.push(format!("Diversion: <sip:{number}@carrier.example>"));
            }
            DidPlace::CalledParty => {
                lines.push(format!("P-Called-Party-ID: <sip:{number}@carrier.example>"));
            }
        }
        lines.push(format!("Record-Route: {}", self.record_route(edge)));
        lines.extend(call.more.iter().map(|line| (*line).to_owned()));
        let body = call.offers.then(|| description.text());
        let bytes = self.written(&dialog, &Method::Invite, (&lines, body.as_deref()));
        self.dialog = Some(Dialog { opening: lines, ..dialog });
        self.send(now, edge, bytes);
    }

    /// Sends a request within the call; with a description, if any.
    pub fn within(
        &mut self,
        now: Moment,
        method: &Method,
        description: Option<&Description>,
        lines: &[&str],
    ) {
        let Some(mut dialog) = self.dialog.take() else { return };
        dialog.cseq += 1;
        if *method == Method::Invite {
            dialog.asked_by = description.is_none().then_some(dialog.cseq);
        }
        if let Some(description) = description {
            dialog.description = description.clone();
        }
        let lines: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
        let body = description.map(Description::text);
        let bytes = self.written(&dialog, method, (&lines, body.as_deref()));
        let edge = dialog.edge;
        self.dialog = (*method != Method::Bye).then_some(dialog);
        self.send(now, edge, bytes);
    }

    /// Sends a request within the call at a later moment; one that ends it does so once we hang up as well.
    pub(super) fn later(
        &mut self,
        at: Moment,
        method: &Method,
        (lines, body): (&[String], Option<&str>),
    ) {
        let Some(mut dialog) = self.dialog.take() else { return };
        dialog.cseq += 1;
        let bytes = self.written(&dialog, method, (lines, body));
        let edge = dialog.edge;
        self.dialog = Some(dialog);
        self.send(at, edge, bytes);
    }

    /// Cancels its call to us.
    pub fn cancel(&mut self, now: Moment) {
        let Some(dialog) = self.dialog.clone() else { return };
        let bytes = self.written(&dialog, &Method::Cancel, (&[], None));
        self.send(now, dialog.edge, bytes);
    }

    /// Asks whether we are there.
    pub fn probe(&mut self, now: Moment, edge: SocketAddr) {
        let host = self.subscription().address;
        let dialog = Dialog {
            call_id: format!("probe-{}", self.serial()),
            local: "<sip:ping@carrier.example>;tag=probe".to_owned(),
            remote: format!("<sip:{host}>"),
            target: format!("sip:{host}:5060"),
            cseq: FIRST_CSEQ,
            edge,
            is_caller: true,
            acked: false,
            asked_by: None,
            opening: Vec::new(),
            description: Description::offer(self.subscription().media, None),
            routes: Vec::new(),
        };
        let bytes = self.written(&dialog, &Method::Options, (&[], None));
        self.send(now, edge, bytes);
    }

    /// What the carrier said last of its media.
    #[must_use]
    pub fn description(&self) -> Option<&Description> {
        self.dialog.as_ref().map(|dialog| &dialog.description)
    }

    fn written(
        &self,
        dialog: &Dialog,
        method: &Method,
        (lines, body): (&[String], Option<&str>),
    ) -> Bytes {
        let name = text(Some(method.as_bytes()));
        let (edge, cseq) = (dialog.edge, dialog.cseq);
        let transport = self.subscription().transport.via_token();
        // RFC 3261 §9.1: CANCEL has the branch of its INVITE; so has the ACK of a refusal.
        let kind = match method {
            Method::Invite | Method::Cancel => "INVITE",
            _ => name.as_str(),
        };
        let mut head = format!(
            "{name} {} SIP/2.0\r\nVia: SIP/2.0/{transport} {edge};branch=z9hG4bK-{}-{cseq}-{kind};rport\r\n\
             Max-Forwards: 69\r\nFrom: {}\r\nTo: {}\r\nCall-ID: {}\r\nCSeq: {cseq} {name}\r\n\
             Contact: <{}>\r\nAllow: {ALLOWED}\r\n",
            dialog.target,
            dialog.call_id,
            dialog.local,
            dialog.remote,
            dialog.call_id,
            self.contact(edge),
        );
        // A CANCEL, and what is outside a call, has no way of its own yet.
        for route in &dialog.routes {
            head.push_str(&format!("Route: {route}\r\n"));
        }
        for line in lines {
            head.push_str(line);
            head.push_str("\r\n");
        }
        let body = body.unwrap_or_default();
        if !body.is_empty() {
            let kind = match method {
                Method::Notify => "message/sipfrag;version=2.0",
                _ => "application/sdp",
            };
            head.push_str(&format!("Content-Type: {kind}\r\n"));
        }
        head.push_str(&format!("Content-Length: {}\r\n\r\n{body}", body.len()));
        head.into()
    }

    pub(super) fn response(&mut self, now: Moment, edge: SocketAddr, response: &Response) {
        let cseq = response.headers.cseq();
        if cseq.method != Method::Invite || response.status < 200 {
            return;
        }
        let Some(mut dialog) = self.dialog.take() else { return };
        let is_ours = text(Some(response.headers.call_id())) == dialog.call_id;
        if !is_ours || cseq.number < FIRST_CSEQ - 1 {
            self.dialog = Some(dialog);
            return;
        }
        if let Some(again) = self.with_credentials(now, (edge, &dialog), response) {
            self.dialog = Some(again);
            return;
        }
        let is_success = response.status < 300;
        let is_first = dialog.is_caller && cseq.number <= FIRST_CSEQ;
        if is_first {
            dialog.remote = text(response.headers.first(HeaderName::To));
        }
        if is_first && is_success {
            // The answer repeats its own proxy, which the call passed first.
            let own = self.record_route(edge);
            dialog.routes = recorded(response.headers.all(HeaderName::RecordRoute));
            dialog.routes.retain(|route| *route != own);
            dialog.routes.reverse();
        }
        if is_success && let Some(contact) = response.headers.contact() {
            dialog.target = text(Some(contact.uri().as_bytes()));
        }
        if !(is_success && self.loses_acks) {
            let branch = if is_success { "" } else { "INVITE" };
            let bytes = self.ack(&dialog, cseq.number, (branch, response));
            dialog.acked |= is_success;
            self.send(now, edge, bytes);
        }
        let is_over = is_first && !is_success;
        self.dialog = (!is_over).then_some(dialog);
    }

    /// A challenge of ours is answered once: the call that opens with the same INVITE and the credentials we
    /// gave it.
    fn with_credentials(
        &mut self,
        now: Moment,
        (edge, dialog): (SocketAddr, &Dialog),
        response: &Response,
    ) -> Option<Dialog> {
        let number = response.headers.cseq().number;
        let (username, password) = self.subscription().given.clone()?;
        if !matches!(response.status, 401 | 407) || !dialog.is_caller || number >= FIRST_CSEQ {
            return None;
        }
        let mut client = Client::new(vec![Account::new(&username, password)], number.into());
        let uri = dialog.target.as_bytes();
        let credentials = client.answer(&response.headers, &Method::Invite, uri).ok()?;
        let remote = text(response.headers.first(HeaderName::To));
        let refused = Dialog { remote, ..dialog.clone() };
        let ack = self.ack(&refused, number, ("INVITE", response));
        self.send(now, edge, ack);
        let asked_by = dialog.asked_by.map(|_| FIRST_CSEQ);
        let again = Dialog { cseq: FIRST_CSEQ, asked_by, ..dialog.clone() };
        let mut lines = again.opening.clone();
        let line = |(name, value): (HeaderName, Vec<u8>)| {
            format!("{}: {}", name.as_str(), String::from_utf8_lossy(&value))
        };
        lines.extend(credentials.into_iter().map(line));
        let body = asked_by.is_none().then(|| again.description.text());
        let bytes = self.written(&again, &Method::Invite, (&lines, body.as_deref()));
        self.send(now, edge, bytes);
        Some(again)
    }

    /// The ACK of a final response; with an answer where the description in it is an offer.
    fn ack(&self, dialog: &Dialog, number: u32, (branch, response): (&str, &Response)) -> Bytes {
        let ack = Dialog { cseq: number, ..dialog.clone() };
        if !branch.is_empty() {
            let bytes = self.written(&ack, &Method::Ack, (&[], None));
            let written = text(Some(&bytes));
            return written.replacen("-ACK;rport", "-INVITE;rport", 1).into();
        }
        let asked_us = dialog.asked_by == Some(number);
        let answer = Seen::of(&response.body)
            .filter(|_| asked_us)
            .map(|seen| seen.answer(self.subscription().media).text());
        self.written(&ack, &Method::Ack, (&[], answer.as_deref()))
    }
}
