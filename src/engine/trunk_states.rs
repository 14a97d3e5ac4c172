//! How trunks stand at this moment: their registrations and gateways, for operators.

use crate::clock;
use crate::engine::agent_health::AgentHealth;
use crate::engine::registry::RegistrationState;
use crate::engine::registry::Registry;
use crate::routing::gateway_addresses::GatewayAddress;
use crate::routing::gateway_board::GatewayKey;
use crate::routing::health::Availability;
use crate::routing::table::RoutingTable;
use crate::routing::trunk::Trunk;
use crate::types::id::TenantId;
use arc_swap::ArcSwap;
use std::net::IpAddr;
use std::sync::Arc;

/// Reads how trunks stand on this node. Cheap to clone.
#[derive(Clone, Debug)]
pub struct TrunkStates {
    table: Arc<ArcSwap<RoutingTable>>,
    registry: Arc<Registry>,
}

/// How one trunk stands.
#[derive(Clone, Debug)]
pub struct TrunkState {
    /// The trunk.
    pub trunk: Arc<Trunk>,
    /// Calls in progress on it, both ways.
    pub calls: u32,
    /// Its registration; `None` for one that does not register.
    pub registration: Option<RegistrationState>,
    /// The names its calls come from, and what they stand for.
    pub sources: Vec<(String, Vec<IpAddr>)>,
    /// Its gateways, by name.
    pub gateways: Vec<GatewayState>,
}

/// How one gateway of a trunk stands.
#[derive(Clone, Debug)]
pub struct GatewayState {
    /// Its name.
    pub name: String,
    /// Whether it may be given calls.
    pub state: Availability,
    /// Those of its addresses that are not ready.
    pub addresses: Vec<(GatewayAddress, Availability)>,
}

impl TrunkStates {
    /// The states that `registry` knows of trunks of `table`.
    #[must_use]
    pub const fn new(table: Arc<ArcSwap<RoutingTable>>, registry: Arc<Registry>) -> Self {
        Self { table, registry }
    }

    /// How endpoints of agents fare.
    #[must_use]
    pub fn agent_health(&self) -> AgentHealth {
        self.registry.agent_health()
    }

    /// The routing table in force.
    #[must_use]
    pub fn table(&self) -> Arc<RoutingTable> {
        self.table.load_full()
    }

    /// The trunks of a tenant by name, and the shared ones too where `shared`.
    #[must_use]
    pub fn of(&self, tenant: TenantId, shared: bool) -> Vec<TrunkState> {
        let table = self.table.load();
        let is_seen = |trunk: &&Arc<Trunk>| trunk.tenant.map_or(shared, |owner| owner == tenant);
        let mut trunks: Vec<_> = table.trunks().filter(is_seen).cloned().collect();
        trunks.sort_by(|one, other| one.name.cmp(&other.name));
        let now = clock::now();
        let mut gateways = self.registry.gateways(now);
        let state = |trunk: Arc<Trunk>| {
            let own = gateways.extract_if(.., |(key, _)| key.trunk == trunk.id);
            let gateway = |(key, state): (GatewayKey, Availability)| {
                let addresses = self.registry.unready_addresses(now, &key);
                GatewayState { name: key.gateway.to_string(), state, addresses }
            };
            let gateways = own.map(gateway).collect();
            let registration = self.registry.registration(trunk.id);
            let calls = self.registry.calls_of_trunk(trunk.id);
            let names = trunk.source_names.iter();
            let addresses = |name: &String| table.addresses_of(name).unwrap_or_default().to_vec();
            let sources = names.map(|name| (name.clone(), addresses(name))).collect();
            TrunkState { trunk, calls, registration, sources, gateways }
        };
        trunks.into_iter().map(state).collect()
    }
}
