//! One SIP shard: turns `sip::Endpoint` over its share of the Call-IDs. Owns the transactions and
//! dialogs of those calls; never awaits a socket or a call.

mod counted;
mod faults;
pub mod handle;
pub(super) mod lives;
pub(super) mod reason;
mod searches;
mod sending;

use crate::call::input::Input as CallInput;
use crate::call::input::LegInput;
use crate::call::side::LegSide;
use crate::clock;
use crate::engine::challenges::Challenges;
use crate::engine::dial;
use crate::engine::dialog_policy;
use crate::engine::invitation;
use crate::engine::invitation::Challenged;
use crate::engine::mailbox;
use crate::engine::registry::SourceGuard;
use crate::engine::sip_shard::faults::About;
use crate::engine::sip_shard::faults::dialog_of;
use crate::engine::sip_shard::handle::Arrival;
use crate::engine::sip_shard::handle::COMMANDS_MAX;
use crate::engine::sip_shard::handle::Order;
#[cfg(test)]
pub(super) use crate::engine::sip_shard::handle::Overheard;
pub(super) use crate::engine::sip_shard::handle::PlacedLeg;
pub use crate::engine::sip_shard::handle::ShardHandle;
use crate::engine::sip_shard::lives::Queues;
use crate::engine::sip_shard::reason::end;
use crate::engine::sip_shard::reason::explained;
use crate::engine::sip_shard::reason::reason_of;
use crate::engine::switch::Switch;
use crate::engine::trace::End;
use crate::engine::trace::ShardTrace;
use crate::engine::turned_away;
use crate::engine::turned_away::DeclinedSample;
use crate::engine::turned_away::ShedSample;
use crate::net::connect::Destination;
use crate::net::way_back::WayBack;
use crate::routing::identify;
use crate::routing::trunk::Trunk;
use crate::sip::digest;
use crate::sip::endpoint::Endpoint;
use crate::sip::endpoint::config::EndpointConfig;
use crate::sip::endpoint::config::Gauges;
use crate::sip::endpoint::event::Body;
use crate::sip::endpoint::event::Command;
use crate::sip::endpoint::event::DialogId;
use crate::sip::endpoint::event::Event;
use crate::sip::endpoint::event::Input;
use crate::sip::endpoint::event::Output;
use crate::sip::endpoint::event::Token;
use crate::sip::endpoint::flow::Flow;
use crate::sip::endpoint::told::Declined;
use crate::sip::endpoint::told::DialogName;
use crate::sip::endpoint::told::ReferProgress;
use crate::sip::endpoint::told::Referred;
use crate::sip::endpoint::told::RequestAnswer;
use crate::sip::message::peek::CallIdPlace;
use crate::sip::trace::Way;
use crate::telemetry::metric;
use crate::types::cause::HangupCause;
use crate::types::id_map::IdMap;
use crate::types::id_map::give_back;
use crate::types::limit::SIP_SHARD_QUEUE_MAX;
use crate::types::moment::Moment;
use bytes::Bytes;
use std::collections::VecDeque;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio::sync::oneshot;
use tokio::sync::watch;

/// Timers that come due within one beat are seen to together: each call leaves some that end long
/// after it, and a wake-up costs more than what they do. None of RFC 3261's is so exact.
const BEAT_NANOS: u64 = 10_000_000;
/// Messages taken in one turn before commands and timers get theirs.
const BATCH_MAX: usize = 32;

/// Starts a shard's task.
pub fn start(
    switch: Arc<Switch>,
    config: EndpointConfig,
    draining: watch::Receiver<bool>,
) -> ShardHandle {
    let (arrivals_in, arrivals) = mpsc::channel(SIP_SHARD_QUEUE_MAX);
    let (commands_in, commands) = mpsc::channel(COMMANDS_MAX);
    let shard = Shard::new(switch, config, (arrivals_in, commands_in));
    let handle = shard.handle.clone();
    tokio::spawn(lives::live(shard, Queues { arrivals, commands, draining }));
    handle
}

/// Whose INVITE is being placed: who carries it, and by which trunk it goes.
struct Placing {
    events: mailbox::Sender<Event>,
    trunk: Option<Arc<Trunk>>,
}

/// The leg of a call that a dialog is.
#[derive(Debug)]
pub(super) struct CallLeg {
    pub(super) call: mailbox::Sender<CallInput>,
    pub(super) side: LegSide,
    /// Which of the dialogs of that leg, where one took over from another.
    pub(super) turn: u8,
    /// By which it came.
    pub(super) trunk: Arc<Trunk>,
}

/// The task's state.
pub(super) struct Shard {
    endpoint: Endpoint,
    pub(super) switch: Arc<Switch>,
    pub(super) handle: ShardHandle,
    pub(super) digest: digest::server::Server,
    /// The calls of confirmed and early dialogs.
    pub(super) calls: IdMap<DialogId, CallLeg>,
    /// Who carries the dialogs we dialled.
    dialled: IdMap<DialogId, mailbox::Sender<Event>>,
    /// Whose INVITE is being placed: `Placed` or `Refused` follows within the same turn.
    placing: Option<Placing>,
    /// Who waits for the answers to requests outside dialogs.
    requests: IdMap<Token, oneshot::Sender<RequestAnswer>>,
    /// How callers are reached once the connection they came by is gone.
    ways_back: IdMap<DialogId, WayBack>,
    /// By whose terms the requests of dialogs go.
    trunks: IdMap<DialogId, Arc<Trunk>>,
    /// Places of next hops, from which answers may come.
    expected: IdMap<DialogId, SourceGuard>,
    next_token: u64,
    /// When the message came that is being read, or was the last.
    received_at: Moment,
    /// Calls whose INVITE was challenged.
    pub(super) challenges: Challenges<Challenged>,
    /// Which challenges nobody answered leave a record.
    pub(super) unanswered: ShedSample,
    /// Which INVITEs do that prove too little, or the wrong thing.
    pub(super) wrong: DeclinedSample,
    declined: DeclinedSample,
    /// What the endpoint says in its turn, and what of that is still to be carried out.
    out: Vec<Output>,
    said: VecDeque<Output>,
    /// What the endpoint must be told of messages that were sent.
    told: VecDeque<Input>,
    /// Commands that follow from events, run after the outputs that caused them.
    pub(super) pending: VecDeque<Command>,
    /// The dialog of the command that is being followed, or of the event that is being told.
    telling: Option<DialogId>,
    gauges: watch::Sender<Gauges>,
    pub(super) trace: ShardTrace,
}

impl Shard {
    fn new(
        switch: Arc<Switch>,
        config: EndpointConfig,
        (arrivals, commands): (mpsc::Sender<Arrival>, mpsc::Sender<Order>),
    ) -> Self {
        let (gauges_in, gauges) = watch::channel(Gauges::default());
        let handle = ShardHandle::new((arrivals, commands), gauges, switch.trace);
        Self::with(switch, Endpoint::new(config), (handle, gauges_in))
    }

    /// One that has nothing yet but its endpoint, and who speaks to it.
    fn with(
        switch: Arc<Switch>,
        endpoint: Endpoint,
        (handle, gauges): (ShardHandle, watch::Sender<Gauges>),
    ) -> Self {
        let mut secret = [0; 32];
        clock::fill_random(&mut secret);
        Self {
            endpoint,
            switch,
            trace: handle.trace.clone(),
            handle,
            digest: digest::server::Server::new(secret),
            calls: IdMap::default(),
            dialled: IdMap::default(),
            placing: None,
            requests: IdMap::default(),
            ways_back: IdMap::default(),
            trunks: IdMap::default(),
            expected: IdMap::default(),
            next_token: 0,
            received_at: Moment::START,
            challenges: Challenges::new(),
            unanswered: ShedSample::default(),
            wrong: DeclinedSample::default(),
            declined: DeclinedSample::default(),
            out: Vec::new(),
            said: VecDeque::new(),
            told: VecDeque::new(),
            pending: VecDeque::new(),
            telling: None,
            gauges,
        }
    }

    async fn run(&mut self, Queues { arrivals, commands, draining }: &mut Queues) {
        let sleep = tokio::time::sleep_until(clock::instant(clock::now()).into());
        tokio::pin!(sleep);
        loop {
            self.handle.note_turn();
            let deadline = [self.endpoint.deadline(), self.challenges.deadline()];
            let deadline = deadline.into_iter().flatten().min();
            if let Some(at) = deadline {
                let at = clock::instant(on_the_beat(at)).into();
                if sleep.deadline() != at {
                    sleep.as_mut().reset(at);
                }
            }
            tokio::select! {
                biased;
                Some(order) = commands.recv() => self.obey(order),
                () = &mut sleep, if deadline.is_some() => self.fire(),
                Ok(()) = draining.changed() => {
                    let draining = *draining.borrow_and_update();
                    self.guarded(&About::Nobody, |shard| shard.drain(draining));
                }
                Some(arrival) = arrivals.recv() => {
                    self.take(arrival);
                    for _ in 1..BATCH_MAX {
                        let Ok(arrival) = arrivals.try_recv() else { break };
                        self.take(arrival);
                    }
                }
                else => return,
            }
            let gauges = self.endpoint.gauges();
            // Who wants to know looks: nobody waits for it, and to tell that costs more than the rest. But tests do.
            self.gauges.send_if_modified(|shown| {
                *shown = gauges;
                cfg!(test)
            });
        }
    }

    /// Sees to what is due.
    fn fire(&mut self) {
        self.guarded(&About::Timers, |shard| {
            shard.turn(Input::DeadlineReached);
            while let Some(challenged) = shard.challenges.pop_due(clock::now()) {
                challenged.give_up(shard);
            }
        });
    }

    fn drain(&mut self, draining: bool) {
        self.endpoint.set_draining(draining);
        // Whoever comes back is refused now, with a record of that. Copies of what was challenged leave none.
        for challenged in self.challenges.give_up_all() {
            challenged.give_up(self);
        }
    }

    fn obey(&mut self, order: Order) {
        self.guarded(&About::order(&order), |shard| shard.follow(order));
    }

    fn follow(&mut self, order: Order) {
        match order {
            Order::Command(command) => self.turn(Input::Command(command)),
            Order::Place { leg, invite, events } => {
                let call_id = invite.call_id.clone();
                self.placing = Some(Placing { events, trunk: leg.trunk });
                let token = self.token();
                self.turn(Input::Command(Command::Invite { token, invite }));
                // Dropped where the call could not be placed: whoever waits learns of it by that.
                self.placing = None;
                if let Some(call_id) = call_id {
                    let placed = (leg.call, End::Caller);
                    self.trace.link(placed, call_id.as_ref(), &leg.secret_headers);
                }
            }
            Order::TakeOver { dialog, leg, body, taken } => {
                let name = self.name_of(dialog);
                if name.is_some() {
                    self.calls.insert(dialog, leg);
                    self.turn(Input::Command(Command::Accept { dialog, body }));
                }
                // Whoever asked may be gone: then the queue it gave ends the leg.
                drop(taken.send(name));
            }
            Order::Find { dialog, found } => {
                let peer = self.endpoint.peer_of(dialog);
                let peer = peer.map(|uri| String::from_utf8_lossy(uri.as_bytes()).into_owned());
                // Whoever asked may be gone.
                drop(found.send(peer));
            }
            Order::LetGo { dialog, cause } => {
                self.calls.remove(&dialog);
                self.turn(Input::Command(Command::Hangup { dialog, cause }));
            }
            Order::Found(found) => self.found(*found),
            Order::Turn => {}
            Order::Request { mut request, answer } => {
                request.token = self.token();
                self.requests.insert(request.token, answer);
                self.turn(Input::Command(Command::Request(request)));
            }
        }
    }

    /// What names a dialog of this shard.
    pub(super) fn name_of(&self, dialog: DialogId) -> Option<DialogName> {
        self.endpoint.name_of(dialog)
    }

    const fn token(&mut self) -> Token {
        self.next_token += 1;
        Token(self.next_token)
    }

    fn take(&mut self, arrival: Arrival) {
        match arrival {
            Arrival::Message { at, flow, message, call_id } => {
                self.guarded(&About::Message(message.clone()), |shard| {
                    shard.received_at = at;
                    shard.note(Way::In, &flow, (&message, call_id));
                    shard.turn(if shard.is_unproven(&flow) {
                        Input::ReceivedUnproven { flow, message }
                    } else {
                        Input::Received { flow, message }
                    });
                });
            }
            Arrival::FlowClosed(flow) => {
                self.guarded(&About::Nobody, |shard| shard.turn(shard.gone(flow)));
            }
            Arrival::Unreached { remote, key } => {
                let input = Input::Unreached { remote, key };
                self.guarded(&About::Nobody, |shard| shard.turn(input));
            }
        }
    }

    /// Whether what comes by `flow` may be of whoever forged an address of a peer that must authenticate.
    pub(super) fn is_unproven(&self, flow: &Flow) -> bool {
        let listener = self.switch.listeners.get(usize::from(flow.listener));
        listener.is_some_and(|listener| {
            let (table, source) = (self.switch.table.load(), flow.remote.ip());
            identify::wants_proof(&table, &listener.name, source, flow.transport)
        })
    }

    /// Applies one input, and the commands that follow from it.
    fn turn(&mut self, input: Input) {
        let mut next = Some(input);
        while let Some(input) = next {
            let (of, refused) = match &input {
                Input::Command(
                    Command::Refuse { dialog, .. } | Command::RefuseOnce { dialog, .. },
                ) => (Some(*dialog), Some(*dialog)),
                Input::Command(command) => (dialog_of(command), None),
                Input::Received { .. }
                | Input::ReceivedUnproven { .. }
                | Input::FlowClosed(_)
                | Input::FlowFailed(_)
                | Input::Led { .. }
                | Input::Unreached { .. }
                | Input::Located { .. }
                | Input::DeadlineReached => (None, None),
            };
            self.telling = of;
            self.endpoint.handle(clock::now(), input, &mut self.out);
            self.telling = None;
            self.said.extend(self.out.drain(..));
            while let Some(output) = self.said.pop_front() {
                self.carry_out(output);
            }
            // Of a refusal there is no event.
            if let Some(gone) = refused.filter(|dialog| self.name_of(*dialog).is_none()) {
                self.calls.remove(&gone);
                self.forget_ways(gone);
            }
            next = self.next_input();
        }
    }

    /// What follows from the inputs before.
    fn next_input(&mut self) -> Option<Input> {
        let command = || self.pending.pop_front().map(Input::Command);
        self.told.pop_front().or_else(command)
    }

    /// Does one thing that the endpoint wants done.
    fn carry_out(&mut self, output: Output) {
        match output {
            Output::Transmit { flow, bytes } => {
                let told = self.transmit(&flow, bytes);
                self.told.extend(told);
            }
            Output::Burden(flow, bytes) => self.burden(&flow, bytes),
            Output::Locate(search) => self.seek(search),
            Output::Counted(counter) => counted::count(counter),
            Output::Event(event) => {
                self.telling = event.dialog();
                self.event(event);
                self.telling = None;
            }
        }
    }

    /// Keeps a message for whoever must explain its call, with the addresses it had on the wire.
    fn note(&self, way: Way, flow: &Flow, message: (&Bytes, CallIdPlace)) {
        let flow = Flow { local: self.switch.flows.local_of(flow), ..*flow };
        self.trace.note(clock::now(), way, &flow, message);
    }

    /// Has the requests to a caller go by the terms of its trunk.
    pub(super) fn reach_by(&mut self, dialog: DialogId, trunk: &Arc<Trunk>) {
        self.trunks.insert(dialog, Arc::clone(trunk));
    }

    /// Has challenges in a call that came by `trunk` answered, where it has an account.
    pub(super) fn trust(&mut self, dialog: DialogId, trunk: &Trunk) {
        let accounts = dialog_policy::accounts(trunk);
        if !accounts.is_empty() {
            self.pending.push_back(Command::Trust(dialog, accounts));
        }
    }

    fn forget_ways(&mut self, dialog: DialogId) {
        self.ways_back.remove(&dialog);
        self.trunks.remove(&dialog);
        self.expected.remove(&dialog);
        give_back(&mut self.ways_back);
        give_back(&mut self.trunks);
        give_back(&mut self.expected);
    }

    /// Keeps the way to a caller for when the connection it came by is gone.
    pub(super) fn reach_back(&mut self, dialog: DialogId, to: Destination) {
        let way = self.switch.flows.keep_way(to);
        self.pending.push_back(Command::ReachBy { dialog, way: way.flow() });
        self.ways_back.insert(dialog, way);
    }

    fn event(&mut self, event: Event) {
        if let Some(gone) = event.dialog().filter(|_| event.is_last()) {
            self.forget_ways(gone);
        }
        let Some(event) = self.hand_to_dialled(event) else { return };
        match event {
            Event::Invited(invitation) => {
                // Its 100 was sent in the same turn.
                let waited = clock::now().since(self.received_at);
                metric::observe(metric::Histogram::InviteTrying, waited);
                invitation::receive(self, *invitation, waited);
            }
            Event::Cancelled { dialog, reason } => {
                let why = explained(reason.as_deref());
                self.last(dialog, why, LegInput::Cancelled);
            }
            Event::Acknowledged { dialog, body } => {
                self.tell(dialog, LegInput::Acknowledged(description(body)));
            }
            Event::Reinvited { dialog, body } => {
                self.tell(dialog, LegInput::Reoffered(description(body)));
            }
            Event::Digit { dialog, digit, .. } => self.tell(dialog, LegInput::Digit(digit)),
            Event::ReinviteAnswered { dialog, body } => {
                self.tell(dialog, LegInput::ReofferAnswered(description(body)));
            }
            Event::Refreshed { dialog, body } => {
                self.tell(dialog, LegInput::Refreshed(body.bytes));
            }
            Event::ReinviteRefused { dialog, status, has_waited } => {
                self.tell(dialog, LegInput::ReofferRefused { status, has_waited });
            }
            Event::Referring { dialog, progress } => {
                self.tell(dialog, referring(&progress));
            }
            Event::Referred { dialog, referred } => self.referred(dialog, &referred),
            Event::Ended { dialog, how } => {
                let (cause, by) = end(&how);
                self.last(dialog, reason_of(&how), LegInput::Ended { cause, by });
            }
            Event::RequestAnswered { token, answer } => {
                if let Some(waiting) = self.requests.remove(&token) {
                    // Whoever asked may be gone.
                    drop(waiting.send(*answer));
                }
            }
            Event::Declined(declined) => self.declined(&declined),
            // Of dialogs we dialled, whose tasks are gone.
            Event::Placed { .. }
            | Event::TooLarge { .. }
            | Event::Progressed { .. }
            | Event::Answered { .. }
            | Event::Refused { .. }
            // Nothing asks for the rest.
            | Event::Probed { .. }
            | Event::EarlyAnswered { .. }
            | Event::InfoAnswered { .. } => (),
        }
    }

    /// A caller wants somebody else called. What names nobody that we dial, or is of no call, is declined
    /// here; whether this caller may is the call's to say.
    fn referred(&mut self, dialog: DialogId, referred: &Referred) {
        let leg = self.calls.get(&dialog);
        match leg.and_then(|leg| dial::target_of(referred, Some(&leg.trunk))) {
            Some(request) => self.tell(dialog, LegInput::Referred(Box::new(request))),
            None => {
                let (status, cause) = (603, HangupCause::Policy);
                self.pending.push_back(Command::RefuseRefer { dialog, status, cause });
            }
        }
    }

    fn declined(&mut self, declined: &Declined) {
        let listener = usize::from(declined.flow.listener);
        let Some(listener) = self.switch.listeners.get(listener) else { return };
        let (ledger, sample) = (self.switch.ledger.as_ref(), &mut self.declined);
        turned_away::record_declined(ledger, &listener.name, declined, sample);
    }

    /// Hands an event of a dialog we dialled to who carries it; gives back every other. A leg whose
    /// task is gone, or too slow, is hung up.
    fn hand_to_dialled(&mut self, event: Event) -> Option<Event> {
        let Some(dialog) = event.dialog() else { return Some(event) };
        if let (Event::Placed { .. }, Some(placing)) = (&event, &self.placing) {
            self.dialled.insert(dialog, placing.events.clone());
            if let Some(trunk) = &placing.trunk {
                self.trunks.insert(dialog, Arc::clone(trunk));
            }
        }
        let Some(carrier) = self.dialled.get(&dialog) else { return Some(event) };
        let is_last = event.is_last();
        if carrier.try_send(event).is_err() || is_last {
            self.dialled.remove(&dialog);
            give_back(&mut self.dialled);
            if !is_last {
                let cause = HangupCause::CallerCancelled;
                self.pending.push_back(Command::Hangup { dialog, cause });
            }
        }
        None
    }

    /// Tells a call. A call whose queue is full cannot be served any more: it ends.
    fn tell(&mut self, dialog: DialogId, input: LegInput) {
        let Some(leg) = self.calls.get(&dialog) else { return };
        let input = CallInput::LegOf { side: leg.side, turn: leg.turn, input };
        if leg.call.try_send(input).is_err() {
            self.calls.remove(&dialog);
            self.pending.push_back(Command::Hangup { dialog, cause: HangupCause::SwitchFault });
        }
    }

    /// Tells a call the last thing that happens on its dialog, and before it why, where the peer said that.
    fn last(&mut self, dialog: DialogId, why: Option<LegInput>, input: LegInput) {
        if let Some(why) = why {
            self.tell(dialog, why);
        }
        self.tell(dialog, input);
        self.calls.remove(&dialog);
        give_back(&mut self.calls);
    }
}

/// The first beat not before `at`.
const fn on_the_beat(at: Moment) -> Moment {
    Moment::from_nanos(at.as_nanos().div_ceil(BEAT_NANOS).saturating_mul(BEAT_NANOS))
}

/// How far a carrier got with a transfer that it was asked for.
pub(super) fn referring(progress: &ReferProgress) -> LegInput {
    match progress {
        ReferProgress::Accepted => LegInput::ReferProgressed { status: 202 },
        ReferProgress::Progressed(status) | ReferProgress::Finished(status) => {
            LegInput::ReferProgressed { status: *status }
        }
        ReferProgress::Refused(status) => LegInput::ReferFailed { status: *status },
        ReferProgress::Silent => LegInput::ReferFailed { status: 408 },
    }
}

fn description(body: Option<Body>) -> Option<Bytes> {
    body.map(|body| body.bytes)
}

#[cfg(test)]
mod tests;
