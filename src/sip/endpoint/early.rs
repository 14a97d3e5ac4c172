//! Provisional responses to an INVITE of ours: early dialogs, one a fork, and PRACK (RFC 3262).

use super::Context;
use super::Endpoint;
use super::event::Body;
use super::event::Counter;
use super::event::DialogId;
use super::event::Event;
use super::policy;
use super::receive::description;
use super::request;
use super::told::Fork;
use super::told::Furthest;
use super::transact::Purpose;
use crate::sip::dialog::Dialog;
use crate::sip::digest::client::Credentials;
use crate::sip::invite::Early;
use crate::sip::invite::State;
use crate::sip::invite::UsageTimer;
use crate::sip::message::Response;
use crate::sip::message::lexis;
use crate::sip::message::method::Method;
use crate::sip::message::name::HeaderName;
use crate::sip::transaction::key::Branch;
use crate::sip::transaction::key::ClientKey;
use crate::sip::transaction::key::Kind;
use crate::types::limit::SIP_FORKS_MAX;

/// What is to be done with a provisional response.
enum Verdict {
    /// The call hears it.
    Tell(Fork),
    /// It is reliable: PRACK, then the call hears it.
    Acknowledge(Fork, u32),
    /// It is only counted.
    Count(Counter),
}

impl Endpoint {
    pub(super) fn call_progresses(
        &mut self,
        cx: &mut Context<'_>,
        dialog: DialogId,
        response: &Response,
    ) {
        self.disarm(dialog, UsageTimer::Silence);
        let Some(usage) = self.usages.get_mut(dialog.0) else { return };
        let State::Calling(calling) = &mut usage.state else { return };
        calling.is_proceeding = true;
        let body = description(&response.headers, &response.body);
        calling.furthest = calling.furthest.max(match (response.status, &body) {
            (100, _) => Furthest::Trying,
            (_, None) => Furthest::Ringing,
            (_, Some(_)) => Furthest::EarlyMedia,
        });
        if usage.ending.is_some() {
            return self.cancel_calling(cx, dialog);
        }
        if response.status == 100 {
            let fork = Fork::default();
            return cx.event(Event::Progressed { dialog, fork, status: 100, body: None });
        }
        let (fork, rseq) = match self.judge(dialog, response, body.as_ref()) {
            Some(Verdict::Tell(fork)) => (fork, None),
            Some(Verdict::Acknowledge(fork, rseq)) => (fork, Some(rseq)),
            Some(Verdict::Count(counter)) => return cx.count(counter),
            None => return,
        };
        if let Some(rseq) = rseq {
            self.send_prack(cx, (dialog, fork, rseq), None);
        }
        let body = self.keep_described(dialog, fork, body);
        cx.event(Event::Progressed { dialog, fork, status: response.status, body });
    }

    /// Keeps how a party described itself, for an answer of its own that does not, and gives what of it counts: nothing
    /// once it offered anew (RFC 3261 §13.2.1).
    fn keep_described(&mut self, dialog: DialogId, fork: Fork, body: Option<Body>) -> Option<Body> {
        let body = body?;
        let State::Calling(calling) = &mut self.usages.get_mut(dialog.0)?.state else {
            return Some(body);
        };
        let Some(early) = calling.early.get_mut(usize::from(fork.0)) else { return Some(body) };
        if early.is_moved {
            return None;
        }
        early.body = Some(body.clone());
        Some(body)
    }

    /// Finds the early dialog of a provisional response, or begins it, and checks its order.
    fn judge(
        &mut self,
        dialog: DialogId,
        response: &Response,
        body: Option<&Body>,
    ) -> Option<Verdict> {
        let usage = self.usages.get_mut(dialog.0)?;
        let State::Calling(calling) = &mut usage.state else { return None };
        let headers = &response.headers;
        let tag = headers.to().tag().unwrap_or(&[]);
        let known = calling.early.iter().position(|it| it.dialog.remote_tag() == tag);
        let place = match known {
            Some(place) => place,
            None if calling.early.len() >= SIP_FORKS_MAX => {
                return Some(Verdict::Count(Counter::TooManyForks));
            }
            None => {
                let of = (&calling.from, usage.tag, &calling.uri);
                let held = Dialog::of_response(response, of.0, of.1, of.2)
                    .advertising(calling.invite.advertised.clone());
                let (rseq, body, is_settled, is_moved) = (None, None, false, false);
                calling.early.push(Early { dialog: held, rseq, is_settled, body, is_moved });
                calling.early.len() - 1
            }
        };
        let fork = Fork(u8::try_from(place).ok()?);
        let early = calling.early.get_mut(place)?;
        if !headers.tokens(HeaderName::Require).has(policy::RELIABLE) {
            return Some(Verdict::Tell(fork));
        }
        let Some(rseq) = headers.first(HeaderName::RSeq).and_then(lexis::number) else {
            return Some(Verdict::Tell(fork));
        };
        let rseq = u32::try_from(rseq).ok()?;
        match early.rseq {
            Some(last) if rseq <= last => {
                return Some(Verdict::Count(Counter::RetransmissionAbsorbed));
            }
            // RFC 3262 §4: the one before it will be sent again, and then this one.
            Some(last) if rseq != last.saturating_add(1) => {
                return Some(Verdict::Count(Counter::ReliableOutOfOrder));
            }
            Some(_) | None => early.rseq = Some(rseq),
        }
        early.is_settled |= body.is_some() && calling.invite.body.is_some();
        Some(Verdict::Acknowledge(fork, rseq))
    }

    /// Sends the PRACK of a reliable provisional response, in the early dialog of its fork.
    fn send_prack(
        &mut self,
        cx: &mut Context<'_>,
        (dialog, fork, rseq): (DialogId, Fork, u32),
        credentials: Option<Vec<Credentials>>,
    ) {
        let branch = Branch::new(&mut self.random);
        let Some(usage) = self.usages.get_mut(dialog.0) else { return };
        let State::Calling(calling) = &mut usage.state else { return };
        let invite_cseq = calling.cseq;
        let Some(early) = calling.early.get_mut(usize::from(fork.0)) else { return };
        let cseq = early.dialog.next_cseq();
        let addressed = early.dialog.addressed();
        let uri = addressed.uri.as_bytes().clone();
        let way = request::toward(usage.flow, addressed.next_hop);
        let known = usage.located.as_ref().filter(|known| way.hop.as_ref() == Some(&known.0));
        let way = known.map_or(way, |known| known.1.into());
        let credentials = credentials.unwrap_or_else(|| {
            let digest = usage.digest.as_mut();
            digest.map_or_else(Vec::new, |it| it.authorize(&Method::Prack, &uri))
        });
        let sender = self.config.sender(way.flow);
        let mut writer = sender.within(&early.dialog, &Method::Prack, cseq, branch);
        writer
            .header(HeaderName::RAck, format!("{rseq} {invite_cseq} INVITE"))
            .header(HeaderName::UserAgent, sender.product);
        request::credentials(&mut writer, &credentials);
        let key = ClientKey { branch, kind: Kind::Other };
        let owner = (Some(dialog), Purpose::Prack(fork, rseq));
        self.begin_client(cx, key, owner, (way, writer.finish()));
    }

    /// A PRACK was answered: only a challenge asks for more.
    pub(super) fn prack_answered(
        &mut self,
        cx: &mut Context<'_>,
        (dialog, fork, rseq): (DialogId, Fork, u32),
        response: &Response,
    ) {
        if !matches!(response.status, 401 | 407) {
            return;
        }
        let Some(usage) = self.usages.get_mut(dialog.0) else { return };
        let State::Calling(calling) = &mut usage.state else { return };
        let Some(early) = calling.early.get(usize::from(fork.0)) else { return };
        let uri = early.dialog.addressed().uri.as_bytes().clone();
        let Some(digest) = usage.digest.as_mut() else { return };
        if let Ok(credentials) = digest.answer(&response.headers, &Method::Prack, &uri) {
            self.send_prack(cx, (dialog, fork, rseq), Some(credentials));
        }
    }

    /// Nothing at all was heard of a call of ours: another gateway may be quicker. Should this one wake
    /// up after all, it gets CANCEL.
    pub(super) fn silence_due(&mut self, cx: &mut Context<'_>, dialog: DialogId) {
        let Some(usage) = self.usages.get(dialog.0) else { return };
        if let State::Calling(_) = &usage.state {
            self.call_failed(cx, dialog, 408, None);
        }
    }
}
