//! Carriers that decline every call before they ring anybody: an account that is suspended, or out of funds, rather than
//! people who do not want to talk.

use crate::routing::table::RoutingTable;
use crate::routing::trunk::Trunk;
use crate::telemetry::metric;
use crate::telemetry::metric::Gauge;
use crate::types::id::TrunkId;
use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

/// The status of one that declines.
pub(super) const DECLINE: u16 = 603;

/// Calls in a row after which they are all.
const ALL: u32 = 5;

/// How many calls in a row the carrier of each trunk declined, before anybody was rung.
#[derive(Debug, Default)]
pub struct Declines(Mutex<HashMap<TrunkId, u32>>);

impl Declines {
    /// One more was.
    pub(super) fn declined(&self, trunk: &Trunk) {
        let mut all = self.lock();
        let count = all.entry(trunk.id).or_default();
        *count = count.saturating_add(1);
        if *count == ALL {
            tracing::error!(
                trunk = trunk.name,
                calls = ALL,
                "a carrier declines every call (603): its account may be suspended, or out of funds"
            );
        }
    }

    /// Something else became of one: somebody was rung, or it was refused for another reason.
    pub(super) fn served(&self, trunk: &Trunk) {
        if self.lock().remove(&trunk.id).is_some_and(|count| count >= ALL) {
            tracing::info!(
                trunk = trunk.name,
                "a carrier that declined every call takes them again"
            );
        }
    }

    /// Shows how many trunks of the table decline every call, and forgets those that are none of it any more.
    #[expect(clippy::cast_precision_loss, reason = "a figure for display")]
    pub fn show(&self, table: &RoutingTable) {
        let mut all = self.lock();
        all.retain(|id, _| table.trunk(*id).is_some_and(|trunk| trunk.enabled));
        let declining = all.values().filter(|count| **count >= ALL).count();
        drop(all);
        metric::set(Gauge::TrunksDeclining, declining as f64);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<TrunkId, u32>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing::contents::Contents;
    use crate::routing::outbound::tests::trunk;
    use metrics_exporter_prometheus::PrometheusBuilder;

    #[test]
    fn a_trunk_that_declines_every_call_is_shown_until_it_takes_one_or_is_gone() {
        let recorder = PrometheusBuilder::new().build_recorder();
        let table = |trunks| RoutingTable::new(Contents { trunks, ..Contents::default() });
        let declines = Declines::default();
        let shown = |table: &RoutingTable, expected: u32| {
            metrics::with_local_recorder(&recorder, || declines.show(table));
            let text = recorder.handle().render();
            assert!(text.contains(&format!("trunks_declining {expected}\n")), "{text}");
        };
        let [one, other] = [1, 2].map(|id| trunk(id, |_| {}));
        let both = table(vec![one.clone(), other.clone()]);
        for call in 1..=2 * ALL {
            declines.declined(&one);
            declines.declined(&other);
            // Of the other every second one is answered.
            if call % 2 == 0 {
                declines.served(&other);
            }
            shown(&both, u32::from(call >= ALL));
        }
        declines.served(&one);
        shown(&both, 0);
        for _ in 0..ALL {
            declines.declined(&other);
        }
        shown(&both, 1);
        shown(&table(vec![one]), 0);
        shown(&both, 0);
    }
}
