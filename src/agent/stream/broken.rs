//! A stream whose connection broke in the call: it is made anew a few times, while what the caller says is kept.

use crate::agent::dialect::Act;
use crate::agent::dialect::News;
use crate::agent::dialect::Wish;
use crate::agent::outbox::Outbox;
use crate::agent::outbox::Waiting;
use crate::agent::session::Input;
use crate::agent::session::Output;
use crate::agent::session::Said;
use crate::agent::story::Continuation;
use crate::agent::story::Past;
use crate::agent::stream::AgentStream;
use crate::agent::stream::DRAIN_MAX;
use crate::agent::stream::State;
use crate::agent::stream::lost;
use crate::types::cause::HangupCause;
use crate::types::limit::AGENT_RESUMES_MAX;
use crate::types::moment::Moment;
use std::time::Duration;

/// An agent that is back so soon is not missed.
const COMFORT_AFTER: Duration = Duration::from_millis(140);
/// The longest a dial may take while a caller waits in the call.
const DIAL_MAX: Duration = Duration::from_secs(2);

/// What is known of a connection that broke.
#[derive(Debug)]
pub(super) struct Broken {
    cause: HangupCause,
    /// Dials since.
    dials: u32,
    /// What the agent is to be told once it is back: of the caller only, the rest was for the connection before.
    kept: Outbox,
    /// When the caller hears comfort audio; `None`: it does.
    comfort_due: Option<Moment>,
    /// All that the agent had said was played.
    drained: bool,
}

impl Broken {
    pub(super) const fn dials(&self) -> u32 {
        self.dials
    }

    pub(super) const fn kept(&self) -> &Outbox {
        &self.kept
    }

    /// When it is time for comfort audio: not while something of the agent is still played.
    pub(super) fn comfort_due(&self) -> Option<Moment> {
        self.comfort_due.filter(|_| self.drained)
    }
}

impl AgentStream {
    /// The connection of an agent that was there is of no use any more.
    pub(super) fn lose(&mut self, now: Moment, cause: HangupCause, out: &mut Vec<Output>) -> State {
        if self.wishes.contains(&Wish::HangUp) {
            out.push(Output::Close);
            return self.drain(now, out);
        }
        if self.faults.reconnects == 0 || self.breaks >= AGENT_RESUMES_MAX {
            return lost(cause, out);
        }
        self.breaks += 1;
        self.words_due = None;
        // Who spoke before may listen once it is back, unless the caller waits; who was silent has to prove that it speaks.
        self.spoke &= cause != HangupCause::AgentSilent;
        // What is played of them still would be told to another connection.
        self.marks.clear();
        self.release(out);
        let before = std::mem::take(&mut self.outbox);
        self.counters.add_dropped(&before);
        let kept = before.of_caller();
        let comfort_due = Some(now + COMFORT_AFTER);
        self.broken = Some(Box::new(Broken { cause, dials: 0, kept, comfort_due, drained: false }));
        out.push(Output::Interrupted(cause));
        out.push(Output::Finish);
        self.connect(now, out)
    }

    /// Whoever left has no word any more, but its last ones are heard.
    pub(super) fn drain(&mut self, now: Moment, out: &mut Vec<Output>) -> State {
        self.release(out);
        out.push(Output::Finish);
        State::Draining { until: self.answered.then_some(now + DRAIN_MAX) }
    }

    /// Nobody is there any more to let audio go on that was to wait.
    fn release(&mut self, out: &mut Vec<Output>) {
        if std::mem::take(&mut self.held) {
            out.push(Output::Hold(false));
        }
    }

    pub(super) fn connect_again(&mut self, now: Moment, out: &mut Vec<Output>) -> State {
        if let Some(broken) = &mut self.broken {
            broken.dials += 1;
        }
        out.push(Output::Reconnect);
        State::Connecting { until: now + self.connect_timeout.min(DIAL_MAX) }
    }

    /// No more dials: the agent never came, or is lost for what broke its connection.
    pub(super) fn give_up(&mut self, cause: HangupCause, out: &mut Vec<Output>) -> State {
        out.push(match self.mended() {
            Some(broken) => Output::Lost(broken.cause),
            None => Output::Failed(cause),
        });
        State::Over
    }

    /// The agent says that it is there.
    pub(super) fn come(&mut self, now: Moment, out: &mut Vec<Output>) {
        self.expect_words(now);
        let Some(mut broken) = self.mended() else { return out.push(Output::Ready) };
        // What is still played of the words from before ends no words of this connection.
        self.stale_drains += usize::from(!broken.drained);
        out.push(Output::Resumed);
        while let Some(waiting) = broken.kept.pop() {
            self.send(waiting, out);
        }
    }

    /// The connection is broken no more, or for good.
    fn mended(&mut self) -> Option<Box<Broken>> {
        let broken = self.broken.take();
        if let Some(broken) = &broken {
            self.counters.add_dropped(&broken.kept);
        }
        broken
    }

    /// Begins the conversation over a connection that is open.
    pub(super) fn introduce(&mut self, acts: &mut Vec<Act>) {
        let how = match (&self.broken, self.took_over) {
            (Some(_), _) => Some(Continuation::Reconnected),
            (None, true) => Some(Continuation::TookOver),
            (None, false) => None,
        };
        let past = how.map(|how| Past { how, story: &self.story });
        self.dialect.open(past, acts);
    }

    /// Takes in what was said, for a connection that is made anew.
    pub fn recount(&mut self, said: &Said) {
        if self.faults.reconnects > 0 {
            self.story.add(said.clone());
        }
    }

    /// From now on the agent must be heard, where it has to be in time.
    pub(super) fn expect_words(&mut self, now: Moment) {
        if let Some(limit) = self.faults.silence
            && self.answered
            && (!self.spoke || self.is_awaited)
            && !self.liveness.deaf
            && self.state == State::Open
        {
            self.words_due.get_or_insert(now + limit);
        }
    }

    /// The caller stopped speaking and waits, or does not any more: an agent has as long for each answer as for its first
    /// words, which are due whatever the caller does.
    pub(super) fn caller_waits(&mut self, now: Moment, waits: bool) {
        self.is_awaited = waits;
        if waits {
            self.expect_words(now);
        } else if self.spoke {
            self.words_due = None;
        }
    }

    /// The agent said something, or asked for something.
    pub(super) const fn heard_words(&mut self) {
        (self.spoke, self.is_awaited, self.words_due) = (true, false, None);
    }

    /// What was queued in the link before will not be played: whatever waited for that waits no more.
    pub(super) fn relinked(&mut self, now: Moment, out: &mut Vec<Output>) -> State {
        while let Some((_, name)) = self.marks.pop_front() {
            self.send(Waiting::Mark(name), out);
        }
        while !self.wishes.is_empty() {
            self.grant_next(now, out);
        }
        self.stale_drains = 0;
        // Whoever waited did so at the other end of the link before.
        self.caller_waits(now, false);
        if self.held {
            out.push(Output::Hold(true));
        }
        self.inform(now, News::Relinked, out)
    }

    /// What happens while the connection is made anew.
    pub(super) fn while_broken(&mut self, now: Moment, input: Input<'_>, out: &mut Vec<Output>) {
        let Some(broken) = &mut self.broken else { return };
        match input {
            Input::Audio(frame) => broken.kept.push(Waiting::Audio(*frame)),
            Input::WideAudio(wide) => broken.kept.push(Waiting::WideAudio(Box::new(*wide))),
            Input::Digit(digit) => broken.kept.push(Waiting::Digit(digit)),
            // What it asked for before comes first.
            Input::Drained if !self.wishes.is_empty() => return self.grant_next(now, out),
            Input::Drained => broken.drained = true,
            Input::Relinked => {
                broken.drained = true;
                self.is_awaited = false;
                self.stale_drains = 0;
                while !self.wishes.is_empty() {
                    self.grant_next(now, out);
                }
                self.note(News::Relinked);
            }
            // The answer to a clear of the connection before: it is counted, and told to nobody.
            Input::Cleared(played) => return self.note(News::Cleared(played)),
            // The media tell of it once, and whoever comes back is to answer.
            Input::CallerWaits(waits) => return self.is_awaited = waits,
            Input::CallEnded => {
                self.mended();
                return;
            }
            Input::DeadlineReached => {}
            Input::Started
            | Input::Connected
            | Input::ConnectFailed
            | Input::ConnectForbidden
            | Input::ConnectSkipped
            | Input::Text(_)
            | Input::Binary(_)
            | Input::Pong
            | Input::PeerClosed(_)
            | Input::SendBlocked
            | Input::SendReady
            | Input::PlayoutFull
            | Input::PlayoutRoom
            | Input::MarkPlayed(_)
            | Input::BargeIn(_)
            | Input::Unheard(_)
            | Input::Level(_)
            | Input::Answered(_)
            | Input::TransferFailed(_)
            | Input::CallAnswered => return,
        }
        self.comfort(now, out);
    }

    /// Lets the dialect know what became of the queue, which outlives its connection; nobody reads what it says.
    fn note(&mut self, news: News<'_>) {
        self.dialect.tell(news, &mut self.acts);
        self.acts.clear();
    }

    fn comfort(&mut self, now: Moment, out: &mut Vec<Output>) {
        let Some(broken) = &mut self.broken else { return };
        if broken.comfort_due().is_some_and(|due| now >= due) {
            broken.comfort_due = None;
            out.push(Output::Missed);
        }
    }
}
