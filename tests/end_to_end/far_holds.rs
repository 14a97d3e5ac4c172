//! Far sides of bridged calls that hold, go on elsewhere and ask for our offer: by re-INVITEs of their own leg, of
//! which the caller's leg hears nothing.

use crate::carrier;
use crate::carrier::CALLED;
use crate::carrier::NUMBER;
use crate::carrier::answer;
use crate::carrier::carrier;
use crate::carrier::hear_bye;
use crate::carrier::hears;
use crate::node::Home;
use crate::node::Node;
use crate::phone::Heard;
use crate::phone::Phone;
use crate::phone::SILENCE;
use crate::rows;
use crate::rtp::Stream;
use crate::sipp_carrier::Gateway;
use crate::talk;
use crate::talk::Talk;
use serde_json::json;
use std::net::SocketAddr;
use std::time::Duration;

const CALLER: &str = "127.0.0.2";
/// A number whose calls an agent behind a SIP address takes.
const AGENTS: &str = "+15550112";
/// How long the leg of the trunk may be without media while it is not on hold.
const INACTIVITY_S: u64 = 8;

/// A node that passes calls on to who is at this address: by a trunk, and as an agent behind a SIP address.
async fn node(far: SocketAddr) -> Node {
    let node = Home::new().start().await;
    let impatient = json!({"network": {"rtp_inactivity_s": INACTIVITY_S}});
    let agent = json!({"kind": "sip", "uri": format!("sip:bot@{far}")});
    node.put(&[
        rows::trunk_with(4, json!({"inbound": {"source_cidrs": ["127.0.0.1", CALLER]}})),
        carrier::trunk(5, &format!("{}/32", far.ip()), &[far], impatient),
        carrier::tenant(1, 5),
        rows::profile(2, 1, json!({"kind": "forward", "to": CALLED})),
        rows::number(3, 1, 2, NUMBER),
        rows::profile(12, 1, agent),
        rows::number(13, 1, 12, AGENTS),
    ])
    .await;
    node
}

/// A caller that talks with the far side, where the switch takes its media, and where it takes those of the far side.
async fn bridged(node: &Node, far: &mut Phone, number: &str) -> (Phone, u16, u16) {
    let mut phone = Phone::new(CALLER.parse().unwrap(), node.sip(), number).await;
    let offer = phone.sdp();
    let invite = phone.request("INVITE", "", &offer);
    phone.send(invite).await;
    let invite = answer(far).await;
    let ok = phone.outcome("INVITE").await;
    assert_eq!(ok.status(), 200, "{ok:?}");
    phone.confirm(&ok);
    phone.acknowledge().await;
    (phone, ok.audio_port(), invite.audio_port())
}

/// The far side makes an offer of its own; what it is answered.
async fn offers(far: &mut Phone, description: &str) -> Heard {
    let ok = far.ask("INVITE", "", description).await;
    assert_eq!(ok.status(), 200, "{ok:?}");
    far.acknowledge().await;
    ok
}

/// The caller speaks for a second, and nothing at all comes to the far side.
async fn is_held((phone, near): (&Phone, u16), far: &Phone, level: u8) {
    // What was said before may be on its way.
    tokio::time::sleep(SILENCE).await;
    far.drain_media_now().await;
    let switch = SocketAddr::new(phone.switch.ip(), near);
    Stream::new(u32::from(level) + 7, level).send(&phone.media, switch, (50, 1)).await;
    assert!(!far.hears_media_within(SILENCE).await, "media to who is on hold");
}

#[tokio::test]
async fn a_far_side_that_holds_hears_nothing_and_goes_on_where_it_says() {
    let nowhere = SocketAddr::from(([127, 0, 0, 1], 9));
    let mut far = Phone::new("127.0.0.9".parse().unwrap(), nowhere, CALLED).await;
    let node = node(far.local()).await;
    for number in [NUMBER, AGENTS] {
        far = carrier_at(&node, far).await;
        let (phone, near, there) = bridged(&node, &mut far, number).await;
        hears((&phone, near), &far, 0x21).await;
        hears((&far, there), &phone, 0x31).await;

        // It plays its own music on hold, which the caller hears.
        let held = format!("{}a=sendonly\r\n", far.sdp());
        let ok = offers(&mut far, &held).await;
        assert!(ok.body.contains("a=recvonly"), "{ok:?}");
        is_held((&phone, near), &far, 0x22).await;
        hears((&far, there), &phone, 0x32).await;
        let talks = far.sdp();
        assert!(offers(&mut far, &talks).await.body.contains("a=sendrecv"));
        hears((&phone, near), &far, 0x23).await;

        // As old devices say it.
        let held = far.sdp().replace("c=IN IP4 127.0.0.9", "c=IN IP4 0.0.0.0");
        let ok = offers(&mut far, &held).await;
        assert!(ok.body.contains("a=recvonly"), "{ok:?}");
        is_held((&phone, near), &far, 0x24).await;

        // Wholly silent, by the trunk for longer than its leg may be that is not on hold; and then elsewhere.
        let held = format!("{}a=inactive\r\n", far.sdp());
        assert!(offers(&mut far, &held).await.body.contains("a=inactive"));
        is_held((&phone, near), &far, 0x25).await;
        if number == NUMBER {
            tokio::time::sleep(Duration::from_secs(INACTIVITY_S + 1)).await;
        }
        far.move_media(far.local().ip()).await;
        let moved = far.sdp();
        assert!(offers(&mut far, &moved).await.body.contains("a=sendrecv"));
        hears((&phone, near), &far, 0x26).await;
        hears((&far, there), &phone, 0x36).await;

        // None of that was the caller's concern.
        while let Some(heard) = phone.hear_within(Duration::ZERO).await {
            assert!(heard.status() > 0, "{heard:?}");
        }
        assert_eq!(far.ask("BYE", "", "").await.status(), 200);
        hear_bye(&phone).await;
        let record = node.record(&phone.call_id).await;
        let end = (record.cause.as_str(), record.ended_by.as_str());
        assert_eq!(end, ("normal", "far"), "{number}");
        let sql = format!(
            "SELECT count(*) FROM calls WHERE signalling_id = '{}' AND holds = 0",
            phone.call_id
        );
        assert_eq!(node.count(&sql).await, 1, "{number}: the caller was never on hold");
    }
}

/// The same place for another dialog of it.
async fn carrier_at(node: &Node, before: Phone) -> Phone {
    let mut far = carrier(node, "127.0.0.9").await;
    far.socket = before.socket;
    far
}

#[tokio::test]
async fn a_far_side_gets_our_offer_where_it_has_none_and_keeps_the_call_where_its_own_is_refused() {
    let nowhere = SocketAddr::from(([127, 0, 0, 1], 9));
    let mut far = Phone::new("127.0.0.9".parse().unwrap(), nowhere, CALLED).await;
    let node = node(far.local()).await;
    far.switch = node.sip();
    let (mut phone, near, there) = bridged(&node, &mut far, NUMBER).await;
    hears((&phone, near), &far, 0x21).await;

    // Without an offer: ours has all that its trunk speaks, and is answered in the ACK.
    let ok = far.ask("INVITE", "", "").await;
    assert_eq!(ok.status(), 200, "{ok:?}");
    assert!(ok.audio_port() == there && ok.body.contains("a=sendrecv"), "{ok:?}");
    assert!(ok.body.contains(" 0 8 ") || ok.body.contains(" 8 0 "), "{ok:?}");
    far.move_media(far.local().ip()).await;
    let answer = far.sdp();
    let ack = far.request("ACK", "", &answer);
    far.send(ack).await;
    hears((&phone, near), &far, 0x22).await;
    hears((&far, there), &phone, 0x32).await;

    // What nobody here speaks is refused, and the call goes on as it was.
    let foreign = far.sdp().replace(" 0 8 101", " 3");
    let branch = format!("z9hG4bK{:x}", tandem::clock::random_u64());
    far.cseq += 1;
    far.send(far.request_as("INVITE", &branch, "", &foreign)).await;
    let refused = far.outcome("INVITE").await;
    assert_eq!(refused.status(), 488, "{refused:?}");
    far.send(far.request_as("ACK", &branch, "", "")).await;
    hears((&phone, near), &far, 0x23).await;
    hears((&far, there), &phone, 0x33).await;
    phone.hang_up().await;
    hear_bye(&far).await;
    assert_eq!(node.record(&phone.call_id).await.cause, "normal");
}

/// SIPp gives back what it hears, so that the caller hears itself as long as it is not on hold.
#[tokio::test]
async fn sipp_puts_a_forwarded_caller_on_hold_in_each_style_and_takes_it_back() {
    let gateway = Gateway::with("carrier-puts-on-hold", 1, &[], &["-rtp_echo", "-d", "500"]).await;
    let node = node(gateway.address).await;
    let mut talk = Talk::dial(talk::plan(node.sip(), NUMBER));
    talk.hear(5).await;
    let summary = talk.over().await;
    gateway.finishes().await;
    assert_eq!((summary.problem.as_ref(), summary.reinvites), (None, 0), "{summary:?}");
    let record = node.record(&summary.call_id).await;
    assert_eq!((record.cause.as_str(), record.ended_by.as_str()), ("normal", "far"));
}
