//! G.729 between two telephones: it passes as it came, with keys, over a hold, and until one of them changes its codec.

use crate::carrier;
use crate::carrier::CALLED;
use crate::carrier::NUMBER;
use crate::carrier::carrier;
use crate::carrier::hear_bye;
use crate::carrier::hears;
use crate::node::Home;
use crate::node::Node;
use crate::phone::Heard;
use crate::phone::PATIENCE;
use crate::phone::Phone;
use crate::rows;
use serde_json::json;
use std::net::SocketAddr;
use std::time::Duration;
use tandem::rtp::packet::RtpPacket;
use tandem::types::codec::PayloadType;
use tokio::time::MissedTickBehavior;
use tokio::time::interval;
use tokio::time::timeout;

const CALLER: &str = "127.0.0.2";
/// Answered by an agent.
const TO_AGENT: &str = "+15550111";
const G729: u8 = 18;
const SSRC: u32 = 0x7290_0729;

/// A node whose trunk has G.729; one number goes on to the carrier, one to an agent.
async fn node() -> (Node, Phone) {
    let node = Home::new().start().await;
    let far = carrier(&node, "127.0.0.9").await;
    let codecs = json!(["PCMU", "PCMA", "G729"]);
    let more = json!({"codecs": {"offer": codecs, "accept": codecs}});
    node.put(&[
        carrier::trunk(4, &format!("{CALLER}/32"), &[far.local()], more),
        carrier::tenant(1, 4),
        rows::profile(2, 1, json!({"kind": "forward", "to": CALLED})),
        rows::number(3, 1, 2, NUMBER),
        rows::profile(5, 1, json!({"kind": "echo"})),
        rows::number(6, 1, 5, TO_AGENT),
    ])
    .await;
    (node, far)
}

/// What a telephone says it has: these formats, and more lines.
fn sdp(phone: &Phone, formats: &str, more: &str) -> String {
    let media = phone.media.local_addr().unwrap();
    format!(
        "v=0\r\no=- 1 {3} IN IP4 {0}\r\ns=-\r\nc=IN IP4 {0}\r\nt=0 0\r\n\
         m=audio {1} RTP/AVP {formats} 101\r\na=rtpmap:18 G729/8000\r\n\
         a=rtpmap:101 telephone-event/8000\r\na=fmtp:18 annexb=no\r\n{2}",
        media.ip(),
        media.port(),
        more,
        phone.cseq + 1,
    )
}

fn formats(heard: &Heard) -> &str {
    let line = heard.body.lines().find_map(|line| line.strip_prefix("m=audio "));
    line.and_then(|line| line.split_once(" RTP/AVP ")).map_or("", |(_, formats)| formats)
}

/// The telephones talk, by G.729 alone: the INVITE of the one called, and the answer of the caller.
async fn talking(phone: &mut Phone, far: &mut Phone) -> (Heard, Heard) {
    let offer = sdp(phone, "18 0", "");
    let invite = phone.request("INVITE", "", &offer);
    phone.send(invite).await;
    let invite = far.expect("INVITE ").await;
    assert_eq!(formats(&invite), "0 8 18 101");
    assert!(invite.body.contains("a=fmtp:18 annexb=no\r\n"), "{}", invite.body);
    far.take(&invite);
    far.respond(&invite, "200 OK", "", &sdp(far, "18", "")).await;
    far.expect("ACK ").await;
    let ok = phone.outcome("INVITE").await;
    assert_eq!((ok.status(), formats(&ok)), (200, "18 101"), "{}", ok.body);
    phone.confirm(&ok);
    phone.acknowledge().await;
    (invite, ok)
}

/// Frames of which no two are alike.
fn payload(number: u16) -> [u8; 20] {
    std::array::from_fn(|at| (number >> (8 * (at % 2))) as u8 ^ at as u8)
}

/// One says so many packets; what the other got of them, header by header.
async fn says(from: (&Phone, u16), to: &Phone, count: u16) -> Vec<(u16, u32, u32, bool, Vec<u8>)> {
    let switch = SocketAddr::new(from.0.switch.ip(), from.1);
    let said = async {
        let mut beat = interval(Duration::from_millis(20));
        beat.set_missed_tick_behavior(MissedTickBehavior::Burst);
        for number in 0..count {
            beat.tick().await;
            let packet = RtpPacket {
                marker: number == 0,
                payload_type: PayloadType::new(G729).unwrap(),
                sequence: 500 + number,
                timestamp: 160 * u32::from(number),
                ssrc: SSRC,
                payload: &payload(number),
            };
            let mut bytes = [0; 32];
            let length = packet.write(&mut bytes).unwrap();
            from.0.media.send_to(&bytes[..length], switch).await.unwrap();
        }
    };
    let heard = async {
        let (mut got, mut buffer) = (Vec::new(), [0; 2_048]);
        loop {
            let (length, _) = to.media.recv_from(&mut buffer).await.unwrap();
            let packet = RtpPacket::parse(&buffer[..length]).unwrap();
            let RtpPacket { sequence, timestamp, ssrc, marker, .. } = packet;
            if packet.payload_type.get() == G729 {
                got.push((sequence, timestamp, ssrc, marker, packet.payload.to_vec()));
            }
            if packet.payload == payload(count - 1) {
                return got;
            }
        }
    };
    let ((), got) = tokio::join!(said, async { timeout(PATIENCE, heard).await.expect("the last") });
    got
}

/// Presses 5.
async fn press_five(phone: &Phone, port: u16) {
    let switch = SocketAddr::new(phone.switch.ip(), port);
    for (step, end) in [(0_u16, 0_u8), (1, 0), (2, 0), (3, 0x80), (4, 0x80), (5, 0x80)] {
        let mut packet = vec![0x80, if step == 0 { 0xe5 } else { 0x65 }];
        packet.extend((560 + step).to_be_bytes());
        packet.extend((160_u32 * 60).to_be_bytes());
        packet.extend(SSRC.to_be_bytes());
        packet.extend([5, 10 | end]);
        packet.extend((160 * (step.min(3) + 1)).to_be_bytes());
        phone.media.send_to(&packet, switch).await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn g729_passes_between_telephones_until_one_of_them_changes_its_codec() {
    let (node, mut far) = node().await;
    let mut phone = Phone::new(CALLER.parse().unwrap(), node.sip(), NUMBER).await;
    let (invite, ok) = talking(&mut phone, &mut far).await;

    // Untouched, under a stream of our own. What a busy machine leaves out, it says by numbers and time.
    let got = says((&phone, ok.audio_port()), &far, 60).await;
    let numbers: Vec<usize> = got
        .iter()
        .map(|packet| {
            (0..60).position(|n| payload(n)[..] == packet.4).expect("a frame that was said")
        })
        .collect();
    assert!(numbers.len() > 30 && numbers.is_sorted(), "{numbers:?}");
    let ssrc = got[0].2;
    assert_ne!(ssrc, SSRC);
    for pair in got.windows(2) {
        let (number, units) =
            (pair[1].0.wrapping_sub(pair[0].0), pair[1].1.wrapping_sub(pair[0].1));
        assert_eq!((pair[1].2, units % 80), (ssrc, 0));
        assert!(number >= 1 && u32::from(number) * 160 <= units, "{number} packets in {units}");
    }

    // A key, as an event.
    press_five(&phone, ok.audio_port()).await;
    let mut buffer = [0; 2_048];
    let key = async {
        loop {
            let (length, _) = far.media.recv_from(&mut buffer).await.unwrap();
            let packet = RtpPacket::parse(&buffer[..length]).unwrap();
            if packet.payload_type.get() == 101 && packet.payload[1] & 0x80 != 0 {
                return packet.payload[0];
            }
        }
    };
    assert_eq!(timeout(PATIENCE, key).await.expect("the key"), 5);

    // A hold of one leg is answered in the same codec, and the other hears nothing of it.
    let held = sdp(&phone, "18 0", "a=sendonly\r\n");
    let answer = phone.ask("INVITE", "", &held).await;
    phone.acknowledge().await;
    assert_eq!((answer.status(), formats(&answer)), (200, "18 101"));
    let again = sdp(&phone, "18 0", "");
    assert_eq!(formats(&phone.ask("INVITE", "", &again).await), "18 101");
    phone.acknowledge().await;

    // The one who was called changes to G.711: so does the caller.
    let other = sdp(&far, "0", "");
    let answer = far.ask("INVITE", "", &other).await;
    far.acknowledge().await;
    assert_eq!((answer.status(), formats(&answer)), (200, "0 101"));
    let reinvite = phone.expect("INVITE ").await;
    assert_eq!(formats(&reinvite), "0 8 101");
    phone.answer_with(&reinvite, "200 OK", &sdp(&phone, "0", "")).await;
    phone.expect("ACK ").await;
    hears((&phone, ok.audio_port()), &far, 0x21).await;
    hears((&far, invite.audio_port()), &phone, 0x35).await;
    phone.hang_up().await;
    hear_bye(&far).await;
    let record =
        "SELECT count(*) FROM calls WHERE codec = 'G729' AND packets_in > 50 AND mos_in > 3";
    node.record(&phone.call_id).await;
    assert_eq!(node.count(record).await, 1);
}

#[tokio::test]
async fn who_has_g729_alone_reaches_no_agent_and_nobody_who_has_it_not() {
    let (node, far) = node().await;
    let mut phone = Phone::new(CALLER.parse().unwrap(), node.sip(), TO_AGENT).await;
    let only = sdp(&phone, "18", "");
    let refusal = phone.call_in_vain("", &only).await;
    assert_eq!(refusal.status(), 488);
    assert!(refusal.header("reason").contains("no_common_codec"), "{refusal:?}");
    assert_eq!(node.record(&phone.call_id).await.cause, "no_common_codec");
    // With another beside it, that is taken.
    let mut phone = Phone::new(CALLER.parse().unwrap(), node.sip(), TO_AGENT).await;
    let both = sdp(&phone, "18 8", "");
    let answer = phone.ask("INVITE", "", &both).await;
    assert_eq!((answer.status(), formats(&answer)), (200, "8 101"));
    phone.confirm(&answer);
    phone.acknowledge().await;
    phone.hang_up().await;
    // Whoever is called for it and answers with something else is hung up.
    let mut phone = Phone::new(CALLER.parse().unwrap(), node.sip(), NUMBER).await;
    let mut far = far;
    let only = sdp(&phone, "18", "");
    let invite = phone.request("INVITE", "", &only);
    phone.send(invite).await;
    let invite = far.expect("INVITE ").await;
    assert_eq!(formats(&invite), "18 101");
    far.take(&invite);
    far.respond(&invite, "200 OK", "", &sdp(&far, "0", "")).await;
    far.expect("ACK ").await;
    hear_bye(&far).await;
    assert_eq!(phone.outcome("INVITE").await.status(), 488);
}
