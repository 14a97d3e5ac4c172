//! Ticks for which the media thread came too late: nothing is sent for them, and what came meanwhile is heard all the
//! same. A peer's jitter buffer would throw the burst away; an agent has none, and would miss words that had arrived.

use crate::audio::frame::FRAME_SAMPLES;
use crate::audio::frame::SILENCE;
use crate::media::output::TickOutput;
use crate::media::session::MediaSession;
use crate::media::session::look_back::Kept;
use crate::types::codec::Law;
use crate::types::moment::Moment;

/// Ticks left out at once of which the peer is heard, or which are made up for by silence: the last ones.
pub const LATE_TICKS_HEARD_MAX: u64 = 32;

impl MediaSession {
    /// Hears the peer in a tick that is left out. It was due at `due`, `ticks` after the first of those left out, and
    /// what had arrived by then was [received](Self::receive). To be called for each in turn, before
    /// [`Self::skip`].
    pub fn hear_late(&mut self, due: Moment, ticks: u64, out: &mut TickOutput) {
        // Whom the peer is bridged with hears nothing of it: there, too, it would be thrown away.
        let (frame, original) = self.heard_at(due, ticks, out);
        self.give_heard(frame, original.as_ref());
    }

    /// Leaves out what the peer said in a tick that is left out, `ticks` after the first of those.
    pub fn miss(&mut self, ticks: u64, out: &mut TickOutput) {
        self.jitter.pass(out.payloads());
        self.concealer.cut();
        // What was kept back before is recorded in its time.
        let nothing = Kept { hidden: self.key_is_down(), ..Kept::NOTHING };
        let private = self.look_back.as_mut().filter(|_| self.rules.keys_private);
        if let Some(kept) = private.map(|look_back| look_back.pass(nothing)) {
            self.tape_heard(&kept, ticks);
        }
        self.give((Law::Mu, &SILENCE), None);
    }

    /// Leaves out `ticks`: nothing is sent for them. The agent got its frames by [`Self::hear_late`] or
    /// [`Self::miss`], and is woken by [`Self::take_agents_waker`].
    pub fn skip(&mut self, ticks: u64) {
        self.counters.ticks_skipped += ticks;
        self.ticks += ticks;
        if self.quiet_ticks > 0 {
            let ticks = u32::try_from(ticks).unwrap_or(u32::MAX);
            self.quiet_ticks = self.quiet_ticks.saturating_add(ticks);
        }
        self.playout.left_out(ticks);
        self.forget_outgoing();
        self.sender.skip(ticks.wrapping_mul(FRAME_SAMPLES as u64) as u32);
        self.tape_skipped(ticks);
    }
}
