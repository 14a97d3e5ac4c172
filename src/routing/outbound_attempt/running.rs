//! `Running`: the try that is under way.

use crate::routing::gateway_addresses::GatewayAddress;
use crate::routing::health;
use crate::routing::outbound::Try;
use crate::routing::outbound_attempt::CarrierRefusal;
use crate::routing::outbound_attempt::Output;
use crate::routing::outbound_attempt::TryId;
use crate::routing::outbound_trunk::NeverAfter;
use crate::types::moment::Moment;

/// How far the running try is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// It waits for its turn.
    Waiting,
    /// Nothing was heard yet.
    Silent,
    /// A 100, or another 1xx that is not ringing.
    Proceeding,
    /// 180 to 189.
    Ringing,
}

/// A try that is under way.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) id: TryId,
    pub(super) attempt: Box<Try>,
    pub(super) stage: Stage,
    pub(super) early_media: bool,
    pub(super) began: Moment,
    /// Until when it may be as it is.
    pub(super) patience: Option<Moment>,
    /// The address that has the INVITE.
    pub(super) address: Option<GatewayAddress>,
    /// With what the last of its addresses refused after which another was to be asked.
    pub(super) refused: Option<CarrierRefusal>,
}

impl Running {
    pub(super) fn health(&self, input: health::Input) -> Output {
        Output::Health { key: self.attempt.key(), address: self.address, input }
    }

    /// What a refusal says of the health of who sent it.
    pub(super) fn said_by(&self, refusal: &CarrierRefusal) -> health::Input {
        let honours = self.attempt.outbound().failover.honour_retry_after;
        match (refusal.status, refusal.retry_after.filter(|_| honours)) {
            (503, retry_after @ Some(_)) => health::Input::Throttled { retry_after },
            (503, None) => health::Input::CallFailed { retry_after: None },
            _ => health::Input::CallServed,
        }
    }

    /// Its INVITE left; one that is sent again, another way, may be unanswered for as long again.
    pub(super) fn sent(&mut self, now: Moment, out: &mut Vec<Output>) {
        if !matches!(self.stage, Stage::Waiting | Stage::Silent) {
            return;
        }
        let no_reply = self.attempt.outbound().patience.no_reply;
        self.patience = (!no_reply.is_zero()).then_some(now + no_reply);
        let is_first = std::mem::replace(&mut self.stage, Stage::Silent) == Stage::Waiting;
        if is_first && self.address.is_none() {
            out.push(self.health(health::Input::CallSent));
        }
    }

    pub(super) fn progressed(
        &mut self,
        now: Moment,
        status: u16,
        early_media: bool,
        out: &mut Vec<Output>,
    ) {
        if matches!(self.stage, Stage::Waiting | Stage::Silent) {
            (self.stage, self.patience) = (Stage::Proceeding, None);
            out.push(self.health(health::Input::CallServed));
        }
        self.early_media |= early_media && status > 100;
        if (180..190).contains(&status) && self.stage != Stage::Ringing {
            self.stage = Stage::Ringing;
            self.patience = Some(now + self.attempt.trunk.ring_timeout);
        }
    }

    /// What the end of a try says of which nothing was heard.
    pub(super) fn left(&self) -> Option<Output> {
        let is_unheard = matches!(self.stage, Stage::Waiting | Stage::Silent);
        is_unheard.then(|| self.health(health::Input::CallLeft))
    }

    /// Whether this refusal is one after which another gateway is tried.
    pub(super) fn moves_on_after(&self, status: u16) -> bool {
        self.attempt.outbound().failover.on_codes.contains(&status) && self.may_move_on()
    }

    /// Whether another gateway may still be tried after what was heard here.
    pub(super) fn may_move_on(&self) -> bool {
        match self.attempt.outbound().failover.never_after {
            NeverAfter::Trying => matches!(self.stage, Stage::Waiting | Stage::Silent),
            NeverAfter::Ringing => self.stage != Stage::Ringing && !self.early_media,
            NeverAfter::EarlyMedia => !self.early_media,
        }
    }
}
