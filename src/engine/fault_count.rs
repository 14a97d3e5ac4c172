//! How many faults of our own are too many for what begins anew after each.

use crate::types::moment::Moment;
use std::time::Duration;

/// The fault that is one too many: who meets so many within [`FAULTS_WITHIN`] would meet the next one, too.
pub(super) const FAULTS_MAX: usize = 4;

const FAULTS_WITHIN: Duration = Duration::from_secs(60);

/// When a media thread or a SIP shard met its last faults, in order.
#[derive(Debug, Default)]
pub(super) struct Faults([Option<Moment>; FAULTS_MAX - 1]);

impl Faults {
    /// One more; true: it is one too many.
    pub(super) fn add(&mut self, now: Moment) -> bool {
        let [oldest, ..] = self.0;
        self.0.rotate_left(1);
        let [.., newest] = &mut self.0;
        *newest = Some(now);
        oldest.is_some_and(|oldest| now.since(oldest) <= FAULTS_WITHIN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fourth_fault_within_a_minute_is_one_too_many() {
        let at = Moment::from_millis;
        let mut faults = Faults::default();
        let told = [0, 20_000, 40_000, 60_001, 80_000, 80_001, 140_002, 140_003].map(at);
        assert_eq!(
            told.map(|now| faults.add(now)),
            [false, false, false, false, true, true, false, false],
            "the third before it is what counts"
        );
    }
}
