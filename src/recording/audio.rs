//! A recording that is read: as a WAV, from any place on, decrypted piece by piece.

use crate::recording::envelope;
use crate::recording::envelope::CHUNK_BYTES;
use crate::recording::envelope::Envelope;
use crate::recording::envelope::SEALED_BYTES;
use crate::recording::envelope::TAG_BYTES;
use crate::recording::keys::RecordingKeys;
use crate::recording::wav;
use crate::types::id::RecordingId;
use std::fs::File;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Why a recording cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// Its file is not here.
    #[error("the recording's file is not on this node")]
    Missing,
    /// The key it was encrypted under is not there.
    #[error("the node has not the key the recording is encrypted under, or the file was changed")]
    Key,
    /// A piece is not what was written.
    #[error("the recording's file was changed")]
    Changed,
    /// The disk refused.
    #[error("the recording's file cannot be read")]
    Disk(#[from] io::Error),
}

/// A recording as a WAV. Reads block.
pub struct AudioFile {
    file: File,
    hz: u32,
    data_bytes: u64,
    sealed: Option<Sealed>,
}

struct Sealed {
    envelope: Envelope,
    /// Whole pieces, and bytes of the last one without its tag, if it is there.
    pieces: u64,
    last: Option<usize>,
    /// The piece that was opened last.
    open: Option<(u64, Vec<u8>)>,
}

impl std::fmt::Debug for AudioFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AudioFile").field("data_bytes", &self.data_bytes).finish_non_exhaustive()
    }
}

/// What became of a file whose process was killed.
pub(super) enum Mended {
    /// It is closed now.
    Closed(AudioFile),
    /// Nothing of it can be read.
    Lost(Unreadable),
}

impl AudioFile {
    /// Opens the file of a recording; `sealed`: it is encrypted.
    pub(super) fn open(
        path: &Path,
        id: RecordingId,
        keys: Option<&RecordingKeys>,
    ) -> Result<Self, Unreadable> {
        let file = File::open(path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => Unreadable::Missing,
            _ => Unreadable::Disk(error),
        })?;
        let length = file.metadata()?.len();
        let Some(keys) = keys else {
            let mut header = [0; wav::HEADER_BYTES];
            file.read_exact_at(&mut header, 0)?;
            let hz = header.get(24..28).and_then(|bytes| bytes.try_into().ok());
            let hz = hz.map(u32::from_le_bytes).ok_or(Unreadable::Changed)?;
            let data_bytes = length.saturating_sub(wav::HEADER_BYTES as u64) & !3;
            return Ok(Self { file, hz, data_bytes, sealed: None });
        };
        let mut header = [0; envelope::HEADER_BYTES];
        file.read_exact_at(&mut header, 0)?;
        let (envelope, hz) = Envelope::open(id, &header, keys).ok_or(Unreadable::Key)?;
        let rest = length.saturating_sub(envelope::HEADER_BYTES as u64);
        let pieces = rest / SEALED_BYTES as u64;
        let left = usize::try_from(rest % SEALED_BYTES as u64).unwrap_or(0);
        let last = left.checked_sub(TAG_BYTES);
        let data_bytes = pieces * CHUNK_BYTES as u64 + last.unwrap_or(0) as u64;
        let sealed = Some(Sealed { envelope, pieces, last, open: None });
        Ok(Self { file, hz, data_bytes, sealed })
    }

    /// Closes a file whose process was killed: what was written whole stays.
    pub(super) fn mend(path: &Path, id: RecordingId, keys: Option<&RecordingKeys>) -> Mended {
        let mended = Self::open(path, id, keys).and_then(|mut audio| {
            let file = OpenOptions::new().write(true).open(path)?;
            audio.close(&file)?;
            Ok(audio)
        });
        match mended {
            Ok(audio) => Mended::Closed(audio),
            Err(why) => Mended::Lost(why),
        }
    }

    fn close(&mut self, file: &File) -> Result<(), Unreadable> {
        let Some(sealed) = &mut self.sealed else {
            file.set_len(wav::HEADER_BYTES as u64 + self.data_bytes)?;
            let bytes = u32::try_from(self.data_bytes).unwrap_or(wav::UNKNOWN);
            return Ok(file.write_all_at(&wav::header(self.hz, bytes), 0)?);
        };
        if sealed.last.is_some() && sealed.piece(&self.file, sealed.pieces).is_ok() {
            return Ok(());
        }
        // A piece that is not whole opens nothing: the file ends with those before.
        let mut last = Vec::new();
        if !sealed.envelope.seal(sealed.pieces, true, &mut last) {
            return Err(Unreadable::Key);
        }
        let end = envelope::HEADER_BYTES as u64 + sealed.pieces * SEALED_BYTES as u64;
        file.set_len(end)?;
        file.write_all_at(&last, end)?;
        sealed.last = Some(0);
        self.data_bytes = sealed.pieces * CHUNK_BYTES as u64;
        Ok(())
    }

    /// Samples of a channel in a second.
    #[must_use]
    pub const fn hz(&self) -> u32 {
        self.hz
    }

    /// Bytes of the WAV.
    #[must_use]
    pub const fn length(&self) -> u64 {
        wav::HEADER_BYTES as u64 + self.data_bytes
    }

    /// Bytes of its samples.
    #[must_use]
    pub const fn data_bytes(&self) -> u64 {
        self.data_bytes
    }

    /// Reads from a place of the WAV on; how many bytes, none at its end.
    ///
    /// # Errors
    /// [`Unreadable`].
    pub fn read_at(&mut self, place: u64, out: &mut [u8]) -> Result<usize, Unreadable> {
        let header_bytes = wav::HEADER_BYTES as u64;
        let Some(place) = place.checked_sub(header_bytes) else {
            let bytes = u32::try_from(self.data_bytes).unwrap_or(wav::UNKNOWN);
            let header = wav::header(self.hz, bytes);
            let rest = usize::try_from(place).ok().and_then(|place| header.get(place..));
            return Ok(copy(rest.unwrap_or_default(), out));
        };
        let left = usize::try_from(self.data_bytes.saturating_sub(place)).unwrap_or(usize::MAX);
        let wanted = out.len().min(left);
        let out = out.get_mut(..wanted).unwrap_or_default();
        if out.is_empty() {
            return Ok(0);
        }
        let Some(sealed) = &mut self.sealed else {
            return Ok(self.file.read_at(out, header_bytes + place)?);
        };
        let (index, within) = (place / CHUNK_BYTES as u64, place % CHUNK_BYTES as u64);
        let piece = sealed.piece(&self.file, index)?;
        let rest = usize::try_from(within).ok().and_then(|within| piece.get(within..));
        Ok(copy(rest.unwrap_or_default(), out))
    }
}

impl Sealed {
    /// The samples of a piece.
    fn piece(&mut self, file: &File, index: u64) -> Result<&[u8], Unreadable> {
        if self.open.as_ref().is_none_or(|(open, _)| *open != index) {
            let is_last = index == self.pieces;
            let length = match self.last {
                Some(length) if is_last => length + TAG_BYTES,
                None if is_last => return Err(Unreadable::Changed),
                Some(_) | None => SEALED_BYTES,
            };
            let mut bytes = vec![0; length];
            let at = envelope::HEADER_BYTES as u64 + index * SEALED_BYTES as u64;
            file.read_exact_at(&mut bytes, at)?;
            let plain = self.envelope.open_piece(index, is_last, &mut bytes);
            let plain = plain.ok_or(Unreadable::Changed)?.len();
            bytes.truncate(plain);
            self.open = Some((index, bytes));
        }
        Ok(self.open.as_ref().map(|(_, bytes)| bytes.as_slice()).unwrap_or_default())
    }
}

fn copy(from: &[u8], to: &mut [u8]) -> usize {
    let count = from.len().min(to.len());
    for (to, byte) in to.iter_mut().zip(from) {
        *to = *byte;
    }
    count
}
