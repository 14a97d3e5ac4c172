//! How a call gets on, told to a web server in order.

use crate::agent::script::answers::CallFacts;
use crate::agent::script::answers::Form;
use crate::agent::script::step::Method;
use crate::call::event::CallEvent;
use crate::call::side::LegSide;
use crate::clock;
use crate::engine::script_task::web::Web;
use crate::types::cause::HangupCause;
use crate::types::limit::STATUS_NEWS_MAX;
use std::time::Duration;
use tokio::sync::mpsc;
use tracing::Instrument;

/// The status of a caller that is told that it rings.
const RINGING: u16 = 180;
/// Tells say by this what they are.
const SOURCE: &str = "call-progress-events";
/// How often one that was not told is told anew, and how long is waited between.
const TRIES: u32 = 3;
const PAUSE: Duration = Duration::from_secs(1);

/// Tells a web server how a call gets on.
#[derive(Debug)]
pub(super) struct StatusCallback {
    queue: mpsc::Sender<Form>,
    facts: CallFacts,
    last: &'static str,
    told: u32,
    is_answered: bool,
}

impl StatusCallback {
    /// Begins with the first: the call is there. They are told one after another, and the last of them whatever
    /// became of the call.
    pub(super) fn start(web: Web, to: (String, Method), facts: CallFacts) -> Self {
        let (queue, mut news) = mpsc::channel::<Form>(STATUS_NEWS_MAX);
        let telling = async move {
            while let Some(form) = news.recv().await {
                for _ in 0..TRIES {
                    if web.tell(to.clone(), &form).await {
                        break;
                    }
                    tokio::time::sleep(PAUSE).await;
                }
            }
        };
        tokio::spawn(telling.in_current_span());
        let mut callback = Self { queue, facts, last: "", told: 0, is_answered: false };
        callback.tell("initiated", None);
        callback
    }

    /// Something happened to the call.
    pub(super) fn noted(&mut self, event: &CallEvent) {
        match event {
            CallEvent::Ringing => self.tell("ringing", None),
            CallEvent::Progressed { side: LegSide::Near, status: RINGING, .. } => {
                self.tell("ringing", None);
            }
            CallEvent::Answered(_) => {
                self.is_answered = true;
                self.tell("in-progress", None);
            }
            CallEvent::Ended { cause, duration, .. } => {
                let status = ended(self.is_answered, *cause);
                self.tell(status, Some(*duration));
            }
            _ => (),
        }
    }

    fn tell(&mut self, status: &'static str, duration: Option<Duration>) {
        if status == self.last {
            return;
        }
        self.last = status;
        let mut form = self.facts.form(status);
        let mut put = |name: &str, value: String| form.push((name.to_owned(), value));
        put("SequenceNumber", self.told.to_string());
        put("CallbackSource", SOURCE.to_owned());
        put("Timestamp", clock::wall_now().strftime("%a, %d %b %Y %H:%M:%S +0000").to_string());
        if let Some(duration) = duration {
            // Begun seconds count.
            put("CallDuration", duration.as_millis().div_ceil(1_000).to_string());
        }
        self.told += 1;
        // A server that does not answer is told no more than the queue holds.
        if self.queue.try_send(form).is_err() {
            tracing::debug!(status, "a status callback is left out");
        }
    }
}

fn ended(is_answered: bool, cause: HangupCause) -> &'static str {
    match cause {
        _ if is_answered => "completed",
        HangupCause::Busy | HangupCause::Rejected => "busy",
        HangupCause::NoAnswer => "no-answer",
        HangupCause::Normal | HangupCause::CallerCancelled => "canceled",
        _ => "failed",
    }
}
