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
    /// `None`: of a session that is no more, where there is nothing to be cut.
    id: Option<String>,
    content_index: u32,
    /// Samples queued before it, since the last clear.
    start: u64,
    samples: u64,
}

impl Item {
    fn is(&self, id: &str, content_index: u32) -> bool {
        self.id.as_deref() == Some(id) && self.content_index == content_index
    }
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
            Some(last) if last.is(id, content_index) => {
                last.samples += samples;
            }
            _ => {
                if self.queued.len() >= ITEMS_MAX {
                    self.queued.pop_front();
                }
                let id = Some(id.to_owned());
                self.queued.push_back(Item { id, content_index, start, samples });
            }
        }
    }

    /// The queue is cleared.
    pub(super) fn clear(&mut self) {
        let dropped = std::mem::take(&mut self.queued);
        // What is not the last item was sent whole; only that one may go on.
        if let Some(last) = dropped.back().and_then(|last| last.id.clone()) {
            if self.cut.len() >= CUT_MAX {
                self.cut.pop_front();
            }
            self.cut.push_back(last);
        }
        self.samples = 0;
        self.cleared.push_back(dropped);
    }

    /// The session is another one, the queue is the same: what is in it still counts, but is nobody's any more.
    pub(super) fn disown(&mut self) {
        for item in self.queued.iter_mut().chain(self.cleared.iter_mut().flatten()) {
            item.id = None;
        }
        self.cut.clear();
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
                if heard < item.samples
                    && let Some(id) = item.id
                {
                    cuts.push(Cut {
                        item: id,
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
    fn another_session_goes_on_counting_in_the_same_queue_and_cuts_only_what_is_its_own() {
        let mut items = Items::default();
        items.queue("old", 0, 80_000);
        items.disown();
        items.queue("old", 0, 40_000);
        assert!(items.is_speaking());
        items.clear();
        assert_eq!(items.cleared(88_000), [cut("old", 1_000)]);
        // A clear of the session before is answered once this one has cleared too.
        items.queue("a", 0, 800);
        items.clear();
        items.disown();
        assert!(!items.is_cut("a"));
        items.queue("b", 0, 800);
        items.clear();
        assert_eq!(items.cleared(400), [cut("b", 0)]);
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
