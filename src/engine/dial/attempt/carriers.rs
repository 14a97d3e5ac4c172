//! Which of the addresses that a tenant named may be called: those where agents may be, and no carrier of others.

use crate::engine::dial::DialNews;
use crate::engine::dial::Line;
use crate::engine::switch::Switch;
use crate::routing::decision::Decision;
use crate::routing::table::RoutingTable;
use crate::sip::locate;
use crate::types::cause::HangupCause;
use crate::types::id::TenantId;
use std::net::IpAddr;

/// Of the addresses that were found for what a tenant named, those that a call may go to. A carrier that knows this
/// node by its address would call whatever number stands in such a SIP address, on the account of whose trunk it is
/// and past all that the trunk allows: so it is called by that trunk alone.
///
/// # Errors
/// Why there is none; the record has which were left out as a carrier's.
pub(super) async fn permitted(
    line: &Line,
    mut found: Vec<locate::Target>,
) -> Result<Vec<locate::Target>, HangupCause> {
    found.retain(|own| line.switch.roots.permits_call(own.address.ip()));
    let carriers = leave_out_carriers(line, &mut found);
    let has_carriers = !carriers.steps().is_empty();
    if has_carriers {
        line.report(DialNews::Attempted(carriers)).await;
    }
    if !found.is_empty() {
        return Ok(found);
    }
    Err(if has_carriers { HangupCause::DestinationDenied } else { HangupCause::AgentForbidden })
}

/// Judges an address that a tenant names by itself, before it is called.
///
/// # Errors
/// Why it may not be called; the steps say so of a carrier of others, and there are none else.
pub(in crate::engine) fn judge(
    switch: &Switch,
    (at, tenant): (IpAddr, TenantId),
) -> Result<(), (HangupCause, Decision)> {
    let mut decision = Decision::new();
    if !switch.roots.permits_call(at) {
        return Err((HangupCause::AgentForbidden, decision));
    }
    if is_left_out(switch, &switch.table.load(), (at, tenant), &mut decision) {
        return Err((HangupCause::DestinationDenied, decision));
    }
    Ok(())
}

/// Leaves the addresses of others' carriers out, unless the operator lists them as places where agents are; gives a step
/// for each of them.
fn leave_out_carriers(line: &Line, found: &mut Vec<locate::Target>) -> Decision {
    let table = line.switch.table.load();
    let mut decision = Decision::new();
    found.retain(|own| {
        let of = (own.address.ip(), line.tenant);
        !is_left_out(&line.switch, &table, of, &mut decision)
    });
    decision
}

fn is_left_out(
    switch: &Switch,
    table: &RoutingTable,
    (at, tenant): (IpAddr, TenantId),
    decision: &mut Decision,
) -> bool {
    let is_left_out =
        !switch.roots.lists_call(at) && switch.registry.is_others_carrier(table, (at, tenant));
    if is_left_out {
        let why = "numbers there are called by its trunk alone (agents.allow_networks)";
        decision.tell("address", format_args!("{at} is a carrier of others': {why}"));
    }
    is_left_out
}
