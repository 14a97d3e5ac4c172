//! Drives the dialects other than Media Streams with arbitrary bytes: the bodies of their fuzz targets.

use crate::agent::asterisk::audio_socket::AudioSocket;
use crate::agent::asterisk::chan_websocket::ChanWebsocket;
use crate::agent::dialect::Dialect;
use crate::agent::realtime::dialect::Realtime;
use crate::agent::session::AgentCall;
use crate::agent::session::Input;
use crate::agent::session::Output;
use crate::agent::session::PeerClose;
use crate::agent::stream::AgentStream;
use crate::audio::frame::WIDE_SAMPLES;
use crate::audio::link::FRAME_BYTES;
use crate::types::agent::Access;
use crate::types::agent::AgentAudio;
use crate::types::agent::AudioSocketAgent;
use crate::types::agent::ChanWebsocketAgent;
use crate::types::agent::ControlForm;
use crate::types::agent::RealtimeAgent;
use crate::types::fault_policy::FaultPolicy;
use crate::types::header::CallVariables;
use crate::types::id::CallId;
use crate::types::id::TenantId;
use crate::types::limit::AGENT_MARKS_MAX;
use crate::types::moment::Moment;
use crate::types::secret::Secret;
use std::time::Duration;
use uuid::Uuid;

const TIMEOUT: Duration = Duration::from_secs(3);
/// Samples that a change of rate may still hold back from a message before.
const HELD_BACK: usize = 64;

/// Feeds `data` to chan_websocket in both of its forms: each line is a text message, one that begins with a
/// zero is a binary one, and a line of one byte is another input. Panics when a promise is broken.
pub fn chan_websocket(data: &[u8]) {
    for control in [ControlForm::Json, ControlForm::Plain] {
        let Some(call) = call() else { return };
        let agent = ChanWebsocketAgent {
            url: Some("ws://agent/".to_owned()),
            access: Access::default(),
            audio: AgentAudio::L16 { rate: 16_000 },
            control,
            parameters: Vec::new(),
            connect_timeout: TIMEOUT,
        };
        lines(Box::new(ChanWebsocket::new(&agent, &call)), data);
    }
}

/// The same for a Realtime server, whose session is there already.
pub fn realtime(data: &[u8]) {
    let agent = RealtimeAgent {
        url: "wss://agent/".to_owned(),
        access: Access::default(),
        api_key: Secret::default(),
        is_bearer: true,
        is_beta: false,
        audio: AgentAudio::L16 { rate: 24_000 },
        instructions: String::new(),
        voice: None,
        greets: true,
        transcription_model: None,
        turn_detection: None,
        tools: vec!["end_call".to_owned(), "transfer_call".to_owned(), "send_dtmf".to_owned()],
        transfer_to: Vec::new(),
        connect_timeout: TIMEOUT,
    };
    let mut all = br#"{"type":"session.created"}
{"type":"session.updated"}
"#
    .to_vec();
    all.extend_from_slice(data);
    lines(Box::new(Realtime::new(&agent, true)), &all);
}

/// Feeds `data` to AudioSocket as the bytes of its connection: whole, and in pieces as long as their first byte
/// says; either way the same is to be played.
pub fn audio_socket(data: &[u8]) {
    let mut cut = data;
    let mut pieces = Vec::new();
    while let Some(first) = cut.first() {
        let (piece, rest) = cut.split_at(cut.len().min(usize::from(*first) + 1));
        pieces.push(piece);
        cut = rest;
    }
    let Some(in_pieces) = audio_of(&pieces) else { return };
    let whole = audio_of(&[data]);
    assert_eq!(whole, Some(in_pieces), "it matters how the network cuts bytes");
}

fn audio_of(pieces: &[&[u8]]) -> Option<Vec<u8>> {
    let agent = AudioSocketAgent {
        address: "agent:9092".to_owned(),
        rate: 8_000,
        connect_timeout: TIMEOUT,
    };
    let mut subject = Subject::new(Box::new(AudioSocket::new(&agent, &call()?)));
    for piece in pieces {
        subject.give(Input::Binary(piece), piece.len());
    }
    Some(subject.end())
}

fn call() -> Option<AgentCall> {
    Some(AgentCall {
        call_id: CallId::from_uuid(Uuid::from_u128(1)),
        tenant: TenantId::from_uuid(Uuid::from_u128(2)),
        caller: String::new(),
        dialled: "+15550100".parse().ok()?,
        variables: CallVariables::default(),
        trace: None,
        before: None,
    })
}

fn lines(dialect: Box<dyn Dialect>, data: &[u8]) {
    let mut subject = Subject::new(dialect);
    for line in data.split(|byte| *byte == b'\n') {
        let size = line.len();
        match line {
            [] => {}
            [byte] => subject.give(other(*byte), 0),
            [0, bytes @ ..] => subject.give(Input::Binary(bytes), size),
            text => subject.give(Input::Text(text), size),
        }
    }
    subject.end();
}

fn other(byte: u8) -> Input<'static> {
    match byte {
        b'a' => Input::Audio(&[0x2a; FRAME_BYTES]),
        b'w' => Input::WideAudio(&[4_200; WIDE_SAMPLES]),
        b'b' => Input::SendBlocked,
        b'r' => Input::SendReady,
        b'l' => Input::Level(20_000),
        b'e' => Input::Level(0),
        b'p' => Input::Pong,
        b'c' => Input::PeerClosed(PeerClose::Frame(None)),
        b'z' => Input::PeerClosed(PeerClose::Dropped),
        b'o' => Input::Connected,
        b'n' => Input::Relinked,
        b'i' => Input::BargeIn(40),
        b'u' => Input::Unheard(40),
        b'y' => Input::Answered(Ok(())),
        b'k' => Input::Cleared(800),
        b'd' => Input::Drained,
        b't' => Input::DeadlineReached,
        b'0'..=b'9' => Input::Digit(char::from(byte)),
        mark => Input::MarkPlayed(u64::from(mark)),
    }
}

/// A stream whose outputs are looked at.
struct Subject {
    stream: AgentStream,
    now: Moment,
    out: Vec<Output>,
    played: Vec<u8>,
    over: bool,
}

impl Subject {
    fn new(dialect: Box<dyn Dialect>) -> Self {
        let stream = AgentStream::new((dialect, TIMEOUT)).enduring(FaultPolicy::USUAL, None);
        let (now, out) = (Moment::START, Vec::new());
        let mut subject = Self { stream, now, out, played: Vec::new(), over: false };
        for input in [Input::Started, Input::Connected, Input::CallAnswered] {
            subject.give(input, 0);
        }
        subject
    }

    fn give(&mut self, input: Input<'_>, size: usize) {
        self.now += Duration::from_millis(20);
        self.stream.handle(self.now, input, &mut self.out);
        if self.stream.deadline().is_some_and(|deadline| self.now >= deadline) {
            self.stream.handle(self.now, Input::DeadlineReached, &mut self.out);
        }
        let bound = 4 * AGENT_MARKS_MAX + size + 16;
        assert!(self.out.len() <= bound, "one input caused {} outputs", self.out.len());
        let mut new = 0;
        for output in self.out.drain(..) {
            assert!(!self.over || output == Output::Close, "{output:?} after the end");
            match output {
                Output::Play(audio) | Output::PlayWide(audio) => {
                    assert!(!audio.is_empty(), "an empty piece of audio");
                    new += audio.len();
                    self.played.extend(audio);
                }
                Output::Send(text) => {
                    assert!(std::str::from_utf8(&text).is_ok(), "a message that is no text");
                }
                Output::Lost(_) | Output::Failed(_) => self.over = true,
                Output::Connect
                | Output::Reconnect
                | Output::Ping
                | Output::Mark(_)
                | Output::Finish
                | Output::Clear
                | Output::Close
                | Output::Ready
                | Output::Interrupted(_)
                | Output::Missed
                | Output::Resumed
                | Output::HangupRequested
                | Output::SendBinary(_)
                | Output::Hold(_)
                | Output::TransferRequested(_)
                | Output::DigitsRequested(_)
                | Output::Said(_) => {}
            }
        }
        assert!(new <= size + HELD_BACK, "audio from nowhere");
    }

    fn end(mut self) -> Vec<u8> {
        self.give(Input::CallEnded, 0);
        assert_eq!(self.stream.deadline(), None, "a stream that is over waits for something");
        self.played
    }
}
