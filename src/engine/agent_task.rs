//! The task of one agent: drives its `AgentSession` with the WebSocket, the link to the media thread
//! and the clock.

mod alarm;
mod connection;
mod handle;
mod playing;
mod waking;

use crate::agent::breaker;
use crate::agent::builtin::announce::Announcement;
use crate::agent::session::AgentSession;
use crate::agent::session::Input;
use crate::agent::session::Output;
use crate::agent::session::PeerClose;
use crate::audio::link::AgentEnd;
use crate::audio::link::LinkEvent;
use crate::clock;
use crate::engine::agent_health::AgentHealth;
use crate::engine::agent_health::Watch;
use crate::engine::agent_task::alarm::Alarm;
use crate::engine::agent_task::connection::Connection;
use crate::engine::agent_task::connection::Dial;
use crate::engine::agent_task::connection::Dialling;
use crate::engine::agent_task::connection::Heard;
use crate::engine::agent_task::handle::Command;
use crate::engine::agent_task::playing::Pending;
use crate::engine::agent_task::waking::Wake;
use crate::engine::awaited::AwaitedAgents;
use crate::engine::call_metrics;
use crate::engine::mailbox;
use crate::net::websocket::ConnectError;
use crate::net::websocket::Kind;
use crate::net::websocket::TrustRoots;
use crate::telemetry::metric;
use crate::telemetry::metric::Counter;
use crate::telemetry::metric::Histogram;
use crate::types::agent::AgentSettings;
use crate::types::agent_trouble::FaultWord;
use crate::types::cause::HangupCause;
use crate::types::moment::Moment;
use bytes::Bytes;
use std::collections::VecDeque;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio_tungstenite::tungstenite::Message;
use tracing::Instrument;
use tracing::Span;

pub use crate::engine::agent_task::handle::AgentHandle;

pub use crate::agent::session::AgentCall;
pub use crate::agent::session::AgentCounters;
pub use crate::agent::session::Said;

/// Commands that may wait for an agent's task: an answer, an end, and a few keys between them.
const COMMANDS_MAX: usize = 16;
/// An agent that was there for so long did what it is for.
const SERVED_AFTER: Duration = Duration::from_secs(5);
/// How long an agent whose link's other end is gone waits for another link, or for the end of its call. One of both is on
/// its way: it may have been sent before that end went, and have yet to pass through somebody else's hands.
pub(super) const ORPHANED_MAX: Duration = Duration::from_secs(1);
/// What an agent's task needs.
pub struct AgentSetup {
    /// The agent part of the AI profile.
    pub settings: AgentSettings,
    /// The call it is for.
    pub call: AgentCall,
    /// The agent's end of the link to the call's media.
    pub end: AgentEnd,
    /// Whom to trust on `wss://`.
    pub roots: TrustRoots,
    /// Gets the link back once the agent is through; `None`: it goes with it.
    pub give_back: Option<oneshot::Sender<AgentEnd>>,
    /// Where agents are awaited that dial us.
    pub awaited: AwaitedAgents,
    /// How endpoints of agents fare.
    pub health: AgentHealth,
    /// Another agent would take over from it.
    pub next: bool,
}

/// What a call learns from its agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AgentEvent {
    /// The agent is to dial us, naming this id.
    Awaited(String),
    /// The agent is there.
    Ready,
    /// The agent never came; the task ends.
    Failed(HangupCause, Option<FaultWord>),
    /// The agent came and is gone; the task ends.
    Lost(HangupCause, Option<FaultWord>),
    /// Its connection broke and is made anew; what it had said is played.
    Interrupted(HangupCause, Option<FaultWord>),
    /// Nothing more is heard of it, until it is [`Self::Resumed`] or [`Self::Lost`].
    Missed,
    /// It is there again.
    Resumed,
    /// The agent wants the call ended, and its last words were played.
    HangupRequested,
    /// The agent wants the caller connected with this number or SIP address; to be answered.
    TransferRequested(String),
    /// The agent wants these keys sent to the caller's side; to be answered.
    DigitsRequested(String),
    /// Something was said, as the agent has it.
    Said(Said),
    /// What went over the link: the last event.
    Notes(Box<AgentCounters>),
}

/// Starts the agent of `setup`; what becomes of it goes to `events`.
#[must_use]
pub fn start(setup: AgentSetup, events: mailbox::Sender<AgentEvent>) -> AgentHandle {
    let session = AgentSession::new(&setup.settings, &setup.call);
    let dialling = Dialling::new(&setup.settings, &setup.call, (setup.roots, setup.awaited));
    let (tenant, health) = (setup.call.tenant, setup.health);
    let watch = breaker::endpoint_of(&setup.settings.kind)
        .map(|endpoint| Box::new(Watch::new(health, tenant, endpoint)));
    let agent = Agent { session, dialling, watch, next: setup.next };
    let mut end = setup.end;
    end.speak(setup.settings.kind.law());
    spawn(agent, end, setup.give_back, events)
}

/// Starts an agent that plays `announcement` and then asks for the end of the call.
#[must_use]
pub fn start_announcement(
    announcement: Announcement,
    end: AgentEnd,
    events: mailbox::Sender<AgentEvent>,
) -> AgentHandle {
    let session = AgentSession::announcement(announcement);
    let agent = Agent { session, dialling: Dialling::Never, watch: None, next: false };
    spawn(agent, end, None, events)
}

/// Whom a task is for.
struct Agent {
    session: AgentSession,
    dialling: Dialling,
    /// Its part in the circuit of its endpoint, where it has one.
    watch: Option<Box<Watch>>,
    /// Another would take over from it.
    next: bool,
}

fn spawn(
    agent: Agent,
    end: AgentEnd,
    give_back: Option<oneshot::Sender<AgentEnd>>,
    events: mailbox::Sender<AgentEvent>,
) -> AgentHandle {
    let (commands_in, commands) = mailbox::bounded(COMMANDS_MAX);
    let mut task = Task {
        session: agent.session,
        watch: agent.watch,
        commands,
        socket: None,
        dial: None,
        alarm: Alarm::default(),
        now: None,
        orphaned: None,
        level: 0,
        served: false,
        next: agent.next,
        skipped: false,
        full: false,
        deaf: false,
        over: false,
        pending: VecDeque::new(),
        end,
        events,
        dialling: agent.dialling,
        span: Span::current(),
        fault: None,
        ready_at: None,
        dialled_at: None,
    };
    // The task lies in its future once: taken by value by what it awaits, it would lie there twice.
    let life = async move {
        task.run().await;
        let span = task.span.clone();
        if let Some(socket) = span.in_scope(|| task.finish(give_back)) {
            Box::pin(socket.close().instrument(span)).await;
        }
    };
    tokio::spawn(life);
    AgentHandle::new(commands_in)
}

// In this order, because the first is what is used whenever the task is polled, and nothing of it is in a cache by then.
#[repr(C)]
struct Task {
    session: AgentSession,
    watch: Option<Box<Watch>>,
    commands: mailbox::Receiver<Command>,
    /// By pointer: it is most of a task's size, and built-in agents have none.
    socket: Option<Box<Connection>>,
    dial: Option<Dial>,
    alarm: Alarm,
    /// When the task was polled, until it waits: what happens in one go happens at one moment.
    now: Option<Moment>,
    /// The link leads nowhere; then the call counts as over.
    orphaned: Option<Moment>,
    /// What the session was last told that waits to be played, in ms.
    level: u32,
    /// It knows that the agent serves, since it was last asked to let it be dialled.
    served: bool,
    next: bool,
    /// The circuit lets no call through.
    skipped: bool,
    /// The link takes no more for now, and nothing is read from the agent.
    full: bool,
    /// The session knows that nothing is read.
    deaf: bool,
    over: bool,
    /// What the link did not take yet; while there is any, nothing is read from the agent.
    pending: VecDeque<Pending>,
    end: AgentEnd,
    events: mailbox::Sender<AgentEvent>,
    dialling: Dialling,
    /// Of the call, for what is logged.
    span: Span,
    /// What became of its last dial or connection, where that is known.
    fault: Option<FaultWord>,
    /// Since when the agent is there.
    ready_at: Option<Moment>,
    /// When the agent was dialled first, until it is there.
    dialled_at: Option<Moment>,
}

impl Task {
    /// Lets go of the link and tells the counters: neither waits for a WebSocket that ends slowly.
    /// Gives back the socket that is left to close.
    fn finish(mut self, give_back: Option<oneshot::Sender<AgentEnd>>) -> Option<Box<Connection>> {
        // One that stayed did what it is for, though it may have said nothing.
        if self.ready_at.is_some_and(|ready| clock::now().since(ready) >= SERVED_AFTER) {
            self.note_served();
        }
        let notes = Box::new(self.session.counters());
        tracing::debug!(counters = ?notes, "agent's link ended");
        call_metrics::count_agent(&notes);
        if self.events.try_send(AgentEvent::Notes(notes)).is_err() {
            tracing::trace!("nobody wants the agent's counters");
        }
        if let Some(back) = give_back
            && back.send(self.end).is_err()
        {
            tracing::trace!("nobody wants the agent's link");
        }
        self.socket
    }

    fn handle(&mut self, wake: Wake, out: &mut Vec<Output>) {
        let now = self.now();
        let session = &mut self.session;
        match wake {
            Wake::Command(Command::Answered) => session.handle(now, Input::CallAnswered, out),
            Wake::Command(Command::Digit(digit)) => self.handle_digit(now, digit, out),
            Wake::Command(Command::Reply(answer)) => {
                session.handle(now, Input::Answered(answer), out);
            }
            Wake::Command(Command::TransferFailed(cause)) => {
                session.handle(now, Input::TransferFailed(cause), out);
            }
            Wake::Command(Command::Relink(end)) => {
                let law = self.end.spoken();
                self.end = *end;
                self.end.speak(law);
                self.orphaned = None;
                // What waits was for the link before.
                self.pending.clear();
                self.full = false;
                session.handle(now, Input::Relinked, out);
            }
            Wake::Command(Command::Recount(turns)) => {
                for said in &turns {
                    session.recount(said);
                }
            }
            Wake::Command(Command::End) => self.call_ended(now, out),
            Wake::Deadline if self.orphaned.is_some_and(|until| now >= until) => {
                self.call_ended(now, out);
            }
            Wake::Deadline => session.handle(now, Input::DeadlineReached, out),
            Wake::Link => {}
            Wake::Skipped => session.handle(now, Input::ConnectSkipped, out),
            Wake::Dialled(result) => match *result {
                Ok(connection) => {
                    self.socket = Some(Box::new(connection));
                    session.handle(now, Input::Connected, out);
                }
                Err(error) => {
                    self.fault = error.word();
                    tracing::debug!(error = &error as &dyn std::error::Error, "agent not reached");
                    let is_forbidden = matches!(error, ConnectError::Forbidden);
                    session.handle(
                        now,
                        if is_forbidden { Input::ConnectForbidden } else { Input::ConnectFailed },
                        out,
                    );
                }
            },
            Wake::Heard(Heard::Message(message)) => self.handle_message(now, &message, out),
            // It had it where it lay.
            Wake::Heard(Heard::Given) => {}
            Wake::Heard(Heard::Ended(close, word)) => {
                self.socket = None;
                self.fault = word.and_then(FaultWord::of);
                session.handle(now, Input::PeerClosed(close), out);
            }
            Wake::Heard(Heard::Blocked) => session.handle(now, Input::SendBlocked, out),
            // What of that the session is to know it is told with what else keeps its agent from being read.
            Wake::Heard(Heard::Waits) => {}
            Wake::Heard(Heard::Ready) => session.handle(now, Input::SendReady, out),
        }
    }

    /// An agent is not told of keys that are not for it.
    fn handle_digit(&mut self, now: Moment, digit: char, out: &mut Vec<Output>) {
        if !self.end.keys_are_private() {
            self.session.handle(now, Input::Digit(digit), out);
        }
    }

    fn handle_link(&mut self, now: Moment, event: LinkEvent, out: &mut Vec<Output>) {
        let session = &mut self.session;
        match event {
            LinkEvent::Audio(frame) => session.handle(now, Input::Audio(&frame), out),
            LinkEvent::WideAudio(wide) => session.handle(now, Input::WideAudio(&wide), out),
            LinkEvent::Digit(digit) => self.handle_digit(now, digit, out),
            LinkEvent::Mark { id, .. } => session.handle(now, Input::MarkPlayed(id), out),
            LinkEvent::Cleared { samples, .. } => {
                session.handle(now, Input::Cleared(samples), out);
            }
            LinkEvent::Drained => session.handle(now, Input::Drained, out),
            // The media count their underruns themselves.
            LinkEvent::Underrun { .. } => {}
            LinkEvent::BargeIn { heard_ms } => {
                session.handle(now, Input::BargeIn(heard_ms), out);
            }
            LinkEvent::Unheard { heard_ms } => {
                session.handle(now, Input::Unheard(heard_ms), out);
            }
            LinkEvent::CallerWaits(waits) => session.handle(now, Input::CallerWaits(waits), out),
            LinkEvent::Closed => self.orphaned = Some(now + ORPHANED_MAX),
        }
    }

    fn handle_message(&mut self, now: Moment, message: &Message, out: &mut Vec<Output>) {
        let session = &mut self.session;
        match message {
            Message::Text(text) => session.handle(now, Input::Text(text.as_bytes()), out),
            Message::Binary(bytes) => session.handle(now, Input::Binary(bytes), out),
            Message::Pong(_) => session.handle(now, Input::Pong, out),
            Message::Close(frame) => {
                let code = frame.as_ref().map(|frame| u16::from(frame.code));
                self.fault = code.and_then(|code| FaultWord::of(&format!("closed_{code}")));
                session.handle(now, Input::PeerClosed(PeerClose::Frame(code)), out);
            }
            // Pings are answered by the protocol; single frames are never read.
            Message::Ping(_) | Message::Frame(_) => {}
        }
    }

    fn call_ended(&mut self, now: Moment, out: &mut Vec<Output>) {
        self.session.handle(now, Input::CallEnded, out);
        self.over = true;
    }

    async fn perform(&mut self, out: &mut Vec<Output>) {
        for output in out.drain(..) {
            match output {
                Output::Connect => self.connect(false).await,
                Output::Reconnect => self.connect(true).await,
                Output::Send(text) => self.send(Kind::Text, text),
                Output::SendBinary(bytes) => self.send(Kind::Binary, bytes),
                Output::Ping => self.ping(),
                Output::Play(audio) => {
                    self.note_served();
                    self.pending.push_back(Pending::Audio(audio));
                }
                Output::PlayWide(audio) => {
                    self.note_served();
                    self.pending.push_back(Pending::WideAudio(audio));
                }
                Output::Mark(id) => self.pending.push_back(Pending::Mark(id)),
                Output::Finish => self.pending.push_back(Pending::Finish),
                Output::Clear => {
                    self.pending.clear();
                    self.end.clear();
                }
                Output::Hold(held) => self.end.hold_playout(held),
                // An open WebSocket is closed when the task ends, which it does then.
                Output::Close => {
                    if self.dial.take().is_some() {
                        self.fault = FaultWord::of("timeout");
                    }
                }
                Output::Ready => {
                    (self.ready_at, self.fault) = (Some(clock::now()), None);
                    self.note_connect("connected");
                    self.tell(AgentEvent::Ready).await;
                }
                Output::Failed(cause) => {
                    self.over = true;
                    self.note_connect("failed");
                    self.note_failure(cause);
                    let fault = self.fault();
                    self.tell(AgentEvent::Failed(cause, fault)).await;
                }
                Output::Lost(cause) => {
                    self.over = true;
                    self.note_failure(cause);
                    let fault = self.fault();
                    self.tell(AgentEvent::Lost(cause, fault)).await;
                }
                Output::Interrupted(cause) => {
                    self.note_failure(cause);
                    let fault = self.fault();
                    self.tell(AgentEvent::Interrupted(cause, fault)).await;
                }
                Output::Missed => self.tell(AgentEvent::Missed).await,
                Output::Resumed => {
                    (self.ready_at, self.fault) = (Some(clock::now()), None);
                    self.tell(AgentEvent::Resumed).await;
                }
                Output::HangupRequested => {
                    self.note_served();
                    self.tell(AgentEvent::HangupRequested).await;
                }
                Output::TransferRequested(to) => {
                    self.tell(AgentEvent::TransferRequested(to)).await;
                }
                Output::DigitsRequested(digits) => {
                    self.tell(AgentEvent::DigitsRequested(digits)).await;
                }
                Output::Said(said) => self.tell(AgentEvent::Said(said)).await,
            }
        }
    }

    /// Dials the agent, unless its circuit is open. In a call that nobody else would take over the agent is
    /// dialled again all the same: there is nothing to lose.
    async fn connect(&mut self, again: bool) {
        // One that was open and led to nothing.
        (self.socket, self.dial) = (None, None);
        self.served = false;
        if let Some(watch) = &mut self.watch
            && !watch.admits()
            && (self.next || !again)
        {
            metric::counter(Counter::AgentsSkipped).increment(1);
            self.skipped = true;
            return;
        }
        if !again {
            self.dialled_at.get_or_insert_with(clock::now);
        }
        let (dial, awaited) = self.dialling.dial(again);
        self.dial = Some(dial);
        if let Some(connection) = awaited {
            self.tell(AgentEvent::Awaited(connection)).await;
        }
    }

    /// Told for each frame, of which all but the first say nothing new.
    fn note_served(&mut self) {
        if std::mem::replace(&mut self.served, true) {
            return;
        }
        if let Some(watch) = &mut self.watch {
            watch.served();
        }
    }

    fn note_failure(&mut self, cause: HangupCause) {
        self.ready_at = None;
        if let Some(watch) = &mut self.watch {
            watch.failed(cause);
        }
    }

    /// More of why the agent failed than its cause: its own word, or what became of its connection.
    fn fault(&mut self) -> Option<FaultWord> {
        self.session.fault().or_else(|| self.fault.take())
    }

    /// Built-in agents are not dialled.
    fn note_connect(&mut self, outcome: &'static str) {
        if let Some(since) = self.dialled_at.take() {
            let took = clock::now().since(since);
            metric::observe_labelled(Histogram::AgentConnect, outcome, took);
        }
    }

    fn send(&mut self, kind: Kind, message: Bytes) {
        if let Some(socket) = &mut self.socket {
            socket.send(kind, message);
        }
    }

    fn ping(&mut self) {
        if let Some(socket) = &mut self.socket {
            socket.write(Message::Ping(Bytes::new()));
        }
    }

    async fn tell(&mut self, event: AgentEvent) {
        // A call that is gone drops its handle too, which ends this task.
        if let Err(unheard) = self.events.send(event).await {
            tracing::trace!(event = ?unheard, "the call is gone already");
        }
        // There may have been no room for long.
        self.now = None;
    }
}
