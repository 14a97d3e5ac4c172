//! Finding the next hops of dialogs: the endpoint asks, DNS and the terms of the trunk say.

use crate::engine::registry::SourceGuard;
use crate::engine::sip_shard::Shard;
use crate::engine::switch::Switch;
use crate::engine::way;
use crate::net::dns::Named;
use crate::net::websocket::TrustRoots;
use crate::routing::trunk::Trunk;
use crate::routing::trunk::TrunkPath;
use crate::sip::endpoint::event::DialogId;
use crate::sip::endpoint::event::Input;
use crate::sip::endpoint::flow::Flow;
use crate::sip::endpoint::told::Search;
use crate::sip::locate::Rules;
use crate::sip::locate::Target;
use crate::types::transport::Transport;
use ipnet::IpNet;
use std::net::IpAddr;
use std::sync::Arc;

/// What a search came to.
#[derive(Debug)]
pub(in crate::engine) struct Found {
    search: Box<Search>,
    flow: Option<Flow>,
    /// Answers may come from there.
    expected: Option<SourceGuard>,
}

impl Found {
    /// Whose next hop it is.
    pub(super) fn dialog(&self) -> Option<DialogId> {
        self.search.dialog
    }
}

impl Shard {
    /// Looks for a next hop; the endpoint goes on without it where that takes long.
    pub(super) fn seek(&self, search: Box<Search>) {
        let trunk = search.dialog.and_then(|dialog| self.trunks.get(&dialog)).cloned();
        let (switch, handle) = (Arc::clone(&self.switch), self.handle.clone());
        tokio::spawn(async move {
            let flow = find(&switch, &search, trunk.as_deref()).await;
            let expected = flow.map(|flow| switch.registry.expect_from(flow.remote.ip()));
            handle.found(Box::new(Found { search, flow, expected })).await;
        });
    }

    pub(super) fn found(&mut self, found: Found) {
        let Found { search, flow, expected } = found;
        // To a request outside dialogs there is one answer, which comes soon or not at all.
        let is_live = |dialog: &DialogId| {
            self.dialled.contains_key(dialog) || self.calls.contains_key(dialog)
        };
        let dialog = search.dialog.filter(is_live);
        if let (Some(dialog), Some(expected)) = (dialog, expected) {
            self.expected.insert(dialog, expected);
        }
        self.turn(Input::Located { number: search.number, flow });
    }
}

/// A way to the next hop: by the terms of the dialog's trunk, from the address its peer knows us by.
async fn find(switch: &Switch, search: &Search, trunk: Option<&Trunk>) -> Option<Flow> {
    let (hop, from) = (&search.hop, search.from);
    let transports = match hop.transport {
        Some(transport) => vec![transport],
        None if hop.secure => vec![Transport::Tls],
        None => vec![Transport::Udp, Transport::Tcp],
    };
    let (v4, v6) = (from.remote.is_ipv4(), from.remote.is_ipv6());
    let rules = Rules { transports, services: true, v4, v6 };
    let named = named(trunk, from.remote.ip());
    let found = way::locate(&switch.dns, named, (hop.clone(), rules)).await;
    let unknown = |error| tracing::debug!(%error, host = hop.host, "a next hop is not found");
    let none = TrunkPath::default();
    let path = trunk.map_or(&none, |trunk| &trunk.path);
    let found = permitted(&switch.roots, trunk, from.remote.ip(), found.map_err(unknown).ok()?);
    let found = beyond_doubt(search, trunk, found);
    let mut target = best(search, found)?;
    if target.transport == from.transport && target.address == from.remote {
        return Some(from);
    }
    let is_secure = (from.transport, target.transport) == (Transport::Tls, Transport::Tls);
    if is_secure
        && hop.host.parse::<IpAddr>().is_ok()
        && let Some(proof) = way::proof_beside(&switch.flows, trunk, from)
    {
        target.server_name = proof;
    }
    let mut to = way::destination(path, &target, from.listener);
    let own = from.local.ip();
    if to.local.is_any() && !own.is_unspecified() {
        to.local.address = Some(own);
    }
    let no_way = |error| tracing::debug!(%error, "no way to a next hop");
    switch.flows.connect(&to).map_err(no_way).ok()
}

/// Who says where the peer is, which was heard from that address; who has no trunk is an agent.
fn named(trunk: Option<&Trunk>, heard: IpAddr) -> Named {
    trunk.map_or(Named::ByPeer(heard), way::named_by)
}

/// Whether a tenant, or somebody it calls, says where the peer is; who has no trunk is an agent.
fn is_tenants(trunk: Option<&Trunk>) -> bool {
    trunk.is_none_or(|trunk| trunk.path.is_tenants)
}

/// Of the places of a next hop those that requests may go to. What a tenant or its agents name, and who has no trunk
/// is an agent, leads only where agents may be, and to where the peer was heard.
fn permitted(
    roots: &TrustRoots,
    trunk: Option<&Trunk>,
    heard: IpAddr,
    mut found: Vec<Target>,
) -> Vec<Target> {
    if is_tenants(trunk) {
        found.retain(|target| {
            let at = target.address.ip();
            at == heard || roots.permits_call(at)
        });
    }
    found
}

/// Of the places of a next hop those that are surely the same machine here as where it was named. Of private networks the trunk
/// says whom it has there.
fn beyond_doubt(search: &Search, trunk: Option<&Trunk>, mut found: Vec<Target>) -> Vec<Target> {
    let is_listed = |at| trunk.is_some_and(|trunk| lists(search, trunk, at));
    found.retain(|target| {
        let at = target.address.ip();
        !search.is_doubtful(at) || is_listed(at)
    });
    found
}

/// Whether the trunk has this private address among its sources, in a network that is private as a whole, or as a gateway's. That
/// anybody may call by it says nothing of private networks.
fn lists(search: &Search, trunk: &Trunk, at: IpAddr) -> bool {
    let is_private =
        |net: &IpNet| search.is_doubtful(net.network()) && search.is_doubtful(net.broadcast());
    let gateways = trunk.outbound.iter().flat_map(|outbound| &outbound.gateways);
    let mut hosts = gateways.map(|gateway| gateway.next_hop().host);
    trunk.sources.iter().any(|net| net.contains(&at) && is_private(net))
        || hosts.any(|host| host.trim_matches(['[', ']']).parse::<IpAddr>() == Ok(at))
}

/// Of several places the one where the peer was heard, which knows the dialog; else the first.
fn best(search: &Search, targets: Vec<Target>) -> Option<Target> {
    let peer = search.from.remote;
    let usable = targets.into_iter().filter(|target| search.is_usable(target.address.ip()));
    usable.min_by_key(|target| (target.address != peer, target.address.ip() != peer.ip()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::switch::tests::Nobody;
    use crate::engine::switch::tests::idle;
    use crate::net::dns::tests::Server;
    use crate::routing::gateway::Gateway;
    use crate::routing::outbound::tests::gateway;
    use crate::routing::outbound::tests::trunk;
    use crate::sip::endpoint::flow::FlowId;
    use crate::sip::locate::NextHop;
    use crate::types::id::TrunkId;
    use crate::types::reach::Reach;
    use std::net::SocketAddr;
    use uuid::Uuid;

    #[test]
    fn only_an_operators_trunk_leads_where_agents_may_not_be() {
        let roots = TrustRoots::native().reaching(Reach::default());
        let operators = Trunk::new(TrunkId::from_uuid(Uuid::from_u128(1)), "acme", Vec::new());
        let mut tenants = operators.clone();
        tenants.path.is_tenants = true;
        let (inner, heard, public) = ("10.0.0.5", "10.0.0.7", "1.1.1.1");
        let led = |trunk: Option<&Trunk>| -> Vec<String> {
            let target = |place: &str| Target {
                transport: Transport::Tcp,
                address: SocketAddr::new(place.parse().unwrap(), 6_379),
                server_name: String::new(),
            };
            let found = Vec::from([inner, heard, public].map(target));
            let found = permitted(&roots, trunk, heard.parse().unwrap(), found);
            found.iter().map(|target| target.address.ip().to_string()).collect()
        };
        assert_eq!(led(Some(&operators)), [inner, heard, public]);
        assert_eq!(led(Some(&tenants)), [heard, public]);
        // An agent has none.
        assert_eq!(led(None), [heard, public]);
    }

    #[test]
    fn a_stream_is_left_for_a_private_address_only_where_the_trunk_lists_it() {
        let sbc =
            Gateway { uri: "sip:10.9.0.1".parse().unwrap(), ..gateway("a", 1).as_ref().clone() };
        let mut own = trunk(1, |outbound| outbound.gateways = vec![Arc::new(sbc)]);
        own.sources =
            ["192.168.1.0/24", "0.0.0.0/0"].iter().map(|net| net.parse().unwrap()).collect();
        let led = |transport, trunk: Option<&Trunk>| -> Vec<String> {
            let local = "192.0.2.1:5060".parse().unwrap();
            let remote = "172.17.0.1:40001".parse().unwrap();
            let from = Flow { id: FlowId(1), listener: 0, transport, local, remote };
            let hop = NextHop::parse("sip:sbc.example").unwrap();
            let search = Search { number: 1, dialog: None, hop, from };
            let target = |place: &str| Target {
                transport,
                address: SocketAddr::new(place.parse().unwrap(), 5_060),
                server_name: String::new(),
            };
            let places = ["192.168.1.20", "192.168.2.20", "10.9.0.1", "127.0.0.9", "203.0.113.9"];
            let found = beyond_doubt(&search, trunk, places.map(target).to_vec());
            found.iter().map(|target| target.address.ip().to_string()).collect()
        };
        let listed = ["192.168.1.20", "10.9.0.1", "127.0.0.9", "203.0.113.9"];
        assert_eq!(led(Transport::Tcp, Some(&own)), listed);
        assert_eq!(led(Transport::Tls, Some(&own)), listed);
        assert_eq!(led(Transport::Tcp, None), ["127.0.0.9", "203.0.113.9"]);
        assert_eq!(led(Transport::Udp, None).len(), 5, "there is no stream to stay on");
    }

    #[tokio::test]
    async fn the_names_of_a_tenants_own_trunk_are_looked_up_as_the_tenants() {
        let server = Server::start().await;
        let mut switch = idle(Arc::new(Nobody), 21_412..=21_415);
        switch.dns = server.dns_of_the_operator();
        let operators = Trunk::new(TrunkId::from_uuid(Uuid::from_u128(1)), "acme", Vec::new());
        let mut tenants = operators.clone();
        tenants.path.is_tenants = true;
        let local = "192.0.2.1:5060".parse().unwrap();
        let remote = "198.51.100.7:5060".parse().unwrap();
        let from = Flow { id: FlowId(1), listener: 0, transport: Transport::Udp, local, remote };
        let hop = NextHop::parse("sip:a.example").unwrap();
        let search = Search { number: 1, dialog: None, hop, from };
        for trunk in [Some(&tenants), None] {
            assert_eq!(find(&switch, &search, trunk).await, None);
            assert_eq!(server.asked(), 0);
        }
        let found = find(&switch, &search, Some(&operators)).await;
        assert!(server.asked() > 0, "the operator's: {found:?}");
    }

    #[test]
    fn of_the_places_of_a_name_the_one_that_knows_the_dialog_is_taken() {
        let chosen = |peer: &str, places: &[&str]| {
            let local = "192.0.2.1:5060".parse().unwrap();
            let transport = Transport::Udp;
            let remote = peer.parse().unwrap();
            let from = Flow { id: FlowId(1), listener: 0, transport, local, remote };
            let hop = NextHop::parse("sip:sbc.example").unwrap();
            let search = Search { number: 1, dialog: None, hop, from };
            let target = |place: &&str| Target {
                transport,
                address: place.parse().unwrap(),
                server_name: "sbc.example".to_owned(),
            };
            let best = best(&search, places.iter().map(target).collect());
            best.map(|target| target.address.to_string())
        };
        let pool = ["198.51.100.1:5060", "198.51.100.7:5060", "198.51.100.7:5062"];
        for (peer, expected) in [
            ("198.51.100.7:5062", "198.51.100.7:5062"),
            ("198.51.100.7:9999", "198.51.100.7:5060"),
            ("203.0.113.1:5060", "198.51.100.1:5060"),
        ] {
            assert_eq!(chosen(peer, &pool).as_deref(), Some(expected), "{peer}");
        }
        assert_eq!(chosen("198.51.100.7:5062", &["10.0.0.1:5060", "0.0.0.0:5060"]), None);
        assert_eq!(chosen("198.51.100.7:5062", &["[2001:db8::1]:5060"]), None);
    }
}
