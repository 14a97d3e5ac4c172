//! The steps from a wish to call to the gateways that are tried.

use crate::routing::caller_id::Asking;
use crate::routing::caller_id::Privacy;
use crate::routing::campaign::Campaign;
use crate::routing::contents::Number;
use crate::routing::contents::Tenant;
use crate::routing::contents::TenantStatus;
use crate::routing::decision::Decision;
use crate::routing::destination::Micros;
use crate::routing::gateway;
use crate::routing::gateway::Gateway;
use crate::routing::gateway::Standing;
use crate::routing::gateway_board::GatewayKey;
use crate::routing::health::Availability;
use crate::routing::invite_form::Sender;
use crate::routing::numbers::dial_text;
use crate::routing::outbound::OutboundRequest;
use crate::routing::outbound::Surroundings;
use crate::routing::outbound::Try;
use crate::routing::outbound::charges;
use crate::routing::outbound::rate;
use crate::routing::outbound_trunk::OutboundTrunk;
use crate::routing::table::RoutingTable;
use crate::routing::trunk::Trunk;
use crate::routing::usage::Account;
use crate::routing::usage::Usage;
use crate::types::cause::HangupCause;
use crate::types::country::Country;
use crate::types::id::TrunkId;
use crate::types::limit::OUTBOUND_TRIES_MAX;
use crate::types::moment::Moment;
use crate::types::number::E164;
use jiff::Timestamp;
use smallvec::SmallVec;
use std::fmt;
use std::sync::Arc;

/// Why a trunk does not carry a call: the cause and the words of the step.
type Objection = (HangupCause, String);

/// Whether the budgets of tenant and trunk have room for a call to this number.
pub(super) fn judge_budget(
    now: Moment,
    (usage, wall): (&Usage, Timestamp),
    (tenant, trunk): (&Tenant, &Trunk),
    dialled: E164,
) -> Result<(), Objection> {
    let rate = rate(trunk, dialled);
    let currency = trunk.outbound.as_ref().map_or("", |outbound| &outbound.budget.currency);
    for charge in charges(tenant, trunk, wall) {
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
        let checked = usage.check(now, &charge, rate);
        checked.map_err(|cause| (cause, format!("the daily budget of {whose} is used up")))?;
    }
    Ok(())
}

pub(super) struct Planning<'a, 's> {
    pub(super) is_rehearsal: bool,
    pub(super) now: Moment,
    pub(super) table: &'a RoutingTable,
    pub(super) around: &'a mut Surroundings<'s>,
    pub(super) request: Arc<OutboundRequest>,
    pub(super) decision: Decision,
    pub(super) tenant: Option<Arc<Tenant>>,
    pub(super) dialled: Option<E164>,
    pub(super) campaign: Option<Arc<Campaign>>,
    pub(super) first_refusal: Option<(HangupCause, Arc<Trunk>)>,
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
    pub(super) fn run(&mut self) -> Result<(Arc<Tenant>, E164, Vec<Try>), HangupCause> {
        let tenant = self.tenant()?;
        // By whose number it is called says in which country's form it may be written.
        let is_international = self.request.to.as_str().parse::<E164>().is_ok();
        if !is_international {
            self.join_campaign(&tenant)?;
        }
        let dialled = self.dialled(&tenant)?;
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
        if is_international {
            self.join_campaign(&tenant)?;
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
        let (now, usage) = (self.now, &mut *self.around.usage);
        let counted = if self.is_rehearsal {
            usage.check_destination(now, tenant.id, dialled, most)
        } else {
            usage.call_destination(now, tenant.id, dialled, most)
        };
        if let Err(cause) = counted {
            self.decision.note("limit", format!("called {most} times within a minute already"));
            return Err(cause);
        }
        for (at, next) in tries.iter().enumerate() {
            self.decision.note(
                "gateway",
                format!("{}: {} of {}", at + 1, next.gateway.name, next.trunk.name),
            );
            let is_first =
                at == 0 || tries.get(at - 1).is_some_and(|last| last.trunk.id != next.trunk.id);
            if is_first && !self.is_rehearsal {
                self.around.board.take_turn(next.trunk.id);
            }
        }
        Ok((tenant, dialled, tries))
    }

    /// Finds the campaign that a call placed for an application is for, and the number it calls out by.
    fn join_campaign(&mut self, tenant: &Tenant) -> Result<(), HangupCause> {
        if !self.request.is_placed {
            return Ok(());
        }
        let of_number = |number: E164| self.table.number(number).and_then(|row| row.campaign);
        let named = self.request.campaign;
        let Some(id) = named.or_else(|| self.request.from.and_then(of_number)) else {
            return Ok(());
        };
        let Some(campaign) = self.table.campaign(tenant.id, id).map(Arc::clone) else {
            self.decision.note("campaign", format!("the tenant has no campaign {id}"));
            return Err(HangupCause::CampaignUnknown);
        };
        let from = match self.request.from {
            Some(from) => Some(from).filter(|from| of_number(*from) == Some(id)),
            None => {
                let own: Vec<E164> = self.table.numbers_of(id).collect();
                let turn = self.around.random.below(own.len().max(1) as u64);
                usize::try_from(turn).ok().and_then(|turn| own.get(turn).copied())
            }
        };
        let Some(from) = from else {
            let words = match self.request.from {
                Some(_) => "does not have the number that is to be shown",
                None => "has no number in service",
            };
            self.decision.note("campaign", format!("{} {words}", campaign.name));
            return Err(HangupCause::NumberNotInCampaign);
        };
        if let Err(objection) = campaign.check(self.around.wall) {
            self.decision.note("campaign", format!("{}: {objection}", campaign.name));
            return Err(objection.cause());
        }
        self.decision.note("campaign", format!("{} calls now", campaign.name));
        Arc::make_mut(&mut self.request).from = Some(from);
        self.campaign = Some(campaign);
        Ok(())
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

    fn dialled(&mut self, tenant: &Tenant) -> Result<E164, HangupCause> {
        let text = self.request.to.as_str();
        let (number, words) = match (text.parse::<E164>(), self.read_nationally(tenant)) {
            (Ok(number), _) => (number, number.to_string()),
            (Err(_), Some((country, number))) => {
                (number, format!("`{text}` is {number}, by the numbering of {country}"))
            }
            (Err(why), None) => {
                self.decision.note("dialled", format!("`{text}`: {why}"));
                return Err(HangupCause::NotANumber);
            }
        };
        self.dialled = Some(number);
        self.decision.note("dialled", words);
        Ok(number)
    }

    /// What the number called means in the national form of the country of the caller's routing profile.
    fn read_nationally(&self, tenant: &Tenant) -> Option<(Country, E164)> {
        let country = self.table.routing_profile(self.own_row(tenant)?)?.profile.country?;
        let text = dial_text(self.request.to.as_str().as_bytes())?;
        Some((country, country.read(&text)?))
    }

    /// The number of the tenant that calls.
    fn own_row(&self, tenant: &Tenant) -> Option<&Arc<Number>> {
        let forwarded = self.request.forwarding.as_ref().map(|f| f.dialled);
        let own = self.request.from.or(forwarded).or(self.request.within)?;
        self.table.number(own).filter(|row| row.tenant == tenant.id)
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
        let row = self.own_row(tenant);
        let followed = row.and_then(|row| self.table.routing_profile(row));
        add(row.and_then(|row| row.outbound_trunk.or(row.trunk)), Origin::Number);
        add(followed.and_then(|followed| followed.profile.outbound_trunk), Origin::RoutingProfile);
        add(tenant.outbound.trunk, Origin::Tenant);
        let followed = followed.map(|followed| followed.to_string());
        if let Some(followed) = followed {
            self.decision.note("routing profile", followed);
        }
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
        judge_budget(self.now, (self.around.usage, self.around.wall), (tenant, trunk), dialled)?;
        if outbound.needs_registration && !self.around.board.is_registered(trunk.id) {
            return Err((HangupCause::NoGateway, "is not registered".to_owned()));
        }
        let withheld = match outbound.caller_id.privacy {
            Privacy::Honour => self.request.anonymous,
            Privacy::Force => true,
            Privacy::Ignore => false,
        };
        let sender = Arc::new(Sender {
            tenant: Arc::clone(tenant),
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
        if !outbound.may_dial(dialled) {
            let words = format!("{dialled} does not match numbers.outbound_must_match");
            return Err((HangupCause::DestinationDenied, words));
        }
        Ok(())
    }

    fn judge_law(&self, trunk: &Trunk, outbound: &OutboundTrunk) -> Result<(), Objection> {
        let law = &outbound.compliance;
        if let Some(other) = &self.request.joined_to {
            may_join(other, trunk)?;
        }
        if self.request.forwarding.is_some() {
            // Hours and classes are about calls nobody asked for, not about calls passed on.
            return Ok(());
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
        let class = outbound.compliance.class;
        let forwarded = self.request.forwarding.as_ref();
        // It was not chosen by anybody: where it would not do, the trunk's default does.
        let within = self.request.within.filter(|own| class.permits(*own));
        let asking = Asking {
            table: self.table,
            tenant: tenant.id,
            trunk,
            asked: self.request.from,
            forwarded: forwarded.and_then(|f| f.caller),
            dialled: forwarded.map(|f| f.dialled).or(within),
        };
        let (caller, instead) = outbound
            .caller_id
            .choose(&asking)
            .map_err(|why| (HangupCause::CallerIdDenied, format!("no caller ID: {why}")))?;
        match instead {
            None => self.decision.note("caller", format!("{caller}")),
            Some(why) => {
                let whose = match (asking.dialled == Some(caller), forwarded) {
                    (true, Some(_)) => "the number that was called",
                    (true, None) => "the number of the call",
                    (false, _) => "the trunk's default",
                };
                self.decision.note("caller", format!("{caller}, {whose}: {why}"));
            }
        }
        // The trunk may put another number in the place of the one that was chosen.
        let own = self.table.number(caller).and_then(|row| row.campaign);
        let wanted = self.campaign.as_ref().map(|campaign| campaign.id);
        if self.request.is_placed && own != wanted {
            let words = format!("{caller} is not of the same campaign");
            return Err((HangupCause::NumberNotInCampaign, words));
        }
        if forwarded.is_none() && !class.permits(caller) {
            let words = format!("{caller} is not of the series its class of calls is made with");
            return Err((HangupCause::CallerIdDenied, words));
        }
        Ok(caller)
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
                | Availability::Down) => {
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
