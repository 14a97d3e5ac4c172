//! The side of a jitter buffer where packets are kept, and let go.
#![warn(clippy::indexing_slicing)]

use crate::rtp::jitter::Content;
use crate::rtp::jitter::JitterBuffer;
use crate::rtp::jitter::packed::units_of;
use crate::rtp::jitter::shifted;
use crate::rtp::jitter::signed;
use crate::rtp::jitter::slots::Slot;
use crate::rtp::jitter::slots::shares_of;
use crate::rtp::packet::RtpPacket;
use crate::rtp::payloads::Payloads;
use crate::types::limit::JITTER_PACKED_SHARES;
use crate::types::limit::JITTER_SHARES;
use crate::types::limit::JITTER_SLOTS;

impl JitterBuffer {
    /// Puts a packet of the stream where it belongs, or counts why not.
    pub(super) fn place(
        &mut self,
        sequence: u64,
        packet: &RtpPacket<'_>,
        content: Content,
        payloads: &mut Payloads,
    ) {
        if sequence < self.due {
            let highest =
                self.gate.highest().map(|highest| highest.wrapping_add_signed(self.shift.into()));
            let highest = highest.unwrap_or(sequence).max(sequence);
            let fits = highest - sequence < JITTER_SLOTS as u64;
            if self.unplayed && fits && signed(packet.timestamp, self.clock) >= 0 {
                self.due = sequence;
            } else {
                self.count_late(sequence);
                return;
            }
        }
        while sequence - self.due >= JITTER_SLOTS as u64 {
            self.discard_due(sequence, payloads);
        }
        // Long packets that wait for their turn may have taken all shares before all slots.
        while !self.has_room_for(packet.payload.len()) && self.head_is_before(sequence) {
            self.discard_due(sequence, payloads);
        }
        self.store(sequence, packet, content, payloads);
    }

    fn head_is_before(&self, sequence: u64) -> bool {
        self.head().is_some_and(|index| self.sequence_at(index) < sequence)
    }

    fn count_late(&mut self, sequence: u64) {
        let age = self.due - 1 - sequence;
        let bit = shifted(1, age);
        if self.played & bit != 0 || self.unplayed {
            self.statistics.duplicate += 1;
            return;
        }
        self.played |= bit;
        self.statistics.late += 1;
        self.statistics.lost = self.statistics.lost.saturating_sub(1);
    }

    /// Whether its packets may take so many bytes more.
    fn has_room_for(&self, length: usize) -> bool {
        let most = if self.is_equipped() { JITTER_PACKED_SHARES } else { JITTER_SHARES };
        usize::from(self.shares) + shares_of(length) <= most
    }

    pub(super) fn store(
        &mut self,
        sequence: u64,
        packet: &RtpPacket<'_>,
        content: Content,
        payloads: &mut Payloads,
    ) {
        let index = sequence as usize % JITTER_SLOTS;
        if self.slots.get(index).is_none_or(|slot| slot.used) {
            self.statistics.duplicate += 1;
            return;
        }
        let is_audio = content == Content::Audio;
        let content = if is_audio && packet.payload.is_empty() { Content::Other } else { content };
        let (payload, units) = match content {
            Content::Audio => {
                (packet.payload, units_of(self.codec, packet.payload).unwrap_or(0) as u16)
            }
            Content::Noise | Content::Other => (<&[u8]>::default(), 0),
        };
        let has_room = self.has_room_for(payload.len());
        let place = if has_room { payloads.keep(payload) } else { None };
        let (Some(place), Some(slot)) = (place, self.slots.get_mut(index)) else {
            self.statistics.discarded += 1;
            return;
        };
        let (codec, timestamp, length) = (self.codec, packet.timestamp, payload.len() as u16);
        *slot = Slot { used: true, codec, content, timestamp, length, units, place };
        self.shares += shares_of(payload.len()) as u16;
        self.buffered += u32::from(units);
    }

    /// Throws away the oldest packet to make room for `wanted`.
    fn discard_due(&mut self, wanted: u64, payloads: &mut Payloads) {
        let Some(index) = self.head() else {
            let skipped = wanted - self.due;
            self.statistics.lost += skipped;
            self.meter.missing(skipped);
            self.lateness.is_explained();
            self.played = shifted(self.played, skipped);
            self.due = wanted;
            self.read = 0;
            return;
        };
        let skipped = self.sequence_at(index) - self.due;
        let units = self.slots.get(index).map_or(0, |slot| slot.units);
        self.statistics.lost += skipped;
        self.statistics.discarded += 1;
        self.meter.missing(skipped + 1);
        self.lateness.discards(units.into());
        self.due += skipped;
        self.played = shifted(self.played, skipped);
        self.finish(index, payloads);
    }

    /// Frees the slot of the packet `due` and goes on to the next.
    pub(super) fn finish(&mut self, index: usize, payloads: &mut Payloads) {
        if let Some(slot) = self.slots.get_mut(index) {
            let rest = usize::from(slot.units).saturating_sub(self.read);
            self.buffered = self.buffered.saturating_sub(rest as u32);
            slot.used = false;
            self.shares = self.shares.saturating_sub(shares_of(slot.length.into()) as u16);
            payloads.give_back(slot.place, slot.length.into());
        }
        self.due += 1;
        self.read = 0;
        self.played = self.played << 1 | 1;
    }

    pub(super) fn clear(&mut self, payloads: &mut Payloads) {
        self.statistics.discarded += self.slots.iter().filter(|slot| slot.used).count() as u64;
        self.let_go(payloads);
        self.played = 0;
        (self.paused, self.pause_told) = (true, false);
        self.idle_ticks = 0;
        self.forget_lateness();
    }

    /// Gives back what waits: from now on it is read for its figures alone, in which nothing of that counts.
    pub fn let_go(&mut self, payloads: &mut Payloads) {
        for slot in self.slots.iter_mut().filter(|slot| slot.used) {
            payloads.give_back(slot.place, slot.length.into());
            slot.used = false;
        }
        (self.shares, self.buffered) = (0, 0);
        self.read = 0;
    }
}
