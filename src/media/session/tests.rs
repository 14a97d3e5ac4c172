//! Media sessions in virtual time: two seconds or an hour of a call in a few milliseconds.

use super::*;
use crate::audio::g711;
use crate::audio::keys::KeyEar;
use crate::audio::keys::KeyHeard::Down;
use crate::audio::keys::KeyHeard::Up;
use crate::audio::link::AgentEnd;
use crate::audio::link::LinkEvent;
use crate::audio::link::link;
use crate::audio::tone::Tone;
use crate::audio::tone::share_at;
use crate::rtp::packet::HEADER_BYTES;
use crate::rtp::rtcp::COMPOUND_BYTES_MAX;
use crate::rtp::rtcp::Compound;
use crate::rtp::rtcp::Report;
use crate::rtp::rtcp::RtcpPacket;
use crate::sdp::Direction;
use crate::types::codec::PayloadType;
use crate::types::codec::Ptime;
use std::time::Duration;

pub(super) const PEER: &str = "192.0.2.1:4000";
pub(super) const PEER_RTCP: &str = "192.0.2.1:4001";
pub(super) const STRANGER: &str = "198.51.100.66:7000";
pub(super) const LOUD: u8 = 0x10;

pub(super) fn at(text: &str) -> SocketAddr {
    text.parse().expect("address")
}

pub(super) fn plan() -> MediaPlan {
    MediaPlan::for_test(at(PEER))
}

/// A sender of RTP.
pub(super) struct Talker {
    pub(super) source: SocketAddr,
    pub(super) ssrc: u32,
    pub(super) sequence: u16,
    pub(super) timestamp: u32,
}

impl Talker {
    pub(super) fn new(source: &str, ssrc: u32) -> Self {
        Self { source: at(source), ssrc, sequence: 65_500, timestamp: u32::MAX - 4_000 }
    }

    pub(super) fn packet(&mut self, payload_type: u8, payload: &[u8]) -> Vec<u8> {
        let packet = RtpPacket {
            marker: false,
            payload_type: PayloadType::new(payload_type).expect("payload type"),
            sequence: self.sequence,
            timestamp: self.timestamp,
            ssrc: self.ssrc,
            payload,
        };
        self.sequence = self.sequence.wrapping_add(1);
        let mut bytes = vec![0; HEADER_BYTES + payload.len()];
        packet.write(&mut bytes).expect("room");
        bytes
    }

    pub(super) fn audio(&mut self, payload: &[u8]) -> Vec<u8> {
        let bytes = self.packet(0, payload);
        self.timestamp = self.timestamp.wrapping_add(payload.len() as u32);
        bytes
    }

    /// One packet of a key press, `units` long so far.
    pub(super) fn event(&mut self, event: u8, units: u16, end: bool) -> Vec<u8> {
        let [high, low] = units.to_be_bytes();
        self.packet(101, &[event, u8::from(end) << 7 | 10, high, low])
    }
}

pub(super) struct Sent {
    pub(super) port: Port,
    pub(super) to: SocketAddr,
    pub(super) bytes: Vec<u8>,
}

/// A session with its agent and what it has sent.
pub(super) struct Scene {
    pub(super) session: MediaSession,
    pub(super) agent: AgentEnd,
    pub(super) now: Moment,
    pub(super) out: TickOutput,
    pub(super) sent: Vec<Sent>,
    pub(super) events: Vec<MediaEvent>,
    pub(super) heard: Vec<LinkEvent>,
}

impl Scene {
    pub(super) fn new(plan: MediaPlan) -> Self {
        Self::with(MediaSetup { playout_held: false, ..MediaSetup::new(Some(plan), 1) })
    }

    pub(super) fn with(setup: MediaSetup) -> Self {
        let (end, agent) = link();
        let now = Moment::from_millis(1_000);
        Self {
            session: MediaSession::new(now, setup, end),
            agent,
            now,
            out: TickOutput::new(),
            sent: Vec::new(),
            events: Vec::new(),
            heard: Vec::new(),
        }
    }

    pub(super) fn receive_at(&mut self, port: Port, source: SocketAddr, bytes: &[u8]) {
        self.session.receive(self.now, &Received { port, source, bytes }, &mut self.out);
    }

    pub(super) fn receive(&mut self, talker: &Talker, bytes: &[u8]) {
        self.receive_at(Port::Rtp, talker.source, bytes);
    }

    /// Passes 20 ms and runs the tick at their end.
    pub(super) fn tick(&mut self) {
        self.now += Duration::from_millis(20);
        self.session.tick(self.now, &mut self.out);
        self.perform();
    }

    pub(super) fn perform(&mut self) {
        let copied =
            self.out.transmits().map(|(port, to, bytes)| Sent { port, to, bytes: bytes.to_vec() });
        self.sent.extend(copied);
        self.events.extend(self.out.events());
        self.out.clear();
        self.heard.extend(std::iter::from_fn(|| self.agent.next()));
    }

    pub(super) fn ticks(&mut self, count: usize) {
        for _ in 0..count {
            self.tick();
        }
    }

    pub(super) fn talk(&mut self, talker: &mut Talker, ticks: usize) {
        for _ in 0..ticks {
            let bytes = talker.audio(&[LOUD; 160]);
            self.receive(talker, &bytes);
            self.tick();
        }
    }

    pub(super) fn rtp(&self) -> Vec<RtpPacket<'_>> {
        let rtp = self.sent.iter().filter(|sent| sent.port == Port::Rtp);
        rtp.map(|sent| RtpPacket::parse(&sent.bytes).expect("our own packet")).collect()
    }

    pub(super) fn frames(&self) -> usize {
        self.heard.iter().filter(|event| matches!(event, LinkEvent::Audio(_))).count()
    }

    /// Frames in which the agent heard the peer.
    pub(super) fn loud_frames(&self) -> usize {
        let loud =
            |event: &&LinkEvent| matches!(event, LinkEvent::Audio(frame) if frame.contains(&LOUD));
        self.heard.iter().filter(loud).count()
    }

    pub(super) fn count(&self, wanted: fn(&MediaEvent) -> bool) -> usize {
        self.events.iter().filter(|event| wanted(event)).count()
    }
}

#[test]
fn audio_goes_both_ways() {
    let mut scene = Scene::new(plan());
    let mut talker = Talker::new(PEER, 7);
    assert_eq!(scene.agent.push_audio(&[LOUD; 1_600]), 1_600);
    scene.talk(&mut talker, 100);
    assert_eq!(scene.frames(), 100);
    assert!(scene.loud_frames() >= 96, "{}", scene.loud_frames());
    let loud = scene.rtp().iter().filter(|packet| packet.payload.contains(&LOUD)).count();
    assert_eq!(loud, 10);
    let statistics = scene.session.statistics();
    assert_eq!((statistics.packets_in, statistics.packets_out), (100, 100));
    assert_eq!((statistics.octets_in, statistics.octets_out), (16_000, 16_000));
    assert_eq!((statistics.lost_in, statistics.late_in, statistics.concealed), (0, 0, 0));
    assert_eq!(statistics.played_ms, 200);
    assert!(statistics.mos_in > Some(4.3));
    assert_eq!(scene.count(|event| *event == MediaEvent::FirstPacket), 1);
}

#[test]
fn packets_follow_the_rules_of_a_sender() {
    let mut scene = Scene::new(plan());
    scene.ticks(50);
    let rtp = scene.rtp();
    assert!(rtp.first().is_some_and(|first| first.marker));
    assert!(rtp.iter().skip(1).all(|packet| !packet.marker));
    for pair in rtp.windows(2) {
        assert_eq!(pair[1].sequence, pair[0].sequence.wrapping_add(1));
        assert_eq!(pair[1].timestamp, pair[0].timestamp.wrapping_add(160));
        assert_eq!(pair[1].ssrc, pair[0].ssrc);
    }
    assert!(scene.sent.iter().all(|sent| sent.to == at(PEER) || sent.port == Port::Rtcp));
}

#[test]
fn every_packet_time_carries_the_same_audio() {
    for ms in [10_u8, 20, 30, 40, 60] {
        let ptime = Ptime::from_ms(ms).expect("packet time");
        let mut scene = Scene::new(MediaPlan { ptime, ..plan() });
        scene.ticks(60);
        let samples = usize::from(ms) * 8;
        let rtp = scene.rtp();
        assert_eq!(rtp.len(), 1_200 / usize::from(ms));
        assert!(rtp.iter().all(|packet| packet.payload.len() == samples));
        let steps = rtp.windows(2).map(|pair| pair[1].timestamp.wrapping_sub(pair[0].timestamp));
        assert!(steps.into_iter().all(|step| step as usize == samples));
    }
}

#[test]
fn a_packet_time_that_changes_loses_nothing_and_only_a_long_one_has_room_for_what_waits() {
    let mut scene = Scene::new(plan());
    scene.ticks(5);
    assert!(scene.session.outgoing.is_none());
    for ms in [30_u8, 20, 60, 10] {
        let ptime = Ptime::from_ms(ms).expect("packet time");
        scene.session.update(scene.now, &MediaPlan { ptime, ..plan() }, &mut scene.out);
        assert!(scene.session.outgoing.is_some());
        scene.ticks(5);
    }
    let rtp = scene.rtp();
    assert_eq!(rtp.iter().map(|packet| packet.payload.len()).sum::<usize>(), 25 * 160);
    for pair in rtp.windows(2) {
        let step = pair[1].timestamp.wrapping_sub(pair[0].timestamp);
        assert_eq!(step as usize, pair[0].payload.len());
    }
}

#[test]
fn a_law_reaches_the_agent_as_mu_law_and_goes_back_as_a_law() {
    let a_law = MediaPlan {
        codec: Codec::Pcma,
        send_payload_type: Codec::Pcma.payload_type(),
        receive_payload_type: Codec::Pcma.payload_type(),
        ..plan()
    };
    let mut scene = Scene::new(a_law);
    let mut talker = Talker::new(PEER, 7);
    let mut tone = Tone::new(800, 8_000);
    let mut ours = Tone::new(1_300, 8_000);
    for _ in 0..50 {
        let mut payload = [0; 160];
        g711::encode(Law::A, &tone.frame(), &mut payload);
        let bytes = talker.packet(8, &payload);
        talker.timestamp = talker.timestamp.wrapping_add(160);
        scene.receive(&talker, &bytes);
        g711::encode(Law::Mu, &ours.frame(), &mut payload);
        scene.agent.push_audio(&payload);
        scene.tick();
    }
    let mut linear = [0; 160];
    let Some(LinkEvent::Audio(frame)) =
        scene.heard.iter().rev().find(|event| matches!(event, LinkEvent::Audio(_)))
    else {
        panic!("no audio");
    };
    g711::decode(Law::Mu, frame, &mut linear);
    assert!(share_at(&linear, 800) > 0.99);
    let rtp = scene.rtp();
    let last = rtp.last().expect("sent");
    assert_eq!(last.payload_type.get(), 8);
    g711::decode(Law::A, last.payload, &mut linear);
    assert!(share_at(&linear, 1_300) > 0.99);
}

#[test]
fn nothing_is_sent_or_played_before_the_answer_is_confirmed() {
    let mut scene = Scene::with(MediaSetup::new(Some(plan()), 1));
    scene.agent.push_audio(&[LOUD; 800]);
    scene.ticks(500);
    assert!(scene.sent.is_empty());
    assert_eq!(scene.frames(), 500, "the agent's clock runs meanwhile");
    scene.session.start_playout(scene.now);
    scene.ticks(9);
    assert_eq!(loud(&scene), 0, "the caller is not heard yet");
    assert_eq!(scene.rtp().len(), 9, "but hears that somebody is there");
    let mut talker = Talker::new(PEER, 7);
    scene.talk(&mut talker, 6);
    assert_eq!(loud(&scene), 5, "the greeting is whole");
}

fn loud(scene: &Scene) -> usize {
    scene.rtp().iter().filter(|packet| packet.payload.contains(&LOUD)).count()
}

#[test]
fn the_first_packet_of_the_caller_lets_it_hear_the_line_and_the_confirmation_the_agent() {
    let mut scene = Scene::with(MediaSetup::new(Some(plan()), 1));
    scene.agent.push_audio(&[LOUD; 800]);
    scene.ticks(10);
    let mut talker = Talker::new(PEER, 7);
    scene.talk(&mut talker, 6);
    assert_eq!((scene.rtp().len(), loud(&scene)), (6, 0));
    scene.session.start_playout(scene.now);
    scene.ticks(6);
    assert_eq!(loud(&scene), 5);
}

#[test]
fn a_greeting_waits_no_longer_than_a_moment_for_a_caller_that_sends_nothing() {
    for is_heard in [false, true] {
        let mut scene = Scene::with(MediaSetup::new(Some(plan()), 1));
        scene.agent.push_audio(&[LOUD; 800]);
        let held = GREETING_HELD_MAX.as_millis() as usize / 20;
        let mut talker = Talker::new(PEER, 7);
        if is_heard {
            scene.talk(&mut talker, 1);
        } else {
            scene.session.start_playout(scene.now);
        }
        // A packet is heard with the tick behind it.
        scene.ticks(held - 1 - usize::from(is_heard));
        assert_eq!(loud(&scene), 0, "{is_heard}");
        scene.ticks(7);
        assert_eq!(loud(&scene), 5, "{is_heard}");
    }
}

#[test]
fn the_watchdog_is_silent_on_hold_and_recvonly() {
    let setup = MediaSetup {
        playout_held: false,
        rules: MediaRules { inactivity: Some(Duration::from_secs(10)), ..MediaRules::default() },
        ..MediaSetup::new(Some(plan()), 1)
    };
    for direction in [Direction::Inactive, Direction::ReceiveOnly, Direction::SendOnly] {
        let mut scene = Scene::with(setup.clone());
        let mut talker = Talker::new(PEER, 7);
        scene.talk(&mut talker, 100);
        let before = scene.rtp().len();
        let last = scene.rtp().last().map(|packet| (packet.sequence, packet.timestamp));
        scene.session.update(scene.now, &MediaPlan { direction, ..plan() }, &mut scene.out);
        scene.sent.clear();
        scene.ticks(3_000);
        assert_eq!(before, 100);
        assert_eq!(scene.rtp().is_empty(), !direction.sends());
        assert!(scene.sent.iter().filter(|sent| sent.port == Port::Rtcp).count() > 5);
        assert_eq!(scene.count(|event| *event == MediaEvent::TimedOut), 0);
        assert_eq!(scene.frames(), 3_100);

        scene.sent.clear();
        scene.session.update(scene.now, &plan(), &mut scene.out);
        talker.timestamp = talker.timestamp.wrapping_add(3_000 * 160);
        let loud_before = scene.loud_frames();
        scene.talk(&mut talker, 100);
        assert!(scene.loud_frames() - loud_before >= 95);
        if direction.sends() {
            continue;
        }
        let rtp = scene.rtp();
        let first = rtp.first().expect("resumed");
        let (sequence, timestamp) = last.expect("sent before");
        assert!(first.marker, "a talk-spurt begins");
        assert_eq!(first.sequence, sequence.wrapping_add(1), "numbers count packets");
        assert_eq!(first.timestamp, timestamp.wrapping_add(160 * 3_001), "time went on");
    }
}

#[test]
fn music_on_hold_is_heard_and_an_inactive_peer_is_not() {
    for (direction, hears) in [(Direction::ReceiveOnly, true), (Direction::Inactive, false)] {
        let mut scene = Scene::new(MediaPlan { direction, ..plan() });
        let mut talker = Talker::new(PEER, 7);
        scene.talk(&mut talker, 50);
        assert_eq!(scene.loud_frames() > 40, hears);
    }
}

#[test]
fn silence_of_the_peer_times_out_once_for_each_limit() {
    let setup = MediaSetup {
        playout_held: false,
        rules: MediaRules { inactivity: Some(Duration::from_secs(10)), ..MediaRules::default() },
        ..MediaSetup::new(Some(plan()), 1)
    };
    let mut scene = Scene::with(setup);
    let mut talker = Talker::new(PEER, 7);
    scene.talk(&mut talker, 2_000);
    assert_eq!(scene.count(|event| *event == MediaEvent::TimedOut), 0);
    scene.ticks(499);
    assert_eq!(scene.count(|event| *event == MediaEvent::TimedOut), 0);
    scene.ticks(3);
    assert_eq!(scene.count(|event| *event == MediaEvent::TimedOut), 1);
}

#[test]
fn a_blackout_of_five_seconds_costs_the_agent_no_frame() {
    let mut scene = Scene::new(plan());
    let mut talker = Talker::new(PEER, 7);
    scene.talk(&mut talker, 100);
    for _ in 0..250 {
        talker.audio(&[LOUD; 160]);
        scene.tick();
    }
    scene.talk(&mut talker, 100);
    assert_eq!(scene.frames(), 450);
    let statistics = scene.session.statistics();
    assert_eq!(statistics.lost_in, 250);
    assert!(scene.loud_frames() >= 190, "{}", scene.loud_frames());
    assert!(statistics.jitter_level_ms <= 80, "the delay did not grow");
    assert_eq!(scene.session.statistics().packets_out, 450);
}

#[test]
fn loss_and_disorder_keep_the_clock_and_are_counted() {
    for (percent, seed) in [(1, 1), (5, 2), (20, 3)] {
        let mut random = Random::from_seed(seed);
        let mut scene = Scene::new(plan());
        let mut talker = Talker::new(PEER, 7);
        let mut delayed: Vec<Vec<u8>> = Vec::new();
        let mut dropped = 0;
        for tick in 0..3_000 {
            let bytes = talker.audio(&[LOUD; 160]);
            // The last packet comes, so that every loss is seen.
            if tick < 2_999 && random.below(100) < percent {
                dropped += 1;
            } else if tick < 2_999 && random.below(100) < 3 {
                delayed.push(bytes);
            } else {
                scene.receive(&talker, &bytes);
                for late in delayed.drain(..) {
                    scene.receive(&talker, &late);
                }
            }
            scene.tick();
        }
        let statistics = scene.session.statistics();
        assert_eq!(scene.frames(), 3_000);
        assert_eq!(statistics.lost_in, dropped);
        assert_eq!(statistics.frames_dropped, 0);
        let mos = statistics.mos_in.expect("audio came");
        assert!((1.0..4.4).contains(&mos), "{percent} %: {mos}");
        assert!(statistics.jitter_level_ms <= 100);
    }
}

#[test]
fn who_pauses_as_it_said_has_not_moved() {
    let learned = "198.51.100.7:9";
    for (pauses, stays) in [(true, true), (false, false)] {
        let mut scene = Scene::new(plan());
        let mut peer = Talker::new(learned, 7);
        for _ in 0..10 {
            let packet = peer.audio(&[LOUD; 160]);
            scene.receive(&peer, &packet);
            scene.tick();
        }
        if pauses {
            let noise = peer.packet(13, &[60]);
            scene.receive(&peer, &noise);
        }
        scene.session.update(scene.now, &plan(), &mut scene.out);
        let mut stranger = Talker::new(STRANGER, 8);
        for _ in 0..50 {
            let packet = stranger.audio(&[LOUD; 160]);
            scene.receive(&stranger, &packet);
            scene.tick();
        }
        let source = scene.session.source.locked();
        assert_eq!(source, Some(at(if stays { learned } else { STRANGER })));
    }
}

#[test]
fn a_second_source_at_ten_times_the_rate_changes_nothing_and_gets_nothing() {
    let mut scene = Scene::new(plan());
    let mut talker = Talker::new(PEER, 7);
    let mut stranger = Talker::new(STRANGER, 8);
    for _ in 0..500 {
        for _ in 0..10 {
            let bytes = stranger.audio(&[0x7e; 160]);
            scene.receive(&stranger, &bytes);
        }
        let bytes = talker.audio(&[LOUD; 160]);
        scene.receive(&talker, &bytes);
        scene.tick();
    }
    let statistics = scene.session.statistics();
    assert_eq!((statistics.foreign, statistics.packets_in), (5_000, 500));
    assert!(scene.sent.iter().all(|sent| sent.to.ip() == at(PEER).ip()));
    let stolen =
        |event: &LinkEvent| matches!(event, LinkEvent::Audio(frame) if frame.contains(&0x7e));
    assert!(!scene.heard.iter().any(stolen));
    assert!(scene.loud_frames() >= 495);
}

#[test]
fn a_peer_behind_a_nat_is_learned_and_answered_where_it_sends_from() {
    let mut scene = Scene::new(plan());
    let mut talker = Talker::new(STRANGER, 7);
    scene.talk(&mut talker, 500);
    assert!(scene.loud_frames() > 490);
    let last_rtp = scene.sent.iter().rfind(|sent| sent.port == Port::Rtp).expect("sent");
    assert_eq!(last_rtp.to, at(STRANGER));
    let last_rtcp = scene.sent.iter().rfind(|sent| sent.port == Port::Rtcp).expect("sent");
    assert_eq!(last_rtcp.to, at("198.51.100.66:7001"));
    assert_eq!(scene.session.statistics().foreign, 3);
}

#[test]
fn first_bytes_of_every_kind_do_no_harm() {
    let mut scene = Scene::new(plan());
    let mut talker = Talker::new(PEER, 7);
    let mut random = Random::from_seed(5);
    for first in 0..=u8::MAX {
        let bytes = talker.audio(&[LOUD; 160]);
        scene.receive(&talker, &bytes);
        for length in [0, 1, 2, 11, 12, 13, 28, 172, 1_500] {
            let mut garbage = vec![0; length];
            random.fill(&mut garbage);
            if let Some(byte) = garbage.first_mut() {
                *byte = first;
            }
            scene.receive_at(Port::Rtp, at(STRANGER), &garbage);
            scene.receive_at(Port::Rtcp, at(PEER_RTCP), &garbage);
        }
        scene.tick();
    }
    assert_eq!(scene.session.statistics().packets_in, 256);
    assert!(scene.loud_frames() > 250);
    assert!(scene.session.statistics().malformed > 1_000);
}

#[test]
fn garbage_from_the_peer_itself_never_stops_the_audio() {
    let mut scene = Scene::new(plan());
    let mut talker = Talker::new(PEER, 7);
    let mut random = Random::from_seed(6);
    for _ in 0..2_000 {
        let good = talker.audio(&[LOUD; 160]);
        let mut broken = good.clone();
        for _ in 0..3 {
            let place = random.below(broken.len() as u64) as usize;
            broken[place] = random.next_u32() as u8;
        }
        broken.truncate(random.below(173) as usize);
        scene.receive(&talker, &broken);
        scene.receive(&talker, &good);
        scene.tick();
    }
    assert_eq!(scene.frames(), 2_000);
    assert!(scene.loud_frames() > 1_200, "{}", scene.loud_frames());
}

#[test]
fn a_key_is_heard_once_by_the_agent_and_once_by_the_call() {
    let mut scene = Scene::new(plan());
    let mut talker = Talker::new(PEER, 7);
    scene.talk(&mut talker, 20);
    for step in 1..=5 {
        let bytes = talker.event(5, step * 160, false);
        scene.receive(&talker, &bytes);
        scene.tick();
    }
    for _ in 0..3 {
        let bytes = talker.event(5, 800, true);
        scene.receive(&talker, &bytes);
        scene.tick();
    }
    talker.timestamp = talker.timestamp.wrapping_add(8 * 160);
    scene.talk(&mut talker, 20);
    let digits: Vec<&LinkEvent> =
        scene.heard.iter().filter(|event| matches!(event, LinkEvent::Digit(_))).collect();
    assert_eq!(digits, [&LinkEvent::Digit('5')]);
    let pressed = MediaEvent::Digit { digit: '5', duration_ms: 100 };
    assert_eq!(scene.events.iter().filter(|event| **event == pressed).count(), 1);
    assert_eq!(scene.count(|event| matches!(event, MediaEvent::Digit { .. })), 1);
    let statistics = scene.session.statistics();
    assert_eq!((statistics.lost_in, statistics.digits), (0, 1));
}

#[test]
fn a_key_that_is_down_when_the_session_ends_is_told_to_the_call() {
    let mut scene = Scene::new(plan());
    let mut talker = Talker::new(PEER, 7);
    scene.talk(&mut talker, 20);
    for step in 1..=3 {
        let bytes = talker.event(9, step * 160, false);
        scene.receive(&talker, &bytes);
        scene.tick();
    }
    assert!(scene.heard.contains(&LinkEvent::Digit('9')), "the agent knows when it goes down");
    assert_eq!(scene.count(|event| matches!(event, MediaEvent::Pressed)), 1, "and the call");
    assert_eq!(scene.count(|event| matches!(event, MediaEvent::Digit { .. })), 0);
    scene.session.close(scene.now, &mut scene.out);
    scene.perform();
    let pressed = MediaEvent::Digit { digit: '9', duration_ms: 60 };
    assert_eq!(scene.events.iter().filter(|event| **event == pressed).count(), 1);
}

#[test]
fn a_key_of_ours_takes_the_place_of_audio() {
    let mut scene = Scene::new(plan());
    scene.ticks(5);
    assert!(scene.session.send_digit('#'));
    assert!(!scene.session.send_digit('x'));
    scene.ticks(20);
    let rtp = scene.rtp();
    let events: Vec<_> = rtp.iter().filter(|packet| packet.payload_type.get() == 101).collect();
    assert_eq!(events.len(), 8);
    assert!(events.iter().all(|packet| packet.timestamp == events[0].timestamp));
    assert_eq!(events.iter().filter(|packet| packet.marker).count(), 1);
    assert_eq!(events.iter().filter(|packet| packet.payload[1] & 0x80 != 0).count(), 3);
    for pair in rtp.windows(2) {
        assert_eq!(pair[1].sequence, pair[0].sequence.wrapping_add(1));
    }
    let (first, last) = (rtp.first().expect("sent"), rtp.last().expect("sent"));
    assert_eq!(last.timestamp.wrapping_sub(first.timestamp), 24 * 160);
}

#[test]
fn keys_have_the_payload_numbers_of_the_plan_each_way_and_no_others() {
    for (sends, receives) in [(96, 127), (127, 96), (99, 99), (101, 110)] {
        let kind = PayloadType::new;
        let (dtmf_send, dtmf_receive) = (kind(sends), kind(receives));
        let mut scene = Scene::new(MediaPlan { dtmf_send, dtmf_receive, ..plan() });
        let mut talker = Talker::new(PEER, 7);
        scene.talk(&mut talker, 20);
        // The second comes by a number that is ours to send by, or nobody's.
        let other = if sends == receives { 100 } else { sends };
        for (number, event) in [(receives, 5), (other, 6)] {
            for end in [false, true, true, true] {
                let bytes = talker.packet(number, &[event, u8::from(end) << 7 | 10, 3, 32]);
                scene.receive(&talker, &bytes);
                scene.tick();
            }
            talker.timestamp = talker.timestamp.wrapping_add(4 * 160);
            scene.talk(&mut talker, 20);
        }
        assert!(scene.session.send_digit('7'));
        scene.ticks(20);
        let heard = scene.heard.iter().filter(|event| matches!(event, LinkEvent::Digit(_)));
        let case = format!("{sends} {receives}");
        assert_eq!(heard.collect::<Vec<_>>(), [&LinkEvent::Digit('5')], "{case}");
        let rtp = scene.rtp();
        let sent = rtp.iter().filter(|packet| packet.payload.len() == 4);
        let sent: Vec<_> = sent.map(|packet| packet.payload_type.get()).collect();
        assert_eq!(sent, [sends; 8], "{case}");
    }
}

#[test]
fn a_peer_without_events_hears_the_tones_of_our_keys() {
    for codec in [Codec::Pcmu, Codec::Pcma, Codec::G722, Codec::Opus] {
        let payload_type = codec.payload_type();
        let (send_payload_type, receive_payload_type) = (payload_type, payload_type);
        let plan =
            MediaPlan { codec, send_payload_type, receive_payload_type, dtmf_send: None, ..plan() };
        let mut scene = Scene::new(plan);
        scene.ticks(5);
        for digit in "15#".chars() {
            assert!(scene.session.send_digit(digit));
        }
        assert!(!scene.session.send_digit('x'));
        scene.ticks(60);
        let rtp = scene.rtp();
        assert_eq!(rtp.len(), 65);
        assert!(rtp.iter().all(|packet| packet.payload_type == payload_type));
        if let Some(law) = codec.law() {
            let mut ear = KeyEar::default();
            let mut keys = Vec::new();
            for packet in &rtp {
                let mut linear = [0; 160];
                g711::decode(law, packet.payload, &mut linear);
                ear.push(&linear, |key| keys.push(key));
            }
            let [Down('1'), Up { duration_ms, .. }, Down('5'), Up { .. }, Down('#'), Up { .. }] =
                keys[..]
            else {
                panic!("{codec}: {keys:?}")
            };
            assert!((110..=130).contains(&duration_ms), "{codec}: {duration_ms}");
        } else {
            let loud = rtp.iter().filter(|packet| packet.payload != rtp[0].payload).count();
            assert!(loud >= 18, "{codec}: {loud}");
        }
    }
    // Neither where keys go by signalling, nor where nothing is encoded.
    let rules = MediaRules { keys_signalled: true, ..MediaRules::default() };
    let deaf = MediaPlan { dtmf_send: None, ..plan() };
    let setup = MediaSetup { rules, playout_held: false, ..MediaSetup::new(Some(deaf.clone()), 1) };
    let mut scene = Scene::with(setup);
    scene.session.send_digit('1');
    scene.ticks(20);
    let mut linear = [0; 160];
    for packet in scene.rtp() {
        g711::decode(Law::Mu, packet.payload, &mut linear);
        assert!(share_at(&linear, 697) < 0.3);
    }
    let passed = MediaPlan { codec: Codec::G729, ..deaf };
    assert!(!Scene::new(passed).session.send_digit('1'));
}

#[test]
fn two_sessions_report_to_each_other() {
    let mut one = Scene::new(plan());
    let mut two = Scene::new(MediaPlan::for_test(at("192.0.2.2:5000")));
    let mut random = Random::from_seed(9);
    let mut dropped = 0;
    for _ in 0..3_000 {
        one.tick();
        two.tick();
        for sent in one.sent.drain(..) {
            if sent.port == Port::Rtp && random.below(100) < 10 {
                dropped += 1;
            } else {
                two.now = one.now;
                two.receive_at(sent.port, at("192.0.2.2:5000"), &sent.bytes);
            }
        }
        for sent in two.sent.drain(..) {
            one.receive_at(sent.port, at(PEER), &sent.bytes);
        }
    }
    let statistics = one.session.statistics();
    assert!(statistics.reports_in > 5);
    let lost = statistics.lost_out.expect("reported");
    assert!(lost > 0 && lost <= dropped, "{lost} of {dropped}");
    let (ours, theirs) = (statistics.mos_in.expect("in"), statistics.mos_out.expect("out"));
    assert!(theirs < ours && theirs > 1.0, "{ours} {theirs}");
    assert!(statistics.round_trip_ms.is_some_and(|ms| ms < 50.0));
    let goodbye = |scene: &mut Scene| {
        scene.session.close(scene.now, &mut scene.out);
        scene.perform();
        let last = scene.sent.last().expect("sent").bytes.clone();
        Compound::new(&last).any(|packet| matches!(packet, RtcpPacket::Goodbye { .. }))
    };
    assert!(goodbye(&mut one));
}

#[test]
fn without_rtcp_none_is_sent_not_even_a_goodbye() {
    for rtcp in [true, false] {
        let setup = MediaSetup {
            rules: MediaRules { rtcp, ..MediaRules::default() },
            playout_held: false,
            ..MediaSetup::new(Some(plan()), 1)
        };
        let mut scene = Scene::with(setup);
        scene.talk(&mut Talker::new(PEER, 7), 1_000);
        scene.session.close(scene.now, &mut scene.out);
        scene.perform();
        assert!(scene.rtp().len() > 900);
        assert_eq!(scene.sent.iter().any(|sent| sent.port == Port::Rtcp), rtcp);
    }
}

#[test]
fn reports_of_strangers_are_not_believed() {
    let mut scene = Scene::new(plan());
    scene.ticks(10);
    let mut bytes = [0; COMPOUND_BYTES_MAX];
    let block = crate::rtp::rtcp::ReportBlock {
        ssrc: scene.session.sender.ssrc(),
        cumulative_lost: 999,
        ..Default::default()
    };
    let report = Report { ssrc: 1, sender: None, block: Some(block), cname: b"x", metrics: None };
    let length = report.write(&mut bytes).expect("room");
    scene.receive_at(Port::Rtcp, at(STRANGER), &bytes[..length]);
    assert_eq!(scene.session.statistics().lost_out, None);
    scene.receive_at(Port::Rtcp, at(PEER_RTCP), &bytes[..length]);
    assert_eq!(scene.session.statistics().lost_out, Some(999));
}

#[test]
fn an_agent_that_does_not_read_costs_its_own_frames_only() {
    let mut scene = Scene::new(plan());
    let mut talker = Talker::new(PEER, 7);
    for _ in 0..1_000 {
        let bytes = talker.audio(&[LOUD; 160]);
        scene.receive(&talker, &bytes);
        scene.now += Duration::from_millis(20);
        scene.session.tick(scene.now, &mut scene.out);
        scene.out.clear();
    }
    let statistics = scene.session.statistics();
    assert_eq!(statistics.packets_out, 1_000);
    assert!(statistics.frames_dropped > 900);
}

#[test]
fn another_agent_takes_over_the_link() {
    let mut scene = Scene::new(plan());
    scene.agent.push_audio(&[LOUD; 16_000]);
    scene.ticks(10);
    let (mut end, agent) = link();
    scene.session.attach(&mut end);
    drop(end);
    let mut before = std::mem::replace(&mut scene.agent, agent);
    assert_eq!(before.next(), Some(LinkEvent::Closed));
    scene.sent.clear();
    scene.heard.clear();
    scene.ticks(10);
    assert!(scene.rtp().iter().all(|packet| !packet.payload.contains(&LOUD)));
    assert_eq!(scene.frames(), 10);
}

#[test]
fn ticks_left_out_move_the_time_stamp_and_set_the_marker() {
    let mut scene = Scene::new(plan());
    scene.ticks(5);
    let last = scene.rtp().last().map(|packet| (packet.sequence, packet.timestamp));
    (0..10).for_each(|ticks| scene.session.miss(ticks, &mut scene.out));
    scene.session.skip(10);
    scene.perform();
    scene.sent.clear();
    scene.tick();
    let rtp = scene.rtp();
    let first = rtp.first().expect("sent");
    let (sequence, timestamp) = last.expect("sent");
    assert_eq!(first.sequence, sequence.wrapping_add(1));
    assert_eq!(first.timestamp, timestamp.wrapping_add(11 * 160));
    assert!(first.marker);
    assert_eq!(scene.frames(), 16, "the agent's clock went on");
    assert_eq!(scene.session.statistics().ticks_skipped, 10);
}

#[test]
fn without_a_plan_nothing_happens_until_there_is_one() {
    let mut scene = Scene::with(MediaSetup { playout_held: false, ..MediaSetup::new(None, 1) });
    let mut talker = Talker::new(PEER, 7);
    scene.talk(&mut talker, 50);
    assert!(scene.sent.is_empty());
    assert_eq!((scene.loud_frames(), scene.frames()), (0, 50));
    scene.session.update(scene.now, &plan(), &mut scene.out);
    scene.talk(&mut talker, 50);
    assert_eq!(scene.rtp().len(), 50);
    assert!(scene.loud_frames() > 40);
}

#[test]
fn a_session_stays_small() {
    let bytes = size_of::<MediaSession>();
    assert!(bytes <= 4_640, "{bytes}");
}
