//! Audio that waits until a packet is full.

use crate::audio::frame::Encoded;
use crate::audio::frame::FRAME_SAMPLES;
use crate::audio::g711;
use crate::sdp::MediaPlan;
use crate::types::codec::Law;
use crate::types::codec::Ptime;
use crate::types::limit::RTP_PAYLOAD_BYTES_MAX;

/// Audio in the codec of the plan that waits until a packet is full: of packets that are no longer than a tick none does.
#[derive(Debug)]
pub(in crate::media) struct Outgoing {
    bytes: [u8; RTP_PAYLOAD_BYTES_MAX + FRAME_SAMPLES],
    pub(super) length: usize,
}

impl Outgoing {
    pub(in crate::media) const fn new() -> Self {
        Self { bytes: [0; RTP_PAYLOAD_BYTES_MAX + FRAME_SAMPLES], length: 0 }
    }

    /// Whether audio of this plan waits here.
    pub(in crate::media) fn is_needed(plan: &MediaPlan) -> bool {
        !plan.codec.is_packed() && plan.ptime > Ptime::MS_20
    }

    /// Turns what waits from one law into another.
    pub(super) fn convert(&mut self, from: Law, to: Law) {
        g711::convert(from, to, &mut self.bytes);
    }

    pub(super) fn append(&mut self, frame: &Encoded) {
        let free = self.bytes.iter_mut().skip(self.length);
        for (place, byte) in free.zip(frame) {
            *place = *byte;
        }
        self.length = (self.length + FRAME_SAMPLES).min(self.bytes.len());
    }

    pub(super) fn first(&self, count: usize) -> Option<&[u8]> {
        if count == 0 { None } else { self.bytes.get(..self.length)?.get(..count) }
    }

    pub(super) fn remove(&mut self, count: usize) {
        self.bytes.copy_within(count.min(self.length)..self.length, 0);
        self.length = self.length.saturating_sub(count);
    }
}
