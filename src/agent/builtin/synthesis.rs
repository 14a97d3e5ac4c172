//! Tones for the built-in agents, made in code: no recordings are shipped.

use bytes::Bytes;
use bytes::BytesMut;
use std::f64::consts::TAU;

/// Samples in a second.
const RATE: u32 = 8_000;
/// Loudness of tones, of 32768: about -16 dBm0, like speech.
const AMPLITUDE: f64 = 5_000.0;
/// A note rises and falls over this many samples (5 ms), so that it does not click.
const RAMP_SAMPLES: u32 = 40;

/// One note of a melody.
#[derive(Clone, Copy, Debug)]
pub(super) struct Note {
    /// Frequency; 0 is a pause.
    pub(super) hz: u16,
    /// Length.
    pub(super) ms: u32,
}

/// The melody as µ-law.
pub(super) fn melody(notes: &[Note]) -> Bytes {
    let mut audio = BytesMut::new();
    for note in notes {
        let samples = note.ms * RATE / 1_000;
        for n in 0..samples {
            let edge = n.min(samples - n).min(RAMP_SAMPLES);
            let gain = f64::from(edge) / f64::from(RAMP_SAMPLES);
            audio.extend_from_slice(&[encode(gain * sine(note.hz, n))]);
        }
    }
    audio.freeze()
}

/// `samples` of a tone of `hz` that began `offset` samples ago, appended as µ-law.
pub(super) fn tone(hz: u16, offset: u32, samples: u32, audio: &mut BytesMut) {
    for n in 0..samples {
        // The tone repeats after a second, so the phase stays exact for ever.
        audio.extend_from_slice(&[encode(sine(hz, (offset + n) % RATE))]);
    }
}

fn sine(hz: u16, sample: u32) -> f64 {
    AMPLITUDE * (TAU * f64::from(hz) * f64::from(sample) / f64::from(RATE)).sin()
}

fn encode(sample: f64) -> u8 {
    const BIAS: i32 = 0x84;
    const CLIP: i32 = 32_635;
    let sample = sample as i32;
    let magnitude = sample.abs().min(CLIP) + BIAS;
    let exponent = 31 - magnitude.leading_zeros() - 7;
    let mantissa = (magnitude >> (exponent + 3)) & 0x0f;
    let sign = if sample < 0 { 0x80 } else { 0 };
    !(sign | ((exponent as u8) << 4) | mantissa as u8)
}

/// The sample of a µ-law byte (ITU-T G.711).
pub(super) const fn decode(byte: u8) -> i16 {
    let byte = !byte;
    let exponent = (byte >> 4) & 7;
    let magnitude = (((((byte & 0x0f) as i16) << 3) + 0x84) << exponent) - 0x84;
    if byte & 0x80 == 0 { magnitude } else { -magnitude }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// The strongest frequency in steps of 1 Hz, or 0 for silence (Goertzel).
    pub(in crate::agent::builtin) fn loudest_hz(ulaw: &[u8]) -> u16 {
        let samples: Vec<f64> = ulaw.iter().map(|byte| f64::from(decode(*byte))).collect();
        if samples.iter().all(|sample| sample.abs() < 50.0) {
            return 0;
        }
        let power = |hz: u16| {
            let step = TAU * f64::from(hz) / f64::from(RATE);
            let (mut re, mut im) = (0.0, 0.0);
            for (n, sample) in samples.iter().enumerate() {
                re += sample * (step * n as f64).cos();
                im += sample * (step * n as f64).sin();
            }
            re * re + im * im
        };
        (300..3_400).max_by(|a, b| power(*a).total_cmp(&power(*b))).unwrap_or(0)
    }

    #[test]
    fn a_note_has_its_frequency_and_a_pause_is_silent() {
        let audio = melody(&[Note { hz: 1_000, ms: 100 }, Note { hz: 0, ms: 100 }]);
        assert_eq!(audio.len(), 1_600);
        assert_eq!(loudest_hz(&audio[..800]), 1_000);
        assert_eq!(loudest_hz(&audio[800..]), 0);
    }
}
