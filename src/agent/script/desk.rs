//! `Desk`: what all states of a script share.

use crate::agent::script::address;
use crate::agent::script::answers::Answers;
use crate::agent::script::step::Next;
use crate::agent::script::step::Playing;
use crate::agent::script::step::Sound;
use crate::agent::script::step::Step;
use crate::agent::script::vocabulary::Beginning;
use crate::agent::script::vocabulary::Note;
use crate::agent::script::vocabulary::NoteKind;
use crate::agent::script::vocabulary::Output;
use crate::types::limit::SCRIPT_NOTES_MAX;
use std::collections::VecDeque;

/// What all states share.
#[derive(Debug)]
pub(super) struct Desk {
    pub(super) beginning: Beginning,
    pub(super) steps: VecDeque<Step>,
    /// Where the present script came from.
    pub(super) address: String,
    pub(super) is_ready: bool,
    pub(super) is_answered: bool,
    jobs: u32,
    marks: u64,
    /// Scripts asked for since anything was heard or done.
    pub(super) idle_scripts: u32,
    notes: usize,
}

/// What follows in a state.
pub(super) enum Flow {
    /// It goes on.
    Stay,
    /// The next step.
    Advance,
    /// Another script.
    Ask(Next, Answers),
}

impl Desk {
    pub(super) const fn new(beginning: Beginning) -> Self {
        Self {
            beginning,
            steps: VecDeque::new(),
            address: String::new(),
            is_ready: false,
            is_answered: false,
            jobs: 0,
            marks: 0,
            idle_scripts: 0,
            notes: 0,
        }
    }

    pub(super) fn tell_ready(&mut self, out: &mut Vec<Output>) {
        if !std::mem::replace(&mut self.is_ready, true) {
            out.push(Output::Ready);
        }
    }

    pub(super) fn new_job(&mut self) -> u32 {
        self.jobs = self.jobs.wrapping_add(1);
        self.jobs
    }

    pub(super) fn new_mark(&mut self) -> u64 {
        self.marks += 1;
        self.marks
    }

    /// Scripts lead somewhere.
    pub(super) const fn something_happened(&mut self) {
        self.idle_scripts = 0;
    }

    pub(super) fn note(&mut self, what: NoteKind, detail: String, out: &mut Vec<Output>) {
        self.notes += 1;
        if self.notes <= SCRIPT_NOTES_MAX {
            out.push(Output::Note(Note { what, detail }));
        }
    }

    /// The whole address of what the present script names.
    pub(super) fn whole(&self, next: &Next) -> Next {
        match next {
            Next::Url { address, method } => {
                let address = address::resolve(&self.address, address);
                Next::Url { address, method: *method }
            }
            Next::Part(part) => Next::Part(*part),
        }
    }

    /// A sound of the present script, to be had by whoever does not know that.
    pub(super) fn load(&mut self, playing: &Playing, out: &mut Vec<Output>) -> u32 {
        let job = self.new_job();
        let sound = match &playing.sound {
            Sound::Url(url) => Sound::Url(address::resolve(&self.address, url)),
            sound @ (Sound::Asset(_) | Sound::Speech { .. } | Sound::Prompt(_) | Sound::Beep) => {
                sound.clone()
            }
        };
        out.push(Output::Load { job, sound });
        job
    }
}
