//! What a process that was killed left behind: files are closed, and their notes get an end.

use crate::audio::mixdown::STEREO_BYTES;
use crate::recording::audio::AudioFile;
use crate::recording::audio::Mended;
use crate::recording::audio::Unreadable;
use crate::recording::keys::RecordingKeys;
use crate::recording::note;
use crate::recording::note::Birth;
use crate::recording::note::End;
use crate::recording::note::EndStatus;
use crate::recording::note::Marker;
use crate::recording::note::MarkerKind;
use crate::recording::note::Note;
use crate::recording::note::Report;
use crate::recording::recorder::Folder;
use crate::recording::writer::hex;
use crate::telemetry::metric;
use crate::telemetry::metric::Counter;
use aws_lc_rs::digest;
use jiff::SignedDuration;
use std::path::Path;

/// Bytes read at once.
const READ_BYTES: usize = 65_536;

/// What the note at `path` says, with an end for a recording that has none. Blocks for as long as its file takes to
/// be read. `None` where there is nothing to be made of it.
pub(super) fn recover(path: &Path, folder: &Folder, keys: &RecordingKeys) -> Option<Report> {
    let (mut report, markers) = note::read(path)?;
    if report.end.is_none() {
        let end = mend(&report.birth, markers, folder, keys);
        metric::count(Counter::Recordings, end.status.as_str());
        if let Err(error) = Note::reopen(path).and_then(|mut note| note.end(&end)) {
            tracing::warn!(%error, "a mended recording has no note of it");
        }
        report.end = Some(end);
    }
    Some(report)
}

fn mend(birth: &Birth, markers: Vec<Marker>, folder: &Folder, keys: &RecordingKeys) -> End {
    let sealed = birth.is_encrypted.then_some(keys);
    let mended = AudioFile::mend(&folder.audio_path(birth), birth.of().id, sealed);
    let (data_bytes, sha256, why) = match mended {
        Mended::Closed(mut audio) => match hash(&mut audio) {
            Ok(sha256) => (audio.data_bytes(), sha256, None),
            Err(why) => (audio.data_bytes(), String::new(), Some(word(&why))),
        },
        Mended::Lost(why) => (0, String::new(), Some(word(&why))),
    };
    let samples = data_bytes / STEREO_BYTES as u64;
    let duration_ms = samples.saturating_mul(1_000) / u64::from(birth.hz.max(1));
    let length = SignedDuration::from_millis(i64::try_from(duration_ms).unwrap_or(0));
    let gaps = markers.iter().filter(|marker| marker.what == MarkerKind::Gap);
    End {
        status: if why.is_some() { EndStatus::Failed } else { EndStatus::Interrupted },
        why: why.map(str::to_owned),
        ended_at: birth.started_at.saturating_add(length).unwrap_or(birth.started_at),
        duration_ms,
        data_bytes,
        sha256,
        lost_ms: gaps.filter_map(|marker| marker.for_ms).sum(),
        markers,
    }
}

const fn word(why: &Unreadable) -> &'static str {
    match why {
        Unreadable::Missing => "file_missing",
        Unreadable::Key => "key_missing",
        Unreadable::Changed => "file_changed",
        Unreadable::Disk(_) => "disk_error",
    }
}

/// SHA-256 of the samples, in hex.
fn hash(audio: &mut AudioFile) -> Result<String, Unreadable> {
    let mut context = digest::Context::new(&digest::SHA256);
    let mut bytes = vec![0; READ_BYTES];
    let mut place = audio.length() - audio.data_bytes();
    loop {
        let count = audio.read_at(place, &mut bytes)?;
        if count == 0 {
            return Ok(hex(context.finish().as_ref()));
        }
        context.update(bytes.get(..count).unwrap_or_default());
        place += count as u64;
    }
}
