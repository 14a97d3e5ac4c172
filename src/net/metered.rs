//! `Metered`: a connection with an agent that knows how much it has read of messages nobody is through with yet, and
//! pays for what is more than a little of it from the budget of the node: one long message is nobody's trouble, a
//! thousand at once would be everybody's. Where it finds no room there it waits (`budget.rs` says for what, and why that
//! comes). And that knows whether its reader holds the beginning of a message, so that one
//! that comes alone can be read past that. And that keeps what the network did not take of a message written past its
//! writer, before which it writes nothing else.

mod budget;

use crate::net::metered::budget::Account;
use crate::net::metered::budget::NODE;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::Context;
use std::task::Poll;
use std::task::Waker;
use std::task::ready;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::io::ReadBuf;
use tokio::time::Sleep;
use tokio::time::sleep;

pub(crate) use crate::net::metered::budget::MessageBudget;
#[cfg(test)]
pub(crate) use crate::net::metered::budget::Terms;

/// What a connection reads of a message without paying, in bytes: a second of audio at 24 kHz, as JSON.
const FREE_BYTES: usize = 64 * 1_024;

/// A connection that pays for the messages it reads.
#[derive(Debug)]
pub struct Metered<S> {
    stream: S,
    /// What it paid.
    account: Account,
    /// Ends when the agent took too long over a message that was paid for.
    late: Option<Pin<Box<Sleep>>>,
    /// Bytes read since all was done with.
    read: usize,
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

    /// One that pays from `budget`.
    pub(crate) const fn paying(stream: S, budget: &'static MessageBudget) -> Self {
        Self {
            stream,
            account: Account::of(budget),
            late: None,
            read: 0,
            unknown: 0,
            ahead: Vec::new(),
            rest: Vec::new(),
        }
    }

    /// What it reads from.
    pub const fn stream(&self) -> &S {
        &self.stream
    }

    /// Nothing is kept any more of the messages read so far.
    pub fn done(&mut self) {
        (self.read, self.late) = (0, None);
        self.account.give_back();
    }

    /// A message came out of its reader, which keeps nothing else of what was paid for.
    pub fn came_whole(&mut self) {
        self.late = None;
        self.account.stop();
    }

    /// Something came out of its reader that took so many bytes and is kept no more, while all else still is.
    pub const fn passed(&mut self, bytes: usize) {
        self.read = self.read.saturating_sub(bytes);
    }

    /// Whether it reads no more until there is room for it.
    #[must_use]
    pub const fn waits(&self) -> bool {
        self.account.waits()
    }

    /// Whether it has to be read from though nothing has come: what it waits for may be something else.
    #[must_use]
    pub const fn pays(&self) -> bool {
        self.account.held() > 0 || self.account.waits()
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

    /// Pays for so many bytes more, if they cost anything, or waits until there is room.
    fn poll_pay(&mut self, bytes: usize, cx: &Context<'_>) -> Poll<()> {
        let wanted = self.read.saturating_add(bytes).saturating_sub(FREE_BYTES);
        while self.account.waits()
            || (wanted > self.account.held() && !self.account.has_its_share())
        {
            if self.account.poll_more(cx).is_pending() {
                // Its agent is not to blame for that.
                self.late = None;
                return Poll::Pending;
            }
        }
        Poll::Ready(())
    }

    /// Nothing has come. Ready where the agent takes too long over a message that was paid for, and others wait.
    fn poll_late(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.account.held() == 0 {
            return Poll::Pending;
        }
        let patience = self.account.patience();
        let late = self.late.get_or_insert_with(|| Box::pin(sleep(patience)));
        // One that sends all the time does not make it look too early each time.
        if !late.is_elapsed() {
            ready!(late.as_mut().poll(cx));
        }
        if self.account.is_waited_for() {
            return Poll::Ready(());
        }
        self.late.insert(Box::pin(sleep(patience))).as_mut().poll(cx)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Metered<S> {
    /// # Errors
    /// Of kind `OutOfMemory` where the node holds as much of such messages as it may, and the agent takes too long over one.
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_pay(buf.remaining(), cx));
        let before = buf.filled().len();
        if this.ahead.is_empty() {
            let Poll::Ready(read) = Pin::new(&mut this.stream).poll_read(cx, buf) else {
                return this.poll_late(cx).map(|()| Err(io::ErrorKind::OutOfMemory.into()));
            };
            read?;
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
    use crate::net::metered::budget::STEP_BYTES;
    use std::future::poll_fn;
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;
    use std::sync::atomic::Ordering;
    use std::task::Wake;
    use std::time::Duration;
    use tokio::io::AsyncReadExt;
    use tokio::io::AsyncWriteExt;

    /// What agents say here.
    static BYTES: [u8; 64 * STEP_BYTES] = [0; 64 * STEP_BYTES];

    /// One that is read from as it is woken, or not.
    type Reading = Metered<&'static [u8]>;

    /// A budget of so many steps in common, and so many for whoever goes first.
    fn budget(common: usize, share: usize) -> &'static MessageBudget {
        let (most, share) = ((common + share) * STEP_BYTES, share * STEP_BYTES);
        let terms = Terms { most, share, patience: Duration::from_secs(3_600) };
        Box::leak(Box::new(MessageBudget::of(terms)))
    }

    fn reading(budget: &'static MessageBudget) -> Reading {
        Metered::paying(&BYTES, budget)
    }

    /// What was read where so many steps had to be paid for.
    const fn paid(steps: usize) -> usize {
        FREE_BYTES + steps * STEP_BYTES
    }

    async fn read<S: AsyncRead + Unpin>(from: &mut Metered<S>, count: usize) -> io::Result<usize> {
        let (mut read, mut buffer) = (0, [0; 4_096]);
        while read < count {
            read += from.read(&mut buffer[..4_096.min(count - read)]).await?;
        }
        Ok(read)
    }

    /// How often somebody was woken.
    #[derive(Default)]
    struct Bell(AtomicUsize);

    impl Wake for Bell {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    impl Bell {
        fn count(&self) -> usize {
            self.0.load(Ordering::Relaxed)
        }
    }

    /// Reads until so much was read since all was done with, or it has to wait: then this is false.
    fn reaches(from: &mut Reading, until: usize, bell: &Arc<Bell>) -> bool {
        let waker = Waker::from(Arc::clone(bell));
        let (mut cx, mut buffer) = (Context::from_waker(&waker), [0; 4_096]);
        while from.read < until {
            let mut place = ReadBuf::new(&mut buffer[..4_096.min(until - from.read)]);
            match Pin::new(&mut *from).poll_read(&mut cx, &mut place) {
                Poll::Ready(read) => read.expect("nobody breaks it"),
                Poll::Pending => {
                    assert!(from.waits(), "there is more to read");
                    return false;
                }
            }
        }
        assert!(!from.waits());
        true
    }

    /// An alarm that went off already.
    async fn over() -> Option<Pin<Box<Sleep>>> {
        let mut late = Box::pin(sleep(Duration::ZERO));
        late.as_mut().await;
        Some(late)
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
        let budget = budget(100, 8);
        let mut one = reading(budget);
        for _ in 0..10 {
            read(&mut one, FREE_BYTES).await.expect("it is short");
            assert_eq!(budget.state(), (0, 0));
            one.done();
        }
        read(&mut one, paid(4)).await.expect("there is room");
        assert_eq!(budget.state(), (4 * STEP_BYTES, 0));
        one.passed(10);
        assert_eq!(budget.state(), (4 * STEP_BYTES, 0), "all else is kept");
        one.done();
        assert_eq!(budget.state(), (0, 0));
        read(&mut one, paid(20)).await.expect("it pays for no more than it can hold");
        assert_eq!(budget.state(), (8 * STEP_BYTES, 0));
        drop(one);
        assert_eq!(budget.state(), (0, 0), "whoever is gone holds nothing");
    }

    #[test]
    fn one_that_finds_no_room_waits_until_another_is_done() {
        let (budget, bell) = (budget(16, 8), Arc::default());
        let [mut one, mut other] = [reading(budget), reading(budget)];
        assert!(reaches(&mut one, paid(8), &bell), "it goes first");
        assert!(reaches(&mut other, paid(1), &bell), "there is some for who needs little");
        assert!(!reaches(&mut other, paid(3), &bell));
        assert!(!reaches(&mut other, paid(3), &bell));
        assert_eq!((budget.state(), bell.count()), ((9 * STEP_BYTES, 1), 0));
        one.done();
        assert_eq!(bell.count(), 1, "it is woken once");
        assert!(reaches(&mut other, paid(3), &bell));
        assert_eq!(budget.state(), (3 * STEP_BYTES, 0));
        other.done();
        assert_eq!(budget.state(), (0, 0));
        assert!(!budget.has_first());
    }

    #[test]
    fn once_a_message_is_whole_the_next_goes_first_with_what_is_left() {
        let (budget, bell) = (budget(16, 8), Arc::default());
        let [mut one, mut other] = [reading(budget), reading(budget)];
        assert!(reaches(&mut one, paid(8), &bell));
        assert!(!reaches(&mut other, paid(2), &bell));
        one.came_whole();
        assert_eq!(bell.count(), 1);
        assert!(reaches(&mut other, paid(2), &bell), "there was a step left");
        assert!(!reaches(&mut other, paid(3), &bell), "not more");
        one.done();
        assert_eq!(bell.count(), 2);
        assert!(reaches(&mut other, paid(8), &bell));
    }

    #[test]
    fn many_that_hold_a_part_and_wait_for_more_all_come_to_an_end() {
        const END: usize = paid(6);
        let (budget, bell) = (budget(16, 8), Arc::default());
        let mut all: Vec<_> = (0..20).map(|_| reading(budget)).collect();
        for part in [paid(1), paid(2)] {
            for one in &mut all {
                reaches(one, part, &bell);
            }
        }
        assert_eq!(all.iter().filter(|one| one.waits()).count(), 19, "all but the first");
        let mut rounds = 0;
        while !all.is_empty() {
            rounds += 1;
            assert!(rounds <= 20, "{} wait for each other", all.len());
            let mut played = Vec::new();
            for mut one in std::mem::take(&mut all) {
                if reaches(&mut one, END, &bell) {
                    one.came_whole();
                    played.push(one);
                } else {
                    all.push(one);
                }
            }
        }
        assert_eq!(budget.state(), (0, 0));
        assert!(!budget.has_first());
    }

    #[test]
    fn of_one_that_is_gone_while_it_waits_nothing_is_left() {
        let budget = budget(16, 8);
        let [of_one, of_second, of_third] = [(), (), ()].map(|()| Arc::<Bell>::default());
        let mut one = reading(budget);
        assert!(reaches(&mut one, paid(8), &of_one));
        let waiting = |bell: &Arc<Bell>| {
            let mut waiting = reading(budget);
            assert!(reaches(&mut waiting, paid(1), bell));
            assert!(!reaches(&mut waiting, paid(2), bell));
            waiting
        };
        let (gone, second, third) = (waiting(&of_one), waiting(&of_second), waiting(&of_third));
        assert_eq!(budget.state(), (11 * STEP_BYTES, 3));
        drop(gone);
        assert_eq!(budget.state(), (10 * STEP_BYTES, 2));
        one.done();
        assert_eq!([&of_one, &of_second, &of_third].map(|bell| bell.count()), [0, 1, 0]);
        // It was given a step, and goes before it looks: the next gets that.
        drop(second);
        assert_eq!([&of_one, &of_second, &of_third].map(|bell| bell.count()), [0, 1, 1]);
        assert_eq!(budget.state(), (2 * STEP_BYTES, 1));
        drop(third);
        assert_eq!(budget.state(), (0, 0));
        assert!(!budget.has_first());
    }

    #[test]
    fn no_more_are_woken_than_there_is_room_for_and_none_finds_it_gone() {
        let (budget, bell) = (budget(16, 8), Arc::default());
        let mut one = reading(budget);
        assert!(reaches(&mut one, paid(8), &bell));
        let mut all: Vec<_> = (0..30).map(|_| reading(budget)).collect();
        for one in &mut all {
            reaches(one, paid(1), &bell);
        }
        assert_eq!(all.iter().filter(|one| one.waits()).count(), 22);
        one.came_whole();
        assert_eq!(bell.count(), 1, "one goes first, with the last step of its room");
        drop(one);
        assert_eq!(bell.count(), 2, "and one step of the common room came back");
        assert!(!reaches(&mut reading(budget), paid(1), &bell), "it was given already");
        let asked = all.iter_mut().filter(|one| one.waits());
        let reached = asked.map(|one| reaches(one, paid(1), &bell));
        assert_eq!(reached.filter(|is_there| *is_there).count(), 2);
    }

    #[test]
    fn whoever_asked_last_for_a_connection_is_woken_for_it() {
        let budget = budget(16, 8);
        let [before, now] = [(), ()].map(|()| Arc::<Bell>::default());
        let [mut one, mut other] = [reading(budget), reading(budget)];
        assert!(reaches(&mut one, paid(8), &before));
        for bell in [&before, &now] {
            assert!(!reaches(&mut other, paid(2), bell));
        }
        drop(one);
        assert_eq!((before.count(), now.count()), (0, 1));
    }

    #[tokio::test]
    async fn an_agent_that_is_waited_for_may_not_take_for_ever_over_a_message() {
        let (budget, bell) = (budget(16, 8), Arc::default());
        let (stream, mut agent) = tokio::io::duplex(4_096);
        let mut slow = Metered::paying(stream, budget);
        let (said, heard) =
            tokio::join!(agent.write_all(&BYTES[..paid(2)]), read(&mut slow, paid(2)));
        said.expect("it is read");
        heard.expect("there is room");
        // What it may take of the runtime at once is to be no matter here.
        tokio::task::yield_now().await;
        let poll = async |slow: &mut Metered<tokio::io::DuplexStream>| {
            let mut byte = [0];
            let mut place = ReadBuf::new(&mut byte);
            poll_fn(|cx| Poll::Ready(Pin::new(&mut *slow).poll_read(cx, &mut place))).await
        };
        assert!(poll(&mut slow).await.is_pending());
        slow.late = over().await;
        assert!(poll(&mut slow).await.is_pending(), "nobody waits");
        assert!(slow.late.as_ref().is_some_and(|late| !late.is_elapsed()), "it has time again");
        let mut other = reading(budget);
        assert!(!reaches(&mut other, paid(2), &bell));
        assert!(poll(&mut slow).await.is_pending(), "it has its time");
        slow.late = over().await;
        let Poll::Ready(Err(late)) = poll(&mut slow).await else { panic!("it took too long") };
        assert_eq!(late.kind(), io::ErrorKind::OutOfMemory);
        drop(slow);
        assert!(reaches(&mut other, paid(2), &bell));
    }
}
