//! What an application lets a peer hear in place of whom it talks with, and who is not heard.

use crate::audio::frame::Encoded;
use crate::audio::frame::SILENCE;
use crate::audio::sound::Sound;
use crate::media::event::MediaEvent;
use crate::media::output::TickOutput;
use crate::media::session::MediaSession;
use crate::types::codec::Law;

/// Audio that is played to a peer.
#[derive(Debug)]
pub struct Clip {
    number: u32,
    /// µ-law at 8 kHz.
    audio: Box<[u8]>,
    /// Times it is played from now on, this one included.
    rounds: u32,
    at: usize,
}

impl Clip {
    /// `audio`, µ-law at 8 kHz, to be played so many times.
    #[must_use]
    pub const fn new(number: u32, audio: Box<[u8]>, rounds: u32) -> Self {
        Self { number, audio, rounds, at: 0 }
    }

    /// What tells it from others.
    #[must_use]
    pub const fn number(&self) -> u32 {
        self.number
    }

    /// The next 20 ms; `None` at its end.
    fn frame(&mut self) -> Option<Encoded> {
        if self.at >= self.audio.len() {
            self.rounds = self.rounds.saturating_sub(1);
            self.at = 0;
        }
        if self.rounds == 0 || self.audio.is_empty() {
            return None;
        }
        let mut frame = SILENCE;
        let rest = self.audio.get(self.at..).unwrap_or_default();
        for (to, byte) in frame.iter_mut().zip(rest) {
            *to = *byte;
        }
        self.at += frame.len();
        Some(frame)
    }
}

/// What applications want of the audio of a session.
#[derive(Debug, Default)]
pub(super) struct Steered {
    /// Kept after its end: it is freed elsewhere.
    clip: Option<Box<Clip>>,
    playing: bool,
    /// The peer is not heard.
    pub(super) inward: bool,
    /// It hears nobody.
    outward: bool,
}

impl Steered {
    pub(super) const fn is_playing(&self) -> bool {
        self.playing
    }

    /// What the peer hears, where whom it talks with says `said`.
    pub(super) fn heard(&mut self, said: Sound, out: &mut TickOutput) -> Sound {
        let said = if self.outward { Sound::SILENCE } else { said };
        let Some(clip) = self.clip.as_mut().filter(|_| self.playing) else { return said };
        if let Some(frame) = clip.frame() {
            return Sound::Law(Law::Mu, frame);
        }
        self.playing = false;
        out.event(MediaEvent::Played { clip: clip.number });
        said
    }
}

impl MediaSession {
    /// Lets the peer hear `clip` instead of whom it talks with; what an agent says meanwhile waits. Returns
    /// the one before, to be freed elsewhere.
    pub fn play(&mut self, clip: Box<Clip>) -> Option<Box<Clip>> {
        self.steered.playing = true;
        self.steered.clip.replace(clip)
    }

    /// Lets the peer hear whom it talks with again.
    pub const fn stop_playing(&mut self) {
        self.steered.playing = false;
    }

    /// Presses a key (RFC 4733); false when the peer takes no events or too many keys wait.
    pub fn send_digit(&mut self, digit: char) -> bool {
        let takes = self.plan.as_ref().is_some_and(|plan| plan.dtmf_send.is_some());
        takes && self.digits_out.push(digit)
    }

    /// Lets silence be heard in place of the peer (`inward`), and by it (`outward`). Keys pass all the same.
    pub const fn mute(&mut self, inward: bool, outward: bool) {
        self.steered.inward = inward;
        self.steered.outward = outward;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::frame::FRAME_SAMPLES;

    fn play(steered: &mut Steered, out: &mut TickOutput) -> u8 {
        steered.heard(Sound::Law(Law::Mu, [7; FRAME_SAMPLES]), out).as_law(Law::Mu)[0]
    }

    #[test]
    fn a_clip_is_heard_as_often_as_asked_for_and_its_end_is_told_once() {
        let mut audio = vec![1; FRAME_SAMPLES];
        audio.extend([2; 10]);
        let clip = Some(Box::new(Clip::new(5, audio.into(), 2)));
        let mut steered = Steered { clip, playing: true, ..Steered::default() };
        let mut out = TickOutput::new();
        let heard: Vec<_> = (0..6).map(|_| play(&mut steered, &mut out)).collect();
        assert_eq!(heard, [1, 2, 1, 2, 7, 7]);
        assert_eq!(out.events(), [MediaEvent::Played { clip: 5 }]);
    }

    #[test]
    fn who_is_muted_is_not_heard_but_a_clip_is() {
        let mut steered = Steered { outward: true, ..Steered::default() };
        let mut out = TickOutput::new();
        assert_eq!(play(&mut steered, &mut out), SILENCE[0]);
        steered.clip = Some(Box::new(Clip::new(1, vec![3; 1].into(), 1)));
        steered.playing = true;
        assert_eq!(play(&mut steered, &mut out), 3);
        assert_eq!(play(&mut steered, &mut out), SILENCE[0]);
    }
}
