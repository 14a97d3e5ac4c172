//! Timers that fired, and the ACK that stops some of them.

use super::Context;
use super::Due;
use super::Endpoint;
use super::event::Counter;
use super::event::DialogEnd;
use super::event::DialogId;
use super::event::Event;
use super::flow::Flow;
use super::receive::description;
use super::told::ReferProgress;
use super::told::RequestOutcome;
use super::transact::Told;
use crate::sip::invite::State;
use crate::sip::invite::UsageTimer;
use crate::sip::message::Request;
use crate::types::cause::HangupCause;

impl Endpoint {
    pub(super) fn deadline_reached(&mut self, cx: &mut Context<'_>) {
        while let Some(due) = self.timers.pop(cx.now) {
            self.firing = self.owner_of(due);
            #[cfg(test)]
            self.trip();
            match due {
                Due::Transaction(id, timer) => {
                    let client = self.client(id);
                    let upward = self.turn(cx, id, Told::Fired(timer));
                    self.failed(cx, client, (id, upward));
                }
                Due::Usage(dialog, timer) => self.usage_due(cx, dialog, timer),
                Due::Search(number) => self.located(cx, number, None),
                Due::Outside(place) => self.outside_over(cx, place, RequestOutcome::TimedOut),
            }
        }
        self.firing = None;
    }

    fn owner_of(&self, due: Due) -> Option<DialogId> {
        match due {
            Due::Transaction(id, _) => self.transactions.get(id)?.owner,
            Due::Usage(dialog, _) => Some(dialog),
            Due::Search(_) | Due::Outside(_) => None,
        }
    }

    fn usage_due(&mut self, cx: &mut Context<'_>, dialog: DialogId, timer: UsageTimer) {
        match timer {
            UsageTimer::Answer => self.answer_due(cx, dialog),
            UsageTimer::Ack => {
                cx.count(Counter::AckTimeout);
                let is_first = self
                    .usages
                    .get(dialog.0)
                    .is_some_and(|usage| usage.ack_wait.as_ref().is_some_and(|wait| wait.is_first));
                let ending = self.usages.get(dialog.0).and_then(|usage| usage.ending);
                let how = match ending {
                    Some(_) if is_first => DialogEnd::ByeAnswered,
                    Some(_) | None => DialogEnd::AckTimeout,
                };
                self.leave_at_once(cx, dialog, (HangupCause::AckTimeout, how));
            }
            UsageTimer::Session => self.session_due(cx, dialog),
            UsageTimer::Ringing => self.ringing_due(cx, dialog),
            UsageTimer::Patience => self.patience_due(cx, dialog),
            UsageTimer::Collision => self.collision_due(cx, dialog),
            UsageTimer::Silence => self.silence_due(cx, dialog),
            UsageTimer::Reliable => self.reliable_due(cx, dialog),
            UsageTimer::Prack => self.prack_due(cx, dialog),
            UsageTimer::Refer => self.refer_over(cx, dialog, ReferProgress::Silent),
            UsageTimer::Referral => self.referral_due(cx, dialog),
        }
    }

    /// Sends the 2xx again (RFC 3261 §13.3.1.4).
    fn answer_due(&mut self, cx: &mut Context<'_>, dialog: DialogId) {
        let timers = self.config.timers;
        let Some(usage) = self.usages.get_mut(dialog.0) else { return };
        let Some(wait) = usage.ack_wait.as_mut() else { return };
        wait.resends = wait.resends.saturating_add(1);
        let (interval, flow, bytes) = (wait.interval(timers), wait.flow, wait.bytes.clone());
        cx.count(Counter::RetransmissionSent);
        cx.transmit(flow, bytes);
        self.arm(cx, dialog, UsageTimer::Answer, interval);
    }

    fn session_due(&mut self, cx: &mut Context<'_>, dialog: DialogId) {
        let Some(session) = self.usages.get(dialog.0).and_then(|usage| usage.session) else {
            return;
        };
        if session.is_ours && !session.is_refreshed && cx.now < session.ends {
            self.refresh(cx, dialog);
        } else {
            let end = (HangupCause::SessionExpired, DialogEnd::SessionExpired);
            self.leave_at_once(cx, dialog, end);
        }
    }

    /// A call of ours rang too long, or its CANCEL brought no end, or a re-INVITE has none.
    fn patience_due(&mut self, cx: &mut Context<'_>, dialog: DialogId) {
        let Some(usage) = self.usages.get_mut(dialog.0) else { return };
        let State::Calling(calling) = &mut usage.state else {
            return self.asking_overdue(cx, dialog);
        };
        if calling.is_cancelled {
            return self.call_failed(cx, dialog, 408, None);
        }
        calling.gave_up = true;
        usage.ending = Some(HangupCause::NoAnswer);
        self.drop_asked(cx, dialog);
        self.cancel_calling(cx, dialog);
    }

    /// An ACK within a dialog.
    pub(super) fn acknowledged(
        &mut self,
        cx: &mut Context<'_>,
        flow: Flow,
        dialog: DialogId,
        request: &Request,
    ) {
        let headers = &request.headers;
        let number = headers.cseq().number;
        self.follow(dialog, flow);
        let Some(usage) = self.usages.get_mut(dialog.0) else { return };
        let Some(wait) = usage.ack_wait.take_if(|wait| wait.cseq == number) else {
            // The ACK of a 2xx that we repeated before it came.
            return cx.count(Counter::RetransmissionAbsorbed);
        };
        let ending = usage.ending;
        self.open_accounts(dialog, wait.accounts);
        self.disarm(dialog, UsageTimer::Answer);
        self.disarm(dialog, UsageTimer::Ack);
        match ending {
            Some(cause) => self.leave(cx, dialog, cause),
            None => {
                let body = description(headers, &request.body);
                cx.event(Event::Acknowledged { dialog, body });
            }
        }
    }
}
