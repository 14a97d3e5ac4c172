//! `Turns`: what few requests may do at once, because each keeps something of the node for long.

use crate::types::limit::COMMANDS_ASKED_MAX;
use crate::types::limit::EXPORTS_MAX;
use std::sync::Arc;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::Semaphore;

/// The turns of one interface.
#[derive(Debug)]
pub struct Turns {
    exports: Arc<Semaphore>,
    asked: Arc<Semaphore>,
}

/// Who has it may; given back when it is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    _permit: OwnedSemaphorePermit,
}

impl Default for Turns {
    fn default() -> Self {
        let of = |many| Arc::new(Semaphore::new(many));
        Self { exports: of(EXPORTS_MAX), asked: of(COMMANDS_ASKED_MAX) }
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
}

fn take(turns: &Arc<Semaphore>) -> Option<Turn> {
    let permit = Arc::clone(turns).try_acquire_owned().ok()?;
    Some(Turn { _permit: permit })
}
