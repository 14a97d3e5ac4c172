//! A sound that is had and then heard, so many times.

use crate::agent::script::desk::Desk;
use crate::agent::script::step::Playing;
use crate::agent::script::vocabulary::Input;
use crate::agent::script::vocabulary::NoteKind;
use crate::agent::script::vocabulary::Output;
use bytes::Bytes;

/// A sound on its way to the caller.
#[derive(Debug)]
pub(super) struct Saying {
    rounds_left: u32,
    phase: Phase,
}

#[derive(Debug)]
enum Phase {
    Loading(u32),
    Playing { mark: u64, audio: Bytes },
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// It is still had or heard.
    Busy,
    /// It was heard.
    Done,
    /// It cannot be had.
    Missing,
}

impl Saying {
    pub(super) fn begin(desk: &mut Desk, playing: &Playing, out: &mut Vec<Output>) -> Self {
        let job = desk.load(playing, out);
        Self { rounds_left: playing.rounds.max(1), phase: Phase::Loading(job) }
    }

    pub(super) fn handle(
        &mut self,
        desk: &mut Desk,
        input: &Input<'_>,
        out: &mut Vec<Output>,
    ) -> Said {
        match &self.phase {
            Phase::Loading(job) => {
                let job = *job;
                if let Input::Sound(answered, result) = input
                    && *answered == job
                {
                    return self.loaded(desk, result, out);
                }
            }
            Phase::Playing { mark, audio } => {
                if let Input::MarkPlayed(played) = input
                    && played == mark
                {
                    let audio = audio.clone();
                    return self.played(desk, audio, out);
                }
            }
        }
        Said::Busy
    }

    fn loaded(
        &mut self,
        desk: &mut Desk,
        result: &Result<Bytes, String>,
        out: &mut Vec<Output>,
    ) -> Said {
        let why = match result {
            Ok(audio) if !audio.is_empty() => {
                self.play(desk, audio.clone(), out);
                return Said::Busy;
            }
            Ok(_) => "it is empty",
            Err(why) => why,
        };
        desk.note(NoteKind::SoundFailed, why.to_owned(), out);
        Said::Missing
    }

    fn played(&mut self, desk: &mut Desk, audio: Bytes, out: &mut Vec<Output>) -> Said {
        desk.something_happened();
        self.rounds_left = self.rounds_left.saturating_sub(1);
        if self.rounds_left == 0 {
            return Said::Done;
        }
        self.play(desk, audio, out);
        Said::Busy
    }

    fn play(&mut self, desk: &mut Desk, audio: Bytes, out: &mut Vec<Output>) {
        let mark = desk.new_mark();
        out.push(Output::Play(audio.clone()));
        out.push(Output::Mark(mark));
        out.push(Output::Finish);
        self.phase = Phase::Playing { mark, audio };
    }
}
