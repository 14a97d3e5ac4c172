//! Whole plans: who may call what, by which trunk, shown as whom, and in which words.

mod running;

use super::*;
use crate::routing::caller_id::Allowed;
use crate::routing::caller_id::Asserted;
use crate::routing::caller_id::Choice;
use crate::routing::caller_id::DiversionPolicy;
use crate::routing::caller_id::OnDisallowed;
use crate::routing::caller_id::Privacy;
use crate::routing::contents::Bar;
use crate::routing::contents::Change;
use crate::routing::contents::Contents;
use crate::routing::contents::RoutingProfile;
use crate::routing::contents::TenantOutbound;
use crate::routing::contents::TenantStatus;
use crate::routing::destination::Micros;
use crate::routing::destination::Prefix;
use crate::routing::destination::Rate;
use crate::routing::gateway;
use crate::routing::gateway_board::GatewayKey;
use crate::routing::health;
use crate::routing::invite_form::called_uri;
use crate::routing::numbers::NumberRules;
use crate::routing::numbers::RuleText;
use crate::routing::outbound_trunk::CallClass;
use crate::routing::outbound_trunk::CallingHours;
use crate::routing::outbound_trunk::ClientAccount;
use crate::routing::outbound_trunk::HeaderText;
use crate::routing::outbound_trunk::Pattern;
use crate::routing::template::Scope;
use crate::routing::template::Template;
use crate::routing::trunk::Jurisdiction;
use crate::types::header::NameGlob;
use crate::types::id::NumberId;
use crate::types::id::RoutingProfileId;
use crate::types::limit::FIELD_VALUE_BYTES_MAX;
use crate::types::secret::Secret;
use crate::types::tenant_plan::TenantPlan;
use jiff::civil::Time;
use proptest::prelude::any;
use proptest::prop_assert;
use proptest::proptest;
use std::time::Duration;
use uuid::Uuid;

pub(crate) fn trunk_id(n: u128) -> TrunkId {
    TrunkId::from_uuid(Uuid::from_u128(n))
}

pub(crate) fn tenant_id(n: u128) -> TenantId {
    TenantId::from_uuid(Uuid::from_u128(n))
}

pub(crate) fn prefixes(texts: &[&str]) -> Vec<Prefix> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

pub(crate) fn gateway(name: &str, priority: u16) -> Arc<Gateway> {
    Arc::new(Gateway {
        name: name.parse().unwrap(),
        uri: format!("sip:{name}.example").parse().unwrap(),
        proxy: None,
        lookup: gateway::Lookup::Srv,
        priority,
        weight: 100,
        calls_max: 0,
        cps_max: 0,
    })
}

/// A shared trunk with gateways `a` and `b` that may call +1 and +91.
pub(crate) fn trunk(n: u128, change: impl FnOnce(&mut OutboundTrunk)) -> Trunk {
    let mut outbound = OutboundTrunk::new(vec![gateway("a", 10), gateway("b", 20)]);
    outbound.destinations.allow = prefixes(&["+1", "+91"]);
    change(&mut outbound);
    let mut trunk = Trunk::new(trunk_id(n), format!("trunk-{n}"), Vec::new());
    trunk.outbound = Some(Arc::new(outbound));
    trunk
}

pub(crate) fn tenant(n: u128, trunk: Option<u128>) -> Tenant {
    Tenant {
        id: tenant_id(n),
        name: format!("tenant-{n}"),
        status: TenantStatus::Active,
        plan: None,
        calls_max: 0,
        cps_max: 0,
        default_profile: None,
        outbound: TenantOutbound { trunk: trunk.map(trunk_id), ..TenantOutbound::default() },
        record: Default::default(),
    }
}

pub(crate) fn number(n: u128, tenant: u128, e164: &str) -> Number {
    Number {
        id: NumberId::from_uuid(Uuid::from_u128(n)),
        tenant: tenant_id(tenant),
        first: e164.parse().unwrap(),
        last: e164.parse().unwrap(),
        trunk: None,
        outbound_trunk: None,
        routing_profile: None,
        ai_profile: None,
        campaign: None,
        active: true,
        barred: None,
        record: None,
    }
}

fn rules(list: &[(&str, &str)]) -> NumberRules {
    let list: Vec<RuleText> =
        list.iter().map(|(p, to)| RuleText { pattern: (*p).into(), to: (*to).into() }).collect();
    NumberRules::compile(&list, "80").unwrap()
}

/// A table with one tenant's number +15550100, another's +15550200, and what is around it.
pub(crate) struct Lab {
    pub(crate) table: RoutingTable,
    pub(crate) board: GatewayBoard,
    pub(crate) admission: Admission,
    pub(crate) usage: Usage,
    pub(crate) random: Random,
    pub(crate) wall: Timestamp,
    pub(crate) now: Moment,
}

impl Lab {
    pub(crate) fn new(trunks: Vec<Trunk>) -> Self {
        let contents = Contents {
            tenants: vec![tenant(1, Some(1)), tenant(2, Some(1))],
            numbers: vec![number(1, 1, "+15550100"), number(2, 2, "+15550200")],
            trunks,
            ..Contents::default()
        };
        let table = RoutingTable::new(contents);
        let mut board = GatewayBoard::new(Random::from_seed(1));
        board.follow(Moment::START, &table, &mut Vec::new());
        Self {
            table,
            board,
            admission: Admission::default(),
            usage: Usage::default(),
            random: Random::from_seed(2),
            wall: "2026-11-21T10:00:00Z".parse().unwrap(),
            now: Moment::START,
        }
    }

    fn apply(&mut self, change: Change) {
        self.table.apply(change).unwrap();
    }

    pub(crate) fn plan(
        &mut self,
        request: OutboundRequest,
    ) -> Result<OutboundPlan, Box<OutboundRefusal>> {
        let mut around = Surroundings {
            board: &mut self.board,
            admission: &self.admission,
            usage: &mut self.usage,
            wall: self.wall,
            random: &mut self.random,
        };
        plan(self.now, &self.table, &mut around, request)
    }

    fn cause(&mut self, request: OutboundRequest) -> HangupCause {
        match self.plan(request) {
            Ok(plan) => panic!("{}", plan.decision),
            Err(refusal) => refusal.cause,
        }
    }

    pub(crate) fn first(&mut self, request: OutboundRequest) -> Try {
        match self.plan(request) {
            Ok(plan) => plan.tries.into_iter().next().unwrap(),
            Err(refusal) => panic!("{}", refusal.decision),
        }
    }
}

/// A call of tenant 1 from its number.
pub(crate) fn request(to: &str) -> OutboundRequest {
    let mut request = OutboundRequest::new(tenant_id(1), to.parse().unwrap());
    request.from = Some("+15550100".parse().unwrap());
    request
}

fn names(plan: &OutboundPlan) -> Vec<String> {
    plan.tries.iter().map(|t| format!("{}/{}", t.trunk.name, t.gateway.name)).collect()
}

fn header<'a>(attempt: &'a Try, name: &str) -> Option<&'a str> {
    let mut headers = attempt.invite.headers.iter();
    headers.find(|(own, _)| own.as_str() == name).map(|(_, value)| value.as_str())
}

#[test]
fn the_numbers_trunk_comes_first_then_its_routing_profile_then_the_tenants() {
    let mut lab = Lab::new((1..=4).map(|n| trunk(n, |_| {})).collect());
    let plan = lab.plan(request("+15551234567")).unwrap();
    assert_eq!(names(&plan), ["trunk-1/a", "trunk-1/b"]);
    let profile = RoutingProfileId::from_uuid(Uuid::from_u128(9));
    lab.apply(Change::RoutingProfile(RoutingProfile {
        id: profile,
        tenant: None,
        name: "growth-us".into(),
        plan: None,
        country: None,
        fits_by_itself: true,
        outbound_trunk: Some(trunk_id(2)),
        inbound_trunk: None,
    }));
    let mut row = number(1, 1, "+15550100");
    row.routing_profile = Some(profile);
    lab.apply(Change::Number(row.clone()));
    let plan = lab.plan(request("+15551234567")).unwrap();
    assert_eq!(names(&plan), ["trunk-2/a", "trunk-2/b", "trunk-1/a", "trunk-1/b"]);
    row.trunk = Some(trunk_id(3));
    lab.apply(Change::Number(row.clone()));
    let plan = lab.plan(request("+15551234567"));
    let text = plan.as_ref().unwrap().decision.to_string();
    assert_eq!(names(&plan.unwrap()), ["trunk-3/a", "trunk-3/b"], "{text}");
    assert!(text.contains("trunk-2: no caller ID: the trunk does not allow it"), "{text}");
    row.outbound_trunk = Some(trunk_id(4));
    row.trunk = None;
    lab.apply(Change::Number(row));
    let plan = lab.plan(request("+15551234567")).unwrap();
    assert_eq!(names(&plan).first().map(String::as_str), Some("trunk-4/a"));
    let mut asked = request("+15551234567");
    asked.trunk = Some(trunk_id(2));
    assert_eq!(names(&lab.plan(asked).unwrap()), ["trunk-2/a", "trunk-2/b"]);
}

fn way(n: u128, plan: Option<TenantPlan>, country: Option<&str>) -> Change {
    Change::RoutingProfile(RoutingProfile {
        id: RoutingProfileId::from_uuid(Uuid::from_u128(n)),
        tenant: None,
        name: format!("way-{n}"),
        plan,
        country: country.map(|country| country.parse().unwrap()),
        fits_by_itself: true,
        outbound_trunk: Some(trunk_id(n)),
        inbound_trunk: None,
    })
}

#[test]
fn a_number_without_a_profile_calls_out_by_that_of_its_plan_and_country() {
    let mut lab = Lab::new((1..=4).map(|n| trunk(n, |_| {})).collect());
    let first = |lab: &mut Lab| lab.first(request("+15551234567")).trunk.name.clone();
    lab.apply(way(2, Some(TenantPlan::Growth), Some("US")));
    lab.apply(way(3, None, Some("GB")));
    assert_eq!(first(&mut lab), "trunk-1");
    let mut growth = tenant(1, Some(1));
    growth.plan = Some(TenantPlan::Growth);
    lab.apply(Change::Tenant(growth));
    let plan = lab.plan(request("+15551234567")).unwrap();
    assert_eq!(names(&plan), ["trunk-2/a", "trunk-2/b", "trunk-1/a", "trunk-1/b"]);
    let text = plan.decision.to_string();
    assert!(text.contains("way-2, for numbers of US with the plan growth"), "{text}");
    lab.apply(way(4, None, Some("US")));
    assert_eq!(first(&mut lab), "trunk-2");
    lab.apply(Change::Tenant(tenant(1, Some(1))));
    assert_eq!(first(&mut lab), "trunk-4");
    lab.apply(Change::Number(number(1, 1, "+442079460042")));
    let mut call = request("+15551234567");
    call.from = Some("+442079460042".parse().unwrap());
    assert_eq!(lab.first(call).trunk.name.as_str(), "trunk-3");
}

#[test]
fn a_number_is_dialled_in_the_national_form_of_who_calls() {
    let mut lab = Lab::new(vec![trunk(1, |outbound| {
        outbound.destinations.allow = prefixes(&["+44", "+1"]);
    })]);
    lab.apply(Change::Number(number(1, 1, "+442079460042")));
    let from = |to: &str| {
        let mut call = request(to);
        call.from = Some("+442079460042".parse().unwrap());
        call
    };
    assert_eq!(lab.cause(from("020 7946 0999")), HangupCause::NotANumber);
    lab.apply(way(1, None, Some("GB")));
    for (to, dialled) in [
        ("020 7946 0999", "+442079460999"),
        ("0044 20 7946 0999", "+442079460999"),
        ("(001) 202-555-0100", "+12025550100"),
        ("+442079460999", "+442079460999"),
    ] {
        let plan = lab.plan(from(to)).unwrap();
        assert_eq!(plan.dialled.as_str(), dialled, "{to}");
        let is_read = plan.decision.to_string().contains("by the numbering of GB");
        assert_eq!(is_read, !to.starts_with('+'), "{to}: {}", plan.decision);
    }
    for nothing in ["112", "1001", "ann", "+44 20", "00"] {
        assert_eq!(lab.cause(from(nothing)), HangupCause::NotANumber, "{nothing}");
    }
    // What is read so is judged as it is: nothing is called that may not be.
    assert_eq!(lab.cause(from("0033142685300")), HangupCause::DestinationDenied);
    // Whose call names no number of its own has no country.
    let mut call = request("020 7946 0999");
    call.from = None;
    assert_eq!(lab.cause(call), HangupCause::NotANumber);
}

#[test]
fn a_number_that_may_not_be_used_is_not_shown() {
    for bar in [Bar::CompliancePending, Bar::ComplianceRejected, Bar::Reserved, Bar::Released] {
        let mut lab = Lab::new(vec![trunk(1, |_| {})]);
        let mut row = number(1, 1, "+15550100");
        row.barred = Some(bar);
        lab.apply(Change::Number(row));
        let refusal = lab.plan(request("+15551234567")).unwrap_err();
        assert_eq!(refusal.cause, HangupCause::CallerIdDenied);
        let text = refusal.decision.to_string();
        assert!(text.contains(&bar.to_string()), "{text}");
    }
}

#[test]
fn a_call_without_any_trunk_is_refused_with_the_reason() {
    let mut lab = Lab::new(vec![trunk(1, |_| {})]);
    lab.apply(Change::Tenant(tenant(1, None)));
    let refusal = lab.plan(request("+15551234567")).unwrap_err();
    assert_eq!(refusal.cause, HangupCause::NoTrunk);
    let text = refusal.decision.to_string();
    assert!(
        text.contains("neither the number, its routing profile nor the tenant names one"),
        "{text}"
    );
    assert!(text.contains("404 no_trunk"), "{text}");
}

#[test]
fn a_trunk_of_another_tenant_is_not_even_known() {
    let mut other = trunk(1, |_| {});
    other.tenant = Some(tenant_id(2));
    let mut lab = Lab::new(vec![other]);
    let refusal = lab.plan(request("+15551234567")).unwrap_err();
    assert_eq!((refusal.cause, refusal.trunk.is_none()), (HangupCause::NoTrunk, true));
    assert!(!refusal.decision.to_string().contains("trunk-1"));
}

#[test]
fn suspended_and_deleted_tenants_and_senseless_numbers_are_refused() {
    let mut lab = Lab::new(vec![trunk(1, |_| {})]);
    assert_eq!(lab.cause(request("112")), HangupCause::NotANumber);
    assert_eq!(lab.cause(request("alice")), HangupCause::NotANumber);
    let mut gone = tenant(1, Some(1));
    for (status, cause) in [
        (TenantStatus::Suspended, HangupCause::TenantSuspended),
        (TenantStatus::Deleted, HangupCause::TenantDeleted),
    ] {
        gone.status = status;
        lab.apply(Change::Tenant(gone.clone()));
        assert_eq!(lab.cause(request("+15551234567")), cause);
    }
    lab.apply(Change::TenantGone(tenant_id(1)));
    assert_eq!(lab.cause(request("+15551234567")), HangupCause::TenantDeleted);
}

#[test]
fn a_tenant_never_shows_another_tenants_number() {
    for choice in [Choice::Pass, Choice::AllowList] {
        let mut shared = trunk(1, |outbound| {
            outbound.caller_id.choice = choice;
            outbound.caller_id.on_disallowed = OnDisallowed::Reject;
            outbound.caller_id.allowed =
                vec![Allowed::Number("+15550200".parse().unwrap()), Allowed::Dids];
        });
        // Not even on a trunk of its own that lists the number.
        for owner in [None, Some(tenant_id(1))] {
            shared.tenant = owner;
            let mut lab = Lab::new(vec![shared.clone()]);
            let mut call = request("+15551234567");
            call.from = Some("+15550200".parse().unwrap());
            assert_eq!(lab.cause(call), HangupCause::CallerIdDenied, "{choice:?} {owner:?}");
        }
    }
    // Nor by the default of the trunk.
    let mut lab = Lab::new(vec![trunk(1, |outbound| {
        outbound.caller_id.default = Some("+15550200".parse().unwrap());
        outbound.caller_id.choice = Choice::Fixed;
    })]);
    assert_eq!(lab.cause(request("+15551234567")), HangupCause::CallerIdDenied);
}

#[test]
fn a_number_that_is_nobodys_is_shown_on_the_tenants_own_trunk_alone() {
    let verified = "+15550199".parse().unwrap();
    let mut own = trunk(1, |outbound| {
        outbound.caller_id.allowed = vec![Allowed::Number(verified)];
        outbound.caller_id.on_disallowed = OnDisallowed::Reject;
    });
    let mut call = request("+15551234567");
    call.from = Some(verified);
    assert_eq!(Lab::new(vec![own.clone()]).cause(call.clone()), HangupCause::CallerIdDenied);
    own.tenant = Some(tenant_id(1));
    assert_eq!(Lab::new(vec![own]).first(call).caller(), verified);
}

#[test]
fn a_caller_the_trunk_does_not_list_is_replaced_or_refused() {
    let policy = |on_disallowed| {
        trunk(1, |outbound| {
            outbound.caller_id.allowed = vec![Allowed::Prefix("+15550100".parse().unwrap())];
            outbound.caller_id.default = Some("+15550100".parse().unwrap());
            outbound.caller_id.on_disallowed = on_disallowed;
        })
    };
    let mut call = request("+15551234567");
    call.from = Some("+15550101".parse().unwrap());
    let mut lab = Lab::new(vec![policy(OnDisallowed::UseDefault)]);
    lab.apply(Change::Number(number(3, 1, "+15550101")));
    assert_eq!(lab.first(call.clone()).invite.from, "sip:+15550100@a.example");
    let mut lab = Lab::new(vec![policy(OnDisallowed::Reject)]);
    lab.apply(Change::Number(number(3, 1, "+15550101")));
    assert_eq!(lab.cause(call.clone()), HangupCause::CallerIdDenied);
    // A number out of service is nobody's to show.
    let mut off = number(1, 1, "+15550100");
    off.active = false;
    lab.apply(Change::Number(off));
    assert_eq!(lab.cause(request("+15551234567")), HangupCause::CallerIdDenied);
    // Without a wish, and without a default.
    let mut lab = Lab::new(vec![trunk(1, |_| {})]);
    call.from = None;
    assert_eq!(lab.cause(call), HangupCause::CallerIdDenied);
}

#[test]
fn each_carrier_reads_the_caller_where_it_wants_it() {
    for (asserted, name, value) in [
        (Asserted::Pai, "P-Asserted-Identity", Some("<sip:+15550100@own.example;user=phone>")),
        (Asserted::Ppi, "P-Preferred-Identity", Some("<sip:+15550100@own.example;user=phone>")),
        (
            Asserted::Rpid,
            "Remote-Party-ID",
            Some("<sip:+15550100@own.example;user=phone>;party=calling;screen=yes;privacy=off"),
        ),
        (Asserted::None, "P-Asserted-Identity", None),
    ] {
        let mut lab = Lab::new(vec![trunk(1, |outbound| {
            outbound.caller_id.asserted = asserted;
            outbound.caller_id.display_name = Template::fixed("Acme \"Inc\"");
            outbound.form.from_host = Template::fixed("own.example");
            outbound.form.to_host = Template::fixed("number.example");
            outbound.form.user_phone = true;
        })]);
        let attempt = lab.first(request("+15551234567"));
        assert_eq!(header(&attempt, name), value);
        assert_eq!(header(&attempt, "Privacy"), None);
        assert_eq!(attempt.invite.from, "sip:+15550100@own.example;user=phone");
        assert_eq!(attempt.invite.from_display.as_deref(), Some("Acme \"Inc\""));
        assert_eq!(attempt.invite.to, "sip:+15551234567@number.example;user=phone");
        assert_eq!(attempt.invite.uri, "sip:+15551234567@a.example;user=phone");
    }
}

#[test]
fn user_phone_is_added_where_the_trunk_says_so() {
    for (wanted, end) in [(true, ";user=phone"), (false, "")] {
        let mut lab = Lab::new(vec![trunk(1, |outbound| outbound.form.user_phone = wanted)]);
        let invite = lab.first(request("+15551234567")).invite;
        for uri in [&invite.uri, &invite.to] {
            assert_eq!(*uri, format!("sip:+15551234567@a.example{end}"));
        }
        assert_eq!(invite.from, format!("sip:+15550100@a.example{end}"));
    }
}

#[test]
fn a_withheld_caller_is_withheld_everywhere_but_in_the_assertion() {
    let mut call = request("+15551234567");
    call.anonymous = true;
    call.headers = vec![("X-Who".parse().unwrap(), "me".parse().unwrap())];
    let mut lab = Lab::new(vec![trunk(1, |outbound| {
        outbound.caller_id.display_name = Template::parse("{caller}", Scope::Caller).unwrap();
        let caller = Template::parse("{caller}", Scope::Header).unwrap();
        outbound.headers.set = vec![("X-Caller".parse().unwrap(), HeaderText::Template(caller))];
    })]);
    let attempt = lab.first(call.clone());
    assert_eq!(attempt.invite.from, "sip:anonymous@anonymous.invalid");
    assert_eq!(attempt.invite.from_display.as_deref(), Some("Anonymous"));
    assert_eq!(attempt.invite.contact_user, "anonymous");
    assert_eq!(header(&attempt, "P-Asserted-Identity"), Some("<sip:+15550100@a.example>"));
    assert_eq!(header(&attempt, "Privacy"), Some("id"));
    assert_eq!(header(&attempt, "X-Caller"), Some("anonymous"));
    // A carrier that refuses such calls gets the number; one whose trunk always withholds, does.
    for (privacy, wish, from) in [
        (Privacy::Ignore, true, "sip:+15550100@a.example"),
        (Privacy::Force, false, "sip:anonymous@anonymous.invalid"),
    ] {
        let mut lab = Lab::new(vec![trunk(1, |outbound| outbound.caller_id.privacy = privacy)]);
        call.anonymous = wish;
        assert_eq!(lab.first(call.clone()).invite.from, from);
    }
}

#[test]
fn the_request_host_is_apart_from_the_next_hop() {
    let mut lab = Lab::new(vec![trunk(1, |outbound| {
        let mut sbc = Gateway::clone(&gateway("edge", 1));
        sbc.uri = "sip:edge.example:5061;transport=tls".parse().unwrap();
        sbc.proxy = Some("sip:10.0.0.9:5070;transport=tcp;lr".parse().unwrap());
        outbound.gateways = vec![Arc::new(sbc)];
        outbound.form.request_host = Template::fixed("acme.pstn.example");
    })]);
    let attempt = lab.first(request("+15551234567"));
    assert_eq!(attempt.invite.uri, "sip:+15551234567@acme.pstn.example");
    assert_eq!(attempt.invite.route.as_deref(), Some("<sip:10.0.0.9:5070;transport=tcp;lr>"));
    let hop = attempt.gateway.next_hop();
    assert_eq!((hop.host.as_str(), hop.port), ("10.0.0.9", Some(5070)));
    let mut lab = Lab::new(vec![trunk(1, |outbound| {
        let mut sbc = Gateway::clone(&gateway("edge", 1));
        sbc.uri = "sip:edge.example:5061;transport=tls".parse().unwrap();
        outbound.gateways = vec![Arc::new(sbc)];
    })]);
    let uri = lab.first(request("+15551234567")).invite.uri;
    assert_eq!(uri, "sip:+15551234567@edge.example:5061;transport=tls");
}

/// Whoever is asked to call a number for us finds it where a call of ours to it would have it.
#[test]
fn the_address_of_a_number_is_that_of_a_call_to_it() {
    let number: E164 = "+15551234567".parse().unwrap();
    let of = |change: fn(&mut OutboundTrunk)| {
        let own = trunk(1, change);
        let mut lab = Lab::new(vec![own.clone()]);
        let attempt = lab.first(request(number.as_str()));
        let named = called_uri(&own, &attempt.gateway, number);
        assert_eq!(named.as_ref(), Some(&attempt.invite.uri));
        named.unwrap_or_default()
    };
    assert_eq!(of(|_| ()), "sip:+15551234567@a.example");
    let carriers = |outbound: &mut OutboundTrunk| {
        outbound.called = rules(&[(r"^\+1(\d{10})$", "001${1}")]);
        outbound.form.request_host = Template::fixed("acme.pstn.example");
        outbound.form.user_phone = true;
    };
    assert_eq!(of(carriers), "sip:0015551234567@acme.pstn.example;user=phone");
    let by_port = |outbound: &mut OutboundTrunk| {
        if let Some(gateway) = outbound.gateways.first_mut() {
            Arc::make_mut(gateway).uri = "sip:edge.example:5061;transport=tls".parse().unwrap();
        }
    };
    assert_eq!(of(by_port), "sip:+15551234567@edge.example:5061;transport=tls");
    let mut silent = trunk(1, |_| ());
    silent.outbound = None;
    assert_eq!(called_uri(&silent, &gateway("a", 1), number), None);
}

#[test]
fn a_registered_indian_trunk_writes_what_its_sheet_says() {
    let mut lab = Lab::new(vec![trunk(1, |outbound| {
        outbound.called = rules(&[(r"^\+91(\d{10})$", "0${1}")]);
        outbound.calling = rules(&[(r"^\+91(\d{10})$", "${1}")]);
        outbound.caller_id.from_user = Template::fixed("68167000");
        outbound.caller_id.asserted = Asserted::Ppi;
        outbound.caller_id.asserted_uri =
            Template::parse("sip:{caller}@10.0.80.98", Scope::Caller).unwrap();
        outbound.form.from_host = Template::fixed("10.0.76.11");
        outbound.account = Some(ClientAccount {
            username: "68167000".into(),
            password: Secret::new("x".into()),
            realm: None,
            algorithms: Vec::new(),
        });
    })]);
    lab.apply(Change::Number(number(3, 1, "+918068167000")));
    let mut call = request("+919876543210");
    call.from = Some("+918068167000".parse().unwrap());
    let plan = lab.plan(call).unwrap();
    let attempt = plan.tries.first().unwrap();
    assert_eq!(attempt.invite.uri, "sip:09876543210@a.example");
    assert_eq!(attempt.invite.from, "sip:68167000@10.0.76.11");
    assert_eq!(header(attempt, "P-Preferred-Identity"), Some("<sip:8068167000@10.0.80.98>"));
    assert_eq!(attempt.invite.contact_user, "8068167000");
    let text = plan.decision.to_string();
    assert!(text.contains("called +919876543210 is `09876543210`, by rule 1"), "{text}");
    assert!(text.contains("calling +918068167000 is `8068167000`, by rule 1"), "{text}");
}

#[test]
fn headers_are_set_and_passed_as_the_trunk_says() {
    let mut call = request("+15551234567");
    call.variables.set("team".parse().unwrap(), "sales; \"west\"".parse().unwrap());
    call.call_id = "0192".into();
    for (name, value) in [("X-Pass", "1"), ("X-Keep", "2"), ("User-to-User", "00aa;encoding=hex")] {
        call.headers.push((name.parse().unwrap(), value.parse().unwrap()));
    }
    let mut lab = Lab::new(vec![trunk(1, |outbound| {
        let template = |text| HeaderText::Template(Template::parse(text, Scope::Header).unwrap());
        outbound.headers.set = vec![
            ("X-Team".parse().unwrap(), template("{var.team}/{call.id}/{called}")),
            ("X-Nobody".parse().unwrap(), template("{var.nobody}")),
            ("X-Token".parse().unwrap(), HeaderText::Secret(Secret::new("s3cret".into()))),
            ("X-Broken".parse().unwrap(), HeaderText::Secret(Secret::new("a\r\nVia: b".into()))),
        ];
        outbound.headers.pass =
            ["user-to-user", "X-P*"].iter().filter_map(|text| NameGlob::parse(text)).collect();
        outbound.form.early_media_header = true;
    })]);
    let attempt = lab.first(call);
    assert_eq!(header(&attempt, "X-Team"), Some("sales; \"west\"/0192/+15551234567"));
    assert_eq!(header(&attempt, "X-Token"), Some("s3cret"));
    assert_eq!(header(&attempt, "X-Pass"), Some("1"));
    assert_eq!(header(&attempt, "User-to-User"), Some("00aa;encoding=hex"));
    assert_eq!(header(&attempt, "P-Early-Media"), Some("supported"));
    for absent in ["X-Nobody", "X-Broken", "X-Keep"] {
        assert_eq!(header(&attempt, absent), None, "{absent}");
    }
    assert!(!format!("{attempt:?}").contains("s3cret"));
    assert!(!format!("{attempt:?}").contains("5551234567"), "a number in a log");
}

#[test]
fn what_is_not_allowed_is_not_called() {
    let mut lab = Lab::new(vec![trunk(1, |outbound| {
        outbound.destinations.deny = prefixes(&["+1900"]);
    })]);
    for to in ["+442079460000", "+19005551234", "+12345"] {
        assert_eq!(lab.cause(request(to)), HangupCause::DestinationDenied, "{to}");
    }
    let mut narrow = tenant(1, Some(1));
    narrow.outbound.destinations = Some(prefixes(&["+91"]));
    lab.apply(Change::Tenant(narrow.clone()));
    assert_eq!(lab.cause(request("+15551234567")), HangupCause::DestinationDenied);
    assert!(lab.plan(request("+919876543210")).is_ok());
    narrow.outbound.destinations = Some(Vec::new());
    lab.apply(Change::Tenant(narrow));
    assert_eq!(lab.cause(request("+919876543210")), HangupCause::DestinationDenied);
}

#[test]
fn a_destination_is_called_so_often_a_minute_and_no_more() {
    let mut lab = Lab::new(vec![trunk(1, |outbound| outbound.budget.per_destination_min = 2)]);
    for _ in 0..2 {
        assert!(lab.plan(request("+15551234567")).is_ok());
    }
    assert_eq!(lab.cause(request("+15551234567")), HangupCause::DestinationLimit);
    assert!(lab.plan(request("+15551234568")).is_ok());
    lab.now = Moment::from_millis(60_000);
    assert!(lab.plan(request("+15551234567")).is_ok());
}

#[test]
fn calling_hours_are_those_of_the_trunks_time_zone() {
    let mut lab = Lab::new(vec![trunk(1, |outbound| {
        let time = |hour| Time::new(hour, 0, 0, 0).unwrap();
        outbound.compliance.hours = Some(CallingHours { from: time(9), to: time(21) });
        outbound.compliance.zone = TimeZone::fixed(jiff::tz::offset(5));
    })]);
    for (wall, open) in [
        ("2026-11-21T03:59:59Z", false),
        ("2026-11-21T04:00:00Z", true),
        ("2026-11-21T15:59:59Z", true),
        ("2026-11-21T16:00:00Z", false),
    ] {
        lab.wall = wall.parse().unwrap();
        let planned = lab.plan(request("+15551234567"));
        assert_eq!(planned.is_ok(), open, "{wall}");
        assert!(planned.err().is_none_or(|r| r.cause == HangupCause::OutsideHours));
    }
}

#[test]
fn a_number_that_is_not_of_the_form_a_trunk_dials_is_denied_there() {
    let fits = |pattern: Option<&str>| {
        let must_match = pattern.map(|pattern| Pattern::parse(pattern).unwrap());
        let own = trunk(1, |outbound| outbound.must_match.clone_from(&must_match));
        Lab::new(vec![own]).plan(request("+919876543210")).map_err(|refusal| refusal.cause)
    };
    assert!(fits(Some(r"^\+91\d{10}$")).is_ok());
    for pattern in [Some(r"^\+1\d{10}$"), None] {
        assert_eq!(fits(pattern).unwrap_err(), HangupCause::DestinationDenied, "{pattern:?}");
    }
}

#[test]
fn a_class_of_calls_needs_a_caller_of_its_series() {
    let mut lab = Lab::new(vec![trunk(1, |outbound| {
        outbound.compliance.class = CallClass::Service;
    })]);
    assert_eq!(lab.cause(request("+919876543210")), HangupCause::CallerIdDenied);
    lab.apply(Change::Number(number(3, 1, "+911600112345")));
    let mut call = request("+919876543210");
    call.from = Some("+911600112345".parse().unwrap());
    assert!(lab.plan(call).is_ok());
}

fn indian(n: u128, area: &str) -> Trunk {
    let mut trunk = trunk(n, |outbound| outbound.caller_id.choice = Choice::Pass);
    trunk.jurisdiction =
        Jurisdiction { region: "IN".into(), area_code: area.into(), no_pstn_bridge: true };
    trunk
}

fn history(entries: &str, user: &str, index: &str) -> History {
    History::new(entries.parse().unwrap(), user.as_bytes(), Some(index.as_bytes()))
}

fn forwarded(from: &Trunk) -> OutboundRequest {
    let mut call = request("+919876543210");
    call.from = None;
    call.joined_to = Some(Arc::new(from.clone()));
    call.forwarding = Some(Forwarding {
        caller: Some("+14155550123".parse().unwrap()),
        dialled: "+15550100".parse().unwrap(),
        reason: DiversionReason::NoAnswer,
        diversion: Some("<sip:+15550177@carrier.example>".parse().unwrap()),
        history: Some(history("<sip:+15550177@carrier.example>;index=1", "+15550177", "1")),
        diverted: 1,
    });
    call
}

#[test]
fn telephone_legs_of_two_places_are_not_joined() {
    let free = trunk(4, |_| {});
    for (out, from, joined) in [
        (indian(1, "80"), indian(1, "80"), true),
        (indian(1, "80"), indian(2, "80"), true),
        (indian(1, "80"), indian(2, "22"), false),
        (indian(1, ""), indian(2, ""), false),
        (indian(1, "80"), free.clone(), false),
        (trunk(1, |outbound| outbound.caller_id.choice = Choice::Pass), indian(2, "80"), false),
        (trunk(1, |outbound| outbound.caller_id.choice = Choice::Pass), free.clone(), true),
    ] {
        let words = format!("{:?} to {:?}", from.jurisdiction, out.jurisdiction);
        let mut own = request("+919876543210");
        own.joined_to = Some(Arc::new(from.clone()));
        let refused = Lab::new(vec![out.clone()]).plan(own).err().map(|r| r.cause);
        assert_eq!(refused == Some(HangupCause::TollBypass), !joined, "a call of ours, {words}");
        let planned = Lab::new(vec![out]).plan(forwarded(&from));
        assert_eq!(planned.is_ok(), joined, "{words}");
        assert!(planned.err().is_none_or(|r| r.cause == HangupCause::TollBypass));
    }
}

#[test]
fn a_forwarded_call_shows_its_caller_where_the_trunk_passes_it_and_says_by_whom() {
    for (policy, name, value) in [
        (DiversionPolicy::Pass, "Diversion", Some("<sip:+15550177@carrier.example>")),
        (DiversionPolicy::Pass, "History-Info", Some("<sip:+15550177@carrier.example>;index=1")),
        (DiversionPolicy::Generate, "History-Info", None),
        (DiversionPolicy::HistoryInfo, "Diversion", None),
        (
            DiversionPolicy::Generate,
            "Diversion",
            Some("<sip:+15550100@a.example>;reason=no-answer;counter=2"),
        ),
        (
            DiversionPolicy::HistoryInfo,
            "History-Info",
            Some(
                "<sip:+15550177@carrier.example>;index=1, <sip:+15550100@a.example>;index=1.1, \
                 <sip:+919876543210@a.example;cause=408>;index=1.1.1;mp=1.1",
            ),
        ),
        (DiversionPolicy::Strip, "Diversion", None),
        (DiversionPolicy::Strip, "History-Info", None),
    ] {
        let out = trunk(1, |outbound| {
            outbound.caller_id.choice = Choice::Pass;
            outbound.caller_id.diversion = policy;
        });
        let attempt = Lab::new(vec![out.clone()]).first(forwarded(&out));
        assert_eq!(attempt.invite.from, "sip:+14155550123@a.example");
        assert_eq!(header(&attempt, name), value, "{policy:?}");
    }
    // A trunk that only shows numbers of the tenant shows the one that was called, whatever becomes of
    // calls that ask for another.
    for on_disallowed in [OnDisallowed::UseDefault, OnDisallowed::Reject] {
        let out = trunk(1, |outbound| outbound.caller_id.on_disallowed = on_disallowed);
        let attempt = Lab::new(vec![out.clone()]).first(forwarded(&out));
        assert_eq!(attempt.invite.from, "sip:+15550100@a.example");
    }
    let other = trunk(1, |outbound| {
        outbound.caller_id.allowed = vec![Allowed::Number("+15550150".parse().unwrap())];
    });
    assert_eq!(Lab::new(vec![other.clone()]).cause(forwarded(&other)), HangupCause::CallerIdDenied);
}

#[test]
fn a_history_that_came_goes_on_with_our_entries_behind_it() {
    let out = trunk(1, |outbound| {
        outbound.caller_id.choice = Choice::Pass;
        outbound.caller_id.diversion = DiversionPolicy::HistoryInfo;
    });
    let goes_on = |came: Option<History>| {
        let mut call = forwarded(&out);
        call.forwarding.as_mut().unwrap().history = came;
        let attempt = Lab::new(vec![out.clone()]).first(call);
        header(&attempt, "History-Info").unwrap().to_owned()
    };
    let (own, next) = ("<sip:+15550100@a.example>", "<sip:+919876543210@a.example;cause=408>");
    let alone = format!("{own};index=1, {next};index=1.1;mp=1");
    assert_eq!(goes_on(None), alone);
    // Who sent it here wrote that down: our own entry is there already.
    let came = "<sip:+15550177@b.example>;index=1, <sip:+15550100@b.example>;index=1.2;mp=1";
    let said = goes_on(Some(history(came, "+15550100", "1.2")));
    assert_eq!(said, format!("{came}, {next};index=1.2.1;mp=1.2"));
    let said = goes_on(Some(history(came, "+15550178", "1.2")));
    assert_eq!(said, format!("{came}, {own};index=1.2.1, {next};index=1.2.1.1;mp=1.2.1"));
    // An index that is none, and more than fits into a header.
    for index in ["", "1.", "x", "1;evil=1"] {
        assert_eq!(goes_on(Some(history(came, "+15550178", index))), alone, "{index:?}");
    }
    let long = format!("<sip:+15550177@{}>;index=1", "b".repeat(FIELD_VALUE_BYTES_MAX - 30));
    assert_eq!(goes_on(Some(history(&long, "+15550177", "1"))), alone);
}

#[test]
fn what_a_leg_of_before_cost_is_told_by_the_prefix_it_was_charged_by() {
    let rate = |prefix: &str, per_minute| Rate {
        prefix: prefix.parse().unwrap(),
        per_minute: Micros(per_minute),
        increment: Duration::from_secs(60),
    };
    let mut lab = Lab::new(vec![trunk(1, |outbound| {
        outbound.budget.rates = vec![rate("+1", 100), rate("+1555", 900)];
        outbound.budget.daily_spend = Micros(1_000);
        outbound.budget.currency = "USD".into();
    })]);
    let past = |priced| PastCall {
        tenant: tenant_id(1),
        trunk: Some(trunk_id(1)),
        priced,
        ended: "2026-11-21T09:00:00Z".parse().unwrap(),
        lasted: Duration::from_secs(60),
    };
    let refused = |lab: &mut Lab, priced| {
        restore(&mut lab.usage, &lab.table, &past(priced));
        lab.plan(request("+15551234567")).err().map(|refusal| refusal.cause)
    };
    // A rate that is gone costs nothing any more, nor does a number without one.
    assert_eq!(refused(&mut lab, Priced::Prefix("+44".parse().unwrap())), None);
    assert_eq!(refused(&mut lab, Priced::Free), None);
    assert_eq!(refused(&mut lab, Priced::Prefix("+1555".parse().unwrap())), None);
    let last = refused(&mut lab, Priced::Number("+14155550123".parse().unwrap()));
    assert_eq!(last, Some(HangupCause::BudgetSpent), "900 and 100 are all there was");
}

#[test]
fn gateways_that_are_down_or_rest_are_left_out() {
    let mut lab = Lab::new(vec![trunk(1, |_| {})]);
    let key = |name: &str| GatewayKey { trunk: trunk_id(1), gateway: name.parse().unwrap() };
    let failed = health::Input::CallFailed { retry_after: None };
    lab.board.handle(lab.now, &key("a"), failed, &mut Vec::new());
    let plan = lab.plan(request("+15551234567")).unwrap();
    assert_eq!(names(&plan), ["trunk-1/b"]);
    assert!(plan.decision.to_string().contains("a is cooling"));
    let throttled = health::Input::Throttled { retry_after: Some(Duration::from_secs(60)) };
    lab.board.handle(lab.now, &key("b"), throttled, &mut Vec::new());
    assert_eq!(lab.cause(request("+15551234567")), HangupCause::NoGateway);
    lab.now = Moment::from_millis(30_000);
    assert_eq!(names(&lab.plan(request("+15551234567")).unwrap()), ["trunk-1/a"]);
}

#[test]
fn no_more_gateways_are_tried_than_the_trunk_says() {
    for (most, tried) in [
        (1, &["trunk-1/a"][..]),
        (2, &["trunk-1/a", "trunk-1/b"]),
        (9, &["trunk-1/a", "trunk-1/b"]),
    ] {
        let mut lab = Lab::new(vec![trunk(1, |outbound| outbound.failover.attempts_max = most)]);
        assert_eq!(names(&lab.plan(request("+15551234567")).unwrap()), tried);
    }
}

#[test]
fn no_call_goes_out_by_a_trunk_that_has_to_register_first() {
    let mut lab = Lab::new(vec![trunk(1, |outbound| outbound.needs_registration = true)]);
    assert_eq!(lab.cause(request("+15551234567")), HangupCause::NoGateway);
    lab.board.set_registered(trunk_id(1), true);
    assert!(lab.plan(request("+15551234567")).is_ok());
    lab.board.set_registered(trunk_id(1), false);
    assert_eq!(lab.cause(request("+15551234567")), HangupCause::NoGateway);
}

#[test]
fn a_budget_that_is_used_up_and_a_number_without_a_price_stop_calls() {
    let rate = |prefix: &str| Rate {
        prefix: prefix.parse().unwrap(),
        per_minute: Micros(1_000_000),
        increment: Duration::from_secs(60),
    };
    let mut lab = Lab::new(vec![trunk(1, |outbound| {
        outbound.budget.daily_spend = Micros(2_000_000);
        outbound.budget.currency = "USD".into();
        outbound.budget.rates = vec![rate("+1")];
    })]);
    assert_eq!(lab.cause(request("+919876543210")), HangupCause::BudgetSpent);
    let attempt = lab.first(request("+15551234567"));
    let tenant = Arc::clone(lab.table.tenant(tenant_id(1)).unwrap());
    let due = charges(&tenant, &attempt.trunk, lab.wall);
    let meter = lab.usage.answered(lab.now, &due, rate_of(&[rate("+1")], attempt.dialled).cloned());
    lab.now = Moment::from_millis(61_000);
    assert_eq!(lab.usage.ended(lab.now, meter, &due, 0), None);
    assert_eq!(lab.cause(request("+15551234567")), HangupCause::BudgetSpent);
    // The next day there is money again.
    lab.wall = "2026-11-22T00:00:00Z".parse().unwrap();
    assert!(lab.plan(request("+15551234567")).is_ok());
    // A tenant's limit in another currency cannot be kept, so it is.
    let mut poor = Tenant::clone(&tenant);
    poor.outbound.daily_spend = Micros(1);
    poor.outbound.currency = "INR".into();
    lab.apply(Change::Tenant(poor));
    assert_eq!(lab.cause(request("+15551234567")), HangupCause::BudgetSpent);
}

proptest! {
    /// Whatever an application or a peer hands over, no text of an INVITE begins another line or
    /// leaves its URI.
    #[test]
    fn nothing_handed_over_breaks_out_of_its_place(
        display in any::<String>(),
        value in any::<String>(),
        name in "[A-Za-z-]{2,20}",
        diversion in any::<String>(),
        call_id in any::<String>(),
    ) {
        let template = |text| HeaderText::Template(Template::parse(text, Scope::Header).unwrap());
        let out = trunk(1, |outbound| {
            outbound.caller_id.choice = Choice::Pass;
            outbound.caller_id.display_name = Template::parse(&display, Scope::Caller)
                .unwrap_or_else(|_| Template::fixed(""));
            outbound.headers.set = vec![("X-Var".parse().unwrap(), template("{var.x} {call.id}"))];
            outbound.headers.pass = NameGlob::parse(&format!("{}*", name.get(..1).unwrap_or("X")))
                .into_iter()
                .collect();
        });
        let mut call = forwarded(&out);
        call.call_id = call_id;
        if let Ok(value) = value.parse::<FieldValue>() {
            call.variables.set("x".parse().unwrap(), value.clone());
            if let Ok(name) = name.parse() {
                call.headers.push((name, value));
            }
        }
        if let Some(forwarding) = &mut call.forwarding {
            forwarding.diversion = diversion.parse().ok();
        }
        let plan = Lab::new(vec![out]).plan(call).unwrap();
        for attempt in &plan.tries {
            let InviteForm { uri, from, from_display, to, contact_user, headers, .. } = &attempt.invite;
            for text in [uri, from, to, contact_user] {
                prop_assert!(!text.contains(['\r', '\n', '\0', '<', '>', '"', ' ']), "{text:?}");
            }
            prop_assert!(from_display.iter().all(|name| !name.chars().any(char::is_control)));
            let mut names: Vec<_> = headers.iter().map(|(n, _)| n.as_str().to_lowercase()).collect();
            for (_, value) in headers {
                prop_assert!(!value.as_str().contains(['\r', '\n', '\0']));
            }
            let count = names.len();
            names.sort();
            names.dedup();
            prop_assert!(names.len() == count, "a header twice");
        }
    }
}
