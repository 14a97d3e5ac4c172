//! The link between a media thread and an agent's task: caller audio one way, agent audio with its
//! marks the other, and `clear`, which overtakes everything queued.
//!
//! Audio is G.711 at 8 kHz both ways, or samples at 16 kHz where the agent and the caller's codec have
//! them. It is counted in units of 8 kHz: a byte of G.711, two samples at 16 kHz. A link has one law of G.711 for good, that
//! of the agent it is made for; who else comes to its agent's end and speaks the other has it turned there. Each way is a
//! ring with one producer and one consumer, so neither end ever waits for the other. The media end neither allocates nor
//! frees: emptied segments go back to the agent's end as a chain, which reuses or drops them.

use crate::audio::g711;
use crate::audio::link::emptied::Emptied;
use crate::audio::link::frames::FramesOut;
use crate::audio::link::notice::Notice;
use crate::audio::link::notices::NoticesOut;
use crate::audio::link::queue::ALONE_MAX;
use crate::audio::link::queue::PLACES_MAX;
use crate::audio::link::queue::QueueIn;
use crate::audio::link::queue::Waiting;
use crate::types::codec::Law;
use crate::types::limit::AGENT_CHUNK_BYTES_MAX;
use crate::types::limit::AGENT_ITEMS_MAX;
use crate::types::limit::AGENT_MARKS_MAX;
use crate::types::limit::AGENT_PLAYOUT_MS_MAX;
use futures_util::task::AtomicWaker;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::task::Waker;

mod ahead;
mod emptied;
mod event;
mod frames;
mod media_end;
mod notice;
mod notices;
mod queue;
mod segment;

pub use crate::audio::link::event::Came;
pub use crate::audio::link::event::LinkEvent;
pub use crate::audio::link::media_end::MediaEnd;
pub use crate::audio::link::segment::Segment;

/// Bytes of one frame of caller audio: 20 ms of G.711 at 8 kHz.
pub const FRAME_BYTES: usize = 160;

/// Units of audio in a millisecond.
const UNITS_PER_MS: u64 = 8;

/// Bytes of a unit at 16 kHz: two samples of 16 bits, the lesser byte first.
pub const WIDE_UNIT_BYTES: usize = 4;

/// Above this much audio in the ring, further audio is gathered into larger segments, so that a bot
/// that sends a minute at once in 20 ms pieces does not fill the ring's items.
const GATHER_ABOVE_UNITS: u64 = 500 * UNITS_PER_MS;

/// Above this many segments too, where they are marks alone. Audio in small pieces is gathered as soon as segments go in
/// chains, so that a bot that sends single bytes does not either.
const GATHER_ABOVE_SEGMENTS: u64 = 64;

/// The mark of an agent that says by it that what it queued is a whole reply: nobody asked for it, and nobody is told.
pub const REPLY_END: u64 = 0;

/// So many segments are left where the media end put them or has them, while there is more to play: who sends the next
/// takes them, and needs one of them then.
const LEFT_MAX: u64 = 2;

/// What the count of news goes up by, so that it stays even but while the waker is taken.
const NEWS: u64 = 2;

/// Larger segments, of an agent that sends faster than it is played, are not kept for reuse.
const SPARE_BYTES_MAX: usize = 2_000;

/// A new link to an agent that hears 8 kHz, of µ-law. The media end goes to the media thread, the agent's end to the
/// agent's task.
#[must_use]
pub fn link() -> (MediaEnd, AgentEnd) {
    link_of(Law::Mu)
}

/// The same of a law, that of the agent.
#[must_use]
pub fn link_of(law: Law) -> (MediaEnd, AgentEnd) {
    linked(false, law, &Room::USUAL)
}

/// The same to an agent that says at once what it has to say, and waits with the rest until that was played: what it
/// gives beyond the room waits with its task.
#[must_use]
pub fn short_link() -> (MediaEnd, AgentEnd) {
    linked(false, Law::Mu, &Room::SHORT)
}

/// A new link to an agent that hears 16 kHz where the caller's codec has them.
#[must_use]
pub fn wide_link() -> (MediaEnd, AgentEnd) {
    linked(true, Law::Mu, &Room::USUAL)
}

/// What has room on a link.
struct Room {
    segments: usize,
    /// For these, alone or in chains.
    places: usize,
    notices: usize,
}

impl Room {
    const USUAL: Self =
        Self { segments: AGENT_ITEMS_MAX, places: PLACES_MAX, notices: NOTICES_MAX };
    const SHORT: Self = Self {
        segments: AGENT_ITEMS_MAX / 8,
        places: AGENT_ITEMS_MAX / 8,
        notices: NOTICES_MAX / 2,
    };
}

fn linked(is_wide: bool, law: Law, room: &Room) -> (MediaEnd, AgentEnd) {
    let (items_in, items_out) = queue::ring(room.places);
    let (frames_in, frames_out) = frames::ring(is_wide, law);
    let (notices_in, notices_out) = notices::ring(room.notices);
    let shared = Arc::new(Shared::default());
    let media = MediaEnd {
        segments: items_out,
        frames: frames_in,
        notices: notices_in,
        finishes_taken: 0,
        heard: false,
        shared: Arc::clone(&shared),
    };
    let agent = AgentEnd {
        shared,
        registered: None,
        looked: None,
        gathering: None,
        segments: items_in,
        segments_sent: 0,
        segments_max: room.segments as u64,
        taken_back: 0,
        spare: None,
        frames: frames_out,
        notices: notices_out,
        notices_taken: 0,
        returned: VecDeque::new(),
        marks_outstanding: 0,
        closed_seen: false,
        keys_private: false,
        gathering_cleared: VecDeque::new(),
        dropped: Vec::new(),
    };
    (media, agent)
}

/// Small events waiting for the agent's task. When full, the session keeps a mark and tries again
/// in the next tick; other events are dropped.
const NOTICES_MAX: usize = 32;

// First what each frame needs.
#[derive(Debug, Default)]
#[repr(C)]
struct Shared {
    /// Goes up with all that the media end does for the agent's end to look at; odd while it takes the waker. Written by
    /// the media end.
    news: AtomicU64,
    /// Notices ever put into their ring, which is looked at only where there are more than were taken. Written by the
    /// media end.
    noticed: AtomicU64,
    /// Units ever put into the ring. Written by the agent's end.
    pushed: AtomicU64,
    /// Units ever played or dropped. Written by the media end alone, which so need not lock it to count on.
    consumed: AtomicU64,
    /// Segments ever taken from the ring. The same.
    taken: AtomicU64,
    waker: AtomicWaker,
    /// The media end is gone.
    closed: AtomicBool,
    /// The agent asks that nothing be played yet.
    held: AtomicBool,
    /// What the agent says waits for whoever is to hear it.
    patient: AtomicBool,
    /// Counts clears. Written by the agent's end, read every tick: this is what lets a clear
    /// overtake a full ring.
    epoch: AtomicU64,
    /// Utterance ends ever put into the ring. Written by the agent's end.
    finishes: AtomicU64,
    /// Played or dropped segments on their way back.
    emptied: Emptied,
}

/// The agent's end of a link.
// In this order, because the first is what is looked at whenever the agent's task is woken, and nothing of it is in a
// cache by then.
#[derive(Debug)]
#[repr(C)]
pub struct AgentEnd {
    shared: Arc<Shared>,
    /// Whose waker lies there, by where that task is, unless there was news since this count of it.
    registered: Option<(usize, u64)>,
    /// The count of news when nothing more was found.
    looked: Option<u64>,
    /// Not yet on its way, because much is queued already or too many are.
    gathering: Option<Box<Segment>>,
    segments: QueueIn,
    /// Segments ever sent.
    segments_sent: u64,
    /// So many may be on their way.
    segments_max: u64,
    /// Segments that ever came back.
    taken_back: u64,
    /// Kept for reuse; the rest is dropped. One comes back about as often as one is sent, so more than one would only
    /// lie there.
    spare: Option<Box<Segment>>,
    frames: FramesOut,
    notices: NoticesOut,
    /// Notices ever taken.
    notices_taken: u64,
    /// Marks to report next: id and played ms.
    returned: VecDeque<(u64, u64)>,
    marks_outstanding: usize,
    closed_seen: bool,
    keys_private: bool,
    /// Marks that were in `gathering` when a clear dropped it, by the epoch they belonged to.
    gathering_cleared: VecDeque<(u64, u64)>,
    /// Marks of segments that a clear dropped which was not answered yet: id and played ms.
    dropped: Vec<(u64, u64)>,
}

impl AgentEnd {
    /// Says in which law of G.711 is spoken and heard at this end from now on; µ-law until then. Where the link has the
    /// other, each byte is turned.
    pub const fn speak(&mut self, law: Law) {
        self.frames.speak(law);
    }

    /// The law that is spoken at this end.
    #[must_use]
    pub const fn spoken(&self) -> Law {
        self.frames.laws().0
    }

    /// Queues audio of G.711, of the law that is [spoken](Self::speak) here. Returns how many bytes were taken; fewer than
    /// given, down to 0, when the queue is full: keep the rest, stop reading from the agent and try again after the next
    /// event.
    pub fn push_audio(&mut self, encoded: &[u8]) -> usize {
        self.push(encoded, false)
    }

    /// The same of pairs of samples at 16 kHz, of 16 bits with the lesser byte first. What is no whole pair at the
    /// end is not taken.
    pub fn push_wide(&mut self, bytes: &[u8]) -> usize {
        self.push(bytes, true)
    }

    fn push(&mut self, bytes: &[u8], wide: bool) -> usize {
        let (spoken, law) = self.frames.laws();
        let mut rest = bytes;
        while !rest.is_empty() && self.queued_ms() < AGENT_PLAYOUT_MS_MAX {
            let Some(segment) = self.open_segment(Some(wide)) else { break };
            let room = AGENT_CHUNK_BYTES_MAX - segment.bytes.len();
            let length = room.min(rest.len());
            let (now, later) = rest.split_at(length - length % segment.unit_bytes());
            if now.is_empty() {
                break;
            }
            let begin = segment.bytes.len();
            segment.bytes.extend_from_slice(now);
            if !wide {
                g711::convert(spoken, law, segment.bytes.get_mut(begin..).unwrap_or_default());
            }
            rest = later;
            self.hand_over_if_due();
        }
        bytes.len() - rest.len()
    }

    /// Queues a mark behind the audio queued so far. False when no further mark can be taken.
    pub fn push_mark(&mut self, id: u64) -> bool {
        if self.marks_outstanding >= AGENT_MARKS_MAX {
            return false;
        }
        let Some(segment) = self.open_segment(None) else { return false };
        segment.marks.push((segment.units(), id));
        self.marks_outstanding += 1;
        self.hand_over_if_due();
        true
    }

    /// Ends the utterance: what is queued is played even if it is shorter than the pre-roll, and
    /// [`LinkEvent::Drained`] follows its last sample. False when there is no room for another end of an
    /// utterance: try again after the next event.
    pub fn finish(&mut self) -> bool {
        let is_new = match self.open_segment(None) {
            Some(segment) => !std::mem::replace(&mut segment.finish, true),
            // Full, and not handed over yet.
            None => (self.gathering.as_deref_mut())
                .is_some_and(|segment| !std::mem::replace(&mut segment.finish, true)),
        };
        self.hand_over();
        is_new
    }

    /// Drops everything queued. The media thread falls silent in its next tick and then answers with
    /// [`LinkEvent::Cleared`] and all outstanding marks.
    pub fn clear(&mut self) {
        // What the media end has drops there, in its turn with what it drops beside.
        self.hand_over_waiting();
        let before = self.shared.epoch.fetch_add(1, Ordering::AcqRel);
        let mut waiting = self.segments.take_waiting();
        while let Some(mut segment) = waiting {
            waiting = segment.next.take();
            self.segments_sent -= 1;
            self.drop_own(before, segment);
        }
        if let Some(segment) = self.gathering.take() {
            self.drop_own(before, segment);
        }
    }

    /// A clear dropped what the media end never had.
    fn drop_own(&mut self, epoch: u64, segment: Box<Segment>) {
        self.gathering_cleared.extend(segment.marks.iter().map(|(_, id)| (epoch, *id)));
        self.keep_spare(segment);
    }

    /// Asks that nothing be played until this is called with `false`; caller audio goes on.
    pub fn hold_playout(&mut self, held: bool) {
        self.shared.held.store(held, Ordering::Release);
    }

    /// Whether what is queued waits as long as nobody hears it, instead of being dropped: of who says nothing more until it
    /// was heard.
    pub fn wait_for_caller(&mut self, waits: bool) {
        self.shared.patient.store(waits, Ordering::Release);
    }

    /// Audio queued and not yet played, in ms, rounded up.
    #[must_use]
    pub fn queued_ms(&self) -> u32 {
        let gathering = self.gathering.as_ref().map_or(0, |segment| segment.units() as u64);
        let units = self.sent_units() + gathering;
        u32::try_from(units.div_ceil(UNITS_PER_MS)).unwrap_or(u32::MAX)
    }

    /// The next event; `None` when there is none yet. Call it until `None` after every wake-up: it
    /// also hands gathered audio over to the media thread.
    #[expect(clippy::should_implement_trait, reason = "not an iterator: it can resume after None")]
    pub fn next(&mut self) -> Option<LinkEvent> {
        let mut audio = None;
        match self.next_or_hear(|frame| audio = Some(LinkEvent::Audio(*frame)))? {
            Came::Heard => audio,
            Came::Event(event) => Some(event),
        }
    }

    /// The same, but that 20 ms of G.711 are given to `hear` where they lie: they are most of what comes, and are not
    /// copied for it.
    pub fn next_or_hear(&mut self, hear: impl FnOnce(&[u8; FRAME_BYTES])) -> Option<Came> {
        // Before it is looked: what is done meanwhile counts as news of the next time.
        let news = self.shared.news.load(Ordering::Acquire);
        if self.looked == Some(news) && self.is_at_rest() {
            return None;
        }
        let came = self.look(hear);
        if came.is_none() {
            self.looked = Some(news);
        }
        came
    }

    /// Nothing is to be done here but what the media end does first.
    fn is_at_rest(&self) -> bool {
        self.gathering.is_none() && self.segments.is_empty() && self.returned.is_empty()
    }

    /// Looks wherever something may be.
    fn look(&mut self, hear: impl FnOnce(&[u8; FRAME_BYTES])) -> Option<Came> {
        self.hand_over_if_due();
        self.hand_over_waiting();
        if let Some((id, played_ms)) = self.returned.pop_front() {
            self.marks_outstanding = self.marks_outstanding.saturating_sub(1);
            return Some(Came::Event(LinkEvent::Mark { id, played_ms }));
        }
        // Read before the rings, so that what was written before the end is not lost.
        let closed = self.shared.closed.load(Ordering::Acquire);
        if self.shared.noticed.load(Ordering::Acquire) != self.notices_taken
            && let Some(notice) = self.notices.pop()
        {
            self.notices_taken = self.notices_taken.wrapping_add(1);
            return Some(Came::Event(self.event(notice)));
        }
        let frame = self.frames.next_or_hear(hear);
        if frame.is_some() {
            return frame;
        }
        self.take_back_if_due();
        if closed && !self.closed_seen {
            self.closed_seen = true;
            return Some(Came::Event(LinkEvent::Closed));
        }
        None
    }

    /// The caller's keys are not for agents outside the switch, whoever has this end.
    pub const fn keep_keys_private(&mut self) {
        self.keys_private = true;
    }

    /// Whether they are not.
    #[must_use]
    pub const fn keys_are_private(&self) -> bool {
        self.keys_private
    }

    /// Whether [`LinkEvent::Closed`] was told: nothing more is.
    #[must_use]
    pub const fn is_over(&self) -> bool {
        self.closed_seen
    }

    /// Wakes `waker` at the next event. Register first, then call [`Self::next`] until `None`.
    pub fn register(&mut self, waker: &Waker) {
        let news = self.shared.news.load(Ordering::Acquire);
        // A waker that lies there is held by that, so that no other task is where its task is; and it is taken with news.
        let place = waker.data().addr();
        if self.registered == Some((place, news)) {
            return;
        }
        self.shared.waker.register(waker);
        // One that came while another was taken was woken, and does not lie there.
        let lies_there =
            news.is_multiple_of(NEWS) && self.shared.news.load(Ordering::Acquire) == news;
        self.registered = lies_there.then_some((place, news));
    }

    fn event(&mut self, notice: Notice) -> LinkEvent {
        match notice {
            Notice::Digit(digit) => LinkEvent::Digit(digit),
            Notice::Mark { id, played_ms } => {
                self.marks_outstanding = self.marks_outstanding.saturating_sub(1);
                LinkEvent::Mark { id, played_ms: played_ms.into() }
            }
            Notice::Cleared { epoch, played_ms, samples } => {
                // Only this end makes it greater.
                let epoch = notice::epoch(self.shared.epoch.load(Ordering::Relaxed), epoch);
                let played_ms = played_ms.into();
                self.take_back(Some((epoch, played_ms)));
                LinkEvent::Cleared { played_ms, samples: samples.get() }
            }
            Notice::Underrun { ms } => LinkEvent::Underrun { ms },
            Notice::BargeIn { heard_ms } => LinkEvent::BargeIn { heard_ms },
            Notice::Unheard { heard_ms } => LinkEvent::Unheard { heard_ms },
            Notice::CallerWaits(waits) => LinkEvent::CallerWaits(waits),
            Notice::Drained => LinkEvent::Drained,
        }
    }

    /// Takes emptied segments back. The media end gives dropped segments back before it says
    /// `Cleared`, so at that event all their marks are here; until then those marks wait.
    fn take_back(&mut self, cleared: Option<(u64, u64)>) {
        let mut emptied = self.shared.emptied.take();
        while let Some(mut segment) = emptied {
            emptied = segment.next.take();
            self.taken_back += 1;
            let marks = segment.marks.iter().skip(segment.marks_played.into());
            self.dropped.extend(marks.map(|(_, id)| (*id, segment.played_ms.into())));
            self.keep_spare(segment);
        }
        if let Some((epoch, played_ms)) = cleared {
            self.returned.extend(std::mem::take(&mut self.dropped));
            while let Some((_, id)) = self.gathering_cleared.pop_front_if(|mark| mark.0 < epoch) {
                self.returned.push_back((id, played_ms));
            }
        }
    }

    /// Takes them back where they would become many, or where nobody sends the next: each is far from here.
    fn take_back_if_due(&mut self) {
        let taken = self.shared.taken.load(Ordering::Acquire);
        let left = taken.saturating_sub(self.taken_back);
        if left > LEFT_MAX || (left > 0 && self.sent_units() == 0) {
            self.take_back(None);
        }
    }

    fn keep_spare(&mut self, mut segment: Box<Segment>) {
        if self.spare.is_none() && segment.bytes.capacity() <= SPARE_BYTES_MAX {
            segment.reset(0, false);
            self.spare = Some(segment);
        }
    }

    /// The segment that takes what comes next, at 16 kHz or not, `None`: what takes no time; `None` when the ring and
    /// this one are full.
    fn open_segment(&mut self, wide: Option<bool>) -> Option<&mut Segment> {
        let closed = |segment: &Segment| {
            let is_other = wide.is_some_and(|wide| wide != segment.wide);
            segment.finish || segment.bytes.len() >= AGENT_CHUNK_BYTES_MAX || is_other
        };
        if self.gathering.as_deref().is_some_and(closed) {
            self.hand_over();
            if self.gathering.is_some() {
                return None;
            }
        }
        if self.gathering.is_none() {
            self.take_back(None);
            let mut segment = self.spare.take().unwrap_or_default();
            segment.reset(self.shared.epoch.load(Ordering::Relaxed), wide == Some(true));
            self.gathering = Some(segment);
        }
        self.gathering.as_deref_mut()
    }

    fn hand_over_if_due(&mut self) {
        let Some(segment) = &self.gathering else { return };
        let full = segment.bytes.len() >= AGENT_CHUNK_BYTES_MAX || segment.finish;
        let segments = self.segments_under_way();
        let worth_it = match segment.units() {
            0 => segments < GATHER_ABOVE_SEGMENTS,
            units => segments < ALONE_MAX || units >= FRAME_BYTES,
        };
        let short = worth_it && self.sent_units() < GATHER_ABOVE_UNITS;
        if full || short {
            self.hand_over();
        }
    }

    fn hand_over(&mut self) {
        if self.segments_under_way() < self.segments_max
            && let Some(segment) = self.gathering.take()
        {
            self.segments_sent += 1;
            self.segments.push(segment);
        }
        self.hand_over_waiting();
    }

    fn hand_over_waiting(&mut self) {
        self.segments.hand_over(|waiting| self.shared.count(waiting));
    }

    /// Segments that were sent and not taken yet.
    fn segments_under_way(&self) -> u64 {
        self.segments_sent.saturating_sub(self.shared.taken.load(Ordering::Acquire))
    }

    /// What was sent and not played yet.
    fn sent_units(&self) -> u64 {
        let consumed = self.shared.consumed.load(Ordering::Acquire);
        let pushed = self.shared.pushed.load(Ordering::Relaxed);
        pushed.saturating_sub(consumed) + self.segments.waiting_units()
    }
}

impl Shared {
    /// Counts what goes into the ring before it can be played, so that no difference goes below zero.
    fn count(&self, waiting: &Waiting) {
        self.pushed.fetch_add(waiting.units, Ordering::AcqRel);
        self.finishes.fetch_add(waiting.finishes, Ordering::AcqRel);
    }
}

impl Drop for AgentEnd {
    /// What was gathered is still played.
    fn drop(&mut self) {
        if let Some(segment) = self.gathering.take() {
            self.segments.push(segment);
        }
        self.segments.hand_over_all(|waiting| self.shared.count(waiting));
        // The media end is not to free them.
        drop(self.shared.emptied.take());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(media: &mut MediaEnd) -> Vec<u8> {
        let mut bytes = Vec::new();
        while let Some(segment) = media.pop() {
            bytes.extend_from_slice(&segment.bytes);
            media.consumed(segment.bytes.len());
            media.give_back(segment);
        }
        bytes
    }

    #[test]
    fn audio_comes_out_in_order_whatever_its_size() {
        let (mut media, mut agent) = link();
        let sent: Vec<u8> = (0..30_000u32).map(|n| (n % 251) as u8).collect();
        let mut rest = sent.as_slice();
        for size in [1, 159, 160, 161, 4_000, 16_000, 9_519] {
            let (chunk, later) = rest.split_at(size);
            assert_eq!(agent.push_audio(chunk), size);
            rest = later;
        }
        assert_eq!(agent.queued_ms(), 3_750);
        let mut got = drain(&mut media);
        assert_eq!(agent.next(), None);
        got.extend(drain(&mut media));
        assert_eq!(got, sent);
        assert_eq!(agent.queued_ms(), 0);
    }

    #[test]
    fn every_code_goes_both_ways_as_it_is_but_for_who_speaks_another_law_than_the_link() {
        let codes: Vec<u8> = (0..5).flat_map(|_| 0..=u8::MAX).collect();
        for law in [Law::Mu, Law::A] {
            for spoken in [Law::Mu, Law::A] {
                let (mut media, mut agent) = link_of(law);
                assert_eq!((media.law(), agent.spoken()), (law, Law::Mu));
                agent.speak(spoken);
                assert_eq!(agent.push_audio(&codes), codes.len());
                let mut turned = codes.clone();
                g711::convert(spoken, law, &mut turned);
                assert_eq!(drain(&mut media), turned);
                for frame in codes.as_chunks::<FRAME_BYTES>().0 {
                    let mut turned = *frame;
                    g711::convert(law, spoken, &mut turned);
                    assert!(media.push_frame(frame));
                    assert_eq!(agent.next(), Some(LinkEvent::Audio(turned)));
                }
            }
        }
    }

    #[test]
    fn samples_at_16_khz_have_no_law() {
        let (mut media, mut agent) = wide_link();
        agent.speak(Law::A);
        assert_eq!(agent.push_wide(&[0x12; 640]), 640);
        assert_eq!(media.pop().map(|segment| segment.bytes.clone()), Some(vec![0x12; 640]));
    }

    #[test]
    fn each_end_of_an_utterance_is_one_however_full_the_ring_is() {
        let (mut media, mut agent) = link();
        let mut finished = 0;
        while agent.finish() {
            finished += 1;
        }
        assert_eq!(finished, AGENT_ITEMS_MAX + 1, "the ring, and what waits for it");
        assert!(!agent.finish(), "not merged with the one before");
        let mut got = 0;
        for _ in 0..2 {
            while let Some(segment) = media.pop() {
                got += usize::from(segment.finish);
                media.give_back(segment);
            }
            if agent.finish() {
                finished += 1;
            }
        }
        got += std::iter::from_fn(|| media.pop()).filter(|segment| segment.finish).count();
        assert_eq!(got, finished);
    }

    #[test]
    fn a_minute_in_twenty_millisecond_pieces_fits_and_then_it_is_full() {
        let (mut media, mut agent) = link();
        let pieces = AGENT_PLAYOUT_MS_MAX / 20;
        for piece in 0..pieces {
            assert_eq!(agent.push_audio(&[0x55; 160]), 160);
            assert_eq!(agent.push_mark(u64::from(piece)), piece < AGENT_MARKS_MAX as u32);
        }
        assert_eq!(agent.push_audio(&[0x55; 160]), 0);
        assert_eq!(agent.queued_ms(), AGENT_PLAYOUT_MS_MAX);
        assert!(drain(&mut media).len() > 400_000);
        assert_eq!(agent.push_audio(&[0x55; 160]), 160);
    }

    #[test]
    fn what_a_short_link_has_no_room_for_is_taken_once_something_was_played() {
        let (mut media, mut agent) = short_link();
        let sent: Vec<u8> = (0..200_000u32).map(|n| (n % 251) as u8).collect();
        let first = agent.push_audio(&sent);
        assert!((100_000..200_000).contains(&first), "some seconds: {first}");
        assert_eq!(agent.push_audio(&sent[first..]), 0);
        let mut got = drain(&mut media);
        assert_eq!(agent.push_audio(&sent[first..]), sent.len() - first);
        assert!(agent.push_mark(1) && agent.finish());
        let mut marks = 0;
        while let Some(segment) = media.pop() {
            got.extend_from_slice(&segment.bytes);
            marks += segment.marks.len();
            media.consumed(segment.bytes.len());
            media.give_back(segment);
        }
        assert_eq!((got == sent, marks, agent.queued_ms()), (true, 1, 0));
        while agent.finish() {}
        assert_eq!(std::iter::from_fn(|| media.pop()).count(), AGENT_ITEMS_MAX / 8);
    }

    #[test]
    fn a_clear_returns_every_mark_once_and_in_order() {
        let (mut media, mut agent) = link();
        for id in 0..400 {
            assert_eq!(agent.push_audio(&[0x55; 160]), 160);
            assert!(agent.push_mark(id));
        }
        agent.clear();
        assert_eq!(media.epoch(), 1);
        while let Some(mut segment) = media.pop() {
            media.consumed(segment.bytes.len());
            segment.set_played_ms(7);
            media.give_back(segment);
        }
        assert_eq!(agent.next(), None, "marks wait for the clear to be answered");
        assert!(media.push_cleared(1, (7, 56)));
        assert_eq!(agent.next(), Some(LinkEvent::Cleared { played_ms: 7, samples: 56 }));
        for id in 0..400 {
            assert_eq!(agent.next(), Some(LinkEvent::Mark { id, played_ms: 7 }));
        }
        assert_eq!(agent.next(), None);
        assert_eq!(agent.queued_ms(), 0);
    }

    #[test]
    fn a_clear_is_answered_at_once_though_the_agent_did_not_read_of_those_before() {
        let (mut media, mut agent) = link();
        for id in 0..300 {
            assert!(agent.push_mark(id));
            if id % 60 == 59 {
                agent.clear();
                while let Some(mut segment) = media.pop() {
                    segment.set_played_ms(id / 60);
                    media.give_back(segment);
                }
                assert!(media.push_cleared(media.epoch(), (id / 60, 0)));
            }
        }
        let told: Vec<LinkEvent> = std::iter::from_fn(|| agent.next()).collect();
        let is_clear = |event: &&LinkEvent| matches!(event, LinkEvent::Cleared { .. });
        assert_eq!(told.iter().filter(is_clear).count(), 5);
        let marks: Vec<LinkEvent> = told.into_iter().filter(|event| !is_clear(&event)).collect();
        let sent = |id| LinkEvent::Mark { id, played_ms: id / 60 };
        assert_eq!(marks, (0..300).map(sent).collect::<Vec<_>>());
    }

    #[test]
    fn what_waits_for_a_place_when_the_agent_goes_is_still_played() {
        let (mut media, mut agent) = link();
        let mut ids = 0..;
        // Single marks, then segments that are full: as many as there may be, and one that is gathered.
        while agent.segments_under_way() < GATHER_ABOVE_SEGMENTS - 3 {
            assert!(ids.next().is_some_and(|id| agent.push_mark(id)));
        }
        let mut bytes = 0;
        while agent.push_audio(&[0x55; AGENT_CHUNK_BYTES_MAX]) > 0 {
            bytes += AGENT_CHUNK_BYTES_MAX;
        }
        assert!(agent.push_mark(ids.start));
        assert!(agent.segments.waiting_units() > 0 && agent.gathering.is_some());
        assert_eq!(agent.queued_ms(), 60_000);
        drop(agent);
        assert!(media.agent_gone());
        let taken: Vec<Box<Segment>> = std::iter::from_fn(|| media.pop()).collect();
        assert_eq!(taken.iter().map(|segment| segment.bytes.len()).sum::<usize>(), bytes);
        let marks = taken.iter().flat_map(|segment| &segment.marks).map(|(_, id)| *id);
        assert!(marks.eq(0..=ids.start));
    }

    #[test]
    fn whatever_is_sent_and_taken_when_arrives_whole_and_in_order() {
        let mut state = 7_u64;
        let mut next = |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) % below
        };
        for _ in 0..300 {
            let (mut media, mut agent) = if next(2) == 0 { link() } else { short_link() };
            let (mut sent, mut marks, mut finishes) = (0_u64, 0, 0);
            let mut got = Vec::new();
            let mut got_marks = Vec::new();
            let mut got_finishes = 0;
            let mut take = |media: &mut MediaEnd| {
                let Some(segment) = media.pop() else { return };
                got_marks.extend(segment.marks.iter().map(|(at, id)| (got.len() + at, *id)));
                got.extend_from_slice(&segment.bytes);
                got_finishes += usize::from(segment.finish);
                media.consumed(segment.units());
                media.give_back(segment);
            };
            let mut sent_marks = Vec::new();
            for _ in 0..next(400) {
                match next(9) {
                    0 => take(&mut media),
                    1 if next(9) == 0 => (0..next(90)).for_each(|_| take(&mut media)),
                    2 => finishes += usize::from(agent.finish()),
                    3 if agent.push_mark(marks) => {
                        sent_marks.push((sent as usize, marks));
                        marks += 1;
                    }
                    1 | 3 | 4 => while agent.next().is_some() {},
                    _ => {
                        let most = [1, 161, 20_000][next(3) as usize];
                        let piece = sent..sent + next(most);
                        let bytes: Vec<u8> = piece.map(|at| (at % 251) as u8).collect();
                        sent += agent.push_audio(&bytes) as u64;
                    }
                }
                let waits = agent.segments.waiting_units();
                let gathered = agent.gathering.as_ref().map_or(0, |segment| segment.units() as u64);
                let queued = media.queued_units() + waits + gathered;
                assert_eq!(u64::from(agent.queued_ms()), queued.div_ceil(UNITS_PER_MS));
            }
            drop(agent);
            (0..200).for_each(|_| take(&mut media));
            assert!(got.iter().zip(0_u64..).all(|(byte, at)| u64::from(*byte) == at % 251));
            assert_eq!((got.len() as u64, got_finishes), (sent, finishes));
            assert!(got_marks == sent_marks && !media.finish_queued());
            assert_eq!(media.queued_units(), 0);
        }
    }

    #[test]
    fn a_clear_drops_what_waits_for_a_place_and_returns_its_marks_in_order() {
        let (mut media, mut agent) = link();
        let mut sent = 0;
        while agent.push_mark(sent) {
            sent += 1;
            agent.finish();
        }
        assert_eq!(agent.segments_under_way(), AGENT_ITEMS_MAX as u64);
        agent.clear();
        let under_way = agent.segments_under_way();
        let some = PLACES_MAX as u64..AGENT_ITEMS_MAX as u64 / 2;
        assert!(some.contains(&under_way), "what had a place: {under_way}");
        while let Some(segment) = media.pop() {
            media.give_back(segment);
        }
        assert!(media.push_cleared(1, (0, 0)) && !media.finish_queued());
        assert!(matches!(agent.next(), Some(LinkEvent::Cleared { .. })));
        let marks: Vec<u64> = std::iter::from_fn(|| agent.next())
            .filter_map(
                |event| if let LinkEvent::Mark { id, .. } = event { Some(id) } else { None },
            )
            .collect();
        assert!(marks.iter().copied().eq(0..sent), "{marks:?}");
        assert_eq!((agent.segments_under_way(), agent.queued_ms()), (0, 0));
        assert!(agent.push_mark(sent) && media.pop().is_some());
    }

    #[test]
    fn what_was_said_before_the_end_arrives_before_closed() {
        let (mut media, mut agent) = link();
        assert!(media.push_frame(&[1; FRAME_BYTES]));
        assert!(media.push_digit('5'));
        drop(media);
        assert_eq!(agent.next(), Some(LinkEvent::Digit('5')));
        assert_eq!(agent.next(), Some(LinkEvent::Audio([1; FRAME_BYTES])));
        assert!(!agent.is_over());
        assert_eq!(agent.next(), Some(LinkEvent::Closed));
        assert!(agent.is_over());
        assert_eq!(agent.next(), None);
    }

    #[test]
    fn a_finish_passes_a_full_ring() {
        let (mut media, mut agent) = link();
        while agent.push_mark(1) {}
        agent.finish();
        let mut finished = false;
        for _ in 0..3 {
            while let Some(segment) = media.pop() {
                finished |= segment.finish;
                media.give_back(segment);
            }
            assert_eq!(agent.next(), None);
        }
        assert!(finished);
    }

    #[test]
    fn whatever_the_media_do_is_seen_by_who_had_looked_just_before() {
        type Does = fn(&mut MediaEnd) -> bool;
        let all: [(Does, LinkEvent); 10] = [
            (|media| media.push_frame(&[1; FRAME_BYTES]), LinkEvent::Audio([1; FRAME_BYTES])),
            (|media| media.push_wide_frame(&[2; 320]), LinkEvent::WideAudio(Box::new([2; 320]))),
            (|media| media.push_digit('5'), LinkEvent::Digit('5')),
            (|media| media.push_mark(3, 4), LinkEvent::Mark { id: 3, played_ms: 4 }),
            (|media| media.push_underrun(5), LinkEvent::Underrun { ms: 5 }),
            (|media| media.push_barge_in(6), LinkEvent::BargeIn { heard_ms: 6 }),
            (|media| media.push_unheard(6), LinkEvent::Unheard { heard_ms: 6 }),
            (|media| media.push_caller_waits(true), LinkEvent::CallerWaits(true)),
            (MediaEnd::push_drained, LinkEvent::Drained),
            (
                |media| media.push_cleared(0, (7, 8)),
                LinkEvent::Cleared { played_ms: 7, samples: 8 },
            ),
        ];
        let (mut media, mut agent) = wide_link();
        for _ in 0..3 {
            for (does, event) in &all {
                agent.register(Waker::noop());
                assert_eq!([agent.next(), agent.next()], [None, None]);
                assert!(does(&mut media));
                assert_eq!(agent.next().as_ref(), Some(event));
            }
        }
        assert_eq!(agent.next(), None);
        drop(media);
        assert_eq!([agent.next(), agent.next()], [Some(LinkEvent::Closed), None]);
    }

    /// Counts how often it is woken.
    #[derive(Default)]
    struct Woken(AtomicU64);

    impl std::task::Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::AcqRel);
        }
    }

    #[test]
    fn who_registers_last_is_woken_once_each_time_something_is_taken_to_it() {
        let [one, other] = [(), ()].map(|()| Arc::new(Woken::default()));
        let [first, second] = [&one, &other].map(|woken| Waker::from(Arc::clone(woken)));
        let times = || [&one, &other].map(|woken| woken.0.load(Ordering::Acquire));
        let wake = |media: &MediaEnd| media.take_waker().map(Waker::wake).is_some();
        let (mut media, mut agent) = link();
        for round in 1..=3 {
            // As often as it is polled for something else.
            for _ in 0..3 {
                agent.register(&first);
                assert_eq!(agent.next(), None);
            }
            assert!(media.push_digit('1') && wake(&media) && !wake(&media));
            assert_eq!(times(), [round, 0]);
            assert_eq!(agent.next(), Some(LinkEvent::Digit('1')));
        }
        agent.register(&first);
        agent.register(&second);
        assert!(wake(&media));
        assert_eq!(times(), [3, 1]);
        agent.register(&second);
        agent.register(&first);
        drop(media);
        assert_eq!(times(), [4, 1]);
    }

    #[test]
    fn who_waits_is_woken_however_close_to_its_looking_something_comes() {
        const COUNT: u64 = 10_000;
        /// Tells a thread that it is woken.
        struct Bell(std::thread::Thread, AtomicBool);
        impl std::task::Wake for Bell {
            fn wake(self: Arc<Self>) {
                self.1.store(true, Ordering::Release);
                self.0.unpark();
            }
        }
        let (mut media, mut agent) = link();
        let heard = Arc::new(AtomicU64::new(0));
        let told = Arc::clone(&heard);
        let listens = std::thread::spawn(move || {
            let bell = Arc::new(Bell(std::thread::current(), AtomicBool::new(true)));
            let waker = Waker::from(Arc::clone(&bell));
            while told.load(Ordering::Relaxed) < COUNT {
                let mut waits = 0;
                while !bell.1.swap(false, Ordering::AcqRel) {
                    assert!(waits < 20, "nobody wakes it");
                    waits += 1;
                    std::thread::park_timeout(std::time::Duration::from_secs(1));
                }
                agent.register(&waker);
                let events = std::iter::from_fn(|| agent.next()).count() as u64;
                told.fetch_add(events, Ordering::AcqRel);
            }
        });
        for id in 1..=COUNT {
            assert!(media.push_mark(id, 0));
            if let Some(waker) = media.take_waker() {
                waker.wake();
            }
            loop {
                let is_over = listens.is_finished();
                if heard.load(Ordering::Acquire) >= id {
                    break;
                }
                assert!(!is_over, "it heard {id}");
                std::thread::yield_now();
            }
        }
        listens.join().expect("it heard all");
    }

    #[test]
    fn segments_that_come_back_wait_for_the_next_and_neither_pile_up_nor_outlast_what_is_played() {
        let (mut media, mut agent) = link();
        let left = |media: &MediaEnd, agent: &AgentEnd| {
            media.shared.taken.load(Ordering::Relaxed) - agent.taken_back
        };
        let play = |media: &mut MediaEnd| {
            let segment = media.pop().expect("queued");
            media.consumed(segment.units());
            media.give_back(segment);
        };
        let say = |agent: &mut AgentEnd| assert_eq!(agent.push_audio(&[0x55; 160]), 160);
        (0..8).for_each(|_| say(&mut agent));
        for _ in 0..50 {
            play(&mut media);
            assert_eq!(agent.next(), None);
            assert_eq!((left(&media, &agent), agent.spare.is_some()), (1, false));
            say(&mut agent);
            assert_eq!(left(&media, &agent), 0);
        }
        // Nothing more is said for now.
        for _ in 0..7 {
            play(&mut media);
            assert_eq!(agent.next(), None);
            assert!(left(&media, &agent) <= LEFT_MAX);
        }
        play(&mut media);
        assert_eq!(agent.next(), None);
        assert_eq!((left(&media, &agent), agent.spare.is_some()), (0, true));
    }
}
