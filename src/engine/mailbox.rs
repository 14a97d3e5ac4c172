//! A bounded queue of a call's own: several tasks write, one reads.
//!
//! A call has half a dozen of these and most of them hold nothing for most of its life. A channel of the
//! runtime takes room for 32 messages when it is made; this one takes room when there is something to
//! keep, and gives it back once it was read, which is some 4 KB less for each open call.

use crate::types::cache::fetch;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::Weak;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::task::Context;
use std::task::Poll;
use std::task::Waker;
use tokio::sync::Notify;

/// Stands for no reader that waits: none is there.
const NOBODY: usize = usize::MAX;

/// A queue of at most `most` messages.
#[must_use]
pub fn bounded<T>(most: usize) -> (Sender<T>, Receiver<T>) {
    let state = State { letters: VecDeque::new(), senders: 1, abandoned: false, reader: None };
    let state = Mutex::new(state);
    let shared = Shared { most, waits: AtomicUsize::new(NOBODY), state, room: Notify::new() };
    let shared = Arc::new(shared);
    (Sender(Arc::clone(&shared)), Receiver(shared))
}

/// Why a message was not taken; it comes back.
#[derive(Debug, PartialEq, Eq)]
pub enum Untaken<T> {
    /// There is no room for it now.
    Full(T),
    /// Nobody reads any more.
    Closed(T),
}

impl<T> Untaken<T> {
    /// The message.
    pub fn into_inner(self) -> T {
        match self {
            Self::Full(letter) | Self::Closed(letter) => letter,
        }
    }
}

#[derive(Debug)]
struct Shared<T> {
    most: usize,
    /// Where the reader is that found nothing, if nothing happened since: who is woken for something else need not look
    /// again. Written under the lock.
    waits: AtomicUsize,
    state: Mutex<State<T>>,
    /// Told when the reader takes a message or goes.
    room: Notify,
}

#[derive(Debug)]
struct State<T> {
    letters: VecDeque<T>,
    senders: usize,
    /// The reader is gone.
    abandoned: bool,
    /// The same reader, to be woken.
    reader: Option<Waker>,
}

impl<T> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the reader of what was done to `state`.
    fn tell(&self, mut state: MutexGuard<'_, State<T>>) {
        self.waits.store(NOBODY, Ordering::Release);
        let reader = state.reader.take();
        // Outside the lock: it may run.
        drop(state);
        if let Some(reader) = reader {
            reader.wake();
        }
    }
}

/// Where messages are put in. The queue ends when its last sender is dropped and it was read to its end.
#[derive(Debug)]
pub struct Sender<T>(Arc<Shared<T>>);

impl<T> Sender<T> {
    /// Appends `letter` without waiting.
    ///
    /// # Errors
    /// The queue is full, or nobody reads it any more.
    pub fn try_send(&self, letter: T) -> Result<(), Untaken<T>> {
        let mut state = self.0.lock();
        if state.abandoned {
            return Err(Untaken::Closed(letter));
        }
        if state.letters.len() >= self.0.most {
            return Err(Untaken::Full(letter));
        }
        state.letters.push_back(letter);
        self.0.tell(state);
        Ok(())
    }

    /// Appends `letter` once there is room.
    ///
    /// # Errors
    /// The letter, if nobody reads the queue any more.
    pub async fn send(&self, letter: T) -> Result<(), T> {
        let mut letter = match self.try_send(letter) {
            Ok(()) => return Ok(()),
            Err(Untaken::Closed(letter)) => return Err(letter),
            Err(Untaken::Full(letter)) => letter,
        };
        loop {
            let mut room = std::pin::pin!(self.0.room.notified());
            // Before it is tried again, so that room made in between is not missed.
            room.as_mut().enable();
            letter = match self.try_send(letter) {
                Ok(()) => return Ok(()),
                Err(Untaken::Closed(letter)) => return Err(letter),
                Err(Untaken::Full(letter)) => letter,
            };
            room.await;
        }
    }

    /// A way to write that does not keep the queue open.
    #[must_use]
    pub fn downgrade(&self) -> WeakSender<T> {
        WeakSender(Arc::downgrade(&self.0))
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        self.0.lock().senders += 1;
        Self(Arc::clone(&self.0))
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.senders = state.senders.saturating_sub(1);
        if state.senders == 0 {
            self.0.tell(state);
        }
    }
}

/// Knows a queue without keeping it open.
#[derive(Debug)]
pub struct WeakSender<T>(Weak<Shared<T>>);

impl<T> WeakSender<T> {
    /// A sender, unless the queue has ended.
    #[must_use]
    pub fn upgrade(&self) -> Option<Sender<T>> {
        let shared = self.0.upgrade()?;
        let mut state = shared.lock();
        if state.senders == 0 {
            return None;
        }
        state.senders += 1;
        drop(state);
        Some(Sender(shared))
    }
}

impl<T> Clone for WeakSender<T> {
    fn clone(&self) -> Self {
        Self(Weak::clone(&self.0))
    }
}

/// Where messages come out, in the order in which they were put in.
#[derive(Debug)]
pub struct Receiver<T>(Arc<Shared<T>>);

impl<T> Receiver<T> {
    /// The next message; `None` when there will be none. Giving the wait up loses nothing.
    pub async fn recv(&mut self) -> Option<T> {
        std::future::poll_fn(|context| self.poll_recv(context)).await
    }

    /// Has the processor fetch what tells whether there is one.
    pub fn fetch(&self) {
        fetch(&self.0.waits);
    }

    /// The next message, or the promise to wake `context` for it.
    pub fn poll_recv(&mut self, context: &Context<'_>) -> Poll<Option<T>> {
        // Its waker is held while it waits, so that no other lies there.
        let place = context.waker().data().addr();
        if place != NOBODY && self.0.waits.load(Ordering::Acquire) == place {
            return Poll::Pending;
        }
        let mut state = self.0.lock();
        if let Some(letter) = state.letters.pop_front() {
            drop(state);
            self.0.room.notify_one();
            return Poll::Ready(Some(letter));
        }
        // Most queues are empty for most of a call.
        state.letters = VecDeque::new();
        if state.senders == 0 {
            return Poll::Ready(None);
        }
        self.0.waits.store(place, Ordering::Release);
        let before = state.reader.replace(context.waker().clone());
        drop(state);
        // Outside the lock, as with the letters of a queue that ends.
        drop(before);
        Poll::Pending
    }

    /// Ends the queue, and gives what nobody read: what was written until now is in it, and whoever writes later
    /// gets the message back.
    #[must_use]
    pub fn close(self) -> VecDeque<T> {
        let mut state = self.0.lock();
        state.abandoned = true;
        std::mem::take(&mut state.letters)
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.abandoned = true;
        let letters = std::mem::take(&mut state.letters);
        let reader = state.reader.take();
        drop(state);
        // Outside the lock: what is in a message may hold senders of its own.
        drop((letters, reader));
        self.0.room.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::Wake;

    #[tokio::test]
    async fn messages_come_in_their_order_and_then_the_end() {
        let (sender, mut receiver) = bounded(3);
        let second = sender.clone();
        sender.try_send(1).expect("room");
        second.try_send(2).expect("room");
        drop(sender);
        second.send(3).await.expect("room");
        drop(second);
        for want in [Some(1), Some(2), Some(3), None] {
            assert_eq!(receiver.recv().await, want);
        }
    }

    #[tokio::test]
    async fn a_queue_that_was_read_keeps_no_room() {
        let (sender, mut receiver) = bounded(8);
        let room = || sender.0.lock().letters.capacity();
        for turn in 0..2 {
            assert_eq!(room(), 0, "{turn}");
            for letter in 0..8 {
                sender.try_send(letter).expect("room");
            }
            assert!(room() >= 8, "{turn}");
            for letter in 0..8 {
                assert_eq!(receiver.recv().await, Some(letter));
            }
            let waits = std::future::poll_fn(|cx| Poll::Ready(receiver.poll_recv(cx))).await;
            assert_eq!(waits, Poll::Pending);
        }
        assert_eq!(room(), 0);
    }

    #[test]
    fn a_full_queue_gives_the_message_back() {
        let (sender, _receiver) = bounded(1);
        sender.try_send(1).expect("room");
        assert_eq!(sender.try_send(2), Err(Untaken::Full(2)));
    }

    #[tokio::test]
    async fn a_queue_that_nobody_reads_gives_the_message_back() {
        let (sender, receiver) = bounded(1);
        sender.try_send(1).expect("room");
        drop(receiver);
        assert_eq!(sender.try_send(2), Err(Untaken::Closed(2)));
        assert_eq!(sender.send(3).await, Err(3));
    }

    #[test]
    fn a_queue_that_is_closed_gives_what_nobody_read_and_takes_no_more() {
        let (sender, receiver) = bounded(3);
        sender.try_send(1).expect("room");
        sender.try_send(2).expect("room");
        assert_eq!(receiver.close(), [1, 2]);
        assert_eq!(sender.try_send(3), Err(Untaken::Closed(3)));
    }

    #[tokio::test]
    async fn a_writer_waits_for_room() {
        let (sender, mut receiver) = bounded(1);
        sender.try_send(1).expect("room");
        let writer = tokio::spawn(async move { sender.send(2).await });
        tokio::task::yield_now().await;
        assert!(!writer.is_finished(), "there was no room");
        assert_eq!(receiver.recv().await, Some(1));
        assert_eq!(receiver.recv().await, Some(2));
        assert_eq!(writer.await.expect("it ends"), Ok(()));
    }

    #[tokio::test]
    async fn writers_that_wait_learn_that_the_reader_is_gone() {
        let (sender, receiver) = bounded(1);
        sender.try_send(1).expect("room");
        let other = sender.clone();
        let writers =
            [sender, other].map(|sender| tokio::spawn(async move { sender.send(2).await }));
        tokio::task::yield_now().await;
        drop(receiver);
        for writer in writers {
            assert_eq!(writer.await.expect("it ends"), Err(2));
        }
    }

    #[tokio::test]
    async fn a_reader_that_sleeps_is_woken_by_a_message_and_by_the_end() {
        let (sender, mut receiver) = bounded(1);
        let reader = tokio::spawn(async move { (receiver.recv().await, receiver.recv().await) });
        tokio::task::yield_now().await;
        sender.try_send(1).expect("room");
        tokio::task::yield_now().await;
        drop(sender);
        assert_eq!(reader.await.expect("it ends"), (Some(1), None));
    }

    #[test]
    fn whoever_reads_last_is_woken_and_by_each_thing_that_happens() {
        struct Woken(AtomicUsize);
        impl Wake for Woken {
            fn wake(self: Arc<Self>) {
                self.0.fetch_add(1, Ordering::Relaxed);
            }
        }
        let [one, other] = [0, 0].map(|count| Arc::new(Woken(AtomicUsize::new(count))));
        let times = || [&one, &other].map(|woken| woken.0.load(Ordering::Relaxed));
        let wakers = [Waker::from(Arc::clone(&one)), Waker::from(Arc::clone(&other))];
        let [first, second] = wakers.each_ref().map(Context::from_waker);
        let (sender, mut receiver) = bounded(2);
        for _ in 0..3 {
            assert_eq!(receiver.poll_recv(&first), Poll::Pending);
        }
        sender.try_send(1).expect("room");
        assert_eq!(times(), [1, 0]);
        sender.try_send(2).expect("room");
        assert_eq!(times(), [1, 0], "it has not looked yet");
        assert_eq!(receiver.poll_recv(&first), Poll::Ready(Some(1)));
        assert_eq!(receiver.poll_recv(&first), Poll::Ready(Some(2)));
        assert_eq!(receiver.poll_recv(&first), Poll::Pending);
        assert_eq!(receiver.poll_recv(&second), Poll::Pending);
        sender.try_send(3).expect("room");
        assert_eq!(times(), [1, 1]);
        assert_eq!(receiver.poll_recv(&second), Poll::Ready(Some(3)));
        assert_eq!(receiver.poll_recv(&second), Poll::Pending);
        assert_eq!(receiver.poll_recv(&first), Poll::Pending);
        let weak = sender.downgrade();
        drop(sender);
        assert_eq!(times(), [2, 1]);
        assert!(weak.upgrade().is_none());
        assert_eq!(receiver.poll_recv(&second), Poll::Ready(None));
        assert_eq!(receiver.poll_recv(&first), Poll::Ready(None));
    }

    #[tokio::test]
    async fn a_weak_sender_keeps_nothing_open() {
        let (sender, mut receiver) = bounded::<i32>(1);
        let weak = sender.downgrade();
        weak.upgrade().expect("open").try_send(1).expect("room");
        drop(sender);
        assert!(weak.upgrade().is_none());
        assert_eq!(receiver.recv().await, Some(1));
        assert_eq!(receiver.recv().await, None);
    }

    #[tokio::test]
    async fn a_message_that_holds_a_sender_of_its_own_queue_ends_with_it() {
        struct Letter(#[expect(dead_code, reason = "held for being held")] Sender<Self>);
        let (sender, receiver) = bounded(1);
        let weak = sender.downgrade();
        assert!(sender.try_send(Letter(sender.clone())).is_ok());
        drop(sender);
        drop(receiver);
        assert!(weak.upgrade().is_none());
    }
}
