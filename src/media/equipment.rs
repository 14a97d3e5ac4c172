//! What a session needs for some plans and not for others, made before it is needed.

use crate::audio::packed::PackedVoice;
use crate::audio::wide::WideVoice;
use crate::media::passage::Passage;
use crate::media::session::outgoing::Outgoing;
use crate::rtp::jitter::JitterRoom;
use crate::sdp::MediaPlan;
use crate::sdp::Offered;
use crate::types::codec::Codec;

/// What a session needs for a codec that is none of G.711, and for packets longer than a tick.
#[derive(Debug, Default)]
pub struct Equipment {
    pub(super) wide: Option<Box<WideVoice>>,
    pub(super) packed: Option<Box<PackedVoice>>,
    pub(super) room: Option<JitterRoom>,
    pub(super) passage: Option<Box<Passage>>,
    pub(super) outgoing: Option<Box<Outgoing>>,
}

impl Equipment {
    /// What this plan needs.
    #[must_use]
    pub fn of(plan: &MediaPlan) -> Self {
        let codec = plan.codec;
        let is_decoded = codec.is_packed() && !codec.is_passed();
        Self {
            wide: codec.is_wide().then(Box::default),
            packed: is_decoded.then(|| Box::new(PackedVoice::new(codec))),
            room: codec.is_packed().then(JitterRoom::default),
            passage: codec.is_passed().then(Box::default),
            outgoing: Outgoing::is_needed(plan).then(|| Box::new(Outgoing::new())),
        }
    }

    /// What is needed to hear by this offer before its answer. A codec that only passes is heard where it is agreed already.
    #[must_use]
    pub fn of_offer(offered: &Offered) -> Self {
        let is_decoded = |codec: &Codec| codec.is_packed() && !codec.is_passed();
        let opus = offered.codecs().find(|codec| *codec == Codec::Opus);
        let packed = opus.or_else(|| offered.codecs().find(is_decoded));
        Self {
            wide: offered.codecs().any(Codec::is_wide).then(Box::default),
            packed: packed.map(|codec| Box::new(PackedVoice::new(codec))),
            room: packed.is_some().then(JitterRoom::default),
            passage: None,
            outgoing: None,
        }
    }

    /// Whether nothing is left of it.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.wide.is_none()
            && self.packed.is_none()
            && self.room.is_none()
            && self.passage.is_none()
            && self.outgoing.is_none()
    }
}
