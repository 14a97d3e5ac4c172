//! What is told of calls that are over: what they did not come to tell themselves, such as recordings that were closed
//! late and turns that a kill cut off; and that nothing more is to be told.

use crate::api::EventHub;
use crate::engine::trace::Traces;
use crate::store::database::Database;
use crate::store::live_events;
use crate::types::id::CallId;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::sync::watch;

/// Calls that are told of at once.
const CALLS: i32 = 100;
/// How often is looked whether there is anything to tell.
const PERIOD: Duration = Duration::from_secs(2);
/// The same after the database failed.
const AWAY_PERIOD: Duration = Duration::from_secs(5);

/// Tells until `stop` turns true. What is told then is told after the next start, by whatever node.
pub(super) async fn run(database: Database, events: EventHub, mut stop: watch::Receiver<bool>) {
    loop {
        let pause = match live_events::tell_news_all_tenants(&database, CALLS).await {
            Ok(told) => {
                for (tenant, event) in told {
                    events.tell(tenant, event);
                }
                PERIOD
            }
            Err(error) => {
                tracing::debug!(%error, "what calls did not tell is told later");
                AWAY_PERIOD
            }
        };
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Takes calls whose data are erased, by whatever node, out of the memory of this one.
pub(super) async fn forget(
    mut erased: mpsc::Receiver<Vec<CallId>>,
    (traces, events): (Traces, EventHub),
) {
    while let Some(calls) = erased.recv().await {
        calls.iter().for_each(|call| traces.forget(*call));
        events.forget(&calls);
    }
}
