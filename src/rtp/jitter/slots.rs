//! Where packets wait for their turn.
#![warn(clippy::indexing_slicing)]

use crate::rtp::jitter::Content;
use crate::types::codec::Codec;
use crate::types::limit::JITTER_PIECES;
use crate::types::limit::RTP_PAYLOAD_BYTES_MAX;

/// A packet that waits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slot {
    pub(super) used: bool,
    pub(super) codec: Codec,
    pub(super) content: Content,
    pub(super) sequence: u64,
    pub(super) timestamp: u32,
    pub(super) length: u16,
    /// Where its payload lies, as far as its length goes.
    pub(super) pieces: [u8; SLOT_PIECES],
}

impl Slot {
    pub(super) const FREE: Self = Self {
        used: false,
        codec: Codec::Pcmu,
        content: Content::Other,
        sequence: 0,
        timestamp: 0,
        length: 0,
        pieces: [0; SLOT_PIECES],
    };

    /// How many pieces its payload takes.
    pub(super) fn pieces_used(&self) -> usize {
        usize::from(self.length).div_ceil(PIECE_BYTES)
    }
}

/// Bytes of a piece: 10 ms.
const PIECE_BYTES: usize = 80;
/// Pieces of the longest payload.
const SLOT_PIECES: usize = RTP_PAYLOAD_BYTES_MAX.div_ceil(PIECE_BYTES);

/// The payloads of all slots, in pieces: slots that were each as long as the longest payload would
/// mostly be empty.
#[derive(Clone, Debug)]
pub(super) struct Pieces {
    bytes: [[u8; PIECE_BYTES]; JITTER_PIECES],
    /// Bit n: piece n is taken.
    pub(super) taken: u64,
}

const _: () = assert!(JITTER_PIECES <= 64, "a piece has its bit");

impl Pieces {
    pub(super) const FREE: Self = Self { bytes: [[0; PIECE_BYTES]; JITTER_PIECES], taken: 0 };

    pub(super) fn has_room_for(&self, length: usize) -> bool {
        let taken = self.taken.count_ones() as usize;
        length.div_ceil(PIECE_BYTES) <= JITTER_PIECES.saturating_sub(taken)
    }

    /// Keeps `payload`, for which there is room, and says where.
    pub(super) fn keep(&mut self, payload: &[u8]) -> [u8; SLOT_PIECES] {
        let mut places = [0; SLOT_PIECES];
        for (place, part) in places.iter_mut().zip(payload.chunks(PIECE_BYTES)) {
            let free = self.taken.trailing_ones();
            let Some(piece) = self.bytes.get_mut(free as usize) else { break };
            for (kept, byte) in piece.iter_mut().zip(part) {
                *kept = *byte;
            }
            self.taken |= 1 << free;
            *place = free as u8;
        }
        places
    }

    pub(super) fn free(&mut self, places: &[u8]) {
        for place in places {
            self.taken &= !1_u64.checked_shl(u32::from(*place)).unwrap_or(0);
        }
    }

    /// The payload of `slot` from `from` up to the end of its piece.
    pub(super) fn part(&self, slot: &Slot, from: usize) -> &[u8] {
        let place = slot.pieces.get(from / PIECE_BYTES);
        let piece = place.and_then(|place| self.bytes.get(usize::from(*place)));
        let (begin, left) = (from % PIECE_BYTES, usize::from(slot.length).saturating_sub(from));
        let end = (begin + left).min(PIECE_BYTES);
        piece.and_then(|piece| piece.get(begin..end)).unwrap_or_default()
    }
}
