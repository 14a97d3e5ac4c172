//! Each law of G.711 between a peer and its agent: what stays as it is, and what is turned.

use super::tests::PEER;
use super::tests::Scene;
use super::tests::Talker;
use super::tests::at;
use super::*;
use crate::audio::bridge::BridgeEnd;
use crate::audio::frame::silence;
use crate::audio::g722;
use crate::audio::link::LinkEvent;
use crate::audio::link::link_of;
use crate::audio::tone::Tone;
use crate::audio::tone::share_at;
use std::ops::Range;

const LAWS: [Law; 2] = [Law::Mu, Law::A];

const fn codec_of(law: Law) -> Codec {
    match law {
        Law::Mu => Codec::Pcmu,
        Law::A => Codec::Pcma,
    }
}

/// A peer and an agent.
struct Line {
    scene: Scene,
    talker: Talker,
    codec: Codec,
}

impl Line {
    fn new(peer: Law, agent: Law) -> Self {
        Self::of(codec_of(peer), agent)
    }

    fn of(codec: Codec, agent: Law) -> Self {
        let plan = MediaPlan {
            codec,
            send_payload_type: codec.payload_type(),
            receive_payload_type: codec.payload_type(),
            ..MediaPlan::for_test(at(PEER))
        };
        let mut line = Self { scene: Scene::new(plan), talker: Talker::new(PEER, 7), codec };
        line.take_over(agent, false);
        line
    }

    /// Another agent takes over, of which the one before may learn nothing.
    fn take_over(&mut self, law: Law, unnoticed: bool) {
        let (mut end, mut agent) = link_of(law);
        agent.speak(law);
        if unnoticed {
            self.scene.session.exchange(&mut end);
        } else {
            self.scene.session.attach(&mut end);
        }
        self.scene.agent = agent;
        self.scene.heard.clear();
        self.scene.sent.clear();
    }

    /// A packet of 20 ms.
    fn packet(&mut self, payload: &[u8]) -> Vec<u8> {
        let bytes = self.talker.packet(self.codec.payload_type().get(), payload);
        self.talker.timestamp = self.talker.timestamp.wrapping_add(FRAME_SAMPLES as u32);
        bytes
    }

    /// Both say these frames.
    fn talk(&mut self, numbers: Range<usize>) {
        for number in numbers {
            let bytes = self.packet(&frame(number));
            self.scene.receive(&self.talker, &bytes);
            assert_eq!(self.scene.agent.push_audio(&frame(number)), FRAME_SAMPLES);
            self.scene.tick();
        }
    }

    fn heard(&self) -> Vec<Encoded> {
        let frame = |event: &LinkEvent| match event {
            LinkEvent::Audio(frame) => Some(*frame),
            _ => None,
        };
        self.scene.heard.iter().filter_map(frame).collect()
    }

    fn sent(&self) -> Vec<Encoded> {
        let rtp = self.scene.rtp();
        rtp.iter().map(|packet| packet.payload.try_into().expect("20 ms")).collect()
    }
}

/// Which codes of A-law there are of those of µ-law: all but 16.
fn by_way_of_ulaw() -> [bool; 256] {
    let mut reached = [false; 256];
    for code in 0..=u8::MAX {
        let mut turned = [code];
        g711::from_ulaw(Law::A, &mut turned);
        reached[usize::from(turned[0])] = true;
    }
    reached
}

/// Every eight of these have all codes there are.
fn frame(number: usize) -> Encoded {
    std::array::from_fn(|at| (number * FRAME_SAMPLES + at) as u8)
}

/// What was said of one law came out of another, each frame turned once at most, and all from the first on. Gives what
/// came before.
fn assert_turned(got: &[Encoded], (from, to): (Law, Law)) -> &[Encoded] {
    let turned = |number: usize| {
        let mut frame = frame(number);
        g711::convert(from, to, &mut frame);
        frame
    };
    let first = got.iter().position(|got| *got == turned(0)).expect("the first");
    assert!(first < 8, "{from:?} to {to:?}: {first}");
    let (before, rest) = got.split_at(first);
    for (number, got) in rest.iter().enumerate() {
        assert_eq!(*got, turned(number), "{from:?} to {to:?}: frame {number}");
    }
    before
}

#[test]
fn every_code_goes_both_ways_bit_for_bit_in_one_law_and_is_turned_once_between_two() {
    for (peer, agent) in LAWS.iter().flat_map(|peer| LAWS.map(|agent| (*peer, agent))) {
        for supervised in [false, true] {
            let mut line = Line::new(peer, agent);
            let (for_guest, _guest) = BridgeEnd::pair();
            if supervised {
                line.scene.session.host(Box::default());
                line.scene.session.admit(0, GuestGains::LISTENS, Box::new(for_guest));
            }
            line.talk(0..100);
            let (heard, sent) = (line.heard(), line.sent());
            assert_eq!((heard.len(), sent.len()), (100, 100));
            let before = assert_turned(&heard, (peer, agent));
            assert!(before.iter().all(|frame| *frame == silence(agent)), "{before:?}");
            assert_turned(&sent, (agent, peer));
        }
    }
}

#[test]
fn an_agent_of_another_law_that_takes_over_is_heard_and_hears_in_its_own() {
    for peer in LAWS {
        let mut line = Line::new(peer, Law::Mu);
        line.talk(0..40);
        for (agent, unnoticed) in [(Law::A, false), (Law::Mu, true), (Law::A, true)] {
            line.take_over(agent, unnoticed);
            line.talk(40..120);
            assert_turned(&line.heard(), (peer, agent));
            assert_turned(&line.sent(), (agent, peer));
        }
    }
}

#[test]
fn an_agent_hears_silence_of_its_law_where_nothing_comes_or_is_for_it() {
    for agent in LAWS {
        let mut line = Line::new(Law::A, agent);
        line.scene.ticks(20);
        line.scene.session.miss(0, &mut line.scene.out);
        line.scene.perform();
        line.scene.session.mute(true, false);
        line.talk(0..40);
        let (own, _other) = BridgeEnd::pair();
        line.scene.session.bridge(Bridged::new(own));
        line.scene.session.mute(false, false);
        line.talk(40..60);
        let heard = line.heard();
        assert_eq!(heard.len(), 81);
        assert!(heard.iter().all(|frame| *frame == silence(agent)), "{agent:?}: {heard:?}");
    }
}

#[test]
fn what_is_made_in_place_of_what_was_lost_is_made_in_the_law_of_the_agent() {
    let by_way_of_ulaw = by_way_of_ulaw();
    let mut line = Line::new(Law::A, Law::A);
    let (mut tone, mut said) = (Tone::new(437, 8_000), Vec::new());
    for number in 0..100 {
        let frame = tone.frame().map(g711::alaw_encode);
        let bytes = line.packet(&frame);
        said.push(frame);
        if number % 10 != 5 {
            line.scene.receive(&line.talker, &bytes);
        }
        line.scene.tick();
    }
    let heard = line.heard();
    let made: Vec<&Encoded> = heard.iter().filter(|frame| !said.contains(frame)).collect();
    assert!(made.len() >= 10, "{}", made.len());
    let mut codes = made.iter().flat_map(|frame| frame.iter());
    assert!(codes.any(|code| !by_way_of_ulaw[usize::from(*code)]));
}

#[test]
fn linear_audio_at_8_khz_goes_to_and_from_an_agent_of_alaw_with_no_way_by_ulaw() {
    let by_way_of_ulaw = by_way_of_ulaw();
    let mut line = Line::of(Codec::L16, Law::A);
    let (mut tone, mut sung) = (Tone::new(437, 8_000), Vec::new());
    for number in 0..100 {
        let linear = tone.frame();
        sung.push(linear.map(g711::alaw_encode));
        let bytes = line.packet(linear.map(i16::to_be_bytes).as_flattened());
        line.scene.receive(&line.talker, &bytes);
        assert_eq!(line.scene.agent.push_audio(&frame(number)), FRAME_SAMPLES);
        line.scene.tick();
    }
    let heard = line.heard();
    let as_sung: Vec<&Encoded> = heard.iter().filter(|frame| sung.contains(frame)).collect();
    assert!(as_sung.len() > 90, "{}", as_sung.len());
    let mut codes = as_sung.iter().flat_map(|frame| frame.iter());
    assert!(codes.any(|code| !by_way_of_ulaw[usize::from(*code)]));
    let rtp = line.scene.rtp();
    let payloads = rtp.iter().flat_map(|packet| packet.payload.as_chunks::<2>().0);
    let sent: Vec<i16> = payloads.map(|pair| i16::from_be_bytes(*pair)).collect();
    let said: Vec<i16> = (0..8).flat_map(frame).map(g711::alaw_decode).collect();
    assert!(sent.windows(said.len()).any(|part| part == said));
}

#[test]
fn audio_of_16_khz_goes_to_an_agent_of_alaw_with_no_way_by_ulaw() {
    let by_way_of_ulaw = by_way_of_ulaw();
    let mut line = Line::of(Codec::G722, Law::A);
    let (mut tone, mut encoder) = (Tone::new(437, 8_000), g722::Encoder::default());
    for _ in 0..100 {
        let (mut linear, mut payload) = ([0; WIDE_SAMPLES], SILENCE);
        tone.fill(&mut linear);
        encoder.encode(&linear, &mut payload);
        let bytes = line.packet(&payload);
        line.scene.receive(&line.talker, &bytes);
        line.scene.tick();
    }
    let heard = line.heard();
    assert_eq!(heard.len(), 100);
    assert!(heard.iter().flatten().any(|code| !by_way_of_ulaw[usize::from(*code)]));
    let linear: Vec<i16> =
        heard.iter().skip(20).flatten().map(|code| g711::alaw_decode(*code)).collect();
    assert!(share_at(&linear, 874) > 0.95, "{}", share_at(&linear, 874));
}
