//! The bounded queue of a media session's events: one media thread writes, one task reads.

use crate::media::event::MediaEvent;
use crate::telemetry::metric;
use crate::telemetry::metric::Counter;
use crate::types::cache::fetch_counters;
use crate::types::limit::MEDIA_EVENTS_KEPT_FREE;
use crate::types::limit::MEDIA_EVENTS_MAX;
use futures_util::task::AtomicWaker;
use rtrb::Consumer;
use rtrb::Producer;
use rtrb::RingBuffer;
use std::sync::Arc;
use std::sync::Weak;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU16;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::task::Context;
use std::task::Poll;

/// A new queue. Unlike a channel of the runtime, writing to it neither allocates nor frees.
pub(crate) fn media_events() -> (MediaEventsIn, MediaEvents) {
    let (into, out) = RingBuffer::new(MEDIA_EVENTS_MAX);
    let shared = Arc::new(Shared::default());
    let owed = Owed::default();
    (
        MediaEventsIn { ring: into, owed, shared: Arc::clone(&shared) },
        MediaEvents { ring: out, shared },
    )
}

#[derive(Debug, Default)]
struct Shared {
    closed: AtomicBool,
    /// Events that found no room since the reader was told.
    lost: AtomicU64,
    /// The media thread that has the session, by its number.
    thread: AtomicU16,
    waker: AtomicWaker,
}

impl Shared {
    /// No more will come.
    fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.waker.wake();
    }

    /// Counts what was lost. Not on the media thread, where metrics would take a lock.
    fn tell_lost(&self) {
        if self.lost.load(Ordering::Relaxed) > 0 {
            let lost = self.lost.swap(0, Ordering::Relaxed);
            metric::counter(Counter::MediaEventsLost).increment(lost);
            tracing::warn!(lost, "a call did not take the events of its media in time");
        }
    }
}

/// The events of one media session. Dropping it closes the session.
#[derive(Debug)]
pub struct MediaEvents {
    ring: Consumer<MediaEvent>,
    shared: Arc<Shared>,
}

impl MediaEvents {
    /// The next event; `None` when the session is closed.
    pub async fn recv(&mut self) -> Option<MediaEvent> {
        std::future::poll_fn(|context| self.poll_recv(context)).await
    }

    /// The same for who waits for several of them.
    pub(super) fn poll_recv(&mut self, context: &mut Context<'_>) -> Poll<Option<MediaEvent>> {
        self.shared.waker.register(context.waker());
        // Read before the ring, so that what was written before the end is not lost.
        let closed = self.shared.closed.load(Ordering::Acquire);
        self.shared.tell_lost();
        match self.ring.pop() {
            Ok(event) => Poll::Ready(Some(event)),
            Err(_) if closed => Poll::Ready(None),
            Err(_) => Poll::Pending,
        }
    }

    /// What ends them where the thread never will.
    pub(super) fn lifeline(&self) -> Lifeline {
        Lifeline(Arc::downgrade(&self.shared))
    }

    /// The next event if there is one now.
    pub fn try_recv(&mut self) -> Option<MediaEvent> {
        self.ring.pop().ok()
    }
}

/// What a session's events hang by, whoever has them.
#[derive(Debug, Default)]
pub(crate) struct Lifeline(Weak<Shared>);

impl Lifeline {
    /// Ends the events of a session that is with this thread: its call learns that nothing more comes.
    pub(super) fn cut_of(&self, thread: u16) {
        if let Some(shared) = self.0.upgrade()
            && shared.thread.load(Ordering::Relaxed) == thread
        {
            shared.close();
        }
    }

    /// The same wherever it is.
    pub(super) fn cut(&self) {
        if let Some(shared) = self.0.upgrade() {
            shared.close();
        }
    }
}

/// The media thread's end.
#[derive(Debug)]
pub(crate) struct MediaEventsIn {
    ring: Producer<MediaEvent>,
    owed: Owed,
    shared: Arc<Shared>,
}

/// Events that found no room and are said as soon as there is some: who waits for one of them would wait for ever.
#[derive(Debug, Default)]
struct Owed {
    first_packet: bool,
    played: Option<u32>,
    failed: bool,
}

impl Owed {
    /// Keeps an event that must not be lost; false: it is none of those.
    const fn keep(&mut self, event: MediaEvent) -> bool {
        match event {
            MediaEvent::FirstPacket => self.first_packet = true,
            // A clip that was played before it is over as well.
            MediaEvent::Played { clip } => self.played = Some(clip),
            MediaEvent::Failed => self.failed = true,
            // A time-out is said again by the session; the rest is of its moment.
            MediaEvent::TimedOut
            | MediaEvent::Pressed
            | MediaEvent::Digit { .. }
            | MediaEvent::Talk(_)
            | MediaEvent::Trouble(_) => return false,
        }
        true
    }

    const fn is_nothing(&self) -> bool {
        !self.first_packet && self.played.is_none() && !self.failed
    }

    /// The next one.
    fn take(&mut self) -> Option<MediaEvent> {
        if std::mem::take(&mut self.first_packet) {
            return Some(MediaEvent::FirstPacket);
        }
        let played = self.played.take().map(|clip| MediaEvent::Played { clip });
        played.or_else(|| std::mem::take(&mut self.failed).then_some(MediaEvent::Failed))
    }
}

impl MediaEventsIn {
    /// Appends an event; false when the queue is full and it was lost, which is counted. What only tells of the call gives
    /// way to what it acts on.
    pub(crate) fn push(&mut self, event: MediaEvent) -> bool {
        self.settle();
        let kept = if event.is_remark() && self.ring.slots() <= MEDIA_EVENTS_KEPT_FREE {
            false
        } else {
            self.ring.push(event).is_ok() || self.owed.keep(event)
        };
        if !kept {
            self.shared.lost.fetch_add(1, Ordering::Relaxed);
        }
        self.shared.waker.wake();
        kept
    }

    /// Says what is owed, as far as there is room now.
    pub(crate) fn settle(&mut self) {
        // Mostly so, and then what the other thread writes is left alone.
        if self.owed.is_nothing() {
            return;
        }
        while self.ring.slots() > 0
            && let Some(event) = self.owed.take()
        {
            // There is room, for nobody else writes.
            if self.ring.push(event).is_ok() {
                self.shared.waker.wake();
            }
        }
    }

    /// The session is with this media thread from now on.
    pub(super) fn is_with(&self, thread: u16) {
        self.shared.thread.store(thread, Ordering::Relaxed);
    }

    /// Has the processor fetch what tells whether somebody reads.
    pub(super) fn fetch(&self) {
        fetch_counters(self.ring.buffer());
    }

    /// True when nobody reads any more.
    pub(crate) fn is_abandoned(&self) -> bool {
        self.ring.is_abandoned()
    }
}

impl Drop for MediaEventsIn {
    fn drop(&mut self) {
        self.shared.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::talk::Talk;
    use metrics_exporter_prometheus::PrometheusBuilder;

    #[tokio::test]
    async fn what_was_written_before_the_end_is_read_before_it() {
        let (mut into, mut out) = media_events();
        assert!(into.push(MediaEvent::FirstPacket));
        assert!(into.push(MediaEvent::TimedOut));
        drop(into);
        assert_eq!(out.recv().await, Some(MediaEvent::FirstPacket));
        assert_eq!(out.recv().await, Some(MediaEvent::TimedOut));
        assert_eq!(out.recv().await, None);
    }

    #[tokio::test]
    async fn a_waiting_reader_is_woken() {
        let (mut into, mut out) = media_events();
        let reader = tokio::spawn(async move { out.recv().await });
        tokio::task::yield_now().await;
        assert!(into.push(MediaEvent::TimedOut));
        assert_eq!(reader.await.expect("no panic"), Some(MediaEvent::TimedOut));
    }

    #[tokio::test]
    async fn events_of_a_thread_that_never_goes_on_end_and_no_others() {
        let ((one_in, mut one), (other_in, mut other)) = (media_events(), media_events());
        one_in.is_with(1);
        other_in.is_with(2);
        let lifelines = [one.lifeline(), other.lifeline()];
        let reader = tokio::spawn(async move { one.recv().await });
        tokio::task::yield_now().await;
        lifelines.iter().for_each(|line| line.cut_of(1));
        assert_eq!(reader.await.expect("no panic"), None);
        // It moved meanwhile.
        other_in.is_with(3);
        lifelines.iter().for_each(|line| line.cut_of(2));
        assert!(!other.shared.closed.load(Ordering::Acquire));
        lifelines.iter().for_each(Lifeline::cut);
        assert_eq!(other.recv().await, None);
        drop((one_in, other_in));
        // Of nobody any more.
        lifelines.iter().for_each(Lifeline::cut);
    }

    const DIGIT: MediaEvent = MediaEvent::Digit { digit: '1', duration_ms: 100 };

    fn read(out: &mut MediaEvents) -> Vec<MediaEvent> {
        std::iter::from_fn(|| out.try_recv()).collect()
    }

    #[test]
    fn a_full_queue_loses_the_newest_and_counts_them() {
        let (mut into, mut out) = media_events();
        assert_eq!((0..1_000).filter(|_| into.push(DIGIT)).count(), MEDIA_EVENTS_MAX);
        assert_eq!(out.shared.lost.load(Ordering::Relaxed), 1_000 - MEDIA_EVENTS_MAX as u64);
        assert_eq!(read(&mut out), [DIGIT; MEDIA_EVENTS_MAX]);
        assert!(!into.is_abandoned());
    }

    #[tokio::test]
    async fn a_call_is_told_of_what_it_waits_for_however_full_its_queue_was() {
        let (mut into, mut out) = media_events();
        while into.push(DIGIT) {}
        let played = |clip| MediaEvent::Played { clip };
        for event in [MediaEvent::FirstPacket, played(1), played(2), MediaEvent::Failed] {
            assert!(into.push(event));
        }
        into.settle();
        assert!(!into.owed.is_nothing());
        assert_eq!(read(&mut out), [DIGIT; MEDIA_EVENTS_MAX], "no room yet");
        into.settle();
        assert_eq!(read(&mut out), [MediaEvent::FirstPacket, played(2), MediaEvent::Failed]);
        into.settle();
        assert_eq!(read(&mut out), [], "each once");
        assert!(into.owed.is_nothing());
        let recorder = PrometheusBuilder::new().build_recorder();
        let _counting = metrics::set_default_local_recorder(&recorder);
        drop(into);
        assert_eq!(out.recv().await, None);
        let text = recorder.handle().render();
        assert!(text.contains("media_events_lost_total 1\n"), "the reader counts: {text}");
    }

    #[test]
    fn remarks_leave_room_for_what_a_call_acts_on() {
        let (mut into, mut out) = media_events();
        let remark = MediaEvent::Talk(Talk::Underrun { at_ms: 1, ms: 2, node_late: false });
        let said = (0..100).filter(|_| into.push(remark)).count();
        assert_eq!(said, MEDIA_EVENTS_MAX - MEDIA_EVENTS_KEPT_FREE);
        assert_eq!((0..100).filter(|_| into.push(DIGIT)).count(), MEDIA_EVENTS_KEPT_FREE);
        assert_eq!(read(&mut out).len(), MEDIA_EVENTS_MAX);
    }
}
