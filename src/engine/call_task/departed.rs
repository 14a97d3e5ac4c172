//! Agents that the call let go of: what their tasks still have to tell of their links, for the record.

use crate::agent::session::AgentCounters;
use crate::call::event::CallEvent;
use crate::engine::agent_task::AgentEvent;
use crate::engine::call_task::Task;
use crate::engine::call_task::voice::Events;
use crate::engine::call_task::voice::Voice;
use crate::engine::script_task::ScriptEvent;
use crate::types::agent_trouble::FaultWord;
use crate::types::cause::HangupCause;
use std::future::poll_fn;
use std::task::Context;
use std::task::Poll;
use std::task::ready;
use std::time::Duration;
use tokio::time::timeout;

/// How long a call that is over waits for what its agents' tasks have to tell. They do so as they end, before they
/// say goodbye to anybody.
const NOTES_WAIT: Duration = Duration::from_millis(500);

/// Agents that are listened to after they were let go of; of older ones nothing is told.
const DEPARTED_MAX: usize = 4;

impl Events {
    /// What is known of the link, once it is over; `None`: nothing, nor will be. Whatever else its agent says is
    /// said to nobody.
    fn poll_notes(&mut self, context: &Context<'_>) -> Poll<Option<Box<AgentCounters>>> {
        loop {
            let event = match self {
                Self::Agent(events) => ready!(events.poll_recv(context)),
                Self::Script(events) => match ready!(events.poll_recv(context)) {
                    Some(ScriptEvent::Agent(event)) => Some(event),
                    Some(_) => continue,
                    None => None,
                },
            };
            match event {
                Some(AgentEvent::Notes(counters)) => return Poll::Ready(Some(counters)),
                Some(_) => (),
                None => return Poll::Ready(None),
            }
        }
    }
}

/// What a call keeps of agents beside the one that speaks; most calls have nothing here.
#[derive(Default)]
pub(super) struct Aside {
    /// Agents that were let go of and may have something to tell of their links.
    departed: Vec<Events>,
    /// What is known of an agent's failure beside its cause.
    fault: Option<(HangupCause, FaultWord)>,
}

/// What is told of the next link that is over; never, where nobody is left to tell of one.
pub(super) fn poll_told(
    aside: &mut Option<Box<Aside>>,
    context: &Context<'_>,
) -> Poll<Box<AgentCounters>> {
    let Some(aside) = aside else { return Poll::Pending };
    let mut at = 0;
    while let Some(events) = aside.departed.get_mut(at) {
        match events.poll_notes(context) {
            Poll::Pending => at += 1,
            Poll::Ready(notes) => {
                aside.departed.swap_remove(at);
                if let Some(notes) = notes {
                    return Poll::Ready(notes);
                }
            }
        }
    }
    Poll::Pending
}

impl Task {
    /// Ends who speaks. Of a link with somebody else's program there is something to be told.
    pub(super) fn let_go(&mut self, voice: Voice) {
        voice.speaker.end();
        if voice.is_outside {
            let departed = &mut self.aside.get_or_insert_default().departed;
            if departed.len() < DEPARTED_MAX {
                departed.push(voice.events);
            }
        }
    }

    /// Closes the record, once what is still to be told of links was told.
    pub(super) async fn record_end(&mut self, end: CallEvent) {
        self.hear_departed().await;
        self.note(end);
    }

    async fn hear_departed(&mut self) {
        let mut aside = self.aside.take();
        let is_left = |aside: &Option<Box<Aside>>| {
            aside.as_ref().is_some_and(|aside| !aside.departed.is_empty())
        };
        let all = async {
            while is_left(&aside) {
                let next = poll_fn(|context| match poll_told(&mut aside, context) {
                    Poll::Ready(notes) => Poll::Ready(Some(notes)),
                    Poll::Pending if is_left(&aside) => Poll::Pending,
                    Poll::Pending => Poll::Ready(None),
                });
                if let Some(notes) = next.await {
                    self.note_link(&notes);
                }
            }
        };
        if timeout(NOTES_WAIT, all).await.is_err() {
            tracing::debug!("an agent's task does not tell of its link");
        }
    }

    /// What was amiss on a link is part of the record; most calls have nothing here.
    pub(super) fn note_link(&mut self, counters: &AgentCounters) {
        let troubles = counters.troubles();
        if !troubles.is_none() {
            self.note(CallEvent::AgentLink(Box::new(troubles)));
        }
    }

    /// Keeps what its agent's task knows of a failure until the call says what that means.
    pub(super) fn keep_fault(&mut self, cause: HangupCause, why: Option<FaultWord>) {
        match why {
            Some(why) => self.aside.get_or_insert_default().fault = Some((cause, why)),
            None => {
                if let Some(aside) = &mut self.aside {
                    aside.fault = None;
                }
            }
        }
    }

    /// What is known of the last failure of a stream, which is of the cause of this code.
    pub(super) fn stream_fault(&self, code: &str) -> Option<&FaultWord> {
        let (of, why) = self.aside.as_ref()?.fault.as_ref()?;
        (of.code() == code).then_some(why)
    }

    /// What is known of the last failure, of this cause; it is told once.
    fn fault_of(&mut self, cause: HangupCause) -> Option<FaultWord> {
        Some(self.aside.as_mut()?.fault.take_if(|(of, _)| *of == cause)?.1)
    }

    pub(super) fn with_fault(&mut self, event: CallEvent) -> CallEvent {
        match event {
            CallEvent::AgentFailed(cause, None) => {
                CallEvent::AgentFailed(cause, self.fault_of(cause))
            }
            CallEvent::AgentInterrupted(cause, None) => {
                CallEvent::AgentInterrupted(cause, self.fault_of(cause))
            }
            event => event,
        }
    }
}
