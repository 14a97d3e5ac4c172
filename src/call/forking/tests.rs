//! Several parties for one leg: who gets it, what the others are told, and by which terms.

use super::*;
use crate::call::tests::terms;
use crate::types::srtp::SrtpPolicy;

const NORMAL: LegOutput = LegOutput::HangUp(HangupCause::Normal);
const ELSEWHERE: LegOutput = LegOutput::HangUp(HangupCause::AnsweredElsewhere);

fn body(text: &'static str) -> Option<Bytes> {
    Some(Bytes::from_static(text.as_bytes()))
}

fn answered(text: &'static str) -> LegInput {
    LegInput::Answered(body(text))
}

const fn failed(cause: HangupCause, status: u16) -> LegInput {
    LegInput::DialFailed { cause, status: Some(status) }
}

const fn rings(status: u16, body: Option<Bytes>) -> LegInput {
    LegInput::Progressed { status, body }
}

struct Lab(Forking);

impl Lab {
    /// As many parties as there are ways, each of which was offered something by its own.
    fn ringing(ways: &[WayId]) -> Self {
        let mut lab = Self(Forking::new(ways.len()));
        for (branch, way) in ways.iter().enumerate() {
            let out = lab.put(Input::OfferWanted(branch, *way, Box::new(terms())));
            if out.iter().any(|output| matches!(output, Output::WantOffer(..))) {
                lab.put(Input::Told(LegOutput::Offer(body("offer"))));
            }
        }
        lab
    }

    fn put(&mut self, input: Input) -> Vec<Output> {
        let mut out = Vec::new();
        self.0.handle(input, &mut out);
        out
    }

    fn hear(&mut self, branch: Branch, input: LegInput) -> Vec<Output> {
        self.put(Input::Heard(branch, input))
    }
}

#[test]
fn the_first_that_answers_has_the_leg_and_the_others_are_told_so() {
    let mut lab = Lab::ringing(&[0, 0, 0]);
    assert_eq!(lab.hear(2, failed(HangupCause::Busy, 486)), []);
    let out = lab.hear(1, answered("a"));
    assert_eq!(out, [Output::ToParty(0, ELSEWHERE), Output::ToCall(answered("a"))]);
    assert_eq!(lab.0.taken_by(), Some(1));
    // One that answers while it is let go of changes nothing, nor does its end.
    assert_eq!(lab.hear(0, answered("late")), []);
    let by = Party::Far;
    assert_eq!(lab.hear(0, LegInput::Ended { cause: HangupCause::Normal, by }), []);
    assert_eq!(lab.put(Input::Gone(0)), []);
    // What follows is between the call and the one.
    assert_eq!(lab.hear(1, LegInput::Digit('5')), [Output::ToCall(LegInput::Digit('5'))]);
    let acknowledged = LegOutput::Acknowledge(None);
    let out = lab.put(Input::Told(acknowledged.clone()));
    assert_eq!(out, [Output::ToParty(1, acknowledged)]);
    assert_eq!(lab.put(Input::Told(NORMAL)), [Output::ToParty(1, NORMAL)]);
    let ended = LegInput::Ended { cause: HangupCause::Normal, by };
    assert_eq!(lab.hear(1, ended.clone()), [Output::ToCall(ended)]);
    assert_eq!(lab.put(Input::Gone(1)), [], "the leg ended once");
}

#[test]
fn who_talks_and_vanishes_without_a_word_ends_the_leg() {
    let mut lab = Lab::ringing(&[0, 0]);
    lab.hear(0, answered("a"));
    let (cause, by) = (HangupCause::SwitchFault, Party::Switch);
    let ended = LegInput::Ended { cause, by };
    assert_eq!(lab.put(Input::Gone(0)), [Output::ToCall(ended)]);
}

#[test]
fn the_leg_fails_once_all_did_for_the_reason_nearest_to_a_conversation() {
    use HangupCause as Cause;
    for (causes, expected) in [
        ([(Cause::CarrierTimeout, 408), (Cause::Busy, 486)], (Cause::Busy, 486)),
        ([(Cause::NoAnswer, 480), (Cause::Busy, 486)], (Cause::NoAnswer, 480)),
        ([(Cause::Busy, 486), (Cause::Rejected, 603)], (Cause::Busy, 486)),
        ([(Cause::NoGateway, 503), (Cause::UnknownNumber, 404)], (Cause::NoGateway, 503)),
    ] {
        let mut lab = Lab::ringing(&[0, 0]);
        let [(first, one), (second, two)] = causes;
        assert_eq!(lab.hear(1, failed(first, one)), []);
        assert_eq!(lab.hear(1, failed(first, one)), [], "it failed once");
        let out = lab.hear(0, failed(second, two));
        assert_eq!(out, [Output::ToCall(failed(expected.0, expected.1))]);
        assert_eq!(lab.put(Input::Gone(0)), []);
    }
    let mut lab = Lab::ringing(&[0, 0]);
    lab.put(Input::Gone(0));
    let out = lab.put(Input::Gone(1));
    let fault = LegInput::DialFailed { cause: Cause::SwitchFault, status: None };
    assert_eq!(out, [Output::ToCall(fault)], "a party whose task vanished has failed");
}

#[test]
fn a_leg_that_nobody_wants_any_more_is_let_go_of_by_all() {
    let mut lab = Lab::ringing(&[0, 0, 0]);
    lab.hear(0, failed(HangupCause::Busy, 486));
    let out = lab.put(Input::Told(LegOutput::HangUp(HangupCause::NoAnswer)));
    let gone = LegOutput::HangUp(HangupCause::NoAnswer);
    assert_eq!(out, [Output::ToParty(1, gone.clone()), Output::ToParty(2, gone)]);
    assert_eq!(lab.hear(1, answered("late")), []);
    assert_eq!(lab.put(Input::Told(NORMAL)), []);
}

#[test]
fn somebody_rings_whoever_it_is_and_nobody_is_heard_before_an_answer() {
    let mut lab = Lab::ringing(&[0, 0]);
    assert_eq!(lab.hear(0, rings(183, None)), [Output::ToCall(rings(183, None))]);
    assert_eq!(lab.hear(1, rings(183, None)), [], "once is enough");
    assert_eq!(lab.hear(1, rings(183, body("early"))), [Output::ToCall(rings(180, None))]);
    assert_eq!(lab.hear(0, rings(180, None)), []);
    assert_eq!(lab.hear(0, rings(183, None)), [], "it rings on");
    let out = lab.hear(1, answered("own"));
    assert_eq!(out.last(), Some(&Output::ToCall(answered("own"))));
}

#[test]
fn each_is_offered_what_its_terms_allow_and_judged_by_them() {
    let mut lab = Lab(Forking::new(3));
    let own = Box::new(LegTerms { session_id: 1, ..terms() });
    let other = Box::new(LegTerms { session_id: 2, ..terms() });
    let out = lab.put(Input::OfferWanted(0, 1, own.clone()));
    assert_eq!(out, [Output::WantOffer(1, own.clone())]);
    // While the call makes one it is asked for no other.
    assert_eq!(lab.put(Input::OfferWanted(1, 2, other.clone())), []);
    assert_eq!(lab.put(Input::OfferWanted(2, 1, own.clone())), []);
    let first = LegOutput::Offer(body("first"));
    let out = lab.put(Input::Told(first.clone()));
    let told = [0, 2].map(|branch| Output::ToParty(branch, first.clone()));
    assert_eq!(out[..2], told, "both go by the same trunk");
    assert_eq!(out[2..], [Output::WantOffer(2, other)]);
    let second = LegOutput::Offer(body("second"));
    assert_eq!(lab.put(Input::Told(second.clone())), [Output::ToParty(1, second)]);
    // One that goes on by a trunk that is known needs nothing of the call.
    let again = lab.put(Input::OfferWanted(2, 2, Box::new(terms())));
    assert_eq!(again, [Output::ToParty(2, LegOutput::Offer(body("second")))]);
    // The call had turned to the second trunk's terms; the answer is to the first's.
    let out = lab.hear(0, answered("a"));
    let expected = [
        Output::ToParty(1, ELSEWHERE),
        Output::ToParty(2, ELSEWHERE),
        Output::WantOffer(1, own),
        Output::ToCall(answered("a")),
    ];
    assert_eq!(out, expected);
    assert_eq!(lab.put(Input::Told(first)), [], "it has that offer");
}

#[test]
fn the_caller_hears_ringing_on_while_another_is_called_by_another_trunk() {
    let mut lab = Lab::ringing(&[1, 1]);
    assert_eq!(lab.hear(0, rings(180, None)), [Output::ToCall(rings(180, None))]);
    lab.put(Input::OfferWanted(1, 2, Box::new(terms())));
    let offer = LegOutput::Offer(body("second"));
    let out = lab.put(Input::Told(offer.clone()));
    assert_eq!(out, [Output::ToParty(1, offer), Output::ToCall(rings(180, None))]);
}

#[test]
fn the_call_hears_by_which_of_several_ways_the_answer_came() {
    for (ways, expected) in [([1, 2], Some(2)), ([1, 1], None)] {
        let mut lab = Lab::ringing(&ways);
        let out = lab.hear(1, answered("a"));
        let way = out.iter().find_map(|output| match output {
            Output::WantOffer(way, _) => Some(*way),
            Output::ToCall(_) | Output::ToParty(..) => None,
        });
        assert_eq!(way, expected, "{ways:?}: {out:?}");
        assert_eq!(out.last(), Some(&Output::ToCall(answered("a"))), "{ways:?}");
    }
}

#[test]
fn whose_way_has_no_place_for_media_is_told_so_and_the_others_ring_on() {
    let mut lab = Lab(Forking::new(4));
    lab.put(Input::OfferWanted(0, 1, Box::new(terms())));
    lab.put(Input::OfferWanted(1, 2, Box::new(terms())));
    lab.put(Input::OfferWanted(2, 2, Box::new(terms())));
    lab.put(Input::Told(LegOutput::Offer(body("first"))));
    let refused = LegOutput::NotOffered(HangupCause::NoPorts);
    let out = lab.put(Input::Told(refused.clone()));
    assert_eq!(out, [1, 2].map(|branch| Output::ToParty(branch, refused.clone())));
    // Who asks for that way later hears the same at once.
    let out = lab.put(Input::OfferWanted(3, 2, Box::new(terms())));
    assert_eq!(out, [Output::ToParty(3, refused)]);
    for branch in [1, 2, 3] {
        assert_eq!(lab.hear(branch, failed(HangupCause::NoPorts, 503)), []);
    }
    let out = lab.hear(0, answered("a"));
    assert_eq!(out.last(), Some(&Output::ToCall(answered("a"))));
}

#[test]
fn parties_of_one_way_have_each_an_offer_with_keys_of_their_own() {
    let mut lab = Lab(Forking::new(2));
    let keyed = |session_id| {
        let mut own = LegTerms { session_id, ..terms() };
        own.srtp_offered.policy = SrtpPolicy::Optional;
        assert!(own.brings_keys());
        Box::new(own)
    };
    let (first, second) = (LegOutput::Offer(body("a")), LegOutput::Offer(body("b")));
    let out = lab.put(Input::OfferWanted(0, 1, keyed(1)));
    assert_eq!(out, [Output::WantOffer(1, keyed(1))]);
    assert_eq!(lab.put(Input::OfferWanted(1, 1, keyed(2))), []);
    let out = lab.put(Input::Told(first.clone()));
    assert_eq!(out, [Output::ToParty(0, first), Output::WantOffer(1, keyed(2))]);
    assert_eq!(lab.put(Input::Told(second.clone())), [Output::ToParty(1, second)]);
    // At the next gateway of that way the first has others again.
    let out = lab.put(Input::OfferWanted(0, 1, keyed(3)));
    assert_eq!(out, [Output::WantOffer(1, keyed(3))]);
    lab.put(Input::Told(LegOutput::Offer(body("c"))));
    // Its media run by the keys that whoever answers was told.
    let out = lab.hear(1, answered("x"));
    let expected = [
        Output::ToParty(0, ELSEWHERE),
        Output::WantOffer(1, keyed(2)),
        Output::ToCall(answered("x")),
    ];
    assert_eq!(out, expected);
}

#[test]
fn who_may_be_offered_nothing_by_its_trunk_is_told_so_and_tries_the_next() {
    let mut lab = Lab(Forking::new(2));
    let mut keyless = terms();
    keyless.srtp_offered.policy = SrtpPolicy::Required;
    keyless.srtp_offered.exposed = true;
    assert!(keyless.lacks_keys());
    let out = lab.put(Input::OfferWanted(0, 1, Box::new(keyless)));
    let refused = LegOutput::NotOffered(HangupCause::SrtpMismatch);
    assert_eq!(out, [Output::ToParty(0, refused)]);
    let out = lab.put(Input::OfferWanted(0, 2, Box::new(terms())));
    assert!(matches!(&out[..], [Output::WantOffer(2, _)]), "{out:?}");
    lab.put(Input::Told(LegOutput::Offer(body("first"))));
    let out = lab.put(Input::OfferWanted(1, 0, Box::new(terms())));
    assert!(matches!(&out[..], [Output::WantOffer(0, _)]), "{out:?}");
}

#[test]
fn who_offers_anew_while_several_ring_is_refused_that() {
    let newer = || LegInput::Reoffered(body("newer"));
    let mut lab = Lab::ringing(&[0, 0]);
    let refused = LegOutput::RefuseReoffer(HangupCause::BadSdp);
    assert_eq!(lab.hear(0, newer()), [Output::ToParty(0, refused)]);
    lab.hear(1, failed(HangupCause::Busy, 486));
    assert_eq!(lab.hear(1, newer()), [], "it is not there any more");
    lab.hear(0, answered("a"));
    assert_eq!(lab.hear(0, newer()), [Output::ToCall(newer())]);
}
