//! The journal: what happens to calls, on disk before it is in the database.
//!
//! One thread writes. A report is in the file, and so survives the process, when its [`Written`]
//! resolves; it is on disk, and so survives the machine, at most [`SYNC_PAUSE`] later. A report that
//! nobody waits for may be in memory for some milliseconds. While the disk refuses, all wait in memory
//! up to a bound, and calls go on.

use crate::cdr::CallReport;
use crate::clock;
use crate::store::inbox::Inbox;
use crate::store::inbox::Item;
use crate::store::inbox::Work;
use crate::store::json_text::JsonText;
use crate::store::segment;
use crate::store::segment::Kind;
use crate::store::segment::Next;
use crate::store::segment::Segment;
use crate::store::syncer::Syncer;
use crate::store::wire;
use crate::store::wire::Entry;
use crate::types::id_map::IdMap;
use crate::types::limit::JOURNAL_SEGMENT_BYTES;
use crate::types::moment::Moment;
use jiff::Timestamp;
use std::collections::HashMap;
use std::collections::HashSet;
use std::collections::VecDeque;
use std::fs::DirBuilder;
use std::fs::File;
use std::fs::TryLockError;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::sync::watch;
use uuid::Uuid;

/// What was written is safe on disk at most this much later.
pub const SYNC_PAUSE: Duration = Duration::from_millis(50);
/// Pause after the disk refused.
const RETRY_PAUSE: Duration = Duration::from_millis(200);
/// While calls are open and nothing else is written, a sign of life is written this often, one for all
/// of them: how long a killed call lasted is known that well.
const ALIVE_PAUSE: Duration = Duration::from_secs(2);
/// Longest sleep while no call is open and nothing is to be done.
const IDLE_PAUSE: Duration = Duration::from_secs(3_600);
/// Writes to the disk whose way into the database is timed at once. Over it: later ones are not.
const STAMPS_MAX: usize = 1_024;
/// The folder of records that the database refused.
pub(crate) const REJECTED: &str = "rejected";

/// Takes reports of calls. Cheap to clone; writing never waits.
#[derive(Clone, Debug)]
pub struct Journal {
    shared: Arc<Shared>,
    progress: watch::Receiver<Progress>,
    dir: PathBuf,
}

/// How far the journal is safe on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Progress {
    /// The segment that is being written.
    pub(crate) segment: u64,
    /// How much of it is on disk.
    pub(crate) len: u64,
    /// Calls that are not over.
    pub(crate) open: usize,
    /// True when nothing will follow.
    pub(crate) closed: bool,
}

/// How journal and upload fare; for metrics, readiness and alarms.
#[derive(Debug, Default)]
pub struct JournalHealth {
    /// The disk refuses; reports wait in memory.
    pub(crate) disk_refuses: AtomicBool,
    /// Reports lost because the disk refused for too long.
    pub(crate) lost: AtomicU64,
    /// The database is away; records wait on disk.
    pub(crate) database_away: AtomicBool,
    /// Entries carried into the database.
    pub(crate) uploaded: AtomicU64,
    /// Entries the database refused for good, put aside as files.
    pub(crate) rejected: AtomicU64,
    /// Bytes of the journal that are not in the database.
    pub(crate) waiting: AtomicU64,
    /// What was written to the disk and when, until it is in the database; so many at most.
    stamps: Mutex<VecDeque<Stamp>>,
}

/// How far the journal was safe on disk at a moment.
#[derive(Clone, Copy, Debug)]
struct Stamp {
    segment: u64,
    len: u64,
    at: Moment,
}

impl JournalHealth {
    /// True while the disk refuses what is written.
    #[must_use]
    pub fn disk_refuses(&self) -> bool {
        self.disk_refuses.load(Ordering::Relaxed)
    }

    /// Reports lost because the disk refused for too long.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// True while records wait for a database that does not take them.
    #[must_use]
    pub fn database_away(&self) -> bool {
        self.database_away.load(Ordering::Relaxed)
    }

    /// Entries carried into the database.
    #[must_use]
    pub fn uploaded(&self) -> u64 {
        self.uploaded.load(Ordering::Relaxed)
    }

    /// Bytes of the journal that are not in the database.
    #[must_use]
    pub fn waiting_bytes(&self) -> u64 {
        self.waiting.load(Ordering::Relaxed)
    }

    fn stamp(&self, segment: u64, len: u64) {
        let mut stamps = self.stamps.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = stamps.back().is_none_or(|last| (last.segment, last.len) < (segment, len));
        if is_new && stamps.len() < STAMPS_MAX {
            stamps.push_back(Stamp { segment, len, at: clock::now() });
        }
    }

    /// What was on disk by `progress` is in the database now: gives for each write when that was.
    pub(crate) fn stored(&self, progress: Progress) -> Vec<Moment> {
        let mut stamps = self.stamps.lock().unwrap_or_else(PoisonError::into_inner);
        let reached = (progress.segment, progress.len);
        let is_stored = |stamp: &&Stamp| (stamp.segment, stamp.len) <= reached;
        let count = stamps.iter().take_while(is_stored).count();
        stamps.drain(..count).map(|stamp| stamp.at).collect()
    }

    /// Entries put aside because the database refused them.
    #[must_use]
    pub fn rejected(&self) -> u64 {
        self.rejected.load(Ordering::Relaxed)
    }
}

/// Why there is no journal.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// Another process writes there.
    #[error("the journal {0} is in use by another process")]
    InUse(PathBuf),
    /// A file could not be used.
    #[error("the journal {0} cannot be used")]
    Io(PathBuf, #[source] io::Error),
}

/// Resolves when a report is in the file. Dropping it changes nothing.
#[derive(Debug)]
pub struct Written(oneshot::Receiver<()>);

impl Written {
    /// Waits until the report is in the file; false when that takes longer than `limit`.
    pub async fn within(self, limit: Duration) -> bool {
        matches!(tokio::time::timeout(limit, self.0).await, Ok(Ok(())))
    }
}

#[derive(Debug, Default)]
struct Shared {
    inbox: Inbox,
    health: Arc<JournalHealth>,
}

impl Journal {
    /// Opens the journal in `dir`, ends the calls that a killed process left open, and starts the
    /// writer. Blocks while it reads what is there.
    ///
    /// # Errors
    ///
    /// See [`JournalError`].
    pub fn open(dir: &Path) -> Result<Self, JournalError> {
        let failed = |error| JournalError::Io(dir.to_owned(), error);
        DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed)?;
        let lock = lock(dir)?;
        let recovered = recover(dir).map_err(failed)?;
        let segment = Segment::create(dir, recovered.next, &recovered.closings).map_err(failed)?;
        let first = Progress { segment: segment.number, len: segment.len, open: 0, closed: false };
        let (progress, watched) = watch::channel(first);
        let shared = Arc::new(Shared::default());
        let told = Arc::clone(&shared);
        let syncer = Syncer::start(move |segment, result| told.inbox.synced(segment, result));
        let writer = Writer {
            syncer: syncer.map_err(failed)?,
            syncing: None,
            dir: dir.to_owned(),
            shared: Arc::clone(&shared),
            progress,
            fresh_from: segment.len,
            safe_len: segment.len,
            gave_up: false,
            segment,
            open: IdMap::default(),
            unsynced: Vec::new(),
            waiting: Vec::new(),
            text: JsonText::default(),
            wrote_at: clock::now(),
            _lock: lock,
        };
        std::thread::Builder::new()
            .name("journal".to_owned())
            .spawn(move || writer.run())
            .map_err(failed)?;
        Ok(Self { shared, progress: watched, dir: dir.to_owned() })
    }

    /// Hands over a report that is to be in the file soon. When the disk has refused for so long that
    /// the queue is full, the oldest report that waits is lost and counted.
    pub fn write(&self, report: CallReport) -> Written {
        let (sender, receiver) = oneshot::channel();
        self.push(report, Some(sender));
        Written(receiver)
    }

    /// Hands over a report that nobody waits for: in the file some milliseconds later, together with
    /// others.
    pub fn write_later(&self, report: CallReport) {
        self.push(report, None);
    }

    fn push(&self, report: CallReport, written: Option<oneshot::Sender<()>>) {
        if !self.shared.inbox.push(report, written) {
            self.shared.health.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Reports that wait in memory for the file.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.shared.inbox.len()
    }

    /// How journal and upload fare.
    #[must_use]
    pub fn health(&self) -> Arc<JournalHealth> {
        Arc::clone(&self.shared.health)
    }

    /// Writes what waits, syncs and ends the writer; what is written later is lost. False when the
    /// disk does not take it within `limit`.
    pub async fn close(&self, limit: Duration) -> bool {
        self.shared.inbox.close();
        let mut progress = self.progress.clone();
        let closed = progress.wait_for(|progress| progress.closed);
        matches!(tokio::time::timeout(limit, closed).await, Ok(Ok(_)))
    }

    /// Begins the next segment, so that the present one goes once it is in the database; its number.
    pub(crate) fn renew(&self) -> u64 {
        let present = self.progress.borrow().segment;
        self.shared.inbox.renew();
        present
    }

    /// True while there is a segment of that number or an earlier one.
    pub(crate) fn has_segment_up_to(&self, number: u64) -> bool {
        let first = segment::list(&self.dir).unwrap_or_default().into_iter().min();
        first.is_some_and(|first| first <= number)
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.clone()
    }
}

struct Writer {
    syncer: Syncer,
    /// How much of `unsynced` is being synced, and since when.
    syncing: Option<(usize, Moment)>,
    dir: PathBuf,
    shared: Arc<Shared>,
    progress: watch::Sender<Progress>,
    segment: Segment,
    /// Where in the segment its own entries begin: what is carried over does not fill it.
    fresh_from: u64,
    /// How much of the segment is known to be on disk.
    safe_len: u64,
    /// The journal was closed on a disk that refuses; what is not on it is lost.
    gave_up: bool,
    /// The newest entry of each open call, framed; carried into each new segment, so that a killed
    /// process's calls are found although their first segment is long in the database.
    open: IdMap<Uuid, Box<[u8]>>,
    /// Frames that are not known to be on disk.
    unsynced: Vec<u8>,
    /// Who is to be told once `unsynced` is in a file; only after a failure more than a moment.
    waiting: Vec<oneshot::Sender<()>>,
    /// Where each entry is written before it is framed.
    text: JsonText,
    wrote_at: Moment,
    _lock: File,
}

impl Writer {
    fn run(mut self) {
        loop {
            let now = clock::now();
            let idle = if self.open.is_empty() { IDLE_PAUSE } else { ALIVE_PAUSE };
            let pause = self.sync_due(now).unwrap_or(idle);
            match self.shared.inbox.wait(now + pause) {
                Work::Synced(segment, result) => self.synced(segment, result),
                Work::Reports(items) => self.write(items),
                Work::Idle => {}
                // On a disk that refuses the next one is begun anyway.
                Work::Renew => drop(self.renew()),
                Work::Close => break,
            }
            let now = clock::now();
            if !self.open.is_empty() && !self.gave_up && now.since(self.wrote_at) >= ALIVE_PAUSE {
                let start = self.begin_append(now);
                sign_of_life(now, &mut self.unsynced);
                self.append(start);
            }
            if self.sync_due(now).is_some_and(|due| due.is_zero()) {
                self.begin_sync(now);
            }
            if self.segment.len - self.fresh_from >= JOURNAL_SEGMENT_BYTES {
                self.renew();
            }
        }
        self.finish();
        self.report(true);
    }

    fn write(&mut self, items: Vec<Item>) {
        if self.gave_up {
            let lost = u64::try_from(items.len()).unwrap_or(u64::MAX);
            self.shared.health.lost.fetch_add(lost, Ordering::Relaxed);
            return;
        }
        let since = items.first().map_or_else(clock::now, |item| item.at);
        let start = self.begin_append(since);
        for item in items {
            let from = self.unsynced.len();
            wire::encode(&item.report, &mut self.text);
            segment::encode(Kind::Entry, self.text.as_bytes(), &mut self.unsynced);
            self.waiting.extend(item.written);
            let id = item.report.record.id.uuid();
            if item.report.record.is_closed() {
                self.open.remove(&id);
            } else {
                let frame = self.unsynced.get(from..).unwrap_or_default();
                self.open.insert(id, frame.into());
            }
        }
        self.append(start);
    }

    /// What is written from here on waits for its sync since `since`, unless something waits longer.
    /// Returns where it begins.
    fn begin_append(&mut self, since: Moment) -> usize {
        if self.unsynced.is_empty() {
            self.wrote_at = since;
        }
        self.unsynced.len()
    }

    /// Appends the frames from `start` on, and returns only when they are in a file or the journal is
    /// closed on a disk that refuses.
    fn append(&mut self, start: usize) {
        let fresh = self.unsynced.get(start..).unwrap_or_default();
        match self.segment.append(fresh) {
            Ok(()) => self.tell_waiting(),
            Err(error) => self.recover(&error),
        }
    }

    fn tell_waiting(&mut self) {
        for written in self.waiting.drain(..) {
            // Who no longer waits need not know.
            let _nobody_waits = written.send(());
        }
    }

    /// How long until the next sync begins; `None` when nothing waits for one, or one is under way.
    fn sync_due(&self, now: Moment) -> Option<Duration> {
        let waits = !self.unsynced.is_empty() && self.syncing.is_none() && !self.gave_up;
        waits.then(|| SYNC_PAUSE.saturating_sub(now.since(self.wrote_at)))
    }

    fn begin_sync(&mut self, now: Moment) {
        match self.syncer.begin(self.segment.number, self.segment.file()) {
            Ok(()) => self.syncing = Some((self.unsynced.len(), now)),
            Err(error) => self.recover(&error),
        }
    }

    fn synced(&mut self, segment: u64, result: io::Result<()>) {
        // That of an old segment does not matter: all it held unsafe is in the new one.
        if segment != self.segment.number {
            return;
        }
        let Some((len, begun)) = self.syncing.take() else { return };
        match result {
            Ok(()) => {
                self.unsynced.drain(..len);
                self.safe_len += len as u64;
                // What came while it ran has waited since then at most.
                self.wrote_at = begun;
                self.report(false);
            }
            // After a failed sync the kernel may have forgotten what was not written.
            Err(error) => self.recover(&error),
        }
    }

    /// The last sync, at the end.
    fn finish(&mut self) {
        if self.gave_up || self.unsynced.is_empty() {
            return;
        }
        match self.segment.sync() {
            Ok(()) => self.safe_len = self.segment.len,
            Err(error) => self.recover(&error),
        }
    }

    /// The disk refused: everything that is not known to be on it goes into a new segment, again and
    /// again until the disk takes it.
    fn recover(&mut self, error: &io::Error) {
        tracing::error!(%error, dir = %self.dir.display(), "the journal's disk refuses; calls go on");
        self.shared.health.disk_refuses.store(true, Ordering::Relaxed);
        while !self.renew() {
            // The lock is not held while it sleeps, so reports are taken up to the bound.
            std::thread::sleep(RETRY_PAUSE);
            if self.shared.inbox.is_closing() {
                self.gave_up = true;
                return;
            }
        }
        self.tell_waiting();
        self.shared.health.disk_refuses.store(false, Ordering::Relaxed);
        tracing::info!("the journal's disk takes records again");
    }

    /// Begins the next segment, with the entries of open calls and what is not yet safe. False when
    /// the disk refuses; the old segment then goes on.
    fn renew(&mut self) -> bool {
        let carried: usize = self.open.values().map(|frame| frame.len()).sum();
        let mut content = Vec::with_capacity(carried + self.unsynced.len());
        for frame in self.open.values() {
            content.extend_from_slice(frame);
        }
        // The signs of the old segment go with it.
        if !self.open.is_empty() {
            sign_of_life(clock::now(), &mut content);
        }
        content.extend_from_slice(&self.unsynced);
        match Segment::create(&self.dir, self.segment.number + 1, &content) {
            Ok(next) => {
                self.fresh_from = next.len;
                self.safe_len = next.len;
                self.segment = next;
                self.unsynced.clear();
                self.syncing = None;
                self.report(false);
                true
            }
            Err(_) => false,
        }
    }

    fn report(&self, closed: bool) {
        self.shared.health.stamp(self.segment.number, self.safe_len);
        self.progress.send_replace(Progress {
            segment: self.segment.number,
            len: self.safe_len,
            open: self.open.len(),
            closed,
        });
    }
}

fn sign_of_life(now: Moment, frames: &mut Vec<u8>) {
    segment::encode(Kind::Alive, clock::wall(now).to_string().as_bytes(), frames);
}

fn lock(dir: &Path) -> Result<File, JournalError> {
    let failed = |error| JournalError::Io(dir.to_owned(), error);
    let file = File::create(dir.join("lock")).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(JournalError::InUse(dir.to_owned())),
        Err(TryLockError::Error(error)) => Err(failed(error)),
    }
}

/// What a start finds.
struct Recovered {
    /// The number of the next segment.
    next: u64,
    /// Frames that end the calls a killed process left open.
    closings: Vec<u8>,
}

/// Reads every segment and ends what is open. Run twice it makes the same closings again, which the
/// database takes once: their revision is the same.
fn recover(dir: &Path) -> io::Result<Recovered> {
    let numbers = segment::list(dir)?;
    let mut found = Found::default();
    for number in &numbers {
        let bytes = segment::read(dir, *number, 0, u64::MAX)?;
        found.segment(&bytes);
    }
    let mut closings = Vec::new();
    let mut count = 0_u32;
    for payload in found.open.values() {
        if let Some(closing) = wire::interrupted(payload, found.alive) {
            segment::encode(Kind::Entry, &closing, &mut closings);
            count += 1;
        }
    }
    if count > 0 {
        tracing::warn!(calls = count, "ended the records of calls that were cut by a kill");
    }
    Ok(Recovered { next: numbers.last().map_or(1, |last| last + 1), closings })
}

#[derive(Default)]
struct Found {
    open: HashMap<Uuid, Vec<u8>>,
    closed: HashSet<Uuid>,
    /// The last sign of life of any kind.
    alive: Option<Timestamp>,
}

impl Found {
    fn segment(&mut self, mut bytes: &[u8]) {
        // What follows a torn or rotten frame is the upload's to put aside.
        while let Next::Frame(kind, payload, used) = segment::decode(bytes) {
            match kind {
                Kind::Entry => self.entry(payload),
                Kind::Alive => self.sign(std::str::from_utf8(payload).ok()),
            }
            bytes = bytes.get(used..).unwrap_or_default();
        }
    }

    fn entry(&mut self, payload: &[u8]) {
        let Ok(entry) = serde_json::from_slice::<Entry>(payload) else { return };
        self.alive = self.alive.max(wire::newest_event(&entry));
        if entry.closed {
            self.closed.insert(entry.id);
            self.open.remove(&entry.id);
        } else if !self.closed.contains(&entry.id) {
            self.open.insert(entry.id, payload.to_vec());
        }
    }

    fn sign(&mut self, text: Option<&str>) {
        self.alive = self.alive.max(text.and_then(|text| text.parse().ok()));
    }
}
