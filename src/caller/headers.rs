//! `Headers`: whether the RTP header of each packet is what was agreed and the packets before it make one expect. A packet
//! that is lost is no fault of a header.

use crate::rtp::jitter::units_of;
use crate::rtp::packet::RtpPacket;
use crate::types::codec::Codec;
use std::fmt;

/// A telephone event in one segment lasts no longer, in units of its clock (RFC 4733 §2.5.1.3).
const SEGMENT: u16 = u16::MAX;

/// What a header can break.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderRule {
    /// The payload type is one that was agreed on (RFC 3264 §6.1).
    PayloadType,
    /// Numbers rise by one with each packet sent: none comes twice or after a later one, and none is left out (RFC 3550
    /// §5.1). What a network doubles or puts out of order looks the same.
    Sequence,
    /// Time goes on by what the packet before carried, or by whole ticks more (RFC 3550 §5.1).
    Timestamp,
    /// One stream, and one clock of it, until something is signalled (RFC 3550 §8, RFC 7160 §4.1).
    Ssrc,
    /// The first packet, and the first after a pause, bears a marker, and no other (RFC 3551 §4.1).
    Marker,
    /// A telephone event has one time stamp, a marker on its first packet alone, and an end (RFC 4733 §2.5.1).
    Event,
}

impl HeaderRule {
    /// The spelling of print-outs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::PayloadType => "payload type",
            Self::Sequence => "sequence number",
            Self::Timestamp => "time stamp",
            Self::Ssrc => "SSRC",
            Self::Marker => "marker",
            Self::Event => "telephone event",
        }
    }
}

/// A packet with a header that breaks a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeaderFault {
    /// What it breaks.
    pub rule: HeaderRule,
    /// Its payload type.
    pub payload_type: u8,
    /// Its marker.
    pub marker: bool,
    /// Its sequence number.
    pub sequence: u16,
    /// Its time stamp.
    pub timestamp: u32,
    /// Its stream.
    pub ssrc: u32,
    /// The sequence number and the time stamp that were next; `None`: it is the first packet.
    pub expected: Option<(u16, u32)>,
}

impl fmt::Display for HeaderFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rule, payload_type, marker, sequence, timestamp, ssrc, expected } = self;
        let marker = if *marker { ", marker" } else { "" };
        write!(f, "{}: type {payload_type}{marker}, number {sequence}, ", rule.as_str())?;
        write!(f, "time {timestamp}, SSRC {ssrc:08x}")?;
        match expected {
            Some((number, time)) => write!(f, "; next was number {number}, time {time}"),
            None => write!(f, "; the first packet"),
        }
    }
}

/// Packets whose headers broke a rule, each counted once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeaderFaults {
    /// Of [`HeaderRule::PayloadType`].
    pub payload_type: u64,
    /// Of [`HeaderRule::Sequence`].
    pub sequence: u64,
    /// Of [`HeaderRule::Timestamp`].
    pub timestamp: u64,
    /// Of [`HeaderRule::Ssrc`].
    pub ssrc: u64,
    /// Of [`HeaderRule::Marker`].
    pub marker: u64,
    /// Of [`HeaderRule::Event`].
    pub event: u64,
    /// The first of them.
    pub first: Option<HeaderFault>,
}

impl HeaderFaults {
    /// All of them.
    #[must_use]
    pub const fn total(&self) -> u64 {
        let Self { payload_type, sequence, timestamp, ssrc, marker, event, first: _ } = self;
        *payload_type + *sequence + *timestamp + *ssrc + *marker + *event
    }

    fn note(&mut self, fault: HeaderFault) {
        let count = match fault.rule {
            HeaderRule::PayloadType => &mut self.payload_type,
            HeaderRule::Sequence => &mut self.sequence,
            HeaderRule::Timestamp => &mut self.timestamp,
            HeaderRule::Ssrc => &mut self.ssrc,
            HeaderRule::Marker => &mut self.marker,
            HeaderRule::Event => &mut self.event,
        };
        *count += 1;
        self.first.get_or_insert(fault);
    }
}

/// What a payload type was agreed to mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Carried {
    Audio(Codec),
    Event,
}

/// Looks at each packet that the other side sends.
#[derive(Debug, Default)]
pub(super) struct Headers {
    stream: Option<Stream>,
    /// The SSRC before that one.
    left: Option<u32>,
    /// Something was signalled that may bring another SSRC.
    may_change: bool,
    /// Packets came that were not looked at.
    unseen: bool,
    /// Packets that were.
    judged: u64,
    faults: HeaderFaults,
}

/// One SSRC.
#[derive(Debug)]
struct Stream {
    ssrc: u32,
    next: u16,
    /// Where the next packet of audio begins, as far as `place` says.
    due: u32,
    place: Place,
    /// Clock of its audio, in Hz; `None`: none came.
    clock: Option<u32>,
    /// What time may go on by in a pause is a multiple of this, in units of the clock.
    grain: u32,
    event: Option<Event>,
}

/// What is known of where the next packet of audio begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Anywhere,
    /// At `due` or later: after a loss, or an event.
    Later,
    /// At `due`, or ticks later with a marker.
    Here,
}

/// The last packet of the last telephone event.
#[derive(Clone, Copy, Debug)]
struct Event {
    timestamp: u32,
    code: u8,
    duration: u16,
    ended: bool,
}

impl Headers {
    /// What was wrong so far.
    pub(super) const fn faults(&self) -> HeaderFaults {
        self.faults
    }

    /// How many packets were looked at so far.
    pub(super) const fn judged(&self) -> u64 {
        self.judged
    }

    /// Another description, or the answer: what is sent from now on may come from elsewhere.
    pub(super) const fn may_change(&mut self) {
        self.may_change = true;
    }

    /// A packet came of which nothing can be said.
    pub(super) const fn pass_over(&mut self) {
        self.unseen = true;
    }

    /// A packet came with a payload type that was not agreed on.
    pub(super) fn unagreed(&mut self, packet: &RtpPacket<'_>) {
        self.judged += 1;
        self.note(HeaderRule::PayloadType, packet, self.expected());
        self.unseen = true;
    }

    /// A packet came.
    pub(super) fn take(&mut self, packet: &RtpPacket<'_>, carried: Carried) {
        self.judged += 1;
        let expected = self.expected();
        let another = self.another(packet.ssrc);
        let begins = self.stream.is_none();
        let unseen = std::mem::take(&mut self.unseen);
        let stream = self.stream.get_or_insert_with(|| Stream::new(packet));
        let followed = stream.follow(packet, carried, unseen);
        let unmarked = begins && !unseen && !packet.marker;
        let broken = another.or(followed).or(unmarked.then_some(HeaderRule::Marker));
        if begins {
            self.may_change = false;
        }
        if let Some(rule) = broken {
            self.note(rule, packet, expected);
        }
    }

    /// Leaves the stream under way where `ssrc` is another one, and whether that was not to come.
    fn another(&mut self, ssrc: u32) -> Option<HeaderRule> {
        let before = self.stream.take_if(|stream| stream.ssrc != ssrc)?;
        let is_back = self.left.replace(before.ssrc) == Some(ssrc);
        (is_back || !self.may_change).then_some(HeaderRule::Ssrc)
    }

    fn expected(&self) -> Option<(u16, u32)> {
        self.stream.as_ref().map(|stream| (stream.next, stream.due))
    }

    fn note(&mut self, rule: HeaderRule, packet: &RtpPacket<'_>, expected: Option<(u16, u32)>) {
        let RtpPacket { marker, payload_type, sequence, timestamp, ssrc, payload: _ } = *packet;
        let payload_type = payload_type.get();
        let fault = HeaderFault { rule, payload_type, marker, sequence, timestamp, ssrc, expected };
        self.faults.note(fault);
    }
}

impl Stream {
    /// The one that a packet is the first of, before that is taken.
    const fn new(packet: &RtpPacket<'_>) -> Self {
        Self {
            ssrc: packet.ssrc,
            next: packet.sequence,
            due: packet.timestamp,
            place: Place::Anywhere,
            clock: None,
            grain: 1,
            event: None,
        }
    }

    /// Takes the next packet; which rule it breaks. `unseen`: there may have been others.
    fn follow(
        &mut self,
        packet: &RtpPacket<'_>,
        carried: Carried,
        unseen: bool,
    ) -> Option<HeaderRule> {
        let missed = packet.sequence.wrapping_sub(self.next);
        if missed >= 0x8000 && !unseen {
            return Some(HeaderRule::Sequence);
        }
        self.next = packet.sequence.wrapping_add(1);
        let was_here = self.place == Place::Here;
        match (unseen, missed) {
            (true, _) => self.place = Place::Anywhere,
            (false, 1..) if was_here => self.place = Place::Later,
            (false, _) => {}
        }
        let lost = unseen || missed > 0 || self.place == Place::Anywhere;
        match carried {
            Carried::Audio(codec) => {
                let left_out = if was_here && !unseen { missed } else { 0 };
                self.audio(packet, codec, left_out)
            }
            Carried::Event => self.event(packet, lost),
        }
    }

    /// `left_out`: so many numbers before this one did not come, each of which stands for some time.
    fn audio(&mut self, packet: &RtpPacket<'_>, codec: Codec, left_out: u16) -> Option<HeaderRule> {
        let (clock, tick) = (codec.clock_rate(), codec.clock_rate() / 50);
        let other_clock = self.clock.is_some_and(|own| own != clock);
        if self.clock != Some(clock) {
            (self.clock, self.grain, self.place) = (Some(clock), tick, Place::Anywhere);
        }
        let units = units_of(codec, packet.payload).map(|units| units * codec.clock_factor());
        if let Some(units) = units.filter(|units| *units > 0 && !units.is_multiple_of(tick)) {
            self.grain = self.grain.min(units).min(clock / 100);
        }
        let ahead = packet.timestamp.wrapping_sub(self.due).cast_signed();
        let broken = match (self.place, ahead) {
            (Place::Anywhere, _) => None,
            (Place::Later | Place::Here, ..0) => Some(HeaderRule::Timestamp),
            (Place::Later, _) => {
                (ahead.cast_unsigned() < u32::from(left_out)).then_some(HeaderRule::Sequence)
            }
            (Place::Here, 0) => packet.marker.then_some(HeaderRule::Marker),
            (Place::Here, _) if !ahead.cast_unsigned().is_multiple_of(self.grain) => {
                Some(HeaderRule::Timestamp)
            }
            (Place::Here, _) => (!packet.marker).then_some(HeaderRule::Marker),
        };
        self.due = packet.timestamp.wrapping_add(units.unwrap_or(0));
        // How long a payload is that cannot be read is not known.
        self.place = if units.is_some() { Place::Here } else { Place::Later };
        if other_clock { Some(HeaderRule::Ssrc) } else { broken }
    }

    /// `lost`: packets of it may have been missed before this one.
    fn event(&mut self, packet: &RtpPacket<'_>, lost: bool) -> Option<HeaderRule> {
        let [code, flags, high, low] = *packet.payload else { return Some(HeaderRule::Event) };
        let now = Event {
            timestamp: packet.timestamp,
            code,
            duration: u16::from_be_bytes([high, low]),
            ended: flags & 0x80 != 0,
        };
        if self.place == Place::Here {
            // Some say its end three times at once, others with time between.
            self.place = Place::Later;
        }
        let is_right = match self.event.replace(now) {
            Some(before) if before.timestamp == now.timestamp => {
                !packet.marker && before.goes_on(&now)
            }
            Some(before) if before.is_continued_by(&now) => !packet.marker,
            Some(_) | None if lost => true,
            Some(before) => before.ended && packet.marker,
            None => packet.marker,
        };
        (!is_right).then_some(HeaderRule::Event)
    }
}

impl Event {
    /// Whether the same may go on with `next`.
    const fn goes_on(&self, next: &Self) -> bool {
        let repeats = next.ended && next.duration == self.duration;
        self.code == next.code && self.duration <= next.duration && (!self.ended || repeats)
    }

    /// RFC 4733 §2.5.1.3: the next segment of a long one.
    const fn is_continued_by(&self, next: &Self) -> bool {
        let step = next.timestamp.wrapping_sub(self.timestamp);
        !self.ended && self.code == next.code && self.duration == SEGMENT && step == SEGMENT as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::codec::PayloadType;

    /// A stream as it should be, but for what a test changes.
    struct Sender {
        headers: Headers,
        codec: Codec,
        ssrc: u32,
        sequence: u16,
        timestamp: u32,
        payload: Vec<u8>,
    }

    impl Sender {
        fn of(codec: Codec, payload: &[u8]) -> Self {
            let headers = Headers::default();
            let (sequence, timestamp, payload) = (65_534, u32::MAX - 500, payload.to_vec());
            Self { headers, codec, ssrc: 7, sequence, timestamp, payload }
        }

        /// One that has sent two packets of µ-law.
        fn talking() -> Self {
            let mut sender = Self::of(Codec::Pcmu, &[0xff; 160]);
            sender.audio(true);
            sender.audio(false);
            assert_eq!(sender.headers.faults(), HeaderFaults::default());
            sender
        }

        fn send(&mut self, carried: Carried, marker: bool, timestamp: u32, payload: &[u8]) {
            let packet = RtpPacket {
                marker,
                payload_type: PayloadType::new(0).unwrap(),
                sequence: self.sequence,
                timestamp,
                ssrc: self.ssrc,
                payload,
            };
            self.sequence = self.sequence.wrapping_add(1);
            self.headers.take(&packet, carried);
        }

        fn audio(&mut self, marker: bool) {
            let (codec, payload) = (self.codec, self.payload.clone());
            self.send(Carried::Audio(codec), marker, self.timestamp, &payload);
            let units = units_of(codec, &payload).unwrap() * codec.clock_factor();
            self.timestamp = self.timestamp.wrapping_add(units);
        }

        /// A packet of an event that began so many packets of 20 ms before.
        fn event(&mut self, before: u32, marker: bool, ended: bool, duration: u16) {
            let [high, low] = duration.to_be_bytes();
            let began = self.timestamp.wrapping_sub(before * 160);
            self.timestamp = self.timestamp.wrapping_add(160);
            self.send(Carried::Event, marker, began, &[5, u8::from(ended) << 7 | 10, high, low]);
        }

        fn skip(&mut self, units: u32) {
            self.timestamp = self.timestamp.wrapping_add(units);
        }

        /// What was broken, after one more packet that follows on.
        #[track_caller]
        fn breaks(mut self, rule: Option<HeaderRule>) {
            self.audio(false);
            let faults = self.headers.faults();
            assert_eq!(faults.first.map(|fault| fault.rule), rule, "{faults:?}");
            assert_eq!(faults.total(), u64::from(rule.is_some()), "{faults:?}");
        }
    }

    #[test]
    fn pauses_keys_losses_and_numbers_that_wrap_break_nothing() {
        for (codec, payload) in [
            (Codec::Pcmu, &[0xff; 160][..]),
            (Codec::G722, &[1; 240]),
            (Codec::L16, &[0; 320]),
            (Codec::L16Wide, &[0; 640]),
            // 20 ms of Opus, and 2.5 ms.
            (Codec::Opus, &[9 << 3, 1, 2]),
            (Codec::Opus, &[16 << 3, 1, 2]),
        ] {
            let mut sender = Sender::of(codec, payload);
            sender.audio(true);
            sender.audio(false);
            sender.skip(codec.clock_rate() / 50 * 7);
            sender.audio(true);
            // A key whose end is said three times at once, and one with time between.
            for apart in [0, codec.clock_rate() / 50] {
                let began = sender.timestamp;
                for (at, ended) in [(1, 0), (2, 0), (3, 0x80), (3, 0x80), (3, 0x80)] {
                    sender.send(Carried::Event, at == 1, began, &[5, ended | 10, at, 0]);
                    sender.skip(if at < 3 { codec.clock_rate() / 50 } else { apart });
                }
                sender.audio(false);
            }
            // Two packets that do not come.
            sender.sequence = sender.sequence.wrapping_add(2);
            sender.skip(2 * units_of(codec, payload).unwrap() * codec.clock_factor());
            sender.audio(false);
            sender.breaks(None);
        }
    }

    #[test]
    fn a_wrong_payload_type_is_found() {
        let mut sender = Sender::talking();
        let stray = RtpPacket {
            marker: false,
            payload_type: PayloadType::new(96).unwrap(),
            sequence: sender.sequence,
            timestamp: sender.timestamp,
            ssrc: 7,
            payload: &[0; 160],
        };
        sender.headers.unagreed(&stray);
        sender.sequence = sender.sequence.wrapping_add(1);
        sender.skip(160);
        sender.breaks(Some(HeaderRule::PayloadType));
    }

    #[test]
    fn a_number_that_is_repeated_goes_back_or_is_left_out_is_found() {
        let mut repeated = Sender::talking();
        repeated.sequence = repeated.sequence.wrapping_sub(1);
        repeated.audio(false);
        repeated.timestamp = repeated.timestamp.wrapping_sub(160);
        repeated.breaks(Some(HeaderRule::Sequence));
        let mut back = Sender::talking();
        let next = back.sequence;
        back.sequence = next.wrapping_sub(300);
        back.audio(false);
        back.sequence = next;
        back.timestamp = back.timestamp.wrapping_sub(160);
        back.breaks(Some(HeaderRule::Sequence));
        let mut left_out = Sender::talking();
        left_out.sequence = left_out.sequence.wrapping_add(1);
        left_out.audio(false);
        left_out.breaks(Some(HeaderRule::Sequence));
    }

    #[test]
    fn time_that_jumps_or_goes_back_is_found() {
        for (units, marker) in [(80, true), (80, false), (1, true), (160_u32.wrapping_neg(), true)]
        {
            let mut sender = Sender::talking();
            sender.skip(units);
            sender.audio(marker);
            sender.breaks(Some(HeaderRule::Timestamp));
        }
        let mut lost = Sender::talking();
        lost.sequence = lost.sequence.wrapping_add(2);
        lost.skip(160_u32.wrapping_neg());
        lost.audio(false);
        lost.breaks(Some(HeaderRule::Timestamp));
    }

    #[test]
    fn another_ssrc_is_found_unless_it_was_signalled_and_so_is_one_that_comes_back() {
        for signalled in [false, true] {
            let mut sender = Sender::talking();
            if signalled {
                sender.headers.may_change();
            }
            sender.ssrc = 8;
            sender.audio(true);
            let rule = (!signalled).then_some(HeaderRule::Ssrc);
            sender.breaks(rule);
        }
        let mut back = Sender::talking();
        for ssrc in [8, 7] {
            back.headers.may_change();
            back.ssrc = ssrc;
            back.audio(true);
        }
        back.breaks(Some(HeaderRule::Ssrc));
        let mut clock = Sender::talking();
        (clock.codec, clock.payload) = (Codec::L16Wide, vec![0; 640]);
        clock.audio(false);
        clock.breaks(Some(HeaderRule::Ssrc));
    }

    #[test]
    fn a_marker_that_is_missing_or_too_many_is_found() {
        let mut begun = Sender::of(Codec::Pcmu, &[0xff; 160]);
        begun.audio(false);
        begun.breaks(Some(HeaderRule::Marker));
        let mut marked = Sender::talking();
        marked.audio(true);
        marked.breaks(Some(HeaderRule::Marker));
        let mut paused = Sender::talking();
        paused.skip(320);
        paused.audio(false);
        paused.breaks(Some(HeaderRule::Marker));
        // What was under way before anything could be said of it.
        let mut early = Sender::of(Codec::Pcmu, &[0xff; 160]);
        early.headers.pass_over();
        early.audio(false);
        early.breaks(None);
    }

    #[test]
    fn an_event_that_changes_its_time_has_no_marker_or_more_than_one_is_found() {
        let begun = || {
            let mut sender = Sender::talking();
            sender.event(0, true, false, 160);
            sender.event(1, false, false, 320);
            sender
        };
        let after = |changed: fn(&mut Sender)| {
            let mut sender = begun();
            changed(&mut sender);
            sender.headers.faults()
        };
        let right: [fn(&mut Sender); 2] = [
            |sender| sender.event(2, false, true, 480),
            |sender| sender.event(2, false, false, 480),
        ];
        for changed in right {
            assert_eq!(after(changed), HeaderFaults::default());
        }
        let wrong: [fn(&mut Sender); 5] = [
            // Another time stamp, with a marker and without.
            |sender| sender.event(1, false, false, 480),
            |sender| sender.event(0, true, false, 160),
            |sender| sender.event(2, true, false, 480),
            |sender| sender.event(2, false, false, 160),
            |sender| sender.send(Carried::Event, false, 0, &[5, 10, 1]),
        ];
        for changed in wrong {
            let faults = after(changed);
            assert_eq!((faults.event, faults.total()), (1, 1), "{faults:?}");
        }
        let mut unmarked = Sender::talking();
        unmarked.event(0, false, false, 160);
        assert_eq!(unmarked.headers.faults().event, 1);
        let mut ended = begun();
        ended.event(2, false, true, 480);
        ended.event(3, false, true, 640);
        assert_eq!(ended.headers.faults().event, 1);
    }

    #[test]
    fn a_fault_says_what_came_and_what_was_next() {
        let mut sender = Sender::talking();
        sender.skip(80);
        sender.audio(true);
        let fault = sender.headers.faults().first.unwrap();
        assert_eq!(
            fault.to_string(),
            "time stamp: type 0, marker, number 0, time 4294967195, SSRC 00000007; next was number \
             0, time 4294967115"
        );
    }
}
