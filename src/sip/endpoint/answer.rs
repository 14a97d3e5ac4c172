//! What becomes of our requests: responses, time-outs, lost connections.

use super::Context;
use super::Endpoint;
use super::event::Counter;
use super::event::DialogEnd;
use super::event::DialogId;
use super::event::Event;
use super::policy::SessionTimerMode;
use super::receive::description;
use super::told::Fork;
use super::told::Furthest;
use super::told::ReferProgress;
use super::told::RefusalNote;
use super::transact::Kept;
use super::transact::Machine;
use super::transact::Purpose;
use super::transact::Upward;
use crate::sip::dialog::Dialog;
use crate::sip::invite::Early;
use crate::sip::invite::State;
use crate::sip::invite::Unacknowledged;
use crate::sip::invite::UsageTimer;
use crate::sip::invite::Why;
use crate::sip::message::Response;
use crate::sip::message::method::Method;
use crate::sip::message::status;
use crate::sip::session_timer::Session;
use crate::sip::transaction::Class;
use crate::sip::transaction::key::ClientKey;
use crate::types::cause::HangupCause;
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;

/// Repetitions of a re-INVITE or refresh after 491 or 422 before it counts as refused.
const COLLISIONS_MAX: u8 = 3;

/// A request of ours: its dialog, what it is for, its transaction.
type Request = (DialogId, Purpose, u64);

impl Machine {
    /// The key of a client transaction.
    pub(super) const fn client_key(&self) -> Option<ClientKey> {
        match self {
            Self::InviteClient { key, .. } | Self::Client { key, .. } => Some(*key),
            Self::InviteServer { .. } | Self::Server { .. } => None,
        }
    }
}

impl Endpoint {
    /// Owner and purpose of a client transaction.
    pub(super) fn client(&self, id: u64) -> Option<(Option<DialogId>, Purpose)> {
        let transaction = self.transactions.get(id)?;
        match &transaction.machine {
            Machine::InviteClient { purpose, .. } | Machine::Client { purpose, .. } => {
                Some((transaction.owner, *purpose))
            }
            Machine::InviteServer { .. } | Machine::Server { .. } => None,
        }
    }

    /// A response came that is not a repetition, but for 2xx to INVITE.
    pub(super) fn answered(
        &mut self,
        cx: &mut Context<'_>,
        (dialog, purpose, id): Request,
        response: Response,
    ) {
        let is_invite = response.headers.cseq().method == Method::Invite;
        let is_success = Class::of(response.status) == Class::Success;
        if is_invite && is_success && self.acknowledge_again(cx, id, &response) {
            return;
        }
        match purpose {
            Purpose::Invite => self.invite_answered(cx, (dialog, id), response),
            Purpose::Asking => self.asking_answered(cx, (dialog, id), &response),
            Purpose::Bye => self.bye_answered(cx, dialog, &response),
            Purpose::Prack(fork, rseq) => self.prack_answered(cx, (dialog, fork, rseq), &response),
            Purpose::Info => self.info_answered(cx, dialog, &response),
            Purpose::Refer => self.refer_answered(cx, dialog, &response),
            Purpose::Notify => self.notify_answered(cx, dialog, &response),
            Purpose::Parting => self.parting_answered(cx, (dialog, id), &response),
            Purpose::Outside(_) | Purpose::Nothing => {}
        }
    }

    /// No answer came to a request of ours.
    pub(super) fn failed(
        &mut self,
        cx: &mut Context<'_>,
        client: Option<(Option<DialogId>, Purpose)>,
        (id, upward): (u64, Option<Upward>),
    ) {
        let (Some((owner, purpose)), Some(upward)) = (client, upward) else { return };
        if let Purpose::Outside(place) = purpose {
            self.outside_failed(cx, place, upward);
        } else if let Some(dialog) = owner {
            self.unanswered(cx, (dialog, purpose, id), upward);
        }
    }

    fn unanswered(&mut self, cx: &mut Context<'_>, (dialog, purpose, id): Request, upward: Upward) {
        let status = match upward {
            Upward::Deliver => return,
            Upward::TimedOut => 408,
            Upward::Unreachable => 503,
        };
        if let Some(usage) = self.usages.get_mut(dialog.0) {
            // Whoever is there now, another may have taken over.
            usage.located = None;
        }
        match purpose {
            Purpose::Invite => {
                if self.is_calling(dialog, id) {
                    self.call_failed(cx, dialog, status, None);
                }
            }
            Purpose::Asking => self.asking_refused(cx, (dialog, id), (status, None)),
            Purpose::Bye => {
                if upward != Upward::Unreachable || !self.bye_by_way_back(cx, dialog) {
                    self.left(cx, dialog, DialogEnd::PeerTimeout);
                }
            }
            Purpose::Info => self.info_over(cx, dialog, status),
            Purpose::Refer => self.refer_over(cx, dialog, ReferProgress::Refused(status)),
            Purpose::Notify => self.notify_over(dialog),
            Purpose::Prack(..) | Purpose::Outside(_) | Purpose::Parting | Purpose::Nothing => {}
        }
    }

    /// The ACK of a 2xx that comes again is sent again (RFC 3261 §13.2.2.4).
    fn acknowledge_again(&self, cx: &mut Context<'_>, id: u64, response: &Response) -> bool {
        let Some(transaction) = self.transactions.get(id) else { return false };
        let tag = response.headers.to().tag().unwrap_or(&[]);
        let Some(acked) = transaction.acks.iter().find(|acked| acked.tag == tag) else {
            return false;
        };
        if acked.is_sent {
            cx.count(Counter::RetransmissionSent);
            cx.transmit(acked.flow, acked.bytes.clone());
            // It did not arrive: the other way may be the one that works.
            if let Some((flow, bytes)) = acked.instead.as_deref() {
                cx.transmit(*flow, bytes.clone());
            }
        }
        true
    }

    fn is_calling(&self, dialog: DialogId, id: u64) -> bool {
        self.usages.get(dialog.0).is_some_and(|usage| match &usage.state {
            State::Calling(calling) => calling.transaction == id,
            State::Incoming(_) | State::Confirmed(_) | State::Leaving(_) => false,
        })
    }

    fn invite_answered(
        &mut self,
        cx: &mut Context<'_>,
        (dialog, id): (DialogId, u64),
        response: Response,
    ) {
        let is_calling = self.is_calling(dialog, id);
        match Class::of(response.status) {
            Class::Provisional if is_calling => self.call_progresses(cx, dialog, &response),
            Class::Success if is_calling => self.call_answered(cx, (dialog, id), &response),
            Class::Success => self.fork_answered(cx, (dialog, id), &response),
            Class::Failure if is_calling => {
                if !self.call_again(cx, dialog, &response) {
                    let status = response.status;
                    self.call_failed(cx, dialog, status, Some(response));
                }
            }
            // Given up before anything was heard: now it can be cancelled (RFC 3261 §9.1).
            Class::Provisional => self.cancel_given_up(cx, (dialog, id)),
            Class::Failure => {}
        }
    }

    /// Cancels, once, an INVITE whose usage is gone or called on without it.
    fn cancel_given_up(&mut self, cx: &mut Context<'_>, (dialog, id): (DialogId, u64)) {
        if self.usages.get(dialog.0).is_some() {
            return;
        }
        let Some(transaction) = self.transactions.get_mut(id) else { return };
        if !transaction.is_cancelled {
            let cause = transaction.given_up_for.unwrap_or(HangupCause::NoAnswer);
            self.send_cancel(cx, id, cause);
            self.abandon(cx, id);
        }
    }

    fn call_answered(
        &mut self,
        cx: &mut Context<'_>,
        (dialog, id): (DialogId, u64),
        response: &Response,
    ) {
        let Some(usage) = self.usages.get_mut(dialog.0) else { return };
        let State::Calling(calling) = &mut usage.state else { return };
        let mut held = Dialog::of_response(response, &calling.from, usage.tag, &calling.uri)
            .advertising(calling.invite.advertised.clone());
        let of_tag = |early: &Early| early.dialog.remote_tag() == held.remote_tag();
        let place = calling.early.iter().position(of_tag);
        let mut body = description(&response.headers, &response.body);
        let mut is_moved = false;
        if let Some(early) = place.and_then(|place| calling.early.get_mut(place)) {
            held.continue_from(&early.dialog);
            let said_early = early.body.take().filter(|_| calling.invite.body.is_some());
            is_moved = early.is_moved;
            body = if is_moved { said_early } else { body.or(said_early) };
        }
        let fork = Fork(u8::try_from(place.unwrap_or(calling.early.len())).unwrap_or(u8::MAX));
        usage.unacknowledged = Some(Unacknowledged {
            transaction: id,
            cseq: calling.cseq,
            credentials: std::mem::take(&mut calling.credentials),
        });
        let offer = calling.invite.body.take().unwrap_or_default();
        if !is_moved {
            usage.description = offer;
        }
        let (name, addresses) = (held.name(), held.addresses());
        usage.state = State::Confirmed(Box::new(held));
        if let Some(digest) = usage.digest.as_mut() {
            digest.accept(&response.headers);
            if let Some(transaction) = self.transactions.get_mut(id) {
                transaction.account =
                    Some(Box::new(Kept { digest: digest.as_ref().clone(), fork: None }));
            }
        }
        let ending = usage.ending;
        self.disarm(dialog, UsageTimer::Patience);
        self.disarm(dialog, UsageTimer::Silence);
        if let Some(cause) = ending {
            // RFC 3261 §9.1: the 200 crossed our CANCEL.
            self.acknowledge(cx, dialog, None);
            return self.leave(cx, dialog, cause);
        }
        self.put_off_asked(cx, dialog);
        self.agreed_by_peer(cx, dialog, &response.headers);
        cx.event(Event::Answered { dialog, fork, body, name, addresses });
    }

    /// Sends a new INVITE where the refusal asks for it: with credentials (RFC 3261 §22.2), or with a
    /// longer session interval (RFC 4028 §7.3).
    fn call_again(&mut self, cx: &mut Context<'_>, dialog: DialogId, response: &Response) -> bool {
        let Some(usage) = self.usages.get_mut(dialog.0) else { return false };
        if usage.ending.is_some() {
            return false;
        }
        let State::Calling(calling) = &mut usage.state else { return false };
        let uri = calling.uri.as_bytes().clone();
        let digest = usage.digest.as_mut();
        match response.status {
            401 | 407 => {
                let answer = digest.map(|it| it.answer(&response.headers, &Method::Invite, &uri));
                let Some(Ok(credentials)) = answer else { return false };
                calling.credentials = credentials;
            }
            422 if calling.refused_intervals < COLLISIONS_MAX
                && usage.policy.session.mode != SessionTimerMode::Off =>
            {
                let Ok(Some(least)) = response.headers.min_se() else { return false };
                if !calling.session.raise(least.interval_s) {
                    return false;
                }
                calling.refused_intervals += 1;
                calling.credentials =
                    digest.map_or_else(Vec::new, |it| it.authorize(&Method::Invite, &uri));
            }
            _ => return false,
        }
        // Somebody is there.
        calling.furthest = calling.furthest.max(Furthest::Trying);
        calling.cseq += 1;
        calling.is_proceeding = false;
        calling.early.clear();
        self.send_invite(cx, dialog);
        true
    }

    pub(super) fn call_failed(
        &mut self,
        cx: &mut Context<'_>,
        dialog: DialogId,
        status: u16,
        response: Option<Response>,
    ) {
        let Some(usage) = self.usages.get(dialog.0) else { return };
        let (gave_up, furthest) = match &usage.state {
            State::Calling(calling) => (calling.gave_up, calling.furthest),
            State::Incoming(_) | State::Confirmed(_) | State::Leaving(_) => Default::default(),
        };
        if usage.ending.is_some() && !gave_up {
            return self.left(cx, dialog, DialogEnd::ByeAnswered);
        }
        let status = if gave_up { 408 } else { status };
        let reason = match &response {
            Some(response) => Bytes::copy_from_slice(&response.reason),
            None => Bytes::from_static(status::reason_phrase(status).as_bytes()),
        };
        let note = Box::new(RefusalNote::of(furthest, response.as_ref()));
        let response = response.map(Arc::new);
        cx.event(Event::Refused { dialog, status, reason, note, response });
        self.forget(cx, dialog);
    }

    fn bye_answered(&mut self, cx: &mut Context<'_>, dialog: DialogId, response: &Response) {
        if Class::of(response.status) == Class::Provisional {
            return;
        }
        if is_challenge(response.status) {
            if self.bye_again(cx, dialog, response) {
                return;
            }
            cx.count(Counter::ByeChallenged);
        }
        self.left(cx, dialog, DialogEnd::ByeAnswered);
    }

    /// Sends BYE once more, where its connection was lost before the answer and there is another way.
    fn bye_by_way_back(&mut self, cx: &mut Context<'_>, dialog: DialogId) -> bool {
        let Some(usage) = self.usages.get_mut(dialog.0) else { return false };
        let State::Leaving(held) = &usage.state else { return false };
        let Some(flow) = usage.way_back.take() else { return false };
        let mut peer = held.clone();
        let cause = usage.ending.unwrap_or(HangupCause::Normal);
        self.bye_in(cx, (&mut peer, *flow), Some((dialog, Purpose::Bye)), cause);
        if let Some(usage) = self.usages.get_mut(dialog.0) {
            usage.state = State::Leaving(peer);
        }
        true
    }

    fn bye_again(&mut self, cx: &mut Context<'_>, dialog: DialogId, response: &Response) -> bool {
        let Some(usage) = self.usages.get_mut(dialog.0) else { return false };
        let State::Leaving(held) = &usage.state else { return false };
        let (mut peer, flow) = (held.clone(), usage.flow);
        let cause = usage.ending.unwrap_or(HangupCause::Normal);
        let uri = peer.addressed().uri.as_bytes().clone();
        let Some(digest) = usage.digest.as_mut() else { return false };
        let Ok(credentials) = digest.answer(&response.headers, &Method::Bye, &uri) else {
            return false;
        };
        self.bye_in_with(
            cx,
            (&mut peer, flow),
            Some((dialog, Purpose::Bye)),
            (cause, &credentials),
        );
        if let Some(usage) = self.usages.get_mut(dialog.0) {
            usage.state = State::Leaving(peer);
        }
        true
    }

    pub(super) fn left(&mut self, cx: &mut Context<'_>, dialog: DialogId, how: DialogEnd) {
        if let Some(usage) = self.usages.get(dialog.0) {
            if !usage.is_told {
                cx.event(Event::Ended { dialog, how });
            }
            self.forget(cx, dialog);
        }
    }

    fn asking_answered(
        &mut self,
        cx: &mut Context<'_>,
        (dialog, id): (DialogId, u64),
        response: &Response,
    ) {
        match Class::of(response.status) {
            // Timer F goes on for an UPDATE, but an INVITE has nothing left that ends it.
            Class::Provisional => {
                let give_up = self.config.timers.give_up();
                self.arm(cx, dialog, UsageTimer::Patience, give_up);
            }
            Class::Success => self.asking_accepted(cx, (dialog, id), response),
            Class::Failure => {
                if !self.ask_again(cx, (dialog, id), response) {
                    let after = response.headers.retry_after().ok().flatten();
                    let after = after.map(|after| Duration::from_secs(after.delay_s.into()));
                    self.asking_refused(cx, (dialog, id), (response.status, after));
                }
            }
        }
    }

    fn asking_accepted(
        &mut self,
        cx: &mut Context<'_>,
        (dialog, id): (DialogId, u64),
        response: &Response,
    ) {
        let headers = &response.headers;
        let is_invite = headers.cseq().method == Method::Invite;
        let asking = self
            .usages
            .get_mut(dialog.0)
            .and_then(|usage| usage.asking.take_if(|asking| asking.transaction == Some(id)));
        let Some(asking) = asking else {
            if is_invite {
                self.late_answer(cx, (dialog, id), response);
            }
            return;
        };
        self.disarm(dialog, UsageTimer::Patience);
        let Some(usage) = self.usages.get_mut(dialog.0) else { return };
        if !asking.body.is_empty() {
            usage.description = asking.body;
        }
        if is_invite {
            usage.unacknowledged = Some(Unacknowledged {
                transaction: id,
                cseq: headers.cseq().number,
                credentials: asking.credentials,
            });
        }
        if let State::Leaving(_) = usage.state {
            self.acknowledge(cx, dialog, None);
            return;
        }
        self.agreed_by_peer(cx, dialog, headers);
        self.acknowledge(cx, dialog, None);
        let body = description(headers, &response.body);
        match (asking.why, body) {
            (Why::Call | Why::CallByUpdate, body) => {
                cx.event(Event::ReinviteAnswered { dialog, body });
            }
            // A refresh changes nothing, unless the peer's answer does.
            (Why::RefreshByInvite, Some(body)) => cx.event(Event::Refreshed { dialog, body }),
            (Why::RefreshByInvite, None) | (Why::RefreshByUpdate, _) => {}
        }
    }

    /// A 2xx to a re-INVITE that was given up: it is acknowledged, or the peer would end the call.
    fn late_answer(
        &mut self,
        cx: &mut Context<'_>,
        (dialog, id): (DialogId, u64),
        response: &Response,
    ) {
        let Some(usage) = self.usages.get_mut(dialog.0) else {
            return self.fork_answered(cx, (dialog, id), response);
        };
        usage.unacknowledged = Some(Unacknowledged {
            transaction: id,
            cseq: response.headers.cseq().number,
            credentials: Vec::new(),
        });
        self.acknowledge(cx, dialog, None);
    }

    /// A re-INVITE or refresh of ours is too long to be sent: the session stays as it is.
    pub(super) fn asking_unsent(&mut self, cx: &mut Context<'_>, dialog: DialogId) {
        let Some(usage) = self.usages.get_mut(dialog.0) else { return };
        match usage.asking.take().map(|asking| asking.why) {
            Some(Why::Call | Why::CallByUpdate) => {
                cx.event(refused(dialog, 513));
            }
            Some(Why::RefreshByInvite | Why::RefreshByUpdate) | None => {}
        }
    }

    /// A re-INVITE of ours got a provisional response and nothing more.
    pub(super) fn asking_overdue(&mut self, cx: &mut Context<'_>, dialog: DialogId) {
        let Some(usage) = self.usages.get_mut(dialog.0) else { return };
        let Some(asking) = usage.asking.take() else { return };
        if let Some(id) = asking.transaction {
            self.send_cancel(cx, id, HangupCause::NoAnswer);
            self.abandon(cx, id);
        }
        match asking.why {
            Why::Call | Why::CallByUpdate => {
                cx.event(refused(dialog, 408));
            }
            // The peer is there: it said something.
            Why::RefreshByInvite | Why::RefreshByUpdate => {
                self.refresh_refused(cx, dialog, (408, None));
            }
        }
    }

    /// Repeats a request of ours where the refusal asks for it. Credentials are of one request (RFC 7616
    /// §3.4): each repetition gets its own.
    fn ask_again(
        &mut self,
        cx: &mut Context<'_>,
        (dialog, id): (DialogId, u64),
        response: &Response,
    ) -> bool {
        let random = self.random.next_u64();
        let Some(usage) = self.usages.get_mut(dialog.0) else { return false };
        let State::Confirmed(held) = &usage.state else { return false };
        let uri = held.addressed().uri.as_bytes().clone();
        let owns_call_id = held.owns_call_id();
        let can_invite = !usage.description.is_empty();
        let Some(asking) = usage.asking.as_mut().filter(|it| it.transaction == Some(id)) else {
            return false;
        };
        match response.status {
            401 | 407 => {
                let Some(digest) = usage.digest.as_mut() else { return false };
                let method = asking.method();
                let Ok(credentials) = digest.answer(&response.headers, &method, &uri) else {
                    return false;
                };
                asking.credentials = credentials;
            }
            422 if asking.collisions < COLLISIONS_MAX => {
                asking.collisions += 1;
                asking.credentials.clear();
                let Ok(Some(least)) = response.headers.min_se() else { return false };
                let Some(session) = usage.session.as_mut() else { return false };
                *session =
                    Session { interval_s: session.interval_s.max(least.interval_s), ..*session };
                asking.least_s = least.interval_s;
            }
            // UPDATE was allowed but is not taken: by re-INVITE then.
            405 | 501 if asking.why == Why::RefreshByUpdate && can_invite => {
                asking.why = Why::RefreshByInvite;
                asking.body = usage.description.clone();
                asking.credentials.clear();
                usage.peer_allows_update = false;
            }
            405 | 501 if asking.why == Why::CallByUpdate => {
                asking.why = Why::Call;
                asking.credentials.clear();
                usage.peer_allows_update = false;
            }
            491 if asking.collisions < COLLISIONS_MAX => {
                asking.collisions += 1;
                asking.credentials.clear();
                asking.transaction = None;
                // What is said after the wait may be something else.
                asking.body = Bytes::new();
                let wait = collision_wait(owns_call_id, random);
                self.arm(cx, dialog, UsageTimer::Collision, wait);
                return true;
            }
            _ => return false,
        }
        self.ask(cx, dialog);
        true
    }

    fn asking_refused(
        &mut self,
        cx: &mut Context<'_>,
        (dialog, id): (DialogId, u64),
        (status, retry_after): (u16, Option<Duration>),
    ) {
        let Some(usage) = self.usages.get_mut(dialog.0) else { return };
        let Some(asking) = usage.asking.take_if(|asking| asking.transaction == Some(id)) else {
            return;
        };
        if let State::Leaving(_) = usage.state {
            return;
        }
        self.disarm(dialog, UsageTimer::Patience);
        // RFC 3261 §12.2.1.2: the peer does not know the dialog, or is not there any more.
        if matches!(status, 408 | 481) {
            let end = (HangupCause::PeerTimeout, DialogEnd::PeerTimeout);
            return self.leave_at_once(cx, dialog, end);
        }
        match asking.why {
            Why::Call | Why::CallByUpdate => cx.event(refused(dialog, status)),
            Why::RefreshByInvite | Why::RefreshByUpdate => {
                self.refresh_refused(cx, dialog, (status, retry_after));
            }
        }
    }
}

/// A re-INVITE or UPDATE of the call's came to nothing.
const fn refused(dialog: DialogId, status: u16) -> Event {
    Event::ReinviteRefused { dialog, status, has_waited: false }
}

pub(super) const fn is_challenge(status: u16) -> bool {
    matches!(status, 401 | 407)
}

/// RFC 3261 §14.1: 2.1 to 4 s for the owner of the Call-ID, else 0 to 2 s, in steps of 10 ms.
const fn collision_wait(owns_call_id: bool, random: u64) -> Duration {
    let steps = if owns_call_id { 210 + random % 191 } else { random % 201 };
    Duration::from_millis(steps * 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_491_the_owner_of_the_call_id_waits_longer() {
        for random in 0..1000 {
            let owner = collision_wait(true, random).as_millis();
            let other = collision_wait(false, random).as_millis();
            assert!((2100..=4000).contains(&owner) && other <= 2000, "{owner} {other}");
        }
    }
}
