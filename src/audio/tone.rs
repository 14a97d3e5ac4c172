//! Tones: a sine without steps between frames.

use crate::audio::frame::FRAME_SAMPLES;
use crate::audio::frame::Pcm;

const RATE_HZ: f32 = 8_000.0;

/// A continuous sine.
#[derive(Clone, Debug)]
pub struct Tone {
    /// Turns a sample, of 2^32.
    step: u32,
    phase: u32,
    amplitude: f32,
}

impl Tone {
    /// A sine of `hz` with its peak at `amplitude` (0 to 32767).
    #[must_use]
    pub fn new(hz: u16, amplitude: i16) -> Self {
        let step = (f64::from(hz) / f64::from(RATE_HZ) * 4_294_967_296.0) as u32;
        Self { step, phase: 0, amplitude: f32::from(amplitude) }
    }

    /// The next sample.
    pub fn sample(&mut self) -> i16 {
        let turns = self.phase as f32 / 4_294_967_296.0;
        self.phase = self.phase.wrapping_add(self.step);
        ((turns * std::f32::consts::TAU).sin() * self.amplitude) as i16
    }

    /// The next 20 ms.
    pub fn frame(&mut self) -> Pcm {
        let mut frame = [0; FRAME_SAMPLES];
        self.fill(&mut frame);
        frame
    }

    /// The next samples. A tenth of the cost of [`Self::sample`] for each: within a run the sine is
    /// turned on by one multiplication, and each run begins from the exact phase again.
    pub fn fill(&mut self, samples: &mut [i16]) {
        const RUN: usize = 160;
        let angle = |turns: u32| turns as f32 / 4_294_967_296.0 * std::f32::consts::TAU;
        let (turn_sin, turn_cos) = angle(self.step).sin_cos();
        for run in samples.chunks_mut(RUN) {
            let (mut sin, mut cos) = angle(self.phase).sin_cos();
            for sample in run.iter_mut() {
                *sample = (sin * self.amplitude) as i16;
                (sin, cos) = (sin * turn_cos + cos * turn_sin, cos * turn_cos - sin * turn_sin);
                self.phase = self.phase.wrapping_add(self.step);
            }
        }
    }
}

/// How much of the power of `samples` lies at `hz`, 0 to 1 (Goertzel). 0 for silence.
#[must_use]
pub fn share_at(samples: &[i16], hz: u16) -> f32 {
    let omega = std::f32::consts::TAU * f32::from(hz) / RATE_HZ;
    let coefficient = 2.0 * omega.cos();
    let (mut before, mut last, mut power) = (0.0_f32, 0.0_f32, 0.0_f32);
    for sample in samples {
        let sample = f32::from(*sample);
        (before, last) = (last, sample + coefficient * last - before);
        power += sample * sample;
    }
    if power <= 0.0 {
        return 0.0;
    }
    let at = last * last + before * before - coefficient * last * before;
    (2.0 * at / (power * samples.len() as f32)).clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_of_samples_is_the_tone_sample_by_sample() {
        for hz in [50, 440, 1_004, 3_400] {
            let (mut one_by_one, mut at_once) = (Tone::new(hz, 12_000), Tone::new(hz, 12_000));
            let mut samples = [0; 1_000];
            at_once.fill(&mut samples);
            for (index, sample) in samples.iter().enumerate() {
                let expected = one_by_one.sample();
                assert!((sample - expected).abs() <= 6, "{hz} Hz at {index}: {sample} {expected}");
            }
        }
    }

    #[test]
    fn a_tone_has_its_frequency_and_level_over_frames() {
        let mut tone = Tone::new(1_000, 8_000);
        let samples: Vec<i16> = (0..50).flat_map(|_| tone.frame()).collect();
        assert!(share_at(&samples, 1_000) > 0.99);
        assert!(share_at(&samples, 1_100) < 0.01);
        assert!(samples.iter().all(|sample| sample.abs() <= 8_000));
        let peak = samples.iter().max().copied().unwrap_or_default();
        assert!(peak > 7_900, "{peak}");
        let jump = samples.windows(2).map(|pair| (pair[0] - pair[1]).abs()).max();
        assert!(jump < Some(6_300), "no step between frames: {jump:?}");
    }

    #[test]
    fn silence_has_no_frequency() {
        assert_eq!(share_at(&[0; 160], 440).to_bits(), 0.0_f32.to_bits());
    }
}
