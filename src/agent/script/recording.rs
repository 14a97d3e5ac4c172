//! What the caller says is recorded, until it is silent, presses a key, or has said enough.

use crate::agent::script::answers::Answers;
use crate::agent::script::desk::Desk;
use crate::agent::script::desk::Flow;
use crate::agent::script::listening::Ear;
use crate::agent::script::saying::Said;
use crate::agent::script::saying::Saying;
use crate::agent::script::step::Playing;
use crate::agent::script::step::Record;
use crate::agent::script::step::Sound;
use crate::agent::script::vocabulary::Input;
use crate::agent::script::vocabulary::NoteKind;
use crate::agent::script::vocabulary::Output;
use crate::types::id::RecordingId;
use crate::types::moment::Moment;
use std::time::Duration;

/// How long the end of a recording is waited for.
const CLOSE_MAX: Duration = Duration::from_secs(5);

/// A recording that is made.
#[derive(Debug)]
pub(super) struct Recording {
    record: Record,
    phase: Phase,
    id: Option<RecordingId>,
    begun: Moment,
    /// The key that ended it.
    finished_on: Option<char>,
}

#[derive(Debug)]
enum Phase {
    Beep(Saying),
    Running { ear: Box<Ear>, until: Moment },
    Closing(Moment),
}

impl Recording {
    pub(super) fn begin(
        now: Moment,
        desk: &mut Desk,
        record: Record,
        out: &mut Vec<Output>,
    ) -> Self {
        let beep = Playing::once(Sound::Beep);
        let phase = if record.beep {
            Phase::Beep(Saying::begin(now, desk, &beep, out))
        } else {
            run(now, &record, out)
        };
        Self { record, phase, id: None, begun: now, finished_on: None }
    }

    pub(super) const fn deadline(&self) -> Option<Moment> {
        match &self.phase {
            Phase::Beep(saying) => saying.deadline(),
            Phase::Running { until, .. } | Phase::Closing(until) => Some(*until),
        }
    }

    /// Whether it has to be ended.
    pub(super) const fn is_running(&self) -> bool {
        matches!(self.phase, Phase::Running { .. })
    }

    pub(super) fn handle(
        &mut self,
        now: Moment,
        desk: &mut Desk,
        input: &Input<'_>,
        out: &mut Vec<Output>,
    ) -> Flow {
        if let Input::RecordingBegun(id) = input {
            self.id = Some(*id);
        }
        match &mut self.phase {
            Phase::Beep(saying) => {
                if saying.handle(now, desk, input, out) != Said::Busy {
                    self.begun = now;
                    self.phase = run(now, &self.record, out);
                }
                Flow::Stay
            }
            Phase::Running { .. } => self.running(now, desk, input, out),
            Phase::Closing(until) => {
                if let Input::Recorded(done) = input {
                    self.done(desk, *done, out)
                } else if now >= *until {
                    self.done(desk, None, out)
                } else {
                    Flow::Stay
                }
            }
        }
    }

    fn running(
        &mut self,
        now: Moment,
        desk: &mut Desk,
        input: &Input<'_>,
        out: &mut Vec<Output>,
    ) -> Flow {
        let Phase::Running { ear, until } = &mut self.phase else { return Flow::Stay };
        if let Input::Recorded(done) = input {
            // It ended by itself, or never began.
            return self.done(desk, *done, out);
        }
        if let Input::Audio(frame) = input {
            ear.hear(frame);
        }
        let is_silent = self.record.silence.is_some_and(|most| ear.silence >= most);
        let has_time = now < *until;
        if let Input::Digit(digit) = input
            && self.record.finish_keys.contains(*digit)
        {
            self.finished_on = Some(*digit);
        }
        if is_silent || !has_time || self.finished_on.is_some() {
            out.push(Output::EndRecording);
            self.phase = Phase::Closing(now + CLOSE_MAX);
        }
        Flow::Stay
    }

    fn done(
        &mut self,
        desk: &mut Desk,
        made: Option<(RecordingId, Duration)>,
        out: &mut Vec<Output>,
    ) -> Flow {
        if made.is_none() {
            desk.note(NoteKind::RecordFailed, "no recording came of it".to_owned(), out);
            return Flow::Advance;
        }
        desk.something_happened();
        let answers = self.answers(made);
        if let Some(next) = &self.record.status {
            let (next, answers) = (desk.whole(next), answers.clone());
            out.push(Output::Tell { next, answers, stream: String::new() });
        }
        match &self.record.next {
            Some(next) => Flow::Ask(next.clone(), answers),
            None => Flow::Advance,
        }
    }

    fn answers(&self, recording: Option<(RecordingId, Duration)>) -> Answers {
        let digits = self.finished_on.map(String::from);
        Answers { digits, recording, ..Answers::default() }
    }

    /// The caller hung up: that ends what it had to say.
    pub(super) fn call_ended(&mut self, now: Moment, desk: &Desk, out: &mut Vec<Output>) {
        if let (Phase::Running { .. } | Phase::Closing(_), Some(id)) = (&self.phase, self.id) {
            let mut answers = self.answers(Some((id, now.since(self.begun))));
            answers.digits = Some("hangup".to_owned());
            for next in [&self.record.next, &self.record.status].into_iter().flatten() {
                let (next, answers) = (desk.whole(next), answers.clone());
                out.push(Output::Tell { next, answers, stream: String::new() });
            }
        }
    }
}

/// It begins.
fn run(now: Moment, record: &Record, out: &mut Vec<Output>) -> Phase {
    out.push(Output::BeginRecording);
    Phase::Running { ear: Box::new(Ear::new()), until: now + record.length_max }
}
