//! Whether a long silence of the agent is a gap in its reply, or the reply was over.
//!
//! Most agents tell no end of a reply. A silence is taken for a gap unless something says otherwise: the agent finished or
//! cleared, its last words had a mark behind them, the caller was heard, or it lasts so long that the agent begins anew.

use crate::audio::link::REPLY_END;

/// The longest silence that is a gap in a reply. An agent that asks again, since the caller says nothing, waits longer.
const LULL_MS_MAX: u32 = 3_000;

/// A caller that spoke into the agent's last words, this shortly before the silence, is answered behind it, in ms.
const ANSWERED_MS: u32 = 2_000;

/// A silence too long for the utterance to go on behind it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lull {
    /// For so long the agent is silent behind words that nothing ended, in ms.
    ms: Option<u32>,
    /// For so long the caller was not heard, in ms. What it said before the agent spoke is answered by that.
    caller_quiet_ms: u32,
    /// Where in the utterance its last mark was, in samples; 0: it had none.
    marked_at: u64,
    last: Last,
}

/// What the last mark of an utterance tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Last {
    /// That the words before it are over: it is the first.
    First,
    /// Nothing: the utterance has marks within, which are those of its pieces.
    OfPiece,
    /// That the reply before it is whole, whatever marks are within.
    OfReply,
}

impl Lull {
    pub(super) const fn new() -> Self {
        Self { ms: None, caller_quiet_ms: u32::MAX, marked_at: 0, last: Last::First }
    }

    /// The agent is silent for so long, and its utterance will not go on.
    pub(super) const fn begin(&mut self, ms: u32) {
        self.ms = Some(ms);
    }

    /// Whether it may still turn out to be a gap.
    pub(super) const fn is_open(&self) -> bool {
        self.ms.is_some()
    }

    /// So much time passed.
    pub(super) fn pass(&mut self, passed_ms: u32) {
        self.caller_quiet_ms = self.caller_quiet_ms.saturating_add(passed_ms);
        let ms = self.ms.map(|ms| ms.saturating_add(passed_ms));
        self.ms = ms.filter(|ms| *ms <= LULL_MS_MAX);
    }

    /// The caller speaks or presses a key.
    pub(super) const fn caller_is_heard(&mut self) {
        self.caller_quiet_ms = 0;
    }

    /// A mark `at` samples of the utterance was played.
    pub(super) const fn marked(&mut self, id: u64, at: u64) {
        if id == REPLY_END {
            self.last = Last::OfReply;
        } else if self.marked_at > 0 && at > self.marked_at {
            self.last = Last::OfPiece;
        }
        self.marked_at = at;
    }

    /// What was said is over.
    pub(super) const fn forget(&mut self) {
        self.ms = None;
        self.forget_marks();
    }

    /// Another utterance begins at once behind one.
    pub(super) const fn forget_marks(&mut self) {
        self.marked_at = 0;
        self.last = Last::First;
    }

    /// Audio comes again behind an utterance of so many samples.
    pub(super) const fn speaks_again(&mut self, samples: u64) {
        if self.marked_at == samples && !matches!(self.last, Last::OfPiece) {
            self.ms = None;
        }
        self.forget_marks();
    }

    /// What the agent says again is played: how long the silence was where it was a gap, in ms.
    pub(super) fn end(&mut self) -> Option<u32> {
        let quiet_ms = std::mem::replace(&mut self.caller_quiet_ms, u32::MAX);
        self.ms.take().filter(|ms| quiet_ms > ms + ANSWERED_MS)
    }
}

#[cfg(test)]
mod tests {
    use crate::audio::frame::FRAME_SAMPLES;
    use crate::audio::link::AgentEnd;
    use crate::audio::link::LinkEvent;
    use crate::audio::link::REPLY_END;
    use crate::audio::link::link;
    use crate::media::playout::Playout;
    use crate::media::playout::TICK_MS;
    use crate::types::codec::Law;

    const LOUD: u8 = 0x10;

    struct Line {
        playout: Playout,
        agent: AgentEnd,
    }

    impl Line {
        fn new() -> Self {
            let (end, agent) = link();
            Self { playout: Playout::new(end, 1), agent }
        }

        fn say(&mut self, ms: usize) {
            assert_eq!(self.agent.push_audio(&vec![LOUD; ms * 8]), ms * 8);
        }

        /// The agent's samples in so many frames.
        fn ticks(&mut self, count: usize) -> usize {
            let mut loud = 0;
            for _ in 0..count {
                let frame = self.playout.tick(false).as_law(Law::Mu);
                loud += frame.iter().filter(|byte| **byte == LOUD).count();
            }
            loud
        }

        /// Says 100 ms, is silent for so many ticks, and says 100 ms more.
        fn breaks_off_for(&mut self, silent: usize) {
            self.say(100);
            assert_eq!(self.ticks(5 + silent), 800);
            self.say(100);
            assert_eq!(self.ticks(5), 800);
        }

        fn is_over(&mut self, how: usize) {
            match how {
                0 => assert!(self.agent.finish()),
                1 => self.agent.clear(),
                2 => {
                    self.playout.flush();
                }
                _ => {
                    self.playout.unheard();
                }
            }
        }

        fn gaps(&mut self) -> Vec<u32> {
            let gap = |event: LinkEvent| match event {
                LinkEvent::Underrun { ms } => Some(ms),
                _ => None,
            };
            std::iter::from_fn(|| self.agent.next()).filter_map(gap).collect()
        }
    }

    #[test]
    fn a_long_gap_in_a_reply_is_counted_and_as_long_as_the_caller_heard_it() {
        for silent in [21, 22, 40, 149, 150] {
            let mut line = Line::new();
            line.breaks_off_for(silent);
            assert_eq!(line.gaps(), [silent as u32 * TICK_MS]);
            assert_eq!(line.playout.underruns(), 1, "{silent}");
            let told = line.playout.take_underrun().expect("it is told");
            assert_eq!((told.ms, told.node_late), (silent as u32 * TICK_MS, false));
            assert_eq!(line.playout.heard_ms(), 100, "another utterance all the same");
        }
    }

    #[test]
    fn a_gap_that_ends_within_a_frame_counts_from_its_last_sample() {
        let mut line = Line::new();
        line.say(75);
        assert_eq!(line.ticks(4 + 30), 600);
        line.say(20);
        // Less than its pre-roll: it waits for that.
        assert_eq!(line.ticks(3), 0);
        assert_eq!(line.ticks(1), 160);
        assert_eq!(line.gaps(), [5 + 30 * 20 + 3 * 20]);
    }

    #[test]
    fn an_agent_that_was_silent_for_more_than_3_s_begins_anew() {
        let mut line = Line::new();
        line.breaks_off_for(151);
        assert_eq!((line.gaps(), line.playout.underruns()), (Vec::new(), 0));
    }

    #[test]
    fn a_pause_behind_a_finish_a_clear_or_an_interruption_is_no_gap() {
        for how in 0..4 {
            let mut line = Line::new();
            // At once, and when the agent is silent already.
            for late in [0, 30, 30] {
                // Its marks tell nothing.
                for id in 0..2 {
                    line.say(50);
                    assert!(line.agent.push_mark(id));
                }
                assert_eq!(line.ticks(5), 800, "{how}");
                line.ticks(late);
                line.is_over(how);
                line.ticks(50);
            }
            assert_eq!((line.gaps(), line.playout.underruns()), (Vec::new(), 0), "{how}");
        }
    }

    #[test]
    fn a_mark_behind_the_last_words_ends_them_also_when_it_comes_late() {
        for late in [0, 15, 45] {
            let mut line = Line::new();
            for id in 0..3 {
                line.say(100);
                line.ticks(late);
                assert!(line.agent.push_mark(id));
                line.ticks(60);
            }
            assert_eq!((line.gaps(), line.playout.underruns()), (Vec::new(), 0), "{late}");
        }
    }

    #[test]
    fn each_reply_has_marks_of_its_own() {
        let mut line = Line::new();
        for ms in [100, 200] {
            line.say(ms);
            assert!(line.agent.push_mark(ms as u64));
            assert!(ms == 200 || line.agent.finish());
        }
        assert_eq!(line.ticks(15 + 50), 2_400);
        line.say(100);
        assert_eq!(line.ticks(5), 800);
        assert!(line.gaps().is_empty());
    }

    #[test]
    fn marks_of_pieces_and_before_the_first_word_end_nothing() {
        let mut line = Line::new();
        for id in 0..2 {
            line.say(60);
            assert!(line.agent.push_mark(id));
        }
        assert_eq!(line.ticks(6 + 50), 960);
        line.say(100);
        assert!(line.agent.push_mark(2));
        assert_eq!(line.ticks(5), 800);
        assert_eq!(line.gaps(), [1_000], "the bot marks each piece");
        // What it says now has one mark.
        line.ticks(50);
        assert!(line.agent.push_mark(3));
        line.breaks_off_for(50);
        assert_eq!(line.gaps(), [1_000], "the mark was before the words");
    }

    #[test]
    fn the_end_of_a_whole_reply_is_one_also_behind_others_and_behind_marks_of_pieces() {
        for (marks, is_gap) in
            [([REPLY_END, REPLY_END], false), ([1, REPLY_END], false), ([REPLY_END, 1], true)]
        {
            // At once, and when all was played.
            for late in [0, 12, 40] {
                let mut line = Line::new();
                line.say(100);
                assert!(line.agent.push_mark(marks[0]));
                line.say(100);
                assert!(late > 0 || line.agent.push_mark(marks[1]));
                assert_eq!(line.ticks(10 + late), 1_600);
                assert!(late == 0 || line.agent.push_mark(marks[1]));
                line.ticks(60 - late);
                line.say(100);
                assert_eq!(line.ticks(5), 800);
                let gaps = if is_gap { vec![1_200] } else { Vec::new() };
                assert_eq!(line.gaps(), gaps, "{marks:?} {late}");
            }
        }
        // One behind which more follows at once is no end of that.
        let mut line = Line::new();
        line.say(100);
        assert!(line.agent.push_mark(REPLY_END));
        line.say(50);
        assert_eq!(line.ticks(8 + 40), 1_200);
        line.say(100);
        assert_eq!(line.ticks(5), 800);
        assert_eq!(line.gaps(), [10 + 800]);
    }

    #[test]
    fn what_follows_the_caller_is_an_answer() {
        // It is heard so many ticks after the agent began to speak.
        for (at, is_gap) in [(10, true), (80, false), (120, false), (170, false)] {
            let mut line = Line::new();
            line.say(2_500);
            for tick in 0..125 + 50 {
                if tick == at {
                    line.playout.caller_is_heard();
                }
                line.ticks(1);
                // Its task goes on.
                assert!(line.gaps().is_empty());
            }
            line.say(100);
            assert_eq!(line.ticks(5), 5 * FRAME_SAMPLES);
            assert_eq!(line.playout.underruns(), u32::from(is_gap), "{at}");
        }
    }

    #[test]
    fn an_answer_that_breaks_off_has_a_gap() {
        let mut line = Line::new();
        line.ticks(20);
        line.playout.caller_is_heard();
        line.ticks(20);
        line.breaks_off_for(40);
        assert_eq!(line.gaps(), [800]);
    }

    #[test]
    fn a_long_gap_is_blamed_on_the_node_where_it_came_late_and_counts_what_that_left_out() {
        for late in [0, 5] {
            let mut line = Line::new();
            line.say(100);
            line.ticks(5 + 35);
            if late > 0 {
                line.playout.left_out(late);
            }
            line.ticks(5);
            line.say(100);
            line.ticks(5);
            let told = line.playout.take_underrun().expect("a gap");
            assert_eq!((told.ms, told.node_late), (800 + 20 * late as u32, late > 0));
        }
    }

    #[test]
    fn an_agent_that_takes_over_has_no_part_in_the_silence_before() {
        let mut line = Line::new();
        line.say(100);
        line.ticks(40);
        let (mut end, agent) = link();
        line.playout.attach(&mut end);
        line.agent = agent;
        line.say(100);
        assert_eq!(line.ticks(5), 800);
        assert_eq!(line.playout.underruns(), 0);
    }
}
