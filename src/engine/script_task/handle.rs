//! What a call and its script tell each other.

use crate::agent::script::answers::DialAnswer;
use crate::agent::script::step::Dial;
use crate::agent::script::vocabulary::Note;
use crate::agent::script::vocabulary::Replacement;
use crate::agent::session::Said;
use crate::audio::link::AgentEnd;
use crate::engine::agent_task::AgentEvent;
use crate::engine::mailbox;
use crate::types::cause::HangupCause;
use crate::types::id::AiProfileId;
use crate::types::id::RecordingId;
use std::time::Duration;

/// What a call learns from its script.
#[derive(Clone, Debug)]
pub(in crate::engine) enum ScriptEvent {
    /// There is somebody who speaks.
    Ready,
    /// There never was; the task ends.
    Failed(HangupCause),
    /// There is nobody any more; the task ends.
    Lost(HangupCause),
    /// The call shall end; the task does.
    HangUp,
    /// The call shall be refused; the task ends.
    Rejected(HangupCause),
    /// Somebody else shall be dialled; to be answered by [`ScriptHandle::dialled`].
    Dial(Box<Dial>),
    /// That one shall be let go.
    EndDial,
    /// The call shall be recorded.
    BeginRecording,
    /// No longer.
    EndRecording,
    /// These keys shall be sent.
    Keys(String),
    /// The agent of this profile shall take over.
    Attach(AiProfileId),
    /// For the record.
    Noted(Note),
    /// The agent of a stream wants something.
    Agent(AgentEvent),
}

/// What became of somebody who was dialled.
#[derive(Clone, Copy, Debug)]
pub(in crate::engine) enum DialNews {
    /// They talk.
    Answered,
    /// They do not, or no longer.
    Ended(DialAnswer),
}

/// What became of a recording.
#[derive(Clone, Copy, Debug)]
pub(in crate::engine) enum RecordNews {
    /// It runs.
    Begun(RecordingId),
    /// It is whole.
    Ready(RecordingId, Duration),
    /// There is none.
    Failed,
}

#[derive(Debug)]
pub(super) enum Command {
    Answered,
    Relink(Box<AgentEnd>),
    Digit(char),
    Dialled(DialNews),
    Recorded(RecordNews),
    Replace(Box<Replacement>),
    Reply(Result<(), &'static str>),
    TransferFailed(HangupCause),
    Recount(Vec<Said>),
    End,
}

/// The call's hold on its script. Dropping it ends the script.
#[derive(Debug)]
pub(in crate::engine) struct ScriptHandle(pub(super) mailbox::Sender<Command>);

impl ScriptHandle {
    pub(in crate::engine) fn call_answered(&self) {
        self.tell(Command::Answered);
    }

    /// Tells of a key that came by signalling; those of the media come over the link.
    pub(in crate::engine) fn digit(&self, digit: char) {
        self.tell(Command::Digit(digit));
    }

    /// It is heard over another link from now on; what it had said into the one before is dropped with that.
    pub(in crate::engine) fn relink(&self, end: AgentEnd) {
        self.tell(Command::Relink(Box::new(end)));
    }

    pub(in crate::engine) fn dialled(&self, news: DialNews) {
        self.tell(Command::Dialled(news));
    }

    pub(in crate::engine) fn recorded(&self, news: RecordNews) {
        self.tell(Command::Recorded(news));
    }

    /// Tells the agent of a stream that what it asked for is under way, or why it is refused.
    pub(in crate::engine) fn answer(&self, answer: Result<(), &'static str>) {
        self.tell(Command::Reply(answer));
    }

    /// Tells it what was said in the call, for the agent of a stream.
    pub(in crate::engine) fn recount(&self, turns: Vec<Said>) {
        self.tell(Command::Recount(turns));
    }

    /// Tells it that its transfer failed.
    pub(in crate::engine) fn transfer_failed(&self, cause: HangupCause) {
        self.tell(Command::TransferFailed(cause));
    }

    /// Another script takes its place at once. False where it does not take it.
    pub(in crate::engine) fn replace(&self, by: Replacement) -> bool {
        self.0.try_send(Command::Replace(Box::new(by))).is_ok()
    }

    pub(in crate::engine) fn end(self) {
        self.tell(Command::End);
    }

    fn tell(&self, command: Command) {
        // A task that is gone needs no command; its end also follows from dropping the handle.
        if let Err(unheard) = self.0.try_send(command) {
            tracing::trace!(command = ?unheard.into_inner(), "the script's task does not listen");
        }
    }
}
