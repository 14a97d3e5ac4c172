//! `Subject`: the trunk under test, its carrier's model, and what stands around them.

use crate::certify::fault::Fault;
use crate::config::profile::Trial;
use crate::routing::contents::AiProfile;
use crate::routing::contents::Contents;
use crate::routing::contents::Number;
use crate::routing::contents::Tenant;
use crate::routing::contents::TenantOutbound;
use crate::routing::contents::TenantStatus;
use crate::routing::gateway::Gateway;
use crate::routing::outbound_trunk::OutboundTrunk;
use crate::routing::trunk::Trunk;
use crate::simulator::carrier::Subscription;
use crate::simulator::model::CarrierModel;
use crate::simulator::model::model_of;
use crate::types::agent::AgentKind;
use crate::types::agent::AgentSettings;
use crate::types::agent::AnswerPolicy;
use crate::types::barge_in::BargeIn;
use crate::types::fault_policy::FaultPolicy;
use crate::types::id::AiProfileId;
use crate::types::id::NumberId;
use crate::types::id::TenantId;
use crate::types::number::E164;
use crate::types::secret::Secret;
use crate::types::srtp::SrtpPolicy;
use crate::types::srtp::SrtpSuite;
use crate::types::tls::CertificateNames;
use crate::types::transport::Transport;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

/// Our port for signalling.
pub(super) const OUR_PORT: u16 = 5060;
/// Our address where the profile names none (RFC 5737).
const OUR_ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 10));
/// Where gateways are that have a name: what DNS would say (RFC 5737).
const GATEWAYS: [u8; 3] = [198, 51, 100];
/// Where a carrier's media is that lists no network of its own.
const MEDIA: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 200));
/// Where a stranger is.
pub(super) const STRANGER: SocketAddr =
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(203, 0, 113, 66)), 5060);
/// Where a carrier calls from that no network is listed of.
const NOWHERE: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 99));
/// The profile key that says what our address is on the carrier's sheet.
const CUSTOMER_ADDRESS: &str = "vars.customer_ip";
const TENANT: TenantId = TenantId::from_uuid(Uuid::from_u128(1));
const AGENT: AiProfileId = AiProfileId::from_uuid(Uuid::from_u128(2));

/// The trunk under test and what stands around it.
pub(super) struct Subject {
    pub(super) trunk: Arc<Trunk>,
    pub(super) model: &'static CarrierModel,
    pub(super) subscription: Subscription,
    /// What the profile asks for and this version cannot do.
    pub(super) not_built: Vec<String>,
    /// Most calls out at once by the profile; 0: no limit.
    pub(super) channels: u32,
    /// Most new calls out per second by the profile; 0: no limit.
    pub(super) pace: u32,
    /// How long a call may last by the profile.
    pub(super) lasts: Duration,
    /// A number of ours.
    pub(super) own: E164,
    /// What the carrier's certificate proves.
    pub(super) certificate: CertificateNames,
    edges: Vec<(String, SocketAddr)>,
    calls_from: SocketAddr,
}

impl Subject {
    /// The subject of a trial, with a fault seeded into its settings.
    pub(super) fn new(trial: &Trial, fault: Option<&Fault>) -> Option<Self> {
        let model = model_of(trial.lineage.iter().map(String::as_str));
        let mut trunk = trial.trunk.clone();
        let outbound = trunk.outbound.clone();
        let own = outbound.as_ref().and_then(|o| o.caller_id.default);
        let own: E164 = match own {
            Some(own) => own,
            None => model.numbers.own.parse().ok()?,
        };
        let registered = trunk.registration.as_ref().and_then(|own| own.account.as_ref());
        let account = outbound.as_ref().and_then(|outbound| outbound.account.as_ref());
        let account = account.or(registered);
        let address = trial.given(CUSTOMER_ADDRESS).and_then(|text| text.parse().ok());
        let media = trunk.media.remote_cidrs.first();
        let media = media.and_then(|net| net.hosts().nth(1)).unwrap_or(MEDIA);
        let given = trunk.digest.as_ref().filter(|_| model.takes_terms);
        let wants_keys = trunk.media.srtp.policy == SrtpPolicy::Required;
        let is_encrypted = model.encrypted || (model.takes_terms && wants_keys);
        let suite = trunk.media.srtp.suites.first().copied().filter(|_| model.takes_terms);
        let suite = is_encrypted.then_some(suite.unwrap_or(SrtpSuite::AesCm128HmacSha1_80));
        let takes_tls = trunk.transports.contains(&Transport::Tls);
        // Keys are worth nothing to those who can read them on the way.
        let tls = (is_encrypted && takes_tls).then_some(Transport::Tls);
        let transport = tls.or_else(|| trunk.transports.first().copied());
        let names = if model.takes_terms { trunk.peer_names.as_slice() } else { &[] };
        let names = names.iter().map(String::as_str);
        let certificate = CertificateNames::of([].into_iter(), names);
        let subscription = Subscription {
            numbers: vec![own.to_string()],
            username: account.map(|account| account.username.clone()).unwrap_or_default(),
            password: account.map_or(Secret::new(String::new()), |a| a.password.clone()),
            given: given.map(|account| (account.username.clone(), account.password.clone())),
            suite,
            address: address.unwrap_or(OUR_ADDRESS),
            media: SocketAddr::new(media, 30_000),
            transport: transport.unwrap_or(Transport::Udp),
        };
        if let Some(outbound) = &outbound {
            trunk.outbound = Some(Arc::new(with_spare(outbound)));
        }
        let edges = edges(trunk.outbound.as_deref());
        let first = trunk.sources.first().and_then(|net| net.hosts().next());
        let calls_from = SocketAddr::new(first.unwrap_or(NOWHERE), OUR_PORT);
        let limits = outbound.as_ref().map(|outbound| outbound.limits).unwrap_or_default();
        let channels = [trunk.calls_max, limits.calls_max].into_iter().filter(|most| *most > 0);
        let (channels, lasts) = (channels.min().unwrap_or(0), trunk.max_duration);
        if let Some(fault) = fault {
            fault.set(&mut trunk);
        }
        Some(Self {
            trunk: Arc::new(trunk),
            model,
            subscription,
            not_built: trial.not_built.iter().map(|problem| problem.message.clone()).collect(),
            channels,
            pace: limits.cps_max,
            lasts,
            own,
            certificate,
            edges,
            calls_from,
        })
    }

    pub(super) fn calls_out(&self) -> bool {
        self.trunk.outbound.is_some()
    }

    pub(super) fn calls_in(&self) -> bool {
        !self.trunk.sources.is_empty()
    }

    /// The address of a gateway, as DNS would say it.
    pub(super) fn edge_of(&self, gateway: &Gateway) -> SocketAddr {
        let found = self.edges.iter().find(|(name, _)| *name == gateway.name.to_string());
        found.map_or(self.calls_from, |(_, address)| *address)
    }

    /// The address of the first gateway.
    pub(super) fn edge(&self) -> SocketAddr {
        self.edges.first().map_or(self.calls_from, |(_, address)| *address)
    }

    /// The address the carrier calls from.
    pub(super) const fn calls_from(&self) -> SocketAddr {
        self.calls_from
    }

    /// Whether an address is one of the carrier's.
    pub(super) fn is_edge(&self, address: SocketAddr) -> bool {
        address == self.calls_from
            || address == STRANGER
            || self.edges.iter().any(|(_, own)| *own == address)
    }

    /// How messages between us and an address of the carrier's travel.
    pub(super) fn transport_of(&self, address: SocketAddr) -> Transport {
        if address == self.calls_from || address == STRANGER {
            return self.subscription.transport;
        }
        let gateways = self.trunk.outbound.as_ref().map(|outbound| outbound.gateways.as_slice());
        let mut gateways = gateways.unwrap_or_default().iter();
        let gateway = gateways.find(|gateway| self.edge_of(gateway) == address);
        gateway.and_then(|gateway| gateway.next_hop().transport).unwrap_or(Transport::Udp)
    }

    /// A tenant with one number, that calls out by the trunk.
    pub(super) fn contents(&self) -> Contents {
        let tenant = Tenant {
            id: TENANT,
            name: "certify".to_owned(),
            status: TenantStatus::Active,
            plan: None,
            calls_max: 0,
            cps_max: 0,
            default_profile: Some(AGENT),
            outbound: TenantOutbound { trunk: Some(self.trunk.id), ..TenantOutbound::default() },
            record: Default::default(),
        };
        let agent = AgentSettings {
            kind: AgentKind::Echo,
            answer: AnswerPolicy::WhenReady,
            barge_in: BargeIn::OFF,
            hangup_after: None,
            reinvite_after: None,
            faults: FaultPolicy::USUAL,
            hold_music: None,
        };
        let (name, fallback) = ("certify".to_owned(), Vec::new());
        let profile =
            AiProfile { id: AGENT, tenant: TENANT, name, agent, fallback, record: None, ask: None };
        let number = Number {
            id: NumberId::from_uuid(Uuid::from_u128(3)),
            tenant: TENANT,
            first: self.own,
            last: self.own,
            trunk: None,
            outbound_trunk: Some(self.trunk.id),
            routing_profile: None,
            ai_profile: None,
            campaign: None,
            active: true,
            barred: None,
            record: None,
        };
        Contents {
            tenants: vec![tenant],
            ai_profiles: vec![profile],
            numbers: vec![number],
            trunks: vec![self.trunk.as_ref().clone()],
            ..Contents::default()
        }
    }

    pub(super) const fn tenant(&self) -> TenantId {
        TENANT
    }

    /// How long the trunk lets a call ring.
    pub(super) fn ring_timeout(&self) -> Duration {
        self.trunk.ring_timeout
    }
}

/// A trunk with one gateway is tried with a second one beside it, so that it can be seen when a call
/// goes on elsewhere and when it does not.
fn with_spare(outbound: &OutboundTrunk) -> OutboundTrunk {
    let mut outbound = outbound.clone();
    if let [only] = outbound.gateways.as_slice()
        && let Ok(name) = "spare".parse()
    {
        let spare = Gateway { name, priority: u16::MAX, ..only.as_ref().clone() };
        outbound.gateways.push(Arc::new(spare));
    }
    outbound
}

/// Where each gateway is: its next hop where that is an address, but for a second one at the same place.
fn edges(outbound: Option<&OutboundTrunk>) -> Vec<(String, SocketAddr)> {
    let mut edges: Vec<(String, SocketAddr)> = Vec::new();
    let gateways = outbound.map(|outbound| outbound.gateways.as_slice()).unwrap_or_default();
    for (gateway, last) in gateways.iter().zip(10..) {
        let hop = gateway.next_hop();
        let [a, b, c] = GATEWAYS;
        let stand_in = IpAddr::V4(Ipv4Addr::new(a, b, c, last));
        let port = hop.port.unwrap_or(OUR_PORT);
        let stated = hop.host.trim_matches(['[', ']']).parse().ok();
        let stated = stated.filter(|ip| !edges.iter().any(|(_, own)| own.ip() == *ip));
        let address = SocketAddr::new(stated.unwrap_or(stand_in), port);
        edges.push((gateway.name.to_string(), address));
    }
    edges
}
