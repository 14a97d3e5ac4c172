//! What is recorded is what was heard after the jitter buffer, and what left in packets.

use crate::audio::frame::FRAME_SAMPLES;
use crate::audio::g711;
use crate::audio::g722;
use crate::audio::mixdown::Mixdown;
use crate::audio::opus;
use crate::audio::tape::TapeItem;
use crate::audio::tape::TapeOut;
use crate::audio::tape::TapeRate;
use crate::audio::tape::tape;
use crate::media::session::tests::Scene;
use crate::media::session::tests::Talker;
use crate::media::session::tests::plan;
use crate::rtp::packet::RtpPacket;
use crate::types::codec::Codec;
use crate::types::codec::Law;
use crate::types::codec::Ptime;

/// A session that is recorded, and what it recorded.
struct Taped {
    scene: Scene,
    out: TapeOut,
    mixdown: Mixdown,
    bytes: Vec<u8>,
    marks: Vec<TapeItem>,
    /// The time stamp of the recording's first sample.
    first: u32,
}

impl Taped {
    fn new(codec: Codec, ptime_ms: u8) -> Self {
        Self::at(TapeRate::Narrow, codec, ptime_ms)
    }

    fn at(rate: TapeRate, codec: Codec, ptime_ms: u8) -> Self {
        let ptime = Ptime::from_ms(ptime_ms).expect("a packet time");
        let mut plan = plan();
        plan.codec = codec;
        plan.send_payload_type = codec.payload_type();
        plan.receive_payload_type = codec.payload_type();
        plan.ptime = ptime;
        let mut scene = Scene::new(plan);
        let (into, out) = tape(rate);
        assert!(scene.session.record(Box::new(into)).is_none());
        let first = scene.session.sender.timestamp();
        let mixdown = Mixdown::new(rate);
        Self { scene, out, mixdown, bytes: Vec::new(), marks: Vec::new(), first }
    }

    fn tick(&mut self) {
        self.scene.tick();
        let reached = self.out.reached();
        let bytes = &mut self.bytes;
        let mut sink = |piece: &[u8]| bytes.extend_from_slice(piece);
        while let Some(item) = self.out.next_item() {
            match item {
                TapeItem::Sound(sound) => self.mixdown.take(&sound, &mut sink),
                mark => self.marks.push(mark),
            }
        }
        self.mixdown.settle(reached, &mut sink);
    }

    /// Left and right.
    fn finish(&mut self) -> (Vec<i16>, Vec<i16>) {
        drop(self.scene.session.stop_recording());
        assert!(self.out.is_over());
        let bytes = &mut self.bytes;
        self.mixdown.finish(self.out.reached(), &mut |piece| bytes.extend_from_slice(piece));
        let (quads, _) = bytes.as_chunks::<4>();
        let channel = |at: usize| {
            let sample = |quad: &[u8; 4]| i16::from_le_bytes([quad[at], quad[at + 1]]);
            quads.iter().map(sample).collect::<Vec<_>>()
        };
        (channel(0), channel(2))
    }

    /// What the far side makes of the packets that left.
    fn on_the_wire(&self, samples: usize) -> Vec<i16> {
        let mut wire = vec![0; samples];
        for sent in &self.scene.sent {
            let Ok(packet) = RtpPacket::parse(&sent.bytes) else { continue };
            let law = match packet.payload_type.get() {
                0 => Law::Mu,
                8 => Law::A,
                _ => continue,
            };
            let at = packet.timestamp.wrapping_sub(self.first) as usize;
            let mut decoded = vec![0; packet.payload.len()];
            g711::decode(law, packet.payload, &mut decoded);
            for (to, sample) in wire.iter_mut().skip(at).zip(decoded) {
                *to = sample;
            }
        }
        wire
    }
}

/// What the far side makes of packets of a codec that is no law, at the codec's own rate.
fn decoded_wire(taped: &Taped, codec: Codec, samples: usize) -> Vec<i16> {
    let factor = if codec.is_wide() { 2 } else { 1 };
    let mut opus = opus::Decoder::new().expect("memory");
    let mut g722 = g722::Decoder::default();
    let mut wire = vec![0; samples];
    for sent in &taped.scene.sent {
        let Ok(packet) = RtpPacket::parse(&sent.bytes) else { continue };
        if packet.payload_type != codec.payload_type() {
            continue;
        }
        let mut decoded = vec![0; 1_920];
        let made = match codec {
            Codec::Opus => opus.decode_whole(packet.payload, &mut decoded).expect("a packet"),
            Codec::G722 => {
                g722.decode(packet.payload, &mut decoded);
                2 * packet.payload.len()
            }
            _ => {
                for (sample, pair) in decoded.iter_mut().zip(packet.payload.as_chunks::<2>().0) {
                    *sample = i16::from_be_bytes(*pair);
                }
                packet.payload.len() / 2
            }
        };
        let units = packet.timestamp.wrapping_sub(taped.first) / codec.clock_factor();
        for (to, sample) in wire.iter_mut().skip(units as usize * factor).zip(&decoded[..made]) {
            *to = *sample;
        }
    }
    wire
}

#[test]
fn in_every_codec_decoding_what_left_gives_the_right_channel_sample_for_sample() {
    for codec in [Codec::G722, Codec::L16Wide, Codec::L16, Codec::Opus] {
        for ptime_ms in [10, 20, 40, 60] {
            let rate = if codec.is_wide() { TapeRate::Wide } else { TapeRate::Narrow };
            let mut taped =
                Taped::at(rate, codec, codec.fitting(Ptime::from_ms(ptime_ms).unwrap()).ms());
            for tick in 0..200 {
                if tick % 60 < 50 {
                    taped.scene.agent.push_audio(&sound(tick * 160, 160));
                }
                match tick {
                    100 => assert!(taped.scene.session.send_digit('7')),
                    150 => taped.scene.session.skip(5),
                    _ => (),
                }
                taped.tick();
            }
            let (_, right) = taped.finish();
            assert_eq!(right.len(), 205 * rate.tick_samples() as usize);
            let wire = decoded_wire(&taped, codec, right.len());
            let loud = wire.iter().filter(|sample| sample.unsigned_abs() > 500).count();
            assert!(loud > 10_000, "{loud} samples left");
            let differs = right.iter().zip(&wire).position(|(one, other)| one != other);
            assert_eq!(differs, None, "{codec} at {ptime_ms} ms");
        }
    }
}

/// Sound in which no two seconds are alike.
fn sound(from: usize, count: usize) -> Vec<u8> {
    (from..from + count).map(|n| (n * 7 + n / 251) as u8 & 0x7f).collect()
}

#[test]
fn the_right_channel_is_what_left_sample_for_sample() {
    for codec in [Codec::Pcmu, Codec::Pcma] {
        for ptime_ms in [10, 20, 30, 40, 60] {
            let mut taped = Taped::new(codec, ptime_ms);
            for tick in 0..300 {
                // The agent pauses now and then; a key takes the place of sound; the session comes late.
                if tick % 60 < 50 {
                    taped.scene.agent.push_audio(&sound(tick * 160, 160));
                }
                match tick {
                    100 => assert!(taped.scene.session.send_digit('7')),
                    200 => taped.scene.session.skip(5),
                    _ => (),
                }
                taped.tick();
            }
            let (_, right) = taped.finish();
            assert_eq!(right.len(), 305 * FRAME_SAMPLES);
            let wire = taped.on_the_wire(right.len());
            let loud = wire.iter().filter(|sample| **sample != 0).count();
            assert!(loud > 20_000, "{loud} samples left");
            // What waits for its packet at the end is not sent.
            assert_eq!(right, wire, "{codec} at {ptime_ms} ms");
            let gap = TapeItem::Gap { from: 200 * 160, until: 205 * 160 };
            assert_eq!(taped.marks, [gap], "ticks left out are told");
        }
    }
}

#[test]
fn the_left_channel_is_what_was_received_and_a_gap_moves_nothing() {
    for codec in [Codec::Pcmu, Codec::Pcma] {
        let payload_type = codec.payload_type().get();
        let mut taped = Taped::new(codec, 20);
        let mut talker = Talker::new(crate::media::session::tests::PEER, 9);
        let mut expected = vec![0; 400 * FRAME_SAMPLES];
        for tick in 0..400 {
            // Silent for 200 ms in every second: no packets, and the time stamps go on.
            if tick % 50 < 40 {
                let payload = sound(tick * 160, 160);
                let bytes = talker.packet(payload_type, &payload);
                taped.scene.receive(&talker, &bytes);
                g711::decode(
                    codec.law().unwrap(),
                    &payload,
                    &mut expected[tick * 160..(tick + 1) * 160],
                );
            }
            talker.timestamp = talker.timestamp.wrapping_add(160);
            taped.tick();
        }
        let (left, _) = taped.finish();
        // Later by what the jitter buffer holds.
        let delay = left.iter().position(|sample| *sample != 0).expect("something was heard");
        let delay = delay - expected.iter().position(|sample| *sample != 0).expect("said");
        assert!(delay.is_multiple_of(FRAME_SAMPLES) && delay <= 5 * FRAME_SAMPLES, "{delay}");
        for (tick, said) in expected.chunks(FRAME_SAMPLES).enumerate() {
            let from = tick * FRAME_SAMPLES + delay;
            let Some(heard) = left.get(from..from + FRAME_SAMPLES) else { break };
            if tick % 50 < 40 {
                assert_eq!(heard, said, "{codec}, tick {tick}");
            }
        }
        assert!(taped.marks.is_empty(), "{:?}", taped.marks);
    }
}

#[test]
fn while_it_is_paused_nothing_is_recorded() {
    let mut taped = Taped::new(Codec::Pcmu, 20);
    let mut talker = Talker::new(crate::media::session::tests::PEER, 9);
    for tick in 0..200 {
        match tick {
            50 => taped.scene.session.pause_recording(true),
            120 => taped.scene.session.pause_recording(false),
            _ => (),
        }
        taped.scene.agent.push_audio(&[0x21; 160]);
        let bytes = talker.audio(&[0x10; 160]);
        taped.scene.receive(&talker, &bytes);
        taped.tick();
    }
    let (left, right) = taped.finish();
    let (from, until) = (50 * FRAME_SAMPLES, 120 * FRAME_SAMPLES);
    for channel in [&left, &right] {
        assert!(channel[from..until].iter().all(|sample| *sample == 0));
        assert!(channel[from - 320..from].iter().all(|sample| *sample != 0));
        assert!(channel[until..].iter().all(|sample| *sample != 0));
    }
    let marks = [TapeItem::Paused(from as u64), TapeItem::Resumed(until as u64)];
    assert_eq!(taped.marks, marks);
}

/// The agent speaks to the end of the pause, which falls at every place of a packet, and again a little later.
#[test]
fn nothing_said_in_a_pause_is_recorded_whatever_the_packet_time_and_codec() {
    for codec in [Codec::Pcmu, Codec::Pcma, Codec::L16, Codec::L16Wide, Codec::G722, Codec::Opus] {
        for (ptime_ms, resumed) in
            [20, 40, 60].into_iter().flat_map(|it| [(it, 100), (it, 101), (it, 102)])
        {
            let rate = if codec.is_wide() { TapeRate::Wide } else { TapeRate::Narrow };
            let ptime = codec.fitting(Ptime::from_ms(ptime_ms).unwrap());
            let mut taped = Taped::at(rate, codec, ptime.ms());
            for tick in 0..200 {
                taped
                    .scene
                    .session
                    .mute(false, tick < 55 || (resumed..resumed + 12).contains(&tick));
                match tick {
                    50 => taped.scene.session.pause_recording(true),
                    _ if tick == resumed => taped.scene.session.pause_recording(false),
                    _ => (),
                }
                taped.scene.agent.push_audio(&sound(tick * 160, 160));
                taped.tick();
            }
            let (_, right) = taped.finish();
            let wire = match codec.law() {
                Some(_) => taped.on_the_wire(right.len()),
                None => decoded_wire(&taped, codec, right.len()),
            };
            let at = |tick: usize| tick * rate.tick_samples() as usize;
            let loud = |from: usize, samples: &[i16]| {
                samples[at(from)..].iter().position(|sample| sample.unsigned_abs() > 500)
            };
            assert!(loud(resumed - 10, &wire).is_some_and(|place| place < at(4)), "it was said");
            let first = loud(50, &right).expect("it goes on afterwards") + at(50);
            assert!(first >= at(resumed + 12), "{codec} at {ptime_ms} ms: {first}");
            assert!(first < at(resumed + 14), "{codec} at {ptime_ms} ms: {first}");
            if codec != Codec::Opus && codec != Codec::G722 {
                let from = at(resumed) + at(1) / 10;
                assert_eq!(right[from..], wire[from..], "{codec} at {ptime_ms} ms");
            }
        }
    }
}

#[test]
fn beside_a_key_the_caller_is_not_recorded() {
    let mut taped = Taped::new(Codec::Pcmu, 20);
    let mut talker = Talker::new(crate::media::session::tests::PEER, 9);
    for tick in 0..100_u16 {
        let bytes = talker.audio(&[0x10; 160]);
        taped.scene.receive(&talker, &bytes);
        if (50..60).contains(&tick) {
            let bytes = talker.event(5, 160 * (tick - 49), tick == 59);
            taped.scene.receive(&talker, &bytes);
        }
        taped.tick();
    }
    let (left, _) = taped.finish();
    assert!(left[51 * 160..59 * 160].iter().all(|sample| *sample == 0));
    assert!(left[20 * 160..49 * 160].iter().all(|sample| *sample != 0));
    assert!(left[70 * 160..].iter().all(|sample| *sample != 0));
}
