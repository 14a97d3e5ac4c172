//! `TwilioStream`: the life of one media stream, from the first dial to the last message.

use crate::agent::session::AgentCall;
use crate::agent::session::AgentCounters;
use crate::agent::session::Input;
use crate::agent::session::Output;
use crate::agent::session::PeerClose;
use crate::agent::twilio::decode;
use crate::agent::twilio::decode::AgentMessage;
use crate::agent::twilio::decode::ProtocolError;
use crate::agent::twilio::encode::Encoder;
use crate::agent::twilio::encode::StreamNames;
use crate::agent::twilio::outbox::Outbox;
use crate::agent::twilio::outbox::Waiting;
use crate::types::agent::TwilioAgent;
use crate::types::cause::HangupCause;
use crate::types::limit::AGENT_GARBAGE_MAX;
use crate::types::limit::AGENT_MARK_BYTES_MAX;
use crate::types::limit::AGENT_MARKS_MAX;
use crate::types::moment::Moment;
use bytes::BytesMut;
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

/// One media stream.
#[derive(Debug)]
pub struct TwilioStream {
    state: State,
    connect_timeout: Duration,
    parameters: Vec<(String, String)>,
    encoder: Encoder,
    /// Where the agent's audio is decoded.
    audio: BytesMut,
    /// Marks queued behind audio, oldest first.
    marks: VecDeque<(u64, String)>,
    next_mark: u64,
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
    next_ping: Moment,
    pong_due: Option<Moment>,
    /// Nothing is read from the agent, so its pongs cannot be seen.
    deaf: bool,
}

impl TwilioStream {
    /// A stream with `agent` for `call`; it does nothing before [`Input::Started`].
    #[must_use]
    pub fn new(agent: &TwilioAgent, call: &AgentCall) -> Self {
        let names = StreamNames {
            account_sid: call.tenant.account_sid(),
            call_sid: call.call_id.call_sid(),
            stream_sid: call.call_id.stream_sid(),
        };
        Self {
            state: State::Idle,
            connect_timeout: agent.connect_timeout,
            parameters: parameters(agent, call),
            encoder: Encoder::new(names),
            audio: BytesMut::new(),
            marks: VecDeque::new(),
            next_mark: 0,
            outbox: Outbox::default(),
            liveness: Liveness::default(),
            answered: false,
            counters: AgentCounters::default(),
        }
    }

    /// Applies `input`; appends what must be done to `out`. Total: a senseless input changes nothing.
    pub fn handle(&mut self, now: Moment, input: Input<'_>, out: &mut Vec<Output>) {
        self.answered |= matches!(input, Input::CallAnswered);
        self.state = match self.state {
            State::Idle => self.idle(now, input, out),
            State::Connecting { until } => self.connecting(now, until, input, out),
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
            State::Connecting { until } | State::Pausing { until } => Some(until),
            State::Open => {
                let ping = self.liveness.next_ping;
                Some(self.liveness.pong_due.map_or(ping, |pong| pong.min(ping)))
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
                self.liveness = Liveness { next_ping: now + PING_INTERVAL, ..Liveness::default() };
                out.push(Output::Send(self.encoder.connected()));
                out.push(Output::Send(self.encoder.start(&self.parameters)));
                out.push(Output::Ready);
                State::Open
            }
            Input::ConnectFailed | Input::PeerClosed(_) => self.connect_failed(now, out),
            Input::DeadlineReached if now >= until => self.connect_failed(now, out),
            Input::CallEnded => {
                out.push(Output::Close);
                State::Over
            }
            _ => State::Connecting { until },
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
            Input::Text(text) => return self.receive(text, out),
            Input::Binary => {
                self.counters.garbage.binary += 1;
                return self.bear_garbage(out);
            }
            Input::Audio(frame) => self.send(Waiting::Audio(*frame), out),
            Input::Digit(digit) => self.send(Waiting::Digit(digit), out),
            Input::MarkPlayed(id) => self.mark_played(id, out),
            Input::Pong => self.liveness.pong_due = None,
            Input::SendBlocked => self.outbox.block(),
            Input::SendReady => {
                self.outbox.unblock();
                while let Some(waiting) = self.outbox.pop() {
                    self.write(waiting, out);
                }
            }
            Input::PlayoutFull => {
                self.liveness.deaf = true;
                self.liveness.pong_due = None;
            }
            Input::PlayoutRoom => self.liveness.deaf = false,
            Input::PeerClosed(close) => return self.peer_closed(now, close, out),
            Input::DeadlineReached => return self.check_liveness(now, out),
            Input::CallEnded => {
                out.push(Output::Send(self.encoder.stop()));
                out.push(Output::Close);
                return State::Over;
            }
            Input::Started
            | Input::Connected
            | Input::ConnectFailed
            | Input::Cleared
            | Input::Drained
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
            Input::Drained => {
                out.push(Output::HangupRequested);
                State::Over
            }
            Input::DeadlineReached if until.is_some_and(|until| now >= until) => {
                out.push(Output::HangupRequested);
                State::Over
            }
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

    fn receive(&mut self, text: &[u8], out: &mut Vec<Output>) -> State {
        self.counters.messages += 1;
        match self.obey(text, out) {
            Ok(()) => State::Open,
            Err(error) => {
                let garbage = &mut self.counters.garbage;
                match error {
                    ProtocolError::NotAMessage => garbage.json += 1,
                    ProtocolError::NoPayload => garbage.payload += 1,
                    ProtocolError::NotBase64 => garbage.base64 += 1,
                }
                self.bear_garbage(out)
            }
        }
    }

    fn obey(&mut self, text: &[u8], out: &mut Vec<Output>) -> Result<(), ProtocolError> {
        match decode::decode(text)? {
            AgentMessage::Media(payload) => {
                let audio = decode::decode_payload(&payload, &mut self.audio)?;
                self.counters.audio_bytes += audio.len() as u64;
                if !audio.is_empty() {
                    out.push(Output::Play(audio));
                }
            }
            AgentMessage::Mark(name) => {
                self.counters.marks += 1;
                self.queue_mark(&name, out);
            }
            AgentMessage::Clear => {
                self.counters.clears += 1;
                out.push(Output::Clear);
                // What the media still tell of these marks is then about marks unknown to us.
                while let Some((_, name)) = self.marks.pop_front() {
                    self.send(Waiting::Mark(name), out);
                }
            }
            AgentMessage::Unknown => self.counters.unknown += 1,
        }
        Ok(())
    }

    fn queue_mark(&mut self, name: &str, out: &mut Vec<Output>) {
        if self.marks.len() >= AGENT_MARKS_MAX
            && let Some((_, oldest)) = self.marks.pop_front()
        {
            self.send(Waiting::Mark(oldest), out);
        }
        self.next_mark += 1;
        self.marks.push_back((self.next_mark, cut(name, AGENT_MARK_BYTES_MAX).to_owned()));
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

    fn write(&mut self, waiting: Waiting, out: &mut Vec<Output>) {
        out.push(Output::Send(match waiting {
            Waiting::Audio(frame) => {
                self.counters.frames_sent += 1;
                self.encoder.media(&frame)
            }
            Waiting::SkippedFrames(frames) => return self.encoder.skip_frames(frames),
            Waiting::Digit(digit) => self.encoder.dtmf(digit),
            Waiting::Mark(name) => self.encoder.mark(&name),
        }));
    }

    fn bear_garbage(&self, out: &mut Vec<Output>) -> State {
        if self.counters.garbage.total() < AGENT_GARBAGE_MAX {
            return State::Open;
        }
        lose(HangupCause::AgentGarbage, out)
    }

    fn peer_closed(&mut self, now: Moment, close: PeerClose, out: &mut Vec<Output>) -> State {
        match close {
            PeerClose::Frame(None | Some(CLOSE_NORMAL)) => {
                out.push(Output::Finish);
                State::Draining { until: self.answered.then_some(now + DRAIN_MAX) }
            }
            PeerClose::Frame(Some(_)) | PeerClose::Dropped => lose(HangupCause::AgentLost, out),
            PeerClose::Violated => lose(HangupCause::AgentGarbage, out),
        }
    }

    fn check_liveness(&mut self, now: Moment, out: &mut Vec<Output>) -> State {
        if self.liveness.pong_due.is_some_and(|due| now >= due) {
            return lose(HangupCause::AgentLost, out);
        }
        if now >= self.liveness.next_ping {
            out.push(Output::Ping);
            self.liveness.next_ping = now + PING_INTERVAL;
            self.liveness.pong_due = (!self.liveness.deaf).then_some(now + PONG_TIMEOUT);
        }
        State::Open
    }
}

fn lose(cause: HangupCause, out: &mut Vec<Output>) -> State {
    out.push(Output::Lost(cause));
    out.push(Output::Close);
    State::Over
}

/// The profile's parameters, and what the profile does not say itself: who calls whom, for which many
/// agents look, and the variables of the call. A variable never stands for one of those two.
fn parameters(agent: &TwilioAgent, call: &AgentCall) -> Vec<(String, String)> {
    let trace = call.trace.map(|trace| trace.to_string());
    let standard = [
        ("from_number", Some(call.caller.as_str())),
        ("to_number", Some(call.dialled.as_str())),
        // For bots behind something that takes the header away.
        ("traceparent", trace.as_deref()),
    ];
    let variables = call
        .variables
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .filter(|(name, _)| !standard.iter().any(|(own, _)| own == name));
    let missing = standard
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
        .chain(variables)
        .filter(|(name, _)| !agent.parameters.iter().any(|(given, _)| given == name))
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
    missing.chain(agent.parameters.iter().cloned()).collect()
}

/// The longest part of `text` of at most `bytes_max` bytes that ends between two characters.
fn cut(text: &str, bytes_max: usize) -> &str {
    text.get(..text.floor_char_boundary(bytes_max)).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::session::Garbage;
    use crate::audio::link::FRAME_BYTES;
    use crate::types::header::CallVariables;
    use crate::types::id::CallId;
    use crate::types::id::TenantId;
    use crate::types::limit::AGENT_OUTBOX_FRAMES_MAX;
    use crate::types::secret::Secret;
    use crate::types::trace_context::TraceContext;
    use uuid::Uuid;

    /// A stream in virtual time, with what it asked for since the last look.
    struct Lab {
        stream: TwilioStream,
        now: Moment,
        out: Vec<Output>,
    }

    impl Lab {
        fn new() -> Self {
            let agent = TwilioAgent {
                url: "ws://agent/".to_owned(),
                auth_token: Secret::default(),
                parameters: vec![("to_number".to_owned(), "mine".to_owned())],
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
            let stream = TwilioStream::new(&agent, &call);
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
        lab.put(Input::Cleared);
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
            if n % 2 == 0 { lab.put(Input::Binary) } else { lab.text("{") }
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
}
