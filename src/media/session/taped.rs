//! What a session gives to whoever records it.

use crate::audio::frame::FRAME_SAMPLES;
use crate::audio::frame::SILENCE;
use crate::audio::frame::WIDE_SAMPLES;
use crate::audio::frame::WidePcm;
use crate::audio::sound::Sound;
use crate::audio::tape::TapeForm;
use crate::audio::tape::TapeIn;
use crate::audio::tape::TapeRate;
use crate::audio::tape::TapeSide;
use crate::media::session::MediaSession;
use crate::media::session::look_back::Kept;
use crate::media::session::look_back::LOOK_BACK_TICKS;
use crate::types::codec::Codec;
use crate::types::codec::Law;

impl MediaSession {
    /// Puts what is heard and sent on `tape` from the next tick on. Returns the one before, to be freed
    /// elsewhere.
    pub const fn record(&mut self, tape: Box<TapeIn>) -> Option<Box<TapeIn>> {
        self.tape.replace(tape)
    }

    /// Ends that. Returns the tape, to be freed elsewhere.
    pub const fn stop_recording(&mut self) -> Option<Box<TapeIn>> {
        self.tape.take()
    }

    /// Puts nothing on the tape from the next tick on, or goes on with it.
    pub fn pause_recording(&mut self, paused: bool) {
        if let Some(tape) = &mut self.tape {
            tape.pause(paused);
        }
        if let Some(look_back) = &mut self.look_back {
            look_back.untape();
        }
    }

    /// What the peer said in this tick, or so many `ticks` after it. What was kept back stands where it was heard.
    /// Beside a key it is silent: the key's tone may leak into it.
    pub(super) fn tape_heard(&mut self, kept: &Kept, ticks: u64) {
        let Some(tape) = &mut self.tape else { return };
        let ulaw = &kept.frame;
        if kept.hidden || kept.untaped || *ulaw == SILENCE {
            return;
        }
        let back = if self.rules.keys_private { LOOK_BACK_TICKS as u64 } else { 0 };
        let ticks = ticks.cast_signed().saturating_sub_unsigned(back);
        let after = ticks.saturating_mul(tape.rate().tick_samples().cast_signed());
        match kept.original.as_ref() {
            Some(Sound::Law(law, frame)) => {
                tape.sound(TapeSide::Heard, after, TapeForm::Law(*law), frame);
            }
            Some(Sound::Wide(wide)) if tape.rate() == TapeRate::Wide => {
                tape_wide(tape, (TapeSide::Heard, after), wide);
            }
            Some(Sound::Wide(_)) => {
                tape.sound(TapeSide::Heard, after, TapeForm::Law(Law::Mu), ulaw);
            }
            None => (),
        }
    }

    /// What left in a packet, as it left. `rest` units of the clock were not sent before it, the last of them this tick's.
    pub(super) fn tape_sent(
        tape: &mut Option<Box<TapeIn>>,
        sent: (Codec, &[u8]),
        (rest, units): (usize, usize),
    ) {
        if let Some(tape) = tape {
            let after = (FRAME_SAMPLES as i64 - rest as i64) * tape.rate().factor() as i64;
            let form = match sent.0 {
                Codec::Pcmu => TapeForm::Law(Law::Mu),
                Codec::Pcma => TapeForm::Law(Law::A),
                Codec::G722 => TapeForm::G722,
                Codec::L16Wide => TapeForm::L16(TapeRate::Wide),
                Codec::L16 => TapeForm::L16(TapeRate::Narrow),
                Codec::Opus => {
                    let samples = units as u64 * tape.rate().factor() as u64;
                    return tape.opus(TapeSide::Sent, after, samples, sent.1);
                }
                // What passes is not heard here.
                Codec::G729 => return,
            };
            tape.sound(TapeSide::Sent, after, form, sent.1);
        }
    }

    pub(super) fn tape_on(&mut self) {
        if let Some(tape) = &mut self.tape {
            tape.pass();
        }
    }

    pub(super) fn tape_skipped(&mut self, ticks: u64) {
        if let Some(tape) = &mut self.tape {
            tape.skip(ticks);
        }
    }
}

fn tape_wide(tape: &mut TapeIn, (side, after): (TapeSide, i64), wide: &WidePcm) {
    let mut bytes = [[0; 2]; WIDE_SAMPLES];
    for (pair, sample) in bytes.iter_mut().zip(wide) {
        *pair = sample.to_le_bytes();
    }
    tape.sound(side, after, TapeForm::Linear, bytes.as_flattened());
}
