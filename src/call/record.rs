//! Whether a call is recorded: the near leg's peer and what it hears, from an answer to an end.

use crate::call::Call;
use crate::call::event::CallEvent;
use crate::call::event::RecordingStep;
use crate::call::input::MediaOutput;
use crate::call::input::Output;
use crate::call::side::LegSide;
use crate::call::steer::Senseless;
use crate::types::id::RecordingId;

/// What becomes of the recording of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordOrder {
    /// This one begins.
    Start(RecordingId),
    /// It ends.
    Stop,
    /// Silence is recorded until it is resumed: card numbers and the like are said.
    Pause,
    /// Sound is recorded again.
    Resume,
}

/// How the recording of a call stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Recording {
    /// There is none at present.
    #[default]
    Off,
    /// It runs.
    Running(RecordingId),
    /// It runs and has silence.
    Paused(RecordingId),
}

impl Recording {
    /// The spelling of the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Running(_) => "running",
            Self::Paused(_) => "paused",
        }
    }

    /// Which.
    #[must_use]
    pub const fn id(self) -> Option<RecordingId> {
        match self {
            Self::Off => None,
            Self::Running(id) | Self::Paused(id) => Some(id),
        }
    }
}

impl Call {
    /// Begins, ends, pauses or resumes the recording.
    pub(super) fn order_record(
        &mut self,
        order: RecordOrder,
        out: &mut Vec<Output>,
    ) -> Result<(), Senseless> {
        let (next, event) = match (order, self.steered.recording) {
            (RecordOrder::Start(id), Recording::Off) => {
                (Recording::Running(id), CallEvent::Recording(id, RecordingStep::Started))
            }
            (RecordOrder::Start(_), Recording::Running(_) | Recording::Paused(_)) => {
                return Err(Senseless::Recorded);
            }
            (RecordOrder::Stop | RecordOrder::Pause | RecordOrder::Resume, Recording::Off) => {
                return Err(Senseless::NotRecorded);
            }
            (RecordOrder::Stop, Recording::Running(id) | Recording::Paused(id)) => {
                (Recording::Off, CallEvent::Recording(id, RecordingStep::Stopped))
            }
            (RecordOrder::Pause, Recording::Running(id)) => {
                (Recording::Paused(id), CallEvent::Recording(id, RecordingStep::Paused))
            }
            (RecordOrder::Pause, Recording::Paused(_)) => return Err(Senseless::RecordPaused),
            (RecordOrder::Resume, Recording::Paused(id)) => {
                (Recording::Running(id), CallEvent::Recording(id, RecordingStep::Resumed))
            }
            (RecordOrder::Resume, Recording::Running(_)) => {
                return Err(Senseless::RecordNotPaused);
            }
        };
        self.steered.recording = next;
        out.push(Output::Record(event));
        out.push(Output::Media(LegSide::Near, MediaOutput::Record(order)));
        Ok(())
    }

    /// How the recording stands.
    #[must_use]
    pub const fn recording(&self) -> Recording {
        self.steered.recording
    }

    /// A recording ended by itself: it failed, or the near leg's media closed. Another that began since goes on.
    pub fn recording_over(&mut self, id: RecordingId) {
        if self.steered.recording.id() == Some(id) {
            self.steered.recording = Recording::Off;
        }
    }
}
