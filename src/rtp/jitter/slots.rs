//! Where packets wait for their turn.
#![warn(clippy::indexing_slicing)]

use crate::rtp::jitter::Content;
use crate::types::cache::fetch;
use crate::types::codec::Codec;
use crate::types::limit::JITTER_PIECES;

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
    /// Where its payload begins; each piece knows the next.
    pub(super) piece: u8,
}

impl Slot {
    pub(super) const FREE: Self = Self {
        used: false,
        codec: Codec::Pcmu,
        content: Content::Other,
        timestamp: 0,
        length: 0,
        units: 0,
        piece: 0,
    };
}

/// Bytes of a piece: 10 ms of G.711.
const PIECE_BYTES: usize = 80;
/// Pieces for codecs whose packets are longer than those of G.711.
const MORE_PIECES: usize = 128 - JITTER_PIECES;

/// The bits of the pieces that every buffer has.
const HERE: u64 = (1 << JITTER_PIECES) - 1;

/// 80 bytes of a payload, and where those after them are.
#[derive(Clone, Debug)]
struct Piece {
    bytes: [u8; PIECE_BYTES],
    next: u8,
}

impl Piece {
    const FREE: Self = Self { bytes: [0; PIECE_BYTES], next: 0 };
}

/// More room for payloads.
#[derive(Clone, Debug)]
pub(super) struct MorePieces {
    pieces: [Piece; MORE_PIECES],
    /// Bit n: piece n is taken.
    taken: u128,
}

impl Default for MorePieces {
    fn default() -> Self {
        Self { pieces: [const { Piece::FREE }; MORE_PIECES], taken: 0 }
    }
}

/// The payloads of all slots, in pieces: slots that were each as long as the longest payload would
/// mostly be empty.
#[derive(Clone, Debug)]
pub(super) struct Pieces {
    pieces: [Piece; JITTER_PIECES],
    more: Option<Box<MorePieces>>,
    /// Bit n: piece n of these is taken.
    taken: u64,
}

impl Pieces {
    pub(super) const FREE: Self =
        Self { pieces: [const { Piece::FREE }; JITTER_PIECES], more: None, taken: 0 };

    pub(super) fn extend(&mut self, more: Box<MorePieces>) {
        self.more = Some(more);
    }

    /// Has the processor fetch the first `count` of every buffer's, and which are taken.
    pub(super) fn fetch_first(&self, count: usize) {
        fetch(&self.taken);
        fetch(&self.more);
        fetch(self.pieces.get(..count).unwrap_or_default());
    }

    pub(super) fn free_all(&mut self) {
        self.set_taken(0);
    }

    /// The pieces that are taken, each by its bit: those of here first.
    pub(super) fn taken(&self) -> u128 {
        let more = self.more.as_ref().map_or(0, |more| more.taken);
        more << JITTER_PIECES | u128::from(self.taken)
    }

    fn set_taken(&mut self, taken: u128) {
        self.taken = taken as u64 & HERE;
        if let Some(more) = &mut self.more {
            more.taken = taken >> JITTER_PIECES;
        }
    }

    pub(super) fn has_room_for(&self, length: usize) -> bool {
        let all = JITTER_PIECES + if self.more.is_some() { MORE_PIECES } else { 0 };
        let taken = self.taken().count_ones() as usize;
        length.div_ceil(PIECE_BYTES) <= all.saturating_sub(taken)
    }

    fn piece(&self, at: u8) -> Option<&Piece> {
        let at = usize::from(at);
        self.pieces
            .get(at)
            .or_else(|| self.more.as_ref()?.pieces.get(at.checked_sub(JITTER_PIECES)?))
    }

    fn piece_mut(&mut self, at: u8) -> Option<&mut Piece> {
        let at = usize::from(at);
        match at.checked_sub(JITTER_PIECES) {
            None => self.pieces.get_mut(at),
            Some(at) => self.more.as_mut()?.pieces.get_mut(at),
        }
    }

    /// Keeps `payload`, for which there is room, and says where it begins. From its end on, as each piece is to know
    /// the one after it.
    pub(super) fn keep(&mut self, payload: &[u8]) -> u8 {
        let mut next = 0;
        for part in payload.chunks(PIECE_BYTES).rev() {
            let free = self.taken().trailing_ones() as u8;
            let Some(piece) = self.piece_mut(free) else { break };
            piece.next = next;
            for (kept, byte) in piece.bytes.iter_mut().zip(part) {
                *kept = *byte;
            }
            self.set_taken(self.taken() | 1_u128.checked_shl(free.into()).unwrap_or(0));
            next = free;
        }
        next
    }

    pub(super) fn free(&mut self, slot: &Slot) {
        self.set_taken(self.taken() & !self.taken_by(slot));
    }

    /// The pieces of the payload of `slot`, each by its bit.
    pub(super) fn taken_by(&self, slot: &Slot) -> u128 {
        let (mut at, mut taken) = (slot.piece, 0);
        for _ in 0..usize::from(slot.length).div_ceil(PIECE_BYTES) {
            taken |= 1_u128.checked_shl(u32::from(at)).unwrap_or(0);
            at = self.piece(at).map_or(0, |piece| piece.next);
        }
        taken
    }

    /// The payload of `slot` from `from` up to the end of its piece.
    pub(super) fn part(&self, slot: &Slot, from: usize) -> &[u8] {
        let mut at = slot.piece;
        for _ in 0..from / PIECE_BYTES {
            at = self.piece(at).map_or(0, |piece| piece.next);
        }
        let (begin, left) = (from % PIECE_BYTES, usize::from(slot.length).saturating_sub(from));
        let end = (begin + left).min(PIECE_BYTES);
        self.piece(at).and_then(|piece| piece.bytes.get(begin..end)).unwrap_or_default()
    }

    /// Copies the payload of `slot` to `target`, which is as long.
    pub(super) fn copy(&self, slot: &Slot, target: &mut [u8]) {
        for (number, place) in target.chunks_mut(PIECE_BYTES).enumerate() {
            for (to, byte) in place.iter_mut().zip(self.part(slot, number * PIECE_BYTES)) {
                *to = *byte;
            }
        }
    }
}
