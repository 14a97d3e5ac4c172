//! What a script is told (past tense) and what it asks for (imperative).

use crate::agent::script::answers::Answers;
use crate::agent::script::answers::DialAnswer;
use crate::agent::script::answers::ScriptError;
use crate::agent::script::step::Dial;
use crate::agent::script::step::Next;
use crate::agent::script::step::RejectReason;
use crate::agent::script::step::Sound;
use crate::agent::script::step::Step;
use crate::agent::script::step::Stream;
use crate::audio::link::FRAME_BYTES;
use crate::types::cause::HangupCause;
use crate::types::id::AiProfileId;
use crate::types::id::RecordingId;
use bytes::Bytes;
use std::time::Duration;

/// A script that was had.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Script {
    /// Its steps.
    pub steps: Vec<Step>,
    /// What it asks for and will not get, for people.
    pub remarks: Vec<String>,
    /// Where it came from; relative addresses in it are beside this one.
    pub address: String,
}

/// What happened.
#[derive(Clone, Debug)]
pub enum Input<'a> {
    /// The script is wanted; the first input.
    Started,
    /// The call was answered.
    Answered,
    /// What was asked for came, or cannot be had.
    Script(u32, Result<Script, ScriptError>),
    /// A sound came, or why it cannot be had.
    Sound(u32, Result<Bytes, String>),
    /// What was queued before this mark was heard.
    MarkPlayed(u64),
    /// Nobody hears what is played: it waits until somebody does.
    Unheard,
    /// The caller pressed a key.
    Digit(char),
    /// 20 ms of the caller, µ-law at 8 kHz.
    Audio(&'a [u8; FRAME_BYTES]),
    /// The agent of the stream is there.
    StreamReady,
    /// The stream is over; `None`: its agent closed it.
    StreamEnded(Option<HangupCause>),
    /// Whom the caller is to be connected with answered.
    DialAnswered,
    /// Whom the caller was connected with is gone, or could not be had.
    DialEnded(DialAnswer),
    /// The recording runs.
    RecordingBegun(RecordingId),
    /// The recording is whole, and so long; `None`: there is none.
    Recorded(Option<(RecordingId, Duration)>),
    /// Another script takes the place of the present one at once.
    Replaced(Replacement),
    /// The call is over.
    CallEnded,
    /// The moment given by `Interpreter::deadline` is here.
    DeadlineReached,
}

/// A script that takes another's place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Replacement {
    /// It has to be asked for.
    Next(Next),
    /// Here it is.
    Script(Box<Script>),
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Tell the call that there is somebody who speaks.
    Ready,
    /// Tell the call that there never was.
    Failed(HangupCause),
    /// Tell the call that there is nobody any more.
    Lost(HangupCause),
    /// End the call; its last words were heard.
    HangUp,
    /// Refuse the call.
    Reject(RejectReason),
    /// Get the next script; answered by [`Input::Script`] with this number.
    Ask {
        /// Which.
        job: u32,
        /// Where; an address is a whole one.
        next: Next,
        /// What is told.
        answers: Answers,
    },
    /// Tell a web server, whose answer nobody waits for.
    Tell {
        /// Where; an address is a whole one.
        next: Next,
        /// What is told.
        answers: Answers,
        /// The stream it is about.
        stream: String,
    },
    /// Get a sound; answered by [`Input::Sound`] with this number.
    Load {
        /// Which.
        job: u32,
        /// What; a URL is a whole one.
        sound: Sound,
    },
    /// Queue this µ-law audio for the caller.
    Play(Bytes),
    /// Queue a mark behind it.
    Mark(u64),
    /// What was queued is all for now.
    Finish,
    /// Drop what was queued.
    Clear,
    /// Send the caller's side these keys.
    SendKeys(String),
    /// Let this agent speak and listen; ended by [`Input::StreamEnded`].
    OpenStream(Box<Stream>),
    /// End it.
    CloseStream,
    /// Connect the caller with somebody else; ended by [`Input::DialEnded`].
    Dial(Box<Dial>),
    /// End that.
    EndDial,
    /// Record the call; answered by [`Input::RecordingBegun`], ended by [`Input::Recorded`].
    BeginRecording,
    /// End that.
    EndRecording,
    /// Let the agent of another profile take over. Nothing follows.
    Attach(AiProfileId),
    /// Something for the record.
    Note(Note),
}

/// Something for the record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// What.
    pub what: NoteKind,
    /// More of it, for people.
    pub detail: String,
}

/// What is noted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoteKind {
    /// A script came.
    Script,
    /// It asks for something it will not get.
    Remark,
    /// A script is of no use.
    ScriptFailed,
    /// The script for that case is asked for.
    Fallback,
    /// A sound is left out.
    SoundFailed,
    /// An agent's stream failed.
    StreamFailed,
    /// A recording failed.
    RecordFailed,
    /// Another script took over.
    Replaced,
}

impl NoteKind {
    /// The spelling of records.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Script => "script",
            Self::Remark => "remark",
            Self::ScriptFailed => "script_failed",
            Self::Fallback => "fallback_script",
            Self::SoundFailed => "sound_failed",
            Self::StreamFailed => "stream_failed",
            Self::RecordFailed => "record_failed",
            Self::Replaced => "script_replaced",
        }
    }
}

/// What a script begins with.
#[derive(Clone, Debug)]
pub struct Beginning {
    /// The first script.
    pub first: Replacement,
    /// The one for when another cannot be had.
    pub fallback: Option<Next>,
    /// It begins when the call is answered: the call is one of ours.
    pub after_answer: bool,
}
