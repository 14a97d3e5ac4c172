//! The file of the API's keys: what the ring held when the database last answered, for a start without it.
//!
//! A line of JSON for each key, with its hash and never the key; readable by its owner alone all the same.

use crate::store::time::Time;
use crate::types::limit::API_KEYS_HELD_MAX;
use serde::Deserialize;
use serde::Serialize;
use std::fs::File;
use std::fs::OpenOptions;
use std::io;
use std::io::BufRead;
use std::io::BufReader;
use std::io::BufWriter;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use uuid::Uuid;

/// Its name, beside the routing table's file.
pub(crate) const NAME: &str = "api-keys.jsonl";

/// A key that opens something.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, sqlx::FromRow)]
pub(crate) struct KeyRow {
    pub(crate) id: Uuid,
    pub(crate) tenant_id: Option<Uuid>,
    pub(crate) role: String,
    /// SHA-256 of the key.
    pub(crate) hash: Vec<u8>,
    pub(crate) expires_at: Option<Time>,
}

/// Reads the keys; none where there is no file yet. Blocks.
///
/// # Errors
///
/// When it cannot be read, or holds anything else.
pub(crate) fn read(path: &Path) -> io::Result<Vec<KeyRow>> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        file => file?,
    };
    let mut rows = Vec::new();
    for line in BufReader::new(file).lines().take(API_KEYS_HELD_MAX) {
        rows.push(serde_json::from_str(&line?)?);
    }
    Ok(rows)
}

/// Writes the keys; the old file stands until the new one is on disk. Blocks.
///
/// # Errors
///
/// When the disk refuses; the old file is as it was.
fn write(path: &Path, rows: &[KeyRow]) -> io::Result<()> {
    let draft = path.with_extension("draft");
    // Truncating keeps the mode of a file that is there already, so a left-over goes first.
    match std::fs::remove_file(&draft) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Err(_) | Ok(()) => {}
    }
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
    let mut file = BufWriter::new(file);
    for row in rows {
        serde_json::to_writer(&mut file, row)?;
        file.write_all(b"\n")?;
    }
    file.flush()?;
    file.get_ref().sync_all()?;
    std::fs::rename(&draft, path)?;
    // The rename itself is in the directory.
    path.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())
}

/// Keeps the file as the keys are. One writes at a time, and what fails is tried again by whoever writes next.
#[derive(Debug)]
pub(crate) struct KeyFile {
    path: PathBuf,
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    /// What the file has not yet.
    rows: Option<Vec<KeyRow>>,
    is_writing: bool,
}

impl KeyFile {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path, waiting: Mutex::default() }
    }

    /// What the file is to have.
    pub(crate) fn put(&self, rows: Vec<KeyRow>) {
        self.lock().rows = Some(rows);
    }

    /// Whether there is something to write, and nobody who does.
    pub(crate) fn waits(&self) -> bool {
        let waiting = self.lock();
        waiting.rows.is_some() && !waiting.is_writing
    }

    /// Writes what waits, and what comes meanwhile; whoever finds that another one writes leaves it to that. Blocks.
    pub(crate) fn write(&self) {
        while let Some(rows) = self.begin() {
            let written = write(&self.path, &rows);
            let is_written = written.is_ok();
            if let Err(error) = written {
                // The file as it was may open to a key that was revoked since; none opens nothing.
                let removed = std::fs::remove_file(&self.path);
                let left = removed.err().filter(|left| left.kind() != io::ErrorKind::NotFound);
                let is_left = left.is_some();
                tracing::error!(%error, is_left, "the file of the API's keys cannot be written; it is tried again");
            }
            let mut waiting = self.lock();
            waiting.is_writing = false;
            if !is_written {
                waiting.rows.get_or_insert(rows);
                return;
            }
        }
    }

    fn begin(&self) -> Option<Vec<KeyRow>> {
        let mut waiting = self.lock();
        if waiting.is_writing {
            return None;
        }
        let rows = waiting.rows.take()?;
        waiting.is_writing = true;
        Some(rows)
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn keys_are_read_as_they_were_written_and_by_their_owner_alone() {
        let dir = std::env::temp_dir().join(format!("tandem-keys-{:016x}", clock::random_u64()));
        let path = dir.join(NAME);
        assert!(write(&path, &[]).is_err(), "there is no such folder");
        std::fs::create_dir(&dir).unwrap();
        assert_eq!(read(&path).unwrap(), []);
        let row = |tenant_id, expires_at| KeyRow {
            id: clock::new_uuid(),
            tenant_id,
            role: "viewer".to_owned(),
            hash: vec![7; 32],
            expires_at,
        };
        let rows = [row(None, None), row(Some(clock::new_uuid()), Some(Time(clock::wall_now())))];
        for _ in 0..2 {
            write(&path, &rows).unwrap();
        }
        assert_eq!(read(&path).unwrap(), rows);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::write(&path, "{\"id\":").unwrap();
        assert!(read(&path).is_err());
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn a_file_that_cannot_be_written_opens_nothing_until_it_can() {
        let dir = std::env::temp_dir().join(format!("tandem-keys-{:016x}", clock::random_u64()));
        std::fs::create_dir(&dir).unwrap();
        let file = KeyFile::new(dir.join(NAME));
        let row = |role: &str| KeyRow {
            id: clock::new_uuid(),
            tenant_id: None,
            role: role.to_owned(),
            hash: vec![7; 32],
            expires_at: None,
        };
        let (revoked, left) = (row("viewer"), row("admin"));
        file.put(vec![revoked, left.clone()]);
        file.write();
        assert_eq!(read(&file.path).unwrap().len(), 2);
        // The disk refuses the draft.
        let draft = file.path.with_extension("draft");
        std::fs::create_dir(&draft).unwrap();
        file.put(vec![left.clone()]);
        file.write();
        assert!(!file.path.exists());
        assert!(file.waits());
        file.write();
        assert!(file.waits());
        std::fs::remove_dir(&draft).unwrap();
        file.write();
        assert_eq!(read(&file.path).unwrap(), [left]);
        assert!(!file.waits());
        // One at a time.
        file.put(Vec::new());
        let begun = file.begin();
        file.put(Vec::new());
        assert!(begun.is_some() && file.begin().is_none() && !file.waits());
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
