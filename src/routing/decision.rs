//! `Decision`: every step of a routing decision, so that each call can be explained.

use crate::types::limit::DECISION_STEPS_MAX;
use std::fmt;
use std::fmt::Write as _;
use std::sync::Arc;

/// Steps of the decision about a plain call.
const STEPS_USUAL: usize = 12;
/// Letters of what came of a step, as a rule.
const WORDS_USUAL: usize = 64;
/// Letters of the longest of the usual names of steps.
const NAME_WIDTH_MIN: usize = 10;

/// One step: what was looked at, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The kind of step, from a closed set of names: `source`, `trunk`, `rewrite`, `number` ...
    pub what: &'static str,
    /// What came of it, for operators. May hold full numbers: it is part of the call record, not of
    /// the logs.
    pub detail: String,
}

/// The steps of one decision, in order. A copy shares them until one of the two gets another step: the
/// record of a call, its events and its reports all have them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    steps: Option<Arc<Vec<Step>>>,
}

impl Decision {
    /// An empty decision.
    #[must_use]
    pub const fn new() -> Self {
        Self { steps: None }
    }

    /// Adds a step; beyond the bound it is dropped.
    pub fn note(&mut self, what: &'static str, detail: impl Into<String>) {
        let steps = self.steps.get_or_insert_with(|| Arc::new(Vec::with_capacity(STEPS_USUAL)));
        if steps.len() < DECISION_STEPS_MAX {
            Arc::make_mut(steps).push(Step { what, detail: detail.into() });
        }
    }

    /// The same of words that are made of pieces: with room for them from the beginning, to write them costs half.
    pub fn tell(&mut self, what: &'static str, words: fmt::Arguments<'_>) {
        self.note(what, worded(words));
    }

    /// Takes no more room than its steps need, now that a call is to keep it; one that is shared stays as it is.
    pub fn settle(&mut self) {
        if let Some(steps) = self.steps.as_mut().and_then(Arc::get_mut) {
            steps.iter_mut().for_each(|step| step.detail.shrink_to_fit());
            steps.shrink_to_fit();
        }
    }

    /// The steps so far.
    #[must_use]
    pub fn steps(&self) -> &[Step] {
        self.steps.as_deref().map_or(&[], Vec::as_slice)
    }

    /// Letters that the names of its steps take in a print, so that what came of them stands in one column.
    #[must_use]
    pub fn name_width(&self) -> usize {
        self.steps().iter().map(|step| step.what.len()).fold(NAME_WIDTH_MIN, usize::max)
    }
}

/// Words made of pieces, which need no more room than there is from the beginning as a rule.
fn worded(words: fmt::Arguments<'_>) -> String {
    let mut text = String::with_capacity(WORDS_USUAL);
    // Writing to a string does not fail.
    text.write_fmt(words).unwrap_or_default();
    text
}

impl fmt::Display for Decision {
    /// One line a step, as `tandem explain` prints it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.name_width();
        for step in self.steps() {
            writeln!(f, "{:<width$} {}", step.what, step.detail)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decision_keeps_its_steps_in_order_and_bounded() {
        let mut decision = Decision::new();
        for number in 0..DECISION_STEPS_MAX + 5 {
            decision.note("step", number.to_string());
        }
        assert_eq!(decision.steps().len(), DECISION_STEPS_MAX);
        assert_eq!(decision.steps().first().map(|s| s.detail.as_str()), Some("0"));
        assert!(decision.to_string().starts_with("step       0\n"));
    }

    #[test]
    fn words_of_pieces_are_kept_however_long_they_are() {
        let mut decision = Decision::new();
        for length in [0, WORDS_USUAL, 10 * WORDS_USUAL] {
            let long = "ä".repeat(length);
            decision.tell("step", format_args!("{long}: {length}"));
            let last = decision.steps().last().map(|step| (step.what, step.detail.clone()));
            assert_eq!(last, Some(("step", format!("{long}: {length}"))));
        }
    }

    #[test]
    fn a_settled_decision_has_its_steps_and_no_room_beside_them() {
        let mut decision = Decision::new();
        decision.settle();
        decision.tell("step", format_args!("{}", 1));
        decision.settle();
        let steps = decision.steps.as_ref().expect("a step");
        assert_eq!((steps.capacity(), steps[0].detail.capacity()), (1, 1));
        let copy = decision.clone();
        decision.settle();
        decision.note("step", "2");
        assert_eq!(
            (copy.steps().len(), decision.to_string().as_str()),
            (1, "step       1\nstep       2\n")
        );
    }

    #[test]
    fn what_came_of_the_steps_stands_in_one_column() {
        let mut decision = Decision::new();
        decision.note("source", "public");
        assert_eq!(decision.to_string(), "source     public\n");
        decision.note("routing profile", "own");
        assert_eq!(decision.to_string(), "source          public\nrouting profile own\n");
    }

    #[test]
    fn a_copy_does_not_get_the_steps_that_follow() {
        let mut decision = Decision::new();
        decision.note("step", "one");
        let copy = decision.clone();
        decision.note("step", "two");
        assert_eq!((copy.steps().len(), decision.steps().len()), (1, 2));
    }
}
