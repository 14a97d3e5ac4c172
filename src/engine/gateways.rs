//! Watching gateways: OPTIONS when the board asks for one, and a line in the log when one changes.

use crate::clock;
use crate::engine::registry::Registry;
use crate::engine::sip_shard::handle::REQUEST_TRIES_MAX;
use crate::engine::switch::Switch;
use crate::engine::turns::Places;
use crate::engine::turns::Turns;
use crate::engine::way;
use crate::routing::gateway::Gateway;
use crate::routing::gateway_addresses::GatewayAddress;
use crate::routing::gateway_board::Action;
use crate::routing::gateway_board::GatewayKey;
use crate::routing::health::Availability;
use crate::routing::health::Input;
use crate::routing::health::Output;
use crate::routing::health::Probing;
use crate::routing::table::RoutingTable;
use crate::routing::template::Values;
use crate::routing::trunk::Trunk;
use crate::sip::endpoint::event::Token;
use crate::sip::endpoint::flow::Flow;
use crate::sip::endpoint::outbound::OutboundRequest;
use crate::sip::endpoint::told::RequestOutcome;
use crate::sip::locate::LocateError;
use crate::sip::locate::Target;
use crate::sip::message::Response;
use crate::sip::message::method::Method;
use crate::types::header::CallVariables;
use crate::types::id::TenantId;
use crate::types::limit::GATEWAY_PROBES_MAX;
use crate::types::limit::GATEWAY_PROBES_OF_TENANT_MAX;
use crate::types::limit::GATEWAY_PROBES_OF_TENANTS_MAX;
use crate::types::moment::Moment;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::Id;
use tokio::task::JoinSet;

/// Addresses of one gateway that one probe asks, one after the other.
const ADDRESSES_MAX: usize = 4;
/// The rank of addresses that rest.
const RESTS: u8 = 2;
/// The probes under way: mute gateways of a tenant's delay its own alone.
const PLACES: Places = Places {
    all: GATEWAY_PROBES_MAX,
    tenants: GATEWAY_PROBES_OF_TENANTS_MAX,
    tenant: GATEWAY_PROBES_OF_TENANT_MAX,
};
/// The user of our From.
const FROM_USER: &str = "ping";

/// Follows the trunks of the routing table and probes their gateways until `draining` turns true.
/// `changes` tells that the table is another.
pub async fn watch(
    switch: Arc<Switch>,
    mut changes: watch::Receiver<()>,
    mut draining: watch::Receiver<bool>,
) {
    let mut watching = Watching::new(switch);
    watching.turn(true);
    loop {
        let deadline = watching.switch.registry.board_deadline();
        tokio::select! {
            biased;
            // The probes under way end with their set.
            _ = draining.wait_for(|draining| *draining) => return,
            changed = changes.changed() => {
                if changed.is_err() {
                    return;
                }
                watching.turn(true);
            }
            () = watching.switch.registry.board_changed() => watching.turn(false),
            () = sleep_until(deadline) => watching.turn(false),
            Some(ended) = watching.probes.join_next_with_id(), if !watching.probes.is_empty() => {
                // A fault in one ends it too.
                watching.probe_ended(ended.map_or_else(|fault| fault.id(), |(id, ())| id));
            }
        }
    }
}

/// How many gateways stand in each way.
#[must_use]
pub fn count(registry: &Registry) -> [(&'static str, usize); 5] {
    let all = registry.gateways(clock::now());
    Availability::SPELLINGS
        .map(|state| (state, all.iter().filter(|(_, own)| own.as_str() == state).count()))
}

async fn sleep_until(moment: Option<Moment>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(clock::instant(moment).into()).await,
        None => std::future::pending().await,
    }
}

struct Watching {
    switch: Arc<Switch>,
    /// Gateways whose probe waits for its turn.
    turns: Turns<GatewayKey>,
    probes: JoinSet<()>,
    /// Whose places they have.
    owners: HashMap<Id, Option<TenantId>>,
}

impl Watching {
    fn new(switch: Arc<Switch>) -> Self {
        let (probes, owners) = (JoinSet::new(), HashMap::new());
        Self { switch, turns: Turns::new(PLACES), probes, owners }
    }

    /// Moves the board on, to another table where `anew`, and does what it asks for.
    fn turn(&mut self, anew: bool) {
        let table = self.switch.table.load_full();
        if anew {
            self.turns.retain(|key| table.trunk(key.trunk).is_some());
        }
        let mut asked = Vec::new();
        let board = anew.then_some(&*table);
        for action in self.switch.registry.turn_board(clock::now(), board) {
            match action.what {
                Output::Probe => asked.push(action.key),
                Output::Changed(_) => self.log(&action),
            }
        }
        self.line_up(&table, asked);
    }

    /// Has gateways probed as soon as it is their turn.
    fn line_up(&mut self, table: &RoutingTable, asked: Vec<GatewayKey>) {
        for key in &asked {
            let owner = table.trunk(key.trunk).and_then(|trunk| trunk.tenant);
            self.turns.push(owner, key.clone());
        }
        self.begin_probes();
        // One that waits for its turn is not silent.
        for key in asked.iter().filter(|key| self.turns.waits(key)) {
            self.switch.registry.note_probe(clock::now(), key, Input::ProbeUnsent);
        }
    }

    fn begin_probes(&mut self) {
        while let Some((owner, key)) = self.turns.begin() {
            self.switch.registry.note_probe(clock::now(), &key, Input::ProbeBegun);
            let task = self.probes.spawn(probe(Arc::clone(&self.switch), key));
            self.owners.insert(task.id(), owner);
        }
    }

    fn probe_ended(&mut self, id: Id) {
        if let Some(owner) = self.owners.remove(&id) {
            self.turns.end(owner);
        }
        self.begin_probes();
    }

    fn log(&self, action: &Action) {
        let Output::Changed(state) = action.what else { return };
        let table = self.switch.table.load();
        let trunk = table.trunk(action.key.trunk).map_or("", |trunk| trunk.name.as_str());
        let gateway = action.key.gateway.as_str();
        if let Some(address) = action.address {
            let state = state.as_str();
            tracing::info!(trunk, gateway, %address, state, "an address of a gateway changed");
            return;
        }
        match state {
            Availability::Down => {
                tracing::warn!(
                    trunk,
                    gateway,
                    "a gateway does not answer: no calls are sent to it"
                );
            }
            Availability::Throttled(_) => {
                tracing::warn!(trunk, gateway, "a gateway wants fewer calls: it rests");
            }
            Availability::Ready | Availability::Trial | Availability::Cooling(_) => {
                tracing::info!(trunk, gateway, state = state.as_str(), "a gateway changed");
            }
        }
    }
}

/// Probes a gateway and tells the board.
async fn probe(switch: Arc<Switch>, key: GatewayKey) {
    let input = match ask(&switch, &key).await {
        Some(Ok((status, retry_after))) => Input::ProbeAnswered { status, retry_after },
        Some(Err(Unsent)) => Input::ProbeUnsent,
        None => Input::ProbeFailed,
    };
    tracing::debug!(gateway = key.gateway.as_str(), ?input, "a gateway was probed");
    switch.registry.note_probe(clock::now(), &key, input);
}

/// What an answer says: its status, and its Retry-After.
type Said = (u16, Option<Duration>);

/// A probe was not sent: no SIP shard runs, none has room, faults of ours cut it off, or DNS was not asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Unsent;

fn said(response: &Response) -> Said {
    let after = response.headers.retry_after().ok().flatten();
    (response.status, after.map(|after| Duration::from_secs(u64::from(after.delay_s))))
}

/// What the first of a gateway's addresses says that wants calls; else what that says that wants them soonest.
/// Where one wants calls, those that were silent before it are noted to rest: no call need wait for them. `None`: none
/// says anything.
async fn ask(switch: &Arc<Switch>, key: &GatewayKey) -> Option<Result<Said, Unsent>> {
    let table = switch.table.load_full();
    let trunk = table.trunk(key.trunk)?;
    let outbound = trunk.outbound.as_ref()?;
    let probing = outbound.health.probing.as_ref()?;
    let gateway = outbound.gateways.iter().find(|gateway| gateway.name == key.gateway)?;
    let registered =
        outbound.via_registered_flow.then(|| switch.registry.registered_way(trunk.id)).flatten();
    if let Some(way) = registered {
        let request = Asked { switch, trunk, gateway, probing };
        let answer = request.by(way.flow, way.routes, probing.timeout).await?;
        return Some(answer.map(|response| said(&response)));
    }
    let search = way::gateway_search(gateway).ok()?;
    let found = match way::locate(&switch.dns, way::named_by(trunk), search).await {
        Ok(found) => found,
        // No fault of the gateway.
        Err(LocateError::TooMany) => return Some(Err(Unsent)),
        Err(_) => return None,
    };
    let targets = in_order(switch, key, way::permitted(&switch.roots, &trunk.path, found));
    // All of them together have the time that the profile gives.
    let patience = probing.timeout / u32::try_from(targets.len().max(1)).unwrap_or(1);
    let mut round = Round { cooldown: outbound.health.cooldown, ..Round::default() };
    for (target, takes_calls) in &targets {
        let address = GatewayAddress { address: target.address, transport: target.transport };
        let request = Asked { switch, trunk, gateway, probing };
        let said = match request.at(target, patience).await {
            Some(Ok(response)) => Some(said(&response)),
            Some(Err(unsent)) => return Some(Err(unsent)),
            None => None,
        };
        let (notes, end) = round.hear((address, *takes_calls), said);
        for (address, input) in notes {
            switch.registry.note_address(clock::now(), (key, address), input);
        }
        if end.is_some() {
            return end.map(Ok);
        }
    }
    round.refusal.map(Ok)
}

/// What the addresses of a gateway say that are asked in one probe.
#[derive(Debug, Default)]
struct Round {
    silent: Vec<GatewayAddress>,
    /// What that one said that wants calls soonest, of those that want none.
    refusal: Option<Said>,
    /// The rest of one that does not say how long.
    cooldown: Duration,
}

impl Round {
    /// Takes what an address said, that takes calls or not; `None`: nothing. Gives what is to be noted of
    /// addresses, and what the gateway says, once one of them wants calls.
    fn hear(
        &mut self,
        (address, takes_calls): (GatewayAddress, bool),
        said: Option<Said>,
    ) -> (Vec<(GatewayAddress, Input)>, Option<Said>) {
        let Some((status, retry_after)) = said else {
            self.silent.push(address);
            return (Vec::new(), None);
        };
        if status == 503 {
            let rest = retry_after.unwrap_or(self.cooldown);
            let soonest = self.refusal.and_then(|(_, rest)| rest).unwrap_or(rest);
            self.refusal = Some((status, Some(rest.min(soonest))));
            return (vec![(address, Input::Throttled { retry_after })], None);
        }
        // Of a gateway that would have nobody left a single silence says little.
        let silent = std::mem::take(&mut self.silent).into_iter().filter(|_| takes_calls);
        let failed = |address| (address, Input::CallFailed { retry_after: None });
        (silent.map(failed).collect(), said)
    }
}

/// The addresses to ask, and whether they take calls: those first that only one call would try, so that none
/// has to; those that rest last.
fn in_order(switch: &Switch, key: &GatewayKey, mut targets: Vec<Target>) -> Vec<(Target, bool)> {
    let address = |own: &Target| GatewayAddress { address: own.address, transport: own.transport };
    let found = targets.iter().map(address).collect();
    let standing = switch.registry.find_addresses(clock::now(), key, found);
    let rank = |target: &Target| {
        let own = standing.iter().find(|(other, _)| *other == address(target));
        match own.map_or(Availability::Ready, |(_, state)| *state) {
            Availability::Trial => 0,
            Availability::Ready => 1,
            Availability::Cooling(_) | Availability::Throttled(_) | Availability::Down => RESTS,
        }
    };
    targets.sort_by_key(rank);
    let ranked = targets.into_iter().take(ADDRESSES_MAX).map(|target| {
        let takes_calls = rank(&target) < RESTS;
        (target, takes_calls)
    });
    ranked.collect()
}

/// What an OPTIONS is made of.
struct Asked<'a> {
    switch: &'a Arc<Switch>,
    trunk: &'a Arc<Trunk>,
    gateway: &'a Gateway,
    probing: &'a Probing,
}

impl Asked<'_> {
    async fn at(
        &self,
        target: &Target,
        patience: Duration,
    ) -> Option<Result<Arc<Response>, Unsent>> {
        let switch = self.switch;
        let listener =
            switch.listener_for(Some(self.trunk), target.transport, Some(target.address.ip()));
        let to = way::destination(&self.trunk.path, target, listener);
        let flow = switch.flows.connect(&to).ok()?;
        let loose = self.gateway.proxy.as_ref().filter(|proxy| proxy.loose_route);
        self.by(flow, loose.map(ToString::to_string).into_iter().collect(), patience).await
    }

    async fn by(
        &self,
        flow: Flow,
        routes: Vec<String>,
        patience: Duration,
    ) -> Option<Result<Arc<Response>, Unsent>> {
        let _expected = self.switch.registry.expect_from(flow.remote.ip());
        for _ in 0..REQUEST_TRIES_MAX {
            let Some((call_id, shard)) = self.switch.new_call_id() else { break };
            let mut request = OutboundRequest {
                call_id: Some(call_id),
                contact_user: Some(String::new()),
                advertised: self.trunk.path.advertised.clone(),
                routes: routes.clone(),
                patience,
                ..OutboundRequest::new(Token(0), flow, Method::Options, &self.uri())
            };
            request.from = format!("sip:{FROM_USER}@{}", self.own_host());
            let Some(answer) = shard.request(Box::new(request)).await else { continue };
            match answer.outcome {
                RequestOutcome::Answered(response) => return Some(Ok(response)),
                RequestOutcome::TimedOut
                | RequestOutcome::Unreachable
                | RequestOutcome::Unwritable => return None,
                // Another shard may have room.
                RequestOutcome::Full => {}
            }
        }
        Some(Err(Unsent))
    }

    fn uri(&self) -> String {
        let uri = &self.gateway.uri;
        let at = if self.probing.request_user.is_empty() { "" } else { "@" };
        let mut text = format!("sip:{}{at}{}", self.probing.request_user, uri.host);
        if let Some(port) = uri.port {
            text = format!("{text}:{port}");
        }
        text
    }

    fn own_host(&self) -> String {
        let values = Values {
            caller: "",
            called: "",
            gateway_host: &self.gateway.uri.host,
            from_host: "",
            area_code: &self.trunk.jurisdiction.area_code,
            call_id: "",
            variables: &CallVariables::default(),
            trace: None,
        };
        let form = self.trunk.outbound.as_ref().map(|outbound| &outbound.form);
        form.and_then(|form| form.from_host.fill(&values))
            .filter(|host| !host.is_empty())
            .unwrap_or_else(|| self.gateway.uri.host.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::sip_shard::lives::Node;
    use crate::engine::sip_shard::lives::answer;
    use crate::engine::sip_shard::lives::field;
    use crate::engine::switch::tests::Nobody;
    use crate::engine::switch::tests::idle;
    use crate::net::dns::tests::Server;
    use crate::routing::contents::Contents;
    use crate::routing::health::AliveCodes;
    use crate::routing::outbound::tests::gateway;
    use crate::routing::outbound::tests::tenant_id;
    use crate::routing::outbound::tests::trunk;
    use crate::routing::outbound::tests::trunk_id;
    use crate::types::id::TrunkId;
    use crate::types::transport::Transport;
    use arc_swap::ArcSwap;
    use std::net::SocketAddr;
    use uuid::Uuid;

    fn address(last: u8) -> GatewayAddress {
        let address = SocketAddr::from(([192, 0, 2, last], 5_060));
        GatewayAddress { address, transport: Transport::Udp }
    }

    fn seconds(s: u64) -> Option<Duration> {
        Some(Duration::from_secs(s))
    }

    fn round() -> Round {
        Round { cooldown: Duration::from_secs(30), ..Round::default() }
    }

    #[tokio::test]
    async fn a_probe_that_a_fault_of_its_shard_cut_off_goes_once_more() {
        let node = Node::start(21_354..=21_357).await;
        let at = node.peer.local_addr().unwrap();
        let switch = Arc::clone(&node.switch);
        let id = TrunkId::from_uuid(Uuid::from_u128(2));
        let asking = tokio::spawn(async move {
            let trunk = Arc::new(Trunk::new(id, "acme", Vec::new()));
            let probing = Probing {
                interval: Duration::from_secs(30),
                timeout: Duration::from_secs(30),
                down_after: 1,
                up_after: 1,
                alive: AliveCodes::Any,
                request_user: String::new(),
            };
            let gateway = gateway("a", 10);
            let probe =
                Asked { switch: &switch, trunk: &trunk, gateway: &gateway, probing: &probing };
            let target =
                Target { transport: Transport::Udp, address: at, server_name: String::new() };
            probe.at(&target, probing.timeout).await
        });
        let first = node.hears("OPTIONS", "").await;
        node.strike().await;
        let again = loop {
            let heard = node.hears("OPTIONS", "").await;
            // What the first shard said again before its end may still be on its way.
            if field(&heard, "Call-ID") != field(&first, "Call-ID") {
                break heard;
            }
        };
        node.says(&answer(&again, "200 OK", at)).await;
        let heard = asking.await.expect("it ends");
        assert_eq!(heard.map(|answer| answer.map(|response| response.status)), Some(Ok(200)));
    }

    #[tokio::test]
    async fn a_probe_that_no_shard_sends_says_nothing_of_its_gateway() {
        let node = Node::start(21_366..=21_369).await;
        // Until its shard stays down.
        for _ in 0..16 {
            node.strike().await;
            if node.switch.new_call_id().is_none() {
                break;
            }
        }
        let id = TrunkId::from_uuid(Uuid::from_u128(2));
        let trunk = Arc::new(Trunk::new(id, "acme", Vec::new()));
        let probing = Probing {
            interval: Duration::from_secs(30),
            timeout: Duration::from_secs(30),
            down_after: 1,
            up_after: 1,
            alive: AliveCodes::Any,
            request_user: String::new(),
        };
        let gateway = gateway("a", 10);
        let probe =
            Asked { switch: &node.switch, trunk: &trunk, gateway: &gateway, probing: &probing };
        let at = node.peer.local_addr().unwrap();
        let target = Target { transport: Transport::Udp, address: at, server_name: String::new() };
        let heard = probe.at(&target, probing.timeout).await;
        assert!(matches!(heard, Some(Err(Unsent))), "{heard:?}");
    }

    /// Where there was no room to ask DNS for a name of a tenant's, that says nothing of its gateway.
    #[tokio::test]
    async fn the_names_of_a_tenants_own_trunk_are_looked_up_as_the_tenants() {
        let server = Server::start().await;
        let mut switch = idle(Arc::new(Nobody), 21_404..=21_407);
        switch.dns = server.dns_of_the_operator();
        let [mut tenants, operators] = [1, 2].map(|id| {
            trunk(id, |outbound| {
                outbound.health.probing = Some(Probing {
                    interval: Duration::from_secs(30),
                    timeout: Duration::from_secs(30),
                    down_after: 1,
                    up_after: 1,
                    alive: AliveCodes::Any,
                    request_user: String::new(),
                });
            })
        });
        tenants.path.is_tenants = true;
        let contents = Contents { trunks: vec![tenants, operators], ..Contents::default() };
        switch.table = Arc::new(ArcSwap::from_pointee(RoutingTable::new(contents)));
        let switch = Arc::new(switch);
        let key = |id| GatewayKey { trunk: trunk_id(id), gateway: "a".parse().unwrap() };
        let said = ask(&switch, &key(1)).await;
        assert!(matches!(said, Some(Err(Unsent))), "{said:?}");
        assert_eq!(server.asked(), 0);
        let said = ask(&switch, &key(2)).await;
        assert!(server.asked() > 0, "the operator's: {said:?}");
    }

    #[tokio::test]
    async fn mute_gateways_of_a_tenant_hold_up_no_probe_of_others() {
        let switch = idle(Arc::new(Nobody), 21_416..=21_419);
        let trunks = [(1, None), (2, Some(1)), (3, Some(2))]
            .map(|(id, owner)| Trunk { tenant: owner.map(tenant_id), ..trunk(id, |_| {}) });
        let contents = Contents { trunks: trunks.into(), ..Contents::default() };
        let table = RoutingTable::new(contents);
        let mut watching = Watching::new(Arc::new(switch));
        let keys = |trunk, count: usize| {
            let name = |n: usize| format!("g{n}").parse().unwrap();
            let key = |n| GatewayKey { trunk: trunk_id(trunk), gateway: name(n) };
            (0..count).map(key).collect::<Vec<_>>()
        };
        // None of them is over before this waits for one.
        watching.line_up(&table, keys(2, 6_400));
        let mut under_way = GATEWAY_PROBES_OF_TENANT_MAX;
        assert_eq!(watching.probes.len(), under_way);
        for (trunk, count) in [(1, 100), (3, 10)] {
            watching.line_up(&table, keys(trunk, count));
            under_way += count;
            assert_eq!(watching.probes.len(), under_way, "all at once");
        }
        // Each place that is given back is the next one's.
        while let Some(ended) = watching.probes.join_next_with_id().await {
            watching.probe_ended(ended.expect("no fault").0);
        }
        assert!(watching.owners.is_empty());
        assert!(!keys(2, 6_400).iter().any(|key| watching.turns.waits(key)));
    }

    /// One that waits for its turn for longer than an answer may take is as well as before.
    #[tokio::test]
    async fn a_gateway_is_not_silent_while_its_probe_waits() {
        let mut switch = idle(Arc::new(Nobody), 21_420..=21_423);
        let mut own = trunk(1, |outbound| {
            outbound.gateways = (0..2 * GATEWAY_PROBES_OF_TENANT_MAX)
                .map(|n| gateway(&format!("g{n}"), 1))
                .collect();
            outbound.health.probing = Some(Probing {
                interval: Duration::from_secs(1),
                timeout: Duration::from_secs(1),
                down_after: 1,
                up_after: 1,
                alive: AliveCodes::Any,
                request_user: String::new(),
            });
        });
        own.tenant = Some(tenant_id(1));
        let contents = Contents { trunks: vec![own], ..Contents::default() };
        switch.table = Arc::new(ArcSwap::from_pointee(RoutingTable::new(contents)));
        let mut watching = Watching::new(Arc::new(switch));
        let down = |watching: &Watching, late: Duration| {
            let all = watching.switch.registry.gateways(clock::now() + late);
            all.into_iter().filter(|(_, state)| *state == Availability::Down).count()
        };
        let table = watching.switch.table.load_full();
        let board = |watching: &Watching, late: Duration| {
            let later = clock::now() + late;
            watching.switch.registry.turn_board(later, Some(&*table))
        };
        let late = Duration::from_secs(2);
        board(&watching, Duration::ZERO);
        let asked: Vec<_> = board(&watching, late).into_iter().map(|action| action.key).collect();
        assert_eq!(asked.len(), 2 * GATEWAY_PROBES_OF_TENANT_MAX);
        watching.line_up(&table, asked);
        assert_eq!(watching.probes.len(), GATEWAY_PROBES_OF_TENANT_MAX);
        drop(board(&watching, 10 * late));
        assert_eq!(
            down(&watching, 10 * late),
            GATEWAY_PROBES_OF_TENANT_MAX,
            "those that were asked"
        );
    }

    #[test]
    fn addresses_that_are_silent_rest_where_another_answers_and_takes_calls() {
        let failed = Input::CallFailed { retry_after: None };
        for (takes_calls, noted) in [(true, vec![(address(1), failed)]), (false, vec![])] {
            let mut round = round();
            assert_eq!(round.hear((address(1), true), None), (vec![], None));
            let answer = Some((404, None));
            assert_eq!(round.hear((address(2), takes_calls), answer), (noted, answer));
        }
        // Nobody answers: that is for the count of the gateway's probes.
        let mut round = round();
        for last in 1..4 {
            assert_eq!(round.hear((address(last), true), None), (vec![], None));
        }
        assert_eq!(round.refusal, None);
    }

    #[test]
    fn an_address_that_wants_no_calls_rests_and_the_next_is_asked() {
        let mut round = round();
        for (last, retry_after) in [(1, seconds(60)), (2, seconds(7)), (3, None)] {
            let noted = vec![(address(last), Input::Throttled { retry_after })];
            let said = Some((503, retry_after));
            assert_eq!(round.hear((address(last), true), said), (noted, None));
        }
        // All want none: the gateway rests until the first does.
        assert_eq!(round.refusal, Some((503, seconds(7))));
        let answer = Some((200, None));
        assert_eq!(round.hear((address(4), true), answer), (vec![], answer));
    }
}
