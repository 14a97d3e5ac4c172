//! Digest of callers whose trunk wants it: what their credentials are worth, and what asks for them.

use crate::routing::identify::Proof;
use crate::routing::trunk::DigestAccount;
use crate::routing::trunk::DigestAlgorithm;
use crate::sip::digest::Algorithm;
use crate::sip::digest::server;
use crate::sip::digest::server::Server;
use crate::sip::endpoint::event::Refusal;
use crate::sip::message::Request;
use crate::sip::message::name::HeaderName;
use crate::types::cause::HangupCause;
use crate::types::moment::Moment;
use std::cell::Cell;
use std::net::IpAddr;

/// The status of a challenge (RFC 3261 §21.4.2).
pub(crate) const UNAUTHORIZED: u16 = 401;

/// What the credentials of a request are worth for an account. `stale` is set where they are right but for
/// their nonce.
pub(crate) fn proof(
    server: &mut Server,
    (now, source): (Moment, IpAddr),
    request: &Request,
    (account, stale): (&DigestAccount, &Cell<bool>),
) -> Proof {
    let Some(value) = request.headers.first(HeaderName::Authorization) else {
        return Proof::Absent;
    };
    let algorithms = algorithms(account);
    let known = server::Account {
        username: &account.username,
        password: &account.password,
        realm: &account.realm,
        algorithms: &algorithms,
    };
    let presented = server::Presented { method: &request.method, value };
    match server.verify(now, source, &presented, Some(&known)) {
        server::Verdict::Ok => Proof::Valid,
        server::Verdict::Stale => {
            stale.set(true);
            Proof::Absent
        }
        server::Verdict::Wrong | server::Verdict::Malformed => Proof::Wrong,
    }
}

/// The refusal that asks for credentials.
pub(crate) fn challenge(
    server: &mut Server,
    (now, source): (Moment, IpAddr),
    (account, stale): (&DigestAccount, bool),
) -> Refusal {
    let algorithms = algorithms(account);
    let values = if stale {
        server.stale_challenges(now, source, &account.realm, &algorithms)
    } else {
        server.challenges(now, source, &account.realm, &algorithms)
    };
    Refusal {
        status: UNAUTHORIZED,
        cause: HangupCause::CredentialsRequired,
        retry_after_s: None,
        headers: values.into_iter().map(|value| ("WWW-Authenticate".into(), value)).collect(),
    }
}

fn algorithms(account: &DigestAccount) -> Vec<Algorithm> {
    account.algorithms.iter().map(|own| algorithm(*own)).collect()
}

/// A trunk's algorithm as digests know it.
pub(crate) const fn algorithm(own: DigestAlgorithm) -> Algorithm {
    match own {
        DigestAlgorithm::Md5 => Algorithm::Md5,
        DigestAlgorithm::Sha256 => Algorithm::Sha256,
        DigestAlgorithm::Sha512_256 => Algorithm::Sha512_256,
    }
}
