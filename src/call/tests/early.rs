//! What a caller hears before the other end answers, and how keys reach that.

use super::legs::path;
use super::legs::peer;
use super::legs::progress;
use super::legs::sdp;
use super::random::request;
use super::*;
use crate::call::dial::KeyWay;
use crate::call::input::AudioPath;
use crate::call::input::Comfort;
use crate::routing::signalling::EarlyMedia;

const NEAR: LegSide = LegSide::Near;
const FAR: LegSide = LegSide::Far;

/// A call that is passed on by a trunk of this kind, and to which a far end sends 183 with a description
/// and a bare 180 after it. What the caller is told each time, and hears.
fn passed_on(
    (early_media, ringback): (EarlyMedia, bool),
    answer: AnswerPolicy,
) -> [(Option<(u16, bool)>, AudioPath); 2] {
    let mut bench = Bench::new(|setup| {
        let mut request = request();
        request.terms.progress = Progress { early_media, ringback };
        setup.partner = Partner::Forward(Box::new(request));
        setup.agent.answer = answer;
    });
    bench.leg(NEAR, LegInput::Offered(sdp()));
    bench.run_media(NEAR);
    bench.run_media(FAR);
    if answer == AnswerPolicy::Immediate {
        assert!(bench.call.is_answered());
    }
    [
        LegInput::Progressed { status: 183, body: sdp() },
        LegInput::Progressed { status: 180, body: None },
    ]
    .map(|input| (progress(&bench.leg(FAR, input)), bench.call.path))
}

#[test]
fn a_trunk_says_whether_its_early_media_is_heard_our_tone_or_neither() {
    const TONE: AudioPath = AudioPath::Waiting(Comfort::Ringback);
    const SILENCE: AudioPath = AudioPath::Waiting(Comfort::Silence);
    let theirs = AudioPath::Early(FAR);
    for (terms, heard) in [
        ((EarlyMedia::CutThrough, true), [theirs, theirs]),
        ((EarlyMedia::CutThrough, false), [theirs, theirs]),
        ((EarlyMedia::Ringback, false), [TONE, TONE]),
        ((EarlyMedia::Ignore, true), [SILENCE, TONE]),
        ((EarlyMedia::Ignore, false), [SILENCE, SILENCE]),
    ] {
        let told = passed_on(terms, AnswerPolicy::Immediate);
        assert_eq!(told, heard.map(|path| (None, path)), "{terms:?}");
    }
    // A caller that is not answered has the tone of its own carrier.
    let apart = AudioPath::Agent(NEAR);
    for (terms, told) in [
        ((EarlyMedia::CutThrough, true), [(Some((183, true)), theirs), (None, theirs)]),
        ((EarlyMedia::Ringback, true), [(Some((180, false)), apart), (None, apart)]),
        ((EarlyMedia::Ignore, true), [(Some((183, false)), apart), (Some((180, false)), apart)]),
    ] {
        assert_eq!(passed_on(terms, AnswerPolicy::WhenReady), told, "{terms:?}");
    }
}

#[test]
fn an_answer_counts_whose_early_media_was_not_heard() {
    for early_media in [EarlyMedia::Ringback, EarlyMedia::Ignore] {
        let mut bench = Bench::new(|setup| {
            let mut request = request();
            request.terms.progress = Progress { early_media, ringback: true };
            setup.partner = Partner::Forward(Box::new(request));
        });
        bench.leg(NEAR, LegInput::Offered(sdp()));
        bench.run_media(NEAR);
        bench.run_media(FAR);
        let out = bench.leg(FAR, LegInput::Progressed { status: 183, body: sdp() });
        assert_eq!(peer(&out, FAR), None, "nothing is taken of it yet");
        let out = bench.leg(FAR, LegInput::Answered(sdp()));
        assert_eq!(peer(&out, FAR).as_deref(), Some("192.0.2.1:4000"));
        assert_eq!(path(&out), Some(AudioPath::Bridge(FAR)));
    }
}

#[test]
fn a_caller_may_hear_its_agent_ring_by_early_media_of_ours() {
    let mut bench = Bench::new(|setup| {
        setup.progress = InboundProgress::EarlyMedia;
        setup.answer_delay = Duration::from_secs(2);
    });
    bench.leg(NEAR, LegInput::Offered(sdp()));
    let out = bench.run_media(NEAR);
    assert_eq!(progress(&out), Some((183, true)));
    assert_eq!(path(&out), Some(AudioPath::Waiting(Comfort::Connecting)));
    assert!(out.contains(&Output::Media(NEAR, MediaOutput::StartPlayout)));
    assert!(planned(&out).is_some());
    let early = out.iter().find_map(|output| match output {
        Output::Leg(NEAR, LegOutput::Progress { body, .. }) => body.clone(),
        _ => None,
    });
    let out = bench.give(Input::Agent(AgentInput::Ready));
    assert_eq!((answer_body(&out), path(&out)), (None, None), "it rings for a while");
    let out = bench.wait();
    let early = early.map(|body| String::from_utf8_lossy(&body).into_owned());
    assert_eq!(answer_body(&out), early, "the answer repeats what was said early");
    assert_eq!(path(&out), Some(AudioPath::Agent(NEAR)));
}

#[test]
fn early_media_of_ours_needs_an_offer_and_gives_way_to_that_of_the_other_end() {
    let mut bench = Bench::new(|setup| setup.progress = InboundProgress::EarlyMedia);
    bench.leg(NEAR, LegInput::Offered(None));
    assert_eq!(progress(&bench.run_media(NEAR)), Some((180, false)));
    let mut bench = Bench::new(|setup| {
        setup.progress = InboundProgress::EarlyMedia;
        setup.partner = Partner::Forward(Box::new(request()));
    });
    bench.leg(NEAR, LegInput::Offered(sdp()));
    bench.run_media(NEAR);
    bench.run_media(FAR);
    let out = bench.leg(FAR, LegInput::Progressed { status: 180, body: None });
    assert_eq!(progress(&out), Some((183, true)));
    assert_eq!(path(&out), Some(AudioPath::Waiting(Comfort::Ringback)));
    let out = bench.leg(FAR, LegInput::Progressed { status: 183, body: sdp() });
    assert_eq!((progress(&out), path(&out)), (None, Some(AudioPath::Early(FAR))));
    let out = bench.leg(FAR, LegInput::Answered(sdp()));
    assert!(answer_body(&out).is_some());
    assert_eq!(path(&out), Some(AudioPath::Bridge(FAR)));
}

#[test]
fn a_party_that_offers_anew_before_it_answers_is_heard_where_it_is_by_then() {
    let moved = || Some(Bytes::from(OFFER.replace("4000 RTP/AVP 0", "5000 RTP/AVP 8 0")));
    let at = |port: u16| Some(format!("192.0.2.1:{port}"));
    // As the signalling tells it of that party's answer; and of another's, which is heard or is not.
    for (heard, answer, port) in
        [(None, moved(), 5_000), (sdp(), moved(), 5_000), (None, sdp(), 4_000)]
    {
        let mut bench = Bench::new(|setup| {
            let mut request = request();
            request.terms.capabilities.order = AnswerOrder::Local;
            setup.partner = Partner::Forward(Box::new(request));
        });
        bench.leg(NEAR, LegInput::Offered(sdp()));
        bench.run_media(NEAR);
        bench.run_media(FAR);
        let out = bench.leg(FAR, LegInput::Progressed { status: 183, body: sdp() });
        assert_eq!(peer(&out, FAR), at(4_000));
        let out = bench.leg(FAR, LegInput::Reoffered(moved()));
        let is_answer =
            |output: &Output| matches!(output, Output::Leg(FAR, LegOutput::AnswerReoffer(_)));
        assert!(out.iter().any(is_answer), "{out:?}");
        assert_eq!((peer(&out, FAR), bench.call.path), (at(5_000), AudioPath::Early(FAR)));
        if heard.is_some() {
            bench.leg(FAR, LegInput::Progressed { status: 183, body: heard });
        }
        let out = bench.leg(FAR, LegInput::Answered(answer));
        assert_eq!(peer(&out, FAR), at(port));
        // It was told this codec; the first of its offer is another.
        let codec = out.iter().find_map(|output| match output {
            Output::Media(FAR, MediaOutput::Update(plan)) => Some(plan.codec),
            _ => None,
        });
        assert_eq!(codec, Some(Codec::Pcmu));
    }
}

#[test]
fn a_party_that_is_not_heard_before_it_answers_may_offer_anew_all_the_same() {
    let mut bench = Bench::new(|setup| {
        let mut request = request();
        let early_media = EarlyMedia::Ringback;
        request.terms.progress = Progress { early_media, ringback: true };
        setup.partner = Partner::Forward(Box::new(request));
    });
    bench.leg(NEAR, LegInput::Offered(sdp()));
    bench.run_media(NEAR);
    bench.run_media(FAR);
    bench.leg(FAR, LegInput::Progressed { status: 183, body: sdp() });
    let moved = Bytes::from(OFFER.replace("4000", "5000"));
    let out = bench.leg(FAR, LegInput::Reoffered(Some(moved.clone())));
    assert!(matches!(out.as_slice(), [Output::Leg(FAR, LegOutput::AnswerReoffer(_))]), "{out:?}");
    let bad = Bytes::from(OFFER.replace("RTP/AVP 0 101", "RTP/AVP 18"));
    let out = bench.leg(FAR, LegInput::Reoffered(Some(bad)));
    let refusal = LegOutput::RefuseReoffer(HangupCause::NoCommonCodec);
    assert_eq!(out.first(), Some(&Output::Leg(FAR, refusal)));
    let out = bench.leg(FAR, LegInput::Answered(Some(moved)));
    assert_eq!(peer(&out, FAR).as_deref(), Some("192.0.2.1:5000"));
}

#[test]
fn a_caller_that_offers_anew_before_the_answer_is_heard_where_it_is_by_then() {
    let mut bench = Bench::new(|setup| {
        setup.progress = InboundProgress::EarlyMedia;
        setup.answer_delay = Duration::from_secs(2);
    });
    let moved = || LegInput::Reoffered(Some(OFFER.replace("4000", "5000").into()));
    bench.leg(NEAR, LegInput::Offered(sdp()));
    // Nothing was said to its first offer yet.
    let out = bench.leg(NEAR, moved());
    let refusal = LegOutput::RefuseReoffer(HangupCause::BadSdp);
    assert_eq!(out.first(), Some(&Output::Leg(NEAR, refusal)));
    bench.run_media(NEAR);
    let out = bench.leg(NEAR, moved());
    let told = answer_body(&out);
    assert!(told.is_some(), "{out:?}");
    assert_eq!(peer(&out, NEAR).as_deref(), Some("192.0.2.1:5000"));
    bench.give(Input::Agent(AgentInput::Ready));
    let out = bench.wait();
    assert_eq!(answer_body(&out), told, "the answer repeats what was said early");
    assert_eq!(peer(&out, NEAR).as_deref(), Some("192.0.2.1:5000"));
}

/// A call of two legs, of which the other end is told of keys in this way.
fn with_keys(keys: KeyWay) -> Bench {
    let mut bench = Bench::new(|setup| {
        let mut request = request();
        request.terms.keys = keys;
        setup.partner = Partner::Forward(Box::new(request));
    });
    bench.leg(NEAR, LegInput::Offered(sdp()));
    bench.run_media(NEAR);
    bench.run_media(FAR);
    bench.leg(FAR, LegInput::Answered(sdp()));
    bench.leg(NEAR, LegInput::Acknowledged(None));
    bench
}

/// What a leg is told of a key.
fn key_told(out: &[Output], side: LegSide) -> Option<Output> {
    let is_key = |output: &&Output| match output {
        Output::Leg(to, LegOutput::SendKey { .. })
        | Output::Media(to, MediaOutput::SendDigit(_)) => *to == side,
        _ => false,
    };
    out.iter().find(is_key).cloned()
}

#[test]
fn a_key_reaches_the_other_end_once_and_in_the_way_of_its_trunk() {
    let by_signalling = |digit| Output::Leg(FAR, LegOutput::SendKey { digit, duration_ms: 160 });
    let mut bench = with_keys(KeyWay::Signalling { duration_ms: 160 });
    let out = bench.keyed(NEAR, '3');
    assert_eq!(key_told(&out, FAR), Some(by_signalling('3')));
    let out = bench.give(Input::Media(NEAR, MediaInput::Digit('4')));
    assert_eq!(key_told(&out, FAR), Some(by_signalling('4')));
    // From now on the media carry the caller's keys, and what INFO tells is the same key again.
    assert_eq!(key_told(&bench.leg(NEAR, LegInput::Digit('4')), FAR), None);
    let out = bench.give(Input::Media(FAR, MediaInput::Digit('5')));
    assert_eq!(key_told(&out, NEAR), None, "the media of the near leg do it");

    let mut bench = with_keys(KeyWay::Media);
    let out = bench.keyed(NEAR, '3');
    assert_eq!(key_told(&out, FAR), Some(Output::Media(FAR, MediaOutput::SendDigit('3'))));
    let out = bench.give(Input::Media(NEAR, MediaInput::Digit('4')));
    assert_eq!(key_told(&out, FAR), None, "the bridge does it");
}
