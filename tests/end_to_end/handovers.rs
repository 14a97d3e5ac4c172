//! Transfers that carriers ask for by REFER: granted where the trunk says so, and then told of.

use crate::bot::Bot;
use crate::call_out;
use crate::carrier;
use crate::carrier::CALLED;
use crate::carrier::NUMBER;
use crate::carrier::calls;
use crate::carrier::carrier;
use crate::carrier::hear_bye;
use crate::carrier::hears;
use crate::carrier::key;
use crate::carrier::pick_up;
use crate::carrier::refuse;
use crate::carrier::shown;
use crate::node::Home;
use crate::node::Node;
use crate::phone::Heard;
use crate::phone::PATIENCE;
use crate::phone::Phone;
use crate::rows;
use crate::steering::packet;
use crate::transfers;
use serde_json::json;
use tandem::audio::g711::ulaw_decode;
use tandem::audio::tone::share_at;
use tandem::store::api_keys::KeyRole;
use tokio::time::timeout;

/// A caller who talks with an echo.
async fn talking(node: &Node) -> (Phone, u16) {
    let mut phone = Phone::new("127.0.0.9".parse().unwrap(), node.sip(), NUMBER).await;
    let ok = phone.call("").await;
    hears((&phone, ok.audio_port()), &phone, 0x11).await;
    (phone, ok.audio_port())
}

fn refer_to(number: &str) -> String {
    format!("Refer-To: <sip:{number}@carrier.example>\r\n")
}

/// Hears the next NOTIFY and answers it.
async fn notified(phone: &Phone) -> Heard {
    let notify = phone.expect("NOTIFY ").await;
    phone.answer(&notify, "200 OK").await;
    notify
}

/// Hears NOTIFYs until one tells this.
async fn told(phone: &Phone, status: &str) {
    while !notified(phone).await.body.contains(status) {}
}

#[tokio::test]
async fn a_carrier_may_ask_for_somebody_else_only_where_its_trunk_says_so_and_only_in_a_call() {
    let (node, far, _) = call_out::node(json!({"kind": "echo"}), json!({})).await;
    let (mut phone, port) = talking(&node).await;
    let answer = phone.ask("REFER", &refer_to(CALLED), "").await;
    assert_eq!(answer.status(), 603, "{answer:?}");
    hears((&phone, port), &phone, 0x12).await;
    phone.hang_up().await;
    // Outside of a call nobody may, whatever the trunk says.
    let mut stray = Phone::new("127.0.0.9".parse().unwrap(), node.sip(), NUMBER).await;
    let answer = stray.ask("REFER", &refer_to(CALLED), "").await;
    assert_eq!(answer.status(), 405, "{answer:?}");
    assert!(far.hear_within(crate::phone::SILENCE).await.is_none(), "nobody was called");
}

#[tokio::test]
async fn a_carrier_that_transfers_our_agent_is_told_how_it_goes_and_keeps_it_when_it_fails() {
    let more = json!({"calls": {"refer_in": "b2bua", "ring_timeout_s": 20}});
    let (node, mut target, _) = call_out::node(json!({"kind": "echo"}), more).await;
    let (mut phone, port) = talking(&node).await;

    // To where calls out may not go, to what is no number, and out of a dialog that is not there.
    let answer = phone.ask("REFER", &refer_to("+4420555"), "").await;
    assert_eq!(answer.status(), 202, "{answer:?}");
    told(&phone, "403").await;
    hears((&phone, port), &phone, 0x13).await;
    let answer = phone.ask("REFER", "Refer-To: <sip:desk@192.0.2.7>\r\n", "").await;
    assert_eq!(answer.status(), 603, "{answer:?}");

    // The target does not want the call.
    assert_eq!(phone.ask("REFER", &refer_to(CALLED), "").await.status(), 202);
    let invite = target.expect("INVITE ").await;
    assert!(invite.start.starts_with(&format!("INVITE sip:{CALLED}@")), "{invite:?}");
    refuse(&target, &invite, "603 Decline", "").await;
    told(&phone, "603").await;
    hears((&phone, port), &phone, 0x14).await;

    // It answers, and stays.
    assert_eq!(phone.ask("REFER", &refer_to(CALLED), "").await.status(), 202);
    let invite = target.expect("INVITE ").await;
    target.respond(&invite, "180 Ringing", "", "").await;
    told(&phone, "180").await;
    pick_up(&mut target, &invite).await;
    hears((&target, invite.audio_port()), &target, 0x15).await;
    told(&phone, "200").await;
    hear_bye(&phone).await;
    hears((&target, invite.audio_port()), &target, 0x16).await;
    assert_eq!(target.ask("BYE", "", "").await.status(), 200);
    let record = node.record(&phone.call_id).await;
    assert_eq!((record.cause.as_str(), record.ended_by.as_str()), ("normal", "far"));

    // It hangs up before anybody answered: the agent waits for the target all the same.
    let (mut phone, _) = talking(&node).await;
    assert_eq!(phone.ask("REFER", &refer_to(CALLED), "").await.status(), 202);
    let invite = target.expect("INVITE ").await;
    phone.hang_up().await;
    pick_up(&mut target, &invite).await;
    hears((&target, invite.audio_port()), &target, 0x17).await;
    // It stays for longer than the two seconds that prove it.
    target.drain_media_now().await;
    target.hear_media(150).await;
    assert_eq!(target.ask("BYE", "", "").await.status(), 200);
    assert_eq!(node.record(&phone.call_id).await.cause, "normal");
}

#[tokio::test]
async fn who_was_handed_an_agent_that_is_lost_hears_the_announcement() {
    let bot = Bot::bind().await;
    let agent = json!({"kind": "twilio", "url": bot.url(), "reconnects": 0});
    let more = json!({"calls": {"refer_in": "b2bua"}});
    let (node, mut target, _) = call_out::node(agent, more).await;
    let ((mut phone, _, _), stream) = tokio::join!(transfers::talking(&node), bot.accept());
    assert_eq!(phone.ask("REFER", &refer_to(CALLED), "").await.status(), 202);
    let invite = target.expect("INVITE ").await;
    pick_up(&mut target, &invite).await;
    told(&phone, "200").await;
    hear_bye(&phone).await;
    drop(stream);
    let announced = async {
        loop {
            let (kind, payload) = packet(&target).await;
            let sound: Vec<i16> = payload.into_iter().map(ulaw_decode).collect();
            if kind == 0 && share_at(&sound, 950) > 0.3 {
                return;
            }
        }
    };
    assert!(timeout(PATIENCE, announced).await.is_ok(), "its first tone");
    hear_bye(&target).await;
    assert!(node.record(&phone.call_id).await.has_fallback);
}

/// Two trunks of one country whose telephones may not be connected by us, of two places.
async fn of_two_places() -> (Node, Phone, String) {
    let node = Home::new().start().await;
    let far = carrier(&node, "127.0.0.9").await;
    let place = |area: &str| {
        json!({"compliance": {"region": "IN", "no_pstn_to_pstn_bridge": true},
               "numbers": {"area_code": area}, "calls": {"refer_in": "b2bua"}})
    };
    node.put(&[
        carrier::trunk(4, "127.0.0.9/32", &[far.local()], place("80")),
        carrier::trunk(5, "192.0.2.9/32", &[far.local()], place("22")),
        carrier::tenant(1, 5),
        rows::profile(2, 1, json!({"kind": "echo"})),
        rows::number(3, 1, 2, NUMBER),
    ])
    .await;
    let key = key(&node, 1, KeyRole::Operator).await;
    (node, far, key)
}

#[tokio::test]
async fn toll_bypass_is_judged_by_the_legs_that_are_connected() {
    let (node, mut target, key) = of_two_places().await;
    // The caller leaves: our agent and a telephone elsewhere are no two telephones.
    let (mut leaving, _) = talking(&node).await;
    assert_eq!(leaving.ask("REFER", &refer_to(CALLED), "").await.status(), 202);
    let invite = target.expect("INVITE ").await;
    pick_up(&mut target, &invite).await;
    told(&leaving, "200").await;
    hear_bye(&leaving).await;
    hears((&target, invite.audio_port()), &target, 0x21).await;
    assert_eq!(target.ask("BYE", "", "").await.status(), 200);
    assert_eq!(node.record(&leaving.call_id).await.cause, "normal");

    // The caller stays and would talk with that telephone: it keeps its agent instead.
    let (mut phone, port, call) = transfers::talking(&node).await;
    let path = calls(1, &format!("/{call}/transfer"));
    let refused = node.post(&path, &key, &json!({"to": CALLED, "mode": "bridge"})).await;
    assert_eq!((refused.status, refused.json()["code"].as_str()), (403, Some("toll_bypass")));
    hears((&phone, port), &phone, 0x22).await;
    phone.hang_up().await;
    let record = shown(&node, 1, &call, &key).await.to_string();
    assert!(
        record.contains("may not be joined to a call of trunk trunk-4: toll bypass"),
        "{record}"
    );
    assert!(target.hear_within(crate::phone::SILENCE).await.is_none(), "somebody was called");
}

/// Replaces, as it names the dialog of a telephone to the switch.
fn replaces(phone: &Phone) -> String {
    let [call_id, to_tag, from_tag] = phone.dialog();
    format!("Require: replaces\r\nReplaces: {call_id};to-tag={to_tag};from-tag={from_tag}\r\n")
}

/// A telephone of the carrier that has not called yet.
async fn other(node: &Node, at: &str) -> Phone {
    Phone::new(at.parse().unwrap(), node.sip(), NUMBER).await
}

#[tokio::test]
async fn a_caller_that_replaces_its_leg_goes_on_with_the_agent_and_the_leg_before_is_hung_up() {
    let (node, _, _) = call_out::node(json!({"kind": "echo"}), json!({})).await;
    let (phone, _) = talking(&node).await;
    let mut desk = other(&node, "127.0.0.9").await;
    let ok = desk.call(&replaces(&phone)).await;
    assert!(ok.header("supported").contains("replaces"), "{ok:?}");
    hear_bye(&phone).await;
    hears((&desk, ok.audio_port()), &desk, 0x21).await;
    // Once more, from there; the first dialog is nobody's any more.
    let mut late = other(&node, "127.0.0.9").await;
    let offer = late.sdp();
    assert_eq!(late.ask("INVITE", &replaces(&phone), &offer).await.status(), 481);
    let mut third = other(&node, "127.0.0.9").await;
    let ok = third.call(&replaces(&desk)).await;
    hear_bye(&desk).await;
    hears((&third, ok.audio_port()), &third, 0x22).await;
    third.hang_up().await;
    let record = node.record(&phone.call_id).await;
    assert_eq!((record.cause.as_str(), record.ended_by.as_str()), ("normal", "caller"));
    let events = format!(
        "SELECT count(*) FROM call_events e JOIN calls c ON c.id = e.call_id \
         WHERE c.signalling_id = '{}' AND e.name = 'replaced'",
        phone.call_id
    );
    assert_eq!(node.count(&events).await, 2);
}

#[tokio::test]
async fn who_may_not_replace_a_leg_is_refused_with_a_record_and_the_leg_stays() {
    let (node, far, _) = call_out::node(json!({"kind": "echo"}), json!({})).await;
    // Another carrier, whose calls come to the same number.
    node.put(&[crate::rows::trunk(9, "127.0.0.13/32")]).await;
    let (phone, port) = talking(&node).await;
    let ours = replaces(&phone);
    let early = ours.replace(";from-tag", ";early-only;from-tag");
    let other_tag = ours.replace("from-tag=", "from-tag=x");
    for (at, headers, status, cause) in [
        ("127.0.0.13", &ours, 403, "policy"),
        ("127.0.0.9", &other_tag, 481, "unknown_dialog"),
        ("127.0.0.9", &early, 486, "busy"),
    ] {
        let mut other = other(&node, at).await;
        let offer = other.sdp();
        let answer = other.ask("INVITE", headers, &offer).await;
        assert_eq!(answer.status(), status, "{answer:?}");
        assert_eq!(node.record(&other.call_id).await.cause, cause);
    }
    // An offer that cannot be used takes nobody's place either.
    let mut other = other(&node, "127.0.0.9").await;
    let useless = other.sdp().replace("RTP/AVP 0 8 101", "RTP/AVP 18");
    assert_eq!(other.ask("INVITE", &ours, &useless).await.status(), 488);
    hears((&phone, port), &phone, 0x23).await;
    assert!(phone.hear_within(crate::phone::SILENCE).await.is_none(), "the leg before was touched");
    assert!(far.hear_within(crate::phone::SILENCE).await.is_none(), "nobody was called");
}
