//! `AgentStream`: the life of one connection with an agent, from the first dial to the last message, in
//! whatever dialect.

use crate::agent::dialect::Act;
use crate::agent::dialect::Dialect;
use crate::agent::dialect::Garbled;
use crate::agent::dialect::Marks;
use crate::agent::dialect::Message;
use crate::agent::dialect::News;
use crate::agent::dialect::When;
use crate::agent::dialect::Wish;
use crate::agent::outbox::Outbox;
use crate::agent::outbox::Waiting;
use crate::agent::session::AgentCounters;
use crate::agent::session::Input;
use crate::agent::session::Output;
use crate::agent::session::PeerClose;
use crate::types::cause::HangupCause;
use crate::types::limit::AGENT_GARBAGE_MAX;
use crate::types::limit::AGENT_MARK_BYTES_MAX;
use crate::types::limit::AGENT_MARKS_MAX;
use crate::types::limit::AGENT_WISHES_MAX;
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
#[derive(Debug)]
pub struct AgentStream {
    state: State,
    dialect: Box<dyn Dialect>,
    connect_timeout: Duration,
    /// What a message asked for; empty but while it is obeyed.
    acts: Vec<Act>,
    /// Marks queued behind audio, oldest first.
    marks: VecDeque<(u64, String)>,
    next_mark: u64,
    /// What is to happen once what was queued before it was played.
    wishes: VecDeque<Wish>,
    /// When they are granted although nothing tells that it was.
    wishes_due: Option<Moment>,
    outbox: Outbox,
    liveness: Liveness,
    answered: bool,
    counters: AgentCounters,
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
    /// Nothing is read from the agent, so its pongs cannot be seen.
    deaf: bool,
}

impl AgentStream {
    /// A stream in `dialect`; it does nothing before [`Input::Started`].
    #[must_use]
    pub fn new((dialect, connect_timeout): (Box<dyn Dialect>, Duration)) -> Self {
        Self {
            state: State::Idle,
            dialect,
            connect_timeout,
            acts: Vec::new(),
            marks: VecDeque::new(),
            next_mark: 0,
            wishes: VecDeque::new(),
            wishes_due: None,
            outbox: Outbox::default(),
            liveness: Liveness::default(),
            answered: false,
            counters: AgentCounters::default(),
        }
    }

    /// Applies `input`; appends what must be done to `out`. Total: a senseless input changes nothing.
    pub fn handle(&mut self, now: Moment, input: Input<'_>, out: &mut Vec<Output>) {
        if matches!(input, Input::CallAnswered) {
            self.answered = true;
            if !self.wishes.is_empty() {
                self.wishes_due.get_or_insert(now + DRAIN_MAX);
            }
        }
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
                Some(until)
            }
            State::Open => {
                let Liveness { next_ping, pong_due, .. } = self.liveness;
                [next_ping, pong_due, self.wishes_due].into_iter().flatten().min()
            }
            State::Draining { until } => until,
            State::Idle | State::Over => None,
        }
    }

    /// What went over the link so far.
    #[must_use]
    pub fn counters(&self) -> AgentCounters {
        AgentCounters {
            frames_dropped: self.outbox.frames_dropped(),
            events_dropped: self.outbox.events_dropped(),
            ..self.counters
        }
    }

    /// Whether [`Input::Level`] is wanted.
    #[must_use]
    pub fn wants_level(&self) -> bool {
        self.state == State::Open && self.dialect.wants_level()
    }

    fn idle(&mut self, now: Moment, input: Input<'_>, out: &mut Vec<Output>) -> State {
        match input {
            Input::Started => self.connect(now, out),
            Input::CallEnded => State::Over,
            _ => State::Idle,
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
                self.outbox = Outbox::default();
                let next_ping = self.dialect.pings().then(|| now + PING_INTERVAL);
                self.liveness = Liveness { next_ping, ..Liveness::default() };
                self.state = State::Greeting { until };
                let mut acts = std::mem::take(&mut self.acts);
                self.dialect.open(&mut acts);
                self.carry_out(now, acts, out)
            }
            Input::ConnectFailed | Input::PeerClosed(_) => self.connect_failed(now, out),
            Input::ConnectForbidden => {
                out.push(Output::Failed(HangupCause::AgentForbidden));
                State::Over
            }
            Input::DeadlineReached if now >= until => self.connect_failed(now, out),
            Input::CallEnded => {
                out.push(Output::Close);
                State::Over
            }
            _ => State::Connecting { until },
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
            _ => State::Greeting { until },
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
            _ => State::Pausing { until },
        }
    }

    fn open(&mut self, now: Moment, input: Input<'_>, out: &mut Vec<Output>) -> State {
        match input {
            Input::Text(_) | Input::Binary(_) => return self.receive(now, input, out),
            Input::Audio(frame) => return self.inform(now, News::Audio(frame), out),
            Input::Digit(digit) => return self.inform(now, News::Digit(digit), out),
            Input::Cleared(played) => return self.inform(now, News::Cleared(played), out),
            Input::Level(ms) => return self.inform(now, News::Level(ms), out),
            Input::Answered(answer) => return self.inform(now, News::Answer(answer), out),
            Input::TransferFailed(cause) => {
                return self.inform(now, News::TransferFailed(cause), out);
            }
            Input::MarkPlayed(id) => self.mark_played(id, out),
            Input::BargeIn(heard_ms) => return self.inform(now, News::BargeIn(heard_ms), out),
            Input::Pong => self.liveness.pong_due = None,
            Input::SendBlocked => self.outbox.block(),
            Input::SendReady => self.write_waiting(out),
            Input::PlayoutFull => {
                self.liveness.deaf = true;
                self.liveness.pong_due = None;
            }
            Input::PlayoutRoom => self.liveness.deaf = false,
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
            Input::TransferFailed(_) => leave(out),
            Input::DeadlineReached if until.is_some_and(|until| now >= until) => leave(out),
            Input::CallAnswered => State::Draining { until: until.or(Some(now + DRAIN_MAX)) },
            Input::CallEnded => State::Over,
            _ => State::Draining { until },
        }
    }

    fn connect(&mut self, now: Moment, out: &mut Vec<Output>) -> State {
        self.counters.connects += 1;
        out.push(Output::Connect);
        State::Connecting { until: now + self.connect_timeout }
    }

    fn connect_failed(&mut self, now: Moment, out: &mut Vec<Output>) -> State {
        // Whatever became of this dial, it is not wanted any more.
        out.push(Output::Close);
        if self.counters.connects < CONNECTS_MAX {
            return State::Pausing { until: now + RETRY_PAUSE };
        }
        out.push(Output::Failed(HangupCause::AgentUnreachable));
        State::Over
    }

    fn receive(&mut self, now: Moment, input: Input<'_>, out: &mut Vec<Output>) -> State {
        let mut acts = std::mem::take(&mut self.acts);
        self.counters.messages += 1;
        let read = match input {
            Input::Text(text) => self.dialect.text(text, &mut acts),
            Input::Binary(bytes) => self.dialect.binary(bytes, &mut acts),
            _ => Ok(()),
        };
        self.state = self.carry_out(now, acts, out);
        match read {
            Err(garbled) if self.state != State::Over => self.bear_garbage(garbled, out),
            Ok(()) | Err(_) => self.state,
        }
    }

    /// Tells the agent something, or keeps it for when it reads again.
    fn inform(&mut self, now: Moment, news: News<'_>, out: &mut Vec<Output>) -> State {
        if self.outbox.is_blocked()
            && let Some(waiting) = Waiting::of(news)
        {
            self.outbox.push(waiting);
            return self.state;
        }
        if matches!(news, News::Audio(_)) {
            self.counters.frames_sent += 1;
        }
        let mut acts = std::mem::take(&mut self.acts);
        self.dialect.tell(news, &mut acts);
        self.carry_out(now, acts, out)
    }

    /// Does what is asked for, and keeps the emptied list for the next time.
    fn carry_out(&mut self, now: Moment, mut acts: Vec<Act>, out: &mut Vec<Output>) -> State {
        for act in acts.drain(..) {
            if self.state != State::Over {
                self.act(now, act, out);
            }
        }
        self.acts = acts;
        self.state
    }

    fn act(&mut self, now: Moment, act: Act, out: &mut Vec<Output>) {
        match act {
            Act::Ready => {
                if matches!(self.state, State::Greeting { .. }) {
                    out.push(Output::Ready);
                    self.state = State::Open;
                }
            }
            Act::Fail => match self.state {
                State::Greeting { .. } => self.state = self.connect_failed(now, out),
                State::Open => self.state = lose(HangupCause::AgentLost, out),
                State::Idle
                | State::Connecting { .. }
                | State::Pausing { .. }
                | State::Draining { .. }
                | State::Over => (),
            },
            Act::Send(message) => self.send(Waiting::Message(message), out),
            Act::Play(audio) => {
                self.counters.audio_bytes += audio.len() as u64;
                out.push(Output::Play(audio));
            }
            Act::Mark(name) => {
                self.counters.marks += 1;
                self.queue_mark(name, out);
            }
            Act::Clear(marks) => self.clear(now, marks, out),
            Act::Hold(held) => out.push(Output::Hold(held)),
            Act::Ask(wish, When::Now) => grant(wish, out),
            Act::Ask(wish, When::Played) => self.wish(now, wish, out),
            Act::Note(said) => out.push(Output::Said(said)),
            Act::Unknown => self.counters.unknown += 1,
            Act::Garbled(garbled) => self.state = self.bear_garbage(garbled, out),
        }
    }

    fn clear(&mut self, now: Moment, marks: Marks, out: &mut Vec<Output>) {
        self.counters.clears += 1;
        out.push(Output::Clear);
        // What the media still tell of these marks is then about marks unknown to us.
        while let Some((_, name)) = self.marks.pop_front() {
            if marks == Marks::Echoed {
                self.send(Waiting::Mark(name), out);
            }
        }
        // What they waited for will not be played.
        while !self.wishes.is_empty() {
            self.grant_next(now, out);
        }
    }

    fn wish(&mut self, now: Moment, wish: Wish, out: &mut Vec<Output>) {
        if self.wishes.len() >= AGENT_WISHES_MAX {
            return self.counters.unknown += 1;
        }
        self.wishes.push_back(wish);
        out.push(Output::Finish);
        if self.answered {
            self.wishes_due.get_or_insert(now + DRAIN_MAX);
        }
    }

    fn grant_next(&mut self, now: Moment, out: &mut Vec<Output>) {
        let Some(wish) = self.wishes.pop_front() else { return };
        grant(wish, out);
        self.wishes_due = (!self.wishes.is_empty() && self.answered).then(|| now + DRAIN_MAX);
    }

    fn queue_mark(&mut self, mut name: String, out: &mut Vec<Output>) {
        if self.marks.len() >= AGENT_MARKS_MAX
            && let Some((_, oldest)) = self.marks.pop_front()
        {
            self.send(Waiting::Mark(oldest), out);
        }
        self.next_mark += 1;
        name.truncate(name.floor_char_boundary(AGENT_MARK_BYTES_MAX));
        self.marks.push_back((self.next_mark, name));
        out.push(Output::Mark(self.next_mark));
    }

    /// Marks are played in order, so those before a played one were played too.
    fn mark_played(&mut self, id: u64, out: &mut Vec<Output>) {
        while self.marks.front().is_some_and(|(oldest, _)| *oldest <= id) {
            if let Some((_, name)) = self.marks.pop_front() {
                self.send(Waiting::Mark(name), out);
            }
        }
    }

    fn send(&mut self, waiting: Waiting, out: &mut Vec<Output>) {
        if self.outbox.is_blocked() {
            self.outbox.push(waiting);
        } else {
            self.write(waiting, out);
        }
    }

    fn write_waiting(&mut self, out: &mut Vec<Output>) {
        self.outbox.unblock();
        while let Some(waiting) = self.outbox.pop() {
            self.write(waiting, out);
        }
    }

    fn write(&mut self, waiting: Waiting, out: &mut Vec<Output>) {
        match waiting {
            Waiting::Audio(frame) => {
                self.counters.frames_sent += 1;
                self.write_news(News::Audio(&frame), out);
            }
            Waiting::SkippedFrames(frames) => self.write_news(News::SkippedFrames(frames), out),
            Waiting::Digit(digit) => self.write_news(News::Digit(digit), out),
            Waiting::Mark(name) => self.write_news(News::Mark(&name), out),
            Waiting::BargeIn(heard_ms) => self.write_news(News::BargeIn(heard_ms), out),
            Waiting::Message(Message::Text(text)) => out.push(Output::Send(text)),
            Waiting::Message(Message::Binary(bytes)) => out.push(Output::SendBinary(bytes)),
        }
    }

    /// Writes what does nothing but be written.
    fn write_news(&mut self, news: News<'_>, out: &mut Vec<Output>) {
        let mut acts = Vec::new();
        self.dialect.tell(news, &mut acts);
        for act in acts {
            if let Act::Send(message) = act {
                self.write(Waiting::Message(message), out);
            }
        }
    }

    fn bear_garbage(&mut self, garbled: Garbled, out: &mut Vec<Output>) -> State {
        let garbage = &mut self.counters.garbage;
        match garbled {
            Garbled::NotAMessage => garbage.json += 1,
            Garbled::NoPayload => garbage.payload += 1,
            Garbled::NotBase64 => garbage.base64 += 1,
            Garbled::Bytes => garbage.binary += 1,
        }
        if garbage.total() < AGENT_GARBAGE_MAX {
            return self.state;
        }
        match self.state {
            State::Greeting { .. } => {
                out.push(Output::Close);
                out.push(Output::Failed(HangupCause::AgentGarbage));
                State::Over
            }
            State::Idle
            | State::Connecting { .. }
            | State::Pausing { .. }
            | State::Open
            | State::Draining { .. }
            | State::Over => lose(HangupCause::AgentGarbage, out),
        }
    }

    fn peer_closed(&mut self, now: Moment, close: PeerClose, out: &mut Vec<Output>) -> State {
        let is_polite = matches!(close, PeerClose::Frame(None | Some(CLOSE_NORMAL)))
            && self.dialect.leaves_by_closing();
        // Who asked for the end before is not missed, however it goes.
        if is_polite || self.wishes.contains(&Wish::HangUp) {
            out.push(Output::Finish);
            return State::Draining { until: self.answered.then_some(now + DRAIN_MAX) };
        }
        match close {
            PeerClose::Frame(_) | PeerClose::Dropped => lose(HangupCause::AgentLost, out),
            PeerClose::Violated => lose(HangupCause::AgentGarbage, out),
        }
    }

    fn check_deadlines(&mut self, now: Moment, out: &mut Vec<Output>) -> State {
        if self.liveness.pong_due.is_some_and(|due| now >= due) {
            return lose(HangupCause::AgentLost, out);
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

fn lose(cause: HangupCause, out: &mut Vec<Output>) -> State {
    out.push(Output::Lost(cause));
    out.push(Output::Close);
    State::Over
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::dialect;
    use crate::agent::session::AgentCall;
    use crate::agent::session::Garbage;
    use crate::audio::link::FRAME_BYTES;
    use crate::types::agent::Access;
    use crate::types::agent::AgentKind;
    use crate::types::agent::TwilioAgent;
    use crate::types::header::CallVariables;
    use crate::types::id::CallId;
    use crate::types::id::TenantId;
    use crate::types::limit::AGENT_OUTBOX_FRAMES_MAX;
    use crate::types::secret::Secret;
    use crate::types::trace_context::TraceContext;
    use uuid::Uuid;

    /// A stream in virtual time, with what it asked for since the last look.
    struct Lab {
        stream: AgentStream,
        now: Moment,
        out: Vec<Output>,
    }

    impl Lab {
        fn new() -> Self {
            let agent = TwilioAgent {
                url: "ws://agent/".to_owned(),
                auth_token: Secret::default(),
                parameters: vec![("to_number".to_owned(), "mine".to_owned())],
                access: Access::default(),
                connect_timeout: Duration::from_secs(3),
            };
            let mut variables = CallVariables::default();
            for (name, value) in [("carrier_call", "CA9"), ("from_number", "forged")] {
                variables.set(name.parse().unwrap(), value.parse().unwrap());
            }
            let call = AgentCall {
                call_id: CallId::from_uuid(Uuid::from_u128(1)),
                tenant: TenantId::from_uuid(Uuid::from_u128(2)),
                caller: "+15550111".to_owned(),
                dialled: "+15550100".parse().unwrap(),
                variables,
                trace: Some(TraceContext { trace: 10, span: 11, is_sampled: true }),
            };
            let agent = dialect::of(&AgentKind::Twilio(agent), &call).unwrap();
            let stream = AgentStream::new(agent);
            Self { stream, now: Moment::from_millis(1_000), out: Vec::new() }
        }

        fn open() -> Self {
            let mut lab = Self::new();
            lab.put(Input::Started);
            lab.put(Input::Connected);
            lab.put(Input::CallAnswered);
            lab.out.clear();
            lab
        }

        fn put(&mut self, input: Input<'_>) {
            self.stream.handle(self.now, input, &mut self.out);
        }

        fn text(&mut self, text: &str) {
            self.put(Input::Text(text.as_bytes()));
        }

        fn mark(&mut self, name: &str) {
            self.text(&format!(r#"{{"event":"mark","mark":{{"name":"{name}"}}}}"#));
        }

        /// Goes to the deadline and says so; returns how long that took.
        fn wait(&mut self) -> Duration {
            let deadline = self.stream.deadline().expect("a deadline");
            let waited = deadline.since(self.now);
            self.now = deadline;
            self.put(Input::DeadlineReached);
            waited
        }

        fn take(&mut self) -> Vec<Output> {
            std::mem::take(&mut self.out)
        }

        /// The messages sent since the last look, and nothing else.
        fn sent(&mut self) -> Vec<serde_json::Value> {
            let sent = self.take().into_iter().filter_map(|output| match output {
                Output::Send(text) => Some(serde_json::from_slice(&text).unwrap()),
                _ => None,
            });
            sent.collect()
        }

        fn echoed(&mut self) -> Vec<String> {
            let sent = self.sent();
            let marks = sent.iter().filter(|message| message["event"] == "mark");
            marks.map(|message| message["mark"]["name"].as_str().unwrap().to_owned()).collect()
        }
    }

    #[test]
    fn connected_and_start_come_before_anything_else() {
        let mut lab = Lab::new();
        lab.put(Input::Started);
        assert_eq!(lab.take(), [Output::Connect]);
        lab.put(Input::Audio(&[1; FRAME_BYTES]));
        lab.put(Input::Digit('1'));
        assert_eq!(lab.take(), [], "nothing is sent before the stream is open");
        lab.put(Input::Connected);
        assert_eq!(lab.out.last(), Some(&Output::Ready));
        let sent = lab.sent();
        assert_eq!(sent[0]["event"], "connected");
        assert_eq!(sent[1]["event"], "start");
        let start = &sent[1]["start"];
        assert_eq!(start["callSid"], "CA00000000000000000000000000000001");
        assert_eq!(start["accountSid"], "AC00000000000000000000000000000002");
        assert_eq!(start["streamSid"], sent[1]["streamSid"]);
        assert_eq!(start["customParameters"]["from_number"], "+15550111");
        assert_eq!(start["customParameters"]["to_number"], "mine", "the profile has the last word");
        let trace = "00-0000000000000000000000000000000a-000000000000000b-01";
        assert_eq!(start["customParameters"]["traceparent"], trace);
        assert_eq!(start["customParameters"]["carrier_call"], "CA9", "a variable of the call");
        assert_eq!(sent.len(), 2);
    }

    #[test]
    fn an_agent_that_hangs_or_refuses_is_dialled_twice_and_given_up() {
        let mut lab = Lab::new();
        lab.put(Input::Started);
        lab.take();
        assert_eq!(lab.wait(), Duration::from_secs(3));
        assert_eq!(lab.take(), [Output::Close]);
        assert_eq!(lab.wait(), RETRY_PAUSE);
        assert_eq!(lab.take(), [Output::Connect]);
        lab.put(Input::ConnectFailed);
        assert_eq!(lab.take(), [Output::Close, Output::Failed(HangupCause::AgentUnreachable)]);
        assert_eq!(lab.stream.deadline(), None);
        lab.put(Input::Connected);
        assert_eq!(lab.take(), [], "a dial that was given up changes nothing");
        assert_eq!(lab.stream.counters().connects, 2);
    }

    #[test]
    fn a_deadline_told_too_early_changes_nothing() {
        let mut lab = Lab::new();
        lab.put(Input::Started);
        lab.take();
        lab.put(Input::DeadlineReached);
        assert_eq!(lab.take(), []);
    }

    #[test]
    fn marks_are_echoed_in_order_once_played() {
        let mut lab = Lab::open();
        lab.mark("a");
        lab.text(r#"{"event":"media","media":{"payload":"/w=="}}"#);
        lab.mark("a");
        lab.text(r#"{"event":"mark"}"#);
        let played = [Output::Mark(1), Output::Play(vec![0xff].into()), Output::Mark(2)];
        assert_eq!(lab.take(), [&played[..], &[Output::Mark(3)]].concat());
        lab.put(Input::MarkPlayed(1));
        assert_eq!(lab.echoed(), ["a"]);
        lab.put(Input::MarkPlayed(3));
        assert_eq!(lab.echoed(), ["a", ""], "a mark before a played one was played too");
        lab.put(Input::MarkPlayed(3));
        assert_eq!(lab.echoed(), [""; 0]);
    }

    #[test]
    fn a_clear_echoes_every_pending_mark_at_once_and_only_once() {
        let mut lab = Lab::open();
        for name in ["a", "b", "c"] {
            lab.mark(name);
        }
        lab.take();
        lab.text(r#"{"event":"clear"}"#);
        assert_eq!(lab.out.first(), Some(&Output::Clear));
        assert_eq!(lab.echoed(), ["a", "b", "c"]);
        lab.mark("d");
        lab.put(Input::Cleared(0));
        lab.put(Input::MarkPlayed(3));
        assert_eq!(lab.echoed(), [""; 0], "the media's answer repeats nothing");
        lab.put(Input::MarkPlayed(4));
        assert_eq!(lab.echoed(), ["d"]);
    }

    #[test]
    fn too_many_marks_echo_the_oldest_and_long_names_are_cut() {
        let mut lab = Lab::open();
        lab.mark(&"é".repeat(AGENT_MARK_BYTES_MAX));
        for _ in 0..AGENT_MARKS_MAX {
            lab.mark("x");
        }
        assert_eq!(lab.echoed(), ["é".repeat(AGENT_MARK_BYTES_MAX / 2)]);
        assert_eq!(lab.stream.marks.len(), AGENT_MARKS_MAX);
    }

    #[test]
    fn a_stalled_agent_costs_the_oldest_audio_only() {
        let mut lab = Lab::open();
        lab.put(Input::SendBlocked);
        lab.put(Input::Digit('7'));
        for _ in 0..AGENT_OUTBOX_FRAMES_MAX + 10 {
            lab.put(Input::Audio(&[1; FRAME_BYTES]));
        }
        assert_eq!(lab.take(), []);
        lab.put(Input::SendReady);
        let sent = lab.sent();
        assert_eq!(sent[0]["dtmf"]["digit"], "7");
        assert_eq!(sent[1]["media"]["timestamp"], "220", "ten frames are missing before it");
        assert_eq!(sent[1]["media"]["chunk"], "1");
        assert_eq!(sent.len(), AGENT_OUTBOX_FRAMES_MAX + 1);
        assert_eq!(lab.stream.counters().frames_dropped, 10);
        lab.put(Input::Audio(&[1; FRAME_BYTES]));
        assert_eq!(lab.sent().len(), 1, "the stream goes on");
    }

    #[test]
    fn garbage_is_borne_to_a_limit_and_unknown_events_without_one() {
        let mut lab = Lab::open();
        for _ in 0..1_000 {
            lab.text(r#"{"event":"dance"}"#);
        }
        for n in 1..AGENT_GARBAGE_MAX {
            if n % 2 == 0 { lab.put(Input::Binary(&[0])) } else { lab.text("{") }
        }
        assert_eq!(lab.take(), []);
        lab.text(r#"{"event":"media","media":{"payload":"?"}}"#);
        assert_eq!(lab.take(), [Output::Lost(HangupCause::AgentGarbage), Output::Close]);
        let counters = lab.stream.counters();
        let garbage = Garbage { json: 50, payload: 0, base64: 1, binary: 49 };
        assert_eq!((counters.garbage, counters.unknown), (garbage, 1_000));
        assert_eq!(garbage.total(), AGENT_GARBAGE_MAX);
    }

    #[test]
    fn an_agent_that_answers_no_ping_is_lost() {
        let mut lab = Lab::open();
        assert_eq!(lab.wait(), PING_INTERVAL);
        assert_eq!(lab.take(), [Output::Ping]);
        lab.put(Input::Pong);
        assert_eq!(lab.wait(), PING_INTERVAL);
        assert_eq!(lab.take(), [Output::Ping]);
        assert_eq!(lab.wait(), PONG_TIMEOUT);
        assert_eq!(lab.take(), [Output::Lost(HangupCause::AgentLost), Output::Close]);
    }

    #[test]
    fn pongs_are_not_missed_while_nothing_is_read() {
        let mut lab = Lab::open();
        lab.wait();
        lab.put(Input::PlayoutFull);
        for _ in 0..5 {
            assert!(lab.wait() >= PONG_TIMEOUT);
        }
        assert!(lab.take().iter().all(|output| *output == Output::Ping));
        lab.put(Input::PlayoutRoom);
        lab.wait();
        assert_eq!(lab.wait(), PONG_TIMEOUT);
        assert_eq!(lab.take().last(), Some(&Output::Close), "it must answer once it is read");
    }

    #[test]
    fn a_polite_close_lets_the_last_words_be_played() {
        for code in [None, Some(1000)] {
            let mut lab = Lab::open();
            lab.put(Input::PeerClosed(PeerClose::Frame(code)));
            lab.put(Input::PeerClosed(PeerClose::Dropped));
            assert_eq!(lab.take(), [Output::Finish], "the end of the socket is no news");
            lab.put(Input::Audio(&[0; FRAME_BYTES]));
            assert_eq!(lab.take(), []);
            lab.put(Input::Drained);
            assert_eq!(lab.take(), [Output::HangupRequested]);
        }
    }

    #[test]
    fn any_other_end_is_a_loss() {
        let ends = [
            (PeerClose::Dropped, HangupCause::AgentLost),
            (PeerClose::Frame(Some(1001)), HangupCause::AgentLost),
            (PeerClose::Frame(Some(1011)), HangupCause::AgentLost),
            (PeerClose::Violated, HangupCause::AgentGarbage),
        ];
        for (close, cause) in ends {
            let mut lab = Lab::open();
            lab.put(Input::PeerClosed(close));
            assert_eq!(lab.take(), [Output::Lost(cause), Output::Close]);
        }
    }

    #[test]
    fn last_words_before_the_answer_wait_for_it() {
        let mut lab = Lab::new();
        lab.put(Input::Started);
        lab.put(Input::Connected);
        lab.put(Input::PeerClosed(PeerClose::Frame(None)));
        assert_eq!(lab.stream.deadline(), None);
        lab.put(Input::CallAnswered);
        lab.take();
        assert_eq!(lab.wait(), DRAIN_MAX);
        assert_eq!(lab.take(), [Output::HangupRequested]);
    }

    #[test]
    fn the_end_of_the_call_stops_the_stream_in_every_state() {
        let mut lab = Lab::open();
        lab.put(Input::CallEnded);
        assert_eq!(lab.out.last(), Some(&Output::Close));
        let sent = lab.sent();
        assert_eq!((sent.len(), &sent[0]["event"]), (1, &"stop".into()));
        lab.put(Input::CallEnded);
        assert_eq!(lab.take(), [], "once");

        let mut idle = Lab::new();
        idle.put(Input::CallEnded);
        idle.put(Input::Started);
        assert_eq!(idle.take(), []);

        let mut connecting = Lab::new();
        connecting.put(Input::Started);
        connecting.put(Input::CallEnded);
        assert_eq!(connecting.take(), [Output::Connect, Output::Close]);
        assert_eq!(connecting.stream.deadline(), None);
    }

    /// A dialect of single words.
    #[derive(Debug)]
    struct Words;

    impl Dialect for Words {
        fn open(&mut self, _: &mut Vec<Act>) {}

        fn text(&mut self, text: &[u8], acts: &mut Vec<Act>) -> Result<(), Garbled> {
            acts.push(match text {
                b"here" => Act::Ready,
                b"sorry" => Act::Fail,
                b"bye" => Act::Ask(Wish::HangUp, When::Played),
                b"bye now" => Act::Ask(Wish::HangUp, When::Now),
                b"to sales" => Act::Ask(Wish::Transfer("sales".to_owned()), When::Played),
                b"keys" => Act::Ask(Wish::Digits("12#".to_owned()), When::Played),
                b"stop" => Act::Clear(Marks::Forgotten),
                b"mark" => Act::Mark("m".to_owned()),
                _ => return Err(Garbled::NotAMessage),
            });
            Ok(())
        }

        fn binary(&mut self, _: &[u8], _: &mut Vec<Act>) -> Result<(), Garbled> {
            Err(Garbled::Bytes)
        }

        fn tell(&mut self, news: News<'_>, acts: &mut Vec<Act>) {
            acts.push(Act::Send(Message::Text(format!("{news:?}").into())));
        }
    }

    impl Lab {
        fn of_words() -> Self {
            let dialect: Box<dyn Dialect> = Box::new(Words);
            let stream = AgentStream::new((dialect, Duration::from_secs(3)));
            let mut lab = Self { stream, now: Moment::from_millis(1_000), out: Vec::new() };
            lab.put(Input::Started);
            lab.put(Input::Connected);
            lab
        }

        fn of_words_open() -> Self {
            let mut lab = Self::of_words();
            lab.text("here");
            lab.put(Input::CallAnswered);
            lab.take();
            lab
        }
    }

    #[test]
    fn an_agent_is_there_once_it_says_so_and_dialled_again_when_it_does_not() {
        let mut lab = Lab::of_words();
        assert_eq!(lab.take(), [Output::Connect], "connected is not ready");
        lab.put(Input::Audio(&[1; FRAME_BYTES]));
        assert_eq!(lab.take(), [], "it does not listen yet");
        assert_eq!(lab.wait(), Duration::from_secs(3));
        assert_eq!(lab.take(), [Output::Close]);
        lab.wait();
        lab.put(Input::Connected);
        lab.text("here");
        assert_eq!(lab.take(), [Output::Connect, Output::Ready]);
        lab.text("sorry");
        assert_eq!(lab.take(), [Output::Lost(HangupCause::AgentLost), Output::Close]);

        let mut refused = Lab::of_words();
        refused.text("sorry");
        refused.text("here");
        assert_eq!(
            refused.take(),
            [Output::Connect, Output::Close],
            "a refusal is a dial that failed"
        );
    }

    #[test]
    fn what_an_agent_wants_happens_once_its_words_were_played() {
        let mut lab = Lab::of_words_open();
        lab.text("keys");
        lab.text("to sales");
        lab.text("bye");
        assert_eq!(lab.take(), [Output::Finish, Output::Finish, Output::Finish]);
        lab.put(Input::Drained);
        assert_eq!(lab.take(), [Output::DigitsRequested("12#".to_owned())]);
        lab.put(Input::Drained);
        assert_eq!(lab.take(), [Output::TransferRequested("sales".to_owned())]);
        lab.put(Input::Drained);
        assert_eq!(lab.take(), [Output::HangupRequested]);
        lab.put(Input::Drained);
        assert_eq!(lab.take(), [], "it asked for no more");
        lab.text("bye now");
        assert_eq!(lab.take(), [Output::HangupRequested]);
    }

    #[test]
    fn a_clear_leaves_nothing_to_wait_for() {
        let mut lab = Lab::of_words_open();
        lab.text("mark");
        lab.text("to sales");
        lab.take();
        lab.text("stop");
        assert_eq!(lab.take(), [Output::Clear, Output::TransferRequested("sales".to_owned())]);
        lab.put(Input::MarkPlayed(1));
        assert_eq!(lab.take(), [], "a forgotten mark is not told");
    }

    #[test]
    fn a_wish_whose_words_are_never_said_to_be_played_is_granted_in_the_end() {
        let mut lab = Lab::of_words_open();
        lab.text("bye");
        lab.take();
        let mut waited = Duration::ZERO;
        while !lab.take().contains(&Output::HangupRequested) {
            lab.put(Input::Pong);
            waited += lab.wait();
            assert!(waited <= DRAIN_MAX, "it waits for ever");
        }
        assert_eq!(waited, DRAIN_MAX);
    }

    #[test]
    fn an_agent_that_asked_for_the_end_is_not_missed_when_it_drops_the_connection() {
        let mut lab = Lab::of_words_open();
        lab.text("bye");
        lab.put(Input::PeerClosed(PeerClose::Dropped));
        assert_eq!(lab.take(), [Output::Finish, Output::Finish]);
        lab.put(Input::Drained);
        assert_eq!(lab.take(), [Output::HangupRequested]);
    }

    #[test]
    fn a_transfer_wanted_before_the_agent_left_is_made() {
        let mut lab = Lab::of_words_open();
        lab.text("to sales");
        lab.put(Input::PeerClosed(PeerClose::Frame(None)));
        lab.take();
        lab.put(Input::Drained);
        assert_eq!(lab.take(), [Output::TransferRequested("sales".to_owned())]);
        lab.put(Input::TransferFailed(HangupCause::NoAnswer));
        assert_eq!(lab.take(), [Output::HangupRequested], "nobody is left to talk with");
    }

    #[test]
    fn an_agent_that_stopped_reading_before_it_was_there_is_not_written_to() {
        let mut lab = Lab::of_words();
        lab.put(Input::SendBlocked);
        lab.text("here");
        lab.take();
        for _ in 0..AGENT_OUTBOX_FRAMES_MAX + 1 {
            lab.put(Input::Audio(&[1; FRAME_BYTES]));
        }
        assert_eq!(lab.take(), []);
        lab.put(Input::SendReady);
        // In place of the first, which was dropped, the number of those.
        assert_eq!(lab.take().len(), AGENT_OUTBOX_FRAMES_MAX + 1);
    }

    #[test]
    fn wishes_are_bounded() {
        let mut lab = Lab::of_words_open();
        for _ in 0..1_000 {
            lab.text("keys");
        }
        assert_eq!(lab.take().len(), AGENT_WISHES_MAX);
    }

    #[test]
    fn the_agent_is_told_what_became_of_its_wish() {
        let mut lab = Lab::of_words_open();
        lab.put(Input::Answered(Err("no_keys")));
        lab.put(Input::TransferFailed(HangupCause::Busy));
        lab.put(Input::Cleared(77));
        let said: Vec<String> = lab.take().into_iter().map(|out| format!("{out:?}")).collect();
        for (said, word) in said.iter().zip(["no_keys", "Busy", "77"]) {
            assert!(said.contains(word), "{said}");
        }
        assert_eq!(said.len(), 3);
    }
}
