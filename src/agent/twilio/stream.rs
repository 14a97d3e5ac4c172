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
            Input::Binary => return self.garbage(out),
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
            Err(_) => self.garbage(out),
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

    fn garbage(&mut self, out: &mut Vec<Output>) -> State {
        self.counters.garbage += 1;
        if self.counters.garbage < AGENT_GARBAGE_MAX {
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

/// The profile's parameters, and who calls whom where the profile does not say so itself: many
/// agents look for these two.
fn parameters(agent: &TwilioAgent, call: &AgentCall) -> Vec<(String, String)> {
    let standard = [("from_number", call.caller.as_str()), ("to_number", call.dialled.as_str())];
    let missing = standard
        .into_iter()
        .filter(|(name, _)| !agent.parameters.iter().any(|(given, _)| given == name))
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
    missing.chain(agent.parameters.iter().cloned()).collect()
}

/// The longest part of `text` of at most `bytes_max` bytes that ends between two characters.
fn cut(text: &str, bytes_max: usize) -> &str {
    text.get(..text.floor_char_boundary(bytes_max)).unwrap_or(text)
}
