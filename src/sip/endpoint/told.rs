//! What events carry besides the dialog they are of.

use super::event::DialogId;
use super::flow::Flow;
use crate::sip::digest::client::Client as DigestClient;
use crate::sip::locate::NextHop;
use crate::sip::message::Response;
use crate::sip::message::header::name_addr::NameAddr;
use crate::sip::message::header::replaces::Replaces;
use crate::sip::message::headers::Headers;
use crate::sip::message::name::HeaderName;
use crate::sip::message::uri::Uri;
use crate::types::cause::HangupCause;
use crate::types::limit::SIP_REDIRECTS_MAX;
use bytes::Bytes;
use std::borrow::Cow;
use std::hash::Hash;
use std::hash::Hasher;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// Which of the parties a forked INVITE of ours reached: 0 for the first To-tag that answered, then
/// counted up. Each has its own early dialog and its own early media.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fork(pub u8);

/// What names a dialog in the network (RFC 3261 §12), for Replaces (RFC 3891) and look-ups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DialogName {
    /// Call-ID.
    pub call_id: Bytes,
    /// Our tag.
    pub local_tag: Bytes,
    /// The peer's tag; empty for a peer of RFC 2543.
    pub remote_tag: Bytes,
}

impl Hash for DialogName {
    /// By our tag alone, which is random: no peer can have many dialogs at one place of a table.
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.local_tag.hash(state);
    }
}

impl DialogName {
    /// True when `replaces`, which came with an INVITE to us, means this dialog (RFC 3891 §3).
    #[must_use]
    pub fn is_meant_by(&self, replaces: &Replaces) -> bool {
        self.call_id == replaces.call_id
            && self.local_tag == replaces.to_tag
            && self.remote_tag == replaces.from_tag
    }

    /// The Replaces value by which the *peer* of this dialog is told to give it up for another.
    #[must_use]
    pub fn to_replaces(&self) -> Replaces {
        Replaces {
            call_id: self.call_id.clone(),
            to_tag: self.remote_tag.clone(),
            from_tag: self.local_tag.clone(),
            is_early_only: false,
        }
    }
}

/// A next hop whose way is to be found (RFC 3261 §8.1.2, RFC 3263).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Search {
    /// Names it in [`Input::Located`](super::event::Input::Located).
    pub number: u64,
    /// The dialog whose request goes there; `None` for one outside dialogs.
    pub dialog: Option<DialogId>,
    /// The next hop.
    pub hop: NextHop,
    /// Where its request would go else: its listener writes the Via.
    pub from: Flow,
}

impl Search {
    /// Whether `found` may be where the next hop is: an address that means something here. A private one
    /// of a public peer is what NAT leaves in a Contact.
    #[must_use]
    pub fn is_usable(&self, found: IpAddr) -> bool {
        is_reachable(found, self.from.remote.ip())
    }

    /// Whether `found` may be another machine here than where it was named, in a dialog that has a stream: behind NAT the address
    /// that the peer is heard from may be private as well, and still of another network. Nobody doubts what this host has for
    /// itself.
    #[must_use]
    pub const fn is_doubtful(&self, found: IpAddr) -> bool {
        self.from.transport.is_reliable() && is_local(found) && !is_of_host(found)
    }
}

/// True when `found` means the same here as at `peer`.
pub(super) const fn is_reachable(found: IpAddr, peer: IpAddr) -> bool {
    found.is_ipv4() == peer.is_ipv4()
        && !found.to_canonical().is_unspecified()
        && (!is_local(found) || is_local(peer))
}

/// True for addresses that mean something else elsewhere. One of IPv4 counts as what it is, as IPv6 writes it, too.
pub(super) const fn is_local(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => {
            let [a, b, ..] = ip.octets();
            ip.is_private()
                || ip.is_loopback()
                || is_of_link(IpAddr::V4(ip))
                || (a == 100 && b & 0xc0 == 64)
        }
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unique_local() || is_of_link(IpAddr::V6(ip)),
    }
}

/// True for addresses that mean something on one link alone.
pub(super) const fn is_of_link(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}

/// True for addresses that a host has for itself.
pub(super) const fn is_of_host(ip: IpAddr) -> bool {
    ip.to_canonical().is_loopback()
}

/// An INVITE that became no call, and no part of one, since the endpoint itself settled it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Declined {
    /// The way it came.
    pub flow: Flow,
    /// The whole message.
    pub message: Bytes,
    /// What was answered; `None`: nothing could be.
    pub status: Option<u16>,
    /// The cause for the record.
    pub cause: HangupCause,
    /// What was wrong, in words.
    pub why: Cow<'static, str>,
}

/// The furthest a call of ours came before it failed; decides whether another gateway may be tried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Furthest {
    /// Nothing was sent: what it says cannot be written (status 400), or there is no room for it here (503).
    Unsent,
    /// Nothing was heard.
    #[default]
    Silence,
    /// 100 came.
    Trying,
    /// A provisional response above 100 came.
    Ringing,
    /// One with a session description came.
    EarlyMedia,
}

/// What came with a refusal of a call of ours.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RefusalNote {
    /// How far the call had come.
    pub furthest: Furthest,
    /// Retry-After, in seconds.
    pub retry_after_s: Option<u32>,
    /// Cause of the `Reason: Q.850` header.
    pub q850: Option<u8>,
    /// Text of the first Reason header, without quotes.
    pub reason_text: Option<Bytes>,
    /// Value of the first Warning header.
    pub warning: Option<Bytes>,
    /// Contacts of a 3xx, the most wanted first. Whether they are called is the caller's to decide.
    pub redirects: Vec<Redirect>,
}

impl RefusalNote {
    /// Reads what `response` says.
    pub(super) fn of(furthest: Furthest, response: Option<&Response>) -> Self {
        let Some(response) = response else { return Self { furthest, ..Self::default() } };
        let headers = &response.headers;
        let is_redirect = (300..400).contains(&response.status);
        let text = headers.reasons().find_map(|reason| reason.text());
        Self {
            furthest,
            retry_after_s: headers.retry_after().ok().flatten().map(|it| it.delay_s),
            q850: headers.reasons().find_map(|reason| reason.q850()),
            reason_text: text.map(|text| Bytes::copy_from_slice(&text)),
            warning: headers.first(HeaderName::Warning).map(Bytes::copy_from_slice),
            redirects: if is_redirect { redirects(headers) } else { Vec::new() },
        }
    }
}

/// One Contact of a 3xx.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirect {
    /// Where to call instead, exactly as given.
    pub uri: Uri,
    /// The `q` parameter in thousandths; 1000 where there is none.
    pub q_thousandths: u16,
}

fn redirects(headers: &Headers) -> Vec<Redirect> {
    let addresses = headers.addresses(HeaderName::Contact).filter_map(Result::ok);
    let mut redirects: Vec<Redirect> = addresses
        .take(SIP_REDIRECTS_MAX)
        .map(|it| Redirect { uri: it.uri().detached(), q_thousandths: quality(it.param("q")) })
        .collect();
    redirects.sort_by_key(|redirect| std::cmp::Reverse(redirect.q_thousandths));
    redirects
}

/// A `q` value (RFC 3261 §25.1) in thousandths.
fn quality(text: Option<&[u8]>) -> u16 {
    let read = |text: &[u8]| std::str::from_utf8(text).ok()?.trim().parse::<f32>().ok();
    match text.and_then(read).filter(|q| (0.0..=1.0).contains(q)) {
        // At most 1000.
        Some(q) => (q * 1000.0).round() as u16,
        None => 1000,
    }
}

/// A REFER that came within a dialog (RFC 3515).
#[derive(Clone, Debug)]
pub struct Referred {
    /// Whom the peer wants called instead.
    pub refer_to: NameAddr,
    /// The dialog the new call is to replace: an attended transfer (RFC 3891).
    pub replaces: Option<Replaces>,
    /// Value of Referred-By (RFC 3892).
    pub referred_by: Option<Bytes>,
}

/// What became of a REFER of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReferProgress {
    /// 2xx: the peer tries.
    Accepted,
    /// It does not; with the final status, 408 for none. Nothing follows.
    Refused(u16),
    /// The peer told how its new call stands: 100 to 199.
    Progressed(u16),
    /// The peer told how its new call ended: 200 to 699. Nothing follows.
    Finished(u16),
    /// The peer stopped telling, or never began, before the end was known. Nothing follows.
    Silent,
}

/// What became of a request outside dialogs.
#[derive(Debug)]
pub struct RequestAnswer {
    /// The outcome.
    pub outcome: RequestOutcome,
    /// The CSeq number used last; the next request of the same Call-ID takes a higher one.
    pub cseq: u32,
    /// What answers challenges, with the nonces learnt.
    pub digest: Option<Box<DigestClient>>,
    /// From the first attempt to the outcome.
    pub took: Duration,
}

/// How a request outside dialogs ended.
#[derive(Clone, Debug)]
pub enum RequestOutcome {
    /// A final response came. 401 and 407: the credentials were refused, or there are none.
    Answered(Arc<Response>),
    /// None came in time.
    TimedOut,
    /// The connection is gone.
    Unreachable,
    /// A URI of the request cannot be read, or its method has its own commands; nothing was sent.
    Unwritable,
    /// The shard has no room; nothing was sent.
    Full,
}

impl RequestOutcome {
    /// The status of the response, when one came.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Answered(response) => Some(response.status),
            Self::TimedOut | Self::Unreachable | Self::Unwritable | Self::Full => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_of_ipv4_counts_as_what_it_is_in_whatever_form() {
        let ip = |text: &str| -> IpAddr { text.parse().unwrap() };
        for local in ["10.0.0.1", "127.0.0.1", "169.254.169.254", "100.64.0.9", "192.168.1.20"] {
            let mapped = ip(&format!("::ffff:{local}"));
            assert!(is_local(ip(local)) && is_local(mapped), "{local}");
            assert!(!is_reachable(mapped, ip("2001:db8::1")), "{local} of a public peer");
            assert_eq!(is_of_host(mapped), local == "127.0.0.1", "{local}");
            assert_eq!(is_of_link(mapped), local == "169.254.169.254", "{local}");
        }
        assert!(!is_reachable(ip("::ffff:0.0.0.0"), ip("2001:db8::1")));
        let public = ip("::ffff:203.0.113.9");
        assert!(!is_local(public) && is_reachable(public, ip("2001:db8::1")));
        for local in ["::1", "fd00::1", "fe80::1"] {
            assert!(is_local(ip(local)), "{local}");
        }
    }

    #[test]
    fn a_quality_is_read_in_thousandths_and_one_without_meaning_is_the_highest() {
        for (text, thousandths) in
            [("1", 1000), ("0.7", 700), ("0", 0), ("0.125", 125), ("x", 1000), ("7", 1000)]
        {
            assert_eq!(quality(Some(text.as_bytes())), thousandths, "{text}");
        }
        assert_eq!(quality(None), 1000);
    }
}
