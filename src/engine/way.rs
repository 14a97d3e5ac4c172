//! The way a request of a trunk takes: from a gateway's name to addresses, and from there to a flow.

use crate::net::connect::Destination;
use crate::net::connect::TlsTo;
use crate::net::dns::Dns;
use crate::net::dns::Named;
use crate::net::flow::Flows;
use crate::net::websocket::TrustRoots;
use crate::routing::gateway::Gateway;
use crate::routing::gateway::Lookup;
use crate::routing::trunk::Trunk;
use crate::routing::trunk::TrunkPath;
use crate::sip::endpoint::flow::Flow;
use crate::sip::locate::LocateError;
use crate::sip::locate::NextHop;
use crate::sip::locate::Rules;
use crate::sip::locate::Target;
use crate::types::transport::Transport;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::sync::Arc;

/// Where requests to a gateway go, as a question for DNS.
///
/// # Errors
/// When its host cannot be looked up.
pub fn gateway_search(gateway: &Gateway) -> Result<(NextHop, Rules), LocateError> {
    let hop = gateway.next_hop();
    let mut text = hop.host.clone();
    if let Some(port) = hop.port {
        text = format!("{text}:{port}");
    }
    // Where the profile names no transport DNS may choose, but never one of less privacy than UDP's
    // plain text asks for.
    let transports = match hop.transport {
        Some(transport) => {
            text = format!("{text};transport={transport}");
            vec![transport]
        }
        None => vec![Transport::Udp, Transport::Tcp],
    };
    let services = hop.lookup == Lookup::Srv;
    Ok((NextHop::parse(&text)?, Rules { transports, services, v4: true, v6: true }))
}

/// Where requests to a SIP URI go, as a question for DNS; without a transport in it one of `transports`
/// is taken.
///
/// # Errors
/// When it is no URI of a host.
pub fn uri_search(uri: &str, transports: &[Transport]) -> Result<(NextHop, Rules), LocateError> {
    let hop = NextHop::parse(uri)?;
    let transports = match hop.transport {
        Some(transport) => vec![transport],
        None if hop.secure => vec![Transport::Tls],
        None => transports.to_vec(),
    };
    Ok((hop, Rules { transports, services: true, v4: true, v6: true }))
}

/// Where requests to a peer that no trunk describes go, as a question for DNS.
///
/// # Errors
/// When it is no URI of a host.
pub fn peer_search(uri: &str) -> Result<(NextHop, Rules), LocateError> {
    uri_search(uri, &[Transport::Udp, Transport::Tcp, Transport::Tls])
}

/// Who says where the requests of a trunk go.
#[must_use]
pub fn named_by(trunk: &Trunk) -> Named {
    if trunk.path.is_tenants { Named::ByTenant(trunk.tenant) } else { Named::ByOperator }
}

/// The addresses of a next hop: found among the few questions of who names it, so that slow names of a tenant's leave
/// those of others, and of the operator's trunks, theirs.
///
/// # Errors
/// As of [`Dns::locate`].
pub async fn locate(
    dns: &Dns,
    named: Named,
    (hop, rules): (NextHop, Rules),
) -> Result<Vec<Target>, LocateError> {
    dns.locate(named, hop, rules).await
}

/// The transport a SIP URI asks for; UDP where it leaves that to DNS.
#[must_use]
pub fn transport_of(uri: &str) -> Transport {
    let hop = NextHop::parse(uri).ok();
    let secure = hop.as_ref().is_some_and(|hop| hop.secure);
    let fallback = if secure { Transport::Tls } else { Transport::Udp };
    hop.and_then(|hop| hop.transport).unwrap_or(fallback)
}

/// The address a SIP URI names; `None` where it leaves that to DNS.
#[must_use]
pub fn address_of(uri: &str) -> Option<IpAddr> {
    NextHop::parse(uri).ok()?.host.parse().ok()
}

/// Of the places that were found for requests of a trunk those that they may go to: where a tenant named its peers, only
/// those where agents may be.
#[must_use]
pub fn permitted(roots: &TrustRoots, path: &TrunkPath, mut found: Vec<Target>) -> Vec<Target> {
    if path.is_tenants {
        found.retain(|target| roots.permits_call(target.address.ip()));
        if found.is_empty() {
            tracing::debug!(
                "a peer of a tenant's trunk is nowhere it may be (agents.allow_networks)"
            );
        }
    }
    found
}

/// Where requests of a trunk go for `target`; `listener` is the index of the one that Via and Contact
/// name.
#[must_use]
pub fn destination(path: &TrunkPath, target: &Target, listener: u16) -> Destination {
    Destination {
        local: path.local.clone(),
        tls: (target.transport == Transport::Tls).then(|| TlsTo {
            server_name: target.server_name.clone(),
            settings: Arc::clone(&path.tls),
        }),
        keepalive: path.keepalive,
        ..Destination::plain(target.transport, target.address, listener)
    }
}

/// Where a caller of a trunk is reached once `flow`, the connection it came by, is gone: where that led, if we opened it.
#[must_use]
pub fn back(flows: &Flows, trunk: &Trunk, flow: Flow) -> Destination {
    let opened = flows.destination_of(flow.id);
    let target = opened.and_then(|to| reached(trunk, &to)).unwrap_or_else(|| home(trunk, flow));
    destination(&trunk.path, &target, flow.listener)
}

/// Whom a next hop has to prove to be, over TLS, that the peer at the other end of `from` names by nothing but an address:
/// the one that this peer has proven to be, or a gateway of the trunk. Certificates are of names, as a rule, and those who
/// share a dialog are of one domain.
#[must_use]
pub fn proof_beside(flows: &Flows, trunk: Option<&Trunk>, from: Flow) -> Option<String> {
    let opened = flows.destination_of(from.id);
    let proven = opened.as_ref().and_then(|to| to.tls.as_ref());
    let proven = proven.filter(|tls| trunk.is_none_or(|own| tls.settings == own.path.tls));
    let proven = proven.map(|tls| tls.server_name.clone());
    proven.or_else(|| trunk.and_then(secure_gateway))
}

/// The host of the trunk's gateway that is reached by TLS, as a certificate names it.
fn secure_gateway(trunk: &Trunk) -> Option<String> {
    let gateways = trunk.outbound.iter().flat_map(|outbound| &outbound.gateways);
    let mut hops = gateways.map(|gateway| gateway.next_hop());
    let secure = hops.find(|hop| hop.transport == Some(Transport::Tls))?;
    // A certificate names an address without brackets.
    Some(secure.host.trim_matches(['[', ']']).to_owned())
}

/// Who is at the other end of a connection that we opened. What a peer proved by the terms of another trunk is no proof for
/// this one.
fn reached(trunk: &Trunk, to: &Destination) -> Option<Target> {
    let server_name = match &to.tls {
        None => String::new(),
        Some(tls) if tls.settings == trunk.path.tls => tls.server_name.clone(),
        Some(_) => return None,
    };
    Some(Target { transport: to.transport, address: to.remote, server_name })
}

/// Where the host of a caller listens that opened the connection itself: it is to prove that it is one of the trunk's
/// gateways.
fn home(trunk: &Trunk, flow: Flow) -> Target {
    let peer = flow.remote.ip();
    let port = if flow.transport == Transport::Tls { 5061 } else { 5060 };
    Target {
        transport: flow.transport,
        address: SocketAddr::new(peer, port),
        server_name: secure_gateway(trunk).unwrap_or_else(|| peer.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::flow::FlowLimits;
    use crate::net::flow::tests::Collector;
    use crate::sip::endpoint::flow::FlowId;
    use crate::types::id::TenantId;
    use crate::types::id::TrunkId;
    use crate::types::tls::TlsSettings;
    use crate::types::transport::LocalEnd;
    use std::time::Duration;
    use tokio::net::TcpListener;
    use uuid::Uuid;

    #[test]
    fn a_gateway_is_reached_as_its_trunk_says() {
        let local = LocalEnd { address: "192.0.2.9".parse().ok(), interface: None };
        let keepalive = Some(Duration::from_secs(30));
        let path = TrunkPath { local: local.clone(), keepalive, ..TrunkPath::default() };
        let target = |transport| Target {
            transport,
            address: "198.51.100.7:5061".parse().unwrap(),
            server_name: "carrier.example".to_owned(),
        };
        let secure = destination(&path, &target(Transport::Tls), 3);
        assert_eq!((secure.listener, secure.keepalive), (3, keepalive));
        assert_eq!(secure.local, local);
        let tls = secure.tls.unwrap();
        assert!(Arc::ptr_eq(&tls.settings, &path.tls) && tls.server_name == "carrier.example");
        assert_eq!(destination(&path, &target(Transport::Udp), 3).tls, None);
    }

    #[tokio::test]
    async fn a_caller_by_a_connection_of_ours_is_reached_where_that_led_by_what_was_proven_there() {
        let flows = Flows::new(FlowLimits::default());
        let (ingress, _seen) = Collector::connected();
        flows.attach(&ingress);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut trunk = Trunk::new(TrunkId::from_uuid(Uuid::from_u128(1)), "t", Vec::new());
        let opened = |transport, name: &str| {
            let target = Target { transport, address, server_name: name.to_owned() };
            let to = destination(&TrunkPath::default(), &target, 3);
            (flows.connect(&to).unwrap(), to)
        };
        let (plain, to) = opened(Transport::Tcp, "");
        assert_eq!(back(&flows, &trunk, plain), to);
        let (secure, to) = opened(Transport::Tls, "registrar.example");
        assert_eq!(back(&flows, &trunk, secure), to);
        let beside = |trunk: Option<&Trunk>, from: Flow| proof_beside(&flows, trunk, from);
        let registrar = Some("registrar.example".to_owned());
        assert_eq!(beside(Some(&trunk), secure), registrar, "who sends us on is one of them");
        assert_eq!(beside(None, secure), registrar);
        assert_eq!(beside(Some(&trunk), plain), None);

        let home = |trunk: &Trunk, flow: Flow| {
            let to = back(&flows, trunk, flow);
            (to.remote.to_string(), to.tls.map(|tls| tls.server_name))
        };
        let proves = Some("127.0.0.1".to_owned());
        trunk.path.tls = Arc::new(TlsSettings { allow_wildcard: true, ..TlsSettings::default() });
        assert_eq!(home(&trunk, secure), ("127.0.0.1:5061".to_owned(), proves), "another's proof");
        assert_eq!(beside(Some(&trunk), secure), None, "it says nothing of this trunk's peers");
        let theirs = Flow { id: FlowId(99), ..plain };
        assert_eq!(
            home(&trunk, theirs),
            ("127.0.0.1:5060".to_owned(), None),
            "it came from a port"
        );
    }

    #[test]
    fn a_tenant_names_where_requests_go_by_its_own_trunk_with_peers_of_its_own() {
        let id = TrunkId::from_uuid(Uuid::from_u128(1));
        let mut trunk = Trunk::new(id, "t", Vec::new());
        assert_eq!(named_by(&trunk), Named::ByOperator);
        let tenant = Some(TenantId::from_uuid(Uuid::from_u128(2)));
        trunk.tenant = tenant;
        assert_eq!(named_by(&trunk), Named::ByOperator, "its peers are those of a profile");
        trunk.path.is_tenants = true;
        assert_eq!(named_by(&trunk), Named::ByTenant(tenant));
    }
}
