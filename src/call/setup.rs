//! What a call needs to know at its birth.

use crate::call::dial::DialRequest;
use crate::call::dial::LegTerms;
use crate::routing::signalling::InboundProgress;
use crate::routing::trunk::ResponseMap;
use crate::types::agent::AgentKind;
use crate::types::agent::AgentSettings;
use crate::types::agent::AnswerPolicy;
use crate::types::fault_policy::ComfortAudio;
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

impl CallSetup {
    /// How the near leg begins, and what is kept of the rest.
    pub(super) fn begun(self) -> (Opening, KeptSetup) {
        let origin = match &self.opening {
            Opening::Inbound(_) => Origin::Inbound,
            Opening::Outbound(request) => Origin::Outbound { ring_max: request.ring_max },
        };
        let kept = KeptSetup {
            origin,
            partner: self.partner,
            agent: AgentTerms::of(&self.agent),
            fallbacks: self.fallbacks,
            asks: self.asks,
            ring_max: self.ring_max,
            duration_max: self.duration_max,
            answer_delay: self.answer_delay,
            progress: self.progress,
            response_map: self.response_map,
        };
        (self.opening, kept)
    }
}

/// What a call that has begun keeps of its [`CallSetup`]: its near leg has the terms, and how an agent is reached
/// the shell knows.
#[derive(Debug)]
pub(super) struct KeptSetup {
    pub(super) origin: Origin,
    pub(super) partner: Partner,
    pub(super) agent: AgentTerms,
    pub(super) fallbacks: VecDeque<NextAgent>,
    pub(super) asks: Option<Duration>,
    pub(super) ring_max: Duration,
    pub(super) duration_max: Duration,
    pub(super) answer_delay: Duration,
    pub(super) progress: InboundProgress,
    pub(super) response_map: ResponseMap,
}

/// Which way the near leg of a call came to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// A carrier called us.
    Inbound,
    /// We called.
    Outbound {
        /// After this long without an answer the leg is given up.
        ring_max: Duration,
    },
}

/// What an agent's settings say to the call.
#[derive(Clone, Copy, Debug)]
pub(super) struct AgentTerms {
    pub(super) answer: AnswerPolicy,
    pub(super) hangup_after: Option<Duration>,
    pub(super) reinvite_after: Option<Duration>,
    pub(super) comfort: ComfortAudio,
    /// It is told of transfers that fail, by the dialect it speaks.
    pub(super) hears_of_failures: bool,
}

impl AgentTerms {
    pub(super) const fn of(settings: &AgentSettings) -> Self {
        Self {
            answer: settings.answer,
            hangup_after: settings.hangup_after,
            reinvite_after: settings.reinvite_after,
            comfort: settings.faults.comfort,
            hears_of_failures: matches!(settings.kind, AgentKind::Realtime(_)),
        }
    }
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
