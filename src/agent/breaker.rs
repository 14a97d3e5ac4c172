//! `Breakers`: a circuit breaker for each endpoint of each tenant's agents, so that a call loses no time with one
//! that is not there.

use crate::types::agent::AgentKind;
use crate::types::agent::TwimlSource;
use crate::types::cause::HangupCause;
use crate::types::id::TenantId;
use crate::types::limit::AGENT_ENDPOINT_BYTES_MAX;
use crate::types::limit::AGENT_ENDPOINTS_MAX;
use crate::types::limit::AGENT_ENDPOINTS_OF_TENANT_MAX;
use crate::types::moment::Moment;
use std::collections::BTreeMap;
use std::time::Duration;

/// Failures in a row that open a circuit.
pub const FAILURES_IN_A_ROW: u32 = 5;
/// Outcomes of the last minute of which a half may not be failures.
pub const OUTCOMES_MIN: u32 = 10;
/// How long a circuit is open at first; each opening that follows without a success takes twice as long.
pub const OPEN_MIN: Duration = Duration::from_secs(5);
/// The longest it is open at once.
pub const OPEN_MAX: Duration = Duration::from_secs(60);
/// A trial that says nothing for so long is given up, and another call tries.
pub const TRIAL_MAX: Duration = Duration::from_secs(60);
/// An open circuit that nobody asked about for so long is forgotten.
const FORGET_AFTER: Duration = Duration::from_secs(600);

/// Length of the slots in which outcomes are counted.
const SLOT: Duration = Duration::from_secs(10);
const SLOTS: usize = 6;

/// The endpoint at which an agent of this kind is reached, as its circuit is known and as people may read it:
/// without what may be secret in a URL. `None` for agents that are not connected to.
#[must_use]
pub fn endpoint_of(kind: &AgentKind) -> Option<String> {
    match kind {
        AgentKind::Twilio(agent) => Some(endpoint(&agent.url)),
        AgentKind::ChanWebsocket(agent) => agent.url.as_deref().map(endpoint),
        AgentKind::Realtime(agent) => Some(endpoint(&agent.url)),
        AgentKind::AudioSocket(agent) => Some(endpoint(&format!("tcp://{}", agent.address))),
        AgentKind::Sip(agent) => Some(sip_endpoint(agent.uri.as_str())),
        AgentKind::Twiml(agent) => match &agent.source {
            TwimlSource::Web(address) => Some(endpoint(&address.url)),
            TwimlSource::Document(_) => None,
        },
        AgentKind::Echo
        | AgentKind::Tone { .. }
        | AgentKind::Announce
        | AgentKind::Parrot
        | AgentKind::Forward(_)
        | AgentKind::Script(_) => None,
    }
}

/// The endpoint of what is behind a URL: scheme, host, port and path, and neither user and password nor the query.
#[must_use]
pub fn endpoint(url: &str) -> String {
    let bare = url.split(['?', '#']).next().unwrap_or_default();
    let (scheme, rest) = bare.split_once("://").unwrap_or(("", bare));
    let (authority, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let mut endpoint = format!("{scheme}://{}{path}", host.to_ascii_lowercase());
    endpoint.truncate(endpoint.floor_char_boundary(AGENT_ENDPOINT_BYTES_MAX));
    endpoint
}

/// Scheme, user, host and port: neither a password nor parameters and headers. Agents that share a host are told
/// apart by their users.
fn sip_endpoint(uri: &str) -> String {
    let (scheme, rest) = uri.split_once(':').unwrap_or(("sip", uri));
    let (user, rest) = rest.split_once('@').unwrap_or(("", rest));
    let user = user.split([':', ';']).next().unwrap_or_default();
    let host = rest.split([';', '?']).next().unwrap_or_default().to_ascii_lowercase();
    let at = if user.is_empty() { "" } else { "@" };
    let mut endpoint = format!("{}:{user}{at}{host}", scheme.to_ascii_lowercase());
    endpoint.truncate(endpoint.floor_char_boundary(AGENT_ENDPOINT_BYTES_MAX));
    endpoint
}

/// The right to call an endpoint, to be given back with an [`Outcome`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    /// As any other call does.
    Call,
    /// As the one call, this one in number, that tries whether it is back.
    Trial(u32),
}

/// What became of a call with an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The agent did what it is for.
    Served,
    /// It was not reached, or lost.
    Failed(HangupCause),
    /// The call ended before that could be told.
    Abandoned,
}

/// How a circuit stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Circuit {
    /// Calls go through.
    Closed,
    /// None does until then.
    Open(Moment),
    /// One does, or the next will, to try it.
    HalfOpen,
}

impl Circuit {
    /// The spelling of metrics and the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open(_) => "open",
            Self::HalfOpen => "half_open",
        }
    }
}

/// What is known of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndpointState {
    /// How its circuit stands.
    pub circuit: Circuit,
    /// Failures since the last success.
    pub failures_in_a_row: u32,
    /// Calls of the last minute that were served, counted since its first failure.
    pub served: u32,
    /// Failures of the last minute.
    pub failed: u32,
    /// The last failure.
    pub last_failure: Option<(Moment, HangupCause)>,
}

impl EndpointState {
    /// An endpoint of which nothing bad is known.
    pub const WELL: Self = Self {
        circuit: Circuit::Closed,
        failures_in_a_row: 0,
        served: 0,
        failed: 0,
        last_failure: None,
    };
}

/// A circuit that changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It is open from now until then.
    Opened(Moment),
    /// It is closed again.
    Closed,
}

/// The circuits of all endpoints with which something was wrong lately. One that it does not know is closed.
///
/// A tenant has circuits of its own, though another may call the same endpoint: nobody closes one to others.
#[derive(Debug, Default)]
pub struct Breakers {
    tenants: BTreeMap<TenantId, BTreeMap<String, Breaker>>,
    /// All of them.
    count: usize,
}

impl Breakers {
    /// Asks whether a call may go to an endpoint.
    ///
    /// # Errors
    /// Until when none may.
    pub fn ask(
        &mut self,
        now: Moment,
        (tenant, endpoint): (TenantId, &str),
    ) -> Result<Pass, Moment> {
        let known = self.tenants.get_mut(&tenant).and_then(|all| all.get_mut(endpoint));
        known.map_or(Ok(Pass::Call), |breaker| breaker.ask(now))
    }

    /// Takes what became of a call that had a pass.
    pub fn tell(
        &mut self,
        now: Moment,
        (tenant, endpoint): (TenantId, &str),
        (pass, outcome): (Pass, Outcome),
    ) -> Option<Change> {
        let known = self.tenants.get_mut(&tenant).and_then(|all| all.get_mut(endpoint));
        if let Some(breaker) = known {
            return breaker.tell(now, pass, outcome);
        }
        match outcome {
            Outcome::Served | Outcome::Abandoned => None,
            Outcome::Failed(_) => {
                self.remember(now, tenant, endpoint)?.tell(now, Pass::Call, outcome)
            }
        }
    }

    /// How an endpoint stands.
    #[must_use]
    pub fn state(&self, now: Moment, (tenant, endpoint): (TenantId, &str)) -> EndpointState {
        let known = self.tenants.get(&tenant).and_then(|all| all.get(endpoint));
        known.map_or(EndpointState::WELL, |breaker| breaker.state(now))
    }

    /// How many circuits are open, and how many half open.
    #[must_use]
    pub fn broken(&self, now: Moment) -> (usize, usize) {
        let all = self.tenants.values().flat_map(BTreeMap::values);
        all.fold((0, 0), |(open, half), breaker| match breaker.circuit(now) {
            Circuit::Closed => (open, half),
            Circuit::Open(_) => (open + 1, half),
            Circuit::HalfOpen => (open, half + 1),
        })
    }

    /// A place for an endpoint that failed the first time; `None` where there is none: it stays closed.
    fn remember(&mut self, now: Moment, tenant: TenantId, endpoint: &str) -> Option<&mut Breaker> {
        if self.count >= AGENT_ENDPOINTS_MAX {
            self.forget(now);
        }
        let all = self.tenants.entry(tenant).or_default();
        if all.len() >= AGENT_ENDPOINTS_OF_TENANT_MAX {
            let before = all.len();
            all.retain(|_, breaker| !breaker.is_idle(now));
            if all.len() >= AGENT_ENDPOINTS_OF_TENANT_MAX {
                let oldest = all.iter().min_by_key(|(_, breaker)| breaker.used);
                let oldest = oldest.map(|(endpoint, _)| endpoint.clone());
                oldest.and_then(|oldest| all.remove(&oldest));
            }
            self.count -= before - all.len();
        }
        if self.count >= AGENT_ENDPOINTS_MAX {
            return None;
        }
        self.count += 1;
        Some(all.entry(endpoint.to_owned()).or_insert_with(|| Breaker::new(now)))
    }

    /// Forgets every endpoint that is well again.
    fn forget(&mut self, now: Moment) {
        for all in self.tenants.values_mut() {
            all.retain(|_, breaker| !breaker.is_idle(now));
        }
        self.tenants.retain(|_, all| !all.is_empty());
        self.count = self.tenants.values().map(BTreeMap::len).sum();
    }
}

#[derive(Debug)]
struct Breaker {
    state: State,
    in_a_row: u32,
    /// Openings since the last time it was closed.
    openings: u32,
    trials: u32,
    window: Window,
    last_failure: Option<(Moment, HangupCause)>,
    /// When it was asked or told something.
    used: Moment,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Closed,
    Open {
        until: Moment,
    },
    /// The trial under way began then.
    HalfOpen {
        trial: Option<Moment>,
    },
}

impl Breaker {
    fn new(now: Moment) -> Self {
        Self {
            state: State::Closed,
            in_a_row: 0,
            openings: 0,
            trials: 0,
            window: Window::default(),
            last_failure: None,
            used: now,
        }
    }

    fn ask(&mut self, now: Moment) -> Result<Pass, Moment> {
        self.used = now;
        match self.state {
            State::Closed => Ok(Pass::Call),
            State::Open { until } if now < until => Err(until),
            State::HalfOpen { trial: Some(begun) } if now < begun + TRIAL_MAX => {
                Err(begun + TRIAL_MAX)
            }
            State::Open { .. } | State::HalfOpen { .. } => {
                self.state = State::HalfOpen { trial: Some(now) };
                self.trials = self.trials.wrapping_add(1);
                Ok(Pass::Trial(self.trials))
            }
        }
    }

    fn tell(&mut self, now: Moment, pass: Pass, outcome: Outcome) -> Option<Change> {
        self.used = now;
        if let Outcome::Failed(cause) = outcome {
            self.last_failure = Some((now, cause));
        }
        match self.state {
            State::Closed => self.told_closed(now, outcome),
            // Calls that began before it opened say nothing new.
            State::Open { .. } => None,
            State::HalfOpen { .. } if pass == Pass::Trial(self.trials) => {
                self.told_of_trial(now, outcome)
            }
            State::HalfOpen { .. } => None,
        }
    }

    fn told_closed(&mut self, now: Moment, outcome: Outcome) -> Option<Change> {
        match outcome {
            Outcome::Served => {
                self.in_a_row = 0;
                self.window.note(now, false);
                None
            }
            Outcome::Failed(_) => {
                self.in_a_row = self.in_a_row.saturating_add(1);
                self.window.note(now, true);
                let (served, failed) = self.window.sums(now);
                let is_half = served + failed >= OUTCOMES_MIN && failed >= served;
                (self.in_a_row >= FAILURES_IN_A_ROW || is_half).then(|| self.open(now))
            }
            Outcome::Abandoned => None,
        }
    }

    fn told_of_trial(&mut self, now: Moment, outcome: Outcome) -> Option<Change> {
        match outcome {
            Outcome::Served => {
                self.state = State::Closed;
                self.in_a_row = 0;
                self.openings = 0;
                // What went wrong before it was back is over.
                self.window = Window::default();
                Some(Change::Closed)
            }
            Outcome::Failed(_) => {
                self.in_a_row = self.in_a_row.saturating_add(1);
                self.window.note(now, true);
                Some(self.open(now))
            }
            Outcome::Abandoned => {
                self.state = State::HalfOpen { trial: None };
                None
            }
        }
    }

    fn open(&mut self, now: Moment) -> Change {
        let length = OPEN_MIN.saturating_mul(1 << self.openings.min(8)).min(OPEN_MAX);
        self.openings = self.openings.saturating_add(1);
        let until = now + length;
        self.state = State::Open { until };
        Change::Opened(until)
    }

    fn circuit(&self, now: Moment) -> Circuit {
        match self.state {
            State::Closed => Circuit::Closed,
            State::Open { until } if now < until => Circuit::Open(until),
            State::Open { .. } | State::HalfOpen { .. } => Circuit::HalfOpen,
        }
    }

    fn state(&self, now: Moment) -> EndpointState {
        let (served, failed) = self.window.sums(now);
        EndpointState {
            circuit: self.circuit(now),
            failures_in_a_row: self.in_a_row,
            served,
            failed,
            last_failure: self.last_failure,
        }
    }

    /// Whether nothing is lost with it.
    fn is_idle(&self, now: Moment) -> bool {
        match self.state {
            State::Closed => self.window.sums(now).1 == 0,
            State::Open { .. } | State::HalfOpen { .. } => now.since(self.used) >= FORGET_AFTER,
        }
    }
}

/// Outcomes of the last minute.
#[derive(Clone, Copy, Debug, Default)]
struct Window {
    slots: [Slot; SLOTS],
}

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    /// Which slot of all time it holds.
    number: u64,
    served: u32,
    failed: u32,
}

impl Window {
    fn note(&mut self, now: Moment, is_failure: bool) {
        let number = slot_number(now);
        let index = number as usize % SLOTS;
        let Some(slot) = self.slots.get_mut(index) else { return };
        if slot.number != number {
            *slot = Slot { number, ..Slot::default() };
        }
        let counter = if is_failure { &mut slot.failed } else { &mut slot.served };
        *counter = counter.saturating_add(1);
    }

    /// How many were served, and how many failed.
    fn sums(&self, now: Moment) -> (u32, u32) {
        let newest = slot_number(now);
        let recent = self.slots.iter().filter(|slot| slot.number + SLOTS as u64 > newest);
        recent.fold((0, 0), |(served, failed), slot| {
            (slot.served.saturating_add(served), slot.failed.saturating_add(failed))
        })
    }
}

/// Counted from 1: a slot that was never used holds nothing.
const fn slot_number(now: Moment) -> u64 {
    now.since(Moment::START).as_secs() / SLOT.as_secs() + 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::agent::TwimlAgent;
    use crate::types::agent::WebAddress;
    use crate::types::random::Random;
    use crate::types::secret::Secret;
    use uuid::Uuid;

    const LOST: Outcome = Outcome::Failed(HangupCause::AgentLost);
    const BOT: &str = "ws://bot/";

    fn tenant(n: u128) -> TenantId {
        TenantId::from_uuid(Uuid::from_u128(n))
    }

    struct Lab {
        breakers: Breakers,
        now: Moment,
    }

    impl Lab {
        fn new() -> Self {
            Self { breakers: Breakers::default(), now: Moment::from_millis(123) }
        }

        fn ask(&mut self) -> Result<Pass, Moment> {
            self.breakers.ask(self.now, (tenant(1), BOT))
        }

        fn tell(&mut self, pass: Pass, outcome: Outcome) -> Option<Change> {
            self.breakers.tell(self.now, (tenant(1), BOT), (pass, outcome))
        }

        fn circuit(&self) -> Circuit {
            self.breakers.state(self.now, (tenant(1), BOT)).circuit
        }

        /// Calls that fail until the circuit is open; until when.
        fn open(&mut self) -> Moment {
            for _ in 1..FAILURES_IN_A_ROW {
                assert_eq!(self.ask(), Ok(Pass::Call));
                assert_eq!(self.tell(Pass::Call, LOST), None);
            }
            match self.tell(Pass::Call, LOST) {
                Some(Change::Opened(until)) => until,
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn failures_in_a_row_open_a_circuit_and_one_success_between_them_does_not() {
        let mut lab = Lab::new();
        for _ in 0..3 {
            for _ in 1..FAILURES_IN_A_ROW {
                assert_eq!(lab.tell(Pass::Call, LOST), None);
            }
            lab.tell(Pass::Call, Outcome::Served);
            lab.now += Duration::from_secs(120);
        }
        assert_eq!(lab.circuit(), Circuit::Closed);
        let until = lab.open();
        assert_eq!(until, lab.now + OPEN_MIN);
        assert_eq!((lab.ask(), lab.circuit()), (Err(until), Circuit::Open(until)));
        assert_eq!(lab.breakers.broken(lab.now), (1, 0));
        let state = lab.breakers.state(lab.now, (tenant(1), BOT));
        assert_eq!(state.last_failure, Some((lab.now, HangupCause::AgentLost)));
        assert_eq!(state.failures_in_a_row, FAILURES_IN_A_ROW);
    }

    #[test]
    fn a_half_of_a_minutes_outcomes_opens_a_circuit_and_older_ones_do_not_count() {
        let mut lab = Lab::new();
        for _ in 0..4 {
            assert_eq!(lab.tell(Pass::Call, LOST), None);
            lab.tell(Pass::Call, Outcome::Served);
        }
        lab.now += Duration::from_secs(70);
        for n in 0..5 {
            assert_eq!(lab.tell(Pass::Call, Outcome::Served), None, "{n}");
            let change = lab.tell(Pass::Call, LOST);
            assert_eq!(change.is_some(), n == 4, "the tenth outcome, {n}");
        }
    }

    #[test]
    fn one_trial_at_a_time_says_whether_it_is_back() {
        let mut lab = Lab::new();
        let until = lab.open();
        lab.now = until;
        assert_eq!(lab.circuit(), Circuit::HalfOpen);
        assert_eq!(lab.ask(), Ok(Pass::Trial(1)));
        assert!(lab.ask().is_err(), "one at a time");
        assert_eq!(lab.tell(Pass::Call, Outcome::Served), None, "a call from before is no trial");
        assert_eq!(lab.tell(Pass::Trial(1), Outcome::Served), Some(Change::Closed));
        assert_eq!((lab.ask(), lab.circuit()), (Ok(Pass::Call), Circuit::Closed));
        assert_eq!(lab.breakers.broken(lab.now), (0, 0));
    }

    #[test]
    fn a_trial_that_fails_opens_it_for_twice_as_long_up_to_a_minute() {
        let mut lab = Lab::new();
        let mut until = lab.open();
        let mut lengths = Vec::new();
        for n in 1..=6 {
            lab.now = until;
            assert_eq!(lab.ask(), Ok(Pass::Trial(n)));
            match lab.tell(Pass::Trial(n), LOST) {
                Some(Change::Opened(next)) => until = next,
                other => panic!("{other:?}"),
            }
            lengths.push(until.since(lab.now).as_secs());
        }
        assert_eq!(lengths, [10, 20, 40, 60, 60, 60]);
        lab.now = until;
        lab.ask().unwrap();
        lab.tell(Pass::Trial(7), Outcome::Served);
        let again = lab.open();
        assert_eq!(again, lab.now + OPEN_MIN, "it was well in between");
    }

    #[test]
    fn a_trial_that_comes_to_nothing_leaves_it_to_the_next_call() {
        let mut lab = Lab::new();
        lab.now = lab.open();
        lab.ask().unwrap();
        assert_eq!(lab.tell(Pass::Trial(1), Outcome::Abandoned), None);
        assert_eq!(lab.ask(), Ok(Pass::Trial(2)));
        lab.now += TRIAL_MAX;
        assert_eq!(lab.ask(), Ok(Pass::Trial(3)), "nothing was heard of the second");
        assert_eq!(lab.tell(Pass::Trial(2), LOST), None, "it is not the trial any more");
        assert_eq!(lab.tell(Pass::Trial(3), Outcome::Served), Some(Change::Closed));
    }

    #[test]
    fn a_tenant_neither_sees_nor_opens_the_circuits_of_another() {
        let mut lab = Lab::new();
        let until = lab.open();
        assert_eq!(lab.ask(), Err(until));
        assert_eq!(lab.breakers.ask(lab.now, (tenant(2), BOT)), Ok(Pass::Call));
        assert_eq!(lab.breakers.state(lab.now, (tenant(2), BOT)), EndpointState::WELL);
    }

    #[test]
    fn a_tenant_has_so_many_circuits_and_loses_those_it_used_least_lately() {
        let mut lab = Lab::new();
        let until = lab.open();
        for n in 0..10 * AGENT_ENDPOINTS_OF_TENANT_MAX {
            lab.now += Duration::from_millis(1);
            assert_eq!(lab.ask(), Err(until), "what is asked about is not forgotten");
            let endpoint = format!("ws://bot-{n}/");
            lab.breakers.tell(lab.now, (tenant(1), &endpoint), (Pass::Call, LOST));
        }
        assert_eq!(lab.breakers.count, AGENT_ENDPOINTS_OF_TENANT_MAX);
        for n in 0..=AGENT_ENDPOINTS_MAX {
            let of = (tenant(2 + n as u128), BOT);
            lab.breakers.tell(lab.now, of, (Pass::Call, LOST));
        }
        assert_eq!(lab.breakers.count, AGENT_ENDPOINTS_MAX);
        // Once they are well again there is room.
        lab.now += FORGET_AFTER;
        lab.breakers.tell(lab.now, (tenant(1), "ws://new/"), (Pass::Call, LOST));
        assert_eq!(lab.breakers.count, 1);
    }

    #[test]
    fn whatever_is_told_a_circuit_lets_somebody_try_within_a_minute() {
        for seed in 0..200 {
            let mut random = Random::from_seed(seed);
            let mut lab = Lab::new();
            for _ in 0..random.below(200) {
                lab.now += Duration::from_millis(random.below(3_000));
                let pass = lab.ask().unwrap_or(Pass::Call);
                let outcome = match random.below(3) {
                    0 => Outcome::Served,
                    1 => LOST,
                    _ => Outcome::Abandoned,
                };
                lab.tell(pass, outcome);
            }
            lab.now += OPEN_MAX.max(TRIAL_MAX);
            assert!(lab.ask().is_ok(), "seed {seed}");
        }
    }

    #[test]
    fn a_web_server_that_leads_calls_is_an_endpoint_and_a_document_that_came_with_one_is_none() {
        let agent = |source| {
            AgentKind::Twiml(Box::new(TwimlAgent {
                source,
                fallback: None,
                status: None,
                auth_token: Secret::default(),
                timeout: Duration::from_secs(5),
            }))
        };
        let url = "https://Bot.example/voice?token=x".to_owned();
        let web = agent(TwimlSource::Web(WebAddress { url, by_get: false }));
        assert_eq!(endpoint_of(&web).as_deref(), Some("https://bot.example/voice"));
        let document = agent(TwimlSource::Document("<Response/>".to_owned()));
        assert_eq!(endpoint_of(&document), None);
    }

    #[test]
    fn an_endpoint_is_named_without_what_may_be_secret() {
        for (url, expected) in [
            ("wss://Bot.Example:8443/media?token=x#y", "wss://bot.example:8443/media"),
            ("ws://user:pw@bot", "ws://bot"),
            ("ws://bot?a=/b@c", "ws://bot"),
            ("ws://[::1]:9/a@b", "ws://[::1]:9/a@b"),
            ("", "://"),
        ] {
            assert_eq!(endpoint(url), expected, "{url}");
        }
        for (uri, expected) in [
            ("sip:bot:pw@Agent.Example:5061;transport=tls?X-Key=1", "sip:bot@agent.example:5061"),
            ("SIPS:Agent.example;token=x", "sips:agent.example"),
            ("sip:b;phone-context=x@[2001:db8::1]:5070", "sip:b@[2001:db8::1]:5070"),
        ] {
            assert_eq!(sip_endpoint(uri), expected, "{uri}");
        }
        assert_eq!(endpoint(&"é".repeat(1_000)).len(), AGENT_ENDPOINT_BYTES_MAX - 1);
    }
}
