//! `Metered`: a connection with an agent that knows how much it has read of messages nobody is through with yet, and
//! pays for what is more than a little of it from the budget of the node: one long message is nobody's trouble, a
//! thousand at once would be everybody's. And that knows whether its reader holds the beginning of a message, so that one
//! that comes alone can be read past that. And that keeps what the network did not take of a message written past its
//! writer, before which it writes nothing else.

use crate::types::limit::AGENT_MESSAGES_BYTES_MAX;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::task::Context;
use std::task::Poll;
use std::task::Waker;
use std::task::ready;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::io::ReadBuf;

/// What a connection reads of a message without paying, in bytes: a second of audio at 24 kHz, as JSON.
const FREE_BYTES: usize = 64 * 1_024;

/// What is paid at once, in bytes.
const STEP_BYTES: usize = 64 * 1_024;

/// What messages of agents may hold of a node's memory.
#[derive(Debug)]
pub struct MessageBudget {
    held: AtomicUsize,
    most: usize,
}

/// That of this process.
static NODE: MessageBudget = MessageBudget::of(AGENT_MESSAGES_BYTES_MAX);

impl MessageBudget {
    /// A budget of so many bytes.
    #[must_use]
    pub const fn of(most: usize) -> Self {
        Self { held: AtomicUsize::new(0), most }
    }

    /// What is held of it, in bytes.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    fn take(&self, bytes: usize) -> bool {
        let more = |held: usize| held.checked_add(bytes).filter(|held| *held <= self.most);
        self.held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    fn give_back(&self, bytes: usize) {
        self.held.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// A connection that pays for the messages it reads.
#[derive(Debug)]
pub struct Metered<S> {
    stream: S,
    budget: &'static MessageBudget,
    /// Bytes read since all was done with.
    read: usize,
    /// Bytes paid for.
    held: usize,
    /// Bytes read of which no message is known; never less than its reader holds of messages that are not whole.
    unknown: usize,
    /// Read past its reader, which is to get them after all.
    ahead: Vec<u8>,
    /// Written past its writer, and not taken by the network yet: it goes before all that is written later.
    rest: Vec<u8>,
}

impl<S> Metered<S> {
    /// A connection over `stream` that pays from the budget of the node.
    pub const fn new(stream: S) -> Self {
        Self::paying(stream, &NODE)
    }

    const fn paying(stream: S, budget: &'static MessageBudget) -> Self {
        Self { stream, budget, read: 0, held: 0, unknown: 0, ahead: Vec::new(), rest: Vec::new() }
    }

    /// What it reads from.
    pub const fn stream(&self) -> &S {
        &self.stream
    }

    /// Nothing is kept any more of the messages read so far.
    pub fn done(&mut self) {
        self.read = 0;
        if self.held > 0 {
            self.budget.give_back(std::mem::take(&mut self.held));
        }
    }

    /// Another reads from here on, and begins with so many bytes that were read before.
    pub fn begin_with(&mut self, bytes: usize) {
        self.done();
        self.unknown = bytes;
    }

    /// A message came out of its reader that took at least so many bytes of what it read. Says whether the message was
    /// all that was read since all was done with.
    pub const fn came_out(&mut self, bytes: usize) -> bool {
        self.unknown = self.unknown.saturating_sub(bytes);
        self.is_drained() && self.read == bytes
    }

    /// Nothing that was read is of a message that did not come out yet.
    #[must_use]
    pub const fn is_drained(&self) -> bool {
        self.unknown == 0 && self.ahead.is_empty()
    }

    /// Pays for so many bytes more, if they cost anything.
    fn pay(&mut self, bytes: usize) -> bool {
        while self.read + bytes > FREE_BYTES + self.held {
            if !self.budget.take(STEP_BYTES) {
                return false;
            }
            self.held += STEP_BYTES;
        }
        true
    }
}

impl<S> Drop for Metered<S> {
    fn drop(&mut self) {
        self.done();
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Metered<S> {
    /// # Errors
    /// Of kind `OutOfMemory` where the node holds as much of such messages as it may.
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.pay(buf.remaining()) {
            return Poll::Ready(Err(io::ErrorKind::OutOfMemory.into()));
        }
        let before = buf.filled().len();
        if this.ahead.is_empty() {
            ready!(Pin::new(&mut this.stream).poll_read(cx, buf))?;
        } else {
            this.give_ahead(buf);
        }
        let count = buf.filled().len() - before;
        this.read += count;
        this.unknown += count;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + Unpin> Metered<S> {
    /// Reads what has come past the reader of this, which must be [drained](Self::is_drained), and gives it to `hear`. What
    /// that has no use for, and what is wrong with the connection, is left to the reader: then this is false.
    pub fn poll_past<const ROOM: usize>(
        &mut self,
        cx: &mut Context<'_>,
        hear: impl FnOnce(&[u8]) -> bool,
    ) -> Poll<bool> {
        let mut room = [MaybeUninit::<u8>::uninit(); ROOM];
        let mut place = ReadBuf::uninit(&mut room);
        // An end, or an error, is found again by whoever reads on.
        if ready!(Pin::new(&mut self.stream).poll_read(cx, &mut place)).is_err() {
            return Poll::Ready(false);
        }
        let come = place.filled();
        let is_heard = hear(come);
        if !is_heard {
            self.ahead.extend_from_slice(come);
        }
        Poll::Ready(is_heard)
    }
}

impl<S> Metered<S> {
    /// Gives as much as there is room for of what was read past the reader.
    fn give_ahead(&mut self, buf: &mut ReadBuf<'_>) {
        let count = self.ahead.len().min(buf.remaining());
        let later = self.ahead.split_off(count);
        buf.put_slice(&self.ahead);
        self.ahead = later;
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Metered<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_rest(cx))?;
        Pin::new(&mut this.stream).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_rest(cx))?;
        Pin::new(&mut this.stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_rest(cx))?;
        Pin::new(&mut this.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_rest(cx))?;
        Pin::new(&mut this.stream).poll_write_vectored(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

impl<S: AsyncWrite + Unpin> Metered<S> {
    /// Writes a whole frame past the writer of this, which must hold nothing that it did not write. Says whether the network
    /// took all of it. If not, the rest is kept, and somebody has to [write](Self::poll_rest) it: nobody is woken for it here.
    pub fn write_past(&mut self, frame: &[u8]) -> bool {
        let taken = if self.rest.is_empty() { self.write_now(frame) } else { 0 };
        let rest = frame.get(taken..).unwrap_or_default();
        self.rest.extend_from_slice(rest);
        rest.is_empty()
    }

    /// How much of `bytes` the network takes at once.
    fn write_now(&mut self, bytes: &[u8]) -> usize {
        let mut nobody = Context::from_waker(Waker::noop());
        match Pin::new(&mut self.stream).poll_write(&mut nobody, bytes) {
            Poll::Ready(Ok(taken)) => taken,
            // What is wrong with the connection is found again by whoever writes the rest.
            Poll::Ready(Err(_)) | Poll::Pending => 0,
        }
    }

    /// Writes what the network did not take of what went past the writer.
    ///
    /// # Errors
    /// Those of the connection, and `WriteZero` where it takes nothing any more.
    pub fn poll_rest(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.rest.is_empty() {
            return Poll::Ready(Ok(()));
        }
        while !self.rest.is_empty() {
            let taken = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.rest))?;
            if taken == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.rest.drain(..taken.min(self.rest.len()));
        }
        // Networks that take no more are rare, and connections are many.
        self.rest = Vec::new();
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use tokio::io::AsyncReadExt;
    use tokio::io::AsyncWriteExt;

    /// Two connections that bring `most` bytes each, which pay from the same budget.
    fn pair(budget: &'static MessageBudget, bytes: &'static [u8]) -> [Metered<&'static [u8]>; 2] {
        [bytes, bytes].map(|bytes| Metered::paying(bytes, budget))
    }

    async fn read(from: &mut Metered<&'static [u8]>, count: usize) -> io::Result<usize> {
        let (mut read, mut buffer) = (0, [0; 4_096]);
        while read < count {
            read += from.read(&mut buffer[..4_096.min(count - read)]).await?;
        }
        Ok(read)
    }

    #[tokio::test]
    async fn what_is_read_past_the_reader_is_heard_or_comes_to_it_in_order() {
        let mut stream = Metered::new(&b"one two three"[..]);
        assert!(stream.is_drained());
        let past = async |stream: &mut Metered<&'static [u8]>, wanted: &[u8]| {
            poll_fn(|cx| stream.poll_past::<4>(cx, |come| come == wanted)).await
        };
        assert!(past(&mut stream, b"one ").await);
        assert!(stream.is_drained());
        assert!(!past(&mut stream, b"TWO ").await);
        assert!(!stream.is_drained(), "its reader is to get it");
        let mut buffer = [0; 100];
        let mut said = Vec::new();
        for room in [3, 100, 100] {
            let count = stream.read(&mut buffer[..room]).await.expect("it is there");
            said.extend_from_slice(&buffer[..count]);
        }
        assert_eq!(said, b"two three");
        assert!(!stream.is_drained());
        assert!(!stream.came_out(3));
        assert!(!stream.is_drained(), "there is more than that");
        assert!(!past(&mut stream, b"anything").await, "the end is for its reader");
        assert_eq!(stream.read(&mut buffer).await.expect("its end"), 0);
    }

    #[tokio::test]
    async fn what_the_network_did_not_take_goes_before_all_that_is_written_later() {
        for room in 1..12 {
            let (stream, mut peer) = tokio::io::duplex(room);
            let mut stream = Metered::new(stream);
            assert_eq!(stream.write_past(b"one two"), room >= 7);
            assert_eq!(stream.rest.len(), 7_usize.saturating_sub(room));
            assert!(!stream.write_past(b" three"), "it goes behind what waits, or waits itself");
            assert_eq!(stream.rest.len(), 13 - room);
            let rest = poll_fn(|cx| Poll::Ready(stream.poll_rest(cx).is_pending()));
            assert!(rest.await, "nobody reads yet");
            let written = async {
                stream.write_all(b" four").await.expect("it is read");
                stream.shutdown().await.expect("it is read");
                assert_eq!(stream.rest.capacity(), 0, "no room is kept for what is gone");
            };
            let mut all = Vec::new();
            let ((), read) = tokio::join!(written, peer.read_to_end(&mut all));
            read.expect("it ends");
            assert_eq!(all, b"one two three four", "{room} at once");
        }
    }

    #[tokio::test]
    async fn what_is_left_of_a_frame_is_flushed_and_fails_with_its_connection() {
        let (stream, mut peer) = tokio::io::duplex(3);
        let mut stream = Metered::new(stream);
        assert!(!stream.write_past(b"frame"));
        let mut read = [0; 5];
        let (flushed, all) = tokio::join!(stream.flush(), peer.read_exact(&mut read));
        flushed.expect("it is read");
        all.expect("it is all there");
        assert_eq!(&read, b"frame");
        assert!(!stream.write_past(b"frame"));
        drop(peer);
        let broken = poll_fn(|cx| stream.poll_rest(cx)).await;
        assert_eq!(broken.expect_err("nobody is there").kind(), io::ErrorKind::BrokenPipe);
    }

    #[tokio::test]
    async fn a_message_that_came_alone_is_known_from_one_that_did_not() {
        let mut stream = Metered::new(&[0_u8; 100][..]);
        let mut buffer = [0; 100];
        stream.begin_with(5);
        for (read, message, is_alone) in [(10, 10, false), (0, 5, false), (10, 10, true)] {
            stream.read_exact(&mut buffer[..read]).await.expect("it is there");
            assert_eq!(stream.came_out(message), is_alone);
            stream.done();
        }
        // Two at once, and one in two frames, for whose heads more was read than a message is known to take.
        for (read, message, is_drained) in [(20, 10, false), (0, 10, true), (12, 10, false)] {
            stream.read_exact(&mut buffer[..read]).await.expect("it is there");
            assert!(!stream.came_out(message));
            assert_eq!(stream.is_drained(), is_drained);
            stream.done();
        }
    }

    #[tokio::test]
    async fn what_is_short_costs_nothing_and_what_is_long_is_paid_for_until_it_is_done_with() {
        static BUDGET: MessageBudget = MessageBudget::of(10 * STEP_BYTES);
        static BYTES: [u8; 20 * STEP_BYTES] = [0; 20 * STEP_BYTES];
        let [mut one, mut other] = pair(&BUDGET, &BYTES);
        for _ in 0..10 {
            read(&mut one, FREE_BYTES).await.expect("it is short");
            assert_eq!(BUDGET.held(), 0);
            one.done();
        }
        read(&mut one, 5 * STEP_BYTES).await.expect("there is room");
        assert_eq!(BUDGET.held(), 4 * STEP_BYTES);
        read(&mut other, 7 * STEP_BYTES).await.expect("there is room for both");
        assert_eq!(BUDGET.held(), 10 * STEP_BYTES);
        let full = read(&mut one, 1).await.expect_err("no more");
        assert_eq!(full.kind(), io::ErrorKind::OutOfMemory);
        read(&mut other, 0).await.expect("nothing is wanted");
        other.done();
        assert_eq!(BUDGET.held(), 4 * STEP_BYTES);
        read(&mut one, 1).await.expect("there is room again");
        drop(one);
        assert_eq!(BUDGET.held(), 0, "whoever is gone holds nothing");
    }
}
