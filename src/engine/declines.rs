//! Carriers that decline calls in a row before they ring anybody: an account that is suspended, or out of funds, or
//! numbers that want no calls from us, rather than people who do not want to talk.

use crate::routing::table::RoutingTable;
use crate::routing::trunk::Trunk;
use crate::telemetry::metric;
use crate::telemetry::metric::Gauge;
use crate::types::id::CallId;
use crate::types::id::TrunkId;
use crate::types::moment::Moment;
use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

/// The status of one that declines.
const DECLINE: u16 = 603;

/// Calls in a row after which a carrier is told of.
const MANY: usize = 5;
/// Shortest time between the first of them and the last: a few numbers that a campaign calls at once may all be blocked.
const APART: Duration = Duration::from_secs(60);

/// The calls in a row that the carrier of each trunk declined, before anybody was rung.
#[derive(Debug, Default)]
pub struct Declines(Mutex<HashMap<TrunkId, InARow>>);

#[derive(Debug)]
struct InARow {
    since: Moment,
    /// The first [`MANY`] of them. One that several gateways declined is one.
    calls: Vec<CallId>,
    is_told: bool,
}

/// What a final status says of a carrier that rang nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// It declines the call.
    Declined,
    /// It asked for whom is called.
    Served,
    /// It has no room, no answer, or something against us: nothing that tells one from the other.
    Nothing,
}

/// What this final status says.
pub(super) const fn said_by(status: u16) -> Said {
    match status {
        DECLINE => Said::Declined,
        404 | 410 | 480 | 484..=488 | 600 | 604 | 606..=608 => Said::Served,
        _ => Said::Nothing,
    }
}

impl Declines {
    /// This call was.
    pub(super) fn declined(&self, now: Moment, trunk: &Trunk, call: CallId) {
        let mut all = self.lock();
        let first = || InARow { since: now, calls: Vec::new(), is_told: false };
        let own = all.entry(trunk.id).or_insert_with(first);
        if own.calls.len() < MANY && !own.calls.contains(&call) {
            own.calls.push(call);
        }
        if own.is_told || own.calls.len() < MANY || now.since(own.since) < APART {
            return;
        }
        own.is_told = true;
        tracing::warn!(
            trunk = trunk.name,
            calls = MANY,
            "a carrier declined these calls and more in a row (603) and rang nobody: the account may be suspended \
             or out of funds, or the numbers blocked"
        );
    }

    /// Something else became of one: somebody was rung, or asked for.
    pub(super) fn served(&self, trunk: &Trunk) {
        if self.lock().remove(&trunk.id).is_some_and(|own| own.is_told) {
            tracing::info!(
                trunk = trunk.name,
                "a carrier that declined calls in a row takes them again"
            );
        }
    }

    /// Shows how many trunks of the table decline calls in a row, and forgets those that are none of it any more.
    #[expect(clippy::cast_precision_loss, reason = "a figure for display")]
    pub fn show(&self, table: &RoutingTable) {
        let mut all = self.lock();
        all.retain(|id, _| table.trunk(*id).is_some_and(|trunk| trunk.enabled));
        let declining = all.values().filter(|own| own.is_told).count();
        drop(all);
        metric::set(Gauge::TrunksDeclining, declining as f64);
    }

    /// How many calls in a row a trunk's carrier declined, as far as they are counted.
    #[cfg(test)]
    pub(super) fn in_a_row(&self, trunk: TrunkId) -> usize {
        self.lock().get(&trunk).map_or(0, |own| own.calls.len())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<TrunkId, InARow>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing::contents::Contents;
    use crate::routing::outbound::tests::trunk;
    use metrics_exporter_prometheus::PrometheusBuilder;
    use uuid::Uuid;

    const fn at(seconds: u64) -> Moment {
        Moment::from_nanos(seconds * 1_000_000_000)
    }

    fn call(n: u64) -> CallId {
        CallId::from_uuid(Uuid::from_u128(n.into()))
    }

    /// What is shown of the trunks that decline.
    fn check(declines: &Declines, trunks: &[Trunk], expected: u32) {
        let recorder = PrometheusBuilder::new().build_recorder();
        let table = RoutingTable::new(Contents { trunks: trunks.to_vec(), ..Contents::default() });
        metrics::with_local_recorder(&recorder, || declines.show(&table));
        let text = recorder.handle().render();
        assert!(text.contains(&format!("trunks_declining {expected}\n")), "{text}");
    }

    #[test]
    fn a_trunk_that_declines_calls_in_a_row_is_shown_until_it_takes_one_or_is_gone() {
        let declines = Declines::default();
        let [one, other] = [1, 2].map(|id| trunk(id, |_| {}));
        let both = [one.clone(), other.clone()];
        for n in 1..=10 {
            declines.declined(at(n * 15), &one, call(n));
            declines.declined(at(n * 15), &other, call(n));
            // Of the other every second one is answered.
            if n % 2 == 0 {
                declines.served(&other);
            }
            check(&declines, &both, u32::from(n >= 5));
        }
        declines.served(&one);
        check(&declines, &both, 0);
        for n in 1..=5 {
            declines.declined(at(n * 15), &other, call(n));
        }
        check(&declines, &both, 1);
        check(&declines, &[one], 0);
        check(&declines, &both, 0);
    }

    #[test]
    fn a_few_numbers_that_are_called_at_once_and_blocked_are_not_all() {
        let declines = Declines::default();
        let own = trunk(1, |_| {});
        for n in 0..50 {
            declines.declined(at(n), &own, call(n));
        }
        check(&declines, std::slice::from_ref(&own), 0);
        declines.declined(at(60), &own, call(60));
        check(&declines, &[own], 1);
    }

    #[test]
    fn a_call_that_several_gateways_decline_counts_once() {
        let declines = Declines::default();
        let own = trunk(1, |_| {});
        // Two calls try its gateways by turns.
        for n in 0..50 {
            declines.declined(at(n * 15), &own, call(n % 2));
        }
        assert_eq!(declines.in_a_row(own.id), 2);
        check(&declines, &[own], 0);
    }

    #[test]
    fn a_carrier_without_room_or_an_answer_has_asked_for_nobody() {
        for status in [408, 500, 502, 503, 504, 401, 403, 407, 302] {
            assert_eq!(said_by(status), Said::Nothing, "{status}");
        }
        for status in [404, 480, 484, 486, 487, 600, 604, 607] {
            assert_eq!(said_by(status), Said::Served, "{status}");
        }
        assert_eq!(said_by(603), Said::Declined);
    }
}
