//! The stream we send: sequence numbers, time stamps, markers, and what the peer reports about it.
#![warn(clippy::indexing_slicing)]

use std::time::Duration;

use crate::rtp::dtmf::EventPacket;
use crate::rtp::ntp::NtpTime;
use crate::rtp::ntp::from_short;
use crate::rtp::packet::RtpPacket;
use crate::rtp::rtcp::ReportBlock;
use crate::rtp::rtcp::SenderInfo;
use crate::types::codec::PayloadType;
use crate::types::moment::Moment;
use crate::types::random::Random;

/// A round trip beyond this is an error of the peer's clock.
const ROUND_TRIP_MAX: Duration = Duration::from_secs(10);

/// What the peer reported about our stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Feedback {
    /// Reports that came.
    pub reports: u32,
    /// Loss between its last two reports, in 1/256.
    pub fraction_lost: u8,
    /// Packets it misses in all, of streams before too.
    pub cumulative_lost: i32,
    /// Interarrival jitter, in units of the clock rate.
    pub jitter: u32,
    /// The last round trip.
    pub round_trip: Option<Duration>,
}

/// One RTP stream of ours. SSRC, first sequence number and first time stamp are random (RFC 3550 §5.1),
/// and are kept over hold and re-INVITE.
#[derive(Clone, Debug)]
pub struct Sender {
    random: Random,
    ssrc: u32,
    sequence: u16,
    timestamp: u32,
    marker: bool,
    /// Units of its clock in one of 8 kHz, in which all that asks for time counts.
    factor: u32,
    packets: u64,
    octets: u64,
    /// What streams before this one count for.
    earlier: Earlier,
    /// An SSRC that was given up, until its peer is told.
    left: Option<u32>,
    /// Packets that were sent at the last report and at the one before.
    reported: [u64; 2],
    feedback: Feedback,
}

/// Streams of ours that ended because another SSRC was taken.
#[derive(Clone, Copy, Debug, Default)]
struct Earlier {
    packets: u64,
    octets: u64,
    /// Packets of them that the peer misses.
    lost: i32,
}

impl Sender {
    /// A stream whose random values follow from `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let mut random = Random::from_seed(seed);
        Self {
            ssrc: random.next_u32(),
            sequence: first_sequence(&mut random),
            timestamp: random.next_u32(),
            random,
            marker: true,
            factor: 1,
            packets: 0,
            octets: 0,
            earlier: Earlier::default(),
            left: None,
            reported: [0; 2],
            feedback: Feedback::default(),
        }
    }

    /// What is sent from now on has a clock of so many times 8 kHz. Another one than before is another stream
    /// (RFC 7160 §4.1), with an SSRC of its own.
    pub fn set_clock(&mut self, factor: u32) {
        if factor != self.factor {
            self.factor = factor;
            if self.packets > 0 {
                self.change_ssrc();
            }
        }
    }

    /// The SSRC.
    #[must_use]
    pub const fn ssrc(&self) -> u32 {
        self.ssrc
    }

    /// The time stamp of the next sample.
    #[must_use]
    pub const fn timestamp(&self) -> u32 {
        self.timestamp
    }

    /// The time stamp of what comes after so many samples at 8 kHz.
    #[must_use]
    pub const fn timestamp_after(&self, samples: u32) -> u32 {
        self.timestamp.wrapping_add(samples.wrapping_mul(self.factor))
    }

    /// Packets sent.
    #[must_use]
    pub const fn packets(&self) -> u64 {
        self.packets
    }

    /// Payload octets sent.
    #[must_use]
    pub const fn octets(&self) -> u64 {
        self.octets
    }

    /// What the peer last reported.
    #[must_use]
    pub const fn feedback(&self) -> Feedback {
        self.feedback
    }

    /// Writes a packet of `samples` samples at 8 kHz to `out` and returns its length; `None`, with nothing changed,
    /// if it does not fit. The marker is set on the first packet after a gap (RFC 3551 §4.1).
    pub fn audio(
        &mut self,
        payload_type: PayloadType,
        payload: &[u8],
        samples: u32,
        out: &mut [u8],
    ) -> Option<usize> {
        let (marker, timestamp) = (self.marker, self.timestamp);
        let length = self.write(
            &RtpPacket {
                marker,
                payload_type,
                sequence: self.sequence,
                timestamp,
                ssrc: self.ssrc,
                payload,
            },
            out,
        )?;
        self.marker = false;
        self.pass(samples);
        Some(length)
    }

    /// Writes a packet of a telephone event in place of `samples` samples of audio. The audio after it
    /// bears no marker, because time went on without a gap: one that was lies before the event, and is marked by that.
    pub fn event(
        &mut self,
        payload_type: PayloadType,
        event: &EventPacket,
        samples: u32,
        out: &mut [u8],
    ) -> Option<usize> {
        let length = self.write(
            &RtpPacket {
                marker: event.marker,
                payload_type,
                sequence: self.sequence,
                timestamp: event.timestamp,
                ssrc: self.ssrc,
                payload: &event.payload,
            },
            out,
        )?;
        self.marker &= !event.marker;
        self.pass(samples);
        Some(length)
    }

    /// Lets time go on by `samples` without a packet: hold, or ticks that were missed.
    pub fn skip(&mut self, samples: u32) {
        self.pass(samples);
        self.marker = true;
    }

    /// The next packet bears a marker though no time went by: whoever hears it has heard nothing of what was before.
    pub const fn mark(&mut self) {
        self.marker = true;
    }

    /// Lets time go on by `samples` whose audio was lost on its way to us. [`Self::leave_hole`] tells the peer.
    pub const fn miss(&mut self, samples: u32) {
        self.pass(samples);
    }

    /// Leaves a sequence number out: the peer conceals what it takes for lost.
    pub const fn leave_hole(&mut self) {
        self.sequence = self.sequence.wrapping_add(1);
    }

    /// Takes another SSRC: the peer uses ours, or another clock or key begins another stream. Reports count that from
    /// zero (RFC 3550 §6.4.1); the figures here go on. A BYE for the old one is up to the caller, by
    /// [`Self::take_left`].
    pub fn change_ssrc(&mut self) {
        let old = self.ssrc;
        if self.packets > self.earlier.packets {
            self.left = Some(old);
        }
        let lost = self.feedback.cumulative_lost;
        self.earlier = Earlier { packets: self.packets, octets: self.octets, lost };
        while self.ssrc == old {
            self.ssrc = self.random.next_u32();
        }
        self.sequence = first_sequence(&mut self.random);
        self.marker = true;
        self.reported = [self.packets; 2];
    }

    /// The SSRC that was given up since the last time, if anything was sent under it.
    pub const fn take_left(&mut self) -> Option<u32> {
        self.left.take()
    }

    /// What a report at `now` says about us; `None` when nothing was sent since the last two, so that it
    /// is an RR (RFC 3550 §6.4). To be asked once for each report.
    pub fn report(&mut self, now: Moment) -> Option<SenderInfo> {
        let [last, before] = self.reported;
        self.reported = [self.packets, last];
        (self.packets != before).then_some(SenderInfo {
            ntp: NtpTime::of(now),
            rtp_timestamp: self.timestamp,
            packets: (self.packets - self.earlier.packets) as u32,
            octets: (self.octets - self.earlier.octets) as u32,
        })
    }

    /// Takes a report block of the peer's; one about another stream changes nothing.
    pub fn reported(&mut self, now: Moment, block: &ReportBlock) {
        if block.ssrc != self.ssrc {
            return;
        }
        self.feedback.reports = self.feedback.reports.saturating_add(1);
        self.feedback.fraction_lost = block.fraction_lost;
        self.feedback.cumulative_lost = self.earlier.lost.saturating_add(block.cumulative_lost);
        self.feedback.jitter = block.jitter;
        if let Some(round_trip) = round_trip(now, block) {
            self.feedback.round_trip = Some(round_trip);
        }
    }

    const fn pass(&mut self, samples: u32) {
        self.timestamp = self.timestamp_after(samples);
    }

    fn write(&mut self, packet: &RtpPacket<'_>, out: &mut [u8]) -> Option<usize> {
        let length = packet.write(out)?;
        self.sequence = self.sequence.wrapping_add(1);
        self.packets += 1;
        self.octets += packet.payload.len() as u64;
        Some(length)
    }
}

/// The time since our report which the peer names, less the time it kept it (RFC 3550 §6.4.1).
fn round_trip(now: Moment, block: &ReportBlock) -> Option<Duration> {
    if block.last_sender_report == 0 {
        return None;
    }
    let since = NtpTime::of(now).middle().wrapping_sub(block.last_sender_report);
    // A negative time is a huge one here.
    let round_trip = from_short(since.checked_sub(block.delay_since_last)?);
    (round_trip <= ROUND_TRIP_MAX).then_some(round_trip)
}

/// RFC 3711 §3.3.1: in the lower half, so that losing the first packets cannot hide from the peer of an
/// encrypted stream that the number wrapped.
const fn first_sequence(random: &mut Random) -> u16 {
    random.next_u32() as u16 & 0x7fff
}

#[cfg(test)]
mod tests {
    use super::*;

    const PCMU: Option<PayloadType> = PayloadType::new(0);
    const EVENT: Option<PayloadType> = PayloadType::new(101);

    /// (marker, sequence and time stamp relative to the first packet)
    fn seen(first: &Sender, out: &[u8]) -> (bool, u16, u32) {
        let packet = RtpPacket::parse(out).unwrap();
        assert_eq!(packet.ssrc, first.ssrc);
        let sequence = packet.sequence.wrapping_sub(first.sequence);
        (packet.marker, sequence, packet.timestamp.wrapping_sub(first.timestamp))
    }

    #[test]
    fn time_goes_on_in_silence_and_numbers_do_not() {
        let mut sender = Sender::new(3);
        let first = sender.clone();
        let mut out = [0; 200];
        let mut audio = |sender: &mut Sender| {
            let length = sender.audio(PCMU.unwrap(), &[0xff; 160], 160, &mut out).unwrap();
            seen(&first, &out[..length])
        };
        assert_eq!(audio(&mut sender), (true, 0, 0));
        assert_eq!(audio(&mut sender), (false, 1, 160));
        sender.skip(1600);
        assert_eq!(audio(&mut sender), (true, 2, 1920));
        assert_eq!(audio(&mut sender), (false, 3, 2080));
        assert_eq!((sender.packets(), sender.octets()), (4, 640));
    }

    #[test]
    fn an_event_takes_the_place_of_audio() {
        let mut sender = Sender::new(4);
        let first = sender.clone();
        let mut out = [0; 200];
        sender.audio(PCMU.unwrap(), &[0xff; 160], 160, &mut out).unwrap();
        let start = sender.timestamp();
        for number in 1..=3 {
            let marker = number == 1;
            let event = EventPacket { timestamp: start, marker, payload: [1, 10, 0, 160] };
            let length = sender.event(EVENT.unwrap(), &event, 160, &mut out).unwrap();
            assert_eq!(seen(&first, &out[..length]), (marker, number, 160));
        }
        let length = sender.audio(PCMU.unwrap(), &[0xff; 160], 160, &mut out).unwrap();
        assert_eq!(seen(&first, &out[..length]), (false, 4, 640));
    }

    #[test]
    fn audio_right_behind_an_event_bears_no_marker_whatever_was_before_that() {
        let mut out = [0; 200];
        // A stream that begins with an event, one before which there was a pause, and one with ticks left out within.
        for (before, within) in [(0, 0), (800, 0), (0, 320)] {
            let mut sender = Sender::new(10);
            if before > 0 {
                sender.audio(PCMU.unwrap(), &[0xff; 160], 160, &mut out).unwrap();
                sender.skip(before);
            }
            let timestamp = sender.timestamp();
            for marker in [true, false, false] {
                let event = EventPacket { timestamp, marker, payload: [1, 0x8a, 0, 160] };
                let length = sender.event(EVENT.unwrap(), &event, 160, &mut out).unwrap();
                assert_eq!(RtpPacket::parse(&out[..length]).unwrap().marker, marker);
                if marker && within > 0 {
                    sender.skip(within);
                }
            }
            let next = sender.timestamp_after(160);
            let length = sender.audio(PCMU.unwrap(), &[0xff; 160], 160, &mut out).unwrap();
            let marker = RtpPacket::parse(&out[..length]).unwrap().marker;
            assert_eq!(marker, within > 0, "{before} {within}: that gap nothing else marks");
            assert_eq!(sender.timestamp(), next);
            sender.skip(160);
            let length = sender.audio(PCMU.unwrap(), &[0xff; 160], 160, &mut out).unwrap();
            assert!(RtpPacket::parse(&out[..length]).unwrap().marker, "a pause of its own");
        }
    }

    #[test]
    fn a_packet_that_does_not_fit_changes_nothing() {
        let mut sender = Sender::new(5);
        let before = sender.timestamp();
        assert_eq!(sender.audio(PCMU.unwrap(), &[0; 160], 160, &mut [0; 100]), None);
        assert_eq!((sender.timestamp(), sender.packets()), (before, 0));
    }

    #[test]
    fn a_stream_that_fell_silent_sends_receiver_reports() {
        let mut sender = Sender::new(6);
        let now = Moment::from_millis(5000);
        assert_eq!(sender.report(now), None);
        sender.audio(PCMU.unwrap(), &[0; 160], 160, &mut [0; 200]).unwrap();
        assert_eq!(sender.report(now).map(|info| (info.packets, info.octets)), Some((1, 160)));
        assert!(sender.report(now).is_some(), "sent since the last two reports");
        assert_eq!(sender.report(now), None);
    }

    #[test]
    fn the_round_trip_is_what_the_peer_did_not_keep() {
        let mut sender = Sender::new(7);
        let sent = Moment::from_millis(70_000);
        let mut block = ReportBlock {
            ssrc: sender.ssrc(),
            fraction_lost: 3,
            last_sender_report: NtpTime::of(sent).middle(),
            delay_since_last: 0x8000,
            ..ReportBlock::default()
        };
        sender.reported(sent + Duration::from_millis(580), &block);
        let round_trip = sender.feedback().round_trip.unwrap();
        assert!(round_trip.abs_diff(Duration::from_millis(80)) < Duration::from_millis(1));
        assert_eq!(sender.feedback().fraction_lost, 3);

        // Answered sooner than possible, much too late, or never sent: the last good value stays.
        sender.reported(sent + Duration::from_millis(400), &block);
        sender.reported(sent + Duration::from_secs(30), &block);
        block.last_sender_report = 0;
        sender.reported(sent, &block);
        assert_eq!(sender.feedback().round_trip, Some(round_trip));
        assert_eq!(sender.feedback().reports, 4);

        block.ssrc ^= 1;
        sender.reported(sent, &block);
        assert_eq!(sender.feedback().reports, 4);
    }

    #[test]
    fn another_clock_is_another_stream_whose_time_runs_faster() {
        let mut sender = Sender::new(9);
        let (old, mut out) = (sender.ssrc(), [0; 200]);
        sender.set_clock(6);
        assert_eq!(sender.ssrc(), old, "nothing was sent yet");
        let start = sender.timestamp();
        sender.audio(PCMU.unwrap(), &[0; 60], 160, &mut out).unwrap();
        sender.skip(160);
        assert_eq!(sender.timestamp().wrapping_sub(start), 2 * 960);
        sender.set_clock(6);
        assert_eq!(sender.ssrc(), old, "the same one");
        sender.set_clock(1);
        assert_ne!(sender.ssrc(), old);
        let length = sender.audio(PCMU.unwrap(), &[0; 160], 160, &mut out).unwrap();
        assert!(RtpPacket::parse(&out[..length]).unwrap().marker);
    }

    #[test]
    fn a_collision_changes_the_stream() {
        let mut sender = Sender::new(8);
        let old = sender.ssrc();
        sender.change_ssrc();
        assert_ne!(sender.ssrc(), old);
        assert_eq!(sender.take_left(), None, "nobody knew of it");
    }

    #[test]
    fn another_stream_is_counted_from_zero_in_reports_and_added_up_in_figures() {
        let (mut sender, mut out) = (Sender::new(8), [0; 200]);
        let mut send = |sender: &mut Sender, count: usize| {
            (0..count).for_each(|_| {
                sender.audio(PCMU.unwrap(), &[0; 160], 160, &mut out).unwrap();
            });
        };
        let block = |sender: &Sender, cumulative_lost| ReportBlock {
            ssrc: sender.ssrc(),
            cumulative_lost,
            ..Default::default()
        };
        send(&mut sender, 100);
        sender.reported(Moment::START, &block(&sender, 10));
        let old = sender.ssrc();
        sender.change_ssrc();
        assert_eq!(sender.take_left(), Some(old));
        assert_eq!(sender.take_left(), None, "once");
        assert_eq!(sender.report(Moment::START), None, "nothing was sent under it");
        send(&mut sender, 7);
        let info = sender.report(Moment::START).unwrap();
        assert_eq!((info.packets, info.octets), (7, 7 * 160));
        assert_eq!(sender.feedback().cumulative_lost, 10);
        sender.reported(Moment::START, &block(&sender, 2));
        assert_eq!(sender.feedback().cumulative_lost, 12);
        assert_eq!((sender.packets(), sender.octets()), (107, 107 * 160));
    }
}
