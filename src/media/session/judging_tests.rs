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
use std::time::Duration;

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
fn what_our_end_adds_to_the_delay_is_how_long_packets_wait_until_they_are_played() {
    let added = |early_ms: u64| {
        let (mut scene, mut talker) = (Scene::new(plan()), Talker::new(PEER, 7));
        for _ in 0..300 {
            let bytes = talker.audio(&SPEAKS);
            let (at, source) = (scene.now + Duration::from_millis(20 - early_ms), talker.source);
            let datagram = Received { port: Port::Rtp, source, bytes: &bytes };
            scene.session.receive(at, &datagram, &mut scene.out);
            scene.tick();
        }
        let inward = scene.session.statistics().quality.inward;
        assert_eq!(inward.buffer_ms, 20, "needed is little");
        inward.end_delay_ms
    };
    // A packet of 20 ms, two frames that it began with, and the time until the tick.
    let [at_a_tick, before_one] = [0, 15].map(added);
    assert!((57..=63).contains(&at_a_tick), "{at_a_tick}");
    assert!((72..=78).contains(&before_one), "{before_one}");
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
    scene.session.update(scene.now, &held, &mut scene.out);
    scene.ticks(400);
    scene.session.update(scene.now, &plan(), &mut scene.out);
    let bytes = talker.packet(13, &[60]);
    scene.receive(&talker, &bytes);
    scene.ticks(400);
    assert_eq!(troubles(&scene), []);
}

/// The peer speaks for a second, and says then that it pauses. Without RTP it is given up after a minute.
fn paused() -> Scene {
    let rules = MediaRules { inactivity: Some(Duration::from_secs(60)), ..MediaRules::default() };
    let setup = MediaSetup { rules, playout_held: false, ..MediaSetup::new(Some(plan()), 1) };
    let mut scene = Scene::with(setup);
    let mut talker = Talker::new(PEER, 7);
    scene.hear(&mut talker, 50, &SPEAKS, |_| false);
    let bytes = talker.packet(13, &[60]);
    scene.receive(&talker, &bytes);
    scene.tick();
    scene
}

/// How often the peer was said to be gone, and how often to be missed.
fn given_up(scene: &Scene) -> (usize, usize) {
    let missed = |(what, ..): &&(AudioTrouble, u32, bool)| *what == AudioTrouble::NoAudioIn;
    let gone = scene.count(|event| *event == MediaEvent::TimedOut);
    (gone, troubles(scene).iter().filter(missed).count())
}

#[test]
fn who_reports_in_its_pause_is_there_and_gone_once_it_does_so_no_more() {
    let mut scene = paused();
    for round in 1..=20 {
        scene.report_of(Some(round * 250));
        scene.ticks(250);
    }
    assert_eq!(given_up(&scene), (0, 0), "100 s");
    scene.ticks(740);
    assert_eq!(given_up(&scene), (0, 0), "reports may be lost");
    scene.ticks(20);
    assert_eq!(given_up(&scene), (0, 1), "but not all of 15 s");
    scene.ticks(1_980);
    assert_eq!(given_up(&scene), (0, 1));
    scene.ticks(20);
    assert_eq!(given_up(&scene), (1, 1), "a minute after the last");
}

#[test]
fn whose_pause_no_report_vouches_for_is_given_up_as_ever() {
    let mut scene = paused();
    scene.ticks(2_990);
    assert_eq!(given_up(&scene), (0, 0), "it may never report");
    scene.ticks(20);
    assert_eq!(given_up(&scene), (1, 0));
}

#[test]
fn reports_alone_do_not_keep_who_announced_no_pause() {
    let rules = MediaRules { inactivity: Some(Duration::from_secs(60)), ..MediaRules::default() };
    let setup = MediaSetup { rules, playout_held: false, ..MediaSetup::new(Some(plan()), 1) };
    let mut scene = Scene::with(setup);
    scene.hear(&mut Talker::new(PEER, 7), 50, &SPEAKS, |_| false);
    for round in 1..=13 {
        scene.report_of(Some(round * 250));
        scene.ticks(250);
    }
    assert_eq!(given_up(&scene), (1, 1));
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

/// What the report blocks tell of the peer's stream: the last share and the sum of what is lost.
fn told_loss(scene: &Scene) -> (u8, i32) {
    let reports = scene.sent.iter().filter(|sent| sent.port == Port::Rtcp);
    let blocks = reports.flat_map(|sent| Compound::new(&sent.bytes)).filter_map(|packet| {
        let (RtcpPacket::SenderReport { mut blocks, .. }
        | RtcpPacket::ReceiverReport { mut blocks, .. }) = packet
        else {
            return None;
        };
        blocks.next()
    });
    blocks.last().map_or((0, 0), |block| (block.fraction_lost, block.cumulative_lost))
}

#[test]
fn what_a_peer_goes_on_to_send_in_a_hold_is_not_lost() {
    use crate::sdp::Direction;
    for direction in [Direction::Inactive, Direction::SendOnly] {
        // Less and more than a jump of sequence numbers that is believed.
        for ticks in [50, 1_000, 4_000] {
            let mut scene = Scene::new(plan());
            let mut talker = Talker::new(PEER, 7);
            scene.hear(&mut talker, 300, &SPEAKS, |_| false);
            scene.session.update(scene.now, &MediaPlan { direction, ..plan() }, &mut scene.out);
            let heard = scene.loud_frames();
            // Half of it music, one a key, one noise, and one that nobody understands.
            scene.hear(&mut talker, ticks, &SPEAKS, |_| false);
            for (kind, payload) in [(101, &[5, 0x8a, 3, 32][..]), (13, &[60]), (77, &[0; 8])] {
                let bytes = talker.packet(kind, payload);
                scene.receive(&talker, &bytes);
            }
            // Of what is lost in a hold the network is said to have lost it, and nobody missed it.
            scene.hear(&mut talker, 40, &SPEAKS, |tick| tick % 4 == 0);
            assert_eq!(scene.loud_frames(), heard, "nobody hears it");
            scene.session.update(scene.now, &plan(), &mut scene.out);
            scene.hear(&mut talker, 600, &SPEAKS, |_| false);
            let statistics = scene.session.statistics();
            let packets = 300 + u64::from(ticks) + 3 + 30 + 600;
            let figures = (statistics.packets_in, statistics.lost_in, statistics.late_in);
            assert_eq!(figures, (packets, 10, 0), "{direction:?} {ticks}");
            assert_eq!(told_loss(&scene), (0, 10), "{direction:?} {ticks}");
            let inward = statistics.quality.inward;
            // What waited when the hold began is thrown away.
            assert!(inward.loss_percent < 1e-6 && inward.discard_percent < 0.3, "{inward:?}");
            assert_eq!((statistics.concealed, statistics.quality.concealed_ms), (0, 0));
            assert!(statistics.mos_in > Some(4.4), "{:?}", statistics.mos_in);
            assert!(statistics.jitter_in_ms < 1.0, "{}", statistics.jitter_in_ms);
        }
    }
}

#[test]
fn packets_that_keep_a_way_open_are_not_lost_and_those_of_other_streams_begin_nothing() {
    let mut scene = Scene::new(plan());
    let mut talker = Talker::new(PEER, 7);
    let mut other = Talker::new(PEER, 8);
    for _ in 0..20 {
        scene.hear(&mut talker, 50, &SPEAKS, |_| false);
        let bytes = talker.packet(77, &[0; 8]);
        scene.receive(&talker, &bytes);
        let bytes = other.packet(78, &[0; 8]);
        scene.receive(&other, &bytes);
    }
    let statistics = scene.session.statistics();
    assert_eq!((statistics.unexpected, statistics.lost_in, statistics.packets_in), (40, 0, 1_020));
    assert_eq!((statistics.concealed, statistics.discarded_in), (0, 0));
    assert!(statistics.quality.inward.loss_percent < 1e-6, "{statistics:?}");
}

/// A peer talks for so many rounds of 5 s. In each of them the network does `what` for 300 ms.
fn rounds(scene: &mut Scene, what: fn(&mut Scene, &mut Talker)) {
    let mut talker = Talker::new(PEER, 7);
    for _ in 0..6 {
        scene.hear(&mut talker, 235, &SPEAKS, |_| false);
        what(scene, &mut talker);
    }
    scene.hear(&mut talker, 100, &SPEAKS, |_| false);
}

#[test]
fn what_came_in_a_hold_takes_nothing_from_the_share_that_was_lost() {
    let mut scene = Scene::new(plan());
    let mut talker = Talker::new(PEER, 7);
    scene.hear(&mut talker, 300, &SPEAKS, |tick| tick % 10 == 5);
    let before = scene.session.statistics().quality.inward.loss_percent;
    assert!((9.0..11.0).contains(&before), "{before}");
    let held = MediaPlan { direction: crate::sdp::Direction::SendOnly, ..plan() };
    scene.session.update(scene.now, &held, &mut scene.out);
    scene.hear(&mut talker, 3_000, &SPEAKS, |_| false);
    let after = scene.session.statistics().quality.inward.loss_percent;
    assert!((after - before).abs() < 0.1, "{before} {after}");
}

#[test]
fn a_network_that_stops_and_goes_on_harms_as_much_as_one_that_loses_as_much() {
    let lost = |scene: &mut Scene, talker: &mut Talker| scene.hear(talker, 15, &SPEAKS, |_| true);
    let held = |scene: &mut Scene, talker: &mut Talker| {
        let held: Vec<_> = (0..15).map(|_| talker.audio(&SPEAKS)).collect();
        scene.ticks(15);
        held.iter().for_each(|bytes| scene.receive(talker, bytes));
    };
    let [clean, lost, held] = [|_: &mut Scene, _: &mut Talker| (), lost, held].map(|what| {
        let mut scene = scene(VoipMetricsRule::Always, false);
        rounds(&mut scene, what);
        (scene.session.statistics(), metrics(&scene).pop().expect("it is told"))
    });
    let mos = |of: &(MediaStatistics, VoipMetrics)| of.0.mos_in.expect("audio came");
    assert!(mos(&clean) > 4.4);
    assert!(mos(&lost) < 3.9, "{}", mos(&lost));
    assert!((mos(&held) - mos(&lost)).abs() < 0.35, "{} {}", mos(&held), mos(&lost));
    // What never came is loss, and what came too late is discarded: nobody is told of both.
    assert_eq!((lost.0.lost_in, held.0.lost_in), (90, 0));
    assert_eq!((lost.0.late_in, held.0.quality.inward.loss_percent), (0, 0.0));
    let unheard = held.0.late_in + held.0.discarded_in;
    assert!((76..=94).contains(&unheard), "{:?}", held.0);
    assert!((1_500..=1_800).contains(&held.0.quality.concealed_ms), "{:?}", held.0.quality);
    let (lost, held) = (lost.1, held.1);
    assert!(lost.loss_rate >= 12 && lost.discard_rate == 0, "{lost:?}");
    assert!(held.discard_rate >= 10 && held.loss_rate == 0, "{held:?}");
    assert!((250..=400).contains(&held.burst_ms), "{held:?}");
    assert!(held.burst_density > 200 && held.gap_density == 0, "{held:?}");
    assert_eq!(held.mos_lq / 5, lost.mos_lq / 5, "{held:?} {lost:?}");
}

#[test]
fn silence_that_nobody_concealed_is_not_said_to_be() {
    let mut scene = Scene::new(plan());
    let mut talker = Talker::new(PEER, 7);
    scene.hear(&mut talker, 200, &SPEAKS, |_| false);
    // The peer suppresses its silence and says nothing of it; then it hangs up without a word.
    for _ in 0..3 {
        scene.ticks(150);
        talker.timestamp = talker.timestamp.wrapping_add(150 * 160);
        scene.hear(&mut talker, 200, &SPEAKS, |_| false);
    }
    scene.ticks(3_000);
    let statistics = scene.session.statistics();
    assert_eq!((statistics.quality.concealed_ms, statistics.concealed), (0, 0));
    assert!(statistics.mos_in > Some(4.4), "{statistics:?}");
}
