//! `Trunk`: a checked trunk, as routing, calls and media use it.

use crate::routing::header_map::HeaderMap;
use crate::routing::numbers::NumberRules;
use crate::routing::numbers::Rewritten;
use crate::routing::numbers::dial_text;
use crate::routing::outbound_trunk::OutboundTrunk;
use crate::routing::registration::TrunkRegistration;
use crate::routing::signalling::DtmfSend;
use crate::routing::signalling::InboundProgress;
use crate::routing::signalling::Progress;
use crate::routing::signalling::ReferOut;
use crate::routing::signalling::TrunkSignalling;
use crate::types::cause::HangupCause;
use crate::types::codec::Codec;
use crate::types::codec::PayloadType;
use crate::types::codec::Ptime;
use crate::types::header::FieldName;
use crate::types::id::TenantId;
use crate::types::id::TrunkId;
use crate::types::name::ListenerName;
use crate::types::number::E164;
use crate::types::secret::Secret;
use crate::types::srtp::SrtpPolicy;
use crate::types::srtp::SrtpSuite;
use crate::types::tls::TlsSettings;
use crate::types::transport::Advertised;
use crate::types::transport::DatagramRule;
use crate::types::transport::LocalEnd;
use crate::types::transport::Transport;
use ipnet::IpNet;
use std::fmt;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

/// A trunk: who may call in by it, how its numbers read, and how its calls behave.
#[derive(Clone, Debug)]
pub struct Trunk {
    /// Its identity.
    pub id: TrunkId,
    /// Its name, for operators.
    pub name: String,
    /// The tenant that owns it; `None`: shared by all tenants.
    pub tenant: Option<TenantId>,
    /// False: as if it did not exist.
    pub enabled: bool,
    /// The listener its calls arrive at; `None`: any.
    pub listener: Option<ListenerName>,
    /// Where its calls come from. Empty: nowhere.
    pub sources: Vec<IpNet>,
    /// Names in DNS whose addresses its calls come from too, in lower case.
    pub source_names: Vec<String>,
    /// Hosts that Request-URIs of its calls may name beside our own; empty: any.
    pub request_hosts: Vec<String>,
    /// How its calls come.
    pub transports: Vec<Transport>,
    /// Among trunks that match alike, the lowest is asked first.
    pub priority: u32,
    /// Headers that each INVITE must carry, name and value; compared in constant time.
    pub required_headers: Vec<(String, Secret<String>)>,
    /// The account with which calls must authenticate; `None`: the source address is trusted.
    pub digest: Option<DigestAccount>,
    /// Where the dialled number is looked for, in order.
    pub did_sources: Vec<DidSource>,
    /// Rewrites what was dialled into E.164.
    pub called: NumberRules,
    /// Rewrites the caller into E.164 or `anonymous`.
    pub calling: NumberRules,
    /// False: callers without a number are refused with 433 (RFC 5079).
    pub anonymous_allowed: bool,
    /// The status of each outcome.
    pub response_map: ResponseMap,
    /// How its media is negotiated and watched.
    pub media: TrunkMedia,
    /// Most calls at once, both ways together; 0 is no limit.
    pub calls_max: u32,
    /// Most calls in at once; 0 is no limit of its own.
    pub calls_in_max: u32,
    /// Most new calls in per second; 0 is no limit.
    pub cps_max: u32,
    /// Where its telephone numbers are, and what the law there says of joining calls.
    pub jurisdiction: Jurisdiction,
    /// How its dialogs behave.
    pub signalling: TrunkSignalling,
    /// What its calls' headers mean.
    pub headers: HeaderMap,
    /// How it calls out; `None`: it does not.
    pub outbound: Option<Arc<OutboundTrunk>>,
    /// How it registers with its carrier; `None`: it does not.
    pub registration: Option<Arc<TrunkRegistration>>,
    /// How long a call may ring.
    pub ring_timeout: Duration,
    /// How long a call may last from its answer.
    pub max_duration: Duration,
    /// The signalling of its calls is stored when they have ended.
    pub stores_traces: bool,
    /// What its carrier does when we ask it to connect a call with somebody else (REFER).
    pub refer_out: ReferOut,
    /// Its carrier may ask us to connect who is at our end of a call with somebody else (REFER).
    pub takes_refer: bool,
    /// Ringing that is always sent before the answer, even when the agent is ready at once.
    pub answer_delay: Duration,
    /// What a caller is told while its agent connects.
    pub inbound_progress: InboundProgress,
    /// What callers hear of whom they are passed on to by this trunk, before that answers.
    pub progress: Progress,
    /// The country of its callers, two letters; empty: not said.
    pub country: String,
    /// Domains of which the peer's certificate must prove one; empty: none is asked for.
    pub peer_names: Vec<String>,
    /// How requests of ours reach its gateways.
    pub path: TrunkPath,
}

/// How requests of ours reach the gateways of a trunk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrunkPath {
    /// From where they are sent.
    pub local: LocalEnd,
    /// Where its peers are told to find us, in calls both ways; `None`: at the listener's address.
    pub advertised: Option<Arc<Advertised>>,
    /// How gateways prove themselves over TLS, and we to them.
    pub tls: Arc<TlsSettings>,
    /// Interval of keep-alive pings on connections we open (RFC 5626 §4.4.1); `None`: none.
    pub keepalive: Option<Duration>,
    /// Interval of keep-alive datagrams to where its calls go by UDP; `None`: none.
    pub datagram_keepalive: Option<Duration>,
    /// Which requests are too long for UDP, and what becomes of them.
    pub datagrams: DatagramRule,
    /// A tenant named where they go: they are sent where agents may be, and nowhere else.
    pub is_tenants: bool,
}

/// Where a trunk's telephone numbers are, and what the law there says of joining calls.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Jurisdiction {
    /// The country, two letters; empty: not said.
    pub region: String,
    /// The area code.
    pub area_code: String,
    /// Telephone legs are not joined with each other, except within one place.
    pub no_pstn_bridge: bool,
}

impl Jurisdiction {
    /// True for trunks of one region and area. What is not said is no place.
    #[must_use]
    pub fn is_same_place(&self, other: &Self) -> bool {
        !self.region.is_empty()
            && !self.area_code.is_empty()
            && (&self.region, &self.area_code) == (&other.region, &other.area_code)
    }
}

/// The account of a peer that authenticates with digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DigestAccount {
    /// Its user name.
    pub username: String,
    /// Its password.
    pub password: Secret<String>,
    /// The realm of our challenges.
    pub realm: String,
    /// The algorithms offered, strongest first.
    pub algorithms: Vec<DigestAlgorithm>,
}

/// A digest algorithm (RFC 8760).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DigestAlgorithm {
    /// MD5, for old peers.
    Md5,
    /// SHA-256.
    Sha256,
    /// SHA-512/256.
    Sha512_256,
}

impl DigestAlgorithm {
    /// The token of an `algorithm` parameter.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Md5 => "MD5",
            Self::Sha256 => "SHA-256",
            Self::Sha512_256 => "SHA-512-256",
        }
    }

    /// The algorithm of a token, without case.
    #[must_use]
    pub fn from_token(token: &str) -> Option<Self> {
        [Self::Md5, Self::Sha256, Self::Sha512_256]
            .into_iter()
            .find(|algorithm| algorithm.as_str().eq_ignore_ascii_case(token))
    }
}

/// A place of an INVITE where the dialled number may stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DidSource {
    /// The Request-URI.
    RequestUri,
    /// The To header.
    To,
    /// The first Diversion header (RFC 5806).
    Diversion,
    /// P-Called-Party-ID (RFC 7315): where IMS puts it when the Request-URI is our contact.
    PCalledPartyId,
}

impl DidSource {
    /// Every source.
    pub const ALL: [Self; 4] = [Self::RequestUri, Self::To, Self::Diversion, Self::PCalledPartyId];

    /// The spelling of configuration and decisions.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RequestUri => "request-uri",
            Self::To => "to",
            Self::Diversion => "diversion",
            Self::PCalledPartyId => "p-called-party-id",
        }
    }

    /// The source of a spelling.
    #[must_use]
    pub fn from_spelling(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|source| source.as_str() == text)
    }
}

impl fmt::Display for DidSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// No other node of ours is to be tried either.
const DECLINE: u16 = 603;

/// The SIP status of each outcome. It decides whether the carrier tries another node: most carriers
/// try on after 403, 408, 480, 487, 488 and 5xx, and give up after 404, 486 and 6xx.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResponseMap {
    /// Whom the call is passed on to is busy. A limit of ours is `overload`: the next node may have room.
    pub busy: u16,
    /// Nobody answered in time, or there was nobody to answer.
    pub no_answer: u16,
    /// The number is ours but not in service.
    pub not_found: u16,
    /// The number is not ours, or not on this trunk, or no number at all.
    pub unknown_did: u16,
    /// Refused by a rule, or the tenant is suspended.
    pub policy: u16,
    /// A limit is reached.
    pub overload: u16,
    /// The node is shutting down.
    pub draining: u16,
    /// No codec in common, or an unusable session description.
    pub no_codec: u16,
}

impl Default for ResponseMap {
    fn default() -> Self {
        Self {
            busy: 486,
            no_answer: 480,
            not_found: 404,
            unknown_did: 404,
            policy: 403,
            overload: 503,
            draining: 503,
            no_codec: 488,
        }
    }
}

impl ResponseMap {
    /// The status with which a call is refused for `cause` on this trunk.
    #[must_use]
    pub fn status(&self, cause: HangupCause) -> u16 {
        match cause {
            HangupCause::Busy => self.busy,
            HangupCause::NoAnswer | HangupCause::NoAgent | HangupCause::AgentUnreachable => {
                self.no_answer
            }
            HangupCause::NumberInactive | HangupCause::TenantDeleted => self.not_found,
            HangupCause::UnknownNumber
            | HangupCause::NotANumber
            | HangupCause::ForeignHost
            | HangupCause::NumberNotOnTrunk => self.unknown_did,
            // The same rules hold on every node, for the leg a call goes on to as well.
            HangupCause::TenantSuspended
            | HangupCause::Policy
            | HangupCause::DestinationDenied
            | HangupCause::CallerIdDenied
            | HangupCause::OutsideHours
            | HangupCause::BudgetSpent
            | HangupCause::TollBypass => self.policy,
            HangupCause::NodeLimit
            | HangupCause::TenantLimit
            | HangupCause::TrunkLimit
            | HangupCause::NoPorts
            | HangupCause::NoRoutingTable
            | HangupCause::Overload => self.overload,
            HangupCause::Draining => self.draining,
            HangupCause::NoAudio
            | HangupCause::NoCommonCodec
            | HangupCause::BadSdp
            | HangupCause::SrtpMismatch => self.no_codec,
            // No refusal is a success: who ends a call that rings declines it (RFC 3261 §21.6.2).
            HangupCause::Normal | HangupCause::Transferred | HangupCause::MaxDuration => DECLINE,
            other => other.sip_status(),
        }
    }
}

/// Whether RTCP is sent and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RtcpMode {
    /// On its own port.
    On,
    /// On the RTP port when the peer agrees (RFC 5761), else on its own.
    Mux,
    /// Never sent; what comes is counted and not read.
    Off,
}

/// When a peer is told by RTCP XR how well we hear it (RFC 3611).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RtcpXr {
    /// Never.
    Off,
    /// Where its description asks for that.
    Asked,
    /// Always, and our descriptions ask for the same.
    On,
}

/// How a trunk's media is negotiated and watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrunkMedia {
    /// The codecs of our offers, in order.
    pub codecs_offered: Vec<Codec>,
    /// The codecs we accept, in our order.
    pub codecs: Vec<Codec>,
    /// True: answers follow the order of the offer; false: ours.
    pub order_remote: bool,
    /// Answers name one codec only.
    pub single_codec: bool,
    /// The packet time we send.
    pub ptime: Ptime,
    /// The longest packet time a peer may ask for.
    pub ptime_max: Ptime,
    /// The payload type of telephone-event in our offers; `None`: no telephone-event.
    pub dtmf_payload_type: Option<PayloadType>,
    /// Digits in INFO bodies count too.
    pub dtmf_info: bool,
    /// Digits are heard in the audio of a peer that agreed on no telephone-event.
    pub dtmf_tones: bool,
    /// Digits are kept from agents, recordings and records.
    pub dtmf_private: bool,
    /// How digits are sent.
    pub dtmf_send: DtmfSend,
    /// Our descriptions name the flash key, event 16, beside the digits.
    pub dtmf_flash: bool,
    /// How long a digit is that we send, and the gap after it, in ms.
    pub dtmf_ms: (u32, u32),
    /// RTCP.
    pub rtcp: RtcpMode,
    /// RTCP XR.
    pub rtcp_xr: RtcpXr,
    /// Media is taken from here only, and from the negotiated address. Empty: from anywhere.
    pub remote_cidrs: Vec<IpNet>,
    /// Media is sent to where it comes from; false: to where descriptions say.
    pub symmetric: bool,
    /// The RTP ports of its calls, which others have once no others are free; `None`: those of the node.
    pub ports: Option<RangeInclusive<u16>>,
    /// After this long without a packet, while not held, the call ends; `None`: never.
    pub inactivity: Option<Duration>,
    /// Traffic class of what we send (RFC 2474); 0: the system's.
    pub dscp: u8,
    /// Whom we put on hold is sent nothing; false: a tone.
    pub silent_hold: bool,
    /// The address of our session descriptions; `None`: the listener's.
    pub advertise_rtp: Option<IpAddr>,
    /// Encryption.
    pub srtp: TrunkSrtp,
}

/// How a trunk's media is encrypted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrunkSrtp {
    /// Whether it is.
    pub policy: SrtpPolicy,
    /// The suites of our offers, in order.
    pub suites_offered: Vec<SrtpSuite>,
    /// The suites we accept.
    pub suites: Vec<SrtpSuite>,
    /// Our keys bear a master key identifier.
    pub send_mki: bool,
    /// Our keys bear a lifetime.
    pub send_lifetime: bool,
    /// Keys are sent and taken over TLS only.
    pub needs_tls: bool,
}

impl Default for TrunkSrtp {
    fn default() -> Self {
        Self {
            policy: SrtpPolicy::Off,
            suites_offered: vec![SrtpSuite::AesCm128HmacSha1_80],
            suites: vec![SrtpSuite::AesCm128HmacSha1_80, SrtpSuite::AesCm128HmacSha1_32],
            send_mki: false,
            send_lifetime: false,
            needs_tls: true,
        }
    }
}

/// The traffic class of telephone audio (RFC 3246, RFC 4594 §4.1).
const EXPEDITED_FORWARDING: u8 = 46;

impl Default for TrunkMedia {
    fn default() -> Self {
        Self {
            codecs_offered: vec![Codec::Pcmu, Codec::Pcma],
            codecs: vec![Codec::Pcmu, Codec::Pcma],
            order_remote: true,
            single_codec: true,
            ptime: Ptime::MS_20,
            ptime_max: Ptime::from_ms(60).unwrap_or(Ptime::MS_20),
            dtmf_payload_type: PayloadType::new(101),
            dtmf_info: true,
            dtmf_tones: false,
            dtmf_private: false,
            dtmf_send: DtmfSend::Rfc4733,
            dtmf_flash: false,
            dtmf_ms: (120, 80),
            rtcp: RtcpMode::On,
            rtcp_xr: RtcpXr::Asked,
            remote_cidrs: Vec::new(),
            symmetric: true,
            ports: None,
            inactivity: Some(Duration::from_secs(60)),
            dscp: EXPEDITED_FORWARDING,
            silent_hold: false,
            advertise_rtp: None,
            srtp: TrunkSrtp::default(),
        }
    }
}

/// An IPv6 address without its brackets; any other host as it is.
fn unbracketed(host: &[u8]) -> &[u8] {
    host.strip_prefix(b"[").and_then(|host| host.strip_suffix(b"]")).unwrap_or(host)
}

impl Trunk {
    /// The number its carrier means by a user part or `tel:` URI that names neither who calls nor one of
    /// ours, as in Refer-To: in the form it dials, or in that of callers.
    #[must_use]
    pub fn number_meant(&self, raw: &[u8]) -> Option<E164> {
        let text = dial_text(raw)?;
        [&self.called, &self.calling].into_iter().find_map(|rules| match rules.rewrite(&text).0 {
            Rewritten::Number(number) => Some(number),
            Rewritten::Anonymous | Rewritten::Unusable => None,
        })
    }

    /// Whether who calls by it must prove more than an address.
    #[must_use]
    pub const fn wants_proof(&self) -> bool {
        self.digest.is_some() || !self.required_headers.is_empty()
    }

    /// The names of headers whose values are secrets: what its peer has to show us, and what we show it.
    pub fn secret_headers(&self) -> impl Iterator<Item = &str> {
        let shown = self.outbound.iter().flat_map(|outbound| outbound.headers.secrets());
        let required = self.required_headers.iter().map(|(name, _)| name.as_str());
        required.chain(shown.map(FieldName::as_str))
    }

    /// A trunk that takes calls from `sources` over UDP and TCP with the defaults of every profile.
    #[must_use]
    pub fn new(id: TrunkId, name: impl Into<String>, sources: Vec<IpNet>) -> Self {
        Self {
            id,
            name: name.into(),
            tenant: None,
            enabled: true,
            listener: None,
            sources,
            source_names: Vec::new(),
            request_hosts: Vec::new(),
            transports: vec![Transport::Udp, Transport::Tcp],
            priority: 100,
            required_headers: Vec::new(),
            digest: None,
            did_sources: vec![DidSource::RequestUri, DidSource::To],
            called: NumberRules::default(),
            calling: NumberRules::default(),
            anonymous_allowed: true,
            response_map: ResponseMap::default(),
            media: TrunkMedia::default(),
            calls_max: 0,
            calls_in_max: 0,
            cps_max: 0,
            jurisdiction: Jurisdiction::default(),
            headers: HeaderMap::default(),
            signalling: TrunkSignalling::default(),
            outbound: None,
            registration: None,
            ring_timeout: Duration::from_secs(45),
            max_duration: Duration::from_secs(14_400),
            stores_traces: true,
            refer_out: ReferOut::None,
            takes_refer: false,
            answer_delay: Duration::ZERO,
            inbound_progress: InboundProgress::Ringing,
            progress: Progress::default(),
            country: String::new(),
            peer_names: Vec::new(),
            path: TrunkPath::default(),
        }
    }

    /// True when a call whose Request-URI names `host` can be this trunk's. `own` is where its peers find
    /// us unless it says otherwise: a carrier that we register with calls us by that.
    #[must_use]
    pub fn answers_for(&self, host: &[u8], own: &str) -> bool {
        let own = self.path.advertised.as_ref().map_or(own, |advertised| &advertised.host);
        let mut served = self.request_hosts.iter().map(String::as_str).chain([own]);
        self.request_hosts.is_empty()
            || host.is_empty()
            || served.any(|own| unbracketed(own.as_bytes()).eq_ignore_ascii_case(unbracketed(host)))
    }

    /// True when calls that arrive at `listener` by `transport` can be this trunk's.
    #[must_use]
    pub fn listens(&self, listener: &ListenerName, transport: Transport) -> bool {
        self.enabled
            && self.transports.contains(&transport)
            && self.listener.as_ref().is_none_or(|own| own == listener)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_outcome_has_the_status_that_the_trunk_gives_it_and_others_their_own() {
        let map = ResponseMap {
            busy: 600,
            no_answer: 601,
            not_found: 602,
            unknown_did: 604,
            policy: 605,
            overload: 606,
            draining: 607,
            no_codec: 608,
        };
        for (cause, status) in [
            (HangupCause::Busy, 600),
            (HangupCause::NoAnswer, 601),
            (HangupCause::AgentUnreachable, 601),
            (HangupCause::NumberInactive, 602),
            (HangupCause::UnknownNumber, 604),
            (HangupCause::ForeignHost, 604),
            (HangupCause::TollBypass, 605),
            (HangupCause::TenantSuspended, 605),
            (HangupCause::TrunkLimit, 606),
            (HangupCause::NoPorts, 606),
            (HangupCause::Draining, 607),
            (HangupCause::NoAudio, 608),
            (HangupCause::BadSdp, 608),
            (HangupCause::SrtpMismatch, 608),
            (HangupCause::Loop, 482),
            (HangupCause::SwitchFault, 500),
            (HangupCause::Normal, 603),
        ] {
            assert_eq!(map.status(cause), status, "{cause}");
        }
        for cause in HangupCause::all() {
            let usual = ResponseMap::default().status(cause);
            assert!((400..700).contains(&usual), "{cause}: {usual}");
        }
    }
}
