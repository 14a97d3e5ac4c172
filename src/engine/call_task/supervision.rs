//! The part that a supervisor takes in a call.

use crate::call::side::LegSide;
use crate::call::supervision::SupervisionMode;
use crate::engine::call_task::Task;
use crate::media::session::GuestGains;

/// Which guest of the near leg's media the supervisor is.
const PLACE: usize = 0;

impl Task {
    /// Lets the supervisor take part so from now on; `None`: not any more.
    pub(super) fn supervise(&mut self, mode: Option<SupervisionMode>) {
        let was_present = std::mem::replace(&mut self.is_supervised, mode.is_some());
        let Some(host) = self.media.id() else { return };
        let media = self.switch.media.clone();
        match mode.map(gains) {
            Some(gains) if was_present => media.regard(host, PLACE, gains),
            Some(gains) => {
                if let Some(guest) = self.media_id(LegSide::Supervisor) {
                    media.admit(host, (PLACE, guest), gains);
                }
            }
            None => media.dismiss(host, PLACE),
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
