//! Every fault of agents in every dialect, in virtual time: what it costs, and that it costs nothing else.
//!
//! | fault | Media Streams | chan_websocket | AudioSocket | Realtime |
//! |---|---|---|---|---|
//! | no JSON, no base64, no UTF-8, bytes where none belong, strange packets | borne to a bound | borne | borne | borne |
//! | marks without names | answered | answered | has none | has none |
//! | audio before the connection, or before the session | not heard | not heard | not heard | not heard |
//! | a storm of clears | each answered, nothing piles up | the same | has none | the same |
//! | ten times real time | passed on, never kept | the same | the same | the same |
//! | a peer that never reads | its own oldest audio | the same | the same | the same |
//! | an oversized frame | the link | the link | cannot be | the link |
//! | a half-open connection | no pong: the link | the same | the system's own probes | no pong: the link |

use super::*;
use crate::agent::asterisk::audio_socket::AudioSocket;
use crate::agent::asterisk::chan_websocket::ChanWebsocket;
use crate::agent::dialect::testing::call;
use crate::agent::realtime::dialect::Realtime;
use crate::types::agent::AgentAudio;
use crate::types::agent::AudioSocketAgent;
use crate::types::agent::ChanWebsocketAgent;
use crate::types::agent::ControlForm;
use crate::types::agent::RealtimeAgent;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// The four.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    MediaStreams,
    ChanWebsocket,
    AudioSocket,
    Realtime,
}

const ALL: [Kind; 4] = [Kind::MediaStreams, Kind::ChanWebsocket, Kind::AudioSocket, Kind::Realtime];

/// A message of an agent.
#[derive(Clone, Debug)]
enum Sends {
    Text(Vec<u8>),
    Bytes(Vec<u8>),
}

fn text(text: impl AsRef<[u8]>) -> Sends {
    Sends::Text(text.as_ref().to_vec())
}

fn packet(kind: u8, payload: &[u8]) -> Sends {
    let mut packet = vec![kind];
    packet.extend((payload.len() as u16).to_be_bytes());
    packet.extend(payload);
    Sends::Bytes(packet)
}

impl Kind {
    fn dialect(self) -> Box<dyn Dialect> {
        let connect_timeout = Duration::from_secs(3);
        match self {
            Self::MediaStreams => {
                let agent = TwilioAgent {
                    url: "ws://agent/".to_owned(),
                    auth_token: Secret::default(),
                    parameters: Vec::new(),
                    access: Access::default(),
                    connect_timeout,
                };
                Box::new(Twilio::new(&agent, &call()))
            }
            Self::ChanWebsocket => {
                let agent = ChanWebsocketAgent {
                    url: Some("ws://agent/".to_owned()),
                    access: Access::default(),
                    audio: AgentAudio::Ulaw,
                    control: ControlForm::Json,
                    parameters: Vec::new(),
                    connect_timeout,
                };
                Box::new(ChanWebsocket::new(&agent, &call()))
            }
            Self::AudioSocket => {
                let address = "agent:9092".to_owned();
                let agent = AudioSocketAgent { address, rate: 8_000, connect_timeout };
                Box::new(AudioSocket::new(&agent, &call()))
            }
            Self::Realtime => {
                let agent = RealtimeAgent {
                    url: "wss://x/".to_owned(),
                    access: Access::default(),
                    api_key: Secret::default(),
                    is_bearer: true,
                    is_beta: false,
                    audio: AgentAudio::Ulaw,
                    instructions: String::new(),
                    voice: None,
                    greets: false,
                    transcription_model: None,
                    turn_detection: None,
                    tools: Vec::new(),
                    transfer_to: Vec::new(),
                    connect_timeout,
                };
                Box::new(Realtime::new(&agent, true))
            }
        }
    }

    /// So many ms of the agent.
    fn says(self, ms: usize) -> Sends {
        self.says_within(0, ms)
    }

    /// The same within an answer of its own, where the dialect tells them apart: what is left of one that was
    /// cut is dropped.
    fn says_within(self, item: usize, ms: usize) -> Sends {
        let ulaw = vec![0x2a; ms * 8];
        let json = |json: String| Sends::Text(json.into_bytes());
        let coded = || STANDARD.encode(&ulaw);
        match self {
            Self::MediaStreams => {
                json(format!(r#"{{"event":"media","media":{{"payload":"{}"}}}}"#, coded()))
            }
            Self::ChanWebsocket => Sends::Bytes(ulaw),
            Self::AudioSocket => packet(0x10, &vec![1; ms * 16]),
            Self::Realtime => json(format!(
                r#"{{"type":"response.output_audio.delta","item_id":"i{item}","delta":"{}"}}"#,
                coded()
            )),
        }
    }

    /// What it may say that is no message of its dialect.
    fn garbage(self) -> Vec<Sends> {
        let mut all = match self {
            Self::MediaStreams => vec![
                text(r#"{"event":"media","media":{"payload":"?"}}"#),
                text(r#"{"event":"media"}"#),
                text(r#"{"event":{"a":1}}"#),
                Sends::Bytes(vec![1, 2, 3]),
            ],
            Self::ChanWebsocket => vec![text(r#"{"command":7}"#), text("(no word)")],
            // Only there do bytes have a form that they can lack.
            Self::AudioSocket => {
                return vec![packet(0x42, &[7; 50]), text("hello"), packet(0x77, &[])];
            }
            Self::Realtime => vec![
                text(r#"{"type":"response.output_audio.delta","item_id":"i","delta":"?"}"#),
                text(r#"{"type":"response.output_audio.delta"}"#),
                Sends::Bytes(vec![1, 2, 3]),
            ],
        };
        all.extend([text("{"), text(""), text("[]"), text([0xff, 0xfe, b'{'])]);
        all
    }

    fn clears(self) -> Option<Sends> {
        match self {
            Self::MediaStreams => Some(text(r#"{"event":"clear","streamSid":"x"}"#)),
            Self::ChanWebsocket => Some(text(r#"{"command":"FLUSH_MEDIA"}"#)),
            Self::AudioSocket => None,
            Self::Realtime => Some(text(r#"{"type":"input_audio_buffer.speech_started"}"#)),
        }
    }
}

/// A stream in a dialect.
struct Trial {
    stream: AgentStream,
    now: Moment,
    out: Vec<Output>,
}

impl Trial {
    /// Its connection is open; nobody has said anything.
    fn connected(kind: Kind) -> Self {
        let stream = AgentStream::new((kind.dialect(), Duration::from_secs(3)));
        let mut trial = Self { stream, now: Moment::from_millis(1_000), out: Vec::new() };
        trial.put(Input::Started);
        trial.put(Input::Connected);
        trial.put(Input::CallAnswered);
        trial
    }

    /// The agent is there.
    fn open(kind: Kind) -> Self {
        let mut trial = Self::connected(kind);
        if kind == Kind::Realtime {
            trial.hear(&text(r#"{"type":"session.created"}"#));
            trial.hear(&text(r#"{"type":"session.updated"}"#));
        }
        let out = trial.take();
        assert!(out.contains(&Output::Ready), "{kind:?}: {out:?}");
        trial
    }

    fn put(&mut self, input: Input<'_>) {
        self.stream.handle(self.now, input, &mut self.out);
    }

    fn hear(&mut self, message: &Sends) {
        match message {
            Sends::Text(text) => self.put(Input::Text(text)),
            Sends::Bytes(bytes) => self.put(Input::Binary(bytes)),
        }
    }

    fn take(&mut self) -> Vec<Output> {
        std::mem::take(&mut self.out)
    }

    /// Bytes of audio that were passed on since the last look.
    fn played(&mut self) -> usize {
        let length = |output: &Output| match output {
            Output::Play(audio) => audio.len(),
            _ => 0,
        };
        self.take().iter().map(length).sum()
    }
}

fn messages(out: &[Output]) -> usize {
    out.iter().filter(|it| matches!(it, Output::Send(_) | Output::SendBinary(_))).count()
}

fn is_lost(out: &[Output], cause: HangupCause) -> bool {
    out.contains(&Output::Lost(cause)) && out.contains(&Output::Close)
}

#[test]
fn whatever_is_no_message_is_counted_borne_to_the_bound_and_then_the_end_of_the_link() {
    for kind in ALL {
        for garbage in kind.garbage() {
            let mut trial = Trial::open(kind);
            for count in 1..AGENT_GARBAGE_MAX {
                trial.hear(&garbage);
                let total = trial.stream.counters().garbage.total();
                assert_eq!(total, count, "{kind:?}: {garbage:?}");
            }
            let out = trial.take();
            let harms =
                |it: &Output| matches!(it, Output::Lost(_) | Output::Play(_) | Output::Close);
            assert!(!out.iter().any(harms), "{kind:?}: {garbage:?}: {out:?}");
            // Between so much of it the agent is still understood.
            trial.hear(&kind.says(20));
            assert_eq!(trial.played(), 160, "{kind:?}: {garbage:?}");
            trial.hear(&garbage);
            assert!(is_lost(&trial.take(), HangupCause::AgentGarbage), "{kind:?}: {garbage:?}");
            trial.hear(&kind.says(20));
            assert_eq!(trial.take(), [], "{kind:?}: nothing is heard of it any more");
        }
    }
}

#[test]
fn what_the_connection_itself_cannot_take_ends_the_link() {
    // An oversized frame, or one that is no WebSocket's.
    for kind in ALL {
        let mut trial = Trial::open(kind);
        trial.put(Input::PeerClosed(PeerClose::Violated));
        assert!(is_lost(&trial.take(), HangupCause::AgentGarbage), "{kind:?}");
    }
}

#[test]
fn what_only_others_may_say_is_counted_and_changes_nothing() {
    for (kind, strange) in [
        (Kind::MediaStreams, text(r#"{"event":"start"}"#)),
        (Kind::ChanWebsocket, text(r#"{"command":"DANCE"}"#)),
        (Kind::AudioSocket, packet(0x01, &[0; 16])),
        (Kind::AudioSocket, packet(0xff, &[1])),
        (Kind::Realtime, text(r#"{"type":"dance"}"#)),
    ] {
        let mut trial = Trial::open(kind);
        for _ in 0..1_000 {
            trial.hear(&strange);
        }
        let out = trial.take();
        let acts = |it: &Output| !matches!(it, Output::Send(_) | Output::SendBinary(_));
        assert!(!out.iter().any(acts), "{kind:?}: {:?}", out.first());
        assert!(messages(&out) <= 1_000, "{kind:?}: an answer each at most");
        assert_eq!(trial.stream.counters().unknown, 1_000, "{kind:?}");
    }
}

#[test]
fn marks_without_names_are_answered_and_those_that_have_none_lose_nothing() {
    for (kind, mark, answer) in [
        (Kind::MediaStreams, r#"{"event":"mark"}"#, "\"mark\""),
        (Kind::MediaStreams, r#"{"event":"mark","mark":{}}"#, "\"mark\""),
        (Kind::MediaStreams, r#"{"event":"mark","mark":{"name":null}}"#, "\"mark\""),
        (Kind::ChanWebsocket, r#"{"command":"MARK_MEDIA"}"#, "MEDIA_MARK_PROCESSED"),
        (Kind::ChanWebsocket, r#"{"command":"MARK_MEDIA","correlation_id":{}}"#, "MARK_PROCESSED"),
        (Kind::ChanWebsocket, "MARK_MEDIA", "MEDIA_MARK_PROCESSED"),
        (Kind::ChanWebsocket, r#"{"command":"STOP_MEDIA_BUFFERING"}"#, "MEDIA_BUFFERING_COMPLETED"),
    ] {
        let mut trial = Trial::open(kind);
        trial.hear(&kind.says(20));
        trial.hear(&text(mark));
        let out = trial.take();
        let id = out.iter().find_map(|it| match it {
            Output::Mark(id) => Some(*id),
            _ => None,
        });
        let id = id.unwrap_or_else(|| panic!("{kind:?} {mark}: {out:?}"));
        trial.put(Input::MarkPlayed(id));
        let out = trial.take();
        let [Output::Send(told)] = &out[..] else { panic!("{kind:?} {mark}: {out:?}") };
        let told = String::from_utf8_lossy(told);
        assert!(told.contains(answer), "{kind:?} {mark}: {told}");
        assert_eq!(trial.stream.counters().garbage.total(), 0, "{kind:?} {mark}");
    }
}

#[test]
fn audio_before_its_time_is_not_heard_and_the_agent_is_still_taken() {
    for kind in ALL {
        // Before the connection is there nothing can come of it; a stray message changes nothing.
        let mut trial = Trial {
            stream: AgentStream::new((kind.dialect(), Duration::from_secs(3))),
            now: Moment::from_millis(1_000),
            out: Vec::new(),
        };
        trial.hear(&kind.says(20));
        trial.put(Input::Started);
        trial.take();
        trial.hear(&kind.says(20));
        assert_eq!(trial.take(), [], "{kind:?}");
        trial.put(Input::Connected);
        assert!(messages(&trial.take()) > 0 || kind == Kind::Realtime, "{kind:?}");
    }
    // A session that is not yet as we want it is in another format, perhaps.
    let mut trial = Trial::connected(Kind::Realtime);
    trial.take();
    trial.hear(&Kind::Realtime.says(20));
    trial.hear(&text(r#"{"type":"input_audio_buffer.speech_started"}"#));
    assert_eq!(trial.played(), 0);
    trial.hear(&text(r#"{"type":"session.created"}"#));
    trial.hear(&text(r#"{"type":"session.updated"}"#));
    assert!(trial.take().contains(&Output::Ready));
    trial.hear(&Kind::Realtime.says(20));
    assert_eq!(trial.played(), 160);
}

#[test]
fn a_storm_of_clears_piles_nothing_up_and_each_takes_effect() {
    const STORM: usize = 10_000;
    for kind in ALL {
        let Some(clear) = kind.clears() else { continue };
        let mut trial = Trial::open(kind);
        let (mut clears, mut sent) = (0, 0);
        for item in 0..STORM {
            trial.hear(&kind.says_within(item, 20));
            if kind == Kind::MediaStreams {
                trial.hear(&text(r#"{"event":"mark","mark":{"name":"m"}}"#));
            }
            trial.hear(&clear);
            let out = trial.take();
            clears += out.iter().filter(|it| **it == Output::Clear).count();
            sent += messages(&out);
            trial.put(Input::Cleared(0));
            sent += messages(&trial.take());
        }
        assert_eq!(clears, STORM, "{kind:?}");
        assert!(sent <= 2 * STORM, "{kind:?}: {sent}");
        assert!(trial.stream.marks.is_empty(), "{kind:?}");
        // And with nobody who reads the answers.
        trial.put(Input::SendBlocked);
        for item in STORM..2 * STORM {
            trial.hear(&kind.says_within(item, 20));
            if kind == Kind::MediaStreams {
                trial.hear(&text(r#"{"event":"mark","mark":{"name":"m"}}"#));
            }
            trial.hear(&clear);
            trial.put(Input::Cleared(0));
        }
        assert_eq!(messages(&trial.take()), 0, "{kind:?}");
        trial.put(Input::SendReady);
        let kept = messages(&trial.take());
        assert!(kept <= AGENT_OUTBOX_EVENTS_MAX, "{kind:?}: {kept} waited");
    }
}

#[test]
fn ten_times_real_time_is_passed_on_whole_and_kept_nowhere() {
    for kind in ALL {
        let mut trial = Trial::open(kind);
        // A minute within six seconds.
        let mut played = 0;
        for _ in 0..3_000 {
            trial.hear(&kind.says(20));
            trial.now += Duration::from_millis(2);
            played += trial.played();
        }
        assert_eq!(played, 3_000 * 160, "{kind:?}");
        // Whoever plays it has no room: nothing is read meanwhile, so no pong is missed either.
        trial.put(Input::PlayoutFull);
        for _ in 0..4 {
            if let Some(due) = trial.stream.deadline() {
                trial.now = due;
                trial.put(Input::DeadlineReached);
            }
        }
        let out = trial.take();
        assert!(!out.iter().any(|it| matches!(it, Output::Lost(_))), "{kind:?}: {out:?}");
        trial.put(Input::PlayoutRoom);
        trial.hear(&kind.says(20));
        assert_eq!(trial.played(), 160, "{kind:?}");
    }
}

#[test]
fn who_never_reads_loses_its_own_oldest_audio_and_no_more() {
    for kind in ALL {
        let mut trial = Trial::open(kind);
        trial.put(Input::SendBlocked);
        for _ in 0..30_000 {
            trial.put(Input::Audio(&[0xff; FRAME_BYTES]));
        }
        for _ in 0..2 * AGENT_OUTBOX_EVENTS_MAX {
            trial.put(Input::Digit('5'));
        }
        assert_eq!(messages(&trial.take()), 0, "{kind:?}");
        let counters = trial.stream.counters();
        let frames = 30_000 - AGENT_OUTBOX_FRAMES_MAX as u64;
        assert_eq!(counters.frames_dropped, frames, "{kind:?}");
        assert_eq!(counters.events_dropped, AGENT_OUTBOX_EVENTS_MAX as u64, "{kind:?}");
        // What it says meanwhile is heard.
        trial.hear(&kind.says(20));
        assert_eq!(trial.played(), 160, "{kind:?}");
        trial.put(Input::SendReady);
        let kept = messages(&trial.take());
        // A key may take more than one message, audio one in more than one frame.
        assert!(kept <= 2 * AGENT_OUTBOX_EVENTS_MAX + AGENT_OUTBOX_FRAMES_MAX, "{kind:?}: {kept}");
        assert!(kept > AGENT_OUTBOX_EVENTS_MAX, "{kind:?}: {kept}");
    }
}

#[test]
fn a_half_open_connection_is_noticed_by_what_is_not_answered() {
    for kind in ALL {
        let mut trial = Trial::open(kind);
        if kind == Kind::AudioSocket {
            // TCP alone: the system asks whether the other side lives, and drops the connection.
            assert_eq!(trial.stream.deadline(), None);
            trial.put(Input::PeerClosed(PeerClose::Dropped));
            assert!(is_lost(&trial.take(), HangupCause::AgentLost));
            continue;
        }
        let begun = trial.now;
        let mut out = Vec::new();
        while !is_lost(&out, HangupCause::AgentLost) {
            trial.now = trial.stream.deadline().expect("it waits for a pong");
            assert!(trial.now.since(begun) <= PING_INTERVAL + PONG_TIMEOUT, "{kind:?}");
            trial.put(Input::DeadlineReached);
            out.extend(trial.take());
        }
        assert!(out.contains(&Output::Ping), "{kind:?}");
    }
}
