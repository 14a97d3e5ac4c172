//! The routing table's file: what the database held when it last answered, for a start without it.
//!
//! One JSON object a line: a head, the rows, and an end that counts them. The rows are those of the
//! database, so secrets in it are references; the file is readable by its owner alone all the same.

use crate::store::ai_profiles;
use crate::store::ai_profiles::AiProfileRow;
use crate::store::campaigns;
use crate::store::campaigns::CampaignRow;
use crate::store::database::Database;
use crate::store::numbers;
use crate::store::numbers::NumberRow;
use crate::store::routing_profiles;
use crate::store::routing_profiles::RoutingProfileRow;
use crate::store::snapshot;
use crate::store::snapshot::Collected;
use crate::store::snapshot::Composer;
use crate::store::snapshot::Snapshot;
use crate::store::tenants;
use crate::store::tenants::TenantRow;
use crate::store::trunks;
use crate::store::trunks::TrunkRow;
use futures_util::TryStreamExt;
use serde::Deserialize;
use serde::Serialize;
use sqlx::FromRow;
use sqlx::Postgres;
use sqlx::Transaction;
use sqlx::postgres::PgRow;
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

/// Its name in the data directory.
pub const NAME: &str = "routing-table.jsonl";

/// The form of the file; another one is not read.
const VERSION: u32 = 1;

/// Why the file was not read or written.
#[derive(Debug, thiserror::Error)]
pub enum TableFileError {
    /// There is none: this node never reached its database.
    #[error("there is no routing table file at {0}")]
    Missing(PathBuf),
    /// It cannot be read or written.
    #[error("routing table file {0}")]
    Io(PathBuf, #[source] io::Error),
    /// It is not whole, or of another version.
    #[error("routing table file {path}, line {line}: {why}")]
    Broken {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong.
        why: String,
    },
    /// The database failed while its rows were copied; the old file stands.
    #[error("the database failed while the routing table was copied")]
    Database(#[from] sqlx::Error),
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    Head { version: u32 },
    Tenant(TenantRow),
    AiProfile(AiProfileRow),
    Number(NumberRow),
    Trunk(TrunkRow),
    RoutingProfile(RoutingProfileRow),
    Campaign(CampaignRow),
    End { rows: usize },
}

/// Reads the file. Blocks; a million numbers take seconds.
///
/// # Errors
///
/// See [`TableFileError`].
pub fn read(path: &Path, composer: &Composer) -> Result<Snapshot, TableFileError> {
    let file = File::open(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => TableFileError::Missing(path.to_owned()),
        _ => TableFileError::Io(path.to_owned(), error),
    })?;
    let mut reading = Reading { collected: Collected::new(composer), rows: 0, state: State::Start };
    let mut lines = 0;
    for (index, text) in BufReader::new(file).lines().enumerate() {
        let broken =
            |why: String| TableFileError::Broken { path: path.to_owned(), line: index + 1, why };
        let text = text.map_err(|error| TableFileError::Io(path.to_owned(), error))?;
        let line = serde_json::from_str(&text).map_err(|error| broken(error.to_string()))?;
        reading.line(line).map_err(|why| broken(why.to_owned()))?;
        lines = index + 1;
    }
    if reading.state != State::Ended {
        let why = "the end is missing".to_owned();
        return Err(TableFileError::Broken { path: path.to_owned(), line: lines, why });
    }
    Ok(reading.collected.snapshot(None))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Start,
    Rows,
    Ended,
}

struct Reading<'a> {
    collected: Collected<'a>,
    rows: usize,
    state: State,
}

impl Reading<'_> {
    fn line(&mut self, line: Line) -> Result<(), &'static str> {
        match (self.state, &line) {
            (State::Start, Line::Head { version }) if *version == VERSION => {
                self.state = State::Rows;
                return Ok(());
            }
            (State::Start, Line::Head { .. }) => return Err("another version"),
            (State::Start, _) => return Err("the head is missing"),
            (State::Ended, _) => return Err("more after the end"),
            (State::Rows, _) => {}
        }
        match line {
            Line::Head { .. } => return Err("a second head"),
            Line::Tenant(row) => self.collected.tenant(row),
            Line::AiProfile(row) => self.collected.ai_profile(&row),
            Line::Number(row) => self.collected.number(&row),
            Line::Trunk(row) => self.collected.trunk(row),
            Line::RoutingProfile(row) => self.collected.routing_profile(row),
            Line::Campaign(row) => self.collected.campaign(row),
            Line::End { rows } if rows == self.rows => {
                self.state = State::Ended;
                return Ok(());
            }
            Line::End { .. } => return Err("rows are missing"),
        }
        self.rows += 1;
        Ok(())
    }
}

/// Copies the tables into the file, row by row, so that memory does not grow with them; the old file
/// stands until the new one is on disk.
///
/// # Errors
///
/// See [`TableFileError`]; the old file is as it was.
pub async fn write(path: &Path, database: &Database) -> Result<(), TableFileError> {
    let io_error = |error| TableFileError::Io(path.to_owned(), error);
    let draft = path.with_extension("draft");
    let mut writing = Writing::create(&draft).map_err(io_error)?;
    let mut transaction = snapshot::begin(database).await?;
    let from = &mut transaction;
    writing.rows(from, tenants::ALL, Line::Tenant).await?.map_err(io_error)?;
    writing.rows(from, ai_profiles::ALL, Line::AiProfile).await?.map_err(io_error)?;
    writing.rows(from, numbers::ALL, Line::Number).await?.map_err(io_error)?;
    writing.rows(from, trunks::ALL, Line::Trunk).await?.map_err(io_error)?;
    let profiles = writing.rows(from, routing_profiles::ALL, Line::RoutingProfile);
    profiles.await?.map_err(io_error)?;
    writing.rows(from, campaigns::ALL, Line::Campaign).await?.map_err(io_error)?;
    transaction.commit().await?;
    writing.finish(&draft, path).map_err(io_error)
}

struct Writing {
    file: BufWriter<File>,
    rows: usize,
}

impl Writing {
    fn create(draft: &Path) -> io::Result<Self> {
        // Truncating keeps the mode of a file that is there already, so a left-over goes first.
        match std::fs::remove_file(draft) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Err(_) | Ok(()) => {}
        }
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(draft)?;
        let mut writing = Self { file: BufWriter::new(file), rows: 0 };
        writing.line(&Line::Head { version: VERSION })?;
        Ok(writing)
    }

    fn line(&mut self, line: &Line) -> io::Result<()> {
        serde_json::to_writer(&mut self.file, line)?;
        self.file.write_all(b"\n")
    }

    async fn rows<R>(
        &mut self,
        from: &mut Transaction<'_, Postgres>,
        query: &'static str,
        line: fn(R) -> Line,
    ) -> sqlx::Result<io::Result<()>>
    where
        R: for<'r> FromRow<'r, PgRow> + Send + Unpin,
    {
        let mut rows = sqlx::query_as::<_, R>(query).fetch(&mut **from);
        while let Some(row) = rows.try_next().await? {
            self.rows += 1;
            if let Err(error) = self.line(&line(row)) {
                return Ok(Err(error));
            }
        }
        Ok(Ok(()))
    }

    fn finish(mut self, draft: &Path, path: &Path) -> io::Result<()> {
        self.line(&Line::End { rows: self.rows })?;
        self.file.flush()?;
        self.file.get_ref().sync_all()?;
        std::fs::rename(draft, path)?;
        // The rename itself is in the directory.
        path.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())
    }
}
