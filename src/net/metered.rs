//! `Metered`: a connection with an agent that knows how much it has read of messages nobody is through with yet, and
//! pays for what is more than a little of it from the budget of the node: one long message is nobody's trouble, a
//! thousand at once would be everybody's.

use crate::types::limit::AGENT_MESSAGES_BYTES_MAX;
use std::io;
use std::pin::Pin;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::task::Context;
use std::task::Poll;
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
}

impl<S> Metered<S> {
    /// A connection over `stream` that pays from the budget of the node.
    pub const fn new(stream: S) -> Self {
        Self::paying(stream, &NODE)
    }

    const fn paying(stream: S, budget: &'static MessageBudget) -> Self {
        Self { stream, budget, read: 0, held: 0 }
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
        ready!(Pin::new(&mut this.stream).poll_read(cx, buf))?;
        this.read += buf.filled().len() - before;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Metered<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt;

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
