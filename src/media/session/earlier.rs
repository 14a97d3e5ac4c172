//! What a peer says by the plan before, since it cannot know of the new one yet.
//!
//! Who changes the codec goes on in the old one until it has the answer (RFC 3264 §8.3.2): for a round trip, and for half a
//! second more whenever the answer is lost and sent again. All that needs is kept by the session anyway: decoders,
//! and room in the jitter buffer, which knows the codec of each packet.

use crate::media::session::CLOCK_RATE;
use crate::media::session::MediaSession;
use crate::media::session::arriving::Kind;
use crate::rtp::packet::RtpPacket;
use crate::sdp::MediaPlan;
use crate::types::codec::Codec;
use crate::types::codec::PayloadType;

/// For how long a peer may go on by the plan before while nothing says that it knows of the new one: 5 s.
const TICKS_MAX: u8 = 250;
/// The same once it speaks by the new one, of what is late on its way, and where only events have another number: 1 s.
const TICKS_LATE: u8 = 50;

/// What came by the plan before. Bytes only, as every session has room for it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Earlier {
    audio: (PayloadType, Codec),
    also: Option<(PayloadType, Codec)>,
    /// The number of telephone events, and units of their clock in one of 8 kHz.
    events: Option<(PayloadType, u8)>,
    /// Ticks for which it may still come.
    ticks: u8,
}

impl Earlier {
    /// What may still come by the plan `before`; `None`: nothing of it that `plan` has not.
    fn of(before: &MediaPlan, plan: &MediaPlan) -> Option<Self> {
        let audio = (before.receive_payload_type, before.codec);
        let has = |(number, codec): (PayloadType, Codec)| plan.receive_codec(number) == Some(codec);
        let has_audio = has(audio) && before.receive_also.is_none_or(has);
        let has_events = before.dtmf_receive.is_none() || before.dtmf_receive == plan.dtmf_receive;
        if has_audio && has_events {
            return None;
        }
        let factor = u8::try_from(before.dtmf_clock / CLOCK_RATE).unwrap_or(1);
        Some(Self {
            audio,
            also: before.receive_also,
            events: before.dtmf_receive.map(|number| (number, factor)),
            ticks: if has_audio { TICKS_LATE } else { TICKS_MAX },
        })
    }

    /// What is left of it after a tick.
    const fn after_tick(self) -> Option<Self> {
        match self.ticks {
            0 | 1 => None,
            ticks => Some(Self { ticks: ticks - 1, ..self }),
        }
    }

    /// The codec of audio that came under this number.
    fn codec(self, number: PayloadType) -> Option<Codec> {
        let mut all = std::iter::once(self.audio).chain(self.also);
        all.find(|(known, _)| *known == number).map(|(_, codec)| codec)
    }

    fn kind(self, number: PayloadType) -> Kind {
        let events = self.events.filter(|(known, _)| *known == number);
        match (self.codec(number), events) {
            (Some(codec), _) => Kind::Audio(codec),
            (None, Some((_, factor))) => Kind::Event(CLOCK_RATE * u32::from(factor)),
            (None, None) => Kind::Unexpected,
        }
    }
}

impl MediaSession {
    /// What a packet is: by the plan, or by the one before while the peer may not know that another is in force, or by an
    /// offer of ours.
    pub(super) fn kind_of(&mut self, packet: &RtpPacket<'_>) -> Kind {
        let Some(plan) = &self.plan else { return Kind::Unexpected };
        let kind = Kind::of(plan, packet);
        match self.kind_by_earlier(kind, packet) {
            Kind::Unexpected => self.kind_by_offer(packet),
            kind @ (Kind::Audio(_) | Kind::Event(_) | Kind::Pause) => kind,
        }
    }

    /// The same by the plan before too, of what is `kind` by the present one.
    fn kind_by_earlier(&mut self, kind: Kind, packet: &RtpPacket<'_>) -> Kind {
        let Some(earlier) = &mut self.earlier else { return kind };
        let number = packet.payload_type;
        match kind {
            Kind::Audio(codec) if earlier.codec(number) != Some(codec) => {
                earlier.ticks = earlier.ticks.min(TICKS_LATE);
                kind
            }
            // In another stream than the peer's nobody goes on.
            Kind::Unexpected if self.receiver.ssrc().is_none_or(|ssrc| ssrc == packet.ssrc) => {
                earlier.kind(number)
            }
            Kind::Audio(_) | Kind::Event(_) | Kind::Pause | Kind::Unexpected => kind,
        }
    }

    /// Keeps in mind what may still come by the plan of now, which `plan` takes the place of.
    pub(super) fn remember_plan(&mut self, plan: &MediaPlan) {
        let before = self.plan.as_ref().and_then(|before| Earlier::of(before, plan));
        // One that has all of it changes nothing: what may still come by an earlier one may do so.
        self.earlier = before.or(self.earlier);
    }

    pub(super) fn forget_plan_in_time(&mut self) {
        self.earlier = self.earlier.and_then(Earlier::after_tick);
    }
}
