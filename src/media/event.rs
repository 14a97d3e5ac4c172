//! What a media session reports to its call.

use crate::types::quality::TroubleTold;
use crate::types::talk::Talk;

/// What a media session reports to its call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MediaEvent {
    /// The first packet of the peer that was believed.
    FirstPacket,
    /// The peer presses a key; `Digit` follows once it is up.
    Pressed,
    /// The peer pressed a key (RFC 4733). Once for each key.
    Digit {
        /// `0` to `9`, `*`, `#`, `A` to `D`.
        digit: char,
        /// How long it was held, in ms, as far as is known when it is reported.
        duration_ms: u32,
    },
    /// The clip of this number was played to its end.
    Played {
        /// Its number.
        clip: u32,
    },
    /// Something happened between the peer and its agent.
    Talk(Talk),
    /// Somebody is not heard, or is again.
    Trouble(TroubleTold),
    /// Nothing came from the peer for the inactivity time-out, although it should have.
    TimedOut,
    /// The session met a fault of ours and does nothing any more. The call ends with `SwitchFault`.
    Failed,
}

impl MediaEvent {
    /// Whether it only tells of the call: nothing is done for it, nobody waits for it.
    #[must_use]
    pub const fn is_remark(&self) -> bool {
        match self {
            // The end of a key says the same.
            Self::Pressed
            | Self::Talk(
                Talk::Turn(_) | Talk::BargeIn { .. } | Talk::Unheard { .. } | Talk::Underrun { .. },
            ) => true,
            Self::Talk(Talk::Answerer(_))
            | Self::Trouble(_)
            | Self::FirstPacket
            | Self::Digit { .. }
            | Self::Played { .. }
            | Self::TimedOut
            | Self::Failed => false,
        }
    }
}
