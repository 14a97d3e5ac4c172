//! What waits in a jitter buffer that goes from one thread to another.
#![warn(clippy::indexing_slicing)]

use crate::rtp::jitter::JitterBuffer;
use crate::rtp::jitter::slots::SHARE_BYTES;
use crate::rtp::jitter::slots::shares_of;
use crate::rtp::payloads::Payloads;
use crate::rtp::payloads::Place;
use crate::types::limit::JITTER_PACKED_SHARES;
use crate::types::limit::JITTER_SLOTS;

/// Room for all that may wait in one buffer.
#[derive(Debug)]
pub struct Luggage {
    /// The payloads, in the order of the slots.
    pub(super) bytes: Vec<u8>,
}

impl Default for Luggage {
    fn default() -> Self {
        Self { bytes: Vec::with_capacity(JITTER_PACKED_SHARES * SHARE_BYTES) }
    }
}

impl JitterBuffer {
    /// Takes what waits out of `payloads`, and along. Until it is [unpacked](Self::unpack) nothing may be pushed or given.
    pub fn pack(&mut self, payloads: &mut Payloads, luggage: &mut Luggage) {
        luggage.bytes.clear();
        for slot in self.slots.iter_mut().filter(|slot| slot.used) {
            let length = usize::from(slot.length);
            for part in payloads.parts(slot.place, length) {
                luggage.bytes.extend_from_slice(part);
            }
            payloads.give_back(slot.place, length);
            slot.place = Place::NONE;
        }
    }

    /// Keeps in `payloads` what was taken along. What finds no room is lost, like what never came.
    pub fn unpack(&mut self, payloads: &mut Payloads, luggage: &Luggage) {
        let mut rest = luggage.bytes.as_slice();
        for index in 0..JITTER_SLOTS {
            let Some(slot) = self.slots.get_mut(index).filter(|slot| slot.used) else { continue };
            let kept = rest.split_at_checked(slot.length.into()).and_then(|(payload, after)| {
                rest = after;
                payloads.keep(payload)
            });
            match kept {
                Some(place) => slot.place = place,
                None => self.lose(index),
            }
        }
    }

    fn lose(&mut self, index: usize) {
        let is_due = index == self.due as usize % JITTER_SLOTS;
        let read = if is_due { std::mem::take(&mut self.read) } else { 0 };
        let Some(slot) = self.slots.get_mut(index) else { return };
        let units = usize::from(slot.units).saturating_sub(read);
        slot.used = false;
        self.shares = self.shares.saturating_sub(shares_of(slot.length.into()) as u16);
        self.buffered = self.buffered.saturating_sub(units as u32);
        self.statistics.discarded += 1;
    }
}
