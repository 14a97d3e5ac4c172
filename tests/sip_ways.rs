//! Which way requests of ours take: too long for a datagram, or to a next hop that has to be found first; and answers, once
//! the connection of their request is gone. In virtual time.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a failed check may panic")]

mod support;

use std::time::Duration;
use support::SDP;
use support::between;
use support::script::Script;
use support::script::answer;
use support::script::established;
use support::script::hangup;
use support::script::outbound;
use support::solo::Sent;
use support::solo::Solo;
use support::solo::kinds;
use tandem::sip::endpoint::event::Command;
use tandem::sip::endpoint::event::Counter;
use tandem::sip::endpoint::event::DialogId;
use tandem::sip::endpoint::event::Input;
use tandem::sip::endpoint::event::Refusal;
use tandem::sip::endpoint::event::Token;
use tandem::sip::endpoint::flow::Flow;
use tandem::sip::endpoint::flow::FlowId;
use tandem::sip::endpoint::outbound::OutboundInvite;
use tandem::sip::endpoint::outbound::OutboundRequest;
use tandem::sip::endpoint::policy::DialogPolicy;
use tandem::sip::endpoint::told::Search;
use tandem::sip::message::field::FieldValue;
use tandem::sip::message::method::Method;
use tandem::types::cause::HangupCause;
use tandem::types::transport::DatagramRule;
use tandem::types::transport::Oversize;
use tandem::types::transport::Transport;

/// What a call asks of a dialog.
type Asks = fn(DialogId) -> Command;

fn searching() -> Solo {
    let mut solo = Solo::new();
    solo.searches_by_hand = true;
    solo
}

fn rule(oversize: Oversize, may_stream: bool) -> DatagramRule {
    // Short enough for each request to be too long.
    DatagramRule { bytes_max: 200, oversize, may_stream }
}

/// An answered call of the peer's under a rule for our datagrams.
fn ruled(solo: &mut Solo, datagrams: DatagramRule) -> DialogId {
    let (dialog, _) = ruled_by(solo, datagrams, &Script::invite("a"));
    dialog
}

fn ruled_by(solo: &mut Solo, datagrams: DatagramRule, script: &Script) -> (DialogId, Sent) {
    solo.receive(&script.text());
    let dialog = solo.take_invited();
    let policy = DialogPolicy { datagrams, takes_refer: true, ..DialogPolicy::default() };
    solo.command(Command::Adopt { dialog, policy });
    solo.command(Command::Accept { dialog, body: SDP.into() });
    let ok = solo.take_last();
    solo.receive(&script.next("ACK", 1, &ok).text());
    solo.take_sent();
    solo.take_events();
    (dialog, ok)
}

fn reinvite(dialog: DialogId) -> Command {
    Command::Reinvite { dialog, body: SDP.into() }
}

fn refer(dialog: DialogId) -> Command {
    let refer_to = "sip:+15550123@h".to_owned();
    Command::Refer { dialog, refer_to, referred_by: None, headers: Vec::new() }
}

fn info(dialog: DialogId) -> Command {
    let content_type = FieldValue::new("application/dtmf-relay").unwrap();
    Command::Info { dialog, content_type, body: "Signal=5\r\n".into() }
}

fn register(flow: Flow, datagrams: DatagramRule) -> Command {
    let request = OutboundRequest::new(Token(7), flow, Method::Register, "sip:carrier.example");
    Command::Request(Box::new(OutboundRequest { datagrams, ..request }))
}

fn by_tcp(id: u64) -> Flow {
    let flow = between(Transport::Tcp, "192.0.2.1:40001", "192.0.2.2:5060");
    Flow { id: FlowId(id), ..flow }
}

fn one_search(solo: &mut Solo) -> Search {
    let mut searches = std::mem::take(&mut solo.searches);
    assert_eq!(searches.len(), 1, "{searches:?}");
    searches.remove(0)
}

fn find(solo: &mut Solo, search: &Search, flow: Option<Flow>) {
    solo.input(Input::Located { number: search.number, flow });
}

#[test]
fn every_request_too_long_for_a_datagram_goes_by_tcp_and_back_where_nobody_takes_that() {
    let datagrams = rule(Oversize::Tcp, true);
    let cases: [(&str, Asks); 4] = [
        ("INVITE", reinvite),
        ("REFER", refer),
        ("INFO", info),
        ("BYE", |dialog| Command::Hangup { dialog, cause: HangupCause::Normal }),
    ];
    for (method, command) in cases {
        let mut solo = searching();
        let dialog = ruled(&mut solo, datagrams);
        solo.command(command(dialog));
        assert_eq!(solo.take_kinds().len(), 0, "{method} waits for its connection");
        let search = one_search(&mut solo);
        assert_eq!(search.dialog, Some(dialog));
        assert_eq!((search.hop.host.as_str(), search.hop.port), ("192.0.2.2", Some(5060)));
        assert_eq!(search.hop.transport, Some(Transport::Tcp));
        find(&mut solo, &search, Some(by_tcp(9)));
        let sent = solo.take_one();
        assert_eq!((sent.kind().as_str(), sent.flow), (method, by_tcp(9)));
        assert!(sent.header("Via")[0].starts_with("SIP/2.0/TCP 192.0.2.1:5060;"), "{method}");
        // Nothing is repeated on a stream.
        solo.advance_ms(3_000);
        assert_eq!(solo.take_kinds().len(), 0);
        // RFC 3261 §18.1.1: the connection is refused.
        solo.input(Input::FlowClosed(FlowId(9)));
        let again = solo.take_one();
        assert_eq!((again.kind().as_str(), again.flow), (method, solo.flow));
        assert_eq!(again.text(), sent.text().replacen("SIP/2.0/TCP", "SIP/2.0/UDP", 1));
        solo.advance_ms(500);
        assert_eq!(solo.take_kinds(), [method], "timers A and E run now");
    }
    let mut solo = searching();
    solo.command(register(solo.flow, datagrams));
    let search = one_search(&mut solo);
    find(&mut solo, &search, Some(by_tcp(9)));
    assert_eq!((solo.take_one().flow, search.dialog), (by_tcp(9), None));
}

#[test]
fn an_answer_by_the_stream_ends_the_request_and_the_dialog_stays_where_it_was() {
    let mut solo = searching();
    let dialog = ruled(&mut solo, rule(Oversize::Tcp, true));
    solo.command(reinvite(dialog));
    let search = one_search(&mut solo);
    find(&mut solo, &search, Some(by_tcp(9)));
    let sent = solo.take_one();
    solo.receive_by(by_tcp(9), &answer(&sent, 200, None, "Contact: <sip:c@192.0.2.2>\r\n", SDP));
    assert_eq!(kinds(&solo.take_events()), ["reinvite answered"]);
    // So does its ACK, which is too long as well.
    let search = one_search(&mut solo);
    find(&mut solo, &search, Some(by_tcp(9)));
    assert_eq!((solo.take_one().kind(), solo.take_kinds().len()), ("ACK".to_owned(), 0));
    // The stream is of no use to the dialog: its end changes nothing.
    solo.input(Input::FlowClosed(FlowId(9)));
    assert_eq!((solo.take_kinds().len(), solo.take_events().len()), (0, 0));
    assert_eq!(solo.endpoint.gauges().dialogs, 1);
}

#[test]
fn a_request_that_is_too_long_and_may_not_go_by_a_stream_fails_at_once() {
    let datagrams = rule(Oversize::Compact, false);
    let cases: [(Asks, &str); 3] = [
        (reinvite, "reinvite refused 513"),
        (refer, "referring Refused(513)"),
        (info, "info answered 513"),
    ];
    for (command, told) in cases {
        let mut solo = searching();
        let dialog = ruled(&mut solo, datagrams);
        solo.command(command(dialog));
        assert_eq!(kinds(&solo.take_events()), [told]);
        assert_eq!((solo.take_kinds().len(), solo.count(Counter::RequestTooLong)), (0, 1));
        // Nothing is left in its way.
        solo.command(command(dialog));
        assert_eq!(kinds(&solo.take_events()), [told]);
        // The call ends all the same, with short names.
        hangup(&mut solo, dialog);
        let bye = solo.take_one();
        assert_eq!(bye.kind(), "BYE");
        assert!(bye.text().contains("\r\ni: a\r\n"), "{}", bye.text());
    }
    let mut solo = searching();
    solo.command(register(solo.flow, datagrams));
    assert_eq!(solo.take_events().len(), 1);
    let policy = DialogPolicy { datagrams, ..DialogPolicy::default() };
    solo.invite(OutboundInvite { policy, ..outbound(solo.flow) });
    assert_eq!(kinds(&solo.take_events()), ["refused 513"]);
    assert_eq!((solo.take_kinds().len(), solo.searches.len()), (0, 0));
    solo.assert_empty();
}

/// A call of ours that was answered by a party behind `record_route`, with the command to acknowledge.
fn answered(solo: &mut Solo, record_route: &str) -> (DialogId, String) {
    let dialog = solo.invite(outbound(solo.flow));
    let invite = solo.take_one();
    let lines = format!("Contact: <sip:called@10.9.9.9>\r\nRecord-Route: <{record_route}>\r\n");
    let ok = answer(&invite, 200, Some("callee"), &lines, SDP);
    solo.receive(&ok);
    solo.command(Command::Acknowledge { dialog, body: None });
    solo.take_events();
    (dialog, ok)
}

#[test]
fn requests_to_a_next_hop_with_a_name_wait_for_it_in_order_and_then_know_it() {
    let mut solo = searching();
    let (dialog, ok) = answered(&mut solo, "sip:sbc.example:5070;lr");
    // The 2xx comes again while the ACK waits.
    solo.advance_ms(500);
    solo.receive(&ok);
    solo.command(info(dialog));
    assert_eq!(solo.take_kinds().len(), 0);
    let search = one_search(&mut solo);
    assert_eq!((search.hop.host.as_str(), search.hop.port), ("sbc.example", Some(5070)));
    assert_eq!((search.dialog, search.from), (Some(dialog), solo.flow));
    let place = between(Transport::Udp, "192.0.2.1:5060", "203.0.113.5:5070");
    find(&mut solo, &search, Some(place));
    let sent = solo.take_sent();
    assert_eq!(sent.iter().map(Sent::kind).collect::<Vec<_>>(), ["ACK", "INFO"]);
    assert!(sent.iter().all(|sent| sent.flow == place));
    assert_eq!(sent[0].header("Route"), ["<sip:sbc.example:5070;lr>"]);
    // From now on nobody is asked.
    solo.receive(&ok);
    assert_eq!((solo.take_one().flow, solo.searches.len()), (place, 0));
    solo.receive(&answer(&sent[1], 200, None, "", ""));
    hangup(&mut solo, dialog);
    let bye = solo.take_one();
    assert_eq!((bye.kind().as_str(), bye.flow), ("BYE", place));
    solo.receive(&answer(&bye, 200, None, "", ""));
    solo.advance(Duration::from_secs(64));
    solo.assert_empty();
}

#[test]
fn a_next_hop_that_is_not_found_is_where_its_peer_was_heard() {
    for told in [true, false] {
        let mut solo = searching();
        let (dialog, _) = answered(&mut solo, "sip:sbc.example;lr");
        let search = one_search(&mut solo);
        if told {
            find(&mut solo, &search, None);
        } else {
            solo.advance_ms(1_999);
            assert_eq!(solo.take_kinds().len(), 0);
            solo.advance_ms(1);
        }
        let ack = solo.take_one();
        assert_eq!((ack.kind().as_str(), ack.flow), ("ACK", solo.flow));
        // Too late for that, and senseless.
        find(&mut solo, &search, Some(by_tcp(9)));
        find(&mut solo, &Search { number: 99, ..search }, Some(by_tcp(9)));
        assert_eq!(solo.take_kinds().len(), 0);
        hangup(&mut solo, dialog);
        one_search(&mut solo);
    }
}

#[test]
fn a_place_that_does_not_answer_is_looked_for_again() {
    let mut solo = searching();
    let (dialog, _) = answered(&mut solo, "sip:sbc.example;lr");
    let search = one_search(&mut solo);
    let place = between(Transport::Udp, "192.0.2.1:5060", "203.0.113.5:5060");
    find(&mut solo, &search, Some(place));
    solo.command(info(dialog));
    solo.advance(Duration::from_secs(33));
    assert_eq!(kinds(&solo.take_events()), ["info answered 408"]);
    solo.take_sent();
    hangup(&mut solo, dialog);
    one_search(&mut solo);
}

#[test]
fn a_route_that_asks_for_tcp_in_a_dialog_by_udp_gets_it() {
    let mut solo = searching();
    let script =
        Script::invite("a").header("Record-Route: <sip:203.0.113.5:5070;transport=tcp;lr>");
    let (dialog, _) = established(&mut solo, &script);
    hangup(&mut solo, dialog);
    let search = one_search(&mut solo);
    assert_eq!((search.hop.host.as_str(), search.hop.port), ("203.0.113.5", Some(5070)));
    let flow = Flow { remote: "203.0.113.5:5070".parse().unwrap(), ..by_tcp(9) };
    find(&mut solo, &search, Some(flow));
    let bye = solo.take_one();
    assert_eq!((bye.kind().as_str(), bye.flow), ("BYE", flow));
    assert!(bye.header("Via")[0].starts_with("SIP/2.0/TCP "));
    // A challenge to it is answered there too.
    solo.receive_by(flow, &answer(&bye, 200, None, "", ""));
    assert_eq!(kinds(&solo.take_events()), ["ended ByeAnswered"]);
}

/// A call of ours by TCP whose answerer left itself out of the route: its stream, and the way to who is in it.
fn left_out() -> (Solo, DialogId, String, Flow) {
    let mut solo = Solo::over(Transport::Tcp);
    solo.searches_by_hand = true;
    let (dialog, ok) = answered(&mut solo, "sip:203.0.113.5:5070;transport=tcp;lr");
    let there = Flow { remote: "203.0.113.5:5070".parse().unwrap(), ..by_tcp(9) };
    (solo, dialog, ok, there)
}

#[test]
fn in_a_dialog_by_tcp_requests_go_where_the_route_leads() {
    let cases: [(&str, Asks); 3] = [
        ("INVITE", reinvite),
        ("INFO", info),
        ("BYE", |dialog| Command::Hangup { dialog, cause: HangupCause::Normal }),
    ];
    for (method, command) in cases {
        let (mut solo, dialog, _, there) = left_out();
        assert_eq!(solo.take_kinds().len(), 0, "nothing goes to who is in no route");
        let search = one_search(&mut solo);
        assert_eq!((search.hop.host.as_str(), search.hop.port), ("203.0.113.5", Some(5070)));
        assert_eq!((search.hop.transport, search.from), (Some(Transport::Tcp), solo.flow));
        find(&mut solo, &search, Some(there));
        let ack = solo.take_one();
        assert_eq!((ack.kind().as_str(), ack.flow), ("ACK", there));
        solo.command(command(dialog));
        let search = one_search(&mut solo);
        find(&mut solo, &search, Some(there));
        let sent = solo.take_one();
        assert_eq!((sent.kind().as_str(), sent.flow), (method, there));
        assert_eq!(sent.header("Route"), ["<sip:203.0.113.5:5070;transport=tcp;lr>"]);
    }
}

#[test]
fn where_the_route_leads_to_nobody_the_stream_of_the_dialog_is_taken() {
    // Nothing is found.
    let (mut solo, dialog, _, _) = left_out();
    let search = one_search(&mut solo);
    find(&mut solo, &search, None);
    let ack = solo.take_one();
    assert_eq!((ack.kind().as_str(), ack.flow), ("ACK", solo.flow));
    hangup(&mut solo, dialog);
    let search = one_search(&mut solo);
    find(&mut solo, &search, None);
    assert_eq!(solo.take_one().flow, solo.flow);

    // Nobody takes the connection.
    let (mut solo, dialog, ok, there) = left_out();
    let search = one_search(&mut solo);
    find(&mut solo, &search, Some(there));
    assert_eq!(solo.take_one().flow, there);
    solo.input(Input::FlowClosed(there.id));
    solo.receive(&ok);
    let again: Vec<_> = solo.take_sent().iter().map(|sent| (sent.kind(), sent.flow)).collect();
    assert_eq!(again, [("ACK".to_owned(), there), ("ACK".to_owned(), solo.flow)]);
    hangup(&mut solo, dialog);
    let search = one_search(&mut solo);
    find(&mut solo, &search, Some(there));
    assert_eq!(solo.take_one().flow, there);
    solo.input(Input::FlowClosed(there.id));
    let bye = solo.take_one();
    assert_eq!((bye.kind().as_str(), bye.flow), ("BYE", solo.flow));
    // That one closes as well, and takes the request with it.
    solo.input(Input::FlowClosed(solo.flow.id));
    assert_eq!(kinds(&solo.take_events()), ["ended PeerTimeout"]);
    solo.advance(Duration::from_secs(65));
    solo.assert_empty();
}

/// The way to a next hop with a name is not found, and nobody hears what goes another way.
fn find_nothing(solo: &mut Solo) {
    for search in std::mem::take(&mut solo.searches) {
        find(solo, &search, None);
    }
    solo.take_sent();
}

#[test]
fn a_request_that_has_no_way_left_fails_with_a_cause_and_so_does_its_dialog() {
    for way_back in [None, Some(FlowId::way_back(5))] {
        let asked: [(Asks, &str); 3] =
            [(info, "info answered "), (refer, "referring "), (reinvite, "reinvite refused ")];
        for (asks, said) in asked {
            let mut solo = Solo::over(Transport::Tcp);
            solo.searches_by_hand = true;
            let (dialog, _) = answered(&mut solo, "sip:sbc.example;lr");
            find_nothing(&mut solo);
            if let Some(id) = way_back {
                solo.command(Command::ReachBy { dialog, way: Flow { id, ..solo.flow } });
            }
            solo.input(Input::FlowClosed(FlowId(1)));
            solo.take_sent();
            solo.command(asks(dialog));
            find_nothing(&mut solo);
            solo.advance(Duration::from_secs(33));
            find_nothing(&mut solo);
            let told = kinds(&solo.take_events());
            let is_over = told.iter().any(|kind| kind.starts_with("ended"));
            assert!(is_over || told.iter().any(|kind| kind.starts_with(said)), "{told:?}");
            if !is_over {
                hangup(&mut solo, dialog);
                find_nothing(&mut solo);
                solo.advance(Duration::from_secs(33));
                assert_eq!(kinds(&solo.take_events()), ["ended PeerTimeout"], "{said}");
            }
            solo.advance(Duration::from_secs(65));
            find_nothing(&mut solo);
            solo.advance(Duration::from_secs(65));
            assert_eq!(kinds(&solo.take_events()).len(), 0, "{said}: told once");
            solo.assert_empty();
        }
    }
}

/// Where a caller is reached once its connection is gone: at the port that its Via names, whatever port it came from.
fn back() -> Flow {
    Flow { id: FlowId::way_back(5), ..between(Transport::Tcp, "192.0.2.1:5060", "192.0.2.2:5060") }
}

fn early_by_stream(lines: &[&str]) -> (Solo, DialogId, Script, Sent) {
    early_by((Transport::Tcp, "TCP"), lines)
}

/// A caller by a connection that has heard 183, and that 183.
fn early_by(
    (transport, name): (Transport, &'static str),
    lines: &[&str],
) -> (Solo, DialogId, Script, Sent) {
    let mut solo = Solo::over(transport);
    solo.flow.remote = "192.0.2.2:40001".parse().unwrap();
    let invite = Script { transport: name, ..Script::invite("a") };
    let invite = lines.iter().fold(invite, |script, line| script.header(line));
    solo.receive(&invite.text());
    let dialog = solo.take_invited();
    let way = Flow { transport, remote: "192.0.2.2:5099".parse().unwrap(), ..back() };
    solo.command(Command::ReachBy { dialog, way });
    solo.command(Command::Progress { dialog, status: 183, body: Some(SDP.into()) });
    let early = solo.take_last();
    assert_eq!((early.kind().as_str(), early.flow), ("183", solo.flow));
    (solo, dialog, invite, early)
}

#[test]
fn a_caller_whose_connection_is_gone_is_answered_by_new_ones() {
    let (mut solo, dialog, invite, early) = early_by_stream(&[]);
    solo.input(Input::FlowClosed(FlowId(1)));
    // Whether it is still there shows before its call is answered.
    let again = solo.take_one();
    assert_eq!((again.bytes, again.flow), (early.bytes, back()));
    solo.input(Input::Led { by: back(), to: Some(FlowId(7)) });
    // That one it closes as well; the next is opened when there is something to say.
    solo.input(Input::FlowClosed(FlowId(7)));
    assert_eq!((solo.take_kinds().len(), solo.take_events().len()), (0, 0));
    solo.command(Command::Accept { dialog, body: SDP.into() });
    let ok = solo.take_one();
    assert_eq!((ok.kind().as_str(), ok.flow), ("200", back()));
    assert!(ok.header("Via").concat().contains("rport=40001"), "where it came from: {ok:?}");
    solo.input(Input::Led { by: back(), to: Some(FlowId(8)) });
    solo.advance_ms(500);
    let again = solo.take_one();
    assert_eq!((&again.bytes, again.flow), (&ok.bytes, back()));
    let by = Flow { id: FlowId(8), ..back() };
    solo.receive_by(by, &invite.next("ACK", 1, &ok).text());
    assert_eq!(kinds(&solo.take_events()), ["acknowledged"]);
    hangup(&mut solo, dialog);
    let bye = solo.take_one();
    assert_eq!((bye.kind().as_str(), bye.flow), ("BYE", by));
    solo.receive_by(by, &answer(&bye, 200, None, "", ""));
    assert_eq!(kinds(&solo.take_events()), ["ended ByeAnswered"]);
    solo.advance(Duration::from_secs(65));
    solo.assert_empty();
}

#[test]
fn a_refusal_takes_the_new_connection_too() {
    let (mut solo, dialog, invite, _) = early_by_stream(&[]);
    solo.input(Input::FlowClosed(FlowId(1)));
    solo.take_one();
    solo.input(Input::Led { by: back(), to: Some(FlowId(7)) });
    let (cause, headers) = (HangupCause::Busy, Vec::new());
    let refusal = Refusal { status: 486, cause, retry_after_s: None, headers, is_passed_on: false };
    solo.command(Command::Refuse { dialog, refusal });
    let refused = solo.take_one();
    let by = Flow { id: FlowId(7), ..back() };
    assert_eq!((refused.kind().as_str(), refused.flow), ("486", by));
    solo.receive_by(by, &invite.ack_of_refusal(&refused).text());
    solo.assert_empty();
}

#[test]
fn a_2xx_whose_connection_is_lost_before_its_ack_is_repeated_by_a_new_one() {
    let (mut solo, dialog, invite, _) = early_by_stream(&[]);
    solo.command(Command::Accept { dialog, body: SDP.into() });
    let ok = solo.take_one();
    assert_eq!(ok.flow, solo.flow);
    solo.input(Input::FlowClosed(FlowId(1)));
    solo.advance_ms(500);
    let again = solo.take_one();
    assert_eq!((&again.bytes, again.flow), (&ok.bytes, back()));
    solo.receive_by(Flow { id: FlowId(9), ..back() }, &invite.next("ACK", 1, &ok).text());
    assert_eq!(kinds(&solo.take_events()), ["acknowledged"]);
}

#[test]
fn a_caller_to_whom_no_connection_can_be_made_is_lost() {
    let none: [&[Input]; 2] = [
        &[Input::Led { by: back(), to: None }],
        &[Input::Led { by: back(), to: Some(FlowId(7)) }, Input::FlowFailed(FlowId(7))],
    ];
    for inputs in none {
        let (mut solo, ..) = early_by_stream(&[]);
        solo.input(Input::FlowClosed(FlowId(1)));
        solo.take_one();
        for input in inputs {
            solo.input(match input {
                Input::Led { by, to } => Input::Led { by: *by, to: *to },
                Input::FlowFailed(id) => Input::FlowFailed(*id),
                other => panic!("{other:?}"),
            });
        }
        assert_eq!(kinds(&solo.take_events()), ["ended FlowLost"], "{inputs:?}");
        assert_eq!(solo.take_kinds().len(), 0);
        solo.advance(Duration::from_secs(65));
        solo.assert_empty();
    }
}

#[test]
fn what_the_caller_says_by_a_new_connection_is_answered_there() {
    // Whether it is known yet that the one before is gone or not.
    for is_known in [false, true] {
        let there = Flow { id: FlowId(9), remote: "192.0.2.2:40002".parse().unwrap(), ..back() };
        let lost = |lines: &[&str]| {
            let (mut solo, dialog, invite, early) = early_by_stream(lines);
            if is_known {
                solo.input(Input::FlowClosed(FlowId(1)));
                solo.take_one();
            }
            (solo, dialog, invite, early)
        };
        let heard = |solo: &mut Solo| -> Vec<String> {
            let sent = solo.take_sent();
            assert!(sent.iter().all(|sent| sent.flow == there), "{is_known}: {sent:?}");
            sent.iter().map(Sent::kind).collect()
        };

        let (mut solo, dialog, invite, _) = lost(&[]);
        solo.receive_by(there, &invite.text());
        assert_eq!(heard(&mut solo), ["183"]);
        solo.command(Command::Accept { dialog, body: SDP.into() });
        assert_eq!(heard(&mut solo), ["200"]);
        solo.advance_ms(500);
        assert_eq!(heard(&mut solo), ["200"]);

        let (mut solo, _, invite, _) = lost(&[]);
        solo.receive_by(there, &invite.cancel().text());
        assert_eq!(heard(&mut solo), ["200", "487"]);
        assert_eq!(kinds(&solo.take_events()), ["cancelled"]);

        let (mut solo, dialog, invite, early) = lost(&["Require: 100rel"]);
        let rack = format!("RAck: {} 1 INVITE", early.header("RSeq").concat());
        solo.receive_by(there, &invite.next("PRACK", 2, &early).header(&rack).text());
        assert_eq!(heard(&mut solo), ["200"]);
        solo.command(Command::Accept { dialog, body: SDP.into() });
        assert_eq!(heard(&mut solo), ["200"]);
        solo.input(Input::FlowClosed(FlowId(1)));
        assert_eq!(solo.take_events().len(), 0, "it is of no use any more");
    }
}

#[test]
fn what_another_host_of_the_callers_says_or_says_in_the_clear_takes_no_answers_from_who_called() {
    let cases = [
        ((Transport::Tcp, "TCP"), "192.0.2.3:40002"),
        ((Transport::Tls, "TLS"), "192.0.2.2:40002"),
    ];
    for (by, remote) in cases {
        for is_lost in [false, true] {
            let beside = between(Transport::Tcp, "192.0.2.1:5060", remote);
            let beside = Flow { id: FlowId(9), ..beside };
            let (mut solo, dialog, invite, early) = early_by(by, &["Require: 100rel"]);
            let expected = match (is_lost, by.0) {
                (false, _) => solo.flow,
                // Nobody else is left to be told.
                (true, Transport::Tcp) => beside,
                (true, transport) => Flow { transport, ..back() },
            };
            if is_lost {
                solo.input(Input::FlowClosed(FlowId(1)));
                solo.take_one();
            }
            let rack = format!("RAck: {} 1 INVITE", early.header("RSeq").concat());
            solo.receive_by(beside, &invite.next("PRACK", 2, &early).header(&rack).text());
            assert_eq!(solo.take_one().flow, beside, "its own answer");
            solo.command(Command::Accept { dialog, body: SDP.into() });
            let ok = solo.take_one();
            assert_eq!((ok.kind().as_str(), ok.flow), ("200", expected), "{by:?} {is_lost}");
            // It is in no hurry to acknowledge.
            solo.receive_by(beside, &invite.next("OPTIONS", 3, &ok).text());
            assert_eq!(solo.take_one().flow, beside);
            solo.advance_ms(500);
            let again = solo.take_one();
            assert_eq!((&again.bytes, again.flow), (&ok.bytes, expected), "{by:?} {is_lost}");
            solo.receive_by(beside, &invite.next("ACK", 1, &ok).text());
            assert_eq!(kinds(&solo.take_events()), ["acknowledged"]);
            hangup(&mut solo, dialog);
            let bye = solo.take_one();
            assert_eq!((bye.kind().as_str(), bye.flow), ("BYE", beside), "where it was last");
        }
    }
}

#[test]
fn the_2xx_to_a_reinvite_is_repeated_by_the_connection_that_it_went_by() {
    let mut solo = Solo::over(Transport::Tcp);
    let invite = Script { transport: "TCP", ..Script::invite("a") };
    let (dialog, ok) = established(&mut solo, &invite);
    let reinvite = invite.next("INVITE", 2, &ok).body("application/sdp", SDP);
    solo.receive(&reinvite.text());
    assert_eq!(kinds(&solo.take_events()), ["reinvited"]);
    solo.take_sent();
    let beside = between(Transport::Tcp, "192.0.2.1:5060", "192.0.2.3:40002");
    let beside = Flow { id: FlowId(9), ..beside };
    solo.receive_by(beside, &invite.next("OPTIONS", 3, &ok).text());
    assert_eq!(solo.take_one().flow, beside);
    solo.command(Command::AnswerReinvite { dialog, body: SDP.into() });
    let ok = solo.take_one();
    assert_eq!((ok.kind().as_str(), ok.flow), ("200", solo.flow));
    assert!(ok.header("Via").concat().contains("rport=5060"), "where it came from: {ok:?}");
    solo.advance_ms(500);
    let again = solo.take_one();
    assert_eq!((&again.bytes, again.flow), (&ok.bytes, solo.flow));
    solo.receive(&invite.next("ACK", 2, &ok).text());
    assert_eq!(kinds(&solo.take_events()), ["acknowledged"]);
}
