//! What an agent's task gives to its link, in order, as fast as that takes it.

use crate::agent::session::Input;
use crate::agent::session::Output;
use crate::audio::link::WIDE_UNIT_BYTES;
use crate::engine::agent_task::Task;
use crate::types::limit::AGENT_PLAYOUT_MS_MAX;
use bytes::Buf;
use bytes::Bytes;

/// Bytes of G.711 in a millisecond.
const BYTES_PER_MS: usize = 8;

/// Something that is to be played, or stands between what is.
pub(super) enum Pending {
    Audio(Bytes),
    WideAudio(Bytes),
    Mark(u64),
    Finish,
}

impl Pending {
    /// Audio in it, in ms.
    fn ms(&self) -> u32 {
        match self {
            Self::Audio(audio) => u32::try_from(audio.len() / BYTES_PER_MS).unwrap_or(u32::MAX),
            Self::WideAudio(audio) => {
                let ms = audio.len() / (BYTES_PER_MS * WIDE_UNIT_BYTES);
                u32::try_from(ms).unwrap_or(u32::MAX)
            }
            Self::Mark(_) | Self::Finish => 0,
        }
    }
}

impl Task {
    /// Gives the link what it takes, and tells the session when it takes no more.
    pub(super) fn feed(&mut self, out: &mut Vec<Output>) {
        while let Some(first) = self.pending.front_mut() {
            match first {
                Pending::Audio(audio) => {
                    let taken = self.end.push_audio(audio);
                    audio.advance(taken);
                    if !audio.is_empty() {
                        break;
                    }
                }
                Pending::WideAudio(audio) => {
                    let taken = self.end.push_wide(audio);
                    audio.advance(taken);
                    if !audio.is_empty() {
                        break;
                    }
                }
                Pending::Mark(id) => {
                    if !self.end.push_mark(*id) {
                        break;
                    }
                }
                Pending::Finish => {
                    if !self.end.finish() {
                        break;
                    }
                }
            }
            self.pending.pop_front();
        }
        if self.session.wants_level() {
            let waits = self.pending.iter().map(Pending::ms).sum::<u32>() + self.end.queued_ms();
            if waits != self.level {
                self.level = waits;
                let now = self.now();
                self.session.handle(now, Input::Level(waits), out);
            }
        }
        self.full = !self.pending.is_empty() || self.end.queued_ms() >= AGENT_PLAYOUT_MS_MAX;
        let deaf = self.full || self.socket.as_ref().is_some_and(|socket| socket.waits());
        if deaf != self.deaf {
            self.deaf = deaf;
            let input = if deaf { Input::PlayoutFull } else { Input::PlayoutRoom };
            let now = self.now();
            self.session.handle(now, input, out);
        }
    }
}
