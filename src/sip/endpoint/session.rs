//! Session timers and the requests of ours that change or refresh a session (RFC 4028, RFC 3261 §14).

use super::Context;
use super::Endpoint;
use super::event::DialogId;
use super::event::Event;
use super::flow::Flow;
use super::policy::RefreshMethod;
use super::policy::SessionTimerMode;
use super::receive::description;
use super::request;
use super::respond::Opening;
use super::transact::Purpose;
use crate::sip::invite::Asking;
use crate::sip::invite::State;
use crate::sip::invite::UsageTimer;
use crate::sip::invite::Why;
use crate::sip::message::Request;
use crate::sip::message::header::session_expires::SessionExpires;
use crate::sip::message::headers::Headers;
use crate::sip::message::method::Method;
use crate::sip::message::name::HeaderName;
use crate::sip::session_timer::Session;
use crate::sip::session_timer::SessionAnswer;
use crate::sip::transaction::key::Branch;
use crate::sip::transaction::key::ClientKey;
use crate::sip::transaction::key::Kind;
use bytes::Bytes;
use std::time::Duration;

/// How long a refresh waits while something else is under way.
const BUSY_WAIT: Duration = Duration::from_secs(2);

impl Endpoint {
    /// The 200 to an INVITE or UPDATE, session timer included.
    pub(super) fn opening_answer(
        &self,
        dialog: DialogId,
        request: &Request,
        flow: Flow,
        body: Option<&Bytes>,
    ) -> Bytes {
        let Some(usage) = self.usages.get(dialog.0) else { return Bytes::new() };
        let session = SessionAnswer::to(&request.headers, usage.policy.session, usage.session);
        let (tag, contact) = (usage.tag, &usage.contact);
        let of = Opening { request, flow, tag, contact, session, rseq: None };
        self.config.sender(flow).under(usage.policy).opening(of, 200, body)
    }

    /// Takes what a request says that we answered 2xx: target, methods, session timer.
    pub(super) fn agreed_by_us(
        &mut self,
        cx: &mut Context<'_>,
        dialog: DialogId,
        request: &Request,
    ) {
        let Some(usage) = self.usages.get_mut(dialog.0) else { return };
        if let State::Calling(calling) = &mut usage.state {
            let tag = request.headers.from().tag().unwrap_or(&[]);
            if let Some(early) = calling.early_of(tag) {
                early.dialog.refresh_target(&request.headers);
                if let Some(offer) = description(&request.headers, &request.body) {
                    (early.body, early.is_moved) = (Some(offer), true);
                }
            }
        }
        let running = usage.session;
        let session = match SessionAnswer::to(&request.headers, usage.policy.session, running) {
            SessionAnswer::Run(agreed) => Some(Session::agreed(agreed, false)),
            SessionAnswer::None | SessionAnswer::TooShort => None,
        };
        self.agreed(cx, dialog, &request.headers, session);
    }

    /// Takes what a 2xx to a request of ours says.
    pub(super) fn agreed_by_peer(
        &mut self,
        cx: &mut Context<'_>,
        dialog: DialogId,
        headers: &Headers,
    ) {
        let mode = self.usages.get(dialog.0).map(|usage| usage.policy.session.mode);
        let agreed = headers.session_expires().ok().flatten();
        let agreed = agreed.filter(|_| mode != Some(SessionTimerMode::Off));
        let session = agreed.map(|agreed| Session::agreed(agreed, true));
        self.agreed(cx, dialog, headers, session);
    }

    fn agreed(
        &mut self,
        cx: &Context<'_>,
        dialog: DialogId,
        headers: &Headers,
        session: Option<Session>,
    ) {
        let Some(usage) = self.usages.get_mut(dialog.0) else { return };
        if let Some(held) = usage.dialog_mut() {
            held.refresh_target(headers);
        }
        let allow = headers.tokens(HeaderName::Allow);
        if allow.iter().next().is_some() {
            usage.peer_allows_update = allow.has_method(&Method::Update);
        }
        // Before the answer there is no session to end.
        let mut session = session.filter(|_| matches!(usage.state, State::Confirmed(_)));
        if let Some(session) = &mut session {
            session.begin(cx.now);
        }
        usage.session = session;
        match session {
            Some(session) => self.arm(cx, dialog, UsageTimer::Session, session.wait()),
            None => self.disarm(dialog, UsageTimer::Session),
        }
    }

    /// Refreshes the session by UPDATE, else by re-INVITE with the last session description.
    pub(super) fn refresh(&mut self, cx: &mut Context<'_>, dialog: DialogId) {
        let Some(usage) = self.usages.get_mut(dialog.0) else { return };
        if usage.asking.is_some() || usage.asked.is_some() || usage.ack_wait.is_some() {
            return self.arm(cx, dialog, UsageTimer::Session, BUSY_WAIT);
        }
        let Some(session) = usage.session.as_mut() else { return };
        session.is_refreshed = true;
        let rest = session.ends.since(cx.now);
        let by_update = match usage.policy.session.method {
            RefreshMethod::Auto => usage.peer_allows_update,
            RefreshMethod::Update => true,
            RefreshMethod::Invite => false,
        };
        // Never a re-INVITE without a body: it would ask for an offer.
        let (why, body) = if by_update || usage.description.is_empty() {
            (Why::RefreshByUpdate, Bytes::new())
        } else {
            (Why::RefreshByInvite, usage.description.clone())
        };
        usage.asking = Some(Box::new(Asking::new(why, body)));
        self.arm(cx, dialog, UsageTimer::Session, rest);
        self.ask(cx, dialog);
    }

    /// A refresh was refused: it is tried again later, or the session goes on until it expires.
    pub(super) fn refresh_refused(
        &mut self,
        cx: &mut Context<'_>,
        dialog: DialogId,
        refusal: (u16, Option<Duration>),
    ) {
        let Some(usage) = self.usages.get_mut(dialog.0) else { return };
        let Some(session) = usage.session.as_mut() else { return };
        if let Some(wait) = session.again_after(cx.now, refusal) {
            session.is_refreshed = false;
            self.arm(cx, dialog, UsageTimer::Session, wait);
        }
    }

    /// The wait after 491 is over. What the session is by now decides what is said: an offer of before might
    /// take back what the peer was told meanwhile (RFC 3264 §8), so a call makes its own anew.
    pub(super) fn collision_due(&mut self, cx: &mut Context<'_>, dialog: DialogId) {
        let Some(usage) = self.usages.get_mut(dialog.0) else { return };
        let is_offer_open =
            usage.asked.is_some() || usage.ack_wait.as_ref().is_some_and(|wait| wait.has_offer);
        let Some(asking) = usage.asking.as_mut() else { return };
        match asking.why {
            Why::Call | Why::CallByUpdate => {
                usage.asking = None;
                cx.event(Event::ReinviteRefused { dialog, status: 491, has_waited: true });
            }
            Why::RefreshByInvite | Why::RefreshByUpdate if is_offer_open => {
                self.arm(cx, dialog, UsageTimer::Collision, BUSY_WAIT);
            }
            Why::RefreshByInvite => {
                asking.body = usage.description.clone();
                self.ask(cx, dialog);
            }
            Why::RefreshByUpdate => self.ask(cx, dialog),
        }
    }

    /// Sends what `asking` holds, as a new request.
    pub(super) fn ask(&mut self, cx: &mut Context<'_>, dialog: DialogId) {
        let branch = Branch::new(&mut self.random);
        let Some(usage) = self.usages.get_mut(dialog.0) else { return };
        let Some(mut asking) = usage.asking.take() else { return };
        let method = asking.method();
        let Some(held) = usage.dialog_mut() else { return };
        let cseq = held.next_cseq();
        let uri = held.addressed().uri.as_bytes().clone();
        if let Some(digest) = usage.digest.as_mut()
            && asking.credentials.is_empty()
        {
            asking.credentials = digest.authorize(&method, &uri);
        }
        let Some(held) = usage.dialog() else { return };
        let way = request::toward(usage.flow, held.addressed().next_hop).known_to(Some(&*usage));
        let sender = self.config.sender(way.flow).under(usage.policy);
        let mut writer = sender.within(held, &method, cseq, branch);
        writer.header(HeaderName::Contact, &usage.contact);
        sender.announce(&mut writer);
        if let Some(session) = usage.session {
            let refresher = Some(session.refresher(true));
            let value = SessionExpires { interval_s: session.interval_s, refresher };
            let least_s = usage.policy.session.min_se_s.max(asking.least_s);
            writer
                .header(HeaderName::SessionExpires, value.to_value())
                .number(HeaderName::MinSe, least_s);
        }
        writer.header(HeaderName::UserAgent, sender.product);
        request::credentials(&mut writer, &asking.credentials);
        let bytes = request::finish(writer, Some(&asking.body));
        usage.asking = Some(asking);
        let key = ClientKey { branch, kind: Kind::of(&method) };
        let owner = (Some(dialog), Purpose::Asking);
        let Some(transaction) = self.begin_client(cx, key, owner, (way, bytes)) else {
            return self.asking_unsent(cx, dialog);
        };
        if let Some(usage) = self.usages.get_mut(dialog.0)
            && let Some(asking) = usage.asking.as_mut()
        {
            asking.transaction = Some(transaction);
        }
    }
}
