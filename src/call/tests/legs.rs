//! Calls of two legs in virtual time: calls out, forwarded numbers, agents reached by telephone.

use super::random::request;
use super::*;
use crate::call::dial::DialRequest;
use crate::call::input::AudioPath;
use crate::call::input::Comfort;
use crate::call::input::Successor;
use crate::call::transfer::TransferRequest;
use crate::types::codec::Codec;
use crate::types::srtp::SrtpPolicy;

const NEAR: LegSide = LegSide::Near;
const FAR: LegSide = LegSide::Far;

impl Bench {
    /// Gives what happened to a leg's signalling.
    pub(super) fn leg(&mut self, side: LegSide, input: LegInput) -> Vec<Output> {
        self.give(Input::Leg(side, input))
    }

    /// The media of a leg come up.
    pub(super) fn run_media(&mut self, side: LegSide) -> Vec<Output> {
        let out = self.give(Input::Media(side, MediaInput::Reserved(place())));
        assert_eq!(out, [Output::Media(side, MediaOutput::Open)]);
        self.give(Input::Media(side, MediaInput::Opened))
    }

    /// Closes the media of all legs and returns the record of the end.
    pub(super) fn close_all(&mut self) -> (HangupCause, Party, Duration) {
        for side in LegSide::ALL {
            let figures = Some(Box::<MediaFigures>::default());
            let out = self.give(Input::Media(side, MediaInput::Closed(figures)));
            if let Some(end) = ended(&out) {
                assert_eq!(out.last(), Some(&Output::Finish));
                return end;
            }
        }
        panic!("the call did not end: {:?}", self.call);
    }

    fn dialled() -> Self {
        let mut bench = Self::new(|setup| setup.opening = Opening::Outbound(Box::new(request())));
        let out = bench.give(Input::Begun);
        assert!(out.contains(&Output::Media(NEAR, MediaOutput::Reserve)), "{out:?}");
        assert!(dial(&bench.run_media(NEAR), NEAR).is_some());
        bench
    }

    /// An inbound call whose other leg is dialled.
    fn forwarded(partner: fn(Box<DialRequest>) -> Partner, answer: AnswerPolicy) -> Self {
        let mut bench = Self::new(|setup| {
            setup.partner = partner(Box::new(request()));
            setup.agent.answer = answer;
        });
        bench.leg(NEAR, LegInput::Offered(sdp()));
        let out = bench.run_media(NEAR);
        assert!(out.contains(&Output::Media(FAR, MediaOutput::Reserve)), "{out:?}");
        assert!(dial(&bench.run_media(FAR), FAR).is_some());
        bench
    }

    /// An inbound call whose two legs hear each other.
    pub(super) fn bridged() -> Self {
        let mut bench = Self::forwarded(Partner::Forward, AnswerPolicy::WhenReady);
        let out = bench.leg(FAR, LegInput::Answered(sdp()));
        assert!(out.contains(&Output::Connect(AudioPath::Bridge(FAR))), "{out:?}");
        bench.leg(NEAR, LegInput::Acknowledged(None));
        bench
    }
}

pub(super) fn sdp() -> Option<Bytes> {
    Some(Bytes::from_static(OFFER.as_bytes()))
}

/// The offer a leg was dialled with.
pub(super) fn dial(out: &[Output], side: LegSide) -> Option<Option<Bytes>> {
    out.iter().find_map(|output| match output {
        Output::Leg(to, LegOutput::Dial { offer, .. }) if *to == side => Some(offer.clone()),
        _ => None,
    })
}

pub(super) fn hangs_up(out: &[Output], side: LegSide) -> Option<HangupCause> {
    out.iter().find_map(|output| match output {
        Output::Leg(to, LegOutput::HangUp(cause)) if *to == side => Some(*cause),
        _ => None,
    })
}

pub(super) fn path(out: &[Output]) -> Option<AudioPath> {
    out.iter().rev().find_map(|output| match output {
        Output::Connect(path) => Some(*path),
        _ => None,
    })
}

pub(super) fn records(out: &[Output], event: &CallEvent) -> bool {
    out.iter().any(|output| matches!(output, Output::Record(noted) if noted == event))
}

pub(super) fn progress(out: &[Output]) -> Option<(u16, bool)> {
    out.iter().find_map(|output| match output {
        Output::Leg(NEAR, LegOutput::Progress { status, body }) => Some((*status, body.is_some())),
        _ => None,
    })
}

pub(super) fn peer(out: &[Output], side: LegSide) -> Option<String> {
    out.iter().find_map(|output| match output {
        Output::Media(to, MediaOutput::Update(plan)) if *to == side => {
            plan.remote.map(|remote| remote.to_string())
        }
        _ => None,
    })
}

fn normal(by: Party) -> LegInput {
    LegInput::Ended { cause: HangupCause::Normal, by }
}

#[test]
fn a_call_out_reserves_media_then_dials_and_connects_its_agent_while_it_rings() {
    let mut bench = Bench::new(|setup| setup.opening = Opening::Outbound(Box::new(request())));
    let out = bench.give(Input::Begun);
    assert_eq!(path(&out), Some(AudioPath::Apart), "{out:?}");
    let out = bench.run_media(NEAR);
    let offer = dial(&out, NEAR).flatten().expect("dialled with an offer");
    assert!(String::from_utf8_lossy(&offer).contains("m=audio 20000 RTP/AVP 0 8 101"));
    assert!(out.contains(&Output::Agent(AgentOutput::Start)));
    let out = bench.leg(NEAR, LegInput::Progressed { status: 180, body: None });
    assert!(records(&out, &CallEvent::Progressed { side: NEAR, status: 180, audible: false }));
    assert!(!bench.give(Input::Agent(AgentInput::Ready)).contains(&answered_agent()));
    let out = bench.leg(NEAR, LegInput::Answered(sdp()));
    assert!(out.contains(&Output::Leg(NEAR, LegOutput::Acknowledge(None))), "{out:?}");
    assert!(out.contains(&answered_agent()));
    assert!(out.contains(&Output::Media(NEAR, MediaOutput::StartPlayout)));
    assert_eq!(path(&out), Some(AudioPath::Agent(NEAR)));
    assert!(bench.call.is_answered());
}

#[test]
fn who_answers_before_the_agent_is_there_hears_what_its_profile_says_until_it_is() {
    for (comfort, heard) in
        [(ComfortAudio::Ringback, Comfort::Starting), (ComfortAudio::Noise, Comfort::Quiet)]
    {
        let mut bench = Bench::new(|setup| {
            setup.opening = Opening::Outbound(Box::new(request()));
            setup.agent.faults.comfort = comfort;
        });
        bench.give(Input::Begun);
        bench.run_media(NEAR);
        let out = bench.leg(NEAR, LegInput::Answered(sdp()));
        assert!(!out.contains(&answered_agent()), "{out:?}");
        assert_eq!(path(&out), Some(AudioPath::Waiting(heard)));
        // A transfer that comes to nothing meanwhile leads back there.
        let bridge = TransferRequest::Bridge(Box::new(request()));
        bench.give(Input::TransferRequested(bridge));
        bench.run_media(FAR);
        let (cause, status) = (HangupCause::Busy, Some(486));
        let out = bench.leg(FAR, LegInput::DialFailed { cause, status });
        assert_eq!(path(&out), Some(AudioPath::Waiting(heard)));
        let out = bench.give(Input::Agent(AgentInput::Ready));
        assert!(out.contains(&answered_agent()), "{out:?}");
        assert_eq!(path(&out), Some(AudioPath::Agent(NEAR)));
    }
}

fn answered_agent() -> Output {
    Output::Agent(AgentOutput::TellAnswered)
}

#[test]
fn early_media_of_a_call_out_is_nobodys_and_the_answer_may_differ_from_it() {
    let mut bench = Bench::dialled();
    bench.give(Input::Agent(AgentInput::Ready));
    let early = LegInput::Progressed { status: 183, body: sdp() };
    let out = bench.leg(NEAR, early);
    assert_eq!(peer(&out, NEAR).as_deref(), Some("192.0.2.1:4000"));
    assert_eq!(path(&out), None, "nobody hears it");
    assert!(!out.contains(&Output::Media(NEAR, MediaOutput::StartPlayout)));
    // The branch that answers is another.
    let moved = OFFER.replace("4000", "4002");
    let out = bench.leg(NEAR, LegInput::Answered(Some(moved.into())));
    assert_eq!(peer(&out, NEAR).as_deref(), Some("192.0.2.1:4002"));
}

#[test]
fn a_bare_ringing_keeps_early_media() {
    let mut bench = Bench::dialled();
    bench.leg(NEAR, LegInput::Progressed { status: 183, body: sdp() });
    let out = bench.leg(NEAR, LegInput::Progressed { status: 180, body: None });
    assert!(records(&out, &CallEvent::Progressed { side: NEAR, status: 180, audible: true }));
    let out = bench.leg(NEAR, LegInput::Answered(sdp()));
    assert_eq!(peer(&out, NEAR).as_deref(), Some("192.0.2.1:4000"));
    assert!(records(&out, &CallEvent::Answered(Codec::Pcmu)));
}

#[test]
fn who_answers_without_a_description_is_not_sent_the_media_of_whoever_rang_beside() {
    let mut bench = Bench::dialled();
    bench.leg(NEAR, LegInput::Progressed { status: 183, body: sdp() });
    let out = bench.leg(NEAR, LegInput::Answered(None));
    assert_eq!((peer(&out, NEAR), hangs_up(&out, NEAR)), (None, Some(HangupCause::NoSdpAnswer)));
}

#[test]
fn an_answer_that_cannot_be_used_is_acknowledged_and_hung_up() {
    for (body, cause) in [
        (None, HangupCause::NoSdpAnswer),
        (Some(Bytes::from_static(b"garbage")), HangupCause::BadSdp),
    ] {
        let mut bench = Bench::dialled();
        let out = bench.leg(NEAR, LegInput::Answered(body));
        assert!(out.contains(&Output::Leg(NEAR, LegOutput::Acknowledge(None))));
        assert_eq!(hangs_up(&out, NEAR), Some(cause));
        assert_eq!(bench.close_all().0, cause);
    }
}

#[test]
fn an_outbound_delayed_offer_has_media() {
    let mut bench = Bench::new(|setup| {
        let mut request = request();
        request.terms.delayed_offer = true;
        setup.opening = Opening::Outbound(Box::new(request));
    });
    bench.give(Input::Begun);
    assert_eq!(dial(&bench.run_media(NEAR), NEAR), Some(None));
    let out = bench.leg(NEAR, LegInput::Answered(sdp()));
    let answer = out.iter().find_map(|output| match output {
        Output::Leg(NEAR, LegOutput::Acknowledge(body)) => body.clone(),
        _ => None,
    });
    assert!(answer.is_some_and(|body| body.starts_with(b"v=0")));
    assert_eq!(planned(&out), Some(Direction::SendReceive));
}

#[test]
fn the_next_attempt_gets_an_offer_by_its_own_terms() {
    let mut bench = Bench::dialled();
    bench.leg(NEAR, LegInput::Progressed { status: 183, body: sdp() });
    let wanted = LegTerms { codecs_offered: vec![Codec::Pcma], ..terms() };
    let moved = Place { rtp_port: 30_000, ..place() };
    let input = LegInput::OfferWanted { terms: Some(Box::new(wanted)), place: Some(moved) };
    let out = bench.leg(NEAR, input);
    let [Output::Leg(NEAR, LegOutput::Offer(Some(offer)))] = out.as_slice() else {
        panic!("{out:?}")
    };
    assert!(String::from_utf8_lossy(offer).contains("m=audio 30000 RTP/AVP 8 101"), "{offer:?}");
    // What an attempt before agreed to is no answer to this one.
    let out = bench.leg(NEAR, LegInput::Answered(None));
    assert_eq!(hangs_up(&out, NEAR), Some(HangupCause::NoSdpAnswer));
}

/// Terms by which SRTP is required and no keys may be written.
fn keyless() -> LegTerms {
    let mut keyless = terms();
    keyless.srtp_offered.policy = SrtpPolicy::Required;
    keyless.srtp_offered.exposed = true;
    assert!(keyless.lacks_keys());
    keyless
}

#[test]
fn a_trunk_that_nothing_can_be_offered_to_is_no_end_while_another_may_be_left() {
    let mut bench = Bench::new(|setup| {
        let mut request = request();
        request.terms = keyless();
        setup.opening = Opening::Outbound(Box::new(request));
    });
    bench.give(Input::Begun);
    assert_eq!(dial(&bench.run_media(NEAR), NEAR), Some(None), "by the first there is none");
    let wanted =
        |terms| LegInput::OfferWanted { terms: Some(Box::new(terms)), place: Some(place()) };
    let out = bench.leg(NEAR, wanted(keyless()));
    let refused = LegOutput::NotOffered(HangupCause::SrtpMismatch);
    assert_eq!(out, [Output::Leg(NEAR, refused)]);
    let out = bench.leg(NEAR, wanted(terms()));
    assert!(matches!(&out[..], [Output::Leg(NEAR, LegOutput::Offer(Some(_)))]), "{out:?}");
    let out = bench.leg(NEAR, LegInput::Answered(sdp()));
    assert_eq!(planned(&out), Some(Direction::SendReceive));
    // Where none is left the leg fails for that.
    let mut bench = Bench::dialled();
    bench.leg(NEAR, wanted(keyless()));
    let (cause, status) = (HangupCause::SrtpMismatch, None);
    bench.leg(NEAR, LegInput::DialFailed { cause, status });
    assert_eq!(bench.close_all().0, cause);
}

#[test]
fn a_call_out_ends_in_each_state_with_the_cause_of_that_state() {
    type Case = (fn(&mut Bench) -> Vec<Output>, Option<HangupCause>, (HangupCause, Party));
    let busy = |bench: &mut Bench| {
        let failed = LegInput::DialFailed { cause: HangupCause::Busy, status: Some(486) };
        bench.leg(NEAR, failed)
    };
    let stop = |bench: &mut Bench| {
        let (cause, by) = (HangupCause::Normal, Party::Operator);
        bench.give(Input::HangupRequested { cause, by })
    };
    let lost = |bench: &mut Bench| {
        bench.give(Input::Agent(AgentInput::Failed(HangupCause::AgentUnreachable)))
    };
    let gone = |bench: &mut Bench| bench.give(Input::Agent(AgentInput::HungUp));
    let cases: [Case; 5] = [
        (busy, None, (HangupCause::Busy, Party::Caller)),
        (Bench::wait, Some(HangupCause::NoAnswer), (HangupCause::NoAnswer, Party::Switch)),
        (stop, Some(HangupCause::Normal), (HangupCause::Normal, Party::Operator)),
        (lost, Some(HangupCause::AgentUnreachable), (HangupCause::AgentUnreachable, Party::Switch)),
        (gone, Some(HangupCause::Normal), (HangupCause::Normal, Party::Agent)),
    ];
    for (happen, said, (cause, by)) in cases {
        let mut bench = Bench::dialled();
        let out = happen(&mut bench);
        assert_eq!(hangs_up(&out, NEAR), said, "{out:?}");
        assert!(out.contains(&Output::Media(NEAR, MediaOutput::Close)));
        assert_eq!(bench.close_all(), (cause, by, Duration::ZERO));
    }
}

#[test]
fn an_answer_that_crosses_our_cancellation_is_hung_up() {
    let mut bench = Bench::dialled();
    bench.wait();
    let out = bench.leg(NEAR, LegInput::Answered(sdp()));
    assert_eq!(hangs_up(&out, NEAR), Some(HangupCause::Normal));
    assert_eq!(bench.close_all().0, HangupCause::NoAnswer);
}

#[test]
fn a_second_answer_changes_nothing() {
    let mut bench = Bench::dialled();
    bench.leg(NEAR, LegInput::Answered(sdp()));
    assert!(bench.leg(NEAR, LegInput::Answered(sdp())).is_empty());
}

#[test]
fn without_ports_nobody_is_dialled() {
    let mut bench = Bench::new(|setup| setup.opening = Opening::Outbound(Box::new(request())));
    bench.give(Input::Begun);
    let out = bench.give(Input::Media(NEAR, MediaInput::Refused(HangupCause::NoPorts)));
    assert_eq!((dial(&out, NEAR), hangs_up(&out, NEAR)), (None, None));
    assert_eq!(ended(&out), Some((HangupCause::NoPorts, Party::Switch, Duration::ZERO)));
}

#[test]
fn a_forwarded_call_rings_when_the_other_end_does_and_is_answered_with_it() {
    let mut bench = Bench::forwarded(Partner::Forward, AnswerPolicy::WhenReady);
    let out = bench.leg(FAR, LegInput::Progressed { status: 180, body: None });
    assert_eq!(progress(&out), Some((180, false)));
    let again = bench.leg(FAR, LegInput::Progressed { status: 180, body: None });
    assert_eq!(progress(&again), None, "once is enough");
    let out = bench.leg(FAR, LegInput::Answered(sdp()));
    assert!(answer_body(&out).is_some() && records(&out, &CallEvent::Bridged(FAR)), "{out:?}");
    assert_eq!(path(&out), Some(AudioPath::Bridge(FAR)));
    assert!(out.contains(&Output::Media(FAR, MediaOutput::StartPlayout)));
    assert!(!out.iter().any(|output| matches!(output, Output::Agent(_))));
}

#[test]
fn early_media_reaches_the_caller_and_a_later_ringing_does_not_take_it_back() {
    let mut bench = Bench::forwarded(Partner::Forward, AnswerPolicy::WhenReady);
    let out = bench.leg(FAR, LegInput::Progressed { status: 183, body: sdp() });
    assert_eq!(progress(&out), Some((183, true)));
    assert_eq!(path(&out), Some(AudioPath::Early(FAR)));
    assert!(out.contains(&Output::Media(NEAR, MediaOutput::StartPlayout)));
    let out = bench.leg(FAR, LegInput::Progressed { status: 180, body: None });
    assert_eq!((progress(&out), path(&out)), (None, None));
    // Silence of somebody who did not answer yet ends nothing.
    assert!(bench.give(Input::Media(FAR, MediaInput::TimedOut)).is_empty());
    let out = bench.leg(FAR, LegInput::Answered(sdp()));
    assert_eq!(path(&out), Some(AudioPath::Bridge(FAR)));
}

#[test]
fn a_caller_without_an_offer_is_told_of_ringing_only() {
    let mut bench = Bench::new(|setup| setup.partner = Partner::Forward(Box::new(request())));
    bench.leg(NEAR, LegInput::Offered(None));
    bench.run_media(NEAR);
    bench.run_media(FAR);
    let out = bench.leg(FAR, LegInput::Progressed { status: 183, body: sdp() });
    assert_eq!((progress(&out), path(&out)), (Some((183, false)), None));
}

#[test]
fn the_failure_of_a_forwarded_number_is_the_callers() {
    for (cause, status) in [
        (HangupCause::Busy, 486),
        (HangupCause::UnknownNumber, 404),
        (HangupCause::NoCommonCodec, 488),
    ] {
        let mut bench = Bench::forwarded(Partner::Forward, AnswerPolicy::WhenReady);
        let out = bench.leg(FAR, LegInput::DialFailed { cause, status: Some(status) });
        let refusal = LegOutput::Refuse { cause, status, is_theirs: true };
        assert!(out.contains(&Output::Leg(NEAR, refusal)), "{out:?}");
        assert_eq!(bench.close_all().0, cause);
    }
    // What it did not say itself is ours to say.
    let mut bench = Bench::forwarded(Partner::Forward, AnswerPolicy::WhenReady);
    let cause = HangupCause::NoCommonCodec;
    let out = bench.leg(FAR, LegInput::DialFailed { cause, status: None });
    let refusal = LegOutput::Refuse { cause, status: 488, is_theirs: false };
    assert!(out.contains(&Output::Leg(NEAR, refusal)), "{out:?}");
}

#[test]
fn nobody_who_is_not_answered_rings_on() {
    let mut bench = Bench::forwarded(Partner::Forward, AnswerPolicy::WhenReady);
    let out = bench.wait();
    assert_eq!(bench.now, Moment::START + request().ring_max);
    let cause = HangupCause::NoAnswer;
    assert_eq!(hangs_up(&out, FAR), Some(cause));
    let refusal = LegOutput::Refuse { cause, status: 480, is_theirs: false };
    assert!(out.contains(&Output::Leg(NEAR, refusal)));
    let mut bench = Bench::forwarded(Partner::Forward, AnswerPolicy::WhenReady);
    let out = bench.leg(NEAR, LegInput::Cancelled);
    assert_eq!(hangs_up(&out, FAR), Some(HangupCause::CallerCancelled));
    assert_eq!(bench.close_all().1, Party::Caller);
}

#[test]
fn who_is_rung_is_told_where_another_has_answered_the_caller() {
    for (protocol, cause, told) in [
        ("SIP", 200, HangupCause::AnsweredElsewhere),
        ("Q.850", 26, HangupCause::AnsweredElsewhere),
        ("SIP", 487, HangupCause::CallerCancelled),
        ("Q.850", 16, HangupCause::CallerCancelled),
    ] {
        let mut bench = Bench::forwarded(Partner::Forward, AnswerPolicy::WhenReady);
        let reason = PeerReason::new(protocol.as_bytes(), Some(cause), None).unwrap();
        bench.leg(NEAR, LegInput::Explained(Box::new(reason)));
        let out = bench.leg(NEAR, LegInput::Cancelled);
        assert_eq!(hangs_up(&out, FAR), Some(told), "{protocol} {cause}");
        let (cause, by, _) = bench.close_all();
        assert_eq!((cause, by), (HangupCause::CallerCancelled, Party::Caller));
    }
}

#[test]
fn an_agent_by_telephone_that_fails_means_the_announcement() {
    for answer in [AnswerPolicy::WhenReady, AnswerPolicy::Immediate] {
        let mut bench = Bench::forwarded(Partner::AgentLeg, answer);
        let cause = HangupCause::CarrierTimeout;
        let out = bench.leg(FAR, LegInput::DialFailed { cause, status: None });
        assert!(records(&out, &CallEvent::AgentFailed(cause, None)), "{out:?}");
        assert!(out.contains(&Output::Agent(AgentOutput::StartFallback)), "{out:?}");
        assert!(bench.call.is_answered());
        bench.give(Input::Media(FAR, MediaInput::Closed(None)));
        let out = bench.give(Input::Agent(AgentInput::FallbackPlayed));
        assert_eq!(hangs_up(&out, NEAR), Some(cause));
        assert_eq!(bench.close_all().0, cause);
    }
}

#[test]
fn an_agent_by_telephone_that_is_lost_is_replaced_but_one_that_hangs_up_is_not() {
    let lost = LegInput::Ended { cause: HangupCause::PeerTimeout, by: Party::Switch };
    for (end, goes_on) in [(lost, true), (normal(Party::Far), false)] {
        let mut bench = Bench::forwarded(Partner::AgentLeg, AnswerPolicy::WhenReady);
        bench.leg(FAR, LegInput::Answered(sdp()));
        let out = bench.leg(FAR, end);
        assert_eq!(out.contains(&Output::Agent(AgentOutput::StartFallback)), goes_on, "{out:?}");
        assert_eq!(hangs_up(&out, NEAR).is_none(), goes_on);
    }
}

#[test]
fn a_caller_answered_at_once_hears_ringback_until_the_other_end_answers() {
    let mut bench = Bench::forwarded(Partner::AgentLeg, AnswerPolicy::Immediate);
    assert!(bench.call.is_answered());
    assert_eq!(bench.call.path, AudioPath::Waiting(Comfort::Silence), "nothing rings yet");
    let out = bench.leg(FAR, LegInput::Progressed { status: 180, body: None });
    assert_eq!((progress(&out), path(&out)), (None, Some(AudioPath::Waiting(Comfort::Ringback))));
    let out = bench.leg(FAR, LegInput::Progressed { status: 182, body: None });
    assert_eq!((progress(&out), path(&out)), (None, None), "ringback goes on");
    let out = bench.leg(FAR, LegInput::Answered(sdp()));
    assert_eq!(path(&out), Some(AudioPath::Bridge(FAR)));
}

#[test]
fn whoever_hangs_up_ends_the_other_leg() {
    for (from, to, by) in [(NEAR, FAR, Party::Caller), (FAR, NEAR, Party::Far)] {
        let mut bench = Bench::bridged();
        bench.now += Duration::from_secs(5);
        let out = bench.leg(from, normal(by));
        assert_eq!(hangs_up(&out, to), Some(HangupCause::Normal), "{out:?}");
        assert_eq!(hangs_up(&out, from), None);
        for side in [NEAR, FAR] {
            assert!(out.contains(&Output::Media(side, MediaOutput::Close)));
        }
        assert_eq!(bench.close_all(), (HangupCause::Normal, by, Duration::from_secs(5)));
    }
}

#[test]
fn a_hold_or_move_of_one_leg_is_no_concern_of_the_other() {
    for (side, records_hold) in [(NEAR, true), (FAR, false)] {
        let mut bench = Bench::bridged();
        let hold = LegInput::Reoffered(Some(format!("{OFFER}a=inactive\r\n").into()));
        let out = bench.leg(side, hold);
        assert!(out.iter().all(|output| match output {
            Output::Leg(to, _) | Output::Media(to, _) => *to == side,
            _ => true,
        }));
        assert_eq!(planned_of(&out, side), Some(Direction::Inactive), "nothing is sent to it");
        assert_eq!(records(&out, &CallEvent::Held), records_hold);
        assert!(bench.give(Input::Media(side, MediaInput::TimedOut)).is_empty());
        let moved = OFFER.replace("4000", "5000");
        let out = bench.leg(side, LegInput::Reoffered(Some(moved.into())));
        assert_eq!(peer(&out, side).as_deref(), Some("192.0.2.1:5000"));
    }
}

pub(super) fn planned_of(out: &[Output], side: LegSide) -> Option<Direction> {
    out.iter().find_map(|output| match output {
        Output::Media(to, MediaOutput::Update(plan)) if *to == side => Some(plan.direction),
        _ => None,
    })
}

#[test]
fn a_key_told_by_signalling_goes_to_the_other_leg_as_its_media_carry_keys() {
    for (from, to) in [(NEAR, FAR), (FAR, NEAR)] {
        let mut bench = Bench::bridged();
        let out = bench.keyed(from, '7');
        assert!(out.contains(&Output::Media(to, MediaOutput::SendDigit('7'))), "{out:?}");
        bench.give(Input::Media(from, MediaInput::Digit('8')));
        assert!(bench.leg(from, LegInput::Digit('8')).is_empty(), "the media carried it");
    }
}

#[test]
fn dead_media_of_either_leg_ends_both() {
    for (dead, other) in [(NEAR, FAR), (FAR, NEAR)] {
        let mut bench = Bench::bridged();
        let out = bench.give(Input::Media(dead, MediaInput::TimedOut));
        for side in [dead, other] {
            assert_eq!(hangs_up(&out, side), Some(HangupCause::MediaTimeout));
        }
    }
}

fn successor(offer: Bytes) -> LegInput {
    LegInput::Replaced(Box::new(Successor { offer: Some(offer), place: None, srtp: None }))
}

#[test]
fn another_leg_of_the_same_peer_may_take_over() {
    let mut bench = Bench::bridged();
    let moved = OFFER.replace("4000", "6000");
    let out = bench.leg(NEAR, successor(moved.into()));
    assert!(out.iter().any(|output| {
        matches!(output, Output::Leg(NEAR, LegOutput::AnswerReplacement { .. }))
    }));
    assert_eq!(peer(&out, NEAR).as_deref(), Some("192.0.2.1:6000"));
    // One that cannot be agreed with leaves the leg as it is.
    let out = bench.leg(NEAR, successor(Bytes::from_static(b"garbage")));
    let refusal = LegOutput::RefuseReplacement(HangupCause::BadSdp);
    assert_eq!(out, [Output::Leg(NEAR, refusal)]);
}

#[test]
fn the_longest_duration_ends_both_legs() {
    let mut bench = Bench::bridged();
    let out = bench.wait();
    for side in [NEAR, FAR] {
        assert_eq!(hangs_up(&out, side), Some(HangupCause::MaxDuration));
    }
}

#[test]
fn media_that_never_close_do_not_hold_the_call() {
    let mut bench = Bench::bridged();
    bench.leg(NEAR, normal(Party::Caller));
    let out = bench.wait();
    assert_eq!(out.last(), Some(&Output::Finish));
    assert_eq!(bench.call.deadline(), None);
}

#[test]
fn a_party_called_before_its_partner_waits_for_it() {
    let mut bench = Bench::new(|setup| {
        setup.opening = Opening::Outbound(Box::new(request()));
        setup.partner = Partner::Forward(Box::new(request()));
    });
    bench.give(Input::Begun);
    bench.run_media(NEAR);
    let out = bench.leg(NEAR, LegInput::Answered(sdp()));
    assert!(out.contains(&Output::Media(FAR, MediaOutput::Reserve)), "rung only now: {out:?}");
    assert_eq!(path(&out), Some(AudioPath::Waiting(Comfort::Silence)));
    bench.run_media(FAR);
    let out = bench.leg(FAR, LegInput::Answered(sdp()));
    assert_eq!(path(&out), Some(AudioPath::Bridge(FAR)));
}

/// What a peer says of its hanging up.
pub(super) fn reason(cause: u16) -> Box<PeerReason> {
    Box::new(PeerReason::new(b"Q.850", Some(cause), Some(b"Temporary failure")).unwrap())
}

#[test]
fn why_a_peer_hung_up_is_recorded_and_said_to_the_other_leg_beside_its_cause() {
    for (side, other, by) in [(NEAR, FAR, Party::Caller), (FAR, NEAR, Party::Far)] {
        let mut bench = Bench::bridged();
        let out = bench.leg(side, LegInput::Explained(reason(41)));
        assert_eq!(out, [Output::Record(CallEvent::PeerReason { side, reason: reason(41) })]);
        let out = bench.leg(side, normal(by));
        let legs = out.iter().filter(|output| matches!(output, Output::Leg(..)));
        let said = Output::Leg(other, LegOutput::Explain(reason(41)));
        let gone = Output::Leg(other, LegOutput::HangUp(HangupCause::Normal));
        assert_eq!(legs.collect::<Vec<_>>(), [&said, &gone]);
        let (cause, ended_by, _) = bench.close_all();
        assert_eq!((cause, ended_by), (HangupCause::Normal, by));
    }
}

#[test]
fn a_reason_that_is_of_no_network_is_recorded_and_not_passed_on() {
    let sip = || Box::new(PeerReason::new(b"SIP", Some(200), Some(b"elsewhere")).unwrap());
    let mut bench = Bench::bridged();
    let out = bench.leg(NEAR, LegInput::Explained(sip()));
    assert!(records(&out, &CallEvent::PeerReason { side: NEAR, reason: sip() }), "{out:?}");
    let out = bench.leg(NEAR, normal(Party::Caller));
    assert_eq!(hangs_up(&out, FAR), Some(HangupCause::Normal));
    let is_said = |output: &Output| matches!(output, Output::Leg(_, LegOutput::Explain(_)));
    assert!(!out.iter().any(is_said), "{out:?}");
    // A leg that is over says nothing more.
    let out = bench.leg(NEAR, LegInput::Explained(reason(41)));
    assert_eq!(out, []);
}
