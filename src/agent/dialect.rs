//! `Dialect`: what tells one protocol of agents from another: how what they are told is written, and what
//! what they say asks for. Everything else is [`crate::agent::stream::AgentStream`], for all of them.

use crate::agent::asterisk::audio_socket::AudioSocket;
use crate::agent::asterisk::chan_websocket::ChanWebsocket;
use crate::agent::realtime::dialect::Realtime;
use crate::agent::session::AgentCall;
use crate::agent::session::Said;
use crate::agent::story::Past;
use crate::agent::twilio::dialect::Twilio;
use crate::audio::frame::WidePcm;
use crate::audio::link::FRAME_BYTES;
use crate::audio::transcode::FromAgent;
use crate::types::agent::AgentKind;
use crate::types::agent::AgentSettings;
use crate::types::agent_trouble::FaultWord;
use crate::types::barge_in::BargeInMode;
use crate::types::cause::HangupCause;
use bytes::Bytes;
use std::fmt::Debug;
use std::time::Duration;

/// Bytes of audio that a message may bring for the shorter way: 60 ms at 8 kHz.
pub const AUDIO_ROOM_BYTES: usize = 480;

/// Where audio is put that takes it.
pub type AudioRoom = [u8; AUDIO_ROOM_BYTES];

/// A protocol of agents, with the state of one connection in it. It neither knows time nor queues anything.
pub trait Dialect: Debug + Send {
    /// The connection is open, perhaps for the second time; `past`: the agent comes into a call that was led
    /// before, by another connection of it or another agent. Without an [`Act::Ready`] here the agent is there
    /// once it says so.
    fn open(&mut self, past: Option<Past<'_>>, acts: &mut Vec<Act>);

    /// The agent sent text.
    ///
    /// # Errors
    /// What is wrong with it; acts that were appended before still hold.
    fn text(&mut self, text: &[u8], acts: &mut Vec<Act>) -> Result<(), Garbled>;

    /// The agent sent bytes.
    ///
    /// # Errors
    /// What is wrong with them; acts that were appended before still hold.
    fn binary(&mut self, bytes: &[u8], acts: &mut Vec<Act>) -> Result<(), Garbled>;

    /// Tells the agent something, in as many messages as it takes, or in none.
    fn tell(&mut self, news: News<'_>, acts: &mut Vec<Act>);

    /// The audio that a text is, put into a room, where [`Self::text`] would make one [`Act::Play`] of it and nothing
    /// else. Most are that, and take this shorter way; `None` decides nothing.
    fn audio_in<'a>(&self, _: &[u8], _: &'a mut AudioRoom) -> Option<&'a [u8]> {
        None
    }

    /// Appends to `text` the message that tells the agent of a frame, where [`Self::tell`] would make one
    /// [`Act::Send`] of text of its [`News::Audio`] and nothing else. `false` decides nothing, and appends nothing.
    fn write_frame(&mut self, _: &[u8; FRAME_BYTES], _: &mut Vec<u8>) -> bool {
        false
    }

    /// Whether the agent can be asked whether it is alive.
    fn pings(&self) -> bool {
        true
    }

    /// Whether an agent that closes the connection in order wants the end of the call by that.
    fn leaves_by_closing(&self) -> bool {
        true
    }

    /// Whether it wants to know how much waits to be played.
    fn wants_level(&self) -> bool {
        false
    }
}

/// What an agent is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News<'a> {
    /// 20 ms of the caller, G.711 at 8 kHz of the agent's [law](AgentKind::law).
    Audio(&'a [u8; FRAME_BYTES]),
    /// The same at 16 kHz, to an agent that hears so much; from here on what it says may have as much.
    WideAudio(&'a WidePcm),
    /// In place of so many frames that were dropped.
    SkippedFrames(u64),
    /// The caller pressed a key.
    Digit(char),
    /// Everything before this mark was played, or dropped by a clear that echoes.
    Mark(&'a str),
    /// A clear took effect: of what was queued since the one before, so many samples were played.
    Cleared(u64),
    /// The caller speaks over the agent, of whose utterance so many ms were played.
    BargeIn(u64),
    /// Nobody hears the agent, whose caller is on hold or talks with somebody else: what it says now is dropped. So many ms of
    /// it were played before.
    Unheard(u64),
    /// The queue is another and empty: of what was in the one before nothing more is played.
    Relinked,
    /// So many ms wait to be played.
    Level(u32),
    /// What it asked for is done, or refused for this reason.
    Answer(Result<(), &'a str>),
    /// The transfer it asked for failed, or, with the cause `Normal`, was withdrawn; the caller hears it again.
    TransferFailed(HangupCause),
    /// The call is over.
    Ended,
}

/// What a dialect makes of a message, or of what its agent is to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// The agent is there.
    Ready,
    /// The agent refuses us, or cannot go on, and says so.
    Fail,
    /// Send this.
    Send(Message),
    /// Queue this audio, G.711 of the agent's [law](AgentKind::law), for the caller; never empty.
    Play(Bytes),
    /// The same of pairs of samples at 16 kHz.
    PlayWide(Bytes),
    /// Queue a mark of this name behind what was queued.
    Mark(String),
    /// What was queued is a whole reply: a pause behind it is none of its gaps.
    Over,
    /// Drop what was queued.
    Clear(Marks),
    /// Play nothing until the same with `false`.
    Hold(bool),
    /// It does not want the end of the call any more that waits for what is queued.
    Stay,
    /// The agent wants something of the call.
    Ask(Wish, When),
    /// Something was said.
    Note(Said),
    /// A message that means nothing to us, to be counted.
    Unknown,
    /// The agent tells of an error, which this word stands for.
    Complain(FaultWord),
    /// Something is wrong with a part of what came; the rest holds.
    Garbled(Garbled),
}

/// Queues what came out of `from`.
pub(super) fn played(from: &FromAgent, audio: Bytes) -> Act {
    if from.is_wide() { Act::PlayWide(audio) } else { Act::Play(audio) }
}

/// What becomes of the marks that a clear drops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Marks {
    /// The agent is told of them at once.
    Echoed,
    /// It is told nothing of them.
    Forgotten,
}

/// A message as the connection carries it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// UTF-8.
    Text(Bytes),
    /// Anything.
    Binary(Bytes),
}

/// What an agent may want of its call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wish {
    /// Its end.
    HangUp,
    /// That the caller be connected with this number or SIP address.
    Transfer(String),
    /// That these keys be sent to the caller's side.
    Digits(String),
}

/// When a wish is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// At once.
    Now,
    /// Once what was queued before it was played.
    Played,
}

/// The agent erred.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Garbled {
    /// Not a message of the dialect.
    #[error("not a message of the dialect")]
    NotAMessage,
    /// Audio without a payload, or with one that cannot be used.
    #[error("audio without a usable payload")]
    NoPayload,
    /// A payload that is not base64.
    #[error("a payload that is not base64")]
    NotBase64,
    /// Bytes where the dialect has none, or bytes it cannot read.
    #[error("bytes that mean nothing")]
    Bytes,
}

/// The dialect of an agent, and how long its connection may take; `None` for agents that are not spoken with
/// over a connection.
#[must_use]
pub fn of(settings: &AgentSettings, call: &AgentCall) -> Option<(Box<dyn Dialect>, Duration)> {
    match &settings.kind {
        AgentKind::Twilio(agent) => {
            Some((Box::new(Twilio::new(agent, call)), agent.connect_timeout))
        }
        AgentKind::ChanWebsocket(agent) => {
            Some((Box::new(ChanWebsocket::new(agent, call)), agent.connect_timeout))
        }
        AgentKind::AudioSocket(agent) => {
            Some((Box::new(AudioSocket::new(agent, call)), agent.connect_timeout))
        }
        AgentKind::Realtime(agent) => {
            let is_cut = matches!(settings.barge_in.mode, BargeInMode::Flush | BargeInMode::Pause);
            let realtime = Realtime::new(agent, is_cut);
            let pauses = settings.barge_in.mode == BargeInMode::Pause;
            let realtime = if pauses { realtime.pausing() } else { realtime };
            Some((Box::new(realtime), agent.connect_timeout))
        }
        AgentKind::Echo
        | AgentKind::Tone { .. }
        | AgentKind::Announce
        | AgentKind::Parrot
        | AgentKind::Twiml(_)
        | AgentKind::Script(_)
        | AgentKind::Sip(_)
        | AgentKind::Forward(_) => None,
    }
}

#[cfg(test)]
pub(crate) mod testing {
    use super::*;
    use crate::agent::session::Input;
    use crate::agent::session::Output;
    use crate::agent::stream::AgentStream;
    use crate::types::header::CallVariables;
    use crate::types::id::CallId;
    use crate::types::id::TenantId;
    use crate::types::limit::AGENT_MARKS_MAX;
    use crate::types::moment::Moment;
    use crate::types::random::Random;
    use uuid::Uuid;

    /// A call as the tests of dialects have it.
    pub(crate) fn call() -> AgentCall {
        AgentCall {
            call_id: CallId::from_uuid(Uuid::from_u128(1)),
            tenant: TenantId::from_uuid(Uuid::from_u128(2)),
            caller: "+15550111".to_owned(),
            dialled: "+15550100".parse().unwrap(),
            variables: CallVariables::default(),
            trace: None,
            before: None,
        }
    }

    /// Feeds a stream in the dialect that `make` makes with messages of random `words`, bytes and inputs, and
    /// checks what holds whatever comes in.
    pub(crate) fn torment(make: impl Fn() -> Box<dyn Dialect>, words: &[&str]) {
        for seed in 0..300 {
            let mut random = Random::from_seed(seed);
            let mut stream = AgentStream::new((make(), Duration::from_secs(3)));
            let (mut now, mut out, mut over) = (Moment::START, Vec::new(), false);
            stream.handle(now, Input::Started, &mut out);
            stream.handle(now, Input::Connected, &mut out);
            for _ in 0..random.below(400) {
                now += Duration::from_millis(random.below(200));
                let mut text = String::new();
                for _ in 0..random.below(8) {
                    text.push_str(words[random.below(words.len() as u64) as usize]);
                }
                let mut bytes = vec![0; random.below(700) as usize];
                random.fill(&mut bytes);
                let number = random.below(9_000);
                let input = match random.below(24) {
                    0..=10 => Input::Text(text.as_bytes()),
                    11..=13 => Input::Binary(&bytes),
                    14 => Input::Text(&bytes),
                    15 => Input::Audio(&[0xff; FRAME_BYTES]),
                    16 => Input::SendBlocked,
                    17 => Input::SendReady,
                    18 => Input::MarkPlayed(number / 100),
                    19 => Input::Cleared(number),
                    20 => Input::Drained,
                    21 => Input::Level(number as u32 * 5),
                    22 => Input::Digit('5'),
                    _ => Input::Answered(Err("no")),
                };
                let size = text.len().max(bytes.len());
                stream.handle(now, input, &mut out);
                if stream.deadline().is_some_and(|deadline| now >= deadline) {
                    stream.handle(now, Input::DeadlineReached, &mut out);
                }
                let bound = 4 * AGENT_MARKS_MAX + 16;
                assert!(out.len() <= bound, "seed {seed}: {} outputs", out.len());
                for output in out.drain(..) {
                    assert!(
                        !over || output == Output::Close,
                        "seed {seed}: {output:?} after the end"
                    );
                    match output {
                        Output::Play(audio) => {
                            assert!(!audio.is_empty() && audio.len() <= size, "audio from nowhere");
                        }
                        Output::Lost(_) | Output::Failed(_) => over = true,
                        _ => {}
                    }
                }
            }
            stream.handle(now, Input::CallEnded, &mut out);
            assert_eq!(stream.deadline(), None, "seed {seed}: it waits for something");
        }
    }
}
