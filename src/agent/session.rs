//! `AgentSession`: everything between a call and its agent, as a pure state machine, whatever the
//! agent is: a bot behind a WebSocket or a built-in one.

#![warn(clippy::wildcard_enum_match_arm)]

use crate::agent::builtin::BuiltIn;
use crate::agent::builtin::announce::Announce;
use crate::agent::builtin::announce::Announcement;
use crate::agent::builtin::echo::Echo;
use crate::agent::builtin::parrot::Parrot;
use crate::agent::builtin::tone::Tone;
use crate::agent::dialect;
use crate::agent::dialect::AudioRoom;
use crate::agent::outbox::Outbox;
use crate::agent::story::Story;
use crate::agent::stream::AgentStream;
use crate::audio::frame::WidePcm;
use crate::audio::link::FRAME_BYTES;
use crate::audio::sound::Sound;
use crate::types::agent::AgentKind;
use crate::types::agent::AgentSettings;
use crate::types::agent_trouble::FaultWord;
use crate::types::agent_trouble::Garbage;
use crate::types::agent_trouble::LinkTroubles;
use crate::types::cache::fetch;
use crate::types::cause::HangupCause;
use crate::types::codec::Law;
use crate::types::header::CallVariables;
use crate::types::id::CallId;
use crate::types::id::TenantId;
use crate::types::moment::Moment;
use crate::types::number::E164;
use crate::types::trace_context::TraceContext;
use bytes::Bytes;

/// What an agent is told about its call.
#[derive(Clone)]
pub struct AgentCall {
    /// The call.
    pub call_id: CallId,
    /// Whose call it is.
    pub tenant: TenantId,
    /// The caller as received or normalised; empty when anonymous.
    pub caller: String,
    /// The number that was dialled.
    pub dialled: E164,
    /// What the headers of the call set.
    pub variables: CallVariables,
    /// Where it stands in a trace; `None`: calls are not traced.
    pub trace: Option<TraceContext>,
    /// What was said while another agent led it, for one that takes over; `None`: it is the first.
    pub before: Option<Story>,
}

/// What happened.
#[derive(Clone, Copy, Debug)]
pub enum Input<'a> {
    /// The agent is wanted; the first input.
    Started,
    /// The WebSocket is open.
    Connected,
    /// It could not be opened.
    ConnectFailed,
    /// It may not be opened: the agent's address is not allowed.
    ConnectForbidden,
    /// It is not tried: calls to its address failed too often lately.
    ConnectSkipped,
    /// A text message came from the agent.
    Text(&'a [u8]),
    /// A binary message, or the next bytes of a connection without messages, came from the agent.
    Binary(&'a [u8]),
    /// The agent answered a ping.
    Pong,
    /// The WebSocket ended from the far side.
    PeerClosed(PeerClose),
    /// What was sent is no longer taken by the network.
    SendBlocked,
    /// All that was sent has been taken.
    SendReady,
    /// The playout queue has its fill, or the node of long messages: nothing more is read from the agent.
    PlayoutFull,
    /// There is room again.
    PlayoutRoom,
    /// 20 ms of the caller, G.711 at 8 kHz of the agent's [law](AgentKind::law).
    Audio(&'a [u8; FRAME_BYTES]),
    /// The same at 16 kHz.
    WideAudio(&'a WidePcm),
    /// The caller pressed a key.
    Digit(char),
    /// Everything before the mark was played.
    MarkPlayed(u64),
    /// The playout queue was emptied on request; of what was queued since the request before, or since the
    /// link began, so many samples were played.
    Cleared(u64),
    /// The caller speaks over the agent, of whose utterance so many ms were played.
    BargeIn(u64),
    /// Nobody hears the agent: what it says now is dropped, of which so many ms were played before.
    Unheard(u64),
    /// The caller stopped speaking, and nothing of the agent is played or waits to be; false: it does not wait for the
    /// agent any more.
    CallerWaits(bool),
    /// The agent speaks and listens over another link from now on; what it had queued in the one before is
    /// dropped.
    Relinked,
    /// So many ms wait to be played; told when it changed, where [`AgentSession::wants_level`].
    Level(u32),
    /// What the agent asked for with [`Output::TransferRequested`] or [`Output::DigitsRequested`] is under
    /// way, or was refused for this reason.
    Answered(Result<(), &'a str>),
    /// The transfer the agent asked for failed, or, with the cause `Normal`, was withdrawn; the caller hears it again.
    TransferFailed(HangupCause),
    /// The playout queue ran empty after [`Output::Finish`].
    Drained,
    /// The call was answered.
    CallAnswered,
    /// The call is over.
    CallEnded,
    /// The moment given by [`AgentSession::deadline`] is here.
    DeadlineReached,
}

/// How a WebSocket ended from the far side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerClose {
    /// By a close frame, with its code if it had one (RFC 6455 §7.4).
    Frame(Option<u16>),
    /// Without one.
    Dropped,
    /// The agent broke the WebSocket protocol or sent an oversized message.
    Violated,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Dial the agent; give up a dial that is under way.
    Connect,
    /// The same in a call in which its connection broke.
    Reconnect,
    /// Send this text message.
    Send(Bytes),
    /// Send this binary message.
    SendBinary(Bytes),
    /// Send a ping.
    Ping,
    /// Queue this audio, G.711 of the agent's [law](AgentKind::law), for the caller.
    Play(Bytes),
    /// The same of pairs of samples at 16 kHz.
    PlayWide(Bytes),
    /// Queue a mark behind what was queued.
    Mark(u64),
    /// What was queued is a whole utterance: play all of it.
    Finish,
    /// Drop what was queued.
    Clear,
    /// Play nothing until the same with `false`.
    Hold(bool),
    /// Close the WebSocket with code 1000.
    Close,
    /// Tell the call that the agent is there.
    Ready,
    /// Tell the call that the agent never came.
    Failed(HangupCause),
    /// Tell the call that the agent is gone.
    Lost(HangupCause),
    /// Tell the call that the agent's connection broke and is made anew; what it had said is played.
    Interrupted(HangupCause),
    /// Tell the call that nothing more is heard of an agent whose connection broke, until [`Self::Resumed`].
    Missed,
    /// Tell the call that the agent is there again.
    Resumed,
    /// Tell the call that the agent wants it ended; its last words were played.
    HangupRequested,
    /// Tell the call that the agent wants the caller connected with this number or SIP address; answered by
    /// [`Input::Answered`].
    TransferRequested(String),
    /// Tell the call that the agent wants these keys sent to the caller's side; answered by
    /// [`Input::Answered`].
    DigitsRequested(String),
    /// Tell the call what was said, as the agent has it.
    Said(Said),
}

/// Something that was said in a call, as its agent has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// By the agent; else by the caller.
    pub by_agent: bool,
    /// What.
    pub text: String,
}

/// What went over a link with an agent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AgentCounters {
    /// Attempts to connect.
    pub connects: u32,
    /// Frames of caller audio sent, 20 ms each.
    pub frames_sent: u64,
    /// Frames of caller audio dropped because the agent did not read.
    pub frames_dropped: u64,
    /// Marks and keys not reported because the agent did not read.
    pub events_dropped: u64,
    /// Messages received.
    pub messages: u64,
    /// Bytes of audio received, after decoding.
    pub audio_bytes: u64,
    /// Marks received.
    pub marks: u64,
    /// Requests to clear received.
    pub clears: u64,
    /// Malformed messages received.
    pub garbage: Garbage,
    /// Messages received with an event that means nothing to us.
    pub unknown: u64,
    /// Errors that the agent told of.
    pub errors: u64,
    /// The last of these.
    pub last_error: Option<FaultWord>,
}

impl AgentCounters {
    /// Counts what `outbox` dropped, too.
    pub(super) const fn add_dropped(&mut self, outbox: &Outbox) {
        self.frames_dropped += outbox.frames_dropped();
        self.events_dropped += outbox.events_dropped();
    }

    /// What of it was amiss.
    #[must_use]
    pub fn troubles(&self) -> LinkTroubles {
        LinkTroubles {
            frames_dropped: self.frames_dropped,
            events_dropped: self.events_dropped,
            garbage: self.garbage,
            unknown: self.unknown,
            errors: self.errors,
            last_error: self.last_error.clone(),
        }
    }
}

/// The session with one agent.
pub struct AgentSession {
    mind: Mind,
}

enum Mind {
    Stream(Box<AgentStream>),
    BuiltIn { agent: Box<dyn BuiltIn>, state: BuiltInState },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BuiltInState {
    Idle,
    Running,
    Over,
}

impl AgentSession {
    /// A session with the agent of `settings`; it does nothing before [`Input::Started`].
    #[must_use]
    pub fn new(settings: &AgentSettings, call: &AgentCall) -> Self {
        if let Some(dialect) = dialect::of(settings, call) {
            let stream = AgentStream::new(dialect).enduring(settings.faults, call.before.clone());
            return Self { mind: Mind::Stream(Box::new(stream)) };
        }
        match &settings.kind {
            AgentKind::Echo => Self::built_in(Box::new(Echo::new())),
            AgentKind::Tone { hz } => Self::built_in(Box::new(Tone::new(*hz))),
            AgentKind::Announce => Self::announcement(Announcement::Standard),
            AgentKind::Parrot => Self::built_in(Box::new(Parrot::new())),
            // Another leg of the call, which has no session here; were one asked for, nobody is there.
            AgentKind::Twilio(_)
            | AgentKind::ChanWebsocket(_)
            | AgentKind::AudioSocket(_)
            | AgentKind::Realtime(_)
            | AgentKind::Sip(_)
            | AgentKind::Forward(_)
            | AgentKind::Twiml(_)
            | AgentKind::Script(_) => Self::announcement(Announcement::Fallback),
        }
    }

    /// A session that plays `announcement` and then asks for the end of the call.
    #[must_use]
    pub fn announcement(announcement: Announcement) -> Self {
        Self::built_in(Box::new(Announce::new(announcement)))
    }

    fn built_in(agent: Box<dyn BuiltIn>) -> Self {
        Self { mind: Mind::BuiltIn { agent, state: BuiltInState::Idle } }
    }

    /// Applies `input`; appends what must be done to `out`. Total: a senseless input changes nothing.
    pub fn handle(&mut self, now: Moment, input: Input<'_>, out: &mut Vec<Output>) {
        match &mut self.mind {
            Mind::Stream(stream) => stream.handle(now, input, out),
            Mind::BuiltIn { agent, state } => *state = state.next(agent.as_mut(), input, out),
        }
    }

    /// Appends to `text` the message that tells the agent of 20 ms of the caller, where [`Input::Audio`] would make one
    /// [`Output::Send`] of them and nothing else: they are told by that then. `false` decides nothing, and appends
    /// nothing.
    pub fn write_frame(&mut self, frame: &[u8; FRAME_BYTES], text: &mut Vec<u8>) -> bool {
        match &mut self.mind {
            Mind::Stream(stream) => stream.write_frame(frame, text),
            Mind::BuiltIn { .. } => false,
        }
    }

    /// The audio that a text of the agent is, put into `room`, where [`Input::Text`] would make one [`Output::Play`] of it
    /// and nothing else: that is to be played then. `None` decides nothing.
    pub fn read_audio<'a>(&mut self, text: &[u8], room: &'a mut AudioRoom) -> Option<&'a [u8]> {
        match &mut self.mind {
            Mind::Stream(stream) => stream.read_audio(text, room),
            Mind::BuiltIn { .. } => None,
        }
    }

    /// Has the processor fetch what 20 ms of audio need, one way or the other.
    pub fn fetch(&self) {
        match &self.mind {
            Mind::Stream(stream) => stream.fetch(),
            Mind::BuiltIn { agent, .. } => fetch(&**agent),
        }
    }

    /// The next moment at which this wants [`Input::DeadlineReached`].
    #[must_use]
    pub fn deadline(&self) -> Option<Moment> {
        match &self.mind {
            Mind::Stream(stream) => stream.deadline(),
            Mind::BuiltIn { .. } => None,
        }
    }

    /// Whether [`Input::Level`] is wanted now.
    #[must_use]
    pub fn wants_level(&self) -> bool {
        match &self.mind {
            Mind::Stream(stream) => stream.wants_level(),
            Mind::BuiltIn { .. } => false,
        }
    }

    /// Takes in what was said, by whoever wrote it down: an agent whose connection is made anew is told of it.
    pub fn recount(&mut self, said: &Said) {
        match &mut self.mind {
            Mind::Stream(stream) => stream.recount(said),
            Mind::BuiltIn { .. } => (),
        }
    }

    /// More of why the agent failed than its cause, where that is known.
    #[must_use]
    pub fn fault(&self) -> Option<FaultWord> {
        match &self.mind {
            Mind::Stream(stream) => stream.fault(),
            Mind::BuiltIn { .. } => None,
        }
    }

    /// What went over the link so far.
    #[must_use]
    pub fn counters(&self) -> AgentCounters {
        match &self.mind {
            Mind::Stream(stream) => stream.counters(),
            Mind::BuiltIn { .. } => AgentCounters::default(),
        }
    }
}

impl BuiltInState {
    fn next(self, agent: &mut dyn BuiltIn, input: Input<'_>, out: &mut Vec<Output>) -> Self {
        match self {
            Self::Idle => Self::idle(agent, input, out),
            Self::Running => Self::running(agent, input, out),
            Self::Over => Self::Over,
        }
    }

    fn idle(agent: &mut dyn BuiltIn, input: Input<'_>, out: &mut Vec<Output>) -> Self {
        if !matches!(input, Input::Started) {
            return Self::Idle;
        }
        out.push(Output::Ready);
        agent.begin(out);
        Self::Running
    }

    fn running(agent: &mut dyn BuiltIn, input: Input<'_>, out: &mut Vec<Output>) -> Self {
        match input {
            Input::Audio(frame) => agent.hear(frame, out),
            // Their links are never made for it.
            Input::WideAudio(wide) => agent.hear(&Sound::Wide(*wide).as_law(Law::Mu), out),
            Input::Digit(digit) => agent.digit(digit, out),
            Input::MarkPlayed(id) => agent.mark_played(id, out),
            Input::Drained => agent.drained(out),
            Input::CallEnded => return Self::Over,
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
            | Input::Cleared(_)
            | Input::BargeIn(_)
            | Input::Unheard(_)
            | Input::CallerWaits(_)
            | Input::Relinked
            | Input::Level(_)
            | Input::Answered(_)
            | Input::TransferFailed(_)
            | Input::CallAnswered
            | Input::DeadlineReached => {}
        }
        Self::Running
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::agent::AnswerPolicy;
    use crate::types::barge_in::BargeIn;
    use crate::types::fault_policy::FaultPolicy;
    use uuid::Uuid;

    fn session(kind: AgentKind) -> AgentSession {
        let answer = AnswerPolicy::Immediate;
        let settings = AgentSettings {
            kind,
            answer,
            barge_in: BargeIn::OFF,
            hangup_after: None,
            reinvite_after: None,
            faults: FaultPolicy::USUAL,
            hold_music: None,
        };
        let call = AgentCall {
            call_id: CallId::from_uuid(Uuid::from_u128(1)),
            tenant: TenantId::from_uuid(Uuid::from_u128(2)),
            caller: String::new(),
            dialled: "+15550100".parse().unwrap(),
            variables: CallVariables::default(),
            trace: None,
            before: None,
        };
        AgentSession::new(&settings, &call)
    }

    fn put(session: &mut AgentSession, input: Input<'_>) -> Vec<Output> {
        let mut out = Vec::new();
        session.handle(Moment::START, input, &mut out);
        out
    }

    #[test]
    fn a_built_in_agent_is_ready_at_once_and_silent_before_and_after() {
        let kinds =
            [AgentKind::Echo, AgentKind::Tone { hz: 440 }, AgentKind::Announce, AgentKind::Parrot];
        for kind in kinds {
            let mut session = session(kind.clone());
            let others = [Input::Audio(&[1; FRAME_BYTES]), Input::MarkPlayed(1), Input::Drained];
            for input in others {
                assert_eq!(put(&mut session, input), [], "{kind:?} before its start");
            }
            assert_eq!(put(&mut session, Input::Started).first(), Some(&Output::Ready), "{kind:?}");
            assert_eq!(put(&mut session, Input::Started), [], "{kind:?} starts once");
            assert_eq!(put(&mut session, Input::CallEnded), []);
            for input in others {
                assert_eq!(put(&mut session, input), [], "{kind:?} after its end");
            }
            assert_eq!(session.deadline(), None);
        }
    }

    #[test]
    fn the_fallback_is_another_announcement() {
        let play = |mut session: AgentSession| put(&mut session, Input::Started);
        let standard = play(session(AgentKind::Announce));
        let fallback = play(AgentSession::announcement(Announcement::Fallback));
        assert!(fallback.contains(&Output::Play(Announcement::Fallback.audio())));
        assert_ne!(standard, fallback);
    }
}
