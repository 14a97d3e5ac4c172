//! The header of a WAV file: two channels of 16-bit samples.

/// Bytes of the header.
pub(super) const HEADER_BYTES: usize = 44;

/// Most bytes of samples that a header can tell.
pub(super) const DATA_BYTES_MAX: u64 = u32::MAX as u64 - HEADER_BYTES as u64;

/// What stands for a length that is not known yet.
pub(super) const UNKNOWN: u32 = u32::MAX;

const CHANNELS: u16 = 2;
const SAMPLE_BYTES: u16 = 2;

/// The header of `data_bytes` of samples.
pub(super) fn header(hz: u32, data_bytes: u32) -> [u8; HEADER_BYTES] {
    let block = CHANNELS * SAMPLE_BYTES;
    let riff = data_bytes.saturating_add(HEADER_BYTES as u32 - 8);
    let mut header = [0; HEADER_BYTES];
    let parts: [&[u8]; 13] = [
        b"RIFF",
        &riff.to_le_bytes(),
        b"WAVEfmt ",
        &16_u32.to_le_bytes(),
        &1_u16.to_le_bytes(),
        &CHANNELS.to_le_bytes(),
        &hz.to_le_bytes(),
        &hz.saturating_mul(u32::from(block)).to_le_bytes(),
        &block.to_le_bytes(),
        &(SAMPLE_BYTES * 8).to_le_bytes(),
        b"data",
        &data_bytes.to_le_bytes(),
        b"",
    ];
    for (to, byte) in header.iter_mut().zip(parts.concat()) {
        *to = byte;
    }
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_reader_understands_the_header() {
        let mut bytes = header(16_000, 8).to_vec();
        bytes.extend_from_slice(&[1, 0, 2, 0, 3, 0, 4, 0]);
        let mut reader = hound::WavReader::new(bytes.as_slice()).expect("a WAV");
        let spec = reader.spec();
        assert_eq!((spec.channels, spec.sample_rate, spec.bits_per_sample), (2, 16_000, 16));
        let samples: Vec<i16> = reader.samples().collect::<Result<_, _>>().expect("samples");
        assert_eq!(samples, [1, 2, 3, 4]);
    }
}
