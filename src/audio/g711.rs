//! G.711: µ-law and A-law to and from linear 16-bit samples, and each to the other.
//!
//! Encoding has no branches and no tables, so that the compiler makes vector code of it: the exponent
//! and the first four bits of the mantissa of a float are the segment and the step of G.711.

use crate::types::codec::Law;

/// The loudest magnitude of µ-law before its bias.
const ULAW_CLIP: i32 = 32_635;
const ULAW_BIAS: i32 = 132;
/// Exponent (bias 127) of the first µ-law segment, above four mantissa bits: 2^7.
const ULAW_FIRST_SEGMENT: u32 = (127 + 7) << 4;
/// The same of A-law on its 13 bits, one segment below the first with a leading one: 2^4.
const ALAW_FIRST_SEGMENT: u32 = (127 + 4) << 4;
/// Mantissa bits of a float below the four that G.711 keeps.
const DROPPED_BITS: u32 = 23 - 4;

/// µ-law of a linear sample (ITU-T G.711 table 2).
#[must_use]
pub const fn ulaw_encode(sample: i16) -> u8 {
    let sample = sample as i32;
    let sign = (sample >> 24) as u8 & 0x80;
    let magnitude = sample.abs();
    let clipped = if magnitude > ULAW_CLIP { ULAW_CLIP } else { magnitude };
    let float = ((clipped + ULAW_BIAS) as f32).to_bits();
    let code = ((float >> DROPPED_BITS) - ULAW_FIRST_SEGMENT) as u8;
    !(sign | code)
}

/// A-law of a linear sample (ITU-T G.711 table 1).
#[must_use]
pub const fn alaw_encode(sample: i16) -> u8 {
    // Complement instead of negation, as the standard's decision values ask for.
    let sign = sample >> 15;
    let magnitude = ((sample ^ sign) >> 3) as i32;
    let float = (magnitude as f32).to_bits();
    let above = (float >> DROPPED_BITS).wrapping_sub(ALAW_FIRST_SEGMENT) as u8;
    let code = if magnitude < 32 { (magnitude >> 1) as u8 } else { above };
    let positive = !(sign as u8) & 0x80;
    (code | positive) ^ 0x55
}

/// The linear sample of a µ-law byte.
#[must_use]
pub const fn ulaw_decode(byte: u8) -> i16 {
    let code = !byte;
    let magnitude = (((code & 0x0f) as i32) << 3) + ULAW_BIAS;
    let magnitude = (magnitude << ((code & 0x70) >> 4)) - ULAW_BIAS;
    (if code & 0x80 != 0 { -magnitude } else { magnitude }) as i16
}

/// The linear sample of an A-law byte.
#[must_use]
pub const fn alaw_decode(byte: u8) -> i16 {
    let code = byte ^ 0x55;
    let step = ((code & 0x0f) as i32) << 4;
    let segment = (code & 0x70) >> 4;
    let magnitude = match segment {
        0 => step + 8,
        _ => (step + 0x108) << (segment - 1),
    };
    (if code & 0x80 != 0 { magnitude } else { -magnitude }) as i16
}

/// The linear sample of a byte of either law.
#[must_use]
pub const fn sample(law: Law, byte: u8) -> i16 {
    match law {
        Law::Mu => ulaw_decode(byte),
        Law::A => alaw_decode(byte),
    }
}

/// Decodes to `out`, as far as the shorter of the two goes.
pub fn decode(law: Law, encoded: &[u8], out: &mut [i16]) {
    let table = match law {
        Law::Mu => &ULAW_LINEAR,
        Law::A => &ALAW_LINEAR,
    };
    for (sample, byte) in out.iter_mut().zip(encoded) {
        *sample = *looked_up(table, *byte);
    }
}

/// Encodes to `out`, as far as the shorter of the two goes.
pub fn encode(law: Law, linear: &[i16], out: &mut [u8]) {
    let pairs = out.iter_mut().zip(linear);
    match law {
        Law::Mu => pairs.for_each(|(byte, sample)| *byte = ulaw_encode(*sample)),
        Law::A => pairs.for_each(|(byte, sample)| *byte = alaw_encode(*sample)),
    }
}

/// Turns what is encoded by `from` to `to`, in place. Of the same law not a bit changes.
pub fn convert(from: Law, to: Law, bytes: &mut [u8]) {
    if from != to {
        to_ulaw(from, bytes);
        from_ulaw(to, bytes);
    }
}

/// The byte of silence.
#[must_use]
pub const fn silence(law: Law) -> u8 {
    match law {
        Law::Mu => 0xff,
        Law::A => 0xd5,
    }
}

/// Turns µ-law to `law`, in place.
pub fn from_ulaw(law: Law, bytes: &mut [u8]) {
    match law {
        Law::Mu => (),
        Law::A => bytes.iter_mut().for_each(|byte| *byte = *looked_up(&ULAW_TO_ALAW, *byte)),
    }
}

/// Turns `law` to µ-law, in place.
pub fn to_ulaw(law: Law, bytes: &mut [u8]) {
    match law {
        Law::Mu => (),
        Law::A => bytes.iter_mut().for_each(|byte| *byte = *looked_up(&ALAW_TO_ULAW, *byte)),
    }
}

const fn looked_up<T>(table: &[T; 256], byte: u8) -> &T {
    &table[byte as usize]
}

static ULAW_LINEAR: [i16; 256] = linear_table(Law::Mu);
static ALAW_LINEAR: [i16; 256] = linear_table(Law::A);
static ULAW_TO_ALAW: [u8; 256] = transcode_table(Law::Mu);
static ALAW_TO_ULAW: [u8; 256] = transcode_table(Law::A);

const fn linear_table(law: Law) -> [i16; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = sample(law, byte as u8);
        byte += 1;
    }
    table
}

const fn transcode_table(from: Law) -> [u8; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = match from {
            Law::Mu => alaw_encode(ulaw_decode(byte as u8)),
            Law::A => ulaw_encode(alaw_decode(byte as u8)),
        };
        byte += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The encoder of the public reference code (Sun Microsystems, g711.c), by segment search.
    fn reference_ulaw(sample: i16) -> u8 {
        let mut value = i32::from(sample);
        let mask = if value < 0 {
            value = -value;
            0x7f
        } else {
            0xff
        };
        let value = value.min(ULAW_CLIP) + ULAW_BIAS;
        let ends = [0xff, 0x1ff, 0x3ff, 0x7ff, 0xfff, 0x1fff, 0x3fff, 0x7fff];
        let segment = ends.iter().position(|end| value <= *end).expect("clipped");
        ((segment << 4) as u8 | ((value >> (segment + 3)) & 0xf) as u8) ^ mask
    }

    fn reference_alaw(sample: i16) -> u8 {
        let mut value = i32::from(sample) >> 3;
        let mask = if value >= 0 {
            0xd5
        } else {
            value = -value - 1;
            0x55
        };
        let ends = [0x1f, 0x3f, 0x7f, 0xff, 0x1ff, 0x3ff, 0x7ff, 0xfff];
        let segment = ends.iter().position(|end| value <= *end).expect("13 bits");
        let shift = if segment < 2 { 1 } else { segment };
        ((segment << 4) as u8 | ((value >> shift) & 0xf) as u8) ^ mask
    }

    #[test]
    fn every_sample_is_encoded_as_the_reference_does() {
        for sample in i16::MIN..=i16::MAX {
            assert_eq!(ulaw_encode(sample), reference_ulaw(sample), "{sample}");
            assert_eq!(alaw_encode(sample), reference_alaw(sample), "{sample}");
        }
    }

    #[test]
    fn every_byte_survives_decoding_and_encoding() {
        for byte in 0..=u8::MAX {
            // µ-law has two zeros.
            let same = if byte == 0x7f { 0xff } else { byte };
            assert_eq!(ulaw_encode(ulaw_decode(byte)), same);
            assert_eq!(alaw_encode(alaw_decode(byte)), byte);
        }
    }

    #[test]
    fn known_values_of_the_standard() {
        assert_eq!([ulaw_decode(0xff), ulaw_decode(0x80), ulaw_decode(0x00)], [0, 32_124, -32_124]);
        assert_eq!([alaw_decode(0xd5), alaw_decode(0xaa), alaw_decode(0x2a)], [8, 32_256, -32_256]);
    }

    #[test]
    fn transcoding_there_and_back_stays_within_a_step() {
        for byte in 0..=u8::MAX {
            let mut bytes = [byte];
            from_ulaw(Law::A, &mut bytes);
            to_ulaw(Law::A, &mut bytes);
            let (before, after) = (i32::from(ulaw_decode(byte)), i32::from(ulaw_decode(bytes[0])));
            assert!((before - after).abs() <= before.abs() / 16 + 16, "{byte}: {before} {after}");
            from_ulaw(Law::Mu, &mut bytes);
        }
    }

    #[test]
    fn frames_are_coded_as_samples_are() {
        let bytes: Vec<u8> = (0..=255).collect();
        for law in [Law::Mu, Law::A] {
            let mut linear = [0; 256];
            decode(law, &bytes, &mut linear);
            let mut again = [0; 256];
            encode(law, &linear, &mut again);
            assert_eq!(
                again.iter().zip(&bytes).filter(|(a, b)| a != b).count(),
                usize::from(law == Law::Mu)
            );
        }
    }
}
