//! What a leg to an agent says of that agent's endpoint: its circuit is told, and asked before it is called.

use crate::engine::agent_health::Watch;
use crate::telemetry::metric;
use crate::telemetry::metric::Counter;
use crate::types::cause::HangupCause;

/// A leg's part in the circuit of the agent it goes to; of a leg to nobody's agent there is none.
#[derive(Debug, Default)]
pub(in crate::engine) struct Watched(Option<Box<Watch>>);

impl Watched {
    pub(in crate::engine) fn by(watch: Watch) -> Self {
        Self(Some(Box::new(watch)))
    }

    /// Whether the agent may be called.
    pub(super) fn admits(&mut self) -> bool {
        let admits = self.0.as_mut().is_none_or(|watch| watch.admits());
        if !admits {
            metric::counter(Counter::AgentsSkipped).increment(1);
        }
        admits
    }

    pub(super) fn answered(&mut self) {
        if let Some(watch) = &mut self.0 {
            watch.served();
        }
    }

    /// The agent could not be had: for this cause, and with this final status where it gave one.
    pub(super) fn not_had(&mut self, cause: HangupCause, status: Option<u16>) {
        let Some(watch) = &mut self.0 else { return };
        match (status, cause) {
            (Some(408 | 480 | 500..=599), _) | (None, HangupCause::CarrierTimeout) => {
                watch.failed(HangupCause::AgentUnreachable);
            }
            // Somebody is there, and takes no call now.
            (Some(486 | 600 | 603), _) => watch.served(),
            // What is wrong with the call, or our doing, says nothing of the agent.
            (_, cause) => watch.failed(cause),
        }
    }

    /// We let go of the leg for this cause, before its answer or after.
    pub(super) fn let_go(&mut self, cause: HangupCause) {
        let Some(watch) = &mut self.0 else { return };
        match cause {
            HangupCause::NoAnswer => watch.failed(HangupCause::AgentUnreachable),
            HangupCause::MediaTimeout => watch.failed(HangupCause::AgentLost),
            _ => (),
        }
    }

    /// The answered leg ended for this cause, which is no doing of ours.
    pub(super) fn ended(&mut self, cause: HangupCause) {
        if let Some(watch) = &mut self.0
            && cause != HangupCause::Normal
        {
            watch.failed(HangupCause::AgentLost);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::agent_health::AgentHealth;
    use crate::types::id::TenantId;
    use uuid::Uuid;

    const ENDPOINT: &str = "sip:bot@agent.example";

    /// Failures in a row after these, where the first is not asked about.
    fn failures(told: &[fn(&mut Watched)]) -> u32 {
        let (health, tenant) = (AgentHealth::default(), TenantId::from_uuid(Uuid::from_u128(1)));
        for told in told {
            let watch = Watch::new(health.clone(), tenant, ENDPOINT.to_owned());
            let mut watched = Watched::by(watch);
            assert!(watched.admits());
            told(&mut watched);
        }
        health.state(tenant, ENDPOINT).failures_in_a_row
    }

    #[test]
    fn what_becomes_of_calls_to_an_agent_counts_at_its_endpoint() {
        let silent = |watched: &mut Watched| watched.not_had(HangupCause::CarrierTimeout, None);
        for fails in [
            silent,
            |watched: &mut Watched| watched.not_had(HangupCause::CarrierRefused, Some(500)),
            |watched: &mut Watched| watched.not_had(HangupCause::CarrierRefused, Some(503)),
            |watched: &mut Watched| watched.not_had(HangupCause::CarrierTimeout, Some(408)),
            |watched: &mut Watched| watched.not_had(HangupCause::NoAnswer, Some(480)),
            |watched: &mut Watched| watched.let_go(HangupCause::NoAnswer),
            |watched: &mut Watched| {
                watched.answered();
                watched.ended(HangupCause::PeerTimeout);
            },
            |watched: &mut Watched| {
                watched.answered();
                watched.let_go(HangupCause::MediaTimeout);
            },
        ] {
            assert_eq!(failures(&[fails]), 1);
        }
        for lives in [
            |watched: &mut Watched| watched.not_had(HangupCause::Busy, Some(486)),
            |watched: &mut Watched| {
                watched.answered();
                watched.ended(HangupCause::Normal);
            },
        ] {
            assert_eq!(failures(&[silent, lives]), 0);
        }
        for says_nothing in [
            |watched: &mut Watched| watched.not_had(HangupCause::UnknownNumber, Some(404)),
            |watched: &mut Watched| watched.let_go(HangupCause::CallerCancelled),
        ] {
            assert_eq!(failures(&[silent, says_nothing]), 1);
        }
    }

    #[test]
    fn a_leg_to_nobodys_agent_is_always_admitted() {
        let mut none = Watched::default();
        none.not_had(HangupCause::CarrierTimeout, None);
        assert!(none.admits());
    }
}
