//! `Failure`: why a try came to nothing, and what comes after it.

use crate::routing::outbound_attempt::CarrierRefusal;
use crate::types::cause::HangupCause;

/// Why a try failed, for the step and for the end.
pub(super) struct Failure {
    pub(super) cause: HangupCause,
    pub(super) status: Option<u16>,
    pub(super) q850: Option<u8>,
    pub(super) words: String,
}

impl Failure {
    pub(super) fn new(cause: HangupCause, words: impl Into<String>) -> Self {
        Self { cause, status: None, q850: None, words: words.into() }
    }

    /// What a refusal means, and these words for the step.
    pub(super) fn of(refusal: &CarrierRefusal, words: String) -> Self {
        let CarrierRefusal { status, q850, .. } = *refusal;
        let cause = HangupCause::of_refusal(status, q850);
        Self { cause, status: Some(status), q850, words }
    }
}

/// What comes after a failure.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// The next gateway.
    Gateway,
    /// The next gateway of another trunk.
    Trunk,
    /// Nothing.
    Nothing,
}

impl Next {
    pub(super) const fn gateway_if(may: bool) -> Self {
        if may { Self::Gateway } else { Self::Nothing }
    }
}
