//! The base64 of payloads, many bytes at a time where the processor can do that.

use base64::engine::DecodePaddingMode;
#[cfg(not(target_arch = "x86_64"))]
use base64::engine::GeneralPurpose;
use base64::engine::GeneralPurposeConfig;
#[cfg(target_arch = "x86_64")]
use base64::engine::Simd;
use std::sync::LazyLock;

#[cfg(target_arch = "x86_64")]
type Engine = Simd;
#[cfg(not(target_arch = "x86_64"))]
type Engine = GeneralPurpose;

/// Writes as everybody does (RFC 4648 §4) and reads more: agents pad or not, and some leave stray bits in the last
/// character.
pub(super) static PAYLOAD: LazyLock<Engine> = LazyLock::new(|| {
    let config = GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true);
    #[cfg(target_arch = "x86_64")]
    let engine = Simd::standard(config);
    #[cfg(not(target_arch = "x86_64"))]
    let engine = GeneralPurpose::new(&base64::alphabet::STANDARD, config);
    engine
});

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;

    #[test]
    fn audio_of_any_length_is_written_and_read_as_the_plain_way_does() {
        for length in 0..500 {
            let audio: Vec<u8> = (0..length).map(|byte| (byte * 7) as u8).collect();
            let text = PAYLOAD.encode(&audio);
            assert_eq!(text, STANDARD.encode(&audio));
            assert_eq!(PAYLOAD.decode(&text), Ok(audio.clone()));
            assert_eq!(PAYLOAD.decode(text.trim_end_matches('=')), Ok(audio));
            for place in 0..text.len() {
                let mut other = text.clone().into_bytes();
                other[place] = b'-';
                assert!(PAYLOAD.decode(other).is_err(), "{length} {place}");
            }
        }
    }
}
