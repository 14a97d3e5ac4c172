//! The stream we receive: loss and jitter as RFC 3550 counts them (A.3, A.8).

use std::time::Duration;

use crate::rtp::jitter::Content;
use crate::rtp::ntp::NtpTime;
use crate::rtp::ntp::to_short;
use crate::rtp::packet::RtpPacket;
use crate::rtp::rtcp::ReportBlock;
use crate::rtp::sequence::Arrival;
use crate::rtp::sequence::StreamGate;
use crate::types::moment::Moment;

/// Statistics of all streams that were received.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReceiverStatistics {
    /// Packets of believed streams.
    pub packets: u64,
    /// Their payload octets.
    pub octets: u64,
    /// Packets expected by sequence number.
    pub expected: u64,
    /// Expected and never received; negative when more came twice.
    pub lost: i64,
    /// Packets that were not believed.
    pub suspect: u64,
    /// Streams that began, the first included.
    pub streams: u64,
    /// Interarrival jitter of the current stream, in µs.
    pub jitter_us: u32,
    /// The largest it ever was, in µs.
    pub jitter_max_us: u32,
    /// Audio in a packet, as the last two tell that followed on each other, in µs; 0: not known yet.
    pub packet_us: u32,
}

/// Counts what comes, and makes the report blocks about it.
#[derive(Clone, Debug)]
pub struct Receiver {
    clock_rate: u32,
    gate: StreamGate,
    /// First extended sequence number of the stream.
    first: u64,
    /// Packets of the stream.
    received: u64,
    /// Jitter in 1/16 of a unit.
    jitter: u32,
    transit: Option<u32>,
    /// The extended sequence number and time stamp of the last audio.
    last_audio: Option<(u64, u32)>,
    /// Expected and received at the last report.
    reported: (u64, u64),
    last_sender_report: Option<(NtpTime, Moment)>,
    /// Expected by the streams before this one.
    expected_before: u64,
    totals: ReceiverStatistics,
}

impl Receiver {
    /// A receiver for a codec with a clock of `clock_rate` Hz.
    #[must_use]
    pub fn new(clock_rate: u32) -> Self {
        Self {
            clock_rate,
            gate: StreamGate::new(),
            first: 0,
            received: 0,
            jitter: 0,
            transit: None,
            last_audio: None,
            reported: (0, 0),
            last_sender_report: None,
            expected_before: 0,
            totals: ReceiverStatistics::default(),
        }
    }

    /// Another SSRC is expected: signalling said that the stream changes.
    pub const fn expect_another(&mut self) {
        self.gate.expect_another();
    }

    /// What comes from now on has a clock of `clock_rate` Hz.
    pub fn set_clock(&mut self, clock_rate: u32) {
        if clock_rate != self.clock_rate {
            let scaled = u64::from(self.jitter) * u64::from(clock_rate);
            let jitter = scaled / u64::from(self.clock_rate.max(1));
            self.jitter = u32::try_from(jitter).unwrap_or(u32::MAX);
            self.clock_rate = clock_rate;
            // Stamps of the two clocks have nothing to do with each other.
            (self.transit, self.last_audio) = (None, None);
        }
    }

    /// The SSRC of the stream.
    #[must_use]
    pub fn ssrc(&self) -> Option<u32> {
        self.gate.ssrc()
    }

    /// The extended sequence number of the newest packet of the stream, where that is audio.
    #[must_use]
    pub fn newest_audio(&self) -> Option<u64> {
        let newest = self.gate.highest()?;
        self.last_audio.filter(|(number, _)| *number == newest).map(|(number, _)| number)
    }

    /// Audio in a packet, in µs; 0: not known yet.
    #[must_use]
    pub const fn packet_us(&self) -> u32 {
        self.totals.packet_us
    }

    /// Counts a packet that arrived at `arrival`, and says whether it belongs to the stream. Only audio
    /// counts for the jitter: the packets of an event share one time stamp.
    pub fn receive(
        &mut self,
        arrival: Moment,
        packet: &RtpPacket<'_>,
        content: Content,
    ) -> Arrival {
        let expected = self.expected();
        let verdict = self.gate.accept(packet.ssrc, packet.sequence);
        match verdict {
            Arrival::Suspect => {
                self.totals.suspect += 1;
                return verdict;
            }
            Arrival::Begins(sequence) => {
                self.expected_before = self.expected_before.saturating_add(expected);
                self.first = sequence;
                self.received = 0;
                self.jitter = 0;
                self.transit = None;
                self.last_audio = None;
                self.reported = (0, 0);
                self.last_sender_report = None;
                self.totals.streams += 1;
            }
            Arrival::Follows(sequence) => self.first = self.first.min(sequence),
        }
        self.received += 1;
        self.totals.packets += 1;
        self.totals.octets += packet.payload.len() as u64;
        if content == Content::Audio {
            self.measure(arrival, packet.timestamp);
            if let Arrival::Begins(sequence) | Arrival::Follows(sequence) = verdict {
                self.time_packet(sequence, packet.timestamp);
            }
        }
        verdict
    }

    /// Notes a sender report of the stream; one of another stream changes nothing.
    pub fn sender_report(&mut self, arrival: Moment, ssrc: u32, ntp: NtpTime) {
        if self.gate.ssrc() == Some(ssrc) {
            self.last_sender_report = Some((ntp, arrival));
        }
    }

    /// The report block about the stream; `None` if there is none. To be asked once for each report,
    /// because the fraction lost is that since the one before.
    pub fn report(&mut self, now: Moment) -> Option<ReportBlock> {
        let ssrc = self.gate.ssrc()?;
        let highest = self.gate.highest()?;
        let expected = self.expected();
        let (expected_then, received_then) = self.reported;
        let (expected_since, received_since) =
            (expected - expected_then, self.received - received_then);
        self.reported = (expected, self.received);
        let lost_since = expected_since.saturating_sub(received_since);
        let fraction = (lost_since << 8).checked_div(expected_since).unwrap_or(0);
        let (last_sender_report, delay_since_last) = match self.last_sender_report {
            Some((ntp, arrival)) => (ntp.middle(), to_short(now.since(arrival))),
            None => (0, 0),
        };
        Some(ReportBlock {
            ssrc,
            fraction_lost: u8::try_from(fraction).unwrap_or(u8::MAX),
            cumulative_lost: i32::try_from(self.lost()).unwrap_or(i32::MAX),
            highest_sequence: highest as u32,
            jitter: self.jitter >> 4,
            last_sender_report,
            delay_since_last,
        })
    }

    /// The statistics up to now.
    #[must_use]
    pub fn statistics(&self) -> ReceiverStatistics {
        let expected = self.expected_before.saturating_add(self.expected());
        ReceiverStatistics {
            expected,
            lost: expected.cast_signed().saturating_sub(self.totals.packets.cast_signed()),
            jitter_us: self.jitter_us(),
            ..self.totals
        }
    }

    fn expected(&self) -> u64 {
        self.gate.highest().map_or(0, |highest| (highest + 1).saturating_sub(self.first))
    }

    fn lost(&self) -> i64 {
        self.expected().cast_signed().saturating_sub(self.received.cast_signed())
    }

    /// RFC 3550 A.8, with the jitter in 1/16 so that nothing is lost by rounding.
    fn measure(&mut self, arrival: Moment, timestamp: u32) {
        let nanos = u128::from(arrival.as_nanos());
        let arrived = (nanos * u128::from(self.clock_rate) / 1_000_000_000) as u32;
        let transit = arrived.wrapping_sub(timestamp);
        if let Some(before) = self.transit.replace(transit) {
            let change = transit.wrapping_sub(before).cast_signed().unsigned_abs();
            // A second of it is a jump of the sender's clock.
            if change < self.clock_rate {
                self.jitter = self.jitter + change - ((self.jitter + 8) >> 4);
                self.totals.jitter_max_us = self.totals.jitter_max_us.max(self.jitter_us());
            }
        }
    }

    fn time_packet(&mut self, sequence: u64, timestamp: u32) {
        let before = self.last_audio.replace((sequence, timestamp));
        let follows = before.filter(|(before, _)| sequence == before + 1);
        let units = follows.map_or(0, |(_, before)| timestamp.wrapping_sub(before));
        // A second of it is a pause or a jump of the sender's clock.
        if units > 0 && units < self.clock_rate {
            let micros = u64::from(units) * 1_000_000 / u64::from(self.clock_rate);
            self.totals.packet_us = u32::try_from(micros).unwrap_or(0);
        }
    }

    fn jitter_us(&self) -> u32 {
        let nanos = u64::from(self.jitter) * 1_000_000_000 / 16 / u64::from(self.clock_rate.max(1));
        u32::try_from(Duration::from_nanos(nanos).as_micros()).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::codec::PayloadType;

    fn packet(ssrc: u32, sequence: u16, timestamp: u32) -> RtpPacket<'static> {
        RtpPacket {
            marker: false,
            payload_type: PayloadType::new(0).unwrap(),
            sequence,
            timestamp,
            ssrc,
            payload: &[0; 160],
        }
    }

    fn receive(receiver: &mut Receiver, millis: u64, sequence: u16) {
        let packet = packet(9, sequence, u32::from(sequence) * 160);
        receiver.receive(Moment::from_millis(millis), &packet, Content::Audio);
    }

    #[test]
    fn the_fraction_lost_is_that_since_the_last_report() {
        let mut receiver = Receiver::new(8000);
        assert_eq!(receiver.report(Moment::START), None);
        for sequence in (0..100).filter(|sequence| sequence % 4 != 1) {
            receive(&mut receiver, 20 * u64::from(sequence), sequence);
        }
        let report = receiver.report(Moment::from_millis(2000)).unwrap();
        assert_eq!((report.ssrc, report.fraction_lost, report.cumulative_lost), (9, 64, 25));
        assert_eq!(report.highest_sequence & 0xffff, 99);
        for sequence in 100..200 {
            receive(&mut receiver, 20 * u64::from(sequence), sequence);
        }
        let report = receiver.report(Moment::from_millis(4000)).unwrap();
        assert_eq!((report.fraction_lost, report.cumulative_lost), (0, 25));
        let statistics = receiver.statistics();
        assert_eq!((statistics.expected, statistics.packets, statistics.lost), (200, 175, 25));
    }

    #[test]
    fn duplicates_make_the_loss_negative_and_the_fraction_zero() {
        let mut receiver = Receiver::new(8000);
        for sequence in 0..10 {
            receive(&mut receiver, 20, sequence);
            receive(&mut receiver, 20, sequence);
        }
        let report = receiver.report(Moment::START).unwrap();
        assert_eq!((report.fraction_lost, report.cumulative_lost), (0, -10));
    }

    #[test]
    fn even_arrival_has_no_jitter_and_uneven_arrival_converges() {
        let mut receiver = Receiver::new(8000);
        for sequence in 0..500 {
            receive(&mut receiver, 20 * u64::from(sequence), sequence);
        }
        assert_eq!(receiver.statistics().jitter_us, 0);
        for sequence in 500..1500 {
            let wobble = u64::from(sequence % 2) * 10;
            receive(&mut receiver, 20 * u64::from(sequence) + wobble, sequence);
        }
        let jitter = receiver.statistics().jitter_us;
        assert!((9_000..=10_100).contains(&jitter), "{jitter}");
    }

    #[test]
    fn events_and_jumps_of_the_clock_are_no_jitter() {
        let mut receiver = Receiver::new(8000);
        receive(&mut receiver, 0, 0);
        for sequence in 1..5 {
            let arrival = Moment::from_millis(20 * u64::from(sequence));
            receiver.receive(arrival, &packet(9, sequence, 160), Content::Other);
        }
        receive(&mut receiver, 100, 5);
        let jumped = packet(9, 6, 5_000_000);
        receiver.receive(Moment::from_millis(120), &jumped, Content::Audio);
        assert_eq!(receiver.statistics().jitter_us, 0);
        assert_eq!(receiver.statistics().lost, 0);
    }

    #[test]
    fn totals_go_on_over_a_change_of_stream() {
        let mut receiver = Receiver::new(8000);
        for sequence in 0..10 {
            receive(&mut receiver, 20, sequence);
        }
        for sequence in 500..510 {
            let arrival = Moment::from_millis(400);
            receiver.receive(arrival, &packet(10, sequence, 0), Content::Other);
        }
        let statistics = receiver.statistics();
        assert_eq!((statistics.packets, statistics.expected, statistics.lost), (19, 19, 0));
        assert_eq!((statistics.streams, statistics.suspect), (2, 1));
        assert_eq!(receiver.report(Moment::START).unwrap().ssrc, 10);
    }

    #[test]
    fn a_report_refers_to_the_last_sender_report_of_the_stream() {
        let mut receiver = Receiver::new(8000);
        receive(&mut receiver, 0, 0);
        receiver.sender_report(Moment::from_millis(100), 8, NtpTime(1));
        assert_eq!(receiver.report(Moment::from_millis(600)).unwrap().last_sender_report, 0);
        receiver.sender_report(Moment::from_millis(100), 9, NtpTime(0x1122_3344_5566_7788));
        let report = receiver.report(Moment::from_millis(600)).unwrap();
        assert_eq!((report.last_sender_report, report.delay_since_last), (0x3344_5566, 0x8000));
    }
}
