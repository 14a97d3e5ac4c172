//! Holds of ours, in virtual time.

use super::legs::path;
use super::legs::planned_of;
use super::legs::sdp;
use super::*;
use crate::call::input::AudioPath;
use crate::call::input::Comfort;

const NEAR: LegSide = LegSide::Near;
const FAR: LegSide = LegSide::Far;

#[test]
fn an_application_may_hold_a_leg_and_take_it_back() {
    let mut bench = Bench::bridged();
    let out = bench.give(Input::HoldRequested(NEAR));
    let Some(Output::Leg(NEAR, LegOutput::Reoffer(offer))) = out.first() else { panic!("{out:?}") };
    assert!(String::from_utf8_lossy(offer).contains("a=sendonly"));
    assert_eq!(path(&out), Some(AudioPath::Waiting(Comfort::Hold)));
    // Taking it back before the hold is agreed waits for that: one offer at a time (RFC 3264 §4).
    let out = bench.give(Input::ResumeRequested(NEAR));
    assert!(!out.iter().any(|output| matches!(output, Output::Leg(..))), "{out:?}");
    assert_eq!(path(&out), Some(AudioPath::Bridge(FAR)));
    let held = format!("{OFFER}a=recvonly\r\n");
    let out = bench.leg(NEAR, LegInput::ReofferAnswered(Some(held.into())));
    let again = out.iter().any(|output| matches!(output, Output::Leg(NEAR, LegOutput::Reoffer(_))));
    assert!(again, "{out:?}");
    let out = bench.leg(NEAR, LegInput::ReofferAnswered(sdp()));
    assert_eq!(planned(&out), Some(Direction::SendReceive));
}

#[test]
fn a_peer_that_overlooks_our_hold_is_held_all_the_same() {
    let mut bench = Bench::bridged();
    bench.give(Input::HoldRequested(FAR));
    let out = bench.leg(FAR, LegInput::ReofferAnswered(sdp()));
    assert_eq!(planned_of(&out, FAR), Some(Direction::SendOnly));
    assert!(bench.give(Input::Media(FAR, MediaInput::TimedOut)).is_empty());
}

#[test]
fn a_hold_is_silent_where_the_terms_say_so() {
    let terms = LegTerms { hold: Direction::Inactive, ..terms() };
    let mut bench = Bench::new(|setup| setup.opening = Opening::Inbound(terms));
    bench.talk();
    let out = bench.give(Input::HoldRequested(NEAR));
    let Some(Output::Leg(NEAR, LegOutput::Reoffer(offer))) = out.first() else { panic!("{out:?}") };
    assert!(String::from_utf8_lossy(offer).contains("a=inactive"));
    let out = bench.leg(NEAR, LegInput::ReofferAnswered(sdp()));
    assert_eq!(planned(&out), Some(Direction::Inactive));
    bench.give(Input::ResumeRequested(NEAR));
    let out = bench.leg(NEAR, LegInput::ReofferAnswered(sdp()));
    assert_eq!(planned(&out), Some(Direction::SendReceive));
}
