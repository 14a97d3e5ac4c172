//! Voice activity: an energy gate over a tracked noise floor, and behind it two witnesses: the periodicity that every
//! vowel has and no noise, and for what has none a small neural model, which costs ten times as much.

use crate::audio::frame::FRAME_SAMPLES;
use crate::audio::frame::Pcm;
use crate::audio::voice_models::MODEL_SAMPLES;
use crate::audio::voice_models::VoiceModel;
use crate::audio::voice_models::VoiceModels;

/// Score of the model from which a frame counts as voice.
const VOICE_SCORE: f32 = 0.5;

/// The same where the model did not hear what came right before: it is rash then.
const GAP_SCORE: f32 = 0.6;

/// Correlation with itself one pitch period ago from which a frame counts as voice.
const PERIODIC: f32 = 0.6;

/// Correlation with itself one sample ago that every vowel has: what has less has most of its power above 1.7 kHz.
const DARK: f32 = 0.2;

/// Shortest pitch period, in samples: 400 Hz.
const PITCH_MIN: usize = 20;

/// Longest pitch period, in samples: 60 Hz.
const PITCH_MAX: usize = 133;

/// Samples by which a pitch period is thought to change in 20 ms: what lies so near to the last one is tried first.
const PITCH_DRIFT: usize = 2;

/// Bits of a sample's magnitude when it is looked at for periodicity: the product of two frames fits an `i32` then.
const PERIODIC_BITS: u32 = 11;

/// Samples whose products are added up at once: a fifth of a frame.
const PRODUCT_RUN: usize = 32;

/// Mean square below which nothing counts as speech: about -50 dBm0.
const POWER_MIN: f32 = 2_600.0;

/// How far above the noise floor speech must be: 8 times the power, 9 dB.
const ABOVE_FLOOR: f32 = 8.0;

/// Upper limit of the noise floor, about -27 dBm0: steady sound above it is not noise.
const FLOOR_MAX: f32 = 520_000.0;

/// Share of the way down to a quieter frame that the noise floor takes.
const FLOOR_FALL: f32 = 0.3;

/// Rise of the noise floor with each louder frame: 2 dB a second, too slow for speech to matter.
const FLOOR_RISE: f32 = 1.01;

/// Voiced frames in a row that begin speech.
const ONSET_FRAMES: u8 = 2;

/// Frames that speech outlasts the last voiced one: 200 ms bridge the gaps between words.
const HANGOVER_FRAMES: u8 = 10;

/// Frames after which speech is no click that rings, and no key: 500 ms.
const LASTING_FRAMES: u8 = 25;

/// Vowels in frames that are sooner enough for that: 120 ms. No click has so many.
const LASTING_VOWELS: u8 = 6;

/// Loud frames behind a voiced one of speech that has lasted for which the model is not asked: 60 ms, for behind most
/// consonants comes a vowel, and what comes there decides.
const UNASKED_FRAMES: u8 = 3;

/// Frames without speech in which a model is kept that nobody asked: one second. What it then has of its context is from
/// before that, and does not help it.
const KEPT_FRAMES: u8 = 50;

/// Samples that the model is given at once, before they are doubled: 16 ms.
const GIVEN_SAMPLES: usize = MODEL_SAMPLES / 2;

/// Samples of the frame before that the model hears with one where it did not hear all of that: with those of the
/// frame they are twice what it takes at once.
const GAP_SAMPLES: usize = MODEL_SAMPLES - FRAME_SAMPLES;

/// How long speech goes on when it is reported, in ms.
pub const ONSET_MS: u64 = 20 * ONSET_FRAMES as u64;

/// How long speech is over when its end is reported, in ms.
pub const HANGOVER_MS: u64 = 20 * HANGOVER_FRAMES as u64;

/// Detects speech in 8 kHz audio, frame by frame.
///
/// The model that it asks is lent to it: from the first frame that is loud until nobody has spoken for a second. The next
/// one has heard nothing, as the first one had: what begins an utterance behind a longer pause it hears without what came
/// before. Where no model is to be had, what is no vowel is no voice.
pub struct Vad {
    model: Option<VoiceModel>,
    /// Frames without speech since it was asked.
    unasked: u8,
    /// Audio waiting for the model, which wants twice as many samples a second.
    waiting: [i16; GIVEN_SAMPLES],
    waiting_samples: u8,
    /// The sample before those that wait.
    last_sample: i16,
    /// The frame before.
    before: Pcm,
    floor: f32,
    score: f32,
    voiced_frames: u8,
    hangover: u8,
    /// Of the speech that goes on.
    speech_frames: u8,
    /// Those of them that were vowels.
    vowel_frames: u8,
    /// The last voiced frame was a vowel.
    was_vowel: bool,
    /// The frame before was loud, and whether it was voiced is left to what follows.
    is_open: bool,
    /// The model has not heard the frame before.
    has_gap: bool,
    /// The pitch period that was found last, in samples.
    period: u8,
}

impl std::fmt::Debug for Vad {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Vad").field("floor", &self.floor).finish_non_exhaustive()
    }
}

/// Mean square of a frame: lane by lane, which is half the work of a sum that is exact.
#[must_use]
pub fn mean_square(frame: &Pcm) -> f32 {
    let mut sums = [0.0_f32; 8];
    for run in frame.as_chunks::<8>().0 {
        for (sum, sample) in sums.iter_mut().zip(run) {
            let sample = f32::from(*sample);
            *sum += sample * sample;
        }
    }
    sums.iter().sum::<f32>() / FRAME_SAMPLES as f32
}

/// Sum of the products of samples that have `PERIODIC_BITS`. Run by run it takes half as long as in one go, which the
/// compiler does in vectors that are half empty.
fn product(a: &[i16; FRAME_SAMPLES], b: &[i16; FRAME_SAMPLES]) -> i32 {
    let runs = a.as_chunks::<PRODUCT_RUN>().0.iter().zip(b.as_chunks::<PRODUCT_RUN>().0);
    let sum = |(a, b): (&[i16; PRODUCT_RUN], &[i16; PRODUCT_RUN])| -> i32 {
        a.iter().zip(b).map(|(a, b)| i32::from(*a) * i32::from(*b)).sum()
    };
    runs.map(sum).sum()
}

/// Two frames, the later of which is looked at for periodicity, with `PERIODIC_BITS` a sample.
type Heard = [i16; 2 * FRAME_SAMPLES];

/// The frame that ends so many samples before the later one of two does.
fn earlier_by(heard: &Heard, lag: usize) -> Option<&[i16; FRAME_SAMPLES]> {
    heard.get(FRAME_SAMPLES.checked_sub(lag)?..)?.first_chunk()
}

/// Whether the later of two frames may be a vowel, by how alike its samples are to those before them: for the hiss of
/// a consonant no pitch is searched.
fn is_dark(heard: &Heard) -> bool {
    earlier_by(heard, 0)
        .zip(earlier_by(heard, 1))
        .is_some_and(|(now, before)| product(now, before) as f32 > DARK * product(now, now) as f32)
}

/// Whether frames of these powers are alike, by the sum of their products.
fn is_alike(sum: i32, power: i32, power_before: i32) -> bool {
    let sum = sum as f32;
    sum > 0.0 && sum * sum > PERIODIC * PERIODIC * power as f32 * power_before as f32
}

/// A pitch period next to the one before, which goes on in most of a vowel: to look there costs a tenth.
fn period_near(heard: &Heard, last: usize) -> Option<usize> {
    let now = earlier_by(heard, 0)?;
    let power = product(now, now);
    let least = last.saturating_sub(PITCH_DRIFT).max(PITCH_MIN);
    (least..=(last + PITCH_DRIFT).min(PITCH_MAX)).find(|lag| {
        earlier_by(heard, *lag)
            .is_some_and(|before| is_alike(product(now, before), power, product(before, before)))
    })
}

/// The shortest pitch period of all.
fn period_of(heard: &Heard) -> Option<usize> {
    let now = earlier_by(heard, 0)?;
    let power = product(now, now);
    let (earlier, later) = heard.split_at(FRAME_SAMPLES);
    let mut power_before = power;
    let ends = earlier.iter().zip(later).rev().take(PITCH_MAX);
    (1..).zip(ends).find_map(|(lag, (come, gone))| {
        // The frame before is this one moved by a sample: one more at its begin, one less at its end.
        power_before += i32::from(*come).pow(2) - i32::from(*gone).pow(2);
        let before = earlier_by(heard, lag).filter(|_| lag >= PITCH_MIN)?;
        is_alike(product(now, before), power, power_before).then_some(lag)
    })
}

impl Default for Vad {
    fn default() -> Self {
        Self::new()
    }
}

impl Vad {
    /// A detector that has heard nothing. 600 bytes, and the 8 KB of a model while somebody speaks.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            model: None,
            unasked: 0,
            waiting: [0; GIVEN_SAMPLES],
            waiting_samples: 0,
            last_sample: 0,
            before: [0; FRAME_SAMPLES],
            floor: POWER_MIN,
            score: 0.0,
            voiced_frames: 0,
            hangover: 0,
            speech_frames: 0,
            vowel_frames: 0,
            was_vowel: false,
            is_open: false,
            has_gap: false,
            period: 0,
        }
    }

    /// Gives its model back to `models`, of which it has it: before it goes to where there are others, and hears on.
    pub fn give_back_model(&mut self, models: &mut VoiceModels) {
        if let Some(model) = self.model.take() {
            models.take_back(model);
            // The next one has not heard the frame before.
            self.has_gap = true;
        }
    }

    /// The same before a time in which it hears nothing: nor is the next model to hear what still waited for this one, as if
    /// it came right before what it hears.
    pub fn stop_hearing(&mut self, models: &mut VoiceModels) {
        self.give_back_model(models);
        (self.waiting_samples, self.last_sample) = (0, 0);
    }

    /// For how long what is still taken for speech has had no voice, in ms.
    #[must_use]
    pub fn silent_ms(&self) -> u64 {
        20 * u64::from(HANGOVER_FRAMES.saturating_sub(self.hangover))
    }

    /// Whether somebody speaks and the latest frame is none of the silence that speech may end in: it has a voice, or
    /// is loud as the consonants between vowels are.
    #[must_use]
    pub const fn is_uttered(&self) -> bool {
        self.hangover == HANGOVER_FRAMES || self.is_open
    }

    /// Takes the next 20 ms; true while somebody speaks.
    ///
    /// Speech begins 40 ms after its onset and ends 200 ms after its last voiced frame. Its model is one of `models`, which
    /// are the same each time unless it was [given back](Self::give_back_model).
    pub fn push(&mut self, frame: &Pcm, models: &mut VoiceModels) -> bool {
        self.push_known(frame, mean_square(frame), models)
    }

    /// The same of a frame whose [mean square](mean_square) is known.
    pub fn push_known(&mut self, frame: &Pcm, power: f32, models: &mut VoiceModels) -> bool {
        let loud = self.is_loud(power);
        let periodic = loud && self.is_periodic(frame);
        let asked = self.asks_model(loud, periodic);
        let voiced = (asked && self.is_voice(frame, models) && loud) || periodic;
        self.is_open = loud && !voiced && !asked;
        self.has_gap = !asked;
        self.before = *frame;
        if voiced {
            self.was_vowel = periodic;
            self.voiced_frames = self.voiced_frames.saturating_add(1);
            if self.voiced_frames >= ONSET_FRAMES || self.hangover > 0 {
                self.hangover = HANGOVER_FRAMES;
            }
        } else {
            self.voiced_frames = 0;
            self.hangover = self.hangover.saturating_sub(1);
        }
        let speech = self.hangover > 0;
        if speech {
            self.speech_frames = self.speech_frames.saturating_add(1);
            self.vowel_frames = self.vowel_frames.saturating_add(u8::from(periodic));
        } else {
            (self.speech_frames, self.vowel_frames) = (0, 0);
        }
        self.unasked = if asked || speech { 0 } else { self.unasked.saturating_add(1) };
        if self.unasked >= KEPT_FRAMES {
            self.stop_hearing(models);
        }
        speech
    }

    /// Whether the model is to hear a frame. At first it hears all but the rest of a vowel, and noise in between as well:
    /// with more holes in its context it takes clicks for a voice. In speech that has lasted it is asked only for what
    /// is no vowel, and not before the speech would begin to run out.
    fn asks_model(&self, loud: bool, periodic: bool) -> bool {
        if self.has_lasted() {
            loud && !periodic && self.hangover <= HANGOVER_FRAMES - UNASKED_FRAMES
        } else {
            let goes_on = periodic && self.voiced_frames >= ONSET_FRAMES;
            (loud || self.hangover > 0) && !goes_on
        }
    }

    const fn has_lasted(&self) -> bool {
        self.speech_frames >= LASTING_FRAMES || self.vowel_frames >= LASTING_VOWELS
    }

    /// The gate that spares the model: louder than the noise floor. The floor follows quiet at once
    /// and rises slowly, so that speech does not raise it.
    fn is_loud(&mut self, power: f32) -> bool {
        let loud = power > POWER_MIN && power > self.floor * ABOVE_FLOOR;
        let followed = if power < self.floor {
            self.floor + (power - self.floor) * FLOOR_FALL
        } else {
            self.floor * FLOOR_RISE
        };
        self.floor = followed.clamp(1.0, FLOOR_MAX);
        loud
    }

    /// Whether the frame repeats what was a pitch period before.
    fn is_periodic(&mut self, frame: &Pcm) -> bool {
        let mut heard: Heard = [0; 2 * FRAME_SAMPLES];
        for (half, from) in heard.chunks_exact_mut(FRAME_SAMPLES).zip([&self.before, frame]) {
            half.copy_from_slice(from);
        }
        let peak = heard.iter().fold(0, |peak, sample| peak.max(sample.unsigned_abs()));
        let scale = (u16::BITS - peak.leading_zeros()).saturating_sub(PERIODIC_BITS);
        let heard = heard.map(|sample| sample >> scale);
        if !is_dark(&heard) {
            return false;
        }
        let last = usize::from(self.period);
        let Some(period) = period_near(&heard, last).or_else(|| period_of(&heard)) else {
            return false;
        };
        self.period = period as u8;
        true
    }

    /// Asks the model.
    fn is_voice(&mut self, frame: &Pcm, models: &mut VoiceModels) -> bool {
        if !(self.has_gap && self.has_lasted()) {
            self.give(frame, models);
            return self.score >= VOICE_SCORE;
        }
        if self.is_behind_vowel() {
            self.give_end(frame, models);
        } else {
            self.fill_gap();
            self.give(frame, models);
        }
        self.score >= GAP_SCORE
    }

    /// Whether the model is asked for the first time behind a vowel of speech that has lasted. What it is asked about
    /// is a consonant more often than not then, and the end of the frame is enough; behind one that it took for a
    /// voice itself it may be noise that goes on, which it tells better when it hears more.
    const fn is_behind_vowel(&self) -> bool {
        self.was_vowel && self.hangover == HANGOVER_FRAMES - UNASKED_FRAMES
    }

    /// Lets the model hear a frame.
    fn give(&mut self, frame: &Pcm, models: &mut VoiceModels) {
        let mut rest = frame.as_slice();
        while !rest.is_empty() {
            let room =
                self.waiting.get_mut(usize::from(self.waiting_samples)..).unwrap_or_default();
            let (taken, later) = rest.split_at(rest.len().min(room.len()));
            for (place, sample) in room.iter_mut().zip(taken) {
                *place = *sample;
            }
            self.waiting_samples += taken.len() as u8;
            rest = later;
            if usize::from(self.waiting_samples) >= GIVEN_SAMPLES {
                self.score_waiting(models);
            }
        }
    }

    /// Lets the model hear as much of the end of a frame as it takes at once.
    fn give_end(&mut self, frame: &Pcm, models: &mut VoiceModels) {
        let (begin, end) = frame.split_at(FRAME_SAMPLES - GIVEN_SAMPLES);
        self.last_sample = begin.last().copied().unwrap_or_default();
        for (place, sample) in self.waiting.iter_mut().zip(end) {
            *place = *sample;
        }
        self.score_waiting(models);
    }

    fn score_waiting(&mut self, models: &mut VoiceModels) {
        let doubled = self.doubled();
        self.model = self.model.take().or_else(|| models.lend());
        self.score = self.model.as_ref().map_or(0.0, |model| models.score(model, &doubled));
        self.waiting_samples = 0;
    }

    /// Lets what the model hears next begin in the frame before: with a hole right there it takes noise for a voice.
    fn fill_gap(&mut self) {
        let (earlier, later) = self.before.split_at(FRAME_SAMPLES - GAP_SAMPLES);
        self.last_sample = earlier.last().copied().unwrap_or_default();
        for (place, sample) in self.waiting.iter_mut().zip(later) {
            *place = *sample;
        }
        self.waiting_samples = GAP_SAMPLES as u8;
    }

    /// What waits, at 16 kHz, which linear interpolation is good enough for.
    fn doubled(&mut self) -> [i16; MODEL_SAMPLES] {
        let mut doubled = [0; MODEL_SAMPLES];
        let mut last = self.last_sample;
        for (pair, sample) in doubled.as_chunks_mut().0.iter_mut().zip(self.waiting) {
            let between = (i32::from(last) + i32::from(sample)) / 2;
            *pair = [between as i16, sample];
            last = sample;
        }
        self.last_sample = last;
        doubled
    }
}

/// The same with a model of its own, for who is on no media thread.
#[derive(Debug)]
pub struct LoneVad {
    vad: Vad,
    models: VoiceModels,
}

impl Default for LoneVad {
    fn default() -> Self {
        Self::new()
    }
}

impl LoneVad {
    /// A detector that has heard nothing.
    #[must_use]
    pub fn new() -> Self {
        Self { vad: Vad::new(), models: VoiceModels::with_room_for(1) }
    }

    /// Takes the next 20 ms; true while somebody speaks.
    pub fn push(&mut self, frame: &Pcm) -> bool {
        self.vad.push(frame, &mut self.models)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::tone::Tone;
    use crate::audio::voice::Voice;
    use crate::types::random::Random;

    impl std::ops::Deref for LoneVad {
        type Target = Vad;

        fn deref(&self) -> &Vad {
            &self.vad
        }
    }

    impl std::ops::DerefMut for LoneVad {
        fn deref_mut(&mut self) -> &mut Vad {
            &mut self.vad
        }
    }

    fn noise(random: &mut Random, peak: i32) -> Pcm {
        let mut frame = [0; FRAME_SAMPLES];
        frame.fill_with(|| (random.below(2 * peak as u64 + 1) as i32 - peak) as i16);
        frame
    }

    #[test]
    fn silence_and_noise_are_not_speech() {
        let mut vad = LoneVad::new();
        let mut random = Random::from_seed(1);
        assert!((0..50).all(|_| !vad.push(&[0; FRAME_SAMPLES])));
        for peak in [20, 200, 1_500] {
            let heard = (0..250).filter(|_| vad.push(&noise(&mut random, peak))).count();
            assert!(heard <= 25, "noise of {peak}: {heard} of 250");
        }
    }

    #[test]
    fn a_model_is_lent_for_what_is_loud_and_given_back_a_second_after_it() {
        assert!(size_of::<Vad>() <= 600, "{}", size_of::<Vad>());
        let (mut vad, mut models) = (Vad::new(), VoiceModels::with_room_for(4));
        let mut random = Random::from_seed(3);
        for _ in 0..250 {
            vad.push(&noise(&mut random, 20), &mut models);
        }
        assert_eq!(models.made(), 0, "nothing is loud");
        let mut voice = Voice::new();
        let mut utter = |vad: &mut Vad, models: &mut VoiceModels| {
            for _ in 0..100 {
                vad.push(&voice.frame(), models);
            }
            assert_eq!((models.made(), models.lent()), (1, 1), "while somebody speaks");
        };
        for _ in 0..3 {
            utter(&mut vad, &mut models);
            while vad.push(&noise(&mut random, 20), &mut models) {}
            let kept = (0..100)
                .take_while(|_| {
                    vad.push(&noise(&mut random, 20), &mut models);
                    models.lent() == 1
                })
                .count();
            assert!((48..=49).contains(&kept), "kept for {kept} frames of silence");
            assert_eq!((models.made(), models.lent()), (1, 0));
        }
    }

    #[test]
    fn as_many_models_are_made_as_speak_at_once_however_many_listen() {
        let mut models = VoiceModels::with_room_for(20);
        let mut all: Vec<_> = (0..20).map(|_| (Vad::new(), Voice::new())).collect();
        // Each speaks for 1 s of 20, one behind the other; the one before is kept another second.
        for turn in 0..40 {
            for _ in 0..50 {
                for (at, (vad, voice)) in all.iter_mut().enumerate() {
                    let speaks = turn % 20 == at;
                    let frame = if speaks { voice.frame() } else { [0; FRAME_SAMPLES] };
                    vad.push(&frame, &mut models);
                }
            }
            assert!((1..=3).contains(&models.lent()), "turn {turn}: {}", models.lent());
        }
        assert!((2..=3).contains(&models.made()), "{}", models.made());
    }

    #[test]
    fn an_utterance_is_heard_as_before_whoever_had_the_model() {
        // Without anybody else, and with one who had the model and falls silent first.
        let mut random = Random::from_seed(12);
        let said: Vec<_> = (0..150)
            .map(|at| noise(&mut random, if at % 30 < 20 { 9_000 } else { 1_000 }))
            .collect();
        let heard = |vad: &mut Vad, models: &mut VoiceModels| -> Vec<(bool, u32)> {
            said.iter().map(|frame| (vad.push(frame, models), vad.score.to_bits())).collect()
        };
        let alone = heard(&mut Vad::new(), &mut VoiceModels::with_room_for(1));
        let (mut other, mut models) = (Vad::new(), VoiceModels::with_room_for(1));
        heard(&mut other, &mut models);
        assert_eq!(models.lent(), 1);
        for _ in 0..100 {
            other.push(&[0; FRAME_SAMPLES], &mut models);
        }
        assert_eq!(models.lent(), 0);
        assert_eq!(heard(&mut Vad::new(), &mut models), alone);
        assert_eq!(models.made(), 1);
    }

    #[test]
    fn an_utterance_behind_a_long_pause_is_heard_without_the_end_of_the_one_before() {
        let mut random = Random::from_seed(15);
        for frames in [1, 2, 3, 5, 30] {
            let said: Vec<_> = (0..frames).map(|_| noise(&mut random, 9_000)).collect();
            let (mut vad, mut models) = (Vad::new(), VoiceModels::with_room_for(1));
            let mut hear = || {
                for _ in 0..100 {
                    vad.push(&[0; FRAME_SAMPLES], &mut models);
                }
                assert_eq!((models.lent(), vad.waiting_samples, vad.last_sample), (0, 0, 0));
                let heard: Vec<_> = said
                    .iter()
                    .map(|frame| (vad.push(frame, &mut models), vad.score.to_bits()))
                    .collect();
                (heard, vad.waiting_samples)
            };
            let first = hear();
            assert!(frames > 3 || first.1 > 0, "something of {frames} is left");
            assert_eq!(hear(), first, "{frames}");
        }
    }

    #[test]
    fn behind_a_time_in_which_nothing_is_heard_nothing_of_the_time_before_waits() {
        let mut random = Random::from_seed(16);
        for frames in 1..=3 {
            let (mut vad, mut models) = (Vad::new(), VoiceModels::with_room_for(1));
            for _ in 0..100 {
                vad.push(&[0; FRAME_SAMPLES], &mut models);
            }
            for _ in 0..frames {
                vad.push(&noise(&mut random, 9_000), &mut models);
            }
            assert!(vad.waiting_samples > 0, "something of {frames} is left");
            vad.stop_hearing(&mut models);
            assert_eq!((models.lent(), vad.waiting_samples, vad.last_sample), (0, 0, 0));
        }
    }

    #[test]
    fn who_gives_its_model_back_in_an_utterance_is_lent_another_and_hears_on() {
        let (mut vad, mut voice) = (Vad::new(), Voice::new());
        let mut pools = [0, 1].map(|_| VoiceModels::with_room_for(1));
        let [first, second] = &mut pools;
        assert!((0..40).filter(|_| vad.push(&voice.frame(), first)).count() >= 30);
        assert_eq!(first.lent(), 1);
        vad.give_back_model(first);
        assert_eq!((first.lent(), vad.has_gap), (0, true));
        vad.give_back_model(first);
        // A consonant, for which the model is asked, amid the same speech.
        let mut random = Random::from_seed(13);
        assert!(vad.push(&voice.frame(), second));
        for _ in 0..=UNASKED_FRAMES {
            assert!(vad.push(&noise(&mut random, 8_000), second));
        }
        assert_eq!((first.lent(), second.lent()), (0, 1));
        assert!((0..40).filter(|_| vad.push(&voice.frame(), second)).count() >= 36);
    }

    #[test]
    fn where_there_is_no_model_vowels_are_heard_and_noise_is_no_voice() {
        let (mut vad, mut none) = (Vad::new(), VoiceModels::with_room_for(0));
        let mut random = Random::from_seed(14);
        assert!((0..50).all(|_| !vad.push(&noise(&mut random, 8_000), &mut none)));
        let (mut vad, mut tone) = (Vad::new(), Tone::new(200, 8_000));
        assert!((0..40).filter(|_| vad.push(&tone.frame(), &mut none)).count() >= 38);
        assert_eq!(none.made(), 0);
    }

    #[test]
    fn a_voice_is_found_soon_and_lost_soon_after_its_end() {
        let mut vad = LoneVad::new();
        let mut random = Random::from_seed(2);
        let mut voice = Voice::new();
        assert!((0..50).all(|_| !vad.push(&noise(&mut random, 20))));
        let heard: Vec<bool> = (0..100).map(|_| vad.push(&voice.frame())).collect();
        let onset = heard.iter().position(|speech| *speech);
        assert!(onset < Some(10) && onset.is_some(), "{onset:?}");
        assert!(heard.iter().filter(|speech| **speech).count() > 85, "{heard:?}");
        let after = (0..50).filter(|_| vad.push(&noise(&mut random, 20))).count();
        assert!((5..=20).contains(&after), "{after}");
    }

    #[test]
    fn a_tone_of_a_test_caller_counts_as_speech() {
        let mut vad = LoneVad::new();
        for hz in [300, 440, 1_000] {
            let mut tone = Tone::new(hz, 8_000);
            let heard = (0..50).filter(|_| vad.push(&tone.frame())).count();
            assert!(heard >= 45, "{hz}: {heard}");
            assert!((0..30).filter(|_| vad.push(&[0; FRAME_SAMPLES])).count() < 15);
        }
    }

    /// One that hears a voice for so long that it has lasted.
    fn amid_speech() -> LoneVad {
        let mut vad = LoneVad::new();
        let mut tone = Tone::new(200, 8_000);
        assert!((0..40).filter(|_| vad.push(&tone.frame())).count() >= 38);
        assert!(vad.has_lasted() && vad.is_uttered());
        vad
    }

    #[test]
    fn the_model_hears_the_begin_of_a_vowel_and_none_of_its_rest() {
        let mut vad = LoneVad::new();
        let mut tone = Tone::new(200, 8_000);
        let mut hears = || {
            vad.push(&tone.frame());
            !vad.has_gap
        };
        let heard: Vec<_> = (0..30).map(|_| hears()).collect();
        let expected: Vec<_> = (0..30).map(|frame| frame < usize::from(ONSET_FRAMES)).collect();
        assert_eq!(heard, expected);
        // What is no vowel so early is asked about at once, as before.
        let mut random = Random::from_seed(4);
        let mut vad = LoneVad::new();
        let mut tone = Tone::new(200, 8_000);
        for _ in 0..5 {
            vad.push(&tone.frame());
        }
        vad.push(&noise(&mut random, 8_000));
        assert!(!vad.has_gap && !vad.is_open);
    }

    #[test]
    fn in_speech_the_model_is_asked_only_once_no_vowel_came_for_60_ms() {
        let mut vad = amid_speech();
        let mut random = Random::from_seed(5);
        for frame in 1..=u64::from(UNASKED_FRAMES) {
            assert!(vad.push(&noise(&mut random, 8_000)));
            assert!(vad.has_gap, "frame {frame}: the model was asked");
            assert!(vad.is_uttered(), "it may be a consonant");
            assert_eq!(vad.silent_ms(), 20 * frame, "unless no vowel comes");
        }
        let last = noise(&mut random, 8_000);
        assert!(vad.push(&last));
        assert!(!vad.has_gap && !vad.is_open);
        // It took the end of this one, which is what it takes at once.
        assert_eq!((vad.waiting_samples, Some(&vad.last_sample)), (0, last.last()));
        // And what is silent is asked about by nobody, and no consonant.
        let mut vad = amid_speech();
        assert!(vad.push(&[0; FRAME_SAMPLES]));
        assert!(!vad.is_uttered() && vad.has_gap);
        assert_eq!(vad.silent_ms(), 20);
    }

    #[test]
    fn behind_a_vowel_the_model_hears_the_end_of_a_frame_and_later_the_frame_before_too() {
        let mut random = Random::from_seed(5);
        let noise: Vec<_> =
            (0..=usize::from(UNASKED_FRAMES)).map(|_| noise(&mut random, 8_000)).collect();
        let (last, unasked) = noise.split_last().expect("there are four");
        let score = |ask: fn(&mut LoneVad, &Pcm)| {
            let mut vad = amid_speech();
            assert!(unasked.iter().all(|frame| vad.push(frame)) && vad.has_gap && vad.was_vowel);
            ask(&mut vad, last);
            vad.score.to_bits()
        };
        let behind_vowel = score(|vad, frame| {
            vad.push(frame);
        });
        let behind_other = score(|vad, frame| {
            vad.was_vowel = false;
            vad.push(frame);
        });
        assert_ne!(behind_vowel, behind_other);
        assert_eq!(behind_vowel, score(|vad, frame| vad.vad.give_end(frame, &mut vad.models)));
        assert_eq!(
            behind_other,
            score(|vad, frame| {
                vad.fill_gap();
                vad.vad.give(frame, &mut vad.models);
            })
        );
    }

    #[test]
    fn speech_with_vowels_enough_has_lasted_before_it_goes_on_for_long() {
        let mut vad = LoneVad::new();
        let mut tone = Tone::new(200, 8_000);
        // The first frame of an onset is not yet of the speech.
        for frame in 0..=LASTING_VOWELS {
            assert!(!vad.has_lasted(), "frame {frame}");
            vad.push(&tone.frame());
        }
        assert!(vad.has_lasted() && vad.speech_frames < LASTING_FRAMES);
        let mut random = Random::from_seed(5);
        assert!(vad.push(&noise(&mut random, 8_000)) && vad.has_gap, "the model was asked");
        // What comes behind a pause is new.
        for _ in 0..HANGOVER_FRAMES {
            vad.push(&[0; FRAME_SAMPLES]);
        }
        assert!(!vad.has_lasted());
    }

    #[test]
    fn the_mean_square_is_that_of_an_exact_sum() {
        let mut random = Random::from_seed(8);
        let full = [i16::MIN; FRAME_SAMPLES];
        let frames = [0, 20, 1_500, 30_000].map(|peak| noise(&mut random, peak));
        for frame in frames.iter().chain([&full]) {
            let sum: i64 = frame.iter().map(|sample| i64::from(*sample).pow(2)).sum();
            let exact = sum as f32 / FRAME_SAMPLES as f32;
            assert!((mean_square(frame) - exact).abs() <= exact * 1e-6, "{exact}");
        }
    }

    #[test]
    fn noise_that_goes_on_behind_speech_does_not_hold_it() {
        let mut vad = amid_speech();
        let mut random = Random::from_seed(6);
        let held = (0..100).take_while(|_| vad.push(&noise(&mut random, 3_000))).count();
        assert!((9..=25).contains(&held), "{held} frames");
    }

    #[test]
    fn a_hiss_is_no_vowel_though_it_has_a_period_and_a_voice_is_one() {
        let heard_of =
            |frames: [Pcm; 2]| -> Heard { std::array::from_fn(|n| frames.as_flattened()[n] >> 4) };
        let (mut hiss, mut vad) = (Tone::new(2_400, 8_000), LoneVad::new());
        vad.before = hiss.frame();
        let next = hiss.frame();
        let heard = heard_of([vad.before, next]);
        assert!(period_of(&heard).is_some() && !is_dark(&heard));
        assert!(!vad.is_periodic(&next));
        let mut voice = Voice::new();
        assert!((0..50).all(|_| is_dark(&heard_of([voice.frame(), voice.frame()]))));
    }

    #[test]
    fn a_period_next_to_the_last_one_is_one_of_those_that_all_are_searched_for() {
        let mut random = Random::from_seed(7);
        let mut voice = Voice::new();
        let (mut near, mut apart) = (0, 0);
        for number in 0..200 {
            let mut heard: Heard = [0; 2 * FRAME_SAMPLES];
            let peak = [0, 300, 4_000][number % 3];
            let frames = [voice.frame(), voice.frame()].map(|frame| {
                let mut noise = noise(&mut random, peak);
                noise.iter_mut().zip(frame).for_each(|(noise, voice)| *noise += voice);
                noise
            });
            for (place, sample) in heard.iter_mut().zip(frames.as_flattened()) {
                *place = sample >> 4;
            }
            let plain = |lag: usize| {
                let now = &heard[FRAME_SAMPLES..];
                let before = &heard[FRAME_SAMPLES - lag..][..FRAME_SAMPLES];
                let sum = |a: &[i16], b: &[i16]| -> i32 {
                    a.iter().zip(b).map(|(a, b)| i32::from(*a) * i32::from(*b)).sum()
                };
                is_alike(sum(now, before), sum(now, now), sum(before, before))
            };
            let all: Vec<_> = (PITCH_MIN..=PITCH_MAX).filter(|lag| plain(*lag)).collect();
            assert_eq!(period_of(&heard), all.first().copied());
            for last in 0..=PITCH_MAX {
                let expected = all.iter().find(|lag| lag.abs_diff(last) <= PITCH_DRIFT);
                assert_eq!(period_near(&heard, last), expected.copied(), "near {last}");
                near += usize::from(expected.is_some());
                apart += usize::from(expected.is_none());
            }
        }
        assert!(near > 500 && apart > 500, "{near} and {apart}");
    }
}
