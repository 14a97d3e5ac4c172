//! Sessions that move to another phase of their thread, in which their packets wait less for the tick that reads them.

use crate::engine::media_thread::MediaId;
use crate::engine::media_worker::MediaThread;
use crate::engine::media_worker::phase_work::PHASE_FILL;
use crate::media::pace::PHASES;
use crate::media::waits::MeanWaits;

/// The phase whose ticks are `earlier` by so many phases.
const fn phase_before(phase: usize, earlier: usize) -> usize {
    (phase + PHASES - earlier % PHASES) % PHASES
}

impl MediaThread {
    /// Lets the ticks of a session be `earlier` by so many phases, unless that phase is crowded. Where it comes later in
    /// this period, the session has one tick more: at its beginning nothing is lost by that, and all it hears is earlier.
    pub(super) fn hurry(&mut self, id: MediaId, earlier: usize) {
        let Some(Some(hosted)) = self.slots.get(usize::from(id.index)) else { return };
        let to = phase_before(hosted.phase, earlier);
        if to != hosted.phase && !self.is_crowded(to) {
            self.put(id, to);
        }
    }

    /// Lets a session whose tick just ran have the next one in the phase in which its packets wait least by `waits`, of
    /// those that are not crowded; where several are as good, in the one with the least work. As long as that would be heard
    /// it stays. In any case it has one tick in each period.
    pub(super) fn follow(&mut self, id: MediaId, waits: &MeanWaits) {
        let Some(Some(hosted)) = self.slots.get(usize::from(id.index)) else { return };
        let from = hosted.phase;
        let may = |earlier: usize| !self.is_crowded(phase_before(from, earlier));
        let work = |earlier: usize| {
            let phase = phase_before(from, earlier);
            self.phase_work.work(phase, self.sessions_in(phase))
        };
        let Some(earlier) = waits.best(may, work) else { return };
        self.move_unheard(id, (from, phase_before(from, earlier)));
    }

    /// Lets a session whose tick just ran leave its phase, where that has too much to do, for the one with the least work,
    /// unless that is crowded. As long as that would be heard it stays.
    pub(super) fn make_room(&mut self, id: MediaId) {
        let Some(Some(hosted)) = self.slots.get(usize::from(id.index)) else { return };
        let from = hosted.phase;
        let work = |phase: &usize| self.phase_work.work(*phase, self.sessions_in(*phase));
        let others = (0..PHASES).filter(|phase| *phase != from);
        let Some(to) = others.min_by_key(work) else { return };
        if self.phase_work.spills(from, self.sessions_in(from)) && !self.is_crowded(to) {
            self.move_unheard(id, (from, to));
        }
    }

    /// Puts a session whose tick just ran `from` one phase `to` another, unless that would be heard.
    fn move_unheard(&mut self, id: MediaId, (from, to): (usize, usize)) {
        let mut bears = false;
        self.with(id, |hosted, desk| bears = hosted.session.bears_phase(desk.due, (from, to)));
        if !bears || !self.put(id, to) {
            return;
        }
        self.with(id, |hosted, desk| {
            // What is still to come of this period is not its own.
            hosted.rests += u32::from(to > from);
            hosted.waits.moved(desk.due);
            hosted.session.beat_moved();
        });
    }

    /// Whether a phase has so many sessions, or so much to do, that no more may move there.
    fn is_crowded(&self, phase: usize) -> bool {
        let all: usize = self.phases.iter().map(Vec::len).sum();
        let (sessions, crowd) = (self.sessions_in(phase), PHASE_FILL + 2 * all / PHASES);
        sessions >= crowd || self.phase_work.is_full(phase, sessions)
    }

    /// Puts a session whose tick just ran into another phase; false where it cannot be.
    fn put(&mut self, id: MediaId, to: usize) -> bool {
        let Some(Some(hosted)) = self.slots.get_mut(usize::from(id.index)) else { return false };
        let Ok([left, joined]) = self.phases.get_disjoint_mut([hosted.phase, to]) else {
            return false;
        };
        let Some(at) = left.iter().position(|index| *index == id.index) else { return false };
        // The places behind it in its phase had their tick already, for a phase is run from its end.
        left.swap_remove(at);
        joined.push(id.index);
        hosted.phase = to;
        true
    }
}
