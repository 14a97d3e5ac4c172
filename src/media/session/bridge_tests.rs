//! Two bridged media sessions in virtual time.

use super::tests::LOUD;
use super::tests::PEER;
use super::tests::Scene;
use super::tests::Talker;
use super::tests::at;
use super::*;
use crate::audio::bridge::BridgeEnd;
use crate::audio::bridge::Waiting;
use crate::audio::g711;
use crate::audio::link::LinkEvent;
use crate::audio::ringback::RingbackForm;
use crate::audio::tone::share_at;
use crate::rtp::dtmf::DtmfEvent;
use crate::rtp::dtmf::Receiver as KeyReceiver;
use crate::sdp::Direction;

fn plan(codec: Codec) -> MediaPlan {
    MediaPlan {
        codec,
        send_payload_type: codec.payload_type(),
        receive_payload_type: codec.payload_type(),
        ..MediaPlan::for_test(at(PEER))
    }
}

/// Two legs. The second ticks 10 ms after the first.
struct Legs {
    one: Scene,
    two: Scene,
}

impl Legs {
    fn new(one: Codec, two: Codec) -> Self {
        Self { one: Scene::new(plan(one)), two: Scene::new(plan(two)) }
    }

    fn bridged(one: Codec, two: Codec) -> Self {
        let mut legs = Self::new(one, two);
        let (end_one, end_two) = BridgeEnd::pair();
        assert!(legs.one.session.bridge(Bridged::new(end_one)).is_none());
        assert!(legs.two.session.bridge(Bridged::new(end_two)).is_none());
        legs
    }

    fn tick(&mut self) {
        self.one.tick();
        self.two.tick();
    }

    /// The first peer says these frames, one a tick; then there is silence for a while.
    fn say(&mut self, talker: &mut Talker, payload_type: u8, frames: &[[u8; 160]]) {
        for frame in frames {
            let bytes = talker.packet(payload_type, frame);
            talker.timestamp = talker.timestamp.wrapping_add(160);
            self.one.receive(talker, &bytes);
            self.tick();
        }
        for _ in 0..10 {
            self.tick();
        }
    }
}

/// Frames that hold each byte there is, of which no two are alike.
fn every_byte() -> Vec<[u8; 160]> {
    (0..40_u8)
        .map(|n| std::array::from_fn(|at| (at as u8).wrapping_mul(3).wrapping_add(n)))
        .collect()
}

fn payloads(scene: &Scene) -> Vec<Vec<u8>> {
    scene.rtp().iter().map(|packet| packet.payload.to_vec()).collect()
}

#[test]
fn legs_of_the_same_codec_pass_audio_on_untouched() {
    for (codec, payload_type) in [(Codec::Pcmu, 0), (Codec::Pcma, 8)] {
        let mut legs = Legs::bridged(codec, codec);
        let frames = every_byte();
        legs.say(&mut Talker::new(PEER, 7), payload_type, &frames);
        let sent = payloads(&legs.two);
        let first = sent.iter().position(|payload| payload[..] == frames[0]).expect("the first");
        for (at, frame) in frames.iter().enumerate() {
            assert_eq!(sent[first + at], frame, "{codec} frame {at}");
        }
        assert_eq!(legs.one.loud_frames(), 0, "the agent hears nothing of it");
    }
}

#[test]
fn legs_of_different_codecs_understand_each_other() {
    let mut legs = Legs::bridged(Codec::Pcma, Codec::Pcmu);
    let mut frame = [0x33; 160];
    legs.say(&mut Talker::new(PEER, 7), 8, &[frame; 20]);
    g711::to_ulaw(Law::A, &mut frame);
    let heard = payloads(&legs.two).iter().filter(|payload| payload[..] == frame).count();
    assert_eq!(heard, 20);
}

#[test]
fn audio_reaches_the_other_peer_within_two_ticks_of_leaving_the_jitter_buffer() {
    let mut talker = Talker::new(PEER, 7);
    let ticks_until_loud = |scenes: &mut dyn FnMut(&mut Talker) -> bool, talker: &mut Talker| {
        (1..50).find(|_| scenes(talker)).expect("it is heard")
    };
    // To an agent: the delay of the jitter buffer alone.
    let mut alone = Scene::new(plan(Codec::Pcmu));
    let to_agent = ticks_until_loud(
        &mut |talker| {
            alone.talk(talker, 1);
            alone.loud_frames() > 0
        },
        &mut talker,
    );
    let mut legs = Legs::bridged(Codec::Pcmu, Codec::Pcmu);
    let mut talker = Talker::new(PEER, 7);
    let to_peer = ticks_until_loud(
        &mut |talker| {
            legs.one.talk(talker, 1);
            legs.two.tick();
            legs.two.rtp().iter().any(|packet| packet.payload.contains(&LOUD))
        },
        &mut talker,
    );
    assert!(to_peer <= to_agent + 1, "{to_peer} after {to_agent}");
    // The other way round each tick of the second leg comes first.
    let mut legs = Legs::bridged(Codec::Pcmu, Codec::Pcmu);
    let mut talker = Talker::new(PEER, 7);
    let to_peer = ticks_until_loud(
        &mut |talker| {
            legs.two.tick();
            legs.one.talk(talker, 1);
            legs.two.rtp().iter().any(|packet| packet.payload.contains(&LOUD))
        },
        &mut talker,
    );
    assert!(to_peer <= to_agent + 2, "{to_peer} after {to_agent}");
}

#[test]
fn a_leg_that_comes_late_leaves_no_lasting_delay() {
    let mut legs = Legs::bridged(Codec::Pcmu, Codec::Pcmu);
    let mut talker = Talker::new(PEER, 7);
    for _ in 0..20 {
        legs.one.talk(&mut talker, 1);
        legs.two.tick();
    }
    // The second leg's thread stands still, then makes up for three ticks.
    legs.one.talk(&mut talker, 6);
    legs.two.ticks(3);
    for level in 0..10 {
        let bytes = talker.audio(&[level; 160]);
        legs.one.receive(&talker, &bytes);
        legs.tick();
    }
    let sent = payloads(&legs.two);
    let last = sent.last().map(|payload| payload[0]);
    // 40 ms wait in the jitter buffer, and at most one frame in the bridge.
    assert!(last.is_some_and(|level| (6..=8).contains(&level)), "{last:?}");
}

#[test]
fn a_lost_packet_is_concealed_and_a_silent_peer_is_comfort_noise() {
    let mut legs = Legs::bridged(Codec::Pcmu, Codec::Pcmu);
    let mut talker = Talker::new(PEER, 7);
    for n in 0..30 {
        let bytes = talker.audio(&[LOUD; 160]);
        if n != 15 {
            legs.one.receive(&talker, &bytes);
        }
        legs.tick();
    }
    assert_eq!(legs.one.session.statistics().concealed, 1);
    let sent = payloads(&legs.two);
    let loud = sent.iter().filter(|payload| payload[..] == [LOUD; 160]).count();
    let falling = sent.iter().filter(|payload| payload[0] == LOUD && payload[159] != LOUD).count();
    assert_eq!(falling, 1, "{loud} loud");
    legs.two.sent.clear();
    for _ in 0..50 {
        legs.tick();
    }
    let quiet = payloads(&legs.two);
    assert_eq!(quiet.len(), 50, "packets go on");
    let noise = |payload: &Vec<u8>| payload.iter().all(|byte| g711::ulaw_decode(*byte).abs() < 64);
    assert!(quiet.iter().skip(5).all(noise));
    assert!(quiet.iter().skip(5).any(|payload| payload[..] != SILENCE), "not digital silence");
}

/// Keys that the packets of a leg tell.
fn keys(scene: &Scene) -> Vec<DtmfEvent> {
    let mut receiver = KeyReceiver::new(8_000);
    let mut events = Vec::new();
    for packet in scene.rtp() {
        if packet.payload_type.get() == 101 {
            receiver.receive(scene.now, &packet, |event| events.push(event));
        }
    }
    events
}

#[test]
fn keys_are_passed_on_as_long_as_they_were_pressed() {
    for units in [400_u16, 804, 1_600, 16_001] {
        let mut legs = Legs::bridged(Codec::Pcmu, Codec::Pcma);
        let mut talker = Talker::new(PEER, 7);
        legs.one.talk(&mut talker, 10);
        legs.two.ticks(10);
        let mut down = 160;
        while down < units {
            let bytes = talker.event(5, down, false);
            legs.one.receive(&talker, &bytes);
            legs.tick();
            down += 160;
        }
        for _ in 0..3 {
            let bytes = talker.event(5, units, true);
            legs.one.receive(&talker, &bytes);
            legs.tick();
        }
        talker.timestamp = talker.timestamp.wrapping_add(u32::from(units));
        for _ in 0..10 {
            legs.one.talk(&mut talker, 1);
            legs.two.tick();
        }
        let duration_ms = u32::from(units) / 8;
        let ended = DtmfEvent::Ended { digit: '5', duration_ms, units: u32::from(units) };
        assert_eq!(keys(&legs.two), [DtmfEvent::Started('5'), ended]);
        let digits = |event: &&LinkEvent| matches!(event, LinkEvent::Digit(_));
        assert_eq!(legs.one.heard.iter().filter(digits).count(), 0, "the agent is not told");
        let told = legs.one.events.contains(&MediaEvent::Digit { digit: '5', duration_ms });
        assert!(told, "the call is");
        assert_eq!(legs.two.session.statistics().digits, 0);
    }
}

#[test]
fn a_peer_without_events_hears_the_tone_of_the_key() {
    let mut legs = Legs::bridged(Codec::Pcmu, Codec::Pcmu);
    legs.two.session.update(
        legs.two.now,
        &MediaPlan { dtmf_send: None, ..plan(Codec::Pcmu) },
        &mut legs.two.out,
    );
    let mut talker = Talker::new(PEER, 7);
    for down in 1..=10 {
        let bytes = talker.event(9, down * 160, down == 10);
        legs.one.receive(&talker, &bytes);
        legs.tick();
    }
    for _ in 0..10 {
        legs.tick();
    }
    let rtp = legs.two.rtp();
    let with_tone = rtp.iter().filter(|packet| {
        let mut linear = [0; 160];
        g711::decode(Law::Mu, packet.payload, &mut linear);
        share_at(&linear, 852) > 0.3 && share_at(&linear, 1_477) > 0.3
    });
    assert_eq!(with_tone.count(), 10, "as long as it was pressed");
    assert!(keys(&legs.two).is_empty());
}

#[test]
fn keys_that_a_network_held_back_and_lets_go_at_once_all_reach_the_other_peer() {
    // More of them than a bridge holds, and beside a thread that stands still.
    for (digits, stands_still) in [(3, 0), (12, 0), (3, 12), (12, 12)] {
        let mut legs = Legs::bridged(Codec::Pcmu, Codec::Pcma);
        let mut talker = Talker::new(PEER, 7);
        legs.one.talk(&mut talker, 10);
        legs.two.ticks(10);
        legs.one.talk(&mut talker, stands_still);
        for digit in 0..digits {
            for (units, end) in [(160, false), (480, true), (480, true), (480, true)] {
                let bytes = talker.event(digit, units, end);
                legs.one.receive(&talker, &bytes);
            }
            talker.timestamp = talker.timestamp.wrapping_add(800);
        }
        for _ in 0..80 {
            legs.one.talk(&mut talker, 1);
            legs.two.tick();
        }
        let pressed = |digit: u8| {
            let digit = char::from(b"0123456789*#"[usize::from(digit)]);
            [DtmfEvent::Started(digit), DtmfEvent::Ended { digit, duration_ms: 60, units: 480 }]
        };
        let expected: Vec<_> = (0..digits).flat_map(pressed).collect();
        assert_eq!(keys(&legs.two), expected, "{digits} {stands_still}");
    }
}

#[test]
fn a_held_leg_neither_hears_nor_is_heard() {
    let mut legs = Legs::bridged(Codec::Pcmu, Codec::Pcmu);
    let mut talker = Talker::new(PEER, 7);
    legs.say(&mut talker, 0, &[[LOUD; 160]; 20]);
    // The first leg's peer holds: what still comes of it is not for the other.
    let held = MediaPlan { direction: Direction::Inactive, ..plan(Codec::Pcmu) };
    legs.one.session.update(legs.one.now, &held, &mut legs.one.out);
    legs.one.sent.clear();
    legs.two.sent.clear();
    legs.say(&mut talker, 0, &[[LOUD; 160]; 20]);
    assert!(legs.one.rtp().is_empty());
    assert_eq!(legs.two.rtp().len(), 30, "the other hears comfort noise");
    assert!(legs.two.rtp().iter().all(|packet| !packet.payload.contains(&LOUD)));
    // It comes back, and nothing old is heard.
    legs.one.session.update(legs.one.now, &plan(Codec::Pcmu), &mut legs.one.out);
    legs.say(&mut talker, 0, &[[0x33; 160]; 20]);
    assert!(legs.two.rtp().iter().all(|packet| !packet.payload.contains(&LOUD)));
    let heard = payloads(&legs.two).iter().filter(|payload| payload[..] == [0x33; 160]).count();
    assert!(heard >= 16, "{heard}");

    // The other one is held: what it was told meanwhile is not told afterwards.
    legs.two.session.update(legs.two.now, &held, &mut legs.two.out);
    legs.two.sent.clear();
    legs.say(&mut talker, 0, &[[LOUD; 160]; 20]);
    assert!(legs.two.rtp().is_empty());
    legs.two.session.update(legs.two.now, &plan(Codec::Pcmu), &mut legs.two.out);
    legs.say(&mut talker, 0, &[[0x44; 160]; 20]);
    assert!(legs.two.rtp().iter().all(|packet| !packet.payload.contains(&LOUD)));
    assert_eq!(payloads(&legs.two).iter().filter(|payload| payload[..] == [0x44; 160]).count(), 20);
}

#[test]
fn keys_pressed_while_the_other_leg_holds_are_not_told_when_it_is_back() {
    let mut legs = Legs::bridged(Codec::Pcmu, Codec::Pcmu);
    let mut talker = Talker::new(PEER, 7);
    legs.say(&mut talker, 0, &[[LOUD; 160]; 10]);
    let mut press = |legs: &mut Legs, digit: u8, ticks: std::ops::RangeInclusive<u16>, up: bool| {
        let last = *ticks.end();
        for tick in ticks {
            let bytes = talker.event(digit, tick * 160, up && tick == last);
            legs.one.receive(&talker, &bytes);
            legs.tick();
        }
        if up {
            talker.timestamp = talker.timestamp.wrapping_add(u32::from(last) * 160 + 800);
        }
    };
    let held = MediaPlan { direction: Direction::Inactive, ..plan(Codec::Pcmu) };
    legs.two.session.update(legs.two.now, &held, &mut legs.two.out);
    press(&mut legs, 1, 1..=5, true);
    press(&mut legs, 2, 1..=5, true);
    press(&mut legs, 3, 1..=5, false);
    // The third is still down when the leg is back.
    legs.two.session.update(legs.two.now, &plan(Codec::Pcmu), &mut legs.two.out);
    press(&mut legs, 3, 6..=10, true);
    press(&mut legs, 4, 1..=5, true);
    for _ in 0..20 {
        legs.tick();
    }
    let ended = DtmfEvent::Ended { digit: '4', duration_ms: 100, units: 800 };
    assert_eq!(keys(&legs.two), [DtmfEvent::Started('4'), ended]);
}

#[test]
fn a_change_of_ssrc_is_followed() {
    let mut legs = Legs::bridged(Codec::Pcmu, Codec::Pcmu);
    legs.say(&mut Talker::new(PEER, 7), 0, &[[0x33; 160]; 20]);
    legs.say(&mut Talker::new(PEER, 8), 0, &[[0x44; 160]; 20]);
    let heard = |level: u8| {
        payloads(&legs.two).iter().filter(|payload| payload[..] == [level; 160]).count()
    };
    assert_eq!(heard(0x33), 20);
    assert!(heard(0x44) >= 17, "{}", heard(0x44));
    let rtp = legs.two.rtp();
    assert!(rtp.windows(2).all(|pair| pair[0].ssrc == pair[1].ssrc), "ours stays");
    let next = |pair: &[RtpPacket<'_>]| {
        pair[1].sequence == pair[0].sequence.wrapping_add(1)
            && pair[1].timestamp == pair[0].timestamp.wrapping_add(160)
    };
    assert!(rtp.windows(2).all(next));
}

/// What its agent was told but audio.
fn told(leg: &Scene) -> Vec<LinkEvent> {
    let events = leg.heard.iter().filter(|event| !matches!(event, LinkEvent::Audio(_)));
    events.cloned().collect()
}

#[test]
fn the_agent_is_silent_while_bridged_and_its_first_words_are_heard_afterwards() {
    let mut legs = Legs::bridged(Codec::Pcmu, Codec::Pcmu);
    assert_eq!(legs.one.agent.push_audio(&[LOUD; 8_000]), 8_000);
    assert!(legs.one.agent.push_mark(4));
    legs.one.agent.finish();
    for _ in 0..20 {
        legs.tick();
    }
    assert!(legs.one.rtp().iter().all(|packet| !packet.payload.contains(&LOUD)));
    assert_eq!(legs.one.frames(), 20, "its clock goes on");
    assert_eq!(told(&legs.one), []);
    assert_eq!(legs.one.agent.queued_ms(), 1_000);

    assert!(legs.one.session.unbridge().is_some());
    assert!(legs.one.session.unbridge().is_none());
    let mut talker = Talker::new(PEER, 7);
    legs.one.talk(&mut talker, 60);
    let loud = legs.one.rtp().iter().filter(|packet| packet.payload.contains(&LOUD)).count();
    assert_eq!(loud, 50);
    let mark = LinkEvent::Mark { id: 4, played_ms: 1_000 };
    assert_eq!(told(&legs.one), [mark, LinkEvent::Drained]);
    assert!(legs.one.loud_frames() >= 56, "and it hears");
    // The other one is left with nobody.
    legs.two.sent.clear();
    legs.two.ticks(20);
    assert_eq!(legs.two.rtp().len(), 20);
}

#[test]
fn early_media_is_heard_by_one_alone() {
    let mut legs = Legs::new(Codec::Pcmu, Codec::Pcmu);
    let (speaker, listener) = BridgeEnd::one_way();
    legs.one.session.bridge(Bridged::new(speaker));
    legs.two.session.bridge(Bridged::new(listener));
    legs.say(&mut Talker::new(PEER, 7), 0, &[[0x33; 160]; 20]);
    legs.two.talk(&mut Talker::new(PEER, 8), 20);
    legs.one.ticks(10);
    assert_eq!(payloads(&legs.two).iter().filter(|payload| payload[..] == [0x33; 160]).count(), 20);
    assert!(legs.one.rtp().iter().all(|packet| !packet.payload.contains(&LOUD)));
}

#[test]
fn who_waits_hears_ringing() {
    let mut legs = Legs::new(Codec::Pcma, Codec::Pcmu);
    let form = RingbackForm::of_country("US");
    legs.one.session.bridge(Bridged::new(BridgeEnd::nowhere(Waiting::Ringback(form))));
    legs.one.ticks(600);
    let sounds: Vec<bool> = legs
        .one
        .rtp()
        .iter()
        .map(|packet| {
            let mut linear = [0; 160];
            g711::decode(Law::A, packet.payload, &mut linear);
            share_at(&linear, 440) + share_at(&linear, 480) > 0.5
        })
        .collect();
    let sound = |from: usize, to: usize| sounds[from..to].iter().filter(|sound| **sound).count();
    assert_eq!(
        [sound(0, 100), sound(100, 300), sound(300, 400), sound(400, 600)],
        [100, 0, 100, 0]
    );
}

#[test]
fn what_an_agent_says_while_its_caller_hears_ringing_is_kept_for_the_answer() {
    let form = RingbackForm::of_country("US");
    for waiting in [Waiting::Connecting(form), Waiting::Starting(form), Waiting::Quiet] {
        let mut legs = Legs::new(Codec::Pcmu, Codec::Pcmu);
        legs.one.session.bridge(Bridged::new(BridgeEnd::nowhere(waiting)));
        assert_eq!(legs.one.agent.push_audio(&[LOUD; 1_600]), 1_600);
        legs.one.ticks(20);
        assert!(legs.one.rtp().iter().all(|packet| !packet.payload.contains(&LOUD)));
        drop(legs.one.session.unbridge());
        legs.one.sent.clear();
        legs.one.ticks(20);
        let said = legs.one.rtp().iter().filter(|packet| packet.payload == [LOUD; 160]).count();
        assert!(said >= 9, "{waiting:?}: {said}");
    }
}

#[test]
fn an_agent_that_is_waited_for_is_given_what_its_caller_says_and_nobody_else_is() {
    let form = RingbackForm::of_country("US");
    for (waiting, is_heard) in [
        (Waiting::Connecting(form), true),
        (Waiting::Starting(form), true),
        (Waiting::Quiet, true),
        (Waiting::Ringback(form), false),
        (Waiting::Noise, false),
    ] {
        let mut legs = Legs::new(Codec::Pcmu, Codec::Pcmu);
        legs.one.session.bridge(Bridged::new(BridgeEnd::nowhere(waiting)));
        let mut talker = Talker::new(PEER, 7);
        legs.say(&mut talker, 0, &[[LOUD; 160]; 20]);
        let loud = legs.one.loud_frames();
        assert!(if is_heard { loud >= 20 } else { loud == 0 }, "{waiting:?}: {loud}");
        let bytes = talker.event(5, 800, true);
        legs.one.receive(&talker, &bytes);
        legs.tick();
        let is_told = legs.one.heard.iter().any(|event| matches!(event, LinkEvent::Digit(_)));
        assert_eq!(is_told, is_heard, "{waiting:?}");
    }
}

#[test]
fn an_agent_that_is_there_in_a_moment_is_not_heard_to_ring() {
    let mut legs = Legs::new(Codec::Pcmu, Codec::Pcmu);
    let form = RingbackForm::of_country("US");
    legs.one.session.bridge(Bridged::new(BridgeEnd::nowhere(Waiting::Starting(form))));
    legs.one.ticks(120);
    let rings: Vec<bool> = legs
        .one
        .rtp()
        .iter()
        .map(|packet| {
            let mut linear = [0; 160];
            g711::decode(Law::Mu, packet.payload, &mut linear);
            share_at(&linear, 440) + share_at(&linear, 480) > 0.5
        })
        .collect();
    assert_eq!(rings, [[false; 20].as_slice(), &[true; 100]].concat());
}
