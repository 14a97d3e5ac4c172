//! The recordings of a call: begun and ended as the call says, and what becomes of them.

use crate::audio::tape::TapeRate;
use crate::audio::tape::TapeStop;
use crate::call::event::CallEvent;
use crate::call::event::RecordingStep;
use crate::call::record::RecordOrder;
use crate::call::side::LegSide;
use crate::call::steer::Order;
use crate::clock;
use crate::engine::call_task::Task;
use crate::recording::recorder::Outcome;
use crate::types::codec::Codec;
use crate::types::id::RecordingId;
use crate::types::recording::RecordingFault;
use crate::types::recording::RecordingOf;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::Context;
use std::task::Poll;
use std::time::Duration;
use tokio::sync::oneshot;

/// How long the end of a call waits for its recording to be closed, so that its events tell of that. A disk
/// that takes longer is not waited for: the recording tells of itself.
const CLOSE_MAX: Duration = Duration::from_secs(2);

/// Recordings of a call that were begun and whose end is not known yet.
#[derive(Default)]
pub(super) struct Recordings(Vec<(RecordingId, oneshot::Receiver<Outcome>, TapeStop)>);

impl Recordings {
    /// The next end of one; never, while there is none.
    pub(super) async fn ended(&mut self) -> (RecordingId, Outcome) {
        poll_fn(|context| self.poll(context)).await
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<(RecordingId, Outcome)> {
        for at in 0..self.0.len() {
            let Some((id, outcome, _)) = self.0.get_mut(at) else { break };
            if let Poll::Ready(done) = Pin::new(outcome).poll(context) {
                let id = *id;
                self.0.swap_remove(at);
                let fault = || Outcome::Failed(RecordingFault::Fault.as_str().to_owned());
                return Poll::Ready((id, done.unwrap_or_else(|_| fault())));
            }
        }
        Poll::Pending
    }
}

impl Task {
    pub(super) fn record(&mut self, order: RecordOrder) {
        match order {
            RecordOrder::Start(id) => self.begin_recording(id),
            RecordOrder::Stop => {
                if let Some(media) = self.media_id(LegSide::Near) {
                    self.switch.media.stop_recording(media);
                }
            }
            RecordOrder::Pause | RecordOrder::Resume => {
                if let Some(media) = self.media_id(LegSide::Near) {
                    self.switch.media.pause_recording(media, order == RecordOrder::Pause);
                }
            }
        }
    }

    fn begin_recording(&mut self, id: RecordingId) {
        let of = RecordingOf { id, call: self.id(), tenant: self.route.tenant.id };
        let media = self.media_id(LegSide::Near).ok_or(RecordingFault::NoMedia);
        let recorder = self.switch.recorder.as_ref().ok_or(RecordingFault::Fault);
        let is_wide = self.log.record().codec.is_some_and(Codec::is_wide);
        let rate = if is_wide { TapeRate::Wide } else { TapeRate::Narrow };
        let begun = media.and_then(|media| {
            let (tape, outcome) = recorder?.begin(of, rate)?;
            let stop = tape.stopped_by();
            self.switch.media.record(media, tape);
            Ok((outcome, stop))
        });
        match begun {
            Ok((outcome, stop)) => self.recordings.0.push((id, outcome, stop)),
            Err(fault) => self.recorded(id, Outcome::Failed(fault.as_str().to_owned())),
        }
    }

    /// Begins the recording of a call that is to be recorded, once it is answered.
    pub(super) async fn record_from_answer(&mut self) {
        if self.route.record && self.call.is_answered() {
            self.route.record = false;
            let order = Order::Record(RecordOrder::Start(clock::new_recording_id()));
            if let Err(why) = Box::pin(self.order(order)).await {
                tracing::warn!(%why, "a call that was to be recorded is not");
            }
        }
    }

    /// A recording came to its end.
    pub(super) fn recorded(&mut self, id: RecordingId, outcome: Outcome) {
        self.tell_script_recorded(id, &outcome);
        let failed_first = self.call.recording().id() == Some(id);
        self.call.recording_over(id);
        match outcome {
            Outcome::Ready { duration_ms } => {
                self.note(CallEvent::Recording(id, RecordingStep::Ready { duration_ms }));
            }
            Outcome::Failed(why) => {
                // Nobody reads its tape any more.
                if failed_first && let Some(media) = self.media_id(LegSide::Near) {
                    self.switch.media.stop_recording(media);
                }
                self.note(CallEvent::Recording(id, RecordingStep::Failed { why }));
            }
        }
    }

    /// The near leg's media is closed, and with it its tape.
    pub(super) async fn end_recordings(&mut self) {
        if let Some(id) = self.call.recording().id() {
            self.call.recording_over(id);
            self.note(CallEvent::Recording(id, RecordingStep::Stopped));
        }
        // One whose media thread hangs would not be.
        self.recordings.0.iter().for_each(|(_, _, stop)| stop.stop());
        let until = clock::instant(clock::now() + CLOSE_MAX).into();
        while !self.recordings.0.is_empty() {
            match tokio::time::timeout_at(until, self.recordings.ended()).await {
                Ok((id, outcome)) => self.recorded(id, outcome),
                Err(_) => {
                    return tracing::warn!("the end of a call did not wait for its recording");
                }
            }
        }
    }
}
