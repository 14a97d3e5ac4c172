//! Keys of trunk profiles about media, on the wire: keys by INFO, ports, RTCP, where media is sent.

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
use crate::phone::PATIENCE;
use crate::phone::Phone;
use crate::phone::SILENCE;
use crate::phone::media::Media;
use crate::rows;
use crate::rtp::Stream;
use crate::rtp::audio;
use serde_json::Value;
use serde_json::json;
use socket2::SockRef;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::time::timeout;

const CALLER: &str = "127.0.0.2";

/// A node whose number has this agent; more about its trunk, which has the node's RTP ports.
async fn node(agent: Value, more: impl FnOnce(&Home) -> Value) -> (Node, Phone) {
    let home = Home::new();
    let more = more(&home);
    let node = home.start().await;
    let far = carrier(&node, "127.0.0.9").await;
    node.put(&[
        carrier::trunk(4, &format!("{CALLER}/32"), &[far.local()], more),
        carrier::tenant(1, 4),
        rows::profile(2, 1, agent),
        rows::number(3, 1, 2, NUMBER),
    ])
    .await;
    (node, far)
}

async fn caller(node: &Node) -> Phone {
    Phone::new(CALLER.parse().unwrap(), node.sip(), NUMBER).await
}

/// A call that is passed on to the other telephone and answered there: its INVITE, and our answer.
async fn forwarded(phone: &mut Phone, far: &mut Phone) -> (Heard, Heard) {
    let offer = phone.sdp();
    let request = phone.request("INVITE", "", &offer);
    phone.send(request).await;
    let invite = answer(far).await;
    let ok = phone.outcome("INVITE").await;
    assert_eq!(ok.status(), 200, "{ok:?}");
    phone.confirm(&ok);
    phone.acknowledge().await;
    (invite, ok)
}

/// Presses 5 by RFC 4733.
async fn press_five(phone: &Phone, port: u16) {
    press((phone, port), 5, &[(0, 0), (1, 0), (2, 0), (3, 0x80), (4, 0x80), (5, 0x80)]).await;
}

/// The packets of a key by RFC 4733: which of them, and whether each says that it is over.
async fn press((phone, port): (&Phone, u16), key: u8, packets: &[(u16, u8)]) {
    let switch = SocketAddr::new(phone.switch.ip(), port);
    for (step, end) in packets.iter().copied() {
        let mut packet = vec![0x80, if step == 0 { 0xe5 } else { 0x65 }];
        packet.extend((1_500 + step).to_be_bytes());
        packet.extend(80_000_u32.to_be_bytes());
        packet.extend(0x28_u32.to_be_bytes());
        packet.extend([key, 10 | end]);
        packet.extend((160 * (step.min(3) + 1)).to_be_bytes());
        phone.media.send_to(&packet, switch).await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The next INFO, answered.
async fn info(phone: &Phone) -> Heard {
    let info = phone.expect("INFO ").await;
    phone.answer(&info, "200 OK").await;
    assert_eq!(info.header("content-type"), "application/dtmf-relay");
    info
}

#[tokio::test]
async fn keys_reach_a_peer_by_info_where_its_trunk_says_so() {
    let dtmf = json!({"dtmf": {"send": "info", "duration_ms": 160, "events": "0-16"}});
    let forward = json!({"kind": "forward", "to": CALLED});
    let (node, mut far) = node(forward, |_| dtmf).await;
    let mut phone = caller(&node).await;
    let (invite, ok) = forwarded(&mut phone, &mut far).await;
    assert!(invite.body.contains("a=fmtp:101 0-16"), "{}", invite.body);
    assert!(ok.body.contains("a=fmtp:101 0-16"), "{}", ok.body);
    hears((&phone, ok.audio_port()), &far, 0x21).await;

    press_five(&phone, ok.audio_port()).await;
    assert_eq!(info(&far).await.body, "Signal=5\r\nDuration=160\r\n");
    // What came between was no event of RFC 4733, and nothing of it follows.
    hears((&phone, ok.audio_port()), &far, 0x22).await;
    let mut buffer = [0; 2_048];
    while let Ok((length, _)) = far.media.try_recv_from(&mut buffer) {
        assert_ne!((length, buffer[1] & 0x7f), (16, 101), "an event beside the INFO");
    }

    // And back, by INFO on both sides.
    let digit = "Signal=9\r\nDuration=250\r\n";
    let relay = "Content-Type: application/dtmf-relay\r\n";
    assert_eq!(far.ask("INFO", relay, digit).await.status(), 200);
    assert_eq!(info(&phone).await.body, "Signal=9\r\nDuration=160\r\n");
    phone.hang_up().await;
    hear_bye(&far).await;
}

#[tokio::test]
async fn the_key_by_which_an_agent_hangs_up_is_in_the_record() {
    let (node, _far) = node(json!({"kind": "parrot"}), |_| json!({})).await;
    let mut phone = caller(&node).await;
    let offer = phone.sdp();
    let request = phone.request("INVITE", "", &offer);
    phone.send(request).await;
    let ok = phone.outcome("INVITE").await;
    assert_eq!(ok.status(), 200, "{ok:?}");
    phone.confirm(&ok);
    phone.acknowledge().await;
    // It goes down and never comes up: by then the media are closed.
    press((&phone, ok.audio_port()), 9, &[(0, 0), (1, 0), (2, 0)]).await;
    hear_bye(&phone).await;
    let record = node.record(&phone.call_id).await;
    assert_eq!((record.digits, &*record.ended_by), (1, "agent"));
}

#[tokio::test]
async fn calls_of_a_trunk_keep_to_its_ports_on_both_legs() {
    let mut own = 0..=0;
    let forward = json!({"kind": "forward", "to": CALLED});
    let (node, mut far) = node(forward, |home| {
        let last = *home.rtp_ports().end();
        own = last - 39..=last;
        json!({"network": {"rtp_port_range": [own.start(), own.end()]}})
    })
    .await;
    for _ in 0..3 {
        let mut phone = caller(&node).await;
        let (invite, ok) = forwarded(&mut phone, &mut far).await;
        let ports = [invite.audio_port(), ok.audio_port()];
        assert!(ports.iter().all(|port| own.contains(port)), "{ports:?} in {own:?}");
        hears((&phone, ok.audio_port()), &far, 0x23).await;
        hears((&far, invite.audio_port()), &phone, 0x24).await;
        phone.hang_up().await;
        hear_bye(&far).await;
    }
}

/// The traffic class with which the next packet comes to a telephone.
async fn class(phone: &Phone) -> u8 {
    SockRef::from(&*phone.media).set_recv_tos_v4(true).unwrap();
    let mut buffer = [0; 2_048];
    let read = timeout(PATIENCE, phone.media.receive(&mut buffer)).await;
    read.expect("a packet comes").unwrap().service.unwrap() >> 2
}

#[tokio::test]
async fn media_has_the_traffic_class_of_its_trunk_on_both_legs() {
    let network = json!({"network": {"dscp": {"rtp": 34}}});
    let (node, mut far) = node(json!({"kind": "forward", "to": CALLED}), |_| network).await;
    let mut phone = caller(&node).await;
    let (_invite, ok) = forwarded(&mut phone, &mut far).await;
    hears((&phone, ok.audio_port()), &far, 0x27).await;
    assert_eq!([class(&phone).await, class(&far).await], [34, 34]);
    phone.hang_up().await;
    hear_bye(&far).await;
}

#[tokio::test]
async fn media_goes_where_the_description_says_where_the_trunk_does_not_latch() {
    for (symmetric, follows) in [("latch_once", true), ("off", false)] {
        let network = json!({"network": {"symmetric_rtp": symmetric}});
        let (node, _far) = node(json!({"kind": "echo"}), |_| network).await;
        let mut phone = caller(&node).await;
        let ok = phone.call("").await;
        let switch = SocketAddr::new(phone.switch.ip(), ok.audio_port());
        let other = Media::new(UdpSocket::bind((CALLER, 0)).await.unwrap());
        let (level, mut stream) = (0x25, Stream::new(9, 0x25));
        let said = stream.send(&other, switch, (500, 1));
        let heard = async {
            let at = if follows { &other } else { &phone.media };
            let mut buffer = [0; 2_048];
            loop {
                let (length, _) = at.recv_from(&mut buffer).await.unwrap();
                if audio(&buffer[..length]).iter().all(|byte| *byte == level) {
                    return;
                }
            }
        };
        tokio::select! {
            () = said => panic!("nothing comes back: {symmetric}"),
            heard = timeout(PATIENCE, heard) => heard.unwrap(),
        }
        if !follows {
            assert!(other.try_recv_from(&mut [0; 2_048]).is_err(), "sent to where it came from");
        }
        phone.hang_up().await;
    }
}

#[tokio::test]
async fn a_trunk_without_rtcp_gets_none_not_even_at_the_end() {
    for (rtcp, comes) in [("on", true), ("off", false)] {
        let codecs = json!({"codecs": {"rtcp": rtcp}});
        let (node, _far) = node(json!({"kind": "echo"}), |_| codecs).await;
        let mut phone = caller(&node).await;
        let reports = UdpSocket::bind((CALLER, 0)).await.unwrap();
        let at = reports.local_addr().unwrap();
        let offer = format!("{}a=rtcp:{} IN IP4 {}\r\n", phone.sdp(), at.port(), at.ip());
        let ok = phone.ask("INVITE", "", &offer).await;
        assert!(ok.status() == 200 && !ok.body.contains("a=rtcp"), "{ok:?}");
        phone.confirm(&ok);
        phone.acknowledge().await;
        hears((&phone, ok.audio_port()), &phone, 0x26).await;
        phone.hang_up().await;
        // The goodbye is sent before the record is closed.
        node.record(&phone.call_id).await;
        let mut buffer = [0; 2_048];
        let patience = if comes { PATIENCE } else { SILENCE };
        let came = timeout(patience, reports.recv_from(&mut buffer)).await.is_ok();
        assert_eq!(came, comes, "rtcp = {rtcp}");
    }
}
