//! The endpoint: owns the transactions and dialogs of one shard. Messages and commands in, messages
//! and events out.
#![warn(clippy::indexing_slicing)]

mod admit;
mod answer;
mod call;
mod command;
pub mod config;
mod due;
mod early;
mod end;
pub mod event;
pub mod flow;
mod fork;
pub mod info;
mod inherit;
mod lost;
pub mod outbound;
mod outside;
pub mod policy;
mod receive;
mod refer;
mod reliable;
mod request;
mod respond;
mod session;
pub(crate) mod timers;
pub mod told;
mod transact;
mod ways;
mod within;

use crate::sip::dialog::Dialog;
use crate::sip::invite::Usage;
use crate::sip::invite::UsageTimer;
use crate::sip::message::Request;
use crate::sip::message::uri::Uri;
use crate::sip::slab::Slab;
use crate::sip::transaction::key::ClientKey;
use crate::sip::transaction::key::ServerKey;
use crate::sip::transaction::key::Tag;
use crate::sip::transaction::timer::Timer;
use crate::types::id_map::IdMap;
use crate::types::moment::Moment;
use crate::types::random::Random;
use bytes::Bytes;
use config::EndpointConfig;
use config::Gauges;
use config::ListenerAddress;
use event::Counter;
use event::DialogId;
use event::Event;
use event::Input;
use event::Output;
use flow::Flow;
use flow::FlowId;
use outside::Outside;
use request::Sender;
use std::collections::BTreeSet;
use std::collections::HashMap;
use std::hash::DefaultHasher;
use std::hash::Hash as _;
use std::hash::Hasher as _;
use std::sync::Arc;
use timers::TimerQueue;
use told::DialogName;
use transact::Dependent;
use transact::MergeKey;
use transact::Transaction;
use ways::Seeking;

/// Owns the transactions and dialogs of one shard.
#[derive(Debug)]
pub struct Endpoint {
    config: EndpointConfig,
    random: Random,
    /// Makes tags of answers without state ours.
    salt: u64,
    transactions: Slab<Transaction>,
    servers: HashMap<Arc<ServerKey>, u64>,
    /// By branches of ours, as the next by tags of ours: a peer can name them, but not make them.
    clients: IdMap<ClientKey, u64>,
    merges: HashMap<MergeKey, u64>,
    usages: Slab<Usage>,
    tags: IdMap<Tag, DialogId>,
    timers: TimerQueue<Due>,
    streams: IdMap<FlowId, BTreeSet<Dependent>>,
    outside: Slab<Outside>,
    /// What waits for the shell to find a next hop.
    searches: IdMap<u64, Seeking>,
    next_search: u64,
    is_draining: bool,
    /// The dialog whose timer is being seen to.
    firing: Option<DialogId>,
    /// A test wants a fault in the next turn.
    #[cfg(test)]
    pub(crate) trips: bool,
}

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Due {
    Transaction(u64, Timer),
    Usage(DialogId, UsageTimer),
    Outside(u64),
    Search(u64),
}

/// The moment, and where outputs go.
struct Context<'a> {
    now: Moment,
    out: &'a mut Vec<Output>,
    /// How long the message is that is being read, where its source may be forged.
    unproven: Option<usize>,
}

impl Context<'_> {
    fn transmit(&mut self, flow: Flow, bytes: Bytes) {
        self.out.push(Output::Transmit { flow, bytes });
    }

    /// Answers and keeps nothing: more than came may burden somebody who sent nothing.
    fn answer(&mut self, flow: Flow, bytes: Bytes) {
        let came = self.unproven.filter(|_| !flow.transport.is_reliable());
        if came.is_some_and(|came| bytes.len() > came) {
            self.out.push(Output::Burden(flow, bytes));
        } else {
            self.transmit(flow, bytes);
        }
    }

    fn event(&mut self, event: Event) {
        self.out.push(Output::Event(event));
    }

    fn count(&mut self, counter: Counter) {
        self.out.push(Output::Counted(counter));
    }
}

impl Endpoint {
    /// An endpoint without transactions and dialogs.
    #[must_use]
    pub fn new(config: EndpointConfig) -> Self {
        let mut random = Random::from_seed(config.seed);
        Self {
            salt: random.next_u64(),
            random,
            config,
            transactions: Slab::new(),
            servers: HashMap::new(),
            clients: IdMap::default(),
            merges: HashMap::new(),
            usages: Slab::new(),
            tags: IdMap::default(),
            timers: TimerQueue::new(),
            streams: IdMap::default(),
            outside: Slab::new(),
            searches: IdMap::default(),
            next_search: 0,
            is_draining: false,
            firing: None,
            #[cfg(test)]
            trips: false,
        }
    }

    /// One that takes the place of `before`, which a fault of ours ended: with its settings, but for the seed, and without
    /// its transactions and dialogs (see [`inherit`](Self::inherit)). It gives no name that `before` gave: what is still
    /// said of those reaches nothing.
    #[must_use]
    pub fn after(before: &Self, seed: u64) -> Self {
        Self {
            usages: before.usages.successor(),
            next_search: before.next_search,
            is_draining: before.is_draining,
            ..Self::new(EndpointConfig { seed, ..before.config.clone() })
        }
    }

    /// Applies `input` and appends what must be done to `out`, in order.
    pub fn handle(&mut self, now: Moment, input: Input, out: &mut Vec<Output>) {
        let unproven = match &input {
            Input::ReceivedUnproven { message, .. } => Some(message.len()),
            Input::Received { .. }
            | Input::FlowClosed(_)
            | Input::FlowFailed(_)
            | Input::Led { .. }
            | Input::Unreached { .. }
            | Input::Located { .. }
            | Input::Command(_)
            | Input::DeadlineReached => None,
        };
        let cx = &mut Context { now, out, unproven };
        match input {
            Input::Received { flow, message } | Input::ReceivedUnproven { flow, message } => {
                self.receive(cx, flow, message);
            }
            Input::FlowClosed(id) => self.flow_closed(cx, id, true),
            Input::FlowFailed(id) => self.flow_closed(cx, id, false),
            Input::Led { by, to } => self.led(cx, by, to),
            Input::Unreached { remote, key } => self.unreached(cx, remote, key),
            Input::Located { number, flow } => self.located(cx, number, flow),
            Input::Command(command) => self.command(cx, command),
            Input::DeadlineReached => self.deadline_reached(cx),
        }
        #[cfg(test)]
        self.trip();
    }

    #[cfg(test)]
    fn trip(&mut self) {
        assert!(!std::mem::take(&mut self.trips), "as a test wants it");
    }

    /// The next moment at which this wants `Input::DeadlineReached`.
    #[must_use]
    pub fn deadline(&self) -> Option<Moment> {
        self.timers.deadline()
    }

    /// What names a dialog in the network; `None` before it has a peer, and after its end.
    #[must_use]
    pub fn name_of(&self, dialog: DialogId) -> Option<DialogName> {
        self.usages.get(dialog.0)?.dialog().map(Dialog::name)
    }

    /// Where the peer of a dialog is reached, exactly as it says; `None` as in [`Self::name_of`].
    #[must_use]
    pub fn peer_of(&self, dialog: DialogId) -> Option<&Uri> {
        self.usages.get(dialog.0)?.dialog().map(Dialog::target)
    }

    /// The dialogs with this Call-ID. Looks at every dialog: for the aftermath of a fault.
    #[must_use]
    pub fn dialogs_of(&self, call_id: &[u8]) -> Vec<DialogId> {
        let all = self.usages.all();
        all.filter(|(_, usage)| usage.call_id() == call_id).map(|(id, _)| DialogId(id)).collect()
    }

    /// Every dialog, for the aftermath of a fault.
    #[must_use]
    pub fn dialogs(&self) -> Vec<DialogId> {
        self.usages.all().map(|(id, _)| DialogId(id)).collect()
    }

    /// The dialog whose timer was being seen to when a fault cut that off.
    #[must_use]
    pub const fn firing(&self) -> Option<DialogId> {
        self.firing
    }

    /// What is held right now.
    #[must_use]
    pub fn gauges(&self) -> Gauges {
        Gauges {
            transactions: self.transactions.len(),
            dialogs: self.usages.len(),
            requests: self.outside.len(),
            timers: self.timers.len(),
            entries: self.servers.len()
                + self.clients.len()
                + self.merges.len()
                + self.tags.len()
                + self.streams.len()
                + self.searches.len(),
        }
    }

    /// Begins or ends draining: new INVITEs and OPTIONS outside dialogs get 503, calls of ours are
    /// refused, dialogs go on.
    pub const fn set_draining(&mut self, is_draining: bool) {
        self.is_draining = is_draining;
    }

    /// A tag for an answer without state: the same each time the request comes.
    fn stateless_tag(&self, request: &Request) -> Vec<u8> {
        let mut hasher = DefaultHasher::new();
        self.salt.hash(&mut hasher);
        ServerKey::of(request).hash(&mut hasher);
        format!("{:016x}", hasher.finish()).into_bytes()
    }
}

/// Stands in for a listener that is not configured.
const NO_LISTENER: &ListenerAddress = &ListenerAddress { host: String::new(), port: 5060 };

impl EndpointConfig {
    fn sender(&self, flow: Flow) -> Sender<'_> {
        let address = self.listeners.get(usize::from(flow.listener)).unwrap_or(NO_LISTENER);
        Sender {
            host: &address.host,
            port: address.port,
            transport: flow.transport,
            product: &self.product,
            policy: self.policy,
            takes_replaces: self.takes_replaces,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sip::endpoint::config::Timers;
    use crate::sip::endpoint::policy::DialogPolicy;

    #[test]
    fn who_takes_the_place_of_another_gives_none_of_its_names() {
        let mut before = Endpoint::new(EndpointConfig {
            seed: 1,
            product: "Tandem".to_owned(),
            listeners: Vec::new(),
            timers: Timers::default(),
            policy: DialogPolicy::default(),
            takes_replaces: true,
        });
        before.next_search = 7;
        before.set_draining(true);
        let after = Endpoint::after(&before, 2);
        assert_eq!((after.next_search, after.is_draining), (7, true));
        assert_ne!(after.salt, before.salt, "tags and branches of its own");
        assert_eq!(after.gauges(), Gauges::default());
    }
}
