//! Where configuration texts are read from: the disk, or a map in tests.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;
use std::path::PathBuf;

/// Largest configuration file, in bytes. Over it: a problem.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Reads files and lists folders.
pub trait Files: Send + Sync {
    /// The text of a file.
    ///
    /// # Errors
    ///
    /// When it cannot be read, is not UTF-8 or is larger than a configuration can be.
    fn read(&self, path: &Path) -> io::Result<String>;

    /// The files of a folder, not those in folders below, in the order of their names.
    ///
    /// # Errors
    ///
    /// When it cannot be read.
    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>>;
}

/// The disk.
#[derive(Clone, Copy, Debug, Default)]
pub struct Disk;

impl Files for Disk {
    fn read(&self, path: &Path) -> io::Result<String> {
        if fs::metadata(path)?.len() > FILE_BYTES_MAX {
            return Err(io::Error::other(format!("larger than {FILE_BYTES_MAX} bytes")));
        }
        fs::read_to_string(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        let mut paths = Vec::new();
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            if fs::metadata(entry.path()).is_ok_and(|meta| meta.is_file()) {
                paths.push(entry.path());
            }
        }
        paths.sort();
        Ok(paths)
    }
}

/// Files that are only thought of, by path.
#[derive(Clone, Debug, Default)]
pub struct Memory(pub BTreeMap<PathBuf, String>);

impl Files for Memory {
    fn read(&self, path: &Path) -> io::Result<String> {
        self.0.get(path).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        let paths: Vec<PathBuf> =
            self.0.keys().filter(|path| path.parent() == Some(dir)).cloned().collect();
        if paths.is_empty() { Err(io::ErrorKind::NotFound.into()) } else { Ok(paths) }
    }
}
