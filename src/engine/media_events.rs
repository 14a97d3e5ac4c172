//! The bounded queue of a media session's events: one media thread writes, one task reads.

use crate::media::event::MediaEvent;
use crate::types::limit::MEDIA_EVENTS_MAX;
use futures_util::task::AtomicWaker;
use rtrb::Consumer;
use rtrb::Producer;
use rtrb::RingBuffer;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::task::Poll;

/// A new queue. Unlike a channel of the runtime, writing to it neither allocates nor frees.
pub(crate) fn media_events() -> (MediaEventsIn, MediaEvents) {
    let (into, out) = RingBuffer::new(MEDIA_EVENTS_MAX);
    let shared = Arc::new(Shared::default());
    (MediaEventsIn { ring: into, shared: Arc::clone(&shared) }, MediaEvents { ring: out, shared })
}

#[derive(Debug, Default)]
struct Shared {
    closed: AtomicBool,
    waker: AtomicWaker,
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
        std::future::poll_fn(|context| {
            self.shared.waker.register(context.waker());
            // Read before the ring, so that what was written before the end is not lost.
            let closed = self.shared.closed.load(Ordering::Acquire);
            match self.ring.pop() {
                Ok(event) => Poll::Ready(Some(event)),
                Err(_) if closed => Poll::Ready(None),
                Err(_) => Poll::Pending,
            }
        })
        .await
    }

    /// The next event if there is one now.
    pub fn try_recv(&mut self) -> Option<MediaEvent> {
        self.ring.pop().ok()
    }
}

/// The media thread's end.
#[derive(Debug)]
pub(crate) struct MediaEventsIn {
    ring: Producer<MediaEvent>,
    shared: Arc<Shared>,
}

impl MediaEventsIn {
    /// Appends an event; false when the queue is full and it was dropped.
    pub(crate) fn push(&mut self, event: MediaEvent) -> bool {
        let taken = self.ring.push(event).is_ok();
        self.shared.waker.wake();
        taken
    }

    /// True when nobody reads any more.
    pub(crate) fn is_abandoned(&self) -> bool {
        self.ring.is_abandoned()
    }
}

impl Drop for MediaEventsIn {
    fn drop(&mut self) {
        self.shared.closed.store(true, Ordering::Release);
        self.shared.waker.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn a_full_queue_drops_the_newest() {
        let (mut into, mut out) = media_events();
        assert_eq!(
            (0..1_000).filter(|_| into.push(MediaEvent::TimedOut)).count(),
            MEDIA_EVENTS_MAX
        );
        assert_eq!(out.try_recv(), Some(MediaEvent::TimedOut));
        assert!(!into.is_abandoned());
    }
}
