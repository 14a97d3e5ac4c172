//! Who takes over from an agent that was not reached or is lost, in virtual time.

use super::legs::dial;
use super::legs::path;
use super::random::request;
use super::*;
use crate::call::dial::DialTarget;
use crate::call::input::AudioPath;
use crate::call::input::Comfort;
use crate::call::setup::NextAgent;
use crate::routing::outbound::DiversionReason;
use crate::types::fault_policy::ComfortAudio;
use crate::types::id::AiProfileId;
use uuid::Uuid;

fn id(n: u128) -> AiProfileId {
    AiProfileId::from_uuid(Uuid::from_u128(n))
}

pub(super) fn by_link(n: u128) -> NextAgent {
    NextAgent { profile: id(n), agent: plain().agent, partner: Partner::Agent }
}

pub(super) fn by_number(n: u128) -> NextAgent {
    let partner = Partner::Forward(Box::new(request()));
    NextAgent { profile: id(n), agent: plain().agent, partner }
}

fn failed() -> Input {
    Input::Agent(AgentInput::Failed(HangupCause::AgentUnreachable))
}

fn replaced(out: &[Output]) -> Vec<AiProfileId> {
    let of = |output: &Output| match output {
        Output::Record(CallEvent::AgentReplaced(profile)) => Some(*profile),
        _ => None,
    };
    out.iter().filter_map(of).collect()
}

/// Why a number is called.
fn reason(out: &[Output]) -> Option<DiversionReason> {
    out.iter().find_map(|output| match output {
        Output::Leg(_, LegOutput::Dial { target: DialTarget::Number { reason, .. }, .. }) => {
            Some(*reason)
        }
        _ => None,
    })
}

#[test]
fn a_number_that_takes_over_from_another_is_told_why() {
    for (cause, said) in [
        (HangupCause::Busy, DiversionReason::Busy),
        (HangupCause::NoAnswer, DiversionReason::NoAnswer),
        (HangupCause::Rejected, DiversionReason::Unavailable),
    ] {
        let mut bench = Bench::new(|setup| {
            setup.partner = Partner::Forward(Box::new(request()));
            setup.fallbacks = [by_number(2)].into();
        });
        bench.leg(LegSide::Near, LegInput::Offered(super::legs::sdp()));
        bench.run_media(LegSide::Near);
        bench.run_media(LegSide::Far);
        bench.give(Input::Leg(LegSide::Far, LegInput::DialFailed { cause, status: None }));
        let out = bench.run_media(LegSide::Third);
        assert!(dial(&out, LegSide::Third).is_some(), "{cause}");
        assert_eq!(reason(&out), Some(said), "{cause}");
    }
}

#[test]
fn while_it_rings_one_agent_after_the_other_is_tried_before_the_announcement() {
    let mut bench = Bench::new(|setup| setup.fallbacks = [by_link(2), by_link(3)].into());
    bench.ring();
    for n in [2, 3] {
        let out = bench.give(failed());
        assert_eq!(replaced(&out), [id(n)]);
        assert!(out.contains(&Output::Agent(AgentOutput::TakeProfile(id(n)))), "{out:?}");
        assert!(out.contains(&Output::Agent(AgentOutput::Attach)), "{out:?}");
        assert_eq!(answer_body(&out), None, "it rings on");
    }
    let out = bench.give(failed());
    assert_eq!(replaced(&out), []);
    assert!(answer_body(&out).is_some(), "{out:?}");
    assert!(out.contains(&Output::Agent(AgentOutput::StartFallback)), "{out:?}");
}

#[test]
fn an_agent_that_takes_over_while_it_rings_answers_like_any_other() {
    let mut bench = Bench::new(|setup| setup.fallbacks = [by_link(2)].into());
    bench.ring();
    bench.give(failed());
    let out = bench.give(Input::Agent(AgentInput::Ready));
    assert!(answer_body(&out).is_some(), "{out:?}");
    assert!(out.contains(&Output::Agent(AgentOutput::TellAnswered)), "{out:?}");
}

#[test]
fn in_an_answered_call_the_caller_hears_comfort_until_the_next_agent_is_there() {
    let mut bench = Bench::new(|setup| setup.fallbacks = [by_link(2)].into());
    bench.talk();
    let lost = Input::Agent(AgentInput::Lost(HangupCause::AgentLost));
    let out = bench.give(lost.clone());
    assert_eq!(replaced(&out), [id(2)]);
    assert_eq!(path(&out), Some(AudioPath::Waiting(Comfort::Connecting)));
    let out = bench.give(Input::Agent(AgentInput::Ready));
    assert_eq!(path(&out), Some(AudioPath::Agent(LegSide::Near)));
    assert!(out.contains(&Output::Agent(AgentOutput::TellAnswered)), "{out:?}");
    // Nobody is left: the announcement.
    let out = bench.give(lost);
    assert!(out.contains(&Output::Record(CallEvent::FallbackStarted)), "{out:?}");
}

#[test]
fn a_number_takes_over_from_an_agent_and_the_next_agent_from_a_number_that_is_busy() {
    let mut bench = Bench::new(|setup| setup.fallbacks = [by_number(2), by_link(3)].into());
    bench.talk();
    let out = bench.give(Input::Agent(AgentInput::Lost(HangupCause::AgentLost)));
    assert_eq!(replaced(&out), [id(2)]);
    assert!(out.contains(&Output::Media(LegSide::Far, MediaOutput::Reserve)), "{out:?}");
    let out = bench.run_media(LegSide::Far);
    assert!(dial(&out, LegSide::Far).is_some());
    assert_eq!(reason(&out), Some(DiversionReason::Unavailable));
    let cause = HangupCause::Busy;
    let out = bench.give(Input::Leg(LegSide::Far, LegInput::DialFailed { cause, status: None }));
    assert_eq!(replaced(&out), [id(3)]);
    assert!(out.contains(&Output::Agent(AgentOutput::Attach)), "{out:?}");
    let out = bench.give(Input::Agent(AgentInput::Ready));
    assert!(out.contains(&Output::Agent(AgentOutput::TellAnswered)), "{out:?}");
}

#[test]
fn a_caller_whose_agent_breaks_off_hears_comfort_until_it_is_back_or_the_next_is_there() {
    for (comfort, heard) in
        [(ComfortAudio::Ringback, Comfort::Connecting), (ComfortAudio::Noise, Comfort::Quiet)]
    {
        let mut bench = Bench::new(|setup| {
            let mut next = by_link(2);
            next.agent.faults.comfort = comfort;
            setup.fallbacks = [next].into();
            setup.agent.faults.comfort = comfort;
        });
        bench.talk();
        let interrupted = Input::Agent(AgentInput::Interrupted(HangupCause::AgentLost));
        let out = bench.give(interrupted.clone());
        let recorded = CallEvent::AgentInterrupted(HangupCause::AgentLost, None);
        assert_eq!(out, [Output::Record(recorded)], "what it had said is still heard");
        let out = bench.give(Input::Agent(AgentInput::Missed));
        assert_eq!(out, [Output::Connect(AudioPath::Waiting(heard))]);
        let out = bench.give(Input::Agent(AgentInput::Resumed));
        assert_eq!(path(&out), Some(AudioPath::Agent(LegSide::Near)));
        assert!(out.contains(&Output::Record(CallEvent::AgentResumed)));
        bench.give(interrupted);
        bench.give(Input::Agent(AgentInput::Missed));
        let out = bench.give(Input::Agent(AgentInput::Lost(HangupCause::AgentLost)));
        assert_eq!((replaced(&out), path(&out)), (vec![id(2)], None), "it hears the same");
        let out = bench.give(Input::Agent(AgentInput::Ready));
        assert_eq!(path(&out), Some(AudioPath::Agent(LegSide::Near)));
        let out = bench.give(Input::Agent(AgentInput::Lost(HangupCause::AgentLost)));
        assert!(out.contains(&Output::Record(CallEvent::FallbackStarted)), "{out:?}");
        let out = bench.give(Input::Agent(AgentInput::Missed));
        assert_eq!(out, [], "it is gone");
    }
}
