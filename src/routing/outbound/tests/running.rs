//! Legs that running calls go on to, and what is asked of them before.

use super::*;
use crate::routing::caller_id::CallerIdPolicy;

/// A leg of a running call that is with this number of ours.
fn leg_within(own: &str) -> OutboundRequest {
    let mut leg = OutboundRequest::new(tenant_id(1), "+15551234567".parse().unwrap());
    leg.within = Some(own.parse().unwrap());
    leg
}

#[test]
fn a_leg_of_a_running_call_shows_the_number_that_call_is_with_where_it_may() {
    const DEFAULT: &str = "+15550150";
    let shown = |own: &str, change: fn(&mut CallerIdPolicy), class| {
        let mut lab = Lab::new(vec![trunk(1, |outbound| {
            outbound.caller_id.default = Some(DEFAULT.parse().unwrap());
            outbound.compliance.class = class;
            change(&mut outbound.caller_id);
        })]);
        lab.apply(Change::Number(number(3, 1, DEFAULT)));
        lab.apply(Change::Number(number(4, 1, "+911600112345")));
        let attempt = lab.first(leg_within(own));
        assert_eq!(header(&attempt, "Diversion"), None, "it is no call that is passed on");
        attempt.caller().to_string()
    };
    let any = CallClass::Any;
    assert_eq!(shown("+15550100", |_| (), any), "+15550100");
    assert_eq!(shown("+15550100", |policy| policy.choice = Choice::Pass, any), "+15550100");
    // Nobody asked for it: where it will not do, it is refused nothing.
    let reject: fn(&mut CallerIdPolicy) = |policy| policy.on_disallowed = OnDisallowed::Reject;
    assert_eq!(shown("+15550200", reject, any), DEFAULT, "another tenant's");
    let fixed: fn(&mut CallerIdPolicy) = |policy| policy.choice = Choice::Fixed;
    assert_eq!(shown("+15550100", fixed, any), DEFAULT);
    let of_class: fn(&mut CallerIdPolicy) =
        |policy| policy.default = Some("+911600112345".parse().unwrap());
    assert_eq!(shown("+15550100", of_class, CallClass::Service), "+911600112345");
}

#[test]
fn a_leg_of_a_running_call_goes_by_the_trunk_of_the_number_that_call_is_with() {
    let mut lab = Lab::new((1..=2).map(|n| trunk(n, |_| {})).collect());
    let mut row = number(1, 1, "+15550100");
    row.outbound_trunk = Some(trunk_id(2));
    lab.apply(Change::Number(row));
    assert_eq!(lab.first(leg_within("+15550100")).trunk.name, "trunk-2");
    let mut asked = leg_within("+15550100");
    asked.trunk = Some(trunk_id(1));
    assert_eq!(lab.first(asked).trunk.name, "trunk-1");
}

#[test]
fn a_call_that_is_rehearsed_is_decided_as_it_would_be_and_counts_for_nothing() {
    let mut lab = Lab::new(vec![trunk(1, |outbound| outbound.budget.per_destination_min = 1)]);
    let rehearse = |lab: &mut Lab, to: &str| {
        let mut around = Surroundings {
            board: &mut lab.board,
            admission: &lab.admission,
            usage: &mut lab.usage,
            wall: lab.wall,
            random: &mut lab.random,
        };
        let planned = rehearse(lab.now, &lab.table, &mut around, request(to));
        planned.map(|plan| names(&plan)).map_err(|refusal| refusal.cause)
    };
    let to = "+15551234567";
    let expected = Ok(vec!["trunk-1/a".to_owned(), "trunk-1/b".to_owned()]);
    for _ in 0..3 {
        assert_eq!(rehearse(&mut lab, to), expected);
    }
    assert_eq!(lab.board.turn(trunk_id(1)), 0);
    assert_eq!(rehearse(&mut lab, "+4420555"), Err(HangupCause::DestinationDenied));
    assert!(lab.plan(request(to)).is_ok());
    assert_eq!(lab.board.turn(trunk_id(1)), 1);
    assert_eq!(rehearse(&mut lab, to), Err(HangupCause::DestinationLimit));
}
