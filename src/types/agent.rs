//! How an agent is reached and how a call with it begins and ends: the agent part of an AI profile.

use crate::types::asset::AssetName;
use crate::types::barge_in::BargeIn;
use crate::types::codec::Law;
use crate::types::fault_policy::FaultPolicy;
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
    /// What is done for a caller whose agent fails.
    pub faults: FaultPolicy,
    /// What the caller hears while it is on hold with us; `None`: comfort noise.
    pub hold_music: Option<AssetName>,
}

/// What answers a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AgentKind {
    /// A bot that speaks Twilio Media Streams; Tandem dials it.
    Twilio(TwilioAgent),
    /// A bot that speaks Asterisk's chan_websocket; either side dials.
    ChanWebsocket(ChanWebsocketAgent),
    /// A server of OpenAI's Realtime protocol; Tandem dials it.
    Realtime(Box<RealtimeAgent>),
    /// A bot that speaks Asterisk's AudioSocket; Tandem dials it.
    AudioSocket(AudioSocketAgent),
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
    /// Whether it hears and says more than 8 kHz where the caller's codec has more.
    #[must_use]
    pub const fn hears_wide(&self) -> bool {
        match self {
            Self::ChanWebsocket(agent) => agent.audio.factor() > 1,
            Self::Realtime(agent) => agent.audio.factor() > 1,
            Self::AudioSocket(agent) => agent.rate > 8_000,
            Self::Twilio(_)
            | Self::Twiml(_)
            | Self::Echo
            | Self::Tone { .. }
            | Self::Announce
            | Self::Parrot
            | Self::Sip(_)
            | Self::Forward(_)
            | Self::Script(_) => false,
        }
    }

    /// The law of G.711 in which it hears and is heard at 8 kHz: that of its format, or where that is none µ-law, which is
    /// turned to and from its format.
    #[must_use]
    pub const fn law(&self) -> Law {
        match self {
            Self::ChanWebsocket(agent) => agent.audio.law(),
            Self::Realtime(agent) => agent.audio.law(),
            Self::Twilio(_)
            | Self::AudioSocket(_)
            | Self::Twiml(_)
            | Self::Echo
            | Self::Tone { .. }
            | Self::Announce
            | Self::Parrot
            | Self::Sip(_)
            | Self::Forward(_)
            | Self::Script(_) => Law::Mu,
        }
    }

    /// Whether it is one of the switch's that says at once what it has to say, and no more before that was played.
    #[must_use]
    pub const fn queues_little(&self) -> bool {
        match self {
            Self::Echo | Self::Tone { .. } | Self::Announce | Self::Parrot => true,
            Self::Twilio(_)
            | Self::ChanWebsocket(_)
            | Self::AudioSocket(_)
            | Self::Realtime(_)
            | Self::Twiml(_)
            | Self::Sip(_)
            | Self::Forward(_)
            | Self::Script(_) => false,
        }
    }

    /// Whether it is a program of somebody else's that speaks and listens.
    #[must_use]
    pub const fn is_outside(&self) -> bool {
        match self {
            Self::Twilio(_)
            | Self::ChanWebsocket(_)
            | Self::AudioSocket(_)
            | Self::Realtime(_)
            | Self::Twiml(_) => true,
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
    /// Who we are to it.
    pub access: Access,
    /// How long TCP, TLS and the WebSocket handshake may take together.
    pub connect_timeout: Duration,
}

/// Who we are to an agent that wants to know.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// Sent as `Authorization: Bearer`; empty: nothing is sent.
    pub bearer: Secret<String>,
    /// Sent as `Authorization: Basic` (RFC 7617), where there is no bearer.
    pub basic: Option<Credentials>,
    /// Shown on `wss://` to an agent that asks for a certificate.
    pub identity: Option<ClientIdentity>,
}

/// A client certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientIdentity {
    /// The certificate and those between it and its root, in PEM.
    pub certificates: Secret<String>,
    /// Its private key, in PEM.
    pub key: Secret<String>,
}

/// How audio is written for an agent, and by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AgentAudio {
    /// G.711 µ-law at 8 kHz.
    Ulaw,
    /// G.711 A-law at 8 kHz.
    Alaw,
    /// Samples of 16 bits, the low byte first.
    L16 {
        /// 8000, 16000 or 24000 a second.
        rate: u32,
    },
}

impl AgentAudio {
    /// Samples for each of the telephone's.
    #[must_use]
    pub const fn factor(self) -> usize {
        match self {
            Self::Ulaw | Self::Alaw => 1,
            Self::L16 { rate } => (rate / 8_000) as usize,
        }
    }

    /// The law of G.711 that is turned to and from it; itself, where it is one.
    #[must_use]
    pub const fn law(self) -> Law {
        match self {
            Self::Alaw => Law::A,
            Self::Ulaw | Self::L16 { .. } => Law::Mu,
        }
    }

    /// Bytes of 20 ms.
    #[must_use]
    pub const fn frame_bytes(self) -> usize {
        match self {
            Self::Ulaw | Self::Alaw => 160,
            Self::L16 { .. } => 320 * self.factor(),
        }
    }

    /// What Asterisk calls it.
    #[must_use]
    pub const fn asterisk_name(self) -> &'static str {
        match self {
            Self::Ulaw => "ulaw",
            Self::Alaw => "alaw",
            Self::L16 { rate: 16_000 } => "slin16",
            Self::L16 { rate: 24_000 } => "slin24",
            Self::L16 { .. } => "slin",
        }
    }

    /// The format that settings write so.
    #[must_use]
    pub fn of(text: &str) -> Option<Self> {
        match text {
            "ulaw" => Some(Self::Ulaw),
            "alaw" => Some(Self::Alaw),
            "l16_8k" => Some(Self::L16 { rate: 8_000 }),
            "l16_16k" => Some(Self::L16 { rate: 16_000 }),
            "l16_24k" => Some(Self::L16 { rate: 24_000 }),
            _ => None,
        }
    }
}

/// A bot that speaks Asterisk's chan_websocket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChanWebsocketAgent {
    /// `ws://` or `wss://`, exactly as dialled; `None`: the agent dials us.
    pub url: Option<String>,
    /// Who we are to it.
    pub access: Access,
    /// How audio is written.
    pub audio: AgentAudio,
    /// How control is written.
    pub control: ControlForm,
    /// Sent as `channel_variables` beside who calls whom.
    pub parameters: Vec<(String, String)>,
    /// How long the connection may take, from either side.
    pub connect_timeout: Duration,
}

/// The forms of chan_websocket's control messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ControlForm {
    /// Objects.
    Json,
    /// Words.
    Plain,
}

/// A bot that speaks AudioSocket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AudioSocketAgent {
    /// Host and port.
    pub address: String,
    /// Samples a second of what it hears: 8000, 16000 or 24000.
    pub rate: u32,
    /// How long the connection may take.
    pub connect_timeout: Duration,
}

/// A server of OpenAI's Realtime protocol, or one that is compatible.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RealtimeAgent {
    /// `ws://` or `wss://` with the model in its query, exactly as dialled.
    pub url: String,
    /// Who we are to it, beside the key.
    pub access: Access,
    /// The key; empty: none is sent.
    pub api_key: Secret<String>,
    /// The key goes as `Authorization: Bearer`, else as `api-key`.
    pub is_bearer: bool,
    /// The server speaks the beta's names.
    pub is_beta: bool,
    /// How audio is written: µ-law, A-law, or L16 at 24 kHz.
    pub audio: AgentAudio,
    /// What the model is told to be.
    pub instructions: String,
    /// The voice; `None`: the server's own.
    pub voice: Option<String>,
    /// The agent speaks first.
    pub greets: bool,
    /// What writes down what the caller says; `None`: nobody.
    pub transcription_model: Option<String>,
    /// How the server finds the caller's turns, an object of the protocol; `None`: by voice activity.
    pub turn_detection: Option<serde_json::Value>,
    /// The functions the model may call: of `end_call`, `transfer_call` and `send_dtmf`.
    pub tools: Vec<String>,
    /// Numbers and SIP addresses it may connect the caller with; empty: any number.
    pub transfer_to: Vec<String>,
    /// How long the connection may take until the session is set up.
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
