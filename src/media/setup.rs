//! What a media session is opened with.

use crate::sdp::MediaPlan;
use ipnet::IpNet;
use std::time::Duration;

/// Delay of the jitter buffer unless a trunk says otherwise, in ms.
pub const JITTER_DEPTH_MS: u16 = 40;

/// What a media session is opened with.
#[derive(Clone, Debug)]
pub struct MediaSetup {
    /// What was negotiated; `None` until the offer is there (delayed offer): nothing is sent or
    /// believed then.
    pub plan: Option<MediaPlan>,
    /// From the system's random source: SSRC, first sequence number and timestamp, CNAME.
    pub seed: u64,
    /// What its trunk says of the media.
    pub rules: MediaRules,
    /// Delay of the jitter buffer, in ms.
    pub jitter_depth_ms: u16,
    /// Nothing is sent before [`start_playout`] or the caller's first packet, and what the agent says waits for both,
    /// or for one of them and [`GREETING_HELD_MAX`].
    ///
    /// [`start_playout`]: crate::media::session::MediaSession::start_playout
    /// [`GREETING_HELD_MAX`]: crate::media::session::GREETING_HELD_MAX
    pub playout_held: bool,
}

impl MediaSetup {
    /// The usual set-up: the usual rules, playout held.
    #[must_use]
    pub fn new(plan: Option<MediaPlan>, seed: u64) -> Self {
        let (rules, jitter_depth_ms) = (MediaRules::default(), JITTER_DEPTH_MS);
        Self { plan, seed, rules, jitter_depth_ms, playout_held: true }
    }
}

/// When a peer is told how well we hear it (RFC 3611 §4.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VoipMetricsRule {
    /// Never.
    Never,
    /// When its description asks for that (RFC 3611 §5).
    Asked,
    /// With every report.
    Always,
}

/// What a trunk says of the media of its legs. A leg that is dialled may come to go by another trunk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MediaRules {
    /// Silence of the peer after which [`MediaEvent::TimedOut`] comes; `None`: never. Not while held.
    ///
    /// [`MediaEvent::TimedOut`]: crate::media::session::MediaEvent::TimedOut
    pub inactivity: Option<Duration>,
    /// Media is believed from here and from the negotiated address. Empty: a source may be anywhere,
    /// but only in the first seconds after signalling.
    pub allowed: Vec<IpNet>,
    /// RTCP is sent and read; false: what comes is counted, and that is all.
    pub rtcp: bool,
    /// Whether the peer is told by RTCP XR how well we hear it.
    pub voip_metrics: VoipMetricsRule,
    /// Traffic class of its packets, 0 to 63; 0: the system's.
    pub dscp: u8,
    /// Media is sent to where the peer's comes from; false: to where its description says, always.
    pub symmetric: bool,
    /// Keys reach the peer by signalling: neither events nor tones are sent.
    pub keys_signalled: bool,
    /// Keys are heard in the audio where no telephone events were agreed on.
    pub tones_heard: bool,
    /// Keys in the audio are kept from agent and recording, also where telephone events were agreed on.
    pub keys_private: bool,
    /// How long a key we send is held, in ms.
    pub key_ms: u32,
    /// The gap after it, in ms.
    pub key_gap_ms: u32,
}

impl Default for MediaRules {
    fn default() -> Self {
        Self {
            inactivity: None,
            allowed: Vec::new(),
            rtcp: true,
            voip_metrics: VoipMetricsRule::Asked,
            dscp: 0,
            symmetric: true,
            keys_signalled: false,
            tones_heard: false,
            keys_private: false,
            key_ms: 120,
            key_gap_ms: 80,
        }
    }
}
