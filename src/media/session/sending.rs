//! What goes out to the peer: 20 ms in each tick, in its codec, or a key.

use crate::audio::frame::Encoded;
use crate::audio::frame::FRAME_SAMPLES;
use crate::audio::frame::SILENCE;
use crate::audio::g711;
use crate::audio::sound::Sound;
use crate::media::output::Port;
use crate::media::output::TickOutput;
use crate::media::passage::Sending;
use crate::media::session::CLOCK_RATE;
use crate::media::session::MediaSession;
use crate::media::session::written;
use crate::rtp::dtmf::EventPacket;
use crate::rtp::packet::HEADER_BYTES;
use crate::rtp::srtp::Layer;
use crate::rtp::srtp::Protection;
use crate::types::codec::Codec;
use crate::types::codec::Law;
use crate::types::codec::PayloadType;
use crate::types::codec::Ptime;
use crate::types::limit::RTP_PACKED_BYTES_MAX;
use crate::types::limit::RTP_PAYLOAD_BYTES_MAX;
use crate::types::moment::Moment;
use std::net::SocketAddr;

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
    /// Sends 20 ms, or lets the time go by.
    pub(super) fn send(&mut self, mut said: Sound, out: &mut TickOutput) {
        let Some(way) = self.way_out() else {
            self.forget_outgoing();
            self.sender.skip(FRAME_SAMPLES as u32);
            return;
        };
        if let Some(event_type) = way.dtmf
            && let Some(event) = self.next_event()
        {
            let mut bytes = [0; HEADER_BYTES + RTP_PAYLOAD_BYTES_MAX];
            let samples = (FRAME_SAMPLES + self.take_waiting()) as u32;
            let length = self.sender.event(event_type, &event, samples, &mut bytes);
            transmit_rtp(&mut self.protection, way.to, written(&bytes, length), out);
            return;
        }
        if way.dtmf.is_none()
            && !self.rules.keys_signalled
            && let Some(tone) = self.next_tone()
        {
            said = Sound::Law(Law::Mu, tone);
        }
        if way.codec.is_passed() {
            return self.send_passed(way, out);
        }
        if way.codec.is_packed() {
            self.send_packed(way, &said, out);
            return;
        }
        let frame = self.encode(way.codec, &said);
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
        let factor = if way.codec.is_wide() { 2 } else { 1 };
        let samples = way.ptime.samples(CLOCK_RATE);
        let mut payload = [0; RTP_PACKED_BYTES_MAX];
        let mut bytes = [0; HEADER_BYTES + RTP_PACKED_BYTES_MAX];
        while let Some(packed) = &mut self.packed
            && let Some(length) = packed.packet(way.codec, samples as usize * factor, &mut payload)
        {
            let payload = payload.get(..length).filter(|payload| !payload.is_empty());
            let Some(payload) = payload else {
                self.sender.skip(samples);
                continue;
            };
            let rest = packed.waits() / factor + samples as usize;
            let length = self.sender.audio(way.payload_type, payload, samples, &mut bytes);
            if transmit_rtp(&mut self.protection, way.to, written(&bytes, length), out) {
                let sent = (way.codec, payload);
                Self::tape_sent(&mut self.tape, sent, (rest, samples as usize));
            }
        }
    }

    /// The same in a codec that is not encoded here: what the other leg heard, or a pause.
    fn send_passed(&mut self, way: WayOut, out: &mut TickOutput) {
        let passed = self.bridged.as_mut().and_then(|bridged| bridged.take_passed());
        let passed = passed.filter(|_| !self.steered.outward).unwrap_or_default();
        let (sender, protection) = (&mut self.sender, &mut self.protection);
        let Some(passage) = &mut self.passage else { return };
        let longest = way.ptime.samples(CLOCK_RATE) as usize;
        let mut bytes = [0; HEADER_BYTES + RTP_PAYLOAD_BYTES_MAX];
        passage.send(&passed, (longest, way.annex_b), |what| match what {
            Sending::Packet(payload, units) => {
                let length = sender.audio(way.payload_type, payload, units as u32, &mut bytes);
                transmit_rtp(protection, way.to, written(&bytes, length), out);
            }
            Sending::Hole => sender.leave_hole(),
            Sending::Missing(units) => sender.miss(units as u32),
            Sending::Pause(units) => sender.skip(units as u32),
        });
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
            (_, false, _) => {
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

    /// How much waited for its packet to be full, in units of 8 kHz. It waits no longer.
    fn take_waiting(&mut self) -> usize {
        let outgoing = self.outgoing.as_mut();
        let mut waited = outgoing.map_or(0, |outgoing| std::mem::take(&mut outgoing.length));
        if let Some(packed) = &mut self.packed {
            let factor =
                if self.plan.as_ref().is_some_and(|plan| plan.codec.is_wide()) { 2 } else { 1 };
            waited += packed.waits() / factor;
            packed.forget_waiting();
        }
        if let Some(passage) = &mut self.passage {
            waited += passage.units_waiting();
            passage.forget_waiting();
        }
        waited
    }

    /// The next packet of a key: one of ours, or one passed on.
    fn next_event(&mut self) -> Option<EventPacket> {
        let timestamp = self.sender.timestamp();
        let factor = self.plan.as_ref().map_or(1, |plan| plan.dtmf_clock / CLOCK_RATE);
        let relay = self.bridged.as_mut().map(|bridged| bridged.relay());
        match relay.filter(|_| !self.digits_out.is_busy()) {
            Some(relay) if relay.is_busy() => {
                relay.set_clock(factor);
                relay.tick(timestamp)
            }
            Some(_) | None => self.digits_out.tick(timestamp),
        }
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
