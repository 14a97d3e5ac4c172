//! Keep-alive datagrams: the way back through a NAT stays open while a trunk is silent.

use crate::clock;
use crate::engine::switch::Switch;
use crate::engine::turns::Places;
use crate::engine::turns::Turns;
use crate::engine::way;
use crate::routing::table::RoutingTable;
use crate::routing::trunk::Trunk;
use crate::sip::endpoint::flow::Flow;
use crate::sip::framing::PING;
use crate::telemetry::metric;
use crate::telemetry::metric::Counter;
use crate::types::id::TenantId;
use crate::types::id::TrunkId;
use crate::types::limit::KEEPALIVE_ADDRESSES_MAX;
use crate::types::limit::KEEPALIVE_ROUNDS_MAX;
use crate::types::limit::KEEPALIVE_ROUNDS_OF_TENANT_MAX;
use crate::types::limit::KEEPALIVE_ROUNDS_OF_TENANTS_MAX;
use crate::types::moment::Moment;
use crate::types::random::Random;
use crate::types::transport::Transport;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::Id;
use tokio::task::JoinSet;

/// A round is this much earlier than its interval says, at random, in percent: trunks that began
/// together do not stay together.
const JITTER_PERCENT: u64 = 20;
/// The rounds under way: slow names of a tenant's gateways delay its own alone.
const PLACES: Places = Places {
    all: KEEPALIVE_ROUNDS_MAX,
    tenants: KEEPALIVE_ROUNDS_OF_TENANTS_MAX,
    tenant: KEEPALIVE_ROUNDS_OF_TENANT_MAX,
};

/// Sends the keep-alive datagrams of the trunks of the routing table until `stopping` turns true: calls
/// that run through a drain need them too. `changes` tells that the table is another.
pub async fn run(
    switch: Arc<Switch>,
    mut changes: watch::Receiver<()>,
    mut stopping: watch::Receiver<bool>,
) {
    let mut rounds = Rounds::new(Random::from_seed(clock::random_u64()));
    let mut sending = Sending::new(Arc::clone(&switch));
    rounds.follow(clock::now(), &switch.table.load_full());
    loop {
        let deadline = rounds.deadline().map(|at| clock::instant(at).into());
        tokio::select! {
            biased;
            // The rounds under way end with their set.
            _ = stopping.wait_for(|stopping| *stopping) => return,
            changed = changes.changed() => {
                if changed.is_err() {
                    return;
                }
                let table = switch.table.load_full();
                rounds.follow(clock::now(), &table);
                sending.follow(&table);
            }
            () = async {
                match deadline {
                    Some(deadline) => tokio::time::sleep_until(deadline).await,
                    None => std::future::pending().await,
                }
            } => {}
            Some(ended) = sending.rounds.join_next_with_id(), if !sending.rounds.is_empty() => {
                // A fault in one ends it too.
                sending.ended(ended.map_or_else(|fault| fault.id(), |(id, ())| id));
                continue;
            }
        }
        let due = rounds.due(clock::now());
        sending.line_up(&switch.table.load_full(), due);
    }
}

/// The rounds under way, and those that wait for their turn.
struct Sending {
    switch: Arc<Switch>,
    turns: Turns<TrunkId>,
    rounds: JoinSet<()>,
    /// Whose places they have, and for which trunks.
    owners: HashMap<Id, (Option<TenantId>, TrunkId)>,
    /// Those trunks.
    under_way: BTreeSet<TrunkId>,
}

impl Sending {
    fn new(switch: Arc<Switch>) -> Self {
        let (rounds, owners) = (JoinSet::new(), HashMap::new());
        Self { switch, turns: Turns::new(PLACES), rounds, owners, under_way: BTreeSet::new() }
    }

    /// Lets the trunks go that have no rounds in another table.
    fn follow(&mut self, table: &RoutingTable) {
        self.turns.retain(|trunk| table.trunk(*trunk).is_some_and(|trunk| trunk.enabled));
    }

    /// Has trunks have their rounds as soon as it is their turn. One that still waits for it has one, and so has one
    /// whose last is not over: slow gateways take one place of their tenant's.
    fn line_up(&mut self, table: &RoutingTable, due: Vec<TrunkId>) {
        for trunk in due.into_iter().filter(|trunk| !self.under_way.contains(trunk)) {
            let owner = table.trunk(trunk).and_then(|trunk| trunk.tenant);
            self.turns.push(owner, trunk);
        }
        self.begin();
    }

    fn begin(&mut self) {
        while let Some((owner, trunk)) = self.turns.begin() {
            let task = self.rounds.spawn(round(Arc::clone(&self.switch), trunk));
            self.owners.insert(task.id(), (owner, trunk));
            self.under_way.insert(trunk);
        }
    }

    fn ended(&mut self, id: Id) {
        if let Some((owner, trunk)) = self.owners.remove(&id) {
            self.under_way.remove(&trunk);
            self.turns.end(owner);
        }
        self.begin();
    }
}

/// When each trunk's next round is.
#[derive(Debug)]
struct Rounds {
    random: Random,
    next: BTreeMap<TrunkId, (Duration, Moment)>,
}

impl Rounds {
    const fn new(random: Random) -> Self {
        Self { random, next: BTreeMap::new() }
    }

    /// Takes the trunks of another table. Those whose interval is as before keep their turn; a new one
    /// has its first within one interval.
    fn follow(&mut self, now: Moment, table: &RoutingTable) {
        let mut before = std::mem::take(&mut self.next);
        for trunk in table.trunks().filter(|trunk| trunk.enabled) {
            let Some(interval) = trunk.path.datagram_keepalive else { continue };
            let kept = before.remove(&trunk.id).filter(|(own, _)| *own == interval);
            let first =
                || (interval, now + interval.mul_f64(self.random.below(100) as f64 / 100.0));
            let turn = kept.unwrap_or_else(first);
            self.next.insert(trunk.id, turn);
        }
    }

    fn deadline(&self) -> Option<Moment> {
        self.next.values().map(|(_, at)| *at).min()
    }

    /// The trunks whose turn it is; each has its next one now.
    fn due(&mut self, now: Moment) -> Vec<TrunkId> {
        let mut due = Vec::new();
        for (id, (interval, at)) in self.next.iter_mut().filter(|(_, (_, at))| *at <= now) {
            let percent = 100 - self.random.below(JITTER_PERCENT + 1);
            *at = now + interval.mul_f64(percent as f64 / 100.0);
            due.push(*id);
        }
        due
    }
}

/// Sends one datagram to each address that the trunk's requests go to by UDP.
async fn round(switch: Arc<Switch>, trunk: TrunkId) {
    let table = switch.table.load_full();
    let Some(trunk) = table.trunk(trunk) else { return };
    let mut told = BTreeSet::new();
    for flow in flows(&switch, trunk).await {
        // The socket and the address: both make the way back.
        if told.len() < KEEPALIVE_ADDRESSES_MAX && told.insert((flow.id, flow.remote)) {
            let sent = switch.flows.send(&flow, Bytes::from_static(PING));
            let word = if sent.is_ok() { "sent" } else { "failed" };
            metric::labelled(Counter::SipKeepalives, word).increment(1);
        }
    }
}

/// The ways by UDP that the trunk's requests take: that of its registration, and those to each address
/// of its gateways.
async fn flows(switch: &Switch, trunk: &Arc<Trunk>) -> Vec<Flow> {
    let is_datagram = |flow: &Flow| flow.transport == Transport::Udp;
    let registered = switch.registry.registered_way(trunk.id).map(|way| way.flow);
    let mut flows: Vec<Flow> = registered.into_iter().filter(is_datagram).collect();
    let by_registered = trunk.outbound.as_ref().is_some_and(|own| own.via_registered_flow);
    if by_registered && !flows.is_empty() {
        return flows;
    }
    for gateway in trunk.outbound.iter().flat_map(|outbound| &outbound.gateways) {
        let Ok(search) = way::gateway_search(gateway) else { continue };
        // A search that fails opens no way; the calls that need it say so.
        let found = way::locate(&switch.dns, way::named_by(trunk), search).await;
        let found = found.unwrap_or_default();
        let targets = way::permitted(&switch.roots, &trunk.path, found);
        let datagrams = targets.iter().filter(|target| target.transport == Transport::Udp);
        for target in datagrams.take(KEEPALIVE_ADDRESSES_MAX) {
            let at = Some(target.address.ip());
            let listener = switch.listener_for(Some(trunk), Transport::Udp, at);
            let to = way::destination(&trunk.path, target, listener);
            flows.extend(switch.flows.connect(&to));
        }
    }
    flows
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::switch::tests::Nobody;
    use crate::engine::switch::tests::idle;
    use crate::net::dns::tests::Server;
    use crate::routing::outbound::tests::trunk;
    use crate::routing::table::Contents;
    use uuid::Uuid;

    fn table(seconds: &[u64]) -> RoutingTable {
        let trunks = seconds.iter().zip(1..).map(|(seconds, id)| {
            let mut trunk = Trunk::new(TrunkId::from_uuid(Uuid::from_u128(id)), "t", Vec::new());
            trunk.path.datagram_keepalive = Some(Duration::from_secs(*seconds));
            trunk
        });
        RoutingTable::new(Contents { trunks: trunks.collect(), ..Contents::default() })
    }

    #[test]
    fn rounds_come_a_little_early_and_trunks_do_not_stay_together() {
        let mut rounds = Rounds::new(Random::from_seed(7));
        rounds.follow(Moment::START, &table(&[30; 50]));
        let mut last = BTreeMap::new();
        let mut together = 0;
        for _ in 0..2_000 {
            let now = rounds.deadline().unwrap();
            let due = rounds.due(now);
            together += due.len() - 1;
            for id in due {
                if let Some(before) = last.insert(id, now) {
                    let between = now.since(before);
                    let (least, most) = (Duration::from_secs(24), Duration::from_secs(30));
                    assert!((least..=most).contains(&between), "{between:?}");
                }
            }
        }
        assert_eq!(last.len(), 50);
        assert!(together < 1_000, "{together}");
    }

    #[tokio::test]
    async fn the_names_of_a_tenants_own_trunk_are_looked_up_as_the_tenants() {
        let server = Server::start().await;
        let mut switch = idle(Arc::new(Nobody), 21_400..=21_403);
        switch.dns = server.dns_of_the_operator();
        let mut own = trunk(1, |_| {});
        own.path.is_tenants = true;
        drop(flows(&switch, &Arc::new(own)).await);
        assert_eq!(server.asked(), 0);
        drop(flows(&switch, &Arc::new(trunk(2, |_| {}))).await);
        assert!(server.asked() > 0, "the operator's");
    }

    #[tokio::test]
    async fn slow_names_of_a_tenant_hold_up_no_rounds_of_others() {
        let switch = idle(Arc::new(Nobody), 22_408..=22_411);
        // Many of one tenant's, some of another's, some of the operator's.
        let trunks = (1..=640).chain(1_001..=1_004).chain(2_001..=2_010).map(|id| {
            let owner = (id < 2_000).then(|| TenantId::from_uuid(Uuid::from_u128(id / 1_000)));
            Trunk { tenant: owner, ..trunk(id, |_| {}) }
        });
        let table = RoutingTable::new(Contents { trunks: trunks.collect(), ..Contents::default() });
        let mut sending = Sending::new(Arc::new(switch));
        let ids = |ids: std::ops::RangeInclusive<u128>| {
            ids.map(|id| TrunkId::from_uuid(Uuid::from_u128(id))).collect::<Vec<_>>()
        };
        // None of them is over before this waits for one.
        sending.line_up(&table, ids(1..=640));
        assert_eq!(sending.rounds.len(), KEEPALIVE_ROUNDS_OF_TENANT_MAX);
        sending.line_up(&table, ids(1_001..=1_004));
        sending.line_up(&table, ids(2_001..=2_010));
        assert_eq!(sending.rounds.len(), KEEPALIVE_ROUNDS_OF_TENANT_MAX + 14, "all at once");
        // Each place that is given back is the next one's; no round is left out.
        while let Some(ended) = sending.rounds.join_next_with_id().await {
            sending.ended(ended.expect("no fault").0);
        }
        assert!(sending.owners.is_empty());
        assert!(!ids(1..=640).iter().any(|trunk| sending.turns.waits(trunk)));
    }

    #[tokio::test]
    async fn a_trunk_has_one_round_at_a_time_and_none_once_it_is_disabled() {
        let tenant = Some(TenantId::from_uuid(Uuid::from_u128(1)));
        let trunks = |enabled: bool| {
            let own = |id| Trunk { tenant, enabled, ..trunk(id, |_| {}) };
            let trunks = (1..=20).map(own).collect();
            RoutingTable::new(Contents { trunks, ..Contents::default() })
        };
        let (table, id) = (trunks(true), |n| TrunkId::from_uuid(Uuid::from_u128(n)));
        let mut sending = Sending::new(Arc::new(idle(Arc::new(Nobody), 22_424..=22_427)));
        // None of them is over before this waits for one.
        for _ in 0..10 {
            sending.line_up(&table, vec![id(1)]);
        }
        assert_eq!((sending.rounds.len(), sending.turns.waits(&id(1))), (1, false));
        let ended = sending.rounds.join_next_with_id().await.expect("a round");
        sending.ended(ended.expect("no fault").0);
        sending.line_up(&table, (1..=20).map(id).collect());
        assert_eq!(sending.rounds.len(), KEEPALIVE_ROUNDS_OF_TENANT_MAX, "and then another");
        assert!(sending.turns.waits(&id(20)));
        sending.follow(&trunks(false));
        assert!(!sending.turns.waits(&id(20)));
    }

    /// Nothing that goes wrong may be the last that is heard of a trunk.
    #[tokio::test]
    async fn keep_alives_go_on_for_a_week_whatever_becomes_of_single_rounds() {
        let interval = Duration::from_secs(30);
        let tenant = Some(TenantId::from_uuid(Uuid::from_u128(1)));
        let trunks = (1..=2).map(|id| {
            let mut own = Trunk { tenant, ..trunk(id, |_| {}) };
            own.path.datagram_keepalive = Some(interval);
            own
        });
        let table = RoutingTable::new(Contents { trunks: trunks.collect(), ..Contents::default() });
        let mut sending = Sending::new(Arc::new(idle(Arc::new(Nobody), 22_428..=22_431)));
        let mut rounds = Rounds::new(Random::from_seed(7));
        rounds.follow(Moment::START, &table);
        let week = Moment::START + Duration::from_secs(7 * 86_400);
        let mut last = BTreeMap::new();
        while let Some(now) = rounds.deadline().filter(|at| *at < week) {
            let due = rounds.due(now);
            for id in &due {
                let before = last.insert(*id, now);
                assert!(before.is_none_or(|before| now.since(before) <= interval), "{now:?}");
            }
            let begun = due.len();
            sending.line_up(&table, due);
            assert_eq!(sending.rounds.len(), begun, "{now:?}");
            // Each ends by a fault.
            sending.rounds.abort_all();
            while let Some(ended) = sending.rounds.join_next_with_id().await {
                sending.ended(ended.map_or_else(|fault| fault.id(), |(id, ())| id));
            }
        }
        assert!(last.len() == 2 && last.values().all(|at| week.since(*at) <= interval), "{last:?}");
    }

    #[test]
    fn a_changed_table_moves_only_the_turns_that_changed() {
        let mut rounds = Rounds::new(Random::from_seed(7));
        let now = Moment::START;
        rounds.follow(now, &table(&[30, 30, 30]));
        let before = rounds.next.clone();
        rounds.follow(now + Duration::from_secs(1), &table(&[30, 90]));
        let turns: Vec<_> = rounds.next.values().collect();
        assert_eq!(turns.first(), before.values().collect::<Vec<_>>().first());
        assert_eq!((turns.len(), turns.last().unwrap().0), (2, Duration::from_secs(90)));
        rounds.follow(now, &table(&[]));
        assert_eq!(rounds.deadline(), None);
    }
}
