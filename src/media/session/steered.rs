//! What an application lets a peer hear in place of whom it talks with, and who is not heard.

use crate::audio::frame::Encoded;
use crate::audio::frame::FRAME_SAMPLES;
use crate::audio::frame::Pcm;
use crate::audio::frame::SILENCE;
use crate::audio::frame::WIDE_SAMPLES;
use crate::audio::g711;
use crate::audio::mixer;
use crate::audio::mixer::Gain;
use crate::audio::resample::Resampler;
use crate::audio::sound::Sound;
use crate::media::event::MediaEvent;
use crate::media::output::TickOutput;
use crate::media::session::MediaSession;
use crate::sdp::MediaPlan;
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
    gain: Gain,
    /// What it needs to be heard beside whom the peer talks with; `None`: it is heard instead.
    beside: Option<Beside>,
}

/// What a clip is brought to 16 kHz with.
#[derive(Debug)]
struct Beside {
    up: Resampler,
    scratch: Vec<i16>,
}

impl Clip {
    /// `audio`, µ-law at 8 kHz, to be played so many times.
    #[must_use]
    pub const fn new(number: u32, audio: Box<[u8]>, rounds: u32) -> Self {
        Self { number, audio, rounds, at: 0, gain: Gain::FULL, beside: None }
    }

    /// The same with a gain, and, where `beside` says so, heard together with whom the peer talks with.
    #[must_use]
    pub fn at_gain(self, gain: Gain, beside: bool) -> Self {
        let beside = beside
            .then(|| Beside { up: Resampler::up(2), scratch: Vec::with_capacity(WIDE_SAMPLES) });
        Self { gain, beside, ..self }
    }

    /// What tells it from others.
    #[must_use]
    pub const fn number(&self) -> u32 {
        self.number
    }

    /// Whether it is heard together with whom the peer talks with, not instead.
    #[must_use]
    pub const fn is_beside(&self) -> bool {
        self.beside.is_some()
    }

    /// What the peer hears of `frame`, where whom it talks with says `said`.
    fn heard(&mut self, frame: Encoded, said: Sound) -> Sound {
        if self.gain == Gain::FULL && self.beside.is_none() {
            return Sound::Law(Law::Mu, frame);
        }
        let mut own: Pcm = [0; FRAME_SAMPLES];
        g711::decode(Law::Mu, &frame, &mut own);
        let (law, mut under): (Law, Pcm) = (Law::Mu, [0; FRAME_SAMPLES]);
        let law = match (&mut self.beside, said) {
            (None, _) => law,
            (Some(Beside { up, scratch }), Sound::Wide(wide)) => {
                scratch.clear();
                up.push(&own, scratch);
                let mut own = [0; WIDE_SAMPLES];
                for (to, sample) in own.iter_mut().zip(&*scratch) {
                    *to = *sample;
                }
                return Sound::Wide(mixer::laid_over(wide, own, self.gain));
            }
            (Some(_), Sound::Law(law, said)) => {
                g711::decode(law, &said, &mut under);
                law
            }
        };
        let mut heard = SILENCE;
        g711::encode(law, &mixer::laid_over(under, own, self.gain), &mut heard);
        Sound::Law(law, heard)
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
    pub(super) outward: bool,
}

impl Steered {
    /// True while a clip is heard instead of whom the peer talks with.
    pub(super) fn is_playing(&self) -> bool {
        self.playing && self.clip.as_ref().is_some_and(|clip| !clip.is_beside())
    }

    /// Makes of what is `said` by whom the peer talks with what the peer hears. Mostly that is the same, and nothing is
    /// moved.
    pub(super) fn heard(&mut self, said: &mut Sound, out: &mut TickOutput) {
        if self.outward {
            *said = Sound::SILENCE;
        }
        let Some(clip) = self.clip.as_mut().filter(|_| self.playing) else { return };
        if let Some(frame) = clip.frame() {
            *said = clip.heard(frame, *said);
        } else {
            self.playing = false;
            out.event(MediaEvent::Played { clip: clip.number });
        }
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

    /// Presses a key: as an event (RFC 4733), or by its tones where the peer takes none. False when it can hear
    /// neither, since its codec only passes, or too many keys wait.
    pub fn send_digit(&mut self, digit: char) -> bool {
        let hears = |plan: &MediaPlan| plan.dtmf_send.is_some() || !plan.codec.is_passed();
        self.plan.as_ref().is_some_and(hears) && self.digits_out.push(digit)
    }

    /// Lets silence be heard in place of the peer (`inward`), and by it (`outward`). Keys pass all the same.
    pub const fn mute(&mut self, inward: bool, outward: bool) {
        self.steered.inward = inward;
        self.steered.outward = outward;
    }

    /// The same inward alone: what is heard late is heard as if it had been asked for before.
    pub const fn mute_inward(&mut self) {
        self.steered.inward = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::frame::FRAME_SAMPLES;

    fn play(steered: &mut Steered, out: &mut TickOutput) -> u8 {
        let mut said = Sound::Law(Law::Mu, [7; FRAME_SAMPLES]);
        steered.heard(&mut said, out);
        said.as_law(Law::Mu)[0]
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
    fn a_clip_beside_an_agent_is_heard_with_it_as_loud_as_was_asked() {
        let level = |level: i16| Sound::Law(Law::Mu, [g711::ulaw_encode(level); FRAME_SAMPLES]);
        let heard = |clip: Clip, mut said: Sound| {
            let mut steered =
                Steered { clip: Some(Box::new(clip)), playing: true, ..Steered::default() };
            let replaces = steered.is_playing();
            steered.heard(&mut said, &mut TickOutput::new());
            let Sound::Law(Law::Mu, frame) = said else { panic!("{said:?}") };
            (replaces, g711::ulaw_decode(frame[50]))
        };
        let clip = || Clip::new(1, vec![g711::ulaw_encode(8_000); 800].into(), 1);
        let (replaces, alone) = heard(clip().at_gain(Gain::of_db(-6), false), level(1_000));
        assert!(replaces && (alone - 4_010).abs() < 150, "{alone}");
        let (replaces, both) = heard(clip().at_gain(Gain::of_db(-6), true), level(1_000));
        assert!(!replaces && (both - 5_010).abs() < 200, "{both}");
        let mut clip = clip().at_gain(Gain::FULL, true);
        let mut last = Sound::SILENCE;
        for _ in 0..3 {
            let frame = clip.frame().expect("it goes on");
            last = clip.heard(frame, Sound::Wide([1_000; WIDE_SAMPLES]));
        }
        let Sound::Wide(wide) = last else { panic!("{last:?}") };
        assert!((i32::from(wide[300]) - 9_000).abs() < 200, "{}", wide[300]);
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
