//! Recordings of sessions on a media thread.

use crate::audio::tape::TapeIn;
use crate::engine::media_thread::MediaId;
use crate::engine::media_worker::Garbage;
use crate::engine::media_worker::MediaThread;

/// What becomes of the recording of a session.
#[derive(Debug)]
pub(crate) enum TapeCommand {
    Start(Box<TapeIn>),
    Pause(bool),
    Stop,
}

impl MediaThread {
    pub(super) fn tape(&mut self, id: MediaId, command: TapeCommand) {
        let mut left = None;
        match command {
            TapeCommand::Start(tape) => {
                left = Some(tape);
                self.with(id, |hosted, _| {
                    left = left.take().and_then(|tape| hosted.session.record(tape));
                });
            }
            TapeCommand::Pause(paused) => {
                self.with(id, |hosted, _| hosted.session.pause_recording(paused));
            }
            TapeCommand::Stop => {
                self.with(id, |hosted, _| left = hosted.session.stop_recording());
            }
        }
        if let Some(mut tape) = left {
            // Whoever reads it does not wait until it is freed.
            tape.finish();
            self.discard(Garbage::Tape(tape));
        }
    }
}
