//! Whom the near leg of a call talks with, by the agent of its profile.

use crate::call::dial::DialRequest;
use crate::call::dial::DialTarget;
use crate::call::dial::Joined;
use crate::call::setup::NextAgent;
use crate::call::setup::Partner;
use crate::call::side::LegSide;
use crate::engine::dial;
use crate::engine::leg_terms;
use crate::routing::outbound::DiversionReason;
use crate::routing::table::AiProfile;
use crate::routing::table::RoutingTable;
use crate::routing::template::Scope;
use crate::routing::template::Template;
use crate::types::agent::AgentKind;
use crate::types::agent::AgentSettings;
use crate::types::agent::SipAgent;
use crate::types::header::FieldName;
use crate::types::header::FieldValue;
use crate::types::header::NameGlob;
use crate::types::limit::AGENT_FALLBACKS_MAX;
use crate::types::number::E164;
use crate::types::peer::PeerUri;
use crate::types::srtp::SrtpPolicy;
use crate::types::transport::Transport;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// Whom the near leg talks with.
pub(super) fn of_agent(agent: &AgentSettings) -> Partner {
    match &agent.kind {
        AgentKind::Sip(agent) => Partner::AgentLeg(Box::new(to_agent(agent))),
        AgentKind::Forward(number) => {
            let reason = DiversionReason::Unconditional;
            Partner::Forward(Box::new(to_number(number.to, number.ring_max, reason)))
        }
        AgentKind::Twilio(_)
        | AgentKind::ChanWebsocket(_)
        | AgentKind::AudioSocket(_)
        | AgentKind::Realtime(_)
        | AgentKind::Echo
        | AgentKind::Tone { .. }
        | AgentKind::Announce
        | AgentKind::Parrot
        | AgentKind::Twiml(_)
        | AgentKind::Script(_) => Partner::Agent,
    }
}

/// The profiles whose agents take over in turn from that of `profile`: those that are there, of its tenant.
pub(super) fn fallbacks(table: &RoutingTable, profile: &AiProfile) -> Vec<Arc<AiProfile>> {
    let known = profile.fallback.iter().filter_map(|id| table.ai_profile(*id));
    let own = known.filter(|next| next.tenant == profile.tenant && next.id != profile.id);
    own.take(AGENT_FALLBACKS_MAX).cloned().collect()
}

/// The agents of these profiles, as a call calls for them.
pub(super) fn next_agents(profiles: &[Arc<AiProfile>]) -> VecDeque<NextAgent> {
    let next = |profile: &Arc<AiProfile>| NextAgent {
        profile: profile.id,
        agent: profile.agent.clone(),
        partner: of_agent(&profile.agent),
    };
    profiles.iter().map(next).collect()
}

fn to_agent(agent: &SipAgent) -> DialRequest {
    let header = |(name, value): &(FieldName, FieldValue)| {
        let text = value.as_str();
        // Settings were checked when they were read.
        let template = Template::parse(text, Scope::Agent);
        (name.clone(), template.unwrap_or_else(|_| Template::fixed(text)))
    };
    let mut request = to_peer(agent.uri.clone(), agent.ring_max);
    request.terms = leg_terms::of_peer(dial::transport_of(&agent.uri), agent.srtp);
    // Whoever answers for us may pass the caller on.
    let transfers = true;
    request.terms.transfers = transfers;
    request.target = DialTarget::Uri {
        uri: agent.uri.clone(),
        credentials: agent.credentials.clone(),
        headers: agent.headers.iter().map(header).collect(),
        pass: agent.pass.clone(),
        srtp: agent.srtp,
        transfers,
    };
    request
}

/// A leg to a peer by its address.
pub(super) fn to_peer(uri: PeerUri, ring_max: Duration) -> DialRequest {
    let srtp = SrtpPolicy::Off;
    let terms = leg_terms::of_peer(dial::transport_of(&uri), srtp);
    let pass = NameGlob::usual();
    let (credentials, headers, transfers) = (None, Vec::new(), false);
    let target = DialTarget::Uri { uri, credentials, headers, pass, srtp, transfers };
    DialRequest { target, beside: Vec::new(), terms, ring_max }
}

/// A leg to a telephone number that somebody of a running call wants.
pub(super) fn transferred_to(to: E164, ring_max: Duration) -> DialRequest {
    to_number(to, ring_max, DiversionReason::Deflection)
}

/// A leg to a telephone number. The trunk of each attempt sets the terms by which it is offered; these
/// only stand until then.
fn to_number(to: E164, ring_max: Duration, reason: DiversionReason) -> DialRequest {
    let terms = leg_terms::of_peer(Transport::Udp, SrtpPolicy::Off);
    let target = DialTarget::Number {
        to,
        from: None,
        trunk: None,
        reason,
        joined: Joined::Leg(LegSide::Near),
    };
    DialRequest { target, beside: Vec::new(), terms, ring_max }
}
