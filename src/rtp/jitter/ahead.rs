//! What a tick reads and writes of a jitter buffer, fetched before it is its turn: of the room for packets, the greater
//! part, that which packets mostly take.
#![warn(clippy::indexing_slicing)]

use crate::rtp::jitter::JitterBuffer;
use crate::types::cache::fetch;
use crate::types::limit::JITTER_SLOTS;

/// How many packets after the one that is due the one that comes in a tick is, at 60 ms of delay.
const AHEAD: u64 = 3;

/// Pieces of two packets of 20 ms that wait and one that comes, which is what an even network needs. The first that are
/// free are taken, so that these are used again and again.
const PIECES: usize = 6;

impl JitterBuffer {
    /// Fetches it without the room for packets, but for the number of the one that is due.
    pub fn fetch(&self) {
        fetch(&self.gate);
        fetch(&self.timeline);
        fetch(&self.size);
        fetch(&self.frame);
        fetch(&self.parts);
        fetch(&self.statistics);
        fetch(&self.lateness);
        fetch(&self.meter);
        fetch(&self.desk);
        // What lies together of the rest, as each of these is aligned.
        fetch(&self.due);
        fetch(&self.last_arrival);
        fetch(&self.clock);
        fetch(&self.idle_ticks);
        fetch(&self.shift);
        fetch(&self.begun);
        self.pieces.fetch_first(PIECES);
    }

    /// Fetches the slots of the packets that are due and to come. The rest is here already.
    pub fn fetch_slots(&self) {
        for ahead in [0, AHEAD] {
            let slot = self.due.wrapping_add(ahead) as usize % JITTER_SLOTS;
            self.slots.get(slot).into_iter().for_each(fetch);
        }
    }
}
