//! The part that supervisors take in a call.

use crate::call::side::Seat;
use crate::call::supervision::SupervisionMode;
use crate::engine::call_task::Task;
use crate::engine::call_task::media::Slot;
use crate::engine::media_thread::MediaEvent;
use crate::engine::media_thread::MediaId;
use crate::media::session::GUESTS_MAX;
use crate::media::session::GuestGains;
use std::future::poll_fn;
use std::task::Poll;

/// The media of a call's supervisors: each is the guest of the near leg's that its seat says.
#[derive(Default)]
pub(super) struct Seats([Seated; GUESTS_MAX]);

/// The media of one of them.
#[derive(Default)]
pub(super) struct Seated {
    pub(super) slot: Slot,
    /// It takes part.
    is_guest: bool,
}

impl Seats {
    /// The one in this seat.
    pub(super) const fn of(&mut self, seat: Seat) -> &mut Seated {
        let [first, second, third, fourth] = &mut self.0;
        match seat {
            Seat::First => first,
            Seat::Second => second,
            Seat::Third => third,
            Seat::Fourth => fourth,
        }
    }

    /// The session of the one in this seat, where it has one.
    pub(super) fn media_id(&self, seat: Seat) -> Option<MediaId> {
        self.0.get(seat.index())?.slot.id()
    }
}

/// The next event of one of their sessions, or nothing ever without any.
pub(super) async fn heard(seats: Option<&mut Seats>) -> (Seat, Option<MediaEvent>) {
    let Some(Seats(all)) = seats else { return std::future::pending().await };
    poll_fn(|context| {
        for (seat, own) in Seat::ALL.into_iter().zip(all.iter_mut()) {
            if let Poll::Ready(event) = own.slot.poll_heard(context) {
                return Poll::Ready((seat, event));
            }
        }
        Poll::Pending
    })
    .await
}

impl Task {
    /// Lets a supervisor take part so from now on; `None`: not any more.
    pub(super) fn supervise(&mut self, seat: Seat, mode: Option<SupervisionMode>) {
        let own = self.others().seat(seat);
        let was_guest = std::mem::replace(&mut own.is_guest, mode.is_some());
        let guest = own.slot.id();
        let Some(host) = self.media.id() else { return };
        let (media, place) = (&self.switch.media, seat.index());
        match mode.map(gains) {
            Some(gains) if was_guest => media.regard(host, place, gains),
            Some(gains) => {
                if let Some(guest) = guest {
                    media.admit(host, (place, guest), gains);
                }
            }
            None => media.dismiss(host, place),
        }
    }
}

const fn gains(mode: SupervisionMode) -> GuestGains {
    match mode {
        SupervisionMode::Listen => GuestGains::LISTENS,
        SupervisionMode::Whisper => GuestGains::WHISPERS,
        SupervisionMode::Barge => GuestGains::SPEAKS,
    }
}
