//! How usages end, and what all ways to end have in common.

use super::Context;
use super::Due;
use super::Endpoint;
use super::event::DialogEnd;
use super::event::DialogId;
use super::event::Event;
use super::event::Refusal;
use super::flow::Flow;
use super::request;
use super::respond::Extra;
use super::transact::Dependent;
use super::transact::Kept;
use super::transact::Purpose;
use crate::sip::dialog::Dialog;
use crate::sip::digest::client::Credentials;
use crate::sip::invite::Places;
use crate::sip::invite::State;
use crate::sip::invite::UsageTimer;
use crate::sip::message::header::reason::Reason;
use crate::sip::message::method::Method;
use crate::sip::message::name::HeaderName;
use crate::sip::transaction::key::Branch;
use crate::sip::transaction::key::ClientKey;
use crate::sip::transaction::key::Kind;
use crate::types::cause::HangupCause;
use crate::types::id_map::give_back;
use crate::types::peer_reason::PeerReason;
use std::time::Duration;

impl Endpoint {
    pub(super) fn arm(
        &mut self,
        cx: &Context<'_>,
        dialog: DialogId,
        timer: UsageTimer,
        wait: Duration,
    ) {
        if let Some(usage) = self.usages.get_mut(dialog.0) {
            let due = Due::Usage(dialog, timer);
            self.timers.arm(usage.timers.place(timer), cx.now + wait, due);
        }
    }

    pub(super) fn disarm(&mut self, dialog: DialogId, timer: UsageTimer) {
        if let Some(usage) = self.usages.get_mut(dialog.0) {
            self.timers.disarm(usage.timers.place(timer));
        }
    }

    /// Forgets a usage. Its transactions absorb repetitions on their own; an INVITE of ours still
    /// open waits no longer than 64·T1.
    pub(super) fn forget(&mut self, cx: &mut Context<'_>, dialog: DialogId) {
        // Nobody will answer these any more.
        self.drop_asked(cx, dialog);
        self.drop_referred(cx, dialog);
        let Some(mut usage) = self.usages.remove(dialog.0) else { return };
        for timer in Places::ALL {
            self.timers.disarm(usage.timers.place(timer));
        }
        self.tags.remove(&usage.tag);
        give_back(&mut self.tags);
        self.release(usage.flow, Dependent::Usage(dialog));
        if let Some(transaction) = usage.asking.and_then(|asking| asking.transaction) {
            self.abandon(cx, transaction);
        }
        if let State::Calling(calling) = usage.state {
            let account =
                usage.digest.take().map(|digest| Box::new(Kept { digest: *digest, fork: None }));
            if let Some(transaction) = self.transactions.get_mut(calling.transaction) {
                transaction.account = account;
                transaction.given_up_for = usage.ending;
            }
            self.abandon(cx, calling.transaction);
        }
    }

    /// Sends the final refusal of the peer's first INVITE.
    pub(super) fn refuse_incoming(
        &mut self,
        cx: &mut Context<'_>,
        dialog: DialogId,
        status: u16,
        cause: HangupCause,
    ) {
        let retry_after_s = cause.retry_after_s().filter(|_| status == 503);
        let headers = Vec::new();
        let refusal = Refusal { status, cause, retry_after_s, headers, is_passed_on: false };
        self.refuse_incoming_with(cx, dialog, &refusal);
    }

    pub(super) fn refuse_incoming_with(
        &mut self,
        cx: &mut Context<'_>,
        dialog: DialogId,
        refusal: &Refusal,
    ) {
        let Some(usage) = self.usages.get(dialog.0) else { return };
        let State::Incoming(incoming) = &usage.state else { return };
        let transaction = incoming.transaction;
        let sender = self.config.sender(usage.flow).at(incoming.dialog.advertised());
        let tag = usage.tag.to_text();
        let bytes = sender.refusal((&incoming.request, usage.came_by()), &tag, refusal);
        self.respond(cx, transaction, refusal.status, bytes);
    }

    /// Answers a re-INVITE or UPDATE that the call will not answer any more.
    pub(super) fn drop_asked(&mut self, cx: &mut Context<'_>, dialog: DialogId) {
        let Some(usage) = self.usages.get_mut(dialog.0) else { return };
        let Some(asked) = usage.asked.take() else { return };
        let of = (asked.request.as_ref(), usage.flow);
        self.answer(cx, (asked.transaction, dialog), (487, Extra::None), of);
    }

    /// Keeps for the BYE what another peer said.
    pub(super) fn explain(&mut self, dialog: DialogId, reason: Box<PeerReason>) -> Option<()> {
        self.usages.get_mut(dialog.0)?.reason = Some(reason);
        Some(())
    }

    /// Sends BYE and keeps the usage until it is answered.
    pub(super) fn leave(&mut self, cx: &mut Context<'_>, dialog: DialogId, cause: HangupCause) {
        self.drop_asked(cx, dialog);
        self.drop_referred(cx, dialog);
        for timer in Places::ALL {
            self.disarm(dialog, timer);
        }
        let Some(usage) = self.usages.get_mut(dialog.0) else { return };
        usage.ack_wait = None;
        usage.ending = Some(cause);
        if !usage.flow.id.is_socket() {
            // The BYE goes by the way back: there is no other to try after it.
            usage.way_back = None;
        }
        let State::Confirmed(held) = &usage.state else { return };
        let (mut peer, flow) = (held.clone(), usage.flow);
        self.bye_in(cx, (&mut peer, flow), Some((dialog, Purpose::Bye)), cause);
        if let Some(usage) = self.usages.get_mut(dialog.0) {
            usage.state = State::Leaving(peer);
        }
    }

    /// Sends BYE and tells the call at once; what is left of the usage waits for the answer, which may ask
    /// for credentials.
    pub(super) fn leave_at_once(
        &mut self,
        cx: &mut Context<'_>,
        dialog: DialogId,
        (cause, how): (HangupCause, DialogEnd),
    ) {
        self.leave(cx, dialog, cause);
        let Some(usage) = self.usages.get_mut(dialog.0) else { return };
        if !std::mem::replace(&mut usage.is_told, true) {
            cx.event(Event::Ended { dialog, how });
        }
        match &usage.state {
            State::Leaving(_) => {}
            // Nothing was sent that could be answered.
            State::Incoming(_) | State::Calling(_) | State::Confirmed(_) => {
                self.forget(cx, dialog);
            }
        }
    }

    /// Sends a BYE within `peer`, with the credentials the peer asked for before.
    pub(super) fn bye_in(
        &mut self,
        cx: &mut Context<'_>,
        (peer, flow): (&mut Dialog, Flow),
        owner: Option<(DialogId, Purpose)>,
        cause: HangupCause,
    ) {
        let usage = owner.and_then(|(dialog, _)| self.usages.get_mut(dialog.0));
        let credentials = usage.and_then(|usage| usage.digest.as_mut()).map(|digest| {
            let uri = peer.addressed().uri.as_bytes().clone();
            digest.authorize(&Method::Bye, &uri)
        });
        let credentials = credentials.unwrap_or_default();
        self.bye_in_with(cx, (peer, flow), owner, (cause, &credentials));
    }

    pub(super) fn bye_in_with(
        &mut self,
        cx: &mut Context<'_>,
        (peer, flow): (&mut Dialog, Flow),
        owner: Option<(DialogId, Purpose)>,
        (cause, credentials): (HangupCause, &[Credentials]),
    ) -> Option<u64> {
        let cseq = peer.next_cseq();
        let branch = Branch::new(&mut self.random);
        let usage = owner.and_then(|(dialog, _)| self.usages.get(dialog.0));
        let way = request::toward(flow, peer.addressed().next_hop).known_to(usage);
        let sender = self.config.sender(way.flow);
        let mut writer = sender.within(peer, &Method::Bye, cseq, branch);
        let said = usage.and_then(|usage| usage.reason.as_deref()).map(Reason::value_of);
        writer
            .header(HeaderName::Reason, said.unwrap_or_else(|| request::reason_of(cause)))
            .header(HeaderName::UserAgent, sender.product);
        request::credentials(&mut writer, credentials);
        let key = ClientKey { branch, kind: Kind::Other };
        let purpose = owner.map_or(Purpose::Nothing, |(_, purpose)| purpose);
        let owner = (owner.map(|(dialog, _)| dialog), purpose);
        self.begin_client(cx, key, owner, (way, writer.finish()))
    }
}
