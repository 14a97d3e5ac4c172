//! Attended transfers by a carrier that has both parties: whatever it does, the caller is never lost.

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
use crate::types::id::TrunkId;
use crate::types::random::Random;

const NEAR: LegSide = LegSide::Near;
const FAR: LegSide = LegSide::Far;
const THIRD: LegSide = LegSide::Third;

/// The terms of a trunk whose carrier is asked for attended transfers.
fn by_trunk(number: u128) -> LegTerms {
    let joined_by = Some(TrunkId::from_uuid(uuid::Uuid::from_u128(number)));
    LegTerms { joined_by, ..terms() }
}

fn told(news: TransferNews) -> Output {
    Output::Agent(AgentOutput::TellTransfer(news))
}

/// A call whose agent speaks with the target, which goes by this trunk.
fn consulting(trunk: u128) -> Bench {
    let mut bench = Bench::new(|setup| setup.opening = Opening::Inbound(by_trunk(1)));
    bench.talk();
    bench.give(Input::TransferRequested(TransferRequest::Attended(Box::new(request()))));
    bench.run_media(FAR);
    let terms = Some(Box::new(by_trunk(trunk)));
    bench.leg(FAR, LegInput::OfferWanted { terms, place: None });
    let out = bench.leg(FAR, LegInput::Answered(sdp()));
    assert_eq!(path(&out), Some(AudioPath::Agent(FAR)));
    bench
}

/// A call whose carrier was asked to connect both.
fn referring() -> Bench {
    let mut bench = consulting(1);
    let out = bench.give(Input::TransferConfirmed);
    assert!(out.contains(&Output::Leg(NEAR, LegOutput::ReferToLeg(FAR))), "{out:?}");
    assert_eq!(path(&out), Some(AudioPath::Bridge(FAR)), "they hear each other meanwhile");
    assert!(records(&out, &CallEvent::TransferBegun(TransferMode::Refer)));
    assert!(!out.contains(&Output::Agent(AgentOutput::End)), "the agent is kept");
    bench
}

fn at(status: u16) -> LegInput {
    LegInput::ReferProgressed { status }
}

fn bye(by: Party) -> LegInput {
    LegInput::Ended { cause: HangupCause::Normal, by }
}

/// The caller and the target stay connected by us.
fn is_bridged(bench: &Bench, out: &[Output], cause: HangupCause) {
    assert!(records(out, &CallEvent::TransferFailed(cause)), "{cause}: {out:?}");
    assert!(records(out, &CallEvent::TransferCompleted));
    let done = [told(TransferNews::Completed), Output::Agent(AgentOutput::End)];
    assert!(done.iter().all(|output| out.contains(output)), "{out:?}");
    assert_eq!(bench.call.path, AudioPath::Bridge(FAR));
    assert_eq!((hangs_up(out, NEAR), hangs_up(out, FAR)), (None, None));
}

#[test]
fn a_carrier_that_has_both_parties_is_asked_to_connect_them_and_then_we_leave() {
    let mut bench = referring();
    for status in [202, 100] {
        assert_eq!(hangs_up(&bench.leg(NEAR, at(status)), NEAR), None);
    }
    // The carrier hangs up the leg that is replaced before it tells that it is through.
    let out = bench.leg(FAR, bye(Party::Far));
    assert_eq!(path(&out), Some(AudioPath::Waiting(Comfort::Hold)), "no agent speaks into it");
    let out = bench.leg(NEAR, at(200));
    assert_eq!(hangs_up(&out, NEAR), Some(HangupCause::Transferred));
    assert!(records(&out, &CallEvent::TransferCompleted));
    assert!(out.contains(&told(TransferNews::Completed)));
    assert_eq!(bench.close_all().0, HangupCause::Transferred);
    // Or only after that.
    let mut bench = referring();
    bench.leg(NEAR, at(202));
    let out = bench.leg(NEAR, at(200));
    for side in [NEAR, FAR] {
        assert_eq!(hangs_up(&out, side), Some(HangupCause::Transferred));
    }
    assert_eq!(bench.close_all().0, HangupCause::Transferred);
}

#[test]
fn only_a_carrier_that_has_both_and_may_be_asked_is_asked() {
    let mut bench = consulting(2);
    let out = bench.give(Input::TransferConfirmed);
    assert_eq!(path(&out), Some(AudioPath::Bridge(FAR)));
    assert!(!out.contains(&Output::Leg(NEAR, LegOutput::ReferToLeg(FAR))), "{out:?}");
    assert!(out.contains(&Output::Agent(AgentOutput::End)));
}

#[test]
fn what_the_carrier_refuses_stays_bridged_by_us() {
    for (input, cause) in [
        (LegInput::ReferFailed { status: 603 }, HangupCause::Rejected),
        (LegInput::ReferFailed { status: 405 }, HangupCause::CarrierRefused),
        (LegInput::ReferFailed { status: 408 }, HangupCause::CarrierTimeout),
        (at(603), HangupCause::Rejected),
        (at(486), HangupCause::Busy),
    ] {
        let mut bench = referring();
        bench.leg(NEAR, at(202));
        let out = bench.leg(NEAR, input);
        is_bridged(&bench, &out, cause);
        let out = bench.leg(FAR, bye(Party::Far));
        assert_eq!(hangs_up(&out, NEAR), Some(HangupCause::Normal));
        assert_eq!(bench.close_all().1, Party::Far);
    }
}

#[test]
fn a_carrier_that_accepts_and_then_says_nothing_leaves_them_bridged_by_us() {
    let mut bench = referring();
    bench.now += Duration::from_secs(1);
    bench.leg(NEAR, at(202));
    let out = bench.wait();
    assert_eq!(bench.now, Moment::START + Duration::from_secs(31));
    is_bridged(&bench, &out, HangupCause::NoAnswer);
}

#[test]
fn a_carrier_that_takes_the_target_away_and_then_fails_leaves_the_caller_with_its_agent() {
    let mut bench = referring();
    bench.leg(NEAR, at(202));
    bench.leg(FAR, bye(Party::Far));
    let out = bench.leg(NEAR, at(603));
    assert!(out.contains(&told(TransferNews::Failed(HangupCause::Rejected))), "{out:?}");
    assert_eq!(path(&out), Some(AudioPath::Agent(NEAR)));
    assert_eq!(hangs_up(&out, NEAR), None);
    // An agent that did not wait is replaced by the announcement.
    let mut bench = referring();
    bench.give(Input::Agent(AgentInput::HungUp));
    bench.leg(FAR, bye(Party::Far));
    let out = bench.wait();
    assert!(out.contains(&Output::Agent(AgentOutput::StartFallback)), "{out:?}");
    assert_eq!(hangs_up(&out, NEAR), None);
}

#[test]
fn a_carrier_that_hangs_up_the_caller_first_is_given_time_to_take_the_target() {
    let mut bench = referring();
    bench.leg(NEAR, at(202));
    let out = bench.leg(NEAR, bye(Party::Caller));
    assert_eq!(hangs_up(&out, FAR), None, "it would be hung up under the carrier's hands");
    let out = bench.leg(FAR, bye(Party::Far));
    assert!(records(&out, &CallEvent::TransferCompleted));
    assert_eq!(bench.close_all().0, HangupCause::Transferred);
    // The other way round.
    let mut bench = referring();
    bench.leg(NEAR, at(202));
    bench.leg(FAR, bye(Party::Far));
    let out = bench.leg(NEAR, bye(Party::Caller));
    assert!(records(&out, &CallEvent::TransferCompleted));
    assert_eq!(bench.close_all().0, HangupCause::Transferred);
    // A caller who really hung up does not keep the target for long.
    let mut bench = referring();
    bench.leg(NEAR, at(202));
    bench.leg(NEAR, bye(Party::Caller));
    let out = bench.wait();
    assert_eq!(bench.now, Moment::START + Duration::from_secs(5));
    assert_eq!(hangs_up(&out, FAR), Some(HangupCause::Normal));
    let (cause, by, _) = bench.close_all();
    assert_eq!((cause, by), (HangupCause::Normal, Party::Caller));
    // Nor one who did so before the carrier took the request.
    let mut bench = referring();
    let out = bench.leg(NEAR, bye(Party::Caller));
    assert_eq!(hangs_up(&out, FAR), Some(HangupCause::Normal));
}

fn below(random: &mut Random, most: u8) -> u8 {
    let mut byte = [0];
    random.fill(&mut byte);
    byte[0] % most
}

/// What may happen while a carrier connects two parties.
fn happening(random: &mut Random) -> Option<Input> {
    Some(Input::Leg(
        if below(random, 3) == 0 { FAR } else { NEAR },
        match below(random, 9) {
            0 | 1 => at(202),
            2 => at(100),
            3 => at(180),
            4 => at(200),
            5 => at(603),
            6 => LegInput::ReferFailed { status: 481 },
            7 => bye(Party::Caller),
            _ => return None,
        },
    ))
}

#[test]
fn whatever_order_words_and_hang_ups_come_in_nobody_is_left_alone_and_the_call_ends_once() {
    let mut transferred = 0;
    for seed in 0..1_000 {
        let mut random = Random::from_seed(seed);
        let mut bench = referring();
        let mut all = Vec::new();
        let (mut near_hung_up, mut far_hung_up) = (false, false);
        for _ in 0..below(&mut random, 7) {
            let Some(input) = happening(&mut random) else {
                if bench.call.deadline().is_some() {
                    all.extend(bench.wait());
                }
                continue;
            };
            // A dialog ends once, and says nothing after that.
            match &input {
                Input::Leg(NEAR, LegInput::Ended { .. }) => near_hung_up = true,
                Input::Leg(FAR, LegInput::Ended { .. }) => far_hung_up = true,
                _ => (),
            }
            all.extend(bench.give(input));
        }
        let caller_is_there = !near_hung_up && hangs_up(&all, NEAR).is_none();
        let target_is_there = !far_hung_up && hangs_up(&all, FAR).is_none();
        let has_somebody = match bench.call.path {
            AudioPath::Agent(NEAR) => {
                matches!(bench.call.agent, AgentState::Ready | AgentState::Announcing)
            }
            AudioPath::Bridge(FAR) => target_is_there,
            // The carrier has the target, and its last word or the timer comes.
            AudioPath::Waiting(_) => bench.call.deadline().is_some(),
            _ => false,
        };
        assert!(!caller_is_there || has_somebody, "{seed}: {:?}", bench.call);
        let cause = HangupCause::Draining;
        all.extend(bench.give(Input::HangupRequested { cause, by: Party::Switch }));
        for side in [NEAR, FAR, THIRD] {
            let figures = Some(Box::<MediaFigures>::default());
            all.extend(bench.give(Input::Media(side, MediaInput::Closed(figures))));
        }
        assert!(bench.call.is_over(), "{seed}");
        let count = |of: &dyn Fn(&Output) -> bool| all.iter().filter(|output| of(output)).count();
        assert_eq!(count(&|output| matches!(output, Output::Finish)), 1, "{seed}");
        for (side, by_peer) in [(NEAR, near_hung_up), (FAR, far_hung_up)] {
            let ours = count(
                &|output| matches!(output, Output::Leg(to, LegOutput::HangUp(_)) if *to == side),
            );
            assert!(ours <= 1 && (by_peer || ours == 1), "{seed}: {side:?} {ours}");
        }
        transferred += usize::from(records(&all, &CallEvent::TransferCompleted));
    }
    assert!((100..1_000).contains(&transferred), "{transferred} of 1000 were through");
}
