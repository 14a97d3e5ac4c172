//! A scripted peer: the texts it sends.

use super::SDP;
use super::solo::Sent;
use super::solo::Solo;
use std::fmt::Write as _;
use tandem::sip::digest::client::Account;
use tandem::sip::endpoint::event::Command;
use tandem::sip::endpoint::event::DialogId;
use tandem::sip::endpoint::flow::Flow;
use tandem::sip::endpoint::outbound::OutboundInvite;
use tandem::sip::message::field::HeaderField;
use tandem::types::cause::HangupCause;
use tandem::types::secret::Secret;

/// A request of the peer's under construction.
#[derive(Clone, Debug)]
pub(crate) struct Script {
    pub(crate) method: String,
    pub(crate) uri: String,
    pub(crate) branch: String,
    pub(crate) call_id: String,
    pub(crate) from_tag: String,
    pub(crate) to_tag: Option<String>,
    pub(crate) cseq: u32,
    pub(crate) cseq_method: Option<String>,
    pub(crate) contact: Option<String>,
    pub(crate) headers: Vec<String>,
    pub(crate) content_type: &'static str,
    pub(crate) body: String,
    pub(crate) transport: &'static str,
}

impl Script {
    /// A request outside dialogs.
    pub(crate) fn new(method: &str, call: &str) -> Self {
        Self {
            method: method.to_owned(),
            uri: "sip:+15550100@192.0.2.1".to_owned(),
            branch: format!("z9hG4bK-{call}-{method}"),
            call_id: call.to_owned(),
            from_tag: format!("peer-{call}"),
            to_tag: None,
            cseq: 1,
            cseq_method: None,
            contact: Some("<sip:caller@192.0.2.2:5060>".to_owned()),
            headers: Vec::new(),
            content_type: "application/sdp",
            body: String::new(),
            transport: "UDP",
        }
    }

    /// An INVITE with an offer.
    pub(crate) fn invite(call: &str) -> Self {
        Self { body: SDP.to_owned(), ..Self::new("INVITE", call) }
    }

    /// A further request in the dialog of `self`, to whom `answer` gave the To-tag.
    pub(crate) fn next(&self, method: &str, cseq: u32, answer: &Sent) -> Self {
        Self {
            method: method.to_owned(),
            branch: format!("z9hG4bK-{}-{method}-{cseq}", self.call_id),
            to_tag: Some(to_tag(answer)),
            cseq,
            headers: Vec::new(),
            body: String::new(),
            ..self.clone()
        }
    }

    pub(crate) fn header(mut self, line: &str) -> Self {
        self.headers.push(line.to_owned());
        self
    }

    pub(crate) fn body(mut self, content_type: &'static str, body: &str) -> Self {
        self.content_type = content_type;
        self.body = body.to_owned();
        self
    }

    pub(crate) fn branch(mut self, branch: &str) -> Self {
        self.branch = branch.to_owned();
        self
    }

    pub(crate) fn text(&self) -> String {
        let method = &self.method;
        let mut text = format!(
            "{method} {} SIP/2.0\r\nVia: SIP/2.0/{} 192.0.2.2:5060;branch={};rport\r\n\
             Max-Forwards: 70\r\nFrom: <sip:caller@192.0.2.2>;tag={}\r\nTo: <sip:+15550100@192.0.2.1>",
            self.uri, self.transport, self.branch, self.from_tag
        );
        if let Some(tag) = &self.to_tag {
            write!(text, ";tag={tag}").unwrap();
        }
        let cseq_method = self.cseq_method.as_ref().unwrap_or(method);
        write!(text, "\r\nCall-ID: {}\r\nCSeq: {} {cseq_method}\r\n", self.call_id, self.cseq)
            .unwrap();
        if let Some(contact) = &self.contact {
            write!(text, "Contact: {contact}\r\n").unwrap();
        }
        for line in &self.headers {
            write!(text, "{line}\r\n").unwrap();
        }
        if !self.body.is_empty() {
            write!(text, "Content-Type: {}\r\n", self.content_type).unwrap();
        }
        write!(text, "Content-Length: {}\r\n\r\n{}", self.body.len(), self.body).unwrap();
        text
    }

    /// The ACK of a refusal of this INVITE.
    pub(crate) fn ack_of_refusal(&self, refusal: &Sent) -> Self {
        Self { branch: self.branch.clone(), ..self.next("ACK", self.cseq, refusal) }
    }

    /// The CANCEL of this INVITE.
    pub(crate) fn cancel(&self) -> Self {
        let cancel = self.clone();
        Self { method: "CANCEL".to_owned(), contact: None, body: String::new(), ..cancel }
    }
}

pub(crate) fn to_tag(sent: &Sent) -> String {
    let message = sent.message();
    let tag = message.headers().to().tag().unwrap_or_else(|| panic!("no To-tag: {}", sent.text()));
    String::from_utf8_lossy(tag).into_owned()
}

/// A response of the peer's to `request`, which we sent.
pub(crate) fn answer(
    request: &Sent,
    status: u16,
    to_tag: Option<&str>,
    lines: &str,
    body: &str,
) -> String {
    let parsed = request.request();
    let value = |name: &str| request.header(name).join(", ");
    let mut text = format!("SIP/2.0 {status} Whatever\r\nVia: {}\r\n", value("Via"));
    write!(text, "From: {}\r\nTo: {}", value("From"), value("To")).unwrap();
    if let Some(tag) = to_tag.filter(|_| parsed.headers.to().tag().is_none()) {
        write!(text, ";tag={tag}").unwrap();
    }
    write!(text, "\r\nCall-ID: {}\r\nCSeq: {}\r\n{lines}", value("Call-ID"), value("CSeq"))
        .unwrap();
    if !body.is_empty() {
        text.push_str("Content-Type: application/sdp\r\n");
    }
    write!(text, "Content-Length: {}\r\n\r\n{body}", body.len()).unwrap();
    text
}

/// The usual Contact of a called party.
pub(crate) const CALLED: &str = "Contact: <sip:called@192.0.2.2:5060>\r\n";

/// A call of ours.
pub(crate) fn outbound(flow: Flow) -> OutboundInvite {
    OutboundInvite {
        from_display: Some("Tan \"the\" dem".to_owned()),
        contact_user: "+15550100".to_owned(),
        body: Some(SDP.into()),
        headers: vec![HeaderField::new("X-Test", "1").unwrap()],
        ..OutboundInvite::new(flow, "sip:+15550199@carrier.example", "sip:+15550100@192.0.2.1")
    }
}

/// The same with credentials.
pub(crate) fn outbound_with_credentials(flow: Flow) -> OutboundInvite {
    let accounts = vec![Account::new("user", Secret::new("secret".to_owned()))];
    OutboundInvite { accounts, ..outbound(flow) }
}

/// A call of the peer's that was answered and acknowledged: its INVITE, our dialog, our 200.
pub(crate) fn established(solo: &mut Solo, script: &Script) -> (DialogId, Sent) {
    solo.receive(&script.text());
    let dialog = solo.take_invited();
    solo.command(Command::Accept { dialog, body: SDP.into() });
    let ok = solo.take_last();
    assert_eq!(ok.kind(), "200");
    solo.receive(&script.next("ACK", script.cseq, &ok).text());
    solo.take_sent();
    solo.take_events();
    (dialog, ok)
}

/// A call of ours that was answered and acknowledged: our INVITE, our dialog, our ACK.
pub(crate) fn connected(solo: &mut Solo, lines: &str) -> (DialogId, Sent, Sent) {
    let dialog = solo.invite(outbound(solo.flow));
    let invite = solo.take_one();
    solo.receive(&answer(&invite, 200, Some("callee"), lines, SDP));
    solo.command(Command::Acknowledge { dialog, body: None });
    let ack = solo.take_one();
    assert_eq!(ack.kind(), "ACK");
    solo.take_events();
    (dialog, invite, ack)
}

pub(crate) fn hangup(solo: &mut Solo, dialog: DialogId) {
    solo.command(Command::Hangup { dialog, cause: HangupCause::Normal });
}
