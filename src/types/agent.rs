//! How an agent is reached and how a call with it begins and ends: the agent part of an AI profile.

use crate::types::barge_in::BargeIn;
use crate::types::header::FieldName;
use crate::types::header::FieldValue;
use crate::types::header::NameGlob;
use crate::types::number::E164;
use crate::types::peer::Credentials;
use crate::types::peer::PeerUri;
use crate::types::script::ProfileScript;
use crate::types::secret::Secret;
use crate::types::srtp::SrtpPolicy;
use std::time::Duration;

/// The agent settings of an AI profile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentSettings {
    /// What answers.
    pub kind: AgentKind,
    /// When the call is answered.
    pub answer: AnswerPolicy,
    /// What happens when the caller speaks over the agent.
    pub barge_in: BargeIn,
    /// After this long from the answer the switch hangs up; `None`: the trunk's longest duration.
    pub hangup_after: Option<Duration>,
    /// After this long from the answer the switch sends a re-INVITE by itself (a test of carriers).
    pub reinvite_after: Option<Duration>,
}

/// What answers a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AgentKind {
    /// A bot that speaks Twilio Media Streams; Tandem dials it.
    Twilio(TwilioAgent),
    /// Sends the caller's audio back.
    Echo,
    /// A continuous tone of this many Hz.
    Tone {
        /// Frequency, 50 to 3400 Hz.
        hz: u16,
    },
    /// Plays the built-in announcement once and hangs up.
    Announce,
    /// Greets, then repeats each thing the caller said after the caller stopped.
    Parrot,
    /// An agent behind a SIP address; Tandem dials it as another leg of the call.
    Sip(SipAgent),
    /// A telephone number the call is passed on to, by the tenant's trunks.
    Forward(ForwardedNumber),
    /// Documents of a web server that lead the call (TwiML).
    Twiml(Box<TwimlAgent>),
    /// A script that the profile holds itself.
    Script(Box<ProfileScript>),
}

/// Documents that lead a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TwimlAgent {
    /// Where the first comes from.
    pub source: TwimlSource,
    /// Asked when another cannot be had.
    pub fallback: Option<WebAddress>,
    /// Told how the call gets on.
    pub status: Option<WebAddress>,
    /// Key of `X-Twilio-Signature`; empty: no signature is sent.
    pub auth_token: Secret<String>,
    /// How long an answer may take.
    pub timeout: Duration,
}

/// Where a document comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TwimlSource {
    /// A web server.
    Web(WebAddress),
    /// It was given with the call.
    Document(String),
}

/// The address of a web server, and how it is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebAddress {
    /// `http://` or `https://`, exactly as asked and signed.
    pub url: String,
    /// By GET; else by POST.
    pub by_get: bool,
}

impl AgentKind {
    /// Whether it is a program of somebody else's that speaks and listens.
    #[must_use]
    pub const fn is_outside(&self) -> bool {
        match self {
            Self::Twilio(_) | Self::Twiml(_) => true,
            Self::Echo
            | Self::Tone { .. }
            | Self::Announce
            | Self::Parrot
            | Self::Sip(_)
            | Self::Forward(_)
            | Self::Script(_) => false,
        }
    }
}

/// An agent behind a SIP address of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SipAgent {
    /// Its address.
    pub uri: PeerUri,
    /// Who we are, where it asks.
    pub credentials: Option<Credentials>,
    /// More header fields of the INVITE; a value may name variables of the call, `{var.NAME}`.
    pub headers: Vec<(FieldName, FieldValue)>,
    /// Which header fields that come with a call go on to it.
    pub pass: Vec<NameGlob>,
    /// Whether its media is encrypted; not `Off` only where its address is reached over TLS.
    pub srtp: SrtpPolicy,
    /// After this long without an answer it is given up.
    pub ring_max: Duration,
}

/// A number a call is passed on to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ForwardedNumber {
    /// The number.
    pub to: E164,
    /// After this long without an answer it is given up.
    pub ring_max: Duration,
}

/// A bot that speaks Twilio Media Streams over WebSocket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TwilioAgent {
    /// `ws://` or `wss://`, exactly as dialled and signed.
    pub url: String,
    /// Key of `X-Twilio-Signature`; empty: no signature is sent.
    pub auth_token: Secret<String>,
    /// Sent in `start.customParameters` beside `from_number` and `to_number`.
    pub parameters: Vec<(String, String)>,
    /// How long TCP, TLS and the WebSocket handshake may take together.
    pub connect_timeout: Duration,
}

/// When the call is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnswerPolicy {
    /// As soon as the agent is connected; the caller hears ringing before.
    WhenReady,
    /// At once; the agent connects meanwhile.
    Immediate,
    /// When the agent is connected and it has rung this long.
    After(Duration),
}
