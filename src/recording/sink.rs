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

    /// Writes what waits and closes the file. Where the last piece cannot be written, it ends with those before.
    pub(super) fn finish(mut self) -> (Written, io::Result<()>) {
        if let Err(error) = self.put(true) {
            return (self.give_up(), Err(error));
        }
        let done = self.mend().and_then(|()| self.file.sync_data());
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;
    use crate::recording::audio::AudioFile;
    use crate::types::secret::Secret;
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;

    /// The length that no file of this folder may pass.
    fn longest(file: &File) -> u64 {
        let (mut fits, mut too_long) = (0, i64::MAX.unsigned_abs());
        while too_long - fits > 1 {
            let middle = fits + (too_long - fits) / 2;
            if file.set_len(middle).is_ok() { fits = middle } else { too_long = middle }
        }
        file.set_len(0).expect("it is empty again");
        fits
    }

    #[test]
    fn a_file_whose_last_piece_finds_no_room_ends_with_those_before_and_says_so() {
        let key = Secret::new(STANDARD.encode([7; 32]));
        for keys in [RecordingKeys::default(), RecordingKeys::new(&[key]).expect("a key")] {
            let path = std::env::temp_dir().join(format!("tandem-sink-{}", clock::new_uuid()));
            let id = clock::new_recording_id();
            let mut sink = Sink::create(&path, (id, 8_000), &keys).expect("a file");
            let said: Vec<u8> = (0..CHUNK_BYTES + 4_000).map(|at| (at / 4) as u8).collect();
            sink.write(&said).expect("there is room");
            let whole = sink.end;
            // The rest would be where files end: a part of it is written before that is found.
            let probe = File::create(path.with_extension("probe")).expect("a file");
            let last = longest(&probe) - 1_000;
            sink.end = last;
            sink.file.set_len(last).expect("sparse");
            let (written, done) = sink.finish();
            let error = done.expect_err("no room");
            assert!(matches!(fault_of(&error), RecordingFault::DiskFull | RecordingFault::Disk));
            let file = OpenOptions::new().write(true).open(&path).expect("it is there");
            assert_eq!(file.metadata().expect("known").len(), last, "no part of a piece is left");
            file.set_len(whole).expect("cut");
            // What is claimed is what can be read.
            assert_eq!(written.data_bytes, CHUNK_BYTES as u64);
            let hash = digest::digest(&digest::SHA256, &said[..CHUNK_BYTES]);
            assert_eq!(written.sha256, hash.as_ref());
            let sealed = keys.sealing().is_some().then_some(&keys);
            let audio = AudioFile::open(&path, id, sealed);
            let mut audio = audio.unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(audio.data_bytes(), written.data_bytes);
            let mut read = vec![0; CHUNK_BYTES];
            let count = audio.read_at(wav::HEADER_BYTES as u64, &mut read).expect("readable");
            assert_eq!(read[..count], said[..count]);
            for path in [path.clone(), path.with_extension("probe")] {
                std::fs::remove_file(path).expect("gone");
            }
        }
    }
}
