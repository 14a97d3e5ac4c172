//! Encrypted media sessions in virtual time.

use super::tests::LOUD;
use super::tests::PEER;
use super::tests::PEER_RTCP;
use super::tests::STRANGER;
use super::tests::Scene;
use super::tests::Talker;
use super::tests::at;
use super::*;
use crate::rtp::srtp::SrtpReceiver;
use crate::rtp::srtp::SrtpSender;
use crate::sdp::Direction;
use crate::sdp::MediaCrypto;
use crate::types::srtp::SRTP_KEY_BYTES_MAX;
use crate::types::srtp::SrtpKey;
use crate::types::srtp::SrtpSuite;
use std::sync::Arc;

fn key(suite: SrtpSuite, seed: u8) -> SrtpKey {
    SrtpKey::generate(suite, &[seed; SRTP_KEY_BYTES_MAX])
}

/// Our key is made of 1, the peer's of `theirs`.
fn plan(suite: SrtpSuite, theirs: u8) -> MediaPlan {
    let keys = MediaCrypto { send: key(suite, 1), receive: key(suite, theirs) };
    MediaPlan { crypto: Some(Arc::new(keys)), ..MediaPlan::for_test(at(PEER)) }
}

/// The peer: talks with its key, understands with ours.
struct Peer {
    talker: Talker,
    send: SrtpSender,
    receive: SrtpReceiver,
}

impl Peer {
    fn new(suite: SrtpSuite, theirs: u8) -> Self {
        Self {
            talker: Talker::new(PEER, 7),
            send: SrtpSender::new(&key(suite, theirs)).unwrap(),
            receive: SrtpReceiver::new(&key(suite, 1)).unwrap(),
        }
    }

    fn audio(&mut self) -> Vec<u8> {
        let plain = self.talker.audio(&[LOUD; 160]);
        self.send.rtp(&plain).unwrap().to_vec()
    }

    fn talk(&mut self, scene: &mut Scene, ticks: usize) {
        for _ in 0..ticks {
            let bytes = self.audio();
            scene.receive(&self.talker, &bytes);
            scene.tick();
        }
    }

    /// Payloads of what the session sent, decrypted; all of it must authenticate.
    fn understand(&mut self, scene: &mut Scene) -> Vec<Vec<u8>> {
        let mut payloads = Vec::new();
        for sent in scene.sent.drain(..) {
            match sent.port {
                Port::Rtp => {
                    let plain = self.receive.rtp(scene.now, &sent.bytes).expect("authentic RTP");
                    payloads.push(RtpPacket::parse(&plain).unwrap().payload.to_vec());
                }
                Port::Rtcp => {
                    self.receive.rtcp(scene.now, &sent.bytes).expect("authentic RTCP");
                }
            }
        }
        payloads
    }
}

#[test]
fn audio_and_reports_are_encrypted_both_ways() {
    for suite in SrtpSuite::ALL {
        let mut scene = Scene::new(plan(suite, 2));
        let mut peer = Peer::new(suite, 2);
        assert_eq!(scene.agent.push_audio(&[LOUD; 1_600]), 1_600);
        peer.talk(&mut scene, 400);
        assert!(scene.sent.iter().any(|sent| sent.port == Port::Rtcp));
        let in_clear =
            scene.sent.iter().filter(|sent| sent.bytes.windows(9).any(|w| w == [LOUD; 9]));
        assert_eq!(in_clear.count(), 0, "{suite}");
        let payloads = peer.understand(&mut scene);
        assert_eq!(payloads.len(), 400);
        assert_eq!(payloads.iter().filter(|payload| payload.contains(&LOUD)).count(), 10);
        assert!(scene.loud_frames() >= 396, "{suite} {}", scene.loud_frames());
        let statistics = scene.session.statistics();
        assert_eq!(statistics.srtp, Some(suite));
        assert_eq!((statistics.srtp_refused, statistics.srtp_replayed), (0, 0));
        assert_eq!((statistics.packets_in, statistics.octets_in), (400, 64_000));
    }
}

#[test]
fn what_does_not_authenticate_is_counted_and_not_heard() {
    let suite = SrtpSuite::AesCm128HmacSha1_80;
    let mut scene = Scene::new(plan(suite, 2));
    let (mut peer, mut wrong) = (Peer::new(suite, 2), Peer::new(suite, 3));
    let mut plain = Talker::new(PEER, 9);
    wrong.talk(&mut scene, 20);
    let bytes = plain.audio(&[LOUD; 160]);
    scene.receive(&plain, &bytes);
    let mut tampered = peer.audio();
    tampered[40] ^= 1;
    scene.receive(&peer.talker, &tampered);
    scene.tick();
    let statistics = scene.session.statistics();
    assert_eq!((statistics.srtp_refused, statistics.packets_in), (22, 0));
    assert_eq!(
        (scene.loud_frames(), scene.count(|event| *event == MediaEvent::FirstPacket)),
        (0, 0)
    );

    let once = peer.audio();
    for _ in 0..3 {
        scene.receive(&peer.talker, &once);
    }
    let statistics = scene.session.statistics();
    assert_eq!((statistics.srtp_replayed, statistics.packets_in), (2, 1));
}

#[test]
fn reports_that_do_not_authenticate_are_refused() {
    let suite = SrtpSuite::AesCm128HmacSha1_32;
    let mut scene = Scene::new(plan(suite, 2));
    let mut peer = Peer::new(suite, 2);
    peer.talk(&mut scene, 5);
    let report = [0x80, 201, 0, 1, 0, 0, 0, 7];
    scene.receive_at(Port::Rtcp, at(PEER_RTCP), &report);
    assert_eq!(scene.session.statistics().reports_in, 0);
    let protected = peer.send.rtcp(&report).unwrap();
    scene.receive_at(Port::Rtcp, at(PEER_RTCP), &protected);
    scene.receive_at(Port::Rtcp, at(PEER_RTCP), &protected);
    let statistics = scene.session.statistics();
    assert_eq!(
        (statistics.reports_in, statistics.srtp_refused, statistics.srtp_replayed),
        (1, 1, 1)
    );
}

#[test]
fn only_authentic_packets_move_the_source() {
    let suite = SrtpSuite::AesCm128HmacSha1_80;
    let mut scene = Scene::new(plan(suite, 2));
    let mut stranger = Peer::new(suite, 3);
    stranger.talker.source = at(STRANGER);
    stranger.talk(&mut scene, 30);
    assert!(scene.sent.iter().all(|sent| sent.to == at(PEER) || sent.port == Port::Rtcp));
    assert_eq!(
        scene.session.statistics().srtp_refused,
        30,
        "while learning it could have been the peer"
    );
    let mut moved = Peer::new(suite, 2);
    moved.talker.source = at(STRANGER);
    moved.talk(&mut scene, 30);
    assert!(scene.sent.iter().any(|sent| sent.to == at(STRANGER)));
}

#[test]
fn the_roc_survives_hold() {
    let suite = SrtpSuite::AeadAes128Gcm;
    let mut scene = Scene::new(plan(suite, 2));
    let mut peer = Peer::new(suite, 2);
    // The peer's sequence numbers wrap within this.
    peer.talk(&mut scene, 60);
    let held = MediaPlan { direction: Direction::Inactive, ..plan(suite, 2) };
    scene.session.update(scene.now, &held, &mut scene.out);
    peer.talk(&mut scene, 50);
    scene.session.update(scene.now, &plan(suite, 2), &mut scene.out);
    peer.talk(&mut scene, 50);
    let payloads = peer.understand(&mut scene);
    assert_eq!(payloads.len(), 110, "nothing is sent while held");
    assert_eq!(scene.session.statistics().srtp_refused, 0);
    assert!(scene.loud_frames() >= 100);
}

#[test]
fn a_new_key_of_the_peer_takes_over_while_old_packets_are_on_their_way() {
    let suite = SrtpSuite::AesCm128HmacSha1_80;
    let mut scene = Scene::new(plan(suite, 2));
    let mut peer = Peer::new(suite, 2);
    peer.talk(&mut scene, 60);
    let late: Vec<Vec<u8>> = (0..3).map(|_| peer.audio()).collect();
    scene.session.update(scene.now, &plan(suite, 9), &mut scene.out);
    let mut send = SrtpSender::new(&key(suite, 9)).unwrap();
    std::mem::swap(&mut peer.send, &mut send);
    let ssrc = scene.session.sender.ssrc();
    for bytes in late {
        scene.receive(&peer.talker, &bytes);
        scene.tick();
    }
    peer.talk(&mut scene, 50);
    assert_eq!(scene.session.statistics().srtp_refused, 0);
    assert_eq!(scene.session.statistics().packets_in, 113);
    assert_eq!(scene.session.sender.ssrc(), ssrc, "our own key is the same");
    peer.understand(&mut scene);
}

#[test]
fn a_new_key_of_ours_comes_with_a_new_ssrc() {
    let mut scene = Scene::new(plan(SrtpSuite::AesCm128HmacSha1_80, 2));
    scene.ticks(10);
    let ssrc = scene.session.sender.ssrc();
    scene.session.update(scene.now, &plan(SrtpSuite::AeadAes128Gcm, 2), &mut scene.out);
    assert_ne!(scene.session.sender.ssrc(), ssrc);
    scene.sent.clear();
    scene.ticks(10);
    let payloads = Peer::new(SrtpSuite::AeadAes128Gcm, 2).understand(&mut scene);
    assert_eq!(payloads.len(), 10);
}

/// A session whose numbers wrapped: who begins to hear its stream cannot tell.
fn long_lived(suite: SrtpSuite) -> Scene {
    let mut scene = Scene::new(plan(suite, 2));
    for _ in 0..4 {
        scene.tick();
        (0..20_000).for_each(|_| scene.session.sender.leave_hole());
    }
    scene.sent.clear();
    scene.tick();
    let mut newcomer = Peer::new(suite, 2);
    assert!(newcomer.receive.rtp(scene.now, &scene.sent[0].bytes).is_err(), "{suite}");
    scene.sent.clear();
    scene
}

/// What is sent from now on is understood by one who has heard nothing before.
fn is_understood(scene: &mut Scene, suite: SrtpSuite) {
    scene.ticks(10);
    assert_eq!(Peer::new(suite, 2).understand(scene).len(), 10, "{suite}");
}

#[test]
fn another_device_in_the_same_dialog_understands_us_however_long_the_call_is() {
    let elsewhere = "192.0.2.77:6000";
    for suite in SrtpSuite::ALL {
        let mut scene = long_lived(suite);
        let ssrc = scene.session.sender.ssrc();
        let moved = MediaPlan { remote: Some(at(elsewhere)), ..plan(suite, 2) };
        scene.session.update(scene.now, &moved, &mut scene.out);
        assert_eq!(scene.session.sender.ssrc(), ssrc, "the same device, by its key");
        let other = MediaPlan { remote: Some(at(PEER)), ..plan(suite, 9) };
        scene.session.update(scene.now, &other, &mut scene.out);
        assert_ne!(scene.session.sender.ssrc(), ssrc);
        is_understood(&mut scene, suite);
    }
}

#[test]
fn encryption_that_begins_again_protects_no_number_twice() {
    let suite = SrtpSuite::AeadAes128Gcm;
    let mut scene = long_lived(suite);
    let ssrc = scene.session.sender.ssrc();
    scene.session.update(scene.now, &MediaPlan::for_test(at(PEER)), &mut scene.out);
    scene.ticks(5);
    scene.session.update(scene.now, &plan(suite, 2), &mut scene.out);
    assert_ne!(scene.session.sender.ssrc(), ssrc);
    scene.sent.clear();
    is_understood(&mut scene, suite);
}

#[test]
fn an_ssrc_change_of_the_peer_is_followed() {
    let suite = SrtpSuite::AesCm128HmacSha1_80;
    let mut scene = Scene::new(plan(suite, 2));
    let mut peer = Peer::new(suite, 2);
    peer.talk(&mut scene, 50);
    peer.talker = Talker::new(PEER, 8);
    peer.talk(&mut scene, 50);
    assert_eq!(scene.session.statistics().srtp_refused, 0);
    assert!(scene.loud_frames() >= 90, "{}", scene.loud_frames());
}

#[test]
fn encryption_ends_where_the_plan_says_so() {
    let suite = SrtpSuite::AesCm128HmacSha1_80;
    let mut scene = Scene::new(plan(suite, 2));
    scene.ticks(2);
    scene.session.update(scene.now, &MediaPlan::for_test(at(PEER)), &mut scene.out);
    scene.sent.clear();
    let mut talker = Talker::new(PEER, 7);
    scene.talk(&mut talker, 20);
    assert!(scene.loud_frames() >= 16);
    assert_eq!(scene.rtp().len(), 20);
    assert_eq!(scene.session.statistics().srtp, None);
}
