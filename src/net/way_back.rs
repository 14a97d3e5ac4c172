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
    /// Keeps in mind how `to` is reached. Nothing is opened before something is sent. Then it may take as long as any
    /// connection: what hurries the first one, that another way is left, holds no longer.
    #[must_use]
    pub fn keep_way(&self, to: Destination) -> WayBack {
        let flow = Flow {
            id: FlowId::way_back(self.mint().0),
            listener: to.listener,
            transport: to.transport,
            local: to.bind_address(),
            remote: to.remote,
        };
        let to = Destination { connect_within: None, ..to };
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::flow::FlowLimits;
    use std::time::Duration;

    #[test]
    fn a_connection_is_opened_again_without_the_hurry_of_the_first() {
        let flows = Flows::new(FlowLimits::default());
        let remote = "192.0.2.1:5060".parse().unwrap();
        let hurried = Destination {
            connect_within: Some(Duration::from_millis(250)),
            ..Destination::plain(Transport::Tcp, remote, 0)
        };
        let way = flows.keep_way(hurried);
        let kept = flows.ways_back().lock().get(&way.flow().id).cloned().expect("it is kept");
        assert_eq!((kept.connect_within, kept.remote), (None, remote));
    }
}
