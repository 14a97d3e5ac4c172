//! Sequence numbers: which packets belong to the stream, and their order over the wrap (RFC 3550 A.1).

/// A forward jump of this many is a restarted sender, not loss (RFC 3550 A.1 `MAX_DROPOUT`).
const DROPOUT_MAX: u16 = 3000;
/// A packet at most this far behind is reordered; further behind, the sender restarted.
const MISORDER_MAX: u16 = 100;
/// A stream that goes on for so many packets (10 s, at 20 ms each) after another was to come is not going to be left.
const EXPECTED_WITHIN: u16 = 500;
/// Where the extended count begins, so that a packet from before the first has a number too.
const EXTENDED_BASE: u64 = 0x1_0000;

/// What a packet is to the stream that is followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// A packet of the stream, with its extended sequence number (its low 32 bits are RTCP's).
    Follows(u64),
    /// A stream begins here: the first one, a new SSRC, or the same SSRC after a big jump. State
    /// kept about the stream before is void.
    Begins(u64),
    /// Not believed: a lone packet of another SSRC, or one far off the sequence. If the next one
    /// follows on it, a stream begins there.
    Suspect,
}

/// Follows one stream at a time, by SSRC and sequence number.
///
/// The first packet is believed at once, because the source address was checked before. A change of
/// SSRC or a big jump is believed at its second packet in sequence.
#[derive(Clone, Copy, Debug, Default)]
pub struct StreamGate {
    current: Option<Stream>,
    candidate: Option<(u32, u16)>,
    /// Packets of this stream until another SSRC is not expected any more; until then it is believed at its first packet.
    expects: u16,
}

#[derive(Clone, Copy, Debug)]
struct Stream {
    ssrc: u32,
    highest: u64,
}

impl StreamGate {
    /// A gate that has seen nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self { current: None, candidate: None, expects: 0 }
    }

    /// Another SSRC is expected: signalling said that the stream changes. It is believed at its first packet, unless this
    /// stream goes on for long: its sender may keep the SSRC, and then a stray packet of another is none of it.
    pub const fn expect_another(&mut self) {
        self.expects = EXPECTED_WITHIN;
    }

    /// Whether another SSRC is expected.
    #[must_use]
    pub const fn expects_another(&self) -> bool {
        self.expects > 0
    }

    /// The SSRC that is followed.
    #[must_use]
    pub fn ssrc(&self) -> Option<u32> {
        self.current.map(|stream| stream.ssrc)
    }

    /// The highest extended sequence number of the stream that is followed.
    #[must_use]
    pub fn highest(&self) -> Option<u64> {
        self.current.map(|stream| stream.highest)
    }

    /// Judges a packet and moves on with it.
    pub fn accept(&mut self, ssrc: u32, sequence: u16) -> Arrival {
        let Some(stream) = self.current.as_mut() else { return self.begin(ssrc, sequence) };
        if stream.ssrc == ssrc {
            let ahead = sequence.wrapping_sub(stream.highest as u16);
            let behind = ahead.wrapping_neg();
            if ahead < DROPOUT_MAX {
                stream.highest = stream.highest.wrapping_add(u64::from(ahead));
                (self.candidate, self.expects) = (None, self.expects.saturating_sub(1));
                return Arrival::Follows(stream.highest);
            }
            if behind <= MISORDER_MAX {
                return Arrival::Follows(stream.highest.wrapping_sub(u64::from(behind)));
            }
        }
        if self.candidate == Some((ssrc, sequence)) || (self.expects > 0 && stream.ssrc != ssrc) {
            return self.begin(ssrc, sequence);
        }
        self.candidate = Some((ssrc, sequence.wrapping_add(1)));
        Arrival::Suspect
    }

    fn begin(&mut self, ssrc: u32, sequence: u16) -> Arrival {
        let highest = EXTENDED_BASE + u64::from(sequence);
        self.current = Some(Stream { ssrc, highest });
        (self.candidate, self.expects) = (None, 0);
        Arrival::Begins(highest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds `(ssrc, sequence)` packets and compares the verdicts, extended numbers less the base.
    fn check(packets: &[(u32, u16)], expected: &[&str]) {
        let mut gate = StreamGate::new();
        for (packet, expected) in packets.iter().zip(expected) {
            let verdict = match gate.accept(packet.0, packet.1) {
                Arrival::Follows(number) => format!("follows {}", number - EXTENDED_BASE),
                Arrival::Begins(number) => format!("begins {}", number - EXTENDED_BASE),
                Arrival::Suspect => "suspect".to_owned(),
            };
            assert_eq!(verdict, *expected, "{packet:?} of {packets:?}");
        }
        assert_eq!(packets.len(), expected.len());
    }

    #[test]
    fn an_expected_ssrc_is_believed_at_once_and_the_next_is_not() {
        let mut gate = StreamGate::new();
        gate.accept(1, 10);
        gate.expect_another();
        assert!(matches!(gate.accept(1, 11), Arrival::Follows(_)), "not yet");
        assert!(matches!(gate.accept(2, 500), Arrival::Begins(_)));
        assert_eq!(gate.accept(3, 7), Arrival::Suspect);
    }

    #[test]
    fn who_keeps_its_ssrc_for_long_is_not_expected_to_leave_it() {
        for (packets, is_believed) in [(EXPECTED_WITHIN - 1, true), (EXPECTED_WITHIN, false)] {
            let mut gate = StreamGate::new();
            gate.accept(1, 0);
            gate.expect_another();
            for sequence in 1..=packets {
                assert!(matches!(gate.accept(1, sequence), Arrival::Follows(_)));
            }
            assert_eq!(gate.expects_another(), is_believed);
            let stray = gate.accept(2, 500);
            assert_eq!(matches!(stray, Arrival::Begins(_)), is_believed, "{packets}: {stray:?}");
        }
    }

    #[test]
    fn numbers_are_extended_over_the_wrap_in_both_directions() {
        check(
            &[(1, 65534), (1, 0), (1, 65535), (1, 1)],
            &["begins 65534", "follows 65536", "follows 65535", "follows 65537"],
        );
    }

    #[test]
    fn a_packet_before_the_first_has_a_number() {
        let mut gate = StreamGate::new();
        assert_eq!(gate.accept(1, 0), Arrival::Begins(EXTENDED_BASE));
        assert_eq!(gate.accept(1, 65535), Arrival::Follows(EXTENDED_BASE - 1));
    }

    #[test]
    fn loss_is_followed_and_a_jump_is_believed_at_its_second_packet() {
        check(
            &[(1, 10), (1, 3009), (1, 10000), (1, 3010), (1, 20000), (1, 20001), (1, 20002)],
            &[
                "begins 10",
                "follows 3009",
                "suspect",
                "follows 3010",
                "suspect",
                "begins 20001",
                "follows 20002",
            ],
        );
    }

    #[test]
    fn another_ssrc_needs_two_packets_in_sequence() {
        check(
            &[(1, 10), (2, 500), (1, 11), (2, 501), (2, 502), (2, 503), (1, 12)],
            &[
                "begins 10",
                "suspect",
                "follows 11",
                "suspect",
                "begins 502",
                "follows 503",
                "suspect",
            ],
        );
    }

    #[test]
    fn a_packet_far_behind_is_no_reordering() {
        check(&[(1, 1000), (1, 900), (1, 899)], &["begins 1000", "follows 900", "suspect"]);
    }
}
