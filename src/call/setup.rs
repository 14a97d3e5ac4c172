//! What a call needs to know at its birth.

use crate::call::dial::DialRequest;
use crate::call::dial::LegTerms;
use crate::routing::signalling::InboundProgress;
use crate::routing::trunk::ResponseMap;
use crate::types::agent::AgentSettings;
use crate::types::id::AiProfileId;
use std::collections::VecDeque;
use std::time::Duration;

/// What a call needs to know at its birth.
#[derive(Clone, Debug)]
pub struct CallSetup {
    /// Where its near leg comes from.
    pub opening: Opening,
    /// Whom the near leg talks with.
    pub partner: Partner,
    /// How the agent is reached and when the call is answered.
    pub agent: AgentSettings,
    /// Who takes over in turn where that is not reached or is lost.
    pub fallbacks: VecDeque<NextAgent>,
    /// How long the tenant's application may take to say who speaks, before a call in is answered or once one out is;
    /// `None`: it is not asked.
    pub asks: Option<Duration>,
    /// After this long without an answer the call is given up.
    pub ring_max: Duration,
    /// After this long from the answer the call is ended.
    pub duration_max: Duration,
    /// The caller hears ringing at least this long.
    pub answer_delay: Duration,
    /// What the caller is told while its agent connects.
    pub progress: InboundProgress,
    /// The status each refusal is sent with.
    pub response_map: ResponseMap,
}

/// An agent that takes over from one that was not reached or is lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NextAgent {
    /// Its profile.
    pub profile: AiProfileId,
    /// How it is reached.
    pub agent: AgentSettings,
    /// Whom the near leg then talks with.
    pub partner: Partner,
}

/// Where the near leg of a call comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opening {
    /// A carrier calls us; the call begins with `LegInput::Offered`.
    Inbound(LegTerms),
    /// We call; the call begins with `Input::Begun`.
    Outbound(Box<DialRequest>),
}

impl Opening {
    /// The terms of the near leg.
    #[must_use]
    pub const fn terms(&self) -> &LegTerms {
        match self {
            Self::Inbound(terms) => terms,
            Self::Outbound(request) => &request.terms,
        }
    }
}

/// Whom the near leg talks with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Partner {
    /// The agent of the profile, by its audio link.
    Agent,
    /// An agent reached by telephone: another leg. It is dialled at once, and what goes wrong with it
    /// is treated like an agent's failure: the caller hears the fallback announcement.
    AgentLeg(Box<DialRequest>),
    /// A forwarded number: another leg, dialled at once. A caller that was not answered is refused with
    /// the cause for which it cannot be had.
    Forward(Box<DialRequest>),
}
