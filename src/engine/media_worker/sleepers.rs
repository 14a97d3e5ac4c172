//! The agents that can hear something, woken together: one that is woken alone is done before the next is, so that
//! each would take a system call here and a sleep and an awakening of the runtime's thread.

use std::task::Waker;

/// Agents woken at once. In a phase with more sessions the first do not wait until the last had its tick.
const WOKEN_AT_ONCE: usize = 64;

/// What wakes the tasks of agents, until it does.
pub(super) struct Sleepers(Vec<Waker>);

impl Sleepers {
    pub(super) fn new() -> Self {
        Self(Vec::with_capacity(WOKEN_AT_ONCE))
    }

    /// One more, if it sleeps. Wakes all when there are many.
    pub(super) fn add(&mut self, agent: Option<Waker>) {
        self.0.extend(agent);
        if self.0.len() >= WOKEN_AT_ONCE {
            self.wake();
        }
    }

    pub(super) fn wake(&mut self) {
        self.0.drain(..).for_each(Waker::wake);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;
    use std::sync::atomic::Ordering;
    use std::task::Wake;

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn many_do_not_wait_for_the_last_and_take_no_more_room() {
        let (mut sleepers, woken) = (Sleepers::new(), Arc::<Woken>::default());
        let count = || woken.0.load(Ordering::Relaxed);
        let room = sleepers.0.capacity();
        for number in 1..=WOKEN_AT_ONCE {
            assert_eq!(count(), 0, "before the {number}th");
            sleepers.add(None);
            sleepers.add(Some(Waker::from(Arc::clone(&woken))));
        }
        assert_eq!(count(), WOKEN_AT_ONCE);
        sleepers.add(Some(Waker::from(Arc::clone(&woken))));
        assert_eq!(count(), WOKEN_AT_ONCE);
        sleepers.wake();
        sleepers.wake();
        assert_eq!(count(), WOKEN_AT_ONCE + 1, "each once");
        assert_eq!(sleepers.0.capacity(), room);
    }
}
