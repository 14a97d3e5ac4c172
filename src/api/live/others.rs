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
use crate::types::id::NodeId;
use crate::types::id::TenantId;
use crate::types::limit::EVENTS_CAUGHT_UP_MAX;
use jiff::Timestamp;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

/// How often is looked for what others stored.
const PERIOD: Duration = Duration::from_secs(1);
/// How late an event may be stored, and clocks of nodes differ. One that is later than that is not told.
const LATE_MAX: Duration = Duration::from_secs(15);
/// Longest time for the database to tell.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// What a channel knows of what was told, here and of others.
pub(super) struct Others {
    /// From where on is looked.
    next: Timestamp,
    /// What was told since then, wherever it happened, and when: it is found again in the database.
    told: HashMap<Uuid, Timestamp>,
}

impl Default for Others {
    fn default() -> Self {
        Self { next: clock::wall_now(), told: HashMap::new() }
    }
}

impl Others {
    /// An event is to be told; false: it was.
    pub(super) fn hear(&mut self, event: &ToldEvent) -> bool {
        let at = live_events::time_of(event.id).unwrap_or_else(clock::wall_now);
        self.told.insert(event.id, at).is_none()
    }

    /// Takes what is stored, and leaves what was not told yet. It is looked on from `next`.
    fn take(&mut self, mut found: Vec<ToldEvent>, next: Timestamp) -> Vec<ToldEvent> {
        found.retain(|event| self.hear(event));
        self.go_on(next);
        found
    }

    /// Looks no more for what is older than `next`. Also where nothing was looked for, or in vain: what was told
    /// meanwhile is not kept, and not told again from the records later.
    fn go_on(&mut self, next: Timestamp) {
        self.next = self.next.max(next);
        let from = self.next;
        // Identities have their time to the millisecond.
        self.told.retain(|_, at| *at + Duration::from_millis(1) >= from);
    }
}

/// From where on is looked when all was found that there is.
fn late(wall: Timestamp) -> Timestamp {
    wall.checked_sub(LATE_MAX).unwrap_or(wall)
}

/// From where on is looked after this was found; `is_whole`: it was all there is.
fn behind(found: &[ToldEvent], is_whole: bool) -> Timestamp {
    let last = found.last().filter(|_| !is_whole);
    let last = last.and_then(|last| live_events::time_of(last.id));
    last.unwrap_or_else(|| late(clock::wall_now()))
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
            self.look_at_others(&database, node).await;
        }
    }

    async fn look_at_others(&self, database: &Database, node: NodeId) {
        let has_others = within(ANSWER_MAX, call_commands::has_others(database, node)).await;
        let channels: Vec<(TenantId, Arc<Channel>)> = lock(&self.0.channels)
            .iter()
            .map(|(tenant, channel)| (*tenant, Arc::clone(channel)))
            .collect();
        for (tenant, channel) in channels {
            let looked = match &has_others {
                Ok(true) => self.look_at(database, tenant, &channel).await,
                Ok(false) | Err(_) => {
                    lock(&channel.others).go_on(late(clock::wall_now()));
                    Ok(())
                }
            };
            // One tenant with very much to tell keeps no other from what is theirs.
            if let Err(error) = looked {
                lock(&channel.others).go_on(late(clock::wall_now()));
                tracing::debug!(%error, "what happens at other nodes is not known");
            }
        }
        if let Err(error) = has_others {
            tracing::debug!(%error, "whether there are other nodes is not known");
        }
    }

    async fn look_at(
        &self,
        database: &Database,
        tenant: TenantId,
        channel: &Channel,
    ) -> sqlx::Result<()> {
        let from = lock(&channel.others).next;
        let limit = EVENTS_CAUGHT_UP_MAX;
        let found = live_events::of_tenant(database, tenant, from, limit);
        let mut found = within(ANSWER_MAX, found).await?;
        let next = behind(&found, (found.len() as i64) < limit);
        // What runs here tells of itself.
        if let Some(calls) = &self.0.calls {
            found.retain(|event| !calls.is_running(tenant, event.call));
        }
        let new = lock(&channel.others).take(found, next);
        for event in new {
            channel.push(Item::Told(Arc::new(event)));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::live_events::Which;
    use crate::types::id::CallId;

    fn event(call: CallId, seq: u32, at: Timestamp) -> ToldEvent {
        let which = Which { tenant: TenantId::from_uuid(Uuid::nil()), call, seq };
        ToldEvent::stored(which, at, "muted")
    }

    #[test]
    fn each_event_is_told_once_whoever_told_it_first() {
        let [own, other] = [(); 2].map(|()| clock::new_call_id());
        let now = clock::wall_now();
        let mut others = Others { next: now, ..Others::default() };
        let whole = |found: &[ToldEvent]| behind(found, true);
        let first = vec![event(own, 0, now), event(other, 0, now)];
        assert!(others.hear(&first[0]));
        let told = others.take(first.clone(), whole(&first));
        assert_eq!(told, first[1..]);
        // They are found again for a while, with what came late, and with what others tell of the same calls.
        let late = [event(own, 1, now), event(other, 1, now)];
        let found = [first, late.to_vec()].concat();
        let next = whole(&found);
        assert_eq!(others.take(found, next), late);
        // What was found first is not told when it is heard.
        assert!(!others.hear(&late[1]));
        assert_eq!(others.next, now);
        // Of a full page the next begins where it ended.
        let later = now + Duration::from_secs(60);
        let last = event(other, 2, later);
        let next = behind(std::slice::from_ref(&last), false);
        assert_eq!(others.take(vec![last.clone()], next), std::slice::from_ref(&last));
        assert_eq!(Some(others.next), live_events::time_of(last.id));
        assert_eq!(others.take(vec![last], next), []);
    }

    #[test]
    fn what_a_node_alone_tells_is_neither_kept_nor_told_again_when_another_comes() {
        let begun = clock::wall_now();
        let mut others = Others { next: begun, ..Others::default() };
        let call = clock::new_call_id();
        let at = |second: u32| begun + Duration::from_secs(u64::from(second));
        for second in 0..1_000 {
            assert!(others.hear(&event(call, second, at(second))));
            others.go_on(late(at(second)));
        }
        assert_eq!(others.told.len(), 16, "of the last 15 seconds");
        assert!(others.next >= at(900));
        let found: Vec<_> = (984..1_000).map(|second| event(call, second, at(second))).collect();
        assert_eq!(others.take(found, late(at(1_000))), []);
    }
}
