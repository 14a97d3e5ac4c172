//! RTP packets (RFC 3550 §5.1), parsed and written without allocation.
#![warn(clippy::indexing_slicing)]

use crate::types::codec::PayloadType;

/// Length of an RTP header without CSRCs and extension, in bytes: what `write` puts before the payload.
pub const HEADER_BYTES: usize = 12;

/// An RTP packet. CSRCs, header extension and padding are skipped when parsing and never written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RtpPacket<'a> {
    /// The first packet of a talk-spurt, or of a DTMF event.
    pub marker: bool,
    /// What the payload is.
    pub payload_type: PayloadType,
    /// Rises by one with each packet sent; wraps.
    pub sequence: u16,
    /// The time of the first sample, in units of the clock rate; wraps.
    pub timestamp: u32,
    /// The stream.
    pub ssrc: u32,
    /// The payload, without padding.
    pub payload: &'a [u8],
}

/// Why bytes are not an RTP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// It ends within the header or the extension.
    #[error("RTP packet ends within its header")]
    Truncated,
    /// The version is not 2.
    #[error("RTP version is not 2")]
    Version,
    /// The padding is zero or longer than the payload.
    #[error("RTP padding does not fit")]
    Padding,
}

impl<'a> RtpPacket<'a> {
    /// Reads a packet; the payload borrows from `bytes`.
    ///
    /// # Errors
    /// When the header does not hold what it promises.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, ParseError> {
        let (header, mut rest) =
            bytes.split_first_chunk::<HEADER_BYTES>().ok_or(ParseError::Truncated)?;
        let [flags, kind, s0, s1, t0, t1, t2, t3, c0, c1, c2, c3] = *header;
        if flags >> 6 != 2 {
            return Err(ParseError::Version);
        }
        let csrc_bytes = usize::from(flags & 0x0f) * 4;
        rest = rest.get(csrc_bytes..).ok_or(ParseError::Truncated)?;
        if flags & 0x10 != 0 {
            let (extension, after) = rest.split_first_chunk::<4>().ok_or(ParseError::Truncated)?;
            let [_, _, high, low] = *extension;
            let words = usize::from(u16::from_be_bytes([high, low]));
            rest = after.get(words * 4..).ok_or(ParseError::Truncated)?;
        }
        if flags & 0x20 != 0 {
            let padding = rest.last().map_or(0, |last| usize::from(*last));
            let kept = rest.len().checked_sub(padding).filter(|_| padding != 0);
            rest = kept.and_then(|kept| rest.get(..kept)).ok_or(ParseError::Padding)?;
        }
        let payload_type = PayloadType::new(kind & 0x7f).ok_or(ParseError::Version)?;
        Ok(Self {
            marker: kind & 0x80 != 0,
            payload_type,
            sequence: u16::from_be_bytes([s0, s1]),
            timestamp: u32::from_be_bytes([t0, t1, t2, t3]),
            ssrc: u32::from_be_bytes([c0, c1, c2, c3]),
            payload: rest,
        })
    }

    /// Writes the packet to the front of `out` and returns its length; `None`, with `out` untouched,
    /// when it does not fit.
    pub fn write(&self, out: &mut [u8]) -> Option<usize> {
        let length = HEADER_BYTES + self.payload.len();
        let (header, rest) = out.split_first_chunk_mut::<HEADER_BYTES>()?;
        let body = rest.get_mut(..self.payload.len())?;
        let [s0, s1] = self.sequence.to_be_bytes();
        let [t0, t1, t2, t3] = self.timestamp.to_be_bytes();
        let [c0, c1, c2, c3] = self.ssrc.to_be_bytes();
        let kind = u8::from(self.marker) << 7 | self.payload_type.get();
        *header = [0x80, kind, s0, s1, t0, t1, t2, t3, c0, c1, c2, c3];
        body.copy_from_slice(self.payload);
        Some(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn packet(payload: &[u8]) -> RtpPacket<'_> {
        RtpPacket {
            marker: true,
            payload_type: PayloadType::new(8).unwrap(),
            sequence: 0xfffe,
            timestamp: 0x0102_0304,
            ssrc: 0xdead_beef,
            payload,
        }
    }

    #[test]
    fn a_written_packet_has_the_bytes_of_the_rfc() {
        let mut out = [0xaa; 20];
        assert_eq!(packet(b"abc").write(&mut out), Some(15));
        assert_eq!(out[..15], *b"\x80\x88\xff\xfe\x01\x02\x03\x04\xde\xad\xbe\xefabc");
        assert_eq!(out[15..], [0xaa; 5]);
    }

    #[test]
    fn a_packet_that_does_not_fit_is_not_begun() {
        let mut out = [0xaa; 14];
        assert_eq!(packet(b"abc").write(&mut out), None);
        assert_eq!(out, [0xaa; 14]);
    }

    #[test]
    fn csrcs_extension_and_padding_are_skipped() {
        let mut bytes = vec![0x80 | 0x20 | 0x10 | 2, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3];
        bytes.extend([9; 8]);
        bytes.extend([0xbe, 0xde, 0, 1, 1, 2, 3, 4]);
        bytes.extend(b"audio");
        bytes.extend([0, 0, 3]);
        let parsed = RtpPacket::parse(&bytes).unwrap();
        assert_eq!((parsed.sequence, parsed.timestamp, parsed.ssrc), (1, 2, 3));
        assert_eq!(parsed.payload, b"audio");
    }

    #[test]
    fn what_the_header_promises_must_be_there() {
        let good = b"\x80\0\0\0\0\0\0\0\0\0\0\0";
        assert_eq!(RtpPacket::parse(good).unwrap().payload, b"");
        assert_eq!(RtpPacket::parse(&good[..11]), Err(ParseError::Truncated));
        for (flags, expected) in [
            (0x40, ParseError::Version),
            (0xc0, ParseError::Version),
            (0x81, ParseError::Truncated),
            (0x90, ParseError::Truncated),
            (0xa0, ParseError::Padding),
        ] {
            let mut bytes = *good;
            bytes[0] = flags;
            assert_eq!(RtpPacket::parse(&bytes), Err(expected), "{flags:#x}");
        }
        let mut long_padding = [0; 16];
        long_padding[0] = 0xa0;
        long_padding[15] = 5;
        assert_eq!(RtpPacket::parse(&long_padding), Err(ParseError::Padding));
    }

    proptest! {
        #[test]
        fn parse_of_write_is_identity(
            marker: bool, kind in 0u8..128, sequence: u16, timestamp: u32, ssrc: u32,
            payload in proptest::collection::vec(any::<u8>(), 0..500),
        ) {
            let payload_type = PayloadType::new(kind).unwrap();
            let packet =
                RtpPacket { marker, payload_type, sequence, timestamp, ssrc, payload: &payload };
            let mut out = [0; 600];
            let length = packet.write(&mut out).unwrap();
            prop_assert_eq!(RtpPacket::parse(&out[..length]), Ok(packet));
        }

        /// `rtp-types` is the oracle: both accept the same bytes and read the same fields.
        #[test]
        fn any_bytes_are_read_as_the_oracle_reads_them(
            first in 0x70u8..=0xcf,
            rest in proptest::collection::vec(any::<u8>(), 0..80),
        ) {
            let mut bytes = vec![first];
            bytes.extend(&rest);
            let ours = RtpPacket::parse(&bytes);
            match rtp_types::RtpPacket::parse(&bytes) {
                Ok(theirs) => {
                    let ours = ours.unwrap();
                    prop_assert_eq!(ours.marker, theirs.marker_bit());
                    prop_assert_eq!(ours.payload_type.get(), theirs.payload_type());
                    prop_assert_eq!(ours.sequence, theirs.sequence_number());
                    prop_assert_eq!(ours.timestamp, theirs.timestamp());
                    prop_assert_eq!(ours.ssrc, theirs.ssrc());
                    prop_assert_eq!(ours.payload, theirs.payload());
                }
                Err(_) => prop_assert!(ours.is_err()),
            }
        }
    }
}
