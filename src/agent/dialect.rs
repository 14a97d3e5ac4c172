//! `Dialect`: what tells one protocol of agents from another: how what they are told is written, and what
//! what they say asks for. Everything else is [`crate::agent::stream::AgentStream`], for all of them.

use crate::agent::session::AgentCall;
use crate::agent::session::Said;
use crate::agent::twilio::dialect::Twilio;
use crate::audio::link::FRAME_BYTES;
use crate::types::agent::AgentKind;
use crate::types::cause::HangupCause;
use bytes::Bytes;
use std::fmt::Debug;
use std::time::Duration;

/// A protocol of agents, with the state of one connection in it. It neither knows time nor queues anything.
pub trait Dialect: Debug + Send {
    /// The connection is open, perhaps for the second time. Without an [`Act::Ready`] here the agent is
    /// there once it says so.
    fn open(&mut self, acts: &mut Vec<Act>);

    /// The agent sent text.
    ///
    /// # Errors
    /// What is wrong with it; acts that were appended before still hold.
    fn text(&mut self, text: &[u8], acts: &mut Vec<Act>) -> Result<(), Garbled>;

    /// The agent sent bytes.
    ///
    /// # Errors
    /// What is wrong with them; acts that were appended before still hold.
    fn binary(&mut self, bytes: &[u8], acts: &mut Vec<Act>) -> Result<(), Garbled>;

    /// Tells the agent something, in as many messages as it takes, or in none.
    fn tell(&mut self, news: News<'_>, acts: &mut Vec<Act>);

    /// Whether the agent can be asked whether it is alive.
    fn pings(&self) -> bool {
        true
    }

    /// Whether it wants to know how much waits to be played.
    fn wants_level(&self) -> bool {
        false
    }
}

/// What an agent is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News<'a> {
    /// 20 ms of the caller, µ-law at 8 kHz.
    Audio(&'a [u8; FRAME_BYTES]),
    /// In place of so many frames that were dropped.
    SkippedFrames(u64),
    /// The caller pressed a key.
    Digit(char),
    /// Everything before this mark was played, or dropped by a clear that echoes.
    Mark(&'a str),
    /// A clear took effect: of what was queued since the one before, so many samples were played.
    Cleared(u64),
    /// The caller speaks over the agent, of whose utterance so many ms were played.
    BargeIn(u64),
    /// So many ms wait to be played.
    Level(u32),
    /// What it asked for is done, or refused for this reason.
    Answer(Result<(), &'a str>),
    /// The transfer it asked for failed; the caller hears it again.
    TransferFailed(HangupCause),
    /// The call is over.
    Ended,
}

/// What a dialect makes of a message, or of what its agent is to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// The agent is there.
    Ready,
    /// The agent refuses us, or cannot go on, and says so.
    Fail,
    /// Send this.
    Send(Message),
    /// Queue this µ-law audio for the caller; never empty.
    Play(Bytes),
    /// Queue a mark of this name behind what was queued.
    Mark(String),
    /// Drop what was queued.
    Clear(Marks),
    /// Play nothing until the same with `false`.
    Hold(bool),
    /// The agent wants something of the call.
    Ask(Wish, When),
    /// Something was said.
    Note(Said),
    /// A message that means nothing to us, to be counted.
    Unknown,
}

/// What becomes of the marks that a clear drops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Marks {
    /// The agent is told of them at once.
    Echoed,
    /// It is told nothing of them.
    Forgotten,
}

/// A message as the connection carries it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// UTF-8.
    Text(Bytes),
    /// Anything.
    Binary(Bytes),
}

/// What an agent may want of its call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wish {
    /// Its end.
    HangUp,
    /// That the caller be connected with this number or SIP address.
    Transfer(String),
    /// That these keys be sent to the caller's side.
    Digits(String),
}

/// When a wish is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// At once.
    Now,
    /// Once what was queued before it was played.
    Played,
}

/// The agent erred.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Garbled {
    /// Not a message of the dialect.
    #[error("not a message of the dialect")]
    NotAMessage,
    /// Audio without a payload, or with one that cannot be used.
    #[error("audio without a usable payload")]
    NoPayload,
    /// A payload that is not base64.
    #[error("a payload that is not base64")]
    NotBase64,
    /// Bytes where the dialect has none, or bytes it cannot read.
    #[error("bytes that mean nothing")]
    Bytes,
}

/// The dialect of `kind`, and how long its connection may take; `None` for agents that are not spoken with
/// over a connection.
#[must_use]
pub fn of(kind: &AgentKind, call: &AgentCall) -> Option<(Box<dyn Dialect>, Duration)> {
    match kind {
        AgentKind::Twilio(agent) => {
            Some((Box::new(Twilio::new(agent, call)), agent.connect_timeout))
        }
        AgentKind::Echo
        | AgentKind::Tone { .. }
        | AgentKind::Announce
        | AgentKind::Parrot
        | AgentKind::Twiml(_)
        | AgentKind::Script(_)
        | AgentKind::Sip(_)
        | AgentKind::Forward(_) => None,
    }
}
