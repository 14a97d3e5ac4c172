//! Models of voices that nobody speaks for any more: their memory goes back to the system, some of it each second.

use crate::engine::media_worker::MediaThread;
use crate::engine::os;
use std::time::Duration;

/// Between two looks. Who makes a pause is likely to have spoken again within one.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Models of which the memory is given back at once: some microseconds each for a thread that has ticks to run.
const UNMADE_AT_ONCE_MAX: usize = 8;

impl MediaThread {
    /// Unmakes some of the models that nobody has, the last ones first, for each is lent before those behind it.
    pub(super) fn unmake_models(&mut self) {
        if self.desk.now < self.models_looked_at + LOOK_EVERY {
            return;
        }
        self.models_looked_at = self.desk.now;
        for _ in 0..UNMADE_AT_ONCE_MAX {
            let Some(room) = self.desk.out.models().unmake_last() else { return };
            os::return_pages(room);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::media_worker::Worker;
    use std::sync::Arc;

    #[test]
    fn models_that_nobody_has_are_unmade_some_a_second_and_those_before_one_that_is_lent_are_not() {
        let mut thread = MediaThread::new(Arc::new(Worker::new(0)));
        let mut lent: Vec<_> = (0..20).filter_map(|_| thread.desk.out.models().lend()).collect();
        assert_eq!(lent.len(), 20);
        let kept = lent.remove(3);
        lent.into_iter().for_each(|model| thread.desk.out.models().take_back(model));
        let mut made = Vec::new();
        for _ in 0..5 {
            // Many times a second.
            thread.desk.now += LOOK_EVERY / 2;
            thread.unmake_models();
            thread.desk.now += LOOK_EVERY / 2;
            thread.unmake_models();
            thread.unmake_models();
            made.push(thread.desk.out.models().made());
        }
        assert_eq!(made, [12, 4, 4, 4, 4]);
        thread.desk.out.models().take_back(kept);
        thread.desk.now += LOOK_EVERY;
        thread.unmake_models();
        assert_eq!(thread.desk.out.models().made(), 0);
    }
}
