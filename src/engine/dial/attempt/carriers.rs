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
use crate::sip::locate::Missed;
use crate::types::cause::HangupCause;
use crate::types::id::TenantId;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use std::collections::BTreeMap;
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
    /// A carrier of others' that may be at one of them, if that is of those which were missed: DNS does not tell where
    /// it is, or not all of it.
    pub(super) unknown: Option<(GatewayKey, Missed)>,
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
/// carrier's. As a rule there are none, or DNS has the answers at hand. Gives one of which DNS does not tell all in time,
/// and what it does not tell of any; a name that DNS does not know is nowhere.
async fn look_carriers_up(switch: &Switch, tenant: TenantId) -> Option<(GatewayKey, Missed)> {
    let (now, table) = (clock::now(), switch.table.load_full());
    let unfound = switch.registry.unfound_carriers(now, &table, tenant);
    let mut untold: BTreeMap<GatewayKey, Missed> =
        unfound.iter().map(|(key, _)| (key.clone(), Missed::ALL)).collect();
    let looking = async {
        let mut waiting = unfound.into_iter();
        let first = waiting.by_ref().take(AT_ONCE);
        let mut searches: FuturesUnordered<_> = first.map(|own| look_up(switch, own)).collect();
        while let Some((key, missed)) = searches.next().await {
            if missed.is_none() {
                untold.remove(&key);
            } else {
                untold.insert(key, missed);
            }
            searches.extend(waiting.next().map(|own| look_up(switch, own)));
        }
    };
    // Out of time: what was told until then is known to the next call.
    let _is_over = timeout(LOOKED_UP_WITHIN, looking).await.is_ok();
    let missed = untold.values().fold(Missed::default(), |all, own| all.or(*own));
    untold.into_keys().next().map(|key| (key, missed))
}

/// Looks one of them up, and gives what DNS does not tell.
async fn look_up(
    switch: &Switch,
    (key, gateway): (GatewayKey, Arc<Gateway>),
) -> (GatewayKey, Missed) {
    // What cannot be looked up is nowhere either.
    let Ok((hop, rules)) = way::gateway_search(&gateway) else { return (key, Missed::default()) };
    let missed = match switch.dns.find(Named::ByOperator, hop, rules).await {
        Ok((found, missed)) => {
            let found = found.iter().map(gateway_address).collect();
            if missed.is_none() {
                switch.registry.find_all(clock::now(), &key, found);
            } else {
                let _standing = switch.registry.find_addresses(clock::now(), &key, found);
            }
            missed
        }
        Err(LocateError::DnsFailed | LocateError::TooMany) => Missed::ALL,
        Err(
            LocateError::NotSip
            | LocateError::NotAllowed(_)
            | LocateError::NoTransport
            | LocateError::NoAddress
            | LocateError::NoService,
        ) => Missed::default(),
    };
    (key, missed)
}

/// Leaves the addresses of others' carriers out, unless the operator lists them as places where agents are, and all those
/// others while it is `unknown` where a carrier is; gives a step for each of them.
fn leave_out_carriers(
    line: &Line,
    found: &mut Vec<locate::Target>,
    unknown: Option<&(GatewayKey, Missed)>,
) -> Decision {
    let table = line.switch.table.load();
    let mut decision = Decision::new();
    found.retain(|own| {
        let of = (own.address.ip(), line.tenant);
        !is_left_out(&line.switch, &table, of, &mut decision)
    });
    if let Some((gateway, missed)) = unknown {
        let all = found.len();
        found.retain(|own| {
            let at = own.address.ip();
            !missed.may_have(at) || !may_be_left_out(&line.switch, at, &mut decision)
        });
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
