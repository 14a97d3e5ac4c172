//! `Live`: the call in progress, as the switch has it.

use crate::call::Call;
use crate::routing::outbound_attempt::OutboundAttempt;
use crate::routing::outbound_attempt::TryId;
use crate::sdp::MediaPlan;
use crate::sip::endpoint::event::DialogId;
use crate::types::cause::HangupCause;
use crate::types::moment::Moment;
use bytes::Bytes;

/// The call in progress, as the switch has it.
pub(super) struct Live {
    pub(super) call: Call,
    pub(super) dialog: Option<DialogId>,
    /// Of calls out: the choice of gateways.
    pub(super) attempt: Option<OutboundAttempt>,
    pub(super) trying: Option<TryId>,
    pub(super) offer: Option<Bytes>,
    pub(super) answer: Option<Bytes>,
    /// The gateways that were tried.
    pub(super) gateways: Vec<String>,
    /// Every plan the media ran by.
    pub(super) plans: Vec<MediaPlan>,
    /// The agent may be heard.
    pub(super) speaks: bool,
    pub(super) ended: Option<HangupCause>,
    /// What came of a transfer by the carrier, or why nothing did.
    pub(super) transferred: Option<Result<(), HangupCause>>,
    /// The caller, as we read it.
    pub(super) caller: Option<String>,
}

impl Live {
    pub(super) const fn new(call: Call) -> Self {
        Self {
            call,
            dialog: None,
            attempt: None,
            trying: None,
            offer: None,
            answer: None,
            gateways: Vec::new(),
            plans: Vec::new(),
            speaks: false,
            ended: None,
            transferred: None,
            caller: None,
        }
    }

    /// True from the first try of a call out to its answer or end.
    pub(super) const fn is_dialling(&self) -> bool {
        self.attempt.is_some() && (self.trying.is_some() || self.dialog.is_none())
    }

    pub(super) fn attempt_deadline(&self) -> Option<Moment> {
        self.attempt.as_ref()?.deadline()
    }

    pub(super) fn deadline(&self) -> Option<Moment> {
        [self.call.deadline(), self.attempt_deadline()].into_iter().flatten().min()
    }

    /// True from the answer to the end.
    pub(super) fn is_talking(&self) -> bool {
        self.call.is_answered() && self.ended.is_none()
    }
}
