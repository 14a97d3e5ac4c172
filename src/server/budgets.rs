//! The budgets of calls out after a restart: what calls of the day used before it.

use crate::clock;
use crate::engine::switch::Switch;
use crate::store::database::Database;
use crate::store::past_calls;
use crate::types::limit::PAST_CALLS_MAX;
use jiff::SignedDuration;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use uuid::Uuid;

/// How far back a call may have begun that counts today: a day in the zone farthest ahead, and a call
/// that ran as long as calls may.
const BACK: SignedDuration = SignedDuration::from_hours(72);
/// Calls of one query.
const PAGE: u32 = 10_000;
/// How long the start waits for it.
const START_PATIENCE: Duration = Duration::from_secs(3);
const RETRY: Duration = Duration::from_secs(2);

/// Reckons the calls of before this start into the budgets, once the database has all their records.
/// Waits a short while for that; when the database is away it is done as soon as it is back.
pub(super) async fn restore(
    switch: &Arc<Switch>,
    database: &Database,
    mut caught_up: watch::Receiver<bool>,
    mut stopping: watch::Receiver<bool>,
) {
    let end = clock::new_uuid();
    let first = past_calls::first_id(clock::wall_now().saturating_sub(BACK).unwrap_or_default());
    let (switch, database) = (Arc::clone(switch), database.clone());
    let mut restoring: JoinHandle<()> = tokio::spawn(async move {
        let restored = async {
            // A journal whose uploader is gone has nothing more to bring.
            drop(caught_up.wait_for(|done| *done).await);
            restore_all(&switch, &database, (first, end)).await;
        };
        tokio::select! {
            () = restored => (),
            _ = stopping.wait_for(|stop| *stop) => (),
        }
    });
    if tokio::time::timeout(START_PATIENCE, &mut restoring).await.is_err() {
        tracing::warn!(
            "the database does not say what calls out used today: their daily budgets begin at zero until \
             it does"
        );
    }
}

async fn restore_all(switch: &Switch, database: &Database, (first, end): (Uuid, Uuid)) {
    let mut count = 0;
    for kind in [Kind::CallOut, Kind::LegOut] {
        let mut next = Some(end);
        while let Some(end) = next.filter(|_| count < PAST_CALLS_MAX) {
            let page = match kind {
                Kind::CallOut => past_calls::ended_all_tenants(database, (first, end), PAGE).await,
                Kind::LegOut => past_calls::legs_all_tenants(database, (first, end), PAGE).await,
            };
            match page {
                Ok((calls, rest)) => {
                    switch.registry.restore_usage(&switch.table.load(), &calls);
                    count += calls.len();
                    next = rest;
                }
                Err(error) => {
                    tracing::debug!(%error, "the calls of the day cannot be read");
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }
    if count > 0 {
        tracing::info!(calls = count, "the daily budgets of calls out go on from before the start");
    }
}

/// What was paid for.
#[derive(Clone, Copy)]
enum Kind {
    /// A call that was placed.
    CallOut,
    /// A leg that a call in went on to.
    LegOut,
}
