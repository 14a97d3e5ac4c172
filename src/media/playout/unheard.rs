//! What an agent says where nobody hears it: its caller is on hold, or talks with somebody else.

use crate::audio::sound::Sound;
use crate::media::playout::Interruption;
use crate::media::playout::PREROLL_MS;
use crate::media::playout::Playout;
use crate::media::playout::State;
use crate::media::playout::TICK_MS;
use crate::media::playout::UNDERRUN_MS_MAX;
use crate::media::playout::dropping::Dropped;

/// The first words of an agent wait as long as there are no more of them than this, in ms: of an agent that sends without a
/// pause, what waits would be late for the rest of the call.
pub(super) const FIRST_WORDS_MS_MAX: u32 = 10_000;

/// The utterance that nobody hears.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Unheard {
    /// The agent was told.
    told: bool,
    /// For so long nothing came of it.
    quiet_ms: u32,
}

impl Playout {
    /// Comfort noise for 20 ms, in which nobody hears the agent. A script, and the first words of whoever was never heard, wait
    /// until somebody does, silence before them apart. All else is dropped as it comes, its marks are told, and once for each
    /// utterance the agent is told how much of it was heard. Returns that too, in ms, where an utterance is dropped from here on.
    pub fn unheard(&mut self) -> (Sound, Option<u64>) {
        if self.end.is_patient() {
            return (self.wait(), None);
        }
        self.tell_turn(true);
        self.left_out_ms = 0;
        let law = self.end.law();
        let noise = Sound::Law(law, self.noise.frame(law));
        // Nobody hears what falls away either.
        let mut falling = noise;
        let epoch = self.end.epoch();
        if epoch != self.epoch {
            self.clear(epoch, &mut falling);
            self.unheard = None;
        }
        self.pay_debts();
        self.last = 0;
        if self.awaits_its_caller() {
            return (noise, None);
        }
        if let Interruption::Flushed { .. } = self.interruption {
            // It knows already what was heard of this one.
            self.is_interrupted(&mut falling);
            return (noise, None);
        }
        let heard_ms = self.drop_unheard();
        self.pay_debts();
        (noise, heard_ms)
    }

    /// What a script says waits; it is told once that it does.
    fn wait(&mut self) -> Sound {
        if self.end.epoch() != self.epoch {
            // What it was told of is no more.
            self.unheard = None;
        }
        let mut unheard = self.unheard.unwrap_or_default();
        if !unheard.told && (self.current.is_some() || self.queued_ms() > 0) {
            unheard.told = self.end.push_unheard(self.heard_ms());
        }
        self.unheard = Some(unheard);
        self.pass(true)
    }

    /// Whether nobody ever heard this agent, and what it says first waits.
    fn awaits_its_caller(&mut self) -> bool {
        if !self.end.was_heard() {
            self.queue_samples += self.drop_silence();
            self.waited = (self.queued_ms() > 0).then_some(0);
            self.end.note_heard(self.queued_ms() > FIRST_WORDS_MS_MAX);
        }
        !self.end.was_heard()
    }

    /// What waited is heard now. The silence that an agent sent behind it would be so much delay for the rest of the call: of
    /// more than ends an utterance nothing is played.
    pub(super) fn catch_up(&mut self) {
        let Some(quiet_ms) = self.waited else { return };
        let (quiet_ms, waits) = (quiet_ms + TICK_MS, self.queued_ms() > PREROLL_MS);
        self.waited = if !waits {
            None
        } else if self.is_next_audible() {
            Some(0)
        } else {
            Some(quiet_ms)
        };
        if self.waited.is_some_and(|quiet_ms| quiet_ms > UNDERRUN_MS_MAX) {
            self.drop_waited();
        }
    }

    fn drop_waited(&mut self) {
        let mut dropped = Dropped::default();
        let more =
            |playout: &mut Self| playout.queued_ms() > PREROLL_MS && !playout.is_next_audible();
        while more(self) && self.drop_next(&mut dropped) {}
        self.queue_samples += dropped.samples;
        self.finished |= dropped.finished;
    }

    fn drop_unheard(&mut self) -> Option<u64> {
        let speaks = matches!(self.state, State::Playing | State::Dry { .. });
        if self.finished || (self.unheard.is_none() && !speaks) {
            // What comes is another one.
            self.utterance_samples = 0;
        }
        self.interruption = Interruption::None;
        let heard_ms = self.heard_ms();
        let dropped = self.drop_queued();
        let mut unheard = self.unheard.unwrap_or_default();
        let is_begun = dropped.is_audible && !unheard.told;
        if dropped.is_audible {
            unheard = Unheard { told: true, quiet_ms: 0 };
        } else {
            // As good as heard: there was nothing to hear.
            self.queue_samples += dropped.samples;
            unheard.quiet_ms += TICK_MS;
        }
        if dropped.finished || unheard.quiet_ms >= UNDERRUN_MS_MAX {
            unheard = Unheard::default();
            self.utterance_samples = 0;
        }
        self.unheard = Some(unheard);
        self.state = State::Idle;
        self.finished = false;
        self.lull.forget();
        if is_begun {
            // A report that is lost is still in the record.
            self.end.push_unheard(heard_ms);
        }
        is_begun.then_some(heard_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::frame::FRAME_SAMPLES;
    use crate::audio::link::AgentEnd;
    use crate::audio::link::LinkEvent;
    use crate::audio::link::link;
    use crate::types::codec::Law;

    const LOUD: u8 = 0x10;
    const SILENT: u8 = 0xff;
    const NOTHING: [u64; 0] = [];

    struct Line {
        playout: Playout,
        agent: AgentEnd,
        told: Vec<LinkEvent>,
    }

    impl Line {
        fn new() -> Self {
            let (end, agent) = link();
            Self { playout: Playout::new(end, 1), agent, told: Vec::new() }
        }

        /// An agent of whose utterance 100 ms were heard, and 900 ms were not.
        fn speaking() -> Self {
            let mut line = Self::new();
            line.say(LOUD, 1_000);
            assert_eq!(line.ticks(5), 800);
            line
        }

        fn say(&mut self, what: u8, ms: usize) {
            assert_eq!(self.agent.push_audio(&vec![what; ms * 8]), ms * 8);
            self.look();
        }

        /// The agent's samples in so many frames.
        fn ticks(&mut self, count: usize) -> usize {
            let mut loud = 0;
            for _ in 0..count {
                let frame = self.playout.tick(false).as_law(Law::Mu);
                loud += frame.iter().filter(|byte| **byte == LOUD).count();
                self.look();
            }
            loud
        }

        /// Its task looks at the link, which takes what else it has to say.
        fn look(&mut self) {
            self.told.extend(std::iter::from_fn(|| self.agent.next()));
        }

        /// What is told of so many frames that nobody hears.
        fn nobody_hears(&mut self, count: usize) -> Vec<u64> {
            let mut told = Vec::new();
            for _ in 0..count {
                let (noise, heard_ms) = self.playout.unheard();
                assert!(!noise.as_law(Law::Mu).contains(&LOUD));
                told.extend(heard_ms);
                self.look();
            }
            told
        }

        fn events(&mut self) -> Vec<LinkEvent> {
            self.look();
            std::mem::take(&mut self.told)
        }
    }

    #[test]
    fn an_agent_knows_what_was_heard_of_each_utterance() {
        let mut line = Line::speaking();
        assert!(line.agent.push_mark(7));
        line.events();
        assert_eq!(line.nobody_hears(1), [100]);
        // The rest of it, which comes late, and another behind a pause.
        line.say(LOUD, 200);
        assert_eq!(line.nobody_hears(21), NOTHING);
        line.say(LOUD, 200);
        assert!(line.agent.push_mark(8));
        line.events();
        assert_eq!(line.nobody_hears(2), [0]);
        assert_eq!(line.agent.queued_ms(), 0);
        let told = line.events();
        let mark = |id, played_ms| LinkEvent::Mark { id, played_ms };
        assert_eq!(told, [mark(8, 0), LinkEvent::Unheard { heard_ms: 0 }]);
        // Whoever comes back hears all that is said then.
        line.say(LOUD, 300);
        assert_eq!(line.ticks(20), 2_400);
        assert_eq!(line.playout.heard_ms(), 300);
    }

    #[test]
    fn a_clear_says_how_much_was_heard_and_not_what_went_by() {
        let mut line = Line::speaking();
        line.events();
        assert_eq!(line.nobody_hears(3), [100]);
        line.say(LOUD, 200);
        assert_eq!(line.nobody_hears(3), NOTHING);
        line.agent.clear();
        assert_eq!(line.nobody_hears(1), NOTHING);
        let cleared = LinkEvent::Cleared { played_ms: 0, samples: 800 };
        assert_eq!(line.events(), [LinkEvent::Unheard { heard_ms: 100 }, cleared]);
        // Behind a clear it is another.
        line.say(LOUD, 20);
        assert_eq!(line.nobody_hears(1), [0]);
    }

    #[test]
    fn silence_is_neither_told_nor_kept_but_counts() {
        let mut line = Line::speaking();
        assert_eq!(line.ticks(45), 7_200);
        for _ in 0..50 {
            line.say(SILENT, 20);
            assert_eq!(line.nobody_hears(1), NOTHING);
        }
        line.agent.clear();
        line.nobody_hears(1);
        let cleared = LinkEvent::Cleared { played_ms: 0, samples: 8_000 + 50 * 160 };
        assert_eq!(line.events().pop(), Some(cleared));
    }

    #[test]
    fn first_words_wait_for_who_is_to_hear_them_and_silence_before_them_does_not() {
        let mut line = Line::new();
        line.say(SILENT, 100);
        assert_eq!(line.nobody_hears(100), NOTHING);
        assert_eq!(line.agent.queued_ms(), 0);
        for _ in 0..10 {
            line.say(SILENT, 20);
            assert_eq!(line.nobody_hears(1), NOTHING);
        }
        line.say(LOUD, 500);
        assert!(line.agent.push_mark(1));
        line.agent.finish();
        line.events();
        assert_eq!(line.nobody_hears(1_000), NOTHING);
        assert_eq!(line.events(), []);
        assert_eq!(line.ticks(30), 4_000, "every sample, and once");
        let mark = LinkEvent::Mark { id: 1, played_ms: 500 };
        assert_eq!(line.events(), [mark, LinkEvent::Drained]);
        // It is known now.
        line.say(LOUD, 500);
        assert_eq!(line.nobody_hears(1), [0]);
    }

    #[test]
    fn silence_behind_first_words_that_waited_is_no_delay_and_pauses_in_them_stay() {
        let mut line = Line::new();
        for (what, ms) in [(LOUD, 200), (SILENT, 300), (LOUD, 200)] {
            line.say(what, ms);
        }
        for _ in 0..400 {
            line.say(SILENT, 20);
            assert_eq!(line.nobody_hears(1), NOTHING);
        }
        // The pause is as long as it was said, and both words are whole.
        let heard: Vec<usize> = (0..35).map(|_| line.ticks(1)).collect();
        let words = [vec![FRAME_SAMPLES; 10], vec![0; 15], vec![FRAME_SAMPLES; 10]].concat();
        assert_eq!(heard, words);
        for _ in 0..100 {
            line.say(SILENT, 20);
            assert_eq!(line.ticks(1), 0);
        }
        line.say(LOUD, 100);
        let late = (0..1_000).find(|_| {
            line.say(SILENT, 20);
            line.ticks(1) > 0
        });
        assert!(late.is_some_and(|ticks| ticks <= 5), "{late:?}");
    }

    #[test]
    fn an_agent_that_never_pauses_is_not_late_for_the_rest_of_the_call() {
        let mut line = Line::new();
        let waited = (0..1_000).find(|_| {
            line.say(LOUD, 20);
            line.nobody_hears(1) == [0]
        });
        // Some more waits with its task.
        let most = FIRST_WORDS_MS_MAX as usize / 20;
        assert!(waited.is_some_and(|ticks| (most..2 * most).contains(&ticks)), "{waited:?}");
        line.nobody_hears(20);
        assert_eq!(line.agent.queued_ms(), 0);
        assert_eq!(line.ticks(1), 0);
    }

    #[test]
    fn a_script_is_told_of_each_thing_that_waits() {
        let mut line = Line::speaking();
        line.agent.wait_for_caller(true);
        assert_eq!(line.nobody_hears(5), NOTHING);
        assert!(!line.playout.is_speaking(), "nobody interrupts it");
        line.agent.clear();
        line.say(LOUD, 100);
        assert_eq!(line.nobody_hears(5), NOTHING);
        let told = line.events();
        let unheard = |event: &&LinkEvent| matches!(event, LinkEvent::Unheard { .. });
        assert_eq!(told.iter().filter(unheard).count(), 2, "{told:?}");
    }

    #[test]
    fn what_follows_a_whole_utterance_without_a_gap_is_another() {
        let mut line = Line::new();
        line.say(LOUD, 100);
        line.agent.finish();
        line.say(LOUD, 200);
        assert_eq!(line.ticks(5), 800);
        assert_eq!(line.nobody_hears(1), [0]);
    }

    #[test]
    fn an_utterance_is_told_once_though_something_is_played_meanwhile() {
        let mut line = Line::speaking();
        assert_eq!(line.nobody_hears(1), [100]);
        line.say(LOUD, 200);
        line.playout.tick(true);
        assert_eq!(line.nobody_hears(5), NOTHING);
    }

    #[test]
    fn a_script_goes_on_where_it_was() {
        let mut line = Line::speaking();
        line.agent.wait_for_caller(true);
        assert!(line.agent.push_mark(3));
        line.events();
        let (falls, heard_ms) = line.playout.unheard();
        assert_eq!((falls.as_law(Law::Mu)[100] == LOUD, heard_ms), (false, None));
        assert_eq!(line.nobody_hears(500), NOTHING);
        assert_eq!(line.events(), [LinkEvent::Unheard { heard_ms: 100 }], "once");
        assert_eq!(line.ticks(46), 900 * 8);
        assert_eq!(line.events(), [LinkEvent::Mark { id: 3, played_ms: 1_000 }]);
        // Whoever has the link then is no script.
        line.agent.wait_for_caller(false);
        line.say(LOUD, 100);
        assert_eq!(line.nobody_hears(1), [1_000]);
    }

    #[test]
    fn an_utterance_that_was_interrupted_before_is_told_no_more() {
        let mut line = Line::speaking();
        line.playout.flush();
        assert_eq!(line.nobody_hears(2), NOTHING);
        line.say(LOUD, 200);
        assert_eq!(line.nobody_hears(UNDERRUN_MS_MAX as usize / 20 + 1), NOTHING);
        line.say(LOUD, 200);
        assert_eq!(line.nobody_hears(1), [0], "another");
        // One that waits is dropped from where it was.
        let mut line = Line::speaking();
        line.playout.pause();
        assert_eq!(line.ticks(3), 0);
        assert_eq!(line.nobody_hears(1), [100]);
        assert_eq!(line.ticks(FRAME_SAMPLES / 16), 0);
    }

    #[test]
    fn each_finish_of_what_nobody_heard_is_told_and_begins_another_utterance() {
        let mut line = Line::new();
        line.say(LOUD, 400);
        assert_eq!(line.ticks(5), 800);
        for _ in 0..2 {
            line.agent.finish();
            line.look();
            line.nobody_hears(1);
            line.say(LOUD, 20);
        }
        assert_eq!(line.nobody_hears(1), [0]);
        let told = line.events();
        let drained = told.iter().filter(|it| **it == LinkEvent::Drained).count();
        assert_eq!(drained, 2, "{told:?}");
    }
}
