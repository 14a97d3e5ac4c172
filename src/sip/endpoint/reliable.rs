//! Provisional responses of ours, reliable ones among them (RFC 3262 §3).

use super::Context;
use super::Endpoint;
use super::event::Body;
use super::event::Counter;
use super::event::DialogEnd;
use super::event::DialogId;
use super::event::Event;
use super::policy;
use super::policy::Reliable;
use super::receive::description;
use super::receive::is_described;
use super::respond::Extra;
use super::respond::Opening;
use super::within::Within;
use crate::sip::invite::Asked;
use crate::sip::invite::Incoming;
use crate::sip::invite::ReliableWait;
use crate::sip::invite::State;
use crate::sip::invite::UsageTimer;
use crate::sip::message::Request;
use crate::sip::message::method::Method;
use crate::sip::message::name::HeaderName;
use crate::sip::message::status;
use crate::sip::session_timer::SessionAnswer;
use crate::sip::transaction::timer::Length;
use crate::types::cause::HangupCause;
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;

/// RFC 3261 §13.3.1.1: without a word for longer a proxy may give the call up.
const RINGING_INTERVAL: Duration = Duration::from_secs(60);

impl Endpoint {
    pub(super) fn progress(
        &mut self,
        cx: &mut Context<'_>,
        dialog: DialogId,
        status: u16,
        body: Option<Bytes>,
    ) -> Option<()> {
        if status <= 100 || !status::is_provisional(status) {
            return None;
        }
        let usage = self.usages.get_mut(dialog.0)?;
        let (tag, flow, policy) = (usage.tag, usage.came_by(), usage.policy);
        let State::Incoming(incoming) = &mut usage.state else { return None };
        let is_reliable = is_reliable(policy.reliable, &incoming.request);
        if is_reliable && incoming.reliable.is_some() {
            // RFC 3262 §3: one at a time.
            incoming.held.progress = Some((status, body));
            return Some(());
        }
        let lacks_offer = is_reliable && incoming.lacks_offer(body.as_ref());
        if lacks_offer && requires(&incoming.request) {
            // Neither way may it be said: by the 100 the peer knows that it is heard.
            return Some(());
        }
        let is_reliable = is_reliable && !lacks_offer;
        incoming.rseq += u32::from(is_reliable);
        let rseq = is_reliable.then_some(incoming.rseq);
        let of = Opening {
            request: &incoming.request,
            flow,
            tag,
            contact: &usage.contact,
            session: SessionAnswer::None,
            rseq,
        };
        let bytes = self.config.sender(flow).under(policy).opening(of, status, body.as_ref());
        incoming.reliable = rseq.map(|rseq| ReliableWait {
            rseq,
            bytes: bytes.clone(),
            resends: 0,
            has_body: body.as_ref().is_some_and(|body| !body.is_empty()),
        });
        incoming.progress = Some((status, body));
        let transaction = incoming.transaction;
        self.respond(cx, transaction, status, bytes);
        self.arm(cx, dialog, UsageTimer::Ringing, RINGING_INTERVAL);
        if is_reliable {
            let timers = self.config.timers;
            self.arm(cx, dialog, UsageTimer::Reliable, Length::Doubled(0).of(timers));
            self.arm(cx, dialog, UsageTimer::Prack, timers.give_up());
        }
        Some(())
    }

    /// Sends the last provisional response once more, as a new one.
    pub(super) fn ringing_due(&mut self, cx: &mut Context<'_>, dialog: DialogId) {
        self.arm(cx, dialog, UsageTimer::Ringing, RINGING_INTERVAL);
        let Some(usage) = self.usages.get(dialog.0) else { return };
        let State::Incoming(incoming) = &usage.state else { return };
        let Some((status, body)) = incoming.progress.clone() else { return };
        // A description is told once; a repetition would look like a new one.
        let body = body.filter(|_| !incoming.is_settled);
        self.progress(cx, dialog, status, body);
    }

    /// Sends a reliable provisional response again.
    pub(super) fn reliable_due(&mut self, cx: &mut Context<'_>, dialog: DialogId) {
        let timers = self.config.timers;
        let Some(usage) = self.usages.get_mut(dialog.0) else { return };
        let State::Incoming(incoming) = &mut usage.state else { return };
        let transaction = self.transactions.get(incoming.transaction);
        let flow = transaction.map_or(usage.flow, |transaction| transaction.flow);
        let Some(wait) = incoming.reliable.as_mut() else { return };
        wait.resends = wait.resends.saturating_add(1);
        let (interval, bytes) = (Length::Doubled(wait.resends).of(timers), wait.bytes.clone());
        cx.count(Counter::RetransmissionSent);
        cx.transmit(flow, bytes);
        self.arm(cx, dialog, UsageTimer::Reliable, interval);
    }

    /// No PRACK came in 64·T1: the call is refused with a 5xx (RFC 3262 §3).
    pub(super) fn prack_due(&mut self, cx: &mut Context<'_>, dialog: DialogId) {
        cx.count(Counter::PrackTimeout);
        self.refuse_incoming(cx, dialog, 504, HangupCause::PeerTimeout);
        cx.event(Event::Ended { dialog, how: DialogEnd::PeerTimeout });
        self.forget(cx, dialog);
    }

    /// A PRACK within a dialog.
    pub(super) fn prack(&mut self, cx: &mut Context<'_>, within: Within, request: Request) {
        let dialog = within.dialog;
        let Some(usage) = self.usages.get_mut(dialog.0) else { return };
        let rack = request.headers.rack().ok().flatten();
        let State::Incoming(incoming) = &mut usage.state else {
            // The 2xx overtook it.
            let is_late = rack.is_some_and(|rack| usage.overtaken == Some(rack.rseq));
            let status = if is_late { 200 } else { 481 };
            return self.settle(cx, within, &request, (status, Extra::None));
        };
        let invite_cseq = incoming.request.headers.cseq().number;
        let is_awaited = rack.is_some_and(|rack| {
            let is_of_invite =
                rack.cseq.number == invite_cseq && rack.cseq.method == Method::Invite;
            is_of_invite && incoming.reliable.as_ref().is_some_and(|wait| wait.rseq == rack.rseq)
        });
        if !is_awaited {
            return self.settle(cx, within, &request, (481, Extra::None));
        }
        let had_body = incoming.reliable.take().is_some_and(|wait| wait.has_body);
        let is_ours_offer = !is_described(&incoming.request.headers, &incoming.request.body);
        incoming.is_settled |= had_body;
        let body = description(&request.headers, &request.body);
        self.disarm(dialog, UsageTimer::Reliable);
        self.disarm(dialog, UsageTimer::Prack);
        match body {
            Some(body) if had_body && is_ours_offer => {
                self.settle(cx, within, &request, (200, Extra::None));
                cx.event(Event::EarlyAnswered { dialog, body });
            }
            // RFC 3262 §5: a second offer, answered in the 2xx to this PRACK.
            Some(body) => return self.prack_offers(cx, within, (request, body)),
            None => self.settle(cx, within, &request, (200, Extra::None)),
        }
        self.release_held(cx, dialog);
    }

    fn prack_offers(
        &mut self,
        cx: &mut Context<'_>,
        within: Within,
        (request, body): (Request, Body),
    ) {
        let Some(usage) = self.usages.get_mut(within.dialog.0) else { return };
        if usage.asked.is_some() {
            return self.settle(cx, within, &request, (500, Extra::RetryAfter(1)));
        }
        let request = Arc::new(request);
        usage.asked = Some(Asked { transaction: within.transaction, request });
        cx.event(Event::Reinvited { dialog: within.dialog, body: Some(body) });
    }

    /// Says what had to wait for a PRACK.
    pub(super) fn release_held(&mut self, cx: &mut Context<'_>, dialog: DialogId) {
        let Some(usage) = self.usages.get_mut(dialog.0) else { return };
        let State::Incoming(incoming) = &mut usage.state else { return };
        let held = std::mem::take(&mut incoming.held);
        if let Some(body) = held.accept {
            self.accept(cx, dialog, body);
        } else if let Some((status, body)) = held.progress {
            self.progress(cx, dialog, status, body);
        }
    }
}

/// Whether provisional responses to `request` are sent reliably.
fn is_reliable(own: Reliable, request: &Request) -> bool {
    let supports = || request.headers.tokens(HeaderName::Supported).has(policy::RELIABLE);
    match own {
        Reliable::Off => false,
        Reliable::Supported => requires(request),
        Reliable::Required => requires(request) || supports(),
    }
}

/// Whether the peer takes no others.
fn requires(request: &Request) -> bool {
    request.headers.tokens(HeaderName::Require).has(policy::RELIABLE)
}

impl Incoming {
    /// True while the 2xx has to wait: a reliable provisional response with a session description has
    /// no PRACK yet (RFC 3262 §3).
    pub(super) fn holds_accept(&self) -> bool {
        self.reliable.as_ref().is_some_and(|wait| wait.has_body)
    }

    /// True while a reliable provisional response with this body would be the first: that has to make the offer where the
    /// INVITE makes none (RFC 3261 §13.2.1, RFC 3262 §5).
    fn lacks_offer(&self, body: Option<&Bytes>) -> bool {
        let is_offered = is_described(&self.request.headers, &self.request.body);
        let is_empty = body.is_none_or(Bytes::is_empty);
        !is_offered && !self.is_settled && is_empty
    }
}
