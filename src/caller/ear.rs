//! `Ear`: how loud it was and which frequency stood out, so that a machine can tell what was heard.

use crate::audio::frame::Pcm;
use std::f32::consts::TAU;
use std::time::Duration;

/// Samples of one spectrum: 128 ms, 7.8 Hz apart.
const WINDOW: usize = 1_024;
const RATE_HZ: f32 = 8_000.0;
/// Mean square from which a frame counts as sound: about -50 dBm0.
const SOUND_MEAN_SQUARE: f32 = 2_400.0;
/// Level of a sine of full scale in µ-law (ITU-T G.711).
const FULL_SCALE_DBM0: f32 = 3.17;
/// Bins next to the peak that belong to it: the width of the window's main lobe.
const LOBE_BINS: usize = 2;
/// Below is hum and offset, no tone of telephony.
const LOWEST_BIN: usize = 8;
const FRAME: Duration = Duration::from_millis(20);
/// How far off a tone may be heard, in Hz.
const TONE_TOLERANCE_HZ: f32 = 10.0;
/// The share of the power a tone has at least.
const TONE_SHARE_MIN: f32 = 0.6;

/// What was heard.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Heard {
    /// How long there was sound, louder than about -50 dBm0.
    pub sound: Duration,
    /// The mean level of the sound, in dBm0; `None`: there was none.
    pub level_dbm0: Option<f32>,
    /// The frequency that stood out, in Hz; `None`: there was too little sound to tell.
    pub frequency_hz: Option<f32>,
    /// The share of the power at that frequency, 0 to 1: near 1 it is a tone.
    pub frequency_share: f32,
}

impl Heard {
    /// Whether it was a tone of `hz`.
    #[must_use]
    pub fn is_tone(&self, hz: u16) -> bool {
        let near = |heard: f32| (heard - f32::from(hz)).abs() <= TONE_TOLERANCE_HZ;
        self.frequency_hz.is_some_and(near) && self.frequency_share >= TONE_SHARE_MIN
    }
}

/// Listens to frames.
#[derive(Clone, Debug)]
pub(super) struct Ear {
    frames: u32,
    /// Sum of the mean squares of the frames with sound.
    squares: f64,
    window: Vec<f32>,
    /// Power of each bin, over all windows.
    power: Vec<f64>,
    turns: Vec<(f32, f32)>,
}

impl Ear {
    pub(super) fn new() -> Self {
        let turn = |n: usize| {
            let angle = TAU * n as f32 / WINDOW as f32;
            (angle.cos(), -angle.sin())
        };
        Self {
            frames: 0,
            squares: 0.0,
            window: Vec::with_capacity(WINDOW),
            power: vec![0.0; WINDOW / 2],
            turns: (0..WINDOW / 2).map(turn).collect(),
        }
    }

    /// Listens to a frame. Silence parts two sounds, so that no spectrum spans both.
    pub(super) fn hear(&mut self, frame: &Pcm) {
        let square = |sample: &i16| f32::from(*sample) * f32::from(*sample);
        let mean_square = frame.iter().map(square).sum::<f32>() / frame.len() as f32;
        if mean_square < SOUND_MEAN_SQUARE {
            self.window.clear();
            return;
        }
        self.frames = self.frames.saturating_add(1);
        self.squares += f64::from(mean_square);
        for sample in frame {
            self.window.push(f32::from(*sample));
            if self.window.len() == WINDOW {
                self.measure();
                self.window.clear();
            }
        }
    }

    /// What was heard so far.
    pub(super) fn heard(&self) -> Heard {
        let mut heard = Heard { sound: FRAME * self.frames, ..Heard::default() };
        if self.frames > 0 {
            let mean = self.squares / f64::from(self.frames);
            let full = f64::from(i16::MAX) * f64::from(i16::MAX) / 2.0;
            heard.level_dbm0 = Some((10.0 * (mean / full).log10()) as f32 + FULL_SCALE_DBM0);
        }
        let total: f64 = self.power.iter().skip(LOWEST_BIN).sum();
        let bins = self.power.iter().enumerate().skip(LOWEST_BIN);
        if total > 0.0
            && let Some((peak, _)) = bins.max_by(|(_, a), (_, b)| a.total_cmp(b))
        {
            heard.frequency_hz = Some(self.frequency(peak));
            let lobe = self.power.iter().skip(peak - LOBE_BINS).take(2 * LOBE_BINS + 1);
            heard.frequency_share = (lobe.sum::<f64>() / total).min(1.0) as f32;
        }
        heard
    }

    /// The frequency of a peak: the centre of power of its lobe.
    fn frequency(&self, peak: usize) -> f32 {
        let lobe = self.power.iter().enumerate().skip(peak - LOBE_BINS).take(2 * LOBE_BINS + 1);
        let (moment, sum) = lobe.fold((0.0, 0.0), |(moment, sum), (bin, power)| {
            (moment + bin as f64 * power, sum + power)
        });
        (moment / sum) as f32 * RATE_HZ / WINDOW as f32
    }

    /// Adds the spectrum of the window: Hann, then a radix-2 Fourier transform in place.
    fn measure(&mut self) {
        let hann = |n: usize| 0.5 - 0.5 * (TAU * n as f32 / WINDOW as f32).cos();
        let shift = WINDOW.leading_zeros() + 1;
        let mut bins = vec![(0.0_f32, 0.0_f32); WINDOW];
        for (n, sample) in self.window.iter().enumerate() {
            if let Some(bin) = bins.get_mut(n.reverse_bits() >> shift) {
                bin.0 = sample * hann(n);
            }
        }
        let mut half = 1;
        while half < WINDOW {
            let step = WINDOW / (2 * half);
            for block in bins.chunks_mut(2 * half) {
                let (low, high) = block.split_at_mut(half);
                let turns = self.turns.iter().step_by(step);
                for ((a, b), (cos, sin)) in low.iter_mut().zip(high).zip(turns) {
                    let turned = (b.0 * cos - b.1 * sin, b.0 * sin + b.1 * cos);
                    *b = (a.0 - turned.0, a.1 - turned.1);
                    *a = (a.0 + turned.0, a.1 + turned.1);
                }
            }
            half *= 2;
        }
        for (sum, (re, im)) in self.power.iter_mut().zip(bins) {
            *sum += f64::from(re) * f64::from(re) + f64::from(im) * f64::from(im);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::frame::FRAME_SAMPLES;
    use crate::audio::tone::Tone;
    use crate::types::random::Random;

    fn heard(frames: impl Iterator<Item = Pcm>) -> Heard {
        let mut ear = Ear::new();
        frames.for_each(|frame| ear.hear(&frame));
        ear.heard()
    }

    #[test]
    fn a_tone_is_heard_with_its_frequency_and_level() {
        for hz in [300, 440, 1_000, 1_004, 3_200] {
            let mut tone = Tone::new(hz, i16::MAX);
            let heard = heard((0..50).map(|_| tone.frame()));
            assert!(heard.is_tone(hz), "{hz}: {heard:?}");
            assert!(!heard.is_tone(hz + 30), "{hz}: {heard:?}");
            let off = heard.frequency_hz.unwrap() - f32::from(hz);
            assert!(off.abs() < 2.0, "{hz}: {heard:?}");
            assert!((heard.level_dbm0.unwrap() - FULL_SCALE_DBM0).abs() < 0.1, "{heard:?}");
            assert_eq!(heard.sound, Duration::from_secs(1));
        }
    }

    #[test]
    fn noise_is_no_tone_and_silence_no_sound() {
        let mut random = Random::from_seed(1);
        let mut noise = || {
            let mut frame = [0_i16; FRAME_SAMPLES];
            frame.fill_with(|| (random.below(8_000) as i16) - 4_000);
            frame
        };
        let loud = heard((0..50).map(|_| noise()));
        assert!(loud.frequency_share < 0.1, "{loud:?}");
        assert_eq!(heard((0..50).map(|_| [3; FRAME_SAMPLES])), Heard::default());
    }

    #[test]
    fn too_short_a_sound_has_a_level_but_no_frequency() {
        let mut tone = Tone::new(440, 8_000);
        let heard = heard((0..3).map(|_| tone.frame()));
        assert_eq!(heard.sound, Duration::from_millis(60));
        assert!(heard.level_dbm0.is_some() && heard.frequency_hz.is_none(), "{heard:?}");
    }
}
