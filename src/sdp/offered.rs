//! What an offer of ours lets a peer send before its answer is here.
#![warn(clippy::indexing_slicing)]

use crate::sdp::plan::Capabilities;
use crate::sdp::plan::Direction;
use crate::sdp::plan::MediaPlan;
use crate::types::codec::Codec;
use crate::types::codec::PayloadType;

const CODECS_MAX: usize = Codec::ALL.len();

/// Telephone events have a number for each clock of a codec: 8, 16 and 48 kHz.
const CLOCKS_MAX: usize = 3;

/// What an offer of ours lets a peer send before we have its answer, beyond what is agreed already (RFC 3264 §5.1).
/// Numbers that are agreed keep their meaning until then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offered {
    codecs: [Option<(PayloadType, Codec)>; CODECS_MAX],
    /// Telephone events, and units of their clock in one of 8 kHz.
    events: [Option<(PayloadType, u8)>; CLOCKS_MAX],
    ends_hold: bool,
}

impl Offered {
    /// What an offer by `caps` of this direction lets a peer send that `plan` does not; `None`: nothing that could be
    /// understood. What comes by an offer with keys in place of plain RTP may be encrypted, by a key that comes with
    /// the answer; where the peer's key is known, it stays in force until then.
    #[must_use]
    pub fn of(caps: &Capabilities, direction: Direction, plan: &MediaPlan) -> Option<Self> {
        if !direction.receives() || (caps.srtp.writes_keys() && plan.crypto.is_none()) {
            return None;
        }
        let is_new = |number: PayloadType| {
            plan.receive_codec(number).is_none() && plan.dtmf_receive != Some(number)
        };
        let mut offered = Self {
            codecs: [None; CODECS_MAX],
            events: [None; CLOCKS_MAX],
            ends_hold: !plan.direction.receives(),
        };
        let codecs = caps.codecs.iter().map(|codec| (caps.payload_type(*codec), *codec));
        let codecs = codecs.filter(|(number, _)| is_new(*number));
        for (place, codec) in offered.codecs.iter_mut().zip(codecs) {
            *place = Some(codec);
        }
        let events = caps.events();
        let events = events.iter().filter(|(number, _)| is_new(*number));
        for (place, (number, clock)) in offered.events.iter_mut().zip(events) {
            *place = Some((*number, u8::try_from(clock / 8_000).unwrap_or(1)));
        }
        let has_new =
            offered.codecs().next().is_some() || offered.events.iter().any(Option::is_some);
        (has_new || offered.ends_hold).then_some(offered)
    }

    /// The codecs that were not agreed on, or not under this number.
    pub fn codecs(&self) -> impl Iterator<Item = Codec> {
        self.codecs.iter().flatten().map(|(_, codec)| *codec)
    }

    /// The codec of audio that comes under this number.
    #[must_use]
    pub fn codec(&self, number: PayloadType) -> Option<Codec> {
        let mut all = self.codecs.iter().flatten();
        all.find(|(known, _)| *known == number).map(|(_, codec)| *codec)
    }

    /// The clock in Hz of telephone events that come under this number.
    #[must_use]
    pub fn event_clock(&self, number: PayloadType) -> Option<u32> {
        let mut all = self.events.iter().flatten();
        all.find(|(known, _)| *known == number).map(|(_, factor)| 8_000 * u32::from(*factor))
    }

    /// The peer may send, though by what is agreed it may not.
    #[must_use]
    pub const fn ends_hold(&self) -> bool {
        self.ends_hold
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sdp::plan::AnswerOrder;
    use crate::sdp::plan::SrtpTerms;
    use crate::types::codec::Ptime;
    use crate::types::srtp::SrtpPolicy;
    use std::net::SocketAddr;

    fn caps(codecs: &[Codec]) -> Capabilities {
        Capabilities {
            codecs: codecs.to_vec(),
            order: AnswerOrder::Remote,
            dtmf: PayloadType::new(101),
            dtmf_flash: false,
            ptime: Ptime::MS_20,
            ptime_max: Ptime::MS_20,
            rtcp_mux: false,
            asks_metrics: false,
            single_codec: false,
            annex_b: false,
            srtp: SrtpTerms::default(),
        }
    }

    fn plan() -> MediaPlan {
        MediaPlan::for_test(SocketAddr::from(([192, 0, 2, 1], 4000)))
    }

    #[test]
    fn what_is_offered_and_not_agreed_has_the_numbers_of_our_offer() {
        let both = Direction::SendReceive;
        let offered = Offered::of(&caps(&Codec::ALL), both, &plan()).expect("much is new");
        for codec in Codec::ALL {
            let known = (codec != Codec::Pcmu).then_some(codec);
            assert_eq!(offered.codec(codec.payload_type()), known, "{codec:?}");
        }
        assert_eq!(offered.codecs().count(), Codec::ALL.len() - 1);
        let clock = |number| offered.event_clock(PayloadType::new(number).expect("a number"));
        assert_eq!(clock(101), None, "agreed");
        let events = caps(&Codec::ALL).events();
        assert_eq!(events.len(), CLOCKS_MAX);
        for (number, hz) in events.iter().skip(1) {
            assert_eq!(offered.event_clock(*number), Some(*hz));
        }
        assert!(!offered.ends_hold());
    }

    #[test]
    fn an_offer_of_what_is_agreed_lets_nothing_more_be_sent_unless_it_ends_a_hold() {
        let of = |direction, plan: &MediaPlan| Offered::of(&caps(&[Codec::Pcmu]), direction, plan);
        assert_eq!(of(Direction::SendReceive, &plan()), None);
        let held = MediaPlan { direction: Direction::SendOnly, ..plan() };
        assert!(of(Direction::SendReceive, &held).is_some_and(|offered| offered.ends_hold()));
        assert_eq!(of(Direction::SendOnly, &held), None);
        let all = Offered::of(&caps(&Codec::ALL), Direction::Inactive, &plan());
        assert_eq!(all, None, "who is to be silent sends no other codec either");
    }

    #[test]
    fn what_may_be_encrypted_by_a_key_that_is_to_come_is_not_awaited() {
        let mut caps = caps(&Codec::ALL);
        caps.srtp.policy = SrtpPolicy::Optional;
        assert_eq!(Offered::of(&caps, Direction::SendReceive, &plan()), None);
        caps.srtp.exposed = true;
        assert!(Offered::of(&caps, Direction::SendReceive, &plan()).is_some(), "it has no keys");
    }
}
