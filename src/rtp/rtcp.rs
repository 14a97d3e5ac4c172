//! RTCP packets (RFC 3550 §6.4 to 6.6), written into a slice and read without allocation.
#![warn(clippy::indexing_slicing)]

use crate::rtp::ntp::NtpTime;
use crate::rtp::voip_block::VoipMetrics;

const SENDER_REPORT: u8 = 200;
const RECEIVER_REPORT: u8 = 201;
const SOURCE_DESCRIPTION: u8 = 202;
const GOODBYE: u8 = 203;
const EXTENDED_REPORT: u8 = 207;
const CNAME: u8 = 1;
/// Length of one report block, in bytes.
const BLOCK_BYTES: usize = 24;
/// Length of an XR packet of ours, in bytes.
const EXTENDED_BYTES: usize = 8 + VoipMetrics::BYTES;
/// Bytes that hold any compound packet of ours.
pub const COMPOUND_BYTES_MAX: usize = 8 + 20 + BLOCK_BYTES + 8 + 260 + EXTENDED_BYTES + 8 + 260;

/// What a receiver says about one stream (RFC 3550 §6.4.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReportBlock {
    /// The stream it is about.
    pub ssrc: u32,
    /// Loss since the report before, in 1/256.
    pub fraction_lost: u8,
    /// Packets lost since the stream began; 24 bits with sign on the wire, cut to that when written.
    pub cumulative_lost: i32,
    /// The highest extended sequence number.
    pub highest_sequence: u32,
    /// Interarrival jitter, in units of the clock rate.
    pub jitter: u32,
    /// The middle of the NTP time of the last sender report; 0 if there was none.
    pub last_sender_report: u32,
    /// Time since that report came, in 1/65536 s.
    pub delay_since_last: u32,
}

/// What a sender says about itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SenderInfo {
    /// The sender's clock.
    pub ntp: NtpTime,
    /// The same moment in RTP time.
    pub rtp_timestamp: u32,
    /// Packets sent since the stream began; wraps.
    pub packets: u32,
    /// Payload octets sent since the stream began; wraps.
    pub octets: u32,
}

/// One packet of a compound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RtcpPacket<'a> {
    /// SR.
    SenderReport {
        /// The stream of the sender.
        ssrc: u32,
        /// What it sent.
        info: SenderInfo,
        /// What it received.
        blocks: Blocks<'a>,
    },
    /// RR.
    ReceiverReport {
        /// The stream of the reporter.
        ssrc: u32,
        /// What it received.
        blocks: Blocks<'a>,
    },
    /// BYE of the first stream it names.
    Goodbye {
        /// The stream that ends; `None` if it names none.
        ssrc: Option<u32>,
    },
    /// XR (RFC 3611).
    Extended(Extensions<'a>),
    /// SDES, feedback and all others, by packet type.
    Other(u8),
}

impl RtcpPacket<'_> {
    /// The stream of who reports, where it is a report.
    #[must_use]
    pub const fn reporter(&self) -> Option<u32> {
        match self {
            Self::SenderReport { ssrc, .. } | Self::ReceiverReport { ssrc, .. } => Some(*ssrc),
            Self::Goodbye { .. } | Self::Extended(_) | Self::Other(_) => None,
        }
    }
}

/// The blocks of an XR packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extensions<'a>(&'a [u8]);

impl Extensions<'_> {
    /// Its blocks of VoIP metrics. Blocks of other types are passed over; one that is longer than its packet
    /// ends the search.
    pub fn voip_metrics(self) -> impl Iterator<Item = VoipMetrics> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            loop {
                let [kind, _, high, low, ..] = *rest else { return None };
                let length = (usize::from(u16::from_be_bytes([high, low])) + 1) * 4;
                let (block, after) = rest.split_at_checked(length)?;
                rest = after;
                if kind == VoipMetrics::BLOCK_TYPE
                    && let Some(metrics) = VoipMetrics::read(block)
                {
                    return Some(metrics);
                }
            }
        })
    }
}

/// The report blocks of an SR or RR.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blocks<'a>(&'a [u8]);

impl Iterator for Blocks<'_> {
    type Item = ReportBlock;

    fn next(&mut self) -> Option<ReportBlock> {
        let mut reader = Reader(self.0);
        let block = ReportBlock { ssrc: reader.word()?, ..ReportBlock::default() };
        let [fraction_lost, high, middle, low] = reader.word()?.to_be_bytes();
        // Shifted down again with the sign.
        let cumulative_lost = i32::from_be_bytes([high, middle, low, 0]) >> 8;
        let block = ReportBlock {
            fraction_lost,
            cumulative_lost,
            highest_sequence: reader.word()?,
            jitter: reader.word()?,
            last_sender_report: reader.word()?,
            delay_since_last: reader.word()?,
            ..block
        };
        self.0 = reader.0;
        Some(block)
    }
}

/// Reads a compound packet, or a single one (RFC 5506). Ends at the first packet that is malformed.
#[derive(Clone, Copy, Debug)]
pub struct Compound<'a>(&'a [u8]);

impl<'a> Compound<'a> {
    /// Begins to read `datagram`.
    #[must_use]
    pub const fn new(datagram: &'a [u8]) -> Self {
        Self(datagram)
    }

    /// Whether all of the datagram is made of packets whose lengths fit (RFC 3550 A.2).
    #[must_use]
    pub fn is_well_formed(mut self) -> bool {
        while self.next().is_some() {}
        self.0.is_empty()
    }
}

impl<'a> Iterator for Compound<'a> {
    type Item = RtcpPacket<'a>;

    fn next(&mut self) -> Option<RtcpPacket<'a>> {
        let [flags, kind, high, low, ..] = *self.0 else { return None };
        if flags >> 6 != 2 {
            return None;
        }
        let length = (usize::from(u16::from_be_bytes([high, low])) + 1) * 4;
        let (whole, rest) = self.0.split_at_checked(length)?;
        let mut body = whole.get(4..)?;
        if flags & 0x20 != 0 {
            let padding = usize::from(*body.last()?);
            body = body.get(..body.len().checked_sub(padding)?)?;
        }
        let packet = read_packet(kind, usize::from(flags & 0x1f), body)?;
        self.0 = rest;
        Some(packet)
    }
}

/// Reads what follows the first word of a packet of the type `kind`.
fn read_packet(kind: u8, count: usize, body: &[u8]) -> Option<RtcpPacket<'_>> {
    let mut reader = Reader(body);
    match kind {
        SENDER_REPORT => {
            let ssrc = reader.word()?;
            let ntp = u64::from(reader.word()?) << 32 | u64::from(reader.word()?);
            let info = SenderInfo {
                ntp: NtpTime(ntp),
                rtp_timestamp: reader.word()?,
                packets: reader.word()?,
                octets: reader.word()?,
            };
            let blocks = Blocks(reader.0.get(..count * BLOCK_BYTES)?);
            Some(RtcpPacket::SenderReport { ssrc, info, blocks })
        }
        RECEIVER_REPORT => {
            let ssrc = reader.word()?;
            let blocks = Blocks(reader.0.get(..count * BLOCK_BYTES)?);
            Some(RtcpPacket::ReceiverReport { ssrc, blocks })
        }
        GOODBYE => {
            body.get(..count * 4)?;
            let ssrc = if count == 0 { None } else { reader.word() };
            Some(RtcpPacket::Goodbye { ssrc })
        }
        EXTENDED_REPORT => {
            reader.word()?;
            Some(RtcpPacket::Extended(Extensions(reader.0)))
        }
        other => Some(RtcpPacket::Other(other)),
    }
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn word(&mut self) -> Option<u32> {
        let (word, rest) = self.0.split_first_chunk::<4>()?;
        self.0 = rest;
        Some(u32::from_be_bytes(*word))
    }
}

/// A report of ours.
#[derive(Clone, Copy, Debug)]
pub struct Report<'a> {
    /// Our stream.
    pub ssrc: u32,
    /// Present when we sent since the last two reports: then it is an SR.
    pub sender: Option<SenderInfo>,
    /// Present when we received anything.
    pub block: Option<ReportBlock>,
    /// Our canonical name, random for each call (RFC 7022); cut at 255 bytes.
    pub cname: &'a [u8],
    /// Present when the peer is to know how well we hear it.
    pub metrics: Option<VoipMetrics>,
}

impl Report<'_> {
    /// Writes SR or RR, SDES and XR to the front of `out`; returns the length, or `None` if it does not fit.
    pub fn write(&self, out: &mut [u8]) -> Option<usize> {
        let mut writer = Writer { out, at: 0 };
        self.put(&mut writer)?;
        Some(writer.at)
    }

    /// The same with a BYE, for the end of the call.
    pub fn write_goodbye(&self, out: &mut [u8]) -> Option<usize> {
        let mut writer = Writer { out, at: 0 };
        self.put(&mut writer)?;
        writer.head(1, GOODBYE, 8)?;
        writer.word(self.ssrc)?;
        Some(writer.at)
    }

    fn put(&self, writer: &mut Writer<'_>) -> Option<()> {
        let count = u8::from(self.block.is_some());
        let block_bytes = usize::from(count) * BLOCK_BYTES;
        if let Some(info) = self.sender {
            writer.head(count, SENDER_REPORT, 28 + block_bytes)?;
            writer.word(self.ssrc)?;
            writer.word((info.ntp.0 >> 32) as u32)?;
            writer.word(info.ntp.0 as u32)?;
            writer.word(info.rtp_timestamp)?;
            writer.word(info.packets)?;
            writer.word(info.octets)?;
        } else {
            writer.head(count, RECEIVER_REPORT, 8 + block_bytes)?;
            writer.word(self.ssrc)?;
        }
        if let Some(block) = self.block {
            writer.block(&block)?;
        }
        let cname = self.cname.get(..255).unwrap_or(self.cname);
        // An item is followed by at least one zero byte, up to the next word (RFC 3550 §6.5).
        let chunk_bytes = (4 + 2 + cname.len() + 1).next_multiple_of(4);
        writer.head(1, SOURCE_DESCRIPTION, 4 + chunk_bytes)?;
        writer.word(self.ssrc)?;
        writer.bytes(&[CNAME, cname.len() as u8])?;
        writer.bytes(cname)?;
        let zeros = chunk_bytes - 4 - 2 - cname.len();
        writer.bytes([0; 4].get(..zeros)?)?;
        let Some(metrics) = self.metrics else { return Some(()) };
        writer.head(0, EXTENDED_REPORT, EXTENDED_BYTES)?;
        writer.word(self.ssrc)?;
        writer.bytes(&metrics.written())
    }
}

struct Writer<'a> {
    out: &'a mut [u8],
    at: usize,
}

impl Writer<'_> {
    fn head(&mut self, count: u8, kind: u8, length: usize) -> Option<()> {
        let words = u16::try_from(length / 4 - 1).ok()?;
        let [high, low] = words.to_be_bytes();
        self.bytes(&[0x80 | count, kind, high, low])
    }

    fn block(&mut self, block: &ReportBlock) -> Option<()> {
        let lost = block.cumulative_lost.clamp(-0x80_0000, 0x7f_ffff);
        let [_, high, middle, low] = lost.to_be_bytes();
        self.word(block.ssrc)?;
        self.bytes(&[block.fraction_lost, high, middle, low])?;
        self.word(block.highest_sequence)?;
        self.word(block.jitter)?;
        self.word(block.last_sender_report)?;
        self.word(block.delay_since_last)
    }

    fn word(&mut self, word: u32) -> Option<()> {
        self.bytes(&word.to_be_bytes())
    }

    fn bytes(&mut self, bytes: &[u8]) -> Option<()> {
        let end = self.at + bytes.len();
        self.out.get_mut(self.at..end)?.copy_from_slice(bytes);
        self.at = end;
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BLOCK: ReportBlock = ReportBlock {
        ssrc: 7,
        fraction_lost: 64,
        cumulative_lost: -3,
        highest_sequence: 0x0001_0009,
        jitter: 80,
        last_sender_report: 0x1234_5678,
        delay_since_last: 0x8000,
    };
    const INFO: SenderInfo = SenderInfo {
        ntp: NtpTime(0x0102_0304_0506_0708),
        rtp_timestamp: 160,
        packets: 10,
        octets: 1600,
    };

    fn written(report: &Report<'_>) -> Vec<u8> {
        let mut out = [0; COMPOUND_BYTES_MAX];
        let length = report.write(&mut out).unwrap();
        assert!(report.write(&mut out[..length - 1]).is_none(), "it fits exactly");
        out[..length].to_vec()
    }

    #[test]
    fn a_sender_report_reads_back_and_satisfies_the_oracle() {
        let bytes = written(&Report {
            ssrc: 5,
            sender: Some(INFO),
            block: Some(BLOCK),
            cname: b"x@y",
            metrics: None,
        });
        assert!(Compound::new(&bytes).is_well_formed());
        let packets: Vec<_> = Compound::new(&bytes).collect();
        let RtcpPacket::SenderReport { ssrc: 5, info: INFO, mut blocks } = packets[0] else {
            panic!("{packets:?}")
        };
        assert_eq!(blocks.next(), Some(BLOCK));
        assert_eq!(blocks.next(), None);
        assert_eq!(packets[1], RtcpPacket::Other(SOURCE_DESCRIPTION));

        let compound = rtcp_types::Compound::parse(&bytes).unwrap();
        for (index, packet) in compound.enumerate() {
            match packet.unwrap() {
                rtcp_types::Packet::Sr(sr) => {
                    assert_eq!(index, 0);
                    assert_eq!(sr.ntp_timestamp(), INFO.ntp.0);
                    let block = sr.report_blocks().next().unwrap();
                    assert_eq!(block.cumulative_lost(), 0xff_fffd);
                    assert_eq!(block.fraction_lost(), 64);
                    assert_eq!(block.delay_since_last_sender_report_timestamp(), 0x8000);
                }
                rtcp_types::Packet::Sdes(sdes) => {
                    let chunk = sdes.chunks().next().unwrap();
                    let item = chunk.items().next().unwrap();
                    assert_eq!((item.type_(), item.value()), (CNAME, &b"x@y"[..]));
                }
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn names_of_every_length_are_padded_to_a_word() {
        for length in 0..300 {
            let name = vec![b'n'; length];
            let bytes = written(&Report {
                ssrc: 5,
                sender: None,
                block: None,
                cname: &name,
                metrics: None,
            });
            assert_eq!(bytes.len() % 4, 0);
            assert!(rtcp_types::Compound::parse(&bytes).unwrap().all(|packet| packet.is_ok()));
        }
    }

    #[test]
    fn the_end_of_a_call_is_said_with_a_report_before_it() {
        let report =
            Report { ssrc: 5, sender: None, block: Some(BLOCK), cname: b"abc", metrics: None };
        let mut out = [0; COMPOUND_BYTES_MAX];
        let length = report.write_goodbye(&mut out).unwrap();
        let packets: Vec<_> = Compound::new(&out[..length]).collect();
        assert!(matches!(packets[0], RtcpPacket::ReceiverReport { ssrc: 5, .. }));
        assert_eq!(packets.last(), Some(&RtcpPacket::Goodbye { ssrc: Some(5) }));
        assert!(rtcp_types::Compound::parse(&out[..length]).unwrap().all(|packet| packet.is_ok()));
    }

    #[test]
    fn loss_beyond_24_bits_is_cut() {
        let block = ReportBlock { cumulative_lost: i32::MAX, ..BLOCK };
        let bytes = written(&Report {
            ssrc: 5,
            sender: None,
            block: Some(block),
            cname: b"",
            metrics: None,
        });
        let Some(RtcpPacket::ReceiverReport { mut blocks, .. }) = Compound::new(&bytes).next()
        else {
            panic!("no report")
        };
        assert_eq!(blocks.next().unwrap().cumulative_lost, 0x7f_ffff);
    }

    #[test]
    fn voip_metrics_read_back_among_blocks_of_other_types() {
        let metrics = VoipMetrics { ssrc: 9, loss_rate: 3, gmin: 16, ..VoipMetrics::default() };
        let report =
            Report { ssrc: 5, sender: None, block: None, cname: b"abc", metrics: Some(metrics) };
        let bytes = written(&report);
        assert!(Compound::new(&bytes).is_well_formed());
        let read = |bytes: &[u8]| -> Vec<VoipMetrics> {
            let extended = Compound::new(bytes).filter_map(|packet| match packet {
                RtcpPacket::Extended(blocks) => Some(blocks),
                _ => None,
            });
            extended.flat_map(Extensions::voip_metrics).collect()
        };
        assert_eq!(read(&bytes), [metrics]);
        // A block of receiver reference time, then ours, then one that is longer than its packet.
        let mut mixed = vec![0x80, EXTENDED_REPORT, 0, 14, 0, 0, 0, 5, 4, 0, 0, 2];
        mixed.extend([0; 8]);
        mixed.extend(metrics.written());
        mixed.extend([7, 0, 0, 8]);
        assert_eq!(read(&mixed), [metrics]);
    }

    #[test]
    fn malformed_packets_end_the_compound() {
        let good =
            written(&Report { ssrc: 5, sender: None, block: None, cname: b"abc", metrics: None });
        for (name, bytes) in [
            ("empty", vec![]),
            ("short", good[..7].to_vec()),
            ("version", [&[0x40][..], &good[1..]].concat()),
            ("count beyond the body", [&[0x81][..], &good[1..]].concat()),
            ("padding beyond the body", vec![0xa0, 201, 0, 1, 0, 0, 0, 200]),
            ("length beyond the datagram", vec![0x80, 201, 0, 9, 0, 0, 0, 1]),
        ] {
            assert_eq!(Compound::new(&bytes).next(), None, "{name}");
        }
        let mut tail = good.clone();
        tail.push(0);
        assert!(!Compound::new(&tail).is_well_formed());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_to_an_end(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut bytes = bytes;
            if let Some(first) = bytes.first_mut() {
                *first = 0x80 | (*first & 0x3f);
            }
            let read: usize = Compound::new(&bytes).map(|packet| match packet {
                RtcpPacket::SenderReport { blocks, .. }
                | RtcpPacket::ReceiverReport { blocks, .. } => 1 + blocks.count(),
                RtcpPacket::Extended(blocks) => blocks.voip_metrics().count(),
                RtcpPacket::Goodbye { .. } | RtcpPacket::Other(_) => 1,
            }).sum();
            prop_assert!(read <= bytes.len());
        }
    }
}
