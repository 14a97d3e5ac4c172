//! Who is told of the keys a peer presses.

use crate::audio::keys::KeyHeard;
use crate::media::event::MediaEvent;
use crate::media::output::TickOutput;
use crate::media::playout::Playout;
use crate::media::session::bridged::Bridged;
use crate::media::session::counters::Counters;
use crate::rtp::dtmf::DtmfEvent;

/// Who is told of the peer's keys.
pub(super) struct Ear<'a> {
    playout: &'a mut Playout,
    bridged: &'a mut Option<Box<Bridged>>,
    counters: &'a mut Counters,
    out: &'a mut TickOutput,
}

impl<'a> Ear<'a> {
    pub(super) const fn of(
        playout: &'a mut Playout,
        bridged: &'a mut Option<Box<Bridged>>,
        counters: &'a mut Counters,
        out: &'a mut TickOutput,
    ) -> Self {
        Self { playout, bridged, counters, out }
    }

    /// The same of a key heard in the audio. Who is bridged hears its tone, and is told nothing.
    pub(super) fn heard(&mut self, key: KeyHeard) {
        match key {
            KeyHeard::Down(digit) => self.pressed(DtmfEvent::Started(digit)),
            KeyHeard::Up { digit, duration_ms } => {
                self.out.event(MediaEvent::Digit { digit, duration_ms });
            }
        }
    }

    /// Tells the agent which key goes down, and the call that one does, and again which when it goes up: then its duration
    /// is known.
    pub(super) fn pressed(&mut self, event: DtmfEvent) {
        match event {
            DtmfEvent::Started(digit) => {
                self.counters.digits = self.counters.digits.saturating_add(1);
                self.out.event(MediaEvent::Pressed);
                if self.bridged.as_ref().is_none_or(|bridged| bridged.agent_waits()) {
                    self.playout.caller_is_heard();
                    self.playout.end().push_digit(digit);
                }
            }
            DtmfEvent::Ended { digit, duration_ms, units } => {
                if let Some(bridged) = self.bridged {
                    bridged.released(self.counters.digits, digit, units);
                }
                self.out.event(MediaEvent::Digit { digit, duration_ms });
            }
        }
    }
}
