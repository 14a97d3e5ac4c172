//! When an agent's first words begin: once the answer is confirmed and the caller's audio comes, for then the way is
//! open in both directions and nothing of them is clipped.

use crate::media::session::MediaSession;
use crate::types::moment::Moment;
use std::time::Duration;

/// How long one of the two is waited for once the other came: a caller may send nothing before it hears something,
/// and a confirmation may be late.
pub const GREETING_HELD_MAX: Duration = Duration::from_millis(200);

/// What the first words wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Greeting {
    /// Both: the confirmation of the answer, and the caller's first packet.
    Held,
    /// The caller's first packet, until then.
    Confirmed { until: Moment },
    /// The confirmation, until then.
    Heard { until: Moment },
    /// Nothing more.
    Free,
}

impl Greeting {
    fn confirmed(self, now: Moment) -> Self {
        match self {
            Self::Held => Self::Confirmed { until: now + GREETING_HELD_MAX },
            Self::Confirmed { .. } => self,
            Self::Heard { .. } | Self::Free => Self::Free,
        }
    }

    fn heard(self, now: Moment) -> Self {
        match self {
            Self::Held => Self::Heard { until: now + GREETING_HELD_MAX },
            Self::Heard { .. } => self,
            Self::Confirmed { .. } | Self::Free => Self::Free,
        }
    }

    fn at(self, now: Moment) -> Self {
        match self {
            Self::Confirmed { until } | Self::Heard { until } if now >= until => Self::Free,
            Self::Held | Self::Confirmed { .. } | Self::Heard { .. } | Self::Free => self,
        }
    }
}

impl MediaSession {
    /// Lets the session send. Its agent is heard once the caller's audio comes too, or a moment later.
    pub fn start_playout(&mut self, now: Moment) {
        self.greeting = self.greeting.confirmed(now);
        if !self.started {
            self.started = true;
            self.source.learn_again(now);
        }
    }

    /// The caller's first packet came.
    pub(super) fn way_is_open(&mut self, now: Moment) {
        self.started = true;
        self.greeting = self.greeting.heard(now);
    }

    /// Whether what the agent says waits.
    pub(super) fn agent_waits(&mut self, now: Moment) -> bool {
        self.greeting = self.greeting.at(now);
        self.greeting != Greeting::Free || self.steered.is_playing()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_wait_for_both_or_for_one_and_a_moment() {
        let (now, later) = (Moment::from_millis(100), Moment::from_millis(300));
        for (one, other) in [
            (Greeting::Held.confirmed(now), Greeting::Held.confirmed(now).heard(now)),
            (Greeting::Held.heard(now), Greeting::Held.heard(now).confirmed(now)),
        ] {
            assert_eq!(other, Greeting::Free);
            assert_eq!(one.at(Moment::from_millis(299)), one, "not yet");
            assert_eq!(one.at(later), Greeting::Free);
            // The same told again puts nothing off.
            assert_eq!(one.confirmed(later).heard(later), Greeting::Free);
        }
        let confirmed = Greeting::Held.confirmed(now);
        assert_eq!(confirmed.confirmed(later), confirmed);
        assert_eq!(Greeting::Held.heard(now).heard(later), Greeting::Held.heard(now));
        assert_eq!(
            Greeting::Held.at(Moment::from_millis(60_000)),
            Greeting::Held,
            "nobody hears it"
        );
    }
}
