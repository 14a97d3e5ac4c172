//! What is known of a recording until the database has it: a file beside it, a line for each thing.

use crate::types::id::CallId;
use crate::types::id::RecordingId;
use crate::types::id::TenantId;
use crate::types::limit::RECORDING_MARKERS_MAX;
use crate::types::recording::RecordingOf;
use jiff::Timestamp;
use serde::Deserialize;
use serde::Serialize;
use std::fs::File;
use std::fs::OpenOptions;
use std::io;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::path::PathBuf;
use uuid::Uuid;

/// The birth of a recording.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Birth {
    id: Uuid,
    call_id: Uuid,
    tenant_id: Uuid,
    /// Samples of a channel in a second.
    pub hz: u32,
    /// Whether its file is encrypted.
    pub is_encrypted: bool,
    /// When its first sample was.
    pub started_at: Timestamp,
    /// The folder it is in.
    pub folder: Uuid,
}

/// Something that is worth a place in the recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marker {
    /// Where, in ms.
    pub at_ms: u64,
    /// What.
    pub what: MarkerKind,
    /// How long.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub for_ms: Option<u64>,
}

/// What a marker marks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MarkerKind {
    /// Nothing is recorded from here on.
    Paused,
    /// It is again.
    Resumed,
    /// What was here is lost: the disk or a media thread came too late.
    Gap,
}

/// How a recording ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndStatus {
    /// It is whole.
    Ready,
    /// It ended before its call did.
    Failed,
    /// The process was killed; what was written by then is there.
    Interrupted,
}

impl EndStatus {
    /// The spelling of records.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Failed => "failed",
            Self::Interrupted => "interrupted",
        }
    }
}

/// The end of a recording.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// How it ended.
    pub status: EndStatus,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// When.
    pub ended_at: Timestamp,
    /// How long it is.
    pub duration_ms: u64,
    /// Bytes of its samples.
    pub data_bytes: u64,
    /// SHA-256 of them, in hex.
    pub sha256: String,
    /// What of it is lost.
    pub lost_ms: u64,
    /// What is marked in it.
    pub markers: Vec<Marker>,
}

/// What is known of a recording.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Its birth.
    pub birth: Birth,
    /// Its end, once it has one.
    pub end: Option<End>,
}

impl Birth {
    pub(super) const fn new(
        of: RecordingOf,
        (hz, is_encrypted): (u32, bool),
        (started_at, folder): (Timestamp, Uuid),
    ) -> Self {
        let (id, call_id, tenant_id) = (of.id.uuid(), of.call.uuid(), of.tenant.uuid());
        Self { id, call_id, tenant_id, hz, is_encrypted, started_at, folder }
    }

    /// Whose it is.
    #[must_use]
    pub const fn of(&self) -> RecordingOf {
        RecordingOf {
            id: RecordingId::from_uuid(self.id),
            call: CallId::from_uuid(self.call_id),
            tenant: TenantId::from_uuid(self.tenant_id),
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    Birth(Birth),
    Marker(Marker),
    End(End),
}

/// The file of a recording's note.
pub(super) struct Note {
    file: File,
}

impl Note {
    /// Makes the note of a recording that begins.
    pub(super) fn create(path: &Path, birth: &Birth) -> io::Result<Self> {
        let file = OpenOptions::new().append(true).create_new(true).mode(0o600).open(path)?;
        let mut note = Self { file };
        note.add(&Line::Birth(birth.clone()))?;
        Ok(note)
    }

    /// Goes on with the note at a place.
    pub(super) fn reopen(path: &Path) -> io::Result<Self> {
        Ok(Self { file: OpenOptions::new().append(true).open(path)? })
    }

    pub(super) fn mark(&mut self, marker: Marker) -> io::Result<()> {
        self.add(&Line::Marker(marker))
    }

    pub(super) fn end(&mut self, end: &End) -> io::Result<()> {
        self.add(&Line::End(end.clone()))?;
        self.file.sync_data()
    }

    fn add(&mut self, line: &Line) -> io::Result<()> {
        let mut text = serde_json::to_vec(line)?;
        // A line that was cut by a kill or a full disk stays one of its own.
        text.insert(0, b'\n');
        text.push(b'\n');
        self.file.write_all(&text)
    }
}

/// What a note says, with the markers of a recording that has no end; `None` where it cannot be read.
pub(super) fn read(path: &Path) -> Option<(Report, Vec<Marker>)> {
    let text = std::fs::read(path).ok()?;
    let (mut birth, mut end, mut markers) = (None, None, Vec::new());
    for line in text.split(|byte| *byte == b'\n') {
        match serde_json::from_slice(line) {
            Ok(Line::Birth(it)) => birth = Some(it),
            Ok(Line::Marker(it)) if markers.len() < RECORDING_MARKERS_MAX => markers.push(it),
            Ok(Line::End(it)) => end = Some(it),
            Ok(Line::Marker(_)) | Err(_) => (),
        }
    }
    Some((Report { birth: birth?, end }, markers))
}

/// Where notes end.
pub(super) const SUFFIX: &str = "note";

/// The notes of a folder.
pub(super) fn all(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let paths = entries.map(|entry| entry.path());
    paths.filter(|path| path.extension().is_some_and(|own| own == SUFFIX)).collect()
}
