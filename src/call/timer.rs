//! What a call waits for by the clock: each state that waits has one of these.

use crate::call::side::Seat;
use crate::types::moment::Moment;
use smallvec::SmallVec;

/// A reason to wait. Of several that are due, the first of this list comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// The media was not closed in time.
    CloseEnd,
    /// The near leg has rung long enough.
    RingEnd,
    /// It rang as long as it has to.
    AnswerMin,
    /// Nobody said in time who answers.
    AskEnd,
    /// The announcement in the agent's place took too long.
    FallbackEnd,
    /// The leg that is dialled was not answered in time, or has proved that it stays.
    TargetEnd,
    /// The carrier said nothing of its transfer for too long.
    ReferEnd,
    /// An agent that leaves from now on does not leave for a transfer that has failed.
    LeaveEnd,
    /// The supervisor in this seat did not answer in time.
    SupervisorEnd(Seat),
    /// The profile hangs up by itself.
    HangUp,
    /// The longest duration is reached.
    DurationEnd,
    /// The profile offers anew by itself.
    Reoffer,
}

/// The timers of a call: those that are set, of which few are at once.
#[derive(Clone, Debug, Default)]
pub(super) struct Timers {
    at: SmallVec<[(Timer, Moment); 2]>,
}

impl Timers {
    /// Sets a timer, in place of what it was.
    pub(super) fn set(&mut self, timer: Timer, at: impl Into<Option<Moment>>) {
        self.stop(timer);
        if let Some(at) = at.into() {
            self.at.push((timer, at));
        }
    }

    /// Forgets a timer.
    pub(super) fn stop(&mut self, timer: Timer) {
        self.at.retain(|(set, _)| *set != timer);
    }

    /// Forgets all of them.
    pub(super) fn stop_all(&mut self) {
        *self = Self::default();
    }

    /// True while it is set.
    pub(super) fn is_set(&self, timer: Timer) -> bool {
        self.at.iter().any(|(set, _)| *set == timer)
    }

    /// When the next is due.
    pub(super) fn next(&self) -> Option<Moment> {
        self.at.iter().map(|(_, at)| *at).min()
    }

    /// Takes one that is due.
    pub(super) fn take_due(&mut self, now: Moment) -> Option<Timer> {
        let due = self.at.iter().filter(|(_, at)| *at <= now).map(|(timer, _)| *timer);
        let timer = due.min()?;
        self.stop(timer);
        Some(timer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_several_that_are_due_the_first_of_the_list_comes_first_whichever_was_set_first() {
        let at = Moment::from_millis;
        let mut timers = Timers::default();
        timers.set(Timer::Reoffer, at(10));
        timers.set(Timer::DurationEnd, at(40));
        timers.set(Timer::RingEnd, at(20));
        timers.set(Timer::CloseEnd, at(30));
        assert_eq!((timers.next(), timers.take_due(at(9))), (Some(at(10)), None));
        let mut due = Vec::new();
        while let Some(timer) = timers.take_due(at(30)) {
            due.push(timer);
        }
        assert_eq!(due, [Timer::CloseEnd, Timer::RingEnd, Timer::Reoffer]);
        assert_eq!(timers.next(), Some(at(40)));
    }

    #[test]
    fn a_timer_is_set_once_and_forgotten_alone() {
        let at = Moment::from_millis;
        let mut timers = Timers::default();
        timers.set(Timer::RingEnd, at(10));
        timers.set(Timer::HangUp, at(20));
        timers.set(Timer::RingEnd, at(30));
        assert_eq!(timers.next(), Some(at(20)));
        timers.stop(Timer::HangUp);
        assert!(timers.is_set(Timer::RingEnd) && !timers.is_set(Timer::HangUp));
        assert_eq!(timers.next(), Some(at(30)));
        timers.set(Timer::RingEnd, None::<Moment>);
        assert_eq!((timers.is_set(Timer::RingEnd), timers.next()), (false, None));
        timers.set(Timer::AskEnd, at(5));
        timers.stop_all();
        assert_eq!(timers.take_due(at(9)), None);
    }
}
