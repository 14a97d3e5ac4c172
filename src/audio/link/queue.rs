//! The way of an agent's audio to the media thread: segments, and where there are many chains of them, for which fewer
//! places are enough.

use crate::audio::link::segment::Segment;
use crate::types::cache::fetch;
use crate::types::cache::fetch_counters;
use rtrb::Consumer;
use rtrb::Producer;
use rtrb::RingBuffer;

/// Places for all segments that a link may have on their way: 25 go alone, and then chains, each longer than the last.
pub(super) const PLACES_MAX: usize = 35;

/// While no more places are taken, each segment goes alone: those of half a second in pieces of 20 ms.
pub(super) const ALONE_MAX: u64 = 24;

/// Where segments are put in.
#[derive(Debug)]
pub(super) struct QueueIn {
    /// One place more than are used, for what waits when this end goes.
    places: Producer<Box<Segment>>,
    waiting: Waiting,
}

/// What waits until it is worth a place, or one is free.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    /// The newest first.
    newest: Option<Box<Segment>>,
    segments: usize,
    pub(super) units: u64,
    pub(super) finishes: u64,
}

/// Where they come out.
#[derive(Debug)]
pub(super) struct QueueOut {
    places: Consumer<Box<Segment>>,
    /// The rest of a chain that was begun.
    begun: Option<Box<Segment>>,
}

pub(super) fn ring(places: usize) -> (QueueIn, QueueOut) {
    let (places_in, places_out) = RingBuffer::new(places + 1);
    let into = QueueIn { places: places_in, waiting: Waiting::default() };
    (into, QueueOut { places: places_out, begun: None })
}

impl QueueIn {
    pub(super) fn push(&mut self, mut segment: Box<Segment>) {
        self.waiting.segments += 1;
        self.waiting.units += segment.units() as u64;
        self.waiting.finishes += u64::from(segment.finish);
        segment.next = self.waiting.newest.take();
        self.waiting.newest = Some(segment);
    }

    /// Audio that waits, in units.
    pub(super) const fn waiting_units(&self) -> u64 {
        self.waiting.units
    }

    /// Hands over what waits, once it is long enough for the places that are left, or ends an utterance. `count` is told
    /// of it before, so that it counts what is played not before it does this.
    pub(super) fn hand_over(&mut self, count: impl FnOnce(&Waiting)) {
        // Mostly so, and then what the other thread writes is left alone.
        if self.is_empty() {
            return;
        }
        // Of the places that were seen to be free none is taken since but by this end: where they are enough, how many more
        // there are by now need not be known.
        if self.is_due(self.places.cached_slots()) || self.is_due(self.places.slots()) {
            self.hand_over_all(count);
        }
    }

    /// Whether what waits is worth a place, where so many are free: the more are, the sooner it is.
    fn is_due(&self, free: usize) -> bool {
        let taken = self.places.buffer().capacity() - free;
        let is_long = self.waiting.segments > 2 * taken.saturating_sub(ALONE_MAX as usize);
        free > 1 && (is_long || self.waiting.finishes > 0)
    }

    /// Has the processor fetch what tells which place is next.
    pub(super) fn fetch_counters(&self) {
        fetch_counters(self.places.buffer());
    }

    /// Nothing waits.
    pub(super) const fn is_empty(&self) -> bool {
        self.waiting.newest.is_none()
    }

    /// Hands over all that waits, in the last place too.
    pub(super) fn hand_over_all(&mut self, count: impl FnOnce(&Waiting)) {
        if self.is_empty() {
            return;
        }
        let Ok(place) = self.places.write_chunk_uninit(1) else { return };
        count(&self.waiting);
        let waiting = std::mem::take(&mut self.waiting);
        place.fill_from_iter(oldest_first(waiting.newest));
    }

    /// What waits, the oldest first: it is not handed over any more.
    pub(super) fn take_waiting(&mut self) -> Option<Box<Segment>> {
        oldest_first(std::mem::take(&mut self.waiting).newest)
    }
}

/// Turns a chain round.
fn oldest_first(mut newest: Option<Box<Segment>>) -> Option<Box<Segment>> {
    let mut chain = None;
    while let Some(mut segment) = newest {
        newest = segment.next.take();
        segment.next = chain.take();
        chain = Some(segment);
    }
    chain
}

impl QueueOut {
    pub(super) fn peek(&self) -> Option<&Segment> {
        let next = || self.places.peek().ok();
        self.begun.as_ref().or_else(next).map(|segment| &**segment)
    }

    pub(super) fn pop(&mut self) -> Option<Box<Segment>> {
        let begun = self.begun.take();
        let mut segment = begun.or_else(|| self.places.pop().ok())?;
        self.begun = segment.next.take();
        Some(segment)
    }

    /// Has the processor fetch what tells which place is next.
    pub(super) fn fetch_counters(&self) {
        fetch_counters(self.places.buffer());
    }

    /// The same of that place, if something is there.
    pub(super) fn fetch_place(&self) {
        if let Ok(place) = self.places.peek() {
            fetch(place);
        }
    }

    pub(super) fn is_abandoned(&self) -> bool {
        self.places.is_abandoned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::limit::AGENT_ITEMS_MAX;

    fn numbered(epoch: u64) -> Box<Segment> {
        Box::new(Segment { epoch, bytes: vec![0; 3], ..Segment::default() })
    }

    fn taken(out: &mut QueueOut) -> Vec<u64> {
        std::iter::from_fn(|| out.pop()).map(|segment| segment.epoch).collect()
    }

    #[test]
    fn all_that_a_link_may_have_finds_a_place_in_order() {
        let (mut into, mut out) = ring(PLACES_MAX);
        let mut units = 0;
        for number in 0..AGENT_ITEMS_MAX as u64 {
            into.push(numbered(number));
            into.hand_over(|waiting| units += waiting.units);
            let alone = number < ALONE_MAX;
            assert!(!alone || into.waiting_units() == 0, "{number} goes at once");
        }
        assert!(into.places.slots() > 1);
        assert_eq!(units + into.waiting_units(), 3 * AGENT_ITEMS_MAX as u64);
        assert_eq!(out.peek().map(|segment| segment.epoch), Some(0));
        let before = taken(&mut out);
        assert_eq!(3 * before.len() as u64, units, "what was counted is there");
        into.hand_over(|waiting| units += waiting.units);
        assert_eq!((units, into.waiting_units()), (3 * AGENT_ITEMS_MAX as u64, 0));
        let all = [before, taken(&mut out)].concat();
        assert_eq!(all, (0..AGENT_ITEMS_MAX as u64).collect::<Vec<_>>());
    }

    #[test]
    fn the_last_place_is_for_the_end() {
        let (mut into, mut out) = ring(2);
        for number in 0..5 {
            let mut segment = numbered(number);
            segment.finish = true;
            into.push(segment);
            into.hand_over(|_| ());
        }
        assert_eq!((into.places.slots(), into.waiting.finishes), (1, 3));
        into.hand_over_all(|waiting| assert_eq!((waiting.finishes, waiting.units), (3, 9)));
        drop(into);
        assert!(out.is_abandoned());
        assert_eq!(taken(&mut out), [0, 1, 2, 3, 4]);
    }

    #[test]
    fn a_chain_is_seen_and_taken_one_by_one() {
        let (mut into, mut out) = ring(1);
        (0..3).map(numbered).for_each(|segment| into.push(segment));
        into.hand_over(|_| ());
        for number in 0..3 {
            assert_eq!(out.peek().map(|segment| segment.epoch), Some(number));
            let segment = out.pop().expect("it is there");
            assert!(segment.epoch == number && segment.next.is_none());
        }
        assert!(out.peek().is_none() && out.pop().is_none());
    }
}
