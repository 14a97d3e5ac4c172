//! `Unstalled`: a connection whose peer must go on reading what it asked for, and not in crumbs.

use crate::telemetry::metric;
use crate::telemetry::metric::Counter;
use crate::types::limit::HTTP_STALL_BYTES_MIN;
use std::io;
use std::io::IoSlice;
use std::pin::Pin;
use std::task::Context;
use std::task::Poll;
use std::time::Duration;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::io::ReadBuf;
use tokio::time::Sleep;

/// Passes everything through; a write fails while the peer takes too little of what there is.
#[derive(Debug)]
pub(super) struct Unstalled<S> {
    stream: S,
    limit: Duration,
    /// From when the peer took nothing on, until it has taken enough.
    stalled: Option<Stalled>,
}

#[derive(Debug)]
struct Stalled {
    until: Pin<Box<Sleep>>,
    taken: usize,
}

impl<S> Unstalled<S> {
    /// Gives the peer of `stream` so long to take [`HTTP_STALL_BYTES_MIN`] or all there is.
    pub(super) const fn new(stream: S, limit: Duration) -> Self {
        Self { stream, limit, stalled: None }
    }

    /// Fails what the peer takes too little of for too long.
    fn judge<T>(
        &mut self,
        context: &mut Context<'_>,
        tried: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if tried.is_ready() {
            return tried;
        }
        let limit = self.limit;
        let stalled = self.stalled.get_or_insert_with(|| Stalled {
            until: Box::pin(tokio::time::sleep(limit)),
            taken: 0,
        });
        if stalled.until.as_mut().poll(context).is_pending() {
            return Poll::Pending;
        }
        metric::counter(Counter::ApiResponsesStalled).increment(1);
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    fn judge_write(
        &mut self,
        context: &mut Context<'_>,
        tried: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if let (Poll::Ready(Ok(taken)), Some(stalled)) = (&tried, &mut self.stalled) {
            stalled.taken = stalled.taken.saturating_add(*taken);
            if stalled.taken >= HTTP_STALL_BYTES_MIN {
                self.stalled = None;
            }
        }
        self.judge(context, tried)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Unstalled<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Unstalled<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let tried = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.judge_write(context, tried)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let tried = Pin::new(&mut self.stream).poll_write_vectored(context, parts);
        self.judge_write(context, tried)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let tried = Pin::new(&mut self.stream).poll_flush(context);
        if matches!(tried, Poll::Ready(Ok(()))) {
            // HTTP flushes once nothing is left to write.
            self.stalled = None;
        }
        self.judge(context, tried)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let tried = Pin::new(&mut self.stream).poll_shutdown(context);
        self.judge(context, tried)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt;
    use tokio::io::AsyncWriteExt;

    /// Whether 64 KiB get to a client that reads so many bytes at once, and then waits.
    async fn is_sent(limit: Duration, piece: usize, pause: Duration) -> bool {
        let (ours, mut client) = tokio::io::duplex(64);
        let mut ours = Unstalled::new(ours, limit);
        let reading = tokio::spawn(async move {
            let mut bytes = vec![0; piece];
            while client.read_exact(&mut bytes).await.is_ok() {
                tokio::time::sleep(pause).await;
            }
        });
        let written = ours.write_all(&[0; 64 << 10]).await;
        drop(ours);
        reading.await.unwrap();
        written.is_ok()
    }

    #[tokio::test]
    async fn a_client_that_takes_crumbs_is_cut_and_one_that_reads_is_not() {
        // It always takes something, long before the limit, and far too little.
        let limit = Duration::from_millis(300);
        assert!(!is_sent(limit, 1, Duration::from_millis(5)).await);
        assert!(is_sent(Duration::from_secs(60), 4_096, Duration::ZERO).await);
    }

    #[tokio::test]
    async fn who_has_taken_enough_or_everything_has_all_the_time_again() {
        let (ours, mut client) = tokio::io::duplex(64);
        let mut ours = Unstalled::new(ours, Duration::from_secs(60));
        let (much, little) = (vec![0; HTTP_STALL_BYTES_MIN + 256], [0; 100]);
        let mut bytes = vec![0; much.len()];
        let (written, read) =
            tokio::join!(ours.write_all(&little), client.read_exact(&mut bytes[..100]));
        assert!((written.is_ok(), read.is_ok()) == (true, true) && ours.stalled.is_some());
        // As events are told: what was said is read, and then nothing is said for long.
        ours.flush().await.unwrap();
        assert!(ours.stalled.is_none());
        let (written, read) = tokio::join!(ours.write_all(&much), client.read_exact(&mut bytes));
        assert!((written.is_ok(), read.is_ok()) == (true, true));
        assert!(ours.stalled.is_none_or(|stalled| stalled.taken < 256));
    }
}
