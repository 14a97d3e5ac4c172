//! `Turns`: what few requests may do at once, because each keeps something of the node for long.

use crate::types::id::CallId;
use crate::types::limit::COMMANDS_ASKED_MAX;
use crate::types::limit::EXPORTS_MAX;
use crate::types::limit::SHOWN_ASKED_MAX;
use crate::types::limit::SILENT_CALLS_MAX;
use crate::types::moment::Moment;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::Semaphore;

/// How long a call that no node said to have is not looked for again: it may be one of a node that died, and those are
/// many.
const SILENCE: Duration = Duration::from_secs(30);

/// The turns of one interface.
#[derive(Debug)]
pub struct Turns {
    exports: Arc<Semaphore>,
    asked: Arc<Semaphore>,
    looks: Arc<Semaphore>,
    /// Calls that no node said to have, and when that was.
    silent: Mutex<HashMap<CallId, Moment>>,
}

/// Who has it may; given back when it is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    _permit: OwnedSemaphorePermit,
}

impl Default for Turns {
    fn default() -> Self {
        let of = |many| Arc::new(Semaphore::new(many));
        Self {
            exports: of(EXPORTS_MAX),
            asked: of(COMMANDS_ASKED_MAX),
            looks: of(SHOWN_ASKED_MAX),
            silent: Mutex::default(),
        }
    }
}

impl Turns {
    /// To export a number's data, which keeps a connection to the database.
    pub(super) fn export(&self) -> Option<Turn> {
        take(&self.exports)
    }

    /// To ask other nodes something of a call, which asks the database again and again.
    pub(super) fn ask(&self) -> Option<Turn> {
        take(&self.asked)
    }

    /// To ask other nodes how a call stands: who only looks takes no turn of a command.
    pub(super) fn look(&self) -> Option<Turn> {
        take(&self.looks)
    }

    /// Whether no node said a moment ago that it has this call.
    pub(super) fn is_silent(&self, call: CallId, now: Moment) -> bool {
        let silent = self.silent.lock().unwrap_or_else(PoisonError::into_inner);
        silent.get(&call).is_some_and(|since| *since + SILENCE > now)
    }

    /// No node says that it has this call.
    pub(super) fn note_silent(&self, call: CallId, now: Moment) {
        let mut silent = self.silent.lock().unwrap_or_else(PoisonError::into_inner);
        if silent.len() >= SILENT_CALLS_MAX {
            silent.retain(|_, since| *since + SILENCE > now);
        }
        if silent.len() >= SILENT_CALLS_MAX {
            silent.clear();
        }
        silent.insert(call, now);
    }
}

fn take(turns: &Arc<Semaphore>) -> Option<Turn> {
    let permit = Arc::clone(turns).try_acquire_owned().ok()?;
    Some(Turn { _permit: permit })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    #[test]
    fn who_only_looks_leaves_commands_their_turns_and_asks_the_silent_once_in_a_while() {
        let turns = Turns::default();
        let looks: Vec<_> = std::iter::from_fn(|| turns.look()).collect();
        assert_eq!(looks.len(), SHOWN_ASKED_MAX);
        assert!(turns.ask().is_some());
        drop(looks);
        assert!(turns.look().is_some());

        let (call, begun) = (clock::new_call_id(), Moment::START);
        assert!(!turns.is_silent(call, begun));
        turns.note_silent(call, begun);
        assert!(turns.is_silent(call, begun));
        assert!(!turns.is_silent(clock::new_call_id(), begun));
        assert!(!turns.is_silent(call, begun + SILENCE));
        for _ in 0..2 * SILENT_CALLS_MAX {
            turns.note_silent(clock::new_call_id(), begun);
        }
        assert!(turns.silent.lock().unwrap().len() <= SILENT_CALLS_MAX);
    }
}
