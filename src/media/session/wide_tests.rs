//! Media sessions of codecs at 16 kHz in virtual time.

use super::tests::LOUD;
use super::tests::PEER;
use super::tests::Scene;
use super::tests::Talker;
use super::tests::at;
use super::*;
use crate::audio::bridge::BridgeEnd;
use crate::audio::frame::FRAME_SAMPLES;
use crate::audio::frame::WIDE_SAMPLES;
use crate::audio::g711;
use crate::audio::g722;
use crate::audio::link::LinkEvent;
use crate::audio::link::wide_link;
use crate::audio::mixdown::Mixdown;
use crate::audio::tape::TapeItem;
use crate::audio::tape::TapeRate;
use crate::audio::tape::tape;
use crate::audio::tone::Tone;
use crate::audio::tone::share_at;
use crate::types::codec::Ptime;

const G722: u8 = 9;

fn plan(codec: Codec) -> MediaPlan {
    MediaPlan {
        codec,
        send_payload_type: codec.payload_type(),
        receive_payload_type: codec.payload_type(),
        ..MediaPlan::for_test(at(PEER))
    }
}

/// A peer that says a tone in G.722. Of `hz` at 16 kHz, which is half of it to what counts at 8 kHz.
struct Singer {
    talker: Talker,
    tone: Tone,
    encoder: g722::Encoder,
}

impl Singer {
    fn new(hz: u16) -> Self {
        let talker = Talker::new(PEER, 7);
        Self { talker, tone: Tone::new(hz / 2, 8_000), encoder: g722::Encoder::default() }
    }

    fn payload(&mut self) -> [u8; FRAME_SAMPLES] {
        let mut linear = [0; WIDE_SAMPLES];
        self.tone.fill(&mut linear);
        let mut payload = [0; FRAME_SAMPLES];
        self.encoder.encode(&linear, &mut payload);
        payload
    }

    fn packet(&mut self) -> Vec<u8> {
        let payload = self.payload();
        let bytes = self.talker.packet(G722, &payload);
        self.talker.timestamp = self.talker.timestamp.wrapping_add(160);
        bytes
    }

    fn sing(&mut self, scene: &mut Scene, ticks: usize) {
        for _ in 0..ticks {
            let bytes = self.packet();
            scene.receive(&self.talker, &bytes);
            scene.tick();
        }
    }
}

/// What the agent heard, at 8 kHz.
fn heard(scene: &Scene) -> Vec<i16> {
    let frames = scene.heard.iter().filter_map(|event| match event {
        LinkEvent::Audio(frame) => Some(frame),
        _ => None,
    });
    frames.flatten().map(|byte| g711::ulaw_decode(*byte)).collect()
}

/// What an agent of 16 kHz heard.
fn heard_wide(scene: &Scene) -> Vec<i16> {
    let frames = scene.heard.iter().filter_map(|event| match event {
        LinkEvent::WideAudio(wide) => Some(**wide),
        _ => None,
    });
    frames.flatten().collect()
}

/// What a peer makes of the G.722 that was sent to it.
fn decoded(scene: &Scene) -> Vec<i16> {
    let mut decoder = g722::Decoder::default();
    let mut samples = Vec::new();
    for packet in scene.rtp().iter().filter(|packet| packet.payload_type.get() == G722) {
        let mut wide = vec![0; 2 * packet.payload.len()];
        decoder.decode(packet.payload, &mut wide);
        samples.extend(wide);
    }
    samples
}

fn rms(samples: &[i16]) -> f32 {
    let power: f32 = samples.iter().map(|sample| f32::from(*sample).powi(2)).sum();
    (power / samples.len() as f32).sqrt()
}

fn assert_tone(samples: &[i16], hz: u16) {
    assert!(share_at(samples, hz) > 0.98, "{}", share_at(samples, hz));
    assert!((5_000.0..6_300.0).contains(&rms(samples)), "{}", rms(samples));
}

#[test]
fn a_peer_and_its_agent_understand_each_other() {
    let mut scene = Scene::new(plan(Codec::G722));
    let (mut singer, mut tone) = (Singer::new(1_000), Tone::new(700, 8_000));
    for _ in 0..100 {
        let said = tone.frame().map(g711::ulaw_encode);
        assert_eq!(scene.agent.push_audio(&said), 160);
        singer.sing(&mut scene, 1);
    }
    assert_tone(&heard(&scene)[8_000..16_000], 1_000);
    assert_tone(&decoded(&scene)[8_000..24_000], 350);
    let rtp = scene.rtp();
    for pair in rtp.windows(2) {
        assert_eq!(pair[1].payload.len(), 160);
        assert_eq!(pair[1].timestamp.wrapping_sub(pair[0].timestamp), 160, "a clock of 8 kHz");
        assert_eq!(pair[1].sequence.wrapping_sub(pair[0].sequence), 1);
        assert!(!pair[1].marker);
    }
    assert_eq!((rtp.len(), scene.session.statistics().concealed), (100, 0));
}

#[test]
fn an_agent_of_16_khz_hears_and_says_what_no_telephone_carries_while_the_codec_does() {
    let mut scene = Scene::new(plan(Codec::G722));
    let (mut end, agent) = wide_link();
    scene.session.attach(&mut end);
    scene.agent = agent;
    let (mut singer, mut said) = (Singer::new(5_000), Tone::new(3_000, 8_000));
    for tick in 0..150 {
        if tick == 100 {
            scene.session.update(scene.now, &plan(Codec::Pcmu), &mut scene.out);
        }
        let mut wide = [0; WIDE_SAMPLES];
        said.fill(&mut wide);
        let bytes = wide.map(i16::to_le_bytes);
        assert_eq!(scene.agent.push_wide(bytes.as_flattened()), 640);
        singer.sing(&mut scene, 1);
    }
    let heard = heard_wide(&scene);
    assert_eq!(heard.len(), 100 * WIDE_SAMPLES, "after that it hears 8 kHz");
    assert_tone(&heard[16_000..32_000], 2_500);
    assert_tone(&decoded(&scene)[16_000..32_000], 3_000);
    assert_eq!(scene.frames(), 50);
    let rtp = scene.rtp();
    assert_eq!(rtp.len(), 150, "what it says at 16 kHz goes out as G.711 too");
    for packet in &rtp[105..] {
        let linear: Vec<i16> = packet.payload.iter().map(|byte| g711::ulaw_decode(*byte)).collect();
        assert!(rms(&linear) < 300.0, "and is not folded into the band: {}", rms(&linear));
    }
    assert_eq!(scene.session.statistics().frames_dropped, 0);
}

#[test]
fn packets_of_any_length_carry_it() {
    for ptime_ms in [10, 20, 30, 40, 60] {
        let ptime = Ptime::from_ms(ptime_ms).expect("a packet time");
        let mut scene = Scene::new(MediaPlan { ptime, ..plan(Codec::G722) });
        let (mut singer, mut tone) = (Singer::new(1_000), Tone::new(700, 8_000));
        let length = usize::from(ptime_ms) * 8;
        let (mut waiting, mut sent) = (Vec::new(), 0_u32);
        for tick in 0..150 {
            scene.agent.push_audio(&tone.frame().map(g711::ulaw_encode));
            waiting.extend(singer.payload());
            while waiting.len() >= length {
                let payload: Vec<u8> = waiting.drain(..length).collect();
                let bytes = singer.talker.packet(G722, &payload);
                singer.talker.timestamp = singer.talker.timestamp.wrapping_add(length as u32);
                scene.receive(&singer.talker, &bytes);
                sent += 1;
            }
            scene.tick();
            assert!(tick < 10 || !scene.rtp().is_empty());
        }
        assert!(sent > 40);
        assert!(scene.rtp().iter().all(|packet| packet.payload.len() == length));
        assert_tone(&heard(&scene)[8_000..20_000], 1_000);
        assert_tone(&decoded(&scene)[16_000..40_000], 350);
    }
}

#[test]
fn a_lost_packet_is_concealed_at_16_khz() {
    let mut scene = Scene::new(plan(Codec::G722));
    let mut singer = Singer::new(1_000);
    for tick in 0..200 {
        let bytes = singer.packet();
        if tick % 20 != 13 {
            scene.receive(&singer.talker, &bytes);
        }
        scene.tick();
    }
    let concealed = scene.session.statistics().concealed;
    assert!((8..=10).contains(&concealed), "{concealed}");
    assert_tone(&heard(&scene)[8_000..32_000], 1_000);
}

#[test]
fn of_a_lost_packet_what_no_telephone_carries_is_concealed_too() {
    let mut scene = Scene::new(plan(Codec::G722));
    let (mut end, agent) = wide_link();
    scene.session.attach(&mut end);
    scene.agent = agent;
    let mut singer = Singer::new(5_000);
    for tick in 0..200 {
        let bytes = singer.packet();
        if tick % 20 != 13 {
            scene.receive(&singer.talker, &bytes);
        }
        scene.tick();
    }
    let concealed = scene.session.statistics().concealed;
    assert!((8..=10).contains(&concealed), "{concealed}");
    let heard = heard_wide(&scene);
    assert_eq!(heard.len(), 200 * WIDE_SAMPLES);
    for (at, frame) in heard.chunks_exact(WIDE_SAMPLES).enumerate().skip(50) {
        let (share, loudness) = (share_at(frame, 2_500), rms(frame));
        assert!(share > 0.9 && loudness > 4_000.0, "{at}: {share} {loudness}");
    }
}

/// Changes to another codec and back while both speak. The peer follows so many ticks `late`.
fn change(late: usize) {
    let mut scene = Scene::new(plan(Codec::Pcmu));
    let mut singer = Singer::new(1_000);
    let (mut narrow, mut said) = (Tone::new(1_000, 8_000), Tone::new(700, 8_000));
    for tick in 0..150 {
        if tick % 50 == 0 {
            let codec = if tick == 50 { Codec::G722 } else { Codec::Pcmu };
            scene.session.update(scene.now, &plan(codec), &mut scene.out);
        }
        if tick == 50 + late {
            // Who begins to speak a codec has no memory of it.
            singer.encoder = g722::Encoder::default();
        }
        scene.agent.push_audio(&said.frame().map(g711::ulaw_encode));
        // Both sing on, whoever is sent.
        let (wide, narrow) = (singer.payload(), narrow.frame().map(g711::ulaw_encode));
        let is_wide = (50 + late..100 + late).contains(&tick);
        let (kind, payload) = if is_wide { (G722, wide) } else { (0, narrow) };
        let bytes = singer.talker.packet(kind, &payload);
        singer.talker.timestamp = singer.talker.timestamp.wrapping_add(160);
        scene.receive(&singer.talker, &bytes);
        scene.tick();
    }
    let statistics = scene.session.statistics();
    assert_eq!((statistics.concealed, statistics.unexpected), (0, 0));
    assert_eq!(scene.rtp().len(), 150);
    assert!(scene.rtp().windows(2).all(|pair| !pair[1].marker), "time goes on");
    // Every 20 ms of it, joints too, is loud.
    for (at, frame) in heard(&scene)[1_600..].chunks(160).enumerate() {
        assert!(rms(frame) > 3_000.0, "{late}: {at}");
    }
}

#[test]
fn another_rate_is_taken_up_without_a_gap_also_by_a_peer_that_is_told_later() {
    for late in [0, 1, 10] {
        change(late);
    }
}

#[test]
fn an_agent_of_16_khz_hears_what_still_comes_at_8() {
    let mut scene = Scene::new(plan(Codec::Pcmu));
    let (mut end, agent) = wide_link();
    scene.session.attach(&mut end);
    scene.agent = agent;
    let (mut singer, mut narrow) = (Singer::new(1_000), Tone::new(1_000, 8_000));
    for tick in 0..150 {
        if tick == 50 {
            scene.session.update(scene.now, &plan(Codec::G722), &mut scene.out);
        }
        let (kind, payload) = if tick < 60 {
            (0, narrow.frame().map(g711::ulaw_encode))
        } else {
            (G722, singer.payload())
        };
        let bytes = singer.talker.packet(kind, &payload);
        singer.talker.timestamp = singer.talker.timestamp.wrapping_add(160);
        scene.receive(&singer.talker, &bytes);
        scene.tick();
    }
    let wide = heard_wide(&scene);
    assert_eq!((scene.frames(), wide.len()), (50, 100 * WIDE_SAMPLES), "one rate, one change");
    for (at, frame) in wide.chunks_exact(WIDE_SAMPLES).enumerate() {
        assert!(rms(frame) > 3_000.0, "{at}: {}", rms(frame));
    }
    assert_tone(&wide[WIDE_SAMPLES..10 * WIDE_SAMPLES], 500);
    assert_tone(&wide[60 * WIDE_SAMPLES..], 500);
    assert_eq!(scene.session.statistics().unexpected, 0);
}

#[test]
fn g711_under_its_own_payload_type_is_heard_in_between() {
    let pcmu = Codec::Pcmu.payload_type();
    let also = MediaPlan { receive_also: Some((pcmu, Codec::Pcmu)), ..plan(Codec::G722) };
    let mut scene = Scene::new(also);
    let mut singer = Singer::new(1_000);
    singer.sing(&mut scene, 20);
    for _ in 0..20 {
        let bytes = singer.talker.packet(0, &[LOUD; 160]);
        singer.talker.timestamp = singer.talker.timestamp.wrapping_add(160);
        scene.receive(&singer.talker, &bytes);
        scene.tick();
    }
    assert!(scene.loud_frames() >= 16, "{}", scene.loud_frames());
    singer.sing(&mut scene, 50);
    let heard = heard(&scene);
    assert_tone(&heard[heard.len() - 4_000..], 1_000);
    assert_eq!(scene.session.statistics().unexpected, 0);
}

#[test]
fn a_session_that_was_never_equipped_takes_no_g722() {
    let g722 = Codec::G722.payload_type();
    let also = MediaPlan { receive_also: Some((g722, Codec::G722)), ..plan(Codec::Pcmu) };
    let mut scene = Scene::new(also);
    Singer::new(1_000).sing(&mut scene, 20);
    assert_eq!(scene.session.statistics().unexpected, 20);
    assert!(heard(&scene).iter().all(|sample| *sample == 0));
}

/// A singer in G.722 on one leg of a bridge; the legs, the second of this codec.
fn bridged(hz: u16, other: Codec) -> (Scene, Scene) {
    let (mut one, mut two) = (Scene::new(plan(Codec::G722)), Scene::new(plan(other)));
    let (end_one, end_two) = BridgeEnd::pair();
    assert!(one.session.bridge(Bridged::new(end_one)).is_none());
    assert!(two.session.bridge(Bridged::new(end_two)).is_none());
    let mut singer = Singer::new(hz);
    for _ in 0..150 {
        singer.sing(&mut one, 1);
        two.tick();
    }
    (one, two)
}

#[test]
fn bridged_legs_of_16_khz_hear_more_than_the_telephone_band() {
    let (_, two) = bridged(5_000, Codec::G722);
    assert_tone(&decoded(&two)[16_000..40_000], 2_500);
}

#[test]
fn a_bridged_leg_of_8_khz_hears_its_band_and_nothing_folded_into_it() {
    for law in [Codec::Pcmu, Codec::Pcma] {
        for (hz, is_heard) in [(1_000, true), (5_500, false)] {
            let (_, two) = bridged(hz, law);
            let mut samples = Vec::new();
            for packet in two.rtp() {
                let mut linear = [0; FRAME_SAMPLES];
                g711::decode(law.law().expect("G.711"), packet.payload, &mut linear);
                samples.extend(linear);
            }
            let tail = &samples[8_000..20_000];
            if is_heard {
                assert_tone(tail, hz);
            } else {
                // What the codec itself adds, 25 dB below.
                assert!(rms(tail) < 300.0, "{}", rms(tail));
            }
        }
    }
}

#[test]
fn a_leg_of_16_khz_hears_one_of_8_khz() {
    let (mut one, mut two) = (Scene::new(plan(Codec::Pcma)), Scene::new(plan(Codec::G722)));
    let (end_one, end_two) = BridgeEnd::pair();
    one.session.bridge(Bridged::new(end_one));
    two.session.bridge(Bridged::new(end_two));
    let (mut talker, mut tone) = (Talker::new(PEER, 7), Tone::new(1_000, 8_000));
    for _ in 0..150 {
        let bytes = talker.packet(8, &tone.frame().map(g711::alaw_encode));
        talker.timestamp = talker.timestamp.wrapping_add(160);
        one.receive(&talker, &bytes);
        one.tick();
        two.tick();
    }
    assert_tone(&decoded(&two)[16_000..40_000], 500);
}

#[test]
fn a_recording_has_both_sides_at_the_rate_it_began_with() {
    for (rate, factor) in [(TapeRate::Wide, 2), (TapeRate::Narrow, 1)] {
        let mut scene = Scene::new(plan(Codec::G722));
        let (into, mut out) = tape(rate);
        assert!(scene.session.record(Box::new(into)).is_none());
        let (mut singer, mut said) = (Singer::new(1_000), Tone::new(700, 8_000));
        let (mut bytes, mut mixdown) = (Vec::new(), Mixdown::new(rate));
        for tick in 0..200 {
            if tick == 120 {
                scene.session.update(scene.now, &plan(Codec::Pcmu), &mut scene.out);
            }
            scene.agent.push_audio(&said.frame().map(g711::ulaw_encode));
            singer.sing(&mut scene, 1);
            while let Some(item) = out.next_item() {
                let TapeItem::Sound(sound) = item else { panic!("{item:?}") };
                mixdown.take(&sound, &mut |piece| bytes.extend_from_slice(piece));
            }
        }
        mixdown.finish(out.reached(), &mut |piece| bytes.extend_from_slice(piece));
        let channel = |at: usize| -> Vec<i16> {
            let quads = bytes.as_chunks::<4>().0.iter();
            quads.map(|quad| i16::from_le_bytes([quad[at], quad[at + 1]])).collect()
        };
        let (left, right) = (channel(0), channel(2));
        assert_eq!(left.len(), 200 * 160 * factor);
        let second = 8_000 * factor;
        assert_tone(&left[second..2 * second], 1_000 / factor as u16);
        assert_tone(&right[second..2 * second], 700 / factor as u16);
        // After the change too.
        let tail = 195 * 160 * factor;
        assert_tone(&right[tail - second..tail], 700 / factor as u16);
        if rate == TapeRate::Wide {
            // What left before the change, sample for sample.
            let wire = decoded(&scene);
            assert_eq!(right[320..wire.len()], wire[320..]);
        }
    }
}
