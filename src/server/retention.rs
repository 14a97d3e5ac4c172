//! Deletes what is over its time, in small batches, on one node at a time; and closes what nobody else will.

use crate::store::database::Database;
use crate::store::lost_calls;
use crate::store::privacy;
use crate::telemetry::metric;
use crate::telemetry::metric::Counter;
use std::time::Duration;
use tokio::sync::watch;

/// How often is looked for what is old.
const PERIOD: Duration = Duration::from_secs(600);
/// The same after the database failed.
const RETRY: Duration = Duration::from_secs(5);
/// Between two batches others have their turn.
const BREATH: Duration = Duration::from_millis(50);
/// How long records are kept that are no tenant's, such as those of sources that were refused.
const NOBODYS_DAYS: u16 = 30;

/// What is deleted, as the metric names it.
const KINDS: [&str; 6] = ["calls", "refused", "traces", "audit", "recordings", "transcripts"];

/// Deletes until `stop` turns true.
pub(super) async fn run(database: Database, mut stop: watch::Receiver<bool>) {
    let work = async {
        let mut sight = Sight::default();
        loop {
            // Neither waits for the other: what is over its time goes, whatever becomes of calls that nobody ends.
            let forgot = forget(&database).await;
            let closed = !sight.is_clear_after(forgot) || close_lost(&database).await;
            let is_done = forgot && closed;
            let pause = if is_done { PERIOD } else { RETRY };
            tokio::time::sleep(pause).await;
        }
    };
    tokio::select! {
        () = work => {}
        _ = stop.wait_for(|stop| *stop) => {}
    }
}

/// Whether nodes that were not seen for long can be taken for lost. After a start, or when the database was away, it may
/// only be that none could say that it is there: they have the time between two looks for it, and to store their records.
#[derive(Debug, Default)]
struct Sight {
    was_well: bool,
}

impl Sight {
    /// The database answered at this look, or did not; whether it does since the look before.
    fn is_clear_after(&mut self, is_well: bool) -> bool {
        std::mem::replace(&mut self.was_well, is_well) && is_well
    }
}

/// Closes the calls of nodes that do not come back; false where the database failed.
async fn close_lost(database: &Database) -> bool {
    loop {
        match lost_calls::close_all_tenants(database).await {
            Ok(0) => return true,
            Ok(calls) => {
                tracing::warn!(calls, "ended the records of calls whose node is lost for a day");
            }
            Err(error) => {
                tracing::warn!(%error, "the calls of lost nodes cannot be closed");
                return false;
            }
        }
        tokio::time::sleep(BREATH).await;
    }
}

/// Deletes until nothing is left that is old; false where the database failed.
async fn forget(database: &Database) -> bool {
    loop {
        let done = match privacy::forget_all_tenants(database, NOBODYS_DAYS).await {
            Ok(done) => done,
            Err(error) => {
                tracing::debug!(%error, "what is old cannot be deleted");
                return false;
            }
        };
        for kind in &done {
            let label = KINDS.into_iter().find(|label| *label == kind.what);
            if let (Some(label), Ok(deleted)) = (label, u64::try_from(kind.deleted)) {
                metric::labelled(Counter::RetentionDeleted, label).increment(deleted);
            }
        }
        if done.iter().all(|kind| kind.deleted == 0) {
            return true;
        }
        tokio::time::sleep(BREATH).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_have_time_to_say_that_they_are_there_before_they_are_called_lost() {
        let mut sight = Sight::default();
        let looks =
            [true, true, true, false, true, true].map(|is_well| sight.is_clear_after(is_well));
        assert_eq!(looks, [false, true, true, false, false, true]);
    }
}
