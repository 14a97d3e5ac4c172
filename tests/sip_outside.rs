//! Requests outside dialogs, and everything hostile, against the endpoint in virtual time.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a failed check may panic")]

mod support;

use bytes::Bytes;
use std::time::Duration;
use support::SDP;
use support::script::Script;
use support::script::established;
use support::script::hangup;
use support::solo::Solo;
use support::solo::kinds;
use tandem::sip::endpoint::event::Command;
use tandem::sip::endpoint::event::Counter;
use tandem::sip::endpoint::event::DialogId;
use tandem::sip::endpoint::event::Event;
use tandem::sip::endpoint::event::Input;
use tandem::sip::endpoint::told::Declined;
use tandem::types::cause::HangupCause;
use tandem::types::random::Random;
use tandem::types::transport::Transport;

/// Sends `script` to a fresh endpoint: the kind of the only answer, and one of its headers.
fn check(script: &Script, expected: &str, header: Option<(&str, &str)>) {
    let mut solo = Solo::new();
    solo.receive(&script.text());
    let answer = solo.take_one();
    assert_eq!(answer.kind(), expected, "{}", script.text());
    if let Some((name, value)) = header {
        assert_eq!(answer.header(name).join(", "), value, "{}", script.text());
    }
    let cause = if expected == "483" { "loop" } else { "protocol_error" };
    let is_told = script.method == "INVITE";
    let told = if is_told { vec![format!("declined {expected} {cause}")] } else { Vec::new() };
    assert_eq!(kinds(&solo.take_events()), told, "{}", script.text());
    solo.assert_empty();
}

/// The only thing that was told, which is of an INVITE that came to nothing.
fn declined(solo: &mut Solo) -> Declined {
    match solo.take_events().pop() {
        Some(Event::Declined(declined)) => *declined,
        other => panic!("{other:?}"),
    }
}

const ALLOW: &str = "INVITE, ACK, CANCEL, BYE, OPTIONS, INFO, PRACK, NOTIFY, UPDATE";

#[test]
fn an_unknown_method_gets_405_with_allow() {
    for method in ["FOO", "REGISTER", "SUBSCRIBE", "NOTIFY", "MESSAGE", "PUBLISH", "REFER"] {
        check(&Script::new(method, "a"), "405", Some(("Allow", ALLOW)));
    }
}

#[test]
fn answers_that_are_longer_than_what_came_from_who_may_be_forged_may_be_withheld() {
    let cases = [
        ("OPTIONS", "OPTIONS", "200"),
        ("FROB", "FROB", "405"),
        ("BYE", "BYE", "481"),
        ("OPTIONS", "INVITE", "400"),
    ];
    for (method, cseq_method, kind) in cases {
        let mut solo = Solo::new();
        let (mut sent, mut left) = (0, 0);
        for padding in 0..500 {
            let text = format!(
                "{method} sip:a@h SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1;rport\r\nFrom: <sip:b@h>;tag=1\r\n\
                 To: <sip:a@h>\r\nCall-ID: x\r\nCSeq: 1 {cseq_method}\r\nX: {}\r\n\r\n",
                "p".repeat(padding)
            );
            solo.receive_unproven(&text);
            let (answers, burdens) = (solo.take_sent(), std::mem::take(&mut solo.burdens));
            assert_eq!(answers.len() + burdens.len(), 1, "{text}");
            assert!(answers.iter().all(|answer| answer.bytes.len() <= text.len()), "{text}");
            assert!(burdens.iter().all(|answer| answer.len() > text.len()), "{text}");
            (sent, left) = (sent + answers.len(), left + burdens.len());
            // Who is proven gets each, and so does who opened a connection.
            solo.receive(&text);
            assert_eq!(solo.take_kinds(), [kind], "{text}");
        }
        assert!(sent > 0 && left > 0, "{kind}: {sent} and {left}");
        let mut stream = Solo::over(Transport::Tcp);
        stream.receive_unproven(&Script::new("FROB", "a").text());
        assert_eq!((stream.take_kinds(), stream.burdens.len()), (vec!["405".to_owned()], 0));
    }
}

#[test]
fn options_tells_what_is_accepted_and_503_while_draining() {
    check(&Script::new("OPTIONS", "a"), "200", Some(("Allow", ALLOW)));
    check(&Script::new("OPTIONS", "a"), "200", Some(("Accept", "application/sdp")));
    let mut solo = Solo::new();
    let invite = Script::invite("running");
    let (_, ok) = established(&mut solo, &invite);
    solo.endpoint.set_draining(true);
    solo.receive(&Script::new("OPTIONS", "a").text());
    solo.receive(&Script::invite("new").text());
    let sent = solo.take_sent();
    // A new call is refused by whoever keeps its record, not here.
    assert_eq!([sent[0].kind(), sent[1].kind()], ["503", "100"]);
    // Spread, so that callers do not come back together.
    let after: u32 = sent[0].header("Retry-After")[0].parse().expect("seconds");
    assert!((30..=60).contains(&after), "{after}");
    solo.receive(&invite.next("BYE", 2, &ok).text());
    assert_eq!(solo.take_kinds(), ["200"]);
    solo.endpoint.set_draining(false);
    solo.receive(&Script::new("OPTIONS", "b").text());
    assert_eq!(solo.take_kinds(), ["200"]);
}

#[test]
fn an_answer_without_state_is_the_same_each_time() {
    let mut solo = Solo::new();
    let options = Script::new("OPTIONS", "a").text();
    solo.receive(&options);
    solo.receive(&options);
    let sent = solo.take_sent();
    assert_eq!(sent[0].bytes, sent[1].bytes);
}

#[test]
fn an_invite_without_contact_gets_400() {
    check(&Script { contact: None, ..Script::invite("a") }, "400", None);
    let garbage = Some("<<<<<".to_owned());
    check(&Script { contact: garbage, ..Script::invite("a") }, "400", None);
}

#[test]
fn an_invite_without_from_tag_gets_400() {
    let text = Script::invite("a").text().replace(";tag=peer-a", "");
    let mut solo = Solo::new();
    solo.receive(&text);
    assert_eq!(solo.take_kinds(), ["400"]);
}

#[test]
fn a_merged_invite_gets_482_and_opens_no_second_call() {
    let mut solo = Solo::new();
    let invite = Script::invite("a");
    solo.receive(&invite.text());
    solo.receive(&invite.clone().branch("z9hG4bKother").text());
    assert_eq!(solo.take_kinds(), ["100", "482"]);
    assert_eq!(kinds(&solo.take_events()), ["invited", "declined 482 loop"]);
    assert_eq!(solo.count(Counter::Merged), 1);
    // A new attempt after a challenge has a higher number, and is no copy.
    let again = Script { cseq: 2, ..invite.branch("z9hG4bKthird") };
    solo.receive(&again.text());
    assert_eq!(kinds(&solo.take_events()), ["invited"]);
}

#[test]
fn no_hops_left_gets_483_but_options_is_answered() {
    let spent = |script: Script| script.text().replace("Max-Forwards: 70", "Max-Forwards: 0");
    let mut solo = Solo::new();
    solo.receive(&spent(Script::invite("a")));
    solo.receive(&spent(Script::new("OPTIONS", "b")));
    assert_eq!(solo.take_kinds(), ["483", "200"]);
    assert_eq!(kinds(&solo.take_events()), ["declined 483 loop"]);
}

#[test]
fn an_invite_that_comes_to_nothing_is_told_with_what_came_and_why() {
    let mut solo = Solo::new();
    let text = Script::invite("a").header("Require: x-new").text();
    solo.receive(&text);
    let told = declined(&mut solo);
    assert_eq!((told.flow, told.status), (solo.flow, Some(420)));
    assert_eq!(told.message, text.as_bytes());
    assert_eq!(told.why, "it requires what is not served: x-new");

    // Not to be parsed, but with enough left for an answer.
    solo.receive(&Script::invite("b").text().replace("CSeq: 1", "CSeq: x"));
    let told = declined(&mut solo);
    assert_eq!((told.status, told.cause), (Some(400), HangupCause::ProtocolError));
    assert!(told.why.starts_with("Bad CSeq, at byte "), "{}", told.why);
    assert!(solo.take_last().text().starts_with("SIP/2.0 400 Bad CSeq"));

    // Nothing is left to answer with.
    solo.receive("INVITE sip:+15550100@192.0.2.1 SIP/2.0\r\nCall-ID: c\r\n\r\n");
    let told = declined(&mut solo);
    assert_eq!((told.status, told.cause), (None, HangupCause::ProtocolError));
    // Of what is no INVITE nothing is told.
    solo.receive("OPTIONS sip:+15550100@192.0.2.1 SIP/2.0\r\nCall-ID: c\r\n\r\n");
    solo.receive("nothing");
    assert_eq!((solo.take_events().len(), solo.take_sent().len()), (0, 0));

    // Of a call that is not here.
    let lost = Script { to_tag: Some("0123456789abcdef".to_owned()), ..Script::invite("d") };
    solo.receive(&lost.text());
    assert_eq!(kinds(&solo.take_events()), ["declined 481 unknown_dialog"]);
    solo.receive(&Script { method: "BYE".to_owned(), ..lost }.text());
    assert_eq!(solo.take_kinds(), ["481", "481"]);
    assert_eq!(solo.take_events().len(), 0);
    solo.assert_empty();
}

#[test]
fn a_required_extension_we_do_not_have_gets_420() {
    let require = |line: &str| Script::invite("a").header(line);
    check(&require("Require: x-new"), "420", Some(("Unsupported", "x-new")));
    let many = require("Require: timer, precondition, x-new");
    check(&many, "420", Some(("Unsupported", "precondition, x-new")));
    for fine in ["Require: timer, 100rel", "Supported: 100rel, precondition", "Proxy-Require: foo"]
    {
        let mut solo = Solo::new();
        solo.receive(&require(fine).text());
        assert_eq!(solo.take_kinds(), ["100"], "{fine}");
    }
}

#[test]
fn a_body_that_cannot_be_read_gets_415() {
    let body = |kind, text: &str| Script::invite("a").body(kind, text);
    check(&body("text/plain", "hello"), "415", Some(("Accept", "application/sdp")));
    check(&body("multipart/mixed", "x"), "415", None);
    let encoded = Script::invite("a").header("Content-Encoding: gzip");
    check(&encoded, "415", Some(("Accept-Encoding", "identity")));
    let odd = Script::invite("a").header("Content-Disposition: icon;handling=required");
    check(&odd, "415", None);
    let optional = body("text/plain", "hello").header("Content-Disposition: x;handling=optional");
    let mut solo = Solo::new();
    solo.receive(&optional.text());
    assert_eq!(solo.take_kinds(), ["100"]);
}

#[test]
fn a_description_inside_multipart_is_found() {
    let body = format!(
        "--b\r\nContent-Type: application/isup\r\n\r\nxx\r\n--b\r\nContent-Type: application/sdp\r\n\
         \r\n{SDP}\r\n--b--\r\n"
    );
    let mut solo = Solo::new();
    solo.receive(&Script::invite("a").body("multipart/mixed;boundary=b", &body).text());
    match solo.take_events().as_slice() {
        [Event::Invited(invitation)] => {
            let body = invitation.body.as_ref().unwrap();
            assert!(body.bytes.starts_with(b"v=0\r\n"), "{body:?}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_scheme_we_cannot_call_gets_416_and_tel_is_fine() {
    let to = |uri: &str| Script { uri: uri.to_owned(), ..Script::invite("a") };
    check(&to("mailto:a@b"), "416", None);
    for fine in ["tel:+15550100", "sips:a@b", "sip:+15550100;npdi@h;user=phone"] {
        let mut solo = Solo::new();
        solo.receive(&to(fine).text());
        assert_eq!(solo.take_kinds(), ["100"], "{fine}");
    }
}

#[test]
fn a_too_short_session_expires_gets_422() {
    let short = Script::invite("a").header("Session-Expires: 60");
    check(&short.clone().header("Supported: timer"), "422", Some(("Min-SE", "90")));
    let mut solo = Solo::new();
    solo.receive(&short.text());
    let dialog = solo.take_invited();
    solo.command(Command::Accept { dialog, body: SDP.into() });
    assert_eq!(solo.take_last().header("Session-Expires").len(), 0);
}

#[test]
fn maddr_does_not_reflect_traffic() {
    let mut solo = Solo::new();
    let text = Script::new("OPTIONS", "a").text();
    solo.receive(&text.replace(";rport", ";rport;maddr=203.0.113.66;received=203.0.113.67"));
    let answer = solo.take_one();
    assert_eq!(answer.flow, solo.flow);
    let via = answer.header("Via").remove(0);
    assert!(via.contains("received=192.0.2.2;rport=5060"), "{via}");
    assert!(!via.contains("203.0.113.67"), "{via}");
}

/// The messages of the nasty set, but for the ones the parser's own tests hold.
fn nasty() -> Vec<Vec<u8>> {
    let invite = Script::invite("n").text();
    let options = Script::new("OPTIONS", "n").text();
    let with = |from: &str, to: &str| invite.replace(from, to).into_bytes();
    let via = "Via: SIP/2.0/UDP 192.0.2.2:5060;branch=z9hG4bK-n-INVITE;rport\r\n";
    let mut set = vec![
        invite.as_bytes()[..200].to_vec(),
        invite.trim_end().as_bytes().to_vec(),
        with(&format!("Content-Length: {}", SDP.len()), "Content-Length: 4294967295"),
        with(&format!("Content-Length: {}", SDP.len()), "Content-Length: 1180591620717411303424"),
        with(&format!("Content-Length: {}", SDP.len()), "Content-Length: -1"),
        with(via, ""),
        with(via, "Via: \r\n"),
        with(";branch=z9hG4bK-n-INVITE", ""),
        with("192.0.2.2:5060;branch", "192.0.2.2:99999999;branch"),
        invite.replace(";tag=peer-n", "").replace(";branch=z9hG4bK-n-INVITE", "").into_bytes(),
        with("CSeq: 1 INVITE", "CSeq: 99999999999 INVITE"),
        with("CSeq: 1 INVITE", "CSeq: 4294967295 INVITE"),
        with("CSeq: 1 INVITE", "CSeq: 1 BYE"),
        options.replace("CSeq: 1 OPTIONS", "CSeq: 1 INVITE").into_bytes(),
        options.replace("CSeq: 1 OPTIONS", "CSeq: 1 ACK").into_bytes(),
        Script::new("ACK", "stray").text().into_bytes(),
        Script::new("CANCEL", "stray").text().into_bytes(),
        with("Contact: <sip:caller@192.0.2.2:5060>\r\n", ""),
        with(";tag=peer-n", ""),
        vec![0; 500],
        b"\x00\x01\x00\x00\x21\x12\xa4\x42abcdefghijkl".to_vec(),
        Vec::new(),
        b"\r\n\r\n".to_vec(),
        with("Contact:", &format!("X-Long: {}\r\nContact:", "a".repeat(64_000))),
        with("Contact:", &format!("X-Long: {}\r\nContact:", "a".repeat(9_000))),
        with("Contact:", &format!("{}Contact:", "X: y\r\n".repeat(3_000))),
        with("Contact:", &format!("{}Contact:", via.repeat(1_000))),
        with("Contact:", "Subject : x\r\n folded\r\n\tagain\r\nm:"),
        invite.replace("\r\n", "\n").into_bytes(),
        with("sip:caller@192.0.2.2>;tag", "tel:+1555;phone-context=x>;tag"),
        with("INVITE sip:+15550100@192.0.2.1", "INVITE tel:+15550100"),
        with("INVITE sip:", "INVITE  sip:"),
        with("SIP/2.0\r\nVia", "sip/2.0\r\nVia"),
        Script::new("FOO", "n").text().into_bytes(),
        with("Call-ID:", "From: <sip:x@y>;tag=z\r\nCall-ID:"),
        with("From: <", "From: \"a\\\"b\\\\\" <"),
        with("INVITE sip:+15550100@192.0.2.1", "INVITE sip:x@[2001:db8::1]:5070"),
        with(";rport", ";rport;maddr=203.0.113.1"),
        with("<sip:caller@192.0.2.2:5060>", "<<<<<"),
        b"SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK0123456789abcdef\r\nFrom: <sip:a@b>;tag=1\
          \r\nTo: <sip:a@b>;tag=2\r\nCall-ID: x\r\nCSeq: 1 INVITE\r\n\r\n"
            .to_vec(),
        b"SIP/2.0 70000 No\r\nVia: SIP/2.0/UDP h\r\n\r\n".to_vec(),
    ];
    let mut latin = with("From: <", "From: \"J@rgen\" <");
    let at = latin.iter().position(|byte| *byte == b'@').unwrap();
    latin[at] = 0xfc;
    set.push(latin);
    let mut random = vec![0; 1_200];
    Random::from_seed(5).fill(&mut random);
    set.push(random);
    set
}

/// Sends `message` and asserts that OPTIONS is still answered 200.
fn survives(solo: &mut Solo, message: Vec<u8>, number: usize) {
    solo.input(Input::Received { flow: solo.flow, message: Bytes::from(message) });
    solo.take_sent();
    solo.receive(&Script::new("OPTIONS", &format!("probe-{number}")).text());
    assert_eq!(solo.take_one().kind(), "200", "{number}");
}

#[test]
fn the_nasty_set_does_not_keep_options_from_being_answered() {
    let mut solo = Solo::new();
    for (number, message) in nasty().into_iter().enumerate() {
        survives(&mut solo, message, number);
        solo.advance_ms(100);
    }
    solo.advance(Duration::from_secs(70));
    assert!(solo.endpoint.gauges().dialogs <= 20, "{:?}", solo.endpoint.gauges());
}

#[test]
fn a_request_without_via_does_not_panic() {
    let mut solo = Solo::new();
    let text = Script::new("OPTIONS", "a").text();
    for via in ["", "Via:\r\n", "Via: x\r\n", "Via: SIP/2.0/UDP\r\n"] {
        let (before, rest) = text.split_once("Via: ").unwrap();
        let (_, after) = rest.split_once("\r\n").unwrap();
        solo.receive(&format!("{before}{via}{after}"));
    }
    assert_eq!(solo.take_kinds().len(), 0);
    assert_eq!(solo.counted.len(), 4);
}

/// Changes a message in 1 to 8 places.
fn mutate(message: &[u8], random: &mut Random) -> Vec<u8> {
    const BITS: [&[u8]; 13] =
        [b"\r\n", b"<", b">", b"\"", b";", b",", b"\0", b"[::", b"%", b":", b"\xff", b" ", b"="];
    let mut bytes = message.to_vec();
    for _ in 0..=random.below(8) {
        let at = random.below(bytes.len() as u64 + 1) as usize;
        match random.below(4) {
            0 | 1 => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = random.next_u64() as u8;
                }
            }
            2 => {
                let end = (at + 1 + random.below(20) as usize).min(bytes.len());
                bytes.drain(at.min(end)..end);
            }
            _ => {
                let bit = BITS[random.below(BITS.len() as u64) as usize];
                bytes.splice(at..at, bit.iter().copied());
            }
        }
    }
    bytes
}

#[test]
fn six_thousand_mutations_leave_the_endpoint_alive() {
    let mut solo = Solo::new();
    let mut random = Random::from_seed(2026);
    let invite = Script::invite("known");
    let (dialog, ok) = established(&mut solo, &invite);
    let ours = {
        solo.command(Command::Reinvite { dialog, body: SDP.into() });
        let sent = solo.take_one();
        support::script::answer(&sent, 200, None, support::script::CALLED, SDP)
    };
    let texts = [
        Script::invite("m").text(),
        Script::new("OPTIONS", "m").text(),
        Script::invite("m").cancel().text(),
        invite.next("ACK", 1, &ok).text(),
        invite.next("INVITE", 2, &ok).body("application/sdp", SDP).text(),
        invite.next("UPDATE", 3, &ok).text(),
        invite.next("INFO", 4, &ok).body("application/dtmf-relay", "Signal=1").text(),
        ours,
    ];
    for number in 0..6_000 {
        // Three rounds share a call.
        let call = number / 24;
        let text = texts[number % texts.len()]
            .replace("K-m-", &format!("K-m{call}-"))
            .replace("Call-ID: m\r", &format!("Call-ID: m{call}\r"));
        let message = mutate(text.as_bytes(), &mut random);
        survives(&mut solo, message, number);
        if number % 16 == 0 {
            solo.advance_ms(250);
        }
    }
    // Whatever calls the mutations opened can still be ended, and nothing is left.
    let opened: Vec<DialogId> = solo.take_events().iter().filter_map(opened).collect();
    assert!(opened.len() > 10, "{}", opened.len());
    for other in opened.into_iter().chain([dialog]) {
        hangup(&mut solo, other);
    }
    solo.advance(Duration::from_secs(300));
    solo.assert_empty();
}

fn opened(event: &Event) -> Option<DialogId> {
    match event {
        Event::Invited(invitation) => Some(invitation.dialog),
        _ => None,
    }
}

#[test]
fn a_flood_of_requests_leaves_nothing_behind() {
    let mut solo = Solo::new();
    for number in 0..5_000 {
        for method in ["OPTIONS", "REGISTER", "FOO", "BYE", "CANCEL", "ACK"] {
            solo.receive(&Script::new(method, &format!("{number}")).text());
        }
    }
    assert_eq!(solo.take_sent().len(), 25_000);
    solo.assert_empty();
}
