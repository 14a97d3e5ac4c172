//! Tells tones from speech: ringing, busy tones, keys pressed in the audio, a test signal.
//!
//! A tone has nearly all of its power at one or two frequencies, which stay where they are; a voice has
//! more harmonics than that, and moves.

use crate::audio::frame::FRAME_SAMPLES;
use crate::audio::frame::Pcm;
use std::f32::consts::PI;
use std::sync::LazyLock;

/// Distance of two bins, in Hz.
const BIN_HZ: usize = 25;
/// Bins from 0 Hz to below half the sample rate.
const BINS: usize = 4_000 / BIN_HZ;
/// Bins whose power is found at a time: as many as the registers of a processor hold, so that nothing of a recurrence
/// is in memory.
const BLOCK_BINS: usize = 20;
const _: () = assert!(BINS.is_multiple_of(BLOCK_BINS), "every bin is in a block");
/// Bins on either side of a peak that its window spreads it over: 100 Hz.
const LOBE_BINS: usize = 4;
/// Frequencies a tone may have.
const PEAKS: usize = 2;
/// Share of the power beside the peaks below which a frame counts as tone: -24 dB. G.711 leaves tones
/// below -28 dB; of voiced frames of speech one in fifty is below it, of a high voice's one in seven.
const REST_MAX: f32 = 0.004;
/// Bins by which the strongest frequency may move from one frame to the next: of two that lie in one lobe either
/// may be the stronger.
const DRIFT_BINS_MAX: usize = LOBE_BINS;

struct Tables {
    window: [f32; FRAME_SAMPLES],
    /// Twice the cosine of each bin's turn in a sample.
    turns: [f32; BINS],
}

static TABLES: LazyLock<Tables> = LazyLock::new(|| {
    let mut tables = Tables { window: [0.0; FRAME_SAMPLES], turns: [0.0; BINS] };
    for (n, place) in tables.window.iter_mut().enumerate() {
        *place = 0.5 - 0.5 * (2.0 * PI * n as f32 / (FRAME_SAMPLES - 1) as f32).cos();
    }
    for (bin, place) in tables.turns.iter_mut().enumerate() {
        *place = 2.0 * (2.0 * PI * (bin * BIN_HZ) as f32 / 8_000.0).cos();
    }
    tables
});

/// Tells tones from speech, frame by frame.
#[derive(Clone, Debug, Default)]
pub struct Tonality {
    /// The strongest bins of the frame before; `None`: there was none.
    peaks: Option<[usize; PEAKS]>,
}

impl Tonality {
    /// Takes the next 20 ms; true when they belong to a tone.
    pub fn push(&mut self, frame: &Pcm) -> bool {
        let mut powers = spectrum(frame);
        let all: f32 = powers.iter().sum();
        let found = [(); PEAKS].map(|()| take_peak(&mut powers));
        let [(first, _), ..] = found;
        // Beside a single tone the next bin is what is left of it.
        let peaks = found.map(|(bin, power)| if power < all * REST_MAX { first } else { bin });
        let rest: f32 = powers.iter().sum();
        let near = |before: &usize| before.abs_diff(first) <= DRIFT_BINS_MAX;
        let stays = self.peaks.is_none_or(|before| before.iter().any(near));
        self.peaks = Some(peaks);
        rest < all * REST_MAX && stays
    }

    /// The frequency of the frame before where it was a single one, in Hz, to the next 25.
    #[must_use]
    pub fn single_hz(&self) -> Option<u16> {
        let [first, second] = self.peaks?;
        (first == second).then(|| u16::try_from(first * BIN_HZ).unwrap_or(u16::MAX))
    }

    /// The frames before do not belong to what follows.
    pub const fn forget(&mut self) {
        self.peaks = None;
    }
}

/// The power in each bin, by Goertzel's recurrence over some bins at a time.
fn spectrum(frame: &Pcm) -> [f32; BINS] {
    let tables = &*TABLES;
    let mut weighed = [0.0; FRAME_SAMPLES];
    for ((place, sample), weight) in weighed.iter_mut().zip(frame).zip(&tables.window) {
        *place = f32::from(*sample) * weight;
    }
    let mut powers = [0.0; BINS];
    let blocks = powers.as_chunks_mut().0.iter_mut().zip(tables.turns.as_chunks().0);
    blocks.for_each(|(block, turns)| *block = powers_at(turns, &weighed));
    powers
}

/// The power in these bins.
fn powers_at(turns: &[f32; BLOCK_BINS], weighed: &[f32; FRAME_SAMPLES]) -> [f32; BLOCK_BINS] {
    let (mut last, mut before) = ([0.0_f32; BLOCK_BINS], [0.0_f32; BLOCK_BINS]);
    for sample in weighed {
        for ((last, before), turn) in last.iter_mut().zip(&mut before).zip(turns) {
            // Of the two sums only one waits for what came last.
            let next = (sample - *before) + turn * *last;
            (*before, *last) = (*last, next);
        }
    }
    let mut powers = [0.0; BLOCK_BINS];
    for (((power, last), before), turn) in powers.iter_mut().zip(&last).zip(&before).zip(turns) {
        *power = (last * last + before * before - turn * last * before).max(0.0);
    }
    powers
}

/// Removes the strongest bin with what the window spread of it, and says which it was, and how strong.
fn take_peak(powers: &mut [f32; BINS]) -> (usize, f32) {
    let strongest = powers.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
    let (bin, power) = strongest.map_or((0, 0.0), |(bin, power)| (bin, *power));
    let lobe = powers.iter_mut().skip(bin.saturating_sub(LOBE_BINS));
    lobe.take(bin.min(LOBE_BINS) + LOBE_BINS + 1).for_each(|power| *power = 0.0);
    (bin, power)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::g711;
    use crate::types::codec::Law;
    use crate::types::random::Random;

    /// Tones of equal strength with noise of this peak, as they come out of G.711.
    fn tones(hz: &[f32], noise: i32, frames: usize) -> Vec<Pcm> {
        let mut random = Random::from_seed(1);
        let sample = |n: usize, random: &mut Random| {
            let time = n as f32 / 8_000.0;
            let tone: f32 = hz.iter().map(|hz| (2.0 * PI * hz * time + hz).sin()).sum();
            let noise = random.below(2 * noise as u64 + 1) as i32 - noise;
            (tone * 4_000.0) as i16 + noise as i16
        };
        let mut all = Vec::new();
        for number in 0..frames {
            let mut frame = [0; FRAME_SAMPLES];
            for (n, place) in frame.iter_mut().enumerate() {
                *place = sample(number * FRAME_SAMPLES + n, &mut random);
            }
            let mut coded = [0; FRAME_SAMPLES];
            g711::encode(Law::Mu, &frame, &mut coded);
            g711::decode(Law::Mu, &coded, &mut frame);
            all.push(frame);
        }
        all
    }

    #[test]
    fn the_tones_of_networks_and_keys_are_tones() {
        let all: &[&[f32]] = &[
            &[400.0],
            &[425.0],
            &[1_000.0],
            &[2_100.0],
            &[350.0, 440.0],
            &[440.0, 480.0],
            &[480.0, 620.0],
            &[400.0, 450.0],
            &[697.0, 1_209.0],
            &[941.0, 1_477.0],
            &[852.0, 1_633.0],
        ];
        for hz in all {
            for noise in [0, 60] {
                let mut tonality = Tonality::default();
                let found = tones(hz, noise, 50).iter().filter(|it| tonality.push(it)).count();
                assert!(found >= 48, "{hz:?} with noise of {noise}: {found} of 50");
            }
        }
    }

    #[test]
    fn what_has_harmonics_or_moves_is_no_tone() {
        let mut tonality = Tonality::default();
        let voiced = tones(&[150.0, 300.0, 450.0, 600.0], 0, 50);
        assert_eq!(voiced.iter().filter(|frame| tonality.push(frame)).count(), 0);
        let mut tonality = Tonality::default();
        // A pitch that leaps by 230 Hz each frame.
        let found = (0..15)
            .filter(|n| tonality.push(&tones(&[200.0 + 230.0 * *n as f32], 0, 1)[0]))
            .count();
        assert!(found <= 1, "{found} of 15");
        let mut random = Random::from_seed(3);
        let mut noise = [0; FRAME_SAMPLES];
        noise.fill_with(|| random.below(8_000) as i16 - 4_000);
        assert!(!Tonality::default().push(&noise));
        assert!(!Tonality::default().push(&[0; FRAME_SAMPLES]), "silence");
    }

    #[test]
    fn a_tone_elsewhere_after_another_counts_once_the_first_is_forgotten() {
        let mut tonality = Tonality::default();
        assert!(tonality.push(&tones(&[440.0], 0, 1)[0]));
        let other = &tones(&[1_000.0], 0, 1)[0];
        assert!(!tonality.clone().push(other));
        tonality.forget();
        assert!(tonality.push(other));
    }
}
