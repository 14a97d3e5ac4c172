//! What happens to calls while it happens: one bounded broadcast of a node, for all who want to know.

use crate::call::event::CallEvent;
use crate::cdr::CallRecord;
use crate::cdr::CallReport;
use crate::cdr::CallState;
use crate::cdr::TimedEvent;
use crate::types::id::CallId;
use crate::types::id::TenantId;
use crate::types::limit::LIVE_EVENTS_MAX;
use crate::types::moment::Moment;
use std::sync::Arc;
use tokio::sync::broadcast;

/// Something that happened to a call of a tenant.
#[derive(Clone, Debug, PartialEq)]
pub struct LiveEvent {
    /// The call.
    pub call: CallId,
    /// Whose call it is. What reached no tenant is told to nobody.
    pub tenant: TenantId,
    /// Its place in the call, the same as in the call's stored events: from 0, each once, in order.
    pub seq: u32,
    /// When it happened.
    pub at: Moment,
    /// What happened.
    pub event: CallEvent,
    /// How far the call got with it.
    pub state: CallState,
    /// Whether it is what made the call ring.
    pub rings: bool,
}

/// The broadcast. Clones are handles to the same one.
///
/// A listener that falls behind by more than [`LIVE_EVENTS_MAX`] events is told how many it missed
/// (`RecvError::Lagged`); nobody waits for it.
#[derive(Clone, Debug)]
pub struct LiveFeed(broadcast::Sender<Arc<LiveEvent>>);

impl Default for LiveFeed {
    fn default() -> Self {
        Self(broadcast::Sender::new(LIVE_EVENTS_MAX))
    }
}

impl LiveFeed {
    /// What happens from now on.
    #[must_use]
    pub fn subscribe(&self) -> broadcast::Receiver<Arc<LiveEvent>> {
        self.0.subscribe()
    }

    /// True while anybody listens.
    pub(super) fn is_heard(&self) -> bool {
        self.0.receiver_count() > 0
    }

    /// Tells what happened to the call of `record`, into which it is folded already.
    pub(super) fn tell(&self, record: &CallRecord, timed: TimedEvent) {
        let Some(tenant) = record.route.tenant else { return };
        let TimedEvent { seq, at, event } = timed;
        let (call, state, rings) = (record.id, record.state(), record.stages.ringing == Some(at));
        let event = LiveEvent { call, tenant, seq, at, event, state, rings };
        // Nobody may be left by now.
        drop(self.0.send(Arc::new(event)));
    }

    /// Tells what a report has: the birth of a call, or all of one that was refused.
    pub(super) fn tell_report(&self, report: &CallReport) {
        if self.is_heard() {
            for timed in &report.events {
                self.tell(&report.record, timed.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::event::Route;
    use crate::cdr::CallLog;
    use crate::routing::decision::Decision;
    use uuid::Uuid;

    #[tokio::test]
    async fn a_call_is_told_from_its_birth_with_its_own_numbering() {
        let feed = LiveFeed::default();
        let mut heard = feed.subscribe();
        let call = CallId::from_uuid(Uuid::from_u128(1));
        let tenant = TenantId::from_uuid(Uuid::from_u128(2));
        let mut stranger = CallLog::open(Moment::START, call);
        stranger.note(Moment::START, CallEvent::Ringing);
        feed.tell_report(&stranger.report());
        let mut log = CallLog::open(Moment::START, call);
        let route = Box::new(Route { tenant: Some(tenant), ..Route::default() });
        log.note(Moment::START, CallEvent::Decided { route, decision: Decision::new() });
        log.note(Moment::START, CallEvent::Ringing);
        feed.tell_report(&log.report());
        let at = Moment::from_millis(5);
        let seq = log.note(at, CallEvent::AgentReady);
        feed.tell(log.record(), TimedEvent { seq, at, event: CallEvent::AgentReady });
        for (seq, name) in [(0, "decided"), (1, "ringing"), (2, "agent_ready")] {
            let event = heard.recv().await.expect("told");
            assert_eq!((event.call, event.tenant), (call, tenant));
            assert_eq!((event.seq, event.event.name()), (seq, name));
            assert_eq!(event.state, CallState::Ringing);
        }
        assert!(heard.try_recv().is_err(), "what reached no tenant is told to nobody");
    }
}
