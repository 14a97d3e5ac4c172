//! `Desk`: what all states of a script share.

use crate::agent::script::address;
use crate::agent::script::answers::Answers;
use crate::agent::script::step::Next;
use crate::agent::script::step::Playing;
use crate::agent::script::step::Prompt;
use crate::agent::script::step::Sound;
use crate::agent::script::step::Step;
use crate::agent::script::vocabulary::Beginning;
use crate::agent::script::vocabulary::Note;
use crate::agent::script::vocabulary::NoteKind;
use crate::agent::script::vocabulary::Output;
use crate::types::limit::SCRIPT_NOTES_MAX;
use bytes::Bytes;
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
    /// The sound that is about to be heard, had while another is heard.
    ahead: Option<Ahead>,
    /// Scripts asked for since anything was heard or done.
    pub(super) idle_scripts: u32,
    notes: usize,
}

/// A sound that is had before it is its turn.
#[derive(Debug)]
struct Ahead {
    sound: Sound,
    job: u32,
    came: Option<Bytes>,
}

/// A sound whose turn it is.
pub(super) enum Loaded {
    /// It is here.
    Here(Bytes),
    /// It is on its way.
    Coming(u32),
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
            ahead: None,
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

    /// A sound of the present script, to be had by whoever does not know that; unless it was had before.
    pub(super) fn load(&mut self, playing: &Playing, out: &mut Vec<Output>) -> Loaded {
        let sound = self.whole_sound(&playing.sound);
        if let Some(Ahead { job, came, .. }) = self.ahead.take_if(|ahead| ahead.sound == sound) {
            return came.map_or(Loaded::Coming(job), Loaded::Here);
        }
        let job = self.new_job();
        out.push(Output::Load { job, sound });
        Loaded::Coming(job)
    }

    /// Has the next sound come while something else is heard, where that takes its time: one at most.
    pub(super) fn look_ahead(&mut self, next: Option<&Playing>, out: &mut Vec<Output>) {
        let Some(sound) = next.map(|playing| self.whole_sound(&playing.sound)) else { return };
        let takes_time = match &sound {
            Sound::Url(_) | Sound::Speech { .. } => true,
            Sound::Asset(_) | Sound::Prompt(_) | Sound::Beep => false,
        };
        if takes_time && self.ahead.as_ref().is_none_or(|ahead| ahead.sound != sound) {
            let job = self.new_job();
            out.push(Output::Load { job, sound: sound.clone() });
            self.ahead = Some(Ahead { sound, job, came: None });
        }
    }

    /// Looks ahead to the next step.
    pub(super) fn look_to_next_step(&mut self, out: &mut Vec<Output>) {
        let next = match self.steps.front() {
            Some(Step::Play(playing)) => Some(playing.clone()),
            Some(Step::Gather(gather)) => match gather.prompts.first() {
                Some(Prompt::Play(playing)) => Some(playing.clone()),
                Some(Prompt::Pause(_)) | None => None,
            },
            _ => None,
        };
        self.look_ahead(next.as_ref(), out);
    }

    /// Keeps a sound until it is its turn; false where it is not the one that is awaited so. One that cannot
    /// be had is asked for once more then.
    pub(super) fn keep_ahead(&mut self, job: u32, result: &Result<Bytes, String>) -> bool {
        let Some(ahead) = self.ahead.as_mut().filter(|ahead| ahead.job == job) else {
            return false;
        };
        match result {
            Ok(audio) => ahead.came = Some(audio.clone()),
            Err(_) => self.ahead = None,
        }
        true
    }

    /// What was had ahead is of a script that is not followed any more.
    pub(super) fn forget_ahead(&mut self) {
        self.ahead = None;
    }

    /// As whoever does not know the present script knows it.
    fn whole_sound(&self, sound: &Sound) -> Sound {
        match sound {
            Sound::Url(url) => Sound::Url(address::resolve(&self.address, url)),
            sound @ (Sound::Asset(_) | Sound::Speech { .. } | Sound::Prompt(_) | Sound::Beep) => {
                sound.clone()
            }
        }
    }
}
