//! Transactions of the shard: finding them, turning their machines, doing what they say.

use super::Context;
use super::Due;
use super::Endpoint;
use super::event::Counter;
use super::event::DialogId;
use super::flow::Flow;
use super::request;
use super::timers::Armed;
use super::told::Fork;
use crate::sip::dialog::Dialog;
use crate::sip::digest::client::Client as DigestClient;
use crate::sip::message::Request;
use crate::sip::message::Response;
use crate::sip::message::method::Method;
use crate::sip::message::write;
use crate::sip::transaction::Action;
use crate::sip::transaction::Actions;
use crate::sip::transaction::Class;
use crate::sip::transaction::client;
use crate::sip::transaction::client::Client;
use crate::sip::transaction::invite_client;
use crate::sip::transaction::invite_client::InviteClient;
use crate::sip::transaction::invite_server;
use crate::sip::transaction::invite_server::InviteServer;
use crate::sip::transaction::key::ClientKey;
use crate::sip::transaction::key::Kind;
use crate::sip::transaction::key::ServerKey;
use crate::sip::transaction::key::Tag;
use crate::sip::transaction::server;
use crate::sip::transaction::server::Server;
use crate::sip::transaction::timer::Length;
use crate::sip::transaction::timer::Slot;
use crate::sip::transaction::timer::Timer;
use crate::types::cause::HangupCause;
use crate::types::id_map::give_back;
use bytes::Bytes;
use std::sync::Arc;

/// A transaction: its machine, and the bytes it may have to send again.
#[derive(Debug)]
pub(super) struct Transaction {
    pub(super) machine: Machine,
    pub(super) flow: Flow,
    /// The stream it came by or goes by is gone.
    pub(super) is_cut: bool,
    /// The stream its request came by is gone, and its answers go by connections of ours.
    pub(super) is_led: bool,
    /// An INVITE of ours for which a CANCEL was sent though its usage was gone.
    pub(super) is_cancelled: bool,
    /// Why an INVITE of ours was given up before its answer: for its CANCEL, and the BYE to a 2xx that comes all the same. That
    /// BYE has it, too, to be sent again with credentials.
    pub(super) given_up_for: Option<HangupCause>,
    /// The request of a client, the last response of a server.
    pub(super) last: Bytes,
    /// The same request by the way of its dialog, should the connection it goes by instead not open.
    pub(super) instead: Option<Box<(Flow, Bytes)>>,
    /// The ACK to a refusal of our INVITE.
    ack: Bytes,
    /// The ACKs to the 2xx of our INVITE, one for each fork.
    pub(super) acks: Vec<Acked>,
    pub(super) owner: Option<DialogId>,
    pub(super) account: Option<Box<Kept>>,
    pub(super) retransmission: Option<Armed>,
    pub(super) wait: Option<Armed>,
}

/// The machine of a transaction and what it is found by.
#[derive(Debug)]
pub(super) enum Machine {
    InviteServer { machine: InviteServer, key: Arc<ServerKey>, merge: Option<MergeKey>, tag: Tag },
    Server { machine: Server, key: Arc<ServerKey> },
    InviteClient { machine: InviteClient, key: ClientKey, purpose: Purpose },
    Client { machine: Client, key: ClientKey, purpose: Purpose },
}

/// What a request of ours is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// The first INVITE.
    Invite,
    /// A re-INVITE, or an UPDATE that refreshes.
    Asking,
    /// The BYE of a usage that waits for its answer.
    Bye,
    /// The PRACK of a reliable provisional response, with its fork and RSeq.
    Prack(Fork, u32),
    /// An INFO.
    Info,
    /// A REFER.
    Refer,
    /// A NOTIFY about a REFER of the peer's.
    Notify,
    /// A request outside dialogs, by its place.
    Outside(u64),
    /// The BYE of a fork that nobody waits for, or of a call that was given up.
    Parting,
    /// A request whose answer changes nothing: CANCEL.
    Nothing,
}

/// What an INVITE keeps for the BYE to a further fork (RFC 3261 §13.2.2.4), and that BYE, to answer
/// challenges beside the usage or after it.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) digest: DigestClient,
    /// The dialog of that fork.
    pub(super) fork: Option<Dialog>,
}

/// The ACK to a 2xx, by the To-tag of that 2xx (RFC 3261 §13.2.2.4).
#[derive(Clone, Debug)]
pub(super) struct Acked {
    pub(super) tag: Bytes,
    pub(super) flow: Flow,
    pub(super) bytes: Bytes,
    /// The same by the way of its dialog, where it goes by a connection instead, which may not open.
    pub(super) instead: Option<Box<(Flow, Bytes)>>,
    /// False while it waits for where it shall go.
    pub(super) is_sent: bool,
}

/// Call-ID, From-tag and CSeq number: two INVITEs that share them came on two ways (RFC 3261
/// §8.2.2.2).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct MergeKey(Arc<[u8]>);

impl MergeKey {
    pub(super) fn of(request: &Request) -> Self {
        let headers = &request.headers;
        let tag = headers.from().tag().unwrap_or(&[]);
        let number = headers.cseq().number.to_be_bytes();
        Self([headers.call_id(), b"\n", tag, b"\n", &number].concat().into())
    }
}

impl Acked {
    /// The same, sent by another flow.
    pub(super) fn led(self, flow: Flow) -> Self {
        let bytes = write::rewritten(&self.bytes, flow.transport, false);
        let is_other = flow.transport.is_reliable() && flow != self.flow;
        let instead = is_other.then(|| Box::new((self.flow, self.bytes)));
        Self { tag: self.tag, flow, bytes, instead, is_sent: true }
    }
}

/// What a step means for the user of the transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Upward {
    /// The message at hand is for the user.
    Deliver,
    /// No answer came in time.
    TimedOut,
    /// The way to the peer is gone.
    Unreachable,
}

/// What a machine is told.
#[derive(Clone, Copy)]
pub(super) enum Told<'a> {
    Repeated,
    Ack,
    Respond(Class),
    Response(&'a Response),
    Fired(Timer),
    FlowLost,
}

impl Machine {
    /// Turns the machine; what makes no sense for its kind changes nothing.
    fn turn(&mut self, told: Told<'_>, out: &mut Actions) {
        match self {
            Self::InviteServer { machine, .. } => {
                if let Some(input) = invite_server_input(told) {
                    machine.handle(input, out);
                }
            }
            Self::Server { machine, .. } => {
                if let Some(input) = server_input(told) {
                    machine.handle(input, out);
                }
            }
            Self::InviteClient { machine, .. } => {
                if let Some(input) = invite_client_input(told) {
                    machine.handle(input, out);
                }
            }
            Self::Client { machine, .. } => {
                if let Some(input) = client_input(told) {
                    machine.handle(input, out);
                }
            }
        }
    }

    pub(super) const fn is_server(&self) -> bool {
        match self {
            Self::InviteServer { .. } | Self::Server { .. } => true,
            Self::InviteClient { .. } | Self::Client { .. } => false,
        }
    }
}

const fn invite_server_input(told: Told<'_>) -> Option<invite_server::Input> {
    match told {
        Told::Repeated => Some(invite_server::Input::Repeated),
        Told::Ack => Some(invite_server::Input::Ack),
        Told::Respond(class) => Some(invite_server::Input::Respond(class)),
        Told::Fired(timer) => Some(invite_server::Input::Fired(timer)),
        Told::Response(_) | Told::FlowLost => None,
    }
}

const fn server_input(told: Told<'_>) -> Option<server::Input> {
    match told {
        Told::Repeated => Some(server::Input::Repeated),
        Told::Respond(class) => Some(server::Input::Respond(class)),
        Told::Fired(timer) => Some(server::Input::Fired(timer)),
        Told::Ack | Told::Response(_) | Told::FlowLost => None,
    }
}

const fn invite_client_input(told: Told<'_>) -> Option<invite_client::Input> {
    match told {
        Told::Response(response) => {
            Some(invite_client::Input::Response(Class::of(response.status)))
        }
        Told::Fired(timer) => Some(invite_client::Input::Fired(timer)),
        Told::FlowLost => Some(invite_client::Input::FlowLost),
        Told::Repeated | Told::Ack | Told::Respond(_) => None,
    }
}

const fn client_input(told: Told<'_>) -> Option<client::Input> {
    match told {
        Told::Response(response) => Some(client::Input::Response(Class::of(response.status))),
        Told::Fired(timer) => Some(client::Input::Fired(timer)),
        Told::FlowLost => Some(client::Input::FlowLost),
        Told::Repeated | Told::Ack | Told::Respond(_) => None,
    }
}

/// Something that uses a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Dependent {
    Transaction(u64),
    Usage(DialogId),
}

impl Endpoint {
    /// Begins the server transaction of a request that was not seen before.
    pub(super) fn begin_server(
        &mut self,
        flow: Flow,
        request: &Request,
        owner: Option<DialogId>,
        tag: Tag,
    ) -> u64 {
        let key = Arc::new(ServerKey::of(request));
        let reliable = flow.transport.is_reliable();
        let machine = if request.method == Method::Invite {
            let merge = request.headers.to().tag().is_none().then(|| MergeKey::of(request));
            let machine = InviteServer::new(reliable);
            Machine::InviteServer { machine, key: Arc::clone(&key), merge, tag }
        } else {
            Machine::Server { machine: Server::new(reliable), key: Arc::clone(&key) }
        };
        let merge = match &machine {
            Machine::InviteServer { merge, .. } => merge.clone(),
            Machine::Server { .. } | Machine::InviteClient { .. } | Machine::Client { .. } => None,
        };
        let id = self.keep(machine, flow, owner, Bytes::new());
        self.servers.insert(key, id);
        if let Some(merge) = merge {
            self.merges.insert(merge, id);
        }
        id
    }

    /// Makes the client transaction of a request that is not sent yet.
    pub(super) fn keep_client(
        &mut self,
        key: ClientKey,
        (owner, purpose): (Option<DialogId>, Purpose),
        (flow, bytes): (Flow, Bytes),
    ) -> u64 {
        let reliable = flow.transport.is_reliable();
        let mut later = Actions::new();
        let machine = if key.kind == Kind::Invite {
            let machine = InviteClient::start(reliable, &mut later);
            Machine::InviteClient { machine, key, purpose }
        } else {
            Machine::Client { machine: Client::start(reliable, &mut later), key, purpose }
        };
        let id = self.keep(machine, flow, owner, bytes);
        self.clients.insert(key, id);
        id
    }

    /// Sends the request of a client transaction, by the flow it has.
    pub(super) fn start_client(&mut self, cx: &mut Context<'_>, id: u64) {
        let Some(transaction) = self.transactions.get_mut(id) else { return };
        self.timers.disarm(&mut transaction.retransmission);
        self.timers.disarm(&mut transaction.wait);
        let reliable = transaction.flow.transport.is_reliable();
        let mut actions = Actions::new();
        match &mut transaction.machine {
            Machine::InviteClient { machine, .. } => {
                *machine = InviteClient::start(reliable, &mut actions);
            }
            Machine::Client { machine, .. } => *machine = Client::start(reliable, &mut actions),
            Machine::InviteServer { .. } | Machine::Server { .. } => return,
        }
        self.perform(cx, id, &actions, None);
    }

    /// Has a client transaction whose request is not sent yet go by another flow.
    pub(super) fn lead_client(&mut self, id: u64, flow: Flow) {
        let Some(transaction) = self.transactions.get_mut(id) else { return };
        let old = std::mem::replace(&mut transaction.flow, flow);
        let bytes = write::rewritten(&transaction.last, flow.transport, false);
        let before = std::mem::replace(&mut transaction.last, bytes);
        let is_other = flow.transport.is_reliable() && flow != old;
        transaction.instead = is_other.then(|| Box::new((old, before)));
        self.release(old, Dependent::Transaction(id));
        self.depend(flow, Dependent::Transaction(id));
    }

    /// Notes by which connection the messages of a transaction go.
    pub(super) fn bind(&mut self, id: u64, flow: Flow) {
        let Some(transaction) = self.transactions.get_mut(id) else { return };
        let old = std::mem::replace(&mut transaction.flow, flow);
        self.release(old, Dependent::Transaction(id));
        self.depend(flow, Dependent::Transaction(id));
    }

    /// Sends a request by the way of its dialog whose connection could not be opened (RFC 3261 §18.1.1); false where it
    /// has no other way.
    fn start_instead(&mut self, cx: &mut Context<'_>, id: u64) -> bool {
        let Some(transaction) = self.transactions.get_mut(id) else { return false };
        let is_unheard = match &transaction.machine {
            Machine::InviteClient { machine, .. } => {
                machine.state() == invite_client::State::Calling
            }
            Machine::Client { machine, .. } => machine.state() == client::State::Trying,
            Machine::InviteServer { .. } | Machine::Server { .. } => false,
        };
        let Some(instead) = transaction.instead.take().filter(|_| is_unheard) else { return false };
        let (flow, bytes) = *instead;
        transaction.last = bytes;
        self.bind(id, flow);
        self.start_client(cx, id);
        true
    }

    fn keep(&mut self, machine: Machine, flow: Flow, owner: Option<DialogId>, last: Bytes) -> u64 {
        let id = self.transactions.insert(Transaction {
            machine,
            flow,
            is_cut: false,
            is_led: false,
            is_cancelled: false,
            given_up_for: None,
            last,
            instead: None,
            ack: Bytes::new(),
            acks: Vec::new(),
            owner,
            account: None,
            retransmission: None,
            wait: None,
        });
        self.depend(flow, Dependent::Transaction(id));
        id
    }

    /// Sends a response in its server transaction.
    pub(super) fn respond(&mut self, cx: &mut Context<'_>, id: u64, status: u16, bytes: Bytes) {
        let Some(transaction) = self.transactions.get_mut(id) else { return };
        let mut actions = Actions::new();
        transaction.machine.turn(Told::Respond(Class::of(status)), &mut actions);
        if actions.contains(&Action::Send) {
            transaction.last = bytes;
        }
        self.perform(cx, id, &actions, None);
    }

    /// Turns a transaction and does what it says.
    pub(super) fn turn(&mut self, cx: &mut Context<'_>, id: u64, told: Told<'_>) -> Option<Upward> {
        let transaction = self.transactions.get_mut(id)?;
        let mut actions = Actions::new();
        transaction.machine.turn(told, &mut actions);
        let response = match told {
            Told::Response(response) => Some(response),
            Told::Repeated | Told::Ack | Told::Respond(_) | Told::Fired(_) | Told::FlowLost => None,
        };
        self.perform(cx, id, &actions, response)
    }

    fn perform(
        &mut self,
        cx: &mut Context<'_>,
        id: u64,
        actions: &Actions,
        response: Option<&Response>,
    ) -> Option<Upward> {
        let timers = self.config.timers;
        let mut upward = None;
        let mut is_over = false;
        for &action in actions {
            let Some(transaction) = self.transactions.get_mut(id) else { return upward };
            match action {
                Action::Send => transaction.send(cx),
                Action::Resend => {
                    cx.count(Counter::RetransmissionSent);
                    transaction.send(cx);
                }
                Action::SendAck => {
                    if let Some(response) = response {
                        let listener = self.config.sender(transaction.flow);
                        transaction.ack =
                            request::ack_of_refusal(&transaction.last, response, listener);
                        // Nothing but the ACK may have to be sent again.
                        transaction.last = Bytes::new();
                    }
                    cx.transmit(transaction.flow, transaction.ack.clone());
                }
                Action::ResendAck => {
                    cx.count(Counter::RetransmissionSent);
                    cx.transmit(transaction.flow, transaction.ack.clone());
                }
                Action::Deliver => upward = Some(Upward::Deliver),
                Action::Absorb => cx.count(Counter::RetransmissionAbsorbed),
                Action::Stray => cx.count(match response {
                    Some(_) => Counter::StrayResponse,
                    None => Counter::StrayAck,
                }),
                Action::TimedOut => {
                    cx.count(Counter::RequestTimeout);
                    upward = Some(Upward::TimedOut);
                }
                Action::AckTimedOut => cx.count(Counter::AckTimeout),
                Action::Unreachable => upward = Some(Upward::Unreachable),
                Action::Arm(timer, length) => {
                    let at = cx.now + length.of(timers);
                    self.timers.arm(transaction.place(timer), at, Due::Transaction(id, timer));
                }
                Action::Disarm(timer) => self.timers.disarm(transaction.place(timer)),
                Action::Forget => transaction.last = Bytes::new(),
                Action::Terminate => is_over = true,
            }
        }
        if is_over {
            self.drop_transaction(id);
        }
        upward
    }

    /// Forgets a transaction and everything that leads to it.
    pub(super) fn drop_transaction(&mut self, id: u64) {
        let Some(mut transaction) = self.transactions.remove(id) else { return };
        self.timers.disarm(&mut transaction.retransmission);
        self.timers.disarm(&mut transaction.wait);
        self.release(transaction.flow, Dependent::Transaction(id));
        match transaction.machine {
            Machine::InviteServer { key, merge, .. } => {
                self.servers.remove(&key);
                give_back(&mut self.servers);
                if let Some(merge) = merge {
                    self.merges.remove(&merge);
                    give_back(&mut self.merges);
                }
            }
            Machine::Server { key, .. } => {
                self.servers.remove(&key);
                give_back(&mut self.servers);
            }
            Machine::InviteClient { key, .. } | Machine::Client { key, .. } => {
                self.clients.remove(&key);
                give_back(&mut self.clients);
            }
        }
    }

    /// Lets an INVITE of ours whose user is gone wait no longer than 64·T1 for its final response.
    pub(super) fn abandon(&mut self, cx: &Context<'_>, id: u64) {
        let timers = self.config.timers;
        let Some(transaction) = self.transactions.get_mut(id) else { return };
        match &transaction.machine {
            Machine::InviteClient { machine, .. } => match machine.state() {
                invite_client::State::Calling | invite_client::State::Proceeding => {
                    let at = cx.now + Length::GiveUp.of(timers);
                    let due = Due::Transaction(id, Timer::B);
                    self.timers.arm(&mut transaction.wait, at, due);
                }
                invite_client::State::Completed | invite_client::State::Accepted => {}
            },
            Machine::InviteServer { .. } | Machine::Server { .. } | Machine::Client { .. } => {}
        }
    }

    /// Notes that `dependent` uses `flow`, where that can be closed or is still to be opened.
    pub(super) fn depend(&mut self, flow: Flow, dependent: Dependent) {
        if flow.transport.is_reliable() {
            self.streams.entry(flow.id).or_default().insert(dependent);
        }
    }

    pub(super) fn release(&mut self, flow: Flow, dependent: Dependent) {
        if let Some(dependents) = self.streams.get_mut(&flow.id) {
            dependents.remove(&dependent);
            if dependents.is_empty() {
                self.streams.remove(&flow.id);
            }
        }
    }

    /// Tells a transaction that its stream is gone.
    pub(super) fn cut(&mut self, cx: &mut Context<'_>, id: u64) -> Option<Upward> {
        if self.start_instead(cx, id) {
            return None;
        }
        self.transactions.get_mut(id)?.is_cut = true;
        self.turn(cx, id, Told::FlowLost)
    }
}

impl Transaction {
    const fn place(&mut self, timer: Timer) -> &mut Option<Armed> {
        match timer.slot() {
            Slot::Retransmission => &mut self.retransmission,
            Slot::Wait => &mut self.wait,
        }
    }

    /// Sends the message at hand, but never a response by a stream that is gone.
    pub(super) fn send(&self, cx: &mut Context<'_>) {
        if self.is_cut && self.machine.is_server() {
            cx.count(Counter::ResponseOnClosedFlow);
        } else if !self.last.is_empty() {
            cx.transmit(self.flow, self.last.clone());
        }
    }
}
