//! Two legs of a codec that only passes, in virtual time: each packet that leaves is asserted.

use super::tests::PEER;
use super::tests::Scene;
use super::tests::Talker;
use super::tests::at;
use super::*;
use crate::audio::bridge::BridgeEnd;
use crate::audio::tape::TapeItem;
use crate::audio::tape::TapeRate;
use crate::audio::tape::tape;
use crate::rtp::dtmf::DtmfEvent;
use crate::rtp::dtmf::Receiver as KeyReceiver;
use crate::sdp::Direction;
use crate::types::codec::PayloadType;
use crate::types::codec::Ptime;

const G729: u8 = 18;

fn plan(ms: u8) -> MediaPlan {
    MediaPlan {
        codec: Codec::G729,
        send_payload_type: PayloadType::new(G729).expect("of RTP"),
        receive_payload_type: PayloadType::new(G729).expect("of RTP"),
        annex_b: true,
        ptime: Ptime::from_ms(ms).expect("a packet time"),
        ..MediaPlan::for_test(at(PEER))
    }
}

struct Legs {
    one: Scene,
    two: Scene,
    talker: Talker,
}

impl Legs {
    fn new(one: MediaPlan, two: MediaPlan) -> Self {
        let mut legs =
            Self { one: Scene::new(one), two: Scene::new(two), talker: Talker::new(PEER, 7) };
        let (end_one, end_two) = BridgeEnd::pair();
        legs.one.session.bridge(Bridged::new(end_one));
        legs.two.session.bridge(Bridged::new(end_two));
        legs
    }

    fn ticks(&mut self, count: usize) {
        for _ in 0..count {
            self.one.tick();
            self.two.tick();
        }
    }

    /// The first peer sends a packet, of which so many ms are over when the next one follows.
    fn say(&mut self, payload: &[u8], ms: u32) {
        let bytes = self.talker.packet(G729, payload);
        self.one.receive(&self.talker, &bytes);
        self.pass(ms);
    }

    fn pass(&mut self, ms: u32) {
        self.talker.timestamp = self.talker.timestamp.wrapping_add(8 * ms);
        self.ticks(ms as usize / 20);
    }

    /// What the second peer got: payload, and steps of time stamp and number since the packet before.
    fn got(&self) -> Vec<(Vec<u8>, u32, u16, bool)> {
        let mut before: Option<(u32, u16)> = None;
        let of_codec = |packet: &RtpPacket<'_>| packet.payload_type.get() == G729;
        let packets = self.two.rtp().into_iter().filter(of_codec);
        packets
            .map(|packet| {
                let (stamp, number) = before.unwrap_or((packet.timestamp, packet.sequence));
                before = Some((packet.timestamp, packet.sequence));
                (
                    packet.payload.to_vec(),
                    packet.timestamp.wrapping_sub(stamp),
                    packet.sequence.wrapping_sub(number),
                    packet.marker,
                )
            })
            .collect()
    }
}

/// Payloads of 20 ms, of which no two are alike.
fn speech(count: u8) -> Vec<Vec<u8>> {
    (1..=count).map(|n| (0..20).map(|at| n.wrapping_mul(37).wrapping_add(at)).collect()).collect()
}

#[test]
fn frames_go_on_untouched_under_ssrc_number_and_time_of_our_own() {
    let mut legs = Legs::new(plan(20), plan(20));
    let said = speech(50);
    for payload in &said {
        legs.say(payload, 20);
    }
    legs.ticks(5);
    let got = legs.got();
    assert_eq!(got.iter().map(|packet| packet.0.clone()).collect::<Vec<_>>(), said);
    assert!(got[0].3 && got.iter().skip(1).all(|packet| !packet.3), "a marker on the first alone");
    assert!(got.iter().skip(1).all(|packet| (packet.1, packet.2) == (160, 1)));
    let rtp = legs.two.rtp();
    assert!(rtp.iter().all(|packet| packet.ssrc != legs.talker.ssrc && packet.ssrc == rtp[0].ssrc));
    let statistics = legs.one.session.statistics();
    assert_eq!((statistics.packets_in, statistics.lost_in, statistics.concealed), (50, 0, 0));
    assert!(statistics.mos_in.is_some_and(|mos| (4.05..4.15).contains(&mos)), "{statistics:?}");
    // The first session has nothing to say to its peer: it says nothing, and its agent hears silence.
    assert!(legs.one.rtp().is_empty());
    assert_eq!(legs.one.loud_frames(), 0);
    assert!(legs.one.frames() > 50);
}

#[test]
fn each_leg_has_its_own_packet_time() {
    let said: Vec<u8> = speech(30).concat();
    for (heard_ms, sent_ms) in [(20, 10), (20, 60), (10, 20), (60, 20), (40, 30)] {
        let mut legs = Legs::new(plan(20), plan(sent_ms));
        for payload in said.chunks(heard_ms) {
            let bytes = legs.talker.packet(G729, payload);
            legs.one.receive(&legs.talker, &bytes);
            legs.talker.timestamp = legs.talker.timestamp.wrapping_add(8 * heard_ms as u32);
            let due = legs.talker.timestamp.wrapping_sub(u32::MAX - 4_000) / 160;
            while (legs.two.frames() as u32) < due {
                legs.ticks(1);
            }
        }
        legs.ticks(8);
        let got = legs.got();
        let length = usize::from(sent_ms);
        assert_eq!(got.iter().flat_map(|packet| packet.0.clone()).collect::<Vec<_>>(), said);
        assert!(got.iter().all(|packet| packet.0.len() == length), "{heard_ms} to {sent_ms}");
        let steps = got.iter().skip(1).map(|packet| (packet.1, packet.2));
        assert!(steps.into_iter().all(|step| step == (8 * u32::from(sent_ms), 1)));
    }
}

#[test]
fn what_was_lost_is_missing_for_the_other_peer_too() {
    let mut legs = Legs::new(plan(20), plan(20));
    let said = speech(20);
    for (at, payload) in said.iter().enumerate() {
        if at == 10 {
            legs.talker.sequence = legs.talker.sequence.wrapping_add(1);
            legs.pass(20);
        } else {
            legs.say(payload, 20);
        }
    }
    legs.ticks(5);
    let got = legs.got();
    assert_eq!(got.len(), 19);
    assert_eq!((got[10].0.clone(), got[10].1, got[10].2), (said[11].clone(), 320, 2));
    assert!(!got[10].3, "no pause, so no marker");
    assert_eq!(legs.one.session.statistics().lost_in, 1);
}

#[test]
fn a_pause_is_one_and_begins_with_the_noise_that_the_peer_describes() {
    for annex_b in [true, false] {
        let mut legs = Legs::new(plan(20), MediaPlan { annex_b, ..plan(20) });
        let said = speech(10);
        for payload in said.iter().take(5) {
            legs.say(payload, 20);
        }
        let ending: Vec<u8> = [&said[5][..10], &[0xaa, 0xbb]].concat();
        legs.say(&ending, 20);
        legs.pass(600);
        for payload in said.iter().skip(6) {
            legs.say(payload, 20);
        }
        legs.ticks(5);
        let got = legs.got();
        let last = if annex_b { ending } else { said[5][..10].to_vec() };
        assert_eq!(got[5].0, last);
        assert_eq!(
            (got[6].0.clone(), got[6].1, got[6].2),
            (said[6].clone(), 620 * 8 + 160 - 160, 1)
        );
        assert!(got[6].3, "speech begins again");
        assert_eq!(got.iter().filter(|packet| packet.3).count(), 2);
        let statistics = legs.one.session.statistics();
        assert_eq!((statistics.lost_in, statistics.concealed), (0, 0), "a pause is no loss");
    }
}

#[test]
fn keys_pass_as_events_and_sound_goes_on_after_them() {
    let mut legs = Legs::new(plan(20), plan(20));
    let said = speech(30);
    for payload in said.iter().take(10) {
        legs.say(payload, 20);
    }
    for units in 1..=5_u16 {
        let bytes = legs.talker.event(5, units * 160, false);
        legs.one.receive(&legs.talker, &bytes);
        legs.ticks(1);
    }
    for _ in 0..3 {
        let bytes = legs.talker.event(5, 960, true);
        legs.one.receive(&legs.talker, &bytes);
    }
    legs.pass(120);
    for payload in said.iter().skip(16) {
        legs.say(payload, 20);
    }
    legs.ticks(10);
    let mut receiver = KeyReceiver::new(8_000);
    let mut keys = Vec::new();
    for packet in legs.two.rtp() {
        if packet.payload_type.get() == 101 {
            receiver.receive(legs.two.now, &packet, |event| keys.push(event));
        }
    }
    assert!(matches!(keys.as_slice(), [.., DtmfEvent::Ended { digit: '5', .. }]), "{keys:?}");
    let got = legs.got();
    assert_eq!(got.last().map(|packet| packet.0.clone()), said.last().cloned());
    // Two waited in the jitter buffer when the key came: nothing is heard beside it, as with other codecs.
    assert_eq!(got.iter().filter(|packet| said.contains(&packet.0)).count(), 22);
}

#[test]
fn nobody_hears_it_but_a_leg_of_the_same_codec() {
    let pcmu = MediaPlan::for_test(at(PEER));
    let mut legs = Legs::new(plan(20), pcmu.clone());
    let (into, mut taped) = tape(TapeRate::Narrow);
    legs.one.session.record(Box::new(into));
    for payload in &speech(50) {
        legs.say(payload, 20);
    }
    let rtp = legs.two.rtp();
    assert!(rtp.len() >= 50 && rtp.iter().all(|packet| packet.payload_type.get() == 0));
    let loud = |byte: &u8| crate::audio::g711::ulaw_decode(*byte).abs() > 100;
    assert!(!rtp.iter().any(|packet| packet.payload.iter().any(loud)));
    // And a leg of it says nothing that was not said in it.
    assert!(legs.one.rtp().is_empty());
    let sounds = std::iter::from_fn(|| taped.next_item());
    assert!(!sounds.into_iter().any(|item| matches!(item, TapeItem::Sound(_))));
}

#[test]
fn a_hold_stops_it_and_a_change_of_codec_ends_it() {
    let mut legs = Legs::new(plan(20), plan(20));
    let said = speech(60);
    for payload in said.iter().take(20) {
        legs.say(payload, 20);
    }
    let held = MediaPlan { direction: Direction::Inactive, ..plan(20) };
    let now = legs.two.now;
    legs.two.session.update(now, &held, &mut legs.two.out);
    let before = legs.two.rtp().len();
    for payload in said.iter().skip(20).take(10) {
        legs.say(payload, 20);
    }
    assert_eq!(legs.two.rtp().len(), before, "nothing is sent to who is held");
    legs.two.session.update(legs.two.now, &plan(20), &mut legs.two.out);
    for payload in said.iter().skip(30).take(10) {
        legs.say(payload, 20);
    }
    let got = legs.got();
    let again = got.iter().find(|packet| packet.3 && packet.1 > 160).expect("after the hold");
    assert_eq!((again.1, again.2), (11 * 160, 1), "time went on, and no number is missing");
    // Both legs come to G.711: what is said is heard again.
    let pcmu = MediaPlan::for_test(at(PEER));
    legs.one.session.update(legs.one.now, &pcmu, &mut legs.one.out);
    legs.two.session.update(legs.two.now, &pcmu, &mut legs.two.out);
    for _ in 0..20 {
        let bytes = legs.talker.audio(&[super::tests::LOUD; 160]);
        legs.one.receive(&legs.talker, &bytes);
        legs.ticks(1);
    }
    let rtp = legs.two.rtp();
    let loud = rtp.iter().filter(|packet| packet.payload.contains(&super::tests::LOUD)).count();
    assert!(loud >= 15, "{loud}");
    let ssrc = rtp.first().map(|packet| packet.ssrc);
    assert!(rtp.iter().all(|packet| Some(packet.ssrc) == ssrc), "the clock is the same");
}

#[test]
fn what_a_peer_says_in_it_before_it_knows_of_another_codec_goes_on() {
    let mut legs = Legs::new(plan(20), plan(20));
    let said = speech(20);
    for payload in said.iter().take(10) {
        legs.say(payload, 20);
    }
    let pcmu = MediaPlan::for_test(at(PEER));
    legs.one.session.update(legs.one.now, &pcmu, &mut legs.one.out);
    for payload in said.iter().skip(10) {
        legs.say(payload, 20);
    }
    legs.ticks(5);
    let got: Vec<_> = legs.got().into_iter().map(|packet| packet.0).collect();
    assert_eq!(got, said);
    let statistics = legs.one.session.statistics();
    assert_eq!((statistics.unexpected, statistics.lost_in), (0, 0));
}

#[test]
fn rubbish_under_its_payload_type_is_not_passed_on() {
    let mut legs = Legs::new(plan(20), plan(20));
    for payload in &speech(10) {
        legs.say(payload, 20);
    }
    for length in [1, 7, 15, 21, 131, 600] {
        legs.say(&vec![9; length], 20);
    }
    legs.ticks(10);
    let got = legs.got();
    assert!(got.iter().all(|packet| packet.0.len() == 20), "{got:?}");
    assert_eq!(got.len(), 10);
    assert_eq!(legs.one.session.statistics().discarded_in, 6);
}
