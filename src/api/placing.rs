//! `Placing`: which calls this process placed for requests that name themselves. Whoever sends such a request again gets
//! the same call, also while neither its record nor the answer is in the database.

use crate::types::id::CallId;
use crate::types::id::NodeId;
use crate::types::limit::PLACED_CALLS_MAX;
use std::collections::HashSet;
use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::PoisonError;
use tokio::sync::watch;

/// What this process placed, and whether all that an earlier one did is known.
#[derive(Debug)]
pub struct Placing {
    node: NodeId,
    caught_up: watch::Receiver<bool>,
    placed: Mutex<Placed>,
}

#[derive(Debug, Default)]
struct Placed {
    known: HashSet<CallId>,
    in_order: VecDeque<CallId>,
}

/// What a node knows of a call that it began to place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Past {
    /// This process placed it.
    Placed,
    /// It was not placed: its record would be in the database.
    NotPlaced,
    /// An earlier process of this node may have: its records are not all in the database.
    Unknown,
}

impl Placing {
    /// For a node; `caught_up` turns true once all records of its earlier processes are in the database.
    #[must_use]
    pub fn new(node: NodeId, caught_up: watch::Receiver<bool>) -> Self {
        Self { node, caught_up, placed: Mutex::default() }
    }

    /// Which node this is.
    pub(super) const fn node(&self) -> NodeId {
        self.node
    }

    /// A call is about to be placed. Of too many the oldest is forgotten.
    pub(super) fn note(&self, call: CallId) {
        let mut placed = self.placed.lock().unwrap_or_else(PoisonError::into_inner);
        if !placed.known.insert(call) {
            return;
        }
        placed.in_order.push_back(call);
        if placed.in_order.len() > PLACED_CALLS_MAX
            && let Some(oldest) = placed.in_order.pop_front()
        {
            placed.known.remove(&oldest);
        }
    }

    /// It was refused: nothing was placed.
    pub(super) fn forget(&self, call: CallId) {
        let mut placed = self.placed.lock().unwrap_or_else(PoisonError::into_inner);
        if placed.known.remove(&call) {
            placed.in_order.retain(|known| *known != call);
        }
    }

    /// What became of a call that this node began to place, and of which the database has no record.
    pub(super) fn past(&self, call: CallId) -> Past {
        let placed = self.placed.lock().unwrap_or_else(PoisonError::into_inner);
        match (placed.known.contains(&call), *self.caught_up.borrow()) {
            (true, _) => Past::Placed,
            (false, true) => Past::NotPlaced,
            (false, false) => Past::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    #[test]
    fn what_was_placed_is_known_and_what_was_not_only_once_all_records_are_stored() {
        let (caught_up, watched) = watch::channel(false);
        let placing = Placing::new(clock::new_node_id(), watched);
        let (ours, other) = (clock::new_call_id(), clock::new_call_id());
        placing.note(ours);
        assert_eq!((placing.past(ours), placing.past(other)), (Past::Placed, Past::Unknown));
        let refused = clock::new_call_id();
        placing.note(refused);
        placing.forget(refused);
        caught_up.send_replace(true);
        assert_eq!(placing.past(refused), Past::NotPlaced, "it may be placed again");
        assert_eq!((placing.past(ours), placing.past(other)), (Past::Placed, Past::NotPlaced));
        for _ in 0..PLACED_CALLS_MAX {
            placing.note(clock::new_call_id());
        }
        assert_eq!(placing.past(ours), Past::NotPlaced, "memory is bounded");
    }
}
