//! The media thread's end of a link.

use crate::audio::frame::WidePcm;
use crate::audio::link::FRAME_BYTES;
use crate::audio::link::NEWS;
use crate::audio::link::Segment;
use crate::audio::link::Shared;
use crate::audio::link::frames::FramesIn;
use crate::audio::link::notice;
use crate::audio::link::notice::Count;
use crate::audio::link::notice::Notice;
use crate::audio::link::notices::NoticesIn;
use crate::audio::link::queue::QueueOut;
use crate::types::codec::Law;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Waker;

/// The media thread's end of a link. Dropping it reports [`Closed`](crate::audio::link::LinkEvent::Closed) to the agent.
#[derive(Debug)]
pub struct MediaEnd {
    pub(super) segments: QueueOut,
    pub(super) frames: FramesIn,
    pub(super) notices: NoticesIn,
    /// Utterance ends ever taken from the ring.
    pub(super) finishes_taken: u64,
    /// Something of the agent was heard.
    pub(super) heard: bool,
    pub(super) shared: Arc<Shared>,
}

impl MediaEnd {
    /// The law of G.711 that goes over this link, both ways: that of its agent.
    #[must_use]
    pub const fn law(&self) -> Law {
        self.frames.law()
    }

    /// Gives the agent 20 ms of caller audio, of the link's [law](Self::law). False when the agent does not keep up and
    /// the frame was dropped: it gets silence in its place.
    pub fn push_frame(&mut self, frame: &[u8; FRAME_BYTES]) -> bool {
        let is_taken = self.frames.push(frame);
        self.tell(is_taken)
    }

    /// Whether the agent hears 16 kHz.
    #[must_use]
    pub const fn takes_wide(&self) -> bool {
        self.frames.takes_wide()
    }

    /// The same at 16 kHz, of an agent that [takes it](Self::takes_wide).
    pub fn push_wide_frame(&mut self, wide: &WidePcm) -> bool {
        let is_taken = self.frames.push_wide(wide);
        self.tell(is_taken)
    }

    /// Lets the agent's end look, if there is something.
    fn tell(&self, is_taken: bool) -> bool {
        if is_taken {
            self.count_news(NEWS);
        }
        is_taken
    }

    /// Says that something was done. One thread at a time has this end.
    fn count_news(&self, by: u64) {
        let news = self.shared.news.load(Ordering::Relaxed);
        self.shared.news.store(news.wrapping_add(by), Ordering::Release);
    }

    fn push_notice(&mut self, notice: Notice) -> bool {
        let is_taken = self.notices.push(notice);
        if is_taken {
            self.shared.noticed.fetch_add(1, Ordering::AcqRel);
        }
        self.tell(is_taken)
    }

    /// Frames that the agent's task has not taken yet: so many ticks it is late.
    #[must_use]
    pub fn frames_waiting(&self) -> usize {
        self.frames.waiting()
    }

    /// Reports a key; false when it was dropped.
    pub fn push_digit(&mut self, digit: char) -> bool {
        self.push_notice(Notice::Digit(digit))
    }

    /// Reports a played mark; false when it must be tried again.
    pub fn push_mark(&mut self, id: u64, played_ms: u64) -> bool {
        self.push_notice(Notice::Mark { id, played_ms: notice::ms(played_ms) })
    }

    /// Reports a gap of `ms` inside a reply.
    pub fn push_underrun(&mut self, ms: u32) -> bool {
        self.push_notice(Notice::Underrun { ms })
    }

    /// Reports that the caller speaks over the agent, `heard_ms` of whose utterance were played; false when it
    /// was dropped.
    pub fn push_barge_in(&mut self, heard_ms: u64) -> bool {
        self.push_notice(Notice::BargeIn { heard_ms })
    }

    /// Reports that nobody hears the agent, `heard_ms` of whose utterance were played; false when it was dropped.
    pub fn push_unheard(&mut self, heard_ms: u64) -> bool {
        self.push_notice(Notice::Unheard { heard_ms })
    }

    /// Reports that the caller waits for the agent to say something, or does not any more; false when it must be tried
    /// again.
    pub fn push_caller_waits(&mut self, waits: bool) -> bool {
        self.push_notice(Notice::CallerWaits(waits))
    }

    /// Reports that a finished utterance was played; false when it must be tried again.
    pub fn push_drained(&mut self) -> bool {
        self.push_notice(Notice::Drained)
    }

    /// Reports a clear as done, after its segments were given back; false when it must be tried
    /// again.
    pub fn push_cleared(&mut self, epoch: u64, (played_ms, samples): (u64, u64)) -> bool {
        let played_ms = notice::ms(played_ms);
        let cleared =
            Notice::Cleared { epoch: epoch as u32, played_ms, samples: Count::new(samples) };
        self.push_notice(cleared)
    }

    /// The clears asked for so far. Segments of an older epoch are not played.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.shared.epoch.load(Ordering::Acquire)
    }

    /// True while the agent asks that nothing be played.
    #[must_use]
    pub fn held(&self) -> bool {
        self.shared.held.load(Ordering::Acquire)
    }

    /// True while what the agent says waits for whoever is to hear it.
    #[must_use]
    pub fn is_patient(&self) -> bool {
        self.shared.patient.load(Ordering::Acquire)
    }

    /// Whether anything of the agent was heard over this link, by whomever, or too much of it was said to be kept for that.
    #[must_use]
    pub const fn was_heard(&self) -> bool {
        self.heard
    }

    /// Something of it is heard now.
    pub const fn note_heard(&mut self, heard: bool) {
        self.heard |= heard;
    }

    /// True when the agent's end was dropped; what is queued can still be played.
    #[must_use]
    pub fn agent_gone(&self) -> bool {
        self.segments.is_abandoned()
    }

    /// The oldest queued segment, without taking it.
    #[must_use]
    pub fn peek(&self) -> Option<&Segment> {
        self.segments.peek()
    }

    /// Takes the oldest queued segment.
    pub fn pop(&mut self) -> Option<Box<Segment>> {
        let segment = self.segments.pop()?;
        let taken = self.shared.taken.load(Ordering::Relaxed) + 1;
        self.shared.taken.store(taken, Ordering::Release);
        self.finishes_taken += u64::from(segment.finish);
        Some(segment)
    }

    /// True when the end of an utterance is queued.
    #[must_use]
    pub fn finish_queued(&self) -> bool {
        self.shared.finishes.load(Ordering::Acquire) > self.finishes_taken
    }

    /// Gives an emptied or dropped segment back, to be freed by the agent's task.
    pub fn give_back(&mut self, segment: Box<Segment>) {
        self.shared.emptied.push(segment);
        self.count_news(NEWS);
    }

    /// Counts `units` as played or dropped.
    pub fn consumed(&mut self, units: usize) {
        let consumed = self.shared.consumed.load(Ordering::Relaxed) + units as u64;
        self.shared.consumed.store(consumed, Ordering::Release);
    }

    /// Audio in the ring or taken from it and not yet counted as consumed, in units.
    #[must_use]
    pub fn queued_units(&self) -> u64 {
        let consumed = self.shared.consumed.load(Ordering::Relaxed);
        self.shared.pushed.load(Ordering::Acquire).saturating_sub(consumed)
    }

    /// Reports [`Closed`](crate::audio::link::LinkEvent::Closed) to the agent, without freeing anything.
    pub fn hang_up(&self) {
        self.shared.closed.store(true, Ordering::Release);
        if let Some(waker) = self.take_waker() {
            waker.wake();
        }
    }

    /// Takes what wakes the agent's task, so that many can be woken together; `None`: it is awake.
    #[must_use]
    pub fn take_waker(&self) -> Option<Waker> {
        // Odd meanwhile, so that the agent's end does not rely on a waker that it puts there in between.
        self.count_news(1);
        let waker = self.shared.waker.take();
        self.count_news(NEWS - 1);
        waker
    }
}

impl Drop for MediaEnd {
    fn drop(&mut self) {
        self.hang_up();
    }
}
