//! Explain: what would happen to a call, step by step, without a call.

use crate::routing::admission::Admission;
use crate::routing::decision::Decision;
use crate::routing::gateway_board::GatewayBoard;
use crate::routing::identify::Attempt;
use crate::routing::identify::Proof;
use crate::routing::inbound::Verdict;
use crate::routing::inbound::route;
use crate::routing::outbound;
use crate::routing::outbound::OutboundPlan;
use crate::routing::outbound::OutboundRefusal;
use crate::routing::outbound::OutboundRequest;
use crate::routing::outbound::Surroundings;
use crate::routing::table::RoutingTable;
use crate::routing::trail::TrailKey;
use crate::routing::usage::Usage;
use crate::types::moment::Moment;
use crate::types::name::ListenerName;
use crate::types::random::Random;
use crate::types::transport::Transport;
use jiff::Timestamp;
use std::net::IpAddr;

/// A call that is only thought of.
#[derive(Clone, Debug)]
pub struct Question {
    /// The listener it would arrive at.
    pub listener: ListenerName,
    /// How it would come.
    pub transport: Transport,
    /// Where it would come from.
    pub source: IpAddr,
    /// Who would call: a number, a user, a `sip:` or a `tel:` URI.
    pub from: String,
    /// What would be dialled: the same.
    pub to: String,
    /// Headers it would carry.
    pub headers: Vec<(String, String)>,
}

/// Routes the call of `question`. Trunks that want credentials are taken to have got them.
#[must_use]
pub fn explain(table: &RoutingTable, question: &Question) -> (Verdict, Decision) {
    let mut decision = Decision::new();
    let header = |name: &str, nth: usize| {
        let headers = question.headers.iter();
        let mut named = headers.filter(|(own, _)| own.eq_ignore_ascii_case(name));
        named.nth(nth).map(|(_, value)| value.as_bytes())
    };
    let to = user_of(&question.to).as_bytes();
    let trail_key = TrailKey::default();
    let attempt = Attempt {
        listener: &question.listener,
        source: question.source,
        transport: question.transport,
        certificate: None,
        own_host: "",
        request_host: host_of(&question.to).as_bytes(),
        request_user: to,
        to_user: to,
        diversion_user: &[],
        called_party_user: &[],
        caller_user: user_of(&question.from).as_bytes(),
        diverted: &[],
        history: &[],
        trail_key: &trail_key,
        header: &header,
        proof: &|_| Proof::Valid,
    };
    let verdict = route(table, &attempt, &mut decision);
    (verdict, decision)
}

/// Plans the call out of `request` as if every gateway were up and every registration held, and
/// writes down the INVITE to each gateway.
///
/// # Errors
///
/// The refusal, with its steps.
pub fn explain_outbound(
    table: &RoutingTable,
    wall: Timestamp,
    request: OutboundRequest,
    random: &mut Random,
) -> Result<OutboundPlan, Box<OutboundRefusal>> {
    let mut board = GatewayBoard::new(Random::from_seed(random.next_u64()));
    board.follow(Moment::START, table, &mut Vec::new());
    for trunk in table.trunks() {
        board.set_registered(trunk.id, true);
    }
    let mut around = Surroundings {
        board: &mut board,
        admission: &Admission::default(),
        usage: &mut Usage::default(),
        wall,
        random,
    };
    let mut plan = outbound::plan(Moment::START, table, &mut around, request)?;
    for attempt in &plan.tries {
        let (hop, invite) = (attempt.gateway.next_hop(), &attempt.invite);
        plan.decision.note("send", format!("{} to {hop}", attempt.gateway.name));
        plan.decision.note("invite", format!("INVITE {}", invite.uri));
        let name = invite.from_display.as_ref().map_or(String::new(), |name| format!("{name:?} "));
        plan.decision.note("invite", format!("From: {name}<{}>", invite.from));
        plan.decision.note("invite", format!("To: <{}>", invite.to));
        for (name, value) in &invite.headers {
            let secret = attempt.outbound().headers.is_secret(name);
            let value = if secret { "***" } else { value.as_str() };
            plan.decision.note("invite", format!("{name}: {value}"));
        }
    }
    Ok(plan)
}

/// The host of what an operator types; empty where there is none.
fn host_of(text: &str) -> &str {
    let host = text.split_once('@').map_or("", |(_, host)| host);
    let end =
        if host.starts_with('[') { host.find(']').map(|at| at + 1) } else { host.find([':', ';']) };
    end.and_then(|end| host.get(..end)).unwrap_or(host)
}

/// The user part of what an operator types.
fn user_of(text: &str) -> &str {
    let rest = ["sip:", "sips:"].iter().find_map(|scheme| text.strip_prefix(scheme));
    match rest {
        Some(rest) => rest.split_once('@').map_or("", |(user, _)| user),
        None => text.split_once('@').map_or(text, |(user, _)| user),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing::contents::Contents;
    use crate::routing::trunk::DigestAccount;
    use crate::routing::trunk::Trunk;
    use crate::types::cause::HangupCause;
    use crate::types::id::TrunkId;
    use crate::types::secret::Secret;
    use uuid::Uuid;

    #[test]
    fn an_explanation_takes_credentials_and_headers_as_given() {
        let id = TrunkId::from_uuid(Uuid::from_u128(1));
        let mut trunk = Trunk::new(id, "acme", vec!["192.0.2.0/24".parse().unwrap()]);
        trunk.required_headers = vec![("X-Token".into(), Secret::new("t".into()))];
        trunk.digest = Some(DigestAccount {
            username: "u".into(),
            password: Secret::new("p".into()),
            realm: "r".into(),
            algorithms: Vec::new(),
        });
        let contents = Contents { trunks: vec![trunk], ..Contents::default() };
        let table = RoutingTable::new(contents);
        let mut question = Question {
            listener: "public".parse().unwrap(),
            transport: Transport::Udp,
            source: "192.0.2.1".parse().unwrap(),
            from: "alice@example.com".into(),
            to: "sip:+15550100@example.com".into(),
            headers: vec![("x-token".into(), "t".into())],
        };
        let (verdict, decision) = explain(&table, &question);
        let Verdict::Refuse(refusal) = verdict else { panic!("{verdict:?}") };
        assert_eq!(refusal.cause, HangupCause::UnknownNumber);
        assert_eq!(
            decision.to_string(),
            "\
source     192.0.2.1 over udp at listener public
trunk      acme: matches, authenticated as `u`
dialled    request-uri: `+15550100` is +15550100, as it is
dialled    to: `+15550100` is +15550100, as it is
caller     `alice` is no number, as it is
verdict    404 unknown_number on trunk acme: Number not known here
"
        );
        question.headers.clear();
        let (verdict, decision) = explain(&table, &question);
        assert!(matches!(verdict, Verdict::Unknown));
        assert!(decision.to_string().contains("acme: header X-Token is missing or wrong"));
    }

    #[test]
    fn a_user_is_found_in_whatever_is_typed() {
        for (typed, user) in [
            ("+15550100", "+15550100"),
            ("sip:+15550100@example.com;user=phone", "+15550100"),
            ("sips:a@b", "a"),
            ("+15550100@example.com", "+15550100"),
            ("tel:+15550100", "tel:+15550100"),
            ("sip:example.com", ""),
        ] {
            assert_eq!(user_of(typed), user);
        }
    }
}
