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
    /// Silence of the peer after which [`MediaEvent::TimedOut`] comes; `None`: never. Not while held.
    ///
    /// [`MediaEvent::TimedOut`]: crate::media::session::MediaEvent::TimedOut
    pub inactivity: Option<Duration>,
    /// Media is believed from here and from the negotiated address. Empty: a source may be anywhere,
    /// but only in the first seconds after signalling.
    pub allowed: Vec<IpNet>,
    /// Whether RTCP is sent.
    pub rtcp: bool,
    /// Delay of the jitter buffer, in ms.
    pub jitter_depth_ms: u16,
    /// Nothing is sent or played before [`start_playout`] or the caller's first packet.
    ///
    /// [`start_playout`]: crate::media::session::MediaSession::start_playout
    pub playout_held: bool,
}

impl MediaSetup {
    /// The usual set-up: RTCP on, no time-out, playout held.
    #[must_use]
    pub const fn new(plan: Option<MediaPlan>, seed: u64) -> Self {
        Self {
            plan,
            seed,
            inactivity: None,
            allowed: Vec::new(),
            rtcp: true,
            jitter_depth_ms: JITTER_DEPTH_MS,
            playout_held: true,
        }
    }
}
