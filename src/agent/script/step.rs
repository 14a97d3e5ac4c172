//! The steps of a script.

use crate::types::id::AiProfileId;
use crate::types::number::E164;
use crate::types::peer::Credentials;
use crate::types::peer::PeerUri;
use std::time::Duration;

/// One step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// The caller hears this to its end, so many times.
    Play(Playing),
    /// These keys are sent to the caller's side; each `w` among them is half a second of nothing.
    SendKeys(String),
    /// Nothing is said for so long.
    Pause(Duration),
    /// Keys are asked for.
    Gather(Box<Gather>),
    /// An agent of its own speaks and listens until it is through.
    Stream(Box<Stream>),
    /// The caller is connected with somebody else until that one is through.
    Dial(Box<Dial>),
    /// What the caller says is recorded.
    Record(Box<Record>),
    /// The caller says something; it goes on once that is said.
    Listen(Listen),
    /// Another script takes this one's place.
    Redirect(Next),
    /// The agent of another profile takes over for good.
    Attach(AiProfileId),
    /// The caller is refused, or hung up where it was answered.
    Reject(RejectReason),
    /// The call ends.
    HangUp,
}

/// A sound, and how often it is heard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Playing {
    /// What.
    pub sound: Sound,
    /// How often, at least once.
    pub rounds: u32,
}

impl Playing {
    /// Once.
    #[must_use]
    pub const fn once(sound: Sound) -> Self {
        Self { sound, rounds: 1 }
    }
}

/// What may be heard.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Sound {
    /// What is behind a URL: WAV or µ-law.
    Url(String),
    /// A sound of the node, by its name.
    Asset(String),
    /// Free text, spoken.
    Speech {
        /// What is said.
        text: String,
        /// In which language, as the script names it; empty: as usual.
        language: String,
        /// By which voice, as the script names it; empty: as usual.
        voice: String,
    },
    /// A prompt that comes with the program, by its name.
    Prompt(&'static str),
    /// The tone after which one speaks.
    Beep,
}

/// Which script comes next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// What a web server answers. The address may be relative to that of the script that names it, and is that
    /// where it is empty.
    Url {
        /// Where.
        address: String,
        /// How it is asked.
        method: Method,
    },
    /// A part of the same local script.
    Part(u32),
}

/// How a web server is asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Method {
    /// With a form.
    #[default]
    Post,
    /// With a query.
    Get,
}

impl Method {
    /// The spelling of HTTP.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Post => "POST",
            Self::Get => "GET",
        }
    }
}

/// Keys are asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gather {
    /// Heard meanwhile, until the first key.
    pub prompts: Vec<Prompt>,
    /// So many keys are enough; `None`: any number.
    pub digits_max: Option<u32>,
    /// Ends them and is none of them.
    pub finish_key: Option<char>,
    /// Waited for the first key and after each.
    pub timeout: Duration,
    /// Where they go.
    pub next: Next,
    /// Whether that is asked without a key, too.
    pub even_empty: bool,
}

/// What is heard while keys are waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Prompt {
    /// A sound.
    Play(Playing),
    /// Nothing.
    Pause(Duration),
}

/// An agent at the other end of a media stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stream {
    /// Its address, `ws://` or `wss://`.
    pub url: String,
    /// What its script calls it.
    pub name: String,
    /// What it is told.
    pub parameters: Vec<(String, String)>,
    /// Who is told how it fares.
    pub status: Option<Next>,
}

/// Somebody the caller is connected with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dial {
    /// Whom: all of them are rung at once, and who answers first is it.
    pub to: Vec<DialTo>,
    /// Which number they are shown; `None`: as the trunk says.
    pub caller_id: Option<E164>,
    /// How long they are rung.
    pub timeout: Duration,
    /// How long they may talk; `None`: as long as the call may last.
    pub limit: Option<Duration>,
    /// Who is told how it went; `None`: the next step follows.
    pub next: Option<Next>,
    /// What is recorded of it; `None`: nothing beyond what is recorded anyway.
    pub record: Option<DialRecord>,
}

/// Whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DialTo {
    /// A telephone number.
    Number(E164),
    /// A SIP address, and who we are where it asks.
    Peer(PeerUri, Option<Credentials>),
}

/// What is recorded of a conversation with somebody who is dialled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DialRecord {
    /// From the first ring on; else from the answer.
    pub from_ringing: bool,
    /// Who is told once it can be fetched.
    pub status: Option<Next>,
}

/// What the caller says is recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// At most so long.
    pub length_max: Duration,
    /// Until so long a silence; `None`: silence ends nothing.
    pub silence: Option<Duration>,
    /// Keys that end it.
    pub finish_keys: String,
    /// A tone is heard before.
    pub beep: bool,
    /// Who is told of it; `None`: the next step follows.
    pub next: Option<Next>,
    /// Who is told once it can be fetched.
    pub status: Option<Next>,
}

/// The caller says something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listen {
    /// So long it may say nothing.
    pub patience: Duration,
    /// So long a silence ends what it says.
    pub silence: Duration,
    /// Where it goes on once the caller spoke.
    pub spoke: u32,
    /// Where it goes on when the caller said nothing.
    pub silent: u32,
}

/// How a caller is refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RejectReason {
    /// The number does not want the call.
    #[default]
    Rejected,
    /// It is busy.
    Busy,
}
