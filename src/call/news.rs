//! What a call's state has to react to, once the lines and the agent took their part of each input.

use crate::call::dial::DialRequest;
use crate::call::side::LegSide;
use crate::call::timer::Timer;
use crate::call::transfer::TransferRequest;
use crate::types::cause::HangupCause;
use crate::types::cause::Party;

/// Something a state reacts to.
#[derive(Debug)]
pub(super) enum News {
    /// An outbound call begins.
    Begun,
    /// Of the near line.
    Near(LineNews),
    /// Of another line.
    Far(LegSide, LineNews),
    /// Of the agent.
    Agent(AgentNews),
    /// The call shall end.
    HangUp { cause: HangupCause, by: Party },
    /// The near leg shall talk with somebody else.
    Transfer(TransferRequest),
    /// The agent is through with the target of its transfer.
    Confirmed,
    /// The transfer shall be given up.
    Withdrawn,
    /// A timer is due.
    Due(Timer),
}

/// What a line could not settle by itself.
#[derive(Debug)]
pub(super) enum LineNews {
    /// A carrier calls by it, and its offer can be used.
    Offered,
    /// Its media runs; a line to be dialled is dialled by now.
    Ready,
    /// The party dialled makes progress; audible: its early media can be heard.
    Progressed { status: u16, audible: bool },
    /// The party dialled answered, and media is agreed.
    Answered,
    /// The peer has our answer.
    Acknowledged,
    /// The first packet of the peer came.
    Heard,
    /// The party dialled cannot be had. Nothing is left to be said to it.
    Failed(HangupCause),
    /// The line is of no use and wants to be ended by us.
    Broken(HangupCause),
    /// The peer gave up before it had our answer. Nothing is left to be said to it.
    Cancelled,
    /// The peer ended it. Nothing is left to be said to it.
    Ended { cause: HangupCause, by: Party },
    /// The peer pressed a key that the media did not carry.
    Keyed(char),
    /// The peer got this far with a transfer of ours.
    ReferProgressed(u16),
    /// The peer does not transfer.
    ReferFailed(u16),
    /// The peer, who may, wants the other side connected with somebody else.
    Referred(Box<DialRequest>),
    /// Its media is closed.
    Closed,
}

/// Something that happened to the agent.
#[derive(Debug)]
pub(super) enum AgentNews {
    /// It is connected.
    Ready,
    /// It could not be reached or was lost. It is gone.
    Lost(HangupCause),
    /// It hung up. It is gone.
    HungUp,
    /// The announcement in its place was played.
    Played,
}
