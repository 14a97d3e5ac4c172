//! A telephone event as it is told to a peer (RFC 4733 §2.5.1): one time stamp, durations that never fall, segments
//! where it is long, and its end three times.
#![warn(clippy::indexing_slicing)]

use crate::rtp::dtmf::EventPacket;

/// Times the packet is sent that says the key went up (RFC 4733 §2.5.1.4).
pub(super) const END_PACKETS: u8 = 3;
/// -10 dBm0.
pub(super) const VOLUME: u8 = 10;
/// The longest segment of an event (RFC 4733 §2.5.1.3).
const SEGMENT_UNITS: u32 = 0xffff;
/// Ticks that an event is said to last which is broken off: 40 ms, the least that is taken for a key (ITU-T Q.24).
const TICKS_MIN: u32 = 2;

/// What was told of an event, of its beginning and of its end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Telling {
    /// When the present segment began, and the units of those before it.
    timestamp: u32,
    before: u32,
    /// The longest duration told of the present segment; 0: nothing.
    shown: u16,
    /// Units of its clock in a tick.
    tick: u16,
    event: u8,
    /// Packets that were sent, as far as it matters, and those of them that told its end.
    packets: u8,
    ends: u8,
}

impl Telling {
    /// An event that begins at `timestamp`, by a clock of so many units in 20 ms.
    pub(super) const fn new(event: u8, timestamp: u32, tick: u16) -> Self {
        Self { timestamp, before: 0, shown: 0, tick, event, packets: 0, ends: 0 }
    }

    /// Units from its beginning to the end of the tick that begins at `timestamp`.
    pub(super) fn units_after(&self, timestamp: u32) -> u32 {
        let since = self.before.wrapping_add(timestamp.wrapping_sub(self.timestamp));
        since.saturating_add(u32::from(self.tick))
    }

    /// The next packet: it lasts `units` up to now, or in all where it `ended`.
    pub(super) fn packet(&mut self, units: u32, ended: bool) -> EventPacket {
        let units = units.saturating_sub(self.before);
        let full = units > SEGMENT_UNITS;
        // None has no length (RFC 4733 §2.3.5 has that for states).
        self.shown = u16::try_from(units).unwrap_or(u16::MAX).max(self.shown).max(1);
        let packet = self.write(ended && !full);
        if full {
            // The next segment begins where this one ends.
            self.before += SEGMENT_UNITS;
            self.timestamp = self.timestamp.wrapping_add(SEGMENT_UNITS);
            self.shown = 0;
        }
        packet
    }

    /// The packet that ends it where it is, and how often that is still to be sent; `None`: its end was told, or
    /// nothing of it.
    pub(super) fn break_off(mut self) -> Option<(EventPacket, u8)> {
        let times = END_PACKETS.checked_sub(self.ends).filter(|times| *times > 0)?;
        if !self.is_begun() {
            return None;
        }
        Some((self.packet(self.least(), true), times))
    }

    /// Units that it is to last at least if it ends where it is; what was told of it may be more.
    pub(super) fn least(&self) -> u32 {
        // What was said of its end is said again.
        if self.ends > 0 { 0 } else { TICKS_MIN * u32::from(self.tick) }
    }

    /// Where the time ends of which was told.
    pub(super) fn told_until(&self) -> u32 {
        self.timestamp.wrapping_add(u32::from(self.shown))
    }

    /// The number of the event.
    pub(super) const fn event(&self) -> u8 {
        self.event
    }

    /// How often its end was told.
    pub(super) const fn ends(&self) -> u8 {
        self.ends
    }

    /// Whether anything of it was told.
    pub(super) const fn is_begun(&self) -> bool {
        self.packets > 0
    }

    /// Whether its end was told as often as it must be.
    pub(super) const fn is_told(&self) -> bool {
        self.ends >= END_PACKETS
    }

    /// Whether its end was told once, and enough of it in all that a packet or two may be lost.
    pub(super) const fn may_give_way(&self) -> bool {
        self.ends > 0 && self.packets >= END_PACKETS
    }

    fn write(&mut self, ended: bool) -> EventPacket {
        let [high, low] = self.shown.to_be_bytes();
        let packet = EventPacket {
            timestamp: self.timestamp,
            marker: self.packets == 0,
            payload: [self.event, u8::from(ended) << 7 | VOLUME, high, low],
        };
        self.packets = self.packets.saturating_add(1);
        self.ends = self.ends.saturating_add(u8::from(ended));
        packet
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// (time stamp, marker, end, duration)
    fn read(packet: EventPacket) -> (u32, bool, bool, u16) {
        let [_, flags, high, low] = packet.payload;
        let duration = u16::from_be_bytes([high, low]);
        (packet.timestamp, packet.marker, flags & 0x80 != 0, duration)
    }

    #[test]
    fn durations_never_fall_and_none_is_zero() {
        let mut telling = Telling::new(5, 1_000, 160);
        let told = [(0, false), (300, false), (120, false), (200, true), (200, true)];
        let told: Vec<_> = told.map(|(units, ended)| read(telling.packet(units, ended))).into();
        let durations: Vec<_> = told.iter().map(|packet| packet.3).collect();
        assert_eq!(durations, [1, 300, 300, 300, 300]);
        assert!(told[0].1 && told[1..].iter().all(|packet| !packet.1), "a marker on the first");
        assert!(told.iter().all(|packet| packet.0 == 1_000));
        assert!(!telling.is_told());
        telling.packet(200, true);
        assert!(telling.is_told());
    }

    #[test]
    fn a_long_one_goes_on_in_segments_up_to_its_end() {
        let mut telling = Telling::new(5, u32::MAX, 960);
        assert_eq!(read(telling.packet(0xffff, false)), (u32::MAX, true, false, 0xffff));
        // Its end, too, waits for the segment in which it is.
        assert_eq!(read(telling.packet(0x1_0003, true)), (u32::MAX, false, false, 0xffff));
        assert_eq!(read(telling.packet(0x1_0003, true)), (0xfffe, false, true, 4));
        assert_eq!(telling.units_after(0xfffe + 4), 0xffff + 4 + 960);
    }

    #[test]
    fn one_that_is_broken_off_has_lasted_40_ms_at_least_and_no_longer_than_was_said() {
        for (units, lasts) in [(160, 320), (320, 320), (400, 400)] {
            let mut telling = Telling::new(5, 0, 160);
            assert!(telling.break_off().is_none(), "nobody knows of it");
            telling.packet(units, false);
            let (packet, times) = telling.break_off().unwrap();
            assert_eq!((read(packet), times), ((0, false, true, lasts), 3));
        }
        let mut telling = Telling::new(5, 0, 160);
        telling.packet(100, true);
        let (packet, times) = telling.break_off().unwrap();
        assert_eq!((read(packet), times), ((0, false, true, 100), 2), "its end was said");
        telling.packet(100, true);
        telling.packet(100, true);
        assert!(telling.break_off().is_none());
    }
}
