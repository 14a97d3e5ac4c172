//! Outbound routing: a tenant's wish to call a number, into the gateways to try, or a refusal.

mod planning;

use crate::routing::admission::Admission;
use crate::routing::campaign::Campaign;
use crate::routing::contents::Number;
use crate::routing::contents::Tenant;
use crate::routing::decision::Decision;
use crate::routing::destination::Micros;
use crate::routing::destination::Rate;
use crate::routing::destination::rate_of;
use crate::routing::gateway::Gateway;
use crate::routing::gateway_board::GatewayBoard;
use crate::routing::gateway_board::GatewayKey;
use crate::routing::invite_form::InviteForm;
use crate::routing::invite_form::Sender;
use crate::routing::outbound::planning::Planning;
use crate::routing::outbound_trunk::OutboundTrunk;
use crate::routing::passing::History;
use crate::routing::table::RoutingTable;
use crate::routing::trunk::Trunk;
use crate::routing::usage::Account;
use crate::routing::usage::Charge;
use crate::routing::usage::DailyLimit;
use crate::routing::usage::PastCall;
use crate::routing::usage::Priced;
use crate::routing::usage::Usage;
use crate::types::cause::HangupCause;
use crate::types::header::CallVariables;
use crate::types::header::FieldName;
use crate::types::header::FieldValue;
use crate::types::id::CampaignId;
use crate::types::id::TenantId;
use crate::types::id::TrunkId;
use crate::types::moment::Moment;
use crate::types::number::DialString;
use crate::types::number::E164;
use crate::types::random::Random;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use smallvec::SmallVec;
use std::sync::Arc;

/// A wish to call a number.
#[derive(Clone, Debug)]
pub struct OutboundRequest {
    /// Who calls. Everything is judged as this tenant's: numbers, trunks, lists, budgets.
    pub tenant: TenantId,
    /// The number, in the international form.
    pub to: DialString,
    /// The caller ID that is wished for.
    pub from: Option<E164>,
    /// The trunk to use instead of the usual ones; it must be one the tenant may use.
    pub trunk: Option<TrunkId>,
    /// The campaign it is for; `None`: that of the caller's number, if it has one.
    pub campaign: Option<CampaignId>,
    /// Nobody called before: it is placed for an application, so campaigns rule it.
    pub is_placed: bool,
    /// The caller wants to be withheld.
    pub anonymous: bool,
    /// The call in that this one goes on from.
    pub forwarding: Option<Forwarding>,
    /// The number of ours that a running call is with which this one is a leg of. As with `forwarding`, it says by which
    /// trunks, and is shown where nothing else is asked for and the trunk lets it be; of its caller nothing is told.
    pub within: Option<E164>,
    /// The trunk of the telephone call that this one is to be joined to.
    pub joined_to: Option<Arc<Trunk>>,
    /// Headers for the carrier; those are sent that the trunk passes on.
    pub headers: Vec<(FieldName, FieldValue)>,
    /// Variables of the call, for templates.
    pub variables: CallVariables,
    /// The call's identity in records, for templates.
    pub call_id: String,
    /// Max-Forwards that is left of the call this one is joined to; `None`: the trunk's.
    pub hops_left: Option<u8>,
    /// The numbers of ours that the call came through, as the header says it.
    pub trail: Option<FieldValue>,
}

impl OutboundRequest {
    /// A call of `tenant` to `to`, with nothing else asked for.
    #[must_use]
    pub fn new(tenant: TenantId, to: DialString) -> Self {
        Self {
            tenant,
            to,
            from: None,
            trunk: None,
            campaign: None,
            is_placed: false,
            anonymous: false,
            forwarding: None,
            within: None,
            joined_to: None,
            headers: Vec::new(),
            variables: CallVariables::default(),
            call_id: String::new(),
            hops_left: None,
            trail: None,
        }
    }
}

/// The telephone call that a call out goes on from.
#[derive(Clone, Debug)]
pub struct Forwarding {
    /// Who calls there.
    pub caller: Option<E164>,
    /// The number of ours that was dialled there.
    pub dialled: E164,
    /// Why it is forwarded.
    pub reason: DiversionReason,
    /// The Diversion entries that came with it.
    pub diversion: Option<FieldValue>,
    /// The History-Info entries that came with it.
    pub history: Option<History>,
    /// How many diversions it had behind it.
    pub diverted: u32,
}

/// Why a call is forwarded (RFC 5806).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiversionReason {
    /// Always.
    Unconditional,
    /// The first was busy.
    Busy,
    /// The first did not answer.
    NoAnswer,
    /// The first was not there.
    Unavailable,
    /// Somebody transferred it.
    Deflection,
}

/// What planning looks at beside the table.
#[derive(Debug)]
pub struct Surroundings<'a> {
    /// The health of gateways; a planned trunk takes a turn.
    pub board: &'a mut GatewayBoard,
    /// How many calls they have.
    pub admission: &'a Admission,
    /// What was used of limits; a planned call counts for its destination.
    pub usage: &'a mut Usage,
    /// The wall clock, for hours and days.
    pub wall: Timestamp,
    /// For shares and turns.
    pub random: &'a mut Random,
}

/// One gateway to try.
#[derive(Clone, Debug)]
pub struct Try {
    /// The trunk.
    pub trunk: Arc<Trunk>,
    /// Its gateway.
    pub gateway: Arc<Gateway>,
    /// The number called; a redirection changes it.
    pub dialled: E164,
    /// The INVITE.
    pub invite: InviteForm,
    pub(crate) sender: Arc<Sender>,
}

impl Try {
    /// Which gateway it is, for the board.
    #[must_use]
    pub fn key(&self) -> GatewayKey {
        GatewayKey { trunk: self.trunk.id, gateway: self.gateway.name.clone() }
    }

    /// Who calls.
    #[must_use]
    pub fn tenant(&self) -> &Tenant {
        &self.sender.tenant
    }

    /// How its trunk calls out.
    #[must_use]
    pub fn outbound(&self) -> &OutboundTrunk {
        &self.sender.outbound
    }

    /// The caller ID, also where it is withheld from the called party.
    #[must_use]
    pub fn caller(&self) -> E164 {
        self.sender.caller
    }
}

/// The gateways to try, in order, and why these.
#[derive(Clone, Debug)]
pub struct OutboundPlan {
    /// Who calls.
    pub tenant: Arc<Tenant>,
    /// The row of the caller's number, if it is one of ours.
    pub number: Option<Arc<Number>>,
    /// The campaign it is for.
    pub campaign: Option<Arc<Campaign>>,
    /// The number called.
    pub dialled: E164,
    /// The tries; at least one.
    pub tries: Vec<Try>,
    /// Every step.
    pub decision: Decision,
}

/// A call that is not placed.
#[derive(Clone, Debug)]
pub struct OutboundRefusal {
    /// Why.
    pub cause: HangupCause,
    /// The tenant, if there is such a one.
    pub tenant: Option<Arc<Tenant>>,
    /// The trunk that stood against it, where one was considered.
    pub trunk: Option<Arc<Trunk>>,
    /// The number, where it is one.
    pub dialled: Option<E164>,
    /// Every step.
    pub decision: Decision,
}

/// Decides by which gateways, and how, a call is to be placed.
///
/// The trunks are those of the caller's number, of its routing profile, and the tenant's default, in
/// this order, or the one that was asked for. Each is asked whether it may carry the call; the order of
/// its gateways follows its strategy.
///
/// # Errors
///
/// Where no trunk may carry it: the cause that the first trunk had, which is the one meant for the
/// number.
pub fn plan(
    now: Moment,
    table: &RoutingTable,
    around: &mut Surroundings<'_>,
    request: OutboundRequest,
) -> Result<OutboundPlan, Box<OutboundRefusal>> {
    planned(now, table, around, (request, false))
}

/// What [`plan`] would decide now, of a call that is yet to be placed: it counts for nothing, and takes nobody's turn.
///
/// # Errors
///
/// As those of [`plan`].
pub fn rehearse(
    now: Moment,
    table: &RoutingTable,
    around: &mut Surroundings<'_>,
    request: OutboundRequest,
) -> Result<OutboundPlan, Box<OutboundRefusal>> {
    planned(now, table, around, (request, true))
}

fn planned(
    now: Moment,
    table: &RoutingTable,
    around: &mut Surroundings<'_>,
    (request, is_rehearsal): (OutboundRequest, bool),
) -> Result<OutboundPlan, Box<OutboundRefusal>> {
    let mut planning = Planning {
        is_rehearsal,
        now,
        table,
        around,
        request: Arc::new(request),
        decision: Decision::new(),
        tenant: None,
        dialled: None,
        campaign: None,
        first_refusal: None,
    };
    let planned = planning.run();
    match planned {
        Ok((tenant, dialled, tries)) => {
            let mut decision = planning.decision;
            decision.note("verdict", format!("{} gateways to try", tries.len()));
            let caller = tries.first().map(Try::caller);
            let number = caller.and_then(|caller| table.number(caller)).map(Arc::clone);
            let campaign = planning.campaign;
            Ok(OutboundPlan { tenant, number, campaign, dialled, tries, decision })
        }
        Err(cause) => {
            let mut decision = planning.decision;
            let status = cause.sip_status();
            decision.note("verdict", format!("{status} {cause}: {}", cause.text()));
            Err(Box::new(OutboundRefusal {
                cause,
                tenant: planning.tenant,
                trunk: planning.first_refusal.map(|(_, trunk)| trunk),
                dialled: planning.dialled,
                decision,
            }))
        }
    }
}

/// What a call by a trunk is charged to at this time: the trunk's budget and the tenant's.
#[must_use]
pub fn charges(tenant: &Tenant, trunk: &Trunk, wall: Timestamp) -> SmallVec<[Charge; 2]> {
    let mut charges = SmallVec::new();
    if let Some(outbound) = &trunk.outbound {
        let zone = outbound.compliance.zone.clone();
        let budget = &outbound.budget;
        charges.push(Charge {
            account: Account::Trunk(trunk.id),
            day: wall.to_zoned(zone).date(),
            limit: DailyLimit { minutes: budget.daily_minutes, spend: budget.daily_spend },
        });
    }
    charges.push(of_tenant(tenant, wall));
    charges
}

/// Judges the number of a try as that of a call is judged before it is planned, where a redirection put it
/// there; the number that was dialled was judged already.
///
/// # Errors
/// `BudgetSpent`, also where money is limited and the number has no price; `DestinationLimit`.
pub fn judge_redirected(
    now: Moment,
    (usage, wall): (&mut Usage, Timestamp),
    attempt: &Try,
) -> Result<(), HangupCause> {
    if attempt.sender.redirected_from.is_none() {
        return Ok(());
    }
    let tenant = attempt.tenant();
    let judged =
        planning::judge_budget(now, (usage, wall), (tenant, &attempt.trunk), attempt.dialled);
    judged.map_err(|(cause, _)| cause)?;
    let most = attempt.outbound().budget.per_destination_min;
    usage.call_destination(now, tenant.id, attempt.dialled, most)
}

/// Takes over what a call before this start used of the budgets it was charged to.
pub fn restore(usage: &mut Usage, table: &RoutingTable, past: &PastCall) {
    let Some(tenant) = table.tenant(past.tenant) else { return };
    let trunk = past.trunk.and_then(|trunk| table.trunk(trunk));
    let rate = trunk.and_then(|trunk| match &past.priced {
        Priced::Number(dialled) => rate(trunk, *dialled),
        Priced::Prefix(prefix) => {
            let rates = &trunk.outbound.as_ref()?.budget.rates;
            rates.iter().find(|rate| rate.prefix == *prefix)
        }
        Priced::Free => None,
    });
    let cost = rate.map_or(Micros::default(), |rate| rate.cost(past.lasted));
    let charges = match trunk {
        Some(trunk) => charges(tenant, trunk, past.ended),
        None => SmallVec::from_iter([of_tenant(tenant, past.ended)]),
    };
    for charge in charges {
        usage.restore(charge.account, charge.day, past.lasted, cost);
    }
}

fn of_tenant(tenant: &Tenant, wall: Timestamp) -> Charge {
    let own = &tenant.outbound;
    Charge {
        account: Account::Tenant(tenant.id),
        day: wall.to_zoned(TimeZone::UTC).date(),
        limit: DailyLimit { minutes: own.daily_minutes, spend: own.daily_spend },
    }
}

/// The price of a call to `dialled` by a trunk.
#[must_use]
pub fn rate(trunk: &Trunk, dialled: E164) -> Option<&Rate> {
    rate_of(&trunk.outbound.as_ref()?.budget.rates, dialled)
}

#[cfg(test)]
pub(crate) mod tests;
