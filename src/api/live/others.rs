//! What happens to a tenant's calls at other nodes: told here as those stored it, a second or two later.

use crate::api::live::Channel;
use crate::api::live::EventHub;
use crate::api::live::Item;
use crate::api::live::ended;
use crate::api::live::lock;
use crate::clock;
use crate::store::call_commands;
use crate::store::database::Database;
use crate::store::database::within;
use crate::store::live_events;
use crate::store::live_events::ToldEvent;
use crate::types::id::CallId;
use crate::types::id::NodeId;
use crate::types::id::TenantId;
use crate::types::limit::EVENTS_CAUGHT_UP_MAX;
use crate::types::moment::Moment;
use jiff::Timestamp;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

/// How often is looked for what others stored.
const PERIOD: Duration = Duration::from_secs(1);
/// How late an event may be stored, and clocks of nodes differ. One that is later than that is not told.
const LATE_MAX: Duration = Duration::from_secs(15);
/// How long a call that happens here is known by what was heard of it: longer than its events take to be stored.
const OWN: Duration = Duration::from_secs(120);
/// Longest time for the database to tell.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// What a channel knows of calls here and elsewhere.
pub(super) struct Others {
    /// From where on is looked.
    next: Timestamp,
    /// Calls that something was heard of here: what is stored of them was told.
    own: HashMap<CallId, Moment>,
    /// What was told of others, and when it happened.
    told: HashMap<Uuid, Timestamp>,
}

impl Default for Others {
    fn default() -> Self {
        Self { next: clock::wall_now(), own: HashMap::new(), told: HashMap::new() }
    }
}

impl Others {
    /// Something was heard of a call here.
    pub(super) fn hear(&mut self, call: CallId) {
        self.own.insert(call, clock::now());
    }

    /// Takes what is stored, and leaves what was not told yet. `is_whole`: it was all there is.
    fn take(&mut self, mut found: Vec<ToldEvent>, is_whole: bool) -> Vec<ToldEvent> {
        let (now, wall) = (clock::now(), clock::wall_now());
        self.own.retain(|_, heard| *heard + OWN > now);
        let last = found.last().and_then(|last| live_events::time_of(last.id));
        let next = match last.filter(|_| !is_whole) {
            Some(last) => last,
            None => wall.checked_sub(LATE_MAX).unwrap_or(wall),
        };
        let told = &mut self.told;
        let own = &self.own;
        found.retain(|event| {
            let at = live_events::time_of(event.id).unwrap_or(wall);
            !own.contains_key(&event.call) && told.insert(event.id, at).is_none()
        });
        self.next = self.next.max(next);
        let from = self.next;
        told.retain(|_, at| *at + Duration::from_millis(1) >= from);
        found
    }
}

impl EventHub {
    /// Passes on what other nodes than `node` store of calls that are followed here, until this one ends.
    pub async fn follow_others(self, database: Database, node: NodeId) {
        let mut wanted = self.0.wanted.subscribe();
        let mut stop = self.0.stop.clone();
        loop {
            tokio::select! {
                () = ended(&mut stop) => return,
                waited = wanted.wait_for(|wanted| *wanted) => if waited.is_err() { return },
            }
            tokio::select! {
                () = ended(&mut stop) => return,
                () = tokio::time::sleep(PERIOD) => {}
            }
            if let Err(error) = self.look_at_others(&database, node).await {
                tracing::debug!(%error, "what happens at other nodes is not known");
            }
        }
    }

    async fn look_at_others(&self, database: &Database, node: NodeId) -> sqlx::Result<()> {
        if !within(ANSWER_MAX, call_commands::has_others(database, node)).await? {
            return Ok(());
        }
        let channels: Vec<(TenantId, Arc<Channel>)> = lock(&self.0.channels)
            .iter()
            .map(|(tenant, channel)| (*tenant, Arc::clone(channel)))
            .collect();
        for (tenant, channel) in channels {
            let from = lock(&channel.others).next;
            let limit = EVENTS_CAUGHT_UP_MAX;
            let found = live_events::of_tenant(database, tenant, from, limit);
            let found = within(ANSWER_MAX, found).await?;
            let is_whole = (found.len() as i64) < limit;
            // What runs here and was silent for long is no other's.
            let is_here =
                |call| self.0.calls.as_ref().is_some_and(|all| all.is_running(tenant, call));
            let new = lock(&channel.others).take(found, is_whole);
            for event in new.into_iter().filter(|event| !is_here(event.call)) {
                channel.push(Item::Told(Arc::new(event)));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::live_events::Which;

    fn event(call: CallId, seq: u32, at: Timestamp) -> ToldEvent {
        let which = Which { tenant: TenantId::from_uuid(Uuid::nil()), call, seq };
        ToldEvent::stored(which, at, "muted")
    }

    #[test]
    fn each_event_of_others_is_told_once_and_none_of_ones_own() {
        let [own, other] = [(); 2].map(|()| clock::new_call_id());
        let now = clock::wall_now();
        let mut others = Others { next: now, ..Others::default() };
        others.hear(own);
        let first = vec![event(own, 0, now), event(other, 0, now)];
        let told = others.take(first.clone(), true);
        assert_eq!(told, first[1..]);
        // They are found again for a while, with what came late.
        let late = event(other, 1, now);
        let told = others.take([first.clone(), vec![late.clone()]].concat(), true);
        assert_eq!(told, std::slice::from_ref(&late));
        assert_eq!(others.next, now);
        // Of a full page the next begins where it ended.
        let later = now + Duration::from_secs(60);
        let last = event(other, 2, later);
        assert_eq!(others.take(vec![last.clone()], false), std::slice::from_ref(&last));
        assert_eq!(Some(others.next), live_events::time_of(last.id));
        assert_eq!(others.take(vec![last], true), []);
    }
}
