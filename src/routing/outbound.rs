//! Outbound routing: a tenant's wish to call a number, into the gateways to try, or a refusal.

use crate::routing::admission::Admission;
use crate::routing::caller_id::Asking;
use crate::routing::caller_id::Privacy;
use crate::routing::contents::Number;
use crate::routing::contents::Tenant;
use crate::routing::contents::TenantStatus;
use crate::routing::decision::Decision;
use crate::routing::destination::Micros;
use crate::routing::destination::Rate;
use crate::routing::destination::rate_of;
use crate::routing::gateway;
use crate::routing::gateway::Gateway;
use crate::routing::gateway::Standing;
use crate::routing::gateway_board::GatewayBoard;
use crate::routing::gateway_board::GatewayKey;
use crate::routing::health::Availability;
use crate::routing::invite_form::InviteForm;
use crate::routing::invite_form::Sender;
use crate::routing::outbound_trunk::OutboundTrunk;
use crate::routing::table::RoutingTable;
use crate::routing::trunk::Trunk;
use crate::routing::usage::Account;
use crate::routing::usage::Charge;
use crate::routing::usage::DailyLimit;
use crate::routing::usage::Usage;
use crate::types::cause::HangupCause;
use crate::types::header::CallVariables;
use crate::types::header::FieldName;
use crate::types::header::FieldValue;
use crate::types::id::TenantId;
use crate::types::id::TrunkId;
use crate::types::limit::OUTBOUND_TRIES_MAX;
use crate::types::moment::Moment;
use crate::types::number::DialString;
use crate::types::number::E164;
use crate::types::random::Random;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use smallvec::SmallVec;
use std::fmt;
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
    /// The caller wants to be withheld.
    pub anonymous: bool,
    /// The call that this one is to be joined to, where that came in by a trunk.
    pub forwarding: Option<Forwarding>,
    /// Headers for the carrier; those are sent that the trunk passes on.
    pub headers: Vec<(FieldName, FieldValue)>,
    /// Variables of the call, for templates.
    pub variables: CallVariables,
    /// The call's identity in records, for templates.
    pub call_id: String,
    /// Max-Forwards that is left of the call this one is joined to; `None`: the trunk's.
    pub hops_left: Option<u8>,
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
            anonymous: false,
            forwarding: None,
            headers: Vec::new(),
            variables: CallVariables::default(),
            call_id: String::new(),
            hops_left: None,
        }
    }
}

/// The telephone call that a call out is joined to.
#[derive(Clone, Debug)]
pub struct Forwarding {
    /// The trunk it came in by.
    pub trunk: Arc<Trunk>,
    /// Who calls there.
    pub caller: Option<E164>,
    /// The number of ours that was dialled there.
    pub dialled: E164,
    /// Why it is forwarded.
    pub reason: DiversionReason,
    /// The Diversion header that came with it.
    pub diversion: Option<FieldValue>,
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
    let mut planning = Planning {
        now,
        table,
        around,
        request: Arc::new(request),
        decision: Decision::new(),
        tenant: None,
        dialled: None,
        first_refusal: None,
    };
    let planned = planning.run();
    match planned {
        Ok((tenant, dialled, tries)) => {
            let mut decision = planning.decision;
            decision.note("verdict", format!("{} gateways to try", tries.len()));
            let caller = tries.first().map(Try::caller);
            let number = caller.and_then(|caller| table.number(caller)).map(Arc::clone);
            Ok(OutboundPlan { tenant, number, dialled, tries, decision })
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
    let own = &tenant.outbound;
    charges.push(Charge {
        account: Account::Tenant(tenant.id),
        day: wall.to_zoned(TimeZone::UTC).date(),
        limit: DailyLimit { minutes: own.daily_minutes, spend: own.daily_spend },
    });
    charges
}

/// The price of a call to `dialled` by a trunk.
#[must_use]
pub fn rate(trunk: &Trunk, dialled: E164) -> Option<&Rate> {
    rate_of(&trunk.outbound.as_ref()?.budget.rates, dialled)
}

/// Why a trunk does not carry a call: the cause and the words of the step.
type Objection = (HangupCause, String);

struct Planning<'a, 's> {
    now: Moment,
    table: &'a RoutingTable,
    around: &'a mut Surroundings<'s>,
    request: Arc<OutboundRequest>,
    decision: Decision,
    tenant: Option<Arc<Tenant>>,
    dialled: Option<E164>,
    first_refusal: Option<(HangupCause, Arc<Trunk>)>,
}

/// Where a trunk of the order comes from.
#[derive(Clone, Copy)]
enum Origin {
    Asked,
    Number,
    RoutingProfile,
    Tenant,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Asked => "asked for",
            Self::Number => "of the number",
            Self::RoutingProfile => "of the routing profile",
            Self::Tenant => "the tenant's default",
        })
    }
}

impl Planning<'_, '_> {
    fn run(&mut self) -> Result<(Arc<Tenant>, E164, Vec<Try>), HangupCause> {
        let tenant = self.tenant()?;
        let dialled = self.dialled()?;
        if let Some(prefixes) = &tenant.outbound.destinations {
            let covered = prefixes.iter().any(|prefix| prefix.covers(dialled));
            self.decision.note(
                "tenant",
                if covered { "allows the number" } else { "does not list the number" },
            );
            if !covered {
                return Err(HangupCause::DestinationDenied);
            }
        }
        let mut tries = Vec::new();
        for (id, origin) in self.trunk_order(&tenant) {
            self.consider(&tenant, dialled, (id, origin), &mut tries);
        }
        let Some(most) =
            tries.first().map(|first: &Try| first.outbound().budget.per_destination_min)
        else {
            return Err(self.first_refusal.as_ref().map_or(HangupCause::NoTrunk, |first| first.0));
        };
        let counted = self.around.usage.call_destination(self.now, tenant.id, dialled, most);
        if let Err(cause) = counted {
            self.decision.note("limit", format!("called {most} times within a minute already"));
            return Err(cause);
        }
        for (at, next) in tries.iter().enumerate() {
            self.decision.note(
                "gateway",
                format!("{}: {} of {}", at + 1, next.gateway.name, next.trunk.name),
            );
            if at == 0 || tries.get(at - 1).is_some_and(|last| last.trunk.id != next.trunk.id) {
                self.around.board.take_turn(next.trunk.id);
            }
        }
        Ok((tenant, dialled, tries))
    }

    fn tenant(&mut self) -> Result<Arc<Tenant>, HangupCause> {
        let id = self.request.tenant;
        let Some(tenant) = self.table.tenant(id) else {
            self.decision.note("tenant", format!("{id} is not known"));
            return Err(HangupCause::TenantDeleted);
        };
        self.tenant = Some(Arc::clone(tenant));
        let (state, verdict) = match tenant.status {
            TenantStatus::Active => ("", Ok(Arc::clone(tenant))),
            TenantStatus::Suspended => (" is suspended", Err(HangupCause::TenantSuspended)),
            TenantStatus::Deleted => (" is no more", Err(HangupCause::TenantDeleted)),
        };
        self.decision.note("tenant", format!("{}{state}", tenant.name));
        verdict
    }

    fn dialled(&mut self) -> Result<E164, HangupCause> {
        let text = self.request.to.as_str();
        match text.parse::<E164>() {
            Ok(number) => {
                self.dialled = Some(number);
                self.decision.note("dialled", number.as_str());
                Ok(number)
            }
            Err(why) => {
                self.decision.note("dialled", format!("`{text}`: {why}"));
                Err(HangupCause::NotANumber)
            }
        }
    }

    /// The trunks to ask, each once.
    fn trunk_order(&mut self, tenant: &Tenant) -> SmallVec<[(TrunkId, Origin); 4]> {
        let mut order: SmallVec<[(TrunkId, Origin); 4]> = SmallVec::new();
        let mut add = |trunk: Option<TrunkId>, origin| {
            if let Some(id) = trunk
                && !order.iter().any(|(known, _)| *known == id)
            {
                order.push((id, origin));
            }
        };
        if let Some(asked) = self.request.trunk {
            add(Some(asked), Origin::Asked);
            return order;
        }
        let own = self.request.from.or(self.request.forwarding.as_ref().map(|f| f.dialled));
        let row = own.and_then(|own| self.table.number(own)).filter(|row| row.tenant == tenant.id);
        if let Some(row) = row {
            add(row.outbound_trunk.or(row.trunk), Origin::Number);
            add(
                self.table.routing_profile(row).and_then(|p| p.outbound_trunk),
                Origin::RoutingProfile,
            );
        }
        add(tenant.outbound.trunk, Origin::Tenant);
        if order.is_empty() {
            self.decision
                .note("trunk", "neither the number, its routing profile nor the tenant names one");
        }
        order
    }

    /// Adds the gateways of a trunk, or notes why not.
    fn consider(
        &mut self,
        tenant: &Arc<Tenant>,
        dialled: E164,
        (id, origin): (TrunkId, Origin),
        tries: &mut Vec<Try>,
    ) {
        let usable = self.table.trunk(id).filter(|trunk| {
            // Of a trunk of another tenant nothing is told, not even that it exists.
            trunk.tenant.is_none_or(|owner| owner == tenant.id)
        });
        let Some(trunk) = usable else {
            self.decision.note("trunk", format!("{id}, {origin}: not known"));
            return;
        };
        self.decision.note("trunk", format!("{}, {origin}", trunk.name));
        match self.gateways(tenant, trunk, dialled) {
            Ok(mut found) => {
                found.truncate(OUTBOUND_TRIES_MAX.saturating_sub(tries.len()));
                tries.append(&mut found);
            }
            Err((cause, words)) => {
                self.decision.note("trunk", format!("{}: {words}", trunk.name));
                if self.first_refusal.is_none() {
                    self.first_refusal = Some((cause, Arc::clone(trunk)));
                }
            }
        }
    }

    fn gateways(
        &mut self,
        tenant: &Arc<Tenant>,
        trunk: &Arc<Trunk>,
        dialled: E164,
    ) -> Result<Vec<Try>, Objection> {
        let outbound = trunk.outbound.as_ref().filter(|_| trunk.enabled);
        let outbound = outbound.ok_or((HangupCause::NoTrunk, "does not call out".to_owned()))?;
        self.judge_destination(outbound, dialled)?;
        self.judge_law(trunk, outbound)?;
        let caller = self.choose_caller(tenant, trunk, outbound)?;
        self.judge_budget(tenant, trunk, dialled)?;
        if outbound.needs_registration && !self.around.board.is_registered(trunk.id) {
            return Err((HangupCause::NoGateway, "is not registered".to_owned()));
        }
        let withheld = match outbound.caller_id.privacy {
            Privacy::Honour => self.request.anonymous,
            Privacy::Force => true,
            Privacy::Ignore => false,
        };
        let sender = Arc::new(Sender {
            trunk: Arc::clone(trunk),
            outbound: Arc::clone(outbound),
            request: Arc::clone(&self.request),
            caller,
            withheld,
            redirected_from: None,
        });
        self.note_sender(&sender, dialled)?;
        self.tries(&sender, dialled)
    }

    fn judge_destination(&self, outbound: &OutboundTrunk, dialled: E164) -> Result<(), Objection> {
        let judgement = outbound.destinations.judge(dialled);
        if !judgement.is_allowed() {
            return Err((HangupCause::DestinationDenied, format!("{dialled} is {judgement}")));
        }
        if !outbound.must_match.0.is_match(dialled.as_str()) {
            let words = format!("{dialled} does not match numbers.outbound_must_match");
            return Err((HangupCause::DestinationDenied, words));
        }
        Ok(())
    }

    fn judge_law(&self, trunk: &Trunk, outbound: &OutboundTrunk) -> Result<(), Objection> {
        let law = &outbound.compliance;
        if let Some(forwarding) = &self.request.forwarding {
            // Hours and classes are about calls nobody asked for, not about calls passed on.
            return may_join(&forwarding.trunk, trunk);
        }
        if let Some(hours) = law.hours {
            let local = self.around.wall.to_zoned(law.zone.clone()).time();
            if !hours.contain(local) {
                let words =
                    format!("calls from {} to {}, and it is {local:.0}", hours.from, hours.to);
                return Err((HangupCause::OutsideHours, words));
            }
        }
        Ok(())
    }

    fn choose_caller(
        &mut self,
        tenant: &Tenant,
        trunk: &Trunk,
        outbound: &OutboundTrunk,
    ) -> Result<E164, Objection> {
        let asking = Asking {
            table: self.table,
            tenant: tenant.id,
            trunk,
            asked: self.request.from,
            forwarded: self.request.forwarding.as_ref().and_then(|f| f.caller),
        };
        let (caller, instead) = outbound
            .caller_id
            .choose(&asking)
            .map_err(|why| (HangupCause::CallerIdDenied, format!("no caller ID: {why}")))?;
        match instead {
            None => self.decision.note("caller", format!("{caller}")),
            Some(why) => {
                self.decision.note("caller", format!("{caller}, the trunk's default: {why}"));
            }
        }
        let class = outbound.compliance.class;
        if self.request.forwarding.is_none() && !class.permits(caller) {
            let words = format!("{caller} is not of the series its class of calls is made with");
            return Err((HangupCause::CallerIdDenied, words));
        }
        Ok(caller)
    }

    fn judge_budget(&self, tenant: &Tenant, trunk: &Trunk, dialled: E164) -> Result<(), Objection> {
        let rate = rate(trunk, dialled);
        let currency = trunk.outbound.as_ref().map_or("", |outbound| &outbound.budget.currency);
        for charge in charges(tenant, trunk, self.around.wall) {
            let own = match charge.account {
                Account::Tenant(_) => tenant.outbound.currency.as_str(),
                Account::Trunk(_) => currency,
            };
            let whose = match charge.account {
                Account::Tenant(_) => "the tenant",
                Account::Trunk(_) => "the trunk",
            };
            if charge.limit.spend > Micros::default() {
                if rate.is_none() {
                    let words = format!("{whose} has a limit of money, and {dialled} no price");
                    return Err((HangupCause::BudgetSpent, words));
                }
                if own != currency {
                    let words = format!("prices are in {currency}, the limit of {whose} in {own}");
                    return Err((HangupCause::BudgetSpent, words));
                }
            }
            let checked = self.around.usage.check(self.now, &charge, rate);
            checked.map_err(|cause| (cause, format!("the daily budget of {whose} is used up")))?;
        }
        Ok(())
    }

    /// Notes what the trunk's rules make of called and caller.
    fn note_sender(&mut self, sender: &Sender, dialled: E164) -> Result<(), Objection> {
        let nothing =
            |what: &str| (HangupCause::NotANumber, format!("its rules make nothing of {what}"));
        let called = sender.called_on_wire(dialled).ok_or_else(|| nothing("the number"))?;
        let caller = sender.caller_on_wire().ok_or_else(|| nothing("the caller"))?;
        for (what, number, wire) in
            [("called", dialled, called), ("calling", sender.caller, caller)]
        {
            let by = wire.rule.map_or("as it is".to_owned(), |rule| format!("by rule {rule}"));
            self.decision.note("rewrite", format!("{what} {number} is `{}`, {by}", wire.text));
        }
        if sender.withheld {
            self.decision.note("caller", "withheld");
        } else if self.request.anonymous {
            self.decision
                .note("caller", "shown, although it was to be withheld: the trunk says so");
        }
        Ok(())
    }

    /// The gateways that may be given calls, in order.
    fn tries(&mut self, sender: &Arc<Sender>, dialled: E164) -> Result<Vec<Try>, Objection> {
        let (trunk, outbound) = (&sender.trunk, &sender.outbound);
        let mut standings = Vec::with_capacity(outbound.gateways.len());
        for (index, gateway) in outbound.gateways.iter().enumerate() {
            let key = GatewayKey { trunk: trunk.id, gateway: gateway.name.clone() };
            match self.around.board.availability(self.now, &key) {
                Availability::Ready | Availability::Trial => standings.push(Standing {
                    index,
                    priority: gateway.priority,
                    weight: gateway.weight,
                    calls: self.around.admission.calls_of_gateway(&key),
                }),
                state @ (Availability::Cooling(_)
                | Availability::Throttled(_)
                | Availability::Down
                | Availability::Disabled) => {
                    self.decision.note("gateway", format!("{} is {state}", gateway.name));
                }
            }
        }
        let turn = self.around.board.turn(trunk.id);
        gateway::order(outbound.strategy, &mut standings, turn, self.around.random);
        let tries: Vec<Try> = standings
            .iter()
            .filter_map(|standing| outbound.gateways.get(standing.index))
            .take(outbound.failover.attempts_max.max(1))
            .filter_map(|gateway| sender.attempt(gateway, dialled))
            .collect();
        if tries.is_empty() {
            return Err((HangupCause::NoGateway, "no gateway may be given calls".to_owned()));
        }
        Ok(tries)
    }
}

impl Sender {
    /// A try at a gateway.
    pub(crate) fn attempt(self: &Arc<Self>, gateway: &Arc<Gateway>, dialled: E164) -> Option<Try> {
        Some(Try {
            trunk: Arc::clone(&self.trunk),
            gateway: Arc::clone(gateway),
            dialled,
            invite: self.form(gateway, dialled)?,
            sender: Arc::clone(self),
        })
    }
}

/// Whether a call that came in by one trunk may be joined to one that goes out by another. A trunk that
/// forbids it allows it within one place: by itself, or by a trunk of its region and area.
fn may_join(one: &Trunk, other: &Trunk) -> Result<(), Objection> {
    let (a, b) = (&one.jurisdiction, &other.jurisdiction);
    let one_place = one.id == other.id || a.is_same_place(b);
    if one_place || !(a.no_pstn_bridge || b.no_pstn_bridge) {
        return Ok(());
    }
    let words = format!("may not be joined to a call of trunk {}: toll bypass", one.name);
    Err((HangupCause::TollBypass, words))
}
