//! An agent that is interrupted by its caller: what it had to say waits, or is dropped.

use crate::audio::frame::SAMPLES_PER_MS;
use crate::audio::g711;
use crate::audio::link::Segment;
use crate::audio::sound::FAINT;
use crate::audio::sound::Sound;
use crate::media::pace::TICKS_MADE_UP_MAX;
use crate::media::playout::Interruption;
use crate::media::playout::MUTED_MS_MAX;
use crate::media::playout::Playout;
use crate::media::playout::State;
use crate::media::playout::TICK_MS;
use crate::media::playout::UNDERRUN_MS_MAX;
use crate::media::playout::Underrun;
use crate::types::codec::Law;

/// Frames that an agent's task has not taken when it is late: more than a media thread makes up for in one go, which
/// nobody could have taken in between.
const TASK_LATE_FRAMES: usize = TICKS_MADE_UP_MAX as usize + 2;

impl Playout {
    /// Whether an utterance is being played.
    #[must_use]
    pub fn is_speaking(&self) -> bool {
        self.state == State::Playing
            && self.interruption == Interruption::None
            && self.unheard.is_none()
    }

    /// How much of the present utterance was played, in ms.
    #[must_use]
    pub const fn heard_ms(&self) -> u64 {
        self.utterance_samples / SAMPLES_PER_MS as u64
    }

    /// Lets the agent's audio wait, from the next tick on, which it falls away in.
    pub fn pause(&mut self) {
        if self.interruption == Interruption::None {
            self.interruption = Interruption::Paused { falls: self.state == State::Playing };
        }
    }

    /// Lets it go on where it was.
    pub const fn resume(&mut self) {
        if let Interruption::Paused { .. } = self.interruption {
            self.interruption = Interruption::None;
        }
    }

    /// Drops the utterance: what is queued, and what still comes of it, until the agent clears, finishes, or
    /// sends nothing, or nothing but silence, for as long as ends an utterance; whoever never pauses is heard again after
    /// [`MUTED_MS_MAX`]. Tells the agent how much of it was heard.
    pub fn flush(&mut self) -> u64 {
        let heard_ms = self.heard_ms();
        let falls = match self.interruption {
            Interruption::None => self.state == State::Playing,
            Interruption::Paused { falls } => falls,
            Interruption::Flushed { .. } => return heard_ms,
        };
        self.interruption = Interruption::Flushed { falls, quiet_ms: 0, muted_ms: 0 };
        self.lull.forget();
        // A report that is lost is still in the record.
        self.end.push_barge_in(heard_ms);
        heard_ms
    }

    /// Tells the agent that the caller speaks over it, and how much of its utterance was heard.
    pub fn notify(&mut self) -> u64 {
        let heard_ms = self.heard_ms();
        self.end.push_barge_in(heard_ms);
        heard_ms
    }

    /// The caller speaks or presses a key: what the agent says after a pause is an answer.
    pub const fn caller_is_heard(&mut self) {
        self.lull.caller_is_heard();
        self.nobody_waits();
    }

    /// The media thread left out so many ticks: that is a gap in what is played now, and of its doing.
    pub fn left_out(&mut self, ticks: u64) {
        self.node_late = true;
        let ms = u32::try_from(ticks).unwrap_or(u32::MAX).saturating_mul(TICK_MS);
        self.left_out_ms = self.left_out_ms.saturating_add(ms);
    }

    /// The queue is dry: where the agent's task has not taken what it hears, it has not read what the agent says either.
    pub(super) fn see_lateness(&mut self) {
        self.node_late |= self.end.frames_waiting() >= TASK_LATE_FRAMES;
    }

    /// The last gap inside an utterance or a reply, once.
    pub const fn take_underrun(&mut self) -> Option<Underrun> {
        self.underrun.take()
    }

    /// Whether this tick belongs to an interruption; what was being played falls away in `frame` then.
    pub(super) fn is_interrupted(&mut self, frame: &mut Sound) -> bool {
        match self.interruption {
            Interruption::None => false,
            Interruption::Paused { falls } => {
                if falls {
                    self.fade(frame);
                }
                self.interruption = Interruption::Paused { falls: false };
                true
            }
            Interruption::Flushed { falls, quiet_ms, muted_ms } => {
                if falls {
                    self.fade(frame);
                }
                self.drop_late(quiet_ms, muted_ms + TICK_MS);
                true
            }
        }
    }

    fn drop_late(&mut self, quiet_ms: u32, muted_ms: u32) {
        let dropped = self.drop_queued();
        // Some agents say their silence.
        let quiet_ms = if dropped.is_audible { 0 } else { quiet_ms + TICK_MS };
        let is_over = dropped.finished || quiet_ms >= UNDERRUN_MS_MAX || muted_ms >= MUTED_MS_MAX;
        self.interruption = if is_over {
            self.utterance_samples = 0;
            Interruption::None
        } else {
            Interruption::Flushed { falls: false, quiet_ms, muted_ms }
        };
        self.state = State::Idle;
        self.finished = false;
        self.pay_debts();
    }
}

/// Whether what a segment, of the law of its link, has from unit `read` on can be heard.
pub(super) fn is_audible(law: Law, segment: &Segment, read: usize) -> bool {
    let rest = segment.bytes.get(read * segment.unit_bytes()..).unwrap_or_default();
    if segment.wide {
        rest.as_chunks::<2>().0.iter().any(|pair| is_loud(i16::from_le_bytes(*pair)))
    } else {
        rest.iter().any(|byte| is_loud(g711::sample(law, *byte)))
    }
}

const fn is_loud(sample: i16) -> bool {
    sample.unsigned_abs() > FAINT
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::frame::FRAME_SAMPLES;
    use crate::audio::link::AgentEnd;
    use crate::audio::link::LinkEvent;
    use crate::audio::link::link;

    const LOUD: u8 = 0x10;

    struct Line {
        playout: Playout,
        agent: AgentEnd,
    }

    impl Line {
        /// An agent whose utterance of `ms` is being played, 100 ms of it already.
        fn speaking(ms: usize) -> Self {
            let (end, agent) = link();
            let mut line = Self { playout: Playout::new(end, 1), agent };
            line.say(ms);
            assert_eq!((0..5).map(|_| line.tick()).sum::<usize>(), 5 * FRAME_SAMPLES);
            assert!(line.playout.is_speaking());
            line
        }

        fn say(&mut self, ms: usize) {
            assert_eq!(self.agent.push_audio(&vec![LOUD; ms * 8]), ms * 8);
        }

        /// The agent's samples in the next frame: noise and what falls away are other bytes.
        fn tick(&mut self) -> usize {
            self.playout.tick(false).as_law(Law::Mu).iter().filter(|byte| **byte == LOUD).count()
        }

        fn ticks(&mut self, count: usize) -> usize {
            (0..count).map(|_| self.tick()).sum()
        }

        fn events(&mut self) -> Vec<LinkEvent> {
            std::iter::from_fn(|| self.agent.next()).collect()
        }
    }

    #[test]
    fn a_flush_is_silence_in_the_next_tick_and_tells_what_was_heard() {
        let mut line = Line::speaking(1_000);
        assert!(line.agent.push_mark(7));
        line.events();
        assert_eq!(line.playout.flush(), 100);
        let frame = line.playout.tick(false).as_law(Law::Mu);
        assert!(frame[60..].iter().all(|byte| (0x7c..0x80).contains(&(byte & 0x7f))), "{frame:?}");
        assert!(!line.playout.is_speaking());
        let mut told = line.events();
        // It was on its way behind half a second of audio.
        line.tick();
        told.extend(line.events());
        let mark = LinkEvent::Mark { id: 7, played_ms: 100 };
        assert_eq!(told, [LinkEvent::BargeIn { heard_ms: 100 }, mark]);
        assert_eq!(line.agent.queued_ms(), 0);
    }

    #[test]
    fn what_still_comes_of_a_flushed_utterance_is_dropped_until_it_pauses() {
        let mut line = Line::speaking(1_000);
        line.playout.flush();
        for _ in 0..50 {
            line.say(20);
            assert_eq!(line.tick(), 0, "late");
        }
        assert_eq!(line.ticks(19), 0);
        line.say(20);
        assert_eq!(line.ticks(1), 0, "380 ms are no end of an utterance");
        assert_eq!(line.ticks(20), 0);
        line.say(100);
        assert_eq!(line.ticks(10), 800, "the next utterance is heard whole");
    }

    #[test]
    fn an_agent_that_says_its_silence_is_heard_again_after_as_much_of_it_as_ends_an_utterance() {
        for silence in [0xff, 0x7f, 0xfe] {
            let mut line = Line::speaking(1_000);
            line.playout.flush();
            for _ in 0..=UNDERRUN_MS_MAX / TICK_MS {
                assert_eq!(line.agent.push_audio(&[silence; FRAME_SAMPLES]), FRAME_SAMPLES);
                line.tick();
            }
            line.say(100);
            assert_eq!(line.ticks(10), 800, "{silence:#x}");
        }
        let mut wide = Line::speaking(1_000);
        wide.playout.flush();
        let frame = |sample: i16| sample.to_le_bytes().repeat(2 * FRAME_SAMPLES);
        for sample in [0; 5].into_iter().chain([1_000]).chain([0; 20]) {
            assert_eq!(wide.agent.push_wide(&frame(sample)), 4 * FRAME_SAMPLES);
            assert!(matches!(wide.playout.interruption, Interruption::Flushed { .. }));
            wide.tick();
        }
        assert_eq!(
            wide.playout.interruption,
            Interruption::None,
            "it was quiet since it was heard"
        );
    }

    #[test]
    fn an_agent_that_never_pauses_is_heard_again_after_a_time() {
        let mut line = Line::speaking(1_000);
        line.playout.flush();
        for _ in 0..MUTED_MS_MAX / TICK_MS {
            line.say(20);
            assert_eq!(line.tick(), 0);
        }
        line.say(1_000);
        assert_eq!(line.ticks(50), 8_000);
        assert!(line.playout.is_speaking());
        assert_eq!(line.playout.flush(), 1_000, "it can be interrupted again");
        assert_eq!(line.ticks(5), 0);
    }

    #[test]
    fn each_finish_that_is_dropped_is_told() {
        for mutes in [false, true] {
            let mut line = Line::speaking(1_000);
            for _ in 0..2 {
                line.say(20);
                line.agent.finish();
            }
            if mutes {
                line.playout.unheard();
            } else {
                line.playout.flush();
                line.tick();
            }
            let drained = line.events().iter().filter(|it| **it == LinkEvent::Drained).count();
            assert_eq!(drained, 2, "{mutes}");
        }
    }

    #[test]
    fn an_agent_that_clears_or_finishes_is_heard_again_at_once() {
        let mut line = Line::speaking(1_000);
        line.playout.flush();
        line.tick();
        line.agent.clear();
        line.say(100);
        assert_eq!(line.ticks(10), 800);
        let mut line = Line::speaking(1_000);
        line.playout.flush();
        line.say(200);
        line.agent.finish();
        assert_eq!(line.tick(), 0);
        line.say(100);
        assert_eq!(line.ticks(10), 800);
        assert!(line.events().contains(&LinkEvent::Drained));
    }

    #[test]
    fn a_paused_utterance_goes_on_where_it_was_and_loses_nothing() {
        let mut line = Line::speaking(400);
        line.playout.pause();
        assert_eq!(line.ticks(20), 0);
        assert_eq!(line.agent.queued_ms(), 300);
        assert_eq!(line.events(), []);
        line.playout.resume();
        assert_eq!(line.ticks(15), 15 * FRAME_SAMPLES);
        assert_eq!(line.playout.played_samples(), 3_200);
        assert_eq!(line.playout.underruns(), 0);
    }

    #[test]
    fn a_paused_utterance_that_is_flushed_was_heard_as_far_as_its_pause() {
        let mut line = Line::speaking(400);
        line.playout.pause();
        line.ticks(10);
        assert_eq!(line.playout.flush(), 100);
        let frame = line.playout.tick(false).as_law(Law::Mu);
        assert!(
            frame.iter().all(|byte| (0x7c..0x80).contains(&(byte & 0x7f))),
            "it fell away before"
        );
        assert_eq!(line.playout.flush(), 100, "once");
        assert_eq!(line.events(), [LinkEvent::BargeIn { heard_ms: 100 }]);
    }

    #[test]
    fn a_gap_is_blamed_on_the_node_only_where_that_left_out_ticks() {
        let mut line = Line::speaking(100);
        for late in [false, true] {
            line.ticks(2);
            if late {
                line.playout.left_out(2);
            }
            line.say(100);
            line.ticks(5);
            let underrun = line.playout.take_underrun().expect("a gap");
            assert_eq!(underrun.node_late, late);
            assert_eq!(underrun.ms, if late { 80 } else { 40 });
            assert_eq!(line.playout.take_underrun(), None);
        }
    }

    #[test]
    fn ticks_that_are_left_out_of_what_an_agent_says_are_a_gap() {
        let mut line = Line::speaking(1_000);
        for (ticks, ms) in [(4, 80), (30, 600)] {
            line.playout.left_out(ticks);
            assert_eq!(line.tick(), FRAME_SAMPLES, "it goes on where it was");
            assert_eq!(line.playout.take_underrun(), Some(Underrun { ms, node_late: true }));
            assert_eq!(line.ticks(10), 10 * FRAME_SAMPLES);
        }
        let told = line.events();
        assert_eq!(told, [80, 600].map(|ms| LinkEvent::Underrun { ms }));
        // It had nothing more to say just then: the gap is one.
        assert_eq!(line.ticks(1_000 / 20 - 5 - 22), 23 * FRAME_SAMPLES);
        line.playout.left_out(3);
        assert_eq!(line.ticks(2), 0);
        line.say(1_000);
        assert_eq!(line.ticks(1), FRAME_SAMPLES);
        assert_eq!(line.events(), [LinkEvent::Underrun { ms: 100 }]);
        // Nobody heard it then, or would have.
        line.playout.pause();
        line.playout.left_out(4);
        line.tick();
        line.playout.resume();
        line.playout.left_out(4);
        line.playout.tick(true);
        assert_eq!(line.tick(), FRAME_SAMPLES);
        line.playout.left_out(4);
        line.playout.unheard();
        line.ticks(10);
        let told = LinkEvent::Unheard { heard_ms: 1_040 };
        assert_eq!((line.playout.underruns(), line.events()), (3, vec![told]));
    }

    #[test]
    fn a_gap_is_blamed_on_the_node_where_the_agents_task_did_not_come_to_read() {
        for (unread, late) in [(1, false), (TASK_LATE_FRAMES - 1, false), (TASK_LATE_FRAMES, true)]
        {
            let mut line = Line::speaking(100);
            for _ in 0..unread {
                assert!(line.playout.end().push_frame(&[LOUD; FRAME_SAMPLES]));
            }
            line.ticks(2);
            // It comes, reads what it hears and brings what the agent said meanwhile.
            assert_eq!(line.events().len(), unread);
            line.say(100);
            line.ticks(5);
            let underrun = line.playout.take_underrun().expect("a gap");
            assert_eq!(underrun.node_late, late, "{unread}");
            // Another gap is judged for itself.
            line.ticks(2);
            line.say(100);
            line.ticks(5);
            assert!(!line.playout.take_underrun().expect("another").node_late, "{unread}");
        }
    }
}
