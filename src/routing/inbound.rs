//! Inbound routing: trunk and dialled number into number, tenant and AI profile, or a refusal.

use crate::routing::contents::AiProfile;
use crate::routing::contents::Number;
use crate::routing::contents::Tenant;
use crate::routing::contents::TenantStatus;
use crate::routing::decision::Decision;
use crate::routing::header_map;
use crate::routing::identify::Attempt;
use crate::routing::identify::identify;
use crate::routing::numbers::NumberRules;
use crate::routing::numbers::Rewritten;
use crate::routing::numbers::dial_text;
use crate::routing::table::RoutingTable;
use crate::routing::trail;
use crate::routing::trail::Trail;
use crate::routing::trunk::DidSource;
use crate::routing::trunk::Trunk;
use crate::types::cause::HangupCause;
use crate::types::country::Country;
use crate::types::header::CallVariables;
use crate::types::number::DialString;
use crate::types::number::E164;
use smallvec::SmallVec;
use std::fmt;
use std::sync::Arc;

/// The status for a caller without a number where the trunk wants one (RFC 5079).
const ANONYMITY_DISALLOWED: u16 = 433;
/// Bytes of a host that a decision shows.
const HOST_NOTED_MAX: usize = 80;
/// How carriers spell a caller who withholds the number.
const WITHHELD: [&str; 3] = ["anonymous", "restricted", "private"];
/// How they spell one whose number did not come as far as to them.
const UNKNOWN: [&str; 2] = ["unavailable", "unknown"];

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
    /// What its headers set.
    pub variables: CallVariables,
    /// The numbers it came through, this one included.
    pub trail: Trail,
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
    /// The caller asked not to be shown.
    pub withheld: bool,
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
    let owner = match &open {
        Some((_, Outcome::Found(found))) => Some(found.number.tenant),
        Some(_) | None => None,
    };
    candidates.narrate(owner, decision);
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
    /// The Request-URI names a host that is not the trunk's.
    ForeignHost,
}

impl Outcome<'_> {
    /// How much an outcome tells; of several refusals the most telling is given.
    const fn rank(&self) -> u8 {
        match self {
            Self::Found(_) => 4,
            Self::Elsewhere(_) => 3,
            Self::Unknown(_) => 2,
            Self::NotANumber => 1,
            Self::ForeignHost => 0,
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
    known: SmallVec<[Reading; 4]>,
}

/// What a list of rules, by its fingerprint, makes of one text.
struct Reading {
    print: u64,
    source: DidSource,
    /// As it came, without separators; `None` where nothing came.
    text: Option<String>,
    rewritten: Rewritten,
    rule: Option<usize>,
}

impl<'t> Dialling<'t, '_, '_> {
    /// The place of what `rules` make of a text, which is read once.
    fn read(&mut self, rules: &NumberRules, source: DidSource) -> usize {
        let print = rules.fingerprint();
        let is_it = |known: &Reading| (known.print, known.source) == (print, source);
        if let Some(place) = self.known.iter().position(is_it) {
            return place;
        }
        let text = dial_text(raw_text(self.attempt, source));
        let (rewritten, rule) =
            text.as_deref().map_or((Rewritten::Unusable, None), |text| rules.rewrite(text));
        self.known.push(Reading { print, source, text, rewritten, rule });
        self.known.len() - 1
    }

    fn rewritten(&mut self, rules: &NumberRules, source: DidSource) -> Rewritten {
        let place = self.read(rules, source);
        self.known.get(place).map_or(Rewritten::Unusable, |known| known.rewritten.clone())
    }

    fn outcome(&mut self, trunk: &Trunk) -> Outcome<'t> {
        if !trunk.answers_for(self.attempt.request_host, self.attempt.own_host) {
            return Outcome::ForeignHost;
        }
        let mut best = Outcome::NotANumber;
        for source in &trunk.did_sources {
            for dialled in self.readings(trunk, *source) {
                let outcome = match self.table.number(dialled) {
                    Some(number) if self.table.belongs(number, trunk) => {
                        return Outcome::Found(Found { number, dialled });
                    }
                    Some(_) => Outcome::Elsewhere(dialled),
                    None => Outcome::Unknown(dialled),
                };
                if outcome.rank() > best.rank() {
                    best = outcome;
                }
            }
        }
        best
    }

    /// The numbers that a text may mean: what the trunk's rules make of it, and where that is no number of ours, what it
    /// is in the national form of each country whose numbers the trunk brings.
    fn readings(&mut self, trunk: &Trunk, source: DidSource) -> SmallVec<[E164; 2]> {
        let mut readings = SmallVec::new();
        match self.rewritten(&trunk.called, source) {
            Rewritten::Number(dialled) => {
                readings.push(dialled);
                if self.table.number(dialled).is_some() {
                    return readings;
                }
            }
            Rewritten::Anonymous => return readings,
            Rewritten::Unusable => {}
        }
        let countries = self.table.countries_of(trunk.id);
        if !countries.is_empty() {
            let text = dial_text(raw_text(self.attempt, source)).unwrap_or_default();
            readings.extend(countries.iter().filter_map(|country| country.read(&text)));
        }
        readings
    }

    /// Writes down what the trunk's rules made of each text, up to the one that was used.
    fn narrate(&mut self, trunk: &Trunk, decision: &mut Decision) {
        for source in &trunk.did_sources {
            let place = self.read(&trunk.called, *source);
            let Some(Reading { text: Some(text), rewritten, rule, .. }) = self.known.get(place)
            else {
                decision.note("dialled", format!("{source}: nothing"));
                continue;
            };
            let by = By(*rule);
            match rewritten {
                Rewritten::Number(number) => {
                    decision.tell("dialled", format_args!("{source}: `{text}` is {number}, {by}"));
                    let row = self.table.number(*number);
                    if row.is_some_and(|row| self.table.belongs(row, trunk)) {
                        return;
                    }
                    let source = format!("{source}: ");
                    if row.is_none() && self.narrate_national(trunk, &source, text, decision) {
                        return;
                    }
                }
                Rewritten::Anonymous => {
                    decision.note("dialled", format!("{source}: `{text}` is no number, {by}"));
                }
                Rewritten::Unusable => {
                    if self.narrate_national(trunk, &format!("{source}: "), text, decision) {
                        return;
                    }
                    decision.note("dialled", format!("{source}: `{text}` is no number, {by}"));
                }
            }
        }
    }

    /// Writes down what a text is in the national form of the trunk's countries; whether one of these was used.
    fn narrate_national(
        &self,
        trunk: &Trunk,
        source: &str,
        text: &str,
        decision: &mut Decision,
    ) -> bool {
        for country in self.table.countries_of(trunk.id) {
            let Some(number) = country.read(text) else { continue };
            let words = format!("{source}`{text}` is {number}, by the numbering of {country}");
            decision.note("dialled", words);
            let row = self.table.number(number);
            if row.is_some_and(|row| self.table.belongs(row, trunk)) {
                return true;
            }
        }
        false
    }
}

/// By which rule a text was rewritten, as a decision says it.
struct By(Option<usize>);

impl fmt::Display for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(rule) => write!(f, "by rule {rule}"),
            None => f.write_str("as it is"),
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
    let followed = table.routing_profile(number);
    if let Some(followed) = &followed {
        decision.note("routing profile", followed.to_string());
    }
    let tenant = table.tenant(number.tenant);
    let country = followed.and_then(|followed| followed.profile.country);
    let caller = caller(trunk, attempt, country, decision);
    header_map::note_claims(trunk, attempt, decision);
    let mut refusal = Refusal::new(trunk, HangupCause::TenantDeleted);
    refusal.found(found, tenant);
    let Some(tenant) = tenant.filter(|tenant| tenant.status != TenantStatus::Deleted) else {
        decision.note("tenant", format!("{} is no more", number.tenant));
        return refusal.verdict_of(caller);
    };
    if !number.in_service() {
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
        decision.note("caller", format!("{} takes no caller without a number", trunk.name));
        refusal.status = Some(ANONYMITY_DISALLOWED);
        return refusal.because(HangupCause::Policy).verdict_of(caller);
    }
    let trail = match trail::follow(trunk, attempt, found.dialled) {
        Ok(trail) => trail,
        Err(circle) => {
            decision.note("loop", circle);
            return refusal.because(HangupCause::Loop).verdict_of(caller);
        }
    };
    Verdict::Route(Box::new(InboundRoute {
        trunk: Arc::clone(trunk),
        tenant: Arc::clone(tenant),
        number: Arc::clone(number),
        profile: Arc::clone(profile),
        caller,
        dialled: found.dialled,
        variables: header_map::variables(trunk, attempt, decision),
        trail,
    }))
}

fn refuse_number(
    dialling: &mut Dialling<'_, '_, '_>,
    trunk: &Arc<Trunk>,
    outcome: &Outcome<'_>,
    decision: &mut Decision,
) -> Verdict {
    match outcome {
        Outcome::ForeignHost => note_foreign_host(dialling.attempt, trunk, decision),
        _ => dialling.narrate(trunk, decision),
    }
    let (cause, dialled) = match outcome {
        Outcome::Found(found) => (HangupCause::SwitchFault, Some(found.dialled)),
        Outcome::Elsewhere(dialled) => (HangupCause::NumberNotOnTrunk, Some(*dialled)),
        Outcome::Unknown(dialled) if dialling.table.is_trunks_only() => {
            decision.note("number", "no numbers were read yet: the database was never reached");
            (HangupCause::NoRoutingTable, Some(*dialled))
        }
        Outcome::Unknown(dialled) => (HangupCause::UnknownNumber, Some(*dialled)),
        Outcome::NotANumber => (HangupCause::NotANumber, None),
        Outcome::ForeignHost => (HangupCause::ForeignHost, None),
    };
    let mut refusal = Refusal::new(trunk, cause);
    refusal.dialled = dialled;
    let caller = caller(trunk, dialling.attempt, None, decision);
    refusal.verdict_of(caller)
}

fn note_foreign_host(attempt: &Attempt<'_>, trunk: &Trunk, decision: &mut Decision) {
    let shown = attempt.request_host.iter().filter(|byte| byte.is_ascii_graphic());
    let shown: String = shown.take(HOST_NOTED_MAX).map(|byte| char::from(*byte)).collect();
    let name = &trunk.name;
    decision.note("request host", format!("`{shown}` is none that {name} answers for"));
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
        let caller = caller(&self.trunk, attempt, None, &mut Decision::new());
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

/// Who calls. `country`: in whose national form the number may be written.
fn caller(
    trunk: &Trunk,
    attempt: &Attempt<'_>,
    country: Option<Country>,
    decision: &mut Decision,
) -> Caller {
    let claimed = header_map::claimed(trunk, attempt, decision);
    let withheld = Caller { withheld: true, ..Caller::default() };
    if claimed.withheld {
        decision.note("caller", "withheld");
        return withheld;
    }
    let Some(text) = dial_text(claimed.user) else {
        decision.note("caller", "anonymous");
        return withheld;
    };
    let (rewritten, rule) = trunk.calling.rewrite(&text);
    let by = By(rule);
    let is_one_of = |names: &[&str]| names.iter().any(|name| name.eq_ignore_ascii_case(&text));
    match rewritten {
        Rewritten::Anonymous => {
            decision.note("caller", format!("`{text}` is anonymous, {by}"));
            withheld
        }
        Rewritten::Unusable if is_one_of(&WITHHELD) => {
            decision.note("caller", format!("`{text}` is anonymous"));
            withheld
        }
        // The network does not know; nobody asked for that.
        Rewritten::Unusable if is_one_of(&UNKNOWN) => {
            decision.note("caller", format!("`{text}` is no number"));
            Caller::default()
        }
        Rewritten::Unusable => {
            if let Some((country, number)) = country.and_then(|c| Some((c, c.read(&text)?))) {
                let words = format!("`{text}` is {number}, by the numbering of {country}");
                decision.note("caller", words);
                return Caller { text: text.parse().ok(), e164: Some(number), withheld: false };
            }
            decision.note("caller", format!("`{text}` is no number, {by}"));
            Caller { text: text.parse().ok(), ..Caller::default() }
        }
        Rewritten::Number(number) => {
            decision.tell("caller", format_args!("`{text}` is {number}, {by}"));
            Caller { text: text.parse().ok(), e164: Some(number), withheld: false }
        }
    }
}

/// In one piece, as the next: it is said of every call.
fn describe_number(number: &Number, trunk: &Trunk) -> String {
    let [to, last] = if number.is_range() { [" to ", number.last.as_str()] } else { [""; 2] };
    let barred = number.barred.map(|bar| format!(", not in service: {bar}"));
    let service = match &barred {
        Some(barred) => barred.as_str(),
        None if number.active => ", in service",
        None => ", not in service",
    };
    let bound = if number.trunk.is_some() { "is bound to" } else { "may be called on" };
    [number.first.as_str(), to, last, service, ", ", bound, " trunk ", &trunk.name].concat()
}

fn describe(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Route(route) => {
            let InboundRoute { dialled, profile, tenant, .. } = &**route;
            [dialled.as_str(), " to ", &profile.name, " of ", &tenant.name].concat()
        }
        Verdict::Challenge(trunk) => format!("401: trunk {} wants credentials", trunk.name),
        Verdict::Refuse(refusal) => {
            let Rejection { status, cause, trunk, .. } = &**refusal;
            format!("{status} {cause} on trunk {}: {}", trunk.name, cause.text())
        }
        Verdict::Unknown => "unknown source".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing::contents::Bar;
    use crate::routing::contents::Change;
    use crate::routing::contents::Contents;
    use crate::routing::contents::RoutingProfile;
    use crate::routing::contents::TenantOutbound;
    use crate::routing::identify::Proof;
    use crate::routing::identify::knows_source;
    use crate::routing::numbers::RuleText;
    use crate::routing::trail::TrailKey;
    use crate::routing::trunk::DigestAccount;
    use crate::routing::trunk::DigestAlgorithm;
    use crate::types::agent::AgentKind;
    use crate::types::agent::AgentSettings;
    use crate::types::agent::AnswerPolicy;
    use crate::types::barge_in::BargeIn;
    use crate::types::fault_policy::FaultPolicy;
    use crate::types::id::AiProfileId;
    use crate::types::id::NumberId;
    use crate::types::id::RoutingProfileId;
    use crate::types::id::TenantId;
    use crate::types::id::TrunkId;
    use crate::types::name::ListenerName;
    use crate::types::secret::Secret;
    use crate::types::tenant_plan::TenantPlan;
    use crate::types::transport::Advertised;
    use crate::types::transport::Transport;
    use uuid::Uuid;

    fn uuid(n: u32) -> Uuid {
        Uuid::from_u128(u128::from(n))
    }

    fn tenant_id(n: u32) -> TenantId {
        TenantId::from_uuid(uuid(n))
    }

    fn trunk_id(n: u32) -> TrunkId {
        TrunkId::from_uuid(uuid(n))
    }

    fn tenant(n: u32) -> Tenant {
        Tenant {
            id: tenant_id(n),
            name: format!("tenant-{n}"),
            status: TenantStatus::Active,
            plan: None,
            calls_max: 0,
            cps_max: 0,
            default_profile: Some(AiProfileId::from_uuid(uuid(n))),
            outbound: TenantOutbound::default(),
            record: Default::default(),
        }
    }

    fn profile(n: u32) -> AiProfile {
        AiProfile {
            id: AiProfileId::from_uuid(uuid(n)),
            tenant: tenant_id(n),
            name: format!("agent-{n}"),
            agent: AgentSettings {
                kind: AgentKind::Echo,
                answer: AnswerPolicy::Immediate,
                barge_in: BargeIn::OFF,
                hangup_after: None,
                reinvite_after: None,
                faults: FaultPolicy::USUAL,
                hold_music: None,
            },
            fallback: Vec::new(),
            record: None,
            ask: None,
        }
    }

    fn number(n: u32, tenant: u32, e164: &str) -> Number {
        Number {
            id: NumberId::from_uuid(uuid(n)),
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

    fn trunk(n: u32, source: &str) -> Trunk {
        Trunk::new(trunk_id(n), format!("trunk-{n}"), vec![source.parse().unwrap()])
    }

    /// Two tenants, a shared trunk, and one number each.
    fn contents() -> Contents {
        Contents {
            tenants: vec![tenant(1), tenant(2)],
            ai_profiles: vec![profile(1), profile(2)],
            numbers: vec![number(1, 1, "+15550100"), number(2, 2, "+15550200")],
            trunks: vec![trunk(1, "192.0.2.0/24")],
            ..Contents::default()
        }
    }

    /// An INVITE from 192.0.2.7.
    struct Call {
        source: &'static str,
        transport: Transport,
        host: &'static str,
        request: String,
        to: &'static str,
        diversion: &'static str,
        called_party: &'static str,
        from: &'static str,
        headers: Vec<(&'static str, &'static str)>,
        proof: Proof,
    }

    fn call(request: &str) -> Call {
        Call {
            source: "192.0.2.7",
            transport: Transport::Udp,
            request: request.to_owned(),
            to: "",
            diversion: "",
            called_party: "",
            from: "+15551000",
            host: "192.0.2.1",
            headers: Vec::new(),
            proof: Proof::Absent,
        }
    }

    fn decide(table: &RoutingTable, call: &Call) -> (Verdict, Decision) {
        let listener: ListenerName = "public".parse().unwrap();
        let header = |name: &str, nth: usize| {
            let headers = call.headers.iter();
            let mut named = headers.filter(|(own, _)| own.eq_ignore_ascii_case(name));
            named.nth(nth).map(|(_, value)| value.as_bytes())
        };
        let trail_key = TrailKey::default();
        let attempt = Attempt {
            listener: &listener,
            source: call.source.parse().unwrap(),
            transport: call.transport,
            certificate: None,
            own_host: "sbc.example",
            request_host: call.host.as_bytes(),
            request_user: call.request.as_bytes(),
            to_user: call.to.as_bytes(),
            diversion_user: call.diversion.as_bytes(),
            called_party_user: call.called_party.as_bytes(),
            caller_user: call.from.as_bytes(),
            diverted: &[],
            history: &[],
            trail_key: &trail_key,
            header: &header,
            proof: &|_| call.proof,
        };
        let mut decision = Decision::new();
        let verdict = route(table, &attempt, &mut decision);
        (verdict, decision)
    }

    /// The verdict in one line.
    fn outcome(contents: &Contents, call: &Call) -> String {
        match decide(&RoutingTable::new(contents.clone()), call).0 {
            Verdict::Route(route) => {
                format!("{} {} {}", route.dialled, route.profile.name, route.trunk.name)
            }
            Verdict::Challenge(trunk) => format!("challenge {}", trunk.name),
            Verdict::Refuse(refusal) => format!("{} {}", refusal.status, refusal.cause),
            Verdict::Unknown => "unknown".to_owned(),
        }
    }

    #[test]
    fn a_call_reaches_the_agent_of_the_number() {
        let contents = contents();
        assert_eq!(outcome(&contents, &call("+15550100")), "+15550100 agent-1 trunk-1");
        assert_eq!(outcome(&contents, &call("tel:+1-555-0200")), "+15550200 agent-2 trunk-1");
    }

    #[test]
    fn before_numbers_were_read_a_carrier_is_asked_to_come_back() {
        let trunks = contents().trunks;
        let mut contents = Contents { trunks, is_trunks_only: true, ..Contents::default() };
        assert_eq!(outcome(&contents, &call("+15550100")), "503 no_routing_table");
        assert_eq!(outcome(&contents, &call("alice")), "404 not_a_number");
        let stranger = Call { source: "198.51.100.7", ..call("+15550100") };
        assert_eq!(outcome(&contents, &stranger), "unknown");
        contents.trunks[0].response_map.overload = 500;
        assert_eq!(outcome(&contents, &call("+15550100")), "500 no_routing_table");
        let mut table = RoutingTable::new(contents);
        table.apply(Change::Replace(Box::new(super::tests::contents()))).unwrap();
        let (verdict, _) = decide(&table, &call("+15550999"));
        let Verdict::Refuse(refusal) = verdict else { panic!("{verdict:?}") };
        assert_eq!(refusal.cause, HangupCause::UnknownNumber);
    }

    #[test]
    fn each_reason_to_refuse_has_its_own_cause() {
        let check = |change: &dyn Fn(&mut Contents), dialled: &str, expected: &str| {
            let mut contents = contents();
            change(&mut contents);
            assert_eq!(outcome(&contents, &call(dialled)), expected);
        };
        let same = |_: &mut Contents| {};
        check(&same, "+15550999", "404 unknown_number");
        check(&same, "alice", "404 not_a_number");
        check(&same, "", "404 not_a_number");
        check(&|c| c.numbers[0].active = false, "+15550100", "404 number_inactive");
        let suspended = |c: &mut Contents| c.tenants[0].status = TenantStatus::Suspended;
        check(&suspended, "+15550100", "403 tenant_suspended");
        check(&suspended, "+15550200", "+15550200 agent-2 trunk-1");
        let deleted = |c: &mut Contents| c.tenants[0].status = TenantStatus::Deleted;
        check(&deleted, "+15550100", "404 tenant_deleted");
        check(&|c| drop(c.tenants.remove(0)), "+15550100", "404 tenant_deleted");
        let bound = |c: &mut Contents| c.numbers[0].trunk = Some(trunk_id(9));
        check(&bound, "+15550100", "404 number_not_on_trunk");
        check(&|c| c.tenants[0].default_profile = None, "+15550100", "480 no_agent");
        check(&|c| drop(c.ai_profiles.remove(0)), "+15550100", "480 no_agent");
        check(&|c| c.trunks[0].enabled = false, "+15550100", "unknown");
    }

    #[test]
    fn a_number_that_may_not_be_used_is_not_in_service_and_the_decision_says_why() {
        for (bar, why) in [
            (Bar::CompliancePending, "its regulatory check is pending"),
            (Bar::ComplianceRejected, "its regulatory check was not passed"),
            (Bar::Reserved, "it is reserved"),
            (Bar::Released, "it is released"),
        ] {
            let mut contents = contents();
            contents.numbers[0].barred = Some(bar);
            assert_eq!(outcome(&contents, &call("+15550100")), "404 number_inactive");
            let (_, decision) = decide(&RoutingTable::new(contents), &call("+15550100"));
            assert!(decision.to_string().contains(why), "{decision}");
        }
    }

    fn routing_profile(n: u32, plan: Option<TenantPlan>, country: Option<&str>) -> RoutingProfile {
        RoutingProfile {
            id: RoutingProfileId::from_uuid(uuid(n)),
            tenant: None,
            name: format!("way-{n}"),
            plan,
            country: country.map(|country| country.parse().unwrap()),
            fits_by_itself: true,
            outbound_trunk: None,
            inbound_trunk: Some(trunk_id(n)),
        }
    }

    #[test]
    fn the_profile_of_plan_and_country_says_which_trunk_brings_a_number() {
        // Both trunks have the same source; the profile decides between them.
        let with = |plan: Option<TenantPlan>, profiles: Vec<RoutingProfile>| {
            let mut contents = contents();
            contents.trunks.push(trunk(2, "192.0.2.0/24"));
            contents.trunks.push(trunk(3, "192.0.2.0/24"));
            contents.tenants[0].plan = plan;
            contents.routing_profiles = profiles;
            contents
        };
        let starter = Some(TenantPlan::Starter);
        let ways = || {
            vec![
                routing_profile(2, None, Some("US")),
                routing_profile(3, starter, Some("US")),
                routing_profile(4, starter, Some("GB")),
            ]
        };
        let reached = |contents: &Contents| outcome(contents, &call("+15550100"));
        assert_eq!(reached(&with(starter, ways())), "+15550100 agent-1 trunk-3");
        assert_eq!(reached(&with(Some(TenantPlan::Growth), ways())), "+15550100 agent-1 trunk-2");
        assert_eq!(reached(&with(None, ways())), "+15550100 agent-1 trunk-2");
        // A profile of the plan alone comes behind one of the country.
        let plans = vec![routing_profile(2, None, Some("US")), routing_profile(3, starter, None)];
        assert_eq!(reached(&with(starter, plans.clone())), "+15550100 agent-1 trunk-2");
        assert_eq!(reached(&with(starter, plans[1..].to_vec())), "+15550100 agent-1 trunk-3");
        // One that is for nobody in particular is followed by those who name it.
        let anybody = vec![routing_profile(3, None, None)];
        assert_eq!(reached(&with(starter, anybody)), "+15550100 agent-1 trunk-1");
        let mut unknown = routing_profile(3, starter, None);
        unknown.fits_by_itself = false;
        assert_eq!(reached(&with(starter, vec![unknown])), "+15550100 agent-1 trunk-1");
        // The tenant's own comes before what all share, and what the number names before both.
        let mut own = routing_profile(2, starter, None);
        own.tenant = Some(tenant_id(1));
        let mut contents =
            with(starter, vec![own.clone(), routing_profile(3, starter, Some("US"))]);
        assert_eq!(reached(&contents), "+15550100 agent-1 trunk-2");
        assert_eq!(outcome(&contents, &call("+15550200")), "+15550200 agent-2 trunk-1");
        let (_, decision) = decide(&RoutingTable::new(contents.clone()), &call("+15550100"));
        assert!(decision.to_string().contains("way-2, for the plan starter"), "{decision}");
        contents.numbers[0].routing_profile = Some(RoutingProfileId::from_uuid(uuid(3)));
        assert_eq!(reached(&contents), "+15550100 agent-1 trunk-3");
        let (_, decision) = decide(&RoutingTable::new(contents.clone()), &call("+15550100"));
        assert!(decision.to_string().contains("way-3, which the number names"), "{decision}");
        // A number bound to a trunk is on that one, whatever profile it follows.
        contents.numbers[0].trunk = Some(trunk_id(1));
        assert_eq!(reached(&contents), "+15550100 agent-1 trunk-1");
        // A change is followed at once.
        let mut table = RoutingTable::new(with(starter, ways()));
        table.apply(Change::RoutingProfileGone(RoutingProfileId::from_uuid(uuid(3)))).unwrap();
        let Verdict::Route(route) = decide(&table, &call("+15550100")).0 else {
            panic!("no route")
        };
        assert_eq!(route.trunk.id, trunk_id(2));
    }

    #[test]
    fn a_trunk_of_a_country_brings_numbers_in_its_national_form() {
        let mut contents = contents();
        contents.numbers[0] = number(1, 1, "+442079460042");
        assert_eq!(outcome(&contents, &call("02079460042")), "404 not_a_number");
        contents.routing_profiles = vec![routing_profile(1, None, Some("GB"))];
        let national = Call { from: "07700900123", ..call("02079460042") };
        assert_eq!(outcome(&contents, &national), "+442079460042 agent-1 trunk-1");
        let table = RoutingTable::new(contents.clone());
        let (Verdict::Route(route), decision) = decide(&table, &national) else { panic!("none") };
        assert_eq!(route.caller.e164, Some("+447700900123".parse().unwrap()));
        let text = decision.to_string();
        let read = "`02079460042` is +442079460042, by the numbering of GB";
        assert!(text.contains(read) && text.contains("way-1, for numbers of GB"), "{text}");
        // Rules of the trunk come first; extensions and services are no numbers.
        assert_eq!(outcome(&contents, &call("1001")), "404 not_a_number");
        assert_eq!(outcome(&contents, &call("0207946004")), "404 unknown_number");
        let ruled = |to: &str| {
            let mut contents = contents.clone();
            let rule = RuleText { pattern: "^0(.*)$".into(), to: to.into() };
            contents.trunks[0].called = NumberRules::compile(&[rule], "").unwrap();
            outcome(&contents, &call("02079460042"))
        };
        assert_eq!(ruled("+15550200"), "+15550200 agent-2 trunk-1");
        assert_eq!(ruled("+1555${1}"), "+442079460042 agent-1 trunk-1");
        // A trunk of two countries: the one in which the number is somebody's.
        contents.trunks[0].called = NumberRules::default();
        let mut german = routing_profile(7, None, Some("DE"));
        german.inbound_trunk = Some(trunk_id(1));
        contents.routing_profiles.insert(0, german);
        assert_eq!(outcome(&contents, &call("02079460042")), "+442079460042 agent-1 trunk-1");
    }

    #[test]
    fn another_tenants_agent_never_answers() {
        let mut contents = contents();
        contents.numbers[0].ai_profile = Some(AiProfileId::from_uuid(uuid(2)));
        assert_eq!(outcome(&contents, &call("+15550100")), "480 no_agent");
    }

    #[test]
    fn a_number_is_not_callable_on_another_tenants_trunk() {
        let mut contents = contents();
        contents.trunks[0].tenant = Some(tenant_id(2));
        assert_eq!(outcome(&contents, &call("+15550100")), "404 number_not_on_trunk");
        assert_eq!(outcome(&contents, &call("+15550200")), "+15550200 agent-2 trunk-1");
        // Not even if the number's row says so.
        contents.numbers[0].trunk = Some(trunk_id(1));
        assert_eq!(outcome(&contents, &call("+15550100")), "404 number_not_on_trunk");
    }

    #[test]
    fn the_response_map_of_the_trunk_sets_the_status() {
        let mut contents = contents();
        let map = &mut contents.trunks[0].response_map;
        (map.not_found, map.unknown_did, map.policy) = (410, 604, 603);
        contents.numbers[0].active = false;
        contents.tenants[1].status = TenantStatus::Suspended;
        assert_eq!(outcome(&contents, &call("+15550100")), "410 number_inactive");
        assert_eq!(outcome(&contents, &call("+15550999")), "604 unknown_number");
        assert_eq!(outcome(&contents, &call("+15550200")), "603 tenant_suspended");
    }

    #[test]
    fn fifty_tenants_behind_one_source_list_are_told_apart_by_the_number() {
        let mut contents = Contents::default();
        for n in 1..=50 {
            contents.tenants.push(tenant(n));
            contents.ai_profiles.push(profile(n));
            let mut own = trunk(n, "54.172.60.0/30");
            own.tenant = Some(tenant_id(n));
            contents.trunks.push(own);
            let mut number = number(n, n, &format!("+1555{:04}", 100 + n));
            number.trunk = Some(trunk_id(n));
            contents.numbers.push(number);
        }
        // A number bound to a trunk with other sources.
        contents.trunks.push(trunk(51, "198.51.100.0/24"));
        let mut elsewhere = number(51, 1, "+15559999");
        elsewhere.trunk = Some(trunk_id(51));
        contents.numbers.push(elsewhere);
        let from = |request: &str| {
            let mut call = call(request);
            call.source = "54.172.60.2";
            call
        };
        for n in 1..=50 {
            let dialled = format!("+1555{:04}", 100 + n);
            let expected = format!("{dialled} agent-{n} trunk-{n}");
            assert_eq!(outcome(&contents, &from(&dialled)), expected);
        }
        assert_eq!(outcome(&contents, &from("+15559999")), "404 number_not_on_trunk");
        assert_eq!(outcome(&contents, &from("+15558888")), "404 unknown_number");
        let (_, decision) = decide(&RoutingTable::new(contents), &from("+15550150"));
        assert!(decision.to_string().contains("50 trunks list this source, 50 match"));
        assert!(decision.to_string().contains("+15550150 to agent-50 of tenant-50"));
        assert!(
            !decision.to_string().contains("trunk-1:"),
            "the record is tenant 50's: {decision}"
        );
    }

    #[test]
    fn listener_transport_and_secret_header_must_match_too() {
        let mut contents = contents();
        let token = Secret::new("s3cret".to_owned());
        contents.trunks[0].required_headers = vec![("X-Token".to_owned(), token)];
        assert_eq!(outcome(&contents, &call("+15550100")), "unknown");
        let mut wrong = call("+15550100");
        wrong.headers = vec![("x-token", "s3creT")];
        assert_eq!(outcome(&contents, &wrong), "unknown");
        let mut right = call("+15550100");
        right.headers = vec![("x-token", "s3cret")];
        assert_eq!(outcome(&contents, &right), "+15550100 agent-1 trunk-1");
        let (_, decision) = decide(&RoutingTable::new(contents.clone()), &right);
        assert!(!decision.to_string().contains("s3cret"), "{decision}");
        right.transport = Transport::Tls;
        assert_eq!(outcome(&contents, &right), "unknown");
        right.transport = Transport::Tcp;
        contents.trunks[0].listener = Some("inside".parse().unwrap());
        assert_eq!(outcome(&contents, &right), "unknown");
    }

    #[test]
    fn a_trunk_with_an_account_challenges_before_it_says_anything_of_numbers() {
        let mut contents = contents();
        contents.trunks[0].digest = Some(DigestAccount {
            username: "demo".into(),
            password: Secret::new("demo".into()),
            realm: "tandem".into(),
            algorithms: vec![DigestAlgorithm::Sha256, DigestAlgorithm::Md5],
        });
        for dialled in ["+15550100", "+15550999", "alice"] {
            assert_eq!(outcome(&contents, &call(dialled)), "challenge trunk-1");
        }
        let with = |proof: Proof, dialled: &str| {
            let mut call = call(dialled);
            call.proof = proof;
            call
        };
        let right = with(Proof::Valid, "+15550100");
        assert_eq!(outcome(&contents, &right), "+15550100 agent-1 trunk-1");
        assert_eq!(outcome(&contents, &with(Proof::Valid, "+15550999")), "404 unknown_number");
        let wrong = with(Proof::Wrong, "+15550100");
        assert_eq!(outcome(&contents, &wrong), "403 bad_credentials");
        // A trunk that trusts the same source takes its own numbers without a challenge.
        contents.trunks.push(trunk(2, "192.0.2.7/32"));
        contents.numbers[1].trunk = Some(trunk_id(2));
        assert_eq!(outcome(&contents, &call("+15550200")), "+15550200 agent-2 trunk-2");
    }

    #[test]
    fn the_dialled_number_is_looked_for_in_the_order_of_the_trunk() {
        let mut contents = contents();
        contents.trunks[0].did_sources =
            vec![DidSource::PCalledPartyId, DidSource::RequestUri, DidSource::Diversion];
        let mut invite = call("pilot");
        invite.to = "+15550200";
        invite.diversion = "+15550100";
        assert_eq!(outcome(&contents, &invite), "+15550100 agent-1 trunk-1");
        invite.called_party = "+15550200";
        assert_eq!(outcome(&contents, &invite), "+15550200 agent-2 trunk-1");
        contents.trunks[0].did_sources = vec![DidSource::RequestUri];
        assert_eq!(outcome(&contents, &invite), "404 not_a_number");
        // A number that is not ours does not hide one that is.
        contents.trunks[0].did_sources = vec![DidSource::RequestUri, DidSource::To];
        invite.request = "+15557777".to_owned();
        assert_eq!(outcome(&contents, &invite), "+15550200 agent-2 trunk-1");
    }

    #[test]
    fn priority_chooses_between_shared_trunks() {
        let mut contents = contents();
        contents.trunks.push(trunk(2, "192.0.2.7/32"));
        assert_eq!(outcome(&contents, &call("+15550100")), "+15550100 agent-1 trunk-1");
        contents.trunks[1].priority = 1;
        assert_eq!(outcome(&contents, &call("+15550100")), "+15550100 agent-1 trunk-2");
    }

    #[test]
    fn callers_are_numbers_texts_or_anonymous() {
        let mut contents = contents();
        let rule = RuleText { pattern: r"^0([1-9]\d{9})$".into(), to: "+91${1}".into() };
        contents.trunks[0].calling = NumberRules::compile(&[rule], "").unwrap();
        let table = RoutingTable::new(contents.clone());
        for (from, shown, is_number, withheld) in [
            ("09876543210", "+919876543210", true, false),
            ("+1-555-1000", "+15551000", true, false),
            ("alice", "alice", false, false),
            ("Anonymous", "", false, true),
            ("Unavailable", "", false, false),
            ("", "", false, true),
        ] {
            let mut invite = call("+15550100");
            invite.from = from;
            let Verdict::Route(route) = decide(&table, &invite).0 else { panic!("{from}") };
            assert_eq!(route.caller.shown(), shown);
            assert_eq!(route.caller.e164.is_some(), is_number, "{from}");
            assert_eq!(route.caller.withheld, withheld, "{from}");
        }
        contents.trunks[0].anonymous_allowed = false;
        let mut invite = call("+15550100");
        invite.from = "anonymous";
        assert_eq!(outcome(&contents, &invite), "433 policy");
        contents.trunks[0].response_map.policy = 603;
        assert_eq!(outcome(&contents, &invite), "433 policy");
    }

    #[test]
    fn a_source_is_known_only_at_its_listener_and_transport() {
        let mut table = RoutingTable::new(contents());
        let (public, other): (ListenerName, ListenerName) =
            ("public".parse().unwrap(), "other".parse().unwrap());
        let (known, stranger) = ("192.0.2.9".parse().unwrap(), "192.0.3.9".parse().unwrap());
        assert!(knows_source(&table, &other, known, Transport::Udp));
        assert!(!knows_source(&table, &public, stranger, Transport::Udp));
        assert!(!knows_source(&table, &public, known, Transport::Tls));
        let mut moved = trunk(1, "192.0.2.0/24");
        moved.listener = Some(public.clone());
        table.apply(Change::Trunk(Box::new(moved))).unwrap();
        assert!(knows_source(&table, &public, known, Transport::Udp));
        assert!(!knows_source(&table, &other, known, Transport::Udp));
        table.apply(Change::TrunkGone(trunk_id(1))).unwrap();
        assert!(!knows_source(&table, &public, known, Transport::Udp));
    }

    #[test]
    fn a_decision_tells_every_step() {
        let mut invite = call("+15550100");
        invite.to = "+15550100";
        let (_, decision) = decide(&RoutingTable::new(contents()), &invite);
        let expected = "\
source     192.0.2.7 over udp at listener public
trunk      trunk-1: matches
dialled    request-uri: `+15550100` is +15550100, as it is
number     +15550100, in service, may be called on trunk trunk-1
caller     `+15551000` is +15551000, as it is
tenant     tenant-1
profile    agent-1
verdict    +15550100 to agent-1 of tenant-1
";
        assert_eq!(decision.to_string(), expected);
    }

    #[test]
    fn a_refusal_keeps_what_is_known_for_the_record() {
        let mut contents = contents();
        contents.tenants[0].status = TenantStatus::Suspended;
        let (verdict, _) = decide(&RoutingTable::new(contents.clone()), &call("+15550100"));
        let Verdict::Refuse(refusal) = verdict else { panic!("{verdict:?}") };
        assert_eq!(refusal.tenant.map(|tenant| tenant.id), Some(tenant_id(1)));
        assert_eq!(refusal.number.map(|number| number.id), Some(NumberId::from_uuid(uuid(1))));
        assert_eq!(refusal.dialled.map(|number| number.to_string()), Some("+15550100".into()));
        assert_eq!(refusal.caller.shown(), "+15551000");
        // What is not on the trunk is not the caller's tenant either.
        contents.numbers[0].trunk = Some(trunk_id(9));
        let (verdict, _) = decide(&RoutingTable::new(contents), &call("+15550100"));
        let Verdict::Refuse(refusal) = verdict else { panic!("{verdict:?}") };
        assert!(refusal.tenant.is_none() && refusal.number.is_none());
    }

    #[test]
    fn a_trunk_that_names_its_hosts_answers_for_no_other() {
        let mut contents = contents();
        contents.trunks[0].request_hosts = vec!["sip.example".to_owned(), "2001:db8::7".to_owned()];
        let at = |contents: &Contents, host: &'static str| {
            outcome(contents, &Call { host, ..call("+15550100") })
        };
        let routed = "+15550100 agent-1 trunk-1";
        // Our own name is always ours: who we registered with calls us by it.
        for host in ["SIP.example", "[2001:db8::7]", "sbc.example", ""] {
            assert_eq!(at(&contents, host), routed, "{host}");
        }
        assert_eq!(at(&contents, "192.0.2.1"), "404 foreign_host");
        let (_, decision) = decide(
            &RoutingTable::new(contents.clone()),
            &Call { host: "evil.example", ..call("+15550100") },
        );
        let steps = format!("{decision:?}");
        assert!(steps.contains("`evil.example` is none that trunk-1 answers for"), "{steps}");
        // Of two trunks of one source the one that answers for the host takes the call.
        let mut other = trunk(2, "192.0.2.0/24");
        other.request_hosts = vec!["192.0.2.1".to_owned()];
        contents.trunks.push(other);
        assert_eq!(at(&contents, "192.0.2.1"), "+15550100 agent-1 trunk-2");
        // A trunk may be told of elsewhere: then that is our name.
        let advertised = Advertised { host: "203.0.113.7".to_owned(), port: None };
        contents.trunks[0].path.advertised = Some(Arc::new(advertised));
        assert_eq!(at(&contents, "203.0.113.7"), routed);
        assert_eq!(at(&contents, "sbc.example"), "+15550100 agent-1 trunk-2");
    }
}
