//! `AgentStream`: the life of one connection with an agent, from the first dial to the last message, in
//! whatever dialect.

mod blame;
mod broken;
mod obeying;

use crate::agent::dialect::Act;
use crate::agent::dialect::Dialect;
use crate::agent::dialect::News;
use crate::agent::dialect::Wish;
use crate::agent::outbox::Outbox;
use crate::agent::session::AgentCounters;
use crate::agent::session::Input;
use crate::agent::session::Output;
use crate::agent::session::PeerClose;
use crate::agent::story::Story;
use crate::agent::stream::blame::Blamed;
use crate::agent::stream::broken::Broken;
use crate::types::cause::HangupCause;
use crate::types::fault_policy::FaultPolicy;
use crate::types::moment::Moment;
use std::collections::VecDeque;
use std::time::Duration;

/// Dials before the agent counts as unreachable: the first and one more.
const CONNECTS_MAX: u32 = 2;
/// Pause before the second dial: an agent that is just restarting refuses in no time.
const RETRY_PAUSE: Duration = Duration::from_millis(250);
/// Time between two pings. Common servers close after 20 s of silence from their client.
const PING_INTERVAL: Duration = Duration::from_secs(15);
/// How long an agent may take to answer a ping. Shorter than the interval: one ping is under way.
const PONG_TIMEOUT: Duration = Duration::from_secs(10);
/// How long an agent's last words may take once the call was answered. Only a backstop: the media
/// tell when they were played.
const DRAIN_MAX: Duration = Duration::from_secs(600);

/// Close codes with which an agent ends a call in the ordinary way (RFC 6455 §7.4.1); a close frame
/// without a code counts as one too.
const CLOSE_NORMAL: u16 = 1000;

/// One connection with an agent.
// First what 20 ms of audio need, one way or the other: no line of it is in a cache by then, so that few are better.
#[derive(Debug)]
#[repr(C)]
pub struct AgentStream {
    state: State,
    dialect: Box<dyn Dialect>,
    /// The connection broke in the call and is made anew.
    broken: Option<Box<Broken>>,
    answered: bool,
    /// Another agent led the call before.
    took_over: bool,
    /// The agent was heard, and not taken for silent since.
    spoke: bool,
    /// The caller stopped speaking, and nothing was heard of the agent since.
    is_awaited: bool,
    /// It wants its audio to wait.
    held: bool,
    /// How often it broke.
    breaks: u32,
    /// When the agent has to be heard.
    words_due: Option<Moment>,
    /// When `wishes` are granted although nothing tells that what was queued before them was played.
    wishes_due: Option<Moment>,
    liveness: Liveness,
    outbox: Outbox,
    counters: AgentCounters,
    /// What a message asked for; empty but while it is obeyed.
    acts: Vec<Act>,
    /// Marks queued behind audio, oldest first.
    marks: VecDeque<(u64, String)>,
    next_mark: u64,
    /// What is to happen once what was queued before it was played.
    wishes: VecDeque<Wish>,
    /// So many [`Input::Drained`] to come belong to no wish: they end what was said before a connection broke,
    /// or stood for the end of a call that is not wanted any more.
    stale_drains: usize,
    connect_timeout: Duration,
    blamed: Blamed,
    faults: FaultPolicy,
    /// What was said so far.
    story: Story,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Not wanted yet.
    Idle,
    /// A dial is under way until then.
    Connecting { until: Moment },
    /// The connection is open; the agent has until then to say that it is there.
    Greeting { until: Moment },
    /// The next dial is due then.
    Pausing { until: Moment },
    /// The stream runs.
    Open,
    /// The agent closed politely; its last words are still played. The end of patience is unset
    /// until the call is answered, for nothing is played before.
    Draining { until: Option<Moment> },
    /// Nothing more will happen.
    Over,
}

/// Whether the agent still answers pings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Liveness {
    /// `None`: it cannot be asked.
    next_ping: Option<Moment>,
    pong_due: Option<Moment>,
    /// Nothing is read from the agent, so neither its pongs nor its words can be seen.
    deaf: bool,
}

impl AgentStream {
    /// A stream in `dialect`; it does nothing before [`Input::Started`].
    #[must_use]
    pub fn new((dialect, connect_timeout): (Box<dyn Dialect>, Duration)) -> Self {
        Self {
            state: State::Idle,
            dialect,
            broken: None,
            answered: false,
            took_over: false,
            spoke: false,
            is_awaited: false,
            held: false,
            breaks: 0,
            words_due: None,
            wishes_due: None,
            liveness: Liveness::default(),
            outbox: Outbox::default(),
            counters: AgentCounters::default(),
            acts: Vec::new(),
            marks: VecDeque::new(),
            next_mark: 0,
            wishes: VecDeque::new(),
            stale_drains: 0,
            connect_timeout,
            blamed: Blamed::default(),
            faults: FaultPolicy::NONE,
            story: Story::default(),
        }
    }

    /// The same where this is done when the agent fails; `before` is what was said in the call while another
    /// led it.
    #[must_use]
    pub fn enduring(mut self, faults: FaultPolicy, before: Option<Story>) -> Self {
        self.faults = faults;
        self.took_over = before.is_some();
        self.story = before.unwrap_or_default();
        self
    }

    /// Applies `input`; appends what must be done to `out`. Total: a senseless input changes nothing.
    pub fn handle(&mut self, now: Moment, input: Input<'_>, out: &mut Vec<Output>) {
        if matches!(input, Input::CallAnswered) {
            self.answered = true;
            if !self.wishes.is_empty() {
                self.wishes_due.get_or_insert(now + DRAIN_MAX);
            }
            self.expect_words(now);
        }
        if matches!(input, Input::PlayoutFull | Input::PlayoutRoom) {
            self.liveness.deaf = matches!(input, Input::PlayoutFull);
        }
        if matches!(input, Input::Drained) && self.stale_drains > 0 {
            self.stale_drains -= 1;
            return;
        }
        self.while_broken(now, input, out);
        self.state = match self.state {
            State::Idle => self.idle(now, input, out),
            State::Connecting { until } => self.connecting(now, until, input, out),
            State::Greeting { until } => self.greeting(now, until, input, out),
            State::Pausing { until } => self.pausing(now, until, input, out),
            State::Open => self.open(now, input, out),
            State::Draining { until } => self.draining(now, until, input, out),
            State::Over => State::Over,
        };
    }

    /// The next moment at which this wants [`Input::DeadlineReached`].
    #[must_use]
    pub fn deadline(&self) -> Option<Moment> {
        match self.state {
            State::Connecting { until } | State::Greeting { until } | State::Pausing { until } => {
                let comfort = self.broken.as_ref().and_then(|broken| broken.comfort_due());
                Some(comfort.map_or(until, |comfort| comfort.min(until)))
            }
            State::Open => {
                let Liveness { next_ping, pong_due, .. } = self.liveness;
                [next_ping, pong_due, self.wishes_due, self.words_due].into_iter().flatten().min()
            }
            State::Draining { until } => until,
            State::Idle | State::Over => None,
        }
    }

    fn idle(&mut self, now: Moment, input: Input<'_>, out: &mut Vec<Output>) -> State {
        match input {
            Input::Started => self.connect(now, out),
            Input::CallEnded => State::Over,
            Input::Connected
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
            | Input::Audio(_)
            | Input::WideAudio(_)
            | Input::Digit(_)
            | Input::MarkPlayed(_)
            | Input::Cleared(_)
            | Input::BargeIn(_)
            | Input::Unheard(_)
            | Input::CallerWaits(_)
            | Input::Relinked
            | Input::Level(_)
            | Input::Answered(_)
            | Input::TransferFailed(_)
            | Input::Drained
            | Input::CallAnswered
            | Input::DeadlineReached => State::Idle,
        }
    }

    fn connecting(
        &mut self,
        now: Moment,
        until: Moment,
        input: Input<'_>,
        out: &mut Vec<Output>,
    ) -> State {
        match input {
            Input::Connected => {
                // What waited for the connection before says nothing to this one.
                self.counters.add_dropped(&std::mem::take(&mut self.outbox));
                let next_ping = self.dialect.pings().then(|| now + PING_INTERVAL);
                let deaf = self.liveness.deaf;
                self.liveness = Liveness { next_ping, pong_due: None, deaf };
                self.state = State::Greeting { until };
                let mut acts = std::mem::take(&mut self.acts);
                self.introduce(&mut acts);
                self.carry_out(now, acts, out)
            }
            Input::ConnectFailed | Input::PeerClosed(_) => self.connect_failed(now, out),
            Input::ConnectForbidden => self.give_up(HangupCause::AgentForbidden, out),
            Input::ConnectSkipped => self.give_up(HangupCause::AgentCircuitOpen, out),
            Input::DeadlineReached if now >= until => self.connect_failed(now, out),
            Input::CallEnded => {
                out.push(Output::Close);
                State::Over
            }
            Input::DeadlineReached
            | Input::Started
            | Input::Text(_)
            | Input::Binary(_)
            | Input::Pong
            | Input::SendBlocked
            | Input::SendReady
            | Input::PlayoutFull
            | Input::PlayoutRoom
            | Input::Audio(_)
            | Input::WideAudio(_)
            | Input::Digit(_)
            | Input::MarkPlayed(_)
            | Input::Cleared(_)
            | Input::BargeIn(_)
            | Input::Unheard(_)
            | Input::CallerWaits(_)
            | Input::Relinked
            | Input::Level(_)
            | Input::Answered(_)
            | Input::TransferFailed(_)
            | Input::Drained
            | Input::CallAnswered => State::Connecting { until },
        }
    }

    /// What the agent is told meanwhile is not kept: it does not listen yet.
    fn greeting(
        &mut self,
        now: Moment,
        until: Moment,
        input: Input<'_>,
        out: &mut Vec<Output>,
    ) -> State {
        match input {
            Input::Text(_) | Input::Binary(_) => self.receive(now, input, out),
            Input::SendBlocked => {
                self.outbox.block();
                State::Greeting { until }
            }
            Input::SendReady => {
                self.write_waiting(out);
                State::Greeting { until }
            }
            Input::PeerClosed(_) => self.connect_failed(now, out),
            Input::DeadlineReached if now >= until => self.connect_failed(now, out),
            Input::CallEnded => {
                out.push(Output::Close);
                State::Over
            }
            Input::DeadlineReached
            | Input::Started
            | Input::Connected
            | Input::ConnectFailed
            | Input::ConnectForbidden
            | Input::ConnectSkipped
            | Input::Pong
            | Input::PlayoutFull
            | Input::PlayoutRoom
            | Input::Audio(_)
            | Input::WideAudio(_)
            | Input::Digit(_)
            | Input::MarkPlayed(_)
            | Input::Cleared(_)
            | Input::BargeIn(_)
            | Input::Unheard(_)
            | Input::CallerWaits(_)
            | Input::Relinked
            | Input::Level(_)
            | Input::Answered(_)
            | Input::TransferFailed(_)
            | Input::Drained
            | Input::CallAnswered => State::Greeting { until },
        }
    }

    fn pausing(
        &mut self,
        now: Moment,
        until: Moment,
        input: Input<'_>,
        out: &mut Vec<Output>,
    ) -> State {
        match input {
            Input::DeadlineReached if now >= until => self.connect(now, out),
            Input::CallEnded => State::Over,
            Input::DeadlineReached
            | Input::Started
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
            | Input::Audio(_)
            | Input::WideAudio(_)
            | Input::Digit(_)
            | Input::MarkPlayed(_)
            | Input::Cleared(_)
            | Input::BargeIn(_)
            | Input::Unheard(_)
            | Input::CallerWaits(_)
            | Input::Relinked
            | Input::Level(_)
            | Input::Answered(_)
            | Input::TransferFailed(_)
            | Input::Drained
            | Input::CallAnswered => State::Pausing { until },
        }
    }

    fn open(&mut self, now: Moment, input: Input<'_>, out: &mut Vec<Output>) -> State {
        match input {
            Input::Text(_) | Input::Binary(_) => return self.receive(now, input, out),
            Input::Audio(frame) => return self.inform(now, News::Audio(frame), out),
            Input::WideAudio(wide) => return self.inform(now, News::WideAudio(wide), out),
            Input::Digit(digit) => return self.inform(now, News::Digit(digit), out),
            Input::Cleared(played) => return self.inform(now, News::Cleared(played), out),
            Input::Level(ms) => return self.inform(now, News::Level(ms), out),
            Input::Answered(answer) => return self.inform(now, News::Answer(answer), out),
            Input::TransferFailed(cause) => {
                return self.inform(now, News::TransferFailed(cause), out);
            }
            Input::MarkPlayed(id) => self.mark_played(id, out),
            Input::Relinked => return self.relinked(now, out),
            Input::BargeIn(heard_ms) => return self.inform(now, News::BargeIn(heard_ms), out),
            Input::Unheard(heard_ms) => return self.inform(now, News::Unheard(heard_ms), out),
            Input::CallerWaits(waits) => self.caller_waits(now, waits),
            Input::Pong => self.liveness.pong_due = None,
            Input::SendBlocked => self.outbox.block(),
            Input::SendReady => self.write_waiting(out),
            Input::PlayoutFull => (self.liveness.pong_due, self.words_due) = (None, None),
            Input::PlayoutRoom => self.expect_words(now),
            Input::Drained => self.grant_next(now, out),
            Input::PeerClosed(close) => return self.peer_closed(now, close, out),
            Input::DeadlineReached => return self.check_deadlines(now, out),
            Input::CallEnded => {
                self.write_news(News::Ended, out);
                out.push(Output::Close);
                return State::Over;
            }
            Input::Started
            | Input::Connected
            | Input::ConnectFailed
            | Input::ConnectForbidden
            | Input::ConnectSkipped
            | Input::CallAnswered => {}
        }
        State::Open
    }

    fn draining(
        &mut self,
        now: Moment,
        until: Option<Moment>,
        input: Input<'_>,
        out: &mut Vec<Output>,
    ) -> State {
        match input {
            // What it asked for before it left comes first.
            Input::Drained => match self.wishes.pop_front() {
                Some(wish @ (Wish::Transfer(_) | Wish::Digits(_))) => {
                    grant(wish, out);
                    State::Draining { until }
                }
                Some(Wish::HangUp) | None => leave(out),
            },
            // Nothing of it will be played.
            Input::Relinked => {
                self.wishes
                    .drain(..)
                    .filter(|wish| *wish != Wish::HangUp)
                    .for_each(|wish| grant(wish, out));
                leave(out)
            }
            Input::TransferFailed(_) => leave(out),
            Input::DeadlineReached if until.is_some_and(|until| now >= until) => leave(out),
            Input::CallAnswered => State::Draining { until: until.or(Some(now + DRAIN_MAX)) },
            Input::CallEnded => State::Over,
            Input::DeadlineReached
            | Input::Started
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
            | Input::Audio(_)
            | Input::WideAudio(_)
            | Input::Digit(_)
            | Input::MarkPlayed(_)
            | Input::Cleared(_)
            | Input::BargeIn(_)
            | Input::Unheard(_)
            | Input::CallerWaits(_)
            | Input::Level(_)
            | Input::Answered(_) => State::Draining { until },
        }
    }

    fn connect(&mut self, now: Moment, out: &mut Vec<Output>) -> State {
        self.counters.connects += 1;
        if self.broken.is_some() {
            return self.connect_again(now, out);
        }
        out.push(Output::Connect);
        State::Connecting { until: now + self.connect_timeout }
    }

    fn connect_failed(&mut self, now: Moment, out: &mut Vec<Output>) -> State {
        // Whatever became of this dial, it is not wanted any more.
        out.push(Output::Close);
        if let Some(broken) = &self.broken {
            if broken.dials() < self.faults.reconnects {
                return State::Pausing { until: now + self.faults.pause };
            }
            return self.give_up(HangupCause::AgentUnreachable, out);
        }
        if self.counters.connects < CONNECTS_MAX {
            return State::Pausing { until: now + RETRY_PAUSE };
        }
        out.push(Output::Failed(HangupCause::AgentUnreachable));
        State::Over
    }

    fn receive(&mut self, now: Moment, input: Input<'_>, out: &mut Vec<Output>) -> State {
        self.counters.messages += 1;
        let mut acts = std::mem::take(&mut self.acts);
        let read = match input {
            Input::Text(text) => self.dialect.text(text, &mut acts),
            Input::Binary(bytes) => self.dialect.binary(bytes, &mut acts),
            Input::Started
            | Input::Connected
            | Input::ConnectFailed
            | Input::ConnectForbidden
            | Input::ConnectSkipped
            | Input::Pong
            | Input::PeerClosed(_)
            | Input::SendBlocked
            | Input::SendReady
            | Input::PlayoutFull
            | Input::PlayoutRoom
            | Input::Audio(_)
            | Input::WideAudio(_)
            | Input::Digit(_)
            | Input::MarkPlayed(_)
            | Input::Cleared(_)
            | Input::BargeIn(_)
            | Input::Unheard(_)
            | Input::CallerWaits(_)
            | Input::Relinked
            | Input::Level(_)
            | Input::Answered(_)
            | Input::TransferFailed(_)
            | Input::Drained
            | Input::CallAnswered
            | Input::CallEnded
            | Input::DeadlineReached => Ok(()),
        };
        self.state = self.carry_out(now, acts, out);
        match read {
            Err(garbled) if self.state != State::Over => self.bear_garbage(garbled, out),
            Ok(()) | Err(_) => self.state,
        }
    }

    fn peer_closed(&mut self, now: Moment, close: PeerClose, out: &mut Vec<Output>) -> State {
        let is_polite = matches!(close, PeerClose::Frame(None | Some(CLOSE_NORMAL)))
            && self.dialect.leaves_by_closing();
        // Who asked for the end before is not missed, however it goes.
        if is_polite || self.wishes.contains(&Wish::HangUp) {
            return self.drain(now, out);
        }
        match close {
            PeerClose::Frame(_) | PeerClose::Dropped => self.lose(now, HangupCause::AgentLost, out),
            PeerClose::Violated => lost(HangupCause::AgentGarbage, out),
        }
    }

    fn check_deadlines(&mut self, now: Moment, out: &mut Vec<Output>) -> State {
        if self.liveness.pong_due.is_some_and(|due| now >= due) {
            self.blame("no_pong");
            return self.lose(now, HangupCause::AgentLost, out);
        }
        if self.words_due.is_some_and(|due| now >= due) {
            return self.lose(now, HangupCause::AgentSilent, out);
        }
        if self.liveness.next_ping.is_some_and(|next| now >= next) {
            out.push(Output::Ping);
            self.liveness.next_ping = Some(now + PING_INTERVAL);
            self.liveness.pong_due = (!self.liveness.deaf).then_some(now + PONG_TIMEOUT);
        }
        if self.wishes_due.is_some_and(|due| now >= due) {
            self.grant_next(now, out);
        }
        State::Open
    }
}

/// The agent is gone and its last words were played.
fn leave(out: &mut Vec<Output>) -> State {
    out.push(Output::HangupRequested);
    State::Over
}

fn grant(wish: Wish, out: &mut Vec<Output>) {
    out.push(match wish {
        Wish::HangUp => Output::HangupRequested,
        Wish::Transfer(to) => Output::TransferRequested(to),
        Wish::Digits(digits) => Output::DigitsRequested(digits),
    });
}

fn lost(cause: HangupCause, out: &mut Vec<Output>) -> State {
    out.push(Output::Lost(cause));
    out.push(Output::Close);
    State::Over
}

#[cfg(test)]
mod tests;
