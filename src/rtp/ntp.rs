//! The time stamps of RTCP: 32.32 fixed point seconds.

use std::time::Duration;

use crate::types::moment::Moment;

/// A time on an RTCP sender's clock, in 1/2³² s (RFC 3550 §4).
///
/// Ours runs from the start of the node instead of 1900, which the RFC allows to a sender without a wall
/// clock and which a peer cannot turn into anything about this machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct NtpTime(pub u64);

impl NtpTime {
    /// Our clock at `now`.
    #[must_use]
    pub fn of(now: Moment) -> Self {
        let nanos = u128::from(now.as_nanos());
        Self(((nanos << 32) / 1_000_000_000) as u64)
    }

    /// The middle 32 bits, in 1/65536 s: the form in which reports refer to it.
    #[must_use]
    pub const fn middle(self) -> u32 {
        (self.0 >> 16) as u32
    }
}

/// A duration in 1/65536 s, as `DLSR` counts it; cut at its 18 hours.
#[must_use]
pub fn to_short(duration: Duration) -> u32 {
    u32::try_from((duration.as_nanos() << 16) / 1_000_000_000).unwrap_or(u32::MAX)
}

/// The duration of so many 1/65536 s.
#[must_use]
pub const fn from_short(short: u32) -> Duration {
    Duration::from_nanos((short as u64 * 1_000_000_000) >> 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_in_the_upper_half() {
        assert_eq!(NtpTime::of(Moment::from_millis(1500)), NtpTime(0x1_8000_0000));
        assert_eq!(NtpTime::of(Moment::from_millis(1500)).middle(), 0x1_8000);
        assert_eq!(to_short(Duration::from_millis(250)), 0x4000);
        assert_eq!(from_short(0x4000), Duration::from_millis(250));
        assert_eq!(to_short(Duration::from_secs(100_000)), u32::MAX);
    }
}
