//! Segments: the files of the journal, and the frames in them.
//!
//! A frame is `length u32 LE · CRC-32 u32 LE · kind u8 · payload`; length and checksum cover kind and
//! payload. A segment that ends within a frame was torn by a crash: what comes before is whole.

use crc32fast::hash as crc32;
use std::fs::File;
use std::fs::OpenOptions;
use std::io;
use std::io::Read;
use std::io::Seek;
use std::io::SeekFrom;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

const HEAD_BYTES: usize = 8;
/// Longer frames are none of ours: the length itself is rotten.
const FRAME_BYTES_MAX: usize = 16 * 1024 * 1024;
const EXTENSION: &str = "journal";

/// What a frame holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// An entry: a call record and events.
    Entry,
    /// A sign of life: the wall-clock time, written while calls are open.
    Alive,
}

impl Kind {
    const fn byte(self) -> u8 {
        match self {
            Self::Entry => b'E',
            Self::Alive => b'A',
        }
    }
}

/// Appends a frame to `out`.
pub(crate) fn encode(kind: Kind, payload: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    let len = u32::try_from(payload.len() + 1).unwrap_or(u32::MAX);
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    out.push(kind.byte());
    out.extend_from_slice(payload);
    let crc = crc32(out.get(start + HEAD_BYTES..).unwrap_or_default());
    if let Some(slot) = out.get_mut(start + 4..start + HEAD_BYTES) {
        slot.copy_from_slice(&crc.to_le_bytes());
    }
}

/// What comes next in a segment.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next<'a> {
    /// A whole frame, and how many bytes it takes.
    Frame(Kind, &'a [u8], usize),
    /// Nothing more.
    End,
    /// The beginning of a frame: its rest was never written.
    Torn,
    /// Bytes that are no frame.
    Rotten,
}

/// Reads the frame at the beginning of `bytes`.
pub(crate) fn decode(bytes: &[u8]) -> Next<'_> {
    if bytes.is_empty() {
        return Next::End;
    }
    let Some((len, rest)) = bytes.split_first_chunk::<4>() else { return Next::Torn };
    let Some((crc, rest)) = rest.split_first_chunk::<4>() else { return Next::Torn };
    let len = u32::from_le_bytes(*len) as usize;
    if len == 0 || len > FRAME_BYTES_MAX {
        return Next::Rotten;
    }
    let Some(body) = rest.get(..len) else { return Next::Torn };
    if crc32(body) != u32::from_le_bytes(*crc) {
        return Next::Rotten;
    }
    match body.split_first() {
        Some((b'E', payload)) => Next::Frame(Kind::Entry, payload, HEAD_BYTES + len),
        Some((b'A', payload)) => Next::Frame(Kind::Alive, payload, HEAD_BYTES + len),
        Some(_) | None => Next::Rotten,
    }
}

/// Where segment `number` lies in `dir`.
pub(crate) fn path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:020}.{EXTENSION}"))
}

/// The numbers of the segments in `dir`, ascending.
pub(crate) fn list(dir: &Path) -> io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        let number = path.file_stem().and_then(|stem| stem.to_str()?.parse().ok());
        if let Some(number) = number.filter(|_| path.extension().is_some_and(|e| e == EXTENSION)) {
            numbers.push(number);
        }
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// The bytes of segment `number` from `offset` on, `bytes_max` at most.
pub(crate) fn read(dir: &Path, number: u64, offset: u64, bytes_max: u64) -> io::Result<Vec<u8>> {
    let mut file = File::open(path(dir, number))?;
    let there = file.metadata()?.len().saturating_sub(offset).min(bytes_max);
    file.seek(SeekFrom::Start(offset))?;
    // Room for all of it, so that nothing is copied while it grows.
    let mut bytes = Vec::with_capacity(usize::try_from(there).unwrap_or_default());
    file.take(bytes_max).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// A segment that is being written.
#[derive(Debug)]
pub(crate) struct Segment {
    file: Arc<File>,
    pub(crate) number: u64,
    /// How much of it is whole frames.
    pub(crate) len: u64,
}

impl Segment {
    /// Makes segment `number` with `content`, safe on disk, its name too.
    pub(crate) fn create(dir: &Path, number: u64, content: &[u8]) -> io::Result<Self> {
        let path = path(dir, number);
        let file = OpenOptions::new().append(true).create_new(true).mode(0o600).open(&path)?;
        let mut segment = Self { file: Arc::new(file), number, len: 0 };
        let made = segment
            .append(content)
            .and_then(|()| segment.sync())
            .and_then(|()| File::open(dir)?.sync_all());
        match made {
            Ok(()) => Ok(segment),
            Err(error) => {
                // Half a segment would only be in the way of the next try.
                drop(std::fs::remove_file(&path));
                Err(error)
            }
        }
    }

    /// Appends whole frames. After an error the segment may end in half a frame.
    pub(crate) fn append(&mut self, frames: &[u8]) -> io::Result<()> {
        self.file.write_all(frames)?;
        self.len += frames.len() as u64;
        Ok(())
    }

    /// The same file, to be synced by another thread.
    pub(crate) fn file(&self) -> Arc<File> {
        Arc::clone(&self.file)
    }

    /// Returns when everything appended is safe on disk.
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_back_as_they_were_written() {
        let mut bytes = Vec::new();
        encode(Kind::Entry, b"{}", &mut bytes);
        encode(Kind::Alive, b"", &mut bytes);
        let Next::Frame(Kind::Entry, b"{}", used) = decode(&bytes) else { panic!("no entry") };
        let Next::Frame(Kind::Alive, b"", rest) = decode(&bytes[used..]) else { panic!("no sign") };
        assert_eq!(decode(&bytes[used + rest..]), Next::End);
    }

    #[test]
    fn a_frame_cut_anywhere_is_torn() {
        let mut bytes = Vec::new();
        encode(Kind::Entry, b"some payload", &mut bytes);
        for cut in 1..bytes.len() {
            assert_eq!(decode(&bytes[..cut]), Next::Torn, "cut at {cut}");
        }
    }

    #[test]
    fn a_changed_bit_is_noticed() {
        let mut bytes = Vec::new();
        encode(Kind::Entry, b"some payload", &mut bytes);
        for place in 4..bytes.len() {
            let mut rotten = bytes.clone();
            rotten[place] ^= 4;
            assert_eq!(decode(&rotten), Next::Rotten, "at {place}");
        }
        assert_eq!(decode(&[0; 20]), Next::Rotten);
    }
}
