//! Requests of ours, and which way they go.

use super::flow::Flow;
use super::flow::FlowId;
use super::outbound::Identity;
use super::outbound::MAX_FORWARDS;
use super::outbound::OutboundInvite;
use super::policy;
use super::policy::DialogPolicy;
use super::policy::RefresherChoice;
use super::policy::Reliable;
use super::policy::SessionTimerMode;
use super::policy::SessionTimerPolicy;
use super::told::is_local;
use super::told::is_of_host;
use super::told::is_of_link;
use super::told::is_reachable;
use super::ways::Way;
use crate::sip::dialog::Dialog;
use crate::sip::digest::client::Credentials;
use crate::sip::invite::Calling;
use crate::sip::locate::NextHop;
use crate::sip::message::Message;
use crate::sip::message::Request;
use crate::sip::message::Response;
use crate::sip::message::field::FieldValue;
use crate::sip::message::header::reason::Reason;
use crate::sip::message::header::session_expires::Refresher;
use crate::sip::message::header::session_expires::SessionExpires;
use crate::sip::message::method::Method;
use crate::sip::message::name::HeaderName;
use crate::sip::message::parse;
use crate::sip::message::uri::Uri;
use crate::sip::message::write::RequestWriter;
use crate::sip::session_timer::SessionAsk;
use crate::sip::transaction::key::Branch;
use crate::sip::transaction::key::Tag;
use crate::types::cause::HangupCause;
use crate::types::decimal::Decimal;
use crate::types::transport::Advertised;
use crate::types::transport::Transport;
use bytes::Bytes;
use smallvec::SmallVec;
use std::net::SocketAddr;

/// The type of session descriptions.
pub(super) const SDP: &str = "application/sdp";

/// The methods every dialog takes.
const METHODS: &str = "INVITE, ACK, CANCEL, BYE, OPTIONS, INFO, PRACK, NOTIFY";
const METHODS_AND_UPDATE: &str = "INVITE, ACK, CANCEL, BYE, OPTIONS, INFO, PRACK, NOTIFY, UPDATE";
const METHODS_AND_REFER: &str = "INVITE, ACK, CANCEL, BYE, OPTIONS, INFO, PRACK, NOTIFY, REFER";
const METHODS_AND_BOTH: &str =
    "INVITE, ACK, CANCEL, BYE, OPTIONS, INFO, PRACK, NOTIFY, UPDATE, REFER";

/// Room for all extensions that we support.
const SUPPORTED_BYTES: usize = 32;
/// Bytes of a Contact beside its user and host.
const CONTACT_BYTES: usize = 32;

/// Who writes a message: what stands in Via, Contact, `Server` and `User-Agent`.
#[derive(Clone, Copy)]
pub(super) struct Sender<'a> {
    pub(super) host: &'a str,
    pub(super) port: u16,
    pub(super) transport: Transport,
    pub(super) product: &'a str,
    /// Decides what is announced.
    pub(super) policy: DialogPolicy,
    pub(super) takes_replaces: bool,
}

impl<'a> Sender<'a> {
    /// The same at another address, if one is given.
    pub(super) fn at<'b>(self, advertised: Option<&'b Advertised>) -> Sender<'b>
    where
        'a: 'b,
    {
        let Some(advertised) = advertised else { return self };
        Sender { host: &advertised.host, port: advertised.port.unwrap_or(self.port), ..self }
    }

    /// The same, announcing what `policy` has.
    pub(super) const fn under(self, policy: DialogPolicy) -> Self {
        Self { policy, ..self }
    }

    /// What is accepted, and so what `Allow` says.
    pub(super) const fn allow(&self) -> &'static str {
        match (self.policy.takes_update, self.policy.takes_refer) {
            (false, false) => METHODS,
            (true, false) => METHODS_AND_UPDATE,
            (false, true) => METHODS_AND_REFER,
            (true, true) => METHODS_AND_BOTH,
        }
    }

    /// The extensions supported; empty when there are none.
    pub(super) fn supported(&self) -> SmallVec<[u8; SUPPORTED_BYTES]> {
        let tags = [
            (self.policy.session.mode != SessionTimerMode::Off, policy::TIMER),
            (self.policy.reliable != Reliable::Off, policy::RELIABLE),
            (self.takes_replaces, policy::REPLACES),
        ];
        let mut text = SmallVec::<[u8; SUPPORTED_BYTES]>::new();
        for (_, tag) in tags.iter().filter(|(is_supported, _)| *is_supported) {
            let between: &[u8] = if text.is_empty() { b"" } else { b", " };
            text.extend_from_slice(between);
            text.extend_from_slice(tag.as_bytes());
        }
        text
    }

    /// `Supported` and `Allow`.
    pub(super) fn announce(&self, writer: &mut RequestWriter) {
        writer.header(HeaderName::Allow, self.allow());
        let supported = self.supported();
        if !supported.is_empty() {
            writer.header(HeaderName::Supported, supported);
        }
    }

    /// The value of our Contact, with this user part.
    pub(super) fn contact(&self, user: &[u8]) -> Bytes {
        let mut value = Vec::with_capacity(CONTACT_BYTES + user.len() + self.host.len());
        value.extend_from_slice(b"<sip:");
        if !user.is_empty() {
            value.extend_from_slice(user);
            value.push(b'@');
        }
        value.extend_from_slice(self.host.as_bytes());
        value.push(b':');
        value.extend_from_slice(Decimal::of(u64::from(self.port)).as_bytes());
        match self.transport {
            Transport::Udp => {}
            Transport::Tcp | Transport::Tls => {
                value.extend_from_slice(b";transport=");
                value.extend_from_slice(self.transport.as_str().as_bytes());
            }
        }
        value.push(b'>');
        value.into()
    }

    /// Request line, Via and Max-Forwards.
    pub(super) fn begin(
        &self,
        method: &Method,
        uri: &Uri,
        branch: &[u8],
        max_forwards: u8,
    ) -> RequestWriter {
        let mut writer = RequestWriter::new(method, uri);
        writer.via(self.transport, self.host, self.port, branch);
        writer.number(HeaderName::MaxForwards, u32::from(max_forwards));
        writer
    }

    /// A request within `dialog` up to CSeq; what only some methods have is added by the caller.
    pub(super) fn within(
        &self,
        dialog: &Dialog,
        method: &Method,
        cseq: u32,
        branch: Branch,
    ) -> RequestWriter {
        let addressed = dialog.addressed();
        let sender = self.at(dialog.advertised());
        let mut writer = sender.begin(method, addressed.uri, &branch.to_text(), MAX_FORWARDS);
        for route in &addressed.routes {
            writer.header(HeaderName::Route, route);
        }
        let tag = dialog.local_tag().to_text();
        writer
            .tagged(HeaderName::From, dialog.local(), Some(&tag))
            .tagged(HeaderName::To, dialog.remote(), None)
            .header(HeaderName::CallId, dialog.call_id())
            .cseq(cseq, method);
        writer
    }

    /// The INVITE of a call of ours.
    pub(super) fn invite(
        &self,
        calling: &Calling,
        tag: Tag,
        contact: &Bytes,
        branch: Branch,
    ) -> Bytes {
        let invite = &calling.invite;
        // A PRACK would have to answer an offer of the called party's: see `OutboundInvite::body`.
        let reliable = if invite.body.is_some() { self.policy.reliable } else { Reliable::Off };
        let policy = DialogPolicy { reliable, ..self.policy };
        let sender = self.at(invite.advertised.as_deref()).under(policy);
        let hops = invite.max_forwards;
        let mut writer = sender.begin(&Method::Invite, &calling.uri, &branch.to_text(), hops);
        for route in &invite.routes {
            writer.header(HeaderName::Route, format!("<{route}>"));
        }
        writer
            .tagged(HeaderName::From, &calling.from, Some(&tag.to_text()))
            .header(HeaderName::To, format!("<{}>", invite.to))
            .header(HeaderName::CallId, &calling.call_id)
            .cseq(calling.cseq, &Method::Invite)
            .header(HeaderName::Contact, contact);
        sender.announce(&mut writer);
        if reliable == Reliable::Required {
            writer.header(HeaderName::Require, policy::RELIABLE);
        }
        calling.session.write(&mut writer, sender.policy.session);
        invite.identity.write(&mut writer);
        for field in &invite.headers {
            writer.named(field.name(), field.value());
        }
        credentials(&mut writer, &calling.credentials);
        writer.header(HeaderName::UserAgent, self.product);
        finish(writer, invite.body.as_ref())
    }

    /// The CANCEL of the INVITE `sent`: same branch, CSeq number, To, Route and Request-URI (RFC 3261
    /// §9.1).
    pub(super) fn cancel(&self, sent: &Bytes, cause: HangupCause) -> Option<Bytes> {
        let invite = own_request(sent)?;
        let mut writer = self.begin_like(&Method::Cancel, &invite)?;
        let to = invite.headers.to().as_bytes();
        writer
            .tagged(HeaderName::To, to, None)
            .header(HeaderName::Reason, reason_of(cause))
            .header(HeaderName::UserAgent, self.product);
        Some(writer.finish())
    }

    /// A request in the transaction of `invite`, all but To.
    fn begin_like(&self, method: &Method, invite: &Request) -> Option<RequestWriter> {
        let headers = &invite.headers;
        let hops = headers.max_forwards().unwrap_or(MAX_FORWARDS);
        // The same Via, wherever we said we are.
        let via = headers.top_via();
        let host = std::str::from_utf8(via.host()).ok()?;
        let sender = Sender { host, port: via.port_or_default(), ..*self };
        let branch = via.branch()?;
        let mut writer = sender.begin(method, &invite.uri, branch, hops);
        writer
            .copy(headers.table(), HeaderName::Route)
            .copy(headers.table(), HeaderName::From)
            .copy(headers.table(), HeaderName::CallId)
            .cseq(headers.cseq().number, method);
        Some(writer)
    }
}

impl SessionAsk {
    /// What an INVITE of ours says about the session timer.
    fn write(&self, writer: &mut RequestWriter, session: SessionTimerPolicy) {
        let Some(interval_s) = self.interval_s else { return };
        if session.mode == SessionTimerMode::Require {
            writer.header(HeaderName::Require, policy::TIMER);
        }
        let refresher = match session.refresher {
            RefresherChoice::Auto => None,
            RefresherChoice::Local => Some(Refresher::Uac),
            RefresherChoice::Remote => Some(Refresher::Uas),
        };
        writer
            .header(HeaderName::SessionExpires, SessionExpires { interval_s, refresher }.to_value())
            .number(HeaderName::MinSe, self.min_se_s);
    }
}

impl Identity {
    fn write(&self, writer: &mut RequestWriter) {
        let lists = [
            (HeaderName::PAssertedIdentity, self.asserted.as_slice()),
            (HeaderName::PPreferredIdentity, self.preferred.as_slice()),
            (HeaderName::RemotePartyId, self.remote_party.as_slice()),
            (HeaderName::Privacy, self.privacy.as_slice()),
            (HeaderName::Diversion, self.diversions.as_slice()),
            (HeaderName::HistoryInfo, self.history.as_slice()),
        ];
        for (name, values) in lists {
            for value in values {
                writer.header(name, value);
            }
        }
    }
}

/// The ACK to a final response other than 2xx, which belongs to the INVITE's transaction: same branch
/// and Request-URI, To of the response (RFC 3261 §17.1.1.3). Empty if `sent` is no request of ours.
pub(super) fn ack_of_refusal(sent: &Bytes, response: &Response, sender: Sender<'_>) -> Bytes {
    let write = || {
        let invite = own_request(sent)?;
        let mut writer = sender.begin_like(&Method::Ack, &invite)?;
        writer.tagged(HeaderName::To, response.headers.to().as_bytes(), None);
        Some(writer.finish())
    };
    write().unwrap_or_default()
}

/// Where a request of ours said we are.
pub(super) fn sent_by(request: &Request) -> Option<Advertised> {
    let via = request.headers.top_via();
    let host = std::str::from_utf8(via.host()).ok()?.to_owned();
    Some(Advertised { host, port: Some(via.port_or_default()) })
}

/// The request in bytes we sent ourselves.
pub(super) fn own_request(sent: &Bytes) -> Option<Request> {
    match parse(sent.clone()) {
        Ok(Message::Request(request)) => Some(request),
        Ok(Message::Response(_)) | Err(_) => None,
    }
}

/// True for a URI that can stand in angle brackets.
pub(super) fn is_uri(text: &str) -> bool {
    !text.contains(['<', '>', '"']) && Uri::from_text(text).is_ok()
}

/// True for a Call-ID that is one word.
pub(super) fn is_call_id(id: &FieldValue) -> bool {
    let text = id.as_str();
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Our From without a tag.
pub(super) fn from_of(invite: &OutboundInvite) -> Bytes {
    let text = match &invite.from_display {
        Some(display) => {
            let escaped = display.replace('\\', "\\\\").replace('"', "\\\"");
            format!("\"{escaped}\" <{}>", invite.from)
        }
        None => format!("<{}>", invite.from),
    };
    text.into()
}

/// Adds credentials.
pub(super) fn credentials(writer: &mut RequestWriter, credentials: &[Credentials]) {
    for (name, value) in credentials {
        writer.header(*name, value);
    }
}

/// Ends a request, with a session description if there is one.
pub(super) fn finish(writer: RequestWriter, body: Option<&Bytes>) -> Bytes {
    match body.filter(|body| !body.is_empty()) {
        Some(body) => writer.finish_with(SDP, body),
        None => writer.finish(),
    }
}

/// The value of a `Reason` header (RFC 3326).
pub(super) fn reason_of(cause: HangupCause) -> String {
    match cause {
        // As telephones know it, which then tell of no missed call (RFC 3326 §3.1).
        HangupCause::AnsweredElsewhere => Reason::sip_value(200, cause.text()),
        _ => Reason::q850_value(cause.q850(), cause.code()),
    }
}

/// The way of a request whose next hop is `uri`, in a dialog that came by `flow`.
///
/// A stream that is there is used, unless the URI leads elsewhere. Else the packet goes to the address in the URI; to the
/// peer's source address where it cannot be reached from here because it is private and the peer is not, which is
/// what NAT leaves in a Contact. A name is looked up, and a URI with an address that asks for TCP or TLS
/// gets it (RFC 3261 §8.1.2, RFC 3263).
pub(super) fn toward(flow: Flow, uri: &Uri) -> Way {
    let is_stream = flow.transport.is_reliable();
    if is_stream && flow.id.is_socket() {
        return Way { flow, hop: elsewhere(flow, uri) };
    }
    let asked = uri.transport();
    let peer = flow.remote.ip();
    let written = uri.address();
    let ip = written.filter(|ip| is_reachable(*ip, peer));
    let at = |transport: Transport, ip| {
        let default = match transport {
            Transport::Udp | Transport::Tcp => 5060,
            Transport::Tls => 5061,
        };
        SocketAddr::new(ip, uri.port().unwrap_or(default))
    };
    match ip {
        // The way back leads to where the peer listens; another place is believed to listen for the same
        // only where it says so.
        _ if is_stream && flow.id != FlowId::ANY => match ip {
            Some(ip) if asked == Some(flow.transport) => {
                Flow { remote: at(flow.transport, ip), ..flow }.into()
            }
            Some(_) | None => flow.into(),
        },
        Some(_) if !is_stream && asked.is_some_and(Transport::is_reliable) => {
            Way { flow, hop: NextHop::of_uri(uri).ok() }
        }
        Some(ip) => Flow { remote: at(flow.transport, ip), ..flow }.into(),
        // The port a stream came from is of no use for a new one.
        None if is_stream => Flow { remote: at(flow.transport, peer), ..flow }.into(),
        None if written.is_none() => Way { flow, hop: NextHop::of_uri(uri).ok() },
        None => flow.into(),
    }
}

/// The next hop of a dialog that came by the stream `flow`, where that is another host, which says that it listens for the same
/// transport: the one that the stream leads to left itself out of the route, and need not pass on what goes by it
/// (RFC 3261 §12.2.1.1). Over TLS it has to prove who it is before anything goes there.
///
/// Behind NAT, a host is often not where its URI says: an address leaves the stream as it is that is private where the peer's
/// own is public, or the other way about, or that only one of both has for itself, or a link. Where both are private they may be
/// on one network: who knows the trunk decides ([`Search::is_doubtful`](super::told::Search::is_doubtful)).
fn elsewhere(flow: Flow, uri: &Uri) -> Option<NextHop> {
    let peer = flow.remote.ip();
    let ip = uri.address().filter(|ip| *ip != peer && is_reachable(*ip, peer))?;
    let is_beside = is_local(ip) == is_local(peer) && is_of_host(ip) == is_of_host(peer);
    let is_alike = uri.transport() == Some(flow.transport);
    if is_beside && is_alike && !is_of_link(ip) { NextHop::of_uri(uri).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(id: u64, transport: Transport, remote: &str) -> Flow {
        let local = "192.0.2.1:5060".parse().unwrap();
        Flow { id: FlowId(id), listener: 0, transport, local, remote: remote.parse().unwrap() }
    }

    fn check(flow: Flow, uri: &str, expected: &str) {
        let way = toward(flow, &Uri::from_text(uri).unwrap());
        assert_eq!(way.flow.remote.to_string(), expected, "{uri}");
    }

    fn hop(flow: Flow, uri: &str) -> Option<NextHop> {
        toward(flow, &Uri::from_text(uri).unwrap()).hop
    }

    #[test]
    fn a_packet_goes_to_the_address_of_the_next_hop() {
        let public = flow(1, Transport::Udp, "198.51.100.7:5062");
        check(public, "sip:203.0.113.9:5070;lr", "203.0.113.9:5070");
        check(public, "sip:203.0.113.9", "203.0.113.9:5060");
        check(public, "sip:sbc.example.com:5070", "198.51.100.7:5062");
        check(public, "sip:0.0.0.0", "198.51.100.7:5062");
        check(public, "tel:+15550100", "198.51.100.7:5062");
        check(public, "sip:[2001:db8::1]", "198.51.100.7:5062");
    }

    #[test]
    fn a_private_contact_of_a_public_peer_is_reached_at_its_source() {
        let public = flow(1, Transport::Udp, "198.51.100.7:5062");
        for uri in ["sip:a@10.1.2.3:5060", "sip:a@127.0.0.1", "sip:a@100.64.0.9"] {
            check(public, uri, "198.51.100.7:5062");
        }
        let lan = flow(1, Transport::Udp, "10.0.0.9:5060");
        check(lan, "sip:a@10.1.2.3:5080", "10.1.2.3:5080");
    }

    #[test]
    fn the_transport_comes_from_the_first_route_not_from_contact() {
        // The dialog's stream is the one the first route gave us; a Contact cannot change it.
        let stream = flow(7, Transport::Tcp, "198.51.100.7:40001");
        check(stream, "sip:a@203.0.113.9:5061;transport=tls", "198.51.100.7:40001");
        let lost = Flow { id: FlowId::ANY, ..stream };
        check(lost, "sip:203.0.113.9;transport=tcp;lr", "203.0.113.9:5060");
        check(lost, "sip:sbc.example.com", "198.51.100.7:5060");
    }

    #[test]
    fn a_stream_is_left_for_another_host_beside_it_that_listens_for_the_same_and_for_nobody_else() {
        let stream = flow(7, Transport::Tcp, "198.51.100.7:40001");
        let elsewhere = "sip:203.0.113.9:5070;transport=tcp;lr";
        let found = hop(stream, elsewhere).unwrap();
        assert_eq!((found.host.as_str(), found.port), ("203.0.113.9", Some(5070)));
        assert_eq!(found.transport, Some(Transport::Tcp));
        check(stream, elsewhere, "198.51.100.7:40001");
        for uri in [
            "sip:203.0.113.9;lr",
            "sip:203.0.113.9;transport=udp;lr",
            "sip:203.0.113.9;transport=tls;lr",
            "sips:203.0.113.9;transport=tcp;lr",
            "sip:198.51.100.7:5060;transport=tcp;lr",
            "sip:10.0.0.9;transport=tcp;lr",
            "sip:0.0.0.0;transport=tcp",
            "sip:[2001:db8::1];transport=tcp",
            "sip:sbc.example;transport=tcp;lr",
        ] {
            assert_eq!(hop(stream, uri), None, "{uri}");
        }
        let secure = flow(7, Transport::Tls, "198.51.100.7:5061");
        assert_eq!(hop(secure, elsewhere), None, "anybody could read it there");
        for (uri, port) in
            [("sips:203.0.113.9;lr", None), ("sip:203.0.113.9:5071;transport=tls;lr", Some(5_071))]
        {
            let found = hop(secure, uri).unwrap();
            assert_eq!((found.host.as_str(), found.port), ("203.0.113.9", port));
            assert!(found.secure || found.transport == Some(Transport::Tls), "{uri}");
        }
        let behind = flow(7, Transport::Tcp, "10.0.0.9:40001");
        assert_eq!(hop(behind, elsewhere), None, "by its address outside");
        let inside = hop(behind, "sip:10.1.2.3:5080;transport=tcp;lr").unwrap();
        assert_eq!((inside.host.as_str(), inside.port), ("10.1.2.3", Some(5_080)), "as it is");
        assert_eq!(hop(behind, "sip:127.0.0.1;transport=tcp"), None, "that is this host");
        assert_eq!(hop(behind, "sip:169.254.169.254;transport=tcp"), None, "that is of a link");
        let here = flow(7, Transport::Tcp, "127.0.0.1:40001");
        assert_eq!(hop(here, "sip:10.1.2.3;transport=tcp"), None, "what listens here is asked");
        assert!(hop(here, "sip:127.0.0.7;transport=tcp").is_some());
        let v6 = flow(7, Transport::Tcp, "[2001:db8::1]:40001");
        for uri in ["sip:[::ffff:127.0.0.1];transport=tcp", "sip:[::ffff:10.1.2.3];transport=tcp"] {
            assert_eq!(hop(v6, uri), None, "{uri}");
        }
    }

    #[test]
    fn a_lost_stream_is_opened_again_to_where_the_peer_listens() {
        let dialled = flow(0, Transport::Tls, "198.51.100.7:5061");
        let back = Flow { id: FlowId::way_back(3), ..dialled };
        for uri in
            ["sip:sbc.example.com", "sip:203.0.113.9:5060", "sip:10.0.0.1:5061;transport=tls"]
        {
            check(back, uri, "198.51.100.7:5061");
        }
        check(back, "sip:203.0.113.9:5071;transport=TLS;lr", "203.0.113.9:5071");
        check(back, "sips:203.0.113.9;lr", "203.0.113.9:5061");
        assert!(!back.id.is_socket() && !FlowId::ANY.is_socket() && dialled.id.is_socket());
    }

    #[test]
    fn a_next_hop_that_asks_for_a_stream_gets_it() {
        let udp = flow(1, Transport::Udp, "198.51.100.7:5062");
        for (uri, transport, port) in [
            ("sip:203.0.113.9:5070;transport=tcp;lr", Transport::Tcp, Some(5070)),
            ("sip:203.0.113.9;transport=TLS", Transport::Tls, None),
            ("sips:203.0.113.9;transport=tcp", Transport::Tls, None),
        ] {
            let hop = hop(udp, uri).unwrap();
            assert_eq!((hop.transport, hop.port), (Some(transport), port), "{uri}");
            assert_eq!(hop.host, "203.0.113.9");
            // Where there is no such connection the peer is, at the source of what it sent.
            check(udp, uri, "198.51.100.7:5062");
        }
        for uri in
            ["sip:10.0.0.1;transport=tcp", "sip:203.0.113.9", "sip:203.0.113.9;transport=udp"]
        {
            assert_eq!(hop(udp, uri), None, "{uri}");
        }
    }

    #[test]
    fn a_next_hop_with_a_name_is_looked_up() {
        let udp = flow(1, Transport::Udp, "198.51.100.7:5062");
        let named = hop(udp, "sip:Sbc.example.com:5070;lr").unwrap();
        assert_eq!((named.host.as_str(), named.port), ("sbc.example.com", Some(5070)));
        let by_tcp = hop(udp, "sip:a@b.example;transport=tcp").unwrap();
        assert_eq!(by_tcp.transport, Some(Transport::Tcp));
        for uri in ["sip:a@sbc.example;transport=sctp", "tel:+15550100", "sip:a@[2001:db8::1]"] {
            assert_eq!(hop(udp, uri), None, "{uri}");
        }
        let stream = flow(7, Transport::Tcp, "198.51.100.7:40001");
        assert_eq!(hop(stream, "sip:sbc.example.com"), None, "the connection is there");
    }

    #[test]
    fn what_is_accepted_is_announced_by_the_policy() {
        for (takes_update, takes_refer, more) in [
            (false, false, ""),
            (true, false, ", UPDATE"),
            (false, true, ", REFER"),
            (true, true, ", UPDATE, REFER"),
        ] {
            let policy = DialogPolicy { takes_update, takes_refer, ..DialogPolicy::default() };
            let (host, product, transport) = ("192.0.2.1", "x", Transport::Udp);
            let takes_replaces = false;
            let sender = Sender { host, port: 5060, transport, product, policy, takes_replaces };
            assert_eq!(sender.allow(), format!("{METHODS}{more}"));
        }
    }

    #[test]
    fn the_contact_names_its_transport() {
        let contact = |transport| {
            let policy = DialogPolicy::default();
            let sender = Sender {
                host: "192.0.2.1",
                port: 5060,
                transport,
                product: "x",
                policy,
                takes_replaces: false,
            };
            sender.contact(b"+15550100")
        };
        assert_eq!(contact(Transport::Udp), "<sip:+15550100@192.0.2.1:5060>");
        assert_eq!(contact(Transport::Tcp), "<sip:+15550100@192.0.2.1:5060;transport=tcp>");
    }
}
