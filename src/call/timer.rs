//! What a call waits for by the clock: each state that waits has one of these.

use crate::types::moment::Moment;

/// A reason to wait. Of several that are due, the first of this list comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
    /// The supervisor did not answer in time.
    SupervisorEnd,
    /// The profile hangs up by itself.
    HangUp,
    /// The longest duration is reached.
    DurationEnd,
    /// The profile offers anew by itself.
    Reoffer,
}

impl Timer {
    const ALL: [Self; 11] = [
        Self::CloseEnd,
        Self::RingEnd,
        Self::AnswerMin,
        Self::AskEnd,
        Self::FallbackEnd,
        Self::TargetEnd,
        Self::ReferEnd,
        Self::SupervisorEnd,
        Self::HangUp,
        Self::DurationEnd,
        Self::Reoffer,
    ];
}

/// The timers of a call.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Timers {
    at: [Option<Moment>; Timer::ALL.len()],
}

impl Timers {
    /// Sets a timer, in place of what it was.
    pub(super) fn set(&mut self, timer: Timer, at: impl Into<Option<Moment>>) {
        self.at[timer as usize] = at.into();
    }

    /// Forgets a timer.
    pub(super) fn stop(&mut self, timer: Timer) {
        self.at[timer as usize] = None;
    }

    /// Forgets all of them.
    pub(super) fn stop_all(&mut self) {
        *self = Self::default();
    }

    /// True while it is set.
    pub(super) fn is_set(&self, timer: Timer) -> bool {
        self.at[timer as usize].is_some()
    }

    /// When the next is due.
    pub(super) fn next(&self) -> Option<Moment> {
        self.at.iter().flatten().min().copied()
    }

    /// Takes one that is due.
    pub(super) fn take_due(&mut self, now: Moment) -> Option<Timer> {
        let is_due = |timer: &Timer| self.at[*timer as usize].is_some_and(|at| at <= now);
        let timer = Timer::ALL.into_iter().find(is_due)?;
        self.stop(timer);
        Some(timer)
    }
}
