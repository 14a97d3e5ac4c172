//! Inbound routing: trunk and dialled number into number, tenant and AI profile, or a refusal.

use crate::routing::contents::AiProfile;
use crate::routing::contents::Number;
use crate::routing::contents::Tenant;
use crate::routing::contents::TenantStatus;
use crate::routing::decision::Decision;
use crate::routing::identify::Attempt;
use crate::routing::identify::identify;
use crate::routing::numbers::NumberRules;
use crate::routing::numbers::Rewritten;
use crate::routing::numbers::dial_text;
use crate::routing::table::RoutingTable;
use crate::routing::trunk::DidSource;
use crate::routing::trunk::Trunk;
use crate::types::cause::HangupCause;
use crate::types::number::DialString;
use crate::types::number::E164;
use smallvec::SmallVec;
use std::sync::Arc;

/// The status for a caller without a number where the trunk wants one (RFC 5079).
const ANONYMITY_DISALLOWED: u16 = 433;
/// How carriers spell a caller who withholds the number.
const WITHHELD: [&str; 5] = ["anonymous", "restricted", "private", "unavailable", "unknown"];

/// What routing decided.
#[derive(Clone, Debug)]
pub enum Verdict {
    /// The call may come in.
    Route(Box<InboundRoute>),
    /// The trunk wants credentials: 401.
    Challenge(Arc<Trunk>),
    /// The call is refused.
    Refuse(Box<Rejection>),
    /// The source is no trunk's: silence, or what the listener says of unknown sources.
    Unknown,
}

/// Where a call goes.
#[derive(Clone, Debug)]
pub struct InboundRoute {
    /// The trunk it came by.
    pub trunk: Arc<Trunk>,
    /// The tenant it belongs to.
    pub tenant: Arc<Tenant>,
    /// The number dialled, or the range that holds it.
    pub number: Arc<Number>,
    /// Who answers.
    pub profile: Arc<AiProfile>,
    /// Who calls.
    pub caller: Caller,
    /// The number dialled.
    pub dialled: E164,
}

/// A refusal, with what was known by then.
#[derive(Clone, Debug)]
pub struct Rejection {
    /// Why.
    pub cause: HangupCause,
    /// The SIP status, after the trunk's `response_map`.
    pub status: u16,
    /// The trunk it came by.
    pub trunk: Arc<Trunk>,
    /// The tenant of the number. `None` where the number is not the caller's to know of.
    pub tenant: Option<Arc<Tenant>>,
    /// The number or range.
    pub number: Option<Arc<Number>>,
    /// The number dialled, where it is one.
    pub dialled: Option<E164>,
    /// Who calls.
    pub caller: Caller,
}

/// Who calls.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Caller {
    /// The caller as claimed; `None`: anonymous.
    pub text: Option<DialString>,
    /// The caller as a number, where the claim is one.
    pub e164: Option<E164>,
}

impl Caller {
    /// The number, else the text as claimed, else nothing.
    #[must_use]
    pub fn shown(&self) -> &str {
        match (&self.e164, &self.text) {
            (Some(number), _) => number.as_str(),
            (None, Some(text)) => text.as_str(),
            (None, None) => "",
        }
    }
}

/// Decides about `attempt` and writes each step into `decision`.
///
/// Every trunk that matches the source is asked, by priority, whether the dialled number belongs to
/// it. Many tenants may share the addresses of one carrier, so the source alone chooses nothing.
pub fn route(table: &RoutingTable, attempt: &Attempt<'_>, decision: &mut Decision) -> Verdict {
    let candidates = identify(table, attempt, decision);
    let mut dialling = Dialling { table, attempt, known: SmallVec::new() };
    let open = choose(&mut dialling, &candidates.open);
    let verdict = match open {
        Some((trunk, Outcome::Found(found))) => {
            admit_number(&mut dialling, trunk, &found, decision)
        }
        _ if !candidates.pending.is_empty() => {
            // Before anything is said about the number: a stranger must not learn which exist.
            match choose(&mut dialling, &candidates.pending) {
                Some((trunk, _)) => Verdict::Challenge(Arc::clone(trunk)),
                None => Verdict::Unknown,
            }
        }
        Some((trunk, outcome)) => refuse_number(&mut dialling, trunk, &outcome, decision),
        None => match candidates.wrong.first() {
            Some(trunk) => Refusal::new(trunk, HangupCause::BadCredentials).verdict(attempt),
            None => Verdict::Unknown,
        },
    };
    decision.note("verdict", describe(&verdict));
    verdict
}

/// What a trunk makes of the dialled number.
enum Outcome<'t> {
    /// A number that belongs to the trunk.
    Found(Found<'t>),
    /// A number that belongs elsewhere.
    Elsewhere(E164),
    /// No number of ours.
    Unknown(E164),
    /// No number at all.
    NotANumber,
}

impl Outcome<'_> {
    /// How much an outcome tells; of several refusals the most telling is given.
    const fn rank(&self) -> u8 {
        match self {
            Self::Found(_) => 3,
            Self::Elsewhere(_) => 2,
            Self::Unknown(_) => 1,
            Self::NotANumber => 0,
        }
    }
}

struct Found<'t> {
    number: &'t Arc<Number>,
    dialled: E164,
}

/// The dialled texts of an attempt, each rewritten once by each list of rules: fifty tenants behind
/// one carrier mostly share theirs.
struct Dialling<'t, 'r, 'a> {
    table: &'t RoutingTable,
    attempt: &'r Attempt<'a>,
    known: SmallVec<[(u64, DidSource, Rewritten); 4]>,
}

impl<'t> Dialling<'t, '_, '_> {
    fn rewritten(&mut self, rules: &NumberRules, source: DidSource) -> Rewritten {
        let print = rules.fingerprint();
        let known = self.known.iter().find(|(known, from, _)| (*known, *from) == (print, source));
        if let Some((_, _, rewritten)) = known {
            return rewritten.clone();
        }
        let text = dial_text(raw_text(self.attempt, source));
        let rewritten = text.map_or(Rewritten::Unusable, |text| rules.rewrite(&text).0);
        self.known.push((print, source, rewritten.clone()));
        rewritten
    }

    fn outcome(&mut self, trunk: &Trunk) -> Outcome<'t> {
        let mut best = Outcome::NotANumber;
        for source in &trunk.did_sources {
            let Rewritten::Number(dialled) = self.rewritten(&trunk.called, *source) else {
                continue;
            };
            let outcome = match self.table.number(dialled) {
                Some(number) if belongs(number, trunk) => {
                    return Outcome::Found(Found { number, dialled });
                }
                Some(_) => Outcome::Elsewhere(dialled),
                None => Outcome::Unknown(dialled),
            };
            if outcome.rank() > best.rank() {
                best = outcome;
            }
        }
        best
    }

    /// Writes down what the trunk's rules made of each text, up to the one that was used.
    fn narrate(&self, trunk: &Trunk, decision: &mut Decision) {
        for source in &trunk.did_sources {
            let Some(text) = dial_text(raw_text(self.attempt, *source)) else {
                decision.note("dialled", format!("{source}: nothing"));
                continue;
            };
            let (rewritten, rule) = trunk.called.rewrite(&text);
            let by = rule.map_or("as it is".to_owned(), |rule| format!("by rule {rule}"));
            match rewritten {
                Rewritten::Number(number) => {
                    decision.note("dialled", format!("{source}: `{text}` is {number}, {by}"));
                    if self.table.number(number).is_some_and(|number| belongs(number, trunk)) {
                        return;
                    }
                }
                Rewritten::Anonymous | Rewritten::Unusable => {
                    decision.note("dialled", format!("{source}: `{text}` is no number, {by}"));
                }
            }
        }
    }
}

const fn raw_text<'a>(attempt: &Attempt<'a>, source: DidSource) -> &'a [u8] {
    match source {
        DidSource::RequestUri => attempt.request_user,
        DidSource::To => attempt.to_user,
        DidSource::Diversion => attempt.diversion_user,
        DidSource::PCalledPartyId => attempt.called_party_user,
    }
}

/// Whether `number` may be called on `trunk`: on the trunk it names, or, if it names none, on any
/// shared trunk and on its tenant's own. Never on another tenant's trunk.
fn belongs(number: &Number, trunk: &Trunk) -> bool {
    trunk.tenant.is_none_or(|owner| owner == number.tenant)
        && number.trunk.is_none_or(|own| own == trunk.id)
}

/// The first trunk the number belongs to, else the first with the most telling refusal.
fn choose<'t, 'c>(
    dialling: &mut Dialling<'t, '_, '_>,
    trunks: &'c [&'t Arc<Trunk>],
) -> Option<(&'c Arc<Trunk>, Outcome<'t>)> {
    let mut best: Option<(&Arc<Trunk>, Outcome<'_>)> = None;
    for trunk in trunks {
        let outcome = dialling.outcome(trunk);
        if matches!(outcome, Outcome::Found(_)) {
            return Some((trunk, outcome));
        }
        if best.as_ref().is_none_or(|(_, known)| outcome.rank() > known.rank()) {
            best = Some((trunk, outcome));
        }
    }
    best
}

/// Takes a number of the trunk through number, tenant, profile and caller.
fn admit_number(
    dialling: &mut Dialling<'_, '_, '_>,
    trunk: &Arc<Trunk>,
    found: &Found<'_>,
    decision: &mut Decision,
) -> Verdict {
    let (table, attempt, number) = (dialling.table, dialling.attempt, found.number);
    dialling.narrate(trunk, decision);
    decision.note("number", describe_number(number, trunk));
    let tenant = table.tenant(number.tenant);
    let caller = caller(trunk, attempt, decision);
    let mut refusal = Refusal::new(trunk, HangupCause::TenantDeleted);
    refusal.found(found, tenant);
    let Some(tenant) = tenant.filter(|tenant| tenant.status != TenantStatus::Deleted) else {
        decision.note("tenant", format!("{} is no more", number.tenant));
        return refusal.verdict_of(caller);
    };
    if !number.active {
        return refusal.because(HangupCause::NumberInactive).verdict_of(caller);
    }
    if tenant.status == TenantStatus::Suspended {
        decision.note("tenant", format!("{} is suspended", tenant.name));
        return refusal.because(HangupCause::TenantSuspended).verdict_of(caller);
    }
    decision.note("tenant", tenant.name.clone());
    let profile = number.ai_profile.or(tenant.default_profile);
    let profile =
        profile.and_then(|id| table.ai_profile(id)).filter(|profile| profile.tenant == tenant.id);
    let Some(profile) = profile else {
        decision.note("profile", "neither the number nor the tenant has a usable AI profile");
        return refusal.because(HangupCause::NoAgent).verdict_of(caller);
    };
    decision.note("profile", profile.name.clone());
    if caller.text.is_none() && !trunk.anonymous_allowed {
        refusal.status = Some(ANONYMITY_DISALLOWED);
        return refusal.because(HangupCause::Policy).verdict_of(caller);
    }
    Verdict::Route(Box::new(InboundRoute {
        trunk: Arc::clone(trunk),
        tenant: Arc::clone(tenant),
        number: Arc::clone(number),
        profile: Arc::clone(profile),
        caller,
        dialled: found.dialled,
    }))
}

fn refuse_number(
    dialling: &mut Dialling<'_, '_, '_>,
    trunk: &Arc<Trunk>,
    outcome: &Outcome<'_>,
    decision: &mut Decision,
) -> Verdict {
    dialling.narrate(trunk, decision);
    let (cause, dialled) = match outcome {
        Outcome::Found(found) => (HangupCause::SwitchFault, Some(found.dialled)),
        Outcome::Elsewhere(dialled) => (HangupCause::NumberNotOnTrunk, Some(*dialled)),
        Outcome::Unknown(dialled) => (HangupCause::UnknownNumber, Some(*dialled)),
        Outcome::NotANumber => (HangupCause::NotANumber, None),
    };
    let mut refusal = Refusal::new(trunk, cause);
    refusal.dialled = dialled;
    let caller = caller(trunk, dialling.attempt, decision);
    refusal.verdict_of(caller)
}

/// A refusal in the making.
struct Refusal {
    cause: HangupCause,
    status: Option<u16>,
    trunk: Arc<Trunk>,
    tenant: Option<Arc<Tenant>>,
    number: Option<Arc<Number>>,
    dialled: Option<E164>,
}

impl Refusal {
    fn new(trunk: &Arc<Trunk>, cause: HangupCause) -> Self {
        let trunk = Arc::clone(trunk);
        Self { cause, status: None, trunk, tenant: None, number: None, dialled: None }
    }

    fn found(&mut self, found: &Found<'_>, tenant: Option<&Arc<Tenant>>) {
        self.tenant = tenant.map(Arc::clone);
        self.number = Some(Arc::clone(found.number));
        self.dialled = Some(found.dialled);
    }

    fn because(mut self, cause: HangupCause) -> Self {
        self.cause = cause;
        self
    }

    fn verdict(self, attempt: &Attempt<'_>) -> Verdict {
        let caller = caller(&self.trunk, attempt, &mut Decision::new());
        self.verdict_of(caller)
    }

    fn verdict_of(self, caller: Caller) -> Verdict {
        let status = self.status.unwrap_or_else(|| self.trunk.response_map.status(self.cause));
        Verdict::Refuse(Box::new(Rejection {
            cause: self.cause,
            status,
            trunk: self.trunk,
            tenant: self.tenant,
            number: self.number,
            dialled: self.dialled,
            caller,
        }))
    }
}

fn caller(trunk: &Trunk, attempt: &Attempt<'_>, decision: &mut Decision) -> Caller {
    let Some(text) = dial_text(attempt.caller_user) else {
        decision.note("caller", "anonymous");
        return Caller::default();
    };
    let (rewritten, rule) = trunk.calling.rewrite(&text);
    let by = rule.map_or("as it is".to_owned(), |rule| format!("by rule {rule}"));
    let withheld = WITHHELD.iter().any(|name| name.eq_ignore_ascii_case(&text));
    match rewritten {
        Rewritten::Anonymous => {
            decision.note("caller", format!("`{text}` is anonymous, {by}"));
            Caller::default()
        }
        Rewritten::Unusable if withheld => {
            decision.note("caller", format!("`{text}` is anonymous"));
            Caller::default()
        }
        Rewritten::Unusable => {
            decision.note("caller", format!("`{text}` is no number, {by}"));
            Caller { text: text.parse().ok(), e164: None }
        }
        Rewritten::Number(number) => {
            decision.note("caller", format!("`{text}` is {number}, {by}"));
            Caller { text: text.parse().ok(), e164: Some(number) }
        }
    }
}

fn describe_number(number: &Number, trunk: &Trunk) -> String {
    let span = if number.is_range() {
        format!("{} to {}", number.first, number.last)
    } else {
        number.first.to_string()
    };
    let state = if number.active { "in service" } else { "not in service" };
    let bound = if number.trunk.is_some() { "is bound to" } else { "may be called on" };
    format!("{span}, {state}, {bound} trunk {}", trunk.name)
}

fn describe(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Route(route) => {
            format!("{} to {} of {}", route.dialled, route.profile.name, route.tenant.name)
        }
        Verdict::Challenge(trunk) => format!("401: trunk {} wants credentials", trunk.name),
        Verdict::Refuse(refusal) => {
            let Rejection { status, cause, trunk, .. } = &**refusal;
            format!("{status} {cause} on trunk {}: {}", trunk.name, cause.text())
        }
        Verdict::Unknown => "unknown source".to_owned(),
    }
}
