//! From time stamps of any clock to units of 8 kHz, in which a jitter buffer counts.
#![warn(clippy::indexing_slicing)]

/// Follows the time stamps of a stream. Where its clock changes, what comes follows on what came: the stamps of the
/// new clock say nothing about those of the old one (RFC 7160 §3.2).
#[derive(Clone, Debug)]
pub(super) struct Timeline {
    /// Units of the stream's clock in one of ours.
    factor: u8,
    /// A time stamp as sent, and in our units.
    sent: u32,
    ours: u32,
    /// The low bits of the number of the newest packet, and how long that is.
    sequence: u32,
    units: u16,
}

impl Timeline {
    pub(super) const START: Self = Self { factor: 1, sent: 0, ours: 0, sequence: 0, units: 0 };

    /// How many units of the clock of the newest packet are one of ours.
    pub(super) const fn factor(&self) -> u32 {
        self.factor as u32
    }

    /// A stream begins.
    pub(super) fn begin(&mut self, factor: u32, sequence: u64, sent: u32) {
        let factor = (factor as u8).max(1);
        let ours = sent / u32::from(factor);
        *self = Self { factor, sent, ours, sequence: sequence as u32, units: self.units };
    }

    /// The time of a packet of a stream that has begun, in our units. `units`: how long it is; 0 of what is no audio.
    pub(super) fn place(&mut self, factor: u32, sequence: u64, sent: u32, units: u32) -> u32 {
        let factor = (factor as u8).max(1);
        let packets = (sequence as u32).wrapping_sub(self.sequence);
        if factor != self.factor {
            return self.join(factor.into(), sequence, sent, units);
        }
        let since = sent.wrapping_sub(self.sent).cast_signed();
        let whole = since.div_euclid(factor.into()).cast_unsigned();
        let ours = self.ours.wrapping_add(whole);
        if packets.cast_signed() > 0 {
            self.ours = ours;
            self.sent = self.sent.wrapping_add(whole.wrapping_mul(factor.into()));
            self.sequence = sequence as u32;
            self.note(units);
        }
        ours
    }

    /// The same of a packet whose stamps say nothing about those before: it follows on what came by its number.
    pub(super) fn join(&mut self, factor: u32, sequence: u64, sent: u32, units: u32) -> u32 {
        let packets = (sequence as u32).wrapping_sub(self.sequence);
        self.ours = self.ours.wrapping_add(packets.wrapping_mul(self.units.into()));
        (self.factor, self.sent) = ((factor as u8).max(1), sent);
        self.sequence = sequence as u32;
        self.note(units);
        self.ours
    }

    fn note(&mut self, units: u32) {
        if units > 0 {
            self.units = units as u16;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_8_khz_a_time_stamp_is_what_was_sent_over_the_wrap_too() {
        let mut line = Timeline::START;
        line.begin(1, 7, u32::MAX - 100);
        for packet in 0..10_u32 {
            let sent = (u32::MAX - 100).wrapping_add(packet * 160);
            assert_eq!(line.place(1, 7 + u64::from(packet), sent, 160), sent);
        }
        assert_eq!(line.place(1, 9, 5, 160), 5, "a late one");
    }

    #[test]
    fn a_faster_clock_loses_nothing_by_rounding_and_wraps_where_it_wraps() {
        let mut line = Timeline::START;
        let first = u32::MAX - 5_000;
        line.begin(6, 1, first);
        let zero = line.place(6, 1, first, 160);
        for packet in 0..100_000_u32 {
            // Odd stamps: 961 of 48 kHz.
            let sent = first.wrapping_add(packet.wrapping_mul(961));
            let ours = line.place(6, 1 + u64::from(packet), sent, 160);
            assert_eq!(ours.wrapping_sub(zero), (u64::from(packet) * 961 / 6) as u32);
        }
    }

    #[test]
    fn another_clock_goes_on_where_the_one_before_ended() {
        let mut line = Timeline::START;
        line.begin(1, 10, 8_000);
        assert_eq!(line.place(1, 11, 8_160, 160), 8_160);
        assert_eq!(line.place(6, 12, 5, 160), 8_320, "whatever its stamps are");
        assert_eq!(line.place(6, 14, 5 + 1_920, 160), 8_640, "and one was lost");
        assert_eq!(line.place(1, 11, 8_160, 160), 8_160, "what came late of the old one");
        assert_eq!(line.place(6, 15, 5 + 2_880, 160), 8_800);
    }
}
