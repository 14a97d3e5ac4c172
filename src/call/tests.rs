//! Whole calls in virtual time: what each input leads to.

mod asking;
mod attended;
mod early;
mod fallback;
mod handovers;
mod holds;
mod legs;
mod passing;
mod races;
mod random;
mod replacements;
mod steering;
mod supervision;
mod transfers;

use super::*;
use crate::call::dial::KeyWay;
use crate::call::dial::LegTerms;
use crate::call::event::MediaFigures;
use crate::call::input::AgentInput;
use crate::call::input::LegInput;
use crate::call::input::MediaInput;
use crate::call::input::MediaOutput;
use crate::call::leg::Place;
use crate::call::setup::Partner;
use crate::routing::signalling::InboundProgress;
use crate::routing::signalling::Progress;
use crate::routing::trunk::ResponseMap;
use crate::sdp::AnswerOrder;
use crate::sdp::Capabilities;
use crate::sdp::Direction;
use crate::sdp::Offered;
use crate::sdp::SrtpTerms;
use crate::types::agent::AgentKind;
use crate::types::agent::AgentSettings;
use crate::types::agent::AnswerPolicy;
use crate::types::barge_in::BargeIn;
use crate::types::cause::Party;
use crate::types::codec::Codec;
use crate::types::codec::PayloadType;
use crate::types::codec::Ptime;
use crate::types::fault_policy::FaultPolicy;
use bytes::Bytes;
use std::collections::VecDeque;
use std::net::IpAddr;
use std::net::Ipv4Addr;

const OFFER: &str = "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n\
                     m=audio 4000 RTP/AVP 0 101\r\na=rtpmap:101 telephone-event/8000\r\n";

/// A call and all it asked for.
struct Bench {
    call: Call,
    now: Moment,
    out: Vec<Output>,
}

impl Bench {
    fn new(adjust: impl FnOnce(&mut CallSetup)) -> Self {
        let mut setup = plain();
        adjust(&mut setup);
        Self { call: Call::new(setup), now: Moment::START, out: Vec::new() }
    }

    /// Gives an input and returns what it led to.
    fn give(&mut self, input: Input) -> Vec<Output> {
        self.call.handle(self.now, input, &mut self.out);
        std::mem::take(&mut self.out)
    }

    /// Goes to the call's deadline and returns what it led to.
    fn wait(&mut self) -> Vec<Output> {
        self.now = self.call.deadline().expect("the call waits for something");
        self.give(Input::DeadlineReached)
    }

    /// A key that the signalling of a leg tells, and its media do not: it takes effect once these had their time.
    fn keyed(&mut self, side: LegSide, digit: char) -> Vec<Output> {
        let mut out = self.give(Input::Leg(side, LegInput::Digit(digit)));
        self.now += Duration::from_millis(200);
        out.extend(self.give(Input::DeadlineReached));
        out
    }

    fn ring(&mut self) -> Vec<Output> {
        assert_eq!(
            self.give(Input::Leg(LegSide::Near, LegInput::Offered(Some(OFFER.into())))),
            [Output::Media(LegSide::Near, MediaOutput::Reserve)]
        );
        self.open()
    }

    /// The media comes up.
    fn open(&mut self) -> Vec<Output> {
        assert_eq!(
            self.give(Input::Media(LegSide::Near, MediaInput::Reserved(place()))),
            [Output::Media(LegSide::Near, MediaOutput::Open)]
        );
        self.give(Input::Media(LegSide::Near, MediaInput::Opened))
    }

    fn answer(&mut self) -> Vec<Output> {
        self.ring();
        self.give(Input::Agent(AgentInput::Ready))
    }

    fn talk(&mut self) {
        self.answer();
        self.give(Input::Leg(LegSide::Near, LegInput::Acknowledged(None)));
    }

    /// Closes the media and returns the record of the end.
    fn close(&mut self) -> (HangupCause, Party, Duration) {
        let out = self.give(Input::Media(
            LegSide::Near,
            MediaInput::Closed(Some(Box::<MediaFigures>::default())),
        ));
        assert!(self.call.is_over(), "{out:?}");
        assert_eq!(out.last(), Some(&Output::Finish));
        ended(&out).expect("the end is recorded")
    }
}

/// A call of which nothing is special.
fn plain() -> CallSetup {
    CallSetup {
        agent: AgentSettings {
            kind: AgentKind::Echo,
            answer: AnswerPolicy::WhenReady,
            barge_in: BargeIn::OFF,
            hangup_after: None,
            reinvite_after: None,
            faults: FaultPolicy::USUAL,
            hold_music: None,
        },
        fallbacks: VecDeque::new(),
        asks: None,
        opening: Opening::Inbound(terms()),
        partner: Partner::Agent,
        ring_max: Duration::from_secs(45),
        duration_max: Duration::from_secs(3600),
        answer_delay: Duration::ZERO,
        progress: InboundProgress::Ringing,
        response_map: ResponseMap::default(),
    }
}

pub(super) fn terms() -> LegTerms {
    LegTerms {
        capabilities: Capabilities {
            codecs: vec![Codec::Pcmu, Codec::Pcma],
            order: AnswerOrder::Remote,
            dtmf: PayloadType::new(101),
            dtmf_flash: false,
            ptime: Ptime::MS_20,
            ptime_max: Ptime::MS_20,
            rtcp_mux: false,
            asks_metrics: false,
            single_codec: true,
            annex_b: false,
            srtp: SrtpTerms::default(),
        },
        codecs_offered: vec![Codec::Pcmu, Codec::Pcma],
        srtp_offered: SrtpTerms::default(),
        delayed_offer: false,
        progress: Progress::default(),
        dtmf_info: true,
        keys: KeyWay::Media,
        transfers: false,
        joined_by: None,
        hold: Direction::SendOnly,
        session_id: 7,
    }
}

fn place() -> Place {
    Place { address: IpAddr::V4(Ipv4Addr::LOCALHOST), rtp_port: 20_000, rtcp_port: 20_001 }
}

fn ended(out: &[Output]) -> Option<(HangupCause, Party, Duration)> {
    out.iter().find_map(|output| match output {
        Output::Record(CallEvent::Ended { cause, by, duration }) => Some((*cause, *by, *duration)),
        _ => None,
    })
}

fn answer_body(out: &[Output]) -> Option<String> {
    out.iter().find_map(|output| match output {
        Output::Leg(LegSide::Near, LegOutput::Answer(body))
        | Output::Leg(LegSide::Near, LegOutput::AnswerReoffer(body)) => {
            Some(String::from_utf8_lossy(body).into_owned())
        }
        _ => None,
    })
}

fn planned(out: &[Output]) -> Option<Direction> {
    out.iter().find_map(|output| match output {
        Output::Media(LegSide::Near, MediaOutput::Update(plan)) => Some(plan.direction),
        _ => None,
    })
}

/// What the media of a leg may hear by an offer of ours, or `None` in it that nothing comes of that.
fn expected(out: &[Output], side: LegSide) -> Option<Option<Offered>> {
    out.iter().find_map(|output| match output {
        Output::Media(to, MediaOutput::Expect(offered)) if *to == side => Some(*offered),
        _ => None,
    })
}

fn offer_with(line: &str) -> Input {
    Input::Leg(LegSide::Near, LegInput::Reoffered(Some(format!("{OFFER}{line}\r\n").into())))
}

#[test]
fn the_caller_hears_ringing_until_the_agent_is_ready() {
    let mut bench = Bench::new(|_| ());
    let out = bench.ring();
    assert!(out.contains(&Output::Agent(AgentOutput::Start)));
    assert!(
        out.contains(&Output::Leg(LegSide::Near, LegOutput::Progress { status: 180, body: None }))
            && answer_body(&out).is_none()
    );
    let out = bench.give(Input::Agent(AgentInput::Ready));
    assert!(answer_body(&out).is_some_and(|body| body.contains("m=audio 20000 RTP/AVP 0 101")));
    assert_eq!(planned(&out), Some(Direction::SendReceive));
    assert!(
        !out.contains(&Output::Media(LegSide::Near, MediaOutput::StartPlayout)),
        "the greeting waits for the ACK"
    );
    assert!(
        bench
            .give(Input::Leg(LegSide::Near, LegInput::Acknowledged(None)))
            .contains(&Output::Media(LegSide::Near, MediaOutput::StartPlayout))
    );
}

#[test]
fn the_media_are_told_of_the_ack_and_know_of_the_first_packet_themselves() {
    let mut bench = Bench::new(|_| ());
    bench.answer();
    let start = Output::Media(LegSide::Near, MediaOutput::StartPlayout);
    assert!(!bench.give(Input::Media(LegSide::Near, MediaInput::FirstPacket)).contains(&start));
    let acknowledged = || Input::Leg(LegSide::Near, LegInput::Acknowledged(None));
    assert!(bench.give(acknowledged()).contains(&start));
    assert!(!bench.give(acknowledged()).contains(&start), "once");
}

#[test]
fn a_profile_may_let_it_ring_for_a_time() {
    let ring = Duration::from_secs(6);
    let mut bench = Bench::new(|setup| setup.agent.answer = AnswerPolicy::After(ring));
    assert_eq!(answer_body(&bench.answer()), None);
    let out = bench.wait();
    assert_eq!(bench.now, Moment::START + ring);
    assert!(answer_body(&out).is_some());
}

#[test]
fn an_immediate_answer_does_not_wait_for_the_agent() {
    let mut bench = Bench::new(|setup| setup.agent.answer = AnswerPolicy::Immediate);
    let out = bench.ring();
    assert!(
        answer_body(&out).is_some()
            && !out.contains(&Output::Leg(
                LegSide::Near,
                LegOutput::Progress { status: 180, body: None }
            ))
    );
    // Nor does the caller hear nothing meanwhile.
    assert_eq!(legs::path(&out), Some(AudioPath::Waiting(Comfort::Starting)));
    let out = bench.give(Input::Agent(AgentInput::Ready));
    assert!(out.contains(&Output::Agent(AgentOutput::TellAnswered)), "{out:?}");
    assert_eq!(legs::path(&out), Some(AudioPath::Agent(LegSide::Near)));
}

#[test]
fn a_hopeless_offer_is_refused_before_ports_are_taken() {
    let mut bench = Bench::new(|_| ());
    let offer = OFFER.replace("RTP/AVP 0 101", "RTP/AVP 18");
    let out = bench.give(Input::Leg(LegSide::Near, LegInput::Offered(Some(offer.into()))));
    let (cause, status) = (HangupCause::NoCommonCodec, 488);
    let refusal = LegOutput::Refuse { cause, status, is_theirs: false };
    assert_eq!(out.first(), Some(&Output::Leg(LegSide::Near, refusal)));
    assert_eq!(ended(&out), Some((cause, Party::Switch, Duration::ZERO)));
    assert!(bench.call.is_over());
}

#[test]
fn without_ports_the_call_is_refused() {
    let mut bench = Bench::new(|_| ());
    bench.give(Input::Leg(LegSide::Near, LegInput::Offered(None)));
    let out = bench.give(Input::Media(LegSide::Near, MediaInput::Refused(HangupCause::NoPorts)));
    assert!(out.contains(&Output::Leg(
        LegSide::Near,
        LegOutput::Refuse { cause: HangupCause::NoPorts, status: 503, is_theirs: false }
    )));
    assert!(bench.call.is_over());
}

#[test]
fn whatever_the_answer_policy_a_call_without_a_media_session_is_refused() {
    let after = AnswerPolicy::After(Duration::from_secs(1));
    for policy in [AnswerPolicy::Immediate, AnswerPolicy::WhenReady, after] {
        let mut bench = Bench::new(|setup| setup.agent.answer = policy);
        bench.give(Input::Leg(LegSide::Near, LegInput::Offered(Some(OFFER.into()))));
        bench.give(Input::Media(LegSide::Near, MediaInput::Reserved(place())));
        let out =
            bench.give(Input::Media(LegSide::Near, MediaInput::Refused(HangupCause::Overload)));
        let refusal = Output::Leg(
            LegSide::Near,
            LegOutput::Refuse { cause: HangupCause::Overload, status: 503, is_theirs: false },
        );
        assert_eq!(out.first(), Some(&refusal), "{policy:?}");
        assert_eq!(ended(&out), Some((HangupCause::Overload, Party::Switch, Duration::ZERO)));
        assert!(answer_body(&out).is_none() && bench.call.is_over(), "{out:?}");
    }
}

#[test]
fn a_caller_may_give_up_before_the_media_session_runs() {
    let mut bench = Bench::new(|_| ());
    bench.give(Input::Leg(LegSide::Near, LegInput::Offered(None)));
    bench.give(Input::Media(LegSide::Near, MediaInput::Reserved(place())));
    let out = bench.give(Input::Leg(LegSide::Near, LegInput::Cancelled));
    assert_eq!(out, [Output::Media(LegSide::Near, MediaOutput::Close)]);
    assert!(bench.give(Input::Media(LegSide::Near, MediaInput::Opened)).is_empty());
    let out = bench.give(Input::Media(LegSide::Near, MediaInput::Closed(None)));
    assert_eq!(out.last(), Some(&Output::Finish));
}

#[test]
fn an_invite_without_sdp_gets_our_offer() {
    let mut bench = Bench::new(|_| ());
    bench.give(Input::Leg(LegSide::Near, LegInput::Offered(None)));
    bench.open();
    let out = bench.give(Input::Agent(AgentInput::Ready));
    let body = answer_body(&out).expect("answered");
    assert!(body.contains("RTP/AVP 0 8 101"), "{body}");
    assert_eq!(planned(&out), None);
    let out = bench.give(Input::Leg(LegSide::Near, LegInput::Acknowledged(Some(OFFER.into()))));
    assert_eq!(planned(&out), Some(Direction::SendReceive));
    assert!(out.contains(&Output::Record(CallEvent::Answered(Codec::Pcmu))));
}

#[test]
fn an_ack_without_the_answer_ends_the_call() {
    let mut bench = Bench::new(|_| ());
    bench.give(Input::Leg(LegSide::Near, LegInput::Offered(None)));
    bench.open();
    bench.give(Input::Agent(AgentInput::Ready));
    let out = bench.give(Input::Leg(LegSide::Near, LegInput::Acknowledged(None)));
    assert!(out.contains(&Output::Leg(LegSide::Near, LegOutput::HangUp(HangupCause::NoSdpAnswer))));
}

#[test]
fn a_hold_is_answered_with_a_new_answer() {
    for (line, direction, answered) in [
        ("a=sendonly", Direction::ReceiveOnly, "a=recvonly"),
        ("a=inactive", Direction::Inactive, "a=inactive"),
    ] {
        let mut bench = Bench::new(|_| ());
        bench.talk();
        let out = bench.give(offer_with(line));
        assert!(answer_body(&out).is_some_and(|body| body.contains(answered)), "{out:?}");
        assert_eq!(planned(&out), Some(direction));
        assert!(out.contains(&Output::Record(CallEvent::Held)));
        assert!(
            bench.give(Input::Media(LegSide::Near, MediaInput::TimedOut)).is_empty(),
            "a held caller owes us no media"
        );
        let out = bench.give(offer_with("a=sendrecv"));
        assert_eq!(planned(&out), Some(Direction::SendReceive));
        assert!(out.contains(&Output::Record(CallEvent::Resumed)));
    }
}

#[test]
fn a_repeated_offer_keeps_the_version_and_a_changed_one_raises_it() {
    let version = |out: &[Output]| {
        let body = answer_body(out).expect("answered");
        let origin = body.lines().find(|line| line.starts_with("o=")).expect("an origin");
        origin.split(' ').nth(2).and_then(|word| word.parse::<u64>().ok()).expect("a version")
    };
    let mut bench = Bench::new(|_| ());
    let first = version(&bench.answer());
    bench.give(Input::Leg(LegSide::Near, LegInput::Acknowledged(None)));
    let again =
        version(&bench.give(Input::Leg(LegSide::Near, LegInput::Reoffered(Some(OFFER.into())))));
    let held = version(&bench.give(offer_with("a=inactive")));
    assert_eq!((again, held), (first, first + 1));
}

#[test]
fn a_refused_new_offer_leaves_the_call_as_it_was() {
    let mut bench = Bench::new(|_| ());
    bench.talk();
    let video = OFFER.replace("RTP/AVP 0 101", "RTP/AVP 18");
    let out = bench.give(Input::Leg(LegSide::Near, LegInput::Reoffered(Some(video.into()))));
    assert_eq!(
        out,
        [
            Output::Leg(LegSide::Near, LegOutput::RefuseReoffer(HangupCause::NoCommonCodec)),
            Output::Record(CallEvent::ReofferRefused {
                side: LegSide::Near,
                cause: HangupCause::NoCommonCodec
            }),
        ]
    );
    assert!(!bench.call.is_over());
}

#[test]
fn a_new_offer_without_sdp_gets_ours_and_the_answer_comes_in_the_ack() {
    let mut bench = Bench::new(|_| ());
    bench.talk();
    let out = bench.give(Input::Leg(LegSide::Near, LegInput::Reoffered(None)));
    assert!(answer_body(&out).is_some_and(|body| body.contains("RTP/AVP 0 8 101")));
    let codecs = expected(&out, LegSide::Near).flatten().map(|it| it.codecs().collect::<Vec<_>>());
    assert_eq!(codecs, Some(vec![Codec::Pcma]), "it may be spoken before the ACK");
    let moved = OFFER.replace("4000", "4002");
    let out = bench.give(Input::Leg(LegSide::Near, LegInput::Acknowledged(Some(moved.into()))));
    let Some(Output::Media(LegSide::Near, MediaOutput::Update(plan))) = out.first() else {
        panic!("{out:?}")
    };
    assert_eq!(plan.remote, Some("192.0.2.1:4002".parse().unwrap()));
}

#[test]
fn the_caller_may_give_up_while_it_rings() {
    let mut bench = Bench::new(|_| ());
    bench.ring();
    let out = bench.give(Input::Leg(LegSide::Near, LegInput::Cancelled));
    assert_eq!(
        out,
        [Output::Agent(AgentOutput::End), Output::Media(LegSide::Near, MediaOutput::Close)]
    );
    assert_eq!(bench.close(), (HangupCause::CallerCancelled, Party::Caller, Duration::ZERO));
}

#[test]
fn who_hangs_up_while_it_rings_declines_the_call() {
    let mut bench = Bench::new(|_| ());
    bench.ring();
    let (cause, by) = (HangupCause::Normal, Party::Operator);
    let out = bench.give(Input::HangupRequested { cause, by });
    let declined = LegOutput::Refuse { cause, status: 603, is_theirs: false };
    assert!(out.contains(&Output::Leg(LegSide::Near, declined)), "{out:?}");
    assert_eq!(bench.close(), (cause, by, Duration::ZERO));
}

#[test]
fn a_cancellation_that_overtakes_our_answer_ends_the_call() {
    let mut bench = Bench::new(|_| ());
    bench.ring();
    assert!(answer_body(&bench.give(Input::Agent(AgentInput::Ready))).is_some());
    let out = bench.give(Input::Leg(LegSide::Near, LegInput::Cancelled));
    assert_eq!(
        out,
        [Output::Agent(AgentOutput::End), Output::Media(LegSide::Near, MediaOutput::Close)]
    );
    assert_eq!(bench.close(), (HangupCause::CallerCancelled, Party::Caller, Duration::ZERO));
}

#[test]
fn an_agent_that_never_comes_is_given_up() {
    let mut bench = Bench::new(|_| ());
    bench.ring();
    let out = bench.wait();
    assert_eq!(bench.now.as_millis(), 45_000);
    assert!(out.contains(&Output::Leg(
        LegSide::Near,
        LegOutput::Refuse { cause: HangupCause::NoAnswer, status: 480, is_theirs: false }
    )));
    assert_eq!(bench.close().0, HangupCause::NoAnswer);
}

#[test]
fn a_failed_agent_means_an_announcement_and_a_clean_end() {
    let mut bench = Bench::new(|_| ());
    bench.ring();
    let out = bench.give(Input::Agent(AgentInput::Failed(HangupCause::AgentUnreachable)));
    assert!(
        answer_body(&out).is_some() && out.contains(&Output::Agent(AgentOutput::StartFallback))
    );
    bench.give(Input::Leg(LegSide::Near, LegInput::Acknowledged(None)));
    let out = bench.give(Input::Agent(AgentInput::FallbackPlayed));
    assert!(
        out.contains(&Output::Leg(LegSide::Near, LegOutput::HangUp(HangupCause::AgentUnreachable)))
    );
    assert_eq!(bench.close().0, HangupCause::AgentUnreachable);
}

#[test]
fn a_lost_agent_is_replaced_by_the_announcement_once() {
    let mut bench = Bench::new(|_| ());
    bench.talk();
    let out = bench.give(Input::Agent(AgentInput::Lost(HangupCause::AgentLost)));
    assert!(
        out.contains(&Output::Agent(AgentOutput::End))
            && out.contains(&Output::Agent(AgentOutput::StartFallback))
    );
    assert!(bench.give(Input::Agent(AgentInput::Lost(HangupCause::AgentLost))).is_empty());
    // An announcement that never ends does not hold the call for ever.
    let out = bench.wait();
    assert!(out.contains(&Output::Leg(LegSide::Near, LegOutput::HangUp(HangupCause::AgentLost))));
    assert_eq!(bench.close().0, HangupCause::AgentLost);
}

#[test]
fn the_record_says_who_ended_the_call_and_how_long_it_was() {
    let two = Duration::from_secs(2);
    for (input, cause, by) in [
        (
            Input::Leg(
                LegSide::Near,
                LegInput::Ended { cause: HangupCause::Normal, by: Party::Caller },
            ),
            HangupCause::Normal,
            Party::Caller,
        ),
        (Input::Agent(AgentInput::HungUp), HangupCause::Normal, Party::Agent),
        (
            Input::Media(LegSide::Near, MediaInput::TimedOut),
            HangupCause::MediaTimeout,
            Party::Switch,
        ),
        (
            Input::HangupRequested { cause: HangupCause::Draining, by: Party::Operator },
            HangupCause::Draining,
            Party::Operator,
        ),
    ] {
        let mut bench = Bench::new(|_| ());
        bench.talk();
        bench.now += two;
        bench.give(input);
        assert_eq!(bench.close(), (cause, by, two));
    }
}

#[test]
fn a_profile_may_hang_up_or_reinvite_by_itself() {
    let mut bench = Bench::new(|setup| {
        setup.agent.reinvite_after = Some(Duration::from_secs(2));
        setup.agent.hangup_after = Some(Duration::from_secs(3));
    });
    bench.talk();
    let out = bench.wait();
    assert!(matches!(out.first(), Some(Output::Leg(LegSide::Near, LegOutput::Reoffer(_)))));
    assert!(expected(&out, LegSide::Near).is_some() && out.len() == 2, "{out:?}");
    let out = bench.give(Input::Leg(LegSide::Near, LegInput::ReofferAnswered(Some(OFFER.into()))));
    assert_eq!(planned(&out), Some(Direction::SendReceive));
    assert!(
        bench.wait().contains(&Output::Leg(LegSide::Near, LegOutput::HangUp(HangupCause::Normal)))
    );
    assert_eq!(bench.now.as_millis(), 3000);
}

#[test]
fn a_key_told_by_signalling_reaches_the_agent_unless_the_media_carry_keys() {
    let key = |digit| {
        [Output::Record(CallEvent::Digit(digit)), Output::Agent(AgentOutput::TellDigit(digit))]
    };
    let mut bench = Bench::new(|_| ());
    bench.talk();
    let told =
        |bench: &mut Bench, digit| bench.give(Input::Leg(LegSide::Near, LegInput::Digit(digit)));
    assert_eq!(bench.keyed(LegSide::Near, '5'), key('5'));
    assert_eq!(told(&mut bench, '7'), key('7'), "the next of them at once");
    assert_eq!(
        bench.give(Input::Media(LegSide::Near, MediaInput::Digit('6'))),
        [Output::Record(CallEvent::Digit('6'))]
    );
    assert_eq!(told(&mut bench, '6'), []);
    let mut deaf = Bench::new(|setup| {
        setup.opening = Opening::Inbound(LegTerms { dtmf_info: false, ..terms() })
    });
    deaf.talk();
    assert_eq!(deaf.keyed(LegSide::Near, '5'), []);
}

#[test]
fn a_key_told_by_signalling_and_media_is_one_whichever_comes_first() {
    let (pressed, up) = (MediaInput::Pressed, MediaInput::Digit('1'));
    let by_media = |input: &MediaInput| Input::Media(LegSide::Near, input.clone());
    let told = || Input::Leg(LegSide::Near, LegInput::Digit('1'));
    for inputs in [
        [told(), by_media(&pressed), by_media(&up)],
        [by_media(&pressed), told(), by_media(&up)],
        [by_media(&pressed), by_media(&up), told()],
    ] {
        let mut bench = Bench::new(|_| ());
        bench.talk();
        let mut out = Vec::new();
        for input in inputs {
            bench.now += Duration::from_millis(90);
            out.extend(bench.give(input));
        }
        bench.now += Duration::from_secs(1);
        out.extend(bench.give(Input::DeadlineReached));
        // The media told the agent themselves.
        assert_eq!(out, [Output::Record(CallEvent::Digit('1'))]);
    }
}

#[test]
fn keys_told_by_signalling_count_again_once_no_events_are_agreed_on() {
    let mut bench = Bench::new(|_| ());
    bench.talk();
    bench.give(Input::Media(LegSide::Near, MediaInput::Digit('1')));
    let with_events = OFFER.replace("4000", "5000");
    bench.give(Input::Leg(LegSide::Near, LegInput::Reoffered(Some(with_events.into()))));
    assert_eq!(bench.keyed(LegSide::Near, '2'), []);
    let without = OFFER.replace("a=rtpmap:101 telephone-event/8000\r\n", "").replace("0 101", "0");
    bench.give(Input::Leg(LegSide::Near, LegInput::Reoffered(Some(without.into()))));
    let key = Output::Agent(AgentOutput::TellDigit('3'));
    assert!(bench.keyed(LegSide::Near, '3').contains(&key));
    // Nothing waits for a peer that is gone.
    let mut bench = Bench::new(|_| ());
    bench.talk();
    let before = bench.call.deadline();
    bench.give(Input::Leg(LegSide::Near, LegInput::Digit('1')));
    assert!(bench.call.deadline() < before);
    bench.give(Input::Leg(
        LegSide::Near,
        LegInput::Ended { cause: HangupCause::Normal, by: Party::Caller },
    ));
    bench.close();
    assert_eq!(bench.call.deadline(), None);
}

#[test]
fn the_key_by_which_an_agent_hangs_up_is_recorded() {
    let mut bench = Bench::new(|_| ());
    bench.talk();
    bench.give(Input::Agent(AgentInput::HungUp));
    let last = bench.give(Input::Media(LegSide::Near, MediaInput::Digit('9')));
    assert_eq!(last, [Output::Record(CallEvent::Digit('9'))]);
    assert_eq!(bench.close().0, HangupCause::Normal);
}

#[test]
fn our_offers_hold_the_codecs_of_the_trunk_in_its_order() {
    let mut bench = Bench::new(|setup| {
        setup.opening =
            Opening::Inbound(LegTerms { codecs_offered: vec![Codec::Pcma, Codec::Pcmu], ..terms() })
    });
    bench.give(Input::Leg(LegSide::Near, LegInput::Offered(None)));
    bench.open();
    let body = answer_body(&bench.give(Input::Agent(AgentInput::Ready)));
    assert!(body.is_some_and(|body| body.contains("RTP/AVP 8 0 101")));
}

#[test]
fn the_longest_duration_ends_the_call() {
    let mut bench = Bench::new(|setup| setup.duration_max = Duration::from_secs(60));
    bench.talk();
    assert!(
        bench
            .wait()
            .contains(&Output::Leg(LegSide::Near, LegOutput::HangUp(HangupCause::MaxDuration)))
    );
}

#[test]
fn nothing_happens_to_a_call_that_is_over() {
    let mut bench = Bench::new(|_| ());
    bench.talk();
    bench.give(Input::Leg(
        LegSide::Near,
        LegInput::Ended { cause: HangupCause::Normal, by: Party::Caller },
    ));
    assert!(bench.give(Input::Agent(AgentInput::HungUp)).is_empty());
    bench.close();
    for input in [
        Input::Leg(LegSide::Near, LegInput::Offered(None)),
        Input::Agent(AgentInput::Ready),
        Input::DeadlineReached,
        Input::Media(LegSide::Near, MediaInput::Closed(None)),
    ] {
        assert!(bench.give(input).is_empty());
    }
    assert_eq!(bench.call.deadline(), None);
}
