//! What arrives of the peer: what each packet is, and in which figures it counts.

use crate::media::pace::TICK;
use crate::media::session::MediaSession;
use crate::rtp::jitter::Content;
use crate::rtp::jitter::JitterBuffer;
use crate::rtp::packet::RtpPacket;
use crate::rtp::payloads::Payloads;
use crate::sdp::MediaPlan;
use crate::types::codec::Codec;
use crate::types::moment::Moment;

/// Static payload type of comfort noise (RFC 3389).
const COMFORT_NOISE: u8 = 13;

/// What a packet is by its payload type.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    Audio(Codec),
    /// A telephone event, of a clock of so many Hz.
    Event(u32),
    Pause,
    Unexpected,
}

impl Kind {
    pub(super) fn of(plan: &MediaPlan, packet: &RtpPacket<'_>) -> Self {
        if let Some(codec) = plan.receive_codec(packet.payload_type) {
            Self::Audio(codec)
        } else if plan.dtmf_receive == Some(packet.payload_type) {
            Self::Event(plan.dtmf_clock)
        } else if packet.payload_type.get() == COMFORT_NOISE {
            Self::Pause
        } else {
            Self::Unexpected
        }
    }
}

impl MediaSession {
    /// Audio waits as what it came as, so that a bridge can pass it on like that.
    pub(super) fn take_audio(
        &mut self,
        now: Moment,
        packet: &RtpPacket<'_>,
        codec: Codec,
        payloads: &mut Payloads,
    ) {
        if !self.is_equipped_for(codec) {
            return self.count_unexpected(now, packet, payloads);
        }
        if JitterBuffer::is_followed_by_pause(codec, packet.payload.len()) {
            self.judge.pausing = true;
        }
        self.jitter.expect(codec);
        self.receiver.set_clock(codec.clock_rate());
        self.count(now, packet, Content::Audio, payloads);
    }

    /// Counts a packet that nobody is to hear, since there is a hold: it came, and is not lost.
    pub(super) fn count_unheard(&mut self, now: Moment, packet: &RtpPacket<'_>, kind: Kind) {
        let content = match kind {
            Kind::Audio(codec) => {
                self.receiver.set_clock(codec.clock_rate());
                Content::Audio
            }
            Kind::Event(_) => Content::Other,
            Kind::Pause => Content::Noise,
            Kind::Unexpected if self.receiver.ssrc() != Some(packet.ssrc) => return,
            Kind::Unexpected => Content::Other,
        };
        self.receiver.receive(now, packet, content);
    }

    /// Counts a packet whose payload nobody understands. In the peer's stream it has a number, as those have by
    /// which a way is kept open (RFC 6263 §4.6); in another it begins nothing.
    pub(super) fn count_unexpected(
        &mut self,
        now: Moment,
        packet: &RtpPacket<'_>,
        payloads: &mut Payloads,
    ) {
        self.counters.unexpected += 1;
        if self.receiver.ssrc() == Some(packet.ssrc) {
            self.count(now, packet, Content::Other, payloads);
        }
    }

    /// The extended number of the peer's newest packet, where that is audio, of which one holds a tick at least: of those,
    /// no tick needs two. `None`: that is not so (with a key's event, what is said beside may come right behind it), or not
    /// known yet.
    #[must_use]
    pub fn newest_of_ticks(&self) -> Option<u64> {
        let holds_a_tick = u128::from(self.receiver.packet_us()) >= TICK.as_micros();
        self.receiver.newest_audio().filter(|_| holds_a_tick)
    }

    pub(super) fn count(
        &mut self,
        now: Moment,
        packet: &RtpPacket<'_>,
        content: Content,
        payloads: &mut Payloads,
    ) {
        self.receiver.receive(now, packet, content);
        self.jitter.push(now, packet, content, payloads);
    }
}
