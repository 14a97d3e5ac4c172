//! `Items`: which part of the playout queue is which item's, so that an interrupted one is cut where it was heard.

use std::collections::VecDeque;

/// Samples of a millisecond.
const SAMPLES_PER_MS: u64 = 8;
/// Items that are followed; a server's answers are played long before there are so many.
const ITEMS_MAX: usize = 64;
/// Interrupted items whose late audio is known as such.
const CUT_MAX: usize = 16;

/// An item of audio that is cut at what was heard of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cut {
    pub(super) item: String,
    pub(super) content_index: u32,
    pub(super) audio_end_ms: u64,
}

#[derive(Clone, Debug)]
struct Item {
    id: String,
    content_index: u32,
    /// Samples queued before it, since the last clear.
    start: u64,
    samples: u64,
}

/// The items in the playout queue.
#[derive(Debug, Default)]
pub(super) struct Items {
    queued: VecDeque<Item>,
    /// Samples queued since the last clear.
    samples: u64,
    /// What clears dropped, until they are told to have taken effect.
    cleared: VecDeque<VecDeque<Item>>,
    cut: VecDeque<String>,
}

impl Items {
    /// Whether audio of this item is too late to be played.
    pub(super) fn is_cut(&self, id: &str) -> bool {
        self.cut.iter().any(|cut| cut == id)
    }

    /// Whether something of an item may still be in the queue.
    pub(super) fn is_speaking(&self) -> bool {
        !self.queued.is_empty()
    }

    /// So many samples of this item were queued.
    pub(super) fn queue(&mut self, id: &str, content_index: u32, samples: u64) {
        let start = self.samples;
        self.samples += samples;
        match self.queued.back_mut() {
            Some(last) if last.id == id && last.content_index == content_index => {
                last.samples += samples;
            }
            _ => {
                if self.queued.len() >= ITEMS_MAX {
                    self.queued.pop_front();
                }
                self.queued.push_back(Item { id: id.to_owned(), content_index, start, samples });
            }
        }
    }

    /// The queue is cleared.
    pub(super) fn clear(&mut self) {
        let dropped = std::mem::take(&mut self.queued);
        // What is not the last item was sent whole; only that one may go on.
        if let Some(last) = dropped.back() {
            if self.cut.len() >= CUT_MAX {
                self.cut.pop_front();
            }
            self.cut.push_back(last.id.clone());
        }
        self.samples = 0;
        self.cleared.push_back(dropped);
    }

    /// Whatever was queued, or cleared, was in a queue that is no more: nothing will be told of it.
    pub(super) fn forget(&mut self) {
        self.queued.clear();
        self.cleared.clear();
        self.samples = 0;
    }

    /// The clears so far took effect after so many samples of the first of them: what was not heard to its end.
    pub(super) fn cleared(&mut self, played: u64) -> Vec<Cut> {
        let mut played = played;
        let mut cuts = Vec::new();
        for dropped in self.cleared.drain(..) {
            for item in dropped {
                let heard = played.saturating_sub(item.start).min(item.samples);
                if heard < item.samples {
                    cuts.push(Cut {
                        item: item.id,
                        content_index: item.content_index,
                        audio_end_ms: heard / SAMPLES_PER_MS,
                    });
                }
            }
            // Between two clears that took effect as one nothing is played.
            played = 0;
        }
        cuts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(item: &str, audio_end_ms: u64) -> Cut {
        Cut { item: item.to_owned(), content_index: 0, audio_end_ms }
    }

    #[test]
    fn the_item_being_played_is_cut_at_its_own_milliseconds() {
        let mut items = Items::default();
        for _ in 0..10 {
            items.queue("a", 0, 800);
        }
        items.queue("b", 0, 8_000);
        items.queue("c", 0, 80);
        items.clear();
        assert_eq!(items.cleared(8_000 + 4_007), [cut("b", 500), cut("c", 0)]);
        assert!(items.is_cut("c") && !items.is_cut("a") && !items.is_speaking());
        items.queue("d", 0, 1_600);
        items.clear();
        assert_eq!(items.cleared(800), [cut("d", 100)], "each clear begins to count anew");
    }

    #[test]
    fn what_was_heard_whole_is_not_cut() {
        let mut items = Items::default();
        items.queue("a", 0, 800);
        items.clear();
        assert_eq!(items.cleared(800), []);
        items.clear();
        assert_eq!(items.cleared(0), []);
    }

    #[test]
    fn two_clears_that_are_told_as_one_are_both_answered() {
        let mut items = Items::default();
        items.queue("a", 0, 1_600);
        items.clear();
        items.queue("b", 0, 1_600);
        items.clear();
        assert_eq!(items.cleared(80), [cut("a", 10), cut("b", 0)]);
        assert_eq!(items.cleared(0), []);
    }

    #[test]
    fn nothing_is_cut_of_a_queue_that_is_no_more() {
        let mut items = Items::default();
        items.queue("a", 0, 1_600);
        items.clear();
        items.queue("b", 0, 1_600);
        items.forget();
        assert!(!items.is_speaking());
        assert_eq!(items.cleared(0), []);
        items.queue("c", 0, 1_600);
        items.clear();
        assert_eq!(items.cleared(800), [cut("c", 100)], "what follows counts from its own begin");
    }

    #[test]
    fn a_thousand_items_are_bounded() {
        let mut items = Items::default();
        for n in 0..1_000 {
            items.queue(&n.to_string(), 0, 8);
            items.clear();
            items.cleared(0);
            items.queue(&n.to_string(), 1, 8);
        }
        assert!(items.queued.len() <= ITEMS_MAX && items.cut.len() <= CUT_MAX);
    }
}
