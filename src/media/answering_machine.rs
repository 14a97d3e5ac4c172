//! `AnsweringMachineDetector`: tells by the rhythm of what is said first whether a person or a machine answered,
//! and hears the beep after which a machine records.
//!
//! A person says a word or two and waits for an answer. A machine says sentences, and then beeps.

#![warn(clippy::wildcard_enum_match_arm)]

use crate::audio::frame::FRAME_SAMPLES;
use crate::audio::frame::Pcm;
use crate::audio::tonality::Tonality;
use crate::audio::vad::Vad;
use crate::audio::voice_models::VoiceModels;
use crate::types::answering_machine::Answerer;
use crate::types::answering_machine::AnswererEvent;

/// Length of a tick, in ms.
const TICK_MS: u32 = 20;

/// A pause of this length ends what is said first: between sentences of a greeting there is less.
const PAUSE_MS: u32 = 700;

/// A person has stopped for good after so long, and waits.
const WAITS_MS: u32 = 1_400;

/// Nobody beeps after so long a silence: it was a person who said more.
const GIVES_WAY_MS: u32 = 2_500;

/// What is said without a pause for less than this may be a person's word of greeting.
const WORD_MAX_MS: u32 = 1_500;

/// What is said without a pause for so long is said by a machine, for now.
const SENTENCE_MS: u32 = 2_200;

/// What is said without a pause for so long is said by a machine, for good.
const SPEECH_MS: u32 = 3_200;

/// In all, with shorter silences than that.
const TALK_MS: u32 = 4_500;

/// Nobody said a word for so long.
const SILENCE_MS: u32 = 5_000;

/// A machine's greeting is over after so much silence though it did not beep.
const GREETING_PAUSE_MS: u32 = 2_000;

/// So long the beep of a machine is waited for.
const LISTEN_MAX_MS: u32 = 60_000;

/// Frames of one frequency that make a beep: found 60 ms after it began, or 80 when it began within a frame.
const BEEP_FRAMES: u8 = 3;

/// The frequencies of beeps, in Hz. Below are ringing, busy and the voice; the tones of facsimile are apart.
const BEEP_HZ: std::ops::RangeInclusive<u16> = 550..=2_500;

/// Mean square of a beep at least: about -35 dBm0.
const BEEP_POWER: f32 = 82_000.0;

/// ITU-T T.30: the tone with which a facsimile machine answers, and a modem (V.25).
const FAX_HZ: u16 = 2_100;

/// Frames of a facsimile tone that make it one: no beep is as long.
const FAX_FRAMES: u8 = 45;

/// Most that is told of 20 ms.
pub const TOLD_AT_ONCE_MAX: usize = 3;

/// Who answers, and when one may speak to it.
pub struct AnsweringMachineDetector {
    vad: Vad,
    tonality: Tonality,
    now_ms: u32,
    state: State,
    tone: Tone,
    /// Of all that was said, in ms.
    voice_ms: u32,
    /// What is said without a pause, in ms, and the silence after it.
    run_ms: u32,
    silent_ms: u32,
    told: Option<(Answerer, u8)>,
    /// A verdict that is final was told.
    settled: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nobody said anything.
    Waiting,
    /// Somebody speaks, or has spoken, and it is open who.
    Judging,
    /// A machine speaks; nothing has ended its greeting.
    Greeting,
    /// All is said.
    Done,
}

/// A tone that goes on.
#[derive(Clone, Copy, Debug, Default)]
struct Tone {
    hz: u16,
    frames: u8,
}

impl std::fmt::Debug for AnsweringMachineDetector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AnsweringMachineDetector")
            .field("state", &self.state)
            .field("now_ms", &self.now_ms)
            .finish_non_exhaustive()
    }
}

impl Default for AnsweringMachineDetector {
    fn default() -> Self {
        Self::new()
    }
}

impl AnsweringMachineDetector {
    /// One that begins with the answer: what came before it, early media, must not reach it.
    #[must_use]
    pub fn new() -> Self {
        Self {
            vad: Vad::new(),
            tonality: Tonality::default(),
            now_ms: 0,
            state: State::Waiting,
            tone: Tone::default(),
            voice_ms: 0,
            run_ms: 0,
            silent_ms: 0,
            told: None,
            settled: false,
        }
    }

    /// Nothing will be found any more.
    #[must_use]
    pub const fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }

    /// Gives the model that knows voices [back](Vad::give_back_model).
    pub fn give_back_model(&mut self, models: &mut VoiceModels) {
        self.vad.give_back_model(models);
    }

    /// Takes the next 20 ms after the answer, and tells what they bring, [little](TOLD_AT_ONCE_MAX) at once. `models` has
    /// the one that knows voices, and has it back when [all is found](Self::is_done).
    pub fn push(
        &mut self,
        heard: &Pcm,
        models: &mut VoiceModels,
        mut tell: impl FnMut(AnswererEvent),
    ) {
        if self.state == State::Done {
            return;
        }
        self.now_ms = self.now_ms.saturating_add(TICK_MS);
        self.time(heard, models);
        let beep = self.tone(heard);
        let was = self.state;
        self.state = match (was, beep) {
            (State::Done, _) => State::Done,
            (State::Waiting | State::Judging | State::Greeting, Some(Beep::Fax)) => {
                self.seems(Answerer::Fax, 95, true, &mut tell);
                State::Done
            }
            (State::Waiting | State::Judging | State::Greeting, Some(Beep::Machine(hz))) => {
                self.seems(Answerer::Machine, 99, true, &mut tell);
                let at_ms = self.now_ms;
                tell(AnswererEvent::Beep { at_ms, hz });
                tell(AnswererEvent::GreetingOver { at_ms, beeped: true });
                State::Done
            }
            (State::Waiting, None) => self.waiting(&mut tell),
            (State::Judging, None) => self.judging(&mut tell),
            (State::Greeting, None) => self.greeting(&mut tell),
        };
        if self.is_done() {
            self.give_back_model(models);
        }
    }

    /// Counts what is said and what is silent.
    fn time(&mut self, heard: &Pcm, models: &mut VoiceModels) {
        if !self.vad.push(heard, models) {
            self.silent_ms = self.silent_ms.saturating_add(TICK_MS);
            if self.silent_ms >= PAUSE_MS {
                self.run_ms = 0;
            }
            return;
        }
        // The silence that speech ends in is none of it.
        if self.vad.is_uttered() {
            let gap_ms = if self.run_ms > 0 { self.silent_ms } else { 0 };
            self.run_ms = self.run_ms.saturating_add(TICK_MS + gap_ms);
            self.voice_ms = self.voice_ms.saturating_add(TICK_MS);
            self.silent_ms = 0;
        } else {
            self.silent_ms = self.silent_ms.saturating_add(TICK_MS);
        }
    }

    fn waiting(&mut self, tell: &mut impl FnMut(AnswererEvent)) -> State {
        if self.voice_ms > 0 {
            return self.judging(tell);
        }
        if self.now_ms >= SILENCE_MS {
            // A machine may still speak, or beep.
            self.seems(Answerer::Silence, 80, false, tell);
        }
        if self.now_ms >= LISTEN_MAX_MS { State::Done } else { State::Waiting }
    }

    fn judging(&mut self, tell: &mut impl FnMut(AnswererEvent)) -> State {
        if self.run_ms >= SPEECH_MS || self.voice_ms >= TALK_MS {
            self.seems(Answerer::Machine, 90, true, tell);
            return State::Greeting;
        }
        if self.silent_ms >= WAITS_MS && self.voice_ms < WORD_MAX_MS {
            self.seems(Answerer::Human, 95, true, tell);
            return State::Done;
        }
        if self.silent_ms >= GIVES_WAY_MS {
            self.seems(Answerer::Human, 80, true, tell);
            return State::Done;
        }
        if self.silent_ms >= WAITS_MS {
            // Whoever says a sentence and waits is a person at work, or a machine about to beep.
            self.seems(Answerer::Human, 65, false, tell);
        } else if self.run_ms >= SENTENCE_MS {
            self.seems(Answerer::Machine, 70, false, tell);
        } else if self.silent_ms >= PAUSE_MS && self.voice_ms < WORD_MAX_MS {
            self.seems(Answerer::Human, 75, false, tell);
        }
        State::Judging
    }

    fn greeting(&mut self, tell: &mut impl FnMut(AnswererEvent)) -> State {
        if self.silent_ms == GREETING_PAUSE_MS {
            tell(AnswererEvent::GreetingOver { at_ms: self.now_ms, beeped: false });
        }
        if self.now_ms >= LISTEN_MAX_MS { State::Done } else { State::Greeting }
    }

    /// Tells a verdict, once, and another only when it is another or surer, and none after a final one.
    fn seems(
        &mut self,
        answerer: Answerer,
        percent: u8,
        is_final: bool,
        tell: &mut impl FnMut(AnswererEvent),
    ) {
        if self.settled || self.told.is_some_and(|told| told == (answerer, percent)) {
            return;
        }
        self.told = Some((answerer, percent));
        self.settled = is_final;
        tell(AnswererEvent::Seems { at_ms: self.now_ms, answerer, percent, is_final });
    }

    fn single_hz(&mut self, heard: &Pcm) -> Option<u16> {
        if power(heard) < BEEP_POWER {
            self.tonality.forget();
            return None;
        }
        self.tonality.push(heard).then(|| self.tonality.single_hz()).flatten()
    }

    /// Follows a tone of one frequency; says what it is, once.
    fn tone(&mut self, heard: &Pcm) -> Option<Beep> {
        let Some(hz) = self.single_hz(heard) else {
            let ended = std::mem::take(&mut self.tone);
            return ended.is_fax_like().then(|| ended.as_beep()).flatten();
        };
        let goes_on = self.tone.frames > 0 && hz.abs_diff(self.tone.hz) <= 25;
        let frames = if goes_on { self.tone.frames.saturating_add(1) } else { 1 };
        self.tone = Tone { hz, frames };
        if self.tone.is_fax_like() {
            // The tone of a facsimile machine is told from a beep by its length.
            return (frames == FAX_FRAMES).then_some(Beep::Fax);
        }
        (frames == BEEP_FRAMES).then(|| self.tone.as_beep()).flatten()
    }
}

/// What a tone means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Beep {
    Machine(u16),
    Fax,
}

impl Tone {
    fn is_fax_like(self) -> bool {
        self.frames > 0 && FAX_HZ.abs_diff(self.hz) <= 25
    }

    fn as_beep(self) -> Option<Beep> {
        let long = (BEEP_FRAMES..FAX_FRAMES).contains(&self.frames);
        (long && BEEP_HZ.contains(&self.hz)).then_some(Beep::Machine(self.hz))
    }
}

/// Mean square of a frame.
fn power(frame: &Pcm) -> f32 {
    let sum: i64 = frame.iter().map(|sample| i64::from(*sample).pow(2)).sum();
    sum as f32 / FRAME_SAMPLES as f32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::tone::Tone as Sine;
    use crate::audio::voice::Voice;
    use crate::types::random::Random;

    /// What was told while somebody said this: numbers of ms, of voice and of silence in turn, voice first.
    struct Answer {
        detector: AnsweringMachineDetector,
        models: VoiceModels,
        voice: Voice,
        told: Vec<AnswererEvent>,
    }

    impl Answer {
        fn new() -> Self {
            let detector = AnsweringMachineDetector::new();
            let models = VoiceModels::with_room_for(1);
            Self { detector, models, voice: Voice::new(), told: Vec::new() }
        }

        fn hear(&mut self, frame: &Pcm) {
            let before = self.told.len();
            self.detector.push(frame, &mut self.models, |event| self.told.push(event));
            assert!(self.told.len() - before <= TOLD_AT_ONCE_MAX, "{:?}", self.told);
        }

        fn quiet(mut self, ms: u32) -> Self {
            for _ in 0..ms / TICK_MS {
                self.hear(&[0; FRAME_SAMPLES]);
            }
            self
        }

        fn say(mut self, ms: u32) -> Self {
            for _ in 0..ms / TICK_MS {
                let frame = self.voice.frame();
                self.hear(&frame);
            }
            self
        }

        /// Sentences with the pauses that are within a greeting.
        fn greet(mut self) -> Self {
            for _ in 0..4 {
                self = self.say(1_300).quiet(400);
            }
            self
        }

        fn beep(mut self, hz: u16, ms: u32) -> Self {
            let mut sine = Sine::new(hz, 6_000);
            for _ in 0..ms / TICK_MS {
                let frame = sine.frame();
                self.hear(&frame);
            }
            self
        }

        fn now_ms(&self) -> u32 {
            self.detector.now_ms
        }

        /// The last verdict.
        fn verdict(&self) -> Option<(Answerer, bool)> {
            let verdicts = self.told.iter().filter_map(|event| match event {
                AnswererEvent::Seems { answerer, is_final, .. } => Some((*answerer, *is_final)),
                AnswererEvent::Beep { .. } | AnswererEvent::GreetingOver { .. } => None,
            });
            verdicts.fold(None, |_, verdict| Some(verdict))
        }

        fn beeps(&self) -> Vec<(u32, u16)> {
            let beeps = self.told.iter().filter_map(|event| match event {
                AnswererEvent::Beep { at_ms, hz } => Some((*at_ms, *hz)),
                AnswererEvent::Seems { .. } | AnswererEvent::GreetingOver { .. } => None,
            });
            beeps.collect()
        }
    }

    #[test]
    fn a_word_and_a_pause_is_a_person() {
        for (before_ms, word_ms) in [(100, 300), (600, 500), (1_500, 1_200)] {
            let answer = Answer::new().quiet(before_ms).say(word_ms).quiet(900);
            assert_eq!(answer.verdict(), Some((Answerer::Human, false)), "{word_ms}");
            let answer = answer.quiet(1_000);
            assert_eq!(answer.verdict(), Some((Answerer::Human, true)), "{word_ms}");
            let told = answer.told.len();
            let answer = answer.greet().beep(1_000, 400).quiet(3_000);
            assert_eq!(answer.told.len(), told, "what is said later is talk");
        }
    }

    #[test]
    fn sentences_are_a_machine_whose_beep_ends_its_greeting() {
        let answer = Answer::new().quiet(500).greet();
        assert_eq!(answer.verdict(), Some((Answerer::Machine, true)));
        assert_eq!(answer.beeps(), []);
        let answer = answer.quiet(300);
        let began_ms = answer.now_ms();
        let answer = answer.beep(1_400, 400);
        let [(at_ms, 1_400)] = answer.beeps()[..] else { panic!("{:?}", answer.told) };
        assert!(at_ms - began_ms <= 80, "{}", at_ms - began_ms);
        let is_final =
            |event: &&AnswererEvent| matches!(event, AnswererEvent::Seems { is_final: true, .. });
        assert_eq!(answer.told.iter().filter(is_final).count(), 1, "{:?}", answer.told);
        let over = AnswererEvent::GreetingOver { at_ms, beeped: true };
        assert_eq!(answer.told.last(), Some(&over));
        assert!(answer.detector.is_done());
        assert_eq!((answer.models.made(), answer.models.lent()), (1, 0), "it needs no model");
    }

    #[test]
    fn a_greeting_that_ends_without_a_beep_is_over_after_two_seconds() {
        let answer = Answer::new().quiet(500).greet();
        let ended_ms = answer.now_ms() - 400;
        let answer = answer.quiet(5_000);
        let Some(&AnswererEvent::GreetingOver { at_ms, beeped: false }) = answer.told.last() else {
            panic!("{:?}", answer.told)
        };
        assert!((1_900..=2_200).contains(&(at_ms - ended_ms)), "{at_ms} for {ended_ms}");
        // It beeps late, and that is told too.
        assert_eq!(answer.beep(1_000, 300).beeps().len(), 1);
    }

    #[test]
    fn a_beep_makes_a_machine_of_who_seemed_a_person() {
        let answer = Answer::new().quiet(300).say(1_800).quiet(1_600);
        assert_eq!(answer.verdict(), Some((Answerer::Human, false)));
        let answer = answer.beep(850, 250);
        assert_eq!(answer.verdict(), Some((Answerer::Machine, true)));
    }

    #[test]
    fn neither_tones_of_the_network_nor_keys_nor_noise_are_beeps() {
        for hz in [400, 425, 440, 480] {
            let answer = Answer::new().beep(hz, 1_000).quiet(4_000).beep(hz, 1_000);
            assert_eq!(answer.beeps(), [], "{hz}");
        }
        let mut answer = Answer::new();
        let (mut low, mut high) = (Sine::new(770, 5_000), Sine::new(1_336, 5_000));
        for _ in 0..20 {
            let mut frame = low.frame();
            frame.iter_mut().zip(high.frame()).for_each(|(sample, more)| *sample += more);
            answer.hear(&frame);
        }
        assert_eq!(answer.beeps(), []);
        let mut random = Random::from_seed(9);
        let mut answer = Answer::new();
        for _ in 0..1_000 {
            let mut frame = [0; FRAME_SAMPLES];
            frame.fill_with(|| random.below(3_000) as i16 - 1_500);
            answer.hear(&frame);
        }
        assert_eq!(answer.beeps(), []);
        // Somebody whistles far away.
        let mut faint = Sine::new(1_000, 200);
        let mut answer = Answer::new();
        (0..50).for_each(|_| answer.hear(&faint.frame()));
        assert_eq!(answer.beeps(), []);
    }

    #[test]
    fn what_may_be_a_consonant_counts_as_said() {
        let mut answer = Answer::new().quiet(300).say(700);
        let mut random = Random::from_seed(10);
        let before_ms = answer.detector.voice_ms;
        for _ in 0..10 {
            for _ in 0..2 {
                let mut frame = [0; FRAME_SAMPLES];
                frame.fill_with(|| random.below(16_000) as i16 - 8_000);
                answer.hear(&frame);
            }
            answer = answer.say(80);
        }
        let said_ms = answer.detector.voice_ms - before_ms;
        assert!((1_140..=1_200).contains(&said_ms), "{said_ms} of 1200");
    }

    #[test]
    fn a_facsimile_machine_is_known_by_the_length_of_its_tone() {
        let answer = Answer::new().quiet(700).beep(2_100, 880);
        assert_eq!(answer.told, []);
        let answer = answer.beep(2_100, 1_000);
        assert_eq!(answer.verdict(), Some((Answerer::Fax, true)));
        let answer = Answer::new().quiet(500).greet().beep(2_100, 400).quiet(100);
        assert_eq!(answer.beeps().len(), 1, "a machine may beep so high: {:?}", answer.told);
    }

    #[test]
    fn who_says_nothing_is_silence_until_it_speaks() {
        let answer = Answer::new().quiet(4_900);
        assert_eq!(answer.told, []);
        let answer = answer.quiet(200);
        assert_eq!(answer.verdict(), Some((Answerer::Silence, false)));
        let answer = answer.say(500).quiet(2_000);
        assert_eq!(answer.verdict(), Some((Answerer::Human, true)));
        let answer = Answer::new().quiet(70_000);
        assert!(answer.detector.is_done());
        assert_eq!(answer.told.len(), 1, "{:?}", answer.told);
    }
}
