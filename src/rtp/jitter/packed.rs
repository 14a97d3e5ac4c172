//! Packets that are decoded one by one: what a decoder has to do for each frame.
#![warn(clippy::indexing_slicing)]

use crate::rtp::jitter::Content;
use crate::rtp::jitter::JitterBuffer;
use crate::rtp::jitter::Origin;
use crate::rtp::jitter::Part;
use crate::rtp::jitter::slots::Slot;
use crate::rtp::payloads::Payloads;
use crate::types::codec::Codec;
use std::ops::Range;

/// Payload bytes on the desk: of all packets that begin in one tick, also in one in which many are left out.
const DESK_BYTES: usize = 4_096;
/// Steps of one tick.
const STEPS_MAX: usize = 64;
/// The longest audio of a packet, in units of 8 kHz: 120 ms (RFC 6716 §3.1).
const PACKET_UNITS_MAX: u32 = 960;
/// The longest packet of Opus that only says that it pauses (RFC 6716 §2.1.9); what G.729 says of its noise before a pause
/// (RFC 3551 §4.5.6).
const PAUSE_BYTES: usize = 2;

/// Something a decoder has to do. Lengths are in units of 8 kHz.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// The packet in these bytes begins.
    Packet {
        /// Where it lies, for [`Desk::bytes`].
        bytes: Range<u16>,
        /// How long its audio is.
        units: u16,
    },
    /// So much of the packet that began last is heard.
    Play(u16),
    /// So much of it is left out.
    Drop(u16),
    /// So much is missing.
    Missing {
        /// How long it is.
        units: u16,
        /// The packet behind the hole, how long it is until that begins, and how long its own audio is: it may tell
        /// something of what is missing.
        next: Option<(Range<u16>, u16, u16)>,
    },
    /// The peer pauses so long.
    Quiet(u16),
    /// Packets were left out altogether.
    Forget,
}

/// What a decoder has to do for the frame just given, in order.
#[derive(Clone, Debug)]
pub struct Desk {
    bytes: [u8; DESK_BYTES],
    filled: usize,
    steps: [Step; STEPS_MAX],
    count: usize,
    /// What is taken out now is decoded, since what comes after it builds on it, and not heard.
    drops: bool,
}

impl Default for Desk {
    fn default() -> Self {
        Self {
            bytes: [0; DESK_BYTES],
            filled: 0,
            steps: [const { Step::Forget }; STEPS_MAX],
            count: 0,
            drops: false,
        }
    }
}

impl Desk {
    /// The steps.
    #[must_use]
    pub fn steps(&self) -> &[Step] {
        self.steps.get(..self.count).unwrap_or_default()
    }

    /// The payload that a step speaks of.
    #[must_use]
    pub fn bytes(&self, place: &Range<u16>) -> &[u8] {
        self.bytes.get(usize::from(place.start)..usize::from(place.end)).unwrap_or_default()
    }

    fn clear(&mut self) {
        (self.filled, self.count) = (0, 0);
    }

    fn push(&mut self, step: Step) {
        let step = match step {
            Step::Play(units) if self.drops => Step::Drop(units),
            Step::Missing { .. } | Step::Quiet(_) if self.drops => return,
            step @ (Step::Packet { .. }
            | Step::Play(_)
            | Step::Drop(_)
            | Step::Missing { .. }
            | Step::Quiet(_)
            | Step::Forget) => step,
        };
        if self.count == STEPS_MAX {
            self.clear();
            self.push(Step::Forget);
        }
        if let Some(place) = self.steps.get_mut(self.count) {
            *place = step;
            self.count += 1;
        }
    }

    /// Copies a payload; `None`: there is no room, and what was begun before is forgotten.
    fn copy(&mut self, payloads: &Payloads, slot: &Slot) -> Option<Range<u16>> {
        let length = usize::from(slot.length);
        if self.filled + length > DESK_BYTES {
            self.clear();
            self.push(Step::Forget);
        }
        let start = self.filled;
        let mut target = self.bytes.get_mut(start..start + length)?;
        for part in payloads.parts(slot.place, length) {
            let (place, after) = target.split_at_mut_checked(part.len())?;
            place.copy_from_slice(part);
            target = after;
        }
        self.filled += length;
        Some(start as u16..self.filled as u16)
    }

    fn packet(&mut self, payloads: &Payloads, slot: &Slot) {
        if let Some(bytes) = self.copy(payloads, slot) {
            self.push(Step::Packet { bytes, units: slot.units });
        }
    }
}

/// What a jitter buffer needs for packets that are decoded one by one: the desk. With it goes that it may keep more.
#[derive(Clone, Debug, Default)]
pub struct JitterRoom {
    pub(super) desk: Box<Desk>,
}

impl JitterBuffer {
    /// Gives the buffer what it needs for [packed](Codec::is_packed) codecs. Returns what it does not need.
    pub fn equip(&mut self, room: JitterRoom) -> Option<JitterRoom> {
        if self.desk.is_some() {
            return Some(room);
        }
        self.desk = Some(room.desk);
        None
    }

    /// What the decoder has to do for the frame just given, where its codec is packed.
    #[must_use]
    pub fn desk(&self) -> Option<&Desk> {
        self.desk.as_deref().filter(|_| self.given.is_packed())
    }

    /// Whether nothing needs to come after a payload of so many bytes: the peer said that it pauses.
    #[must_use]
    pub fn is_followed_by_pause(codec: Codec, length: usize) -> bool {
        begins_pause(codec, length)
    }

    /// Whether it has room for [packed](Codec::is_packed) codecs.
    #[must_use]
    pub const fn is_equipped(&self) -> bool {
        self.desk.is_some()
    }

    pub(super) fn clear_desk(&mut self) {
        if let Some(desk) = &mut self.desk {
            desk.clear();
        }
    }

    /// What was to be done for a frame is not: nobody hears it.
    pub(super) fn forget_desk(&mut self) {
        if let Some(desk) = &mut self.desk {
            desk.clear();
            desk.push(Step::Forget);
        }
    }

    /// What is taken out from now on is not heard, or is again.
    pub(super) fn set_drops(&mut self, drops: bool) {
        if let Some(desk) = &mut self.desk {
            desk.drops = drops;
        }
    }

    /// The frame, of `before` so far, is to be of a packed codec from here on. There was no audio in it.
    pub(super) fn open_desk(&mut self, before: Codec) {
        let Some(desk) = &mut self.desk else { return };
        desk.push(Step::Forget);
        if before.is_packed() {
            return;
        }
        for Part { origin, samples } in self.parts.all() {
            let units = *samples;
            desk.push(match origin {
                Origin::Audio | Origin::Missing => Step::Missing { units, next: None },
                Origin::Quiet => Step::Quiet(units),
            });
        }
    }

    /// `count` units go by without audio; `head` is the packet after them, if it is here.
    pub(super) fn note_wait(
        &mut self,
        origin: Origin,
        count: usize,
        head: Option<usize>,
        payloads: &Payloads,
    ) {
        if !self.given.is_packed() {
            return;
        }
        let Some(desk) = &mut self.desk else { return };
        let units = count as u16;
        if origin != Origin::Missing {
            desk.push(Step::Quiet(units));
            return;
        }
        let slot = head.and_then(|index| self.slots.get(index));
        let of_codec =
            slot.filter(|slot| slot.codec == self.given && slot.content == Content::Audio);
        let next = of_codec.and_then(|slot| {
            let gap = u16::try_from(slot.timestamp.wrapping_sub(self.clock)).ok()?;
            Some((desk.copy(payloads, slot)?, gap, slot.units))
        });
        desk.push(Step::Missing { units, next });
    }

    /// `count` units of the packet in the slot are heard, from its beginning where nothing of it was read yet.
    pub(super) fn note_play(&mut self, index: usize, count: usize, payloads: &Payloads) {
        let (Some(desk), Some(slot)) = (&mut self.desk, self.slots.get(index)) else { return };
        if self.read == 0 {
            desk.packet(payloads, slot);
        }
        desk.push(Step::Play(count as u16));
    }
}

/// How long the audio of a payload is, in units of 8 kHz; `None`: it is none of this codec.
#[must_use]
pub fn units_of(codec: Codec, payload: &[u8]) -> Option<u32> {
    let length = u32::try_from(payload.len()).ok()?;
    let units = match codec {
        Codec::Pcmu | Codec::Pcma | Codec::G722 => return Some(length),
        Codec::L16 => length / 2,
        Codec::L16Wide => length / 4,
        Codec::Opus => opus_units(payload)?,
        Codec::G729 => g729_units(length)?,
    };
    (1..=PACKET_UNITS_MAX).contains(&units).then_some(units)
}

/// RFC 6716 §3.1 and §3.2: the first byte says how long a frame is, the low bits of it and the second how many there
/// are.
fn opus_units(payload: &[u8]) -> Option<u32> {
    let toc = *payload.first()?;
    let frame = match (toc >> 3, toc >> 3 & 3) {
        (0..12, 0) => 80,
        (0..12, 1) => 160,
        (0..12, 2) => 320,
        (0..12, _) => 480,
        (12..16, size) => 80 << (size & 1),
        (_, size) => 20 << size,
    };
    let frames = match toc & 3 {
        0 => 1,
        1 | 2 => 2,
        _ => u32::from(payload.get(1)? & 0x3f),
    };
    Some(frame * frames)
}

/// RFC 3551 §4.5.6: frames of speech of ten bytes, and behind them at most one of noise of two; each is 10 ms.
fn g729_units(length: u32) -> Option<u32> {
    match (length / 10, length % 10) {
        (speech, 0) => Some(80 * speech),
        (speech, 2) => Some(80 * (speech + 1)),
        (_, _) => None,
    }
}

/// Whether nothing needs to come after this payload: the peer said that it pauses.
pub(super) fn begins_pause(codec: Codec, length: usize) -> bool {
    match codec {
        Codec::Opus => length <= PAUSE_BYTES,
        Codec::G729 => length % 10 == PAUSE_BYTES,
        Codec::Pcmu | Codec::Pcma | Codec::G722 | Codec::L16Wide | Codec::L16 => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_byte_of_opus_says_how_long_it_is() {
        for (payload, units) in [
            // SILK of 20 ms alone, two of 60 ms, hybrid of 10 ms, CELT of 2.5 ms, three of 20 ms.
            (&[1 << 3, 0][..], Some(160)),
            (&[11 << 3 | 1, 0], Some(960)),
            (&[12 << 3, 0], Some(80)),
            (&[16 << 3, 0], Some(20)),
            (&[31 << 3 | 3, 3], Some(480)),
            // Longer than there may be, none at all, and cut off.
            (&[11 << 3 | 3, 3], None),
            (&[31 << 3 | 3, 0], None),
            (&[31 << 3 | 3], None),
            (&[], None),
        ] {
            assert_eq!(units_of(Codec::Opus, payload), units, "{payload:?}");
        }
        for (length, units) in [
            (10, Some(80)),
            (20, Some(160)),
            (22, Some(240)),
            (2, Some(80)),
            (120, Some(960)),
            (122, None),
            (130, None),
            (0, None),
            (5, None),
            (12, Some(160)),
            (21, None),
        ] {
            assert_eq!(units_of(Codec::G729, &vec![0; length]), units, "{length} bytes");
            assert_eq!(begins_pause(Codec::G729, length), length % 10 == 2);
        }
        assert_eq!(units_of(Codec::L16, &[0; 320]), Some(160));
        assert_eq!(units_of(Codec::L16Wide, &[0; 640]), Some(160));
        assert_eq!(units_of(Codec::L16Wide, &[0; 3]), None);
    }

    #[test]
    fn what_is_left_out_is_decoded_and_not_heard() {
        let mut desk = Desk::default();
        desk.push(Step::Play(80));
        desk.drops = true;
        for step in [
            Step::Packet { bytes: 0..0, units: 160 },
            Step::Missing { units: 20, next: None },
            Step::Play(160),
            Step::Quiet(3),
        ] {
            desk.push(step);
        }
        desk.drops = false;
        desk.push(Step::Quiet(5));
        let packet = Step::Packet { bytes: 0..0, units: 160 };
        assert_eq!(desk.steps(), [Step::Play(80), packet, Step::Drop(160), Step::Quiet(5)]);
    }
}
