//! SIP transactions (RFC 3261 §17, RFC 6026): four state machines without messages, clock or sockets.
//!
//! A machine is told the class of what happened and says what must be done; the endpoint keeps the
//! bytes and the timers.
#![warn(clippy::wildcard_enum_match_arm)]

pub mod client;
pub mod invite_client;
pub mod invite_server;
pub mod key;
pub mod server;
pub mod timer;

use crate::sip::transaction::timer::Length;
use crate::sip::transaction::timer::Timer;
use smallvec::SmallVec;

/// The class of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// 1xx.
    Provisional,
    /// 2xx.
    Success,
    /// 3xx to 6xx.
    Failure,
}

impl Class {
    /// The class of `status`.
    #[must_use]
    pub const fn of(status: u16) -> Self {
        match status {
            ..=199 => Self::Provisional,
            200..=299 => Self::Success,
            300.. => Self::Failure,
        }
    }
}

/// What a machine wants done, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send the message at hand for the first time.
    Send,
    /// Send the last message again.
    Resend,
    /// Send the ACK to a final response other than 2xx for the first time.
    SendAck,
    /// Send that ACK again.
    ResendAck,
    /// Give the message at hand to the user of the transaction.
    Deliver,
    /// The message at hand is a repetition: drop it.
    Absorb,
    /// The message at hand makes no sense in this state.
    Stray,
    /// Tell the user that no answer came in time.
    TimedOut,
    /// Tell that no ACK came in time.
    AckTimedOut,
    /// Tell the user that the way to the peer is gone.
    Unreachable,
    /// Arm this timer, or arm it anew.
    Arm(Timer, Length),
    /// Disarm this timer.
    Disarm(Timer),
    /// The last message will not be sent again.
    Forget,
    /// The transaction is over.
    Terminate,
}

/// The actions of one step.
pub type Actions = SmallVec<[Action; 6]>;
