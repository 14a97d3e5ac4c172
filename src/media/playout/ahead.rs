//! What a tick plays, fetched before it is its turn.

use crate::media::playout::Playout;
use crate::types::cache::fetch;

impl Playout {
    /// Fetches where things are on the link.
    pub fn fetch_rings(&self) {
        self.end.fetch_rings();
    }

    /// Fetches the places on the link whose turn it is.
    pub fn fetch_places(&mut self) {
        self.end.fetch_places();
    }

    /// Fetches the segment that is played next, but not its audio.
    pub fn fetch_segment(&self) {
        match &self.current {
            Some((segment, _)) => fetch(&**segment),
            None => self.end.fetch_segment(),
        }
    }

    /// Fetches the audio that is played next.
    pub fn fetch_audio(&self) {
        match &self.current {
            Some((segment, read)) => segment.fetch_audio(*read),
            None => self.end.fetch_audio(),
        }
    }
}
