//! The registry: which calls run on this node, and who may begin another.

mod campaigns;
mod dialogs;
mod outbound;
mod registrations;

pub use crate::engine::registry::campaigns::CampaignGuard;
pub use crate::engine::registry::outbound::CallMeter;
pub use crate::engine::registry::outbound::TrialGuard;
pub use crate::engine::registry::registrations::RegisteredWay;
pub use crate::engine::registry::registrations::RegistrationState;

use crate::call::input::Input;
use crate::call::steer::Senseless;
use crate::clock;
use crate::engine::agent_health::AgentHealth;
use crate::engine::awaited::AwaitedAgents;
use crate::engine::declines::Declines;
use crate::engine::errand::Errand;
use crate::engine::mailbox;
use crate::engine::registry::registrations::Registrations;
use crate::engine::replacement::Replacement;
use crate::routing::admission::Admission;
use crate::routing::admission::NodeLimits;
use crate::routing::admission::Permit;
use crate::routing::gateway_board::Action;
use crate::routing::gateway_board::GatewayBoard;
use crate::routing::peer_board::PeerBoard;
use crate::routing::source_rate::CHALLENGED_ADDRESS_RATE;
use crate::routing::source_rate::CHALLENGED_NETWORK_RATE;
use crate::routing::source_rate::SourceRates;
use crate::routing::table::Tenant;
use crate::routing::table::Trunk;
use crate::routing::trail::TrailKey;
use crate::routing::usage::Usage;
use crate::sip::endpoint::told::DialogName;
use crate::types::cause::HangupCause;
use crate::types::cause::Party;
use crate::types::id::CallId;
use crate::types::id::CampaignId;
use crate::types::id::TenantId;
use crate::types::id::TrunkId;
use crate::types::id_map::IdMap;
use crate::types::id_map::give_back;
use crate::types::moment::Moment;
use crate::types::random::Random;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::Notify;

/// The admission counters and the running calls; one a node.
#[derive(Debug)]
pub struct Registry {
    inner: Mutex<Inner>,
    limits: NodeLimits,
    draining: AtomicBool,
    /// The calls that wait for an agent to dial us.
    awaited: AwaitedAgents,
    /// How endpoints of agents fare.
    agents: AgentHealth,
    /// Which carriers decline calls in a row.
    declines: Declines,
    /// What this node's marks in the trails of calls are made with.
    trail_key: TrailKey,
    /// Told whenever a call leaves.
    left: Notify,
    /// Told whenever something was said of a gateway.
    board_changed: Notify,
}

#[derive(Debug)]
struct Inner {
    admission: Admission,
    /// How gateways stand.
    board: GatewayBoard,
    /// What is to be done for gateways.
    board_actions: Vec<Action>,
    /// How peers stand that are called by SIP addresses of their own.
    peers: PeerBoard,
    /// Whom challenges were sent that nobody answered yet.
    challenged: SourceRates,
    /// Calls of campaigns.
    campaigns: HashMap<CampaignId, u32>,
    /// What calls out have used.
    usage: Usage,
    random: Random,
    /// How the trunks that register stand.
    registrations: Registrations,
    calls: IdMap<CallId, Entry>,
    /// Which of them has which dialog of a caller.
    dialogs: HashMap<Arc<DialogName>, CallId>,
    /// Sources of running calls, and of calls that ended a moment ago.
    sources: HashMap<IpAddr, SourceCalls>,
}

/// A running call. Only its shard holds the queue open: when the shard gives the call up, its task
/// learns of it by the queue's end.
#[derive(Debug)]
struct Entry {
    inputs: mailbox::WeakSender<Input>,
    /// What applications ask of it.
    errands: Option<mailbox::Sender<Box<Errand>>>,
    tenant: TenantId,
    /// The trunk of its near leg.
    trunk: Arc<Trunk>,
    /// Of a call that came in; of others each leg tells its own.
    source: Option<IpAddr>,
    /// The dialog of its caller.
    dialog: Option<Arc<DialogName>>,
    /// Another leg of its caller, which the call has not answered yet.
    replacement: Option<Box<Replacement>>,
}

/// Calls of one source.
#[derive(Clone, Copy, Debug)]
struct SourceCalls {
    running: u32,
    left: Moment,
}

/// How long messages of an ended call may still come: 64·T1 (RFC 3261 §17.1.2.2).
const LINGER: Duration = Duration::from_secs(32);

/// The right to one call; dropping it gives the place back.
#[derive(Debug)]
pub struct PermitGuard {
    registry: Arc<Registry>,
    permit: Option<Permit>,
}

impl Registry {
    /// An empty registry with the node's limits.
    #[must_use]
    pub fn new(limits: NodeLimits) -> Arc<Self> {
        Arc::new(Self {
            inner: Mutex::new(Inner {
                admission: Admission::default(),
                board: GatewayBoard::new(Random::from_seed(clock::random_u64())),
                board_actions: Vec::new(),
                peers: PeerBoard::default(),
                challenged: SourceRates::new(CHALLENGED_ADDRESS_RATE, CHALLENGED_NETWORK_RATE),
                campaigns: HashMap::new(),
                usage: Usage::default(),
                random: Random::from_seed(clock::random_u64()),
                registrations: Registrations::default(),
                calls: IdMap::default(),
                dialogs: HashMap::new(),
                sources: HashMap::new(),
            }),
            limits,
            draining: AtomicBool::new(false),
            awaited: AwaitedAgents::default(),
            agents: AgentHealth::default(),
            declines: Declines::default(),
            trail_key: TrailKey::default(),
            left: Notify::new(),
            board_changed: Notify::new(),
        })
    }

    /// What this node's marks in the trails of calls are made with.
    pub(crate) const fn trail_key(&self) -> &TrailKey {
        &self.trail_key
    }

    /// Held for a few map operations at most, and never across an await.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The calls that wait for an agent to dial us.
    #[must_use]
    pub fn awaited_agents(&self) -> AwaitedAgents {
        self.awaited.clone()
    }

    /// How endpoints of agents fare.
    #[must_use]
    pub fn agent_health(&self) -> AgentHealth {
        self.agents.clone()
    }

    /// Which carriers decline calls in a row.
    #[must_use]
    pub const fn declines(&self) -> &Declines {
        &self.declines
    }

    /// Admits one call.
    ///
    /// # Errors
    /// `Draining`, `NodeLimit`, `TenantLimit` or `TrunkLimit`.
    pub fn admit(
        self: &Arc<Self>,
        now: Moment,
        tenant: &Tenant,
        trunk: &Trunk,
    ) -> Result<PermitGuard, HangupCause> {
        if self.is_draining() {
            return Err(HangupCause::Draining);
        }
        let permit = self.lock().admission.admit(now, tenant, trunk, self.limits)?;
        Ok(self.guard(permit))
    }

    fn guard(self: &Arc<Self>, permit: Permit) -> PermitGuard {
        PermitGuard { registry: Arc::clone(self), permit: Some(permit) }
    }

    /// Notes a running call from `source`.
    pub fn enter(
        &self,
        now: Moment,
        (id, tenant, trunk): (CallId, TenantId, &Arc<Trunk>),
        source: Option<IpAddr>,
        inputs: &mailbox::Sender<Input>,
    ) {
        let (inputs, trunk) = (inputs.downgrade(), Arc::clone(trunk));
        let (dialog, replacement, errands) = (None, None, None);
        let entry = Entry { inputs, errands, tenant, trunk, source, dialog, replacement };
        let mut inner = self.lock();
        inner.calls.insert(id, entry);
        if let Some(source) = source {
            inner.note_source(now, source);
        }
    }

    /// Lets messages from `source` in, beside those of trunks, until the guard is dropped and a little
    /// longer: something of ours was sent there.
    #[must_use]
    pub fn expect_from(self: &Arc<Self>, source: IpAddr) -> SourceGuard {
        self.lock().note_source(clock::now(), source);
        SourceGuard { registry: Arc::clone(self), source }
    }

    /// Forgets a call that is over; gives back a leg it was handed and never answered.
    #[must_use]
    pub(super) fn leave(&self, now: Moment, id: CallId) -> Option<Box<Replacement>> {
        let mut inner = self.lock();
        let entry = inner.calls.remove(&id);
        give_back(&mut inner.calls);
        if let Some(name) = entry.as_ref().and_then(|entry| entry.dialog.as_ref()) {
            inner.dialogs.remove(name);
            give_back(&mut inner.dialogs);
        }
        if let Some(source) = entry.as_ref().and_then(|entry| entry.source) {
            inner.leave_source(now, source);
        }
        drop(inner);
        self.left.notify_waiters();
        entry?.replacement
    }

    /// True while calls from `source` run, or ended so recently that their messages may still come.
    /// A change of trunks cuts no call: what belongs to one that runs is heard from wherever it was
    /// set up.
    #[must_use]
    pub fn has_calls_from(&self, now: Moment, source: IpAddr) -> bool {
        let calls = self.lock().sources.get(&source).copied();
        calls.is_some_and(|calls| calls.running > 0 || now.since(calls.left) < LINGER)
    }

    /// Whether `source`, which has proved nothing, may be sent more than came in its name. The node has one measure,
    /// whatever shards its Call-IDs belong to.
    #[must_use]
    pub(super) fn may_challenge(&self, now: Moment, source: IpAddr) -> bool {
        self.lock().challenged.take(now, source)
    }

    /// Who was challenged there has the answer, so that it was no burden.
    pub(super) fn challenge_answered(&self, source: IpAddr) {
        self.lock().challenged.give_back(source);
    }

    /// How many calls run.
    #[must_use]
    pub fn live(&self) -> usize {
        self.lock().calls.len()
    }

    /// How many calls are on a trunk, both ways.
    #[must_use]
    pub fn calls_of_trunk(&self, trunk: TrunkId) -> u32 {
        self.lock().admission.calls_of_trunk(trunk)
    }

    /// From now on no call is admitted.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Release);
    }

    /// True once [`Self::drain`] was called.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// Asks every running call to end. A call whose queue is full or closed is given up by its shard.
    pub fn hang_up_all(&self, cause: HangupCause) {
        let inner = self.lock();
        let calls: Vec<_> = inner.calls.values().filter_map(|call| call.inputs.upgrade()).collect();
        drop(inner);
        for call in calls {
            drop(call.try_send(Input::HangupRequested { cause, by: Party::Switch }));
        }
    }

    /// Tells a running call of `tenant` what is asked of it.
    ///
    /// # Errors
    /// [`Unheard`]: nobody heard it.
    pub fn tell(&self, tenant: TenantId, id: CallId, input: Input) -> Result<(), Unheard> {
        let inner = self.lock();
        // Of a call of somebody else nobody learns that it runs.
        let entry = inner.calls.get(&id).filter(|entry| entry.tenant == tenant);
        let inputs = entry.and_then(|entry| entry.inputs.upgrade()).ok_or(Unheard::NoSuchCall)?;
        drop(inner);
        inputs.try_send(input).map_err(|_| Unheard::Busy)
    }

    /// A running call takes from now on what applications ask.
    pub(super) fn take_errands(&self, id: CallId, errands: mailbox::Sender<Box<Errand>>) {
        if let Some(entry) = self.lock().calls.get_mut(&id) {
            entry.errands = Some(errands);
        }
    }

    /// Asks something of a running call of `tenant`.
    ///
    /// # Errors
    /// [`Unheard`]: nobody heard it.
    pub(super) fn ask(
        &self,
        tenant: TenantId,
        id: CallId,
        errand: Box<Errand>,
    ) -> Result<(), Unheard> {
        let inner = self.lock();
        // Of a call of somebody else nobody learns that it runs.
        let entry = inner.calls.get(&id).filter(|entry| entry.tenant == tenant);
        let errands = entry.and_then(|entry| entry.errands.clone()).ok_or(Unheard::NoSuchCall)?;
        drop(inner);
        errands.try_send(errand).map_err(|unheard| match unheard {
            mailbox::Untaken::Full(_) => Unheard::Busy,
            // It ended a moment ago.
            mailbox::Untaken::Closed(_) => Unheard::NoSuchCall,
        })
    }

    /// The calls of `tenant` that run here, the newest first, behind `after`.
    #[must_use]
    pub fn running(&self, tenant: TenantId, after: Option<CallId>) -> Vec<CallId> {
        let inner = self.lock();
        let own = inner.calls.iter().filter(|(_, entry)| entry.tenant == tenant);
        let mut ids: Vec<CallId> = own.map(|(id, _)| *id).collect();
        drop(inner);
        ids.retain(|id| after.is_none_or(|after| id.uuid() < after.uuid()));
        ids.sort_unstable_by_key(|id| std::cmp::Reverse(id.uuid()));
        ids
    }

    /// True while a call of `tenant` runs here.
    #[must_use]
    pub fn is_running(&self, tenant: TenantId, id: CallId) -> bool {
        self.lock().calls.get(&id).is_some_and(|entry| entry.tenant == tenant)
    }

    /// The near leg of a call is tried by another trunk now.
    pub fn moved_to(&self, id: CallId, trunk: &Arc<Trunk>) {
        if let Some(entry) = self.lock().calls.get_mut(&id) {
            entry.trunk = Arc::clone(trunk);
        }
    }

    /// The trunk of the near leg of a running call of `tenant`.
    #[must_use]
    pub fn trunk_of(&self, tenant: TenantId, id: CallId) -> Option<Arc<Trunk>> {
        let inner = self.lock();
        let entry = inner.calls.get(&id).filter(|entry| entry.tenant == tenant);
        entry.map(|entry| Arc::clone(&entry.trunk))
    }

    /// Waits until no call runs.
    pub async fn wait_until_empty(&self) {
        loop {
            let left = self.left.notified();
            if self.live() == 0 {
                return;
            }
            left.await;
        }
    }
}

/// Why a call was not told something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unheard {
    /// The tenant has no such call on this node.
    #[error("no such call runs here")]
    NoSuchCall,
    /// The carrier of the call's trunk is not asked for transfers.
    #[error("the trunk's carrier does not transfer")]
    NoRefer,
    /// The target may not be called.
    #[error("the target may not be called: {0}")]
    Refused(HangupCause),
    /// It makes no sense at this moment.
    #[error(transparent)]
    Senseless(#[from] Senseless),
    /// The call's queue is full.
    #[error("the call takes nothing more at this moment")]
    Busy,
}

/// Messages from a source are let in while this lives.
#[derive(Debug)]
pub struct SourceGuard {
    registry: Arc<Registry>,
    source: IpAddr,
}

impl Drop for SourceGuard {
    fn drop(&mut self) {
        self.registry.lock().leave_source(clock::now(), self.source);
    }
}

impl Inner {
    fn note_source(&mut self, now: Moment, source: IpAddr) {
        // Bounded by the sources trunks list and the gateways they name: only their calls get here.
        self.sources.retain(|_, calls| calls.running > 0 || now.since(calls.left) < LINGER);
        let calls = self.sources.entry(source).or_insert(SourceCalls { running: 0, left: now });
        calls.running += 1;
    }

    fn leave_source(&mut self, now: Moment, source: IpAddr) {
        if let Some(calls) = self.sources.get_mut(&source) {
            calls.running = calls.running.saturating_sub(1);
            calls.left = now;
        }
    }
}

impl Drop for PermitGuard {
    fn drop(&mut self) {
        if let Some(permit) = self.permit.take() {
            self.registry.lock().admission.release(permit);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    const SOURCE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn trunk() -> Arc<Trunk> {
        let id = crate::types::id::TrunkId::from_uuid(clock::new_uuid());
        Arc::new(Trunk::new(id, "carrier", Vec::new()))
    }

    #[tokio::test]
    async fn a_call_its_shard_gives_up_learns_of_it_by_the_end_of_its_queue() {
        let registry = Registry::new(NodeLimits::default());
        let (inputs, mut queue) = mailbox::bounded(1);
        let tenant = TenantId::from_uuid(clock::new_uuid());
        registry.enter(
            Moment::START,
            (clock::new_call_id(), tenant, &trunk()),
            Some(SOURCE),
            &inputs,
        );
        registry.hang_up_all(HangupCause::Draining);
        assert!(matches!(queue.recv().await, Some(Input::HangupRequested { .. })));
        drop(inputs);
        assert_eq!(queue.recv().await, None);
    }

    #[tokio::test]
    async fn a_source_is_remembered_while_its_calls_run_and_a_little_longer() {
        let registry = Registry::new(NodeLimits::default());
        let (inputs, _queue) = mailbox::bounded(1);
        let id = clock::new_call_id();
        assert!(!registry.has_calls_from(Moment::START, SOURCE));
        let tenant = TenantId::from_uuid(clock::new_uuid());
        registry.enter(Moment::START, (id, tenant, &trunk()), Some(SOURCE), &inputs);
        let told = |tenant, id| {
            let input = Input::TransferWithdrawn;
            registry.tell(tenant, id, input)
        };
        assert_eq!(told(TenantId::from_uuid(clock::new_uuid()), id), Err(Unheard::NoSuchCall));
        assert_eq!(told(tenant, id), Ok(()));
        assert_eq!(told(tenant, id), Err(Unheard::Busy));
        // A try by another trunk answered: what its carrier is asked is judged by that one.
        let other = trunk();
        registry.moved_to(id, &other);
        assert_eq!(registry.trunk_of(tenant, id).map(|trunk| trunk.id), Some(other.id));
        let hour = Moment::from_millis(3_600_000);
        assert!(registry.has_calls_from(hour, SOURCE));
        assert!(registry.leave(hour, id).is_none());
        assert!(registry.has_calls_from(hour + Duration::from_secs(31), SOURCE));
        assert!(!registry.has_calls_from(hour + LINGER, SOURCE));
    }
}
