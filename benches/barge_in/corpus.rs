//! What callers' lines carry: speech whose begin is known, and everything that is no speech.
//!
//! The speech is that of the prompts which come with the program, at several pitches; all the rest is arithmetic from
//! a seed, so that every run hears the same.

use crate::trial::PER_MS;
use std::f32::consts::TAU;
use tandem::agent::builtin::prompts;
use tandem::audio::g711;
use tandem::types::random::Random;

const RATE_HZ: f32 = 8_000.0;
/// Level of a sine of full scale, in dBm0 (ITU-T G.711).
const FULL_SCALE_DBM0: f32 = 3.17;
/// Silence of this length parts two utterances of a prompt.
const PAUSE_MS: usize = 150;
/// Speech goes on where 5 ms of it are no further below its active level than this, in dB: the margin of ITU-T P.56.
const ONSET_BELOW_DB: f32 = 15.9;
const STEP: usize = 5 * PER_MS;
/// It begins where it goes on for most of the next 120 ms: a shorter sound need not have the 80 ms in whole packets
/// that are speech to a profile.
const BEGIN_STEPS: usize = 24;
const BEGIN_STEPS_LEAST: usize = 22;

/// Speech that begins with its first sample.
#[derive(Clone, Debug)]
pub(crate) struct Utterance {
    samples: Vec<f32>,
    /// Root mean square of what is not pause.
    active: f32,
}

impl Utterance {
    /// The utterance at this active level.
    pub(crate) fn at(&self, dbm0: f32) -> Vec<f32> {
        let gain = rms_of(dbm0) / self.active;
        self.samples.iter().map(|sample| sample * gain).collect()
    }
}

/// Root mean square of a sound of this level.
pub(crate) fn rms_of(dbm0: f32) -> f32 {
    32_768.0 / 2.0_f32.sqrt() * 10.0_f32.powf((dbm0 - FULL_SCALE_DBM0) / 20.0)
}

/// All that the prompts say, in one.
pub(crate) fn speech() -> Vec<f32> {
    let all = prompts::NAMES.iter().filter_map(|name| prompts::prompt(name));
    all.flat_map(|ulaw| ulaw.to_vec()).map(|byte| f32::from(g711::ulaw_decode(byte))).collect()
}

/// Every utterance of the prompts, spoken so much faster and higher.
pub(crate) fn utterances(pitch: f32) -> Vec<Utterance> {
    let mut all = Vec::new();
    for name in prompts::NAMES {
        let Some(ulaw) = prompts::prompt(name) else { continue };
        let samples: Vec<f32> = ulaw.iter().map(|b| f32::from(g711::ulaw_decode(*b))).collect();
        all.extend(parts(&pitched(&samples, pitch)));
    }
    all
}

/// The same at another speed: the pitch and all resonances move with it.
pub(crate) fn pitched(samples: &[f32], by: f32) -> Vec<f32> {
    let count = (samples.len() as f32 / by) as usize;
    let sample = |n: usize| {
        let place = n as f32 * by;
        let (at, part) = (place as usize, place.fract());
        let value = |at: usize| samples.get(at).copied().unwrap_or_default();
        value(at) * (1.0 - part) + value(at + 1) * part
    };
    (0..count).map(sample).collect()
}

fn rms(samples: &[f32]) -> f32 {
    (samples.iter().map(|sample| sample * sample).sum::<f32>() / samples.len().max(1) as f32).sqrt()
}

/// Cuts at pauses; each part begins where it can be heard.
fn parts(samples: &[f32]) -> Vec<Utterance> {
    let levels: Vec<f32> = samples.chunks_exact(STEP).map(rms).collect();
    let loudest = levels.iter().copied().fold(0.0, f32::max);
    let loud: Vec<f32> = levels.iter().copied().filter(|level| *level > loudest / 10.0).collect();
    let active = rms(&loud);
    let least = active * 10.0_f32.powf(-ONSET_BELOW_DB / 20.0);
    let (mut all, mut quiet) = (Vec::new(), PAUSE_MS);
    for (at, level) in levels.iter().enumerate() {
        let ahead = levels.iter().skip(at).take(BEGIN_STEPS);
        let begins = ahead.filter(|level| **level >= least).count() >= BEGIN_STEPS_LEAST;
        if *level < least || (quiet >= PAUSE_MS && !begins) {
            quiet += 5;
            continue;
        }
        if quiet >= PAUSE_MS {
            let samples = samples.get(at * STEP..).unwrap_or_default().to_vec();
            all.push(Utterance { samples, active });
        }
        quiet = 0;
    }
    // What is followed by hardly anything is the end of a word.
    all.retain(|part| part.samples.len() > 600 * PER_MS);
    all
}

/// An agent that speaks without a pause: speech of which only the loud parts are left.
pub(crate) fn talkative() -> Vec<u8> {
    let all = speech();
    let loud = all.chunks_exact(2 * STEP).filter(|part| rms(part) > 2_000.0).flatten();
    let once: Vec<u8> = loud.map(|sample| g711::ulaw_encode(*sample as i16)).collect();
    once.repeat(3)
}

/// Numbers that look random, from a seed.
pub(crate) struct Dice(Random);

impl Dice {
    /// Those that follow from `seed`.
    pub(crate) fn new(seed: u64) -> Self {
        Self(Random::from_seed(seed))
    }

    /// From -1 to 1.
    pub(crate) fn even(&mut self) -> f32 {
        self.0.below(2_000_001) as f32 / 1_000_000.0 - 1.0
    }

    /// From one to the other.
    pub(crate) fn between(&mut self, low: f32, high: f32) -> f32 {
        low + (self.even() + 1.0) / 2.0 * (high - low)
    }

    /// One of all.
    pub(crate) fn of<T: Copy>(&mut self, all: &[T]) -> Option<T> {
        all.get(self.0.below(all.len().max(1) as u64) as usize).copied()
    }

    /// A number below this one.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0.below(bound.max(1) as u64) as usize
    }
}

/// Kinds of sound that is no speech to the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Noise {
    White,
    Pink,
    Hum,
    /// Eight people at once, far off.
    Babble,
    Clicks,
    /// Which may be the begin of speech, too, and is counted apart.
    Cough,
    /// Ringing, busy and information tones of networks.
    NetworkTones,
    /// Keys in the audio.
    Keys,
    /// A tune of plain notes.
    Tune,
    /// The agent's own words, as a line gives them back.
    Echo,
}

impl Noise {
    /// All that is no speech for sure.
    pub(crate) const ALL: [Self; 9] = [
        Self::White,
        Self::Pink,
        Self::Hum,
        Self::Babble,
        Self::Clicks,
        Self::NetworkTones,
        Self::Keys,
        Self::Tune,
        Self::Echo,
    ];

    /// What it is, for people.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::White => "white noise, -55 to -25 dBm0",
            Self::Pink => "pink noise, -55 to -25 dBm0",
            Self::Hum => "hum of 50 and 60 Hz, -50 to -25 dBm0",
            Self::Babble => "eight voices far off, -50 to -36 dBm0",
            Self::Clicks => "clicks and typing, peaks of -30 to -5 dBm0",
            Self::Cough => "coughs and breath of 80 to 300 ms, -40 to -20 dBm0",
            Self::NetworkTones => "tones of networks, -30 to -10 dBm0",
            Self::Keys => "keys in the audio, -20 to -6 dBm0",
            Self::Tune => "a tune of plain notes, -35 to -18 dBm0",
            Self::Echo => "the agent's echo, 21 to 46 dB down, 20 to 300 ms late",
        }
    }

    /// So much of it, in samples; `agent` is what the agent says meanwhile, from its first sample on.
    pub(crate) fn make(self, dice: &mut Dice, length: usize, agent: &[f32]) -> Vec<f32> {
        match self {
            Self::White => scaled(white(dice, length), dice.between(-55.0, -25.0)),
            Self::Pink => scaled(pink(dice, length), dice.between(-55.0, -25.0)),
            Self::Hum => hum(dice, length),
            Self::Babble => babble(dice, length),
            Self::Clicks => clicks(dice, length),
            Self::Cough => breath(dice, length),
            Self::NetworkTones => network_tones(dice, length),
            Self::Keys => keys(dice, length),
            Self::Tune => tune(dice, length),
            Self::Echo => echo(dice, length, agent),
        }
    }
}

/// At this level.
fn scaled(samples: Vec<f32>, dbm0: f32) -> Vec<f32> {
    let gain = rms_of(dbm0) / rms(&samples).max(1e-9);
    samples.into_iter().map(|sample| sample * gain).collect()
}

/// Adds one to the other from a place on.
pub(crate) fn add(to: &mut [f32], at: usize, what: &[f32]) {
    for (place, sample) in to.iter_mut().skip(at).zip(what) {
        *place += sample;
    }
}

/// White noise of peak 1.
pub(crate) fn white(dice: &mut Dice, length: usize) -> Vec<f32> {
    (0..length).map(|_| dice.even()).collect()
}

/// By Kellet's filter, good to 0.5 dB.
fn pink(dice: &mut Dice, length: usize) -> Vec<f32> {
    let (mut a, mut b, mut c) = (0.0, 0.0, 0.0);
    let next = |_| {
        let white = dice.even();
        a = 0.997 * a + white * 0.029_591;
        b = 0.985 * b + white * 0.032_534;
        c = 0.950 * c + white * 0.048_056;
        a + b + c + white * 0.05
    };
    banded((0..length).map(next).collect())
}

/// What a telephone lets pass from below: little under 300 Hz (two poles).
fn banded(samples: Vec<f32>) -> Vec<f32> {
    let k = (TAU / 2.0 * 300.0 / RATE_HZ).tan();
    let norm = 1.0 / (1.0 + 2.0_f32.sqrt() * k + k * k);
    let (a1, a2) = (2.0 * (k * k - 1.0) * norm, (1.0 - 2.0_f32.sqrt() * k + k * k) * norm);
    let (mut x1, mut x2, mut y1, mut y2) = (0.0, 0.0, 0.0, 0.0);
    let next = |x: f32| {
        let y = norm * (x - 2.0 * x1 + x2) - a1 * y1 - a2 * y2;
        (x2, x1, y2, y1) = (x1, x, y1, y);
        y
    };
    samples.into_iter().map(next).collect()
}

/// A harmonic sound; each part is a frequency and its strength.
fn tones(length: usize, parts: &[(f32, f32)]) -> Vec<f32> {
    let sample = |n: usize| {
        let time = n as f32 / RATE_HZ;
        parts.iter().map(|(hz, strength)| (TAU * hz * time).sin() * strength).sum()
    };
    (0..length).map(sample).collect()
}

/// What a telephone lets pass of hum: its harmonics, the odd ones above all.
fn hum(dice: &mut Dice, length: usize) -> Vec<f32> {
    let base = dice.of(&[50.0, 60.0]).unwrap_or(50.0);
    let part = |k: u8| {
        let odd = if k % 2 == 1 { 1.0 } else { 0.3 };
        (base * f32::from(k), odd / f32::from(k))
    };
    let parts: Vec<_> = (2..=10).map(part).collect();
    let mut samples = scaled(tones(length, &parts), dice.between(-50.0, -25.0));
    add(&mut samples, 0, &scaled(white(dice, length), -60.0));
    samples
}

fn babble(dice: &mut Dice, length: usize) -> Vec<f32> {
    let all = speech();
    let mut mixed = vec![0.0; length];
    for _ in 0..8 {
        let voice = pitched(&all, dice.between(0.75, 1.3));
        let from = dice.below(voice.len());
        let on: Vec<f32> = voice.iter().cycle().skip(from).take(length).copied().collect();
        add(&mut mixed, 0, &on);
    }
    scaled(mixed, dice.between(-50.0, -36.0))
}

/// Impulses that ring for 2 to 15 ms, alone and in runs.
fn clicks(dice: &mut Dice, length: usize) -> Vec<f32> {
    let mut samples = scaled(white(dice, length), -62.0);
    let mut at = dice.below(4_000);
    while at < length {
        let peak = rms_of(dice.between(-30.0, -5.0)) * 2.0_f32.sqrt();
        let (hz, ms) = (dice.between(400.0, 3_000.0), dice.between(2.0, 15.0));
        let fall = |n: usize| (-(n as f32) / (ms * PER_MS as f32 / 3.0)).exp();
        let ring = |n: usize| (TAU * hz * n as f32 / RATE_HZ).cos() * fall(n) * peak;
        let click: Vec<f32> = (0..160).map(ring).collect();
        add(&mut samples, at, &click);
        at += dice.of(&[600, 900, 1_300, 4_000, 9_000]).unwrap_or(900) + dice.below(400);
    }
    samples
}

/// Noise that swells and falls, of one broad resonance.
fn breath(dice: &mut Dice, length: usize) -> Vec<f32> {
    let mut samples = scaled(white(dice, length), -62.0);
    let mut at = 2_000 + dice.below(4_000);
    while at < length {
        let size = (dice.between(80.0, 300.0) as usize) * PER_MS;
        let turn = (TAU * dice.between(500.0, 1_800.0) / RATE_HZ).cos();
        let (mut last, mut before) = (0.0, 0.0);
        let puff = |n: usize| {
            let next = dice.even() + 2.0 * 0.7 * turn * last - 0.49 * before;
            (before, last) = (last, next);
            next * (TAU / 2.0 * n as f32 / size as f32).sin()
        };
        let puff: Vec<f32> = (0..size).map(puff).collect();
        add(&mut samples, at, &scaled(puff, dice.between(-40.0, -20.0)));
        at += size + 6_000 + dice.below(10_000);
    }
    samples
}

/// Frequencies of a tone, and for how many ms it is on and off.
type Cadence = (&'static [f32], usize, usize);

fn network_tones(dice: &mut Dice, length: usize) -> Vec<f32> {
    let all: [Cadence; 6] = [
        (&[440.0, 480.0], 2_000, 4_000),
        (&[425.0], 1_000, 4_000),
        (&[400.0, 450.0], 400, 200),
        (&[480.0, 620.0], 500, 500),
        (&[350.0, 440.0], 10_000, 0),
        (&[425.0], 250, 250),
    ];
    let (hz, on, off) = dice.of(&all).unwrap_or((&[425.0], 500, 500));
    let parts: Vec<_> = hz.iter().map(|hz| (*hz, 1.0)).collect();
    let mut samples = scaled(tones(length, &parts), dice.between(-30.0, -10.0));
    for (n, sample) in samples.iter_mut().enumerate() {
        if n % ((on + off) * PER_MS) >= on * PER_MS {
            *sample = 0.0;
        }
    }
    add(&mut samples, 0, &scaled(white(dice, length), -62.0));
    samples
}

fn keys(dice: &mut Dice, length: usize) -> Vec<f32> {
    let mut samples = scaled(white(dice, length), -62.0);
    let mut at = 2_000 + dice.below(4_000);
    while at < length {
        let low = dice.of(&[697.0, 770.0, 852.0, 941.0]).unwrap_or(697.0);
        let high = dice.of(&[1_209.0, 1_336.0, 1_477.0]).unwrap_or(1_209.0);
        let size = dice.between(60.0, 300.0) as usize * PER_MS;
        let key = scaled(tones(size, &[(low, 1.0), (high, 1.2)]), dice.between(-20.0, -6.0));
        add(&mut samples, at, &key);
        at += size + 400 + dice.below(8_000);
    }
    samples
}

/// Notes of a scale, one after the other, each with what is left of it in the next.
fn tune(dice: &mut Dice, length: usize) -> Vec<f32> {
    let mut samples = scaled(white(dice, length), -62.0);
    let level = dice.between(-35.0, -18.0);
    let mut at = 2_000;
    while at < length {
        let hz = 330.0 * 2.0_f32.powf(dice.below(20) as f32 / 12.0);
        let size = dice.between(150.0, 500.0) as usize * PER_MS;
        let mut note = scaled(tones(size, &[(hz, 1.0)]), level);
        let ramp = 10 * PER_MS;
        for (n, sample) in note.iter_mut().enumerate() {
            *sample *= n.min(size - n).min(ramp) as f32 / ramp as f32;
        }
        add(&mut samples, at, &note);
        at += size;
    }
    samples
}

fn echo(dice: &mut Dice, length: usize, agent: &[f32]) -> Vec<f32> {
    let mut samples = scaled(white(dice, length), -65.0);
    let loss = dice.between(21.0, 46.0);
    let late = dice.between(20.0, 300.0) as usize * PER_MS;
    let gain = 10.0_f32.powf(-loss / 20.0);
    // A hybrid disperses: the strongest path, and two weaker ones around it.
    for (path, share) in [(late, 0.8), (late + 9, -0.4), (late + 31, 0.2)] {
        let back: Vec<f32> = agent.iter().map(|sample| sample * gain * share).collect();
        add(&mut samples, path, &back);
    }
    samples
}

/// As the line has it.
pub(crate) fn line(samples: &[f32]) -> Vec<i16> {
    samples.iter().map(|sample| sample.clamp(-32_000.0, 32_000.0) as i16).collect()
}
