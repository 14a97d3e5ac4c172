//! Identification: which trunks an attempt can have come by.

use crate::routing::decision::Decision;
use crate::routing::table::RoutingTable;
use crate::routing::trail::Diverted;
use crate::routing::trail::TrailKey;
use crate::routing::trunk::DigestAccount;
use crate::routing::trunk::Trunk;
use crate::types::id::TenantId;
use crate::types::name::ListenerName;
use crate::types::tls::CertificateNames;
use crate::types::transport::Transport;
use smallvec::SmallVec;
use std::fmt;
use std::hint::black_box;
use std::net::IpAddr;
use std::sync::Arc;

/// Trunks that a decision names one by one before it counts the rest.
const TRUNKS_NOTED_MAX: usize = 6;

/// What routing may know of an INVITE. User parts are raw, with their parameters (`;phone-context=`),
/// or the number of a `tel:` URI with its parameters.
#[derive(Clone, Copy)]
pub struct Attempt<'a> {
    /// The listener it arrived at.
    pub listener: &'a ListenerName,
    /// The address it came from.
    pub source: IpAddr,
    /// How it came.
    pub transport: Transport,
    /// What the peer's certificate proved, over TLS.
    pub certificate: Option<&'a CertificateNames>,
    /// The host of ours that peers are told, where their trunk says no other.
    pub own_host: &'a str,
    /// The host of the Request-URI; empty where it has none (`tel:`).
    pub request_host: &'a [u8],
    /// The user part of the Request-URI.
    pub request_user: &'a [u8],
    /// The user part of To.
    pub to_user: &'a [u8],
    /// The user part of the first Diversion header; empty where there is none.
    pub diversion_user: &'a [u8],
    /// The user part of P-Called-Party-ID; empty where there is none.
    pub called_party_user: &'a [u8],
    /// The user part of From.
    pub caller_user: &'a [u8],
    /// Who sent the call on, the last one first, by Diversion.
    pub diverted: &'a [Diverted<'a>],
    /// Where the call has been, by the user parts of History-Info, the first one first.
    pub history: &'a [&'a [u8]],
    /// What this node's marks in trails are made with.
    pub trail_key: &'a TrailKey,
    /// The lines of a header by its name, by their place from 0.
    pub header: &'a dyn Fn(&str, usize) -> Option<&'a [u8]>,
    /// How the credentials of the request fare with an account. Asked only of trunks that match in
    /// everything else, at most once for each.
    pub proof: &'a dyn Fn(&DigestAccount) -> Proof,
}

impl<'a> Attempt<'a> {
    /// The first line of a header.
    pub(crate) fn first(&self, name: &str) -> Option<&'a [u8]> {
        (self.header)(name, 0)
    }
}

impl fmt::Debug for Attempt<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // No user parts: they are telephone numbers.
        write!(f, "Attempt({} {} at {})", self.transport, self.source, self.listener)
    }
}

/// How the credentials of a request fare with an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// The request has none for this account, or they are of an old nonce: challenge it.
    Absent,
    /// They are right.
    Valid,
    /// They are for this account and wrong.
    Wrong,
}

/// The trunks an attempt can have come by, each list by priority.
#[derive(Default)]
pub(crate) struct Candidates<'t> {
    /// Match in everything.
    pub(crate) open: SmallVec<[&'t Arc<Trunk>; 8]>,
    /// Match, but the caller must authenticate first.
    pub(crate) pending: SmallVec<[&'t Arc<Trunk>; 2]>,
    /// Match, but the credentials are wrong.
    pub(crate) wrong: SmallVec<[&'t Arc<Trunk>; 2]>,
    /// The first of those that list the source, and how each was judged.
    judged: SmallVec<[(&'t Arc<Trunk>, Judgement<'t>); TRUNKS_NOTED_MAX]>,
    /// How many list it.
    seen: usize,
}

impl Candidates<'_> {
    /// Writes down how the trunks of the source were judged; of a call that is `owner`'s not those of other
    /// tenants, whose names its record would tell.
    pub(crate) fn narrate(&self, owner: Option<TenantId>, decision: &mut Decision) {
        for (trunk, judgement) in &self.judged {
            let is_anothers = owner.is_some_and(|owner| trunk.tenant.is_some_and(|t| t != owner));
            match judgement {
                _ if is_anothers => {}
                Judgement::Open => {
                    decision.note("trunk", [trunk.name.as_str(), ": matches"].concat())
                }
                _ => decision.tell("trunk", format_args!("{}: {judgement}", trunk.name)),
            }
        }
        match self.seen {
            0 => decision.note("trunk", "no trunk lists this source address"),
            seen if seen > TRUNKS_NOTED_MAX => {
                let matching = self.open.len();
                decision.note("trunk", format!("{seen} trunks list this source, {matching} match"));
            }
            _ => {}
        }
    }
}

/// Every trunk of the source address whose listener, transport, secret headers and account match.
pub(crate) fn identify<'t>(
    table: &'t RoutingTable,
    attempt: &Attempt<'_>,
    decision: &mut Decision,
) -> Candidates<'t> {
    let Attempt { source, transport, listener, .. } = attempt;
    decision.tell("source", format_args!("{source} over {transport} at listener {listener}"));
    let mut candidates = Candidates::default();
    for trunk in table.trunks_from(attempt.source) {
        candidates.seen += 1;
        let judgement = judge(trunk, attempt);
        match judgement {
            Judgement::Open | Judgement::Authenticated(_) => candidates.open.push(trunk),
            Judgement::Pending => candidates.pending.push(trunk),
            Judgement::WrongCredentials => candidates.wrong.push(trunk),
            Judgement::OtherListener
            | Judgement::OtherTransport
            | Judgement::NoCertificate
            | Judgement::NoName
            | Judgement::NoHeader(_) => {}
        }
        if candidates.judged.len() < TRUNKS_NOTED_MAX {
            candidates.judged.push((trunk, judgement));
        }
    }
    candidates
}

/// True when a message from `source` can belong to a trunk at all. Cheap enough to be asked of every
/// datagram before it is parsed.
#[must_use]
pub fn knows_source(
    table: &RoutingTable,
    listener: &ListenerName,
    source: IpAddr,
    transport: Transport,
) -> bool {
    table.any_trunk_from(source, |trunk| trunk.listens(listener, transport))
}

/// True when somebody at `source` must prove more than that address, so that an INVITE from there proves nothing
/// yet: who sent it may have forged it.
#[must_use]
pub fn wants_proof(
    table: &RoutingTable,
    listener: &ListenerName,
    source: IpAddr,
    transport: Transport,
) -> bool {
    // Asked for each message; on most nodes no trunk does.
    table.wants_proof()
        && table.any_trunk_from(source, |trunk| {
            trunk.wants_proof() && trunk.listens(listener, transport)
        })
}

#[derive(Clone, Copy)]
enum Judgement<'t> {
    Open,
    Authenticated(&'t str),
    Pending,
    WrongCredentials,
    OtherListener,
    OtherTransport,
    NoCertificate,
    NoName,
    NoHeader(&'t str),
}

impl fmt::Display for Judgement<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open => f.write_str("matches"),
            Self::Authenticated(username) => write!(f, "matches, authenticated as `{username}`"),
            Self::Pending => f.write_str("matches, must authenticate"),
            Self::WrongCredentials => f.write_str("wrong credentials"),
            Self::OtherListener => f.write_str("is of another listener"),
            Self::OtherTransport => f.write_str("does not take this transport"),
            Self::NoCertificate => f.write_str("a certificate is wanted, and none was shown"),
            Self::NoName => f.write_str("the certificate proves none of its names"),
            Self::NoHeader(name) => write!(f, "header {name} is missing or wrong"),
        }
    }
}

fn judge<'t>(trunk: &'t Trunk, attempt: &Attempt<'_>) -> Judgement<'t> {
    if trunk.listener.as_ref().is_some_and(|own| own != attempt.listener) {
        return Judgement::OtherListener;
    }
    if !trunk.transports.contains(&attempt.transport) {
        return Judgement::OtherTransport;
    }
    if !trunk.peer_names.is_empty() && !proves(trunk, attempt.certificate) {
        return match attempt.certificate {
            Some(_) => Judgement::NoName,
            None => Judgement::NoCertificate,
        };
    }
    for (name, value) in &trunk.required_headers {
        let given = attempt.first(name).unwrap_or_default();
        if !equal_in_constant_time(given, value.expose().as_bytes()) {
            return Judgement::NoHeader(name);
        }
    }
    let Some(account) = &trunk.digest else { return Judgement::Open };
    match (attempt.proof)(account) {
        Proof::Valid => Judgement::Authenticated(&account.username),
        Proof::Absent => Judgement::Pending,
        Proof::Wrong => Judgement::WrongCredentials,
    }
}

/// True when the certificate of the peer proves one of the names the trunk asks for. A wildcard proves
/// none: a carrier's own certificate names it.
fn proves(trunk: &Trunk, certificate: Option<&CertificateNames>) -> bool {
    let proven = |name: &String| certificate.is_some_and(|own| own.prove(name, false));
    trunk.peer_names.iter().any(proven)
}

/// Compares without telling by its time where the difference is. The length is no secret.
fn equal_in_constant_time(given: &[u8], secret: &[u8]) -> bool {
    if given.len() != secret.len() || secret.is_empty() {
        return false;
    }
    let difference = given.iter().zip(secret).fold(0, |sum, (a, b)| black_box(sum | (a ^ b)));
    difference == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trunk_may_ask_for_a_name_that_only_a_certificate_proves() {
        let id = crate::types::id::TrunkId::from_uuid(uuid::Uuid::from_u128(1));
        let mut trunk = Trunk::new(id, "t", Vec::new());
        trunk.peer_names = vec!["sbc.carrier.example".to_owned()];
        let names = |name: &'static str| CertificateNames::of([].into_iter(), [name].into_iter());
        let (right, wrong) = (names("sbc.carrier.example"), names("sbc.other.example"));
        assert!(proves(&trunk, Some(&right)));
        assert!(!proves(&trunk, Some(&wrong)) && !proves(&trunk, None));
        assert!(!proves(&trunk, Some(&names("*.carrier.example"))));
    }

    #[test]
    fn an_empty_secret_equals_nothing() {
        assert!(equal_in_constant_time(b"token", b"token"));
        assert!(!equal_in_constant_time(b"tokeN", b"token"));
        assert!(!equal_in_constant_time(b"", b""));
        assert!(!equal_in_constant_time(b"token2", b"token"));
    }
}
