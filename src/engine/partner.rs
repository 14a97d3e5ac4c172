//! Whom the near leg of a call talks with, by the agent of its profile.

use crate::call::dial::DialRequest;
use crate::call::dial::DialTarget;
use crate::call::setup::Partner;
use crate::engine::dial;
use crate::engine::leg_terms;
use crate::types::agent::AgentKind;
use crate::types::agent::AgentSettings;
use crate::types::agent::SipAgent;
use crate::types::number::E164;
use crate::types::peer::PeerUri;
use crate::types::srtp::SrtpPolicy;
use crate::types::transport::Transport;
use std::time::Duration;

/// Whom the near leg talks with.
pub(super) fn of_agent(agent: &AgentSettings) -> Partner {
    match &agent.kind {
        AgentKind::Sip(agent) => Partner::AgentLeg(Box::new(to_agent(agent))),
        AgentKind::Forward(number) => {
            Partner::Forward(Box::new(to_number(number.to, number.ring_max)))
        }
        AgentKind::Twilio(_)
        | AgentKind::Echo
        | AgentKind::Tone { .. }
        | AgentKind::Announce
        | AgentKind::Parrot => Partner::Agent,
    }
}

fn to_agent(agent: &SipAgent) -> DialRequest {
    let headers = agent.headers.iter();
    let headers =
        headers.map(|(name, value)| (name.as_str().to_owned(), value.as_str().to_owned()));
    let mut request = to_peer(agent.uri.clone(), agent.ring_max);
    request.terms = leg_terms::of_peer(dial::transport_of(&agent.uri), agent.srtp);
    // Whoever answers for us may pass the caller on.
    request.terms.transfers = true;
    request.target = DialTarget::Uri {
        uri: agent.uri.clone(),
        credentials: agent.credentials.clone(),
        headers: headers.collect(),
    };
    request
}

/// A leg to a peer by its address.
pub(super) fn to_peer(uri: PeerUri, ring_max: Duration) -> DialRequest {
    let terms = leg_terms::of_peer(dial::transport_of(&uri), SrtpPolicy::Off);
    let target = DialTarget::Uri { uri, credentials: None, headers: Vec::new() };
    DialRequest { target, terms, ring_max }
}

/// A leg to a telephone number. The trunk of each attempt sets the terms by which it is offered; these
/// only stand until then.
pub(super) fn to_number(to: E164, ring_max: Duration) -> DialRequest {
    let terms = leg_terms::of_peer(Transport::Udp, SrtpPolicy::Off);
    DialRequest { target: DialTarget::Number { to, from: None, trunk: None }, terms, ring_max }
}
