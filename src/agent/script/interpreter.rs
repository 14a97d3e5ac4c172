//! `Interpreter`: follows a script step by step, as a pure state machine.

#![warn(clippy::wildcard_enum_match_arm)]

use crate::agent::script::address;
use crate::agent::script::answers::Answers;
use crate::agent::script::answers::DialAnswer;
use crate::agent::script::answers::DialStatus;
use crate::agent::script::answers::ScriptError;
use crate::agent::script::answers::StreamAnswer;
use crate::agent::script::gathering::Gathering;
use crate::agent::script::listening::Listening;
use crate::agent::script::recording::Recording;
use crate::agent::script::saying::Said;
use crate::agent::script::saying::Saying;
use crate::agent::script::step::Dial;
use crate::agent::script::step::Next;
use crate::agent::script::step::Playing;
use crate::agent::script::step::RejectReason;
use crate::agent::script::step::Sound;
use crate::agent::script::step::Step;
use crate::agent::script::step::Stream;
use crate::audio::link::FRAME_BYTES;
use crate::types::cause::HangupCause;
use crate::types::id::AiProfileId;
use crate::types::id::RecordingId;
use crate::types::limit::SCRIPT_NOTES_MAX;
use crate::types::limit::SCRIPTS_IDLE_MAX;
use crate::types::moment::Moment;
use bytes::Bytes;
use std::collections::VecDeque;
use std::time::Duration;

/// Twilio's number for scripts that lead from one to the next and nowhere.
const TOO_MANY_REDIRECTS: u32 = 11_215;

/// A script that was had.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Script {
    /// Its steps.
    pub steps: Vec<Step>,
    /// What it asks for and will not get, for people.
    pub remarks: Vec<String>,
    /// Where it came from; relative addresses in it are beside this one.
    pub address: String,
}

/// What happened.
#[derive(Clone, Debug)]
pub enum Input<'a> {
    /// The script is wanted; the first input.
    Started,
    /// The call was answered.
    Answered,
    /// What was asked for came, or cannot be had.
    Script(u32, Result<Script, ScriptError>),
    /// A sound came, or why it cannot be had.
    Sound(u32, Result<Bytes, String>),
    /// What was queued before this mark was heard.
    MarkPlayed(u64),
    /// The caller pressed a key.
    Digit(char),
    /// 20 ms of the caller, µ-law at 8 kHz.
    Audio(&'a [u8; FRAME_BYTES]),
    /// The agent of the stream is there.
    StreamReady,
    /// The stream is over; `None`: its agent closed it.
    StreamEnded(Option<HangupCause>),
    /// Whom the caller is to be connected with answered.
    DialAnswered,
    /// Whom the caller was connected with is gone, or could not be had.
    DialEnded(DialAnswer),
    /// The recording runs.
    RecordingBegun(RecordingId),
    /// The recording is whole, and so long; `None`: there is none.
    Recorded(Option<(RecordingId, Duration)>),
    /// Another script takes the place of the present one at once.
    Replaced(Replacement),
    /// The call is over.
    CallEnded,
    /// The moment given by [`Interpreter::deadline`] is here.
    DeadlineReached,
}

/// A script that takes another's place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Replacement {
    /// It has to be asked for.
    Next(Next),
    /// Here it is.
    Script(Box<Script>),
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Tell the call that there is somebody who speaks.
    Ready,
    /// Tell the call that there never was.
    Failed(HangupCause),
    /// Tell the call that there is nobody any more.
    Lost(HangupCause),
    /// End the call; its last words were heard.
    HangUp,
    /// Refuse the call.
    Reject(RejectReason),
    /// Get the next script; answered by [`Input::Script`] with this number.
    Ask {
        /// Which.
        job: u32,
        /// Where; an address is a whole one.
        next: Next,
        /// What is told.
        answers: Answers,
    },
    /// Tell a web server, whose answer nobody waits for.
    Tell {
        /// Where; an address is a whole one.
        next: Next,
        /// What is told.
        answers: Answers,
        /// The stream it is about.
        stream: String,
    },
    /// Get a sound; answered by [`Input::Sound`] with this number.
    Load {
        /// Which.
        job: u32,
        /// What; a URL is a whole one.
        sound: Sound,
    },
    /// Queue this µ-law audio for the caller.
    Play(Bytes),
    /// Queue a mark behind it.
    Mark(u64),
    /// What was queued is all for now.
    Finish,
    /// Drop what was queued.
    Clear,
    /// Send the caller's side these keys.
    SendKeys(String),
    /// Let this agent speak and listen; ended by [`Input::StreamEnded`].
    OpenStream(Box<Stream>),
    /// End it.
    CloseStream,
    /// Connect the caller with somebody else; ended by [`Input::DialEnded`].
    Dial(Box<Dial>),
    /// End that.
    EndDial,
    /// Record the call; answered by [`Input::RecordingBegun`], ended by [`Input::Recorded`].
    BeginRecording,
    /// End that.
    EndRecording,
    /// Let the agent of another profile take over. Nothing follows.
    Attach(AiProfileId),
    /// Something for the record.
    Note(Note),
}

/// Something for the record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// What.
    pub what: NoteKind,
    /// More of it, for people.
    pub detail: String,
}

/// What is noted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoteKind {
    /// A script came.
    Script,
    /// It asks for something it will not get.
    Remark,
    /// A script is of no use.
    ScriptFailed,
    /// The script for that case is asked for.
    Fallback,
    /// A sound is left out.
    SoundFailed,
    /// An agent's stream failed.
    StreamFailed,
    /// A recording failed.
    RecordFailed,
    /// Another script took over.
    Replaced,
}

impl NoteKind {
    /// The spelling of records.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Script => "script",
            Self::Remark => "remark",
            Self::ScriptFailed => "script_failed",
            Self::Fallback => "fallback_script",
            Self::SoundFailed => "sound_failed",
            Self::StreamFailed => "stream_failed",
            Self::RecordFailed => "record_failed",
            Self::Replaced => "script_replaced",
        }
    }
}

/// What a script begins with.
#[derive(Clone, Debug)]
pub struct Beginning {
    /// The first script.
    pub first: Replacement,
    /// The one for when another cannot be had.
    pub fallback: Option<Next>,
    /// It begins when the call is answered: the call is one of ours.
    pub after_answer: bool,
}

/// Follows scripts.
#[derive(Debug)]
pub struct Interpreter {
    state: State,
    pub(super) desk: Desk,
}

/// What all states share.
#[derive(Debug)]
pub(super) struct Desk {
    beginning: Beginning,
    steps: VecDeque<Step>,
    /// Where the present script came from.
    address: String,
    is_ready: bool,
    is_answered: bool,
    jobs: u32,
    marks: u64,
    /// Scripts asked for since anything was heard or done.
    idle_scripts: u32,
    notes: usize,
}

#[derive(Debug)]
enum State {
    /// Nothing is wanted yet.
    Idle,
    /// The next step needs the call to be answered.
    Unanswered,
    /// A script was asked for; true: the one for when another failed.
    Asking(u32, bool),
    Saying(Saying),
    Pausing(Moment, Duration),
    Gathering(Box<Gathering>),
    Streaming(Box<Streaming>),
    Dialling(Dialling),
    Recording(Box<Recording>),
    Listening(Box<Listening>),
    /// What runs ends, and this takes its place.
    Leaving(Replacement),
    Over,
}

#[derive(Debug)]
struct Streaming {
    name: String,
    status: Option<Next>,
    is_ready: bool,
}

#[derive(Debug)]
struct Dialling {
    next: Option<Next>,
    limit: Option<Duration>,
    /// When they have talked for as long as they may.
    until: Option<Moment>,
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

impl Interpreter {
    /// One that does nothing before [`Input::Started`].
    #[must_use]
    pub const fn new(beginning: Beginning) -> Self {
        let desk = Desk {
            beginning,
            steps: VecDeque::new(),
            address: String::new(),
            is_ready: false,
            is_answered: false,
            jobs: 0,
            marks: 0,
            idle_scripts: 0,
            notes: 0,
        };
        Self { state: State::Idle, desk }
    }

    /// Applies `input`; appends what must be done to `out`. Total: a senseless input changes nothing.
    pub fn handle(&mut self, now: Moment, input: Input<'_>, out: &mut Vec<Output>) {
        match input {
            Input::Answered => self.desk.is_answered = true,
            Input::CallEnded => return self.end(now, out),
            Input::Replaced(by) => return self.replace(now, by, out),
            Input::Started
            | Input::Script(..)
            | Input::Sound(..)
            | Input::MarkPlayed(_)
            | Input::Digit(_)
            | Input::Audio(_)
            | Input::StreamReady
            | Input::StreamEnded(_)
            | Input::DialAnswered
            | Input::DialEnded(_)
            | Input::RecordingBegun(_)
            | Input::Recorded(_)
            | Input::DeadlineReached => (),
        }
        let flow = match &mut self.state {
            State::Idle => return self.idle(now, &input, out),
            State::Unanswered if self.desk.is_answered => Flow::Advance,
            State::Unanswered | State::Over => Flow::Stay,
            State::Asking(job, is_fallback) => {
                let (job, is_fallback) = (*job, *is_fallback);
                return self.asking(now, (job, is_fallback), input, out);
            }
            State::Saying(saying) => match saying.handle(&mut self.desk, &input, out) {
                Said::Busy => Flow::Stay,
                Said::Done | Said::Missing => Flow::Advance,
            },
            State::Pausing(until, length) => {
                if now < *until {
                    Flow::Stay
                } else {
                    if !length.is_zero() {
                        self.desk.something_happened();
                    }
                    Flow::Advance
                }
            }
            State::Gathering(gathering) => gathering.handle(now, &mut self.desk, &input, out),
            State::Streaming(_) => return self.streaming(now, &input, out),
            State::Dialling(_) => return self.dialling(now, &input, out),
            State::Recording(recording) => recording.handle(now, &mut self.desk, &input, out),
            State::Listening(listening) => listening.handle(now, &mut self.desk, &input),
            State::Leaving(_) => return self.leaving(now, &input, out),
        };
        self.follow(now, flow, out);
    }

    /// The next moment at which this wants [`Input::DeadlineReached`].
    #[must_use]
    pub fn deadline(&self) -> Option<Moment> {
        match &self.state {
            State::Pausing(until, _) => Some(*until),
            State::Gathering(gathering) => gathering.deadline(),
            State::Dialling(dialling) => dialling.until,
            State::Recording(recording) => recording.deadline(),
            State::Listening(listening) => Some(listening.deadline()),
            State::Idle
            | State::Unanswered
            | State::Asking(..)
            | State::Saying(_)
            | State::Streaming(_)
            | State::Leaving(_)
            | State::Over => None,
        }
    }

    /// True while what the caller says is listened to: else its audio need not be handed over.
    #[must_use]
    pub const fn is_listening(&self) -> bool {
        matches!(self.state, State::Recording(_) | State::Listening(_))
    }

    /// True from the answer of the call on.
    #[must_use]
    pub const fn is_answered(&self) -> bool {
        self.desk.is_answered
    }

    fn follow(&mut self, now: Moment, flow: Flow, out: &mut Vec<Output>) {
        match flow {
            Flow::Stay => (),
            Flow::Advance => self.advance(now, out),
            Flow::Ask(next, answers) => self.ask(next, answers, out),
        }
    }

    fn idle(&mut self, now: Moment, input: &Input<'_>, out: &mut Vec<Output>) {
        let begins = match input {
            Input::Started if self.desk.beginning.after_answer => {
                self.desk.tell_ready(out);
                self.desk.is_answered
            }
            Input::Started => true,
            Input::Answered => self.desk.is_ready,
            Input::Script(..)
            | Input::Sound(..)
            | Input::MarkPlayed(_)
            | Input::Digit(_)
            | Input::Audio(_)
            | Input::StreamReady
            | Input::StreamEnded(_)
            | Input::DialAnswered
            | Input::DialEnded(_)
            | Input::RecordingBegun(_)
            | Input::Recorded(_)
            | Input::Replaced(_)
            | Input::CallEnded
            | Input::DeadlineReached => false,
        };
        if begins {
            let first = self.desk.beginning.first.clone();
            self.begin(now, first, out);
        }
    }

    fn begin(&mut self, now: Moment, first: Replacement, out: &mut Vec<Output>) {
        match first {
            Replacement::Next(next) => self.ask(next, Answers::default(), out),
            Replacement::Script(script) => self.take(now, *script, out),
        }
    }

    /// A script that came is followed from its first step on.
    fn take(&mut self, now: Moment, script: Script, out: &mut Vec<Output>) {
        let detail = format!("{} steps", script.steps.len());
        self.desk.note(NoteKind::Script, detail, out);
        for remark in script.remarks {
            self.desk.note(NoteKind::Remark, remark, out);
        }
        self.desk.steps = script.steps.into();
        self.desk.address = script.address;
        self.advance(now, out);
    }

    /// Asks for another script, unless scripts have led nowhere for too long.
    fn ask(&mut self, next: Next, answers: Answers, out: &mut Vec<Output>) {
        let next = self.desk.whole(&next);
        self.desk.idle_scripts += 1;
        if self.desk.idle_scripts > SCRIPTS_IDLE_MAX {
            let why = format!("{SCRIPTS_IDLE_MAX} scripts in a row let nothing be heard or done");
            let url = self.desk.address.clone();
            return self.give_up(&ScriptError { code: TOO_MANY_REDIRECTS, why, url }, out);
        }
        let job = self.desk.new_job();
        self.state = State::Asking(job, false);
        out.push(Output::Ask { job, next, answers });
    }

    fn asking(
        &mut self,
        now: Moment,
        (job, is_fallback): (u32, bool),
        input: Input<'_>,
        out: &mut Vec<Output>,
    ) {
        let Input::Script(answered, result) = input else { return };
        if answered != job {
            return;
        }
        match result {
            Ok(script) => self.take(now, script, out),
            Err(error) => match self.desk.beginning.fallback.clone() {
                Some(next) if !is_fallback => {
                    let detail = format!("{}: {}", error.code, error.why);
                    self.desk.note(NoteKind::ScriptFailed, detail, out);
                    self.desk.note(NoteKind::Fallback, String::new(), out);
                    let job = self.desk.new_job();
                    self.state = State::Asking(job, true);
                    let answers = Answers { error: Some(error), ..Answers::default() };
                    out.push(Output::Ask { job, next, answers });
                }
                Some(_) | None => self.give_up(&error, out),
            },
        }
    }

    /// Nothing is left to follow: the call goes to whoever takes over.
    fn give_up(&mut self, error: &ScriptError, out: &mut Vec<Output>) {
        let detail = format!("{}: {}", error.code, error.why);
        self.desk.note(NoteKind::ScriptFailed, detail, out);
        self.lose(HangupCause::AgentUnreachable, out);
    }

    fn lose(&mut self, cause: HangupCause, out: &mut Vec<Output>) {
        self.state = State::Over;
        out.push(if self.desk.is_ready { Output::Lost(cause) } else { Output::Failed(cause) });
    }

    /// Goes on with the next step; after the last one the call ends.
    fn advance(&mut self, now: Moment, out: &mut Vec<Output>) {
        while let Some(step) = self.desk.steps.pop_front() {
            if needs_answer(&step) && !self.desk.is_answered {
                self.desk.steps.push_front(step);
                self.state = State::Unanswered;
                return self.desk.tell_ready(out);
            }
            if self.run(now, step, out) {
                return;
            }
        }
        self.state = State::Over;
        out.push(Output::HangUp);
    }

    /// Runs a step; false where it is done at once.
    fn run(&mut self, now: Moment, step: Step, out: &mut Vec<Output>) -> bool {
        match step {
            Step::Play(playing) => {
                self.state = State::Saying(Saying::begin(&mut self.desk, &playing, out));
            }
            Step::SendKeys(keys) => {
                out.push(Output::SendKeys(keys));
                return false;
            }
            Step::Pause(length) => self.state = State::Pausing(now + length, length),
            Step::Gather(gather) => {
                let gathering = Gathering::begin(now, &mut self.desk, *gather, out);
                self.state = State::Gathering(Box::new(gathering));
            }
            Step::Stream(stream) => {
                let status = stream.status.as_ref().map(|next| self.desk.whole(next));
                let name = stream.name.clone();
                self.state =
                    State::Streaming(Box::new(Streaming { name, status, is_ready: false }));
                out.push(Output::OpenStream(stream));
            }
            Step::Dial(dial) => {
                let next = dial.next.clone();
                self.state = State::Dialling(Dialling { next, limit: dial.limit, until: None });
                out.push(Output::Dial(dial));
            }
            Step::Record(record) => {
                let recording = Recording::begin(now, &mut self.desk, *record, out);
                self.state = State::Recording(Box::new(recording));
            }
            Step::Listen(listen) => {
                self.state = State::Listening(Box::new(Listening::begin(now, listen)));
            }
            Step::Redirect(next) => self.ask(next, Answers::default(), out),
            Step::Attach(profile) => {
                self.state = State::Over;
                out.push(Output::Attach(profile));
            }
            Step::Reject(reason) => {
                self.state = State::Over;
                out.push(Output::Reject(reason));
            }
            Step::HangUp => {
                self.state = State::Over;
                out.push(Output::HangUp);
            }
        }
        true
    }

    fn streaming(&mut self, now: Moment, input: &Input<'_>, out: &mut Vec<Output>) {
        let State::Streaming(streaming) = &mut self.state else { return };
        match input {
            Input::StreamReady if !streaming.is_ready => {
                streaming.is_ready = true;
                let tell = streaming.tell(None);
                self.desk.something_happened();
                self.desk.tell_ready(out);
                out.extend(tell);
            }
            Input::StreamEnded(failed) => {
                let answer =
                    if failed.is_some() { StreamAnswer::Failed } else { StreamAnswer::Stopped };
                out.extend(streaming.tell(Some(answer)));
                let Some(cause) = failed else { return self.advance(now, out) };
                self.desk.note(NoteKind::StreamFailed, cause.code().to_owned(), out);
                if self.desk.steps.is_empty() {
                    self.lose(*cause, out);
                } else {
                    self.advance(now, out);
                }
            }
            Input::StreamReady
            | Input::Started
            | Input::Answered
            | Input::Script(..)
            | Input::Sound(..)
            | Input::MarkPlayed(_)
            | Input::Digit(_)
            | Input::Audio(_)
            | Input::DialAnswered
            | Input::DialEnded(_)
            | Input::RecordingBegun(_)
            | Input::Recorded(_)
            | Input::Replaced(_)
            | Input::CallEnded
            | Input::DeadlineReached => (),
        }
    }

    fn dialling(&mut self, now: Moment, input: &Input<'_>, out: &mut Vec<Output>) {
        let State::Dialling(dialling) = &mut self.state else { return };
        match input {
            Input::DialAnswered => dialling.until = dialling.limit.map(|limit| now + limit),
            Input::DialEnded(answer) => {
                if answer.status == DialStatus::Completed {
                    self.desk.something_happened();
                }
                let answers = Answers { dial: Some(*answer), ..Answers::default() };
                let flow = match dialling.next.take() {
                    Some(next) => Flow::Ask(next, answers),
                    None => Flow::Advance,
                };
                self.follow(now, flow, out);
            }
            Input::DeadlineReached if dialling.until.is_some_and(|until| now >= until) => {
                dialling.until = None;
                out.push(Output::EndDial);
            }
            Input::DeadlineReached
            | Input::Started
            | Input::Answered
            | Input::Script(..)
            | Input::Sound(..)
            | Input::MarkPlayed(_)
            | Input::Digit(_)
            | Input::Audio(_)
            | Input::StreamReady
            | Input::StreamEnded(_)
            | Input::RecordingBegun(_)
            | Input::Recorded(_)
            | Input::Replaced(_)
            | Input::CallEnded => (),
        }
    }

    /// Another script takes over: what runs is ended first, so that nobody speaks into it.
    fn replace(&mut self, now: Moment, by: Replacement, out: &mut Vec<Output>) {
        match &self.state {
            State::Over => return,
            State::Streaming(_) => out.push(Output::CloseStream),
            State::Dialling(_) => out.push(Output::EndDial),
            State::Leaving(_) => (),
            State::Recording(recording) => {
                if recording.is_running() {
                    out.push(Output::EndRecording);
                }
                out.push(Output::Clear);
            }
            State::Saying(_) | State::Gathering(_) => out.push(Output::Clear),
            State::Idle
            | State::Unanswered
            | State::Asking(..)
            | State::Pausing(..)
            | State::Listening(_) => (),
        }
        self.desk.note(NoteKind::Replaced, String::new(), out);
        self.desk.something_happened();
        self.desk.steps.clear();
        // What is still under way for the one before comes to nothing.
        self.desk.new_job();
        match &self.state {
            State::Streaming(_) | State::Dialling(_) | State::Leaving(_) => {
                self.state = State::Leaving(by);
            }
            State::Idle => self.desk.beginning.first = by,
            State::Unanswered
            | State::Asking(..)
            | State::Saying(_)
            | State::Pausing(..)
            | State::Gathering(_)
            | State::Recording(_)
            | State::Listening(_)
            | State::Over => self.begin(now, by, out),
        }
    }

    fn leaving(&mut self, now: Moment, input: &Input<'_>, out: &mut Vec<Output>) {
        if matches!(input, Input::StreamEnded(_) | Input::DialEnded(_))
            && let State::Leaving(by) = std::mem::replace(&mut self.state, State::Over)
        {
            self.begin(now, by, out);
        }
    }

    /// The call is over: whoever waits for what came of a step is told of that.
    fn end(&mut self, now: Moment, out: &mut Vec<Output>) {
        match &mut self.state {
            State::Recording(recording) => recording.call_ended(now, &self.desk, out),
            State::Streaming(streaming) => out.extend(streaming.tell(Some(StreamAnswer::Stopped))),
            State::Idle
            | State::Unanswered
            | State::Asking(..)
            | State::Saying(_)
            | State::Pausing(..)
            | State::Gathering(_)
            | State::Dialling(_)
            | State::Listening(_)
            | State::Leaving(_)
            | State::Over => (),
        }
        self.state = State::Over;
    }
}

/// Whether a step makes no sense before the caller hears anything.
const fn needs_answer(step: &Step) -> bool {
    match step {
        Step::Play(_)
        | Step::SendKeys(_)
        | Step::Gather(_)
        | Step::Dial(_)
        | Step::Record(_)
        | Step::Listen(_)
        | Step::Attach(_) => true,
        // An agent is called while it rings, and answers the call by being there.
        Step::Stream(_) | Step::Pause(_) | Step::Redirect(_) | Step::Reject(_) | Step::HangUp => {
            false
        }
    }
}

impl Streaming {
    fn tell(&self, answer: Option<StreamAnswer>) -> Option<Output> {
        let next = self.status.clone()?;
        let answers = Answers { stream: answer, ..Answers::default() };
        Some(Output::Tell { next, answers, stream: self.name.clone() })
    }
}

impl Desk {
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

#[cfg(test)]
mod tests;
