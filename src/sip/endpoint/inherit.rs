//! What an endpoint takes over from one that a fault of ours ended: what peers must still be told of calls that are over.

use super::Due;
use super::Endpoint;
use super::event::DialogId;
use super::timers::Armed;
use super::transact::Dependent;
use super::transact::Kept;
use super::transact::Machine;
use super::transact::Purpose;
use super::transact::Transaction;
use crate::sip::dialog::Dialog;
use crate::sip::invite::State;
use crate::sip::invite::Usage;
use crate::sip::invite::UsageTimer;
use crate::sip::transaction::client;
use crate::sip::transaction::invite_client;
use crate::sip::transaction::invite_server;
use crate::sip::transaction::timer::Slot;
use crate::sip::transaction::timer::Timer;
use crate::types::cause::HangupCause;
use crate::types::moment::Moment;

impl Endpoint {
    /// Takes over what `before`, whose calls were all hung up, has still to say to their peers, at the times it would have:
    ///
    /// - A 2xx without its ACK is repeated, and BYE follows the ACK, or 64·T1 (RFC 3261 §13.3.1.4, §15).
    /// - An INVITE of ours without a final response is cancelled once a provisional one comes, and a 2xx to it acknowledged
    ///   and ended (§9.1, §13.2.2.4). It is not sent again: nobody shall begin to ring by it.
    /// - BYE, CANCEL and refusals are repeated until they are answered, and BYE is sent with credentials where the answer
    ///   asks for some (§22).
    ///
    /// Gives the dialogs that go on for that, with their names before and from now on. Nothing else of `before` goes on.
    pub fn inherit(&mut self, before: &mut Self, now: Moment) -> Vec<(DialogId, DialogId)> {
        before.prepare_invites();
        before.prepare_byes();
        let names: Vec<u64> = before.transactions.all().map(|(name, _)| name).collect();
        for name in names {
            if let Some(transaction) = before.transactions.remove(name) {
                self.take_transaction(transaction, now);
            }
        }
        let waiting = before.usages.all().filter(|(_, usage)| waits_for_first_ack(usage));
        let names: Vec<u64> = waiting.map(|(name, _)| name).collect();
        let taken = names.into_iter().filter_map(|name| {
            let usage = before.usages.remove(name)?;
            Some((DialogId(name), self.take_unacknowledged(usage, now)?))
        });
        taken.collect()
    }

    /// Leaves with INVITEs of ours what is to be said of them: the accounts of their calls, for the BYE after a late 2xx,
    /// and why they are given up.
    fn prepare_invites(&mut self) {
        let names: Vec<u64> = self.usages.all().map(|(name, _)| name).collect();
        for name in names {
            let Some(usage) = self.usages.get_mut(name) else { continue };
            let State::Calling(calling) = &usage.state else { continue };
            let account = usage.digest.take();
            if let Some(transaction) = self.transactions.get_mut(calling.transaction) {
                transaction.given_up_for = usage.ending.or(Some(HangupCause::SwitchFault));
                transaction.account =
                    account.map(|digest| Box::new(Kept { digest: *digest, fork: None }));
            }
        }
    }

    /// Leaves with each BYE that nobody has answered the account of its call, in case it is challenged: the usage that would
    /// see to that ends.
    fn prepare_byes(&mut self) {
        let names: Vec<u64> = self.transactions.all().map(|(name, _)| name).collect();
        for name in names {
            let Some(transaction) = self.transactions.get_mut(name) else { continue };
            let Machine::Client { purpose, .. } = &mut transaction.machine else { continue };
            let (Purpose::Bye, Some(dialog)) = (*purpose, transaction.owner) else { continue };
            let Some(usage) = self.usages.get_mut(dialog.0) else { continue };
            let State::Leaving(held) = &usage.state else { continue };
            let Some(digest) = usage.digest.take() else { continue };
            *purpose = Purpose::Parting;
            transaction.given_up_for = usage.ending;
            let fork = Some(Dialog::clone(held));
            transaction.account = Some(Box::new(Kept { digest: *digest, fork }));
        }
    }

    fn take_transaction(&mut self, mut transaction: Transaction, now: Moment) {
        let Some(over) = end_of(&transaction.machine) else { return };
        let timers = self.config.timers;
        let again = repetition_of(&transaction.machine);
        let again = again.filter(|_| !transaction.flow.transport.is_reliable());
        let again_at = transaction.retransmission.take().map_or(now + timers.t1, Armed::at);
        let over_at = transaction.wait.take().map_or(now + timers.give_up(), Armed::at);
        if matches!(transaction.machine, Machine::InviteClient { .. }) {
            transaction.instead = None;
        }
        let flow = transaction.flow;
        let id = self.transactions.insert(transaction);
        self.depend(flow, Dependent::Transaction(id));
        let Some(transaction) = self.transactions.get_mut(id) else { return };
        for (timer, at) in again.map(|timer| (timer, again_at)).into_iter().chain([(over, over_at)])
        {
            let place = match timer.slot() {
                Slot::Retransmission => &mut transaction.retransmission,
                Slot::Wait => &mut transaction.wait,
            };
            self.timers.arm(place, at, Due::Transaction(id, timer));
        }
        match &transaction.machine {
            Machine::InviteServer { key, merge, .. } => {
                self.servers.insert(key.clone(), id);
                if let Some(merge) = merge {
                    self.merges.insert(merge.clone(), id);
                }
            }
            Machine::Server { key, .. } => {
                self.servers.insert(key.clone(), id);
            }
            Machine::InviteClient { key, .. } | Machine::Client { key, .. } => {
                self.clients.insert(*key, id);
            }
        }
    }

    /// Takes a dialog over whose hang-up waits for an ACK.
    fn take_unacknowledged(&mut self, mut usage: Usage, now: Moment) -> Option<DialogId> {
        let mut at = |timer| usage.timers.place(timer).map(Armed::at);
        let (again_at, over_at) = (at(UsageTimer::Answer), at(UsageTimer::Ack));
        let wait = usage.ack_wait.take()?;
        let timers = self.config.timers;
        let again_at = again_at.unwrap_or(now + wait.interval(timers));
        let over_at = over_at.unwrap_or(now + timers.give_up());
        let (tag, flow) = (usage.tag, usage.flow);
        let heir = Usage {
            way_back: usage.way_back,
            located: usage.located,
            overtaken: usage.overtaken,
            ack_wait: Some(wait),
            ending: usage.ending.or(Some(HangupCause::SwitchFault)),
            reason: usage.reason,
            digest: usage.digest,
            ..Usage::new(usage.state, (tag, flow), usage.contact, usage.policy)
        };
        let dialog = DialogId(self.usages.insert(heir));
        self.tags.insert(tag, dialog);
        self.depend(flow, Dependent::Usage(dialog));
        let heir = self.usages.get_mut(dialog.0)?;
        for (timer, at) in [(UsageTimer::Answer, again_at), (UsageTimer::Ack, over_at)] {
            self.timers.arm(heir.timers.place(timer), at, Due::Usage(dialog, timer));
        }
        Some(dialog)
    }
}

/// Whether no BYE may be sent before the ACK of our 2xx (RFC 3261 §15).
fn waits_for_first_ack(usage: &Usage) -> bool {
    let waits = usage.ack_wait.as_ref().is_some_and(|wait| wait.is_first);
    matches!(usage.state, State::Confirmed(_)) && waits
}

/// By which timer a transaction ends that goes on; `None`: nobody has to hear anything more by it.
const fn end_of(machine: &Machine) -> Option<Timer> {
    match machine {
        Machine::InviteClient { machine, purpose: Purpose::Invite, .. } => {
            Some(match machine.state() {
                invite_client::State::Calling | invite_client::State::Proceeding => Timer::B,
                invite_client::State::Completed => Timer::D,
                invite_client::State::Accepted => Timer::M,
            })
        }
        // Within a dialog, which is over.
        Machine::InviteClient { .. } => None,
        Machine::Client { machine, purpose, .. } => match machine.state() {
            client::State::Trying | client::State::Proceeding if ends_something(*purpose) => {
                Some(Timer::F)
            }
            client::State::Trying | client::State::Proceeding | client::State::Completed => None,
        },
        Machine::InviteServer { machine, .. } => match machine.state() {
            invite_server::State::Proceeding => None,
            invite_server::State::Completed => Some(Timer::H),
            invite_server::State::Confirmed => Some(Timer::I),
            invite_server::State::Accepted => Some(Timer::L),
        },
        Machine::Server { .. } => None,
    }
}

/// By which timer a transaction that goes on sends again, by datagram.
const fn repetition_of(machine: &Machine) -> Option<Timer> {
    match machine {
        Machine::InviteClient { .. } | Machine::Server { .. } => None,
        Machine::Client { .. } => Some(Timer::E),
        Machine::InviteServer { machine, .. } => match machine.state() {
            invite_server::State::Completed => Some(Timer::G),
            invite_server::State::Proceeding
            | invite_server::State::Confirmed
            | invite_server::State::Accepted => None,
        },
    }
}

/// True of what ends a call: BYE and CANCEL.
const fn ends_something(purpose: Purpose) -> bool {
    match purpose {
        Purpose::Bye | Purpose::Parting | Purpose::Nothing => true,
        Purpose::Invite
        | Purpose::Asking
        | Purpose::Prack(..)
        | Purpose::Info
        | Purpose::Refer
        | Purpose::Notify
        | Purpose::Outside(_) => false,
    }
}
