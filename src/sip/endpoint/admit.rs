//! Requests outside dialogs: what is refused at once, OPTIONS, and new calls.

use super::Context;
use super::Endpoint;
use super::event::Body;
use super::event::Counter;
use super::event::DialogId;
use super::event::Event;
use super::event::Invitation;
use super::flow::Flow;
use super::policy;
use super::receive::description;
use super::request;
use super::respond::Extra;
use super::told::Declined;
use super::transact::Dependent;
use super::transact::MergeKey;
use crate::sip::dialog::Dialog;
use crate::sip::invite::Incoming;
use crate::sip::invite::State;
use crate::sip::invite::Usage;
use crate::sip::message::Request;
use crate::sip::message::method::Method;
use crate::sip::message::name::HeaderName;
use crate::sip::message::uri::Uri;
use crate::sip::multipart;
use crate::sip::session_timer::SessionAnswer;
use crate::sip::transaction::key::Branch;
use crate::sip::transaction::key::ClientKey;
use crate::sip::transaction::key::Kind;
use crate::sip::transaction::key::Tag;
use crate::types::cause::HangupCause;
use crate::types::limit::SIP_DIALOGS_MAX;
use crate::types::limit::SIP_TRANSACTIONS_MAX;
use crate::types::limit::TURNED_AWAY_TEXT_MAX;
use std::borrow::Cow;
use std::sync::Arc;

/// First RSeq numbers leave room for all that may follow (RFC 3262 §3).
const RSEQ_MAX: u64 = 1 << 31;
/// Longest user part taken over into our Contact, in bytes.
const CONTACT_USER_BYTES_MAX: usize = 64;
const MERGED: &str = "the same request came by another way before";
const LOOPED: &str = "an INVITE of ours came back as it was";
const FULL: &str = "its SIP shard keeps as many calls as it may";
const NO_DIALOG: &str = "From has no tag, or Contact is missing or unreadable";

/// A refusal before any call saw the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// A status, and what is wrong.
    Status(u16, &'static str),
    /// 405.
    Method,
    /// 415.
    MediaType,
    /// 415 for an encoded body.
    Encoding,
    /// 420 with these option tags.
    Extension(Vec<u8>),
    /// 422 with this as Min-SE.
    SessionTooShort(u32),
}

impl Fault {
    /// What is wrong, in words.
    fn why(&self) -> Cow<'static, str> {
        let why = match self {
            Self::Status(_, why) => why,
            Self::Method => "the method is not served",
            Self::MediaType => "the type of its body is not served",
            Self::Encoding => "the encoding of its body is not served",
            Self::Extension(tags) => {
                let tags = String::from_utf8_lossy(tags);
                let shown: String = tags.chars().take(TURNED_AWAY_TEXT_MAX).collect();
                return format!("it requires what is not served: {shown}").into();
            }
            Self::SessionTooShort(least_s) => {
                return format!("its session interval is below {least_s} s").into();
            }
        };
        why.into()
    }
}

/// The user of our Contact in answers to `request`: the one it dialled.
pub(super) fn contact_user(request: &Request) -> &[u8] {
    let user = request.uri.user().filter(|user| user.len() <= CONTACT_USER_BYTES_MAX);
    user.filter(|_| matches!(request.uri, Uri::Sip(_))).unwrap_or(&[])
}

impl Endpoint {
    pub(super) fn request_outside(&mut self, cx: &mut Context<'_>, flow: Flow, request: Request) {
        let of = (&request, flow);
        match request.method {
            Method::Invite => self.new_invite(cx, flow, request),
            Method::Options => match self.check_all(&request) {
                Ok(()) if self.is_draining => {
                    let busy = Extra::Busy(HangupCause::Draining);
                    self.answer_stateless(cx, of, 503, busy);
                }
                Ok(()) => self.answer_stateless(cx, of, 200, Extra::Capabilities),
                Err(fault) => self.refuse_fault(cx, of, &fault),
            },
            // These have a meaning in a dialog only.
            Method::Bye | Method::Update | Method::Info | Method::Prack => {
                cx.count(Counter::UnknownDialog);
                self.answer_stateless(cx, of, 481, Extra::None);
            }
            Method::Ack | Method::Cancel => {}
            Method::Register
            | Method::Refer
            | Method::Notify
            | Method::Subscribe
            | Method::Message
            | Method::Publish
            | Method::Other(_) => self.refuse_fault(cx, of, &Fault::Method),
        }
    }

    fn new_invite(&mut self, cx: &mut Context<'_>, flow: Flow, request: Request) {
        let of = (&request, flow);
        if self.merges.contains_key(&MergeKey::of(&request)) {
            cx.count(Counter::Merged);
            self.answer_stateless(cx, of, 482, Extra::None);
            return decline(cx, of, (482, HangupCause::Loop), MERGED);
        }
        if self.is_loop(&request) {
            cx.count(Counter::Loop);
            self.answer_stateless(cx, of, 482, Extra::None);
            return decline(cx, of, (482, HangupCause::Loop), LOOPED);
        }
        if self.is_full() {
            cx.count(Counter::ShardFull);
            self.answer_stateless(cx, of, 503, Extra::Busy(HangupCause::Overload));
            return decline(cx, of, (503, HangupCause::Overload), FULL);
        }
        let checked = self.check_all(&request).and_then(|()| self.check_invite(&request));
        let (target, body) = match checked {
            Ok(checked) => checked,
            Err(fault) => return self.refuse_fault(cx, of, &fault),
        };
        let dialog = Dialog::of_request(&request, Tag::new(&mut self.random), target);
        self.open(cx, flow, (Arc::new(request), dialog), body);
    }

    /// True for an INVITE of ours that others sent back as it was (RFC 3261 §16.3). One whose
    /// Request-URI was changed on the way is another call, and what we sent to ourselves is meant.
    fn is_loop(&self, request: &Request) -> bool {
        request.headers.lower_vias().flatten().any(|via| {
            let branch = via.branch().and_then(Branch::parse);
            let key = branch.map(|branch| ClientKey { branch, kind: Kind::Invite });
            let sent = key.and_then(|key| self.transactions.get(*self.clients.get(&key)?));
            let sent = sent.and_then(|transaction| request::own_request(&transaction.last));
            sent.is_some_and(|sent| sent.uri.as_bytes() == request.uri.as_bytes())
        })
    }

    /// Whether no new call can be taken for want of room.
    fn is_full(&self) -> bool {
        self.usages.len() >= SIP_DIALOGS_MAX || self.transactions.len() >= SIP_TRANSACTIONS_MAX
    }

    /// Where the peer of a new call is reached, and what it offers.
    fn check_invite(&self, request: &Request) -> Result<(Uri, Option<Body>), Fault> {
        let headers = &request.headers;
        // Without From-tag or Contact no dialog can be kept (RFC 3261 §12.1.1).
        let target = headers.from().tag().and_then(|_| Dialog::target_of(headers));
        let target = target.ok_or(Fault::Status(400, NO_DIALOG))?;
        check_body(request)?;
        let session = self.config.policy.session;
        match SessionAnswer::to(headers, session, None) {
            SessionAnswer::TooShort => Err(Fault::SessionTooShort(session.min_se_s)),
            SessionAnswer::None | SessionAnswer::Run(_) => {
                Ok((target, description(headers, &request.body)))
            }
        }
    }

    fn open(
        &mut self,
        cx: &mut Context<'_>,
        flow: Flow,
        (request, dialog): (Arc<Request>, Dialog),
        body: Option<Body>,
    ) {
        let tag = dialog.local_tag();
        let contact = self.config.sender(flow).contact(contact_user(&request));
        let transaction = self.begin_server(flow, &request, None, tag);
        let came = (Arc::clone(&request), flow.remote);
        let incoming = Incoming::new(transaction, came, dialog, self.random.below(RSEQ_MAX));
        let policy = self.config.policy;
        let mut usage =
            Usage::new(State::Incoming(Box::new(incoming)), (tag, flow), contact, policy);
        usage.peer_allows_update =
            request.headers.tokens(HeaderName::Allow).has_method(&Method::Update);
        let id = DialogId(self.usages.insert(usage));
        self.tags.insert(tag, id);
        self.depend(flow, Dependent::Usage(id));
        if let Some(transaction) = self.transactions.get_mut(transaction) {
            transaction.owner = Some(id);
        }
        if cx.unproven.is_none() {
            self.say_trying(cx, id);
        }
        let replaces = request.headers.replaces().ok().flatten();
        let replaces = replaces.filter(|_| self.config.takes_replaces);
        let invitation = Invitation { dialog: id, flow, request, body, replaces };
        cx.event(Event::Invited(Box::new(invitation)));
    }

    /// Answers a new INVITE with 100, which must not be later than 200 ms (RFC 3261 §17.2.1); carriers move
    /// to the next target without it.
    pub(super) fn say_trying(&mut self, cx: &mut Context<'_>, dialog: DialogId) {
        let Some(usage) = self.usages.get(dialog.0) else { return };
        let State::Incoming(incoming) = &usage.state else { return };
        let (transaction, of) =
            (incoming.transaction, (incoming.request.as_ref(), usage.came_by()));
        let trying = self.config.sender(usage.flow).plain(of, 100, None, Extra::None);
        self.respond(cx, transaction, 100, trying);
    }

    pub(super) fn refuse_fault(&self, cx: &mut Context<'_>, of: (&Request, Flow), fault: &Fault) {
        let (status, extra) = self.refusal_of(fault, request::SDP);
        self.refuse_stateless(cx, of, status, extra);
        if of.0.method == Method::Invite {
            let cause = match status {
                483 => HangupCause::Loop,
                _ => HangupCause::ProtocolError,
            };
            decline(cx, of, (status, cause), fault.why());
        }
    }

    /// What holds for every request that opens something (RFC 3261 §8.2).
    fn check_all(&self, request: &Request) -> Result<(), Fault> {
        match &request.uri {
            Uri::Sip(_) | Uri::Tel(_) => {}
            Uri::Other(_) => {
                return Err(Fault::Status(416, "its Request-URI is neither sip: nor tel:"));
            }
        }
        if request.headers.max_forwards() == Some(0) && request.method != Method::Options {
            return Err(Fault::Status(483, "it may not go on: Max-Forwards is 0"));
        }
        self.check_extensions(request)
    }

    /// Refuses what the peer requires and we do not support (RFC 3261 §8.2.2.3).
    pub(super) fn check_extensions(&self, request: &Request) -> Result<(), Fault> {
        let required = request.headers.tokens(HeaderName::Require);
        let is_known = |tag: &[u8]| {
            [policy::TIMER, policy::RELIABLE]
                .iter()
                .any(|own| tag.eq_ignore_ascii_case(own.as_bytes()))
                || self.config.takes_replaces
                    && tag.eq_ignore_ascii_case(policy::REPLACES.as_bytes())
        };
        let unknown: Vec<&[u8]> =
            required.iter().filter(|tag| !tag.is_empty() && !is_known(tag)).collect();
        if unknown.is_empty() { Ok(()) } else { Err(Fault::Extension(unknown.join(&b", "[..]))) }
    }

    /// Status and headers for a fault; `accept` names the types of body that would have been taken.
    pub(super) const fn refusal_of<'a>(
        &self,
        fault: &'a Fault,
        accept: &'a str,
    ) -> (u16, Extra<'a>) {
        match fault {
            Fault::Status(status, _) => (*status, Extra::None),
            Fault::Method => (405, Extra::Allow),
            Fault::MediaType => (415, Extra::Accept(accept)),
            Fault::Encoding => (415, Extra::AcceptEncoding),
            Fault::Extension(tags) => (420, Extra::Unsupported(tags.as_slice())),
            Fault::SessionTooShort(least_s) => (422, Extra::MinSe(*least_s)),
        }
    }
}

/// Tells of an INVITE that was answered with `status` and becomes no call.
pub(super) fn decline(
    cx: &mut Context<'_>,
    (request, flow): (&Request, Flow),
    (status, cause): (u16, HangupCause),
    why: impl Into<Cow<'static, str>>,
) {
    let message = request.headers.table().raw().clone();
    let declined = Declined { flow, message, status: Some(status), cause, why: why.into() };
    cx.event(Event::Declined(Box::new(declined)));
}

/// Refuses a body that cannot be read though it must be (RFC 3261 §8.2.3).
pub(super) fn check_body(request: &Request) -> Result<(), Fault> {
    if request.body.is_empty() {
        return Ok(());
    }
    let headers = &request.headers;
    let is_plain = |coding: &[u8]| coding.is_empty() || coding.eq_ignore_ascii_case(b"identity");
    if !headers.all(HeaderName::ContentEncoding).all(is_plain) {
        return Err(Fault::Encoding);
    }
    let disposition = headers.first(HeaderName::ContentDisposition).unwrap_or(&[]);
    let (kind, params) = split_disposition(disposition);
    let has_handling = |value: &[u8]| {
        params.get("handling").is_some_and(|found| found.eq_ignore_ascii_case(value))
    };
    let is_session = [&b""[..], b"session", b"render", b"early-session"]
        .iter()
        .any(|known| kind.eq_ignore_ascii_case(known));
    if !is_session && has_handling(b"required") {
        return Err(Fault::MediaType);
    }
    let content_type = headers.first(HeaderName::ContentType);
    match multipart::session_description(content_type, &request.body) {
        Ok(_) => Ok(()),
        Err(_) if has_handling(b"optional") => Ok(()),
        Err(_) => Err(Fault::MediaType),
    }
}

fn split_disposition(value: &[u8]) -> (&[u8], crate::sip::message::param::Params<'_>) {
    let at = value.iter().position(|&byte| byte == b';').unwrap_or(value.len());
    let (kind, params) = value.split_at_checked(at).unwrap_or((value, &[]));
    (kind.trim_ascii(), crate::sip::message::param::Params::new(params))
}
