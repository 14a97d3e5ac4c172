//! The way of notices to the agent's end: a ring of words. It takes 340 bytes less than one of anything, which keeps its
//! counters a cache line apart each for the sake of speed that these few do not need.

use crate::audio::link::notice::Notice;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

/// Where notices are put in, by one.
#[derive(Debug)]
pub(super) struct NoticesIn(Arc<Ring>);

/// Where they come out, to one.
#[derive(Debug)]
pub(super) struct NoticesOut(Arc<Ring>);

#[derive(Debug)]
struct Ring {
    places: Box<[[AtomicU64; 2]]>,
    /// Notices ever put in. Written by that end, after the notice's place.
    written: AtomicUsize,
    /// Notices ever taken. Written by the other end, after it read the place.
    taken: AtomicUsize,
}

/// A ring for so many.
pub(super) fn ring(most: usize) -> (NoticesIn, NoticesOut) {
    let places = (0..most).map(|_| [AtomicU64::new(0), AtomicU64::new(0)]).collect();
    let (written, taken) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let ring = Arc::new(Ring { places, written, taken });
    (NoticesIn(Arc::clone(&ring)), NoticesOut(ring))
}

impl Ring {
    /// That of the notice with this number.
    fn place(&self, number: usize) -> Option<&[AtomicU64; 2]> {
        self.places.get(number.checked_rem(self.places.len())?)
    }
}

impl NoticesIn {
    /// False when there is no room.
    pub(super) fn push(&mut self, notice: Notice) -> bool {
        let ring = &*self.0;
        let written = ring.written.load(Ordering::Relaxed);
        let waiting = written.wrapping_sub(ring.taken.load(Ordering::Acquire));
        let Some([first, second]) = ring.place(written).filter(|_| waiting < ring.places.len())
        else {
            return false;
        };
        for (place, word) in [first, second].into_iter().zip(notice.words()) {
            place.store(word, Ordering::Relaxed);
        }
        ring.written.store(written.wrapping_add(1), Ordering::Release);
        true
    }
}

impl NoticesOut {
    /// The oldest.
    pub(super) fn pop(&mut self) -> Option<Notice> {
        let ring = &*self.0;
        let taken = ring.taken.load(Ordering::Relaxed);
        if ring.written.load(Ordering::Acquire) == taken {
            return None;
        }
        let [first, second] = ring.place(taken)?;
        let words = [first.load(Ordering::Relaxed), second.load(Ordering::Relaxed)];
        ring.taken.store(taken.wrapping_add(1), Ordering::Release);
        Notice::of_words(words)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(id: u64) -> Notice {
        Notice::Mark { id, played_ms: id as u32 }
    }

    #[test]
    fn as_many_as_there_are_places_wait_and_come_out_in_order() {
        let (mut into, mut out) = ring(3);
        assert_eq!(out.pop(), None);
        for round in 0..100 {
            let taken = (0..5).filter(|n| into.push(mark(round * 10 + n))).count();
            assert_eq!(taken, 3);
            let came: Vec<_> = std::iter::from_fn(|| out.pop()).collect();
            assert_eq!(came, [0, 1, 2].map(|n| mark(round * 10 + n)));
            // So that the next round begins in the midst of the ring.
            assert!(into.push(Notice::Drained));
            assert_eq!(out.pop(), Some(Notice::Drained));
        }
        let (mut into, mut out) = ring(0);
        assert!(!into.push(Notice::Drained));
        assert_eq!(out.pop(), None);
    }

    #[test]
    fn what_one_thread_says_the_other_hears_whole_and_once() {
        const COUNT: u64 = 100_000;
        let (mut into, mut out) = ring(4);
        let saying = std::thread::spawn(move || {
            for id in 0..COUNT {
                while !into.push(mark(id)) {
                    std::thread::yield_now();
                }
            }
        });
        for id in 0..COUNT {
            let heard = loop {
                match out.pop() {
                    Some(notice) => break notice,
                    None => std::thread::yield_now(),
                }
            };
            assert_eq!(heard, mark(id));
        }
        saying.join().expect("it says all");
        assert_eq!(out.pop(), None);
    }
}
