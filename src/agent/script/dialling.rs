//! Somebody the caller is connected with, until that one is through and what was recorded of it is whole.

use crate::agent::script::answers::Answers;
use crate::agent::script::answers::DialAnswer;
use crate::agent::script::answers::DialStatus;
use crate::agent::script::desk::Desk;
use crate::agent::script::desk::Flow;
use crate::agent::script::step::Dial;
use crate::agent::script::step::DialRecord;
use crate::agent::script::step::Next;
use crate::agent::script::vocabulary::Input;
use crate::agent::script::vocabulary::NoteKind;
use crate::agent::script::vocabulary::Output;
use crate::types::id::RecordingId;
use crate::types::moment::Moment;
use std::time::Duration;

/// How long the end of a recording is waited for.
const CLOSE_MAX: Duration = Duration::from_secs(5);

/// Somebody is dialled, or talks.
#[derive(Debug)]
pub(super) struct Dialling {
    next: Option<Next>,
    limit: Option<Duration>,
    record: Option<DialRecord>,
    phase: Phase,
    tape: Tape,
}

#[derive(Debug)]
enum Phase {
    /// They are rung, or talk; until then, where that has an end.
    Running(Option<Moment>),
    /// They are through; the recording is waited for.
    Closing(DialAnswer, Moment),
}

/// What is recorded.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Tape {
    None,
    /// Since then; which one, once that is known.
    Running(Option<RecordingId>, Moment),
    Made(RecordingId, Duration),
}

impl Dialling {
    pub(super) fn begin(now: Moment, dial: Box<Dial>, out: &mut Vec<Output>) -> Self {
        let (next, limit, record) = (dial.next.clone(), dial.limit, dial.record.clone());
        let phase = Phase::Running(None);
        out.push(Output::Dial(dial));
        let mut own = Self { next, limit, record, phase, tape: Tape::None };
        if own.record.as_ref().is_some_and(|record| record.from_ringing) {
            own.tape_from(now, out);
        }
        own
    }

    pub(super) const fn deadline(&self) -> Option<Moment> {
        match &self.phase {
            Phase::Running(until) => *until,
            Phase::Closing(_, until) => Some(*until),
        }
    }

    /// Whether nobody is dialled or talked with any more.
    pub(super) const fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Closing(..))
    }

    fn tape_from(&mut self, now: Moment, out: &mut Vec<Output>) {
        out.push(Output::BeginRecording);
        self.tape = Tape::Running(None, now);
    }

    pub(super) fn handle(
        &mut self,
        now: Moment,
        desk: &mut Desk,
        input: &Input<'_>,
        out: &mut Vec<Output>,
    ) -> Flow {
        if let (Input::RecordingBegun(id), Tape::Running(_, begun)) = (input, self.tape) {
            self.tape = Tape::Running(Some(*id), begun);
        }
        if let (Input::Recorded(made), Tape::Running(..)) = (input, self.tape) {
            self.taped(*made, desk, out);
        }
        match self.phase {
            Phase::Running(until) => self.running(now, until, desk, (input, out)),
            Phase::Closing(answer, until) => {
                if now >= until {
                    self.taped(None, desk, out);
                }
                self.close(answer, desk, out)
            }
        }
    }

    fn running(
        &mut self,
        now: Moment,
        until: Option<Moment>,
        desk: &mut Desk,
        (input, out): (&Input<'_>, &mut Vec<Output>),
    ) -> Flow {
        if let Input::DialAnswered = input {
            self.phase = Phase::Running(self.limit.map(|limit| now + limit));
            if self.record.is_some() && self.tape == Tape::None {
                self.tape_from(now, out);
            }
        } else if let Input::DialEnded(answer) = input {
            if answer.status == DialStatus::Completed {
                desk.something_happened();
            }
            self.phase = Phase::Closing(*answer, now + CLOSE_MAX);
            if let Tape::Running(..) = self.tape {
                out.push(Output::EndRecording);
            }
            return self.close(*answer, desk, out);
        } else if until.is_some_and(|until| now >= until) {
            self.phase = Phase::Running(None);
            out.push(Output::EndDial);
        }
        Flow::Stay
    }

    /// A recording is whole, or will never be.
    fn taped(
        &mut self,
        made: Option<(RecordingId, Duration)>,
        desk: &mut Desk,
        out: &mut Vec<Output>,
    ) {
        self.tape = made.map_or(Tape::None, |(id, length)| Tape::Made(id, length));
        if made.is_none() {
            // Once in vain is enough.
            self.record = None;
            desk.note(NoteKind::RecordFailed, "no recording came of it".to_owned(), out);
        }
    }

    /// What follows once nothing is waited for any more.
    fn close(&mut self, answer: DialAnswer, desk: &Desk, out: &mut Vec<Output>) -> Flow {
        let recording = match self.tape {
            Tape::Running(..) => return Flow::Stay,
            Tape::Made(id, length) => Some((id, length)),
            Tape::None => None,
        };
        if let Some((id, length)) = recording {
            self.tell(id, length, desk, out);
        }
        let answers = Answers { dial: Some(answer), recording, ..Answers::default() };
        match self.next.take() {
            Some(next) => Flow::Ask(next, answers),
            None => Flow::Advance,
        }
    }

    fn tell(&self, id: RecordingId, length: Duration, desk: &Desk, out: &mut Vec<Output>) {
        let status = self.record.as_ref().and_then(|record| record.status.as_ref());
        if let Some(next) = status {
            let (next, recording) = (desk.whole(next), Some((id, length)));
            let answers = Answers { recording, ..Answers::default() };
            out.push(Output::Tell { next, answers, stream: String::new() });
        }
    }

    /// Another script takes over.
    pub(super) fn leave(&self, out: &mut Vec<Output>) {
        if let Tape::Running(..) = self.tape {
            out.push(Output::EndRecording);
        }
        if !self.is_over() {
            out.push(Output::EndDial);
        }
    }

    /// The call is over, and with it what was recorded.
    pub(super) fn call_ended(&self, now: Moment, desk: &Desk, out: &mut Vec<Output>) {
        match self.tape {
            Tape::Running(Some(id), begun) => self.tell(id, now.since(begun), desk, out),
            Tape::Made(id, length) => self.tell(id, length, desk, out),
            Tape::Running(None, _) | Tape::None => (),
        }
    }
}
