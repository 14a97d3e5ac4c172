//! How the packets that were not played are spread: in bursts, or one by one (RFC 3611 §4.7.2).

/// Packets in a row that were played, after which a burst is over (RFC 3611 §4.7.2).
pub const GMIN: u8 = 16;

/// Tells bursts from gaps while packets take their turn. Counts stay at their ends.
///
/// A burst begins and ends with a packet that was not played, has another such within it, and has nowhere
/// [`GMIN`] in a row that were. All else is gap.
#[derive(Clone, Copy, Debug)]
pub struct BurstMeter {
    /// Packets that took their turn.
    passed: u32,
    missing: u32,
    /// Times one was missing behind one that was played.
    runs: u32,
    /// Packets that were played since one was missing.
    played_since: u32,
    /// What may become a burst, from its first missing packet to its last.
    group: Group,
    bursts: Bursts,
}

#[derive(Clone, Copy, Debug, Default)]
struct Group {
    start: u32,
    packets: u32,
    missing: u32,
}

#[derive(Clone, Copy, Debug, Default)]
struct Bursts {
    count: u32,
    packets: u32,
    missing: u32,
    /// Where the first begins and the last ends.
    span: (u32, u32),
}

/// How missing packets are spread.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Spread {
    /// Packets that took their turn.
    pub packets: u32,
    /// Share of them that are missing, 0 to 1.
    pub density: f32,
    /// Share of the packets of bursts that are missing, 0 to 1.
    pub burst_density: f32,
    /// Share of the others that are missing, 0 to 1.
    pub gap_density: f32,
    /// Packets of a burst, mean.
    pub burst_packets: f32,
    /// Packets between two, mean.
    pub gap_packets: f32,
    /// How many are missing in a row, over how many would be if each were missing by chance (`BurstR` of ITU-T
    /// G.107); 1 where none is missing.
    pub ratio: f32,
}

impl Default for BurstMeter {
    fn default() -> Self {
        Self {
            passed: 0,
            missing: 0,
            runs: 0,
            // As if a gap went before.
            played_since: u32::from(GMIN),
            group: Group::default(),
            bursts: Bursts::default(),
        }
    }
}

impl BurstMeter {
    /// A packet was played in its time.
    pub const fn played(&mut self) {
        self.passed = self.passed.saturating_add(1);
        self.played_since = self.played_since.saturating_add(1);
    }

    /// So many in a row were not.
    pub fn missing(&mut self, count: u64) {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        if count == 0 {
            return;
        }
        self.runs = self.runs.saturating_add(u32::from(self.played_since > 0));
        if self.played_since >= u32::from(GMIN) {
            self.bursts.add(self.group);
            self.group = Group { start: self.passed, packets: count, missing: count };
        } else {
            let packets = self.played_since.saturating_add(count);
            self.group.packets = self.group.packets.saturating_add(packets);
            self.group.missing = self.group.missing.saturating_add(count);
        }
        self.played_since = 0;
        self.passed = self.passed.saturating_add(count);
        self.missing = self.missing.saturating_add(count);
    }

    /// How they are spread up to now.
    #[must_use]
    pub fn spread(&self) -> Spread {
        let mut bursts = self.bursts;
        bursts.add(self.group);
        let gap_packets = self.passed.saturating_sub(bursts.packets);
        let (first, last) = bursts.span;
        let gaps = match bursts.count {
            0 => u32::from(self.passed > 0),
            count => (count - 1)
                .saturating_add(u32::from(first > 0))
                .saturating_add(u32::from(last < self.passed)),
        };
        Spread {
            packets: self.passed,
            density: share(self.missing, self.passed),
            burst_density: share(bursts.missing, bursts.packets),
            gap_density: share(self.missing.saturating_sub(bursts.missing), gap_packets),
            burst_packets: share(bursts.packets, bursts.count),
            gap_packets: share(gap_packets, gaps),
            ratio: self.ratio(),
        }
    }

    /// By chance, runs are 1 / (1 - p) long.
    fn ratio(&self) -> f32 {
        if self.runs == 0 {
            return 1.0;
        }
        share(self.missing, self.runs) * (1.0 - share(self.missing, self.passed))
    }
}

impl Bursts {
    /// Takes a group that is over: one missing packet alone is no burst.
    const fn add(&mut self, group: Group) {
        if group.missing < 2 {
            return;
        }
        if self.count == 0 {
            self.span.0 = group.start;
        }
        self.span.1 = group.start.saturating_add(group.packets);
        self.count = self.count.saturating_add(1);
        self.packets = self.packets.saturating_add(group.packets);
        self.missing = self.missing.saturating_add(group.missing);
    }
}

/// 0 of nothing.
fn share(part: u32, whole: u32) -> f32 {
    if whole == 0 { 0.0 } else { (f64::from(part) / f64::from(whole)) as f32 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn meter_of(played: &[bool]) -> BurstMeter {
        let mut meter = BurstMeter::default();
        for played in played {
            if *played { meter.played() } else { meter.missing(1) }
        }
        meter
    }

    /// What the definition says, by looking at all packets at once: whether each is of a burst.
    fn of_bursts(played: &[bool]) -> Vec<bool> {
        let mut of_burst = vec![false; played.len()];
        let missing: Vec<_> = (0..played.len()).filter(|at| !played[*at]).collect();
        for pair in missing.windows(2) {
            if pair[1] - pair[0] - 1 < usize::from(GMIN) {
                of_burst[pair[0]..=pair[1]].fill(true);
            }
        }
        of_burst
    }

    fn runs_of(values: &[bool], wanted: bool) -> usize {
        values.chunk_by(|one, two| one == two).filter(|run| run[0] == wanted).count()
    }

    fn near(one: f32, two: usize, of: usize) -> bool {
        let two = if of == 0 { 0.0 } else { two as f32 / of as f32 };
        (one - two).abs() < 1e-4
    }

    #[test]
    fn losses_that_are_far_apart_are_no_burst() {
        let mut played = vec![true; 100];
        for at in [0, 17, 34, 99] {
            played[at] = false;
        }
        let spread = meter_of(&played).spread();
        assert!(near(spread.gap_density, 4, 100) && near(spread.gap_packets, 100, 1));
        assert!(near(spread.burst_density, 0, 1) && near(spread.burst_packets, 0, 1));
        // One of them is a packet nearer.
        played.swap(17, 16);
        let spread = meter_of(&played).spread();
        assert!(near(spread.burst_density, 2, 17) && near(spread.burst_packets, 17, 1));
        assert!(near(spread.gap_density, 2, 83) && near(spread.gap_packets, 83, 1));
    }

    #[test]
    fn the_ratio_is_one_for_chance_and_more_for_runs() {
        let every_fourth: Vec<_> = (0..400).map(|at| at % 4 != 0).collect();
        let chance = meter_of(&every_fourth).spread().ratio;
        assert!((chance - 0.75).abs() < 1e-4, "rarer in a row than by chance: {chance}");
        let runs: Vec<_> = (0..1000).map(|at| at % 100 >= 5).collect();
        let ratio = meter_of(&runs).spread().ratio;
        assert!((ratio - 5.0 * 0.95).abs() < 1e-3, "{ratio}");
        assert!((meter_of(&[true; 50]).spread().ratio - 1.0).abs() < 1e-6);
    }

    #[test]
    fn many_at_once_are_as_many_one_by_one() {
        let (mut one, mut two) = (BurstMeter::default(), BurstMeter::default());
        for count in [3, 0, 1, 250] {
            (0..count).for_each(|_| one.missing(1));
            two.missing(count);
            (0..20).for_each(|_| [&mut one, &mut two].into_iter().for_each(BurstMeter::played));
        }
        assert_eq!(one.spread(), two.spread());
    }

    proptest! {
        #[test]
        fn what_is_told_on_the_way_is_what_all_of_it_says(
            played in prop::collection::vec(prop::bool::weighted(0.93), 0..400)
        ) {
            let spread = meter_of(&played).spread();
            let of_burst = of_bursts(&played);
            let count = |in_burst: bool| {
                let those = played.iter().zip(&of_burst).filter(|(_, of)| **of == in_burst);
                (those.clone().filter(|(played, _)| !**played).count(), those.count())
            };
            let ((missing, packets), (alone, others)) = (count(true), count(false));
            prop_assert!(near(spread.burst_density, missing, packets), "{spread:?}");
            prop_assert!(near(spread.gap_density, alone, others), "{spread:?}");
            prop_assert!(near(spread.burst_packets, packets, runs_of(&of_burst, true)), "{spread:?}");
            prop_assert!(near(spread.gap_packets, others, runs_of(&of_burst, false)), "{spread:?}");
        }
    }
}
