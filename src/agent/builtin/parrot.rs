//! `Parrot`: greets, then repeats each thing the caller said after the caller stopped. It proves both
//! directions, turn taking and barge-in without any network.

use crate::agent::builtin::BuiltIn;
use crate::agent::builtin::synthesis;
use crate::agent::builtin::synthesis::Note;
use crate::agent::session::Output;
use crate::audio::frame::FRAME_SAMPLES;
use crate::audio::g711;
use crate::audio::link::FRAME_BYTES;
use crate::audio::vad::LoneVad;
use crate::types::codec::Law;
use bytes::Bytes;
use std::collections::VecDeque;
use std::sync::LazyLock;

/// Frames of 20 ms kept from before the caller was noticed: 0.5 s.
const PRE_ROLL_FRAMES: usize = 25;
/// Frames of speech in a row with which a turn begins, beyond the detector's own two; a shorter sound
/// is a click or a cough.
const ONSET_FRAMES: u32 = 2;
/// Frames of silence in a row with which a turn ends: with the 200 ms that the detector waits for
/// the next word, 500 ms.
const SILENCE_FRAMES: u32 = 15;
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
    vad: LoneVad,
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
    /// The caller speaks.
    Hearing(Utterance),
}

struct Utterance {
    audio: Vec<u8>,
    /// Frames of silence at its end.
    silence: u32,
}

impl Parrot {
    /// A parrot that has heard nothing.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "the other agents are made by new, too")]
    pub fn new() -> Self {
        Self {
            vad: LoneVad::new(),
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
        let audio = self.pre_roll.drain(..).flatten().collect();
        Turn::Hearing(Utterance { audio, silence: 0 })
    }

    fn hear_on(
        &mut self,
        mut said: Utterance,
        frame: &[u8; FRAME_BYTES],
        voice: bool,
        out: &mut Vec<Output>,
    ) -> Turn {
        said.audio.extend_from_slice(frame);
        said.silence = if voice { 0 } else { said.silence + 1 };
        if said.silence < SILENCE_FRAMES && said.audio.len() < TURN_FRAMES_MAX * FRAME_BYTES {
            return Turn::Hearing(said);
        }
        let silence = said.silence as usize * FRAME_BYTES;
        said.audio.truncate(said.audio.len().saturating_sub(silence));
        self.play(Bytes::from(said.audio), out);
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
        let mut samples = [0; FRAME_SAMPLES];
        g711::decode(Law::Mu, frame, &mut samples);
        let voice = self.vad.push(&samples);
        let turn = std::mem::replace(&mut self.turn, Turn::Listening { speech: 0 });
        self.turn = match turn {
            Turn::Listening { speech } => self.listen(speech, frame, voice, out),
            Turn::Hearing(said) => self.hear_on(said, frame, voice, out),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::builtin::synthesis::AMPLITUDE;
    use crate::audio::tone::Tone;

    /// A parrot and what it asked for since the last look.
    struct Lab {
        parrot: Parrot,
        out: Vec<Output>,
    }

    impl Lab {
        /// A parrot whose greeting was played.
        fn greeted() -> Self {
            let mut lab = Self { parrot: Parrot::new(), out: Vec::new() };
            lab.parrot.begin(&mut lab.out);
            lab.parrot.mark_played(1, &mut Vec::new());
            lab.out.clear();
            lab
        }

        fn hear(&mut self, hz: u16, frames: usize) -> Vec<u8> {
            let mut tone = Tone::new(hz, AMPLITUDE);
            let mut audio = Vec::new();
            for _ in 0..frames {
                let frame = tone.frame().map(g711::ulaw_encode);
                self.parrot.hear(&frame, &mut self.out);
                audio.extend_from_slice(&frame);
            }
            audio
        }

        fn take(&mut self) -> Vec<Output> {
            std::mem::take(&mut self.out)
        }

        /// What it says, if that is all it does.
        fn said(&mut self) -> Bytes {
            let out = self.take();
            let [Output::Play(audio), Output::Mark(_), Output::Finish] = &out[..] else {
                panic!("{} outputs", out.len())
            };
            audio.clone()
        }
    }

    const SILENCE: u16 = 0;
    const VOICE: u16 = 300;
    /// 500 ms.
    const TURN_END_FRAMES: usize = 25;

    #[test]
    fn it_greets_with_three_notes() {
        let mut parrot = Parrot::new();
        let mut out = Vec::new();
        parrot.begin(&mut out);
        assert_eq!(out, [Output::Play(greeting()), Output::Mark(1), Output::Finish]);
        assert_eq!(greeting().len(), 8_000, "one second");
    }

    #[test]
    fn it_repeats_what_was_said_with_half_a_second_before_it() {
        let mut lab = Lab::greeted();
        lab.hear(SILENCE, 100);
        let words = lab.hear(VOICE, 60);
        lab.hear(SILENCE, TURN_END_FRAMES - 2);
        assert_eq!(lab.take(), [], "the caller may only be breathing");
        lab.hear(SILENCE, 4);
        let said = lab.said();
        let before = said.windows(words.len()).position(|part| part == words).unwrap();
        let after = said.len() - before - words.len();
        // What the detector needs to notice the voice is part of the half second.
        assert!((2_800..4_000).contains(&before), "{before} bytes before");
        assert!((800..2_400).contains(&after), "{after} bytes after");
    }

    #[test]
    fn silence_and_clicks_are_not_repeated() {
        let mut lab = Lab::greeted();
        for _ in 0..20 {
            lab.hear(SILENCE, 50);
            lab.hear(VOICE, 1);
        }
        assert_eq!(lab.take(), []);
    }

    #[test]
    fn a_caller_who_speaks_over_it_silences_it() {
        let mut lab = Lab::greeted();
        lab.hear(VOICE, 30);
        lab.hear(SILENCE, TURN_END_FRAMES + 2);
        lab.said();
        lab.hear(VOICE, 6);
        assert_eq!(lab.take(), [Output::Clear], "within 120 ms");
        lab.hear(VOICE, 30);
        lab.hear(SILENCE, TURN_END_FRAMES + 2);
        assert!(!lab.said().is_empty(), "and what was said over it is repeated next");
    }

    #[test]
    fn nothing_is_cleared_once_it_was_played() {
        let mut lab = Lab::greeted();
        lab.hear(VOICE, 10);
        assert_eq!(lab.take(), []);
    }

    #[test]
    fn a_turn_ends_by_itself_after_thirty_seconds() {
        let mut lab = Lab::greeted();
        for _ in 0..TURN_FRAMES_MAX / 50 {
            lab.hear(SILENCE, 10);
            lab.hear(VOICE, 40);
        }
        assert_eq!(lab.said().len(), TURN_FRAMES_MAX * FRAME_BYTES);
    }

    #[test]
    fn one_repeats_the_greeting_and_nine_ends_the_call_once() {
        let mut lab = Lab::greeted();
        lab.parrot.digit('1', &mut lab.out);
        assert_eq!(lab.said(), greeting());
        lab.parrot.digit('5', &mut lab.out);
        assert_eq!(lab.take(), []);
        lab.parrot.digit('9', &mut lab.out);
        assert_eq!(lab.take(), [Output::Clear, Output::HangupRequested]);
        lab.parrot.digit('9', &mut lab.out);
        assert_eq!(lab.take(), []);
    }
}
