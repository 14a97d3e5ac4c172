//! Ways back: how a peer is reached once the connection that its dialog used is gone.

use crate::net::connect::Destination;
use crate::net::flow::Flows;
use crate::net::flow::SendError;
use crate::sip::endpoint::flow::Flow;
use crate::sip::endpoint::flow::FlowId;
use crate::types::transport::Transport;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

/// The ways that dialogs may need; as many as there are [`WayBack`]s.
#[derive(Debug, Default)]
pub(crate) struct WaysBack(Mutex<HashMap<FlowId, Arc<Destination>>>);

impl WaysBack {
    // Held for one map operation, in which nothing panics.
    fn lock(&self) -> MutexGuard<'_, HashMap<FlowId, Arc<Destination>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A peer can be reached by its [`flow`](Self::flow) while this lives: by the transport, the source and the
/// proof of who it is that its leg was set up by.
#[derive(Debug)]
pub struct WayBack {
    flows: Flows,
    flow: Flow,
}

impl WayBack {
    /// What to send by, once the connection there was is gone.
    #[must_use]
    pub const fn flow(&self) -> Flow {
        self.flow
    }
}

impl Drop for WayBack {
    fn drop(&mut self) {
        self.flows.ways_back().lock().remove(&self.flow.id);
    }
}

impl Flows {
    /// Keeps in mind how `to` is reached. Nothing is opened before something is sent.
    #[must_use]
    pub fn keep_way(&self, to: Destination) -> WayBack {
        let flow = Flow {
            id: FlowId::way_back(self.mint().0),
            listener: to.listener,
            transport: to.transport,
            local: to.bind_address(),
            remote: to.remote,
        };
        self.ways_back().lock().insert(flow.id, Arc::new(to));
        WayBack { flows: self.clone(), flow }
    }

    /// The connection by which a stream flow that names none goes: one of ours that was set up by the same
    /// terms, opened where there is none. Over TLS there is none without terms, since nobody says whom to
    /// trust.
    pub(crate) fn connection_for(&self, flow: &Flow) -> Result<FlowId, SendError> {
        let kept = self.ways_back().lock().get(&flow.id).cloned();
        let to = match (kept, flow.transport) {
            (Some(kept), transport) if kept.transport == transport => {
                Destination { remote: flow.remote, ..Destination::clone(&kept) }
            }
            (_, Transport::Tcp) => Destination::plain(Transport::Tcp, flow.remote, flow.listener),
            (_, Transport::Tls | Transport::Udp) => return Err(SendError::Gone),
        };
        self.connect(&to).map(|flow| flow.id).map_err(|_| SendError::Gone)
    }
}
