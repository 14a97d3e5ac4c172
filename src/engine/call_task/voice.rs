//! Who speaks in a call: its agent, or the fallback announcement in its place.

use crate::agent::builtin::announce::Announcement;
use crate::audio::link::AgentEnd;
use crate::audio::link::link;
use crate::call::event::AgentWish;
use crate::call::event::CallEvent;
use crate::call::input::AgentInput;
use crate::call::input::AgentOutput;
use crate::call::input::Input;
use crate::call::side::LegSide;
use crate::call::steer::Order;
use crate::call::steer::Senseless;
use crate::call::transfer::TransferNews;
use crate::call::transfer::TransferRequest;
use crate::engine::agent_task;
use crate::engine::agent_task::AgentCall;
use crate::engine::agent_task::AgentEvent;
use crate::engine::agent_task::AgentHandle;
use crate::engine::agent_task::AgentSetup;
use crate::engine::call_task::Task;
use crate::engine::media_thread::MediaId;
use crate::engine::originate;
use crate::engine::originate::TransferTarget;
use crate::types::cause::HangupCause;
use crate::types::limit::KEYS_SENT_MAX;
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
    pub(super) async fn agent_event(&mut self, event: Option<AgentEvent>) -> Option<Input> {
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
            (AgentEvent::TransferRequested(to), false) => self.transfer_for_agent(&to),
            (AgentEvent::DigitsRequested(digits), false) => {
                self.send_keys_for_agent(&digits).await;
                None
            }
            // Its task counted them; an announcement asks for nothing; no dialect tells of words yet.
            (AgentEvent::Notes(_) | AgentEvent::Said(_), _)
            | (
                AgentEvent::Ready
                | AgentEvent::TransferRequested(_)
                | AgentEvent::DigitsRequested(_),
                true,
            ) => None,
            (AgentEvent::Failed(_) | AgentEvent::Lost(_) | AgentEvent::HangupRequested, true) => {
                Some(Input::Agent(AgentInput::FallbackPlayed))
            }
        }
    }

    /// What an agent wants is judged like what an application asks for.
    fn transfer_for_agent(&mut self, to: &str) -> Option<Input> {
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

    async fn send_keys_for_agent(&mut self, digits: &str) {
        let keys = digits.to_ascii_uppercase();
        let done = if is_keys(&keys) {
            let order = Order::SendKeys { side: LegSide::Near, keys };
            self.order(order).await.map_err(Senseless::code)
        } else {
            Err("no_keys")
        };
        self.answer_agent(AgentWish::Keys, done);
    }

    fn answer_agent(&mut self, wish: AgentWish, done: Result<(), &'static str>) {
        self.note(CallEvent::AgentAsked { wish, refused: done.err() });
        if let Some(voice) = &self.voice {
            voice.handle.answer(done);
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
            AgentOutput::TellTransfer(TransferNews::Failed(cause)) => {
                if let Some(voice) = &self.voice {
                    voice.handle.transfer_failed(cause);
                }
            }
            // No dialect has a word for these.
            AgentOutput::TellTransfer(
                TransferNews::Begun | TransferNews::Consulting | TransferNews::Completed,
            ) => (),
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
