//! `Story`: what was said in a call so far, for an agent that comes into it later.

use crate::agent::session::Said;
use crate::types::limit::AGENT_STORY_BYTES_MAX;
use crate::types::limit::AGENT_STORY_TURNS_MAX;
use serde_json::Value;
use serde_json::json;
use std::collections::VecDeque;

/// The last turns of a call, as far as its agents told them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Story {
    turns: VecDeque<Said>,
    bytes: usize,
}

impl Story {
    /// Adds a turn; over a bound the oldest are forgotten.
    pub fn add(&mut self, said: Said) {
        self.bytes += said.text.len();
        self.turns.push_back(said);
        while self.turns.len() > AGENT_STORY_TURNS_MAX || self.bytes > AGENT_STORY_BYTES_MAX {
            let Some(oldest) = self.turns.pop_front() else { break };
            self.bytes -= oldest.text.len();
        }
    }

    /// The turns, the oldest first.
    pub fn turns(&self) -> impl Iterator<Item = &Said> {
        self.turns.iter()
    }

    /// Whether nothing was told.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.turns.is_empty()
    }

    /// The turns as a list of objects with `speaker` (`agent` or `caller`) and `text`.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let turn = |said: &Said| {
            let speaker = if said.by_agent { "agent" } else { "caller" };
            json!({"speaker": speaker, "text": said.text})
        };
        self.turns.iter().map(turn).collect()
    }
}

/// How an agent comes into a call that was begun without this connection of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Continuation {
    /// Its connection broke, and this is another.
    Reconnected,
    /// It takes over from an agent that was lost.
    TookOver,
}

impl Continuation {
    /// The spelling of what agents are told.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Reconnected => "reconnect",
            Self::TookOver => "takeover",
        }
    }
}

/// What an agent is told that comes into a running call.
#[derive(Clone, Copy, Debug)]
pub struct Past<'a> {
    /// How it comes in.
    pub how: Continuation,
    /// What was said before.
    pub story: &'a Story,
}

/// The parameter that says how an agent comes into a running call.
pub const RESUMED_PARAMETER: &str = "tandem_resumed";
/// The parameter with what was said before.
pub const TRANSCRIPT_PARAMETER: &str = "tandem_transcript";

impl Past<'_> {
    /// The parameters by which a dialect that has such tells it, beside those `given`.
    #[must_use]
    pub fn parameters(&self) -> Vec<(String, String)> {
        let resumed = (RESUMED_PARAMETER.to_owned(), self.how.as_str().to_owned());
        let transcript = (TRANSCRIPT_PARAMETER.to_owned(), self.story.to_json().to_string());
        let all = [Some(resumed), (!self.story.is_empty()).then_some(transcript)];
        all.into_iter().flatten().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(by_agent: bool, text: &str) -> Said {
        Said { by_agent, text: text.to_owned() }
    }

    #[test]
    fn a_story_is_the_last_of_what_was_said() {
        let mut story = Story::default();
        for n in 0..1_000 {
            story.add(said(n % 2 == 0, &n.to_string()));
        }
        assert_eq!(story.turns().count(), AGENT_STORY_TURNS_MAX);
        assert_eq!(story.turns().last(), Some(&said(false, "999")));
        story.add(said(true, &"x".repeat(AGENT_STORY_BYTES_MAX)));
        assert_eq!((story.turns().count(), story.bytes), (1, AGENT_STORY_BYTES_MAX));
        story.add(said(true, &"x".repeat(AGENT_STORY_BYTES_MAX + 1)));
        assert_eq!((story.turns().count(), story.bytes), (0, 0), "one alone may be too much");
    }

    #[test]
    fn an_agent_is_told_how_it_comes_in_and_what_was_said() {
        let mut story = Story::default();
        let how = Continuation::TookOver;
        let bare = Past { how, story: &story }.parameters();
        assert_eq!(bare, [(RESUMED_PARAMETER.to_owned(), "takeover".to_owned())]);
        story.add(said(false, "\"Hi\""));
        let told = Past { how: Continuation::Reconnected, story: &story }.parameters();
        assert_eq!(told[0].1, "reconnect");
        assert_eq!(told[1].1, r#"[{"speaker":"caller","text":"\"Hi\""}]"#);
    }
}
