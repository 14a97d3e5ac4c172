//! Legs of a codec that only passes, in virtual time: what each is offered and answered, and when it has to change.

use super::legs::dial;
use super::legs::hangs_up;
use super::random::request;
use super::supervision::supervise;
use super::*;
use crate::call::record::RecordOrder;
use crate::call::steer::Order;
use crate::call::steer::Senseless;
use crate::call::supervision::SupervisionMode;
use crate::types::id::RecordingId;

const NEAR: LegSide = LegSide::Near;
const FAR: LegSide = LegSide::Far;

/// A description whose audio has these formats, and what is said of them.
fn sdp(formats: &str) -> Bytes {
    format!(
        "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n\
         m=audio 4000 RTP/AVP {formats} 101\r\na=rtpmap:101 telephone-event/8000\r\n"
    )
    .into()
}

fn without_noise(formats: &str) -> Bytes {
    let text = String::from_utf8_lossy(&sdp(formats)).into_owned();
    format!("{text}a=fmtp:18 annexb=no\r\n").into()
}

const CODECS: [Codec; 3] = [Codec::Pcmu, Codec::Pcma, Codec::G729];

fn passing_terms(codecs: &[Codec]) -> LegTerms {
    let mut terms = terms();
    terms.capabilities.codecs = codecs.to_vec();
    terms.codecs_offered = codecs.to_vec();
    terms
}

fn forwarding(far: &[Codec]) -> Bench {
    Bench::new(|setup| {
        setup.opening = Opening::Inbound(passing_terms(&CODECS));
        let request = DialRequest { terms: passing_terms(far), ..request() };
        setup.partner = Partner::Forward(Box::new(request));
        setup.agent.answer = AnswerPolicy::WhenReady;
    })
}

/// The formats of a description of ours.
fn formats(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body).into_owned();
    let line = text.lines().find_map(|line| line.strip_prefix("m=audio 20000 RTP/AVP "));
    let noise = text.lines().find_map(|line| line.strip_prefix("a=fmtp:18 "));
    let formats = line.unwrap_or(&text).to_owned();
    noise.map_or(formats.clone(), |noise| format!("{formats} {noise}"))
}

/// What was said to a leg that holds a description.
fn told(out: &[Output], side: LegSide) -> Option<String> {
    out.iter().find_map(|output| match output {
        Output::Leg(to, said) if *to == side => match said {
            LegOutput::Answer(body) => Some(format!("answer {}", formats(body))),
            LegOutput::AnswerReoffer(body) => Some(format!("answer {}", formats(body))),
            LegOutput::Reoffer(body) => Some(format!("offer {}", formats(body))),
            LegOutput::Progress { body: Some(body), .. } => {
                Some(format!("progress {}", formats(body)))
            }
            LegOutput::Refuse { status, .. } => Some(format!("refuse {status}")),
            LegOutput::RefuseReoffer(cause) => Some(format!("refuse {cause:?}")),
            _ => None,
        },
        _ => None,
    })
}

/// The codecs of the plans that media got.
fn plans(out: &[Output]) -> Vec<(LegSide, Codec)> {
    let plan = |output: &Output| match output {
        Output::Media(side, MediaOutput::Update(plan)) => Some((*side, plan.codec)),
        _ => None,
    };
    out.iter().filter_map(plan).collect()
}

impl Bench {
    /// A caller offers this; gives what the far leg is offered.
    fn offered(&mut self, offer: Bytes) -> Option<String> {
        self.leg(NEAR, LegInput::Offered(Some(offer)));
        self.run_media(NEAR);
        dial(&self.run_media(FAR), FAR).flatten().map(|offer| formats(&offer))
    }

    /// Two legs that talk by G.729.
    fn passing() -> Self {
        let mut bench = forwarding(&CODECS);
        bench.offered(sdp("18 0"));
        bench.leg(FAR, LegInput::Answered(Some(sdp("18"))));
        bench.leg(NEAR, LegInput::Acknowledged(None));
        bench
    }
}

#[test]
fn both_legs_have_it_where_both_peers_take_it() {
    let mut bench = forwarding(&CODECS);
    assert_eq!(bench.offered(sdp("18 0")).as_deref(), Some("0 8 18 101 annexb=yes"));
    let out = bench.leg(FAR, LegInput::Answered(Some(sdp("18"))));
    assert_eq!(told(&out, NEAR).as_deref(), Some("answer 18 101 annexb=yes"));
    assert_eq!(plans(&out), [(FAR, Codec::G729), (NEAR, Codec::G729)]);
    // Who takes no frames of noise gets none, on whichever side it is.
    let mut bench = forwarding(&CODECS);
    assert_eq!(bench.offered(without_noise("18 0")).as_deref(), Some("0 8 18 101 annexb=no"));
    let mut bench = forwarding(&CODECS);
    bench.offered(sdp("18 0"));
    let out = bench.leg(FAR, LegInput::Answered(Some(without_noise("18"))));
    assert_eq!(told(&out, NEAR).as_deref(), Some("answer 18 101 annexb=no"));
}

#[test]
fn what_the_far_leg_chooses_is_what_the_near_one_gets() {
    let mut bench = forwarding(&CODECS);
    bench.offered(sdp("18 0"));
    let out = bench.leg(FAR, LegInput::Answered(Some(sdp("8"))));
    assert_eq!(told(&out, NEAR).as_deref(), Some("answer 0 101"));
    assert_eq!(plans(&out), [(FAR, Codec::Pcma), (NEAR, Codec::Pcmu)]);
    // One that did not offer it leaves nothing to choose.
    let mut bench = forwarding(&CODECS);
    assert_eq!(bench.offered(sdp("0 8")).as_deref(), Some("0 8 101"));
    // Early media decides as the answer does.
    let mut bench = forwarding(&CODECS);
    bench.offered(sdp("0 18"));
    let early = LegInput::Progressed { status: 183, body: Some(sdp("18")) };
    let out = bench.leg(FAR, early);
    assert_eq!(told(&out, NEAR).as_deref(), Some("progress 18 101 annexb=yes"));
    let out = bench.leg(FAR, LegInput::Answered(Some(sdp("18"))));
    assert_eq!(told(&out, NEAR).as_deref(), Some("answer 18 101 annexb=yes"));
}

#[test]
fn a_caller_with_nothing_else_is_refused_where_the_other_side_has_it_not() {
    // To an agent it can never pass.
    let mut bench = Bench::new(|setup| setup.opening = Opening::Inbound(passing_terms(&CODECS)));
    let out = bench.leg(NEAR, LegInput::Offered(Some(sdp("18"))));
    assert_eq!(told(&out, NEAR).as_deref(), Some("refuse 488"));
    // Nor by a trunk that has it not, whose carrier is not even asked.
    let mut bench = forwarding(&CODECS[..2]);
    bench.leg(NEAR, LegInput::Offered(Some(sdp("18"))));
    bench.run_media(NEAR);
    assert_eq!(dial(&bench.run_media(FAR), FAR), Some(None), "the trunk is yet to be chosen");
    let terms = Some(Box::new(passing_terms(&CODECS[..2])));
    let out = bench.leg(FAR, LegInput::OfferWanted { terms, place: None });
    assert_eq!(out, [Output::Leg(FAR, LegOutput::NotOffered(HangupCause::NoCommonCodec))]);
    let none = LegInput::DialFailed { cause: HangupCause::NoCommonCodec, status: None };
    assert_eq!(told(&bench.leg(FAR, none), NEAR).as_deref(), Some("refuse 488"));
    // Nothing else is offered for such a caller; and a peer that answers with something else is hung up.
    let mut bench = forwarding(&CODECS);
    assert_eq!(bench.offered(sdp("18")).as_deref(), Some("18 101 annexb=yes"));
    let out = bench.leg(FAR, LegInput::Answered(Some(sdp("0"))));
    assert_eq!(hangs_up(&out, FAR), Some(HangupCause::NoCommonCodec));
    assert_eq!(told(&out, NEAR).as_deref(), Some("refuse 488"));
}

#[test]
fn a_hold_keeps_it_and_a_new_codec_of_one_leg_is_offered_to_the_other() {
    let mut bench = Bench::passing();
    let held = String::from_utf8_lossy(&sdp("0 18")).into_owned() + "a=sendonly\r\n";
    let out = bench.leg(FAR, LegInput::Reoffered(Some(held.into())));
    assert_eq!(told(&out, FAR).as_deref(), Some("answer 18 101 annexb=yes"));
    assert_eq!(told(&out, NEAR), None);
    let out = bench.leg(FAR, LegInput::Reoffered(Some(sdp("0"))));
    assert_eq!(told(&out, FAR).as_deref(), Some("answer 0 101"));
    assert_eq!(told(&out, NEAR).as_deref(), Some("offer 0 8 101"));
    let out = bench.leg(NEAR, LegInput::ReofferAnswered(Some(sdp("0"))));
    assert_eq!((plans(&out), told(&out, FAR)), (vec![(NEAR, Codec::Pcmu)], None));
    assert!(ended(&out).is_none());
    // An offer that crosses the end of the peer's own is made again once that is acknowledged.
    let mut bench = Bench::passing();
    bench.leg(NEAR, LegInput::Reoffered(Some(sdp("18 0"))));
    let out = bench.leg(FAR, LegInput::Reoffered(Some(sdp("0"))));
    assert_eq!(told(&out, NEAR).as_deref(), Some("offer 0 8 101"));
    let out = bench.leg(NEAR, LegInput::ReofferRefused { status: 491, has_waited: false });
    assert!(ended(&out).is_none() && told(&out, NEAR).is_none(), "{out:?}");
    let out = bench.leg(NEAR, LegInput::Acknowledged(None));
    assert_eq!(told(&out, NEAR).as_deref(), Some("offer 0 8 101"));
    // The other way round, and a peer that has nothing else is left alone with it: that is told, and ends the call.
    let mut bench = Bench::passing();
    let out = bench.leg(NEAR, LegInput::Reoffered(Some(sdp("8"))));
    assert_eq!(told(&out, NEAR).as_deref(), Some("answer 8 101"));
    assert_eq!(told(&out, FAR).as_deref(), Some("offer 0 8 101"));
    let out = bench.leg(FAR, LegInput::ReofferRefused { status: 488, has_waited: false });
    assert_eq!(hangs_up(&out, FAR), Some(HangupCause::NoCommonCodec));
    assert_eq!(hangs_up(&out, NEAR), Some(HangupCause::NoCommonCodec));
}

#[test]
fn who_wants_to_hear_the_call_brings_both_legs_to_a_codec_that_all_have() {
    let record =
        Order::Record(RecordOrder::Start(RecordingId::from_uuid(uuid::Uuid::from_u128(7))));
    for order in [supervise(SupervisionMode::Listen), record] {
        let mut bench = Bench::passing();
        bench.call.order(bench.now, order, &mut bench.out).expect("it makes sense");
        let out = std::mem::take(&mut bench.out);
        assert_eq!(told(&out, NEAR).as_deref(), Some("offer 0 8 101"), "{out:?}");
        assert_eq!(told(&out, FAR), None, "one after the other");
        let out = bench.leg(NEAR, LegInput::ReofferAnswered(Some(sdp("0"))));
        assert_eq!(plans(&out), [(NEAR, Codec::Pcmu)]);
        assert_eq!(told(&out, FAR).as_deref(), Some("offer 0 8 101"), "{out:?}");
        let out = bench.leg(FAR, LegInput::ReofferAnswered(Some(sdp("0"))));
        assert_eq!(plans(&out), [(FAR, Codec::Pcmu)]);
    }
    // Where the near leg's peer keeps to it, they talk on, unheard.
    let mut bench = Bench::passing();
    bench.call.order(bench.now, supervise(SupervisionMode::Listen), &mut bench.out).expect("sense");
    bench.out.clear();
    let out = bench.leg(NEAR, LegInput::ReofferRefused { status: 488, has_waited: false });
    assert!(told(&out, FAR).is_none() && hangs_up(&out, NEAR).is_none(), "{out:?}");
}

#[test]
fn what_the_switch_says_itself_is_never_in_it() {
    // The far leg fails: the announcement is answered in a codec that can be spoken.
    let mut bench = Bench::new(|setup| {
        setup.opening = Opening::Inbound(passing_terms(&CODECS));
        let request = DialRequest { terms: passing_terms(&CODECS), ..request() };
        setup.partner = Partner::AgentLeg(Box::new(request));
    });
    bench.offered(sdp("18 0"));
    let out = bench.leg(FAR, LegInput::DialFailed { cause: HangupCause::Busy, status: Some(486) });
    assert_eq!(told(&out, NEAR).as_deref(), Some("answer 0 101"), "{out:?}");
    // A far leg that goes another way may have it there too.
    let mut bench = forwarding(&CODECS[..2]);
    assert_eq!(bench.offered(sdp("18 0")).as_deref(), Some("0 8 101"));
    let terms = Some(Box::new(passing_terms(&CODECS)));
    let out = bench.leg(FAR, LegInput::OfferWanted { terms, place: None });
    let offer = out.iter().find_map(|output| match output {
        Output::Leg(FAR, LegOutput::Offer(Some(body))) => Some(formats(body)),
        _ => None,
    });
    assert_eq!(offer.as_deref(), Some("0 8 18 101 annexb=yes"));
}

#[test]
fn a_peer_that_may_yet_leave_it_is_asked_for_six_seconds_and_not_for_a_minute() {
    let mut bench = Bench::passing();
    let out = bench.leg(NEAR, LegInput::Reoffered(Some(sdp("8"))));
    assert_eq!(told(&out, FAR).as_deref(), Some("offer 0 8 101"));
    // Meanwhile neither hears the other.
    for wait_s in [2, 4] {
        let out = bench.leg(FAR, LegInput::ReofferRefused { status: 503, has_waited: false });
        assert!(hangs_up(&out, FAR).is_none() && told(&out, FAR).is_none(), "{out:?}");
        let before = bench.now;
        let out = bench.wait();
        assert_eq!(bench.now.since(before), Duration::from_secs(wait_s));
        assert_eq!(told(&out, FAR).as_deref(), Some("offer 0 8 101"), "after {wait_s} s");
    }
    let out = bench.leg(FAR, LegInput::ReofferRefused { status: 503, has_waited: false });
    assert_eq!(hangs_up(&out, FAR), Some(HangupCause::NoCommonCodec));
    assert_eq!(hangs_up(&out, NEAR), Some(HangupCause::NoCommonCodec));
}

#[test]
fn who_takes_no_events_gets_no_keys_where_no_tone_can_be_made() {
    let keys = |side| Order::SendKeys { side, keys: "1".to_owned() };
    let mut bench = forwarding(&CODECS);
    bench.offered(sdp("18 0"));
    let deaf = String::from_utf8_lossy(&sdp("18")).replace(" 101\r\n", "\r\n");
    let deaf = deaf.replace("a=rtpmap:101 telephone-event/8000\r\n", "");
    let out = bench.leg(FAR, LegInput::Answered(Some(deaf.into())));
    assert_eq!(plans(&out), [(FAR, Codec::G729), (NEAR, Codec::G729)]);
    bench.leg(NEAR, LegInput::Acknowledged(None));
    let far = bench.call.order(bench.now, keys(FAR), &mut bench.out);
    assert!(bench.out.is_empty(), "{:?}", bench.out);
    assert_eq!(far, Err(Senseless::NoKeys));
    let near = bench.call.order(bench.now, keys(NEAR), &mut bench.out);
    assert_eq!(near, Ok(()), "it takes events");
}
