//! Offers of a called party that come before its answer, in virtual time: which of them holds.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a failed check may panic")]

mod support;

use std::time::Duration;
use support::SDP;
use support::script::CALLED;
use support::script::Script;
use support::script::answer;
use support::script::hangup;
use support::script::outbound;
use support::solo::Sent;
use support::solo::Solo;
use support::solo::kinds;
use tandem::sip::endpoint::event::Command;
use tandem::sip::endpoint::event::DialogId;
use tandem::sip::endpoint::event::Event;
use tandem::sip::endpoint::outbound::OutboundInvite;

/// How a party describes itself that moved.
fn moved() -> String {
    SDP.replace("4000", "4002")
}

/// A call of ours whose party answered our offer reliably and early, and an UPDATE of that party's with an offer.
fn settled_early(solo: &mut Solo) -> (DialogId, Sent, Script) {
    let ringing_max = Duration::from_secs(30);
    let dialog = solo.invite(OutboundInvite { ringing_max, ..outbound(solo.flow) });
    let invite = solo.take_one();
    let lines = format!("{CALLED}Require: 100rel\r\nRSeq: 1\r\n");
    solo.receive(&answer(&invite, 183, Some("callee"), &lines, SDP));
    let prack = solo.take_one();
    solo.receive(&answer(&prack, 200, None, "", ""));
    solo.take_events();
    let tag = invite.request().headers.from().tag().unwrap().to_vec();
    let mut update = Script::new("UPDATE", "x");
    update.call_id = invite.header("Call-ID").remove(0);
    update.from_tag = "callee".to_owned();
    update.to_tag = Some(String::from_utf8(tag).unwrap());
    (dialog, invite, update.body("application/sdp", &moved()))
}

#[test]
fn an_offer_before_the_answer_holds_and_no_response_to_the_invite_takes_it_back() {
    let mut solo = Solo::new();
    let (dialog, invite, update) = settled_early(&mut solo);
    solo.receive(&update.text());
    assert_eq!(kinds(&solo.take_events()), ["reinvited"]);
    let ours = SDP.replace("192.0.2.9", "192.0.2.7");
    solo.command(Command::AnswerReinvite { dialog, body: ours.clone().into() });
    assert_eq!(solo.take_kinds(), ["200"]);
    solo.receive(&answer(&invite, 183, Some("callee"), CALLED, SDP));
    let told = solo.take_events();
    assert!(matches!(told.as_slice(), [Event::Progressed { body: None, .. }]), "{told:?}");
    let lines = format!("{CALLED}Allow: INVITE\r\nSession-Expires: 600;refresher=uac\r\n");
    solo.receive(&answer(&invite, 200, Some("callee"), &lines, SDP));
    let told = solo.take_events();
    let [Event::Answered { body: Some(body), .. }] = told.as_slice() else { panic!("{told:?}") };
    assert_eq!(body.bytes, moved());
    solo.command(Command::Acknowledge { dialog, body: None });
    assert_eq!(solo.take_kinds(), ["ACK"]);
    // Nor does a refresh of ours.
    solo.advance(Duration::from_secs(300));
    let refresh = solo.take_one();
    assert_eq!((refresh.kind(), refresh.request().body), ("INVITE".to_owned(), ours.into()));
}

#[test]
fn another_party_than_that_which_offered_anew_answers_for_itself() {
    let mut solo = Solo::new();
    let (dialog, invite, update) = settled_early(&mut solo);
    solo.receive(&update.text());
    solo.command(Command::AnswerReinvite { dialog, body: SDP.into() });
    solo.take_events();
    let other = SDP.replace("4000", "4004");
    solo.receive(&answer(&invite, 200, Some("other"), CALLED, &other));
    let told = solo.take_events();
    let [Event::Answered { body: Some(body), .. }] = told.as_slice() else { panic!("{told:?}") };
    assert_eq!(body.bytes, other);
}

#[test]
fn an_offer_that_the_answer_crosses_is_to_come_again_and_stands_in_the_way_of_nothing() {
    let mut solo = Solo::new();
    let (dialog, invite, update) = settled_early(&mut solo);
    solo.receive(&update.text());
    solo.receive(&answer(&invite, 200, Some("callee"), CALLED, SDP));
    let put_off = solo.take_one();
    assert_eq!((put_off.kind(), put_off.header("Retry-After").len()), ("500".to_owned(), 1));
    assert_eq!(kinds(&solo.take_events()), ["reinvited", "answered"]);
    solo.command(Command::Acknowledge { dialog, body: None });
    assert_eq!(solo.take_kinds(), ["ACK"]);
    // What the call says to it comes too late.
    solo.command(Command::AnswerReinvite { dialog, body: SDP.into() });
    assert_eq!(solo.take_kinds().len(), 0);
    let again = Script { cseq: 2, ..update.branch("z9hG4bK-again") };
    solo.receive(&again.text());
    assert_eq!(kinds(&solo.take_events()), ["reinvited"]);
    solo.command(Command::AnswerReinvite { dialog, body: SDP.into() });
    assert_eq!(solo.take_kinds(), ["200"]);
    solo.command(Command::Reinvite { dialog, body: SDP.into() });
    assert_eq!(solo.take_kinds(), ["INVITE"]);
}

#[test]
fn an_offer_to_a_call_that_is_let_go_of_is_refused_at_once() {
    for is_hung_up in [true, false] {
        let mut solo = Solo::new();
        let (dialog, _, update) = settled_early(&mut solo);
        solo.receive(&update.text());
        if is_hung_up {
            hangup(&mut solo, dialog);
        } else {
            solo.advance(Duration::from_secs(30));
        }
        assert_eq!(solo.take_kinds(), ["487", "CANCEL"]);
        let late = Script { cseq: 2, ..update.branch("z9hG4bK-late") };
        solo.receive(&late.text());
        assert_eq!(solo.take_kinds(), ["481"]);
        assert_eq!(kinds(&solo.take_events()), ["reinvited"]);
    }
}
