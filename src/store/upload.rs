//! Carries the journal into the database: each record exactly once, whatever stops in between.

use crate::clock;
use crate::store::calls;
use crate::store::database;
use crate::store::database::Database;
use crate::store::database::within;
use crate::store::journal::Journal;
use crate::store::journal::JournalHealth;
use crate::store::journal::Progress;
use crate::store::journal::REJECTED;
use crate::store::segment;
use crate::store::segment::Kind;
use crate::store::segment::Next;
use crate::store::wire;
use crate::store::wire::Entry;
use crate::telemetry::metric;
use crate::telemetry::metric::Histogram;
use crate::types::id::NodeId;
use sqlx::Arguments;
use sqlx::AssertSqlSafe;
use sqlx::Encode;
use sqlx::Postgres;
use sqlx::Type;
use sqlx::encode::IsNull;
use sqlx::error::BoxDynError;
use sqlx::postgres::PgArgumentBuffer;
use sqlx::postgres::PgArguments;
use sqlx::postgres::PgTypeInfo;
use std::collections::HashSet;
use std::fs::DirBuilder;
use std::fs::File;
use std::fs::OpenOptions;
use std::io;
use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::watch;
use uuid::Uuid;

/// Most bytes read from a segment at once; larger than any frame.
const READ_BYTES: u64 = 17 * 1024 * 1024;
/// Entries of one transaction.
const BATCH: usize = 1024;
/// Pause between two rounds: one costs four round trips to the database, whatever it carries.
const ROUND_PAUSE: Duration = Duration::from_millis(200);
/// Longest time for a batch. It may have entered the database all the same: sent again it changes nothing.
const INSERT_MAX: Duration = Duration::from_secs(90);
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(5);

/// Carries entries from the journal into the database.
#[derive(Debug)]
pub struct Uploader {
    dir: PathBuf,
    progress: watch::Receiver<Progress>,
    database: Database,
    node: NodeId,
    health: Arc<JournalHealth>,
    /// What of which segment is already in the database.
    done: Option<Place>,
    /// Told once all that an earlier process left is in the database.
    caught_up: watch::Sender<bool>,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    segment: u64,
    offset: u64,
}

/// Why a batch did not enter the database.
enum Failure {
    /// It may tomorrow: the database is away, read-only, full.
    Later(String),
    /// It never will: the database refuses what one record says.
    Record(String),
}

impl Uploader {
    /// Will carry what `journal`, that of `node`, holds into `database`.
    #[must_use]
    pub fn new(journal: &Journal, database: Database, node: NodeId) -> Self {
        Self {
            dir: journal.dir().to_owned(),
            progress: journal.progress(),
            database,
            node,
            health: journal.health(),
            done: None,
            caught_up: watch::Sender::new(false),
        }
    }

    /// Turns true once all that an earlier process left behind is in the database.
    #[must_use]
    pub fn caught_up(&self) -> watch::Receiver<bool> {
        self.caught_up.subscribe()
    }

    /// Carries until the journal is closed and everything is in the database, or until `stop` turns
    /// true or is dropped.
    pub async fn run(mut self, mut stop: watch::Receiver<bool>) {
        tokio::select! {
            () = self.carry() => {}
            // A sender that is gone cannot tell any more: that counts as a stop.
            _ = stop.wait_for(|stop| *stop) => {}
        }
    }

    async fn carry(&mut self) {
        let mut pause = RETRY_FIRST;
        loop {
            let progress = *self.progress.borrow_and_update();
            let carried = self.carry_up_to(progress).await;
            self.measure(progress, carried.is_ok());
            match carried {
                Ok(()) => {
                    pause = RETRY_FIRST;
                    self.caught_up.send_if_modified(|done| !std::mem::replace(done, true));
                    if self.health.database_away.swap(false, Ordering::Relaxed) {
                        tracing::info!("the database takes call records again");
                    }
                    if progress.closed {
                        self.forget_all(progress);
                        return;
                    }
                    tokio::time::sleep(ROUND_PAUSE).await;
                    if self.progress.changed().await.is_err() && !self.progress.borrow().closed {
                        // The writer is gone without a last word; nothing can follow.
                        return;
                    }
                }
                Err(why) => {
                    if !self.health.database_away.swap(true, Ordering::Relaxed) {
                        tracing::error!(%why, "call records wait in the journal");
                    }
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(RETRY_MAX);
                }
            }
        }
    }

    /// A journal that was closed in order and is wholly in the database is not carried again at the
    /// next start. One with open calls is: they have to be found.
    fn forget_all(&self, progress: Progress) {
        if progress.open == 0 {
            drop(std::fs::remove_file(segment::path(&self.dir, progress.segment)));
        }
    }

    /// Tells the metrics how much waits, and how long what does not wait any more did.
    fn measure(&self, progress: Progress, is_carried: bool) {
        let mut waiting = 0;
        for number in segment::list(&self.dir).unwrap_or_default() {
            let file = std::fs::metadata(segment::path(&self.dir, number));
            let done =
                self.done.filter(|done| done.segment == number).map_or(0, |done| done.offset);
            waiting += file.map_or(0, |file| file.len()).saturating_sub(done);
        }
        self.health.waiting.store(waiting, Ordering::Relaxed);
        if is_carried {
            let now = clock::now();
            for at in self.health.stored(progress) {
                metric::observe(Histogram::RecordStored, now.since(at));
            }
        }
    }

    async fn carry_up_to(&mut self, progress: Progress) -> Result<(), String> {
        for number in segment::list(&self.dir).map_err(|error| error.to_string())? {
            if number > progress.segment {
                break;
            }
            let mut offset = match self.done {
                Some(done) if done.segment == number => done.offset,
                _ => 0,
            };
            let end = if number == progress.segment { progress.len } else { u64::MAX };
            self.carry_segment(number, &mut offset, end).await?;
            if number < progress.segment {
                std::fs::remove_file(segment::path(&self.dir, number))
                    .map_err(|error| error.to_string())?;
            }
        }
        Ok(())
    }

    async fn carry_segment(
        &mut self,
        number: u64,
        offset: &mut u64,
        end: u64,
    ) -> Result<(), String> {
        loop {
            let bytes_max = READ_BYTES.min(end.saturating_sub(*offset));
            let bytes = self.read(number, *offset, bytes_max).await?;
            let (batch, used, next) = take_batch(&bytes);
            if !batch.is_empty() {
                self.carry_batch(&batch).await?;
            }
            *offset += used as u64;
            self.done = Some(Place { segment: number, offset: *offset });
            if batch.len() == BATCH {
                continue;
            }
            match next {
                // Half a frame at the end of what was read is whole in the next read.
                Next::Torn if bytes.len() as u64 == READ_BYTES && used > 0 => {}
                // Half a frame at the end of an old segment was never acknowledged to anyone.
                Next::End | Next::Torn => return Ok(()),
                Next::Frame(..) => {}
                Next::Rotten => {
                    let rest = bytes.get(used..).unwrap_or_default();
                    tracing::error!(segment = number, bytes = rest.len(), "journal rotten");
                    self.put_aside(&format!("segment-{number:020}-{offset}.rotten"), rest)?;
                    *offset += rest.len() as u64;
                    self.done = Some(Place { segment: number, offset: *offset });
                }
            }
        }
    }

    async fn read(&self, number: u64, offset: u64, bytes_max: u64) -> Result<Vec<u8>, String> {
        let dir = self.dir.clone();
        let reading =
            tokio::task::spawn_blocking(move || segment::read(&dir, number, offset, bytes_max));
        match reading.await {
            Ok(bytes) => bytes.map_err(|error| format!("cannot read the journal: {error}")),
            Err(error) => Err(error.to_string()),
        }
    }

    async fn carry_batch(&self, batch: &[&[u8]]) -> Result<(), String> {
        let mut parts = vec![batch];
        while let Some(part) = parts.pop() {
            match (self.insert(part).await, part) {
                (Ok(()), _) => {}
                (Err(Failure::Later(why)), _) => return Err(why),
                (Err(Failure::Record(why)), [payload]) => self.reject(payload, &why)?,
                // One of them is bad; the others must not suffer. Halves find it in few turns, and in order.
                (Err(Failure::Record(_)), _) => {
                    let (first, rest) = part.split_at(part.len() / 2);
                    parts.extend([rest, first]);
                }
            }
        }
        Ok(())
    }

    async fn insert(&self, batch: &[&[u8]]) -> Result<(), Failure> {
        let records: Vec<_> = newest_of_each(batch).into_iter().map(record_of).collect();
        let events: Vec<_> = batch.iter().copied().map(events_of).collect();
        // Its state is ten kilobytes, which would be copied on each step of the way to where it is polled.
        let insert = Box::pin(self.try_insert(&records, &events));
        let inserted = within(INSERT_MAX, insert).await;
        inserted.map_err(|error| classify(&error))?;
        let count = u64::try_from(batch.len()).unwrap_or(u64::MAX);
        self.health.uploaded.fetch_add(count, Ordering::Relaxed);
        Ok(())
    }

    async fn try_insert(&self, records: &[Pieces<'_>], events: &[Pieces<'_>]) -> sqlx::Result<()> {
        let mut transaction = self.database.node().begin().await?;
        let records = arguments(records, Some(self.node))?;
        sqlx::query_with(AssertSqlSafe(calls::UPSERT.as_str()), records)
            .execute(&mut *transaction)
            .await?;
        let events = arguments(events, None)?;
        sqlx::query_with(calls::INSERT_EVENTS, events).execute(&mut *transaction).await?;
        transaction.commit().await
    }

    fn reject(&self, payload: &[u8], why: &str) -> Result<(), String> {
        let name = serde_json::from_slice::<Entry>(payload).map_or_else(
            |_| format!("unreadable-{:08x}", crc32fast::hash(payload)),
            |entry| format!("{}-{}", entry.id, entry.rev),
        );
        tracing::error!(record = %name, %why, "the database refuses a call record; put aside");
        self.put_aside(&format!("{name}.why"), why.as_bytes())?;
        self.put_aside(&format!("{name}.json"), payload)?;
        self.health.rejected.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Keeps what cannot be carried, safe on disk before the journal lets go of it.
    fn put_aside(&self, name: &str, content: &[u8]) -> Result<(), String> {
        write_aside(&self.dir.join(REJECTED), name, content)
            .map_err(|error| format!("cannot put aside a refused record: {error}"))
    }
}

/// An entry in pieces, one behind the other.
type Pieces<'a> = [&'a [u8]; 4];

/// An entry without its events, which the statement for records does not read; as it is where it cannot be parted.
fn record_of(entry: &[u8]) -> Pieces<'_> {
    match wire::parted(entry) {
        Some((record, _)) => [record, b"}", b"", b""],
        None => [entry, b"", b"", b""],
    }
}

/// The same without its record, most of its length, which the statement for events does not read.
fn events_of(entry: &[u8]) -> Pieces<'_> {
    match wire::id_of(entry).zip(wire::parted(entry)) {
        Some((id, (_, events))) => [b"{\"id\":\"", id, b"\",", events],
        None => [entry, b"", b"", b""],
    }
}

/// What a statement is given: the entries, and the node where it asks for it. There is room for all of it at once.
fn arguments(entries: &[Pieces<'_>], node: Option<NodeId>) -> sqlx::Result<PgArguments> {
    /// Each value has its length before it.
    const ROOM: usize = 2 * size_of::<i32>() + size_of::<Uuid>();
    let array = Array(entries);
    let mut arguments = PgArguments::default();
    arguments.reserve(2, array.length_max() + ROOM);
    arguments.add(array).map_err(sqlx::Error::Encode)?;
    if let Some(node) = node {
        arguments.add(node.uuid()).map_err(sqlx::Error::Encode)?;
    }
    Ok(arguments)
}

/// Entries as one JSON array, written where the statement is put together. Whether it is text the database says.
#[derive(Clone, Copy)]
struct Array<'a>(&'a [Pieces<'a>]);

impl Array<'_> {
    fn length_max(self) -> usize {
        let pieces = self.0.iter().flatten().map(|piece| piece.len()).sum::<usize>();
        pieces + self.0.len() + b"[]".len()
    }

    fn write(self, json: &mut Vec<u8>) {
        let mut bracket = b'[';
        for entry in self.0 {
            json.push(std::mem::replace(&mut bracket, b','));
            for piece in entry {
                json.extend_from_slice(piece);
            }
        }
        if self.0.is_empty() {
            json.push(bracket);
        }
        json.push(b']');
    }
}

impl Type<Postgres> for Array<'_> {
    fn type_info() -> PgTypeInfo {
        <str as Type<Postgres>>::type_info()
    }
}

impl Encode<'_, Postgres> for Array<'_> {
    fn encode_by_ref(&self, buf: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        self.write(buf);
        Ok(IsNull::No)
    }

    fn size_hint(&self) -> usize {
        self.length_max()
    }
}

/// The entries whose record no later one of the batch replaces: those of a call follow each other in
/// the order of their revisions.
fn newest_of_each<'a>(batch: &[&'a [u8]]) -> Vec<&'a [u8]> {
    let mut seen = HashSet::with_capacity(batch.len());
    let mut is_newest = |entry: &'a [u8]| wire::id_of(entry).is_none_or(|id| seen.insert(id));
    let mut newest: Vec<_> = batch.iter().rev().copied().filter(|entry| is_newest(entry)).collect();
    newest.reverse();
    newest
}

fn write_aside(dir: &Path, name: &str, content: &[u8]) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    let mut options = OpenOptions::new();
    // A second rejection of the same record, after a kill, replaces the first.
    let mut file =
        options.write(true).create(true).truncate(true).mode(0o600).open(dir.join(name))?;
    file.write_all(content)?;
    file.sync_all()?;
    File::open(dir)?.sync_all()
}

/// The entries at the beginning of `bytes`, how many bytes were passed, and what stopped it.
fn take_batch(bytes: &[u8]) -> (Vec<&[u8]>, usize, Next<'_>) {
    let mut batch = Vec::new();
    let mut used = 0;
    loop {
        let next = segment::decode(bytes.get(used..).unwrap_or_default());
        match next {
            Next::Frame(kind, payload, len) if batch.len() < BATCH => {
                used += len;
                if kind == Kind::Entry {
                    batch.push(payload);
                }
            }
            stop => return (batch, used, stop),
        }
    }
}

fn classify(error: &sqlx::Error) -> Failure {
    let text = error.to_string();
    if database::is_refusal(error) { Failure::Record(text) } else { Failure::Later(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_newest_record_of_a_call_is_carried() {
        let entry = |call: u128, rev: u32| {
            let id = Uuid::from_u128(call);
            format!("{{\"id\":\"{id}\",\"rev\":{rev},\"closed\":false}}")
        };
        let batch = [entry(1, 1), entry(2, 1), entry(1, 4), "{}".to_owned(), "{}".to_owned()];
        let batch = batch.each_ref().map(String::as_bytes);
        assert_eq!(newest_of_each(&batch), [batch[1], batch[2], b"{}", b"{}"]);
    }

    /// The array of `entries`, for which there was room.
    fn array(entries: &[Pieces<'_>]) -> String {
        let mut json = Vec::new();
        Array(entries).write(&mut json);
        assert!(json.len() <= Array(entries).length_max(), "{}", json.len());
        String::from_utf8(json).unwrap()
    }

    #[test]
    fn each_statement_is_given_what_it_reads_of_an_entry() {
        let id = Uuid::from_u128(1);
        let begin = format!("{{\"id\":\"{id}\",\"rev\":2,\"closed\":true,\"record\":{{\"rev\":2}}");
        let entry = format!("{begin},\"events\":[{{\"seq\":1}}]}}");
        let of = |pieces: fn(&[u8]) -> Pieces<'_>, entry: &str| {
            array(&[pieces(entry.as_bytes()), pieces(b"{}")])
        };
        assert_eq!(of(record_of, &entry), format!("[{begin}}},{{}}]"));
        let events = format!("[{{\"id\":\"{id}\",\"events\":[{{\"seq\":1}}]}},{{}}]");
        assert_eq!(of(events_of, &entry), events);
        // What was not written here goes as it is: the database judges it.
        let other = "{\"record\":{},\"events\":[],\"id\":1}";
        for pieces in [record_of, events_of] {
            assert_eq!(of(pieces, other), format!("[{other},{{}}]"));
        }
        assert_eq!(array(&[]), "[]");
    }

    #[test]
    fn a_batch_passes_signs_of_life_and_stops_at_half_a_frame() {
        let mut bytes = Vec::new();
        segment::encode(Kind::Entry, b"1", &mut bytes);
        segment::encode(Kind::Alive, b"now", &mut bytes);
        segment::encode(Kind::Entry, b"2", &mut bytes);
        let whole = bytes.len();
        bytes.extend_from_slice(&[9, 0, 0]);
        let (batch, used, next) = take_batch(&bytes);
        assert_eq!(batch, [b"1", b"2"]);
        assert_eq!((used, next), (whole, Next::Torn));
    }
}
