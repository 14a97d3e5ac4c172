//! `Resampler`: audio from 8, 16 or 24 kHz to another of these rates, by a polyphase FIR filter.
//!
//! The filter is a windowed sinc of 24 taps for each sample at the lower rate, flat to 85 % of half of that, 3.4 kHz
//! at 8 kHz, and 60 dB down from 115 % on. It delays by half its length, 1.5 ms, and between 16 and 24 kHz by half of
//! that; nothing waits for a block to be full. For each sample in, so many come out as the rates say, over any time
//! and in chunks of any size.

use crate::audio::frame::WIDE_SAMPLES;
use std::f64::consts::PI;

/// Taps for each sample at the lower rate.
const TAPS: usize = 24;
/// Of the Kaiser window: 60 dB.
const BETA: f64 = 5.65;
/// Products that are added side by side.
const LANES: usize = 8;

/// Delay of the filter to or from 8 kHz, in µs: half of its `24 * factor - 1` samples at the higher rate.
pub const DELAY_US: u32 = 1_479;

/// Changes the rate of one stream of samples.
#[derive(Clone, Debug)]
pub struct Resampler {
    /// So many samples come out...
    up: usize,
    /// ... for so many that go in.
    down: usize,
    /// One filter for each place a sample may have between two that go in, taps in the order of time.
    filters: Vec<Vec<f32>>,
    /// What came in and is still under the filter.
    history: Vec<f32>,
    /// Where the next sample to come out is, behind the next to come in: in `up`ths.
    next: usize,
}

impl Resampler {
    /// From 8 kHz to `factor` times that, 2 or 3.
    #[must_use]
    pub fn up(factor: usize) -> Self {
        Self::between(1, factor)
    }

    /// To 8 kHz from `factor` times that, 2 or 3.
    #[must_use]
    pub fn down(factor: usize) -> Self {
        Self::between(factor, 1)
    }

    /// From `from` times 8 kHz to `to` times that, 1 to 3 each.
    #[must_use]
    pub fn between(from: usize, to: usize) -> Self {
        let (up, down) = (to.max(1), from.max(1));
        let taps = filter(up.max(down));
        // The filter is as tall as what it fills the gaps of.
        let gain = up as f32;
        let phase = |phase: usize| {
            let mut taps: Vec<f32> =
                taps.iter().skip(phase).step_by(up).map(|tap| tap * gain).collect();
            // Whole vectors: what is added is the oldest.
            taps.resize(taps.len().next_multiple_of(LANES), 0.0);
            taps.reverse();
            taps
        };
        let filters = (0..up).map(phase).collect();
        let mut resampler = Self { up, down, filters, history: Vec::new(), next: 0 };
        // With this room a frame of a tick never allocates.
        resampler.history.reserve_exact(resampler.length() + WIDE_SAMPLES);
        resampler.reset();
        resampler
    }

    /// Forgets what came in, as if silence had come before.
    pub fn reset(&mut self) {
        self.history.clear();
        self.history.resize(self.length().saturating_sub(1), 0.0);
        self.next = 0;
    }

    /// Takes `samples` and appends what comes out to `out`.
    pub fn push(&mut self, samples: &[i16], out: &mut Vec<i16>) {
        self.history.extend(samples.iter().map(|sample| f32::from(*sample)));
        let length = self.length();
        for window in self.history.windows(length) {
            while let Some(filter) = self.filters.get(self.next) {
                out.push(sample(dot(filter, window)));
                self.next += self.down;
            }
            self.next -= self.up;
        }
        let done = self.history.len().saturating_sub(length.saturating_sub(1));
        self.history.drain(..done);
    }

    fn length(&self) -> usize {
        self.filters.first().map_or(1, Vec::len)
    }
}

fn sample(value: f32) -> i16 {
    // Saturates by itself at both ends.
    value.round() as i16
}

/// Several sums side by side, which the compiler turns into vectors.
fn dot(filter: &[f32], window: &[f32]) -> f32 {
    let mut sums = [0.0_f32; LANES];
    for (taps, samples) in filter.chunks_exact(LANES).zip(window.chunks_exact(LANES)) {
        for ((sum, tap), sample) in sums.iter_mut().zip(taps).zip(samples) {
            *sum += tap * sample;
        }
    }
    sums.iter().sum()
}

/// A low pass of unit gain at `factor` times the lower rate of the two.
fn filter(factor: usize) -> Vec<f32> {
    let length = TAPS * factor;
    let middle = (length as f64 - 1.0) / 2.0;
    // Of the rate it runs at, where it is 6 dB down: between the lower rate's band and its mirror image.
    let cutoff = 0.5 / factor as f64;
    let tap = |n: usize| {
        let t = n as f64 - middle;
        let x = 2.0 * PI * cutoff * t;
        let sinc = if x == 0.0 { 1.0 } else { x.sin() / x };
        let edge = 1.0 - (t / (middle + 0.5)).powi(2);
        2.0 * cutoff * sinc * bessel(BETA * edge.max(0.0).sqrt()) / bessel(BETA)
    };
    let taps: Vec<f64> = (0..length).map(tap).collect();
    let gain: f64 = taps.iter().sum();
    taps.iter().map(|tap| (tap / gain) as f32).collect()
}

/// The modified Bessel function of order 0, by its series.
fn bessel(x: f64) -> f64 {
    let mut term = 1.0;
    let mut sum = 1.0;
    for n in 1..=24 {
        term *= (x / 2.0 / f64::from(n)).powi(2);
        sum += term;
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sine(hz: f64, rate: f64, samples: usize) -> Vec<i16> {
        let wave = |n: usize| (8_000.0 * (2.0 * PI * hz * n as f64 / rate).sin()).round() as i16;
        (0..samples).map(wave).collect()
    }

    /// Signal to noise of what should be a sine of `hz`, in dB, whatever its phase and level.
    fn snr(samples: &[i16], hz: f64, rate: f64) -> f64 {
        let (mut re, mut im, mut energy) = (0.0, 0.0, 0.0);
        for (n, sample) in samples.iter().enumerate() {
            let angle = 2.0 * PI * hz * n as f64 / rate;
            let value = f64::from(*sample);
            re += value * angle.cos();
            im += value * angle.sin();
            energy += value * value;
        }
        let signal = 2.0 * (re * re + im * im) / samples.len() as f64;
        10.0 * (signal / (energy - signal).max(1e-9)).log10()
    }

    fn level(samples: &[i16]) -> f64 {
        let energy: f64 = samples.iter().map(|sample| f64::from(*sample).powi(2)).sum();
        (energy / samples.len() as f64).sqrt()
    }

    fn run(resampler: &mut Resampler, samples: &[i16]) -> Vec<i16> {
        let mut out = Vec::new();
        resampler.push(samples, &mut out);
        out
    }

    #[test]
    fn a_sine_of_the_telephone_band_stays_one_at_every_ratio() {
        for factor in [2, 3] {
            let rate = 8_000.0 * factor as f64;
            // Whole periods behind the filter's beginning.
            for hz in [200.0, 1_000.0, 2_000.0, 3_000.0, 3_400.0] {
                let up = run(&mut Resampler::up(factor), &sine(hz, 8_000.0, 4_800));
                let wide = &up[800 * factor..];
                assert!(
                    snr(wide, hz, rate) > 55.0,
                    "up by {factor} at {hz}: {}",
                    snr(wide, hz, rate)
                );
                let gain = level(wide) / (8_000.0 / 2.0_f64.sqrt());
                assert!((0.98..1.02).contains(&gain), "up by {factor} at {hz}: {gain}");

                let down = run(&mut Resampler::down(factor), &sine(hz, rate, 4_800 * factor));
                let narrow = &down[800..];
                assert!(snr(narrow, hz, 8_000.0) > 55.0, "down by {factor} at {hz}");
                let gain = level(narrow) / (8_000.0 / 2.0_f64.sqrt());
                assert!((0.98..1.02).contains(&gain), "down by {factor} at {hz}: {gain}");
            }
        }
    }

    #[test]
    fn a_sine_of_the_wide_band_stays_one_between_16_and_24_khz() {
        for hz in [200.0, 1_000.0, 3_400.0, 5_000.0, 6_800.0] {
            for (from, to) in [(2, 3), (3, 2)] {
                let (from_hz, to_hz) = (8_000.0 * from as f64, 8_000.0 * to as f64);
                let out = run(&mut Resampler::between(from, to), &sine(hz, from_hz, 4_800 * from));
                let settled = &out[800 * to..];
                assert!(snr(settled, hz, to_hz) > 55.0, "{hz} from {from_hz}");
                let gain = level(settled) / (8_000.0 / 2.0_f64.sqrt());
                assert!((0.98..1.02).contains(&gain), "{hz} from {from_hz}: {gain}");
            }
        }
        let high = run(&mut Resampler::between(3, 2), &sine(10_000.0, 24_000.0, 14_400));
        assert!(level(&high[800..]) < 8.0, "{} of 5657", level(&high[800..]));
    }

    #[test]
    fn what_8_khz_cannot_carry_is_gone_instead_of_folded_back() {
        for (factor, hz) in [(2, 5_000.0), (2, 7_000.0), (3, 5_000.0), (3, 11_000.0)] {
            let rate = 8_000.0 * factor as f64;
            let down = run(&mut Resampler::down(factor), &sine(hz, rate, 4_800 * factor));
            let left = level(&down[800..]);
            assert!(left < 8.0, "{hz} Hz from {rate}: {left} of 5657");
        }
    }

    #[test]
    fn no_sample_is_lost_or_made_in_chunks_of_any_size() {
        let samples = sine(440.0, 24_000.0, 24_000);
        for make in [
            (|| Resampler::up(2)) as fn() -> Resampler,
            || Resampler::up(3),
            || Resampler::down(2),
            || Resampler::down(3),
            || Resampler::between(2, 3),
            || Resampler::between(3, 2),
        ] {
            let whole = run(&mut make(), &samples);
            for size in [1, 7, 160, 4_001] {
                let mut resampler = make();
                let mut pieces = Vec::new();
                for chunk in samples.chunks(size) {
                    resampler.push(chunk, &mut pieces);
                }
                assert!(pieces == whole, "chunks of {size}");
            }
            let Resampler { up, down, .. } = make();
            assert_eq!(whole.len(), samples.len() * up / down);
        }
    }

    #[test]
    fn the_delay_is_as_documented() {
        for factor in [2, 3] {
            let mut click = vec![0; 100];
            click[0] = 10_000;
            let out = run(&mut Resampler::up(factor), &click);
            // The centre of what a click turns into.
            let weight: f64 = out.iter().map(|sample| f64::from(*sample)).sum();
            let moment: f64 = out.iter().enumerate().map(|(n, v)| n as f64 * f64::from(*v)).sum();
            let delay_us = moment / weight / (8.0 * factor as f64) * 1_000.0;
            assert!((delay_us - f64::from(DELAY_US)).abs() < 30.0, "by {factor}: {delay_us} µs");
        }
    }

    #[test]
    fn the_loudest_square_wave_is_cut_and_not_wrapped() {
        let square: Vec<i16> =
            (0..800).map(|n| if n / 8 % 2 == 0 { i16::MAX } else { i16::MIN }).collect();
        let out = run(&mut Resampler::up(2), &square);
        let jumps =
            out.windows(2).filter(|pair| (i32::from(pair[0]) - i32::from(pair[1])).abs() > 60_000);
        assert_eq!(jumps.count(), 0, "an overflow jumps from one end to the other");
    }

    #[test]
    fn a_reset_forgets() {
        let mut resampler = Resampler::down(3);
        run(&mut resampler, &[9_000; 100]);
        resampler.reset();
        assert!(run(&mut resampler, &[0; 300]).iter().all(|sample| *sample == 0));
    }
}
