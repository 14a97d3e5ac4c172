//! What was agreed on for a session, put in force.

use crate::engine::media_thread::MediaId;
use crate::engine::media_worker::Garbage;
use crate::engine::media_worker::MediaThread;
use crate::media::equipment::Equipment;
use crate::sdp::MediaPlan;
use crate::sdp::Offered;

impl MediaThread {
    pub(super) fn update(&mut self, id: MediaId, plan: Box<MediaPlan>, mut with: Equipment) {
        let now = self.desk.now;
        self.with(id, |hosted, desk| {
            hosted.session.equip(&mut with);
            hosted.session.return_spare(&plan, &mut with);
            hosted.session.finish_key(&plan, &mut desk.out);
            hosted.perform(&mut desk.out);
            hosted.session.update(now, &plan, &mut desk.out);
        });
        self.settle_rtcp(id);
        self.discard(Garbage::Plan(plan));
        if !with.is_empty() {
            self.discard(Garbage::Equipment(with));
        }
    }

    /// Lets be heard what comes by an offer of ours before its answer, or nothing more.
    pub(super) fn expect(
        &mut self,
        id: MediaId,
        offered: Option<Box<Offered>>,
        mut with: Equipment,
    ) {
        self.with(id, |hosted, desk| {
            hosted.session.expect(offered.as_deref(), &mut with, &mut desk.out);
        });
        offered.into_iter().for_each(|offered| self.discard(Garbage::Offered(offered)));
        if !with.is_empty() {
            self.discard(Garbage::Equipment(with));
        }
    }

    /// Has RTCP a socket of its own if it needs one by what was agreed on.
    pub(super) fn settle_rtcp(&mut self, id: MediaId) {
        let mut unused = None;
        self.with(id, |hosted, _| {
            unused = hosted.ports.part_rtcp(!hosted.session.muxes_rtcp());
        });
        unused.into_iter().for_each(|socket| self.discard(Garbage::Socket(socket)));
    }
}
