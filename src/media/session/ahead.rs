//! What a tick reads and writes of a session, fetched before it is its turn: what most calls need in most ticks, in steps
//! of which each follows what the one before fetched.

use crate::media::session::MediaSession;
use crate::rtp::payloads::Payloads;
use crate::types::cache::fetch;

impl MediaSession {
    /// Has the processor fetch what lies here.
    pub fn fetch(&self) {
        // In the order in which it is needed.
        fetch(&self.plan);
        fetch(&self.rules);
        self.source.fetch();
        fetch(&self.protection);
        fetch(&self.counters);
        fetch(&self.judge);
        fetch(&self.sender);
        fetch(&self.receiver);
        self.jitter.fetch();
        fetch(&self.digits_in);
        self.concealer.fetch();
        fetch(&self.key_ear);
        fetch(&self.playout);
        fetch(&self.said);
        fetch(&self.digits_out);
        fetch(&self.reports);
        // What lies together of the rest, as each of these is aligned.
        fetch(&self.ticks);
        fetch(&self.quiet_ticks);
        fetch(&self.steered);
        fetch(&self.ears);
        fetch(&self.bridged);
        fetch(&self.outgoing);
        fetch(&self.passage);
        fetch(&self.key_tail);
        fetch(&self.started);
    }

    /// The same of where things are on the link, and of where packets are that wait.
    pub fn fetch_rings(&self) {
        self.playout.fetch_rings();
        self.jitter.fetch_slots();
    }

    /// The same of the places on the link whose turn it is, and of the packet that is heard next.
    pub fn fetch_places(&mut self, payloads: &Payloads) {
        self.playout.fetch_places();
        self.jitter.fetch_payload(payloads);
    }

    /// The same of the segment that is played next, but not of its audio.
    pub fn fetch_segment(&self) {
        self.playout.fetch_segment();
    }

    /// The same of the audio that is played next.
    pub fn fetch_audio(&self) {
        self.playout.fetch_audio();
    }
}
