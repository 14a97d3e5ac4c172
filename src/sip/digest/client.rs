//! Answers challenges: 401 and 407, the strongest known algorithm first (RFC 7616, RFC 8760).

use crate::sip::digest::Algorithm;
use crate::sip::digest::Identity;
use crate::sip::digest::Inputs;
use crate::sip::digest::Quality;
use crate::sip::digest::escape;
use crate::sip::digest::fields::Fields;
use crate::sip::digest::hex;
use crate::sip::digest::response;
use crate::sip::message::headers::Headers;
use crate::sip::message::method::Method;
use crate::sip::message::name::HeaderName;
use crate::types::limit::SIP_REALMS_MAX;
use crate::types::random::Random;
use crate::types::secret::Secret;
use std::sync::Arc;

/// A user as one who challenges knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// The user name, which need not be the user of any URI.
    pub username: String,
    /// The password.
    pub password: Secret<String>,
    /// The realm it is for, with case; `None`: every realm.
    pub realm: Option<String>,
    /// The algorithms it may be used with; empty: every one we know.
    pub algorithms: Vec<Algorithm>,
}

impl Account {
    /// An account for every realm and algorithm.
    #[must_use]
    pub fn new(username: &str, password: Secret<String>) -> Self {
        Self { username: username.to_owned(), password, realm: None, algorithms: Vec::new() }
    }

    fn fits(&self, session: &Session) -> bool {
        let realm = self.realm.as_ref();
        realm.is_none_or(|realm| escape(realm) == session.realm)
            && (self.algorithms.is_empty() || self.algorithms.contains(&session.algorithm))
    }
}

/// Answers the challenges of one dialog or registration.
#[derive(Clone, Debug)]
pub struct Client {
    accounts: Arc<[Account]>,
    random: Random,
    /// What was asked for last by each header and realm, the oldest first.
    sessions: Vec<Session>,
    /// How often the request in hand was sent with credentials.
    tries: usize,
    /// The request in hand was already repeated because of `stale`.
    has_renewed: bool,
}

/// A challenge being answered.
#[derive(Clone, Debug)]
struct Session {
    header: HeaderName,
    algorithm: Algorithm,
    realm: Vec<u8>,
    nonce: Vec<u8>,
    opaque: Option<Vec<u8>>,
    has_quality: bool,
    is_stale: bool,
    /// Which account answers it.
    account: usize,
    /// How many requests were sent with this nonce.
    count: u32,
}

/// A challenge is not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAnswered {
    /// There is no Digest challenge, or none with an algorithm and qop we know.
    #[error("no challenge we can answer")]
    Unsupported,
    /// The credentials were already sent and refused.
    #[error("credentials were refused")]
    Refused,
}

/// A header to send.
pub type Credentials = (HeaderName, Vec<u8>);

impl Client {
    /// A client with one account or, for several realms, more; `seed` makes its cnonces.
    #[must_use]
    pub fn new(accounts: impl Into<Arc<[Account]>>, seed: u64) -> Self {
        let (accounts, random) = (accounts.into(), Random::from_seed(seed));
        Self { accounts, random, sessions: Vec::new(), tries: 0, has_renewed: false }
    }

    /// Answers the challenges in a 401 or 407 to a request with this method and Request-URI: the
    /// headers to put into the repeated request. Once for a request, once more when only the nonce was
    /// stale, and once for each further realm, up to [`SIP_REALMS_MAX`] times in all.
    ///
    /// # Errors
    /// When no challenge can be answered, or the credentials were already refused.
    pub fn answer(
        &mut self,
        challenged: &Headers,
        method: &Method,
        uri: &[u8],
    ) -> Result<Vec<Credentials>, NotAnswered> {
        let mut found = self.strongest(challenged);
        if found.is_empty() {
            return Err(NotAnswered::Unsupported);
        }
        for next in &mut found {
            // RFC 7616 §3.4: each count of a nonce is used once, whoever repeats the nonce.
            let same = |old: &&Session| old.is_of(next) && old.nonce == next.nonce;
            next.count = self.sessions.iter().find(same).map_or(0, |old| old.count);
        }
        // A challenge from one who has not seen our answer yet is no refusal: a proxy behind another.
        let is_new = |session: &Session| !self.sessions.iter().any(|old| old.is_of(session));
        if self.tries > 0 && !found.iter().any(is_new) {
            if self.has_renewed || !found.iter().any(|session| session.is_stale) {
                return Err(NotAnswered::Refused);
            }
            self.has_renewed = true;
        }
        if self.tries >= SIP_REALMS_MAX {
            return Err(NotAnswered::Refused);
        }
        self.tries += 1;
        self.sessions.retain(|old| !found.iter().any(|new| new.is_of(old)));
        self.sessions.extend(found);
        let surplus = self.sessions.len().saturating_sub(SIP_REALMS_MAX);
        self.sessions.drain(..surplus);
        Ok(self.credentials(method, uri))
    }

    /// Of the challenges we can answer the strongest of each header and realm (RFC 8760 §2.4).
    fn strongest(&self, challenged: &Headers) -> Vec<Session> {
        let mut found: Vec<Session> = Vec::new();
        for (challenge, credentials) in [
            (HeaderName::WwwAuthenticate, HeaderName::Authorization),
            (HeaderName::ProxyAuthenticate, HeaderName::ProxyAuthorization),
        ] {
            for value in challenged.table().lines(challenge) {
                let Some(mut next) = Session::read(credentials, value) else { continue };
                let Some(account) = self.accounts.iter().position(|it| it.fits(&next)) else {
                    continue;
                };
                next.account = account;
                if let Some(best) = found.iter_mut().find(|best| best.is_of(&next)) {
                    // Of equals the first.
                    if next.algorithm > best.algorithm {
                        *best = next;
                    }
                } else if found.len() < SIP_REALMS_MAX {
                    found.push(next);
                }
            }
        }
        found
    }

    /// The credentials for a further request under the nonces in use, `nc` one higher; empty before
    /// the first challenge. Not for ACK or CANCEL, which are never challenged; an ACK for 2xx repeats
    /// the headers of its INVITE (RFC 3261 §22.1).
    pub fn authorize(&mut self, method: &Method, uri: &[u8]) -> Vec<Credentials> {
        self.tries = 0;
        self.has_renewed = false;
        self.credentials(method, uri)
    }

    /// Takes a new nonce from Authentication-Info, for the next request (RFC 7616 §3.5).
    pub fn accept(&mut self, answered: &Headers) {
        let value = answered.first(HeaderName::AuthenticationInfo).unwrap_or(&[]);
        // Authentication-Info has no scheme in front.
        let value = [b"Digest ", value].concat();
        let next = Fields::parse(&value).ok().and_then(|fields| fields.get("nextnonce"));
        let next = next.filter(|nonce| can_be_quoted(nonce));
        let session =
            self.sessions.iter_mut().find(|session| session.header == HeaderName::Authorization);
        if let (Some(nonce), Some(session)) = (next, session) {
            session.nonce = nonce.to_vec();
            session.count = 0;
        }
    }

    fn credentials(&mut self, method: &Method, uri: &[u8]) -> Vec<Credentials> {
        let (accounts, random) = (&self.accounts, &mut self.random);
        self.sessions
            .iter_mut()
            .filter_map(|session| {
                let account = accounts.get(session.account)?;
                let username = &escape(&account.username);
                let (realm, password) = (&session.realm.clone(), &account.password);
                let identity = Identity { username, realm, password };
                let mut cnonce = [0; 16];
                random.fill(&mut cnonce);
                let value = session.value(&identity, &hex(&cnonce), (method.as_bytes(), uri));
                Some((session.header, value))
            })
            .collect()
    }
}

/// Whether a text of theirs, with its escapes as they wrote them, may stand between quotes of ours
/// (RFC 3261 §25.1): a bare quote would end them, and nobody reads a control character.
fn can_be_quoted(text: &[u8]) -> bool {
    let mut bytes = text.iter();
    while let Some(byte) = bytes.next() {
        let is_escape = *byte == b'\\';
        if *byte == b'"' || byte.is_ascii_control() || (is_escape && bytes.next().is_none()) {
            return false;
        }
    }
    true
}

impl Session {
    /// True when both are of one who challenges.
    fn is_of(&self, other: &Self) -> bool {
        self.header == other.header && self.realm == other.realm
    }

    /// Reads a challenge; `None` when it is not ours to answer.
    fn read(header: HeaderName, value: &[u8]) -> Option<Self> {
        let fields = Fields::parse(value).ok()?;
        let algorithm =
            fields.get("algorithm").map_or(Some(Algorithm::Md5), Algorithm::from_bytes)?;
        let qualities = fields.get("qop");
        let has_auth = |list: &[u8]| {
            list.split(|&byte| byte == b',')
                .any(|one| one.trim_ascii().eq_ignore_ascii_case(b"auth"))
        };
        // auth-int alone is refused: it hashes bodies, which proxies change.
        if qualities.is_some_and(|list| !has_auth(list)) {
            return None;
        }
        Some(Self {
            header,
            algorithm,
            realm: fields.get("realm").filter(|realm| can_be_quoted(realm))?.to_vec(),
            nonce: fields.get("nonce").filter(|nonce| can_be_quoted(nonce))?.to_vec(),
            opaque: fields.get("opaque").filter(|text| can_be_quoted(text)).map(<[u8]>::to_vec),
            has_quality: qualities.is_some(),
            is_stale: fields.get("stale").is_some_and(|stale| stale.eq_ignore_ascii_case(b"true")),
            account: 0,
            count: 0,
        })
    }

    fn value(
        &mut self,
        identity: &Identity<'_>,
        cnonce: &str,
        (method, uri): (&[u8], &[u8]),
    ) -> Vec<u8> {
        self.count = self.count.saturating_add(1);
        let count = format!("{:08x}", self.count);
        let quality = Quality { count: count.as_bytes(), cnonce: cnonce.as_bytes() };
        // A session key needs a cnonce even where the challenge has no qop.
        let quality = (self.has_quality || self.algorithm.is_session()).then_some(quality);
        let inputs = Inputs { algorithm: self.algorithm, nonce: &self.nonce, method, uri, quality };
        let response = response(identity, &inputs);
        let mut value = b"Digest ".to_vec();
        let mut quoted = |name: &str, text: &[u8]| {
            value.extend_from_slice(name.as_bytes());
            value.extend_from_slice(b"=\"");
            value.extend_from_slice(text);
            value.extend_from_slice(b"\", ");
        };
        quoted("username", identity.username);
        quoted("realm", &self.realm);
        quoted("nonce", &self.nonce);
        quoted("uri", uri);
        quoted("response", response.as_bytes());
        if let Some(opaque) = &self.opaque {
            quoted("opaque", opaque);
        }
        if quality.is_some() {
            quoted("cnonce", cnonce.as_bytes());
            value.extend_from_slice(format!("qop=auth, nc={count}, ").as_bytes());
        }
        value.extend_from_slice(format!("algorithm={}", self.algorithm.as_str()).as_bytes());
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sip::message::Message;
    use crate::sip::message::parse;

    const URI: &[u8] = b"sip:bob@example.com";

    fn client() -> Client {
        Client::new(vec![Account::new("alice", Secret::new("wonder".to_owned()))], 7)
    }

    fn challenged(lines: &[&str]) -> Headers {
        let lines: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
        let text = format!(
            "SIP/2.0 401 Unauthorized\r\nVia: SIP/2.0/UDP h\r\nFrom: <sip:a@b>;tag=1\r\n\
            To: <sip:c@d>;tag=2\r\nCall-ID: x\r\nCSeq: 1 INVITE\r\n{lines}\r\n"
        );
        match parse(text.into()) {
            Ok(Message::Response(response)) => response.headers,
            other => panic!("{other:?}"),
        }
    }

    fn answer(
        client: &mut Client,
        lines: &[&str],
    ) -> Result<Vec<(HeaderName, String)>, NotAnswered> {
        let headers = challenged(lines);
        let found = client.answer(&headers, &Method::Invite, URI)?;
        let text = |value: Vec<u8>| String::from_utf8(value).unwrap();
        Ok(found.into_iter().map(|(name, value)| (name, text(value))).collect())
    }

    #[test]
    fn a_nonce_that_is_asked_for_again_is_counted_on() {
        let mut client = client();
        let challenge = [r#"WWW-Authenticate: Digest realm="r", nonce="n", qop="auth""#];
        assert!(answer(&mut client, &challenge).unwrap()[0].1.contains("nc=00000001"));
        client.authorize(&Method::Bye, URI);
        let again = answer(&mut client, &challenge).unwrap();
        assert!(again[0].1.contains("nc=00000003"), "{again:?}");
        let other = [r#"WWW-Authenticate: Digest realm="r", nonce="m", qop="auth""#];
        client.authorize(&Method::Bye, URI);
        assert!(answer(&mut client, &other).unwrap()[0].1.contains("nc=00000001"));
    }

    #[test]
    fn the_strongest_of_several_challenges_is_answered() {
        let found = answer(
            &mut client(),
            &[
                r#"WWW-Authenticate: Basic realm="x""#,
                r#"WWW-Authenticate: Digest realm="r", nonce="m", qop="auth", algorithm=MD5"#,
                r#"WWW-Authenticate: Digest realm="r", nonce="s", qop="auth", algorithm=SHA-256"#,
                r#"WWW-Authenticate: Digest realm="r", nonce="z", qop="auth", algorithm=SHA-3"#,
            ],
        )
        .unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].0, HeaderName::Authorization);
        assert!(found[0].1.contains(r#"nonce="s""#) && found[0].1.ends_with("algorithm=SHA-256"));
    }

    #[test]
    fn www_and_proxy_challenges_are_answered_together() {
        let found = answer(
            &mut client(),
            &[
                r#"WWW-Authenticate: Digest realm="r", nonce="a", qop="auth""#,
                r#"Proxy-Authenticate: Digest realm="p", nonce="b", opaque="o", qop="auth-int,auth""#,
            ],
        )
        .unwrap();
        let names: Vec<_> = found.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, [HeaderName::Authorization, HeaderName::ProxyAuthorization]);
        assert!(
            found[1].1.contains(r#"opaque="o""#) && found[1].1.contains("qop=auth, nc=00000001")
        );
    }

    #[test]
    fn a_challenge_without_qop_is_answered_without_nc() {
        let found =
            answer(&mut client(), &[r#"WWW-Authenticate: Digest realm="r", nonce="a""#]).unwrap();
        assert!(!found[0].1.contains("nc=") && !found[0].1.contains("cnonce"));
        let ha1 = Algorithm::Md5.hash(&[b"alice", b"r", b"wonder"]);
        let ha2 = Algorithm::Md5.hash(&[b"INVITE", URI]);
        let expected = Algorithm::Md5.hash(&[ha1.as_bytes(), b"a", ha2.as_bytes()]);
        assert!(found[0].1.contains(&format!("response=\"{expected}\"")));
    }

    #[test]
    fn a_second_challenge_ends_the_attempt_unless_it_is_stale() {
        let fresh =
            |nonce| format!(r#"WWW-Authenticate: Digest realm="r", nonce="{nonce}", qop="auth""#);
        let stale = |nonce| format!("{}, stale=TRUE", fresh(nonce));
        let mut client = client();
        assert!(answer(&mut client, &[&fresh("1")]).is_ok());
        assert_eq!(answer(&mut client, &[&fresh("2")]).err(), Some(NotAnswered::Refused));
        assert!(answer(&mut client, &[&stale("3")]).is_ok());
        assert_eq!(answer(&mut client, &[&stale("4")]).err(), Some(NotAnswered::Refused));
        let next = client.authorize(&Method::Bye, URI);
        assert!(String::from_utf8_lossy(&next[0].1).contains(r#"nonce="3""#));
        assert!(answer(&mut client, &[&fresh("5")]).is_ok(), "a new request, a new attempt");
    }

    #[test]
    fn a_proxy_behind_a_proxy_is_answered_too() {
        let mut client = client();
        let first = r#"Proxy-Authenticate: Digest realm="outer", nonce="1", qop="auth""#;
        let second = r#"WWW-Authenticate: Digest realm="inner", nonce="2", qop="auth""#;
        assert_eq!(answer(&mut client, &[first]).map(|found| found.len()), Ok(1));
        assert_eq!(answer(&mut client, &[second]).map(|found| found.len()), Ok(2));
        assert_eq!(answer(&mut client, &[second]).err(), Some(NotAnswered::Refused));
    }

    #[test]
    fn two_proxies_in_one_answer_are_both_answered_each_with_its_account() {
        let account = |username, realm: &str| Account {
            realm: Some(realm.to_owned()),
            ..Account::new(username, Secret::new("p".to_owned()))
        };
        let accounts = vec![account("a", "one"), account("b", "two")];
        let mut client = Client::new(accounts, 7);
        let lines = [
            r#"Proxy-Authenticate: Digest realm="one", nonce="1", qop="auth""#,
            r#"Proxy-Authenticate: Digest realm="two", nonce="2", qop="auth""#,
            r#"Proxy-Authenticate: Digest realm="two", nonce="3", qop="auth", algorithm=SHA-256"#,
            r#"Proxy-Authenticate: Digest realm="three", nonce="4", qop="auth""#,
        ];
        let found = answer(&mut client, &lines).unwrap();
        assert_eq!(found.len(), 2);
        assert!(found[0].1.contains(r#"username="a", realm="one""#), "{}", found[0].1);
        assert!(found[1].1.contains(r#"username="b", realm="two", nonce="3""#), "{}", found[1].1);
    }

    #[test]
    fn an_account_is_used_with_its_algorithms_only() {
        let account = Account {
            algorithms: vec![Algorithm::Md5],
            ..Account::new("alice", Secret::new("p".to_owned()))
        };
        let mut client = Client::new(vec![account], 7);
        let strong = r#"WWW-Authenticate: Digest realm="r", nonce="s", algorithm=SHA-256"#;
        assert_eq!(answer(&mut client, &[strong]).err(), Some(NotAnswered::Unsupported));
        let weak = r#"WWW-Authenticate: Digest realm="r", nonce="m", algorithm=MD5"#;
        assert!(answer(&mut client, &[strong, weak]).unwrap()[0].1.contains(r#"nonce="m""#));
    }

    #[test]
    fn a_peer_with_ever_new_realms_is_answered_a_few_times_only() {
        let mut client = client();
        let line = |n| format!(r#"WWW-Authenticate: Digest realm="r{n}", nonce="{n}""#);
        for number in 0..SIP_REALMS_MAX {
            assert!(answer(&mut client, &[&line(number)]).is_ok());
        }
        assert_eq!(answer(&mut client, &[&line(99)]).err(), Some(NotAnswered::Refused));
        client.authorize(&Method::Bye, URI);
        assert_eq!(answer(&mut client, &[&line(99)]).map(|found| found.len()), Ok(SIP_REALMS_MAX));
    }

    #[test]
    fn auth_int_alone_and_unknown_schemes_are_not_answered() {
        for line in [
            r#"WWW-Authenticate: Digest realm="r", nonce="a", qop="auth-int""#,
            r#"WWW-Authenticate: Bearer realm="r""#,
            r#"WWW-Authenticate: Digest realm="r""#,
            "Server: x",
        ] {
            assert_eq!(
                answer(&mut client(), &[line]).err(),
                Some(NotAnswered::Unsupported),
                "{line}"
            );
        }
    }

    #[test]
    fn nc_counts_and_nextnonce_starts_it_again() {
        let mut client = client();
        assert!(client.authorize(&Method::Invite, URI).is_empty());
        let line = r#"WWW-Authenticate: Digest realm="r", nonce="a", qop="auth""#;
        answer(&mut client, &[line]).unwrap();
        let next = |client: &mut Client| {
            let found = client.authorize(&Method::Bye, URI);
            String::from_utf8(found[0].1.clone()).unwrap()
        };
        assert!(next(&mut client).contains("nc=00000002"));
        assert!(next(&mut client).contains("nc=00000003"));
        client.accept(&challenged(&[r#"Authentication-Info: nextnonce="b", qop=auth"#]));
        let value = next(&mut client);
        assert!(value.contains(r#"nonce="b""#) && value.contains("nc=00000001"), "{value}");
    }
}
