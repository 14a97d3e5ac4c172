//! The recorder of a node: begins recordings, finds them again, deletes them, and tells what became of them.

use crate::audio::tape::TapeIn;
use crate::audio::tape::TapeRate;
use crate::audio::tape::tape;
use crate::clock;
use crate::recording::audio::AudioFile;
use crate::recording::audio::Unreadable;
use crate::recording::encoded::EncodedForm;
use crate::recording::encoded::Encoding;
use crate::recording::encoded::Turn;
use crate::recording::encoded::Unencodable;
use crate::recording::keys::RecordingKeys;
use crate::recording::note;
use crate::recording::note::Birth;
use crate::recording::note::EndStatus;
use crate::recording::note::Note;
use crate::recording::note::Report;
use crate::recording::recovery;
use crate::recording::sink::Sink;
use crate::recording::writer;
use crate::recording::writer::Job;
use crate::types::id::RecordingId;
use crate::types::id::TenantId;
use crate::types::limit::RECORDING_REPORTS_MAX;
use crate::types::limit::RECORDINGS_MAX;
use crate::types::recording::RecordingFault;
use crate::types::recording::RecordingOf;
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use tokio::sync::mpsc as reports;
use tokio::sync::oneshot;
use uuid::Uuid;

/// Threads that write.
const THREADS: usize = 2;
/// Recordings that wait for a thread to begin them. Over it: too many.
const JOBS_MAX: usize = 256;
/// The file that says which folder this is.
const IDENTITY: &str = "folder-id";
/// Where notes are.
const NOTES: &str = "notes";

/// How a recording of a call ended, for its call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is whole, and so many ms long.
    Ready {
        /// Its length.
        duration_ms: u64,
    },
    /// It is not; the word says why.
    Failed(String),
}

/// The recorder. Clones are handles to the same one; its threads end with the last, once all recordings have.
#[derive(Clone)]
pub struct Recorder(Arc<Inner>);

struct Inner {
    folder: Folder,
    keys: RecordingKeys,
    jobs: Vec<mpsc::SyncSender<Job>>,
    running: Arc<AtomicUsize>,
    reports: reports::Sender<Report>,
    left: Vec<PathBuf>,
    /// Recordings that are encoded.
    encoded: Arc<AtomicUsize>,
}

/// The folder with a node's recordings.
#[derive(Clone, Debug)]
pub(super) struct Folder {
    path: PathBuf,
    id: Uuid,
}

impl std::fmt::Debug for Recorder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recorder").field("folder", &self.0.folder).finish_non_exhaustive()
    }
}

impl Recorder {
    /// Opens the folder, which is made if it is not there, and starts the threads. What becomes of recordings
    /// is told by the second.
    ///
    /// # Errors
    /// When the folder or a thread cannot be had.
    pub fn start(
        path: &Path,
        keys: RecordingKeys,
    ) -> io::Result<(Self, reports::Receiver<Report>)> {
        let folder = Folder::open(path)?;
        // Before any begins: these are of before this start.
        let left = note::all(&folder.path.join(NOTES));
        let mut jobs = Vec::new();
        for number in 0..THREADS {
            let (job_in, queue) = mpsc::sync_channel(JOBS_MAX);
            let (folder, keys) = (folder.clone(), keys.clone());
            let thread = std::thread::Builder::new().name(format!("recorder-{number}"));
            thread.spawn(move || writer::run(&queue, &folder, &keys))?;
            jobs.push(job_in);
        }
        let (reports_in, told) = reports::channel(RECORDING_REPORTS_MAX);
        let running = Arc::new(AtomicUsize::new(0));
        let encoded = Arc::default();
        let inner = Inner { folder, keys, jobs, running, reports: reports_in, left, encoded };
        Ok((Self(Arc::new(inner)), told))
    }

    /// Begins a recording. Its file is made by a thread, so whether that works is told by the receiver.
    ///
    /// # Errors
    /// When as many run as may.
    pub fn begin(
        &self,
        of: RecordingOf,
        rate: TapeRate,
    ) -> Result<(Box<TapeIn>, oneshot::Receiver<Outcome>), RecordingFault> {
        let Inner { folder, keys, jobs, running, reports, .. } = &*self.0;
        let place = Place::take(running).ok_or(RecordingFault::TooMany)?;
        let is_encrypted = keys.sealing().is_some();
        let birth = Birth::new(of, (rate.hz(), is_encrypted), (clock::wall_now(), folder.id));
        let (into, out) = tape(rate);
        let (outcome_in, outcome) = oneshot::channel();
        let (told, born) = (reports.clone(), birth.clone());
        let done = Box::new(move |end: note::End| {
            let outcome = match end.status {
                EndStatus::Ready => Outcome::Ready { duration_ms: end.duration_ms },
                EndStatus::Failed | EndStatus::Interrupted => {
                    Outcome::Failed(end.why.clone().unwrap_or_default())
                }
            };
            tell(&told, Report { birth: born, end: Some(end) });
            drop(place);
            // The call may be gone.
            drop(outcome_in.send(outcome));
        });
        let (told, born) = (reports.clone(), Report { birth: birth.clone(), end: None });
        let begun = Box::new(move || tell(&told, born));
        let thread = of.id.uuid().as_u128() as usize % jobs.len().max(1);
        let job = Job { birth, tape: out, begun, done };
        let writer = jobs.get(thread).ok_or(RecordingFault::TooMany)?;
        writer.try_send(job).map_err(|_| RecordingFault::TooMany)?;
        Ok((Box::new(into), outcome))
    }

    /// Recordings that are written, or were just ended.
    #[must_use]
    pub fn running(&self) -> usize {
        self.0.running.load(Ordering::Acquire)
    }

    /// Closes what the process before this one left behind, and tells of all the database may not have. Blocks.
    pub fn recover(&self, mut tell: impl FnMut(Report)) {
        let Inner { folder, keys, left, .. } = &*self.0;
        for path in left {
            match recovery::recover(path, folder, keys) {
                Some(report) => tell(report),
                None => tracing::warn!(path = %path.display(), "a recording's note cannot be read"),
            }
        }
    }

    /// The database has the end of a recording: its note is not needed any more. Blocks.
    pub fn forget_note(&self, id: RecordingId) {
        let gone = fs::remove_file(self.0.folder.note_path(id));
        if let Err(error) = gone
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::debug!(%error, "a recording's note stays");
        }
    }

    /// The folder's identity, by which rows of the database know it.
    #[must_use]
    pub fn folder_id(&self) -> Uuid {
        self.0.folder.id
    }

    /// Opens a recording of `tenant` to be read. Blocks.
    ///
    /// # Errors
    /// [`Unreadable`].
    pub fn open(&self, tenant: TenantId, id: RecordingId) -> Result<AudioFile, Unreadable> {
        let Inner { folder, keys, .. } = &*self.0;
        match AudioFile::open(&folder.path_of(tenant, id, true), id, Some(keys)) {
            Err(Unreadable::Missing) => {
                AudioFile::open(&folder.path_of(tenant, id, false), id, None)
            }
            done => done,
        }
    }

    /// Opens a recording to be read in another form. `serial` tells a stream of Ogg from others.
    ///
    /// # Errors
    /// [`Unencodable`].
    pub fn encode(
        &self,
        file: AudioFile,
        form: EncodedForm,
        serial: u32,
    ) -> Result<Encoding, Unencodable> {
        let turn = Turn::take(&self.0.encoded)?;
        Encoding::new(file, (form, serial), turn)
    }

    /// Deletes the file of a recording, if it is here. Blocks.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn delete(&self, tenant: TenantId, id: RecordingId) -> io::Result<()> {
        for is_encrypted in [true, false] {
            match fs::remove_file(self.0.folder.path_of(tenant, id, is_encrypted)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                Ok(()) | Err(_) => (),
            }
        }
        self.forget_note(id);
        Ok(())
    }
}

/// One that finds no room is told of by its note, after the next start.
fn tell(reports: &reports::Sender<Report>, report: Report) {
    if reports.try_send(report).is_err() {
        tracing::warn!("the database hears of a recording after the next start");
    }
}

/// A place among the recordings that may run.
struct Place(Arc<AtomicUsize>);

impl Place {
    fn take(running: &Arc<AtomicUsize>) -> Option<Self> {
        let place = Self(Arc::clone(running));
        (running.fetch_add(1, Ordering::AcqRel) < RECORDINGS_MAX).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Folder {
    fn open(path: &Path) -> io::Result<Self> {
        private_folder(&path.join(NOTES))?;
        let file = path.join(IDENTITY);
        let known = fs::read_to_string(&file).ok().and_then(|text| text.trim().parse().ok());
        let id = match known {
            Some(id) => id,
            None => {
                let id = clock::new_uuid();
                fs::write(&file, format!("{id}\n"))?;
                id
            }
        };
        Ok(Self { path: path.to_owned(), id })
    }

    fn path_of(&self, tenant: TenantId, id: RecordingId, is_encrypted: bool) -> PathBuf {
        let suffix = if is_encrypted { "sealed" } else { "wav" };
        self.path.join(tenant.to_string()).join(format!("{id}.{suffix}"))
    }

    pub(super) fn audio_path(&self, birth: &Birth) -> PathBuf {
        let of = birth.of();
        self.path_of(of.tenant, of.id, birth.is_encrypted)
    }

    fn note_path(&self, id: RecordingId) -> PathBuf {
        self.path.join(NOTES).join(format!("{id}.{}", note::SUFFIX))
    }

    pub(super) fn note(&self, birth: &Birth) -> io::Result<Note> {
        Note::create(&self.note_path(birth.of().id), birth)
    }

    pub(super) fn create(&self, birth: &Birth, keys: &RecordingKeys) -> io::Result<Sink> {
        let path = self.audio_path(birth);
        if let Some(folder) = path.parent() {
            private_folder(folder)?;
        }
        Sink::create(&path, (birth.of().id, birth.hz), keys)
    }
}

fn private_folder(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}
