//! The telephone leg of a call: what was offered, answered and agreed, and whether it is held.

use crate::call::dial::LegTerms;
use crate::sdp;
use crate::sdp::Capabilities;
use crate::sdp::Direction;
use crate::sdp::LocalMedia;
use crate::sdp::MediaPlan;
use crate::sdp::NegotiationError;
use crate::types::cause::HangupCause;
use crate::types::srtp::SrtpPolicy;
use bytes::Bytes;
use std::net::IpAddr;

/// The far end of a call as seen by offer and answer (RFC 3264).
#[derive(Clone, Debug)]
pub struct Leg {
    capabilities: Capabilities,
    offered: Capabilities,
    local: Option<LocalMedia>,
    session_id: u64,
    written: Option<Vec<u8>>,
    plan: Option<MediaPlan>,
}

/// Where our side of the media is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The address peers are told.
    pub address: IpAddr,
    /// The RTP port.
    pub rtp_port: u16,
    /// The RTCP port.
    pub rtcp_port: u16,
}

impl Leg {
    /// A leg with nothing agreed, that answers by `capabilities` and offers `offered`. `session_id`
    /// identifies our session descriptions (RFC 8866 §5.2).
    #[must_use]
    pub const fn new(capabilities: Capabilities, offered: Capabilities, session_id: u64) -> Self {
        Self { capabilities, offered, local: None, session_id, written: None, plan: None }
    }

    /// A leg with nothing agreed, on these terms.
    #[must_use]
    pub fn of(terms: &LegTerms) -> Self {
        let offered = Capabilities {
            codecs: terms.codecs_offered.clone(),
            srtp: terms.srtp_offered.clone(),
            ..terms.capabilities.clone()
        };
        Self::new(terms.capabilities.clone(), offered, terms.session_id)
    }

    /// Nothing is agreed any more: another peer is asked.
    pub fn forget(&mut self) {
        self.plan = None;
        self.written = None;
    }

    /// The most we want from now on: [`Direction::SendReceive`] but while we hold the peer. Said with
    /// the next description.
    pub const fn direct(&mut self, direction: Direction) {
        if let Some(local) = &mut self.local {
            local.direction = direction;
        }
    }

    /// What is agreed, if anything is.
    #[must_use]
    pub const fn plan(&self) -> Option<&MediaPlan> {
        self.plan.as_ref()
    }

    /// True while the far end wants no media from us.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.plan.as_ref().is_some_and(MediaPlan::is_held)
    }

    /// Judges an offer before any port is taken.
    ///
    /// # Errors
    /// `BadSdp`, `NoCommonCodec` or `SrtpMismatch`.
    pub fn check(&self, offer: &[u8]) -> Result<(), HangupCause> {
        let offer = sdp::parse(offer).map_err(|_| HangupCause::BadSdp)?;
        sdp::plan(&offer, &self.capabilities).map_err(|error| error.cause())?;
        Ok(())
    }

    /// Settles where our media is.
    pub const fn place(&mut self, place: Place) {
        self.local = Some(LocalMedia {
            address: place.address,
            rtp_port: place.rtp_port,
            rtcp_port: place.rtcp_port,
            session_id: self.session_id,
            version: 0,
            direction: Direction::SendReceive,
        });
    }

    /// Answers an offer; what was agreed before stays in force when it fails.
    ///
    /// # Errors
    /// `BadSdp`, `NoCommonCodec`, `SrtpMismatch`, or `SwitchFault` before [`Self::place`].
    pub fn answer(&mut self, offer: &[u8]) -> Result<Bytes, HangupCause> {
        let offer = sdp::parse(offer).map_err(|_| HangupCause::BadSdp)?;
        let local = self.local.ok_or(HangupCause::SwitchFault)?;
        match sdp::answer(&offer, &self.capabilities, &local) {
            Ok((body, plan)) => {
                self.plan = Some(plan);
                let newer = self.revised(&body, local);
                let again = newer.map(|newer| sdp::answer(&offer, &self.capabilities, &newer));
                Ok(self.keep(again.and_then(Result::ok).map_or(body, |(body, _)| body)))
            }
            // RFC 3264 §8.2: the stream leaves the call, the call goes on without it.
            Err(NegotiationError::StreamRemoved) if self.plan.is_some() => {
                if let Some(plan) = &mut self.plan {
                    plan.direction = Direction::Inactive;
                }
                let body = sdp::answer_without_media(&offer, &local);
                let newer = self.revised(&body, local);
                let again = newer.map(|newer| sdp::answer_without_media(&offer, &newer));
                Ok(self.keep(again.unwrap_or(body)))
            }
            Err(error) => Err(error.cause()),
        }
    }

    /// Our offer: every codec we may use, whatever was agreed (RFC 3264 §8).
    ///
    /// # Errors
    /// `SwitchFault` before [`Self::place`]; `SrtpMismatch` where SRTP is required and keys may not be sent.
    pub fn offer(&mut self) -> Result<Bytes, HangupCause> {
        let local = self.local.ok_or(HangupCause::SwitchFault)?;
        let srtp = &self.offered.srtp;
        if srtp.policy == SrtpPolicy::Required && !srtp.writes_keys() {
            return Err(HangupCause::SrtpMismatch);
        }
        let body = sdp::offer(&self.offered, &local);
        let newer = self.revised(&body, local);
        let again = newer.map(|newer| sdp::offer(&self.offered, &newer));
        Ok(self.keep(again.unwrap_or(body)))
    }

    /// Takes the answer to our offer.
    ///
    /// # Errors
    /// `BadSdp`, `NoCommonCodec` or `SrtpMismatch`; what was agreed before stays in force.
    pub fn accept(&mut self, answer: &[u8]) -> Result<(), HangupCause> {
        let answer = sdp::parse(answer).map_err(|_| HangupCause::BadSdp)?;
        let mut plan = sdp::accept(&answer, &self.offered).map_err(|error| error.cause())?;
        // A peer that overlooks our hold is held all the same.
        let wanted = self.local.map_or(Direction::SendReceive, |local| local.direction);
        plan.direction = plan.direction.and(wanted);
        self.plan = Some(plan);
        Ok(())
    }

    /// RFC 3264 §8: the version rises when, and only when, the description changes. Gives the local
    /// side under its new version if `body` says something new.
    fn revised(&mut self, body: &[u8], local: LocalMedia) -> Option<LocalMedia> {
        let written = self.written.as_ref()?;
        if !sdp::is_revision(written, body) {
            return None;
        }
        let newer = LocalMedia { version: local.version + 1, ..local };
        self.local = Some(newer);
        Some(newer)
    }

    fn keep(&mut self, body: Vec<u8>) -> Bytes {
        let bytes = Bytes::copy_from_slice(&body);
        self.written = Some(body);
        bytes
    }
}
