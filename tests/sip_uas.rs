//! The endpoint as the called side, against a scripted peer in virtual time.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a failed check may panic")]

mod support;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;
use support::SDP;
use support::script::Script;
use support::script::established;
use support::script::hangup;
use support::script::to_tag;
use support::solo::Sent;
use support::solo::Solo;
use support::solo::kinds;
use tandem::sip::endpoint::event::Command;
use tandem::sip::endpoint::event::Counter;
use tandem::sip::endpoint::event::DialogEnd;
use tandem::sip::endpoint::event::Event;
use tandem::sip::endpoint::event::Input;
use tandem::sip::endpoint::event::Refusal;
use tandem::sip::endpoint::flow::Flow;
use tandem::sip::endpoint::flow::FlowId;
use tandem::types::cause::HangupCause;
use tandem::types::limit::SIP_DIALOGS_MAX;
use tandem::types::peer_reason::PeerReason;
use tandem::types::transport::Advertised;
use tandem::types::transport::Transport;

/// A refusal as the call writes it.
fn refusal(status: u16, cause: HangupCause) -> Refusal {
    let (retry_after_s, headers) = (None, Vec::new());
    Refusal { status, cause, retry_after_s, headers, is_passed_on: false }
}

/// The seconds of its only Retry-After.
fn retry_after(sent: &Sent) -> u32 {
    let [after] = &sent.header("Retry-After")[..] else { panic!("{sent:?}") };
    after.parse().unwrap()
}

#[test]
fn an_answered_call_ends_with_the_peers_bye_and_leaves_nothing() {
    let mut solo = Solo::new();
    let invite = Script::invite("a");
    solo.receive(&invite.text());
    let trying = solo.take_one();
    assert_eq!(trying.kind(), "100");
    assert_eq!(trying.response().headers.to().tag(), None);
    let dialog = solo.take_invited();
    solo.command(Command::Progress { dialog, status: 180, body: None });
    solo.command(Command::Accept { dialog, body: SDP.into() });
    let sent = solo.take_sent();
    assert_eq!([sent[0].kind(), sent[1].kind()], ["180", "200"]);
    assert_eq!(sent[1].header("Contact"), ["<sip:+15550100@192.0.2.1:5060>"]);
    assert_eq!(sent[1].response().body, SDP);
    solo.receive(&invite.next("ACK", 1, &sent[1]).text());
    solo.receive(&invite.next("BYE", 2, &sent[1]).header("Reason: Q.850;cause=16").text());
    assert_eq!(solo.take_kinds(), ["200"]);
    let ended = "ended Bye { reason: Some(b\"Q.850;cause=16\") }";
    assert_eq!(kinds(&solo.take_events()), ["acknowledged", ended]);
    solo.advance(Duration::from_secs(33));
    solo.assert_empty();
}

#[test]
fn every_response_above_100_has_a_to_tag() {
    let mut solo = Solo::new();
    let invite = Script::invite("a");
    solo.receive(&invite.text());
    let dialog = solo.take_invited();
    for status in [180, 183] {
        solo.command(Command::Progress { dialog, status, body: None });
    }
    solo.command(Command::Accept { dialog, body: SDP.into() });
    let tags: Vec<String> = solo.take_sent().iter().skip(1).map(to_tag).collect();
    assert_eq!(tags.len(), 3);
    assert!(tags.iter().all(|tag| *tag == tags[0]), "{tags:?}");
    for other in ["OPTIONS", "REGISTER", "BYE", "CANCEL"] {
        solo.receive(&Script::new(other, "other").text());
        assert!(!to_tag(&solo.take_one()).is_empty(), "{other}");
    }
}

#[test]
fn a_duplicate_invite_in_proceeding_replays_the_last_1xx() {
    let mut solo = Solo::new();
    let invite = Script::invite("a").text();
    solo.receive(&invite);
    let trying = solo.take_one();
    solo.receive(&invite);
    assert_eq!(solo.take_one().bytes, trying.bytes);
    let dialog = solo.take_invited();
    solo.command(Command::Progress { dialog, status: 180, body: None });
    let ringing = solo.take_one();
    solo.receive(&invite);
    assert_eq!(solo.take_one().bytes, ringing.bytes);
    assert_eq!(solo.take_events().len(), 0);
}

#[test]
fn a_late_duplicate_invite_after_ack_opens_no_second_call() {
    let mut solo = Solo::new();
    let invite = Script::invite("a");
    established(&mut solo, &invite);
    for _ in 0..3 {
        solo.advance_ms(9_000);
        solo.receive(&invite.text());
    }
    assert_eq!((solo.take_kinds().len(), solo.take_events().len()), (0, 0));
    assert_eq!(solo.count(Counter::RetransmissionAbsorbed), 3);
}

#[test]
fn an_unacked_2xx_doubles_to_t2_and_ends_with_bye() {
    let mut solo = Solo::new();
    let invite = Script::invite("a");
    solo.receive(&invite.text());
    let dialog = solo.take_invited();
    solo.take_sent();
    let start = solo.now;
    solo.command(Command::Accept { dialog, body: SDP.into() });
    solo.advance(Duration::from_millis(32_000));
    let sent = solo.take_sent();
    let times: Vec<u128> = sent.iter().map(|it| it.at.since(start).as_millis()).collect();
    let expected = [0, 500, 1500, 3500, 7500, 11_500, 15_500, 19_500, 23_500, 27_500, 31_500];
    assert_eq!(times[..11], expected);
    assert!(sent[..11].iter().all(|it| it.bytes == sent[0].bytes && it.kind() == "200"));
    assert_eq!((sent[11].kind(), times[11], sent.len()), ("BYE".to_owned(), 32_000, 12));
    assert_eq!(sent[11].header("Reason"), ["Q.850;cause=102;text=\"ack_timeout\""]);
    assert_eq!(kinds(&solo.take_events()), ["ended AckTimeout"]);
    solo.receive(&support::script::answer(&sent[11], 200, None, "", ""));
    solo.advance(Duration::from_secs(33));
    solo.assert_empty();
}

#[test]
fn three_hundred_unacked_calls_are_released() {
    let mut solo = Solo::new();
    for number in 0..300 {
        solo.receive(&Script::invite(&format!("call-{number}")).text());
        let dialog = solo.take_invited();
        solo.command(Command::Accept { dialog, body: SDP.into() });
    }
    assert_eq!(solo.endpoint.gauges().dialogs, 300);
    solo.advance(Duration::from_secs(32));
    assert_eq!(kinds(&solo.take_events()), vec!["ended AckTimeout"; 300]);
    // Their calls are over; an answer to our BYEs could still ask for credentials, but none comes.
    assert_eq!(solo.endpoint.gauges().dialogs, 300);
    solo.advance(Duration::from_secs(33));
    solo.assert_empty();
    assert_eq!(solo.take_events().len(), 0);
}

#[test]
fn a_late_ack_stops_the_2xx() {
    let mut solo = Solo::new();
    let invite = Script::invite("a");
    solo.receive(&invite.text());
    let dialog = solo.take_invited();
    solo.command(Command::Accept { dialog, body: SDP.into() });
    solo.advance_ms(31_999);
    let ok = solo.take_last();
    let ack = invite.next("ACK", 1, &ok).text();
    solo.receive(&ack);
    solo.receive(&ack);
    solo.advance(Duration::from_secs(60));
    assert_eq!(solo.take_kinds().len(), 0);
    assert_eq!(kinds(&solo.take_events()), ["acknowledged"]);
    assert_eq!(solo.endpoint.gauges().dialogs, 1);
}

#[test]
fn an_ack_with_the_branch_of_its_invite_is_taken() {
    let mut solo = Solo::new();
    let invite = Script::invite("a");
    solo.receive(&invite.text());
    let dialog = solo.take_invited();
    solo.command(Command::Accept { dialog, body: SDP.into() });
    let ok = solo.take_last();
    solo.receive(&invite.next("ACK", 1, &ok).branch(&invite.branch).text());
    assert_eq!(kinds(&solo.take_events()), ["acknowledged"]);
}

#[test]
fn cancel_right_behind_invite_gets_200_and_487() {
    for number in 0..100 {
        let mut solo = Solo::new();
        let invite = Script::invite(&format!("c{number}"));
        solo.receive(&invite.text());
        solo.receive(&invite.cancel().header("Reason: SIP;cause=200").text());
        let sent = solo.take_sent();
        let found: Vec<String> = sent.iter().map(support::solo::Sent::kind).collect();
        assert_eq!(found, ["100", "200", "487"]);
        assert_eq!(sent[1].header("CSeq"), ["1 CANCEL"]);
        assert_eq!(sent[2].header("CSeq"), ["1 INVITE"]);
        assert_eq!(to_tag(&sent[1]), to_tag(&sent[2]));
        assert_eq!(kinds(&solo.take_events()), ["invited", "cancelled"]);
        // The call answers a moment too late.
        solo.receive(&invite.cancel().text());
        assert_eq!(solo.take_kinds(), ["200"]);
        solo.receive(&invite.ack_of_refusal(&sent[2]).text());
        assert_eq!(solo.take_kinds().len(), 0);
        solo.advance(Duration::from_secs(6));
        solo.assert_empty();
    }
}

#[test]
fn a_cancel_after_the_answer_changes_nothing() {
    let mut solo = Solo::new();
    let invite = Script::invite("a");
    established(&mut solo, &invite);
    solo.receive(&invite.cancel().text());
    assert_eq!((solo.take_kinds(), solo.take_events().len()), (vec!["200".to_owned()], 0));
    assert_eq!(solo.endpoint.gauges().dialogs, 1);
}

#[test]
fn a_stray_cancel_gets_481() {
    let mut solo = Solo::new();
    solo.receive(&Script::invite("a").cancel().text());
    assert_eq!(solo.take_kinds(), ["481"]);
    assert_eq!(solo.count(Counter::StrayCancel), 1);
    solo.assert_empty();
}

#[test]
fn a_late_accept_of_a_cancelled_call_is_counted_and_sends_nothing() {
    let mut solo = Solo::new();
    let invite = Script::invite("a");
    solo.receive(&invite.text());
    let dialog = solo.take_invited();
    solo.receive(&invite.cancel().text());
    solo.take_sent();
    for command in [
        Command::Accept { dialog, body: SDP.into() },
        Command::Progress { dialog, status: 180, body: None },
        Command::Refuse { dialog, refusal: refusal(486, HangupCause::Busy) },
        Command::AnswerReinvite { dialog, body: SDP.into() },
        Command::Acknowledge { dialog, body: None },
        Command::Reinvite { dialog, body: SDP.into() },
        Command::Hangup { dialog, cause: HangupCause::Normal },
    ] {
        solo.command(command);
    }
    assert_eq!(solo.take_kinds().len(), 0);
    assert_eq!(solo.count(Counter::SenselessCommand), 7);
}

#[test]
fn a_refusal_is_repeated_until_its_ack() {
    let mut solo = Solo::new();
    let invite = Script::invite("a");
    solo.receive(&invite.text());
    let dialog = solo.take_invited();
    solo.take_sent();
    let mut refusal = refusal(486, HangupCause::Busy);
    refusal.headers.push(("Warning".into(), b"399 x \"y\"".to_vec()));
    refusal.retry_after_s = Some(7);
    solo.command(Command::Refuse { dialog, refusal });
    assert_eq!(solo.endpoint.gauges().dialogs, 0);
    let start = solo.now;
    solo.advance_ms(8_000);
    let sent = solo.take_sent();
    let times: Vec<u128> = sent.iter().map(|it| it.at.since(start).as_millis()).collect();
    assert_eq!(times, [0, 500, 1500, 3500, 7500]);
    assert_eq!(sent[0].header("Reason"), ["Q.850;cause=17;text=\"busy\""]);
    assert!((7..=14).contains(&retry_after(&sent[0])));
    assert!(sent.iter().all(|again| again.bytes == sent[0].bytes), "each repetition says the same");
    assert_eq!(sent[0].header("Warning"), ["399 x \"y\""]);
    solo.receive(&invite.ack_of_refusal(&sent[0]).text());
    solo.advance_ms(4_999);
    solo.receive(&invite.text());
    assert_eq!((solo.take_kinds().len(), solo.take_events().len()), (0, 0));
    solo.advance_ms(1);
    solo.assert_empty();
}

#[test]
fn callers_who_are_turned_away_together_come_back_apart() {
    let mut solo = Solo::new();
    let mut told = HashSet::new();
    for call in 0..40 {
        solo.receive(&Script::invite(&format!("n{call}")).text());
        let dialog = solo.take_invited();
        solo.take_sent();
        let refusal = Refusal { retry_after_s: Some(5), ..refusal(503, HangupCause::TrunkLimit) };
        solo.command(Command::Refuse { dialog, refusal });
        told.insert(retry_after(&solo.take_one()));
    }
    assert!(told.iter().all(|after| (5..=10).contains(after)), "{told:?}");
    assert!(told.len() > 3, "{told:?}");
}

#[test]
fn a_refused_description_is_told_by_a_warning() {
    for (cause, warning) in [
        (HangupCause::SrtpMismatch, "302 sbc.example \"Incompatible transport protocol\""),
        (HangupCause::NoAudio, "304 sbc.example \"Media type not available\""),
        (HangupCause::NoCommonCodec, "305 sbc.example \"Incompatible media format\""),
        (HangupCause::BadSdp, "399 sbc.example \"Session description not usable\""),
    ] {
        let mut solo = Solo::new();
        let invite = Script::invite("a");
        solo.receive(&invite.text());
        let dialog = solo.take_invited();
        // As whom the peer knows us, and not by an address of ours.
        let advertised = Arc::new(Advertised { host: "sbc.example".to_owned(), port: None });
        solo.command(Command::Advertise { dialog, advertised: Arc::clone(&advertised) });
        solo.take_sent();
        solo.command(Command::Refuse { dialog, refusal: refusal(488, cause) });
        assert_eq!(solo.take_one().header("Warning"), [warning]);

        let mut solo = Solo::new();
        solo.receive(&invite.text());
        let dialog = solo.take_invited();
        solo.command(Command::Advertise { dialog, advertised });
        solo.command(Command::Accept { dialog, body: SDP.into() });
        let ok = solo.take_last();
        solo.receive(&invite.next("ACK", 1, &ok).text());
        let other = invite.next("INVITE", 2, &ok).body("application/sdp", SDP);
        solo.receive(&other.text());
        solo.take_sent();
        solo.command(Command::RefuseReinvite { dialog, status: 488, cause });
        assert_eq!(solo.take_one().header("Warning"), [warning], "within the call");
    }
    // What is no matter of descriptions has none, and what somebody else says none of ours.
    for (status, cause, is_passed_on) in [
        (486, HangupCause::Busy, false),
        (503, HangupCause::NoPorts, false),
        (488, HangupCause::NoCommonCodec, true),
    ] {
        let mut solo = Solo::new();
        solo.receive(&Script::invite("a").text());
        let dialog = solo.take_invited();
        solo.take_sent();
        let refusal = Refusal { is_passed_on, ..refusal(status, cause) };
        solo.command(Command::Refuse { dialog, refusal });
        assert!(solo.take_one().header("Warning").is_empty(), "{cause}");
    }
}

#[test]
fn a_refusal_never_acknowledged_is_given_up() {
    let mut solo = Solo::new();
    solo.receive(&Script::invite("a").text());
    let dialog = solo.take_invited();
    solo.command(Command::Refuse { dialog, refusal: refusal(404, HangupCause::UnknownNumber) });
    solo.advance(Duration::from_secs(32));
    assert_eq!(solo.count(Counter::AckTimeout), 1);
    solo.assert_empty();
}

#[test]
fn a_hang_up_before_the_answer_refuses_the_invite() {
    let mut solo = Solo::new();
    solo.receive(&Script::invite("a").text());
    let dialog = solo.take_invited();
    solo.take_sent();
    solo.command(Command::Hangup { dialog, cause: HangupCause::Normal });
    assert_eq!(solo.take_kinds(), ["480"]);
    assert_eq!(kinds(&solo.take_events()), ["ended ByeAnswered"]);
}

#[test]
fn a_hang_up_waits_for_the_ack() {
    let mut solo = Solo::new();
    let invite = Script::invite("a");
    solo.receive(&invite.text());
    let dialog = solo.take_invited();
    solo.command(Command::Accept { dialog, body: SDP.into() });
    let ok = solo.take_last();
    hangup(&mut solo, dialog);
    assert_eq!(solo.take_kinds().len(), 0);
    solo.receive(&invite.next("ACK", 1, &ok).text());
    let bye = solo.take_one();
    assert_eq!((bye.kind(), bye.header("CSeq")), ("BYE".to_owned(), vec!["1 BYE".to_owned()]));
    solo.receive(&support::script::answer(&bye, 200, None, "", ""));
    assert_eq!(kinds(&solo.take_events()), ["ended ByeAnswered"]);
    solo.advance(Duration::from_secs(33));
    solo.assert_empty();
}

#[test]
fn a_hang_up_without_any_ack_sends_bye_at_64_t1() {
    let mut solo = Solo::new();
    solo.receive(&Script::invite("a").text());
    let dialog = solo.take_invited();
    solo.command(Command::Accept { dialog, body: SDP.into() });
    hangup(&mut solo, dialog);
    solo.advance_ms(32_000);
    assert_eq!(solo.take_last().kind(), "BYE");
    assert_eq!(kinds(&solo.take_events()), ["ended ByeAnswered"]);
}

#[test]
fn an_unanswered_bye_of_ours_times_out() {
    let mut solo = Solo::new();
    let (dialog, _) = established(&mut solo, &Script::invite("a"));
    let start = solo.now;
    hangup(&mut solo, dialog);
    solo.advance_ms(32_000);
    let sent = solo.take_sent();
    let times: Vec<u128> = sent.iter().map(|it| it.at.since(start).as_millis()).collect();
    assert_eq!(times[..6], [0, 500, 1500, 3500, 7500, 11_500]);
    assert_eq!(kinds(&solo.take_events()), ["ended PeerTimeout"]);
    solo.advance(Duration::from_secs(33));
    solo.assert_empty();
}

#[test]
fn crossing_byes_are_both_answered() {
    let mut solo = Solo::new();
    let invite = Script::invite("a");
    let (dialog, ok) = established(&mut solo, &invite);
    hangup(&mut solo, dialog);
    let bye = solo.take_one();
    solo.receive(&invite.next("BYE", 2, &ok).text());
    assert_eq!(solo.take_kinds(), ["200"]);
    solo.receive(&support::script::answer(&bye, 481, None, "", ""));
    assert_eq!(kinds(&solo.take_events()), ["ended Bye { reason: None }"]);
    solo.advance(Duration::from_secs(33));
    solo.assert_empty();
}

#[test]
fn bye_follows_the_route_set() {
    let mut solo = Solo::new();
    let routes = "Record-Route: <sip:203.0.113.1:5062;lr>, <sip:203.0.113.2;lr>";
    let (dialog, ok) = established(&mut solo, &Script::invite("a").header(routes));
    assert_eq!(
        ok.header("Record-Route").join(", "),
        routes.strip_prefix("Record-Route: ").unwrap()
    );
    hangup(&mut solo, dialog);
    let bye = solo.take_one();
    let expected = ["<sip:203.0.113.1:5062;lr>", "<sip:203.0.113.2;lr>"];
    assert_eq!(bye.header("Route"), expected);
    assert_eq!(bye.request().uri.as_bytes(), "sip:caller@192.0.2.2:5060");
    assert_eq!(bye.flow.remote.to_string(), "203.0.113.1:5062");
}

#[test]
fn a_bye_before_the_answer_is_a_cancel() {
    let mut solo = Solo::new();
    let invite = Script::invite("a");
    solo.receive(&invite.text());
    let dialog = solo.take_invited();
    solo.command(Command::Progress { dialog, status: 180, body: None });
    let ringing = solo.take_last();
    solo.receive(&invite.next("BYE", 2, &ringing).text());
    assert_eq!(solo.take_kinds(), ["200", "487"]);
    assert_eq!(kinds(&solo.take_events()), ["cancelled"]);
}

#[test]
fn a_cseq_gap_is_accepted() {
    for number in [2, 5, 1000, 2_147_483_647] {
        let mut solo = Solo::new();
        let invite = Script::invite("a");
        let (_, ok) = established(&mut solo, &invite);
        solo.receive(&invite.next("BYE", number, &ok).text());
        assert_eq!(solo.take_kinds(), ["200"], "{number}");
    }
    let mut solo = Solo::new();
    let invite = Script::invite("a");
    let (_, ok) = established(&mut solo, &invite);
    solo.receive(&invite.next("OPTIONS", 9, &ok).text());
    solo.receive(&invite.next("OPTIONS", 8, &ok).text());
    solo.receive(&invite.next("INFO", 9, &ok).text());
    assert_eq!(solo.take_kinds(), ["200", "500", "500"]);
}

#[test]
fn methods_in_allow_are_answered() {
    let mut solo = Solo::new();
    let invite = Script::invite("a");
    let (dialog, ok) = established(&mut solo, &invite);
    let allow = ok.header("Allow").join(", ");
    let check = |solo: &mut Solo, method: &str, cseq: u32, expected: &str| {
        solo.receive(&invite.next(method, cseq, &ok).text());
        assert_eq!(solo.take_last().kind(), expected, "{method}");
        assert!(allow.contains(method), "{method}");
    };
    check(&mut solo, "OPTIONS", 2, "200");
    check(&mut solo, "UPDATE", 3, "200");
    check(&mut solo, "INFO", 4, "200");
    check(&mut solo, "INVITE", 5, "100");
    solo.command(Command::AnswerReinvite { dialog, body: SDP.into() });
    assert_eq!(solo.take_last().kind(), "200");
    check(&mut solo, "BYE", 6, "200");
}

#[test]
fn an_in_dialog_request_nobody_takes_is_still_answered() {
    let mut solo = Solo::new();
    let invite = Script::invite("a");
    let (_, ok) = established(&mut solo, &invite);
    let cases = [
        ("REFER", "603"),
        ("NOTIFY", "489"),
        ("PRACK", "481"),
        ("MESSAGE", "405"),
        ("SUBSCRIBE", "405"),
        ("PUBLISH", "405"),
        ("REGISTER", "405"),
        ("FOO", "405"),
    ];
    for (number, (method, expected)) in (2..).zip(cases) {
        solo.receive(&invite.next(method, number, &ok).text());
        let sent = solo.take_one();
        assert_eq!(sent.kind(), expected, "{method}");
        assert_eq!(sent.header("Allow").is_empty(), expected != "405", "{method}");
    }
    assert_eq!(solo.endpoint.gauges().dialogs, 1);
}

#[test]
fn a_request_in_an_unknown_dialog_gets_481() {
    let mut solo = Solo::new();
    let invite = Script::invite("a");
    let (_, ok) = established(&mut solo, &invite);
    let known = invite.next("BYE", 2, &ok);
    let wrong = [
        Script { to_tag: Some("0123456789abcdef".to_owned()), ..known.clone() },
        Script { to_tag: Some("x".to_owned()), ..known.clone() },
        Script { from_tag: "other".to_owned(), ..known.clone() },
        Script { call_id: "other".to_owned(), ..known.clone() },
    ];
    for (number, script) in wrong.iter().enumerate() {
        solo.receive(&script.clone().branch(&format!("z9hG4bKw{number}")).text());
        assert_eq!(solo.take_one().kind(), "481", "{number}");
    }
    solo.receive(&Script::new("INFO", "none").text());
    solo.receive(&Script::new("PRACK", "none").text());
    assert_eq!(solo.take_kinds(), ["481", "481"]);
    assert_eq!(solo.endpoint.gauges().dialogs, 1);
    solo.receive(&invite.next("ACK", 1, &ok).header("X: y").text());
    solo.receive(&Script::new("ACK", "none").text());
    assert_eq!((solo.take_kinds().len(), solo.count(Counter::StrayAck)), (0, 1));
}

#[test]
fn info_brings_a_digit() {
    let mut solo = Solo::new();
    let invite = Script::invite("a");
    let (_, ok) = established(&mut solo, &invite);
    let info = |number, kind, body| invite.next("INFO", number, &ok).body(kind, body).text();
    solo.receive(&info(2, "application/dtmf-relay", "Signal=7\r\nDuration=160\r\n"));
    solo.receive(&info(3, "application/dtmf-relay", "Signal=?\r\n"));
    solo.receive(&info(4, "application/media_control+xml", "<x/>"));
    solo.receive(&invite.next("INFO", 5, &ok).header("Info-Package: foo").text());
    solo.receive(&info(6, "application/dtmf", "8"));
    solo.receive(&info(7, "application/dtmf", "?"));
    assert_eq!(solo.take_kinds(), ["200", "400", "415", "469", "200", "400"]);
    assert_eq!(kinds(&solo.take_events()), ["digit 7 160", "digit 8 0"]);
}

#[test]
fn a_reinvite_is_answered_by_the_call() {
    let mut solo = Solo::new();
    let invite = Script::invite("a");
    let (dialog, ok) = established(&mut solo, &invite);
    let hold = invite.next("INVITE", 2, &ok).body("application/sdp", "v=0\r\na=sendonly\r\n");
    solo.receive(&hold.text());
    solo.receive(&hold.text());
    assert_eq!(solo.take_kinds(), ["100", "100"]);
    assert_eq!(kinds(&solo.take_events()), ["reinvited"]);
    solo.command(Command::AnswerReinvite { dialog, body: SDP.into() });
    let again = solo.take_one();
    assert_eq!((again.kind(), to_tag(&again)), ("200".to_owned(), to_tag(&ok)));
    solo.advance_ms(500);
    assert_eq!(solo.take_one().bytes, again.bytes);
    solo.receive(&hold.next("ACK", 2, &again).text());
    solo.advance_ms(10_000);
    assert_eq!(solo.take_kinds().len(), 0);
    assert_eq!(kinds(&solo.take_events()), ["acknowledged"]);
}

#[test]
fn a_refused_reinvite_leaves_the_call_as_it_was() {
    let mut solo = Solo::new();
    let invite = Script::invite("a");
    let (dialog, ok) = established(&mut solo, &invite);
    let fax = invite.next("INVITE", 2, &ok).body("application/sdp", SDP);
    solo.receive(&fax.text());
    solo.take_sent();
    let cause = HangupCause::NoCommonCodec;
    solo.command(Command::RefuseReinvite { dialog, status: 488, cause });
    let refused = solo.take_one();
    assert_eq!(refused.kind(), "488");
    solo.receive(&fax.ack_of_refusal(&refused).text());
    solo.receive(&invite.next("OPTIONS", 3, &ok).text());
    assert_eq!(solo.take_kinds(), ["200"]);
    assert_eq!(solo.endpoint.gauges().dialogs, 1);
}

#[test]
fn a_reinvite_without_sdp_asks_for_our_offer() {
    let mut solo = Solo::new();
    let invite = Script::invite("a");
    let (dialog, ok) = established(&mut solo, &invite);
    let bare = invite.next("INVITE", 2, &ok);
    solo.receive(&bare.text());
    assert_eq!(kinds(&solo.take_events()), ["reinvited without body"]);
    solo.command(Command::AnswerReinvite { dialog, body: SDP.into() });
    // Until the answer is here no other offer can be taken.
    solo.receive(&invite.next("INVITE", 3, &ok).body("application/sdp", SDP).text());
    let sent = solo.take_sent();
    assert_eq!(sent.last().unwrap().kind(), "491");
    let answer = bare.next("ACK", 2, &ok).body("application/sdp", SDP);
    solo.receive(&answer.text());
    assert_eq!(kinds(&solo.take_events()), ["acknowledged with body"]);
}

#[test]
fn an_update_before_the_ack_of_our_offer_gets_491_and_the_call_goes_on() {
    let mut solo = Solo::new();
    let invite = Script::new("INVITE", "a");
    solo.receive(&invite.text());
    let dialog = solo.take_invited();
    solo.command(Command::Accept { dialog, body: SDP.into() });
    let ok = solo.take_last();
    solo.receive(&invite.next("UPDATE", 2, &ok).body("application/sdp", SDP).text());
    assert_eq!(solo.take_kinds(), ["491"]);
    assert!(solo.take_events().is_empty(), "the answer to our offer is still awaited");
    solo.receive(&invite.next("ACK", 1, &ok).body("application/sdp", SDP).text());
    assert_eq!(kinds(&solo.take_events()), ["acknowledged with body"]);
}

#[test]
fn an_invite_without_sdp_gets_our_offer() {
    let mut solo = Solo::new();
    let invite = Script::new("INVITE", "a");
    solo.receive(&invite.text());
    let dialog = solo.take_invited();
    solo.command(Command::Accept { dialog, body: SDP.into() });
    let ok = solo.take_last();
    assert_eq!(ok.response().body, SDP);
    solo.receive(&invite.next("ACK", 1, &ok).body("application/sdp", SDP).text());
    assert_eq!(kinds(&solo.take_events()), ["acknowledged with body"]);
}

#[test]
fn a_second_invite_while_the_first_is_unanswered_gets_500_with_retry_after() {
    let mut solo = Solo::new();
    let invite = Script::invite("a");
    let (_, ok) = established(&mut solo, &invite);
    solo.receive(&invite.next("INVITE", 2, &ok).text());
    solo.receive(&invite.next("INVITE", 3, &ok).text());
    let refused = solo.take_last();
    assert_eq!(refused.kind(), "500");
    let wait: u32 = refused.header("Retry-After")[0].parse().unwrap();
    assert!(wait <= 10, "{wait}");
    assert_eq!(kinds(&solo.take_events()), ["reinvited without body"]);
}

#[test]
fn glare_gets_491_and_one_side_retries_first() {
    let mut solo = Solo::new();
    let invite = Script::invite("a");
    let (dialog, ok) = established(&mut solo, &invite);
    solo.command(Command::Reinvite { dialog, body: SDP.into() });
    let ours = solo.take_one();
    let theirs = invite.next("INVITE", 2, &ok);
    solo.receive(&theirs.text());
    let refused = solo.take_last();
    assert_eq!(refused.kind(), "491");
    solo.receive(&theirs.ack_of_refusal(&refused).text());
    solo.receive(&support::script::answer(&ours, 491, None, "", ""));
    let start = solo.now;
    assert_eq!(solo.take_one().kind(), "ACK");
    // The Call-ID is the peer's: we wait no longer than 2 s, so we are first.
    while solo.events.is_empty() {
        solo.advance_ms(10);
    }
    assert!(solo.now.since(start) <= Duration::from_secs(2));
    let waited = "reinvite refused 491 has_waited";
    assert_eq!(kinds(&solo.take_events()).last().map(String::as_str), Some(waited));
    assert_eq!(solo.take_kinds().len(), 0, "what is offered then is for the call to say");
    solo.command(Command::Reinvite { dialog, body: SDP.into() });
    let again = solo.take_one();
    assert_eq!(again.header("CSeq"), ["2 INVITE"]);
    assert_ne!(again.header("Via"), ours.header("Via"));
    solo.receive(&support::script::answer(&again, 200, None, support::script::CALLED, SDP));
    assert_eq!(solo.take_last().kind(), "ACK");
    assert_eq!(kinds(&solo.take_events()), ["reinvite answered"]);
}

#[test]
fn a_cancelled_reinvite_gets_487_and_the_call_goes_on() {
    let mut solo = Solo::new();
    let invite = Script::invite("a");
    let (dialog, ok) = established(&mut solo, &invite);
    let again = invite.next("INVITE", 2, &ok);
    solo.receive(&again.text());
    solo.receive(&again.cancel().text());
    assert_eq!(solo.take_kinds(), ["100", "200", "487"]);
    solo.command(Command::AnswerReinvite { dialog, body: SDP.into() });
    assert_eq!(solo.take_kinds().len(), 0);
    assert_eq!(solo.endpoint.gauges().dialogs, 1);
}

#[test]
fn a_reinvite_moves_the_target_of_our_bye() {
    let mut solo = Solo::new();
    let invite = Script::invite("a");
    let (dialog, ok) = established(&mut solo, &invite);
    let mut again = invite.next("UPDATE", 2, &ok);
    again.contact = Some("<sip:moved@192.0.2.77:5099>".to_owned());
    solo.receive(&again.text());
    assert_eq!(solo.take_one().kind(), "200");
    hangup(&mut solo, dialog);
    let bye = solo.take_one();
    assert_eq!(bye.request().uri.as_bytes(), "sip:moved@192.0.2.77:5099");
    assert_eq!(bye.flow.remote.to_string(), "192.0.2.77:5099");
}

#[test]
fn an_update_with_an_offer_is_answered_by_the_call_without_ack() {
    let mut solo = Solo::new();
    let invite = Script::invite("a");
    let (dialog, ok) = established(&mut solo, &invite);
    let update = invite.next("UPDATE", 2, &ok).body("application/sdp", SDP);
    solo.receive(&update.text());
    assert_eq!(kinds(&solo.take_events()), ["reinvited"]);
    solo.receive(&invite.next("UPDATE", 3, &ok).body("application/sdp", SDP).text());
    assert_eq!(solo.take_kinds(), ["500"]);
    solo.command(Command::AnswerReinvite { dialog, body: SDP.into() });
    assert_eq!(solo.take_one().kind(), "200");
    solo.advance(Duration::from_secs(60));
    assert_eq!(solo.take_kinds().len(), 0);
}

#[test]
fn a_bye_with_a_pending_reinvite_answers_both() {
    let mut solo = Solo::new();
    let invite = Script::invite("a");
    let (_, ok) = established(&mut solo, &invite);
    solo.receive(&invite.next("INVITE", 2, &ok).text());
    solo.take_sent();
    solo.receive(&invite.next("BYE", 3, &ok).text());
    assert_eq!(solo.take_kinds(), ["200", "487"]);
}

#[test]
fn a_reinvite_before_the_ack_counts_as_the_ack() {
    let mut solo = Solo::new();
    let invite = Script::invite("a");
    solo.receive(&invite.text());
    let dialog = solo.take_invited();
    solo.command(Command::Accept { dialog, body: SDP.into() });
    let ok = solo.take_last();
    solo.receive(&invite.next("INVITE", 2, &ok).body("application/sdp", SDP).text());
    assert_eq!(kinds(&solo.take_events()), ["acknowledged", "reinvited"]);
    solo.receive(&invite.next("ACK", 1, &ok).text());
    assert_eq!(solo.take_events().len(), 0);
}

#[test]
fn a_reinvite_before_the_ack_lets_a_hang_up_go_that_waited_for_it() {
    let mut solo = Solo::new();
    let invite = Script::invite("a");
    solo.receive(&invite.text());
    let dialog = solo.take_invited();
    solo.command(Command::Accept { dialog, body: SDP.into() });
    let ok = solo.take_last();
    hangup(&mut solo, dialog);
    let again = invite.next("INVITE", 2, &ok).body("application/sdp", SDP);
    solo.receive(&again.text());
    let sent = solo.take_sent();
    assert_eq!(sent.iter().map(Sent::kind).collect::<Vec<_>>(), ["100", "481", "BYE"]);
    solo.receive(&again.ack_of_refusal(&sent[1]).text());
    solo.receive(&invite.next("ACK", 1, &ok).text());
    solo.receive(&support::script::answer(&sent[2], 200, None, "", ""));
    assert_eq!(kinds(&solo.take_events()), ["ended ByeAnswered"]);
    solo.advance(Duration::from_secs(65));
    solo.assert_empty();
}

#[test]
fn ringing_is_repeated_every_minute() {
    let mut solo = Solo::new();
    solo.receive(&Script::invite("a").text());
    let dialog = solo.take_invited();
    solo.command(Command::Progress { dialog, status: 180, body: None });
    solo.take_sent();
    solo.advance(Duration::from_secs(125));
    assert_eq!(solo.take_kinds(), ["180", "180"]);
}

#[test]
fn a_stream_transaction_ends_at_once_and_the_contact_names_it() {
    let mut solo = Solo::over(Transport::Tcp);
    let invite = Script { transport: "TCP", ..Script::invite("a") };
    solo.receive(&invite.text());
    let dialog = solo.take_invited();
    solo.command(Command::Refuse { dialog, refusal: refusal(486, HangupCause::Busy) });
    let refused = solo.take_last();
    solo.advance_ms(4_000);
    assert_eq!(solo.take_kinds().len(), 0);
    solo.receive(&invite.ack_of_refusal(&refused).text());
    solo.assert_empty();
    solo.receive(&Script { transport: "TCP", ..Script::invite("b") }.text());
    let dialog = solo.take_invited();
    solo.command(Command::Accept { dialog, body: SDP.into() });
    let contact = solo.take_last().header("Contact");
    assert_eq!(contact, ["<sip:+15550100@192.0.2.1:5060;transport=tcp>"]);
}

#[test]
fn a_lost_stream_ends_only_what_cannot_go_on() {
    let mut solo = Solo::over(Transport::Tcp);
    let script = |call| Script { transport: "TCP", ..Script::invite(call) };
    let (dialog, _) = established(&mut solo, &script("answered"));
    solo.receive(&script("ringing").text());
    solo.take_invited();
    solo.take_sent();
    // Nobody has said how that caller is reached by another connection.
    solo.input(Input::FlowClosed(FlowId(1)));
    assert_eq!(kinds(&solo.take_events()), ["ended FlowLost"]);
    assert_eq!((solo.take_kinds().len(), solo.endpoint.gauges().dialogs), (0, 1));
    assert_eq!(solo.count(Counter::ResponseOnClosedFlow), 1);
    hangup(&mut solo, dialog);
    let bye = solo.take_one();
    assert_eq!((bye.flow.id, bye.flow.remote.to_string()), (FlowId::ANY, "192.0.2.2:5060".into()));
    solo.advance(Duration::from_secs(64));
    solo.assert_empty();
}

#[test]
fn a_peer_that_reconnects_is_followed() {
    let mut solo = Solo::over(Transport::Tcp);
    let invite = Script { transport: "TCP", ..Script::invite("a") };
    let (dialog, ok) = established(&mut solo, &invite);
    solo.input(Input::FlowClosed(FlowId(1)));
    let other = Flow { id: FlowId(2), ..solo.flow };
    solo.receive_by(other, &invite.next("OPTIONS", 2, &ok).text());
    assert_eq!(solo.take_one().flow.id, FlowId(2));
    hangup(&mut solo, dialog);
    assert_eq!(solo.take_one().flow.id, FlowId(2));
    solo.input(Input::FlowClosed(FlowId(2)));
    assert_eq!(kinds(&solo.take_events()), ["ended PeerTimeout"]);
    solo.advance(Duration::from_secs(32));
    solo.assert_empty();
}

#[test]
fn a_full_shard_gets_503_and_keeps_its_dialogs() {
    let mut solo = Solo::new();
    let invite = Script::invite("first");
    let (_, ok) = established(&mut solo, &invite);
    for number in 1..SIP_DIALOGS_MAX {
        solo.receive(&Script::invite(&format!("n{number}")).text());
    }
    solo.take_sent();
    solo.take_events();
    assert_eq!(solo.endpoint.gauges().dialogs, SIP_DIALOGS_MAX);
    solo.receive(&Script::invite("too many").text());
    let refused = solo.take_one();
    assert_eq!(refused.kind(), "503");
    assert!((2..=4).contains(&retry_after(&refused)), "{refused:?}");
    assert_eq!(solo.count(Counter::ShardFull), 1);
    assert_eq!(kinds(&solo.take_events()), ["declined 503 overload"]);
    solo.receive(&invite.next("BYE", 2, &ok).text());
    assert_eq!(solo.take_one().kind(), "200");
}

#[test]
fn a_source_that_proved_nothing_is_refused_once_and_nothing_is_kept() {
    let mut solo = Solo::new();
    let invite = Script::invite("a");
    let mut refused = Vec::new();
    for _ in 0..2 {
        solo.receive_unproven(&invite.text());
        assert_eq!(solo.take_sent().len(), 0, "not even 100");
        let dialog = solo.take_invited();
        let mut refusal = refusal(401, HangupCause::CredentialsRequired);
        refusal.headers = vec![("WWW-Authenticate".into(), b"Digest realm=\"r\"".to_vec())];
        solo.command(Command::RefuseOnce { dialog, refusal, bytes_max: None });
        let answer = solo.take_one();
        assert_eq!((answer.kind().as_str(), answer.header("WWW-Authenticate").len()), ("401", 1));
        refused.push(answer);
        solo.assert_empty();
    }
    // Whoever repeats the INVITE hears the same tag (RFC 3261 §8.2.7).
    assert_eq!(to_tag(&refused[0]), to_tag(&refused[1]));
    assert_ne!(to_tag(&refused[0]), "");
    solo.advance(Duration::from_secs(33));
    assert_eq!(solo.take_sent().len(), 0, "no timer G");
    solo.receive_unproven(&invite.ack_of_refusal(&refused[0]).text());
    assert_eq!(solo.count(Counter::StrayAck), 0, "its ACK is known by its tag");
    let other = Script::invite("b").next("ACK", 1, &refused[0]);
    solo.receive_unproven(&other.text());
    assert_eq!((solo.count(Counter::StrayAck), solo.take_sent().len()), (1, 0));
    assert_eq!(solo.count(Counter::RefusedOnce), 2);
}

#[test]
fn an_answer_that_would_be_too_long_for_an_unproven_source_is_withheld() {
    let mut solo = Solo::new();
    let mut sent = |bytes_max| {
        solo.receive_unproven(&Script::invite("a").text());
        let (dialog, refusal) = (solo.take_invited(), refusal(403, HangupCause::BadCredentials));
        solo.command(Command::RefuseOnce { dialog, refusal, bytes_max });
        let lengths: Vec<usize> = solo.take_sent().iter().map(|sent| sent.bytes.len()).collect();
        solo.assert_empty();
        (lengths, solo.count(Counter::RefusalWithheld))
    };
    let (lengths, _) = sent(None);
    let [length] = lengths[..] else { panic!("{lengths:?}") };
    assert_eq!(sent(Some(length)), (vec![length], 0));
    assert_eq!(sent(Some(length - 1)), (Vec::new(), 1));
}

#[test]
fn an_unproven_source_gets_its_100_once_its_call_is_taken_on() {
    let mut solo = Solo::new();
    let invite = Script::invite("a");
    solo.receive_unproven(&invite.text());
    assert_eq!(solo.take_sent().len(), 0);
    let dialog = solo.take_invited();
    let policy = support::config(7, "192.0.2.1").policy;
    solo.command(Command::Adopt { dialog, policy });
    assert_eq!(solo.take_kinds(), ["100"]);
    solo.receive_unproven(&invite.text());
    assert_eq!((solo.take_kinds(), solo.take_events().len()), (vec!["100".to_owned()], 0));
    // Of a proven one it was said already.
    solo.receive(&Script::invite("b").text());
    let dialog = solo.take_invited();
    assert_eq!(solo.take_kinds(), ["100"]);
    solo.command(Command::Adopt { dialog, policy });
    assert_eq!(solo.take_sent().len(), 0);
}

#[test]
fn of_several_reasons_of_a_bye_the_one_with_a_cause_of_q850_is_told() {
    let told = |reason: &str| {
        let mut solo = Solo::new();
        let invite = Script::invite("a");
        let (_, answer) = established(&mut solo, &invite);
        solo.receive(&invite.next("BYE", 2, &answer).header(reason).text());
        kinds(&solo.take_events())
    };
    let ended = |reason: &[u8]| {
        let how = DialogEnd::Bye { reason: Some(reason.to_vec().into()) };
        [format!("ended {how:?}")]
    };
    let two = "Reason: SIP;cause=200;text=\"a, b\", Q.850;cause=41;text=\"Temporary failure\"";
    assert_eq!(told(two), ended(b"Q.850;cause=41;text=\"Temporary failure\""));
    assert_eq!(told("Reason: SIP;cause=200, X;cause=41"), ended(b"SIP;cause=200"));
    assert_eq!(told("Reason: ;;garbage"), ended(b";;garbage"));
}

#[test]
fn of_several_reasons_of_a_cancel_that_is_told_by_which_another_has_answered() {
    for (said, told) in [
        ("Reason: Q.850;cause=16, SIP;cause=200", "SIP;cause=200"),
        ("Reason: SIP;cause=487, Q.850;cause=26", "Q.850;cause=26"),
        ("Reason: SIP;cause=487, Q.850;cause=16", "Q.850;cause=16"),
        ("Reason: SIP;cause=487, X;cause=200", "SIP;cause=487"),
    ] {
        let mut solo = Solo::new();
        let invite = Script::invite("a");
        solo.receive(&invite.text());
        solo.take_invited();
        solo.receive(&invite.cancel().header(said).text());
        let events = solo.take_events();
        let [Event::Cancelled { reason: Some(reason), .. }] = events.as_slice() else {
            panic!("{said}: {events:?}")
        };
        assert_eq!(reason.escape_ascii().to_string(), told, "{said}");
    }
}

#[test]
fn a_bye_gives_the_reason_of_another_peer_where_there_is_one() {
    let mut solo = Solo::new();
    let invite = Script::invite("a");
    let (dialog, _) = established(&mut solo, &invite);
    let reason = PeerReason::new(b"Q.850", Some(41), Some(b"Temporary \r\nfailure\""));
    solo.command(Command::Explain { dialog, reason: Box::new(reason.unwrap()) });
    assert_eq!(solo.take_sent().len(), 0);
    solo.command(Command::Hangup { dialog, cause: HangupCause::Normal });
    let bye = solo.take_one();
    assert_eq!(bye.kind(), "BYE");
    assert_eq!(bye.header("Reason"), ["Q.850;cause=41;text=\"Temporary failure\""]);
}
