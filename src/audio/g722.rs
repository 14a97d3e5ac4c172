//! G.722 at 64 kb/s: audio at 16 kHz in two bands of adaptive differential samples (ITU-T G.722).
//!
//! Each byte holds two samples: six bits of the lower band, two of the higher. The names of the steps are those of
//! the recommendation's blocks; all arithmetic is its own, so that every decoder of it makes the same samples.

/// Taps of each of the two filters that part the bands (table 11).
const QMF: [i32; 12] = [3, -11, 12, 32, -210, 951, 3876, -805, 362, -156, 53, -11];
/// Samples at 16 kHz under the filters.
const QMF_SAMPLES: usize = 24;

/// Decision levels of the lower band (table 14).
const Q6: [i32; 29] = [
    35, 72, 110, 150, 190, 233, 276, 323, 370, 422, 473, 530, 587, 650, 714, 786, 858, 940, 1023,
    1121, 1219, 1339, 1458, 1612, 1765, 1980, 2195, 2557, 2919,
];
/// What six bits of the lower band mean (table 16).
const QM6: [i32; 64] = [
    -136, -136, -136, -136, -24808, -21904, -19008, -16704, -14984, -13512, -12280, -11192, -10232,
    -9360, -8576, -7856, -7192, -6576, -6000, -5456, -4944, -4464, -4008, -3576, -3168, -2776,
    -2400, -2032, -1688, -1360, -1040, -728, 24808, 21904, 19008, 16704, 14984, 13512, 12280,
    11192, 10232, 9360, 8576, 7856, 7192, 6576, 6000, 5456, 4944, 4464, 4008, 3576, 3168, 2776,
    2400, 2032, 1688, 1360, 1040, 728, 432, 136, -432, -136,
];
/// What its four higher bits mean, by which the predictor adapts (table 18).
const QM4: [i32; 16] = [
    0, -20456, -12896, -8968, -6288, -4240, -2584, -1200, 20456, 12896, 8968, 6288, 4240, 2584,
    1200, 0,
];
/// By how much they change the logarithm of the step (tables 19 and 20).
const STEP_OF_LOW: [i32; 16] =
    [-60, 3042, 1198, 538, 334, 172, 58, -30, 3042, 1198, 538, 334, 172, 58, -30, -60];
/// What the two bits of the higher band mean (table 17).
const QM2: [i32; 4] = [-7408, -1616, 7408, 1616];
/// By how much they change the logarithm of the step (tables 19 and 20).
const STEP_OF_HIGH: [i32; 4] = [798, -214, 798, -214];
/// Powers of two between 1 and 2, by 32 steps (table 21).
const ILB: [i32; 32] = [
    2048, 2093, 2139, 2186, 2233, 2282, 2332, 2383, 2435, 2489, 2543, 2599, 2656, 2714, 2774, 2834,
    2896, 2960, 3025, 3091, 3158, 3228, 3298, 3371, 3444, 3520, 3597, 3676, 3756, 3838, 3922, 4008,
];
/// Limits of the logarithm of the step in each band.
const LOW_STEP_MAX: i32 = 18_432;
const HIGH_STEP_MAX: i32 = 22_528;
/// Where the higher band's two magnitudes part.
const Q2: i32 = 564;

/// Makes bytes of samples.
#[derive(Clone, Debug)]
pub struct Encoder {
    low: Band,
    high: Band,
    past: [i32; QMF_SAMPLES],
}

impl Default for Encoder {
    fn default() -> Self {
        Self { low: Band::new(32), high: Band::new(8), past: [0; QMF_SAMPLES] }
    }
}

impl Encoder {
    /// Encodes `linear` at 16 kHz to `out`, a byte for each two samples, as far as the shorter of the two goes.
    pub fn encode(&mut self, linear: &[i16], out: &mut [u8]) {
        for (byte, [one, two]) in out.iter_mut().zip(linear.as_chunks::<2>().0) {
            let (even, odd) = filtered(&mut self.past, i32::from(*one), i32::from(*two));
            let (low, high) = ((odd + even) >> 14, (odd - even) >> 14);
            *byte = self.high.quantize_high(high) << 6 | self.low.quantize_low(low);
        }
    }
}

/// Makes samples of bytes.
#[derive(Clone, Debug)]
pub struct Decoder {
    low: Band,
    high: Band,
    past: [i32; QMF_SAMPLES],
}

impl Default for Decoder {
    fn default() -> Self {
        Self { low: Band::new(32), high: Band::new(8), past: [0; QMF_SAMPLES] }
    }
}

impl Decoder {
    /// Decodes `bytes` to `out` at 16 kHz, two samples for each, as far as the shorter of the two goes.
    pub fn decode(&mut self, bytes: &[u8], out: &mut [i16]) {
        for ([one, two], byte) in out.as_chunks_mut::<2>().0.iter_mut().zip(bytes) {
            let low = self.low.read_low(*byte & 0x3f);
            let high = self.high.read_high(*byte >> 6);
            let (even, odd) = filtered(&mut self.past, low + high, low - high);
            *one = saturated(odd >> 11) as i16;
            *two = saturated(even >> 11) as i16;
        }
    }
}

/// Takes two samples; the sums of the filter over those of even and of odd place.
fn filtered(past: &mut [i32; QMF_SAMPLES], one: i32, two: i32) -> (i32, i32) {
    past.copy_within(2.., 0);
    past[QMF_SAMPLES - 2] = one;
    past[QMF_SAMPLES - 1] = two;
    let (mut even, mut odd) = (0, 0);
    let pairs = past.as_chunks::<2>().0;
    for (([one, two], tap), mirrored) in pairs.iter().zip(&QMF).zip(QMF.iter().rev()) {
        even += one * tap;
        odd += two * mirrored;
    }
    (even, odd)
}

/// One band: its quantizer's step and its predictor of two poles and six zeros.
#[derive(Clone, Debug)]
struct Band {
    /// Logarithm of the step (`NB`), and the step (`DET`).
    log_step: i32,
    step: i32,
    /// What is expected next (`S`), and the zeros' part of it (`SZ`).
    expected: i32,
    zeros_part: i32,
    /// The poles' factors (`A`), and the last two samples as they were made again (`R`).
    poles: [i32; 2],
    made: [i32; 2],
    /// Signs of the last two sums of difference and zeros' part (`P`).
    signs: [bool; 2],
    /// The zeros' factors (`B`), and the last six differences (`D`).
    zeros: [i32; 6],
    differences: [i32; 6],
}

impl Band {
    const fn new(step: i32) -> Self {
        Self {
            log_step: 0,
            step,
            expected: 0,
            zeros_part: 0,
            poles: [0; 2],
            made: [0; 2],
            signs: [false; 2],
            zeros: [0; 6],
            differences: [0; 6],
        }
    }

    /// QUANTL: six bits of a sample of the lower band.
    fn quantize_low(&mut self, sample: i32) -> u8 {
        let difference = saturated(sample - self.expected);
        let magnitude = if difference < 0 { !difference } else { difference };
        // Where among the levels it lies, 0 to 29.
        let level = Q6.partition_point(|level| (level * self.step) >> 12 <= magnitude) as u8;
        let code = match (difference < 0, level) {
            (true, 0 | 1) => 63 - level,
            (true, _) => 33 - level,
            (false, _) => 61 - level,
        };
        self.adapt_low(code);
        code
    }

    /// The sample that six bits of the lower band mean.
    fn read_low(&mut self, code: u8) -> i32 {
        let difference = (self.step * looked_up(&QM6, code)) >> 15;
        let sample = (self.expected + difference).clamp(-16_384, 16_383);
        self.adapt_low(code);
        sample
    }

    fn adapt_low(&mut self, code: u8) {
        let coarse = code >> 2;
        let difference = (self.step * looked_up(&QM4, coarse)) >> 15;
        let log_step = ((self.log_step * 127) >> 7) + looked_up(&STEP_OF_LOW, coarse);
        self.log_step = log_step.clamp(0, LOW_STEP_MAX);
        self.step = step(self.log_step, 8);
        self.predict(difference);
    }

    /// QUANTH: two bits of a sample of the higher band.
    fn quantize_high(&mut self, sample: i32) -> u8 {
        let difference = saturated(sample - self.expected);
        let magnitude = if difference < 0 { !difference } else { difference };
        let is_small = magnitude < (Q2 * self.step) >> 12;
        let code = if difference < 0 { u8::from(is_small) } else { 2 + u8::from(is_small) };
        self.adapt_high(code);
        code
    }

    /// The sample that two bits of the higher band mean.
    fn read_high(&mut self, code: u8) -> i32 {
        let difference = (self.step * looked_up(&QM2, code)) >> 15;
        let sample = (self.expected + difference).clamp(-16_384, 16_383);
        self.adapt_high(code);
        sample
    }

    fn adapt_high(&mut self, code: u8) {
        let difference = (self.step * looked_up(&QM2, code)) >> 15;
        let log_step = ((self.log_step * 127) >> 7) + looked_up(&STEP_OF_HIGH, code);
        self.log_step = log_step.clamp(0, HIGH_STEP_MAX);
        self.step = step(self.log_step, 10);
        self.predict(difference);
    }

    /// Block 4: adapts the predictor to a difference and says what is expected next.
    fn predict(&mut self, difference: i32) {
        let made = saturated(self.expected + difference);
        let is_negative = saturated(self.zeros_part + difference) < 0;
        let [before, before_that] = self.signs;
        let second = self.second_pole(is_negative == before, is_negative == before_that);
        let first = self.first_pole(is_negative == before, second);
        self.adapt_zeros(difference);
        self.poles = [first, second];
        self.signs = [is_negative, before];
        self.made = [made, self.made[0]];
        self.differences.copy_within(..5, 1);
        self.differences[0] = difference;
        // FILTEP and FILTEZ.
        let poles = self.poles.iter().zip(&self.made);
        let poles_part: i32 =
            poles.map(|(factor, made)| (factor * saturated(2 * made)) >> 15).sum();
        let zeros = self.zeros.iter().zip(&self.differences);
        let zeros_part: i32 =
            zeros.map(|(factor, past)| (factor * saturated(2 * past)) >> 15).sum();
        self.zeros_part = saturated(zeros_part);
        self.expected = saturated(saturated(poles_part) + self.zeros_part);
    }

    /// UPPOL2.
    fn second_pole(&self, like_last: bool, like_before: bool) -> i32 {
        let first = saturated(self.poles[0] << 2);
        let first = if like_last { (-first).min(32_767) } else { first };
        let pull = if like_before { 128 } else { -128 };
        ((first >> 7) + pull + ((self.poles[1] * 32_512) >> 15)).clamp(-12_288, 12_288)
    }

    /// UPPOL1.
    fn first_pole(&self, like_last: bool, second: i32) -> i32 {
        let pull = if like_last { 192 } else { -192 };
        let limit = saturated(15_360 - second);
        saturated(pull + ((self.poles[0] * 32_640) >> 15)).clamp(-limit, limit)
    }

    /// UPZERO.
    fn adapt_zeros(&mut self, difference: i32) {
        let pull = if difference == 0 { 0 } else { 128 };
        for (factor, past) in self.zeros.iter_mut().zip(&self.differences) {
            let pull = if (*past < 0) == (difference < 0) { pull } else { -pull };
            *factor = saturated(pull + ((*factor * 32_640) >> 15));
        }
    }
}

/// SCALEL and SCALEH: the step of a logarithm.
fn step(log_step: i32, whole: i32) -> i32 {
    let part = looked_up(&ILB, (log_step >> 6) as u8 & 31);
    let shift = whole - (log_step >> 11);
    (if shift < 0 { part << -shift } else { part >> shift }) << 2
}

fn looked_up<const N: usize>(table: &[i32; N], at: u8) -> i32 {
    table.get(usize::from(at)).copied().unwrap_or(0)
}

const fn saturated(value: i32) -> i32 {
    if value > 32_767 {
        32_767
    } else if value < -32_768 {
        -32_768
    } else {
        value
    }
}

/// What a fuzzer does with bytes: decodes them, in pieces of the length that the first of them says, and encodes what
/// came of it.
///
/// # Panics
/// When an invariant is broken: it is the same in pieces of any length.
pub fn exercise(data: &[u8]) {
    let Some((length, bytes)) = data.split_first() else { return };
    let mut whole = vec![0; 2 * bytes.len()];
    Decoder::default().decode(bytes, &mut whole);
    let mut decoder = Decoder::default();
    let mut encoder = Encoder::default();
    let (mut pieces, mut again) = (Vec::new(), Vec::new());
    for piece in bytes.chunks(usize::from(*length).max(1)) {
        let (mut linear, mut coded) = (vec![0; 2 * piece.len()], vec![0; piece.len()]);
        decoder.decode(piece, &mut linear);
        encoder.encode(&linear, &mut coded);
        pieces.extend(linear);
        again.extend(coded);
    }
    assert_eq!(pieces, whole, "pieces of {length}");
    let mut at_once = vec![0; bytes.len()];
    Encoder::default().encode(&whole, &mut at_once);
    assert_eq!(again, at_once, "pieces of {length}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::tone::Tone;
    use crate::audio::tone::share_at;
    use crate::types::random::Random;

    /// A second in four parts: a triangle that rises to 2 kHz, one with noise to 4 kHz, noise, and a square wave at
    /// the end of the scale. Whole numbers only, so that every language makes the same.
    fn signal() -> Vec<i16> {
        let (mut seed, mut phase) = (12_345_u32, 0_u32);
        let sample = |n: u32| {
            seed = seed.wrapping_mul(1_103_515_245).wrapping_add(12_345);
            let noise = (seed >> 16) as i32 - 32_768;
            phase = phase.wrapping_add(n / 2 * 268_435);
            let saw = (phase >> 15) as i32;
            let triangle = (if saw >= 65_536 { saw - 65_536 } else { saw }).abs() - 32_768;
            let sample = match n / 4_000 {
                0 => triangle >> 2,
                1 => (triangle >> 1) + (noise >> 4),
                2 => noise.div_euclid(3),
                _ if n / 37 % 2 == 1 => 32_767,
                _ => -32_768,
            };
            saturated(sample) as i16
        };
        (0..16_000).map(sample).collect()
    }

    /// FNV-1a.
    fn digest(bytes: impl IntoIterator<Item = u8>) -> u64 {
        let step = |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        bytes.into_iter().fold(0xcbf2_9ce4_8422_2325, step)
    }

    fn encoded(linear: &[i16]) -> Vec<u8> {
        let mut bytes = vec![0; linear.len() / 2];
        Encoder::default().encode(linear, &mut bytes);
        bytes
    }

    fn decoded(bytes: &[u8]) -> Vec<i16> {
        let mut linear = vec![0; 2 * bytes.len()];
        Decoder::default().decode(bytes, &mut linear);
        linear
    }

    /// `ffmpeg -f s16le -ar 16000 -ac 1 -i signal -c:a g722 -f g722 bytes`, and back, of ffmpeg 5.1.
    #[test]
    fn every_byte_and_every_sample_is_that_of_an_independent_implementation() {
        let signal = signal();
        let linear = |samples: &[i16]| digest(samples.iter().flat_map(|it| it.to_le_bytes()));
        assert_eq!(linear(&signal), 0x4ba6_8fc6_2e1a_b84f, "the signal itself");
        let bytes = encoded(&signal);
        assert_eq!(digest(bytes.iter().copied()), 0x772b_2b11_b86e_d0ae);
        assert_eq!(linear(&decoded(&bytes)), 0x8e73_5e59_b90f_4f05);
    }

    #[test]
    fn frames_make_what_the_whole_makes() {
        let signal = signal();
        let (mut encoder, mut decoder) = (Encoder::default(), Decoder::default());
        let (mut bytes, mut linear) = (Vec::new(), Vec::new());
        for frame in signal.chunks(320) {
            let (mut some, mut heard) = ([0; 160], [0; 320]);
            encoder.encode(frame, &mut some);
            decoder.decode(&some, &mut heard);
            bytes.extend(some);
            linear.extend(heard);
        }
        assert_eq!(bytes, encoded(&signal));
        assert!(linear == decoded(&bytes));
    }

    #[test]
    fn tones_of_both_bands_come_through() {
        // Hz at 16 kHz are twice as many as those of a tone at 8 kHz.
        for hz in [150, 500, 1_700, 2_500, 3_200] {
            let mut linear = [0; 16_000];
            Tone::new(hz, 8_000).fill(&mut linear);
            let heard = decoded(&encoded(&linear));
            assert!(share_at(&heard[8_000..], hz) > 0.97, "{hz}");
        }
    }

    #[test]
    fn any_bytes_are_decoded_and_a_voice_is_itself_again_soon_after() {
        let mut random = Random::from_seed(4);
        let mut noise = [0; 4_000];
        random.fill(&mut noise);
        let mut linear = [0; 16_000];
        Tone::new(500, 8_000).fill(&mut linear);
        let said = encoded(&linear);
        let mut decoder = Decoder::default();
        for rubbish in [&noise[..], &[0; 4_000], &[0xff; 4_000], &[0x80; 4_000]] {
            let mut heard = [0; 8_000];
            decoder.decode(rubbish, &mut heard);
            let mut heard = [0; 16_000];
            decoder.decode(&said, &mut heard);
            // 100 ms later.
            assert!(share_at(&heard[1_600..8_000], 500) > 0.97);
        }
    }
}
