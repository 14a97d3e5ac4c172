//! Requests within dialogs. Every one is answered.

use super::Context;
use super::Endpoint;
use super::admit::Fault;
use super::admit::check_body;
use super::admit::decline;
use super::event::Counter;
use super::event::DialogEnd;
use super::event::DialogId;
use super::event::Event;
use super::flow::Flow;
use super::receive::description;
use super::receive::reason_value;
use super::request;
use super::respond::Extra;
use super::transact::Dependent;
use crate::sip::invite::Asked;
use crate::sip::invite::Collision;
use crate::sip::invite::State;
use crate::sip::invite::UsageTimer;
use crate::sip::message::Request;
use crate::sip::message::method::Method;
use crate::sip::message::name::HeaderName;
use crate::sip::session_timer::SessionAnswer;
use crate::types::cause::HangupCause;
use crate::types::limit::SIP_TRANSACTIONS_MAX;
use std::sync::Arc;

/// The types of bodies taken in INFO (RFC 6086 legacy usage).
const KEYS: &str = "application/dtmf-relay, application/dtmf";

const NO_SUCH_DIALOG: &str = "it is of a call that is not here";

/// RFC 3261 §14.2 has 0 to 10 s.
const RETRY_AFTER_S_MAX: u64 = 10;

/// A request within a dialog: its transaction, its dialog, the way it came.
#[derive(Clone, Copy)]
pub(super) struct Within {
    pub(super) transaction: u64,
    pub(super) dialog: DialogId,
    pub(super) flow: Flow,
}

impl Endpoint {
    pub(super) fn request_within(&mut self, cx: &mut Context<'_>, flow: Flow, request: Request) {
        let Some(dialog) = self.dialog_of(&request.headers) else {
            cx.count(Counter::UnknownDialog);
            self.answer_stateless(cx, (&request, flow), 481, Extra::None);
            if request.method == Method::Invite {
                decline(cx, (&request, flow), (481, HangupCause::UnknownDialog), NO_SUCH_DIALOG);
            }
            return;
        };
        // In-dialog requests have room beyond the limit for new calls, but no endless one.
        if self.transactions.len() >= 2 * SIP_TRANSACTIONS_MAX {
            cx.count(Counter::ShardFull);
            return;
        }
        let Some(usage) = self.usages.get(dialog.0) else { return };
        let tag = usage.tag;
        let transaction = self.begin_server(flow, &request, Some(dialog), tag);
        self.follow(dialog, flow);
        let within = Within { transaction, dialog, flow };
        if request.method == Method::Invite {
            let trying = self.config.sender(flow).plain((&request, flow), 100, None, Extra::None);
            self.respond(cx, transaction, 100, trying);
        }
        if let Err((status, extra)) = self.order(dialog, &request) {
            return self.settle(cx, within, &request, (status, extra));
        }
        if let Err(fault) = self.check_extensions(&request) {
            let refusal = self.refusal_of(&fault, request::SDP);
            return self.settle(cx, within, &request, refusal);
        }
        self.dispatch(cx, within, request);
    }

    /// A peer that comes by another stream is reached by that one from now on, with the answers it waits for as far as they may
    /// go there.
    pub(super) fn follow(&mut self, dialog: DialogId, flow: Flow) {
        let Some(usage) = self.usages.get_mut(dialog.0) else { return };
        let old = usage.flow;
        if flow.transport.is_reliable() && old.transport.is_reliable() && old.id != flow.id {
            usage.flow = flow;
            if let Some(wait) = &mut usage.ack_wait
                && flow.takes_answers_of(wait.flow, !wait.flow.id.is_socket())
            {
                wait.flow = flow;
            }
            let unanswered = match &usage.state {
                State::Incoming(incoming) => Some(incoming.transaction),
                State::Calling(_) | State::Confirmed(_) | State::Leaving(_) => None,
            };
            self.release(old, Dependent::Usage(dialog));
            self.depend(flow, Dependent::Usage(dialog));
            if let Some(id) = unanswered {
                self.answer_by(id, flow);
            }
        }
    }

    /// Checks the CSeq number (RFC 3261 §12.2.2).
    fn order(&mut self, dialog: DialogId, request: &Request) -> Result<(), (u16, Extra<'static>)> {
        let number = request.headers.cseq().number;
        let Some(usage) = self.usages.get_mut(dialog.0) else { return Err((481, Extra::None)) };
        let tag = request.headers.from().tag().unwrap_or(&[]);
        let is_in_order = usage.dialog_with(tag).is_none_or(|held| held.accept_cseq(number));
        if is_in_order { Ok(()) } else { Err((500, Extra::None)) }
    }

    pub(super) fn settle(
        &mut self,
        cx: &mut Context<'_>,
        within: Within,
        request: &Request,
        (status, extra): (u16, Extra<'_>),
    ) {
        let of = (request, within.flow);
        self.answer(cx, (within.transaction, within.dialog), (status, extra), of);
    }

    fn dispatch(&mut self, cx: &mut Context<'_>, within: Within, request: Request) {
        match request.method {
            Method::Bye => self.bye(cx, within, &request),
            Method::Invite => self.reinvite(cx, within, request),
            Method::Update => self.update(cx, within, request),
            Method::Info => self.informed(cx, within, &request),
            Method::Options => {
                self.settle(cx, within, &request, (200, Extra::Capabilities));
            }
            Method::Prack => self.prack(cx, within, request),
            Method::Notify => self.notify(cx, within, &request),
            Method::Refer => self.referred(cx, within, request),
            Method::Register
            | Method::Subscribe
            | Method::Message
            | Method::Publish
            | Method::Other(_) => self.settle(cx, within, &request, (405, Extra::Allow)),
            // Both were taken before they came here.
            Method::Ack | Method::Cancel => {}
        }
    }

    fn bye(&mut self, cx: &mut Context<'_>, within: Within, request: &Request) {
        let dialog = within.dialog;
        let reason = reason_value(&request.headers);
        let Some(usage) = self.usages.get(dialog.0) else { return };
        match &usage.state {
            // RFC 3261 §15: the called party may not; the INVITE's own answer decides.
            State::Calling(_) => self.settle(cx, within, request, (481, Extra::None)),
            State::Incoming(_) => {
                self.settle(cx, within, request, (200, Extra::None));
                self.refuse_incoming(cx, dialog, 487, HangupCause::CallerCancelled);
                cx.event(Event::Cancelled { dialog, reason });
                self.forget(cx, dialog);
            }
            State::Confirmed(_) => {
                // It may come before the call could acknowledge the answer: the peer waits for that all
                // the same (RFC 3261 §13.2.2.4).
                self.acknowledge(cx, dialog, None);
                self.settle(cx, within, request, (200, Extra::None));
                self.drop_asked(cx, dialog);
                self.drop_referred(cx, dialog);
                cx.event(Event::Ended { dialog, how: DialogEnd::Bye { reason } });
                self.forget(cx, dialog);
            }
            // Both hung up at once; our BYE goes on without its usage.
            State::Leaving(_) => {
                self.settle(cx, within, request, (200, Extra::None));
                self.left(cx, dialog, DialogEnd::Bye { reason });
            }
        }
    }

    fn reinvite(&mut self, cx: &mut Context<'_>, within: Within, request: Request) {
        let Some(usage) = self.usages.get_mut(within.dialog.0) else { return };
        if let Some(cause) = usage.hang_up_held() {
            // The peer has our 2xx, so nothing is left to wait for.
            let accounts = usage.ack_wait.take().and_then(|wait| wait.accounts);
            self.open_accounts(within.dialog, accounts);
            self.settle(cx, within, &request, (481, Extra::None));
            return self.leave(cx, within.dialog, cause);
        }
        if let Err(collision) = usage.judge_reinvite() {
            let refusal = self.collision(collision);
            return self.settle(cx, within, &request, refusal);
        }
        self.offered(cx, within, request);
    }

    fn update(&mut self, cx: &mut Context<'_>, within: Within, request: Request) {
        let Some(usage) = self.usages.get_mut(within.dialog.0) else { return };
        if !usage.policy.takes_update {
            return self.settle(cx, within, &request, (405, Extra::Allow));
        }
        if request.body.is_empty() {
            if let State::Leaving(_) = usage.state {
                return self.settle(cx, within, &request, (481, Extra::None));
            }
            return self.refreshed_by_peer(cx, within, &request);
        }
        if let Err(collision) = usage.judge_update() {
            let refusal = self.collision(collision);
            return self.settle(cx, within, &request, refusal);
        }
        self.offered(cx, within, request);
    }

    /// Status and headers for what cannot be taken now.
    fn collision(&mut self, collision: Collision) -> (u16, Extra<'static>) {
        match collision {
            Collision::Theirs => {
                let wait_s = self.random.below(RETRY_AFTER_S_MAX + 1);
                (500, Extra::RetryAfter(u32::try_from(wait_s).unwrap_or(0)))
            }
            Collision::Ours => (491, Extra::None),
            Collision::Gone => (481, Extra::None),
        }
    }

    /// Has the peer offer again later what the answer to our INVITE crossed: what holds now is as that says.
    pub(super) fn put_off_asked(&mut self, cx: &mut Context<'_>, dialog: DialogId) {
        let Some(usage) = self.usages.get_mut(dialog.0) else { return };
        let Some(asked) = usage.asked.take() else { return };
        let flow = usage.flow;
        let refusal = self.collision(Collision::Theirs);
        self.answer(cx, (asked.transaction, dialog), refusal, (asked.request.as_ref(), flow));
    }

    /// A re-INVITE, or an UPDATE with a body: the call answers.
    fn offered(&mut self, cx: &mut Context<'_>, within: Within, request: Request) {
        let fault = match check_body(&request) {
            Ok(()) => self.session_fault(within.dialog, &request),
            Err(fault) => Some(fault),
        };
        if let Some(fault) = fault {
            let refusal = self.refusal_of(&fault, request::SDP);
            return self.settle(cx, within, &request, refusal);
        }
        let dialog = within.dialog;
        if request.method == Method::Invite {
            self.acknowledged_by_reinvite(cx, dialog);
        }
        let Some(usage) = self.usages.get_mut(dialog.0) else { return };
        let body = description(&request.headers, &request.body);
        let asked = Asked { transaction: within.transaction, request: Arc::new(request) };
        usage.asked = Some(asked);
        cx.event(Event::Reinvited { dialog, body });
    }

    /// The session interval asked for is too short.
    fn session_fault(&self, dialog: DialogId, request: &Request) -> Option<Fault> {
        let usage = self.usages.get(dialog.0)?;
        let policy = usage.policy.session;
        match SessionAnswer::to(&request.headers, policy, usage.session) {
            SessionAnswer::TooShort => Some(Fault::SessionTooShort(policy.min_se_s)),
            SessionAnswer::None | SessionAnswer::Run(_) => None,
        }
    }

    /// A peer that sends a re-INVITE has our 2xx, so its ACK is only late or lost.
    fn acknowledged_by_reinvite(&mut self, cx: &mut Context<'_>, dialog: DialogId) {
        let Some(usage) = self.usages.get_mut(dialog.0) else { return };
        if let Some(wait) = usage.ack_wait.take() {
            self.open_accounts(dialog, wait.accounts);
            self.disarm(dialog, UsageTimer::Answer);
            self.disarm(dialog, UsageTimer::Ack);
            cx.event(Event::Acknowledged { dialog, body: None });
        }
    }

    /// An UPDATE without a body refreshes target and session timer, and is answered here.
    fn refreshed_by_peer(&mut self, cx: &mut Context<'_>, within: Within, request: &Request) {
        if let Some(fault) = self.session_fault(within.dialog, request) {
            let refusal = self.refusal_of(&fault, request::SDP);
            return self.settle(cx, within, request, refusal);
        }
        let bytes = self.opening_answer(within.dialog, request, within.flow, None);
        self.respond(cx, within.transaction, 200, bytes);
        self.agreed_by_us(cx, within.dialog, request);
    }

    fn informed(&mut self, cx: &mut Context<'_>, within: Within, request: &Request) {
        let headers = &request.headers;
        if headers.named("Info-Package").next().is_some() {
            return self.settle(cx, within, request, (469, Extra::NoPackages));
        }
        // An empty INFO asks whether the dialog is alive.
        if request.body.is_empty() {
            return self.settle(cx, within, request, (200, Extra::None));
        }
        let kind = headers.content_type().ok().flatten();
        let is_kind =
            |subtype: &str| kind.as_ref().is_some_and(|kind| kind.is("application", subtype));
        let is_relay = is_kind("dtmf-relay");
        let is_encoded = headers.first(HeaderName::ContentEncoding).is_some();
        if is_encoded || !(is_relay || is_kind("dtmf")) {
            return self.settle(cx, within, request, (415, Extra::Accept(KEYS)));
        }
        let body = &request.body;
        let told = if is_relay { relayed_digit(body) } else { bare_digit(body) };
        match told {
            Some((digit, duration_ms)) => {
                self.settle(cx, within, request, (200, Extra::None));
                let dialog = within.dialog;
                cx.event(Event::Digit { dialog, digit, duration_ms });
            }
            None => self.settle(cx, within, request, (400, Extra::None)),
        }
    }
}

/// The digit of an `application/dtmf-relay` body: `Signal=5` and `Duration=160` lines, with spaces
/// around `=` in some stacks. The duration is in ms, 0 where it is missing.
fn relayed_digit(body: &[u8]) -> Option<(char, u32)> {
    let value = |name: &[u8]| {
        body.split(|&byte| byte == b'\n' || byte == b'\r').find_map(|line| {
            let at = line.iter().position(|&byte| byte == b'=')?;
            let (found, value) = line.split_at_checked(at)?;
            let value = value.get(1..)?.trim_ascii();
            found.trim_ascii().eq_ignore_ascii_case(name).then_some(value)
        })
    };
    let digit = key_named(value(b"Signal")?)?;
    let duration = value(b"Duration").and_then(|text| std::str::from_utf8(text).ok()?.parse().ok());
    Some((digit, duration.unwrap_or(0)))
}

/// The digit of an `application/dtmf` body, which is the digit alone; some stacks write it as in the other kind.
fn bare_digit(body: &[u8]) -> Option<(char, u32)> {
    key_named(body.trim_ascii()).map(|digit| (digit, 0)).or_else(|| relayed_digit(body))
}

fn key_named(text: &[u8]) -> Option<char> {
    let digit = match text {
        // Event codes of RFC 4733, as some gateways write them.
        b"10" => b'*',
        b"11" => b'#',
        [digit] => digit.to_ascii_uppercase(),
        _ => return None,
    };
    matches!(digit, b'0'..=b'9' | b'*' | b'#' | b'A'..=b'D').then_some(char::from(digit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relayed_digits_are_read_in_every_spelling_seen() {
        let check = |body: &str, expected| assert_eq!(relayed_digit(body.as_bytes()), expected);
        check("Signal=5\r\nDuration=160\r\n", Some(('5', 160)));
        check("Signal= *\nDuration= 250\n", Some(('*', 250)));
        check("signal = d\r\n", Some(('D', 0)));
        check("Signal=11\r\nDuration=x", Some(('#', 0)));
        for bad in ["", "Signal=", "Signal=99", "Signal=x", "Duration=100", "=5"] {
            check(bad, None);
        }
    }

    #[test]
    fn bare_digits_are_read_in_every_spelling_seen() {
        let check = |body: &str, expected| assert_eq!(bare_digit(body.as_bytes()), expected);
        check("5", Some(('5', 0)));
        check(" *\r\n", Some(('*', 0)));
        check("b", Some(('B', 0)));
        check("11\n", Some(('#', 0)));
        check("Signal=7\r\nDuration=160\r\n", Some(('7', 160)));
        for bad in ["", " ", "55", "16", "x", "5 5"] {
            check(bad, None);
        }
    }
}
