//! Calls of ours: the first INVITE.

use super::Context;
use super::Endpoint;
use super::config::Gauges;
use super::event::Counter;
use super::event::DialogId;
use super::event::Event;
use super::event::Output;
use super::event::Token;
use super::outbound::OutboundInvite;
use super::request;
use super::told::Furthest;
use super::told::RefusalNote;
use super::transact::Dependent;
use super::transact::Purpose;
use super::ways::Routed;
use crate::sip::digest::client::Client as DigestClient;
use crate::sip::invite::Calling;
use crate::sip::invite::State;
use crate::sip::invite::Usage;
use crate::sip::invite::UsageTimer;
use crate::sip::message::header::name_addr::NameAddr;
use crate::sip::message::status;
use crate::sip::message::uri::Uri;
use crate::sip::session_timer::SessionAsk;
use crate::sip::transaction::key::Branch;
use crate::sip::transaction::key::ClientKey;
use crate::sip::transaction::key::Kind;
use crate::sip::transaction::key::Tag;
use crate::types::limit::SIP_DIALOGS_MAX;
use crate::types::limit::SIP_TRANSACTIONS_MAX;
use crate::types::moment::Moment;
use bytes::Bytes;

impl Endpoint {
    /// Sends an INVITE and names its dialog. What becomes of it is told by events; a URI that cannot be
    /// read ends at once with `Refused`, status 400, a full or draining shard with 503.
    pub fn invite(
        &mut self,
        now: Moment,
        invite: OutboundInvite,
        out: &mut Vec<Output>,
    ) -> DialogId {
        let cx = &mut Context { now, out, unproven: None };
        let (dialog, refusal) = self.open_call(invite);
        self.begin_call(cx, dialog, refusal);
        dialog
    }

    /// The same by command: an event tells the dialog before all others.
    pub(super) fn place(&mut self, cx: &mut Context<'_>, token: Token, invite: OutboundInvite) {
        let (dialog, refusal) = self.open_call(invite);
        cx.event(Event::Placed { token, dialog });
        self.begin_call(cx, dialog, refusal);
    }

    /// Makes the usage of a call of ours, and says with which status it must end at once, if it must.
    fn open_call(&mut self, invite: OutboundInvite) -> (DialogId, Option<u16>) {
        let tag = Tag::new(&mut self.random);
        let (flow, way_back, policy) = (invite.flow, invite.way_back, invite.policy);
        let sender = self.config.sender(flow).at(invite.advertised.as_deref());
        let contact = sender.contact(invite.contact_user.as_bytes());
        let refusal = match self.gauges() {
            Gauges { dialogs: SIP_DIALOGS_MAX.., .. }
            | Gauges { transactions: SIP_TRANSACTIONS_MAX.., .. } => Some(503),
            Gauges { .. } if !is_readable(&invite, &contact) => Some(400),
            Gauges { .. } if self.is_draining => Some(503),
            Gauges { .. } => None,
        };
        let seed = self.random.next_u64();
        let digest = (!invite.accounts.is_empty())
            .then(|| Box::new(DigestClient::new(invite.accounts.clone(), seed)));
        let call_id = match &invite.call_id {
            Some(given) => Bytes::copy_from_slice(given.as_ref()),
            None => self.new_call_id(),
        };
        let calling = Calling {
            transaction: u64::MAX,
            from: request::from_of(&invite),
            uri: Uri::from_text(&invite.uri).unwrap_or(Uri::Other(Bytes::new())),
            call_id,
            invite,
            // RFC 3261 §8.1.1.5: any number below 2^31.
            cseq: 1,
            credentials: Vec::new(),
            session: SessionAsk::new(policy.session),
            refused_intervals: 0,
            early: Vec::new(),
            furthest: Furthest::default(),
            is_proceeding: false,
            is_cancelled: false,
            gave_up: false,
        };
        let state = State::Calling(Box::new(calling));
        let mut usage = Usage::new(state, (tag, flow), contact, policy);
        usage.digest = digest;
        usage.way_back = way_back.map(Box::new);
        let dialog = DialogId(self.usages.insert(usage));
        self.tags.insert(tag, dialog);
        self.depend(flow, Dependent::Usage(dialog));
        (dialog, refusal)
    }

    fn begin_call(&mut self, cx: &mut Context<'_>, dialog: DialogId, refusal: Option<u16>) {
        if let Some(status) = refusal {
            let reason = Bytes::from_static(status::reason_phrase(status).as_bytes());
            let note = Box::new(RefusalNote { furthest: Furthest::Unsent, ..Default::default() });
            cx.event(Event::Refused { dialog, status, reason, note, response: None });
            return self.forget(cx, dialog);
        }
        let Some(usage) = self.usages.get(dialog.0) else { return };
        let State::Calling(calling) = &usage.state else { return };
        let ringing_max = calling.invite.ringing_max;
        self.arm(cx, dialog, UsageTimer::Patience, ringing_max);
        self.send_invite(cx, dialog);
    }

    pub(super) fn new_call_id(&mut self) -> Bytes {
        let (one, two) = (self.random.next_u64(), self.random.next_u64());
        format!("{one:016x}{two:016x}").into()
    }

    /// Sends the INVITE as `Calling` has it, in a transaction of its own.
    pub(super) fn send_invite(&mut self, cx: &mut Context<'_>, dialog: DialogId) {
        let branch = Branch::new(&mut self.random);
        let Some(usage) = self.usages.get(dialog.0) else { return };
        let State::Calling(calling) = &usage.state else { return };
        let flow = usage.flow;
        let sender = self.config.sender(flow).under(usage.policy);
        let bytes = sender.invite(calling, usage.tag, &usage.contact, branch);
        let (invite, of) = (&calling.invite, (Some(dialog), Purpose::Invite));
        let silence_max = invite.silence_max;
        let (flow, bytes) = match self.route(of, flow.into(), bytes) {
            Routed::Now(flow, bytes) => (flow, bytes),
            Routed::Later(..) => {
                // The whole dialog goes by the stream.
                let invite = Box::new(invite.clone());
                cx.event(Event::TooLarge { dialog, invite });
                return self.forget(cx, dialog);
            }
            Routed::TooLong => {
                cx.count(Counter::RequestTooLong);
                return self.call_failed(cx, dialog, 513, None);
            }
        };
        if let Some(silence_max) = silence_max {
            self.arm(cx, dialog, UsageTimer::Silence, silence_max);
        }
        let key = ClientKey { branch, kind: Kind::Invite };
        let transaction = self.keep_client(key, of, (flow, bytes));
        self.start_client(cx, transaction);
        if let Some(usage) = self.usages.get_mut(dialog.0)
            && let State::Calling(calling) = &mut usage.state
        {
            calling.transaction = transaction;
        }
    }
}

/// True when every address of the INVITE will be readable to whoever gets it.
fn is_readable(invite: &OutboundInvite, contact: &Bytes) -> bool {
    let uris = [&invite.uri, &invite.from, &invite.to];
    let mut uris = uris.into_iter().chain(&invite.routes);
    uris.all(|uri| request::is_uri(uri))
        && NameAddr::parse(contact.clone()).is_ok()
        && invite.call_id.as_ref().is_none_or(request::is_call_id)
}
