//! How good the audio of a session is said to be, and who is said not to be heard.

use super::tests::PEER;
use super::tests::PEER_RTCP;
use super::tests::Scene;
use super::tests::Talker;
use super::tests::at;
use super::tests::plan;
use super::*;
use crate::media::setup::VoipMetricsRule;
use crate::rtp::rtcp::COMPOUND_BYTES_MAX;
use crate::rtp::rtcp::Compound;
use crate::rtp::rtcp::Report;
use crate::rtp::rtcp::ReportBlock;
use crate::rtp::rtcp::RtcpPacket;
use crate::rtp::voip_block::VoipMetrics;
use crate::types::quality::AudioTrouble;
use crate::types::quality::TroubleTold;
use crate::types::quality::WayQuality;

/// µ-law of a quiet line, and of somebody who speaks.
const HUSHED: [u8; 160] = [0xfe; 160];
const SPEAKS: [u8; 160] = [0x20; 160];

fn scene(voip_metrics: VoipMetricsRule, metrics_asked: bool) -> Scene {
    let rules = MediaRules { voip_metrics, ..MediaRules::default() };
    let plan = MediaPlan { metrics_asked, ..plan() };
    Scene::with(MediaSetup { rules, playout_held: false, ..MediaSetup::new(Some(plan), 1) })
}

fn metrics(scene: &Scene) -> Vec<VoipMetrics> {
    let reports = scene.sent.iter().filter(|sent| sent.port == Port::Rtcp);
    let packets = reports.flat_map(|sent| Compound::new(&sent.bytes));
    let extended = packets.filter_map(|packet| match packet {
        RtcpPacket::Extended(blocks) => Some(blocks),
        _ => None,
    });
    extended.flat_map(|blocks| blocks.voip_metrics().collect::<Vec<_>>()).collect()
}

fn troubles(scene: &Scene) -> Vec<(AudioTrouble, u32, bool)> {
    let told = |event: &MediaEvent| match event {
        MediaEvent::Trouble(TroubleTold { what, for_ms, is_over }) => {
            Some((*what, *for_ms, *is_over))
        }
        _ => None,
    };
    scene.events.iter().filter_map(told).collect()
}

impl Scene {
    /// The peer sends `payload` in each of so many ticks, unless `lost` says that the packet is lost.
    fn hear(
        &mut self,
        talker: &mut Talker,
        ticks: u32,
        payload: &[u8],
        lost: impl Fn(u32) -> bool,
    ) {
        for tick in 0..ticks {
            let bytes = talker.audio(payload);
            if !lost(tick) {
                self.receive(talker, &bytes);
            }
            self.tick();
        }
    }

    fn report(&mut self, report: &Report<'_>) {
        let mut bytes = [0; COMPOUND_BYTES_MAX];
        let length = report.write(&mut bytes).expect("room");
        self.receive_at(Port::Rtcp, at(PEER_RTCP), &bytes[..length]);
    }

    /// A report of a peer that knows our packets up to this number.
    fn report_of(&mut self, highest: Option<u32>) {
        let ssrc = self.session.sender.ssrc();
        let block = highest.map(|highest_sequence| ReportBlock {
            ssrc,
            highest_sequence,
            ..ReportBlock::default()
        });
        self.report(&Report { ssrc: 9, sender: None, block, cname: b"x", metrics: None });
    }
}

#[test]
fn a_peer_that_asks_is_told_how_well_it_is_heard() {
    for (rule, asked, told) in [
        (VoipMetricsRule::Asked, true, true),
        (VoipMetricsRule::Asked, false, false),
        (VoipMetricsRule::Always, false, true),
        (VoipMetricsRule::Never, true, false),
    ] {
        let mut scene = scene(rule, asked);
        // 5 in each 100 packets are lost in a row, and one alone.
        let lost = |tick| (10..15).contains(&(tick % 100)) || tick % 100 == 60;
        scene.hear(&mut Talker::new(PEER, 7), 1_500, &SPEAKS, lost);
        let metrics = metrics(&scene);
        assert_eq!(!metrics.is_empty(), told, "{rule:?} {asked}");
        let Some(last) = metrics.last() else { continue };
        assert_eq!(last.ssrc, 7);
        assert!((14..=17).contains(&last.loss_rate), "6 in 100 are 15 in 256: {last:?}");
        assert_eq!((last.burst_density, last.burst_ms), (255, 100), "bursts lose all: {last:?}");
        assert!((1_500..2_000).contains(&last.gap_ms), "{last:?}");
        assert_eq!((last.discard_rate, last.gmin, last.rating), (0, 16, 127), "{last:?}");
        assert!((35..39).contains(&last.mos_lq), "{last:?}");
        assert!((-8..=-4).contains(&last.signal_dbm), "{last:?}");
    }
}

#[test]
fn bursts_are_worse_than_as_many_losses_by_chance() {
    let mos = |lost: fn(u32) -> bool| {
        let mut scene = Scene::new(plan());
        scene.hear(&mut Talker::new(PEER, 7), 2_000, &SPEAKS, lost);
        scene.session.statistics().mos_in.expect("audio came")
    };
    let (spread, bursts) =
        (mos(|tick| tick % 20 == 5), mos(|tick| (100..110).contains(&(tick % 200))));
    assert!(bursts < spread - 0.1, "{bursts} {spread}");
}

#[test]
fn what_the_peer_tells_of_how_it_hears_us_is_kept() {
    let mut scene = Scene::new(plan());
    scene.hear(&mut Talker::new(PEER, 7), 50, &SPEAKS, |_| false);
    let quality = WayQuality {
        mos_lq: Some(3.4),
        mos_cq: Some(3.1),
        rating: Some(66.0),
        burst_ms: 120,
        ..WayQuality::default()
    };
    let ours = scene.session.sender.ssrc();
    let tell = |scene: &mut Scene, ssrc| {
        let metrics = Some(VoipMetrics::of(ssrc, &quality));
        scene.report(&Report { ssrc: 7, sender: None, block: None, cname: b"x", metrics });
        scene.session.statistics().quality.outward
    };
    assert_eq!(tell(&mut scene, ours.wrapping_add(1)), None, "of another stream");
    assert_eq!(tell(&mut scene, ours), Some(quality));
}

#[test]
fn quality_of_a_conversation_needs_the_round_trip() {
    let mut scene = Scene::new(plan());
    scene.hear(&mut Talker::new(PEER, 7), 400, &SPEAKS, |_| false);
    let before = scene.session.statistics().quality.inward;
    assert!(before.mos_lq > Some(4.3));
    assert_eq!((before.rating, before.mos_cq), (None, None));
    let sender_report = scene.sent.iter().rev().find_map(|sent| {
        let mut packets = Compound::new(&sent.bytes).filter(|_| sent.port == Port::Rtcp);
        packets.find_map(|packet| match packet {
            RtcpPacket::SenderReport { info, .. } => Some(info.ntp.middle()),
            _ => None,
        })
    });
    // A second and more lies between our report and what comes of it.
    scene.hear(&mut Talker::new(PEER, 7), 50, &SPEAKS, |_| false);
    let block = ReportBlock {
        ssrc: scene.session.sender.ssrc(),
        last_sender_report: sender_report.expect("one was sent"),
        ..ReportBlock::default()
    };
    scene.report(&Report { ssrc: 9, sender: None, block: Some(block), cname: b"x", metrics: None });
    let after = scene.session.statistics().quality.inward;
    assert!(after.round_trip_ms > Some(900.0), "{after:?}");
    assert!(after.mos_cq < Some(3.0) && after.rating < Some(60.0), "{after:?}");
    assert!(after.mos_lq > Some(4.3), "{after:?}");
}

#[test]
fn a_peer_that_sends_nothing_is_said_to_be_unheard_once_and_again_when_it_is() {
    let mut scene = Scene::new(plan());
    let mut talker = Talker::new(PEER, 7);
    scene.hear(&mut talker, 100, &SPEAKS, |_| false);
    scene.ticks(249);
    assert_eq!(troubles(&scene), []);
    scene.ticks(101);
    scene.hear(&mut talker, 50, &SPEAKS, |_| false);
    let nobody = AudioTrouble::NoAudioIn;
    assert_eq!(troubles(&scene), [(nobody, 5_000, false), (nobody, 7_000, true)]);
    assert_eq!(scene.session.statistics().quality.unheard.no_audio_in_ms, 7_000);
}

#[test]
fn nobody_is_missed_while_held_or_after_the_peer_said_that_it_pauses() {
    let mut scene = Scene::new(plan());
    let mut talker = Talker::new(PEER, 7);
    scene.hear(&mut talker, 50, &SPEAKS, |_| false);
    let held = MediaPlan { direction: crate::sdp::Direction::Inactive, ..plan() };
    scene.session.update(scene.now, &held);
    scene.ticks(400);
    scene.session.update(scene.now, &plan());
    let bytes = talker.packet(13, &[60]);
    scene.receive(&talker, &bytes);
    scene.ticks(400);
    assert_eq!(troubles(&scene), []);
}

#[test]
fn a_peer_whose_reports_know_nothing_of_our_packets_does_not_hear_us() {
    let mut scene = Scene::new(plan());
    let mut talker = Talker::new(PEER, 7);
    scene.hear(&mut talker, 250, &SPEAKS, |_| false);
    for highest in [Some(240), Some(240), Some(240)] {
        scene.report_of(highest);
        scene.hear(&mut talker, 250, &SPEAKS, |_| false);
    }
    assert_eq!(troubles(&scene), []);
    scene.report_of(Some(240));
    scene.hear(&mut talker, 250, &SPEAKS, |_| false);
    scene.report_of(Some(1_200));
    scene.hear(&mut talker, 10, &SPEAKS, |_| false);
    let nobody = AudioTrouble::NoAudioOut;
    assert_eq!(troubles(&scene), [(nobody, 20, false), (nobody, 5_000, true)]);
}

#[test]
fn silence_of_both_sides_is_dead_air_and_of_one_is_none() {
    let mut scene = Scene::new(plan());
    let mut talker = Talker::new(PEER, 7);
    for _ in 0..30 {
        assert_eq!(scene.agent.push_audio(&[0x20; 8_000]), 8_000);
        scene.hear(&mut talker, 50, &HUSHED, |_| false);
    }
    assert_eq!(troubles(&scene), [], "the agent speaks");
    scene.hear(&mut talker, 1_300, &SPEAKS, |_| false);
    assert_eq!(troubles(&scene), [], "the peer speaks");
    scene.hear(&mut talker, 1_100, &HUSHED, |_| false);
    assert_eq!(troubles(&scene), [(AudioTrouble::DeadAir, 20_000, false)]);
    scene.hear(&mut talker, 10, &SPEAKS, |_| false);
    let told = troubles(&scene);
    assert!(told.len() == 2 && told[1].2, "{told:?}");
    let dead_air_ms = scene.session.statistics().quality.unheard.dead_air_ms;
    assert!((21_000..=22_000).contains(&dead_air_ms), "{dead_air_ms}");
}
