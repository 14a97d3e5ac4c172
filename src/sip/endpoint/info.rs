//! Requests of ours within a dialog that change nothing about the session: INFO, and what REFER and
//! NOTIFY have in common with it.

use super::Context;
use super::Endpoint;
use super::event::DialogEnd;
use super::event::DialogId;
use super::event::Event;
use super::request;
use super::transact::Purpose;
use crate::sip::digest::client::Credentials;
use crate::sip::invite::Info;
use crate::sip::invite::State;
use crate::sip::message::Response;
use crate::sip::message::method::Method;
use crate::sip::message::name::HeaderName;
use crate::sip::message::write::RequestWriter;
use crate::sip::transaction::Class;
use crate::sip::transaction::key::Branch;
use crate::sip::transaction::key::ClientKey;
use crate::sip::transaction::key::Kind;
use crate::types::cause::HangupCause;
use crate::types::limit::SIP_INFOS_MAX;
use bytes::Bytes;

/// The body of an INFO that tells a digit, `application/dtmf-relay`.
#[must_use]
pub fn dtmf_relay(digit: char, duration_ms: u32) -> Bytes {
    format!("Signal={digit}\r\nDuration={duration_ms}\r\n").into()
}

impl Endpoint {
    /// Sends an INFO once those before it are answered, so that none overtakes another.
    pub(super) fn info(
        &mut self,
        cx: &mut Context<'_>,
        dialog: DialogId,
        info: Info,
    ) -> Option<()> {
        let usage = self.usages.get_mut(dialog.0)?;
        let State::Confirmed(_) = &usage.state else { return None };
        if usage.infos.len() >= SIP_INFOS_MAX {
            return None;
        }
        usage.infos.push_back(info);
        if usage.infos.len() == 1 {
            self.send_info(cx, dialog, None);
        }
        Some(())
    }

    fn send_info(
        &mut self,
        cx: &mut Context<'_>,
        dialog: DialogId,
        credentials: Option<Vec<Credentials>>,
    ) {
        let Some(usage) = self.usages.get(dialog.0) else { return };
        let Some(info) = usage.infos.front().cloned() else { return };
        let of = (&Method::Info, credentials);
        let sent = self.send_within(cx, (dialog, Purpose::Info), of, |_| {
            Some((info.content_type.as_str().to_owned(), info.body))
        });
        if sent.is_none() {
            self.info_over(cx, dialog, 513);
        }
    }

    pub(super) fn info_answered(
        &mut self,
        cx: &mut Context<'_>,
        dialog: DialogId,
        response: &Response,
    ) {
        match Class::of(response.status) {
            Class::Provisional => {}
            Class::Success => self.info_over(cx, dialog, response.status),
            Class::Failure => match self.challenged(dialog, &Method::Info, response) {
                Some(credentials) => self.send_info(cx, dialog, Some(credentials)),
                None => self.info_over(cx, dialog, response.status),
            },
        }
    }

    /// Tells the outcome of the first INFO and sends the next.
    pub(super) fn info_over(&mut self, cx: &mut Context<'_>, dialog: DialogId, status: u16) {
        let Some(usage) = self.usages.get_mut(dialog.0) else { return };
        if usage.infos.pop_front().is_none() {
            return;
        }
        cx.event(Event::InfoAnswered { dialog, status });
        if !self.gone_if_481(cx, dialog, status) {
            self.send_info(cx, dialog, None);
        }
    }

    /// RFC 3261 §12.2.1.2: a peer that answers 481 does not know the dialog any more.
    pub(super) fn gone_if_481(
        &mut self,
        cx: &mut Context<'_>,
        dialog: DialogId,
        status: u16,
    ) -> bool {
        let state = self.usages.get(dialog.0).map(|usage| &usage.state);
        let is_gone = status == 481 && matches!(state, Some(State::Confirmed(_)));
        if is_gone {
            let end = (HangupCause::PeerTimeout, DialogEnd::PeerTimeout);
            self.leave_at_once(cx, dialog, end);
        }
        is_gone
    }

    /// The answer to a challenge of a request within a confirmed dialog.
    pub(super) fn challenged(
        &mut self,
        dialog: DialogId,
        method: &Method,
        response: &Response,
    ) -> Option<Vec<Credentials>> {
        if !matches!(response.status, 401 | 407) {
            return None;
        }
        let usage = self.usages.get_mut(dialog.0)?;
        let State::Confirmed(held) = &usage.state else { return None };
        let uri = held.addressed().uri.as_bytes().clone();
        usage.digest.as_mut()?.answer(&response.headers, method, &uri).ok()
    }

    /// Sends a request within a confirmed dialog and gives its CSeq number; `None` for one that is not
    /// sent. `write` adds headers, and gives content type and content where there is some.
    pub(super) fn send_within(
        &mut self,
        cx: &mut Context<'_>,
        (dialog, purpose): (DialogId, Purpose),
        (method, credentials): (&Method, Option<Vec<Credentials>>),
        write: impl FnOnce(&mut RequestWriter) -> Option<(String, Bytes)>,
    ) -> Option<u32> {
        let branch = Branch::new(&mut self.random);
        let usage = self.usages.get_mut(dialog.0)?;
        let State::Confirmed(held) = &mut usage.state else { return None };
        let cseq = held.next_cseq();
        let State::Confirmed(held) = &usage.state else { return None };
        let addressed = held.addressed();
        let uri = addressed.uri.as_bytes().clone();
        let way = request::toward(usage.flow, addressed.next_hop).known_to(Some(&*usage));
        let credentials = credentials.unwrap_or_else(|| {
            let digest = usage.digest.as_mut();
            digest.map_or_else(Vec::new, |it| it.authorize(method, &uri))
        });
        let sender = self.config.sender(way.flow);
        let mut writer = sender.within(held, method, cseq, branch);
        let content = write(&mut writer);
        writer.header(HeaderName::UserAgent, sender.product);
        request::credentials(&mut writer, &credentials);
        let bytes = match content {
            Some((content_type, body)) => writer.finish_with(&content_type, &body),
            None => writer.finish(),
        };
        let key = ClientKey { branch, kind: Kind::Other };
        self.begin_client(cx, key, (Some(dialog), purpose), (way, bytes))?;
        Some(cseq)
    }
}
