//! What a session has of its thread, given back, or taken along to another.

use crate::media::output::TickOutput;
use crate::media::session::MediaSession;
use crate::rtp::jitter::Luggage;

impl MediaSession {
    /// Gives back all that was lent to it, and with it the packets that wait to be heard, before it leaves its thread for good:
    /// it is read for its figures then, and has no ticks any more.
    pub fn give_back(&mut self, out: &mut TickOutput) {
        self.give_back_models(out.models());
        self.jitter.let_go(out.payloads());
    }

    /// Gives back all that was lent to it, before it goes to another thread. The packets that wait to be heard come along.
    pub fn leave_with(&mut self, luggage: &mut Luggage, out: &mut TickOutput) {
        self.give_back_models(out.models());
        self.jitter.pack(out.payloads(), luggage);
    }

    /// Puts there what came along, before anything else is done with it there.
    pub fn arrive_with(&mut self, luggage: &Luggage, out: &mut TickOutput) {
        self.jitter.unpack(out.payloads(), luggage);
    }
}
