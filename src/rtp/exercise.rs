//! What a fuzzer does with a run of datagrams: everything a peer can make us do with them.

use std::time::Duration;

use crate::rtp::classify::Datagram;
use crate::rtp::classify::classify;
use crate::rtp::dtmf;
use crate::rtp::jitter::Content;
use crate::rtp::jitter::FRAME_BYTES;
use crate::rtp::jitter::Frame;
use crate::rtp::jitter::JitterBuffer;
use crate::rtp::jitter::JitterConfig;
use crate::rtp::jitter::JitterRoom;
use crate::rtp::jitter::Step;
use crate::rtp::packet::RtpPacket;
use crate::rtp::payloads::Payloads;
use crate::rtp::receiver::Receiver;
use crate::rtp::rtcp::Compound;
use crate::rtp::rtcp::RtcpPacket;
use crate::rtp::sender::Sender;
use crate::rtp::srtp::Layer;
use crate::rtp::srtp::Protection;
use crate::types::codec::Codec;
use crate::types::moment::Moment;
use crate::types::srtp::Mki;
use crate::types::srtp::SRTP_KEY_BYTES_MAX;
use crate::types::srtp::SrtpKey;
use crate::types::srtp::SrtpSuite;

/// Takes `data` as datagrams, each after a byte with its length and one with the time before it (in
/// 4 ms), and lets 20 ms ticks pass between them.
///
/// # Panics
/// When an invariant is broken: each tick gives out 20 ms, no more and no less, and no room for payloads is kept for good.
pub fn exercise(mut data: &[u8]) {
    let mut session = Session::new();
    while let [length, wait, rest @ ..] = data {
        let (datagram, rest) = rest.split_at_checked(usize::from(*length)).unwrap_or((rest, &[]));
        session.wait(Duration::from_millis(u64::from(*wait) * 4));
        session.take(datagram);
        data = rest;
    }
    session.wait(Duration::from_millis(100));
    session.check();
}

/// A jitter buffer for every codec.
fn roomy() -> JitterBuffer {
    let mut jitter = JitterBuffer::new(JitterConfig { depth_ms: 40, codec: Codec::Pcmu });
    jitter.equip(JitterRoom::default());
    jitter
}

fn protection(suite: SrtpSuite) -> Protection {
    let mut key = SrtpKey::generate(suite, &[7; SRTP_KEY_BYTES_MAX]);
    key.mki = (suite == SrtpSuite::AesCm128HmacSha1_32).then_some(Mki { value: 1, length: 2 });
    let mut protection = Protection::Plain;
    protection.update(Moment::START, Some((&key, &key)));
    protection
}

struct Session {
    now: Moment,
    next_tick: Moment,
    ticks: u64,
    jitter: JitterBuffer,
    payloads: Payloads,
    receiver: Receiver,
    digits: dtmf::Receiver,
    sender: Sender,
    protections: Vec<Protection>,
}

impl Session {
    fn new() -> Self {
        Self {
            now: Moment::START,
            next_tick: Moment::START,
            ticks: 0,
            jitter: roomy(),
            payloads: Payloads::with_room_for(1),
            receiver: Receiver::new(8000),
            digits: dtmf::Receiver::new(8000),
            sender: Sender::new(1),
            protections: SrtpSuite::ALL.into_iter().map(protection).collect(),
        }
    }

    fn wait(&mut self, duration: Duration) {
        self.now += duration;
        while self.next_tick <= self.now {
            self.digits.expire(self.next_tick, |_| ());
            self.play();
            self.ticks += 1;
            self.next_tick += Duration::from_millis(20);
        }
    }

    /// What a session does that takes every other frame for silence.
    fn play(&mut self) {
        if self.ticks.is_multiple_of(2) && self.jitter.wants_more(self.next_tick) {
            self.jitter.stretch();
            return;
        }
        let given = self.jitter.pop(self.next_tick, &mut self.payloads);
        match given {
            Frame::Audio(audio) => assert_eq!(audio.len(), FRAME_BYTES),
            Frame::Mixed(audio, parts) => {
                assert_eq!(audio.len(), FRAME_BYTES);
                let samples: usize = parts.all().iter().map(|part| usize::from(part.samples)).sum();
                assert_eq!(samples, FRAME_BYTES, "parts are whole");
            }
            Frame::Missing | Frame::Quiet | Frame::Empty => (),
        }
        self.unpack();
        if self.ticks.is_multiple_of(2) && self.jitter.wants_less() {
            let _instead = self.jitter.instead(&mut self.payloads);
        }
    }

    /// What is to be decoded packet by packet is no more than a frame, and all of it is there.
    fn unpack(&self) {
        let Some(desk) = self.jitter.desk() else { return };
        let mut heard = 0;
        for step in desk.steps() {
            match step {
                Step::Packet { bytes, .. } => assert!(!desk.bytes(bytes).is_empty()),
                Step::Play(units) | Step::Quiet(units) => heard += usize::from(*units),
                Step::Missing { units, next } => {
                    heard += usize::from(*units);
                    let next = next.as_ref().map(|(bytes, ..)| desk.bytes(bytes));
                    assert!(next.is_none_or(|bytes| !bytes.is_empty()));
                }
                Step::Drop(_) | Step::Forget => (),
            }
        }
        assert!(heard <= FRAME_BYTES, "{:?}", desk.steps());
    }

    fn take(&mut self, datagram: &[u8]) {
        for protection in &mut self.protections {
            // Nobody but its owner can make a packet that a key believes.
            assert!(protection.receive(self.now, Layer::Rtp, datagram).is_err());
            assert!(protection.receive(self.now, Layer::Rtcp, datagram).is_err());
        }
        match classify(datagram) {
            Datagram::Rtcp => self.take_rtcp(datagram),
            _ => {
                let Ok(packet) = RtpPacket::parse(datagram) else { return };
                let is_event = packet.payload_type.get() == 101;
                let content = if is_event { Content::Other } else { Content::Audio };
                self.receiver.receive(self.now, &packet, content);
                let of_type = |codec: &Codec| codec.payload_type() == packet.payload_type;
                let codec = Codec::ALL.into_iter().find(of_type).unwrap_or(Codec::Pcmu);
                if packet.marker {
                    self.jitter.expect_another();
                }
                self.jitter.expect(codec);
                self.jitter.push(self.now, &packet, content, &mut self.payloads);
                if is_event {
                    self.digits.receive(self.now, &packet, |_| ());
                }
            }
        }
    }

    fn take_rtcp(&mut self, datagram: &[u8]) {
        for packet in Compound::new(datagram) {
            let blocks = match packet {
                RtcpPacket::SenderReport { ssrc, info, blocks } => {
                    self.receiver.sender_report(self.now, ssrc, info.ntp);
                    blocks
                }
                RtcpPacket::ReceiverReport { blocks, .. } => blocks,
                RtcpPacket::Extended(blocks) => {
                    for metrics in blocks.voip_metrics() {
                        let told = metrics.quality();
                        assert!(told.rating.is_none_or(|rating| rating <= 100.0));
                    }
                    continue;
                }
                RtcpPacket::Goodbye { .. } | RtcpPacket::Other(_) => continue,
            };
            for block in blocks {
                self.sender.reported(self.now, &block);
            }
        }
        self.receiver.report(self.now);
    }

    fn check(&mut self) {
        let statistics = self.jitter.statistics();
        let out = statistics.played_samples + statistics.missing_samples + statistics.quiet_samples;
        assert_eq!(out, self.ticks * FRAME_BYTES as u64, "each tick gives out 20 ms");
        self.jitter.let_go(&mut self.payloads);
        assert_eq!(self.payloads.lent(), 0, "all goes back");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::random::Random;

    #[test]
    fn random_and_mutated_datagrams_keep_the_invariants() {
        for seed in 0..400 {
            let mut random = Random::from_seed(seed);
            let mut data = Vec::new();
            let (mut sequence, mut timestamp) = (random.next_u32() as u16, random.next_u32());
            for _ in 0..60 {
                let mut datagram = vec![
                    0x80,
                    [0, 9, 101, 111, 113, 239, 200, 201, 203, 207][random.below(10) as usize],
                ];
                sequence = sequence.wrapping_add(random.below(4) as u16);
                timestamp = timestamp.wrapping_add(random.below(320) as u32);
                datagram.extend(sequence.to_be_bytes());
                datagram.extend(timestamp.to_be_bytes());
                datagram.extend([0, 0, 0, random.below(2) as u8]);
                datagram.resize(12 + random.below(180) as usize, 3);
                if random.below(3) == 0 {
                    let at = random.below(datagram.len() as u64) as usize;
                    datagram[at] = random.next_u32() as u8;
                }
                data.extend([datagram.len() as u8, random.below(12) as u8]);
                data.extend(datagram);
            }
            exercise(&data);
        }
        exercise(&[]);
        exercise(&[255, 255, 0x80]);
    }
}
