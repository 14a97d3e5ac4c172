//! Whose reports are believed, where ours go, and what they say when a stream of ours gives way to another.

use super::*;
use crate::media::output::Taken;
use crate::media::session::tests::PEER;
use crate::media::session::tests::STRANGER;
use crate::media::session::tests::Scene;
use crate::media::session::tests::Talker;
use crate::media::session::tests::at;
use crate::media::session::tests::plan;
use crate::rtp::rtcp::COMPOUND_BYTES_MAX;
use crate::rtp::rtcp::Compound;
use crate::rtp::rtcp::Report;
use crate::rtp::rtcp::ReportBlock;
use crate::rtp::rtcp::RtcpPacket;
use crate::rtp::rtcp::SenderInfo;

/// A report about a stream of ours, by the sender of `ssrc`.
fn report(ssrc: u32, about: u32, cumulative_lost: i32) -> Vec<u8> {
    let block = Some(ReportBlock { ssrc: about, cumulative_lost, ..Default::default() });
    let report = Report { ssrc, sender: None, block, cname: b"x", metrics: None };
    let mut bytes = vec![0; COMPOUND_BYTES_MAX];
    let length = report.write(&mut bytes).expect("room");
    bytes.truncate(length);
    bytes
}

/// Whether a report from `source` is believed.
fn believes(scene: &mut Scene, source: &str) -> bool {
    let bytes = report(7, scene.session.sender.ssrc(), 3);
    let datagram = Received { port: Port::Rtcp, source: at(source), bytes: &bytes };
    let taken = scene.session.receive(scene.now, &datagram, &mut scene.out);
    assert_ne!(taken, Taken::Media);
    taken == Taken::Report
}

/// Where our reports of the next ten seconds go.
fn way_of_reports(scene: &mut Scene, talker: &mut Talker) -> Vec<SocketAddr> {
    scene.sent.clear();
    scene.talk(talker, 500);
    let reports = scene.sent.iter().filter(|sent| sent.port == Port::Rtcp);
    let mut ways: Vec<_> = reports.map(|sent| sent.to).collect();
    ways.dedup();
    ways
}

#[test]
fn reports_from_the_address_said_for_them_are_believed() {
    const APART: &str = "203.0.113.9:6001";
    let mut scene = Scene::new(MediaPlan { remote_rtcp: Some(at(APART)), ..plan() });
    scene.ticks(10);
    assert!(believes(&mut scene, APART), "RFC 3605");
    assert!(believes(&mut scene, PEER), "and from where its media is");
    assert!(!believes(&mut scene, STRANGER));
    assert_eq!(scene.session.statistics().foreign, 1);
    let mut talker = Talker::new(PEER, 7);
    assert_eq!(way_of_reports(&mut scene, &mut talker), [at(APART)]);
    // Another description takes it back.
    scene.session.update(scene.now, &plan(), &mut scene.out);
    assert!(!believes(&mut scene, APART));
}

#[test]
fn reports_of_a_peer_behind_a_nat_follow_its_media_and_ours_go_where_they_come_from() {
    let mut scene = Scene::new(plan());
    let mut talker = Talker::new("198.51.100.7:9000", 7);
    assert!(!believes(&mut scene, "198.51.100.7:9555"), "nobody was learned yet");
    scene.talk(&mut talker, 20);
    assert_eq!(way_of_reports(&mut scene, &mut talker), [at("198.51.100.7:9001")]);
    assert!(!believes(&mut scene, STRANGER));
    assert!(believes(&mut scene, "198.51.100.7:9555"), "the same host, at whatever port");
    assert_eq!(way_of_reports(&mut scene, &mut talker), [at("198.51.100.7:9555")]);
    // One that is not of the stream we hear says nothing of where the peer is.
    let bytes = report(8, 9, 0);
    scene.receive_at(Port::Rtcp, at("198.51.100.7:9777"), &bytes);
    assert_eq!(way_of_reports(&mut scene, &mut talker), [at("198.51.100.7:9555")]);
    // Nor where the trunk's media goes by the description alone.
    let mut rules = MediaRules { symmetric: false, ..MediaRules::default() };
    scene.session.rule(&mut rules);
    assert!(believes(&mut scene, "198.51.100.7:9555"));
    assert_eq!(way_of_reports(&mut scene, &mut talker), [at("192.0.2.1:4001")]);
}

/// The RTCP that was sent: whole compounds, in order.
fn compounds(scene: &Scene) -> Vec<&[u8]> {
    let reports = scene.sent.iter().filter(|sent| sent.port == Port::Rtcp);
    reports.map(|sent| sent.bytes.as_slice()).collect()
}

fn goodbyes(scene: &Scene) -> Vec<u32> {
    let packets = compounds(scene).into_iter().flat_map(Compound::new);
    let goodbye = |packet| match packet {
        RtcpPacket::Goodbye { ssrc } => ssrc,
        _ => None,
    };
    packets.filter_map(goodbye).collect()
}

fn sender_reports(scene: &Scene) -> Vec<(u32, SenderInfo)> {
    let packets = compounds(scene).into_iter().flat_map(Compound::new);
    let report = |packet| match packet {
        RtcpPacket::SenderReport { ssrc, info, .. } => Some((ssrc, info)),
        _ => None,
    };
    packets.filter_map(report).collect()
}

#[test]
fn a_stream_that_gives_way_is_said_goodbye_to_and_the_next_counts_from_zero() {
    let mut scene = Scene::new(plan());
    scene.ticks(500);
    let old = scene.session.sender.ssrc();
    scene.receive_at(Port::Rtcp, at(PEER), &report(7, old, 20));
    let (_, last) = *sender_reports(&scene).last().expect("ten seconds have reports");
    assert!(last.packets > 200);
    assert!(goodbyes(&scene).is_empty());
    scene.sent.clear();
    // The peer turns out to use our SSRC.
    let mut talker = Talker::new(PEER, old);
    scene.talk(&mut talker, 5);
    assert_eq!(goodbyes(&scene), [old], "once");
    let first = compounds(&scene)[0];
    assert!(Compound::new(first).is_well_formed());
    let leads = Compound::new(first).next();
    assert!(matches!(leads, Some(RtcpPacket::ReceiverReport { ssrc, .. }) if ssrc == old));
    scene.sent.clear();
    scene.talk(&mut talker, 500);
    let new = scene.session.sender.ssrc();
    let (ssrc, info) = sender_reports(&scene)[0];
    assert_eq!(ssrc, new);
    assert!(info.packets < 500 && info.octets == info.packets * 160, "{info:?}");
    scene.receive_at(Port::Rtcp, at(PEER), &report(7, new, 5));
    let figures = scene.session.statistics();
    assert_eq!((figures.lost_out, figures.packets_out), (Some(25), 1_005));
}

#[test]
fn a_stream_of_another_clock_is_said_goodbye_to_unless_the_trunk_has_no_rtcp() {
    for rtcp in [true, false] {
        let mut scene = Scene::new(plan());
        let mut rules = MediaRules { rtcp, ..MediaRules::default() };
        scene.session.rule(&mut rules);
        scene.ticks(20);
        let old = scene.session.sender.ssrc();
        let other = Codec::Opus;
        let payload_type = other.payload_type();
        scene.session.update(
            scene.now,
            &MediaPlan {
                codec: other,
                send_payload_type: payload_type,
                receive_payload_type: payload_type,
                ..plan()
            },
            &mut scene.out,
        );
        scene.ticks(20);
        assert_ne!(scene.session.sender.ssrc(), old);
        let expected: &[u32] = if rtcp { &[old] } else { &[] };
        assert_eq!(goodbyes(&scene), expected);
    }
}
