//! Concealment of lost audio in the way of G.711 Appendix I: the last pitch periods go on, fall away to the
//! line's own noise, and give way smoothly to what comes next.
//!
//! Nothing is delayed for it. Where Appendix I keeps 3.75 ms back to smooth the joint, here a short-term
//! predictor lets the difference between the last samples and those a period before ring out: the line goes
//! on as if the voice had.

use crate::audio::floor::Floor;
use crate::types::cache::fetch;

/// Samples at 8 kHz that are remembered: three of the longest periods, and what the predictor looks back.
const HISTORY: usize = 390;
/// The same at 16 kHz, the highest rate.
const HISTORY_MAX: usize = 2 * HISTORY;
/// Pitch periods that are looked for, in samples at 8 kHz: 400 down to 66 Hz.
const PERIOD_MIN: usize = 20;
const PERIOD_MAX: usize = 120;
/// Samples at 8 kHz over which periods are compared: 8 ms.
const WINDOW: usize = 64;
/// Samples at 8 kHz in 10 ms, the step by which a loss is treated as longer.
const STEP: usize = 80;
/// Share of its level that a concealed voice loses in each step after the first.
const FALL: f32 = 0.2;
/// Least share of its level that a voice keeps for not being periodic.
const LEVEL_MIN: f32 = 0.5;
/// Periods that are repeated in turn at most.
const PERIODS_MAX: usize = 3;
/// Taps of the short-term predictor.
const ORDER: usize = 12;
/// Samples at 8 kHz over which a joint rings out: 5 ms.
const RINGING: usize = 40;
const RINGING_MAX: usize = 2 * RINGING;

/// Remembers what was heard of one stream, and goes on with it where it has holes. Linear samples.
#[derive(Clone, Debug)]
pub struct Concealer {
    /// At 8 kHz.
    past: Past<HISTORY, RINGING>,
    /// In its place at 16 kHz: most streams have 8 kHz, and need not hold the room.
    wide: Option<Box<WidePast>>,
    state: State,
    voice: Voice,
    floor: Floor,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing was heard just now that could go on.
    Nothing,
    /// The history goes up to now.
    Following,
    /// So many samples behind the history were concealed.
    Lost(usize),
}

/// What is remembered at one rate.
#[derive(Clone, Debug)]
struct Past<const SAMPLES: usize, const RINGS: usize> {
    /// The newest sample comes last.
    history: [i16; SAMPLES],
    /// What is added behind the joint of a loop of one period, of two, of three.
    ringings: [[i16; RINGS]; PERIODS_MAX],
}

impl<const SAMPLES: usize, const RINGS: usize> Past<SAMPLES, RINGS> {
    const NOTHING: Self = Self { history: [0; SAMPLES], ringings: [[0; RINGS]; PERIODS_MAX] };

    /// What is added to a loop of so many periods.
    fn ringing(&self, periods: usize) -> &[i16] {
        self.ringings.get(periods - 1).map_or(&[], <[i16; RINGS]>::as_slice)
    }

    fn ringing_mut(&mut self, periods: usize) -> &mut [i16] {
        self.ringings.get_mut(periods - 1).map_or(&mut [], <[i16; RINGS]>::as_mut_slice)
    }
}

/// What a [`Concealer`] remembers of a stream at 16 kHz.
#[derive(Clone, Debug)]
pub struct WidePast(Past<HISTORY_MAX, RINGING_MAX>);

impl Default for WidePast {
    fn default() -> Self {
        Self(Past::NOTHING)
    }
}

/// How what was heard goes on.
#[derive(Clone, Debug)]
struct Voice {
    /// In samples.
    period: usize,
    /// How sure it is that it goes on like that: what was not periodic is made quieter, since it would be heard
    /// as a buzz that was not there.
    level: f32,
}

impl Default for Concealer {
    fn default() -> Self {
        Self::new(1)
    }
}

impl Concealer {
    /// One for audio at `factor` times 8 kHz, 1 or 2. That of 16 kHz allocates.
    #[must_use]
    pub fn new(factor: usize) -> Self {
        Self::with((factor >= 2).then(Box::default))
    }

    /// One for audio at 16 kHz with room for it, else at 8.
    fn with(wide: Option<Box<WidePast>>) -> Self {
        Self {
            past: Past::NOTHING,
            wide,
            state: State::Nothing,
            voice: Voice { period: PERIOD_MIN, level: 1.0 },
            floor: Floor::default(),
        }
    }

    /// Has the processor fetch what is read and written where nothing is lost, but at 8 kHz alone what is remembered.
    pub fn fetch(&self) {
        fetch(&self.past.history);
        fetch(&self.wide);
        fetch(&self.state);
        fetch(&self.voice);
        fetch(&self.floor);
    }

    /// Begins anew at the other rate. The room that takes at 16 kHz comes from `room`, and goes back there.
    pub fn change_rate(&mut self, room: &mut Option<Box<WidePast>>) {
        let wide = match self.wide.take() {
            Some(wide) => {
                *room = Some(wide);
                None
            }
            None => room.take().map(|mut room| {
                *room = WidePast::default();
                room
            }),
        };
        *self = Self::with(wide);
    }

    /// Its rate in units of 8 kHz.
    #[must_use]
    pub const fn factor(&self) -> usize {
        if self.is_wide() { 2 } else { 1 }
    }

    /// Whether it is for audio at 16 kHz.
    #[must_use]
    pub const fn is_wide(&self) -> bool {
        self.wide.is_some()
    }

    /// Samples were received. After a loss what was concealed is faded into them; true when that changed
    /// them.
    pub fn heard(&mut self, samples: &mut [i16]) -> bool {
        self.floor.observe(samples);
        let changed = match self.state {
            State::Nothing => {
                self.floor.speaks();
                false
            }
            State::Following => false,
            State::Lost(lost) => {
                self.fade(lost, samples);
                self.remember_concealed(lost);
                true
            }
        };
        self.remember(samples);
        self.state = State::Following;
        changed
    }

    /// Fills the place of lost samples.
    pub fn conceal(&mut self, out: &mut [i16]) {
        let lost = match self.state {
            State::Nothing => {
                self.floor.fill(out);
                return;
            }
            State::Following => {
                self.begin();
                0
            }
            State::Lost(lost) => lost,
        };
        for (place, at) in out.iter_mut().zip(lost..) {
            let gain = self.gain_at(at);
            let noise = if gain < 1.0 { self.floor.sample() * (1.0 - gain) } else { 0.0 };
            let voice = if gain > 0.0 { self.voice_at(at) * gain } else { 0.0 };
            *place = (voice + noise) as i16;
        }
        self.state = State::Lost(lost.saturating_add(out.len()));
    }

    /// What comes next does not follow on what was heard, since a piece was cut out between them: it is
    /// faded in.
    pub fn cut(&mut self) {
        if self.state == State::Following {
            self.begin();
            self.state = State::Lost(0);
        }
    }

    /// The peer pauses: fills its time with the noise of the line. Nothing is left to go on.
    pub fn pause(&mut self, out: &mut [i16]) {
        self.state = State::Nothing;
        self.floor.fill(out);
    }

    /// Another stream, or none: nothing of what was heard is of any use.
    pub fn forget(&mut self) {
        self.state = State::Nothing;
        self.floor = Floor::default();
    }

    /// The peer says how loud its noise is (RFC 3389 §3.1), in dB below full scale.
    pub fn noise_is(&mut self, below_full_db: u8) {
        self.floor.is_told(below_full_db);
    }

    /// Samples this quiet may be left out or doubled without anybody noticing.
    #[must_use]
    pub fn is_quiet(&self, samples: &[i16]) -> bool {
        self.floor.is_quiet(samples)
    }

    /// The last that was heard was so quiet, or nothing was.
    #[must_use]
    pub fn was_quiet(&self) -> bool {
        self.floor.was_quiet()
    }

    /// Mean squares: of what was heard last, and of the quietest moments, if any.
    #[must_use]
    pub fn powers(&self) -> (f32, Option<f32>) {
        self.floor.powers()
    }

    /// The history at this rate.
    fn past(&self) -> &[i16] {
        match &self.wide {
            Some(wide) => &wide.0.history,
            None => &self.past.history,
        }
    }

    /// The sample so far behind the history's end, 1 is its last.
    fn back(&self, by: usize) -> f32 {
        let past = self.past();
        let at = past.len().checked_sub(by);
        at.and_then(|at| past.get(at)).map_or(0.0, |s| f32::from(*s))
    }

    fn remember(&mut self, samples: &[i16]) {
        let history: &mut [i16] = match &mut self.wide {
            Some(wide) => &mut wide.0.history,
            None => &mut self.past.history,
        };
        let length = history.len();
        let new = samples.get(samples.len().saturating_sub(length)..).unwrap_or_default();
        history.copy_within(new.len().., 0);
        let place = history.iter_mut().skip(length - new.len());
        for (place, sample) in place.zip(new) {
            *place = *sample;
        }
    }

    /// What was concealed becomes part of the history.
    fn remember_concealed(&mut self, lost: usize) {
        let mut concealed = [0; HISTORY_MAX];
        let count = lost.min(HISTORY * self.factor());
        for (place, at) in concealed.iter_mut().zip(lost - count..lost) {
            *place = self.faded_at(at) as i16;
        }
        self.remember(concealed.get(..count).unwrap_or_default());
    }

    /// Fades from what was concealed into what was heard (Appendix I: a quarter of a period, and 4 ms for
    /// each 10 ms that were lost, 10 ms at most).
    fn fade(&self, lost: usize, samples: &mut [i16]) {
        let step = STEP * self.factor();
        let more = lost / step * (step * 2 / 5);
        let length = (self.voice.period / 4 + more).min(step).min(samples.len());
        for (at, sample) in samples.iter_mut().take(length).enumerate() {
            let rising = (at + 1) as f32 / (length + 1) as f32;
            let mixed = f32::from(*sample) * rising + self.faded_at(lost + at) * (1.0 - rising);
            *sample = mixed as i16;
        }
    }

    fn faded_at(&self, at: usize) -> f32 {
        let gain = self.gain_at(at);
        if gain > 0.0 { self.voice_at(at) * gain } else { 0.0 }
    }

    fn gain_at(&self, at: usize) -> f32 {
        let steps = at as f32 / (STEP * self.factor()) as f32;
        let falling = (1.0 - FALL * (steps - 1.0)).clamp(0.0, 1.0);
        falling * (1.0 - (1.0 - self.voice.level) * (steps * 2.0).min(1.0))
    }

    /// The voice as it goes on, `at` samples behind the history.
    fn voice_at(&self, at: usize) -> f32 {
        let step = STEP * self.factor();
        let periods = (at / step + 1).min(PERIODS_MAX);
        let looped = self.loop_at(at, periods);
        let into = at % step;
        let length = self.voice.period / 4;
        if periods == 1 || at >= PERIODS_MAX * step || into >= length {
            return looped;
        }
        let rising = (into + 1) as f32 / (length + 1) as f32;
        looped * rising + self.loop_at(at, periods - 1) * (1.0 - rising)
    }

    /// The same where so many periods are repeated in turn.
    fn loop_at(&self, at: usize, periods: usize) -> f32 {
        let length = self.voice.period * periods;
        let place = at % length.max(1);
        let ringing = match &self.wide {
            Some(wide) => wide.0.ringing(periods),
            None => self.past.ringing(periods),
        };
        let ringing = ringing.get(place);
        self.back(length - place) + ringing.map_or(0.0, |it| f32::from(*it))
    }
}

impl Concealer {
    /// Finds out how what was heard goes on.
    fn begin(&mut self) {
        let (period, alike) = self.period();
        let predictor = predictor(self.past());
        self.voice.period = period;
        self.voice.level = alike.clamp(LEVEL_MIN, 1.0);
        for periods in 1..=PERIODS_MAX {
            let ringing = self.ringing(&predictor, period * periods);
            let places = match &mut self.wide {
                Some(wide) => wide.0.ringing_mut(periods),
                None => self.past.ringing_mut(periods),
            };
            for (place, sample) in places.iter_mut().zip(&ringing) {
                *place = *sample;
            }
        }
    }

    /// How the difference between the last samples and those `length` before them rings out.
    fn ringing(&self, predictor: &[f32; ORDER], length: usize) -> [i16; RINGING_MAX] {
        let mut last = [0.0; ORDER];
        for (place, by) in last.iter_mut().zip(1..) {
            *place = self.back(by) - self.back(length + by);
        }
        let count = RINGING * self.factor();
        let mut ringing = [0; RINGING_MAX];
        for (at, place) in ringing.iter_mut().take(count).enumerate() {
            let next: f32 = predictor.iter().zip(&last).map(|(tap, before)| tap * before).sum();
            last.copy_within(..ORDER - 1, 1);
            last[0] = next;
            *place = (next * (count - at) as f32 / count as f32) as i16;
        }
        ringing
    }

    /// The period at which the last 8 ms resemble what was before them most, in samples: found at 4 kHz, and
    /// then to the sample.
    fn period(&self) -> (usize, f32) {
        let by = 2 * self.factor();
        let mut coarse = [0.0; HISTORY / 2];
        let past = self.past();
        for (place, samples) in coarse.iter_mut().zip(past.chunks_exact(by)) {
            *place = samples.iter().map(|sample| f32::from(*sample)).sum();
        }
        let (near, _) = most_alike(&coarse, WINDOW / 2, PERIOD_MIN / 2, PERIOD_MAX / 2);
        let near = near * by;
        let mut fine = [0.0; HISTORY_MAX];
        for (place, sample) in fine.iter_mut().zip(past) {
            *place = f32::from(*sample);
        }
        let fine = fine.get(..past.len()).unwrap_or_default();
        let (least, most) = (PERIOD_MIN * self.factor(), PERIOD_MAX * self.factor());
        let from = near.saturating_sub(by - 1).max(least);
        most_alike(fine, WINDOW * self.factor(), from, (near + by - 1).min(most))
    }
}

/// The lag between `least` and `most` at which the last `window` samples correlate most with those before, and
/// how much, 0 to 1.
fn most_alike(samples: &[f32], window: usize, least: usize, most: usize) -> (usize, f32) {
    let from = samples.len().saturating_sub(window);
    let newest = samples.get(from..).unwrap_or_default();
    let (mut best, mut found) = (f32::MIN, least);
    for lag in least..=most {
        let before = from.checked_sub(lag).and_then(|at| samples.get(at..at + window));
        let Some(before) = before else { break };
        let alike = dot(newest, before);
        // Of the square only the sign is lost.
        let score = alike * alike.abs() / (dot(before, before) + 1.0);
        if score > best {
            (best, found) = (score, lag);
        }
    }
    let loudness = dot(newest, newest).max(1.0);
    (found, (best / loudness).max(0.0).sqrt())
}

/// Several sums side by side, which the compiler turns into vectors.
fn dot(one: &[f32], two: &[f32]) -> f32 {
    const LANES: usize = 8;
    let mut sums = [0.0_f32; LANES];
    for (one, two) in one.as_chunks::<LANES>().0.iter().zip(two.as_chunks::<LANES>().0) {
        for ((sum, one), two) in sums.iter_mut().zip(one).zip(two) {
            *sum += one * two;
        }
    }
    sums.iter().sum()
}

/// The taps that predict a sample from those before it, the nearest first: by the method of Levinson and
/// Durbin over the last 20 ms of 8 kHz.
fn predictor(past: &[i16]) -> [f32; ORDER] {
    const SPAN: usize = 240;
    /// Of the window, a cosine that rises over most of it.
    const RISE: usize = 210;
    let mut weighted = [0.0_f32; SPAN];
    let from = past.len().saturating_sub(SPAN);
    for (at, (place, sample)) in weighted.iter_mut().zip(past.iter().skip(from)).enumerate() {
        let turn = if at < RISE {
            at as f32 / (2 * RISE) as f32
        } else {
            0.25 + (at - RISE) as f32 / (4 * (SPAN - RISE)) as f32
        };
        *place = f32::from(*sample) * (turn * std::f32::consts::TAU / 2.0).sin();
    }
    let mut alike = [0.0_f32; ORDER + 1];
    for (lag, place) in alike.iter_mut().enumerate() {
        let later = weighted.iter().skip(lag);
        *place = later.zip(&weighted).map(|(one, two)| one * two).sum();
    }
    levinson(&mut alike)
}

fn levinson(alike: &mut [f32; ORDER + 1]) -> [f32; ORDER] {
    /// White noise 40 dB below, which keeps the filter stable.
    const WHITE: f32 = 1.000_1;
    /// Each tap is so much smaller than the one before, which lets it ring out sooner.
    const SHORTER: f32 = 0.99;
    let mut taps = [0.0_f32; ORDER];
    alike[0] = alike[0] * WHITE + 1.0;
    let mut left = alike[0];
    for order in 0..ORDER {
        let known: f32 = taps
            .iter()
            .take(order)
            .zip(alike.iter().take(order + 1).rev())
            .map(|(tap, alike)| tap * alike)
            .sum();
        let reflected = (alike.get(order + 1).copied().unwrap_or(0.0) - known) / left;
        let before = taps;
        for (at, tap) in taps.iter_mut().enumerate().take(order) {
            *tap -= reflected * before.get(order - 1 - at).copied().unwrap_or(0.0);
        }
        if let Some(tap) = taps.get_mut(order) {
            *tap = reflected;
        }
        left *= 1.0 - reflected * reflected;
    }
    let mut share = 1.0;
    for tap in &mut taps {
        share *= SHORTER;
        *tap *= share;
    }
    taps
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::frame::FRAME_SAMPLES;
    use crate::audio::g711;
    use crate::audio::g722;
    use crate::audio::tone::Tone;
    use crate::audio::voice::Voice as Speaker;
    use crate::types::codec::Law;
    use crate::types::random::Random;

    /// Speech of the built-in agent: what a synthesis program said.
    const SPEECH: [&[u8]; 5] = [
        include_bytes!("../agent/builtin/prompts/greeting.ulaw"),
        include_bytes!("../agent/builtin/prompts/message.ulaw"),
        include_bytes!("../agent/builtin/prompts/noted.ulaw"),
        include_bytes!("../agent/builtin/prompts/more.ulaw"),
        include_bytes!("../agent/builtin/prompts/goodbye.ulaw"),
    ];

    fn speech() -> Vec<i16> {
        let encoded = SPEECH.concat();
        let mut linear = vec![0; encoded.len()];
        g711::decode(Law::Mu, &encoded, &mut linear);
        linear
    }

    /// The same at 16 kHz.
    fn wide(narrow: &[i16]) -> Vec<i16> {
        let mut wide = Vec::new();
        crate::audio::resample::Resampler::up(2).push(narrow, &mut wide);
        wide
    }

    fn energy(samples: impl Iterator<Item = f64>) -> f64 {
        samples.map(|sample| sample * sample).sum()
    }

    /// Mean signal to noise of the frames that were lost, in dB; silent ones aside.
    fn segmental(original: &[i16], heard: &[i16], lost: &[bool], frame: usize) -> f64 {
        let (mut sum, mut count) = (0.0, 0.0);
        let frames = original.chunks_exact(frame).zip(heard.chunks_exact(frame)).enumerate();
        for (at, (original, heard)) in frames {
            let signal = energy(original.iter().map(|s| f64::from(*s)));
            if !lost[at] || signal < 40_000.0 * frame as f64 {
                continue;
            }
            let noise = original.iter().zip(heard).map(|(a, b)| f64::from(*a) - f64::from(*b));
            let ratio = 10.0 * (signal / energy(noise).max(1.0)).log10();
            sum += ratio.clamp(-10.0, 35.0);
            count += 1.0;
        }
        assert!(count > 10.0, "{count} frames");
        sum / count
    }

    /// Signal to noise of the whole, in dB.
    fn overall(original: &[i16], heard: &[i16]) -> f64 {
        let noise = original.iter().zip(heard).map(|(a, b)| f64::from(*a) - f64::from(*b));
        10.0 * (energy(original.iter().map(|s| f64::from(*s))) / energy(noise)).log10()
    }

    fn losses(seed: u32, percent: u64, frames: usize) -> Vec<bool> {
        let mut random = Random::from_seed(u64::from(seed));
        (0..frames).map(|_| random.below(100) < percent).collect()
    }

    fn repeated(original: &[i16], lost: &[bool], frame: usize) -> Vec<i16> {
        let mut last = vec![0; frame];
        let frames = original.chunks_exact(frame).zip(lost);
        let play = frames.map(|(heard, lost)| {
            if !lost {
                last = heard.to_vec();
            }
            last.clone()
        });
        play.flatten().collect()
    }

    fn concealed(original: &[i16], lost: &[bool], factor: usize) -> Vec<i16> {
        let mut concealer = Concealer::new(factor);
        let frames = original.chunks_exact(FRAME_SAMPLES * factor).zip(lost);
        let play = frames.map(|(heard, lost)| {
            let mut frame = heard.to_vec();
            if *lost {
                concealer.conceal(&mut frame);
            } else {
                concealer.heard(&mut frame);
            }
            frame
        });
        play.flatten().collect()
    }

    #[test]
    fn at_5_percent_loss_it_is_3_db_better_than_the_last_frame_again() {
        let narrow = speech();
        for (factor, original) in [(1, narrow.clone()), (2, wide(&narrow))] {
            let frame = FRAME_SAMPLES * factor;
            let (mut lost_gain, mut whole_gain, rounds) = (0.0, 0.0, 20);
            for seed in 0..rounds {
                let lost = losses(seed, 5, original.len() / frame);
                let again = repeated(&original, &lost, frame);
                let ours = concealed(&original, &lost, factor);
                let segments = |heard: &[i16]| segmental(&original, heard, &lost, frame);
                lost_gain += (segments(&ours) - segments(&again)) / f64::from(rounds);
                let whole = |heard: &[i16]| overall(&original[..again.len()], heard);
                whole_gain += (whole(&ours) - whole(&again)) / f64::from(rounds);
            }
            assert!(lost_gain >= 3.0, "{lost_gain:.2} dB at {} kHz", 8 * factor);
            assert!(whole_gain >= 2.0, "{whole_gain:.2} dB at {} kHz", 8 * factor);
        }
    }

    /// Vowels of 160 ms each at 16 kHz, with harmonics up to 7 kHz.
    fn wide_vowels() -> Vec<i16> {
        let (mut random, mut samples) = (Random::from_seed(3), Vec::new());
        for _ in 0..75 {
            let period = 120 + random.below(21) as usize;
            let mut one = vec![0.0_f64; period];
            for harmonic in 1..=7_000 * period / 16_000 {
                let is_low = harmonic * 16_000 < 4_000 * period;
                let peak = if is_low { 3_000.0 / harmonic as f64 } else { 250.0 };
                let begin = random.below(1_000) as f64 / 1_000.0;
                for (at, sample) in one.iter_mut().enumerate() {
                    let turns = (harmonic * at) as f64 / period as f64 + begin;
                    *sample += peak * (turns * std::f64::consts::TAU).sin();
                }
            }
            samples.extend((0..2_560).map(|at| one[at % period] as i16));
        }
        samples
    }

    /// What is heard of G.722 without its lost packets.
    fn over_g722(bytes: &[u8], lost: &[bool]) -> Vec<i16> {
        let (mut decoder, mut concealer) = (g722::Decoder::default(), Concealer::new(2));
        let packets = bytes.chunks_exact(FRAME_SAMPLES).zip(lost);
        let play = packets.map(|(packet, lost)| {
            let mut frame = vec![0; 2 * FRAME_SAMPLES];
            if *lost {
                concealer.conceal(&mut frame);
            } else {
                decoder.decode(packet, &mut frame);
                concealer.heard(&mut frame);
            }
            frame
        });
        play.flatten().collect()
    }

    /// Power from 4.2 to 7.8 kHz of 20 ms at 16 kHz.
    fn upper(samples: &[f64]) -> f64 {
        let at = |hz: u16| {
            let coefficient = 2.0 * (std::f64::consts::TAU * f64::from(hz) / 16_000.0).cos();
            let (mut before, mut last) = (0.0, 0.0);
            for sample in samples {
                (before, last) = (last, sample + coefficient * last - before);
            }
            last * last + before * before - coefficient * last * before
        };
        (4_200..=7_800).step_by(50).map(at).sum()
    }

    #[test]
    fn of_g722_what_is_above_4_khz_goes_on_too() {
        let frame = 2 * FRAME_SAMPLES;
        let vowels = wide_vowels();
        let mut bytes = vec![0; vowels.len() / 2];
        g722::Encoder::default().encode(&vowels, &mut bytes);
        let clean = over_g722(&bytes, &vec![false; bytes.len() / FRAME_SAMPLES]);
        let (mut gain, rounds) = (0.0, 3);
        let (mut there, mut made, mut wrong, mut wrong_again) = (0.0, 0.0, 0.0, 0.0);
        for seed in 0..rounds {
            let lost = losses(seed, 5, clean.len() / frame);
            let ours = over_g722(&bytes, &lost);
            let again = repeated(&clean, &lost, frame);
            let segments = |heard: &[i16]| segmental(&clean, heard, &lost, frame);
            gain += (segments(&ours) - segments(&again)) / f64::from(rounds);
            for at in (0..lost.len()).filter(|at| lost[*at]) {
                let place = at * frame..(at + 1) * frame;
                let of = |heard: &[i16]| -> Vec<f64> {
                    heard[place.clone()].iter().map(|sample| f64::from(*sample)).collect()
                };
                let off = |heard: &[i16]| -> Vec<f64> {
                    of(heard).iter().zip(of(&clean)).map(|(heard, clean)| heard - clean).collect()
                };
                there += upper(&of(&clean));
                made += upper(&of(&ours));
                wrong += upper(&off(&ours));
                wrong_again += upper(&off(&again));
            }
        }
        assert!(gain >= 3.0, "{gain:.2} dB");
        // Concealed at 8 kHz there would be nothing up there.
        assert!((0.5..1.3).contains(&(made / there)), "{made} {there}");
        let upper_gain = 10.0 * (wrong_again / wrong).log10();
        assert!(upper_gain >= 3.0, "{upper_gain:.2} dB above 4 kHz");
    }

    /// A vowel, and what becomes of it without frames `lost`.
    fn vowel(frames: usize, lost: std::ops::Range<usize>) -> (Vec<i16>, Vec<i16>) {
        let mut speaker = Speaker::new();
        let original: Vec<i16> = (0..frames).flat_map(|_| speaker.frame()).collect();
        let lost: Vec<bool> = (0..frames).map(|at| lost.contains(&at)).collect();
        let heard = concealed(&original, &lost, 1);
        (original, heard)
    }

    fn steepest(samples: &[i16]) -> i32 {
        let steps = samples.windows(2).map(|pair| (i32::from(pair[1]) - i32::from(pair[0])).abs());
        steps.max().unwrap_or(0)
    }

    #[test]
    fn a_vowel_goes_on_without_a_step_at_either_end() {
        for begin in 10..30 {
            let (original, heard) = vowel(40, begin..begin + 1);
            let (from, to) = (begin * FRAME_SAMPLES, (begin + 1) * FRAME_SAMPLES);
            let steepest_before = steepest(&original);
            let around = steepest(&heard[from - 10..to + 100]);
            assert!(around <= steepest_before * 5 / 4, "{begin}: {around} {steepest_before}");
            let level = |it: &[i16]| energy(it.iter().map(|s| f64::from(*s)));
            let (was, is) = (level(&original[from..to]), level(&heard[from..to]));
            assert!(is > was / 4.0 && is < was * 4.0, "{begin}: {was} {is}");
        }
    }

    #[test]
    fn what_is_heard_is_untouched_but_for_10_ms_after_a_loss() {
        let (original, heard) = vowel(40, 20..22);
        let (lost, back) = (20 * FRAME_SAMPLES, 22 * FRAME_SAMPLES);
        assert_eq!(heard[..lost], original[..lost]);
        assert_ne!(heard[back..back + 20], original[back..back + 20]);
        assert_eq!(heard[back + 80..], original[back + 80..]);
    }

    #[test]
    fn a_long_loss_ends_in_the_noise_of_the_line_and_in_nothing_else() {
        let mut random = Random::from_seed(5);
        let mut speaker = Speaker::new();
        let mut narrow: Vec<i16> =
            (0..100 * FRAME_SAMPLES).map(|_| random.below(241) as i16 - 120).collect();
        (0..50).for_each(|_| narrow.extend(speaker.frame()));
        for (factor, original) in [(1, narrow.clone()), (2, wide(&narrow))] {
            let mut concealer = Concealer::new(factor);
            let frame = FRAME_SAMPLES * factor;
            for heard in original.chunks_exact(frame) {
                concealer.heard(&mut heard.to_vec());
            }
            let levels: Vec<f64> = (0..6)
                .map(|_| {
                    let mut made = vec![0; frame];
                    concealer.conceal(&mut made);
                    (energy(made.iter().map(|s| f64::from(*s))) / frame as f64).sqrt()
                })
                .collect();
            let falls = levels[0] > 150.0 && levels[0] > levels[1] && levels[1] > levels[2];
            assert!(falls, "{factor}: {levels:?}");
            // Even noise of peak 120 has an rms of 69.
            let is_noise = levels[3..].iter().all(|level| (40.0..80.0).contains(level));
            assert!(is_noise, "{factor}: {levels:?}");
        }
    }

    #[test]
    fn nothing_is_made_of_silence_or_after_a_pause() {
        let mut concealer = Concealer::default();
        let mut frame = [1; FRAME_SAMPLES];
        concealer.conceal(&mut frame);
        assert_eq!(frame, [0; FRAME_SAMPLES]);
        let mut tone = Tone::new(400, 10_000);
        concealer.heard(&mut [0; FRAME_SAMPLES]);
        concealer.heard(&mut tone.frame());
        concealer.pause(&mut frame);
        concealer.conceal(&mut frame);
        assert_eq!(frame, [0; FRAME_SAMPLES]);
        let mut after = tone.frame();
        assert!(!concealer.heard(&mut after), "nothing is faded into what follows a pause");
    }

    #[test]
    fn a_cut_is_faded_over() {
        let (mut tone, mut concealer) = (Tone::new(430, 10_000), Concealer::default());
        (0..5).for_each(|_| assert!(!concealer.heard(&mut tone.frame())));
        let mut last = tone.frame();
        concealer.heard(&mut last);
        let _left_out = tone.frame();
        let mut next = tone.frame();
        concealer.cut();
        assert!(concealer.heard(&mut next));
        let joint = [&last[140..], &next[..60]].concat();
        assert!(steepest(&joint) < 4_600, "{}", steepest(&joint));
    }

    #[test]
    fn the_room_of_16_khz_is_lent_and_nothing_of_before_is_left_in_it() {
        assert!(size_of::<Concealer>() <= 1_280, "{}", size_of::<Concealer>());
        let speech = wide(&speech());
        let mut room = Some(Box::default());
        let mut concealer = Concealer::default();
        for part in speech.chunks_exact(2 * FRAME_SAMPLES).skip(100).step_by(7).take(40) {
            concealer.change_rate(&mut room);
            assert!(concealer.is_wide() && room.is_none());
            let heard = |concealer: &mut Concealer| {
                let (mut heard, mut lost) = (part.to_vec(), [0; 2 * FRAME_SAMPLES]);
                concealer.heard(&mut heard);
                concealer.conceal(&mut lost);
                lost
            };
            assert_eq!(heard(&mut concealer), heard(&mut Concealer::new(2)));
            concealer.change_rate(&mut room);
            assert!(!concealer.is_wide() && room.is_some());
        }
    }
}
