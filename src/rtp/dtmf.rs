//! Telephone events (RFC 4733): each digit heard once, and digits sent.
#![warn(clippy::indexing_slicing)]

use std::time::Duration;

use crate::rtp::dtmf_telling::Telling;
use crate::rtp::packet::RtpPacket;
use crate::types::moment::Moment;

pub use crate::rtp::dtmf_relay::KeyQueue;
pub use crate::rtp::dtmf_relay::KeyState;
pub use crate::rtp::dtmf_relay::Relay;

const DIGITS: &[u8; 16] = b"0123456789*#ABCD";
/// Silence after which an event has ended although no packet said so: three of the 50 ms between the
/// updates of the slowest senders.
const LOST_END: Duration = Duration::from_millis(150);
/// A first segment this long, in time-stamp units, may be continued by another (RFC 4733 §2.5.1.3).
const SEGMENT_MIN: u32 = 0xf000;
const SEGMENT_MAX: u32 = 0xffff;
/// How far back a time stamp may be and still be a reordered packet of an event that is over, in units.
const REORDER_MAX: u32 = 40_000;

/// What a peer pressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DtmfEvent {
    /// The key went down.
    Started(char),
    /// The key went up.
    Ended {
        /// The key.
        digit: char,
        /// How long it was down, in ms.
        duration_ms: u32,
        /// The same in units of 8 kHz, exactly.
        units: u32,
    },
}

/// Hears telephone events. Each key is reported down once and up once, whatever is lost, repeated or
/// reordered.
#[derive(Clone, Debug)]
pub struct Receiver {
    clock_rate: u32,
    current: Option<Current>,
    over: Option<Key>,
}

#[derive(Clone, Copy, Debug)]
struct Current {
    key: Key,
    /// Units of the segments before this one.
    before: u32,
    /// Longest duration seen of this segment, in units.
    duration: u32,
    seen: Moment,
}

/// What tells one event, or one segment of a long one, from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Key {
    ssrc: u32,
    timestamp: u32,
    event: u8,
}

impl Receiver {
    /// A receiver for events with a clock of `clock_rate` Hz.
    #[must_use]
    pub const fn new(clock_rate: u32) -> Self {
        Self { clock_rate, current: None, over: None }
    }

    /// What comes from now on has a clock of `clock_rate` Hz.
    pub const fn set_clock(&mut self, clock_rate: u32) {
        self.clock_rate = clock_rate;
    }

    /// Takes a packet of the telephone-event payload type, and tells `emit` what follows from it. One
    /// that is malformed, or about an event other than the sixteen keys, changes nothing.
    pub fn receive(
        &mut self,
        now: Moment,
        packet: &RtpPacket<'_>,
        mut emit: impl FnMut(DtmfEvent),
    ) {
        let [event, flags, high, low, ..] = *packet.payload else { return };
        if digit_of(event).is_none() {
            return;
        }
        let key = Key { ssrc: packet.ssrc, timestamp: packet.timestamp, event };
        let duration = u32::from(u16::from_be_bytes([high, low]));
        if self.is_old(key) {
            return;
        }
        match self.current.as_mut() {
            Some(current) if current.key == key => {
                current.duration = current.duration.max(duration);
                current.seen = now;
            }
            Some(current) if !packet.marker && current.is_continued_by(key) => {
                *current = Current {
                    key,
                    before: current.before.saturating_add(current.duration),
                    duration,
                    seen: now,
                };
            }
            Some(_) | None => {
                self.end(&mut emit);
                self.current = Some(Current { key, before: 0, duration, seen: now });
                emit_start(event, &mut emit);
            }
        }
        if flags & 0x80 != 0 {
            self.end(&mut emit);
        }
    }

    /// Ends a key whose end was lost. To be called each tick.
    pub fn expire(&mut self, now: Moment, mut emit: impl FnMut(DtmfEvent)) {
        if self.current.is_some_and(|current| now.since(current.seen) >= LOST_END) {
            self.end(&mut emit);
        }
    }

    /// Ends the key that is down, of which nothing more will come.
    pub fn release(&mut self, mut emit: impl FnMut(DtmfEvent)) {
        self.end(&mut emit);
    }

    /// Whether a key is down: what leaks of its tone into the audio is to be muted.
    #[must_use]
    pub const fn is_down(&self) -> bool {
        self.current.is_some()
    }

    /// The key that is down, and for how long so far, in units of 8 kHz.
    #[must_use]
    pub fn down(&self) -> Option<(char, u32)> {
        let current = self.current?;
        Some((digit_of(current.key.event)?, self.at_8_khz(current.units())))
    }

    fn at_8_khz(&self, units: u32) -> u32 {
        units / (self.clock_rate / 8_000).max(1)
    }

    /// Whether the packet repeats an event that is over, or was overtaken by a newer one.
    fn is_old(&self, key: Key) -> bool {
        let reference = self.current.map(|current| current.key).or(self.over);
        reference.is_some_and(|reference| {
            let behind = reference.timestamp.wrapping_sub(key.timestamp);
            let overtaken = reference.ssrc == key.ssrc && (1..REORDER_MAX).contains(&behind);
            overtaken || (self.current.is_none() && reference == key)
        })
    }

    fn end(&mut self, emit: &mut impl FnMut(DtmfEvent)) {
        let Some(current) = self.current.take() else { return };
        self.over = Some(current.key);
        let units = current.units();
        let millis = u64::from(units) * 1000 / u64::from(self.clock_rate.max(1));
        let duration_ms = u32::try_from(millis).unwrap_or(u32::MAX);
        if let Some(digit) = digit_of(current.key.event) {
            emit(DtmfEvent::Ended { digit, duration_ms, units: self.at_8_khz(units) });
        }
    }
}

impl Current {
    /// Of all segments so far.
    const fn units(&self) -> u32 {
        self.before.saturating_add(self.duration)
    }

    /// RFC 4733 §2.5.1.3: the next segment of a long event begins where the one before ends.
    fn is_continued_by(&self, next: Key) -> bool {
        let step = next.timestamp.wrapping_sub(self.key.timestamp);
        next.ssrc == self.key.ssrc
            && next.event == self.key.event
            && self.duration >= SEGMENT_MIN
            && (self.duration..=SEGMENT_MAX).contains(&step)
    }
}

fn emit_start(event: u8, emit: &mut impl FnMut(DtmfEvent)) {
    if let Some(digit) = digit_of(event) {
        emit(DtmfEvent::Started(digit));
    }
}

fn digit_of(event: u8) -> Option<char> {
    DIGITS.get(usize::from(event)).map(|digit| char::from(*digit))
}

pub(super) fn event_of(digit: char) -> Option<u8> {
    let upper = digit.to_ascii_uppercase();
    DIGITS.iter().position(|known| char::from(*known) == upper).and_then(|at| u8::try_from(at).ok())
}

/// Digits that may wait to be sent. More are refused.
pub const DIGITS_MAX: usize = 64;
/// Shortest and longest key press, in ms.
const DURATION_MS: std::ops::RangeInclusive<u32> = 40..=5_000;
/// Ticks of 20 ms, as the media session counts them.
const TICK_MS: u32 = 20;

/// Sends digits, one packet a tick, in place of audio.
#[derive(Clone, Debug)]
pub struct Sender {
    clock_rate: u32,
    duration_ticks: u32,
    gap_ticks: u32,
    waiting: [u8; DIGITS_MAX],
    count: usize,
    state: Sending,
}

#[derive(Clone, Copy, Debug)]
enum Sending {
    Idle,
    /// The key is to last so many units of its clock in all.
    Tone {
        telling: Telling,
        lasts: u32,
    },
    /// Ticks of audio before the next digit.
    Gap(u32),
}

/// A packet of a telephone event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventPacket {
    /// When the event began: the same in all its packets.
    pub timestamp: u32,
    /// Set on the first packet of the event.
    pub marker: bool,
    /// The payload.
    pub payload: [u8; 4],
}

impl Sender {
    /// A sender of key presses of `duration_ms` (usually 120), with `gap_ms` (usually 80) of audio between
    /// two: see [`Self::set_timing`].
    #[must_use]
    pub fn new(clock_rate: u32, duration_ms: u32, gap_ms: u32) -> Self {
        let mut sender = Self {
            clock_rate,
            duration_ticks: 0,
            gap_ticks: 0,
            waiting: [0; DIGITS_MAX],
            count: 0,
            state: Sending::Idle,
        };
        sender.set_timing(duration_ms, gap_ms);
        sender
    }

    /// Key presses are of `duration_ms` (at least 40, at most 5000) from the next one on, with `gap_ms` of
    /// audio between two. Both are rounded up to ticks of 20 ms.
    pub fn set_timing(&mut self, duration_ms: u32, gap_ms: u32) {
        let duration_ms = duration_ms.clamp(*DURATION_MS.start(), *DURATION_MS.end());
        self.duration_ticks = duration_ms.div_ceil(TICK_MS);
        self.gap_ticks = gap_ms.div_ceil(TICK_MS);
    }

    /// Events have a clock of `clock_rate` Hz from the next one on.
    pub const fn set_clock(&mut self, clock_rate: u32) {
        self.clock_rate = clock_rate;
    }

    /// Queues a digit. `false` if it is no key, or [`DIGITS_MAX`] wait already.
    pub fn push(&mut self, digit: char) -> bool {
        let Some(event) = event_of(digit) else { return false };
        let Some(slot) = self.waiting.get_mut(self.count) else { return false };
        *slot = event;
        self.count += 1;
        true
    }

    /// Whether digits are still to be sent.
    #[must_use]
    pub const fn is_busy(&self) -> bool {
        self.count > 0 || matches!(self.state, Sending::Tone { .. })
    }

    /// The packet that takes the place of this tick's audio, whose time stamp would be `timestamp`;
    /// `None` if audio goes out. A key lasts as long as it should by the time stamps, whatever ticks were left out.
    pub fn tick(&mut self, timestamp: u32) -> Option<EventPacket> {
        match self.state {
            Sending::Gap(ticks) if ticks > 0 => {
                self.state = Sending::Gap(ticks - 1);
                None
            }
            Sending::Idle | Sending::Gap(_) => {
                self.state = Sending::Idle;
                let event = self.take_waiting()?;
                let tick = TICK_MS * (self.clock_rate / 1000);
                let lasts = self.duration_ticks * tick;
                let telling =
                    Telling::new(event, timestamp, u16::try_from(tick).unwrap_or(u16::MAX));
                Some(self.tell(telling, lasts, timestamp))
            }
            Sending::Tone { telling, lasts } => Some(self.tell(telling, lasts, timestamp)),
        }
    }

    /// The key whose tone is heard in this tick, for a peer that takes no events: as long as an event would be.
    pub fn tone(&mut self) -> Option<char> {
        let timestamp = match self.state {
            Sending::Tone { telling, .. } => telling.told_until(),
            Sending::Gap(_) | Sending::Idle => 0,
        };
        self.tick(timestamp)?;
        match self.state {
            // The repetitions of an end are of no use to it.
            Sending::Tone { telling, .. } if telling.ends() <= 1 => digit_of(telling.event()),
            Sending::Tone { .. } | Sending::Gap(_) | Sending::Idle => None,
        }
    }

    /// Says no more of the key that is under way, and gives back what was told of it. Others wait as they did.
    pub(super) const fn abandon(&mut self) -> Option<Telling> {
        let Sending::Tone { telling, .. } = self.state else { return None };
        self.state = Sending::Gap(self.gap_ticks);
        Some(telling)
    }

    /// Tells the end of a key of which somebody else told the beginning, before all that wait.
    pub(super) fn end(&mut self, telling: Telling) {
        self.state = Sending::Tone { telling, lasts: telling.least() };
    }

    fn tell(&mut self, mut telling: Telling, lasts: u32, timestamp: u32) -> EventPacket {
        let units = telling.units_after(timestamp).min(lasts);
        let packet = telling.packet(units, units == lasts);
        self.state = if telling.is_told() {
            Sending::Gap(self.gap_ticks)
        } else {
            Sending::Tone { telling, lasts }
        };
        packet
    }

    fn take_waiting(&mut self) -> Option<u8> {
        let first = *self.waiting.get(..self.count)?.first()?;
        self.waiting.rotate_left(1);
        self.count -= 1;
        Some(first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::codec::PayloadType;
    use crate::types::random::Random;

    /// (time stamp, event, end, duration in units, marker)
    type Sent = (u32, u8, bool, u16, bool);

    fn heard_at(receiver: &mut Receiver, now: Moment, sent: Sent) -> Vec<DtmfEvent> {
        let (timestamp, event, end, duration, marker) = sent;
        let [high, low] = duration.to_be_bytes();
        let payload = [event, u8::from(end) << 7 | 10, high, low];
        let packet = RtpPacket {
            marker,
            payload_type: PayloadType::new(101).unwrap(),
            sequence: 1,
            timestamp,
            ssrc: 1,
            payload: &payload,
        };
        let mut events = Vec::new();
        receiver.receive(now, &packet, |event| events.push(event));
        events
    }

    fn check(packets: &[Sent], expected: &[DtmfEvent]) {
        let mut receiver = Receiver::new(8000);
        let mut events = Vec::new();
        let mut now = Moment::START;
        for sent in packets {
            now += Duration::from_millis(20);
            events.extend(heard_at(&mut receiver, now, *sent));
        }
        assert_eq!(events, expected, "{packets:?}");
    }

    fn ended(digit: char, duration_ms: u32) -> DtmfEvent {
        DtmfEvent::Ended { digit, duration_ms, units: duration_ms * 8 }
    }

    #[test]
    fn a_digit_is_heard_once() {
        check(
            &[
                (800, 5, false, 160, true),
                (800, 5, false, 320, false),
                (800, 5, true, 480, false),
                (800, 5, true, 480, false),
                (800, 5, true, 480, false),
            ],
            &[DtmfEvent::Started('5'), ended('5', 60)],
        );
    }

    #[test]
    fn a_digit_of_which_only_an_end_arrives_is_heard() {
        check(&[(800, 11, true, 960, false)], &[DtmfEvent::Started('#'), ended('#', 120)]);
    }

    #[test]
    fn the_same_digit_pressed_twice_is_heard_twice() {
        check(
            &[(800, 1, true, 800, false), (2400, 1, false, 160, true), (2400, 1, true, 800, false)],
            &[DtmfEvent::Started('1'), ended('1', 100), DtmfEvent::Started('1'), ended('1', 100)],
        );
    }

    #[test]
    fn a_digit_whose_end_is_lost_ends_with_the_next() {
        check(
            &[(800, 1, false, 160, true), (2400, 2, false, 160, true)],
            &[DtmfEvent::Started('1'), ended('1', 20), DtmfEvent::Started('2')],
        );
    }

    #[test]
    fn reordered_packets_of_an_earlier_digit_are_ignored() {
        check(
            &[
                (800, 1, true, 800, true),
                (2400, 2, false, 160, true),
                (800, 1, true, 800, false),
                (800, 1, false, 160, true),
                (2400, 2, true, 320, false),
                (800, 1, true, 800, false),
            ],
            &[DtmfEvent::Started('1'), ended('1', 100), DtmfEvent::Started('2'), ended('2', 40)],
        );
    }

    #[test]
    fn a_long_press_in_segments_is_one_digit() {
        check(
            &[
                (1000, 0, false, 160, true),
                (1000, 0, false, 0xffff, false),
                (1000 + 0xffff, 0, false, 160, false),
                (1000 + 0xffff, 0, true, 1600, false),
                (1000 + 0xffff, 0, true, 1600, false),
            ],
            &[
                DtmfEvent::Started('0'),
                DtmfEvent::Ended { digit: '0', duration_ms: 8_391, units: 0xffff + 1_600 },
            ],
        );
    }

    #[test]
    fn other_events_and_short_payloads_change_nothing() {
        check(&[(800, 16, true, 800, true), (800, 255, true, 800, true)], &[]);
        let mut receiver = Receiver::new(8000);
        let packet = RtpPacket {
            marker: true,
            payload_type: PayloadType::new(101).unwrap(),
            sequence: 1,
            timestamp: 1,
            ssrc: 1,
            payload: &[1, 0x80, 0],
        };
        receiver.receive(Moment::START, &packet, |event| panic!("{event:?}"));
        assert!(!receiver.is_down());
    }

    #[test]
    fn a_digit_without_any_end_ends_by_time() {
        let mut receiver = Receiver::new(8000);
        let start = Moment::from_millis(100);
        assert_eq!(
            heard_at(&mut receiver, start, (800, 7, false, 400, true)),
            [DtmfEvent::Started('7')]
        );
        let mut events = Vec::new();
        receiver.expire(start + Duration::from_millis(149), |event| events.push(event));
        assert!(events.is_empty() && receiver.is_down());
        receiver.expire(start + Duration::from_millis(150), |event| events.push(event));
        assert_eq!(events, [ended('7', 50)]);
        assert!(heard_at(&mut receiver, start, (800, 7, true, 800, false)).is_empty());
    }

    #[test]
    fn a_sent_digit_has_the_packets_of_the_rfc() {
        let mut sender = Sender::new(8000, 60, 40);
        assert!(sender.push('9') && sender.push('d') && !sender.push('x'));
        let mut sent = Vec::new();
        for tick in 0..12 {
            sent.push(sender.tick(1000 + tick * 160));
        }
        let packet = |timestamp, marker, payload| Some(EventPacket { timestamp, marker, payload });
        let nine = |marker, end: u8, units: u16| {
            let [high, low] = units.to_be_bytes();
            packet(1000, marker, [9, end | 10, high, low])
        };
        assert_eq!(
            sent[..7],
            [
                nine(true, 0, 160),
                nine(false, 0, 320),
                nine(false, 0x80, 480),
                nine(false, 0x80, 480),
                nine(false, 0x80, 480),
                None,
                None,
            ]
        );
        assert_eq!(sent[7], packet(1000 + 7 * 160, true, [15, 10, 0, 160]));
        assert!(!sender.is_busy());
    }

    #[test]
    fn a_digit_lasts_as_long_as_it_should_whatever_ticks_are_left_out() {
        // 100 ms, of which packets are sent at these ticks.
        for (ticks, durations) in [
            (&[0, 1, 2, 3, 4, 5, 6][..], &[160, 320, 480, 640, 800, 800, 800][..]),
            (&[0, 1, 3, 4, 5, 6], &[160, 320, 640, 800, 800, 800]),
            (&[0, 9, 10, 30], &[160, 800, 800, 800]),
        ] {
            let mut sender = Sender::new(8000, 100, 40);
            assert!(sender.push('1'));
            let sent: Vec<_> = ticks.iter().filter_map(|tick| sender.tick(tick * 160)).collect();
            assert!(sent.iter().all(|packet| packet.timestamp == 0));
            let ends = sent.iter().filter(|packet| packet.payload[1] & 0x80 != 0).count();
            let told = sent.iter().map(|it| u16::from_be_bytes([it.payload[2], it.payload[3]]));
            assert_eq!((told.collect::<Vec<_>>(), ends), (durations.to_vec(), 3), "{ticks:?}");
            assert!(!sender.is_busy());
        }
    }

    #[test]
    fn other_lengths_and_clocks_are_those_of_the_next_digit() {
        let mut sender = Sender::new(8000, 120, 40);
        assert!(sender.push('1') && sender.push('2'));
        assert!(sender.tick(0).is_some());
        sender.set_timing(40, 40);
        sender.set_clock(48_000);
        let told: Vec<_> = (1..8).filter_map(|tick| sender.tick(tick * 160)).collect();
        assert_eq!(told.last().map(|packet| packet.payload), Some([1, 0x8a, 3, 0xc0]));
        assert!(told.iter().all(|packet| packet.timestamp == 0));
        let told: Vec<_> = (8..16).filter_map(|tick| sender.tick(tick * 960)).collect();
        assert_eq!(told.last().map(|packet| packet.payload), Some([2, 0x8a, 7, 0x80]));
    }

    #[test]
    fn a_long_digit_at_a_fast_clock_goes_on_in_segments() {
        let mut sender = Sender::new(48_000, 5_000, 80);
        assert!(sender.push('8'));
        let mut receiver = Receiver::new(48_000);
        let (mut events, mut now) = (Vec::new(), Moment::START);
        for tick in 0..300 {
            now += Duration::from_millis(20);
            let Some(packet) = sender.tick(tick * 960) else { continue };
            let [event, flags, high, low] = packet.payload;
            let duration = u16::from_be_bytes([high, low]);
            let sent = (packet.timestamp, event, flags > 127, duration, packet.marker);
            events.extend(heard_at(&mut receiver, now, sent));
        }
        let ended = DtmfEvent::Ended { digit: '8', duration_ms: 5_000, units: 40_000 };
        assert_eq!(events, [DtmfEvent::Started('8'), ended]);
    }

    #[test]
    fn digits_over_the_limit_are_refused() {
        let mut sender = Sender::new(8000, 120, 80);
        assert!((0..DIGITS_MAX).all(|_| sender.push('1')));
        assert!(!sender.push('1'));
    }

    #[test]
    fn what_is_sent_over_a_bad_network_is_heard_once_each() {
        let digits = "0123456789*#ABCD0011";
        for seed in 0..200 {
            let mut random = Random::from_seed(seed);
            let mut sender = Sender::new(8000, 120, 80);
            assert!(digits.chars().all(|digit| sender.push(digit)));
            let mut receiver = Receiver::new(8000);
            let mut heard = String::new();
            let mut now = Moment::START;
            let mut late: Option<Sent> = None;
            for tick in 0..500 {
                now += Duration::from_millis(20);
                receiver.expire(now, |_| ());
                let Some(packet) = sender.tick(tick * 160) else { continue };
                let [event, flags, high, low] = packet.payload;
                let duration = u16::from_be_bytes([high, low]);
                let sent = (packet.timestamp, event, flags > 127, duration, packet.marker);
                let mut arriving = Vec::new();
                match random.below(10) {
                    0..=2 => (),
                    3 => late = Some(sent),
                    4 => arriving.extend([sent, sent]),
                    _ => arriving.push(sent),
                }
                if random.below(3) == 0 {
                    arriving.extend(late.take());
                }
                for sent in arriving {
                    for event in heard_at(&mut receiver, now, sent) {
                        if let DtmfEvent::Started(digit) = event {
                            heard.push(digit);
                        }
                    }
                }
            }
            assert!(!sender.is_busy());
            // All eight packets of a digit are lost in one of 15 000.
            assert_eq!(heard, digits, "seed {seed}");
        }
    }
}
