//! `TrunkSignalling`: how dialogs of a trunk behave, whichever side called.

/// How dialogs of a trunk behave, whichever side called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrunkSignalling {
    /// Session timer (RFC 4028).
    pub session_timer: SessionTimer,
    /// Reliable provisional responses (RFC 3262).
    pub prack: Prack,
    /// UPDATE is taken (RFC 3311).
    pub update: bool,
}

impl Default for TrunkSignalling {
    fn default() -> Self {
        Self { session_timer: SessionTimer::default(), prack: Prack::Supported, update: true }
    }
}

/// The session timer of a trunk (RFC 4028).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionTimer {
    /// Who asks for it.
    pub mode: TimerMode,
    /// The interval we ask for, in seconds.
    pub expires_s: u32,
    /// The shortest interval we take, in seconds.
    pub min_se_s: u32,
    /// Who refreshes, where we may choose.
    pub refresher: TimerRefresher,
    /// How we refresh.
    pub method: TimerMethod,
    /// 422 only to peers that support session timers.
    pub spares_old_peers: bool,
}

impl Default for SessionTimer {
    fn default() -> Self {
        Self {
            mode: TimerMode::Accept,
            expires_s: 1_800,
            min_se_s: 90,
            refresher: TimerRefresher::Auto,
            method: TimerMethod::Auto,
            spares_old_peers: true,
        }
    }
}

/// What a caller hears of whom it is passed on to, before that answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// What becomes of the early media.
    pub early_media: EarlyMedia,
    /// A tone of ours is heard once the other end rings without media of its own.
    pub ringback: bool,
}

impl Default for Progress {
    fn default() -> Self {
        Self { early_media: EarlyMedia::CutThrough, ringback: true }
    }
}

macro_rules! spelt {
    ($(#[$doc:meta])* $name:ident { $($(#[$word_doc:meta])* $word:ident = $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name {
            $($(#[$word_doc])* $word,)+
        }

        impl $name {
            /// The value of a spelling of configuration.
            #[must_use]
            pub fn from_spelling(text: &str) -> Option<Self> {
                match text {
                    $($text => Some(Self::$word),)+
                    _ => None,
                }
            }
        }
    };
}

spelt! {
    /// What a carrier is asked for (REFER).
    ReferOut {
        /// Nothing.
        None = "none",
        /// To call somebody else for a party of ours.
        Blind = "blind",
        /// The same, and to connect two parties that are both with us by this trunk.
        Attended = "attended",
    }
}

spelt! {
    /// Who asks for a session timer.
    TimerMode {
        /// None runs; refreshes are answered.
        Off = "off",
        /// The peer, if it likes.
        Accept = "accept",
        /// We; a peer without it is fine.
        Offer = "offer",
        /// We; no call without it.
        Require = "require",
    }
}

spelt! {
    /// Who refreshes, where we may choose.
    TimerRefresher {
        /// Whoever the other side would have.
        Auto = "auto",
        /// We.
        Local = "local",
        /// The peer.
        Remote = "remote",
    }
}

spelt! {
    /// How we refresh.
    TimerMethod {
        /// UPDATE where the peer allows it, else re-INVITE.
        Auto = "auto",
        /// UPDATE.
        Update = "update",
        /// Re-INVITE.
        Invite = "invite",
    }
}

spelt! {
    /// What becomes of the early media of a party we dialled.
    EarlyMedia {
        /// The caller hears it.
        CutThrough = "cut_through",
        /// The caller hears ringing in its place.
        Ringback = "ringback",
        /// The caller does not hear it.
        Ignore = "ignore",
    }
}

spelt! {
    /// What a caller is told while its agent connects.
    InboundProgress {
        /// 180: its carrier makes the tone of ringing.
        Ringing = "180",
        /// 183 with a description: we make it.
        EarlyMedia = "183_sdp",
        /// Nothing between 100 and the answer.
        Nothing = "none",
    }
}

spelt! {
    /// How digits are sent.
    DtmfSend {
        /// As telephone events among the media.
        Rfc4733 = "rfc4733",
        /// By INFO.
        Info = "info",
    }
}

spelt! {
    /// Whether provisional responses are sent reliably.
    Prack {
        /// Not supported.
        Off = "off",
        /// When the peer requires it.
        Supported = "supported",
        /// Always.
        Required = "required",
    }
}
