//! Barge-in in figures, over fewer trials than `cargo bench --bench barge_in`: the bounds that it must keep.

#[path = "../benches/barge_in/corpus.rs"]
#[allow(dead_code, reason = "the bench uses all of it")]
mod corpus;
#[path = "../benches/barge_in/proof.rs"]
mod proof;
#[path = "../benches/barge_in/trial.rs"]
mod trial;

use crate::corpus::Noise;
use crate::proof::false_stops;
use crate::proof::interruptions;
use crate::proof::percentile;
use tandem::types::barge_in::BargeInMode;

#[test]
fn an_agent_falls_silent_soon_after_its_caller_begins_to_speak() {
    let all = interruptions(100, 20);
    let (half, nearly_all) = (percentile(&all, 0.5), percentile(&all, 0.99));
    assert!(half <= 130.0, "{half} ms in the middle: {all:?}");
    assert!(nearly_all <= 160.0, "{nearly_all} ms at p99: {all:?}");
}

#[test]
fn an_agent_is_seldom_stopped_by_what_is_no_speech() {
    let trials = 10;
    let stopped = Noise::ALL.map(|noise| false_stops(noise, BargeInMode::Flush, trials).0);
    let all: usize = stopped.iter().sum();
    assert!(all * 50 <= trials * Noise::ALL.len(), "{stopped:?} of {trials} each");
}
