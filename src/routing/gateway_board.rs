//! `GatewayBoard`: the health of every gateway of every trunk that calls out.

use crate::routing::gateway::Gateway;
use crate::routing::gateway_addresses::GatewayAddress;
use crate::routing::gateway_addresses::GatewayAddresses;
use crate::routing::gateway_places::GatewayPlaces;
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
use std::net::IpAddr;
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
    /// Of its addresses this one alone.
    pub address: Option<GatewayAddress>,
    /// What.
    pub what: health::Output,
}

/// The health of all gateways. A gateway it does not know counts as ready: it is new.
#[derive(Debug)]
pub struct GatewayBoard {
    gateways: BTreeMap<GatewayKey, Watched>,
    trunks: BTreeMap<TrunkId, TrunkStanding>,
    /// Where those are that the operator names.
    places: GatewayPlaces,
    random: Random,
}

/// Another call tries the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrialTaken;

#[derive(Debug)]
struct Watched {
    gateway: Arc<Gateway>,
    health: GatewayHealth,
    addresses: GatewayAddresses,
    /// Until when it is known where it is, all of its addresses; `None`: nobody asked for them all.
    known_until: Option<Moment>,
    /// A tenant names it.
    is_tenants: bool,
}

/// How long a gateway counts as where it was found. Then it is asked for again, and DNS says what still holds.
const KNOWN_FOR: Duration = Duration::from_secs(60);

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
        let places = GatewayPlaces::new();
        Self { gateways: BTreeMap::new(), trunks: BTreeMap::new(), places, random }
    }

    /// Takes over the trunks of `table`: new gateways begin to be watched, those that are gone are
    /// forgotten, the others keep what is known of them unless they lead elsewhere now.
    pub fn follow(&mut self, now: Moment, table: &RoutingTable, out: &mut Vec<Action>) {
        let mut old = std::mem::take(&mut self.gateways);
        let mut standings = std::mem::take(&mut self.trunks);
        self.places = GatewayPlaces::new();
        for trunk in table.trunks().filter(|trunk| trunk.enabled) {
            let Some(outbound) = &trunk.outbound else { continue };
            self.trunks.insert(trunk.id, standings.remove(&trunk.id).unwrap_or_default());
            for gateway in &outbound.gateways {
                let key = GatewayKey { trunk: trunk.id, gateway: gateway.name.clone() };
                let known = old.remove(&key).filter(|known| {
                    (&known.gateway.uri, &known.gateway.proxy) == (&gateway.uri, &gateway.proxy)
                });
                let mut outputs = Vec::new();
                let mut watched = self.watch(now, known, (gateway, outbound), &mut outputs);
                watched.is_tenants = trunk.path.is_tenants;
                extend(out, &key, outputs);
                self.note_places(&key, &watched);
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
        if let Some(mut known) = known {
            if *known.health.policy() != outbound.health {
                known.health.set_policy(now, outbound.health.clone());
            }
            return Watched { gateway, ..known };
        }
        let random = Random::from_seed(self.random.next_u64());
        let mut health = GatewayHealth::new(outbound.health.clone(), random);
        health.handle(now, Input::Started, outputs);
        let addresses = GatewayAddresses::default();
        Watched { gateway, health, addresses, known_until: None, is_tenants: false }
    }

    /// Takes note of where a gateway is, as far as its text or DNS has told. What a tenant names is no word of where
    /// carriers are: it may name any address.
    fn note_places(&mut self, key: &GatewayKey, watched: &Watched) {
        if watched.is_tenants {
            return;
        }
        let named = written_address(&watched.gateway);
        let found = watched.addresses.all().iter().map(|own| own.address.ip());
        for address in found.chain(named) {
            self.places.put(key, address);
        }
    }

    /// The trunks that have a gateway at `address` which the operator names, each as often as it has.
    pub fn trunks_at(&self, address: IpAddr) -> impl Iterator<Item = TrunkId> {
        self.places.trunks_at(address)
    }

    /// The gateways that the operator names by a name which was not found yet, or not lately, or of which DNS did not
    /// tell all: nobody knows where they are.
    pub fn unfound(&self, now: Moment) -> impl Iterator<Item = (&GatewayKey, &Arc<Gateway>)> {
        let unfound = self.gateways.iter().filter(move |(_, own)| own.is_unfound(now));
        unfound.map(|(key, own)| (key, &own.gateway))
    }

    /// Tells a gateway something. One it does not know is left alone.
    pub fn handle(&mut self, now: Moment, key: &GatewayKey, input: Input, out: &mut Vec<Action>) {
        let Some(watched) = self.gateways.get_mut(key) else { return };
        let mut outputs = Vec::new();
        watched.health.handle(now, input, &mut outputs);
        extend(out, key, outputs);
    }

    /// Tells a gateway what became of a call, or of a probe, at one of its addresses. While another of them
    /// takes calls a failure is that address's own; else the gateway rests until one does.
    pub fn handle_at(
        &mut self,
        now: Moment,
        (key, address): (&GatewayKey, GatewayAddress),
        input: Input,
        out: &mut Vec<Action>,
    ) {
        let Some(watched) = self.gateways.get_mut(key) else { return };
        let before = watched.addresses.availability(now, address);
        let cooldown = watched.health.policy().cooldown;
        watched.addresses.note(now, address, (input, cooldown));
        let after = watched.addresses.availability(now, address);
        let rest = || watched.addresses.all_rest_until(now, address).map(|until| until.since(now));
        let told = match input {
            Input::CallFailed { .. } => {
                rest().map(|rest| Input::CallFailed { retry_after: Some(rest) })
            }
            Input::Throttled { .. } => {
                rest().map(|rest| Input::Throttled { retry_after: Some(rest) })
            }
            Input::Started
            | Input::ProbeBegun
            | Input::ProbeAnswered { .. }
            | Input::ProbeFailed
            | Input::ProbeUnsent
            | Input::CallSent
            | Input::CallServed
            | Input::CallLeft
            | Input::DeadlineReached => Some(input),
        };
        match told {
            Some(told) => self.handle(now, key, told, out),
            // What becomes of all of them is told of the gateway.
            None if std::mem::discriminant(&before) != std::mem::discriminant(&after) => {
                let (address, what) = (Some(address), health::Output::Changed(after));
                out.push(Action { key: key.clone(), address, what });
            }
            None => {}
        }
    }

    /// Takes the place of the one call that tries a gateway after its rest, as soon as that call is about to go
    /// there: it may wait for DNS, for its offer and for its turn, and others are planned meanwhile. Gives until
    /// when it has the place; `None`: the gateway needs no trial.
    ///
    /// # Errors
    /// Another call has it.
    pub fn take_trial(
        &mut self,
        now: Moment,
        key: &GatewayKey,
        out: &mut Vec<Action>,
    ) -> Result<Option<Moment>, TrialTaken> {
        let Some(health) = self.gateways.get(key).map(|watched| &watched.health) else {
            return Ok(None);
        };
        if health.trial_until(now).is_some() {
            return Err(TrialTaken);
        }
        if health.availability(now) != Availability::Trial {
            return Ok(None);
        }
        self.handle(now, key, Input::CallSent, out);
        Ok(self.gateways.get(key).and_then(|watched| watched.health.trial_until(now)))
    }

    /// Gives that place back; nothing changes where the call's fate has decided of it.
    pub fn leave_trial(
        &mut self,
        now: Moment,
        (key, until): (&GatewayKey, Moment),
        out: &mut Vec<Action>,
    ) {
        let watched = self.gateways.get(key);
        if watched.is_some_and(|watched| watched.health.trial_until(now) == Some(until)) {
            self.handle(now, key, Input::CallLeft, out);
        }
    }

    /// Has a call go to one address of a gateway, if that takes it; how it stood before.
    pub fn take_address(
        &mut self,
        now: Moment,
        (key, address): (&GatewayKey, GatewayAddress),
        out: &mut Vec<Action>,
    ) -> Availability {
        let Some(watched) = self.gateways.get(key) else { return Availability::Ready };
        let state = watched.addresses.availability(now, address);
        if state.takes_calls() {
            self.handle_at(now, (key, address), Input::CallSent, out);
        }
        state
    }

    /// Takes note that a gateway has these addresses, and says how each of them stands, in the same order.
    pub fn find_addresses(
        &mut self,
        now: Moment,
        key: &GatewayKey,
        found: Vec<GatewayAddress>,
    ) -> Vec<(GatewayAddress, Availability)> {
        let Some(watched) = self.gateways.get_mut(key) else {
            return found.into_iter().map(|address| (address, Availability::Ready)).collect();
        };
        let stand =
            |address: &GatewayAddress| (*address, watched.addresses.availability(now, *address));
        let standing = found.iter().map(stand).collect();
        if !watched.is_tenants {
            self.places.move_on(key, watched.addresses.all(), &found);
        }
        // It may have left them, or DNS did not tell all this time.
        if watched.addresses.all().iter().any(|own| !found.contains(own)) {
            watched.known_until = None;
        }
        watched.addresses.find(now, found);
        standing
    }

    /// Takes note that these are all the addresses of a gateway: no question for them is open.
    pub fn find_all(&mut self, now: Moment, key: &GatewayKey, found: Vec<GatewayAddress>) {
        let _standing = self.find_addresses(now, key, found);
        if let Some(watched) = self.gateways.get_mut(key) {
            watched.known_until = Some(now + KNOWN_FOR);
        }
    }

    /// The addresses of a gateway that are not ready, with how they stand.
    pub fn unready_addresses(
        &self,
        now: Moment,
        key: &GatewayKey,
    ) -> impl Iterator<Item = (GatewayAddress, Availability)> {
        let watched = self.gateways.get(key).into_iter();
        watched.flat_map(move |watched| watched.addresses.unready(now))
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

fn extend(out: &mut Vec<Action>, key: &GatewayKey, outputs: Vec<health::Output>) {
    let action = |what| Action { key: key.clone(), address: None, what };
    out.extend(outputs.into_iter().map(action));
}

impl Watched {
    fn is_unfound(&self, now: Moment) -> bool {
        let is_known = self.is_tenants || self.known_until.is_some_and(|until| now < until);
        !is_known && written_address(&self.gateway).is_none()
    }
}

/// The address of a gateway that is named by one.
fn written_address(gateway: &Gateway) -> Option<IpAddr> {
    gateway.next_hop().host.trim_matches(['[', ']']).parse().ok()
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
            board.handle(now, &key(name), Input::CallFailed { retry_after: None }, &mut out);
        }
        let moved = table(|outbound| {
            if let Some(gateway) = outbound.gateways.first_mut() {
                Arc::make_mut(gateway).uri.host = "elsewhere.example".into();
            }
        });
        board.follow(now, &moved, &mut out);
        assert_eq!(board.availability(now, &key("a")), Availability::Ready);
        assert!(board.availability(now, &key("b")).rests());
        board.follow(now, &RoutingTable::default(), &mut out);
        assert_eq!(board.all(now).count(), 0);
        assert_eq!(board.availability(now, &key("b")), Availability::Ready);
    }

    #[test]
    fn a_gateway_is_found_once_all_its_addresses_are_and_for_a_while() {
        let mut board = GatewayBoard::new(Random::from_seed(1));
        let (now, mut out) = (Moment::START, Vec::new());
        board.follow(now, &table(|_| {}), &mut out);
        let is_unfound =
            |board: &GatewayBoard, at: Moment| board.unfound(at).any(|(own, _)| *own == key("a"));
        let (one, two) = (address(1), address(2));
        let _standing = board.find_addresses(now, &key("a"), vec![one]);
        assert!(is_unfound(&board, now), "a call found one of them");
        board.find_all(now, &key("a"), vec![one, two]);
        assert!(!is_unfound(&board, now));
        let _standing = board.find_addresses(now, &key("a"), vec![two, one]);
        assert!(!is_unfound(&board, now));
        let _standing = board.find_addresses(now, &key("a"), vec![one]);
        assert!(is_unfound(&board, now), "where it was it may be still");
        board.find_all(now, &key("a"), vec![one, two]);
        assert!(is_unfound(&board, now + KNOWN_FOR), "DNS may say something else by then");
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

    fn address(last: u8) -> GatewayAddress {
        let address = std::net::SocketAddr::from(([192, 0, 2, last], 5_060));
        GatewayAddress { address, transport: crate::types::transport::Transport::Udp }
    }

    #[test]
    fn a_dead_address_rests_alone_while_its_gateway_goes_on_by_the_others() {
        let mut board = GatewayBoard::new(Random::from_seed(1));
        let (now, mut out) = (Moment::from_millis(1_000), Vec::new());
        board.follow(now, &table(|_| {}), &mut out);
        let (one, two) = (address(1), address(2));
        let found = board.find_addresses(now, &key("a"), vec![one, two]);
        assert!(found.iter().all(|(_, state)| *state == Availability::Ready));
        out.clear();
        board.handle_at(now, (&key("a"), one), Input::CallFailed { retry_after: None }, &mut out);
        let rest = Availability::Cooling(now + Duration::from_secs(30));
        let told = Action { key: key("a"), address: Some(one), what: Output::Changed(rest) };
        assert_eq!(out, [told]);
        assert_eq!(board.availability(now, &key("a")), Availability::Ready);
        let found = board.find_addresses(now, &key("a"), vec![two, one]);
        assert_eq!(found, [(two, Availability::Ready), (one, rest)]);
        assert_eq!(board.unready_addresses(now, &key("a")).collect::<Vec<_>>(), [(one, rest)]);

        // The other one asks for a rest too: now the gateway has none, until the first is back.
        let now = now + Duration::from_secs(1);
        let retry_after = Some(Duration::from_secs(5));
        board.handle_at(now, (&key("a"), two), Input::Throttled { retry_after }, &mut out);
        let until = now + Duration::from_secs(5);
        assert_eq!(board.availability(now, &key("a")), Availability::Throttled(until));
        assert_eq!(board.availability(until, &key("a")), Availability::Ready);
        assert_eq!(board.availability(now, &key("b")), Availability::Ready, "not its own");
        // Another call that serves is the word of the gateway.
        board.handle_at(until, (&key("a"), two), Input::CallServed, &mut out);
        let found = board.find_addresses(until, &key("a"), vec![one, two]);
        assert_eq!(found, [(one, rest), (two, Availability::Ready)]);
    }

    fn are_at(board: &GatewayBoard, address: &str) -> usize {
        board.trunks_at(address.parse().unwrap()).count()
    }

    #[test]
    fn whose_an_address_is_follows_the_gateways_that_the_operator_names() {
        let mut board = GatewayBoard::new(Random::from_seed(1));
        let (now, mut out) = (Moment::START, Vec::new());
        let mut trunk = trunk(1, |outbound| {
            if let Some(gateway) = outbound.gateways.last_mut() {
                Arc::make_mut(gateway).uri.host = "198.51.100.9".into();
            }
        });
        let of = |trunk: &crate::routing::trunk::Trunk| {
            RoutingTable::new(Contents { trunks: vec![trunk.clone()], ..Contents::default() })
        };
        board.follow(now, &of(&trunk), &mut out);
        assert_eq!(are_at(&board, "198.51.100.9"), 1, "it is an address already");
        assert_eq!(are_at(&board, "::ffff:198.51.100.9"), 1);
        assert_eq!(are_at(&board, "192.0.2.1"), 0, "nobody has looked it up");
        board.find_addresses(now, &key("a"), vec![address(1), address(2)]);
        assert_eq!(board.trunks_at("192.0.2.1".parse().unwrap()).next(), Some(trunk_id(1)));
        board.find_addresses(now, &key("a"), vec![address(2), address(3)]);
        let at = |board: &GatewayBoard| [1, 2, 3].map(|n| are_at(board, &format!("192.0.2.{n}")));
        assert_eq!(at(&board), [0, 1, 1], "DNS has others now");
        // Another table leaves what was found, as long as the gateway leads there.
        board.follow(now, &of(&trunk), &mut out);
        assert_eq!((at(&board), are_at(&board, "198.51.100.9")), ([0, 1, 1], 1));
        // What a tenant names says nothing of whose an address is.
        trunk.path.is_tenants = true;
        board.follow(now, &of(&trunk), &mut out);
        board.find_addresses(now, &key("a"), vec![address(1)]);
        assert_eq!((at(&board), are_at(&board, "198.51.100.9")), ([0, 0, 0], 0));
        trunk.path.is_tenants = false;
        trunk.enabled = false;
        board.follow(now, &of(&trunk), &mut out);
        assert_eq!((at(&board), are_at(&board, "198.51.100.9")), ([0, 0, 0], 0));
    }

    #[test]
    fn of_calls_planned_at_once_after_a_rest_one_tries_the_gateway() {
        let mut board = GatewayBoard::new(Random::from_seed(1));
        let (mut now, mut out) = (Moment::from_millis(1_000), Vec::new());
        board.follow(now, &table(|_| {}), &mut out);
        assert_eq!(board.take_trial(now, &key("a"), &mut out), Ok(None), "it is well");
        let failed = Input::CallFailed { retry_after: None };
        board.handle(now, &key("a"), failed, &mut out);
        now += Duration::from_secs(30);
        assert_eq!(board.availability(now, &key("a")), Availability::Trial);
        let first = board.take_trial(now, &key("a"), &mut out).unwrap().expect("a place");
        // DNS takes its time, and the others were planned before.
        now += Duration::from_secs(3);
        assert_eq!(board.take_trial(now, &key("a"), &mut out), Err(TrialTaken));
        board.handle(now, &key("a"), Input::CallSent, &mut out);
        assert!(!board.availability(now, &key("a")).takes_calls());
        // It was not sent: the next may try, and what the first still says of its place is too late.
        board.leave_trial(now, (&key("a"), first), &mut out);
        assert_eq!(board.availability(now, &key("a")), Availability::Trial);
        let second = board.take_trial(now, &key("a"), &mut out).unwrap().expect("a place");
        board.leave_trial(now, (&key("a"), first), &mut out);
        assert_eq!(board.take_trial(now, &key("a"), &mut out), Err(TrialTaken));
        board.handle(now, &key("a"), failed, &mut out);
        board.leave_trial(now, (&key("a"), second), &mut out);
        let until = now + Duration::from_secs(30);
        assert_eq!(board.availability(now, &key("a")), Availability::Cooling(until));
        // One that is never heard of again has the place for so long.
        now = until;
        assert!(board.take_trial(now, &key("a"), &mut out).unwrap().is_some());
        now += Duration::from_secs(64);
        assert!(board.take_trial(now, &key("a"), &mut out).unwrap().is_some());
        assert_eq!(board.take_trial(now, &key("z"), &mut out), Ok(None));
    }

    #[test]
    fn an_address_after_its_rest_takes_one_call_though_several_were_planned() {
        let mut board = GatewayBoard::new(Random::from_seed(1));
        let (now, mut out) = (Moment::from_millis(1_000), Vec::new());
        board.follow(now, &table(|_| {}), &mut out);
        let (one, two) = (address(1), address(2));
        board.find_addresses(now, &key("a"), vec![one, two]);
        let failed = Input::CallFailed { retry_after: None };
        board.handle_at(now, (&key("a"), one), failed, &mut out);
        let later = now + Duration::from_secs(30);
        let mut take = |address| board.take_address(later, (&key("a"), address), &mut out);
        assert_eq!(take(one), Availability::Trial);
        assert!(!take(one).takes_calls());
        assert_eq!((take(two), take(two)), (Availability::Ready, Availability::Ready));
    }

    #[test]
    fn a_gateway_of_one_address_rests_with_it() {
        let mut board = GatewayBoard::new(Random::from_seed(1));
        let (now, mut out) = (Moment::from_millis(1_000), Vec::new());
        board.follow(now, &table(|_| {}), &mut out);
        board.find_addresses(now, &key("a"), vec![address(1)]);
        let failed = Input::CallFailed { retry_after: None };
        board.handle_at(now, (&key("a"), address(1)), failed, &mut out);
        let until = now + Duration::from_secs(30);
        assert_eq!(board.availability(now, &key("a")), Availability::Cooling(until));
        assert_eq!(board.availability(until, &key("a")), Availability::Trial);
        board.handle_at(until, (&key("a"), address(1)), Input::CallSent, &mut out);
        assert!(!board.availability(until, &key("a")).takes_calls());
        board.handle_at(until, (&key("a"), address(1)), Input::CallServed, &mut out);
        assert_eq!(board.availability(until, &key("a")), Availability::Ready);
        let found = board.find_addresses(until, &key("a"), vec![address(1)]);
        assert_eq!(found, [(address(1), Availability::Ready)]);
        // What is not known of is nobody's.
        board.handle_at(now, (&key("z"), address(1)), failed, &mut out);
        assert!(!out.iter().any(|action| action.key == key("z")));
    }
}
