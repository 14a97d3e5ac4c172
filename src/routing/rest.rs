//! `Rest`: how long a place that calls are sent to gets none, after what became of the last ones.

use crate::routing::health::Availability;
use crate::types::moment::Moment;
use std::time::Duration;

/// A trial call whose end is never reported frees its place after this: all timers of an INVITE are
/// over by then (64 × T1 twice).
const TRIAL_MAX: Duration = Duration::from_secs(64);
/// A carrier that asks for more rest than this gets this much.
const REST_MAX: Duration = Duration::from_secs(3_600);

/// What a rest is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Rest {
    /// None, and the last calls went well.
    #[default]
    None,
    /// After a failure, until this moment.
    Cooling(Moment),
    /// At the carrier's wish, until this moment.
    Throttled(Moment),
    /// A failure's rest is over; this call tries it, if one was sent.
    Trial(Option<Moment>),
}

impl Rest {
    /// Whether calls may be sent there.
    pub(super) fn availability(self, now: Moment) -> Availability {
        match self {
            Self::Throttled(until) if now < until => Availability::Throttled(until),
            Self::Cooling(until) if now < until => Availability::Cooling(until),
            Self::Trial(Some(until)) if now < until => Availability::Cooling(until),
            Self::Cooling(_) | Self::Trial(_) => Availability::Trial,
            Self::None | Self::Throttled(_) => Availability::Ready,
        }
    }

    /// A call was sent on trial: no other until its fate is known.
    pub(super) fn call_sent(&mut self, now: Moment) {
        *self = Self::Trial(Some(now + TRIAL_MAX));
    }

    /// Until when a trial call has the place that there is for one.
    pub(super) fn trial_until(self, now: Moment) -> Option<Moment> {
        match self {
            Self::Trial(until) => until.filter(|until| now < *until),
            Self::None | Self::Cooling(_) | Self::Throttled(_) => None,
        }
    }

    /// A call sent on trial was given up before anything was heard: the next may try.
    pub(super) fn call_left(&mut self) {
        if matches!(self, Self::Trial(Some(_))) {
            *self = Self::Trial(None);
        }
    }

    /// A call got a response that speaks for life, even a refusal. What the carrier wished stays.
    pub(super) fn call_served(&mut self) {
        if matches!(self, Self::Cooling(_) | Self::Trial(_)) {
            *self = Self::None;
        }
    }

    /// A call failed.
    pub(super) fn cool(&mut self, now: Moment, pause: Duration) {
        *self = self.longer(now, Self::Cooling(now + pause.min(REST_MAX)));
    }

    /// The carrier wants fewer calls.
    pub(super) fn throttle(&mut self, now: Moment, pause: Duration) {
        *self = self.longer(now, Self::Throttled(now + pause.min(REST_MAX)));
    }

    /// Of two rests the one that lasts longer.
    fn longer(self, now: Moment, new: Self) -> Self {
        let end = |rest| match rest {
            Self::Cooling(until) | Self::Throttled(until) => Some(until),
            Self::None | Self::Trial(_) => None,
        };
        match end(self) {
            Some(until) if until > now && Some(until) > end(new) => self,
            _ => new,
        }
    }

    /// When it ends, or ended; `None` where nothing is waited for.
    pub(super) const fn end(self) -> Option<Moment> {
        match self {
            Self::Cooling(until) | Self::Throttled(until) | Self::Trial(Some(until)) => Some(until),
            Self::None | Self::Trial(None) => None,
        }
    }

    /// Whether there was one, and it is over.
    pub(super) fn is_over(self, now: Moment) -> bool {
        self.end().is_some_and(|until| until <= now)
    }

    /// Forgets the end of a rest that is over, so that it is no deadline any more.
    pub(super) fn settle(&mut self, now: Moment) {
        if self.is_over(now) {
            *self = match self {
                Self::Throttled(_) => Self::None,
                Self::Cooling(_) | Self::Trial(_) | Self::None => Self::Trial(None),
            };
        }
    }
}
