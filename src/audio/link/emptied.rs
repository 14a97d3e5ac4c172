//! The way back of the segments that were played or dropped: chains of them, for which a few places are enough.

use crate::audio::link::segment::Segment;
use rtrb::Consumer;
use rtrb::Producer;
use rtrb::PushError;
use rtrb::RingBuffer;

/// Chains on their way at once: one of what was played, and one for each clear that the agent has not read of.
const CHAINS_MAX: usize = 8;

/// Where segments are given back. Neither allocates nor frees.
#[derive(Debug)]
pub(super) struct EmptiedIn {
    chains: Producer<Box<Segment>>,
    /// What waits until the chain before it was taken, or a clear is answered; the newest first.
    kept: Option<Box<Segment>>,
}

/// Where they come out.
#[derive(Debug)]
pub(super) struct EmptiedOut {
    chains: Consumer<Box<Segment>>,
    /// The rest of a chain that was begun, the oldest first.
    begun: Option<Box<Segment>>,
}

pub(super) fn ring() -> (EmptiedIn, EmptiedOut) {
    let (chains_in, chains_out) = RingBuffer::new(CHAINS_MAX);
    let into = EmptiedIn { chains: chains_in, kept: None };
    (into, EmptiedOut { chains: chains_out, begun: None })
}

impl EmptiedIn {
    pub(super) fn push(&mut self, mut segment: Box<Segment>) {
        segment.next = self.kept.take();
        self.kept = Some(segment);
        // The other places are for clears.
        if self.chains.slots() == CHAINS_MAX {
            self.hand_over();
        }
    }

    /// True when all that was given back is on its way; false when there is no place for another chain.
    pub(super) fn hand_over(&mut self) -> bool {
        if let Some(chain) = self.kept.take()
            && let Err(PushError::Full(chain)) = self.chains.push(chain)
        {
            self.kept = Some(chain);
        }
        self.kept.is_none()
    }
}

impl EmptiedOut {
    /// The oldest that is on its way.
    pub(super) fn pop(&mut self) -> Option<Box<Segment>> {
        if self.begun.is_none() {
            let mut newest = self.chains.pop().ok();
            while let Some(mut segment) = newest {
                newest = segment.next.take();
                segment.next = self.begun.take();
                self.begun = Some(segment);
            }
        }
        let mut segment = self.begun.take()?;
        self.begun = segment.next.take();
        Some(segment)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbered(epoch: u64) -> Box<Segment> {
        Box::new(Segment { epoch, ..Segment::default() })
    }

    fn taken(out: &mut EmptiedOut) -> Vec<u64> {
        std::iter::from_fn(|| out.pop()).map(|segment| segment.epoch).collect()
    }

    #[test]
    fn what_comes_back_meanwhile_is_a_chain_more_in_order() {
        let (mut into, mut out) = ring();
        (0..100).map(numbered).for_each(|segment| into.push(segment));
        assert_eq!(taken(&mut out), [0], "the rest waits");
        (100..102).map(numbered).for_each(|segment| into.push(segment));
        assert!(into.hand_over());
        assert_eq!(taken(&mut out), (1..102).collect::<Vec<_>>());
        assert!(into.hand_over() && out.pop().is_none());
    }

    #[test]
    fn without_a_place_all_is_kept() {
        let (mut into, mut out) = ring();
        let handed = (0..20_u64).map(|number| {
            into.push(numbered(number));
            into.hand_over()
        });
        assert_eq!(handed.filter(|is_handed| *is_handed).count(), CHAINS_MAX);
        assert_eq!(taken(&mut out), (0..CHAINS_MAX as u64).collect::<Vec<_>>());
        assert!(into.hand_over());
        assert_eq!(taken(&mut out), (CHAINS_MAX as u64..20).collect::<Vec<_>>());
    }
}
