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

/// Whether the leg is offered something anew, and in which direction.
fn reoffered(out: &[Output], side: LegSide) -> Option<String> {
    let offer = out.iter().find_map(|output| match output {
        Output::Leg(of, LegOutput::Reoffer(offer)) if *of == side => Some(offer.clone()),
        _ => None,
    })?;
    let text = String::from_utf8_lossy(&offer).into_owned();
    text.lines().find_map(|line| line.strip_prefix("a=send").map(|rest| format!("send{rest}")))
}

/// A call whose far leg agreed to be on hold, and was then to be taken back.
fn resuming() -> Bench {
    let mut bench = Bench::bridged();
    bench.give(Input::HoldRequested(FAR));
    let held = format!("{OFFER}a=recvonly\r\n");
    let out = bench.leg(FAR, LegInput::ReofferAnswered(Some(held.into())));
    assert_eq!(planned_of(&out, FAR), Some(Direction::SendOnly));
    let out = bench.give(Input::ResumeRequested(FAR));
    assert_eq!(reoffered(&out, FAR).as_deref(), Some("sendrecv"));
    bench
}

fn is_refusal(output: &Output) -> bool {
    matches!(output, Output::Record(CallEvent::ReofferRefused { side: FAR, .. }))
}

#[test]
fn a_resume_that_was_refused_is_asked_for_again_until_the_peer_hears_us_and_we_hear_it() {
    for status in [408, 488, 491, 500, 503] {
        let mut bench = resuming();
        let out = bench.leg(FAR, LegInput::ReofferRefused { status, has_waited: false });
        assert!(!out.iter().any(is_refusal) && reoffered(&out, FAR).is_none(), "{out:?}");
        let before = bench.now;
        let out = bench.wait();
        assert_eq!(bench.now.since(before), Duration::from_secs(2), "{status}");
        assert_eq!(reoffered(&out, FAR).as_deref(), Some("sendrecv"));
        let out = bench.leg(FAR, LegInput::ReofferAnswered(sdp()));
        assert_eq!(planned_of(&out, FAR), Some(Direction::SendReceive));
    }
}

#[test]
fn a_resume_that_is_always_refused_is_given_up_and_the_record_says_so() {
    let mut bench = resuming();
    let mut waits = Vec::new();
    loop {
        let out = bench.leg(FAR, LegInput::ReofferRefused { status: 491, has_waited: false });
        if out.iter().any(is_refusal) {
            break;
        }
        let before = bench.now;
        let out = bench.wait();
        assert!(reoffered(&out, FAR).is_some());
        waits.push(bench.now.since(before).as_secs());
    }
    assert_eq!(waits, [2, 4, 8, 16, 32]);
    // Holding and resuming begin anew.
    bench.give(Input::HoldRequested(FAR));
    bench.leg(FAR, LegInput::ReofferRefused { status: 491, has_waited: false });
    let out = bench.wait();
    assert!(reoffered(&out, FAR).is_some(), "{out:?}");
}

#[test]
fn an_offer_of_the_peers_tells_it_of_a_resume_that_was_refused() {
    let mut bench = resuming();
    bench.leg(FAR, LegInput::ReofferRefused { status: 491, has_waited: false });
    let out = bench.leg(FAR, LegInput::Reoffered(sdp()));
    assert_eq!(planned_of(&out, FAR), Some(Direction::SendReceive));
    // It may be said once more, but what is refused then is no loss.
    bench.wait();
    let out = bench.leg(FAR, LegInput::ReofferRefused { status: 488, has_waited: false });
    assert!(out.iter().any(is_refusal), "{out:?}");
}

#[test]
fn an_offer_that_changes_nothing_is_not_pressed_on_who_will_not_have_it() {
    let mut bench = Bench::new(|setup| setup.agent.reinvite_after = Some(Duration::from_secs(5)));
    bench.talk();
    let out = bench.wait();
    assert!(reoffered(&out, NEAR).is_some(), "{out:?}");
    let refused = |out: &[Output]| {
        let cause = HangupCause::NoCommonCodec;
        out.contains(&Output::Record(CallEvent::ReofferRefused { side: NEAR, cause }))
    };
    let out = bench.leg(NEAR, LegInput::ReofferRefused { status: 488, has_waited: false });
    assert!(refused(&out), "{out:?}");
}

#[test]
fn the_answer_to_a_refresh_moves_the_media_and_one_that_says_nothing_new_does_nothing() {
    let mut bench = Bench::bridged();
    let refreshed = |text: String| LegInput::Refreshed(text.into());
    assert!(bench.leg(FAR, refreshed(OFFER.to_owned())).is_empty());
    let out = bench.leg(FAR, refreshed(OFFER.replace("4000", "4010")));
    assert_eq!(super::legs::peer(&out, FAR).as_deref(), Some("192.0.2.1:4010"));
    assert!(bench.leg(FAR, refreshed("garbage".to_owned())).is_empty());
    // While a hold of ours is on its way it stays in force, and that has its own answer.
    bench.give(Input::HoldRequested(FAR));
    bench.leg(FAR, refreshed(OFFER.to_owned()));
    let out = bench.leg(FAR, LegInput::ReofferRefused { status: 491, has_waited: false });
    assert!(!out.iter().any(is_refusal), "{out:?}");
    assert_eq!(reoffered(&bench.wait(), FAR).as_deref(), Some("sendonly"));
}

#[test]
fn an_offer_that_crossed_one_of_the_peers_is_made_anew_at_once_when_that_wait_is_over() {
    let mut bench = resuming();
    let crossed = LegInput::ReofferRefused { status: 491, has_waited: true };
    for _ in 0..5 {
        let out = bench.leg(FAR, crossed.clone());
        assert_eq!(reoffered(&out, FAR).as_deref(), Some("sendrecv"));
    }
    let out = bench.leg(FAR, crossed);
    assert!(out.iter().any(is_refusal) && reoffered(&out, FAR).is_none(), "{out:?}");
}

#[test]
fn who_is_taken_back_may_be_heard_before_it_answers_and_not_if_it_refuses() {
    let ends_hold = |out: &[Output]| expected(out, FAR).map(|it| it.map(|it| it.ends_hold()));
    let mut bench = Bench::bridged();
    let out = bench.give(Input::HoldRequested(FAR));
    assert_eq!(ends_hold(&out), None, "it is to be silent");
    let held = format!("{OFFER}a=recvonly\r\n");
    bench.leg(FAR, LegInput::ReofferAnswered(Some(held.into())));
    let out = bench.give(Input::ResumeRequested(FAR));
    assert_eq!(ends_hold(&out), Some(Some(true)));
    let out = bench.leg(FAR, LegInput::ReofferRefused { status: 491, has_waited: false });
    assert_eq!(ends_hold(&out), Some(None));
    assert_eq!(ends_hold(&bench.wait()), Some(Some(true)), "it is offered again");
    let out = bench.leg(FAR, LegInput::ReofferAnswered(sdp()));
    assert_eq!((ends_hold(&out), planned_of(&out, FAR)), (None, Some(Direction::SendReceive)));
}
