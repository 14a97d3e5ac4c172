//! The places of a media thread: the right to one of them, and which session has it.

use crate::engine::media_thread::MediaId;
use crate::types::limit::MEDIA_SESSIONS_MAX;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

/// The places of a thread. The thread itself never locks it.
#[derive(Debug)]
pub(super) struct Places {
    free: Mutex<FreePlaces>,
    taken: AtomicUsize,
}

#[derive(Debug)]
struct FreePlaces {
    indices: Vec<u16>,
    generation: u32,
}

impl Default for Places {
    fn default() -> Self {
        let indices = (0..MEDIA_SESSIONS_MAX as u16).rev().collect();
        let free = Mutex::new(FreePlaces { indices, generation: 0 });
        Self { free, taken: AtomicUsize::new(0) }
    }
}

impl Places {
    /// A free place of thread number `thread`; `None` when all are taken.
    pub(super) fn take(self: &Arc<Self>, thread: u16) -> Option<Place> {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let index = free.indices.pop()?;
        free.generation = free.generation.wrapping_add(1);
        let id = MediaId { thread, index, generation: free.generation };
        self.taken.fetch_add(1, Ordering::Relaxed);
        Some(Place { id, places: Arc::clone(self), counted: true })
    }

    /// How many are taken, by sessions that are here.
    pub(super) fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }
}

/// The right to a place of a thread; given back when dropped, which is never on the thread.
#[derive(Debug)]
pub(crate) struct Place {
    id: MediaId,
    places: Arc<Places>,
    /// It is that of a session that is here.
    counted: bool,
}

impl Place {
    pub(crate) const fn id(&self) -> MediaId {
        self.id
    }

    /// Its session is counted at another thread from now on; what is asked for it here is passed on.
    pub(super) fn passes_on(&mut self) {
        if std::mem::take(&mut self.counted) {
            self.places.taken.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Its session stays here after all.
    pub(super) fn stays(&mut self) {
        if !std::mem::replace(&mut self.counted, true) {
            self.places.taken.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut free = self.places.free.lock().unwrap_or_else(PoisonError::into_inner);
        free.indices.push(self.id.index);
        if self.counted {
            self.places.taken.fetch_sub(1, Ordering::Relaxed);
        }
    }
}
