//! `Session`: what one listener is told, in order, beginning where it left off.

use crate::api::call_notes::RECORD_PERIOD;
use crate::api::call_notes::RECORD_TRIES;
use crate::api::live::EventHub;
use crate::api::live::Found;
use crate::api::live::Item;
use crate::api::live::NoSeat;
use crate::api::live::Seat;
use crate::api::live::ended;
use crate::api::live::told_of;
use crate::clock;
use crate::engine::registry::Unheard;
use crate::store::api_keys::KeyHolder;
use crate::store::database::Database;
use crate::store::key_ring::KeyRing;
use crate::store::live_events;
use crate::store::live_events::ToldEvent;
use crate::types::id::CallId;
use crate::types::id::TenantId;
use crate::types::limit::EVENTS_CAUGHT_UP_MAX;
use crate::types::moment::Moment;
use jiff::Timestamp;
use serde_json::json;
use std::collections::HashSet;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use uuid::Uuid;

/// How often a listener hears that the connection lives, and is asked whether it still may listen.
pub(super) const HEARTBEAT: Duration = Duration::from_secs(15);

/// Why something is missing.
const UNREADABLE: &str = "the records cannot be read at this moment";
const OVERRUN: &str = "too much happened at once";

/// What a listener is told next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Frame {
    /// Something happened, or was missed, or this is the end and why.
    Event {
        /// Where to go on from after a lost connection; `None`: as before.
        id: Option<String>,
        /// What it is called.
        kind: String,
        /// What is told.
        text: String,
    },
    /// Nothing; the connection lives.
    Heartbeat,
}

/// What is followed, and from where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Follow {
    /// All calls of the tenant, after this event if one is named.
    Tenant(Option<Uuid>),
    /// One call, after this place in it if one is named.
    Call(CallId, Option<i64>),
}

/// What lets a listener listen.
pub(super) struct Right {
    /// The keys as they stand.
    pub(super) keys: Arc<KeyRing>,
    /// Who holds the key, or the token that was made with it.
    pub(super) holder: KeyHolder,
    /// When the token ends.
    pub(super) ends: Option<Timestamp>,
}

impl Right {
    /// Whether it still opens what is the tenant's. While nobody knows, it does.
    async fn opens(&self, database: &Database, tenant: TenantId) -> bool {
        if self.ends.is_some_and(|ends| ends <= clock::wall_now()) {
            return false;
        }
        match self.keys.holder(database, self.holder.id).await {
            Ok(key) => {
                key.is_some_and(|key| key.scope.opens(tenant) && key.role >= self.holder.role)
            }
            Err(error) => {
                tracing::debug!(%error, "whether a listener may go on is not known");
                true
            }
        }
    }

    /// When it is asked for next.
    fn due(&self) -> Moment {
        let left = self.ends.map(|ends| ends.duration_since(clock::wall_now()));
        let left = left.map(|left| Duration::try_from(left).unwrap_or_default());
        clock::now() + left.map_or(HEARTBEAT, |left| left.min(HEARTBEAT))
    }
}

/// A listener.
pub(super) struct Session {
    hub: EventHub,
    database: Database,
    tenant: TenantId,
    right: Right,
    /// When is asked whether the listener still may: whatever happens meanwhile.
    right_due: Moment,
    follow: Follow,
    /// The call that is followed runs at another node: what happens to it comes by the records.
    is_far: bool,
    seat: Seat,
    newest: watch::Receiver<u64>,
    stop: watch::Receiver<bool>,
    /// The place of the next event in the ring.
    place: u64,
    /// The place in the call of the last event that was told.
    last: Option<i64>,
    /// Events told from the records that may be in the ring too.
    seen: HashSet<Uuid>,
    waiting: VecDeque<Frame>,
    is_over: bool,
}

impl Session {
    /// Begins to follow; `is_far`: a call that runs at another node.
    pub(super) async fn begin(
        hub: &EventHub,
        database: &Database,
        (tenant, right): (TenantId, Right),
        (follow, is_far): (Follow, bool),
    ) -> Result<Self, NoSeat> {
        let (seat, place) = hub.join(tenant).await?;
        let mut session = Self {
            newest: seat.channel.newest.subscribe(),
            stop: hub.0.stop.clone(),
            hub: hub.clone(),
            database: database.clone(),
            tenant,
            right_due: right.due(),
            right,
            follow,
            is_far,
            seat,
            place,
            last: None,
            seen: HashSet::new(),
            waiting: VecDeque::from([Frame::Heartbeat]),
            is_over: false,
        };
        session.catch_up().await;
        Ok(session)
    }

    /// Tells what was missed since the listener left.
    async fn catch_up(&mut self) {
        match self.follow {
            Follow::Tenant(None) => {}
            Follow::Tenant(Some(event)) => match self.seat.channel.behind(event) {
                Some(place) => self.place = place,
                None => self.recall(event).await,
            },
            Follow::Call(call, after) => {
                self.last = after;
                let is_running = self.is_far || self.is_running(call);
                if after.is_some() {
                    self.fill(call, i64::from(u32::MAX)).await;
                }
                self.is_over |= !is_running;
            }
        }
    }

    /// Tells what the records have of the tenant since that event, and that it may not be all.
    async fn recall(&mut self, event: Uuid) {
        let limit = EVENTS_CAUGHT_UP_MAX;
        let found = match live_events::time_of(event) {
            Some(from) => {
                live_events::of_tenant(&self.database, self.tenant, from, limit + 1).await
            }
            None => Ok(Vec::new()),
        };
        match found {
            Ok(found) if found.len() as i64 <= limit => {
                for told in found.into_iter().filter(|told| told.id != event) {
                    self.seen.insert(told.id);
                    self.push(&told);
                }
                self.gap("what was not stored yet is missing");
            }
            Ok(_) => self.gap("too many were missed; read the calls"),
            Err(error) => {
                tracing::debug!(%error, "a listener is told of a gap");
                self.gap(UNREADABLE);
            }
        }
    }

    /// Tells what happened to the call between what was told last and `before`.
    async fn fill(&mut self, call: CallId, before: i64) {
        match self.find(call, before).await {
            Ok((found, is_whole)) => {
                found.iter().for_each(|told| self.tell_in_order(told));
                if !is_whole {
                    self.gap("the end of the call is not stored yet");
                }
            }
            Err(error) => {
                tracing::debug!(%error, "a listener is told of a gap");
                self.gap(UNREADABLE);
            }
        }
    }

    /// The same, as the call itself has it while it runs, else as the records have it: those of a call that
    /// ended this moment are on their way into the database. False: they did not come in time.
    async fn find(&self, call: CallId, before: i64) -> sqlx::Result<(Vec<ToldEvent>, bool)> {
        let after = self.last.unwrap_or(-1);
        let heard = match &self.hub.0.calls {
            Some(calls) => calls.events(self.tenant, call, after).await,
            None => Err(Unheard::NoSuchCall),
        };
        let is_busy = match heard {
            Ok(events) => {
                let earlier = events.iter().filter(|event| i64::from(event.seq) < before);
                return Ok((earlier.map(told_of).collect(), true));
            }
            Err(why) => why == Unheard::Busy,
        };
        let mut tries = 0;
        loop {
            let key = (self.tenant, call);
            // What runs elsewhere goes on.
            let is_open = is_busy || self.is_far;
            let is_whole = is_open || live_events::is_closed(&self.database, key).await?;
            let found = live_events::of_call(&self.database, key, (after, before)).await?;
            tries += 1;
            if is_whole || tries >= RECORD_TRIES {
                return Ok((found, is_whole));
            }
            tokio::time::sleep_until(clock::instant(clock::now() + RECORD_PERIOD).into()).await;
        }
    }

    fn is_running(&self, call: CallId) -> bool {
        self.hub.0.calls.as_ref().is_some_and(|calls| calls.is_running(self.tenant, call))
    }

    fn push(&mut self, told: &ToldEvent) {
        let id = match self.follow {
            Follow::Tenant(_) => told.id.to_string(),
            Follow::Call(..) => told.seq.to_string(),
        };
        let (kind, text) = (told.kind.clone(), told.text.clone());
        self.waiting.push_back(Frame::Event { id: Some(id), kind, text });
    }

    /// Tells an event of the call that is followed, once, and before it that some are missing.
    fn tell_in_order(&mut self, told: &ToldEvent) {
        let seq = i64::from(told.seq);
        match self.last {
            Some(last) if seq <= last => return,
            Some(last) if seq > last + 1 => self.gap("they are not kept"),
            _ => {}
        }
        self.last = Some(seq);
        self.push(told);
        self.is_over |= told.is_last;
    }

    fn gap(&mut self, why: &str) {
        let text = json!({"type": "gap", "after": self.last, "reason": why}).to_string();
        self.waiting.push_back(Frame::Event { id: None, kind: "gap".to_owned(), text });
    }

    fn drop_for(&mut self, why: &str) {
        let text = json!({"type": "dropped", "reason": why}).to_string();
        self.waiting.push_back(Frame::Event { id: None, kind: "dropped".to_owned(), text });
        self.is_over = true;
    }

    /// What is told next; `None`: nothing more.
    pub(super) async fn next(&mut self) -> Option<Frame> {
        loop {
            if self.is_over && self.waiting.is_empty() {
                return None;
            }
            if clock::now() >= self.right_due {
                self.ask_right().await;
            }
            if let Some(frame) = self.waiting.pop_front() {
                return Some(frame);
            }
            if self.is_over {
                return None;
            }
            match self.seat.channel.at(self.place) {
                // Who waits for this may stop in the midst of it; then the item is taken again.
                Found::Item(item) => {
                    self.take(item).await;
                    self.place += 1;
                }
                // It was told that it may take its time, but not for ever: others' events are kept too.
                Found::Gone => self.drop_for("too_slow"),
                Found::Nothing => self.wait().await,
            }
        }
    }

    /// Ends it for a listener whose key was revoked or is over, or whose token is. Who waits for this may stop in the
    /// midst of it; then it is asked again.
    async fn ask_right(&mut self) {
        if !self.right.opens(&self.database, self.tenant).await {
            self.waiting.clear();
            self.drop_for("key_ended");
        }
        self.right_due = self.right.due();
    }

    async fn take(&mut self, item: Item) {
        match (item, self.follow) {
            (Item::Told(told), Follow::Tenant(_)) => {
                if !self.seen.remove(&told.id) {
                    self.push(&told);
                }
            }
            (Item::Told(told), Follow::Call(call, _)) if told.call == call => {
                if self.last.is_some_and(|last| i64::from(told.seq) > last + 1) {
                    self.fill(call, told.seq.into()).await;
                }
                self.tell_in_order(&told);
            }
            (Item::Told(_), Follow::Call(..)) => {}
            (Item::Missed, Follow::Tenant(_)) => self.gap(OVERRUN),
            // It may have been an event of this call, and its last.
            (Item::Missed, Follow::Call(call, _)) if self.last.is_some() => {
                self.fill(call, i64::from(u32::MAX)).await;
                self.look_whether_over(call, self.place + 1).await;
            }
            (Item::Missed, Follow::Call(call, _)) => {
                self.look_whether_over(call, self.place + 1).await;
                self.gap(OVERRUN);
            }
            (Item::Erased, _) => {}
        }
    }

    async fn wait(&mut self) {
        tokio::select! {
            biased;
            () = ended(&mut self.stop) => self.drop_for("the node ends"),
            changed = self.newest.changed() => self.is_over |= changed.is_err(),
            () = tokio::time::sleep_until(clock::instant(self.right_due).into()) => {}
            () = tokio::time::sleep(HEARTBEAT) => {
                if let Follow::Call(call, _) = self.follow {
                    self.look_whether_over(call, self.place).await;
                }
                self.waiting.push_back(Frame::Heartbeat);
            }
        }
    }

    /// A call whose end was told in between is not waited for; `place` is that of the next event.
    async fn look_whether_over(&mut self, call: CallId, place: u64) {
        let is_told = matches!(self.seat.channel.at(place), Found::Item(_));
        if is_told || self.is_running(call) {
            return;
        }
        let key = (self.tenant, call);
        // Nobody says that one which runs elsewhere is over, but its record.
        let is_over = !self.is_far
            || live_events::is_closed(&self.database, key).await.unwrap_or_else(|error| {
                tracing::debug!(%error, "whether a call at another node is over is not known");
                false
            });
        if is_over || self.last.is_some() {
            self.fill(call, i64::from(u32::MAX)).await;
        }
        self.is_over |= is_over;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::api_keys::KeyRole;
    use crate::store::api_keys::KeyScope;
    use crate::types::id::ApiKeyId;
    use crate::types::limit::EVENTS_KEPT_MAX;

    fn kind(frame: Option<Frame>) -> String {
        match frame {
            Some(Frame::Event { kind, .. }) => kind,
            Some(Frame::Heartbeat) => "heartbeat".to_owned(),
            None => "end".to_owned(),
        }
    }

    #[tokio::test]
    async fn who_takes_its_time_until_events_are_gone_is_told_so_and_dropped() {
        let (_stop, stopping) = watch::channel(false);
        let hub = EventHub::start(None, stopping);
        hub.0.listening.send_replace(true);
        let tenant = TenantId::from_uuid(Uuid::from_u128(1));
        let id = ApiKeyId::from_uuid(Uuid::from_u128(2));
        let holder = KeyHolder { id, scope: KeyScope::Tenant(tenant), role: KeyRole::Viewer };
        let right = Right { keys: Arc::default(), holder, ends: None };
        let nowhere = Database::at("postgres://nobody@127.0.0.1:1/nothing").unwrap();
        let follow = (Follow::Tenant(None), false);
        let session = Session::begin(&hub, &nowhere, (tenant, right), follow).await;
        let mut session = session.unwrap();
        assert_eq!(kind(session.next().await), "heartbeat");
        let channel = Arc::clone(&session.seat.channel);
        // As many as are kept may wait for it.
        for _ in 0..EVENTS_KEPT_MAX {
            channel.push(Item::Missed);
        }
        assert_eq!(kind(session.next().await), "gap");
        channel.push(Item::Missed);
        assert_eq!(kind(session.next().await), "gap");
        // The next one it would be told, and the one behind.
        for _ in 0..2 {
            channel.push(Item::Missed);
        }
        let text = json!({"type": "dropped", "reason": "too_slow"}).to_string();
        let dropped = Frame::Event { id: None, kind: "dropped".to_owned(), text };
        assert_eq!(session.next().await, Some(dropped));
        assert_eq!(session.next().await, None);
    }
}
