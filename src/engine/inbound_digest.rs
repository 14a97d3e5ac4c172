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

/// What the credentials of a request are worth for an account; those for other realms are for others along
/// its way (RFC 3261 §22.3). `stale` is set where they are right but for their nonce.
pub(crate) fn proof(
    server: &mut Server,
    (now, source): (Moment, IpAddr),
    request: &Request,
    (account, stale): (&DigestAccount, &Cell<bool>),
) -> Proof {
    let lines = || request.headers.table().lines(HeaderName::Authorization);
    let ours = lines().find(|value| server::is_for(value, &account.realm));
    // What cannot be read may have been meant for us.
    let unreadable = || lines().find(|value| server::claimed(value).is_none());
    let Some(value) = ours.or_else(unreadable) else { return Proof::Absent };
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
        is_passed_on: false,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sip::digest::client;
    use crate::sip::message::Message;
    use crate::sip::message::method::Method;
    use crate::sip::message::parse;
    use crate::types::secret::Secret;
    use bytes::Bytes;
    use std::net::Ipv4Addr;

    const FROM: (Moment, IpAddr) = (Moment::START, IpAddr::V4(Ipv4Addr::LOCALHOST));
    const URI: &str = "sip:x@h";

    /// A message with these lines; `first` is its first one.
    fn message(first: &str, lines: &str) -> Message {
        let text = format!(
            "{first}\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\nMax-Forwards: 70\r\n\
             From: <sip:a@h>;tag=a\r\nTo: <sip:x@h>\r\nCall-ID: c\r\nCSeq: 1 INVITE\r\n\
             {lines}Content-Length: 0\r\n\r\n"
        );
        parse(Bytes::from(text)).expect("a message")
    }

    /// What a request with these lines is worth.
    fn worth(server: &mut Server, account: &DigestAccount, lines: &str) -> Proof {
        match message(&format!("INVITE {URI} SIP/2.0"), lines) {
            Message::Request(request) => {
                proof(server, FROM, &request, (account, &Cell::new(false)))
            }
            Message::Response(_) => panic!("a request"),
        }
    }

    #[test]
    fn of_credentials_for_several_realms_ours_count_wherever_they_stand() {
        let mut server = Server::new([7; 32]);
        let account = DigestAccount {
            username: "user".to_owned(),
            password: Secret::new("secret".to_owned()),
            realm: "ours \"1\"".to_owned(),
            algorithms: vec![DigestAlgorithm::Sha256],
        };
        let asked = challenge(&mut server, FROM, (&account, false));
        let ours = asked
            .headers
            .iter()
            .map(|(name, value)| format!("{name}: {}\r\n", String::from_utf8_lossy(value)));
        let theirs = "WWW-Authenticate: Digest realm=\"theirs\", nonce=\"n\", qop=\"auth\"\r\n";
        let lines = theirs.to_owned() + &ours.collect::<String>();
        let Message::Response(challenged) = message("SIP/2.0 401 x", &lines) else {
            panic!("a response")
        };
        let own = client::Account::new("user", Secret::new("secret".to_owned()));
        let mut client = client::Client::new(vec![own], 1);
        let answer = client.answer(&challenged.headers, &Method::Invite, URI.as_bytes());
        let lines: Vec<String> = answer
            .expect("both are answered")
            .into_iter()
            .map(|(_, value)| format!("Authorization: {}\r\n", String::from_utf8_lossy(&value)))
            .collect();
        let [theirs, ours] = lines.as_slice() else { panic!("{lines:?}") };
        assert!(theirs.contains("theirs") && ours.contains("ours"), "{lines:?}");
        assert_eq!(worth(&mut server, &account, theirs), Proof::Absent);
        assert_eq!(worth(&mut server, &account, &format!("{theirs}{ours}")), Proof::Valid);
        let wrong = ours.replace("response=\"", "response=\"0");
        assert_eq!(worth(&mut server, &account, &format!("{theirs}{wrong}")), Proof::Wrong);
        assert_eq!(worth(&mut server, &account, "Authorization: Bearer x\r\n"), Proof::Wrong);
    }
}
