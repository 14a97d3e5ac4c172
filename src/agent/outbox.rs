//! `Outbox`: what waits while an agent does not read. Old audio gives way, so that an agent which
//! reads again hears the caller of now.

use crate::agent::dialect::Message;
use crate::agent::dialect::News;
use crate::audio::frame::WidePcm;
use crate::audio::link::FRAME_BYTES;
use crate::types::limit::AGENT_OUTBOX_EVENTS_MAX;
use crate::types::limit::AGENT_OUTBOX_FRAMES_MAX;
use std::collections::VecDeque;

/// One thing to tell the agent; numbered and encoded only when it is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Waiting {
    /// 20 ms of the caller.
    Audio([u8; FRAME_BYTES]),
    /// The same at 16 kHz.
    WideAudio(Box<WidePcm>),
    /// In place of so many frames that were dropped.
    SkippedFrames(u64),
    /// A key the caller pressed.
    Digit(char),
    /// The echo of a mark.
    Mark(String),
    /// The caller speaks over the agent, of whose utterance it heard so many ms.
    BargeIn(u64),
    /// Nobody hears the agent, of whose utterance so many ms were heard.
    Unheard(u64),
    /// What was written already: the answer to something the agent asked.
    Message(Message),
}

impl Waiting {
    /// What waits in place of `news`; `None` for what is never kept, because it changes what the dialect
    /// makes of the rest, or is of no use later.
    pub(crate) fn of(news: News<'_>) -> Option<Self> {
        match news {
            News::Audio(frame) => Some(Self::Audio(*frame)),
            News::WideAudio(wide) => Some(Self::WideAudio(Box::new(*wide))),
            News::SkippedFrames(frames) => Some(Self::SkippedFrames(frames)),
            News::Digit(digit) => Some(Self::Digit(digit)),
            News::Mark(name) => Some(Self::Mark(name.to_owned())),
            News::BargeIn(heard_ms) => Some(Self::BargeIn(heard_ms)),
            News::Unheard(heard_ms) => Some(Self::Unheard(heard_ms)),
            News::Cleared(_)
            | News::Relinked
            | News::Level(_)
            | News::Answer(_)
            | News::TransferFailed(_)
            | News::Ended => None,
        }
    }
}

/// A bounded queue towards an agent, used only while the network takes nothing.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    blocked: bool,
    /// Audio of either rate.
    frames: VecDeque<Waiting>,
    /// Each event with the number of frames, dropped ones included, that came before it.
    events: VecDeque<(u64, Waiting)>,
    /// Frames dropped from the front and not yet told to the encoder.
    skipped: u64,
    /// Frames taken from the front so far, sent or dropped.
    taken: u64,
    frames_dropped: u64,
    events_dropped: u64,
}

impl Outbox {
    /// What waits of the caller itself, for another connection: the rest meant the one before. What was dropped
    /// is not counted on.
    pub(crate) fn of_caller(mut self) -> Self {
        self.blocked = false;
        (self.frames_dropped, self.events_dropped) = (0, 0);
        self.events.retain(|(_, event)| matches!(event, Waiting::Digit(_)));
        self
    }

    pub(crate) const fn is_blocked(&self) -> bool {
        self.blocked
    }

    pub(crate) const fn block(&mut self) {
        self.blocked = true;
    }

    pub(crate) const fn unblock(&mut self) {
        self.blocked = false;
    }

    /// Frames dropped so far.
    pub(crate) const fn frames_dropped(&self) -> u64 {
        self.frames_dropped
    }

    /// Keys and marks dropped so far.
    pub(crate) const fn events_dropped(&self) -> u64 {
        self.events_dropped
    }

    /// Appends; over a bound the oldest of the same sort is dropped and counted.
    pub(crate) fn push(&mut self, waiting: Waiting) {
        match waiting {
            Waiting::Audio(_) | Waiting::WideAudio(_) => {
                if self.frames.len() >= AGENT_OUTBOX_FRAMES_MAX {
                    self.frames.pop_front();
                    self.taken += 1;
                    self.skipped += 1;
                    self.frames_dropped += 1;
                }
                self.frames.push_back(waiting);
            }
            Waiting::SkippedFrames(frames) => self.skipped += frames,
            Waiting::Digit(_)
            | Waiting::Mark(_)
            | Waiting::BargeIn(_)
            | Waiting::Unheard(_)
            | Waiting::Message(_) => {
                if self.events.len() >= AGENT_OUTBOX_EVENTS_MAX {
                    self.events.pop_front();
                    self.events_dropped += 1;
                }
                let position = self.taken + self.frames.len() as u64;
                self.events.push_back((position, waiting));
            }
        }
    }

    /// The next to be sent, in the order of arrival.
    pub(crate) fn pop(&mut self) -> Option<Waiting> {
        if self.skipped > 0 {
            return Some(Waiting::SkippedFrames(std::mem::take(&mut self.skipped)));
        }
        if self.events.front().is_some_and(|(position, _)| *position <= self.taken) {
            return self.events.pop_front().map(|(_, event)| event);
        }
        let frame = self.frames.pop_front()?;
        self.taken += 1;
        Some(frame)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(outbox: &mut Outbox) -> Vec<Waiting> {
        std::iter::from_fn(|| outbox.pop()).collect()
    }

    #[test]
    fn what_waits_leaves_in_the_order_of_arrival() {
        let mut outbox = Outbox::default();
        let all = [
            Waiting::Digit('1'),
            Waiting::Audio([1; FRAME_BYTES]),
            Waiting::Mark("a".to_owned()),
            Waiting::Mark("b".to_owned()),
            Waiting::Audio([2; FRAME_BYTES]),
            Waiting::Digit('2'),
        ];
        for _ in 0..2 {
            for waiting in all.clone() {
                outbox.push(waiting);
            }
            assert_eq!(drain(&mut outbox), all);
        }
    }

    #[test]
    fn the_oldest_audio_gives_way_and_is_counted() {
        let mut outbox = Outbox::default();
        outbox.push(Waiting::Mark("first".to_owned()));
        for value in 0..AGENT_OUTBOX_FRAMES_MAX + 3 {
            outbox.push(Waiting::Audio([value as u8; FRAME_BYTES]));
        }
        let left = drain(&mut outbox);
        assert_eq!(left.len(), AGENT_OUTBOX_FRAMES_MAX + 2);
        assert_eq!(left[0], Waiting::SkippedFrames(3));
        assert_eq!(left[1], Waiting::Mark("first".to_owned()));
        assert_eq!(left[2], Waiting::Audio([3; FRAME_BYTES]));
        assert_eq!((outbox.frames_dropped(), outbox.events_dropped()), (3, 0));
    }

    #[test]
    fn events_are_bounded_too() {
        let mut outbox = Outbox::default();
        for _ in 0..AGENT_OUTBOX_EVENTS_MAX + 5 {
            outbox.push(Waiting::Digit('1'));
        }
        assert_eq!(drain(&mut outbox).len(), AGENT_OUTBOX_EVENTS_MAX);
        assert_eq!(outbox.events_dropped(), 5);
    }
}
