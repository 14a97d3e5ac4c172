//! Calls of ours: the first INVITE.

use super::Context;
use super::Endpoint;
use super::config::Gauges;
use super::event::DialogId;
use super::event::Event;
use super::event::OutboundInvite;
use super::event::Output;
use super::request;
use super::transact::Dependent;
use super::transact::Purpose;
use crate::sip::digest::client::Client as DigestClient;
use crate::sip::invite::Calling;
use crate::sip::invite::State;
use crate::sip::invite::Usage;
use crate::sip::invite::UsageTimer;
use crate::sip::message::status;
use crate::sip::message::uri::Uri;
use crate::sip::transaction::key::Branch;
use crate::sip::transaction::key::ClientKey;
use crate::sip::transaction::key::Kind;
use crate::sip::transaction::key::Tag;
use crate::types::limit::SIP_DIALOGS_MAX;
use crate::types::limit::SIP_TRANSACTIONS_MAX;
use crate::types::moment::Moment;
use bytes::Bytes;
use std::time::Duration;

/// How long a call of ours may ring in all; as long as timer C of a proxy lets it (RFC 3261 §16.6).
const RINGING_MAX: Duration = Duration::from_secs(200);

impl Endpoint {
    /// Sends an INVITE and names its dialog. What becomes of it is told by events; a Request-URI that
    /// cannot be read ends at once with `Refused`, status 400, a full or draining shard with 503.
    pub fn invite(
        &mut self,
        now: Moment,
        invite: OutboundInvite,
        out: &mut Vec<Output>,
    ) -> DialogId {
        let cx = &mut Context { now, out };
        let tag = Tag::new(&mut self.random);
        let flow = invite.flow;
        let contact = self.config.sender(flow).contact(invite.contact_user.as_bytes());
        let uri = Uri::from_text(&invite.uri);
        let is_readable = uri.is_ok() && Uri::from_text(&invite.to).is_ok();
        let refusal = match self.gauges() {
            Gauges { dialogs: SIP_DIALOGS_MAX.., .. }
            | Gauges { transactions: SIP_TRANSACTIONS_MAX.., .. } => Some(503),
            Gauges { .. } if !is_readable => Some(400),
            Gauges { .. } if self.is_draining => Some(503),
            Gauges { .. } => None,
        };
        let digest = invite.credentials.as_ref().map(|(user, password)| {
            Box::new(DigestClient::new(user, password.clone(), self.random.next_u64()))
        });
        let calling = Calling {
            transaction: u64::MAX,
            from: request::from_of(&invite),
            uri: uri.unwrap_or(Uri::Other(Bytes::new())),
            call_id: self.new_call_id(),
            invite,
            // RFC 3261 §8.1.1.5: any number below 2^31.
            cseq: 1,
            credentials: Vec::new(),
            is_proceeding: false,
            is_cancelled: false,
            gave_up: false,
        };
        let mut usage = Usage::new(State::Calling(Box::new(calling)), tag, flow, contact);
        usage.digest = digest;
        let dialog = DialogId(self.usages.insert(usage));
        self.tags.insert(tag, dialog);
        self.depend(flow, Dependent::Usage(dialog));
        match refusal {
            Some(status) => {
                let reason = Bytes::from_static(status::reason_phrase(status).as_bytes());
                cx.event(Event::Refused { dialog, status, reason, response: None });
                self.forget(cx, dialog);
            }
            None => {
                self.arm(cx, dialog, UsageTimer::Patience, RINGING_MAX);
                self.send_invite(cx, dialog);
            }
        }
        dialog
    }

    fn new_call_id(&mut self) -> Bytes {
        let (one, two) = (self.random.next_u64(), self.random.next_u64());
        format!("{one:016x}{two:016x}").into()
    }

    /// Sends the INVITE as `Calling` has it, in a transaction of its own.
    pub(super) fn send_invite(&mut self, cx: &mut Context<'_>, dialog: DialogId) {
        let branch = Branch::new(&mut self.random);
        let Some(usage) = self.usages.get(dialog.0) else { return };
        let State::Calling(calling) = &usage.state else { return };
        let flow = usage.flow;
        let bytes = self.config.sender(flow).invite(calling, usage.tag, &usage.contact, branch);
        let key = ClientKey { branch, kind: Kind::Invite };
        let transaction =
            self.begin_client(cx, key, (Some(dialog), Purpose::Invite), (flow, bytes));
        if let Some(usage) = self.usages.get_mut(dialog.0)
            && let State::Calling(calling) = &mut usage.state
        {
            calling.transaction = transaction;
        }
    }
}
