//! What the switch gives for a call of its own, and for a request outside dialogs.

use super::event::Token;
use super::flow::Flow;
use super::policy::DialogPolicy;
use crate::sip::digest::client::Account;
use crate::sip::digest::client::Client as DigestClient;
use crate::sip::message::field::FieldValue;
use crate::sip::message::field::HeaderField;
use crate::sip::message::method::Method;
use crate::types::transport::Advertised;
use crate::types::transport::DatagramRule;
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;

/// Max-Forwards of a request that begins here (RFC 3261 §8.1.1.6).
pub const MAX_FORWARDS: u8 = 70;
/// How long a call of ours may ring where nothing else is said; as timer C of a proxy (RFC 3261 §16.6).
pub const RINGING_MAX: Duration = Duration::from_secs(200);

/// A call of ours. URIs are text as they go on the wire; one that cannot be read refuses the call with
/// 400 before anything is sent.
#[derive(Clone, Debug)]
pub struct OutboundInvite {
    /// The way to send it: the next hop, whatever the Request-URI says.
    pub flow: Flow,
    /// The way to the peer once `flow`, a connection, is gone; `None`: any connection to its address.
    pub way_back: Option<Flow>,
    /// Call-ID; `None` makes one. Whoever shards by Call-ID gives one of this shard's.
    pub call_id: Option<FieldValue>,
    /// Request-URI, kept apart from the next hop.
    pub uri: String,
    /// URIs of Route headers in order: outbound proxy, Service-Route. Loose routing (`lr`) is assumed.
    pub routes: Vec<String>,
    /// URI of the From header.
    pub from: String,
    /// Display name of the From header.
    pub from_display: Option<String>,
    /// URI of the To header.
    pub to: String,
    /// User part of our Contact.
    pub contact_user: String,
    /// Where we are, in Via and Contact; `None`: at the listener's address.
    pub advertised: Option<Arc<Advertised>>,
    /// Max-Forwards: one less than that of the call this one continues, else [`MAX_FORWARDS`].
    pub max_forwards: u8,
    /// Offer; `None` asks the called party for one. Without an offer 100rel is not supported, since a
    /// PRACK would have to answer.
    pub body: Option<Bytes>,
    /// Accounts for answers to 401 and 407; the first whose realm fits is used.
    pub accounts: Vec<Account>,
    /// Who calls, for those who may know.
    pub identity: Identity,
    /// More headers.
    pub headers: Vec<HeaderField>,
    /// How the dialog behaves.
    pub policy: DialogPolicy,
    /// Gives up with 408 when nothing at all was heard for this long.
    pub silence_max: Option<Duration>,
    /// Gives up with 408 and CANCEL when it is not answered for this long.
    pub ringing_max: Duration,
}

impl OutboundInvite {
    /// A call to `uri` by `flow`, from `from`, with defaults for all that carriers differ in.
    #[must_use]
    pub fn new(flow: Flow, uri: &str, from: &str) -> Self {
        Self {
            flow,
            way_back: None,
            call_id: None,
            uri: uri.to_owned(),
            routes: Vec::new(),
            from: from.to_owned(),
            from_display: None,
            to: uri.to_owned(),
            contact_user: String::new(),
            advertised: None,
            max_forwards: MAX_FORWARDS,
            body: None,
            accounts: Vec::new(),
            identity: Identity::default(),
            headers: Vec::new(),
            policy: DialogPolicy::default(),
            silence_max: None,
            ringing_max: RINGING_MAX,
        }
    }
}

/// Headers that say who calls, and who the call was first for.
#[derive(Clone, Debug, Default)]
pub struct Identity {
    /// P-Asserted-Identity (RFC 3325), one entry each; at most a sip and a tel one make sense.
    pub asserted: Vec<FieldValue>,
    /// P-Preferred-Identity (RFC 3325).
    pub preferred: Option<FieldValue>,
    /// Remote-Party-ID, of peers older than RFC 3325.
    pub remote_party: Option<FieldValue>,
    /// Privacy (RFC 3323), as `id`.
    pub privacy: Option<FieldValue>,
    /// Diversion (RFC 5806), the last diversion first.
    pub diversions: Vec<FieldValue>,
    /// History-Info (RFC 7044), in order.
    pub history: Vec<FieldValue>,
}

/// A request outside dialogs: REGISTER, OPTIONS, MESSAGE ... but not INVITE, ACK or CANCEL.
#[derive(Debug)]
pub struct OutboundRequest {
    /// Names it in [`Event::RequestAnswered`](super::event::Event::RequestAnswered).
    pub token: Token,
    /// The way to send it.
    pub flow: Flow,
    /// The method.
    pub method: Method,
    /// Request-URI.
    pub uri: String,
    /// URIs of Route headers in order.
    pub routes: Vec<String>,
    /// URI of the From header.
    pub from: String,
    /// URI of the To header.
    pub to: String,
    /// Call-ID; `None` makes one. Registrations keep theirs.
    pub call_id: Option<FieldValue>,
    /// CSeq number of the first attempt; each answer to a challenge takes one more.
    pub cseq: u32,
    /// Value of Contact, where the request has one of its own.
    pub contact: Option<FieldValue>,
    /// User part of our Contact, as that of an INVITE by the same flow, where `contact` is none. Empty:
    /// a Contact without user.
    pub contact_user: Option<String>,
    /// Where we are, in Via and Contact; `None`: at the listener's address.
    pub advertised: Option<Arc<Advertised>>,
    /// A REGISTER that lets proxies put themselves into the path of requests to us (RFC 3327).
    pub supports_path: bool,
    /// More headers.
    pub headers: Vec<HeaderField>,
    /// Content type and content.
    pub body: Option<(FieldValue, Bytes)>,
    /// When it is too long for UDP.
    pub datagrams: DatagramRule,
    /// Answers challenges; given back with the answer, so that its nonces serve the next request.
    pub digest: Option<Box<DigestClient>>,
    /// Gives up after this long; 64·T1 at most.
    pub patience: Duration,
}

impl OutboundRequest {
    /// A request with defaults for what most do not have.
    #[must_use]
    pub fn new(token: Token, flow: Flow, method: Method, uri: &str) -> Self {
        Self {
            token,
            flow,
            method,
            uri: uri.to_owned(),
            routes: Vec::new(),
            from: uri.to_owned(),
            to: uri.to_owned(),
            call_id: None,
            cseq: 1,
            contact: None,
            contact_user: None,
            advertised: None,
            supports_path: false,
            headers: Vec::new(),
            body: None,
            datagrams: DatagramRule::default(),
            digest: None,
            patience: Duration::from_secs(32),
        }
    }
}

/// An OPTIONS outside dialogs that asks whether somebody is there.
#[derive(Clone, Debug)]
pub struct Probe {
    /// Names it in [`Event::Probed`](super::event::Event::Probed).
    pub token: Token,
    /// The way to send it.
    pub flow: Flow,
    /// Request-URI and To.
    pub uri: String,
    /// URI of the From header.
    pub from: String,
    /// URIs of Route headers in order.
    pub routes: Vec<String>,
    /// Call-ID; `None` makes one.
    pub call_id: Option<FieldValue>,
    /// Gives up after this long; 64·T1 at most.
    pub patience: Duration,
}
