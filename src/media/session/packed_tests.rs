//! Media sessions of codecs that are decoded packet by packet, in virtual time.

use super::tests::PEER;
use super::tests::Scene;
use super::tests::Talker;
use super::tests::at;
use super::*;
use crate::audio::bridge::BridgeEnd;
use crate::audio::g711;
use crate::audio::g722;
use crate::audio::link::LinkEvent;
use crate::audio::opus;
use crate::audio::tone::Tone;
use crate::audio::tone::share_at;
use crate::audio::voice::Voice;
use crate::types::codec::OpusTerms;
use crate::types::codec::PayloadType;
use crate::types::codec::Ptime;

pub(super) fn plan(codec: Codec) -> MediaPlan {
    MediaPlan {
        codec,
        send_payload_type: codec.payload_type(),
        receive_payload_type: codec.payload_type(),
        dtmf_clock: codec.clock_rate(),
        opus: OpusTerms { fec: true, ..OpusTerms::default() },
        annex_b: false,
        ..MediaPlan::for_test(at(PEER))
    }
}

/// Encodes as a peer would, and decodes what it is sent.
pub(super) struct Other {
    codec: Codec,
    encoder: opus::Encoder,
    decoder: opus::Decoder,
    wide_encoder: g722::Encoder,
    wide_decoder: g722::Decoder,
}

impl Other {
    pub(super) fn new(codec: Codec) -> Self {
        Self {
            codec,
            encoder: opus::Encoder::new().expect("an encoder"),
            decoder: opus::Decoder::new().expect("a decoder"),
            wide_encoder: g722::Encoder::default(),
            wide_decoder: g722::Decoder::default(),
        }
    }

    /// A payload of these samples at 16 kHz.
    fn encode(&mut self, wide: &[i16]) -> Vec<u8> {
        let narrow = || wide.iter().step_by(2);
        match self.codec {
            Codec::Pcmu => narrow().map(|sample| g711::ulaw_encode(*sample)).collect(),
            Codec::Pcma => narrow().map(|sample| g711::alaw_encode(*sample)).collect(),
            Codec::L16 => narrow().flat_map(|sample| sample.to_be_bytes()).collect(),
            Codec::L16Wide => wide.iter().flat_map(|sample| sample.to_be_bytes()).collect(),
            Codec::G722 => {
                let mut bytes = vec![0; wide.len() / 2];
                self.wide_encoder.encode(wide, &mut bytes);
                bytes
            }
            Codec::Opus => {
                let mut bytes = vec![0; 1_275];
                let length = self.encoder.encode(wide, &mut bytes).expect("a packet");
                bytes.truncate(length);
                bytes
            }
            Codec::G729 => Vec::new(),
        }
    }

    /// The samples of a payload, at 16 kHz.
    fn decode(&mut self, payload: &[u8], ms: usize) -> Vec<i16> {
        let twice = |samples: Vec<i16>| samples.iter().flat_map(|sample| [*sample; 2]).collect();
        let pairs = || {
            let pairs = payload.as_chunks::<2>().0.iter();
            pairs.map(|pair| i16::from_be_bytes(*pair)).collect::<Vec<_>>()
        };
        match self.codec {
            Codec::Pcmu => twice(payload.iter().map(|byte| g711::ulaw_decode(*byte)).collect()),
            Codec::Pcma => twice(payload.iter().map(|byte| g711::alaw_decode(*byte)).collect()),
            Codec::L16 => twice(pairs()),
            Codec::L16Wide => pairs(),
            Codec::G722 => {
                let mut samples = vec![0; 2 * payload.len()];
                self.wide_decoder.decode(payload, &mut samples);
                samples
            }
            Codec::Opus => {
                let mut samples = vec![0; 16 * ms];
                assert!(self.decoder.decode(payload, &mut samples), "of {ms} ms");
                samples
            }
            Codec::G729 => Vec::new(),
        }
    }

    /// A packet of `talker`, whose time goes on by so many ms.
    pub(super) fn packet(&mut self, talker: &mut Talker, wide: &[i16]) -> Vec<u8> {
        let payload = self.encode(wide);
        let bytes = talker.packet(self.codec.payload_type().get(), &payload);
        let units = wide.len() as u32 / 2 * self.codec.clock_factor();
        talker.timestamp = talker.timestamp.wrapping_add(units);
        bytes
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

/// What a peer makes of what was sent to it, at 16 kHz.
fn decoded(scene: &Scene, codec: Codec, ms: usize) -> Vec<i16> {
    let mut other = Other::new(codec);
    let kind = codec.payload_type();
    let rtp = scene.rtp();
    let audio = rtp.iter().filter(|packet| packet.payload_type == kind);
    audio.flat_map(|packet| other.decode(packet.payload, ms)).collect()
}

fn rms(samples: &[i16]) -> f32 {
    let power: f32 = samples.iter().map(|sample| f32::from(*sample).powi(2)).sum();
    (power / samples.len() as f32).sqrt()
}

fn assert_tone(samples: &[i16], hz: u16) {
    assert!(share_at(samples, hz) > 0.95, "{}", share_at(samples, hz));
    assert!((4_300.0..6_300.0).contains(&rms(samples)), "{}", rms(samples));
}

const PACKED: [Codec; 3] = [Codec::Opus, Codec::L16Wide, Codec::L16];

#[test]
fn packets_of_any_length_carry_every_codec_both_ways() {
    for codec in PACKED {
        for ptime_ms in [10, 20, 30, 40, 60] {
            let ptime = codec.fitting(Ptime::from_ms(ptime_ms).expect("a packet time"));
            let ms = usize::from(ptime.ms());
            let mut scene = Scene::new(MediaPlan { ptime, ..plan(codec) });
            let (mut other, mut talker) = (Other::new(codec), Talker::new(PEER, 7));
            let (mut sung, mut said) = (Tone::new(500, 8_000), Tone::new(700, 8_000));
            let mut waiting = Vec::new();
            for _ in 0..150 {
                scene.agent.push_audio(&said.frame().map(g711::ulaw_encode));
                let mut wide = [0; 320];
                sung.fill(&mut wide);
                waiting.extend(wide);
                while waiting.len() >= 16 * ms {
                    let samples: Vec<i16> = waiting.drain(..16 * ms).collect();
                    let bytes = other.packet(&mut talker, &samples);
                    scene.receive(&talker, &bytes);
                }
                scene.tick();
            }
            assert_tone(&heard(&scene)[8_000..20_000], 1_000);
            assert_tone(&decoded(&scene, codec, ms)[16_000..40_000], 350);
            let units = ms as u32 * codec.clock_rate() / 1_000;
            for pair in scene.rtp().windows(2) {
                assert_eq!(pair[1].timestamp.wrapping_sub(pair[0].timestamp), units, "{codec}");
                assert_eq!(pair[1].sequence.wrapping_sub(pair[0].sequence), 1);
                assert_eq!((pair[1].marker, pair[1].ssrc), (false, pair[0].ssrc));
            }
            let statistics = scene.session.statistics();
            assert_eq!((statistics.concealed, statistics.discarded_in), (0, 0), "{codec} {ms} ms");
            assert_eq!(statistics.unexpected, 0);
        }
    }
}

#[test]
fn linear_audio_is_heard_to_the_sample() {
    let mut scene = Scene::new(plan(Codec::L16));
    let (mut other, mut talker, mut voice) =
        (Other::new(Codec::L16), Talker::new(PEER, 7), Voice::new());
    let mut said = Vec::new();
    // Later the delay is cut to what this network needs.
    for _ in 0..40 {
        let frame = voice.frame();
        said.extend(frame);
        let wide: Vec<i16> = frame.iter().flat_map(|sample| [*sample; 2]).collect();
        let bytes = other.packet(&mut talker, &wide);
        scene.receive(&talker, &bytes);
        scene.tick();
    }
    let heard = heard(&scene);
    let delay = 320;
    for (at, (sample, original)) in heard[delay + 160..].iter().zip(&said[160..]).enumerate() {
        assert_eq!(*sample, g711::ulaw_decode(g711::ulaw_encode(*original)), "{at}");
    }
}

/// Segmental signal-to-noise ratio of what was heard, over frames with speech, in dB.
fn segmental(heard: &[i16], clean: &[i16]) -> f64 {
    let (mut sum, mut frames) = (0.0, 0);
    for (heard, clean) in heard.chunks_exact(160).zip(clean.chunks_exact(160)) {
        let power: f64 = clean.iter().map(|sample| f64::from(*sample).powi(2)).sum();
        if power < 160.0 * 200.0 * 200.0 {
            continue;
        }
        let noise: f64 = heard
            .iter()
            .zip(clean)
            .map(|(one, two)| (f64::from(*one) - f64::from(*two)).powi(2))
            .sum();
        sum += (10.0 * (power / noise.max(1.0)).log10()).clamp(-10.0, 35.0);
        frames += 1;
    }
    sum / f64::from(frames)
}

/// A voice in Opus over a network that loses packets at random; what was heard, and how many were lost.
fn over_loss(percent: u64, corrected: bool) -> (Vec<i16>, u32) {
    let mut scene = Scene::new(plan(Codec::Opus));
    let (mut other, mut talker) = (Other::new(Codec::Opus), Talker::new(PEER, 7));
    if corrected {
        other.encoder.set_terms(OpusTerms { fec: true, ..OpusTerms::default() });
        other.encoder.loss_is(30);
    }
    let (mut voice, mut random, mut lost) = (Voice::new(), Random::from_seed(11), 0);
    let mut to_wide = crate::audio::resample::Resampler::up(2);
    for _ in 0..1_000 {
        let mut wide = Vec::with_capacity(320);
        to_wide.push(&voice.frame(), &mut wide);
        let bytes = other.packet(&mut talker, &wide);
        if random.below(100) < percent {
            lost += 1;
        } else {
            scene.receive(&talker, &bytes);
        }
        scene.tick();
    }
    (heard(&scene), lost)
}

#[test]
fn at_5_percent_loss_correction_beats_concealment_and_that_beats_repetition() {
    let (clean, _) = over_loss(0, true);
    let (corrected, lost) = over_loss(5, true);
    assert!((30..80).contains(&lost), "{lost}");
    let (clean_plain, _) = over_loss(0, false);
    let (concealed, _) = over_loss(5, false);
    // The last frame again, wherever a frame is not as it would be without loss.
    let mut repeated = clean_plain.clone();
    for at in 1..repeated.len() / 160 {
        let place = at * 160..(at + 1) * 160;
        if concealed[place.clone()] != clean_plain[place.clone()] {
            let before: Vec<i16> = repeated[place.start - 160..place.start].to_vec();
            repeated[place].copy_from_slice(&before);
        }
    }
    let with = segmental(&corrected, &clean);
    let without = segmental(&concealed, &clean_plain);
    let repetition = segmental(&repeated, &clean_plain);
    assert!(without >= repetition + 3.0, "{without} {repetition}");
    assert!(with >= without + 4.0, "{with} {without}");
}

/// One of these after the other, a second each, both ways, while everybody speaks.
fn change(codecs: &[Codec], keeps_ssrc: bool, late: usize) {
    let mut scene = Scene::new(plan(codecs[0]));
    let mut talker = Talker::new(PEER, 7);
    let (mut sung, mut said) = (Tone::new(500, 8_000), Tone::new(700, 8_000));
    let mut other = Other::new(codecs[0]);
    for (turn, codec) in codecs.iter().enumerate() {
        if turn > 0 {
            scene.session.update(scene.now, &plan(*codec), &mut scene.out);
        }
        for tick in 0..50 {
            if turn > 0 && tick == late {
                let faster = other.codec.clock_rate() != codec.clock_rate();
                other = Other::new(*codec);
                if faster && !keeps_ssrc {
                    (talker.ssrc, talker.timestamp) = (talker.ssrc + 1, 99);
                    talker.sequence = 77;
                }
            }
            scene.agent.push_audio(&said.frame().map(g711::ulaw_encode));
            let mut wide = [0; 320];
            sung.fill(&mut wide);
            let bytes = other.packet(&mut talker, &wide);
            scene.receive(&talker, &bytes);
            scene.tick();
        }
    }
    let statistics = scene.session.statistics();
    assert_eq!((statistics.unexpected, statistics.discarded_in), (0, 0), "{codecs:?}");
    assert_eq!((statistics.concealed, statistics.late_in), (0, 0), "{codecs:?}");
    let counted = (statistics.packets_in, statistics.lost_in);
    assert_eq!(counted, (50 * codecs.len() as u64, 0), "{codecs:?} {keeps_ssrc}");
    // Every 20 ms of it, joints too, is loud.
    for (at, frame) in heard(&scene)[1_600..].chunks(160).enumerate() {
        assert!(rms(frame) > 2_000.0, "{codecs:?} {keeps_ssrc}: frame {at}: {}", rms(frame));
    }
    // What was sent, packet by packet.
    let rtp = scene.rtp();
    assert_eq!(rtp.len(), 50 * codecs.len());
    for (at, pair) in rtp.windows(2).enumerate() {
        let codec = codecs[(at + 1) / 50];
        let before = codecs[at / 50];
        assert_eq!(pair[1].payload_type, codec.payload_type());
        if codec.clock_rate() == before.clock_rate() {
            let units = 160 * codec.clock_factor();
            assert_eq!(pair[1].timestamp.wrapping_sub(pair[0].timestamp), units);
            assert_eq!(pair[1].sequence.wrapping_sub(pair[0].sequence), 1);
            assert_eq!((pair[1].ssrc, pair[1].marker), (pair[0].ssrc, false));
        } else {
            assert_ne!(pair[1].ssrc, pair[0].ssrc, "RFC 7160: a clock, a stream");
            assert!(pair[1].marker);
        }
    }
    for codec in codecs {
        let decoded = decoded(&scene, *codec, 20);
        assert!(rms(&decoded[3_200..9_600]) > 4_000.0, "{codec}");
    }
}

#[test]
fn a_codec_changes_without_a_gap_whatever_the_clocks() {
    // The peer is told at once, or has the answer 200 ms after us.
    for (keeps_ssrc, late) in [(true, 0), (false, 0), (true, 10), (false, 10)] {
        change(&[Codec::Pcmu, Codec::G722, Codec::Opus], keeps_ssrc, late);
        change(&[Codec::Opus, Codec::Pcma, Codec::L16Wide, Codec::Opus], keeps_ssrc, late);
        change(&[Codec::L16, Codec::G722, Codec::L16Wide, Codec::L16], keeps_ssrc, late);
    }
}

#[test]
fn keys_last_as_long_at_any_clock_and_take_the_place_of_audio() {
    for codec in PACKED {
        let mut scene = Scene::new(plan(codec));
        let mut talker = Talker::new(PEER, 7);
        let mut other = Other::new(codec);
        for tick in 0..60_u32 {
            if tick == 20 {
                assert!(scene.session.send_digit('5'));
            }
            if (30..36).contains(&tick) {
                let units = (tick - 29) * 160 * codec.clock_factor();
                let bytes = talker.event(7, units as u16, tick == 35);
                scene.receive(&talker, &bytes);
            } else {
                if tick == 36 {
                    let units = 6 * 160 * codec.clock_factor();
                    talker.timestamp = talker.timestamp.wrapping_add(units);
                }
                let bytes = other.packet(&mut talker, &[1_000; 320]);
                scene.receive(&talker, &bytes);
            }
            scene.tick();
        }
        let digit = MediaEvent::Digit { digit: '7', duration_ms: 120 };
        assert!(scene.events.contains(&digit), "{codec} {:?}", scene.events);
        let rtp = scene.rtp();
        let events: Vec<_> = rtp
            .iter()
            .filter(|packet| packet.payload_type == PayloadType::new(101).expect("a type"))
            .collect();
        assert_eq!(events.len(), 8, "six, and the end twice more");
        let last = events.last().expect("the end");
        let duration = u16::from_be_bytes([last.payload[2], last.payload[3]]);
        assert_eq!(u32::from(duration), 6 * 160 * codec.clock_factor(), "{codec}");
        // Time went on meanwhile.
        let audio: Vec<_> =
            rtp.iter().filter(|packet| packet.payload_type == codec.payload_type()).collect();
        let units = 160 * codec.clock_factor();
        let (first, end) = (audio[0].timestamp, audio[audio.len() - 1].timestamp);
        assert_eq!(end.wrapping_sub(first), 59 * units, "{codec}");
    }
}

#[test]
fn bridged_legs_of_any_two_codecs_hear_each_other() {
    for one in [Codec::Opus, Codec::L16Wide, Codec::L16, Codec::Pcmu] {
        for two in [Codec::Opus, Codec::L16Wide, Codec::L16, Codec::Pcma, Codec::G722] {
            let (mut first, mut second) = (Scene::new(plan(one)), Scene::new(plan(two)));
            let (end_one, end_two) = BridgeEnd::pair();
            first.session.bridge(Bridged::new(end_one));
            second.session.bridge(Bridged::new(end_two));
            let (mut other, mut talker) = (Other::new(one), Talker::new(PEER, 7));
            let mut sung = Tone::new(500, 8_000);
            for _ in 0..150 {
                let mut wide = [0; 320];
                sung.fill(&mut wide);
                let bytes = other.packet(&mut talker, &wide);
                first.receive(&talker, &bytes);
                first.tick();
                second.tick();
            }
            let decoded = decoded(&second, two, 20);
            assert!(share_at(&decoded[16_000..40_000], 500) > 0.9, "{one} to {two}");
            assert!(rms(&decoded[16_000..40_000]) > 4_000.0, "{one} to {two}");
        }
    }
}

#[test]
fn a_key_of_one_leg_lasts_as_long_on_another_with_a_faster_clock() {
    for (one, two) in [(Codec::Pcmu, Codec::Opus), (Codec::Opus, Codec::L16Wide)] {
        let (mut first, mut second) = (Scene::new(plan(one)), Scene::new(plan(two)));
        let (end_one, end_two) = BridgeEnd::pair();
        first.session.bridge(Bridged::new(end_one));
        second.session.bridge(Bridged::new(end_two));
        let mut talker = Talker::new(PEER, 7);
        for tick in 0..30_u32 {
            if tick < 8 {
                let units = (tick + 1) * 160 * one.clock_factor();
                let bytes = talker.event(4, units as u16, tick == 7);
                first.receive(&talker, &bytes);
            }
            first.tick();
            second.tick();
        }
        let rtp = second.rtp();
        let key = rtp.iter().rfind(|packet| packet.payload_type.get() == 101).expect("a key");
        assert_eq!(key.payload[..2], [4, 0x8a], "the end of it");
        let units = u16::from_be_bytes([key.payload[2], key.payload[3]]);
        assert_eq!(u32::from(units), 8 * 160 * two.clock_factor(), "{one} to {two}");
    }
}

#[test]
fn garbage_in_the_place_of_packets_is_concealed_and_counted() {
    let mut scene = Scene::new(plan(Codec::Opus));
    let (mut other, mut talker, mut random) =
        (Other::new(Codec::Opus), Talker::new(PEER, 7), Random::from_seed(5));
    for tick in 0..500 {
        let mut bytes = other.packet(&mut talker, &[3_000; 320]);
        if tick > 50 && random.below(4) == 0 {
            bytes.truncate(12);
            bytes.extend((0..random.below(1_400)).map(|_| random.next_u32() as u8));
        }
        scene.receive(&talker, &bytes);
        scene.tick();
    }
    assert_eq!(scene.frames(), 500, "the agent's stream keeps its clock");
    assert!(scene.session.statistics().discarded_in > 10);
}

#[test]
fn a_peer_that_loses_packets_is_sent_correction() {
    for (fraction, expected) in [(0, false), (60, true)] {
        let mut scene = Scene::new(plan(Codec::Opus));
        let mut voice = Voice::new();
        if let Some(packed) = &mut scene.session.packed {
            packed.loss_is(fraction);
        }
        for _ in 0..150 {
            scene.agent.push_audio(&voice.frame().map(g711::ulaw_encode));
            scene.tick();
        }
        let bytes: usize = scene.rtp().iter().map(|packet| packet.payload.len()).sum();
        // The second bit behind the first byte of a frame of SILK (RFC 6716 §4.2.3).
        let says_more = |payload: &[u8]| payload[0] >> 3 < 16 && payload[1] & 0x40 != 0;
        let corrected = scene.rtp().iter().filter(|packet| says_more(packet.payload)).count();
        assert_eq!(corrected > 50, expected, "{corrected} of 150");
        assert!(bytes < 150 * 90, "{bytes}");
    }
}
