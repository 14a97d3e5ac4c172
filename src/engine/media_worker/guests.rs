//! Who takes part in a session: whom its peer talks with instead of an agent, and third parties beside the two.

use crate::audio::bridge::BridgeEnd;
use crate::engine::media_thread::MediaId;
use crate::engine::media_worker::Garbage;
use crate::engine::media_worker::MediaThread;
use crate::media::session::Bridged;
use crate::media::session::GuestGains;
use crate::media::session::Guests;

/// A guest that is to take part, with all that a session needs for it.
#[derive(Debug)]
pub(crate) struct Admission {
    pub(crate) place: usize,
    pub(crate) gains: GuestGains,
    pub(crate) end: Option<Box<BridgeEnd>>,
    pub(crate) guests: Option<Box<Guests>>,
}

impl MediaThread {
    pub(super) fn bridge(&mut self, id: MediaId, with: Box<Bridged>) {
        // The bridge that is not taken by the session, for it is gone, is freed like one that was replaced.
        let mut left = Some(with);
        self.with(id, |hosted, _| {
            left = left.take().and_then(|with| hosted.session.bridge(with));
        });
        left.into_iter().for_each(|with| self.discard(Garbage::Bridge(with)));
    }

    pub(super) fn admit(&mut self, id: MediaId, mut admission: Box<Admission>) {
        self.with(id, |hosted, _| {
            let Admission { place, gains, end, guests } = &mut *admission;
            *guests = guests.take().and_then(|guests| hosted.session.host(guests));
            *end = end.take().and_then(|end| hosted.session.admit(*place, *gains, end));
        });
        // What was not taken, or was there before, is freed like the rest.
        self.discard(Garbage::Admission(admission));
    }

    pub(super) fn regard(&mut self, id: MediaId, place: usize, gains: GuestGains) {
        self.with(id, |hosted, _| hosted.session.regard(place, gains));
    }

    pub(super) fn dismiss(&mut self, id: MediaId, place: usize) {
        let mut before = None;
        self.with(id, |hosted, _| before = hosted.session.dismiss(place));
        before.into_iter().for_each(|end| self.discard(Garbage::GuestsBridge(end)));
    }
}
