//! `Announce`: plays an announcement once and then asks for the end of the call.

use crate::agent::builtin::BuiltIn;
use crate::agent::builtin::synthesis;
use crate::agent::builtin::synthesis::Note;
use crate::agent::session::Output;
use bytes::Bytes;
use std::sync::LazyLock;

/// An announcement, synthesised in code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Announcement {
    /// A rising chime, twice: 2.4 s.
    Standard,
    /// The special information tone (ITU-T E.180 §6), twice: what callers everywhere know as "this
    /// call cannot be completed"; played when the agent could not be reached or was lost. 2.8 s.
    Fallback,
}

const STANDARD: &[Note] = &[
    Note { hz: 523, ms: 300 },
    Note { hz: 659, ms: 300 },
    Note { hz: 784, ms: 500 },
    Note { hz: 0, ms: 100 },
    Note { hz: 523, ms: 300 },
    Note { hz: 659, ms: 300 },
    Note { hz: 784, ms: 600 },
];

const FALLBACK: &[Note] = &[
    Note { hz: 950, ms: 330 },
    Note { hz: 1_400, ms: 330 },
    Note { hz: 1_800, ms: 330 },
    Note { hz: 0, ms: 500 },
    Note { hz: 950, ms: 330 },
    Note { hz: 1_400, ms: 330 },
    Note { hz: 1_800, ms: 330 },
    Note { hz: 0, ms: 300 },
];

impl Announcement {
    /// The announcement as µ-law at 8 kHz. Made once in the life of the process.
    #[must_use]
    pub fn audio(self) -> Bytes {
        static STANDARD_AUDIO: LazyLock<Bytes> = LazyLock::new(|| synthesis::melody(STANDARD));
        static FALLBACK_AUDIO: LazyLock<Bytes> = LazyLock::new(|| synthesis::melody(FALLBACK));
        match self {
            Self::Standard => STANDARD_AUDIO.clone(),
            Self::Fallback => FALLBACK_AUDIO.clone(),
        }
    }
}

/// The tone after which one speaks: 1 kHz, 400 ms.
#[must_use]
pub fn beep() -> Bytes {
    static AUDIO: LazyLock<Bytes> = LazyLock::new(|| synthesis::melody(BEEP));
    AUDIO.clone()
}

const BEEP: &[Note] =
    &[Note { hz: 0, ms: 100 }, Note { hz: 1_000, ms: 400 }, Note { hz: 0, ms: 100 }];

/// Plays an announcement.
#[derive(Debug)]
pub struct Announce {
    announcement: Announcement,
    done: bool,
}

impl Announce {
    /// An agent that plays `announcement`.
    #[must_use]
    pub const fn new(announcement: Announcement) -> Self {
        Self { announcement, done: false }
    }
}

impl BuiltIn for Announce {
    fn begin(&mut self, out: &mut Vec<Output>) {
        out.push(Output::Play(self.announcement.audio()));
        out.push(Output::Finish);
    }

    fn drained(&mut self, out: &mut Vec<Output>) {
        if !self.done {
            self.done = true;
            out.push(Output::HangupRequested);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::builtin::synthesis::tests::check_tone;

    fn check(announcement: Announcement, notes: &[Note]) {
        let audio = announcement.audio();
        let mut start = 0;
        for note in notes {
            let samples = note.ms * 8;
            // 100 ms from the middle of the note.
            let middle = start + samples / 2 - 400;
            let middle = &audio[middle..middle + 800];
            check_tone(middle, note.hz);
            start += samples;
        }
        assert_eq!(audio.len(), start);
    }

    #[test]
    fn the_two_announcements_are_known_by_their_notes() {
        check(Announcement::Standard, STANDARD);
        check(Announcement::Fallback, FALLBACK);
    }

    #[test]
    fn the_call_is_ended_once_and_only_after_the_last_note() {
        let mut announce = Announce::new(Announcement::Standard);
        let mut out = Vec::new();
        announce.begin(&mut out);
        assert_eq!(out, [Output::Play(Announcement::Standard.audio()), Output::Finish]);
        out.clear();
        announce.drained(&mut out);
        announce.drained(&mut out);
        assert_eq!(out, [Output::HangupRequested]);
    }
}
