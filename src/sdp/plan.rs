//! What goes into a negotiation, and what comes out of it.

use std::net::IpAddr;
use std::net::SocketAddr;
use std::sync::Arc;

use smallvec::SmallVec;
use smallvec::smallvec;

use crate::types::cause::HangupCause;
use crate::types::codec::Codec;
use crate::types::codec::OpusTerms;
use crate::types::codec::PayloadType;
use crate::types::codec::Ptime;
use crate::types::srtp::SrtpKey;
use crate::types::srtp::SrtpPolicy;
use crate::types::srtp::SrtpSuite;

/// Which way media flows, seen from the side that says it (RFC 3264 §5.1). In a [`MediaPlan`] that is us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Both ways.
    SendReceive,
    /// Out only.
    SendOnly,
    /// In only.
    ReceiveOnly,
    /// Neither way.
    Inactive,
}

impl Direction {
    /// Whether media goes out.
    #[must_use]
    pub const fn sends(self) -> bool {
        matches!(self, Self::SendReceive | Self::SendOnly)
    }

    /// Whether media comes in.
    #[must_use]
    pub const fn receives(self) -> bool {
        matches!(self, Self::SendReceive | Self::ReceiveOnly)
    }

    /// The same stream as the other side sees it.
    #[must_use]
    pub const fn reversed(self) -> Self {
        Self::of(self.receives(), self.sends())
    }

    /// What both allow.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self::of(self.sends() && other.sends(), self.receives() && other.receives())
    }

    /// The attribute's name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SendReceive => "sendrecv",
            Self::SendOnly => "sendonly",
            Self::ReceiveOnly => "recvonly",
            Self::Inactive => "inactive",
        }
    }

    /// The direction of an attribute's name.
    #[must_use]
    pub fn from_name(name: &[u8]) -> Option<Self> {
        [Self::SendReceive, Self::SendOnly, Self::ReceiveOnly, Self::Inactive]
            .into_iter()
            .find(|direction| direction.as_str().as_bytes().eq_ignore_ascii_case(name))
    }

    const fn of(sends: bool, receives: bool) -> Self {
        match (sends, receives) {
            (true, true) => Self::SendReceive,
            (true, false) => Self::SendOnly,
            (false, true) => Self::ReceiveOnly,
            (false, false) => Self::Inactive,
        }
    }
}

/// Whose order of codecs decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnswerOrder {
    /// The first codec of the offer that we have.
    Remote,
    /// Our first codec that is in the offer.
    Local,
}

/// What we are able and willing to do on one trunk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// Codecs, the preferred one first.
    pub codecs: Vec<Codec>,
    /// Whose order of codecs decides an answer.
    pub order: AnswerOrder,
    /// Payload type of telephone events in our offers; `None` where the trunk has none at all.
    pub dtmf: Option<PayloadType>,
    /// Telephone events include the flash key, number 16.
    pub dtmf_flash: bool,
    /// Packet time we send when the peer asks for none.
    pub ptime: Ptime,
    /// Longest packet time we send.
    pub ptime_max: Ptime,
    /// Whether RTP and RTCP may share a port (RFC 5761), where the peer offers it.
    pub rtcp_mux: bool,
    /// Our descriptions ask the peer to tell how well it hears us (RFC 3611 §5).
    pub asks_metrics: bool,
    /// Whether an answer names only the codec that was chosen.
    pub single_codec: bool,
    /// Frames of comfort noise may be among those of G.729 (Annex B; RFC 4856 §2.1.9).
    pub annex_b: bool,
    /// What is allowed of SRTP.
    pub srtp: SrtpTerms,
}

/// What is allowed of SRTP with keys in the description (RFC 4568).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SrtpTerms {
    /// Whether media is encrypted.
    pub policy: SrtpPolicy,
    /// Our master keys, one for each suite, the preferred one first. They stay the same for all of a
    /// dialog, so that a re-INVITE changes nothing about the streams under them.
    pub keys: Vec<SrtpKey>,
    /// The signalling can be read by others on its way: keys are neither sent nor taken.
    pub exposed: bool,
}

impl SrtpTerms {
    /// Our key of a suite.
    #[must_use]
    pub fn key(&self, suite: SrtpSuite) -> Option<&SrtpKey> {
        self.keys.iter().find(|key| key.suite() == suite)
    }

    /// Whether our descriptions hold keys.
    #[must_use]
    pub fn writes_keys(&self) -> bool {
        self.policy != SrtpPolicy::Off && !self.exposed
    }
}

/// The keys of a stream. Both are of the same suite.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MediaCrypto {
    /// Ours: what we send is protected with it.
    pub send: SrtpKey,
    /// The peer's: what it sends is protected with it.
    pub receive: SrtpKey,
}

/// Our end of the media, as a description of ours says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalMedia {
    /// The advertised media address.
    pub address: IpAddr,
    /// The port of RTP.
    pub rtp_port: u16,
    /// The port of RTCP.
    pub rtcp_port: u16,
    /// The `sess-id` of `o=`: one for the whole dialog.
    pub session_id: u64,
    /// The `sess-version` of `o=`: one more for each text that differs from the one before.
    pub version: u64,
    /// The most we want: `SendReceive` but where we hold the peer.
    pub direction: Direction,
}

/// What a media session must do, as agreed by offer and answer. Only a negotiation builds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MediaPlan {
    /// The codec we send, and expect.
    pub codec: Codec,
    /// The payload type under which the peer wants it.
    pub send_payload_type: PayloadType,
    /// The payload type under which it reaches us.
    pub receive_payload_type: PayloadType,
    /// Another codec the peer may switch to at any packet, because our description names it too.
    pub receive_also: Option<(PayloadType, Codec)>,
    /// The payload type under which the peer wants telephone events; `None`: it takes none.
    pub dtmf_send: Option<PayloadType>,
    /// The payload type under which telephone events reach us.
    pub dtmf_receive: Option<PayloadType>,
    /// The clock by which telephone events of the peer are read, in Hz: that of the codec, or 8000 where it names no
    /// other. Those we send have the codec's, since a stream has one (RFC 4733 §2.1, RFC 7160 §4.1).
    pub dtmf_clock: u32,
    /// What the peer says of the Opus it wants.
    pub opus: OpusTerms,
    /// The peer takes frames of comfort noise among those of G.729.
    pub annex_b: bool,
    /// How much audio each packet we send carries.
    pub ptime: Ptime,
    /// Where RTP goes; `None` where the description has no usable address (a hold, a host name).
    pub remote: Option<SocketAddr>,
    /// Where RTCP goes.
    pub remote_rtcp: Option<SocketAddr>,
    /// RTP and RTCP share a port.
    pub rtcp_mux: bool,
    /// The peer asks to be told how well we hear it (RFC 3611 §5).
    pub metrics_asked: bool,
    /// Which way media flows, seen from us. Nothing is sent unless [`Direction::sends`].
    pub direction: Direction,
    /// The keys of SRTP; `None`: plain RTP.
    pub crypto: Option<Arc<MediaCrypto>>,
}

impl Capabilities {
    /// The payload type of a codec in our offers.
    #[must_use]
    pub fn payload_type(&self, codec: Codec) -> PayloadType {
        let usual = codec.payload_type();
        if self.dtmf != Some(usual) {
            return usual;
        }
        // The trunk has telephone events under it. Below are those nobody of ours has.
        PayloadType::new(usual.get().saturating_sub(15)).unwrap_or(usual)
    }

    /// Telephone events as our offers have them, each with its clock in Hz: one for each clock of our codecs (RFC 4733
    /// §2.1), that of 8 kHz first, which all know.
    #[must_use]
    pub fn events(&self) -> SmallVec<[(PayloadType, u32); 2]> {
        let Some(first) = self.dtmf else { return SmallVec::new() };
        let mut events: SmallVec<[(PayloadType, u32); 2]> = smallvec![(first, 8_000)];
        for codec in &self.codecs {
            let clock = codec.clock_rate();
            if events.iter().any(|(_, known)| *known == clock) {
                continue;
            }
            let is_free = |kind: &PayloadType| {
                events.iter().all(|(taken, _)| taken != kind)
                    && self.codecs.iter().all(|codec| self.payload_type(*codec) != *kind)
            };
            if let Some(kind) = (96..=127).rev().filter_map(PayloadType::new).find(is_free) {
                events.push((kind, clock));
            }
        }
        events
    }
}

impl MediaPlan {
    /// The codec of audio that arrives under `payload_type`; `None` if it was not agreed on.
    #[must_use]
    pub fn receive_codec(&self, payload_type: PayloadType) -> Option<Codec> {
        if payload_type == self.receive_payload_type {
            return Some(self.codec);
        }
        self.receive_also.filter(|(other, _)| *other == payload_type).map(|(_, codec)| codec)
    }

    /// Whether the peer wants no media from us for now. A hold does not trip a media time-out.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.direction != Direction::SendReceive
    }

    /// A plan for tests of other modules: µ-law both ways with telephone events as 101.
    #[cfg(test)]
    #[must_use]
    pub(crate) fn for_test(remote: SocketAddr) -> Self {
        Self {
            codec: Codec::Pcmu,
            send_payload_type: Codec::Pcmu.payload_type(),
            receive_payload_type: Codec::Pcmu.payload_type(),
            receive_also: None,
            dtmf_send: PayloadType::new(101),
            dtmf_receive: PayloadType::new(101),
            dtmf_clock: 8_000,
            opus: OpusTerms::default(),
            annex_b: false,
            ptime: Ptime::MS_20,
            remote: Some(remote),
            remote_rtcp: Some(SocketAddr::new(remote.ip(), remote.port().wrapping_add(1))),
            rtcp_mux: false,
            metrics_asked: false,
            direction: Direction::SendReceive,
            crypto: None,
        }
    }
}

/// Why a description that was read leads to no media.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NegotiationError {
    /// No `m=audio` at all, or none with a readable port.
    #[error("no usable audio stream")]
    NoAudio,
    /// Audio is there, but only over transports we do not speak, such as RTP/SAVPF.
    #[error("no audio stream over RTP/AVP or RTP/SAVP")]
    Transport,
    /// Audio is there, but only encrypted, and the trunk's policy is to encrypt nothing.
    #[error("encrypted media is not allowed")]
    SrtpNotAllowed,
    /// Audio is there, but only in the clear, and the trunk's policy is to encrypt everything.
    #[error("media must be encrypted")]
    SrtpRequired,
    /// Audio is there, but only encrypted, with keys in signalling that others can read.
    #[error("keys of encrypted media came over unprotected signalling")]
    SrtpExposed,
    /// Audio is there, but only encrypted, with no usable key of a suite we have.
    #[error("no usable key of a common SRTP suite")]
    NoCommonSuite,
    /// No codec in common.
    #[error("no common codec")]
    NoCommonCodec,
    /// The audio stream has port 0: it was refused, or is taken out of the call (RFC 3264 §8.2).
    /// A re-INVITE is then answered by [`answer_without_media`](crate::sdp::answer_without_media).
    #[error("audio stream removed")]
    StreamRemoved,
}

impl NegotiationError {
    /// The cause with which a call is refused for it.
    #[must_use]
    pub const fn cause(self) -> HangupCause {
        match self {
            Self::NoCommonCodec => HangupCause::NoCommonCodec,
            Self::NoAudio | Self::StreamRemoved => HangupCause::NoAudio,
            Self::Transport => HangupCause::BadSdp,
            Self::SrtpNotAllowed | Self::SrtpRequired | Self::SrtpExposed | Self::NoCommonSuite => {
                HangupCause::SrtpMismatch
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_direction_is_reversed_for_the_other_side() {
        for (ours, theirs) in [
            (Direction::SendReceive, Direction::SendReceive),
            (Direction::SendOnly, Direction::ReceiveOnly),
            (Direction::ReceiveOnly, Direction::SendOnly),
            (Direction::Inactive, Direction::Inactive),
        ] {
            assert_eq!(ours.reversed(), theirs);
            assert_eq!(Direction::from_name(ours.as_str().as_bytes()), Some(ours));
            assert_eq!(Direction::SendReceive.and(ours), ours);
            assert_eq!(Direction::Inactive.and(ours), Direction::Inactive);
        }
        assert_eq!(Direction::SendOnly.and(Direction::ReceiveOnly), Direction::Inactive);
    }

    #[test]
    fn only_what_was_agreed_on_is_received() {
        let remote = SocketAddr::from(([192, 0, 2, 1], 4000));
        let mut plan = MediaPlan::for_test(remote);
        let [pcmu, pcma] = [Codec::Pcmu, Codec::Pcma].map(Codec::payload_type);
        assert_eq!(plan.receive_codec(pcmu), Some(Codec::Pcmu));
        assert_eq!(plan.receive_codec(pcma), None);
        plan.receive_also = Some((pcma, Codec::Pcma));
        assert_eq!(plan.receive_codec(pcma), Some(Codec::Pcma));
        assert!(!plan.is_held());
        plan.direction = Direction::ReceiveOnly;
        assert!(plan.is_held());
    }
}
