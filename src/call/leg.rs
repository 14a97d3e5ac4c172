//! The telephone leg of a call: what was offered, answered and agreed, and whether it is held.

use crate::call::dial::LegTerms;
use crate::sdp;
use crate::sdp::Capabilities;
use crate::sdp::Direction;
use crate::sdp::Judged;
use crate::sdp::LocalMedia;
use crate::sdp::MediaPlan;
use crate::sdp::NegotiationError;
use crate::sdp::Offered;
use crate::sdp::SessionDescription;
use crate::sdp::SrtpTerms;
use crate::types::cause::HangupCause;
use crate::types::codec::Codec;
use crate::types::srtp::SrtpPolicy;
use bytes::Bytes;
use std::borrow::Cow;
use std::net::IpAddr;

/// The far end of a call as seen by offer and answer (RFC 3264).
#[derive(Clone, Debug)]
pub struct Leg {
    capabilities: Capabilities,
    offered: Capabilities,
    local: Option<LocalMedia>,
    session_id: u64,
    written: Option<Box<[u8]>>,
    plan: Option<MediaPlan>,
    passing: Passing,
    /// What held of that when we offered last.
    passing_offered: Passing,
    /// The direction in our last offer.
    offering: Direction,
    /// The direction that the peer agreed to, or was told in an answer.
    told: Direction,
    /// The offer that was found good, until it is answered: so it is read and judged once.
    checked: Option<Box<Checked>>,
}

/// An offer that was found good.
#[derive(Clone, Debug)]
struct Checked {
    offer: SessionDescription,
    judged: Judged,
    /// What it was judged by.
    passing: Passing,
}

/// Whether a leg may agree on a codec that only passes from leg to leg (`Codec::is_passed`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Passing {
    /// It may not: who talks with its peer has to hear it, or has another codec.
    #[default]
    Never,
    /// It may: whom its peer is to talk with can have it too.
    May {
        /// With frames of noise (Annex B).
        annex_b: bool,
    },
    /// It shall have no other, as long as its peer offers it: the other leg has it.
    Only {
        /// With frames of noise.
        annex_b: bool,
    },
}

impl Passing {
    /// What our descriptions may hold.
    fn of(self, caps: &Capabilities) -> Cow<'_, Capabilities> {
        if !caps.codecs.iter().any(|codec| codec.is_passed()) {
            return Cow::Borrowed(caps);
        }
        let (annex_b, is_there): (_, fn(&Codec) -> bool) = match self {
            Self::Never => (false, |codec| !codec.is_passed()),
            Self::May { annex_b } => (annex_b, |_| true),
            Self::Only { annex_b } => (annex_b, |codec| codec.is_passed()),
        };
        let codecs = caps.codecs.iter().copied().filter(is_there).collect();
        Cow::Owned(Capabilities { codecs, annex_b, ..caps.clone() })
    }
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
        Self {
            capabilities,
            offered,
            local: None,
            session_id,
            written: None,
            plan: None,
            passing: Passing::Never,
            passing_offered: Passing::Never,
            offering: Direction::SendReceive,
            told: Direction::SendReceive,
            checked: None,
        }
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

    /// Whether it may agree on a codec that only passes.
    #[must_use]
    pub const fn passing(&self) -> Passing {
        self.passing
    }

    /// From now on it may agree on a codec that only passes, or not. Said with the next description.
    pub const fn pass(&mut self, passing: Passing) {
        self.passing = passing;
    }

    /// Whether a codec that only passes is agreed on: with frames of noise or without.
    #[must_use]
    pub fn passes(&self) -> Option<bool> {
        let plan = self.plan.as_ref().filter(|plan| plan.codec.is_passed())?;
        Some(plan.annex_b)
    }

    /// What another leg may agree on that is to talk with the peer of this one, which made `offer`.
    #[must_use]
    pub fn passing_of(&self, offer: &[u8]) -> Passing {
        let Ok(offer) = sdp::parse(offer) else { return Passing::Never };
        let plan = |passing: Passing| sdp::plan(&offer, &passing.of(&self.capabilities));
        let passed = plan(Passing::Only { annex_b: true }).ok();
        let Some(passed) = passed.filter(|plan| plan.codec.is_passed()) else {
            return Passing::Never;
        };
        let annex_b = passed.annex_b;
        match plan(Passing::Never) {
            Ok(_) => Passing::May { annex_b },
            Err(_) => Passing::Only { annex_b },
        }
    }

    /// The most we want from now on: [`Direction::SendReceive`] but while we hold the peer. Said with
    /// the next description.
    pub const fn direct(&mut self, direction: Direction) {
        if let Some(local) = &mut self.local {
            local.direction = direction;
        }
    }

    /// True where we want another direction than the peer knows of.
    #[must_use]
    pub fn owes_direction(&self) -> bool {
        self.local.is_some_and(|local| local.direction != self.told)
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
    /// `BadSdp`, `NoAudio`, `NoCommonCodec` or `SrtpMismatch`.
    pub fn check(&mut self, offer: &[u8]) -> Result<(), HangupCause> {
        let offer = sdp::parse(offer).map_err(|_| HangupCause::BadSdp)?;
        let passing = self.passing;
        let judged = sdp::judge(&offer, &passing.of(&self.capabilities));
        let judged = judged.map_err(|error| error.cause())?;
        self.checked = Some(Box::new(Checked { offer, judged, passing }));
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

    /// What is allowed of SRTP from now on, with the keys of our answers and of our offers.
    pub fn protect(&mut self, answers: SrtpTerms, offers: SrtpTerms) {
        self.capabilities.srtp = answers;
        self.offered.srtp = offers;
        // What was judged has the keys before.
        self.checked = None;
    }

    /// Answers an offer; what was agreed before stays in force when it fails.
    ///
    /// # Errors
    /// `BadSdp`, `NoAudio`, `NoCommonCodec`, `SrtpMismatch`, or `SwitchFault` before [`Self::place`].
    pub fn answer(&mut self, offer: &[u8]) -> Result<Bytes, HangupCause> {
        let (offer, judged) = self.take_checked(offer)?;
        let local = self.local.ok_or(HangupCause::SwitchFault)?;
        let mut passing = self.passing;
        let answered_by = |passing: Passing, local: &LocalMedia| {
            sdp::answer(&offer, &passing.of(&self.capabilities), local)
        };
        let mut answered = match judged {
            Some(judged) => Ok(judged.answer(&offer, &passing.of(&self.capabilities), &local)),
            None => answered_by(passing, &local),
        };
        if let (Passing::Only { .. }, Err(NegotiationError::NoCommonCodec)) = (passing, &answered) {
            passing = Passing::Never;
            answered = answered_by(passing, &local);
        }
        match answered {
            Ok((body, plan)) => {
                self.plan = Some(plan);
                self.told = local.direction;
                let newer = self.revised(&body, local);
                let again = newer.and_then(|newer| {
                    sdp::answer(&offer, &passing.of(&self.capabilities), &newer).ok()
                });
                Ok(self.keep(again.map_or(body, |(body, _)| body)))
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

    /// An offer as it was read; and judged, if that was by what holds now.
    fn take_checked(
        &mut self,
        offer: &[u8],
    ) -> Result<(SessionDescription, Option<Judged>), HangupCause> {
        match self.checked.take().filter(|checked| checked.offer.is_of(offer)) {
            Some(checked) => {
                let Checked { offer, judged, passing } = *checked;
                Ok((offer, (passing == self.passing).then_some(judged)))
            }
            None => Ok((sdp::parse(offer).map_err(|_| HangupCause::BadSdp)?, None)),
        }
    }

    /// Our offer: every codec we may use, whatever was agreed (RFC 3264 §8).
    ///
    /// # Errors
    /// `SwitchFault` before [`Self::place`]; `NoCommonCodec` where only a codec that passes would do, and it has none; `SrtpMismatch` where SRTP is required and keys may not be sent.
    pub fn offer(&mut self) -> Result<Bytes, HangupCause> {
        let local = self.local.ok_or(HangupCause::SwitchFault)?;
        let srtp = &self.offered.srtp;
        if srtp.policy == SrtpPolicy::Required && !srtp.writes_keys() {
            return Err(HangupCause::SrtpMismatch);
        }
        let offered = self.passing.of(&self.offered);
        if (offered.codecs.is_empty() && !self.offered.codecs.is_empty())
            || matches!(self.passing, Passing::Only { .. })
                && !offered.codecs.iter().any(|codec| codec.is_passed())
        {
            return Err(HangupCause::NoCommonCodec);
        }
        let offered = offered.into_owned();
        (self.passing_offered, self.offering) = (self.passing, local.direction);
        let body = sdp::offer(&offered, &local);
        let newer = self.revised(&body, local);
        let again = newer.map(|newer| sdp::offer(&offered, &newer));
        Ok(self.keep(again.unwrap_or(body)))
    }

    /// What the peer may send by our last offer before we have its answer, beyond what is agreed. Of a first offer that is
    /// nothing: where its media come from is not known before.
    #[must_use]
    pub fn expected(&self) -> Option<Offered> {
        let plan = self.plan.as_ref()?;
        Offered::of(&self.passing_offered.of(&self.offered), self.offering, plan)
    }

    /// Takes the answer to our offer.
    ///
    /// # Errors
    /// `BadSdp`, `NoAudio`, `NoCommonCodec` or `SrtpMismatch`; what was agreed before stays in force.
    pub fn accept(&mut self, answer: &[u8]) -> Result<(), HangupCause> {
        self.accept_again(answer)?;
        self.told = self.offering;
        Ok(())
    }

    /// Takes the answer to a repetition of what the peer was told before.
    ///
    /// # Errors
    /// As [`Self::accept`].
    pub fn accept_again(&mut self, answer: &[u8]) -> Result<(), HangupCause> {
        let answer = sdp::parse(answer).map_err(|_| HangupCause::BadSdp)?;
        let offered = self.passing_offered.of(&self.offered);
        let mut plan = sdp::accept(&answer, &offered).map_err(|error| error.cause())?;
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
        self.written = Some(body.into_boxed_slice());
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sdp::AnswerOrder;
    use crate::types::codec::PayloadType;
    use crate::types::codec::Ptime;

    const OFFER: &[u8] = b"v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n\
        m=video 6000 RTP/AVP 96\r\nm=audio 4000 RTP/AVP 18 0 101\r\na=rtpmap:101 telephone-event/8000\r\n";

    fn leg() -> Leg {
        let capabilities = Capabilities {
            codecs: vec![Codec::Pcmu, Codec::G729],
            order: AnswerOrder::Remote,
            dtmf: PayloadType::new(101),
            dtmf_flash: false,
            ptime: Ptime::MS_20,
            ptime_max: Ptime::MS_20,
            rtcp_mux: false,
            asks_metrics: false,
            single_codec: false,
            annex_b: false,
            srtp: SrtpTerms::default(),
        };
        let mut leg = Leg::new(capabilities.clone(), capabilities, 1);
        let address = IpAddr::from([192, 0, 2, 2]);
        leg.place(Place { address, rtp_port: 5_000, rtcp_port: 5_001 });
        leg
    }

    #[test]
    fn an_offer_that_was_checked_is_answered_as_one_that_was_not() {
        let only = Passing::Only { annex_b: false };
        let may = Passing::May { annex_b: true };
        for (checked_by, answered_by) in [
            (Passing::Never, Passing::Never),
            (Passing::Never, only),
            (only, Passing::Never),
            (may, only),
        ] {
            for direction in [Direction::SendReceive, Direction::SendOnly, Direction::Inactive] {
                let (mut checked, mut fresh) = (leg(), leg());
                checked.pass(checked_by);
                assert_eq!(checked.check(OFFER), Ok(()));
                for leg in [&mut checked, &mut fresh] {
                    leg.pass(answered_by);
                    leg.direct(direction);
                }
                assert_eq!(
                    checked.answer(OFFER),
                    fresh.answer(OFFER),
                    "{checked_by:?} {answered_by:?}"
                );
                assert_eq!(checked.plan(), fresh.plan());
                let passes = fresh.plan().map(|plan| (plan.codec.is_passed(), plan.direction));
                assert_eq!(passes, Some((answered_by == only, direction)));
            }
        }
    }

    #[test]
    fn what_was_checked_says_nothing_of_another_offer() {
        let mut leg = leg();
        assert_eq!(leg.check(OFFER), Ok(()));
        let other = String::from_utf8_lossy(OFFER).replace(" 4000 ", " 4002 ");
        leg.answer(other.as_bytes()).expect("an answer");
        let remote = leg.plan().and_then(|plan| plan.remote);
        assert_eq!(remote.map(|remote| remote.port()), Some(4_002));
    }
}
