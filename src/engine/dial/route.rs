//! Whom a leg is dialled to: gateways chosen by routing, or one peer by its own address.

use crate::call::dial::Credentials;
use crate::call::dial::PeerUri;
use crate::call::event::Charged;
use crate::engine::dial::peer::PeerAttempt;
use crate::engine::dialog_policy;
use crate::engine::dialog_policy::dialog_policy;
use crate::engine::registry::RegisteredWay;
use crate::engine::registry::Registry;
use crate::engine::way;
use crate::net::dns::Named;
use crate::routing::decision::Decision;
use crate::routing::gateway_addresses::GatewayAddress;
use crate::routing::health;
use crate::routing::invite_form::called_uri;
use crate::routing::outbound;
use crate::routing::outbound::OutboundPlan;
use crate::routing::outbound::Try;
use crate::routing::outbound_attempt::CarrierRefusal;
use crate::routing::outbound_attempt::Input;
use crate::routing::outbound_attempt::OutboundAttempt;
use crate::routing::outbound_attempt::Output;
use crate::routing::outbound_attempt::TryId;
use crate::routing::trunk::Trunk;
use crate::sip::digest::client::Account;
use crate::sip::endpoint::flow::Flow;
use crate::sip::endpoint::outbound::OutboundInvite;
use crate::sip::endpoint::told::RefusalNote;
use crate::sip::locate::LocateError;
use crate::sip::locate::NextHop;
use crate::sip::locate::Rules;
use crate::sip::message::field::HeaderField;
use crate::types::cause::HangupCause;
use crate::types::header::FieldName;
use crate::types::header::FieldValue;
use crate::types::id::TenantId;
use crate::types::moment::Moment;
use crate::types::number::E164;
use crate::types::srtp::SrtpPolicy;
use crate::types::transport::Oversize;
use crate::types::transport::Transport;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// How long the next address of a peer waits for the one before it to say anything.
const PEER_SILENCE: Duration = Duration::from_secs(4);

/// By what way a leg is dialled.
#[derive(Debug)]
pub(crate) enum DialRoute {
    /// By gateways, one after the other.
    Planned(Box<OutboundPlan>),
    /// One peer.
    Peer(Box<PeerRoute>),
}

/// One peer, by its own address.
#[derive(Debug)]
pub(crate) struct PeerRoute {
    /// Its address.
    pub(crate) uri: PeerUri,
    /// Who we are, where it asks.
    pub(crate) credentials: Option<Credentials>,
    /// More headers.
    pub(crate) headers: Vec<(FieldName, FieldValue)>,
    /// The user and name we call as.
    pub(crate) from_user: String,
    /// The address we call from.
    pub(crate) from_host: IpAddr,
    /// Max-Forwards.
    pub(crate) hops: u8,
    /// Whether its media are encrypted.
    pub(crate) srtp: SrtpPolicy,
    /// It may ask us to connect the call with somebody else.
    pub(crate) transfers: bool,
}

/// The transport a peer's address asks for; UDP where it leaves that to DNS.
pub(crate) fn transport_of(uri: &PeerUri) -> Transport {
    way::transport_of(uri.as_str())
}

/// What is to be done next for a leg that is dialled.
#[derive(Debug)]
pub(super) enum Todo {
    /// Try this.
    Try(TryId, Box<Target>),
    /// Give a try up, for this cause.
    Abandon(TryId, HangupCause),
    /// The board is to hear of this.
    Board(Output),
    /// What is said of an address of a peer.
    OfPeer { route: Arc<PeerRoute>, address: GatewayAddress, input: health::Input },
    /// The leg is answered.
    Connected,
    /// There is nothing left.
    GiveUp { cause: HangupCause, status: Option<u16> },
}

/// What one try is sent to.
#[derive(Debug)]
pub(super) enum Target {
    Gateway(Box<Try>),
    Peer(Arc<PeerRoute>),
}

/// Chooses what is tried.
#[derive(Debug)]
pub(super) enum Chooser {
    Gateways(Box<OutboundAttempt>),
    Peer(PeerAttempt),
}

impl Chooser {
    pub(super) fn new(route: DialRoute) -> Self {
        match route {
            DialRoute::Planned(plan) => Self::Gateways(Box::new(OutboundAttempt::new(*plan))),
            DialRoute::Peer(route) => Self::Peer(PeerAttempt::new(Arc::from(route))),
        }
    }

    pub(super) fn deadline(&self) -> Option<Moment> {
        match self {
            Self::Gateways(attempt) => attempt.deadline(),
            Self::Peer(_) => None,
        }
    }

    /// The steps so far; none for a peer of which there is nothing to say.
    pub(super) fn decision(&self) -> Option<Decision> {
        match self {
            Self::Gateways(attempt) => Some(attempt.decision().clone()),
            Self::Peer(attempt) => {
                let decision = attempt.decision();
                (!decision.steps().is_empty()).then(|| decision.clone())
            }
        }
    }

    /// Whether another address of the same next hop is to be asked after this refusal.
    pub(super) fn takes_another_address(&self, refusal: &CarrierRefusal) -> bool {
        match self {
            Self::Gateways(attempt) => attempt.takes_another_address(refusal),
            Self::Peer(attempt) => attempt.takes_another_address(refusal),
        }
    }

    pub(super) fn handle(&mut self, now: Moment, input: Input, todo: &mut Vec<Todo>) {
        match self {
            Self::Gateways(attempt) => {
                let mut out = Vec::new();
                attempt.handle(now, input, &mut out);
                todo.extend(out.into_iter().map(|output| match output {
                    Output::Try { id, attempt } => {
                        Todo::Try(id, Box::new(Target::Gateway(attempt)))
                    }
                    Output::Abandon { id, cause } => Todo::Abandon(id, cause),
                    Output::Health { .. } | Output::Throttle { .. } => Todo::Board(output),
                    Output::Connected { .. } => Todo::Connected,
                    Output::GiveUp { cause, status, .. } => Todo::GiveUp { cause, status },
                }));
            }
            Self::Peer(attempt) => attempt.handle(input, todo),
        }
    }
}

impl Target {
    pub(super) fn trunk(&self) -> Option<&Arc<Trunk>> {
        match self {
            Self::Gateway(attempt) => Some(&attempt.trunk),
            Self::Peer(_) => None,
        }
    }

    /// Who says where it is, in a call of this tenant.
    pub(super) fn named(&self, tenant: TenantId) -> Named {
        self.trunk().map_or(Named::ByTenant(Some(tenant)), |trunk| way::named_by(trunk))
    }

    /// Whether a tenant names it: the peer, or those of its own trunk.
    pub(super) fn is_tenants(&self) -> bool {
        self.trunk().is_none_or(|trunk| trunk.path.is_tenants)
    }

    /// What it is charged to should it be answered.
    pub(super) fn charged(&self) -> Option<Charged> {
        match self {
            Self::Gateway(attempt) => {
                let rate = outbound::rate(&attempt.trunk, attempt.dialled);
                let rate = rate.map(|rate| rate.prefix.clone());
                Some(Charged { trunk: attempt.trunk.id, rate })
            }
            Self::Peer(_) => None,
        }
    }

    /// Names of headers of its requests whose values are secrets.
    pub(super) fn secret_headers(&self) -> Arc<[Box<str>]> {
        self.trunk().into_iter().flat_map(|trunk| trunk.secret_headers()).map(Box::from).collect()
    }

    /// The host its peer is addressed by.
    pub(super) fn peer_host(&self) -> String {
        match self {
            Self::Gateway(attempt) => attempt.gateway.uri.host.clone(),
            Self::Peer(route) => {
                NextHop::parse(route.uri.as_str()).map(|hop| hop.host).unwrap_or_default()
            }
        }
    }

    /// The address of a number at its peer, for a REFER to that.
    pub(super) fn number_uri(&self, to: E164) -> String {
        let of_trunk = match self {
            Self::Gateway(attempt) => called_uri(&attempt.trunk, &attempt.gateway, to),
            Self::Peer(_) => None,
        };
        of_trunk.unwrap_or_else(|| format!("sip:{}@{}", to.as_str(), self.peer_host()))
    }

    /// Where its requests go, as a question for DNS.
    pub(super) fn search(&self) -> Result<(NextHop, Rules), LocateError> {
        match self {
            Self::Gateway(attempt) => way::gateway_search(&attempt.gateway),
            Self::Peer(route) => way::peer_search(route.uri.as_str()),
        }
    }

    /// The way its trunk registered by, where its calls take that.
    pub(super) fn registered_way(&self, registry: &Registry) -> Option<RegisteredWay> {
        match self {
            Self::Gateway(attempt) if attempt.outbound().via_registered_flow => {
                registry.registered_way(attempt.trunk.id)
            }
            Self::Gateway(_) | Self::Peer(_) => None,
        }
    }

    /// How long one of its addresses may say nothing at all.
    pub(super) fn silence(&self) -> Option<Duration> {
        match self {
            Self::Gateway(attempt) => {
                Some(attempt.outbound().patience.no_reply).filter(|patience| !patience.is_zero())
            }
            Self::Peer(_) => Some(PEER_SILENCE),
        }
    }

    /// The INVITE to it by `flow`.
    pub(super) fn invite(&self, flow: Flow) -> OutboundInvite {
        let mut invite = match self {
            Self::Gateway(attempt) => by_gateway(attempt, flow),
            Self::Peer(route) => to_peer(route, flow),
        };
        invite.silence_max = self.silence();
        invite
    }
}

/// What a refusal of a carrier's means to the attempt.
pub(crate) fn refusal(status: u16, phrase: String, note: &RefusalNote) -> CarrierRefusal {
    let text = |part: Option<&[u8]>| String::from_utf8_lossy(part.unwrap_or_default()).into_owned();
    CarrierRefusal {
        status,
        phrase,
        q850: note.q850,
        retry_after: note.retry_after_s.map(|s| Duration::from_secs(u64::from(s))),
        contacts: note
            .redirects
            .iter()
            .map(|redirect| (text(redirect.uri.user()), text(redirect.uri.host())))
            .collect(),
    }
}

/// The INVITE of a try by `flow`.
pub(crate) fn by_gateway(attempt: &Try, flow: Flow) -> OutboundInvite {
    let form = &attempt.invite;
    let outbound = attempt.outbound();
    let mut invite = OutboundInvite::new(flow, &form.uri, &form.from);
    invite.from_display.clone_from(&form.from_display);
    invite.to.clone_from(&form.to);
    invite.contact_user.clone_from(&form.contact_user);
    invite.max_forwards = form.max_forwards;
    let route = form.route.as_deref().map(|route| route.trim_matches(['<', '>']).to_owned());
    invite.routes = route.into_iter().collect();
    invite.headers = form
        .headers
        .iter()
        .filter_map(|(name, value)| HeaderField::new(name.as_str(), value.as_str()).ok())
        .collect();
    invite.accounts = outbound.account.iter().map(dialog_policy::account).collect();
    let path = &attempt.trunk.path;
    invite.advertised.clone_from(&path.advertised);
    invite.policy = dialog_policy(&attempt.trunk, attempt.trunk.takes_refer);
    invite.ringing_max = outbound.patience.until_answer(attempt.trunk.ring_timeout);
    invite
}

fn to_peer(route: &PeerRoute, flow: Flow) -> OutboundInvite {
    let from = match route.from_host {
        IpAddr::V4(host) => format!("sip:{}@{host}", route.from_user),
        IpAddr::V6(host) => format!("sip:{}@[{host}]", route.from_user),
    };
    let mut invite = OutboundInvite::new(flow, route.uri.as_str(), &from);
    invite.contact_user.clone_from(&route.from_user);
    invite.max_forwards = route.hops;
    invite.headers = route
        .headers
        .iter()
        .filter_map(|(name, value)| HeaderField::new(name.as_str(), value.as_str()).ok())
        .collect();
    let account = |own: &Credentials| Account::new(&own.username, own.password.clone());
    invite.accounts = route.credentials.iter().map(account).collect();
    invite.policy.datagrams.oversize = Oversize::Tcp;
    invite.policy.takes_refer = true;
    invite
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing::outbound::tests::Lab;
    use crate::routing::outbound::tests::request;
    use crate::routing::outbound::tests::trunk;
    use crate::sip::endpoint::flow::FlowId;
    use std::net::Ipv4Addr;
    use std::net::SocketAddr;

    #[test]
    fn a_call_rings_its_time_where_its_set_up_has_no_limit() {
        let until_answer = |setup_s| {
            let setup = Duration::from_secs(setup_s);
            let own = trunk(1, |outbound| outbound.patience.setup = setup);
            let attempt = Lab::new(vec![own]).first(request("+15551234567"));
            let place = SocketAddr::from((Ipv4Addr::LOCALHOST, 5_060));
            let flow = Flow {
                id: FlowId(1),
                listener: 0,
                transport: Transport::Udp,
                local: place,
                remote: place,
            };
            by_gateway(&attempt, flow).ringing_max
        };
        let (ring, hour) = (Duration::from_secs(45), Duration::from_secs(3_600));
        assert_eq!(until_answer(60), Duration::from_secs(60) + ring);
        assert!(until_answer(0) > hour + ring);
    }

    #[test]
    fn a_gateway_may_say_nothing_for_as_long_as_its_trunk_waits() {
        let silence = |millis| {
            let no_reply = Duration::from_millis(millis);
            let own = trunk(1, |outbound| outbound.patience.no_reply = no_reply);
            let attempt = Lab::new(vec![own]).first(request("+15551234567"));
            Target::Gateway(Box::new(attempt)).silence()
        };
        assert_eq!(silence(1_500), Some(Duration::from_millis(1_500)));
        assert_eq!(silence(0), None, "for ever");
    }
}
