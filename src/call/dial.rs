//! Whom a leg is dialled to, and on which terms.

use crate::call::side::LegSide;
use crate::routing::outbound::DiversionReason;
use crate::routing::signalling::Progress;
use crate::routing::template::Template;
use crate::sdp::Capabilities;
use crate::sdp::Direction;
use crate::sdp::SrtpTerms;
use crate::types::codec::Codec;
use crate::types::header::FieldName;
use crate::types::header::NameGlob;
use crate::types::id::TrunkId;
use crate::types::number::E164;
pub use crate::types::peer::Credentials;
pub use crate::types::peer::PeerUri;
use crate::types::srtp::SrtpPolicy;
use std::time::Duration;

/// A leg to be dialled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DialRequest {
    /// To whom.
    pub target: DialTarget,
    /// Who is rung beside that one; the first that answers has the leg.
    pub beside: Vec<DialTarget>,
    /// The terms of its first attempt.
    pub terms: LegTerms,
    /// After this long without an answer it is given up, all attempts together.
    pub ring_max: Duration,
}

/// To whom a leg is dialled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DialTarget {
    /// A telephone number, by trunks and gateways that routing chooses.
    Number {
        /// The number.
        to: E164,
        /// The number shown; `None`: by the trunk's caller-ID policy.
        from: Option<E164>,
        /// The trunk to take whatever the order of trunks says.
        trunk: Option<TrunkId>,
        /// Why it is called in the place of the number that was dialled.
        reason: DiversionReason,
        /// With whom it is to talk.
        joined: Joined,
    },
    /// One peer, by its own address and no trunk.
    Uri {
        /// Its address.
        uri: PeerUri,
        /// With what it is satisfied when it asks who we are.
        credentials: Option<Credentials>,
        /// More header fields of the request; one that names a variable the call has not is left out.
        headers: Vec<(FieldName, Template)>,
        /// Which header fields that come with the call go on to it.
        pass: Vec<NameGlob>,
        /// Whether its media are encrypted: each of its addresses is offered keys of its own.
        srtp: SrtpPolicy,
        /// It may ask us to connect the call with somebody else.
        transfers: bool,
    },
}

/// With whom a leg is to talk that is dialled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Joined {
    /// With this leg.
    Leg(LegSide),
    /// With the agent, and no other leg.
    Agent,
}

/// How a peer is told of keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyWay {
    /// By its media, as that agreed.
    Media,
    /// By signalling.
    Signalling {
        /// How long each key is said to be pressed, in ms.
        duration_ms: u32,
    },
}

/// What a leg may agree to, and what is known of its peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LegTerms {
    /// What our answers may hold.
    pub capabilities: Capabilities,
    /// The codecs of our offers, in order.
    pub codecs_offered: Vec<Codec>,
    /// The SRTP of our offers: the same keys as those of our answers.
    pub srtp_offered: SrtpTerms,
    /// The first offer of a leg we dial is left to its peer.
    pub delayed_offer: bool,
    /// What the caller hears before its peer answers.
    pub progress: Progress,
    /// Keys told by signalling count.
    pub dtmf_info: bool,
    /// How its peer is told of keys.
    pub keys: KeyWay,
    /// Its peer may ask us to connect the call with somebody else.
    pub transfers: bool,
    /// The trunk it goes by, where the carrier of that may be asked to connect two parties that are both
    /// with us by it.
    pub joined_by: Option<TrunkId>,
    /// What is left of the media while we hold its peer: [`Direction::SendOnly`], or
    /// [`Direction::Inactive`] where it shall hear nothing.
    pub hold: Direction,
    /// Identifies our session descriptions on this leg (RFC 8866 §5.2).
    pub session_id: u64,
}

impl LegTerms {
    /// Whether what is described by them holds keys, which nobody may have but the one peer it is sent to: who
    /// knows the keys of another can hear and forge its media (RFC 4568 §7).
    #[must_use]
    pub fn brings_keys(&self) -> bool {
        self.srtp_offered.writes_keys()
    }

    /// Whether nothing can be offered by them: SRTP is required, and its keys may not be written.
    #[must_use]
    pub fn lacks_keys(&self) -> bool {
        let srtp = &self.srtp_offered;
        !self.delayed_offer && srtp.policy == SrtpPolicy::Required && !srtp.writes_keys()
    }
}
