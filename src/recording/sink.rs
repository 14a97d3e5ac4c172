//! A file that a recording is written to: WAV, or the same samples encrypted.

use crate::recording::envelope::CHUNK_BYTES;
use crate::recording::envelope::Envelope;
use crate::recording::envelope::SEALED_BYTES;
use crate::recording::keys::RecordingKeys;
use crate::recording::wav;
use crate::types::id::RecordingId;
use crate::types::recording::RecordingFault;
use aws_lc_rs::digest;
use std::fs::File;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::FileExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// What was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Written {
    /// Bytes of samples.
    pub(super) data_bytes: u64,
    /// SHA-256 of them.
    pub(super) sha256: [u8; 32],
}

/// A file that is written in pieces.
pub(super) struct Sink {
    file: File,
    hz: u32,
    envelope: Option<Envelope>,
    pending: Vec<u8>,
    /// Where the next piece begins in the file.
    end: u64,
    pieces: u64,
    data_bytes: u64,
    hash: digest::Context,
}

/// The fault behind an error of the system.
pub(super) fn fault_of(error: &io::Error) -> RecordingFault {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            RecordingFault::DiskFull
        }
        _ => RecordingFault::Disk,
    }
}

impl Sink {
    /// Makes the file, which must not exist.
    pub(super) fn create(
        path: &Path,
        (id, hz): (RecordingId, u32),
        keys: &RecordingKeys,
    ) -> io::Result<Self> {
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        let (envelope, header) = match keys.sealing() {
            None => (None, wav::header(hz, wav::UNKNOWN).to_vec()),
            Some(key) => {
                let made = Envelope::new(id, hz, key);
                let (envelope, header) = made.ok_or(io::ErrorKind::Other)?;
                (Some(envelope), header)
            }
        };
        file.write_all_at(&header, 0)?;
        Ok(Self {
            file,
            hz,
            envelope,
            pending: Vec::with_capacity(SEALED_BYTES),
            end: header.len() as u64,
            pieces: 0,
            data_bytes: 0,
            hash: digest::Context::new(&digest::SHA256),
        })
    }

    /// Takes samples; whole pieces go to the file.
    pub(super) fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let room = CHUNK_BYTES.saturating_sub(self.pending.len());
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.pending.extend_from_slice(now);
            bytes = later;
            if self.pending.len() == CHUNK_BYTES {
                self.put(false)?;
            }
        }
        Ok(())
    }

    /// Bytes of samples taken.
    pub(super) const fn taken(&self) -> u64 {
        self.data_bytes + self.pending.len() as u64
    }

    /// Writes what waits and closes the file.
    pub(super) fn finish(mut self) -> (Written, io::Result<()>) {
        let done = self.put(true).and_then(|()| self.mend()).and_then(|()| self.file.sync_data());
        (self.written(), done)
    }

    /// Closes the file with what it has, as far as the disk lets us.
    pub(super) fn give_up(mut self) -> Written {
        self.pending.clear();
        // A piece of which only a part found room must not look like one.
        let cut = self.file.set_len(self.end);
        if let Err(error) = cut.and_then(|()| self.mend()) {
            tracing::debug!(%error, "a recording that failed is not closed");
        }
        self.written()
    }

    fn written(&self) -> Written {
        let mut sha256 = [0; 32];
        for (to, byte) in sha256.iter_mut().zip(self.hash.clone().finish().as_ref()) {
            *to = *byte;
        }
        Written { data_bytes: self.data_bytes, sha256 }
    }

    /// Writes the piece that waits.
    fn put(&mut self, is_last: bool) -> io::Result<()> {
        let plain = self.pending.len();
        let mut hash = self.hash.clone();
        hash.update(&self.pending);
        if let Some(envelope) = &self.envelope
            && !envelope.seal(self.pieces, is_last, &mut self.pending)
        {
            return Err(io::ErrorKind::Other.into());
        }
        self.file.write_all_at(&self.pending, self.end)?;
        self.end += self.pending.len() as u64;
        self.pieces += 1;
        self.data_bytes += plain as u64;
        self.hash = hash;
        self.pending.clear();
        Ok(())
    }

    /// Writes the length into the header of a WAV; an encrypted one has its last piece for that.
    fn mend(&self) -> io::Result<()> {
        if self.envelope.is_some() {
            return Ok(());
        }
        let bytes = u32::try_from(self.data_bytes).unwrap_or(wav::UNKNOWN);
        self.file.write_all_at(&wav::header(self.hz, bytes), 0)
    }
}
