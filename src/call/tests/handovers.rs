//! A near leg's peer that wants our agent connected with somebody else, in virtual time: nobody is left
//! alone, whatever the target or the peer does.

use super::fallback::by_link;
use super::fallback::by_number;
use super::legs::dial;
use super::legs::hangs_up;
use super::legs::path;
use super::legs::records;
use super::legs::sdp;
use super::random::request;
use super::*;
use crate::call::dial::DialTarget;
use crate::call::dial::Joined;
use crate::call::input::AudioPath;
use crate::call::setup::NextAgent;
use crate::call::steer::MutedSide;
use crate::call::steer::Order;
use crate::call::transfer::TransferMode;

const NEAR: LegSide = LegSide::Near;
const FAR: LegSide = LegSide::Far;
const THIRD: LegSide = LegSide::Third;

fn talking(transfers: bool) -> Bench {
    let mut bench = Bench::new(|setup| {
        setup.opening = Opening::Inbound(LegTerms { transfers, ..terms() });
    });
    bench.talk();
    bench
}

/// A call whose agent is to be with somebody else.
fn handing() -> Bench {
    let mut bench = talking(true);
    let out = bench.leg(NEAR, LegInput::Referred(Box::new(request())));
    assert!(out.contains(&Output::Leg(NEAR, LegOutput::AcceptRefer)), "{out:?}");
    assert!(records(&out, &CallEvent::TransferBegun(TransferMode::Handover)));
    assert_eq!(path(&out), None, "caller and agent hear each other meanwhile");
    let out = bench.run_media(FAR);
    assert!(dial(&out, FAR).is_some());
    // No two telephones are connected: the caller leaves.
    assert_eq!(joined(&out, FAR), Some(Joined::Agent));
    bench
}

/// With whom a dialled leg is to talk.
fn joined(out: &[Output], dialled: LegSide) -> Option<Joined> {
    out.iter().find_map(|output| match output {
        Output::Leg(side, LegOutput::Dial { target, .. }) if *side == dialled => match target {
            DialTarget::Number { joined, .. } => Some(*joined),
            DialTarget::Uri { .. } => None,
        },
        _ => None,
    })
}

fn notify(status: u16) -> Output {
    Output::Leg(NEAR, LegOutput::NotifyRefer { status })
}

fn gone(by: Party) -> LegInput {
    LegInput::Ended { cause: HangupCause::Normal, by }
}

#[test]
fn a_carrier_that_may_not_ask_for_somebody_else_is_declined() {
    let mut bench = talking(false);
    let out = bench.leg(NEAR, LegInput::Referred(Box::new(request())));
    assert_eq!(out.first(), Some(&Output::Leg(NEAR, LegOutput::RefuseRefer { status: 603 })));
    assert!(records(&out, &CallEvent::TransferRefused(NEAR)));
    assert_eq!(dial(&out, FAR), None);
}

#[test]
fn a_handover_that_is_withdrawn_did_not_fail() {
    let mut bench = handing();
    let out = bench.give(Input::TransferWithdrawn);
    assert_eq!(hangs_up(&out, FAR), Some(HangupCause::CallerCancelled));
    assert!(out.contains(&notify(487)), "{out:?}");
    assert!(records(&out, &CallEvent::TransferWithdrawn), "{out:?}");
    let is_failure =
        |output: &Output| matches!(output, Output::Record(CallEvent::TransferFailed(_)));
    assert!(!out.iter().any(is_failure), "{out:?}");
    assert_eq!(bench.call.path, AudioPath::Agent(NEAR));
}

#[test]
fn an_agent_is_handed_over_once_the_target_proved_that_it_stays() {
    let mut bench = handing();
    let out = bench.leg(FAR, LegInput::Progressed { status: 180, body: None });
    assert!(out.contains(&notify(180)), "{out:?}");
    let out = bench.leg(FAR, LegInput::Answered(sdp()));
    assert_eq!(path(&out), Some(AudioPath::Agent(FAR)));
    assert_eq!(hangs_up(&out, NEAR), None);
    let out = bench.wait();
    assert!(out.contains(&notify(200)), "{out:?}");
    assert_eq!(hangs_up(&out, NEAR), Some(HangupCause::Transferred));
    assert!(out.contains(&Output::Media(NEAR, MediaOutput::Close)));
    assert!(records(&out, &CallEvent::TransferCompleted));
    assert!(!out.contains(&Output::Agent(AgentOutput::End)), "{out:?}");
    // What still comes of the caller changes nothing; the target's end is the call's.
    assert_eq!(hangs_up(&bench.leg(NEAR, gone(Party::Caller)), FAR), None);
    let out = bench.leg(FAR, gone(Party::Far));
    assert!(out.contains(&Output::Agent(AgentOutput::End)), "{out:?}");
    assert_eq!(bench.close_all().1, Party::Far);
}

#[test]
fn an_agent_that_was_handed_over_ends_the_call_when_it_hangs_up() {
    let mut bench = handing();
    bench.leg(FAR, LegInput::Answered(sdp()));
    bench.wait();
    let out = bench.give(Input::Agent(AgentInput::HungUp));
    assert_eq!(hangs_up(&out, FAR), Some(HangupCause::Normal));
    assert_eq!(bench.close_all().1, Party::Agent);
}

#[test]
fn a_caller_keeps_the_agent_when_the_target_cannot_be_had_or_leaves_at_once() {
    let failed = |cause, status| LegInput::DialFailed { cause, status };
    for (answered, input, status) in [
        (false, failed(HangupCause::Rejected, Some(603)), 603),
        (false, failed(HangupCause::Busy, Some(486)), 486),
        // Its own word, whatever cause we read from it (RFC 3515 §2.4.5).
        (false, failed(HangupCause::Busy, Some(600)), 600),
        (false, failed(HangupCause::NoAnswer, Some(487)), 487),
        (false, failed(HangupCause::DestinationDenied, None), 403),
        (true, gone(Party::Far), 603),
    ] {
        let mut bench = handing();
        if answered {
            bench.leg(FAR, LegInput::Answered(sdp()));
        }
        let out = bench.leg(FAR, input);
        assert!(out.contains(&notify(status)), "{out:?}");
        assert_eq!(hangs_up(&out, NEAR), None);
        assert_eq!(bench.call.path, AudioPath::Agent(NEAR));
        assert!(!out.contains(&Output::Agent(AgentOutput::End)), "{out:?}");
    }
    // It rings for ever.
    let mut bench = handing();
    let out = bench.wait();
    assert_eq!(hangs_up(&out, FAR), Some(HangupCause::NoAnswer));
    assert!(out.contains(&notify(480)), "{out:?}");
    assert_eq!(bench.call.path, AudioPath::Agent(NEAR));
}

#[test]
fn a_caller_that_does_not_wait_leaves_the_agent_with_the_target_or_ends_the_call() {
    let mut bench = handing();
    let out = bench.leg(NEAR, gone(Party::Caller));
    assert_eq!(hangs_up(&out, FAR), None);
    assert!(!out.contains(&Output::Media(NEAR, MediaOutput::Close)), "the agent is heard there");
    let out = bench.leg(FAR, LegInput::Answered(sdp()));
    assert_eq!(path(&out), Some(AudioPath::Agent(FAR)));
    let out = bench.wait();
    assert!(out.contains(&Output::Media(NEAR, MediaOutput::Close)), "{out:?}");
    assert_eq!(hangs_up(&out, NEAR), None);

    let mut bench = handing();
    bench.leg(NEAR, gone(Party::Caller));
    let busy = LegInput::DialFailed { cause: HangupCause::Busy, status: Some(486) };
    let out = bench.leg(FAR, busy);
    assert!(out.contains(&Output::Agent(AgentOutput::End)), "{out:?}");
    assert_eq!(bench.close_all().0, HangupCause::Busy);
}

#[test]
fn an_agent_that_is_lost_while_it_is_handed_over_takes_nobody_with_it() {
    let mut bench = handing();
    let out = bench.give(Input::Agent(AgentInput::Lost(HangupCause::AgentLost)));
    assert_eq!(hangs_up(&out, FAR), Some(HangupCause::AgentLost));
    assert!(out.contains(&Output::Agent(AgentOutput::StartFallback)), "{out:?}");
    assert!(out.contains(&notify(500)));
}

#[test]
fn the_next_agent_takes_over_from_one_that_is_lost_while_it_is_handed_over() {
    let mut bench = handing();
    bench.call.setup.fallbacks = [super::fallback::by_link(2)].into();
    let out = bench.give(Input::Agent(AgentInput::Lost(HangupCause::AgentLost)));
    assert_eq!(hangs_up(&out, FAR), Some(HangupCause::AgentLost));
    assert!(out.contains(&Output::Agent(AgentOutput::Attach)), "{out:?}");
    assert!(!out.contains(&Output::Agent(AgentOutput::StartFallback)), "{out:?}");
    let out = bench.give(Input::Agent(AgentInput::Ready));
    assert_eq!(path(&out), Some(AudioPath::Agent(NEAR)));
}

/// A forwarded call whose caller wants whom it talks with connected with somebody else.
fn handing_on() -> Bench {
    let mut bench = Bench::new(|setup| {
        setup.opening = Opening::Inbound(LegTerms { transfers: true, ..terms() });
        setup.partner = Partner::Forward(Box::new(request()));
    });
    bench.leg(NEAR, LegInput::Offered(sdp()));
    bench.run_media(NEAR);
    bench.run_media(FAR);
    bench.leg(FAR, LegInput::Answered(sdp()));
    bench.leg(NEAR, LegInput::Acknowledged(None));
    let out = bench.leg(NEAR, LegInput::Referred(Box::new(request())));
    assert!(out.contains(&Output::Leg(NEAR, LegOutput::AcceptRefer)), "{out:?}");
    assert_eq!(path(&out), None, "they hear each other meanwhile");
    let out = bench.run_media(THIRD);
    assert!(dial(&out, THIRD).is_some());
    assert_eq!(joined(&out, THIRD), Some(Joined::Leg(FAR)));
    bench
}

#[test]
fn whom_a_caller_was_bridged_with_is_handed_over_once_the_target_proved_that_it_stays() {
    let mut bench = handing_on();
    let out = bench.leg(THIRD, LegInput::Progressed { status: 180, body: None });
    assert!(out.contains(&notify(180)), "{out:?}");
    let out = bench.leg(THIRD, LegInput::Answered(sdp()));
    assert_eq!(path(&out), Some(AudioPath::Others));
    assert_eq!((hangs_up(&out, NEAR), hangs_up(&out, FAR)), (None, None));
    // A key of the one reaches the other, and not who waits.
    let keyed = bench.keyed(FAR, '7');
    let key = |side| Output::Media(side, MediaOutput::SendDigit('7'));
    assert!(keyed.contains(&key(THIRD)) && !keyed.contains(&key(NEAR)), "{keyed:?}");
    let out = bench.wait();
    assert!(out.contains(&notify(200)), "{out:?}");
    assert_eq!(hangs_up(&out, NEAR), Some(HangupCause::Transferred));
    assert!(records(&out, &CallEvent::TransferCompleted));
    bench.give(Input::Media(NEAR, MediaInput::Closed(None)));
    assert_eq!(bench.call.path, AudioPath::Others);
    let out = bench.leg(FAR, gone(Party::Far));
    assert_eq!(hangs_up(&out, THIRD), Some(HangupCause::Normal));
    assert_eq!(bench.close_all().1, Party::Far);
}

#[test]
fn a_caller_keeps_whom_it_is_bridged_with_when_the_target_cannot_be_had_or_leaves_at_once() {
    let busy = LegInput::DialFailed { cause: HangupCause::Busy, status: Some(486) };
    for (answered, input, status) in [(false, busy, 486), (true, gone(Party::Far), 603)] {
        let mut bench = handing_on();
        if answered {
            bench.leg(THIRD, LegInput::Answered(sdp()));
        }
        let out = bench.leg(THIRD, input);
        assert!(out.contains(&notify(status)), "{out:?}");
        assert_eq!((hangs_up(&out, NEAR), hangs_up(&out, FAR)), (None, None));
        assert_eq!(bench.call.path, AudioPath::Bridge(FAR));
        // It may ask once more.
        bench.give(Input::Media(THIRD, MediaInput::Closed(None)));
        let out = bench.leg(NEAR, LegInput::Referred(Box::new(request())));
        assert!(out.contains(&Output::Leg(NEAR, LegOutput::AcceptRefer)), "{out:?}");
    }
}

#[test]
fn whom_a_caller_was_bridged_with_may_hang_up_meanwhile_and_so_may_the_caller() {
    for answered in [false, true] {
        let mut bench = handing_on();
        if answered {
            bench.leg(THIRD, LegInput::Answered(sdp()));
        }
        let out = bench.leg(FAR, gone(Party::Far));
        assert!(out.contains(&notify(480)), "{out:?}");
        assert_eq!(hangs_up(&out, THIRD), Some(HangupCause::Normal));
        assert_eq!(hangs_up(&out, NEAR), Some(HangupCause::Normal));
        bench.close_all();
    }
    // The caller does not wait: the two come together all the same.
    let mut bench = handing_on();
    let out = bench.leg(NEAR, gone(Party::Caller));
    assert_eq!((hangs_up(&out, FAR), hangs_up(&out, THIRD)), (None, None));
    let out = bench.leg(THIRD, LegInput::Answered(sdp()));
    assert_eq!(path(&out), Some(AudioPath::Others));
    bench.wait();
    let out = bench.leg(THIRD, gone(Party::Far));
    assert_eq!(hangs_up(&out, FAR), Some(HangupCause::Normal));
    bench.close_all();
    // Nobody comes: nobody is left on the other leg.
    let mut bench = handing_on();
    bench.leg(NEAR, gone(Party::Caller));
    let out = bench.wait();
    for side in [FAR, THIRD] {
        assert_eq!(hangs_up(&out, side), Some(HangupCause::NoAnswer), "{side:?}");
    }
    bench.close_all();
}

/// A call whose agent was handed over, and is then lost; what comes of that.
fn lost_in_handed(fallbacks: Vec<NextAgent>) -> (Bench, Vec<Output>) {
    let mut bench = Bench::new(|setup| {
        setup.opening = Opening::Inbound(LegTerms { transfers: true, ..terms() });
        setup.fallbacks = fallbacks.into();
    });
    bench.talk();
    // Which is about the caller's media, and ends with them.
    let mute = Order::Mute(MutedSide::Agent);
    bench.call.order(bench.now, mute, &mut bench.out).expect("it makes sense");
    bench.leg(NEAR, LegInput::Referred(Box::new(request())));
    bench.run_media(FAR);
    bench.leg(FAR, LegInput::Answered(sdp()));
    bench.wait();
    bench.give(Input::Media(NEAR, MediaInput::Closed(None)));
    let out = bench.give(Input::Agent(AgentInput::Lost(HangupCause::AgentLost)));
    assert_eq!((hangs_up(&out, FAR), path(&out)), (None, None));
    assert!(!out.iter().any(|output| matches!(output, Output::Media(NEAR, _))), "{out:?}");
    (bench, out)
}

#[test]
fn who_was_handed_an_agent_that_is_lost_hears_the_next_one_that_has_a_link() {
    let (mut bench, out) = lost_in_handed(vec![by_number(2), by_link(3)]);
    assert!(out.contains(&Output::Agent(AgentOutput::Attach)), "{out:?}");
    assert!(records(&out, &CallEvent::AgentReplaced(by_link(3).profile)), "{out:?}");
    // Who would be dialled was for the caller, and that is gone.
    assert!(!out.contains(&Output::Media(THIRD, MediaOutput::Reserve)), "{out:?}");
    let out = bench.give(Input::Agent(AgentInput::Ready));
    assert!(out.contains(&Output::Agent(AgentOutput::TellAnswered)), "{out:?}");
    assert_eq!((bench.call.path, bench.call.side_of_agent()), (AudioPath::Agent(FAR), FAR));
    let out = bench.give(Input::Agent(AgentInput::HungUp));
    assert_eq!(hangs_up(&out, FAR), Some(HangupCause::Normal));
    assert_eq!(bench.close_all().1, Party::Agent);
}

#[test]
fn who_was_handed_an_agent_that_is_lost_hears_the_announcement_where_there_is_no_other() {
    for is_played in [true, false] {
        let (mut bench, out) = lost_in_handed(vec![by_number(2)]);
        assert!(out.contains(&Output::Agent(AgentOutput::StartFallback)), "{out:?}");
        assert!(records(&out, &CallEvent::FallbackStarted), "{out:?}");
        assert_eq!((bench.call.path, bench.call.side_of_agent()), (AudioPath::Agent(FAR), FAR));
        let out = if is_played {
            bench.give(Input::Agent(AgentInput::FallbackPlayed))
        } else {
            bench.wait()
        };
        assert_eq!(hangs_up(&out, FAR), Some(HangupCause::AgentLost));
        assert_eq!(bench.close_all().0, HangupCause::AgentLost);
    }
}
