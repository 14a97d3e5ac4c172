//! Who speaks in a call: its agent, or the fallback announcement in its place.

use crate::agent::builtin::announce::Announcement;
use crate::audio::link::AgentEnd;
use crate::audio::link::link;
use crate::call::input::AgentInput;
use crate::call::input::AgentOutput;
use crate::call::input::Input;
use crate::engine::agent_task;
use crate::engine::agent_task::AgentCall;
use crate::engine::agent_task::AgentEvent;
use crate::engine::agent_task::AgentHandle;
use crate::engine::agent_task::AgentSetup;
use crate::engine::call_task::Task;
use crate::engine::media_thread::MediaId;
use crate::types::cause::HangupCause;
use crate::types::trace_context::SpanPart;
use crate::types::trace_context::TraceContext;
use std::sync::Arc;
use tokio::sync::mpsc;

/// Events of an agent that wait for its call.
const AGENT_EVENTS_MAX: usize = 16;

/// Who speaks.
pub(super) struct Voice {
    pub(super) handle: AgentHandle,
    events: mpsc::Receiver<AgentEvent>,
    is_fallback: bool,
    /// The session whose peer hears it.
    pub(super) heard_by: Option<MediaId>,
}

/// The next event of who speaks, or nothing ever without one.
pub(super) async fn said(voice: Option<&mut Voice>) -> Option<AgentEvent> {
    match voice {
        Some(voice) => voice.events.recv().await,
        None => std::future::pending().await,
    }
}

impl Task {
    pub(super) fn agent_event(&mut self, event: Option<AgentEvent>) -> Option<Input> {
        let is_fallback = self.voice.as_ref().is_some_and(|voice| voice.is_fallback);
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
            (AgentEvent::Failed(cause), false) => Some(Input::Agent(AgentInput::Failed(cause))),
            (AgentEvent::Lost(cause), false) => Some(Input::Agent(AgentInput::Lost(cause))),
            (AgentEvent::HangupRequested, false) => Some(Input::Agent(AgentInput::HungUp)),
            // Its task counted them.
            (AgentEvent::Notes(_), _) | (AgentEvent::Ready, true) => None,
            (AgentEvent::Failed(_) | AgentEvent::Lost(_) | AgentEvent::HangupRequested, true) => {
                Some(Input::Agent(AgentInput::FallbackPlayed))
            }
        }
    }

    pub(super) fn run_agent(&mut self, output: AgentOutput) {
        match output {
            AgentOutput::Start => {
                if let Some(end) = self.media.agent_end.take() {
                    self.start_voice(end, false);
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
                    voice.handle.call_answered();
                }
            }
            AgentOutput::TellDigit(digit) => {
                if let Some(voice) = &self.voice {
                    voice.handle.digit(digit);
                }
            }
            AgentOutput::End => {
                if let Some(voice) = self.voice.take() {
                    voice.handle.end();
                }
            }
            AgentOutput::StartFallback => self.start_fallback(),
            // No dialect has a word for it.
            AgentOutput::TellTransfer(_) => (),
        }
    }

    pub(super) fn start_voice(&mut self, end: AgentEnd, is_fallback: bool) {
        let (events_in, events) = mpsc::channel(AGENT_EVENTS_MAX);
        let handle = if is_fallback {
            agent_task::start_announcement(Announcement::Fallback, end, events_in)
        } else {
            let call = AgentCall {
                call_id: self.id(),
                tenant: self.route.tenant.id,
                caller: self.route.caller.clone(),
                dialled: self.route.dialled,
                variables: self.route.variables.clone(),
                trace: self
                    .switch
                    .sampling
                    .map(|sampling| TraceContext::of(self.id(), SpanPart::Call, sampling)),
            };
            let settings = self.route.profile.agent.clone();
            let roots = self.switch.roots.clone();
            agent_task::start(AgentSetup { settings, call, end, roots }, events_in)
        };
        let heard_by = self.media.id();
        // Dropping its handle ends whoever spoke before.
        self.voice = Some(Voice { handle, events, is_fallback, heard_by });
    }

    /// The announcement gets a link of its own: what the agent still had queued is not played.
    fn start_fallback(&mut self) {
        let Some((media, _)) = &self.media.open else { return };
        let (media_end, agent_end) = link();
        self.switch.media.attach(*media, media_end);
        self.start_voice(agent_end, true);
    }
}
