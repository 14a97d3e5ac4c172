//! A thread that waits for the disk, so that the journal's writer does not: a sync may take longer
//! than a caller wants to wait for the first ring.

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::sync::mpsc::TrySendError;
use std::sync::mpsc::sync_channel;
use std::thread;

/// Syncs one file at a time.
#[derive(Debug)]
pub(crate) struct Syncer(SyncSender<(u64, Arc<File>)>);

impl Syncer {
    /// Starts the thread; `done` is told what came of each sync, by its name.
    pub(crate) fn start(done: impl Fn(u64, io::Result<()>) + Send + 'static) -> io::Result<Self> {
        let (requests, received) = sync_channel::<(u64, Arc<File>)>(1);
        thread::Builder::new().name("journal-sync".to_owned()).spawn(move || {
            for (name, file) in received {
                done(name, file.sync_data());
            }
        })?;
        Ok(Self(requests))
    }

    /// Begins to sync `file`.
    pub(crate) fn begin(&self, name: u64, file: Arc<File>) -> io::Result<()> {
        self.0.try_send((name, file)).map_err(|error| match error {
            TrySendError::Full(_) => io::ErrorKind::WouldBlock.into(),
            TrySendError::Disconnected(_) => io::ErrorKind::BrokenPipe.into(),
        })
    }
}
