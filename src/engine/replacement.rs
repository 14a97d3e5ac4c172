//! An INVITE that takes the place of a caller's leg (RFC 3891), on its way to the call it is for.

use crate::engine::invitation::Begun;
use crate::engine::sip_shard::ShardHandle;
use crate::engine::switch::Switch;
use crate::sip::endpoint::event::Command;
use crate::sip::endpoint::event::DialogId;
use crate::sip::endpoint::event::Refusal;
use crate::sip::endpoint::flow::Flow;
use crate::sip::message::header::replaces::Replaces;
use crate::types::cause::HangupCause;
use crate::types::id::TenantId;
use crate::types::id::TrunkId;

/// The new leg of a caller. Whoever has this answers it, or refuses it with its record.
#[derive(Debug)]
pub(super) struct Replacement {
    pub(super) shard: ShardHandle,
    pub(super) dialog: DialogId,
    /// How its INVITE came.
    pub(super) flow: Flow,
    /// The record of the INVITE, written only when it is refused: else it belongs to the call's.
    pub(super) begun: Begun,
}

/// Who asks for the place of a leg.
#[derive(Clone, Copy, Debug)]
pub(super) struct Replacer<'a> {
    /// Which leg.
    pub(super) replaces: &'a Replaces,
    /// Whose number it called for that.
    pub(super) tenant: TenantId,
    /// The trunk it came by: that of the leg, or the leg is not its to give away.
    pub(super) trunk: TrunkId,
}

impl Replacement {
    /// Refuses the new leg; the one before stays as it was.
    pub(super) async fn refuse(self, switch: &Switch, cause: HangupCause) {
        let Self { shard, dialog, begun, .. } = self;
        let status = cause.sip_status();
        begun.close(switch, (cause, status));
        let (retry_after_s, headers) = (cause.retry_after_s(), Vec::new());
        let refusal = Refusal { status, cause, retry_after_s, headers, is_passed_on: false };
        shard.command(Command::Refuse { dialog, refusal }).await;
    }
}
