//! Where packets wait for their turn.
#![warn(clippy::indexing_slicing)]

use crate::rtp::jitter::Content;
use crate::rtp::payloads::Place;
use crate::types::codec::Codec;

/// A packet that waits. Its sequence number follows from where the slot is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slot {
    pub(super) used: bool,
    pub(super) codec: Codec,
    pub(super) content: Content,
    pub(super) timestamp: u32,
    /// Bytes of its payload.
    pub(super) length: u16,
    /// How long its audio is, in units of 8 kHz.
    pub(super) units: u16,
    /// Where its payload begins.
    pub(super) place: Place,
}

impl Slot {
    pub(super) const FREE: Self = Self {
        used: false,
        codec: Codec::Pcmu,
        content: Content::Other,
        timestamp: 0,
        length: 0,
        units: 0,
        place: Place::NONE,
    };
}

/// Bytes of a share: 10 ms of G.711.
pub(super) const SHARE_BYTES: usize = 80;

/// How many shares so many bytes take of what a buffer may keep.
pub(super) const fn shares_of(length: usize) -> usize {
    length.div_ceil(SHARE_BYTES)
}
