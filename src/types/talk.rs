//! What is worth telling of the talk of a caller with its agent.

use crate::types::answering_machine::AnswererEvent;

/// One thing that happened between a caller and its agent, or another party that the agent talks with. Times are ms since
/// the media session of that party was opened, in ticks of 20 ms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Talk {
    /// The caller stopped and the agent answered.
    Turn(Turn),
    /// The caller spoke over the agent.
    BargeIn {
        /// When that was found.
        at_ms: u32,
        /// So much of the agent's utterance was played, in ms.
        heard_ms: u32,
        /// What came of it.
        outcome: BargeInOutcome,
    },
    /// Nobody heard the agent, whose caller was on hold or talked with somebody else: what it said was dropped. Once for each
    /// utterance.
    Unheard {
        /// When that began.
        at_ms: u32,
        /// So much of the utterance was played before, in ms.
        heard_ms: u32,
    },
    /// The agent's audio ran dry inside a reply and went on.
    Underrun {
        /// When it went on.
        at_ms: u32,
        /// For so long the caller heard nothing of it, in ms.
        ms: u32,
        /// The media thread or the agent's task came late, not the agent.
        node_late: bool,
    },
    /// Who answered a call of ours, as far as its audio tells. Its times are ms since the answer.
    Answerer(AnswererEvent),
}

/// The caller stopped speaking and the agent answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    /// The caller stopped speaking.
    pub stopped_ms: u32,
    /// The first audio of the answer came from the agent.
    pub first_byte_ms: u32,
    /// The answer began to be sent to the caller.
    pub spoken_ms: u32,
}

/// What came of a caller's speaking over its agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BargeInOutcome {
    /// The agent was told, and went on.
    Told,
    /// The agent was interrupted, and told.
    Interrupted,
    /// The agent waited; it was a false alarm, and it goes on.
    Resumed,
}

impl BargeInOutcome {
    /// The spelling of records.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Told => "told",
            Self::Interrupted => "interrupted",
            Self::Resumed => "resumed",
        }
    }
}

impl Talk {
    /// The spelling of records.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Turn(_) => "turn",
            Self::BargeIn { .. } => "barge_in",
            Self::Unheard { .. } => "unheard",
            Self::Underrun { .. } => "underrun",
            Self::Answerer(event) => event.name(),
        }
    }
}
