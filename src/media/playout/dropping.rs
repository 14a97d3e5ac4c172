//! What is queued and is not played.

use crate::audio::link::Segment;
use crate::media::playout::Playout;
use crate::media::playout::interrupted;
use crate::media::playout::report_marks;

/// What was queued and is not played.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Dropped {
    pub(super) samples: u64,
    /// Some of it was more than silence.
    pub(super) is_audible: bool,
    /// An utterance ended in it.
    pub(super) finished: bool,
}

impl Playout {
    /// Drops what is queued and tells its marks.
    pub(super) fn drop_queued(&mut self) -> Dropped {
        let mut dropped = Dropped::default();
        while self.drop_next(&mut dropped) {}
        dropped
    }

    /// The same of the silence that is queued before anything that is more than that: how many samples it was.
    pub(super) fn drop_silence(&mut self) -> u64 {
        let mut dropped = Dropped::default();
        while !self.is_next_audible() && self.drop_next(&mut dropped) {}
        dropped.samples
    }

    /// Whether what is played next is more than silence.
    pub(super) fn is_next_audible(&mut self) -> bool {
        let law = self.end.law();
        let is_audible = |segment: &Segment, read| interrupted::is_audible(law, segment, read);
        match &self.current {
            Some((segment, read)) => is_audible(segment, *read),
            None => self.end.peek().is_some_and(|segment| is_audible(segment, 0)),
        }
    }

    /// Drops the next segment; false where there is none, or its marks have to wait.
    pub(super) fn drop_next(&mut self, dropped: &mut Dropped) -> bool {
        let next = self.current.take().or_else(|| self.end.pop().map(|segment| (segment, 0)));
        let Some((mut segment, read)) = next else { return false };
        let length = segment.units();
        let rest = length.saturating_sub(read);
        dropped.samples += rest as u64;
        dropped.is_audible |= interrupted::is_audible(self.end.law(), &segment, read);
        self.end.consumed(rest);
        let before = self.utterance_samples;
        if !report_marks(&mut self.end, &mut segment, (length, length), before, |_, _| ()) {
            self.current = Some((segment, length));
            return false;
        }
        dropped.finished |= segment.finish;
        self.owed_drained += u32::from(segment.finish);
        self.end.give_back(segment);
        true
    }
}
