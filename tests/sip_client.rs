//! Calls and requests of ours as carriers and their bad days want them, against a scripted peer in
//! virtual time.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a failed check may panic")]

mod support;

use std::sync::Arc;
use std::time::Duration;
use support::SDP;
use support::script::CALLED;
use support::script::Script;
use support::script::answer;
use support::script::connected;
use support::script::hangup;
use support::script::outbound;
use support::script::outbound_with_credentials;
use support::solo::Sent;
use support::solo::Solo;
use support::solo::kinds;
use tandem::sip::digest::client::Account;
use tandem::sip::digest::client::Client;
use tandem::sip::endpoint::event::Command;
use tandem::sip::endpoint::event::Counter;
use tandem::sip::endpoint::event::DialogId;
use tandem::sip::endpoint::event::Event;
use tandem::sip::endpoint::event::Input;
use tandem::sip::endpoint::event::Token;
use tandem::sip::endpoint::flow::FlowId;
use tandem::sip::endpoint::outbound::Identity;
use tandem::sip::endpoint::outbound::OutboundInvite;
use tandem::sip::endpoint::outbound::OutboundRequest;
use tandem::sip::endpoint::outbound::Probe;
use tandem::sip::endpoint::policy::DialogPolicy;
use tandem::sip::endpoint::policy::Reliable;
use tandem::sip::endpoint::policy::SessionTimerMode;
use tandem::sip::endpoint::policy::SessionTimerPolicy;
use tandem::sip::endpoint::told::Furthest;
use tandem::sip::endpoint::told::RefusalNote;
use tandem::sip::message::field::FieldValue;
use tandem::sip::message::method::Method;
use tandem::sip::transaction::key::ClientKey;
use tandem::types::cause::HangupCause;
use tandem::types::secret::Secret;
use tandem::types::transport::Advertised;
use tandem::types::transport::DatagramRule;
use tandem::types::transport::Oversize;
use tandem::types::transport::Transport;

/// A call of ours that was sent: its dialog and its INVITE.
fn called(invite: OutboundInvite, solo: &mut Solo) -> (DialogId, Sent) {
    let dialog = solo.invite(invite);
    (dialog, solo.take_one())
}

fn value(text: &str) -> FieldValue {
    FieldValue::new(text).unwrap()
}

/// The note of the one refusal among the events since the last call.
fn note(solo: &mut Solo) -> RefusalNote {
    match solo.take_events().pop() {
        Some(Event::Refused { note, .. }) => *note,
        other => panic!("no refusal: {other:?}"),
    }
}

/// Forks of the provisional responses and answers since the last call.
fn forks(solo: &mut Solo) -> Vec<u8> {
    let fork = |event| match event {
        Event::Progressed { fork, .. } | Event::Answered { fork, .. } => Some(fork.0),
        _ => None,
    };
    solo.take_events().into_iter().filter_map(fork).collect()
}

#[test]
fn each_fork_has_its_own_early_media_and_the_first_2xx_wins() {
    let mut solo = Solo::new();
    let (dialog, invite) = called(outbound(solo.flow), &mut solo);
    for tag in ["one", "two", "one", "three"] {
        solo.receive(&answer(&invite, 183, Some(tag), CALLED, SDP));
    }
    assert_eq!(forks(&mut solo), [0, 1, 0, 2]);
    solo.receive(&answer(&invite, 200, Some("two"), CALLED, SDP));
    assert_eq!(forks(&mut solo), [1]);
    solo.command(Command::Acknowledge { dialog, body: None });
    solo.take_sent();
    for tag in ["one", "three"] {
        solo.receive(&answer(&invite, 200, Some(tag), CALLED, SDP));
        let sent = solo.take_sent();
        assert_eq!([sent[0].kind(), sent[1].kind()], ["ACK", "BYE"]);
        assert_eq!(support::script::to_tag(&sent[1]), tag);
    }
    // Provisional responses of parties that lost are read over.
    solo.receive(&answer(&invite, 180, Some("one"), CALLED, ""));
    assert_eq!(solo.take_events().len(), 0);
    assert_eq!(solo.endpoint.gauges().dialogs, 1);
}

#[test]
fn a_peer_that_forks_without_end_makes_us_send_no_more() {
    let mut solo = Solo::new();
    let (dialog, invite) = called(outbound(solo.flow), &mut solo);
    for number in 0..100 {
        let tag = format!("t{number}");
        solo.receive(&answer(&invite, 183, Some(&tag), CALLED, SDP));
    }
    assert_eq!(solo.take_events().len(), 8);
    for number in 0..1_000 {
        let tag = format!("a{number}");
        solo.receive(&answer(&invite, 200, Some(&tag), CALLED, SDP));
        if number == 0 {
            solo.command(Command::Acknowledge { dialog, body: None });
        }
    }
    assert_eq!(kinds(&solo.take_events()), ["answered"]);
    let sent = solo.take_kinds();
    assert_eq!(sent.iter().filter(|kind| *kind == "ACK").count(), 8);
    assert_eq!(sent.iter().filter(|kind| *kind == "BYE").count(), 7);
    assert_eq!(solo.count(Counter::TooManyForks), 92 + 992);
}

#[test]
fn a_second_18x_without_sdp_keeps_early_media() {
    let mut solo = Solo::new();
    let (_, invite) = called(outbound(solo.flow), &mut solo);
    solo.receive(&answer(&invite, 183, Some("a"), CALLED, SDP));
    solo.receive(&answer(&invite, 180, Some("a"), CALLED, ""));
    let bodies: Vec<bool> = solo
        .take_events()
        .iter()
        .map(|event| matches!(event, Event::Progressed { body: Some(_), .. }))
        .collect();
    // The 180 says nothing about media, so what was said before stands.
    assert_eq!(bodies, [true, false]);
    solo.receive(&answer(&invite, 486, Some("a"), "", ""));
    assert_eq!(note(&mut solo).furthest, Furthest::EarlyMedia);
}

#[test]
fn a_2xx_without_any_provisional_response_is_fork_0() {
    let mut solo = Solo::new();
    let (_, invite) = called(outbound(solo.flow), &mut solo);
    solo.receive(&answer(&invite, 200, Some("a"), CALLED, SDP));
    match solo.take_events().as_slice() {
        [Event::Answered { fork, name, dialog, .. }] => {
            assert_eq!((fork.0, name.remote_tag.as_ref()), (0, &b"a"[..]));
            assert_eq!(solo.endpoint.name_of(*dialog).as_ref(), Some(name));
            assert_eq!(name.call_id, invite.request().headers.call_id());
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_reliable_1xx_is_acknowledged_by_prack_in_its_early_dialog() {
    let mut solo = Solo::new();
    let (dialog, invite) = called(outbound(solo.flow), &mut solo);
    assert_eq!(invite.header("Supported"), ["timer, 100rel"]);
    let reliable = |rseq: u32| {
        format!(
            "Contact: <sip:early@192.0.2.7>\r\nRecord-Route: <sip:192.0.2.8;lr>\r\n\
             Require: 100rel\r\nRSeq: {rseq}\r\n"
        )
    };
    let first = answer(&invite, 183, Some("a"), &reliable(41), SDP);
    solo.receive(&first);
    let prack = solo.take_one();
    assert_eq!(prack.kind(), "PRACK");
    assert_eq!(prack.header("RAck"), ["41 1 INVITE"]);
    assert_eq!(prack.header("CSeq"), ["2 PRACK"]);
    assert_eq!(prack.header("Route"), ["<sip:192.0.2.8;lr>"]);
    assert_eq!(prack.request().uri.as_bytes(), "sip:early@192.0.2.7");
    assert_eq!(support::script::to_tag(&prack), "a");
    // Its copy is neither told nor acknowledged again: the PRACK repeats itself.
    solo.receive(&first);
    // One that overtook another has to come again.
    solo.receive(&answer(&invite, 180, Some("a"), &reliable(43), ""));
    assert_eq!(solo.count(Counter::ReliableOutOfOrder), 1);
    assert_eq!(solo.take_kinds().len(), 0);
    assert_eq!(kinds(&solo.take_events()), ["progressed 183"]);
    solo.receive(&answer(&prack, 200, None, "", ""));
    solo.receive(&answer(&invite, 180, Some("a"), &reliable(42), ""));
    assert_eq!(solo.take_one().header("CSeq"), ["3 PRACK"]);
    // Another fork counts for itself.
    solo.receive(&answer(&invite, 183, Some("b"), &reliable(7), SDP));
    assert_eq!(solo.take_one().header("CSeq"), ["2 PRACK"]);
    // The dialog goes on counting where the early one stopped.
    solo.receive(&answer(&invite, 200, Some("a"), CALLED, ""));
    solo.command(Command::Acknowledge { dialog, body: None });
    assert_eq!(solo.take_one().header("CSeq"), ["1 ACK"]);
    hangup(&mut solo, dialog);
    assert_eq!(solo.take_one().header("CSeq"), ["4 BYE"]);
}

#[test]
fn cancel_does_not_wait_for_prack() {
    let mut solo = Solo::new();
    let (dialog, invite) = called(outbound(solo.flow), &mut solo);
    let lines = format!("{CALLED}Require: 100rel\r\nRSeq: 1\r\n");
    solo.receive(&answer(&invite, 180, Some("a"), &lines, ""));
    hangup(&mut solo, dialog);
    assert_eq!(solo.take_kinds(), ["PRACK", "CANCEL"]);
}

#[test]
fn a_challenged_prack_is_answered() {
    let mut solo = Solo::new();
    let (_, invite) = called(outbound_with_credentials(solo.flow), &mut solo);
    let lines = format!("{CALLED}Require: 100rel\r\nRSeq: 1\r\n");
    solo.receive(&answer(&invite, 180, Some("a"), &lines, ""));
    let prack = solo.take_one();
    let challenge = "Proxy-Authenticate: Digest realm=\"r\", nonce=\"n\", qop=\"auth\"\r\n";
    solo.receive(&answer(&prack, 407, None, challenge, ""));
    let again = solo.take_one();
    assert_eq!(again.header("RAck"), prack.header("RAck"));
    assert!(again.header("Proxy-Authorization")[0].contains("nonce=\"n\""));
    solo.receive(&answer(&again, 407, None, challenge, ""));
    assert_eq!(solo.take_kinds().len(), 0);
}

#[test]
fn policy_decides_what_an_invite_says_about_reliable_responses() {
    let check = |reliable, body: Option<&str>, supported: &[&str], required: &[&str]| {
        let mut solo = Solo::new();
        let policy = DialogPolicy { reliable, ..DialogPolicy::default() };
        let body = body.map(|body| body.to_owned().into());
        let invite = OutboundInvite { policy, body, ..outbound(solo.flow) };
        let (_, sent) = called(invite, &mut solo);
        assert_eq!(sent.header("Supported"), supported);
        assert_eq!(sent.header("Require"), required);
    };
    check(Reliable::Off, Some(SDP), &["timer"], &[]);
    check(Reliable::Supported, Some(SDP), &["timer, 100rel"], &[]);
    check(Reliable::Required, Some(SDP), &["timer, 100rel"], &["100rel"]);
    // Without an offer of ours a PRACK would have to answer theirs.
    check(Reliable::Required, None, &["timer"], &[]);
}

#[test]
fn a_hang_up_is_sound_at_every_step_of_a_call() {
    // What the peer sends, in order; the hang-up comes before the step of each number.
    let steps: [(u16, &str); 3] = [(100, ""), (180, ""), (200, SDP)];
    for at in 0..=steps.len() {
        let mut solo = Solo::new();
        let (dialog, invite) = called(outbound(solo.flow), &mut solo);
        for (number, (status, body)) in steps.iter().enumerate() {
            if number == at {
                hangup(&mut solo, dialog);
            }
            solo.receive(&answer(&invite, *status, Some("a"), CALLED, body));
        }
        if at == steps.len() {
            hangup(&mut solo, dialog);
        }
        let sent = solo.take_sent();
        let of = |kind: &str| sent.iter().filter(|it| it.kind() == kind).count();
        assert_eq!((of("ACK"), of("BYE")), (1, 1), "hang-up before step {at}");
        assert_eq!(of("CANCEL"), usize::from(at < 3), "hang-up before step {at}");
        let bye = sent.iter().find(|it| it.kind() == "BYE").unwrap();
        solo.receive(&answer(bye, 200, None, "", ""));
        assert_eq!(solo.take_events().len(), 1 + at);
        solo.advance(Duration::from_secs(70));
        solo.assert_empty();
    }
}

#[test]
fn a_lost_487_ends_the_call_all_the_same() {
    let mut solo = Solo::new();
    let (dialog, invite) = called(outbound(solo.flow), &mut solo);
    solo.receive(&answer(&invite, 180, Some("a"), CALLED, ""));
    hangup(&mut solo, dialog);
    let cancel = solo.take_one();
    solo.receive(&answer(&cancel, 200, Some("a"), "", ""));
    solo.take_events();
    solo.advance_ms(31_999);
    assert_eq!(solo.take_events().len(), 0);
    solo.advance_ms(1);
    assert_eq!(kinds(&solo.take_events()), ["ended ByeAnswered"]);
    // It was only late: still acknowledged.
    solo.receive(&answer(&invite, 487, Some("a"), "", ""));
    assert_eq!(solo.take_kinds(), ["ACK"]);
    solo.advance(Duration::from_secs(40));
    solo.assert_empty();
}

#[test]
fn a_hang_up_of_a_call_nobody_answers_sends_no_cancel() {
    let mut solo = Solo::new();
    let (dialog, _) = called(outbound(solo.flow), &mut solo);
    hangup(&mut solo, dialog);
    solo.advance(Duration::from_secs(32));
    assert!(solo.take_kinds().iter().all(|kind| kind == "INVITE"));
    assert_eq!(kinds(&solo.take_events()), ["ended ByeAnswered"]);
    solo.assert_empty();
}

#[test]
fn a_silent_gateway_is_given_up_and_cancelled_should_it_wake() {
    let mut solo = Solo::new();
    let silence_max = Some(Duration::from_secs(4));
    let invite = OutboundInvite { silence_max, ..outbound(solo.flow) };
    let (_, sent) = called(invite.clone(), &mut solo);
    solo.advance_ms(3_999);
    assert_eq!(solo.take_events().len(), 0);
    solo.advance_ms(1);
    assert_eq!(note(&mut solo).furthest, Furthest::Silence);
    solo.take_sent();
    solo.receive(&answer(&sent, 100, None, "", ""));
    solo.receive(&answer(&sent, 180, Some("a"), CALLED, ""));
    assert_eq!(solo.take_kinds(), ["CANCEL"]);
    solo.receive(&answer(&sent, 200, Some("a"), CALLED, SDP));
    assert_eq!(solo.take_kinds()[..2], ["ACK", "BYE"]);
    assert_eq!(solo.take_events().len(), 0);
    // One word in time is enough.
    let (_, sent) = called(invite, &mut solo);
    solo.receive(&answer(&sent, 100, None, "", ""));
    solo.advance(Duration::from_secs(60));
    assert_eq!(kinds(&solo.take_events()), ["progressed 100"]);
}

#[test]
fn a_challenge_is_no_silence_and_each_attempt_has_its_own_patience() {
    let mut solo = Solo::new();
    let silence_max = Some(Duration::from_secs(4));
    let invite = OutboundInvite { silence_max, ..outbound_with_credentials(solo.flow) };
    let (_, first) = called(invite, &mut solo);
    solo.advance_ms(3_000);
    let line = "Proxy-Authenticate: Digest realm=\"r\", nonce=\"n\"\r\n";
    solo.receive(&answer(&first, 407, Some("a"), line, ""));
    solo.advance_ms(3_999);
    assert_eq!(solo.take_events().len(), 0);
    solo.advance_ms(1);
    assert_eq!(note(&mut solo).furthest, Furthest::Trying);
}

#[test]
fn the_request_uri_host_survives_dns() {
    // Carriers find the trunk by the host of the Request-URI; the address is where the packet goes.
    let mut solo = Solo::new();
    let uri = "sip:+15550199@acme.pstn.carrier.example;user=phone";
    let invite = OutboundInvite { uri: uri.to_owned(), ..outbound(solo.flow) };
    let (_, sent) = called(invite, &mut solo);
    assert_eq!(sent.request().uri.as_bytes(), uri);
    assert_eq!(sent.flow.remote, solo.flow.remote);
}

#[test]
fn a_refusal_is_told_with_all_that_came_with_it() {
    let mut solo = Solo::new();
    let (_, invite) = called(outbound(solo.flow), &mut solo);
    solo.receive(&answer(&invite, 100, None, "", ""));
    let lines = "Retry-After: 30 (busy)\r\nReason: SIP;cause=503, Q.850;cause=42;text=\"Full\"\r\n\
                 Warning: 399 example.com \"no \\\"room\\\"\"\r\n";
    solo.receive(&answer(&invite, 503, Some("a"), lines, ""));
    let note = note(&mut solo);
    assert_eq!((note.furthest, note.retry_after_s), (Furthest::Trying, Some(30)));
    assert_eq!((note.q850, note.reason_text.as_deref()), (Some(42), Some(&b"Full"[..])));
    assert!(note.warning.unwrap().starts_with(b"399 example.com"));
}

#[test]
fn a_redirect_is_told_and_never_followed() {
    let mut solo = Solo::new();
    let (_, invite) = called(outbound(solo.flow), &mut solo);
    let lines = "Contact: <sip:low@192.0.2.3>;q=0.2, \"Best\" <sip:best@192.0.2.4;x=y>;q=0.9\r\n\
                 Contact: <sip:plain@192.0.2.5>, <mailto:a@b>\r\n";
    solo.receive(&answer(&invite, 302, Some("a"), lines, ""));
    assert_eq!(solo.take_kinds(), ["ACK"]);
    let redirects = note(&mut solo).redirects;
    let uris: Vec<_> = redirects.iter().map(|it| it.uri.as_bytes().clone()).collect();
    let best = "sip:best@192.0.2.4;x=y";
    assert_eq!(uris, ["sip:plain@192.0.2.5", "mailto:a@b", best, "sip:low@192.0.2.3"]);
}

fn timed(mode: SessionTimerMode) -> DialogPolicy {
    let session = SessionTimerPolicy { mode, ..SessionTimerPolicy::default() };
    DialogPolicy { session, ..DialogPolicy::default() }
}

#[test]
fn a_call_refused_422_is_tried_with_the_interval_asked_for() {
    let mut solo = Solo::new();
    let policy = timed(SessionTimerMode::Offer);
    let (_, first) = called(OutboundInvite { policy, ..outbound(solo.flow) }, &mut solo);
    assert_eq!(first.header("Session-Expires"), ["1800"]);
    assert_eq!(first.header("Min-SE"), ["90"]);
    let refused = |invite: &Sent, least: u32| {
        answer(invite, 422, Some("a"), &format!("Min-SE: {least}\r\n"), "")
    };
    solo.receive(&refused(&first, 3_600));
    let sent = solo.take_sent();
    assert_eq!([sent[0].kind(), sent[1].kind()], ["ACK", "INVITE"]);
    let second = &sent[1];
    assert_eq!(second.header("CSeq"), ["2 INVITE"]);
    assert_eq!(second.header("Call-ID"), first.header("Call-ID"));
    assert_eq!(second.header("Session-Expires"), ["3600"]);
    assert_eq!(second.header("Min-SE"), ["3600"]);
    // A 422 that asks for nothing longer ends it.
    solo.receive(&refused(second, 3_600));
    assert_eq!(kinds(&solo.take_events()), ["refused 422"]);
}

#[test]
fn a_peer_that_only_says_422_is_not_asked_for_ever() {
    let mut solo = Solo::new();
    let (_, mut invite) = called(outbound(solo.flow), &mut solo);
    for round in 1..10 {
        let lines = format!("Min-SE: {}\r\n", 1_000 * round);
        solo.receive(&answer(&invite, 422, Some("a"), &lines, ""));
        let sent = solo.take_last();
        if sent.kind() == "ACK" {
            assert_eq!(round, 4);
            break;
        }
        invite = sent;
    }
    assert_eq!(kinds(&solo.take_events()), ["refused 422"]);
}

#[test]
fn an_extension_the_peer_lacks_or_wants_is_a_refusal() {
    for (status, line) in [(420, "Unsupported: timer\r\n"), (421, "Require: x-new\r\n")] {
        let mut solo = Solo::new();
        let policy = timed(SessionTimerMode::Require);
        let (_, invite) = called(OutboundInvite { policy, ..outbound(solo.flow) }, &mut solo);
        assert_eq!(invite.header("Require"), ["timer"]);
        solo.receive(&answer(&invite, status, Some("a"), line, ""));
        match solo.take_events().as_slice() {
            [Event::Refused { status: told, response: Some(response), .. }] => {
                assert_eq!(*told, status);
                assert_eq!(
                    response.headers.named("Unsupported").count(),
                    usize::from(status == 420)
                );
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn an_invite_carries_routes_identity_and_hops_as_given() {
    let mut solo = Solo::new();
    let identity = Identity {
        asserted: vec![value("<sip:+15550100@192.0.2.1>"), value("<tel:+15550100>")],
        preferred: Some(value("<sip:+15550111@192.0.2.1>")),
        remote_party: None,
        privacy: Some(value("id")),
        diversions: vec![value("<sip:+15550122@192.0.2.1>;reason=unconditional")],
        history: vec![value("<sip:+15550133@192.0.2.1>;index=1")],
    };
    let invite = OutboundInvite {
        routes: vec!["sip:proxy.example:5070;lr".to_owned(), "sip:192.0.2.44;lr".to_owned()],
        identity,
        max_forwards: 41,
        advertised: Some(Arc::new(Advertised {
            host: "198.51.100.7".to_owned(),
            port: Some(5066),
        })),
        call_id: Some(value("chosen@tandem")),
        ..outbound(solo.flow)
    };
    let (dialog, sent) = called(invite, &mut solo);
    assert_eq!(sent.header("Route"), ["<sip:proxy.example:5070;lr>", "<sip:192.0.2.44;lr>"]);
    assert_eq!(sent.header("P-Asserted-Identity").len(), 2);
    assert_eq!(sent.header("P-Preferred-Identity"), ["<sip:+15550111@192.0.2.1>"]);
    assert_eq!(sent.header("Privacy"), ["id"]);
    assert_eq!(sent.header("Diversion").len(), 1);
    assert_eq!(sent.header("History-Info"), ["<sip:+15550133@192.0.2.1>;index=1"]);
    assert_eq!(sent.header("Max-Forwards"), ["41"]);
    assert_eq!(sent.header("Contact"), ["<sip:+15550100@198.51.100.7:5066>"]);
    assert_eq!(sent.header("Call-ID"), ["chosen@tandem"]);
    assert_eq!(sent.request().uri.as_bytes(), "sip:+15550199@carrier.example");
    // The CANCEL goes the same way with the same hops.
    solo.receive(&answer(&sent, 180, Some("a"), CALLED, ""));
    hangup(&mut solo, dialog);
    let cancel = solo.take_one();
    for name in ["Route", "Max-Forwards", "Via"] {
        assert_eq!(cancel.header(name), sent.header(name), "{name}");
    }
}

/// That we are elsewhere than at the listener's address.
fn elsewhere(port: Option<u16>) -> Option<Arc<Advertised>> {
    Some(Arc::new(Advertised { host: "sbc.example".to_owned(), port }))
}

#[test]
fn every_request_of_a_call_says_where_we_are() {
    let via = |sent: &Sent| sent.header("Via")[0].split(';').next().unwrap().to_owned();
    let mut solo = Solo::new();
    let invite = OutboundInvite { advertised: elsewhere(Some(5066)), ..outbound(solo.flow) };
    let (dialog, sent) = called(invite.clone(), &mut solo);
    let here = "SIP/2.0/UDP sbc.example:5066";
    assert_eq!(via(&sent), here);
    assert_eq!(sent.header("Contact"), ["<sip:+15550100@sbc.example:5066>"]);
    solo.receive(&answer(&sent, 200, Some("one"), CALLED, SDP));
    solo.command(Command::Acknowledge { dialog, body: None });
    assert_eq!(via(&solo.take_one()), here, "ACK");
    solo.receive(&answer(&sent, 200, Some("two"), CALLED, SDP));
    for ended in solo.take_sent() {
        assert_eq!(via(&ended), here, "{} to another branch", ended.kind());
    }
    hangup(&mut solo, dialog);
    assert_eq!(via(&solo.take_one()), here, "BYE");

    let (_, sent) = called(invite, &mut solo);
    solo.receive(&answer(&sent, 486, Some("a"), "", ""));
    assert_eq!(via(&solo.take_one()), here, "ACK of a refusal");
    // Without a port that of the listener counts.
    let invite = OutboundInvite { advertised: elsewhere(None), ..outbound(solo.flow) };
    let (_, sent) = called(invite, &mut solo);
    assert_eq!(via(&sent), "SIP/2.0/UDP sbc.example:5060");
    assert_eq!(sent.header("Contact"), ["<sip:+15550100@sbc.example:5060>"]);
}

#[test]
fn a_registration_names_where_we_are() {
    let mut solo = Solo::new();
    let request = OutboundRequest { advertised: elsewhere(Some(5066)), ..register(&solo, None, 1) };
    let request = OutboundRequest { contact: None, contact_user: Some("u".to_owned()), ..request };
    solo.command(Command::Request(Box::new(request)));
    let sent = solo.take_one();
    assert!(sent.header("Via")[0].starts_with("SIP/2.0/UDP sbc.example:5066;"), "{sent:?}");
    assert_eq!(sent.header("Contact"), ["<sip:u@sbc.example:5066>"]);
}

#[test]
fn an_address_that_cannot_be_read_is_refused_without_a_packet() {
    let flow = Solo::new().flow;
    let bad = "sip:a@b> <sip:c@d".to_owned();
    for invite in [
        OutboundInvite { from: bad.clone(), ..outbound(flow) },
        OutboundInvite { to: "nobody".to_owned(), ..outbound(flow) },
        OutboundInvite { routes: vec![bad.clone()], ..outbound(flow) },
        OutboundInvite { contact_user: "a>\r\nX: y".to_owned(), ..outbound(flow) },
        OutboundInvite { call_id: Some(value("two words")), ..outbound(flow) },
    ] {
        let mut solo = Solo::new();
        solo.invite(invite);
        assert_eq!(kinds(&solo.take_events()), ["refused 400"]);
        assert_eq!(solo.take_kinds().len(), 0);
        solo.assert_empty();
    }
}

fn oversized(oversize: Oversize, mut invite: OutboundInvite) -> OutboundInvite {
    invite.policy.datagrams = DatagramRule { oversize, ..DatagramRule::default() };
    invite
}

#[test]
fn an_invite_too_large_for_a_datagram_does_what_the_trunk_says() {
    let large = |oversize, flow| {
        let lines = if oversize == Oversize::Compact { 33 } else { 60 };
        let body = format!("{SDP}{}", "a=x-long:0123456789\r\n".repeat(lines));
        OutboundInvite { body: Some(body.into()), ..oversized(oversize, outbound(flow)) }
    };
    let mut solo = Solo::new();
    solo.invite(large(Oversize::Tcp, solo.flow));
    match solo.take_events().as_slice() {
        [Event::TooLarge { invite, .. }] => assert_eq!(invite.uri, "sip:+15550199@carrier.example"),
        other => panic!("{other:?}"),
    }
    assert_eq!(solo.take_kinds().len(), 0);
    solo.assert_empty();

    let (_, whole) = called(large(Oversize::Fragment, solo.flow), &mut solo);
    let (_, compact) = called(large(Oversize::Compact, solo.flow), &mut solo);
    assert!(whole.bytes.len() > 1_300 && compact.bytes.len() <= 1_300);
    let text = compact.text();
    for line in
        ["\r\nv: SIP/2.0/UDP ", "\r\nf: ", "\r\nt: ", "\r\ni: ", "\r\nm: ", "\r\nc: ", "\r\nl: "]
    {
        assert!(text.contains(line), "{line:?} in {text}");
    }
    assert_eq!(compact.header("User-Agent").len(), 0);
    // A stream takes any size.
    let mut solo = Solo::over(Transport::Tcp);
    let (_, stream) = called(large(Oversize::Tcp, solo.flow), &mut solo);
    assert!(stream.text().contains("\r\nContact: "));
    // A small one is written in full.
    let mut solo = Solo::new();
    let invite = oversized(Oversize::Compact, outbound(solo.flow));
    assert!(called(invite, &mut solo).1.text().contains("\r\nCall-ID: "));
}

#[test]
fn credentials_that_make_an_invite_too_large_give_it_back_too() {
    let mut solo = Solo::new();
    let invite = outbound_with_credentials(solo.flow);
    let (_, first) = called(oversized(Oversize::Tcp, invite), &mut solo);
    let nonce = "n".repeat(800);
    let line = format!("WWW-Authenticate: Digest realm=\"r\", nonce=\"{nonce}\"\r\n");
    solo.receive(&answer(&first, 401, Some("a"), &line, ""));
    assert_eq!(solo.take_kinds(), ["ACK"]);
    assert_eq!(kinds(&solo.take_events()), ["too large"]);
    solo.advance(Duration::from_secs(40));
    solo.assert_empty();
}

#[test]
fn the_record_route_of_the_answer_stays_whatever_later_answers_say() {
    let mut solo = Solo::new();
    let lines = "Record-Route: <sip:192.0.2.81;lr>\r\nContact: <sip:one@10.0.0.1>\r\n";
    let (dialog, _, _) = connected(&mut solo, lines);
    solo.command(Command::Reinvite { dialog, body: SDP.into() });
    let reinvite = solo.take_one();
    let lines = "Record-Route: <sip:192.0.2.99;lr>\r\nContact: <sip:two@10.0.0.2>\r\n";
    solo.receive(&answer(&reinvite, 200, None, lines, SDP));
    solo.take_sent();
    hangup(&mut solo, dialog);
    let bye = solo.take_one();
    assert_eq!(bye.header("Route"), ["<sip:192.0.2.81;lr>"]);
    assert_eq!(bye.request().uri.as_bytes(), "sip:two@10.0.0.2");
}

#[test]
fn the_answer_of_a_fork_has_its_own_route_set() {
    let mut solo = Solo::new();
    let (dialog, invite) = called(outbound(solo.flow), &mut solo);
    let early = "Record-Route: <sip:192.0.2.81;lr>\r\nContact: <sip:early@10.0.0.1>\r\n";
    solo.receive(&answer(&invite, 180, Some("a"), early, ""));
    let last = "Record-Route: <sip:192.0.2.82;lr>\r\nContact: <sip:last@10.0.0.2>\r\n";
    solo.receive(&answer(&invite, 200, Some("a"), last, SDP));
    solo.command(Command::Acknowledge { dialog, body: None });
    let ack = solo.take_one();
    // RFC 3261 §13.2.2.4: computed anew from the 2xx.
    assert_eq!(ack.header("Route"), ["<sip:192.0.2.82;lr>"]);
    assert_eq!(ack.request().uri.as_bytes(), "sip:last@10.0.0.2");
}

#[test]
fn an_invite_of_ours_that_comes_back_unchanged_gets_482() {
    let mut solo = Solo::new();
    let (_, invite) = called(outbound(solo.flow), &mut solo);
    let proxy = "Via: SIP/2.0/UDP 192.0.2.2:5060;branch=z9hG4bK-proxy\r\nVia: ";
    let back = invite.text().replacen("Via: ", proxy, 1);
    solo.receive(&back);
    assert_eq!(solo.take_kinds(), ["482"]);
    assert_eq!(solo.count(Counter::Loop), 1);
    assert_eq!(kinds(&solo.take_events()), ["declined 482 loop"]);
    // With another Request-URI it is another call that happens to come by us.
    solo.receive(&back.replacen("sip:+15550199@carrier.example", "sip:+15550100@192.0.2.1", 1));
    assert_eq!(kinds(&solo.take_events()), ["invited"]);
}

#[test]
fn a_call_by_command_is_named_before_anything_else_is_told() {
    let mut solo = Solo::new();
    let invite = Box::new(outbound(solo.flow));
    solo.command(Command::Invite { token: Token(9), invite });
    assert_eq!(kinds(&solo.take_events()), ["placed 9"]);
    assert_eq!(solo.take_kinds(), ["INVITE"]);
    let invite = Box::new(OutboundInvite { uri: "x".to_owned(), ..outbound(solo.flow) });
    solo.command(Command::Invite { token: Token(10), invite });
    assert_eq!(kinds(&solo.take_events()), ["placed 10", "refused 400"]);
}

fn probe(solo: &Solo) -> Command {
    Command::Probe(Box::new(Probe {
        token: Token(1),
        flow: solo.flow,
        uri: "sip:carrier.example".to_owned(),
        from: "sip:tandem@192.0.2.1".to_owned(),
        routes: Vec::new(),
        call_id: None,
        patience: Duration::from_secs(5),
    }))
}

#[test]
fn a_probe_tells_status_and_round_trip_or_that_nobody_answered() {
    let mut solo = Solo::new();
    solo.command(probe(&solo));
    let options = solo.take_one();
    assert_eq!(
        (options.kind(), options.header("CSeq")),
        ("OPTIONS".into(), vec!["1 OPTIONS".into()])
    );
    assert_eq!(options.header("Contact"), ["<sip:192.0.2.1:5060>"]);
    solo.advance_ms(40);
    solo.receive(&answer(&options, 404, Some("x"), "", ""));
    match solo.take_events().as_slice() {
        [Event::Probed { token: Token(1), status: Some(404), took }] => {
            assert_eq!(*took, Duration::from_millis(40));
        }
        other => panic!("{other:?}"),
    }
    solo.command(probe(&solo));
    solo.advance_ms(5_000);
    assert_eq!(kinds(&solo.take_events()), ["probed 1 None"]);
    solo.advance(Duration::from_secs(40));
    solo.assert_empty();
    let mut solo = Solo::new();
    solo.command(probe(&solo));
    let key = ClientKey::of_beginning(&solo.take_one().bytes).unwrap();
    solo.input(Input::Unreached { remote: solo.flow.remote, key });
    assert_eq!(kinds(&solo.take_events()), ["probed 1 None"]);
    solo.assert_empty();
    let mut solo = Solo::over(Transport::Tcp);
    solo.command(probe(&solo));
    solo.input(Input::FlowClosed(FlowId(1)));
    assert_eq!(kinds(&solo.take_events()), ["probed 1 None"]);
    solo.assert_empty();
}

/// A REGISTER with an account.
fn register(solo: &Solo, digest: Option<Box<Client>>, cseq: u32) -> OutboundRequest {
    OutboundRequest {
        contact: Some(value("<sip:tandem@192.0.2.1:5060>;expires=600")),
        call_id: Some(value("registration-1")),
        digest,
        cseq,
        ..OutboundRequest::new(Token(2), solo.flow, Method::Register, "sip:registrar.example")
    }
}

#[test]
fn a_request_answers_challenges_and_its_nonces_serve_the_next() {
    let mut solo = Solo::new();
    let account = Account::new("user", Secret::new("secret".to_owned()));
    let digest = Some(Box::new(Client::new(vec![account], 3)));
    solo.command(Command::Request(Box::new(register(&solo, digest, 7))));
    let first = solo.take_one();
    assert_eq!(first.header("CSeq"), ["7 REGISTER"]);
    assert_eq!(first.header("Contact"), ["<sip:tandem@192.0.2.1:5060>;expires=600"]);
    let challenge = "WWW-Authenticate: Digest realm=\"r\", nonce=\"n1\", qop=\"auth\"\r\n";
    solo.receive(&answer(&first, 401, Some("x"), challenge, ""));
    let second = solo.take_one();
    assert_eq!(
        (second.header("CSeq"), second.header("Call-ID")),
        (vec!["8 REGISTER".into()], first.header("Call-ID"))
    );
    let ok = "Service-Route: <sip:192.0.2.50;lr>\r\nContact: <sip:tandem@192.0.2.1:5060>;expires=300\r\n";
    solo.receive(&answer(&second, 200, Some("x"), ok, ""));
    let (cseq, digest) = match solo.take_events().pop() {
        Some(Event::RequestAnswered { token: Token(2), answer }) => {
            assert_eq!(answer.outcome.status(), Some(200));
            (answer.cseq, answer.digest)
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(cseq, 8);
    solo.command(Command::Request(Box::new(register(&solo, digest, cseq + 1))));
    let third = solo.take_one();
    assert!(third.header("Authorization")[0].contains("nc=00000002"), "{}", third.text());
    // Wrong credentials are tried once.
    solo.receive(&answer(&third, 401, Some("x"), &challenge.replace("n1", "n2"), ""));
    let fourth = solo.take_one();
    solo.receive(&answer(&fourth, 401, Some("x"), &challenge.replace("n1", "n3"), ""));
    assert_eq!(solo.take_kinds().len(), 0);
    assert_eq!(kinds(&solo.take_events()), ["request 2 answered 401"]);
    solo.advance(Duration::from_secs(40));
    solo.assert_empty();
}

#[test]
fn a_request_with_a_command_of_its_own_or_a_bad_address_is_not_sent() {
    for (method, uri) in
        [(Method::Invite, "sip:a@b"), (Method::Bye, "sip:a@b"), (Method::Options, "x")]
    {
        let mut solo = Solo::new();
        let request = OutboundRequest::new(Token(3), solo.flow, method, uri);
        solo.command(Command::Request(Box::new(request)));
        assert_eq!(kinds(&solo.take_events()), ["request 3 Unwritable"]);
        assert_eq!(solo.take_kinds().len(), 0);
        solo.assert_empty();
    }
}

#[test]
fn several_realms_are_answered_together_and_one_after_the_other() {
    let mut solo = Solo::new();
    let account = |user: &str, realm: &str| Account {
        realm: Some(realm.to_owned()),
        ..Account::new(user, Secret::new("p".to_owned()))
    };
    let accounts = vec![account("outer", "proxy"), account("inner", "server")];
    let (_, first) = called(OutboundInvite { accounts, ..outbound(solo.flow) }, &mut solo);
    let proxy = "Proxy-Authenticate: Digest realm=\"proxy\", nonce=\"1\", qop=\"auth\"\r\n";
    solo.receive(&answer(&first, 407, Some("a"), proxy, ""));
    let second = solo.take_last();
    assert!(second.header("Proxy-Authorization")[0].contains("username=\"outer\""));
    let server = "WWW-Authenticate: Digest realm=\"server\", nonce=\"2\", algorithm=SHA-512-256, qop=\"auth\"\r\n";
    solo.receive(&answer(&second, 401, Some("b"), server, ""));
    let third = solo.take_last();
    assert!(third.header("Proxy-Authorization")[0].contains("nc=00000002"));
    assert!(third.header("Authorization")[0].contains("username=\"inner\""));
    assert!(third.header("Authorization")[0].ends_with("algorithm=SHA-512-256"));
    assert_eq!(third.header("CSeq"), ["3 INVITE"]);
    // A stale nonce is renewed once, then it is a refusal.
    let stale = server.replace("\"2\"", "\"3\", stale=true");
    solo.receive(&answer(&third, 401, Some("c"), &stale, ""));
    let fourth = solo.take_last();
    assert_eq!(fourth.kind(), "INVITE");
    solo.receive(&answer(&fourth, 401, Some("d"), &stale, ""));
    assert_eq!(kinds(&solo.take_events()), ["refused 401"]);
}

#[test]
fn a_challenged_reinvite_info_and_refer_are_answered() {
    let mut solo = Solo::new();
    let (dialog, invite) = called(outbound_with_credentials(solo.flow), &mut solo);
    solo.receive(&answer(&invite, 200, Some("callee"), CALLED, SDP));
    solo.command(Command::Acknowledge { dialog, body: None });
    solo.take_sent();
    let refer_to = "sip:+15550122@carrier.example".to_owned();
    let commands = [
        Command::Reinvite { dialog, body: SDP.into() },
        Command::Info { dialog, content_type: value("application/dtmf-relay"), body: "x".into() },
        Command::Refer { dialog, refer_to, referred_by: None, headers: Vec::new() },
    ];
    for (number, command) in commands.into_iter().enumerate() {
        solo.command(command);
        let first = solo.take_one();
        let line = format!(
            "Proxy-Authenticate: Digest realm=\"r\", nonce=\"n{number}\", qop=\"auth\"\r\n"
        );
        solo.receive(&answer(&first, 407, None, &line, ""));
        let again = solo.take_last();
        assert_eq!(again.kind(), first.kind());
        let credentials = again.header("Proxy-Authorization").remove(0);
        assert!(credentials.contains(&format!("nonce=\"n{number}\"")), "{credentials}");
        assert_eq!(again.request().body, first.request().body);
        solo.receive(&answer(&again, if number == 2 { 202 } else { 200 }, None, CALLED, ""));
        solo.take_sent();
    }
    assert_eq!(
        kinds(&solo.take_events()),
        ["answered", "reinvite answered", "info answered 200", "referring Accepted"]
    );
}

#[test]
fn glare_is_tried_again_after_the_wait_of_rfc_3261() {
    // We own the Call-ID: 2.1 to 4 s.
    let mut solo = Solo::new();
    let (dialog, _, _) = connected(&mut solo, CALLED);
    for method in ["INVITE", "UPDATE"] {
        let offer = |body: &str| match method {
            "UPDATE" => Command::Update { dialog, body: body.to_owned().into() },
            _ => Command::Reinvite { dialog, body: body.to_owned().into() },
        };
        solo.command(offer(SDP));
        let first = solo.take_one();
        solo.receive(&answer(&first, 491, None, "Allow: INVITE, UPDATE\r\n", ""));
        solo.take_sent();
        solo.advance_ms(2_099);
        assert_eq!((solo.take_kinds().len(), solo.take_events().len()), (0, 0));
        solo.advance_ms(1_902);
        // What is offered then is for the call to say.
        assert_eq!(kinds(&solo.take_events()), ["reinvite refused 491 has_waited"]);
        assert_eq!(solo.take_kinds().len(), 0);
        let newer = SDP.replace("o=- 1 1", "o=- 1 2");
        solo.command(offer(&newer));
        let again = solo.take_sent().remove(0);
        assert_eq!(again.request().body, newer);
        assert_eq!(again.kind(), first.kind());
        assert_ne!(again.header("CSeq"), first.header("CSeq"));
        solo.receive(&answer(
            &again,
            200,
            None,
            &format!("{CALLED}Allow: INVITE, UPDATE\r\n"),
            SDP,
        ));
        solo.take_sent();
        assert_eq!(kinds(&solo.take_events()), ["reinvite answered"]);
    }
}

#[test]
fn an_update_goes_where_the_peer_allows_it_and_else_a_reinvite() {
    let mut solo = Solo::new();
    let lines = format!("{CALLED}Allow: INVITE, ACK, BYE, UPDATE\r\n");
    let (dialog, _, _) = connected(&mut solo, &lines);
    solo.command(Command::Update { dialog, body: SDP.into() });
    let update = solo.take_one();
    assert_eq!((update.kind(), update.request().body), ("UPDATE".to_owned(), SDP.into()));
    solo.receive(&answer(&update, 501, None, "", ""));
    assert_eq!(solo.take_one().kind(), "INVITE");
    let mut solo = Solo::new();
    let (dialog, _, _) = connected(&mut solo, CALLED);
    solo.command(Command::Update { dialog, body: SDP.into() });
    assert_eq!(solo.take_one().kind(), "INVITE");
}

#[test]
fn infos_go_one_by_one_and_in_order() {
    let mut solo = Solo::new();
    let (dialog, _, _) = connected(&mut solo, CALLED);
    for digit in ['1', '2', '3'] {
        let body = tandem::sip::endpoint::info::dtmf_relay(digit, 160);
        solo.command(Command::Info { dialog, content_type: value("application/dtmf-relay"), body });
    }
    for digit in ["1", "2", "3"] {
        let info = solo.take_one();
        assert_eq!(info.header("Content-Type"), ["application/dtmf-relay"]);
        assert_eq!(info.request().body, format!("Signal={digit}\r\nDuration=160\r\n"));
        solo.receive(&answer(&info, if digit == "2" { 415 } else { 200 }, None, "", ""));
    }
    assert_eq!(
        kinds(&solo.take_events()),
        ["info answered 200", "info answered 415", "info answered 200"]
    );
    let content_type = value("text/plain");
    solo.command(Command::Info { dialog, content_type, body: "x".into() });
    let info = solo.take_one();
    solo.receive(&answer(&info, 481, None, "", ""));
    assert_eq!(kinds(&solo.take_events()), ["info answered 481", "ended PeerTimeout"]);
}

#[test]
fn an_update_in_an_early_dialog_moves_its_target_and_its_offer_needs_a_settled_one() {
    let mut solo = Solo::new();
    let (dialog, invite) = called(outbound(solo.flow), &mut solo);
    let lines = format!("{CALLED}Require: 100rel\r\nRSeq: 1\r\n");
    solo.receive(&answer(&invite, 180, Some("callee"), &lines, ""));
    solo.take_sent();
    let tag = invite.request().headers.from().tag().unwrap().to_vec();
    let mut update = Script::new("UPDATE", "x");
    update.call_id = invite.header("Call-ID").remove(0);
    update.from_tag = "callee".to_owned();
    update.to_tag = Some(String::from_utf8(tag).unwrap());
    let update = update.body("application/sdp", SDP);
    solo.receive(&update.text());
    assert_eq!(solo.take_kinds(), ["491"]);
    solo.receive(&answer(&invite, 183, Some("callee"), &lines.replace("RSeq: 1", "RSeq: 2"), SDP));
    solo.take_sent();
    solo.take_events();
    let update = Script { cseq: 2, ..update.branch("z9hG4bK-second") };
    solo.receive(&update.text());
    assert_eq!(kinds(&solo.take_events()), ["reinvited"]);
    solo.command(Command::AnswerReinvite { dialog, body: SDP.into() });
    assert_eq!(solo.take_kinds(), ["200"]);
    // An old number is out of order.
    let late = Script { cseq: 1, ..update.branch("z9hG4bK-third") };
    solo.receive(&late.text());
    assert_eq!(solo.take_kinds(), ["500"]);
}

#[test]
fn a_cause_of_ours_reaches_the_forks_that_lost() {
    let mut solo = Solo::new();
    let (dialog, invite) = called(outbound(solo.flow), &mut solo);
    solo.receive(&answer(&invite, 180, Some("a"), CALLED, ""));
    solo.command(Command::Hangup { dialog, cause: HangupCause::NoAnswer });
    solo.receive(&answer(&invite, 200, Some("b"), CALLED, SDP));
    let bye = solo.take_last();
    assert_eq!(bye.header("Reason"), ["Q.850;cause=19;text=\"no_answer\""]);
}
