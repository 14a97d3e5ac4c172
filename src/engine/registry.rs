//! The registry: which calls run on this node, and who may begin another.

use crate::call::input::Input;
use crate::routing::admission::Admission;
use crate::routing::admission::NodeLimits;
use crate::routing::admission::Permit;
use crate::routing::table::Tenant;
use crate::routing::table::Trunk;
use crate::types::cause::HangupCause;
use crate::types::cause::Party;
use crate::types::id::CallId;
use crate::types::moment::Moment;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use tokio::sync::Notify;
use tokio::sync::mpsc;

/// The admission counters and the running calls; one a node.
#[derive(Debug)]
pub struct Registry {
    inner: Mutex<Inner>,
    limits: NodeLimits,
    draining: AtomicBool,
    /// Told whenever a call leaves.
    left: Notify,
}

#[derive(Debug)]
struct Inner {
    admission: Admission,
    calls: HashMap<CallId, mpsc::Sender<Input>>,
}

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
            inner: Mutex::new(Inner { admission: Admission::default(), calls: HashMap::new() }),
            limits,
            draining: AtomicBool::new(false),
            left: Notify::new(),
        })
    }

    /// Held for a few map operations at most, and never across an await.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
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
        Ok(PermitGuard { registry: Arc::clone(self), permit: Some(permit) })
    }

    /// Notes a running call.
    pub fn enter(&self, id: CallId, inputs: mpsc::Sender<Input>) {
        self.lock().calls.insert(id, inputs);
    }

    /// Forgets a call that is over.
    pub fn leave(&self, id: CallId) {
        self.lock().calls.remove(&id);
        self.left.notify_waiters();
    }

    /// How many calls run.
    #[must_use]
    pub fn live(&self) -> usize {
        self.lock().calls.len()
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

    /// Asks every running call to end. A call whose queue is full ends by that alone.
    pub fn hang_up_all(&self, cause: HangupCause) {
        let calls: Vec<_> = self.lock().calls.values().cloned().collect();
        for call in calls {
            // A full or closed queue: that call is already ending.
            drop(call.try_send(Input::HangupRequested { cause, by: Party::Switch }));
        }
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

impl Drop for PermitGuard {
    fn drop(&mut self) {
        if let Some(permit) = self.permit.take() {
            self.registry.lock().admission.release(permit);
        }
    }
}
