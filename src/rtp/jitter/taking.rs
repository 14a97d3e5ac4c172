//! The side of a jitter buffer where frames are taken out.
#![warn(clippy::indexing_slicing)]

use crate::rtp::jitter::Content;
use crate::rtp::jitter::ENDED_TICKS;
use crate::rtp::jitter::FRAME_BYTES;
use crate::rtp::jitter::JitterBuffer;
use crate::rtp::jitter::Origin;
use crate::rtp::jitter::Parts;
use crate::rtp::jitter::packed::begins_pause;
use crate::rtp::jitter::shifted;
use crate::rtp::jitter::signed;
use crate::rtp::payloads::Payloads;
use crate::types::codec::Codec;

/// A packet further in the future than this follows no silence but a jump of the sender's clock.
const GAP_SAMPLES_MAX: i32 = 8_000;

impl JitterBuffer {
    /// Moves the clock on by one frame and gathers its samples.
    pub(super) fn take_frame(&mut self, payloads: &mut Payloads) {
        self.parts = Parts::NONE;
        let mut at = 0;
        while at < FRAME_BYTES {
            let wanted = FRAME_BYTES - at;
            let Some(index) = self.head() else {
                let origin = self.origin_of_nothing();
                if origin == Origin::Missing {
                    self.statistics.underruns += 1;
                    self.lateness.runs_dry(wanted as u32);
                }
                self.wait(at, (origin, wanted), None, payloads);
                break;
            };
            let (waiting, hole) = self.gap_before(index);
            if waiting > 0 {
                let count = wanted.min(waiting);
                let missing = hole && !self.paused;
                let origin = if missing { Origin::Missing } else { Origin::Quiet };
                self.wait(at, (origin, count), Some(index), payloads);
                at += count;
                continue;
            }
            if self.changes_codec(index) {
                // What is of another codec waits for a frame of its own; the delay is taken back later.
                self.wait(at, (Origin::Missing, wanted), None, payloads);
                break;
            }
            let count = self.play(index, at, payloads);
            self.parts.add(Origin::Audio, count);
            at += count;
        }
    }

    /// What it is where nothing waits: a loss as far as anybody knows, unless the peer paused or the stream ended.
    const fn origin_of_nothing(&self) -> Origin {
        let is_over = self.paused || self.idle_ticks >= ENDED_TICKS;
        if is_over { Origin::Quiet } else { Origin::Missing }
    }

    /// Whether the packet in the slot is of another codec than what the frame holds already.
    fn changes_codec(&mut self, index: usize) -> bool {
        let Some(slot) = self.slots.get(index) else { return false };
        if slot.content != Content::Audio || slot.codec == self.given {
            return false;
        }
        if self.parts.of(Origin::Audio) > 0 {
            return true;
        }
        let before = std::mem::replace(&mut self.given, slot.codec);
        if self.given.is_packed() {
            self.open_desk(before);
        }
        false
    }

    /// Lets time go by in which there is nothing to play. `head` is the packet behind it.
    fn wait(
        &mut self,
        at: usize,
        (origin, count): (Origin, usize),
        head: Option<usize>,
        payloads: &Payloads,
    ) {
        self.note_wait(origin, count, head, payloads);
        let silence = silence_of(self.given);
        for sample in self.frame.iter_mut().skip(at).take(count) {
            *sample = silence;
        }
        self.parts.add(origin, count);
        self.clock = self.clock.wrapping_add(count as u32);
    }

    /// Samples until the packet in the slot is to be played, and whether packets before it are missing.
    pub(super) fn gap_before(&self, index: usize) -> (usize, bool) {
        let Some(slot) = self.slots.get(index) else { return (0, false) };
        let hole = self.sequence_at(index) != self.due;
        let read = if hole { 0 } else { self.read };
        let gap = signed(slot.timestamp.wrapping_add(read as u32), self.clock);
        if gap > GAP_SAMPLES_MAX {
            return (0, hole);
        }
        (usize::try_from(gap).unwrap_or(0), hole)
    }

    /// Copies what fits of the packet in the slot to the frame at `at`; returns how many samples.
    fn play(&mut self, index: usize, at: usize, payloads: &mut Payloads) -> usize {
        let Some(slot) = self.slots.get(index) else { return 0 };
        let skipped = self.sequence_at(index) - self.due;
        if skipped > 0 {
            self.statistics.lost += skipped;
            self.meter.missing(skipped);
            self.played = shifted(self.played, skipped);
            self.due += skipped;
            self.read = 0;
        }
        self.unplayed = false;
        let (units, pauses) =
            (usize::from(slot.units), begins_pause(slot.codec, usize::from(slot.length)));
        let (content, timestamp, is_packed) =
            (slot.content, slot.timestamp, slot.codec.is_packed());
        if content != Content::Audio {
            self.begins(None, skipped, 0);
            self.pause_told |= content == Content::Noise;
            self.paused = true;
            self.count_turn(0);
            self.finish(index, payloads);
            return 0;
        }
        if self.read == 0 {
            self.begins(Some(timestamp), skipped, units);
            self.size.begins_at(at);
        }
        let count = if is_packed {
            let count = units.saturating_sub(self.read).min(FRAME_BYTES - at);
            self.note_play(index, count, payloads);
            count
        } else {
            self.copy(index, at, payloads)
        };
        (self.paused, self.pause_told) = (pauses, pauses);
        self.lateness.takes_out(count as u32);
        self.read += count;
        self.clock = timestamp.wrapping_add(self.read as u32);
        self.buffered = self.buffered.saturating_sub(count as u32);
        // What is not there any more, though it should be, is not waited for.
        if self.read >= units || count == 0 {
            self.count_turn(units);
            self.finish(index, payloads);
        }
        count
    }

    /// Copies what lies in one room of the packet to the frame; what lies in another comes with the next turn.
    fn copy(&mut self, index: usize, at: usize, payloads: &Payloads) -> usize {
        let Some(slot) = self.slots.get(index) else { return 0 };
        let source = payloads.part(slot.place, slot.length.into(), self.read);
        let target = self.frame.get_mut(at..).unwrap_or_default();
        let count = source.len().min(target.len());
        for (sample, byte) in target.iter_mut().zip(source) {
            *sample = *byte;
        }
        count
    }
}

/// What stands where nothing was received: of G.711 a zero sample.
pub(super) const fn silence_of(codec: Codec) -> u8 {
    match codec {
        Codec::Pcmu => 0xff,
        Codec::Pcma => 0xd5,
        // Only that is decoded which was received: it changes what the decoder remembers.
        Codec::G722 | Codec::Opus | Codec::L16Wide | Codec::L16 | Codec::G729 => 0,
    }
}
