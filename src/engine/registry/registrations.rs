//! How the trunks that register stand, for calls out, operators and figures.

use crate::engine::registry::Registry;
use crate::sip::endpoint::flow::Flow;
use crate::sip::endpoint::flow::FlowId;
use crate::sip::locate::Target;
use crate::sip::register::Standing;
use crate::types::id::TrunkId;
use crate::types::moment::Moment;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::Notify;

/// How the registration of a trunk stands.
#[derive(Clone, Debug)]
pub struct RegistrationState {
    /// Where it is registered, for people.
    pub registrar: String,
    /// Whether it is, and until when.
    pub standing: Standing,
    /// The final status of the last request that was answered.
    pub status: Option<u16>,
    /// When the next request is due.
    pub next: Option<Moment>,
    /// By what it is registered.
    pub way: Option<RegisteredWay>,
}

impl RegistrationState {
    /// True while the registrar has a binding of ours.
    #[must_use]
    pub const fn is_registered(&self) -> bool {
        matches!(self.standing, Standing::Registered { .. })
    }

    /// When the binding ends unless it is refreshed.
    #[must_use]
    pub const fn until(&self) -> Option<Moment> {
        match self.standing {
            Standing::Registered { until, .. } => Some(until),
            Standing::Registering | Standing::Failed { .. } | Standing::Removed => None,
        }
    }

    /// The spelling of metrics and APIs.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self.standing {
            Standing::Registering => "registering",
            Standing::Registered { .. } => "registered",
            Standing::Failed { .. } => "failed",
            Standing::Removed => "removed",
        }
    }

    /// Every spelling of a trunk that is to be registered.
    pub const SPELLINGS: [&'static str; 3] = ["registering", "registered", "failed"];
}

/// The way a trunk is registered by, which its calls out may take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegisteredWay {
    /// The flow of the REGISTER.
    pub flow: Flow,
    /// URIs of Route headers, in order: the Service-Route, where it is used.
    pub routes: Vec<String>,
}

impl RegisteredWay {
    /// The way as an address to try.
    #[must_use]
    pub fn target(&self) -> Target {
        let Flow { transport, remote, .. } = self.flow;
        // Nothing is proven anew: its connection is there, and knows what was.
        Target { transport, address: remote, server_name: String::new() }
    }
}

/// All registrations of the node.
#[derive(Debug, Default)]
pub(super) struct Registrations(BTreeMap<TrunkId, Entry>);

#[derive(Debug)]
struct Entry {
    state: RegistrationState,
    /// Told when the flow of the registration is gone.
    lost: Arc<Notify>,
}

impl Registrations {
    /// Every trunk, and whether it is registered.
    pub(super) fn all(&self) -> impl Iterator<Item = (TrunkId, bool)> {
        self.0.iter().map(|(trunk, entry)| (*trunk, entry.state.is_registered()))
    }
}

impl Registry {
    /// Notes how the registration of a trunk stands; `lost` is told when its flow is gone.
    pub fn note_registration(&self, trunk: TrunkId, state: RegistrationState, lost: &Arc<Notify>) {
        let mut inner = self.lock();
        inner.board.set_registered(trunk, state.is_registered());
        inner.registrations.0.insert(trunk, Entry { state, lost: Arc::clone(lost) });
    }

    /// Forgets the registration of a trunk that registers no more.
    pub fn forget_registration(&self, trunk: TrunkId) {
        let mut inner = self.lock();
        inner.board.set_registered(trunk, false);
        inner.registrations.0.remove(&trunk);
    }

    /// How the registration of a trunk stands; `None` for one that does not register.
    #[must_use]
    pub fn registration(&self, trunk: TrunkId) -> Option<RegistrationState> {
        self.lock().registrations.0.get(&trunk).map(|entry| entry.state.clone())
    }

    /// The way a trunk is registered by; `None` while it is not.
    #[must_use]
    pub fn registered_way(&self, trunk: TrunkId) -> Option<RegisteredWay> {
        let inner = self.lock();
        let state = &inner.registrations.0.get(&trunk)?.state;
        state.way.clone().filter(|_| state.is_registered())
    }

    /// How many registrations stand in each way.
    #[must_use]
    pub fn count_registrations(&self) -> [(&'static str, usize); 3] {
        let inner = self.lock();
        let all = &inner.registrations.0;
        RegistrationState::SPELLINGS.map(|state| {
            (state, all.values().filter(|entry| entry.state.as_str() == state).count())
        })
    }

    /// Tells the registrations that were made by a connection that it is gone.
    pub fn flow_closed(&self, id: FlowId) {
        let inner = self.lock();
        let is_by = |entry: &&Entry| {
            let way = entry.state.way.as_ref();
            way.is_some_and(|way| way.flow.id == id && way.flow.transport.is_reliable())
        };
        for entry in inner.registrations.0.values().filter(is_by) {
            entry.lost.notify_one();
        }
    }
}
