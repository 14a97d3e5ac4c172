//! `Interpreter`: follows a script step by step, as a pure state machine.

use crate::agent::script::answers::Answers;
use crate::agent::script::answers::ScriptError;
use crate::agent::script::answers::StreamAnswer;
use crate::agent::script::desk::Desk;
use crate::agent::script::desk::Flow;
use crate::agent::script::dialling::Dialling;
use crate::agent::script::gathering::Gathering;
use crate::agent::script::listening::Listening;
use crate::agent::script::recording::Recording;
use crate::agent::script::saying::Said;
use crate::agent::script::saying::Saying;
use crate::agent::script::step::Next;
use crate::agent::script::step::Step;
use crate::agent::script::vocabulary::Beginning;
use crate::agent::script::vocabulary::Input;
use crate::agent::script::vocabulary::NoteKind;
use crate::agent::script::vocabulary::Output;
use crate::agent::script::vocabulary::Replacement;
use crate::agent::script::vocabulary::Script;
use crate::types::cause::HangupCause;
use crate::types::limit::SCRIPTS_IDLE_MAX;
use crate::types::moment::Moment;
use std::time::Duration;

/// Twilio's number for scripts that lead from one to the next and nowhere.
const TOO_MANY_REDIRECTS: u32 = 11_215;

/// What a `w` among keys stands for.
const KEY_WAIT: Duration = Duration::from_millis(500);
/// What a key takes to be sent, with the gap behind it.
const KEY_LENGTH: Duration = Duration::from_millis(200);

/// Follows scripts.
#[derive(Debug)]
pub struct Interpreter {
    state: State,
    desk: Desk,
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
    Dialling(Box<Dialling>),
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

impl Interpreter {
    /// One that does nothing before [`Input::Started`].
    #[must_use]
    pub const fn new(beginning: Beginning) -> Self {
        Self { state: State::Idle, desk: Desk::new(beginning) }
    }

    /// Applies `input`; appends what must be done to `out`. Total: a senseless input changes nothing.
    pub fn handle(&mut self, now: Moment, input: Input<'_>, out: &mut Vec<Output>) {
        match input {
            Input::Answered => self.desk.is_answered = true,
            Input::CallEnded => return self.end(now, out),
            Input::Replaced(by) => return self.replace(now, by, out),
            Input::Sound(job, ref result) if self.desk.keep_ahead(job, result) => return,
            _ => (),
        }
        let flow = match &mut self.state {
            State::Idle => return self.idle(now, &input, out),
            State::Unanswered if self.desk.is_answered => Flow::Advance,
            State::Unanswered | State::Over => Flow::Stay,
            State::Asking(job, is_fallback) => {
                let (job, is_fallback) = (*job, *is_fallback);
                return self.asking(now, (job, is_fallback), input, out);
            }
            State::Saying(saying) => match saying.handle(now, &mut self.desk, &input, out) {
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
            State::Dialling(dialling) => dialling.handle(now, &mut self.desk, &input, out),
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
            State::Saying(saying) => saying.deadline(),
            State::Pausing(until, _) => Some(*until),
            State::Gathering(gathering) => gathering.deadline(),
            State::Dialling(dialling) => dialling.deadline(),
            State::Recording(recording) => recording.deadline(),
            State::Listening(listening) => Some(listening.deadline()),
            State::Idle
            | State::Unanswered
            | State::Asking(..)
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
        let is_start = matches!(input, Input::Started);
        if is_start && self.desk.beginning.after_answer {
            self.desk.tell_ready(out);
        }
        // Who is told of the answer was started before it.
        let waits = self.desk.beginning.after_answer && !self.desk.is_answered;
        let begins = !waits && (is_start || self.desk.is_ready);
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
        // The parts of a script within the switch are no news.
        if !script.address.is_empty() {
            let detail = format!("{} steps", script.steps.len());
            self.desk.note(NoteKind::Script, detail, out);
        }
        for remark in script.remarks {
            self.desk.note(NoteKind::Remark, remark, out);
        }
        self.desk.forget_ahead();
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
            let error = ScriptError { code: TOO_MANY_REDIRECTS, why, url, is_skipped: false };
            return self.give_up(&error, out);
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
        let cause = if error.is_skipped {
            HangupCause::AgentCircuitOpen
        } else {
            HangupCause::AgentUnreachable
        };
        self.lose(cause, out);
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
                self.desk.look_to_next_step(out);
                return self.desk.tell_ready(out);
            }
            let leads_on = matches!(step, Step::Play(_) | Step::Pause(_) | Step::SendKeys(_));
            if self.run(now, step, out) {
                // What comes next for sure is had meanwhile, so that there is no gap before it.
                if leads_on {
                    self.desk.look_to_next_step(out);
                }
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
                self.state = State::Saying(Saying::begin(now, &mut self.desk, &playing, out));
            }
            Step::SendKeys(keys) => return self.send_keys(now, &keys, out),
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
                self.state = State::Dialling(Box::new(Dialling::begin(now, dial, out)));
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

    /// Sends the keys up to a wait; the rest is a step of its own after that. False where there is no wait.
    fn send_keys(&mut self, now: Moment, keys: &str, out: &mut Vec<Output>) -> bool {
        let first: String = keys.chars().take_while(|key| *key != 'w').collect();
        let rest = keys.trim_start_matches(|key| key != 'w');
        let left = rest.trim_start_matches('w');
        // Texts of a script are short: both counts fit.
        let (sent, waits) = (first.len() as u32, (rest.len() - left.len()) as u32);
        if sent > 0 {
            out.push(Output::SendKeys(first));
        }
        if waits == 0 {
            return false;
        }
        if !left.is_empty() {
            self.desk.steps.push_front(Step::SendKeys(left.to_owned()));
        }
        let pause = KEY_LENGTH * sent + KEY_WAIT * waits;
        self.state = State::Pausing(now + pause, pause);
        true
    }

    fn streaming(&mut self, now: Moment, input: &Input<'_>, out: &mut Vec<Output>) {
        let State::Streaming(streaming) = &mut self.state else { return };
        if let Input::StreamReady = input
            && !streaming.is_ready
        {
            streaming.is_ready = true;
            let tell = streaming.tell(None);
            self.desk.something_happened();
            self.desk.tell_ready(out);
            out.extend(tell);
        } else if let Input::StreamEnded(failed) = input {
            let answer = failed.map_or(StreamAnswer::Stopped, StreamAnswer::Failed);
            out.extend(streaming.tell(Some(answer)));
            let Some(cause) = failed else { return self.advance(now, out) };
            self.desk.note(NoteKind::StreamFailed, cause.code().to_owned(), out);
            if self.desk.steps.is_empty() {
                self.lose(*cause, out);
            } else {
                self.advance(now, out);
            }
        }
    }

    /// Another script takes over: what runs is ended first, so that nobody speaks into it.
    fn replace(&mut self, now: Moment, by: Replacement, out: &mut Vec<Output>) {
        match &self.state {
            State::Over => return,
            State::Streaming(_) => out.push(Output::CloseStream),
            State::Dialling(dialling) => dialling.leave(out),
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
            // Whom the caller was with is gone already, and only a recording was waited for.
            State::Dialling(dialling) if dialling.is_over() => self.begin(now, by, out),
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
            State::Dialling(dialling) => dialling.call_ended(now, &self.desk, out),
            State::Idle
            | State::Unanswered
            | State::Asking(..)
            | State::Saying(_)
            | State::Pausing(..)
            | State::Gathering(_)
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

#[cfg(test)]
mod tests;
