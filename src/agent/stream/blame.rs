//! What a stream knows of its agent's faults: what is counted, and the last word for the record.

use crate::agent::dialect::Garbled;
use crate::agent::session::AgentCounters;
use crate::agent::stream::AgentStream;
use crate::types::agent_trouble::FaultWord;

/// What the agent is blamed for.
#[derive(Debug, Default)]
pub(super) struct Blamed {
    word: Option<FaultWord>,
    /// The messages that had come by then: what was said before others is no reason for what came after them.
    at: u64,
}

impl AgentStream {
    /// What went over the link so far.
    #[must_use]
    pub fn counters(&self) -> AgentCounters {
        let mut counters = self.counters.clone();
        counters.add_dropped(&self.outbox);
        if let Some(broken) = &self.broken {
            counters.add_dropped(broken.kept());
        }
        counters
    }

    /// More of why the agent failed than its cause, where its last message or its silence tells.
    #[must_use]
    pub fn fault(&self) -> Option<FaultWord> {
        self.blamed.word.clone().filter(|_| self.blamed.at == self.counters.messages)
    }

    pub(super) fn blame(&mut self, word: &str) {
        self.blamed = Blamed { word: FaultWord::of(word), at: self.counters.messages };
    }

    /// The agent told of an error.
    pub(super) fn complained(&mut self, word: FaultWord) {
        self.counters.errors += 1;
        self.counters.last_error = Some(word.clone());
        self.blamed = Blamed { word: Some(word), at: self.counters.messages };
    }

    /// Counts what is wrong with a message.
    pub(super) fn count_garbage(&mut self, garbled: Garbled) {
        let garbage = &mut self.counters.garbage;
        let (count, word) = match garbled {
            Garbled::NotAMessage => (&mut garbage.json, "json"),
            Garbled::NoPayload => (&mut garbage.payload, "payload"),
            Garbled::NotBase64 => (&mut garbage.base64, "base64"),
            Garbled::Bytes => (&mut garbage.binary, "binary"),
        };
        *count += 1;
        self.blame(word);
    }
}
