//! A sound that is had and then heard, so many times.

use crate::agent::script::desk::Desk;
use crate::agent::script::desk::Loaded;
use crate::agent::script::step::Playing;
use crate::agent::script::vocabulary::Input;
use crate::agent::script::vocabulary::NoteKind;
use crate::agent::script::vocabulary::Output;
use crate::types::moment::Moment;
use bytes::Bytes;
use std::time::Duration;

/// Bytes of µ-law in a millisecond.
const BYTES_PER_MS: u64 = 8;
/// How much later than it should be a sound may be heard.
const LATE_MAX: Duration = Duration::from_secs(30);

/// A sound on its way to the caller.
#[derive(Debug)]
pub(super) struct Saying {
    rounds_left: u32,
    phase: Phase,
}

#[derive(Debug)]
enum Phase {
    Loading(u32),
    Playing { mark: u64, audio: Bytes, until: Option<Moment> },
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
    pub(super) fn begin(
        now: Moment,
        desk: &mut Desk,
        playing: &Playing,
        out: &mut Vec<Output>,
    ) -> Self {
        let rounds_left = playing.rounds.max(1);
        match desk.load(playing, out) {
            Loaded::Coming(job) => Self { rounds_left, phase: Phase::Loading(job) },
            Loaded::Here(audio) => Self { rounds_left, phase: play(now, desk, audio, out) },
        }
    }

    /// When it is taken for heard although nothing said so. It waits for a caller who is on hold.
    pub(super) const fn deadline(&self) -> Option<Moment> {
        match &self.phase {
            Phase::Loading(_) => None,
            Phase::Playing { until, .. } => *until,
        }
    }

    pub(super) fn handle(
        &mut self,
        now: Moment,
        desk: &mut Desk,
        input: &Input<'_>,
        out: &mut Vec<Output>,
    ) -> Said {
        match &mut self.phase {
            Phase::Loading(job) => {
                let job = *job;
                if let Input::Sound(answered, result) = input
                    && *answered == job
                {
                    return self.loaded(now, desk, result, out);
                }
            }
            Phase::Playing { mark, audio, until } => {
                if let Input::Unheard = input {
                    *until = None;
                }
                let is_heard = matches!(input, Input::MarkPlayed(played) if played == mark);
                if is_heard || until.is_some_and(|until| now >= until) {
                    let audio = audio.clone();
                    return self.played(now, desk, audio, out);
                }
            }
        }
        Said::Busy
    }

    fn loaded(
        &mut self,
        now: Moment,
        desk: &mut Desk,
        result: &Result<Bytes, String>,
        out: &mut Vec<Output>,
    ) -> Said {
        let why = match result {
            Ok(audio) if !audio.is_empty() => {
                self.phase = play(now, desk, audio.clone(), out);
                return Said::Busy;
            }
            Ok(_) => "it is empty",
            Err(why) => why,
        };
        desk.note(NoteKind::SoundFailed, why.to_owned(), out);
        Said::Missing
    }

    fn played(
        &mut self,
        now: Moment,
        desk: &mut Desk,
        audio: Bytes,
        out: &mut Vec<Output>,
    ) -> Said {
        desk.something_happened();
        self.rounds_left = self.rounds_left.saturating_sub(1);
        if self.rounds_left == 0 {
            return Said::Done;
        }
        self.phase = play(now, desk, audio, out);
        Said::Busy
    }
}

/// Puts it on its way to the caller.
fn play(now: Moment, desk: &mut Desk, audio: Bytes, out: &mut Vec<Output>) -> Phase {
    let mark = desk.new_mark();
    out.push(Output::Play(audio.clone()));
    out.push(Output::Mark(mark));
    out.push(Output::Finish);
    let length = Duration::from_millis(audio.len() as u64 / BYTES_PER_MS);
    Phase::Playing { mark, audio, until: Some(now + length + LATE_MAX) }
}
