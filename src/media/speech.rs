//! When the caller speaks, in sample time: voice activity, without tones and without the echo of the agent.

use crate::audio::frame::Pcm;
use crate::audio::tonality::Tonality;
use crate::audio::vad::HANGOVER_MS;
use crate::audio::vad::ONSET_MS;
use crate::audio::vad::Vad;
use crate::audio::vad::mean_square;
use crate::audio::voice_models::VoiceModels;

/// Length of a tick, in ms.
const TICK_MS: u64 = 20;

/// Ticks in which what the agent said may come back as echo: 320 ms, more than a call around the world.
const ECHO_TICKS: usize = 16;

/// Power of the loudest echo that is believed to be one, as a share of what was said: -20 dB. A telephone
/// returns less, and who speaks over an agent is louder.
const ECHO_SHARE: f32 = 0.01;

/// What came of 20 ms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpeechChange {
    /// Nothing new.
    None,
    /// The caller speaks.
    Began,
    /// The caller speaks no more: [`Speech::ended_ms`] says since when. Short or long, what began ends so.
    Ended,
}

/// Frames in a row that stood out before a voice was sure in them and count as its begin: 120 ms of a consonant.
const RUN_FRAMES_MAX: u64 = 6;

/// Frames after which something can stand out from what goes on: 200 ms.
const AROUND_FRAMES: u32 = 10;

/// Frames in which it may turn out that what was heard at first does not go on all the time: 10 s. Somebody who speaks when
/// it is first listened to would not stand out for seconds afterwards.
const OPENING_FRAMES: u32 = 500;

/// Share of a frame in what goes on all the time, which is so followed in two seconds.
const AROUND_SHARE: f32 = 0.01;

/// Power of speech at least, as a multiple of what goes on all the time: 10 dB.
const STANDS_OUT: f32 = 10.0;

/// What goes on all the time besides what the caller says: noise, hum, other people.
#[derive(Clone, Copy, Debug, Default)]
struct Around {
    /// Mean power of what was no speech.
    mean: f32,
    frames: u32,
    /// Power of the last frames in a row that were as far below it as speech is above, and how many there were.
    below: (f32, u32),
}

impl Around {
    /// Whether a frame of this power stands out from what went on before.
    fn is_exceeded_by(&self, power: f32) -> bool {
        self.frames >= AROUND_FRAMES && power > self.mean * STANDS_OUT
    }

    fn add(&mut self, power: f32) {
        self.frames = self.frames.saturating_add(1);
        let share =
            if self.frames <= AROUND_FRAMES { 1.0 / self.frames as f32 } else { AROUND_SHARE };
        self.mean += (power - self.mean) * share;
        if self.frames < OPENING_FRAMES {
            self.fall(power);
        }
    }

    /// What goes on all the time is what is left once somebody has stopped who spoke.
    fn fall(&mut self, power: f32) {
        if power * STANDS_OUT >= self.mean {
            self.below = (0.0, 0);
            return;
        }
        let (sum, frames) = self.below;
        self.below = (sum + power, frames + 1);
        if frames + 1 >= AROUND_FRAMES {
            self.mean = (sum + power) / (frames + 1) as f32;
            self.below = (0.0, 0);
        }
    }
}

/// Finds where speech begins and ends.
#[derive(Debug)]
pub struct Speech {
    vad: Vad,
    tonality: Tonality,
    state: State,
    /// Speech shorter than this is none, in ms.
    least_ms: u64,
    /// Power of the last frames that were played to the caller, a ring.
    played: [f32; ECHO_TICKS],
    tick: usize,
    around: Around,
    /// So many frames in a row stood out.
    run: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Quiet,
    /// Something like speech goes on since then, not for long enough.
    Rising {
        since_ms: u64,
        frames: u32,
        /// How many of them belong to a tone.
        tonal: u32,
    },
    /// A tone goes on; so many frames in a row were none.
    Tone {
        other: u32,
    },
    /// The caller speaks since then.
    Speaking {
        since_ms: u64,
    },
}

/// Frames in a row that are no tone, after which a tone is over though something goes on.
const TONE_END_FRAMES: u32 = 3;

impl Speech {
    /// Finds speech that lasts at least `least_ms`.
    #[must_use]
    pub fn new(least_ms: u64) -> Self {
        Self {
            vad: Vad::new(),
            tonality: Tonality::default(),
            state: State::Quiet,
            least_ms,
            played: [0.0; ECHO_TICKS],
            tick: 0,
            around: Around::default(),
            run: 0,
        }
    }

    /// Gives the [model](Vad::give_back_model) back that it was lent.
    pub fn give_back_model(&mut self, models: &mut VoiceModels) {
        self.vad.give_back_model(models);
    }

    /// The same before a time in which [nothing is heard](Vad::stop_hearing).
    pub fn stop_hearing(&mut self, models: &mut VoiceModels) {
        self.vad.stop_hearing(models);
    }

    /// Since when the caller speaks, in ms of the session; `None`: it does not.
    #[must_use]
    pub const fn since_ms(&self) -> Option<u64> {
        match self.state {
            State::Speaking { since_ms } => Some(since_ms),
            State::Quiet | State::Rising { .. } | State::Tone { .. } => None,
        }
    }

    /// Takes the 20 ms that end at `now_ms`: what was heard, and what was played to the caller meanwhile.
    pub fn push(
        &mut self,
        now_ms: u64,
        (heard, played): (&Pcm, &Pcm),
        models: &mut VoiceModels,
    ) -> SpeechChange {
        if let Some(place) = self.played.get_mut(self.tick) {
            *place = mean_square(played);
        }
        self.tick = (self.tick + 1) % ECHO_TICKS;
        let loudest = self.played.iter().copied().fold(0.0, f32::max);
        let power = mean_square(heard);
        let is_echo = power < loudest * ECHO_SHARE;
        let stands_out = self.around.is_exceeded_by(power);
        self.run = if stands_out { (self.run + 1).min(RUN_FRAMES_MAX) } else { 0 };
        if self.state == State::Quiet {
            self.around.add(power);
        }
        let voice = self.vad.push_known(heard, power, models);
        // The detector bridges pauses, in which there is neither voice nor tone.
        let pauses = self.vad.silent_ms() > 0;
        let was = self.state;
        self.state = match was {
            State::Quiet if voice && !is_echo && stands_out => {
                self.tonality.forget();
                let tonal = u32::from(self.tonality.push(heard));
                // A voice is sure some time after it began, and later than the consonant before it.
                let since_ms = now_ms.saturating_sub(ONSET_MS.max(TICK_MS * self.run));
                self.rise(now_ms, State::Rising { since_ms, frames: 1, tonal })
            }
            State::Quiet => State::Quiet,
            State::Rising { .. } if !voice => State::Quiet,
            State::Rising { .. } if pauses => was,
            State::Rising { since_ms, frames, tonal } => {
                let tonal = tonal + u32::from(self.tonality.push(heard));
                self.rise(now_ms, State::Rising { since_ms, frames: frames + 1, tonal })
            }
            State::Tone { .. } if !voice => State::Quiet,
            State::Tone { .. } if pauses => was,
            State::Tone { other } => {
                let other = if self.tonality.push(heard) { 0 } else { other + 1 };
                let since_ms = now_ms.saturating_sub(TICK_MS * u64::from(other));
                let begins = other >= TONE_END_FRAMES && !is_echo;
                let rising = State::Rising { since_ms, frames: other, tonal: 0 };
                if begins { self.rise(now_ms, rising) } else { State::Tone { other } }
            }
            State::Speaking { .. } if !voice => State::Quiet,
            State::Speaking { since_ms } => State::Speaking { since_ms },
        };
        match (was, self.state) {
            (State::Speaking { .. }, State::Speaking { .. }) => SpeechChange::None,
            (_, State::Speaking { .. }) => SpeechChange::Began,
            (State::Speaking { .. }, _) => SpeechChange::Ended,
            (_, _) => SpeechChange::None,
        }
    }

    /// How long speech that began then lasts, without the silence it may have ended in.
    #[must_use]
    pub fn lasted_ms(&self, now_ms: u64, since_ms: u64) -> u64 {
        now_ms.saturating_sub(self.vad.silent_ms()).saturating_sub(since_ms)
    }

    /// When speech that ended just now ended: the detector waits for the next word before it says so.
    #[must_use]
    pub const fn ended_ms(now_ms: u64) -> u64 {
        now_ms.saturating_sub(HANGOVER_MS)
    }

    /// Decides what a rise is once it lasts long enough.
    fn rise(&self, now_ms: u64, rising: State) -> State {
        let State::Rising { since_ms, frames, tonal } = rising else { return rising };
        if self.lasted_ms(now_ms, since_ms) < self.least_ms {
            return rising;
        }
        if tonal * 2 >= frames { State::Tone { other: 0 } } else { State::Speaking { since_ms } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::frame::FRAME_SAMPLES;
    use crate::audio::tone::Tone;
    use crate::audio::voice::Voice;
    use crate::types::random::Random;

    const SILENT: Pcm = [0; FRAME_SAMPLES];

    struct Lab {
        speech: Speech,
        models: VoiceModels,
        now_ms: u64,
    }

    impl Lab {
        fn new(least_ms: u64) -> Self {
            let mut lab = Self::just_begun(least_ms);
            assert_eq!(lab.hear_all((0..25).map(|_| SILENT)), []);
            lab
        }

        fn just_begun(least_ms: u64) -> Self {
            let models = VoiceModels::with_room_for(1);
            Self { speech: Speech::new(least_ms), models, now_ms: 0 }
        }

        fn hear(&mut self, heard: &Pcm, played: &Pcm) -> SpeechChange {
            self.now_ms += TICK_MS;
            self.speech.push(self.now_ms, (heard, played), &mut self.models)
        }

        /// What changed, and when, while the caller said this into silence.
        fn hear_all(&mut self, frames: impl Iterator<Item = Pcm>) -> Vec<(u64, SpeechChange)> {
            let changes = frames.map(|frame| (self.hear(&frame, &SILENT), self.now_ms));
            let told = changes.filter(|(change, _)| *change != SpeechChange::None);
            told.map(|(change, at_ms)| (at_ms, change)).collect()
        }
    }

    fn quieter(frame: Pcm, by: i16) -> Pcm {
        frame.map(|sample| sample / by)
    }

    #[test]
    fn speech_begins_once_it_lasts_long_enough_and_is_dated_back() {
        let mut lab = Lab::new(100);
        let mut voice = Voice::new();
        let began = lab.hear_all((0..50).map(|_| voice.frame()));
        let [(at_ms, SpeechChange::Began)] = began[..] else { panic!("{began:?}") };
        assert!((600..=660).contains(&at_ms), "it began at 500: {at_ms}");
        let since_ms = lab.speech.since_ms().expect("it goes on");
        assert!((500..=560).contains(&since_ms), "{since_ms}");
        let ended = lab.hear_all((0..50).map(|_| SILENT));
        let [(at_ms, SpeechChange::Ended)] = ended[..] else { panic!("{ended:?}") };
        let stopped_ms = Speech::ended_ms(at_ms);
        assert!((1_440..=1_540).contains(&stopped_ms), "it ended at 1500: {stopped_ms}");
    }

    #[test]
    fn a_sound_shorter_than_speech_is_nothing() {
        let mut lab = Lab::new(400);
        let mut voice = Voice::new();
        for _ in 0..5 {
            assert_eq!(lab.hear_all((0..6).map(|_| voice.frame())), [], "a cough of 120 ms");
            assert_eq!(lab.hear_all((0..30).map(|_| SILENT)), []);
        }
    }

    #[test]
    fn tones_are_no_speech_however_long() {
        for hz in [425, 440, 1_000] {
            let mut lab = Lab::new(60);
            let mut tone = Tone::new(hz, 8_000);
            assert_eq!(lab.hear_all((0..200).map(|_| tone.frame())), [], "{hz} Hz");
        }
        let mut lab = Lab::new(60);
        let (mut low, mut high) = (Tone::new(697, 4_000), Tone::new(1_209, 4_000));
        let mut key = || {
            let mut frame = low.frame();
            for (sample, more) in frame.iter_mut().zip(high.frame()) {
                *sample += more;
            }
            frame
        };
        assert_eq!(lab.hear_all((0..10).map(|_| key())), [], "a key in the audio");
    }

    #[test]
    fn a_voice_after_a_tone_is_found() {
        let mut lab = Lab::new(60);
        let mut tone = Tone::new(440, 8_000);
        assert_eq!(lab.hear_all((0..50).map(|_| tone.frame())), []);
        let mut voice = Voice::new();
        let began = lab.hear_all((0..25).map(|_| voice.frame()));
        let [(at_ms, SpeechChange::Began)] = began[..] else { panic!("{began:?}") };
        assert!((1_560..=1_700).contains(&at_ms), "it began at 1500: {at_ms}");
    }

    #[test]
    fn the_echo_of_the_agent_is_no_speech_and_who_speaks_over_it_is() {
        let mut lab = Lab::new(60);
        let mut agent = Voice::new();
        let loud = |frame: Pcm| frame.map(|sample| sample.saturating_mul(8));
        let said: Vec<_> = (0..60).map(|_| loud(agent.frame())).collect();
        // 200 ms later and 22 dB down: loud enough to be speech, were it not an echo.
        for tick in 0..60 {
            let echo = if tick < 10 { SILENT } else { quieter(said[tick - 10], 12) };
            assert_eq!(lab.hear(&echo, &said[tick]), SpeechChange::None, "tick {tick}");
        }
        let mut caller = Voice::new();
        let over = (0..10).any(|tick| {
            lab.hear(&quieter(loud(caller.frame()), 3), &said[tick]) == SpeechChange::Began
        });
        assert!(over, "a caller 10 dB below the agent");
    }

    #[test]
    fn keys_in_the_audio_one_soon_after_the_other_are_no_speech() {
        let mut lab = Lab::new(80);
        for _ in 0..6 {
            let (mut low, mut high) = (Tone::new(770, 4_000), Tone::new(1_336, 4_000));
            let key = (0..5).map(|_| {
                let mut frame = low.frame();
                for (sample, more) in frame.iter_mut().zip(high.frame()) {
                    *sample += more;
                }
                frame
            });
            assert_eq!(lab.hear_all(key), []);
            assert_eq!(lab.hear_all((0..4).map(|_| SILENT)), []);
        }
    }

    #[test]
    fn who_speaks_when_it_is_first_listened_to_is_heard_with_the_next_words() {
        let (mut lab, mut voice) = (Lab::just_begun(80), Voice::new());
        lab.hear_all((0..60).map(|_| voice.frame()));
        lab.hear_all((0..30).map(|_| SILENT));
        let begun_ms = lab.now_ms;
        let told = lab.hear_all((0..50).map(|_| voice.frame()));
        let [(at_ms, SpeechChange::Began)] = told[..] else { panic!("{told:?}") };
        assert!(at_ms - begun_ms <= 160, "{at_ms} ms, begun at {begun_ms}");
    }

    #[test]
    fn what_hums_since_the_call_began_is_no_speech_and_who_speaks_over_it_is() {
        let mut lab = Lab::just_begun(80);
        let (mut hum, mut more) = (Tone::new(180, 300), Tone::new(300, 300));
        let mut third = Tone::new(420, 300);
        let mut hums = || {
            let mut frame = hum.frame();
            for ((sample, a), b) in frame.iter_mut().zip(more.frame()).zip(third.frame()) {
                *sample += a + b;
            }
            frame
        };
        assert_eq!(lab.hear_all((0..100).map(|_| hums())), []);
        let mut voice = Voice::new();
        let mut said = || {
            let mut frame = voice.frame().map(|sample| sample.saturating_mul(6));
            for (sample, more) in frame.iter_mut().zip(hums()) {
                *sample = sample.saturating_add(more);
            }
            frame
        };
        let began = lab.hear_all((0..25).map(|_| said()));
        assert!(matches!(began[..], [(2_000..=2_200, SpeechChange::Began)]), "{began:?}");
    }

    #[test]
    fn noise_is_seldom_speech() {
        let mut random = Random::from_seed(7);
        let mut false_alarms = 0;
        for peak in [50, 400, 1_500, 4_000] {
            let mut lab = Lab::new(80);
            let noise = (0..500).map(|_| {
                let mut frame = SILENT;
                frame.fill_with(|| (random.below(2 * peak + 1) as i64 - peak as i64) as i16);
                frame
            });
            let noise: Vec<_> = noise.collect();
            false_alarms += lab.hear_all(noise.into_iter()).len();
        }
        assert_eq!(false_alarms, 0, "in 40 s of noise at four levels");
    }
}
