//! Waiting for the end of what the caller says.

use crate::agent::script::answers::Answers;
use crate::agent::script::desk::Desk;
use crate::agent::script::desk::Flow;
use crate::agent::script::step::Listen;
use crate::agent::script::step::Next;
use crate::agent::script::vocabulary::Input;
use crate::audio::frame::FRAME_SAMPLES;
use crate::audio::g711;
use crate::audio::link::FRAME_BYTES;
use crate::audio::vad::LoneVad;
use crate::types::codec::Law;
use crate::types::moment::Moment;
use std::time::Duration;

/// What a frame lasts.
const FRAME: Duration = Duration::from_millis(20);
/// Frames of speech in a row with which a turn begins, beyond the detector's own: shorter is a click.
const ONSET_FRAMES: u32 = 3;
/// After so much talk in one go it is an answer, finished or not.
const SPEECH_MAX: Duration = Duration::from_secs(60);

/// Tells speech from silence.
#[derive(Debug)]
pub(super) struct Ear {
    vad: LoneVad,
    /// Frames of speech in a row.
    voiced: u32,
    /// Whether anything was said.
    pub(super) has_spoken: bool,
    /// How long nothing was said.
    pub(super) silence: Duration,
}

impl Ear {
    pub(super) fn new() -> Self {
        Self { vad: LoneVad::new(), voiced: 0, has_spoken: false, silence: Duration::ZERO }
    }

    pub(super) fn hear(&mut self, frame: &[u8; FRAME_BYTES]) {
        let mut samples = [0; FRAME_SAMPLES];
        g711::decode(Law::Mu, frame, &mut samples);
        if self.vad.push(&samples) {
            self.voiced += 1;
            self.silence = Duration::ZERO;
            self.has_spoken |= self.voiced >= ONSET_FRAMES;
        } else {
            self.voiced = 0;
            self.silence += FRAME;
        }
    }
}

/// Waiting for the end of what the caller says.
#[derive(Debug)]
pub(super) struct Listening {
    listen: Listen,
    ear: Ear,
    /// When nothing is waited for any more.
    until: Moment,
    speaks: bool,
}

impl Listening {
    pub(super) fn begin(now: Moment, listen: Listen) -> Self {
        Self { listen, ear: Ear::new(), until: now + listen.patience, speaks: false }
    }

    pub(super) const fn deadline(&self) -> Moment {
        self.until
    }

    pub(super) fn handle(&mut self, now: Moment, desk: &mut Desk, input: &Input<'_>) -> Flow {
        if let Input::Audio(frame) = input {
            self.ear.hear(frame);
        }
        if let Input::Digit(digit) = input {
            desk.something_happened();
            let digits = Some(digit.to_string());
            let answers = Answers { digits, ..Answers::default() };
            return Flow::Ask(Next::Part(self.listen.spoke), answers);
        }
        if self.ear.has_spoken && !self.speaks {
            self.speaks = true;
            self.until = now + SPEECH_MAX;
        }
        let said = self.speaks && (self.ear.silence >= self.listen.silence || now >= self.until);
        let part = match (said, now >= self.until) {
            (true, _) => self.listen.spoke,
            (false, true) => self.listen.silent,
            (false, false) => return Flow::Stay,
        };
        desk.something_happened();
        Flow::Ask(Next::Part(part), Answers::default())
    }
}
