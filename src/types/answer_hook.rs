//! `AnswerHook`: the webhook of a tenant that is asked who answers a call.

use crate::types::id::AiProfileId;
use crate::types::secret::Secret;
use std::time::Duration;

/// The webhook that is asked who answers a call in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnswerHook {
    /// Where it is.
    pub url: String,
    /// What signs the question; empty: nothing does.
    pub secret: Secret<String>,
    /// Longest wait for its answer.
    pub timeout: Duration,
}

/// What came of asking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AskOutcome {
    /// The profile of the number answers, as it would have.
    Kept,
    /// Another profile of the tenant answers.
    Overridden(AiProfileId),
    /// There was no usable answer: the profile of the number answers.
    Failed(AskFault),
}

/// Why there was no usable answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AskFault {
    /// It is not reached.
    Unreachable,
    /// It said nothing in time.
    Late,
    /// Its status is none of 2xx.
    Refused,
    /// What it said is none of the answers there are.
    BadAnswer,
    /// The tenant has no such profile.
    UnknownProfile,
    /// The call would have more variables than it may have.
    TooManyVariables,
}

impl AskFault {
    /// The spelling of records.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::Late => "late",
            Self::Refused => "refused",
            Self::BadAnswer => "bad_answer",
            Self::UnknownProfile => "unknown_profile",
            Self::TooManyVariables => "too_many_variables",
        }
    }
}

impl AskOutcome {
    /// The spelling of records.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Kept => "kept",
            Self::Overridden(_) => "overridden",
            Self::Failed(_) => "failed",
        }
    }
}
