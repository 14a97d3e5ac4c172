//! An endpoint that a fault of ours ended, and the one in its place: what their peers hear, in virtual time.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a failed check may panic")]

mod support;

use std::time::Duration;
use support::SDP;
use support::script::CALLED;
use support::script::Script;
use support::script::answer;
use support::script::connected;
use support::script::established;
use support::script::outbound;
use support::script::outbound_with_credentials;
use support::script::to_tag;
use support::solo::Sent;
use support::solo::Solo;
use support::solo::kinds;
use tandem::sip::endpoint::event::Command;
use tandem::sip::endpoint::event::DialogId;
use tandem::sip::endpoint::event::Event;
use tandem::sip::endpoint::event::Input;
use tandem::types::transport::Transport;

const CHALLENGE: &str =
    "Proxy-Authenticate: Digest realm=\"r\", nonce=\"n2\", qop=\"auth\", algorithm=SHA-256\r\n";

/// Longer than anything that is left of a call stays.
const LONG: Duration = Duration::from_secs(100);

/// The peer's call, which was answered just now, with our 2xx.
fn answered(solo: &mut Solo, invite: &Script) -> (DialogId, Sent) {
    solo.receive(&invite.text());
    let dialog = solo.take_invited();
    solo.take_sent();
    solo.command(Command::Accept { dialog, body: SDP.into() });
    let ok = solo.take_one();
    assert_eq!(ok.kind(), "200");
    (dialog, ok)
}

#[test]
fn a_callee_that_had_said_nothing_is_cancelled_once_it_does() {
    let mut solo = Solo::new();
    solo.invite(outbound(solo.flow));
    let invite = solo.take_one();
    solo.end_life();
    solo.advance_ms(5_000);
    assert_eq!(solo.take_kinds().len(), 0, "nobody shall begin to ring by it");
    solo.receive(&answer(&invite, 100, None, "", ""));
    let cancel = solo.take_one();
    assert_eq!(
        (cancel.kind().as_str(), cancel.header("CSeq")),
        ("CANCEL", vec!["1 CANCEL".to_owned()])
    );
    assert_eq!(cancel.request().uri.as_bytes(), invite.request().uri.as_bytes());
    assert_eq!(cancel.header("Reason"), ["Q.850;cause=41;text=\"switch_fault\""]);
    solo.receive(&answer(&invite, 180, Some("callee"), CALLED, ""));
    assert_eq!(solo.take_kinds().len(), 0, "once");
    solo.receive(&answer(&cancel, 200, Some("callee"), "", ""));
    solo.receive(&answer(&invite, 487, Some("callee"), "", ""));
    assert_eq!(solo.take_kinds(), ["ACK"]);
    solo.advance(LONG);
    assert_eq!((solo.take_kinds().len(), solo.take_events().len()), (0, 0));
    solo.assert_empty();
}

#[test]
fn a_callee_that_never_says_anything_is_forgotten() {
    let mut solo = Solo::new();
    solo.invite(outbound(solo.flow));
    solo.take_one();
    solo.advance_ms(10_000);
    solo.take_sent();
    solo.end_life();
    solo.advance_ms(22_000);
    assert_eq!((solo.take_kinds().len(), solo.take_events().len()), (0, 0));
    solo.assert_empty();
}

#[test]
fn a_callee_that_rings_on_in_the_next_life_is_forgotten_all_the_same() {
    for has_rung in [false, true] {
        let mut solo = Solo::new();
        solo.invite(outbound(solo.flow));
        let invite = solo.take_one();
        let rings = answer(&invite, 180, Some("callee"), CALLED, "");
        if has_rung {
            solo.receive(&rings);
            solo.take_events();
        }
        solo.end_life();
        solo.receive(&rings);
        let cancel = solo.take_one();
        assert_eq!(cancel.kind(), "CANCEL");
        solo.receive(&answer(&cancel, 200, Some("callee"), "", ""));
        solo.advance_ms(20_000);
        solo.receive(&rings);
        solo.advance_ms(13_000);
        assert_eq!((solo.take_kinds().len(), solo.take_events().len()), (0, 0));
        solo.assert_empty();
    }
}

#[test]
fn a_callee_that_answers_in_the_next_life_is_acknowledged_and_hung_up() {
    for has_rung in [false, true] {
        let mut solo = Solo::new();
        solo.invite(outbound(solo.flow));
        let invite = solo.take_one();
        if has_rung {
            solo.receive(&answer(&invite, 180, Some("callee"), CALLED, ""));
            solo.take_events();
        }
        solo.end_life();
        let expected: &[&str] = if has_rung { &["CANCEL"] } else { &[] };
        assert_eq!(solo.take_kinds(), expected);
        let ok = answer(&invite, 200, Some("callee"), CALLED, SDP);
        solo.receive(&ok);
        let sent = solo.take_sent();
        assert_eq!([sent[0].kind(), sent[1].kind()], ["ACK", "BYE"]);
        for message in &sent {
            assert_eq!(to_tag(message), "callee");
            assert_eq!(message.request().uri.as_bytes(), "sip:called@192.0.2.2:5060");
        }
        assert_eq!([sent[0].header("CSeq"), sent[1].header("CSeq")], [["1 ACK"], ["2 BYE"]]);
        assert_eq!(sent[1].header("Reason"), ["Q.850;cause=41;text=\"switch_fault\""]);
        solo.receive(&ok);
        assert_eq!(solo.take_one().bytes, sent[0].bytes, "its 2xx came again");
        solo.receive(&answer(&sent[1], 200, None, "", ""));
        assert_eq!(solo.take_events().len(), 0);
        solo.advance(LONG);
        solo.assert_empty();
    }
}

#[test]
fn who_answers_in_the_next_life_is_hung_up_with_credentials_where_they_are_wanted() {
    let mut solo = Solo::new();
    solo.invite(outbound_with_credentials(solo.flow));
    let first = solo.take_one();
    solo.receive(&answer(&first, 407, Some("p"), CHALLENGE, ""));
    let invite = solo.take_last();
    solo.end_life();
    solo.receive(&answer(&invite, 200, Some("callee"), CALLED, SDP));
    let sent = solo.take_sent();
    assert_eq!([sent[0].kind(), sent[1].kind()], ["ACK", "BYE"]);
    for message in &sent {
        let credentials = message.header("Proxy-Authorization").concat();
        assert!(credentials.contains("nonce=\"n2\""), "{}", message.text());
    }
    let stale = CHALLENGE.replace("\"n2\"", "\"n3\", stale=true");
    solo.receive(&answer(&sent[1], 407, None, &stale, ""));
    let again = solo.take_one();
    assert!(again.header("Proxy-Authorization").concat().contains("nonce=\"n3\""));
    assert_eq!(again.header("Reason"), ["Q.850;cause=41;text=\"switch_fault\""]);
    solo.advance(LONG);
    solo.assert_empty();
}

#[test]
fn a_bye_that_is_challenged_in_the_next_life_is_sent_with_credentials() {
    let mut solo = Solo::new();
    let dialog = solo.invite(outbound_with_credentials(solo.flow));
    let invite = solo.take_one();
    solo.receive(&answer(&invite, 200, Some("callee"), CALLED, SDP));
    solo.command(Command::Acknowledge { dialog, body: None });
    solo.take_sent();
    solo.take_events();
    solo.end_life();
    let bye = solo.take_one();
    assert_eq!(bye.kind(), "BYE");
    assert!(bye.header("Proxy-Authorization").is_empty(), "{}", bye.text());
    solo.receive(&answer(&bye, 407, None, CHALLENGE, ""));
    let again = solo.take_one();
    let stale = CHALLENGE.replace("\"n2\"", "\"n3\", stale=true");
    solo.receive(&answer(&again, 407, None, &stale, ""));
    let last = solo.take_one();
    for (bye, nonce, cseq) in [(&again, "n2", "3 BYE"), (&last, "n3", "4 BYE")] {
        let credentials = bye.header("Proxy-Authorization").concat();
        assert!(credentials.contains(&format!("nonce=\"{nonce}\"")), "{}", bye.text());
        assert_eq!(bye.header("CSeq"), [cseq]);
        assert_eq!(bye.header("Reason"), ["Q.850;cause=41;text=\"switch_fault\""]);
        assert_eq!(to_tag(bye), "callee");
    }
    // It is repeated in the life after that, too.
    solo.end_life();
    solo.advance_ms(600);
    assert_eq!(solo.take_one().bytes, last.bytes, "it was lost");
    solo.receive(&answer(&last, 200, None, "", ""));
    solo.advance(LONG);
    assert_eq!((solo.take_kinds().len(), solo.take_events().len()), (0, 0));
    solo.assert_empty();
}

#[test]
fn what_hangs_a_peer_up_is_repeated_in_the_next_life_until_it_is_answered() {
    for has_called in [false, true] {
        let mut solo = Solo::new();
        if has_called {
            established(&mut solo, &Script::invite("a"));
        } else {
            connected(&mut solo, CALLED);
        }
        solo.end_life();
        let bye = solo.take_one();
        assert_eq!(bye.kind(), "BYE");
        assert_eq!(bye.header("Reason"), ["Q.850;cause=41;text=\"switch_fault\""]);
        solo.advance_ms(600);
        assert_eq!(solo.take_one().bytes, bye.bytes, "it was lost");
        solo.receive(&answer(&bye, 200, None, "", ""));
        solo.advance(LONG);
        assert_eq!(solo.take_kinds().len(), 0);
        solo.assert_empty();
    }
    // So is a CANCEL.
    let mut solo = Solo::new();
    solo.invite(outbound(solo.flow));
    let invite = solo.take_one();
    solo.receive(&answer(&invite, 180, Some("callee"), CALLED, ""));
    solo.end_life();
    let cancel = solo.take_one();
    assert_eq!(cancel.kind(), "CANCEL");
    solo.advance_ms(600);
    assert_eq!(solo.take_one().bytes, cancel.bytes, "it was lost");
}

#[test]
fn a_caller_whose_ack_is_missing_is_hung_up_once_it_comes() {
    let mut solo = Solo::new();
    let invite = Script::invite("a");
    let start = solo.now;
    let (_, ok) = answered(&mut solo, &invite);
    solo.advance_ms(600);
    assert_eq!(solo.take_one().bytes, ok.bytes);
    solo.end_life();
    assert_eq!(solo.take_kinds().len(), 0, "no BYE before the ACK");
    solo.receive(&invite.text());
    assert_eq!((solo.take_kinds().len(), solo.take_events().len()), (0, 0), "no second call");
    solo.advance_ms(1_000);
    let again = solo.take_one();
    assert_eq!((&again.bytes, again.at.since(start).as_millis()), (&ok.bytes, 1_500));
    solo.receive(&invite.next("ACK", 1, &ok).text());
    let bye = solo.take_one();
    assert_eq!((bye.kind().as_str(), bye.header("CSeq")), ("BYE", vec!["1 BYE".to_owned()]));
    assert_eq!(bye.header("Reason"), ["Q.850;cause=41;text=\"switch_fault\""]);
    solo.receive(&answer(&bye, 200, None, "", ""));
    assert_eq!(kinds(&solo.take_events()), ["ended ByeAnswered"]);
    solo.advance(LONG);
    assert_eq!(solo.take_kinds().len(), 0);
    solo.assert_empty();
}

#[test]
fn a_caller_that_never_acknowledges_is_hung_up_when_it_would_have_been() {
    let mut solo = Solo::new();
    let start = solo.now;
    answered(&mut solo, &Script::invite("a"));
    solo.advance_ms(10_000);
    solo.end_life();
    solo.take_sent();
    solo.advance_ms(22_000);
    let bye = solo.take_last();
    assert_eq!((bye.kind().as_str(), bye.at.since(start).as_millis()), ("BYE", 32_000));
    solo.advance(LONG);
    solo.assert_empty();
}

#[test]
fn a_caller_whose_ack_is_missing_may_hang_up_itself() {
    let mut solo = Solo::new();
    let invite = Script::invite("a");
    let (dialog, ok) = answered(&mut solo, &invite);
    solo.end_life();
    let named = solo.endpoint.dialogs();
    assert!(named.len() == 1 && !named.contains(&dialog), "{named:?}: what is late is of the old");
    solo.receive(&invite.next("BYE", 2, &ok).text());
    assert_eq!(solo.take_kinds(), ["200"]);
    let ended = solo.take_events();
    assert!(matches!(ended.as_slice(), [Event::Ended { .. }]), "{ended:?}");
    solo.advance(LONG);
    assert_eq!(solo.take_kinds().len(), 0);
    solo.assert_empty();
}

#[test]
fn a_caller_that_was_not_answered_yet_is_refused_until_it_acknowledges_that() {
    let mut solo = Solo::new();
    let invite = Script::invite("a");
    solo.receive(&invite.text());
    let dialog = solo.take_invited();
    solo.command(Command::Progress { dialog, status: 180, body: None });
    solo.take_sent();
    solo.end_life();
    let refused = solo.take_one();
    assert_eq!(refused.kind(), "500");
    solo.take_events();
    solo.receive(&invite.text());
    assert_eq!(solo.take_one().bytes, refused.bytes);
    solo.advance_ms(500);
    assert_eq!(solo.take_one().bytes, refused.bytes);
    solo.receive(&invite.ack_of_refusal(&refused).text());
    solo.receive(&invite.text());
    solo.advance(LONG);
    assert_eq!((solo.take_kinds().len(), solo.take_events().len()), (0, 0), "no second call");
    solo.assert_empty();
}

#[test]
fn what_is_left_of_calls_by_a_connection_goes_with_it() {
    let mut solo = Solo::over(Transport::Tcp);
    solo.invite(outbound(solo.flow));
    solo.take_one();
    solo.end_life();
    let id = solo.flow.id;
    solo.input(Input::FlowClosed(id));
    assert_eq!((solo.take_kinds().len(), solo.take_events().len()), (0, 0));
    solo.assert_empty();
}
