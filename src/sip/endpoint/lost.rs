//! What a connection that is gone means: which requests fail, and by what other way dialogs and answers go on.

use super::Context;
use super::Endpoint;
use super::event::Counter;
use super::event::DialogEnd;
use super::event::DialogId;
use super::event::Event;
use super::flow::Flow;
use super::flow::FlowId;
use super::transact::Dependent;
use crate::sip::invite::State;
use crate::sip::invite::Usage;
use crate::sip::message::Message;
use crate::sip::message::header::via::Via;
use crate::sip::message::parse;
use crate::types::cause::HangupCause;
use crate::types::transport::Transport;
use std::net::SocketAddr;

impl Endpoint {
    /// A stream is gone, or, where it never `was_open`, could not be had: requests that wait for an answer by it fail at once,
    /// and dialogs go on by a new connection. So do answers to the peer, unless that was the connection.
    pub(super) fn flow_closed(&mut self, cx: &mut Context<'_>, gone: FlowId, was_open: bool) {
        let dependents = self.streams.remove(&gone).unwrap_or_default();
        for &dependent in &dependents {
            let dialog = self.dialog_behind(dependent);
            if let Some(usage) = dialog.and_then(|dialog| self.usages.get_mut(dialog.0)) {
                usage.lose(gone);
            }
        }
        for &dependent in &dependents {
            let Dependent::Transaction(id) = dependent else { continue };
            if !(was_open && self.lead_answers(cx, id)) {
                self.transaction_cut(cx, id);
            }
        }
        for dependent in dependents {
            if let Some(dialog) = self.dialog_behind(dependent) {
                self.usage_cut(cx, dialog);
            }
        }
    }

    /// What was sent by a flow without a connection went by `to`, and requests fail with that; at once where
    /// there is none (RFC 3261 §8.1.3.1, §18.4).
    pub(super) fn led(&mut self, cx: &mut Context<'_>, by: Flow, to: Option<FlowId>) {
        let dependents = self.streams.get(&by.id).cloned().unwrap_or_default();
        for dependent in dependents {
            let Dependent::Transaction(id) = dependent else { continue };
            // One id may stand for ways to several peers.
            if self.transactions.get(id).is_none_or(|transaction| transaction.flow != by) {
                continue;
            }
            match to {
                Some(to) => self.bind(id, Flow { id: to, ..by }),
                None => {
                    let dialog = self.dialog_behind(dependent);
                    self.transaction_cut(cx, id);
                    if let Some(dialog) = dialog {
                        self.usage_cut(cx, dialog);
                    }
                }
            }
        }
    }

    /// A request of the peer's that comes again by another connection is answered by that: the one before may be gone,
    /// whether we have heard of it or not.
    pub(super) fn came_again(&mut self, id: u64, flow: Flow) {
        let Some(transaction) = self.transactions.get_mut(id) else { return };
        let is_taken = flow.takes_answers_of(transaction.flow, false);
        if !is_taken || !transaction.machine.is_server() {
            return;
        }
        transaction.is_cut = false;
        let owner = transaction.owner;
        self.bind(id, flow);
        if let Some(dialog) = owner {
            self.follow(dialog, flow);
        }
    }

    /// Has the answers to a request of the peer's go by another connection that it came by with something else, where they may.
    pub(super) fn answer_by(&mut self, id: u64, flow: Flow) {
        let Some(transaction) = self.transactions.get_mut(id) else { return };
        let old = transaction.flow;
        let is_lost = transaction.is_cut || transaction.is_led || !old.id.is_socket();
        if flow.takes_answers_of(old, is_lost) {
            transaction.is_cut = false;
            self.bind(id, flow);
        }
    }

    fn dialog_behind(&self, dependent: Dependent) -> Option<DialogId> {
        match dependent {
            Dependent::Transaction(id) => self.transactions.get(id)?.owner,
            Dependent::Usage(dialog) => Some(dialog),
        }
    }

    fn transaction_cut(&mut self, cx: &mut Context<'_>, id: u64) {
        let client = self.client(id);
        let upward = self.cut(cx, id);
        self.failed(cx, client, (id, upward));
    }

    /// Has the answers to a request of the peer's go by a connection to it that is opened for them, where there is a way back
    /// (RFC 3261 §18.2.2). What was said last is said by it at once: so it shows before the answer whether the peer is there.
    /// Should that one close as well, the next is opened when there is something to say.
    fn lead_answers(&mut self, cx: &mut Context<'_>, id: u64) -> bool {
        let Some(transaction) = self.transactions.get_mut(id) else { return false };
        let usage = transaction.owner.and_then(|dialog| self.usages.get(dialog.0));
        let way = usage.and_then(|usage| usage.way_of_answers(id, transaction.flow));
        let Some(way) = way else { return false };
        transaction.flow = way;
        let is_first = !std::mem::replace(&mut transaction.is_led, true);
        self.depend(way, Dependent::Transaction(id));
        if let Some(transaction) = self.transactions.get(id).filter(|_| is_first) {
            cx.count(Counter::RetransmissionSent);
            transaction.send(cx);
        }
        true
    }

    /// A caller whose INVITE is unanswered, and whom no answer can reach any more.
    fn usage_cut(&mut self, cx: &mut Context<'_>, dialog: DialogId) {
        let Some(usage) = self.usages.get(dialog.0) else { return };
        match &usage.state {
            State::Incoming(incoming) => {
                let transaction = self.transactions.get(incoming.transaction);
                if transaction.is_some_and(|transaction| transaction.is_cut) {
                    self.refuse_incoming(cx, dialog, 503, HangupCause::PeerTimeout);
                    cx.event(Event::Ended { dialog, how: DialogEnd::FlowLost });
                    self.forget(cx, dialog);
                }
            }
            State::Calling(_) | State::Confirmed(_) | State::Leaving(_) => {}
        }
    }
}

impl Flow {
    /// Whether answers to what came by `old` may go by this one, by which the peer said something else. Another host of the peer's
    /// takes no answer whose Via names the first (RFC 3261 §18.1.2), unless that one's connection `is_lost`, so that there is
    /// nobody else; and what came by TLS is not told in the clear.
    pub(super) fn takes_answers_of(self, old: Self, is_lost: bool) -> bool {
        let is_new = self.id != old.id;
        let are_streams = self.transport.is_reliable() && old.transport.is_reliable();
        let is_as_secret = self.transport == Transport::Tls || old.transport != Transport::Tls;
        let is_same_host = self.remote.ip() == old.remote.ip();
        let is_alike = self.transport == old.transport && is_same_host;
        is_new && are_streams && is_as_secret && (is_alike || is_lost)
    }
}

impl Usage {
    /// The way as the peer's INVITE came, while that is unanswered: its answers say so, whatever they go by
    /// (RFC 3261 §18.2.1, RFC 3581 §4).
    pub(super) fn came_by(&self) -> Flow {
        match &self.state {
            State::Incoming(incoming) => Flow { remote: incoming.source, ..self.flow },
            State::Calling(_) | State::Confirmed(_) | State::Leaving(_) => self.flow,
        }
    }

    /// A connection is gone, which it may have used.
    fn lose(&mut self, gone: FlowId) {
        let way = self.way_back.as_deref().copied();
        if let Some(wait) = self.ack_wait.as_deref_mut().filter(|wait| wait.flow.id == gone)
            && let Ok(Message::Response(response)) = parse(wait.bytes.clone())
        {
            wait.flow = back_to(response.headers.top_via(), wait.flow, way);
        }
        if self.flow.id == gone {
            self.flow = way.unwrap_or(Flow { id: FlowId::ANY, ..self.flow });
        }
    }

    /// By what the answers of a server transaction go whose request came by `gone`; `None` where there is no way back, or
    /// there is nothing left to answer.
    fn way_of_answers(&self, transaction: u64, gone: Flow) -> Option<Flow> {
        let way = self.way_back.as_deref().copied()?;
        let invite = match &self.state {
            State::Incoming(incoming) if incoming.transaction == transaction => {
                Some(&incoming.request)
            }
            State::Incoming(_) | State::Calling(_) | State::Confirmed(_) | State::Leaving(_) => {
                None
            }
        };
        let asked = self.asked.as_ref().filter(|asked| asked.transaction == transaction);
        let request = invite.or_else(|| asked.map(|asked| &asked.request))?;
        Some(back_to(request.headers.top_via(), gone, Some(way)))
    }
}

/// Where answers to a request with this Via go, now that its connection is gone: to the address that it came from, and the port
/// where the peer says that it listens (RFC 3261 §18.2.2). A connection that we opened led to where the peer listens.
fn back_to(via: &Via, gone: Flow, way: Option<Flow>) -> Flow {
    let at = |address: SocketAddr| SocketAddr::new(address.ip(), via.port_or_default());
    match way {
        Some(way) if way.remote == gone.remote => way,
        Some(way) => Flow { remote: at(way.remote), ..way },
        None => Flow { id: FlowId::ANY, remote: at(gone.remote), ..gone },
    }
}
