//! Who speaks in a call, asked of its tenant's application, in virtual time.

use super::legs::path;
use super::legs::sdp;
use super::random::request;
use super::*;
use crate::call::asking::Answerer;
use crate::call::asking::Asked;
use crate::call::input::AudioPath;
use crate::call::input::Comfort;
use crate::call::setup::NextAgent;
use crate::call::steer::Senseless;
use crate::call::transfer::TransferRequest;
use crate::types::answer_hook::AskFault;
use crate::types::answer_hook::AskOutcome;
use crate::types::header::CallVariables;
use crate::types::id::AiProfileId;
use uuid::Uuid;

const LIMIT: Duration = Duration::from_secs(2);

fn id(n: u128) -> AiProfileId {
    AiProfileId::from_uuid(Uuid::from_u128(n))
}

/// A call whose application is asked.
fn asking() -> Bench {
    let mut bench = Bench::new(|setup| setup.asks = Some(LIMIT));
    assert_eq!(bench.ring(), [Output::AskWhoAnswers], "nothing else happens meanwhile");
    bench
}

/// A call out whose application is asked now that it was answered.
fn asking_out(partner: Partner) -> Bench {
    let mut bench = Bench::new(|setup| {
        setup.opening = Opening::Outbound(Box::new(request()));
        setup.partner = partner;
        setup.asks = Some(LIMIT);
    });
    bench.give(Input::Begun);
    let out = bench.run_media(LegSide::Near);
    assert!(!starts_agent(&out) && !out.contains(&Output::AskWhoAnswers), "{out:?}");
    let out = bench.leg(LegSide::Near, LegInput::Answered(sdp()));
    assert!(out.contains(&Output::AskWhoAnswers) && !starts_agent(&out), "{out:?}");
    assert!(out.contains(&Output::Media(LegSide::Near, MediaOutput::StartPlayout)), "{out:?}");
    assert_eq!(path(&out), Some(AudioPath::Waiting(Comfort::Connecting)));
    bench
}

fn attaches_agent(out: &[Output]) -> bool {
    out.contains(&Output::Agent(AgentOutput::Attach))
}

fn asked(answerer: Answerer) -> Input {
    Input::Asked(Box::new(Asked { answerer, variables: CallVariables::default() }))
}

fn noted(out: &[Output]) -> Vec<AskOutcome> {
    let of = |output: &Output| match output {
        Output::Record(CallEvent::AnswerAsked(outcome, _)) => Some(*outcome),
        _ => None,
    };
    out.iter().filter_map(of).collect()
}

fn starts_agent(out: &[Output]) -> bool {
    out.contains(&Output::Agent(AgentOutput::Start))
}

#[test]
fn an_application_that_changes_nothing_or_fails_lets_the_call_go_on_as_it_would_have() {
    for (said, outcome) in [
        (Answerer::Kept, AskOutcome::Kept),
        (Answerer::Failed(AskFault::Refused), AskOutcome::Failed(AskFault::Refused)),
    ] {
        let mut bench = asking();
        let out = bench.give(asked(said));
        assert_eq!(noted(&out), [outcome]);
        assert!(starts_agent(&out), "{out:?}");
        let out = bench.give(Input::Agent(AgentInput::Ready));
        assert!(answer_body(&out).is_some(), "{out:?}");
    }
}

#[test]
fn another_profile_takes_the_call_with_its_own_way_of_answering() {
    let mut bench = asking();
    let agent = AgentSettings { answer: AnswerPolicy::Immediate, ..plain().agent };
    let other = NextAgent { profile: id(2), agent, partner: Partner::Agent };
    let out = bench.give(asked(Answerer::Other(Box::new(other), VecDeque::new())));
    assert_eq!(noted(&out), [AskOutcome::Overridden(id(2))]);
    let taken = out.iter().position(|o| *o == Output::Agent(AgentOutput::TakeProfile(id(2))));
    let start = out.iter().position(|o| *o == Output::Agent(AgentOutput::Start));
    assert!(taken.is_some() && taken < start, "{out:?}");
    assert!(answer_body(&out).is_some(), "it answers at once: {out:?}");
}

#[test]
fn another_profile_may_lead_to_another_leg_and_to_fallbacks_of_its_own() {
    let mut bench = asking();
    let by_leg = Partner::AgentLeg(Box::new(request()));
    let other = NextAgent { profile: id(2), agent: plain().agent, partner: by_leg };
    let next = NextAgent { profile: id(3), agent: plain().agent, partner: Partner::Agent };
    let out = bench.give(asked(Answerer::Other(Box::new(other), [next].into())));
    assert!(!starts_agent(&out), "{out:?}");
    let reserve = Output::Media(LegSide::Far, MediaOutput::Reserve);
    assert!(out.contains(&reserve), "{out:?}");
    let refused = MediaInput::Refused(HangupCause::NoPorts);
    let out = bench.give(Input::Media(LegSide::Far, refused));
    let replaced = Output::Record(CallEvent::AgentReplaced(id(3)));
    assert!(out.contains(&replaced), "{out:?}");
}

#[test]
fn nobody_waits_longer_than_the_limit_and_what_comes_later_changes_nothing() {
    let mut bench = asking();
    let out = bench.wait();
    assert_eq!(noted(&out), [AskOutcome::Failed(AskFault::Late)]);
    assert!(starts_agent(&out), "{out:?}");
    assert!(bench.now >= Moment::START + LIMIT);
    assert_eq!(bench.give(asked(Answerer::Kept)), []);
}

#[test]
fn a_caller_that_hangs_up_meanwhile_is_gone_and_an_answer_that_was_not_asked_for_is_nothing() {
    let mut bench = asking();
    bench.give(Input::Leg(LegSide::Near, LegInput::Cancelled));
    assert_eq!(bench.give(asked(Answerer::Kept)), []);
    assert_eq!(bench.close().0, HangupCause::CallerCancelled);
    let mut bench = Bench::new(|_| ());
    bench.ring();
    assert_eq!(bench.give(asked(Answerer::Kept)), []);
}

#[test]
fn who_speaks_with_a_called_party_is_asked_once_it_answered_and_nobody_connects_before() {
    for (said, outcome) in [
        (Answerer::Kept, AskOutcome::Kept),
        (Answerer::Failed(AskFault::Refused), AskOutcome::Failed(AskFault::Refused)),
    ] {
        let mut bench = asking_out(Partner::Agent);
        let out = bench.give(asked(said));
        assert_eq!(noted(&out), [outcome]);
        assert!(attaches_agent(&out), "{out:?}");
        let out = bench.give(Input::Agent(AgentInput::Ready));
        assert!(out.contains(&Output::Agent(AgentOutput::TellAnswered)), "{out:?}");
        assert_eq!(path(&out), Some(AudioPath::Agent(LegSide::Near)));
        assert_eq!(bench.give(asked(Answerer::Kept)), []);
    }
    let mut bench = asking_out(Partner::Agent);
    let out = bench.wait();
    assert_eq!(noted(&out), [AskOutcome::Failed(AskFault::Late)]);
    assert!(attaches_agent(&out), "{out:?}");
}

#[test]
fn another_profile_speaks_with_a_called_party_by_link_or_by_leg() {
    let mut bench = asking_out(Partner::AgentLeg(Box::new(request())));
    let other = NextAgent { profile: id(2), agent: plain().agent, partner: Partner::Agent };
    let out = bench.give(asked(Answerer::Other(Box::new(other), VecDeque::new())));
    let taken = out.iter().position(|o| *o == Output::Agent(AgentOutput::TakeProfile(id(2))));
    let attach = out.iter().position(|o| *o == Output::Agent(AgentOutput::Attach));
    assert!(taken.is_some() && taken < attach, "{out:?}");
    let by_leg = Partner::Forward(Box::new(request()));
    let other = NextAgent { profile: id(2), agent: plain().agent, partner: by_leg };
    let mut bench = asking_out(Partner::Agent);
    let out = bench.give(asked(Answerer::Other(Box::new(other), VecDeque::new())));
    assert!(out.contains(&Output::Media(LegSide::Far, MediaOutput::Reserve)), "{out:?}");
    bench.run_media(LegSide::Far);
    let out = bench.leg(LegSide::Far, LegInput::Answered(sdp()));
    assert_eq!(path(&out), Some(AudioPath::Bridge(LegSide::Far)));
}

#[test]
fn while_it_is_asked_a_called_party_may_hang_up_and_whoever_puts_an_agent_there_has_decided() {
    let mut bench = asking_out(Partner::Agent);
    let by = Party::Caller;
    bench.leg(LegSide::Near, LegInput::Ended { cause: HangupCause::Normal, by });
    assert_eq!(bench.give(asked(Answerer::Kept)), []);
    assert_eq!(bench.close().0, HangupCause::Normal);
    let mut bench = asking_out(Partner::Agent);
    let transfer = TransferRequest::Bridge(Box::new(request()));
    let transfer = Input::TransferRequested(transfer);
    assert_eq!(bench.call.check_transfer(&transfer), Err(Senseless::NotWithAgent));
    let out = bench.give(transfer);
    assert_eq!(out, [Output::Record(CallEvent::TransferFailed(HangupCause::Policy))]);
    let mut out = Vec::new();
    bench.call.order(bench.now, steering::attach(), &mut out).unwrap();
    assert!(attaches_agent(&out), "{out:?}");
    assert_eq!(bench.give(asked(Answerer::Kept)), [], "too late");
}
