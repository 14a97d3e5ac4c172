//! `GatewayBoard`: the health of every gateway of every trunk that calls out.

use crate::routing::gateway::Gateway;
use crate::routing::health;
use crate::routing::health::Availability;
use crate::routing::health::GatewayHealth;
use crate::routing::health::Input;
use crate::routing::outbound_trunk::OutboundTrunk;
use crate::routing::table::RoutingTable;
use crate::types::id::TrunkId;
use crate::types::moment::Moment;
use crate::types::name::GatewayName;
use crate::types::random::Random;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Which gateway of which trunk.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GatewayKey {
    /// The trunk.
    pub trunk: TrunkId,
    /// Its gateway.
    pub gateway: GatewayName,
}

/// What is to be done about a gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Action {
    /// Which one.
    pub key: GatewayKey,
    /// What.
    pub what: health::Output,
}

/// The health of all gateways. A gateway it does not know counts as ready: it is new.
#[derive(Debug)]
pub struct GatewayBoard {
    gateways: BTreeMap<GatewayKey, Watched>,
    trunks: BTreeMap<TrunkId, TrunkStanding>,
    random: Random,
}

#[derive(Debug)]
struct Watched {
    gateway: Arc<Gateway>,
    health: GatewayHealth,
}

#[derive(Clone, Copy, Debug, Default)]
struct TrunkStanding {
    /// Calls out so far, for taking turns.
    turn: u64,
    registered: bool,
}

impl GatewayBoard {
    /// A board without gateways.
    #[must_use]
    pub const fn new(random: Random) -> Self {
        Self { gateways: BTreeMap::new(), trunks: BTreeMap::new(), random }
    }

    /// Takes over the trunks of `table`: new gateways begin to be watched, those that are gone are
    /// forgotten, the others keep what is known of them unless they lead elsewhere now.
    pub fn follow(&mut self, now: Moment, table: &RoutingTable, out: &mut Vec<Action>) {
        let mut old = std::mem::take(&mut self.gateways);
        let mut standings = std::mem::take(&mut self.trunks);
        for trunk in table.trunks().filter(|trunk| trunk.enabled) {
            let Some(outbound) = &trunk.outbound else { continue };
            self.trunks.insert(trunk.id, standings.remove(&trunk.id).unwrap_or_default());
            for gateway in &outbound.gateways {
                let key = GatewayKey { trunk: trunk.id, gateway: gateway.name.clone() };
                let known = old.remove(&key).filter(|known| {
                    (&known.gateway.uri, &known.gateway.proxy) == (&gateway.uri, &gateway.proxy)
                });
                let mut outputs = Vec::new();
                let watched = self.watch(now, known, (gateway, outbound), &mut outputs);
                out.extend(outputs.into_iter().map(|what| Action { key: key.clone(), what }));
                self.gateways.insert(key, watched);
            }
        }
    }

    /// What is known of a gateway, or what there is to know of a new one.
    fn watch(
        &mut self,
        now: Moment,
        known: Option<Watched>,
        (gateway, outbound): (&Arc<Gateway>, &OutboundTrunk),
        outputs: &mut Vec<health::Output>,
    ) -> Watched {
        let gateway = Arc::clone(gateway);
        if let Some(Watched { mut health, .. }) = known {
            if *health.policy() != outbound.health {
                health.set_policy(now, outbound.health.clone());
            }
            return Watched { gateway, health };
        }
        let random = Random::from_seed(self.random.next_u64());
        let mut health = GatewayHealth::new(outbound.health.clone(), random);
        health.handle(now, Input::Started, outputs);
        Watched { gateway, health }
    }

    /// Tells a gateway something. One it does not know is left alone.
    pub fn handle(&mut self, now: Moment, key: &GatewayKey, input: Input, out: &mut Vec<Action>) {
        let Some(watched) = self.gateways.get_mut(key) else { return };
        let mut outputs = Vec::new();
        watched.health.handle(now, input, &mut outputs);
        out.extend(outputs.into_iter().map(|what| Action { key: key.clone(), what }));
    }

    /// Tells every gateway of a trunk that the carrier wants fewer calls.
    pub fn throttle(
        &mut self,
        now: Moment,
        trunk: TrunkId,
        retry_after: Option<Duration>,
        out: &mut Vec<Action>,
    ) {
        let keys: Vec<_> = self.gateways.keys().filter(|key| key.trunk == trunk).cloned().collect();
        for key in keys {
            self.handle(now, &key, Input::Throttled { retry_after }, out);
        }
    }

    /// Tells those gateways whose deadline is reached.
    pub fn tick(&mut self, now: Moment, out: &mut Vec<Action>) {
        let due = |watched: &Watched| watched.health.deadline().is_some_and(|at| at <= now);
        let keys: Vec<_> =
            self.gateways.iter().filter(|(_, w)| due(w)).map(|(key, _)| key.clone()).collect();
        for key in keys {
            self.handle(now, &key, Input::DeadlineReached, out);
        }
    }

    /// The next moment at which [`Self::tick`] has something to do.
    #[must_use]
    pub fn deadline(&self) -> Option<Moment> {
        self.gateways.values().filter_map(|watched| watched.health.deadline()).min()
    }

    /// Whether a gateway may be given calls.
    #[must_use]
    pub fn availability(&self, now: Moment, key: &GatewayKey) -> Availability {
        let watched = self.gateways.get(key);
        watched.map_or(Availability::Ready, |watched| watched.health.availability(now))
    }

    /// All gateways with how they stand.
    pub fn all(&self, now: Moment) -> impl Iterator<Item = (&GatewayKey, Availability)> {
        self.gateways.iter().map(move |(key, watched)| (key, watched.health.availability(now)))
    }

    /// The gateway that is watched under a key, for who sends probes.
    #[must_use]
    pub fn gateway(&self, key: &GatewayKey) -> Option<&Arc<Gateway>> {
        self.gateways.get(key).map(|watched| &watched.gateway)
    }

    /// Notes that a trunk registered with its carrier, or lost its registration.
    pub fn set_registered(&mut self, trunk: TrunkId, registered: bool) {
        if let Some(standing) = self.trunks.get_mut(&trunk) {
            standing.registered = registered;
        }
    }

    /// Whether a trunk is registered with its carrier.
    #[must_use]
    pub fn is_registered(&self, trunk: TrunkId) -> bool {
        self.trunks.get(&trunk).is_some_and(|standing| standing.registered)
    }

    /// How many calls out were planned by a trunk.
    #[must_use]
    pub fn turn(&self, trunk: TrunkId) -> u64 {
        self.trunks.get(&trunk).map_or(0, |standing| standing.turn)
    }

    /// Counts a planned call.
    pub fn take_turn(&mut self, trunk: TrunkId) {
        let standing = self.trunks.entry(trunk).or_default();
        standing.turn = standing.turn.wrapping_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing::contents::Contents;
    use crate::routing::health::Output;
    use crate::routing::health::Probing;
    use crate::routing::outbound::tests::trunk;
    use crate::routing::outbound::tests::trunk_id;

    fn table(change: impl FnOnce(&mut OutboundTrunk)) -> RoutingTable {
        RoutingTable::new(Contents { trunks: vec![trunk(1, change)], ..Contents::default() })
    }

    fn key(gateway: &str) -> GatewayKey {
        GatewayKey { trunk: trunk_id(1), gateway: gateway.parse().unwrap() }
    }

    #[test]
    fn a_gateway_that_leads_elsewhere_begins_anew_and_the_others_keep_what_is_known() {
        let mut board = GatewayBoard::new(Random::from_seed(1));
        let (now, mut out) = (Moment::START, Vec::new());
        board.follow(now, &table(|_| {}), &mut out);
        for name in ["a", "b"] {
            board.handle(now, &key(name), Input::Disabled, &mut out);
        }
        let moved = table(|outbound| {
            if let Some(gateway) = outbound.gateways.first_mut() {
                Arc::make_mut(gateway).uri.host = "elsewhere.example".into();
            }
        });
        board.follow(now, &moved, &mut out);
        assert_eq!(board.availability(now, &key("a")), Availability::Ready);
        assert_eq!(board.availability(now, &key("b")), Availability::Disabled);
        board.follow(now, &RoutingTable::default(), &mut out);
        assert_eq!(board.all(now).count(), 0);
        assert_eq!(board.availability(now, &key("b")), Availability::Ready);
    }

    #[test]
    fn probes_are_asked_for_as_they_fall_due_and_a_trunk_is_throttled_whole() {
        let mut board = GatewayBoard::new(Random::from_seed(1));
        let probed = table(|outbound| {
            outbound.health.probing = Some(Probing {
                interval: Duration::from_secs(30),
                timeout: Duration::from_secs(4),
                down_after: 1,
                up_after: 1,
                alive: health::AliveCodes::Any,
                request_user: String::new(),
            });
        });
        let mut out = Vec::new();
        board.follow(Moment::START, &probed, &mut out);
        assert!(out.is_empty());
        let mut asked = Vec::new();
        while asked.len() < 2 {
            let now = board.deadline().unwrap();
            assert!(now <= Moment::from_millis(34_000), "within the first interval");
            board.tick(now, &mut out);
            let probes = out.drain(..).filter(|action| action.what == Output::Probe);
            asked.extend(probes.map(|action| action.key));
        }
        asked.sort();
        assert_eq!(asked, [key("a"), key("b")]);
        let now = Moment::from_millis(40_000);
        board.throttle(now, trunk_id(1), Some(Duration::from_secs(5)), &mut out);
        let until = now + Duration::from_secs(5);
        assert!(board.all(now).all(|(_, state)| {
            [Availability::Throttled(until), Availability::Down].contains(&state)
        }));
        assert!(board.all(now).any(|(_, state)| state == Availability::Throttled(until)));
    }
}
