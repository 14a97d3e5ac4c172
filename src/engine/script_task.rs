//! The task of one script: turns its `Interpreter` with web servers, sounds, the link to the media thread,
//! the agents it opens streams to, and the clock.

mod handle;
mod sounds;
mod streaming;
pub(super) mod web;

pub(super) use crate::engine::script_task::handle::DialNews;
pub(super) use crate::engine::script_task::handle::RecordNews;
pub(super) use crate::engine::script_task::handle::ScriptEvent;
pub(super) use crate::engine::script_task::handle::ScriptHandle;

use crate::agent::breaker;
use crate::agent::script::answers::Answers;
use crate::agent::script::answers::CallFacts;
use crate::agent::script::answers::Form;
use crate::agent::script::answers::ScriptError;
use crate::agent::script::interpreter::Interpreter;
use crate::agent::script::local;
use crate::agent::script::step::Next;
use crate::agent::script::step::RejectReason;
use crate::agent::script::vocabulary::Beginning;
use crate::agent::script::vocabulary::Input;
use crate::agent::script::vocabulary::Output;
use crate::agent::script::vocabulary::Replacement;
use crate::agent::script::vocabulary::Script;
use crate::audio::link::AgentEnd;
use crate::audio::link::LinkEvent;
use crate::clock;
use crate::engine::agent_health::AgentHealth;
use crate::engine::agent_health::Watch;
use crate::engine::agent_task::AgentCall;
use crate::engine::agent_task::AgentEvent;
use crate::engine::agent_task::AgentHandle;
use crate::engine::agent_task::ORPHANED_MAX;
use crate::engine::assets::Assets;
use crate::engine::mailbox;
use crate::engine::script_task::handle::Command;
use crate::engine::script_task::sounds::Sounds;
use crate::engine::script_task::streaming::Streaming;
use crate::engine::script_task::streaming::agent_event;
use crate::engine::script_task::web::Web;
use crate::engine::speech::Speech;
use crate::net::websocket::TrustRoots;
use crate::telemetry::metric;
use crate::telemetry::metric::Counter;
use crate::types::cause::HangupCause;
use crate::types::fault_policy::FaultPolicy;
use crate::types::moment::Moment;
use crate::types::script::ProfileScript;
use bytes::Buf;
use bytes::Bytes;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::task::Poll;
use tokio::task::JoinSet;
use tracing::Instrument;

/// Commands that may wait for a script's task.
const COMMANDS_MAX: usize = 16;
/// Marks of scripts begin here: those of an agent that had the link before are others.
const MARKS: u64 = 1 << 40;

/// What a script's task needs.
pub(super) struct ScriptSetup {
    pub(super) beginning: Beginning,
    /// The parts of a script that the profile holds.
    pub(super) local: Option<Box<ProfileScript>>,
    pub(super) web: Web,
    pub(super) assets: Assets,
    pub(super) speech: Speech,
    pub(super) roots: TrustRoots,
    pub(super) health: AgentHealth,
    pub(super) call: AgentCall,
    pub(super) facts: CallFacts,
    /// It takes over a call that is answered already.
    pub(super) is_answered: bool,
    /// Where recordings of the call are found, up to their names.
    pub(super) recordings: String,
    /// What is done for the caller when the agent of a stream fails.
    pub(super) faults: FaultPolicy,
    /// The link to the call's media.
    pub(super) end: AgentEnd,
}

/// Starts a script; what becomes of it goes to `events`.
pub(super) fn start(setup: ScriptSetup, events: mailbox::Sender<ScriptEvent>) -> ScriptHandle {
    let (commands_in, commands) = mailbox::bounded(COMMANDS_MAX);
    let mut task = Task::new(setup, commands, events);
    tokio::spawn(async move { task.run().await }.in_current_span());
    ScriptHandle(commands_in)
}

/// What was under way in the background.
enum Done {
    Script(u32, Result<Script, ScriptError>),
    Sound(u32, Result<Bytes, String>),
}

struct Task {
    interpreter: Interpreter,
    local: Option<Box<ProfileScript>>,
    web: Web,
    sounds: Sounds,
    roots: TrustRoots,
    health: AgentHealth,
    call: AgentCall,
    facts: CallFacts,
    is_answered: bool,
    recordings: String,
    faults: FaultPolicy,
    /// `None` while the agent of a stream has it.
    end: Option<Box<AgentEnd>>,
    /// The link leads nowhere; then the call counts as over.
    orphaned: Option<Moment>,
    stream: Option<Box<Streaming>>,
    commands: mailbox::Receiver<Command>,
    events: mailbox::Sender<ScriptEvent>,
    jobs: JoinSet<Done>,
    /// What the link did not take yet.
    pending: VecDeque<Pending>,
    /// The last mark that was given to the link and not heard.
    unheard: Option<u64>,
    /// Inputs the task itself made; they go first.
    own: VecDeque<Input<'static>>,
    /// A script was had: that of a web server, or one that needs none.
    led: bool,
    over: bool,
}

enum Pending {
    Audio(Bytes),
    Mark(u64),
    Finish,
}

/// What woke the task.
enum Woken {
    Command(Command),
    Deadline,
    Link(LinkEvent),
    Agent(Option<AgentEvent>),
    Back(Option<AgentEnd>),
    Done(Done),
    /// What was under way panicked.
    Broken,
}

impl Task {
    fn new(
        setup: ScriptSetup,
        commands: mailbox::Receiver<Command>,
        events: mailbox::Sender<ScriptEvent>,
    ) -> Self {
        let sounds = Sounds {
            web: setup.web.clone(),
            assets: setup.assets,
            speech: setup.speech,
            tenant: setup.call.tenant,
        };
        let led = !matches!(setup.beginning.first, Replacement::Next(Next::Url { .. }));
        Self {
            interpreter: Interpreter::new(setup.beginning),
            local: setup.local,
            web: setup.web,
            sounds,
            roots: setup.roots,
            health: setup.health,
            call: setup.call,
            facts: setup.facts,
            is_answered: setup.is_answered,
            recordings: setup.recordings,
            faults: setup.faults,
            end: Some(Box::new(setup.end)),
            orphaned: None,
            stream: None,
            commands,
            events,
            jobs: JoinSet::new(),
            pending: VecDeque::new(),
            unheard: None,
            own: VecDeque::new(),
            led,
            over: false,
        }
    }

    async fn run(&mut self) {
        let mut out = Vec::new();
        self.own.push_back(Input::Started);
        while !self.over {
            match self.own.pop_front() {
                Some(input) => self.interpreter.handle(clock::now(), input, &mut out),
                None => {
                    let woken = self.next().await;
                    self.woken(woken, &mut out).await;
                }
            }
            for output in out.drain(..) {
                self.perform(output).await;
            }
            self.feed();
        }
        if let Some(stream) = self.stream.take() {
            self.hear_out(*stream).await;
        }
    }

    async fn next(&mut self) -> Woken {
        let deadline = self.interpreter.deadline();
        let orphaned = self.orphaned;
        let Self { commands, end, stream, jobs, .. } = self;
        tokio::select! {
            biased;
            command = commands.recv() => Woken::Command(command.unwrap_or(Command::End)),
            () = sleep_until(orphaned) => Woken::Command(Command::End),
            () = sleep_until(deadline) => Woken::Deadline,
            event = link_event(end.as_deref_mut()) => Woken::Link(event),
            woken = agent_event(stream.as_deref_mut()) => woken,
            Some(done) = jobs.join_next(), if !jobs.is_empty() => match done {
                Ok(done) => Woken::Done(done),
                Err(_) => Woken::Broken,
            },
        }
    }

    async fn woken(&mut self, woken: Woken, out: &mut Vec<Output>) {
        let now = clock::now();
        match woken {
            Woken::Command(command) => self.command(command, out),
            Woken::Deadline => self.interpreter.handle(now, Input::DeadlineReached, out),
            Woken::Link(event) => self.linked(now, event, out),
            Woken::Agent(event) => self.agent_said(event).await,
            Woken::Back(end) => self.come_back(end).await,
            Woken::Broken => self.finish(ScriptEvent::Lost(HangupCause::SwitchFault)).await,
            Woken::Done(Done::Script(job, script)) => {
                self.led |= script.is_ok();
                self.interpreter.handle(now, Input::Script(job, script), out);
            }
            Woken::Done(Done::Sound(job, sound)) => {
                self.interpreter.handle(now, Input::Sound(job, sound), out);
            }
        }
    }

    fn command(&mut self, command: Command, out: &mut Vec<Output>) {
        let input = match command {
            Command::Answered => {
                if let Some(handle) = self.stream_handle() {
                    handle.call_answered();
                }
                Input::Answered
            }
            Command::Digit(digit) => {
                if let Some(handle) = self.stream_handle() {
                    handle.digit(digit);
                }
                Input::Digit(digit)
            }
            Command::Relink(end) => return self.relink(end),
            Command::Dialled(DialNews::Answered) => Input::DialAnswered,
            Command::Dialled(DialNews::Ended(answer)) => Input::DialEnded(answer),
            Command::Recorded(RecordNews::Begun(id)) => Input::RecordingBegun(id),
            Command::Recorded(RecordNews::Ready(id, length)) => Input::Recorded(Some((id, length))),
            Command::Recorded(RecordNews::Failed) => Input::Recorded(None),
            Command::Replace(by) => Input::Replaced(*by),
            Command::Reply(answer) => {
                if let Some(handle) = self.stream_handle() {
                    handle.answer(answer);
                }
                return;
            }
            Command::TransferFailed(cause) => {
                if let Some(handle) = self.stream_handle() {
                    handle.transfer_failed(cause);
                }
                return;
            }
            Command::Recount(turns) => {
                if let Some(handle) = self.stream_handle() {
                    handle.recount(turns);
                }
                return;
            }
            Command::End => {
                self.over = true;
                Input::CallEnded
            }
        };
        self.interpreter.handle(clock::now(), input, out);
    }

    /// What was on its way over the link before is taken for heard: it will not be.
    fn relink(&mut self, end: Box<AgentEnd>) {
        self.pending.clear();
        self.orphaned = None;
        match self.stream_handle() {
            Some(handle) => handle.relink(*end),
            None => self.end = Some(end),
        }
        if let Some(mark) = self.unheard.take() {
            self.own.push_back(Input::MarkPlayed(mark));
        }
    }

    fn stream_handle(&self) -> Option<&AgentHandle> {
        self.stream.as_ref().and_then(|stream| stream.handle.as_ref())
    }

    fn linked(&mut self, now: Moment, event: LinkEvent, out: &mut Vec<Output>) {
        let input = match event {
            LinkEvent::Audio(frame) => {
                if self.interpreter.is_listening() {
                    self.interpreter.handle(now, Input::Audio(&frame), out);
                }
                return;
            }
            // Its links are never made for it.
            LinkEvent::WideAudio(_) => return,
            LinkEvent::Digit(digit) => Input::Digit(digit),
            LinkEvent::Mark { id, .. } => {
                let Some(mark) = id.checked_sub(MARKS) else { return };
                self.unheard.take_if(|unheard| *unheard == mark);
                Input::MarkPlayed(mark)
            }
            LinkEvent::Unheard { .. } => Input::Unheard,
            // What was dropped counts as played: the script goes on.
            LinkEvent::BargeIn { .. }
            | LinkEvent::CallerWaits(_)
            | LinkEvent::Cleared { .. }
            | LinkEvent::Drained
            | LinkEvent::Underrun { .. } => return,
            // Another link, or the end of the call, is on its way.
            LinkEvent::Closed => {
                self.orphaned = Some(now + ORPHANED_MAX);
                return;
            }
        };
        self.interpreter.handle(now, input, out);
    }

    async fn perform(&mut self, output: Output) {
        match output {
            Output::Ready => self.tell(ScriptEvent::Ready).await,
            Output::Failed(cause) => self.finish(ScriptEvent::Failed(cause)).await,
            Output::Lost(cause) => self.finish(ScriptEvent::Lost(cause)).await,
            Output::HangUp => self.finish(ScriptEvent::HangUp).await,
            Output::Reject(reason) => {
                let cause = match reason {
                    RejectReason::Rejected => HangupCause::Rejected,
                    RejectReason::Busy => HangupCause::Busy,
                };
                self.finish(ScriptEvent::Rejected(cause)).await;
            }
            Output::Attach(profile) => self.finish(ScriptEvent::Attach(profile)).await,
            Output::Ask { job, next, answers } => self.ask(job, next, &answers),
            Output::Tell { next, answers, stream } => self.tell_web(next, &answers, &stream),
            Output::Load { job, sound } => {
                let sounds = self.sounds.clone();
                self.jobs.spawn(async move { Done::Sound(job, sounds.load(sound).await) });
            }
            Output::Play(audio) => self.pending.push_back(Pending::Audio(audio)),
            Output::Mark(mark) => {
                self.unheard = Some(mark);
                self.pending.push_back(Pending::Mark(mark));
            }
            Output::Finish => self.pending.push_back(Pending::Finish),
            Output::Clear => {
                self.pending.clear();
                self.unheard = None;
                if let Some(end) = &mut self.end {
                    end.clear();
                }
            }
            Output::SendKeys(keys) => self.tell(ScriptEvent::Keys(keys)).await,
            Output::OpenStream(stream) => self.open_stream(*stream),
            Output::CloseStream => self.close_stream(None),
            Output::Dial(dial) => self.tell(ScriptEvent::Dial(dial)).await,
            Output::EndDial => self.tell(ScriptEvent::EndDial).await,
            Output::BeginRecording => self.tell(ScriptEvent::BeginRecording).await,
            Output::EndRecording => self.tell(ScriptEvent::EndRecording).await,
            Output::Note(note) => self.tell(ScriptEvent::Noted(note)).await,
        }
    }

    async fn tell(&mut self, event: ScriptEvent) {
        // A call that is gone drops its handle too, which ends this task.
        if self.events.send(event).await.is_err() {
            tracing::trace!("the call is gone already");
        }
    }

    async fn finish(&mut self, event: ScriptEvent) {
        self.over = true;
        self.tell(event).await;
    }

    /// The call was answered: before this script began, or since.
    fn is_answered(&self) -> bool {
        self.is_answered || self.interpreter.is_answered()
    }

    fn form(&self, answers: &Answers) -> Form {
        let status = if self.is_answered() { "in-progress" } else { "ringing" };
        let mut form = self.facts.form(status);
        answers.write(&mut form, &self.recordings);
        form
    }

    fn ask(&mut self, job: u32, next: Next, answers: &Answers) {
        match next {
            Next::Url { address, method } => {
                let mut watch = self.watch(&address);
                let is_open = watch.as_mut().is_some_and(|watch| !watch.admits());
                // Who is talking already is not left for that.
                if is_open && !self.is_answered() {
                    metric::counter(Counter::AgentsSkipped).increment(1);
                    let skipped = Err(ScriptError::skipped(address));
                    return self.own.push_back(Input::Script(job, skipped));
                }
                let (web, form) = (self.web.clone(), self.form(answers));
                self.jobs.spawn(async move {
                    let script = web.script((address, method), form).await;
                    if let Some(watch) = &mut watch {
                        match &script {
                            Ok(_) => watch.served(),
                            Err(_) => watch.failed(HangupCause::AgentUnreachable),
                        }
                    }
                    Done::Script(job, script)
                });
            }
            Next::Part(part) => {
                // A script of a web server has none.
                let local = self.local.as_deref();
                let steps = local.map(|local| local::part(local, part, answers.digits.as_deref()));
                let script = Script { steps: steps.unwrap_or_default(), ..Script::default() };
                self.own.push_back(Input::Script(job, Ok(script)));
            }
        }
    }

    /// The part of the call in the circuit of a web server, until one of them leads the call.
    fn watch(&self, address: &str) -> Option<Watch> {
        let (health, tenant) = (self.health.clone(), self.call.tenant);
        (!self.led).then(|| Watch::new(health, tenant, breaker::endpoint(address)))
    }

    fn tell_web(&self, next: Next, answers: &Answers, stream: &str) {
        let Next::Url { address, method } = next else { return };
        let mut form = self.form(answers);
        if answers.recording.is_none() {
            answers.write_stream(&mut form, (&self.facts, stream), &clock::wall_now().to_string());
        }
        let web = self.web.clone();
        // Its time is bounded, and a call that ends meanwhile does not end it.
        tokio::spawn(async move { web.tell((address, method), &form).await }.in_current_span());
    }

    /// Gives the link what it takes.
    fn feed(&mut self) {
        let Some(end) = &mut self.end else { return };
        // A script goes on with what was heard.
        end.wait_for_caller(true);
        while let Some(first) = self.pending.front_mut() {
            match first {
                Pending::Audio(audio) => {
                    let taken = end.push_audio(audio);
                    audio.advance(taken);
                    if !audio.is_empty() {
                        return;
                    }
                }
                Pending::Mark(mark) => {
                    if !end.push_mark(MARKS + *mark) {
                        return;
                    }
                }
                Pending::Finish => {
                    if !end.finish() {
                        return;
                    }
                }
            }
            self.pending.pop_front();
        }
    }
}

/// Waits for the next event of the link; for ever while an agent has it.
async fn link_event(end: Option<&mut AgentEnd>) -> LinkEvent {
    let Some(end) = end else { return std::future::pending().await };
    poll_fn(|context| {
        end.register(context.waker());
        end.next().map_or(Poll::Pending, Poll::Ready)
    })
    .await
}

/// Waits for `moment`, or for ever.
async fn sleep_until(moment: Option<Moment>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(clock::instant(moment).into()).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
