//! Many trials: how soon an agent that is interrupted falls silent, and how often it does for nothing.

use crate::corpus;
use crate::corpus::Dice;
use crate::corpus::Noise;
use crate::corpus::Utterance;
use crate::trial;
use crate::trial::Outcome;
use crate::trial::PER_MS;
use crate::trial::Scene;
use crate::trial::Setting;
use tandem::audio::g711;
use tandem::types::barge_in::BargeInMode;

/// Pitches of the callers: from a deep voice to a child's.
const PITCHES: [f32; 5] = [0.8, 0.9, 1.0, 1.12, 1.25];
/// Active levels of the callers, in dBm0: quiet to loud for a telephone.
const LEVELS_DBM0: [f32; 5] = [-28.0, -24.0, -20.0, -16.0, -12.0];
/// What else is on a caller's line.
const LINE_NOISE_DBM0: [f32; 3] = [-65.0, -55.0, -48.0];
/// The agent speaks for so long before the caller does, at least.
const LEAD_MS: usize = 600;
/// How long the caller speaks.
const SPEECH_MS: usize = 1_500;
/// Length of a trial with noise.
const NOISE_MS: usize = 5_000;

/// From the onset of speech to silence on the wire, in ms, of so many callers who speak over an agent; in order. One
/// who does not interrupt it has `f32::INFINITY`.
pub(crate) fn interruptions(count: usize, depth_ms: u16) -> Vec<f32> {
    let voices: Vec<Vec<Utterance>> = PITCHES.map(corpus::utterances).into();
    let agent = corpus::talkative();
    let mut dice = Dice::new(1);
    let mut all: Vec<f32> =
        (0..count).map(|_| interruption(&mut dice, &voices, &agent, depth_ms)).collect();
    all.sort_by(f32::total_cmp);
    all
}

fn interruption(dice: &mut Dice, voices: &[Vec<Utterance>], agent: &[u8], depth_ms: u16) -> f32 {
    let onset = LEAD_MS * PER_MS + dice.below(400 * PER_MS);
    let length = onset + SPEECH_MS * PER_MS;
    let noise = dice.of(&LINE_NOISE_DBM0).unwrap_or(-65.0);
    let gain = corpus::rms_of(noise) * 3.0_f32.sqrt();
    let mut samples: Vec<f32> =
        corpus::white(dice, length).into_iter().map(|sample| sample * gain).collect();
    let voice = voices.get(dice.below(voices.len())).map_or(&[][..], Vec::as_slice);
    let level = dice.of(&LEVELS_DBM0).unwrap_or(-20.0);
    if let Some(said) = voice.get(dice.below(voice.len())) {
        corpus::add(&mut samples, onset, &said.at(level));
    }
    let phase_us = dice.below(5_000) as u64;
    let setting = Setting { phase_us, ..Setting::usual(BargeInMode::Flush, depth_ms) };
    let outcome = trial::run(setting, &Scene { caller: &corpus::line(&samples), agent });
    let onset_us = (onset * 1_000 / PER_MS) as u64;
    match outcome {
        // One that stopped before was not stopped by the caller.
        Outcome { interrupted: 1, silent_at_us: Some(at), .. } if at > onset_us => {
            (at - onset_us) as f32 / 1_000.0
        }
        Outcome { .. } => f32::INFINITY,
    }
}

/// The value that this share of all is not above.
pub(crate) fn percentile(ordered: &[f32], share: f32) -> f32 {
    let rank = (ordered.len() as f32 * share).ceil() as usize;
    ordered.get(rank.saturating_sub(1)).copied().unwrap_or(f32::INFINITY)
}

/// In how many of so many trials an agent was stopped, and in how many it waited for nothing.
pub(crate) fn false_stops(noise: Noise, mode: BargeInMode, count: usize) -> (usize, usize) {
    let words = corpus::speech();
    let mut dice = Dice::new(2 + noise as u64);
    let (mut stopped, mut waited) = (0, 0);
    for _ in 0..count {
        let from = dice.below(words.len());
        let length = NOISE_MS * PER_MS;
        let agent: Vec<f32> = words.iter().cycle().skip(from).take(2 * length).copied().collect();
        let heard = noise.make(&mut dice, length, &agent);
        let said: Vec<u8> = agent.iter().map(|it| g711::ulaw_encode(*it as i16)).collect();
        let setting = Setting::usual(mode, 20);
        let outcome = trial::run(setting, &Scene { caller: &corpus::line(&heard), agent: &said });
        stopped += usize::from(outcome.interrupted > 0);
        waited += usize::from(outcome.resumed > 0);
    }
    (stopped, waited)
}
