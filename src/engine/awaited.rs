//! Agents that dial us: each call that waits for one has an id that nobody can guess, good for one connection
//! and only as long as the call waits.

use crate::clock;
use crate::net::websocket;
use crate::net::websocket::CameWebSocket;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use tokio::sync::oneshot;

/// The calls that wait for an agent to dial us. Cheap to clone.
#[derive(Clone, Default)]
pub struct AwaitedAgents(Arc<Mutex<HashMap<String, oneshot::Sender<CameWebSocket>>>>);

/// An agent's place in a call that waits for it; dropping it lets that call wait for another.
#[derive(Debug)]
pub struct Place(oneshot::Sender<CameWebSocket>);

/// A call that waits; dropping it ends that.
#[derive(Debug)]
pub(super) struct Awaited {
    agents: AwaitedAgents,
    id: String,
    came: oneshot::Receiver<CameWebSocket>,
}

impl fmt::Debug for AwaitedAgents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AwaitedAgents").field("waiting", &self.lock().len()).finish()
    }
}

impl AwaitedAgents {
    /// Nothing is kept under the lock that a panic could leave half done.
    fn lock(&self) -> MutexGuard<'_, HashMap<String, oneshot::Sender<CameWebSocket>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for an agent under a new id.
    pub(super) fn wait(&self) -> Awaited {
        let id = format!("{:016x}{:016x}", clock::random_u64(), clock::random_u64());
        let (give, came) = oneshot::channel();
        self.lock().insert(id.clone(), give);
        Awaited { agents: self.clone(), id, came }
    }

    /// The place that an agent which names `id` takes; `None`: no call waits under it, or somebody took it.
    #[must_use]
    pub fn take(&self, id: &str) -> Option<Place> {
        self.lock().remove(id).map(Place)
    }
}

impl Place {
    /// The agent is there: the handshake of this connection was answered.
    pub async fn fill(self, connection: TokioIo<Upgraded>) {
        let stream = websocket::came(connection).await;
        if self.0.send(stream).is_err() {
            tracing::debug!("an agent came to a call that waits no more");
        }
    }
}

impl Awaited {
    /// What the agent has to name.
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// The connection, once it is there; `None`: it was begun and came to nothing.
    pub(super) async fn came(mut self) -> Option<CameWebSocket> {
        (&mut self.came).await.ok()
    }
}

impl Drop for Awaited {
    fn drop(&mut self) {
        self.agents.lock().remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_good_once_and_only_while_its_call_waits() {
        let agents = AwaitedAgents::default();
        let (first, second) = (agents.wait(), agents.wait());
        assert_ne!(first.id(), second.id());
        assert_eq!(first.id().len(), 32);
        assert!(agents.take("").is_none() && agents.take("0").is_none());
        assert!(agents.take(first.id()).is_some());
        assert!(agents.take(first.id()).is_none(), "taken");
        let id = second.id().to_owned();
        drop(second);
        assert!(agents.take(&id).is_none(), "nobody waits any more");
        drop(first);
        assert!(agents.lock().is_empty());
    }
}
