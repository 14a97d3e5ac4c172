//! Handles of metrics that were looked for before: finding one costs far more than counting.
//!
//! Each thread keeps its own, so that nobody waits. Metrics and the values of their labels are closed lists, which
//! bounds what is kept.

use crate::telemetry::metric::Counter;
use crate::telemetry::metric::Histogram;
use std::cell::RefCell;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

/// The process has its recorder, and none comes after it.
static IS_KEPT: AtomicBool = AtomicBool::new(false);

thread_local! {
    static COUNTERS: RefCell<Found<metrics::Counter>> = const { RefCell::new(Found(Vec::new())) };
    static HISTOGRAMS: RefCell<Found<metrics::Histogram>> =
        const { RefCell::new(Found(Vec::new())) };
}

/// Handles by the place of their metric in its table, then by the value of the label.
#[derive(Debug)]
struct Found<T>(Vec<Vec<(&'static str, T)>>);

impl<T: Clone> Found<T> {
    /// The handle of a metric under `value`, by `find` where it was not kept yet.
    fn get(&mut self, metric: usize, value: &'static str, find: impl FnOnce() -> T) -> T {
        if self.0.len() <= metric {
            self.0.resize_with(metric + 1, Vec::new);
        }
        let Some(known) = self.0.get_mut(metric) else { return find() };
        if let Some((_, handle)) = known.iter().find(|(known, _)| *known == value) {
            return handle.clone();
        }
        let handle = find();
        known.push((value, handle.clone()));
        handle
    }
}

/// From now on handles are kept. One that was taken before the recorder was there counts nothing for ever.
pub(super) fn keep() {
    IS_KEPT.store(true, Ordering::Release);
}

/// The handle of a counter under `value`, by `find` where it was not kept yet.
pub(super) fn counter(
    counter: Counter,
    value: &'static str,
    find: impl Fn() -> metrics::Counter,
) -> metrics::Counter {
    if !IS_KEPT.load(Ordering::Acquire) {
        return find();
    }
    // A thread that ends may count to the last.
    let kept = COUNTERS.try_with(|found| found.borrow_mut().get(counter as usize, value, &find));
    kept.unwrap_or_else(|_| find())
}

/// The same of a distribution.
pub(super) fn histogram(
    histogram: Histogram,
    value: &'static str,
    find: impl Fn() -> metrics::Histogram,
) -> metrics::Histogram {
    if !IS_KEPT.load(Ordering::Acquire) {
        return find();
    }
    let kept =
        HISTOGRAMS.try_with(|found| found.borrow_mut().get(histogram as usize, value, &find));
    kept.unwrap_or_else(|_| find())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_is_looked_for_once_for_each_metric_and_value() {
        let mut found = Found(Vec::new());
        let asked = [(2, "in"), (2, "out"), (0, "in"), (2, "in"), (0, "in"), (2, "out"), (0, "")];
        let mut searches = 0;
        let handles = asked.map(|(metric, value)| {
            found.get(metric, value, || {
                searches += 1;
                (metric, value)
            })
        });
        assert_eq!(handles, asked, "each its own");
        assert_eq!(searches, 4);
    }
}
