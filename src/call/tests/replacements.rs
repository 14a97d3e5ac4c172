//! Dialogs that take a leg over from another, and give that up at the wrong moment, in virtual time.

use super::legs::hangs_up;
use super::legs::peer;
use super::*;
use crate::call::input::AudioPath;
use crate::call::input::Successor;
use crate::types::random::Random;
use crate::types::srtp::SRTP_KEY_BYTES_MAX;
use crate::types::srtp::SrtpKey;
use crate::types::srtp::SrtpPolicy;
use crate::types::srtp::SrtpSuite;

const NEAR: LegSide = LegSide::Near;

fn at_port(port: u16) -> Option<Bytes> {
    Some(OFFER.replace("4000", &port.to_string()).into())
}

fn of(turn: u8, input: LegInput) -> Input {
    Input::LegOf { side: NEAR, turn, input }
}

fn by(offer: Option<Bytes>, place: Option<Place>) -> LegInput {
    LegInput::Replaced(Box::new(Successor { offer, place, srtp: None }))
}

fn bye() -> LegInput {
    LegInput::Ended { cause: HangupCause::Normal, by: Party::Caller }
}

fn talking() -> Bench {
    let mut bench = Bench::new(|_| ());
    bench.talk();
    bench
}

/// Which dialog was answered in place of the one before.
fn answered(out: &[Output]) -> Option<u8> {
    out.iter().find_map(|output| match output {
        Output::Leg(NEAR, LegOutput::AnswerReplacement { turn, .. }) => Some(*turn),
        _ => None,
    })
}

#[test]
fn a_replacement_that_is_cancelled_while_it_is_answered_leaves_the_leg_as_it_was() {
    let mut bench = talking();
    let out = bench.give(Input::Leg(NEAR, by(at_port(6_000), None)));
    assert_eq!(answered(&out), Some(1));
    assert_eq!(peer(&out, NEAR).as_deref(), Some("192.0.2.1:6000"));
    let out = bench.give(Input::Leg(NEAR, LegInput::ReplacementLost));
    assert_eq!(peer(&out, NEAR).as_deref(), Some("192.0.2.1:4000"), "its media come back");
    assert_eq!((hangs_up(&out, NEAR), bench.call.path), (None, AudioPath::Agent(NEAR)));
    // The leg before does all it did: it holds us, and hangs up.
    let held = OFFER.replace("0 101", "0 101\r\na=sendonly");
    let out = bench.give(of(0, LegInput::Reoffered(Some(held.into()))));
    assert!(answer_body(&out).is_some(), "{out:?}");
    bench.give(of(0, bye()));
    assert_eq!(bench.close().0, HangupCause::Normal);
}

#[test]
fn a_replacement_that_comes_another_way_is_told_where_its_media_are() {
    let told = |out: &[Output]| {
        let body = out.iter().find_map(|output| match output {
            Output::Leg(
                NEAR,
                LegOutput::AnswerReplacement { body, .. } | LegOutput::AnswerReoffer(body),
            ) => Some(body.clone()),
            _ => None,
        });
        String::from_utf8(body.unwrap().to_vec()).unwrap()
    };
    let place =
        Place { address: "198.51.100.7".parse().unwrap(), rtp_port: 7_000, rtcp_port: 7_001 };
    let mut bench = talking();
    let useless = Some(Bytes::from_static(b"garbage"));
    bench.give(Input::Leg(NEAR, by(useless, Some(place))));
    let again = bench.give(of(0, LegInput::Reoffered(at_port(4_000))));
    assert!(!told(&again).contains("198.51.100.7"), "a refused one changes nothing");
    let out = bench.give(Input::Leg(NEAR, by(at_port(6_000), Some(place))));
    assert!(told(&out).contains("c=IN IP4 198.51.100.7\r\n"), "{out:?}");
    assert!(told(&out).contains("m=audio 7000 "), "{out:?}");
    bench.give(Input::Leg(NEAR, LegInput::ReplacementLost));
    let again = bench.give(of(0, LegInput::Reoffered(at_port(4_000))));
    assert!(!told(&again).contains("198.51.100.7"), "nor does one that is lost");
}

fn secure(port: u16) -> Option<Bytes> {
    let offer = OFFER.replace("4000", &port.to_string()).replace("RTP/AVP", "RTP/SAVP");
    let key = "d3d3".repeat(10);
    Some(format!("{offer}a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:{key}\r\n").into())
}

fn key(seed: u8) -> SrtpKey {
    SrtpKey::generate(SrtpSuite::AesCm128HmacSha1_80, &[seed; SRTP_KEY_BYTES_MAX])
}

fn protected(seed: u8) -> (SrtpTerms, SrtpTerms) {
    let terms = SrtpTerms { policy: SrtpPolicy::Optional, keys: vec![key(seed)], exposed: false };
    (terms.clone(), terms)
}

/// What our media are encrypted with from now on.
fn our_key(out: &[Output]) -> Option<SrtpKey> {
    out.iter().find_map(|output| match output {
        Output::Media(NEAR, MediaOutput::Update(plan)) => {
            plan.crypto.as_ref().map(|keys| keys.send.clone())
        }
        _ => None,
    })
}

#[test]
fn a_replacement_is_sent_media_under_a_key_of_its_own() {
    let (answers, offers) = protected(1);
    let mut bench = Bench::new(|setup| {
        let capabilities = Capabilities { srtp: answers, ..terms().capabilities };
        let terms = LegTerms { capabilities, srtp_offered: offers, ..terms() };
        setup.opening = Opening::Inbound(terms);
    });
    bench.give(Input::Leg(NEAR, LegInput::Offered(secure(4_000))));
    bench.open();
    let out = bench.give(Input::Agent(AgentInput::Ready));
    assert_eq!(our_key(&out), Some(key(1)));
    bench.give(Input::Leg(NEAR, LegInput::Acknowledged(None)));
    let by = |offer, seed| {
        let srtp = Some(protected(seed));
        Input::Leg(NEAR, LegInput::Replaced(Box::new(Successor { offer, place: None, srtp })))
    };
    bench.give(by(Some(Bytes::from_static(b"garbage")), 2));
    let out = bench.give(of(0, LegInput::Reoffered(secure(4_000))));
    assert_eq!(our_key(&out), Some(key(1)), "a refused one changes nothing");
    let out = bench.give(by(secure(6_000), 3));
    assert_eq!((answered(&out), our_key(&out)), (Some(1), Some(key(3))));
    let out = bench.give(Input::Leg(NEAR, LegInput::ReplacementLost));
    assert_eq!(our_key(&out), Some(key(1)), "nor does one that is lost");
    // One to which the offer is ours.
    bench.give(by(None, 4));
    let out = bench.give(of(2, LegInput::Acknowledged(secure(6_002))));
    assert_eq!(our_key(&out), Some(key(4)));
}

#[test]
fn what_still_comes_of_the_dialog_before_changes_nothing() {
    let mut bench = talking();
    bench.give(Input::Leg(NEAR, by(at_port(6_000), None)));
    for late in [bye(), LegInput::Digit('5'), LegInput::Reoffered(at_port(4_002))] {
        assert_eq!(bench.give(of(0, late.clone())), [], "{late:?}");
    }
    bench.give(of(1, LegInput::Acknowledged(None)));
    assert!(!bench.call.is_over());
    bench.give(of(1, bye()));
    assert_eq!(bench.close().1, Party::Caller);
}

#[test]
fn a_device_that_takes_a_leg_over_may_tell_its_keys_by_signalling_alone() {
    let mut bench = talking();
    bench.give(Input::Media(NEAR, MediaInput::Digit('1')));
    assert_eq!(bench.keyed(NEAR, '2'), []);
    bench.give(Input::Leg(NEAR, by(at_port(6_000), None)));
    bench.give(of(1, LegInput::Acknowledged(None)));
    let out = bench.keyed(NEAR, '3');
    assert!(out.contains(&Output::Agent(AgentOutput::TellDigit('3'))), "{out:?}");
}

/// Dialogs of one leg as the network sees them: the present one, and one that would take over.
struct Legs {
    present: u8,
    hung_up: bool,
}

#[test]
fn cancel_answer_and_hang_up_of_replacements_race_a_thousand_times_without_ending_a_call_wrongly() {
    let (mut taken, mut lost, mut ended) = (0, 0, 0);
    for seed in 0..1_000 {
        let mut random = Random::from_seed(seed);
        let mut dice = |sides: u8| {
            let mut byte = [0];
            random.fill(&mut byte);
            byte[0] % sides
        };
        let mut bench = talking();
        let mut legs = Legs { present: 0, hung_up: false };
        let mut port = 4_000;
        for step in 1..=u16::from(2 + dice(6)) {
            // What the dialog before says may still wait behind the new one.
            let late = (dice(3) == 0).then(|| of(legs.present, bye()));
            let new_port = 6_000 + 2 * step;
            let out = bench.give(Input::Leg(NEAR, by(at_port(new_port), None)));
            let turn = answered(&out).expect("an answered leg can be taken over");
            assert_ne!(turn, legs.present, "{seed}");
            if dice(2) == 0 {
                // CANCEL was there first: told before all that waits.
                lost += 1;
                let out = bench.give(Input::Leg(NEAR, LegInput::ReplacementLost));
                let expected = format!("192.0.2.1:{port}");
                assert_eq!(peer(&out, NEAR), Some(expected), "{seed}");
                legs.hung_up = late.is_some();
                if let Some(late) = late {
                    bench.give(late);
                    break;
                }
            } else {
                // The answer was: the dialog before is let go, and what it said is nobody's.
                taken += 1;
                (legs.present, port) = (turn, new_port);
                if let Some(late) = late {
                    assert_eq!(bench.give(late), [], "{seed}");
                }
                if dice(2) == 0 {
                    bench.give(of(turn, LegInput::Acknowledged(None)));
                }
                if dice(4) == 0 {
                    // A CANCEL that crossed the answer: acknowledged and hung up.
                    bench.give(of(turn, bye()));
                    legs.hung_up = true;
                    break;
                }
            }
            assert!(bench.call.near.is_answered(), "{seed}: ended without its peer");
            assert_eq!(bench.call.path, AudioPath::Agent(NEAR), "{seed}");
        }
        assert_eq!(bench.call.near.is_gone(), legs.hung_up, "{seed}");
        ended += u32::from(legs.hung_up);
        let cause = HangupCause::Draining;
        let out = bench.give(Input::HangupRequested { cause, by: Party::Switch });
        assert_eq!(hangs_up(&out, NEAR).is_some(), !legs.hung_up, "{seed}");
        bench.close();
    }
    assert!(taken > 300 && lost > 300 && ended > 100, "{taken} {lost} {ended}");
}
