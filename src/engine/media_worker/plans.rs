//! What was agreed on for a session, put in force.

use crate::audio::wide::WideVoice;
use crate::engine::media_thread::MediaId;
use crate::engine::media_worker::Garbage;
use crate::engine::media_worker::MediaThread;
use crate::sdp::MediaPlan;

impl MediaThread {
    pub(super) fn update(
        &mut self,
        id: MediaId,
        plan: Box<MediaPlan>,
        mut wide: Option<Box<WideVoice>>,
    ) {
        let now = self.desk.now;
        self.with(id, |hosted, _| {
            wide = wide.take().and_then(|wide| hosted.session.equip(wide));
            hosted.session.update(now, &plan);
        });
        self.discard(Garbage::Plan(plan));
        wide.into_iter().for_each(|wide| self.discard(Garbage::Wide(wide)));
    }
}
