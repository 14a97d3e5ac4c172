//! What the switch wants from a dialog.

use super::Context;
use super::Endpoint;
use super::admit::contact_user;
use super::event::Command;
use super::event::Counter;
use super::event::DialogEnd;
use super::event::DialogId;
use super::event::Event;
use super::event::Refusal;
use super::flow::Flow;
use super::policy::DialogPolicy;
use super::receive::is_described;
use super::request;
use super::respond::Extra;
use super::transact::Acked;
use super::transact::Purpose;
use crate::sip::digest::client::Account;
use crate::sip::digest::client::Client as DigestClient;
use crate::sip::invite::AckWait;
use crate::sip::invite::Asking;
use crate::sip::invite::Info;
use crate::sip::invite::Referring;
use crate::sip::invite::State;
use crate::sip::invite::UsageTimer;
use crate::sip::invite::Why;
use crate::sip::message::method::Method;
use crate::sip::transaction::key::Branch;
use crate::sip::transaction::key::ClientKey;
use crate::sip::transaction::key::Kind;
use crate::types::cause::HangupCause;
use crate::types::transport::Advertised;
use bytes::Bytes;
use std::sync::Arc;

impl Endpoint {
    pub(super) fn command(&mut self, cx: &mut Context<'_>, command: Command) {
        let done = match command {
            Command::Progress { dialog, status, body } => self.progress(cx, dialog, status, body),
            Command::Accept { dialog, body } => self.accept(cx, dialog, body),
            Command::Refuse { dialog, refusal } => self.refuse(cx, dialog, &refusal),
            Command::RefuseOnce { dialog, refusal, bytes_max } => {
                self.refuse_once(cx, dialog, &refusal, bytes_max)
            }
            Command::AnswerReinvite { dialog, body } => self.answer_reinvite(cx, dialog, body),
            Command::RefuseReinvite { dialog, status, cause } => {
                self.refuse_reinvite(cx, dialog, status, cause)
            }
            Command::Reinvite { dialog, body } => self.begin_asking(cx, dialog, (Why::Call, body)),
            Command::Acknowledge { dialog, body } => self.acknowledge(cx, dialog, body.as_ref()),
            Command::Explain { dialog, reason } => self.explain(dialog, reason),
            Command::Hangup { dialog, cause } => self.hangup(cx, dialog, cause),
            Command::Update { dialog, body } => {
                self.begin_asking(cx, dialog, (Why::CallByUpdate, body))
            }
            Command::Adopt { dialog, policy } => self.adopt(cx, dialog, policy),
            Command::Trust(dialog, accounts) => self.trust(dialog, accounts),
            Command::ReachBy { dialog, way } => self.reach_by(dialog, way),
            Command::Advertise { dialog, advertised } => self.advertise(dialog, advertised),
            Command::Info { dialog, content_type, body } => {
                self.info(cx, dialog, Info { content_type, body })
            }
            Command::Refer { dialog, refer_to, referred_by, headers } => {
                let (cseq, is_accepted) = (0, false);
                let referring = Referring { refer_to, referred_by, headers, cseq, is_accepted };
                self.refer(cx, dialog, referring)
            }
            Command::AcceptRefer { dialog } => self.answer_refer(cx, dialog, None),
            Command::RefuseRefer { dialog, status, cause } => {
                self.answer_refer(cx, dialog, Some((status, cause)))
            }
            Command::NotifyRefer { dialog, status } => self.notify_refer(cx, dialog, status),
            Command::Invite { token, invite } => {
                self.place(cx, token, *invite);
                Some(())
            }
            Command::Request(request) => {
                self.ask_outside(cx, *request, false);
                Some(())
            }
            Command::Probe(probe) => {
                self.probe(cx, *probe);
                Some(())
            }
        };
        if done.is_none() {
            cx.count(Counter::SenselessCommand);
        }
    }

    pub(super) fn accept(
        &mut self,
        cx: &mut Context<'_>,
        dialog: DialogId,
        body: Bytes,
    ) -> Option<()> {
        let usage = self.usages.get_mut(dialog.0)?;
        let came_by = usage.came_by();
        let State::Incoming(incoming) = &mut usage.state else { return None };
        if incoming.holds_accept() {
            incoming.held.accept = Some(body);
            return Some(());
        }
        let transaction = incoming.transaction;
        let flow = self.transactions.get(transaction).map_or(usage.flow, |own| own.flow);
        let request = incoming.request.clone();
        let held = Box::new(incoming.dialog.clone());
        let is_settled = incoming.is_settled;
        let accounts = incoming.accounts.take();
        let overtaken = incoming.reliable.as_ref().map(|wait| wait.rseq);
        // RFC 6337 §2: after offer and answer in a reliable response the 2xx repeats neither.
        let told = Some(&body).filter(|_| !is_settled);
        let bytes = self.opening_answer(dialog, &request, came_by, told);
        for timer in [UsageTimer::Ringing, UsageTimer::Reliable, UsageTimer::Prack] {
            self.disarm(dialog, timer);
        }
        let usage = self.usages.get_mut(dialog.0)?;
        usage.overtaken = overtaken;
        usage.description = body;
        usage.state = State::Confirmed(held);
        let wait = AckWait {
            cseq: request.headers.cseq().number,
            bytes: bytes.clone(),
            flow,
            resends: 0,
            is_first: true,
            has_offer: !is_settled && !is_described(&request.headers, &request.body),
            accounts,
        };
        self.respond(cx, transaction, 200, bytes);
        self.await_ack(cx, dialog, wait);
        self.agreed_by_us(cx, dialog, &request);
        Some(())
    }

    fn await_ack(&mut self, cx: &Context<'_>, dialog: DialogId, wait: AckWait) {
        let timers = self.config.timers;
        let interval = wait.interval(timers);
        if let Some(usage) = self.usages.get_mut(dialog.0) {
            usage.ack_wait = Some(Box::new(wait));
        }
        self.arm(cx, dialog, UsageTimer::Answer, interval);
        self.arm(cx, dialog, UsageTimer::Ack, timers.give_up());
    }

    fn refuse(&mut self, cx: &mut Context<'_>, dialog: DialogId, refusal: &Refusal) -> Option<()> {
        let State::Incoming(_) = &self.usages.get(dialog.0)?.state else { return None };
        if !(300..=699).contains(&refusal.status) {
            return None;
        }
        self.refuse_incoming_with(cx, dialog, refusal);
        self.forget(cx, dialog);
        Some(())
    }

    fn answer_reinvite(
        &mut self,
        cx: &mut Context<'_>,
        dialog: DialogId,
        body: Bytes,
    ) -> Option<()> {
        let usage = self.usages.get_mut(dialog.0)?;
        let asked = usage.asked.take()?;
        // As it goes, it is repeated, whatever the peer has said by another connection meanwhile.
        let flow = self.transactions.get(asked.transaction).map_or(usage.flow, |own| own.flow);
        usage.description = body.clone();
        if let State::Incoming(incoming) = &mut usage.state
            && let Some(held) = &mut incoming.held.accept
        {
            // The 2xx repeats nothing, but a refresh of ours must not take this back.
            held.clone_from(&body);
        }
        let bytes = self.opening_answer(dialog, &asked.request, flow, Some(&body));
        self.respond(cx, asked.transaction, 200, bytes.clone());
        if asked.request.method == Method::Invite {
            let headers = &asked.request.headers;
            let wait = AckWait {
                cseq: headers.cseq().number,
                bytes,
                flow,
                resends: 0,
                is_first: false,
                has_offer: !is_described(headers, &asked.request.body),
                accounts: None,
            };
            self.await_ack(cx, dialog, wait);
        }
        self.agreed_by_us(cx, dialog, &asked.request);
        if asked.request.method == Method::Prack {
            self.release_held(cx, dialog);
        }
        Some(())
    }

    fn refuse_reinvite(
        &mut self,
        cx: &mut Context<'_>,
        dialog: DialogId,
        status: u16,
        cause: HangupCause,
    ) -> Option<()> {
        if !(300..=699).contains(&status) {
            return None;
        }
        let usage = self.usages.get_mut(dialog.0)?;
        let asked = usage.asked.take()?;
        let of = (asked.request.as_ref(), usage.flow);
        self.answer(cx, (asked.transaction, dialog), (status, Extra::Cause(cause)), of);
        if asked.request.method == Method::Prack {
            self.release_held(cx, dialog);
        }
        Some(())
    }

    /// Puts a policy in force for a call of the peer's that is not answered yet.
    /// Who waited for its 100 gets it now.
    fn adopt(
        &mut self,
        cx: &mut Context<'_>,
        dialog: DialogId,
        policy: DialogPolicy,
    ) -> Option<()> {
        let usage = self.usages.get_mut(dialog.0)?;
        let State::Incoming(incoming) = &usage.state else { return None };
        usage.policy = policy;
        if self.transactions.get(incoming.transaction)?.last.is_empty() {
            self.say_trying(cx, dialog);
        }
        Some(())
    }

    /// Keeps the accounts for when the peer has acknowledged our answer.
    fn trust(&mut self, dialog: DialogId, accounts: Arc<[Account]>) -> Option<()> {
        let usage = self.usages.get_mut(dialog.0)?;
        let State::Incoming(incoming) = &mut usage.state else { return None };
        incoming.accounts = Some(accounts);
        Some(())
    }

    /// The peer has our answer: what it challenges from now on is answered.
    pub(super) fn open_accounts(&mut self, dialog: DialogId, accounts: Option<Arc<[Account]>>) {
        let Some(accounts) = accounts else { return };
        let seed = self.random.next_u64();
        if let Some(usage) = self.usages.get_mut(dialog.0) {
            usage.digest = Some(Box::new(DigestClient::new(accounts, seed)));
        }
    }

    fn reach_by(&mut self, dialog: DialogId, way: Flow) -> Option<()> {
        self.usages.get_mut(dialog.0)?.way_back = Some(Box::new(way));
        Some(())
    }

    fn advertise(&mut self, dialog: DialogId, advertised: Arc<Advertised>) -> Option<()> {
        let usage = self.usages.get_mut(dialog.0)?;
        let State::Incoming(incoming) = &mut usage.state else { return None };
        let sender = self.config.sender(usage.flow).at(Some(&advertised));
        usage.contact = sender.contact(contact_user(&incoming.request));
        incoming.dialog.advertise(advertised);
        Some(())
    }

    fn begin_asking(
        &mut self,
        cx: &mut Context<'_>,
        dialog: DialogId,
        (why, body): (Why, Bytes),
    ) -> Option<()> {
        let usage = self.usages.get_mut(dialog.0)?;
        let State::Confirmed(_) = &usage.state else { return None };
        let is_busy = usage.asking.is_some()
            || usage.asked.is_some()
            || usage.ack_wait.is_some()
            || usage.unacknowledged.is_some();
        if is_busy || body.is_empty() {
            cx.event(Event::ReinviteRefused { dialog, status: 491, has_waited: false });
            return Some(());
        }
        let why = if usage.peer_allows_update { why } else { Why::Call };
        usage.asking = Some(Box::new(Asking::new(why, body)));
        self.ask(cx, dialog);
        Some(())
    }

    pub(super) fn acknowledge(
        &mut self,
        cx: &mut Context<'_>,
        dialog: DialogId,
        body: Option<&Bytes>,
    ) -> Option<()> {
        let branch = Branch::new(&mut self.random);
        let usage = self.usages.get_mut(dialog.0)?;
        let unacknowledged = usage.unacknowledged.take()?;
        let flow = usage.flow;
        if let Some(body) = body {
            usage.description = body.clone();
        }
        let held = usage.dialog()?;
        let way = request::toward(flow, held.addressed().next_hop).known_to(Some(&*usage));
        let sender = self.config.sender(way.flow);
        let mut writer = sender.within(held, &Method::Ack, unacknowledged.cseq, branch);
        request::credentials(&mut writer, &unacknowledged.credentials);
        let bytes = request::finish(writer, body);
        let tag = held.remote_tag().clone();
        let acked = Acked { tag, flow: way.flow, bytes, instead: None, is_sent: true };
        self.send_ack(cx, (Some(dialog), unacknowledged.transaction), (way, acked));
        Some(())
    }

    fn hangup(&mut self, cx: &mut Context<'_>, dialog: DialogId, cause: HangupCause) -> Option<()> {
        let usage = self.usages.get_mut(dialog.0)?;
        match &mut usage.state {
            State::Incoming(_) => {
                let status = Some(cause.sip_status()).filter(|status| *status >= 300);
                self.refuse_incoming(cx, dialog, status.unwrap_or(480), cause);
                cx.event(Event::Ended { dialog, how: DialogEnd::ByeAnswered });
                self.forget(cx, dialog);
            }
            State::Calling(_) => {
                usage.ending = Some(cause);
                self.drop_asked(cx, dialog);
                self.cancel_calling(cx, dialog);
            }
            State::Confirmed(_) => {
                // RFC 3261 §15: the called party waits for the ACK, or for its time-out.
                if usage.ack_wait.as_ref().is_some_and(|wait| wait.is_first) {
                    usage.ending.get_or_insert(cause);
                    return Some(());
                }
                self.acknowledge(cx, dialog, None);
                self.leave(cx, dialog, cause);
            }
            State::Leaving(_) => return None,
        }
        Some(())
    }

    /// Sends CANCEL once, and only when something was heard (RFC 3261 §9.1); else the first
    /// provisional response lets it go.
    pub(super) fn cancel_calling(&mut self, cx: &mut Context<'_>, dialog: DialogId) {
        let Some(usage) = self.usages.get_mut(dialog.0) else { return };
        let Some(cause) = usage.ending else { return };
        let State::Calling(calling) = &mut usage.state else { return };
        if !calling.is_proceeding || calling.is_cancelled {
            return;
        }
        calling.is_cancelled = true;
        let id = calling.transaction;
        self.send_cancel(cx, id, cause);
        // RFC 3261 §9.1: without a final response in 64·T1 the INVITE counts as cancelled.
        self.arm(cx, dialog, UsageTimer::Patience, self.config.timers.give_up());
    }

    /// Sends the CANCEL of an INVITE of ours; its answer changes nothing.
    pub(super) fn send_cancel(&mut self, cx: &mut Context<'_>, id: u64, cause: HangupCause) {
        let Some(transaction) = self.transactions.get_mut(id) else { return };
        transaction.is_cancelled = true;
        let flow = transaction.flow;
        let key = transaction.machine.client_key();
        let cancel = self.config.sender(flow).cancel(&transaction.last, cause);
        if let (Some(key), Some(bytes)) = (key, cancel) {
            let key = ClientKey { kind: Kind::Cancel, ..key };
            // Where its INVITE went (RFC 3261 §9.1).
            let id = self.keep_client(key, (None, Purpose::Nothing), (flow, bytes));
            self.start_client(cx, id);
        }
    }
}
