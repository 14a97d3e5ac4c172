//! What a tick reads and writes of a jitter buffer, fetched before it is its turn.
#![warn(clippy::indexing_slicing)]

use crate::rtp::jitter::JitterBuffer;
use crate::rtp::payloads::Payloads;
use crate::types::cache::fetch;
use crate::types::limit::JITTER_SLOTS;

/// How many packets after the one that is due the one that comes in a tick is, at 60 ms of delay.
const AHEAD: u64 = 3;

impl JitterBuffer {
    /// Fetches it without the slots.
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
        fetch(&self.shares);
        fetch(&self.begun);
    }

    /// Fetches the slots of the packets that are due and to come. The rest is here already.
    pub fn fetch_slots(&self) {
        for ahead in [0, AHEAD] {
            let slot = self.due.wrapping_add(ahead) as usize % JITTER_SLOTS;
            self.slots.get(slot).into_iter().for_each(fetch);
        }
    }

    /// Fetches the payload that is due, by its slot, which is here already. What comes is written where the processor was
    /// just before.
    pub fn fetch_payload(&self, payloads: &Payloads) {
        let slot = self.slots.get(self.due as usize % JITTER_SLOTS);
        slot.filter(|slot| slot.used).into_iter().for_each(|slot| payloads.fetch(slot.place));
    }
}
