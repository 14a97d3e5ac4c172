//! The way back of the segments that were played or dropped: one chain of them, whoever reads it when.

use crate::audio::link::segment::Segment;
use crossbeam_utils::atomic::AtomicCell;
use std::fmt;

/// Where the media end gives segments back, which neither allocates nor frees nor waits, and the agent's end takes them.
#[derive(Default)]
pub(super) struct Emptied {
    /// The newest first.
    chain: AtomicCell<Option<Box<Segment>>>,
}

const _: () = assert!(AtomicCell::<Option<Box<Segment>>>::is_lock_free());

impl fmt::Debug for Emptied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Emptied").finish_non_exhaustive()
    }
}

impl Emptied {
    /// Gives a segment back. For the media end alone: what it takes out of the chain's place it puts there again.
    pub(super) fn push(&self, mut segment: Box<Segment>) {
        segment.next = self.chain.take();
        // Nothing is in that place: the other end only takes.
        self.chain.store(Some(segment));
    }

    /// Takes all that came back, as a chain that begins with the oldest.
    pub(super) fn take(&self) -> Option<Box<Segment>> {
        let (mut newest, mut oldest) = (self.chain.take(), None);
        while let Some(mut segment) = newest {
            newest = segment.next.take();
            segment.next = oldest;
            oldest = Some(segment);
        }
        oldest
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn numbered(epoch: u64) -> Box<Segment> {
        Box::new(Segment { epoch, ..Segment::default() })
    }

    fn taken(emptied: &Emptied) -> Vec<u64> {
        let mut oldest = emptied.take();
        let next = || {
            let mut segment = oldest.take()?;
            oldest = segment.next.take();
            Some(segment.epoch)
        };
        std::iter::from_fn(next).collect()
    }

    #[test]
    fn all_that_came_back_is_taken_once_and_in_order() {
        let emptied = Emptied::default();
        assert!(taken(&emptied).is_empty());
        (0..100).map(numbered).for_each(|segment| emptied.push(segment));
        assert_eq!(taken(&emptied), (0..100).collect::<Vec<_>>());
        emptied.push(numbered(100));
        assert_eq!(taken(&emptied), [100]);
        assert!(taken(&emptied).is_empty());
    }

    #[test]
    fn what_is_given_while_it_is_taken_is_neither_lost_nor_moved() {
        const COUNT: u64 = 100_000;
        let emptied = Arc::new(Emptied::default());
        let given = Arc::clone(&emptied);
        let media = std::thread::spawn(move || {
            (0..COUNT).map(numbered).for_each(|segment| given.push(segment));
        });
        let mut seen = Vec::new();
        while !media.is_finished() {
            seen.extend(taken(&emptied));
        }
        media.join().expect("it gives all");
        seen.extend(taken(&emptied));
        assert!(seen.into_iter().eq(0..COUNT));
    }
}
