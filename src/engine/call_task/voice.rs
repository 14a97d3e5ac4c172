//! Who speaks in a call: its agent, or the fallback announcement in its place.

use crate::agent::builtin::announce::Announcement;
use crate::audio::link::AgentEnd;
use crate::audio::link::MediaEnd;
use crate::audio::link::short_link;
use crate::call::event::AgentWish;
use crate::call::event::CallEvent;
use crate::call::input::AgentInput;
use crate::call::input::AgentOutput;
use crate::call::input::Input;
use crate::call::steer::Order;
use crate::call::steer::Senseless;
use crate::call::transfer::TransferNews;
use crate::call::transfer::TransferRequest;
use crate::cdr::TimedEvent;
use crate::clock;
use crate::engine::agent_task;
use crate::engine::agent_task::AgentCall;
use crate::engine::agent_task::AgentCounters;
use crate::engine::agent_task::AgentEvent;
use crate::engine::agent_task::AgentHandle;
use crate::engine::agent_task::AgentSetup;
use crate::engine::agent_task::Said;
use crate::engine::call_task::Task;
use crate::engine::call_task::departed;
use crate::engine::call_task::departed::Aside;
use crate::engine::call_task::script::ScriptPlan;
use crate::engine::mailbox;
use crate::engine::media_thread::MediaId;
use crate::engine::originate;
use crate::engine::originate::TransferTarget;
use crate::engine::script_task::ScriptEvent;
use crate::engine::script_task::ScriptHandle;
use crate::engine::switch::SaidTurn;
use crate::media::listener::Listener;
use crate::types::barge_in::BargeInMode;
use crate::types::cause::HangupCause;
use crate::types::limit::KEYS_SENT_MAX;
use crate::types::limit::SAID_TURNS_MAX;
use std::future::Future;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

/// Events of an agent that wait for its call.
const AGENT_EVENTS_MAX: usize = 16;

/// Who speaks.
pub(super) struct Voice {
    pub(super) speaker: Speaker,
    pub(super) events: Events,
    is_fallback: bool,
    /// It has a link with somebody else's program.
    pub(super) is_outside: bool,
    /// The session whose peer hears it.
    pub(super) heard_by: Option<MediaId>,
    /// The other end of its link while none does.
    pub(super) unheard: Option<Box<MediaEnd>>,
}

/// Whom the call has hold of.
pub(super) enum Speaker {
    /// An agent, or the announcement in its place.
    Agent(AgentHandle),
    /// A script.
    Script(ScriptHandle),
}

pub(super) enum Events {
    Agent(mailbox::Receiver<AgentEvent>),
    Script(mailbox::Receiver<ScriptEvent>),
}

/// What was heard of who speaks; `None`: its task ended without a word.
pub(super) enum VoiceEvent {
    Agent(Option<AgentEvent>),
    Script(Option<ScriptEvent>),
    /// Of an agent that the call let go of: what is known of its link.
    Departed(Box<AgentCounters>),
}

impl Speaker {
    fn call_answered(&self) {
        match self {
            Self::Agent(handle) => handle.call_answered(),
            Self::Script(handle) => handle.call_answered(),
        }
    }

    fn digit(&self, digit: char) {
        match self {
            Self::Agent(handle) => handle.digit(digit),
            Self::Script(handle) => handle.digit(digit),
        }
    }

    fn answer(&self, answer: Result<(), &'static str>) {
        match self {
            Self::Agent(handle) => handle.answer(answer),
            Self::Script(handle) => handle.answer(answer),
        }
    }

    fn recount(&self, turns: Vec<Said>) {
        match self {
            Self::Agent(handle) => handle.recount(turns),
            Self::Script(handle) => handle.recount(turns),
        }
    }

    fn transfer_failed(&self, cause: HangupCause) {
        match self {
            Self::Agent(handle) => handle.transfer_failed(cause),
            Self::Script(handle) => handle.transfer_failed(cause),
        }
    }

    pub(super) fn relink(&self, end: AgentEnd) {
        match self {
            Self::Agent(handle) => handle.relink(end),
            Self::Script(handle) => handle.relink(end),
        }
    }

    pub(super) fn end(self) {
        match self {
            Self::Agent(handle) => handle.end(),
            Self::Script(handle) => handle.end(),
        }
    }
}

/// The next event of who speaks, or of whom the call let go; nothing ever without either.
pub(super) fn said<'a>(
    mut voice: Option<&'a mut Voice>,
    aside: &'a mut Option<Box<Aside>>,
) -> impl Future<Output = VoiceEvent> + 'a {
    poll_fn(move |context| {
        let spoken = match voice.as_mut().map(|voice| &mut voice.events) {
            Some(Events::Agent(events)) => events.poll_recv(context).map(VoiceEvent::Agent),
            Some(Events::Script(events)) => events.poll_recv(context).map(VoiceEvent::Script),
            None => Poll::Pending,
        };
        match spoken {
            Poll::Ready(event) => Poll::Ready(event),
            Poll::Pending => departed::poll_told(aside, context).map(VoiceEvent::Departed),
        }
    })
}

impl Task {
    /// What a script asks; `None`: its task ended without a word.
    pub(super) async fn script_news(&mut self, event: Option<ScriptEvent>) -> Option<Input> {
        match event {
            Some(event) => self.script_event(event).await,
            None => {
                self.voice = None;
                Some(Input::Agent(AgentInput::Lost(HangupCause::AgentLost)))
            }
        }
    }

    /// An announcement asks for nothing.
    pub(super) fn is_announcing(&self) -> bool {
        self.voice.as_ref().is_some_and(|voice| voice.is_fallback)
    }

    pub(super) fn agent_event(&mut self, event: Option<AgentEvent>) -> Option<Input> {
        let is_fallback = self.is_announcing();
        let Some(event) = event else {
            // Its task ended without a word.
            self.voice = None;
            return Some(if is_fallback {
                Input::Agent(AgentInput::FallbackPlayed)
            } else {
                Input::Agent(AgentInput::Lost(HangupCause::AgentLost))
            });
        };
        match (event, is_fallback) {
            (AgentEvent::Ready, false) => Some(Input::Agent(AgentInput::Ready)),
            (AgentEvent::Failed(cause, why), false) => {
                self.keep_fault(cause, why);
                Some(Input::Agent(AgentInput::Failed(cause)))
            }
            (AgentEvent::Lost(cause, why), false) => {
                self.keep_fault(cause, why);
                Some(Input::Agent(AgentInput::Lost(cause)))
            }
            (AgentEvent::Interrupted(cause, why), false) => {
                self.keep_fault(cause, why);
                Some(Input::Agent(AgentInput::Interrupted(cause)))
            }
            (AgentEvent::Missed, false) => Some(Input::Agent(AgentInput::Missed)),
            (AgentEvent::Resumed, false) => Some(Input::Agent(AgentInput::Resumed)),
            (AgentEvent::HangupRequested, false) => Some(Input::Agent(AgentInput::HungUp)),
            (AgentEvent::TransferRequested(to), false) => self.transfer_for_agent(&to),
            (AgentEvent::Said(said), false) => {
                self.keep_said(said);
                None
            }
            (AgentEvent::Awaited(connection), false) => {
                self.note(CallEvent::AgentAwaited(connection));
                None
            }
            (AgentEvent::Notes(counters), _) => {
                self.note_link(&counters);
                None
            }
            // Sent by who told of it.
            (AgentEvent::DigitsRequested(_), _) => None,
            (
                AgentEvent::Ready
                | AgentEvent::Interrupted(..)
                | AgentEvent::Missed
                | AgentEvent::Resumed
                | AgentEvent::Awaited(_)
                | AgentEvent::TransferRequested(_)
                | AgentEvent::Said(_),
                true,
            ) => None,
            (AgentEvent::Failed(..) | AgentEvent::Lost(..) | AgentEvent::HangupRequested, true) => {
                Some(Input::Agent(AgentInput::FallbackPlayed))
            }
        }
    }

    fn keep_said(&mut self, said: Said) {
        if self.said >= SAID_TURNS_MAX {
            return;
        }
        let (seq, at) = (self.said, clock::now());
        self.said += 1;
        let answered = self.log.record().stages.answered;
        let at_ms = answered.map(|answered| at.since(answered).as_millis() as u64);
        let (tenant, call) = (self.route.tenant.id, self.id());
        self.keep_for_next(&said);
        let Said { by_agent, text } = said;
        let turn = SaidTurn { tenant, call, seq, by_agent, text, at, at_ms };
        self.switch.ledger.said(turn);
        self.note(CallEvent::TranscriptAdded { first: seq, last: seq });
    }

    /// What an application writes down of the call is what its agent is told that has to begin anew.
    pub(super) fn recount(&mut self, turns: Vec<Said>) {
        for said in &turns {
            self.keep_for_next(said);
        }
        if let Some(voice) = &self.voice {
            voice.speaker.recount(turns);
        }
    }

    fn keep_for_next(&mut self, said: &Said) {
        if !self.next_profiles.is_empty() {
            self.story.add(said.clone());
        }
    }

    /// What an agent wants is judged like what an application asks for.
    pub(super) fn transfer_for_agent(&mut self, to: &str) -> Option<Input> {
        let target = transfer_target(to).ok_or("no_target");
        let input = target.and_then(|target| {
            let request = TransferRequest::Bridge(originate::dial_request(target));
            let input = Input::TransferRequested(request);
            self.call.check_transfer(&input).map_err(Senseless::code)?;
            Ok(input)
        });
        self.answer_agent(AgentWish::Transfer, input.as_ref().map(|_| ()).map_err(|why| *why));
        input.ok()
    }

    /// They go to whom it talks with.
    pub(super) async fn send_keys_for_agent(&mut self, digits: &str) {
        let keys = digits.to_ascii_uppercase();
        let done = if is_keys(&keys) {
            let order = Order::SendKeys { side: self.call.side_of_agent(), keys };
            self.order(order).await.map_err(Senseless::code)
        } else {
            Err("no_keys")
        };
        self.answer_agent(AgentWish::Keys, done);
    }

    fn answer_agent(&mut self, wish: AgentWish, done: Result<(), &'static str>) {
        self.note(CallEvent::AgentAsked { wish, refused: done.err() });
        if let Some(voice) = &self.voice {
            voice.speaker.answer(done);
        }
    }

    pub(super) fn run_agent(&mut self, output: AgentOutput) {
        match output {
            AgentOutput::Start => {
                if let Some(end) = self.media.agent_end.take() {
                    self.start_voice(self.media.id(), *end, false);
                }
            }
            AgentOutput::TakeProfile(id) => {
                let own = self.next_profiles.iter().find(|profile| profile.id == id);
                if let Some(profile) = own {
                    self.route.profile = Arc::clone(profile);
                }
            }
            AgentOutput::Attach => self.attach_voice(),
            AgentOutput::TellAnswered => {
                if let Some(voice) = &self.voice {
                    voice.speaker.call_answered();
                }
            }
            AgentOutput::TellDigit(digit) => {
                if let Some(voice) = &self.voice {
                    voice.speaker.digit(digit);
                    if let Some(media) = voice.heard_by {
                        self.switch.media.key_pressed(media);
                    }
                }
            }
            AgentOutput::End => {
                if let Some(voice) = self.voice.take() {
                    self.let_go(voice);
                }
            }
            AgentOutput::StartFallback => self.start_fallback(),
            AgentOutput::TellTransfer(news) => {
                if let (Some(voice), Some(cause)) = (&self.voice, undone(news)) {
                    voice.speaker.transfer_failed(cause);
                }
                self.tell_script(news);
            }
        }
    }

    /// Lets somebody speak to this session.
    pub(super) fn start_voice(
        &mut self,
        heard_by: Option<MediaId>,
        end: AgentEnd,
        is_fallback: bool,
    ) {
        if let Some(media) = heard_by {
            self.switch.media.listen(media, self.listener_of_voice(is_fallback));
        }
        let (speaker, events) = if is_fallback {
            let (events_in, events) = mailbox::bounded(AGENT_EVENTS_MAX);
            let handle = agent_task::start_announcement(Announcement::Fallback, end, events_in);
            (Speaker::Agent(handle), Events::Agent(events))
        } else {
            self.start_speaker(end)
        };
        let is_outside = !is_fallback && self.route.profile.agent.kind.is_outside();
        let unheard = None;
        let voice = Voice { speaker, events, is_fallback, is_outside, heard_by, unheard };
        if let Some(before) = self.voice.replace(voice) {
            self.let_go(before);
        }
    }

    fn start_speaker(&self, mut end: AgentEnd) -> (Speaker, Events) {
        if self.keys_are_private() {
            end.keep_keys_private();
        }
        let call = AgentCall {
            call_id: self.id(),
            tenant: self.route.tenant.id,
            caller: self.route.caller.clone(),
            dialled: self.route.dialled,
            variables: self.route.variables.clone(),
            trace: self.trace_context(),
            before: self.takes_over().then(|| self.story.clone()),
        };
        let settings = self.route.profile.agent.clone();
        if let Some(plan) = ScriptPlan::of(&settings.kind) {
            let (events_in, events) = mailbox::bounded(AGENT_EVENTS_MAX);
            let handle = self.start_script(plan, call, end, events_in);
            return (Speaker::Script(handle), Events::Script(events));
        }
        let (events_in, events) = mailbox::bounded(AGENT_EVENTS_MAX);
        let (roots, give_back) = (self.switch.roots.clone(), None);
        let awaited = self.switch.registry.awaited_agents();
        let health = self.switch.registry.agent_health();
        let own = self.route.profile.id;
        let next = self.next_profiles.last().is_some_and(|last| last.id != own);
        let setup = AgentSetup { settings, call, end, roots, awaited, give_back, health, next };
        (Speaker::Agent(agent_task::start(setup, events_in)), Events::Agent(events))
    }

    /// Whether who speaks next comes in the place of an agent that was lost, or that left for a transfer which failed.
    fn takes_over(&self) -> bool {
        let record = self.log.record();
        let replaces = |timed: &TimedEvent| matches!(timed.event, CallEvent::AgentReplaced(_));
        let was_there = record.stages.agent_ready.is_some();
        record.agent_failure.is_some() || (was_there && self.log.events().iter().any(replaces))
    }

    /// Who hears whom it talks with beside the voice: nobody beside an announcement, and beside a built-in agent only
    /// where its profile wants it.
    pub(super) fn listener_of_voice(&self, is_fallback: bool) -> Option<Box<Listener>> {
        let agent = &self.route.profile.agent;
        let is_wanted = agent.kind.is_outside() || agent.barge_in.mode != BargeInMode::Off;
        (is_wanted && !is_fallback).then(|| Box::new(Listener::new(agent.barge_in)))
    }

    /// The announcement gets a link of its own: what the agent still had queued is not played. It has little to say, and
    /// at once.
    fn start_fallback(&mut self) {
        let Some(media) = self.media_id(self.call.side_of_agent()) else { return };
        let (media_end, agent_end) = short_link();
        self.switch.media.attach(media, media_end);
        self.start_voice(Some(media), agent_end, true);
    }
}

/// Why a transfer came to nothing, as agents are told it; no dialect has a word for other news.
const fn undone(news: TransferNews) -> Option<HangupCause> {
    match news {
        TransferNews::Failed(cause) => Some(cause),
        // Which no transfer fails for.
        TransferNews::Withdrawn => Some(HangupCause::Normal),
        TransferNews::Begun
        | TransferNews::Consulting
        | TransferNews::Answered
        | TransferNews::Ended
        | TransferNews::Completed => None,
    }
}

/// A number in the international form, or a SIP address.
fn transfer_target(to: &str) -> Option<TransferTarget> {
    let to = to.trim();
    if to.starts_with("sip:") || to.starts_with("sips:") {
        return to.parse().ok().map(TransferTarget::Peer);
    }
    let number = to.strip_prefix("tel:").unwrap_or(to);
    number.parse().ok().map(TransferTarget::Number)
}

fn is_keys(keys: &str) -> bool {
    let is_key = |c: char| c.is_ascii_digit() || matches!(c, '*' | '#' | 'A'..='D');
    (1..=KEYS_SENT_MAX).contains(&keys.len()) && keys.chars().all(is_key)
}
