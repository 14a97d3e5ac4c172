//! The threads that write recordings: each reads its tapes every tenth of a second, and nothing waits for it.

use crate::audio::mixdown::Mixdown;
use crate::audio::mixdown::STEREO_BYTES;
use crate::audio::tape::TapeItem;
use crate::audio::tape::TapeOut;
use crate::clock;
use crate::recording::keys::RecordingKeys;
use crate::recording::note::Birth;
use crate::recording::note::End;
use crate::recording::note::EndStatus;
use crate::recording::note::Marker;
use crate::recording::note::MarkerKind;
use crate::recording::note::Note;
use crate::recording::recorder::Folder;
use crate::recording::sink;
use crate::recording::sink::Sink;
use crate::recording::sink::Written;
use crate::recording::wav;
use crate::telemetry::metric;
use crate::telemetry::metric::Counter;
use crate::types::limit::RECORDING_MARKERS_MAX;
use crate::types::recording::RecordingFault;
use std::io;
use std::panic::AssertUnwindSafe;
use std::panic::catch_unwind;
use std::sync::mpsc;
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

/// How often tapes are read. They hold two and a half seconds.
const PERIOD: Duration = Duration::from_millis(100);

/// A recording that begins.
pub(super) struct Job {
    pub(super) birth: Birth,
    pub(super) tape: TapeOut,
    /// Told once its note and its file are there: what the database hears of, a kill leaves to be closed.
    pub(super) begun: Box<dyn FnOnce() + Send>,
    /// Told of the end, once.
    pub(super) done: Box<dyn FnOnce(End) + Send>,
}

/// Writes recordings until nobody can begin one and all have ended.
pub(super) fn run(jobs: &mpsc::Receiver<Job>, folder: &Folder, keys: &RecordingKeys) {
    let mut running: Vec<Running> = Vec::new();
    loop {
        let job = if running.is_empty() {
            jobs.recv().map_err(|_| RecvTimeoutError::Disconnected)
        } else {
            jobs.recv_timeout(PERIOD)
        };
        match job {
            Ok(job) => running.push(Running::new(job, folder, keys)),
            Err(RecvTimeoutError::Timeout) => (),
            Err(RecvTimeoutError::Disconnected) if running.is_empty() => return,
            // Nothing sleeps for us any more.
            Err(RecvTimeoutError::Disconnected) => std::thread::sleep(PERIOD),
        }
        running.retain_mut(|recording| {
            // A fault in one ends that one.
            let step = catch_unwind(AssertUnwindSafe(|| recording.step()));
            step.unwrap_or_else(|_| {
                recording.end(Some(RecordingFault::Fault));
                false
            })
        });
    }
}

/// A recording that is written.
struct Running {
    birth: Birth,
    tape: TapeOut,
    mixdown: Mixdown,
    sink: Option<Sink>,
    note: Option<Note>,
    fault: Option<RecordingFault>,
    markers: Vec<Marker>,
    lost: u64,
    done: Option<Box<dyn FnOnce(End) + Send>>,
}

impl Running {
    fn new(job: Job, folder: &Folder, keys: &RecordingKeys) -> Self {
        let Job { birth, tape, begun, done } = job;
        let mut fault = None;
        let mut opened = |error: &io::Error| fault = Some(sink::fault_of(error));
        let note = folder.note(&birth).inspect_err(&mut opened).ok();
        let sink = folder.create(&birth, keys).inspect_err(&mut opened).ok();
        if note.is_some() && sink.is_some() {
            begun();
        }
        let mixdown = Mixdown::new(tape.rate());
        Self {
            birth,
            tape,
            mixdown,
            sink,
            note,
            fault,
            markers: Vec::new(),
            lost: 0,
            done: Some(done),
        }
    }

    /// Writes what is on the tape; false once the recording has ended.
    fn step(&mut self) -> bool {
        // In this order: what is on the tape when it is over is all there will be.
        let (is_over, reached) = (self.tape.is_over(), self.tape.reached());
        while self.fault.is_none()
            && let Some(item) = self.tape.next_item()
        {
            match item {
                TapeItem::Sound(sound) => {
                    let mut pour = Pour { sink: self.sink.as_mut(), error: None };
                    self.mixdown.take(&sound, &mut |bytes: &[u8]| pour.put(bytes));
                    let error = pour.error;
                    self.judge(error);
                }
                TapeItem::Paused(at) => self.mark(at, MarkerKind::Paused, None),
                TapeItem::Resumed(at) => self.mark(at, MarkerKind::Resumed, None),
                TapeItem::Gap { from, until } => self.lose(from, until),
            }
        }
        if self.fault.is_none() {
            self.settle(reached, is_over);
        }
        match self.fault {
            Some(fault) => self.end(Some(fault)),
            None if is_over => self.end(None),
            None => return true,
        }
        false
    }

    fn settle(&mut self, reached: u64, is_over: bool) {
        if is_over && let Some((from, until)) = self.tape.last_gap() {
            self.lose(from, until);
        }
        let mut pour = Pour { sink: self.sink.as_mut(), error: None };
        let mut put = |bytes: &[u8]| pour.put(bytes);
        if is_over {
            self.mixdown.finish(reached, &mut put);
        } else {
            self.mixdown.settle(reached, &mut put);
        }
        let error = pour.error;
        self.judge(error);
        if self.sink.as_ref().is_some_and(|sink| sink.taken() > wav::DATA_BYTES_MAX) {
            self.fault = Some(RecordingFault::TooLong);
        }
    }

    fn judge(&mut self, error: Option<io::Error>) {
        if let Some(error) = error {
            self.fault = Some(sink::fault_of(&error));
        }
    }

    fn lose(&mut self, from: u64, until: u64) {
        let samples = until.saturating_sub(from);
        self.lost += samples;
        metric::counter(Counter::RecordingGaps).increment(1);
        self.mark(from, MarkerKind::Gap, Some(self.ms(samples)));
    }

    fn mark(&mut self, at: u64, what: MarkerKind, for_ms: Option<u64>) {
        let marker = Marker { at_ms: self.ms(at), what, for_ms };
        if self.markers.len() < RECORDING_MARKERS_MAX {
            self.markers.push(marker);
            // The database will have it; the note is for a kill.
            if let Some(Err(error)) = self.note.as_mut().map(|note| note.mark(marker)) {
                tracing::debug!(%error, "a marker is not in its recording's note");
            }
        }
    }

    fn ms(&self, samples: u64) -> u64 {
        samples.saturating_mul(1_000) / u64::from(self.birth.hz.max(1))
    }

    /// Closes the file and tells of the end.
    fn end(&mut self, fault: Option<RecordingFault>) {
        let Some(done) = self.done.take() else { return };
        let mut fault = fault;
        let written = match self.sink.take() {
            None => None,
            Some(sink) if fault.is_some_and(|fault| fault != RecordingFault::TooLong) => {
                Some(sink.give_up())
            }
            Some(sink) => {
                let (written, done) = sink.finish();
                if let Err(error) = done {
                    fault = Some(sink::fault_of(&error));
                }
                Some(written)
            }
        };
        let end = self.told(fault, written);
        if let Some(fault) = fault {
            let of = self.birth.of();
            tracing::warn!(recording = %of.id, call = %of.call, why = fault.as_str(), "a recording failed");
        }
        metric::count(Counter::Recordings, end.status.as_str());
        if let Some(Err(error)) = self.note.as_mut().map(|note| note.end(&end)) {
            tracing::debug!(%error, "the end of a recording is not in its note");
        }
        done(end);
    }

    fn told(&mut self, fault: Option<RecordingFault>, written: Option<Written>) -> End {
        let written = written.unwrap_or(Written { data_bytes: 0, sha256: [0; 32] });
        let duration_ms = self.ms(written.data_bytes / STEREO_BYTES as u64);
        let mut markers = std::mem::take(&mut self.markers);
        let mut lost_ms = self.ms(self.lost);
        if fault.is_some() {
            // Of what was not written nothing is told either.
            markers.retain(|marker| marker.at_ms < duration_ms);
            let gaps = markers.iter().filter_map(|marker| marker.for_ms);
            lost_ms = gaps.fold(0, u64::saturating_add).min(lost_ms);
        }
        End {
            status: if fault.is_some() { EndStatus::Failed } else { EndStatus::Ready },
            why: fault.map(|fault| fault.as_str().to_owned()),
            ended_at: clock::wall_now(),
            duration_ms,
            data_bytes: written.data_bytes,
            sha256: hex(&written.sha256),
            lost_ms,
            markers,
        }
    }
}

/// A sink, and the first thing that went wrong with it.
struct Pour<'a> {
    sink: Option<&'a mut Sink>,
    error: Option<io::Error>,
}

impl Pour<'_> {
    fn put(&mut self, bytes: &[u8]) {
        if self.error.is_none()
            && let Some(sink) = &mut self.sink
        {
            self.error = sink.write(bytes).err();
        }
    }
}

/// Bytes in hex.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
