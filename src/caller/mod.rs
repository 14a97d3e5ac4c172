//! The test caller: a user agent client with media and a verdict.
//!
//! [`place`] is its shell: sockets, files, the clock. Inside, [`call::Caller`] is a pure state machine
//! of one call, whose media are a [`line::Line`].

mod call;
mod ear;
mod headers;
mod line;
mod place;
mod plan;
mod sockets;
mod summary;
mod target;
mod voice;

#[cfg(test)]
mod tests;

pub use crate::caller::ear::Heard;
pub use crate::caller::headers::HeaderFault;
pub use crate::caller::headers::HeaderFaults;
pub use crate::caller::headers::HeaderRule;
pub use crate::caller::place::CallError;
pub use crate::caller::place::Control;
pub use crate::caller::place::Phase;
pub use crate::caller::place::Progress;
pub use crate::caller::place::place;
pub use crate::caller::place::place_controlled;
pub use crate::caller::plan::Account;
pub use crate::caller::plan::CallPlan;
pub use crate::caller::plan::Speech;
pub use crate::caller::summary::CallProblem;
pub use crate::caller::summary::CallSummary;
pub use crate::caller::summary::EndedBy;
pub use crate::caller::summary::MediaSummary;
pub use crate::caller::summary::SetupTimes;
pub use crate::caller::target::NotATarget;
pub use crate::caller::target::Target;
pub use crate::engine::wav::WavError;
pub use crate::net::end::ConnectFailure;
