//! The agent of a stream that a script opens: its link, and what it says to the call.

use crate::agent::script::step::Stream;
use crate::agent::script::vocabulary::Input;
use crate::audio::link::AgentEnd;
use crate::clock;
use crate::engine::agent_task;
use crate::engine::agent_task::AgentEvent;
use crate::engine::agent_task::AgentHandle;
use crate::engine::agent_task::AgentSetup;
use crate::engine::agent_task::ORPHANED_MAX;
use crate::engine::awaited::AwaitedAgents;
use crate::engine::mailbox;
use crate::engine::script_task::ScriptEvent;
use crate::engine::script_task::Task;
use crate::engine::script_task::Woken;
use crate::types::agent::Access;
use crate::types::agent::AgentKind;
use crate::types::agent::AgentSettings;
use crate::types::agent::AnswerPolicy;
use crate::types::agent::TwilioAgent;
use crate::types::barge_in::BargeIn;
use crate::types::cause::HangupCause;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::timeout;

/// Events of the agent of a stream that may wait.
const AGENT_EVENTS_MAX: usize = 16;
/// How long the agent of a stream may take to connect.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// How long the agent of a stream that ends may hold the link.
const GIVE_BACK_MAX: Duration = Duration::from_secs(5);
/// How long such an agent's task may take to tell of its link once the call is over.
const NOTES_WAIT: Duration = Duration::from_millis(250);

/// The agent of a stream.
pub(super) struct Streaming {
    pub(super) handle: Option<AgentHandle>,
    events: mailbox::Receiver<AgentEvent>,
    /// Its link comes back by this.
    back: oneshot::Receiver<AgentEnd>,
    /// How it ended, once it has.
    failed: Option<HangupCause>,
    /// Its connection broke and is not back.
    is_missed: bool,
}

impl Task {
    pub(super) fn open_stream(&mut self, stream: Stream) {
        let Some(mut end) = self.end.take() else { return };
        end.wait_for_caller(false);
        let settings = AgentSettings {
            kind: AgentKind::Twilio(TwilioAgent {
                url: stream.url,
                auth_token: self.web.auth_token.clone(),
                parameters: stream.parameters,
                access: Access::default(),
                connect_timeout: CONNECT_MAX,
            }),
            answer: AnswerPolicy::WhenReady,
            barge_in: BargeIn::OFF,
            hangup_after: None,
            reinvite_after: None,
            faults: self.faults,
            hold_music: None,
        };
        let (events_in, events) = mailbox::bounded(AGENT_EVENTS_MAX);
        let (back_in, back) = oneshot::channel();
        let (call, roots) = (self.call.clone(), self.roots.clone());
        // A stream of a document is dialled, never awaited.
        let (awaited, give_back) = (AwaitedAgents::default(), Some(back_in));
        // After a stream the document goes on.
        let (health, next) = (self.health.clone(), true);
        let setup =
            AgentSetup { settings, call, end: *end, roots, awaited, give_back, health, next };
        let handle = agent_task::start(setup, events_in);
        if self.interpreter.is_answered() {
            handle.call_answered();
        }
        let handle = Some(handle);
        self.stream =
            Some(Box::new(Streaming { handle, events, back, failed: None, is_missed: false }));
    }

    /// Ends the agent of the stream; its link comes back.
    pub(super) fn close_stream(&mut self, failed: Option<HangupCause>) {
        let Some(stream) = &mut self.stream else { return };
        stream.failed = failed;
        if let Some(handle) = stream.handle.take() {
            handle.end();
        }
    }

    pub(super) async fn agent_said(&mut self, event: Option<AgentEvent>) {
        match event {
            Some(AgentEvent::Ready) => self.own.push_back(Input::StreamReady),
            Some(event @ (AgentEvent::Failed(cause, _) | AgentEvent::Lost(cause, _))) => {
                self.tell(ScriptEvent::Agent(event)).await;
                self.close_stream(Some(cause));
            }
            Some(AgentEvent::HangupRequested) => self.close_stream(None),
            Some(AgentEvent::Awaited(_)) => (),
            Some(event @ (AgentEvent::Interrupted(..) | AgentEvent::Resumed)) => {
                if let Some(stream) = &mut self.stream {
                    stream.is_missed = event != AgentEvent::Resumed;
                }
                self.tell(ScriptEvent::Agent(event)).await;
            }
            Some(
                event @ (AgentEvent::Missed
                | AgentEvent::Notes(_)
                | AgentEvent::TransferRequested(_)
                | AgentEvent::DigitsRequested(_)
                | AgentEvent::Said(_)),
            ) => self.tell(ScriptEvent::Agent(event)).await,
            None => self.close_stream(Some(HangupCause::AgentLost)),
        }
    }

    pub(super) async fn come_back(&mut self, end: Option<AgentEnd>) {
        let mut stream = self.stream.take();
        if let Some(stream) = &mut stream {
            self.tell_of_link(stream).await;
        }
        if stream.as_ref().is_some_and(|stream| stream.is_missed) {
            // The document has the word again.
            self.tell(ScriptEvent::Agent(AgentEvent::Resumed)).await;
        }
        self.end = kept(self.end.take(), end);
        // Its end was told to the agent of the stream.
        if self.end.as_ref().is_some_and(|end| end.is_over()) {
            self.orphaned = Some(clock::now() + ORPHANED_MAX);
        }
        if self.end.is_none() {
            // Nothing can be said without the link; this is a fault of ours.
            self.over = true;
            return;
        }
        self.own.push_back(Input::StreamEnded(stream.and_then(|stream| stream.failed)));
    }

    /// Ends the agent of a stream with its call, which is told of the link.
    pub(super) async fn hear_out(&mut self, mut stream: Streaming) {
        if let Some(handle) = stream.handle.take() {
            handle.end();
        }
        self.tell_of_link(&mut stream).await;
    }

    /// What its agent still says but of the link is said to nobody.
    async fn tell_of_link(&mut self, stream: &mut Streaming) {
        let notes = async {
            loop {
                match stream.events.recv().await {
                    Some(AgentEvent::Notes(notes)) => return Some(notes),
                    Some(_) => (),
                    None => return None,
                }
            }
        };
        if let Ok(Some(notes)) = timeout(NOTES_WAIT, notes).await {
            self.tell(ScriptEvent::Agent(AgentEvent::Notes(notes))).await;
        }
    }
}

/// The link to go on with: that which came meanwhile, for the one that comes back leads nowhere any more, or else
/// that one, emptied of what the agent of the stream had queued.
fn kept(own: Option<Box<AgentEnd>>, back: Option<AgentEnd>) -> Option<Box<AgentEnd>> {
    own.or_else(|| {
        let mut back = back?;
        back.clear();
        Some(Box::new(back))
    })
}

/// Waits for the agent of a stream: what it says, and once it ended its link.
pub(super) async fn agent_event(stream: Option<&mut Streaming>) -> Woken {
    let Some(stream) = stream else { return std::future::pending().await };
    if stream.handle.is_some() {
        return Woken::Agent(stream.events.recv().await);
    }
    let back = tokio::time::timeout(GIVE_BACK_MAX, &mut stream.back).await;
    Woken::Back(back.ok().and_then(Result::ok))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::link::LinkEvent;
    use crate::audio::link::link;

    #[test]
    fn a_link_that_came_while_the_agent_of_a_stream_left_is_not_given_up_for_the_one_before() {
        let (media, old) = link();
        let (mut now, new) = link();
        drop(media);
        let mut end = kept(Some(Box::new(new)), Some(old)).expect("a link");
        assert!(now.push_digit('5'));
        assert_eq!(end.next(), Some(LinkEvent::Digit('5')), "it is heard over the new one");
        let (media, back) = link();
        let epoch = media.epoch();
        assert!(kept(None, Some(back)).is_some());
        assert!(media.epoch() > epoch, "what was queued is dropped");
        assert!(kept(None, None).is_none());
    }
}
