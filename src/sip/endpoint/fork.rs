//! Called parties that nobody waits for: answers of further forks, or of a call that was given up.

use super::Context;
use super::Endpoint;
use super::answer::is_challenge;
use super::event::Counter;
use super::event::DialogId;
use super::flow::Flow;
use super::request;
use super::transact::Acked;
use super::transact::Kept;
use super::transact::Purpose;
use crate::sip::dialog::Dialog;
use crate::sip::digest::client::Client as DigestClient;
use crate::sip::message::Response;
use crate::sip::message::method::Method;
use crate::sip::message::name::HeaderName;
use crate::sip::transaction::key::Branch;
use crate::sip::transaction::key::Tag;
use crate::types::cause::HangupCause;
use crate::types::limit::SIP_FORKS_MAX;
use bytes::Bytes;
use std::sync::Arc;

impl Endpoint {
    /// A further called party answered, or one after the call was given up: ACK and BYE (RFC 3261
    /// §13.2.2.4).
    pub(super) fn fork_answered(
        &mut self,
        cx: &mut Context<'_>,
        (dialog, id): (DialogId, u64),
        response: &Response,
    ) {
        let tag = response.headers.to().tag().unwrap_or(&[]);
        let held = self.usages.get(dialog.0).and_then(|usage| usage.dialog());
        if held.is_some_and(|held| held.remote_tag() == tag) {
            // Repeated before the call has acknowledged it.
            return cx.count(Counter::RetransmissionAbsorbed);
        }
        let Some(transaction) = self.transactions.get(id) else { return };
        // A peer that answers with ever new tags would make us send without end.
        if transaction.acks.len() >= SIP_FORKS_MAX {
            return cx.count(Counter::TooManyForks);
        }
        let flow = transaction.flow;
        let kept = transaction.account.as_ref().map(|kept| kept.digest.clone());
        let cause = transaction.given_up_for;
        let Some(invite) = request::own_request(&transaction.last) else { return };
        let Some(local_tag) = invite.headers.from().tag().and_then(Tag::parse) else { return };
        let local = untagged(invite.headers.from().as_bytes());
        let peer = Dialog::of_response(response, &local, local_tag, &invite.uri)
            .advertising(request::sent_by(&invite).map(Arc::new));
        let branch = Branch::new(&mut self.random);
        let cseq = invite.headers.cseq().number;
        let way = request::toward(flow, peer.addressed().next_hop);
        let mut writer = self.config.sender(way.flow).within(&peer, &Method::Ack, cseq, branch);
        // RFC 3261 §22.1: with the credentials of the INVITE.
        writer
            .copy(invite.headers.table(), HeaderName::Authorization)
            .copy(invite.headers.table(), HeaderName::ProxyAuthorization);
        let (tag, bytes) = (peer.remote_tag().clone(), writer.finish());
        let acked = Acked { tag, flow: way.flow, bytes, instead: None, is_sent: true };
        self.send_ack(cx, (Some(dialog), id), (way, acked));
        self.part(cx, dialog, (peer, flow), (kept, cause));
    }

    /// Sends the BYE of a dialog that no usage has, with the credentials the peer asked for before.
    fn part(
        &mut self,
        cx: &mut Context<'_>,
        dialog: DialogId,
        (mut peer, flow): (Dialog, Flow),
        (mut kept, cause): (Option<DigestClient>, Option<HangupCause>),
    ) {
        let uri = peer.addressed().uri.as_bytes().clone();
        // While the call goes on its nonces are counted in one place.
        let usage = self.usages.get_mut(dialog.0);
        let of_call = usage.and_then(|usage| usage.digest.as_deref_mut()).or(kept.as_mut());
        let account = of_call.map(|digest| (digest.authorize(&Method::Bye, &uri), digest.clone()));
        let (credentials, digest) = account.unzip();
        let owner = Some((dialog, Purpose::Parting));
        let with = (bye_for(cause), credentials.as_deref().unwrap_or_default());
        let sent = self.bye_in_with(cx, (&mut peer, flow), owner, with);
        let account = digest.map(|digest| Kept { digest, fork: Some(peer) });
        self.keep_account(sent, (account, cause));
    }

    fn keep_account(
        &mut self,
        transaction: Option<u64>,
        (account, cause): (Option<Kept>, Option<HangupCause>),
    ) {
        if let Some(transaction) = transaction.and_then(|id| self.transactions.get_mut(id)) {
            transaction.account = account.map(Box::new);
            transaction.given_up_for = cause;
        }
    }

    /// Sends the BYE of a fork once more, where it was challenged and there is an account.
    pub(super) fn parting_answered(
        &mut self,
        cx: &mut Context<'_>,
        (dialog, id): (DialogId, u64),
        response: &Response,
    ) {
        let challenged = self.transactions.get_mut(id).filter(|_| is_challenge(response.status));
        let Some(transaction) = challenged else { return };
        let (flow, account) = (transaction.flow, transaction.account.take());
        let cause = transaction.given_up_for;
        let Some(Kept { mut digest, fork: Some(mut peer) }) = account.map(|kept| *kept) else {
            return;
        };
        let uri = peer.addressed().uri.as_bytes().clone();
        let Ok(credentials) = digest.answer(&response.headers, &Method::Bye, &uri) else { return };
        let owner = Some((dialog, Purpose::Parting));
        let with = (bye_for(cause), credentials.as_slice());
        let sent = self.bye_in_with(cx, (&mut peer, flow), owner, with);
        self.keep_account(sent, (Some(Kept { digest, fork: Some(peer) }), cause));
    }
}

/// What the BYE to a 2xx that nobody waits for gives for its reason: why the INVITE was given up. One that was answered was not.
fn bye_for(given_up_for: Option<HangupCause>) -> HangupCause {
    given_up_for.unwrap_or(HangupCause::Normal)
}

/// Our own From without its tag, which comes last.
fn untagged(from: &Bytes) -> Bytes {
    let mark = b";tag=";
    let at = from.windows(mark.len()).rposition(|part| part == mark);
    Bytes::copy_from_slice(at.and_then(|at| from.get(..at)).unwrap_or(from))
}
