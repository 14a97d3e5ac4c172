//! Dialogs (RFC 3261 §12): tags, CSeq rules, route set, remote target.

use crate::sip::endpoint::told::DialogName;
use crate::sip::message::Request;
use crate::sip::message::Response;
use crate::sip::message::header::name_addr::NameAddr;
use crate::sip::message::headers::Headers;
use crate::sip::message::name::HeaderName;
use crate::sip::message::uri::Uri;
use crate::sip::transaction::key::Tag;
use crate::types::limit::SIP_CSEQ_MAX;
use crate::types::limit::SIP_DIALOG_ADDRESSES_MAX;
use crate::types::transport::Advertised;
use bytes::Bytes;
use std::net::IpAddr;
use std::sync::Arc;

/// What both ends of a dialog know. Nothing in it keeps a datagram alive.
#[derive(Clone, Debug)]
pub struct Dialog {
    call_id: Bytes,
    local: Bytes,
    local_tag: Tag,
    remote: Bytes,
    remote_tag: Bytes,
    local_cseq: u32,
    remote_cseq: Option<u32>,
    routes: Vec<NameAddr>,
    target: Uri,
    owns_call_id: bool,
    advertised: Option<Arc<Advertised>>,
}

/// What a request within a dialog is addressed to (RFC 3261 §12.2.1.1).
#[derive(Debug)]
pub struct Addressed<'a> {
    /// The Request-URI.
    pub uri: &'a Uri,
    /// Values of Route, in order.
    pub routes: Vec<Bytes>,
    /// The URI that says where to send it.
    pub next_hop: &'a Uri,
}

impl Dialog {
    /// Where the peer that sent these headers is reached; `None` without a readable Contact, and then there is no
    /// dialog.
    #[must_use]
    pub fn target_of(headers: &Headers) -> Option<Uri> {
        Some(headers.contact()?.uri().detached())
    }

    /// The dialog a request opens at its receiver, who chose `local_tag`; `target` is what the request
    /// [says](Self::target_of).
    #[must_use]
    pub fn of_request(request: &Request, local_tag: Tag, target: Uri) -> Self {
        let headers = &request.headers;
        Self {
            call_id: Bytes::copy_from_slice(headers.call_id()),
            local: Bytes::copy_from_slice(headers.to().as_bytes()),
            local_tag,
            remote: Bytes::copy_from_slice(headers.from().as_bytes()),
            remote_tag: Bytes::copy_from_slice(headers.from().tag().unwrap_or(&[])),
            // RFC 3261 §8.1.1.5 leaves the first number to us; small ones read best in traces.
            local_cseq: 0,
            remote_cseq: Some(headers.cseq().number),
            // RFC 3261 §12.1.1: in the order of the request.
            routes: record_routes(headers).collect(),
            target,
            owns_call_id: false,
            advertised: None,
        }
    }

    /// The dialog a response opens at the sender of the request. `local` is the sender's From without
    /// a tag, `uri` the Request-URI, which stands in for a Contact that cannot be read.
    #[must_use]
    pub fn of_response(response: &Response, local: &Bytes, local_tag: Tag, uri: &Uri) -> Self {
        let headers = &response.headers;
        // RFC 3261 §12.1.2: in reverse order.
        let mut routes: Vec<NameAddr> = record_routes(headers).collect();
        routes.reverse();
        Self {
            call_id: Bytes::copy_from_slice(headers.call_id()),
            local: local.clone(),
            local_tag,
            remote: Bytes::copy_from_slice(headers.to().as_bytes()),
            remote_tag: Bytes::copy_from_slice(headers.to().tag().unwrap_or(&[])),
            local_cseq: headers.cseq().number,
            remote_cseq: None,
            routes,
            target: headers.contact().map_or_else(|| uri.clone(), |it| it.uri().detached()),
            owns_call_id: true,
            advertised: None,
        }
    }

    /// The same, whose peer finds us at `advertised`.
    #[must_use]
    pub fn advertising(self, advertised: Option<Arc<Advertised>>) -> Self {
        Self { advertised, ..self }
    }

    /// Lets the peer find us at `advertised` from now on.
    pub fn advertise(&mut self, advertised: Arc<Advertised>) {
        self.advertised = Some(advertised);
    }

    /// Where the peer finds us; `None`: at the listener's address.
    #[must_use]
    pub fn advertised(&self) -> Option<&Advertised> {
        self.advertised.as_deref()
    }

    /// Call-ID.
    #[must_use]
    pub const fn call_id(&self) -> &Bytes {
        &self.call_id
    }

    /// Our From or To, without the tag.
    #[must_use]
    pub const fn local(&self) -> &Bytes {
        &self.local
    }

    /// Our tag.
    #[must_use]
    pub const fn local_tag(&self) -> Tag {
        self.local_tag
    }

    /// The peer's From or To with its tag, as it wrote it.
    #[must_use]
    pub const fn remote(&self) -> &Bytes {
        &self.remote
    }

    /// The peer's tag; empty for a peer of RFC 2543.
    #[must_use]
    pub const fn remote_tag(&self) -> &Bytes {
        &self.remote_tag
    }

    /// True when we made the Call-ID, which decides how long we wait after 491 (RFC 3261 §14.1).
    #[must_use]
    pub const fn owns_call_id(&self) -> bool {
        self.owns_call_id
    }

    /// The number of the last request of ours that was no ACK.
    #[must_use]
    pub const fn local_cseq(&self) -> u32 {
        self.local_cseq
    }

    /// True when a request with these headers is of this dialog; the local tag has been compared.
    #[must_use]
    pub fn holds_request(&self, headers: &Headers) -> bool {
        self.call_id == headers.call_id() && self.remote_tag == headers.from().tag().unwrap_or(&[])
    }

    /// The number of our next request; ACK takes none (RFC 3261 §12.2.1.1).
    pub const fn next_cseq(&mut self) -> u32 {
        // 2^31 requests in a dialog do not happen; wrapping keeps the number valid.
        self.local_cseq = if self.local_cseq >= SIP_CSEQ_MAX { 1 } else { self.local_cseq + 1 };
        self.local_cseq
    }

    /// Takes the number of a request of the peer's; `false` when it is out of order, to be answered
    /// 500 (RFC 3261 §12.2.2). Gaps are fine.
    pub fn accept_cseq(&mut self, number: u32) -> bool {
        if self.remote_cseq.is_some_and(|last| number <= last) {
            return false;
        }
        self.remote_cseq = Some(number);
        true
    }

    /// Goes on counting where an early dialog of the same two parties stopped.
    pub(crate) fn continue_from(&mut self, early: &Self) {
        self.local_cseq = self.local_cseq.max(early.local_cseq);
        self.remote_cseq = early.remote_cseq;
    }

    /// What names the dialog in the network.
    #[must_use]
    pub fn name(&self) -> DialogName {
        DialogName {
            call_id: self.call_id.clone(),
            local_tag: self.local_tag.to_text().into(),
            remote_tag: self.remote_tag.clone(),
        }
    }

    /// Where the peer is reached, exactly as it says.
    #[must_use]
    pub const fn target(&self) -> &Uri {
        &self.target
    }

    /// The addresses that requests of the peer may come from, as far as its Contact and the route set name
    /// them; names in DNS are not looked up.
    #[must_use]
    pub fn addresses(&self) -> Vec<IpAddr> {
        let uris = std::iter::once(&self.target).chain(self.routes.iter().map(NameAddr::uri));
        let mut addresses: Vec<IpAddr> = uris.filter_map(Uri::address).collect();
        addresses.sort_unstable();
        addresses.dedup();
        addresses.truncate(SIP_DIALOG_ADDRESSES_MAX);
        addresses
    }

    /// Takes a new remote target from the Contact of a re-INVITE, an UPDATE or their 2xx.
    pub fn refresh_target(&mut self, headers: &Headers) {
        // Nearly always it is the one there is, which needs no reading.
        if headers.all(HeaderName::Contact).next().is_some_and(|entry| self.is_target(entry)) {
            return;
        }
        if let Some(target) = Self::target_of(headers) {
            self.target = target;
        }
    }

    /// Whether an entry of Contact is the target there is, and nothing else.
    fn is_target(&self, entry: &[u8]) -> bool {
        let target: &[u8] = self.target.as_bytes();
        match entry {
            [b'<', uri @ .., b'>'] => uri == target,
            // Without brackets what follows a semicolon is not the URI's.
            bare => bare == target && !bare.contains(&b';'),
        }
    }

    /// What a request of ours within the dialog is addressed to: the remote target exactly as given,
    /// by way of the route set. A first route without `lr` is a strict router and comes first.
    #[must_use]
    pub fn addressed(&self) -> Addressed<'_> {
        let values = |routes: &[NameAddr]| routes.iter().map(|it| it.as_bytes().clone()).collect();
        match self.routes.split_first() {
            None => Addressed { uri: &self.target, routes: Vec::new(), next_hop: &self.target },
            Some((first, _)) if first.uri().params().has("lr") => {
                Addressed { uri: &self.target, routes: values(&self.routes), next_hop: first.uri() }
            }
            Some((first, rest)) => {
                let mut routes: Vec<Bytes> = values(rest);
                routes.push([b"<", self.target.as_bytes().as_ref(), b">"].concat().into());
                Addressed { uri: first.uri(), routes, next_hop: first.uri() }
            }
        }
    }
}

/// The readable Record-Route entries in order, detached.
fn record_routes(headers: &Headers) -> impl Iterator<Item = NameAddr> {
    headers.record_routes().filter_map(Result::ok).map(|route| route.detached())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sip::message::Message;
    use crate::sip::message::parse;
    use crate::types::random::Random;

    const INVITE: &str = "INVITE sip:us@h SIP/2.0\r\nVia: SIP/2.0/UDP a;branch=z9hG4bK1\r\n\
        Record-Route: <sip:r1;lr>, <sip:r2;lr>\r\nFrom: \"A\" <sip:a@a>;tag=peer\r\nTo: <sip:us@h>\r\n\
        Call-ID: id\r\nCSeq: 7 INVITE\r\nContact: <sip:a@10.0.0.1:5099;x=y>\r\n\r\n";
    const ANSWER: &str = "SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP a;branch=z9hG4bK1\r\n\
        Record-Route: <sip:r1;lr>, <sip:r2;lr>\r\nFrom: <sip:a@a>;tag=x\r\nTo: <sip:us@h>;tag=peer\r\n\
        Call-ID: id\r\nCSeq: 7 INVITE\r\nContact: <sip:b@192.168.1.9>\r\n\r\n";

    fn message(text: &str) -> Message {
        parse(Bytes::copy_from_slice(text.as_bytes())).unwrap()
    }

    fn uas(text: &str) -> Dialog {
        let Message::Request(request) = message(text) else { panic!("a request") };
        let target = Dialog::target_of(&request.headers).unwrap();
        Dialog::of_request(&request, Tag::new(&mut Random::from_seed(1)), target)
    }

    fn uac(text: &str) -> Dialog {
        let Message::Response(response) = message(text) else { panic!("a response") };
        let uri = Uri::from_text("sip:us@h").unwrap();
        let local = Bytes::from_static(b"<sip:a@a>");
        Dialog::of_response(&response, &local, Tag::new(&mut Random::from_seed(1)), &uri)
    }

    #[test]
    fn the_uac_reverses_record_route() {
        let dialog = uac(ANSWER);
        assert_eq!(dialog.addressed().routes, ["<sip:r2;lr>", "<sip:r1;lr>"]);
        assert_eq!(uas(INVITE).addressed().routes, ["<sip:r1;lr>", "<sip:r2;lr>"]);
    }

    #[test]
    fn the_next_hop_is_the_first_route() {
        assert_eq!(uac(ANSWER).addressed().next_hop.host(), Some(&b"r2"[..]));
        let direct = ANSWER.replace("Record-Route: <sip:r1;lr>, <sip:r2;lr>\r\n", "");
        assert_eq!(uac(&direct).addressed().next_hop.host(), Some(&b"192.168.1.9"[..]));
    }

    #[test]
    fn ack_request_uri_is_the_contact_even_if_private() {
        assert_eq!(uac(ANSWER).addressed().uri.as_bytes(), "sip:b@192.168.1.9");
        assert_eq!(uas(INVITE).addressed().uri.as_bytes(), "sip:a@10.0.0.1:5099;x=y");
    }

    #[test]
    fn a_strict_router_comes_first_and_the_target_last() {
        let strict = ANSWER.replace("<sip:r2;lr>", "<sip:r2>");
        let dialog = uac(&strict);
        let addressed = dialog.addressed();
        assert_eq!(addressed.uri.as_bytes(), "sip:r2");
        assert_eq!(addressed.routes, ["<sip:r1;lr>", "<sip:b@192.168.1.9>"]);
    }

    #[test]
    fn numbers_of_the_peer_may_jump_but_never_fall() {
        let mut dialog = uas(INVITE);
        for (number, accepted) in [(7, false), (6, false), (8, true), (1000, true), (9, false)] {
            assert_eq!(dialog.accept_cseq(number), accepted, "{number}");
        }
    }

    #[test]
    fn ack_does_not_burn_a_cseq() {
        let mut dialog = uac(ANSWER);
        assert_eq!((dialog.local_cseq(), dialog.next_cseq()), (7, 8));
    }

    #[test]
    fn a_contact_refreshes_the_target_and_none_leaves_it() {
        let mut dialog = uas(INVITE);
        let moved = INVITE.replace("10.0.0.1:5099;x=y", "10.0.0.2");
        dialog.refresh_target(message(&moved).headers());
        assert_eq!(dialog.addressed().uri.as_bytes(), "sip:a@10.0.0.2");
        let bare = INVITE.replace("Contact: <sip:a@10.0.0.1:5099;x=y>\r\n", "");
        dialog.refresh_target(message(&bare).headers());
        assert_eq!(dialog.addressed().uri.as_bytes(), "sip:a@10.0.0.2");
    }

    #[test]
    fn a_contact_is_the_target_only_where_its_uri_is() {
        let contact = "<sip:a@10.0.0.1:5099;x=y>";
        for (said, target) in [
            (contact, "sip:a@10.0.0.1:5099;x=y"),
            ("A <sip:a@10.0.0.1:5099;x=y>;q=1", "sip:a@10.0.0.1:5099;x=y"),
            // Without brackets the parameter is the header's.
            ("sip:a@10.0.0.1:5099;x=y", "sip:a@10.0.0.1:5099"),
            ("<sip:a@10.0.0.1:5099;x=yy>", "sip:a@10.0.0.1:5099;x=yy"),
            ("<sip:a@10.0.0.1:5099;x=y", "sip:a@10.0.0.1:5099;x=y"),
        ] {
            let mut dialog = uas(INVITE);
            dialog.refresh_target(message(&INVITE.replace(contact, said)).headers());
            assert_eq!(dialog.target().as_bytes(), target, "{said}");
        }
        // As SIPp writes it.
        let bare = INVITE.replace(contact, "sip:a@10.0.0.1:5099");
        let mut dialog = uas(&bare);
        dialog.refresh_target(message(&bare).headers());
        assert_eq!(dialog.target().as_bytes(), "sip:a@10.0.0.1:5099");
    }
}
