//! Which of the addresses that a tenant named may be called: those where agents may be, and no carrier of others.

use crate::clock;
use crate::engine::dial::DialNews;
use crate::engine::dial::Line;
use crate::engine::dial::attempt::resting::gateway_address;
use crate::engine::switch::Switch;
use crate::engine::way;
use crate::net::dns::Named;
use crate::routing::decision::Decision;
use crate::routing::gateway::Gateway;
use crate::routing::gateway_board::GatewayKey;
use crate::routing::table::RoutingTable;
use crate::sip::locate;
use crate::sip::locate::LocateError;
use crate::types::cause::HangupCause;
use crate::types::id::TenantId;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// Carriers that one call looks up at once: its tenant shall not fill the places for questions of the operator's.
const AT_ONCE: usize = 8;
/// How long a call looks them up. Over it: it is unknown where those are that are left.
const LOOKED_UP_WITHIN: Duration = Duration::from_secs(6);

/// Where a call may go.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// What DNS has for whom it calls.
    pub(super) addresses: Vec<locate::Target>,
    /// A carrier of others' that may be at any of them: DNS does not tell where it is.
    pub(super) unknown: Option<GatewayKey>,
}

/// Searches for whom a call goes to; where it is `named_by` a tenant, and leads where carriers may be, those of others
/// are looked up too. To be waited for while the call is listened to: DNS may take its time for each of the two.
///
/// # Errors
/// As `search`.
pub(super) async fn looked_up(
    switch: Arc<Switch>,
    named_by: Option<TenantId>,
    search: impl Future<Output = Result<Vec<locate::Target>, LocateError>>,
) -> Result<Found, LocateError> {
    let addresses = search.await?;
    let roots = &switch.roots;
    let is_open = |own: &locate::Target| {
        let at = own.address.ip();
        roots.permits_call(at) && !roots.lists_call(at)
    };
    let unknown = match named_by {
        Some(tenant) if addresses.iter().any(is_open) => look_carriers_up(&switch, tenant).await,
        Some(_) | None => None,
    };
    Ok(Found { addresses, unknown })
}

/// Of the addresses that were found for what a tenant named, those that a call may go to. A carrier that knows this
/// node by its address would call whatever number stands in such a SIP address, on the account of whose trunk it is
/// and past all that the trunk allows: so it is called by that trunk alone.
///
/// # Errors
/// Why there is none; the record has which were left out as a carrier's.
pub(super) async fn permitted(
    line: &Line,
    found: Found,
) -> Result<Vec<locate::Target>, HangupCause> {
    let Found { mut addresses, unknown } = found;
    addresses.retain(|own| line.switch.roots.permits_call(own.address.ip()));
    let carriers = leave_out_carriers(line, &mut addresses, unknown.as_ref());
    let has_carriers = !carriers.steps().is_empty();
    if has_carriers {
        line.report(DialNews::Attempted(carriers)).await;
    }
    if !addresses.is_empty() {
        return Ok(addresses);
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

/// Has the names of others' gateways looked up that were not found yet: until they are, nobody knows that an address is a
/// carrier's. As a rule there are none, or calls and probes have asked for them. Gives one of which DNS does not tell in
/// time; a name that DNS does not know is nowhere.
async fn look_carriers_up(switch: &Switch, tenant: TenantId) -> Option<GatewayKey> {
    let unfound = switch.registry.unfound_carriers(&switch.table.load(), tenant);
    let mut untold: BTreeSet<GatewayKey> = unfound.iter().map(|(key, _)| key.clone()).collect();
    let looking = async {
        let mut waiting = unfound.into_iter();
        let first = waiting.by_ref().take(AT_ONCE);
        let mut searches: FuturesUnordered<_> = first.map(|own| look_up(switch, own)).collect();
        while let Some((key, is_told)) = searches.next().await {
            if is_told {
                untold.remove(&key);
            }
            searches.extend(waiting.next().map(|own| look_up(switch, own)));
        }
    };
    // Out of time: what was told until then is known to the next call.
    let _is_over = timeout(LOOKED_UP_WITHIN, looking).await.is_ok();
    untold.pop_first()
}

/// Looks one of them up; false where DNS does not tell.
async fn look_up(
    switch: &Switch,
    (key, gateway): (GatewayKey, Arc<Gateway>),
) -> (GatewayKey, bool) {
    // What cannot be looked up is nowhere either.
    let Ok(search) = way::gateway_search(&gateway) else { return (key, true) };
    let is_told = match way::locate(&switch.dns, Named::ByOperator, search).await {
        Ok(found) => {
            let found = found.iter().map(gateway_address).collect();
            let _standing = switch.registry.find_addresses(clock::now(), &key, found);
            true
        }
        Err(LocateError::DnsFailed | LocateError::TooMany) => false,
        Err(
            LocateError::NotSip
            | LocateError::NotAllowed(_)
            | LocateError::NoTransport
            | LocateError::NoAddress
            | LocateError::NoService,
        ) => true,
    };
    (key, is_told)
}

/// Leaves the addresses of others' carriers out, unless the operator lists them as places where agents are, and all those
/// others while it is `unknown` where a carrier is; gives a step for each of them.
fn leave_out_carriers(
    line: &Line,
    found: &mut Vec<locate::Target>,
    unknown: Option<&GatewayKey>,
) -> Decision {
    let table = line.switch.table.load();
    let mut decision = Decision::new();
    found.retain(|own| {
        let of = (own.address.ip(), line.tenant);
        !is_left_out(&line.switch, &table, of, &mut decision)
    });
    if let Some(gateway) = unknown {
        let all = found.len();
        found.retain(|own| !may_be_left_out(&line.switch, own.address.ip(), &mut decision));
        warn_of_unknown(gateway, all - found.len());
    }
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

/// The same of one that may be where a carrier is of which nobody knows where it is.
fn may_be_left_out(switch: &Switch, at: IpAddr, decision: &mut Decision) -> bool {
    let is_left_out = !switch.roots.lists_call(at);
    if is_left_out {
        let why = "DNS does not tell where all of them are (agents.allow_networks)";
        decision.tell("address", format_args!("{at} may be a carrier of others': {why}"));
    }
    is_left_out
}

/// One line however many addresses a tenant's name has: it chooses how many.
fn warn_of_unknown(gateway: &GatewayKey, addresses: usize) {
    if addresses > 0 {
        tracing::warn!(
            trunk = %gateway.trunk,
            gateway = gateway.gateway.as_str(),
            addresses,
            "a gateway's name is not found: no address that a tenant names is called that could be its"
        );
    }
}
