//! Session timers (RFC 4028) in both roles, in virtual time.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a failed check may panic")]

mod support;

use std::time::Duration;
use support::SDP;
use support::script::CALLED;
use support::script::Script;
use support::script::answer;
use support::script::connected;
use support::script::established;
use support::solo::Sent;
use support::solo::Solo;
use support::solo::kinds;
use tandem::sip::endpoint::event::Command;
use tandem::sip::endpoint::event::DialogId;

/// A call with a session timer that the peer asked for.
fn timed(solo: &mut Solo, lines: &[&str]) -> (DialogId, Sent, Script) {
    let invite = lines.iter().fold(Script::invite("a"), |script, line| script.header(line));
    let (dialog, ok) = established(solo, &invite);
    (dialog, ok, invite)
}

#[test]
fn the_uas_never_raises_session_expires() {
    let mut solo = Solo::new();
    let lines = ["Supported: 100rel, timer", "Session-Expires: 600;refresher=uac"];
    let (_, ok, _) = timed(&mut solo, &lines);
    assert_eq!(ok.header("Session-Expires"), ["600;refresher=uac"]);
    assert_eq!(ok.header("Require"), ["timer"]);
}

#[test]
fn a_session_nobody_refreshes_ends_with_bye() {
    let mut solo = Solo::new();
    timed(&mut solo, &["Supported: timer", "Session-Expires: 1800"]);
    solo.advance(Duration::from_secs(1767));
    assert_eq!((solo.take_kinds().len(), solo.endpoint.gauges().dialogs), (0, 1));
    solo.advance(Duration::from_secs(1));
    let bye = solo.take_one();
    assert_eq!(bye.header("Reason"), ["Q.850;cause=102;text=\"session_expired\""]);
    assert_eq!(kinds(&solo.take_events()), ["ended SessionExpired"]);
}

#[test]
fn a_refresh_at_900_s_is_answered() {
    for method in ["UPDATE", "INVITE"] {
        let mut solo = Solo::new();
        let (dialog, ok, invite) = timed(&mut solo, &["Supported: timer", "Session-Expires: 1800"]);
        for round in 0..4 {
            solo.advance(Duration::from_secs(900));
            let mut refresh = invite
                .next(method, 2 + round, &ok)
                .header("Supported: timer")
                .header("Session-Expires: 1800;refresher=uac");
            if method == "INVITE" {
                refresh = refresh.body("application/sdp", SDP);
            }
            solo.receive(&refresh.text());
            if method == "INVITE" {
                solo.command(Command::AnswerReinvite { dialog, body: SDP.into() });
            }
            let answer = solo.take_last();
            assert_eq!(answer.kind(), "200", "{method}");
            assert_eq!(answer.header("Session-Expires"), ["1800;refresher=uac"]);
            solo.receive(&refresh.next("ACK", 2 + round, &ok).text());
        }
        solo.advance(Duration::from_secs(1767));
        assert_eq!(solo.endpoint.gauges().dialogs, 1, "{method}");
        solo.advance(Duration::from_secs(2));
        assert_eq!(solo.take_last().kind(), "BYE");
    }
}

#[test]
fn a_refresh_without_a_running_timer_is_answered_too() {
    let mut solo = Solo::new();
    let (_, ok, invite) = timed(&mut solo, &[]);
    solo.advance(Duration::from_secs(900));
    solo.receive(&invite.next("UPDATE", 2, &ok).text());
    assert_eq!(solo.take_kinds(), ["200"]);
    solo.advance(Duration::from_secs(7200));
    assert_eq!(solo.endpoint.gauges().dialogs, 1);
}

#[test]
fn a_session_refresh_does_not_block_the_call() {
    let mut solo = Solo::new();
    let lines = ["Supported: timer", "Session-Expires: 600;refresher=uas", "Allow: INVITE, UPDATE"];
    let (_, ok, invite) = timed(&mut solo, &lines);
    assert_eq!(ok.header("Session-Expires"), ["600;refresher=uas"]);
    solo.advance(Duration::from_secs(300));
    let refresh = solo.take_one();
    assert_eq!((refresh.kind(), refresh.request().body.len()), ("UPDATE".to_owned(), 0));
    assert_eq!(refresh.header("Session-Expires"), ["600;refresher=uac"]);
    // While it is on its way everything else goes on.
    solo.receive(&invite.next("OPTIONS", 2, &ok).text());
    assert_eq!(solo.take_one().kind(), "200");
    let lines = "Supported: timer\r\nSession-Expires: 600;refresher=uac\r\n";
    solo.receive(&answer(&refresh, 200, None, lines, ""));
    solo.advance(Duration::from_secs(299));
    assert_eq!(solo.take_kinds().len(), 0);
    solo.advance(Duration::from_secs(1));
    assert_eq!(solo.take_one().kind(), "UPDATE");
    assert_eq!(solo.take_events().len(), 0);
}

#[test]
fn without_update_the_refresh_is_a_reinvite_with_the_last_description() {
    let mut solo = Solo::new();
    let lines = ["Supported: timer", "Session-Expires: 600;refresher=uas", "Allow: INVITE, ACK"];
    timed(&mut solo, &lines);
    solo.advance(Duration::from_secs(300));
    let refresh = solo.take_one();
    assert_eq!((refresh.kind(), refresh.request().body), ("INVITE".to_owned(), SDP.into()));
    let lines = format!("{CALLED}Session-Expires: 600;refresher=uac\r\n");
    solo.receive(&answer(&refresh, 200, None, &lines, SDP));
    assert_eq!(solo.take_one().kind(), "ACK");
    assert_eq!(kinds(&solo.take_events()), ["refreshed"]);
}

#[test]
fn an_update_refused_405_is_tried_as_reinvite() {
    let mut solo = Solo::new();
    let lines = ["Supported: timer", "Session-Expires: 600;refresher=uas", "Allow: UPDATE"];
    timed(&mut solo, &lines);
    solo.advance(Duration::from_secs(300));
    let refresh = solo.take_one();
    solo.receive(&answer(&refresh, 405, None, "", ""));
    assert_eq!(solo.take_one().kind(), "INVITE");
}

#[test]
fn a_refresh_refused_422_is_tried_with_a_longer_interval() {
    let mut solo = Solo::new();
    let lines = ["Supported: timer", "Session-Expires: 100;refresher=uas", "Allow: UPDATE"];
    timed(&mut solo, &lines);
    solo.advance(Duration::from_secs(50));
    let refresh = solo.take_one();
    solo.receive(&answer(&refresh, 422, None, "Min-SE: 300\r\n", ""));
    assert_eq!(solo.take_one().header("Session-Expires"), ["300;refresher=uac"]);
}

/// A call of 600 s intervals that we refresh by UPDATE; its first refresh is out.
fn refreshing(solo: &mut Solo) -> Sent {
    let lines = ["Supported: timer", "Session-Expires: 600;refresher=uas", "Allow: UPDATE"];
    timed(solo, &lines);
    solo.advance(Duration::from_secs(300));
    solo.take_one()
}

/// The seconds after a first refusal at which the refresh goes out again, each refused alike, and how the
/// call ends.
fn tried_again(status: u16, lines: &str) -> (Vec<u64>, Vec<String>) {
    let mut solo = Solo::new();
    let refresh = refreshing(&mut solo);
    solo.receive(&answer(&refresh, status, None, lines, ""));
    let (mut at, mut seconds) = (Vec::new(), 0);
    loop {
        let events = solo.take_events();
        if !events.is_empty() {
            return (at, kinds(&events));
        }
        solo.advance(Duration::from_secs(1));
        seconds += 1;
        for sent in solo.take_sent() {
            if sent.kind() == "UPDATE" {
                at.push(seconds);
                solo.receive(&answer(&sent, status, None, lines, ""));
            }
        }
    }
}

#[test]
fn a_refresh_answered_408_or_481_or_not_at_all_ends_the_call() {
    for status in [408, 481] {
        let mut solo = Solo::new();
        let refresh = refreshing(&mut solo);
        solo.receive(&answer(&refresh, status, None, "", ""));
        assert_eq!(solo.take_kinds(), ["BYE"], "{status}");
        assert_eq!(kinds(&solo.take_events()), ["ended PeerTimeout"], "{status}");
    }
    let mut solo = Solo::new();
    refreshing(&mut solo);
    solo.advance(Duration::from_secs(32));
    assert_eq!(kinds(&solo.take_events()), ["ended PeerTimeout"]);
    assert_eq!(solo.take_last().kind(), "BYE");
}

#[test]
fn a_refresh_refused_for_a_trouble_that_may_pass_is_tried_again_until_the_session_expires() {
    let expired = vec!["ended SessionExpired".to_owned()];
    // The session ends 268 s after its refresh.
    for status in [480, 500, 503, 504] {
        let (at, end) = tried_again(status, "");
        assert_eq!((at, &end), (vec![10, 30, 70, 150], &expired), "{status}");
    }
    assert_eq!(tried_again(503, "Retry-After: 100\r\n"), (vec![100, 200], expired.clone()));
    assert_eq!(tried_again(403, "Retry-After: 260\r\n"), (vec![260], expired.clone()));
    // At the peer's word it would come too late; and what no word says more of is not asked again.
    assert_eq!(tried_again(503, "Retry-After: 300\r\n"), (Vec::new(), expired.clone()));
    assert_eq!(tried_again(403, ""), (Vec::new(), expired.clone()));
    let (at, _) = tried_again(500, "Retry-After: 0\r\n");
    assert!(at.len() < 140, "a peer that wants it at once gets it every two seconds: {at:?}");
}

#[test]
fn a_refresh_that_succeeds_after_a_refusal_begins_a_whole_interval() {
    let mut solo = Solo::new();
    let refresh = refreshing(&mut solo);
    solo.receive(&answer(&refresh, 503, None, "Retry-After: 200\r\n", ""));
    solo.advance(Duration::from_secs(200));
    let again = solo.take_one();
    let agreed = "Supported: timer\r\nSession-Expires: 600;refresher=uac\r\n";
    solo.receive(&answer(&again, 200, None, agreed, ""));
    solo.advance(Duration::from_secs(299));
    assert_eq!((solo.take_kinds().len(), solo.take_events().len()), (0, 0));
    solo.advance(Duration::from_secs(1));
    assert_eq!(solo.take_one().kind(), "UPDATE");
}

#[test]
fn session_timers_work_in_both_roles() {
    // We called, and the called side wants us to refresh.
    let mut solo = Solo::new();
    let lines = format!("{CALLED}Session-Expires: 180;refresher=uac\r\nAllow: UPDATE\r\n");
    connected(&mut solo, &lines);
    solo.advance(Duration::from_secs(90));
    assert_eq!(solo.take_one().kind(), "UPDATE");
    // We called, and the called side refreshes; it does not.
    let mut solo = Solo::new();
    let lines = format!("{CALLED}Session-Expires: 180;refresher=uas\r\n");
    connected(&mut solo, &lines);
    solo.advance(Duration::from_secs(148));
    assert_eq!(solo.take_one().kind(), "BYE");
    // We were called, and refresh.
    let mut solo = Solo::new();
    timed(&mut solo, &["Supported: timer", "Session-Expires: 180;refresher=uas"]);
    solo.advance(Duration::from_secs(90));
    assert_eq!(solo.take_one().kind(), "INVITE");
}

#[test]
fn a_refresh_too_short_gets_422_and_the_call_goes_on() {
    let mut solo = Solo::new();
    let (_, ok, invite) = timed(&mut solo, &["Supported: timer", "Session-Expires: 1800"]);
    let refresh = invite.next("UPDATE", 2, &ok);
    let refresh = refresh.header("Supported: timer").header("Session-Expires: 20");
    solo.receive(&refresh.text());
    let refused = solo.take_one();
    assert_eq!((refused.kind(), refused.header("Min-SE")), ("422".into(), vec!["90".into()]));
    assert_eq!(solo.endpoint.gauges().dialogs, 1);
}

#[test]
fn a_two_hour_call_with_refreshes_lives() {
    let mut solo = Solo::new();
    let lines = ["Supported: timer", "Session-Expires: 1800;refresher=uas", "Allow: UPDATE"];
    timed(&mut solo, &lines);
    let mut refreshes = 0;
    for _ in 0..7200 {
        solo.advance(Duration::from_secs(1));
        for sent in solo.take_sent() {
            assert_eq!(sent.kind(), "UPDATE");
            refreshes += 1;
            let lines = "Session-Expires: 1800;refresher=uac\r\n";
            solo.receive(&answer(&sent, 200, None, lines, ""));
        }
    }
    assert_eq!((refreshes, solo.endpoint.gauges().dialogs), (8, 1));
}

#[test]
fn a_session_timer_never_runs_before_the_answer() {
    let mut solo = Solo::new();
    let invite = Script::invite("a");
    solo.receive(&invite.text());
    let dialog = solo.take_invited();
    solo.command(Command::Progress { dialog, status: 180, body: None });
    let ringing = solo.take_last();
    let update = invite.next("UPDATE", 2, &ringing).header("Supported: timer");
    solo.receive(&update.header("Session-Expires: 90").text());
    assert_eq!(solo.take_one().kind(), "200");
    solo.advance(Duration::from_secs(600));
    assert_eq!((solo.take_events().len(), solo.endpoint.gauges().dialogs), (0, 1));
}

#[test]
fn a_refresh_that_crossed_an_offer_of_the_peers_has_what_was_said_to_that() {
    let mut solo = Solo::new();
    let lines = ["Supported: timer", "Session-Expires: 600;refresher=uas", "Allow: INVITE, ACK"];
    let (dialog, ok, invite) = timed(&mut solo, &lines);
    solo.advance(Duration::from_secs(300));
    let refresh = solo.take_one();
    solo.receive(&answer(&refresh, 491, None, "", ""));
    solo.take_sent();
    // What the peer asks meanwhile is taken, and ours waits until it is answered.
    let theirs = invite.next("UPDATE", 2, &ok).body("application/sdp", SDP);
    solo.receive(&theirs.text());
    assert_eq!(kinds(&solo.take_events()), ["reinvited"]);
    solo.advance(Duration::from_secs(7));
    assert_eq!(solo.take_kinds().len(), 0);
    let newer = SDP.replace("o=- 1 1", "o=- 1 2");
    solo.command(Command::AnswerReinvite { dialog, body: newer.clone().into() });
    assert_eq!(solo.take_one().kind(), "200");
    solo.advance(Duration::from_secs(2));
    let again = solo.take_sent().remove(0);
    assert_eq!((again.kind(), again.request().body), ("INVITE".to_owned(), newer.into()));
}
