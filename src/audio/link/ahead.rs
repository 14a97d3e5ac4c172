//! What an end reads and writes of a link, fetched before it is its turn. The rings lie elsewhere, and the other end has
//! just written there.

use crate::audio::link::AgentEnd;
use crate::audio::link::FRAME_BYTES;
use crate::audio::link::MediaEnd;
use crate::audio::link::Segment;
use crate::types::cache::fetch;

impl MediaEnd {
    /// Fetches what tells where things are in the rings.
    pub fn fetch_rings(&self) {
        fetch(&*self.shared);
        self.segments.fetch_counters();
        self.frames.fetch_counters();
    }

    /// Fetches the places whose turn it is. The rest is here already.
    pub fn fetch_places(&mut self) {
        self.segments.fetch_place();
        self.frames.fetch_place();
    }

    /// Fetches the oldest queued segment, but not its audio. Its place is here already.
    pub fn fetch_segment(&self) {
        if let Some(segment) = self.peek() {
            fetch(segment);
        }
    }

    /// Fetches the audio of its first 20 ms. The rest is here already.
    pub fn fetch_audio(&self) {
        if let Some(segment) = self.peek() {
            segment.fetch_audio(0);
        }
    }
}

impl AgentEnd {
    /// Fetches what tells what is new, where things are in the rings, and what takes the audio that comes next.
    pub fn fetch(&self) {
        fetch(&*self.shared);
        self.frames.fetch_counters();
        self.segments.fetch_counters();
        if let Some(spare) = &self.spare {
            fetch(&**spare);
        }
    }
}

impl Segment {
    /// Fetches its audio of 20 ms from unit `read` on.
    pub fn fetch_audio(&self, read: usize) {
        let unit = self.unit_bytes();
        let rest = self.bytes.get(read * unit..).unwrap_or_default();
        fetch(rest.get(..FRAME_BYTES * unit).unwrap_or(rest));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::link::LinkEvent;
    use crate::audio::link::link;
    use crate::audio::link::wide_link;
    use crate::types::limit::AGENT_FRAMES_MAX;

    fn fetch_all(media: &mut MediaEnd) {
        media.fetch_rings();
        media.fetch_places();
        media.fetch_segment();
        media.fetch_audio();
    }

    #[test]
    fn what_is_fetched_is_neither_taken_nor_put_in() {
        for (mut media, mut agent) in [link(), wide_link()] {
            agent.fetch();
            for number in 0..2 * AGENT_FRAMES_MAX {
                fetch_all(&mut media);
                let taken = media.push_frame(&[number as u8; FRAME_BYTES]);
                assert_eq!(taken, number < AGENT_FRAMES_MAX, "{number}");
            }
            for number in 0..AGENT_FRAMES_MAX {
                fetch_all(&mut media);
                agent.fetch();
                assert_eq!(agent.next(), Some(LinkEvent::Audio([number as u8; FRAME_BYTES])));
            }
            assert_eq!(agent.next(), None);
            for length in [1, 159, 160, 400] {
                assert_eq!(agent.push_audio(&vec![7; length]), length);
                fetch_all(&mut media);
                let segment = media.pop().expect("it was sent");
                assert_eq!(segment.bytes, vec![7; length]);
                for read in [0, length - 1, length, usize::MAX / 2] {
                    segment.fetch_audio(read);
                }
                media.give_back(segment);
                fetch_all(&mut media);
                agent.fetch();
                assert!(media.pop().is_none());
            }
        }
    }
}
