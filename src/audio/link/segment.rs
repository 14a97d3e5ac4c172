//! A piece of an agent's audio on its way to the media thread, and back to be used again.

use crate::audio::link::WIDE_UNIT_BYTES;
use crate::audio::link::notice;
use crate::types::limit::AGENT_MARKS_MAX;

const _: () = assert!(AGENT_MARKS_MAX <= u16::MAX as usize);

/// A piece of the agent's audio with the marks in it.
#[derive(Debug, Default)]
pub struct Segment {
    /// The clears the agent had asked for when it sent this; older than the present ones: dropped.
    pub epoch: u64,
    /// Its bytes are samples at 16 kHz.
    pub wide: bool,
    /// G.711 of the link's law, or pairs of samples of 16 bits.
    pub bytes: Vec<u8>,
    /// Marks by the count of this segment's units before them, in order.
    pub marks: Vec<(usize, u64)>,
    /// How many of `marks` were reported as played.
    pub marks_played: u16,
    /// Ends an utterance.
    pub finish: bool,
    /// Played of the utterance when this was dropped by a clear, in ms.
    pub(super) played_ms: u32,
    /// The one behind it in a chain.
    pub(super) next: Option<Box<Self>>,
}

impl Segment {
    /// Bytes of a unit.
    #[must_use]
    pub const fn unit_bytes(&self) -> usize {
        if self.wide { WIDE_UNIT_BYTES } else { 1 }
    }

    /// The next mark that was not reported, with the units before it.
    #[must_use]
    pub fn next_mark(&self) -> Option<(usize, u64)> {
        self.marks.get(usize::from(self.marks_played)).copied()
    }

    /// A clear drops it, and so much of the utterance was played.
    pub fn set_played_ms(&mut self, played_ms: u64) {
        self.played_ms = notice::ms(played_ms);
    }

    /// Nobody is to be told of its marks any more.
    pub fn forget_marks(&mut self) {
        self.marks.clear();
        self.marks_played = 0;
    }

    /// Units of audio in it.
    #[must_use]
    pub const fn units(&self) -> usize {
        self.bytes.len() / self.unit_bytes()
    }

    pub(super) fn reset(&mut self, epoch: u64, wide: bool) {
        self.epoch = epoch;
        self.wide = wide;
        self.bytes.clear();
        self.marks.clear();
        self.marks_played = 0;
        self.finish = false;
        self.played_ms = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_stays_small() {
        assert_eq!(size_of::<Segment>(), 72);
    }
}
