//! How the endpoints of agents fare: the circuit breakers of a node, and each call's part in them.

use crate::agent::breaker::Breakers;
use crate::agent::breaker::Change;
use crate::agent::breaker::EndpointState;
use crate::agent::breaker::Outcome;
use crate::agent::breaker::Pass;
use crate::clock;
use crate::telemetry::metric;
use crate::telemetry::metric::Counter;
use crate::types::cause::HangupCause;
use crate::types::id::TenantId;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

/// The circuit breakers of a node. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct AgentHealth(Arc<Mutex<Breakers>>);

impl AgentHealth {
    /// Nothing is kept under the lock that a panic could leave half done.
    fn lock(&self) -> MutexGuard<'_, Breakers> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How an endpoint of a tenant stands; the endpoint as [`crate::agent::breaker::endpoint_of`] names it.
    #[must_use]
    pub fn state(&self, tenant: TenantId, endpoint: &str) -> EndpointState {
        self.lock().state(clock::now(), (tenant, endpoint))
    }

    /// How many circuits are open, and how many half open.
    #[must_use]
    pub fn broken(&self) -> (usize, usize) {
        self.lock().broken(clock::now())
    }
}

/// A call's part in the circuit of its agent's endpoint. Dropping it gives back the pass it still has.
#[derive(Debug)]
pub(super) struct Watch {
    health: AgentHealth,
    tenant: TenantId,
    endpoint: String,
    /// The right to call, until it is known what became of that.
    pass: Option<Pass>,
}

impl Watch {
    pub(super) const fn new(health: AgentHealth, tenant: TenantId, endpoint: String) -> Self {
        Self { health, tenant, endpoint, pass: None }
    }

    /// Whether the endpoint may be called; once it may, it may until the outcome is told.
    pub(super) fn admits(&mut self) -> bool {
        if self.pass.is_none() {
            let asked = self.health.lock().ask(clock::now(), (self.tenant, &self.endpoint));
            self.pass = asked.ok();
        }
        self.pass.is_some()
    }

    /// The agent does what it is for.
    pub(super) fn served(&mut self) {
        self.tell(Outcome::Served);
    }

    /// It was not reached, or is lost. What is no doing of the endpoint's is not held against it.
    pub(super) fn failed(&mut self, cause: HangupCause) {
        match cause {
            HangupCause::AgentUnreachable
            | HangupCause::AgentLost
            | HangupCause::AgentSilent
            | HangupCause::AgentGarbage => {
                // One that had served is lost as any other call's agent may be.
                self.pass.get_or_insert(Pass::Call);
                self.tell(Outcome::Failed(cause));
            }
            _ => self.tell(Outcome::Abandoned),
        }
    }

    fn tell(&mut self, outcome: Outcome) {
        let Some(pass) = self.pass.take() else { return };
        let of = (self.tenant, self.endpoint.as_str());
        let change = self.health.lock().tell(clock::now(), of, (pass, outcome));
        let host = host_of(&self.endpoint);
        let tenant = self.tenant;
        match change {
            Some(Change::Opened(until)) => {
                metric::counter(Counter::AgentCircuitsOpened).increment(1);
                let for_s = until.since(clock::now()).as_secs();
                tracing::warn!(%tenant, host, for_s, "an agent fails: its calls are not tried for a while");
            }
            Some(Change::Closed) => tracing::info!(%tenant, host, "an agent is back"),
            None => {}
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.tell(Outcome::Abandoned);
    }
}

/// Of an endpoint what may stand in a log: a path may be a secret too.
fn host_of(endpoint: &str) -> &str {
    match endpoint.split_once("://") {
        Some((_, rest)) => rest.split('/').next().unwrap_or_default(),
        // A SIP address, whose user may be a number.
        None => {
            let bare = endpoint.split_once(':').map_or(endpoint, |(_, rest)| rest);
            bare.rsplit_once('@').map_or(bare, |(_, host)| host)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::breaker::Circuit;
    use crate::agent::breaker::FAILURES_IN_A_ROW;
    use uuid::Uuid;

    #[test]
    fn calls_that_fail_open_a_circuit_and_those_that_only_end_do_not() {
        let health = AgentHealth::default();
        let tenant = TenantId::from_uuid(Uuid::from_u128(1));
        let watch = || Watch::new(health.clone(), tenant, "ws://bot/x".to_owned());
        for _ in 0..2 * FAILURES_IN_A_ROW {
            assert!(watch().admits());
            let mut forbidden = watch();
            assert!(forbidden.admits());
            forbidden.failed(HangupCause::AgentForbidden);
        }
        assert_eq!(health.broken(), (0, 0));
        for _ in 0..FAILURES_IN_A_ROW {
            let mut watch = watch();
            assert!(watch.admits());
            watch.failed(HangupCause::AgentUnreachable);
        }
        assert!(!watch().admits());
        assert_eq!(health.broken(), (1, 0));
        assert!(matches!(health.state(tenant, "ws://bot/x").circuit, Circuit::Open(_)));
        assert_eq!(host_of("ws://bot:9/secret"), "bot:9");
        assert_eq!(host_of("sip:+15550142@agent.example:5061"), "agent.example:5061");
        assert_eq!(host_of("sips:agent.example"), "agent.example");
    }
}
