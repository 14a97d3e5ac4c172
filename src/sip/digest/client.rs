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
use crate::types::random::Random;
use crate::types::secret::Secret;

/// Answers the challenges of one dialog or registration.
#[derive(Clone, Debug)]
pub struct Client {
    username: Vec<u8>,
    password: Secret<String>,
    random: Random,
    /// What the last response asked for; WWW and Proxy stand beside each other.
    sessions: Vec<Session>,
    /// The request in hand was already sent with credentials.
    has_tried: bool,
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
    /// A client with a user's credentials; `seed` makes its cnonces.
    #[must_use]
    pub fn new(username: &str, password: Secret<String>, seed: u64) -> Self {
        Self {
            username: escape(username),
            password,
            random: Random::from_seed(seed),
            sessions: Vec::new(),
            has_tried: false,
            has_renewed: false,
        }
    }

    /// Answers the challenges in a 401 or 407 to a request with this method and Request-URI: the
    /// headers to put into the repeated request. Once for a request, and once more when only the
    /// nonce was stale.
    ///
    /// # Errors
    /// When no challenge can be answered, or the credentials were already refused.
    pub fn answer(
        &mut self,
        challenged: &Headers,
        method: &Method,
        uri: &[u8],
    ) -> Result<Vec<Credentials>, NotAnswered> {
        let strongest = |challenge, credentials| {
            let readable = challenged
                .table()
                .lines(challenge)
                .filter_map(|value| Session::read(credentials, value));
            // Of equals the first: max_by_key would take the last.
            readable.reduce(|best, next| if next.algorithm > best.algorithm { next } else { best })
        };
        let found: Vec<Session> = [
            strongest(HeaderName::WwwAuthenticate, HeaderName::Authorization),
            strongest(HeaderName::ProxyAuthenticate, HeaderName::ProxyAuthorization),
        ]
        .into_iter()
        .flatten()
        .collect();
        if found.is_empty() {
            return Err(NotAnswered::Unsupported);
        }
        // A challenge from one who has not seen our answer yet is no refusal: a proxy behind another.
        let is_new = |session: &Session| {
            !self
                .sessions
                .iter()
                .any(|old| old.header == session.header && old.realm == session.realm)
        };
        if self.has_tried && !found.iter().any(is_new) {
            if self.has_renewed || !found.iter().any(|session| session.is_stale) {
                return Err(NotAnswered::Refused);
            }
            self.has_renewed = true;
        }
        self.has_tried = true;
        self.sessions.retain(|old| !found.iter().any(|new| new.header == old.header));
        self.sessions.extend(found);
        Ok(self.credentials(method, uri))
    }

    /// The credentials for a further request under the nonces in use, `nc` one higher; empty before
    /// the first challenge. Not for ACK or CANCEL, which are never challenged; an ACK for 2xx repeats
    /// the headers of its INVITE (RFC 3261 §22.1).
    pub fn authorize(&mut self, method: &Method, uri: &[u8]) -> Vec<Credentials> {
        self.has_tried = false;
        self.has_renewed = false;
        self.credentials(method, uri)
    }

    /// Takes a new nonce from Authentication-Info, for the next request (RFC 7616 §3.5).
    pub fn accept(&mut self, answered: &Headers) {
        let value = answered.first(HeaderName::AuthenticationInfo).unwrap_or(&[]);
        // Authentication-Info has no scheme in front.
        let value = [b"Digest ", value].concat();
        let next = Fields::parse(&value).ok().and_then(|fields| fields.get("nextnonce"));
        let session =
            self.sessions.iter_mut().find(|session| session.header == HeaderName::Authorization);
        if let (Some(nonce), Some(session)) = (next, session) {
            session.nonce = nonce.to_vec();
            session.count = 0;
        }
    }

    fn credentials(&mut self, method: &Method, uri: &[u8]) -> Vec<Credentials> {
        let (username, password) = (&self.username, &self.password);
        let random = &mut self.random;
        self.sessions
            .iter_mut()
            .map(|session| {
                let identity = Identity { username, realm: &session.realm.clone(), password };
                let mut cnonce = [0; 16];
                random.fill(&mut cnonce);
                let value = session.value(&identity, &hex(&cnonce), (method.as_bytes(), uri));
                (session.header, value)
            })
            .collect()
    }
}

impl Session {
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
            realm: fields.get("realm")?.to_vec(),
            nonce: fields.get("nonce")?.to_vec(),
            opaque: fields.get("opaque").map(<[u8]>::to_vec),
            has_quality: qualities.is_some(),
            is_stale: fields.get("stale").is_some_and(|stale| stale.eq_ignore_ascii_case(b"true")),
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
        Client::new("alice", Secret::new("wonder".to_owned()), 7)
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
