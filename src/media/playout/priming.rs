//! Whether audio is played in a tick: an utterance waits for its pre-roll, and one that ran dry for a little.

use crate::media::playout::PREROLL_LATE_MS;
use crate::media::playout::PREROLL_MS;
use crate::media::playout::Playout;
use crate::media::playout::REPRIME_MS;
use crate::media::playout::State;
use crate::media::playout::TICK_MS;
use crate::media::playout::UNDERRUN_MS_MAX;
use crate::media::playout::Underrun;

impl Playout {
    /// Decides whether audio is played in this tick, before which so much time was left out.
    pub(super) fn is_primed(&mut self, left_out_ms: u32) -> bool {
        let queued = self.queued_ms();
        self.lull.pass(left_out_ms);
        let finishing = self.end.finish_queued();
        let primed = match self.state {
            State::Playing => {
                if queued == 0 {
                    // The gap goes on, or it was none.
                    self.left_out_ms = left_out_ms;
                } else if left_out_ms > 0 {
                    self.count_gap(left_out_ms);
                }
                true
            }
            State::Idle if queued == 0 && !finishing => {
                if self.lull.is_open() {
                    self.see_lateness();
                }
                false
            }
            State::Idle => {
                if queued == 0 {
                    // The agent says that it had said all.
                    self.lull.forget();
                }
                self.lull.speaks_again(self.utterance_samples);
                self.utterance_samples = 0;
                self.finished = false;
                self.prime(queued, finishing, 0)
            }
            State::Priming { waited_ms } => self.prime(queued, finishing, waited_ms),
            State::Dry { gap_ms, waited_ms } => {
                self.prime_again(queued, gap_ms.saturating_add(left_out_ms), waited_ms)
            }
        };
        self.lull.pass(TICK_MS);
        primed
    }

    fn prime(&mut self, queued_ms: u32, finishing: bool, waited_ms: u32) -> bool {
        // An agent may have less to say than the pre-roll and never say so.
        let ready = queued_ms >= self.preroll_ms || finishing || waited_ms >= self.preroll_ms;
        self.state = if ready {
            self.preroll_ms = PREROLL_MS;
            if let Some(ms) = self.lull.end() {
                self.count_gap(ms);
            }
            State::Playing
        } else {
            State::Priming { waited_ms: waited_ms + TICK_MS }
        };
        ready
    }

    fn prime_again(&mut self, queued_ms: u32, gap_ms: u32, waited_ms: u32) -> bool {
        let finishing = self.end.finish_queued();
        if queued_ms == 0 && !finishing {
            self.see_lateness();
            self.state = if gap_ms >= UNDERRUN_MS_MAX {
                self.lull.begin(gap_ms);
                State::Idle
            } else {
                State::Dry { gap_ms: gap_ms + TICK_MS, waited_ms: 0 }
            };
            return false;
        }
        if queued_ms >= REPRIME_MS || finishing || waited_ms >= REPRIME_MS {
            if queued_ms > 0 {
                self.count_gap(gap_ms);
                self.preroll_ms = PREROLL_LATE_MS;
            }
            self.state = State::Playing;
            return true;
        }
        self.state = State::Dry { gap_ms: gap_ms + TICK_MS, waited_ms: waited_ms + TICK_MS };
        false
    }

    fn count_gap(&mut self, ms: u32) {
        self.underruns += 1;
        self.underrun = Some(Underrun { ms, node_late: self.node_late });
        // A lost report is still counted here.
        self.end.push_underrun(ms);
    }
}
