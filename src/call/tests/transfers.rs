//! Transfers in virtual time, to targets that misbehave in each way: the caller is never lost.

use super::fallback::by_link;
use super::fallback::by_number;
use super::legs::dial;
use super::legs::hangs_up;
use super::legs::path;
use super::legs::records;
use super::legs::sdp;
use super::random::request;
use super::*;
use crate::call::input::AudioPath;
use crate::call::input::Comfort;
use crate::call::transfer::TransferMode;
use crate::call::transfer::TransferNews;
use crate::call::transfer::TransferRequest;

const NEAR: LegSide = LegSide::Near;
const FAR: LegSide = LegSide::Far;
const THIRD: LegSide = LegSide::Third;

fn talking() -> Bench {
    let mut bench = Bench::new(|_| ());
    bench.talk();
    bench
}

fn told(news: TransferNews) -> Output {
    Output::Agent(AgentOutput::TellTransfer(news))
}

/// A call whose target is dialled for the caller.
fn joining() -> Bench {
    let mut bench = talking();
    let out = bench.give(Input::TransferRequested(TransferRequest::Bridge(Box::new(request()))));
    assert!(out.contains(&told(TransferNews::Begun)), "{out:?}");
    assert_eq!(path(&out), Some(AudioPath::Waiting(Comfort::Silence)));
    assert!(dial(&bench.run_media(FAR), FAR).is_some());
    bench
}

/// A call whose carrier was asked.
fn referring(otherwise: bool) -> Bench {
    let mut bench = talking();
    let target = request().target;
    let otherwise = otherwise.then(|| Box::new(request()));
    let refer = TransferRequest::Refer { target: Box::new(target.clone()), otherwise };
    let out = bench.give(Input::TransferRequested(refer));
    assert!(out.contains(&Output::Leg(NEAR, LegOutput::Refer(target))), "{out:?}");
    assert!(records(&out, &CallEvent::TransferBegun(TransferMode::Refer)));
    bench
}

/// A call whose agent dials somebody to speak with first.
fn consulting() -> Bench {
    let mut bench = talking();
    let out = bench.give(Input::TransferRequested(TransferRequest::Attended(Box::new(request()))));
    assert_eq!(path(&out), Some(AudioPath::Waiting(Comfort::Hold)));
    bench.run_media(FAR);
    bench
}

/// The caller is with its agent again, which knows why.
fn is_back(bench: &Bench, out: &[Output], cause: HangupCause) {
    assert!(out.contains(&told(TransferNews::Failed(cause))), "{cause}: {out:?}");
    assert!(records(out, &CallEvent::TransferFailed(cause)));
    assert_eq!(bench.call.path, AudioPath::Agent(NEAR));
    assert_eq!(hangs_up(out, NEAR), None);
}

/// The same where the transfer did not fail, but was taken back.
fn is_taken_back(bench: &Bench, out: &[Output]) {
    assert!(out.contains(&told(TransferNews::Withdrawn)), "{out:?}");
    assert!(records(out, &CallEvent::TransferWithdrawn), "{out:?}");
    let failed = |output: &Output| {
        matches!(
            output,
            Output::Record(CallEvent::TransferFailed(_))
                | Output::Agent(AgentOutput::TellTransfer(TransferNews::Failed(_)))
        )
    };
    assert!(!out.iter().any(failed), "{out:?}");
    assert_eq!(bench.call.path, AudioPath::Agent(NEAR));
    assert_eq!(hangs_up(out, NEAR), None);
}

fn ended_leg(cause: HangupCause) -> LegInput {
    LegInput::Ended { cause, by: Party::Far }
}

fn refer_at(status: u16) -> LegInput {
    LegInput::ReferProgressed { status }
}

#[test]
fn a_bridged_transfer_ends_the_agent_once_the_target_proved_that_it_stays() {
    let mut bench = joining();
    let out = bench.leg(FAR, LegInput::Answered(sdp()));
    assert_eq!(path(&out), Some(AudioPath::Bridge(FAR)));
    assert!(records(&out, &CallEvent::Bridged(FAR)));
    assert!(!out.contains(&Output::Agent(AgentOutput::End)), "{out:?}");
    let out = bench.wait();
    assert_eq!(bench.now, Moment::START + Duration::from_secs(2));
    let done = [told(TransferNews::Completed), Output::Agent(AgentOutput::End)];
    assert!(done.iter().all(|output| out.contains(output)), "{out:?}");
    assert!(records(&out, &CallEvent::TransferCompleted));
    let out = bench.leg(FAR, ended_leg(HangupCause::Normal));
    assert_eq!(hangs_up(&out, NEAR), Some(HangupCause::Normal));
    assert_eq!(bench.close_all().1, Party::Far);
}

/// A caller whose agent dialled somebody for it and waits.
fn dialling() -> Bench {
    let mut bench = talking();
    let out = bench.give(Input::TransferRequested(TransferRequest::Dial(Box::new(request()))));
    assert!(records(&out, &CallEvent::TransferBegun(TransferMode::Dial)), "{out:?}");
    assert!(dial(&bench.run_media(FAR), FAR).is_some());
    bench
}

#[test]
fn an_agent_that_dialled_somebody_has_the_caller_back_when_that_one_is_gone() {
    let mut bench = dialling();
    let out = bench.leg(FAR, LegInput::Answered(sdp()));
    assert_eq!(path(&out), Some(AudioPath::Bridge(FAR)));
    assert!(out.contains(&told(TransferNews::Answered)), "{out:?}");
    assert!(!out.contains(&Output::Agent(AgentOutput::End)), "{out:?}");
    let out = bench.leg(FAR, ended_leg(HangupCause::Normal));
    assert!(out.contains(&told(TransferNews::Ended)), "{out:?}");
    assert_eq!((path(&out), hangs_up(&out, NEAR)), (Some(AudioPath::Agent(NEAR)), None));
}

#[test]
fn a_dial_is_given_up_before_and_after_its_answer_and_the_agent_goes_on() {
    let mut bench = dialling();
    let out = bench.give(Input::TransferWithdrawn);
    assert_eq!(hangs_up(&out, FAR), Some(HangupCause::Normal));
    is_taken_back(&bench, &out);
    let mut bench = dialling();
    bench.leg(FAR, LegInput::Answered(sdp()));
    let out = bench.give(Input::TransferWithdrawn);
    assert_eq!(hangs_up(&out, FAR), Some(HangupCause::Normal));
    assert!(out.contains(&told(TransferNews::Ended)), "{out:?}");
    assert_eq!(path(&out), Some(AudioPath::Agent(NEAR)));
    let mut bench = dialling();
    let out = bench.leg(FAR, LegInput::DialFailed { cause: HangupCause::Busy, status: Some(486) });
    is_back(&bench, &out, HangupCause::Busy);
}

#[test]
fn an_agent_that_left_while_somebody_it_dialled_talks_is_not_waited_for() {
    let mut bench = dialling();
    bench.leg(FAR, LegInput::Answered(sdp()));
    bench.give(Input::Agent(AgentInput::Lost(HangupCause::AgentLost)));
    let out = bench.leg(FAR, ended_leg(HangupCause::Normal));
    assert_eq!(hangs_up(&out, NEAR), Some(HangupCause::Normal));
}

#[test]
fn the_caller_hears_the_targets_early_media() {
    let mut bench = joining();
    let out = bench.leg(FAR, LegInput::Progressed { status: 183, body: sdp() });
    assert_eq!(path(&out), Some(AudioPath::Early(FAR)));
    // Early media, then silence: nobody is lost by that, and the ring time-out still counts.
    assert!(bench.give(Input::Media(FAR, MediaInput::TimedOut)).is_empty());
    let out = bench.wait();
    assert_eq!(hangs_up(&out, FAR), Some(HangupCause::NoAnswer));
    is_back(&bench, &out, HangupCause::NoAnswer);
}

#[test]
fn a_target_that_cannot_be_had_leaves_the_caller_with_its_agent() {
    let failed = |cause, status| LegInput::DialFailed { cause, status };
    for (input, cause) in [
        (failed(HangupCause::Busy, Some(486)), HangupCause::Busy),
        (failed(HangupCause::Rejected, Some(603)), HangupCause::Rejected),
        (failed(HangupCause::NoTrunk, None), HangupCause::NoTrunk),
        (LegInput::Answered(None), HangupCause::NoSdpAnswer),
        (ended_leg(HangupCause::PeerTimeout), HangupCause::PeerTimeout),
    ] {
        let mut bench = joining();
        let out = bench.leg(FAR, input);
        is_back(&bench, &out, cause);
        assert!(out.contains(&Output::Media(FAR, MediaOutput::Close)), "{out:?}");
    }
    let mut bench = joining();
    let out = bench.wait();
    assert_eq!(bench.now, Moment::START + request().ring_max);
    assert_eq!(hangs_up(&out, FAR), Some(HangupCause::NoAnswer));
    is_back(&bench, &out, HangupCause::NoAnswer);
}

#[test]
fn a_target_that_hangs_up_right_after_its_answer_leaves_the_caller_with_its_agent() {
    let mut bench = joining();
    bench.leg(FAR, LegInput::Answered(sdp()));
    bench.now += Duration::from_millis(500);
    let out = bench.leg(FAR, ended_leg(HangupCause::Normal));
    is_back(&bench, &out, HangupCause::Rejected);
}

#[test]
fn without_ports_for_the_target_the_caller_stays_with_its_agent() {
    let mut bench = talking();
    bench.give(Input::TransferRequested(TransferRequest::Bridge(Box::new(request()))));
    let out = bench.give(Input::Media(FAR, MediaInput::Refused(HangupCause::NoPorts)));
    is_back(&bench, &out, HangupCause::NoPorts);
    assert_eq!(hangs_up(&out, FAR), None, "it was never dialled");
}

#[test]
fn a_failed_transfer_may_be_tried_again_before_the_first_is_cleared_away() {
    let mut bench = joining();
    let busy = LegInput::DialFailed { cause: HangupCause::Busy, status: Some(486) };
    bench.leg(FAR, busy);
    bench.give(Input::TransferRequested(TransferRequest::Bridge(Box::new(request()))));
    assert!(dial(&bench.run_media(THIRD), THIRD).is_some());
    // A late answer of the first is nobody's.
    let out = bench.leg(FAR, LegInput::Answered(sdp()));
    assert_eq!(hangs_up(&out, FAR), Some(HangupCause::Normal));
    assert_eq!(path(&out), None);
    let out = bench.leg(THIRD, LegInput::Answered(sdp()));
    assert_eq!(path(&out), Some(AudioPath::Bridge(THIRD)));
}

#[test]
fn a_caller_that_hangs_up_takes_the_target_with_it() {
    for answered in [false, true] {
        let mut bench = joining();
        if answered {
            bench.leg(FAR, LegInput::Answered(sdp()));
        }
        let gone = LegInput::Ended { cause: HangupCause::Normal, by: Party::Caller };
        let out = bench.leg(NEAR, gone);
        assert_eq!(hangs_up(&out, FAR), Some(HangupCause::Normal));
        assert!(out.contains(&Output::Agent(AgentOutput::End)));
        assert_eq!(records(&out, &CallEvent::TransferCompleted), answered);
        assert_eq!(bench.close_all().1, Party::Caller);
    }
}

#[test]
fn an_agent_that_leaves_during_its_transfer_is_missed_only_when_that_fails() {
    for leave in [AgentInput::HungUp, AgentInput::Lost(HangupCause::AgentLost)] {
        let mut bench = joining();
        let out = bench.give(Input::Agent(leave));
        assert_eq!(hangs_up(&out, NEAR), None);
        let busy = LegInput::DialFailed { cause: HangupCause::Busy, status: Some(486) };
        let out = bench.leg(FAR, busy);
        assert!(out.contains(&Output::Agent(AgentOutput::StartFallback)), "{out:?}");
        assert_eq!(path(&out), Some(AudioPath::Agent(NEAR)));
        let mut bench = joining();
        bench.give(Input::Agent(leave));
        let out = bench.leg(FAR, LegInput::Answered(sdp()));
        assert_eq!(path(&out), Some(AudioPath::Bridge(FAR)));
    }
}

#[test]
fn the_next_agent_takes_over_from_one_that_left_for_a_transfer_that_fails() {
    let left = [AgentInput::HungUp, AgentInput::Lost(HangupCause::AgentLost)];
    for (leave, next) in left.into_iter().flat_map(|leave| [(leave, true), (leave, false)]) {
        let agents = || VecDeque::from([if next { by_link(2) } else { by_number(2) }]);
        let taken_over = |bench: &mut Bench, out: &[Output]| {
            assert!(!out.contains(&Output::Agent(AgentOutput::StartFallback)), "{out:?}");
            assert!(records(out, &CallEvent::AgentReplaced(by_link(2).profile)), "{out:?}");
            if next {
                assert!(out.contains(&Output::Agent(AgentOutput::Attach)), "{out:?}");
                assert_eq!(path(out), Some(AudioPath::Waiting(Comfort::Connecting)));
                let out = bench.give(Input::Agent(AgentInput::Ready));
                assert_eq!(path(&out), Some(AudioPath::Agent(NEAR)));
            } else {
                let has_line = |side| out.contains(&Output::Media(side, MediaOutput::Reserve));
                let side = if has_line(FAR) { FAR } else { THIRD };
                assert!(dial(&bench.run_media(side), side).is_some(), "{out:?}");
                let out = bench.leg(side, LegInput::Answered(sdp()));
                assert_eq!(path(&out), Some(AudioPath::Bridge(side)));
            }
        };
        let mut bench = joining();
        bench.call.setup.fallbacks = agents();
        bench.give(Input::Agent(leave));
        let busy = LegInput::DialFailed { cause: HangupCause::Busy, status: Some(486) };
        let out = bench.leg(FAR, busy);
        taken_over(&mut bench, &out);
        let mut bench = referring(false);
        bench.call.setup.fallbacks = agents();
        bench.give(Input::Agent(leave));
        let out = bench.leg(NEAR, LegInput::ReferFailed { status: 603 });
        taken_over(&mut bench, &out);
    }
}

/// Calls whose transfer failed at this moment, so that the agent may count on it still: its carrier's, ours, and one of
/// which the agent was to speak with the target first. The causes are those.
fn failed() -> [(Bench, HangupCause); 3] {
    let mut refused = referring(false);
    refused.leg(NEAR, LegInput::ReferFailed { status: 603 });
    let busy = || LegInput::DialFailed { cause: HangupCause::Busy, status: Some(486) };
    let (mut joined, mut consulted) = (joining(), consulting());
    joined.leg(FAR, busy());
    consulted.leg(FAR, busy());
    let (rejected, busy) = (HangupCause::Rejected, HangupCause::Busy);
    [(refused, rejected), (joined, busy), (consulted, busy)]
}

#[test]
fn an_agent_that_leaves_as_its_transfer_fails_is_replaced_as_one_that_left_before() {
    for (mut bench, cause) in failed() {
        bench.now += Duration::from_millis(1_999);
        let out = bench.give(Input::Agent(AgentInput::HungUp));
        assert_eq!(hangs_up(&out, NEAR), None, "{cause}: {out:?}");
        assert!(out.contains(&Output::Agent(AgentOutput::StartFallback)), "{cause}: {out:?}");
        let out = bench.give(Input::Agent(AgentInput::FallbackPlayed));
        assert_eq!(hangs_up(&out, NEAR), Some(cause));
        assert_eq!(bench.close_all().0, cause);
    }
    for (mut bench, cause) in failed() {
        bench.call.setup.fallbacks = [by_link(2)].into();
        let out = bench.give(Input::Agent(AgentInput::HungUp));
        assert!(records(&out, &CallEvent::AgentReplaced(by_link(2).profile)), "{cause}: {out:?}");
        assert!(out.contains(&Output::Agent(AgentOutput::Attach)), "{cause}: {out:?}");
        bench.give(Input::Agent(AgentInput::Ready));
        // Who took over asked for nothing: it means what it does.
        let out = bench.give(Input::Agent(AgentInput::HungUp));
        assert_eq!(hangs_up(&out, NEAR), Some(HangupCause::Normal), "{cause}: {out:?}");
    }
}

#[test]
fn an_agent_that_stays_after_its_transfer_failed_ends_the_call_when_it_leaves() {
    let ends = |mut bench: Bench| {
        bench.call.setup.fallbacks = [by_link(2)].into();
        let out = bench.give(Input::Agent(AgentInput::HungUp));
        assert_eq!(hangs_up(&out, NEAR), Some(HangupCause::Normal), "{out:?}");
        assert_eq!(bench.close_all().1, Party::Agent);
    };
    for (mut bench, _) in failed() {
        assert!(bench.wait().is_empty(), "nothing but that it counts no longer");
        assert_eq!(bench.now, Moment::START + Duration::from_secs(2));
        ends(bench);
    }
    // Whoever takes a transfer back knows of that, and a script of what came of its dial.
    let mut withdrawn = joining();
    withdrawn.give(Input::TransferWithdrawn);
    ends(withdrawn);
    let mut dialled = dialling();
    dialled.leg(FAR, LegInput::DialFailed { cause: HangupCause::Busy, status: Some(486) });
    ends(dialled);
    // So does an agent that is told.
    let mut told = talking();
    told.call.setup.agent.hears_of_failures = true;
    told.give(Input::TransferRequested(TransferRequest::Bridge(Box::new(request()))));
    told.run_media(FAR);
    told.leg(FAR, LegInput::DialFailed { cause: HangupCause::Busy, status: Some(486) });
    ends(told);
}

#[test]
fn a_transfer_may_be_withdrawn_while_it_rings() {
    let mut bench = joining();
    let out = bench.give(Input::TransferWithdrawn);
    assert_eq!(hangs_up(&out, FAR), Some(HangupCause::Normal));
    is_taken_back(&bench, &out);
}

#[test]
fn refer_waits_for_the_final_notify() {
    let mut bench = referring(false);
    for status in [202, 100, 180, 183] {
        let out = bench.leg(NEAR, refer_at(status));
        assert_eq!(hangs_up(&out, NEAR), None, "{status}");
    }
    let out = bench.leg(NEAR, refer_at(200));
    assert_eq!(hangs_up(&out, NEAR), Some(HangupCause::Transferred));
    assert!(out.contains(&told(TransferNews::Completed)));
    assert!(records(&out, &CallEvent::TransferCompleted));
    assert_eq!(bench.close_all().0, HangupCause::Transferred);
}

#[test]
fn refer_202_then_nothing_times_out() {
    let mut bench = referring(false);
    bench.now += Duration::from_secs(1);
    bench.leg(NEAR, refer_at(202));
    let out = bench.wait();
    assert_eq!(bench.now, Moment::START + Duration::from_secs(31));
    is_back(&bench, &out, HangupCause::NoAnswer);
}

#[test]
fn a_target_that_rings_at_the_carrier_is_waited_for_as_long_as_calls_ring() {
    let mut bench = referring(false);
    bench.leg(NEAR, refer_at(180));
    bench.leg(NEAR, refer_at(100));
    let out = bench.wait();
    assert_eq!(bench.now, Moment::START + Duration::from_secs(45));
    is_back(&bench, &out, HangupCause::NoAnswer);
}

#[test]
fn a_carrier_that_does_not_transfer_leaves_the_caller_with_its_agent() {
    for (input, cause) in [
        (LegInput::ReferFailed { status: 603 }, HangupCause::Rejected),
        (LegInput::ReferFailed { status: 405 }, HangupCause::CarrierRefused),
        (refer_at(486), HangupCause::Busy),
        (refer_at(603), HangupCause::Rejected),
    ] {
        let mut bench = referring(false);
        bench.leg(NEAR, refer_at(202));
        let out = bench.leg(NEAR, input);
        is_back(&bench, &out, cause);
    }
}

#[test]
fn what_the_carrier_does_not_do_we_do_where_that_was_asked_for() {
    let mut bench = referring(true);
    let out = bench.leg(NEAR, LegInput::ReferFailed { status: 603 });
    assert!(records(&out, &CallEvent::TransferFailed(HangupCause::Rejected)));
    assert!(records(&out, &CallEvent::TransferBegun(TransferMode::Bridge)));
    assert!(dial(&bench.run_media(FAR), FAR).is_some());
    let out = bench.leg(FAR, LegInput::Answered(sdp()));
    assert_eq!(path(&out), Some(AudioPath::Bridge(FAR)));
}

#[test]
fn a_hang_up_instead_of_the_final_notify_counts_as_transferred_only_if_the_target_rang() {
    for (status, cause) in [(180, HangupCause::Transferred), (100, HangupCause::Normal)] {
        let mut bench = referring(false);
        bench.leg(NEAR, refer_at(202));
        bench.leg(NEAR, refer_at(status));
        let bye = LegInput::Ended { cause: HangupCause::Normal, by: Party::Caller };
        let out = bench.leg(NEAR, bye);
        let rang = cause == HangupCause::Transferred;
        assert_eq!(records(&out, &CallEvent::TransferCompleted), rang);
        assert_eq!(bench.close_all().0, cause);
    }
}

#[test]
fn an_agent_that_hangs_up_after_asking_the_carrier_does_not_take_the_caller_with_it() {
    let mut bench = referring(false);
    let out = bench.give(Input::Agent(AgentInput::HungUp));
    assert_eq!(hangs_up(&out, NEAR), None, "{out:?}");
    let out = bench.leg(NEAR, refer_at(200));
    assert_eq!(hangs_up(&out, NEAR), Some(HangupCause::Transferred));
    let mut bench = referring(false);
    bench.give(Input::Agent(AgentInput::HungUp));
    let out = bench.leg(NEAR, refer_at(404));
    assert!(out.contains(&Output::Agent(AgentOutput::StartFallback)), "{out:?}");
}

#[test]
fn in_an_attended_transfer_the_agent_speaks_with_the_target_first() {
    let mut bench = consulting();
    let out = bench.leg(FAR, LegInput::Answered(sdp()));
    assert_eq!(path(&out), Some(AudioPath::Agent(FAR)));
    assert!(out.contains(&told(TransferNews::Consulting)));
    // What the caller presses while it waits is nobody's; what the target presses is the agent's.
    assert!(!bench.keyed(NEAR, '1').contains(&key('1')));
    assert!(bench.keyed(FAR, '2').contains(&key('2')));
    let out = bench.give(Input::TransferConfirmed);
    assert_eq!(path(&out), Some(AudioPath::Bridge(FAR)));
    assert!(records(&out, &CallEvent::TransferCompleted));
    assert!(out.contains(&Output::Agent(AgentOutput::End)));
}

fn key(digit: char) -> Output {
    Output::Agent(AgentOutput::TellDigit(digit))
}

#[test]
fn an_attended_transfer_that_fails_or_is_withdrawn_brings_the_caller_back() {
    let answered = || {
        let mut bench = consulting();
        bench.leg(FAR, LegInput::Answered(sdp()));
        bench
    };
    let mut bench = answered();
    let out = bench.give(Input::TransferWithdrawn);
    assert_eq!(hangs_up(&out, FAR), Some(HangupCause::Normal));
    is_taken_back(&bench, &out);
    let mut bench = answered();
    let out = bench.leg(FAR, ended_leg(HangupCause::Normal));
    is_back(&bench, &out, HangupCause::Rejected);
    let mut bench = consulting();
    let busy = LegInput::DialFailed { cause: HangupCause::Busy, status: Some(486) };
    let out = bench.leg(FAR, busy);
    is_back(&bench, &out, HangupCause::Busy);
    let mut bench = consulting();
    let out = bench.wait();
    assert_eq!(hangs_up(&out, FAR), Some(HangupCause::NoAnswer));
    is_back(&bench, &out, HangupCause::NoAnswer);
}

#[test]
fn an_agent_that_leaves_the_consultation_leaves_the_caller_with_the_target() {
    for leave in [
        Input::Agent(AgentInput::HungUp),
        Input::Agent(AgentInput::Lost(HangupCause::AgentLost)),
        Input::TransferConfirmed,
    ] {
        let mut bench = consulting();
        bench.leg(FAR, LegInput::Answered(sdp()));
        let out = bench.give(leave.clone());
        assert_eq!(path(&out), Some(AudioPath::Bridge(FAR)), "{leave:?}");
        let mut bench = consulting();
        let out = bench.give(leave);
        assert_eq!(path(&out), Some(AudioPath::Waiting(Comfort::Silence)));
        let out = bench.leg(FAR, LegInput::Answered(sdp()));
        assert_eq!(path(&out), Some(AudioPath::Bridge(FAR)));
    }
}

#[test]
fn an_agent_that_is_lost_before_it_spoke_with_the_target_gives_way_to_the_next_one() {
    let lost = || Input::Agent(AgentInput::Lost(HangupCause::AgentLost));
    let mut bench = consulting();
    bench.call.setup.fallbacks = [by_link(2)].into();
    let out = bench.give(lost());
    assert_eq!(hangs_up(&out, FAR), Some(HangupCause::AgentLost));
    assert!(records(&out, &CallEvent::TransferFailed(HangupCause::AgentLost)), "{out:?}");
    assert!(records(&out, &CallEvent::AgentReplaced(by_link(2).profile)), "{out:?}");
    assert_eq!(path(&out), Some(AudioPath::Waiting(Comfort::Connecting)));
    let out = bench.give(Input::Agent(AgentInput::Ready));
    assert_eq!(path(&out), Some(AudioPath::Agent(NEAR)));
    // Who has spoken with the target has the caller, whoever else there is.
    let mut bench = consulting();
    bench.call.setup.fallbacks = [by_link(2)].into();
    bench.leg(FAR, LegInput::Answered(sdp()));
    let out = bench.give(lost());
    assert_eq!((path(&out), hangs_up(&out, FAR)), (Some(AudioPath::Bridge(FAR)), None));
    assert!(records(&out, &CallEvent::TransferCompleted), "{out:?}");
}

/// A call whose agent is reached by telephone, and may transfer.
fn with_agent_leg(transfers: bool) -> Bench {
    let mut bench = Bench::new(|setup| {
        let mut request = request();
        request.terms.transfers = transfers;
        setup.partner = Partner::AgentLeg(Box::new(request));
    });
    bench.leg(NEAR, LegInput::Offered(sdp()));
    bench.run_media(NEAR);
    bench.run_media(FAR);
    bench.leg(FAR, LegInput::Answered(sdp()));
    bench.leg(NEAR, LegInput::Acknowledged(None));
    bench
}

fn referred() -> LegInput {
    LegInput::Referred(Box::new(request()))
}

#[test]
fn a_peer_that_may_not_ask_for_somebody_else_is_declined() {
    let decline = LegOutput::RefuseRefer { status: 603 };
    let mut bench = with_agent_leg(false);
    let out = bench.leg(FAR, referred());
    assert_eq!(out.first(), Some(&Output::Leg(FAR, decline.clone())));
    let out = bench.leg(NEAR, referred());
    assert_eq!(out.first(), Some(&Output::Leg(NEAR, decline)));
    assert!(records(&out, &CallEvent::TransferRefused(NEAR)));
}

#[test]
fn an_agent_by_telephone_may_ask_for_somebody_else_and_is_reported_to() {
    let notify = |status| Output::Leg(FAR, LegOutput::NotifyRefer { status });
    let mut bench = with_agent_leg(true);
    let out = bench.leg(FAR, referred());
    assert!(out.contains(&Output::Leg(FAR, LegOutput::AcceptRefer)), "{out:?}");
    assert!(out.contains(&notify(100)));
    assert!(dial(&bench.run_media(THIRD), THIRD).is_some());
    let out = bench.leg(THIRD, LegInput::Progressed { status: 180, body: None });
    assert!(out.contains(&notify(180)));
    let out = bench.leg(THIRD, LegInput::Answered(sdp()));
    assert_eq!(path(&out), Some(AudioPath::Bridge(THIRD)));
    let out = bench.wait();
    assert!(out.contains(&notify(200)));
    assert_eq!(hangs_up(&out, FAR), Some(HangupCause::Transferred));
    bench.give(Input::Media(FAR, MediaInput::Closed(None)));
    let out = bench.leg(THIRD, ended_leg(HangupCause::Normal));
    assert_eq!(hangs_up(&out, NEAR), Some(HangupCause::Normal));
}

#[test]
fn an_agent_by_telephone_gets_the_caller_back_when_the_target_is_busy() {
    for status in [486, 600] {
        let mut bench = with_agent_leg(true);
        bench.leg(FAR, referred());
        bench.run_media(THIRD);
        let busy = LegInput::DialFailed { cause: HangupCause::Busy, status: Some(status) };
        let out = bench.leg(THIRD, busy);
        assert!(out.contains(&Output::Leg(FAR, LegOutput::NotifyRefer { status })), "{out:?}");
        assert_eq!(path(&out), Some(AudioPath::Bridge(FAR)));
        assert_eq!(hangs_up(&out, FAR), None);
    }
}

#[test]
fn an_agent_by_telephone_that_does_not_wait_leaves_the_caller_to_the_target_or_the_announcement() {
    let mut bench = with_agent_leg(true);
    bench.leg(FAR, referred());
    bench.run_media(THIRD);
    let out = bench.leg(FAR, ended_leg(HangupCause::Normal));
    assert_eq!(hangs_up(&out, NEAR), None, "{out:?}");
    let busy = LegInput::DialFailed { cause: HangupCause::Busy, status: Some(486) };
    let out = bench.leg(THIRD, busy);
    assert!(out.contains(&Output::Agent(AgentOutput::StartFallback)), "{out:?}");
}

#[test]
fn a_caller_that_hangs_up_between_two_targets_takes_both_with_it() {
    let mut bench = with_agent_leg(true);
    bench.leg(FAR, referred());
    bench.run_media(THIRD);
    let gone = LegInput::Ended { cause: HangupCause::Normal, by: Party::Caller };
    let out = bench.leg(NEAR, gone);
    for side in [FAR, THIRD] {
        assert_eq!(hangs_up(&out, side), Some(HangupCause::Normal));
        assert!(out.contains(&Output::Media(side, MediaOutput::Close)));
    }
    bench.close_all();
}

#[test]
fn a_transfer_is_not_begun_twice() {
    let mut bench = joining();
    let again = Input::TransferRequested(TransferRequest::Bridge(Box::new(request())));
    assert!(bench.give(again).is_empty());
}
