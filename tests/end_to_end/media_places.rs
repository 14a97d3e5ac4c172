//! Where the media of a leg are: at the listener and the address that its own signalling goes by, whoever
//! calls.

use crate::call_out::place;
use crate::carrier;
use crate::carrier::CALLED;
use crate::carrier::NUMBER;
use crate::carrier::answer;
use crate::carrier::hear_bye;
use crate::carrier::hears;
use crate::carrier::key;
use crate::carrier::pick_up;
use crate::carrier::refuse;
use crate::carrier::shown;
use crate::carrier::steps;
use crate::node::Home;
use crate::node::Node;
use crate::phone::Heard;
use crate::phone::PATIENCE;
use crate::phone::Phone;
use crate::rows;
use crate::rtp::Stream;
use crate::rtp::audio;
use serde_json::Value;
use serde_json::json;
use std::net::IpAddr;
use std::net::Ipv6Addr;
use std::net::SocketAddr;
use tandem::store::api_keys::KeyRole;
use tokio::time::timeout;

const CALLER: &str = "127.0.0.2";
/// A number whose calls an agent behind a SIP address takes.
const AGENTS: &str = "+15550112";

/// A node that is called at 127.0.0.1 and has another listener, `second`.
async fn node(second: &str) -> Node {
    let more = format!("[[listener]]\nname = \"second\"\nbind = \"{second}\"\n");
    let node = Home::with("127.0.0.1:0", 100, &more).start().await;
    node.put(&[rows::trunk(4, &format!("{CALLER}/32"))]).await;
    node
}

/// A carrier at `local` that the node calls from its other listener.
async fn carrier_of(node: &Node, local: IpAddr) -> Phone {
    Phone::new(local, node.listener("second", "udp"), CALLED).await
}

async fn caller(node: &Node, number: &str) -> Phone {
    let phone = Phone::new(CALLER.parse().unwrap(), node.sip(), number).await;
    let mut phone = phone;
    let offer = phone.sdp();
    let invite = phone.request("INVITE", "", &offer);
    phone.send(invite).await;
    phone
}

/// The answer to a caller, which both have the address of their own listener in.
async fn connected(phone: &mut Phone) -> Heard {
    let ok = phone.outcome("INVITE").await;
    assert_eq!(ok.status(), 200, "{ok:?}");
    assert!(ok.body.contains("c=IN IP4 127.0.0.1\r\n"), "{ok:?}");
    phone.confirm(&ok);
    phone.acknowledge().await;
    ok
}

/// One says `level` to `switch` until the other hears it, from there where the other was told.
async fn hears_from(from: (&Phone, SocketAddr), to: (&Phone, SocketAddr), level: u8) {
    let mut stream = Stream::new(u32::from(level) + 7, level);
    let said = stream.send(&from.0.media, from.1, (500, 1));
    let heard = async {
        let mut buffer = [0; 2_048];
        loop {
            let (length, source) = to.0.media.recv_from(&mut buffer).await.unwrap();
            let payload = audio(&buffer[..length]);
            // What a call before left in the socket is another's.
            if !payload.is_empty() && payload.iter().all(|byte| *byte == level) {
                assert_eq!(source, to.1, "media come from where they are sent to");
                return;
            }
        }
    };
    tokio::select! {
        () = said => panic!("level {level} is not heard"),
        heard = timeout(PATIENCE, heard) => heard.unwrap(),
    }
}

/// Both hear each other, each by the media address that it was told; no other call says `level` or the next
/// one.
async fn both_hear(
    (phone, ok): (&Phone, &Heard),
    (far, invite): (&Phone, &Heard),
    (at, level): (IpAddr, u8),
) {
    let near = SocketAddr::new(phone.switch.ip(), ok.audio_port());
    let there = SocketAddr::new(at, invite.audio_port());
    hears_from((phone, near), (far, there), level).await;
    hears_from((far, there), (phone, near), level + 1).await;
}

#[tokio::test]
async fn a_caller_over_ipv4_and_whom_it_is_passed_on_to_over_ipv6_hear_each_other() {
    let node = node("[::1]:0").await;
    let here = IpAddr::from(Ipv6Addr::LOCALHOST);
    let mut far = carrier_of(&node, here).await;
    let agent = json!({"kind": "sip", "uri": format!("sip:bot@{}", far.local())});
    node.put(&[
        carrier::trunk(5, "::1/128", &[far.local()], json!({})),
        carrier::tenant(1, 5),
        rows::profile(2, 1, json!({"kind": "forward", "to": CALLED})),
        rows::number(3, 1, 2, NUMBER),
        rows::profile(12, 1, agent),
        rows::number(13, 1, 12, AGENTS),
    ])
    .await;
    let via = format!("SIP/2.0/UDP [::1]:{};", far.switch.port());
    let calls = [
        (NUMBER, format!("sip:{CALLED}@[::1]:"), 0x21),
        (AGENTS, "sip:bot@[::1]:".to_owned(), 0x31),
    ];
    for (number, asked, level) in calls {
        let mut phone = caller(&node, number).await;
        let invite = answer(&mut far).await;
        assert!(invite.start.starts_with(&format!("INVITE {asked}")), "{invite:?}");
        assert!(invite.header("via").starts_with(&via), "{invite:?}");
        assert!(invite.header("from").contains("@[::1]"), "{invite:?}");
        assert!(invite.body.contains("c=IN IP6 ::1\r\n"), "{invite:?}");
        assert!(!invite.body.contains("IN IP4"), "{invite:?}");
        let ok = connected(&mut phone).await;
        both_hear((&phone, &ok), (&far, &invite), (here, level)).await;
        // Held and resumed it is where it was.
        let held = format!("{}a=sendonly\r\n", phone.sdp());
        assert_eq!(phone.ask("INVITE", "", &held).await.status(), 200);
        phone.acknowledge().await;
        let offer = phone.sdp();
        assert_eq!(phone.ask("INVITE", "", &offer).await.status(), 200);
        phone.acknowledge().await;
        hears((&far, invite.audio_port()), &phone, level + 5).await;
        phone.hang_up().await;
        hear_bye(&far).await;
    }
}

/// Media sockets that are bound to every address leave it to the system which one their packets are from.
#[tokio::test]
async fn a_listener_on_every_address_has_media_both_ways_at_the_address_it_tells() {
    let told = "advertise_sip = \"127.0.0.1:5060\"\nadvertise_rtp = \"127.0.0.1\"\n";
    let node = Home::with("0.0.0.0:0", 100, told).start().await;
    let here = SocketAddr::from(([127, 0, 0, 1], node.sip().port()));
    let mut far = Phone::new("127.0.0.9".parse().unwrap(), here, CALLED).await;
    node.put(&[
        rows::trunk(4, &format!("{CALLER}/32")),
        carrier::trunk(5, "127.0.0.9/32", &[far.local()], json!({})),
        carrier::tenant(1, 5),
        rows::profile(2, 1, json!({"kind": "forward", "to": CALLED})),
        rows::number(3, 1, 2, NUMBER),
    ])
    .await;
    let mut phone = Phone::new(CALLER.parse().unwrap(), here, NUMBER).await;
    let offer = phone.sdp();
    let invite = phone.request("INVITE", "", &offer);
    phone.send(invite).await;
    let invite = answer(&mut far).await;
    assert!(invite.body.contains("c=IN IP4 127.0.0.1\r\n"), "{invite:?}");
    let ok = connected(&mut phone).await;
    both_hear((&phone, &ok), (&far, &invite), (here.ip(), 0x21)).await;
    phone.hang_up().await;
    hear_bye(&far).await;
}

#[tokio::test]
async fn a_leg_out_has_the_media_of_the_listener_and_the_addresses_of_its_trunk() {
    let node = node("127.0.0.66:0").await;
    let mut far = carrier_of(&node, "127.0.0.9".parse().unwrap()).await;
    node.put(&[
        carrier::trunk(
            5,
            "127.0.0.9/32",
            &[far.local()],
            json!({"network": {"listener": "second"}}),
        ),
        carrier::tenant(1, 5),
        rows::profile(2, 1, json!({"kind": "forward", "to": CALLED})),
        rows::number(3, 1, 2, NUMBER),
    ])
    .await;
    let via = format!("SIP/2.0/UDP {};", far.switch);
    let moved = json!({"network": {"listener": "second", "advertise_rtp": "127.0.0.77",
                                   "source_address": "127.0.0.77"}});
    let moved = format!(
        "UPDATE trunks SET overrides = overrides || '{moved}' WHERE id = '{}'",
        rows::uuid(5)
    );
    for (at, level, change) in [("127.0.0.66", 0x21, Some(moved)), ("127.0.0.77", 0x31, None)] {
        let mut phone = caller(&node, NUMBER).await;
        let invite = answer(&mut far).await;
        assert!(invite.header("via").starts_with(&via), "{invite:?}");
        assert!(invite.body.contains(&format!("c=IN IP4 {at}\r\n")), "{at}: {invite:?}");
        let ok = connected(&mut phone).await;
        both_hear((&phone, &ok), (&far, &invite), (at.parse().unwrap(), level)).await;
        phone.hang_up().await;
        hear_bye(&far).await;
        if let Some(change) = change {
            node.put(&[change]).await;
        }
    }
}

#[tokio::test]
async fn a_leg_that_goes_on_by_another_trunk_takes_its_media_there() {
    let node = node("[::1]:0").await;
    let here = IpAddr::from(Ipv6Addr::LOCALHOST);
    let first = carrier::carrier(&node, "127.0.0.9").await;
    let mut second = carrier_of(&node, here).await;
    let numbers = format!(
        "UPDATE phone_numbers SET outbound_trunk_id = '{}' WHERE id = '{}'",
        rows::uuid(5),
        rows::uuid(3)
    );
    node.put(&[
        carrier::trunk(5, "127.0.0.9/32", &[first.local()], json!({})),
        carrier::trunk(6, "::1/128", &[second.local()], json!({})),
        carrier::tenant(1, 6),
        rows::profile(2, 1, json!({"kind": "forward", "to": CALLED})),
        rows::number(3, 1, 2, NUMBER),
    ])
    .await;
    node.put(&[numbers]).await;
    let mut phone = caller(&node, NUMBER).await;
    let invite = first.expect("INVITE ").await;
    assert!(invite.body.contains("c=IN IP4 127.0.0.1\r\n"), "{invite:?}");
    refuse(&first, &invite, "503 Service Unavailable", "").await;
    let invite = second.expect("INVITE ").await;
    assert!(invite.body.contains("c=IN IP6 ::1\r\n"), "{invite:?}");
    assert!(!invite.body.contains("IN IP4"), "{invite:?}");
    pick_up(&mut second, &invite).await;
    let ok = connected(&mut phone).await;
    both_hear((&phone, &ok), (&second, &invite), (here, 0x21)).await;
    phone.hang_up().await;
    hear_bye(&second).await;
}

/// A node whose calls go by trunk 5 first, which says more of itself, and by trunk 6 next; and the carriers of both.
async fn two_trunks(home: Home, more: Value) -> (Node, Phone, Phone) {
    let node = home.start().await;
    let first = carrier::carrier(&node, "127.0.0.9").await;
    let second = carrier::carrier(&node, "127.0.0.10").await;
    let number = format!(
        "UPDATE phone_numbers SET outbound_trunk_id = '{}' WHERE id = '{}'",
        rows::uuid(5),
        rows::uuid(3)
    );
    node.put(&[
        rows::trunk(4, &format!("{CALLER}/32")),
        carrier::trunk(5, "127.0.0.9/32", &[first.local()], more),
        carrier::trunk(6, "127.0.0.10/32", &[second.local()], json!({})),
        carrier::tenant(1, 6),
        rows::profile(2, 1, json!({"kind": "forward", "to": CALLED})),
        rows::number(3, 1, 2, NUMBER),
    ])
    .await;
    node.put(&[number]).await;
    (node, first, second)
}

/// The steps of the decision about the call of a telephone.
async fn decided(node: &Node, phone: &Phone) -> String {
    node.record(&phone.call_id).await;
    let sql = format!("SELECT decision::text FROM calls WHERE signalling_id = '{}'", phone.call_id);
    crate::postgres::text(&node.database(), &sql).await
}

#[tokio::test]
async fn a_leg_for_whose_media_a_trunk_has_no_port_goes_on_by_the_next_trunk() {
    let home = Home::new();
    let last = *home.rtp_ports().end();
    let one_pair = json!({"network": {"rtp_port_range": [last - 1, last]}});
    let (node, mut first, mut second) = two_trunks(home, one_pair).await;
    // A call that goes on has the only pair.
    let mut holder = caller(&node, NUMBER).await;
    let invite = first.expect("INVITE ").await;
    assert_eq!(invite.audio_port(), last - 1);
    pick_up(&mut first, &invite).await;
    let held = connected(&mut holder).await;

    let mut phone = caller(&node, NUMBER).await;
    let invite = second.expect("INVITE ").await;
    pick_up(&mut second, &invite).await;
    let ok = connected(&mut phone).await;
    hears((&phone, ok.audio_port()), &second, 0x31).await;
    hears((&second, invite.audio_port()), &phone, 0x32).await;
    phone.hang_up().await;
    hear_bye(&second).await;
    let said = decided(&node, &phone).await;
    assert!(said.contains("g1 of trunk") && said.contains("not sent: no_ports"), "{said}");
    // The call before goes on where it was.
    hears((&holder, held.audio_port()), &first, 0x33).await;
    holder.hang_up().await;
    hear_bye(&first).await;
}

#[tokio::test]
async fn calls_by_other_trunks_leave_a_trunk_its_ports_while_there_are_others() {
    let home = Home::new();
    let (start, end) = home.rtp_ports().into_inner();
    // Six pairs are left for others. A leg has one of them too until it is known by which trunk it goes.
    let own = start..=end - 12;
    let kept = json!({"network": {"rtp_port_range": [own.start(), own.end()]}});
    let (node, mut first, _second) = two_trunks(home, kept).await;
    let mut taken = Vec::new();
    for _ in 0..3 {
        let mut phone = caller(&node, NUMBER).await;
        let invite = first.expect("INVITE ").await;
        assert!(own.contains(&invite.audio_port()), "{invite:?}");
        pick_up(&mut first, &invite).await;
        let ok = connected(&mut phone).await;
        assert!(!own.contains(&ok.audio_port()), "{ok:?}");
        // Each is a call of its own, which goes on.
        taken.push((phone, ok.audio_port()));
    }
    for ((phone, port), level) in taken.iter().zip(0x35..) {
        hears((phone, *port), &first, level).await;
    }
}

#[tokio::test]
async fn a_leg_whose_trunk_may_not_write_its_keys_goes_on_by_the_next_trunk() {
    // Its calls in come by TLS; over UDP, by which its gateway is reached, others would read them.
    let tls = json!({"inbound": {"transports": ["tls"]}, "srtp": {"policy": "required"}});
    let (node, _first, mut second) = two_trunks(Home::new(), tls).await;
    let mut phone = caller(&node, NUMBER).await;
    let invite = second.expect("INVITE ").await;
    assert!(!invite.body.contains("a=crypto"), "{invite:?}");
    pick_up(&mut second, &invite).await;
    let ok = connected(&mut phone).await;
    hears((&phone, ok.audio_port()), &second, 0x34).await;
    phone.hang_up().await;
    hear_bye(&second).await;
    let said = decided(&node, &phone).await;
    assert!(said.contains("not sent: srtp_mismatch"), "{said}");
    // So does a call that we place.
    let key = key(&node, 1, KeyRole::Operator).await;
    let call = place(&node, &key, json!({"to": CALLED, "from": NUMBER})).await;
    let invite = second.expect("INVITE ").await;
    refuse(&second, &invite, "486 Busy Here", "").await;
    let record = shown(&node, 1, &call, &key).await;
    assert_eq!(record["cause"], "busy", "{record}");
    assert!(steps(&record).contains("not sent: srtp_mismatch"), "{record}");
}

#[tokio::test]
async fn the_next_gateway_is_offered_other_keys() {
    let open = json!({"policy": "required", "needs_tls_signalling": false});
    let node = Home::new().start().await;
    let first = carrier::carrier(&node, "127.0.0.9").await;
    let second = carrier::carrier(&node, "127.0.0.10").await;
    let gateways = [first.local(), second.local()];
    node.put(&[
        rows::trunk(4, &format!("{CALLER}/32")),
        carrier::trunk(5, "127.0.0.9/32", &gateways, json!({"srtp": open})),
        carrier::tenant(1, 5),
        rows::profile(2, 1, json!({"kind": "forward", "to": CALLED})),
        rows::number(3, 1, 2, NUMBER),
    ])
    .await;
    let _phone = caller(&node, NUMBER).await;
    let mut keys = Vec::new();
    for gateway in [first, second] {
        let invite = gateway.expect("INVITE ").await;
        keys.extend(invite.body.lines().find(|line| line.contains("inline:")).map(str::to_owned));
        refuse(&gateway, &invite, "503 Service Unavailable", "").await;
    }
    assert!(keys.len() == 2 && keys[0] != keys[1], "{keys:?}");
}

#[tokio::test]
async fn a_telephone_that_takes_a_leg_over_at_another_listener_is_heard_there() {
    let node = node("[::1]:0").await;
    let here = IpAddr::from(Ipv6Addr::LOCALHOST);
    let both = json!({"inbound": {"source_cidrs": [format!("{CALLER}/32"), "::1/128"]}});
    node.put(&[
        format!(
            "UPDATE trunks SET overrides = overrides || '{both}' WHERE id = '{}'",
            rows::uuid(4)
        ),
        rows::tenant(1, 0),
        rows::profile(2, 1, json!({"kind": "echo"})),
        rows::number(3, 1, 2, NUMBER),
    ])
    .await;
    let mut phone = caller(&node, NUMBER).await;
    let first = connected(&mut phone).await;
    let port = first.audio_port();
    let replaces = |phone: &Phone| {
        let [call_id, to_tag, from_tag] = phone.dialog();
        format!("Require: replaces\r\nReplaces: {call_id};to-tag={to_tag};from-tag={from_tag}\r\n")
    };
    let mut desk = Phone::new(here, node.listener("second", "udp"), NUMBER).await;
    // What cannot be used leaves the leg where it is.
    let mut useless = Phone::new(here, node.listener("second", "udp"), NUMBER).await;
    let offer = useless.sdp().replace("RTP/AVP 0 8 101", "RTP/AVP 18");
    assert_eq!(useless.ask("INVITE", &replaces(&phone), &offer).await.status(), 488);
    hears((&phone, port), &phone, 0x21).await;
    let ok = desk.call(&replaces(&phone)).await;
    assert!(ok.body.contains("c=IN IP6 ::1\r\n"), "{ok:?}");
    hear_bye(&phone).await;
    hears((&desk, ok.audio_port()), &desk, 0x31).await;
    // And back.
    let mut third = Phone::new(CALLER.parse().unwrap(), node.sip(), NUMBER).await;
    let ok = third.call(&replaces(&desk)).await;
    assert!(ok.body.contains("c=IN IP4 127.0.0.1\r\n"), "{ok:?}");
    hear_bye(&desk).await;
    hears((&third, ok.audio_port()), &third, 0x41).await;
    third.hang_up().await;
}
