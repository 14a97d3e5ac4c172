//! The call's hold on its agent's task, and what it tells it.

use crate::agent::session::Said;
use crate::audio::link::AgentEnd;
use crate::engine::mailbox;
use crate::types::cause::HangupCause;

/// The call's hold on its agent's task. Dropping it ends the agent like [`Self::end`].
#[derive(Debug)]
pub struct AgentHandle {
    commands: mailbox::Sender<Command>,
}

#[derive(Debug)]
pub(super) enum Command {
    Answered,
    Relink(Box<AgentEnd>),
    Digit(char),
    /// What the agent asked for is under way, or was refused.
    Reply(Result<(), &'static str>),
    TransferFailed(HangupCause),
    Recount(Vec<Said>),
    End,
}

impl AgentHandle {
    pub(super) const fn new(commands: mailbox::Sender<Command>) -> Self {
        Self { commands }
    }

    /// Tells the agent's task that the call was answered.
    pub fn call_answered(&self) {
        self.tell(Command::Answered);
    }

    /// Tells the agent of a key that came by signalling; those of the media come over the link.
    pub fn digit(&self, digit: char) {
        self.tell(Command::Digit(digit));
    }

    /// Tells the agent that what it asked for is under way, or why it is refused.
    pub fn answer(&self, answer: Result<(), &'static str>) {
        self.tell(Command::Reply(answer));
    }

    /// Tells the agent that the transfer failed, and that the caller hears it again.
    pub fn transfer_failed(&self, cause: HangupCause) {
        self.tell(Command::TransferFailed(cause));
    }

    /// Tells the agent's task what was said in the call, for a connection that has to be made anew.
    pub fn recount(&self, turns: Vec<Said>) {
        self.tell(Command::Recount(turns));
    }

    /// Lets the agent speak and listen over another link; what it had said into the one before is
    /// dropped with that.
    pub fn relink(&self, end: AgentEnd) {
        self.tell(Command::Relink(Box::new(end)));
    }

    /// Ends the agent: it is told to stop and its WebSocket is closed.
    pub fn end(self) {
        self.tell(Command::End);
    }

    fn tell(&self, command: Command) {
        // A task that is gone needs no command. One that is too busy loses a key, never the end:
        // the end also follows from dropping the handle.
        if let Err(unheard) = self.commands.try_send(command) {
            tracing::trace!(command = ?unheard.into_inner(), "the agent's task is gone already");
        }
    }
}
