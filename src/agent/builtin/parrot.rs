//! `Parrot`: greets, then repeats each thing the caller said after the caller stopped. It proves both
//! directions, turn taking and barge-in without any network.

use crate::agent::builtin::BuiltIn;
use crate::agent::builtin::synthesis;
use crate::agent::builtin::synthesis::Note;
use crate::agent::session::Output;
use crate::audio::link::FRAME_BYTES;
use bytes::Bytes;
use std::collections::VecDeque;
use std::sync::LazyLock;

/// Frames of 20 ms kept from before the caller was noticed: 0.5 s.
const PRE_ROLL_FRAMES: usize = 25;
/// Frames of speech in a row with which a turn begins; a shorter sound is a click or a cough.
const ONSET_FRAMES: u32 = 4;
/// Frames of silence in a row with which a turn ends: 500 ms.
const SILENCE_FRAMES: u32 = 25;
/// Of these, frames kept behind the last word.
const TAIL_FRAMES: u32 = 5;
/// Frames after which a turn ends by itself: 30 s. What the caller says further is the next turn.
const TURN_FRAMES_MAX: usize = 1_500;

const GREETING: &[Note] =
    &[Note { hz: 440, ms: 300 }, Note { hz: 660, ms: 300 }, Note { hz: 880, ms: 400 }];

fn greeting() -> Bytes {
    static AUDIO: LazyLock<Bytes> = LazyLock::new(|| synthesis::melody(GREETING));
    AUDIO.clone()
}

/// Repeats what the caller says.
pub struct Parrot {
    vad: Vad,
    turn: Turn,
    /// The latest frames, while the caller says nothing.
    pre_roll: VecDeque<[u8; FRAME_BYTES]>,
    /// The mark behind what is being played; `None` when nothing is.
    playing: Option<u64>,
    marks: u64,
    over: bool,
}

enum Turn {
    /// The caller is silent; this many frames of speech came in a row.
    Listening { speech: u32 },
    /// The caller speaks; this many frames of silence came in a row.
    Hearing { said: Vec<u8>, silence: u32 },
}

impl Parrot {
    /// A parrot that has heard nothing.
    #[must_use]
    pub fn new() -> Self {
        Self {
            vad: Vad::new(),
            turn: Turn::Listening { speech: 0 },
            pre_roll: VecDeque::with_capacity(PRE_ROLL_FRAMES),
            playing: None,
            marks: 0,
            over: false,
        }
    }

    fn listen(
        &mut self,
        speech: u32,
        frame: &[u8; FRAME_BYTES],
        voice: bool,
        out: &mut Vec<Output>,
    ) -> Turn {
        if self.pre_roll.len() >= PRE_ROLL_FRAMES {
            self.pre_roll.pop_front();
        }
        self.pre_roll.push_back(*frame);
        let speech = if voice { speech + 1 } else { 0 };
        if speech < ONSET_FRAMES {
            return Turn::Listening { speech };
        }
        self.fall_silent(out);
        let said = self.pre_roll.drain(..).flatten().collect();
        Turn::Hearing { said, silence: 0 }
    }

    fn hear_turn(
        &mut self,
        mut said: Vec<u8>,
        silence: u32,
        frame: &[u8; FRAME_BYTES],
        voice: bool,
        out: &mut Vec<Output>,
    ) -> Turn {
        said.extend_from_slice(frame);
        let silence = if voice { 0 } else { silence + 1 };
        if silence < SILENCE_FRAMES && said.len() < TURN_FRAMES_MAX * FRAME_BYTES {
            return Turn::Hearing { said, silence };
        }
        let surplus = silence.saturating_sub(TAIL_FRAMES) as usize * FRAME_BYTES;
        said.truncate(said.len().saturating_sub(surplus));
        self.play(Bytes::from(said), out);
        Turn::Listening { speech: 0 }
    }

    fn play(&mut self, audio: Bytes, out: &mut Vec<Output>) {
        self.marks += 1;
        self.playing = Some(self.marks);
        out.push(Output::Play(audio));
        out.push(Output::Mark(self.marks));
        out.push(Output::Finish);
    }

    fn fall_silent(&mut self, out: &mut Vec<Output>) {
        if self.playing.take().is_some() {
            out.push(Output::Clear);
        }
    }
}

impl BuiltIn for Parrot {
    fn begin(&mut self, out: &mut Vec<Output>) {
        self.play(greeting(), out);
    }

    fn hear(&mut self, frame: &[u8; FRAME_BYTES], out: &mut Vec<Output>) {
        let voice = self.vad.push(frame);
        let turn = std::mem::replace(&mut self.turn, Turn::Listening { speech: 0 });
        self.turn = match turn {
            Turn::Listening { speech } => self.listen(speech, frame, voice, out),
            Turn::Hearing { said, silence } => self.hear_turn(said, silence, frame, voice, out),
        };
    }

    fn digit(&mut self, digit: char, out: &mut Vec<Output>) {
        match digit {
            '1' => {
                self.fall_silent(out);
                self.play(greeting(), out);
            }
            '9' => {
                self.fall_silent(out);
                if !std::mem::replace(&mut self.over, true) {
                    out.push(Output::HangupRequested);
                }
            }
            _ => {}
        }
    }

    fn mark_played(&mut self, id: u64, _out: &mut Vec<Output>) {
        if self.playing == Some(id) {
            self.playing = None;
        }
    }
}

#[derive(Debug, Default)]
struct Vad;

impl Vad {
    const fn new() -> Self {
        Self
    }

    fn push(&mut self, frame: &[u8; FRAME_BYTES]) -> bool {
        // Silence of either sign is 0xff or 0x7f; louder samples have lower magnitudes of these bits.
        frame.iter().filter(|byte| (**byte & 0x7f) < 0x50).count() > FRAME_BYTES / 8
    }
}
