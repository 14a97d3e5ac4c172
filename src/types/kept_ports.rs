//! `KeptPorts`: the RTP ports that some trunk keeps to, and that others had better leave.

use std::ops::RangeInclusive;

/// RTP ports that trunks keep to, as ranges that neither overlap nor touch, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeptPorts(Vec<RangeInclusive<u16>>);

impl KeptPorts {
    /// Of no trunk.
    pub const NONE: Self = Self(Vec::new());

    /// Those in any of `ranges`.
    #[must_use]
    pub fn new(ranges: impl Iterator<Item = RangeInclusive<u16>>) -> Self {
        let mut ranges: Vec<_> = ranges.filter(|range| !range.is_empty()).collect();
        ranges.sort_unstable_by_key(|range| *range.start());
        let mut kept: Vec<RangeInclusive<u16>> = Vec::with_capacity(ranges.len());
        for range in ranges {
            match kept.last_mut() {
                Some(last) if *range.start() <= last.end().saturating_add(1) => {
                    *last = *last.start()..=*last.end().max(range.end());
                }
                _ => kept.push(range),
            }
        }
        Self(kept)
    }

    /// Whether a trunk keeps to `port`.
    #[must_use]
    pub fn contains(&self, port: u16) -> bool {
        let after = self.0.partition_point(|range| *range.start() <= port);
        self.0.get(..after).and_then(<[_]>::last).is_some_and(|range| range.contains(&port))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_in_any_range_is_kept_however_they_overlap() {
        let of = |ranges: &[(u16, u16)]| {
            KeptPorts::new(ranges.iter().map(|(first, last)| *first..=*last))
        };
        for ranges in [
            &[(20_000, 20_003), (10, 13)][..],
            &[(10, 10), (12, 13), (11, 12), (20_001, 20_001), (20_000, 20_003), (9, 1)],
            &[(10, 13), (20_000, 20_003), (10, 13), (11, 12)],
        ] {
            let kept = of(ranges);
            assert_eq!(kept, KeptPorts(vec![10..=13, 20_000..=20_003]), "{ranges:?}");
            let ports: Vec<u16> = (0..=u16::MAX).filter(|port| kept.contains(*port)).collect();
            assert_eq!(ports, [10, 11, 12, 13, 20_000, 20_001, 20_002, 20_003]);
        }
        assert_eq!(of(&[(0, 9), (5, u16::MAX)]), KeptPorts(vec![0..=u16::MAX]));
        assert!(of(&[]) == KeptPorts::NONE && !KeptPorts::NONE.contains(0));
    }
}
