//! REFER within dialogs, both ways, and the NOTIFYs that tell its outcome (RFC 3515, RFC 6665).

use super::Context;
use super::Endpoint;
use super::event::DialogId;
use super::event::Event;
use super::request;
use super::respond::Extra;
use super::told::ReferProgress;
use super::told::Referred;
use super::transact::Purpose;
use super::within::Within;
use crate::sip::digest::client::Credentials;
use crate::sip::invite::Referral;
use crate::sip::invite::Referring;
use crate::sip::invite::State;
use crate::sip::invite::UsageTimer;
use crate::sip::message::Request;
use crate::sip::message::Response;
use crate::sip::message::header::replaces::Replaces;
use crate::sip::message::lexis;
use crate::sip::message::method::Method;
use crate::sip::message::name::HeaderName;
use crate::sip::message::param::Params;
use crate::sip::message::status;
use crate::sip::transaction::Class;
use crate::types::cause::HangupCause;
use std::sync::Arc;
use std::time::Duration;

/// How long a subscription that REFER made may go without a word. A peer may ask for less.
const SUBSCRIPTION_MAX: Duration = Duration::from_secs(180);
/// The type of bodies that tell how the referred call stands (RFC 3420).
const SIPFRAG: &str = "message/sipfrag;version=2.0";

impl Endpoint {
    /// Sends REFER.
    pub(super) fn refer(
        &mut self,
        cx: &mut Context<'_>,
        dialog: DialogId,
        referring: Referring,
    ) -> Option<()> {
        let usage = self.usages.get_mut(dialog.0)?;
        let State::Confirmed(_) = &usage.state else { return None };
        let by = referring.referred_by.as_deref();
        let is_readable = by.into_iter().chain([referring.refer_to.as_str()]).all(request::is_uri);
        // Who asks again has given up what the peer accepted and says no more of.
        let is_unanswered = usage.referring.as_ref().is_some_and(|before| !before.is_accepted);
        let refusal = match (is_readable, is_unanswered) {
            (false, _) => Some(400),
            (true, true) => Some(491),
            (true, false) => None,
        };
        if let Some(status) = refusal {
            cx.event(Event::Referring { dialog, progress: ReferProgress::Refused(status) });
            return Some(());
        }
        usage.referring = Some(Box::new(referring));
        self.disarm(dialog, UsageTimer::Refer);
        self.send_refer(cx, dialog, None);
        Some(())
    }

    fn send_refer(
        &mut self,
        cx: &mut Context<'_>,
        dialog: DialogId,
        credentials: Option<Vec<Credentials>>,
    ) {
        let Some(usage) = self.usages.get(dialog.0) else { return };
        let Some(referring) = usage.referring.clone() else { return };
        let contact = usage.contact.clone();
        let sent =
            self.send_within(cx, (dialog, Purpose::Refer), (&Method::Refer, credentials), |w| {
                w.header(HeaderName::Contact, &contact)
                    .header(HeaderName::ReferTo, format!("<{}>", referring.refer_to));
                if let Some(by) = &referring.referred_by {
                    w.header(HeaderName::ReferredBy, format!("<{by}>"));
                }
                for field in &referring.headers {
                    w.named(field.name(), field.value());
                }
                None
            });
        let Some(cseq) = sent else {
            return self.refer_over(cx, dialog, ReferProgress::Refused(513));
        };
        if let Some(usage) = self.usages.get_mut(dialog.0)
            && let Some(referring) = usage.referring.as_mut()
        {
            referring.cseq = cseq;
        }
    }

    pub(super) fn refer_answered(
        &mut self,
        cx: &mut Context<'_>,
        dialog: DialogId,
        response: &Response,
    ) {
        match Class::of(response.status) {
            Class::Provisional => {}
            Class::Success => {
                let Some(usage) = self.usages.get_mut(dialog.0) else { return };
                // The last NOTIFY may be here already.
                let Some(referring) = usage.referring.as_mut() else { return };
                referring.is_accepted = true;
                cx.event(Event::Referring { dialog, progress: ReferProgress::Accepted });
                // RFC 6665 §4.1.2.4, timer N: so long may the first NOTIFY take.
                let give_up = self.config.timers.give_up();
                self.arm(cx, dialog, UsageTimer::Refer, give_up);
            }
            Class::Failure => match self.challenged(dialog, &Method::Refer, response) {
                Some(credentials) => self.send_refer(cx, dialog, Some(credentials)),
                None => {
                    self.refer_over(cx, dialog, ReferProgress::Refused(response.status));
                    self.gone_if_481(cx, dialog, response.status);
                }
            },
        }
    }

    /// Ends our REFER with its last news.
    pub(super) fn refer_over(
        &mut self,
        cx: &mut Context<'_>,
        dialog: DialogId,
        progress: ReferProgress,
    ) {
        self.disarm(dialog, UsageTimer::Refer);
        let Some(usage) = self.usages.get_mut(dialog.0) else { return };
        if usage.referring.take().is_some() {
            cx.event(Event::Referring { dialog, progress });
        }
    }

    /// A NOTIFY within a dialog.
    pub(super) fn notify(&mut self, cx: &mut Context<'_>, within: Within, request: &Request) {
        let event = request.headers.first(HeaderName::Event).unwrap_or(&[]);
        let (package, _) = lexis::cut(event, b';');
        let params = Params::new(event.get(package.len()..).unwrap_or(&[]));
        if !lexis::trim(package).eq_ignore_ascii_case(b"refer") {
            return self.settle(cx, within, request, (489, Extra::None));
        }
        let Some(usage) = self.usages.get(within.dialog.0) else { return };
        let is_known = usage.referring.as_ref().is_some_and(|referring| {
            let id = params.get("id").map(lexis::number);
            id.is_none_or(|id| id == Some(u64::from(referring.cseq)))
        });
        if !is_known {
            return self.settle(cx, within, request, (481, Extra::None));
        }
        self.settle(cx, within, request, (200, Extra::None));
        let state = request.headers.first(HeaderName::SubscriptionState).unwrap_or(&[]);
        let (word, _) = lexis::cut(state, b';');
        let is_over = lexis::trim(word).eq_ignore_ascii_case(b"terminated");
        let params = Params::new(state.get(word.len()..).unwrap_or(&[]));
        let dialog = within.dialog;
        match fragment_status(&request.body) {
            Some(status) if status >= 200 => {
                self.refer_over(cx, dialog, ReferProgress::Finished(status));
            }
            Some(_) | None if is_over => self.refer_over(cx, dialog, ReferProgress::Silent),
            told => {
                let rest = params.get("expires").and_then(lexis::number);
                let rest = rest.map_or(SUBSCRIPTION_MAX, Duration::from_secs).min(SUBSCRIPTION_MAX);
                self.arm(cx, dialog, UsageTimer::Refer, rest);
                if let Some(status) = told {
                    let progress = ReferProgress::Progressed(status);
                    cx.event(Event::Referring { dialog, progress });
                }
            }
        }
    }

    /// A REFER within a dialog.
    pub(super) fn referred(&mut self, cx: &mut Context<'_>, within: Within, request: Request) {
        let Some(usage) = self.usages.get_mut(within.dialog.0) else { return };
        let refer_to = request.headers.refer_to().ok().flatten();
        let refusal = match (&usage.state, refer_to) {
            (State::Leaving(_), _) => Err((481, Extra::None)),
            _ if !usage.policy.takes_refer => Err((603, Extra::Cause(HangupCause::Policy))),
            (_, None) => Err((400, Extra::None)),
            (State::Incoming(_) | State::Calling(_), _) => Err((491, Extra::None)),
            (State::Confirmed(_), _) if usage.referred.is_some() => Err((491, Extra::None)),
            (State::Confirmed(_), Some(refer_to)) => Ok(refer_to.detached()),
        };
        let refer_to = match refusal {
            Ok(refer_to) => refer_to,
            Err(refusal) => return self.settle(cx, within, &request, refusal),
        };
        let by = request.headers.first(HeaderName::ReferredBy);
        let referred = Referred {
            replaces: Replaces::of_refer_to(refer_to.uri()),
            refer_to,
            referred_by: by.map(bytes::Bytes::copy_from_slice),
        };
        usage.referred = Some(Referral {
            cseq: request.headers.cseq().number,
            unanswered: Some((within.transaction, Arc::new(request))),
            next: None,
            telling: None,
        });
        let dialog = within.dialog;
        cx.event(Event::Referred { dialog, referred: Box::new(referred) });
    }

    /// Answers the peer's REFER: 202 and a first NOTIFY, or a refusal.
    pub(super) fn answer_refer(
        &mut self,
        cx: &mut Context<'_>,
        dialog: DialogId,
        refusal: Option<(u16, HangupCause)>,
    ) -> Option<()> {
        let usage = self.usages.get_mut(dialog.0)?;
        if refusal.is_some_and(|(status, _)| !(300..=699).contains(&status)) {
            return None;
        }
        let flow = usage.flow;
        let (transaction, request) = usage.referred.as_mut()?.unanswered.take()?;
        let of = (request.as_ref(), flow);
        match refusal {
            Some((status, cause)) => {
                usage.referred = None;
                self.answer(cx, (transaction, dialog), (status, Extra::Cause(cause)), of);
            }
            None => {
                self.answer(cx, (transaction, dialog), (202, Extra::None), of);
                self.arm(cx, dialog, UsageTimer::Referral, SUBSCRIPTION_MAX);
                self.send_notify(cx, (dialog, 100), None);
            }
        }
        Some(())
    }

    /// Tells the peer how the call it asked for stands, once the NOTIFY before is answered.
    pub(super) fn notify_refer(
        &mut self,
        cx: &mut Context<'_>,
        dialog: DialogId,
        status: u16,
    ) -> Option<()> {
        let usage = self.usages.get_mut(dialog.0)?;
        let State::Confirmed(_) = &usage.state else { return None };
        let referral = usage.referred.as_mut()?;
        if referral.unanswered.is_some() || !(100..=699).contains(&status) {
            return None;
        }
        if referral.telling.is_some() {
            referral.next = Some(status);
            return Some(());
        }
        self.send_notify(cx, (dialog, status), None);
        Some(())
    }

    fn send_notify(
        &mut self,
        cx: &mut Context<'_>,
        (dialog, status): (DialogId, u16),
        credentials: Option<Vec<Credentials>>,
    ) {
        let Some(usage) = self.usages.get_mut(dialog.0) else { return };
        let contact = usage.contact.clone();
        let Some(referral) = usage.referred.as_mut() else { return };
        referral.telling = Some(status);
        let event = format!("refer;id={}", referral.cseq);
        let state = if status >= 200 {
            "terminated;reason=noresource".to_owned()
        } else {
            format!("active;expires={}", SUBSCRIPTION_MAX.as_secs())
        };
        let body = format!("SIP/2.0 {status} {}\r\n", status::reason_phrase(status));
        let of = (&Method::Notify, credentials);
        let sent = self.send_within(cx, (dialog, Purpose::Notify), of, |w| {
            w.header(HeaderName::Contact, &contact)
                .header(HeaderName::Event, event)
                .header(HeaderName::SubscriptionState, state);
            Some((SIPFRAG.to_owned(), body.into()))
        });
        if sent.is_none() {
            self.notify_over(dialog);
        }
    }

    pub(super) fn notify_answered(
        &mut self,
        cx: &mut Context<'_>,
        dialog: DialogId,
        response: &Response,
    ) {
        let telling = self.usages.get(dialog.0).and_then(|usage| usage.referred.as_ref()?.telling);
        let Some(status) = telling else { return };
        match Class::of(response.status) {
            Class::Provisional => {}
            Class::Success if status >= 200 => self.notify_over(dialog),
            Class::Success => {
                let Some(usage) = self.usages.get_mut(dialog.0) else { return };
                let Some(referral) = usage.referred.as_mut() else { return };
                referral.telling = None;
                if let Some(next) = referral.next.take() {
                    self.send_notify(cx, (dialog, next), None);
                }
            }
            Class::Failure => match self.challenged(dialog, &Method::Notify, response) {
                Some(credentials) => self.send_notify(cx, (dialog, status), Some(credentials)),
                // The peer does not want to know (RFC 6665 §4.2.2).
                None => self.notify_over(dialog),
            },
        }
    }

    /// Ends the peer's subscription to the outcome of its REFER.
    pub(super) fn notify_over(&mut self, dialog: DialogId) {
        self.disarm(dialog, UsageTimer::Referral);
        if let Some(usage) = self.usages.get_mut(dialog.0) {
            usage.referred = None;
        }
    }

    /// The call never told how the referred call ended.
    pub(super) fn referral_due(&mut self, cx: &mut Context<'_>, dialog: DialogId) {
        let is_telling = |usage: &super::Usage| {
            usage.referred.as_ref().is_some_and(|referral| referral.telling.is_some())
        };
        if self.usages.get(dialog.0).is_some_and(is_telling) {
            return self.notify_over(dialog);
        }
        self.send_notify(cx, (dialog, 408), None);
    }

    /// Answers a REFER that the call will not answer any more.
    pub(super) fn drop_referred(&mut self, cx: &mut Context<'_>, dialog: DialogId) {
        let Some(usage) = self.usages.get_mut(dialog.0) else { return };
        let flow = usage.flow;
        let Some((transaction, request)) =
            usage.referred.take().and_then(|referral| referral.unanswered)
        else {
            return;
        };
        self.answer(cx, (transaction, dialog), (487, Extra::None), (&request, flow));
    }
}

/// The status a `message/sipfrag` body tells.
fn fragment_status(body: &[u8]) -> Option<u16> {
    let line = body.split(|&byte| matches!(byte, b'\r' | b'\n')).find(|line| !line.is_empty())?;
    let mut words = line.split(|&byte| byte == b' ').filter(|word| !word.is_empty());
    let is_sip = words.next()?.eq_ignore_ascii_case(b"SIP/2.0");
    let status = u16::try_from(lexis::number(words.next()?)?).ok()?;
    (is_sip && (100..=699).contains(&status)).then_some(status)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_of_a_fragment_is_read_whatever_follows() {
        let check = |text: &str, expected| assert_eq!(fragment_status(text.as_bytes()), expected);
        check("SIP/2.0 100 Trying", Some(100));
        check("SIP/2.0 603 Declined\r\nReason: x\r\n", Some(603));
        check("\r\nsip/2.0  200\r\n", Some(200));
        for bad in ["", "SIP/2.0", "SIP/2.0 99 x", "SIP/2.0 700 x", "INVITE sip:a@b SIP/2.0"] {
            check(bad, None);
        }
    }
}
