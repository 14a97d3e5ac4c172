//! What goes out to the peer: 20 ms in each tick, in its codec, or a key.

use crate::audio::frame::Encoded;
use crate::audio::frame::FRAME_SAMPLES;
use crate::audio::frame::SILENCE;
use crate::audio::g711;
use crate::audio::packed::PackedVoice;
use crate::audio::sound::Sound;
use crate::media::output::Port;
use crate::media::output::TickOutput;
use crate::media::passage::Sending;
use crate::media::session::CLOCK_RATE;
use crate::media::session::MediaSession;
use crate::media::session::written;
use crate::rtp::dtmf_turn;
use crate::rtp::packet::HEADER_BYTES;
use crate::rtp::sender::Sender;
use crate::rtp::srtp::Layer;
use crate::rtp::srtp::Protection;
use crate::sdp::MediaPlan;
use crate::types::codec::Codec;
use crate::types::codec::Law;
use crate::types::codec::PayloadType;
use crate::types::codec::Ptime;
use crate::types::limit::RTP_PACKED_BYTES_MAX;
use crate::types::limit::RTP_PAYLOAD_BYTES_MAX;
use crate::types::moment::Moment;
use std::net::SocketAddr;

/// Payload of a telephone event (RFC 4733 §2.3).
const EVENT_BYTES: usize = 4;

/// How media goes out.
#[derive(Clone, Copy)]
struct WayOut {
    to: SocketAddr,
    codec: Codec,
    payload_type: PayloadType,
    dtmf: Option<PayloadType>,
    ptime: Ptime,
    /// Frames of noise may be among those of a codec that passes.
    annex_b: bool,
}

impl MediaSession {
    /// Sends 20 ms, or lets the time go by. The tone of a key takes the place of what is `said`.
    pub(super) fn send(&mut self, said: &mut Sound, out: &mut TickOutput) {
        let Some(way) = self.way_out() else {
            self.forget_outgoing();
            self.forget_passed_keys();
            self.sender.skip(FRAME_SAMPLES as u32);
            return;
        };
        if let Some(event_type) = way.dtmf
            && self.send_event(way, event_type, out)
        {
            return;
        }
        if way.dtmf.is_none()
            && !self.rules.keys_signalled
            && let Some(tone) = self.next_tone()
        {
            *said = Sound::Law(Law::Mu, tone);
            self.said = (Law::Mu, tone);
        }
        if way.codec.is_passed() {
            return self.send_passed(way, out);
        }
        if way.codec.is_packed() {
            self.send_packed(way, said, out);
            return;
        }
        let frame = self.encode(way.codec, said);
        let samples = way.ptime.samples(CLOCK_RATE) as usize;
        let mut outgoing = self.outgoing.take();
        if let Some(outgoing) = &mut outgoing {
            outgoing.append(&frame);
            while let Some(payload) = outgoing.first(samples) {
                self.send_audio(way, payload, outgoing.length, out);
                outgoing.remove(samples);
            }
        } else {
            for (before, payload) in frame.chunks_exact(samples.max(1)).enumerate() {
                self.send_audio(way, payload, FRAME_SAMPLES - before * samples, out);
            }
        }
        self.outgoing = outgoing;
    }

    /// Sends a packet of audio, of which up to now `rest` was not sent, its own included.
    fn send_audio(&mut self, way: WayOut, payload: &[u8], rest: usize, out: &mut TickOutput) {
        let mut bytes = [0; HEADER_BYTES + RTP_PAYLOAD_BYTES_MAX];
        let samples = payload.len();
        let length = self.sender.audio(way.payload_type, payload, samples as u32, &mut bytes);
        if transmit_rtp(&mut self.protection, way.to, written(&bytes, length), out) {
            Self::tape_sent(&mut self.tape, (way.codec, payload), (rest, samples));
        }
    }

    /// The same in a codec that is encoded packet by packet.
    fn send_packed(&mut self, way: WayOut, said: &Sound, out: &mut TickOutput) {
        self.say_packed(way.codec, said);
        let samples = way.ptime.samples(CLOCK_RATE) as usize;
        while self.send_first_packed(way, samples, 0, out) {}
    }

    /// Sends the first `samples` of what waits, units of 8 kHz; false when there are not so many. `after` them this
    /// tick says more.
    fn send_first_packed(
        &mut self,
        way: WayOut,
        samples: usize,
        after: usize,
        out: &mut TickOutput,
    ) -> bool {
        let factor = if way.codec.is_wide() { 2 } else { 1 };
        let enough = |packed: &&mut Box<PackedVoice>| packed.waits() >= samples * factor;
        let Some(packed) = self.packed.as_mut().filter(enough) else { return false };
        let mut payload = [0; RTP_PACKED_BYTES_MAX];
        let Some(length) = packed.packet(way.codec, samples * factor, &mut payload) else {
            return false;
        };
        let payload = payload.get(..length).filter(|payload| !payload.is_empty());
        let Some(payload) = payload else {
            self.sender.skip(samples as u32);
            return true;
        };
        let rest = packed.waits() / factor + samples + after;
        let mut bytes = [0; HEADER_BYTES + RTP_PACKED_BYTES_MAX];
        let length = self.sender.audio(way.payload_type, payload, samples as u32, &mut bytes);
        if transmit_rtp(&mut self.protection, way.to, written(&bytes, length), out) {
            Self::tape_sent(&mut self.tape, (way.codec, payload), (rest, samples));
        }
        true
    }

    /// The same in a codec that is not encoded here: what the other leg heard, or a pause.
    fn send_passed(&mut self, way: WayOut, out: &mut TickOutput) {
        let passed = self.bridged.as_mut().and_then(|bridged| bridged.take_passed());
        let passed = passed.filter(|_| !self.steered.outward).unwrap_or_default();
        let (sender, protection) = (&mut self.sender, &mut self.protection);
        let Some(passage) = &mut self.passage else { return };
        let longest = way.ptime.samples(CLOCK_RATE) as usize;
        passage.send(&passed, (longest, way.annex_b), |what| {
            send_what(sender, protection, way, what, out);
        });
    }

    /// Sends a packet of a key in place of this tick's audio: one of ours, or one passed on. False: none is due.
    fn send_event(&mut self, way: WayOut, kind: PayloadType, out: &mut TickOutput) -> bool {
        // What waits for its packet to be full is said before a key begins, in a shorter one.
        let waits = self.units_waiting();
        let timestamp = self.sender.timestamp_after(waits as u32);
        let mut relay = self.bridged.as_mut().map(|bridged| bridged.relay());
        if let Some(relay) = &mut relay {
            relay.set_clock(way.codec.clock_factor());
        }
        let event = dtmf_turn::next_packet(&mut self.digits_out, relay, timestamp);
        let Some(event) = event else { return false };
        self.send_waiting(way, out);
        let mut bytes = [0; HEADER_BYTES + EVENT_BYTES];
        let length = self.sender.event(kind, &event, FRAME_SAMPLES as u32, &mut bytes);
        transmit_rtp(&mut self.protection, way.to, written(&bytes, length), out);
        true
    }

    /// Sends what waits for its packet to be full, in a tick that says nothing more.
    fn send_waiting(&mut self, way: WayOut, out: &mut TickOutput) {
        let mut outgoing = self.outgoing.take();
        if let Some(outgoing) = &mut outgoing {
            let waits = outgoing.length;
            if let Some(payload) = outgoing.first(waits) {
                self.send_audio(way, payload, waits + FRAME_SAMPLES, out);
                outgoing.remove(waits);
            }
        }
        self.outgoing = outgoing;
        let waits = self.packed_waiting();
        if waits > 0 {
            self.send_first_packed(way, waits, FRAME_SAMPLES, out);
        }
        let (sender, protection) = (&mut self.sender, &mut self.protection);
        if let Some(passage) = &mut self.passage {
            passage.finish(|what| send_what(sender, protection, way, what, out));
        }
    }

    /// Ends the key that goes out if `plan` leaves it no stream: another clock, other keys or another peer begin another
    /// one (RFC 7160 §4.1), a hold ends it. Its end is said by the one in which it began (RFC 4733 §2.5.1.4), at once, for
    /// that is over. To be called before [`Self::update`], which ends it unsaid.
    pub fn finish_key(&mut self, plan: &MediaPlan, out: &mut TickOutput) {
        if !self.keeps_stream(plan) {
            self.end_key(out);
        }
    }

    /// Whether what goes out by the plan of now goes on by another: a key, too.
    pub(super) fn keeps_stream(&self, plan: &MediaPlan) -> bool {
        let Some(before) = &self.plan else { return true };
        let same_keys = match (&before.crypto, &plan.crypto) {
            (Some(before), Some(after)) => before.send == after.send,
            (Some(_) | None, Some(_) | None) => true,
        };
        same_keys
            && !self.begins_stream(plan)
            && before.codec.clock_factor() == plan.codec.clock_factor()
            && before.dtmf_send.is_some() == plan.dtmf_send.is_some()
            && (plan.direction.sends() || !before.direction.sends())
    }

    /// Says the end of the key that goes out, where one does.
    pub(super) fn end_key(&mut self, out: &mut TickOutput) {
        let way = self.way_out();
        let relay = self.bridged.as_mut().map(|bridged| bridged.relay());
        let Some((event, times)) = dtmf_turn::break_off(&mut self.digits_out, relay) else {
            return;
        };
        let Some((way, kind)) = way.and_then(|way| Some((way, way.dtmf?))) else { return };
        for _ in 0..times {
            let mut bytes = [0; HEADER_BYTES + EVENT_BYTES];
            // No time goes by between them.
            let length = self.sender.event(kind, &event, 0, &mut bytes);
            transmit_rtp(&mut self.protection, way.to, written(&bytes, length), out);
        }
    }

    /// Gives up the key that goes out, if any: its stream is gone, and nobody need be told.
    pub(super) fn drop_key(&mut self) {
        let relay = self.bridged.as_mut().map(|bridged| bridged.relay());
        dtmf_turn::break_off(&mut self.digits_out, relay);
    }

    fn say_packed(&mut self, codec: Codec, said: &Sound) {
        let Some(packed) = &mut self.packed else { return };
        match (&mut self.wide, codec.is_wide(), said) {
            (Some(wide), true, _) => {
                let (samples, narrow) = wide.widen(said);
                packed.say(&samples);
                if let Sound::Wide(_) = said {
                    g711::encode(self.said.0, &narrow, &mut self.said.1);
                }
            }
            // What an agent had queued when the peer changed to a codec of 8 kHz.
            (Some(wide), false, Sound::Wide(samples)) => {
                let narrow = wide.narrow_said(samples);
                packed.say(&narrow);
                g711::encode(self.said.0, &narrow, &mut self.said.1);
            }
            (_, false, Sound::Law(law, frame)) => {
                let mut narrow = [0; FRAME_SAMPLES];
                g711::decode(*law, frame, &mut narrow);
                packed.say(&narrow);
            }
            (None, false, Sound::Wide(_)) => {
                let mut narrow = [0; FRAME_SAMPLES];
                g711::decode(Law::Mu, &said.as_law(Law::Mu), &mut narrow);
                packed.say(&narrow);
            }
            // Who has such a plan is equipped for it.
            (None, true, _) => (),
        }
    }

    /// 20 ms as they go out.
    fn encode(&mut self, codec: Codec, said: &Sound) -> Encoded {
        match (codec.law(), &mut self.wide, said) {
            // What an agent had queued when the peer changed to a codec of 8 kHz.
            (Some(law), Some(wide), Sound::Wide(samples)) => {
                let mut encoded = SILENCE;
                g711::encode(law, &wide.narrow_said(samples), &mut encoded);
                self.said = (law, encoded);
                encoded
            }
            (Some(law), ..) => said.as_law(law),
            (None, Some(wide), _) => {
                let (encoded, narrow) = wide.encode(said);
                if let Sound::Wide(_) = said {
                    g711::encode(self.said.0, &narrow, &mut self.said.1);
                }
                encoded
            }
            // Who has such a plan is equipped for it.
            (None, None, _) => SILENCE,
        }
    }

    /// What waits for its packet to be full is not sent.
    pub(super) fn forget_outgoing(&mut self) {
        let waiting = self.take_waiting();
        if waiting > 0 {
            self.sender.skip(waiting as u32);
        }
    }

    /// Who holds us hears of the other side neither what it says meanwhile nor its keys, and none of that afterwards.
    fn forget_passed_keys(&mut self) {
        let holds = self.plan.as_ref().is_some_and(|plan| !plan.direction.sends());
        if let Some(bridged) = self.bridged.as_mut().filter(|_| holds) {
            bridged.relay().forget();
        }
    }

    /// How much waits for its packet to be full, in units of 8 kHz.
    fn units_waiting(&self) -> usize {
        let passes = self.passage.as_ref().map_or(0, |passage| passage.units_waiting());
        self.audio_waiting() + self.packed_waiting() + passes
    }

    /// The same of a codec of as many bytes as samples.
    fn audio_waiting(&self) -> usize {
        self.outgoing.as_ref().map_or(0, |outgoing| outgoing.length)
    }

    /// The same of a codec that is encoded packet by packet.
    fn packed_waiting(&self) -> usize {
        let factor = if self.codec().is_wide() { 2 } else { 1 };
        self.packed.as_ref().map_or(0, |packed| packed.waits() / factor)
    }

    /// The same, which waits no longer.
    fn take_waiting(&mut self) -> usize {
        let waited = self.units_waiting();
        if let Some(outgoing) = &mut self.outgoing {
            outgoing.length = 0;
        }
        if let Some(packed) = &mut self.packed {
            packed.forget_waiting();
        }
        if let Some(passage) = &mut self.passage {
            passage.forget_waiting();
        }
        waited
    }

    /// Where all media of the peer comes from, as far as that is certain: nobody may take over from it now.
    #[must_use]
    pub fn sole_source(&self, now: Moment) -> Option<SocketAddr> {
        self.source.sole(now)
    }

    /// How media goes out, if any may.
    fn way_out(&self) -> Option<WayOut> {
        let plan = self.plan.as_ref().filter(|plan| self.started && plan.direction.sends())?;
        Some(WayOut {
            to: self.source.destination()?,
            codec: plan.codec,
            payload_type: plan.send_payload_type,
            dtmf: plan.dtmf_send.filter(|_| !self.rules.keys_signalled),
            ptime: plan.ptime,
            annex_b: plan.annex_b,
        })
    }
}

/// Does what becomes of a stream whose codec only passes.
fn send_what(
    sender: &mut Sender,
    protection: &mut Protection,
    way: WayOut,
    what: Sending<'_>,
    out: &mut TickOutput,
) {
    match what {
        Sending::Packet(payload, units) => {
            let mut bytes = [0; HEADER_BYTES + RTP_PAYLOAD_BYTES_MAX];
            let length = sender.audio(way.payload_type, payload, units as u32, &mut bytes);
            transmit_rtp(protection, way.to, written(&bytes, length), out);
        }
        Sending::Hole => sender.leave_hole(),
        Sending::Missing(units) => sender.miss(units as u32),
        Sending::Pause(units) => sender.skip(units as u32),
    }
}

/// Sends a packet, encrypted where that was agreed. One that cannot be is not sent.
fn transmit_rtp(
    protection: &mut Protection,
    to: SocketAddr,
    bytes: &[u8],
    out: &mut TickOutput,
) -> bool {
    let protected = protection.send(Layer::Rtp, bytes);
    protected.is_ok_and(|bytes| out.transmit(Port::Rtp, to, &bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::bridge::BridgeEnd;
    use crate::audio::bridge::BridgeItem;
    use crate::audio::bridge::BridgeKey;
    use crate::media::event::MediaEvent;
    use crate::media::session::Bridged;
    use crate::media::session::tests::PEER;
    use crate::media::session::tests::Scene;
    use crate::media::session::tests::Talker;
    use crate::media::session::tests::at;
    use crate::rtp::packet::RtpPacket;
    use crate::sdp::Direction;

    fn plan(codec: Codec, ptime_ms: u8) -> MediaPlan {
        MediaPlan {
            codec,
            send_payload_type: codec.payload_type(),
            receive_payload_type: codec.payload_type(),
            dtmf_clock: codec.clock_rate(),
            ptime: codec.fitting(Ptime::from_ms(ptime_ms).expect("a packet time")),
            ..MediaPlan::for_test(at(PEER))
        }
    }

    /// A packet of a key.
    #[derive(Clone, Copy, Debug)]
    struct Event {
        ssrc: u32,
        timestamp: u32,
        key: u8,
        marker: bool,
        end: bool,
        duration: u16,
    }

    fn events(scene: &Scene) -> Vec<Event> {
        let packets = scene.rtp();
        let of_keys = packets.iter().filter(|packet| packet.payload_type.get() == 101);
        let read = of_keys.map(|packet| {
            let [key, flags, high, low] = *packet.payload else { panic!("{packet:?}") };
            Event {
                ssrc: packet.ssrc,
                timestamp: packet.timestamp,
                key,
                marker: packet.marker,
                end: flags & 0x80 != 0,
                duration: u16::from_be_bytes([high, low]),
            }
        });
        read.collect()
    }

    /// The keys that were told, each with its length, none of which begins before the one before was ended.
    fn told(scene: &Scene) -> Vec<(u8, u16)> {
        let mut told: Vec<(u8, u16)> = Vec::new();
        let mut before: Option<Event> = None;
        for event in events(scene) {
            match before.filter(|before| before.timestamp == event.timestamp) {
                Some(before) => {
                    assert!(!event.marker && event.key == before.key, "{event:?}");
                    assert!(event.duration >= before.duration && event.end >= before.end);
                }
                None => {
                    assert!(before.is_none_or(|before| before.end), "{before:?} {event:?}");
                    assert!(event.marker, "{event:?}");
                    told.push((event.key, 0));
                }
            }
            told.last_mut().expect("one").1 = event.duration;
            before = Some(event);
        }
        assert!(before.is_none_or(|before| before.end), "{before:?}");
        told
    }

    fn press(speaker: &mut BridgeEnd, scene: &mut Scene, ticks: std::ops::Range<u32>, up: bool) {
        let end = ticks.end;
        for down in ticks.map(|tick| tick + 1) {
            let (samples, released) = (down * 160, up && down == end);
            speaker.say(BridgeItem::Key(BridgeKey { press: 1, digit: '5', samples, released }));
            scene.tick();
        }
    }

    #[test]
    fn a_key_of_ours_waits_for_the_end_of_one_that_is_passed_on_and_that_for_ours() {
        for waits in [0, 1, 5, 9] {
            let mut scene = Scene::new(plan(Codec::Pcmu, 20));
            let (mut speaker, listener) = BridgeEnd::one_way();
            drop(scene.session.bridge(Bridged::new(listener)));
            press(&mut speaker, &mut scene, 0..waits, false);
            assert!(scene.session.send_digit('9') && scene.session.send_digit('8'));
            press(&mut speaker, &mut scene, waits..10, true);
            scene.ticks(60);
            let mut told = told(&scene);
            told.sort_unstable();
            assert_eq!(told, [(5, 1_600), (8, 960), (9, 960)], "{waits}");
        }
    }

    #[test]
    fn a_key_that_is_passed_on_is_ended_when_its_bridge_is() {
        let mut scene = Scene::new(plan(Codec::Pcmu, 20));
        let (mut speaker, listener) = BridgeEnd::one_way();
        drop(scene.session.bridge(Bridged::new(listener)));
        press(&mut speaker, &mut scene, 0..4, false);
        drop(scene.session.unbridge());
        scene.ticks(10);
        let told = told(&scene);
        assert!(matches!(told[..], [(5, 480..=640)]), "{told:?}");
        assert_eq!(events(&scene).iter().filter(|event| event.end).count(), 3);
    }

    #[test]
    fn a_key_is_ended_by_the_stream_in_which_it_began() {
        let opus = plan(Codec::Opus, 20);
        let held = MediaPlan { direction: Direction::Inactive, ..plan(Codec::Pcmu, 20) };
        let deaf = MediaPlan { dtmf_send: None, ..plan(Codec::Pcmu, 20) };
        for next in [Some(opus), Some(held), Some(deaf), None] {
            for ticks in [1, 3, 6, 7] {
                let mut scene = Scene::new(plan(Codec::Pcmu, 20));
                scene.ticks(5);
                assert!(scene.session.send_digit('7') && scene.session.send_digit('8'));
                scene.ticks(ticks);
                let before = scene.session.sender.ssrc();
                if let Some(next) = &next {
                    scene.session.finish_key(next, &mut scene.out);
                    scene.perform();
                    scene.session.update(scene.now, next, &mut scene.out);
                } else {
                    // Its peer happens to use the same SSRC.
                    let mut talker = Talker::new(PEER, before);
                    let bytes = talker.audio(&[0; 160]);
                    scene.receive(&talker, &bytes);
                    scene.perform();
                }
                let events = events(&scene);
                let case = format!("{next:?} {ticks} {events:?}");
                let begun = events.iter().filter(|event| event.timestamp == events[0].timestamp);
                assert!(events.iter().all(|event| event.ssrc == before), "{case}");
                let last = events.last().expect("an end");
                assert_eq!(begun.filter(|event| event.end).count(), 3, "{case}");
                assert_eq!(usize::from(last.duration), (ticks * 160).clamp(320, 960), "{case}");
                scene.sent.clear();
                scene.ticks(10);
                let rtp = scene.rtp();
                let same = scene.session.sender.ssrc() == before;
                assert_eq!(same, next.as_ref().is_some_and(|next| next.codec == Codec::Pcmu));
                assert!(same || rtp.first().is_some_and(|first| first.marker));
                assert!(rtp.iter().all(|packet| (packet.ssrc == before) == same));
            }
        }
        // The next key goes out by the new stream, by its clock.
        let mut scene = Scene::new(plan(Codec::Pcmu, 20));
        assert!(scene.session.send_digit('7') && scene.session.send_digit('8'));
        scene.ticks(3);
        let opus = plan(Codec::Opus, 20);
        scene.session.finish_key(&opus, &mut scene.out);
        scene.session.update(scene.now, &opus, &mut scene.out);
        scene.ticks(20);
        assert_eq!(told(&scene), [(7, 480), (8, 5_760)]);
    }

    #[test]
    fn a_key_begins_when_it_is_pressed_and_what_waited_is_said_before() {
        for codec in [Codec::Pcmu, Codec::G722, Codec::L16, Codec::L16Wide, Codec::Opus] {
            for (ptime_ms, ticks) in [(30, 4), (30, 5), (40, 5), (60, 4), (60, 5), (60, 6)] {
                let mut scene = Scene::new(plan(codec, ptime_ms));
                scene.ticks(ticks);
                assert!(scene.session.send_digit('5'));
                scene.ticks(30);
                let (rtp, units) = (scene.rtp(), 160 * codec.clock_factor());
                let case = format!("{codec} {ptime_ms} {ticks}");
                let began = rtp[0].timestamp.wrapping_add(ticks as u32 * units);
                let events = events(&scene);
                assert!(events.iter().all(|event| event.timestamp == began), "{case}");
                assert_eq!(told(&scene), [(5, (units * 6) as u16)], "{case}");
                // Nothing is missing between one packet and the next.
                let audio = |packet: &&RtpPacket<'_>| packet.payload_type.get() != 101;
                let first = rtp.iter().position(|packet| !audio(&packet)).expect("a key");
                let longest = plan(codec, ptime_ms).ptime.samples(codec.clock_rate());
                let last = rtp[first - 1].timestamp;
                assert!((1..=longest).contains(&began.wrapping_sub(last)), "{case}");
                let after = rtp.iter().skip(first).find(audio).expect("audio");
                let due = began.wrapping_add(8 * units);
                assert_eq!((after.timestamp, after.marker), (due, false), "{case}");
                for pair in rtp.windows(2) {
                    assert_eq!(pair[1].sequence, pair[0].sequence.wrapping_add(1), "{case}");
                }
            }
        }
    }

    #[test]
    fn a_key_within_which_ticks_are_left_out_lasts_no_longer_nor_shorter() {
        for skipped in [1, 4, 30] {
            let mut scene = Scene::new(plan(Codec::Pcmu, 20));
            scene.ticks(5);
            assert!(scene.session.send_digit('5'));
            scene.ticks(2);
            scene.session.skip(skipped);
            scene.ticks(20);
            assert_eq!(told(&scene), [(5, 960)], "{skipped}");
            let events = events(&scene).len() as u64;
            assert_eq!(events, 8 - skipped.min(3), "{skipped}: the time that was left out counts");
            let rtp = scene.rtp();
            let marked = rtp.iter().enumerate().filter(|(_, packet)| packet.marker);
            let marked: Vec<_> = marked.map(|(at, _)| at).collect();
            assert_eq!(marked, [0, 5, 5 + events as usize], "{skipped}: and is a gap");
        }
    }

    #[test]
    fn keys_have_the_clock_of_their_stream_whatever_the_peer_calls_it() {
        let mut scene = Scene::new(MediaPlan { dtmf_clock: 8_000, ..plan(Codec::Opus, 20) });
        assert!(scene.session.send_digit('5'));
        scene.ticks(20);
        assert_eq!(told(&scene), [(5, 5_760)]);
        scene.sent.clear();
        let (mut speaker, listener) = BridgeEnd::one_way();
        drop(scene.session.bridge(Bridged::new(listener)));
        press(&mut speaker, &mut scene, 0..10, true);
        scene.ticks(5);
        assert_eq!(told(&scene), [(5, 9_600)], "nor that of who passes it on");
        drop(scene.session.unbridge());
        // What it says itself is what it calls it.
        let mut talker = Talker::new(PEER, 7);
        for down in 1..=6 {
            let bytes = talker.event(3, down * 160, down == 6);
            scene.receive(&talker, &bytes);
            scene.tick();
        }
        assert_eq!(scene.session.statistics().digits, 1);
        let heard = |event: &&MediaEvent| {
            matches!(event, MediaEvent::Digit { digit: '3', duration_ms: 120 })
        };
        assert_eq!(scene.events.iter().filter(heard).count(), 1, "{:?}", scene.events);
    }
}
