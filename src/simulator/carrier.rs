//! `Carrier`: one carrier with us as its customer. Messages and time in, messages and complaints out.

use crate::simulator::description::Description;
use crate::simulator::description::Seen;
use crate::simulator::fork::Fork;
use crate::simulator::judge::ALGORITHMS;
use crate::simulator::judge::Judgement;
use crate::simulator::judge::REALM;
use crate::simulator::judge::text;
use crate::simulator::model::CarrierModel;
use crate::simulator::registrar::Registrar;
use crate::simulator::transfer::Transfers;
use crate::simulator::way::recorded;
use crate::sip::digest::server::Server;
use crate::sip::message;
use crate::sip::message::Message;
use crate::sip::message::Request;
use crate::sip::message::method::Method;
use crate::sip::message::name::HeaderName;
use crate::sip::message::write::ResponseWriter;
use crate::types::moment::Moment;
use crate::types::secret::Secret;
use crate::types::srtp::SrtpSuite;
use crate::types::transport::Transport;
use bytes::Bytes;
use std::collections::HashSet;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::time::Duration;

/// How long it rings at a carrier before somebody answers.
pub const ANSWER_AFTER: Duration = Duration::from_secs(2);
/// The CSeq of a carrier's first request; later ones count on, so that they can be told from ours.
pub(super) const FIRST_CSEQ: u32 = 100;
/// The session interval of carriers that want one, in seconds.
const SESSION_S: u32 = 1_800;
/// The methods of a carrier's Allow.
pub(super) const ALLOWED: &str = "INVITE, ACK, BYE, CANCEL, OPTIONS, UPDATE, PRACK, REFER, NOTIFY";
/// Where a carrier sends calls on to (RFC 5737).
const ELSEWHERE: &str = "203.0.113.99";

/// What a carrier knows of us.
#[derive(Clone, Debug)]
pub struct Subscription {
    /// The numbers allotted to us, as E.164.
    pub numbers: Vec<String>,
    /// User of our account.
    pub username: String,
    /// Its password.
    pub password: Secret<String>,
    /// User and password that we gave it, for challenges of ours.
    pub given: Option<(String, Secret<String>)>,
    /// Media is encrypted, its own offers by this suite, and not otherwise.
    pub suite: Option<SrtpSuite>,
    /// Our address on its sheet.
    pub address: IpAddr,
    /// Where its media is.
    pub media: SocketAddr,
    /// How messages travel between us.
    pub transport: Transport,
}

/// What becomes of a call that a carrier has taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answering {
    /// It rings, and is answered.
    Answered,
    /// 183 with early media, 180 without, then an answer with media elsewhere.
    MediaMoves,
    /// It rings for ever.
    Rings,
    /// It rings, and then fails: status, reason phrase.
    RingsThenFails(u16, &'static str),
    /// It is answered, and the session timer is ours to keep.
    WeRefresh,
    /// It rings; an answer crosses the CANCEL.
    AnswerCrossesCancel,
    /// Nothing is heard, not even 100.
    Silent,
    /// It is refused after 100: status, reason phrase, Retry-After.
    Refused(u16, &'static str, Option<u32>),
    /// It is sent on to this number, as E.164, at another host.
    SentOn(&'static str),
    /// Two telephones ring, both with early media, and both answer.
    Forks,
    /// It is answered if the session interval is at least this, in seconds; else 422.
    WantsInterval(u32),
}

/// A message of the carrier's, due at a moment.
#[derive(Clone, Debug)]
pub struct Sending {
    /// When.
    pub at: Moment,
    /// From which of its addresses.
    pub from: SocketAddr,
    /// The message.
    pub bytes: Bytes,
    /// Whether it answers an INVITE that may still be cancelled.
    of_call: bool,
}

/// A message of ours that reached the carrier.
#[derive(Clone, Debug)]
pub struct Heard {
    /// When.
    pub at: Moment,
    /// At which of its addresses.
    pub edge: SocketAddr,
    /// Its size in bytes.
    pub size: usize,
    /// The message.
    pub message: Message,
}

/// The dialog of the call in progress, as the carrier has it.
#[derive(Clone, Debug)]
pub(super) struct Dialog {
    pub(super) call_id: String,
    /// Value of our From in its requests: its own address and tag.
    pub(super) local: String,
    pub(super) remote: String,
    /// Our Contact.
    pub(super) target: String,
    pub(super) cseq: u32,
    pub(super) edge: SocketAddr,
    /// The carrier called.
    pub(super) is_caller: bool,
    pub(super) acked: bool,
    /// The CSeq of its INVITE that leaves the offer to us.
    pub(super) asked_by: Option<u32>,
    /// Lines of its INVITE that opens the call, to be sent once more with an answer to a challenge.
    pub(super) opening: Vec<String>,
    /// Its last description.
    pub(super) description: Description,
    /// The proxies between it and us, in the order of its requests (RFC 3261 §12.1).
    pub(super) routes: Vec<String>,
}

/// One carrier with us as its customer.
#[derive(Debug)]
pub struct Carrier {
    model: &'static CarrierModel,
    subscription: Subscription,
    answering: Answering,
    elsewhere: Vec<(SocketAddr, Answering)>,
    digest: Server,
    agenda: Vec<Sending>,
    heard: Vec<Heard>,
    complaints: Vec<String>,
    pub(super) dialog: Option<Dialog>,
    /// A call that goes on while there is another.
    aside: Option<Dialog>,
    pub(super) loses_acks: bool,
    /// The INVITE that rings.
    ringing: Option<(Request, SocketAddr, SocketAddr)>,
    branches: HashSet<Vec<u8>>,
    serial: u32,
    pub(super) registrar: Registrar,
    pub(super) transfers: Transfers,
    pub(super) fork: Option<Fork>,
}

impl Carrier {
    /// A carrier to which nothing has happened yet.
    #[must_use]
    pub fn new(model: &'static CarrierModel, subscription: Subscription) -> Self {
        Self {
            model,
            subscription,
            answering: Answering::Answered,
            elsewhere: Vec::new(),
            // Nonces of a carrier that is only thought of need no secret.
            digest: Server::new([7; 32]),
            agenda: Vec::new(),
            heard: Vec::new(),
            complaints: Vec::new(),
            dialog: None,
            aside: None,
            loses_acks: false,
            ringing: None,
            branches: HashSet::new(),
            serial: 0,
            registrar: Registrar::default(),
            transfers: Transfers::default(),
            fork: None,
        }
    }

    /// What it is a model of.
    #[must_use]
    pub const fn model(&self) -> &'static CarrierModel {
        self.model
    }

    /// What it knows of us.
    #[must_use]
    pub const fn subscription(&self) -> &Subscription {
        &self.subscription
    }

    pub(super) const fn digest(&mut self) -> (&mut Server, &Subscription) {
        (&mut self.digest, &self.subscription)
    }

    /// What becomes of calls from now on.
    pub fn will(&mut self, answering: Answering) {
        self.answering = answering;
    }

    /// What becomes of calls at one of its addresses.
    pub fn will_at(&mut self, edge: SocketAddr, answering: Answering) {
        self.elsewhere.push((edge, answering));
    }

    /// Leaves the call in progress as it is, to call once more.
    pub fn set_aside(&mut self) {
        self.aside = self.dialog.take();
    }

    /// Goes on with the call that was set aside.
    pub fn take_up(&mut self) {
        self.dialog = self.aside.take();
    }

    /// Its ACKs are lost from now on.
    pub const fn lose_acks(&mut self) {
        self.loses_acks = true;
    }

    /// Every message of ours that reached it.
    #[must_use]
    pub fn heard(&self) -> &[Heard] {
        &self.heard
    }

    /// What it did not like, in words.
    #[must_use]
    pub fn complaints(&self) -> &[String] {
        &self.complaints
    }

    /// Whether our answer, or its own, was acknowledged in the right way.
    #[must_use]
    pub fn is_acknowledged(&self) -> bool {
        self.dialog.as_ref().is_some_and(|dialog| dialog.acked)
    }

    /// Whether a call is in progress.
    #[must_use]
    pub const fn is_in_call(&self) -> bool {
        self.dialog.is_some()
    }

    /// The next moment at which it sends something.
    #[must_use]
    pub fn deadline(&self) -> Option<Moment> {
        self.agenda.iter().map(|sending| sending.at).min()
    }

    /// What it sends by `now`, in order.
    pub fn take_due(&mut self, now: Moment) -> Vec<Sending> {
        let (due, rest) = std::mem::take(&mut self.agenda).into_iter().partition(|s| s.at <= now);
        self.agenda = rest;
        let mut due: Vec<Sending> = due;
        due.sort_by_key(|sending| sending.at);
        due
    }

    pub(super) fn complain(&mut self, words: impl Into<String>) {
        self.complaints.push(words.into());
    }

    pub(super) const fn serial(&mut self) -> u32 {
        self.serial += 1;
        self.serial
    }

    pub(super) fn send(&mut self, at: Moment, from: SocketAddr, bytes: Bytes) {
        self.agenda.push(Sending { at, from, bytes, of_call: false });
    }

    /// Takes a message of ours that came to its address `edge` from `source`.
    pub fn receive(
        &mut self,
        now: Moment,
        (edge, source): (SocketAddr, SocketAddr),
        bytes: &Bytes,
    ) {
        let Ok(message) = message::parse(bytes.clone()) else {
            return self.complain("what came is no SIP message");
        };
        let size = bytes.len();
        self.heard.push(Heard { at: now, edge, size, message: message.clone() });
        match message {
            Message::Request(request) => self.request(now, (edge, source), request),
            Message::Response(response) => self.response(now, edge, &response),
        }
    }

    fn request(&mut self, now: Moment, ends: (SocketAddr, SocketAddr), request: Request) {
        let is_within = request.headers.to().tag().is_some();
        if self.is_of_fork(&request) {
            return self.fork_hears(now, ends, &request);
        }
        match &request.method {
            Method::Ack => return self.acknowledged(ends, &request),
            Method::Invite if !is_within => return self.invited(now, ends, request),
            Method::Register => return self.register(now, ends, &request),
            Method::Cancel => return self.cancelled(now, ends, &request),
            _ => (),
        }
        if is_within && self.dialog.is_none() {
            return self.reply(now, ends, &request, 481);
        }
        if is_within {
            self.check_way(ends.0, &request);
        }
        match &request.method {
            Method::Bye => {
                self.check_transfer(now);
                self.dialog = None;
                self.reply(now, ends, &request, 200);
            }
            Method::Invite | Method::Update => self.refreshed(now, ends, &request),
            Method::Refer if is_within => self.referred(now, ends, &request),
            _ => self.reply(now, ends, &request, 200),
        }
    }

    pub(super) fn reply(
        &mut self,
        now: Moment,
        (edge, source): (SocketAddr, SocketAddr),
        request: &Request,
        status: u16,
    ) {
        let writer = ResponseWriter::to(request, source, status, Some(b"carrier"));
        self.send(now, edge, writer.finish());
    }

    fn acknowledged(&mut self, (edge, _): (SocketAddr, SocketAddr), request: &Request) {
        let before = self.complaints.len();
        if self.dialog.is_none() {
            return;
        }
        self.check_way(edge, request);
        let is_right = self.complaints.len() == before;
        if let Some(dialog) = &mut self.dialog {
            dialog.acked = is_right;
        }
    }

    fn invited(&mut self, now: Moment, (edge, source): (SocketAddr, SocketAddr), request: Request) {
        let branch = request.headers.top_via().branch().unwrap_or_default().to_vec();
        if !self.branches.insert(branch) {
            return;
        }
        let elsewhere = self.elsewhere.iter().find(|(own, _)| *own == edge);
        let answering = elsewhere.map_or(self.answering, |(_, answering)| *answering);
        if answering == Answering::Silent {
            return;
        }
        let ends = (edge, source);
        self.reply(now, ends, &request, 100);
        match self.judge(now, source, &request) {
            Judgement::Challenged => self.challenge(now, ends, &request),
            Judgement::Refused(status, phrase, words) => {
                self.complain(words);
                self.refuse(now, ends, &request, (status, phrase, None));
            }
            Judgement::Taken => self.ring(now, ends, request, answering),
        }
    }

    fn challenge(
        &mut self,
        now: Moment,
        (edge, source): (SocketAddr, SocketAddr),
        request: &Request,
    ) {
        let values = self.digest.challenges(now, source.ip(), REALM, &ALGORITHMS);
        let mut writer = ResponseWriter::to(request, source, 407, Some(b"carrier"));
        for value in values {
            writer.header(HeaderName::ProxyAuthenticate, value);
        }
        self.send(now, edge, writer.finish());
    }

    pub(super) fn refuse(
        &mut self,
        now: Moment,
        (edge, source): (SocketAddr, SocketAddr),
        request: &Request,
        (status, phrase, retry_after_s): (u16, &str, Option<u32>),
    ) {
        let reason = (status, phrase.as_bytes());
        let mut writer = ResponseWriter::with_reason(request, source, reason, Some(b"carrier"));
        if let Some(seconds) = retry_after_s {
            writer.number(HeaderName::RetryAfter, seconds);
        }
        self.send(now, edge, writer.finish());
    }

    fn ring(
        &mut self,
        now: Moment,
        (edge, source): (SocketAddr, SocketAddr),
        request: Request,
        answering: Answering,
    ) {
        let ends = (edge, source);
        match answering {
            Answering::Refused(status, phrase, retry_after_s) => {
                return self.refuse(now, ends, &request, (status, phrase, retry_after_s));
            }
            Answering::SentOn(number) => {
                let contact = format!("sip:{}@{ELSEWHERE}", self.model.called.write(number));
                let mut writer = ResponseWriter::to(&request, source, 302, Some(b"carrier"));
                writer.header(HeaderName::Contact, format!("<{contact}>"));
                return self.send(now, edge, writer.finish());
            }
            Answering::RingsThenFails(status, phrase) => {
                self.progress(now, ends, &request, (180, None));
                let reason = (status, phrase.as_bytes());
                let failed =
                    ResponseWriter::with_reason(&request, source, reason, Some(b"carrier"));
                return self.send(now + ANSWER_AFTER, edge, failed.finish());
            }
            Answering::WantsInterval(least) if self.is_too_short(&request, least) => {
                return self.want_interval(now, ends, &request, least);
            }
            Answering::Forks => self.fork(now, ends, &request),
            Answering::Answered
            | Answering::WantsInterval(_)
            | Answering::WeRefresh
            | Answering::MediaMoves
            | Answering::Rings
            | Answering::AnswerCrossesCancel
            | Answering::Silent => (),
        }
        let media = self.subscription.media;
        let moves = answering == Answering::MediaMoves;
        if moves || self.model.early_media {
            self.progress(now, ends, &request, (183, Some(media)));
        }
        if moves || !self.model.early_media {
            self.progress(now + Duration::from_millis(100), ends, &request, (180, None));
        }
        let is_answered = matches!(
            answering,
            Answering::Answered
                | Answering::WeRefresh
                | Answering::MediaMoves
                | Answering::Forks
                | Answering::WantsInterval(_)
        );
        if is_answered {
            let port = if moves { media.port() + 20 } else { media.port() };
            let at = now + ANSWER_AFTER;
            self.answer(at, ends, &request, SocketAddr::new(media.ip(), port));
        }
        self.ringing = Some((request, edge, source));
    }

    fn progress(
        &mut self,
        at: Moment,
        (edge, source): (SocketAddr, SocketAddr),
        request: &Request,
        (status, media): (u16, Option<SocketAddr>),
    ) {
        let mut writer = ResponseWriter::to(request, source, status, Some(b"carrier"));
        self.write_way(&mut writer, edge, request);
        let bytes = match media.zip(Seen::of(&request.body)) {
            Some((media, seen)) => {
                writer.finish_with("application/sdp", seen.answer(media).text().as_bytes())
            }
            None => writer.finish(),
        };
        self.agenda.push(Sending { at, from: edge, bytes, of_call: true });
    }

    /// The 200, and the dialog that follows from it.
    fn answer(
        &mut self,
        at: Moment,
        (edge, source): (SocketAddr, SocketAddr),
        request: &Request,
        media: SocketAddr,
    ) {
        let Some(seen) = Seen::of(&request.body) else { return };
        let description = seen.answer(media);
        let mut writer = ResponseWriter::to(request, source, 200, Some(b"carrier"));
        self.write_way(&mut writer, edge, request);
        writer.header(HeaderName::Allow, ALLOWED);
        let headers = &request.headers;
        if self.model.session_timer && headers.tokens(HeaderName::Supported).has("timer") {
            writer.header(HeaderName::Require, "timer");
            let refresher = if self.answering == Answering::WeRefresh { "uac" } else { "uas" };
            let least = match self.answering {
                Answering::WantsInterval(least) => least,
                _ => SESSION_S,
            };
            let value = format!("{least};refresher={refresher}");
            writer.header(HeaderName::SessionExpires, value);
        }
        let bytes = writer.finish_with("application/sdp", description.text().as_bytes());
        self.agenda.push(Sending { at, from: edge, bytes, of_call: true });
        let value = |name| text(headers.first(name));
        let contact = headers.contact();
        self.dialog = Some(Dialog {
            call_id: value(HeaderName::CallId),
            local: format!("{};tag=carrier", value(HeaderName::To)),
            remote: value(HeaderName::From),
            target: contact.map_or_else(String::new, |c| text(Some(c.uri().as_bytes()))),
            cseq: FIRST_CSEQ,
            edge,
            is_caller: false,
            acked: false,
            asked_by: None,
            opening: Vec::new(),
            description: Description { version: 2, ..description },
            routes: recorded(request.headers.all(HeaderName::RecordRoute)),
        });
    }

    fn cancelled(&mut self, now: Moment, ends: (SocketAddr, SocketAddr), request: &Request) {
        self.reply(now, ends, request, 200);
        let Some((invite, edge, source)) = self.ringing.take() else { return };
        let crosses = self.elsewhere.iter().any(|(_, a)| *a == Answering::AnswerCrossesCancel)
            || self.answering == Answering::AnswerCrossesCancel;
        if crosses {
            return self.answer(now, (edge, source), &invite, self.subscription.media);
        }
        self.agenda.retain(|sending| !sending.of_call);
        self.dialog = None;
        self.refuse(now, (edge, source), &invite, (487, "Request Terminated", None));
    }

    /// A re-INVITE or UPDATE of ours.
    fn refreshed(
        &mut self,
        now: Moment,
        (edge, source): (SocketAddr, SocketAddr),
        request: &Request,
    ) {
        let mut writer = ResponseWriter::to(request, source, 200, None);
        writer.header(HeaderName::Contact, format!("<{}>", self.contact(edge)));
        if let Some(value) = request.headers.first(HeaderName::SessionExpires) {
            writer.header(HeaderName::Require, "timer");
            writer.header(HeaderName::SessionExpires, value);
        }
        let bytes = match Seen::of(&request.body) {
            Some(seen) => {
                let version = self.dialog.as_mut().map_or(1, |dialog| {
                    dialog.description.version += 1;
                    dialog.description.version
                });
                let answer = Description { version, ..seen.answer(self.subscription.media) };
                writer.finish_with("application/sdp", answer.text().as_bytes())
            }
            None => writer.finish(),
        };
        self.send(now, edge, bytes);
    }
}
