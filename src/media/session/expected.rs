//! What a peer says by an offer of ours before its answer is here.
//!
//! Who offers has to be ready for every codec of its offer once that is sent (RFC 3264 §5.1): what a peer says by it may
//! overtake its answer, by half a second and more where that is lost and sent again. It is heard where the peer was
//! heard before, and under the numbers of our offer; what we send, and where, stays as it was until the answer.

use crate::media::equipment::Equipment;
use crate::media::output::TickOutput;
use crate::media::session::MediaSession;
use crate::media::session::arriving::Kind;
use crate::rtp::packet::RtpPacket;
use crate::sdp::MediaPlan;
use crate::sdp::Offered;

/// What may come by an offer of ours. Bytes only, as every session has room for it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Expected {
    offered: Offered,
    /// Something of it came.
    came: bool,
    spare: Spare,
}

/// What a session was given for an offer alone.
#[derive(Clone, Copy, Debug, Default)]
struct Spare {
    wide: bool,
    packed: bool,
}

impl Expected {
    /// What nothing came for.
    fn unused(self) -> Spare {
        if self.came { Spare::default() } else { self.spare }
    }
}

impl MediaSession {
    /// An offer of ours is on its way: what the peer says by it is heard from now on. `None`: nothing came of it. `with` is
    /// what it needs, and then what is not needed, to be freed elsewhere.
    pub fn expect(
        &mut self,
        offered: Option<&Offered>,
        with: &mut Equipment,
        out: &mut TickOutput,
    ) {
        let heard = self.hears();
        let before = self.expected.take().map(Expected::unused).unwrap_or_default();
        match offered {
            Some(offered) => {
                let (wide, packed) = (self.wide.is_some(), self.packed.is_some());
                self.equip(with);
                let spare = Spare {
                    wide: before.wide || (!wide && self.wide.is_some()),
                    packed: before.packed || (!packed && self.packed.is_some()),
                };
                self.expected = Some(Expected { offered: *offered, came: false, spare });
            }
            None => self.give_spare(before, with),
        }
        if heard && !self.hears() {
            self.fall_silent(out);
        }
    }

    /// Gives back what the session had for an offer alone, where nothing of that came and `plan`, which comes of it, needs it
    /// not. To be called before that is put in force.
    pub fn return_spare(&mut self, plan: &MediaPlan, with: &mut Equipment) {
        let Some(expected) = self.expected else { return };
        let (codec, spare) = (plan.codec, expected.unused());
        let decodes = codec.is_packed() && !codec.is_passed();
        let (wide, packed) = (spare.wide && !codec.is_wide(), spare.packed && !decodes);
        self.give_spare(Spare { wide, packed }, with);
    }

    fn give_spare(&mut self, spare: Spare, with: &mut Equipment) {
        if spare.wide {
            std::mem::swap(&mut self.wide, &mut with.wide);
        }
        if spare.packed {
            std::mem::swap(&mut self.packed, &mut with.packed);
        }
    }

    /// What a packet is that is nothing by what is agreed.
    pub(super) fn kind_by_offer(&mut self, packet: &RtpPacket<'_>) -> Kind {
        let agreed = self.codec();
        let Some(expected) = &mut self.expected else { return Kind::Unexpected };
        let number = packet.payload_type;
        let Some(codec) = expected.offered.codec(number) else {
            let clock = expected.offered.event_clock(number);
            return clock.map_or(Kind::Unexpected, Kind::Event);
        };
        let is_first = !std::mem::replace(&mut expected.came, true);
        if is_first && codec.clock_rate() != agreed.clock_rate() {
            self.jitter.expect_another();
            self.receiver.expect_another();
        }
        Kind::Audio(codec)
    }

    /// Whether what the peer says is heard: by what is agreed, or by an offer that ends a hold.
    pub(super) fn hears(&self) -> bool {
        self.plan.as_ref().is_some_and(|plan| plan.direction.receives() || self.hears_by_offer())
    }

    pub(super) fn hears_by_offer(&self) -> bool {
        self.expected.as_ref().is_some_and(|expected| expected.offered.ends_hold())
    }

    /// Whether whom the peer talks with may say it something at 16 kHz: not where the session can do that for an offer
    /// alone.
    pub(super) fn takes_wide(&self) -> bool {
        self.wide.is_some() && self.expected.as_ref().is_none_or(|expected| !expected.spare.wide)
    }

    /// Hears nothing any more: what waits would be played when the hold ends.
    pub(super) fn fall_silent(&mut self, out: &mut TickOutput) {
        self.jitter.reset(out.payloads());
        self.concealer.forget();
    }
}
