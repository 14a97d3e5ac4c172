//! `Listener`: hears the caller beside its agent. It decides when the caller interrupts the agent, and
//! measures how long an answer takes.

#![warn(clippy::wildcard_enum_match_arm)]

use crate::audio::frame::Pcm;
use crate::audio::voice_models::VoiceModels;
use crate::media::speech::Speech;
use crate::media::speech::SpeechChange;
use crate::types::barge_in::BargeIn;
use crate::types::barge_in::BargeInMode;
use crate::types::talk::Turn;

/// What is to become of what the agent says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on.
    GoOn,
    /// The agent is to be told that the caller speaks over it; it goes on.
    Notify,
    /// It waits.
    Pause,
    /// It was a false alarm: it goes on where it was.
    Resume,
    /// It is dropped, and the agent told.
    Flush,
}

/// What the agent does in a tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AgentDoes {
    /// Audio of it waits or is played.
    pub queued: bool,
    /// Its audio is played.
    pub speaks: bool,
}

/// Hears the caller beside its agent.
#[derive(Debug)]
pub struct Listener {
    policy: BargeIn,
    speech: Speech,
    alarm: Alarm,
    answer: Answer,
    did: AgentDoes,
    /// The agent began to speak then.
    spoken_ms: u64,
    /// Its audio began to come then.
    first_byte_ms: u64,
}

/// Whether the agent is interrupted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Alarm {
    None,
    /// It waits: this may be speech.
    Paused,
    /// It was interrupted by what the caller still says.
    Done,
}

/// Whether the caller waits for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    NotWanted,
    /// Since then.
    Wanted {
        stopped_ms: u64,
    },
}

impl Listener {
    /// One that heard nothing yet.
    #[must_use]
    pub fn new(policy: BargeIn) -> Self {
        let least_ms = u64::try_from(policy.least.as_millis()).unwrap_or(u64::MAX);
        Self {
            policy,
            speech: Speech::new(least_ms),
            alarm: Alarm::None,
            answer: Answer::NotWanted,
            did: AgentDoes { queued: false, speaks: false },
            spoken_ms: 0,
            first_byte_ms: 0,
        }
    }

    /// Gives the model that knows voices [back](crate::audio::vad::Vad::give_back_model).
    pub fn give_back_model(&mut self, models: &mut VoiceModels) {
        self.speech.give_back_model(models);
    }

    /// The same before a time in which [nothing is heard](crate::audio::vad::Vad::stop_hearing).
    pub fn stop_hearing(&mut self, models: &mut VoiceModels) {
        self.speech.stop_hearing(models);
    }

    /// Whether the caller speaks.
    #[must_use]
    pub const fn caller_speaks(&self) -> bool {
        self.speech.since_ms().is_some()
    }

    /// Takes the 20 ms that end at `now_ms`: what was heard of the caller, what was played to it, and what the
    /// agent does. `models` has the one that knows voices.
    pub fn hear(
        &mut self,
        now_ms: u64,
        sound: (&Pcm, &Pcm),
        agent: AgentDoes,
        models: &mut VoiceModels,
    ) -> (Verdict, Option<Turn>) {
        if agent.queued && !self.did.queued {
            self.first_byte_ms = now_ms;
        }
        if agent.speaks && !self.did.speaks {
            self.spoken_ms = now_ms;
        }
        self.did = agent;
        let change = self.speech.push(now_ms, sound, models);
        let verdict = self.judge(now_ms, change, agent);
        (verdict, self.time(now_ms, change, agent))
    }

    fn judge(&mut self, now_ms: u64, change: SpeechChange, agent: AgentDoes) -> Verdict {
        let (alarm, verdict) = match self.alarm {
            Alarm::None => self.unalarmed(now_ms, agent),
            Alarm::Paused => self.paused(now_ms, change),
            Alarm::Done if change == SpeechChange::Ended => (Alarm::None, Verdict::GoOn),
            Alarm::Done => (Alarm::Done, Verdict::GoOn),
        };
        self.alarm = alarm;
        verdict
    }

    fn unalarmed(&self, now_ms: u64, agent: AgentDoes) -> (Alarm, Verdict) {
        let Some(since_ms) = self.speech.since_ms().filter(|_| agent.speaks) else {
            return (Alarm::None, Verdict::GoOn);
        };
        match self.policy.mode {
            BargeInMode::Off => (Alarm::Done, Verdict::GoOn),
            BargeInMode::Notify => (Alarm::Done, Verdict::Notify),
            BargeInMode::Flush => (Alarm::Done, Verdict::Flush),
            BargeInMode::Pause if self.is_confirmed(now_ms, since_ms) => {
                (Alarm::Done, Verdict::Flush)
            }
            BargeInMode::Pause => (Alarm::Paused, Verdict::Pause),
        }
    }

    fn paused(&self, now_ms: u64, change: SpeechChange) -> (Alarm, Verdict) {
        match (change, self.speech.since_ms()) {
            (SpeechChange::Ended, _) | (_, None) => (Alarm::None, Verdict::Resume),
            (_, Some(since_ms)) if self.is_confirmed(now_ms, since_ms) => {
                (Alarm::Done, Verdict::Flush)
            }
            (_, Some(_)) => (Alarm::Paused, Verdict::GoOn),
        }
    }

    fn is_confirmed(&self, now_ms: u64, since_ms: u64) -> bool {
        u128::from(self.speech.lasted_ms(now_ms, since_ms)) >= self.policy.confirm.as_millis()
    }

    fn time(&mut self, now_ms: u64, change: SpeechChange, agent: AgentDoes) -> Option<Turn> {
        match change {
            SpeechChange::Began => self.answer = Answer::NotWanted,
            SpeechChange::Ended => {
                self.answer = Answer::Wanted { stopped_ms: Speech::ended_ms(now_ms) };
            }
            SpeechChange::None => (),
        }
        let Answer::Wanted { stopped_ms } = self.answer else { return None };
        if !agent.speaks {
            return None;
        }
        self.answer = Answer::NotWanted;
        // What the agent said before the caller stopped was no answer.
        (self.spoken_ms >= stopped_ms).then(|| Turn {
            stopped_ms: short(stopped_ms),
            first_byte_ms: short(self.first_byte_ms.clamp(stopped_ms, self.spoken_ms)),
            spoken_ms: short(self.spoken_ms),
        })
    }
}

/// Milliseconds of a session; none lasts 49 days.
fn short(ms: u64) -> u32 {
    u32::try_from(ms).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::frame::FRAME_SAMPLES;
    use crate::audio::voice::Voice;
    use std::time::Duration;

    const SILENT: Pcm = [0; FRAME_SAMPLES];
    const SPEAKS: AgentDoes = AgentDoes { queued: true, speaks: true };
    const WAITS: AgentDoes = AgentDoes { queued: false, speaks: false };

    struct Lab {
        listener: Listener,
        models: VoiceModels,
        voice: Voice,
        now_ms: u64,
        turns: Vec<Turn>,
    }

    impl Lab {
        fn new(mode: BargeInMode) -> Self {
            let policy = BargeIn {
                mode,
                least: Duration::from_millis(80),
                confirm: Duration::from_millis(300),
            };
            let listener = Listener::new(policy);
            let models = VoiceModels::with_room_for(1);
            let (voice, turns) = (Voice::new(), Vec::new());
            let mut lab = Self { listener, models, voice, now_ms: 0, turns };
            assert_eq!(lab.quiet(25, SPEAKS), []);
            lab
        }

        fn hear(&mut self, frame: &Pcm, agent: AgentDoes) -> Option<(u64, Verdict)> {
            self.now_ms += 20;
            let sound = (frame, &SILENT);
            let (verdict, turn) = self.listener.hear(self.now_ms, sound, agent, &mut self.models);
            self.turns.extend(turn);
            (verdict != Verdict::GoOn).then_some((self.now_ms, verdict))
        }

        fn quiet(&mut self, frames: usize, agent: AgentDoes) -> Vec<(u64, Verdict)> {
            (0..frames).filter_map(|_| self.hear(&SILENT, agent)).collect()
        }

        /// The caller speaks for so many frames while the agent does this.
        fn speak(&mut self, frames: usize, agent: AgentDoes) -> Vec<(u64, Verdict)> {
            let said: Vec<_> = (0..frames).map(|_| self.voice.frame()).collect();
            said.iter().filter_map(|frame| self.hear(frame, agent)).collect()
        }
    }

    #[test]
    fn who_speaks_over_the_agent_interrupts_it_once_as_the_profile_says() {
        for (mode, expected) in [
            (BargeInMode::Off, None),
            (BargeInMode::Notify, Some(Verdict::Notify)),
            (BargeInMode::Flush, Some(Verdict::Flush)),
        ] {
            let mut lab = Lab::new(mode);
            let verdicts = lab.speak(50, SPEAKS);
            assert_eq!(
                verdicts.iter().map(|it| it.1).collect::<Vec<_>>(),
                Vec::from_iter(expected)
            );
            // It began at 500.
            assert!(verdicts.iter().all(|(at_ms, _)| *at_ms <= 640), "{verdicts:?}");
            assert_eq!(lab.quiet(25, SPEAKS), []);
            let again = lab.speak(50, SPEAKS);
            assert_eq!(again.len(), usize::from(expected.is_some()), "the next time too");
        }
    }

    #[test]
    fn nobody_interrupts_an_agent_that_is_silent() {
        for mode in BargeInMode::ALL {
            let mut lab = Lab::new(mode);
            assert_eq!(lab.speak(50, WAITS), [], "{mode:?}");
        }
    }

    #[test]
    fn an_agent_that_begins_while_the_caller_speaks_is_interrupted_too() {
        let mut lab = Lab::new(BargeInMode::Flush);
        assert_eq!(lab.speak(25, WAITS), []);
        assert_eq!(lab.speak(5, SPEAKS).len(), 1);
    }

    #[test]
    fn a_false_alarm_lets_a_paused_agent_go_on_and_speech_drops_what_it_said() {
        let mut lab = Lab::new(BargeInMode::Pause);
        let verdicts = [lab.speak(6, SPEAKS), lab.quiet(25, WAITS)].concat();
        let said: Vec<_> = verdicts.iter().map(|it| it.1).collect();
        assert_eq!(said, [Verdict::Pause, Verdict::Resume], "{verdicts:?}");
        let mut lab = Lab::new(BargeInMode::Pause);
        let verdicts = [lab.speak(6, SPEAKS), lab.speak(30, WAITS), lab.quiet(25, WAITS)].concat();
        let [(paused, Verdict::Pause), (flushed, Verdict::Flush)] = verdicts[..] else {
            panic!("{verdicts:?}")
        };
        assert!(paused <= 640 && (800..=860).contains(&flushed), "{verdicts:?}");
    }

    #[test]
    fn a_turn_runs_from_the_end_of_speech_to_the_answer_on_the_wire() {
        let mut lab = Lab::new(BargeInMode::Off);
        lab.quiet(25, WAITS);
        lab.speak(50, WAITS);
        lab.quiet(30, WAITS);
        lab.quiet(4, AgentDoes { queued: true, speaks: false });
        lab.quiet(20, SPEAKS);
        let [turn] = lab.turns[..] else { panic!("{:?}", lab.turns) };
        assert!((1_940..=2_040).contains(&turn.stopped_ms), "it stopped at 2000: {turn:?}");
        assert_eq!((turn.first_byte_ms, turn.spoken_ms), (2_620, 2_700));
    }

    #[test]
    fn an_answer_within_the_detectors_own_patience_counts_from_its_begin() {
        let mut lab = Lab::new(BargeInMode::Off);
        lab.quiet(25, WAITS);
        lab.speak(50, WAITS);
        lab.quiet(5, WAITS);
        lab.quiet(20, SPEAKS);
        let [turn] = lab.turns[..] else { panic!("{:?}", lab.turns) };
        assert_eq!((turn.first_byte_ms, turn.spoken_ms), (2_120, 2_120), "{turn:?}");
    }

    #[test]
    fn what_the_agent_goes_on_to_say_is_no_answer() {
        let mut lab = Lab::new(BargeInMode::Off);
        lab.speak(50, SPEAKS);
        lab.quiet(30, SPEAKS);
        assert_eq!(lab.turns, []);
        lab.quiet(5, WAITS);
        lab.quiet(5, SPEAKS);
        assert_eq!(lab.turns, [], "nor is what it says much later of itself");
    }
}
