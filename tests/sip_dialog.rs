//! What happens within dialogs besides re-INVITE and BYE: transfers, reliable provisional responses of
//! ours, and session timers under each policy, in virtual time.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a failed check may panic")]

mod support;

use std::sync::Arc;
use std::time::Duration;
use support::SDP;
use support::config;
use support::script::CALLED;
use support::script::Script;
use support::script::answer;
use support::script::connected;
use support::script::established;
use support::script::hangup;
use support::script::outbound;
use support::solo::Sent;
use support::solo::Solo;
use support::solo::kinds;
use tandem::sip::digest::client::Account;
use tandem::sip::endpoint::config::EndpointConfig;
use tandem::sip::endpoint::event::Command;
use tandem::sip::endpoint::event::Counter;
use tandem::sip::endpoint::event::DialogId;
use tandem::sip::endpoint::event::Event;
use tandem::sip::endpoint::event::Input;
use tandem::sip::endpoint::flow::Flow;
use tandem::sip::endpoint::flow::FlowId;
use tandem::sip::endpoint::outbound::OutboundInvite;
use tandem::sip::endpoint::policy::DialogPolicy;
use tandem::sip::endpoint::policy::RefreshMethod;
use tandem::sip::endpoint::policy::RefresherChoice;
use tandem::sip::endpoint::policy::Reliable;
use tandem::sip::endpoint::policy::SessionTimerMode;
use tandem::sip::endpoint::policy::SessionTimerPolicy;
use tandem::sip::message::field::FieldValue;
use tandem::sip::message::header::replaces::Replaces;
use tandem::types::cause::HangupCause;
use tandem::types::secret::Secret;
use tandem::types::transport::Advertised;
use tandem::types::transport::Transport;

const TARGET: &str = "sip:+15550122@carrier.example";

fn refer(dialog: DialogId) -> Command {
    let referred_by = Some("sip:+15550100@192.0.2.1".to_owned());
    Command::Refer { dialog, refer_to: TARGET.to_owned(), referred_by, headers: Vec::new() }
}

/// A request of the peer's in a call that it made.
struct Peer {
    invite: Script,
    ok: Sent,
    cseq: u32,
}

impl Peer {
    fn call(solo: &mut Solo) -> (DialogId, Self) {
        let invite = Script::invite("a");
        let (dialog, ok) = established(solo, &invite);
        (dialog, Self { invite, ok, cseq: 1 })
    }

    fn next(&mut self, method: &str) -> Script {
        self.cseq += 1;
        self.invite.next(method, self.cseq, &self.ok)
    }

    /// A NOTIFY about a REFER.
    fn notify(&mut self, state: &str, fragment: &str) -> Script {
        self.next("NOTIFY")
            .header("Event: refer")
            .header(&format!("Subscription-State: {state}"))
            .body("message/sipfrag", fragment)
    }
}

#[test]
fn refer_waits_for_the_final_notify() {
    let mut solo = Solo::new();
    let (dialog, mut peer) = Peer::call(&mut solo);
    solo.command(refer(dialog));
    let sent = solo.take_one();
    assert_eq!(sent.header("Refer-To"), [format!("<{TARGET}>")]);
    assert_eq!(sent.header("Referred-By"), ["<sip:+15550100@192.0.2.1>"]);
    assert_eq!(sent.header("Contact"), ["<sip:+15550100@192.0.2.1:5060>"]);
    solo.receive(&answer(&sent, 202, None, "", ""));
    solo.receive(&peer.notify("active;expires=60", "SIP/2.0 100 Trying\r\n").text());
    solo.receive(&peer.notify("active", "SIP/2.0 180 Ringing\r\n").text());
    solo.receive(&peer.notify("terminated;reason=noresource", "SIP/2.0 200 OK\r\n").text());
    assert_eq!(solo.take_kinds(), ["200", "200", "200"]);
    assert_eq!(
        kinds(&solo.take_events()),
        [
            "referring Accepted",
            "referring Progressed(100)",
            "referring Progressed(180)",
            "referring Finished(200)"
        ]
    );
    // Nothing is subscribed any more.
    solo.receive(&peer.notify("active", "SIP/2.0 180 Ringing\r\n").text());
    assert_eq!(solo.take_kinds(), ["481"]);
}

#[test]
fn refer_202_then_nothing_times_out() {
    let mut solo = Solo::new();
    let (dialog, mut peer) = Peer::call(&mut solo);
    solo.command(refer(dialog));
    let sent = solo.take_one();
    solo.receive(&answer(&sent, 202, None, "", ""));
    solo.advance_ms(31_999);
    assert_eq!(kinds(&solo.take_events()), ["referring Accepted"]);
    solo.advance_ms(1);
    assert_eq!(kinds(&solo.take_events()), ["referring Silent"]);
    // One that begins to tell has as long as it says.
    solo.command(refer(dialog));
    let sent = solo.take_one();
    solo.receive(&answer(&sent, 202, None, "", ""));
    solo.receive(&peer.notify("active;expires=50", "SIP/2.0 180 Ringing\r\n").text());
    solo.take_events();
    solo.advance_ms(49_999);
    assert_eq!(solo.take_events().len(), 0);
    solo.advance_ms(1);
    assert_eq!(kinds(&solo.take_events()), ["referring Silent"]);
    assert_eq!(solo.endpoint.gauges().dialogs, 1);
}

#[test]
fn a_refer_that_the_call_gave_up_gives_way_to_the_next() {
    let mut solo = Solo::new();
    let (dialog, mut peer) = Peer::call(&mut solo);
    solo.command(refer(dialog));
    let first = solo.take_one();
    solo.receive(&answer(&first, 202, None, "", ""));
    solo.receive(&peer.notify("active;expires=180", "SIP/2.0 100 Trying\r\n").text());
    solo.take_sent();
    solo.take_events();
    solo.advance(Duration::from_secs(30));
    solo.command(refer(dialog));
    let second = solo.take_one();
    assert_eq!(second.kind(), "REFER");
    solo.receive(&answer(&second, 202, None, "", ""));
    // What is told of the first is nobody's any more.
    let old = first.request().headers.cseq().number;
    let late = peer.next("NOTIFY").header(&format!("Event: refer;id={old}"));
    let late = late.header("Subscription-State: terminated;reason=timeout");
    solo.receive(&late.body("message/sipfrag", "SIP/2.0 408 Request Timeout").text());
    assert_eq!(solo.take_kinds(), ["481"]);
    solo.receive(&peer.notify("terminated", "SIP/2.0 200 OK\r\n").text());
    assert_eq!(kinds(&solo.take_events()), ["referring Accepted", "referring Finished(200)"]);
}

#[test]
fn a_refused_or_unanswered_refer_leaves_the_call() {
    for status in [403, 405, 603] {
        let mut solo = Solo::new();
        let (dialog, _) = Peer::call(&mut solo);
        solo.command(refer(dialog));
        let sent = solo.take_one();
        solo.receive(&answer(&sent, status, None, "", ""));
        assert_eq!(kinds(&solo.take_events()), [format!("referring Refused({status})")]);
        assert_eq!(solo.endpoint.gauges().dialogs, 1);
    }
    let mut solo = Solo::new();
    let (dialog, _) = Peer::call(&mut solo);
    solo.command(refer(dialog));
    solo.command(refer(dialog));
    assert_eq!(kinds(&solo.take_events()), ["referring Refused(491)"]);
    solo.advance(Duration::from_secs(32));
    assert_eq!(kinds(&solo.take_events()), ["referring Refused(408)"]);
    assert_eq!(solo.endpoint.gauges().dialogs, 1);
    let refer_to = "not a uri".to_owned();
    solo.command(Command::Refer { dialog, refer_to, referred_by: None, headers: Vec::new() });
    assert_eq!(kinds(&solo.take_events()), ["referring Refused(400)"]);
}

#[test]
fn a_notify_that_overtakes_the_202_and_a_bye_first_are_fine() {
    let mut solo = Solo::new();
    let (dialog, mut peer) = Peer::call(&mut solo);
    solo.command(refer(dialog));
    let sent = solo.take_one();
    solo.receive(&peer.notify("terminated", "SIP/2.0 200 OK\r\n").text());
    solo.receive(&answer(&sent, 202, None, "", ""));
    assert_eq!(kinds(&solo.take_events()), ["referring Finished(200)"]);
    solo.command(refer(dialog));
    solo.take_sent();
    solo.receive(&peer.next("BYE").text());
    assert_eq!(kinds(&solo.take_events()), ["ended Bye { reason: None }"]);
    solo.advance(Duration::from_secs(40));
    solo.assert_empty();
}

#[test]
fn a_notify_of_another_subscription_is_refused() {
    let mut solo = Solo::new();
    let (dialog, mut peer) = Peer::call(&mut solo);
    solo.receive(&peer.notify("active", "SIP/2.0 100 Trying\r\n").text());
    solo.receive(&peer.next("NOTIFY").header("Event: presence").text());
    solo.receive(&peer.next("NOTIFY").text());
    assert_eq!(solo.take_kinds(), ["481", "489", "489"]);
    solo.command(refer(dialog));
    let sent = solo.take_one();
    let cseq = sent.request().headers.cseq().number;
    for (id, status) in [(cseq + 1, "481"), (cseq, "200")] {
        let notify = peer.next("NOTIFY").header(&format!("Event: refer;id={id}"));
        let notify = notify.header("Subscription-State: active");
        solo.receive(&notify.body("message/sipfrag", "SIP/2.0 100 Trying").text());
        assert_eq!(solo.take_kinds(), [status]);
    }
    // One that ends without an outcome tells that.
    solo.receive(&peer.notify("terminated;reason=timeout", "").text());
    assert_eq!(kinds(&solo.take_events()), ["referring Progressed(100)", "referring Silent"]);
}

#[test]
fn a_call_of_the_peers_is_told_where_we_are() {
    let mut solo = Solo::new();
    let invite = Script::invite("a");
    solo.receive(&invite.text());
    let dialog = solo.take_invited();
    let host = "[2001:db8::7]".to_owned();
    let advertised = Arc::new(Advertised { host, port: Some(5066) });
    solo.command(Command::Advertise { dialog, advertised });
    solo.command(Command::Accept { dialog, body: SDP.into() });
    let ok = solo.take_last();
    let contact = ok.header("Contact")[0].to_owned();
    assert!(contact.ends_with("@[2001:db8::7]:5066>"), "{contact}");
    solo.receive(&invite.next("ACK", 1, &ok).text());
    solo.take_sent();
    solo.command(Command::Reinvite { dialog, body: SDP.into() });
    let again = solo.take_one();
    assert!(again.header("Via")[0].starts_with("SIP/2.0/UDP [2001:db8::7]:5066;"), "{again:?}");
    assert_eq!(again.header("Contact"), [contact]);
}

/// A call of the peer's that may be transferred by it.
fn transferable(solo: &mut Solo) -> (DialogId, Peer) {
    let invite = Script::invite("a");
    solo.receive(&invite.text());
    let dialog = solo.take_invited();
    let policy = DialogPolicy { takes_refer: true, ..DialogPolicy::default() };
    solo.command(Command::Adopt { dialog, policy });
    solo.command(Command::Accept { dialog, body: SDP.into() });
    let ok = solo.take_last();
    assert!(ok.header("Allow")[0].contains("REFER"));
    solo.receive(&invite.next("ACK", 1, &ok).text());
    solo.take_sent();
    solo.take_events();
    (dialog, Peer { invite, ok, cseq: 1 })
}

#[test]
fn a_refer_of_the_peer_is_told_accepted_and_reported_on() {
    let mut solo = Solo::new();
    let (dialog, mut peer) = transferable(&mut solo);
    let replaces = "?Replaces=other%40x%3Bto-tag%3D1%3Bfrom-tag%3D2";
    let line = format!("Refer-To: \"B\" <{TARGET}{replaces}>");
    solo.receive(&peer.next("REFER").header(&line).header("Referred-By: <sip:x@y>").text());
    assert_eq!(solo.take_kinds().len(), 0);
    match solo.take_events().as_slice() {
        [Event::Referred { referred, .. }] => {
            assert_eq!(referred.refer_to.uri().user(), Some(&b"+15550122"[..]));
            assert_eq!(referred.replaces.as_ref().unwrap().call_id, "other@x");
            assert_eq!(referred.referred_by.as_deref(), Some(&b"<sip:x@y>"[..]));
        }
        other => panic!("{other:?}"),
    }
    // Only one at a time.
    solo.receive(&peer.next("REFER").header(&line).text());
    assert_eq!(solo.take_kinds(), ["491"]);
    solo.command(Command::AcceptRefer { dialog });
    let sent = solo.take_sent();
    assert_eq!([sent[0].kind(), sent[1].kind()], ["202", "NOTIFY"]);
    let notify = &sent[1];
    assert_eq!(notify.header("Event"), ["refer;id=2"]);
    assert!(notify.header("Subscription-State")[0].starts_with("active;expires="));
    assert_eq!(notify.request().body, "SIP/2.0 100 Trying\r\n");
    // News wait for the answer to the news before; only the last is told.
    solo.command(Command::NotifyRefer { dialog, status: 180 });
    solo.command(Command::NotifyRefer { dialog, status: 200 });
    assert_eq!(solo.take_kinds().len(), 0);
    solo.receive(&answer(notify, 200, None, "", ""));
    let last = solo.take_one();
    assert_eq!(last.request().body, "SIP/2.0 200 OK\r\n");
    assert_eq!(last.header("Subscription-State"), ["terminated;reason=noresource"]);
    solo.receive(&answer(&last, 200, None, "", ""));
    // Over: another may come.
    solo.receive(&peer.next("REFER").header(&line).text());
    assert_eq!(kinds(&solo.take_events()), ["referred"]);
    let (status, cause) = (603, HangupCause::Policy);
    solo.command(Command::RefuseRefer { dialog, status, cause });
    assert_eq!(solo.take_kinds(), ["603"]);
}

#[test]
fn a_refer_is_refused_where_it_makes_no_sense() {
    let mut solo = Solo::new();
    let (_, mut peer) = Peer::call(&mut solo);
    solo.receive(&peer.next("REFER").header(&format!("Refer-To: <{TARGET}>")).text());
    assert_eq!(solo.take_kinds(), ["603"]);
    let mut solo = Solo::new();
    let (dialog, mut peer) = transferable(&mut solo);
    solo.receive(&peer.next("REFER").text());
    solo.receive(&peer.next("REFER").header("Refer-To: <<<").text());
    assert_eq!(solo.take_kinds(), ["400", "400"]);
    // One the call has not answered is answered with the end of the call.
    solo.receive(&peer.next("REFER").header(&format!("Refer-To: <{TARGET}>")).text());
    hangup(&mut solo, dialog);
    assert_eq!(solo.take_kinds(), ["487", "BYE"]);
}

#[test]
fn a_referral_whose_outcome_is_never_told_ends_by_itself() {
    let mut solo = Solo::new();
    let (dialog, mut peer) = transferable(&mut solo);
    solo.receive(&peer.next("REFER").header(&format!("Refer-To: <{TARGET}>")).text());
    solo.command(Command::AcceptRefer { dialog });
    let notify = solo.take_last();
    solo.receive(&answer(&notify, 200, None, "", ""));
    solo.advance(Duration::from_secs(180));
    let last = solo.take_one();
    assert_eq!(last.request().body, "SIP/2.0 408 Request Timeout\r\n");
}

#[test]
fn an_invite_with_replaces_names_the_dialog_it_wants() {
    let settings = EndpointConfig { takes_replaces: true, ..config(7, "192.0.2.1") };
    let mut solo = Solo::with(settings, Transport::Udp);
    let (dialog, peer) = Peer::call(&mut solo);
    let name = solo.endpoint.name_of(dialog).unwrap();
    let local = String::from_utf8(name.local_tag.to_vec()).unwrap();
    let line = format!("Replaces: a;to-tag={local};from-tag={}", peer.invite.from_tag);
    let second = Script::invite("b").header(&line).header("Require: replaces");
    solo.receive(&second.text());
    match solo.take_events().as_slice() {
        [Event::Invited(invitation)] => {
            let replaces = invitation.replaces.as_ref().unwrap();
            assert!(name.is_meant_by(replaces));
            let other = Replaces { from_tag: "x".into(), ..replaces.clone() };
            assert!(!name.is_meant_by(&other));
        }
        other => panic!("{other:?}"),
    }
    // Where nobody carries it out, it is read over, or 420 when it must not be.
    let mut solo = Solo::new();
    solo.receive(&second.text());
    assert_eq!(solo.take_kinds(), ["420"]);
    assert_eq!(kinds(&solo.take_events()), ["declined 420 protocol_error"]);
    solo.receive(&Script::invite("c").header(&line).text());
    match solo.take_events().as_slice() {
        [Event::Invited(invitation)] => assert_eq!(invitation.replaces, None),
        other => panic!("{other:?}"),
    }
}

/// A call of the peer's that wants reliable provisional responses.
fn reliable(solo: &mut Solo, lines: &[&str], body: &str) -> (DialogId, Script) {
    let invite = Script { body: body.to_owned(), ..Script::invite("a") };
    let invite = lines.iter().fold(invite, |script, line| script.header(line));
    solo.receive(&invite.text());
    let dialog = solo.take_invited();
    assert_eq!(solo.take_kinds(), ["100"]);
    (dialog, invite)
}

fn prack(invite: &Script, response: &Sent, cseq: u32) -> Script {
    let rseq = response.header("RSeq").remove(0);
    invite.next("PRACK", cseq, response).header(&format!("RAck: {rseq} 1 INVITE"))
}

#[test]
fn a_reliable_1xx_is_retransmitted_until_prack() {
    let mut solo = Solo::new();
    let (dialog, _) = reliable(&mut solo, &["Require: 100rel"], SDP);
    solo.command(Command::Progress { dialog, status: 180, body: None });
    let ringing = solo.take_one();
    assert_eq!(ringing.header("Require"), ["100rel"]);
    solo.advance_ms(8_000);
    let again = solo.take_sent();
    let start = ringing.at;
    let times: Vec<_> = again.iter().map(|it| it.at.since(start).as_millis()).collect();
    assert_eq!(times, [500, 1_500, 3_500, 7_500]);
    assert!(again.iter().all(|it| it.bytes == ringing.bytes));
}

#[test]
fn retransmission_of_a_reliable_18x_stops_on_prack() {
    let mut solo = Solo::new();
    let (dialog, invite) = reliable(&mut solo, &["Require: 100rel"], SDP);
    solo.command(Command::Progress { dialog, status: 180, body: None });
    let ringing = solo.take_one();
    solo.receive(&prack(&invite, &ringing, 2).text());
    assert_eq!(solo.take_kinds(), ["200"]);
    solo.advance_ms(40_000);
    assert_eq!(solo.take_kinds().len(), 0);
    // One that means nothing is told so, and the call goes on.
    solo.receive(&prack(&invite, &ringing, 3).text());
    assert_eq!(solo.take_kinds(), ["481"]);
    assert_eq!(solo.endpoint.gauges().dialogs, 1);
}

#[test]
fn a_prack_names_its_response_by_all_three_numbers() {
    let mut solo = Solo::new();
    let (dialog, invite) = reliable(&mut solo, &["Require: 100rel"], SDP);
    solo.command(Command::Progress { dialog, status: 180, body: None });
    let ringing = solo.take_one();
    let rseq: u32 = ringing.header("RSeq")[0].parse().unwrap();
    let wrong = [
        format!("{} 1 INVITE", rseq + 1),
        format!("{rseq} 2 INVITE"),
        format!("{rseq} 1 UPDATE"),
        "rubbish".to_owned(),
    ];
    for (cseq, rack) in (2..).zip(&wrong) {
        let prack = invite.next("PRACK", cseq, &ringing).header(&format!("RAck: {rack}"));
        solo.receive(&prack.text());
        assert_eq!(solo.take_kinds(), ["481"], "{rack}");
    }
    solo.receive(&prack(&invite, &ringing, 9).text());
    assert_eq!(solo.take_kinds(), ["200"]);
}

#[test]
fn mixed_realm_trunk_calls_are_not_403() {
    // Neither side's host is ours: who may call is for routing to say, by source and number.
    let mut solo = Solo::new();
    let mut invite = Script::invite("a");
    invite.uri = "sip:+15550100@pbx.customer.example".to_owned();
    let text = invite.text().replace("<sip:caller@192.0.2.2>", "<sip:+15550111@far.example>");
    solo.receive(&text.replace("<sip:+15550100@192.0.2.1>", "<sip:+15550100@other.example>"));
    assert_eq!(kinds(&solo.take_events()), ["invited"]);
}

#[test]
fn rseq_goes_up_by_one() {
    let mut solo = Solo::new();
    let (dialog, invite) = reliable(&mut solo, &["Require: 100rel"], SDP);
    for status in [180, 181, 183] {
        solo.command(Command::Progress { dialog, status, body: None });
    }
    let first = solo.take_one();
    let number = |sent: &Sent| sent.header("RSeq")[0].parse::<u64>().unwrap();
    solo.receive(&prack(&invite, &first, 2).text());
    let sent = solo.take_sent();
    // Of those that waited only the last counts.
    assert_eq!([sent[0].kind(), sent[1].kind()], ["200", "183"]);
    assert_eq!(number(&sent[1]), number(&first) + 1);
    assert!(number(&first) > 0 && number(&first) < 1 << 31);
}

#[test]
fn no_prack_in_32_s_ends_the_call_with_504() {
    let mut solo = Solo::new();
    let (dialog, _) = reliable(&mut solo, &["Require: 100rel"], SDP);
    solo.command(Command::Progress { dialog, status: 180, body: None });
    solo.advance(Duration::from_secs(32));
    assert!(solo.take_kinds().contains(&"504".to_owned()));
    assert_eq!(kinds(&solo.take_events()), ["ended PeerTimeout"]);
    assert_eq!(solo.count(Counter::PrackTimeout), 1);
    solo.advance(Duration::from_secs(40));
    solo.assert_empty();
}

#[test]
fn the_answer_waits_for_the_prack_of_a_description_and_does_not_repeat_it() {
    let mut solo = Solo::new();
    let (dialog, invite) = reliable(&mut solo, &["Require: 100rel"], SDP);
    solo.command(Command::Progress { dialog, status: 183, body: Some(SDP.into()) });
    let early = solo.take_one();
    assert_eq!(early.response().body, SDP);
    solo.command(Command::Accept { dialog, body: SDP.into() });
    assert_eq!(solo.take_kinds().len(), 0);
    solo.receive(&prack(&invite, &early, 2).text());
    let sent = solo.take_sent();
    assert_eq!([sent[0].header("CSeq"), sent[1].header("CSeq")], [["2 PRACK"], ["1 INVITE"]]);
    assert_eq!((sent[1].kind(), sent[1].response().body.len()), ("200".to_owned(), 0));
    solo.receive(&invite.next("ACK", 1, &sent[1]).text());
    assert_eq!(kinds(&solo.take_events()), ["acknowledged"]);
}

#[test]
fn a_2xx_that_overtakes_a_bare_180_takes_its_prack_later() {
    let mut solo = Solo::new();
    let (dialog, invite) = reliable(&mut solo, &["Require: 100rel"], SDP);
    solo.command(Command::Progress { dialog, status: 180, body: None });
    let ringing = solo.take_one();
    solo.command(Command::Accept { dialog, body: SDP.into() });
    let ok = solo.take_one();
    assert_eq!(ok.kind(), "200");
    solo.receive(&prack(&invite, &ringing, 2).text());
    assert_eq!(solo.take_kinds(), ["200"]);
    solo.receive(&invite.next("ACK", 1, &ok).text());
    solo.advance(Duration::from_secs(40));
    assert_eq!(solo.take_kinds().len(), 0);
}

#[test]
fn an_offer_in_a_reliable_183_is_answered_by_its_prack() {
    let mut solo = Solo::new();
    let (dialog, invite) = reliable(&mut solo, &["Require: 100rel"], "");
    solo.command(Command::Progress { dialog, status: 183, body: Some(SDP.into()) });
    let early = solo.take_one();
    solo.receive(&prack(&invite, &early, 2).body("application/sdp", SDP).text());
    assert_eq!(solo.take_kinds(), ["200"]);
    assert_eq!(kinds(&solo.take_events()), ["early answered"]);
    // Now UPDATE may offer anew before the answer.
    let update = invite.next("UPDATE", 3, &early).body("application/sdp", SDP);
    solo.receive(&update.text());
    assert_eq!(kinds(&solo.take_events()), ["reinvited"]);
    solo.command(Command::AnswerReinvite { dialog, body: SDP.into() });
    assert_eq!(solo.take_kinds(), ["200"]);
}

#[test]
fn the_first_reliable_1xx_to_an_invite_without_an_offer_makes_ours_or_there_is_none() {
    let ringing = |dialog| Command::Progress { dialog, status: 180, body: None };
    // It takes no other: the 200 makes the offer.
    let mut solo = Solo::new();
    let (dialog, invite) = reliable(&mut solo, &["Require: 100rel"], "");
    solo.command(ringing(dialog));
    solo.advance(Duration::from_secs(60));
    assert_eq!(solo.take_kinds().len(), 0);
    solo.command(Command::Accept { dialog, body: SDP.into() });
    let ok = solo.take_one();
    assert_eq!((ok.kind(), ok.response().body), ("200".to_owned(), SDP.into()));
    solo.receive(&invite.next("ACK", 1, &ok).body("application/sdp", SDP).text());
    assert_eq!(kinds(&solo.take_events()), ["acknowledged with body"]);
    // It takes others too: it hears that it rings.
    let mut solo = Solo::new();
    let (dialog, _) = reliable(&mut solo, &["Supported: 100rel"], "");
    let policy = DialogPolicy { reliable: Reliable::Required, ..DialogPolicy::default() };
    solo.command(Command::Adopt { dialog, policy });
    solo.command(ringing(dialog));
    let told = solo.take_one();
    let is_reliable = told.header("RSeq").len() + told.header("Require").len() > 0;
    assert_eq!((told.kind(), is_reliable), ("180".to_owned(), false));
    // Once ours is made and answered there is nothing to be told but that it rings.
    let mut solo = Solo::new();
    let (dialog, invite) = reliable(&mut solo, &["Require: 100rel"], "");
    solo.command(Command::Progress { dialog, status: 183, body: Some(SDP.into()) });
    let early = solo.take_one();
    solo.receive(&prack(&invite, &early, 2).body("application/sdp", SDP).text());
    solo.take_sent();
    solo.command(ringing(dialog));
    assert_eq!(solo.take_one().header("RSeq").len(), 1);
}

#[test]
fn a_second_offer_in_a_prack_is_answered_in_its_2xx() {
    let mut solo = Solo::new();
    let (dialog, invite) = reliable(&mut solo, &["Require: 100rel"], SDP);
    solo.command(Command::Progress { dialog, status: 183, body: Some(SDP.into()) });
    let early = solo.take_one();
    solo.command(Command::Accept { dialog, body: SDP.into() });
    solo.receive(&prack(&invite, &early, 2).body("application/sdp", SDP).text());
    assert_eq!(kinds(&solo.take_events()), ["reinvited"]);
    assert_eq!(solo.take_kinds().len(), 0);
    solo.command(Command::AnswerReinvite { dialog, body: SDP.into() });
    let sent = solo.take_sent();
    assert_eq!([sent[0].header("CSeq"), sent[1].header("CSeq")], [["2 PRACK"], ["1 INVITE"]]);
    assert_eq!(sent[0].response().body, SDP);
}

#[test]
fn a_refresh_repeats_what_the_last_offer_before_the_2xx_was_answered_with() {
    let mut solo = Solo::new();
    let timer = "Session-Expires: 600;refresher=uas";
    let lines = ["Require: 100rel", "Supported: timer", timer, "Allow: INVITE, ACK"];
    let (dialog, invite) = reliable(&mut solo, &lines, SDP);
    solo.command(Command::Progress { dialog, status: 183, body: Some(SDP.into()) });
    let early = solo.take_one();
    solo.command(Command::Accept { dialog, body: SDP.into() });
    solo.receive(&prack(&invite, &early, 2).body("application/sdp", SDP).text());
    let newer = SDP.replace("4000", "4002");
    solo.command(Command::AnswerReinvite { dialog, body: newer.clone().into() });
    let ok = solo.take_last();
    solo.receive(&invite.next("ACK", 1, &ok).text());
    solo.advance(Duration::from_secs(300));
    let refresh = solo.take_one();
    assert_eq!((refresh.kind(), refresh.request().body), ("INVITE".to_owned(), newer.into()));
}

#[test]
fn an_inbound_cancel_does_not_wait_for_prack() {
    let mut solo = Solo::new();
    let (dialog, invite) = reliable(&mut solo, &["Require: 100rel"], SDP);
    solo.command(Command::Progress { dialog, status: 183, body: Some(SDP.into()) });
    solo.take_sent();
    solo.receive(&invite.cancel().text());
    assert_eq!(solo.take_kinds(), ["200", "487"]);
    assert_eq!(kinds(&solo.take_events()), ["cancelled"]);
}

#[test]
fn policy_decides_whether_a_1xx_is_reliable() {
    let check = |own, line: &str, is_reliable: bool| {
        let mut solo = Solo::new();
        let (dialog, _) = reliable(&mut solo, &[line], SDP);
        let policy = DialogPolicy { reliable: own, ..DialogPolicy::default() };
        solo.command(Command::Adopt { dialog, policy });
        solo.command(Command::Progress { dialog, status: 180, body: None });
        let ringing = solo.take_one();
        assert_eq!(ringing.header("RSeq").len(), usize::from(is_reliable), "{own:?} {line}");
    };
    check(Reliable::Supported, "Supported: 100rel", false);
    check(Reliable::Supported, "Require: 100rel", true);
    check(Reliable::Required, "Supported: 100rel", true);
    check(Reliable::Off, "Supported: 100rel", false);
}

#[test]
fn what_a_policy_cannot_take_is_refused_with_what_it_would_take() {
    let check = |policy: DialogPolicy, lines: &[&str], expected: Option<(u16, &str, &str)>| {
        let invite = lines.iter().fold(Script::invite("a"), |script, line| script.header(line));
        let mut solo = Solo::new();
        solo.receive(&invite.text());
        let events = solo.take_events();
        let [Event::Invited(invitation)] = events.as_slice() else { panic!("{events:?}") };
        let found = policy.refusal(&invitation.request.headers).map(|refusal| {
            let (name, value) = refusal.headers.first().cloned().unwrap();
            (refusal.status, name.into_owned(), String::from_utf8(value).unwrap())
        });
        let expected =
            expected.map(|(status, name, value)| (status, name.to_owned(), value.to_owned()));
        assert_eq!(found, expected, "{lines:?}");
    };
    let reliable = |reliable| DialogPolicy { reliable, ..DialogPolicy::default() };
    check(reliable(Reliable::Off), &["Require: 100rel"], Some((420, "Unsupported", "100rel")));
    check(reliable(Reliable::Required), &[], Some((421, "Require", "100rel")));
    check(reliable(Reliable::Required), &["Supported: 100rel"], None);
    let session = |mode, min_se_s| {
        let session = SessionTimerPolicy { mode, min_se_s, ..SessionTimerPolicy::default() };
        DialogPolicy { session, ..DialogPolicy::default() }
    };
    let require = session(SessionTimerMode::Require, 90);
    check(require, &[], Some((421, "Require", "timer")));
    check(require, &["Supported: timer"], None);
    let asked = ["Supported: timer", "Session-Expires: 300"];
    let long = session(SessionTimerMode::Accept, 600);
    check(long, &asked, Some((422, "Min-SE", "600")));
    check(long, &["Session-Expires: 300"], None);
    check(session(SessionTimerMode::Off, 600), &asked, None);
    let strict = SessionTimerPolicy { spares_old_peers: false, ..long.session };
    let strict = DialogPolicy { session: strict, ..long };
    check(strict, &["Session-Expires: 300"], Some((422, "Min-SE", "600")));
}

fn timer(mode: SessionTimerMode, refresher: RefresherChoice) -> DialogPolicy {
    let session = SessionTimerPolicy { mode, refresher, ..SessionTimerPolicy::default() };
    DialogPolicy { session, ..DialogPolicy::default() }
}

/// The Session-Expires and Require of our 200 to an INVITE with these lines.
fn answered(policy: DialogPolicy, lines: &[&str]) -> (Vec<String>, Vec<String>) {
    let mut solo = Solo::new();
    let (dialog, _) = reliable(&mut solo, lines, SDP);
    solo.command(Command::Adopt { dialog, policy });
    solo.command(Command::Accept { dialog, body: SDP.into() });
    let ok = solo.take_one();
    (ok.header("Session-Expires"), ok.header("Require"))
}

#[test]
fn an_invite_is_answered_by_the_session_timer_policy() {
    use RefresherChoice::Auto;
    use RefresherChoice::Local;
    use RefresherChoice::Remote;
    use SessionTimerMode::Accept;
    use SessionTimerMode::Off;
    use SessionTimerMode::Offer;
    let check = |policy, lines: &[&str], expected: Option<&str>, requires: bool| {
        let (expires, require) = answered(policy, lines);
        assert_eq!(expires.first().map(String::as_str), expected, "{policy:?} {lines:?}");
        assert_eq!(require == ["timer"], requires, "{policy:?} {lines:?}");
    };
    let able = "Supported: timer";
    check(timer(Off, Auto), &[able, "Session-Expires: 600"], None, false);
    check(timer(Accept, Auto), &[able], None, false);
    check(timer(Accept, Local), &[able, "Session-Expires: 600"], Some("600;refresher=uas"), false);
    // The peer's choice binds.
    check(
        timer(Accept, Local),
        &[able, "Session-Expires: 600;refresher=uac"],
        Some("600;refresher=uac"),
        true,
    );
    // We ask, whether the peer does or not, and never for longer than it does.
    check(timer(Offer, Auto), &[able], Some("1800;refresher=uas"), false);
    check(timer(Offer, Remote), &[able], Some("1800;refresher=uac"), true);
    check(timer(Offer, Auto), &[able, "Session-Expires: 600"], Some("600;refresher=uac"), true);
    check(timer(Offer, Auto), &[able, "Session-Expires: 7200"], Some("1800;refresher=uac"), true);
    check(
        timer(Offer, Auto),
        &[able, "Session-Expires: 7200", "Min-SE: 3600"],
        Some("3600;refresher=uac"),
        true,
    );
    // With a peer that cannot, only we refresh.
    check(timer(Offer, Remote), &[], Some("1800;refresher=uas"), false);
}

#[test]
fn our_invite_asks_by_the_session_timer_policy() {
    let check = |policy, supported: &str, expires: &[&str], require: &[&str]| {
        let mut solo = Solo::new();
        solo.invite(OutboundInvite { policy, ..outbound(solo.flow) });
        let invite = solo.take_one();
        assert_eq!(invite.header("Supported"), [supported]);
        assert_eq!(invite.header("Session-Expires"), expires);
        assert_eq!(invite.header("Require"), require);
    };
    use RefresherChoice::Auto;
    check(timer(SessionTimerMode::Off, Auto), "100rel", &[], &[]);
    check(timer(SessionTimerMode::Accept, Auto), "timer, 100rel", &[], &[]);
    check(timer(SessionTimerMode::Offer, Auto), "timer, 100rel", &["1800"], &[]);
    let local = timer(SessionTimerMode::Offer, RefresherChoice::Local);
    check(local, "timer, 100rel", &["1800;refresher=uac"], &[]);
    let remote = timer(SessionTimerMode::Require, RefresherChoice::Remote);
    check(remote, "timer, 100rel", &["1800;refresher=uas"], &["timer"]);
}

#[test]
fn without_a_session_timer_nothing_expires_and_refreshes_are_answered() {
    let mut solo = Solo::new();
    let policy = timer(SessionTimerMode::Off, RefresherChoice::Auto);
    let dialog = solo.invite(OutboundInvite { policy, ..outbound(solo.flow) });
    let invite = solo.take_one();
    let lines = format!("{CALLED}Session-Expires: 180;refresher=uas\r\n");
    solo.receive(&answer(&invite, 200, Some("callee"), &lines, SDP));
    solo.command(Command::Acknowledge { dialog, body: None });
    solo.take_sent();
    solo.advance(Duration::from_secs(7_200));
    assert_eq!(solo.endpoint.gauges().dialogs, 1);
    let tag = invite.request().headers.from().tag().unwrap().to_vec();
    let mut refresh = Script::new("UPDATE", "x");
    refresh.call_id = invite.header("Call-ID").remove(0);
    refresh.from_tag = "callee".to_owned();
    refresh.to_tag = Some(String::from_utf8(tag).unwrap());
    let refresh = refresh.header("Supported: timer").header("Session-Expires: 180;refresher=uac");
    solo.receive(&refresh.text());
    let ok = solo.take_one();
    assert_eq!((ok.kind(), ok.header("Session-Expires").len()), ("200".to_owned(), 0));
}

#[test]
fn the_refresh_is_by_the_method_of_the_policy() {
    let check = |method, allow: &str, expected: &str| {
        let mut solo = Solo::new();
        let mut policy = timer(SessionTimerMode::Offer, RefresherChoice::Local);
        policy.session.method = method;
        let dialog = solo.invite(OutboundInvite { policy, ..outbound(solo.flow) });
        let invite = solo.take_one();
        let lines = format!("{CALLED}Allow: {allow}\r\nSession-Expires: 1800;refresher=uac\r\n");
        solo.receive(&answer(&invite, 200, Some("callee"), &lines, SDP));
        solo.command(Command::Acknowledge { dialog, body: None });
        solo.take_sent();
        solo.advance(Duration::from_secs(900));
        let refresh = solo.take_one();
        assert_eq!(refresh.kind(), expected, "{method:?} {allow}");
        assert_eq!(refresh.header("Session-Expires"), ["1800;refresher=uac"]);
    };
    check(RefreshMethod::Auto, "INVITE, UPDATE", "UPDATE");
    check(RefreshMethod::Auto, "INVITE", "INVITE");
    check(RefreshMethod::Update, "INVITE", "UPDATE");
    check(RefreshMethod::Invite, "INVITE, UPDATE", "INVITE");
}

#[test]
fn roles_do_not_change_when_the_peer_refreshes_for_us() {
    let mut solo = Solo::new();
    let lines = ["Supported: timer", "Session-Expires: 1800;refresher=uas"];
    let invite = lines.iter().fold(Script::invite("a"), |script, line| script.header(line));
    let (_, ok) = established(&mut solo, &invite);
    let refresh = invite.next("UPDATE", 2, &ok).header("Supported: timer");
    solo.receive(&refresh.header("Session-Expires: 1800").text());
    assert_eq!(solo.take_one().header("Session-Expires"), ["1800;refresher=uas"]);
    solo.advance(Duration::from_secs(900));
    assert_eq!(solo.take_one().kind(), "INVITE");
}

#[test]
fn a_trunk_without_update_answers_it_405() {
    let mut solo = Solo::new();
    let (dialog, invite) = reliable(&mut solo, &[], SDP);
    let policy = DialogPolicy { takes_update: false, ..DialogPolicy::default() };
    solo.command(Command::Adopt { dialog, policy });
    solo.command(Command::Accept { dialog, body: SDP.into() });
    let ok = solo.take_one();
    assert!(!ok.header("Allow")[0].contains("UPDATE"));
    solo.receive(&invite.next("ACK", 1, &ok).text());
    solo.receive(&invite.next("UPDATE", 2, &ok).text());
    assert_eq!(solo.take_kinds(), ["405"]);
    // A policy comes too late for a call that is answered.
    solo.command(Command::Adopt { dialog, policy });
    assert_eq!(solo.count(Counter::SenselessCommand), 1);
}

#[test]
fn what_the_call_never_answered_is_answered_at_its_end() {
    let mut solo = Solo::new();
    let (dialog, invite) = reliable(&mut solo, &["Require: 100rel"], SDP);
    solo.command(Command::Progress { dialog, status: 183, body: Some(SDP.into()) });
    let early = solo.take_one();
    solo.receive(&prack(&invite, &early, 2).body("application/sdp", SDP).text());
    solo.receive(&invite.cancel().text());
    assert_eq!(solo.take_kinds(), ["200", "487", "487"]);
    solo.receive(&invite.ack_of_refusal(&early).text());
    solo.advance(Duration::from_secs(40));
    solo.assert_empty();
}

#[test]
fn a_failed_node_does_not_break_the_next_re_invite() {
    // The proxy our call came by is gone; its stream ends, and the next request asks for a new one.
    let mut solo = Solo::over(Transport::Tcp);
    let (dialog, mut peer) = Peer::call(&mut solo);
    solo.input(Input::FlowClosed(FlowId(1)));
    solo.command(Command::Reinvite { dialog, body: SDP.into() });
    let reinvite = solo.take_one();
    assert_eq!((reinvite.flow.id, reinvite.flow.remote.port()), (FlowId::ANY, 5060));
    solo.receive(&answer(&reinvite, 200, None, CALLED, SDP));
    assert_eq!(solo.take_kinds(), ["ACK"]);
    // The peer comes by another node: that is the way back from now on.
    let other = Flow { id: FlowId(9), ..solo.flow };
    solo.receive_by(other, &peer.next("INVITE").body("application/sdp", SDP).text());
    solo.command(Command::AnswerReinvite { dialog, body: SDP.into() });
    assert!(solo.take_sent().iter().all(|sent| sent.flow.id == FlowId(9)));
}

#[test]
fn a_peer_that_moves_in_both_roles_is_followed() {
    let mut solo = Solo::new();
    let (dialog, mut peer) = Peer::call(&mut solo);
    peer.invite.contact = Some("<sip:moved@192.0.2.60:5080>".to_owned());
    solo.receive(&peer.next("UPDATE").text());
    solo.take_sent();
    solo.command(Command::Reinvite { dialog, body: SDP.into() });
    let reinvite = solo.take_one();
    assert_eq!(reinvite.request().uri.as_bytes(), "sip:moved@192.0.2.60:5080");
    solo.receive(&answer(&reinvite, 200, None, "Contact: <sip:again@10.9.9.9>\r\n", SDP));
    assert_eq!(solo.take_one().request().uri.as_bytes(), "sip:again@10.9.9.9");
    let mut solo = Solo::new();
    let (dialog, _, _) = connected(&mut solo, CALLED);
    solo.command(refer(dialog));
    assert_eq!(solo.take_one().request().uri.as_bytes(), "sip:called@192.0.2.2:5060");
}

/// A call of the peer's that was answered, with an account for its challenges.
fn trusted(solo: &mut Solo, invite: &Script) -> (DialogId, Sent) {
    solo.receive(&invite.text());
    let dialog = solo.take_invited();
    let account = Account::new("user", Secret::new("secret".to_owned()));
    solo.command(Command::Trust(dialog, Arc::new([account])));
    solo.command(Command::Accept { dialog, body: SDP.into() });
    (dialog, solo.take_last())
}

fn challenge(nonce: &str) -> String {
    format!("Proxy-Authenticate: Digest realm=\"r\", nonce=\"{nonce}\", qop=\"auth\"\r\n")
}

/// Challenges the request that was just sent, and answers it once it comes again with credentials.
fn challenged(solo: &mut Solo, method: &str, status: u16) {
    let first = solo.take_one();
    solo.receive(&answer(&first, 407, None, &challenge(method), ""));
    let again = solo.take_last();
    assert_eq!((first.kind(), again.kind()), (method.to_owned(), method.to_owned()));
    let credentials = again.header("Proxy-Authorization").join("");
    assert!(credentials.contains(&format!("nonce=\"{method}\"")), "{credentials}");
    let number = |sent: &Sent| sent.request().headers.cseq().number;
    assert_eq!(number(&again), number(&first) + 1);
    assert_eq!(again.request().body, first.request().body);
    let lines = format!("{CALLED}Session-Expires: 600;refresher=uac\r\n");
    solo.receive(&answer(&again, status, None, &lines, ""));
    solo.take_sent();
}

fn info(dialog: DialogId) -> Command {
    let content_type = FieldValue::new("application/dtmf-relay").unwrap();
    Command::Info { dialog, content_type, body: "x".into() }
}

#[test]
fn challenges_in_a_call_of_the_peers_are_answered() {
    let mut solo = Solo::new();
    let invite = Script::invite("a")
        .header("Supported: timer")
        .header("Session-Expires: 600;refresher=uas")
        .header("Allow: INVITE, UPDATE");
    let (dialog, ok) = trusted(&mut solo, &invite);
    solo.receive(&invite.next("ACK", 1, &ok).text());
    solo.take_events();
    solo.advance(Duration::from_secs(300));
    challenged(&mut solo, "UPDATE", 200);
    solo.command(Command::Reinvite { dialog, body: SDP.into() });
    challenged(&mut solo, "INVITE", 200);
    solo.command(info(dialog));
    challenged(&mut solo, "INFO", 200);
    solo.command(refer(dialog));
    challenged(&mut solo, "REFER", 202);
    hangup(&mut solo, dialog);
    challenged(&mut solo, "BYE", 200);
    let told =
        ["reinvite answered", "info answered 200", "referring Accepted", "ended ByeAnswered"];
    assert_eq!(kinds(&solo.take_events()), told);
    assert_eq!(solo.count(Counter::ByeChallenged), 0);
    solo.advance(Duration::from_secs(40));
    solo.assert_empty();
}

#[test]
fn who_never_acknowledged_our_answer_learns_nothing_by_challenges() {
    let mut solo = Solo::new();
    let (dialog, _) = trusted(&mut solo, &Script::invite("a"));
    solo.command(info(dialog));
    let info = solo.take_one();
    solo.receive(&answer(&info, 407, None, &challenge("n1"), ""));
    assert_eq!(solo.take_kinds().len(), 0);
    solo.advance(Duration::from_secs(32));
    let bye = solo.take_last();
    assert_eq!(bye.kind(), "BYE");
    solo.receive(&answer(&bye, 407, None, &challenge("n2"), ""));
    assert_eq!(solo.take_kinds().len(), 0);
    assert_eq!(solo.count(Counter::ByeChallenged), 1);
    assert_eq!(kinds(&solo.take_events()), ["info answered 407", "ended AckTimeout"]);
    solo.advance(Duration::from_secs(40));
    solo.assert_empty();
}

#[test]
fn a_reinvite_in_place_of_a_lost_ack_lets_challenges_be_answered_too() {
    for hangs_up in [false, true] {
        let mut solo = Solo::new();
        let invite = Script::invite("a");
        let (dialog, ok) = trusted(&mut solo, &invite);
        if hangs_up {
            hangup(&mut solo, dialog);
        }
        solo.receive(&invite.next("INVITE", 2, &ok).body("application/sdp", SDP).text());
        if !hangs_up {
            solo.command(Command::AnswerReinvite { dialog, body: SDP.into() });
            hangup(&mut solo, dialog);
        }
        // What answers the re-INVITE comes first.
        let bye = solo.sent.pop().unwrap();
        solo.sent = vec![bye];
        challenged(&mut solo, "BYE", 200);
    }
}
