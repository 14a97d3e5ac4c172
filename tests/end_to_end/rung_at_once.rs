//! Parties rung at once that are reached by different ways: each is told a place of its own for its media, and
//! whoever answers is heard there.

use crate::carrier;
use crate::carrier::CALLED;
use crate::carrier::NUMBER;
use crate::carrier::hear_bye;
use crate::carrier::hears;
use crate::carrier::key;
use crate::carrier::pick_up;
use crate::carrier::shown;
use crate::carrier::steps;
use crate::node::Home;
use crate::node::Node;
use crate::node::wait_for;
use crate::phone::Heard;
use crate::phone::Phone;
use crate::rows;
use crate::web::Page;
use crate::web::Web;
use serde_json::Value;
use serde_json::json;
use std::net::IpAddr;
use std::net::Ipv6Addr;
use std::ops::RangeInclusive;
use tandem::store::api_keys::KeyRole;

/// A number that is rung beside [`CALLED`].
const BESIDE: &str = "+15550143";

/// A node at 127.0.0.1 and ::1, whose number is led by `web` to a telephone behind a trunk that keeps to so many pairs of
/// RTP ports and, at once, to a desk at ::1.
async fn node(web: &mut Web, pairs: u16) -> (Node, Phone, Phone, RangeInclusive<u16>) {
    let more = "[[listener]]\nname = \"second\"\nbind = \"[::1]:0\"\n\
                [webhooks]\nallow_http = true\nallow_networks = ['127.0.0.0/8']\n";
    let home = Home::with("127.0.0.1:0", 100, more);
    let last = *home.rtp_ports().start() + 99;
    let own = last + 1 - 2 * pairs..=last;
    let node = home.start().await;
    let far = carrier::carrier(&node, "127.0.0.9").await;
    let six = IpAddr::from(Ipv6Addr::LOCALHOST);
    let desk = Phone::new(six, node.listener("second", "udp"), "desk").await;
    let range = json!({"network": {"rtp_port_range": [own.start(), own.end()]}});
    node.put(&[
        carrier::trunk(4, "127.0.0.9/32", &[far.local()], range),
        rows::trunk(5, "127.0.0.2/32"),
        carrier::tenant(1, 4),
        rows::profile(2, 1, json!({"kind": "twiml", "url": web.url("/voice")})),
        rows::number(3, 1, 2, NUMBER),
    ])
    .await;
    let dial = format!(
        "<Dial action='/dialled'><Number>{CALLED}</Number><Sip>sip:desk@{}</Sip></Dial>",
        desk.local()
    );
    web.put("/voice", Page::twiml(&dial));
    web.put("/dialled", Page::twiml("<Hangup/>"));
    (node, far, desk, own)
}

/// A caller who is answered and hears ringing.
async fn caller(node: &Node) -> (Phone, u16) {
    let mut phone = Phone::new("127.0.0.2".parse().unwrap(), node.sip(), NUMBER).await;
    let answered = phone.call("").await;
    assert_eq!(answered.status(), 200);
    let port = answered.audio_port();
    (phone, port)
}

/// What both were asked, each with its own place of media.
async fn rung(far: &Phone, desk: &Phone, own: &RangeInclusive<u16>) -> (Heard, Heard) {
    let (first, second) = (far.expect("INVITE ").await, desk.expect("INVITE ").await);
    far.respond(&first, "180 Ringing", "", "").await;
    desk.respond(&second, "180 Ringing", "", "").await;
    assert!(first.body.contains("c=IN IP4 127.0.0.1\r\n"), "{first:?}");
    assert!(own.contains(&first.audio_port()), "{first:?}");
    assert!(second.body.contains("c=IN IP6 ::1\r\n"), "{second:?}");
    assert!(!second.body.contains("IN IP4"), "{second:?}");
    (first, second)
}

#[tokio::test]
async fn parties_rung_at_once_by_different_ways_are_each_heard_where_they_were_told() {
    let mut web = Web::start().await;
    let (node, mut far, mut desk, own) = node(&mut web, 2).await;
    for (desk_answers, level) in [(true, 0x21), (false, 0x31)] {
        let (phone, port) = caller(&node).await;
        let (first, second) = rung(&far, &desk, &own).await;
        let (taken, other, invite, left) = if desk_answers {
            (&mut desk, &mut far, second, first)
        } else {
            (&mut far, &mut desk, first, second)
        };
        pick_up(taken, &invite).await;
        let cancel = other.expect("CANCEL ").await;
        other.answer(&cancel, "200 OK").await;
        other.respond(&left, "487 Request Terminated", "", "").await;
        other.expect("ACK ").await;
        hears((&phone, port), taken, level).await;
        hears((&*taken, invite.audio_port()), &phone, level + 1).await;
        taken.hang_up().await;
        hear_bye(&phone).await;
    }
}

#[tokio::test]
async fn a_party_for_whose_media_there_is_no_place_is_not_rung_and_the_others_are() {
    let mut web = Web::start().await;
    let (node, mut far, mut desk, own) = node(&mut web, 1).await;
    // The only pair of the trunk is taken by a call that goes on.
    let (first_caller, first_port) = caller(&node).await;
    let (first, second) = rung(&far, &desk, &own).await;
    pick_up(&mut far, &first).await;
    let cancel = desk.expect("CANCEL ").await;
    desk.answer(&cancel, "200 OK").await;
    desk.respond(&second, "487 Request Terminated", "", "").await;
    desk.expect("ACK ").await;
    let (phone, port) = caller(&node).await;
    let invite = desk.expect("INVITE ").await;
    pick_up(&mut desk, &invite).await;
    hears((&phone, port), &desk, 0x41).await;
    hears((&desk, invite.audio_port()), &phone, 0x42).await;
    desk.hang_up().await;
    hear_bye(&phone).await;
    wait_for("the record is stored", async || {
        let sql = format!("SELECT count(*) FROM calls WHERE signalling_id = '{}'", phone.call_id);
        (node.count(&sql).await > 0).then_some(())
    })
    .await;
    let sql = format!("SELECT id::text FROM calls WHERE signalling_id = '{}'", phone.call_id);
    let call = crate::postgres::text(&node.database(), &sql).await;
    let key = key(&node, 1, KeyRole::Operator).await;
    let said = steps(&shown(&node, 1, &call, &key).await);
    assert!(said.contains("not sent: no_ports"), "{said}");
    // The call before goes on where it was.
    hears((&first_caller, first_port), &far, 0x51).await;
    far.hang_up().await;
    hear_bye(&first_caller).await;
}

/// A node whose number is led to [`CALLED`] and [`BESIDE`] at once, the first by trunk 4 and the other by trunk `by`;
/// with more of trunk 4.
async fn two_numbers(web: &mut Web, by: u128, more: Value) -> (Node, Phone, Phone) {
    let hooks = "[webhooks]\nallow_http = true\nallow_networks = ['127.0.0.0/8']\n";
    let node = Home::with("127.0.0.1:0", 100, hooks).start().await;
    let far = carrier::carrier(&node, "127.0.0.9").await;
    let beside = carrier::carrier(&node, "127.0.0.10").await;
    // With two trunks each may call one of them.
    let of = |number: &str| json!({"security": {"allow_destinations": [number]}});
    let (mut first, second) =
        if by == 4 { (json!({}), json!({})) } else { (of(CALLED), of(BESIDE)) };
    carrier::merge(&mut first, more);
    node.put(&[
        carrier::trunk(4, "127.0.0.9/32", &[far.local()], first),
        carrier::trunk(6, "127.0.0.10/32", &[beside.local()], second),
        rows::trunk(5, "127.0.0.2/32"),
        carrier::tenant(1, by),
        rows::profile(2, 1, json!({"kind": "twiml", "url": web.url("/voice")})),
        rows::number(3, 1, 2, NUMBER),
    ])
    .await;
    node.put(&[format!(
        "UPDATE phone_numbers SET outbound_trunk_id = '{}' WHERE id = '{}'",
        rows::uuid(4),
        rows::uuid(3)
    )])
    .await;
    let both = format!(
        "<Dial action='/dialled'><Number>{CALLED}</Number><Number>{BESIDE}</Number></Dial>"
    );
    web.put("/voice", Page::twiml(&both));
    web.put("/dialled", Page::twiml("<Hangup/>"));
    (node, far, beside)
}

#[tokio::test]
async fn parties_rung_at_once_by_one_trunk_have_each_keys_of_their_own() {
    let mut web = Web::start().await;
    let open = json!({"srtp": {"policy": "required", "needs_tls_signalling": false}});
    let (node, mut far, _) = two_numbers(&mut web, 4, open).await;
    let (phone, _) = caller(&node).await;
    let (first, second) = (far.expect("INVITE ").await, far.expect("INVITE ").await);
    let key = |invite: &Heard| {
        let line = invite.body.lines().find(|line| line.starts_with("a=crypto:"));
        line.expect("keys").to_owned()
    };
    assert_ne!(key(&first), key(&second));
    assert_eq!(first.audio_port(), second.audio_port(), "in one place");
    far.respond(&first, "180 Ringing", "", "").await;
    // Whoever answers talks.
    far.take(&second);
    let answer = far.sdp().replace("RTP/AVP", "RTP/SAVP");
    let own =
        "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkw\r\n";
    far.respond(&second, "200 OK", "", &(answer + own)).await;
    // The ACK of the one and the CANCEL of the other come in any order.
    let (mut is_acknowledged, mut is_let_go) = (false, false);
    while !(is_acknowledged && is_let_go) {
        let heard = far.hear().await;
        is_acknowledged |= heard.start.starts_with("ACK ");
        if heard.start.starts_with("CANCEL ") {
            assert_eq!(heard.header("call-id"), first.header("call-id"));
            far.answer(&heard, "200 OK").await;
            is_let_go = true;
        }
    }
    far.hang_up().await;
    hear_bye(&phone).await;
}

#[tokio::test]
async fn of_two_trunks_rung_at_once_the_one_that_answered_is_charged_after_a_restart() {
    let mut web = Web::start().await;
    let budget = json!({"security": {
        "daily_spend": {"amount": 1.0, "currency": "USD"},
        "rates": [{"prefix": "+1555", "per_minute": 1.0, "increment_s": 60}],
    }});
    let (mut node, mut far, beside) = two_numbers(&mut web, 6, budget).await;
    let (phone, _) = caller(&node).await;
    let (first, second) = (far.expect("INVITE ").await, beside.expect("INVITE ").await);
    beside.respond(&second, "180 Ringing", "", "").await;
    pick_up(&mut far, &first).await;
    let cancel = beside.expect("CANCEL ").await;
    beside.answer(&cancel, "200 OK").await;
    beside.respond(&second, "487 Request Terminated", "", "").await;
    beside.expect("ACK ").await;
    far.hang_up().await;
    hear_bye(&phone).await;
    node.record(&phone.call_id).await;
    let told = format!(
        "SELECT count(*) FROM call_events e JOIN calls c ON c.id = e.call_id \
         WHERE e.name = 'leg_answered' AND e.detail->>'trunk' = '{}' AND e.detail->>'rate' = '+1555'",
        rows::uuid(4)
    );
    assert_eq!(node.count(&told).await, 1);
    node.signal("KILL");
    node.ended().await;
    node.launch().await;
    wait_for("the budget goes on", async || {
        node.log().contains("go on from before the start").then_some(())
    })
    .await;
    // The day of the trunk that answered is spent: by the other one the call goes on, alone.
    let (again, _) = caller(&node).await;
    let mut beside = beside;
    beside.switch = node.sip();
    let invite = beside.expect("INVITE ").await;
    pick_up(&mut beside, &invite).await;
    beside.hang_up().await;
    hear_bye(&again).await;
    let sql = format!("SELECT decision::text FROM calls WHERE signalling_id = '{}'", again.call_id);
    node.record(&again.call_id).await;
    let said = crate::postgres::text(&node.database(), &sql).await;
    assert!(said.contains("budget_spent"), "{said}");
}
