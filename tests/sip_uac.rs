//! The endpoint as the calling side, against a scripted peer in virtual time.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a failed check may panic")]

mod support;

use std::time::Duration;
use support::SDP;
use support::script::CALLED;
use support::script::answer;
use support::script::connected;
use support::script::hangup;
use support::script::outbound;
use support::script::outbound_with_credentials;
use support::script::to_tag;
use support::solo::Sent;
use support::solo::Solo;
use support::solo::kinds;
use tandem::sip::endpoint::event::Command;
use tandem::sip::endpoint::event::Counter;
use tandem::sip::endpoint::event::DialogId;
use tandem::sip::endpoint::event::Event;
use tandem::sip::endpoint::event::Input;
use tandem::sip::endpoint::flow::Flow;
use tandem::sip::endpoint::flow::FlowId;
use tandem::sip::endpoint::outbound::OutboundInvite;
use tandem::sip::endpoint::told::Furthest;
use tandem::sip::transaction::key::ClientKey;
use tandem::types::cause::HangupCause;
use tandem::types::transport::Transport;

/// A call of ours that rings: our INVITE and its dialog.
fn ringing(solo: &mut Solo) -> (DialogId, Sent) {
    let dialog = solo.invite(outbound(solo.flow));
    let invite = solo.take_one();
    solo.receive(&answer(&invite, 180, Some("callee"), CALLED, ""));
    solo.take_events();
    (dialog, invite)
}

fn times_of(sent: &[Sent], kind: &str) -> Vec<u128> {
    let start = sent[0].at;
    let of_kind = sent.iter().filter(|it| it.kind() == kind);
    of_kind.map(|it| it.at.since(start).as_millis()).collect()
}

#[test]
fn our_via_always_asks_for_rport() {
    let mut solo = Solo::new();
    let (dialog, invite) = ringing(&mut solo);
    assert!(invite.header("Via")[0].ends_with(";rport"), "{}", invite.text());
    hangup(&mut solo, dialog);
    for sent in solo.take_sent() {
        assert!(sent.header("Via")[0].ends_with(";rport"), "{}", sent.text());
    }
}

#[test]
fn our_invite_says_what_a_carrier_needs() {
    let mut solo = Solo::new();
    solo.invite(outbound(solo.flow));
    let invite = solo.take_one();
    let request = invite.request();
    assert_eq!(request.uri.as_bytes(), "sip:+15550199@carrier.example");
    assert_eq!(invite.flow.remote.to_string(), "192.0.2.2:5060");
    assert_eq!(request.headers.from().display().as_ref(), b"Tan \"the\" dem");
    assert_eq!(request.headers.max_forwards(), Some(70));
    assert_eq!(invite.header("Contact"), ["<sip:+15550100@192.0.2.1:5060>"]);
    assert_eq!(invite.header("X-Test"), ["1"]);
    assert_eq!(invite.header("Supported"), ["timer, 100rel"]);
    assert_eq!((request.body.as_ref(), request.headers.to().tag()), (SDP.as_bytes(), None));
}

#[test]
fn a_call_is_answered_acknowledged_and_ended() {
    let mut solo = Solo::new();
    let (dialog, invite) = ringing(&mut solo);
    solo.receive(&answer(&invite, 200, Some("callee"), CALLED, SDP));
    assert_eq!(solo.take_kinds().len(), 0);
    assert_eq!(kinds(&solo.take_events()), ["answered"]);
    solo.command(Command::Acknowledge { dialog, body: None });
    let ack = solo.take_one();
    assert_eq!(ack.header("CSeq"), ["1 ACK"]);
    assert_ne!(ack.header("Via"), invite.header("Via"));
    assert_eq!(ack.request().uri.as_bytes(), "sip:called@192.0.2.2:5060");
    hangup(&mut solo, dialog);
    let bye = solo.take_one();
    assert_eq!((bye.header("CSeq"), to_tag(&bye)), (vec!["2 BYE".to_owned()], "callee".to_owned()));
    assert_eq!(bye.header("Reason"), ["Q.850;cause=16;text=\"normal\""]);
    solo.receive(&answer(&bye, 200, None, "", ""));
    assert_eq!(kinds(&solo.take_events()), ["ended ByeAnswered"]);
    solo.advance(Duration::from_secs(33));
    solo.assert_empty();
}

#[test]
fn ack_does_not_burn_a_cseq() {
    let mut solo = Solo::new();
    let (dialog, invite, ack) = connected(&mut solo, CALLED);
    hangup(&mut solo, dialog);
    let number = |sent: &Sent| sent.request().headers.cseq().number;
    assert_eq!(number(&ack), number(&invite));
    assert_eq!(number(&solo.take_one()), number(&invite) + 1);
}

#[test]
fn an_unanswered_invite_is_repeated_and_times_out() {
    let mut solo = Solo::new();
    solo.invite(outbound(solo.flow));
    solo.advance(Duration::from_secs(32));
    let sent = solo.take_sent();
    assert_eq!(times_of(&sent, "INVITE"), [0, 500, 1500, 3500, 7500, 15_500, 31_500]);
    assert_eq!(kinds(&solo.take_events()), ["refused 408"]);
    assert_eq!(solo.count(Counter::RequestTimeout), 1);
    solo.assert_empty();
}

#[test]
fn timer_e_starts_at_t1() {
    let mut solo = Solo::new();
    let (dialog, _, _) = connected(&mut solo, CALLED);
    hangup(&mut solo, dialog);
    solo.advance_ms(20_000);
    let sent = solo.take_sent();
    assert_eq!(times_of(&sent, "BYE"), [0, 500, 1500, 3500, 7500, 11_500, 15_500, 19_500]);
}

#[test]
fn retransmission_needs_no_polling() {
    let mut solo = Solo::new();
    solo.invite(outbound(solo.flow));
    // The deadline alone says when to come back.
    let deadline = solo.endpoint.deadline().unwrap();
    assert_eq!(deadline.since(solo.now), Duration::from_millis(500));
    solo.now = deadline;
    solo.input(Input::DeadlineReached);
    assert_eq!(solo.take_kinds(), ["INVITE", "INVITE"]);
}

#[test]
fn a_refusal_is_acknowledged_each_time_and_told_once() {
    let mut solo = Solo::new();
    let (_, invite) = ringing(&mut solo);
    let busy = answer(&invite, 486, Some("callee"), "Reason: Q.850;cause=17\r\n", "");
    solo.receive(&busy);
    solo.receive(&busy);
    let sent = solo.take_sent();
    assert_eq!(sent.len(), 2);
    for ack in &sent {
        assert_eq!((ack.kind(), to_tag(ack)), ("ACK".to_owned(), "callee".to_owned()));
        assert_eq!(ack.header("Via"), invite.header("Via"));
        assert_eq!(ack.request().uri, invite.request().uri);
        assert_eq!(ack.header("CSeq"), ["1 ACK"]);
    }
    assert_eq!(kinds(&solo.take_events()), ["refused 486"]);
    solo.advance(Duration::from_secs(33));
    solo.assert_empty();
}

#[test]
fn cancel_has_the_branch_of_its_invite() {
    let mut solo = Solo::new();
    let (dialog, invite) = ringing(&mut solo);
    hangup(&mut solo, dialog);
    let cancel = solo.take_one();
    assert_eq!(cancel.kind(), "CANCEL");
    for name in ["Via", "From", "To", "Call-ID", "Route"] {
        assert_eq!(cancel.header(name), invite.header(name), "{name}");
    }
    assert_eq!(cancel.header("CSeq"), ["1 CANCEL"]);
    assert_eq!(cancel.request().uri, invite.request().uri);
    solo.receive(&answer(&cancel, 200, Some("callee"), "", ""));
    solo.receive(&answer(&invite, 487, Some("callee"), "", ""));
    assert_eq!(solo.take_kinds(), ["ACK"]);
    assert_eq!(kinds(&solo.take_events()), ["ended ByeAnswered"]);
    solo.advance(Duration::from_secs(33));
    solo.assert_empty();
}

#[test]
fn cancel_waits_for_a_provisional_response() {
    let mut solo = Solo::new();
    let dialog = solo.invite(outbound(solo.flow));
    let invite = solo.take_one();
    hangup(&mut solo, dialog);
    assert_eq!(solo.take_kinds().len(), 0);
    solo.receive(&answer(&invite, 100, None, "", ""));
    assert_eq!(solo.take_kinds(), ["CANCEL"]);
    solo.receive(&answer(&invite, 180, Some("callee"), "", ""));
    assert_eq!((solo.take_kinds().len(), solo.take_events().len()), (0, 0));
}

#[test]
fn cancel_returns_when_it_is_answered_481() {
    let mut solo = Solo::new();
    let (dialog, _) = ringing(&mut solo);
    hangup(&mut solo, dialog);
    let cancel = solo.take_one();
    solo.receive(&answer(&cancel, 481, Some("callee"), "", ""));
    solo.advance(Duration::from_secs(32));
    assert_eq!(kinds(&solo.take_events()), ["ended ByeAnswered"]);
    solo.advance(Duration::from_secs(33));
    solo.assert_empty();
}

#[test]
fn who_rings_on_behind_a_cancel_is_forgotten_all_the_same() {
    for heard in [0, 10, 31] {
        let mut solo = Solo::new();
        let (dialog, invite) = ringing(&mut solo);
        hangup(&mut solo, dialog);
        let cancel = solo.take_one();
        solo.receive(&answer(&cancel, 200, Some("callee"), "", ""));
        solo.advance(Duration::from_secs(32));
        assert_eq!(kinds(&solo.take_events()), ["ended ByeAnswered"]);
        solo.advance(Duration::from_secs(heard));
        solo.receive(&answer(&invite, 180, Some("callee"), CALLED, ""));
        solo.advance(Duration::from_secs(33 - heard));
        assert_eq!((solo.take_kinds().len(), solo.take_events().len()), (0, 0));
        solo.assert_empty();
    }
}

#[test]
fn cancel_crossing_200_ends_with_ack_and_bye() {
    for number in 0..1_000 {
        let mut solo = Solo::new();
        let (dialog, invite) = ringing(&mut solo);
        hangup(&mut solo, dialog);
        let cancel = solo.take_one();
        solo.receive(&answer(&invite, 200, Some("callee"), CALLED, SDP));
        if number % 2 == 0 {
            solo.receive(&answer(&cancel, 200, Some("callee"), "", ""));
        } else {
            solo.receive(&answer(&cancel, 481, Some("callee"), "", ""));
        }
        let sent = solo.take_sent();
        assert_eq!([sent[0].kind(), sent[1].kind()], ["ACK", "BYE"]);
        solo.receive(&answer(&sent[1], 200, None, "", ""));
        assert_eq!(kinds(&solo.take_events()), ["ended ByeAnswered"]);
        solo.advance(Duration::from_secs(33));
        solo.assert_empty();
    }
}

#[test]
fn a_repeated_2xx_gets_the_same_ack_again() {
    let mut solo = Solo::new();
    let dialog = solo.invite(outbound(solo.flow));
    let invite = solo.take_one();
    let ok = answer(&invite, 200, Some("callee"), CALLED, SDP);
    solo.receive(&ok);
    solo.receive(&ok);
    assert_eq!(solo.take_kinds().len(), 0);
    solo.command(Command::Acknowledge { dialog, body: None });
    let ack = solo.take_one();
    solo.receive(&ok);
    assert_eq!(solo.take_one().bytes, ack.bytes);
    assert_eq!(kinds(&solo.take_events()), ["answered"]);
    hangup(&mut solo, dialog);
    let bye = solo.take_one();
    solo.receive(&answer(&bye, 200, None, "", ""));
    solo.receive(&ok);
    assert_eq!(solo.take_one().bytes, ack.bytes);
}

#[test]
fn a_further_fork_is_acknowledged_and_ended() {
    let mut solo = Solo::new();
    let (dialog, invite) = ringing(&mut solo);
    solo.receive(&answer(&invite, 200, Some("one"), CALLED, SDP));
    solo.command(Command::Acknowledge { dialog, body: None });
    solo.take_sent();
    let other = "Contact: <sip:other@192.0.2.9>\r\nRecord-Route: <sip:192.0.2.8;lr>\r\n";
    let second = answer(&invite, 200, Some("two"), other, SDP);
    solo.receive(&second);
    let sent = solo.take_sent();
    assert_eq!([sent[0].kind(), sent[1].kind()], ["ACK", "BYE"]);
    for message in &sent {
        assert_eq!(to_tag(message), "two");
        assert_eq!(message.header("Route"), ["<sip:192.0.2.8;lr>"]);
        assert_eq!(message.request().uri.as_bytes(), "sip:other@192.0.2.9");
        let tag = message.request().headers.from().tag().map(<[u8]>::to_vec);
        assert_eq!(tag, invite.request().headers.from().tag().map(<[u8]>::to_vec));
    }
    assert_eq!([sent[0].header("CSeq"), sent[1].header("CSeq")], [["1 ACK"], ["2 BYE"]]);
    solo.receive(&second);
    assert_eq!(solo.take_one().bytes, sent[0].bytes);
    assert_eq!(kinds(&solo.take_events()), ["answered"]);
    assert_eq!(solo.endpoint.gauges().dialogs, 1);
}

#[test]
fn a_2xx_after_the_call_was_given_up_is_acknowledged_and_ended() {
    let mut solo = Solo::new();
    let (dialog, invite) = ringing(&mut solo);
    hangup(&mut solo, dialog);
    solo.advance(Duration::from_secs(40));
    assert_eq!(kinds(&solo.take_events()), ["ended ByeAnswered"]);
    solo.take_sent();
    solo.receive(&answer(&invite, 200, Some("callee"), CALLED, SDP));
    assert_eq!(solo.take_kinds(), ["ACK", "BYE"]);
    solo.advance(Duration::from_secs(65));
    solo.assert_empty();
}

#[test]
fn the_bye_of_a_fork_that_is_challenged_is_sent_again_with_credentials() {
    for ends_first in [false, true] {
        let mut solo = Solo::new();
        let dialog = solo.invite(outbound_with_credentials(solo.flow));
        let invite = solo.take_one();
        solo.receive(&answer(&invite, 200, Some("one"), CALLED, SDP));
        solo.command(Command::Acknowledge { dialog, body: None });
        if ends_first {
            hangup(&mut solo, dialog);
            let bye = solo.take_last();
            solo.receive(&answer(&bye, 200, None, "", ""));
        }
        solo.take_sent();
        let other = "Contact: <sip:other@192.0.2.9>\r\nRecord-Route: <sip:192.0.2.8;lr>\r\n";
        solo.receive(&answer(&invite, 200, Some("two"), other, SDP));
        let sent = solo.take_sent();
        assert_eq!([sent[0].kind(), sent[1].kind()], ["ACK", "BYE"]);
        solo.receive(&answer(&sent[1], 407, None, CHALLENGE, ""));
        let again = solo.take_one();
        assert_eq!(again.kind(), "BYE");
        assert_eq!(again.header("CSeq"), ["3 BYE"]);
        assert_eq!((to_tag(&again), again.header("Route").len()), ("two".to_owned(), 1));
        assert_eq!(again.request().uri.as_bytes(), "sip:other@192.0.2.9");
        let credentials = again.header("Proxy-Authorization").concat();
        assert!(credentials.contains("nonce=\"n2\""), "{credentials}");
        assert_ne!(again.header("Via"), sent[1].header("Via"), "a new transaction");
        // Refused again: it is left at that.
        solo.receive(&answer(&again, 407, None, CHALLENGE, ""));
        assert_eq!(solo.take_kinds().len(), 0);
        if !ends_first {
            hangup(&mut solo, dialog);
            let bye = solo.take_last();
            solo.receive(&answer(&bye, 200, None, "", ""));
        }
        solo.advance(Duration::from_secs(100));
        solo.assert_empty();
    }
}

#[test]
fn a_2xx_of_a_call_given_up_is_ended_with_credentials_where_the_carrier_wants_them() {
    let mut solo = Solo::new();
    let dialog = solo.invite(outbound_with_credentials(solo.flow));
    let first = solo.take_one();
    solo.receive(&answer(&first, 407, Some("p"), CHALLENGE, ""));
    let invite = solo.take_last();
    solo.receive(&answer(&invite, 180, Some("callee"), CALLED, ""));
    hangup(&mut solo, dialog);
    solo.advance(Duration::from_secs(40));
    solo.take_sent();
    solo.receive(&answer(&invite, 200, Some("callee"), CALLED, SDP));
    let sent = solo.take_sent();
    assert_eq!([sent[0].kind(), sent[1].kind()], ["ACK", "BYE"]);
    for message in &sent {
        assert!(message.header("Proxy-Authorization").concat().contains("nonce=\"n2\""));
    }
    let stale = "Proxy-Authenticate: Digest realm=\"r\", nonce=\"n3\", qop=\"auth\", \
                 algorithm=SHA-256, stale=true\r\n";
    solo.receive(&answer(&sent[1], 407, None, stale, ""));
    let again = solo.take_one();
    assert!(again.header("Proxy-Authorization").concat().contains("nonce=\"n3\""));
    solo.receive(&answer(&again, 200, None, "", ""));
    solo.advance(Duration::from_secs(65));
    solo.assert_empty();
}

#[test]
fn the_uac_reverses_record_route_and_acks_the_contact() {
    let mut solo = Solo::new();
    let lines = "Record-Route: <sip:203.0.113.1;lr>, <sip:203.0.113.2:5070;lr>\r\n\
                 Contact: <sip:callee@10.0.0.9:5999;x=y>\r\n";
    let (dialog, _, ack) = connected(&mut solo, lines);
    hangup(&mut solo, dialog);
    for sent in [ack, solo.take_one()] {
        assert_eq!(sent.header("Route"), ["<sip:203.0.113.2:5070;lr>", "<sip:203.0.113.1;lr>"]);
        assert_eq!(sent.request().uri.as_bytes(), "sip:callee@10.0.0.9:5999;x=y");
        assert_eq!(sent.flow.remote.to_string(), "203.0.113.2:5070");
    }
}

#[test]
fn an_outbound_delayed_offer_has_media() {
    let mut solo = Solo::new();
    let dialog = solo.invite(OutboundInvite { body: None, ..outbound(solo.flow) });
    let invite = solo.take_one();
    assert_eq!(invite.request().body.len(), 0);
    solo.receive(&answer(&invite, 200, Some("callee"), CALLED, SDP));
    solo.command(Command::Acknowledge { dialog, body: Some(SDP.into()) });
    assert_eq!(solo.take_one().request().body, SDP);
}

#[test]
fn early_media_is_told_with_its_body() {
    let mut solo = Solo::new();
    solo.invite(outbound(solo.flow));
    let invite = solo.take_one();
    solo.receive(&answer(&invite, 100, None, "", ""));
    solo.receive(&answer(&invite, 183, Some("callee"), CALLED, SDP));
    solo.receive(&answer(&invite, 180, Some("callee"), CALLED, ""));
    assert_eq!(kinds(&solo.take_events()), ["progressed 100", "progressed 183", "progressed 180"]);
}

#[test]
fn an_answer_without_a_description_has_that_of_its_own_party() {
    let at = |port: u16| SDP.replace("4000", &port.to_string());
    let answered = |solo: &mut Solo| match solo.take_events().pop() {
        Some(Event::Answered { fork, body, .. }) => (fork.0, body.map(|body| body.bytes)),
        other => panic!("not answered: {other:?}"),
    };
    let mut solo = Solo::new();
    solo.invite(outbound(solo.flow));
    let invite = solo.take_one();
    solo.receive(&answer(&invite, 183, Some("one"), CALLED, &at(4_000)));
    solo.receive(&answer(&invite, 183, Some("two"), CALLED, &at(4_002)));
    solo.receive(&answer(&invite, 180, Some("one"), CALLED, ""));
    solo.receive(&answer(&invite, 200, Some("one"), CALLED, ""));
    assert_eq!(answered(&mut solo), (0, Some(at(4_000).into())));
    // A party that said nothing of itself has no description, whoever rang beside it.
    let mut solo = Solo::new();
    solo.invite(outbound(solo.flow));
    let invite = solo.take_one();
    solo.receive(&answer(&invite, 183, Some("one"), CALLED, &at(4_000)));
    solo.receive(&answer(&invite, 200, Some("two"), CALLED, ""));
    assert_eq!(answered(&mut solo), (1, None));
    // What it says with its answer is newer.
    let mut solo = Solo::new();
    solo.invite(outbound(solo.flow));
    let invite = solo.take_one();
    solo.receive(&answer(&invite, 183, Some("one"), CALLED, &at(4_000)));
    solo.receive(&answer(&invite, 200, Some("one"), CALLED, &at(4_004)));
    assert_eq!(answered(&mut solo), (0, Some(at(4_004).into())));
}

#[test]
fn each_repetition_of_a_request_has_credentials_of_its_own() {
    let lines = format!("{CALLED}Allow: INVITE, UPDATE\r\nSession-Expires: 180;refresher=uac\r\n");
    let call = |solo: &mut Solo| {
        let dialog = solo.invite(outbound_with_credentials(solo.flow));
        let first = solo.take_one();
        solo.receive(&answer(&first, 407, Some("x"), CHALLENGE, ""));
        let second = solo.take_last();
        solo.receive(&answer(&second, 200, Some("callee"), &lines, SDP));
        solo.command(Command::Acknowledge { dialog, body: None });
        solo.take_sent();
        dialog
    };
    let credentials = |sent: &Sent| sent.header("Proxy-Authorization").remove(0);
    let is_use = |sent: &Sent, nc: &str| {
        let text = credentials(sent);
        assert!(text.contains(nc), "{nc}: {text}");
    };
    // Refused as too brief.
    let mut solo = Solo::new();
    let dialog = call(&mut solo);
    solo.command(Command::Update { dialog, body: SDP.into() });
    let update = solo.take_one();
    is_use(&update, "nc=00000002");
    solo.receive(&answer(&update, 422, None, "Min-SE: 300\r\n", ""));
    is_use(&solo.take_one(), "nc=00000003");
    // UPDATE is not taken: what goes instead has the digest of its own method.
    for status in [405, 501] {
        let mut solo = Solo::new();
        let dialog = call(&mut solo);
        solo.command(Command::Update { dialog, body: SDP.into() });
        let update = solo.take_one();
        solo.receive(&answer(&update, status, None, "", ""));
        let invite = solo.take_one();
        assert_eq!(invite.kind(), "INVITE");
        is_use(&invite, "nc=00000003");
    }
    // A refresh that crosses one of the peer's.
    let mut solo = Solo::new();
    call(&mut solo);
    solo.advance(Duration::from_secs(90));
    let update = solo.take_one();
    is_use(&update, "nc=00000002");
    solo.receive(&answer(&update, 491, None, "", ""));
    solo.advance(Duration::from_secs(4));
    is_use(&solo.take_sent()[0], "nc=00000003");
}

const CHALLENGE: &str = "Proxy-Authenticate: Digest realm=\"r\", nonce=\"n1\", qop=\"auth\"\r\n\
    Proxy-Authenticate: Digest realm=\"r\", nonce=\"n2\", qop=\"auth\", algorithm=SHA-256\r\n";

#[test]
fn a_challenge_is_answered_once() {
    let mut solo = Solo::new();
    solo.invite(outbound_with_credentials(solo.flow));
    let first = solo.take_one();
    solo.receive(&answer(&first, 407, Some("x"), CHALLENGE, ""));
    let sent = solo.take_sent();
    assert_eq!([sent[0].kind(), sent[1].kind()], ["ACK", "INVITE"]);
    let second = &sent[1];
    assert_eq!(second.header("CSeq"), ["2 INVITE"]);
    assert_ne!(second.header("Via"), first.header("Via"));
    for name in ["Call-ID", "From", "To"] {
        assert_eq!(second.header(name), first.header(name));
    }
    let credentials = second.header("Proxy-Authorization").remove(0);
    for part in ["SHA-256", "nonce=\"n2\"", "nc=00000001", "uri=\"sip:+15550199@carrier.example\""]
    {
        assert!(credentials.contains(part), "{part}: {credentials}");
    }
    solo.receive(&answer(second, 407, Some("y"), CHALLENGE, ""));
    assert_eq!(solo.take_kinds(), ["ACK"]);
    assert_eq!(kinds(&solo.take_events()), ["refused 407"]);
    solo.advance(Duration::from_secs(33));
    solo.assert_empty();
}

#[test]
fn an_authenticated_call_has_credentials_in_ack_and_bye() {
    let mut solo = Solo::new();
    let dialog = solo.invite(outbound_with_credentials(solo.flow));
    let first = solo.take_one();
    solo.receive(&answer(&first, 407, Some("x"), CHALLENGE, ""));
    let second = solo.take_last();
    solo.receive(&answer(&second, 200, Some("callee"), CALLED, SDP));
    solo.command(Command::Acknowledge { dialog, body: None });
    let ack = solo.take_one();
    assert_eq!(ack.header("CSeq"), ["2 ACK"]);
    assert_eq!(ack.header("Proxy-Authorization"), second.header("Proxy-Authorization"));
    hangup(&mut solo, dialog);
    let bye = solo.take_one();
    assert!(bye.header("Proxy-Authorization")[0].contains("nc=00000002"), "{}", bye.text());
    // A BYE may be challenged anew.
    solo.receive(&answer(&bye, 407, None, &CHALLENGE.replace("\"n2\"", "\"n3\""), ""));
    let again = solo.take_one();
    assert!(again.header("Proxy-Authorization")[0].contains("\"n3\""), "{}", again.text());
    assert_eq!(again.header("CSeq"), ["4 BYE"]);
    solo.receive(&answer(&again, 200, None, "", ""));
    assert_eq!(kinds(&solo.take_events()), ["answered", "ended ByeAnswered"]);
}

#[test]
fn a_call_that_is_over_for_us_still_shows_who_hangs_up() {
    let mut solo = Solo::new();
    let dialog = solo.invite(outbound_with_credentials(solo.flow));
    let first = solo.take_one();
    solo.receive(&answer(&first, 407, Some("x"), CHALLENGE, ""));
    let second = solo.take_last();
    solo.receive(&answer(&second, 200, Some("callee"), CALLED, SDP));
    // A party that answers too is let go with the credentials of the INVITE, and as known by then.
    let other = "Contact: <sip:other@192.0.2.9>\r\n";
    solo.receive(&answer(&second, 200, Some("other"), other, SDP));
    let sent = solo.take_sent();
    let shown =
        |sent: &Sent| sent.header("Proxy-Authorization").first().cloned().unwrap_or_default();
    assert_eq!([sent[0].kind(), sent[1].kind()], ["ACK", "BYE"]);
    assert_eq!(shown(&sent[0]), shown(&second));
    assert!(shown(&sent[1]).contains("nc=00000002"), "{}", sent[1].text());
    solo.receive(&answer(&sent[1], 200, None, "", ""));
    solo.command(Command::Acknowledge { dialog, body: None });
    solo.take_sent();
    solo.take_events();

    solo.command(Command::Reinvite { dialog, body: SDP.into() });
    let reinvite = solo.take_one();
    solo.receive(&answer(&reinvite, 481, None, "", ""));
    assert_eq!(kinds(&solo.take_events()), ["ended PeerTimeout"]);
    let bye = solo.take_last();
    assert!(shown(&bye).contains("nc=00000004"), "{}", bye.text());
    solo.receive(&answer(&bye, 407, None, &CHALLENGE.replace("\"n2\"", "\"n3\""), ""));
    let again = solo.take_one();
    assert!(again.kind() == "BYE" && shown(&again).contains("\"n3\""), "{}", again.text());
    solo.receive(&answer(&again, 200, None, "", ""));
    assert_eq!(kinds(&solo.take_events()).len(), 0, "that it ended was told");
    solo.advance(Duration::from_secs(65));
    solo.assert_empty();
}

#[test]
fn a_dialog_whose_connection_is_gone_takes_its_way_back() {
    for transport in [Transport::Tcp, Transport::Tls] {
        let mut solo = Solo::over(transport);
        let back = Flow { id: FlowId::way_back(5), ..solo.flow };
        let dialog = solo.invite(OutboundInvite { way_back: Some(back), ..outbound(solo.flow) });
        let invite = solo.take_one();
        solo.receive(&answer(&invite, 200, Some("callee"), CALLED, SDP));
        solo.command(Command::Acknowledge { dialog, body: None });
        assert_eq!(solo.take_one().flow, solo.flow);
        solo.input(Input::FlowClosed(FlowId(1)));
        solo.command(Command::Reinvite { dialog, body: SDP.into() });
        let reinvite = solo.take_one();
        assert_eq!((reinvite.kind().as_str(), reinvite.flow), ("INVITE", back));
        solo.receive(&answer(&reinvite, 200, None, CALLED, SDP));
        assert_eq!(solo.take_one().flow, back);
        hangup(&mut solo, dialog);
        let bye = solo.take_one();
        assert_eq!((bye.kind().as_str(), bye.flow), ("BYE", back));
        solo.receive(&answer(&bye, 200, None, "", ""));
        solo.advance(Duration::from_secs(65));
        solo.assert_empty();

        // A connection that goes with our BYE on it: it is said once more, and no oftener.
        let dialog = solo.invite(OutboundInvite { way_back: Some(back), ..outbound(solo.flow) });
        let invite = solo.take_one();
        solo.receive(&answer(&invite, 200, Some("callee"), CALLED, SDP));
        solo.command(Command::Acknowledge { dialog, body: None });
        hangup(&mut solo, dialog);
        solo.take_events();
        solo.take_sent();
        solo.input(Input::FlowClosed(FlowId(1)));
        let bye = solo.take_one();
        assert_eq!((bye.kind().as_str(), bye.flow), ("BYE", back));
        assert_eq!(kinds(&solo.take_events()).len(), 0);
        solo.advance(Duration::from_secs(65));
        assert_eq!(kinds(&solo.take_events()), ["ended PeerTimeout"]);
        assert_eq!(solo.take_kinds().len(), 0);
        solo.assert_empty();
    }
}

/// An answered call over a stream that is gone; `back` is what it goes on by.
fn cut_off(solo: &mut Solo, back: Option<Flow>) -> DialogId {
    let dialog = solo.invite(OutboundInvite { way_back: back, ..outbound(solo.flow) });
    let invite = solo.take_one();
    let headers = format!("{CALLED}Allow: INVITE, BYE, UPDATE\r\n");
    solo.receive(&answer(&invite, 200, Some("callee"), &headers, SDP));
    solo.command(Command::Acknowledge { dialog, body: None });
    solo.input(Input::FlowClosed(FlowId(1)));
    solo.take_sent();
    solo.take_events();
    dialog
}

/// The new connection that `sent` asks for cannot be had: there is no way at all, or it is refused, where
/// it has an id.
fn refuse_connection(solo: &mut Solo, sent: &Flow, opening: Option<u64>) {
    solo.input(Input::Led { by: *sent, to: opening.map(FlowId) });
    if let Some(id) = opening {
        assert_eq!(solo.take_events().len(), 0, "nothing is known yet");
        solo.input(Input::FlowClosed(FlowId(id)));
    }
}

#[test]
fn a_request_whose_new_connection_is_refused_fails_at_once() {
    let ways = [(None, None), (None, Some(9)), (Some(5), None), (Some(5), Some(9))];
    for (back, opening) in ways {
        let mut solo = Solo::over(Transport::Tcp);
        let back = back.map(|id| Flow { id: FlowId::way_back(id), ..solo.flow });
        let dialog = cut_off(&mut solo, back);
        let refer = Command::Refer {
            dialog,
            refer_to: "sip:+15550142@carrier.example".to_owned(),
            referred_by: None,
            headers: Vec::new(),
        };
        let asked = [
            (Command::Reinvite { dialog, body: SDP.into() }, "reinvite refused 503"),
            (Command::Update { dialog, body: SDP.into() }, "reinvite refused 503"),
            (refer, "referring Refused(503)"),
        ];
        for (command, told) in asked {
            solo.command(command);
            let sent = solo.take_one().flow;
            assert!(!sent.id.is_socket());
            refuse_connection(&mut solo, &sent, opening);
            assert_eq!(kinds(&solo.take_events()), [told], "{back:?} {opening:?}");
        }
        hangup(&mut solo, dialog);
        let bye = solo.take_one();
        assert_eq!((bye.kind().as_str(), bye.flow.id.is_socket()), ("BYE", false));
        refuse_connection(&mut solo, &bye.flow, opening);
        assert_eq!(kinds(&solo.take_events()), ["ended PeerTimeout"], "{back:?} {opening:?}");
        assert_eq!(solo.take_kinds().len(), 0, "there is no other way to say it");
        solo.advance(Duration::from_secs(32));
        assert_eq!((solo.take_kinds().len(), solo.count(Counter::RequestTimeout)), (0, 0));
        solo.assert_empty();
    }
}

#[test]
fn the_new_connections_of_two_peers_fail_each_by_itself() {
    let mut solo = Solo::over(Transport::Tcp);
    let one = cut_off(&mut solo, None);
    let there = Flow { remote: "192.0.2.3:5060".parse().unwrap(), ..solo.flow };
    let other = solo.invite(outbound(there));
    let invite = solo.take_one();
    let contact = "Contact: <sip:called@192.0.2.3:5060>\r\n";
    solo.receive_by(there, &answer(&invite, 200, Some("callee"), contact, SDP));
    solo.command(Command::Acknowledge { dialog: other, body: None });
    solo.input(Input::FlowClosed(FlowId(1)));
    solo.take_sent();
    hangup(&mut solo, one);
    let first = solo.take_one().flow;
    solo.input(Input::Led { by: first, to: Some(FlowId(7)) });
    hangup(&mut solo, other);
    let bye = solo.take_one();
    solo.input(Input::Led { by: bye.flow, to: Some(FlowId(8)) });
    solo.take_events();
    solo.input(Input::FlowClosed(FlowId(7)));
    assert_eq!(kinds(&solo.take_events()), ["ended PeerTimeout"], "of the first alone");
    let by = Flow { id: FlowId(8), ..there };
    solo.receive_by(by, &answer(&bye, 200, None, "", ""));
    assert_eq!(kinds(&solo.take_events()), ["ended ByeAnswered"]);
    solo.advance(Duration::from_secs(65));
    solo.assert_empty();
}

#[test]
fn a_challenge_without_credentials_is_a_refusal() {
    let mut solo = Solo::new();
    solo.invite(outbound(solo.flow));
    let invite = solo.take_one();
    solo.receive(&answer(&invite, 401, Some("x"), CHALLENGE, ""));
    assert_eq!(kinds(&solo.take_events()), ["refused 401"]);
}

#[test]
fn our_reinvite_is_acknowledged_inside() {
    let mut solo = Solo::new();
    let (dialog, _, _) = connected(&mut solo, CALLED);
    solo.command(Command::Reinvite { dialog, body: SDP.into() });
    let reinvite = solo.take_one();
    assert_eq!(
        (to_tag(&reinvite), reinvite.header("CSeq")),
        ("callee".into(), vec!["2 INVITE".into()])
    );
    // Another one has to wait.
    solo.command(Command::Reinvite { dialog, body: SDP.into() });
    assert_eq!(kinds(&solo.take_events()), ["reinvite refused 491"]);
    let ok = answer(&reinvite, 200, None, "Contact: <sip:moved@192.0.2.5>\r\n", SDP);
    solo.receive(&ok);
    let ack = solo.take_one();
    assert_eq!(ack.header("CSeq"), ["2 ACK"]);
    assert_eq!(ack.request().uri.as_bytes(), "sip:moved@192.0.2.5");
    solo.receive(&ok);
    assert_eq!(solo.take_one().bytes, ack.bytes);
    assert_eq!(kinds(&solo.take_events()), ["reinvite answered"]);
}

#[test]
fn a_refused_reinvite_of_ours_leaves_the_call() {
    let mut solo = Solo::new();
    let (dialog, _, _) = connected(&mut solo, CALLED);
    solo.command(Command::Reinvite { dialog, body: SDP.into() });
    let reinvite = solo.take_one();
    solo.receive(&answer(&reinvite, 488, None, "", ""));
    assert_eq!(solo.take_kinds(), ["ACK"]);
    assert_eq!(kinds(&solo.take_events()), ["reinvite refused 488"]);
    assert_eq!(solo.endpoint.gauges().dialogs, 1);
}

#[test]
fn a_reinvite_answered_481_or_never_ends_the_call() {
    let mut solo = Solo::new();
    let (dialog, _, _) = connected(&mut solo, CALLED);
    solo.command(Command::Reinvite { dialog, body: SDP.into() });
    let reinvite = solo.take_one();
    solo.receive(&answer(&reinvite, 481, None, "", ""));
    assert_eq!(solo.take_kinds(), ["ACK", "BYE"]);
    assert_eq!(kinds(&solo.take_events()), ["ended PeerTimeout"]);
    let (dialog, _, _) = connected(&mut solo, CALLED);
    solo.command(Command::Reinvite { dialog, body: SDP.into() });
    solo.advance(Duration::from_secs(32));
    assert_eq!(kinds(&solo.take_events()), ["ended PeerTimeout"]);
    solo.advance(Duration::from_secs(65));
    solo.assert_empty();
}

#[test]
fn a_reinvite_that_only_gets_100_is_given_up_and_the_call_goes_on() {
    let mut solo = Solo::new();
    let (dialog, _, _) = connected(&mut solo, CALLED);
    solo.command(Command::Reinvite { dialog, body: SDP.into() });
    let reinvite = solo.take_one();
    solo.receive(&answer(&reinvite, 100, None, "", ""));
    solo.advance(Duration::from_secs(32));
    assert_eq!(solo.take_kinds()[0], "CANCEL");
    assert_eq!(kinds(&solo.take_events()), ["reinvite refused 408"]);
    solo.receive(&answer(&reinvite, 200, None, CALLED, SDP));
    assert_eq!(solo.take_last().kind(), "ACK");
    assert_eq!(solo.endpoint.gauges().dialogs, 1);
}

#[test]
fn a_hang_up_before_our_ack_sends_both() {
    let mut solo = Solo::new();
    let dialog = solo.invite(outbound(solo.flow));
    let invite = solo.take_one();
    solo.receive(&answer(&invite, 200, Some("callee"), CALLED, SDP));
    hangup(&mut solo, dialog);
    assert_eq!(solo.take_kinds(), ["ACK", "BYE"]);
}

#[test]
fn a_bye_right_behind_the_answer_finds_that_acknowledged() {
    let mut solo = Solo::new();
    let dialog = solo.invite(outbound(solo.flow));
    let invite = solo.take_one();
    let ok = answer(&invite, 200, Some("callee"), CALLED, SDP);
    solo.receive(&ok);
    let tag = String::from_utf8(invite.request().headers.from().tag().unwrap().to_vec()).unwrap();
    let mut bye = support::script::Script::new("BYE", "x");
    bye.call_id = invite.header("Call-ID").remove(0);
    bye.from_tag = "callee".to_owned();
    bye.to_tag = Some(tag);
    solo.receive(&bye.text());
    assert_eq!(solo.take_kinds(), ["ACK", "200"]);
    assert_eq!(kinds(&solo.take_events()).last().unwrap(), "ended Bye { reason: None }");
    // The call comes too late with its own, and a repeated answer gets the same again.
    solo.command(Command::Acknowledge { dialog, body: None });
    assert_eq!(solo.take_kinds().len(), 0);
    solo.receive(&ok);
    assert_eq!(solo.take_kinds(), ["ACK"]);
    solo.advance(Duration::from_secs(33));
    solo.assert_empty();
}

#[test]
fn the_called_side_may_not_bye_before_it_answers() {
    let mut solo = Solo::new();
    let (_, invite) = ringing(&mut solo);
    let tag = String::from_utf8(invite.request().headers.from().tag().unwrap().to_vec()).unwrap();
    let mut bye = support::script::Script::new("BYE", "x");
    bye.call_id = invite.header("Call-ID").remove(0);
    bye.from_tag = "callee".to_owned();
    bye.to_tag = Some(tag);
    solo.receive(&bye.text());
    assert_eq!(solo.take_kinds(), ["481"]);
    bye.method = "UPDATE".to_owned();
    bye.cseq = 2;
    solo.receive(&bye.body("application/sdp", SDP).text());
    assert_eq!(solo.take_kinds(), ["491"]);
}

#[test]
fn a_call_that_rings_too_long_is_cancelled() {
    let mut solo = Solo::new();
    let (_, invite) = ringing(&mut solo);
    solo.advance(Duration::from_secs(200));
    assert_eq!(solo.take_kinds(), ["CANCEL"]);
    solo.receive(&answer(&invite, 487, Some("callee"), "", ""));
    assert_eq!(kinds(&solo.take_events()), ["refused 408"]);
}

#[test]
fn a_uri_that_cannot_be_read_is_refused_without_a_packet() {
    let mut solo = Solo::new();
    solo.invite(OutboundInvite { uri: "not a uri".to_owned(), ..outbound(solo.flow) });
    assert_eq!(kinds(&solo.take_events()), ["refused 400"]);
    assert_eq!(solo.take_kinds().len(), 0);
    solo.assert_empty();
}

#[test]
fn a_lost_stream_fails_a_call_at_once() {
    let mut solo = Solo::over(Transport::Tcp);
    solo.invite(outbound(solo.flow));
    solo.advance_ms(5_000);
    assert_eq!(solo.take_kinds(), ["INVITE"]);
    solo.input(Input::FlowClosed(FlowId(1)));
    assert_eq!(kinds(&solo.take_events()), ["refused 503"]);
    solo.assert_empty();
}

/// What the network says of a request of ours that did not arrive.
fn unreached(sent: &Sent, remote: &str) -> Input {
    let key = ClientKey::of_beginning(&sent.bytes).unwrap();
    Input::Unreached { remote: remote.parse().unwrap(), key }
}

#[test]
fn a_call_whose_invite_did_not_arrive_fails_at_once() {
    let mut solo = Solo::new();
    solo.invite(outbound(solo.flow));
    let invite = solo.take_one();
    // Of a datagram to elsewhere, and of a request that was never sent.
    solo.input(unreached(&invite, "192.0.2.3:5060"));
    let via = invite.header("Via").remove(0);
    let (_, branch) = via.split_once("branch=").unwrap();
    let guessed = invite.text().replace(branch, "z9hG4bK0123456789abcdef");
    let key = ClientKey::of_beginning(guessed.as_bytes()).unwrap();
    solo.input(Input::Unreached { remote: "192.0.2.2:5060".parse().unwrap(), key });
    assert_eq!(solo.take_events().len(), 0);
    solo.input(unreached(&invite, "192.0.2.2:5060"));
    assert_eq!(kinds(&solo.take_events()), ["refused 503"]);
    assert_eq!(solo.count(Counter::RequestUnreached), 1);
    solo.assert_empty();
}

#[test]
fn what_does_not_arrive_within_a_call_is_repeated_and_ends_nothing() {
    let mut solo = Solo::new();
    let (_, invite) = ringing(&mut solo);
    solo.input(unreached(&invite, "192.0.2.2:5060"));
    assert_eq!(solo.take_events().len(), 0, "somebody was there, and rings");
    let mut solo = Solo::new();
    let (dialog, _, _) = connected(&mut solo, CALLED);
    solo.command(Command::Reinvite { dialog, body: SDP.into() });
    let reinvite = solo.take_one();
    solo.input(unreached(&reinvite, "192.0.2.2:5060"));
    hangup(&mut solo, dialog);
    let bye = solo.take_last();
    solo.input(unreached(&bye, "192.0.2.2:5060"));
    solo.advance_ms(600);
    assert!(solo.take_kinds().contains(&"BYE".to_owned()), "a peer that starts anew hears it");
    assert_eq!(solo.count(Counter::RequestUnreached), 0);
}

#[test]
fn a_refusal_over_a_stream_leaves_nothing() {
    let mut solo = Solo::over(Transport::Tls);
    solo.invite(outbound(solo.flow));
    let invite = solo.take_one();
    assert!(invite.header("Via")[0].starts_with("SIP/2.0/TLS "));
    solo.receive(&answer(&invite, 603, Some("x"), "", ""));
    assert_eq!(solo.take_kinds(), ["ACK"]);
    solo.assert_empty();
}

#[test]
fn stray_responses_are_dropped_and_counted() {
    let mut solo = Solo::new();
    let (_, invite) = ringing(&mut solo);
    let mine = invite.header("Via").remove(0);
    let branch = mine.split("branch=").nth(1).unwrap().split(';').next().unwrap();
    let ok = answer(&invite, 200, Some("x"), CALLED, SDP);
    solo.receive(&ok.replace(branch, "z9hG4bK0000000000000001"));
    solo.receive(&ok.replace(branch, "z9hG4bK-foreign"));
    solo.receive(&ok.replace("CSeq: 1 INVITE", "CSeq: 1 OPTIONS"));
    assert_eq!(solo.count(Counter::StrayResponse), 3);
    assert_eq!((solo.take_kinds().len(), solo.take_events().len()), (0, 0));
}

#[test]
fn a_cause_of_ours_is_in_cancel_and_bye() {
    let mut solo = Solo::new();
    let (dialog, _) = ringing(&mut solo);
    solo.command(Command::Hangup { dialog, cause: HangupCause::NoAnswer });
    assert_eq!(solo.take_one().header("Reason"), ["Q.850;cause=19;text=\"no_answer\""]);
}

#[test]
fn drain_also_gates_outbound_calls() {
    let mut solo = Solo::new();
    solo.endpoint.set_draining(true);
    solo.invite(outbound(solo.flow));
    let events = solo.take_events();
    assert_eq!(kinds(&events), ["refused 503"]);
    let is_unsent = |event: &Event| match event {
        Event::Refused { note, .. } => note.furthest == Furthest::Unsent,
        _ => false,
    };
    assert!(events.iter().all(is_unsent), "{events:?}");
    assert_eq!(solo.take_kinds().len(), 0);
    solo.assert_empty();
}
