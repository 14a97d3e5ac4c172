//! `CallPlan`: whom to call, and what to do while the call lasts.

use crate::caller::target::Target;
use crate::types::codec::Codec;
use crate::types::secret::Secret;
use crate::types::srtp::SrtpPolicy;
use crate::types::srtp::SrtpSuite;
use crate::types::tls::TlsSettings;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Whom to call, and what to do while the call lasts.
#[derive(Clone, Debug)]
pub struct CallPlan {
    /// Whom to call.
    pub target: Target,
    /// The local address of signalling and media; `None`: that of the way to the target.
    pub local: Option<IpAddr>,
    /// The local port of SIP over UDP; 0: any free one. Over TCP and TLS any free one is taken.
    pub local_port: u16,
    /// The user part of From and Contact: who seems to call.
    pub from_user: String,
    /// How the other side must prove itself where the call goes by TLS.
    pub tls: Arc<TlsSettings>,
    /// The name its certificate must prove; `None`: the host of the target.
    pub server_name: Option<String>,
    /// What to answer one challenge with.
    pub account: Option<Account>,
    /// The codecs to offer, the preferred one first.
    pub codecs: Vec<Codec>,
    /// Whether media is encrypted.
    pub srtp: SrtpPolicy,
    /// The SRTP suites to offer, the preferred one first.
    pub srtp_suites: Vec<SrtpSuite>,
    /// What to say.
    pub speech: Speech,
    /// Digits to send as telephone events (RFC 4733) once the call is answered.
    pub digits: String,
    /// Where what is heard is written, as WAV, 8 kHz mono.
    pub record: Option<PathBuf>,
    /// How long to talk, from the answer. Digits that wait are sent before the hang-up all the same.
    pub duration: Duration,
    /// How long the other side may take to answer.
    pub answer_limit: Duration,
    /// Whether hearing nothing but silence is a failure.
    pub needs_sound: bool,
}

/// A user name and its password.
#[derive(Clone, Debug)]
pub struct Account {
    /// The user name.
    pub user: String,
    /// Its password.
    pub password: Secret<String>,
}

/// What the caller says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Speech {
    /// Nothing, in packets.
    Silence,
    /// A sine.
    Tone {
        /// Its frequency, in Hz.
        hz: u16,
    },
    /// A WAV file, once; silence follows.
    Wav(PathBuf),
}

impl CallPlan {
    /// A call to `target` that says nothing for ten seconds.
    #[must_use]
    pub fn new(target: Target) -> Self {
        Self {
            target,
            local: None,
            local_port: 0,
            from_user: "tandem".to_owned(),
            tls: Arc::default(),
            server_name: None,
            account: None,
            codecs: vec![Codec::Pcmu, Codec::Pcma],
            srtp: SrtpPolicy::Off,
            srtp_suites: vec![SrtpSuite::AesCm128HmacSha1_80],
            speech: Speech::Silence,
            digits: String::new(),
            record: None,
            duration: Duration::from_secs(10),
            answer_limit: Duration::from_secs(60),
            needs_sound: false,
        }
    }
}
