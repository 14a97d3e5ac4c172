//! Live events: what happens to a tenant's calls, kept for a while for those who lost their connection.

mod others;
mod session;
mod socket;

pub(super) use crate::api::live::socket::of_call;
pub(super) use crate::api::live::socket::of_tenant;

use crate::api::live::others::Others;
use crate::clock;
use crate::engine::live::LiveEvent;
use crate::engine::originate::CallControl;
use crate::store::live_events::Far;
use crate::store::live_events::ToldEvent;
use crate::store::live_events::Which;
use crate::telemetry::metric;
use crate::telemetry::metric::Gauge;
use crate::types::id::CallId;
use crate::types::id::TenantId;
use crate::types::limit::EVENT_SOCKETS_MAX;
use crate::types::limit::EVENT_SOCKETS_PER_TENANT_MAX;
use crate::types::limit::EVENTS_KEPT_MAX;
use crate::types::moment::Moment;
use std::collections::HashMap;
use std::collections::HashSet;
use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::watch;
use uuid::Uuid;

/// How long a tenant's events are kept after its last listener left: time enough to come back.
const MEMORY: Duration = Duration::from_secs(300);
/// How often is looked who left.
const SWEEP: Duration = Duration::from_secs(10);

/// Passes events on to those who follow them. Of a tenant that nobody follows nothing is kept, and while no
/// tenant is followed calls are not listened to. Cheap to clone.
#[derive(Clone)]
pub struct EventHub(Arc<Inner>);

struct Inner {
    calls: Option<CallControl>,
    channels: Mutex<HashMap<TenantId, Arc<Channel>>>,
    /// Whether channels exist, for the task that feeds them.
    wanted: watch::Sender<bool>,
    /// Whether calls are listened to at this moment.
    listening: watch::Sender<bool>,
    /// Turns true when the node ends.
    stop: watch::Receiver<bool>,
}

/// The events of one tenant.
struct Channel {
    ring: Mutex<Ring>,
    /// The place behind the newest event.
    newest: watch::Sender<u64>,
    /// Its listeners, and since when there are none.
    seats: Mutex<(usize, Moment)>,
    /// What is known of its calls at other nodes.
    others: Mutex<Others>,
}

#[derive(Default)]
struct Ring {
    /// The place of the oldest.
    first: u64,
    items: VecDeque<Item>,
}

/// An event, or that some were missed.
#[derive(Clone)]
enum Item {
    Told(Arc<ToldEvent>),
    Missed,
    /// There was one, of a call whose data are erased.
    Erased,
}

/// What is found at a place of the ring.
enum Found {
    Item(Item),
    /// It is not there any more.
    Gone,
    /// It is not there yet.
    Nothing,
}

/// Why nobody may follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NoSeat {
    Full,
    Ending,
}

/// A listener; leaves when it is dropped.
struct Seat {
    channel: Arc<Channel>,
}

impl fmt::Debug for EventHub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EventHub")
    }
}

/// Nothing is kept under these locks that a panic could leave half done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl EventHub {
    /// The hub of a node with these calls; `None`: there are none, and nobody can follow any. Its task runs
    /// until `stop` turns true.
    #[must_use]
    pub fn start(calls: Option<CallControl>, stop: watch::Receiver<bool>) -> Self {
        let hub = Self(Arc::new(Inner {
            calls,
            channels: Mutex::default(),
            wanted: watch::Sender::new(false),
            listening: watch::Sender::new(false),
            stop,
        }));
        if let Some(calls) = hub.0.calls.clone() {
            tokio::spawn(hub.clone().run(calls));
        }
        hub
    }

    /// Listens to calls while anybody wants to know.
    async fn run(self, calls: CallControl) {
        let mut wanted = self.0.wanted.subscribe();
        let mut stop = self.0.stop.clone();
        loop {
            tokio::select! {
                () = ended(&mut stop) => return,
                waited = wanted.wait_for(|wanted| *wanted) => if waited.is_err() { return },
            }
            let feed = calls.live();
            self.0.listening.send_replace(true);
            tokio::select! {
                () = ended(&mut stop) => return,
                () = self.feed(feed) => {}
            }
        }
    }

    /// Passes on what happens until nobody wants to know.
    async fn feed(&self, mut feed: broadcast::Receiver<Arc<LiveEvent>>) {
        let mut sweep = tokio::time::interval(SWEEP);
        loop {
            tokio::select! {
                heard = feed.recv() => match heard {
                    Ok(event) => self.pass_on(&event),
                    Err(RecvError::Lagged(_)) => self.miss(),
                    Err(RecvError::Closed) => return,
                },
                _ = sweep.tick() => if self.sweep() { return },
            }
        }
    }

    fn pass_on(&self, event: &LiveEvent) {
        let channel = lock(&self.0.channels).get(&event.tenant).cloned();
        let Some(channel) = channel else { return };
        channel.tell(told_of(event));
    }

    /// What happened to these calls is not told any more: the record of it is erased.
    pub fn forget(&self, calls: &[CallId]) {
        let calls: HashSet<CallId> = calls.iter().copied().collect();
        let channels: Vec<_> = lock(&self.0.channels).values().cloned().collect();
        for channel in channels {
            for item in &mut lock(&channel.ring).items {
                if matches!(item, Item::Told(told) if calls.contains(&told.call)) {
                    *item = Item::Erased;
                }
            }
        }
    }

    /// Tells those who follow the tenant what came when the call was over.
    pub fn tell(&self, tenant: TenantId, told: ToldEvent) {
        let channel = lock(&self.0.channels).get(&tenant).cloned();
        if let Some(channel) = channel {
            channel.tell(told);
        }
    }

    /// Tells all that they missed something.
    fn miss(&self) {
        let channels: Vec<_> = lock(&self.0.channels).values().cloned().collect();
        for channel in channels {
            channel.push(Item::Missed);
        }
    }

    /// Forgets tenants that nobody follows any more; true when none is left.
    #[expect(clippy::cast_precision_loss, reason = "figures for display")]
    fn sweep(&self) -> bool {
        let now = clock::now();
        let mut channels = lock(&self.0.channels);
        channels.retain(|_, channel| {
            let (seats, left) = *lock(&channel.seats);
            seats > 0 || left + MEMORY > now
        });
        let seats: usize = channels.values().map(|channel| lock(&channel.seats).0).sum();
        metric::set(Gauge::EventSockets, seats as f64);
        if channels.is_empty() {
            // Under the lock: whoever comes next finds that nobody listens, and waits for it.
            self.0.wanted.send_replace(false);
            self.0.listening.send_replace(false);
        }
        channels.is_empty()
    }

    /// A seat at the events of a tenant, and the place of the next one. Whatever happens from now on is found
    /// there.
    async fn join(&self, tenant: TenantId) -> Result<(Seat, u64), NoSeat> {
        let seat = {
            let mut channels = lock(&self.0.channels);
            let all: usize = channels.values().map(|channel| lock(&channel.seats).0).sum();
            let channel = Arc::clone(channels.entry(tenant).or_default());
            let mut seats = lock(&channel.seats);
            if all >= EVENT_SOCKETS_MAX || seats.0 >= EVENT_SOCKETS_PER_TENANT_MAX {
                return Err(NoSeat::Full);
            }
            seats.0 += 1;
            drop(seats);
            self.0.wanted.send_replace(true);
            Seat { channel }
        };
        let (mut listening, mut stop) = (self.0.listening.subscribe(), self.0.stop.clone());
        tokio::select! {
            () = ended(&mut stop) => return Err(NoSeat::Ending),
            listens = listening.wait_for(|listening| *listening) => {
                listens.map_err(|_| NoSeat::Ending)?;
            }
        }
        let place = seat.channel.end();
        Ok((seat, place))
    }
}

impl Default for Channel {
    fn default() -> Self {
        Self {
            ring: Mutex::default(),
            newest: watch::Sender::new(0),
            seats: Mutex::new((0, clock::now())),
            others: Mutex::default(),
        }
    }
}

impl Channel {
    /// Tells an event, if it was not found in the records before.
    fn tell(&self, told: ToldEvent) {
        let is_new = lock(&self.others).hear(&told);
        if is_new {
            self.push(Item::Told(Arc::new(told)));
        }
    }

    fn push(&self, item: Item) {
        let mut ring = lock(&self.ring);
        if ring.items.len() >= EVENTS_KEPT_MAX {
            ring.items.pop_front();
            ring.first += 1;
        }
        ring.items.push_back(item);
        let end = ring.end();
        drop(ring);
        self.newest.send_replace(end);
    }

    fn end(&self) -> u64 {
        lock(&self.ring).end()
    }

    fn at(&self, place: u64) -> Found {
        let ring = lock(&self.ring);
        let Some(index) = place.checked_sub(ring.first) else { return Found::Gone };
        let index = usize::try_from(index).unwrap_or(usize::MAX);
        ring.items.get(index).map_or(Found::Nothing, |item| Found::Item(item.clone()))
    }

    /// The place behind the event of that identity, if it is kept.
    fn behind(&self, event: Uuid) -> Option<u64> {
        let ring = lock(&self.ring);
        let is_it = |item: &Item| matches!(item, Item::Told(told) if told.id == event);
        let index = ring.items.iter().rposition(is_it)?;
        Some(ring.first + index as u64 + 1)
    }
}

impl Ring {
    fn end(&self) -> u64 {
        self.first + self.items.len() as u64
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut seats = lock(&self.channel.seats);
        *seats = (seats.0.saturating_sub(1), clock::now());
    }
}

/// What is told of an event that just happened.
fn told_of(event: &LiveEvent) -> ToldEvent {
    let which = Which { tenant: event.tenant, call: event.call, seq: event.seq };
    let far = Far { state: event.state.as_str(), rings: event.rings };
    ToldEvent::of(which, event.at, &event.event, far)
}

/// Resolves once `stop` is true; a sender that is gone means the same.
async fn ended(stop: &mut watch::Receiver<bool>) {
    drop(stop.wait_for(|stop| *stop).await);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant(number: usize) -> TenantId {
        TenantId::from_uuid(Uuid::from_u128(number as u128))
    }

    #[test]
    fn so_many_events_of_a_tenant_are_kept_and_the_oldest_is_gone() {
        let channel = Channel::default();
        for place in 0..=EVENTS_KEPT_MAX {
            channel.push(if place == 1 { Item::Erased } else { Item::Missed });
        }
        let end = channel.end();
        assert_eq!(end, EVENTS_KEPT_MAX as u64 + 1);
        assert!(matches!(channel.at(0), Found::Gone));
        assert!(matches!(channel.at(1), Found::Item(Item::Erased)));
        assert!(matches!(channel.at(end - 1), Found::Item(Item::Missed)));
        assert!(matches!(channel.at(end), Found::Nothing));
    }

    #[tokio::test]
    async fn a_tenant_has_so_many_listeners_and_so_has_the_node() {
        let (_stop, stopping) = watch::channel(false);
        let hub = EventHub::start(None, stopping);
        hub.0.listening.send_replace(true);
        let refused = async |number: usize| hub.join(tenant(number)).await.err();
        let mut seats = Vec::new();
        for number in 0..EVENT_SOCKETS_MAX / EVENT_SOCKETS_PER_TENANT_MAX {
            for _ in 0..EVENT_SOCKETS_PER_TENANT_MAX {
                seats.push(hub.join(tenant(number)).await.unwrap());
            }
            assert_eq!(refused(number).await, Some(NoSeat::Full), "{number}");
        }
        let another = EVENT_SOCKETS_MAX;
        assert_eq!(refused(another).await, Some(NoSeat::Full));
        // Whoever leaves makes room.
        seats.pop();
        assert_eq!(refused(another).await, None);
    }
}
